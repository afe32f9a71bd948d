//! What is asked of every contestant, and what durability it implies: how many barriers a lap waits for.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Bytes of each payload.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// Records between two barriers.
pub(crate) const GROUP_RECORDS: u64 = 4_000;

/// Threads that each wait for their own append.
pub(crate) const THREADS: u64 = 16;

/// How records come, and who waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Durable every 4,000 records, the producer waits at each barrier.
    Grouped,
    /// One record, durable, then the next one.
    Single,
    /// 16 threads, each waiting for its own append.
    Threads,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Grouped, Self::Single, Self::Threads];

    /// Appends of a lap when the grouped one has `records`: the waits are what costs, so there are fewer of them.
    pub(crate) fn appends(self, records: u64) -> u64 {
        match self {
            Self::Grouped => records.div_ceil(GROUP_RECORDS) * GROUP_RECORDS,
            Self::Single => (records / 1_000).max(1),
            Self::Threads => (records / 250).div_ceil(THREADS).max(1) * THREADS,
        }
    }

    /// Appends of the short lap that proves how often a contestant syncs.
    pub(crate) fn appends_proving(self) -> u64 {
        match self {
            Self::Grouped => 40 * GROUP_RECORDS,
            Self::Single => 200,
            Self::Threads => 100 * THREADS,
        }
    }

    /// Syncs without which `appends` of them can't have been durable when they said so.
    pub(crate) fn barriers(self, appends: u64) -> u64 {
        match self {
            Self::Grouped => appends / GROUP_RECORDS,
            Self::Single => appends,
            // One sync can serve everybody who waits, and nobody else.
            Self::Threads => appends / THREADS,
        }
    }

    /// Its heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Grouped => "grouped: durable every 4,000 records, waiting at each barrier",
            Self::Single => "single: one record, durable, then the next",
            Self::Threads => "threads: 16 of them, each waiting for its own append",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Grouped => "grouped",
            Self::Single => "single",
            Self::Threads => "threads",
        })
    }
}

/// The same for everybody, and nothing that compresses.
pub(crate) fn payload() -> [u8; PAYLOAD_BYTES] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}
