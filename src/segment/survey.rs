//! Finds every sound block of one segment, whatever lies between them.
//!
//! ```text
//! ┌───────┬───────────┬──────────┬───────┬ ─ ─ ─
//! │ block │ block     │ ?  ?  ?  │ block │ ?  ?    behind a sound block: its length; else 4 KiB further
//! └───────┴───────────┴──────────┴───────┴ ─ ─ ─
//! ```
//!
//! Reads through a `Stream`, a window ahead of what is looked at; a read error costs the 4 KiB that cannot be
//! read. What a survey finds is sound, not necessarily alive: [`live_blocks`] drops the leftovers of older epochs.
//! It knows no queue and no cursor, and writes nothing.

use std::io;
use std::sync::Arc;

use crate::block::BlockView;
use crate::io::{File, Wait};
use crate::position::{Epoch, StoreId};
use crate::record::Frame;
use crate::segment::catalog::Segment;
use crate::segment::format::{ALIGNMENT, BLOCK_HEADER_BYTES, FIRST_BLOCK_OFFSET};
use crate::segment::reader::Segments;
use crate::segment::stream::{Ready, Stream};

/// Which part of a large record a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartState {
    /// Where its payload begins in the whole.
    pub offset: u32,
    /// Payload bytes of the whole.
    pub total: u32,
    /// Payload bytes in this block.
    pub length: u32,
}

impl PartState {
    /// Whether the record begins here.
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Whether the record is whole with this part.
    pub fn is_last(&self) -> bool {
        u64::from(self.offset) + u64::from(self.length) == u64::from(self.total)
    }
}

/// One sound block, as its bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where it begins in its segment.
    pub offset: u64,
    /// Bytes of the whole block.
    pub block_length: u64,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The first sequence of that epoch.
    pub epoch_base: u64,
    /// Its first record.
    pub first_sequence: u64,
    /// Its last record.
    pub last_sequence: u64,
    /// The last sequence that was logged before it.
    pub previous_sequence: u64,
    /// Everything up to here was durable when it was written.
    pub durable_sequence: u64,
    /// Which part of a large record it is; `None` when it holds whole records.
    pub part: Option<PartState>,
    /// How many records begin in it.
    pub record_count: u64,
    /// Keys and payloads, in bytes.
    pub record_bytes: u64,
    /// Timestamp of its first record.
    pub first_timestamp: u64,
    /// Timestamp of its last record.
    pub last_timestamp: u64,
    /// The records in it whose own checksum is wrong; empty under [`Proof::Headers`].
    pub damaged: Vec<u64>,
}

impl BlockInfo {
    /// Where the next block begins.
    pub fn end(&self) -> u64 {
        self.offset + self.block_length
    }

    /// The last record that is whole once this block is durable.
    pub fn complete_sequence(&self) -> u64 {
        self.last_sequence - u64::from(self.part.is_some_and(|part| !part.is_last()))
    }
}

/// How much of a block is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Block header and record headers: it was written here, by whom it says.
    Headers,
    /// The checksum of every record too; see [`BlockInfo::damaged`].
    Records,
}

/// One segment and its slot's file, when no others matter.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) segment: Segment,
    pub(crate) file: Arc<dyn File>,
}

impl Segments for Alone {
    fn holding(&self, _: u64) -> Option<Segment> {
        Some(self.segment)
    }

    fn segment(&self, id: u64) -> Option<Segment> {
        (id == self.segment.id).then_some(self.segment)
    }

    fn after(&self, _: u64) -> Option<Segment> {
        None
    }

    fn open(&self, _: &Segment) -> io::Result<Arc<dyn File>> {
        Ok(Arc::clone(&self.file))
    }

    fn epochs(&self) -> Epochs {
        Epochs::default()
    }
}

/// Finds the sound blocks of a segment, in the order of offsets. What cannot be read holds no block. Where the
/// stream was is forgotten.
pub(crate) struct Survey<'a> {
    stream: &'a mut Stream,
    segments: &'a dyn Segments,
    segment: Segment,
    offset: u64,
    proof: Proof,
}

impl<'a> Survey<'a> {
    /// From `from` on, up to the segment's end.
    pub(crate) fn begin(
        stream: &'a mut Stream,
        segments: &'a dyn Segments,
        segment: &Segment,
        from: u64,
        proof: Proof,
    ) -> io::Result<Self> {
        stream.restart(segments, segment, from)?;
        Ok(Self { stream, segments, segment: *segment, offset: from, proof })
    }

    /// Every block of one segment.
    pub(crate) fn all(stream: &'a mut Stream, alone: &'a Alone, proof: Proof) -> io::Result<Vec<BlockInfo>> {
        let mut survey = Self::begin(stream, alone, &alone.segment, FIRST_BLOCK_OFFSET, proof)?;
        let mut blocks = Vec::new();
        while let Some(block) = survey.next()? {
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The next block; `None` at the end of the segment, or of its file.
    pub(crate) fn next(&mut self) -> io::Result<Option<BlockInfo>> {
        let id = self.segment.id;
        while self.offset < self.segment.end {
            match self.stream.block(self.segments, id, self.offset)? {
                Ready::Here => {}
                Ready::Waiting => {
                    self.stream.wait(Wait::Forever)?;
                    continue;
                }
                Ready::Missing => self.stream.fetch(self.segments, &self.segment, self.offset)?,
            }
            let bytes = self.stream.bytes(id, self.offset);
            if bytes.len() < BLOCK_HEADER_BYTES {
                return Ok(None);
            }
            let block = BlockInfo::read(bytes, self.stream.store(), id, self.offset, self.proof);
            self.offset += block.as_ref().map_or(ALIGNMENT as u64, |block| block.block_length);
            self.stream.pass(id, self.offset);
            if block.as_ref().is_some_and(|block| block.end() <= self.segment.end) {
                return Ok(block);
            }
        }
        Ok(None)
    }
}

impl BlockInfo {
    fn read(bytes: &[u8], store: StoreId, segment: u64, offset: u64, proof: Proof) -> Option<Self> {
        let (view, damaged) = match proof {
            Proof::Headers => (BlockView::read(bytes, store, segment, offset)?, Vec::new()),
            Proof::Records => BlockView::read_proven(bytes, store, segment, offset)?,
        };
        let header = view.header();
        let mut info = Self {
            offset,
            block_length: u64::from(header.block_length.get()),
            epoch: header.epoch(),
            epoch_base: header.epoch_base.get(),
            first_sequence: header.first_sequence.get(),
            last_sequence: header.last_sequence.get(),
            previous_sequence: header.previous_sequence.get(),
            durable_sequence: header.durable_sequence.get(),
            part: None,
            record_count: 0,
            record_bytes: 0,
            first_timestamp: header.first_timestamp.get(),
            last_timestamp: header.first_timestamp.get(),
            damaged,
        };
        for (frame, sequence) in view.frames().zip(info.first_sequence..) {
            info.count(&frame, sequence);
        }
        Some(info)
    }

    fn count(&mut self, frame: &Frame<'_>, sequence: u64) {
        let (record, place) = frame.contents(sequence);
        let part = place.map(|place| PartState {
            offset: place.offset.get(),
            total: place.total.get(),
            length: record.payload.len() as u32,
        });
        self.record_count += u64::from(part.is_none_or(|part| part.is_first()));
        self.record_bytes += (record.key.len() + record.payload.len()) as u64;
        self.last_timestamp = record.timestamp;
        self.part = part;
    }
}

/// Fills `buffer` (a multiple of 4 KiB, as `offset` is) and returns how many bytes the file has there. What
/// cannot be read is zeros: no block, no record.
pub(crate) fn read_steps(file: &dyn File, buffer: &mut [u8], offset: u64) -> usize {
    let mut filled = 0;
    let mut step_max = buffer.len();
    while filled < buffer.len() {
        let here = offset + filled as u64;
        let len = step_max.min(buffer.len() - filled);
        let step = &mut buffer[filled..filled + len];
        let moved = match read_some(file, step, here) {
            Ok(moved) => moved,
            Err(_) if len > ALIGNMENT => {
                step_max = ALIGNMENT;
                continue;
            }
            Err(_) => {
                step.fill(0);
                // An unknown length ends the reading too.
                file.len().unwrap_or(0).saturating_sub(here).min(len as u64) as usize
            }
        };
        // Direct reads go on at an aligned place only; less than a step is the end of the file.
        if moved < ALIGNMENT {
            return filled + moved;
        }
        filled += moved / ALIGNMENT * ALIGNMENT;
    }
    filled
}

/// One read, again when a signal came between.
fn read_some(file: &dyn File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    for _ in 0..INTERRUPTED_COUNT_MAX {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    file.read_at(buffer, offset)
}

const INTERRUPTED_COUNT_MAX: usize = 100;

/// Every epoch that is known, with its base: the first sequence that it may have given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Ascending; the last field is the lowest base from there on.
    known: Vec<(Epoch, u64, u64)>,
}

impl Epochs {
    /// One more.
    pub fn insert(&mut self, epoch: Epoch, base: u64) {
        let index = self.known.partition_point(|known| known.0 < epoch);
        match self.known.get_mut(index) {
            Some(known) if known.0 == epoch && known.1 <= base => return,
            Some(known) if known.0 == epoch => known.1 = base,
            _ => self.known.insert(index, (epoch, base, base)),
        }
        let mut lowest = u64::MAX;
        for known in self.known.iter_mut().rev() {
            lowest = lowest.min(known.1);
            known.2 = lowest;
        }
    }

    /// Whether `sequence`, written by `epoch`, is a leftover: a later epoch began at or below it, so the open
    /// before had cut it off.
    pub fn is_stale(&self, epoch: Epoch, sequence: u64) -> bool {
        let later = self.known.partition_point(|known| known.0 <= epoch);
        self.known.get(later).is_some_and(|known| known.2 <= sequence)
    }

    /// The known epochs, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Epoch, u64)> {
        self.known.iter().map(|known| (known.0, known.1))
    }
}

/// The blocks (one segment's, in order) without the leftovers: what a later epoch's base makes stale, and
/// what lies behind a later epoch's block.
pub fn live_blocks<'a>(blocks: &'a [BlockInfo], epochs: &Epochs) -> Vec<&'a BlockInfo> {
    let mut all = epochs.clone();
    blocks.iter().for_each(|block| all.insert(block.epoch, block.epoch_base));
    let mut highest = Epoch::default();
    let is_live = |block: &&BlockInfo| {
        let live = block.epoch >= highest && !all.is_stale(block.epoch, block.first_sequence);
        if live {
            highest = block.epoch;
        }
        live
    };
    blocks.iter().filter(is_live).collect()
}
