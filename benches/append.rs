//! Appends small records until they are durable, beside a buffered file with CRC32C and fdatasync.
//!
//! Both keep the same cadence: groups of 256 KiB and more. *Fresh* laps begin with an empty directory and pay for
//! the allocation of every extent; *recycled* laps overwrite what was written before, which is what an agent does
//! all day. At most 900 MiB of disk are taken at a time.

mod race;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::record::Record;
use forebay::store::{Level, Store};

use race::{GROUP_RECORDS, Lap, PAYLOAD_BYTES, PlainLog, is_measuring, race};

const LAP_RECORDS: u64 = 1_000_000;
const ROUNDS: usize = 9;
const CAP_BYTES: u64 = 900 << 20;

const PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5a; PAYLOAD_BYTES];

fn open(directory: &Path) -> Store {
    let mut config = Config::new(directory.join("store"));
    config.spill = SpillMode::Always;
    config.queue.full = FullPolicy::Block;
    config.disk_bytes_cap = Some(CAP_BYTES);
    config.disk.segment_bytes = Some(128 << 20);
    Store::open(&config).unwrap()
}

fn append(store: &Store, records: u64) {
    let mut last = 0;
    for timestamp in 0..records {
        let record = Record::new(black_box(&PAYLOAD), timestamp);
        last = store.append_blocking(&record, Level::Accepted).unwrap();
    }
    assert!(store.wait(last, Level::Durable, None).unwrap());
}

/// Everything is confirmed: its slots are written again.
fn recycle(store: &Store) {
    let destination = store.destination("default").unwrap();
    destination.confirm(store.next_sequence() - 1);
    destination.persist_twice().unwrap();
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn race_fresh() {
    let mut ours = || {
        let directory = scratch();
        let store = open(directory.path());
        let lap = Lap::of(LAP_RECORDS, || append(&store, LAP_RECORDS));
        store.close().unwrap();
        lap
    };
    let mut plain = || {
        let directory = scratch();
        let mut log = PlainLog::open(&directory.path().join("plain"));
        Lap::of(LAP_RECORDS, || log.append(&PAYLOAD, LAP_RECORDS))
    };
    race("append, fresh files", ROUNDS, &mut [("forebay", &mut ours), ("buffered file", &mut plain)]);
}

fn race_recycled() {
    let directory = scratch();
    let store = open(directory.path());
    println!("\nwrite device: {:?}", store.device());
    let plain_path = directory.path().join("plain");
    let mut ours = || {
        let lap = Lap::of(LAP_RECORDS, || append(&store, LAP_RECORDS));
        recycle(&store);
        lap
    };
    let mut plain = || {
        let mut log = PlainLog::open(&plain_path);
        Lap::of(LAP_RECORDS, || log.append(&PAYLOAD, LAP_RECORDS))
    };
    // Once round the slots, so that all of them have been written.
    for _ in 0..2 {
        append(&store, LAP_RECORDS);
        recycle(&store);
    }
    PlainLog::open(&plain_path).append(&PAYLOAD, LAP_RECORDS);
    race("append, recycled files", ROUNDS, &mut [("forebay", &mut ours), ("buffered file", &mut plain)]);
}

/// Criterion's own figures, for as many groups of [`GROUP_RECORDS`] records as it asks for: one behind the other,
/// as above, and each waited for before the next one begins.
fn groups(criterion: &mut Criterion) {
    let directory = scratch();
    let store = open(directory.path());
    let plain_path = directory.path().join("plain");
    for waits in [false, true] {
        let name = if waits { "append, each group waited for" } else { "append" };
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
        group.throughput(Throughput::Bytes(GROUP_RECORDS * PAYLOAD_BYTES as u64));
        group.bench_function(BenchmarkId::new("forebay", GROUP_RECORDS), |bencher| {
            bencher.iter_custom(|laps| {
                let (times, groups) = if waits { (laps, 1) } else { (1, laps) };
                let lap = Lap::of(laps, || (0..times).for_each(|_| append(&store, groups * GROUP_RECORDS)));
                recycle(&store);
                lap.wall()
            });
        });
        group.bench_function(BenchmarkId::new("buffered file", GROUP_RECORDS), |bencher| {
            bencher.iter_custom(|laps| {
                let mut log = PlainLog::open(&plain_path);
                Lap::of(laps, || log.append(&PAYLOAD, laps * GROUP_RECORDS)).wall()
            });
        });
        group.finish();
    }
}

fn main() {
    if is_measuring() {
        race_fresh();
        race_recycled();
    }
    let mut criterion = Criterion::default().configure_from_args();
    groups(&mut criterion);
    criterion.final_summary();
}
