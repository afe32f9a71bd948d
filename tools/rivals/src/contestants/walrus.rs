//! walrus-rust: batches through its io_uring path, single records with `SyncEach`.
//!
//! It takes 2,000 records a batch at most, so a group is two; a batch is synced before it returns, whatever the
//! schedule. `NoFsync` there only keeps O_SYNC, a sync for each of its 2,000 writes, off the file. It holds its files
//! open until its process ends, as every lap's does.

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Contestant, Entrant, Result};
use crate::workload::{THREADS, Workload};

const BATCH_RECORDS_MAX: u64 = 2_000;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "walrus",
    package: "walrus-rust",
    settings: "fd backend (its default). Grouped: two batch_append_for_topic of 2,000 (its limit), each synced before it \
               returns, FsyncSchedule::NoFsync, which keeps O_SYNC off the 2,000 writes. Single and threads: \
               append_for_topic with SyncEach, a topic a thread, as its own benchmarks do",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[("WALRUS_QUIET", "1"), ("WALRUS_DATA_DIR", "walrus")],
    open: |terms| {
        let schedule = match terms.workload {
            Workload::Grouped => FsyncSchedule::NoFsync,
            Workload::Single | Workload::Threads => FsyncSchedule::SyncEach,
        };
        let consistency = ReadConsistency::AtLeastOnce { persist_every: 1_000 };
        let log = Walrus::with_consistency_and_schedule(consistency, schedule)?;
        let topics = (0..THREADS).map(|thread| format!("topic-{thread}")).collect();
        Ok(Box::new(Log { log, topics }))
    },
};

struct Log {
    log: Walrus,
    topics: Vec<String>,
}

impl Contestant for Log {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let mut left = records;
        while left > 0 {
            let now = left.min(BATCH_RECORDS_MAX);
            self.log.batch_append_for_topic(&self.topics[0], &vec![payload; usize::try_from(now)?])?;
            left -= now;
        }
        Ok(())
    }

    fn append_one(&self, thread: usize, payload: &[u8]) -> Result<()> {
        Ok(self.log.append_for_topic(&self.topics[thread], payload)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
