//! How far a walk along the tail's blocks has come. It knows what was accepted; recovery decides what is.

use std::collections::BTreeMap;

use crate::position::Epoch;
use crate::segment::recovery::Damage;
use crate::segment::survey::{BlockInfo, PartState};

/// A place between two blocks of the chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cut {
    /// Which segment of the chain.
    pub(super) index: usize,
    pub(super) offset: u64,
    /// The last sequence before it.
    pub(super) last_sequence: u64,
}

/// The parts of one record, as far as they were met.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) sequence: u64,
    pub(super) total: u32,
    pub(super) have: u32,
    /// Before its first part.
    pub(super) before: Cut,
}

/// What one walk along the blocks made out.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) cut: Cut,
    pub(super) run: Option<Run>,
    pub(super) highest: Epoch,
    pub(super) accepted_count: usize,
    pub(super) torn: bool,
    pub(super) damage: Vec<Damage>,
    pub(super) bytes_cut: u64,
    /// Where the last block that was accepted ends and which sequence is its last, by index of the chain.
    pub(super) ends: BTreeMap<usize, (u64, u64)>,
}

/// The rest is a torn tail.
pub(super) struct Torn;

impl Run {
    pub(super) fn goes_on_with(&self, block: &BlockInfo) -> bool {
        let next = |part: PartState| part.total == self.total && part.offset == self.have;
        block.first_sequence == self.sequence && block.part.is_some_and(next)
    }
}

impl Walk {
    pub(super) fn take(&mut self, index: usize, block: &BlockInfo) {
        let before = self.run.map_or(self.cut, |run| run.before);
        self.run = block.part.filter(|part| !part.is_last() && (part.is_first() || self.run.is_some())).map(
            |part| Run {
                sequence: block.first_sequence,
                total: part.total,
                have: part.offset.saturating_add(part.length),
                before,
            },
        );
        self.cut = Cut { index, offset: block.end(), last_sequence: block.last_sequence };
        self.highest = block.epoch;
        self.accepted_count += usize::from(self.run.is_none());
        self.ends.remove(&index);
        if self.run.is_none() {
            self.ends.insert(index, (block.end(), block.last_sequence));
        }
    }

    pub(super) fn cut_back_to(&mut self, run: &Run) {
        self.cut = run.before;
        self.run = None;
    }
}
