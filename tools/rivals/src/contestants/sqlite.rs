//! SQLite in WAL mode with `synchronous = FULL`: a transaction a group, a prepared statement a record.

use std::sync::Mutex;

use rusqlite::{Connection, TransactionBehavior};

use super::{Contestant, Entrant, Result, lock};
use crate::workload::Workload;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "sqlite",
    package: "rusqlite",
    settings: "bundled, with HAVE_FDATASYNC as distributions build it: journal_mode WAL, synchronous FULL, locking_mode EXCLUSIVE, wal_autocheckpoint 16,384 \
               pages (64 MiB; its documentation: let the WAL grow), cache 64 MiB. One transaction a group, a cached \
               statement; threads: one connection behind a lock, since it has one writer",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let connection = Connection::open(terms.directory.join("log.sqlite"))?;
        connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 16384;
             PRAGMA cache_size = -65536;
             CREATE TABLE log (sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL);",
        )?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        let synchronous: u32 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        if mode != "wal" || synchronous != 2 {
            return Err(format!("sqlite has journal mode {mode}, synchronous {synchronous}").into());
        }
        Ok(Box::new(Sqlite(Mutex::new(connection))))
    },
};

struct Sqlite(Mutex<Connection>);

impl Contestant for Sqlite {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let mut connection = lock(&self.0);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log (payload) VALUES (?1)")?;
            for _ in 0..records {
                insert.execute([payload])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        lock(&self.0).prepare_cached("INSERT INTO log (payload) VALUES (?1)")?.execute([payload])?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
