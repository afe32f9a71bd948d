//! Puts records, whole or in parts, into a batch in their order, and says what is absent between them.
//!
//! Pure: it is given what was found, in the order of the log, and knows neither file nor block.

use crate::position::Epoch;
use crate::record::PartPlace;
use crate::segment::format::slot_name;
use crate::segment::reader::Fill;
use crate::segment::recovery::Damage;
use crate::sink::{Batch, CopyLimits, RecordRef};

/// Where one call to fill a batch stops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) limits: CopyLimits,
    /// Bytes in the batch when the call began.
    pub(crate) start: usize,
    /// The highest sequence that may be taken.
    pub(crate) readable: u64,
}

/// What sequences between two records mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// They were never logged.
    Jump,
    /// They were, and are lost.
    Lost,
}

/// A record, or one part of it, that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) record: RecordRef<'a>,
    pub(crate) place: Option<PartPlace>,
    /// In which slot's file.
    pub(crate) slot: u32,
    /// Where in it.
    pub(crate) offset: u64,
    pub(crate) absent: Absent,
}

/// What became of an item.
#[must_use]
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is in the batch, or nobody wants it.
    Passed,
    /// It is damaged; what it stood for is passed.
    Lost(Damage),
    /// Not taken: something is to be said first.
    Stop(Fill),
}

/// The record whose parts are being put together.
#[derive(Debug, Clone, Copy)]
struct Parts {
    sequence: u64,
    total: u32,
    have: u32,
}

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Assembly {
    next_sequence: u64,
    /// Of the batch's last record.
    parts: Option<Parts>,
}

impl Assembly {
    pub(crate) fn at(next_sequence: u64) -> Self {
        Self { next_sequence, parts: None }
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn is_within_record(&self) -> bool {
        self.parts.is_some()
    }

    /// Whether parts were put into another batch than this one.
    pub(crate) fn is_cut_off_from(&self, batch: &Batch) -> bool {
        self.parts.is_some_and(|parts| batch.last_sequence() != parts.sequence)
    }

    pub(crate) fn skip_to(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
    }

    /// Takes an item, unless something is to be said before it. `is_sound` says whether its checksum is right.
    #[inline]
    pub(crate) fn take(
        &mut self,
        item: &Item<'_>,
        is_sound: bool,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> Taken {
        // Nearly all are whole, and the next one.
        let is_next = item.record.sequence == self.next_sequence && item.record.sequence <= bounds.readable;
        let is_whole = item.place.is_none() && self.parts.is_none();
        if is_sound && is_next && is_whole && item.epoch == batch.epoch() && !is_full(batch, item, bounds) {
            batch.push(item.record);
            self.next_sequence += 1;
            return Taken::Passed;
        }
        self.weigh(item, is_sound, batch, bounds)
    }

    fn weigh(&mut self, item: &Item<'_>, is_sound: bool, batch: &mut Batch, bounds: &Bounds) -> Taken {
        let sequence = item.record.sequence;
        if sequence < self.next_sequence {
            return Taken::Passed;
        }
        if sequence > bounds.readable {
            return Taken::Stop(Fill::Drained);
        }
        if self.parts.is_some_and(|parts| !parts.goes_on_with(item))
            && let Some(damage) = self.break_off(batch, item.slot, item.offset)
        {
            return Taken::Stop(Fill::Damaged(damage));
        }
        let begins = item.place.is_none_or(|place| place.offset.get() == 0);
        if self.parts.is_none() {
            if let Some(fill) = self.absent_before(item) {
                return Taken::Stop(fill);
            }
            if item.epoch != batch.epoch() {
                return Taken::Stop(Fill::Epoch(item.epoch));
            }
            if begins && is_full(batch, item, bounds) {
                return Taken::Stop(Fill::Full);
            }
        }
        if (begins || self.parts.is_some()) && is_sound {
            self.put(item, batch);
            return Taken::Passed;
        }
        self.give_up(batch);
        self.next_sequence = sequence + 1;
        Taken::Lost(damage(sequence, sequence, item.slot, item.offset))
    }

    fn absent_before(&mut self, item: &Item<'_>) -> Option<Fill> {
        let (first, sequence) = (self.next_sequence, item.record.sequence);
        self.next_sequence = sequence;
        (first < sequence).then(|| match item.absent {
            Absent::Jump => Fill::Jump { first, last: sequence - 1 },
            Absent::Lost => Fill::Damaged(damage(first, sequence - 1, item.slot, item.offset)),
        })
    }

    fn put(&mut self, item: &Item<'_>, batch: &mut Batch) {
        let length = item.record.payload.len() as u32;
        match self.parts {
            Some(_) => batch.extend_last(item.record.payload),
            None => batch.push(item.record),
        }
        let parts = item.place.map(|place| Parts {
            sequence: item.record.sequence,
            total: place.total.get(),
            have: place.offset.get().saturating_add(length),
        });
        self.parts = parts.filter(|parts| parts.have < parts.total);
        if self.parts.is_none() {
            self.next_sequence = item.record.sequence + 1;
        }
    }

    /// Takes back the parts that are in the batch; the record may come again.
    pub(crate) fn give_up(&mut self, batch: &mut Batch) {
        if self.parts.take().is_some() {
            batch.withdraw_last();
        }
    }

    /// No more parts come: the record is lost.
    pub(crate) fn break_off(&mut self, batch: &mut Batch, slot: u32, offset: u64) -> Option<Damage> {
        let parts = self.parts?;
        self.give_up(batch);
        self.next_sequence = parts.sequence + 1;
        Some(damage(parts.sequence, parts.sequence, slot, offset))
    }

    /// Nothing below `sequence` was logged where one looks now.
    pub(crate) fn jump_to(&mut self, sequence: u64) -> Option<Fill> {
        let first = self.next_sequence;
        if self.parts.is_some() || first >= sequence {
            return None;
        }
        self.next_sequence = sequence;
        Some(Fill::Jump { first, last: sequence - 1 })
    }

    /// `first` to `last` were logged and are gone, as far as anybody wants them. What lies below `first` was
    /// not logged, and is told of first: ask again until there is nothing to say.
    pub(crate) fn lose(
        &mut self,
        first: u64,
        last: u64,
        batch: &mut Batch,
        slot: u32,
        offset: u64,
    ) -> Option<Fill> {
        if let Some(parts) = self.parts {
            // The part that should come may be all that is missing; the next one will tell.
            if last <= parts.sequence {
                return None;
            }
            return self.break_off(batch, slot, offset).map(Fill::Damaged);
        }
        if last < self.next_sequence || last < first {
            return None;
        }
        if let Some(jump) = self.jump_to(first) {
            return Some(jump);
        }
        let first = self.next_sequence;
        self.next_sequence = last + 1;
        Some(Fill::Damaged(damage(first, last, slot, offset)))
    }
}

impl Parts {
    fn goes_on_with(&self, item: &Item<'_>) -> bool {
        let next = |place: PartPlace| place.total.get() == self.total && place.offset.get() == self.have;
        item.record.sequence == self.sequence && item.place.is_some_and(next)
    }
}

/// Whether the record that begins with `item` is one too many. A record in parts counts with all of them.
#[inline]
fn is_full(batch: &Batch, item: &Item<'_>, bounds: &Bounds) -> bool {
    let total = item.place.map_or(0, |place| place.total.get() as usize);
    bounds.limits.reached(batch, bounds.start, &item.record)
        || (batch.record_count() > 0 && batch.byte_count() + total > bounds.limits.batch_bytes_max)
}

fn damage(first_sequence: u64, last_sequence: u64, slot: u32, offset: u64) -> Damage {
    Damage { first_sequence, last_sequence, file: slot_name(slot), offset }
}
