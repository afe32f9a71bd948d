//! Where records go: a [`Sink`] takes one [`Batch`] at a time and says what became of it.
//!
//! Delivery is at least once: after [`Outcome::Unknown`] or [`Outcome::RetryAfter`] the same batch comes
//! again, with the same borders and the same identities. A sink sees no file and no governor; when to try
//! again is not its business.

use std::future::Future;
use std::time::Duration;

use crate::gaps::Gap;
use crate::position::{Epoch, StoreId};

/// What became of a batch.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it, for good.
    Accepted,
    /// The destination does not have it and may take it later; `after` is its own wish, a floor.
    RetryAfter {
        /// The shortest time to wait, where the destination named one.
        after: Option<Duration>,
        /// Why, for people.
        reason: String,
    },
    /// The destination will never take it.
    Rejected {
        /// Why, for people.
        reason: String,
    },
    /// It may have arrived, it may not (a timeout, a reset): it is sent again with the same identity.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

/// A destination. One batch is out at a time.
pub trait Sink: Send {
    /// Sends one batch and says what became of it. Bounds its own waiting.
    fn send(&mut self, batch: &Batch) -> impl Future<Output = Outcome> + Send;
}

/// Which traffic a batch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The destination keeps up.
    Live,
    /// Catching up, under the governor.
    Backfill,
}

impl Lane {
    /// As it stands on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }
}

/// Records (and gaps, exactly where the loss was) in ascending sequence, all of one epoch.
/// Keys and payloads lie in one buffer: two allocations a batch, none a record.
#[derive(Debug)]
pub struct Batch {
    pub(crate) store: StoreId,
    pub(crate) epoch: Epoch,
    pub(crate) lane: Lane,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) gaps: Vec<Gap>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) timestamp: u64,
    /// Where the key begins in `Batch::bytes`; the payload follows it. `GAP` for a gap.
    pub(crate) start: usize,
    pub(crate) key_len: u32,
    pub(crate) payload_len: u32,
}

/// In [`Entry::start`]: this entry is a gap, and `payload_len` its place in `Batch::gaps`.
const GAP: usize = usize::MAX;

/// One thing in a batch.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A record.
    Data(RecordRef<'a>),
    /// A loss, named.
    Gap(&'a Gap),
}

/// A record that somebody else owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its place in the order of the store.
    pub sequence: u64,
    /// Nanoseconds since 1970, as the producer's clock said.
    pub timestamp: u64,
    /// The monitor id; empty when it has none.
    pub key: &'a [u8],
    /// The bytes that the producer gave.
    pub payload: &'a [u8],
}

impl Batch {
    /// An empty batch.
    pub fn new(store: StoreId, epoch: Epoch, lane: Lane) -> Self {
        Self { store, epoch, lane, bytes: Vec::new(), entries: Vec::new(), gaps: Vec::new() }
    }

    /// Empties it, for records of `epoch`; what it has allocated stays.
    pub fn restart(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.bytes.clear();
        self.entries.clear();
        self.gaps.clear();
    }

    /// Takes a copy of one record, behind the last one.
    #[inline]
    pub fn push(&mut self, record: RecordRef<'_>) {
        debug_assert!(self.last_sequence() < record.sequence, "a batch ascends");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.key);
        self.bytes.extend_from_slice(record.payload);
        self.entries.push(Entry {
            sequence: record.sequence,
            timestamp: record.timestamp,
            start,
            key_len: record.key.len() as u32,
            payload_len: record.payload.len() as u32,
        });
    }

    /// The next part of the last record's payload: large records lie in several blocks.
    pub(crate) fn extend_last(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        let last = self.entries.last_mut().expect("a part follows the first");
        last.payload_len += payload.len() as u32;
    }

    /// Takes the last record out again: a part of it is missing.
    pub(crate) fn withdraw_last(&mut self) {
        let last = self.entries.pop().expect("what is withdrawn was pushed");
        debug_assert!(last.start != GAP, "a gap has no parts");
        self.bytes.truncate(last.start);
    }

    /// Puts a gap behind the last record.
    pub fn push_gap(&mut self, gap: Gap) {
        self.entries.push(Entry {
            sequence: gap.first_sequence,
            timestamp: gap.first_timestamp,
            start: GAP,
            key_len: 0,
            payload_len: self.gaps.len() as u32,
        });
        self.gaps.push(gap);
    }

    pub(crate) fn set_lane(&mut self, lane: Lane) {
        self.lane = lane;
    }

    /// The same, cut in two at the middle of what is in it; two things or more.
    pub(crate) fn halves(&self) -> [Self; 2] {
        let mut halves = [(); 2].map(|()| Self::new(self.store, self.epoch, self.lane));
        let middle = self.entries.len() / 2;
        for (index, item) in self.iter().enumerate() {
            let half = &mut halves[usize::from(index >= middle)];
            match item {
                Item::Data(record) => half.push(record),
                Item::Gap(gap) => half.push_gap(gap.clone()),
            }
        }
        halves
    }

    /// Whose records these are.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The epoch of every record in it.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Which traffic it belongs to.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// The first sequence in it (0 when empty).
    pub fn first_sequence(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.sequence)
    }

    /// The last sequence that it speaks of, a gap's end included (0 when empty).
    pub fn last_sequence(&self) -> u64 {
        match self.entries.last() {
            None => 0,
            Some(entry) if entry.start == GAP => self.gaps[entry.payload_len as usize].last_sequence,
            Some(entry) => entry.sequence,
        }
    }

    /// When its first record or gap was, in nanoseconds since 1970.
    pub fn first_timestamp(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.timestamp)
    }

    /// How many records, gaps not counted.
    pub fn record_count(&self) -> usize {
        self.entries.len() - self.gaps.len()
    }

    /// Keys and payloads, in bytes.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it, not even a gap.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The gaps in it.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Everything in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.entries.iter().map(|entry| {
            if entry.start == GAP {
                return Item::Gap(&self.gaps[entry.payload_len as usize]);
            }
            let payload = entry.start + entry.key_len as usize;
            Item::Data(RecordRef {
                sequence: entry.sequence,
                timestamp: entry.timestamp,
                key: &self.bytes[entry.start..payload],
                payload: &self.bytes[payload..payload + entry.payload_len as usize],
            })
        })
    }
}

/// Where copying into a batch stops.
#[derive(Debug, Clone, Copy)]
pub struct CopyLimits {
    /// Records in the batch.
    pub records_max: usize,
    /// Bytes in the batch; one record may pass it alone.
    pub batch_bytes_max: usize,
    /// Bytes copied in one call.
    pub copy_bytes_max: usize,
}

impl CopyLimits {
    /// Whether `record` is not to be copied any more; `start` is what the batch had when the call began, in bytes.
    #[inline]
    pub(crate) fn reached(&self, batch: &Batch, start: usize, record: &RecordRef<'_>) -> bool {
        let bytes = record.key.len() + record.payload.len();
        batch.record_count() >= self.records_max
            || (batch.record_count() > 0 && batch.byte_count() + bytes > self.batch_bytes_max)
            || batch.byte_count() - start >= self.copy_bytes_max
    }
}
