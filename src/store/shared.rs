//! What the store's threads share: the queue behind one lock, the marks behind none.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Clock;
use crate::config::FullPolicy;
use crate::error::Result;
use crate::gaps::{Gap, Reason};
use crate::io::bell::Bell;
use crate::io::{Disk, Wait, Waker};
use crate::position::{Epoch, StoreId};
use crate::queue::memory::{Full, MemoryQueue};
use crate::segment::catalog::Catalog;
use crate::segment::survey::Epochs;
use crate::segment::writer::WriterCounts;
use crate::store::destinations::Destinations;
use crate::store::marks::Marks;

/// The writer's thread wants to know of a sealed block.
pub(super) const WANTS_BLOCKS: u8 = 1;
/// The writer's thread wants to know that somebody waits for durability.
pub(super) const WANTS_AWAITED: u8 = 2;
/// The writer's thread wants to know that a block was opened: its linger begins.
pub(super) const WANTS_OPENED: u8 = 4;

/// Locks; a panic elsewhere leaves plain, whole data behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Everything that appends, the writer's thread and readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: StoreId,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Arc<Clock>,
    pub(crate) queue: Mutex<MemoryQueue>,
    pub(crate) marks: Marks,
    pub(crate) catalog: Arc<Mutex<Catalog>>,
    /// Every epoch of the log and its first sequence: what an older one has at or above it is stale.
    pub(crate) epochs: Epochs,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) destinations: Mutex<Destinations>,
    /// The lowest loss that is not durably named yet: no block behind it is written.
    pub(super) unnamed_from: Arc<AtomicU64>,
    pub(crate) full: FullPolicy,
    /// Nothing is released, read or sent before it is durable (`sync = group`).
    pub(crate) durable_first: bool,
    /// Everything goes to the log (spilling, or always).
    pub(crate) to_log: AtomicBool,
    pub(crate) closing: AtomicBool,
    /// What the writer's thread wants to be woken for; 0 while it is awake or will wake by itself.
    pub(super) wants: AtomicU8,
    pub(super) writer: WriterWake,
    /// No slot can be had for the next segment: the cap is reached, or the disk is full. Else one may only not have
    /// been made yet, and memory waits for it.
    pub(super) log_full: AtomicBool,
    /// An append found no room, and waits for the log to make some.
    pub(super) room_wanted: AtomicBool,
    /// A slot was freed: the log may have room again.
    pub(super) room_freed: AtomicBool,
    /// A reader sleeps and wants to know of the next record.
    pub(crate) reader_wants: AtomicBool,
    pub(crate) segment_bytes: u64,
    pub(crate) disk_bytes_cap: u64,
    /// Who wants to know that there is more to read.
    pub(super) listeners: Mutex<Vec<Waker>>,
    /// Which [`Durably`] the writer keeps to.
    pub(super) durably: AtomicU8,
    pub(crate) counts: Counts,
}

impl Shared {
    /// Whether what is appended goes through the log.
    pub(super) fn uses_log(&self) -> bool {
        self.to_log.load(Ordering::Acquire)
            || self.closing.load(Ordering::Acquire)
            || self.marks.awaited() > self.marks.durable()
    }

    /// Whether an append is refused when the log has no room for it. With `drop_oldest` room is made instead, and
    /// `drop_newest` drops nothing for a slot that only has not been made yet.
    pub(super) fn limits_room(&self) -> bool {
        let limits = match self.full {
            FullPolicy::DropOldest => false,
            FullPolicy::DropNewest => self.log_full.load(Ordering::Acquire),
            FullPolicy::Block | FullPolicy::Reject => true,
        };
        limits && self.to_log.load(Ordering::Acquire)
    }

    /// What a refusal of the queue means: while the log may still make room, it is memory that has none now, and
    /// the writer tells when there is some. Called with the queue locked, so that this is not missed.
    pub(super) fn told_full(&self, full: Full) -> Full {
        if full == Full::Memory || self.log_full.load(Ordering::Acquire) {
            return full;
        }
        self.room_wanted.store(true, Ordering::Relaxed);
        Full::Memory
    }

    /// Wakes the writer's thread if it wants to know.
    pub(super) fn nudge(&self, what: u8) {
        if self.wants.load(Ordering::SeqCst) & what != 0 {
            self.wants.store(0, Ordering::SeqCst);
            self.writer.wake();
        }
    }

    /// Wakes a reader that sleeps for want of records; one system call for each of its sleeps.
    pub(super) fn nudge_reader(&self) {
        if self.reader_wants.load(Ordering::SeqCst) && self.reader_wants.swap(false, Ordering::SeqCst) {
            self.tell_listeners();
        }
    }

    /// Wakes the writer's thread: what goes to the log has changed.
    pub(crate) fn wake_writer(&self) {
        self.writer.wake();
    }

    /// Wakes `waker` from now on when there is more to read.
    pub(crate) fn listen(&self, waker: Waker) {
        lock(&self.listeners).push(waker);
    }

    /// There is more to read, or nothing more will come.
    pub(super) fn tell_listeners(&self) {
        lock(&self.listeners).iter().for_each(Waker::wake);
    }

    /// Slots that every destination is past may be used again.
    pub(crate) fn recycle(&self, through: u64) {
        if lock(&self.catalog).recycle_through(through) > 0 {
            self.room_freed.store(true, Ordering::Release);
            self.writer.wake();
        }
    }

    /// Records that memory let go of before they were durable, on a device that then failed.
    pub(super) fn lost_with_the_device(&self, first: u64, last: u64) -> Result<()> {
        lock(&self.destinations).lose([Gap::of_range(self.epoch, first, last, Reason::DeviceFailed)])
    }
}

/// Wakes the writer's thread wherever it waits: on its device while something is in flight, else here, so that
/// the device is free for whoever has something to write.
#[derive(Debug)]
pub(super) struct WriterWake {
    device: Waker,
    bell: Bell,
    is_parked: AtomicBool,
    is_woken: AtomicBool,
}

impl WriterWake {
    pub(super) fn new(device: Waker) -> Self {
        Self {
            device,
            bell: Bell::default(),
            is_parked: AtomicBool::new(false),
            is_woken: AtomicBool::new(false),
        }
    }

    /// Ends the current wait or the next one.
    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        if self.is_parked.load(Ordering::SeqCst) { self.bell.ring() } else { self.device.wake() }
    }

    /// The writer's thread has nothing in flight, and waits.
    pub(super) fn park(&self, wait: Wait) {
        // One of the two sees what the other has stored: this thread the wake, or who wakes that it is parked.
        self.is_parked.store(true, Ordering::SeqCst);
        self.bell.sleep_while(wait, || !self.is_woken.load(Ordering::SeqCst));
        self.is_parked.store(false, Ordering::SeqCst);
        // Seen before what is looked at next: what whoever woke did before.
        self.is_woken.swap(false, Ordering::SeqCst);
    }
}

/// Counts for metrics; read without any lock.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Records appended to a full queue or log and refused.
    pub(crate) refused: AtomicU64,
    /// Records that were given a sequence and dropped at once.
    pub(crate) dropped_newest: AtomicU64,
    /// Keys and payloads accepted, in bytes.
    pub(crate) accepted_bytes: AtomicU64,
    /// Memory held: records.
    pub(crate) held_records: AtomicU64,
    /// Memory held: bytes of slots.
    pub(crate) held_bytes: AtomicU64,
    /// Appends were held back or refused at this time (0: never).
    pub(crate) full_at_ns: AtomicU64,
    syncs: AtomicU64,
    blocks: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    segments: AtomicU64,
    cold_segments: AtomicU64,
    slots: AtomicU64,
    slots_given_back: AtomicU64,
    zero_bytes: AtomicU64,
    failures: AtomicU64,
    enters: AtomicU64,
}

impl Counts {
    pub(super) fn note_held(&self, queue: &MemoryQueue) {
        let held = queue.held();
        self.held_records.store(held.records, Ordering::Relaxed);
        self.held_bytes.store(held.bytes, Ordering::Relaxed);
        self.accepted_bytes.store(queue.bytes_total(), Ordering::Relaxed);
    }

    pub(super) fn note_sync(&self, nanoseconds: u64) {
        metrics::histogram!("forebay_sync_duration_seconds").record(nanoseconds as f64 / 1e9);
    }

    pub(super) fn note_writer(&self, counts: WriterCounts) {
        self.records.store(counts.records, Ordering::Relaxed);
        self.blocks.store(counts.blocks, Ordering::Relaxed);
        self.bytes.store(counts.bytes, Ordering::Relaxed);
        self.syncs.store(counts.syncs, Ordering::Relaxed);
        self.segments.store(counts.segments, Ordering::Relaxed);
        self.cold_segments.store(counts.cold_segments, Ordering::Relaxed);
        self.slots.store(counts.slots, Ordering::Relaxed);
        self.slots_given_back.store(counts.slots_given_back, Ordering::Relaxed);
        self.zero_bytes.store(counts.zero_bytes, Ordering::Relaxed);
        self.failures.store(counts.failures, Ordering::Relaxed);
        self.enters.store(counts.enters, Ordering::Relaxed);
    }

    /// What the writer has done so far.
    pub(crate) fn writer(&self) -> WriterCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WriterCounts {
            blocks: load(&self.blocks),
            records: load(&self.records),
            bytes: load(&self.bytes),
            syncs: load(&self.syncs),
            segments: load(&self.segments),
            cold_segments: load(&self.cold_segments),
            slots: load(&self.slots),
            slots_given_back: load(&self.slots_given_back),
            zero_bytes: load(&self.zero_bytes),
            failures: load(&self.failures),
            enters: load(&self.enters),
        }
    }
}
