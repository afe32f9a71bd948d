//! One lap: a fresh directory, a process of its own, a clock around the appends.
//!
//! ```text
//! runner ──spawn──► this binary, `lap`: open ─ warm up ─ [ appends ] ─ close ──Outcome, a line of JSON──► runner
//!                                                        the clock
//! ```
//!
//! A process for each lap, because contestants keep global state and files open, read the environment, and may panic:
//! none of that may touch the next lap. Opening, the first group (it makes the first files) and closing are not timed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::contestants::{Contestant, Entrant, Terms};
use crate::workload::{GROUP_RECORDS, PAYLOAD_BYTES, THREADS, Workload, payload};
use crate::{Result, stop};

/// A lap that takes longer hangs.
const LAP_TIME_MAX: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(2);

/// What a lap took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) appends: u64,
    /// When the clock started, by CLOCK_MONOTONIC.
    pub(crate) begun_ns: u64,
    pub(crate) wall_ns: u64,
    /// Of all its threads, user and system.
    pub(crate) cpu_ns: u64,
    /// How long one append waited; nothing when groups were.
    pub(crate) wait_ns: Option<Wait>,
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wait {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

impl Outcome {
    pub(crate) fn records_per_second(&self) -> f64 {
        self.appends as f64 * 1e9 / self.wall_ns.max(1) as f64
    }

    pub(crate) fn cpu_ns_per_record(&self) -> f64 {
        self.cpu_ns as f64 / self.appends.max(1) as f64
    }
}

/// Runs a lap in this process.
pub(crate) fn run(entrant: &Entrant, terms: &Terms<'_>) -> Result<Outcome> {
    let contestant = (entrant.open)(terms)?;
    let payload = payload();
    warm_up(contestant.as_ref(), terms.workload, &payload)?;
    let (cpu, begun) = (time(ClockId::ProcessCPUTime), time(ClockId::Monotonic));
    let mut waits = match terms.workload {
        Workload::Grouped => grouped(contestant.as_ref(), terms.appends, &payload).map(|()| Vec::new()),
        Workload::Single => single(contestant.as_ref(), 0, terms.appends, &payload),
        Workload::Threads => threads(contestant.as_ref(), terms.appends, &payload),
    }?;
    let outcome = Outcome {
        appends: terms.appends,
        begun_ns: begun.as_nanos() as u64,
        wall_ns: (time(ClockId::Monotonic) - begun).as_nanos() as u64,
        cpu_ns: (time(ClockId::ProcessCPUTime) - cpu).as_nanos() as u64,
        wait_ns: Wait::of(&mut waits),
    };
    contestant.close()?;
    Ok(outcome)
}

fn warm_up(contestant: &dyn Contestant, workload: Workload, payload: &[u8]) -> Result<()> {
    match workload {
        Workload::Grouped => contestant.append_group(payload, GROUP_RECORDS)?,
        Workload::Single => contestant.append_one(0, payload)?,
        Workload::Threads => {
            (0..THREADS).try_for_each(|thread| contestant.append_one(thread as usize, payload))?;
        }
    }
    contestant.settle()
}

fn grouped(contestant: &dyn Contestant, appends: u64, payload: &[u8]) -> Result<()> {
    for _ in 0..appends / GROUP_RECORDS {
        contestant.append_group(std::hint::black_box(payload), GROUP_RECORDS)?;
    }
    contestant.settle()
}

/// How long each of them waited, in ns.
fn single(contestant: &dyn Contestant, thread: usize, appends: u64, payload: &[u8]) -> Result<Vec<u64>> {
    let one = |_| {
        let begun = Instant::now();
        contestant.append_one(thread, std::hint::black_box(payload))?;
        Ok(begun.elapsed().as_nanos() as u64)
    };
    (0..appends).map(one).collect()
}

fn threads(contestant: &dyn Contestant, appends: u64, payload: &[u8]) -> Result<Vec<u64>> {
    let start = Barrier::new(THREADS as usize);
    let each = appends / THREADS;
    std::thread::scope(|scope| {
        let one = |thread: u64| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                single(contestant, thread as usize, each, payload)
            })
        };
        let running: Vec<_> = (0..THREADS).map(one).collect();
        let mut waits = Vec::new();
        for thread in running {
            waits.extend(thread.join().map_err(|_| "an appending thread panicked")??);
        }
        Ok(waits)
    })
}

impl Wait {
    fn of(waits: &mut [u64]) -> Option<Self> {
        waits.sort_unstable();
        let at =
            |hundredths: usize| waits.get((waits.len() * hundredths / 100).min(waits.len().wrapping_sub(1)));
        Some(Self { p50: *at(50)?, p99: *at(99)? })
    }
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The command that runs a lap, to be handed to [`finish`]; `before` runs it (a tracer), if anything does.
pub(crate) fn command(
    entrant: &Entrant,
    workload: Workload,
    appends: u64,
    before: &[String],
) -> Result<Command> {
    let binary = std::env::current_exe()?;
    let mut words = before.iter().map(std::ffi::OsString::from).chain([binary.into_os_string()]);
    let mut command = Command::new(words.next().ok_or("no command")?);
    command.args(words);
    command.args(["lap", entrant.name, &workload.to_string(), &appends.to_string()]);
    command.envs(entrant.environment.iter().copied());
    Ok(command)
}

/// A directory for one lap, which goes when it is dropped.
pub(crate) fn directory(scratch: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("lap-").tempdir_in(scratch)?)
}

/// Runs such a command in its directory.
pub(crate) fn finish(mut command: Command, directory: &Path) -> Result<Outcome> {
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        let late = begun.elapsed() > LAP_TIME_MAX;
        if late || stop::is_asked() {
            child.kill()?;
            child.wait()?;
            let why =
                if late { format!("over {} s", LAP_TIME_MAX.as_secs()) } else { "interrupted".to_owned() };
            return Err(why.into());
        }
        std::thread::sleep(POLL);
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(said.lines().last().unwrap_or("it failed and said nothing").to_owned().into());
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let line = line.lines().last().ok_or("the lap said nothing")?;
    Ok(serde_json::from_str(line)?)
}

/// Payload bytes a second, in MB.
pub(crate) fn megabytes_per_second(records_per_second: f64) -> f64 {
    records_per_second * PAYLOAD_BYTES as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_off_the_sorted_ones() {
        let mut waits: Vec<u64> = (1..=1_000).rev().collect();
        assert_eq!(Wait::of(&mut waits), Some(Wait { p50: 501, p99: 991 }));
        assert_eq!(Wait::of(&mut [7]), Some(Wait { p50: 7, p99: 7 }));
        assert_eq!(Wait::of(&mut []), None);
    }
}
