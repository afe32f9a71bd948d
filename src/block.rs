//! Packs records into one aligned block, in the layout that lies on disk, and takes a block apart again.
//!
//! ```text
//! OpenBlock ──push──► ... ──seal──► Block ──place──► written as it stands, or dropped when confirmed
//! ```
//!
//! A block is packed before anybody knows where it will lie: its header is stamped by [`Block::place`], so
//! that a spill moves pointers, not bytes. The sequences of one block are consecutive; a jump seals it.
//! This module knows no queue and no file.

use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::io::Slot;
use crate::position::{Epoch, StoreId};
use crate::record::{Frame, HEADER_BYTES, Piece, Seed, prove};
use crate::segment::format::{BLOCK_HEADER_BYTES, BlockHeader, aligned};

/// What is known of a block's content, wherever it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extract {
    /// Its first record (0 while empty).
    pub first_sequence: u64,
    /// Its last record.
    pub last_sequence: u64,
    /// The last record that is whole once this block is durable: a part that is not the last completes none.
    pub complete_sequence: u64,
    /// How many records begin in it.
    pub record_count: u64,
    /// Keys and payloads, in bytes.
    pub record_bytes: u64,
    /// Timestamp of its first record.
    pub first_timestamp: u64,
    /// Timestamp of its last record.
    pub last_timestamp: u64,
    /// How many blocks, from this one on, hold one record's parts and must lie in one segment (else 1).
    pub run: u32,
}

/// Records whose checksums are computed together. Whoever appends under a lock cannot begin one before the last
/// is there, and each is a chain of steps that wait for each other; several side by side take half the time.
const PROVE_COUNT: usize = 8;

/// A block that still takes records.
#[derive(Debug)]
pub struct OpenBlock {
    seed: Seed,
    slot: Slot,
    used: usize,
    /// Lengths of the last frames, which have no checksum yet.
    unproven: [u32; PROVE_COUNT],
    unproven_count: usize,
    records_checksum: u32,
    frame_count: u32,
    extract: Extract,
}

impl OpenBlock {
    /// An empty block in `slot`, for records of the epoch that `seed` is of.
    pub fn new(slot: Slot, seed: Seed) -> Self {
        Self {
            seed,
            slot,
            used: BLOCK_HEADER_BYTES,
            unproven: [0; PROVE_COUNT],
            unproven_count: 0,
            records_checksum: 0,
            frame_count: 0,
            extract: Extract { run: 1, ..Extract::default() },
        }
    }

    /// Bytes of records that a block in a slot of `slot_bytes` can hold.
    pub fn capacity(slot_bytes: usize) -> usize {
        slot_bytes - BLOCK_HEADER_BYTES
    }

    /// Whether `bytes` more fit.
    pub fn fits(&self, bytes: usize) -> bool {
        self.used + bytes <= self.slot.len()
    }

    /// Packs one more record (it fits: the caller asked): one copy, one checksum, which may come a little later.
    pub fn push(&mut self, piece: &Piece<'_>) {
        let length = piece.pack(&mut self.slot[self.used..]);
        self.used += length;
        self.frame_count += 1;
        self.unproven[self.unproven_count] = length as u32;
        self.unproven_count += 1;
        let extract = &mut self.extract;
        if extract.first_sequence == 0 {
            extract.first_sequence = piece.sequence;
            extract.first_timestamp = piece.timestamp;
        }
        debug_assert!(
            extract.last_sequence == 0 || extract.last_sequence + 1 == piece.sequence,
            "no jump within"
        );
        let offset = piece.place.map_or(0, |place| place.offset.get() as usize);
        let total = piece.place.map_or(piece.payload.len(), |place| place.total.get() as usize);
        extract.last_sequence = piece.sequence;
        extract.last_timestamp = piece.timestamp;
        extract.complete_sequence = piece.sequence - u64::from(offset + piece.payload.len() < total);
        extract.record_count += u64::from(offset == 0);
        extract.record_bytes += (piece.key.len() + piece.payload.len()) as u64;
        if self.unproven_count == PROVE_COUNT {
            self.prove();
        }
    }

    /// Computes the checksums that are missing, while the bytes are in cache.
    fn prove(&mut self) {
        let lengths = &self.unproven[..self.unproven_count];
        let mut at = self.used - lengths.iter().sum::<u32>() as usize;
        let sequences = self.extract.last_sequence + 1 - lengths.len() as u64..;
        let mut headers = [[0; HEADER_BYTES]; PROVE_COUNT];
        for ((header, &length), sequence) in headers.iter_mut().zip(lengths).zip(sequences) {
            *header = prove(self.seed, sequence, &mut self.slot[at..at + length as usize]);
            at += length as usize;
        }
        let headers = headers[..lengths.len()].as_flattened();
        self.records_checksum = crc32c::crc32c_append(self.records_checksum, headers);
        self.unproven_count = 0;
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.frame_count == 0
    }

    /// What is in it so far.
    pub fn extract(&self) -> &Extract {
        &self.extract
    }

    /// Bytes that it would take on disk.
    pub fn block_bytes(&self) -> usize {
        aligned(self.used)
    }

    /// The frames in it so far.
    pub fn frames(&self) -> &[u8] {
        &self.slot[BLOCK_HEADER_BYTES..self.used]
    }

    /// Closes it: from here on nothing but its header changes. `run` as in [`Extract::run`].
    pub fn seal(mut self, run: u32) -> Block {
        self.prove();
        let length = aligned(self.used);
        self.slot[self.used..length].fill(0);
        self.extract.run = run;
        Block {
            slot: Arc::new(self.slot),
            used: self.used,
            records_checksum: self.records_checksum,
            frame_count: self.frame_count,
            extract: self.extract,
        }
    }
}

/// Where a block goes, and what its header says of the log before it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The store.
    pub store: StoreId,
    /// The epoch that writes it.
    pub epoch: Epoch,
    /// The first sequence of that epoch.
    pub epoch_base: u64,
    /// The segment.
    pub segment: u64,
    /// Where in the segment.
    pub offset: u64,
    /// The last sequence logged before it.
    pub previous_sequence: u64,
    /// Everything up to here is durable.
    pub durable_sequence: u64,
}

/// A sealed block in memory.
#[derive(Debug)]
pub struct Block {
    slot: Arc<Slot>,
    used: usize,
    records_checksum: u32,
    frame_count: u32,
    extract: Extract,
}

impl Block {
    /// What is in it.
    pub fn extract(&self) -> &Extract {
        &self.extract
    }

    /// Bytes that it takes on disk.
    pub fn block_bytes(&self) -> usize {
        aligned(self.used)
    }

    /// Its frames.
    pub fn frames(&self) -> &[u8] {
        &self.slot[BLOCK_HEADER_BYTES..self.used]
    }

    /// Stamps the header for `place` and gives a share of the bytes to write. Nobody else may hold a share:
    /// a block is placed again only when its last write has come back.
    pub fn place(&mut self, place: &Place) -> Arc<Slot> {
        let stored = (self.used - BLOCK_HEADER_BYTES) as u32;
        let mut header = BlockHeader {
            epoch: U64::new(place.epoch.0),
            segment: U64::new(place.segment),
            offset: U64::new(place.offset),
            epoch_base: U64::new(place.epoch_base),
            first_sequence: U64::new(self.extract.first_sequence),
            last_sequence: U64::new(self.extract.last_sequence),
            previous_sequence: U64::new(place.previous_sequence),
            durable_sequence: U64::new(place.durable_sequence),
            record_count: U32::new(self.frame_count),
            stored_length: U32::new(stored),
            unpacked_length: U32::new(stored),
            block_length: U32::new(self.block_bytes() as u32),
            records_checksum: U32::new(self.records_checksum),
            first_timestamp: U64::new(self.extract.first_timestamp),
            ..BlockHeader::blank()
        };
        header.stamp(place.store);
        let slot = Arc::get_mut(&mut self.slot).expect("a block is placed with no write of it in flight");
        slot[..BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        Arc::clone(&self.slot)
    }
}

/// One frame of a block that was read, and what its checksum says.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// The record, proven.
    Sound(Piece<'a>),
    /// The record of this sequence is damaged.
    Damaged(u64),
}

/// How far the records from `at` on, of `sequence` and those behind it, prove themselves; those that begin at or
/// behind `enough` are not looked at. A checksum waits for itself, one word after the other; with nothing else
/// between, the processor works on those of several records at once.
pub(crate) fn proven_to(bytes: &[u8], mut at: usize, enough: usize, sequence: &mut u64, seed: Seed) -> usize {
    while at < enough
        && let Some(frame) = Frame::parse(&bytes[at..])
        && frame.verify(seed, *sequence).is_some()
    {
        at += frame.encoded_bytes();
        *sequence = sequence.wrapping_add(1);
    }
    at
}

/// A block that was read from disk: its header is proven, its records are proven one by one.
#[derive(Debug, Clone, Copy)]
pub struct BlockView<'a> {
    header: &'a BlockHeader,
    frames: &'a [u8],
}

impl<'a> BlockView<'a> {
    /// The block at the front of `bytes`, if header and record headers are sound and belong to this place.
    /// `bytes` may be longer than the block; a block that reaches beyond them is none (see [`BlockHeader::read`]).
    pub fn read(bytes: &'a [u8], store: StoreId, segment: u64, offset: u64) -> Option<Self> {
        Self::unproven(bytes, store, segment, offset).filter(Self::frames_are_sound)
    }

    /// As [`BlockView::read`], and the records in it that are damaged. Each byte is looked at once: where every
    /// record proves itself, that leaves nothing for the checksum over their headers to prove.
    pub fn read_proven(
        bytes: &'a [u8],
        store: StoreId,
        segment: u64,
        offset: u64,
    ) -> Option<(Self, Vec<u64>)> {
        let view = Self::unproven(bytes, store, segment, offset)?;
        if view.proves_itself(store) {
            return Some((view, Vec::new()));
        }
        let damaged = |found| match found {
            Found::Sound(_) => None,
            Found::Damaged(sequence) => Some(sequence),
        };
        view.frames_are_sound().then(|| (view, view.records(store).filter_map(damaged).collect()))
    }

    fn unproven(bytes: &'a [u8], store: StoreId, segment: u64, offset: u64) -> Option<Self> {
        let header = BlockHeader::read(bytes, store, segment, offset)?;
        let end = BLOCK_HEADER_BYTES + header.stored_length.get() as usize;
        Some(Self { header, frames: bytes.get(BLOCK_HEADER_BYTES..end)? })
    }

    /// Every record that the header speaks of is there, and right.
    fn proves_itself(&self, store: StoreId) -> bool {
        let seed = Seed::new(store, self.header.epoch());
        let mut sequence = self.header.first_sequence.get();
        let proven = proven_to(self.frames, 0, usize::MAX, &mut sequence, seed);
        let last = self.header.last_sequence.get();
        proven == self.frames.len() && sequence == last.wrapping_add(1) && self.count_is_right()
    }

    fn count_is_right(&self) -> bool {
        let (first, last) = (self.header.first_sequence.get(), self.header.last_sequence.get());
        self.header.codec == 0
            && u64::from(self.header.record_count.get()) == last.wrapping_sub(first).wrapping_add(1)
    }

    /// Its header.
    pub fn header(&self) -> &'a BlockHeader {
        self.header
    }

    /// Its frames, their records unproven.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let mut rest = self.frames;
        std::iter::from_fn(move || {
            let frame = Frame::parse(rest)?;
            rest = &rest[frame.encoded_bytes()..];
            Some(frame)
        })
    }

    /// Every record in it, in order, each proven as it is reached.
    pub fn records(&self, store: StoreId) -> impl Iterator<Item = Found<'a>> + use<'a> {
        let seed = Seed::new(store, self.header.epoch());
        let mut rest = self.frames;
        let mut sequence = self.header.first_sequence.get();
        std::iter::from_fn(move || {
            let frame = Frame::parse(rest)?;
            rest = &rest[frame.encoded_bytes()..];
            let found = frame.verify(seed, sequence).map_or(Found::Damaged(sequence), Found::Sound);
            sequence = sequence.wrapping_add(1);
            Some(found)
        })
    }

    /// The frames tile the block, there are as many as the header says, and their headers are those that
    /// were written. Codecs other than 0 are unknown to this version.
    fn frames_are_sound(&self) -> bool {
        let first = self.header.first_sequence.get();
        let (mut rest, mut checksum, mut count) = (self.frames, 0, 0);
        while let Some(frame) = Frame::parse(rest) {
            if frame.sequence_low() != first.wrapping_add(count) as u32 {
                return false;
            }
            checksum = crc32c::crc32c_append(checksum, frame.header_bytes());
            count += 1;
            rest = &rest[frame.encoded_bytes()..];
        }
        self.count_is_right()
            && rest.is_empty()
            && count == u64::from(self.header.record_count.get())
            && checksum == self.header.records_checksum.get()
    }
}
