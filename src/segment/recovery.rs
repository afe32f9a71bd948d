//! What a directory holds after whatever happened to it: the chain of segments, the end of the log, the damage.
//!
//! Reads the header of every slot and the tail of the log, so that time and memory do not grow with the
//! backlog. Writes nothing: who opens for writing acts on what is [`Recovered`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::io::{Access, Backend, Disk, File};
use crate::position::{Epoch, StoreId};
use crate::segment::catalog::{Catalog, Segment, Spare};
use crate::segment::format::{self, ALIGNMENT, FIRST_BLOCK_OFFSET, slot_name};
use crate::segment::salvage::{Search, Window, scratch};
pub use crate::segment::scan::{Refused, RefusedReason};
use crate::segment::scan::{SEGMENT_BYTES_MIN, Scan, Seen};
use crate::segment::stream::Stream;
use crate::segment::survey::{Alone, BlockInfo, Epochs, Proof, Survey, live_blocks};
use crate::segment::walk::{Cut, Torn, Walk};

/// What other files know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// The better copy of `state`.
    pub state: Option<format::State>,
    /// What every destination has, or a durable gap names.
    pub confirmed_min: u64,
    /// The highest that any destination has.
    pub confirmed_max: u64,
    /// The end of the last durable gap (0: none).
    pub last_gap: u64,
    /// Nothing may be changed, not even made durable, where the system refuses it.
    pub read_only: bool,
    /// Which actor reads.
    pub backend: Backend,
}

/// Records that were durable, or in the middle of what was, and are not to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first sequence that is missing.
    pub first_sequence: u64,
    /// The last sequence that is missing.
    pub last_sequence: u64,
    /// Where they should be.
    pub file: String,
    /// Where in that file, in bytes.
    pub offset: u64,
}

/// What recovery found.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The segments of the log (the last one open, its `end` the cut) and the spares.
    pub catalog: Catalog,
    /// The last sequence in the log (0: none); the next block's `previous_sequence`.
    pub last_sequence: u64,
    /// The sequence that the next record gets: no identity is used twice.
    pub next_sequence: u64,
    /// What the next epoch must name as its base: everything older at or above it is a leftover. It may lie
    /// below `next_sequence`.
    pub epoch_base: u64,
    /// Every epoch seen and its base; the highest may be above that of `state`, where that was lost.
    pub epochs: Epochs,
    /// Everything up to here was durable, by the word of a block, of `state`, or of a destination.
    pub proven_sequence: u64,
    /// Holes above `confirmed_min` that a reader will come across too.
    pub damage: Vec<Damage>,
    /// Records at the very end that were durable: no reader comes across them, the opener names them.
    pub lost_tail: Option<Damage>,
    /// The sound blocks of the open segment, in order: what its summary will need.
    pub open_blocks: Vec<BlockInfo>,
    /// Slots that are neither of the log nor spare.
    pub refused: Vec<Refused>,
    /// For people, a sentence each.
    pub report: Vec<String>,
    /// Bytes of sound blocks behind the cut.
    pub bytes_cut: u64,
}

/// Finds the end of the log of `store` on `disk`.
///
/// # Errors
/// `Unsupported` for a later version's bytes, `Failed` and the like where the directory cannot be read or
/// what is there cannot be made durable.
pub fn recover(disk: &dyn Disk, store: StoreId, known: &Known) -> Result<Recovered> {
    let mut scratch = scratch().map_err(|error| Error::io("no memory for recovery", error))?;
    let scan = Scan::read(disk, store, &mut scratch)?;
    recover_scanned(disk, store, known, scan)
}

/// As [`recover`], of headers that were read before: whoever needs [`Scan::newest_header`] to know what is
/// confirmed.
///
/// # Errors
/// As [`recover`].
pub fn recover_scanned(disk: &dyn Disk, store: StoreId, known: &Known, scan: Scan) -> Result<Recovered> {
    // A ring that reads brings a runtime with it, and the caller's thread may run one already.
    std::thread::scope(|scope| {
        let recovery = scope.spawn(|| recover_here(disk, store, known, scan));
        recovery.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn recover_here(disk: &dyn Disk, store: StoreId, known: &Known, scan: Scan) -> Result<Recovered> {
    let stream = Stream::on(disk, store, known.backend).map_err(|error| {
        let sentence =
            format!("no read device for recovery in {} ({error}): take backend = \"auto\"", disk.place());
        Error::new(Kind::Unsupported, sentence)
    })?;
    let mut tail = Tail::new(disk, known, scan, stream);
    let mut walk = loop {
        tail.retire_leftovers();
        let walk = tail.walk();
        let proven = tail.surveyed_from().is_some_and(|first| {
            let proven = tail.proof() >= tail.chain[first].segment.previous_sequence;
            proven && walk.accepted_count > 0 && tail.is_anchored(first)
        });
        if proven || (!tail.survey_one_more()? && !tail.retire_unproven()) {
            break walk;
        }
    };
    tail.salvage(&mut walk)?;
    tail.link_damage(&mut walk)?;
    Ok(tail.finish(walk))
}

/// The log as it is being made out, newest segment first.
struct Tail<'a> {
    disk: &'a dyn Disk,
    known: &'a Known,
    stream: Stream,
    epochs: Epochs,
    /// The highest durable watermark of any block surveyed and of `state`.
    durable: u64,
    /// Segments that may be of the log, by ascending id.
    chain: Vec<Seen>,
    /// The sound blocks of those that were surveyed, by id: the last ones of the chain.
    surveyed: BTreeMap<u64, Vec<BlockInfo>>,
    spares: Vec<Spare>,
    refused: Vec<Refused>,
    slot_next: u32,
    segment_id_max: u64,
    report: Vec<String>,
}

impl<'a> Tail<'a> {
    fn new(disk: &'a dyn Disk, known: &'a Known, scan: Scan, stream: Stream) -> Self {
        let mut epochs = Epochs::default();
        let mut tail_durable = 0;
        let mut segment_id_max = 0;
        if let Some(state) = known.state {
            epochs.insert(Epoch(state.epoch.get()), state.epoch_base.get());
            tail_durable = state.durable_sequence.get();
            segment_id_max = state.segment_id_max.get();
        }
        for seen in &scan.seen {
            epochs.insert(seen.segment.epoch, seen.segment.epoch_base);
            segment_id_max = segment_id_max.max(seen.segment.id);
        }
        let mut tail = Self {
            disk,
            known,
            stream,
            epochs,
            durable: tail_durable,
            chain: scan.seen,
            surveyed: BTreeMap::new(),
            spares: scan.spares,
            refused: scan.refused,
            slot_next: scan.slot_next,
            segment_id_max,
            report: scan.report,
        };
        tail.retire_resurrected();
        tail
    }

    fn proof(&self) -> u64 {
        self.durable.max(self.known.confirmed_max)
    }

    /// A header rebuilt from blocks may be that of a slot whose recycling was cut short: nobody needs it.
    fn retire_resurrected(&mut self) {
        let next_previous: Vec<u64> =
            self.chain.iter().skip(1).map(|seen| seen.segment.previous_sequence).collect();
        let mut index = 0;
        let (spares, confirmed) = (&mut self.spares, self.known.confirmed_min);
        self.chain.retain(|seen| {
            let past = next_previous.get(index).is_some_and(|&previous| previous <= confirmed);
            index += 1;
            let keep = seen.previous_segment.is_some() || !past;
            if !keep {
                spares.push(spare_of(&seen.segment));
            }
            keep
        });
    }

    /// A segment whose base a later epoch made stale is a leftover, and so is one that its successors passed by:
    /// its slot is a spare.
    fn retire_leftovers(&mut self) {
        let stale = |seen: &Seen| self.epochs.is_stale(seen.segment.epoch, seen.segment.base_sequence);
        let fresh: Vec<Seen> = self.chain.iter().filter(|seen| !stale(seen)).copied().collect();
        let mut linked = BTreeSet::new();
        let mut next = fresh.last().map(|seen| seen.segment.id);
        while let Some(id) = next {
            linked.insert(id);
            let index = fresh.partition_point(|seen| seen.segment.id < id);
            let named = fresh[index].previous_segment;
            let named = named.filter(|named| *named < id && is_among(&fresh, *named));
            // Where the one that is named is gone, the next older one goes on.
            next = named.or_else(|| Some(fresh[index.checked_sub(1)?].segment.id));
        }
        let (spares, surveyed) = (&mut self.spares, &mut self.surveyed);
        self.chain.retain(|seen| {
            let keep = linked.contains(&seen.segment.id);
            if !keep {
                spares.push(spare_of(&seen.segment));
                surveyed.remove(&seen.segment.id);
            }
            keep
        });
        // A segment ends where its successor begins: one that begins behind its successor was given up.
        let mut lowest = u64::MAX;
        for index in (0..self.chain.len()).rev() {
            let segment = self.chain[index].segment;
            if segment.base_sequence >= lowest {
                self.spares.push(spare_of(&segment));
                self.surveyed.remove(&segment.id);
                self.chain.remove(index);
            }
            lowest = lowest.min(segment.base_sequence);
        }
    }

    /// A header that never was durable, rebuilt from blocks behind a hole: nothing proves what should be before
    /// the oldest segment, so that is no segment but the rest of a torn tail.
    fn retire_unproven(&mut self) -> bool {
        let proof = self.proof();
        let unproven =
            |seen: &&Seen| seen.previous_segment.is_none() && seen.segment.previous_sequence > proof;
        let Some(seen) = self.chain.first().filter(unproven).copied() else { return false };
        self.spares.push(spare_of(&seen.segment));
        self.surveyed.remove(&seen.segment.id);
        self.chain.remove(0);
        true
    }

    /// The first segment of the chain that was surveyed; those behind it were too.
    fn surveyed_from(&self) -> Option<usize> {
        self.chain.iter().position(|seen| self.surveyed.contains_key(&seen.segment.id))
    }

    /// Whether no open can have cut the log before this surveyed segment without our knowing: the segment before it
    /// need not be looked into for blocks of a later epoch. `state` knows the base of the last epoch alone, so
    /// that of one between may stand in those blocks only.
    fn is_anchored(&self, index: usize) -> bool {
        let segment = self.chain[index].segment;
        let last_counter = self.known.state.map(|state| Epoch(state.epoch.get()).counter());
        if last_counter.is_some_and(|last| segment.epoch.counter() + 1 >= last) {
            return true;
        }
        // What survived an open, or was durable by the word of its own time, was never cut.
        let says = |block: &BlockInfo| {
            block.epoch > segment.epoch || block.durable_sequence >= segment.base_sequence
        };
        self.live().iter().any(|(at, block)| *at == index && says(block))
    }

    /// Surveys the next older segment; false when there is none.
    fn survey_one_more(&mut self) -> Result<bool> {
        let Some(index) = self.surveyed_from().unwrap_or(self.chain.len()).checked_sub(1) else {
            return Ok(false);
        };
        let segment = self.chain[index].segment;
        let blocks = self.survey_segment(&segment)?;
        for block in &blocks {
            self.epochs.insert(block.epoch, block.epoch_base);
            self.durable = self.durable.max(block.durable_sequence);
        }
        self.surveyed.insert(segment.id, blocks);
        Ok(true)
    }

    fn survey_segment(&mut self, segment: &Segment) -> Result<Vec<BlockInfo>> {
        let name = slot_name(segment.slot);
        let file = self.open(segment)?;
        // What is only in the page cache is not to be believed: a power cut could still take it back.
        let sync = |file: &dyn File| match file.sync() {
            Err(error) if !self.known.read_only => {
                Err(Error::io(format!("cannot make {name} durable before it is believed"), error))
            }
            _ => Ok(()),
        };
        if !self.known.read_only {
            sync(&*file)?;
        }
        let alone = Alone { segment: *segment, file: Arc::clone(&file) };
        let blocks = Survey::all(&mut self.stream, &alone, Proof::Records)
            .map_err(|error| Error::io(format!("cannot read {name} in {}", self.disk.place()), error))?;
        if self.known.read_only {
            // Beside a writer: what was found is durable once this is over, whatever came meanwhile.
            sync(&*file)?;
        }
        Ok(blocks)
    }

    fn open(&self, segment: &Segment) -> Result<Arc<dyn File>> {
        let name = slot_name(segment.slot);
        self.disk
            .open(&name, Access::ReadDirect)
            .map_err(|error| Error::io(format!("cannot open {name} in {}", self.disk.place()), error))
    }

    /// The live blocks of the segments surveyed, in the order of the log, each with its index in the chain.
    fn live(&self) -> Vec<(usize, &BlockInfo)> {
        let from = self.surveyed_from().unwrap_or(self.chain.len());
        let mut live = Vec::new();
        let mut next_base = u64::MAX;
        for (index, seen) in self.chain.iter().enumerate().skip(from).rev() {
            let mut blocks = live_blocks(&self.surveyed[&seen.segment.id], &self.epochs);
            // A segment ends where its successor begins.
            blocks.retain(|block| block.first_sequence < next_base);
            if !blocks.is_empty() {
                next_base = seen.segment.base_sequence;
            }
            live.extend(blocks.into_iter().rev().map(|block| (index, block)));
        }
        live.reverse();
        live
    }

    fn walk(&self) -> Walk {
        let mut walk = Walk::default();
        let Some(from) = self.surveyed_from() else { return walk };
        let previous = self.chain[from].segment.previous_sequence;
        walk.cut = Cut { index: from, offset: FIRST_BLOCK_OFFSET, last_sequence: previous };
        for (index, block) in self.live() {
            if walk.torn || self.accept(&mut walk, index, block).is_err() {
                walk.torn = true;
                walk.bytes_cut += block.block_length;
            }
        }
        if let Some(run) = walk.run.take() {
            walk.cut_back_to(&run);
        }
        let (cut, ends) = (walk.cut, &mut walk.ends);
        ends.retain(|&index, _| index <= cut.index);
        walk
    }

    /// The blocks that the open segment goes on behind.
    fn open_blocks(&self, walk: &Walk) -> Vec<BlockInfo> {
        let open = |(index, block): &(usize, &BlockInfo)| {
            *index == walk.cut.index && block.end() <= walk.cut.offset && walk.accepted_count > 0
        };
        self.live().into_iter().filter(open).map(|(_, block)| block.clone()).collect()
    }

    /// Takes one more block, or finds that the log ends before it.
    fn accept(&self, walk: &mut Walk, index: usize, block: &BlockInfo) -> std::result::Result<(), Torn> {
        if block.epoch < walk.highest {
            return Ok(());
        }
        if let Some(run) = walk.run.filter(|run| !run.goes_on_with(block)) {
            if run.sequence > self.proof() {
                walk.cut_back_to(&run);
                return Err(Torn);
            }
            walk.run = None;
            self.hole(walk, index, block, run.sequence, run.sequence)?;
        }
        if walk.run.is_none() {
            if block.first_sequence <= walk.cut.last_sequence {
                return Ok(());
            }
            // Below its base nothing was logged into the segment.
            let first = (walk.cut.last_sequence + 1).max(self.chain[index].segment.base_sequence);
            let first = if walk.cut.index == index { first } else { walk.cut.last_sequence + 1 };
            self.hole(walk, index, block, first, block.previous_sequence)?;
            if block.part.is_some_and(|part| !part.is_first())
                && block.previous_sequence < block.first_sequence
            {
                self.hole(walk, index, block, block.first_sequence, block.first_sequence)?;
            }
        }
        if !block.damaged.is_empty() && block.first_sequence > self.proof() {
            if let Some(run) = walk.run.take() {
                walk.cut_back_to(&run);
            }
            return Err(Torn);
        }
        for &sequence in &block.damaged {
            self.hole(walk, index, block, sequence, sequence)?;
        }
        walk.take(index, block);
        Ok(())
    }

    /// Sequences that should be before, or in, `block` and are not: damage if they were durable.
    fn hole(
        &self,
        walk: &mut Walk,
        index: usize,
        block: &BlockInfo,
        first: u64,
        last: u64,
    ) -> std::result::Result<(), Torn> {
        if first <= last && first > self.proof() {
            return Err(Torn);
        }
        let file = slot_name(self.chain[index].segment.slot);
        let offset = if walk.cut.index == index { walk.cut.offset } else { FIRST_BLOCK_OFFSET };
        let offset = if last < block.first_sequence { offset } else { block.offset };
        self.note_damage(&mut walk.damage, first, last, file, offset);
        Ok(())
    }

    fn note_damage(&self, damage: &mut Vec<Damage>, first: u64, last: u64, file: String, offset: u64) {
        let told = damage.last().map_or(0, |damage| damage.last_sequence);
        let first = first.max(self.known.confirmed_min.max(told) + 1);
        if first <= last {
            damage.push(Damage { first_sequence: first, last_sequence: last, file, offset });
        }
    }

    /// What was durable behind the last sound block may still be there, record by record: the cut goes behind
    /// the last one found, so that nobody writes over it.
    fn salvage(&mut self, walk: &mut Walk) -> Result<()> {
        let from = walk.cut;
        for index in from.index..self.chain.len() {
            let segment = self.chain[index].segment;
            if walk.cut.last_sequence >= self.durable {
                break;
            }
            let start = if index == from.index { from.offset } else { FIRST_BLOCK_OFFSET };
            let oldest = walk.highest.max(self.chain[from.index].segment.epoch);
            let newest = self.epochs.iter().next_back().map_or(oldest, |(epoch, _)| epoch).max(oldest);
            let file = self.open(&segment)?;
            let cannot = |error| Error::io("no memory for recovery", error);
            let mut search = Search::new(start, segment.end.max(start)).map_err(cannot)?;
            loop {
                let sequences = walk.cut.last_sequence + 1..=self.durable;
                let window = Window::new(self.stream.store(), sequences, oldest, newest, &self.epochs);
                let Some((_, found)) = search.peek(&*file, &window) else { break };
                let (sequence, epoch, whole) = (found.piece.sequence, found.epoch, found.is_whole());
                let bytes = found.end - found.start;
                search.advance(bytes);
                if whole {
                    let offset = search.offset().next_multiple_of(ALIGNMENT as u64);
                    walk.cut = Cut { index, offset, last_sequence: sequence };
                    walk.highest = walk.highest.max(epoch);
                    walk.accepted_count += 1;
                    walk.ends.remove(&index);
                }
            }
        }
        Ok(())
    }

    /// Segments that are gone from the middle or from the front of the log.
    fn link_damage(&mut self, walk: &mut Walk) -> Result<()> {
        let surveyed_from = self.surveyed_from().unwrap_or(self.chain.len());
        let mut found = Vec::new();
        for index in 0..self.chain.len().min(surveyed_from + 1) {
            let newer = self.chain[index];
            let previous = newer.segment.previous_sequence;
            let older = index.checked_sub(1).map(|older| self.chain[older].segment);
            let linked = older.is_some_and(|older| newer.previous_segment.is_none_or(|id| id == older.id));
            if linked || previous <= self.known.confirmed_min {
                continue;
            }
            let last = match older {
                None => 0,
                Some(older) => {
                    let blocks = self.survey_segment(&older)?;
                    let live = live_blocks(&blocks, &self.epochs);
                    live.last().map_or(older.previous_sequence, |block| block.last_sequence)
                }
            };
            let file = slot_name(newer.segment.slot);
            self.note_damage(&mut found, last + 1, previous, file, FIRST_BLOCK_OFFSET);
        }
        walk.damage.splice(0..0, found);
        Ok(())
    }

    fn finish(mut self, walk: Walk) -> Recovered {
        let surveyed_from = self.surveyed_from();
        let open_blocks = self.open_blocks(&walk);
        let kept = if walk.accepted_count > 0 { walk.cut.index + 1 } else { surveyed_from.unwrap_or(0) };
        for seen in self.chain.drain(kept..) {
            self.spares.push(spare_of(&seen.segment));
        }
        let mut segments: Vec<Segment> = self.chain.iter().map(|seen| seen.segment).collect();
        for (&index, &(end, last)) in &walk.ends {
            if segments.get(index + 1).is_some_and(|next| next.previous_sequence == last) {
                segments[index].end = end;
            }
        }
        if let Some(open) = segments.last_mut() {
            open.sealed = false;
            open.end = walk.cut.offset;
        }
        let last_sequence = walk.cut.last_sequence;
        let lost_tail = self.lost_tail(&walk, segments.last());
        self.tell(&walk, lost_tail.as_ref());
        if walk.damage.is_empty() && lost_tail.is_none() {
            self.reuse_damaged();
        }
        let highest = last_sequence.max(self.proof()).max(self.known.last_gap);
        Recovered {
            catalog: Catalog::new(segments, self.spares, self.slot_next, self.segment_id_max),
            last_sequence,
            next_sequence: highest + 1,
            epoch_base: last_sequence + 1,
            epochs: self.epochs,
            proven_sequence: self.durable.max(self.known.confirmed_max),
            damage: walk.damage,
            lost_tail,
            open_blocks,
            refused: self.refused,
            report: self.report,
            bytes_cut: walk.bytes_cut,
        }
    }

    fn lost_tail(&self, walk: &Walk, open: Option<&Segment>) -> Option<Damage> {
        let first_sequence = walk.cut.last_sequence.max(self.known.confirmed_min) + 1;
        (first_sequence <= self.durable).then(|| Damage {
            first_sequence,
            last_sequence: self.durable,
            file: open.map_or_else(|| self.disk.place(), |open| slot_name(open.slot)),
            offset: walk.cut.offset,
        })
    }

    /// With nothing missing, a slot whose header is torn was about to be begun: nobody needs it.
    fn reuse_damaged(&mut self) {
        let spares = &mut self.spares;
        self.refused.retain(|refused| {
            let spare =
                refused.reason == RefusedReason::Damaged && refused.segment_bytes >= SEGMENT_BYTES_MIN;
            if spare {
                let (slot, segment_bytes) = (refused.slot, refused.segment_bytes);
                spares.push(Spare { slot, segment_bytes, written_bytes: 0 });
            }
            !spare
        });
    }

    fn tell(&mut self, walk: &Walk, lost_tail: Option<&Damage>) {
        for damage in walk.damage.iter().chain(lost_tail) {
            self.report.push(format!(
                "sequences {} to {} are missing at {} offset {}",
                damage.first_sequence, damage.last_sequence, damage.file, damage.offset
            ));
        }
        if walk.torn {
            self.report.push(format!(
                "a torn tail was cut behind sequence {}: {} bytes of blocks that were never durable",
                walk.cut.last_sequence, walk.bytes_cut
            ));
        }
    }
}

fn is_among(chain: &[Seen], id: u64) -> bool {
    chain.binary_search_by_key(&id, |seen| seen.segment.id).is_ok()
}

fn spare_of(segment: &Segment) -> Spare {
    Spare { slot: segment.slot, segment_bytes: segment.segment_bytes, written_bytes: 0 }
}
