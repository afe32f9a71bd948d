//! What a simulated disk does wrong, and when.
//!
//! Faults lie over a disk that is right: [`super::SimDisk::lift_faults`] takes them away, and what is left
//! is what they did. Scripted faults count from the moment they are set; seeded ones follow the disk's seed.

use rustix::io::Errno;

use super::image::Dropped;
use super::random::Random;

/// What a disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Opening a file.
    Open,
    /// Making a name and an empty file.
    Create,
    /// Giving a new file its length.
    Allocate,
    /// A write, through a file or a device.
    Write,
    /// A read, through a file or a device.
    Read,
    /// Making a file's bytes durable, by a sync or by a write with `dsync`.
    Sync,
    /// Removing a name.
    Remove,
    /// Changing a name.
    Rename,
    /// Making names durable.
    SyncNames,
}

/// A fault; `nth` counts from 1, the next, and strikes once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The `nth` of `verb` fails with `errno` (as in errno(3)). A write may have changed some of its
    /// sectors all the same; of everything else nothing happens. A sync drops its data and reads show the
    /// new (see [`Fault::SyncDrops`]).
    Fail {
        /// Of which operations.
        verb: Verb,
        /// Which of them.
        nth: u64,
        /// The kernel's number for what went wrong.
        errno: i32,
    },
    /// The `nth` sync fails with EIO and what it covers is dropped: clean, and not durable. The handles that
    /// are open then fail every later sync; a handle opened afterwards succeeds, with nothing to do.
    SyncDrops {
        /// Which sync.
        nth: u64,
        /// What reads show from then on.
        dropped: Dropped,
    },
    /// The `nth` write reports success and does nothing.
    WriteVanishes {
        /// Which write.
        nth: u64,
    },
    /// The `nth` write lands at `offset` instead.
    WriteStrays {
        /// Which write.
        nth: u64,
        /// Where it lands, in bytes.
        offset: u64,
    },
    /// Every sync and every `dsync` reports success and makes nothing durable, until lifted.
    SyncsLie,
    /// No device completes anything, until lifted.
    Hang,
    /// Nothing may be changed (EROFS), until lifted.
    ReadOnly,
}

/// Seeded faults, each in so many of 1000 cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// Writes that move less than they were given.
    pub short_writes_per_mille: u32,
    /// Reads that bring less than there is.
    pub short_reads_per_mille: u32,
    /// Writes that fail with EIO.
    pub write_errors_per_mille: u32,
    /// Syncs that fail with EIO and drop what they cover; reads show the old data or the new.
    pub sync_errors_per_mille: u32,
    /// Reads that fail with EIO.
    pub read_errors_per_mille: u32,
}

/// The faults of one disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Scripted faults with how many operations they still let pass.
    scripted: Vec<(Verb, u64, Effect)>,
    pub(super) rates: FaultRates,
    pub(super) syncs_lie: bool,
    pub(super) hung: bool,
    pub(super) read_only: bool,
}

/// What strikes one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Error(i32),
    Drops(i32, Dropped),
    Vanishes,
    Strays(u64),
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        let (verb, nth, effect) = match fault {
            Fault::SyncsLie => return self.syncs_lie = true,
            Fault::Hang => return self.hung = true,
            Fault::ReadOnly => return self.read_only = true,
            Fault::Fail { verb: Verb::Sync, nth, errno } => {
                (Verb::Sync, nth, Effect::Drops(errno, Dropped::ReadsNew))
            }
            Fault::Fail { verb, nth, errno } => (verb, nth, Effect::Error(errno)),
            Fault::SyncDrops { nth, dropped } => {
                (Verb::Sync, nth, Effect::Drops(Errno::IO.raw_os_error(), dropped))
            }
            Fault::WriteVanishes { nth } => (Verb::Write, nth, Effect::Vanishes),
            Fault::WriteStrays { nth, offset } => (Verb::Write, nth, Effect::Strays(offset)),
        };
        self.scripted.push((verb, nth.max(1), effect));
    }

    /// What strikes the next operation of `verb`.
    pub(super) fn strike(&mut self, verb: Verb) -> Option<Effect> {
        let mut struck = None;
        self.scripted.retain_mut(|(of, nth, effect)| {
            if *of != verb {
                return true;
            }
            *nth -= 1;
            if *nth == 0 {
                struck = struck.or(Some(*effect));
            }
            *nth > 0
        });
        struck
    }

    /// How many of `len` bytes a transfer moves when it may stop short at a multiple of `granule`.
    pub(super) fn shorten(per_mille: u32, random: &mut Random, len: usize, granule: usize) -> usize {
        let units = len.div_ceil(granule);
        if units < 2 || !random.chance(per_mille) {
            return len;
        }
        granule * (1 + random.below(units as u64 - 1) as usize)
    }
}
