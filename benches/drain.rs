//! Reads a log in order, every record proven, beside a buffered file with CRC32C, and beside the device alone: the
//! same blocks read directly and in order, in chunks as large and as many ahead, and not looked at.
//!
//! The page cache is emptied before each lap, of all: a backlog is long gone from memory when it drains. Opening the
//! store is part of our lap. About 450 MB each, at most 1 GiB of disk in all.

mod race;

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::io::real::RealDisk;
use forebay::io::{Access, Arena, Backend, DeviceOptions, Disk as _, Read, Wait};
use forebay::record::Record;
use forebay::segment::format::slot_name;
use forebay::store::{Archive, Level, Step, Store};
use rustix::fs::{Advice, fadvise};

use race::{Lane, Lap, PAYLOAD_BYTES, PlainLog, is_measuring, race};

const RECORDS: u64 = 1_600_000;
const ROUNDS: usize = 9;
/// Of one read, in bytes, and how many are in flight: as `Archive` reads.
const CHUNK_BYTES: usize = 512 << 10;
const DEPTH: usize = 6;
const CAP_BYTES: u64 = 600 << 20;
const PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5a; PAYLOAD_BYTES];

/// A store and a plain file with the same records.
struct Logs {
    directory: tempfile::TempDir,
    records: u64,
    /// Each segment's file and where its blocks end, in the order of the log.
    stretches: Vec<(String, u64)>,
}

impl Logs {
    fn write(records: u64) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = Config::new(directory.path().join("store"));
        config.spill = SpillMode::Always;
        config.queue.full = FullPolicy::Block;
        config.disk_bytes_cap = Some(CAP_BYTES);
        let store = Store::open(&config).unwrap();
        for timestamp in 0..records {
            let _ = store.append_blocking(&Record::new(&PAYLOAD, timestamp), Level::Accepted).unwrap();
        }
        store.close().unwrap();
        let archive = Archive::open(directory.path().join("store")).unwrap();
        let segments = archive.recovered().catalog.segments();
        let stretches = segments.map(|segment| (slot_name(segment.slot), segment.end)).collect();
        let logs = Self { directory, records, stretches };
        PlainLog::open(&logs.plain()).append(&PAYLOAD, records);
        logs
    }

    fn plain(&self) -> std::path::PathBuf {
        self.directory.path().join("plain")
    }

    fn store(&self) -> std::path::PathBuf {
        self.directory.path().join("store")
    }

    fn drain(&self) -> Lap {
        self.forget_store();
        Lap::of(self.records, || assert_eq!(read(&self.store()), self.records))
    }

    fn read_plain(&self) -> Lap {
        forget(&self.plain());
        Lap::of(self.records, || assert_eq!(PlainLog::read(&self.plain()), self.records))
    }

    fn read_raw(&self) -> Lap {
        self.forget_store();
        Lap::of(self.records, || read_raw(&self.store(), &self.stretches))
    }

    fn forget_store(&self) {
        for entry in std::fs::read_dir(self.store()).unwrap() {
            forget(&entry.unwrap().path());
        }
    }
}

/// Opens the store as `forebay read` does and reads it to its end; how many records there are.
fn read(store: &Path) -> u64 {
    let archive = Archive::open(store).unwrap();
    let mut reader = archive.reader(1, 0).unwrap();
    let mut batch = reader.batch();
    let mut records = 0;
    loop {
        match reader.next(&mut batch).unwrap() {
            Step::Records => records += black_box(&batch).record_count() as u64,
            Step::End => return records,
            loss => panic!("nothing is lost: {loss:?}"),
        }
    }
}

/// Reads each file up to its end, [`DEPTH`] chunks in flight.
fn read_raw(store: &Path, stretches: &[(String, u64)]) {
    let disk = RealDisk::read_only(store).unwrap();
    let arena = Arena::new(CHUNK_BYTES, DEPTH).unwrap();
    let registered_bytes_max = CHUNK_BYTES * DEPTH;
    let options = DeviceOptions { backend: Backend::Auto, in_flight_count_max: DEPTH, registered_bytes_max };
    let mut device = disk.read_device(&arena, options).unwrap();
    let mut chunks = stretches.iter().flat_map(|(name, end)| {
        let (file, end) = (disk.open(name, Access::ReadDirect).unwrap(), *end);
        let offsets = (0..end).step_by(CHUNK_BYTES);
        offsets
            .map(move |offset| (Arc::clone(&file), offset, (end - offset).min(CHUNK_BYTES as u64) as usize))
    });
    let (mut in_flight, mut done) = (0, Vec::new());
    loop {
        while in_flight < DEPTH
            && let Some((file, offset, len)) = chunks.next()
        {
            let slot = arena.take().expect("as many as are in flight");
            device.submit(Read { token: len as u64, file, slot, offset, len });
            in_flight += 1;
        }
        if in_flight == 0 {
            return;
        }
        device.wait(Wait::Forever, &mut done).unwrap();
        for done in done.drain(..) {
            assert_eq!(black_box(&done).result.as_ref().unwrap(), &(done.token as usize));
            in_flight -= 1;
        }
    }
}

fn forget(path: &Path) {
    fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
}

fn drains(criterion: &mut Criterion, logs: &Logs) {
    let mut group = criterion.benchmark_group("drain");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes(logs.records * PAYLOAD_BYTES as u64));
    group.bench_function("forebay", |bencher| {
        bencher.iter_custom(|laps| (0..laps).map(|_| logs.drain().wall()).sum());
    });
    group.bench_function("buffered file", |bencher| {
        bencher.iter_custom(|laps| (0..laps).map(|_| logs.read_plain().wall()).sum());
    });
    group.finish();
}

fn main() {
    let logs = Logs::write(if is_measuring() { RECORDS } else { RECORDS / 100 });
    if is_measuring() {
        let (mut ours, mut plain, mut raw) = (|| logs.drain(), || logs.read_plain(), || logs.read_raw());
        let lanes: &mut [Lane<'_>] =
            &mut [("forebay", &mut ours), ("buffered file", &mut plain), ("device alone", &mut raw)];
        race("drain, cold", ROUNDS, lanes);
    }
    let mut criterion = Criterion::default().configure_from_args();
    drains(&mut criterion, &logs);
    criterion.final_summary();
}
