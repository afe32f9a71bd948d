//! Runs the real binary, in a directory that goes away.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary with `arguments`, its standard streams piped.
pub(crate) fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end on `input`.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Output {
    finish(forebay(arguments), input)
}

/// Runs `command` to its end on `input`.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A command that refuses to start does not read: its broken pipe is no failure of the test.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the command ends");
    feeder.join().unwrap();
    output
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What stderr says, which must be one error in one line.
pub(crate) fn the_error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one error, one line: {text}");
    assert_eq!(text.lines().last(), errors.first().copied(), "the error is the last word: {text}");
    errors[0].to_owned()
}

/// A directory for one test; the store in it is not made yet.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// On the disk of the build, not in memory: it is the disk that is tested.
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn dir(&self) -> String {
        self.path().join("store").to_str().unwrap().to_owned()
    }

    /// Another directory with what the store has; holes stay holes.
    pub(crate) fn copy(&self, name: &str) -> String {
        let to = self.path().join(name);
        let copied =
            Command::new("cp").args(["-r", "--sparse=always", &self.dir()]).arg(&to).status().unwrap();
        assert!(copied.success());
        to.to_str().unwrap().to_owned()
    }
}

/// Appends `input` and expects it to end well.
pub(crate) fn append(dir: &str, flags: &[&str], input: &[u8]) -> Output {
    let output = run(&[&["append", "--dir", dir], flags].concat(), input);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What `read --raw` gives back.
pub(crate) fn read_raw(dir: &str) -> Vec<u8> {
    let output = run(&["read", "--dir", dir, "--raw"], b"");
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The exit code of `verify`, and its report.
pub(crate) fn verify(dir: &str) -> (i32, serde_json::Value) {
    let output = run(&["verify", "--dir", dir, "--output", "json"], b"");
    let report = serde_json::from_slice(&output.stdout);
    (code(&output), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// The four real logs, one behind the other; said aloud when they are not there.
pub(crate) fn real_logs() -> Option<Vec<u8>> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let names = ["HDFS_2k.log", "OpenSSH_2k.log", "OpenStack_2k.log", "Zookeeper_2k.log"];
    let read = names.iter().map(|name| std::fs::read(data.join(name))).collect::<Result<Vec<_>, _>>();
    if read.is_err() {
        eprintln!("skipped: no real logs in {}", data.display());
    }
    read.ok().map(|logs| logs.concat())
}

/// `count` lines, each with its number.
pub(crate) fn lines(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number} {:a<100}\r\n", "").into_bytes()).collect()
}
