//! The backfill reactor: one thread that reads, paces, sends and keeps account, for one destination.
//!
//! ```text
//!           ┌──────────── outcome ────────────┐
//!           ▼                                 │
//!   decide (Backfill) ──► fill (Feed) ──► forwarder ──► sink
//!           │                                 confirmed ──► cursor ──► trim
//!           └──► spill on / off, events, metrics
//! ```
//!
//! Everything that decides is in [`crate::backfill`], everything that reads in [`super::feed`]; this is the loop
//! around them. It wakes for an outcome, for more to read, for the clock; and sleeps while there is nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::backfill::connectivity::SendVerdict;
use crate::backfill::{Backfill, Decision, Input, Permission};
use crate::error::Result;
use crate::gaps::{Gap, Reason};
use crate::governor::Verdict;
use crate::io::Wait;
use crate::pipeline::feed::{Feed, Filled};
use crate::pipeline::forward::Outcomes;
use crate::pipeline::journal::Journal;
use crate::pipeline::load::Meter;
use crate::pipeline::{Control, ReactorSettings};
use crate::queue::spill::Load;
use crate::sink::{Batch, CopyLimits, Item, Outcome};
use crate::store::{Shared, lock};

/// How often input and load are looked at while something moves.
const TICK_NS: u64 = 100_000_000;

/// Live records are gathered this long, unless a batch is full before: it bounds the requests a second.
const LIVE_LINGER_NS: u64 = 10_000_000;

/// The batch that is out, or will be again.
#[derive(Debug)]
struct Pending {
    batch: Arc<Batch>,
    /// It is with the sink.
    is_out: bool,
    /// It was claimed: what is in it can't be dropped meanwhile.
    is_claimed: bool,
}

pub(super) struct Reactor {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<Control>,
    pub(super) backfill: Backfill,
    pub(super) feed: Feed,
    pub(super) meter: Meter,
    pub(super) journal: Journal,
    pub(super) settings: ReactorSettings,
    pub(super) destination: usize,
    pub(super) batches: mpsc::Sender<Arc<Batch>>,
    pub(super) outcomes: Outcomes,
    /// Batches to send before anything is read: halves of one that was rejected, or one to be sent again.
    pending: VecDeque<Pending>,
    building: Option<Batch>,
    decisions: Vec<Decision>,
    tick_ns: u64,
    persisted_ns: u64,
    live_sent_ns: u64,
    /// Something was confirmed or dropped and is not in the cursor.
    is_dirty: bool,
    /// Something was confirmed since the status was published.
    is_stale: bool,
    stop_by_ns: Option<u64>,
    /// The marks when nothing more was found to read: until they move there is nothing.
    found_nothing_at: Option<(u64, u64)>,
}

/// What the reactor is put together from.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<Control>,
    pub(super) backfill: Backfill,
    pub(super) feed: Feed,
    pub(super) journal: Journal,
    pub(super) settings: ReactorSettings,
    pub(super) destination: usize,
    pub(super) batches: mpsc::Sender<Arc<Batch>>,
    pub(super) outcomes: Outcomes,
}

impl Reactor {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { shared, control, backfill, feed, journal, settings, destination, batches, outcomes } =
            parts;
        let meter = Meter::new(Arc::clone(&shared));
        Self {
            shared,
            control,
            backfill,
            feed,
            meter,
            journal,
            settings,
            destination,
            batches,
            outcomes,
            pending: VecDeque::new(),
            building: None,
            decisions: Vec::new(),
            tick_ns: 0,
            persisted_ns: 0,
            live_sent_ns: 0,
            is_dirty: false,
            is_stale: false,
            stop_by_ns: None,
            found_nothing_at: None,
        }
    }

    /// Runs until the pipeline is closed.
    pub(super) fn run(mut self) -> Result<()> {
        let now = self.shared.clock.now_ns();
        let load = self.load();
        self.backfill.begin_behind(now, load, &mut self.decisions);
        while !self.turn()? {}
        self.persist()
    }

    /// One round: true when the reactor may end.
    fn turn(&mut self) -> Result<bool> {
        let now = self.shared.clock.now_ns();
        self.take_outcome(now)?;
        self.observe(now);
        if now >= self.persisted_ns + self.settings.cursor_interval_ns && self.is_dirty {
            self.persist()?;
            self.persisted_ns = now;
        }
        if self.may_end(now) {
            return Ok(true);
        }
        self.found_nothing_at = None;
        let next = self.send(now)?;
        self.apply_decisions();
        self.sleep(now, next)?;
        Ok(false)
    }

    /// The clean end waits for the batch that is out, but not for ever.
    fn may_end(&mut self, now_ns: u64) -> bool {
        if !self.control.stopping.load(Ordering::Acquire) {
            return false;
        }
        let by = *self.stop_by_ns.get_or_insert(now_ns + self.settings.stop_ns_max);
        !self.pending.iter().any(|pending| pending.is_out) || now_ns >= by
    }

    fn load(&self) -> Load {
        self.meter.load(self.unsent_from(), self.backfill.state().is_online())
    }

    /// The first sequence that is not on the wire and not confirmed.
    fn unsent_from(&self) -> u64 {
        let waiting =
            self.pending.iter().find(|pending| !pending.is_out).map(|pending| pending.batch.first_sequence());
        let building = self.building.as_ref().filter(|batch| !batch.is_empty()).map(Batch::first_sequence);
        waiting.or(building).unwrap_or(self.feed.next_sequence())
    }

    fn observe(&mut self, now_ns: u64) {
        let load = self.load();
        let counts = &self.shared.counts;
        let input = Input {
            records_total: self.meter.accepted_records(),
            bytes_total: counts.accepted_bytes.load(Ordering::Relaxed),
            blocked: now_ns.saturating_sub(counts.full_at_ns.load(Ordering::Relaxed)) < TICK_NS,
        };
        self.backfill.observe(now_ns, input, load, &mut self.decisions);
        if now_ns < self.tick_ns + TICK_NS {
            return;
        }
        self.tick_ns = now_ns;
        if let Some(estimate) = self.backfill.steady_state() {
            let records_milli = estimate.records_per_second.saturating_mul(1000);
            lock(&self.shared.destinations).note_steady_state(
                self.destination,
                records_milli,
                estimate.bytes_per_second,
            );
        }
        let dropped = lock(&self.shared.destinations).dropped(self.destination);
        self.journal.losses(|reason| dropped.of(reason));
        let oldest = self.pending.front().and_then(|pending| pending.batch.first_timestamp());
        self.journal.oldest(oldest);
        let for_room = dropped.of(Reason::QueueFull) + dropped.of(Reason::DiskFull);
        let status = self.meter.status(&self.backfill, load, for_room, now_ns);
        self.journal.publish(status);
        self.is_stale = false;
    }

    /// Sends what may be sent. Gives the time at which it is worth looking again, if the clock decides.
    fn send(&mut self, now_ns: u64) -> Result<Option<u64>> {
        if self.pending.iter().any(|pending| pending.is_out) || self.control.paused() {
            return Ok(None);
        }
        if self.pending.is_empty()
            && let Some(wait) = self.build(now_ns)?
        {
            return Ok(wait);
        }
        let Some(front) = self.pending.front() else { return Ok(None) };
        let (records, bytes) = (front.batch.record_count() as u64, front.batch.byte_count() as u64);
        // Large batches made while live are cut to what may ever go at once.
        let burst = self.backfill.burst();
        if records > 1
            && self.backfill.lane() == crate::sink::Lane::Backfill
            && (records > burst.records || bytes > burst.bytes)
        {
            self.split_front();
            return Ok(Some(now_ns));
        }
        match self.backfill.may_send(now_ns) {
            SendVerdict::At(at) => return Ok(Some(at)),
            SendVerdict::Yes | SendVerdict::Probe => {}
        }
        if let Verdict::NotYet { at_ns } = self.backfill.take(now_ns, records, bytes) {
            self.backfill.abandon(now_ns);
            return Ok(Some(at_ns));
        }
        self.put_on_the_wire(now_ns);
        Ok(None)
    }

    fn put_on_the_wire(&mut self, now_ns: u64) {
        let front = self.pending.front_mut().expect("asked for by who sends");
        if !front.is_claimed && !lock(&self.shared.destinations).claim(self.destination, &front.batch) {
            // Dropped since it was read.
            self.pending.clear();
            self.building = None;
            self.backfill.abandon(now_ns);
            self.feed.go_back(self.destination);
            return;
        }
        (front.is_out, front.is_claimed) = (true, true);
        self.live_sent_ns = now_ns;
        if self.batches.try_send(Arc::clone(&front.batch)).is_err() {
            // The forwarder is gone: as a destination that hangs, until somebody runs one again.
            tracing::error!("nobody runs the forwarder: records wait");
        }
    }

    /// Fills the next batch; `Some` when none is ready, with the time to look again at if the clock decides.
    fn build(&mut self, now_ns: u64) -> Result<Option<Option<u64>>> {
        let marks = self.marks();
        let load = self.load();
        let permission = self.backfill.permission(now_ns, load.unsent_records.max(1), load.unsent_bytes);
        let (records_max, batch_bytes_max) = match permission {
            Permission::At(at) => return Ok(Some(Some(at))),
            Permission::Live => (self.settings.batch_records, self.settings.batch_bytes),
            Permission::Governed(may) => (
                self.settings.batch_records.min(may.records.max(1)),
                self.settings.batch_bytes.min(may.bytes.max(1)),
            ),
        };
        let lingers = permission == Permission::Live && load.unsent_records < records_max;
        if lingers && now_ns < self.live_sent_ns + LIVE_LINGER_NS && self.stop_by_ns.is_none() {
            if load.unsent_records == 0 {
                self.found_nothing_at = Some(marks);
                return Ok(Some(None));
            }
            return Ok(Some(Some(self.live_sent_ns + LIVE_LINGER_NS)));
        }
        let limits = CopyLimits {
            records_max: records_max as usize,
            batch_bytes_max: batch_bytes_max as usize,
            copy_bytes_max: batch_bytes_max as usize,
        };
        let mut batch = self.building.take().unwrap_or_else(|| self.feed.batch(self.backfill.lane()));
        batch.set_lane(self.backfill.lane());
        let filled = self.feed.fill(&mut batch, limits)?;
        self.journal.gaps_found(&mut self.feed.found);
        if batch.is_empty() || (filled == Filled::Waiting && !self.worth_sending(&batch, limits)) {
            self.building = Some(batch);
            self.found_nothing_at = Some(marks);
            return Ok(Some(None));
        }
        self.pending.push_back(Pending { batch: Arc::new(batch), is_out: false, is_claimed: false });
        Ok(None)
    }

    /// Reads are in flight: a batch that is half full goes, a smaller one waits for them.
    fn worth_sending(&self, batch: &Batch, limits: CopyLimits) -> bool {
        !self.feed.is_within_record()
            && (batch.record_count() * 2 >= limits.records_max
                || batch.byte_count() * 2 >= limits.batch_bytes_max)
    }

    fn take_outcome(&mut self, now_ns: u64) -> Result<()> {
        let Some(outcome) = lock(&self.outcomes).pop_front() else { return Ok(()) };
        let Some(mut pending) = self.pending.pop_front() else { return Ok(()) };
        pending.is_out = false;
        let (retry_after, reason) = match outcome {
            Outcome::Accepted => {
                self.backfill.answered(now_ns, &mut self.decisions);
                self.confirm(&pending.batch, true);
                return Ok(());
            }
            Outcome::Rejected { reason } => {
                self.backfill.answered(now_ns, &mut self.decisions);
                return self.rejected(pending, &reason);
            }
            Outcome::RetryAfter { after, reason } => (after, reason),
            Outcome::Unknown { reason } => (None, reason),
        };
        self.journal.failure(&reason);
        self.pending.push_front(pending);
        self.backfill.failed(now_ns, retry_after.map(|after| after.as_nanos() as u64), &mut self.decisions);
        if !self.backfill.state().is_online() {
            self.let_go();
        }
        Ok(())
    }

    /// The destination is away: what was to be sent again may be dropped meanwhile, if room is short. Its borders
    /// stay as they are while it is not.
    fn let_go(&mut self) {
        lock(&self.shared.destinations).take_back(self.destination);
        self.pending.iter_mut().for_each(|pending| pending.is_claimed = false);
    }

    /// Everything up to the batch's end is with the destination, or named.
    fn confirm(&mut self, batch: &Batch, delivered: bool) {
        let mut destinations = lock(&self.shared.destinations);
        destinations.confirm(self.destination, batch.last_sequence());
        let slowest = destinations.slowest();
        drop(destinations);
        (self.is_dirty, self.is_stale) = (true, true);
        if delivered {
            self.journal.delivered(batch);
        }
        if lock(&self.shared.queue).release(slowest) > 0 {
            self.shared.marks.room_changed();
        }
        self.shared.marks.confirm(slowest);
    }

    /// A batch that the destination will never take is halved until the record that it minds is found; that one is
    /// named, and the rest goes on.
    fn rejected(&mut self, pending: Pending, reason: &str) -> Result<()> {
        if pending.batch.record_count() + pending.batch.gaps().len() > 1 {
            self.pending.push_front(pending);
            self.split_front();
            return Ok(());
        }
        let Some(Item::Data(record)) = pending.batch.iter().next() else {
            // Not even the news of a loss is taken: it stays named in the ledger.
            self.confirm(&pending.batch, false);
            return Ok(());
        };
        tracing::error!(
            sequence = record.sequence,
            reason,
            "the destination rejects a record: it is dropped, and named"
        );
        let gap = Gap {
            bytes: (record.key.len() + record.payload.len()) as u64,
            first_timestamp: record.timestamp,
            last_timestamp: record.timestamp,
            keys: if record.key.is_empty() { Vec::new() } else { vec![(record.key.to_vec(), 1)] },
            ..Gap::of_range(pending.batch.epoch(), record.sequence, record.sequence, Reason::RejectedBySink)
        };
        lock(&self.shared.destinations).lose([gap.clone()])?;
        self.feed.told_through(gap.first_sequence);
        self.journal.gap(&gap);
        let mut news = Batch::new(pending.batch.store(), gap.epoch, pending.batch.lane());
        news.push_gap(gap);
        self.pending.push_front(Pending { batch: Arc::new(news), is_out: false, is_claimed: true });
        Ok(())
    }

    fn split_front(&mut self) {
        let whole = self.pending.pop_front().expect("asked for by who splits");
        for half in whole.batch.halves().into_iter().rev() {
            self.pending.push_front(Pending {
                batch: Arc::new(half),
                is_out: false,
                is_claimed: whole.is_claimed,
            });
        }
    }

    fn apply_decisions(&mut self) {
        for decision in std::mem::take(&mut self.decisions) {
            match decision {
                Decision::Spill(_) => self.spill(true),
                Decision::StopSpilling => self.spill(false),
                Decision::StartBackfill | Decision::EndBackfill | Decision::Connectivity(_) => {}
            }
            let load = self.load();
            self.journal.decided(decision, load, &self.backfill);
        }
    }

    fn spill(&mut self, to_log: bool) {
        self.shared.to_log.store(to_log, Ordering::Release);
        self.shared.wake_writer();
    }

    fn persist(&mut self) -> Result<()> {
        let mut destinations = lock(&self.shared.destinations);
        let through = destinations.persist()?;
        // Once more when nothing moves: what was delivered last is recycled too, or a full log would stay full.
        self.is_dirty = destinations.lag();
        drop(destinations);
        self.shared.recycle(through);
        Ok(())
    }

    fn sleep(&mut self, now_ns: u64, next: Option<u64>) -> Result<()> {
        let moving = self.is_stale
            || self.load().unsent_records > 0
            || self.meter.moved()
            || self.control.stopping.load(Ordering::Acquire);
        let tick = moving.then_some(self.tick_ns + TICK_NS);
        let persist = self.is_dirty.then_some(self.persisted_ns + self.settings.cursor_interval_ns);
        let due = [next, tick, persist, self.stop_by_ns].into_iter().flatten().min();
        // Armed before the last look: a record that comes now wakes us.
        self.shared.reader_wants.store(self.found_nothing_at.is_some(), Ordering::SeqCst);
        let wait = match due {
            _ if self.has_news() => Wait::Now,
            None => Wait::Forever,
            Some(due) if due <= now_ns => Wait::Now,
            Some(due) => Wait::For(Duration::from_nanos(due - now_ns)),
        };
        self.feed.wait(wait)?;
        if let (Wait::For(_), Some(due)) = (wait, due) {
            self.journal.slip(self.shared.clock.now_ns(), due);
        }
        self.shared.reader_wants.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Something came between the last look and the sleep.
    fn has_news(&self) -> bool {
        !lock(&self.outcomes).is_empty() || self.found_nothing_at.is_some_and(|marks| marks != self.marks())
    }

    fn marks(&self) -> (u64, u64) {
        let marks = &self.shared.marks;
        (marks.appended(), if self.shared.durable_first { marks.durable() } else { marks.written() })
    }
}
