//! Ways to do one thing, measured side by side: laps in turns, medians, and the ratios of each round.
//!
//! A shared machine is noisy, so only ratios of neighbouring laps count. Owns the clock readings, the baseline's
//! file format and the table; does not know what a store is.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Payload bytes of every record in these benches.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// Records between two syncs of the baseline: about 1 MiB.
pub(crate) const GROUP_RECORDS: u64 = 4_000;

/// The baseline's buffer, in bytes: the size of our blocks.
const BUFFER_BYTES: usize = 256 << 10;

/// Length and CRC32C before each payload of the baseline.
const PREFIX_BYTES: usize = 8;

/// What one lap took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lap {
    records: u64,
    wall: Duration,
    /// Of all threads, the kernel's share included.
    cpu: Duration,
}

impl Lap {
    /// Runs `work`, which handles `records` records.
    pub(crate) fn of(records: u64, work: impl FnOnce()) -> Self {
        let (cpu, begun) = (cpu_time(), Instant::now());
        work();
        Self { records, wall: begun.elapsed(), cpu: cpu_time() - cpu }
    }

    /// How long it took.
    pub(crate) fn wall(&self) -> Duration {
        self.wall
    }

    fn megabytes_per_second(&self) -> f64 {
        self.records as f64 * PAYLOAD_BYTES as f64 / 1e6 / self.wall.as_secs_f64()
    }

    fn cpu_ns_per_record(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records as f64
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Whether `cargo bench` runs us; `cargo test --benches` only wants to see each bench once.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// One way to do it.
pub(crate) type Lane<'a> = (&'a str, &'a mut dyn FnMut() -> Lap);

/// Runs `rounds` rounds of one lap each, the lanes taking turns to begin, and prints medians, spread, and the
/// ratios of the first lane to each of the others, round by round.
pub(crate) fn race(title: &str, rounds: usize, lanes: &mut [Lane<'_>]) {
    let mut laps: Vec<Vec<Lap>> = lanes.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for turn in 0..lanes.len() {
            let lane = (round + turn) % lanes.len();
            laps[lane].push(lanes[lane].1());
        }
    }
    println!("\n{title}: {rounds} interleaved rounds of {} records of {PAYLOAD_BYTES} B", laps[0][0].records);
    println!("{:14} {:>22} {:>11} {:>14}", "", "MB/s median (min-max)", "M records/s", "CPU ns/record");
    for ((name, _), laps) in lanes.iter().zip(&laps) {
        print_row(name, laps);
    }
    let (ours, others) = laps.split_first().expect("somebody runs");
    for ((name, _), theirs) in lanes[1..].iter().zip(others) {
        let rounds = || ours.iter().zip(theirs);
        let speed = spread(rounds().map(|(a, b)| a.megabytes_per_second() / b.megabytes_per_second()));
        let cpu = spread(rounds().map(|(a, b)| a.cpu_ns_per_record() / b.cpu_ns_per_record()));
        println!(
            "to {name:14} speed x{:.2} ({:.2}-{:.2})   CPU x{:.2} ({:.2}-{:.2})",
            speed[1], speed[0], speed[2], cpu[1], cpu[0], cpu[2]
        );
    }
}

fn print_row(name: &str, laps: &[Lap]) {
    let speed = spread(laps.iter().map(Lap::megabytes_per_second));
    let cpu = spread(laps.iter().map(Lap::cpu_ns_per_record));
    let shown = format!("{:.0} ({:.0}-{:.0})", speed[1], speed[0], speed[2]);
    println!("{name:14} {shown:>22} {:>11.2} {:>14.0}", speed[1] / PAYLOAD_BYTES as f64, cpu[1]);
}

/// The least, the median and the most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// A buffered file that carries a length and a CRC32C before each payload, and nothing else.
#[derive(Debug)]
pub(crate) struct PlainLog(BufWriter<File>);

impl PlainLog {
    /// Writes to `path` from its beginning; what is there is overwritten in place.
    pub(crate) fn open(path: &Path) -> Self {
        let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
        Self(BufWriter::with_capacity(BUFFER_BYTES, file))
    }

    /// Appends `records` records, a sync for every [`GROUP_RECORDS`] and at the end.
    pub(crate) fn append(&mut self, payload: &[u8], records: u64) {
        for index in 1..=records {
            let payload = black_box(payload);
            let mut prefix = [0; PREFIX_BYTES];
            prefix[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
            prefix[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            self.0.write_all(&prefix).unwrap();
            self.0.write_all(payload).unwrap();
            if index % GROUP_RECORDS == 0 {
                self.sync();
            }
        }
        self.sync();
    }

    fn sync(&mut self) {
        self.0.flush().unwrap();
        self.0.get_ref().sync_data().unwrap();
    }

    /// Reads `path` from its beginning to its end, each payload checked; how many there are.
    pub(crate) fn read(path: &Path) -> u64 {
        let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path).unwrap());
        let (mut prefix, mut payload, mut records) = ([0; PREFIX_BYTES], Vec::new(), 0);
        while file.read_exact(&mut prefix).is_ok() {
            let [length, checksum] =
                [&prefix[..4], &prefix[4..]].map(|half| u32::from_le_bytes(half.try_into().unwrap()));
            payload.resize(length as usize, 0);
            file.read_exact(&mut payload).unwrap();
            assert_eq!(crc32c::crc32c(black_box(&payload)), checksum);
            records += 1;
        }
        records
    }
}
