//! A write device whose syncs run on a thread of their own (`sync_method = "fdatasync-thread"`).
//!
//! For kernels and file systems where a sync on the ring is slow or blocks what is submitted behind it; and with
//! plain calls it lets the next group be written while this one is synced. Owns the thread and the two short
//! queues to it and back; everything else is the device's within. Promises the contract of [`crate::io`].

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::attached::AttachedFiles;
use super::{Completion, DeviceInfo, File, FileIndex, Operation, Wait, Waker, WriteDevice};

/// Syncs that may wait for the thread: the writer has one sync stream, others are rare.
const QUEUED_MAX: usize = 64;

type Asked = (u64, Arc<dyn File>);

/// See the module.
pub struct SyncThread {
    within: Box<dyn WriteDevice>,
    files: AttachedFiles,
    /// The thread ends when this is dropped: with the sync that it is in, for which nobody waits.
    asked: SyncSender<Asked>,
    over: Arc<Mutex<Vec<Completion>>>,
}

impl SyncThread {
    /// `within`, with a thread for its syncs.
    ///
    /// # Errors
    /// That the thread can't be started.
    pub fn new(within: Box<dyn WriteDevice>) -> io::Result<Self> {
        let (asked, asking) = sync_channel(QUEUED_MAX);
        let over = Arc::default();
        let (told, waker) = (Arc::clone(&over), within.waker());
        let thread = std::thread::Builder::new().name("forebay-sync".into());
        let _ends_by_itself = thread.spawn(move || serve(&asking, &told, &waker))?;
        Ok(Self { within, files: AttachedFiles::default(), asked, over })
    }

    fn take_over(&self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.over.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, token: u64, error: io::Error) {
        let completion = Completion { token, result: Err(error) };
        self.over.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        self.within.waker().wake();
    }
}

fn serve(asking: &Receiver<Asked>, over: &Mutex<Vec<Completion>>, waker: &Waker) {
    while let Ok((token, file)) = asking.recv() {
        let result = file.sync().map(|()| 0);
        over.lock().unwrap_or_else(PoisonError::into_inner).push(Completion { token, result });
        waker.wake();
    }
}

impl WriteDevice for SyncThread {
    fn attach(&mut self, file: Arc<dyn File>) -> io::Result<FileIndex> {
        let index = self.within.attach(Arc::clone(&file))?;
        let ours = self.files.attach(file)?;
        debug_assert_eq!(index, ours, "both give the lowest free place");
        Ok(index)
    }

    fn detach(&mut self, file: FileIndex) {
        self.within.detach(file);
        let _closed_last = self.files.detach(file);
    }

    fn submit(&mut self, operation: Operation) {
        let Operation::Sync { token, file } = operation else { return self.within.submit(operation) };
        let sent = self
            .files
            .get(file)
            .and_then(|file| self.asked.try_send((token, Arc::clone(file))).map_err(|_| Errno::AGAIN.into()));
        if let Err(error) = sent {
            self.tell(token, error);
        }
    }

    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let known = completions.len();
        self.take_over(completions);
        let wait = if completions.len() > known { Wait::Now } else { wait };
        let waited = self.within.wait(wait, completions);
        self.take_over(completions);
        waited
    }

    fn write_now(&mut self, operation: Operation) -> Completion {
        self.within.write_now(operation)
    }

    fn waker(&self) -> Waker {
        self.within.waker()
    }

    fn info(&self) -> &DeviceInfo {
        self.within.info()
    }
}
