//! The closing report: a table, the plot, the ledger, and the verdict.
//!
//! *Accepted* is the producer's count, *delivered*, *duplicates* and *missing* are the central's, the ledger is
//! counted from the directory: three places, so that their agreement says something.

use std::fmt::Write as _;

use forebay::event::Event;
use forebay::ledger::Ledger;
use forebay_bench::peak::{self, Peak};
use serde_json::{Value, json};

use crate::central::{Arrival, Totals};
use crate::demo::plot::{self, Series};
use crate::demo::remote::Remote;
use crate::demo::watch::Film;
use crate::demo::{HARD_LIMIT, Story, grouped};

/// The step of the plot.
const STEP_MS: u64 = 250;

/// Everything that is told at the end.
#[derive(Debug)]
pub(super) struct Report {
    rate: u64,
    film: Film,
    central: Totals,
    arrivals: Vec<Arrival>,
    peak: Option<Peak>,
    drains: Vec<Drain>,
    ledgers: Vec<Ledger>,
}

/// One backfill, and what was said of it beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Drain {
    began_ms: u64,
    /// Missing while it had not ended.
    ended_ms: Option<u64>,
    unsent_records: u64,
    records: u64,
    forecast_seconds: Option<f64>,
}

impl Drain {
    fn seconds(&self) -> Option<f64> {
        self.ended_ms.map(|ended_ms| (ended_ms - self.began_ms) as f64 / 1e3)
    }
}

impl Report {
    pub(super) fn new(story: &Story, film: Film, remote: &Remote, ledgers: Vec<Ledger>) -> Self {
        let arrivals = remote.arrivals();
        let drains = drains(&film);
        let peaks = drains.iter().filter_map(|drain| {
            // The probe that found the central counts too: it goes before the drain is announced.
            let back_ms = film.away_ms.map(|(_, to_ms)| to_ms).filter(|back_ms| *back_ms < drain.began_ms);
            let from_ms = back_ms.unwrap_or(drain.began_ms);
            peak::measure(&arrivals, &film.governed, from_ms, drain.ended_ms.unwrap_or(u64::MAX))
        });
        let excess = |peak: &Peak| peak.above() - peak.burst as f64;
        let peak = peaks.max_by(|one, two| excess(one).total_cmp(&excess(two)));
        Self { rate: story.rate, central: remote.totals(), arrivals, peak, drains, ledgers, film }
    }

    /// Accepted, and neither at the central nor named to it. Holes that only the central sees count too.
    fn missing(&self) -> u64 {
        let there = self.central.distinct + self.central.gap_sequences;
        self.film.accepted.saturating_sub(there).max(self.central.missing)
    }

    fn pending(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.pending).sum()
    }

    fn dropped(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.dropped.sum() as u64).sum()
    }

    fn closes(&self) -> bool {
        !self.ledgers.is_empty()
            && self.ledgers.iter().all(|ledger| ledger.closes() && ledger.accepted == self.film.accepted)
    }

    /// The ledger closes, and the central has everything, or knows that it is lost.
    pub(super) fn is_good(&self) -> bool {
        self.closes() && self.missing() == 0 && self.pending() == 0 && !self.film.is_unfinished
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.film.is_interrupted
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in self.rows() {
            let _ = writeln!(text, "{name:<16}  {value}");
        }
        let _ = write!(text, "\n{}\n", plot::draw(&self.series()));
        for ledger in &self.ledgers {
            let _ = writeln!(text, "ledger  {ledger}");
        }
        let _ = writeln!(text, "{}", self.verdict());
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("accepted", format!("{:>10}", grouped(self.film.accepted))),
            ("delivered", format!("{:>10}  distinct records at the central", grouped(self.central.distinct))),
            (
                "duplicates",
                format!("{:>10}  at the central, in flight when it went", grouped(self.central.duplicates)),
            ),
            ("missing", format!("{:>10}  at the central", grouped(self.missing()))),
            ("dropped", format!("{:>10}  each named by a gap", grouped(self.dropped()))),
        ];
        rows.push(("peak emission", self.peak.map_or("no backfill".into(), peak_row)));
        if self.drains.is_empty() {
            rows.push(("time to drain", "no backfill".into()));
        }
        rows.extend(self.drains.iter().map(|drain| ("time to drain", drain_row(drain))));
        rows
    }

    fn verdict(&self) -> String {
        if self.film.is_interrupted {
            return "interrupted: what was accepted until then is counted above".into();
        }
        let mut wrong = Vec::new();
        if self.film.is_unfinished {
            wrong.push(format!("it was not done within {} s", HARD_LIMIT.as_secs()));
        }
        if self.missing() > 0 {
            wrong.push(format!("{} records are missing at the central", grouped(self.missing())));
        }
        if self.pending() > 0 {
            wrong.push(format!("{} records are still pending", grouped(self.pending())));
        }
        if !self.closes() {
            wrong.push("the ledger does not close".into());
        }
        if wrong.is_empty() {
            return "the ledger closes, and nothing is missing".into();
        }
        format!("NOT GOOD: {}", wrong.join("; "))
    }

    /// Sums per step, from the beginning to the end.
    fn series(&self) -> Series {
        let steps = (self.film.length.as_millis() as u64).div_ceil(STEP_MS) as usize;
        let step = |at_ms: u64| (at_ms.saturating_sub(self.film.began_ms) / STEP_MS) as usize;
        let mut emission = vec![0; steps];
        for (at_ms, records, _) in &self.arrivals {
            if let Some(sum) = emission.get_mut(step(*at_ms)) {
                *sum += records * 1_000 / STEP_MS;
            }
        }
        let mut limit = vec![0; steps];
        for governed in &self.film.governed {
            if let Some(limit) = limit.get_mut(step(governed.at_ms)) {
                *limit = governed.limit_per_second;
            }
        }
        let away = self.film.away_ms.map_or(0..0, |(from_ms, to_ms)| step(from_ms)..step(to_ms));
        Series { step_ms: STEP_MS, emission, limit, away }
    }

    pub(super) fn json(&self) -> Value {
        let series = self.series();
        let since_start = |at_ms: u64| at_ms.saturating_sub(self.film.began_ms) as f64 / 1e3;
        let drains: Vec<Value> = self
            .drains
            .iter()
            .map(|drain| {
                json!({
                    "began_seconds": since_start(drain.began_ms),
                    "seconds": drain.seconds(),
                    "forecast_seconds": drain.forecast_seconds,
                    "unsent_records": drain.unsent_records,
                    "records": drain.records,
                })
            })
            .collect();
        let peak = self.peak.map(|peak| {
            json!({
                "window_records": peak.records,
                "window_seconds": peak.seconds,
                "window_limit_records": peak.granted,
                "burst_records": peak.burst,
                "records_per_second": peak.busiest_second,
                "held": peak.is_held(),
            })
        });
        json!({
            "rate": self.rate,
            "seconds": self.film.length.as_secs_f64(),
            "accepted": self.film.accepted,
            "delivered": self.central.distinct,
            "duplicates": self.central.duplicates,
            "missing": self.missing(),
            "pending": self.pending(),
            "dropped": self.dropped(),
            "central": self.central,
            "peak_emission": peak,
            "drains": drains,
            "away_seconds": self.film.away_ms.map(|(from_ms, to_ms)| [since_start(from_ms), since_start(to_ms)]),
            "step_seconds": STEP_MS as f64 / 1e3,
            "emission_records_per_second": series.emission,
            "limit_records_per_second": series.limit,
            "events": self.film.events,
            "ledger": self.ledgers,
            "closes": self.closes(),
            "interrupted": self.film.is_interrupted,
            "good": self.is_good(),
            "verdict": self.verdict(),
        })
    }
}

fn peak_row(peak: Peak) -> String {
    format!(
        "{:>8}/s  busiest second of the backfill; worst window {} in {:.2} s, allowed {} + {}: {}",
        grouped(peak.busiest_second),
        grouped(peak.records),
        peak.seconds,
        grouped(peak.granted as u64),
        grouped(peak.burst),
        if peak.is_held() { "held" } else { "EXCEEDED" },
    )
}

fn drain_row(drain: &Drain) -> String {
    let took = drain.seconds().map_or("not drained".into(), |seconds| format!("{seconds:.1} s"));
    let forecast = drain.forecast_seconds.map_or("none".into(), |seconds| format!("{seconds:.1} s"));
    format!("{took:>10}  forecast {forecast}, for {} records", grouped(drain.unsent_records))
}

/// Starts and ends, put together.
fn drains(film: &Film) -> Vec<Drain> {
    let mut drains: Vec<Drain> = Vec::new();
    for occurrence in &film.events {
        let at_ms = occurrence.timestamp / 1_000_000;
        match &occurrence.event {
            Event::BackfillStart { unsent_records, drain_seconds, .. } => drains.push(Drain {
                began_ms: at_ms,
                ended_ms: None,
                unsent_records: *unsent_records,
                records: 0,
                forecast_seconds: *drain_seconds,
            }),
            Event::BackfillEnd { records, .. } => {
                if let Some(drain) = drains.last_mut() {
                    (drain.ended_ms, drain.records) = (Some(at_ms), *records);
                }
            }
            _ => {}
        }
    }
    drains
}
