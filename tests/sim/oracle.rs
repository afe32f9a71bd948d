//! What was submitted, what was promised, and whether a disk keeps it.
//!
//! The oracle knows the contract (FAULTS: *prefix*), not how the store keeps it: it reads a disk as any reader
//! would, through a snapshot, from behind what the destination has confirmed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay::copies::Found;
use forebay::cursor::Cursor;
use forebay::gaps::{Gap, GapFile};
use forebay::io::sim::SimDisk;
use forebay::io::{Access, Arena, Backend, DeviceOptions, Disk, Wait};
use forebay::position::{Epoch, StoreId};
use forebay::segment::reader::{Fill, LogReader};
use forebay::segment::recovery::{Damage, Known, Recovered, recover};
use forebay::segment::snapshot::Snapshot;
use forebay::sink::{Batch, CopyLimits, Item, Lane};
use forebay::state::StateFile;

/// A record as it was handed in, or as it came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) timestamp: u64,
}

/// What a disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadBack {
    pub(crate) store: StoreId,
    pub(crate) confirmed: u64,
    /// Everything behind `confirmed`, in the order in which the reader gave it.
    pub(crate) records: Vec<(u64, Content)>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) damage: Vec<Damage>,
}

impl ReadBack {
    /// The last sequence that the disk accounts for.
    pub(crate) fn last(&self) -> u64 {
        let record = self.records.last().map_or(0, |(sequence, _)| *sequence);
        let gap = self.gaps.iter().map(|gap| gap.last_sequence).max().unwrap_or(0);
        record.max(gap).max(self.confirmed)
    }

    pub(crate) fn names(&self, sequence: u64) -> bool {
        self.gaps.iter().any(|gap| gap.first_sequence <= sequence && sequence <= gap.last_sequence)
    }
}

/// Reads everything that a destination would still get. `None` while there is no store on the disk.
pub(crate) fn read_back(disk: &SimDisk) -> Option<ReadBack> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let state =
        StateFile::open(disk.as_ref(), None, Access::Read).expect("state can be looked at").sound()?;
    let store = state.store();
    let cursor = Cursor::open(disk.as_ref(), "default", store, Access::Read);
    let confirmed =
        cursor.expect("a name that is allowed").sound().map_or(0, |cursor| cursor.state().confirmed);
    let gaps = match GapFile::open(disk.as_ref(), store, Access::Read).expect("gaps can be looked at") {
        Found::Sound(file) => file.iter().cloned().collect(),
        Found::Missing | Found::Damaged { .. } => Vec::new(),
    };
    let known = Known {
        state: Some(state.state().encode()),
        confirmed_min: confirmed,
        confirmed_max: confirmed,
        last_gap: gaps.iter().map(|gap: &Gap| gap.last_sequence).max().unwrap_or(0),
        read_only: true,
        ..Known::default()
    };
    let recovered = recover(disk.as_ref(), store, &known).expect("recovery succeeds whatever the damage");
    let (records, mut damage) = read_log(&disk, store, &recovered, confirmed);
    damage.extend(recovered.damage);
    damage.extend(recovered.lost_tail);
    Some(ReadBack { store, confirmed, records, gaps, damage })
}

fn read_log(
    disk: &Arc<dyn Disk>,
    store: StoreId,
    recovered: &Recovered,
    confirmed: u64,
) -> (Vec<(u64, Content)>, Vec<Damage>) {
    let arena = Arena::new(64 * 1024, 4).expect("memory");
    let options =
        DeviceOptions { backend: Backend::Blocking, in_flight_count_max: 3, registered_bytes_max: 0 };
    let device = disk.read_device(&arena, options).expect("a read device");
    let snapshot = Snapshot::new(Arc::clone(disk), recovered);
    let mut reader = LogReader::new(device, arena, store, 3);
    reader.seek(&snapshot, confirmed + 1).expect("a place to begin");
    let limits = CopyLimits { records_max: 64, batch_bytes_max: 1 << 20, copy_bytes_max: 1 << 18 };
    let (mut records, mut damage, mut waits) = (Vec::new(), Vec::new(), 0);
    let mut batch = Batch::new(store, Epoch::default(), Lane::Backfill);
    for _ in 0..1_000_000 {
        let fill =
            reader.fill(&snapshot, &mut batch, limits, recovered.last_sequence).expect("segments open");
        if matches!(fill, Fill::Waiting) {
            reader.wait(Wait::For(Duration::from_secs(1))).expect("the device answers");
            waits += 1;
            assert!(waits < 100_000, "the reader waits for ever");
            continue;
        }
        if reader.is_within_record() {
            continue;
        }
        for item in batch.iter() {
            let Item::Data(record) = item else { panic!("the log holds no gaps") };
            let (key, payload) = (record.key.to_vec(), record.payload.to_vec());
            records.push((record.sequence, Content { key, payload, timestamp: record.timestamp }));
        }
        let epoch = if let Fill::Epoch(epoch) = fill { epoch } else { batch.epoch() };
        batch = Batch::new(store, epoch, Lane::Backfill);
        match fill {
            Fill::Damaged(found) => damage.push(found),
            Fill::Drained => return (records, damage),
            Fill::Recycled => panic!("a snapshot does not change"),
            Fill::Full | Fill::Waiting | Fill::Jump { .. } | Fill::Epoch(_) => {}
        }
    }
    panic!("the reader goes on for ever");
}

/// What must hold. All sequences of the history that is still alive; what a power cut has taken is forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) submitted: BTreeMap<u64, Content>,
    /// Given a sequence and dropped at once.
    pub(crate) dropped: BTreeMap<u64, Content>,
    /// The highest durable mark that anybody saw.
    pub(crate) acked: u64,
    /// What the destination had confirmed, in memory.
    pub(crate) confirmed: u64,
    /// What of it was persisted.
    pub(crate) persisted: u64,
    /// Gaps may name records that were submitted (the full policy, or a device that loses).
    pub(crate) may_lose: bool,
}

impl Model {
    /// The last sequence that was given.
    pub(crate) fn last(&self) -> u64 {
        let last = |map: &BTreeMap<u64, Content>| map.last_key_value().map_or(0, |(sequence, _)| *sequence);
        last(&self.submitted).max(last(&self.dropped)).max(self.acked).max(self.confirmed)
    }

    /// Asserts the prefix, and gives its end: records 1..=M in order, no hole, no repeat, M at least what was
    /// acked, and every byte as it was handed in. `context` says which case it is.
    pub(crate) fn check(&self, found: Option<&ReadBack>, context: &str) -> u64 {
        let Some(found) = found else {
            assert_eq!(self.acked, 0, "{context}: a store that acked is gone");
            return 0;
        };
        assert!(
            found.confirmed <= self.confirmed_max(found),
            "{context}: confirmed by nobody: {}",
            found.confirmed
        );
        assert!(found.confirmed >= self.persisted, "{context}: a persisted cursor went back");
        assert_eq!(found.damage, [], "{context}: damage without a fault");
        let mut next = found.confirmed + 1;
        for (sequence, content) in &found.records {
            assert!(*sequence >= next, "{context}: {sequence} again, or out of order; {next} was due");
            for missing in next..*sequence {
                assert!(
                    found.names(missing),
                    "{context}: {missing} is missing before {sequence}, and no gap names it"
                );
            }
            let given = self.submitted.get(sequence);
            assert!(given.is_some(), "{context}: nobody submitted {sequence}");
            assert!(given == Some(content), "{context}: {sequence} has wrong bytes");
            next = sequence + 1;
        }
        let last = found.last();
        for missing in next..=last {
            // Before the next open has named it, what nobody acked may be missing before a gap at the end.
            let open = missing > self.acked;
            assert!(
                open || found.names(missing),
                "{context}: {missing} is missing at the end, and no gap names it"
            );
        }
        assert!(last >= self.acked, "{context}: {} was acked, the log ends at {last}", self.acked);
        assert!(last <= self.last(), "{context}: the log ends at {last}, {} was the last given", self.last());
        self.check_gaps(found, context);
        last
    }

    /// A gap that drops the oldest confirms over it.
    fn confirmed_max(&self, found: &ReadBack) -> u64 {
        let dropped = found.gaps.iter().map(|gap| gap.last_sequence).max().filter(|_| self.may_lose);
        self.confirmed.max(dropped.unwrap_or(0))
    }

    fn check_gaps(&self, found: &ReadBack, context: &str) {
        for gap in &found.gaps {
            let range = gap.first_sequence..=gap.last_sequence;
            assert!(
                gap.last_sequence <= self.last(),
                "{context}: a gap names what nobody submitted: {gap:?}"
            );
            let kept = self.submitted.range(range.clone()).next();
            assert!(self.may_lose || kept.is_none(), "{context}: false loss: {gap:?}");
            let all = self.submitted.range(range.clone()).chain(self.dropped.range(range));
            let bytes: u64 = all.map(|(_, content)| (content.key.len() + content.payload.len()) as u64).sum();
            assert!(!gap.is_dense() || gap.bytes == bytes, "{context}: {gap:?} should say {bytes} bytes");
        }
    }

    /// A power cut has taken everything behind `last`, and what was missing before it.
    pub(crate) fn forget_after(&mut self, last: u64, found: Option<&ReadBack>) {
        let confirmed = found.map_or(0, |found| found.confirmed);
        let end = found.and_then(|found| found.records.last()).map_or(confirmed, |(sequence, _)| *sequence);
        for missing in end + 1..=last {
            if self.submitted.remove(&missing).is_some() && !self.may_lose {
                self.dropped.insert(missing, Content { key: Vec::new(), payload: Vec::new(), timestamp: 0 });
            }
        }
        self.submitted.split_off(&(last + 1));
        self.dropped.split_off(&(last + 1));
        self.acked = last;
        (self.confirmed, self.persisted) = (confirmed, confirmed);
    }
}
