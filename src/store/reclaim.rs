//! Makes room by dropping the oldest segment, behind a gap (`full = "drop_oldest"`).
//!
//! What a destination has on the wire is not dropped: its segment stays until the answer is there. The rest of the
//! segment is read once more, so that the gap says exactly how many records, which keys and what time were
//! lost. Order: gap durable, cursors durable, slot recycled.

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gaps::{Gap, GapBuilder, Reason};
use crate::io::{Arena, Backend, DeviceOptions, File, Wait};
use crate::segment::catalog::Segment;
use crate::segment::format;
use crate::segment::reader::{Fill, LogReader, Segments};
use crate::segment::survey::Epochs;
use crate::sink::{Batch, CopyLimits, Item, Lane};
use crate::store::shared::{Shared, lock};

/// Chunks that the scan reads ahead; the reader holds one slot more.
const SCAN_SLOTS: usize = 2;

/// Bytes of each.
const SCAN_SLOT_BYTES: usize = 512 * 1024;

/// The log, as those who read it while it grows see it.
impl Segments for Shared {
    fn holding(&self, sequence: u64) -> Option<Segment> {
        lock(&self.catalog).holding(sequence)
    }

    fn segment(&self, id: u64) -> Option<Segment> {
        lock(&self.catalog).segment(id)
    }

    fn after(&self, id: u64) -> Option<Segment> {
        lock(&self.catalog).after(id)
    }

    fn open(&self, segment: &Segment) -> io::Result<Arc<dyn File>> {
        self.disk.open(&format::slot_name(segment.slot), crate::io::Access::ReadDirect)
    }

    fn epochs(&self) -> Epochs {
        self.epochs.clone()
    }
}

/// Drops what is droppable of the oldest segment and recycles its slot. False when nothing could be freed now.
pub(super) fn drop_oldest_segment(shared: &Arc<Shared>) -> Result<bool> {
    let (oldest, last) = {
        let catalog = lock(&shared.catalog);
        let mut segments = catalog.segments();
        match (segments.next(), segments.next()) {
            (Some(oldest), Some(next)) if oldest.sealed => (*oldest, next.previous_sequence),
            _ => return Ok(false),
        }
    };
    let from = lock(&shared.destinations).droppable_from(last);
    if let Some(first) = from {
        let gaps = gaps_of(shared, first, last)?;
        lock(&shared.destinations).drop_oldest(gaps, first, last)?;
        tracing::warn!(
            slot = oldest.slot,
            first,
            last,
            "the disk is full: the oldest segment is dropped, and named"
        );
    }
    let through = lock(&shared.destinations).persist_twice()?;
    let recycled = lock(&shared.catalog).recycle_through(through) > 0;
    shared.marks.confirm(lock(&shared.destinations).slowest());
    shared.tell_listeners();
    Ok(recycled)
}

/// Reads `first..=last` and names what is there, one gap an epoch.
fn gaps_of(shared: &Arc<Shared>, first: u64, last: u64) -> Result<Vec<Gap>> {
    let failed = |error| Error::io("the oldest segment can't be read before it is dropped", error);
    let arena = Arena::new(SCAN_SLOT_BYTES, SCAN_SLOTS + 1).map_err(failed)?;
    let options = DeviceOptions {
        backend: Backend::Blocking,
        in_flight_count_max: SCAN_SLOTS,
        registered_bytes_max: 0,
    };
    let device = shared.disk.read_device(&arena, options).map_err(failed)?;
    let mut reader = LogReader::new(device, arena, shared.store, SCAN_SLOTS);
    reader.seek(shared.as_ref(), first).map_err(failed)?;
    let limits = CopyLimits { records_max: 10_000, batch_bytes_max: 1 << 20, copy_bytes_max: 1 << 20 };
    let mut gaps = Vec::new();
    let mut builder = GapBuilder::new(shared.epoch, Reason::DiskFull);
    let mut batch = Batch::new(shared.store, shared.epoch, Lane::Backfill);
    while reader.next_sequence() <= last {
        let fill = reader.fill(shared.as_ref(), &mut batch, limits, last).map_err(failed)?;
        if matches!(fill, Fill::Waiting) {
            reader.wait(Wait::Forever).map_err(failed)?;
            continue;
        }
        for item in batch.iter() {
            if let Item::Data(record) = item {
                let bytes = (record.key.len() + record.payload.len()) as u64;
                builder.add(record.sequence, record.timestamp, record.key, bytes);
            }
        }
        let epoch = if let Fill::Epoch(epoch) = fill { epoch } else { batch.epoch() };
        batch = Batch::new(shared.store, epoch, Lane::Backfill);
        match fill {
            Fill::Epoch(epoch) => {
                gaps.extend(
                    std::mem::replace(&mut builder, GapBuilder::new(epoch, Reason::DiskFull)).finish(),
                );
            }
            Fill::Drained | Fill::Recycled => break,
            // Nobody reads it after this: it is named here, or it is named nowhere.
            Fill::Damaged(damage) => {
                let last = damage.last_sequence.min(last);
                let gap = Gap::of_range(epoch, damage.first_sequence, last, Reason::Corrupt);
                gaps.extend((damage.first_sequence <= last).then_some(gap));
            }
            // What is absent with good reason is delivered, or named already.
            Fill::Full | Fill::Waiting | Fill::Jump { .. } => {}
        }
    }
    gaps.extend(builder.finish());
    Ok(gaps)
}
