//! How many records a second the central takes: a bucket of one second. Pure: `now` is an argument.

use std::time::Duration;

/// A bucket that fills at `rate` and holds one second of it.
#[derive(Debug)]
pub(super) struct Quota {
    rate: u64,
    /// In billionths of a record, so that a nanosecond is never rounded away.
    filled: u128,
    at: Duration,
}

const BILLION: u128 = 1_000_000_000;

impl Quota {
    /// A full bucket of `rate` records a second, at least 1.
    pub(super) fn new(rate: u64, now: Duration) -> Self {
        let rate = rate.max(1);
        Self { rate, filled: u128::from(rate) * BILLION, at: now }
    }

    /// Takes `records` out, or says how many seconds to wait. A batch larger than the bucket needs it full.
    pub(super) fn take(&mut self, records: u64, now: Duration) -> Result<(), u64> {
        let room = u128::from(self.rate) * BILLION;
        let passed_ns = now.saturating_sub(self.at).as_nanos();
        self.filled = room.min(self.filled + passed_ns * u128::from(self.rate));
        self.at = self.at.max(now);
        let wanted = u128::from(records) * BILLION;
        if self.filled < wanted.min(room) {
            let lacking = wanted.min(room) - self.filled;
            return Err(lacking.div_ceil(room) as u64);
        }
        self.filled = self.filled.saturating_sub(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn both_sides_of_the_instant() {
        let mut quota = Quota::new(1_000, ms(0));
        assert_eq!(quota.take(1_000, ms(0)), Ok(()));
        assert_eq!(quota.take(100, ms(99)), Err(1));
        assert_eq!(quota.take(100, ms(100)), Ok(()));
        assert_eq!(quota.take(1, ms(100)), Err(1));
    }

    #[test]
    fn a_batch_larger_than_a_second_passes_when_the_bucket_is_full() {
        let mut quota = Quota::new(10, ms(0));
        assert_eq!(quota.take(1_000, ms(0)), Ok(()));
        assert_eq!(quota.take(1_000, ms(999)), Err(1));
        assert_eq!(quota.take(1_000, ms(1_000)), Ok(()));
    }

    #[test]
    fn idle_time_is_worth_one_second_at_most() {
        let mut quota = Quota::new(10, ms(0));
        assert_eq!(quota.take(10, ms(3_600_000)), Ok(()));
        assert_eq!(quota.take(1, ms(3_600_000)), Err(1));
    }
}
