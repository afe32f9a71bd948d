//! Reads a store in order: records, and between them each loss, named or not, where it was.
//!
//! Positions only ascend. What a gap names is not shown as records or as damage again, even where its bytes are
//! still there: the ledger counts a sequence once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gaps::Gap;
use crate::io::{Backend, Disk, Wait};
use crate::position::{Epoch, StoreId};
use crate::segment::reader::{Fill, LogReader, Segments as _};
use crate::segment::recovery::{Damage, Recovered};
use crate::segment::snapshot::Snapshot;
use crate::sink::{Batch, CopyLimits, Lane};
use crate::store::archive::Archive;

/// How much one step copies.
const LIMITS: CopyLimits =
    CopyLimits { records_max: 16_384, batch_bytes_max: 1 << 20, copy_bytes_max: 1 << 20 };

/// What comes next.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The batch has records.
    Records,
    /// A loss that is named.
    Gap(Gap),
    /// A loss that no gap names yet.
    Damaged(Damage),
    /// Never logged, with good reason: memory delivered them.
    Absent {
        /// The first sequence that is absent.
        first: u64,
        /// The last sequence that is absent.
        last: u64,
    },
    /// Whoever writes has let go of these meanwhile: no loss, every destination has them.
    Trimmed {
        /// The first sequence that is gone.
        first: u64,
        /// The last sequence that is gone.
        last: u64,
    },
    /// That was all.
    End,
}

/// See the module. Stays on the thread that made it.
pub struct ArchiveReader {
    disk: Arc<dyn Disk>,
    store: StoreId,
    snapshot: Snapshot,
    log: LogReader,
    epoch: Epoch,
    gaps: Vec<Gap>,
    /// The first gap that was not told yet.
    gap_next: usize,
    /// Losses that no block's predecessor tells of: at the front and at the very end of the log.
    loose: VecDeque<Damage>,
    steps: VecDeque<Step>,
    /// Everything below is told.
    position: u64,
    /// The last record of the log when reading began.
    readable: u64,
}

impl fmt::Debug for ArchiveReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ArchiveReader");
        shown.field("position", &self.position).field("readable", &self.readable).finish_non_exhaustive()
    }
}

impl ArchiveReader {
    pub(super) fn new(archive: &Archive, from: u64, told: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("{} can't be read", archive.disk.place()), error);
        let mut reader = Self {
            disk: Arc::clone(&archive.disk),
            store: archive.store,
            snapshot: Snapshot::new(Arc::clone(&archive.disk), &archive.recovered),
            log: LogReader::on(&*archive.disk, archive.store, Backend::Auto).map_err(failed)?,
            epoch: Epoch::default(),
            gaps: archive.gaps.clone(),
            gap_next: archive.gaps.partition_point(|gap| gap.last_sequence <= told),
            loose: loose_damage(&archive.recovered, from),
            steps: VecDeque::new(),
            position: from.max(1),
            readable: archive.recovered.last_sequence,
        };
        reader.seek()?;
        Ok(reader)
    }

    /// An empty batch for [`ArchiveReader::next`].
    pub fn batch(&self) -> Batch {
        Batch::new(self.store, self.epoch, Lane::Backfill)
    }

    /// What comes next. With [`Step::Records`] the records are in `batch`, which is emptied first.
    ///
    /// # Errors
    /// What the disk says; what can't be read of a file is damage, not an error.
    pub fn next(&mut self, batch: &mut Batch) -> Result<Step> {
        batch.restart(self.epoch);
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
            }
            if let Some(step) = self.next_loss()? {
                return Ok(step);
            }
            if self.position > self.readable {
                if self.position == u64::MAX {
                    return Ok(Step::End);
                }
                // What is left is behind the log.
                self.position = u64::MAX;
                continue;
            }
            let bound = self.gaps.get(self.gap_next).map_or(u64::MAX, |gap| gap.first_sequence - 1);
            self.fill(batch, bound.min(self.readable))?;
            if !batch.is_empty() {
                return Ok(Step::Records);
            }
        }
    }

    /// The next gap, or loose damage, if its place is here.
    fn next_loss(&mut self) -> Result<Option<Step>> {
        let gap = self.gaps.get(self.gap_next).map_or(u64::MAX, |gap| gap.first_sequence);
        let loose = self.loose.front().map_or(u64::MAX, |damage| damage.first_sequence);
        if gap.min(loose) > self.position || gap.min(loose) == u64::MAX {
            return Ok(None);
        }
        if loose < gap {
            let damage = self.loose.pop_front().expect("looked at above");
            self.queue_damage(damage);
            return Ok(self.steps.pop_front());
        }
        let gap = self.gaps[self.gap_next].clone();
        self.gap_next += 1;
        if gap.is_dense() && gap.last_sequence >= self.position {
            self.pass_over(gap.last_sequence)?;
        }
        Ok(Some(Step::Gap(gap)))
    }

    /// Goes on until there are records in the batch, or something else to say, or the bound is reached.
    fn fill(&mut self, batch: &mut Batch, bound: u64) -> Result<()> {
        loop {
            match self.log.fill(&self.snapshot, batch, LIMITS, bound).map_err(|error| self.failed(error))? {
                Fill::Waiting => {
                    self.log.wait(Wait::Forever).map_err(|error| self.failed(error))?;
                    continue;
                }
                Fill::Full => {}
                Fill::Jump { first, last } => self.queue_absence(first, last),
                Fill::Drained => self.position = self.position.max(bound + 1),
                Fill::Damaged(damage) => self.queue_damage(damage),
                Fill::Recycled => return self.look_again(),
                Fill::Epoch(epoch) => {
                    self.epoch = epoch;
                    if batch.is_empty() {
                        batch.restart(epoch);
                        continue;
                    }
                }
            }
            self.position = self.position.max(self.log.next_sequence());
            return Ok(());
        }
    }

    /// Reads and drops everything up to `last`: a gap names it.
    fn pass_over(&mut self, last: u64) -> Result<()> {
        let bound = last.min(self.readable);
        let mut dropped = self.batch();
        while self.position <= bound {
            dropped.restart(self.epoch);
            self.fill(&mut dropped, bound)?;
            self.steps.retain(|step| matches!(step, Step::Trimmed { .. }));
        }
        self.position = self.position.max(last.saturating_add(1));
        Ok(())
    }

    /// What of `damage` no gap names.
    fn queue_damage(&mut self, damage: Damage) {
        let unnamed = unnamed(&self.gaps, damage.first_sequence, damage.last_sequence);
        self.steps.extend(unnamed.into_iter().map(|(first_sequence, last_sequence)| {
            Step::Damaged(Damage { first_sequence, last_sequence, ..damage.clone() })
        }));
    }

    /// What of a jump no gap names.
    fn queue_absence(&mut self, first: u64, last: u64) {
        let unnamed = unnamed(&self.gaps, first, last);
        self.steps.extend(unnamed.into_iter().map(|(first, last)| Step::Absent { first, last }));
    }

    /// The segment under us was recycled: goes on at what is the oldest one now.
    fn look_again(&mut self) -> Result<()> {
        let archive = Archive::open_on(Arc::clone(&self.disk))?;
        let before = self.position;
        self.snapshot = Snapshot::new(Arc::clone(&self.disk), &archive.recovered);
        self.gap_next = archive.gaps.partition_point(|gap| gap.last_sequence < before);
        self.gaps.clone_from(&archive.gaps);
        self.loose = loose_damage(&archive.recovered, before);
        self.loose.retain(|damage| damage.last_sequence <= self.readable);
        self.seek()?;
        let last = (self.position - 1).min(self.readable);
        if last >= before {
            self.steps.push_back(Step::Trimmed { first: before, last });
        }
        Ok(())
    }

    /// Puts the log's reader where the next record may be.
    fn seek(&mut self) -> Result<()> {
        let Some(oldest) = self.snapshot.holding(0) else {
            self.position = self.position.max(self.readable + 1);
            return Ok(());
        };
        let absent_from = self.position.max(oldest.previous_sequence + 1);
        self.position = self.position.max(oldest.base_sequence);
        if absent_from < self.position {
            self.queue_absence(absent_from, self.position - 1);
        }
        self.log.seek(&self.snapshot, self.position).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("{} can't be read on", self.disk.place()), error)
    }
}

/// The parts of `first..=last` that no gap covers.
fn unnamed(gaps: &[Gap], mut first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for gap in gaps {
        if gap.last_sequence < first || gap.first_sequence > last {
            continue;
        }
        if gap.first_sequence > first {
            parts.push((first, gap.first_sequence - 1));
        }
        first = first.max(gap.last_sequence.saturating_add(1));
    }
    if first <= last {
        parts.push((first, last));
    }
    parts
}

/// Damage before the oldest segment and behind the last block, from `from` on.
fn loose_damage(recovered: &Recovered, from: u64) -> VecDeque<Damage> {
    let oldest = recovered.catalog.segments().next().map_or(u64::MAX, |segment| segment.base_sequence);
    let front = recovered.damage.iter().filter(|damage| damage.last_sequence < oldest);
    let loose = front.chain(&recovered.lost_tail).filter(|damage| damage.last_sequence >= from);
    loose.map(|damage| Damage { first_sequence: damage.first_sequence.max(from), ..damage.clone() }).collect()
}
