//! The read device on tokio-uring.
//!
//! Owns a tokio-uring runtime, runs it inside `wait` alone, and registers slots of the arena as its fixed
//! buffers. Promises the contract of [`crate::io`]. This is the one place where tokio-uring and the io-uring
//! under it are named.
//!
//! The runtime is made by a constructor that can fail. Reads are its one-shot operations, which own slot and
//! file until their completion; its own handles to fixed buffers stay on one thread, so we register the
//! slots' addresses and push the entries ourselves. The reads are polled by one future: no task and no
//! allocation per read. A time is kept to the next millisecond, as tokio's timers do.
//!
//! Does not know what is read. Must not be used on a thread that runs another tokio runtime.

#![allow(unsafe_code, reason = "slots are handed to the ring by address")]

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Context, Poll};
use std::time::Duration;

use io_uring_06::{cqueue, opcode, squeue, types};
use rustix::io::Errno;
use tokio_uring::buf::fixed::FixedBufRegistry;
use tokio_uring::buf::{IoBuf, IoBufMut};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, Runtime, UnsubmittedOneshot};

use super::setup::{ENTRIES_MAX, READER_LADDER, Refusal, Rung, climb_down, halve_until, wanted_slots};
use crate::io::{Arena, DeviceInfo, DeviceOptions, Read, ReadDevice, ReadDone, Wait, Waker};

/// tokio-uring takes no more buffers than one readv does.
const REGISTERED_SLOTS_MAX: usize = 1024;
/// tokio-uring flushes when its thread goes to sleep and ignores a refusal of the kernel: with reads in flight
/// we look round this often, so that such a read is late and not lost.
const FLUSH_AGAIN: Duration = Duration::from_millis(100);
/// How long a dropped device waits for what is in flight before it gives the memory up for good.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How often an interrupted read is started again before that is reported.
const RETRY_COUNT_MAX: u8 = 16;

/// Ends the wait of the runtime's thread from any other.
#[derive(Debug, Default)]
struct WakeCell {
    is_woken: AtomicBool,
    /// The waiting future's; empty while nobody waits, so that a wake costs a system call only then.
    sleeper: Mutex<Option<task::Waker>>,
}

impl WakeCell {
    fn set_sleeper(&self, sleeper: Option<task::Waker>) {
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = sleeper;
    }

    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    /// The wait is over, and with it the wake that may have ended it: what the waker did before is seen after.
    fn clear(&self) {
        self.set_sleeper(None);
        self.is_woken.swap(false, Ordering::AcqRel);
    }

    fn wake(&self) {
        // Before the sleeper is looked for: whoever puts itself there later sees it, by the lock.
        self.is_woken.store(true, Ordering::Release);
        let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

/// What a read owns until its completion.
struct Owned {
    read: Read,
    retry_count: u8,
}

/// Puts the kernel's answer beside what the read owned.
struct KeepAnswer;

impl OneshotOutputTransform for KeepAnswer {
    type Output = (Owned, i32);
    type StoredData = Owned;

    fn transform_oneshot_output(self, owned: Owned, entry: cqueue::Entry) -> Self::Output {
        (owned, entry.result())
    }
}

type Flight = InFlightOneshot<Owned, KeepAnswer>;

/// The end of an operation that does nothing.
struct Told;

impl OneshotOutputTransform for Told {
    type Output = ();
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), _: cqueue::Entry) -> Self::Output {}
}

/// An operation that does nothing. tokio-uring tells the kernel of new entries only when its thread goes to
/// sleep; this one ends that sleep at once, and when it is back the kernel has been told of all before it.
type Nudge = InFlightOneshot<(), Told>;

/// A slot's address for registration. It owns nothing that it points to: it is never checked out.
struct SlotAddress {
    arena: Arc<Arena>,
    index: usize,
}

// SAFETY: the address of a slot does not change and is good for as long as the arena, which is held here.
unsafe impl IoBuf for SlotAddress {
    fn stable_ptr(&self) -> *const u8 {
        self.arena.slot_address(self.index).as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.arena.slot_bytes()
    }

    fn bytes_total(&self) -> usize {
        self.arena.slot_bytes()
    }
}

// SAFETY: as above. Through this address only the kernel writes, and only for reads that own the slot.
unsafe impl IoBufMut for SlotAddress {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.arena.slot_address(self.index).as_ptr()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

/// Reads in flight on a tokio-uring runtime.
pub struct RingReader {
    /// Dropped after the flights, by hand: it waits for them (see `drop`).
    runtime: ManuallyDrop<Runtime>,
    flights: Vec<Flight>,
    flights_max: usize,
    nudge: Option<Nudge>,
    queued: VecDeque<Owned>,
    arena: Arc<Arena>,
    wake: Arc<WakeCell>,
    info: DeviceInfo,
}

impl RingReader {
    /// A runtime with as many slots of `arena` registered as `options` and the limits of the process allow.
    ///
    /// # Errors
    /// The call that was refused, and how.
    pub fn new(arena: &Arc<Arena>, options: DeviceOptions) -> Result<Self, Refusal> {
        Self::on_ladder(&READER_LADDER, arena, options)
    }

    pub(super) fn on_ladder(
        ladder: &[Rung],
        arena: &Arc<Arena>,
        options: DeviceOptions,
    ) -> Result<Self, Refusal> {
        let flights_max = options.in_flight_count_max.clamp(1, ENTRIES_MAX as usize / 2);
        // Twice as many entries as reads: tokio-uring panics where it cannot empty a full queue.
        let (runtime, entries) = runtime(ladder, (flights_max as u32 * 2).next_power_of_two())?;
        let flights_max = flights_max.min(entries as usize / 2);
        let wanted = wanted_slots(arena, options.registered_bytes_max).min(REGISTERED_SLOTS_MAX);
        let (registered_slots, reason) = halve_until(wanted, |count| register(&runtime, arena, count));
        Ok(Self {
            runtime: ManuallyDrop::new(runtime),
            flights: Vec::with_capacity(flights_max),
            flights_max,
            nudge: None,
            queued: VecDeque::with_capacity(flights_max),
            arena: Arc::clone(arena),
            wake: Arc::default(),
            info: DeviceInfo { backend: "ring", reason, registered_slots },
        })
    }
}

/// The runtime, set up as a ring of our own has just been: a refused runtime would leave its epoll open, and
/// it cannot be asked what the kernel knows.
fn runtime(ladder: &[Rung], entries: u32) -> Result<(Runtime, u32), Refusal> {
    let (probed, rung) = climb_down(ladder, entries)?;
    let entries = probed.params().sq_entries();
    drop(probed);
    let mut ring = tokio_uring::uring_builder();
    match rung {
        Rung::SingleIssuer => ring.setup_coop_taskrun().setup_single_issuer(),
        Rung::CooperativeTaskrun => ring.setup_coop_taskrun(),
        Rung::DeferredTaskrun | Rung::Plain => &mut ring,
    };
    let mut builder = tokio_uring::builder();
    builder.entries(entries).uring_builder(&ring);
    let runtime = Runtime::new(&builder).map_err(|error| Refusal::new("io_uring_setup", error))?;
    Ok((runtime, entries))
}

/// Registers the first `count` slots, slot for slot.
fn register(runtime: &Runtime, arena: &Arc<Arena>, count: usize) -> io::Result<()> {
    let addresses = (0..count).map(|index| SlotAddress { arena: Arc::clone(arena), index });
    let registry = FixedBufRegistry::new(addresses);
    runtime.block_on(async { registry.register() })
}

/// The fields that the waiting future works on, apart from the runtime that runs it.
struct Round<'a> {
    flights: &'a mut Vec<Flight>,
    flights_max: usize,
    queued: &'a mut VecDeque<Owned>,
    arena: &'a Arc<Arena>,
    registered_slots: usize,
    wake: &'a WakeCell,
    nudge: &'a mut Option<Nudge>,
    /// Whether the kernel may not have been told yet of what was pushed.
    is_unflushed: bool,
    wait: Wait,
    /// How long `done` was when the wait began.
    known: usize,
}

impl Round<'_> {
    /// Starts what is queued as far as there is room; what cannot start is over.
    fn start_queued(&mut self, done: &mut Vec<ReadDone>) {
        while self.flights.len() < self.flights_max
            && let Some(mut owned) = self.queued.pop_front()
        {
            match self.entry(&mut owned.read) {
                Ok(entry) => {
                    // The operation owns slot and file from here until its completion, also when its handle is
                    // dropped: then the runtime's driver keeps them.
                    self.flights.push(UnsubmittedOneshot::new(owned, KeepAnswer, entry).submit());
                    self.is_unflushed = true;
                }
                Err(error) => done.push(over(owned, Err(error))),
            }
        }
    }

    fn entry(&self, read: &mut Read) -> io::Result<squeue::Entry> {
        let descriptor = read.file.descriptor().ok_or(Errno::OPNOTSUPP)?;
        let file = types::Fd(descriptor.as_raw_fd());
        let registered = read.slot.is_of(self.arena) && read.slot.index() < self.registered_slots;
        let place = read.slot.index() as u16;
        let buffer = read.slot.get_mut(..read.len).ok_or(Errno::INVAL)?;
        let len = u32::try_from(buffer.len()).map_err(|_| Errno::INVAL)?;
        Ok(if registered {
            opcode::ReadFixed::new(file, buffer.as_mut_ptr(), len, place).offset(read.offset).build()
        } else {
            opcode::Read::new(file, buffer.as_mut_ptr(), len).offset(read.offset).build()
        })
    }

    /// Takes in every read that is over, and has the rest wake the future of `context`.
    fn reap(&mut self, context: &mut Context<'_>, done: &mut Vec<ReadDone>) {
        let mut index = 0;
        while let Some(flight) = self.flights.get_mut(index) {
            let Poll::Ready((owned, answer)) = Pin::new(flight).poll(context) else {
                index += 1;
                continue;
            };
            drop(self.flights.swap_remove(index));
            match land(owned, answer) {
                Ok(read) => done.push(read),
                Err(owned) => self.queued.push_front(owned),
            }
        }
        if let Some(nudge) = self.nudge.as_mut()
            && Pin::new(nudge).poll(context).is_ready()
        {
            *self.nudge = None;
        }
    }

    /// One look of the waiting future: over when something is over (or nothing is waited for) and the kernel
    /// has been told of all that was pushed.
    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<ReadDone>) -> Poll<()> {
        self.wake.set_sleeper(Some(context.waker().clone()));
        self.reap(context, done);
        self.start_queued(done);
        let is_enough = self.wait == Wait::Now || done.len() > self.known || self.wake.is_woken();
        if is_enough && !self.is_unflushed && self.nudge.is_none() {
            return Poll::Ready(());
        }
        if is_enough && self.nudge.is_none() {
            let nothing = UnsubmittedOneshot::new((), Told, opcode::Nop::new().build());
            *self.nudge = Some(nothing.submit());
            self.is_unflushed = false;
        }
        // What was just pushed has to be polled once, or its completion wakes nobody.
        self.reap(context, done);
        Poll::Pending
    }
}

/// What the kernel's answer means; the read back where it is to be started again.
fn land(mut owned: Owned, answer: i32) -> Result<ReadDone, Owned> {
    let is_interrupted = [Errno::INTR, Errno::AGAIN].iter().any(|errno| answer == -errno.raw_os_error());
    if is_interrupted && owned.retry_count < RETRY_COUNT_MAX {
        owned.retry_count += 1;
        return Err(owned);
    }
    Ok(over(owned, usize::try_from(answer).map_err(|_| io::Error::from_raw_os_error(-answer))))
}

fn over(owned: Owned, result: io::Result<usize>) -> ReadDone {
    ReadDone { token: owned.read.token, slot: owned.read.slot, result }
}

impl ReadDevice for RingReader {
    fn submit(&mut self, read: Read) {
        self.queued.push_back(Owned { read, retry_count: 0 });
    }

    fn wait(&mut self, wait: Wait, done: &mut Vec<ReadDone>) -> io::Result<()> {
        // A timer that is over at once would end the future before the runtime has told the kernel.
        let wait = if wait == Wait::For(Duration::ZERO) { Wait::Now } else { wait };
        let is_idle = self.flights.is_empty() && self.queued.is_empty();
        if !(is_idle && wait == Wait::Now) {
            self.run(wait, done);
        }
        self.wake.clear();
        Ok(())
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
}

impl RingReader {
    /// Runs the runtime until `wait` is over.
    fn run(&mut self, wait: Wait, done: &mut Vec<ReadDone>) {
        let known = done.len();
        let deadline = match wait {
            Wait::For(time) => tokio::time::Instant::now().checked_add(time),
            Wait::Now | Wait::Forever => None,
        };
        let has_reads = !(self.flights.is_empty() && self.queued.is_empty());
        loop {
            let flush_again = has_reads.then(|| tokio::time::Instant::now() + FLUSH_AGAIN);
            let sleep_until = [deadline, flush_again].into_iter().flatten().min();
            let mut round = Round {
                flights: &mut self.flights,
                flights_max: self.flights_max,
                queued: &mut self.queued,
                arena: &self.arena,
                registered_slots: self.info.registered_slots,
                wake: &self.wake,
                nudge: &mut self.nudge,
                is_unflushed: wait == Wait::Now,
                wait,
                known,
            };
            let something = std::future::poll_fn(|context| round.poll(context, done));
            self.runtime.block_on(async {
                match sleep_until {
                    // Late is all that a timeout is: what is in flight stays so.
                    Some(instant) => drop(tokio::time::timeout_at(instant, something).await),
                    None => something.await,
                }
            });
            let is_late = deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now());
            let is_woken = self.wake.is_woken();
            if wait == Wait::Now || is_late || is_woken || done.len() > known {
                return;
            }
        }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.queued.clear();
        let deadline = std::time::Instant::now() + DRAIN_MAX;
        let mut unwanted = Vec::new();
        while !self.flights.is_empty() && std::time::Instant::now() < deadline {
            self.run(Wait::For(Duration::from_millis(100)), &mut unwanted);
            self.queued.clear();
            self.wake.clear();
        }
        if self.flights.is_empty() {
            self.nudge = None;
            // SAFETY: dropped once, here; no flight is left, so nothing refers to it.
            unsafe { ManuallyDrop::drop(&mut self.runtime) };
        } else {
            // The device hangs, and the runtime would wait for it without end. The kernel may still write to
            // the slots in flight: they and the runtime are leaked on purpose.
            std::mem::forget(std::mem::take(&mut self.flights));
            std::mem::forget(self.nudge.take());
        }
    }
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingReader").field("info", &self.info).finish_non_exhaustive()
    }
}
