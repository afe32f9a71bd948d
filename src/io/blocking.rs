//! The devices without a ring: plain calls, one after the other, inside `wait`.
//!
//! Owns the queue between `submit` and `wait`, and what other threads wake it by. Works on any [`File`]
//! through its verbs; where a file has a descriptor, a write with its own sync is one pwritev2 with
//! `RWF_DSYNC`. Promises the contract of [`crate::io`] in submit order. Knows no ring and no directory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, pwritev2, retry_on_intr};

use super::attached::AttachedFiles;
use super::bell::Bell;
use super::{
    Completion, DeviceInfo, File, FileIndex, Operation, Read, ReadDevice, ReadDone, Wait, Waker, WriteDevice,
};

/// What other threads do to end a wait.
#[derive(Debug, Default)]
struct WakeCell {
    is_woken: AtomicBool,
    bell: Bell,
}

impl WakeCell {
    /// Sleeps until somebody wakes or `wait` is over; the wake is used up.
    fn sleep(&self, wait: Wait) {
        self.bell.sleep_while(wait, || !self.is_woken.load(Ordering::Acquire));
        self.is_woken.swap(false, Ordering::AcqRel);
    }

    fn waker(self: &Arc<Self>) -> Waker {
        let cell = Arc::clone(self);
        Waker::new(move || {
            cell.is_woken.store(true, Ordering::Release);
            cell.bell.ring();
        })
    }
}

fn info(reason: String) -> DeviceInfo {
    DeviceInfo { backend: "blocking", reason, registered_slots: 0 }
}

/// Writes and syncs by plain calls.
#[derive(Debug)]
pub struct BlockingWriter {
    /// Whose names [`Operation::SyncNames`] syncs.
    directory: Arc<dyn File>,
    files: AttachedFiles,
    queued: VecDeque<Operation>,
    wake: Arc<WakeCell>,
    info: DeviceInfo,
}

impl BlockingWriter {
    /// A device for files of `directory`; `reason` says why it is not a ring, and is empty when nobody wanted one.
    pub fn new(directory: Arc<dyn File>, reason: String) -> Self {
        Self {
            directory,
            files: AttachedFiles::default(),
            queued: VecDeque::new(),
            wake: Arc::default(),
            info: info(reason),
        }
    }
}

/// One operation by plain calls.
pub(super) fn perform(files: &AttachedFiles, directory: &dyn File, operation: Operation) -> Completion {
    match operation {
        Operation::Write { token, file, slot, range, offset, dsync } => {
            let result = files.get(file).and_then(|file| {
                let bytes = slot.get(range).ok_or(Errno::INVAL)?;
                if dsync { write_durably(&**file, bytes, offset) } else { file.write_at(bytes, offset) }
            });
            Completion { token, result }
        }
        Operation::Sync { token, file } => {
            let result = files.get(file).and_then(|file| file.sync()).map(|()| 0);
            Completion { token, result }
        }
        Operation::SyncNames { token } => Completion { token, result: directory.sync().map(|()| 0) },
    }
}

/// A write that is durable when it returns.
fn write_durably(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    if let Some(descriptor) = file.descriptor()
        && let Some(latch) = file.sync_latch()
    {
        latch.check()?;
        match write_dsync(descriptor, bytes, offset) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            result => return latch.settle_write(result.map_err(io::Error::from)),
        }
    }
    let written_bytes = file.write_at(bytes, offset)?;
    file.sync()?;
    Ok(written_bytes)
}

fn write_dsync(descriptor: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    retry_on_intr(|| pwritev2(descriptor, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC))
}

impl WriteDevice for BlockingWriter {
    fn attach(&mut self, file: Arc<dyn File>) -> io::Result<FileIndex> {
        self.files.attach(file)
    }

    fn detach(&mut self, file: FileIndex) {
        self.files.detach(file);
    }

    fn submit(&mut self, operation: Operation) {
        self.queued.push_back(operation);
    }

    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let something_is_over = !self.queued.is_empty();
        while let Some(operation) = self.queued.pop_front() {
            completions.push(perform(&self.files, self.directory.as_ref(), operation));
        }
        self.wake.sleep(if something_is_over { Wait::Now } else { wait });
        Ok(())
    }

    fn write_now(&mut self, operation: Operation) -> Completion {
        perform(&self.files, self.directory.as_ref(), operation)
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
}

/// Reads by plain calls.
#[derive(Debug)]
pub struct BlockingReader {
    queued: VecDeque<Read>,
    wake: Arc<WakeCell>,
    info: DeviceInfo,
}

impl BlockingReader {
    /// A device; `reason` says why it is not a ring, and is empty when nobody wanted one.
    pub fn new(reason: String) -> Self {
        Self { queued: VecDeque::new(), wake: Arc::default(), info: info(reason) }
    }
}

fn perform_read(read: Read) -> ReadDone {
    let Read { token, file, mut slot, offset, len } = read;
    let result = match slot.get_mut(..len) {
        Some(buffer) => file.read_at(buffer, offset),
        None => Err(Errno::INVAL.into()),
    };
    ReadDone { token, slot, result }
}

impl ReadDevice for BlockingReader {
    fn submit(&mut self, read: Read) {
        self.queued.push_back(read);
    }

    fn wait(&mut self, wait: Wait, done: &mut Vec<ReadDone>) -> io::Result<()> {
        let something_is_over = !self.queued.is_empty();
        done.extend(self.queued.drain(..).map(perform_read));
        self.wake.sleep(if something_is_over { Wait::Now } else { wait });
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
}
