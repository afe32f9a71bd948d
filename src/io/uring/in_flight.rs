//! What the kernel works on: each operation with all that it needs until its completion.
//!
//! Owns the slot and the file of an operation from the moment its entry is pushed to the moment its completion
//! is taken in. Promises that the kernel never holds the address of a slot that somebody else may be given: a
//! slot goes back only when its last share is dropped, and one share is here. A key is good for one operation.
//! Does not know the ring.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rustix::io::{Errno, ReadWriteFlags};

use crate::io::{Completion, File, Slot};

/// How often a write that the kernel interrupted is started again before that is reported.
const RETRY_COUNT_MAX: u8 = 16;

/// What an operation does.
#[derive(Debug)]
pub(super) enum Work {
    Write {
        slot: Arc<Slot>,
        range: Range<usize>,
        offset: u64,
        dsync: bool,
    },
    Sync,
    /// The file is the directory.
    SyncNames,
}

/// One operation and what it owns.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) token: u64,
    pub(super) file: Arc<dyn File>,
    /// The file's place in the ring's table, where it has one.
    pub(super) registered_file: Option<u32>,
    /// The slot's place among the registered buffers, where it has one.
    pub(super) registered_slot: Option<u16>,
    pub(super) work: Work,
    pub(super) retry_count: u8,
}

/// How an operation ended.
#[derive(Debug)]
pub(super) enum Landed {
    /// For the caller.
    Over(Completion),
    /// Interrupted before it moved a byte: to be started again.
    Again(Flight),
}

impl Flight {
    /// The entry that makes the kernel begin. The addresses in it are good for as long as `self` lives.
    pub(super) fn entry(&self) -> io::Result<squeue::Entry> {
        if let Some(place) = self.registered_file {
            return Ok(self.entry_on(types::Fd(place as i32))?.flags(squeue::Flags::FIXED_FILE));
        }
        let descriptor = self.file.descriptor().ok_or(Errno::BADF)?;
        self.entry_on(types::Fd(descriptor.as_raw_fd()))
    }

    fn entry_on(&self, file: types::Fd) -> io::Result<squeue::Entry> {
        let (slot, range, offset, dsync) = match &self.work {
            Work::Write { slot, range, offset, dsync } => (slot, range, offset, dsync),
            Work::Sync => return Ok(opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build()),
            // Of a directory fdatasync may leave out the names.
            Work::SyncNames => return Ok(opcode::Fsync::new(file).build()),
        };
        let bytes = slot.get(range.clone()).ok_or(Errno::INVAL)?;
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
        let flags = if *dsync { ReadWriteFlags::DSYNC.bits() as i32 } else { 0 };
        Ok(match self.registered_slot {
            Some(place) => opcode::WriteFixed::new(file, bytes.as_ptr(), len, place)
                .offset(*offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(file, bytes.as_ptr(), len).offset(*offset).rw_flags(flags).build(),
        })
    }

    /// Takes in what the kernel answered: bytes, or an error number below zero.
    pub(super) fn land(mut self, answer: i32) -> Landed {
        let is_write = matches!(self.work, Work::Write { .. });
        let is_interrupted = [Errno::INTR, Errno::AGAIN].iter().any(|errno| answer == -errno.raw_os_error());
        // A sync that failed is never tried again and believed, whatever it failed with.
        if is_write && is_interrupted && self.retry_count < RETRY_COUNT_MAX {
            self.retry_count += 1;
            return Landed::Again(self);
        }
        let result = usize::try_from(answer).map_err(|_| io::Error::from_raw_os_error(-answer));
        Landed::Over(self.settle(result))
    }

    /// Ends the operation with `result`, in the light of the syncs of its file.
    pub(super) fn settle(self, result: io::Result<usize>) -> Completion {
        let result = match (&self.work, self.file.sync_latch()) {
            (Work::Sync | Work::SyncNames, Some(latch)) => latch.settle(result.map(|_| 0)),
            (Work::Write { dsync: true, .. }, Some(latch)) => latch.settle_write(result),
            _ => result,
        };
        Completion { token: self.token, result }
    }

    /// Whether a failed sync of the file forbids this one.
    pub(super) fn check_latch(&self) -> io::Result<()> {
        match (&self.work, self.file.sync_latch()) {
            (Work::Sync | Work::SyncNames | Work::Write { dsync: true, .. }, Some(latch)) => latch.check(),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    flight: Option<Flight>,
}

/// The operations that the kernel has, by key.
#[derive(Debug)]
pub(super) struct InFlight {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl InFlight {
    /// Room for `count_max` operations.
    pub(super) fn new(count_max: u32) -> Self {
        let places = (0..count_max).map(|_| Place::default()).collect();
        Self { places, free: (0..count_max).rev().collect() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Takes an operation in; its key goes with the entry.
    pub(super) fn insert(&mut self, flight: Flight) -> u64 {
        let index = self.free.pop().expect("the device asks is_full first");
        let place = &mut self.places[index as usize];
        place.flight = Some(flight);
        u64::from(place.generation) << 32 | u64::from(index)
    }

    /// Gives an operation back; `None` for a key that is of none.
    pub(super) fn remove(&mut self, key: u64) -> Option<Flight> {
        let index = key as u32;
        let place = self.places.get_mut(index as usize)?;
        if u64::from(place.generation) != key >> 32 {
            return None;
        }
        let flight = place.flight.take()?;
        // One bit is left over so that no key is ever one of the device's own.
        place.generation = (place.generation + 1) & (u32::MAX >> 1);
        self.free.push(index);
        Some(flight)
    }

    /// Gives up what is left without freeing it: the kernel may still be reading those slots.
    pub(super) fn leak(&mut self) {
        for place in &mut self.places {
            std::mem::forget(place.flight.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Nowhere(crate::io::latch::SyncLatch);

    impl File for Nowhere {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.check()
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn alignment(&self) -> usize {
            1
        }
        fn is_direct(&self) -> bool {
            false
        }
        fn name(&self) -> &str {
            "nowhere"
        }
        fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            None
        }
        fn sync_latch(&self) -> Option<&crate::io::latch::SyncLatch> {
            Some(&self.0)
        }
    }

    fn flight(file: &Arc<Nowhere>, token: u64, work: Work) -> Flight {
        let file: Arc<dyn File> = Arc::clone(file) as _;
        Flight { token, file, registered_file: None, registered_slot: None, work, retry_count: 0 }
    }

    fn write(arena: &Arc<crate::io::Arena>) -> Work {
        let slot = Arc::new(arena.take().unwrap());
        Work::Write { slot, range: 0..4096, offset: 0, dsync: false }
    }

    #[test]
    fn a_slot_is_held_until_its_operation_is_removed_and_a_key_is_good_once() {
        let arena = crate::io::Arena::new(4096, 1).unwrap();
        let (file, mut in_flight) = (Arc::default(), InFlight::new(1));
        let key = in_flight.insert(flight(&file, 7, write(&arena)));
        assert!(in_flight.is_full() && arena.free_count() == 0);
        assert_eq!(in_flight.remove(key).unwrap().token, 7);
        assert!(in_flight.is_empty() && arena.free_count() == 1);
        let next = in_flight.insert(flight(&file, 8, Work::Sync));
        assert_ne!(next, key);
        assert!(in_flight.remove(key).is_none(), "the key of an operation that is over");
        assert!(in_flight.remove(u64::MAX).is_none());
    }

    #[test]
    fn an_interrupted_write_is_started_again_but_not_for_ever() {
        let arena = crate::io::Arena::new(4096, 1).unwrap();
        let mut flight = flight(&Arc::default(), 1, write(&arena));
        for _ in 0..RETRY_COUNT_MAX {
            flight = match flight.land(-Errno::INTR.raw_os_error()) {
                Landed::Again(flight) => flight,
                Landed::Over(completion) => panic!("over too early: {completion:?}"),
            };
        }
        assert!(matches!(
            flight.land(-Errno::INTR.raw_os_error()),
            Landed::Over(Completion { result: Err(_), .. })
        ));
    }

    #[test]
    fn a_failed_sync_latches_the_file_and_is_not_started_again() {
        let file = Arc::new(Nowhere::default());
        for answer in [-Errno::INTR.raw_os_error(), 0] {
            let landed = flight(&file, 1, Work::Sync).land(answer);
            let Landed::Over(Completion { result: Err(error), .. }) = landed else { panic!("{landed:?}") };
            assert_eq!(error.raw_os_error(), Some(Errno::INTR.raw_os_error()));
        }
        assert!(file.sync().is_err() && flight(&file, 2, Work::Sync).check_latch().is_err());
    }
}
