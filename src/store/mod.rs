//! A directory, opened for writing: the memory queue, the log behind it, and what each destination has.
//!
//! ```text
//! append ──► MemoryQueue ──► Driver (a thread) ──► LogWriter ──► device
//!                │                                    │
//!                └── marks: appended … written … durable ──► waiters, readers
//! ```
//!
//! A [`Store`] is `Send + Sync`; every producer shares it by reference. Its futures belong to no runtime, and
//! each has a blocking twin. It decides nothing: whether records spill, and how fast a backlog drains, is
//! the pipeline's to say.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::FullPolicy;
use crate::error::{Error, Kind, Result};
use crate::io::DeviceInfo;
use crate::position::{Epoch, StoreId};
use crate::queue::memory::Full;
use crate::record::Record;

mod archive;
mod destinations;
mod driver;
mod handle;
mod marks;
mod open;
mod reclaim;
mod shared;
mod state_keeper;
mod watch;

pub use archive::{Archive, ArchiveReader, Step};
pub use driver::{Driver, Turn};
pub use handle::Destination;
pub use marks::{Level, Marks, Reached};
pub use open::DEFAULT_DESTINATION;
pub(crate) use shared::{Shared, lock};
pub use watch::Watch;

use shared::{WANTS_AWAITED, WANTS_BLOCKS, WANTS_OPENED};

/// What became of a record that was handed in.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the queue under this sequence.
    Accepted(u64),
    /// It was dropped under this sequence, and a gap names it (`full = "drop_newest"`).
    Dropped(u64),
    /// There was no room, and nothing has changed: the producer still has it.
    Full(Full),
}

/// A directory, opened for writing. One process at a time; dropping it stops as [`Store::close`] does.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    record_bytes_max: usize,
    device: DeviceInfo,
    recovery: Vec<String>,
    lock: Option<Box<dyn crate::store::open::Held>>,
}

impl Store {
    /// Takes one record, or says at once that there is no room. Never waits.
    ///
    /// # Errors
    /// The record is over `record_bytes_max`; writing has ended; the store is closed.
    pub fn try_append(&self, record: &Record<'_>) -> Result<Appended> {
        self.offer(record, false)
    }

    /// With `waits_for_memory` a full memory queue drops nothing: whoever brings the record can wait.
    fn offer(&self, record: &Record<'_>, waits_for_memory: bool) -> Result<Appended> {
        if record.payload.len() > self.record_bytes_max {
            return Err(self.too_large(record.payload.len()));
        }
        let shared = &self.shared;
        if shared.closing.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Closed, "the store is closed: open it again to append"));
        }
        let mut queue = lock(&shared.queue);
        let had_open = queue.open_since_ns();
        let had_sealed = queue.has_unplaced();
        match queue.append(record, || shared.clock.now_ns()) {
            Ok(sequence) => {
                shared.marks.set_appended(sequence);
                shared.counts.note_held(&queue);
                let opened = queue.open_since_ns() != had_open;
                let sealed = queue.has_unplaced() && (opened || !had_sealed);
                drop(queue);
                if sealed || opened {
                    shared.nudge(if sealed { WANTS_BLOCKS | WANTS_OPENED } else { WANTS_OPENED });
                }
                shared.nudge_reader();
                Ok(Appended::Accepted(sequence))
            }
            Err(full) => {
                let full = shared.told_full(full);
                shared.counts.full_at_ns.store(shared.clock.now_ns(), Ordering::Relaxed);
                if let Some(error) = shared.marks.failed() {
                    return Err(error);
                }
                let waits = waits_for_memory && full == Full::Memory;
                if shared.full == FullPolicy::DropNewest && !waits {
                    let sequence = queue.skip(1);
                    shared.marks.set_appended(sequence);
                    let dropped = self.drop_newest(record, sequence, full);
                    // Under the queue's lock: nothing behind it is durable before the gap is known.
                    drop(queue);
                    return dropped;
                }
                drop(queue);
                shared.nudge(WANTS_BLOCKS | WANTS_OPENED);
                shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                Ok(Appended::Full(full))
            }
        }
    }

    /// Takes one record, waiting for room if the policy is to wait (`block`, `drop_oldest`), and waits until
    /// it has reached `level`. With `reject` a full queue is an error of kind [`Kind::NoSpace`].
    ///
    /// # Errors
    /// As [`Store::try_append`]; and the failure that keeps it from reaching `level`.
    pub async fn append(&self, record: &Record<'_>, level: Level) -> Result<u64> {
        loop {
            let epoch = self.shared.marks.room_epoch();
            match self.try_append(record)? {
                Appended::Accepted(sequence) => {
                    self.reached(sequence, level).await?;
                    return Ok(sequence);
                }
                Appended::Dropped(sequence) => return Ok(sequence),
                Appended::Full(full) => self.waits_for_room(full)?,
            }
            poll_fn(|context| self.shared.marks.poll_room(epoch, context)).await?;
        }
    }

    /// [`Store::append`] for callers without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn append_blocking(&self, record: &Record<'_>, level: Level) -> Result<u64> {
        loop {
            let epoch = self.shared.marks.room_epoch();
            match self.try_append(record)? {
                Appended::Accepted(sequence) => {
                    self.wait(sequence, level, None)?;
                    return Ok(sequence);
                }
                Appended::Dropped(sequence) => return Ok(sequence),
                Appended::Full(full) => self.waits_for_room(full)?,
            }
            self.shared.marks.wait_room_blocking(epoch, None)?;
        }
    }

    /// Waits until everything up to `sequence` has reached `level`.
    pub fn reached(&self, sequence: u64, level: Level) -> Reached<'_> {
        self.ask(sequence, level);
        Reached { marks: &self.shared.marks, level, sequence, registered: None }
    }

    /// Blocks until everything up to `sequence` has reached `level`. With a limit the answer may be `false`:
    /// unknown, it may yet land.
    ///
    /// # Errors
    /// The failure that keeps it from reaching `level`.
    pub fn wait(&self, sequence: u64, level: Level, limit: Option<Duration>) -> Result<bool> {
        self.ask(sequence, level);
        self.shared.marks.wait_blocking(level, sequence, limit)
    }

    /// Asks for durability up to `sequence` without waiting for it.
    pub fn ask(&self, sequence: u64, level: Level) {
        if level > Level::Accepted && self.shared.marks.await_durable(sequence) {
            self.shared.nudge(WANTS_AWAITED);
        }
    }

    /// The watermarks.
    pub fn marks(&self) -> &Marks {
        &self.shared.marks
    }

    /// The store's own id.
    pub fn id(&self) -> StoreId {
        self.shared.store
    }

    /// This open.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// The sequence that the next record will get.
    pub fn next_sequence(&self) -> u64 {
        lock(&self.shared.queue).next_sequence()
    }

    /// The write device, and why it is not the first choice.
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// What recovery has found and done, a sentence each; empty when there was nothing to tell.
    pub fn recovery(&self) -> &[String] {
        &self.recovery
    }

    /// Makes everything accepted durable, says so in `state`, and lets go of the directory.
    ///
    /// # Errors
    /// What kept the last records from becoming durable.
    pub fn close(mut self) -> Result<()> {
        self.stop()
    }

    /// Takes no more records from now on; the writer makes everything accepted durable and ends. Who runs the
    /// turns of a [`Driver`] runs them until [`Turn::Closed`], then calls [`Store::close`].
    pub fn begin_close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.writer_waker.wake();
    }

    fn stop(&mut self) -> Result<()> {
        self.begin_close();
        let Some(thread) = self.thread.take() else { return self.let_go(Ok(())) };
        let ended = thread.join().unwrap_or_else(|_| {
            Err(Error::new(Kind::Failed, "the writer's thread panicked: what was acked is durable"))
        });
        self.let_go(ended)
    }

    fn let_go(&mut self, ended: Result<()>) -> Result<()> {
        // The hold on the directory outlives the last write into it.
        let Some(held) = self.lock.take() else { return ended };
        let persisted = lock(&self.shared.destinations).persist();
        drop(held);
        let closed = Error::new(Kind::Closed, "the store is closed");
        self.shared.marks.fail(ended.as_ref().err().cloned().unwrap_or(closed));
        ended.and(persisted.map(|_| ()))
    }

    fn rejects(&self, full: Full) -> bool {
        self.shared.full == FullPolicy::Reject && full == Full::Disk
    }

    /// Full memory empties by itself, at the speed of the device; a full disk does not.
    fn waits_for_room(&self, full: Full) -> Result<()> {
        if !self.rejects(full) {
            return Ok(());
        }
        let next = self.next_sequence();
        Err(Error::new(
            Kind::NoSpace,
            format!(
                "the disk is full, or disk_bytes_cap is reached: sequence {next} was not taken; drain the store or raise the cap"
            ),
        ))
    }

    fn drop_newest(&self, record: &Record<'_>, sequence: u64, full: Full) -> Result<Appended> {
        self.shared.counts.dropped_newest.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.destinations).drop_newest(self.shared.epoch, record, sequence, full);
        self.shared.tell_listeners();
        Ok(Appended::Dropped(sequence))
    }

    fn too_large(&self, bytes: usize) -> Error {
        let limit = self.record_bytes_max;
        Error::new(
            Kind::TooLarge,
            format!(
                "a record of {bytes} bytes is over record_bytes_max ({limit}): split it or raise the limit"
            ),
        )
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(error = %error, "the store did not close cleanly");
        }
    }
}
