//! `forebay bench open`: how long it takes to open a store for writing, and how much memory, with a backlog of two sizes.
//!
//! Neither may grow with the backlog; so the two sizes are opened in turns, and what counts is their ratio.

use std::path::Path;

use forebay::{Error, Kind, Result, Store};

use crate::Bench;
use crate::engine::Engine;
use crate::environment::Environment;
use crate::place::Place;
use crate::process::{self, Meter};
use crate::report::Report;
use crate::runner::{self, Lane, Sample};

/// What to open.
#[derive(Debug, Clone)]
pub struct Open {
    /// The engine's settings.
    pub engine: Engine,
    /// Bytes of the backlog.
    pub backlog_bytes: u64,
    /// Bytes of the backlog that it is held against.
    pub small_bytes: u64,
}

/// The figures of one store.
struct Names {
    seconds: &'static str,
    cpu: &'static str,
    peak: &'static str,
}

impl Open {
    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the engine refuses.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        let record_bytes = self.engine.record_bytes();
        let [large, small] = [self.backlog_bytes, self.small_bytes].map(|bytes| bytes / record_bytes);
        if small == 0 || large <= small {
            let sentence =
                "the backlog is larger than the one that it is held against, and both have a record";
            return Err(Error::new(Kind::Config, sentence));
        }
        let bytes: u64 = [large, small]
            .iter()
            .map(|&records| self.engine.cap_bytes(self.engine.backlog_bytes(records)))
            .sum();
        let place = Place::take(bench.dir, bytes)?;
        let environment = Environment::probe(place.path(), bench.commit);
        self.engine.check(&environment)?;
        for (name, records) in [("large", large), ("small", small)] {
            self.engine.fill(bench, &place.join(name), records)?;
        }
        let names = Names { seconds: "open_seconds", cpu: "open_cpu_seconds", peak: "peak_memory_bytes" };
        let small_names = Names {
            seconds: "small_open_seconds",
            cpu: "small_open_cpu_seconds",
            peak: "small_peak_memory_bytes",
        };
        let (large_dir, small_dir) = (place.join("large"), place.join("small"));
        let mut lanes: Vec<Lane<'_>> = vec![
            Box::new(|| self.lap(&large_dir, large, &names)),
            Box::new(|| self.lap(&small_dir, small, &small_names)),
        ];
        let laps = runner::run(bench, &mut lanes)?;
        drop(lanes);
        let mut report = Report::new("open", self.options(), environment);
        laps.iter().for_each(|samples| report.add(samples));
        report.add_ratio("open_ratio_to_small", "open_seconds", "small_open_seconds");
        report.add_ratio("peak_memory_ratio_to_small", "peak_memory_bytes", "small_peak_memory_bytes");
        Ok(report)
    }

    fn options(&self) -> serde_json::Value {
        let mut options = self.engine.options();
        options["backlog_bytes"] = self.backlog_bytes.into();
        options["small_bytes"] = self.small_bytes.into();
        options
    }

    fn lap(&self, dir: &Path, records: u64, names: &Names) -> Result<Sample> {
        let config = self.engine.config(dir, self.engine.backlog_bytes(records));
        process::forget_peak();
        let meter = Meter::start();
        let store = Store::open(&config)?;
        let used = meter.stop();
        let mut sample = Sample::default();
        sample.set(names.seconds, used.wall.as_secs_f64());
        sample.set(names.cpu, used.cpu.as_secs_f64());
        sample.set_known(names.peak, process::peak_memory_bytes().map(|bytes| bytes as f64));
        if store.next_sequence() != records + 1 {
            let sentence =
                format!("{records} records were appended and {} were found", store.next_sequence() - 1);
            return Err(Error::new(Kind::Corrupt, sentence));
        }
        store.close().map(|()| sample)
    }
}
