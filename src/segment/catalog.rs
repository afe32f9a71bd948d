//! Which slot holds which segment, and which are spare.
//!
//! The catalog is memory; the truth is each slot's header. Segments are in the order of their ids, which is
//! the order of the log; the last one is active. It knows no block and touches no file.

use std::collections::VecDeque;

use crate::position::Epoch;

/// One segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its file, `slot-NNNNNN`.
    pub slot: u32,
    /// Never used twice; ascends along the log.
    pub id: u64,
    /// The epoch that began it.
    pub epoch: Epoch,
    /// The first sequence of that epoch.
    pub epoch_base: u64,
    /// The first sequence that may be in it.
    pub base_sequence: u64,
    /// The last sequence that was logged before it.
    pub previous_sequence: u64,
    /// Bytes of its slot.
    pub segment_bytes: u64,
    /// Where the last block that may be read ends. Of a sealed segment that was not scanned it is only a bound:
    /// its blocks end where the last one carries the next segment's `previous_sequence`.
    pub end: u64,
    /// Whether the log has gone on to the next one.
    pub sealed: bool,
}

/// A slot whose content nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    /// Its file, `slot-NNNNNN`.
    pub slot: u32,
    /// Bytes of the slot.
    pub segment_bytes: u64,
    /// So many bytes from the front were written before: a write there converts no extent.
    pub written_bytes: u64,
}

impl Spare {
    /// Whether all but an eighth of it was written before. Not all: the last segment in it may have ended a block
    /// early, and its summary takes part of what is kept for it.
    pub fn is_warm(&self) -> bool {
        self.written_bytes >= self.segment_bytes - self.segment_bytes / 8
    }
}

/// Every slot of the directory.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    segments: VecDeque<Segment>,
    spares: VecDeque<Spare>,
    slot_next: u32,
    segment_id_max: u64,
}

impl Catalog {
    /// The slots as recovery found them. `slot_next` is a number that no file has, nor any above it.
    pub fn new(segments: Vec<Segment>, spares: Vec<Spare>, slot_next: u32, segment_id_max: u64) -> Self {
        Self { segments: segments.into(), spares: spares.into(), slot_next, segment_id_max }
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.segments.iter()
    }

    /// The slots that may be taken.
    pub fn spares(&self) -> impl ExactSizeIterator<Item = &Spare> {
        self.spares.iter()
    }

    /// A slot number that no file has, nor any above it.
    pub fn slot_next(&self) -> u32 {
        self.slot_next
    }

    /// The highest id that was ever given.
    pub fn segment_id_max(&self) -> u64 {
        self.segment_id_max
    }

    /// The segment that `sequence` is in, or would be in: the last one whose base is not above it, else the oldest.
    pub fn holding(&self, sequence: u64) -> Option<Segment> {
        let after = self.segments.partition_point(|segment| segment.base_sequence <= sequence);
        self.segments.get(after.saturating_sub(1)).copied()
    }

    /// The segment of this id, as it is now; `None` once it was recycled.
    pub fn segment(&self, id: u64) -> Option<Segment> {
        let index = self.segments.binary_search_by_key(&id, |segment| segment.id).ok()?;
        self.segments.get(index).copied()
    }

    /// The segment behind the one of this id.
    pub fn after(&self, id: u64) -> Option<Segment> {
        self.segments.get(self.segments.partition_point(|segment| segment.id <= id)).copied()
    }

    /// How many slots there are in all.
    pub fn slot_count(&self) -> usize {
        self.segments.len() + self.spares.len()
    }

    /// Bytes of all slots.
    pub fn slot_bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.segment_bytes);
        segments.chain(self.spares.iter().map(|spare| spare.segment_bytes)).sum()
    }

    /// Bytes of the smallest slot that was ever made whole; `None` while there is none.
    pub fn slot_bytes_min(&self) -> Option<u64> {
        let segments = self.segments.iter().map(|segment| segment.segment_bytes);
        let slots = segments.chain(self.spares.iter().map(|spare| spare.segment_bytes));
        slots.filter(|&bytes| bytes >= crate::limits::SEGMENT_BYTES_MIN).min()
    }

    /// A number for a new slot's file.
    pub fn next_slot(&mut self) -> u32 {
        self.slot_next += 1;
        self.slot_next - 1
    }

    /// Adds a slot that nothing is in.
    pub fn add_spare(&mut self, spare: Spare) {
        self.spares.push_back(spare);
    }

    /// Takes the slot of which most was written before, of several the one that has been spare longest; never `but`.
    pub fn take_spare(&mut self, but: Option<u32>) -> Option<Spare> {
        let spares = self.spares.iter().filter(|spare| Some(spare.slot) != but);
        let slot = spares.rev().max_by_key(|spare| spare.written_bytes)?.slot;
        self.remove_spare(slot)
    }

    /// Takes this slot out; `None` when it is not spare.
    pub fn remove_spare(&mut self, slot: u32) -> Option<Spare> {
        let index = self.spares.iter().position(|spare| spare.slot == slot)?;
        self.spares.remove(index)
    }

    /// Of this slot, if it is spare still, so many bytes from the front were written.
    pub fn set_written(&mut self, slot: u32, bytes: u64) {
        if let Some(spare) = self.spares.iter_mut().find(|spare| spare.slot == slot) {
            spare.written_bytes = bytes.min(spare.segment_bytes);
        }
    }

    /// The id of the next segment, from now on given.
    pub fn next_segment_id(&mut self) -> u64 {
        self.segment_id_max += 1;
        self.segment_id_max
    }

    /// The log goes on in `segment`.
    pub fn begin(&mut self, segment: Segment) {
        debug_assert!(self.segments.back().is_none_or(|last| last.id < segment.id && last.sealed));
        self.segments.push_back(segment);
    }

    /// The segment of this id ends at `end`, and the log goes on in another one.
    pub fn seal(&mut self, id: u64) {
        if let Some(segment) = self.of(id) {
            segment.sealed = true;
        }
    }

    /// The log does not go on in its last segment.
    pub fn seal_last(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.sealed = true;
        }
    }

    /// Blocks of the segment of this id may be read up to `end`.
    pub fn set_end(&mut self, id: u64, end: u64) {
        if let Some(segment) = self.of(id) {
            segment.end = end;
        }
    }

    /// Takes a segment out for good: its slot has failed and is not used again.
    pub fn retire(&mut self, id: u64) {
        self.segments.retain(|segment| segment.id != id);
    }

    /// Every sealed segment whose last record is at or below `sequence` becomes a spare. How many did.
    pub fn recycle_through(&mut self, sequence: u64) -> usize {
        let mut count = 0;
        while let [first, second, ..] = self.segments.make_contiguous() {
            if !first.sealed || second.previous_sequence > sequence {
                break;
            }
            let (slot, segment_bytes) = (first.slot, first.segment_bytes);
            // Its blocks were written without a hole.
            let spare = Spare { slot, segment_bytes, written_bytes: first.end.min(segment_bytes) };
            self.segments.pop_front();
            self.spares.push_back(spare);
            count += 1;
        }
        count
    }

    fn of(&mut self, id: u64) -> Option<&mut Segment> {
        let index = self.segments.binary_search_by_key(&id, |segment| segment.id).ok()?;
        self.segments.get_mut(index)
    }
}
