//! okaywal: an entry a group, a chunk a record; commit returns after fdatasync, shared by whoever waits.

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::{Contestant, Entrant, Result};
use crate::workload::Workload;

/// Its files are written with zeros when they are made, and used again after a checkpoint.
const FILE_BYTES: u32 = 64 << 20;
/// As its defaults: checkpoint before the file would have to grow.
const CHECKPOINT_BYTES: u64 = 48 << 20;
const BUFFER_BYTES: usize = 256 << 10;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "okaywal",
    package: "okaywal",
    settings: "preallocate_bytes 64 MiB, checkpoint_after_bytes 48 MiB, buffer_bytes 256 KiB (defaults: 1 MiB, 768 KiB, \
               16 KiB); LogVoid: a checkpoint frees the file for reuse and keeps nothing. One entry a group, one chunk \
               a record",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let log = Configuration::default_for(terms.directory.join("wal"))
            .preallocate_bytes(FILE_BYTES)
            .checkpoint_after_bytes(CHECKPOINT_BYTES)
            .buffer_bytes(BUFFER_BYTES)
            .open(LogVoid)?;
        Ok(Box::new(OkayWal(log)))
    },
};

struct OkayWal(WriteAheadLog);

impl Contestant for OkayWal {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        for _ in 0..records {
            entry.write_chunk(payload)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.append_group(payload, 1)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.shutdown()?)
    }
}
