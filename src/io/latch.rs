//! A failed sync is final: the latch that remembers it.
//!
//! Owned by the open file, so that the file's own verb and every device see one truth. Promises: after the
//! first failed sync each later one fails with the same error number, also one that was in flight beside it
//! and came back well: the kernel may have told the other of the loss that concerns both. Knows no device.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

/// Whether a sync of this file has failed, and how.
#[derive(Debug, Default)]
pub struct SyncLatch {
    /// The error number of the first failed sync; 0 while none has failed.
    errno: AtomicI32,
}

impl SyncLatch {
    /// A latch that is open.
    pub const fn new() -> Self {
        Self { errno: AtomicI32::new(0) }
    }

    /// # Errors
    /// That of the first failed sync.
    pub fn check(&self) -> io::Result<()> {
        match self.errno.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Takes in how a sync ended, and gives how it counts.
    ///
    /// # Errors
    /// That of the first failed sync, which may be this one.
    pub fn settle<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            // Only the first failure is kept; a later one changes nothing.
            let _ = self.errno.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
        }
        self.check()?;
        result
    }

    /// As [`SyncLatch::settle`], for a write that carries its own sync: one refused before it began has lost
    /// nothing, and does not latch.
    ///
    /// # Errors
    /// That of the write, or of the first failed sync.
    pub fn settle_write(&self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Err(error) if is_refused_unbegun(&error) => Err(error),
            result => self.settle(result),
        }
    }
}

fn is_refused_unbegun(error: &io::Error) -> bool {
    const REFUSALS: [Errno; 6] =
        [Errno::INVAL, Errno::OPNOTSUPP, Errno::BADF, Errno::FBIG, Errno::AGAIN, Errno::CANCELED];
    error.raw_os_error().is_some_and(|errno| REFUSALS.iter().any(|refusal| refusal.raw_os_error() == errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno_of<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
        result.expect_err("latched").raw_os_error()
    }

    #[test]
    fn the_first_failure_is_the_answer_to_every_later_sync() {
        let (io_error, no_space) = (Errno::IO.raw_os_error(), Errno::NOSPC.raw_os_error());
        let latch = SyncLatch::new();
        assert!(latch.settle(Ok(3)).is_ok() && latch.check().is_ok());
        assert_eq!(errno_of(latch.settle::<()>(Err(io::Error::from_raw_os_error(io_error)))), Some(io_error));
        assert_eq!(errno_of(latch.settle::<()>(Err(io::Error::from_raw_os_error(no_space)))), Some(io_error));
        assert_eq!(errno_of(latch.settle(Ok(()))), Some(io_error));
        assert_eq!(errno_of(latch.settle_write(Ok(4096))), Some(io_error));
        assert_eq!(errno_of(latch.check()), Some(io_error));
    }

    #[test]
    fn a_write_refused_before_it_began_does_not_latch() {
        let latch = SyncLatch::new();
        assert!(latch.settle_write(Err(Errno::INVAL.into())).is_err());
        assert!(latch.check().is_ok());
        assert!(latch.settle_write(Err(Errno::IO.into())).is_err());
        assert!(latch.check().is_err());
    }
}
