//! Spare slots: made ahead, zero-written while idle, given back; with the power gone, or an error, at every operation.

use forebay::Result;
use forebay::config::FullPolicy;
use forebay::io::sim::{CrashPoint, Fault, Loss, Phase, SimDisk, Verb};
use forebay::io::{Access, Disk};
use forebay::queue::memory::Full;
use forebay::store::Appended;

use crate::crash::fill_segments;
use crate::world::{Draw, SEGMENT_BYTES, World, config, power_is_gone};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Turns of a millisecond until the writer counts as idle, and two slots are zero-written after it.
const WARM_TURNS: usize = 150;
/// Turns in which one slot is given back.
const GIVE_BACK_TURNS: usize = 1_010;
/// Bytes of a block, which is what zeros are written in.
const ZEROS_BYTES: u64 = 16 * 1024;

/// Every slot of the disk and how much of it was written before.
fn slots(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut slots = Vec::new();
    for name in disk.file_names().into_iter().filter(|name| name.starts_with("slot-")) {
        let file = disk.open(&name, Access::Read).unwrap();
        slots.push((name, file.written_bytes().unwrap()));
    }
    slots
}

fn whole_slots(disk: &SimDisk) -> usize {
    slots(disk).iter().filter(|(_, written)| *written == SEGMENT_BYTES).count()
}

fn opened(seed: u64) -> World {
    let mut world = World::new(seed, config(FullPolicy::Reject));
    world.open().unwrap();
    world
}

/// The least that counts as a spill: one block.
fn spill(world: &mut World) -> Result<()> {
    world.append_surely(10)?;
    world.settle()
}

/// A life in which slots are made ahead, warmed with an interruption, used, recycled and given back.
fn life(world: &mut World) -> Result<()> {
    world.open()?;
    spill(world)?;
    world.turns(70)?;
    // In the middle of a slot.
    spill(world)?;
    world.turns(WARM_TURNS)?;
    fill_segments(world, 4)?;
    world.confirm(world.model.acked, true)?;
    world.turns(3 * GIVE_BACK_TURNS)?;
    spill(world)?;
    world.close()?;
    world.reopen("after the clean stop")?;
    spill(world)?;
    world.turns(WARM_TURNS)
}

#[test]
fn the_life_of_these_tests_makes_warms_recycles_and_gives_back() {
    let mut world = World::new(60, config(FullPolicy::Reject));
    world.open().unwrap();
    spill(&mut world).unwrap();
    world.turns(70).unwrap();
    let begun = world.store().counts().zero_bytes;
    assert!(begun > 0 && begun < SEGMENT_BYTES, "{begun} bytes of zeros");
    spill(&mut world).unwrap();
    world.turns(WARM_TURNS).unwrap();
    let counts = world.store().counts();
    // What was begun is gone on with, not begun again; no more than the default of two slots.
    assert_eq!((counts.zero_bytes, counts.slots), (2 * SEGMENT_BYTES, 3));
    assert_eq!(whole_slots(&world.disk), 2);
    fill_segments(&mut world, 4).unwrap();
    let counts = world.store().counts();
    assert_eq!(counts.zero_bytes, 2 * SEGMENT_BYTES, "nothing is zero-written under load");
    // The first, and those that outran the two warm ones.
    assert_eq!(counts.cold_segments, counts.segments - 2, "{counts:?}");
    world.confirm(world.model.acked, true).unwrap();
    let before = slots(&world.disk).len();
    world.turns(3 * GIVE_BACK_TURNS).unwrap();
    let counts = world.store().counts();
    assert!((2..=3).contains(&counts.slots_given_back), "one a second: {counts:?}");
    assert_eq!(slots(&world.disk).len(), before - counts.slots_given_back as usize);
    let ends = counts.zero_bytes - 2 * SEGMENT_BYTES;
    assert!(
        ends < SEGMENT_BYTES,
        "of a slot that was written through no more than the end is filled: {ends}"
    );
    world.turns(20 * GIVE_BACK_TURNS).unwrap();
    // The active one, and two warm ones.
    assert_eq!(slots(&world.disk).len(), 3);
    let before = world.store().counts();
    fill_segments(&mut world, 2).unwrap();
    let after = world.store().counts();
    let (begun, cold) = (after.segments - before.segments, after.cold_segments - before.cold_segments);
    assert_eq!(begun - cold, 2, "warm ones were kept, and are taken first: {after:?}");
}

#[test]
fn what_is_warm_is_known_again_at_the_next_open() {
    let mut world = opened(61);
    spill(&mut world).unwrap();
    world.turns(WARM_TURNS).unwrap();
    world.close().unwrap();
    world.reopen("with two warm slots").unwrap();
    spill(&mut world).unwrap();
    world.turns(WARM_TURNS).unwrap();
    assert_eq!(world.store().counts().zero_bytes, 0, "they are not written again");
    fill_segments(&mut world, 1).unwrap();
    let counts = world.store().counts();
    assert!(counts.segments >= 1 && counts.cold_segments == 0, "{counts:?}");
    world.close().unwrap();
}

#[test]
fn a_store_that_writes_no_block_writes_no_zeros() {
    let mut world = opened(62);
    world.turns(10 * WARM_TURNS).unwrap();
    assert_eq!(world.store().counts().zero_bytes, 0);
    let mut config = config(FullPolicy::Reject);
    config.disk.warm_bytes = Some(0);
    let mut world = World::new(63, config);
    world.open().unwrap();
    spill(&mut world).unwrap();
    world.turns(10 * WARM_TURNS).unwrap();
    let counts = world.store().counts();
    assert_eq!((counts.zero_bytes, counts.slots), (0, 3), "nor one that shall have no warm slots");
}

/// Whatever is in flight for a spare slot, a block is durable after at most one write of zeros more.
#[test]
fn zero_writing_stops_when_there_is_a_block() {
    for wait in 40..120 {
        let mut world = opened(64);
        spill(&mut world).unwrap();
        world.turns(wait).unwrap();
        let before = world.store().counts().zero_bytes;
        world.append_surely(100).unwrap();
        world.settle().unwrap();
        let written = world.store().counts().zero_bytes - before;
        assert!(written <= ZEROS_BYTES, "{written} bytes of zeros in front of a block");
    }
}

/// The segment is full when zeros are on their way to the slot that would be next: they must not land on its blocks.
#[test]
fn no_segment_is_begun_in_a_slot_that_zeros_are_on_their_way_to() {
    for wait in 45..90 {
        let mut world = opened(73);
        // One to a block: the fourteenth does not fit.
        for _ in 0..13 {
            world.append_surely(15_000).unwrap();
            world.settle().unwrap();
        }
        assert_eq!(world.store().counts().segments, 1);
        world.turns(wait).unwrap();
        for _ in 0..13 {
            world.append_surely(15_000).unwrap();
        }
        world.settle().unwrap();
        assert_eq!(world.store().counts().segments, 2);
        let _ = world.after_power_cut(Loss::None, &format!("after {wait} turns"));
    }
}

/// More than the cap is all of it, and never more.
#[test]
fn warm_bytes_beyond_the_cap_warm_every_slot_and_no_more() {
    let mut config = config(FullPolicy::Reject);
    config.disk.warm_bytes = Some(1 << 40);
    let cap = config.disk_bytes_cap.unwrap();
    let mut world = World::new(65, config);
    world.open().unwrap();
    spill(&mut world).unwrap();
    world.turns(20 * WARM_TURNS).unwrap();
    let made = slots(&world.disk);
    assert_eq!((made.len(), whole_slots(&world.disk)), (7, 6));
    assert!(made.len() as u64 * SEGMENT_BYTES <= cap);
    assert_eq!(world.store().counts().slots_given_back, 0);
    fill_segments(&mut world, 5).unwrap();
    assert_eq!(world.store().counts().cold_segments, 1);
}

#[test]
fn a_cap_that_was_lowered_gives_back_what_is_not_needed_ahead() {
    let mut config = config(FullPolicy::Reject);
    config.disk.warm_bytes = Some(1 << 40);
    config.disk_bytes_cap = config.disk_bytes_cap.map(|cap| cap + 5 * SEGMENT_BYTES);
    let mut world = World::new(66, config.clone());
    world.open().unwrap();
    spill(&mut world).unwrap();
    world.turns(20 * WARM_TURNS).unwrap();
    assert_eq!(slots(&world.disk).len(), 12);
    world.close().unwrap();
    world.config.disk_bytes_cap = config.disk_bytes_cap.map(|cap| cap - 5 * SEGMENT_BYTES);
    world.reopen("with a lower cap").unwrap();
    world.turns(20 * GIVE_BACK_TURNS).unwrap();
    assert_eq!(slots(&world.disk).len(), 7);
}

fn every_operation(seed: u64, phase: Phase) {
    let mut cuts = 0;
    for operation in 1.. {
        let mut world = World::new(seed, config(FullPolicy::Reject));
        world.disk.set_crash_at(CrashPoint { operation, phase });
        match life(&mut world) {
            Ok(()) if !world.disk.is_dead() => break,
            Ok(()) => {}
            Err(error) => power_is_gone(&world, &error),
        }
        for loss in Loss::EVERY {
            let context = format!("power cut {phase:?} operation {operation}");
            let mut after = world.after_power_cut(loss, &context);
            after.reopen(&context).unwrap();
            spill(&mut after).unwrap();
            after.turns(WARM_TURNS).unwrap();
            fill_segments(&mut after, 1).unwrap();
            let second = after.draw.of(&Loss::EVERY);
            let _ = after.after_power_cut(second, &format!("{context}, {loss:?}, then {second:?}"));
        }
        cuts += 1;
    }
    assert!(cuts > 100, "a life of {cuts} operations is none");
}

#[test]
fn a_power_cut_before_any_operation_on_spare_slots_leaves_a_prefix() {
    every_operation(67, Phase::Before);
}

#[test]
fn a_power_cut_during_any_operation_on_spare_slots_leaves_a_prefix() {
    every_operation(68, Phase::During);
}

#[test]
fn a_power_cut_after_any_operation_on_spare_slots_leaves_a_prefix() {
    every_operation(69, Phase::After);
}

#[test]
fn whatever_fails_about_a_spare_slot_the_log_goes_on() {
    let mut draw = Draw(70);
    let verbs = [
        (Verb::Create, 4),
        (Verb::Allocate, 4),
        (Verb::Write, 60),
        (Verb::Sync, 12),
        (Verb::SyncNames, 8),
        (Verb::Remove, 3),
        (Verb::Open, 10),
    ];
    for (verb, count) in verbs {
        for errno in [EIO, ENOSPC] {
            for nth in 1..=count {
                let mut world = opened(70);
                spill(&mut world).unwrap();
                world.disk.inject(Fault::Fail { verb, nth, errno });
                let context = format!("{verb:?} {nth} fails with {errno}");
                let lived = (|| {
                    world.turns(WARM_TURNS)?;
                    spill(&mut world)?;
                    world.turns(WARM_TURNS)?;
                    fill_segments(&mut world, 3)?;
                    world.confirm(world.model.acked, true)?;
                    world.turns(2 * GIVE_BACK_TURNS)?;
                    spill(&mut world)
                })();
                // What a segment can't be begun for, or a cursor written, ends writing, as ever.
                assert!(
                    lived.is_ok() || !matches!(verb, Verb::Create | Verb::Remove),
                    "{context}: {lived:?}"
                );
                world.disk.lift_faults();
                let mut after = world.after_power_cut(draw.of(&Loss::EVERY), &context);
                after.reopen(&context).unwrap();
                fill_segments(&mut after, 1).unwrap();
            }
        }
    }
}

/// Confirmed at one go, and then nothing moves any more: what one copy of the cursor says is said by both at the next look.
#[test]
fn a_log_that_is_full_of_what_was_delivered_is_recycled_though_nothing_moves() {
    let mut world = opened(72);
    while !matches!(world.append(15_000).unwrap(), Appended::Full(Full::Disk)) {
        world.turns(3).unwrap();
    }
    world.settle().unwrap();
    for _ in 0..2 {
        world.confirm(world.model.acked, false).unwrap();
    }
    world.append_surely(15_000).unwrap();
    world.settle().unwrap();
}

/// A spare slot that zeros can't be written to is not used for records.
#[test]
fn a_spare_slot_that_fails_is_given_up() {
    let mut world = opened(71);
    spill(&mut world).unwrap();
    world.disk.inject(Fault::Fail { verb: Verb::Write, nth: 1, errno: EIO });
    world.turns(WARM_TURNS).unwrap();
    let counts = world.store().counts();
    assert_eq!(
        (counts.failures, counts.slots),
        (0, 4),
        "it is no failure of the log, and another one is made"
    );
    let failed: Vec<String> = slots(&world.disk)
        .into_iter()
        .filter(|(_, written)| *written < SEGMENT_BYTES)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(failed.len(), 2, "the active one and the one that failed: {failed:?}");
    fill_segments(&mut world, 4).unwrap();
    let untouched = slots(&world.disk).into_iter().filter(|slot| slot.1 < 2 * ZEROS_BYTES).count();
    assert!(untouched >= 1, "{:?}", slots(&world.disk));
    world.close().unwrap();
}
