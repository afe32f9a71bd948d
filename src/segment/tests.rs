//! Recovery and the reader against a small honest writer, on the simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::block::{Block, BlockView, Found, OpenBlock, Place};
use crate::io::sim::{Loss, SimDisk};
use crate::io::{Access, Arena, Backend, DeviceOptions, Disk, File, Wait};
use crate::position::{Epoch, StoreId};
use crate::record::{PartPlace, Piece, Seed};
use crate::segment::catalog::Segment;
use crate::segment::format::{
    self, ALIGNMENT, BlockHeader, Envelope, SegmentHeader, blocks_end, seal_envelope, slot_name,
};
use crate::segment::reader::{Fill, LogReader};
use crate::segment::recovery::{Known, Recovered, RefusedReason, recover};
use crate::segment::snapshot::Snapshot;
use crate::segment::stream::Stream;
use crate::segment::survey::{Alone, Proof, Survey};
use crate::sink::{Batch, CopyLimits, Item, Lane};

const STORE: StoreId = StoreId([9; 16]);
const SEGMENT_BYTES: u64 = 128 * 1024;
const SLOT_BYTES: usize = 16 * 1024;

/// A writer with nothing clever in it, and the model of what it wrote.
struct Log {
    disk: SimDisk,
    arena: Arc<Arena>,
    epoch: Epoch,
    epoch_base: u64,
    /// slot, id, file, where the next block goes.
    active: Option<(u32, u64, Arc<dyn File>, u64)>,
    spares: Vec<u32>,
    slot_next: u32,
    id_max: u64,
    next_sequence: u64,
    /// The last sequence logged.
    previous: u64,
    durable: u64,
    unsynced: Vec<Arc<dyn File>>,
    /// What was logged.
    model: BTreeMap<u64, Vec<u8>>,
    confirmed: u64,
}

impl Log {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            arena: Arena::new(SLOT_BYTES, 8).unwrap(),
            epoch: Epoch(1 << 32),
            epoch_base: 1,
            active: None,
            spares: Vec::new(),
            slot_next: 0,
            id_max: 0,
            next_sequence: 1,
            previous: 0,
            durable: 0,
            unsynced: Vec::new(),
            model: BTreeMap::new(),
            confirmed: 0,
        }
    }

    fn payload(sequence: u64, length: usize) -> Vec<u8> {
        (0..length).map(|index| (sequence as usize * 31 + index * 7) as u8).collect()
    }

    fn roll(&mut self) {
        let previous_segment = self.active.as_ref().map_or(0, |active| active.1);
        self.sync();
        self.id_max += 1;
        let (slot, file) = match self.spares.pop() {
            Some(slot) => (slot, self.disk.open(&slot_name(slot), Access::WriteDirect).unwrap()),
            None => {
                let slot = self.slot_next;
                self.slot_next += 1;
                (slot, self.disk.create(&slot_name(slot), SEGMENT_BYTES, Access::WriteDirect).unwrap())
            }
        };
        let header = SegmentHeader {
            epoch: U64::new(self.epoch.0),
            base_sequence: U64::new(self.next_sequence),
            epoch_base: U64::new(self.epoch_base),
            previous_segment: U64::new(previous_segment),
            previous_sequence: U64::new(self.previous),
            segment_bytes: U64::new(SEGMENT_BYTES),
            alignment: U32::new(ALIGNMENT as u32),
            ..SegmentHeader::new_zeroed()
        };
        let mut page = self.arena.take().unwrap();
        seal_envelope(Envelope::Segment, STORE, self.id_max, header.as_bytes(), &mut page[..ALIGNMENT]);
        file.write_at(&page[..ALIGNMENT], 0).unwrap();
        file.sync().unwrap();
        self.disk.sync_names().unwrap();
        self.active = Some((slot, self.id_max, file, format::FIRST_BLOCK_OFFSET));
    }

    fn room_for(&mut self, bytes: u64) {
        if self.active.as_ref().is_none_or(|active| active.3 + bytes > blocks_end(SEGMENT_BYTES)) {
            self.roll();
        }
    }

    fn write(&mut self, mut block: Block) {
        let (_, segment, file, offset) = self.active.as_mut().unwrap();
        let bytes = block.block_bytes();
        let slot = block.place(&Place {
            store: STORE,
            epoch: self.epoch,
            epoch_base: self.epoch_base,
            segment: *segment,
            offset: *offset,
            previous_sequence: self.previous,
            durable_sequence: self.durable,
        });
        file.write_at(&slot[..bytes], *offset).unwrap();
        *offset += bytes as u64;
        self.previous = block.extract().last_sequence;
        self.unsynced.push(Arc::clone(file));
    }

    /// One block of small records.
    fn append(&mut self, lengths: &[usize]) {
        self.room_for(SLOT_BYTES as u64);
        let mut open = OpenBlock::new(self.arena.take().unwrap(), Seed::new(STORE, self.epoch));
        for &length in lengths {
            let payload = Self::payload(self.next_sequence, length);
            let sequence = self.next_sequence;
            let piece = Piece { sequence, timestamp: sequence, key: b"m", payload: &payload, place: None };
            if !open.fits(piece.encoded_bytes()) {
                break;
            }
            open.push(&piece);
            self.model.insert(sequence, payload);
            self.next_sequence += 1;
        }
        self.write(open.seal(1));
    }

    /// One record in three parts.
    fn append_large(&mut self) {
        self.room_for(3 * SLOT_BYTES as u64);
        let sequence = self.next_sequence;
        let payload = Self::payload(sequence, 30_000);
        for (index, part) in payload.chunks(12_000).enumerate() {
            let place = PartPlace { total: U32::new(30_000), offset: U32::new(index as u32 * 12_000) };
            let key: &[u8] = if index == 0 { b"large" } else { b"" };
            let mut open = OpenBlock::new(self.arena.take().unwrap(), Seed::new(STORE, self.epoch));
            let piece = Piece { sequence, timestamp: sequence, key, payload: part, place: Some(place) };
            open.push(&piece);
            self.write(open.seal(1));
        }
        self.model.insert(sequence, payload);
        self.next_sequence += 1;
    }

    fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|file| file.sync().unwrap());
        self.durable = self.durable.max(self.previous);
    }

    fn was_logged(&self, sequence: u64) -> bool {
        self.model.contains_key(&sequence)
    }

    fn known(&self) -> Known {
        let state = format::State {
            epoch: U64::new(self.epoch.0),
            epoch_base: U64::new(self.epoch_base),
            durable_sequence: U64::new(self.durable),
            segment_id_max: U64::new(self.id_max),
            ..format::State::new_zeroed()
        };
        Known {
            state: Some(state),
            confirmed_min: self.confirmed,
            confirmed_max: self.confirmed,
            ..Known::default()
        }
    }

    /// The next open, where `recovered` says, on the disk as it is now.
    fn reopen(&mut self, disk: SimDisk, recovered: &Recovered) {
        self.disk = disk;
        self.unsynced.clear();
        self.epoch = self.epoch.next(7);
        self.epoch_base = recovered.epoch_base;
        self.next_sequence = recovered.next_sequence;
        self.previous = recovered.last_sequence;
        self.model.split_off(&(recovered.last_sequence + 1));
        self.spares = recovered.catalog.spares().map(|spare| spare.slot).collect();
        self.active = recovered.catalog.segments().next_back().map(|open| {
            let file = self.disk.open(&slot_name(open.slot), Access::WriteDirect).unwrap();
            (open.slot, open.id, file, open.end)
        });
    }
}

/// Everything that a reader says from `from` on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    records: BTreeMap<u64, Vec<u8>>,
    lost: Vec<(u64, u64)>,
    jumps: Vec<(u64, u64)>,
}

fn read(disk: &SimDisk, known: &Known, from: u64) -> (Said, Recovered) {
    let disk: Arc<dyn Disk> = Arc::new(disk.fork());
    let (snapshot, recovered) = Snapshot::open(Arc::clone(&disk), STORE, known).unwrap();
    let arena = Arena::new(SLOT_BYTES, 4).unwrap();
    let options = DeviceOptions { backend: Backend::Auto, in_flight_count_max: 4, registered_bytes_max: 0 };
    let device = disk.read_device(&arena, options).unwrap();
    let mut reader = LogReader::new(device, arena, STORE, 3);
    let limits = CopyLimits { records_max: 7, batch_bytes_max: 40_000, copy_bytes_max: 20_000 };
    reader.seek(&snapshot, from).unwrap();
    let mut said = Said::default();
    let mut batch = Batch::new(STORE, Epoch(0), Lane::Backfill);
    let mut turns = 0;
    loop {
        turns += 1;
        assert!(turns < 100_000, "the reader gets nowhere at {}", reader.next_sequence());
        let fill = reader.fill(&snapshot, &mut batch, limits, recovered.last_sequence).unwrap();
        let next = match fill {
            Fill::Waiting => {
                reader.wait(Wait::Forever).unwrap();
                continue;
            }
            Fill::Epoch(epoch) => epoch,
            Fill::Full | Fill::Drained => batch.epoch(),
            Fill::Jump { first, last } => {
                said.jumps.push((first, last));
                continue;
            }
            Fill::Damaged(ref damage) => {
                said.lost.push((damage.first_sequence, damage.last_sequence));
                continue;
            }
            Fill::Recycled => panic!("nobody recycles"),
        };
        assert!(!reader.is_within_record());
        for item in batch.iter() {
            let Item::Data(record) = item else { panic!("no gaps") };
            let again = said.records.insert(record.sequence, record.payload.to_vec());
            assert!(again.is_none(), "{} twice", record.sequence);
        }
        batch = Batch::new(STORE, next, Lane::Backfill);
        if fill == Fill::Drained {
            return (said, recovered);
        }
    }
}

fn essence(recovered: &Recovered) -> String {
    let segments: Vec<_> = recovered.catalog.segments().collect();
    format!("{} {} {segments:?} {:?}", recovered.last_sequence, recovered.next_sequence, recovered.damage)
}

fn sequences(ranges: &[(u64, u64)]) -> Vec<u64> {
    ranges.iter().flat_map(|&(first, last)| first..=last).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Large,
    Sync,
    Roll,
    /// Sequences that memory delivers alone.
    Skip(u64),
    /// How the power goes; how far `state` is behind.
    Crash(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(prop_oneof![Just(10usize), 0usize..3000], 1..8).prop_map(Step::Append),
        1 => Just(Step::Large),
        3 => Just(Step::Sync),
        1 => Just(Step::Roll),
        1 => (1u64..5).prop_map(Step::Skip),
        2 => (0usize..6, any::<bool>()).prop_map(|(loss, lags)| Step::Crash(loss, lags)),
    ]
}

fn run(log: &mut Log, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Append(lengths) => log.append(lengths),
            Step::Large => log.append_large(),
            Step::Sync => log.sync(),
            Step::Roll => log.roll(),
            Step::Skip(count) => log.next_sequence += count,
            Step::Crash(loss, lags) => crash(log, Loss::EVERY[*loss], *lags),
        }
    }
}

/// The power goes, recovery runs twice, and the log goes on.
fn crash(log: &mut Log, loss: Loss, state_lags: bool) {
    let disk = log.disk.power_cut(loss);
    let mut known = log.known();
    if state_lags && let Some(state) = known.state.as_mut() {
        state.durable_sequence = U64::ZERO;
    }
    let recovered = recover(&disk, STORE, &known).unwrap();
    let again = recover(&disk, STORE, &known).unwrap();
    assert_eq!(essence(&recovered), essence(&again), "twice the same");
    assert!(recovered.last_sequence >= log.durable, "{} < {}", recovered.last_sequence, log.durable);
    assert!(recovered.damage.is_empty() && recovered.lost_tail.is_none(), "{:?}", recovered.report);
    let (said, seen) = read(&disk, &known, 1);
    assert_eq!(seen.last_sequence, recovered.last_sequence);
    let prefix: BTreeMap<_, _> =
        log.model.range(..=recovered.last_sequence).map(|(k, v)| (*k, v.clone())).collect();
    let missing: Vec<_> = prefix.keys().filter(|key| !said.records.contains_key(key)).collect();
    assert!(said.records == prefix, "{missing:?} missing, {:?} lost", said.lost);
    assert_eq!(said.lost, []);
    log.reopen(disk, &recovered);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn after_any_crashes_the_log_is_the_models_prefix(
        seed: u64, steps in proptest::collection::vec(step(), 1..40), loss in 0usize..6,
    ) {
        let mut log = Log::new(seed);
        run(&mut log, &steps);
        crash(&mut log, Loss::EVERY[loss], false);
        log.append(&[5]);
        log.sync();
        crash(&mut log, Loss::All, true);
    }

    #[test]
    fn one_flipped_bit_costs_at_most_one_record_and_is_named(
        seed: u64, steps in proptest::collection::vec(step(), 5..30),
        slot: proptest::sample::Index, place: proptest::sample::Index, bit in 0u8..8,
    ) {
        let mut log = Log::new(seed);
        run(&mut log, &steps);
        log.append(&[100, 5]);
        log.sync();
        let (whole, _) = read(&log.disk, &log.known(), 1);
        let name = slot_name(slot.index(log.slot_next as usize) as u32);
        let used = (log.disk.read_file(&name).unwrap().len() as u64) - format::SUMMARY_BYTES;
        let offset = place.index(used as usize) as u64;
        log.disk.flip(&name, offset, bit).unwrap();
        let (said, recovered) = read(&log.disk, &log.known(), 1);
        let mut lost = sequences(&said.lost);
        lost.extend(recovered.lost_tail.iter().flat_map(|lost| lost.first_sequence..=lost.last_sequence));
        let missing: Vec<u64> = whole.records.keys().filter(|key| !said.records.contains_key(key)).copied().collect();
        prop_assert!(missing.len() <= 1, "{missing:?} at {name} {offset}: {:?}", recovered.report);
        // Where memory delivered and the header that says so is the one that is damaged, nobody can know.
        lost.retain(|sequence| whole.records.contains_key(sequence) || log.was_logged(*sequence));
        prop_assert_eq!(&lost, &missing, "{} {}: {:?}", name, offset, recovered.report);
        prop_assert!(said.records.iter().all(|(sequence, payload)| whole.records[sequence] == *payload));
    }
}

/// What a walk over the bytes of a slot finds: where each sound block begins, and its damaged records.
fn blocks_of(bytes: &[u8], segment: u64) -> Vec<(u64, Vec<u64>)> {
    let (mut offset, mut found) = (format::FIRST_BLOCK_OFFSET as usize, Vec::new());
    while offset < blocks_end(SEGMENT_BYTES) as usize {
        let view = BlockView::read(&bytes[offset..], STORE, segment, offset as u64);
        if let Some(view) = view {
            let damaged = view.records(STORE).filter_map(|found| match found {
                Found::Sound(_) => None,
                Found::Damaged(sequence) => Some(sequence),
            });
            found.push((offset as u64, damaged.collect()));
        }
        offset += view.map_or(ALIGNMENT, |view| view.header().block_length.get() as usize);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_survey_finds_what_a_walk_over_the_bytes_finds_wherever_chunks_end(
        steps in proptest::collection::vec(step(), 5..40), chunk_pages in 1usize..6,
        flips in proptest::collection::vec((0..SEGMENT_BYTES, 0u8..8), 0..12),
    ) {
        let mut log = Log::new(5);
        run(&mut log, &steps);
        log.append(&[10, 20]);
        let (slot, id, file, _) = log.active.clone().expect("it was just written to");
        let name = slot_name(slot);
        flips.iter().for_each(|&(offset, bit)| log.disk.flip(&name, offset, bit).unwrap());
        let arena = Arena::new(chunk_pages * ALIGNMENT, 4).unwrap();
        let options = DeviceOptions { backend: Backend::Auto, in_flight_count_max: 3, registered_bytes_max: 0 };
        let device = log.disk.read_device(&arena, options).unwrap();
        let mut stream = Stream::new(device, arena, STORE, 3);
        let segment = Segment {
            slot, id, epoch: log.epoch, epoch_base: 1, base_sequence: 1, previous_sequence: 0,
            segment_bytes: SEGMENT_BYTES, end: blocks_end(SEGMENT_BYTES), sealed: false,
        };
        let blocks = Survey::all(&mut stream, &Alone { segment, file }, Proof::Records).unwrap();
        let found: Vec<_> = blocks.into_iter().map(|block| (block.offset, block.damaged)).collect();
        prop_assert_eq!(found, blocks_of(&log.disk.read_file(&name).unwrap(), id));
    }
}

/// Three segments, five blocks each.
fn three_segments() -> Log {
    let mut log = Log::new(1);
    for _ in 0..3 {
        log.roll();
        for _ in 0..5 {
            log.append(&[100, 2000, 30]);
        }
    }
    log.sync();
    log
}

#[test]
fn a_segment_deleted_in_the_middle_is_named_exactly() {
    let log = three_segments();
    log.disk.remove_file(&slot_name(1)).unwrap();
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!(said.lost, [(16, 30)]);
    assert_eq!(said.records.len(), 30);
    let damage: Vec<_> = recovered.damage.iter().map(|it| (it.first_sequence, it.last_sequence)).collect();
    assert_eq!(damage, [(16, 30)]);
}

#[test]
fn a_segment_deleted_in_front_is_named_unless_it_was_confirmed() {
    let mut log = three_segments();
    log.disk.remove_file(&slot_name(0)).unwrap();
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!((said.lost, recovered.damage.len()), (vec![(1, 15)], 1));
    log.confirmed = 15;
    let (said, recovered) = read(&log.disk, &log.known(), 16);
    assert_eq!((said.lost, recovered.damage.len()), (vec![], 0));
}

#[test]
fn a_bit_flipped_anywhere_in_a_record_costs_that_record_alone() {
    let log = three_segments();
    // The second record of the third block of a segment that is read, and not surveyed.
    let (block, frame) = (3 * ALIGNMENT as u64, 112 + 125);
    for offset in (frame..frame + 30).chain([frame + 2000]) {
        for bit in 0..8 {
            log.disk.flip(&slot_name(0), block + offset, bit).unwrap();
            let (said, _) = read(&log.disk, &log.known(), 1);
            assert_eq!((said.lost, said.records.len()), (vec![(8, 8)], 44), "bit {bit} of {offset}");
            log.disk.flip(&slot_name(0), block + offset, bit).unwrap();
        }
    }
}

#[test]
fn a_segment_cut_short_costs_what_was_behind() {
    for kept_blocks in 0..5 {
        let log = three_segments();
        log.disk.truncate(&slot_name(1), (1 + kept_blocks) * ALIGNMENT as u64).unwrap();
        let (said, _) = read(&log.disk, &log.known(), 1);
        assert_eq!(said.lost, [(16 + kept_blocks * 3, 30)]);
    }
}

#[test]
fn a_segment_cut_to_nothing_is_as_one_deleted() {
    let log = three_segments();
    log.disk.truncate(&slot_name(1), 0).unwrap();
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!(said.lost, [(16, 30)]);
    assert_eq!(recovered.refused[0].reason, RefusedReason::HalfMade);
}

#[test]
fn a_page_that_cannot_be_read_costs_its_records() {
    let log = three_segments();
    let page = ALIGNMENT as u64;
    log.disk.fail_reads(&slot_name(1), 2 * page..3 * page).unwrap();
    let (said, _) = read(&log.disk, &log.known(), 1);
    assert_eq!(said.lost, [(19, 21)]);
    assert_eq!(said.records.len(), 42);
}

#[test]
fn the_page_of_a_header_that_cannot_be_read_is_rebuilt() {
    let log = three_segments();
    log.disk.fail_reads(&slot_name(2), 0..ALIGNMENT as u64).unwrap();
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!((said.records.len(), said.lost), (45, vec![]));
    assert_eq!(recovered.report.len(), 1, "it is said");
}

#[test]
fn what_was_durable_at_the_end_and_is_gone_is_named_and_never_comes_back() {
    let log = three_segments();
    // The last block's header and each of its records.
    for offset in [30, 112 + 30, 237 + 30, 2262 + 30] {
        log.disk.flip(&slot_name(2), 5 * ALIGNMENT as u64 + offset, 1).unwrap();
    }
    let (_, recovered) = read(&log.disk, &log.known(), 1);
    let lost = recovered.lost_tail.expect("it was durable");
    assert_eq!((lost.first_sequence, lost.last_sequence), (43, 45));
    assert_eq!(recovered.next_sequence, 46);
    assert!(recovered.epoch_base <= lost.first_sequence);
}

#[test]
fn copies_and_strangers_are_refused_and_left_alone() {
    let log = three_segments();
    let copy = log.disk.read_file(&slot_name(1)).unwrap();
    log.disk.write_file(&slot_name(7), &copy);
    let mut foreign = copy;
    let header = SegmentHeader { segment_bytes: U64::new(SEGMENT_BYTES), ..SegmentHeader::new_zeroed() };
    seal_envelope(Envelope::Segment, StoreId([1; 16]), 3, header.as_bytes(), &mut foreign[..ALIGNMENT]);
    log.disk.write_file(&slot_name(8), &foreign);
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!((said.records.len(), said.lost), (45, vec![]));
    let refused: Vec<_> = recovered.refused.iter().map(|it| (it.slot, it.reason)).collect();
    assert_eq!(refused, [(8, RefusedReason::Foreign), (7, RefusedReason::Duplicate)]);
    assert_eq!(recovered.catalog.spares().len(), 0);
}

#[test]
fn sequences_that_memory_delivered_are_a_jump_not_a_loss() {
    let mut log = Log::new(3);
    log.next_sequence = 101;
    log.append(&[1, 2]);
    log.next_sequence = 201;
    log.append(&[3]);
    log.roll();
    log.next_sequence = 301;
    log.append(&[4]);
    log.sync();
    let (said, recovered) = read(&log.disk, &log.known(), 1);
    assert_eq!(said.jumps, [(1, 100), (103, 200), (202, 300)]);
    assert_eq!((said.lost, recovered.damage), (vec![], vec![]));
    assert_eq!(said.records.into_keys().collect::<Vec<_>>(), [101, 102, 201, 301]);
}

#[test]
fn from_the_middle_nothing_before_is_returned() {
    let log = three_segments();
    for from in 1..=46 {
        let (said, _) = read(&log.disk, &log.known(), from);
        assert_eq!(said.records.into_keys().collect::<Vec<_>>(), (from..=45).collect::<Vec<_>>());
    }
}

/// Believed by nobody but who looks for it where it was put, whatever its bytes say of themselves.
#[test]
fn a_block_that_was_moved_is_no_block() {
    let arena = Arena::new(SLOT_BYTES, 1).unwrap();
    let epoch = Epoch(1 << 32);
    let mut open = OpenBlock::new(arena.take().unwrap(), Seed::new(STORE, epoch));
    let piece = Piece { sequence: 7, timestamp: 0, key: b"", payload: b"payload", place: None };
    open.push(&piece);
    let place = Place {
        store: STORE,
        epoch,
        epoch_base: 1,
        segment: 3,
        offset: 8192,
        previous_sequence: 6,
        durable_sequence: 6,
    };
    let bytes = open.seal(1).place(&place);
    let reads =
        |bytes: &[u8], store, segment, offset| BlockView::read(bytes, store, segment, offset).is_some();
    assert!(reads(&bytes, STORE, 3, 8192));
    assert!(!reads(&bytes, STORE, 4, 8192), "another segment, in the same slot");
    assert!(!reads(&bytes, STORE, 3, 4096), "another offset");
    assert!(!reads(&bytes, StoreId([8; 16]), 3, 8192), "another store");
    // Where the bytes are made to name the other place too, the checksum knows it.
    let renamed = |change: &dyn Fn(&mut BlockHeader)| {
        let mut bytes = bytes.to_vec();
        let (mut header, _) = BlockHeader::read_from_prefix(&bytes).unwrap();
        change(&mut header);
        bytes[..format::BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes
    };
    assert!(!reads(&renamed(&|header| header.segment = U64::new(4)), STORE, 4, 8192));
    assert!(!reads(&renamed(&|header| header.offset = U64::new(4096)), STORE, 3, 4096));
    assert!(!reads(&renamed(&|header| header.epoch = U64::new(2 << 32)), STORE, 3, 8192));
}
