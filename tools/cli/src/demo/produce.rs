//! The producer: records at an even rate against the monotonic clock, a handful at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::record::Record;
use forebay::store::{Appended, Store};

use crate::demo::source::Source;
use crate::exit::Failure;

/// How often it wakes.
const TICK: Duration = Duration::from_millis(5);
/// How long room is waited for before it looks whether it is to end.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// How fast, how long, and how far it is.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    length: Duration,
    /// It ends then, with whatever it has made.
    give_up: Instant,
    began: Instant,
    made: AtomicU64,
    ended: AtomicBool,
}

impl Pace {
    /// Begins now.
    pub(super) fn new(rate: u64, length: Duration, give_up: Instant) -> Self {
        let began = Instant::now();
        Self { rate, length, give_up, began, made: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Records that were taken so far.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Whether no more come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// No more from now on.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Appends until the time is over or somebody ends it. A store that holds back is waited for, and caught up
    /// with afterwards.
    pub(super) fn produce(&self, store: &Store, source: &mut Source) -> Result<(), Failure> {
        let outcome = self.produce_until_ended(store, source);
        self.end();
        outcome
    }

    fn produce_until_ended(&self, store: &Store, source: &mut Source) -> Result<(), Failure> {
        let mut tick = self.began;
        while !self.has_ended() && Instant::now() < self.give_up {
            let elapsed = self.began.elapsed().min(self.length);
            let due = (u128::from(self.rate) * elapsed.as_nanos() / 1_000_000_000) as u64;
            while self.made() < due && !self.has_ended() {
                self.append(store, source)?;
            }
            if elapsed == self.length {
                break;
            }
            tick = (tick + TICK).max(Instant::now());
            std::thread::sleep(tick.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn append(&self, store: &Store, source: &mut Source) -> Result<(), Failure> {
        let line = source.next(self.made() + 1)?;
        let record = Record { payload: line.payload, key: line.key, timestamp: line.timestamp };
        while !self.has_ended() && Instant::now() < self.give_up {
            match store.append_within(&record, ROOM_WAIT)? {
                Appended::Full(_) => {}
                Appended::Accepted(_) | Appended::Dropped(_) => {
                    self.made.fetch_add(1, Ordering::AcqRel);
                    break;
                }
            }
        }
        Ok(())
    }
}
