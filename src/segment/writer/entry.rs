//! What is on its way: one write, from its submission until it is on stable storage.

use std::sync::Arc;

use crate::block::Extract;
use crate::io::{FileIndex, Operation, Slot};
use crate::segment::format::Summary;

#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: u64,
    pub(super) file: FileIndex,
    /// Where the next block goes.
    pub(super) offset: u64,
    /// Where blocks end.
    pub(super) end: u64,
    pub(super) segment_bytes: u64,
    pub(super) summary: Summary,
}

#[derive(Debug)]
pub(super) enum Content {
    Header,
    Summary,
    Block(Extract),
}

/// One write, from its submission until a sync has covered it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) segment: u64,
    pub(super) file: FileIndex,
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) written: usize,
    pub(super) empty_writes: u32,
    /// The write carries its own sync.
    pub(super) dsync: bool,
    pub(super) begun_ns: u64,
    pub(super) slot: Arc<Slot>,
    pub(super) content: Content,
}

impl Entry {
    pub(super) fn is_received(&self) -> bool {
        self.written == self.length
    }

    /// The write of what is not written yet.
    pub(super) fn rest(&self, token: u64) -> Operation {
        Operation::Write {
            token,
            file: self.file,
            slot: Arc::clone(&self.slot),
            range: self.written..self.length,
            offset: self.offset + self.written as u64,
            dsync: self.dsync,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SyncInFlight {
    /// How many entries at the front of the line it covers.
    pub(super) count: usize,
    pub(super) begun_ns: u64,
}
