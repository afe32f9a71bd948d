//! The file `gaps`: the unconfirmed gaps of a store, durable before what they name is let go.

use super::list::BODY_BYTES_MAX;
use super::{Added, Gap, GapList, codec};
use crate::copies::{Found, Layout, TwoCopies};
use crate::error::Result;
use crate::io::{Access, Disk};
use crate::position::StoreId;
use crate::segment::format::{Envelope, GAPS_COPY_BYTES};

const LAYOUT: Layout<'static> = Layout { name: "gaps", kind: Envelope::Gaps, copy_bytes: GAPS_COPY_BYTES };

/// The open file, and the gaps in memory. One for all destinations of a store.
///
/// What [`GapFile::add`] names is durable after the next [`GapFile::write`]; only then may a slot be recycled, a
/// range be skipped, or a cursor go past it. The file has its full size from creation on, so that a full disk
/// can't refuse a gap.
#[derive(Debug)]
pub struct GapFile {
    copies: TwoCopies,
    gaps: GapList,
    is_written: bool,
    body: Vec<u8>,
}

impl GapFile {
    /// Makes the file with no gap in it, with its 512 KiB allocated, and syncs it; the caller syncs the names.
    ///
    /// # Errors
    /// As [`TwoCopies::create`].
    pub fn create(disk: &dyn Disk, store: StoreId) -> Result<Self> {
        Ok(Self::over(TwoCopies::create(disk, LAYOUT, store, &[])?, GapList::default()))
    }

    /// Opens it. Where it is missing or damaged, what it named is unknown; recovery finds the holes again.
    ///
    /// # Errors
    /// As [`TwoCopies::open`].
    pub fn open(disk: &dyn Disk, store: StoreId, access: Access) -> Result<Found<Self>> {
        let found = TwoCopies::open(disk, LAYOUT, Some(store), access, codec::decode)?;
        Ok(found.map(|opened| Self::over(opened.copies, GapList::of(opened.newest))))
    }

    /// Makes a file whose copies are both damaged hold no gap.
    ///
    /// # Errors
    /// As [`TwoCopies::replace`].
    pub fn replace(disk: &dyn Disk, store: StoreId) -> Result<Self> {
        Ok(Self::over(TwoCopies::replace(disk, LAYOUT, store, &[])?, GapList::default()))
    }

    fn over(copies: TwoCopies, gaps: GapList) -> Self {
        Self { copies, gaps, is_written: true, body: Vec::new() }
    }

    /// Names a loss, in memory; see [`GapList::add`]. Whoever finds it, it is counted here.
    pub fn add(&mut self, gap: Gap) -> Added {
        self.is_written = false;
        let before = self.gaps.named_count();
        let added = self.gaps.add(gap);
        metrics::counter!("forebay_gaps_total").increment(self.gaps.named_count() - before);
        added
    }

    /// Forgets what the slowest destination has confirmed, in memory; see [`GapList::remove_below`]. There is
    /// no hurry to write that: a gap that comes back is below every cursor.
    pub fn remove_below(&mut self, sequence: u64) -> Vec<Gap> {
        let removed = self.gaps.remove_below(sequence);
        self.is_written &= removed.is_empty();
        removed
    }

    /// Where each destination is; see [`GapList::keep_apart_at`].
    pub fn keep_apart_at(&mut self, positions: &[u64]) {
        self.gaps.keep_apart_at(positions);
    }

    /// Writes every gap; durable when it returns `Ok`, and when it does not, what was written before still is.
    /// Nothing is written when nothing has changed. Cost: one write of the bytes in use, one sync.
    ///
    /// # Errors
    /// As [`TwoCopies::write`].
    pub fn write(&mut self) -> Result<()> {
        if self.is_written {
            return Ok(());
        }
        self.body.clear();
        codec::encode(self.gaps.iter(), &mut self.body);
        assert!(self.body.len() <= BODY_BYTES_MAX, "the list keeps to the room of the file");
        self.copies.write(&self.body)?;
        self.is_written = true;
        Ok(())
    }

    /// Whether the file says what memory says.
    pub fn is_written(&self) -> bool {
        self.is_written
    }

    /// The gaps, as memory has them.
    pub fn gaps(&self) -> &GapList {
        &self.gaps
    }

    /// The gaps that cover anything between the two sequences, both included.
    pub fn covering(&self, first: u64, last: u64) -> std::slice::Iter<'_, Gap> {
        self.gaps.covering(first, last)
    }

    /// The gap that covers `sequence`, else the first one behind it.
    pub fn next_at_or_after(&self, sequence: u64) -> Option<&Gap> {
        self.gaps.next_at_or_after(sequence)
    }

    /// Every gap, in ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, Gap> {
        self.gaps.iter()
    }

    /// How many copies (0 or 1) were found damaged and have not been written since.
    pub fn damaged_copies(&self) -> u8 {
        self.copies.damaged_copies()
    }
}
