//! The bytes of one simulated file: as programs see them, as the platter has them, and what lies between.
//!
//! ```text
//!            write              sync
//!   program ------> live + pending ------> durable
//!                            |                |
//!                            +-- power cut ---+--> some of pending over durable
//! ```
//!
//! An [`Image`] is sparse and shared: a copy costs nothing until one side is written. The unit is the
//! sector, which a disk writes whole or not at all; a pending write therefore holds whole sectors as they
//! were right after it. Knows nothing of names, devices and errors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::random::Random;

/// The bytes of one sector; shared between images until one of them changes it.
pub(super) type Sector = Arc<[u8]>;

/// The bytes of a file; sectors that are absent read as zeros.
#[derive(Debug, Clone)]
pub(super) struct Image {
    sectors: Arc<BTreeMap<u64, Sector>>,
    sector_bytes: usize,
    pub(super) len: u64,
}

impl Image {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self { sectors: Arc::default(), sector_bytes, len: 0 }
    }

    /// Fills `buffer` from `offset`; whoever calls has cut `buffer` at the end of the file.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) {
        for (index, within, part) in pieces(self.sector_bytes, offset, buffer.len()) {
            let bytes = &mut buffer[part];
            match self.sectors.get(&index) {
                Some(sector) => bytes.copy_from_slice(&sector[within..within + bytes.len()]),
                None => bytes.fill(0),
            }
        }
    }

    /// How many bytes from the front on were written; what is only allocated has no sectors.
    pub(super) fn written_bytes(&self) -> u64 {
        let written = self.sectors.keys().zip(0..).take_while(|&(&sector, index)| sector == index).count();
        (written * self.sector_bytes) as u64
    }

    /// The sectors that a write touches, as they are after it.
    pub(super) fn overlay(&self, bytes: &[u8], offset: u64) -> Vec<(u64, Sector)> {
        pieces(self.sector_bytes, offset, bytes.len())
            .map(|(index, within, part)| {
                let bytes = &bytes[part];
                if bytes.len() == self.sector_bytes {
                    return (index, Sector::from(bytes));
                }
                let mut whole = self.sectors.get(&index).map_or_else(|| self.zeros(), |old| old.to_vec());
                whole[within..within + bytes.len()].copy_from_slice(bytes);
                (index, Sector::from(whole))
            })
            .collect()
    }

    pub(super) fn put(&mut self, index: u64, sector: Sector) {
        Arc::make_mut(&mut self.sectors).insert(index, sector);
    }

    /// Makes one sector what it is in `other`.
    fn take_over(&mut self, index: u64, other: &Self) {
        let sectors = Arc::make_mut(&mut self.sectors);
        match other.sectors.get(&index) {
            Some(sector) => sectors.insert(index, Arc::clone(sector)),
            None => sectors.remove(&index),
        };
    }

    /// Ends the file at `len`; nothing behind it comes back when the file grows again.
    pub(super) fn cut(&mut self, len: u64) {
        self.len = len;
        let sector_bytes = self.sector_bytes as u64;
        let Some((&last, _)) = self.sectors.last_key_value() else { return };
        if (last + 1) * sector_bytes <= len {
            return;
        }
        let sectors = Arc::make_mut(&mut self.sectors);
        sectors.split_off(&len.div_ceil(sector_bytes));
        if let Some(sector) = sectors.get_mut(&(len / sector_bytes)) {
            Arc::make_mut(sector)[(len % sector_bytes) as usize..].fill(0);
        }
    }

    fn flip(&mut self, offset: u64, bit: u8) {
        let index = offset / self.sector_bytes as u64;
        let zeros = self.zeros();
        let sector = Arc::make_mut(&mut self.sectors).entry(index).or_insert_with(|| zeros.into());
        flip(sector, offset, bit);
    }

    fn zeros(&self) -> Vec<u8> {
        vec![0; self.sector_bytes]
    }
}

/// Inverts one bit of the sector that holds `offset`.
fn flip(sector: &mut Sector, offset: u64, bit: u8) {
    let within = (offset % sector.len() as u64) as usize;
    Arc::make_mut(sector)[within] ^= 1 << (bit % 8);
}

/// Splits `len` bytes at `offset` at sector borders: which sector, where in it, which of the bytes.
fn pieces(sector_bytes: usize, offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % sector_bytes as u64) as usize;
        let end = len.min(done + sector_bytes - within);
        let part = done..end;
        done = end;
        Some((at / sector_bytes as u64, within, part))
    })
}

/// A write, or the allocation of a length, that no sync has made durable.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// The write's number; none is used twice.
    pub(super) id: u64,
    /// The number of the operation that applied it: the order over all files and names.
    pub(super) order: u64,
    /// When its caller learned that it is over, counted in receipts; `None` while in flight.
    pub(super) received: Option<u64>,
    /// Where it ends: how long the file must be to hold it.
    pub(super) end: u64,
    /// The sectors it touched, as they were right after it; none for an allocation.
    pub(super) sectors: Vec<(u64, Sector)>,
}

/// What reads show of the data that a failed sync dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The new data, until the power goes: the cache keeps it and calls it clean.
    ReadsNew,
    /// The old data, at once: the cache let go of it.
    ReadsOld,
}

/// One file without its names.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) live: Image,
    pub(super) durable: Image,
    /// In the order in which they were applied.
    pub(super) pending: Vec<Pending>,
    /// How many syncs failed. A handle is latched when there are more than when it was opened.
    pub(super) sync_failures: u64,
    /// The error number of the last of them.
    pub(super) sync_error: i32,
    /// Open handles.
    pub(super) handles: usize,
    /// Where reads fail.
    pub(super) unreadable: Vec<Range<u64>>,
}

impl Node {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self::of(Image::new(sector_bytes))
    }

    /// A file that is as durable as it looks.
    pub(super) fn of(image: Image) -> Self {
        Self {
            durable: image.clone(),
            live: image,
            pending: Vec::new(),
            sync_failures: 0,
            sync_error: 0,
            handles: 0,
            unreadable: Vec::new(),
        }
    }

    /// Applies what a write (or an allocation) changes.
    pub(super) fn apply(&mut self, write: Pending) {
        for (index, sector) in &write.sectors {
            self.live.put(*index, Arc::clone(sector));
        }
        self.live.len = self.live.len.max(write.end);
        self.pending.push(write);
    }

    /// Makes durable the pending writes that `covers` names, as far as `keeps` lets each sector through.
    pub(super) fn settle(&mut self, covers: impl Fn(&Pending) -> bool, mut keeps: impl FnMut() -> bool) {
        let mut settled = BTreeSet::new();
        let durable = &mut self.durable;
        for write in self.pending.iter_mut().rev() {
            let covered = covers(write);
            if covered && keeps() {
                durable.len = durable.len.max(write.end);
            }
            write.sectors.retain(|(index, sector)| {
                // An older state of a sector must not come back over a newer one that is durable.
                if settled.contains(index) {
                    return false;
                }
                let through = covered && keeps();
                if through {
                    settled.insert(*index);
                    durable.put(*index, Arc::clone(sector));
                }
                !through
            });
        }
        self.pending.retain(|write| !write.sectors.is_empty() || !covers(write));
    }

    /// What a failed sync does: the pending writes that `covers` names are neither dirty nor durable.
    pub(super) fn forget(&mut self, covers: impl Fn(&Pending) -> bool, dropped: Dropped) {
        let (gone, left): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|write| covers(write));
        self.pending = left;
        if dropped == Dropped::ReadsNew {
            return;
        }
        for (index, _) in gone.iter().flat_map(|write| &write.sectors) {
            self.live.take_over(*index, &self.durable);
        }
        for (index, sector) in self.pending.iter().flat_map(|write| &write.sectors) {
            self.live.put(*index, Arc::clone(sector));
        }
    }

    /// A sync has failed: whoever has the file open now never syncs it again.
    pub(super) fn fail_sync(&mut self, number: i32) {
        self.sync_failures += 1;
        self.sync_error = number;
    }

    /// Rot: inverts a bit in every state that the sector may be read in.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        self.live.flip(offset, bit);
        self.durable.flip(offset, bit);
        let index = offset / self.live.sector_bytes as u64;
        for (at, sector) in self.pending.iter_mut().flat_map(|write| &mut write.sectors) {
            if *at == index {
                flip(sector, offset, bit);
            }
        }
    }

    /// Cuts the file, durably.
    pub(super) fn truncate(&mut self, len: u64) {
        self.settle(|_| true, || true);
        self.live.cut(len);
        self.durable = self.live.clone();
    }
}

/// Some of `sectors`: not all of them, unless there is one alone, which a disk writes whole or not at all.
pub(super) fn tear(sectors: &mut Vec<(u64, Sector)>, random: &mut Random) {
    if sectors.is_empty() {
        return;
    }
    let spared = random.below(sectors.len() as u64) as usize;
    let alone = sectors.len() == 1;
    let mut position = 0;
    sectors.retain(|_| {
        let kept = random.coin() && (alone || position != spared);
        position += 1;
        kept
    });
}
