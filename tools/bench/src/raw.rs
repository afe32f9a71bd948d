//! The device alone: what any engine on it could reach at the same sizes, depth and sync cadence.
//!
//! ```text
//! Pipelined  write write write write ...      Barrier  write write │sync│ write write │sync│
//!                 │sync ──│sync ──│           Each     │write with its own sync│ │write ...
//! ```
//!
//! It writes through [`forebay::io`] as the engine does, from slots that are filled once, so that nothing but the
//! device and the kernel takes time; with `Load::Records` each record is first copied and checksummed into its
//! slot, one by one: the floor of processor time that no engine with checksums gets below. Nothing is retried: a
//! short or failed write ends the run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::config::DirectIo;
use forebay::io::real::RealDisk;
use forebay::io::{
    Access, Arena, Backend, Completion, DeviceOptions, Disk as _, File, FileIndex, Operation, Read, ReadDone,
    Slot, Wait, WriteDevice,
};
use forebay::record::HEADER_BYTES;
use forebay::{Error, Kind, Result};
use serde_json::json;

use crate::Bench;
use crate::environment::Environment;
use crate::latencies::{Latencies, Names};
use crate::place::Place;
use crate::process::{Meter, Used};
use crate::report::Report;
use crate::runner::{self, Lane, Sample};
use crate::stats::Random;

/// What offsets and lengths are multiples of.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Bytes registered with the kernel, at most: as many as the engine registers.
const REGISTERED_BYTES_MAX: usize = 3584 << 10;

/// The token of a sync; writes have the number of their slot.
const SYNC: u64 = u64::MAX;

/// When writes are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// One sync after the other, each over what was received before it, while writes go on.
    Pipelined,
    /// After so many bytes, with nothing else going on.
    Barrier(u64),
    /// Each write carries its own sync, and is waited for.
    Each,
    /// At the end.
    Once,
}

/// How long a lap is.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// So many bytes.
    Bytes(u64),
    /// So long.
    Time(Duration),
}

/// What the blocks are filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load<'a> {
    /// What is in them anyway.
    Blocks,
    /// Records of this payload, each copied behind a header with its CRC32C.
    Records(&'a [u8]),
}

/// Sizes and order of the writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) block_bytes: u64,
    pub(crate) depth: usize,
    pub(crate) cadence: Cadence,
    pub(crate) backend: Backend,
}

/// A file to write and read.
#[derive(Debug)]
pub(crate) struct RawFile {
    disk: RealDisk,
    file: Arc<dyn File>,
    bytes: u64,
}

const NAME: &str = "raw";

fn failed(what: &str, error: std::io::Error) -> Error {
    Error::io(format!("the raw device can't be {what}: see the cause"), error)
}

impl RawFile {
    /// A file of `bytes` bytes in a directory of its own, allocated and not yet written.
    pub(crate) fn make(dir: &Path, bytes: u64) -> Result<Self> {
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        let disk = RealDisk::create(dir, DirectIo::Auto).map_err(|error| failed("opened", error))?;
        let file =
            disk.create(NAME, bytes, Access::WriteDirect).map_err(|error| failed("allocated", error))?;
        file.sync().and_then(|()| disk.sync_names()).map_err(|error| failed("synced", error))?;
        Ok(Self { disk, file, bytes })
    }

    /// The same, allocated anew: no byte of it was ever written.
    pub(crate) fn freshen(&mut self) -> Result<()> {
        self.disk.remove(NAME).map_err(|error| failed("removed", error))?;
        let made = self.disk.create(NAME, self.bytes, Access::WriteDirect);
        self.file = made.map_err(|error| failed("allocated", error))?;
        self.file.sync().and_then(|()| self.disk.sync_names()).map_err(|error| failed("synced", error))
    }

    /// Writes all of it once, so that later laps overwrite.
    pub(crate) fn fill(&self) -> Result<()> {
        let shape =
            Shape { block_bytes: 256 << 10, depth: 8, cadence: Cadence::Once, backend: Backend::Auto };
        self.write(shape, Length::Bytes(self.bytes), Load::Blocks).map(drop)
    }

    /// One lap of writes, from the beginning, round and round.
    pub(crate) fn write(&self, shape: Shape, length: Length, load: Load<'_>) -> Result<Lap> {
        let mut writes = Writes::new(self, shape, load)?;
        let meter = Meter::start();
        writes.run(length)?;
        Ok(Lap {
            used: meter.stop(),
            bytes: writes.received,
            writes: writes.count,
            syncs: writes.syncs,
            records: writes.records,
            latencies: writes.latencies,
        })
    }

    /// One lap of sequential reads of all of it; how long they took.
    pub(crate) fn read(&self, chunk_bytes: usize, depth: usize) -> Result<Used> {
        let meter = Meter::start();
        read_through(&self.disk, &[(Arc::clone(&self.file), self.bytes)], chunk_bytes, depth)?;
        Ok(meter.stop())
    }
}

/// What a lap of writes came to.
#[derive(Debug)]
pub(crate) struct Lap {
    pub(crate) used: Used,
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    pub(crate) syncs: u64,
    /// Records copied in (with [`Load::Records`]).
    pub(crate) records: u64,
    pub(crate) latencies: Latencies,
}

impl Lap {
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.used.wall.as_secs_f64()
    }
}

/// Writes under way.
struct Writes<'a> {
    device: Box<dyn WriteDevice>,
    file: FileIndex,
    file_bytes: u64,
    shape: Shape,
    load: Load<'a>,
    slots: Vec<Arc<Slot>>,
    begun: Vec<Instant>,
    lengths: Vec<u64>,
    free: Vec<usize>,
    /// Where the next write goes.
    offset: u64,
    submitted: u64,
    received: u64,
    /// Received, and no sync was submitted since.
    unsynced: bool,
    sync_in_flight: bool,
    /// Bytes still to be submitted before the barrier.
    group_left: u64,
    count: u64,
    syncs: u64,
    records: u64,
    latencies: Latencies,
    completions: Vec<Completion>,
}

impl<'a> Writes<'a> {
    fn new(raw: &RawFile, shape: Shape, load: Load<'a>) -> Result<Self> {
        let slot_count = shape.depth.max(1) + 2;
        let mapped = |error| Error::io("the buffers can't be mapped: ask for smaller blocks", error);
        let arena = Arena::new(shape.block_bytes as usize, slot_count).map_err(mapped)?;
        let options = DeviceOptions {
            backend: shape.backend,
            in_flight_count_max: shape.depth + 1,
            registered_bytes_max: REGISTERED_BYTES_MAX,
        };
        let mut device = raw.disk.write_device(&arena, options).map_err(|error| failed("opened", error))?;
        let file = device.attach(Arc::clone(&raw.file)).map_err(|error| failed("attached", error))?;
        let mut random = Random::new(slot_count as u64);
        let mut slots = Vec::new();
        for _ in 0..slot_count {
            let mut slot = arena.take().expect("an arena begins with all its slots");
            let bytes = random.bytes(slot.len());
            slot.copy_from_slice(&bytes);
            slots.push(Arc::new(slot));
        }
        Ok(Self {
            device,
            file,
            file_bytes: raw.bytes,
            shape,
            load,
            begun: vec![Instant::now(); slot_count],
            lengths: vec![0; slot_count],
            free: (0..slot_count).collect(),
            slots,
            offset: 0,
            submitted: 0,
            received: 0,
            unsynced: false,
            sync_in_flight: false,
            group_left: 0,
            count: 0,
            syncs: 0,
            records: 0,
            latencies: Latencies::new(1),
            completions: Vec::new(),
        })
    }

    fn run(&mut self, length: Length) -> Result<()> {
        let begun = Instant::now();
        loop {
            let wanted = match length {
                Length::Bytes(bytes) => bytes.saturating_sub(self.submitted),
                Length::Time(time) if begun.elapsed() < time => u64::MAX,
                Length::Time(_) => 0,
            };
            if wanted == 0 && self.is_quiet() && !self.unsynced {
                return Ok(());
            }
            self.start_writes(wanted)?;
            self.start_sync(wanted == 0);
            self.wait(Wait::Forever)?;
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn is_quiet(&self) -> bool {
        self.in_flight() == 0 && !self.sync_in_flight
    }

    fn start_writes(&mut self, mut wanted: u64) -> Result<()> {
        if let Cadence::Barrier(bytes) = self.shape.cadence
            && self.group_left == 0
            && self.is_quiet()
            && !self.unsynced
        {
            self.group_left = bytes.min(wanted);
        }
        while wanted > 0 && self.in_flight() < self.shape.depth {
            let mut length = self.shape.block_bytes.min(wanted);
            if matches!(self.shape.cadence, Cadence::Barrier(_)) {
                if self.group_left == 0 {
                    return Ok(());
                }
                length = length.min(self.group_left);
                self.group_left -= length;
            }
            wanted -= length;
            self.start_write(length.next_multiple_of(PAGE_BYTES));
            if matches!(self.load, Load::Records(_)) {
                // Off it goes while the next one is packed.
                self.start_sync(false);
                self.wait(Wait::Now)?;
            }
        }
        Ok(())
    }

    fn start_write(&mut self, length: u64) {
        let index = self.free.pop().expect("more slots than writes in flight");
        if let Load::Records(payload) = self.load {
            let slot = Arc::get_mut(&mut self.slots[index]).expect("its write is over");
            self.records += pack(&mut slot[..length as usize], payload, self.records);
        }
        if self.offset + length > self.file_bytes {
            self.offset = 0;
        }
        self.begun[index] = Instant::now();
        self.lengths[index] = length;
        self.device.submit(Operation::Write {
            token: index as u64,
            file: self.file,
            slot: Arc::clone(&self.slots[index]),
            range: 0..length as usize,
            offset: self.offset,
            dsync: self.shape.cadence == Cadence::Each,
        });
        self.submitted += length;
        self.offset += length;
    }

    fn start_sync(&mut self, is_last: bool) {
        let drained = self.in_flight() == 0;
        let due = match self.shape.cadence {
            Cadence::Pipelined => true,
            Cadence::Barrier(_) => drained && self.group_left == 0,
            Cadence::Once => drained && is_last,
            Cadence::Each => false,
        };
        if due && self.unsynced && !self.sync_in_flight {
            self.device.submit(Operation::Sync { token: SYNC, file: self.file });
            (self.unsynced, self.sync_in_flight) = (false, true);
        }
    }

    fn wait(&mut self, wait: Wait) -> Result<()> {
        let mut completions = std::mem::take(&mut self.completions);
        self.device.wait(wait, &mut completions).map_err(|error| failed("waited for", error))?;
        for completion in completions.drain(..) {
            let moved = completion.result.map_err(|error| failed("written", error))?;
            if completion.token == SYNC {
                self.sync_in_flight = false;
                self.syncs += 1;
                continue;
            }
            let index = completion.token as usize;
            if moved as u64 != self.lengths[index] {
                return Err(Error::new(
                    Kind::Failed,
                    "the raw device has written less than asked: is the disk full?",
                ));
            }
            self.free.push(index);
            self.received += moved as u64;
            self.count += 1;
            self.syncs += u64::from(self.shape.cadence == Cadence::Each);
            self.unsynced = self.shape.cadence != Cadence::Each;
            self.latencies.record(0, self.begun[index].elapsed());
        }
        self.completions = completions;
        Ok(())
    }
}

/// Packs as many records as fit, and says how many: header, payload, CRC32C over both.
fn pack(slot: &mut [u8], payload: &[u8], first: u64) -> u64 {
    let mut count = 0;
    for record in slot.chunks_exact_mut(HEADER_BYTES + payload.len()) {
        let (header, body) = record.split_at_mut(HEADER_BYTES);
        body.copy_from_slice(payload);
        header[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[8..16].copy_from_slice(&(first + count).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..20]), body);
        header[20..].copy_from_slice(&checksum.to_le_bytes());
        count += 1;
    }
    count
}

/// Reads files one behind the other from their beginning, `depth` chunks ahead, and looks at nothing.
pub(crate) fn read_through(
    disk: &RealDisk,
    files: &[(Arc<dyn File>, u64)],
    chunk_bytes: usize,
    depth: usize,
) -> Result<u64> {
    let arena = Arena::new(chunk_bytes, depth).map_err(|error| failed("given buffers", error))?;
    let options = DeviceOptions {
        backend: Backend::Auto,
        in_flight_count_max: depth,
        registered_bytes_max: chunk_bytes * depth,
    };
    let mut device = disk.read_device(&arena, options).map_err(|error| failed("opened", error))?;
    let chunks = files.iter().flat_map(|(file, bytes)| {
        (0..*bytes)
            .step_by(chunk_bytes)
            .map(move |offset| (file, offset, chunk_bytes.min((bytes - offset) as usize)))
    });
    let mut chunks = chunks.peekable();
    let (mut done, mut read, mut in_flight): (Vec<ReadDone>, u64, usize) = (Vec::new(), 0, 0);
    while chunks.peek().is_some() || in_flight > 0 {
        while let Some(slot) = if chunks.peek().is_some() { arena.take() } else { None } {
            let (file, offset, len) = chunks.next().expect("just seen");
            device.submit(Read { token: 0, file: Arc::clone(file), slot, offset, len });
            in_flight += 1;
        }
        device.wait(Wait::Forever, &mut done).map_err(|error| failed("waited for", error))?;
        for over in done.drain(..) {
            in_flight -= 1;
            read += over.result.map_err(|error| failed("read", error))? as u64;
        }
    }
    Ok(read)
}

/// `forebay bench raw`: what to do with the device.
#[derive(Debug, Clone, Copy)]
pub struct Raw {
    /// Bytes of a write.
    pub block_bytes: u64,
    /// Writes in flight.
    pub depth: usize,
    /// When they are made durable.
    pub cadence: Cadence,
    /// Each lap writes into a file that was allocated and never written.
    pub cold: bool,
    /// Beside it: each record copied and checksummed first.
    pub copy: bool,
    /// Payload bytes of these records.
    pub payload_bytes: usize,
    /// How long a lap is.
    pub length: Length,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Raw {
    fn shape(&self) -> Shape {
        Shape {
            block_bytes: self.block_bytes,
            depth: self.depth,
            cadence: self.cadence,
            backend: Backend::Auto,
        }
    }

    /// Measures.
    ///
    /// # Errors
    /// The directory is not empty, has no room, or the device refuses.
    pub fn run(&self, bench: &Bench<'_>) -> Result<Report> {
        if self.block_bytes == 0
            || !self.block_bytes.is_multiple_of(PAGE_BYTES)
            || self.file_bytes < self.block_bytes
        {
            return Err(Error::new(
                Kind::Config,
                "blocks are multiples of 4096 bytes, and the file is no smaller than one",
            ));
        }
        let place = Place::take(bench.dir, self.file_bytes)?;
        let environment = Environment::probe(place.path(), bench.commit);
        let file = std::cell::RefCell::new(RawFile::make(&place.join("raw"), self.file_bytes)?);
        let payload = Random::new(bench.seed).bytes(self.payload_bytes);
        if !self.cold {
            file.borrow().fill()?;
        }
        let write = |load| {
            if self.cold {
                file.borrow_mut().freshen()?;
            }
            file.borrow().write(self.shape(), self.length, load)
        };
        let mut lanes: Vec<Lane<'_>> = vec![Box::new(|| write(Load::Blocks).map(|lap| sample(&lap, None)))];
        if self.copy {
            lanes.push(Box::new(|| write(Load::Records(&payload)).map(|lap| copy_sample(&lap))));
        }
        if !self.cold {
            lanes.push(Box::new(|| {
                let used = file.borrow().read(self.block_bytes as usize, self.depth)?;
                let mut sample = Sample::default();
                sample.set("read_bytes_per_second", self.file_bytes as f64 / used.wall.as_secs_f64());
                Ok(sample)
            }));
        }
        let laps = runner::run(bench, &mut lanes)?;
        let mut report = Report::new("raw", self.options(), environment);
        laps.iter().for_each(|samples| report.add(samples));
        report.add_ratio("copy_ratio_to_raw", "copy_bytes_per_second", "raw_limit_bytes_per_second");
        report.state("warm", !self.cold);
        file.borrow().disk.notes().into_iter().for_each(|note| report.note(note));
        Ok(report)
    }

    fn options(&self) -> serde_json::Value {
        json!({
            "block_bytes": self.block_bytes,
            "depth": self.depth,
            "cadence": format!("{:?}", self.cadence).to_lowercase(),
            "cold": self.cold,
            "copy": self.copy,
            "payload_bytes": self.payload_bytes,
            "file_bytes": self.file_bytes,
        })
    }
}

/// The figures of a lap of blocks; `carried` is what of each block counts, if not all of it.
pub(crate) fn sample(lap: &Lap, carried: Option<u64>) -> Sample {
    let mut sample = Sample::default();
    let bytes = carried.map_or(lap.bytes, |carried| carried * lap.writes);
    sample.set("raw_limit_bytes_per_second", lap.per_second(bytes));
    sample.set("raw_writes_per_second", lap.per_second(lap.writes));
    sample.set("raw_syncs_per_second", lap.per_second(lap.syncs));
    sample.set("raw_cpu_ns_per_write", lap.used.cpu.as_nanos() as f64 / lap.writes as f64);
    let names = Names { p50: "raw_p50_ns", p99: "raw_p99_ns", p999: "raw_p999_ns", most: "raw_max_ns" };
    lap.latencies.figures(&names, &mut sample);
    sample
}

/// The figures of a lap of records.
pub(crate) fn copy_sample(lap: &Lap) -> Sample {
    let mut sample = Sample::default();
    sample.set("copy_records_per_second", lap.per_second(lap.records));
    sample.set("copy_bytes_per_second", lap.per_second(lap.bytes));
    sample.set("copy_cpu_ns_per_record", lap.used.cpu.as_nanos() as f64 / lap.records as f64);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cadence_writes_all_of_it_and_syncs_as_often_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = RawFile::make(&dir.path().join("raw"), 1 << 20).unwrap();
        let bytes = 3 << 20;
        let lap = |cadence, load| {
            let shape = Shape { block_bytes: 64 << 10, depth: 3, cadence, backend: Backend::Auto };
            let lap = file.write(shape, Length::Bytes(bytes), load).unwrap();
            assert_eq!(lap.bytes, bytes, "{cadence:?}");
            lap
        };
        for load in [Load::Blocks, Load::Records(&[7; 256])] {
            assert!(lap(Cadence::Pipelined, load).syncs >= 1);
            assert_eq!(lap(Cadence::Barrier(256 << 10), load).syncs, 12);
            assert_eq!(lap(Cadence::Each, load).syncs, lap(Cadence::Each, load).writes);
            assert_eq!(lap(Cadence::Once, load).syncs, 1);
        }
        assert_eq!(lap(Cadence::Once, Load::Records(&[7; 256])).records, 48 * (65536 / 280));
        assert!(file.read(64 << 10, 4).unwrap().wall > Duration::ZERO);
    }

    #[test]
    fn a_block_that_does_not_fit_the_end_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = RawFile::make(&dir.path().join("raw"), 20 << 10).unwrap();
        let shape = Shape { block_bytes: 12 << 10, depth: 1, cadence: Cadence::Once, backend: Backend::Auto };
        assert!(file.write(shape, Length::Bytes(64 << 10), Load::Blocks).unwrap().bytes > 0);
        assert_eq!(file.file.len().unwrap(), 20 << 10);
    }
}
