//! Gaps: every loss, named.
//!
//! A [`Gap`] covers a range of sequences that a destination will never see in full, and says why. A
//! [`GapBuilder`] makes one from records that are dropped one by one, a [`GapList`] keeps them apart and
//! counts no sequence twice, and the [`GapFile`] makes the unconfirmed ones durable before anything is let go.
//!
//! A gap is *dense* when it has lost every sequence of its range (`count` equals the range), else *sparse*: of
//! the range only `count` records are lost, nobody remembers which, and the others are read and sent as ever.
//! A sparse gap is told once, at its first sequence.
//!
//! This module knows no log: what is lost it was told, and what is confirmed too.

use serde::{Deserialize, Serialize, Serializer};
use zerocopy::little_endian::U64;

use crate::position::Epoch;
use crate::segment::format::{REASONS_MAX, ReasonTotals};

mod builder;
mod codec;
mod file;
mod keys;
mod list;
#[cfg(test)]
mod tests;

pub use builder::GapBuilder;
pub use file::GapFile;
pub use list::{Added, GapList};

/// Gaps that a [`GapList`], and so the file, has room for.
pub const GAPS_MAX: usize = 1024;

/// Keys that a gap lists; the losses of the rest are summed.
pub const KEYS_MAX: usize = 128;

/// Why records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The memory queue was full and the policy said drop.
    QueueFull,
    /// The disk was at its cap, or full, and the policy said drop.
    DiskFull,
    /// Older than `max_age`.
    Expired,
    /// The bytes on disk were damaged.
    Corrupt,
    /// The destination refused it for good.
    RejectedBySink,
    /// The device failed before it was durable.
    DeviceFailed,
    /// The process died in a mode that lets records live in memory.
    UncleanStop,
}

impl Reason {
    /// Every reason, in the order of its number on disk (1 is the first).
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::DiskFull,
        Self::Expired,
        Self::Corrupt,
        Self::RejectedBySink,
        Self::DeviceFailed,
        Self::UncleanStop,
    ];

    /// As it stands in NDJSON, metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::Expired => "expired",
            Self::Corrupt => "corrupt",
            Self::RejectedBySink => "rejected_by_sink",
            Self::DeviceFailed => "device_failed",
            Self::UncleanStop => "unclean_stop",
        }
    }

    /// Its number on disk, from 1.
    pub fn number(self) -> u16 {
        let index = Self::ALL.iter().position(|reason| *reason == self);
        index.expect("ALL has every reason") as u16 + 1
    }

    /// The reason of a number on disk; `None` for one that this version does not know.
    pub fn of_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Records dropped, by reason. Reasons that a later version counted are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals([u64; REASONS_MAX]);

impl Totals {
    /// How many were dropped for `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[usize::from(reason.number()) - 1]
    }

    /// Counts `count` more for `reason`.
    pub fn add(&mut self, reason: Reason, count: u64) {
        let total = &mut self.0[usize::from(reason.number()) - 1];
        *total = total.saturating_add(count);
    }

    /// How many were dropped in all, for reasons that this version does not know too.
    pub fn sum(&self) -> u128 {
        self.0.iter().map(|total| u128::from(*total)).sum()
    }

    /// The reasons for which something was dropped, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|(_, count)| *count > 0)
    }

    /// As it stands on disk.
    pub fn encode(&self) -> ReasonTotals {
        self.0.map(U64::new)
    }

    /// What stands on disk.
    pub fn decode(stored: &ReasonTotals) -> Self {
        Self(stored.map(U64::get))
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.name(), count)))
    }
}

/// A range of sequences that the destination will never see, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The epoch of the lost records.
    pub epoch: Epoch,
    /// The first sequence of the range.
    pub first_sequence: u64,
    /// The last sequence of the range.
    pub last_sequence: u64,
    /// How many records were lost in the range.
    pub count: u64,
    /// Their keys and payloads, in bytes (0 where nobody can know).
    pub bytes: u64,
    /// Nanoseconds since 1970 of the first lost record (0 where nobody can know).
    pub first_timestamp: u64,
    /// Nanoseconds since 1970 of the last lost record (0 where nobody can know).
    pub last_timestamp: u64,
    /// Why.
    pub reason: Reason,
    /// The monitor ids with the most losses, at most 128.
    pub keys: Vec<(Vec<u8>, u64)>,
    /// Losses of all other keys, summed.
    pub other_keys_count: u64,
}

impl Gap {
    /// A gap of every sequence in a range, of which nothing else is known.
    pub fn of_range(epoch: Epoch, first_sequence: u64, last_sequence: u64, reason: Reason) -> Self {
        Self {
            epoch,
            first_sequence,
            last_sequence,
            count: last_sequence - first_sequence + 1,
            bytes: 0,
            first_timestamp: 0,
            last_timestamp: 0,
            reason,
            keys: Vec::new(),
            other_keys_count: 0,
        }
    }

    /// How many sequences the range has.
    pub fn span(&self) -> u64 {
        (self.last_sequence - self.first_sequence).saturating_add(1)
    }

    /// Whether every sequence of the range is lost.
    pub fn is_dense(&self) -> bool {
        self.count == self.span()
    }

    /// How many of the losses lie in `first..=last`: exactly where the gap is dense or lies within, else its share.
    pub fn losses_within(&self, first: u64, last: u64) -> u64 {
        let (from, to) = (self.first_sequence.max(first), self.last_sequence.min(last));
        if from > to {
            return 0;
        }
        keys::share(self.count, to - from + 1, self.span())
    }

    /// Why this can't be a gap, if it can't.
    pub fn flaw(&self) -> Option<&'static str> {
        if self.first_sequence == 0 || self.first_sequence > self.last_sequence {
            return Some("the range of a gap is empty or begins before the first sequence");
        }
        if self.count == 0 || self.count > self.span() {
            return Some("a gap has lost nothing, or more than its range has");
        }
        None
    }
}
