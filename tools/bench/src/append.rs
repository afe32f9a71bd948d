//! `forebay bench append`: producers to the log, as fast as they can, closed loop.
//!
//! Beside it, in every round: the raw device with the same block size, depth and sync cadence, overwriting or freshly
//! allocated as the store's slots are; and for producers that run ahead, the copy probe, the floor of processor time.
//! Where each append is awaited, the raw device makes one block durable at a time: the best that a group commit of
//! all producers can do.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::config::SyncPolicy;
use forebay::store::Level;
use forebay::{Error, Kind, Record, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::engine::{BLOCK_BYTES_BESIDE, Engine, LOOK_EVERY, Opened};
use crate::environment::Environment;
use crate::latencies::{Latencies, Names};
use crate::place::{Place, remove};
use crate::raw::{self, Cadence, Length, Load, PAGE_BYTES, RawFile, Shape};
use crate::report::Report;
use crate::runner::{self, Lane, Sample};
use crate::{Amount, Bench};

/// How many records show how fast it is, where they are not awaited.
const CALIBRATION_RECORDS: u64 = 100_000;

/// How often every slot is written before slots count as warm: spares are taken in turns.
const WARMING_LAPS: u32 = 2;

/// What slots of awaited appends take, at most: the device is far from busy.
const AWAITED_BYTES_MAX: u64 = 256 << 20;

/// How often it is looked whether tasks shall end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the raw device is measured beside awaited appends, in seconds.
const RAW_SECONDS: f64 = 0.5;

/// What a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// For room only, and at the end until all is durable.
    Pipelined,
    /// Until all is durable, after each so many records.
    Barrier(u64),
    /// Until each record is durable, a thread a producer.
    Each,
    /// The same, a task a producer, on a runtime.
    Tasks,
}

/// What to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// The engine's settings.
    pub engine: Engine,
    /// How many producers.
    pub producers: usize,
    /// What they wait for.
    pub waits: Waits,
    /// A lap, all producers together.
    pub amount: Amount,
    /// Each lap goes into a new store.
    pub cold: bool,
}

impl Append {
    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the engine refuses.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        self.check()?;
        let log_bytes = self.log_bytes();
        let place = Place::take(bench.dir, self.engine.cap_bytes(log_bytes) + log_bytes)?;
        let environment = Environment::probe(place.path(), bench.commit);
        self.engine.check(&environment)?;
        let raw = RefCell::new(RawFile::make(&place.join("raw"), log_bytes)?);
        let side = Side { append: self, raw: &raw, payload: self.engine.payload() };
        let ours = Ours::new(self, bench, &place, log_bytes)?;
        if !self.cold {
            raw.borrow().fill()?;
        }
        let mut report = Report::new("append", self.options(), environment);
        ours.describe(&mut report);
        let records = ours.records;
        let mut lanes: Vec<Lane<'_>> = vec![Box::new(|| ours.lap()), Box::new(|| side.blocks(records))];
        if !self.awaits() {
            lanes.push(Box::new(|| side.copies(records)));
        }
        let laps = runner::run(bench, &mut lanes)?;
        drop(lanes);
        laps.iter().for_each(|samples| report.add(samples));
        self.conclude(&mut report);
        ours.close()?;
        Ok(report)
    }

    fn check(&self) -> Result<()> {
        let refused = |sentence: &str| Err(Error::new(Kind::Config, sentence));
        match (self.waits, self.amount) {
            (Waits::Barrier(0), _) => refused("a barrier after 0 records is none: ask for 1 or more"),
            (_, Amount::Records(0)) => refused("0 records take no time: ask for 1 or more"),
            (_, Amount::Seconds(seconds)) if !(seconds > 0.0 && seconds <= 3600.0) => {
                refused("a lap takes more than no time, and an hour at most")
            }
            _ if self.producers == 0 => refused("nobody appends: ask for 1 producer or more"),
            _ => Ok(()),
        }
    }

    fn awaits(&self) -> bool {
        matches!(self.waits, Waits::Each | Waits::Tasks)
    }

    /// What a record takes of the disk, at most: when it is awaited, a block of its own.
    fn record_bytes_max(&self) -> u64 {
        let engine = &self.engine;
        match self.waits {
            Waits::Pipelined => engine.bulk_bytes_max(),
            Waits::Barrier(records) => engine.bulk_bytes_max() + PAGE_BYTES.div_ceil(records),
            Waits::Each | Waits::Tasks => {
                (engine.record_bytes() + BLOCK_BYTES_BESIDE).next_multiple_of(PAGE_BYTES)
            }
        }
    }

    /// What a lap takes of the disk; less than it writes where slots come round within the lap.
    fn log_bytes(&self) -> u64 {
        let room = self.engine.disk_bytes;
        match self.amount {
            Amount::Records(records) => room.min(records.saturating_mul(self.record_bytes_max())),
            Amount::Seconds(_) if self.awaits() => room.min(AWAITED_BYTES_MAX),
            Amount::Seconds(_) => room,
        }
        .max(4 << 20)
    }

    fn options(&self) -> Value {
        let mut options = self.engine.options();
        options["producers"] = self.producers.into();
        options["waits"] = match self.waits {
            Waits::Pipelined => "pipelined".into(),
            Waits::Barrier(records) => format!("barrier {records}").into(),
            Waits::Each => "each".into(),
            Waits::Tasks => "each, tasks".into(),
        };
        match self.amount {
            Amount::Records(records) => options["records"] = records.into(),
            Amount::Seconds(seconds) => options["seconds"] = seconds.into(),
        }
        options["cold"] = self.cold.into();
        options
    }

    fn conclude(&self, report: &mut Report) {
        report.add_ratio("ratio_to_raw_limit", "logged_bytes_per_second", "raw_limit_bytes_per_second");
        report.add_ratio("ratio_to_copy", "records_per_second", "copy_records_per_second");
        report.add_ratio("cpu_ratio_to_copy", "cpu_ns_per_record", "copy_cpu_ns_per_record");
        report.add_ratio("p50_ratio_to_raw", "p50_ns", "raw_p50_ns");
        let cold =
            report.rounds("cold_activations").is_some_and(|laps| laps.iter().any(|&count| count > 0.0));
        report.state("warm", !self.cold && !cold);
        if cold && !self.cold {
            report.note("slots were made while it was measured, so the figures are not those of warm slots");
        }
    }
}

/// The lanes of the raw device.
struct Side<'a> {
    append: &'a Append,
    raw: &'a RefCell<RawFile>,
    payload: Vec<u8>,
}

impl Side<'_> {
    fn shape(&self) -> Shape {
        let engine = &self.append.engine;
        let shape =
            |block_bytes, depth, cadence| Shape { block_bytes, depth, cadence, backend: engine.backend };
        if self.append.awaits() {
            let group = self.append.producers as u64 * engine.record_bytes() + BLOCK_BYTES_BESIDE;
            let block_bytes = group.next_multiple_of(PAGE_BYTES).min(engine.batch_bytes);
            return shape(block_bytes, 1, Cadence::Each);
        }
        let cadence = match (self.append.waits, engine.sync) {
            (_, SyncPolicy::Interval(_) | SyncPolicy::None) => Cadence::Once,
            (Waits::Barrier(records), _) => Cadence::Barrier(records * engine.record_bytes()),
            _ => Cadence::Pipelined,
        };
        shape(engine.batch_bytes, engine.depth as usize, cadence)
    }

    fn write(&self, length: Length, load: Load<'_>) -> Result<raw::Lap> {
        if self.append.cold {
            self.raw.borrow_mut().freshen()?;
        }
        self.raw.borrow().write(self.shape(), length, load)
    }

    fn blocks(&self, records: u64) -> Result<Sample> {
        let record_bytes = self.append.engine.record_bytes();
        if !self.append.awaits() {
            return Ok(raw::sample(&self.write(Length::Bytes(records * record_bytes), Load::Blocks)?, None));
        }
        let lap = self.write(Length::Time(Duration::from_secs_f64(RAW_SECONDS)), Load::Blocks)?;
        // Each block carries a record of each producer.
        Ok(raw::sample(&lap, Some(self.append.producers as u64 * record_bytes)))
    }

    fn copies(&self, records: u64) -> Result<Sample> {
        let length = Length::Bytes(records * self.append.engine.record_bytes());
        Ok(raw::copy_sample(&self.write(length, Load::Records(&self.payload))?))
    }
}

/// The lane of the engine.
struct Ours<'a> {
    append: &'a Append,
    bench: &'a Bench<'a>,
    dir: std::path::PathBuf,
    log_bytes: u64,
    records: u64,
    /// Open throughout where slots are warm.
    warm: Option<Arc<Opened>>,
    /// What the write device of a store is.
    device: forebay::io::DeviceInfo,
}

impl<'a> Ours<'a> {
    /// Opens a store, and finds out how many records a lap has; if slots are to be warm, writes all of them.
    fn new(append: &'a Append, bench: &'a Bench<'a>, place: &Place, log_bytes: u64) -> Result<Self> {
        let device = forebay::io::DeviceInfo { backend: "", reason: String::new(), registered_slots: 0 };
        let (dir, warm) = (place.join("store"), None);
        let mut ours = Self { append, bench, dir, log_bytes, records: 0, warm, device };
        let opened = ours.open()?;
        ours.device = opened.store.device().clone();
        ours.records = ours.calibrate(&opened)?;
        opened.recycle(opened.store.next_sequence() - 1)?;
        if append.cold {
            ours.end(opened)?;
            return Ok(ours);
        }
        for _ in 0..WARMING_LAPS {
            ours.write_every_slot(&opened)?;
        }
        ours.warm = Some(opened);
        Ok(ours)
    }

    fn open(&self) -> Result<Arc<Opened>> {
        let record_bytes_max = self.append.record_bytes_max();
        // A lap that fits is not interrupted: its slots are recycled after it.
        let every = match self.append.amount {
            Amount::Records(records) if records.saturating_mul(record_bytes_max) <= self.log_bytes => {
                u64::MAX
            }
            _ => self.log_bytes / 4 / record_bytes_max,
        };
        Opened::open(&self.append.engine, self.dir.clone(), self.log_bytes, every).map(Arc::new)
    }

    /// Appends as much as the store holds, and lets go of it.
    fn write_every_slot(&self, opened: &Opened) -> Result<()> {
        for index in 0..self.log_bytes / self.append.engine.bulk_bytes_max() {
            opened.store.append_blocking(&Record::new(&opened.payload, index), Level::Accepted)?;
            if index % LOOK_EVERY == 0 {
                self.bench.goes_on()?;
            }
        }
        let last = opened.store.next_sequence() - 1;
        opened.store.wait(last, Level::Durable, None)?;
        opened.recycle(last)
    }

    /// How many records take as long as was asked for.
    fn calibrate(&self, opened: &Arc<Opened>) -> Result<u64> {
        let seconds = match self.append.amount {
            Amount::Records(records) => return Ok(records),
            Amount::Seconds(seconds) => seconds,
        };
        let records =
            if self.append.awaits() { 100 * self.append.producers as u64 } else { CALIBRATION_RECORDS };
        let begun = Instant::now();
        self.produce(opened, records, &Arc::new(Latencies::new(1)))?;
        Ok(((records as f64 / begun.elapsed().as_secs_f64() * seconds) as u64)
            .max(self.append.producers as u64))
    }

    fn lap(&self) -> Result<Sample> {
        let Some(opened) = &self.warm else {
            let opened = self.open()?;
            let sample = self.measure(&opened)?;
            self.end(opened)?;
            return Ok(sample);
        };
        let sample = self.measure(opened)?;
        opened.recycle(opened.store.next_sequence() - 1)?;
        Ok(sample)
    }

    fn measure(&self, opened: &Arc<Opened>) -> Result<Sample> {
        let latencies = Arc::new(Latencies::new(self.append.producers.min(16)));
        let mut sample = opened.measure(|| self.produce(opened, self.records, &latencies))?;
        let names = Names { p50: "p50_ns", p99: "p99_ns", p999: "p999_ns", most: "max_ns" };
        latencies.figures(&names, &mut sample);
        Ok(sample)
    }

    fn end(&self, opened: Arc<Opened>) -> Result<()> {
        let dir = opened.dir.clone();
        close(opened)?;
        remove(&dir)
    }

    fn close(self) -> Result<()> {
        self.warm.map_or(Ok(()), close)
    }

    fn describe(&self, report: &mut Report) {
        report.state("backend", self.device.backend);
        report.state("registered_slots", self.device.registered_slots);
        if !self.device.reason.is_empty() {
            report.note(format!("the write device is {}: {}", self.device.backend, self.device.reason));
        }
    }

    fn produce(&self, opened: &Arc<Opened>, records: u64, latencies: &Arc<Latencies>) -> Result<()> {
        let producers = self.append.producers as u64;
        let share = |producer: u64| records / producers + u64::from(producer < records % producers);
        if self.append.waits == Waits::Tasks {
            return self.produce_in_tasks(opened, share, latencies);
        }
        std::thread::scope(|scope| {
            let spawned: Vec<_> = (0..producers)
                .map(|producer| {
                    scope.spawn(move || match self.append.waits {
                        Waits::Pipelined => self.produce_ahead(opened, share(producer), u64::MAX),
                        Waits::Barrier(group) => self.produce_ahead(opened, share(producer), group),
                        Waits::Each | Waits::Tasks => {
                            self.produce_awaited(opened, producer, share(producer), latencies)
                        }
                    })
                })
                .collect();
            spawned.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(died())))
        })
    }

    fn produce_ahead(&self, opened: &Opened, records: u64, group: u64) -> Result<()> {
        let mut last = 0;
        for index in 1..=records {
            last = opened.store.append_blocking(&Record::new(&opened.payload, index), Level::Accepted)?;
            if index % group == 0 {
                opened.store.wait(last, Level::Durable, None)?;
            }
            if index % LOOK_EVERY == 0 {
                self.bench.goes_on()?;
                opened.tend()?;
            }
        }
        opened.store.wait(last, Level::Durable, None).map(drop)
    }

    fn produce_awaited(
        &self,
        opened: &Opened,
        producer: u64,
        records: u64,
        latencies: &Latencies,
    ) -> Result<()> {
        for index in 0..records {
            let begun = Instant::now();
            opened.store.append_blocking(&Record::new(&opened.payload, index), Level::Durable)?;
            latencies.record(producer as usize, begun.elapsed());
            self.bench.goes_on()?;
            opened.tend()?;
        }
        Ok(())
    }

    fn produce_in_tasks(
        &self,
        opened: &Arc<Opened>,
        share: impl Fn(u64) -> u64,
        latencies: &Arc<Latencies>,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
        let runtime = runtime.map_err(|error| Error::io("no runtime can be had: see the cause", error))?;
        let _inside = runtime.enter();
        let mut tasks = JoinSet::new();
        for producer in 0..self.append.producers as u64 {
            let (opened, latencies, records) = (Arc::clone(opened), Arc::clone(latencies), share(producer));
            tasks.spawn(async move { append_awaited(&opened, producer, records, &latencies).await });
        }
        runtime.block_on(async {
            loop {
                match tokio::time::timeout(LOOK_AGAIN, tasks.join_next()).await {
                    Err(_) => self.bench.goes_on()?,
                    Ok(None) => return Ok(()),
                    Ok(Some(ended)) => ended.unwrap_or_else(|_| Err(died()))?,
                }
            }
        })
    }
}

async fn append_awaited(opened: &Opened, producer: u64, records: u64, latencies: &Latencies) -> Result<()> {
    for index in 0..records {
        let begun = Instant::now();
        opened.store.append(&Record::new(&opened.payload, index), Level::Durable).await?;
        latencies.record(producer as usize, begun.elapsed());
        opened.tend()?;
    }
    Ok(())
}

fn close(opened: Arc<Opened>) -> Result<()> {
    Arc::into_inner(opened).expect("the producers have let go of it").store.close()
}

fn died() -> Error {
    Error::new(Kind::Failed, "a producer's thread panicked: see above")
}
