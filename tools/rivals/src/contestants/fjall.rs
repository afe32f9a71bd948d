//! fjall: a write batch a group, persisted with `SyncData`; a single record is inserted, then persisted.

use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::{Contestant, Entrant, Result};
use crate::workload::Workload;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "fjall",
    package: "fjall",
    settings: "manual_journal_persist, all else default; keys ascend (8 bytes, big endian). One WriteBatch a group with \
               durability SyncData; single and threads: insert, then persist(SyncData)",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let database =
            Database::builder(terms.directory.join("fjall")).manual_journal_persist(true).open()?;
        let keyspace = database.keyspace("log", KeyspaceCreateOptions::default)?;
        Ok(Box::new(Fjall { database, keyspace, next: AtomicU64::new(1) }))
    },
};

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    next: AtomicU64,
}

impl Contestant for Fjall {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), usize::try_from(records)?)
            .durability(Some(PersistMode::SyncData));
        let first = self.next.fetch_add(records, Ordering::Relaxed);
        for sequence in first..first + records {
            batch.insert(&self.keyspace, sequence.to_be_bytes(), payload);
        }
        Ok(batch.commit()?)
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        self.keyspace.insert(sequence.to_be_bytes(), payload)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
