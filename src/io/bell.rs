//! What threads sleep on until something has changed: a counter that moves, and no lock.
//!
//! ```text
//! sleeper                                     ringer
//! count itself; read the counter; look        change what sleepers look at; move the counter
//! asleep only while the counter is the same   a system call only if somebody counts itself
//! ```
//! Whatever was changed before a ring is seen by everybody whom that ring wakes, and a ring between the look
//! and the sleep ends the sleep at once. All sleepers wake in one call, and none has to wait for another, as it
//! would for a condition's mutex: what it looks at is atomic. Does not know what is looked at.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::thread::futex::{self, Flags, Timespec};

use super::Wait;

/// See the module.
#[derive(Debug, Default)]
pub struct Bell {
    rings: AtomicU32,
    sleepers: AtomicU32,
}

impl Bell {
    /// Wakes everybody who sleeps.
    pub fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // It fails only for an address that is none, and this is ours.
            let woken = futex::wake(&self.rings, Flags::PRIVATE, i32::MAX as u32);
            debug_assert!(woken.is_ok(), "a wake of our own counter: {woken:?}");
        }
    }

    /// Sleeps while `goes_on`, which is asked after each ring; at most as long as `wait` says.
    pub fn sleep_while(&self, wait: Wait, mut goes_on: impl FnMut() -> bool) {
        let deadline = match wait {
            Wait::Now => return,
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::Forever => None,
        };
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        loop {
            let seen = self.rings.load(Ordering::SeqCst);
            if !goes_on() {
                break;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let time = left.and_then(|left| Timespec::try_from(left).ok());
            // Rung meanwhile, interrupted or late: the loop looks again.
            let _ = futex::wait(&self.rings, Flags::PRIVATE, seen, time.as_ref());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_ring_is_lost_between_the_look_and_the_sleep() {
        let (there, back) = (Bell::default(), Bell::default());
        let (ball, rounds) = (AtomicU32::new(0), 20_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    there.sleep_while(Wait::Forever, || ball.load(Ordering::Acquire) != 2 * round + 1);
                    ball.store(2 * round + 2, Ordering::Release);
                    back.ring();
                }
            });
            for round in 0..rounds {
                ball.store(2 * round + 1, Ordering::Release);
                there.ring();
                back.sleep_while(Wait::Forever, || ball.load(Ordering::Acquire) != 2 * round + 2);
            }
        });
        assert_eq!(ball.load(Ordering::Acquire), 2 * rounds);
    }

    #[test]
    fn one_ring_wakes_everybody() {
        let (bell, go) = (Bell::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| bell.sleep_while(Wait::Forever, || !go.load(Ordering::Acquire)));
            }
            go.store(true, Ordering::Release);
            bell.ring();
        });
    }

    #[test]
    fn a_sleep_ends_with_its_time() {
        Bell::default().sleep_while(Wait::For(Duration::from_millis(1)), || true);
        Bell::default().sleep_while(Wait::Now, || true);
    }
}
