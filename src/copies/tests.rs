//! Tests of files of two copies.

use super::*;
use crate::copies::power_disk::PowerDisk;
use crate::io::sim::{CrashPoint, Dropped, Fault, FaultRates, Loss, Phase, SimDisk};

const STORE: StoreId = StoreId([7; 16]);
const COPY_BYTES: usize = 4096;
const LAYOUT: Layout<'static> = Layout { name: "two", kind: Envelope::State, copy_bytes: COPY_BYTES };

type Says = Opened<Vec<u8>>;

/// A body that takes most of a copy, so that it can tear.
fn body(number: u8) -> Vec<u8> {
    vec![number; 3900]
}

fn as_it_is(body: &[u8]) -> Option<Vec<u8>> {
    Some(body.to_vec())
}

fn look(disk: &PowerDisk, access: Access) -> Result<Found<Says>> {
    TwoCopies::open(disk, LAYOUT, Some(STORE), access, as_it_is)
}

fn open(disk: &PowerDisk) -> Says {
    look(disk, Access::Write).unwrap().sound().expect("one copy is sound")
}

/// The file while every sync of the disk fails.
fn open_without_sync(disk: &PowerDisk) -> TwoCopies {
    look(disk, Access::Read).unwrap().sound().unwrap().copies
}

/// A disk with the file on it, saying 2 and, before that, 1.
fn disk_saying_two() -> PowerDisk {
    let disk = PowerDisk::default();
    let mut copies = TwoCopies::create(&disk, LAYOUT, STORE, &body(0)).unwrap();
    disk.sync_names().unwrap();
    copies.write(&body(1)).unwrap();
    copies.write(&body(2)).unwrap();
    disk.take_writes();
    disk
}

/// Cuts the power at every operation of a write, lets every subset of sectors through, and says what goes wrong.
fn violation_of(write: impl Fn(&mut TwoCopies, &[u8]) -> Result<()>) -> Option<String> {
    for operations in 0..4 {
        let disk = disk_saying_two();
        let mut copies = open(&disk).copies;
        disk.cut_power_after(operations);
        let written = write(&mut copies, &body(3));
        let allowed = if written.is_ok() { vec![body(3)] } else { vec![body(2), body(3)] };
        for kept in 0..1 << disk.dirty_sector_count() {
            let disk = disk.after_power_cut(kept, false);
            match look(&disk, Access::Write).unwrap().sound() {
                Some(opened) if allowed.contains(&opened.newest) => {}
                other => return Some(format!("cut after {operations}, sectors {kept:#b}: {other:?}")),
            }
        }
    }
    None
}

#[test]
fn after_any_power_cut_the_file_says_the_old_or_the_new_and_after_ok_the_new() {
    assert_eq!(violation_of(TwoCopies::write), None);
}

#[test]
fn writing_over_the_newer_copy_would_be_caught() {
    let over_the_newer = |copies: &mut TwoCopies, body: &[u8]| {
        copies.write_copy(copies.generation + 2, body)?;
        copies.sync()
    };
    assert!(violation_of(over_the_newer).is_some());
}

#[test]
fn answering_before_the_sync_would_be_caught() {
    let unsynced = |copies: &mut TwoCopies, body: &[u8]| copies.write_copy(copies.generation + 1, body);
    assert!(violation_of(unsynced).is_some());
}

#[test]
fn a_creation_that_is_cut_leaves_nothing_or_damage_or_the_file() {
    for operations in 0..6 {
        let disk = PowerDisk::default();
        disk.cut_power_after(operations);
        let created = TwoCopies::create(&disk, LAYOUT, STORE, &body(1)).and_then(|copies| {
            disk.sync_names().map(|()| copies).map_err(|error| Error::io("cannot sync names", error))
        });
        for kept in [0, 1, 0xff, 0xff00, 0x7fff, 0xfffe, 0xffff] {
            for keeps_names in [false, true] {
                let disk = disk.after_power_cut(kept, keeps_names);
                match look(&disk, Access::Write).unwrap() {
                    Found::Sound(opened) => assert_eq!(opened.newest, body(1)),
                    Found::Missing | Found::Damaged { .. } => assert!(created.is_err()),
                }
            }
        }
    }
}

#[test]
fn a_failed_creation_leaves_no_file() {
    let disk = PowerDisk::default();
    disk.fail_syncs(true);
    let error = TwoCopies::create(&disk, LAYOUT, STORE, &body(1)).unwrap_err();
    assert_eq!(error.to_string(), "cannot sync two");
    assert_eq!(disk.names().unwrap(), Vec::<String>::new());
}

#[test]
fn damage_anywhere_in_one_copy_leaves_the_other() {
    let disk = disk_saying_two();
    for place in 0..2 * COPY_BYTES {
        let disk = disk.copied();
        disk.damage("two", |bytes| bytes[place] ^= 1 << (place % 8));
        let opened = open(&disk);
        let is_in_use = place % COPY_BYTES < ENVELOPE_BYTES + body(0).len();
        // Generations: created as 1 and 2, written as 3 (copy 0, body 1) and 4 (copy 1, body 2).
        let expected = if is_in_use && place >= COPY_BYTES { body(1) } else { body(2) };
        assert_eq!(opened.newest, expected, "at {place}");
        assert_eq!(opened.copies.damaged_copies(), u8::from(is_in_use), "at {place}");
        assert_eq!(opened.other.is_none(), is_in_use, "at {place}");
    }
}

#[test]
fn a_file_of_any_length_says_what_it_can_and_never_panics() {
    let disk = disk_saying_two();
    let used = ENVELOPE_BYTES + body(0).len();
    for length in (0..2 * COPY_BYTES).step_by(7) {
        let disk = disk.copied();
        disk.damage("two", |bytes| bytes.truncate(length));
        let found = look(&disk, Access::Write).unwrap();
        match found.sound() {
            Some(opened) if length >= COPY_BYTES + used => assert_eq!(opened.newest, body(2)),
            Some(opened) => assert!(length >= used && opened.newest == body(1)),
            None => assert!(length < used),
        }
    }
}

#[test]
fn two_damaged_copies_are_an_outcome_and_can_be_replaced() {
    let disk = disk_saying_two();
    disk.damage("two", |bytes| bytes.fill(0));
    assert!(matches!(look(&disk, Access::Read).unwrap(), Found::Damaged { blank: true }));
    disk.damage("two", |bytes| bytes.fill(9));
    assert!(matches!(look(&disk, Access::Read).unwrap(), Found::Damaged { blank: false }));
    TwoCopies::replace(&disk, LAYOUT, STORE, &body(5)).unwrap();
    let opened = open(&disk);
    assert_eq!((opened.newest, opened.other), (body(5), Some(body(5))));
}

#[test]
fn a_damaged_copy_is_the_next_one_to_be_written() {
    for (damaged, says) in [(0, 2), (1, 1)] {
        let disk = disk_saying_two();
        disk.damage("two", |bytes| bytes[damaged * COPY_BYTES] ^= 1);
        let mut copies = open(&disk).copies;
        copies.write(&body(3)).unwrap();
        assert_eq!(copies.damaged_copies(), 0);
        let opened = open(&disk);
        assert_eq!((opened.newest, opened.other), (body(3), Some(body(says))));
    }
}

#[test]
fn a_copy_that_its_owner_cannot_read_is_damaged() {
    let disk = disk_saying_two();
    let not_two = |bytes: &[u8]| (bytes[0] != 2).then(|| bytes.to_vec());
    let opened = TwoCopies::open(&disk, LAYOUT, None, Access::Read, not_two).unwrap().sound().unwrap();
    assert_eq!((opened.newest, opened.copies.damaged_copies()), (body(1), 1));
    assert_eq!(opened.copies.store(), STORE);
}

#[test]
fn a_copy_in_the_place_of_the_other_is_damaged() {
    let disk = disk_saying_two();
    disk.damage("two", |bytes| bytes.copy_within(COPY_BYTES.., 0));
    let opened = open(&disk);
    assert_eq!((opened.newest, opened.copies.damaged_copies()), (body(2), 1));
}

#[test]
fn one_copy_that_cannot_be_read_is_damage_and_two_are_an_error() {
    let disk = disk_saying_two();
    disk.make_unreadable(5000..5001);
    assert_eq!(open(&disk).newest, body(1));
    disk.make_unreadable(4000..5001);
    let error = look(&disk, Access::Write).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Failed, "cannot read two"));
}

#[test]
fn a_later_version_is_named_and_not_touched() {
    let disk = disk_saying_two();
    disk.damage("two", |bytes| {
        bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[48..48 + body(0).len()]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = look(&disk, Access::Write).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(error.to_string(), "two is of version 9, and this program reads up to 1");
}

#[test]
fn the_file_of_another_store_is_refused() {
    let disk = disk_saying_two();
    let other = Some(StoreId([8; 16]));
    let error = TwoCopies::open(&disk, LAYOUT, other, Access::Write, as_it_is).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(error.to_string(), format!("two belongs to another store, {STORE}"));
}

#[test]
fn after_a_failed_sync_the_file_is_latched_until_it_is_opened_again() {
    let disk = disk_saying_two();
    let mut copies = open(&disk).copies;
    disk.fail_syncs(true);
    assert_eq!(copies.write(&body(3)).unwrap_err().to_string(), "cannot sync two");
    disk.fail_syncs(false);
    disk.take_writes();
    let error = copies.write(&body(4)).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().starts_with("two failed to sync before"), "{error}");
    assert_eq!(disk.take_writes(), [], "a latched file is not written");
    open(&disk).copies.write(&body(4)).unwrap();
    assert_eq!(open(&disk).newest, body(4));
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_never_built_upon() {
    for operations in 0..4 {
        let disk = disk_saying_two();
        disk.fail_syncs(true);
        assert!(open_without_sync(&disk).write(&body(3)).is_err());
        disk.fail_syncs(false);
        let mut copies = open(&disk).copies;
        disk.cut_power_after(operations);
        let is_written = copies.write(&body(4)).is_ok();
        for kept in 0..1 << disk.dirty_sector_count() {
            let says = open(&disk.after_power_cut(kept, false)).newest;
            assert!(says == body(4) || (!is_written && says == body(2)), "said {}", says[0]);
        }
    }
}

#[test]
fn a_failed_write_may_be_tried_again_and_hurts_nothing() {
    let disk = disk_saying_two();
    let mut copies = open(&disk).copies;
    disk.fail_writes(true);
    assert_eq!(copies.write(&body(3)).unwrap_err().to_string(), "cannot write two");
    assert_eq!(open(&disk).newest, body(2));
    disk.fail_writes(false);
    copies.write(&body(3)).unwrap();
    assert_eq!(open(&disk).newest, body(3));
}

#[test]
fn only_the_bytes_in_use_are_written_and_alternately() {
    let disk = PowerDisk::default();
    let layout = Layout { copy_bytes: 4 * COPY_BYTES, ..LAYOUT };
    let mut copies = TwoCopies::create(&disk, layout, STORE, &[]).unwrap();
    assert_eq!(disk.take_writes(), [(0, 4096), (16384, 4096)]);
    copies.write(&body(1)).unwrap();
    assert_eq!(disk.take_writes(), [(0, 4096)]);
    copies.write(&[2; 4096]).unwrap();
    assert_eq!(disk.take_writes(), [(16384, 4096), (20480, 4096)]);
    copies.write(&[]).unwrap();
    assert_eq!(disk.take_writes(), [(0, 4096)]);
}

#[test]
fn a_reader_neither_writes_nor_syncs() {
    let disk = disk_saying_two();
    disk.cut_power_after(0);
    assert_eq!(look(&disk, Access::Read).unwrap().sound().unwrap().newest, body(2));
}

/// Runs a life of the file on a simulated disk: made, named, written ten times. Says how far it came (0: not even
/// made durably) and what was being written.
fn life(disk: &SimDisk, write: &impl Fn(&mut TwoCopies, &[u8]) -> Result<()>) -> (u8, u8) {
    let made = TwoCopies::create(disk, LAYOUT, STORE, &body(1));
    let Ok(mut copies) = made else { return (0, 1) };
    if disk.sync_names().is_err() {
        return (0, 1);
    }
    go_on(&mut copies, 1, write)
}

fn go_on(copies: &mut TwoCopies, said: u8, write: &impl Fn(&mut TwoCopies, &[u8]) -> Result<()>) -> (u8, u8) {
    for number in said + 1..said + 10 {
        if write(copies, &body(number)).is_err() {
            return (number - 1, number);
        }
    }
    (said + 9, said + 9)
}

/// Cuts the power twice: at `point`, and again at every point of the life after it.
fn sim_violation_of(
    seed: u64,
    loss: Loss,
    write: &impl Fn(&mut TwoCopies, &[u8]) -> Result<()>,
) -> Option<String> {
    let whole = SimDisk::new(seed);
    life(&whole, write);
    for (operation, phase) in
        (1..=whole.operation_count()).flat_map(|operation| Phase::EVERY.map(|phase| (operation, phase)))
    {
        let disk = SimDisk::new(seed);
        disk.set_fault_rates(FaultRates {
            short_writes_per_mille: 200,
            short_reads_per_mille: 200,
            ..FaultRates::default()
        });
        disk.set_crash_at(CrashPoint { operation, phase });
        let mut bounds = life(&disk, write);
        let mut disk = disk;
        for again in 2..5 {
            disk = disk.power_cut(loss);
            let found = TwoCopies::open(&disk, LAYOUT, Some(STORE), Access::Write, as_it_is).unwrap();
            let Found::Sound(mut opened) = found else {
                if bounds.0 == 0 {
                    break;
                }
                return Some(format!("{loss:?} {operation} {phase:?}: {bounds:?} but {found:?}"));
            };
            let says = opened.newest[0];
            if !(bounds.0..=bounds.1).contains(&says) {
                return Some(format!("{loss:?} {operation} {phase:?}: {bounds:?} but {says}"));
            }
            disk.set_crash_at(CrashPoint { operation: disk.operation_count() + again, phase });
            bounds = go_on(&mut opened.copies, says, write);
        }
    }
    None
}

#[test]
fn on_a_simulated_disk_no_series_of_power_cuts_takes_back_what_was_said() {
    for (seed, loss) in (0..4).flat_map(|seed| Loss::EVERY.map(|loss| (seed, loss))) {
        assert_eq!(sim_violation_of(seed, loss, &TwoCopies::write), None, "seed {seed}");
    }
}

#[test]
fn on_a_simulated_disk_too_writing_over_the_newer_copy_would_be_caught() {
    let over_the_newer = |copies: &mut TwoCopies, body: &[u8]| {
        copies.write_copy(copies.generation + 2, body)?;
        copies.sync()?;
        copies.generation += 2;
        Ok(())
    };
    assert!((0..4).any(|seed| sim_violation_of(seed, Loss::Each, &over_the_newer).is_some()));
}

#[test]
fn after_a_failed_sync_and_a_new_open_a_power_cut_takes_back_nothing() {
    for (seed, loss) in (0..8).flat_map(|seed| Loss::EVERY.map(|loss| (seed, loss))) {
        for (dropped, after) in
            (0..4).flat_map(|after| [(Dropped::ReadsNew, after), (Dropped::ReadsOld, after)])
        {
            let disk = SimDisk::new(seed);
            let mut copies = TwoCopies::create(&disk, LAYOUT, STORE, &body(1)).unwrap();
            disk.sync_names().unwrap();
            copies.write(&body(2)).unwrap();
            disk.inject(Fault::SyncDrops { nth: 1, dropped });
            assert!(copies.write(&body(3)).is_err());
            let disk = disk.kill();
            let look = |disk: &SimDisk| {
                let found = TwoCopies::open(disk, LAYOUT, Some(STORE), Access::Write, as_it_is).unwrap();
                found.sound().expect("what was said is still there")
            };
            let mut opened = look(&disk);
            assert_eq!(opened.newest, body(2), "nothing is built upon a failed sync");
            disk.set_crash_after(disk.operation_count() + after);
            let is_written = opened.copies.write(&body(4)).is_ok();
            let says = look(&disk.power_cut(loss)).newest[0];
            assert!(says == 4 || (!is_written && says == 2), "said {says}");
        }
    }
}
