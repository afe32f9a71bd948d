//! One mapping of aligned slots: the memory that blocks are packed in and reads land in.
//!
//! Owns the mapping and the list of free slots. Promises: every slot starts at a multiple of 4096 bytes, a
//! slot has one owner at a time, the mapping outlives every slot (each holds its arena), and no call after
//! [`Arena::new`] allocates. Pages are touched only when a slot is first written, and the lowest free slot is
//! taken first: an agent with little to do keeps few pages warm, and they are those that devices register.
//!
//! Does not know what the bytes mean: a slot taken may hold those of its last owner.

#![allow(unsafe_code, reason = "the mapping is raw memory; slots turn disjoint parts of it into slices")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// What a slot's address and size are multiples of, in bytes: enough for every disk that we write directly.
pub const ALIGNMENT: usize = 4096;

/// A huge page, in bytes. The kernel aligns a mapping to it only if the mapping is a multiple of it.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Equal aligned slots in one anonymous mapping.
pub struct Arena {
    base: NonNull<u8>,
    slot_bytes: usize,
    slot_count: usize,
    /// Indices of the slots that nobody owns, the lowest on top.
    free: Mutex<BinaryHeap<Reverse<u32>>>,
}

// SAFETY: `base` is only an address. The memory behind it is reached through slots alone, and `free` hands
// each index to one owner at a time.
unsafe impl Send for Arena {}
// SAFETY: as above: a shared arena gives away indices under its mutex and touches no slot's bytes.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `slot_count` slots of `slot_bytes` bytes each; `slot_bytes` is a multiple of [`ALIGNMENT`].
    ///
    /// # Errors
    /// `InvalidInput` for sizes that no arena can have, else what mmap(2) says.
    pub fn new(slot_bytes: usize, slot_count: usize) -> io::Result<Arc<Self>> {
        let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
        if slot_bytes == 0 || !slot_bytes.is_multiple_of(ALIGNMENT) {
            return Err(refused("the bytes of a slot must be a multiple of 4096"));
        }
        let Ok(index_end) = u32::try_from(slot_count) else {
            return Err(refused("an arena has at most 2^32 - 1 slots"));
        };
        let bytes = slot_bytes.checked_mul(slot_count).filter(|&bytes| bytes <= isize::MAX as usize);
        let bytes =
            bytes.filter(|&bytes| bytes > 0).ok_or_else(|| refused("an arena's size is out of range"))?;
        let base = map(mapped_bytes(bytes))?;
        let free = Mutex::new((0..index_end).map(Reverse).collect());
        Ok(Arc::new(Self { base, slot_bytes, slot_count, free }))
    }

    /// Takes the lowest free slot; `None` when all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let Reverse(index) = self.free().pop()?;
        Some(Slot { arena: Arc::clone(self), index })
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// How many slots there are.
    pub fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// How many slots are free at this moment.
    pub fn free_count(&self) -> usize {
        self.free().len()
    }

    /// Where the slot `index` starts, for the kernel. The address is valid as long as the arena.
    pub(in crate::io) fn slot_address(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.slot_count, "slot {index} is not of this arena");
        // SAFETY: index < slot_count, so the offset stays within the one mapping, whose size fits an isize.
        unsafe { self.base.add(index * self.slot_bytes) }
    }

    fn free(&self) -> MutexGuard<'_, BinaryHeap<Reverse<u32>>> {
        // Nothing panics while the lock is held with the list half changed: a poisoned list is whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: every slot holds an `Arc` of this arena, so none is left; the devices hold one too for as
        // long as the kernel has slots registered or in flight. Base and length are those of the mapping.
        let unmapped =
            unsafe { munmap(self.base.as_ptr().cast(), mapped_bytes(self.slot_bytes * self.slot_count)) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("slot_bytes", &self.slot_bytes)
            .field("slot_count", &self.slot_count)
            .field("free_count", &self.free_count())
            .finish()
    }
}

/// What is mapped for slots of `bytes` bytes: whole huge pages, from the first one on.
fn mapped_bytes(bytes: usize) -> usize {
    if bytes < HUGE_PAGE_BYTES {
        bytes
    } else {
        bytes.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(bytes)
    }
}

/// Maps zeroed private memory that forked children do not get.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the address, so nothing that exists is mapped over.
    let base = unsafe {
        mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE | MapFlags::NORESERVE)?
    };
    // A fork while the device transfers would make the pages copy-on-write under it, and on older kernels the
    // transfer could miss the parent's copy. A refusal only loses that protection.
    // SAFETY: the range is the mapping just made; the advice changes nothing in this process.
    let _ = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
    // Fewer, larger pages: fewer faults when slots are first written, fewer pieces for the device to gather. Where
    // the kernel has none, small ones do.
    // SAFETY: as above.
    let _ = unsafe { madvise(base, bytes, Advice::LinuxHugepage) };
    let base = NonNull::new(base.cast::<u8>()).expect("the kernel never maps anonymous memory at zero");
    assert!(base.addr().get().is_multiple_of(ALIGNMENT), "a mapping starts at a page, at least 4096 bytes");
    Ok(base)
}

/// One slot, owned. Goes back to its arena when dropped.
pub struct Slot {
    arena: Arc<Arena>,
    index: u32,
}

impl Slot {
    /// Its number in the arena, from zero.
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Whether this slot is one of `arena`.
    pub fn is_of(&self, arena: &Arc<Arena>) -> bool {
        Arc::ptr_eq(&self.arena, arena)
    }

    fn address(&self) -> NonNull<u8> {
        self.arena.slot_address(self.index())
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is this slot's own part of the mapping, which is zeroed by the kernel (so always
        // initialised) and outlives `arena`. The index has one owner, this slot; `&self` excludes writers.
        unsafe { std::slice::from_raw_parts(self.address().as_ptr(), self.arena.slot_bytes) }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` excludes every other reference into the slot.
        unsafe { std::slice::from_raw_parts_mut(self.address().as_ptr(), self.arena.slot_bytes) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.arena.free();
        debug_assert!(free.len() < self.arena.slot_count, "slot {} came back twice", self.index);
        free.push(Reverse(self.index));
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("index", &self.index).field("bytes", &self.arena.slot_bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_disjoint_and_come_back() {
        let arena = Arena::new(8192, 3).unwrap();
        let mut slots: Vec<Slot> = std::iter::from_fn(|| arena.take()).collect();
        assert_eq!((slots.len(), arena.free_count()), (3, 0));
        for slot in &mut slots {
            let mark = slot.index() as u8 + 1;
            slot.fill(mark);
        }
        for slot in &slots {
            assert!(slot.as_ptr().addr().is_multiple_of(ALIGNMENT));
            assert!(slot.iter().all(|&byte| usize::from(byte) == slot.index() + 1));
            assert_eq!(slot.len(), 8192);
        }
        drop(slots);
        assert_eq!(arena.free_count(), 3);
    }

    #[test]
    fn the_lowest_free_slot_is_taken_first() {
        let arena = Arena::new(4096, 4).unwrap();
        let slots: Vec<Slot> = (0..3).filter_map(|_| arena.take()).collect();
        let mut indices: Vec<usize> = slots.iter().map(Slot::index).collect();
        assert_eq!(indices, [0, 1, 2]);
        drop(slots);
        indices = (0..4).filter_map(|_| arena.take()).map(|slot| slot.index()).collect();
        assert_eq!(indices, [0, 0, 0, 0], "each was given back before the next was taken");
    }

    #[test]
    fn a_slot_outlives_the_handle_of_its_arena() {
        let arena = Arena::new(4096, 1).unwrap();
        let mut slot = arena.take().unwrap();
        drop(arena);
        slot[4095] = 7;
        assert_eq!(slot[4095], 7);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for (slot_bytes, slot_count) in [(0, 1), (4096, 0), (4097, 1), (4096, usize::MAX), (1 << 62, 4)] {
            let error = Arena::new(slot_bytes, slot_count).expect_err("no such arena");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{slot_bytes} x {slot_count}");
        }
    }
}
