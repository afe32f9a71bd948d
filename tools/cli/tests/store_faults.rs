//! Bad input, bad places, full disks and damaged stores: one clear sentence, the right code, nothing hidden.

use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use command::{Place, append, code, finish, forebay, lines, read_raw, run, stdout, the_error, verify};

mod command;

const READERS: [&str; 4] = ["read", "drain", "verify", "inspect"];

#[test]
fn a_directory_that_is_no_store_is_refused_and_left_alone() {
    let place = Place::new();
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(place.path().join("file"), "x").unwrap();
    for command in READERS {
        for (name, says) in
            [("nowhere", "is not there"), ("empty", "is not a store"), ("file", "not a directory")]
        {
            let dir = place.path().join(name);
            let output = run(&[command, "--dir", dir.to_str().unwrap()], b"");
            let error = the_error(&output);
            assert!(error.contains(says), "{command}: {error}");
            assert_eq!(code(&output), 2, "{command}: {error}");
            assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "{command} made something");
        }
    }
    std::fs::write(empty.join("thesis.tex"), "x").unwrap();
    let output = run(&["append", "--dir", empty.to_str().unwrap()], b"a\n");
    assert!(the_error(&output).contains("thesis.tex"));
    assert_eq!(code(&output), 2);
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 1, "append left something behind");
    let output = run(&["append", "--dir", &format!("{}/a/b", place.dir())], b"a\n");
    assert!(the_error(&output).contains("cannot open or make"));
    assert_eq!(code(&output), 73);
}

/// The open fails in its middle: no file may be as large as `gaps` is.
#[test]
fn an_open_that_fails_takes_back_what_it_made() {
    let place = Place::new();
    let there = place.path().join("there");
    std::fs::create_dir(&there).unwrap();
    for (dir, left) in [(place.dir(), false), (there.to_str().unwrap().to_owned(), true)] {
        let mut command = std::process::Command::new("prlimit");
        command.args(["--fsize=16384", env!("CARGO_BIN_EXE_forebay"), "append", "--dir", &dir]);
        let piped = std::process::Stdio::piped;
        command.stdin(piped()).stdout(piped()).stderr(piped());
        let output = finish(command, b"a\n");
        assert_eq!(code(&output), 75, "{}", the_error(&output));
        assert_eq!(std::path::Path::new(&dir).exists(), left, "{dir}");
        append(&dir, &[], b"a\n");
        assert_eq!(read_raw(&dir), b"a\n");
    }
}

#[test]
fn a_later_version_is_refused_by_all() {
    let place = Place::new();
    append(&place.dir(), &[], b"a\n");
    let file =
        std::fs::OpenOptions::new().read(true).write(true).open(format!("{}/state", place.dir())).unwrap();
    for copy in [0, 4096] {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, copy).unwrap();
        // The version stands behind the magic; the checksum ends the header of 48 bytes.
        page[8..12].copy_from_slice(&2u32.to_le_bytes());
        let body_length = u32::from_le_bytes(page[12..16].try_into().unwrap()) as usize;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&page[..44]), &page[48..48 + body_length]);
        page[44..48].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&page, copy).unwrap();
    }
    for command in ["append", "read", "drain", "verify", "inspect"] {
        let output = run(&[command, "--dir", &place.dir()], b"a\n");
        assert!(the_error(&output).contains("version 2"), "{command}");
        assert_eq!(code(&output), 69, "{command}");
    }
}

#[test]
fn a_record_over_the_limit_is_named_and_what_was_before_it_is_kept() {
    let place = Place::new();
    let large = vec![b'x'; (4 << 20) + 1];
    let input = [b"a\nb\n", &large[..], b"\nc\n"].concat();
    let output = run(&["append", "--ack", "--segment-bytes", "16MiB", "--dir", &place.dir()], &input);
    let error = the_error(&output);
    assert!(error.contains("record 3 of the input") && error.contains("4194304"), "{error}");
    assert!(error.contains("a quarter of a segment of 16MiB: raise segment_bytes"), "the cause: {error}");
    assert_eq!(code(&output), 2);
    assert_eq!(stdout(&output).lines().last(), Some("durable 2"));
    assert_eq!(read_raw(&place.dir()), b"a\nb\n");
    let output = run(&["append", "--framing", "u32le", "--dir", &place.dir()], b"\xff\xff\xff\xff");
    assert!(the_error(&output).contains("4294967295"));
    let output = run(&["append", "--framing", "u32le", "--dir", &place.dir()], b"\x01\0\0\0c\x09\0\0\0d");
    assert!(the_error(&output).contains("5 bytes into record 2"));
    assert_eq!(read_raw(&place.dir()), b"a\nb\nc\n");
}

#[test]
fn at_the_cap_everything_taken_is_durable_and_the_first_not_taken_is_named() {
    let place = Place::new();
    let input = lines(40_000);
    let output = run(&["append", "--ack", "--disk-bytes-cap", "4MiB", "--dir", &place.dir()], &input);
    assert_eq!(code(&output), 75);
    let got = read_raw(&place.dir());
    let taken = got.iter().filter(|byte| **byte == b'\n').count();
    assert!(input.starts_with(&got) && taken > 0);
    assert!(got.len() > 1 << 20, "the cap is used: {} bytes", got.len());
    let error = the_error(&output);
    assert!(error.contains(&format!("sequence {} was not taken", taken + 1)), "{taken}: {error}");
    assert_eq!(stdout(&output).lines().last().unwrap(), format!("durable {taken}"));
    assert_eq!(verify(&place.dir()).0, 0);
    // Room that is made is used.
    assert_eq!(code(&run(&["drain", "--dir", &place.dir()], b"")), 0);
    append(&place.dir(), &["--disk-bytes-cap", "4MiB"], b"again\n");
}

#[test]
fn drop_oldest_keeps_the_newest_and_names_the_rest() {
    let place = Place::new();
    append(&place.dir(), &["--disk-bytes-cap", "4MiB", "--full", "drop-oldest"], &lines(40_000));
    let (code, report) = verify(&place.dir());
    assert_eq!(code, 0, "{report}");
    let ledger = &report["ledger"][0];
    assert_eq!(ledger["accepted"], 40_000);
    assert!(report["records"].as_u64().unwrap() > 9_000, "the cap is used: {report}");
    assert!(read_raw(&place.dir()).ends_with(&lines(40_000)[4_000_000..]), "the newest are there");
    let first = stdout(&run(&["read", "--limit", "1", "--dir", &place.dir()], b""));
    assert!(first.starts_with("{") && first.contains("\"reason\":\"disk_full\""), "{first}");
}

#[test]
fn drop_newest_keeps_the_oldest_and_names_the_rest() {
    let place = Place::new();
    append(
        &place.dir(),
        &["--disk-bytes-cap", "4MiB", "--full", "drop-newest", "--key", "k"],
        &lines(40_000),
    );
    let (code, report) = verify(&place.dir());
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["ledger"][0]["accepted"], 40_000);
    let got = read_raw(&place.dir());
    assert!(got.len() > 1 << 20, "the cap is used: {} bytes", got.len());
    assert!(lines(40_000).starts_with(&got), "what came first is kept");
    // Wherever a record was dropped, its gap knows it: from a full log, or when the rest found no room at the end.
    let read = stdout(&run(&["read", "--dir", &place.dir()], b""));
    let gaps: Vec<serde_json::Value> = read
        .lines()
        .filter(|line| line.contains("\"kind\":\"gap\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sum = |field: &str| gaps.iter().map(|gap| gap[field].as_u64().unwrap()).sum::<u64>();
    let (kept, lost) = (got.iter().filter(|byte| **byte == b'\n').count() as u64, sum("count"));
    assert_eq!(kept + lost, 40_000, "{gaps:?}");
    // The newline is no part of a record, and the key of one byte is.
    assert_eq!(sum("bytes"), (lines(40_000).len() - got.len()) as u64, "{gaps:?}");
    for gap in &gaps {
        assert!(gap["timestamp"].is_string() && gap["last_timestamp"].is_string(), "{gap}");
        assert_eq!(gap["keys"], serde_json::json!([{ "key": "k", "count": gap["count"] }]));
        assert_eq!(gap["sequence"], gap["first_sequence"]);
    }
}

#[test]
fn block_waits_for_room_and_still_hears_a_signal() {
    let place = Place::new();
    let arguments = ["append", "--ack", "--full", "block", "--disk-bytes-cap", "4MiB", "--dir", &place.dir()];
    let child = forebay(&arguments).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let feeder = std::thread::spawn({
        let mut child = child;
        move || {
            let mut input = child.stdin.take().unwrap();
            // Ends with a broken pipe when the command does.
            let _ = std::io::Write::write_all(&mut input, &lines(40_000));
            child.wait_with_output().unwrap()
        }
    });
    let full = Instant::now() + Duration::from_secs(20);
    while verify_records(&place.dir()) < 9_000 && Instant::now() < full {
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = feeder.join().unwrap();
    let records = verify_records(&place.dir());
    let error = the_error(&output);
    assert!(error.contains(&format!("sequence {} was not taken", records + 1)), "{records}: {error}");
    assert_eq!(code(&output), 75, "{error}");
    assert_eq!(stdout(&output).lines().last().unwrap(), format!("durable {records}"));
}

fn verify_records(dir: &str) -> u64 {
    let output = run(&["verify", "--dir", dir, "--output", "json"], b"");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    report["records"].as_u64().unwrap_or(0)
}

#[test]
fn a_second_process_is_told_soon_and_readers_need_no_lock() {
    let place = Place::new();
    append(&place.dir(), &[], b"a\n");
    let mut first = forebay(&["append", "--ack", "--dir", &place.dir()]).spawn().unwrap();
    let mut acks = std::io::BufReader::new(first.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut acks, &mut line).unwrap();
    assert_eq!(line, "next 2\n");
    for command in ["append", "drain"] {
        let begun = Instant::now();
        let output = run(&[command, "--dir", &place.dir()], b"b\n");
        assert!(begun.elapsed() < Duration::from_secs(2), "it does not wait for the other one");
        assert!(the_error(&output).contains("is open in another process"));
        assert_eq!(code(&output), 75);
    }
    assert_eq!(read_raw(&place.dir()), b"a\n");
    assert_eq!(verify(&place.dir()).0, 0);
    drop(first.stdin.take());
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn without_permission_nothing_is_opened() {
    let place = Place::new();
    append(&place.dir(), &[], b"a\n");
    // The way there is open, the store itself is its owner's.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
    let setpriv = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(arguments);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command
    };
    let reachable = setpriv(&["ls", place.path().to_str().unwrap()]).status();
    if !reachable.is_ok_and(|status| status.success()) {
        eprintln!("skipped: setpriv can't make another user of this one here");
        return;
    }
    for command in ["append", "read", "drain", "verify", "inspect"] {
        let output =
            finish(setpriv(&[env!("CARGO_BIN_EXE_forebay"), command, "--dir", &place.dir()]), b"b\n");
        let error = the_error(&output);
        assert_eq!(code(&output), 77, "{command}: {error}");
        assert!(error.contains("Permission denied"), "{command}: {error}");
    }
    assert_eq!(read_raw(&place.dir()), b"a\n");
}

/// A store of six segments, its records numbered.
fn store_of_segments(place: &Place) -> Vec<String> {
    append(&place.dir(), &["--segment-bytes", "256KiB", "--disk-bytes-cap", "8MiB"], &lines(12_000));
    let inspect = run(&["inspect", "--output", "json", "--dir", &place.dir()], b"").stdout;
    let inspect: serde_json::Value = serde_json::from_slice(&inspect).unwrap();
    let segments = inspect["segments"].as_array().unwrap();
    assert!(segments.len() >= 5, "{inspect}");
    segments.iter().map(|segment| segment["file"].as_str().unwrap().to_owned()).collect()
}

/// What `verify` and `read` must say of a copy that `harm` was done to: named, and nothing wrong given back.
fn harmed(place: &Place, name: &str, harm: impl Fn(&str)) {
    let copy = place.copy(name);
    harm(&copy);
    let (code, report) = verify(&copy);
    assert_eq!(code, 1, "{name}: {report}");
    assert!(report["damaged_records"].as_u64().unwrap() > 0, "{name}: {report}");
    assert_eq!(report["closes"], false, "{name}: {report}");
    let damaged = report["damaged_records"].as_u64().unwrap();
    let pending = report["ledger"][0]["pending"].as_u64().unwrap();
    assert_eq!(pending + damaged, 12_000, "{name}: every record is there or named: {report}");
    let got = read_raw(&copy);
    let whole = lines(12_000);
    let mut expected = whole.split_inclusive(|byte| *byte == b'\n');
    for line in got.split_inclusive(|byte| *byte == b'\n') {
        assert!(expected.any(|wanted| wanted == line), "{name}: {line:?} is strange, or out of order");
    }
    // The next open names what is lost, and then the ledger closes again.
    assert_eq!(run(&["drain", "--raw", "--dir", &copy], b"").stdout, got, "{name}");
    let (_, report) = verify(&copy);
    assert_eq!(report["closes"], true, "{name}: {report}");
    assert_eq!(report["ledger"][0]["dropped"]["corrupt"], damaged, "{name}: {report}");
}

#[test]
fn damage_is_named_wherever_it_lies() {
    let place = Place::new();
    let slots = store_of_segments(&place);
    let middle = slots[slots.len() / 2].clone();
    let last = slots.last().unwrap().clone();
    let open = |dir: &str, slot: &str| {
        std::fs::OpenOptions::new().read(true).write(true).open(format!("{dir}/{slot}")).unwrap()
    };
    harmed(&place, "flipped", |dir| {
        let (file, mut byte) = (open(dir, &middle), [0]);
        file.read_exact_at(&mut byte, 100_000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    });
    harmed(&place, "zeroed", |dir| open(dir, &middle).write_all_at(&[0; 4096], 65_536).unwrap());
    harmed(&place, "truncated", |dir| open(dir, &middle).set_len(100_000).unwrap());
    harmed(&place, "emptied", |dir| open(dir, &middle).set_len(0).unwrap());
    harmed(&place, "deleted", |dir| std::fs::remove_file(format!("{dir}/{middle}")).unwrap());
    harmed(&place, "first-deleted", |dir| std::fs::remove_file(format!("{dir}/{}", slots[0])).unwrap());
    harmed(&place, "tail-deleted", |dir| std::fs::remove_file(format!("{dir}/{last}")).unwrap());
    harmed(&place, "tail-truncated", |dir| open(dir, &last).set_len(8192).unwrap());
}

#[test]
fn a_small_file_that_is_damaged_is_told_and_costs_no_record() {
    let place = Place::new();
    append(&place.dir(), &[], &lines(500));
    for name in ["state", "cursor-default", "gaps"] {
        let copy = place.copy(&format!("with-{name}"));
        let file = std::fs::OpenOptions::new().write(true).open(format!("{copy}/{name}")).unwrap();
        file.write_all_at(&[0x55; 512], 0).unwrap();
        let (code, report) = verify(&copy);
        assert_eq!(code, 1, "{name}: {report}");
        assert!(report["flaws"][0].as_str().unwrap().contains(name), "{report}");
        assert!(read_raw(&copy) == lines(500), "{name}");
        // The next open for writing heals it.
        append(&copy, &[], b"more\n");
        append(&copy, &[], b"more\n");
        assert!(read_raw(&copy).starts_with(&lines(500)), "{name}");
    }
}

#[test]
fn a_cursor_that_is_gone_is_told_and_heals_from_a_segment_header() {
    let place = Place::new();
    let sizes = ["--segment-bytes", "256KiB", "--disk-bytes-cap", "4MiB"];
    append(&place.dir(), &sizes, &lines(12_000));
    assert_eq!(code(&run(&["drain", "--raw", "--limit", "9000", "--dir", &place.dir()], b"")), 0);
    // Into slots that were trimmed: what was in front is gone, and a header says how far the destination was.
    append(&place.dir(), &sizes, &lines(12_000));
    assert_eq!(verify(&place.dir()).0, 0);
    std::fs::remove_file(format!("{}/cursor-default", place.dir())).unwrap();
    let (code, report) = verify(&place.dir());
    assert_eq!((code, &report["flaws"]), (1, &serde_json::json!(["cursor-default is missing"])), "{report}");
    assert_eq!((&report["damaged_records"], &report["closes"]), (&0.into(), &true.into()), "{report}");
    let output = append(&place.dir(), &sizes, b"more\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cursor-default was gone"));
    let (code, report) = verify(&place.dir());
    assert_eq!((code, &report["gaps"]), (0, &0.into()), "no false loss: {report}");
    assert_eq!(report["ledger"][0]["exact"], false);
}

#[test]
fn a_slot_header_that_was_rebuilt_is_told() {
    let place = Place::new();
    let slots = store_of_segments(&place);
    let file = std::fs::OpenOptions::new().write(true).open(format!("{}/{}", place.dir(), slots[1])).unwrap();
    file.write_all_at(&[0x55; 512], 0).unwrap();
    let (code, report) = verify(&place.dir());
    let told = format!("{} had an unreadable header at offset 0; it was rebuilt", slots[1]);
    assert!(report["recovery"][0].as_str().unwrap().starts_with(&told), "{report}");
    assert_eq!((code, &report["damaged_records"]), (0, &0.into()), "it costs no record: {report}");
    let text = stdout(&run(&["verify", "--dir", &place.dir()], b""));
    assert!(text.contains(&format!("recovery: {told}")), "{text}");
}
