//! The bytes on disk: the single truth. Little endian, version 1.
//!
//! ```text
//! state, cursor-NAME, gaps       slot-NNNNNN (one segment)
//! ┌────────────┬────────────┐    ┌─────────┬───────┬───────┬─ ─ ─┬──────────────┬─────────┐
//! │ copy 0     │ copy 1     │    │ header  │ block │ block │     │ never        │ summary │
//! │ envelope   │ envelope   │    │ 4 KiB   │ 4 KiB … 1 MiB each  │ written      │ 40 KiB  │
//! │ body       │ body       │    │ envelope│                     │              │ reserved│
//! └────────────┴────────────┘    └─────────┴───────┴───────┴─ ─ ─┴──────────────┴─────────┘
//! ```
//!
//! Everything that is not a block wears an [`Envelope`]: magic, version, generation, store, checksum. A file
//! of two copies is written alternately; the higher generation whose checksum holds is believed.
//!
//! A block's checksum proves *where* it is (store, epoch, segment, offset), a record's *who* it is
//! (store, epoch, sequence). The block's covers its own header and, through `records_checksum`, each record's
//! header with the checksum in it, so that payload bytes are read once.
//!
//! What later versions of the program need is in here already: parts of large records, a codec, reserved
//! zeros, ranges confirmed beyond the watermark, 32 destinations. Golden files (`tests/golden.rs`) pin it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::position::{Epoch, StoreId};

/// The version that this program writes, and the highest that it reads.
pub const VERSION: u32 = 1;

/// Blocks, headers and copies start at multiples of this.
pub const ALIGNMENT: usize = 4096;

/// Where the first block of a segment begins.
pub const FIRST_BLOCK_OFFSET: u64 = ALIGNMENT as u64;

/// Kept free at the end of each segment for its summary.
pub const SUMMARY_BYTES: u64 = 40 * 1024;

/// Reasons that the totals have room for ([`crate::gaps::Reason::ALL`] uses the first ones).
pub const REASONS_MAX: usize = 16;

/// Destinations that a segment header has room for.
pub const DESTINATIONS_MAX: usize = 32;

/// Ranges confirmed beyond the watermark that a cursor has room for.
pub const RANGES_MAX: usize = 64;

/// Bytes of one copy of `state` and of a cursor, envelope included.
pub const COPY_BYTES: usize = ALIGNMENT;

/// Bytes of one copy of `gaps`, envelope included.
pub const GAPS_COPY_BYTES: usize = 256 * 1024;

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// The header of a segment.
    Segment,
    /// The summary of a sealed segment.
    Summary,
    /// A copy of `state`.
    State,
    /// A copy of a cursor.
    Cursor,
    /// A copy of `gaps`.
    Gaps,
}

impl Envelope {
    /// The first eight bytes.
    pub fn magic(self) -> [u8; 8] {
        *match self {
            Self::Segment => b"FBAYSEG\n",
            Self::Summary => b"FBAYSUM\n",
            Self::State => b"FBAYSTA\n",
            Self::Cursor => b"FBAYCUR\n",
            Self::Gaps => b"FBAYGAP\n",
        }
    }
}

/// The first 48 bytes of everything that is not a block.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EnvelopeHeader {
    magic: [u8; 8],
    version: U32,
    body_length: U32,
    generation: U64,
    store: [u8; 16],
    zero: U32,
    /// CRC32C over the 44 bytes before it and the body.
    checksum: U32,
}

/// Bytes before the body.
pub const ENVELOPE_BYTES: usize = size_of::<EnvelopeHeader>();

/// What was found where an envelope should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened<'a> {
    /// Sound.
    Sound {
        /// Whose it is.
        store: StoreId,
        /// Of two copies, the higher one is newer. A segment's id.
        generation: u64,
        /// What is in it.
        body: &'a [u8],
    },
    /// Written by a later version of the program.
    Newer(u32),
    /// Nothing, or damage.
    Unsound,
}

/// Writes an envelope with `body` to the front of `out`, and zeros behind it up to the end.
pub fn seal_envelope(kind: Envelope, store: StoreId, generation: u64, body: &[u8], out: &mut [u8]) {
    let mut header = EnvelopeHeader {
        magic: kind.magic(),
        version: U32::new(VERSION),
        body_length: U32::new(body.len() as u32),
        generation: U64::new(generation),
        store: store.0,
        zero: U32::ZERO,
        checksum: U32::ZERO,
    };
    header.checksum = U32::new(envelope_checksum(&header, body));
    let end = ENVELOPE_BYTES + body.len();
    out[..ENVELOPE_BYTES].copy_from_slice(header.as_bytes());
    out[ENVELOPE_BYTES..end].copy_from_slice(body);
    out[end..].fill(0);
}

/// Opens the envelope at the front of `bytes`.
pub fn open_envelope(kind: Envelope, bytes: &[u8]) -> Opened<'_> {
    let Ok((header, rest)) = EnvelopeHeader::ref_from_prefix(bytes) else { return Opened::Unsound };
    let length = header.body_length.get() as usize;
    if header.magic != kind.magic() || length > rest.len() {
        return Opened::Unsound;
    }
    let body = &rest[..length];
    if header.checksum.get() != envelope_checksum(header, body) {
        return Opened::Unsound;
    }
    if header.version.get() > VERSION {
        return Opened::Newer(header.version.get());
    }
    Opened::Sound { store: StoreId(header.store), generation: header.generation.get(), body }
}

fn envelope_checksum(header: &EnvelopeHeader, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header.as_bytes()[..44]), body)
}

/// Losses by reason, as every total on disk has them.
pub type ReasonTotals = [U64; REASONS_MAX];

/// A destination as a segment header repeats it, so that a lost cursor heals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DestinationEntry {
    /// Its name, zeros behind it.
    pub name: [u8; 64],
    /// What its cursor said.
    pub confirmed: U64,
    /// Records delivered in all.
    pub delivered: U64,
    /// Zeros.
    pub reserved: [U64; 2],
}

/// The body of a segment header; its envelope's generation is the segment id.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    /// The epoch that began the segment.
    pub epoch: U64,
    /// The first sequence that may be in it.
    pub base_sequence: U64,
    /// The first sequence of that epoch.
    pub epoch_base: U64,
    /// The segment that the log went through before this one (0: none).
    pub previous_segment: U64,
    /// The last sequence that was logged before it.
    pub previous_sequence: U64,
    /// Bytes of the slot when it was begun.
    pub segment_bytes: U64,
    /// What blocks are aligned to.
    pub alignment: U32,
    /// How many of `destinations` are in use.
    pub destination_count: U32,
    /// Records accepted in all when it was begun.
    pub accepted: U64,
    /// Records dropped in all when it was begun, by reason.
    pub dropped: ReasonTotals,
    /// Zeros.
    pub reserved: [U64; 4],
    /// The destinations.
    pub destinations: [DestinationEntry; DESTINATIONS_MAX],
}

impl SegmentHeader {
    /// The header in the page at the front of a slot, if it is sound.
    pub fn of(page: &[u8]) -> Option<Self> {
        match open_envelope(Envelope::Segment, page) {
            Opened::Sound { body, .. } => Self::read_from_bytes(body).ok(),
            Opened::Newer(_) | Opened::Unsound => None,
        }
    }

    /// The destinations in use.
    pub fn destinations(&self) -> &[DestinationEntry] {
        &self.destinations[..(self.destination_count.get() as usize).min(DESTINATIONS_MAX)]
    }
}

/// The body of the summary that a sealed segment ends with; `key_count` keys follow it, each a length byte, the
/// bytes, and a u64 count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Summary {
    /// Where the last block ends.
    pub end_offset: U64,
    /// The first sequence in the segment (0 when it holds none).
    pub first_sequence: U64,
    /// The last sequence in the segment (0 when it holds none).
    pub last_sequence: U64,
    /// How many records.
    pub record_count: U64,
    /// Keys and payloads, in bytes.
    pub record_bytes: U64,
    /// Timestamp of the first record.
    pub first_timestamp: U64,
    /// Timestamp of the last record.
    pub last_timestamp: U64,
    /// How many keys follow; none where they were not counted, and a scan counts them.
    pub key_count: U32,
    /// 1 when every key is among those that follow, or their sum is in `other_keys_count`.
    pub keys_counted: U32,
    /// Records with a key that is not listed.
    pub other_keys_count: U64,
    /// Zeros.
    pub reserved: [U64; 4],
}

/// The body of a copy of `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct State {
    /// The epoch of the last open for writing.
    pub epoch: U64,
    /// The first sequence of that epoch: what an older epoch has at or above it is stale.
    pub epoch_base: U64,
    /// Everything up to here was durable.
    pub durable_sequence: U64,
    /// Everything up to here had been accepted.
    pub appended_sequence: U64,
    /// The highest segment id that was ever given.
    pub segment_id_max: U64,
    /// The directory's slots are of this size.
    pub segment_bytes: U64,
    /// The cap in force at creation.
    pub disk_bytes_cap: U64,
    /// 1 when the store was closed, and nothing is in memory alone.
    pub clean: U32,
    /// 1 when records may leave, or be lost, before they are durable.
    pub exposed: U32,
    /// Zeros; later a table of slots, as a hint.
    pub reserved: [U64; 8],
}

/// A range of sequences, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Range {
    /// The first.
    pub first: U64,
    /// The last.
    pub last: U64,
}

/// The body of a copy of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Cursor {
    /// The destination has everything up to here, or a durable gap names it.
    pub confirmed: U64,
    /// Records delivered in all.
    pub delivered: U64,
    /// Records dropped in all, by reason.
    pub dropped: ReasonTotals,
    /// Steady state, records a second, in thousandths.
    pub steady_records_milli: U64,
    /// Steady state, bytes a second.
    pub steady_bytes: U64,
    /// 1 once an unclean stop has made the counts inexact.
    pub inexact: U32,
    /// How many of `ranges` are in use.
    pub range_count: U32,
    /// The sequence before the first one that the destination answers for.
    pub since_sequence: U64,
    /// The destination was told of every gap up to here.
    pub gaps_through: U64,
    /// Zeros.
    pub reserved: [U64; 5],
    /// Confirmed beyond `confirmed`.
    pub ranges: [Range; RANGES_MAX],
}

/// An entry of `gaps`; its keys follow it, each a length byte, the bytes, and a u64 count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GapEntry {
    /// The epoch of the lost records.
    pub epoch: U64,
    /// The first sequence of the range.
    pub first_sequence: U64,
    /// The last sequence of the range.
    pub last_sequence: U64,
    /// How many records.
    pub count: U64,
    /// Their bytes.
    pub bytes: U64,
    /// Timestamp of the first.
    pub first_timestamp: U64,
    /// Timestamp of the last.
    pub last_timestamp: U64,
    /// The reason's number, from 1.
    pub reason: U16,
    /// How many keys follow.
    pub key_count: U16,
    /// Bytes from here to the next entry, keys included.
    pub keys_length: U32,
    /// Losses of all other keys.
    pub other_keys_count: U64,
}

/// What a block holds.
pub const KIND_RECORDS: u8 = 1;

/// The header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockHeader {
    /// `FBLK`.
    pub magic: [u8; 4],
    /// [`KIND_RECORDS`].
    pub kind: u8,
    /// How the records are packed; 0 is as they are.
    pub codec: u8,
    /// Bytes of this header.
    pub header_length: U16,
    /// The epoch that wrote it.
    pub epoch: U64,
    /// The segment it is in.
    pub segment: U64,
    /// Where it begins in that segment.
    pub offset: U64,
    /// The first sequence of that epoch: what an older epoch has at or above it is stale.
    pub epoch_base: U64,
    /// Its first record.
    pub first_sequence: U64,
    /// Its last record; every sequence between is in it.
    pub last_sequence: U64,
    /// The last record logged before it. What lies between was confirmed from memory, or a gap names it.
    pub previous_sequence: U64,
    /// Everything up to here was durable when it was written.
    pub durable_sequence: U64,
    /// How many records.
    pub record_count: U32,
    /// Bytes of the records as they are stored.
    pub stored_length: U32,
    /// Bytes of the records once unpacked; equal under codec 0.
    pub unpacked_length: U32,
    /// Bytes of the whole block, a multiple of 4096.
    pub block_length: U32,
    /// CRC32C over every record's header.
    pub records_checksum: U32,
    /// Zeros.
    pub reserved: U32,
    /// Nanoseconds since 1970 of its first record.
    pub first_timestamp: U64,
    /// Zeros.
    pub reserved_too: U32,
    /// CRC32C, started with (store, epoch, segment, offset), over the bytes before it.
    pub checksum: U32,
}

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = size_of::<BlockHeader>();

const BLOCK_MAGIC: [u8; 4] = *b"FBLK";

const _: () = assert!(ENVELOPE_BYTES == 48 && BLOCK_HEADER_BYTES == 112);
const _: () = assert!(ENVELOPE_BYTES + size_of::<SegmentHeader>() <= ALIGNMENT);
const _: () = assert!(ENVELOPE_BYTES + size_of::<Cursor>() <= COPY_BYTES);
const _: () = assert!(ENVELOPE_BYTES + size_of::<State>() <= COPY_BYTES);

impl BlockHeader {
    /// A header with nothing known of its place.
    pub fn blank() -> Self {
        Self {
            magic: BLOCK_MAGIC,
            kind: KIND_RECORDS,
            header_length: U16::new(BLOCK_HEADER_BYTES as u16),
            ..Self::new_zeroed()
        }
    }

    /// Where it says it is.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.get())
    }

    /// Writes its checksum; every other field is final.
    pub fn stamp(&mut self, store: StoreId) {
        self.checksum = U32::new(self.expected_checksum(store));
    }

    /// The header at the front of `bytes`, if it is sound and belongs just there.
    pub fn read(bytes: &[u8], store: StoreId, segment: u64, offset: u64) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(bytes).ok()?;
        let sound = header.magic == BLOCK_MAGIC
            && header.segment.get() == segment
            && header.offset.get() == offset
            && header.checksum.get() == header.expected_checksum(store);
        (sound && header.shape_is_possible()).then_some(header)
    }

    fn shape_is_possible(&self) -> bool {
        let (block, stored) = (self.block_length.get() as usize, self.stored_length.get() as usize);
        self.header_length.get() as usize == BLOCK_HEADER_BYTES
            && block.is_multiple_of(ALIGNMENT)
            && (ALIGNMENT..=crate::limits::BLOCK_BYTES_MAX).contains(&block)
            && stored <= block - BLOCK_HEADER_BYTES
            && self.first_sequence.get() <= self.last_sequence.get()
    }

    fn expected_checksum(&self, store: StoreId) -> u32 {
        let mut place = [0; 40];
        place[..16].copy_from_slice(&store.0);
        place[16..].copy_from_slice(&self.as_bytes()[8..32]);
        let bytes = &self.as_bytes()[..BLOCK_HEADER_BYTES - 4];
        crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
    }
}

/// `bytes` rounded up to the alignment.
pub fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The bytes of a segment that blocks may take, of a slot of `segment_bytes`.
pub fn blocks_end(segment_bytes: u64) -> u64 {
    segment_bytes - SUMMARY_BYTES
}

/// The name of a slot's file.
pub fn slot_name(slot: u32) -> String {
    format!("slot-{slot:06}")
}

/// The slot of a file's name.
pub fn slot_of_name(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("slot-")?;
    (digits.len() == 6).then(|| digits.parse().ok())?
}
