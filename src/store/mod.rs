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
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::{FullPolicy, RecordLimit};
use crate::error::{Error, Kind, Result};
use crate::io::DeviceInfo;
use crate::position::{Epoch, StoreId};
use crate::queue::memory::{Full, MemoryQueue};
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

pub use crate::segment::writer::Durably;
pub use archive::{Archive, ArchiveReader, Step};
pub use driver::{Driver, Turn};
pub use handle::Destination;
pub use marks::{Level, Marks, Reached};
pub use open::DEFAULT_DESTINATION;
pub(crate) use shared::{Shared, lock};
pub use watch::Watch;

use shared::{WANTS_AWAITED, WANTS_BLOCKS, WANTS_OPENED};

/// Records taken under one hold of the lock, at most: with small ones some microseconds.
const OFFERED_RECORDS_MAX: usize = 64;

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

/// What whoever brings a record waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Patience {
    /// Nothing.
    None,
    /// Memory: nothing is dropped while it is full.
    Memory,
    /// A fast log, too ([`crate::queue::run_ahead`]).
    Window,
}

/// How far an offer of some records came.
#[derive(Debug)]
struct Offered {
    /// How many were given a sequence.
    taken: usize,
    /// The last sequence that is in the queue; 0 for none.
    accepted: u64,
    /// What became of the last one that was looked at.
    last: Appended,
    /// What the writer's thread may want to know of it.
    news: u8,
}

/// Records that are appended one after the other.
struct Several<'a> {
    rest: &'a [Record<'a>],
    /// The sequence of the last one taken.
    last: u64,
    /// The last one that was not dropped: what is waited for.
    accepted: u64,
}

impl Several<'_> {
    /// Offers the next ones.
    fn go_on(&mut self, store: &Store, level: Level) -> Result<Offered> {
        let count = self.rest.len().min(OFFERED_RECORDS_MAX);
        let level = if count == self.rest.len() { level } else { Level::Accepted };
        let offered = store.offer(&self.rest[..count], level, store.patience())?;
        self.rest = &self.rest[offered.taken..];
        self.last = offered.last.sequence().unwrap_or(self.last);
        self.accepted = self.accepted.max(offered.accepted);
        Ok(offered)
    }
}

/// A directory, opened for writing. One process at a time; dropping it stops as [`Store::close`] does.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    /// The writer, between its thread's turns; its thread takes it out when it ends.
    driver: Option<Arc<Mutex<Option<Driver>>>>,
    /// Bytes of the longest payload, and what that comes from.
    record_limit: (u64, RecordLimit),
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
        self.offer_one(record, Patience::None)
    }

    /// Offers one record that nobody waits for.
    fn offer_one(&self, record: &Record<'_>, patience: Patience) -> Result<Appended> {
        let offered = self.offer(std::slice::from_ref(record), Level::Accepted, patience)?;
        self.shared.nudge(offered.news);
        Ok(offered.last)
    }

    /// Takes records, in order and under one lock, until one finds no room. Somebody will wait until the last of
    /// them has reached `level`.
    fn offer(&self, records: &[Record<'_>], level: Level, patience: Patience) -> Result<Offered> {
        if let Some(record) = records.iter().find(|record| record.payload.len() > self.record_bytes_max()) {
            return Err(self.too_large(record.payload.len()));
        }
        let shared = &self.shared;
        let mut queue = lock(&shared.queue);
        // Under the lock: what is taken after the writer's last look would be lost.
        if shared.closing.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Closed, "the store is closed: open it again to append"));
        }
        let had_open = queue.open_since_ns();
        let had_sealed = queue.has_unplaced();
        let (mut taken, mut last, mut stopped) = (0, 0, None);
        for record in records {
            match queue.append(record, patience == Patience::Window, || shared.clock.now_ns()) {
                Ok(sequence) => (taken, last) = (taken + 1, sequence),
                Err(full) => {
                    stopped = Some((record, full));
                    break;
                }
            }
        }
        let (mut opened, mut sealed) = (false, false);
        if taken > 0 {
            shared.marks.set_appended(last);
            shared.counts.note_held(&queue);
            opened = queue.open_since_ns() != had_open;
            sealed = queue.has_unplaced() && (opened || !had_sealed);
        }
        let Some((record, full)) = stopped else {
            drop(queue);
            let news = self.news(last, level, opened, sealed);
            return Ok(Offered { taken, accepted: last, last: Appended::Accepted(last), news });
        };
        let stopped = self.stopped(queue, record, full, patience)?;
        let news = if taken > 0 { self.news(last, Level::Accepted, opened, sealed) } else { 0 };
        let taken = taken + usize::from(stopped.sequence().is_some());
        Ok(Offered { taken, accepted: last, last: stopped, news })
    }

    /// Wakes a reader that wants to know of new records, and gives what the writer's thread may want to.
    fn news(&self, last: u64, level: Level, opened: bool, sealed: bool) -> u8 {
        self.shared.nudge_reader();
        let sealed = if sealed { WANTS_BLOCKS } else { 0 };
        if level > Level::Accepted && self.shared.marks.await_durable(last) {
            return sealed | WANTS_AWAITED;
        }
        sealed | if opened { WANTS_OPENED } else { 0 }
    }

    /// Has the writer's thread write what is awaited; or, while that sleeps and this thread would wait for it
    /// anyway, writes it here: a small group is durable without a wake there and back.
    fn commit(&self, news: u8) {
        let is_small = news == WANTS_AWAITED;
        if is_small
            && let Some(driver) = &self.driver
            && let Ok(mut driver) = driver.try_lock()
            && driver.as_mut().is_some_and(Driver::commit)
        {
            return;
        }
        self.shared.nudge(news);
    }

    /// What becomes of a record that the queue did not take.
    fn stopped(
        &self,
        mut queue: MutexGuard<'_, MemoryQueue>,
        record: &Record<'_>,
        full: Full,
        patience: Patience,
    ) -> Result<Appended> {
        let shared = &self.shared;
        if full == Full::Window {
            return Ok(Appended::Full(full));
        }
        let full = shared.told_full(full);
        shared.counts.full_at_ns.store(shared.clock.now_ns(), Ordering::Relaxed);
        if let Some(error) = shared.marks.failed() {
            return Err(error);
        }
        let waits = patience >= Patience::Memory && full == Full::Memory;
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

    /// Takes one record, waiting for room if the policy is to wait (`block`, `drop_oldest`), and waits until
    /// it has reached `level`. With `reject` a full queue is an error of kind [`Kind::NoSpace`]. Gives its sequence.
    ///
    /// # Errors
    /// As [`Store::try_append`]; and the failure that keeps it from reaching `level`.
    pub async fn append(&self, record: &Record<'_>, level: Level) -> Result<u64> {
        self.append_all(std::slice::from_ref(record), level).await
    }

    /// [`Store::append`] for callers without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn append_blocking(&self, record: &Record<'_>, level: Level) -> Result<u64> {
        self.append_all_blocking(std::slice::from_ref(record), level)
    }

    /// Takes records in their order, as [`Store::append`] does each, and waits until the last has reached `level`.
    /// Gives the last one's sequence (0 for none). Cheaper a record: there is one lock for dozens. When other
    /// producers append too, theirs may come between. One that is dropped (`drop_newest`) is not waited for. Dropped without being awaited to its end, it may have taken some of them.
    ///
    /// # Errors
    /// As [`Store::append`]: those before the one that was refused are taken. A record over `record_bytes_max`
    /// refuses the dozens that it is among.
    pub async fn append_all(&self, records: &[Record<'_>], level: Level) -> Result<u64> {
        let mut several = Several { rest: records, last: 0, accepted: 0 };
        while !several.rest.is_empty() {
            let epoch = self.shared.marks.room_epoch();
            let offered = several.go_on(self, level)?;
            self.shared.nudge(offered.news);
            if let Appended::Full(full) = offered.last {
                self.waits_for_room(full)?;
                poll_fn(|context| self.shared.marks.poll_room(epoch, context)).await?;
            }
        }
        self.reached(several.accepted, level).await?;
        Ok(several.last)
    }

    /// [`Store::append_all`] for callers without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn append_all_blocking(&self, records: &[Record<'_>], level: Level) -> Result<u64> {
        let mut several = Several { rest: records, last: 0, accepted: 0 };
        while !several.rest.is_empty() {
            let epoch = self.shared.marks.room_epoch();
            let offered = several.go_on(self, level)?;
            self.commit(offered.news);
            if let Appended::Full(full) = offered.last {
                self.waits_for_room(full)?;
                self.shared.marks.wait_room_blocking(epoch, None)?;
            }
        }
        self.wait(several.accepted, level, None)?;
        Ok(several.last)
    }

    /// Waits until everything up to `sequence` has reached `level`.
    pub fn reached(&self, sequence: u64, level: Level) -> Reached<'_> {
        self.ask(sequence, level);
        Reached::new(&self.shared.marks, level, sequence)
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

    /// What makes a group durable. With `sync_method = "auto"` the writer's thread finds out as it starts.
    pub fn durably(&self) -> Durably {
        Durably::EVERY[usize::from(self.shared.durably.load(Ordering::Relaxed))]
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
        self.shared.writer.wake();
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

    /// What an append waits for: with `drop_newest`, nothing.
    fn patience(&self) -> Patience {
        if self.shared.full == FullPolicy::DropNewest { Patience::None } else { Patience::Window }
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
                "the disk is full, free_bytes_min would be passed, or disk_bytes_cap is reached: sequence {next} was not taken; drain the store, free some space or raise the cap"
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
        Error::new(
            Kind::TooLarge,
            format!("a record of {bytes} bytes is over {}; or split it", self.record_limit()),
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
