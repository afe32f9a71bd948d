//! How other threads end the wait of a ring's owner.
//!
//! Owns an eventfd, which the ring reads like any file, and two bits that say whether writing to it is worth
//! a system call. Promises that a wake ends the wait that runs or the next one, and costs a system call only
//! when the owner sleeps. Does not know the ring: the device arms the read and hears of its completion.
//!
//! ```text
//! owner                               any other thread
//! set ASLEEP; was WOKEN set? -> stay  set WOKEN; was only ASLEEP set? -> write the eventfd
//! sleep in io_uring_enter
//! clear both, return
//! ```
//! One of the two always sees the other's bit. A write that comes after the bits were cleared ends a later
//! sleep for nothing; the device looks round and sleeps on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::io::Waker;

const WOKEN: u32 = 1;
const ASLEEP: u32 = 2;

/// Shared by the device and its wakers.
#[derive(Debug)]
pub(super) struct WakeCell {
    eventfd: OwnedFd,
    bits: AtomicU32,
}

/// Where every ring's read of its eventfd lands. Nobody looks at the number; and since it is never freed, a
/// read that outlives its device harms nobody.
static LANDING: AtomicU64 = AtomicU64::new(0);

impl WakeCell {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        // Without NONBLOCK: the ring is to wait for the number, not to answer EAGAIN.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self { eventfd, bits: AtomicU32::new(0) }))
    }

    /// The owner is about to sleep: whether it may, because nobody has woken it.
    pub(super) fn may_sleep(&self) -> bool {
        self.bits.fetch_or(ASLEEP, Ordering::AcqRel) & WOKEN == 0
    }

    pub(super) fn is_woken(&self) -> bool {
        self.bits.load(Ordering::Acquire) & WOKEN != 0
    }

    /// The owner's wait is over, and with it the wake that may have ended it.
    pub(super) fn clear(&self) {
        self.bits.swap(0, Ordering::AcqRel);
    }

    /// Ends the current or the next wait.
    pub(super) fn wake(&self) {
        if self.bits.fetch_or(WOKEN, Ordering::AcqRel) == ASLEEP {
            self.ring();
        }
    }

    /// Completes the armed read, whoever sleeps.
    pub(super) fn ring(&self) {
        // It blocks only at 2^64 - 1 unread wakes, and its failure would be a closed descriptor: ours is open.
        let rung = rustix::io::retry_on_intr(|| rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()));
        debug_assert!(rung.is_ok(), "a write to our own eventfd: {rung:?}");
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Where the kernel puts the eight bytes of the number; good for ever.
    pub(super) fn landing() -> *mut u8 {
        LANDING.as_ptr().cast()
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        let cell = Arc::clone(self);
        Waker::new(move || cell.wake())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rung(cell: &WakeCell) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut polled = [PollFd::new(&cell.eventfd, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_wake_before_the_sleep_costs_no_call_and_forbids_it() {
        let cell = WakeCell::new().unwrap();
        cell.wake();
        assert!(!is_rung(&cell) && !cell.may_sleep());
        cell.clear();
        assert!(cell.may_sleep());
    }

    #[test]
    fn only_the_first_wake_of_a_sleeper_rings() {
        let cell = WakeCell::new().unwrap();
        assert!(cell.may_sleep());
        cell.wake();
        assert!(is_rung(&cell) && cell.is_woken());
        let mut number = [0; 8];
        rustix::io::read(&cell.eventfd, &mut number).unwrap();
        cell.wake();
        assert!(!is_rung(&cell));
    }
}
