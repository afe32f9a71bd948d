//! The seam between what stores and what the kernel does.
//!
//! Three roles, and everything above knows only them: a [`Disk`] (one directory and its names), a
//! [`WriteDevice`] (many writes and one sync stream in flight) and a [`ReadDevice`] (reads in flight).
//! Each role has a ring, a blocking and a simulated actor; one contract test runs on all of them.
//!
//! The contract:
//! - completions come in any order, each exactly once, and the buffer always comes back;
//! - a short transfer is reported as the bytes moved, never hidden and never finished in secret;
//! - a sync covers exactly the writes whose completions the caller had *received* when it submitted it;
//! - a name is durable only after [`Disk::sync_names`], or an [`Operation::SyncNames`] that was submitted after
//!   the change;
//! - after a failed sync the file is latched: every later sync of it fails too, and so is the directory;
//! - `submit` never blocks and never fails; what goes wrong comes back as a completion.
//!
//! `io` knows no record, no segment and no queue.

use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

pub mod arena;
mod attached;
pub mod bell;
pub mod blocking;
pub mod latch;
pub mod park;
pub mod real;
pub mod sim;
pub mod sync_thread;
pub mod uring;

pub use arena::{Arena, Slot};

/// The file whose flock is the lock of the directory.
pub const LOCK_NAME: &str = "lock";

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads only; never changes anything.
    Read,
    /// Reads and writes through the page cache: small metadata files.
    Write,
    /// Reads and writes around the page cache where the file system lets us: segments.
    /// Offsets, lengths and buffers are multiples of [`File::alignment`].
    WriteDirect,
    /// Reads only, around the page cache where the file system lets us.
    ReadDirect,
}

/// One directory.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Every name in the directory, unordered.
    fn names(&self) -> std::io::Result<Vec<String>>;
    /// Opens a file that is there.
    fn open(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn File>>;
    /// Makes a file (it must not be there) of `len` bytes with its blocks allocated, mode 0600.
    /// Neither its size nor its name is durable before [`File::sync`] and [`Disk::sync_names`].
    /// When it fails nothing stays behind.
    fn create(&self, name: &str, len: u64, access: Access) -> std::io::Result<Arc<dyn File>>;
    /// Removes a name.
    fn remove(&self, name: &str) -> std::io::Result<()>;
    /// Gives a file another name in this directory (`quarantine/NAME` included).
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()>;
    /// Makes every name made, changed or removed so far durable.
    fn sync_names(&self) -> std::io::Result<()>;
    /// Bytes that an ordinary user may still take on this file system.
    fn free_bytes(&self) -> std::io::Result<u64>;
    /// Takes the directory for this process; held until the guard is dropped.
    /// `WouldBlock` when another process or another handle holds it.
    fn lock(&self) -> std::io::Result<Box<dyn Send + Sync>>;
    /// A device for writing, with the slots of `arena` registered as far as limits allow.
    fn write_device(
        &self,
        arena: &Arc<Arena>,
        options: DeviceOptions,
    ) -> std::io::Result<Box<dyn WriteDevice>>;
    /// A device for reading into slots of `arena`. Stays on the thread that made it.
    fn read_device(&self, arena: &Arc<Arena>, options: DeviceOptions)
    -> std::io::Result<Box<dyn ReadDevice>>;
    /// 64 random bits, for ids and jitter.
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // The kernel's pool never fails once it is up; a short read leaves zeros, which are as good as any here.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        u64::from_le_bytes(bytes)
    }
    /// Where this is, for errors and events.
    fn place(&self) -> String;
}

/// One open file. The verbs here block; the hot path goes through the devices.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads at `offset`; fewer bytes than asked for mean the end of the file or a short read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize>;
    /// Writes at `offset`; may write fewer bytes than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<usize>;
    /// fdatasync: what was written, and the size, survive a power cut.
    fn sync(&self) -> std::io::Result<()>;
    /// Size in bytes.
    fn len(&self) -> std::io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> std::io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// How many bytes from the front on were written before, so that writing there again converts no extent.
    /// What is only allocated was not. 0 where the file system cannot tell.
    fn written_bytes(&self) -> std::io::Result<u64> {
        Ok(0)
    }
    /// What offsets, lengths and buffers must be multiples of (1 through the page cache).
    fn alignment(&self) -> usize;
    /// Whether the page cache is gone round.
    fn is_direct(&self) -> bool;
    /// The name it was opened by.
    fn name(&self) -> &str;
    /// The kernel's handle; `None` on a simulated disk.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// Where a device that syncs by the descriptor records a failed sync, so that [`File::sync`] and every
    /// device fail from then on; `None` where all syncs go through [`File::sync`].
    fn sync_latch(&self) -> Option<&latch::SyncLatch> {
        None
    }
}

/// Whether a file was not opened for want of descriptors, of the process or of the system: it may be later.
pub fn lacks_descriptors(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// Whether segments go round the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectIo {
    /// Where the file system lets us; else through the page cache, which [`real::RealDisk::notes`] tells.
    #[default]
    Auto,
    /// Or an error.
    Require,
    /// Through the page cache.
    Off,
}

/// Which actor plays the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The ring where the kernel allows it, else blocking calls; the reason is in [`DeviceInfo`].
    #[default]
    Auto,
    /// io_uring or an error.
    Ring,
    /// pwritev2, preadv2 and fdatasync.
    Blocking,
}

/// How a group is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncMethod {
    /// What the device does best.
    #[default]
    Auto,
    /// One fdatasync in the device's own stream.
    Fdatasync,
    /// fdatasync on a thread of its own.
    FdatasyncThread,
    /// Every write carries its own sync.
    Dsync,
}

/// What a device is asked to be.
#[derive(Debug, Clone, Copy)]
pub struct DeviceOptions {
    /// Which actor.
    pub backend: Backend,
    /// Operations in flight at once, at most.
    pub in_flight_count_max: usize,
    /// Bytes of the arena to register, at most.
    pub registered_bytes_max: usize,
}

/// What a device turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `ring`, `blocking` or `simulated`.
    pub backend: &'static str,
    /// Why it is not the first choice, in the kernel's words; empty when it is.
    pub reason: String,
    /// How many slots of the arena the kernel has registered.
    pub registered_slots: usize,
}

/// A file attached to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIndex(pub u32);

/// What a write device is asked to do. `token` comes back with the completion.
#[derive(Debug)]
pub enum Operation {
    /// Writes `range` of `slot` at `offset`. The slot is shared with readers and changes for nobody
    /// until the completion has come back and the operation's share of it is dropped.
    Write {
        /// Comes back with the completion.
        token: u64,
        /// Where to.
        file: FileIndex,
        /// The bytes; owned by the operation until its completion.
        slot: Arc<Slot>,
        /// Which bytes of the slot.
        range: Range<usize>,
        /// Where in the file.
        offset: u64,
        /// The write itself is durable when it completes (RWF_DSYNC).
        dsync: bool,
    },
    /// fdatasync of `file`.
    Sync {
        /// Comes back with the completion.
        token: u64,
        /// Which file.
        file: FileIndex,
    },
    /// fsync of the directory: makes durable every name in it that was made, changed or removed before this was
    /// submitted. Names in a subdirectory are for [`Disk::sync_names`] alone.
    SyncNames {
        /// Comes back with the completion.
        token: u64,
    },
}

impl Operation {
    /// What comes back with the completion.
    pub fn token(&self) -> u64 {
        match self {
            Self::Write { token, .. } | Self::Sync { token, .. } | Self::SyncNames { token } => *token,
        }
    }

    /// Whose file it is on; `None` for what is on the directory.
    pub fn file(&self) -> Option<FileIndex> {
        match self {
            Self::Write { file, .. } | Self::Sync { file, .. } => Some(*file),
            Self::SyncNames { .. } => None,
        }
    }
}

/// An operation that is over.
#[derive(Debug)]
pub struct Completion {
    /// As it was submitted.
    pub token: u64,
    /// Bytes moved (0 for a sync of any kind), or what went wrong.
    pub result: std::io::Result<usize>,
}

/// How long to wait for something to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Only look.
    Now,
    /// Until a completion, a wake, or this much time.
    For(Duration),
    /// Until a completion or a wake.
    Forever,
}

/// Many writes and syncs in flight. Owned by one thread at a time.
pub trait WriteDevice: Send {
    /// Makes `file` known (a registered file on the ring).
    fn attach(&mut self, file: Arc<dyn File>) -> std::io::Result<FileIndex>;
    /// Lets go of a file with nothing in flight.
    fn detach(&mut self, file: FileIndex);
    /// Queues an operation; it may start only at the next [`WriteDevice::wait`].
    fn submit(&mut self, operation: Operation);
    /// Starts what was queued, waits as told, and appends what is over to `completions`.
    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> std::io::Result<()>;
    /// Carries out a write at once, and blocks for it. Nothing may be queued or in flight; the calling thread need
    /// not be the one that waits.
    fn write_now(&mut self, operation: Operation) -> Completion;
    /// Makes the current or else the next wait return; may be called from any thread.
    fn waker(&self) -> Waker;
    /// What this device turned out to be.
    fn info(&self) -> &DeviceInfo;
    /// How often the kernel was entered so far, where one call submits and waits (the ring); else 0.
    fn enters(&self) -> u64 {
        0
    }
}

/// A read in flight: fills `slot[..len]` from `offset`.
#[derive(Debug)]
pub struct Read {
    /// Comes back with the slot.
    pub token: u64,
    /// Where from.
    pub file: Arc<dyn File>,
    /// Where to; the device owns it until it comes back.
    pub slot: Slot,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
}

/// A read that is over.
#[derive(Debug)]
pub struct ReadDone {
    /// As it was submitted.
    pub token: u64,
    /// The buffer back, whatever happened.
    pub slot: Slot,
    /// Bytes read (fewer than asked for: end of file, or short), or what went wrong.
    pub result: std::io::Result<usize>,
}

/// Reads in flight. Stays on the thread that made it.
pub trait ReadDevice {
    /// Queues a read; it may start only at the next [`ReadDevice::wait`].
    fn submit(&mut self, read: Read);
    /// Starts what was queued, waits as told, and appends what is over to `done`.
    fn wait(&mut self, wait: Wait, done: &mut Vec<ReadDone>) -> std::io::Result<()>;
    /// Makes the current or else the next wait return; may be called from any thread.
    fn waker(&self) -> Waker;
    /// What this device turned out to be.
    fn info(&self) -> &DeviceInfo;
}

/// Wakes a waiting device from any thread. A wake is never lost: it ends the wait that runs, or the next one.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Ends the current or the next wait.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
