//! The governor's promise, integrated: what went, against the limit in force at each moment.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn governor() -> Governor {
    Governor::new(GovernorSettings::default(), 0).expect("the defaults are right")
}

/// A governor that has seen a steady input for `ticks` ticks from 0 on.
fn governor_after(ticks: u64, records_per_tick: u64, bytes_per_tick: u64) -> Governor {
    let mut governor = governor();
    for tick in 0..=ticks {
        governor.observe(tick * 100 * MS, tick * records_per_tick, tick * bytes_per_tick, false);
    }
    governor
}

#[test]
fn the_limit_is_the_floor_until_something_is_known() {
    let governor = governor();
    assert_eq!(governor.limit(), Limit { records_per_second: 100, bytes_per_second: 65_536 });
    assert_eq!(governor.burst(), Allowance { records: 10, bytes: 6_553 });
    assert_eq!(governor.steady_state(), None);
}

#[test]
fn from_the_first_tick_on_the_limit_is_above_a_steady_input() {
    for ticks in [1, 2, 10, 1_000] {
        let governor = governor_after(ticks, 2_000, 512_000);
        assert_eq!(governor.limit(), Limit { records_per_second: 30_000, bytes_per_second: 7_680_000 });
        assert_eq!(governor.burst(), Allowance { records: 3_000, bytes: 768_000 });
    }
}

#[test]
fn a_blocked_input_moves_nothing() {
    let mut governor = governor_after(100, 2_000, 512_000);
    let before = governor.limit();
    for tick in 101..10_000 {
        governor.observe(tick * 100 * MS, 200_000, 51_200_000, true);
    }
    assert_eq!(governor.limit(), before);
}

#[test]
fn an_idle_source_falls_to_the_floor_and_no_further() {
    let mut governor = governor_after(100, 2_000, 512_000);
    for tick in 101..10_000 {
        governor.observe(tick * 100 * MS, 200_000, 51_200_000, false);
    }
    assert_eq!(governor.limit(), Limit { records_per_second: 100, bytes_per_second: 65_536 });
}

#[test]
fn a_restart_goes_on_with_the_same_limit() {
    let before = governor_after(1_000, 2_000, 512_000);
    let mut after = governor();
    after.restore(0, before.steady_state().expect("it has seen input"));
    assert_eq!(after.limit(), before.limit());
    assert_eq!(after.burst(), before.burst());
}

#[test]
fn a_record_larger_than_the_burst_goes_alone_and_is_paid_back() {
    let mut governor = governor();
    assert_eq!(governor.take(0, 1, 100), Verdict::Now);
    let Verdict::NotYet { at_ns } = governor.check(0, 1, 655_360) else {
        panic!("100 bytes are still owed");
    };
    assert_eq!(governor.check(at_ns - 1, 1, 655_360), Verdict::NotYet { at_ns });
    assert_eq!(governor.next_at(0, 1, 655_360), at_ns);
    assert_eq!(governor.take(at_ns, 1, 655_360), Verdict::Now);
    assert_eq!(governor.affordable(at_ns + 9 * SECOND).bytes, 0);
    assert_eq!(governor.affordable(at_ns + 10 * SECOND).bytes, 6_553);
    assert_eq!(governor.check(at_ns, 2, 655_360), Verdict::Never, "two can be cut");
}

#[test]
fn a_refusal_in_one_unit_takes_nothing_in_the_other() {
    let mut governor = governor();
    let before = governor.affordable(0);
    assert_eq!(governor.take(0, 11, 1), Verdict::Never);
    assert_eq!(governor.take(0, 2, 6_554), Verdict::Never);
    assert_eq!(governor.affordable(0), before);
    assert_eq!(governor.take(0, 2, 6_553), Verdict::Now);
    let left = governor.affordable(0);
    assert!(matches!(governor.take(0, 2, 6_553), Verdict::NotYet { .. }));
    assert_eq!(governor.affordable(0), left);
}

#[test]
fn next_at_answers_for_the_part_that_can_go_at_once() {
    let mut governor = governor();
    assert_eq!(governor.next_at(5, 5_000, 1 << 20), 5);
    assert_eq!(governor.take(5, 10, 10), Verdict::Now);
    assert_eq!(governor.next_at(5, 5_000, 10), 5 + 100 * MS);
    assert_eq!(governor.next_at(5, 5, 10), 5 + 50 * MS);
}

#[test]
fn wrong_settings_are_named_and_change_nothing() {
    for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1_001.0] {
        let settings = GovernorSettings { factor, ..GovernorSettings::default() };
        assert_eq!(Governor::new(settings, 0).expect_err("wrong").kind(), Kind::Config);
        let mut governor = governor_after(10, 100, 1_000);
        let before = governor.limit();
        assert!(governor.set_factor(SECOND, factor).is_err());
        assert_eq!(governor.limit(), before);
    }
    let settings = GovernorSettings { floor_bytes_per_second: 0, ..GovernorSettings::default() };
    let error = Governor::new(settings, 0).expect_err("wrong").to_string();
    assert!(error.contains("floor_bytes_per_second"), "{error}");
}

#[derive(Debug, Clone)]
enum Step {
    /// Input until the next step: records, and how large each is.
    Input(u64, u64),
    Blocked,
    /// Takes a part (in percent) of what is affordable, in records of this size.
    Take(u64, u64),
    /// Takes one record, however large, if it may go.
    TakeOne(u64),
    SetFactor(f64),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let wait_ns = prop_oneof![0..3 * MS, 0..150 * MS, 0..3 * SECOND];
    let step = prop_oneof![
        4 => (0..20_000_u64, 1..2_000_u64).prop_map(|(records, size)| Step::Input(records, size)),
        1 => Just(Step::Blocked),
        6 => (1..=100_u64, 1..2_000_u64).prop_map(|(percent, size)| Step::Take(percent, size)),
        2 => prop_oneof![1..100_u64, 1..200_000_u64].prop_map(Step::TakeOne),
        1 => (0.1..5.0_f64).prop_map(Step::SetFactor),
    ];
    proptest::collection::vec((wait_ns, step), 1..80)
}

/// One take: what went, what the limit had given since the start, and the burst at that moment.
/// `[records, bytes]`, in billionths.
struct Taken {
    cost: [u128; 2],
    earned: [u128; 2],
    ceiling: [u128; 2],
}

#[derive(Default)]
struct Witness {
    earned: [u128; 2],
    taken: Vec<Taken>,
}

impl Witness {
    fn pass(&mut self, ns: u64, limit: Limit) {
        self.earned[0] += u128::from(limit.records_per_second) * u128::from(ns);
        self.earned[1] += u128::from(limit.bytes_per_second) * u128::from(ns);
    }

    fn take(&mut self, governor: &mut Governor, now_ns: u64, records: u64, bytes: u64) -> Verdict {
        let verdict = governor.take(now_ns, records, bytes);
        if verdict == Verdict::Now && records > 0 {
            let burst = governor.burst();
            let largest = if records == 1 { bytes } else { 0 };
            let billionths = |units| u128::from(units) * 1_000_000_000;
            self.taken.push(Taken {
                cost: [records, bytes].map(billionths),
                earned: self.earned,
                ceiling: [burst.records, burst.bytes.max(largest)].map(billionths),
            });
        }
        verdict
    }

    fn assert_promise(&self) {
        for unit in [0, 1] {
            for (first, begin) in self.taken.iter().enumerate() {
                let mut sum = 0;
                for end in &self.taken[first..] {
                    sum += end.cost[unit];
                    assert!(sum <= end.earned[unit] - begin.earned[unit] + end.ceiling[unit]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_window_exceeds_the_limit_in_force_plus_the_burst(steps in steps()) {
        let mut governor = governor();
        let mut witness = Witness::default();
        let (mut now_ns, mut records_total, mut bytes_total) = (0, 0, 0);
        for (wait_ns, step) in steps {
            witness.pass(wait_ns, governor.limit());
            now_ns += wait_ns;
            match step {
                Step::Input(records, size) => {
                    records_total += records;
                    bytes_total += records * size;
                    governor.observe(now_ns, records_total, bytes_total, false);
                }
                Step::Blocked => governor.observe(now_ns, records_total, bytes_total, true),
                Step::Take(percent, size) => {
                    let allowance = governor.affordable(now_ns);
                    let records = (allowance.records * percent / 100).min(allowance.bytes / size);
                    let verdict = witness.take(&mut governor, now_ns, records, records * size);
                    prop_assert_eq!(verdict, Verdict::Now, "what is affordable may go");
                }
                Step::TakeOne(size) => {
                    let next_ns = governor.next_at(now_ns, 1, size);
                    let verdict = witness.take(&mut governor, now_ns, 1, size);
                    prop_assert_eq!(verdict == Verdict::Now, next_ns == now_ns);
                    if next_ns > now_ns {
                        prop_assert_eq!(governor.clone().take(next_ns, 1, size), Verdict::Now);
                        prop_assert_ne!(governor.clone().take(next_ns - 1, 1, size), Verdict::Now);
                    }
                }
                Step::SetFactor(factor) => governor.set_factor(now_ns, factor).expect("in range"),
            }
        }
        witness.assert_promise();
    }
}
