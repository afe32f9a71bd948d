//! One quota over one unit: so many a second, so many at once.
//!
//! This is the generic cell rate algorithm in the form that keeps what is *owed* instead of the theoretical
//! arrival time: a take adds its cost, time pays back `rate` units a second, and a take is admitted while
//! the sum stays within `burst`. What is owed is counted in billionths of a unit, of which one nanosecond
//! pays back exactly `rate`: there is no division on the way, so nothing is ever rounded.
//!
//! ```text
//!  owed
//!   burst ┤    ╭╮        ╭╮      a take lifts it, never above the ceiling;
//!         │   ╭╯ ╲   ╭───╯ ╲     time lowers it by `rate`, never below 0
//!       0 ┼───╯   ╲──╯      ╲──
//! ```
//!
//! It promises: in every window of time, closed at both ends, the units admitted are at most
//! `rate × T + burst`, to the last unit. When rate or burst change on the way: at most the integral of the
//! rate in force, plus the burst in force at the last admission in the window. With
//! [`Quota::take_whole`], a cost above the burst stands for the burst at the moment it is admitted.
//!
//! It does not know what a unit is, and it has no clock: `now_ns` is monotonic time in nanoseconds. A
//! `now_ns` before an earlier one counts as the earlier one.

/// Billionths in one unit: what one nanosecond at one unit a second is worth.
const BILLIONTHS: u128 = 1_000_000_000;

/// Whether a cost may go.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go now.
    Now,
    /// It may go at `at_ns`, and not one nanosecond earlier.
    NotYet {
        /// Monotonic nanoseconds; `u64::MAX` when the rate is 0.
        at_ns: u64,
    },
    /// It is more than the burst: cut it.
    Never,
}

impl Verdict {
    /// The later of two, for a cost that is counted in two units at once.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::NotYet { at_ns: one }, Self::NotYet { at_ns: two }) => {
                Self::NotYet { at_ns: one.max(two) }
            }
            (Self::Now, later) | (later, Self::Now) => later,
        }
    }
}

/// So many units a second, so many at once.
#[derive(Debug, Clone)]
pub struct Quota {
    rate_per_second: u64,
    burst: u64,
    /// Billionths of a unit that were owed at `settled_ns`.
    owed: u128,
    settled_ns: u64,
    /// Of that, what is on its way: it is not paid back before it has arrived.
    on_its_way: u128,
}

impl Quota {
    /// A quota that owes nothing yet: a whole burst may go at once.
    pub fn new(rate_per_second: u64, burst: u64, now_ns: u64) -> Self {
        Self { rate_per_second, burst, owed: 0, settled_ns: now_ns, on_its_way: 0 }
    }

    /// Units a second.
    pub fn rate_per_second(&self) -> u64 {
        self.rate_per_second
    }

    /// Units at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// From `now_ns` on, another rate and another burst. What is owed stays owed, so no change of the
    /// limit ever opens a second burst.
    pub fn set_limit(&mut self, now_ns: u64, rate_per_second: u64, burst: u64) {
        self.settle(now_ns);
        self.rate_per_second = rate_per_second;
        self.burst = burst;
    }

    /// Whether `cost` units may go now. Nothing is always allowed.
    pub fn check(&self, now_ns: u64, cost: u64) -> Verdict {
        if cost > self.burst { Verdict::Never } else { self.check_below(self.burst, now_ns, cost) }
    }

    /// Like [`Quota::check`], for a cost that cannot be cut: above the burst it goes when nothing is owed,
    /// and is paid back before anything else goes. Never answers [`Verdict::Never`].
    pub fn check_whole(&self, now_ns: u64, cost: u64) -> Verdict {
        self.check_below(self.burst.max(cost), now_ns, cost)
    }

    /// Takes `cost` units if they may go now; else changes nothing.
    pub fn take(&mut self, now_ns: u64, cost: u64) -> Verdict {
        let verdict = self.check(now_ns, cost);
        self.commit(verdict, now_ns, cost)
    }

    /// Takes a cost that cannot be cut (see [`Quota::check_whole`]); else changes nothing.
    pub fn take_whole(&mut self, now_ns: u64, cost: u64) -> Verdict {
        let verdict = self.check_whole(now_ns, cost);
        self.commit(verdict, now_ns, cost)
    }

    /// What was taken last is on its way: time pays back what was owed before it, and nothing of it, until
    /// [`Quota::arrived`]. Until then "may go at" assumes that it arrives at once.
    ///
    /// So the bound holds where things arrive too, however long each was on its way, as long as one at a time is:
    /// a cost counts from its arrival on at the earliest, and the next is admitted after that.
    pub fn hold(&mut self, cost: u64) {
        self.on_its_way = billionths(cost).min(self.owed);
    }

    /// It has arrived, or never will.
    pub fn arrived(&mut self, now_ns: u64) {
        self.settle(now_ns);
        self.on_its_way = 0;
    }

    /// The most units that may go now.
    pub fn affordable(&self, now_ns: u64) -> u64 {
        let room = billionths(self.burst).saturating_sub(self.owed_at(now_ns));
        u64::try_from(room / BILLIONTHS).expect("the room is at most the burst, which is a u64")
    }

    fn check_below(&self, ceiling: u64, now_ns: u64, cost: u64) -> Verdict {
        let after = self.owed_at(now_ns) + billionths(cost);
        let excess = after.saturating_sub(billionths(ceiling));
        if excess == 0 || cost == 0 {
            return Verdict::Now;
        }
        if self.rate_per_second == 0 {
            return Verdict::NotYet { at_ns: u64::MAX };
        }
        let wait_ns = u64::try_from(excess.div_ceil(u128::from(self.rate_per_second))).unwrap_or(u64::MAX);
        Verdict::NotYet { at_ns: now_ns.max(self.settled_ns).saturating_add(wait_ns) }
    }

    fn commit(&mut self, verdict: Verdict, now_ns: u64, cost: u64) -> Verdict {
        if verdict == Verdict::Now {
            self.settle(now_ns);
            self.owed += billionths(cost);
        }
        verdict
    }

    fn settle(&mut self, now_ns: u64) {
        self.owed = self.owed_at(now_ns);
        self.settled_ns = self.settled_ns.max(now_ns);
    }

    fn owed_at(&self, now_ns: u64) -> u128 {
        let elapsed_ns = now_ns.saturating_sub(self.settled_ns);
        let paid = u128::from(self.rate_per_second) * u128::from(elapsed_ns);
        self.owed.saturating_sub(paid).max(self.on_its_way)
    }
}

fn billionths(units: u64) -> u128 {
    u128::from(units) * BILLIONTHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64),
        TakeWhole(u64),
        /// Takes all that is affordable.
        TakeAll,
        /// Waits until the cost may go, and takes it one nanosecond early and then in time.
        TakeInTime(u64),
        SetLimit(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        // Odd rates and short waits, so that a quarter of a unit is often at stake.
        let wait_ns = prop_oneof![Just(0), 0..3_u64, 0..5_000_000_u64, 0..3_000_000_000_u64];
        let cost = prop_oneof![0..4_u64, 0..300_u64];
        let step = prop_oneof![
            4 => cost.clone().prop_map(Step::Take),
            1 => cost.clone().prop_map(Step::TakeWhole),
            2 => Just(Step::TakeAll),
            3 => cost.prop_map(Step::TakeInTime),
            1 => (prop_oneof![1..8_u64, 1..2_000_000_000_u64], 1..200_u64)
                .prop_map(|(rate, burst)| Step::SetLimit(rate, burst)),
        ];
        proptest::collection::vec((wait_ns, step), 1..60)
    }

    /// What went, when, and what was allowed at that moment, all in billionths of a unit.
    struct Admission {
        admitted: u128,
        /// The integral of the rate since the start.
        earned: u128,
        /// The burst in force, or the cost itself if it went whole and was more.
        ceiling: u128,
    }

    #[derive(Default)]
    struct Witness {
        now_ns: u64,
        earned: u128,
        rate: u64,
        admissions: Vec<Admission>,
    }

    impl Witness {
        fn pass(&mut self, ns: u64) {
            self.now_ns += ns;
            self.earned += u128::from(self.rate) * u128::from(ns);
        }

        fn admit(&mut self, cost: u64, ceiling: u64) {
            if cost == 0 {
                return; // Nothing went: that is no admission.
            }
            self.admissions.push(Admission {
                admitted: billionths(cost),
                earned: self.earned,
                ceiling: billionths(ceiling),
            });
        }

        /// Every window that begins and ends with an admission, each summed on its own.
        fn assert_bound(&self) {
            for first in 0..self.admissions.len() {
                let mut admitted = 0;
                for last in &self.admissions[first..] {
                    admitted += last.admitted;
                    let earned = last.earned - self.admissions[first].earned;
                    assert!(admitted <= earned + last.ceiling, "{admitted} > {earned} + {}", last.ceiling);
                }
            }
        }
    }

    fn play(quota: &mut Quota, witness: &mut Witness, step: &Step) {
        let now_ns = witness.now_ns;
        match *step {
            Step::Take(cost) => {
                if quota.take(now_ns, cost) == Verdict::Now {
                    witness.admit(cost, quota.burst());
                }
            }
            Step::TakeWhole(cost) => {
                if quota.take_whole(now_ns, cost) == Verdict::Now {
                    witness.admit(cost, quota.burst().max(cost));
                }
            }
            Step::TakeAll => {
                let cost = quota.affordable(now_ns);
                if cost < quota.burst() {
                    assert_ne!(quota.check(now_ns, cost + 1), Verdict::Now, "affordable is the most");
                }
                assert_eq!(quota.take(now_ns, cost), Verdict::Now, "affordable may go");
                witness.admit(cost, quota.burst());
            }
            Step::TakeInTime(cost) => match quota.check(now_ns, cost) {
                Verdict::Never => assert!(cost > quota.burst()),
                Verdict::Now => {}
                Verdict::NotYet { at_ns } => {
                    assert!(at_ns > now_ns);
                    assert_ne!(quota.clone().take(at_ns - 1, cost), Verdict::Now, "one ns early");
                    witness.pass(at_ns - now_ns);
                    assert_eq!(quota.take(at_ns, cost), Verdict::Now, "in time");
                    witness.admit(cost, quota.burst());
                }
            },
            Step::SetLimit(rate, burst) => {
                quota.set_limit(now_ns, rate, burst);
                witness.rate = rate;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_window_exceeds_rate_times_time_plus_burst(
            start_ns in prop_oneof![Just(0), 0..u64::MAX / 2],
            rate in prop_oneof![1..10_u64, 1..3_000_000_000_u64],
            burst in 1..200_u64,
            steps in steps(),
        ) {
            let mut quota = Quota::new(rate, burst, start_ns);
            let mut witness = Witness { now_ns: start_ns, rate, ..Witness::default() };
            for (wait_ns, step) in &steps {
                witness.pass(*wait_ns);
                play(&mut quota, &mut witness, step);
            }
            witness.assert_bound();
        }

        #[test]
        fn whoever_takes_all_he_may_gets_exactly_the_whole_quota(
            rate in 1..2_000_000_u64,
            burst in 2..1_000_u64,
            waits_ns in proptest::collection::vec(0..10_000_000_u64, 1..50),
        ) {
            let mut quota = Quota::new(rate, burst, 0);
            let (mut now_ns, mut taken) = (0, quota.affordable(0));
            prop_assert_eq!(quota.take(0, taken), Verdict::Now);
            for wait_ns in waits_ns {
                // Never so long that the quota idles: then nothing may be lost to rounding.
                // After each take less than one unit is free, so this long the quota stays in debt.
                let owing_ns = u128::from(burst - 1) * BILLIONTHS / u128::from(rate);
                now_ns += wait_ns.min(u64::try_from(owing_ns).expect("at most 1e12"));
                let cost = quota.affordable(now_ns);
                prop_assert_eq!(quota.take(now_ns, cost), Verdict::Now);
                taken += cost;
            }
            let earned = u128::from(rate) * u128::from(now_ns) / BILLIONTHS;
            prop_assert!(u128::from(taken) <= u128::from(burst) + earned);
            prop_assert!(u128::from(taken) + 1 >= u128::from(burst) + earned);
        }
    }

    #[test]
    fn thirds_of_a_nanosecond_are_not_lost() {
        // Three a second is 333,333,333.33 ns each: in a thousand seconds, the last instant excluded, the
        // burst of two and 2,999 more have gone.
        let mut quota = Quota::new(3, 2, 0);
        let (mut now_ns, mut taken) = (0, 0);
        while now_ns < 1_000_000_000_000 {
            match quota.take(now_ns, 1) {
                Verdict::Now => taken += 1,
                Verdict::NotYet { at_ns } => now_ns = at_ns,
                Verdict::Never => unreachable!("one is within the burst"),
            }
        }
        assert_eq!(taken, 3_001);
        assert_eq!(now_ns, 1_000_000_000_000);
    }

    #[test]
    fn what_is_on_its_way_is_not_paid_back_but_what_was_owed_before_is() {
        const MS: u64 = 1_000_000;
        let mut quota = Quota::new(1_000, 100, 0);
        assert_eq!(quota.take(0, 30), Verdict::Now);
        assert_eq!(quota.take(0, 50), Verdict::Now);
        quota.hold(50);
        assert_eq!(quota.affordable(20 * MS), 40, "20 of the 30 are paid back");
        assert_eq!(quota.affordable(900 * MS), 50, "and the 50 are still out");
        quota.arrived(900 * MS);
        assert_eq!((quota.affordable(900 * MS), quota.affordable(940 * MS)), (50, 90));
    }

    proptest! {
        /// One at a time, each as long on its way as it likes; seen where they arrive.
        #[test]
        fn no_window_of_arrivals_exceeds_the_bound(
            rate in 1..100_000_u64,
            burst in 1..1_000_u64,
            trips in proptest::collection::vec((0..200_000_000_u64, 0..200_000_000_u64, 1..1_000_u64), 1..60),
        ) {
            let mut quota = Quota::new(rate, burst, 0);
            let (mut now_ns, mut arrivals) = (0, Vec::new());
            for (to_ns, back_ns, cost) in trips {
                let cost = cost.min(burst);
                if let Verdict::NotYet { at_ns } = quota.check(now_ns, cost) {
                    now_ns = at_ns;
                }
                prop_assert_eq!(quota.take(now_ns, cost), Verdict::Now);
                quota.hold(cost);
                arrivals.push((now_ns + to_ns, billionths(cost)));
                now_ns += to_ns + back_ns;
                quota.arrived(now_ns);
            }
            for first in 0..arrivals.len() {
                let mut sum = 0;
                for (at_ns, cost) in &arrivals[first..] {
                    sum += cost;
                    let earned = u128::from(rate) * u128::from(at_ns - arrivals[first].0);
                    prop_assert!(sum <= earned + billionths(burst));
                }
            }
        }
    }

    #[test]
    fn a_cost_above_the_burst_never_goes_unless_it_is_whole() {
        let mut quota = Quota::new(10, 5, 0);
        assert_eq!(quota.take(0, 6), Verdict::Never);
        assert_eq!(quota.take_whole(0, 20), Verdict::Now);
        // 20 are owed, one second pays 10: at 1.6 s 4 are owed and one more fits.
        assert_eq!(quota.check(0, 1), Verdict::NotYet { at_ns: 1_600_000_000 });
        assert_eq!(quota.check_whole(0, 20), Verdict::NotYet { at_ns: 2_000_000_000 });
    }

    #[test]
    fn what_is_owed_stays_owed_when_the_limit_moves() {
        let mut quota = Quota::new(100, 100, 0);
        assert_eq!(quota.take(0, 100), Verdict::Now);
        quota.set_limit(0, 200, 150);
        assert_eq!(quota.affordable(0), 50);
        quota.set_limit(0, 50, 10);
        assert_eq!(quota.affordable(0), 0);
        assert_eq!(quota.check(0, 10), Verdict::NotYet { at_ns: 2_000_000_000 });
    }

    #[test]
    fn a_rate_of_zero_waits_for_another_rate() {
        let mut quota = Quota::new(0, 1, 0);
        assert_eq!(quota.take(0, 1), Verdict::Now);
        assert_eq!(quota.take(u64::MAX - 1, 1), Verdict::NotYet { at_ns: u64::MAX });
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let mut quota = Quota::new(1_000, 1, 1_000_000_000);
        assert_eq!(quota.take(1_000_000_000, 1), Verdict::Now);
        assert_eq!(quota.check(0, 1), Verdict::NotYet { at_ns: 1_001_000_000 });
        quota.set_limit(0, 1_000, 1);
        assert_eq!(quota.check(1_000_000_000, 1), Verdict::NotYet { at_ns: 1_001_000_000 });
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut quota = Quota::new(u64::MAX, u64::MAX, 0);
        assert_eq!(quota.take(0, u64::MAX), Verdict::Now);
        assert_eq!(quota.take(u64::MAX, u64::MAX), Verdict::Now);
        assert_eq!(quota.check_whole(u64::MAX, u64::MAX), Verdict::NotYet { at_ns: u64::MAX });
    }
}
