//! Reads a log in order, every record proven, beside a buffered file with CRC32C.
//!
//! The page cache is emptied before each lap, of both: a backlog is long gone from memory when it drains.
//! About 450 MB each, at most 1 GiB of disk in all.

mod race;

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::record::Record;
use forebay::store::{Archive, Level, Step, Store};
use rustix::fs::{Advice, fadvise};

use race::{Lap, PAYLOAD_BYTES, PlainLog, is_measuring, race};

const RECORDS: u64 = 1_600_000;
const PAIRS: usize = 9;
const CAP_BYTES: u64 = 600 << 20;
const PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5a; PAYLOAD_BYTES];

/// A store and a plain file with the same records.
struct Logs {
    directory: tempfile::TempDir,
    records: u64,
}

impl Logs {
    fn write(records: u64) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = Config::new(directory.path().join("store"));
        config.spill = SpillMode::Always;
        config.queue.full = FullPolicy::Block;
        config.disk_bytes_cap = Some(CAP_BYTES);
        config.disk.segment_bytes = Some(64 << 20);
        let store = Store::open(&config).unwrap();
        for timestamp in 0..records {
            let _ = store.append_blocking(&Record::new(&PAYLOAD, timestamp), Level::Accepted).unwrap();
        }
        store.close().unwrap();
        let logs = Self { directory, records };
        PlainLog::open(&logs.plain()).append(&PAYLOAD, records);
        logs
    }

    fn plain(&self) -> std::path::PathBuf {
        self.directory.path().join("plain")
    }

    fn drain(&self) -> Lap {
        let store = self.directory.path().join("store");
        for entry in std::fs::read_dir(&store).unwrap() {
            forget(&entry.unwrap().path());
        }
        Lap::of(self.records, || assert_eq!(read(&store), self.records))
    }

    fn read_plain(&self) -> Lap {
        forget(&self.plain());
        Lap::of(self.records, || assert_eq!(PlainLog::read(&self.plain()), self.records))
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
        race("drain, cold", PAIRS, || logs.drain(), || logs.read_plain());
    }
    let mut criterion = Criterion::default().configure_from_args();
    drains(&mut criterion, &logs);
    criterion.final_summary();
}
