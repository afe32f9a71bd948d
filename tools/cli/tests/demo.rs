//! The demonstration, short, on the real binary: what it promises, and that it notices a loss.

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn demo(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("demo").args(arguments).arg("--dir").arg(dir).env_clear();
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The number behind a name in the table.
fn row(text: &str, name: &str) -> u64 {
    let row =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    row.split_whitespace().next().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn an_outage_is_told_from_its_spill_to_a_ledger_that_closes() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("demo");
    let output =
        demo(&dir, &["--seconds", "6", "--outage", "1s", "--rate", "5000", "--plain"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for event in ["QueueSpill (offline)", "BackfillStart", "BackfillEnd", "forecast", "backoff 250ms"] {
        assert!(said.contains(event), "{event}: {said}");
    }
    assert_eq!((row(&said, "accepted"), row(&said, "delivered")), (30_000, 30_000));
    assert_eq!((row(&said, "missing"), row(&said, "dropped")), (0, 0));
    assert!(said.contains("peak emission") && said.contains("time to drain"), "{said}");
    assert!(said.contains("default: accepted 30000 = delivered 30000 + pending 0 + dropped 0"), "{said}");
    assert!(!dir.exists(), "the directory is removed");
}

#[test]
fn a_batch_that_is_lost_on_the_way_is_missing_at_the_central_and_the_answer_is_no() {
    let outside = tempfile::tempdir().unwrap();
    let arguments =
        ["--seconds", "1", "--outage", "0s", "--rate", "2000", "--drop-batch", "5", "--output", "json"];
    let output = demo(&outside.path().join("demo"), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("missing") > 0 && count("delivered") + count("missing") == count("accepted"), "{report}");
    assert_eq!((&report["good"], &report["closes"]), (&false.into(), &true.into()));
}

#[test]
fn the_lines_of_a_file_are_sent_and_the_seam_of_the_tests_is_not_shown() {
    let outside = tempfile::tempdir().unwrap();
    let lines = outside.path().join("lines");
    std::fs::write(&lines, "{\"monitor_id\":\"m1\",\"v\":1}\nplain\n").unwrap();
    let arguments = ["--seconds", "1", "--outage", "0s", "--rate", "500", "--plain"];
    let output = demo(&outside.path().join("demo"), &arguments).arg("--input").arg(&lines).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(row(&text(&output), "delivered"), 500);
    let help = demo(outside.path(), &["--help"]).output().unwrap();
    assert!(text(&help).contains("--outage") && !text(&help).contains("drop-batch"));
}

#[test]
fn what_cannot_be_told_is_wrong_usage() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("mine"), "keep").unwrap();
    let full = demo(outside.path(), &["--plain"]).output().unwrap();
    assert_eq!((full.status.code(), text(&full).as_str()), (Some(2), ""));
    assert!(outside.path().join("mine").exists());
    let long = demo(&outside.path().join("demo"), &["--seconds", "5", "--outage", "5s"]).output().unwrap();
    assert_eq!(long.status.code(), Some(2));
}

#[test]
fn an_interrupt_ends_it_and_removes_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("demo");
    let mut command = demo(&dir, &["--seconds", "20", "--rate", "1000", "--plain"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    while !dir.join("state").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("interrupted") && !dir.exists());
}
