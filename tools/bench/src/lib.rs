//! The throughput harness: what the engine does beside what the device can do, measured in one run.
//!
//! ```text
//!  Bench (where, how often) ──► runner: rounds of laps, one of each lane, order shuffled ──► Report
//!                                │ engine lane: forebay::Store, Pipeline                       ├─ table
//!                                │ raw lane:    forebay::io, same directory, sizes, depth      ├─ JSON
//!                                └ copy lane:   raw, and each record copied and checksummed    └─ HTML
//! ```
//!
//! A shared machine is noisy, so nothing here is a number alone: each figure has the raw device's beside it, from
//! the same round, and what is quoted is the median of the rounds' ratios. The engine is used through its public
//! API only. This crate knows no command line and no signal: it is told where, how often, and whether to stop.

use std::path::Path;

use forebay::{Error, Kind, Result};

pub mod append;
pub mod compare;
pub mod drain;
pub mod engine;
mod environment;
mod latencies;
pub mod latency;
pub mod open;
pub mod outage;
mod page;
pub mod peak;
mod place;
mod process;
pub mod raw;
mod report;
mod runner;
mod stats;

pub use report::Report;

/// What every bench is told.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// An empty directory, or one that is not there: what is made in it is removed.
    pub dir: &'a Path,
    /// How many rounds are measured.
    pub repeats: usize,
    /// What the order of the lanes is drawn from.
    pub seed: u64,
    /// The commit that runs, for the report.
    pub commit: &'a str,
    /// Whether somebody wants it to end.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Bench<'_> {
    /// # Errors
    /// `Closed`, when it was asked to stop.
    fn goes_on(&self) -> Result<()> {
        if (self.is_stopped)() {
            return Err(Error::new(Kind::Closed, "stopped before it was done; what it made is removed"));
        }
        Ok(())
    }
}

/// How much of something one lap does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many records.
    Records(u64),
    /// As many as take about so many seconds.
    Seconds(f64),
}
