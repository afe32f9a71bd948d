//! Reads off how full things are: from counters and marks, without any lock that appends take.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::backfill::Backfill;
use crate::queue::spill::Load;
use crate::segment::writer::WriterCounts;
use crate::store::{Shared, lock};

/// What a record is taken to weigh while none has been seen, in bytes.
const RECORD_BYTES_GUESS: u64 = 256;

/// What was not well this long ago still is.
const RECENT_NS: u64 = 1_000_000_000;

/// How a pipeline stands; refreshed ten times a second while anything moves.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// The last record accepted.
    pub appended_sequence: u64,
    /// Everything up to here is with the kernel, as far as it is in the log.
    pub written_sequence: u64,
    /// Everything up to here is on stable storage, as far as it is in the log.
    pub durable_sequence: u64,
    /// The last record on the wire.
    pub sent_sequence: u64,
    /// Everything up to here is at the destination, or named by a gap.
    pub confirmed_sequence: u64,
    /// Records accepted since the start.
    pub accepted_records: u64,
    /// Records in memory.
    pub queue_records: u64,
    /// Bytes of the slots that they take.
    pub queue_bytes: u64,
    /// Records not yet sent, in memory and on disk.
    pub unsent_records: u64,
    /// About how many bytes they are.
    pub unsent_bytes: u64,
    /// Records that went through the log since the start.
    pub spilled_records: u64,
    /// Bytes of all slots on disk.
    pub disk_bytes: u64,
    /// Bytes that they may be.
    pub disk_bytes_cap: u64,
    /// Bytes of a slot.
    pub segment_bytes: u64,
    /// Slots that a segment is in.
    pub used_slots: u64,
    /// Spare slots that were written before.
    pub warm_slots: u64,
    /// Spare slots that were only allocated.
    pub cold_slots: u64,
    /// Segments that were begun in a slot that was not warm, since the start.
    pub cold_segments: u64,
    /// Bytes of zeros written to spare slots since the start.
    pub zero_written_bytes: u64,
    /// `online`, `suspect`, `offline` or `probing`.
    pub destination_state: &'static str,
    /// Why records go to disk; empty while they do not.
    pub spilling: &'static str,
    /// `live` or `backfill`.
    pub lane: &'static str,
    /// The governor's limit, records a second.
    pub governor_limit_records_per_second: u64,
    /// The governor's limit, bytes a second.
    pub governor_limit_bytes_per_second: u64,
    /// What may go at once, records.
    pub governor_burst_records: u64,
    /// The steady state of the input, records a second.
    pub steady_state_records_per_second: u64,
    /// Seconds until the backlog is drained; nothing while there is none, or while it grows.
    pub time_to_drain_seconds: Option<f64>,
    /// Seconds until the cap is reached at this rate; nothing while it does not grow.
    pub time_to_full_seconds: Option<f64>,
    /// What the log can still take before the cap, in bytes: slots to be made, and spare ones.
    pub room_bytes: u64,
    /// The backlog on disk grows.
    pub growing: bool,
    /// Records dropped for want of room since the store was made.
    pub dropped_records: u64,
    /// Appends are held back or refused.
    pub held_back: bool,
    /// The full policy drops records.
    pub dropping: bool,
    /// Why nothing becomes durable any more; empty while all is well.
    pub failure: String,
}

/// What the slots are.
struct Disk {
    /// Bytes of all of them.
    disk_bytes: u64,
    /// Bytes of the spare ones.
    spare_bytes: u64,
    used_slots: u64,
    warm_slots: u64,
    cold_slots: u64,
}

fn slots(counts: &WriterCounts) -> [u64; 3] {
    [counts.slots, counts.slots_given_back, counts.zero_bytes]
}

/// Watches one store.
pub(super) struct Meter {
    shared: Arc<Shared>,
    began_at: u64,
    seen_appended: u64,
    /// Slots made, slots given back and bytes of zeros, when they were last looked at.
    seen_slots: [u64; 3],
    /// When, and how many bytes were unsent then.
    backlog_before: (u64, u64),
    /// Bytes by which the backlog grows a second.
    growth: f64,
    dropped: u64,
    /// When something was dropped last; 0: never.
    dropped_at_ns: u64,
    /// Something was not well when it was last looked at: it is looked at until it is.
    unsettled: bool,
    segment_bytes: u64,
    disk_bytes_cap: u64,
}

impl Meter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let began_at = shared.marks.appended();
        let (segment_bytes, disk_bytes_cap) = (shared.segment_bytes, shared.disk_bytes_cap);
        Self {
            shared,
            began_at,
            seen_appended: began_at,
            seen_slots: [0; 3],
            backlog_before: (0, 0),
            growth: 0.0,
            dropped: u64::MAX,
            dropped_at_ns: 0,
            unsettled: false,
            segment_bytes,
            disk_bytes_cap,
        }
    }

    /// Records accepted since the start.
    pub(super) fn accepted_records(&self) -> u64 {
        self.shared.marks.appended() - self.began_at
    }

    /// Whether the last status is out of date, or will be soon.
    pub(super) fn moved(&self) -> bool {
        self.unsettled
            || self.shared.marks.appended() != self.seen_appended
            || slots(&self.shared.counts.writer()) != self.seen_slots
    }

    /// What the spill policy and the governor look at; everything from `unsent_from` on is unsent.
    pub(super) fn load(&self, unsent_from: u64, online: bool) -> Load {
        let counts = &self.shared.counts;
        let unsent_records = (self.shared.marks.appended() + 1).saturating_sub(unsent_from);
        Load {
            memory_records: counts.held_records.load(Ordering::Relaxed),
            memory_bytes: counts.held_bytes.load(Ordering::Relaxed),
            unsent_records,
            unsent_bytes: unsent_records.saturating_mul(self.record_bytes()),
            online,
        }
    }

    /// The mean of what was accepted since the start.
    fn record_bytes(&self) -> u64 {
        let bytes = self.shared.counts.accepted_bytes.load(Ordering::Relaxed);
        bytes.checked_div(self.accepted_records()).unwrap_or(RECORD_BYTES_GUESS)
    }

    /// `dropped` is what was dropped for want of room since the store was made.
    pub(super) fn status(&mut self, backfill: &Backfill, load: Load, dropped: u64, now_ns: u64) -> Status {
        self.seen_appended = self.shared.marks.appended();
        let counts = self.shared.counts.writer();
        self.seen_slots = slots(&counts);
        let Disk { disk_bytes, spare_bytes, used_slots, warm_slots, cold_slots } = self.disk();
        let full_at = self.shared.counts.full_at_ns.load(Ordering::Relaxed);
        let (limit, burst) = (backfill.limit(), backfill.burst());
        let steady = backfill.steady_state().map_or(0, |estimate| estimate.records_per_second);
        let behind = backfill.lane() == crate::sink::Lane::Backfill;
        let spills = backfill.spilling().is_some();
        self.note_backlog(if spills { load.unsent_bytes } else { 0 }, now_ns);
        let room_bytes = self.disk_bytes_cap.saturating_sub(disk_bytes) + spare_bytes;
        let dropping = self.is_dropping(dropped, now_ns);
        let held_back = full_at > 0 && now_ns.saturating_sub(full_at) < RECENT_NS;
        self.unsettled = dropping || held_back;
        let shared = &self.shared;
        Status {
            appended_sequence: self.seen_appended,
            written_sequence: shared.marks.written(),
            durable_sequence: shared.marks.durable(),
            sent_sequence: self.seen_appended.saturating_sub(load.unsent_records),
            confirmed_sequence: shared.marks.confirmed(),
            accepted_records: self.accepted_records(),
            queue_records: load.memory_records,
            queue_bytes: load.memory_bytes,
            unsent_records: load.unsent_records,
            unsent_bytes: load.unsent_bytes,
            spilled_records: counts.records,
            disk_bytes,
            disk_bytes_cap: self.disk_bytes_cap,
            segment_bytes: self.segment_bytes,
            used_slots,
            warm_slots,
            cold_slots,
            cold_segments: counts.cold_segments,
            zero_written_bytes: counts.zero_bytes,
            destination_state: backfill.state().name(),
            spilling: backfill.spilling().map_or("", |cause| cause.name()),
            lane: backfill.lane().name(),
            governor_limit_records_per_second: limit.records_per_second,
            governor_limit_bytes_per_second: limit.bytes_per_second,
            governor_burst_records: burst.records,
            steady_state_records_per_second: steady,
            time_to_drain_seconds: behind.then(|| backfill.drain_seconds(load.unsent_records)).flatten(),
            time_to_full_seconds: (self.growth > 0.0).then(|| room_bytes as f64 / self.growth),
            room_bytes,
            growing: self.growth > 0.0,
            dropped_records: dropped,
            held_back,
            dropping,
            failure: shared.marks.failed().map_or_else(String::new, |error| error.to_string()),
        }
    }

    fn disk(&self) -> Disk {
        let catalog = lock(&self.shared.catalog);
        let warm_slots = catalog.spares().filter(|spare| spare.is_warm()).count() as u64;
        Disk {
            disk_bytes: catalog.slot_bytes(),
            spare_bytes: catalog.spares().map(|spare| spare.segment_bytes).sum(),
            used_slots: catalog.segments().len() as u64,
            warm_slots,
            cold_slots: catalog.spares().len() as u64 - warm_slots,
        }
    }

    /// How fast the backlog grows, over about a second.
    fn note_backlog(&mut self, bytes: u64, now_ns: u64) {
        let (then_ns, then_bytes) = self.backlog_before;
        let elapsed_ns = now_ns.saturating_sub(then_ns);
        if then_ns > 0 && elapsed_ns < RECENT_NS {
            return;
        }
        let grown = if then_ns > 0 { bytes.saturating_sub(then_bytes) } else { 0 };
        self.growth = grown as f64 * 1e9 / elapsed_ns.max(1) as f64;
        self.backlog_before = (now_ns, bytes);
    }

    fn is_dropping(&mut self, dropped: u64, now_ns: u64) -> bool {
        if dropped > self.dropped {
            self.dropped_at_ns = now_ns;
        }
        self.dropped = dropped;
        self.dropped_at_ns > 0 && now_ns.saturating_sub(self.dropped_at_ns) < RECENT_NS
    }
}
