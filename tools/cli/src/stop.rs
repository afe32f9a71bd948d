//! Being asked to stop: SIGINT and SIGTERM end a command cleanly, with what was accepted kept.
//!
//! [`StopSignals`] is for commands on a runtime. [`Stop`] is for those that block: a flag, and an event to poll
//! beside other descriptors; a thread of its own listens, and ends with the process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Hears both signals from its making on; make it before saying that anything is ready.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Begins to listen. Needs a runtime around it.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let both = || -> io::Result<Self> {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
        };
        both().map_err(|error| Failure::io("cannot handle the signals SIGINT and SIGTERM", error))
    }

    /// Comes back when the process was asked to stop. Cancel safe.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether the process was asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    event: Arc<OwnedFd>,
}

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// There is something to read, or the end of it.
    Input,
    /// Not yet.
    Nothing,
    /// The process was asked to stop.
    Stop,
}

impl Stop {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::io("cannot handle signals", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let mut signals = {
            let _inside = runtime.enter();
            StopSignals::listen()?
        };
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let stop = Self { asked: Arc::default(), event: Arc::new(event) };
        let asked = stop.clone();
        let listener = std::thread::Builder::new().name("forebay-signals".into()).spawn(move || {
            runtime.block_on(signals.asked());
            asked.ask();
        });
        listener.map(|_| stop).map_err(failed)
    }

    /// Hears no signal: for what is not to be interrupted.
    pub(crate) fn never() -> Result<Self, Failure> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Failure::io("cannot make an event", errno.into()))?;
        Ok(Self { asked: Arc::default(), event: Arc::new(event) })
    }

    /// As if a signal had come.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        // A full counter is an event too.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Looks, or waits, for input or for the end.
    pub(crate) fn poll(&self, input: BorrowedFd<'_>, waits: bool) -> io::Result<Ready> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut descriptors =
            [PollFd::new(&input, PollFlags::IN), PollFd::from_borrowed_fd(self.event.as_fd(), PollFlags::IN)];
        loop {
            match poll(&mut descriptors, (!waits).then_some(&now)) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) if !descriptors[1].revents().is_empty() => return Ok(Ready::Stop),
                Ok(0) => return Ok(Ready::Nothing),
                // An end or an error of the input shows when it is read.
                Ok(_) => return Ok(Ready::Input),
            }
        }
    }
}
