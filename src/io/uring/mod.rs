//! The write device on a raw ring.
//!
//! Owns the ring, its table of files, its registered slots and what is in flight. Promises the contract of
//! [`crate::io`]; that submitting and waiting are one `io_uring_enter` together, arming the wake included; that
//! a look round ([`Wait::Now`]) makes no system call when nothing is queued and the kernel has nothing to
//! tell; and that no slot is freed while the kernel may use it.
//!
//! ```text
//! submit ─► queued ─► entries ─► io_uring_enter ─► kernel ─► completions ─► caller
//!                     └── in flight: slot and file are owned here ──┘
//! ```
//!
//! On kernels that defer completions to the one thread that submits, the device belongs to the thread of its
//! first wait: it may be made on one and moved to another before that, not after.
//!
//! Does not know what is written, nor in which order it must reach the disk.

#![allow(unsafe_code, reason = "entries are pushed with addresses that the kernel uses until they complete")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;

mod in_flight;
pub mod reactor;
mod setup;
#[cfg(test)]
mod tests;
mod wake;

pub use setup::Refusal;

use super::attached::{AttachedFiles, place_of};
use super::blocking::perform;
use super::{
    Arena, Completion, DeviceInfo, DeviceOptions, File, FileIndex, Operation, Wait, Waker, WriteDevice,
};
use in_flight::{Flight, InFlight, Landed, Work};
use setup::{ENTRIES_MAX, Rung, WRITER_LADDER, climb_down, halve_until, register_slots, wanted_slots};
use wake::WakeCell;

/// Completions of the device's own entries; no operation ever has these keys.
const WAKE_KEY: u64 = u64::MAX;
const TIMEOUT_KEY: u64 = u64::MAX - 1;
/// Entries kept free for the wake and a timeout.
const OWN_ENTRIES: u32 = 2;
/// Places in the ring's table of files; what is attached beyond goes by its descriptor.
const REGISTERED_FILES_MAX: u32 = 256;
/// How often a busy or interrupted kernel is asked again within one wait, a millisecond apart.
const RETRY_COUNT_MAX: u32 = 1000;
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// How long a dropped device waits for what is in flight before it gives the memory up for good.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Many writes and syncs in flight on a ring of its own.
pub struct RingWriter {
    ring: IoUring,
    /// Set up disabled, and nobody has waited yet.
    is_disabled: bool,
    /// Whether a timeout can be given to the enter itself (5.11); else it is an entry.
    has_timed_enter: bool,
    arena: Arc<Arena>,
    /// Whose names [`Operation::SyncNames`] syncs.
    directory: Arc<dyn File>,
    files: AttachedFiles,
    /// For each place in `files`: whether the ring's table has it too.
    registered_files: Vec<bool>,
    queued: VecDeque<Operation>,
    /// Interrupted by the kernel, to be started again before what is queued.
    again: Vec<Flight>,
    in_flight: InFlight,
    wake: Arc<WakeCell>,
    /// Whether the kernel holds the read that a wake completes.
    wake_is_armed: bool,
    /// Where the kernel reads the time of a timeout entry from.
    timeout: Box<types::Timespec>,
    /// Whether a timeout entry was pushed that the kernel has not taken: one at most, so that there is room.
    timeout_is_pushed: bool,
    /// Calls of `io_uring_enter`.
    enters: u64,
    info: DeviceInfo,
}

impl RingWriter {
    /// A ring for files of `directory`, with as many slots of `arena` registered as `options` and the limits of the process allow.
    ///
    /// # Errors
    /// The call that was refused, and how.
    pub fn new(
        arena: &Arc<Arena>,
        directory: Arc<dyn File>,
        options: DeviceOptions,
    ) -> Result<Self, Refusal> {
        Self::on_ladder(&WRITER_LADDER, arena, directory, options)
    }

    fn on_ladder(
        ladder: &[Rung],
        arena: &Arc<Arena>,
        directory: Arc<dyn File>,
        options: DeviceOptions,
    ) -> Result<Self, Refusal> {
        let count_max = u32::try_from(options.in_flight_count_max).unwrap_or(u32::MAX);
        let count_max = count_max.clamp(1, ENTRIES_MAX - OWN_ENTRIES);
        let wanted_entries = (count_max + OWN_ENTRIES).next_power_of_two();
        let (ring, rung) = climb_down(ladder, wanted_entries)?;
        let wake = WakeCell::new().map_err(|error| Refusal::new("eventfd2", error))?;
        let submitter = ring.submitter();
        let wanted = wanted_slots(arena, options.registered_bytes_max);
        let (registered_slots, mut reason) =
            halve_until(wanted, |count| register_slots(&submitter, arena, count));
        let entries = ring.params().sq_entries();
        if entries < wanted_entries {
            reason.insert_str(0, &format!("io_uring_setup: ENOMEM: {entries} of {wanted_entries} entries; "));
        }
        let has_file_table = submitter
            .register_files_sparse(REGISTERED_FILES_MAX)
            .or_else(|_| submitter.register_files(&[-1; REGISTERED_FILES_MAX as usize]))
            .is_ok();
        let count_max = count_max.min(entries - OWN_ENTRIES);
        Ok(Self {
            is_disabled: rung == Rung::DeferredTaskrun,
            has_timed_enter: ring.params().is_feature_ext_arg(),
            ring,
            arena: Arc::clone(arena),
            directory,
            files: AttachedFiles::default(),
            registered_files: vec![false; if has_file_table { REGISTERED_FILES_MAX as usize } else { 0 }],
            queued: VecDeque::with_capacity(count_max as usize),
            again: Vec::new(),
            in_flight: InFlight::new(count_max),
            wake,
            wake_is_armed: false,
            timeout: Box::new(types::Timespec::new()),
            timeout_is_pushed: false,
            enters: 0,
            info: DeviceInfo { backend: "ring", reason, registered_slots },
        })
    }

    /// Makes the calling thread the one that submits.
    fn enable(&mut self) -> io::Result<()> {
        if self.is_disabled {
            self.ring.submitter().register_enable_rings()?;
            self.is_disabled = false;
        }
        Ok(())
    }

    /// Pushes an entry; there is always room, because what is in flight is fewer than there are entries.
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: an operation's entry points into a slot whose share, with its file, is in `in_flight` until
        // the completion; the wake's entry points into a static, the timeout's into its box. What the kernel
        // may still use when the ring is dropped is leaked (see `drop`).
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("fewer in flight than entries");
    }

    /// Starts what is queued as far as there is room; what cannot start is over.
    fn start_queued(&mut self, completions: &mut Vec<Completion>) {
        while !self.in_flight.is_full() {
            let flight = match self.again.pop() {
                Some(flight) => flight,
                None => match self.queued.pop_front().map(|operation| self.flight(operation)) {
                    Some(Ok(flight)) => flight,
                    Some(Err(completion)) => {
                        completions.push(completion);
                        continue;
                    }
                    None => break,
                },
            };
            match flight.check_latch().and_then(|()| flight.entry()) {
                Ok(entry) => {
                    let key = self.in_flight.insert(flight);
                    self.push(&entry.user_data(key));
                }
                Err(error) => completions.push(Completion { token: flight.token, result: Err(error) }),
            }
        }
    }

    /// An operation with all that it needs, or its end where its file is not one of ours.
    fn flight(&self, operation: Operation) -> Result<Flight, Completion> {
        let (token, index) = (operation.token(), operation.file());
        let file = match index.map_or(Ok(&self.directory), |index| self.files.get(index)) {
            Ok(file) => Arc::clone(file),
            Err(error) => return Err(Completion { token, result: Err(error) }),
        };
        let registered_slot = match &operation {
            Operation::Write { slot, .. } if slot.is_of(&self.arena) => Some(slot.index()),
            _ => None,
        };
        let work = match operation {
            Operation::Write { slot, range, offset, dsync, .. } => Work::Write { slot, range, offset, dsync },
            Operation::Sync { .. } => Work::Sync,
            Operation::SyncNames { .. } => Work::SyncNames,
        };
        let place = index.map(place_of).filter(|&place| self.registered_files.get(place) == Some(&true));
        Ok(Flight {
            token,
            file,
            registered_file: place.map(|place| place as u32),
            registered_slot: registered_slot
                .filter(|&slot| slot < self.info.registered_slots)
                .map(|slot| slot as u16),
            work,
            retry_count: 0,
        })
    }

    /// Takes in what the kernel has completed.
    fn reap(&mut self, completions: &mut Vec<Completion>) {
        for entry in self.ring.completion() {
            match entry.user_data() {
                WAKE_KEY => self.wake_is_armed = false,
                TIMEOUT_KEY => {}
                key => {
                    let flight =
                        self.in_flight.remove(key).expect("the kernel completes only what was pushed, once");
                    match flight.land(entry.result()) {
                        Landed::Over(completion) => completions.push(completion),
                        Landed::Again(flight) => self.again.push(flight),
                    }
                }
            }
        }
    }

    /// Pushes the read of the eventfd, unless the kernel has it.
    fn arm_wake(&mut self) {
        if self.wake_is_armed {
            return;
        }
        let eventfd = types::Fd(self.wake.descriptor().as_raw_fd());
        let entry = opcode::Read::new(eventfd, WakeCell::landing(), size_of::<u64>() as u32).build();
        self.push(&entry.user_data(WAKE_KEY));
        self.wake_is_armed = true;
    }

    /// Whether the kernel has completions that only an enter brings forth.
    fn has_deferred_completions(&mut self) -> bool {
        let entries = self.ring.submission();
        entries.taskrun() || entries.cq_overflow()
    }

    /// One enter: submits what was pushed and, if asked, sleeps until a completion or for `time`.
    fn enter(&mut self, sleep: bool, time: Option<Duration>) -> io::Result<()> {
        let want = usize::from(sleep);
        self.enters += 1;
        let entered = match time.filter(|_| sleep) {
            None => self.ring.submit_and_wait(want),
            Some(time) if self.has_timed_enter => {
                let time = types::Timespec::from(time);
                self.ring.submitter().submit_with_args(want, &types::SubmitArgs::new().timespec(&time))
            }
            Some(time) => {
                if !self.timeout_is_pushed {
                    *self.timeout = types::Timespec::from(time);
                    // Gone with the next completion, so that it does not outlive the sleep it is for.
                    let entry = opcode::Timeout::new(&raw const *self.timeout).count(1).build();
                    self.push(&entry.user_data(TIMEOUT_KEY));
                }
                let entered = self.ring.submit_and_wait(want);
                self.timeout_is_pushed = !self.ring.submission().is_empty();
                entered
            }
        };
        match entered {
            Err(error) if error.raw_os_error() == Some(Errno::TIME.raw_os_error()) => Ok(()),
            entered => entered.map(drop),
        }
    }

    /// One round: starts what is queued, sleeps if nothing is over and `wait` wants it, takes in what is over.
    fn round(
        &mut self,
        deadline: Deadline,
        known: usize,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.reap(completions);
        self.start_queued(completions);
        let time = deadline.time_left();
        let sleep = completions.len() == known && time != Some(Duration::ZERO) && self.wake.may_sleep();
        if sleep {
            self.arm_wake();
        }
        if sleep || !self.ring.submission().is_empty() || self.has_deferred_completions() {
            let entered = self.enter(sleep, time);
            self.reap(completions);
            return entered;
        }
        Ok(())
    }

    /// Waits until nothing is in flight and the wake's read is back; false when the kernel does not answer.
    fn drain(&mut self) -> bool {
        let mut unwanted = Vec::new();
        let deadline = Deadline::after(DRAIN_MAX);
        if self.wake_is_armed {
            self.wake.ring();
        }
        loop {
            self.reap(&mut unwanted);
            if self.in_flight.is_empty() && !self.wake_is_armed {
                return true;
            }
            match self.enter(true, deadline.time_left()) {
                Ok(()) => {}
                Err(error) if is_transient(&error) => std::thread::sleep(RETRY_PAUSE),
                Err(_) => return false,
            }
            if deadline.time_left() == Some(Duration::ZERO) {
                return false;
            }
        }
    }
}

impl WriteDevice for RingWriter {
    fn attach(&mut self, file: Arc<dyn File>) -> io::Result<FileIndex> {
        let descriptor = file.descriptor().ok_or(Errno::OPNOTSUPP)?.as_raw_fd();
        let index = self.files.attach(file)?;
        let place = place_of(index);
        if let Some(is_registered) = self.registered_files.get_mut(place) {
            // Refused, it goes by its descriptor.
            *is_registered = self.ring.submitter().register_files_update(place as u32, &[descriptor]).is_ok();
        }
        Ok(index)
    }

    fn detach(&mut self, file: FileIndex) {
        let Some(_closed_last) = self.files.detach(file) else { return };
        let place = place_of(file);
        if let Some(is_registered) = self.registered_files.get_mut(place)
            && mem::take(is_registered)
        {
            // Refused, the table keeps the file open until the place is taken again; nothing goes through it.
            let _ = self.ring.submitter().register_files_update(place as u32, &[-1]);
        }
    }

    fn submit(&mut self, operation: Operation) {
        self.queued.push_back(operation);
    }

    /// Fails with EEXIST on another thread than that of the first wait, where the kernel ties the ring to it.
    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.enable()?;
        let known = completions.len();
        let deadline = Deadline::of(wait);
        let mut retry_count = 0;
        loop {
            let entered = self.round(deadline, known, completions);
            if completions.len() > known || self.wake.is_woken() {
                break;
            }
            match entered {
                // Asleep, an interruption is no failure of anything; the sleep goes on.
                Err(error) if is_interruption(&error) && self.ring.submission().is_empty() => {}
                Err(error) if is_transient(&error) && retry_count < RETRY_COUNT_MAX && wait != Wait::Now => {
                    retry_count += 1;
                    std::thread::sleep(RETRY_PAUSE);
                }
                // What was pushed stays pushed, and goes with the next wait.
                Err(error) if is_transient(&error) && wait == Wait::Now => break,
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            if deadline.time_left() == Some(Duration::ZERO) {
                break;
            }
        }
        self.wake.clear();
        Ok(())
    }

    /// By a plain call: the ring may belong to another thread, and with nothing else in flight it saves nothing.
    fn write_now(&mut self, operation: Operation) -> Completion {
        debug_assert!(self.in_flight.is_empty() && self.queued.is_empty(), "nothing else is in flight");
        perform(&self.files, self.directory.as_ref(), operation)
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.queued.clear();
        self.again.clear();
        if self.drain() {
            // At once instead of some time after the close: the limits they count against are for the next device.
            let submitter = self.ring.submitter();
            let _ = submitter.unregister_buffers();
            let _ = submitter.unregister_files();
            return;
        }
        // The device hangs, or this is not the thread that may ask. The kernel may still read these slots: they
        // are leaked on purpose (and keep their arena), so that nobody else is ever given them.
        self.in_flight.leak();
        let timeout = mem::replace(&mut self.timeout, Box::new(types::Timespec::new()));
        mem::forget(timeout);
    }
}

impl fmt::Debug for RingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingWriter").field("info", &self.info).finish_non_exhaustive()
    }
}

/// When a wait is over though nothing happened.
#[derive(Debug, Clone, Copy)]
enum Deadline {
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    fn of(wait: Wait) -> Self {
        match wait {
            Wait::Now => Self::Now,
            Wait::For(time) => Self::after(time),
            Wait::Forever => Self::Never,
        }
    }

    fn after(time: Duration) -> Self {
        Instant::now().checked_add(time).map_or(Self::Never, Self::At)
    }

    /// `None` for ever, zero when it is over.
    fn time_left(self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(instant) => Some(instant.saturating_duration_since(Instant::now())),
            Self::Never => None,
        }
    }
}

fn is_interruption(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INTR.raw_os_error())
}

/// Whether the kernel only wants to be asked again: interrupted, short of memory, or its queue to be emptied.
fn is_transient(error: &io::Error) -> bool {
    let transient = [Errno::INTR, Errno::AGAIN, Errno::BUSY];
    transient.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
