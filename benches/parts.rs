//! The parts of the path, each alone, without a device: what a change to one of them is held against.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use forebay::backfill::read_ahead::ReadAhead;
use forebay::block::{Block, BlockView, Found, OpenBlock, Place};
use forebay::governor::{Governor, GovernorSettings};
use forebay::io::{Arena, Slot};
use forebay::position::{Epoch, StoreId};
use forebay::record::{Frame, Piece, Seed};

const PAYLOAD: [u8; 256] = [0x5a; 256];
const BLOCK_BYTES: usize = 256 << 10;
const STORE: StoreId = StoreId([7; 16]);
const EPOCH: Epoch = Epoch(9);

fn piece(sequence: u64) -> Piece<'static> {
    Piece { sequence, timestamp: sequence, key: &[], payload: &PAYLOAD, place: None }
}

/// A block as full as it gets.
fn full(slot: Slot, seed: Seed) -> OpenBlock {
    let mut block = OpenBlock::new(slot);
    let mut sequence = 1;
    while block.fits(piece(sequence).encoded_bytes()) {
        block.push(seed, &piece(black_box(sequence)));
        sequence += 1;
    }
    block
}

fn placed(block: &mut Block) -> std::sync::Arc<Slot> {
    block.place(&Place {
        store: STORE,
        epoch: EPOCH,
        epoch_base: 1,
        segment: 1,
        offset: 4096,
        previous_sequence: 0,
        durable_sequence: 0,
    })
}

fn records(criterion: &mut Criterion) {
    let seed = Seed::new(STORE, EPOCH);
    let mut group = criterion.benchmark_group("record of 256 B");
    group.throughput(Throughput::Elements(1));
    let mut out = vec![0; piece(1).encoded_bytes()];
    group.bench_function("encode", |bencher| bencher.iter(|| piece(black_box(5)).encode(seed, &mut out)));
    let _ = piece(5).encode(seed, &mut out);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Frame::parse(black_box(&out)).and_then(|frame| frame.verify(seed, 5)).is_some());
    });
    group.finish();
}

fn blocks(criterion: &mut Criterion) {
    let seed = Seed::new(STORE, EPOCH);
    let arena = Arena::new(BLOCK_BYTES, 1).unwrap();
    let count = full(arena.take().unwrap(), seed).extract().record_count;
    let mut group = criterion.benchmark_group("block of 256 KiB");
    group.throughput(Throughput::Elements(count));
    group.bench_function("fill, seal and place", |bencher| {
        bencher.iter(|| {
            let mut block = full(arena.take().unwrap(), seed).seal(1);
            placed(&mut block).len()
        });
    });
    let mut block = full(arena.take().unwrap(), seed).seal(1);
    let bytes = placed(&mut block);
    group.bench_function("prove", |bencher| {
        bencher.iter(|| {
            let view = BlockView::read(black_box(&bytes), STORE, 1, 4096).unwrap();
            let sound = view.records(STORE).filter(|found| matches!(found, Found::Sound(_))).count();
            assert_eq!(sound as u64, count);
        });
    });
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    let mut governor = Governor::new(GovernorSettings::default(), 0).unwrap();
    let mut now_ns = 0;
    criterion.bench_function("governor: one batch asked for and taken", |bencher| {
        bencher.iter(|| {
            now_ns += 10_000_000;
            let allowance = governor.affordable(black_box(now_ns));
            governor.take(now_ns, 1, allowance.bytes.min(256))
        });
    });
    let mut window: ReadAhead<u32> = ReadAhead::new(6, 512 << 10);
    let mut segment = 0;
    criterion.bench_function("read-ahead: a chunk planned, read and delivered", |bencher| {
        bencher.iter(|| {
            if window.wants_more() {
                segment += 1;
                window.extend(segment, 4096, 128 << 20);
            }
            let chunk = window.next().expect("there is always more");
            let _ = window.complete(chunk.token, chunk.len, 7);
            window.pop()
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    records(&mut criterion);
    blocks(&mut criterion);
    decisions(&mut criterion);
    criterion.final_summary();
}
