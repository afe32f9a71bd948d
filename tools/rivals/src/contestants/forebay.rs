//! Forebay: a batch a group, durable when the call returns.
//!
//! Two entrants differ from it in one thing each, and are rows apart. The recycled one has gone round its slots before
//! the clock starts, as an agent has after its first day, so that it overwrites instead of growing. The pipelined one
//! waits for a barrier only when [`BARRIERS_AHEAD`] newer ones are outstanding, as a producer would that acks its own
//! callers from the durable watermark.

use std::collections::VecDeque;
use std::sync::Mutex;

use forebay::config::{Config, FullPolicy, SpillMode, SyncPolicy};
use forebay::limits::{BLOCK_ALIGNMENT, MIB, SEGMENTS_PER_CAP_DEFAULT};
use forebay::record::Record;
use forebay::store::{DEFAULT_DESTINATION, Level, Store};

use super::{Contestant, Entrant, Result, Terms, lock};
use crate::workload::{GROUP_RECORDS, Workload, payload};

const BARRIERS_AHEAD: usize = 8;

/// What a record of 256 B takes on disk, with room to spare.
const RECORD_BYTES: u64 = 384;

const SMALLEST_CAP_BYTES: u64 = 64 * MIB;

/// What is appended and confirmed twice, so that every slot to come has been written: more than two segments.
const ROUND_RECORDS_MIN: u64 = 64_000;

pub(super) const ENTRANT: Entrant = Entrant {
    name: "forebay",
    package: "forebay",
    settings: "spill = always, sync = group, full = block, disk_bytes_cap as small as fits; all else default. \
               append_all_blocking(4,000 records, Durable); single and threads: append_blocking(Durable)",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| Ok(Box::new(Waiting(open(terms)?))),
};

pub(super) const RECYCLED: Entrant = Entrant {
    name: "forebay-recycled",
    package: "forebay",
    settings: "as forebay, but before the clock starts as many records were appended and confirmed, twice: its slots have \
               been written before, no fresh directory, so a row apart",
    workloads: &Workload::ALL,
    barriers_ahead: 0,
    environment: &[],
    open: |terms| {
        let store = open(terms)?;
        recycle(&store, terms)?;
        Ok(Box::new(Waiting(store)))
    },
};

pub(super) const PIPELINED: Entrant = Entrant {
    name: "forebay-pipelined",
    package: "forebay",
    settings: "as forebay, but the producer goes on while up to 8 barriers are outstanding: not the same barrier, so a \
               row apart",
    workloads: &[Workload::Grouped],
    barriers_ahead: BARRIERS_AHEAD as u64,
    environment: &[],
    open: |terms| Ok(Box::new(Pipelined { store: open(terms)?, outstanding: Mutex::default() })),
};

fn open(terms: &Terms<'_>) -> Result<Store> {
    let mut config = Config::new(terms.directory.join("store"));
    config.spill = SpillMode::Always;
    config.sync = SyncPolicy::Group;
    config.queue.full = FullPolicy::Block;
    // Two segments beside what the records fill: the active one, and the next.
    let bytes = log_bytes(terms);
    let cap = (bytes + 2 * bytes / SEGMENTS_PER_CAP_DEFAULT).max(SMALLEST_CAP_BYTES);
    config.disk_bytes_cap = Some(cap);
    Ok(Store::open(&config)?)
}

/// What the lap takes of the log.
fn log_bytes(terms: &Terms<'_>) -> u64 {
    match terms.workload {
        Workload::Grouped => terms.appends * RECORD_BYTES,
        // Each may become a block of its own.
        Workload::Single | Workload::Threads => terms.appends * BLOCK_ALIGNMENT,
    }
}

fn recycle(store: &Store, terms: &Terms<'_>) -> Result<()> {
    let records = (log_bytes(terms) / RECORD_BYTES).max(ROUND_RECORDS_MIN);
    for _ in 0..2 {
        let mut last = 0;
        for _ in 0..records.div_ceil(GROUP_RECORDS) {
            last = append(store, &payload(), GROUP_RECORDS, Level::Durable)?;
        }
        let destination = store.destination(DEFAULT_DESTINATION)?;
        destination.confirm(last);
        destination.persist_twice()?;
    }
    Ok(())
}

fn append(store: &Store, payload: &[u8], records: u64, level: Level) -> Result<u64> {
    let batch = vec![Record::new(payload, 0); usize::try_from(records)?];
    Ok(store.append_all_blocking(&batch, level)?)
}

struct Waiting(Store);

impl Contestant for Waiting {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        append(&self.0, payload, records, Level::Durable)?;
        Ok(())
    }

    fn append_one(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.0.append_blocking(&Record::new(payload, 0), Level::Durable)?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct Pipelined {
    store: Store,
    /// The last sequences of the groups that nobody has waited for, oldest first.
    outstanding: Mutex<VecDeque<u64>>,
}

impl Contestant for Pipelined {
    fn append_group(&self, payload: &[u8], records: u64) -> Result<()> {
        let last = append(&self.store, payload, records, Level::Accepted)?;
        self.store.ask(last, Level::Durable);
        let mut outstanding = lock(&self.outstanding);
        outstanding.push_back(last);
        if outstanding.len() > BARRIERS_AHEAD
            && let Some(oldest) = outstanding.pop_front()
        {
            self.store.wait(oldest, Level::Durable, None)?;
        }
        Ok(())
    }

    fn append_one(&self, _thread: usize, _payload: &[u8]) -> Result<()> {
        Err("a single append has nothing to pipeline".into())
    }

    fn settle(&self) -> Result<()> {
        if let Some(last) = lock(&self.outstanding).drain(..).next_back() {
            self.store.wait(last, Level::Durable, None)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}
