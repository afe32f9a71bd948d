//! The contract of `forebay::io`, sentence by sentence, on every actor that plays a device.
//!
//! A [`Stage`] is a disk and the backend to ask it for; `contract!` at the end runs every property on each.
//! No property is decided by time: a limit only turns a hang into a failure that names itself.

#[path = "io_contract/tampered.rs"]
mod tampered;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use forebay::io::DirectIo;
use forebay::io::real::RealDisk;
use forebay::io::sim::SimDisk;
use forebay::io::sync_thread::SyncThread;
use forebay::io::{
    Access, Arena, Backend, Completion, DeviceOptions, Disk, File, FileIndex, Operation, Read, ReadDevice,
    ReadDone, Wait, WriteDevice,
};

const SLOT_BYTES: usize = 16 << 10;
const SLOT_COUNT: usize = 32;
const HANG: Duration = Duration::from_secs(60);

/// Where the devices come from.
struct Stage {
    disk: Arc<dyn Disk>,
    backend: Backend,
    /// Syncs on a thread of their own.
    has_sync_thread: bool,
    /// What the disk stands on, until the test is over.
    _ground: Option<tempfile::TempDir>,
}

/// The real file system. `Auto` is the ring, and where a ring is denied its stand-in, on which all must hold too.
fn real(backend: Backend) -> Stage {
    let ground = tempfile::tempdir().expect("a temporary directory");
    let disk = RealDisk::open(ground.path(), DirectIo::Auto).expect("it is there");
    Stage { disk: Arc::new(disk), backend, has_sync_thread: false, _ground: Some(ground) }
}

fn with_sync_thread(stage: Stage) -> Stage {
    Stage { has_sync_thread: true, ..stage }
}

/// A disk in memory; its seed draws the order and the delay of completions.
fn simulated(seed: u64) -> Stage {
    let disk = Arc::new(SimDisk::new(seed));
    Stage { disk, backend: Backend::Auto, has_sync_thread: false, _ground: None }
}

impl Stage {
    fn options(&self) -> DeviceOptions {
        // Half of the slots registered, and fewer operations at once than the tests submit.
        DeviceOptions {
            backend: self.backend,
            in_flight_count_max: 8,
            registered_bytes_max: SLOT_BYTES * SLOT_COUNT / 2,
        }
    }

    fn writer(&self, arena: &Arc<Arena>) -> Box<dyn WriteDevice> {
        let device = self.disk.write_device(arena, self.options()).expect("a write device");
        if self.has_sync_thread { Box::new(SyncThread::new(device).expect("a thread")) } else { device }
    }

    fn reader(&self, arena: &Arc<Arena>) -> Box<dyn ReadDevice> {
        self.disk.read_device(arena, self.options()).expect("a read device")
    }

    /// A file of `slots` slots with [`pattern`] in each.
    fn filled_file(&self, name: &str, slots: usize) -> Arc<dyn File> {
        let len = (slots * SLOT_BYTES) as u64;
        let file = self.disk.create(name, len, Access::Write).expect("room for a small file");
        for index in 0..slots {
            let written = file.write_at(&[pattern(index); SLOT_BYTES], (index * SLOT_BYTES) as u64);
            assert_eq!(written.expect("a write"), SLOT_BYTES);
        }
        file.sync().expect("a sync");
        drop(file);
        self.disk.open(name, Access::ReadDirect).expect("it is there")
    }
}

fn arena() -> Arc<Arena> {
    Arena::new(SLOT_BYTES, SLOT_COUNT).expect("half a MiB")
}

fn pattern(index: usize) -> u8 {
    (index % 251) as u8 + 1
}

/// Runs a property on a thread of its own (where it may keep a device), and fails it when it hangs.
fn property(stage: impl FnOnce() -> Stage + Send + 'static, body: fn(&Stage)) {
    let (report, over) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body(&stage());
        // The test may be over already, when it has been called a hang.
        let _ = report.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = over.recv_timeout(HANG) {
        panic!("the device hangs: a completion or a wake was lost");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn collect(device: &mut dyn WriteDevice, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.len() < count {
        device.wait(Wait::Forever, &mut completions).expect("a wait");
    }
    // Whatever came twice would come now.
    device.wait(Wait::For(Duration::from_millis(1)), &mut completions).expect("a wait");
    completions.sort_by_key(|completion| completion.token);
    completions
}

fn collect_reads(device: &mut dyn ReadDevice, count: usize) -> Vec<ReadDone> {
    let mut done = Vec::new();
    while done.len() < count {
        device.wait(Wait::Forever, &mut done).expect("a wait");
    }
    device.wait(Wait::For(Duration::from_millis(1)), &mut done).expect("a wait");
    done.sort_by_key(|read| read.token);
    done
}

/// Queues a write of every slot of the arena, each to its own place.
fn submit_slots(device: &mut dyn WriteDevice, file: FileIndex, arena: &Arc<Arena>, dsync: bool) {
    for index in 0..SLOT_COUNT {
        let mut slot = arena.take().expect("a free slot");
        slot.fill(pattern(index));
        device.submit(Operation::Write {
            token: index as u64,
            file,
            slot: Arc::new(slot),
            range: 0..SLOT_BYTES,
            offset: (index * SLOT_BYTES) as u64,
            dsync,
        });
    }
}

fn submit_reads(device: &mut dyn ReadDevice, file: &Arc<dyn File>, arena: &Arc<Arena>) {
    for index in 0..SLOT_COUNT {
        let slot = arena.take().expect("a free slot");
        let (file, offset) = (Arc::clone(file), (index * SLOT_BYTES) as u64);
        device.submit(Read { token: index as u64, file, slot, offset, len: SLOT_BYTES });
    }
}

fn fresh_file(stage: &Stage) -> Arc<dyn File> {
    let len = (SLOT_COUNT * SLOT_BYTES) as u64;
    stage.disk.create("slot-000001", len, Access::WriteDirect).expect("room for a small file")
}

// ---- writing

fn every_write_completes_once_with_its_bytes_on_the_disk(stage: &Stage) {
    for dsync in [false, true] {
        let (arena, file) = (arena(), fresh_file(stage));
        let mut device = stage.writer(&arena);
        let index = device.attach(Arc::clone(&file)).expect("one file");
        submit_slots(&mut *device, index, &arena, dsync);
        let completions = collect(&mut *device, SLOT_COUNT);
        let tokens: Vec<u64> = completions.iter().map(|completion| completion.token).collect();
        assert_eq!(tokens, (0..SLOT_COUNT as u64).collect::<Vec<_>>());
        for completion in completions {
            assert_eq!(completion.result.expect("a write"), SLOT_BYTES);
        }
        assert_eq!(arena.free_count(), SLOT_COUNT, "every share of a slot has been dropped");
        device.submit(Operation::Sync { token: 7, file: index });
        assert_eq!(collect(&mut *device, 1)[0].result.as_ref().expect("a sync"), &0);
        device.detach(index);
        let mut buffer = arena.take().expect("a free slot");
        for index in 0..SLOT_COUNT {
            let read = file.read_at(&mut buffer, (index * SLOT_BYTES) as u64).expect("a read");
            assert!(read == SLOT_BYTES && buffer.iter().all(|&byte| byte == pattern(index)));
        }
        drop((device, file));
        stage.disk.remove("slot-000001").expect("it is there");
    }
}

fn a_range_of_a_slot_is_written_and_nothing_beside_it(stage: &Stage) {
    let (arena, file) = (arena(), stage.disk.create("small", 3 * 4096, Access::WriteDirect).expect("room"));
    let mut device = stage.writer(&arena);
    let index = device.attach(Arc::clone(&file)).expect("one file");
    let mut slot = arena.take().expect("a free slot");
    slot.fill(1);
    slot[4096..8192].fill(2);
    let slot = Arc::new(slot);
    let shared = Arc::clone(&slot);
    device.submit(Operation::Write {
        token: 1,
        file: index,
        slot,
        range: 4096..8192,
        offset: 4096,
        dsync: false,
    });
    assert!(shared[4096..8192].iter().all(|&byte| byte == 2), "readable while it is written");
    assert_eq!(collect(&mut *device, 1)[0].result.as_ref().expect("a write"), &4096);
    let mut buffer = arena.take().expect("a free slot");
    assert_eq!(file.read_at(&mut buffer[..3 * 4096], 0).expect("a read"), 3 * 4096);
    assert!(buffer[..4096].iter().chain(&buffer[8192..3 * 4096]).all(|&byte| byte == 0));
    assert!(buffer[4096..8192].iter().all(|&byte| byte == 2));
}

fn an_operation_that_cannot_be_completes_with_an_error_and_gives_its_slot_back(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let closed = device.attach(fresh_file(stage)).expect("one file");
    device.detach(closed);
    let other = stage.disk.create("other", SLOT_BYTES as u64, Access::WriteDirect).expect("room");
    let open = device.attach(other).expect("one file");
    assert_ne!(open, closed, "an index is good for one attachment");
    let write = |token, file, range| {
        let slot = Arc::new(arena.take().expect("a free slot"));
        Operation::Write { token, file, slot, range, offset: 0, dsync: false }
    };
    device.submit(write(0, closed, 0..4096));
    device.submit(Operation::Sync { token: 1, file: closed });
    device.submit(write(2, FileIndex(u32::MAX), 0..4096));
    device.submit(write(3, open, SLOT_BYTES..SLOT_BYTES + 4096));
    device.submit(write(4, open, 0..4096));
    let completions = collect(&mut *device, 5);
    assert_eq!(completions.len(), 5);
    assert!(completions[..4].iter().all(|completion| completion.result.is_err()), "{completions:?}");
    assert!(completions[4].result.is_ok(), "the rest goes on");
    assert_eq!(arena.free_count(), SLOT_COUNT);
}

fn a_sync_of_names_completes_beside_writes_and_needs_no_file(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let file = fresh_file(stage);
    let index = device.attach(Arc::clone(&file)).expect("one file");
    submit_slots(&mut *device, index, &arena, false);
    device.submit(Operation::SyncNames { token: 100 });
    device.submit(Operation::Sync { token: 101, file: index });
    let completions = collect(&mut *device, SLOT_COUNT + 2);
    assert_eq!(completions.len(), SLOT_COUNT + 2);
    let results = completions[SLOT_COUNT..].iter().map(|completion| completion.result.as_ref().ok());
    assert!(results.eq([Some(&0), Some(&0)]), "{completions:?}");
    device.detach(index);
    drop(file);
    stage.disk.remove("slot-000001").expect("it is there");
    device.submit(Operation::SyncNames { token: 0 });
    assert_eq!(collect(&mut *device, 1)[0].result.as_ref().expect("a sync"), &0);
}

/// On a file system that cannot tell, the answer is 0 throughout.
fn what_was_written_from_the_front_is_told_and_what_is_only_allocated_is_not(stage: &Stage) {
    let (arena, file) = (arena(), fresh_file(stage));
    let mut device = stage.writer(&arena);
    let index = device.attach(Arc::clone(&file)).expect("one file");
    assert_eq!(file.written_bytes().expect("an answer"), 0);
    let write = |token: u64| {
        let slot = Arc::new(arena.take().expect("a free slot"));
        let offset = token * SLOT_BYTES as u64;
        Operation::Write { token, file: index, slot, range: 0..SLOT_BYTES, offset, dsync: false }
    };
    let mut told = Vec::new();
    // The third leaves a hole, the fourth fills it: zeros are as good as anything.
    for token in [0, 1, 3, 2] {
        device.submit(write(token));
        assert!(collect(&mut *device, 1)[0].result.is_ok());
        device.submit(Operation::Sync { token: 9, file: index });
        assert!(collect(&mut *device, 1)[0].result.is_ok());
        told.push(file.written_bytes().expect("an answer") / SLOT_BYTES as u64);
    }
    assert!(told == [1, 2, 2, 4] || told == [0; 4], "{told:?}");
    let again = stage.disk.open("slot-000001", Access::ReadDirect).expect("it is there");
    assert_eq!(again.written_bytes().expect("an answer") / SLOT_BYTES as u64, told[3]);
}

fn a_writer_dropped_in_the_middle_gives_every_slot_back(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let index = device.attach(fresh_file(stage)).expect("one file");
    submit_slots(&mut *device, index, &arena, false);
    device.wait(Wait::Now, &mut Vec::new()).expect("a look");
    drop(device);
    assert_eq!(arena.free_count(), SLOT_COUNT);
}

fn a_writer_is_made_on_one_thread_and_works_on_another(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let index = device.attach(fresh_file(stage)).expect("one file");
    submit_slots(&mut *device, index, &arena, false);
    let worked = std::thread::spawn(move || collect(&mut *device, SLOT_COUNT).len()).join();
    assert_eq!(worked.expect("no panic"), SLOT_COUNT);
    assert_eq!(arena.free_count(), SLOT_COUNT);
}

fn no_wake_of_a_writer_is_lost(stage: &Stage) {
    let mut device = stage.writer(&arena());
    let waker = device.waker();
    ping_pong(move || waker.wake(), || device.wait(Wait::Forever, &mut Vec::new()));
}

fn a_writers_wait_with_a_time_returns(stage: &Stage) {
    let mut device = stage.writer(&arena());
    returns(|wait| {
        let mut completions = Vec::new();
        device.wait(wait, &mut completions).expect("a wait");
        assert!(completions.is_empty());
    });
}

fn wakes_and_completions_do_not_eat_each_other(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let index = device.attach(fresh_file(stage)).expect("one file");
    let waker = device.waker();
    let (stop, stopped) = mpsc::channel::<()>();
    let waking = std::thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            waker.wake();
        }
    });
    for _ in 0..20 {
        submit_slots(&mut *device, index, &arena, false);
        assert_eq!(collect(&mut *device, SLOT_COUNT).len(), SLOT_COUNT);
    }
    drop(stop);
    waking.join().expect("no panic");
}

// ---- reading

fn every_read_completes_once_with_its_slot_and_its_bytes(stage: &Stage) {
    let (arena, file) = (arena(), stage.filled_file("slot-000001", SLOT_COUNT));
    let mut device = stage.reader(&arena);
    for _ in 0..3 {
        submit_reads(&mut *device, &file, &arena);
        assert_eq!(arena.free_count(), 0);
        let done = collect_reads(&mut *device, SLOT_COUNT);
        let tokens: Vec<u64> = done.iter().map(|read| read.token).collect();
        assert_eq!(tokens, (0..SLOT_COUNT as u64).collect::<Vec<_>>());
        for read in &done {
            assert_eq!(*read.result.as_ref().expect("a read"), SLOT_BYTES);
            assert!(read.slot.iter().all(|&byte| byte == pattern(read.token as usize)));
        }
        let slots: BTreeSet<usize> = done.iter().map(|read| read.slot.index()).collect();
        assert_eq!(slots.len(), SLOT_COUNT, "each with a slot of its own");
        drop(done);
        assert_eq!(arena.free_count(), SLOT_COUNT);
    }
}

fn a_read_over_the_end_of_a_file_tells_how_much_there_was(stage: &Stage) {
    let (arena, file) = (arena(), stage.filled_file("slot-000001", 2));
    let mut device = stage.reader(&arena);
    let end = 2 * SLOT_BYTES as u64;
    for (token, offset) in [(0, end - 4096), (1, end), (2, end + 4096)] {
        let slot = arena.take().expect("a free slot");
        device.submit(Read { token, file: Arc::clone(&file), slot, offset, len: SLOT_BYTES });
    }
    let done = collect_reads(&mut *device, 3);
    let bytes: Vec<usize> = done.iter().map(|read| *read.result.as_ref().expect("no error")).collect();
    assert_eq!(bytes, [4096, 0, 0]);
    assert!(done[0].slot[..4096].iter().all(|&byte| byte == pattern(1)));
}

/// A file that no device can read: it was never of this disk, or is closed.
#[derive(Debug)]
struct Gone;

impl File for Gone {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn len(&self) -> io::Result<u64> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn alignment(&self) -> usize {
        1
    }
    fn is_direct(&self) -> bool {
        false
    }
    fn name(&self) -> &str {
        "gone"
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn a_read_that_cannot_be_completes_with_an_error_and_its_slot(stage: &Stage) {
    let (arena, file) = (arena(), stage.filled_file("slot-000001", 1));
    let mut device = stage.reader(&arena);
    let read =
        |token, file, len| Read { token, file, slot: arena.take().expect("a free slot"), offset: 0, len };
    device.submit(read(0, Arc::new(Gone), 4096));
    device.submit(read(1, Arc::clone(&file), SLOT_BYTES + 4096));
    device.submit(read(2, file, SLOT_BYTES));
    let done = collect_reads(&mut *device, 3);
    assert_eq!(done.len(), 3);
    assert!(done[0].result.is_err() && done[1].result.is_err(), "{done:?}");
    assert_eq!(*done[2].result.as_ref().expect("the rest goes on"), SLOT_BYTES);
    drop(done);
    assert_eq!(arena.free_count(), SLOT_COUNT);
}

fn a_reader_dropped_in_the_middle_gives_every_slot_back(stage: &Stage) {
    let (arena, file) = (arena(), stage.filled_file("slot-000001", SLOT_COUNT));
    let mut device = stage.reader(&arena);
    submit_reads(&mut *device, &file, &arena);
    let mut done = Vec::new();
    device.wait(Wait::Now, &mut done).expect("a look");
    drop((device, done));
    assert_eq!(arena.free_count(), SLOT_COUNT);
}

fn looking_again_and_again_gets_every_read(stage: &Stage) {
    let (arena, file) = (arena(), stage.filled_file("slot-000001", SLOT_COUNT));
    let mut device = stage.reader(&arena);
    submit_reads(&mut *device, &file, &arena);
    let mut done = Vec::new();
    while done.len() < SLOT_COUNT {
        device.wait(Wait::Now, &mut done).expect("a look");
        std::thread::yield_now();
    }
    assert!(done.iter().all(|read| read.result.is_ok()));
}

fn looking_again_and_again_gets_every_write(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let index = device.attach(fresh_file(stage)).expect("one file");
    submit_slots(&mut *device, index, &arena, false);
    let mut completions = Vec::new();
    while completions.len() < SLOT_COUNT {
        device.wait(Wait::Now, &mut completions).expect("a look");
        std::thread::yield_now();
    }
    assert!(completions.iter().all(|completion| completion.result.is_ok()));
}

/// On another thread than the one that waits, before that one has waited and after.
fn a_write_at_once_is_over_when_it_returns_whoever_asks(stage: &Stage) {
    let arena = arena();
    let mut device = stage.writer(&arena);
    let file = stage.filled_file("file", 2);
    drop(file);
    let file = stage.disk.open("file", Access::WriteDirect).expect("it is there");
    let index = device.attach(Arc::clone(&file)).expect("an open file");
    let write_now = |device: &mut dyn WriteDevice, place: usize, mark: u8, dsync: bool| {
        let mut slot = arena.take().expect("a free slot");
        slot.fill(mark);
        let (range, offset) = (0..SLOT_BYTES, (place * SLOT_BYTES) as u64);
        let write = Operation::Write { token: 7, file: index, slot: Arc::new(slot), range, offset, dsync };
        let completion = device.write_now(write);
        assert_eq!((completion.token, completion.result.expect("a write")), (7, SLOT_BYTES));
        assert_eq!(arena.free_count(), SLOT_COUNT, "the slot is back");
    };
    std::thread::scope(|scope| scope.spawn(|| write_now(&mut *device, 0, 201, true)).join())
        .expect("no panic");
    device.wait(Wait::Now, &mut Vec::new()).expect("a look");
    std::thread::scope(|scope| scope.spawn(|| write_now(&mut *device, 1, 202, false)).join())
        .expect("no panic");
    let mut read = arena.take().expect("a free slot");
    for (place, mark) in [(0, 201), (1, 202)] {
        file.read_at(&mut read, (place * SLOT_BYTES) as u64).expect("a read");
        assert!(read.iter().all(|&byte| byte == mark), "what was written is there");
    }
}

fn no_wake_of_a_reader_is_lost(stage: &Stage) {
    let mut device = stage.reader(&arena());
    let waker = device.waker();
    ping_pong(move || waker.wake(), || device.wait(Wait::Forever, &mut Vec::new()));
}

fn a_readers_wait_with_a_time_returns(stage: &Stage) {
    let mut device = stage.reader(&arena());
    returns(|wait| {
        let mut done = Vec::new();
        device.wait(wait, &mut done).expect("a wait");
        assert!(done.is_empty());
    });
}

// ---- both

/// Wakes from another thread, the next one as soon as the last has been seen: now and then before the wait,
/// now and then during it. One that is lost is a hang.
fn ping_pong(wake: impl Fn() + Send + 'static, mut wait: impl FnMut() -> io::Result<()>) {
    const ROUNDS: u64 = 2000;
    let (asked, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (asking, seeing) = (Arc::clone(&asked), Arc::clone(&seen));
    let waking = std::thread::spawn(move || {
        for round in 1..=ROUNDS {
            asking.store(round, Ordering::Relaxed);
            wake();
            while seeing.load(Ordering::Acquire) < round {
                std::thread::yield_now();
            }
        }
    });
    while seen.load(Ordering::Relaxed) < ROUNDS {
        wait().expect("a wait");
        // What was stored before the wake is visible after the wait that it ended.
        seen.store(asked.load(Ordering::Relaxed), Ordering::Release);
    }
    waking.join().expect("no panic");
}

/// With nothing in flight, every wait that has an end comes to it.
fn returns(mut wait: impl FnMut(Wait)) {
    for time in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(2)] {
        wait(Wait::Now);
        wait(Wait::For(time));
    }
}

macro_rules! contract {
    ($($actor:ident: $stage:expr;)+) => {
        $(mod $actor {
            use super::*;
            contract!(@properties $stage;
                every_write_completes_once_with_its_bytes_on_the_disk
                a_range_of_a_slot_is_written_and_nothing_beside_it
                an_operation_that_cannot_be_completes_with_an_error_and_gives_its_slot_back
                a_sync_of_names_completes_beside_writes_and_needs_no_file
                what_was_written_from_the_front_is_told_and_what_is_only_allocated_is_not
                a_writer_dropped_in_the_middle_gives_every_slot_back
                a_writer_is_made_on_one_thread_and_works_on_another
                a_write_at_once_is_over_when_it_returns_whoever_asks
                no_wake_of_a_writer_is_lost
                a_writers_wait_with_a_time_returns
                wakes_and_completions_do_not_eat_each_other
                looking_again_and_again_gets_every_write
                every_read_completes_once_with_its_slot_and_its_bytes
                a_read_over_the_end_of_a_file_tells_how_much_there_was
                a_read_that_cannot_be_completes_with_an_error_and_its_slot
                a_reader_dropped_in_the_middle_gives_every_slot_back
                looking_again_and_again_gets_every_read
                no_wake_of_a_reader_is_lost
                a_readers_wait_with_a_time_returns
            );
        })+
    };
    (@properties $stage:expr; $($name:ident)+) => {
        $(#[test]
        fn $name() {
            property(|| $stage, super::$name);
        })+
    };
}

contract! {
    ring: real(Backend::Auto);
    blocking: real(Backend::Blocking);
    simulated: simulated(1);
    ring_and_sync_thread: with_sync_thread(real(Backend::Auto));
    blocking_and_sync_thread: with_sync_thread(real(Backend::Blocking));
}

/// What the devices say of themselves: a ring, or a sentence of the kernel why not.
fn backends(backend: Backend) -> [forebay::io::DeviceInfo; 2] {
    let (stage, arena) = (real(backend), arena());
    [stage.writer(&arena).info().clone(), stage.reader(&arena).info().clone()]
}

#[test]
fn a_device_says_what_it_is() {
    for info in backends(Backend::Auto) {
        match info.backend {
            "ring" => assert!(info.registered_slots <= SLOT_COUNT / 2),
            "blocking" => assert!(info.reason.starts_with("io_uring_"), "{info:?}"),
            other => panic!("no such backend: {other}"),
        }
    }
    for info in backends(Backend::Blocking) {
        assert_eq!((info.backend, info.reason.as_str(), info.registered_slots), ("blocking", "", 0));
    }
}
