//! Who runs when: the proofs first, then rounds in which every row runs one lap, in an order drawn anew each round.

use std::fs::File;
use std::path::Path;

use crate::Result;
use crate::contestants::Entrant;
use crate::lap::{self, Outcome};
use crate::place::Place;
use crate::proof::{Counter, Proof};
use crate::spread::Spread;
use crate::stop;
use crate::workload::Workload;

/// The order of a run is always the same one, so that it can be run again.
const SEED: u64 = 0x5ca1_ab1e;

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) records: u64,
    pub(crate) laps: u16,
    pub(crate) proves: bool,
}

/// A contestant in a workload, and what became of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) entrant: &'static Entrant,
    pub(crate) workload: Workload,
    pub(crate) proof: Option<Proof>,
    /// One for each round.
    pub(crate) laps: Vec<Outcome>,
    /// Why it is out, if it is; refusals come with a proof.
    pub(crate) out: Option<String>,
}

impl Row {
    pub(crate) fn new(entrant: &'static Entrant, workload: Workload) -> Self {
        Self { entrant, workload, proof: None, laps: Vec::new(), out: None }
    }

    fn is_refused(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.refusal().is_some())
    }

    /// It is out for a reason that no proof gives.
    pub(crate) fn has_failed(&self) -> bool {
        self.out.is_some() && !self.is_refused()
    }

    /// `name version`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.entrant.name, self.entrant.version()).trim_end().to_owned()
    }

    pub(crate) fn records_per_second(&self) -> Option<Spread> {
        Spread::of(self.laps.iter().map(Outcome::records_per_second))
    }

    pub(crate) fn cpu_ns_per_record(&self) -> Option<Spread> {
        Spread::of(self.laps.iter().map(Outcome::cpu_ns_per_record))
    }

    /// Median and 99th percentile of the waits, in us, each over the laps.
    pub(crate) fn wait_us(&self) -> Option<(Spread, Spread)> {
        let of = |which: fn(lap::Wait) -> u64| {
            Spread::of(self.laps.iter().filter_map(|lap| Some(which(lap.wait_ns?) as f64 / 1e3)))
        };
        Some((of(|wait| wait.p50)?, of(|wait| wait.p99)?))
    }

    /// How many times as fast `ours` was, round by round: by the median wait where one record is waited for, by
    /// records a second otherwise.
    pub(crate) fn times_slower_than(&self, ours: &Self) -> Option<Spread> {
        let cost = |lap: &Outcome| match (self.workload, lap.wait_ns) {
            (Workload::Single, Some(wait)) => wait.p50 as f64,
            _ => 1.0 / lap.records_per_second(),
        };
        let rounds = self.laps.iter().zip(&ours.laps);
        Spread::of(rounds.map(|(theirs, ours)| cost(theirs) / cost(ours)))
    }
}

/// Proves and races `rows`; who is out says why in its row.
///
/// # Errors
/// Nothing can be counted; or somebody has asked to stop.
pub(crate) fn run(plan: &Plan, rows: &mut [Row], scratch: &Path, place: &Place) -> Result<()> {
    if plan.proves {
        let counter = Counter::new(scratch, place.file_system)?;
        for row in rows.iter_mut() {
            eprintln!("counting the syncs of {}, {} ({})", row.entrant.name, row.workload, counter.name());
            match counter.prove(row.entrant, row.workload) {
                Ok(proof) => {
                    row.out = proof.refusal();
                    row.proof = Some(proof);
                }
                Err(error) => row.out = Some(error.to_string()),
            }
            continues()?;
        }
    }
    let mut random = SEED;
    for round in 1..=plan.laps {
        eprintln!("round {round} of {}", plan.laps);
        for index in shuffled(rows.len(), &mut random) {
            let row = &mut rows[index];
            if row.out.is_some() {
                continue;
            }
            settle(scratch)?;
            let appends = row.workload.appends(plan.records);
            let lap = in_fresh_directory(row.entrant, row.workload, appends, scratch);
            match lap {
                Ok(outcome) => row.laps.push(outcome),
                Err(error) => row.out = Some(error.to_string()),
            }
            continues()?;
        }
    }
    Ok(())
}

fn in_fresh_directory(
    entrant: &Entrant,
    workload: Workload,
    appends: u64,
    scratch: &Path,
) -> Result<Outcome> {
    let directory = lap::directory(scratch)?;
    let outcome = lap::finish(lap::command(entrant, workload, appends, &[])?, directory.path())?;
    directory.close()?;
    Ok(outcome)
}

fn continues() -> Result<()> {
    if stop::is_asked() { Err("interrupted".into()) } else { Ok(()) }
}

/// Nobody pays for what the lap before has left dirty.
fn settle(scratch: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(scratch)?)?;
    Ok(())
}

fn shuffled(count: usize, random: &mut u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(last, (*random % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::ENTRANTS;
    use crate::lap::Wait;

    fn row(workload: Workload, walls_us: &[u64]) -> Row {
        let mut row = Row::new(&ENTRANTS[0], workload);
        let lap = |wall_us: &u64| Outcome {
            appends: 1,
            begun_ns: 0,
            wall_ns: wall_us * 1_000,
            cpu_ns: 1,
            wait_ns: Some(Wait { p50: wall_us * 10, p99: wall_us * 20 }),
        };
        row.laps = walls_us.iter().map(lap).collect();
        row
    }

    #[test]
    fn a_round_is_compared_with_itself_only() {
        for workload in Workload::ALL {
            let (ours, theirs) = (row(workload, &[1, 10, 100]), row(workload, &[2, 20, 300]));
            let ratio = theirs.times_slower_than(&ours).unwrap();
            assert!((ratio.median - 2.0).abs() < 1e-9 && (ratio.max - 3.0).abs() < 1e-9, "{ratio:?}");
        }
    }

    #[test]
    fn each_round_is_a_permutation_of_its_own() {
        let mut random = SEED;
        let [first, second] = [0; 2].map(|_| shuffled(20, &mut random));
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..20).collect::<Vec<_>>());
        }
    }
}
