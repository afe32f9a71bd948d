//! The whole path: a store, its backfill reactor, and the way to a sink.
//!
//! ```text
//!  producers ──append──► Store (memory, log) ──► Reactor (reads, paces) ──► Forwarder ──► Sink
//! ```
//!
//! The only module that knows both columns: what decides ([`crate::backfill`], [`crate::governor`],
//! [`crate::queue::spill`]) and what stores ([`crate::store`]). A pipeline needs no runtime: the reactor is a thread,
//! appends are futures of no runtime or blocking calls, and the forwarder is a future that runs on the sink's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::backfill::Backfill;
use crate::backfill::connectivity::BackoffSettings;
use crate::clock::Clock;
use crate::config::{Config, SinkConfig, SpillMode};
use crate::error::{Error, Result};
use crate::event::{Event, Occurrence};
use crate::governor::{Estimate, GovernorSettings};
use crate::io::real::RealDisk;
use crate::io::{Disk, Waker};
use crate::queue::spill::SpillSettings;
use crate::record::Record;
use crate::segment::reader::LogReader;
use crate::store::{Level, Shared, Store, lock};

mod feed;
mod forward;
mod journal;
mod load;
mod reactor;

pub use forward::Forwarder;
pub use load::Status;

use feed::Feed;
use journal::{Board, Journal};
use reactor::{Parts, Reactor};

/// How often a cursor is written while it moves: it bounds what is repeated after a crash.
const CURSOR_INTERVAL_NS: u64 = 1_000_000_000;

/// How long a clean stop waits for the batch that is out.
const STOP_NS_MAX: u64 = 2_000_000_000;

/// What the reactor is told once.
#[derive(Debug, Clone, Copy)]
struct ReactorSettings {
    batch_records: u64,
    batch_bytes: u64,
    cursor_interval_ns: u64,
    stop_ns_max: u64,
}

/// What the reactor is told meanwhile.
#[derive(Debug, Default)]
struct Control {
    stopping: AtomicBool,
    is_paused: AtomicBool,
}

impl Control {
    fn paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire)
    }
}

/// A store with one destination. `Send + Sync`: producers share it by reference.
#[derive(Debug)]
pub struct Pipeline {
    store: Store,
    control: Arc<Control>,
    board: Arc<Board>,
    reactor: Option<JoinHandle<Result<()>>>,
    reactor_waker: Waker,
    forwarder: Option<Forwarder>,
}

impl Pipeline {
    /// Opens the directory of `config` and starts the threads. Records flow once somebody runs
    /// [`Pipeline::forwarder`].
    ///
    /// # Errors
    /// As [`Store::open`]; and when a thread or the read device can't be had.
    pub fn open(config: &Config) -> Result<Self> {
        config.check()?;
        let disk = RealDisk::create(&config.dir, config.disk.direct_io).map_err(|error| {
            Error::io(format!("{} can't be opened as a store", config.dir.display()), error)
        })?;
        Self::open_on(Arc::new(disk), config)
    }

    /// [`Pipeline::open`] on a disk of the caller's.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(disk: Arc<dyn Disk>, config: &Config) -> Result<Self> {
        let clock = Arc::new(Clock::new());
        let store = Store::open_on(Arc::clone(&disk), config, Arc::clone(&clock))?;
        let board = Arc::new(Board::default());
        let recovery =
            Event::Recovery { next_sequence: store.next_sequence(), report: store.recovery().to_vec() };
        board.tell(&clock, recovery);
        let control = Arc::new(Control::default());
        let (starting, started) = std::sync::mpsc::sync_channel(1);
        let start = Start {
            shared: Arc::clone(&store.shared),
            config: config.clone(),
            control: Arc::clone(&control),
            board: Arc::clone(&board),
        };
        let (ending, ending_clock) = (Arc::clone(&board), Arc::clone(&clock));
        let thread = std::thread::Builder::new().name("forebay-backfill".into()).spawn(move || {
            // The read device stays on the thread that made it.
            let (reactor, forwarder) = match start.reactor() {
                Ok(made) => made,
                Err(error) => {
                    let _ = starting.send(Err(error.clone()));
                    return Err(error);
                }
            };
            let _ = starting.send(Ok(forwarder));
            reactor.run().inspect_err(|error| ending.ended(&ending_clock, error))
        });
        let thread = thread.map_err(|error| Error::io("the backfill thread can't be started", error))?;
        let died = || Error::new(crate::Kind::Failed, "the backfill thread died as it started");
        let forwarder = started.recv().map_err(|_| died())??;
        let reactor_waker = forwarder.waker.clone();
        store.shared.listen(reactor_waker.clone());
        Ok(Self { store, control, board, reactor: Some(thread), reactor_waker, forwarder: Some(forwarder) })
    }

    /// The way to the sink; there is one. Run it: until then the destination looks as if it hung.
    pub fn forwarder(&mut self) -> Option<Forwarder> {
        self.forwarder.take()
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes one record and waits until it has reached `level`; see [`Store::append`].
    ///
    /// # Errors
    /// As there.
    pub async fn append(&self, record: &Record<'_>, level: Level) -> Result<u64> {
        self.store.append(record, level).await
    }

    /// How it stands; at most 100 ms old while anything moves.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// The last 256 events, oldest first.
    pub fn events(&self) -> Vec<Occurrence> {
        self.board.events()
    }

    /// Holds back everything that is not on the wire yet, or lets it go again.
    pub fn pause(&self, paused: bool) {
        self.control.is_paused.store(paused, Ordering::Release);
        self.reactor_waker.wake();
    }

    /// Waits for the batch that is out (2 s at most), makes everything durable, and lets go of the directory. What
    /// was not delivered is delivered after the next open.
    ///
    /// # Errors
    /// What kept the last records from becoming durable.
    pub fn close(mut self) -> Result<()> {
        let reactor = self.stop_reactor();
        self.store.close()?;
        reactor
    }

    fn stop_reactor(&mut self) -> Result<()> {
        self.control.stopping.store(true, Ordering::Release);
        self.reactor_waker.wake();
        let Some(thread) = self.reactor.take() else { return Ok(()) };
        let died =
            || Err(Error::new(crate::Kind::Failed, "the backfill thread panicked: nothing durable is lost"));
        thread.join().unwrap_or_else(|_| died())
    }
}

/// What the reactor's thread is started with.
struct Start {
    shared: Arc<Shared>,
    config: Config,
    control: Arc<Control>,
    board: Arc<Board>,
}

impl Start {
    fn reactor(self) -> Result<(Reactor, Forwarder)> {
        let Self { shared, config, control, board } = self;
        let sink = config.sinks.first().cloned().unwrap_or_default();
        let destination = lock(&shared.destinations).open(&sink.name)?;
        let feed = Self::feed(&shared, &config, destination)?;
        let backfill = Self::backfill(&shared, &config, destination)?;
        let (batches, inbox) = mpsc::channel(1);
        let outcomes = forward::Outcomes::default();
        let forwarder = Forwarder { batches: inbox, outcomes: Arc::clone(&outcomes), waker: feed.waker() };
        let journal = Journal::new(board, Arc::clone(&shared.clock), sink.name.clone());
        let settings = settings(&sink);
        let parts =
            Parts { shared, control, backfill, feed, journal, settings, destination, batches, outcomes };
        Ok((Reactor::new(parts), forwarder))
    }

    fn feed(shared: &Arc<Shared>, config: &Config, destination: usize) -> Result<Feed> {
        let reader = LogReader::on(&*shared.disk, shared.store, config.write.backend)
            .map_err(|error| Error::io("no read device: see the cause", error))?;
        let from_memory = config.spill == SpillMode::Threshold;
        Ok(Feed::new(Arc::clone(shared), reader, destination, from_memory))
    }

    fn backfill(shared: &Shared, config: &Config, destination: usize) -> Result<Backfill> {
        let spill = SpillSettings {
            always: config.spill == SpillMode::Always,
            spill_threshold: config.queue.spill_threshold,
            resume_threshold: config.queue.resume_threshold,
            records_max: config.queue.records,
            bytes_max: config.queue.bytes,
        };
        let nanoseconds = |duration: std::time::Duration| duration.as_nanos() as u64;
        let governor = GovernorSettings {
            factor: config.governor.factor,
            burst_ns: nanoseconds(config.governor.burst),
            floor_records_per_second: config.governor.floor_records_per_second,
            floor_bytes_per_second: config.governor.floor_bytes_per_second,
            window_ns: nanoseconds(config.governor.window),
        };
        let backoff = BackoffSettings {
            min_ns: nanoseconds(config.backoff.min),
            max_ns: nanoseconds(config.backoff.max),
        };
        let now = shared.clock.now_ns();
        let mut backfill = Backfill::new(spill, governor, backoff, shared.disk.random(), now)?;
        let destinations = lock(&shared.destinations);
        let state = destinations.state(destination);
        backfill.restore(
            now,
            Estimate {
                records_per_second: state.steady_records_milli / 1000,
                bytes_per_second: state.steady_bytes,
            },
        );
        Ok(backfill)
    }
}

fn settings(sink: &SinkConfig) -> ReactorSettings {
    ReactorSettings {
        batch_records: sink.batch_records,
        batch_bytes: sink.batch_bytes,
        cursor_interval_ns: CURSOR_INTERVAL_NS,
        stop_ns_max: STOP_NS_MAX,
    }
}
