//! What scripts rely on, tried on the real binary: exit codes, streams, signals, a broken pipe.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).env_clear();
    command
}

fn output(arguments: &[&str]) -> Output {
    forebay(arguments).output().unwrap()
}

/// Its exit code, and the one line on stderr.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = output(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn help_and_version_are_no_failure() {
    for argument in ["--help", "--version", "help"] {
        let output = output(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{argument}");
    }
    let version = String::from_utf8(output(&["--version"]).stdout).unwrap();
    assert!(version.contains("commit ") && version.contains("format 1"), "{version}");
}

#[test]
fn wrong_usage_is_2() {
    for arguments in
        [&["bogus"][..], &[], &["config"], &["--output", "xml", "man"], &["central", "--status", "99"]]
    {
        assert_eq!(refused(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_2_and_one_line_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "dir = \"/x\"\n[queue]\nbites = 1\n").unwrap();
    let (code, said) = refused(&["config", "check", path]);
    assert_eq!(code, 2);
    let expected = format!("error: {path}:3:1: unknown key `queue.bites`; did you mean `queue.bytes`?\n");
    assert_eq!(said, expected);
}

#[test]
fn a_configuration_that_is_no_file_of_text_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let (path, binary) = (dir.path().to_str().unwrap(), dir.path().join("binary"));
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    let nowhere = dir.path().join("nowhere.toml");
    for (file, says) in [
        (path, "is a directory"),
        (binary.to_str().unwrap(), "is no UTF-8 text"),
        (nowhere.to_str().unwrap(), "cannot read the configuration"),
    ] {
        for command in [&["agent", "--config", file][..], &["config", "check", file]] {
            let (code, said) = refused(command);
            assert_eq!((code, said.lines().count()), (2, 1), "{said}");
            assert!(said.contains(says) && said.contains(file), "{said}");
        }
    }
}

#[test]
fn a_duration_without_its_unit_is_wrong_usage_that_teaches() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    for arguments in [
        &["append", "--sync", "interval=50", "--dir", store.to_str().unwrap()][..],
        &["demo", "--outage", "50"],
    ] {
        let (code, said) = refused(arguments);
        assert!(code == 2 && said.contains("write \"50s\" or \"50ms\""), "{said}");
    }
    assert!(!store.exists());
}

#[test]
fn what_config_default_prints_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.toml");
    std::fs::write(&file, output(&["config", "default"]).stdout).unwrap();
    let checked = output(&["config", "check", file.to_str().unwrap(), "--output", "json"]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&checked.stdout).unwrap()["ok"], true);
}

#[test]
fn the_environment_overrides_and_its_mistakes_are_named() {
    let mut command = forebay(&["config", "show", "--origin", "--output", "json"]);
    let shown = command.env("FOREBAY__QUEUE__SPILL_THRESHOLD", "0.9").output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let expected = serde_json::json!({ "value": 0.9, "origin": "environment" });
    assert_eq!(shown["queue.spill_threshold"], expected);
    let mut command = forebay(&["config", "show"]);
    let wrong = command.env("FOREBAY__QUEUE__SPIL_THRESHOLD", "0.9").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("did you mean `queue.spill_threshold`?"));
}

#[test]
fn a_broken_pipe_is_no_error() {
    for arguments in [&["man"][..], &["completions", "bash"], &["config", "default"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = forebay(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_made_is_73() {
    assert_eq!(refused(&["central", "--out", "/nowhere/at/all"]).0, 73);
}

fn spawn_central(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut command = forebay(&["central", "--listen", "127.0.0.1:0", "--output", "json"]);
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    (child, lines, first["listening"].as_str().unwrap().to_owned())
}

#[test]
fn a_central_ends_cleanly_with_its_totals_on_either_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, mut lines, _) = spawn_central(&[]);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let last: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!((&last["total"], &last["received"]), (&true.into(), &0.into()));
    }
}

#[test]
fn an_address_in_use_is_73() {
    let (mut child, _lines, address) = spawn_central(&[]);
    let (code, said) = refused(&["central", "--listen", &address]);
    assert_eq!(code, 73);
    assert!(said.starts_with(&format!("error: cannot listen on {address}: ")), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}
