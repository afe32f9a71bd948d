//! The other side of the socket: the central on threads of its own, and the sink that leads there.
//!
//! The central knows nothing of the pipeline: what it says was received, missing or repeated is its own count.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay::pipeline::Forwarder;
use forebay::sink::{Batch, Outcome, Sink};
use tokio::runtime::{Builder, Runtime};

use crate::central::{Arrival, Central, Options, Totals};
use crate::exit::Failure;
use crate::http_sink::HttpSink;

/// How long one send may take: short, since the whole story is.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the port is asked for again when the central comes back.
const PORT_WAIT: Duration = Duration::from_secs(1);

/// A central on loopback that can be taken away.
#[derive(Debug)]
pub(super) struct Remote {
    runtime: Runtime,
    central: Central,
}

impl Remote {
    pub(super) fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("central")
            .enable_all()
            .build()
            .map_err(|error| Failure::io("cannot start the central's threads", error))?;
        let started = runtime.block_on(Central::start("127.0.0.1:0", Options::default()));
        let central = started.map_err(|error| Failure::create("cannot listen on loopback", error))?;
        Ok(Self { runtime, central })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/records", self.central.address())
    }

    /// Gone at once: the port is closed, connections are reset.
    pub(super) fn break_off(&mut self) {
        self.runtime.block_on(self.central.break_off());
    }

    pub(super) fn come_back(&mut self) -> Result<(), Failure> {
        let by = Instant::now() + PORT_WAIT;
        loop {
            match self.runtime.block_on(self.central.come_back()) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= by => {
                    return Err(Failure::io("the central cannot listen again", error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.central.stats()
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.central.arrivals()
    }
}

/// HTTP to the central; for tests, one batch may be swallowed on the way and answered all the same.
#[derive(Debug)]
struct DemoSink {
    http: HttpSink,
    sent: u64,
    /// The batch that never arrives, counted from 1.
    swallowed: Option<u64>,
}

impl Sink for DemoSink {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        self.sent += 1;
        if self.swallowed == Some(self.sent) {
            return Outcome::Accepted;
        }
        self.http.send(batch).await
    }
}

/// Drives `forwarder` on a thread of its own, until the pipeline is closed.
pub(super) fn forward(
    forwarder: Forwarder,
    url: &str,
    swallowed: Option<u64>,
) -> Result<JoinHandle<()>, Failure> {
    let sink = DemoSink { http: HttpSink::new(url, SEND_TIMEOUT)?, sent: 0, swallowed };
    let failed = |error| Failure::io("cannot start the forwarder's thread", error);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let named = std::thread::Builder::new().name("forwarder".into());
    named.spawn(move || runtime.block_on(forwarder.run(sink))).map_err(failed)
}
