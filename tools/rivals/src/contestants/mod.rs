//! Who races: a file each, and the rules that bind all of them.
//!
//! A contestant is used as its own documentation recommends for throughput at this durability: what was appended is
//! on stable storage when the call returns. It knows no clock and no other contestant.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::workload::Workload;

mod fjall;
mod forebay;
mod okaywal;
mod plain;
mod raft_engine;
mod redb;
mod sqlite;
mod walrus;
mod yaque;

/// An open log or store. Shared by as many threads as the workload has.
pub(crate) trait Contestant: Sync {
    /// Appends `records` records, and returns when all of them are durable.
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()>;

    /// Appends one record, and returns when it is durable. `thread` counts from 0.
    fn append_one(&self, thread: usize, payload: &[u8]) -> Result<()>;

    /// Waits for what [`Contestant::append_group`] has left outstanding: nothing, but for who pipelines.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Lets go of everything. The clock has stopped.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What a contestant is opened for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Empty, its own, and the working directory.
    pub(crate) directory: &'a Path,
    pub(crate) workload: Workload,
    /// Records that are going to be appended, without those that warm up.
    pub(crate) appends: u64,
}

/// One line of the starting list.
#[derive(Debug)]
pub(crate) struct Entrant {
    /// In the table and for `--only`.
    pub(crate) name: &'static str,
    /// Its package; the version is read from the lock file. Empty for what is no package.
    pub(crate) package: &'static str,
    /// What was set and which calls were used: its footnote.
    pub(crate) settings: &'static str,
    pub(crate) workloads: &'static [Workload],
    /// Barriers that it may leave outstanding while it goes on: a sync covers this many more at most.
    pub(crate) barriers_ahead: u64,
    /// Variables that it reads.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) open: fn(&Terms<'_>) -> Result<Box<dyn Contestant>>,
}

/// The starting list, in the order of the table.
pub(crate) const ENTRANTS: [Entrant; 11] = [
    forebay::ENTRANT,
    forebay::RECYCLED,
    forebay::PIPELINED,
    plain::ENTRANT,
    okaywal::ENTRANT,
    raft_engine::ENTRANT,
    sqlite::ENTRANT,
    fjall::ENTRANT,
    redb::ENTRANT,
    walrus::ENTRANT,
    yaque::ENTRANT,
];

const LOCK_FILE: &str = include_str!("../../Cargo.lock");

impl Entrant {
    /// The version that was built; empty for what has none.
    pub(crate) fn version(&self) -> &'static str {
        let name = format!("name = \"{}\"", self.package);
        let mut lines = LOCK_FILE.lines().skip_while(|line| *line != name);
        lines.nth(1).and_then(|line| line.split('"').nth(1)).unwrap_or("")
    }
}

/// A contestant's panic ends its process: nobody ever sees what it left.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_knows_every_entrant() {
        for entrant in &ENTRANTS {
            assert_eq!(entrant.version().is_empty(), entrant.package.is_empty(), "{}", entrant.name);
        }
    }
}
