//! The power goes at every operation of a small life: creation, appends, rotation, trim, recycling, clean
//! stop, reopening. Before it, in the middle of it, after it; with every loss.

use forebay::Result;
use forebay::config::FullPolicy;
use forebay::io::sim::{CrashPoint, Loss, Phase};

use crate::world::{SEGMENT_BYTES, World, config, power_is_gone};

/// A small life. Every crash point of the enumeration is one of its operations.
pub(crate) fn life(world: &mut World) -> Result<()> {
    world.open()?;
    world.choose_method();
    for bytes in [10, 0, 300] {
        let _ = world.append(bytes)?;
    }
    world.turns(12)?;
    for bytes in [5_000, 0, 40_000, 17] {
        world.append_surely(bytes)?;
    }
    world.settle()?;
    for bytes in [60, 4_100] {
        world.append_surely(bytes)?;
        world.commit()?;
    }
    fill_segments(world, 2)?;
    let last = world.model.acked;
    world.confirm(last - 3, true)?;
    // Into recycled slots, under new identities.
    fill_segments(world, 2)?;
    world.confirm(last, false)?;
    let _ = world.append(60_000)?;
    world.close()?;
    world.reopen("after the clean stop")?;
    world.choose_method();
    for bytes in [1_000, 20_000, 3] {
        world.append_surely(bytes)?;
    }
    world.settle()?;
    let _ = world.append(9)?;
    world.turns(8)
}

/// Appends that begin so many more segments. Some are awaited.
pub(crate) fn fill_segments(world: &mut World, count: u64) -> Result<()> {
    let sizes = [15_000, 50_000, 700, 14_000, 16_384];
    let mut bytes = 0;
    for index in 0.. {
        if bytes > count * SEGMENT_BYTES {
            return world.settle();
        }
        let size = sizes[index % sizes.len()];
        world.append_surely(size)?;
        bytes += size as u64;
        if index % 4 == 3 {
            world.settle()?;
        }
    }
    Ok(())
}

/// Lives until the power goes; `None` when it never did.
fn live_until(seed: u64, point: CrashPoint) -> Option<World> {
    let mut world = World::new(seed, config(FullPolicy::Reject));
    world.disk.set_crash_at(point);
    match life(&mut world) {
        Ok(()) if !world.disk.is_dead() => return None,
        Ok(()) => {}
        Err(error) => power_is_gone(&world, &error),
    }
    Some(world)
}

/// A few records more, some durable; then whatever happens next.
fn go_on(world: &mut World) -> Result<()> {
    for bytes in [11, 18_000, 0] {
        world.append_surely(bytes)?;
    }
    world.settle()?;
    for bytes in [2_000, 30_000] {
        let _ = world.append(bytes)?;
    }
    world.turns(7)
}

/// What must hold after each cut: the prefix, the same again, and again after more appends and another cut.
fn survives(world: &World, loss: Loss, context: &str) {
    let mut after = world.after_power_cut(loss, context);
    after.reopen(context).unwrap_or_else(|error| panic!("{context}, {loss:?}: {error}"));
    go_on(&mut after).unwrap_or_else(|error| panic!("{context}, {loss:?}: {error}"));
    let second = after.draw.of(&Loss::EVERY);
    let _ = after.after_power_cut(second, &format!("{context}, {loss:?}, then {second:?}"));
}

fn every_operation(seed: u64, phase: Phase) {
    let mut cuts = 0;
    for operation in 1.. {
        let Some(world) = live_until(seed, CrashPoint { operation, phase }) else { break };
        for loss in Loss::EVERY {
            survives(&world, loss, &format!("power cut {phase:?} operation {operation}"));
        }
        cuts += 1;
    }
    assert!(cuts > 100, "a life of {cuts} operations is none");
}

#[test]
fn a_small_group_is_durable_when_its_commit_returns_and_others_are_left_to_the_writer() {
    let mut world = World::new(4, config(FullPolicy::Reject));
    world.open().unwrap();
    world.append_surely(10).unwrap();
    assert!(!world.commit().unwrap(), "no segment was begun");
    world.append_surely(40_000).unwrap();
    assert!(!world.commit().unwrap(), "more than one write");
    for _ in 0..3 {
        world.append_surely(10).unwrap();
        assert!(world.commit().unwrap(), "one small group, with nothing before it");
    }
    assert_eq!(world.after_power_cut(Loss::All, "after the commits").model.last(), 5);
}

#[test]
fn a_power_cut_before_any_operation_leaves_a_prefix() {
    every_operation(1, Phase::Before);
}

#[test]
fn a_power_cut_during_any_operation_leaves_a_prefix() {
    every_operation(2, Phase::During);
}

#[test]
fn a_power_cut_after_any_operation_leaves_a_prefix() {
    every_operation(3, Phase::After);
}
