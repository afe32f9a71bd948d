//! No record costs an allocation: appending allocates for blocks, and a block holds hundreds of records.
//!
//! Owns the allocator of this binary, which counts; hence one test only. Timing decides nothing: every count is
//! bounded by the blocks that were filled, whoever was faster.

#![allow(unsafe_code, reason = "only an allocator sees allocations, and its trait is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::record::Record;
use forebay::store::{Level, Store};

/// The system's allocator, counted.
struct Counting;

/// Of all threads.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of this thread. Has neither a lazy beginning nor a destructor, so that counting allocates nothing.
    static ALLOCATIONS_HERE: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    // Fails only while the thread ends.
    let _ = ALLOCATIONS_HERE.try_with(|here| here.set(here.get() + 1));
}

// SAFETY: every call goes to `System` as it came, and its answer comes back as it was, so what `System` promises
// holds here; counting touches nothing that an allocation consists of and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` is from `System`, for nobody else allocates here.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: [u8; 256] = [7; 256];
const RECORDS: u64 = 100_000;
/// Before anything is counted: queues have their size, the first blocks have gone round.
const WARM_UP_RECORDS: u64 = 20_000;
/// What a producer may allocate to seal one block and open the next.
const PER_BLOCK_HERE_MAX: u64 = 1;
/// What all threads may, from the open of a block until it is durable: entries, progress, metrics, a file now and then.
const PER_BLOCK_MAX: u64 = 32;

fn open(directory: &std::path::Path) -> Store {
    let mut config = Config::new(directory.join("store"));
    config.spill = SpillMode::Always;
    config.queue.full = FullPolicy::Block;
    config.disk_bytes_cap = Some(512 << 20);
    config.disk.free_bytes_min = 0;
    Store::open(&config).unwrap()
}

/// How many appends allocated, and how often the worst of them did.
fn append(store: &Store, records: u64) -> (u64, u64) {
    let (mut last, mut allocating, mut worst) = (0, 0, 0);
    for timestamp in 0..records {
        let before = ALLOCATIONS_HERE.get();
        let record = Record { payload: &PAYLOAD, key: b"monitor-17", timestamp };
        last = store.append_blocking(&record, Level::Accepted).unwrap();
        let spent = ALLOCATIONS_HERE.get() - before;
        allocating += u64::from(spent > 0);
        worst = worst.max(spent);
    }
    assert!(store.wait(last, Level::Durable, None).unwrap());
    (allocating, worst)
}

#[test]
fn appending_allocates_for_blocks_and_never_for_a_record() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = open(directory.path());
    let _ = append(&store, WARM_UP_RECORDS);

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let (allocating, worst) = append(&store, RECORDS);
    let total = ALLOCATIONS.load(Ordering::Relaxed) - before;
    store.close().unwrap();

    // Blocks of 256 KiB; an idle writer may have taken the first ones early, half full.
    let record_bytes = Record { payload: &PAYLOAD, key: b"monitor-17", timestamp: 0 }.encoded_bytes() as u64;
    let blocks = RECORDS * record_bytes / (256 << 10) + 8;
    println!(
        "{RECORDS} records, about {blocks} blocks: {total} allocations, {allocating} appends with at most {worst}"
    );
    assert!(allocating <= blocks, "{allocating} appends of {RECORDS} allocated, for {blocks} blocks");
    assert!(worst <= PER_BLOCK_HERE_MAX, "one append allocated {worst} times");
    assert!(total <= blocks * PER_BLOCK_MAX, "{total} allocations for {blocks} blocks");
}
