//! What the writer is told, and what it tells.

use zerocopy::FromZeros;
use zerocopy::little_endian::{U32, U64};

use crate::block::Extract;
use crate::error::Error;
use crate::io::WriteDevice;
use crate::position::{Epoch, StoreId};
use crate::segment::catalog::Segment;
use crate::segment::format::{
    ALIGNMENT, DESTINATIONS_MAX, DestinationEntry, ReasonTotals, SegmentHeader, Summary,
};

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

/// What makes a group durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durably {
    /// A sync of its own behind its writes.
    BySync,
    /// A group of one write is durable with it; others by a sync.
    SmallByWrite,
    /// Every write carries its own sync.
    ByWrite,
}

impl Durably {
    /// All of them, in the order of their numbers.
    pub const EVERY: [Self; 3] = [Self::BySync, Self::SmallByWrite, Self::ByWrite];

    /// As it stands in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::BySync => "fdatasync",
            Self::SmallByWrite => "dsync+fdatasync",
            Self::ByWrite => "dsync",
        }
    }
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
    /// Bytes of spare slots that are kept zero-written.
    pub warm_bytes: u64,
    /// Writes in flight, at most.
    pub depth: usize,
    /// Bytes of the largest block that it will be handed.
    pub block_bytes_max: u64,
    /// When to sync.
    pub cadence: Cadence,
    /// How, where a group is synced as soon as it can be.
    pub durably: Durably,
}

/// What each segment header repeats, so that a lost cursor heals.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Records dropped in all, by reason.
    pub dropped: ReasonTotals,
    /// Every destination.
    pub destinations: Vec<DestinationEntry>,
}

impl Notes {
    /// The header that `segment` begins with.
    pub(super) fn header(&self, segment: &Segment, previous_segment: u64) -> SegmentHeader {
        let count = self.destinations.len().min(DESTINATIONS_MAX);
        let mut header = SegmentHeader {
            epoch: U64::new(segment.epoch.0),
            epoch_base: U64::new(segment.epoch_base),
            previous_segment: U64::new(previous_segment),
            base_sequence: U64::new(segment.base_sequence),
            previous_sequence: U64::new(segment.previous_sequence),
            segment_bytes: U64::new(segment.segment_bytes),
            alignment: U32::new(ALIGNMENT as u32),
            destination_count: U32::new(count as u32),
            accepted: U64::new(segment.base_sequence - 1),
            dropped: self.dropped,
            ..SegmentHeader::new_zeroed()
        };
        header.destinations[..count].copy_from_slice(&self.destinations[..count]);
        header
    }
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
    /// Of them, those in a slot that was not warm.
    pub cold_segments: u64,
    /// Slots made.
    pub slots: u64,
    /// Spare slots given back to the file system.
    pub slots_given_back: u64,
    /// Bytes of zeros written to spare slots; not among `bytes`.
    pub zero_bytes: u64,
    /// Failed writes and syncs.
    pub failures: u64,
    /// Calls that submitted to the kernel or waited for it (0: not a ring).
    pub enters: u64,
}

/// What became of a block that was handed in.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is on its way.
    Yes,
    /// There is no slot for it ([`super::LogWriter::stock_up`]), and nothing has changed.
    NoRoom,
    /// There is a slot, and it can't be begun yet; nothing has changed.
    NotNow,
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
