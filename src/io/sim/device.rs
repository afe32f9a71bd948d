//! The simulated devices: many operations in flight, over in an order and after a delay that the seed draws.
//!
//! A write is applied at some moment between its submission and its completion; which writes a sync covers
//! is settled when the sync is submitted. A device that is dropped leaves its writes to chance, and to the
//! disk, slots and all, while the disk hangs.

use std::io;
use std::sync::{Arc, MutexGuard};

use rustix::io::Errno;

use super::Shared;
use super::errno;
use super::file::address_of;
use super::random::Random;
use super::state::{Flight, Handle, State};
use crate::io::attached::AttachedFiles;
use crate::io::{
    Arena, Completion, DeviceInfo, DeviceOptions, File, FileIndex, Operation, Read, ReadDevice, ReadDone,
    Wait, Waker, WriteDevice,
};

/// What one write device has in flight.
#[derive(Debug)]
pub(super) struct Queue {
    operations: Vec<InFlight>,
    in_flight_count_max: usize,
    random: Random,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    token: u64,
    /// `None` on the directory.
    file: Option<FileIndex>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// With what came of it, once it has been applied.
    Write { handle: Handle, dsync: bool, result: Option<io::Result<usize>> },
    /// With the count of receipts at submission.
    Sync { handle: Handle, receipts: u64 },
    /// With the count of operations at submission.
    SyncNames { through: u64 },
    /// What cannot be done.
    Refused(io::Error),
}

impl State {
    fn submit(&mut self, device: u64, handle: io::Result<Handle>, operation: Operation) {
        let id = self.id();
        let (token, file) = (operation.token(), operation.file());
        let work = match (operation, handle) {
            (Operation::SyncNames { .. }, _) => Work::SyncNames { through: self.operation_count },
            (_, Err(error)) => Work::Refused(error),
            (Operation::Write { slot, range, .. }, _) if slot.get(range.clone()).is_none() => {
                Work::Refused(errno(Errno::INVAL))
            }
            (Operation::Write { slot, range, offset, dsync, .. }, Ok(handle)) => {
                self.assert_alone(handle.node, offset..offset.saturating_add(range.len() as u64));
                let flight = Flight { node: handle.node, slot, range, offset, applied: false };
                self.flights.insert(id, flight);
                Work::Write { handle, dsync, result: None }
            }
            (Operation::Sync { .. }, Ok(handle)) => Work::Sync { handle, receipts: self.receipts },
        };
        self.queue(device).operations.push(InFlight { id, token, file, work });
    }

    fn queue(&mut self, device: u64) -> &mut Queue {
        self.queues.get_mut(&device).expect("a device has its queue until it is dropped")
    }

    /// Lets some operations get on, and completes some: at least one, unless `may_be_none`.
    fn advance(&mut self, device: u64, may_be_none: bool, completions: &mut Vec<Completion>) {
        if self.dead {
            return self.abandon(device, completions);
        }
        for (id, completes) in self.queue(device).draw(may_be_none) {
            self.perform(device, id);
            if completes {
                self.complete(device, id, completions);
            }
        }
    }

    /// Applies the write `id`, if it is one and has not been applied.
    fn perform(&mut self, device: u64, id: u64) {
        let Work::Write { handle, result: None, .. } = self.queue(device).find(id).work else { return };
        let flight = &self.flights[&id];
        let (slot, range, offset) = (Arc::clone(&flight.slot), flight.range.clone(), flight.offset);
        let moved = self.write(handle, id, &slot[range], offset);
        if let Work::Write { result, .. } = &mut self.queue(device).find(id).work {
            *result = Some(moved);
        }
    }

    fn complete(&mut self, device: u64, id: u64, completions: &mut Vec<Completion>) {
        let operations = &mut self.queue(device).operations;
        let position = operations.iter().position(|operation| operation.id == id);
        let operation = operations.remove(position.expect("what completes is in flight"));
        let result = match operation.work {
            Work::Write { handle, dsync, result } => {
                let moved = result.expect("a write is applied before it completes");
                let mut result = moved.and_then(|len| self.alive().map(|()| len));
                if dsync {
                    result = self.sync_write(handle, id, result);
                }
                self.receive(handle.node, id, result.is_ok());
                result
            }
            Work::Sync { handle, receipts } => self.sync(handle, receipts).map(|()| 0),
            Work::SyncNames { through } => {
                self.sync_names(|change| change.is_in_directory(through)).map(|()| 0)
            }
            Work::Refused(error) => Err(error),
        };
        self.note(&[operation.token, *result.as_ref().unwrap_or(&usize::MAX) as u64]);
        completions.push(Completion { token: operation.token, result });
    }

    /// The power is gone: everything is over, and nothing is known of it.
    fn abandon(&mut self, device: u64, completions: &mut Vec<Completion>) {
        for operation in std::mem::take(&mut self.queue(device).operations) {
            self.flights.remove(&operation.id);
            completions.push(Completion { token: operation.token, result: Err(errno(Errno::IO)) });
        }
    }

    /// Carries out each write in flight, or not.
    pub(super) fn finish_flights(&mut self) {
        let devices: Vec<u64> = self.queues.keys().copied().collect();
        for device in devices {
            self.finish_device(device);
        }
    }

    fn finish_device(&mut self, device: u64) {
        let ids: Vec<u64> = self.queue(device).operations.iter().map(|operation| operation.id).collect();
        for id in ids {
            if self.queue(device).random.coin() {
                self.perform(device, id);
            }
        }
    }

    /// The device goes; each of its writes is still carried out or not.
    fn close_device(&mut self, device: u64) {
        self.wakes.remove(&device);
        if self.faults.hung && !self.dead {
            // The kernel keeps what it has not given back.
            self.queues.remove(&device);
            return;
        }
        self.finish_device(device);
        for operation in std::mem::take(&mut self.queue(device).operations) {
            self.flights.remove(&operation.id);
        }
        self.queues.remove(&device);
    }
}

impl Queue {
    fn find(&mut self, id: u64) -> &mut InFlight {
        self.operations.iter_mut().find(|operation| operation.id == id).expect("the operation is in flight")
    }

    /// Which operations get on now, in order, and whether they complete.
    fn draw(&mut self, may_be_none: bool) -> Vec<(u64, bool)> {
        let started = self.operations.iter().take(self.in_flight_count_max);
        let mut drawn: Vec<(u64, bool)> =
            started.map(|operation| (operation.id, self.random.coin())).collect();
        if !may_be_none && drawn.iter().all(|(_, completes)| !completes) {
            let chosen = self.random.below(drawn.len() as u64) as usize;
            drawn.iter_mut().skip(chosen).take(1).for_each(|(_, completes)| *completes = true);
        }
        drawn.retain(|(_, completes)| *completes || self.random.coin());
        self.random.shuffle(&mut drawn);
        drawn
    }
}

impl Shared {
    /// Waits until the device has something to do, is woken, or the time is up. True when it was woken.
    fn pause(&self, device: u64, has_work: bool, wait: Wait) -> (MutexGuard<'_, State>, bool) {
        let idle = |state: &mut State| {
            let works = has_work && (state.dead || !state.faults.hung);
            !works && !state.wakes.contains(&device)
        };
        let mut state = self.lock();
        match wait {
            Wait::Now => {}
            Wait::For(time) if state.options.virtual_time => {
                if idle(&mut state) {
                    state.elapsed += time;
                }
            }
            Wait::For(time) => {
                let waited = self.changed.wait_timeout_while(state, time, idle);
                state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            Wait::Forever => {
                let waited = self.changed.wait_while(state, idle);
                state = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
        let woken = state.wakes.remove(&device);
        (state, woken)
    }

    fn waker(self: &Arc<Self>, device: u64) -> Waker {
        let shared = Arc::clone(self);
        Waker::new(move || {
            shared.lock().wakes.insert(device);
            shared.changed.notify_all();
        })
    }
}

fn info(arena: &Arena, options: DeviceOptions) -> DeviceInfo {
    let registered_slots = arena.slot_count().min(options.registered_bytes_max / arena.slot_bytes());
    DeviceInfo { backend: "simulated", reason: String::new(), registered_slots }
}

/// Writes and syncs in flight on a simulated disk.
pub(super) struct SimWriteDevice {
    shared: Arc<Shared>,
    id: u64,
    files: AttachedFiles,
    info: DeviceInfo,
}

impl SimWriteDevice {
    pub(super) fn new(shared: &Arc<Shared>, arena: &Arena, options: DeviceOptions) -> io::Result<Self> {
        let mut state = shared.lock();
        state.alive()?;
        let id = state.id();
        let random = state.random.split();
        let in_flight_count_max = options.in_flight_count_max.max(1);
        state.queues.insert(id, Queue { operations: Vec::new(), in_flight_count_max, random });
        drop(state);
        Ok(Self {
            shared: Arc::clone(shared),
            id,
            files: AttachedFiles::default(),
            info: info(arena, options),
        })
    }
}

impl WriteDevice for SimWriteDevice {
    fn attach(&mut self, file: Arc<dyn File>) -> io::Result<FileIndex> {
        let state = self.shared.lock();
        state.alive()?;
        state.handle(address_of(&file))?;
        drop(state);
        self.files.attach(file)
    }

    fn detach(&mut self, file: FileIndex) {
        let mut state = self.shared.lock();
        let busy = state.queue(self.id).operations.iter().any(|operation| operation.file == Some(file));
        drop(state);
        assert!(!busy, "detached while something is in flight");
        self.files.detach(file);
    }

    fn submit(&mut self, operation: Operation) {
        let file = operation.file().ok_or_else(|| errno(Errno::BADF));
        let address = file.and_then(|file| self.files.get(file).map(address_of));
        let mut state = self.shared.lock();
        let handle = address.and_then(|address| state.handle(address));
        state.submit(self.id, handle, operation);
    }

    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let has_work = !self.shared.lock().queue(self.id).operations.is_empty();
        let (mut state, woken) = self.shared.pause(self.id, has_work, wait);
        if state.dead || !state.faults.hung {
            state.advance(self.id, woken || wait == Wait::Now, completions);
        }
        Ok(())
    }

    fn write_now(&mut self, operation: Operation) -> Completion {
        self.submit(operation);
        let mut completions = Vec::new();
        loop {
            self.shared.lock().advance(self.id, false, &mut completions);
            if let Some(completion) = completions.pop() {
                return completion;
            }
        }
    }

    fn waker(&self) -> Waker {
        self.shared.waker(self.id)
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
}

impl Drop for SimWriteDevice {
    fn drop(&mut self) {
        self.shared.lock().close_device(self.id);
    }
}

/// Reads in flight on a simulated disk.
pub(super) struct SimReadDevice {
    shared: Arc<Shared>,
    id: u64,
    reads: Vec<Read>,
    in_flight_count_max: usize,
    random: Random,
    info: DeviceInfo,
}

impl SimReadDevice {
    pub(super) fn new(shared: &Arc<Shared>, arena: &Arena, options: DeviceOptions) -> io::Result<Self> {
        let mut state = shared.lock();
        state.alive()?;
        let (id, random) = (state.id(), state.random.split());
        drop(state);
        let in_flight_count_max = options.in_flight_count_max.max(1);
        let info = info(arena, options);
        Ok(Self { shared: Arc::clone(shared), id, reads: Vec::new(), in_flight_count_max, random, info })
    }

    /// Takes out the reads that complete now, in order.
    fn draw(&mut self, dead: bool, may_be_none: bool) -> Vec<Read> {
        let started = self.reads.len().min(self.in_flight_count_max);
        let mut chosen: Vec<usize> = (0..started).filter(|_| dead || self.random.coin()).collect();
        if chosen.is_empty() && started > 0 && !may_be_none {
            chosen.push(self.random.below(started as u64) as usize);
        }
        let mut drawn: Vec<Read> =
            chosen.into_iter().rev().map(|position| self.reads.remove(position)).collect();
        self.random.shuffle(&mut drawn);
        drawn
    }
}

impl ReadDevice for SimReadDevice {
    fn submit(&mut self, read: Read) {
        self.reads.push(read);
    }

    fn wait(&mut self, wait: Wait, done: &mut Vec<ReadDone>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        // Files are let go of when the disk is no longer locked: closing one locks it.
        let mut files = Vec::new();
        let (mut state, woken) = shared.pause(self.id, !self.reads.is_empty(), wait);
        if state.faults.hung && !state.dead {
            return Ok(());
        }
        for Read { token, file, mut slot, offset, len } in self.draw(state.dead, woken || wait == Wait::Now) {
            let result = state.handle(address_of(&file)).and_then(|handle| {
                let buffer = slot.get_mut(..len).ok_or_else(|| errno(Errno::INVAL))?;
                state.read(handle, buffer, offset, &mut self.random)
            });
            state.note(&[token]);
            files.push(file);
            done.push(ReadDone { token, slot, result });
        }
        drop(state);
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.shared.waker(self.id)
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
}

impl Drop for SimReadDevice {
    fn drop(&mut self) {
        self.shared.lock().wakes.remove(&self.id);
    }
}
