//! The agent as its users meet it: the real binary, real sockets, a real central.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How often something is looked at that shall come true; the runner bounds the whole.
const LOOK: Duration = Duration::from_millis(20);

fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).env_clear();
    command
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

struct Central {
    child: Child,
    address: String,
}

impl Central {
    fn start(listen: &str, out: &Path) -> Self {
        let mut command = forebay(&["central", "--listen", listen, "--out", out.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().split('/').nth(2).expect("listening on http://ADDRESS/...").to_owned();
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Self { child, address }
    }

    fn kill(mut self) -> String {
        signal(&self.child, Signal::KILL);
        self.child.wait().unwrap();
        self.address.clone()
    }
}

impl Drop for Central {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with a configuration, and what the central got.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the file; `more` is its end.
    fn configure(&self, url: &str, more: &str) {
        let dir = self.path("store");
        let unix = self.path("socket");
        let text = format!(
            "dir = {dir:?}\ndisk_bytes_cap = \"64MiB\"\n\
             [disk]\nsegment_bytes = \"1MiB\"\nfree_bytes_min = \"1MiB\"\n\
             [governor]\nfloor_records_per_second = 100000\nfloor_bytes_per_second = \"100MiB\"\n\
             [backoff]\nmin = \"10ms\"\nmax = \"50ms\"\n\
             [ingest]\nhttp = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\nunix = {unix:?}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [sink]\nurl = {url:?}\n{more}\n"
        );
        std::fs::write(self.path("forebay.toml"), text).unwrap();
    }

    /// What the central got, by line.
    fn got(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("out")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the central has every one of `lines`.
    fn wait_for(&self, lines: &[String]) {
        let wanted: HashSet<&str> = lines.iter().map(String::as_str).collect();
        loop {
            let got = self.got();
            let got: HashSet<&str> = got.iter().map(String::as_str).collect();
            if wanted.is_subset(&got) {
                return;
            }
            sleep(LOOK);
        }
    }
}

struct Agent {
    child: Child,
    /// The line that it begins with.
    begins: Value,
    log: Arc<Mutex<String>>,
}

impl Agent {
    fn start(place: &Place) -> Self {
        let file = place.path("forebay.toml");
        let mut command = forebay(&["--log-format", "json", "agent", "--config", file.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let begins = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended: {}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            if line["message"] == "the agent runs" {
                break line;
            }
        };
        let more = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap() > 0 {
                more.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        Self { child, begins, log }
    }

    fn address(&self, listener: &str) -> &str {
        self.begins[listener].as_str().unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        request(self.address("admin"), &format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    fn post(&self, body: &[u8]) -> (u16, Value) {
        let (status, text) = request(self.address("http"), "POST /v1/records HTTP/1.1\r\n", body);
        (status, serde_json::from_str(&text).unwrap())
    }

    /// SIGTERM, and it ends with 0; what it said.
    fn stop(mut self) -> String {
        signal(&self.child, Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL.
    fn kill(mut self) {
        signal(&self.child, Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own: the status and the body.
fn request(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        format!("{head}Host: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // A refusal may come before all is sent.
    let _ = stream.write_all(body);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"monitor_id\":\"monitor-{name}\",\"n\":{n}}}")).collect()
}

fn body(lines: &[String]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn lines_of_every_ingest_arrive_as_they_were() {
    let place = Place::new();
    let central = Central::start("127.0.0.1:0", &place.path("out"));
    place.configure(&format!("http://{}/v1/records", central.address), "");
    let agent = Agent::start(&place);
    let (http, mut tcp, unix) = (lines("http", 500), lines("tcp", 500), lines("unix", 500));
    let (status, answer) = agent.post(&body(&http));
    assert_eq!((status, &answer["accepted"], &answer["level"]), (200, &500.into(), &"durable".into()));
    assert_eq!((&answer["first_sequence"], &answer["last_sequence"]), (&1.into(), &500.into()));
    // Here a line is anything, and the last one needs no newline.
    tcp.push("no JSON at all".into());
    let mut stream = TcpStream::connect(agent.address("tcp")).unwrap();
    stream.write_all(tcp.join("\n").as_bytes()).unwrap();
    drop(stream);
    let mut stream = UnixStream::connect(place.path("socket")).unwrap();
    stream.write_all(&body(&unix)).unwrap();
    let all: Vec<String> = [http, tcp, unix].concat();
    place.wait_for(&all);
    assert_eq!(place.got().len(), all.len(), "each once");
    let log = agent.stop();
    assert!(!log.contains("monitor-"), "a monitor id stands in the log: {log}");
    assert!(!place.path("socket").exists(), "the socket's file is removed");
}

#[test]
fn a_bad_line_is_400_with_its_place_and_what_stood_before_it_is_kept() {
    let place = Place::new();
    let central = Central::start("127.0.0.1:0", &place.path("out"));
    place
        .configure(&format!("http://{}/v1/records", central.address), "[write]\nrecord_bytes_max = \"1KiB\"");
    let agent = Agent::start(&place);
    let (status, answer) = agent.post(b"{\"n\":1}\n\n{\"n\":2}\n{\"n\":}\n{\"n\":3}\n");
    assert_eq!((status, &answer["accepted"], &answer["last_sequence"]), (400, &2.into(), &2.into()));
    assert_eq!((&answer["error"]["line"], &answer["error"]["column"]), (&4.into(), &6.into()));
    let long = format!("{{\"n\":4}}\n{{\"n\":\"{}\"}}\n", "x".repeat(2_000));
    let (status, answer) = agent.post(long.as_bytes());
    assert_eq!((status, &answer["accepted"], &answer["error"]["line"]), (413, &1.into(), &2.into()));
    let (status, answer) = agent.post(b"");
    assert_eq!((status, &answer["accepted"], &answer["last_sequence"]), (200, &0.into(), &Value::Null));
    // A line too long is left out of a stream, and the stream goes on.
    let mut stream = TcpStream::connect(agent.address("tcp")).unwrap();
    stream.write_all(format!("{}\n{{\"n\":5}}\n", "y".repeat(2_000)).as_bytes()).unwrap();
    let kept: Vec<String> = [1, 2, 4, 5].map(|n| format!("{{\"n\":{n}}}")).to_vec();
    place.wait_for(&kept);
    assert_eq!(place.got(), kept);
    assert!(agent.get("/metrics").1.contains("forebay_ingest_oversize_lines_total 1"));
}

#[test]
fn a_central_that_dies_and_comes_back_has_every_line() {
    let place = Place::new();
    let central = Central::start("127.0.0.1:0", &place.path("out"));
    place.configure(&format!("http://{}/v1/records", central.address), "batch_records = 100");
    let agent = Agent::start(&place);
    let (before, away, after) = (lines("before", 3_000), lines("away", 3_000), lines("after", 300));
    assert_eq!(agent.post(&body(&before)).0, 200);
    let address = central.kill();
    assert_eq!(agent.post(&body(&away)).0, 200);
    while agent.status()["status"]["destination_state"] == "online" {
        sleep(LOOK);
    }
    assert_eq!(agent.get("/readyz").0, 200, "a central that is away is not unready");
    let _central = Central::start(&address, &place.path("out"));
    assert_eq!(agent.post(&body(&after)).0, 200);
    place.wait_for(&[before, away, after].concat());
    let log = agent.stop();
    assert!(log.contains("\"event\":\"Connectivity\"") && log.contains("\"to\":\"online\""), "{log}");
}

#[test]
fn what_was_answered_for_outlives_a_clean_stop_and_a_kill() {
    let place = Place::new();
    let central = Central::start("127.0.0.1:0", &place.path("out"));
    place.configure(&format!("http://{}/v1/records", central.address), "");
    let address = central.kill();
    let agent = Agent::start(&place);
    let (first, second, third) = (lines("first", 2_000), lines("second", 2_000), lines("third", 10));
    assert_eq!(agent.post(&body(&first)).0, 200);
    agent.stop();
    let agent = Agent::start(&place);
    let (status, answer) = agent.post(&body(&second));
    assert_eq!((status, &answer["first_sequence"]), (200, &2_001.into()), "no sequence is used twice");
    agent.kill();
    let agent = Agent::start(&place);
    let unclean = "it was killed, and memory may have held more";
    assert!(agent.get("/metrics").1.contains("\nforebay_gaps_total 1\n"), "{unclean}");
    let _central = Central::start(&address, &place.path("out"));
    assert_eq!(agent.post(&body(&third)).0, 200);
    place.wait_for(&[first, second, third].concat());
    agent.stop();
}

#[test]
fn lines_that_a_stream_had_sent_outlive_a_clean_stop() {
    let place = Place::new();
    place.configure("http://127.0.0.1:1/v1/records", "");
    let agent = Agent::start(&place);
    let mut stream = TcpStream::connect(agent.address("tcp")).unwrap();
    let sent = lines("tcp", 20_000);
    stream.write_all(&body(&sent)).unwrap();
    while agent.status()["status"]["accepted_records"] == 0 {
        sleep(LOOK);
    }
    agent.stop();
    let read = forebay(&["read", "--raw", "--dir", place.path("store").to_str().unwrap()]).output().unwrap();
    assert_eq!(read.stdout, body(&sent));
}

#[test]
fn every_metric_of_the_contract_is_there() {
    let place = Place::new();
    let central = Central::start("127.0.0.1:0", &place.path("out"));
    place.configure(&format!("http://{}/v1/records", central.address), "");
    let agent = Agent::start(&place);
    let sent = lines("m", 100);
    assert_eq!(agent.post(&body(&sent)).0, 200);
    place.wait_for(&sent);
    let mut text = agent.get("/metrics").1;
    while !text.contains("forebay_emitted_records_total{destination=\"default\",lane=\"live\"} 100") {
        sleep(LOOK);
        text = agent.get("/metrics").1;
    }
    for name in [
        "queue_records",
        "queue_bytes",
        "accepted_records_total",
        "spilled_records_total",
        "dropped_records_total{reason=",
        "backfill_queue_records",
        "backfill_queue_bytes",
        "emitted_records_total{destination=\"default\",lane=",
        "governor_limit_records_per_second",
        "governor_burst_records",
        "steady_state_records_per_second",
        "sync_duration_seconds_bucket{",
        "append_durable_seconds_bucket{",
        "loop_slip_seconds_bucket{loop=\"agent\"",
        "loop_slip_seconds_bucket{loop=\"backfill\"",
        "watermark_sequence{mark=\"durable\"}",
        "disk_bytes",
        "disk_bytes_cap",
        "destination_state{name=\"default\",state=\"online\"} 1",
        "time_to_drain_seconds",
        "time_to_full_seconds",
        "oldest_record_age_seconds",
        "gaps_total",
        "backend_info{backend=\"",
        "build_info{",
    ] {
        let name = format!("forebay_{name}");
        let is_there = text.lines().any(|line| {
            line.strip_prefix(&name)
                .is_some_and(|rest| name.ends_with(['{', '=', '"', '1']) || rest.starts_with([' ', ',']))
        });
        assert!(is_there, "{name} is missing:\n{text}");
    }
    assert!(!text.contains("monitor-"), "a label takes a value from a record");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
        assert!(is_number || ["+Inf", "-Inf", "NaN"].contains(&value), "no value of the text format: {line}");
    }
    assert_eq!(agent.get("/livez").0, 200);
    let (status, verbose) = agent.get("/readyz?verbose");
    assert_eq!(status, 200);
    for check in ["durability", "disk", "room", "full"] {
        assert!(verbose.contains(&format!("[+] {check} ok")), "{verbose}");
    }
    assert!(agent.get("/").1.contains("<title>forebay</title>"));
    assert_eq!(agent.get("/nothing").0, 404);
    while agent.status()["status"]["confirmed_sequence"] != 100 {
        sleep(LOOK);
    }
    let url = format!("http://{}", agent.address("admin"));
    let shown = forebay(&["status", "--url", &url]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.starts_with("ready") && text.contains("appended 100"), "{text}");
    agent.stop();
    assert_eq!(forebay(&["status", "--url", &url]).output().unwrap().status.code(), Some(69));
}

#[test]
fn without_room_it_says_so_and_is_unready() {
    let place = Place::new();
    place.configure("http://127.0.0.1:1/v1/records", "[queue]\nbytes = \"8MiB\"\nfull = \"reject\"");
    let agent = Agent::start(&place);
    let line = format!("{{\"pad\":\"{}\"}}\n", "x".repeat(10_000));
    let piece = line.repeat(200);
    let (mut accepted, refusal) = (
        0,
        loop {
            let (status, answer) = agent.post(piece.as_bytes());
            if status != 200 {
                break (status, answer);
            }
        },
    );
    accepted += refusal.1["accepted"].as_u64().unwrap();
    assert_eq!(refusal.0, 503);
    assert_eq!(refusal.1["error"]["line"], accepted + 1, "the first line that was not taken is named");
    // The answer follows within a tick, for a second.
    let why = loop {
        let (status, why) = agent.get("/readyz");
        if status == 503 {
            break why;
        }
        assert_eq!(agent.post(line.as_bytes()).0, 503, "still no room");
    };
    assert!(why.contains("[-]"), "{why}");
    agent.stop();
}

#[test]
fn a_secret_of_the_url_is_shown_nowhere() {
    const SECRET: &str = "pl4nted-t0ken";
    let place = Place::new();
    // It answers 404 and quotes the path that was asked for.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            let _ = stream.read_line(&mut first);
            let text = format!("busy: {first}");
            let answer = format!(
                "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    place.configure(&format!("http://{address}/v1/records?token={SECRET}"), "");
    let agent = Agent::start(&place);
    assert_eq!(agent.post(b"{}\n").0, 200);
    while agent.status()["events"].as_array().unwrap().len() < 3 {
        sleep(LOOK);
    }
    let told = agent.get("/status").1;
    let log = agent.stop();
    assert!(log.contains("***") && log.contains("busy"), "the test sees the echo: {log}");
    assert!(!told.contains(SECRET) && !log.contains(SECRET), "{told}\n{log}");

    place.configure(&format!("http://user:{SECRET}@{address}/v1/records"), "");
    let file = place.path("forebay.toml");
    for more in [&["--check"][..], &[]] {
        let refused =
            forebay(&[&["agent", "--config", file.to_str().unwrap()], more].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("sink.url") && !said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_second_agent_gets_75_at_once_and_check_starts_nothing() {
    let place = Place::new();
    place.configure("http://127.0.0.1:1/v1/records", "");
    let file = place.path("forebay.toml");
    let file = file.to_str().unwrap();
    let checked = forebay(&["agent", "--config", file, "--check"]).output().unwrap();
    assert!(checked.status.success() && !place.path("store").exists());
    let agent = Agent::start(&place);
    let second = forebay(&["agent", "--config", file]).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    agent.stop();
    // One whose address is taken leaves no trace.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = forebay(&["agent", "--config", file]);
    command.env("FOREBAY__ADMIN__LISTEN", taken.local_addr().unwrap().to_string());
    let refused = command.env("FOREBAY__DIR", place.path("elsewhere")).output().unwrap();
    assert_eq!(refused.status.code(), Some(73));
    assert!(!place.path("elsewhere").exists());
    let wrong = forebay(&["agent", "--config", file]).env("FOREBAY__QUEUE__BITES", "1").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}
