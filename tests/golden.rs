//! The bytes on disk are frozen: version 1 is what `tests/golden/v1.hex` says, to the byte.
//!
//! A change that makes this fail makes every store in the field unreadable, or needs version 2.

use forebay::block::{BlockView, Found, OpenBlock, Place};
use forebay::io::Arena;
use forebay::position::{Epoch, StoreId};
use forebay::record::{PartPlace, Piece, Seed};
use forebay::segment::format::{self, DestinationEntry, Envelope, SegmentHeader, State};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

const STORE: StoreId = StoreId(*b"a golden store!!");
const EPOCH: Epoch = Epoch(0x0000_0003_dead_beef);
const SEGMENT: u64 = 7;
const OFFSET: u64 = 8192;

fn piece(
    sequence: u64,
    key: &'static [u8],
    payload: &'static [u8],
    place: Option<PartPlace>,
) -> Piece<'static> {
    Piece { sequence, timestamp: 1_700_000_000_000_000_000 + sequence, key, payload, place }
}

/// A block of these pieces, as it lies on disk up to its padding.
fn block(pieces: &[Piece<'_>]) -> Vec<u8> {
    let arena = Arena::new(format::ALIGNMENT, 1).expect("memory");
    let mut open = OpenBlock::new(arena.take().expect("a fresh arena"), Seed::new(STORE, EPOCH));
    pieces.iter().for_each(|piece| open.push(piece));
    let used = format::BLOCK_HEADER_BYTES + open.frames().len();
    let mut block = open.seal(1);
    let place = Place {
        store: STORE,
        epoch: EPOCH,
        epoch_base: 90,
        segment: SEGMENT,
        offset: OFFSET,
        previous_sequence: 99,
        durable_sequence: 98,
    };
    block.place(&place)[..used].to_vec()
}

fn envelope(kind: Envelope, generation: u64, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; format::ENVELOPE_BYTES + body.len()];
    format::seal_envelope(kind, STORE, generation, body, &mut out);
    out
}

fn segment_header() -> Vec<u8> {
    let mut header = SegmentHeader {
        epoch: U64::new(EPOCH.0),
        epoch_base: U64::new(90),
        previous_segment: U64::new(6),
        base_sequence: U64::new(100),
        previous_sequence: U64::new(99),
        segment_bytes: U64::new(1 << 20),
        alignment: U32::new(4096),
        destination_count: U32::new(1),
        accepted: U64::new(99),
        ..SegmentHeader::new_zeroed()
    };
    let mut entry = DestinationEntry::new_zeroed();
    entry.name[..7].copy_from_slice(b"default");
    (entry.confirmed, entry.delivered) = (U64::new(50), U64::new(48));
    header.destinations[0] = entry;
    envelope(Envelope::Segment, SEGMENT, header.as_bytes())
}

fn state() -> Vec<u8> {
    let state = State {
        epoch: U64::new(EPOCH.0),
        epoch_base: U64::new(90),
        durable_sequence: U64::new(120),
        appended_sequence: U64::new(121),
        segment_id_max: U64::new(SEGMENT),
        segment_bytes: U64::new(1 << 20),
        disk_bytes_cap: U64::new(1 << 30),
        clean: U32::new(1),
        ..State::new_zeroed()
    };
    envelope(Envelope::State, 12, state.as_bytes())
}

fn hex(name: &str, bytes: &[u8]) -> String {
    let mut text = format!("{name}\n");
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        text.push('\n');
    }
    text
}

#[test]
fn version_1_is_these_bytes() {
    let part = PartPlace { total: U32::new(10), offset: U32::new(4) };
    let now = [
        hex("block", &block(&[piece(100, b"pump-1", b"temperature=21.5", None), piece(101, b"", b"", None)])),
        hex("part", &block(&[piece(102, b"", b"56789a", Some(part))])),
        hex("segment header", &segment_header()),
        hex("state", &state()),
    ];
    let frozen = include_str!("golden/v1.hex");
    assert!(now.concat() == frozen, "the format has changed; it now says:\n{}", now.concat());
}

#[test]
fn the_frozen_block_is_read() {
    let bytes = [block(&[piece(100, b"pump-1", b"temperature=21.5", None)]), vec![0; 4096]].concat();
    let view = BlockView::read(&bytes, STORE, SEGMENT, OFFSET).expect("sound");
    let found: Vec<_> = view.records(STORE).collect();
    assert!(matches!(found[..], [Found::Sound(Piece { sequence: 100, payload: b"temperature=21.5", .. })]));
}
