//! What an operator may choose: one plain struct, its defaults, and the file it is read from.
//!
//! Owns every setting with its default, its range and its effect, and promises an error that names file,
//! line, column, the key and what would be right. It knows no disk and no environment: what depends on
//! the free space is settled by [`Config::sizes`] when somebody has looked.
//!
//! ```
//! use forebay::config::Config;
//!
//! let config = Config::parse("dir = \"/var/lib/forebay\"\n[queue]\nbytes = \"32MiB\"", "forebay.toml")?;
//! assert_eq!(config.queue.bytes, 32 << 20);
//! let error = Config::parse("[queue]\nbites = \"32MiB\"", "forebay.toml").unwrap_err();
//! assert_eq!(error.to_string(), "forebay.toml:2:1: unknown key `queue.bites`; did you mean `queue.bytes`?");
//! # Ok::<(), forebay::Error>(())
//! ```

use std::path::PathBuf;
use std::time::Duration;

pub use crate::io::DirectIo;
use crate::io::{Backend, SyncMethod};
use crate::limits::{GIB, KIB, MIB};

mod check;
mod fields;
mod hint;
mod parse;
pub mod units;

pub use check::{RecordLimit, Sizes};
pub use parse::{Origin, Setting};

/// Every setting of a store and of the agent around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The store's directory. Needed; made (0700) when it is not there.
    pub dir: PathBuf,
    /// When records go to disk. Default `threshold`.
    pub spill: SpillMode,
    /// What an ack of `durable` waits for. Default `group`.
    pub sync: SyncPolicy,
    /// What the store may take of the disk, in bytes; at least 6 segments and 1536 KiB.
    /// Default: the smaller of 10 GiB and half the free space.
    pub disk_bytes_cap: Option<u64>,
    /// What start-up does with damage. Default `gap`.
    pub on_damage: OnDamage,
    /// The queue in memory.
    pub queue: QueueConfig,
    /// Segments on disk.
    pub disk: DiskConfig,
    /// How blocks are written.
    pub write: WriteConfig,
    /// How fast a backlog drains.
    pub governor: GovernorConfig,
    /// How long to wait between tries of a destination.
    pub backoff: BackoffConfig,
    /// Where the agent takes records from.
    pub ingest: IngestConfig,
    /// Where records go; empty for a store that is only written and read. At most one in this version.
    pub sinks: Vec<SinkConfig>,
    /// Where the agent answers questions.
    pub admin: AdminConfig,
}

/// When records go to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpillMode {
    /// When the queue passes its threshold, when the destination is away, or when an append asks for it.
    #[default]
    Threshold,
    /// Every record, first (write-ahead). `spill_to_disk = true` means the same.
    Always,
}

/// What an ack of `durable` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Stable storage: one sync for all records that came meanwhile. Nothing acked is lost.
    #[default]
    Group,
    /// The write; a sync follows within this time (1 ms to 1 h), which is what a power cut costs.
    Interval(Duration),
    /// The write; the kernel syncs when it likes.
    None,
}

/// What start-up does with damage on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Salvages what is whole, names the rest in a gap, and starts.
    #[default]
    Gap,
    /// Refuses to start, and says what `forebay repair` would do.
    Stop,
}

/// What happens to a record that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// The oldest segment goes, as a gap.
    #[default]
    DropOldest,
    /// The new record goes, as a gap.
    DropNewest,
    /// The producer waits.
    Block,
    /// The producer gets its record back.
    Reject,
}

/// The queue in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// Room, in records; 1 to 2^32. Default 262144.
    pub records: u64,
    /// Room, in bytes; 1 MiB to 64 GiB, and at least 8 blocks of `write.batch_bytes`. Default 64 MiB.
    /// Taken once, at open.
    pub bytes: u64,
    /// The share of the room at which spilling begins; above 0, at most 1. Default 0.8.
    pub spill_threshold: f64,
    /// The share of the room at which spilling may end; 0 or more, below `spill_threshold`. Default 0.5.
    pub resume_threshold: f64,
    /// What happens when memory and disk are full. Default `drop_oldest`.
    pub full: FullPolicy,
}

/// Segments on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskConfig {
    /// Bytes of a new segment; 256 KiB to 4 GiB, a multiple of 4096, at most a sixth of the cap.
    /// Default: the smaller of 128 MiB and a sixteenth of the cap. Existing segments keep their size.
    pub segment_bytes: Option<u64>,
    /// Bytes of the disk that are left to others; reaching it is the full policy. Any. Default 1 GiB.
    pub free_bytes_min: u64,
    /// Bytes of spare segments that are kept written and ready, up to the cap. Default: two segments.
    pub warm_bytes: Option<u64>,
    /// Whether segments go around the page cache. Default `auto`.
    pub direct_io: DirectIo,
}

/// How blocks are written.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteConfig {
    /// Bytes of a block, at most; 4 KiB to 1 MiB, a multiple of 4096. Default 256 KiB.
    /// Larger means more throughput, smaller means less to wait for.
    pub batch_bytes: u64,
    /// Blocks in flight at once; 1 to 64. Default 4.
    pub depth: u64,
    /// How long records that nobody waits for may stay in memory; up to 1 h. Default 100 ms.
    /// It is their loss window in a crash.
    pub batch_linger_unawaited: Duration,
    /// Bytes of a payload, at most; 1 B to the smallest of 64 MiB, a quarter of a segment and a quarter
    /// of `queue.bytes`. Default: 16 MiB, or the smallest of these where that is less.
    pub record_bytes_max: Option<u64>,
    /// How a group is made durable. Default `auto`: probed at open.
    pub sync_method: SyncMethod,
    /// Which actor writes. Default `auto`: the ring where the kernel allows it.
    pub backend: Backend,
}

/// How fast a backlog drains.
#[derive(Debug, Clone, PartialEq)]
pub struct GovernorConfig {
    /// Total emission during backfill, as a multiple of the steady state; 1 to 1000. Default 1.5.
    pub factor: f64,
    /// How much of the limit may go out at once; 1 ms to 10 s. Default 100 ms.
    pub burst: Duration,
    /// The time constant of the steady state; 100 ms to 1 h. Default 30 s.
    pub window: Duration,
    /// The limit is never below this; 1 to 10^9 records a second. Default 100.
    pub floor_records_per_second: u64,
    /// The limit is never below this; 1 KiB to 1 TiB a second. Default 64 KiB.
    pub floor_bytes_per_second: u64,
}

/// How long to wait between tries of a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct BackoffConfig {
    /// After the first failure, at most (full jitter); 1 ms to 1 h. Default 1 s.
    pub min: Duration,
    /// After many, at most; `min` to 24 h. Default 60 s.
    pub max: Duration,
}

/// What the agent waits for before it answers a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// The record is in memory.
    Accepted,
    /// The record is written.
    Written,
    /// The record is on stable storage, or delivered.
    #[default]
    Durable,
}

impl Answer {
    /// As it stands in the file and in the answer of ingest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Written => "written",
            Self::Durable => "durable",
        }
    }
}

/// Where the agent takes records from.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestConfig {
    /// `HOST:PORT` for `POST /v1/records`, or `"off"`. Default `127.0.0.1:9600`.
    pub http: Option<String>,
    /// `HOST:PORT` for lines over TCP, or `"off"`. Default off.
    pub tcp: Option<String>,
    /// A socket's path for lines over a Unix stream, or `"off"`. Default off.
    pub unix: Option<PathBuf>,
    /// Lines of standard input. Default false.
    pub stdin: bool,
    /// What an answer to a producer promises. Default `durable`.
    pub answer: Answer,
    /// The string field of a JSON line that is the record's key; empty means none.
    /// Default `monitor_id`.
    pub key_field: String,
}

/// What kind of destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkKind {
    /// Batches over HTTP.
    #[default]
    Http,
    /// Lines on standard output.
    Stdout,
    /// Takes everything and keeps nothing.
    Null,
}

/// In which order a destination gets records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they came.
    #[default]
    Fifo,
}

/// One destination.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// Its name: part of a file name, so 1 to 64 of `a-z 0-9 - _`. Default `default`.
    pub name: String,
    /// What kind. Default `http`.
    pub kind: SinkKind,
    /// Where to (`http://HOST[:PORT]/PATH`). Needed by `http`, meaningless to the others.
    pub url: String,
    /// In which order. Default `fifo`.
    pub order: Order,
    /// Records of a batch, at most; 1 to 1,000,000. Default 5000.
    pub batch_records: u64,
    /// Keys and payloads of a batch, in bytes, at most; 1 KiB to 64 MiB. A larger record goes alone.
    /// Default 1 MiB.
    pub batch_bytes: u64,
    /// How long one send may take; 1 ms to 1 h. Default 10 s.
    pub timeout: Duration,
}

/// Where the agent answers questions.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// `HOST:PORT` of /metrics, /status and the health checks, or `"off"`. Default `127.0.0.1:9601`.
    pub listen: Option<String>,
}

impl Config {
    /// Every default, for the store in `dir`; no sink.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            spill: SpillMode::default(),
            sync: SyncPolicy::default(),
            disk_bytes_cap: None,
            on_damage: OnDamage::default(),
            queue: QueueConfig::default(),
            disk: DiskConfig::default(),
            write: WriteConfig::default(),
            governor: GovernorConfig::default(),
            backoff: BackoffConfig::default(),
            ingest: IngestConfig::default(),
            sinks: Vec::new(),
            admin: AdminConfig::default(),
        }
    }

    /// The commented default file.
    pub fn default_toml() -> &'static str {
        include_str!("config/default.toml")
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            records: 262_144,
            bytes: 64 * MIB,
            spill_threshold: 0.8,
            resume_threshold: 0.5,
            full: FullPolicy::default(),
        }
    }
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { segment_bytes: None, free_bytes_min: GIB, warm_bytes: None, direct_io: DirectIo::default() }
    }
}

impl Default for WriteConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 256 * KIB,
            depth: 4,
            batch_linger_unawaited: Duration::from_millis(100),
            record_bytes_max: None,
            sync_method: SyncMethod::default(),
            backend: Backend::default(),
        }
    }
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self {
            factor: 1.5,
            burst: Duration::from_millis(100),
            window: Duration::from_secs(30),
            floor_records_per_second: 100,
            floor_bytes_per_second: 64 * KIB,
        }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            http: Some("127.0.0.1:9600".into()),
            tcp: None,
            unix: None,
            stdin: false,
            answer: Answer::default(),
            key_field: "monitor_id".into(),
        }
    }
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            name: "default".into(),
            kind: SinkKind::default(),
            url: String::new(),
            order: Order::default(),
            batch_records: 5_000,
            batch_bytes: MIB,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: Some("127.0.0.1:9601".into()) }
    }
}

#[cfg(test)]
mod tests;
