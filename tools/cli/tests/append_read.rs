//! What goes in comes out: append, read, drain, verify and inspect on the real binary.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Child;

use command::{Place, append, code, forebay, lines, read_raw, real_logs, run, stdout, the_error, verify};

mod command;

#[test]
fn real_logs_come_back_byte_for_byte_and_the_ledger_closes() {
    let Some(logs) = real_logs() else { return };
    let place = Place::new();
    let acks = stdout(&append(&place.dir(), &["--ack"], &logs));
    assert_eq!(acks.lines().next(), Some("next 1"));
    assert_eq!(acks.lines().last(), Some("durable 7998"));
    let got = read_raw(&place.dir());
    assert_eq!(got.len(), 1_388_074 + 1);
    assert!(got == [&logs[..], b"\n"].concat(), "the same bytes and a final newline");
    let (code, report) = verify(&place.dir());
    assert_eq!(code, 0, "{report}");
    assert_eq!((&report["records"], &report["durable_sequence"]), (&7998.into(), &7998.into()));
    assert_eq!(report["ledger"][0]["pending"], 7998);
    assert_eq!(report["closes"], true);
}

#[test]
fn nothing_but_the_newline_is_stripped() {
    let place = Place::new();
    append(&place.dir(), &[], b"one\r\n\n  \nno newline");
    assert_eq!(read_raw(&place.dir()), b"one\r\n\n  \nno newline\n");
    append(&place.dir(), &["--framing", "u32le", "--key", "m-1"], b"\x03\0\0\0a\nb\0\0\0\0\x01\0\0\0\xff");
    let text = stdout(&run(&["read", "--dir", &place.dir(), "--from", "5"], b""));
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
    assert_eq!((&records[0]["sequence"], &records[0]["payload"]), (&5.into(), &"a\nb".into()));
    assert_eq!((&records[0]["kind"], &records[0]["key"]), (&"data".into(), &"m-1".into()));
    assert_eq!((&records[1]["payload"], &records[2]["payload_base64"]), (&"".into(), &"/w==".into()));
}

#[test]
fn a_reopened_store_goes_on_and_read_can_begin_and_end_anywhere() {
    let place = Place::new();
    append(&place.dir(), &[], &lines(5_000));
    let acks = stdout(&append(&place.dir(), &["--ack"], b"the last\n"));
    assert_eq!(acks, "next 5001\ndurable 5001\n");
    let read = |flags: &[&str]| run(&[&["read", "--raw", "--dir", &place.dir()], flags].concat(), b"").stdout;
    assert_eq!(read(&["--from", "5001"]), b"the last\n");
    assert_eq!(read(&["--from", "5002"]), b"");
    let two = String::from_utf8(read(&["--from", "1234", "--limit", "2"])).unwrap();
    let numbers: Vec<&str> = two.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["1234", "1235"]);
}

#[test]
fn records_over_a_block_come_back_whole() {
    let place = Place::new();
    let large: Vec<u8> = (0..3_000_000u32).map(|byte| b'a' + (byte % 23) as u8).collect();
    let input = [b"before\n", &large[..], b"\nafter\n"].concat();
    append(&place.dir(), &[], &input);
    assert!(read_raw(&place.dir()) == input);
    assert_eq!(verify(&place.dir()).0, 0);
}

/// A child that reads acks as they come.
fn ack_reader(dir: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = forebay(&["append", "--dir", dir, "--ack"]).spawn().unwrap();
    let acks = BufReader::new(child.stdout.take().unwrap());
    (child, acks)
}

fn next_line(acks: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    acks.read_line(&mut line).unwrap();
    line
}

#[test]
fn each_line_is_acked_while_the_input_stays_open_and_a_signal_ends_it_well() {
    let place = Place::new();
    let (mut child, mut acks) = ack_reader(&place.dir());
    assert_eq!(next_line(&mut acks), "next 1\n");
    let mut input = child.stdin.take().unwrap();
    for sequence in 1..=20 {
        input.write_all(b"a line\n").unwrap();
        assert_eq!(next_line(&mut acks), format!("durable {sequence}\n"));
    }
    // Without a newline it is no record yet.
    input.write_all(b"half").unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(next_line(&mut acks), "", "nothing more was acked");
    assert_eq!(read_raw(&place.dir()), b"a line\n".repeat(20));
}

#[test]
fn what_was_acked_survives_kill_and_the_next_open_goes_on_behind_it() {
    let place = Place::new();
    let (mut child, mut acks) = ack_reader(&place.dir());
    let mut input = child.stdin.take().unwrap();
    input.write_all(&lines(1000)).unwrap();
    assert_eq!(next_line(&mut acks), "next 1\n");
    while next_line(&mut acks) != "durable 1000\n" {}
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(read_raw(&place.dir()) == lines(1000), "read needs no recovery");
    assert_eq!(stdout(&append(&place.dir(), &["--ack"], b"x\n")), "next 1001\ndurable 1001\n");
    assert_eq!(verify(&place.dir()).0, 0);
}

#[test]
fn every_sync_policy_and_backend_makes_all_durable_at_the_end() {
    for flags in [&["--sync", "interval=20ms"][..], &["--sync", "none"], &["--backend", "blocking"]] {
        let place = Place::new();
        let acks = stdout(&append(&place.dir(), &[&["--ack"], flags].concat(), &lines(3000)));
        assert_eq!(acks.lines().last(), Some("durable 3000"), "{flags:?}");
        assert!(read_raw(&place.dir()) == lines(3000));
        let (code, report) = verify(&place.dir());
        assert_eq!((code, &report["ledger"][0]["exact"]), (0, &true.into()), "{report}");
    }
}

#[test]
fn drain_confirms_what_it_printed_and_no_more() {
    let place = Place::new();
    append(&place.dir(), &[], &lines(3500));
    let drain = |limit: &str| run(&["drain", "--raw", "--limit", limit, "--dir", &place.dir()], b"");
    let first = drain("1700");
    assert_eq!(code(&first), 0);
    let (code, report) = verify(&place.dir());
    let ledger = &report["ledger"][0];
    assert_eq!((code, &ledger["delivered"], &ledger["pending"]), (0, &1700.into(), &1800.into()), "{report}");
    let rest = drain("100000");
    assert!([first.stdout, rest.stdout].concat() == lines(3500), "each record once, in order");
    assert_eq!(drain("10").stdout, b"");
    let (code, report) = verify(&place.dir());
    assert_eq!((code, &report["ledger"][0]["delivered"]), (0, &3500.into()), "{report}");
    let unknown = run(&["drain", "--destination", "elsewhere", "--dir", &place.dir()], b"");
    assert!(the_error(&unknown).contains("this store has default"));
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn drained_slots_are_used_again_and_the_cap_holds() {
    let place = Place::new();
    for round in 0..6 {
        append(&place.dir(), &["--disk-bytes-cap", "4MiB"], &lines(16_000));
        let drained = run(&["drain", "--raw", "--dir", &place.dir()], b"").stdout;
        assert!(drained == lines(16_000), "round {round}");
    }
    let (code, report) = verify(&place.dir());
    assert_eq!((code, &report["ledger"][0]["delivered"]), (0, &96_000.into()), "{report}");
    let inspect = run(&["inspect", "--dir", &place.dir(), "--output", "json"], b"").stdout;
    let inspect: serde_json::Value = serde_json::from_slice(&inspect).unwrap();
    assert!(inspect["bytes"]["used"].as_u64().unwrap() <= 4 << 20, "{inspect}");
    assert_eq!(inspect["watermarks"]["confirmed"], 96_000);
}

#[test]
fn a_store_can_be_read_while_it_is_written() {
    let place = Place::new();
    let mut child = forebay(&["append", "--dir", &place.dir(), "--ack"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(next_line(&mut acks), "next 1\n");
    let expected = lines(60_000);
    let bytes = expected.clone();
    let feeder = std::thread::spawn(move || {
        input.write_all(&bytes).unwrap();
        input
    });
    for _ in 0..10 {
        let output = run(&["read", "--raw", "--dir", &place.dir()], b"");
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((code(&output), notes.as_str()), (0, ""));
        assert!(expected.starts_with(&output.stdout), "what is read is a prefix");
        assert!(matches!(output.stdout.last(), None | Some(b'\n')), "of whole records");
        assert_eq!(verify(&place.dir()).0, 0, "a live store is no damaged store");
    }
    drop(feeder.join().unwrap());
    assert_eq!(acks.lines().last().unwrap().unwrap(), "durable 60000");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
