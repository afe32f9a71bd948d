//! Hands batches to the sink, one at a time, on whatever runtime the caller has.
//!
//! The forwarder decides nothing: a batch comes in, what became of it goes back. It knows no clock, no file and
//! no retry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::io::park::block_on;
use crate::io::{Wait, Waker};
use crate::sink::{Batch, Outcome, Sink};
use crate::store::lock;

/// What became of a batch, on its way back.
pub(super) type Outcomes = Arc<Mutex<VecDeque<Outcome>>>;

/// The way from the reactor to a sink: drive it with [`Forwarder::run`].
#[derive(Debug)]
pub struct Forwarder {
    pub(super) batches: mpsc::Receiver<Arc<Batch>>,
    pub(super) outcomes: Outcomes,
    pub(super) waker: Waker,
}

impl Forwarder {
    /// Sends batches until the pipeline closes. Belongs to no runtime of its own: spawn it on the sink's.
    /// A forwarder that is dropped, or not driven, looks to the pipeline like a destination that hangs.
    pub async fn run(mut self, mut sink: impl Sink) {
        while let Some(batch) = self.batches.recv().await {
            let outcome = sink.send(&batch).await;
            drop(batch);
            lock(&self.outcomes).push_back(outcome);
            self.waker.wake();
        }
    }

    /// [`Forwarder::run`] on a thread of its own, for sinks that need no runtime.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn spawn(self, sink: impl Sink + 'static) -> crate::Result<std::thread::JoinHandle<()>> {
        let named = std::thread::Builder::new().name("forebay-forward".into());
        let spawned = named.spawn(move || {
            let _ran = block_on(self.run(sink), Wait::Forever);
        });
        spawned.map_err(|error| crate::Error::io("the forwarder's thread can't be started", error))
    }
}
