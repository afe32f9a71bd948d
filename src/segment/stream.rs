//! The bytes of the log in order, a window ahead: block after block, wherever chunks begin and end.
//!
//! ```text
//! segment  │ block │ block      │ block │ ...
//! chunks   │ chunk 0      │ chunk 1      │        a block within a chunk is read where it lies;
//!                     └─ carry ─┘                 one that straddles two is put together in the carry
//! ```
//!
//! It owns the device, the window and the files of the segments in it; it reads block headers for their
//! length alone. What is wrong with bytes is the reader's to judge. The window deepens while the reader waits for
//! the device; at most the slots of the arena are held, and one block of carry.

use std::io;
use std::sync::Arc;

use crate::backfill::read_ahead::{Completed, Front, ReadAhead};
use crate::io::{Arena, Backend, DeviceOptions, Disk, File, Read, ReadDevice, ReadDone, Slot, Wait, Waker};
use crate::limits::BLOCK_BYTES_MAX;
use crate::position::StoreId;
use crate::segment::catalog::Segment;
use crate::segment::format::{ALIGNMENT, BlockHeader, FIRST_BLOCK_OFFSET};
use crate::segment::reader::Segments;
use crate::segment::survey::read_steps;

/// Bytes of one read, where nobody says otherwise.
const CHUNK_BYTES: usize = 512 * 1024;

/// Chunks ahead to begin with, where nobody says otherwise.
const WINDOW_CHUNKS: usize = 6;

/// Slots of the arena, 8 MiB: the window is at most one less deep. Those that were never needed cost no memory.
const SLOT_COUNT: usize = 16;

/// Of the arena, what is registered with the kernel; the slots that are taken first.
const REGISTERED_BYTES_MAX: usize = 2560 * 1024;

/// Whether the block asked for is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// All of it, if it is one: see [`Stream::bytes`].
    Here,
    /// Reads are in flight.
    Waiting,
    /// It cannot be read through the window: [`Stream::fetch`] may.
    Missing,
}

/// See the module.
pub(crate) struct Stream {
    device: Box<dyn ReadDevice>,
    arena: Arc<Arena>,
    store: StoreId,
    window: ReadAhead<Slot>,
    done: Vec<ReadDone>,
    /// The segments named to the window, oldest first.
    files: Vec<(u64, Arc<dyn File>)>,
    /// Where the last of them ends, as far as the window knows.
    planned_end: u64,
    current: Option<Chunk>,
    /// The first bytes of the block that comes next, when they are not in `current`.
    carry: Vec<u8>,
}

struct Chunk {
    segment: u64,
    offset: u64,
    len: usize,
    slot: Slot,
}

impl Chunk {
    fn bytes_from(&self, segment: u64, offset: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        (self.segment == segment && start < self.len).then(|| &self.slot[start..self.len])
    }
}

impl Stream {
    pub(crate) fn new(
        device: Box<dyn ReadDevice>,
        arena: Arc<Arena>,
        store: StoreId,
        window_chunks: usize,
    ) -> Self {
        let window = ReadAhead::new(window_chunks, arena.slot_bytes());
        let (done, files, carry) = (Vec::new(), Vec::new(), Vec::new());
        Self { device, arena, store, window, done, files, planned_end: 0, current: None, carry }
    }

    /// One that has a device and an arena of its own. Not for a thread that runs a tokio runtime.
    pub(crate) fn on(disk: &dyn Disk, store: StoreId, backend: Backend) -> io::Result<Self> {
        let arena = Arena::new(CHUNK_BYTES, SLOT_COUNT)?;
        let options = DeviceOptions {
            backend,
            in_flight_count_max: SLOT_COUNT - 1,
            registered_bytes_max: REGISTERED_BYTES_MAX,
        };
        let device = disk.read_device(&arena, options)?;
        Ok(Self::new(device, arena, store, WINDOW_CHUNKS))
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Forgets what was read ahead and goes to a block's beginning.
    pub(crate) fn restart(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        offset: u64,
    ) -> io::Result<()> {
        let file = self.file(segments, segment)?;
        self.files = vec![(segment.id, file)];
        self.current = None;
        self.carry.clear();
        self.planned_end = aligned_down(segment.end).max(offset);
        self.window.seek(segment.id, offset, self.planned_end);
        Ok(())
    }

    /// The segment's file; opened once while it is in the window.
    pub(crate) fn file(&self, segments: &dyn Segments, segment: &Segment) -> io::Result<Arc<dyn File>> {
        match self.files.iter().find(|(id, _)| *id == segment.id) {
            Some((_, file)) => Ok(Arc::clone(file)),
            None => segments.open(segment),
        }
    }

    /// Starts reads as far as the window goes, and takes what has come back.
    fn pump(&mut self, segments: &dyn Segments) -> io::Result<()> {
        self.plan(segments)?;
        let mut is_told = false;
        // A short read comes back as the wish to read its rest, so that asking once is not enough.
        while self.submit_next() {
            while self.submit_next() {}
            self.wait(Wait::Now)?;
            is_told = true;
        }
        let is_wanting = self.window.front().is_none() && self.window.in_flight() > 0;
        if is_wanting && !is_told { self.wait(Wait::Now) } else { Ok(()) }
    }

    /// Submits one more read, if the window and the arena have room.
    fn submit_next(&mut self) -> bool {
        if self.arena.free_count() == 0 {
            return false;
        }
        let Some(chunk) = self.window.next() else { return false };
        let file = self.files.iter().find(|(id, _)| *id == chunk.segment).map(|(_, file)| file);
        match (file, self.arena.take()) {
            (Some(file), Some(slot)) => self.device.submit(Read {
                token: chunk.token,
                file: Arc::clone(file),
                slot,
                offset: chunk.offset,
                len: chunk.len,
            }),
            _ => {
                self.window.fail(chunk.token);
            }
        }
        true
    }

    fn plan(&mut self, segments: &dyn Segments) -> io::Result<()> {
        loop {
            let Some(id) = self.files.last().map(|(id, _)| *id) else { return Ok(()) };
            // First whether there is a next one: if so, this one's end moves no more.
            let next = segments.after(id);
            let end = segments.segment(id).map_or(0, |segment| aligned_down(segment.end));
            if end > self.planned_end {
                self.planned_end = end;
                self.window.grow(end);
            }
            let Some(next) = next.filter(|_| self.window.wants_more()) else { return Ok(()) };
            self.files.push((next.id, segments.open(&next)?));
            self.planned_end = aligned_down(next.end).max(FIRST_BLOCK_OFFSET);
            self.window.extend(next.id, FIRST_BLOCK_OFFSET, self.planned_end);
        }
    }

    /// Waits for reads, and takes them in.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.device.wait(wait, &mut self.done)?;
        for done in self.done.drain(..) {
            match done.result {
                // Buffers that nobody waits for go back to the arena.
                Ok(len) => match self.window.complete(done.token, len, done.slot) {
                    Completed::InWindow => {}
                    Completed::EndOfData(slot) | Completed::Stale(slot) => drop(slot),
                },
                Err(_) => {
                    self.window.fail(done.token);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn waker(&self) -> Waker {
        self.device.waker()
    }

    /// Brings the block at `offset` together. Offsets only ascend between two restarts. The device is told of
    /// more to read once a chunk, not once a block: small blocks cost no system call.
    pub(crate) fn block(&mut self, segments: &dyn Segments, segment: u64, offset: u64) -> io::Result<Ready> {
        let mut is_pumped = false;
        loop {
            if !self.carry.is_empty() {
                let header = BlockHeader::read(&self.carry, self.store, segment, offset);
                let wanted = header.map_or(0, |header| header.block_length.get() as usize);
                if self.carry.len() >= wanted {
                    return Ok(Ready::Here);
                }
                let have = self.carry.len();
                let at = offset + have as u64;
                if let Some(more) = self.current.as_ref().and_then(|chunk| chunk.bytes_from(segment, at)) {
                    self.carry.extend_from_slice(&more[..more.len().min(wanted - have)]);
                    continue;
                }
            } else if let Some(bytes) =
                self.current.as_ref().and_then(|chunk| chunk.bytes_from(segment, offset))
            {
                let header = BlockHeader::read(bytes, self.store, segment, offset);
                if header.is_none_or(|header| header.block_length.get() as usize <= bytes.len()) {
                    return Ok(Ready::Here);
                }
                self.carry.extend_from_slice(bytes);
            }
            match self.next_chunk(segment, offset + self.carry.len() as u64) {
                // The window has moved on, and there is room in it again.
                Some(Ready::Here) => {}
                Some(Ready::Waiting) if is_pumped => {
                    self.window.deepen(self.arena.slot_count() - 1);
                    return Ok(Ready::Waiting);
                }
                other if is_pumped => return Ok(other.unwrap_or(Ready::Missing)),
                _ => {}
            }
            self.pump(segments)?;
            is_pumped = true;
        }
    }

    /// Takes the chunk of `segment` that holds `at` out of the window; those before it are dropped.
    fn next_chunk(&mut self, segment: u64, at: u64) -> Option<Ready> {
        self.current = None;
        loop {
            let (chunk, missing) = match self.window.front() {
                None if self.window.in_flight() == 0 => return None,
                None => return Some(Ready::Waiting),
                Some(Front::Data(chunk, _)) => (chunk, false),
                Some(Front::Missing(chunk)) => (chunk, true),
            };
            let (of, is_past) = (chunk.segment, missing || chunk.offset > at);
            if of > segment || (of == segment && is_past) {
                return None;
            }
            let Some(Front::Data(chunk, slot)) = self.window.pop() else { continue };
            if of == segment {
                let (offset, len) = (chunk.offset, chunk.len);
                self.current = Some(Chunk { segment, offset, len, slot });
                return Some(Ready::Here);
            }
        }
    }

    /// The bytes from `offset` on, as far as they are together.
    pub(crate) fn bytes(&self, segment: u64, offset: u64) -> &[u8] {
        if !self.carry.is_empty() {
            return &self.carry;
        }
        self.current.as_ref().and_then(|chunk| chunk.bytes_from(segment, offset)).unwrap_or(&[])
    }

    /// Reads the block at `offset` at once, step by step where it must be, and goes on behind it.
    pub(crate) fn fetch(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        offset: u64,
    ) -> io::Result<()> {
        let file = self.file(segments, segment)?;
        let mut scratch = crate::segment::salvage::scratch()?;
        let room = aligned_down(segment.end).saturating_sub(offset).min(BLOCK_BYTES_MAX as u64) as usize;
        let filled = read_steps(&*file, &mut scratch[..room], offset);
        let header = BlockHeader::read(&scratch[..filled], self.store, segment.id, offset);
        let length = header.map_or(ALIGNMENT, |header| header.block_length.get() as usize);
        self.restart(segments, segment, (offset + length as u64).min(aligned_down(segment.end).max(offset)))?;
        self.carry.extend_from_slice(&scratch[..filled.min(length)]);
        Ok(())
    }

    /// The block before `offset` is done with.
    pub(crate) fn pass(&mut self, segment: u64, offset: u64) {
        self.carry.clear();
        if self.current.as_ref().is_some_and(|chunk| chunk.bytes_from(segment, offset).is_none()) {
            self.current = None;
        }
    }

    /// Files of segments before `segment` are closed.
    pub(crate) fn forget_before(&mut self, segment: u64) {
        self.files.retain(|(id, _)| *id >= segment);
    }
}

fn aligned_down(offset: u64) -> u64 {
    offset / ALIGNMENT as u64 * ALIGNMENT as u64
}
