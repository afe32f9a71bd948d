//! The reader where no block can be believed: how far the damage goes, and which records in it are whole.

use std::io;
use std::sync::Arc;

use super::reader::{Fill, LogReader, Position, Repair, Segments, may_follow};
use crate::position::Epoch;
use crate::segment::assembly::{Absent, Bounds, Item, Taken};
use crate::segment::catalog::Segment;
use crate::segment::format::{ALIGNMENT, Envelope, Opened, open_envelope};
use crate::segment::salvage::{Search, Window, scratch};
use crate::segment::survey::{Proof, Survey, read_steps};
use crate::sink::{Batch, RecordRef};

impl LogReader {
    /// Nothing that may be at the position is there: how far does that go?
    pub(super) fn examine(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        next: Option<&Segment>,
        position: Position,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        let file = self.stream.file(segments, segment)?;
        let mut page = scratch()?;
        read_steps(&*file, &mut page[..ALIGNMENT], 0);
        if let Opened::Sound { store, generation, .. } = open_envelope(Envelope::Segment, &page[..ALIGNMENT])
            && (generation != segment.id || store != self.store)
        {
            return Ok(Some(self.recycled(batch)));
        }
        let mut survey = Survey::begin(&mut self.stream, segments, segment, position.offset, Proof::Headers)?;
        let behind = loop {
            let Some(block) = survey.next()? else { break None };
            let (first, last) = (block.first_sequence, block.last_sequence);
            if may_follow(&self.epochs, position, next, block.epoch, first, last) {
                break Some(block);
            }
        };
        let known = self.epochs.iter().next_back().map_or(position.epoch, |(epoch, _)| epoch);
        let (until, last_sequence, newest) = match (&behind, next) {
            (Some(block), _) => (block.offset, block.previous_sequence.min(block.last_sequence), block.epoch),
            (None, Some(next)) => (segment.end, next.previous_sequence, next.epoch),
            (None, None) => (segment.end, bounds.readable, known),
        };
        self.fetch_next = behind.is_some_and(|block| block.offset == position.offset);
        self.repair_stretch(segment, position, file, until, last_sequence, newest)?;
        Ok(None)
    }

    fn repair_stretch(
        &mut self,
        segment: &Segment,
        position: Position,
        file: Arc<dyn crate::io::File>,
        until: u64,
        last_sequence: u64,
        newest: Epoch,
    ) -> io::Result<()> {
        let within = self.assembly.is_within_record();
        let first = if within { position.last_sequence } else { position.last_sequence + 1 };
        self.repair = Some(Repair {
            search: Search::new(position.offset, until.max(position.offset))?,
            oldest: position.epoch.min(newest),
            newest,
            file,
            first_sequence: first.max(segment.base_sequence),
            last_sequence,
            until: until.max(position.offset),
        });
        Ok(())
    }

    /// Takes the next record out of a damaged stretch, or says what is missing.
    pub(super) fn mend(
        &mut self,
        segments: &dyn Segments,
        segment: &Segment,
        batch: &mut Batch,
        bounds: &Bounds,
    ) -> io::Result<Option<Fill>> {
        let (Some(position), Some(repair)) = (self.position, self.repair.as_mut()) else { return Ok(None) };
        if let Some(jump) = self.assembly.jump_to(repair.first_sequence) {
            return Ok(Some(jump));
        }
        let sequences = self.assembly.next_sequence()..=repair.last_sequence;
        if !sequences.is_empty() {
            let window = Window::new(self.store, sequences, repair.oldest, repair.newest, &self.epochs);
            if let Some((offset, found)) = repair.search.peek(&*repair.file, &window) {
                let piece = found.piece;
                let record = RecordRef {
                    sequence: piece.sequence,
                    timestamp: piece.timestamp,
                    key: piece.key,
                    payload: piece.payload,
                };
                let (epoch, place, bytes) = (found.epoch, piece.place, found.end - found.start);
                let slot = position.slot;
                let item = Item { epoch, record, place, slot, offset, absent: Absent::Lost };
                return Ok(match self.assembly.take(&item, true, batch, bounds) {
                    Taken::Stop(fill) => Some(fill),
                    Taken::Passed => {
                        repair.search.advance(bytes);
                        None
                    }
                    Taken::Lost(damage) => {
                        repair.search.advance(bytes);
                        Some(Fill::Damaged(damage))
                    }
                });
            }
        }
        let missing_to = repair.last_sequence.min(bounds.readable);
        let first = repair.first_sequence;
        if let Some(fill) = self.assembly.lose(first, missing_to, batch, position.slot, position.offset) {
            return Ok(Some(fill));
        }
        if self.assembly.next_sequence() <= repair.last_sequence && !self.assembly.is_within_record() {
            return Ok(Some(Fill::Drained));
        }
        let (offset, last) = (repair.until, repair.last_sequence.max(position.last_sequence));
        self.repair = None;
        self.position = Some(Position { offset, last_sequence: last, ..position });
        self.stream.restart(segments, segment, offset)?;
        Ok(None)
    }
}
