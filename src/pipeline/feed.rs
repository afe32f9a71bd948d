//! Where the next records of one destination come from: memory, the log, or a gap, in order of sequence.
//!
//! ```text
//!   next ──► a gap begins here?  tell it, go behind it
//!            memory holds it and it may be read?  copy it from there
//!            else the log has it  (up to durable, or written)
//! ```
//!
//! It decides nothing about when or how much: the reactor hands it a batch and limits. It changes nothing but
//! its own position; damage that it comes across is named, durably, before it goes on behind it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gaps::{Gap, Reason};
use crate::io::{Wait, Waker};
use crate::queue::memory::Bookmark;
use crate::segment::reader::{Fill, LogReader};
use crate::segment::recovery::Damage;
use crate::sink::{Batch, CopyLimits, Lane};
use crate::store::{Shared, lock};

/// Bytes copied under the queue's lock at a time: some microseconds.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// What [`Feed::fill`] came to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The batch is ready: a limit is reached, or what follows does not belong into it.
    Ready,
    /// Reads are in flight.
    Waiting,
    /// There is nothing more to read now.
    Drained,
}

/// The position of one destination.
pub(super) struct Feed {
    shared: Arc<Shared>,
    reader: LogReader,
    /// The next sequence to read.
    next: u64,
    /// Gaps that begin before this were told.
    told: u64,
    bookmark: Bookmark,
    /// Whether the reader stands at `next`.
    reader_is_there: bool,
    /// What memory holds may be read before it is durable (`spill = threshold`).
    from_memory: bool,
    /// Gaps told, for events.
    pub(super) found: Vec<Gap>,
}

impl Feed {
    /// Stands behind what the destination was told.
    pub(super) fn new(shared: Arc<Shared>, reader: LogReader, destination: usize, from_memory: bool) -> Self {
        let (confirmed, told) = {
            let destinations = lock(&shared.destinations);
            let state = destinations.state(destination);
            (state.confirmed, state.gaps_through)
        };
        Self {
            shared,
            reader,
            next: confirmed + 1,
            told: told + 1,
            bookmark: Bookmark::default(),
            reader_is_there: false,
            from_memory,
            found: Vec::new(),
        }
    }

    /// The next sequence that it will read.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Everything read and not confirmed is to be read again.
    pub(super) fn go_back(&mut self, destination: usize) {
        let destinations = lock(&self.shared.destinations);
        let state = destinations.state(destination);
        (self.next, self.told, self.reader_is_there) = (state.confirmed + 1, state.gaps_through + 1, false);
    }

    /// A gap that begins here was told by other means.
    pub(super) fn told_through(&mut self, first_sequence: u64) {
        self.told = self.told.max(first_sequence + 1);
    }

    /// Whether the batch's last record still lacks parts.
    pub(super) fn is_within_record(&self) -> bool {
        self.reader_is_there && self.reader.is_within_record()
    }

    /// Ends a wait from any thread.
    pub(super) fn waker(&self) -> Waker {
        self.reader.waker()
    }

    /// Waits for reads, a wake, or the time.
    pub(super) fn wait(&mut self, wait: Wait) -> Result<()> {
        self.reader
            .wait(wait)
            .map_err(|error| Error::io("the read device stopped answering: see the cause", error))
    }

    /// An empty batch for what comes next.
    pub(super) fn batch(&self, lane: Lane) -> Batch {
        Batch::new(self.shared.store, self.shared.epoch, lane)
    }

    /// Puts what comes next behind what the batch has.
    pub(super) fn fill(&mut self, batch: &mut Batch, limits: CopyLimits) -> Result<Filled> {
        loop {
            let last = match self.tell_gap(batch) {
                Told::Batch => return Ok(Filled::Ready),
                Told::Gap => continue,
                Told::Until(last) => last,
            };
            if batch.record_count() >= limits.records_max || batch.byte_count() >= limits.batch_bytes_max {
                return Ok(Filled::Ready);
            }
            match self.fill_from_queue(batch, last, limits) {
                FromQueue::Copied => continue,
                FromQueue::Full => return Ok(Filled::Ready),
                FromQueue::Nothing => return Ok(Filled::Drained),
                FromQueue::NotThere => {}
            }
            match self.fill_from_log(batch, last, limits)? {
                Some(filled) => return Ok(filled),
                None => continue,
            }
        }
    }

    /// A gap that begins at or before what comes next goes into the batch; records before the next gap follow.
    fn tell_gap(&mut self, batch: &mut Batch) -> Told {
        let destinations = lock(&self.shared.destinations);
        let Some(gap) = destinations.gaps().iter().find(|gap| gap.first_sequence >= self.told) else {
            return Told::Until(u64::MAX);
        };
        if gap.first_sequence > self.next {
            return Told::Until(gap.first_sequence - 1);
        }
        if !batch.is_empty() && batch.epoch() != gap.epoch {
            return Told::Batch;
        }
        if batch.is_empty() {
            *batch = Batch::new(batch.store(), gap.epoch, batch.lane());
        }
        self.told = gap.first_sequence + 1;
        if gap.is_dense() && gap.last_sequence >= self.next {
            (self.next, self.reader_is_there) = (gap.last_sequence + 1, false);
        }
        self.found.push(gap.clone());
        batch.push_gap(gap.clone());
        Told::Gap
    }

    fn fill_from_queue(&mut self, batch: &mut Batch, last: u64, limits: CopyLimits) -> FromQueue {
        let queue = lock(&self.shared.queue);
        if self.next >= queue.next_sequence() {
            return FromQueue::Nothing;
        }
        if !self.from_memory || queue.first_sequence().is_none_or(|first| first > self.next) {
            return FromQueue::NotThere;
        }
        if batch.epoch() != self.shared.epoch {
            if !batch.is_empty() {
                return FromQueue::Full;
            }
            *batch = Batch::new(batch.store(), self.shared.epoch, batch.lane());
        }
        let limits = CopyLimits { copy_bytes_max: COPY_BYTES_MAX, ..limits };
        let next = queue.copy_into(batch, self.next, last, limits, &mut self.bookmark);
        if next == self.next {
            return FromQueue::Full;
        }
        (self.next, self.reader_is_there) = (next, false);
        FromQueue::Copied
    }

    /// `None`: look again from the top.
    fn fill_from_log(&mut self, batch: &mut Batch, last: u64, limits: CopyLimits) -> Result<Option<Filled>> {
        let failed = |error| Error::io("the log can't be read: see the cause", error);
        let shared = Arc::clone(&self.shared);
        let marks = &shared.marks;
        let readable = if shared.durable_first { marks.durable() } else { marks.written() };
        if !self.reader_is_there {
            self.reader.seek(shared.as_ref(), self.next).map_err(failed)?;
            self.reader_is_there = true;
        }
        let fill = self.reader.fill(shared.as_ref(), batch, limits, readable.min(last)).map_err(failed)?;
        self.next = self.reader.next_sequence();
        match fill {
            Fill::Full => return Ok(Some(Filled::Ready)),
            Fill::Waiting => return Ok(Some(Filled::Waiting)),
            Fill::Drained => return Ok(self.log_is_drained(readable, last)),
            Fill::Epoch(epoch) if batch.is_empty() => *batch = Batch::new(batch.store(), epoch, batch.lane()),
            Fill::Epoch(_) => return Ok(Some(Filled::Ready)),
            Fill::Jump { .. } => {}
            Fill::Damaged(damage) => self.name(&damage, batch)?,
            Fill::Recycled => self.reader_is_there = false,
        }
        Ok(None)
    }

    /// The log has nothing more up to what may be read: what comes next is in memory, behind a gap, or to come.
    fn log_is_drained(&mut self, readable: u64, last: u64) -> Option<Filled> {
        if self.next > last {
            return None;
        }
        let in_memory = lock(&self.shared.queue).first_sequence();
        match in_memory {
            // Memory goes on here, or the log has what is between now: look again.
            Some(first) if self.from_memory && first <= self.next => None,
            // Everything before memory's first was confirmed, or is named: nothing is between.
            Some(first) if self.from_memory && readable + 1 < first && self.next > readable => {
                (self.next, self.reader_is_there) = (first, false);
                None
            }
            _ => Some(Filled::Drained),
        }
    }

    /// Damage becomes a gap, durably, and is told exactly where the loss was.
    fn name(&mut self, damage: &Damage, batch: &Batch) -> Result<()> {
        let (first, last) = (damage.first_sequence, damage.last_sequence);
        tracing::error!(file = %damage.file, offset = damage.offset, first, last, "damage: the records are lost, and named");
        let gap = Gap::of_range(batch.epoch(), first, last, Reason::Corrupt);
        lock(&self.shared.destinations).lose([gap])?;
        // The gap list has it from here on: it is told, and skipped, as any other.
        (self.next, self.reader_is_there) = (first, false);
        Ok(())
    }
}

enum Told {
    /// The batch ends before the gap.
    Batch,
    /// A gap went into the batch.
    Gap,
    /// Records up to here come before the next gap.
    Until(u64),
}

enum FromQueue {
    Copied,
    Full,
    Nothing,
    NotThere,
}
