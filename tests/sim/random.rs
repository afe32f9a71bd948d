//! Seeded lives: several power cuts on one disk, also while it recovers. `SEED=n` replays one.

use forebay::Result;
use forebay::config::FullPolicy;
use forebay::io::Disk;
use forebay::io::sim::{CrashPoint, FaultRates, Loss, Phase, SimDisk};

use crate::world::{Draw, World, config, power_is_gone};

/// Lives of the fixed set.
const LIVES: u64 = 120;

fn steps(world: &mut World, draw: &mut Draw) -> Result<()> {
    for _ in 0..draw.below(40) {
        match draw.below(13) {
            0 => world.settle()?,
            4 => {
                let _ = world.commit()?;
            }
            1 => {
                let through =
                    world.model.confirmed + draw.below(world.model.acked - world.model.confirmed + 1);
                world.confirm(through, draw.below(2) == 0)?;
            }
            2 => world.turns(draw.below(30) as usize)?,
            3 => {
                world.close()?;
                world.reopen("after a clean stop")?;
            }
            _ => {
                let bytes = draw.of(&[0, 1, 80, 900, 4_096, 15_000, 33_000, 65_536]);
                let _ = world.append(bytes)?;
                world.turns(draw.below(4) as usize)?;
            }
        }
    }
    Ok(())
}

/// One seed's life; what the disks were asked, as a digest.
fn life(seed: u64) -> u64 {
    let mut draw = Draw(seed);
    let mut config = config(draw.of(&[FullPolicy::Reject, FullPolicy::Block]));
    config.write.batch_bytes = draw.of(&[4_096, 8_192, 16_384]);
    config.write.depth = draw.of(&[1, 4, 16]);
    let mut world = World::new(seed, config);
    let mut digest = 0_u64;
    for cut in 0..5 {
        let rates = FaultRates { short_writes_per_mille: draw.of(&[0, 0, 200]), ..FaultRates::default() };
        world.disk.set_fault_rates(rates);
        let span = draw.of(&[8, 40, 150]);
        let operation = 1 + draw.below(span);
        world.disk.set_crash_at(CrashPoint { operation, phase: draw.of(&Phase::EVERY) });
        let context = format!("cut {cut} at {operation}");
        if let Err(error) = world.reopen(&context).and_then(|()| steps(&mut world, &mut draw)) {
            power_is_gone(&world, &error);
        }
        digest = digest.rotate_left(9) ^ world.disk.trace();
        world = world.after_power_cut(draw.of(&Loss::EVERY), &context);
    }
    digest
}

#[test]
fn seeded_lives_with_many_power_cuts_keep_the_prefix() {
    if let Some(seed) = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number")) {
        life(seed);
        return;
    }
    for seed in 0..LIVES {
        life(seed);
    }
    let fresh = SimDisk::new(u64::from(std::process::id())).random() ^ u64::from(std::process::id());
    println!("a fresh life: SEED={fresh}");
    life(fresh);
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in [7, 70, 700] {
        assert_eq!(life(seed), life(seed), "seed {seed}");
    }
}
