//! The parts of the path, each alone, without a device: what a change to one of them is held against.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
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
    let mut block = OpenBlock::new(slot, seed);
    let mut sequence = 1;
    while block.fits(piece(sequence).encoded_bytes()) {
        block.push(&piece(black_box(sequence)));
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

fn blocks(criterion: &mut Criterion) {
    let seed = Seed::new(STORE, EPOCH);
    let arena = Arena::new(BLOCK_BYTES, 1).unwrap();
    let sealed = full(arena.take().unwrap(), seed).seal(1);
    let count = sealed.extract().record_count;
    let mut group = criterion.benchmark_group("256 KiB of 256 B records");
    group.throughput(Throughput::Elements(count));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut sequence) = (black_box(sealed.frames()), 1);
            while let Some(frame) = Frame::parse(rest) {
                assert!(frame.verify(seed, sequence).is_some());
                rest = &rest[frame.encoded_bytes()..];
                sequence += 1;
            }
            sequence
        });
    });
    drop(sealed);
    let taken = || arena.take().expect("the one of the last lap is back");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| full(taken(), seed).extract().last_sequence);
    });
    group.bench_function("seal and place", |bencher| {
        let seal = |open: OpenBlock| placed(&mut open.seal(1)).len();
        bencher.iter_batched(|| full(taken(), seed), seal, BatchSize::PerIteration);
    });
    let bytes = placed(&mut full(taken(), seed).seal(1));
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
    blocks(&mut criterion);
    decisions(&mut criterion);
    criterion.final_summary();
}
