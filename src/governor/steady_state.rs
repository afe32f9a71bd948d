//! What the source usually gives: a moving mean of the accepted input, in records and bytes a second.
//!
//! An exponentially weighted mean with ticks of 100 ms. The weights are normalised by their sum from the
//! first tick on: without that a young agent's estimate would begin at 0, its limit below its own input,
//! and nothing would ever drain. So an agent that is much younger than the window knows its plain mean,
//! and one that is much older forgets with the window's time constant.
//!
//! It promises: the estimate always lies between the lowest and the highest tick seen (or restored); while
//! the input is frozen it does not move, because what a blocked producer gives is our own doing and says
//! nothing about it. An agent that was blocked from its first tick on therefore knows nothing: the
//! governor's floor is what drains it.
//!
//! It does not know what is done with the estimate, and it has no clock.

use serde::{Deserialize, Serialize};

/// How often input is folded into the mean, in nanoseconds; calls in between only wait.
pub const TICK_NS: u64 = 100_000_000;

/// Input, or a limit, in both units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Records a second.
    pub records_per_second: u64,
    /// Bytes a second.
    pub bytes_per_second: u64,
}

/// Where the last tick ended.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    at_ns: u64,
    records_total: u64,
    bytes_total: u64,
}

/// A moving mean of the accepted input.
#[derive(Debug, Clone)]
pub struct SteadyState {
    window_ns: u64,
    anchor: Option<Anchor>,
    /// Weighted sums, not yet divided by `weight`.
    records: f64,
    bytes: f64,
    /// The sum of the weights: 0 when nothing is known, towards 1 with age.
    weight: f64,
}

impl SteadyState {
    /// A mean that knows nothing; `window_ns` is its time constant and at least one tick.
    pub fn new(window_ns: u64) -> Self {
        Self { window_ns: window_ns.max(TICK_NS), anchor: None, records: 0.0, bytes: 0.0, weight: 0.0 }
    }

    /// Counts what was accepted since the last tick, given totals that only grow. Says whether a tick was
    /// over and the estimate may have moved. The first call only remembers the totals: they may stem from
    /// before this process. However late a call comes, what it brings counts for the time that has passed.
    pub fn observe(&mut self, now_ns: u64, records_total: u64, bytes_total: u64) -> bool {
        let here = Anchor { at_ns: now_ns, records_total, bytes_total };
        let Some(anchor) = self.anchor else {
            self.anchor = Some(here);
            return false;
        };
        let elapsed_ns = now_ns.saturating_sub(anchor.at_ns);
        if elapsed_ns < TICK_NS {
            return false;
        }
        self.anchor = Some(here);
        let per_second = 1e9 / elapsed_ns as f64;
        let share = -(-(elapsed_ns as f64) / self.window_ns as f64).exp_m1();
        let records = records_total.saturating_sub(anchor.records_total) as f64 * per_second;
        let bytes = bytes_total.saturating_sub(anchor.bytes_total) as f64 * per_second;
        self.records += share * (records - self.records);
        self.bytes += share * (bytes - self.bytes);
        self.weight += share * (1.0 - self.weight);
        true
    }

    /// Input is, or was since the last call, blocked: lets the time and the totals pass uncounted.
    pub fn freeze(&mut self, now_ns: u64, records_total: u64, bytes_total: u64) {
        self.anchor = Some(Anchor { at_ns: now_ns, records_total, bytes_total });
    }

    /// Goes on from what an earlier process knew, as if it had always been so. A zero in both units
    /// restores nothing: it is what an agent writes that had seen nothing yet.
    pub fn restore(&mut self, estimate: Estimate) {
        if estimate == Estimate::default() {
            return;
        }
        self.records = estimate.records_per_second as f64;
        self.bytes = estimate.bytes_per_second as f64;
        self.weight = 1.0;
    }

    /// What the source usually gives; `None` while nothing is known.
    pub fn estimate(&self) -> Option<Estimate> {
        (self.weight > 0.0).then(|| Estimate {
            records_per_second: (self.records / self.weight).round() as u64,
            bytes_per_second: (self.bytes / self.weight).round() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_NS: u64 = 30_000_000_000;

    /// Plays ticks of `(nanoseconds, records, bytes)` behind an anchor at 0.
    fn play(state: &mut SteadyState, ticks: &[(u64, u64, u64)]) {
        let (mut now_ns, mut records_total, mut bytes_total) = (0, 7, 11);
        state.observe(now_ns, records_total, bytes_total);
        for (ns, records, bytes) in ticks {
            now_ns += ns;
            records_total += records;
            bytes_total += bytes;
            state.observe(now_ns, records_total, bytes_total);
        }
    }

    fn known(state: &SteadyState) -> Estimate {
        state.estimate().expect("a tick was seen")
    }

    #[test]
    fn the_first_tick_already_knows_a_steady_input() {
        let mut state = SteadyState::new(WINDOW_NS);
        play(&mut state, &[(TICK_NS, 2_000, 512_000)]);
        assert_eq!(known(&state), Estimate { records_per_second: 20_000, bytes_per_second: 5_120_000 });
    }

    #[test]
    fn totals_from_before_this_process_are_not_input() {
        let mut state = SteadyState::new(WINDOW_NS);
        assert!(!state.observe(5, 1_000_000_000, 1_000_000_000));
        assert_eq!(state.estimate(), None);
        assert!(state.observe(5 + TICK_NS, 1_000_000_001, 1_000_000_010));
        assert_eq!(known(&state), Estimate { records_per_second: 10, bytes_per_second: 100 });
    }

    #[test]
    fn after_one_time_constant_a_step_has_come_63_percent_of_its_way() {
        let mut state = SteadyState::new(WINDOW_NS);
        state.restore(Estimate { records_per_second: 1_000, bytes_per_second: 1 });
        play(&mut state, &[(TICK_NS, 200, 0); 300]);
        let expected = 2_000.0 - 1_000.0 * (-1.0_f64).exp();
        assert_eq!(known(&state).records_per_second, expected.round() as u64);
    }

    #[test]
    fn frozen_input_moves_nothing_and_is_never_counted_later() {
        let mut state = SteadyState::new(WINDOW_NS);
        play(&mut state, &[(TICK_NS, 100, 1_000); 50]);
        let before = known(&state);
        let mut now_ns = 50 * TICK_NS;
        for tick in 0..1_000 {
            now_ns += TICK_NS;
            state.freeze(now_ns, 1_000_000 * tick, 1_000_000 * tick);
            assert_eq!(known(&state), before);
        }
        state.observe(now_ns + TICK_NS, 999_000_100, 999_001_000);
        assert_eq!(known(&state), before, "the first tick afterwards is like those before");
    }

    #[test]
    fn a_restored_zero_is_no_knowledge() {
        let mut state = SteadyState::new(WINDOW_NS);
        state.restore(Estimate::default());
        assert_eq!(state.estimate(), None);
        play(&mut state, &[(TICK_NS, 100, 1_000)]);
        assert_eq!(known(&state).records_per_second, 1_000);
    }

    #[test]
    fn totals_that_fall_count_as_nothing() {
        let mut state = SteadyState::new(WINDOW_NS);
        state.observe(0, 100, 100);
        assert!(state.observe(TICK_NS, 0, 0));
        assert_eq!(known(&state), Estimate::default());
    }

    proptest! {
        #[test]
        fn a_young_estimate_is_the_mean_of_the_input_so_far(
            records in proptest::collection::vec(0..100_000_u64, 1..30),
        ) {
            let ticks: Vec<_> = records.iter().map(|records| (TICK_NS, *records, records * 3)).collect();
            let mut state = SteadyState::new(WINDOW_NS);
            play(&mut state, &ticks);
            let age = ticks.len() as f64 * TICK_NS as f64;
            let mean = records.iter().sum::<u64>() as f64 * 1e9 / age;
            // The oldest and the newest tick differ in weight by less than this, half a unit is rounding.
            let slack = (age / WINDOW_NS as f64).exp();
            let estimate = known(&state).records_per_second as f64;
            prop_assert!(estimate <= mean * slack + 0.51, "{estimate} {mean}");
            prop_assert!(estimate >= mean / slack - 0.51, "{estimate} {mean}");
        }

        #[test]
        fn irregular_calls_lose_nothing_and_stay_within_what_was_seen(
            ticks in proptest::collection::vec((TICK_NS..20 * TICK_NS, 1..100_000_u64), 1..200),
            window_ns in 1..100_000_000_000_u64,
        ) {
            let ticks: Vec<_> = ticks.iter().map(|(ns, records)| (*ns, *records, *records)).collect();
            let rates = ticks.iter().map(|(ns, records, _)| *records as f64 * 1e9 / *ns as f64);
            let (low, high) = rates.fold((f64::MAX, 0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
            let mut state = SteadyState::new(window_ns);
            play(&mut state, &ticks);
            let estimate = known(&state);
            prop_assert_eq!(estimate.records_per_second, estimate.bytes_per_second);
            let estimate = estimate.records_per_second as f64;
            prop_assert!(estimate >= low - 0.51 && estimate <= high + 0.51, "{low} {estimate} {high}");
        }

        #[test]
        fn calls_within_a_tick_only_wait(parts in proptest::collection::vec(1..TICK_NS, 2..40)) {
            // The same steady input, seen at odd moments, gives the same estimate.
            let mut state = SteadyState::new(WINDOW_NS);
            let mut now_ns = 0;
            state.observe(0, 0, 0);
            for part in parts {
                now_ns += part;
                state.observe(now_ns, now_ns / 1_000, now_ns / 100);
            }
            if let Some(estimate) = state.estimate() {
                prop_assert!(estimate.records_per_second.abs_diff(1_000_000) <= 20, "{estimate:?}");
            }
        }
    }
}
