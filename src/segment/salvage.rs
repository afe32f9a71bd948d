//! Finds single records where the block around them cannot be believed.
//!
//! Walks the bytes one by one and accepts a frame only if its own checksum says that it is a record of this
//! store, of an epoch that may be here, with a sequence inside the window that the neighbours leave open.
//! So one flipped bit costs at most one record. [`find`] looks at bytes,
//! [`Search`] goes through a stretch of a file.

use std::io;

use crate::io::{Arena, File, Slot};
use crate::limits::BLOCK_BYTES_MAX;
use crate::position::{Epoch, StoreId};
use crate::record::{Frame, Piece, Seed};
use crate::segment::format::ALIGNMENT;
use crate::segment::survey::{Epochs, read_steps};

/// A rotten length makes us hash at most so many times the bytes that are searched.
const HASHED_FACTOR_MAX: usize = 64;

/// What may be found.
#[derive(Debug, Clone)]
pub struct Window {
    /// The lowest sequence.
    pub first_sequence: u64,
    /// The highest sequence.
    pub last_sequence: u64,
    seeds: Vec<(Epoch, Seed)>,
    epochs: Epochs,
}

/// A record that was found.
#[derive(Debug, Clone, Copy)]
pub struct Salvaged<'a> {
    /// Where its frame begins in the bytes given.
    pub start: usize,
    /// Where its frame ends.
    pub end: usize,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The record, or a part of it, proven.
    pub piece: Piece<'a>,
}

impl Salvaged<'_> {
    /// Whether the record is whole with it.
    pub fn is_whole(&self) -> bool {
        self.piece.place.is_none_or(|place| {
            place.offset.get() as usize + self.piece.payload.len() == place.total.get() as usize
        })
    }
}

impl Window {
    /// Sequences from `first_sequence` to `last_sequence`, written by an epoch from `oldest` to `newest` that
    /// is among `epochs`, or by one of those two.
    pub fn new(
        store: StoreId,
        sequences: std::ops::RangeInclusive<u64>,
        oldest: Epoch,
        newest: Epoch,
        epochs: &Epochs,
    ) -> Self {
        let known = epochs.iter().map(|(epoch, _)| epoch).filter(|epoch| (oldest..=newest).contains(epoch));
        let mut seeds: Vec<_> =
            known.chain([oldest, newest]).map(|epoch| (epoch, Seed::new(store, epoch))).collect();
        seeds.sort_unstable_by_key(|seed| std::cmp::Reverse(seed.0));
        seeds.dedup_by_key(|seed| seed.0);
        Self {
            first_sequence: *sequences.start(),
            last_sequence: *sequences.end(),
            seeds,
            epochs: epochs.clone(),
        }
    }

    /// The sequence in the window whose low half this is.
    fn sequence_of(&self, low: u32) -> Option<u64> {
        let ahead = low.wrapping_sub(self.first_sequence as u32);
        let sequence = self.first_sequence.checked_add(u64::from(ahead))?;
        (sequence <= self.last_sequence).then_some(sequence)
    }
}

/// The first record of `window` whose frame begins in `bytes[from..until]` and ends in `bytes`.
pub fn find<'a>(bytes: &'a [u8], from: usize, until: usize, window: &Window) -> Option<Salvaged<'a>> {
    let mut hashed_left = bytes.len().saturating_mul(HASHED_FACTOR_MAX);
    for start in from..until {
        let Some(frame) = Frame::parse(&bytes[start..]) else { continue };
        let length = frame.encoded_bytes();
        let Some(sequence) = window.sequence_of(frame.sequence_low()) else { continue };
        if length > BLOCK_BYTES_MAX {
            continue;
        }
        for &(epoch, seed) in window.seeds.iter().filter(|seed| !window.epochs.is_stale(seed.0, sequence)) {
            hashed_left = hashed_left.checked_sub(length)?;
            if let Some(piece) = frame.verify(seed, sequence) {
                return Some(Salvaged { start, end: start + length, epoch, piece });
            }
        }
    }
    None
}

/// Searches a stretch of a segment, a buffer at a time.
#[derive(Debug)]
pub struct Search {
    buffer: Slot,
    /// Where the next frame may begin.
    at: u64,
    until: u64,
    /// What of the file is in `buffer`: from here on, so many bytes.
    base: u64,
    filled: usize,
}

impl Search {
    /// Searches `[from, until)`; both are multiples of 4 KiB.
    ///
    /// # Errors
    /// No memory for a buffer.
    pub fn new(from: u64, until: u64) -> io::Result<Self> {
        Ok(Self { buffer: scratch()?, at: from, until, base: from, filled: 0 })
    }

    /// Where the search is.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next record of `window` and where in the file its frame begins. It stays the next one until [`Search::advance`].
    pub fn peek(&mut self, file: &dyn File, window: &Window) -> Option<(u64, Salvaged<'_>)> {
        let (start, epoch, sequence) = loop {
            self.load(file);
            let last = self.base + self.filled as u64 >= self.until;
            // What begins near the end of the buffer may end behind it.
            let conclusive = if last { self.filled } else { self.filled - BLOCK_BYTES_MAX };
            let from = (self.at - self.base) as usize;
            let found = find(&self.buffer[..self.filled], from, conclusive, window);
            match found.map(|found| (found.start, found.epoch, found.piece.sequence)) {
                Some(found) => break found,
                None if last => {
                    self.at = self.until;
                    return None;
                }
                None => self.at = self.base + conclusive as u64,
            }
        };
        self.at = self.base + start as u64;
        let frame = Frame::parse(&self.buffer[start..self.filled])?;
        let (record, place) = frame.contents(sequence);
        let piece =
            Piece { sequence, timestamp: record.timestamp, key: record.key, payload: record.payload, place };
        Some((self.at, Salvaged { start, end: start + frame.encoded_bytes(), epoch, piece }))
    }

    /// Goes behind a record of `bytes` that was peeked at.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes as u64;
    }

    fn load(&mut self, file: &dyn File) {
        let end = self.base + self.filled as u64;
        let enough = self.filled > 0 && (end >= self.until || self.at + (BLOCK_BYTES_MAX as u64) < end);
        if enough || self.at >= self.until {
            return;
        }
        self.base = self.at / ALIGNMENT as u64 * ALIGNMENT as u64;
        let len = (self.buffer.len() as u64).min(self.until - self.base) as usize;
        self.filled = read_steps(file, &mut self.buffer[..len], self.base);
        if self.filled < len {
            self.until = self.until.min(self.base + self.filled as u64);
            self.at = self.at.min(self.until);
        }
    }
}

/// A buffer that any block fits into, wherever it begins.
///
/// # Errors
/// No memory.
pub(crate) fn scratch() -> io::Result<Slot> {
    let arena = Arena::new(2 * BLOCK_BYTES_MAX, 1)?;
    Ok(arena.take().expect("nobody else knows this arena"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::prove;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId([3; 16]);

    fn window(first: u64, last: u64) -> Window {
        Window::new(STORE, first..=last, Epoch(2), Epoch(2), &Epochs::default())
    }

    fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
        let piece = Piece { sequence, timestamp: 1, key: b"k", payload, place: None };
        let mut out = vec![0; piece.encoded_bytes()];
        let length = piece.pack(&mut out);
        prove(Seed::new(STORE, Epoch(2)), piece.sequence, &mut out[..length]);
        out
    }

    proptest! {
        #[test]
        fn one_flipped_bit_costs_one_record(
            lengths in proptest::collection::vec(0usize..60, 2..12), flip: proptest::sample::Index,
        ) {
            let records: Vec<_> =
                lengths.iter().enumerate().map(|(index, &length)| encode(index as u64 + 1, &vec![index as u8; length])).collect();
            let mut bytes = records.concat();
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let window = window(1, records.len() as u64);
            let mut found = Vec::new();
            let mut from = 0;
            while let Some(salvaged) = find(&bytes, from, bytes.len(), &window) {
                found.push(salvaged.piece.sequence);
                from = salvaged.end;
            }
            prop_assert_eq!(found.len(), records.len() - 1);
            prop_assert!(found.is_sorted());
        }
    }

    #[test]
    fn outside_the_window_nothing_is_found() {
        let bytes = encode(7, b"payload");
        assert!(find(&bytes, 0, bytes.len(), &window(7, 7)).is_some());
        assert!(find(&bytes, 0, bytes.len(), &window(8, 90)).is_none());
        assert!(find(&bytes, 0, bytes.len(), &window(1, 6)).is_none());
        let mut epochs = Epochs::default();
        epochs.insert(Epoch(3), 7);
        let stale = Window::new(STORE, 1..=9, Epoch(2), Epoch(3), &epochs);
        assert!(find(&bytes, 0, bytes.len(), &stale).is_none(), "a later epoch began there");
    }
}
