//! Errors, short transfers, a disk that hangs and one that lies: for every n of a small life.

use std::time::Duration;

use forebay::config::FullPolicy;
use forebay::io::Disk as _;
use forebay::io::sim::{Dropped, Fault, FaultRates, Loss, Verb};
use forebay::store::{Archive, Level, Turn};

use crate::crash::{fill_segments, life};
use crate::oracle::read_back;
use crate::world::{Draw, World, config};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Lives with `fault`: goes on or stops, and keeps what it acked; afterwards the directory opens and goes on.
/// False when the fault never struck.
fn lives_with(seed: u64, fault: &Fault, draw: &mut Draw) -> bool {
    let mut world = World::new(seed, config(FullPolicy::Reject));
    let quiet = {
        let mut quiet = World::new(seed, config(FullPolicy::Reject));
        life(&mut quiet).unwrap();
        quiet.disk.trace()
    };
    world.disk.inject(fault.clone());
    let lived = life(&mut world);
    let stopped = lived.is_err();
    for loss in [Loss::All, Loss::None, draw.of(&Loss::EVERY)] {
        let context = format!("{fault:?}, stopped {stopped}");
        let mut after = world.after_power_cut(loss, &context);
        after.reopen(&context).unwrap_or_else(|error| panic!("{context}: {error}"));
        after.append_surely(20_000).unwrap();
        after.settle().unwrap();
        let _ = after.after_power_cut(draw.of(&Loss::EVERY), &context);
    }
    stopped || world.disk.trace() != quiet
}

#[test]
fn any_failed_write_stops_or_is_written_again_and_what_was_acked_stays() {
    let mut draw = Draw(40);
    let mut struck = 0;
    for nth in 1..90 {
        struck += u64::from(lives_with(40, &Fault::Fail { verb: Verb::Write, nth, errno: EIO }, &mut draw));
    }
    assert!(struck > 60, "{struck} faults struck");
}

#[test]
fn any_failed_sync_is_final_for_its_segment_and_no_ack_relies_on_a_later_one() {
    let mut draw = Draw(41);
    let mut struck = 0;
    for nth in 1..70 {
        for dropped in [Dropped::ReadsNew, Dropped::ReadsOld] {
            struck += u64::from(lives_with(41, &Fault::SyncDrops { nth, dropped }, &mut draw));
        }
    }
    assert!(struck > 80, "{struck} faults struck");
}

#[test]
fn a_refused_allocation_leaves_no_half_made_segment_and_heals() {
    for nth in 1..12 {
        let mut world = World::new(42, config(FullPolicy::Reject));
        world.disk.inject(Fault::Fail { verb: Verb::Allocate, nth, errno: ENOSPC });
        match life(&mut world) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), forebay::Kind::NoSpace, "{error}"),
        }
        let mut after = world.after_power_cut(Loss::Each, "refused allocation");
        after.reopen("refused allocation").unwrap();
        after.append_surely(100).unwrap();
        after.settle().unwrap();
    }
}

/// What fails in the thread of whoever commits is the writer's thread's to give up: it must not sleep over it.
#[test]
fn a_commit_that_fails_is_written_again_by_the_writer_however_long_nothing_else_happens() {
    let mut world = World::new(58, config(FullPolicy::Reject));
    world.open().unwrap();
    world.append_surely(10).unwrap();
    world.settle().unwrap();
    world.turns(2_000).unwrap();
    world.disk.inject(Fault::Fail { verb: Verb::Write, nth: 1, errno: EIO });
    let sequence = world.append_surely(20).unwrap();
    world.store().ask(sequence, Level::Durable);
    let live = world.live.as_mut().unwrap();
    assert!(!live.driver.commit(), "the write has failed");
    for _ in 0..50 {
        assert!(!matches!(live.driver.turn(true).unwrap(), Turn::Idle(_)), "asleep over a failed write");
        if live.store.marks().reached(Level::Durable, sequence) {
            return;
        }
    }
    panic!("nothing came of it: {:?}", live.store.marks());
}

#[test]
fn a_slot_that_no_descriptor_is_left_for_is_begun_when_there_is_one_again() {
    let emfile = 24;
    for nth in 1..6 {
        let mut world = World::new(57, config(FullPolicy::Block));
        world.open().unwrap();
        world.disk.inject(Fault::Fail { verb: Verb::Open, nth, errno: emfile });
        fill_segments(&mut world, 3).unwrap();
        let acked = world.model.acked;
        assert_eq!(world.after_power_cut(Loss::All, "no descriptor for a while").model.last(), acked);
    }
}

#[test]
fn short_writes_are_finished_before_anything_is_acked() {
    for seed in 43..53 {
        let mut world = World::new(seed, config(FullPolicy::Reject));
        world.disk.set_fault_rates(FaultRates { short_writes_per_mille: 400, ..FaultRates::default() });
        life(&mut world).unwrap();
        let _ = world.after_power_cut(Loss::All, "short writes");
    }
}

#[test]
fn a_hung_disk_answers_unknown_and_the_record_may_yet_land() {
    let mut world = World::new(54, config(FullPolicy::Reject));
    world.open().unwrap();
    world.disk.inject(Fault::Hang);
    let sequence = world.append_surely(100).unwrap();
    world.store().ask(sequence, Level::Durable);
    world.turns(50).unwrap();
    let limit = Some(Duration::from_millis(1));
    assert!(!world.store().wait(sequence, Level::Durable, limit).unwrap());
    world.disk.lift_faults();
    world.settle().unwrap();
    assert!(world.store().wait(sequence, Level::Durable, limit).unwrap());
    let _ = world.after_power_cut(Loss::All, "hung for a while");
}

#[test]
fn an_acknowledged_write_that_did_nothing_is_detected() {
    for nth in 8..90 {
        let mut world = World::new(55, config(FullPolicy::Reject));
        world.disk.inject(Fault::WriteVanishes { nth });
        let run = |world: &mut World| {
            world.open()?;
            fill_segments(world, 3)?;
            world.close()
        };
        run(&mut world).unwrap();
        let found = read_back(&world.disk.fork()).unwrap();
        let mut due = 1;
        let mut missing = false;
        for (sequence, content) in &found.records {
            assert!(*sequence >= due, "write {nth}: {sequence} again");
            assert_eq!(world.model.submitted.get(sequence), Some(content), "write {nth}: wrong bytes");
            missing |= *sequence > due;
            due = sequence + 1;
        }
        missing |= due <= world.model.acked;
        assert!(!missing || !found.damage.is_empty(), "write {nth}: a loss that nobody noticed");
    }
}

/// In recycled slots lie sound blocks of segments that are gone: their id alone tells them from those of the segment
/// that is there now. Believed, they would end a segment too early, and what it has would be named as lost.
#[test]
fn a_segment_lost_between_recycled_ones_is_named_exactly() {
    let mut world = World::new(57, config(FullPolicy::Block));
    world.open().unwrap();
    // As many blocks of the largest size as a segment has, several times over; then all of it is needed by nobody.
    for _ in 0..5 * 15 {
        world.append_surely(15_000).unwrap();
        world.settle().unwrap();
    }
    world.confirm(world.model.acked, true).unwrap();
    let from = world.model.acked + 1;
    // A record of five blocks does not fit behind three of its kind: the end of each segment keeps what lay there.
    for _ in 0..3 * 3 + 2 {
        world.append_surely(65_536).unwrap();
        world.settle().unwrap();
    }
    let disk = world.disk.fork();
    let archive = Archive::open_on(std::sync::Arc::new(disk.clone())).unwrap();
    let segments: Vec<_> = archive.recovered().catalog.segments().copied().collect();
    let lost = segments.len() - 2;
    let (slot, next) = (segments[lost].slot, segments[lost + 1].base_sequence);
    let first = segments[lost].base_sequence;
    assert!(first > from && segments[lost - 1].base_sequence < first, "{segments:?}");
    disk.remove(&format!("slot-{slot:06}")).unwrap();
    disk.sync_names().unwrap();
    let found = read_back(&disk).unwrap();
    let kept: Vec<u64> = found.records.iter().map(|(sequence, _)| *sequence).collect();
    let expected: Vec<u64> = (from..first).chain(next..=world.model.acked).collect();
    assert_eq!(kept, expected);
    for damage in &found.damage {
        assert_eq!((damage.first_sequence, damage.last_sequence), (first, next - 1), "{:?}", found.damage);
    }
    assert!(!found.damage.is_empty());
}

/// Only what both copies of the cursor are past is recycled.
#[test]
fn a_rotten_cursor_copy_never_points_at_recycled_records() {
    let mut world = World::new(56, config(FullPolicy::Block));
    world.open().unwrap();
    fill_segments(&mut world, 1).unwrap();
    let older = world.model.acked;
    world.confirm(older, true).unwrap();
    fill_segments(&mut world, 2).unwrap();
    world.confirm(world.model.acked, false).unwrap();
    fill_segments(&mut world, 2).unwrap();
    world.model.persisted = older;
    for offset in [100, 4096 + 100] {
        let disk = world.disk.fork();
        disk.flip("cursor-default", offset, 3).unwrap();
        let found = read_back(&disk);
        world.model.check(found.as_ref(), &format!("cursor rotten at {offset}"));
    }
}
