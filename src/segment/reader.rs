//! Verified reads of the log in order: for backfill, and for everything that looks at a store.
//!
//! ```text
//! Segments ─► Stream (chunks, blocks) ─► judge ─► sound ────► records ─► Assembly ─► batch
//!                                          └─► anything else: repair (how far? which records are whole?)
//! ```
//!
//! Promises: what is returned is proven, in order, once; what is not returned is named: absent with good
//! reason ([`Fill::Jump`]) or lost ([`Fill::Damaged`]), with its exact range where neighbours tell it. One
//! flipped bit costs at most one record. While things are sound every byte is read once, checked once and
//! copied once. It does not know who reads, how fast, or what was confirmed.

use std::io;
use std::sync::Arc;

use crate::block::{BlockView, proven_to};
use crate::io::{Arena, Backend, Disk, File, ReadDevice, Wait, Waker};
use crate::position::{Epoch, StoreId};
use crate::record::{Frame, Seed};
use crate::segment::assembly::{Absent, Assembly, Bounds, Item, Taken};
use crate::segment::catalog::Segment;
use crate::segment::format::{ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, FIRST_BLOCK_OFFSET, slot_name};
use crate::segment::recovery::Damage;
use crate::segment::salvage::Search;
use crate::segment::stream::{Ready, Stream};
use crate::segment::survey::Epochs;
use crate::sink::{Batch, CopyLimits};

/// Bytes of records that are proven in one go: they stay in the nearest cache until they are copied.
const PROVEN_BYTES: usize = 16 * 1024;

/// Where a reader learns which segments there are. A snapshot's answers stay; a live store's grow.
pub trait Segments {
    /// The segment that `sequence` is in, or would be in: the last one whose base is not above it, else the oldest.
    fn holding(&self, sequence: u64) -> Option<Segment>;
    /// The segment of this id as it is now; `None` once it was recycled.
    fn segment(&self, id: u64) -> Option<Segment>;
    /// The segment behind the one of this id.
    fn after(&self, id: u64) -> Option<Segment>;
    /// Its file, for reading, direct where that works.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&self, segment: &Segment) -> io::Result<Arc<dyn File>>;
    /// Every epoch known and its base.
    fn epochs(&self) -> Epochs;
}

/// Why [`LogReader::fill`] came back.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fill {
    /// A limit of the batch is reached.
    Full,
    /// Reads are in flight: [`LogReader::wait`], then again with the same batch.
    Waiting,
    /// Everything that may be read now was returned.
    Drained,
    /// The next record is of this epoch: the batch ends here.
    Epoch(Epoch),
    /// Absent with good reason: delivered from memory, or a gap names it. The position is behind it.
    Jump {
        /// The first sequence that is absent.
        first: u64,
        /// The last sequence that is absent.
        last: u64,
    },
    /// Lost. The position is behind it.
    Damaged(Damage),
    /// The segment went away meanwhile: seek again.
    Recycled,
}

/// Reads the log in order, a window ahead. Stays on the thread of its device.
pub struct LogReader {
    pub(super) store: StoreId,
    pub(super) stream: Stream,
    pub(super) epochs: Epochs,
    pub(super) position: Option<Position>,
    open: Option<Open>,
    pub(super) repair: Option<Repair>,
    pub(super) assembly: Assembly,
    /// What was before the oldest segment when somebody sought it.
    lost_front: Option<Damage>,
    /// The block at the position was seen to be sound: it is read at once, past the window.
    pub(super) fetch_next: bool,
}

/// Between two blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) slot: u32,
    pub(super) offset: u64,
    /// The last sequence that was logged before it.
    pub(super) last_sequence: u64,
    /// The epoch of the block before it; none behind it is older.
    pub(super) epoch: Epoch,
}

/// A block whose records are being copied.
#[derive(Debug, Clone, Copy)]
struct Open {
    epoch: Epoch,
    /// The next frame, from the block's beginning.
    at: usize,
    end: usize,
    /// Every record from `at` up to here proved itself.
    proven_to: usize,
    sequence: u64,
    first_sequence: u64,
    last_sequence: u64,
    block_length: u64,
    /// The block's checksum over its records' headers was asked, and they are those that were written.
    headers_are_proven: bool,
}

/// A stretch where no block can be believed.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) search: Search,
    pub(super) oldest: Epoch,
    pub(super) newest: Epoch,
    pub(super) file: Arc<dyn File>,
    /// The first sequence that may be missing here.
    pub(super) first_sequence: u64,
    /// The last sequence that is missing here if it is not found.
    pub(super) last_sequence: u64,
    pub(super) until: u64,
}

/// A block at the position, judged.
enum Judged {
    /// Its header is sound; each of its records proves itself as it is copied.
    Sound(BlockHeader),
    /// Its header is sound, and its records cannot be walked along.
    Broken(BlockHeader),
    /// None that may be here.
    None,
}

impl LogReader {
    /// A reader at no position: [`LogReader::seek`] first. Begins with `window_chunks` chunks ahead, at most one
    /// less than `arena` has slots, which nobody else takes slots of; a chunk is a slot.
    pub fn new(device: Box<dyn ReadDevice>, arena: Arc<Arena>, store: StoreId, window_chunks: usize) -> Self {
        Self::over(Stream::new(device, arena, store, window_chunks))
    }

    /// As [`LogReader::new`], with a device and an arena of its own. Not for a thread that runs a tokio runtime.
    ///
    /// # Errors
    /// No memory, or no device.
    pub fn on(disk: &dyn Disk, store: StoreId, backend: Backend) -> io::Result<Self> {
        Stream::on(disk, store, backend).map(Self::over)
    }

    fn over(stream: Stream) -> Self {
        Self {
            store: stream.store(),
            stream,
            epochs: Epochs::default(),
            position: None,
            open: None,
            repair: None,
            assembly: Assembly::default(),
            lost_front: None,
            fetch_next: false,
        }
    }

    /// Goes to `next_sequence`: the next record is that one, or what comes after it. Begin with a new batch.
    /// What lies before the oldest segment is reported as damage, as far as it is asked for here.
    ///
    /// # Errors
    /// What opening a segment says.
    pub fn seek(&mut self, segments: &dyn Segments, next_sequence: u64) -> io::Result<()> {
        self.assembly = Assembly::at(next_sequence);
        (self.position, self.lost_front) = (None, None);
        let Some(segment) = segments.holding(next_sequence) else { return Ok(()) };
        if next_sequence <= segment.previous_sequence {
            self.lost_front = Some(Damage {
                first_sequence: next_sequence,
                last_sequence: segment.previous_sequence,
                file: slot_name(segment.slot),
                offset: FIRST_BLOCK_OFFSET,
            });
        }
        self.enter(segments, &segment, segment.previous_sequence);
        self.stream.restart(segments, &segment, FIRST_BLOCK_OFFSET)
    }

    fn enter(&mut self, segments: &dyn Segments, segment: &Segment, last_sequence: u64) {
        let before = self.position.map_or(Epoch::default(), |position| position.epoch);
        self.epochs = segments.epochs();
        self.position = Some(Position {
            segment: segment.id,
            slot: segment.slot,
            offset: FIRST_BLOCK_OFFSET,
            last_sequence,
            epoch: before.max(segment.epoch),
        });
        (self.open, self.repair, self.fetch_next) = (None, None, false);
        self.stream.forget_before(segment.id);
    }

    /// Copies records behind what `batch` has, none above `readable`, until there is something to say.
    /// While [`LogReader::is_within_record`], go on with the same batch.
    ///
    /// # Errors
    /// What the device or opening a segment says; errors of reads are damage, not errors.
    pub fn fill(
        &mut self,
        segments: &dyn Segments,
        batch: &mut Batch,
        limits: CopyLimits,
        readable: u64,
    ) -> io::Result<Fill> {
        let bounds = Bounds { limits, start: batch.byte_count(), readable };
        if self.position.is_none() || self.assembly.is_cut_off_from(batch) {
            let next = self.assembly.next_sequence();
            self.seek(segments, next)?;
        }
        loop {
            if let Some(fill) = self.step(segments, batch, &bounds)? {
                return Ok(fill);
            }
        }
    }

    fn step(
        &mut self,
        segments: &dyn Segments,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        if self.assembly.next_sequence() > bounds.readable {
            return Ok(Some(Fill::Drained));
        }
        if let Some(damage) = self.lost_front.take() {
            self.assembly.skip_to(damage.last_sequence + 1);
            return Ok(Some(Fill::Damaged(damage)));
        }
        let Some(position) = self.position else { return Ok(Some(Fill::Drained)) };
        let Some(segment) = segments.segment(position.segment) else { return Ok(Some(self.recycled(batch))) };
        if self.repair.is_some() {
            return self.mend(segments, &segment, batch, bounds);
        }
        match self.open {
            Some(open) => self.deliver(segments, &segment, position, open, batch, bounds),
            None => self.next_block(segments, &segment, position, batch, bounds),
        }
    }

    pub(super) fn recycled(&mut self, batch: &mut Batch) -> Fill {
        self.assembly.give_up(batch);
        self.position = None;
        Fill::Recycled
    }

    /// Copies the records of the open block. Each proves itself: that leaves nothing for the checksum over their
    /// headers to prove, which is asked only where one does not.
    fn deliver(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        position: Position,
        mut open: Open,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        let seed = Seed::new(self.store, open.epoch);
        let bytes = self.stream.bytes(position.segment, position.offset);
        while open.at < open.end {
            if open.sequence > bounds.readable {
                self.open = Some(open);
                return Ok(Some(Fill::Drained));
            }
            if open.at >= open.proven_to {
                let (enough, mut sequence) = (open.at + PROVEN_BYTES, open.sequence);
                open.proven_to = proven_to(&bytes[..open.end], open.at, enough, &mut sequence, seed);
            }
            let is_sound = open.at < open.proven_to;
            if !is_sound && !open.headers_are_proven {
                return self.doubt(segments, segment, position, open);
            }
            let Some(frame) = Frame::parse(&bytes[open.at..open.end]) else { break };
            let offset = position.offset + open.at as u64;
            let (record, place) = frame.contents(open.sequence);
            let item =
                Item { epoch: open.epoch, record, place, slot: position.slot, offset, absent: Absent::Jump };
            let taken = self.assembly.take(&item, is_sound, batch, bounds);
            if let Taken::Stop(fill) = taken {
                self.open = Some(open);
                return Ok(Some(fill));
            }
            open.at += frame.encoded_bytes();
            open.sequence += 1;
            if let Taken::Lost(damage) = taken {
                self.open = Some(open);
                return Ok(Some(Fill::Damaged(damage)));
            }
        }
        if open.sequence != open.last_sequence.wrapping_add(1) && !open.headers_are_proven {
            return self.doubt(segments, segment, position, open);
        }
        self.pass(position, open.epoch, open.last_sequence, open.block_length);
        Ok(None)
    }

    /// A frame of the open block is not what it should be: do the block's own checksums at least prove where each
    /// frame begins? Then one record is damaged, else the rest is searched for what is whole.
    fn doubt(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        position: Position,
        open: Open,
    ) -> io::Result<Option<Fill>> {
        let bytes = self.stream.bytes(position.segment, position.offset);
        let view = BlockView::read(bytes, self.store, position.segment, position.offset);
        if view.is_some() {
            self.open = Some(Open { headers_are_proven: true, ..open });
        } else {
            self.open = None;
            self.search(segments, segment, position, open)?;
        }
        Ok(None)
    }

    /// Repairs a block whose header is sound and whose frames are not.
    fn search(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        position: Position,
        block: Open,
    ) -> io::Result<()> {
        let until = position.offset + block.block_length;
        self.repair = Some(Repair {
            search: Search::new(position.offset, until)?,
            oldest: block.epoch,
            newest: block.epoch,
            file: self.stream.file(segments, segment)?,
            first_sequence: block.first_sequence,
            last_sequence: block.last_sequence,
            until,
        });
        Ok(())
    }

    fn pass(&mut self, position: Position, epoch: Epoch, last_sequence: u64, block_length: u64) {
        let offset = position.offset + block_length;
        self.open = None;
        self.fetch_next = false;
        self.position = Some(Position { offset, last_sequence, epoch, ..position });
        self.stream.pass(position.segment, offset);
    }

    fn next_block(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        position: Position,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        let next = segments.after(segment.id);
        let is_over = match &next {
            // The first part of the last record already carries its sequence.
            Some(next) => {
                position.last_sequence >= next.previous_sequence
                    && (!self.assembly.is_within_record() || position.offset >= segment.end)
            }
            None => position.offset >= segment.end,
        };
        if is_over {
            // What is still in parts gets no more of them.
            if let Some(damage) = self.assembly.break_off(batch, position.slot, position.offset) {
                return Ok(Some(Fill::Damaged(damage)));
            }
            let Some(next) = next else { return Ok(Some(Fill::Drained)) };
            self.enter(segments, &next, position.last_sequence);
            return Ok(None);
        }
        let ready = self.stream.block(segments, position.segment, position.offset)?;
        if ready == Ready::Waiting && !self.fetch_next {
            return Ok(Some(Fill::Waiting));
        }
        let fetched = ready != Ready::Here || self.fetch_next;
        if fetched {
            self.stream.fetch(segments, segment, position.offset)?;
        }
        match self.judge(position, next.as_ref()) {
            Judged::Sound(header) => self.begin(segments, segment, &header, true, batch, bounds),
            Judged::Broken(header) => self.begin(segments, segment, &header, false, batch, bounds),
            Judged::None if self.fetch_next => {
                // Sound a moment ago, and now not: what is behind it will tell what is lost.
                let offset = position.offset + ALIGNMENT as u64;
                self.fetch_next = false;
                self.position = Some(Position { offset, ..position });
                self.stream.restart(segments, segment, offset)?;
                Ok(None)
            }
            Judged::None => self.examine(segments, segment, next.as_ref(), position, batch, bounds),
        }
    }

    fn judge(&self, position: Position, next: Option<&Segment>) -> Judged {
        let bytes = self.stream.bytes(position.segment, position.offset);
        let Some(header) = BlockHeader::read(bytes, self.store, position.segment, position.offset) else {
            return Judged::None;
        };
        let (first, last) = (header.first_sequence.get(), header.last_sequence.get());
        if !may_follow(&self.epochs, position, next, header.epoch(), first, last) {
            return Judged::None;
        }
        // What nobody wants needs no proof.
        let unwanted = last < self.assembly.next_sequence();
        let is_whole = BLOCK_HEADER_BYTES + header.stored_length.get() as usize <= bytes.len();
        if unwanted || (is_whole && header.codec == 0) {
            Judged::Sound(*header)
        } else {
            Judged::Broken(*header)
        }
    }

    /// Begins the block at the position: names what is missing before it, passes it when nobody wants it,
    /// repairs it when its records' headers are not sound.
    fn begin(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        header: &BlockHeader,
        is_sound: bool,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        let Some(position) = self.position else { return Ok(None) };
        let (first, last) = (header.first_sequence.get(), header.last_sequence.get());
        if first > bounds.readable {
            return Ok(Some(Fill::Drained));
        }
        let missing = (position.last_sequence + 1).max(segment.base_sequence);
        let previous = header.previous_sequence.get().min(last);
        if let Some(fill) = self.assembly.lose(missing, previous, batch, position.slot, position.offset) {
            return Ok(Some(fill));
        }
        let block_length = u64::from(header.block_length.get());
        if last < self.assembly.next_sequence() {
            self.pass(position, header.epoch(), last, block_length);
            return Ok(None);
        }
        let open = Open {
            epoch: header.epoch(),
            at: BLOCK_HEADER_BYTES,
            end: BLOCK_HEADER_BYTES + header.stored_length.get() as usize,
            proven_to: 0,
            sequence: first,
            first_sequence: first,
            last_sequence: last,
            block_length,
            headers_are_proven: false,
        };
        if is_sound {
            self.open = Some(open);
        } else {
            self.search(segments, segment, position, open)?;
        }
        Ok(None)
    }

    /// The sequence that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.assembly.next_sequence()
    }

    /// Whether the batch's last record still lacks parts: it must not be sent yet.
    pub fn is_within_record(&self) -> bool {
        self.assembly.is_within_record()
    }

    /// Waits on the device; a wake ends it.
    ///
    /// # Errors
    /// What the device says.
    pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.stream.wait(wait)
    }

    /// Ends a wait from any thread.
    pub fn waker(&self) -> Waker {
        self.stream.waker()
    }
}

/// Whether a sound block may come at `position`: no leftover, nothing that the next segment holds again.
pub(super) fn may_follow(
    epochs: &Epochs,
    position: Position,
    next: Option<&Segment>,
    epoch: Epoch,
    first: u64,
    last: u64,
) -> bool {
    let goes_on = first > position.last_sequence || (first == last && first == position.last_sequence);
    goes_on
        && epoch >= position.epoch
        && !epochs.is_stale(epoch, first)
        && next.is_none_or(|next| first < next.base_sequence)
}
