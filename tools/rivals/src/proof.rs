//! Equal durability, shown by the kernel: how often a contestant's files were really synced, against its barriers.
//!
//! Counted is ext4's own entry of a sync, a tracepoint that `perf` records for the whole machine; those of the files in
//! the lap's directory are the contestant's. Every way leads through it: fsync, fdatasync, msync, O_SYNC and RWF_DSYNC
//! writes, what a ring submits, and what a kernel thread syncs when such a write has come back. (On a device with FUA,
//! a DSYNC write may need none: it would be refused, not believed.) `strace` adds which system calls there were. Without
//! perf, root or ext4 its fsync, fdatasync and msync are all that is counted, and who syncs through a ring is refused:
//! nothing proves it. Counted is from the lap's start of the clock to its end, so that opening and closing prove nothing;
//! where strace counts, which knows no time, what a lap of no appends has is taken off.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::Result;
use crate::contestants::Entrant;
use crate::lap;
use crate::workload::Workload;

/// The file system that says when a file is being synced, and where.
const TRACED_FILE_SYSTEM: &str = "ext4";
const TRACEPOINT: &str = "ext4:ext4_sync_file_enter";
/// The clock that a lap reads too.
const CLOCK: &str = "CLOCK_MONOTONIC";

const SYSTEM_CALLS: &str = "trace=fsync,fdatasync,msync,sync_file_range,pwritev2,io_uring_enter";

/// Behind it are syncs that strace can't tell from writes.
const RING_CALL: &str = "io_uring_enter";

/// Who counts where there is no tracepoint.
const STRACE: &str = "strace";

/// Those of them that make durable what was written before, whatever their flags are.
const SYNCING_CALLS: [&str; 3] = ["fsync", "fdatasync", "msync"];

/// What was counted in one short lap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Proof {
    pub(crate) barriers: u64,
    /// Syncs that there have to be at least: one a barrier, but for who may leave some outstanding.
    pub(crate) needed: u64,
    /// Syncs that there were.
    pub(crate) syncs: u64,
    /// Who counted: the tracepoint, or `strace`.
    pub(crate) counted_by: String,
    /// System calls and how many.
    pub(crate) calls: Vec<(String, u64)>,
}

impl Proof {
    /// Why the contestant may not be compared, if it may not.
    pub(crate) fn refusal(&self) -> Option<String> {
        let Self { barriers, needed, syncs, counted_by, calls } = self;
        if syncs >= needed {
            return None;
        }
        if counted_by == STRACE && calls_of(calls, RING_CALL) > 0 {
            return Some(
                "not proven: what a ring syncs only a tracepoint sees; install perf, and run it as root"
                    .into(),
            );
        }
        Some(match syncs {
            0 => format!("never syncs: {barriers} barriers, no sync ({counted_by})"),
            _ => format!(
                "unequal durability: {barriers} barriers, {syncs} syncs, {needed} needed ({counted_by})"
            ),
        })
    }

    pub(crate) fn syncs_per_barrier(&self) -> f64 {
        self.syncs as f64 / self.barriers.max(1) as f64
    }
}

/// What counts on this machine.
#[derive(Debug)]
pub(crate) struct Counter {
    scratch: PathBuf,
    /// Whether perf may record the tracepoint.
    traces: bool,
}

impl Counter {
    /// Looks for strace, and for perf and the tracepoint if `scratch` lies on a `file_system` that has it.
    ///
    /// # Errors
    /// There is no strace.
    pub(crate) fn new(scratch: &Path, file_system: &str) -> Result<Self> {
        let runs = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !runs(STRACE, &["-V"]) {
            return Err("strace is missing: install it, or leave out the proof with --no-proof".into());
        }
        let traces = file_system == TRACED_FILE_SYSTEM
            && runs(
                "perf",
                &["record", "-a", "-k", CLOCK, "-o", "/dev/null", "-e", TRACEPOINT, "--", "true"],
            );
        Ok(Self { scratch: scratch.to_owned(), traces })
    }

    /// Who counts, for people.
    pub(crate) fn name(&self) -> &'static str {
        if self.traces { TRACEPOINT } else { STRACE }
    }

    /// Runs `entrant` briefly, and counts.
    pub(crate) fn prove(&self, entrant: &Entrant, workload: Workload) -> Result<Proof> {
        let appends = workload.appends_proving();
        let Counted { calls, traced } = self.count(entrant, workload, appends)?;
        let syncs = match traced {
            Some(syncs) => syncs,
            None => {
                let of = |calls: &[(String, u64)]| {
                    SYNCING_CALLS.iter().map(|name| calls_of(calls, name)).sum::<u64>()
                };
                of(&calls).saturating_sub(of(&self.count(entrant, workload, 0)?.calls))
            }
        };
        let barriers = workload.barriers(appends);
        let needed = barriers / (1 + entrant.barriers_ahead);
        Ok(Proof { barriers, needed, syncs, counted_by: self.name().to_owned(), calls })
    }

    fn count(&self, entrant: &Entrant, workload: Workload, appends: u64) -> Result<Counted> {
        let notes = tempfile::tempdir_in(&self.scratch)?;
        let [by_perf, by_strace] =
            ["perf", "strace"].map(|name| notes.path().join(name).display().to_string());
        let mut before: Vec<String> = Vec::new();
        if self.traces {
            before.extend(
                ["perf", "record", "-a", "-k", CLOCK, "-o", &by_perf, "-e", TRACEPOINT, "--"]
                    .map(str::to_owned),
            );
        }
        before.extend(["strace", "-f", "-c", "-o", &by_strace, "-e", SYSTEM_CALLS].map(str::to_owned));
        let directory = lap::directory(&self.scratch)?;
        let outcome = lap::finish(lap::command(entrant, workload, appends, &before)?, directory.path())?;
        let calls = calls(&std::fs::read_to_string(by_strace)?);
        let traced = if self.traces {
            let arguments = ["script", "--ns", "-F", "time,trace", "-i", &by_perf];
            let output = Command::new("perf").args(arguments).output()?;
            let timed = outcome.begun_ns..=outcome.begun_ns + outcome.wall_ns;
            let mut inodes = HashSet::new();
            collect_inodes(directory.path(), &mut inodes)?;
            Some(traced(&String::from_utf8_lossy(&output.stdout), &inodes, &timed))
        } else {
            None
        };
        directory.close()?;
        Ok(Counted { calls, traced })
    }
}

struct Counted {
    calls: Vec<(String, u64)>,
    traced: Option<u64>,
}

fn calls_of(calls: &[(String, u64)], name: &str) -> u64 {
    calls.iter().find(|(call, _)| call == name).map_or(0, |(_, calls)| *calls)
}

/// `folder` and everything in it.
fn collect_inodes(folder: &Path, inodes: &mut HashSet<u64>) -> Result<()> {
    inodes.insert(std::fs::metadata(folder)?.ino());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        inodes.insert(entry.ino());
        if entry.file_type()?.is_dir() {
            collect_inodes(&entry.path(), inodes)?;
        }
    }
    Ok(())
}

/// Syncs of `inodes` within `timed` among the lines of `perf script`: `7.000000012: dev 254,0 ino 12 parent 2 datasync 1`.
/// The parent counts too: a file may be gone by now.
fn traced(text: &str, inodes: &HashSet<u64>, timed: &RangeInclusive<u64>) -> u64 {
    let number = |line: &str, name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)?.parse::<u64>().ok()
    };
    let at_ns = |line: &str| {
        let (seconds, ns) = line.split_whitespace().next()?.strip_suffix(':')?.split_once('.')?;
        Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + ns.parse::<u64>().ok()?)
    };
    let counts = |line: &&str| {
        at_ns(line).is_some_and(|at| timed.contains(&at))
            && ["ino", "parent"]
                .iter()
                .any(|name| number(line, name).is_some_and(|inode| inodes.contains(&inode)))
    };
    text.lines().filter(counts).count() as u64
}

/// The table of `strace -c`: the calls stand in the fourth column, the name in the last.
fn calls(text: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (columns.last()?, columns.get(3)?.parse().ok()?);
        (columns.len() >= 5 && *name != "total").then(|| ((*name).to_owned(), calls))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(needed: u64, syncs: u64) -> Proof {
        Proof { barriers: 40, needed, syncs, counted_by: STRACE.into(), calls: Vec::new() }
    }

    #[test]
    fn fewer_syncs_than_barriers_are_refused_with_a_word() {
        assert_eq!(proof(40, 40).refusal(), None);
        assert_eq!(proof(40, 41).refusal(), None);
        let fewer = proof(40, 39).refusal().unwrap();
        assert_eq!(fewer, "unequal durability: 40 barriers, 39 syncs, 40 needed (strace)");
        assert_eq!(proof(4, 5).refusal(), None, "who may leave eight outstanding");
        assert!(proof(40, 0).refusal().unwrap().starts_with("never syncs"));
    }

    #[test]
    fn nobody_is_believed_whose_syncs_nobody_has_seen() {
        let ring = Proof { calls: vec![(RING_CALL.into(), 400)], ..proof(40, 0) };
        assert!(ring.refusal().unwrap().starts_with("not proven"));
        let seen = Proof { counted_by: TRACEPOINT.into(), ..ring };
        assert!(seen.refusal().unwrap().starts_with("never syncs"), "the tracepoint sees a ring too");
    }

    #[test]
    fn the_tables_of_strace_and_perf_are_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     98.01    0.012345          12      1021         3 io_uring_enter\n\
                     \x20 1.99    0.000250          25        10           fdatasync\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.012595          12      1031         3 total\n";
        assert_eq!(calls(table), [("io_uring_enter".to_owned(), 1_021), ("fdatasync".to_owned(), 10)]);
        let recorded = "1.000000000: dev 254,0 ino 12 parent 10 datasync 1\n\
                        1.000000009: dev 254,0 ino 99 parent 10 datasync 0\n\
                        2.000000000:  dev 254,0 ino 12 parent 7 datasync 1\n\
                        1.000000005: dev 254,0 ino 5 parent 6 datasync 1\n";
        let count = |inodes: [u64; 2], last| traced(recorded, &inodes.into(), &(1_000_000_000..=last));
        assert_eq!(count([10, 12], 2_000_000_000), 3);
        assert_eq!(count([10, 12], 1_999_999_999), 2, "after the clock has stopped");
        assert_eq!(count([254, 0], 2_000_000_000), 0, "a stranger");
    }
}
