//! `forebay bench` on the real binary: each bench once, tiny, and what it refuses.
//!
//! No number is judged here: a busy machine may be as slow as it likes. What is held is that every figure that scripts
//! rely on is there, that what must hold at any speed holds, and that nothing stays behind.

mod command;

use std::path::Path;
use std::process::{Command, Stdio};

use command::{Place, append, code, run, the_error as error};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What makes a run tiny.
const SMALL: [&str; 8] =
    ["--repeats", "1", "--payload", "100", "--queue-bytes", "2MiB", "--disk-bytes", "8MiB"];

fn bench(place: &Place, arguments: &[&str]) -> Value {
    let dir = place.dir();
    let output = run(&[&["bench"], arguments, &["--dir", &dir, "--output", "json"]].concat(), b"");
    assert_eq!(code(&output), 0, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&dir).exists(), "{arguments:?} leaves something behind");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn small(place: &Place, arguments: &[&str]) -> Value {
    bench(place, &[arguments, &SMALL].concat())
}

fn has(report: &Value, names: &[&str]) {
    for name in names {
        assert!(report[name].is_number(), "no {name} in {report}");
    }
}

#[test]
fn append_has_what_scripts_rely_on() {
    let place = Place::new();
    let report = small(&place, &["append", "--records", "20000"]);
    let names =
        ["records_per_second", "cpu_ns_per_record", "raw_limit_bytes_per_second", "ratio_to_raw_limit"];
    has(&report, &names);
    // Where the kernel keeps no account of bytes it is left out; here it does.
    has(&report, &["write_amplification", "peak_memory_bytes", "acks_per_sync"]);
    assert!(report["write_amplification"].as_f64().unwrap() >= 1.0, "{report}");
    assert_eq!(report["warm"], true, "{report}");
    assert_eq!(report["options"]["records"], 20000);
}

#[test]
fn each_way_of_appending_runs() {
    let place = Place::new();
    let cold = small(&place, &["append", "--records", "20000", "--cold"]);
    assert_eq!(cold["warm"], false);
    let barrier = small(&place, &["append", "--records", "4000", "--barrier", "1000"]);
    assert_eq!(barrier["options"]["waits"], "barrier 1000");
    // A barrier is one sync at least, and no more records are acked by one.
    assert!(barrier["acks_per_sync"].as_f64().unwrap() <= 1000.0, "{barrier}");
    let each = small(&place, &["append", "--records", "200", "--await", "--producers", "4"]);
    has(&each, &["p50_ns", "p99_ns", "raw_p50_ns", "p50_ratio_to_raw"]);
    assert!(each["acks_per_sync"].as_f64().unwrap() <= 4.0, "{each}");
    let tasks = small(&place, &["append", "--records", "2000", "--tasks", "100"]);
    assert!(tasks["acks_per_sync"].as_f64().unwrap() <= 100.0, "{tasks}");
}

#[test]
fn a_lap_larger_than_the_disk_it_may_take_goes_round() {
    let report = small(&Place::new(), &["append", "--records", "400000"]);
    assert_eq!(report["warm"], true, "{report}");
    assert!(report["bytes_written"].as_f64().unwrap() > (40 << 20) as f64, "{report}");
}

#[test]
fn latency_tells_both_times() {
    let report = small(&Place::new(), &["latency", "--rate", "500", "--seconds", "0.2"]);
    has(&report, &["p50_ns", "p99_ns", "service_p50_ns", "service_p99_ns", "raw_p50_ns"]);
    let time = |name: &str| report[name].as_f64().unwrap();
    assert!(time("max_ns") >= time("service_max_ns"), "late is never less than slow: {report}");
}

#[test]
fn a_backlog_is_drained_whole() {
    let report = small(&Place::new(), &["drain", "--records", "20000", "--verify"]);
    has(&report, &["records_per_second", "raw_limit_bytes_per_second", "ratio_to_raw_limit"]);
    assert_eq!(report["verified"], true);
}

#[test]
fn an_outage_ends_with_everything_delivered() {
    let arguments = ["outage", "--rate", "2000", "--steady", "0.5", "--away", "1"];
    let report = small(&Place::new(), &arguments);
    has(&report, &["accepted_records_per_second", "cpu_ns_per_record"]);
    assert_eq!(report["missing_records"], 0, "{report}");
    assert!(report["spilled_records"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn opening_is_held_against_a_smaller_store() {
    let report = small(&Place::new(), &["open", "--backlog", "4MiB", "--small", "1MiB"]);
    has(&report, &["open_seconds", "small_open_seconds", "open_ratio_to_small", "peak_memory_bytes"]);
}

#[test]
fn the_device_alone_is_measured_in_every_cadence() {
    let place = Place::new();
    let size = ["--repeats", "1", "--bytes", "4MiB", "--file-bytes", "4MiB"];
    for cadence in ["pipelined", "barrier", "dsync", "once"] {
        let report = bench(&place, &[&["raw", "--copy", "--cadence", cadence], &size[..]].concat());
        has(&report, &["raw_limit_bytes_per_second", "copy_cpu_ns_per_record", "read_bytes_per_second"]);
    }
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let place = Place::new();
    let page = place.path().join("report.html");
    let _ = small(&place, &["append", "--records", "2000", "--report", page.to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("uPlot") && page.contains("ratio_to_raw_limit") && page.contains("Leon Sorokin"));
    for elsewhere in ["src=\"", "<link", "@import", "fetch("] {
        assert!(!page.contains(elsewhere), "the page needs {elsewhere}");
    }
}

#[test]
fn a_store_or_anything_else_is_refused_and_stays() {
    let place = Place::new();
    let dir = place.dir();
    append(&dir, &[], b"a record\n");
    for which in [&["append"][..], &["latency"], &["drain"], &["outage"], &["open"], &["raw"]] {
        let output = run(&[&["bench"], which, &["--dir", &dir]].concat(), b"");
        assert_eq!(code(&output), 2, "{which:?}");
        assert!(error(&output).contains("is a store"), "{which:?}: {}", error(&output));
    }
    let other = place.path().to_str().unwrap().to_owned();
    let output = run(&["bench", "append", "--dir", &other], b"");
    assert!(code(&output) == 2 && error(&output).contains("is not empty"));
    assert_eq!(command::read_raw(&dir), b"a record\n");
}

#[test]
fn what_has_no_room_or_no_sense_is_one_sentence() {
    let place = Place::new();
    let refused = |arguments: &[&str], expected: i32, word: &str| {
        let dir = place.dir();
        let output = run(&[&["bench"], arguments, &["--dir", &dir]].concat(), b"");
        assert_eq!(code(&output), expected, "{arguments:?}");
        assert!(error(&output).contains(word), "{arguments:?}: {}", error(&output));
        assert!(!Path::new(&dir).exists(), "{arguments:?}");
    };
    refused(&["append", "--disk-bytes", "1000000GiB", "--seconds", "1"], 75, "MiB free");
    refused(&["raw", "--file-bytes", "1000000GiB"], 75, "MiB free");
    refused(&["append", "--barrier", "0"], 2, "barrier");
    refused(&["append", "--records", "0"], 2, "record");
    refused(&["latency", "--rate", "0"], 2, "rate");
    refused(&["open", "--backlog", "1MiB", "--small", "1MiB"], 2, "larger");
    refused(&["raw", "--block-bytes", "1000"], 2, "4096");
}

#[test]
fn unequal_ones_are_not_compared_and_a_condition_is_an_exit_code() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (before, after, other) = (path("a.json"), path("b.json"), path("c.json"));
    let report = small(&place, &["append", "--records", "2000"]);
    let mut slower = report.clone();
    slower["cpu_ns_per_record"] = (report["cpu_ns_per_record"].as_f64().unwrap() * 2.0).into();
    let mut unequal = report.clone();
    unequal["options"]["payload_bytes"] = 1.into();
    for (path, document) in [(&before, report), (&after, slower), (&other, unequal)] {
        std::fs::write(path, document.to_string()).unwrap();
    }
    let compare =
        |b: &str, condition: &str| run(&["bench", "compare", &before, b, "--fail-if", condition], b"");
    assert_eq!(code(&compare(&after, "cpu_ns_per_record>+10%")), 1);
    assert_eq!(code(&compare(&after, "records_per_second<-10%")), 0);
    let refused = compare(&other, "cpu_ns_per_record>+10%");
    assert_eq!(code(&refused), 2);
    assert!(error(&refused).contains("payload_bytes"), "{}", error(&refused));
    assert_eq!(code(&compare(&after, "nonsense")), 2);
}

#[test]
fn an_interrupted_one_removes_what_it_made() {
    let place = Place::new();
    let dir = place.dir();
    let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["bench", "append", "--dir", &dir, "--repeats", "1000", "--records", "20000"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens before it makes anything.
    while !Path::new(&dir).join("raw").exists() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(output.stdout.is_empty() && !Path::new(&dir).exists());
}
