//! When the disk takes no more: what each policy does, and that it heals by itself.

use forebay::config::FullPolicy;
use forebay::gaps::Reason;
use forebay::io::sim::{CrashPoint, Loss, Phase};
use forebay::io::{Access, Disk as _};
use forebay::queue::memory::Full;
use forebay::store::Appended;
use forebay::{Kind, Result};

use crate::world::{Draw, SEGMENT_BYTES, World, config, power_is_gone};

/// Bytes of the records here: one to a block.
const RECORD_BYTES: usize = 15_000;
/// Blocks of that size in a segment; the rest is header and summary.
const PER_SEGMENT: usize = 13;
/// Segments under the cap.
const SEGMENTS: usize = 7;
/// More appends than the disk and memory have room for.
const APPENDS_MAX: usize = 1_000;

/// Appends until the disk is full, a turn between, and gives what then happened.
fn fill(world: &mut World) -> Result<Appended> {
    for _ in 0..APPENDS_MAX {
        let appended = world.append(RECORD_BYTES)?;
        if matches!(appended, Appended::Full(Full::Disk) | Appended::Dropped(_)) {
            return Ok(appended);
        }
        world.turns(3)?;
    }
    panic!("{APPENDS_MAX} records, and the disk is not full");
}

fn opened(seed: u64, full: FullPolicy) -> World {
    let mut world = World::new(seed, config(full));
    world.open().unwrap();
    world
}

#[test]
fn reject_names_the_first_sequence_not_taken_and_works_again_when_room_is_freed() {
    let mut world = opened(20, FullPolicy::Reject);
    assert_eq!(fill(&mut world).unwrap(), Appended::Full(Full::Disk));
    world.settle().unwrap();
    let next = world.store().next_sequence();
    let record = forebay::record::Record::new(&[1; RECORD_BYTES], 0);
    let error = world.store().append_blocking(&record, forebay::store::Level::Accepted).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.to_string().contains(&format!("sequence {next} was not taken")), "{error}");
    assert_eq!(world.store().next_sequence(), next, "a refused record has no sequence");
    world.confirm(next - 1, true).unwrap();
    world.turns(2).unwrap();
    assert_eq!(world.append(RECORD_BYTES).unwrap(), Appended::Accepted(next));
    world.settle().unwrap();
    let _ = world.after_power_cut(Loss::All, "after the disk was full");
}

#[test]
fn everything_accepted_by_a_full_store_becomes_durable_without_more_room() {
    for (seed, full) in [(21, FullPolicy::Reject), (22, FullPolicy::Block)] {
        let mut world = opened(seed, full);
        let mut draw = Draw(seed);
        let mut refused = 0;
        while refused < 20 {
            let bytes = draw.of(&[0, 10, 3_000, 15_000, 40_000, 65_536]);
            match world.append(bytes).unwrap() {
                Appended::Full(Full::Disk) => refused += 1,
                _ => world.turns(draw.below(4) as usize).unwrap(),
            }
        }
        world.settle().unwrap();
        world.close().unwrap();
        let _ = world.after_power_cut(Loss::All, "closed while full");
    }
}

#[test]
fn a_slot_that_is_not_made_yet_is_no_full_disk() {
    for (seed, full) in [(23, FullPolicy::Reject), (24, FullPolicy::DropNewest)] {
        let mut world = opened(seed, full);
        // Faster than any turn: memory takes what it can hold, and nobody is told of a full disk.
        let count = 1_000_000 / 16_384 / 2;
        for _ in 0..count {
            let appended = world.append(RECORD_BYTES).unwrap();
            let fine = matches!(appended, Appended::Accepted(_) | Appended::Full(Full::Memory));
            assert!(fine, "{full:?}: {appended:?}");
        }
        world.settle().unwrap();
        world.append_surely(RECORD_BYTES).unwrap();
        world.settle().unwrap();
        assert_eq!(world.store().gaps(), []);
    }
}

/// The power went while a slot was made: its file is there, and not as long as it should be.
#[test]
fn a_slot_whose_making_was_cut_short_is_removed_and_never_counted_as_room() {
    for bytes in [0, 100_000, 128 * 1024, SEGMENT_BYTES + 512] {
        let mut world = opened(32, FullPolicy::Reject);
        world.append_surely(RECORD_BYTES).unwrap();
        world.close().unwrap();
        let half = world.disk.create("slot-000077", bytes, Access::Write).unwrap();
        half.sync().unwrap();
        world.disk.sync_names().unwrap();
        world.reopen("with a slot that is half made").unwrap();
        assert!(!world.disk.names().unwrap().contains(&"slot-000077".to_owned()), "{bytes} bytes");
        let told = world.store().recovery().iter().filter(|told| told.contains("half made")).count();
        assert_eq!(told, 1, "{:?}", world.store().recovery());
        let _ = fill(&mut world).unwrap();
        world.settle().unwrap();
        let slots = world.disk.names().unwrap().iter().filter(|name| name.starts_with("slot-")).count();
        assert_eq!(slots, SEGMENTS, "{bytes} bytes");
        world.close().unwrap();
        let _ = world.after_power_cut(Loss::All, "filled");
    }
}

#[test]
fn block_waits_and_goes_on_when_room_is_freed() {
    let mut world = opened(25, FullPolicy::Block);
    assert_eq!(fill(&mut world).unwrap(), Appended::Full(Full::Disk));
    world.turns(50).unwrap();
    assert_eq!(world.append(RECORD_BYTES).unwrap(), Appended::Full(Full::Disk), "no room of its own");
    let last = world.store().marks().durable();
    world.confirm(last, true).unwrap();
    world.append_surely(RECORD_BYTES).unwrap();
    world.settle().unwrap();
    world.close().unwrap();
    world.reopen("after room was freed").unwrap();
}

#[test]
fn drop_newest_names_what_it_drops_with_its_reason_and_its_sums() {
    let mut world = opened(26, FullPolicy::DropNewest);
    let mut dropped = 0;
    for _ in 0..APPENDS_MAX {
        dropped += u64::from(matches!(world.append(RECORD_BYTES).unwrap(), Appended::Dropped(_)));
        world.turns(1).unwrap();
        if dropped == 30 {
            break;
        }
    }
    world.turns(300).unwrap();
    let gaps = world.store().gaps();
    assert_eq!(gaps.iter().map(|gap| gap.count).sum::<u64>(), 30);
    assert!(gaps.iter().any(|gap| gap.reason == Reason::DiskFull), "{gaps:?}");
    assert!(gaps.iter().all(|gap| matches!(gap.reason, Reason::DiskFull | Reason::QueueFull)), "{gaps:?}");
    world.close().unwrap();
    // The oracle sums the bytes of every gap.
    let mut after = world.after_power_cut(Loss::All, "closed with gaps");
    after.reopen("with gaps").unwrap();
}

/// Full memory drops between records that are kept, with the power gone at any moment.
#[test]
fn nothing_is_acked_behind_a_dropped_record_that_no_durable_gap_names() {
    let mut cuts = 0;
    for operation in (1..).step_by(3) {
        let mut config = config(FullPolicy::DropNewest);
        config.queue.records = 5;
        let mut world = World::new(27, config);
        world.disk.set_crash_at(CrashPoint { operation, phase: Phase::During });
        let lived = world.open().and_then(|()| {
            for round in 0..40 {
                for _ in 0..3 {
                    let _ = world.append(100 + round)?;
                }
                world.turns(1)?;
            }
            Ok(())
        });
        match lived {
            Ok(()) if !world.disk.is_dead() => break,
            Ok(()) => {}
            Err(error) => power_is_gone(&world, &error),
        }
        assert!(operation < 40 || !world.model.dropped.is_empty(), "nothing was dropped");
        for loss in Loss::EVERY {
            let mut after = world.after_power_cut(loss, &format!("operation {operation}"));
            after.reopen("after drops").unwrap();
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts} cuts");
}

/// A life under `drop_oldest`, long enough to drop several segments.
fn overflow(world: &mut World, records: usize) -> Result<()> {
    world.model.may_lose = true;
    world.open()?;
    for index in 0..records {
        world.append_surely(RECORD_BYTES)?;
        if index % 5 == 4 {
            world.settle()?;
        }
    }
    world.settle()
}

#[test]
fn drop_oldest_drops_whole_segments_behind_a_gap_and_goes_on() {
    let mut world = World::new(28, config(FullPolicy::DropOldest));
    overflow(&mut world, 200).unwrap();
    let gaps = world.store().gaps();
    assert!(gaps.iter().all(|gap| gap.reason == Reason::DiskFull && gap.is_dense()), "{gaps:?}");
    let dropped: u64 = gaps.iter().map(|gap| gap.count).sum();
    let kept = 200 - dropped as usize;
    assert!(kept <= SEGMENTS * PER_SEGMENT && kept > (SEGMENTS - 1) * PER_SEGMENT, "{kept} of 200 are kept");
    world.close().unwrap();
    let _ = world.after_power_cut(Loss::All, "closed after drops");
}

#[test]
fn drop_oldest_drops_nothing_while_no_block_needs_the_room() {
    let mut world = World::new(29, config(FullPolicy::DropOldest));
    world.model.may_lose = true;
    world.open().unwrap();
    // Every slot is in use, and the last segment has room left.
    for _ in 0..(SEGMENTS - 1) * PER_SEGMENT + 3 {
        world.append_surely(RECORD_BYTES).unwrap();
        world.settle().unwrap();
    }
    world.turns(2_000).unwrap();
    assert_eq!(world.store().gaps(), []);
    world.append_surely(10).unwrap();
    world.settle().unwrap();
    world.close().unwrap();
    let found = world.read_back();
    assert_eq!((found.gaps.len(), found.records.len()), (0, (SEGMENTS - 1) * PER_SEGMENT + 4));
}

#[test]
fn a_power_cut_at_any_point_of_dropping_the_oldest_keeps_the_account() {
    let whole = {
        let mut world = World::new(30, config(FullPolicy::DropOldest));
        overflow(&mut world, 95).unwrap();
        assert!(!world.store().gaps().is_empty());
        world.disk.operation_count()
    };
    let before = {
        let mut world = World::new(30, config(FullPolicy::DropOldest));
        overflow(&mut world, 90).unwrap();
        assert!(world.store().gaps().is_empty());
        world.disk.operation_count()
    };
    let mut draw = Draw(30);
    for operation in before..=whole {
        let mut world = World::new(30, config(FullPolicy::DropOldest));
        let phase = draw.of(&Phase::EVERY);
        world.disk.set_crash_at(CrashPoint { operation, phase });
        if let Err(error) = overflow(&mut world, 95) {
            power_is_gone(&world, &error);
        }
        for loss in [Loss::All, Loss::Each, draw.of(&Loss::EVERY)] {
            let context = format!("{phase:?} operation {operation}");
            let mut after = world.after_power_cut(loss, &context);
            after.reopen(&context).unwrap();
            for _ in 0..20 {
                after.append_surely(RECORD_BYTES).unwrap();
            }
            after.settle().unwrap();
            let _ = after.after_power_cut(draw.of(&Loss::EVERY), &context);
        }
    }
}

#[test]
fn a_disk_without_space_is_the_full_policy_and_heals_by_itself() {
    let mut world = opened(31, FullPolicy::Reject);
    world.disk.set_capacity(4 << 20);
    let free = forebay::io::Disk::free_bytes(&world.disk).unwrap();
    world.disk.set_capacity((4 << 20) - free + SEGMENT_BYTES);
    assert_eq!(fill(&mut world).unwrap(), Appended::Full(Full::Disk));
    world.settle().unwrap();
    world.disk.set_capacity(1 << 40);
    world.turns(300).unwrap();
    assert!(matches!(world.append(RECORD_BYTES).unwrap(), Appended::Accepted(_)));
    world.settle().unwrap();
    world.close().unwrap();
    let _ = world.after_power_cut(Loss::All, "healed");
}
