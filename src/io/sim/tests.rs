//! What the simulated disk promises, proved; where chance draws, over many seeds and both ways.

use super::*;
use crate::io::{Completion, FileIndex, Operation, Read, Wait};

const BLOCK: usize = 4096;
const SEEDS: u64 = 64;

fn options() -> DeviceOptions {
    DeviceOptions { backend: Default::default(), in_flight_count_max: 8, registered_bytes_max: 1 << 20 }
}

fn arena() -> Arc<Arena> {
    Arena::new(4 * BLOCK, 16).unwrap()
}

/// A disk with the durable file `f` of `blocks` zero blocks, and a device that has it attached.
struct Bench {
    disk: SimDisk,
    arena: Arc<Arena>,
    file: Arc<dyn File>,
    index: FileIndex,
    device: Box<dyn WriteDevice>,
}

fn bench(seed: u64, blocks: usize) -> Bench {
    let disk = SimDisk::new(seed);
    disk.write_file("f", &vec![0; blocks * BLOCK]);
    bench_on(disk)
}

fn bench_on(disk: SimDisk) -> Bench {
    let arena = arena();
    let file = disk.open("f", Access::WriteDirect).unwrap();
    let mut device = disk.write_device(&arena, options()).unwrap();
    let index = device.attach(Arc::clone(&file)).unwrap();
    Bench { disk, arena, file, index, device }
}

impl Bench {
    /// Submits a write of `blocks` blocks full of `mark` at block `at`.
    fn write(&mut self, token: u64, at: usize, blocks: usize, mark: u8, dsync: bool) {
        let mut slot = self.arena.take().unwrap();
        slot.fill(mark);
        let (range, offset) = (0..blocks * BLOCK, (at * BLOCK) as u64);
        let slot = Arc::new(slot);
        self.device.submit(Operation::Write { token, file: self.index, slot, range, offset, dsync });
    }

    fn sync(&mut self, token: u64) {
        self.device.submit(Operation::Sync { token, file: self.index });
    }

    /// Waits for `count` completions.
    fn receive(&mut self, count: usize) -> Vec<Completion> {
        let mut completions = Vec::new();
        while completions.len() < count {
            self.device.wait(Wait::Forever, &mut completions).unwrap();
        }
        completions
    }
}

/// The byte that each sector of `f` is full of.
fn sectors(disk: &SimDisk) -> Vec<u8> {
    let bytes = disk.read_file("f").unwrap();
    for sector in bytes.chunks(512) {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written whole or not at all");
    }
    bytes.chunks(512).map(|sector| sector[0]).collect()
}

fn errno_of<T>(result: io::Result<T>) -> Option<i32> {
    result.err().expect("an error").raw_os_error()
}

const EIO: Option<i32> = Some(5);
const ENOSPC: Option<i32> = Some(28);
const EINVAL: Option<i32> = Some(22);

#[test]
fn a_sync_covers_what_was_received_before_it_was_submitted_and_nothing_else() {
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 2);
        bench.write(1, 0, 1, 1, false);
        bench.receive(1);
        // In flight when the sync is submitted, and over, by chance, before the sync is.
        bench.write(2, 1, 1, 2, false);
        bench.sync(3);
        bench.receive(2);
        assert_eq!(sectors(&bench.disk), [[1; 8], [2; 8]].concat());
        assert_eq!(sectors(&bench.disk.power_cut(Loss::All)), [[1; 8], [0; 8]].concat());
    }
}

#[test]
fn a_sync_of_the_file_covers_what_devices_were_told_of_and_all_blocking_writes() {
    let mut bench = bench(1, 3);
    bench.write(1, 0, 1, 1, false);
    bench.receive(1);
    bench.write(2, 1, 1, 2, false);
    let mut slot = bench.arena.take().unwrap();
    slot.fill(3);
    assert_eq!(bench.file.write_at(&slot[..BLOCK], 2 * BLOCK as u64).unwrap(), BLOCK);
    bench.file.sync().unwrap();
    bench.receive(1);
    assert_eq!(sectors(&bench.disk.power_cut(Loss::All)), [[1; 8], [0; 8], [3; 8]].concat());
}

#[test]
fn a_dsync_write_is_durable_alone_once_it_is_complete() {
    let mut bench = bench(2, 3);
    bench.write(1, 0, 1, 1, false);
    bench.receive(1);
    bench.write(2, 1, 1, 2, true);
    bench.receive(1);
    assert_eq!(sectors(&bench.disk.power_cut(Loss::All)), [[0; 8], [2; 8], [0; 8]].concat());
}

#[test]
fn a_durable_sector_is_never_undone_by_an_older_write() {
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 1);
        bench.disk.inject(Fault::Fail { verb: Verb::Write, nth: 1, errno: 5 });
        bench.write(1, 0, 1, 1, false);
        assert_eq!(errno_of(bench.receive(1).remove(0).result), EIO);
        bench.write(2, 0, 1, 2, false);
        bench.receive(1);
        bench.sync(3);
        bench.receive(1);
        for loss in Loss::EVERY {
            assert_eq!(sectors(&bench.disk.power_cut(loss)), [2; 8], "{loss:?}, seed {seed}");
        }
    }
}

#[test]
fn unsynced_sectors_survive_each_on_its_own_and_synced_ones_always() {
    let (mut torn, mut reordered) = (0, 0);
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 3);
        bench.write(1, 0, 1, 1, true);
        bench.receive(1);
        bench.write(2, 1, 1, 2, false);
        bench.receive(1);
        bench.write(3, 2, 1, 3, false);
        let found = sectors(&bench.disk.power_cut(Loss::Each));
        assert_eq!(found[..8], [1; 8]);
        torn += usize::from(found[8..16].contains(&0) && found[8..16].contains(&2));
        reordered += usize::from(found[8..16].contains(&0) && found[16..].contains(&3));
        assert!(
            found.iter().zip([1, 2, 3].iter().flat_map(|mark| [mark; 8])).all(|(a, b)| a == b || *a == 0)
        );
    }
    assert!(torn > 0 && reordered > 0, "{torn} torn, {reordered} reordered");
}

#[test]
fn a_prefix_has_no_hole_and_the_newest_alone_has_nothing_before_it() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 4);
        for at in 0..4 {
            bench.write(at, at as usize, 1, 9, false);
            bench.receive(1);
        }
        let found = sectors(&bench.disk.power_cut(Loss::Prefix));
        let kept = found.iter().take_while(|mark| **mark == 9).count();
        assert!(found[kept..].iter().all(|mark| *mark == 0), "seed {seed}: {found:?}");
        lengths.insert(kept);
        assert_eq!(sectors(&bench.disk.power_cut(Loss::NewestOnly)), [[0; 24].as_slice(), &[9; 8]].concat());
        assert_eq!(sectors(&bench.disk.power_cut(Loss::None)), [9; 32]);
    }
    assert!(lengths.len() > 8 && lengths.contains(&32), "{lengths:?}");
}

#[test]
fn junk_is_found_only_where_a_write_was_in_flight() {
    let mut junk = 0;
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 3);
        bench.write(1, 0, 1, 1, false);
        bench.receive(1);
        bench.write(2, 1, 1, 2, false);
        let bytes = bench.disk.power_cut(Loss::Junk).read_file("f").unwrap();
        assert!(bytes[..BLOCK].iter().all(|byte| *byte <= 1));
        assert!(bytes[2 * BLOCK..].iter().all(|byte| *byte == 0));
        junk += usize::from(bytes[BLOCK..2 * BLOCK].iter().any(|byte| ![0, 2].contains(byte)));
    }
    assert!(junk > 0);
}

#[test]
fn a_name_that_was_not_synced_may_vanish_with_content_that_was() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = disk.create("new", 10, Access::Write).unwrap();
        file.write_at(b"0123456789", 0).unwrap();
        file.sync().unwrap();
        assert!(disk.power_cut(Loss::All).file_names().is_empty());
        match disk.power_cut(Loss::Each).read_file("new") {
            Ok(bytes) => {
                assert_eq!(bytes, b"0123456789");
                kept += 1;
            }
            Err(_) => lost += 1,
        }
        let disk = SimDisk::new(seed);
        drop(disk.create("new", 0, Access::Write).unwrap());
        disk.sync_names().unwrap();
        assert_eq!(disk.power_cut(Loss::All).file_names(), ["new"]);
    }
    assert!(kept > 0 && lost > 0);
}

#[test]
fn a_sync_of_names_in_flight_covers_what_came_before_it_and_nothing_in_a_subdirectory() {
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 1);
        drop(bench.disk.create("before", 0, Access::Write).unwrap());
        bench.device.submit(Operation::SyncNames { token: 1 });
        drop(bench.disk.create("after", 0, Access::Write).unwrap());
        assert!(bench.receive(1)[0].result.is_ok());
        assert_eq!(bench.disk.fork().power_cut(Loss::All).file_names(), ["before", "f"]);
        bench.disk.rename("f", "quarantine/f").unwrap();
        bench.device.submit(Operation::SyncNames { token: 2 });
        assert!(bench.receive(1)[0].result.is_ok());
        assert_eq!(bench.disk.power_cut(Loss::All).file_names(), ["after", "before", "f"]);
    }
}

#[test]
fn any_subset_of_the_changes_of_names_survives_and_each_name_has_one_of_its_states() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..4 * SEEDS {
        let disk = SimDisk::new(seed);
        disk.write_file("a", b"old a");
        disk.write_file("b", b"b");
        disk.rename("b", "quarantine/b").unwrap();
        disk.remove("a").unwrap();
        let file = disk.create("a", 0, Access::Write).unwrap();
        file.write_at(b"new a", 0).unwrap();
        file.sync().unwrap();
        assert_eq!((disk.names().unwrap(), disk.file_names().len()), (vec!["a".to_owned()], 2));
        let found = disk.power_cut(Loss::Each);
        assert_eq!(found.read_file("b").is_ok(), found.read_file("quarantine/b").is_err());
        outcomes.insert((found.read_file("a").ok(), found.read_file("b").is_ok()));
    }
    assert_eq!(outcomes.len(), 6, "a: old, none, new; b: old name, new name: {outcomes:?}");
}

#[test]
fn a_length_that_was_not_synced_may_be_lost() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = disk.create("f", 8192, Access::Write).unwrap();
        disk.sync_names().unwrap();
        lengths.insert(disk.power_cut(Loss::Each).read_file("f").unwrap().len());
        assert_eq!(disk.power_cut(Loss::All).read_file("f").unwrap().len(), 0);
        assert_eq!(disk.power_cut(Loss::None).read_file("f").unwrap().len(), 8192);
        assert_eq!(errno_of(file.sync()), EIO, "the old disk is gone");
        let disk = SimDisk::new(seed);
        let file = disk.create("f", 8192, Access::Write).unwrap();
        disk.sync_names().unwrap();
        file.sync().unwrap();
        assert_eq!(disk.power_cut(Loss::All).read_file("f").unwrap().len(), 8192);
    }
    assert!(lengths.contains(&0) && lengths.contains(&8192) && lengths.len() > 2, "{lengths:?}");
}

/// A workload that does everything once or more, as far as the disk lets it.
fn everything(disk: &SimDisk) -> io::Result<()> {
    let file = disk.create("tmp", 2 * BLOCK as u64, Access::WriteDirect)?;
    file.sync()?;
    disk.rename("tmp", "f")?;
    disk.sync_names()?;
    let mut bench = bench_on(disk.clone());
    for round in 0..4 {
        bench.write(2 * round, 0, 1, 1, false);
        bench.write(2 * round + 1, 1, 1, 2, round % 2 == 0);
        let results = bench.receive(2).into_iter().map(|completion| completion.result.map(drop));
        results.collect::<io::Result<()>>()?;
        bench.sync(99);
        bench.receive(1).remove(0).result?;
    }
    disk.create("old", 0, Access::Write)?.write_at(b"x", 0)?;
    disk.remove("old")
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| {
        let disk = SimDisk::new(seed);
        disk.set_fault_rates(FaultRates { short_reads_per_mille: 100, ..FaultRates::default() });
        everything(&disk).unwrap();
        (disk.trace(), disk.operation_count())
    };
    for seed in 0..8 {
        assert_eq!(trace(seed), trace(seed));
        assert_eq!(trace(seed).1, trace(seed + 1).1, "faultless, the same work is as many operations");
        assert_ne!(trace(seed).0, trace(seed + 1).0);
    }
}

#[test]
fn a_crash_at_each_operation_stops_everything_and_is_the_same_each_time() {
    let whole = SimDisk::new(3);
    everything(&whole).unwrap();
    for operation in 1..=whole.operation_count() {
        for phase in Phase::EVERY {
            let crash = || {
                let disk = SimDisk::new(3);
                disk.set_crash_at(CrashPoint { operation, phase });
                assert!(everything(&disk).is_err(), "{operation} {phase:?} went unnoticed");
                assert_eq!((disk.operation_count(), disk.is_dead()), (operation, true));
                disk
            };
            let (one, other) = (crash(), crash());
            assert!(one.create("late", 0, Access::Write).is_err() && one.names().is_err());
            for loss in Loss::EVERY {
                let (one, other) = (one.power_cut(loss), other.power_cut(loss));
                assert_eq!(one.file_names(), other.file_names());
                assert!(!one.file_names().contains(&"late".to_owned()));
                assert!(
                    one.file_names()
                        .iter()
                        .all(|name| one.read_file(name).ok() == other.read_file(name).ok())
                );
                everything_again(&one);
            }
        }
    }
}

/// The disk after a power cut is a good disk.
fn everything_again(disk: &SimDisk) {
    disk.file_names().iter().for_each(|name| disk.remove(name).unwrap());
    everything(disk).unwrap();
}

#[test]
fn a_write_that_the_crash_hits_is_absent_torn_or_whole() {
    let mut torn = 0;
    for seed in 0..SEEDS {
        for (phase, whole) in [(Phase::Before, false), (Phase::After, true)] {
            let mut bench = bench(seed, 1);
            bench.disk.set_crash_at(CrashPoint { operation: 1, phase });
            bench.write(1, 0, 1, 7, false);
            assert_eq!(errno_of(bench.receive(1).remove(0).result), EIO);
            assert_eq!(bench.arena.free_count(), 16);
            assert_eq!(sectors(&bench.disk.power_cut(Loss::None)), [if whole { 7 } else { 0 }; 8]);
        }
        let mut bench = bench(seed, 1);
        bench.disk.set_crash_at(CrashPoint { operation: 1, phase: Phase::During });
        bench.write(1, 0, 1, 7, false);
        bench.receive(1);
        let found = sectors(&bench.disk.power_cut(Loss::None));
        assert!(found.contains(&0));
        torn += usize::from(found.contains(&7));
    }
    assert!(torn > 0);
}

#[test]
fn a_failed_sync_drops_its_data_and_latches_who_had_the_file_open() {
    for (dropped, shown) in [(Dropped::ReadsNew, 1), (Dropped::ReadsOld, 0)] {
        let mut bench = bench(5, 2);
        bench.disk.inject(Fault::SyncDrops { nth: 1, dropped });
        bench.write(1, 0, 1, 1, false);
        bench.receive(1);
        bench.sync(2);
        assert_eq!(errno_of(bench.receive(1).remove(0).result), EIO);
        assert_eq!(sectors(&bench.disk)[..8], [shown; 8]);
        bench.disk.lift_faults();
        bench.sync(3);
        assert_eq!(errno_of(bench.receive(1).remove(0).result), EIO);
        assert_eq!(errno_of(bench.file.sync()), EIO);
        bench.write(4, 1, 1, 4, true);
        assert_eq!(errno_of(bench.receive(1).remove(0).result), EIO, "a write with dsync is latched too");
        bench.disk.open("f", Access::Write).unwrap().sync().unwrap();
        for loss in Loss::EVERY {
            let bytes = bench.disk.power_cut(loss).read_file("f").unwrap();
            assert!(bytes[..BLOCK].iter().all(|byte| *byte == 0), "the fresh sync lied: {loss:?}");
        }
    }
}

#[test]
fn a_lying_sync_makes_nothing_durable_and_an_honest_one_later_does() {
    let mut bench = bench(6, 1);
    bench.disk.inject(Fault::SyncsLie);
    bench.write(1, 0, 1, 1, true);
    bench.receive(1);
    bench.file.sync().unwrap();
    let honest = bench.disk.fork();
    assert_eq!(sectors(&bench.disk.power_cut(Loss::All)), [0; 8]);
    honest.open("f", Access::Read).unwrap().sync().unwrap();
    assert_eq!(sectors(&honest.power_cut(Loss::All)), [1; 8]);
}

#[test]
fn capacity_is_honest_and_a_refused_file_leaves_nothing() {
    let disk = SimDisk::with_options(1, SimOptions { capacity_bytes: 10_000, ..SimOptions::default() });
    let first = disk.create("first", 6000, Access::Write).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4000);
    assert_eq!(errno_of(disk.create("second", 4001, Access::Write)), ENOSPC);
    assert_eq!((disk.file_names().len(), disk.free_bytes().unwrap()), (1, 4000));
    assert_eq!(first.write_at(&[1; 6000], 6000).unwrap(), 4000, "as much as there is room for");
    assert_eq!(errno_of(first.write_at(&[1; 1], 10_000)), ENOSPC);
    assert_eq!(first.write_at(&[2; 6000], 0).unwrap(), 6000, "what is allocated stays writable");
    disk.remove("first").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0, "an open file keeps its bytes");
    drop(first);
    assert_eq!(disk.free_bytes().unwrap(), 10_000);
    disk.set_capacity(5);
    assert_eq!(disk.free_bytes().unwrap(), 5);
}

#[test]
fn direct_access_must_be_aligned_and_buffered_access_need_not() {
    let mut bench = bench(1, 2);
    let mut slot = bench.arena.take().unwrap();
    assert_eq!((bench.file.alignment(), bench.file.is_direct()), (4096, true));
    assert_eq!(errno_of(bench.file.write_at(&slot[..512], 0)), EINVAL);
    assert_eq!(errno_of(bench.file.write_at(&slot[..4096], 512)), EINVAL);
    assert_eq!(errno_of(bench.file.read_at(&mut slot[512..4608], 0)), EINVAL);
    let buffered = bench.disk.open("f", Access::Write).unwrap();
    assert_eq!((buffered.alignment(), buffered.is_direct()), (1, false));
    assert_eq!(buffered.write_at(b"abc", 511).unwrap(), 3);
    bench.write(1, 0, 1, 1, false);
    assert_eq!(bench.receive(1)[0].result.as_ref().unwrap(), &BLOCK);
    let options = SimOptions { direct_io: false, ..SimOptions::default() };
    let file = SimDisk::with_options(1, options).create("f", 0, Access::WriteDirect).unwrap();
    assert_eq!((file.alignment(), file.is_direct()), (1, false));
}

#[test]
fn the_lock_has_one_holder_and_dies_with_the_power() {
    let disk = SimDisk::new(1);
    let guard = disk.lock().unwrap();
    assert_eq!(disk.lock().err().unwrap().kind(), io::ErrorKind::WouldBlock);
    drop(guard);
    let _guard = disk.lock().unwrap();
    assert!(disk.power_cut(Loss::All).lock().is_ok());
}

#[test]
fn a_hung_device_completes_nothing_until_lifted_and_keeps_its_slots() {
    let options = SimOptions { virtual_time: true, ..SimOptions::default() };
    let disk = SimDisk::with_options(1, options);
    disk.write_file("f", &[0; BLOCK]);
    let mut bench = bench_on(disk);
    bench.disk.inject(Fault::Hang);
    bench.write(1, 0, 1, 1, false);
    let mut completions = Vec::new();
    bench.device.wait(Wait::For(Duration::from_secs(3600)), &mut completions).unwrap();
    bench.device.waker().wake();
    bench.device.wait(Wait::Forever, &mut completions).unwrap();
    assert!(completions.is_empty());
    assert_eq!((bench.disk.elapsed(), bench.arena.free_count()), (Duration::from_secs(3600), 15));
    bench.disk.lift_faults();
    assert!(bench.receive(1)[0].result.is_ok());
    bench.disk.inject(Fault::Hang);
    bench.write(2, 0, 1, 2, false);
    drop(bench.device);
    assert_eq!(bench.arena.free_count(), 15, "the kernel keeps what it has not given back");
}

#[test]
fn transfers_stop_short_at_an_aligned_length() {
    let rates =
        FaultRates { short_reads_per_mille: 1000, short_writes_per_mille: 1000, ..FaultRates::default() };
    for seed in 0..SEEDS {
        let mut bench = bench(seed, 4);
        bench.disk.set_fault_rates(rates);
        bench.write(1, 0, 4, 1, false);
        let len = *bench.receive(1)[0].result.as_ref().unwrap();
        assert!(len.is_multiple_of(BLOCK) && (BLOCK..4 * BLOCK).contains(&len));
        assert_eq!(sectors(&bench.disk).iter().filter(|mark| **mark == 1).count(), len / 512);
        let mut slot = bench.arena.take().unwrap();
        assert!((BLOCK..4 * BLOCK).contains(&bench.file.read_at(&mut slot, 0).unwrap()));
    }
}

#[test]
fn bad_sectors_rot_truncation_and_loss_of_a_file_show_and_survive() {
    let disk = SimDisk::new(1);
    disk.write_file("f", &[0; 2000]);
    disk.write_file("gone", &[1]);
    disk.flip("f", 700, 3).unwrap();
    disk.truncate("f", 1000).unwrap();
    disk.remove_file("gone").unwrap();
    disk.fail_reads("f", 600..601).unwrap();
    assert_eq!(errno_of(disk.flip("f", 1000, 0)), EINVAL);
    for disk in [disk.fork(), disk.power_cut(Loss::All)] {
        assert_eq!(disk.file_names(), ["f"]);
        let bytes = disk.read_file("f").unwrap();
        assert_eq!((bytes.len(), bytes[700], bytes[699]), (1000, 8, 0));
        let file = disk.open("f", Access::Read).unwrap();
        assert_eq!(errno_of(file.read_at(&mut [0; 100], 550)), EIO);
        assert_eq!(file.read_at(&mut [0; 100], 500).unwrap(), 100);
        disk.lift_faults();
        assert_eq!(file.read_at(&mut [0; 600], 550).unwrap(), 450);
    }
}

#[test]
fn a_fork_goes_its_own_way_and_shares_what_neither_has_written() {
    let mut bench = bench(1, 2);
    let fork = bench.disk.fork();
    bench.write(1, 0, 1, 1, true);
    bench.receive(1);
    fork.open("f", Access::Write).unwrap().write_at(&[2; BLOCK], BLOCK as u64).unwrap();
    assert_eq!(sectors(&bench.disk), [[1; 8], [0; 8]].concat());
    assert_eq!(sectors(&fork), [[0; 8], [2; 8]].concat());
}

#[test]
fn a_killed_program_leaves_what_was_applied_dirty() {
    let mut bench = bench(1, 1);
    bench.write(1, 0, 1, 1, false);
    bench.receive(1);
    let after = bench.disk.kill();
    assert_eq!(errno_of(bench.file.len()), EIO);
    assert_eq!(sectors(&after), [1; 8]);
    assert_eq!(sectors(&after.power_cut(Loss::All)), [0; 8]);
}

#[test]
fn scripted_faults_strike_the_operation_they_name() {
    let disk = SimDisk::new(1);
    disk.inject(Fault::Fail { verb: Verb::Create, nth: 2, errno: 24 });
    disk.inject(Fault::WriteVanishes { nth: 2 });
    disk.inject(Fault::WriteStrays { nth: 3, offset: 0 });
    let file = disk.create("f", 1536, Access::Write).unwrap();
    assert_eq!(errno_of(disk.create("g", 0, Access::Write)), Some(24));
    assert!(disk.create("g", 0, Access::Write).is_ok());
    for (mark, offset) in [(1, 0), (2, 512), (3, 1024)] {
        assert_eq!(file.write_at(&[mark; 512], offset).unwrap(), 512);
    }
    assert_eq!(sectors(&disk), [3, 0, 0]);
    disk.inject(Fault::ReadOnly);
    assert_eq!(disk.remove("g").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(disk.open("f", Access::Write).is_err() && disk.open("f", Access::Read).is_ok());
    assert!(disk.open("f", Access::Read).unwrap().write_at(b"x", 0).is_err());
}

#[test]
fn reads_come_back_in_any_order_each_with_its_bytes() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, arena) = (SimDisk::new(seed), arena());
        disk.write_file("f", &(0..4u8).flat_map(|mark| [mark; BLOCK]).collect::<Vec<_>>());
        let file = disk.open("f", Access::ReadDirect).unwrap();
        let mut device = disk.read_device(&arena, options()).unwrap();
        for token in 0..4 {
            let (file, slot) = (Arc::clone(&file), arena.take().unwrap());
            device.submit(Read { token, file, slot, offset: token * BLOCK as u64, len: BLOCK });
        }
        // The device must close the last handle without locking itself out.
        drop(file);
        let mut done = Vec::new();
        while done.len() < 4 {
            device.wait(Wait::Forever, &mut done).unwrap();
        }
        assert!(done.iter().all(|read| read.slot[..BLOCK].iter().all(|byte| u64::from(*byte) == read.token)));
        orders.insert(done.iter().map(|read| read.token).collect::<Vec<_>>());
    }
    assert!(orders.len() > 10);
}

#[test]
#[should_panic(expected = "writes in flight overlap")]
fn writes_in_flight_must_not_overlap() {
    let mut bench = bench(1, 2);
    bench.write(1, 0, 2, 1, false);
    bench.write(2, 1, 1, 2, false);
}
