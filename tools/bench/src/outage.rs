//! `forebay bench outage`: the whole pipeline while its destination goes away and comes back.
//!
//! ```text
//!  input at a steady rate ─────────────────────────────────────────────────────►
//!  destination   there │ away: records spill │ there: the backlog drains, the input goes on │ all delivered
//!                                            └─ forecast ─────────────── time to drain ─┘
//! ```
//!
//! The destination is a sink of our own, which counts every sequence: what is missing or came twice is its word, not
//! the pipeline's. Emission is held against the governor's limit in every window of time, as the demonstration does.
//! It knows no wire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forebay::config::SpillMode;
use forebay::pipeline::Status;
use forebay::sink::{Batch, Outcome, Sink};
use forebay::store::Appended;
use forebay::{Config, Error, Kind, Pipeline, Record, Result};
use serde_json::Value;

use crate::Bench;
use crate::engine::Engine;
use crate::environment::Environment;
use crate::peak::{self, Arrival, Governed};
use crate::place::{Place, remove};
use crate::process::{self, Meter};
use crate::report::{Report, Series};
use crate::runner::{self, Lane, Sample};

/// How often it is looked at, and records are made.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(5);

/// How long room is waited for before it is looked whether to end.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// How long a drain may take beyond four times the outage.
const PATIENCE: f64 = 30.0;

/// Shorter than the defaults, so that a run is: as the demonstration has them.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const GOVERNOR_WINDOW: Duration = Duration::from_secs(2);

/// What happens.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The engine's settings.
    pub engine: Engine,
    /// Records a second.
    pub rate: u64,
    /// Seconds before the destination goes away.
    pub steady_seconds: f64,
    /// Seconds that it is away.
    pub away_seconds: f64,
}

/// The destination.
#[derive(Debug)]
struct Far {
    began: Instant,
    is_away: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    last_sequence: u64,
    records: u64,
    missing: u64,
    repeated: u64,
}

struct Gate(Arc<Far>);

impl Sink for Gate {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        if self.0.is_away.load(Ordering::Acquire) {
            return Outcome::RetryAfter { after: None, reason: "away, as the bench wants it".into() };
        }
        let at_ms = self.0.now_ms();
        let mut seen = self.0.seen();
        for item in batch.iter() {
            let forebay::sink::Item::Data(record) = item else { continue };
            seen.repeated += u64::from(record.sequence <= seen.last_sequence);
            seen.missing += record.sequence.saturating_sub(seen.last_sequence + 1);
            seen.last_sequence = seen.last_sequence.max(record.sequence);
        }
        seen.records += batch.record_count() as u64;
        seen.arrivals.push((at_ms, batch.record_count() as u64, batch.byte_count() as u64));
        Outcome::Accepted
    }
}

impl Far {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone)]
struct Moment {
    at_ms: u64,
    status: Status,
}

/// When things happened, in milliseconds.
#[derive(Debug, Default)]
struct Times {
    back_ms: u64,
    forecast: Option<(u64, f64)>,
    drained_ms: u64,
}

impl Outage {
    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the engine refuses; `Failed` when the backlog does not drain.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        let is_time = |seconds: f64| seconds > 0.0 && seconds <= 600.0;
        if self.rate == 0
            || self.rate > 10_000_000
            || !is_time(self.steady_seconds)
            || !is_time(self.away_seconds)
        {
            let sentence =
                "the rate is 1 to 10 million records a second, and each phase takes up to 600 seconds";
            return Err(Error::new(Kind::Config, sentence));
        }
        let log_bytes = self.log_bytes();
        let place = Place::take(bench.dir, self.engine.cap_bytes(log_bytes))?;
        let environment = Environment::probe(place.path(), bench.commit);
        self.engine.check(&environment)?;
        let dir = place.join("store");
        let mut last = None;
        let mut lanes: Vec<Lane<'_>> = vec![Box::new(|| {
            let (sample, series) = self.lap(bench, &self.config(&dir, log_bytes))?;
            last = Some(series);
            remove(&dir).map(|()| sample)
        })];
        let laps = runner::run(bench, &mut lanes)?;
        drop(lanes);
        let mut report = Report::new("outage", self.options(), environment);
        laps.iter().for_each(|samples| report.add(samples));
        report.add_ratio("drain_ratio_to_forecast", "drain_seconds", "forecast_seconds");
        report.series.extend(last.into_iter().flatten());
        report.note("backoff is 250 ms to 1 s and the governor's window 2 s, shorter than the defaults");
        Ok(report)
    }

    /// What spills: the input of the outage and, half as fast as it drains, that of the drain.
    fn log_bytes(&self) -> u64 {
        let seconds = self.away_seconds * 4.0 + self.steady_seconds;
        ((self.rate as f64 * seconds) as u64 * (self.engine.record_bytes() + 16)).max(8 << 20)
    }

    fn config(&self, dir: &std::path::Path, log_bytes: u64) -> Config {
        let mut config = self.engine.config(dir, log_bytes);
        config.spill = SpillMode::Threshold;
        config.backoff.min = BACKOFF_MIN;
        config.backoff.max = BACKOFF_MAX;
        config.governor.window = GOVERNOR_WINDOW;
        config
    }

    fn options(&self) -> Value {
        let mut options = self.engine.options();
        options["rate"] = self.rate.into();
        options["steady_seconds"] = self.steady_seconds.into();
        options["away_seconds"] = self.away_seconds.into();
        options
    }

    fn lap(&self, bench: &Bench<'_>, config: &Config) -> Result<(Sample, Vec<Series>)> {
        process::forget_peak();
        let meter = Meter::start();
        let mut pipeline = Pipeline::open(config)?;
        let far =
            Arc::new(Far { began: Instant::now(), is_away: AtomicBool::new(false), seen: Mutex::default() });
        let forwarder = pipeline.forwarder().expect("the first to ask").spawn(Gate(Arc::clone(&far)))?;
        let ended = AtomicBool::new(false);
        let (moments, times) = std::thread::scope(|scope| {
            let producer = scope.spawn(|| self.produce(&pipeline, &far, &ended));
            let watched = self.watch(bench, &pipeline, &far);
            ended.store(true, Ordering::Release);
            let produced =
                producer.join().unwrap_or_else(|_| Err(Error::new(Kind::Failed, "the producer panicked")));
            produced.and(watched)
        })?;
        deliver_the_rest(bench, &pipeline)?;
        let (used, accepted) = (meter.stop(), pipeline.status().accepted_records);
        pipeline.close()?;
        forwarder.join().map_err(|_| Error::new(Kind::Failed, "the sink's thread panicked: see above"))?;
        let seen = far.seen();
        let mut sample = Sample::default();
        let seconds = used.wall.as_secs_f64();
        sample.set("accepted_records_per_second", accepted as f64 / seconds);
        sample.set("cpu_ns_per_record", used.cpu.as_nanos() as f64 / accepted as f64);
        sample.set("missing_records", (seen.missing + accepted - seen.last_sequence) as f64);
        sample.set("repeated_records", seen.repeated as f64);
        sample.set_known("bytes_written", used.written.map(|bytes| bytes as f64));
        sample.set_known("peak_memory_bytes", process::peak_memory_bytes().map(|bytes| bytes as f64));
        drained(&seen, &moments, &times, &mut sample);
        Ok((sample, vec![rates(&seen, &moments), backlog(&moments)]))
    }

    fn produce(&self, pipeline: &Pipeline, far: &Far, ended: &AtomicBool) -> Result<()> {
        let payload = self.engine.payload();
        let mut made = 0;
        while !ended.load(Ordering::Acquire) {
            let due = (u128::from(self.rate) * far.began.elapsed().as_nanos() / 1_000_000_000) as u64;
            while made < due && !ended.load(Ordering::Acquire) {
                match pipeline.store().append_within(&Record::new(&payload, made), ROOM_WAIT)? {
                    Appended::Full(_) => {}
                    Appended::Accepted(_) | Appended::Dropped(_) => made += 1,
                }
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Directs the destination, and looks on until the backlog is drained.
    fn watch(&self, bench: &Bench<'_>, pipeline: &Pipeline, far: &Far) -> Result<(Vec<Moment>, Times)> {
        let milliseconds = |seconds: f64| (seconds * 1e3) as u64;
        let away_ms = milliseconds(self.steady_seconds);
        let back_ms = away_ms + milliseconds(self.away_seconds);
        let give_up_ms = back_ms + milliseconds(self.away_seconds * 4.0 + PATIENCE);
        let (mut moments, mut times) = (Vec::new(), Times { back_ms, ..Times::default() });
        loop {
            bench.goes_on()?;
            let (at_ms, status) = (far.now_ms(), pipeline.status());
            far.is_away.store((away_ms..back_ms).contains(&at_ms), Ordering::Release);
            moments.push(Moment { at_ms, status: status.clone() });
            if !status.failure.is_empty() {
                return Err(Error::new(Kind::Failed, format!("writing has ended: {}", status.failure)));
            }
            // It learns at its next try that the destination is back.
            if at_ms >= back_ms && status.destination_state == "online" {
                if times.forecast.is_none() {
                    times.forecast = status.time_to_drain_seconds.map(|seconds| (at_ms, seconds));
                }
                if status.lane == "live" && status.unsent_records <= self.rate / 5 {
                    times.drained_ms = at_ms;
                    return Ok((moments, times));
                }
            }
            if at_ms > give_up_ms {
                let sentence = format!(
                    "{} records are still undelivered {} s after the destination came back",
                    status.unsent_records,
                    (at_ms - back_ms) / 1000
                );
                return Err(Error::new(Kind::Failed, sentence));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Nobody produces any more: until everything has arrived.
fn deliver_the_rest(bench: &Bench<'_>, pipeline: &Pipeline) -> Result<()> {
    let give_up = Instant::now() + Duration::from_secs_f64(PATIENCE);
    loop {
        bench.goes_on()?;
        let status = pipeline.status();
        // The status may be a moment old; the store itself says what was appended.
        if status.confirmed_sequence + 1 >= pipeline.store().next_sequence() {
            return Ok(());
        }
        if Instant::now() > give_up {
            return Err(Error::new(Kind::Failed, "the last records were not delivered: the pipeline hangs"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The figures of the drain.
fn drained(seen: &Seen, moments: &[Moment], times: &Times, sample: &mut Sample) {
    let spilled = moments.last().map_or(0, |moment| moment.status.spilled_records);
    sample.set("spilled_records", spilled as f64);
    let governed: Vec<Governed> = moments
        .iter()
        .map(|moment| Governed {
            at_ms: moment.at_ms,
            limit_per_second: moment.status.governor_limit_records_per_second,
            burst: moment.status.governor_burst_records,
        })
        .collect();
    let backfills =
        moments.iter().filter(|moment| moment.at_ms >= times.back_ms && moment.status.lane == "backfill");
    let (Some(first), Some(last)) = (backfills.clone().next(), backfills.clone().next_back()) else { return };
    // Its lane may be a look old at either end.
    if let Some(peak) = peak::measure(&seen.arrivals, &governed, first.at_ms, last.at_ms) {
        let seconds = (last.at_ms - first.at_ms).max(1) as f64 / 1e3;
        let arrived = seen.arrivals.iter().filter(|(at, ..)| (first.at_ms..=last.at_ms).contains(at));
        sample.set(
            "emitted_records_per_second",
            arrived.map(|arrival| arrival.1).sum::<u64>() as f64 / seconds,
        );
        sample.set("limit_records_per_second", last.status.governor_limit_records_per_second as f64);
        sample.set("peak_emission_ratio_to_limit", peak.records as f64 / (peak.granted + peak.burst as f64));
    }
    if let Some((forecast_ms, seconds)) = times.forecast {
        sample.set("forecast_seconds", seconds);
        sample.set("drain_seconds", (times.drained_ms - forecast_ms) as f64 / 1e3);
    }
}

/// Records a second, over windows of half a second.
fn rates(seen: &Seen, moments: &[Moment]) -> Series {
    const WINDOW_MS: u64 = 500;
    let end_ms = moments.last().map_or(0, |moment| moment.at_ms);
    let windows: Vec<u64> = (0..end_ms / WINDOW_MS).map(|index| index * WINDOW_MS).collect();
    let per_second = |records: u64| Some(records as f64 * 1e3 / WINDOW_MS as f64);
    let looked =
        |at_ms: u64| moments.iter().rfind(|moment| moment.at_ms <= at_ms).map(|moment| &moment.status);
    let accepted = |at_ms: u64| looked(at_ms).map_or(0, |status| status.accepted_records);
    let emitted = |from: u64| {
        let within = seen.arrivals.iter().filter(|arrival| (from..from + WINDOW_MS).contains(&arrival.0));
        within.map(|arrival| arrival.1).sum()
    };
    let line = |name: &str, of: &dyn Fn(u64) -> Option<f64>| {
        (name.to_owned(), windows.iter().map(|&from| of(from)).collect())
    };
    Series {
        title: "Records a second".into(),
        x: "seconds".into(),
        y: "records a second".into(),
        at: windows.iter().map(|&from| from as f64 / 1e3).collect(),
        lines: vec![
            line("accepted", &|from| per_second(accepted(from + WINDOW_MS) - accepted(from))),
            line("emitted", &|from| per_second(emitted(from))),
            line("the governor's limit", &|from| {
                looked(from + WINDOW_MS).map(|status| status.governor_limit_records_per_second as f64)
            }),
        ],
        logarithmic: false,
    }
}

fn backlog(moments: &[Moment]) -> Series {
    let unsent = moments.iter().map(|moment| Some(moment.status.unsent_records as f64)).collect();
    Series {
        title: "Records not yet sent".into(),
        x: "seconds".into(),
        y: "records".into(),
        at: moments.iter().map(|moment| moment.at_ms as f64 / 1e3).collect(),
        lines: vec![("unsent".into(), unsent)],
        logarithmic: false,
    }
}
