//! One record: its frame, and the checksum that proves who it is.
//!
//! ```text
//!  0        4      5        6         8             12          20         24      24+key
//!  ┌────────┬──────┬────────┬─────────┬─────────────┬───────────┬──────────┬───────┬─────────┐
//!  │ length │ part │ key    │ zero    │ sequence    │ timestamp │ checksum │ key   │ payload │
//!  │ u32    │ u8   │ length │ u16     │ low 32 bits │ u64 ns    │ CRC32C   │       │         │
//!  └────────┴──────┴────────┴─────────┴─────────────┴───────────┴──────────┴───────┴─────────┘
//! ```
//!
//! The checksum runs over (store, epoch, sequence), then the 20 bytes before it, then what follows it. It
//! is computed before the record's place is known and stays valid when the record is written elsewhere.
//! A record too large for a block is cut into parts of one sequence; a part's payload is preceded by
//! [`PartPlace`], and only the first carries the key. Pure: this module knows no file and no block.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::KEY_BYTES_MAX;
use crate::position::{Epoch, StoreId};
use crate::sink::RecordRef;

/// Bytes before the key.
pub const HEADER_BYTES: usize = 24;

/// Where in them the checksum is.
const CHECKSUM_AT: usize = 20;

/// What a producer hands in. Both slices are copied, once, into the memory queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The bytes that matter; may be empty.
    pub payload: &'a [u8],
    /// The monitor id; empty when there is none. Longer than 255 bytes is left out, not cut.
    pub key: &'a [u8],
    /// Nanoseconds since 1970.
    pub timestamp: u64,
}

impl<'a> Record<'a> {
    /// A record without a key.
    pub fn new(payload: &'a [u8], timestamp: u64) -> Self {
        Self { payload, key: &[], timestamp }
    }

    /// The key as it is stored.
    pub fn stored_key(&self) -> &'a [u8] {
        if self.key.len() <= KEY_BYTES_MAX { self.key } else { &[] }
    }

    /// Bytes that the record takes in a block, in one piece.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.stored_key().len() + self.payload.len()
    }
}

/// Which part of a record this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// All of it.
    Whole = 0,
    /// The first of several; carries the key.
    First = 1,
    /// Neither first nor last.
    Middle = 2,
    /// The last; the record is durable with it.
    Last = 3,
}

impl Part {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Whole, Self::First, Self::Middle, Self::Last].into_iter().find(|part| *part as u8 == byte)
    }
}

/// The frame, as it lies on disk.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    length: U32,
    part: u8,
    key_length: u8,
    zero: U16,
    sequence_low: U32,
    timestamp: U64,
    checksum: U32,
}

/// Precedes the payload of a part: where it belongs in the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PartPlace {
    /// Payload bytes of the whole record.
    pub total: U32,
    /// Where this part's payload begins in it.
    pub offset: U32,
}

/// Bytes of a [`PartPlace`].
pub const PART_PLACE_BYTES: usize = size_of::<PartPlace>();

const _: () = assert!(
    size_of::<RecordHeader>() == HEADER_BYTES && PART_PLACE_BYTES == 8 && CHECKSUM_AT + 4 == HEADER_BYTES
);

/// Proves who a record is: CRC32C started with the store and the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The seed of every record of one open.
    pub fn new(store: StoreId, epoch: Epoch) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&store.0), &epoch.0.to_le_bytes()))
    }

    /// Of the sequence and what precedes the checksum in the header; the body follows.
    fn begin(self, sequence: u64, header: [u64; 3]) -> u32 {
        let [lengths, sequence_low_and_time, time] = header;
        let mut identity = Identity([0; 28]);
        // Whole words: eight bytes put together from smaller stores would make the checksum wait for them.
        identity.0[..8].copy_from_slice(&sequence.to_le_bytes());
        identity.0[8..16].copy_from_slice(&lengths.to_le_bytes());
        identity.0[16..24].copy_from_slice(&sequence_low_and_time.to_le_bytes());
        identity.0[24..].copy_from_slice(&(time as u32).to_le_bytes());
        crc32c::crc32c_append(self.0, &identity.0)
    }

    #[inline]
    fn checksum(self, sequence: u64, header: &RecordHeader, body: &[u8]) -> u32 {
        crc32c::crc32c_append(self.begin(sequence, header.words()), body)
    }
}

/// Aligned: what is not costs the checksum a step for each byte.
#[repr(align(8))]
struct Identity([u8; 28]);

impl RecordHeader {
    /// The header as the three words that it is on disk.
    fn words(&self) -> [u64; 3] {
        let words: [U64; 3] = zerocopy::transmute!(*self);
        words.map(U64::get)
    }
}

/// A record, or one part of it, as it is packed.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Its sequence.
    pub sequence: u64,
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    /// The key; empty in all but the first part.
    pub key: &'a [u8],
    /// The payload of this part.
    pub payload: &'a [u8],
    /// Where the part belongs; `None` when it is the whole record.
    pub place: Option<PartPlace>,
}

impl Piece<'_> {
    /// Bytes that it takes in a block.
    pub fn encoded_bytes(&self) -> usize {
        let place = if self.place.is_some() { PART_PLACE_BYTES } else { 0 };
        HEADER_BYTES + self.key.len() + place + self.payload.len()
    }

    fn part(&self) -> Part {
        match self.place {
            None => Part::Whole,
            Some(place) if place.offset.get() == 0 => Part::First,
            Some(place) if place.offset.get() as usize + self.payload.len() == place.total.get() as usize => {
                Part::Last
            }
            Some(_) => Part::Middle,
        }
    }

    /// Writes it to the front of `out` (long enough: an invariant of the caller's), all but its checksum, which is
    /// [`prove`]'s to add. Gives its length.
    pub fn pack(&self, out: &mut [u8]) -> usize {
        let end = self.encoded_bytes();
        let (header, body) = out[..end].split_at_mut(HEADER_BYTES);
        let (key, rest) = body.split_at_mut(self.key.len());
        let place = self.place.as_ref().map_or(&[][..], PartPlace::as_bytes);
        let (place_out, payload) = rest.split_at_mut(place.len());
        key.copy_from_slice(self.key);
        place_out.copy_from_slice(place);
        payload.copy_from_slice(self.payload);
        let mut bytes = [0; HEADER_BYTES];
        for (word, at) in self.header_words().iter().zip([0, 8, 16]) {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        header.copy_from_slice(&bytes);
        end
    }

    /// The words of the header, its checksum still zero.
    fn header_words(&self) -> [u64; 3] {
        let lengths = self.payload.len() as u64 & 0xffff_ffff
            | (self.part() as u64) << 32
            | (self.key.len() as u64 & 0xff) << 40;
        let sequence_low = self.sequence & 0xffff_ffff;
        [lengths, sequence_low | self.timestamp << 32, self.timestamp >> 32]
    }
}

/// Adds the checksum to a frame that was packed, and gives the header's bytes for the block's own checksum.
pub fn prove(seed: Seed, sequence: u64, frame: &mut [u8]) -> [u8; HEADER_BYTES] {
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let mut bytes = [0; HEADER_BYTES];
    bytes.copy_from_slice(header);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let checksum = crc32c::crc32c_append(seed.begin(sequence, [word(0), word(8), word(16)]), body);
    bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A frame found in a block: its shape is sound, its checksum not yet looked at.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    header: &'a RecordHeader,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the frame at the front of `bytes`; `None` where its shape is impossible.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = RecordHeader::ref_from_prefix(bytes).ok()?;
        let part = Part::from_byte(header.part)?;
        let place = if part == Part::Whole { 0 } else { PART_PLACE_BYTES };
        let length = (header.length.get() as usize).checked_add(header.key_length as usize + place)?;
        if header.zero.get() != 0 || length > rest.len() {
            return None;
        }
        Some(Self { header, body: &rest[..length] })
    }

    /// Bytes from this frame to the next.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// The header's bytes, for the block's own checksum.
    pub fn header_bytes(&self) -> &'a [u8] {
        self.header.as_bytes()
    }

    /// The low half of its sequence.
    pub fn sequence_low(&self) -> u32 {
        self.header.sequence_low.get()
    }

    /// What is in the frame, unproven: for bytes that never left memory.
    pub fn contents(&self, sequence: u64) -> (RecordRef<'a>, Option<PartPlace>) {
        let piece = self.piece(sequence);
        let timestamp = piece.timestamp;
        (RecordRef { sequence, timestamp, key: piece.key, payload: piece.payload }, piece.place)
    }

    /// The frame as the record `sequence` of that epoch, if its checksum says that it is.
    #[inline]
    pub fn verify(&self, seed: Seed, sequence: u64) -> Option<Piece<'a>> {
        if self.sequence_low() != sequence as u32
            || self.header.checksum.get() != seed.checksum(sequence, self.header, self.body)
        {
            return None;
        }
        Some(self.piece(sequence))
    }

    fn piece(&self, sequence: u64) -> Piece<'a> {
        let (key, rest) = self.body.split_at(self.header.key_length as usize);
        let (place, payload) = if self.header.part == Part::Whole as u8 {
            (None, rest)
        } else {
            let (place, payload) = PartPlace::read_from_prefix(rest).expect("parse saw that it is there");
            (Some(place), payload)
        };
        Piece { sequence, timestamp: self.header.timestamp.get(), key, payload, place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId([7; 16]);

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back_and_a_flipped_bit_never(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            key in proptest::collection::vec(any::<u8>(), 0..40),
            sequence in 1u64.., timestamp: u64, part in 0u8..4, flip: proptest::sample::Index,
        ) {
            let seed = Seed::new(STORE, Epoch(9));
            let total = payload.len() as u32 + 10;
            let place = match part {
                0 => None,
                1 => Some(PartPlace { total: U32::new(total), offset: U32::ZERO }),
                2 => Some(PartPlace { total: U32::new(total), offset: U32::new(3) }),
                _ => Some(PartPlace { total: U32::new(total), offset: U32::new(10) }),
            };
            let piece = Piece { sequence, timestamp, key: &key, payload: &payload, place };
            let mut out = vec![0; piece.encoded_bytes() + 5];
            let length = piece.pack(&mut out);
            prove(seed, sequence, &mut out[..length]);
            prop_assert_eq!(length, piece.encoded_bytes());
            let read = Frame::parse(&out).and_then(|frame| frame.verify(seed, sequence)).expect("just written");
            prop_assert_eq!((read.payload, read.key, read.timestamp), (&payload[..], &key[..], timestamp));
            prop_assert_eq!(read.place, place);

            let frame = Frame::parse(&out).expect("just written");
            prop_assert!(frame.verify(seed, sequence.wrapping_add(1 << 32)).is_none(), "another sequence");
            prop_assert!(frame.verify(Seed::new(STORE, Epoch(10)), sequence).is_none(), "another epoch");
            prop_assert!(frame.verify(Seed::new(StoreId([8; 16]), Epoch(9)), sequence).is_none(), "another store");

            let bit = flip.index(length * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::parse(&out).and_then(|frame| frame.verify(seed, sequence)).is_none());
        }

        #[test]
        fn junk_is_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200), sequence: u64) {
            let found = Frame::parse(&bytes).and_then(|frame| frame.verify(Seed::new(STORE, Epoch(1)), sequence));
            prop_assert!(found.is_none());
        }
    }
}
