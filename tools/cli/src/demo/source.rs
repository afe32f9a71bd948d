//! Where the records come from: samples of this host, or the lines of a file, over and over.
//!
//! A sample is read from /proc some times a second, a line of JSON for each thing that is measured. To come to
//! the wanted rate each is sent again and again until the next is there; each record carries its own number and
//! time, and says with `sampled_at` when its values were read. So nothing about it is made up.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// How often the host is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// What goes into one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Nanoseconds since 1970.
    pub(super) timestamp: u64,
}

/// One of both.
#[derive(Debug)]
pub(super) enum Source {
    Host(Host),
    Lines(Lines),
}

impl Source {
    /// The lines of `input`; without it this host.
    pub(super) fn open(input: Option<&Path>) -> Result<Self, Failure> {
        match input {
            Some(path) => Lines::open(path).map(Self::Lines),
            None => Host::open(Path::new("/proc")).map(Self::Host),
        }
    }

    /// In a word, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Host(host) => format!("samples of this host ({} monitors)", host.samples.len()),
            Self::Lines(lines) => format!("the lines of {}", lines.path.display()),
        }
    }

    /// The next record, the `number`-th of all.
    pub(super) fn next(&mut self, number: u64) -> Result<Line<'_>, Failure> {
        match self {
            Self::Host(host) => Ok(host.next(number)),
            Self::Lines(lines) => lines.next(),
        }
    }
}

fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// What /proc says.
#[derive(Debug)]
pub(super) struct Host {
    proc: PathBuf,
    samples: Vec<Sample>,
    next: usize,
    sampled: Instant,
    payload: Vec<u8>,
}

/// The values of one monitor.
#[derive(Debug, PartialEq)]
struct Sample {
    key: String,
    /// The end of the line: `,"sampled_at":..,...}`.
    values: String,
}

impl Host {
    fn open(proc: &Path) -> Result<Self, Failure> {
        let samples = sample(proc, wall_ns());
        if samples.is_empty() {
            let sentence = format!("nothing can be sampled in {}: use --input FILE", proc.display());
            return Err(Failure::new(Exit::Unavailable, sentence));
        }
        let proc = proc.to_owned();
        Ok(Self { proc, samples, next: 0, sampled: Instant::now(), payload: Vec::new() })
    }

    fn next(&mut self, number: u64) -> Line<'_> {
        if self.next == self.samples.len() {
            self.next = 0;
            if self.sampled.elapsed() >= SAMPLE_EVERY {
                self.sampled = Instant::now();
                let fresh = sample(&self.proc, wall_ns());
                // What was there a moment ago is still true, with its time.
                self.samples = if fresh.is_empty() { std::mem::take(&mut self.samples) } else { fresh };
            }
        }
        let sample = &self.samples[self.next];
        self.next += 1;
        let timestamp = wall_ns();
        self.payload.clear();
        // Keys are ours or the kernel's names, escaped when they were read.
        let head = write!(self.payload, "{{\"monitor_id\":{},\"n\":{number},\"at\":{timestamp}", sample.key);
        head.expect("memory takes it");
        self.payload.extend_from_slice(sample.values.as_bytes());
        Line { key: sample.key.trim_matches('"').as_bytes(), payload: &self.payload, timestamp }
    }
}

/// Everything that can be read; what can't is left out.
fn sample(proc: &Path, now_ns: u64) -> Vec<Sample> {
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let mut samples = Samples { now_ns, list: Vec::new() };
    samples.load(&read("loadavg"));
    samples.cpus(&read("stat"));
    samples.named(
        "memory",
        &read("meminfo"),
        &["MemTotal", "MemFree", "MemAvailable", "Cached", "Dirty", "Writeback"],
    );
    samples.named("vm", &read("vmstat"), &["nr_dirty", "pgpgin", "pgpgout", "pgfault", "pgmajfault"]);
    samples.columns(
        "net",
        read("net/dev").lines().filter_map(|line| line.split_once(':')),
        &[
            (0, "rx_bytes"),
            (1, "rx_packets"),
            (2, "rx_errors"),
            (8, "tx_bytes"),
            (9, "tx_packets"),
            (10, "tx_errors"),
        ],
    );
    let disks = read("diskstats");
    let disks = disks.lines().filter_map(|line| {
        let name = line.split_whitespace().nth(2)?;
        let is_real = !name.starts_with("loop") && !name.starts_with("ram");
        is_real.then(|| (name, line.split_once(name).map_or("", |(_, rest)| rest)))
    });
    samples.columns(
        "disk",
        disks,
        &[
            (0, "reads"),
            (2, "sectors_read"),
            (4, "writes"),
            (6, "sectors_written"),
            (8, "in_flight"),
            (9, "io_ms"),
        ],
    );
    samples.list
}

struct Samples {
    now_ns: u64,
    list: Vec<Sample>,
}

impl Samples {
    /// Takes only numbers: whatever else stands there would not be JSON.
    fn add<'a>(&mut self, monitor: &str, values: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut text = String::new();
        for (name, value) in values.filter(|(_, value)| value.parse::<f64>().is_ok_and(f64::is_finite)) {
            text.push_str(&format!(",\"{name}\":{value}"));
        }
        if !text.is_empty() {
            let key = serde_json::Value::from(monitor).to_string();
            self.list.push(Sample { key, values: format!(",\"sampled_at\":{}{text}}}", self.now_ns) });
        }
    }

    fn load(&mut self, text: &str) {
        self.add("load", ["load1", "load5", "load15"].into_iter().zip(text.split_whitespace()));
    }

    fn cpus(&mut self, text: &str) {
        const NAMES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some(cpu) if cpu.starts_with("cpu") => self.add(cpu, NAMES.into_iter().zip(words)),
                Some(name @ ("ctxt" | "processes" | "procs_running")) => {
                    self.add(name, ["count"].into_iter().zip(words));
                }
                _ => {}
            }
        }
    }

    /// Lines of a name and a number.
    fn named(&mut self, monitor: &str, text: &str, wanted: &[&str]) {
        let values = text.lines().filter_map(|line| {
            let mut words = line.split([':', ' ']).filter(|word| !word.is_empty());
            words.next().zip(words.next())
        });
        self.add(monitor, values.filter(|(name, _)| wanted.contains(name)));
    }

    /// A monitor for each line: its name, and columns behind it.
    fn columns<'a>(
        &mut self,
        kind: &str,
        lines: impl Iterator<Item = (&'a str, &'a str)>,
        wanted: &[(usize, &'static str)],
    ) {
        for (name, rest) in lines {
            let columns: Vec<&str> = rest.split_whitespace().collect();
            let values =
                wanted.iter().filter_map(|(index, name)| columns.get(*index).map(|value| (*name, *value)));
            self.add(&format!("{kind}.{}", name.trim()), values);
        }
    }
}

/// The lines of a file; at its end it begins again.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    key: Vec<u8>,
}

/// A line of JSON may say which monitor it is from.
#[derive(Deserialize)]
struct Keyed {
    #[serde(default)]
    monitor_id: String,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path)
            .map_err(|error| Failure::io(format!("cannot read {}", path.display()), error))?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), line: Vec::new(), key: Vec::new() })
    }

    fn next(&mut self) -> Result<Line<'_>, Failure> {
        let failed = |path: &Path, error| Failure::io(format!("cannot read {}", path.display()), error);
        self.line.clear();
        let mut bytes =
            self.file.read_until(b'\n', &mut self.line).map_err(|error| failed(&self.path, error))?;
        if bytes == 0 {
            self.file.rewind().map_err(|error| failed(&self.path, error))?;
            bytes = self.file.read_until(b'\n', &mut self.line).map_err(|error| failed(&self.path, error))?;
        }
        if bytes == 0 {
            let sentence = format!("--input is {}, which is empty: it needs a line", self.path.display());
            return Err(Failure::new(Exit::Usage, sentence));
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        self.key.clear();
        if let Ok(keyed) = serde_json::from_slice::<Keyed>(&self.line) {
            self.key.extend_from_slice(keyed.monitor_id.as_bytes());
        }
        Ok(Line { key: &self.key, payload: &self.line, timestamp: wall_ns() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_sample_of_this_host_is_json_with_its_own_number() {
        let mut source = Source::open(None).unwrap();
        for number in 1..200 {
            let line = source.next(number).unwrap();
            let value: Value = serde_json::from_slice(line.payload).unwrap();
            assert_eq!(value["n"], number);
            assert_eq!(value["monitor_id"].as_str().unwrap().as_bytes(), line.key);
            assert!(value["sampled_at"].as_u64().unwrap() <= value["at"].as_u64().unwrap());
        }
    }

    #[test]
    fn what_is_no_number_is_left_out_and_names_are_escaped() {
        let mut samples = Samples { now_ns: 7, list: Vec::new() };
        samples.load("0.5 inf x 1/2 3");
        samples.columns("net", [("  e\"th", " 12 x")].into_iter(), &[(0, "rx"), (1, "tx"), (9, "far")]);
        samples.named("memory", "MemFree:   12 kB\nOther: 3 kB\n", &["MemFree"]);
        let lines: Vec<_> = samples.list.iter().map(|sample| (&*sample.key, &*sample.values)).collect();
        assert_eq!(
            lines,
            [
                ("\"load\"", ",\"sampled_at\":7,\"load1\":0.5}"),
                ("\"net.e\\\"th\"", ",\"sampled_at\":7,\"rx\":12}"),
                ("\"memory\"", ",\"sampled_at\":7,\"MemFree\":12}"),
            ]
        );
    }

    #[test]
    fn the_lines_of_a_file_come_over_and_over_with_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        fs::write(&path, "{\"monitor_id\":\"m1\"}\nplain").unwrap();
        let mut source = Source::open(Some(&path)).unwrap();
        for _ in 0..3 {
            let line = source.next(1).unwrap();
            assert_eq!((line.key, line.payload), (&b"m1"[..], &b"{\"monitor_id\":\"m1\"}"[..]));
            let line = source.next(1).unwrap();
            assert_eq!((line.key, line.payload), (&b""[..], &b"plain"[..]));
        }
    }

    #[test]
    fn an_empty_file_is_wrong_usage() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut source = Source::open(Some(file.path())).unwrap();
        assert_eq!(source.next(1).unwrap_err().exit(), Exit::Usage);
    }
}
