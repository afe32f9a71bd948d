//! What the writer is told, and what it tells.

use zerocopy::little_endian::U64;

use crate::block::Extract;
use crate::error::Error;
use crate::io::WriteDevice;
use crate::position::{Epoch, StoreId};
use crate::segment::format::{DestinationEntry, ReasonTotals, Summary};

/// When what was written is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// As soon as the last sync is back.
    Group,
    /// That many nanoseconds after the last one began.
    Interval(u64),
    /// When a segment ends, and when the store closes.
    Never,
}

/// What the writer is told once.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// The store.
    pub store: StoreId,
    /// This open.
    pub epoch: Epoch,
    /// The first sequence of this open.
    pub epoch_base: u64,
    /// Bytes of a new slot.
    pub segment_bytes: u64,
    /// Bytes of all slots, at most.
    pub slots_bytes_max: u64,
    /// Bytes of the file system left to others.
    pub free_bytes_min: u64,
    /// Writes in flight, at most.
    pub depth: usize,
    /// Bytes of the largest block that it will be handed.
    pub block_bytes_max: u64,
    /// When to sync.
    pub cadence: Cadence,
}

/// What each segment header repeats, so that a lost cursor heals.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Records dropped in all, by reason.
    pub dropped: ReasonTotals,
    /// Every destination.
    pub destinations: Vec<DestinationEntry>,
}

/// Counts for metrics and benches; they only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// Blocks placed.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of blocks, headers and summaries placed.
    pub bytes: u64,
    /// Syncs that came back.
    pub syncs: u64,
    /// Segments begun.
    pub segments: u64,
    /// Slots made.
    pub slots: u64,
    /// Failed writes and syncs.
    pub failures: u64,
}

/// What became of a block that was handed in.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is on its way.
    Yes,
    /// There is no slot for it ([`super::LogWriter::ensure_spare`]), and nothing has changed.
    NoRoom,
}

/// How far things have come.
#[must_use]
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Every block up to this sequence is with the kernel (0: unchanged).
    pub written: u64,
    /// Every block up to this sequence is on stable storage (0: unchanged).
    pub durable: u64,
    /// How long the syncs that came back took.
    pub sync_ns: Option<u64>,
    /// A segment has failed, and nothing is in flight: what is not durable is to be placed again.
    pub place_again: Option<Error>,
}

impl Summary {
    /// Counts one more block.
    pub(super) fn add(&mut self, extract: &Extract) {
        if self.first_sequence.get() == 0 {
            self.first_sequence = U64::new(extract.first_sequence);
            self.first_timestamp = U64::new(extract.first_timestamp);
        }
        self.last_sequence = U64::new(extract.last_sequence);
        self.last_timestamp = U64::new(extract.last_timestamp);
        self.record_count += extract.record_count;
        self.record_bytes += extract.record_bytes;
    }
}

/// The device, with a `Debug` that the trait does not ask for.
pub(super) struct Device(pub(super) Box<dyn WriteDevice>);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.info())
    }
}
