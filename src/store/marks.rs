//! The watermarks of the log, and who waits for them.
//!
//! ```text
//! durable <= written <= appended
//! ```
//!
//! Only the writer moves `written` and `durable`; only appends move `appended`. Reading a mark takes no lock.
//! Waiters are woken by watermark, threads and tasks alike: one pass over those that wait, and whoever still has to
//! wait sleeps on.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::Wait;
use crate::io::bell::Bell;
use crate::io::park::block_on;

/// What an append may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// In memory: survives nothing.
    Accepted,
    /// With the kernel: survives the process (not the power).
    Written,
    /// On stable storage, or at every destination.
    Durable,
}

/// The marks. All are sequences; 0 is "none yet".
#[derive(Debug)]
pub struct Marks {
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    /// Every destination has everything up to here.
    confirmed: AtomicU64,
    /// Somebody waits for durability up to here.
    awaited: AtomicU64,
    /// Moves, under the lock, with everything that a waiter for room may want to look at again.
    room_epoch: AtomicU64,
    /// Whether [`Waiting::failed`] says why.
    has_failed: AtomicBool,
    /// Who waits.
    waiting: Mutex<Waiting>,
    /// Threads that wait for room.
    room: Bell,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: Vec<(Level, u64, std::task::Waker)>,
    room: Vec<std::task::Waker>,
    failed: Option<Error>,
}

impl Marks {
    /// Marks of a store whose last record is `sequence`, all of it durable.
    pub fn new(sequence: u64, confirmed: u64) -> Self {
        Self {
            appended: AtomicU64::new(sequence),
            written: AtomicU64::new(sequence),
            durable: AtomicU64::new(sequence),
            confirmed: AtomicU64::new(confirmed),
            awaited: AtomicU64::new(0),
            room_epoch: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            waiting: Mutex::default(),
            room: Bell::default(),
        }
    }

    /// The last record that was accepted.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Everything up to here is with the kernel.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Everything up to here that is in the log is on stable storage.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Every destination has everything up to here, or a durable gap names it.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Somebody waits until everything up to here is durable.
    pub(super) fn awaited(&self) -> u64 {
        self.awaited.load(Ordering::Acquire)
    }

    /// Asks for durability up to `sequence`; true when that is news.
    pub(super) fn await_durable(&self, sequence: u64) -> bool {
        self.awaited.fetch_max(sequence, Ordering::AcqRel) < sequence
    }

    pub(super) fn set_appended(&self, sequence: u64) {
        self.appended.store(sequence, Ordering::Release);
    }

    /// Moves what the writer knows; [`Marks::wake`] wakes whoever that satisfies.
    pub(super) fn advance(&self, written: u64, durable: u64) {
        debug_assert!(durable <= written, "durable {durable} <= written {written}");
        self.written.fetch_max(written, Ordering::AcqRel);
        self.durable.fetch_max(durable, Ordering::AcqRel);
    }

    /// Moves what the slowest destination has.
    pub(crate) fn confirm(&self, sequence: u64) {
        self.confirmed.fetch_max(sequence, Ordering::AcqRel);
        self.wake();
    }

    /// Nothing will become durable any more; everybody who waits learns why.
    pub(super) fn fail(&self, error: Error) {
        let mut waiting = self.waiting();
        waiting.failed.get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
        self.room_epoch.fetch_add(1, Ordering::AcqRel);
        let tasks = std::mem::take(&mut waiting.tasks);
        let room = std::mem::take(&mut waiting.room);
        drop(waiting);
        self.room.ring();
        tasks.into_iter().for_each(|(_, _, waker)| waker.wake());
        room.into_iter().for_each(std::task::Waker::wake);
    }

    /// Why nothing becomes durable any more, if so.
    pub fn failed(&self) -> Option<Error> {
        if self.has_failed() { self.waiting().failed.clone() } else { None }
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Tells those who wait for room that there may be some.
    pub(crate) fn room_changed(&self) {
        let mut waiting = self.waiting();
        self.room_epoch.fetch_add(1, Ordering::AcqRel);
        let room = std::mem::take(&mut waiting.room);
        drop(waiting);
        self.room.ring();
        room.into_iter().for_each(std::task::Waker::wake);
    }

    /// Counts the changes of room: read it, try, and wait only while it is the same.
    pub(super) fn room_epoch(&self) -> u64 {
        self.room_epoch.load(Ordering::Acquire)
    }

    /// Waits until room has changed since `epoch`; with a limit, whether it has.
    pub(super) fn wait_room_blocking(&self, epoch: u64, limit: Option<Duration>) -> Result<bool> {
        self.room.sleep_while(within(limit), || self.room_epoch() == epoch && !self.has_failed());
        let changed = self.room_epoch() != epoch;
        self.failed().map_or(Ok(changed), Err)
    }

    pub(super) fn poll_room(&self, epoch: u64, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut waiting = self.waiting();
        if let Some(error) = &waiting.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if self.room_epoch() != epoch {
            return Poll::Ready(Ok(()));
        }
        waiting.room.push(context.waker().clone());
        Poll::Pending
    }

    /// Whether `sequence` has reached `level`.
    pub fn reached(&self, level: Level, sequence: u64) -> bool {
        match level {
            Level::Accepted => true,
            Level::Written => self.written().max(self.confirmed()) >= sequence,
            Level::Durable => self.durable().max(self.confirmed()) >= sequence,
        }
    }

    /// Blocks until `sequence` has reached `level`; at most `limit` where one is given: then the answer is
    /// `false`, and the record may still land.
    pub(super) fn wait_blocking(&self, level: Level, sequence: u64, limit: Option<Duration>) -> Result<bool> {
        if self.reached(level, sequence) {
            return Ok(true);
        }
        block_on(Reached::new(self, level, sequence), within(limit))
            .map_or(Ok(false), |reached| reached.map(|()| true))
    }

    /// Wakes whoever waits for what is reached. Each costs some microseconds where it sleeps on another processor.
    pub(super) fn wake(&self) {
        let mut waiting = self.waiting();
        let mut index = 0;
        let mut woken = Vec::new();
        while index < waiting.tasks.len() {
            let (level, sequence, _) = waiting.tasks[index];
            if self.reached(level, sequence) {
                woken.push(waiting.tasks.swap_remove(index).2);
            } else {
                index += 1;
            }
        }
        drop(waiting);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A thread that panicked while it held this left plain data behind, and it is whole.
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn within(limit: Option<Duration>) -> Wait {
    limit.map_or(Wait::Forever, Wait::For)
}

/// Waits until a record has reached a level. Dropping it waits no longer; the record goes its way.
#[derive(Debug)]
#[must_use = "a promise is kept only for who awaits it"]
pub struct Reached<'a> {
    marks: &'a Marks,
    level: Level,
    sequence: u64,
    /// Whom the marks know to wake.
    registered: Option<std::task::Waker>,
}

impl<'a> Reached<'a> {
    pub(super) fn new(marks: &'a Marks, level: Level, sequence: u64) -> Self {
        Self { marks, level, sequence, registered: None }
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        // Who waits no longer leaves nothing behind, however long the mark takes.
        if let Some(waker) = self.registered.take() {
            let ours = (self.level, self.sequence);
            let mut waiting = self.marks.waiting();
            waiting
                .tasks
                .retain(|(level, sequence, known)| (*level, *sequence) != ours || !known.will_wake(&waker));
        }
    }
}

impl Future for Reached<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let marks = self.marks;
        let mut waiting = marks.waiting();
        if marks.reached(self.level, self.sequence) {
            self.registered = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &waiting.failed {
            self.registered = None;
            return Poll::Ready(Err(error.clone()));
        }
        if !self.registered.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            waiting.tasks.push((self.level, self.sequence, context.waker().clone()));
            drop(waiting);
            self.registered = Some(context.waker().clone());
        }
        Poll::Pending
    }
}
