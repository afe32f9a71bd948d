//! A disk in memory that does what real disks do at their worst, and does it again for the same seed.
//!
//! Plays every role of [`crate::io`]: directory, files, write device, read device. On top of that it loses
//! power ([`SimDisk::power_cut`]) at any operation ([`SimDisk::set_crash_at`]), fails as told
//! ([`SimDisk::inject`]) and rots ([`SimDisk::flip`]).
//!
//! ```text
//!   program --- Disk, File, devices --> state --- live, pending, durable images; names
//!   test ------ SimDisk --------------> faults, crash point          |
//!                                                power_cut(loss) ----+--> a new SimDisk
//! ```
//!
//! Promises: what is durable by the contract of [`crate::io`] survives every loss, and everything else may
//! go, sector by sector, in any combination that the seed draws. One thread that does the same things gets
//! the same answers ([`SimDisk::trace`]); several threads may share a disk, but then their turns decide.
//!
//! Memory follows what was written, in sectors that copies of a disk share. Does not know what the bytes
//! mean, and no time: a delay is a number of waits.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

mod crash;
mod device;
mod fault;
mod file;
mod image;
mod random;
mod state;

#[cfg(test)]
mod tests;

pub use crash::{CrashPoint, Loss, Phase};
pub use fault::{Fault, FaultRates, Verb};
pub use image::Dropped;

use self::device::{SimReadDevice, SimWriteDevice};
use self::fault::Faults;
use self::file::SimFile;
use self::image::Image;
use self::random::Random;
use self::state::{Content, State};
use super::{Access, Arena, DeviceOptions, Disk, File, ReadDevice, WriteDevice};

/// What kind of disk it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimOptions {
    /// What is written whole or not at all, in bytes: a power of two. Default 512.
    pub sector_bytes: usize,
    /// What direct access is aligned to, in bytes: a power of two. Default 4096.
    pub alignment: usize,
    /// Whether direct access goes round the page cache; else it is buffered, with alignment 1. Default true.
    pub direct_io: bool,
    /// Bytes that all files together may have. Default 1 TiB.
    pub capacity_bytes: u64,
    /// Whether a wait for a time that nothing else ends returns at once and only adds to
    /// [`SimDisk::elapsed`]. Default false: it blocks, as threads want it.
    pub virtual_time: bool,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            sector_bytes: 512,
            alignment: 4096,
            direct_io: true,
            capacity_bytes: 1 << 40,
            virtual_time: false,
        }
    }
}

/// A simulated disk. Clones are the same disk; [`SimDisk::fork`] makes another.
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    seed: u64,
}

/// The state, and what tells waiting devices that it has changed.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Only an assertion about the program under test panics here, and then that test has failed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    /// Without the state: nobody wants megabytes of sectors in the message of an assertion.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// An error of the kernel.
fn errno(number: Errno) -> io::Error {
    io::Error::from_raw_os_error(number.raw_os_error())
}

impl SimDisk {
    /// An empty disk with the usual options.
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, SimOptions::default())
    }

    /// An empty disk.
    ///
    /// # Panics
    /// When `sector_bytes` or `alignment` is no power of two.
    pub fn with_options(seed: u64, options: SimOptions) -> Self {
        let sizes = [options.sector_bytes, options.alignment];
        assert!(
            sizes.iter().all(|size| size.is_power_of_two()),
            "sizes that are no powers of two: {sizes:?}"
        );
        Self::holding(seed, options, Content::default())
    }

    fn holding(seed: u64, options: SimOptions, content: Content) -> Self {
        let state = Mutex::new(State::new(seed, options, content));
        Self { shared: Arc::new(Shared { state, changed: Condvar::new() }), seed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Cuts the power, if it is not gone, and returns the disk as it is found afterwards: what `loss` leaves,
    /// nobody's lock, no fault but bad sectors, operations counted from 0 again. This disk and all its
    /// handles answer EIO for ever; cutting it again draws another outcome of the same cut.
    #[must_use]
    pub fn power_cut(&self, loss: Loss) -> Self {
        let mut state = self.state();
        state.lose_power();
        let seed = state.random.number();
        let content = state.survivors(loss, &mut Random::new(seed));
        self.shared.changed.notify_all();
        Self::holding(seed, state.options, content)
    }

    /// The program dies, the machine does not (kill -9): what was applied stays, dirty as it is, and what
    /// was in flight is carried out or not. This disk and all its handles answer EIO for ever.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        state.finish_flights();
        let seed = state.random.number();
        let content = state.content.unattended();
        state.lose_power();
        self.shared.changed.notify_all();
        Self::holding(seed, state.options, content)
    }

    /// Another disk with the same names and bytes, live and durable; nobody uses it and no fault lies on it
    /// but bad sectors. This disk goes on unchanged.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let seed = state.random.clone().number();
        Self::holding(seed, state.options, state.content.unattended())
    }

    /// The power goes at `point`; a point that has passed never comes.
    pub fn set_crash_at(&self, point: CrashPoint) {
        self.state().crash_at = Some(point);
    }

    /// From operation `operation` on (counted from 1) everything fails and nothing changes.
    pub fn set_crash_after(&self, operation: u64) {
        self.set_crash_at(CrashPoint { operation, phase: Phase::Before });
    }

    /// Whether the power is gone.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How many operations there were: each write when it is applied, each sync, allocation, and change or
    /// sync of names. Reads and what was refused do not count.
    pub fn operation_count(&self) -> u64 {
        self.state().operation_count
    }

    /// A digest of everything asked of the disk so far, and of what came of it.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// Time that waits would have taken; only with `virtual_time`.
    pub fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    /// Lets `fault` lie over the disk from now on.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Sets how often what goes wrong by chance.
    pub fn set_fault_rates(&self, rates: FaultRates) {
        self.state().faults.rates = rates;
    }

    /// Sets how many bytes all files together may have.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().options.capacity_bytes = bytes;
    }

    /// Takes away every fault: scripted ones that have not struck, rates, hanging, lies, bad sectors.
    /// What they did stays, and so does the capacity.
    pub fn lift_faults(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        state.content.nodes.values_mut().for_each(|node| node.unreadable.clear());
        self.shared.changed.notify_all();
    }

    /// Reads that touch `range` of the file fail with EIO.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, as for everything that follows.
    pub fn fail_reads(&self, name: &str, range: Range<u64>) -> io::Result<()> {
        self.with_node(name, |node| node.unreadable.push(range))
    }

    /// Inverts bit `bit` of the byte at `offset`, durably.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` behind the end of the file.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        self.with_node(name, |node| {
            if offset >= node.live.len {
                return Err(errno(Errno::INVAL));
            }
            node.flip(offset, bit);
            Ok(())
        })?
    }

    /// Cuts the file at `len`, durably.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.with_node(name, |node| node.truncate(len.min(node.live.len)))
    }

    /// Takes the name away, durably, without anybody having asked for it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        self.state().drop_file(name)
    }

    /// The bytes of a file as a read of a good disk shows them.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        self.with_node(name, |node| {
            let mut bytes = vec![0; usize::try_from(node.live.len).expect("a file fits in memory")];
            node.live.read(&mut bytes, 0);
            bytes
        })
    }

    /// Makes or replaces a file, durably, its name too.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let mut image = Image::new(state.options.sector_bytes);
        for (index, sector) in image.overlay(bytes, 0) {
            image.put(index, sector);
        }
        image.len = bytes.len() as u64;
        state.put_file(name, image);
    }

    /// Every name, in order, those behind a prefix (`quarantine/x`) too.
    pub fn file_names(&self) -> Vec<String> {
        self.state().content.live.keys().cloned().collect()
    }

    fn with_node<T>(&self, name: &str, apply: impl FnOnce(&mut image::Node) -> T) -> io::Result<T> {
        let mut state = self.state();
        let node = state.find(name)?;
        Ok(apply(state.content.nodes.get_mut(&node).expect("a name leads to a file")))
    }
}

/// Frees the lock when dropped.
#[derive(Debug)]
struct LockGuard(Arc<Shared>);

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

impl Disk for SimDisk {
    /// Names at the top; see [`SimDisk::file_names`] for all.
    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        Ok(state.content.live.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let node = state.open(name, access)?;
        Ok(SimFile::new(&self.shared, &mut state, node, name, access))
    }

    fn create(&self, name: &str, len: u64, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let node = state.create(name, len)?;
        Ok(SimFile::new(&self.shared, &mut state, node, name, access))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().rename(from, to)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.state().sync_names(|_| true)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.free_bytes())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        state.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard(Arc::clone(&self.shared))))
    }

    fn write_device(&self, arena: &Arc<Arena>, options: DeviceOptions) -> io::Result<Box<dyn WriteDevice>> {
        Ok(Box::new(SimWriteDevice::new(&self.shared, arena, options)?))
    }

    fn read_device(&self, arena: &Arc<Arena>, options: DeviceOptions) -> io::Result<Box<dyn ReadDevice>> {
        Ok(Box::new(SimReadDevice::new(&self.shared, arena, options)?))
    }

    /// Drawn from the seed, so that a store on it is the same store again.
    fn random(&self) -> u64 {
        self.state().random.number()
    }

    fn place(&self) -> String {
        format!("simulated disk, seed {}", self.seed)
    }
}
