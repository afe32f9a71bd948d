//! The one place that reads a clock.
//!
//! [`Clock::now_ns`] is monotonic: quanta's counter, anchored again to CLOCK_MONOTONIC once a second, since
//! an uncorrected counter drifts by about 1e-4. It never runs backwards. [`Clock::wall_ns`] is what
//! timestamps show; nothing is ordered, expired or paced by it.
//!
//! A [`Clock::manual`] stands still until somebody advances it: simulations decide when time passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long quanta is believed before it is anchored again.
const ANCHOR_NS: u64 = 1_000_000_000;

/// A monotonic clock and a wall clock. Shared by reference; cheap to read.
#[derive(Debug)]
pub struct Clock {
    counter: quanta::Clock,
    /// Stands still between calls of [`Clock::advance`]; what it tells is in `latest_ns`.
    is_manual: bool,
    /// The counter when it was last anchored.
    anchor_counter_ns: AtomicU64,
    /// CLOCK_MONOTONIC minus the counter, at the anchor (wrapping).
    offset_ns: AtomicU64,
    /// The latest time that was told.
    latest_ns: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        let clock = Self {
            counter: quanta::Clock::new(),
            is_manual: false,
            anchor_counter_ns: AtomicU64::new(0),
            offset_ns: AtomicU64::new(0),
            latest_ns: AtomicU64::new(0),
        };
        clock.anchor(clock.counter_ns());
        clock
    }
}

impl Clock {
    /// A clock, calibrated.
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock that stands still at 0 until it is advanced, its wall clock too.
    pub fn manual() -> Self {
        Self { is_manual: true, ..Self::default() }
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// On a clock that runs by itself.
    pub fn advance(&self, nanoseconds: u64) {
        assert!(self.is_manual, "only a manual clock is advanced");
        self.latest_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Nanoseconds on the monotonic clock, since some moment before this process.
    pub fn now_ns(&self) -> u64 {
        if self.is_manual {
            return self.latest_ns.load(Ordering::Relaxed);
        }
        let counter = self.counter_ns();
        if counter.wrapping_sub(self.anchor_counter_ns.load(Ordering::Relaxed)) > ANCHOR_NS {
            self.anchor(counter);
        }
        let now = counter.wrapping_add(self.offset_ns.load(Ordering::Relaxed));
        now.max(self.latest_ns.fetch_max(now, Ordering::Relaxed))
    }

    /// Nanoseconds since 1970, as the machine has it.
    pub fn wall_ns(&self) -> u64 {
        if self.is_manual {
            return self.latest_ns.load(Ordering::Relaxed);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn counter_ns(&self) -> u64 {
        self.counter.delta_as_nanos(0, self.counter.raw())
    }

    fn anchor(&self, counter: u64) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        self.offset_ns.store(monotonic.wrapping_sub(counter), Ordering::Relaxed);
        self.anchor_counter_ns.store(counter, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_tells_what_it_was_given_and_no_more() {
        let clock = Clock::manual();
        assert_eq!((clock.now_ns(), clock.now_ns(), clock.wall_ns()), (0, 0, 0));
        clock.advance(5);
        clock.advance(7);
        assert_eq!((clock.now_ns(), clock.wall_ns()), (12, 12));
    }

    #[test]
    fn a_running_clock_never_runs_backwards() {
        let clock = Clock::new();
        let first = clock.now_ns();
        assert!(first > 0 && clock.now_ns() >= first);
    }
}
