//! redb: a write transaction a group, durable when commit returns (its default).

use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, TableDefinition};

use super::{Contestant, Entrant, Result};
use crate::workload::Workload;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

pub(super) const ENTRANT: Entrant = Entrant {
    name: "redb",
    package: "redb",
    settings: "all default (Durability::Immediate, one-phase commit); keys ascend. One write transaction a group; \
               threads: one behind the other, since it has one writer",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let database = Database::create(terms.directory.join("log.redb"))?;
        Ok(Box::new(Redb { database, next: AtomicU64::new(1) }))
    },
};

struct Redb {
    database: Database,
    next: AtomicU64,
}

impl Contestant for Redb {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(LOG)?;
            let first = self.next.fetch_add(records, Ordering::Relaxed);
            for sequence in first..first + records {
                table.insert(sequence, payload)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.append_group(payload, 1)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
