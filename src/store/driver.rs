//! The writer's thread: takes blocks from the memory queue to the log, and moves the marks.
//!
//! A block goes when it is full; or when somebody waits for it and no write is in flight; or when it has lain
//! open for the linger. Producers wake the thread only for what it has said it wants, so that under load
//! nobody makes a system call to tell it what its next completion will show it anyway.

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::FullPolicy;
use crate::error::{Error, Kind, Result};
use crate::gaps::{GapBuilder, Reason};
use crate::io::Wait;
use crate::queue::memory::{MemoryQueue, Room};
use crate::queue::run_ahead::{RunAhead, WINDOW_NS_MAX};
use crate::segment::spares::{AHEAD_COUNT, Quiet, ROOM_RETRY_NS, Stock};
use crate::segment::writer::{LogWriter, Placed, Progress};
use crate::store::reclaim;
use crate::store::shared::{Shared, WANTS_AWAITED, WANTS_BLOCKS, WANTS_OPENED, lock};
use crate::store::state_keeper::StateKeeper;

/// What one turn came to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is, or may be, more to do.
    Goes,
    /// Nothing is in flight, and nothing to do before a wake or this much time.
    Idle(Wait),
    /// The store was closed, and everything is durable.
    Closed,
}

/// The writer's thread, or in simulations its turns.
#[derive(Debug)]
pub struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: LogWriter,
    pub(super) keeper: StateKeeper,
    pub(super) linger_ns: u64,
    /// It is to be found out what makes a small group durable.
    pub(super) chooses: bool,
    /// Everything goes to the log by configuration: it spills nothing.
    is_always: bool,
    /// When there was something to write last.
    busy_ns: u64,
    /// How many slots had been made when producers were last told.
    slots_told: u64,
    /// What had been done for slots when readers of the status were last told.
    chores_told: [u64; 3],
    /// A block found no slot.
    needs_room: bool,
    /// There was no slot to be had; until when it is not asked again.
    room_retry_ns: Option<u64>,
    /// Room has changed, and nobody was told yet.
    room_changed: bool,
    /// Where memory serves nothing but the log: how far producers may be ahead of it.
    run_ahead: Option<RunAhead>,
    /// When memory let go of something last.
    released_ns: u64,
    /// The marks have moved, and nobody was woken yet.
    wakes: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        writer: LogWriter,
        keeper: StateKeeper,
        linger_ns: u64,
        run_ahead: Option<RunAhead>,
    ) -> Self {
        Self {
            is_always: shared.to_log.load(Ordering::Acquire),
            busy_ns: shared.clock.now_ns(),
            slots_told: 0,
            chores_told: [0; 3],
            shared,
            writer,
            keeper,
            linger_ns,
            chooses: false,
            needs_room: false,
            room_retry_ns: None,
            room_changed: false,
            run_ahead,
            released_ns: 0,
            wakes: false,
        }
    }

    /// Runs until the store is closed or nothing can be written any more. While there is nothing to do the driver
    /// is free for whoever has to wait for it ([`Driver::commit`]).
    pub(super) fn run(shared_driver: &Mutex<Option<Self>>, chosen: &SyncSender<()>) -> Result<()> {
        let shared = lock(shared_driver).as_ref().map(|driver| Arc::clone(&driver.shared));
        let shared = shared.expect("only this thread takes it out");
        lock(shared_driver).as_mut().expect("only this thread takes it out").choose_method();
        // Whoever opens waits for it.
        let _ = chosen.send(());
        let ended = loop {
            let (turned, wakes) =
                lock(shared_driver).as_mut().expect("only this thread takes it out").step(true);
            // With the driver free: who is woken may have the next small group for it.
            if wakes {
                shared.marks.wake();
            }
            match turned {
                Ok(Turn::Goes) => {}
                Ok(Turn::Idle(wait)) => shared.writer.park(wait),
                Ok(Turn::Closed) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // Here: its ring belongs to this thread.
        drop(lock(shared_driver).take());
        ended
    }

    /// Finds out what makes a small group durable, where that is left open: before the first turn, on the thread
    /// of the turns. Blocks for some small writes.
    pub fn choose_method(&mut self) {
        if self.chooses {
            let shared = Arc::clone(&self.shared);
            self.writer.choose_method(|| shared.clock.now_ns());
            shared.durably.store(self.writer.durably() as u8, Ordering::Relaxed);
        }
    }

    /// Writes a small group that is awaited in the thread of whoever awaits it, and has it durable when it
    /// returns. False when it is the writer's thread's to do: the group is not one write into the active segment,
    /// or something is under way.
    pub fn commit(&mut self) -> bool {
        let committed = self.commit_small();
        if let Err(error) = &committed {
            self.end(error);
        }
        self.wake();
        committed.unwrap_or(false)
    }

    /// Wakes those for whom the marks have moved.
    fn wake(&mut self) {
        if std::mem::take(&mut self.wakes) {
            self.shared.marks.wake();
        }
    }

    /// Whether something is under way, or waits to be.
    fn has_more(&self) -> bool {
        let queue = lock(&self.shared.queue);
        !self.writer.is_quiet() || queue.has_unplaced() || self.awaits_open(&queue)
    }

    /// Whether somebody awaits what is in the open block.
    fn awaits_open(&self, queue: &MemoryQueue) -> bool {
        queue.open_first_sequence().is_some_and(|first| first <= self.shared.marks.awaited())
    }

    fn commit_small(&mut self) -> Result<bool> {
        if let Some(error) = self.shared.marks.failed() {
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        let mut queue = lock(&shared.queue);
        let is_named = shared.unnamed_from.load(Ordering::Acquire) == u64::MAX;
        if !self.awaits_open(&queue)
            || !is_named
            || queue.has_unplaced()
            || shared.closing.load(Ordering::Acquire)
        {
            return Ok(false);
        }
        if !self.writer.takes_now(queue.open_bytes()) {
            return Ok(false);
        }
        queue.seal();
        let block = queue.next_unplaced().expect("sealed just now");
        let write = self.writer.place_now(block);
        queue.placed_one();
        queue.room = self.room(&queue);
        drop(queue);
        let progress = self.writer.write_now(write, || shared.clock.now_ns());
        let is_durable = progress.durable > 0;
        self.busy_ns = shared.clock.now_ns();
        self.apply(progress)?;
        let was_due = self.keeper.due_ns().is_some();
        self.keeper.tend(&shared, &self.writer)?;
        if !is_durable || (!was_due && self.keeper.due_ns().is_some()) {
            // What is left is its business: the rest of a short write, or `state` once nothing happens any more.
            shared.writer.wake();
        }
        Ok(is_durable)
    }

    /// Writing has ended, for good: everybody who waits learns it.
    fn end(&self, error: &Error) {
        tracing::error!(error = %error, "writing has ended; what is durable can be read");
        self.shared.marks.fail(error.clone());
        self.shared.tell_listeners();
    }

    /// Places what can be placed, waits for something to happen (if `block`), and moves the marks.
    ///
    /// # Errors
    /// What ends writing, for good: everybody who waits has learned it, and there is no further turn.
    pub fn turn(&mut self, block: bool) -> Result<Turn> {
        let (turned, wakes) = self.step(block);
        self.wakes |= wakes;
        self.wake();
        turned
    }

    /// One turn, and whether somebody is to be woken before the next.
    fn step(&mut self, block: bool) -> (Result<Turn>, bool) {
        let turned = self.go_on(block);
        if let Err(error) = &turned {
            self.end(error);
        }
        let wakes = !matches!(turned, Ok(Turn::Goes)) && std::mem::take(&mut self.wakes);
        (turned, wakes)
    }

    fn go_on(&mut self, block: bool) -> Result<Turn> {
        if let Some(error) = self.shared.marks.failed() {
            // A commit has found out.
            return Err(error);
        }
        if self.has_more() {
            // Before the next group goes: those who are woken now have their next record in it.
            self.wake();
        }
        let now = self.shared.clock.now_ns();
        self.find_room(now)?;
        let closing = self.shared.closing.load(Ordering::Acquire);
        self.name_losses()?;
        self.place(now, closing)?;
        self.tend_slots(now);
        if closing && self.needs_room && self.room_retry_ns.is_some() && self.writer.is_drained() {
            self.stops_without_room()?;
        }
        if closing && self.is_finished() {
            self.keeper.close(&self.shared, &self.writer)?;
            return Ok(Turn::Closed);
        }
        let wait = if block && !self.writer.gives_up() { self.wait(now) } else { Some(Wait::Now) };
        // What has come meanwhile goes with the rest, in one call.
        let Some(wait) = wait else { return Ok(Turn::Goes) };
        // A slot's completion comes to the device alone.
        if block && wait != Wait::Now && self.writer.is_quiet() && self.writer.slots_are_quiet() {
            return Ok(Turn::Idle(wait));
        }
        let shared = Arc::clone(&self.shared);
        self.wake();
        let progress = self.writer.turn(wait, || shared.clock.now_ns(), closing)?;
        self.shared.wants.store(0, Ordering::Release);
        self.apply(progress)?;
        if self.keeper.is_due(&self.shared, &self.writer) {
            // Nobody waits for a write of `state`.
            self.wake();
        }
        self.keeper.tend(&self.shared, &self.writer)?;
        Ok(Turn::Goes)
    }

    /// The first slot, before anybody appends.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if self.shared.uses_log() {
            let found = self.writer.make_first_slot()?;
            self.shared.log_full.store(!found, Ordering::Release);
        }
        let mut queue = lock(&self.shared.queue);
        queue.room = self.room(&queue);
        Ok(())
    }

    /// Slots ahead of need, made while nobody waits for them; asked for again when there was no room.
    fn find_room(&mut self, now_ns: u64) -> Result<()> {
        let freed = self.shared.room_freed.swap(false, Ordering::AcqRel);
        let held_up = self.room_retry_ns.is_some_and(|retry| now_ns < retry);
        if (held_up && !freed) || !self.shared.uses_log() {
            self.shared.room_freed.fetch_or(freed, Ordering::AcqRel);
            return Ok(());
        }
        let closing = self.shared.closing.load(Ordering::Acquire);
        // Whoever closes needs no more than there is to write.
        let stock = self.writer.stock_up(if closing { 1 } else { AHEAD_COUNT }, now_ns)?;
        let found = stock != Stock::Spent || self.reclaims()?;
        let slots = self.writer.counts().slots;
        let was_full = self.shared.log_full.swap(!found, Ordering::AcqRel);
        // Who was refused for want of a slot looks again when there is one, and when none can be had.
        self.room_changed |=
            was_full == found || freed || std::mem::replace(&mut self.slots_told, slots) < slots;
        self.needs_room &= !found;
        self.room_retry_ns = (!found).then_some(now_ns + ROOM_RETRY_NS);
        Ok(())
    }

    /// With `drop_oldest` the oldest segment makes room, behind a gap; but only for a block that needs it.
    fn reclaims(&mut self) -> Result<bool> {
        if self.shared.full != FullPolicy::DropOldest || !self.needs_room {
            return Ok(false);
        }
        reclaim::drop_oldest_segment(&self.shared)
    }

    /// The store closes and the disk takes no more: what memory still holds is named, or refused aloud.
    fn stops_without_room(&mut self) -> Result<()> {
        let mut queue = lock(&self.shared.queue);
        queue.seal();
        let Some(first) = queue.first_unplaced() else { return Ok(()) };
        self.needs_room = false;
        let last = queue.next_sequence() - 1;
        if self.shared.full == FullPolicy::Reject || self.shared.full == FullPolicy::Block {
            let sentence =
                format!("the disk is full: records {first} to {last} are not durable; free some space");
            return Err(Error::new(Kind::NoSpace, sentence));
        }
        let (mut gaps, mut run) = (Vec::new(), GapBuilder::new(self.shared.epoch, Reason::DiskFull));
        queue.drop_unplaced(|record, bytes| {
            // What lies between was dropped before, and is named.
            if record.sequence != run.last_sequence() + 1 {
                let next = GapBuilder::new(self.shared.epoch, Reason::DiskFull);
                gaps.extend(std::mem::replace(&mut run, next).finish());
            }
            run.add(record.sequence, record.timestamp, record.key, bytes);
        });
        drop(queue);
        gaps.extend(run.finish());
        lock(&self.shared.destinations).lose(gaps)
    }

    /// A block is written only when every loss before it is durably named: else the log would have a hole, after a
    /// power cut, that nobody can tell from what memory has delivered.
    fn name_losses(&self) -> Result<()> {
        let unnamed = self.shared.unnamed_from.load(Ordering::Acquire);
        if unnamed < self.shared.marks.appended() {
            lock(&self.shared.destinations).write_gaps()?;
        }
        Ok(())
    }

    fn place(&mut self, now_ns: u64, closing: bool) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut queue = lock(&shared.queue);
        let through = self.log_through(closing);
        if self.seals(&queue, now_ns, closing, through) {
            queue.seal();
        }
        self.let_go_of_held(&mut queue, now_ns);
        // Losses are noted under the queue's lock: there are no others before these blocks.
        let through = through.min(shared.unnamed_from.load(Ordering::Acquire));
        while self.writer.is_ready() {
            let is_last = queue.unplaced_count() == 1;
            let Some(block) = queue.next_unplaced().filter(|block| block.extract().first_sequence <= through)
            else {
                break;
            };
            match self.writer.place(block, is_last)? {
                Placed::Yes => queue.placed_one(),
                Placed::NoRoom => {
                    if !std::mem::replace(&mut self.needs_room, true) {
                        // Not known yet when the last one was asked for.
                        self.room_retry_ns = None;
                    }
                    break;
                }
                Placed::NotNow => {
                    self.room_retry_ns = Some(now_ns + ROOM_RETRY_NS);
                    break;
                }
            }
        }
        let unplaced = queue.first_unplaced().is_some_and(|first| first <= through);
        if unplaced || !self.writer.is_quiet() {
            self.busy_ns = now_ns;
        }
        // What is given back is in no room that was promised: both change under this lock.
        self.writer.plan_slots(self.quiet(now_ns), now_ns);
        queue.room = self.room(&queue);
        let wanted = !queue.room.is_exhausted() && shared.room_wanted.swap(false, Ordering::Relaxed);
        drop(queue);
        if std::mem::take(&mut self.room_changed) || wanted {
            shared.marks.room_changed();
        }
        Ok(())
    }

    /// How quiet the log is, for what is done while nobody needs it.
    fn quiet(&self, now_ns: u64) -> Quiet {
        let is_busy = self.busy_ns == now_ns || self.shared.closing.load(Ordering::Acquire);
        Quiet {
            since_ns: (!is_busy).then_some(self.busy_ns),
            spilling: !self.is_always && self.shared.to_log.load(Ordering::Acquire),
            has_written: self.writer.counts().blocks > 0,
        }
    }

    /// What is done for spare slots while nobody needs them; when it is over, the status has changed.
    fn tend_slots(&mut self, now_ns: u64) {
        let quiet = self.quiet(now_ns);
        self.writer.tend_slots(quiet, now_ns);
        let counts = self.writer.counts();
        let done = [counts.slots, counts.slots_given_back, counts.zero_bytes];
        let goes_on = !self.writer.slots_are_quiet() || self.writer.slots_due_ns(quiet).is_some();
        if done != self.chores_told && !goes_on {
            self.chores_told = done;
            self.shared.counts.note_writer(counts);
            self.shared.tell_listeners();
        }
    }

    /// Everything up to here goes to the log: all of it, or what somebody wants durable.
    fn log_through(&self, closing: bool) -> u64 {
        if closing || self.shared.to_log.load(Ordering::Acquire) {
            u64::MAX
        } else {
            self.shared.marks.awaited()
        }
    }

    fn seals(&self, queue: &MemoryQueue, now_ns: u64, closing: bool, through: u64) -> bool {
        let Some(since) = queue.open_since_ns() else { return false };
        if closing {
            return true;
        }
        let prompt = !self.writer.is_writing() && self.writer.is_ready() && !queue.has_unplaced();
        (prompt && self.awaits_open(queue)) || (through == u64::MAX && now_ns >= since + self.linger_ns)
    }

    /// When producers that are held go on: the log has let go of nothing for as long as a window may take. Nothing
    /// while none can be held.
    fn let_go_ns(&self, queue: &MemoryQueue) -> Option<u64> {
        let limit = self.run_ahead.as_ref()?.limit_blocks();
        let since_ns = queue.open_since_ns().unwrap_or(0).max(self.released_ns);
        (queue.sealed_count() >= limit).then_some(since_ns + WINDOW_NS_MAX)
    }

    /// Producers that are held for a log that has stopped go on: memory has room.
    fn let_go_of_held(&mut self, queue: &mut MemoryQueue, now_ns: u64) {
        if self.let_go_ns(queue).is_none_or(|due| now_ns < due) {
            return;
        }
        if let Some(run_ahead) = &mut self.run_ahead {
            run_ahead.stalled();
            queue.hold_from(run_ahead.limit_blocks());
            self.room_changed = true;
        }
    }

    /// What the log will surely take beyond what it has been promised already.
    fn room(&self, queue: &MemoryQueue) -> Room {
        if !self.shared.limits_room() {
            return Room::UNLIMITED;
        }
        let mut room = self.writer.room();
        for run in queue.unplaced_runs() {
            if !room.take(run) {
                return Room { active_blocks: 0, spare_segments: 0, ..room };
            }
        }
        room
    }

    /// How long to wait, and for what producers should wake this thread meanwhile; `None` when there is more to
    /// place first.
    fn wait(&mut self, now_ns: u64) -> Option<Wait> {
        let quiet = self.writer.is_quiet();
        let wants = match (self.writer.is_writing(), quiet) {
            // The next completion is near, and shows what has come meanwhile.
            (true, _) => 0,
            (false, false) => WANTS_BLOCKS | WANTS_AWAITED,
            (false, true) => WANTS_BLOCKS | WANTS_AWAITED | WANTS_OPENED,
        };
        self.shared.wants.store(wants, Ordering::SeqCst);
        let closing = self.shared.closing.load(Ordering::SeqCst);
        let queue = lock(&self.shared.queue);
        let through = self.log_through(closing);
        let held_up = self.room_retry_ns;
        let unplaced = queue.first_unplaced().is_some_and(|first| first <= through);
        // What waits for a slot that is coming waits for its completion.
        let waits_for_slot = self.needs_room && self.writer.stock() == Stock::Coming;
        let can_place = unplaced && held_up.is_none() && !waits_for_slot && self.writer.is_ready();
        if can_place || self.seals(&queue, now_ns, closing, through) {
            return None;
        }
        let linger = queue
            .open_since_ns()
            .filter(|_| quiet && through == u64::MAX)
            .map(|since| since + self.linger_ns);
        let held = self.let_go_ns(&queue);
        let slots = self.writer.slots_due_ns(self.quiet(now_ns));
        let idle = [self.writer.sync_due_ns(), self.keeper.due_ns(), held_up, slots];
        let idle = idle.into_iter().flatten().filter(|_| quiet);
        let due = idle.chain(linger).chain(held).min();
        Some(match due {
            None => Wait::Forever,
            Some(due) if due <= now_ns => Wait::Now,
            Some(due) => Wait::For(Duration::from_nanos(due - now_ns)),
        })
    }

    fn apply(&mut self, progress: Progress) -> Result<()> {
        let marks = &self.shared.marks;
        // Before the marks: whoever is woken finds its record counted.
        self.shared.counts.note_writer(self.writer.counts());
        if let Some(nanoseconds) = progress.sync_ns {
            self.shared.counts.note_sync(nanoseconds);
        }
        if progress.written > 0 || progress.durable > 0 {
            let now = self.shared.clock.now_ns();
            let written = marks.written().max(progress.written).max(progress.durable);
            let releasable = if self.shared.durable_first { progress.durable } else { written };
            let mut queue = lock(&self.shared.queue);
            let released = queue.release(releasable);
            if let Some(run_ahead) = &mut self.run_ahead {
                run_ahead.observe(now, released, queue.sealed_count());
                queue.hold_from(run_ahead.limit_blocks());
            }
            self.shared.counts.note_held(&queue);
            drop(queue);
            marks.advance(written, progress.durable.max(marks.durable()));
            self.wakes = true;
            if released > 0 {
                self.released_ns = now;
                marks.room_changed();
            }
            self.shared.tell_listeners();
        }
        if let Some(cause) = progress.place_again {
            self.place_again(&cause)?;
        }
        Ok(())
    }

    /// Memory still holds what was not durable: it goes to a fresh segment, in order, as it was.
    /// What memory has let go of is lost, and named.
    fn place_again(&mut self, cause: &Error) -> Result<()> {
        let durable = self.shared.marks.durable();
        let mut queue = lock(&self.shared.queue);
        queue.replace_after(durable);
        let held = queue.first_sequence().unwrap_or(queue.next_sequence());
        drop(queue);
        if !self.shared.durable_first && held > durable + 1 {
            self.shared.lost_with_the_device(durable + 1, held - 1)?;
        }
        tracing::warn!(cause = %cause, from = durable + 1, "writing again, in a fresh segment");
        Ok(())
    }

    fn is_finished(&self) -> bool {
        let queue = lock(&self.shared.queue);
        let is_quiet = self.writer.is_quiet() && self.writer.slots_are_quiet();
        self.writer.is_drained() && is_quiet && queue.first_sequence().is_none()
    }
}
