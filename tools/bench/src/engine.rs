//! The engine as a bench opens it: a store of bounded size, its payload, and slots that come round again.
//!
//! All defaults that a bench does not say otherwise; every record goes to the log, and a producer waits for room.
//! Nothing reads what was written, so the one destination is confirmed from time to time: the agent's steady state,
//! in which slots are recycled.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::config::{FullPolicy, SpillMode, SyncPolicy};
use forebay::io::{Backend, SyncMethod};
use forebay::segment::writer::WriterCounts;
use forebay::store::{DEFAULT_DESTINATION, Level};
use forebay::{Config, Error, Kind, Record, Result, Store};
use serde_json::{Value, json};

use crate::Bench;
use crate::environment::Environment;
use crate::process::{self, Meter, Used};
use crate::raw::PAGE_BYTES;
use crate::runner::Sample;
use crate::stats::Random;

/// How often a producer looks round, in records.
pub(crate) const LOOK_EVERY: u64 = 1024;

/// Bytes of a segment, at most: the engine's own default.
const SEGMENT_BYTES_MAX: u64 = 128 << 20;
const SEGMENT_BYTES_MIN: u64 = 256 << 10;

/// Bytes of a block beside its records, at most.
pub(crate) const BLOCK_BYTES_BESIDE: u64 = 256;

/// What `state`, cursors and gaps take.
const METADATA_BYTES: u64 = 2 << 20;

/// What a process takes beside its arena, in bytes.
const MEMORY_BESIDE: u64 = 64 << 20;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// What durable means.
    pub sync: SyncPolicy,
    /// How a group is made durable.
    pub sync_method: SyncMethod,
    /// How the disk is written.
    pub backend: Backend,
    /// Bytes of a block, at most.
    pub batch_bytes: u64,
    /// Blocks in flight.
    pub depth: u64,
    /// Bytes of the queue in memory.
    pub queue_bytes: u64,
    /// Bytes of disk for the store, at most; as much again is the raw device's.
    pub disk_bytes: u64,
}

impl Engine {
    /// Bytes of a record in the log, its header included.
    pub(crate) fn record_bytes(&self) -> u64 {
        Record::new(&self.payload(), 0).encoded_bytes() as u64
    }

    /// What a record takes of the disk, at most, where blocks are full: each has a header and is padded.
    pub(crate) fn bulk_bytes_max(&self) -> u64 {
        let block_records =
            (self.batch_bytes.saturating_sub(BLOCK_BYTES_BESIDE) / self.record_bytes()).max(1);
        self.record_bytes() + (PAGE_BYTES + BLOCK_BYTES_BESIDE).div_ceil(block_records)
    }

    /// The same bytes for every record, and in every run.
    pub(crate) fn payload(&self) -> Vec<u8> {
        Random::new(0x0f0e_bae0).bytes(self.payload_bytes)
    }

    /// What a bench says of it in its options.
    pub(crate) fn options(&self) -> Value {
        json!({
            "payload_bytes": self.payload_bytes,
            "sync": match self.sync {
                SyncPolicy::Group => "group".to_owned(),
                SyncPolicy::Interval(time) => format!("interval={}ms", time.as_millis()),
                SyncPolicy::None => "none".to_owned(),
            },
            "sync_method": self.sync_method,
            "backend": self.backend,
            "batch_bytes": self.batch_bytes,
            "depth": self.depth,
            "queue_bytes": self.queue_bytes,
        })
    }

    /// What a store for `log_bytes` takes of the disk: six segments at least, and three more than are full.
    pub(crate) fn cap_bytes(&self, log_bytes: u64) -> u64 {
        let segment_bytes = Self::segment_bytes(log_bytes);
        (log_bytes.div_ceil(segment_bytes) + 3).max(6) * segment_bytes + METADATA_BYTES
    }

    fn segment_bytes(log_bytes: u64) -> u64 {
        (log_bytes / 6).next_multiple_of(SEGMENT_BYTES_MIN).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    /// The configuration of a store with room for `log_bytes`.
    pub(crate) fn config(&self, dir: &Path, log_bytes: u64) -> Config {
        let mut config = Config::new(dir);
        config.spill = SpillMode::Always;
        config.sync = self.sync;
        config.queue.full = FullPolicy::Block;
        config.queue.bytes = self.queue_bytes;
        config.disk_bytes_cap = Some(self.cap_bytes(log_bytes));
        config.disk.segment_bytes = Some(Self::segment_bytes(log_bytes));
        // The directory was asked for all the room before.
        config.disk.free_bytes_min = 0;
        config.write.batch_bytes = self.batch_bytes;
        config.write.depth = self.depth;
        config.write.sync_method = self.sync_method;
        config.write.backend = self.backend;
        config
    }

    /// What a backlog of so many records takes of the disk, at most.
    pub(crate) fn backlog_bytes(&self, records: u64) -> u64 {
        (records * self.bulk_bytes_max()).next_multiple_of(1 << 20).max(4 << 20)
    }

    /// Makes a store with a backlog of so many records, and closes it.
    pub(crate) fn fill(&self, bench: &Bench<'_>, dir: &Path, records: u64) -> Result<()> {
        let opened = Opened::open(self, dir.to_owned(), self.backlog_bytes(records), u64::MAX)?;
        for index in 1..=records {
            opened.store.append_blocking(&Record::new(&opened.payload, index), Level::Accepted)?;
            if index % LOOK_EVERY == 0 {
                bench.goes_on()?;
            }
        }
        opened.store.close()
    }

    /// # Errors
    /// `Config` for a payload that no default store takes; `Unsupported` when the control group has no room for the
    /// queue.
    pub(crate) fn check(&self, environment: &Environment) -> Result<()> {
        if self.payload_bytes as u64 > 1 << 20 {
            return Err(Error::new(Kind::Config, "a payload is at most 1 MiB here: ask for less"));
        }
        let needed = self.queue_bytes + MEMORY_BESIDE;
        match environment.memory_bytes_max.filter(|&bytes| bytes < needed) {
            None => Ok(()),
            Some(bytes) => {
                let sentence = format!(
                    "the control group allows {} MiB of memory and this run takes {} MiB: ask for a smaller --queue-bytes",
                    bytes >> 20,
                    needed >> 20
                );
                Err(Error::new(Kind::Unsupported, sentence))
            }
        }
    }
}

/// A store with what a bench needs beside it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) payload: Vec<u8>,
    pub(crate) dir: PathBuf,
    record_bytes: u64,
    recycler: Recycler,
}

/// Confirms what is durable whenever it is so many records: any producer may, one does.
#[derive(Debug)]
struct Recycler {
    every: u64,
    confirmed: AtomicU64,
    turn: Mutex<()>,
}

impl Opened {
    /// Opens a store with room for `log_bytes`, of which `every` records are a quarter or less.
    pub(crate) fn open(engine: &Engine, dir: PathBuf, log_bytes: u64, every: u64) -> Result<Self> {
        let store = Store::open(&engine.config(&dir, log_bytes))?;
        let recycler = Recycler { every: every.max(1), confirmed: AtomicU64::new(0), turn: Mutex::new(()) };
        Ok(Self { store, payload: engine.payload(), dir, record_bytes: engine.record_bytes(), recycler })
    }

    /// To be called by producers now and then, so that a lap longer than the store finds room.
    pub(crate) fn tend(&self) -> Result<()> {
        let durable = self.store.marks().durable();
        if durable < self.recycler.confirmed.load(Ordering::Relaxed).saturating_add(self.recycler.every) {
            return Ok(());
        }
        match self.recycler.turn.try_lock() {
            Ok(_turn) => self.recycle(durable),
            Err(_) => Ok(()),
        }
    }

    /// Everything so far is confirmed: its slots are written again.
    pub(crate) fn recycle(&self, through: u64) -> Result<()> {
        let destination = self.store.destination(DEFAULT_DESTINATION)?;
        let _ = destination.confirm(through);
        destination.persist_twice()?;
        self.recycler.confirmed.store(through, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `work`, which appends until it is durable, and says what it took.
    pub(crate) fn measure(&self, work: impl FnOnce() -> Result<()>) -> Result<Sample> {
        let (before, first) = (self.store.counts(), self.store.next_sequence());
        process::forget_peak();
        let meter = Meter::start();
        work()?;
        let used = meter.stop();
        let records = self.store.next_sequence() - first;
        Ok(self.sample(records, &used, before, self.store.counts()))
    }

    fn sample(&self, records: u64, used: &Used, before: WriterCounts, after: WriterCounts) -> Sample {
        let seconds = used.wall.as_secs_f64();
        let (count, logged) = (records as f64, (records * self.record_bytes) as f64);
        let (syncs, blocks) = ((after.syncs - before.syncs) as f64, (after.blocks - before.blocks) as f64);
        let mut sample = Sample::default();
        sample.set("records_per_second", count / seconds);
        sample.set("payload_megabytes_per_second", count * self.payload.len() as f64 / 1e6 / seconds);
        sample.set("logged_bytes_per_second", logged / seconds);
        sample.set("cpu_ns_per_record", used.cpu.as_nanos() as f64 / count);
        sample.set("syncs_per_second", syncs / seconds);
        sample.set_known("acks_per_sync", (syncs > 0.0).then(|| count / syncs));
        // Without a ring each operation is a call of its own, and none is counted.
        let enters = after.enters - before.enters;
        sample.set_known("enters_per_block", (enters > 0).then(|| enters as f64 / blocks));
        sample.set_known("bytes_written", used.written.map(|bytes| bytes as f64));
        sample.set_known("write_amplification", used.written.map(|bytes| bytes as f64 / logged));
        sample.set("cold_activations", (after.slots - before.slots) as f64);
        sample.set_known("peak_memory_bytes", process::peak_memory_bytes().map(|bytes| bytes as f64));
        sample
    }
}
