//! What each destination has, and what none will ever have: the cursors and the gaps, behind one lock.
//!
//! ```text
//!            gaps_through      confirmed        sent
//!  ───────────────┼────────────────┼──────────────┼──────────► sequence
//!   had it, gaps   gaps to be told   on the wire    not read, or read and not sent
//!   told
//! ```
//!
//! *Confirmed* moves when the sink has something, or when a durable gap names it. A gap that was made while the
//! destination was away is confirmed at once (its slot may go) and told later, in band: `gaps_through` remembers
//! how far that has come. Order on disk: gap, then cursor, then the slot is recycled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::cursor::{Cursor, CursorState};
use crate::error::Result;
use crate::gaps::{Gap, GapFile, Reason, Totals};
use crate::io::Disk;
use crate::position::{Epoch, StoreId};
use crate::queue::memory::Full;
use crate::record::Record;
use crate::segment::writer::Notes;
use crate::sink::{Batch, Item};
use crate::store::shared::lock;

/// One destination.
#[derive(Debug)]
pub(crate) struct Destination {
    cursor: Cursor,
    /// What the cursor will say when it is written next.
    state: CursorState,
    /// The last sequence on the wire; `state.confirmed` when nothing is.
    sent: u64,
}

/// All of them, and the gaps that they share.
#[derive(Debug)]
pub(crate) struct Destinations {
    disk: Arc<dyn Disk>,
    store: StoreId,
    list: Vec<Destination>,
    gaps: GapFile,
    /// The lowest loss that only memory names; `u64::MAX` when there is none.
    unnamed_from: Arc<AtomicU64>,
    notes: Arc<Mutex<Notes>>,
}

impl Destinations {
    pub(crate) fn new(disk: Arc<dyn Disk>, store: StoreId, cursors: Vec<Cursor>, gaps: GapFile) -> Self {
        let list = cursors.into_iter().map(Destination::new).collect();
        let unnamed_from = Arc::new(AtomicU64::new(u64::MAX));
        let destinations = Self { disk, store, list, gaps, unnamed_from, notes: Arc::default() };
        destinations.note();
        destinations
    }

    /// The place of `name`, which is made if it is new: it answers for everything after what all others have.
    pub(crate) fn open(&mut self, name: &str) -> Result<usize> {
        if let Some(index) = self.list.iter().position(|one| one.cursor.name() == name) {
            return Ok(index);
        }
        let state = CursorState::since(self.slowest());
        let cursor = Cursor::create(self.disk.as_ref(), name, self.store, state)?;
        let synced = self.disk.sync_names();
        synced.map_err(|error| crate::Error::io(format!("cursor-{name} can't be made durable"), error))?;
        self.list.push(Destination::new(cursor));
        self.note();
        Ok(self.list.len() - 1)
    }

    /// Everything up to here is with every destination, or named.
    pub(crate) fn slowest(&self) -> u64 {
        self.list.iter().map(|one| one.state.confirmed).min().unwrap_or(0)
    }

    /// What the cursor of this destination says, written or not.
    pub(crate) fn state(&self, index: usize) -> &CursorState {
        &self.list[index].state
    }

    /// What this destination will never have, by reason, confirmed or not.
    pub(crate) fn dropped(&self, index: usize) -> Totals {
        let state = &self.list[index].state;
        let mut dropped = state.dropped;
        for gap in self.gaps.covering(state.confirmed + 1, u64::MAX) {
            dropped.add(gap.reason, gap.losses_within(state.confirmed + 1, u64::MAX));
        }
        dropped
    }

    /// The names, in the order of their places.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|one| one.cursor.name())
    }

    /// What the next segment header repeats; follows what is durable in the cursors.
    pub(crate) fn notes(&self) -> Arc<Mutex<Notes>> {
        Arc::clone(&self.notes)
    }

    fn note(&self) {
        let first = self.list.first().map(|one| one.cursor.state().dropped.encode());
        let destinations = self.list.iter().map(|one| one.cursor.state().entry(one.cursor.name())).collect();
        *lock(&self.notes) = Notes { dropped: first.unwrap_or_default(), destinations };
    }

    /// The gaps.
    pub(crate) fn gaps(&self) -> &GapFile {
        &self.gaps
    }

    /// The batch goes on the wire, unless something in it was dropped, or named, since it was read.
    pub(crate) fn claim(&mut self, index: usize, batch: &Batch) -> bool {
        let one = &mut self.list[index];
        let last = batch.last_sequence();
        let first_record = batch.iter().find_map(|item| match item {
            Item::Data(record) => Some(record.sequence),
            Item::Gap(_) => None,
        });
        let told = batch.gaps();
        let is_told = |gap: &Gap| {
            told.iter()
                .any(|one| (one.first_sequence, one.last_sequence) == (gap.first_sequence, gap.last_sequence))
        };
        let mut named = self.gaps.covering(batch.first_sequence(), last);
        if first_record.is_some_and(|first| first <= one.state.confirmed) || !named.all(is_told) {
            return false;
        }
        one.sent = one.sent.max(last);
        true
    }

    /// What was on the wire is not delivered, as far as anybody knows.
    pub(crate) fn take_back(&mut self, index: usize) {
        let one = &mut self.list[index];
        one.sent = one.state.confirmed;
    }

    /// The destination has everything up to `through`, and was told of every gap up to there.
    /// How many records it got by that: what a gap names, it did not get.
    pub(crate) fn confirm(&mut self, index: usize, through: u64) -> u64 {
        let delivered = self.confirm_over(index, through);
        let one = &mut self.list[index];
        one.state.gaps_through = one.state.gaps_through.max(through);
        one.sent = one.sent.max(one.state.confirmed);
        delivered
    }

    fn confirm_over(&mut self, index: usize, through: u64) -> u64 {
        let one = &mut self.list[index];
        let confirmed = one.state.confirmed;
        if through <= confirmed {
            return 0;
        }
        let mut delivered = through - confirmed;
        for gap in self.gaps.covering(confirmed + 1, through) {
            let count = gap.losses_within(confirmed + 1, through);
            delivered -= count;
            one.state.dropped.add(gap.reason, count);
            one.state.inexact |= gap.reason == Reason::UncleanStop;
        }
        one.state.delivered += delivered;
        one.state.confirmed = through;
        delivered
    }

    /// Names losses. Durable when it returns.
    pub(crate) fn lose(&mut self, gaps: impl IntoIterator<Item = Gap>) -> Result<()> {
        gaps.into_iter().for_each(|gap| self.add(gap));
        self.write_gaps()
    }

    /// Makes every gap durable.
    pub(crate) fn write_gaps(&mut self) -> Result<()> {
        self.gaps.write()?;
        self.unnamed_from.store(u64::MAX, Ordering::Release);
        Ok(())
    }

    /// The lowest loss that is not durably named yet, for who must not take this lock.
    pub(crate) fn unnamed_from(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.unnamed_from)
    }

    fn add(&mut self, gap: Gap) {
        // Merged gaps must not reach across the place of a destination, or its account would be a guess.
        let places: Vec<u64> = self
            .list
            .iter()
            .flat_map(|one| [one.state.confirmed, one.state.gaps_through, one.sent])
            .collect();
        self.gaps.keep_apart_at(&places);
        self.unnamed_from.fetch_min(gap.first_sequence, Ordering::AcqRel);
        let _ = self.gaps.add(gap);
    }

    /// Names a loss at the tail; written with the next [`Destinations::persist`], at most 100 ms later.
    pub(crate) fn drop_newest(&mut self, epoch: Epoch, record: &Record<'_>, sequence: u64, full: Full) {
        let key = record.stored_key();
        self.add(Gap {
            epoch,
            first_sequence: sequence,
            last_sequence: sequence,
            count: 1,
            bytes: (key.len() + record.payload.len()) as u64,
            first_timestamp: record.timestamp,
            last_timestamp: record.timestamp,
            reason: if full == Full::Memory { Reason::QueueFull } else { Reason::DiskFull },
            keys: if key.is_empty() { Vec::new() } else { vec![(key.to_vec(), 1)] },
            other_keys_count: 0,
        });
    }

    /// From here on up, at or below `last`, nothing is on the wire and some destination still wants it.
    pub(crate) fn droppable_from(&self, last: u64) -> Option<u64> {
        let wanted = self.list.iter().filter(|one| one.state.confirmed < last);
        wanted.map(|one| one.sent.max(one.state.confirmed) + 1).min().filter(|&first| first <= last)
    }

    /// Drops `first..=last`, of which `gaps` name what is lost, for every destination that has nothing of it on the
    /// wire. The gaps are durable when it returns.
    pub(crate) fn drop_oldest(&mut self, gaps: Vec<Gap>, first: u64, last: u64) -> Result<()> {
        self.lose(gaps)?;
        for index in 0..self.list.len() {
            let one = &self.list[index];
            if one.state.confirmed + 1 >= first && one.sent < first {
                self.confirm_over(index, last);
                self.list[index].sent = self.list[index].state.confirmed;
            }
        }
        Ok(())
    }

    /// Whether the older copy of some cursor holds back what may be recycled: it is to be persisted once more, though
    /// nothing moves.
    pub(crate) fn lag(&self) -> bool {
        self.list.iter().any(Destination::lags)
    }

    /// Writes what has changed, and what only one copy says: gaps first, then cursors. Gives what every copy of every
    /// cursor is past: slots up to there may be recycled. Blocks for a sync per file that it writes.
    pub(crate) fn persist(&mut self) -> Result<u64> {
        self.write_gaps()?;
        for one in &mut self.list {
            if *one.cursor.state() != one.state || one.lags() {
                one.cursor.write(one.state.clone())?;
            }
        }
        let told =
            self.list.iter().map(|one| one.state.gaps_through.min(one.state.confirmed)).min().unwrap_or(0);
        let _ = self.gaps.remove_below(told);
        self.note();
        Ok(self.recyclable())
    }

    /// Writes each cursor once more, so that both copies say the same: what can be recycled is not held back by
    /// the older copy. For when room is short.
    pub(crate) fn persist_twice(&mut self) -> Result<u64> {
        self.persist()?;
        for one in &mut self.list {
            if one.lags() {
                one.cursor.write(one.state.clone())?;
            }
        }
        Ok(self.recyclable())
    }

    /// What every copy of every cursor is past: slots up to there may be recycled.
    pub(crate) fn recyclable(&self) -> u64 {
        self.list.iter().map(|one| one.cursor.confirmed_in_both_copies()).min().unwrap_or(0)
    }

    /// Notes the measured steady state with the cursor.
    pub(crate) fn note_steady_state(&mut self, index: usize, records_milli: u64, bytes: u64) {
        let state = &mut self.list[index].state;
        (state.steady_records_milli, state.steady_bytes) = (records_milli, bytes);
    }
}

impl Destination {
    fn new(cursor: Cursor) -> Self {
        let state = cursor.state().clone();
        Self { sent: state.confirmed, state, cursor }
    }

    /// Whether the older copy of the cursor is behind.
    fn lags(&self) -> bool {
        self.cursor.confirmed_in_both_copies() < self.state.confirmed
    }
}
