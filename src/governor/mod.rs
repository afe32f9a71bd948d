//! How fast a backlog may drain: two quotas, records and bytes, over a limit that follows the steady state.
//!
//! ```text
//!  accepted totals ─► steady state ─► limit = max(floor, factor × steady state)
//!                                       │          burst = 100 ms of it, at least one
//!                                       ▼
//!  a batch wants to go ─► affordable / take ─► records quota AND bytes quota
//! ```
//!
//! It promises, for every window of time that begins and ends with a take, exactly and in both units:
//!
//! - records taken ≤ ∫ limit dt + burst,
//! - bytes taken ≤ ∫ limit dt + max(burst, the largest single record taken in the window),
//!
//! with the limit in force at each moment and the burst in force at the last take. While the limit stands
//! still that is `limit × T + burst`. A record larger than the byte burst is not refused for ever: it goes
//! alone, when nothing is owed, and is paid back before anything else goes.
//!
//! For the promise to hold at the socket, take right before sending, and count everything that goes there; and
//! where a send takes its time, say when it began ([`Governor::hold`]) and when it was over
//! ([`Governor::arrived`]): a batch that was long on its way would else leave room for two behind it at once.
//! A sender that waits for the whole burst loses what its timer is late; one that waits for half of it
//! (see [`Governor::next_at`]) reaches the limit.
//!
//! It does not know what the data is, where it goes or why; it has no clock: `now_ns` is monotonic time in
//! nanoseconds.

use crate::error::{Error, Kind, Result};

pub mod quota;
pub mod steady_state;
#[cfg(test)]
mod tests;

pub use quota::{Quota, Verdict};
pub use steady_state::{Estimate, SteadyState};

/// The highest factor that is believed to be meant.
const FACTOR_MAX: f64 = 1_000.0;

/// What the governor is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GovernorSettings {
    /// How much faster than the steady state a backlog may drain. At most 1 never catches up with an
    /// input that goes on. Above 0, at most 1,000; default 1.5.
    pub factor: f64,
    /// How much of the limit may go at once, as time; default 100 ms. It is at least one record, one byte.
    pub burst_ns: u64,
    /// The limit is never below this, so that an idle source still drains. At least 1; default 100.
    pub floor_records_per_second: u64,
    /// The same in bytes. At least 1; default 64 KiB.
    pub floor_bytes_per_second: u64,
    /// The time constant of the steady state; default 30 s.
    pub window_ns: u64,
}

impl Default for GovernorSettings {
    fn default() -> Self {
        Self {
            factor: 1.5,
            burst_ns: 100_000_000,
            floor_records_per_second: 100,
            floor_bytes_per_second: 64 * 1024,
            window_ns: 30_000_000_000,
        }
    }
}

impl GovernorSettings {
    /// Whether a governor can work with these; [`Kind::Config`] with the key that is wrong.
    pub fn check(&self) -> Result<()> {
        check_factor(self.factor)?;
        let floors = [
            ("governor.floor_records_per_second", self.floor_records_per_second),
            ("governor.floor_bytes_per_second", self.floor_bytes_per_second),
        ];
        for (key, floor) in floors {
            if floor == 0 {
                let sentence = format!("{key} is 0: an idle source would never drain; set it to 1 or more");
                return Err(Error::new(Kind::Config, sentence));
            }
        }
        Ok(())
    }
}

fn check_factor(factor: f64) -> Result<()> {
    if factor > 0.0 && factor <= FACTOR_MAX {
        return Ok(());
    }
    let sentence = format!("governor.factor is {factor}: set it above 0, to at most {FACTOR_MAX}");
    Err(Error::new(Kind::Config, sentence))
}

/// How fast the backlog may drain now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Records a second.
    pub records_per_second: u64,
    /// Bytes a second.
    pub bytes_per_second: u64,
}

/// How much may go: now ([`Governor::affordable`]), or at once at best ([`Governor::burst`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Both quotas, and the steady state that sets them.
#[derive(Debug, Clone)]
pub struct Governor {
    settings: GovernorSettings,
    steady_state: SteadyState,
    records: Quota,
    bytes: Quota,
}

impl Governor {
    /// A governor that knows no input yet: its limit is the floor. [`Kind::Config`] when
    /// [`GovernorSettings::check`] refuses.
    pub fn new(settings: GovernorSettings, now_ns: u64) -> Result<Self> {
        settings.check()?;
        let mut governor = Self {
            settings,
            steady_state: SteadyState::new(settings.window_ns),
            records: Quota::new(0, 0, now_ns),
            bytes: Quota::new(0, 0, now_ns),
        };
        governor.follow(now_ns);
        Ok(governor)
    }

    /// Goes on from the steady state of an earlier process (zero in both units restores nothing).
    pub fn restore(&mut self, now_ns: u64, estimate: Estimate) {
        self.steady_state.restore(estimate);
        self.follow(now_ns);
    }

    /// Tells what was accepted in all, about every 100 ms; more often, seldom or late is fine. While
    /// `input_blocked` (now, or since the last call) the steady state stands still.
    pub fn observe(
        &mut self,
        now_ns: u64,
        accepted_records_total: u64,
        accepted_bytes_total: u64,
        input_blocked: bool,
    ) {
        if input_blocked {
            self.steady_state.freeze(now_ns, accepted_records_total, accepted_bytes_total);
        } else if self.steady_state.observe(now_ns, accepted_records_total, accepted_bytes_total) {
            self.follow(now_ns);
        }
    }

    /// From `now_ns` on, another factor. [`Kind::Config`], and no change, when it is not above 0 and at
    /// most 1,000.
    pub fn set_factor(&mut self, now_ns: u64, factor: f64) -> Result<()> {
        check_factor(factor)?;
        self.settings.factor = factor;
        self.follow(now_ns);
        Ok(())
    }

    /// The most that may go now, for cutting a batch to fit. A single record larger than the byte burst
    /// never fits: ask [`Governor::check`] or [`Governor::next_at`] with 1 record.
    pub fn affordable(&self, now_ns: u64) -> Allowance {
        Allowance { records: self.records.affordable(now_ns), bytes: self.bytes.affordable(now_ns) }
    }

    /// Whether this much may go now. A single record is never [`Verdict::Never`]; several are when they
    /// exceed the burst in either unit.
    pub fn check(&self, now_ns: u64, records: u64, bytes: u64) -> Verdict {
        let in_bytes = match records {
            0 | 1 => self.bytes.check_whole(now_ns, bytes),
            _ => self.bytes.check(now_ns, bytes),
        };
        self.records.check(now_ns, records).and(in_bytes)
    }

    /// Takes this much if it may go now, from both quotas; else from neither.
    pub fn take(&mut self, now_ns: u64, records: u64, bytes: u64) -> Verdict {
        let verdict = self.check(now_ns, records, bytes);
        if verdict == Verdict::Now {
            let in_records = self.records.take(now_ns, records);
            let in_bytes = self.bytes.take_whole(now_ns, bytes);
            assert!(in_records.and(in_bytes) == Verdict::Now, "both quotas had agreed");
        }
        verdict
    }

    /// What was just taken is on its way: until [`Governor::arrived`] none of it is paid back.
    pub fn hold(&mut self, records: u64, bytes: u64) {
        self.records.hold(records);
        self.bytes.hold(bytes);
    }

    /// It has arrived, or never will.
    pub fn arrived(&mut self, now_ns: u64) {
        self.records.arrived(now_ns);
        self.bytes.arrived(now_ns);
    }

    /// When this much may go, or as much of it as can ever go at once: not before `now_ns`, and not a
    /// nanosecond too late.
    pub fn next_at(&self, now_ns: u64, records: u64, bytes: u64) -> u64 {
        let burst = self.burst();
        let bytes = if records <= 1 { bytes } else { bytes.min(burst.bytes) };
        match self.check(now_ns, records.min(burst.records), bytes) {
            Verdict::Now => now_ns,
            Verdict::NotYet { at_ns } => at_ns,
            Verdict::Never => unreachable!("cut to the burst, or a single record"),
        }
    }

    /// How fast the backlog may drain now.
    pub fn limit(&self) -> Limit {
        Limit {
            records_per_second: self.records.rate_per_second(),
            bytes_per_second: self.bytes.rate_per_second(),
        }
    }

    /// How much may go at once at best.
    pub fn burst(&self) -> Allowance {
        Allowance { records: self.records.burst(), bytes: self.bytes.burst() }
    }

    /// What the source usually gives, for the cursor and the metrics; `None` while nothing is known.
    pub fn steady_state(&self) -> Option<Estimate> {
        self.steady_state.estimate()
    }

    /// Sets both quotas to what the steady state says now.
    fn follow(&mut self, now_ns: u64) {
        let Estimate { records_per_second, bytes_per_second } =
            self.steady_state.estimate().unwrap_or_default();
        let records = self.raised(records_per_second).max(self.settings.floor_records_per_second);
        let bytes = self.raised(bytes_per_second).max(self.settings.floor_bytes_per_second);
        self.records.set_limit(now_ns, records, self.burst_of(records));
        self.bytes.set_limit(now_ns, bytes, self.burst_of(bytes));
    }

    /// Rounded down, so that the limit is never above `factor` × steady state for rounding's sake.
    fn raised(&self, per_second: u64) -> u64 {
        (per_second as f64 * self.settings.factor) as u64
    }

    fn burst_of(&self, per_second: u64) -> u64 {
        let burst = u128::from(per_second) * u128::from(self.settings.burst_ns) / 1_000_000_000;
        u64::try_from(burst).unwrap_or(u64::MAX).max(1)
    }
}
