//! What no store could work with: each impossible value in one sentence with key, value and range.
//!
//! Pure. Also settles what depends on other values ([`Config::sizes`]); the free space is an argument.

use std::fmt;
use std::time::Duration;

use super::units::{show_bytes, show_duration};
use super::{Config, SinkConfig, SinkKind, SyncPolicy};
use crate::error::{Error, Kind, Result};
use crate::limits::*;

/// Settings that depend on each other or on the disk, settled. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What the store may take of the disk.
    pub disk_bytes_cap: u64,
    /// The size of a new segment.
    pub segment_bytes: u64,
    /// Spare segments that are kept ready.
    pub warm_bytes: u64,
    /// The largest payload.
    pub record_bytes_max: u64,
    /// What that comes from.
    pub record_limit: RecordLimit,
}

/// What the largest payload comes from: whoever brings a larger one is told what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordLimit {
    /// `write.record_bytes_max`, set or not.
    Setting,
    /// A quarter of `queue.bytes`.
    Queue(u64),
    /// A quarter of a new segment of so many bytes.
    Segment(u64),
    /// A quarter of the smallest slot that the directory has, of so many bytes.
    Slot(u64),
}

impl fmt::Display for RecordLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Setting => f.write_str("raise write.record_bytes_max"),
            Self::Queue(bytes) => write!(f, "a quarter of queue.bytes, {}: raise that", show_bytes(bytes)),
            Self::Segment(bytes) => {
                write!(
                    f,
                    "a quarter of a segment of {}: raise segment_bytes, or disk_bytes_cap",
                    show_bytes(bytes)
                )
            }
            Self::Slot(bytes) => write!(
                f,
                "a quarter of the smallest slot there is, of {}, and slots keep their size: take a new directory \
                 with a larger segment_bytes",
                show_bytes(bytes)
            ),
        }
    }
}

impl Sizes {
    /// The largest payload where the smallest slot has `slot_bytes`, and what it comes from.
    pub fn record_limit(&self, slot_bytes: u64) -> (u64, RecordLimit) {
        let slot = (slot_bytes / RECORDS_PER_SEGMENT_MIN, RecordLimit::Slot(slot_bytes));
        if slot.0 < self.record_bytes_max { slot } else { (self.record_bytes_max, self.record_limit) }
    }
}

/// One impossible value.
pub(super) struct Complaint {
    /// The key to look at first.
    pub key: &'static str,
    /// The whole sentence.
    pub sentence: String,
}

type Checked = std::result::Result<(), Complaint>;

impl Config {
    /// Whether a store can work with these values.
    ///
    /// # Errors
    /// [`Kind::Config`]: one sentence that names the key, its value and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.complaint().map_or(Ok(()), |complaint| Err(Error::new(Kind::Config, complaint.sentence)))
    }

    /// Whether an agent can work with these values: [`Config::check`], and there is a destination.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn check_agent(&self) -> Result<()> {
        self.check()?;
        if self.sinks.is_empty() {
            let example = "write [sink] and url = \"http://127.0.0.1:9700/v1/records\"";
            return Err(Error::new(Kind::Config, format!("no destination is set; {example}")));
        }
        Ok(())
    }

    /// Settles what depends on the disk. `free_bytes` is its free space and what the store already holds,
    /// so that a cap that nobody set does not shrink with each open.
    ///
    /// # Errors
    /// [`Kind::Config`] when what is set does not fit what the disk has.
    pub fn sizes(&self, free_bytes: u64) -> Result<Sizes> {
        let cap = self.disk_bytes_cap.unwrap_or_else(|| (free_bytes / 2).min(DISK_BYTES_CAP_DEFAULT));
        // An unset cap on a nearly full disk: the smallest store there is, and the full policy does the rest.
        let cap = if self.disk_bytes_cap.is_none() { cap.max(self.cap_bytes_min()) } else { cap };
        self.check_cap(cap).map_err(|complaint| Error::new(Kind::Config, complaint.sentence))?;
        let segment_bytes = self.segment_bytes(cap);
        let warm = self.disk.warm_bytes.unwrap_or(WARM_SLOT_COUNT_DEFAULT * segment_bytes);
        let (record_bytes_max, record_limit) = self.record_bytes_max(segment_bytes);
        Ok(Sizes {
            disk_bytes_cap: cap,
            segment_bytes,
            warm_bytes: warm.min(cap),
            record_bytes_max,
            record_limit,
        })
    }

    /// The size of a new segment under a cap of `cap` bytes.
    fn segment_bytes(&self, cap: u64) -> u64 {
        self.disk.segment_bytes.unwrap_or_else(|| {
            let share = (cap / SEGMENTS_PER_CAP_DEFAULT).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_DEFAULT);
            share / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT
        })
    }

    fn record_bytes_max(&self, segment_bytes: u64) -> (u64, RecordLimit) {
        let setting = self.write.record_bytes_max.unwrap_or(RECORD_BYTES_MAX_DEFAULT);
        let limits = [
            (setting, RecordLimit::Setting),
            (segment_bytes / RECORDS_PER_SEGMENT_MIN, RecordLimit::Segment(segment_bytes)),
            (self.queue.bytes / RECORDS_PER_QUEUE_MIN, RecordLimit::Queue(self.queue.bytes)),
        ];
        // Of equals the setting, which is looked at first.
        limits.into_iter().min_by_key(|(bytes, _)| *bytes).expect("there are three")
    }

    fn record_bytes_ceiling(&self, segment_bytes: u64) -> u64 {
        let of_segment = segment_bytes / RECORDS_PER_SEGMENT_MIN;
        RECORD_BYTES_CEILING.min(of_segment).min(self.queue.bytes / RECORDS_PER_QUEUE_MIN)
    }

    /// The smallest cap that the segment size allows.
    fn cap_bytes_min(&self) -> u64 {
        SLOT_COUNT_MIN * self.disk.segment_bytes.unwrap_or(SEGMENT_BYTES_MIN)
    }

    pub(super) fn complaint(&self) -> Option<Complaint> {
        self.checked().err()
    }

    fn checked(&self) -> Checked {
        if self.dir.as_os_str().is_empty() {
            return complain("dir", "`dir` must name the store's directory, it is empty");
        }
        self.check_queue()?;
        self.check_write()?;
        self.check_segment()?;
        self.check_cap(self.disk_bytes_cap.unwrap_or(DISK_BYTES_CAP_DEFAULT))?;
        self.check_governor()?;
        self.check_backoff()?;
        self.check_ingest()?;
        if self.sinks.len() > 1 {
            return complain("sink.name", "several destinations come with a later version; keep one sink");
        }
        self.sinks.first().map_or(Ok(()), check_sink)?;
        check_address("admin.listen", self.admin.listen.as_deref())
    }

    fn check_queue(&self) -> Checked {
        let queue = &self.queue;
        count("queue.records", queue.records, 1, QUEUE_RECORDS_MAX)?;
        bytes("queue.bytes", queue.bytes, QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)?;
        let spill = queue.spill_threshold;
        if !(spill > 0.0 && spill <= 1.0) {
            return complain(
                "queue.spill_threshold",
                format!("`queue.spill_threshold` is {spill}; it must be above 0 and at most 1"),
            );
        }
        let resume = queue.resume_threshold;
        if !(resume >= 0.0 && resume < spill) {
            let range = format!("it must be 0 or more and below `queue.spill_threshold` ({spill})");
            return complain(
                "queue.resume_threshold",
                format!("`queue.resume_threshold` is {resume}; {range}"),
            );
        }
        Ok(())
    }

    fn check_write(&self) -> Checked {
        let write = &self.write;
        bytes("write.batch_bytes", write.batch_bytes, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX as u64)?;
        aligned("write.batch_bytes", write.batch_bytes)?;
        count("write.depth", write.depth, 1, WRITE_DEPTH_MAX)?;
        time("write.batch_linger_unawaited", write.batch_linger_unawaited, Duration::ZERO, HOUR)?;
        if let SyncPolicy::Interval(interval) = self.sync {
            time("sync", interval, MILLISECOND, HOUR)?;
        }
        // The active block, one group that syncs, one that is written: with fewer blocks nothing overlaps.
        let needed = write.batch_bytes * QUEUE_BLOCKS_MIN;
        if self.queue.bytes < needed {
            let (is, least) = (show_bytes(self.queue.bytes), show_bytes(needed));
            let range = format!("it must be at least {least}, {QUEUE_BLOCKS_MIN} times `write.batch_bytes`");
            return complain("queue.bytes", format!("`queue.bytes` is {is}; {range}"));
        }
        Ok(())
    }

    fn check_segment(&self) -> Checked {
        let Some(segment_bytes) = self.disk.segment_bytes else { return Ok(()) };
        bytes("disk.segment_bytes", segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?;
        aligned("disk.segment_bytes", segment_bytes)
    }

    /// What must hold under a cap of `cap` bytes.
    fn check_cap(&self, cap: u64) -> Checked {
        let least = self.cap_bytes_min();
        if cap < least {
            let (is, least) = (show_bytes(cap), show_bytes(least));
            let range = match self.disk.segment_bytes {
                Some(segment) => format!("{SLOT_COUNT_MIN} segments of {}", show_bytes(segment)),
                None => format!("{SLOT_COUNT_MIN} of the smallest segments"),
            };
            let sentence = format!("`disk_bytes_cap` is {is}; it must be at least {least} ({range})");
            return complain("disk_bytes_cap", sentence);
        }
        let Some(record) = self.write.record_bytes_max else { return Ok(()) };
        let segment_bytes = self.segment_bytes(cap);
        let ceiling = self.record_bytes_ceiling(segment_bytes);
        if record < 1 || record > ceiling {
            let queue = show_bytes(self.queue.bytes);
            let sentence = format!(
                "`write.record_bytes_max` is {}; it must be 1B to {}, the smallest of 64MiB, a quarter of a \
                 segment ({}) and a quarter of `queue.bytes` ({queue})",
                show_bytes(record),
                show_bytes(ceiling),
                show_bytes(segment_bytes),
            );
            return complain("write.record_bytes_max", sentence);
        }
        Ok(())
    }

    fn check_governor(&self) -> Checked {
        let governor = &self.governor;
        if !(governor.factor >= 1.0 && governor.factor <= 1_000.0) {
            let range = "it must be 1 to 1000: below 1 a backlog never drains";
            return complain("governor.factor", format!("`governor.factor` is {}; {range}", governor.factor));
        }
        time("governor.burst", governor.burst, MILLISECOND, Duration::from_secs(10))?;
        time("governor.window", governor.window, Duration::from_millis(100), HOUR)?;
        count("governor.floor_records_per_second", governor.floor_records_per_second, 1, 1_000_000_000)?;
        bytes("governor.floor_bytes_per_second", governor.floor_bytes_per_second, KIB, 1 << 40)
    }

    fn check_backoff(&self) -> Checked {
        time("backoff.min", self.backoff.min, MILLISECOND, HOUR)?;
        time("backoff.max", self.backoff.max, self.backoff.min, 24 * HOUR)
    }

    fn check_ingest(&self) -> Checked {
        check_address("ingest.http", self.ingest.http.as_deref())?;
        check_address("ingest.tcp", self.ingest.tcp.as_deref())?;
        if self.ingest.unix.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return complain("ingest.unix", "`ingest.unix` is empty; it must be a path, or \"off\"");
        }
        Ok(())
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// The queue holds at least this many full blocks.
const QUEUE_BLOCKS_MIN: u64 = 8;

fn check_sink(sink: &SinkConfig) -> Checked {
    let name = &sink.name;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > DESTINATION_NAME_BYTES_MAX || !name.chars().all(good) {
        let range = format!("it must be 1 to {DESTINATION_NAME_BYTES_MAX} of a-z 0-9 - _");
        return complain("sink.name", format!("`sink.name` is \"{name}\"; {range}"));
    }
    if sink.kind == SinkKind::Http {
        check_url(&sink.url)?;
    }
    count("sink.batch_records", sink.batch_records, 1, SINK_BATCH_RECORDS_MAX)?;
    bytes("sink.batch_bytes", sink.batch_bytes, KIB, SINK_BATCH_BYTES_MAX)?;
    time("sink.timeout", sink.timeout, MILLISECOND, HOUR)
}

fn check_url(url: &str) -> Checked {
    const EXAMPLE: &str = "such as \"http://127.0.0.1:9700/v1/records\"";
    if url.is_empty() {
        return complain(
            "sink.url",
            format!("`sink.url` is not set; a sink of kind http needs one, {EXAMPLE}"),
        );
    }
    let host = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(""));
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if host.is_none_or(|host| host.is_empty() || host.starts_with(':')) || url.contains(bad) {
        // What may hold a secret is not repeated.
        let shown = if url.contains(['@', '?']) { "***" } else { url };
        return complain(
            "sink.url",
            format!("`sink.url` is \"{shown}\"; it must be http://HOST[:PORT]/PATH, {EXAMPLE}"),
        );
    }
    Ok(())
}

fn check_address(key: &'static str, address: Option<&str>) -> Checked {
    let Some(address) = address else { return Ok(()) };
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        let range = "it must be HOST:PORT, such as \"127.0.0.1:9600\", or \"off\"";
        return complain(key, format!("`{key}` is \"{address}\"; {range}"));
    }
    Ok(())
}

fn complain(key: &'static str, sentence: impl Into<String>) -> Checked {
    Err(Complaint { key, sentence: sentence.into() })
}

fn count(key: &'static str, value: u64, least: u64, most: u64) -> Checked {
    within(key, value, least, most, |value| value.to_string())
}

fn bytes(key: &'static str, value: u64, least: u64, most: u64) -> Checked {
    within(key, value, least, most, show_bytes)
}

fn time(key: &'static str, value: Duration, least: Duration, most: Duration) -> Checked {
    within(key, value, least, most, show_duration)
}

fn within<T: Copy + PartialOrd>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
    show: impl Fn(T) -> String,
) -> Checked {
    if value >= least && value <= most {
        return Ok(());
    }
    complain(key, format!("`{key}` is {}; it must be {} to {}", show(value), show(least), show(most)))
}

fn aligned(key: &'static str, value: u64) -> Checked {
    if value.is_multiple_of(BLOCK_ALIGNMENT) {
        return Ok(());
    }
    let below = show_bytes(value / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT);
    complain(key, format!("`{key}` is {}; it must be a multiple of 4KiB, such as {below}", show_bytes(value)))
}
