//! `forebay bench latency`: appends at a given rate, open loop.
//!
//! ```text
//!  intended starts   │    │    │    │    │        each 1 / rate apart, whatever the engine does
//!  call              │────────────┐│────┐│──┐     service time: from the call
//!  latency           │────────────┘└───┘ ...      from the intended start: whoever had to wait counts too
//! ```
//!
//! A closed loop stops asking while the engine stalls, and so leaves out what stalls cost (coordinated omission). Here
//! a stall makes every append late that was due meanwhile, and each is measured from when it was due.

use std::time::{Duration, Instant};

use forebay::store::Level;
use forebay::{Error, Kind, Record, Result};

use crate::Bench;
use crate::engine::{Engine, Opened};
use crate::environment::Environment;
use crate::latencies::{Latencies, Names};
use crate::place::Place;
use crate::raw::{self, Cadence, Length, Load, PAGE_BYTES, RawFile, Shape};
use crate::report::{Report, Series};
use crate::runner::{self, Lane, Sample};

/// A sleep ends this much early; the rest is spun, so that the harness is not late itself.
const SPIN: Duration = Duration::from_micros(80);

/// How long the raw device is measured in a round.
const RAW_TIME: Duration = Duration::from_millis(500);

/// The device's file, in bytes.
const RAW_BYTES: u64 = 16 << 20;

/// What to append, and when.
#[derive(Debug, Clone)]
pub struct Latency {
    /// The engine's settings.
    pub engine: Engine,
    /// Appends a second, all producers together.
    pub rate: f64,
    /// Threads that append in turns.
    pub producers: usize,
    /// Seconds of a lap.
    pub seconds: f64,
    /// What an append is waited for.
    pub level: Level,
}

/// All rounds' times, for the curve.
struct Curves {
    corrected: Latencies,
    service: Latencies,
}

impl Latency {
    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the engine refuses.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        if !(self.rate > 0.0 && self.rate <= 1e7 && self.seconds > 0.0 && self.seconds <= 3600.0)
            || self.producers == 0
        {
            let sentence = "the rate is above 0 and 10 million a second at most, a lap takes an hour at most, \
                            and there is a producer";
            return Err(Error::new(Kind::Config, sentence));
        }
        let count = (self.rate * self.seconds).ceil() as u64;
        let record_bytes_max = self.engine.record_bytes().next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        let log_bytes = (count * record_bytes_max).clamp(8 << 20, self.engine.disk_bytes);
        let place = Place::take(bench.dir, self.engine.cap_bytes(log_bytes) + RAW_BYTES)?;
        let environment = Environment::probe(place.path(), bench.commit);
        self.engine.check(&environment)?;
        let raw = RawFile::make(&place.join("raw"), RAW_BYTES)?;
        raw.fill()?;
        let every = log_bytes / 4 / record_bytes_max;
        let opened = Opened::open(&self.engine, place.join("store"), log_bytes, every)?;
        let curves = Curves { corrected: Latencies::new(16), service: Latencies::new(16) };
        let raw_all = Latencies::new(1);
        // The first lap makes slots and wakes everything up.
        self.lap(bench, &opened, count.min(1000), &curves)?;
        let mut lanes: Vec<Lane<'_>> = vec![
            Box::new(|| self.lap(bench, &opened, count, &curves)),
            Box::new(|| {
                let lap = raw.write(self.shape(), Length::Time(RAW_TIME), Load::Blocks)?;
                raw_all.add(&lap.latencies);
                Ok(raw::sample(&lap, Some(self.engine.record_bytes())))
            }),
        ];
        let laps = runner::run(bench, &mut lanes)?;
        drop(lanes);
        let mut report = Report::new("latency", self.options(), environment);
        laps.iter().for_each(|samples| report.add(samples));
        report.add_ratio("p50_ratio_to_raw", "p50_ns", "raw_p50_ns");
        report.state("backend", opened.store.device().backend);
        report.series.push(curve(&[
            ("latency", &curves.corrected),
            ("service time", &curves.service),
            ("raw write with its own sync", &raw_all),
        ]));
        opened.store.close()?;
        Ok(report)
    }

    fn shape(&self) -> Shape {
        let block_bytes = (self.engine.record_bytes() + 256).next_multiple_of(PAGE_BYTES);
        Shape { block_bytes, depth: 1, cadence: Cadence::Each, backend: self.engine.backend }
    }

    fn options(&self) -> serde_json::Value {
        let mut options = self.engine.options();
        options["rate"] = self.rate.into();
        options["producers"] = self.producers.into();
        options["seconds"] = self.seconds.into();
        options["level"] = format!("{:?}", self.level).to_lowercase().into();
        options
    }

    fn lap(&self, bench: &Bench<'_>, opened: &Opened, count: u64, curves: &Curves) -> Result<Sample> {
        let lap = Curves { corrected: Latencies::new(16), service: Latencies::new(16) };
        let mut sample = opened.measure(|| {
            // All producers are there before the first append is due.
            let start = Instant::now() + Duration::from_millis(2);
            std::thread::scope(|scope| {
                let spawned: Vec<_> = (0..self.producers as u64)
                    .map(|producer| {
                        let lap = &lap;
                        scope.spawn(move || self.produce(bench, opened, start, producer, count, lap))
                    })
                    .collect();
                let died = || Err(Error::new(Kind::Failed, "a producer's thread panicked: see above"));
                spawned.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| died()))
            })?;
            opened.store.wait(opened.store.next_sequence() - 1, Level::Durable, None).map(drop)
        })?;
        let names = Names { p50: "p50_ns", p99: "p99_ns", p999: "p999_ns", most: "max_ns" };
        lap.corrected.figures(&names, &mut sample);
        let names = Names {
            p50: "service_p50_ns",
            p99: "service_p99_ns",
            p999: "service_p999_ns",
            most: "service_max_ns",
        };
        lap.service.figures(&names, &mut sample);
        curves.corrected.add(&lap.corrected);
        curves.service.add(&lap.service);
        Ok(sample)
    }

    fn produce(
        &self,
        bench: &Bench<'_>,
        opened: &Opened,
        start: Instant,
        producer: u64,
        count: u64,
        lap: &Curves,
    ) -> Result<()> {
        let turns = (producer..count).step_by(self.producers);
        let due = |index: u64| start + Duration::from_secs_f64(index as f64 / self.rate);
        at_their_times(turns, due, lap, |index| {
            opened.store.append_blocking(&Record::new(&opened.payload, index), self.level)?;
            bench.goes_on()?;
            opened.tend()
        })
    }
}

/// Appends when it is due, or at once where that is over, and notes how long it took from both.
fn at_their_times(
    turns: impl Iterator<Item = u64>,
    due: impl Fn(u64) -> Instant,
    lap: &Curves,
    mut append: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    for index in turns {
        let due = due(index);
        wait_until(due);
        let called = Instant::now();
        append(index)?;
        let done = Instant::now();
        lap.corrected.record(index as usize, done - due);
        lap.service.record(index as usize, done - called);
    }
    Ok(())
}

fn wait_until(due: Instant) {
    let early = due.saturating_duration_since(Instant::now()).saturating_sub(SPIN);
    if !early.is_zero() {
        std::thread::sleep(early);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// Times over how rare they are, in microseconds.
fn curve(kinds: &[(&str, &Latencies)]) -> Series {
    let at: Vec<f64> = (0..=40).map(|step| 10f64.powf(f64::from(step) / 10.0)).collect();
    let line = |latencies: &Latencies| {
        let whole = latencies.whole();
        let of = |one_in: &f64| {
            // What is rarer than one of all is not known.
            let known = !whole.is_empty() && *one_in <= whole.len() as f64;
            known.then(|| whole.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1e3)
        };
        at.iter().map(of).collect()
    };
    Series {
        title: "How late, by how rarely".into(),
        x: "one in so many appends is later".into(),
        y: "microseconds".into(),
        lines: kinds.iter().map(|(name, latencies)| ((*name).to_owned(), line(latencies))).collect(),
        at,
        logarithmic: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_makes_late_what_was_due_meanwhile() {
        let lap = Curves { corrected: Latencies::new(4), service: Latencies::new(4) };
        let start = Instant::now();
        let stall = Duration::from_millis(50);
        let due = |index: u64| start + Duration::from_millis(index);
        at_their_times(0..11, due, &lap, |index| {
            if index == 0 {
                std::thread::sleep(stall);
            }
            Ok(())
        })
        .unwrap();
        // Only one append was slow; the last one was due 10 ms after it, and is at least 40 ms late.
        assert_eq!(lap.corrected.whole().len(), 11);
        assert!(lap.corrected.whole().min() > 39_000_000, "{}", lap.corrected.whole().min());
        assert!(lap.service.whole().max() > 49_000_000);
        assert!(lap.service.whole().min() < lap.corrected.whole().min());
    }

    #[test]
    fn it_is_never_early() {
        for microseconds in [0, 10, 500] {
            let due = Instant::now() + Duration::from_micros(microseconds);
            wait_until(due);
            assert!(Instant::now() >= due);
        }
    }
}
