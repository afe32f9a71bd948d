//! `forebay bench drain`: a backlog read in order, every checksum proven, beside raw sequential reads of the same files.
//!
//! It reads through the log reader and read-ahead that the backfill reactor drains with, without the governor: what is
//! measured is what a backfill could do if nothing held it back. The raw device reads the same segments, as far as they
//! are written, with the given chunk and depth, and looks at nothing.

use std::path::Path;
use std::sync::Arc;

use forebay::config::DirectIo;
use forebay::io::real::RealDisk;
use forebay::io::{Access, Disk as _, File};
use forebay::segment::format;
use forebay::store::{Archive, Step};
use forebay::{Error, Kind, Result};

use crate::Bench;
use crate::engine::Engine;
use crate::environment::Environment;
use crate::place::Place;
use crate::process::{self, Meter};
use crate::raw::read_through;
use crate::report::Report;
use crate::runner::{self, Lane, Sample};

/// What to read.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The engine's settings.
    pub engine: Engine,
    /// Records of the backlog.
    pub records: u64,
    /// Bytes of a raw read.
    pub chunk_bytes: usize,
    /// Raw reads ahead.
    pub depth: usize,
}

impl Drain {
    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the engine refuses; `Corrupt` when a record is missing.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        if self.records == 0
            || self.chunk_bytes == 0
            || !self.chunk_bytes.is_multiple_of(4096)
            || self.depth == 0
        {
            let sentence =
                "a backlog has a record, a chunk is a multiple of 4096 bytes, and one is read ahead";
            return Err(Error::new(Kind::Config, sentence));
        }
        let log_bytes = self.engine.backlog_bytes(self.records);
        let place = Place::take(bench.dir, self.engine.cap_bytes(log_bytes))?;
        let environment = Environment::probe(place.path(), bench.commit);
        self.engine.check(&environment)?;
        let dir = place.join("store");
        self.engine.fill(bench, &dir, self.records)?;
        let mut lanes: Vec<Lane<'_>> =
            vec![Box::new(|| self.lap(bench, &dir)), Box::new(|| self.raw_lap(&dir))];
        let laps = runner::run(bench, &mut lanes)?;
        drop(lanes);
        let mut report = Report::new("drain", self.options(), environment);
        laps.iter().for_each(|samples| report.add(samples));
        report.add_ratio("ratio_to_raw_limit", "logged_bytes_per_second", "raw_limit_bytes_per_second");
        report.state("verified", true);
        Ok(report)
    }

    fn options(&self) -> serde_json::Value {
        let mut options = self.engine.options();
        options["records"] = self.records.into();
        options["raw_chunk_bytes"] = self.chunk_bytes.into();
        options["raw_depth"] = self.depth.into();
        options
    }

    fn lap(&self, bench: &Bench<'_>, dir: &Path) -> Result<Sample> {
        let archive = Archive::open(dir)?;
        process::forget_peak();
        let meter = Meter::start();
        let mut reader = archive.reader(1, 0)?;
        let mut batch = reader.batch();
        let mut records = 0;
        loop {
            match reader.next(&mut batch)? {
                Step::Records => records += std::hint::black_box(&batch).record_count() as u64,
                Step::End => break,
                _ => {
                    return Err(Error::new(
                        Kind::Corrupt,
                        "the backlog has a loss that nobody made: see forebay verify",
                    ));
                }
            }
            bench.goes_on()?;
        }
        let used = meter.stop();
        if records != self.records {
            let sentence = format!("{} records were appended and {records} were read back", self.records);
            return Err(Error::new(Kind::Corrupt, sentence));
        }
        let (seconds, count) = (used.wall.as_secs_f64(), records as f64);
        let mut sample = Sample::default();
        sample.set("records_per_second", count / seconds);
        sample.set("payload_megabytes_per_second", count * self.engine.payload_bytes as f64 / 1e6 / seconds);
        sample.set("logged_bytes_per_second", count * self.engine.record_bytes() as f64 / seconds);
        sample.set("cpu_ns_per_record", used.cpu.as_nanos() as f64 / count);
        sample.set_known("peak_memory_bytes", process::peak_memory_bytes().map(|bytes| bytes as f64));
        Ok(sample)
    }

    fn raw_lap(&self, dir: &Path) -> Result<Sample> {
        let failed = |error| Error::io("the segments can't be read without the engine", error);
        let disk = RealDisk::open(dir, DirectIo::Auto).map_err(failed)?;
        let archive = Archive::open(dir)?;
        let mut files: Vec<(Arc<dyn File>, u64)> = Vec::new();
        for segment in archive.recovered().catalog.segments() {
            let file = disk.open(&format::slot_name(segment.slot), Access::ReadDirect).map_err(failed)?;
            files.push((file, segment.end));
        }
        let meter = Meter::start();
        let bytes = read_through(&disk, &files, self.chunk_bytes, self.depth)?;
        let used = meter.stop();
        let mut sample = Sample::default();
        sample.set("raw_limit_bytes_per_second", bytes as f64 / used.wall.as_secs_f64());
        sample.set("raw_cpu_ns_per_kib", used.cpu.as_nanos() as f64 / (bytes as f64 / 1024.0));
        Ok(sample)
    }
}
