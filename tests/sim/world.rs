//! One store on one simulated disk, one thread, one seed; time passes when a turn does.

use std::sync::Arc;
use std::time::Duration;

use forebay::clock::Clock;
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::io::Disk;
use forebay::io::sim::{Loss, SimDisk, SimOptions};
use forebay::record::Record;
use forebay::store::{Appended, Driver, Level, Store, Turn};
use forebay::{Error, Result};

use crate::oracle::{Content, Model, ReadBack, read_back};

/// Bytes of a segment: the smallest.
pub(crate) const SEGMENT_BYTES: u64 = 256 * 1024;
/// Turns after which nothing has come of waiting, whatever it was for.
const TURNS_MAX: usize = 20_000;
/// How much time passes with a turn.
const TURN_NS: u64 = 1_000_000;

/// Seeded numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A small store: 256 KiB segments, room for 7, blocks of 16 KiB, everything to the log first.
pub(crate) fn config(full: FullPolicy) -> Config {
    let mut config = Config::new("simulated");
    config.spill = SpillMode::Always;
    // Seven slots, and what `state`, cursors and `gaps` take.
    config.disk_bytes_cap = Some(7 * SEGMENT_BYTES + 576 * 1024);
    config.queue.bytes = 1 << 20;
    config.queue.records = 4096;
    config.queue.full = full;
    config.disk.segment_bytes = Some(SEGMENT_BYTES);
    config.disk.free_bytes_min = 0;
    config.write.batch_bytes = 16 * 1024;
    config.write.batch_linger_unawaited = Duration::from_millis(5);
    config
}

/// A store that is open, and whoever runs its turns.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) store: Store,
    pub(crate) driver: Driver,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) disk: SimDisk,
    pub(crate) config: Config,
    pub(crate) clock: Arc<Clock>,
    pub(crate) model: Model,
    pub(crate) live: Option<Live>,
    pub(crate) draw: Draw,
}

impl World {
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        let options = SimOptions { virtual_time: true, ..SimOptions::default() };
        Self::on(SimDisk::with_options(seed, options), seed, config, Model::default())
    }

    pub(crate) fn on(disk: SimDisk, seed: u64, config: Config, model: Model) -> Self {
        let draw = Draw(seed ^ 0x5eed);
        Self { seed, disk, config, clock: Arc::new(Clock::manual()), model, live: None, draw }
    }

    /// Opens for writing; what was found must have been checked before.
    pub(crate) fn open(&mut self) -> Result<()> {
        assert!(self.live.is_none(), "open already");
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, driver) = Store::open_parts(disk, &self.config, Arc::clone(&self.clock))?;
        self.live = Some(Live { store, driver });
        Ok(())
    }

    /// As the writer's thread begins.
    pub(crate) fn choose_method(&mut self) {
        self.live.as_mut().expect("the store is open").driver.choose_method();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.live.as_ref().expect("the store is open").store
    }

    /// One turn, and a look at the marks.
    pub(crate) fn turn(&mut self) -> Result<Turn> {
        self.clock.advance(TURN_NS);
        let live = self.live.as_mut().expect("the store is open");
        let turned = live.driver.turn(false);
        assert_eq!(
            turned.is_err(),
            live.store.marks().failed().is_some(),
            "who waits learns what ends writing"
        );
        self.look();
        turned
    }

    /// Whoever awaits everything that was appended writes it himself, if he may; else it is the writer's.
    /// Whether he did.
    pub(crate) fn commit(&mut self) -> Result<bool> {
        let last = self.store().marks().appended();
        self.store().ask(last, Level::Durable);
        let live = self.live.as_mut().expect("the store is open");
        let committed = live.driver.commit();
        assert!(!committed || live.store.marks().reached(Level::Durable, last), "committed is durable");
        self.look();
        if let Some(error) = self.store().marks().failed() {
            return Err(error);
        }
        self.settle()?;
        Ok(committed)
    }

    /// What is durable was acked.
    fn look(&mut self) {
        let live = self.live.as_ref().expect("the store is open");
        let durable = live.store.marks().durable();
        assert!(durable <= self.model.last(), "durable {durable} before it was submitted");
        if !self.disk.is_dead() {
            self.model.acked = self.model.acked.max(durable);
        }
    }

    pub(crate) fn turns(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.turn().map(|_| ()))
    }

    /// Turns until `done`; what never comes is a hang, and a failure.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return Ok(());
            }
            let _ = self.turn()?;
        }
        panic!("seed {}: {what}: nothing came of {TURNS_MAX} turns; {:?}", self.seed, self.store().marks());
    }

    /// Appends a record of `bytes`, with a key that the seed draws. Unique, so that a stale one is told apart.
    pub(crate) fn append(&mut self, bytes: usize) -> Result<Appended> {
        let salt = self.draw.number();
        let mut fill = Draw(salt);
        let mut payload = Vec::with_capacity(bytes + 8);
        while payload.len() < bytes {
            payload.extend_from_slice(&fill.number().to_le_bytes());
        }
        payload.truncate(bytes);
        let key = match salt % 4 {
            0 => Vec::new(),
            1 => vec![b'k'; 1 + salt as usize % 255],
            _ => format!("monitor-{}", salt % 10).into_bytes(),
        };
        let timestamp = salt >> 1;
        let record = Record { payload: &payload, key: &key, timestamp };
        let appended = self.store().try_append(&record)?;
        let content = Content { key, payload, timestamp };
        let next = self.model.last() + 1;
        match appended {
            Appended::Accepted(sequence) => {
                assert_eq!(sequence, next, "seed {}: the next sequence", self.seed);
                self.model.submitted.insert(sequence, content);
            }
            Appended::Dropped(sequence) => {
                assert_eq!(sequence, next, "seed {}: the next sequence", self.seed);
                self.model.dropped.insert(sequence, content);
            }
            Appended::Full(_) => {}
        }
        Ok(appended)
    }

    /// Appends, and turns until there is room.
    pub(crate) fn append_surely(&mut self, bytes: usize) -> Result<u64> {
        for _ in 0..TURNS_MAX {
            if let Some(sequence) = self.append(bytes)?.sequence() {
                return Ok(sequence);
            }
            let _ = self.turn()?;
        }
        panic!("seed {}: no room in {TURNS_MAX} turns; {:?}", self.seed, self.store().marks());
    }

    /// Waits until everything that was appended is durable.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let last = self.store().marks().appended();
        self.store().ask(last, Level::Durable);
        self.until("durable", |world| world.store().marks().reached(Level::Durable, last))
    }

    /// The destination has everything up to `through`; durably if `twice`.
    pub(crate) fn confirm(&mut self, through: u64, twice: bool) -> Result<()> {
        let live = self.live.as_ref().expect("the store is open");
        let destination = live.store.destination("default")?;
        destination.confirm(through);
        self.model.confirmed = self.model.confirmed.max(through);
        if twice {
            destination.persist_twice()?
        } else {
            destination.persist()?
        }
        self.model.persisted = self.model.confirmed;
        Ok(())
    }

    /// The clean stop.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.store().begin_close();
        for _ in 0..TURNS_MAX {
            if self.turn()? == Turn::Closed {
                let live = self.live.take().expect("the store is open");
                return live.store.close();
            }
        }
        panic!("seed {}: closing takes for ever; {:?}", self.seed, self.store().marks());
    }

    /// The disk as `loss` leaves it, checked; the model goes back to what is there.
    pub(crate) fn after_power_cut(&self, loss: Loss, context: &str) -> Self {
        let disk = self.disk.power_cut(loss);
        let context = format!("seed {}, {loss:?}, {context}", self.seed);
        let found = read_back(&disk.fork());
        let last = self.model.check(found.as_ref(), &context);
        let mut world = Self::on(disk, self.seed ^ last << 8 ^ 1, self.config.clone(), self.model.clone());
        world.model.forget_after(last, found.as_ref());
        world
    }

    /// Opens, asserts that the log goes on behind its last record, and that reading gives the same again.
    pub(crate) fn reopen(&mut self, context: &str) -> Result<()> {
        let before = read_back(&self.disk.fork());
        self.open()?;
        let context = format!("seed {}, {context}", self.seed);
        let next = self.store().next_sequence();
        assert_eq!(
            next,
            self.model.last() + 1,
            "{context}: append goes on behind the last record; {:?}",
            self.store().recovery()
        );
        let again = self.read_back();
        if let Some(before) = before {
            assert_eq!(
                (&before.records, before.store),
                (&again.records, again.store),
                "{context}: read again"
            );
        }
        self.model.check(Some(&again), &format!("{context}, opened"));
        Ok(())
    }

    /// What a reader beside the store sees.
    pub(crate) fn read_back(&self) -> ReadBack {
        read_back(&self.disk.fork()).expect("a store")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is dropped in the middle of things leaves as a crash does, not as a stop.
        if self.live.is_some() && !std::thread::panicking() {
            let _ = self.disk.power_cut(Loss::All);
        }
    }
}

/// Whether this is how a store answers when its disk has lost power.
pub(crate) fn power_is_gone(world: &World, error: &Error) {
    assert!(world.disk.is_dead(), "seed {}: {error}: {:?}", world.seed, std::error::Error::source(error));
}
