//! The memory queue: records packed into blocks as they will lie on disk, oldest in front.
//!
//! ```text
//!  released ◄── [ placed … placed │ sealed … sealed │ open ] ◄── append
//!  (confirmed,    the log has them   memory alone      takes records
//!   or durable)
//! ```
//!
//! It owns the slots of the arena, the next sequence and the room that the log has promised. Whoever appends
//! copies once, under one lock that nothing slow is done in. It knows no file: the writer takes blocks from
//! the front of what is not placed, in order, and says when they may be released.

use std::collections::VecDeque;
use std::sync::Arc;

use zerocopy::little_endian::U32;

use crate::block::{Block, OpenBlock};
use crate::io::{Arena, Slot};
use crate::record::{Frame, HEADER_BYTES, PART_PLACE_BYTES, PartPlace, Piece, Record, Seed};
pub use crate::segment::room::Room;
pub use crate::sink::CopyLimits;
use crate::sink::{Batch, RecordRef};

/// What held an append back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Memory: records or bytes.
    Memory,
    /// The log has no room left.
    Disk,
    /// Nothing: a fast log is a window behind, and whoever can wait for it does
    /// ([`crate::queue::run_ahead`]). Said to nobody else.
    Window,
}

/// What the queue holds that has not been released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Records.
    pub records: u64,
    /// Bytes of the slots that they take.
    pub bytes: u64,
}

/// Where a reader of the queue was last: saves walking a block from its front.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bookmark {
    block_first_sequence: u64,
    next_sequence: u64,
    offset: usize,
}

/// The queue. Behind one lock.
#[derive(Debug)]
pub struct MemoryQueue {
    arena: Arc<Arena>,
    seed: Seed,
    records_max: u64,
    /// In order of sequence; the first `placed` ones are with the writer.
    blocks: VecDeque<Block>,
    placed: usize,
    open: Option<OpenBlock>,
    open_since_ns: u64,
    next_sequence: u64,
    held: Held,
    /// The log's promise.
    pub room: Room,
    /// From how many sealed blocks on a producer that can wait is held.
    window_blocks: usize,
    bytes_total: u64,
}

impl MemoryQueue {
    /// An empty queue whose first record will be `next_sequence`.
    pub fn new(arena: Arc<Arena>, seed: Seed, records_max: u64, next_sequence: u64) -> Self {
        Self {
            blocks: VecDeque::with_capacity(arena.slot_count()),
            arena,
            seed,
            records_max,
            placed: 0,
            open: None,
            open_since_ns: 0,
            next_sequence,
            held: Held::default(),
            room: Room::UNLIMITED,
            window_blocks: usize::MAX,
            bytes_total: 0,
        }
    }

    /// The sequence that the next record will get.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// What is held now.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Keys and payloads of every record taken so far, in bytes.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// The oldest sequence in memory; `None` when it is empty.
    pub fn first_sequence(&self) -> Option<u64> {
        let block = self.blocks.front().map(|block| block.extract());
        block.or(self.open.as_ref().map(OpenBlock::extract)).map(|extract| extract.first_sequence)
    }

    /// When the open block got its first record; `None` while nothing is in it.
    pub fn open_since_ns(&self) -> Option<u64> {
        self.open.as_ref().map(|_| self.open_since_ns)
    }

    /// Whether a sealed block waits for the writer.
    pub fn has_unplaced(&self) -> bool {
        self.placed < self.blocks.len()
    }

    /// Packs one record and gives its sequence; or says what is full, and nothing has changed. Only a record that
    /// opens a block asks what time it is, and only there is a patient producer held ([`Full::Window`]).
    pub fn append(
        &mut self,
        record: &Record<'_>,
        is_patient: bool,
        now_ns: impl FnOnce() -> u64,
    ) -> Result<u64, Full> {
        if self.held.records >= self.records_max {
            return Err(Full::Memory);
        }
        let piece = Piece {
            sequence: self.next_sequence,
            timestamp: record.timestamp,
            key: record.stored_key(),
            payload: record.payload,
            place: None,
        };
        if piece.encoded_bytes() > OpenBlock::capacity(self.arena.slot_bytes()) {
            self.append_parts(&piece)?;
        } else {
            if !self.open.as_ref().is_some_and(|open| open.fits(piece.encoded_bytes())) {
                self.open_another(is_patient, now_ns)?;
            }
            let open = self.open.as_mut().expect("opened above");
            open.push(&piece);
        }
        self.held.records += 1;
        self.bytes_total += (piece.key.len() + piece.payload.len()) as u64;
        self.next_sequence += 1;
        Ok(piece.sequence)
    }

    /// Gives away `count` sequences that no record will have: what they stand for is dropped, and a gap says so.
    pub fn skip(&mut self, count: u64) -> u64 {
        self.seal();
        let first = self.next_sequence;
        self.next_sequence += count;
        first
    }

    /// Closes the open block, so that the writer may have it. False when nothing is in it.
    pub fn seal(&mut self) -> bool {
        let Some(open) = self.open.take() else { return false };
        self.blocks.push_back(open.seal(1));
        true
    }

    fn open_another(&mut self, is_patient: bool, now_ns: impl FnOnce() -> u64) -> Result<(), Full> {
        if is_patient && self.blocks.len() >= self.window_blocks {
            return Err(Full::Window);
        }
        if self.arena.free_count() == 0 {
            return Err(Full::Memory);
        }
        if !self.room.take(1) {
            return Err(Full::Disk);
        }
        self.seal();
        self.open = Some(OpenBlock::new(self.take_slot(), self.seed));
        self.open_since_ns = now_ns();
        Ok(())
    }

    /// A record larger than a block: as many blocks as it takes, each with one part, in one run.
    fn append_parts(&mut self, whole: &Piece<'_>) -> Result<(), Full> {
        let capacity = OpenBlock::capacity(self.arena.slot_bytes());
        let part_bytes = capacity - HEADER_BYTES - PART_PLACE_BYTES - crate::limits::KEY_BYTES_MAX;
        let count = whole.payload.len().div_ceil(part_bytes);
        if self.arena.free_count() < count {
            return Err(Full::Memory);
        }
        if !self.room.take(count as u64) {
            return Err(Full::Disk);
        }
        self.seal();
        for (index, payload) in whole.payload.chunks(part_bytes).enumerate() {
            let place = PartPlace {
                total: U32::new(whole.payload.len() as u32),
                offset: U32::new((index * part_bytes) as u32),
            };
            let key = if index == 0 { whole.key } else { &[] };
            let mut open = OpenBlock::new(self.take_slot(), self.seed);
            open.push(&Piece { key, payload, place: Some(place), ..*whole });
            self.blocks.push_back(open.seal((count - index) as u32));
        }
        Ok(())
    }

    fn take_slot(&mut self) -> Slot {
        self.held.bytes += self.arena.slot_bytes() as u64;
        self.arena.take().expect("a free slot was counted under this lock, and only this lock takes slots")
    }

    /// The first record of the next block for the writer.
    pub fn first_unplaced(&self) -> Option<u64> {
        self.blocks.get(self.placed).map(|block| block.extract().first_sequence)
    }

    /// The next block for the writer, in order.
    pub fn next_unplaced(&mut self) -> Option<&mut Block> {
        self.blocks.get_mut(self.placed)
    }

    /// The writer has taken it.
    pub fn placed_one(&mut self) {
        debug_assert!(self.has_unplaced());
        self.placed += 1;
    }

    /// Takes back every block placed that holds something after `sequence`: they are to be placed again. Of a
    /// record in parts that is not whole at `sequence` every part is, since they lie in one segment.
    pub fn replace_after(&mut self, sequence: u64) {
        self.placed =
            self.blocks.partition_point(|block| block.extract().last_sequence <= sequence).min(self.placed);
    }

    /// Lets go of every block that the writer does not have: there is no room for them anywhere. Tells `lost` of each
    /// record, with its bytes; of a large one by its first part.
    pub fn drop_unplaced(&mut self, mut lost: impl FnMut(RecordRef<'_>, u64)) {
        for block in self.blocks.drain(self.placed..) {
            let (mut rest, mut sequence) = (block.frames(), block.extract().first_sequence);
            while let Some(frame) = Frame::parse(rest) {
                let (record, place) = frame.contents(sequence);
                if place.is_none_or(|place| place.offset.get() == 0) {
                    let payload = place.map_or(record.payload.len() as u64, |place| place.total.get().into());
                    lost(record, record.key.len() as u64 + payload);
                }
                (rest, sequence) = (&rest[frame.encoded_bytes()..], sequence + 1);
            }
            self.held.records -= block.extract().record_count;
            self.held.bytes -= self.arena.slot_bytes() as u64;
        }
    }

    /// Runs of sealed blocks that are not placed, and the open one: what will ask for room.
    pub fn unplaced_runs(&self) -> impl Iterator<Item = u64> {
        let sealed = self.blocks.range(self.placed..).map(|block| block.extract());
        // Of a run, its first block asks for all.
        let mut inside = 0;
        sealed.chain(self.open.as_ref().map(OpenBlock::extract)).filter_map(move |extract| {
            if inside > 0 {
                inside -= 1;
                return None;
            }
            inside = extract.run - 1;
            Some(u64::from(extract.run))
        })
    }

    /// Lets go of every block that ends at or below `sequence`: its destination has it, or the log does.
    /// Unplaced blocks may go too: memory alone delivered them. How many went.
    pub fn release(&mut self, sequence: u64) -> usize {
        let before = self.blocks.len();
        while self.blocks.front().is_some_and(|block| block.extract().last_sequence <= sequence) {
            let block = self.blocks.pop_front().expect("looked at above");
            self.placed = self.placed.saturating_sub(1);
            self.held.records -= block.extract().record_count;
            self.held.bytes -= self.arena.slot_bytes() as u64;
        }
        if self.open.as_ref().is_some_and(|open| open.extract().last_sequence <= sequence) {
            let open = self.open.take().expect("looked at above");
            self.held.records -= open.extract().record_count;
            self.held.bytes -= self.arena.slot_bytes() as u64;
            return before - self.blocks.len() + 1;
        }
        before - self.blocks.len()
    }

    /// A producer that can wait is held while there are so many sealed blocks, from now on.
    pub fn hold_from(&mut self, window_blocks: usize) {
        self.window_blocks = window_blocks;
    }

    /// The first record of the open block.
    pub fn open_first_sequence(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.extract().first_sequence)
    }

    /// Bytes that the open block takes on disk.
    pub fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, OpenBlock::block_bytes)
    }

    /// How many sealed blocks wait for the writer.
    pub fn unplaced_count(&self) -> usize {
        self.blocks.len() - self.placed
    }

    /// How many sealed blocks it holds.
    pub fn sealed_count(&self) -> usize {
        self.blocks.len()
    }

    /// Copies records from `bookmark`'s place (the record `from` or the first after it) behind what `batch`
    /// has, none above `last`, until the batch would pass a limit or `bytes_max` were copied. The time under
    /// the queue's lock is what `bytes_max` bounds. Returns the next sequence to ask for.
    pub fn copy_into(
        &self,
        batch: &mut Batch,
        from: u64,
        last: u64,
        limits: CopyLimits,
        bookmark: &mut Bookmark,
    ) -> u64 {
        let start = batch.byte_count();
        let mut next = from;
        let index = self.blocks.partition_point(|block| block.extract().last_sequence < from);
        let sealed = self.blocks.range(index..).map(|block| (block.extract(), block.frames()));
        let open = self.open.as_ref().map(|open| (open.extract(), open.frames()));
        for (extract, frames) in sealed.chain(open) {
            if extract.first_sequence > last {
                break;
            }
            let mut offset = bookmark.offset_in(extract.first_sequence, from, extract.run);
            let mut sequence = if offset == 0 { extract.first_sequence } else { bookmark.next_sequence };
            while let Some(frame) = frames.get(offset..).and_then(Frame::parse) {
                let (record, place) = frame.contents(sequence);
                let follows = place.is_some_and(|place| place.offset.get() > 0);
                if sequence > last
                    || (!follows && (sequence >= from && limits.reached(batch, start, &record)))
                {
                    return next;
                }
                if sequence >= from {
                    if follows {
                        batch.extend_last(record.payload)
                    } else {
                        batch.push(record)
                    }
                    next = sequence + 1;
                }
                offset += frame.encoded_bytes();
                sequence += 1;
                *bookmark = Bookmark {
                    block_first_sequence: extract.first_sequence,
                    next_sequence: sequence,
                    offset,
                };
            }
        }
        next
    }
}

impl Bookmark {
    fn offset_in(&self, block_first_sequence: u64, from: u64, run: u32) -> usize {
        let here =
            self.block_first_sequence == block_first_sequence && self.next_sequence == from && run == 1;
        if here { self.offset } else { 0 }
    }
}
