//! raft-engine: a log batch a group, written with `sync`; a region a thread, since a region's indexes are contiguous.

use std::sync::Mutex;

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Contestant, Entrant, Result, lock};
use crate::workload::{THREADS, Workload};

pub(super) const ENTRANT: Entrant = Entrant {
    name: "raft-engine",
    package: "raft-engine",
    settings: "batch_compression_threshold 0 (nothing compresses here), all else default. One LogBatch a group, its \
               entries allocated once and filled again, write(sync = true); threads: a region each, so that its write \
               groups share the sync",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let config = Config {
            dir: terms.directory.join("raft").to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        let regions = (0..THREADS).map(|_| Mutex::default()).collect();
        Ok(Box::new(RaftEngine { engine: Engine::open(config)?, regions }))
    },
};

/// Its entries are protobuf messages with an index. This one, which protobuf brings along, is a number and bytes, as
/// an entry of raft is.
#[derive(Clone)]
struct Entry;

impl MessageExt for Entry {
    type Entry = UninterpretedOption;

    fn index(entry: &Self::Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

#[derive(Default)]
struct Region {
    next_index: u64,
    entries: Vec<UninterpretedOption>,
    batch: LogBatch,
}

struct RaftEngine {
    engine: Engine,
    regions: Vec<Mutex<Region>>,
}

impl RaftEngine {
    fn append(&self, region: usize, payload: &[u8], records: u64) -> Result<()> {
        let mut guard = lock(&self.regions[region]);
        let Region { next_index, entries, batch } = &mut *guard;
        let records = usize::try_from(records)?;
        if entries.len() < records {
            entries.resize(records, UninterpretedOption::new());
        }
        for entry in &mut entries[..records] {
            *next_index += 1;
            entry.set_positive_int_value(*next_index);
            let bytes = entry.mut_string_value();
            bytes.clear();
            bytes.extend_from_slice(payload);
        }
        batch.add_entries::<Entry>(region as u64 + 1, &entries[..records])?;
        self.engine.write(batch, true)?;
        Ok(())
    }
}

impl Contestant for RaftEngine {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        self.append(0, payload, records)
    }

    fn append_one(&self, thread: usize, payload: &[u8]) -> Result<()> {
        self.append(thread, payload, 1)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
