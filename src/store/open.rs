//! Opens a directory for writing: made if it is not there, recovered if it is.
//!
//! ```text
//! lock ─► state ─► gaps, cursors ─► recover (reads headers and the tail) ─► a new epoch, durable in state
//!      ─► what was lost is named, durably ─► go on in the same segment, at the cut
//! ```
//!
//! The epoch is durable before the first write or send of this open. Whatever the damage, the open succeeds:
//! each file that can't be believed is made anew from what the others know.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::config::{Config, OnDamage, Sizes, SpillMode, SyncPolicy};
use crate::copies::Found;
use crate::cursor::Cursor;
use crate::error::{Error, Kind, Result};
use crate::gaps::{Gap, GapFile, Reason};
use crate::io::real::RealDisk;
use crate::io::sync_thread::SyncThread;
use crate::io::{Access, Arena, DeviceOptions, Disk, LOCK_NAME, SyncMethod};
use crate::position::{Epoch, StoreId};
use crate::queue::memory::MemoryQueue;
use crate::queue::run_ahead::{RunAhead, window_blocks};
use crate::record::Seed;
use crate::segment::catalog::Catalog;
use crate::segment::format::{self, ALIGNMENT, COPY_BYTES, GAPS_COPY_BYTES};
use crate::segment::recovery::{Damage, Known, Recovered, Refused, RefusedReason, recover_scanned};
use crate::segment::salvage::scratch;
use crate::segment::scan::Scan;
use crate::segment::spares::learn_written;
use crate::segment::writer::{Cadence, Durably, LogWriter, PAGE_COUNT, WriterSettings};
use crate::state::{StateFile, StoreState};
use crate::store::Store;
use crate::store::archive::{repeated_in, repeated_names};
use crate::store::destinations::Destinations;
use crate::store::driver::Driver;
use crate::store::marks::Marks;
use crate::store::shared::{Counts, Shared, WriterWake};
use crate::store::state_keeper::StateKeeper;

/// The destination of a store whose configuration names none.
pub const DEFAULT_DESTINATION: &str = "default";

/// Of the cap, what `state`, cursors and `gaps` may take.
const METADATA_BYTES: u64 = 1024 * 1024;

/// Of a small cap: what they take at least.
const METADATA_BYTES_MIN: u64 = 2 * GAPS_COPY_BYTES as u64 + 8 * 2 * COPY_BYTES as u64;

/// Bytes of arena slots registered for writing, at most: the rest of the usual 8 MiB is the reader's.
const REGISTERED_WRITE_BYTES_MAX: usize = 3584 * 1024;

/// The hold on the directory, for as long as it lives.
pub(super) trait Held: Send + Sync + fmt::Debug {}

#[derive(Debug)]
struct DirectoryLock {
    #[expect(dead_code, reason = "held for its drop")]
    guard: Guard,
}

struct Guard(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Held for DirectoryLock {}

impl Store {
    /// Opens the directory of `config` for writing; makes it, with mode 0700, if it is not there.
    ///
    /// # Errors
    /// `Config` for values that can't be, `Locked` when another process has it, `Unsupported` for a later
    /// version's store or a refused device, `Permission`, `NoSpace`, and what the disk says. Damage is none.
    pub fn open(config: &Config) -> Result<Self> {
        config.check()?;
        let disk = RealDisk::create(&config.dir, config.disk.direct_io).map_err(|error| {
            Error::io(
                format!("{} can't be opened as a store: name another directory", config.dir.display()),
                error,
            )
        })?;
        Self::open_on(Arc::new(disk), config, Arc::new(Clock::new()))
    }

    /// Opens a store on a disk of the caller's, and starts the writer's thread.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, config: &Config, clock: Arc<Clock>) -> Result<Self> {
        let (mut store, driver) = Self::open_parts(disk, config, clock)?;
        let (chosen, choice) = sync_channel(1);
        let driver = Arc::new(Mutex::new(Some(driver)));
        store.driver = Some(Arc::clone(&driver));
        let thread = std::thread::Builder::new()
            .name("forebay-writer".into())
            .spawn(move || Driver::run(&driver, &chosen));
        let thread = thread.map_err(|error| Error::io("the writer's thread can't be started", error))?;
        store.thread = Some(thread);
        // A thread that has panicked is met at the next append.
        let _ = choice.recv();
        Ok(store)
    }

    /// A store whose writer's turns are the caller's to run: for simulations.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_parts(disk: Arc<dyn Disk>, config: &Config, clock: Arc<Clock>) -> Result<(Self, Driver)> {
        let place = disk.place();
        let opening = Opening { disk, config, place };
        // Before anything is made in it; and again once nobody else can change it.
        let _ = opening.is_new()?;
        let (disk, place) = (Arc::clone(&opening.disk), &opening.place);
        let guard = disk.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::new(
                Kind::Locked,
                format!("{place} is open in another process: stop it, or name another directory"),
            ),
            _ => Error::io(format!("{place} can't be locked"), error),
        })?;
        let is_new = opening.is_new()?;
        let mut opened = opening.open(&clock).inspect_err(|_| {
            if is_new {
                take_back(disk.as_ref());
            }
        })?;
        opened.0.lock = Some(Box::new(DirectoryLock { guard: Guard(guard) }));
        Ok(opened)
    }
}

/// An open under way.
struct Opening<'a> {
    disk: Arc<dyn Disk>,
    config: &'a Config,
    place: String,
}

impl Opening<'_> {
    /// Whether no store is in the directory yet. One that somebody uses for something else is refused.
    fn is_new(&self) -> Result<bool> {
        let names =
            self.disk.names().map_err(|error| Error::io(format!("{} can't be listed", self.place), error))?;
        if names.iter().any(|name| format::slot_of_name(name).is_some()) {
            return Ok(false);
        }
        if let Found::Sound(_) = StateFile::open(self.disk.as_ref(), None, Access::Read)? {
            return Ok(false);
        }
        if let Some(stranger) = names.iter().find(|name| !is_ours(name) && *name != "lost+found") {
            return Err(Error::new(
                Kind::Config,
                format!(
                    "{} is not a store ({stranger} is in it): name an empty directory, or one that forebay made",
                    self.place
                ),
            ));
        }
        Ok(!names.iter().any(|name| is_ours(name) && name != LOCK_NAME))
    }

    fn open(self, clock: &Arc<Clock>) -> Result<(Store, Driver)> {
        let (mut state_file, mut report) = self.state()?;
        let (store, before) = (state_file.store(), *state_file.state());
        let (mut gaps, gap_report) = self.gaps(store)?;
        report.extend(gap_report);
        let mut scratch = scratch().map_err(|error| Error::io("no memory for recovery", error))?;
        let scan = Scan::read(self.disk.as_ref(), store, &mut scratch)?;
        report.extend(scan.restore_lengths(self.disk.as_ref())?);
        let cursors = self.cursors(store, &scan, &mut report)?;
        let known = Known { backend: self.config.write.backend, ..known(&before, &cursors, &gaps) };
        let mut recovered = recover_scanned(self.disk.as_ref(), store, &known, scan)?;
        report.append(&mut recovered.report);
        self.remove_half_made(&recovered.refused, &mut report);
        if recovered.lost_tail.is_some() {
            // What is left of its last block may reach over the cut: nothing is written into the middle of that.
            recovered.catalog.seal_last();
        }
        if let Some(damage) = recovered.damage.first().filter(|_| self.config.on_damage == OnDamage::Stop) {
            return Err(self.stops_at(damage));
        }
        let lost = self.losses(&before, &known, &recovered, &mut report);
        let next_sequence =
            lost.iter().map(|gap| gap.last_sequence + 1).fold(recovered.next_sequence, u64::max);
        // Named first: the new state no longer says that they were durable.
        for gap in lost {
            let _ = gaps.add(gap);
        }
        gaps.write()?;
        let state = self.begin_epoch(&mut state_file, &before, &recovered, next_sequence)?;
        let mut destinations = Destinations::new(Arc::clone(&self.disk), store, cursors, gaps);
        // One that nobody sends to would hold every slot for ever.
        let first = self.config.sinks.first().map_or(DEFAULT_DESTINATION, |sink| sink.name.as_str());
        destinations.open(first)?;
        // What was confirmed before this open makes room in it.
        let _ = recovered.catalog.recycle_through(destinations.persist_twice()?);
        let files = Files { state_file, state, destinations, recovered, next_sequence, report };
        self.assemble(clock, files)
    }

    /// `state`, made if the directory is new, healed if it is damaged.
    fn state(&self) -> Result<(StateFile, Vec<String>)> {
        let disk = self.disk.as_ref();
        let blank = match StateFile::open(disk, None, Access::Write)? {
            Found::Sound(file) => return Ok((file, Vec::new())),
            Found::Missing => true,
            Found::Damaged { blank } => blank,
        };
        let names =
            disk.names().map_err(|error| Error::io(format!("{} can't be listed", self.place), error))?;
        let slots = names.iter().any(|name| format::slot_of_name(name).is_some());
        let (store, report) = match store_of_slots(disk, &names).filter(|_| slots) {
            Some(store) => (store, vec!["state was lost: it was made anew from the segments".to_owned()]),
            None if blank => (self.draw_store_id(), Vec::new()),
            None => (
                self.draw_store_id(),
                vec!["state was damaged, and no segment tells whose it was".to_owned()],
            ),
        };
        let state = self.first_state()?;
        let file = if names.iter().any(|name| name == "state") {
            StateFile::replace(disk, store, state)?
        } else {
            StateFile::create(disk, store, state)?
        };
        self.sync_names()?;
        Ok((file, report))
    }

    fn first_state(&self) -> Result<StoreState> {
        let free = self.disk.free_bytes();
        let free =
            free.map_err(|error| Error::io(format!("{}: its free space is unknown", self.place), error))?;
        let sizes = self.config.sizes(free)?;
        let (segment_bytes, disk_bytes_cap) = (sizes.segment_bytes, sizes.disk_bytes_cap);
        Ok(StoreState { segment_bytes, disk_bytes_cap, clean: true, ..StoreState::default() })
    }

    fn draw_store_id(&self) -> StoreId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.disk.random().to_le_bytes());
        bytes[8..].copy_from_slice(&self.disk.random().to_le_bytes());
        // As a random UUID, version 4.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        StoreId(bytes)
    }

    fn gaps(&self, store: StoreId) -> Result<(GapFile, Option<String>)> {
        let disk = self.disk.as_ref();
        match GapFile::open(disk, store, Access::Write)? {
            Found::Sound(file) => Ok((file, None)),
            Found::Missing => {
                let file = GapFile::create(disk, store)?;
                self.sync_names()?;
                Ok((file, None))
            }
            Found::Damaged { blank } => {
                let report =
                    (!blank).then(|| "gaps was damaged: what it named is found again as damage".to_owned());
                Ok((GapFile::replace(disk, store)?, report))
            }
        }
    }

    /// A slot whose making was cut short holds nothing, and its size is no slot's.
    fn remove_half_made(&self, refused: &[Refused], report: &mut Vec<String>) {
        for slot in refused.iter().filter(|refused| refused.reason == RefusedReason::HalfMade) {
            let name = format::slot_name(slot.slot);
            match self.disk.remove(&name) {
                Ok(()) => report.push(format!("{name} was half made, with nothing in it: it was removed")),
                // It is no room, and in nobody's way.
                Err(error) => report.push(format!("{name} is half made, and can't be removed: {error}")),
            }
        }
    }

    /// Every cursor; one that is gone or can't be believed goes back to what the newest segment header repeats, or to
    /// the oldest segment: repeats, never loss.
    fn cursors(&self, store: StoreId, scan: &Scan, report: &mut Vec<String>) -> Result<Vec<Cursor>> {
        let disk = self.disk.as_ref();
        let mut cursors = Vec::new();
        let mut told = |name: &str, what: &str| {
            report.push(format!("cursor-{name} was {what}: that destination may get records again"));
        };
        for name in Cursor::names(disk)? {
            cursors.push(match Cursor::open(disk, &name, store, Access::Write)? {
                Found::Sound(cursor) => cursor,
                Found::Missing => continue,
                Found::Damaged { blank } => {
                    if !blank {
                        told(&name, "damaged");
                    }
                    Cursor::replace(disk, &name, store, repeated_in(scan, &name))?
                }
            });
        }
        for name in repeated_names(scan) {
            if cursors.iter().all(|cursor| cursor.name() != name) {
                told(&name, "gone");
                cursors.push(Cursor::create(disk, &name, store, repeated_in(scan, &name))?);
                self.sync_names()?;
            }
        }
        Ok(cursors)
    }

    /// Everything durable is checked by readers; what only the opener can know to be lost is named here.
    fn losses(
        &self,
        before: &StoreState,
        known: &Known,
        recovered: &Recovered,
        report: &mut Vec<String>,
    ) -> Vec<Gap> {
        let mut lost = Vec::new();
        let first_missing = recovered.last_sequence.max(known.confirmed_max) + 1;
        if !before.clean && first_missing <= known.last_gap {
            // A gap reached the disk and the records before it did not: what it does not name is named too.
            lost.push(Gap::of_range(before.epoch, first_missing, known.last_gap, Reason::UncleanStop));
        }
        if let Some(tail) = &recovered.lost_tail {
            report.push(format!(
                "{}: records {} to {} were durable and are gone",
                tail.file, tail.first_sequence, tail.last_sequence
            ));
            lost.push(Gap::of_range(before.epoch, tail.first_sequence, tail.last_sequence, Reason::Corrupt));
        }
        if !before.clean && before.exposed {
            let first = lost.last().map_or(recovered.next_sequence, |gap: &Gap| gap.last_sequence + 1);
            let last = before.appended_sequence.max(first);
            report
                .push(format!("an unclean stop: records from {first} on that were in memory alone are lost"));
            lost.push(Gap::of_range(before.epoch, first, last, Reason::UncleanStop));
        }
        lost
    }

    fn begin_epoch(
        &self,
        file: &mut StateFile,
        before: &StoreState,
        recovered: &Recovered,
        next: u64,
    ) -> Result<StoreState> {
        let group = self.config.sync == SyncPolicy::Group;
        // A `state` that was made anew knows no epoch: above all that the segments know, or what is written now
        // would be taken for a leftover.
        let newest = recovered.epochs.iter().map(|(epoch, _)| epoch).fold(before.epoch, Epoch::max);
        let state = StoreState {
            epoch: newest.next(self.disk.random() as u32),
            epoch_base: recovered.epoch_base,
            // Of the log, not of gaps: recovery looks for everything up to here.
            durable_sequence: recovered.last_sequence,
            appended_sequence: next - 1,
            segment_id_max: recovered.catalog.segment_id_max().max(before.segment_id_max),
            clean: false,
            exposed: !(group && self.config.spill == SpillMode::Always),
            ..*before
        };
        file.write(state)?;
        Ok(state)
    }

    fn assemble(self, clock: &Arc<Clock>, files: Files) -> Result<(Store, Driver)> {
        let Files { state_file, state, destinations, recovered, next_sequence, report } = files;
        let store = state_file.store();
        let config = self.config;
        // Half of the free space at creation is the cap: `sizes` halves what it is told.
        let sizes = config.sizes(state.disk_bytes_cap.saturating_mul(2))?;
        // A slot keeps its size when the setting changes: blocks and records fit the smallest there is.
        let slot_bytes = recovered.catalog.slot_bytes_min().unwrap_or(u64::MAX).min(sizes.segment_bytes);
        let block_bytes = block_bytes(config, slot_bytes);
        let record_limit = sizes.record_limit(slot_bytes);
        let arena = Arena::new(block_bytes, config.queue.bytes as usize / block_bytes + PAGE_COUNT)
            .map_err(|error| Error::io("the memory queue can't be mapped: lower queue.bytes", error))?;
        let tail = recovered.catalog.segments().next_back().copied().filter(|tail| !tail.sealed);
        let settings = self.settings(store, &state, &sizes, block_bytes);
        let catalog = Arc::new(Mutex::new(self.slots(recovered.catalog, &destinations)));
        let mut epochs = recovered.epochs;
        epochs.insert(state.epoch, state.epoch_base);
        let mut writer = self.writer(&arena, settings, &catalog, &destinations, recovered.last_sequence)?;
        if let Some(tail) = tail {
            let name = format::slot_name(tail.slot);
            writer.resume(&tail).map_err(|error| Error::io(format!("{name} can't be written on"), error))?;
        }
        let info = writer.device().info().clone();
        let queue =
            MemoryQueue::new(arena, Seed::new(store, state.epoch), config.queue.records, next_sequence);
        let shared = Arc::new(Shared {
            store,
            epoch: state.epoch,
            clock: Arc::clone(clock),
            queue: Mutex::new(queue),
            marks: Marks::new(next_sequence - 1, destinations.slowest()),
            catalog,
            epochs,
            disk: Arc::clone(&self.disk),
            unnamed_from: destinations.unnamed_from(),
            destinations: Mutex::new(destinations),
            full: config.queue.full,
            durable_first: config.sync == SyncPolicy::Group,
            to_log: AtomicBool::new(config.spill == SpillMode::Always),
            closing: AtomicBool::new(false),
            wants: AtomicU8::new(0),
            writer: WriterWake::new(writer.device().waker()),
            log_full: AtomicBool::new(false),
            room_wanted: AtomicBool::new(false),
            room_freed: AtomicBool::new(false),
            reader_wants: AtomicBool::new(false),
            segment_bytes: sizes.segment_bytes,
            disk_bytes_cap: sizes.disk_bytes_cap,
            listeners: Mutex::default(),
            durably: AtomicU8::new(settings.durably as u8),
            counts: Counts::default(),
        });
        let linger_ns = config.write.batch_linger_unawaited.as_nanos() as u64;
        let write_ahead = config.spill == SpillMode::Always;
        let run_ahead = write_ahead.then(|| RunAhead::new(window_blocks(settings.depth)));
        let keeper = StateKeeper::new(state_file);
        let mut driver = Driver::new(Arc::clone(&shared), writer, keeper, linger_ns, run_ahead);
        driver.prepare()?;
        driver.chooses = config.write.sync_method == SyncMethod::Auto && config.sync == SyncPolicy::Group;
        let store = Store {
            shared,
            thread: None,
            driver: None,
            record_limit,
            device: info,
            recovery: report,
            lock: None,
        };
        Ok((store, driver))
    }

    fn settings(
        &self,
        store: StoreId,
        state: &StoreState,
        sizes: &Sizes,
        block_bytes: usize,
    ) -> WriterSettings {
        let metadata_bytes = (sizes.disk_bytes_cap / 16).clamp(METADATA_BYTES_MIN, METADATA_BYTES);
        WriterSettings {
            store,
            epoch: state.epoch,
            epoch_base: state.epoch_base,
            segment_bytes: sizes.segment_bytes,
            slots_bytes_max: sizes.disk_bytes_cap.saturating_sub(metadata_bytes),
            free_bytes_min: self.config.disk.free_bytes_min,
            warm_bytes: sizes.warm_bytes,
            depth: self.config.write.depth as usize,
            block_bytes_max: block_bytes as u64,
            cadence: cadence(self.config.sync),
            durably: durably(self.config.write.sync_method),
        }
    }

    /// The slots as this open finds them: what every destination has is spare, and it is known which are warm.
    fn slots(&self, mut catalog: Catalog, destinations: &Destinations) -> Catalog {
        catalog.recycle_through(destinations.recyclable());
        learn_written(self.disk.as_ref(), &mut catalog);
        catalog
    }

    fn writer(
        &self,
        arena: &Arc<Arena>,
        settings: WriterSettings,
        catalog: &Arc<Mutex<Catalog>>,
        destinations: &Destinations,
        last_logged: u64,
    ) -> Result<LogWriter> {
        let options = DeviceOptions {
            backend: self.config.write.backend,
            in_flight_count_max: settings.depth + PAGE_COUNT,
            registered_bytes_max: REGISTERED_WRITE_BYTES_MAX,
        };
        let device = self.disk.write_device(arena, options);
        let device = device.map_err(|error| {
            Error::new(Kind::Unsupported, format!("no write device ({error}): take backend = \"auto\""))
        })?;
        let device = match self.config.write.sync_method {
            SyncMethod::FdatasyncThread => Box::new(
                SyncThread::new(device)
                    .map_err(|error| Error::io("the thread for syncs can't be started", error))?,
            ),
            _ => device,
        };
        let pages =
            (0..PAGE_COUNT).map(|_| arena.take().expect("an arena begins with all its slots")).collect();
        let notes = destinations.notes();
        let (disk, catalog) = (Arc::clone(&self.disk), Arc::clone(catalog));
        Ok(LogWriter::new(settings, disk, device, catalog, notes, pages, last_logged))
    }

    fn stops_at(&self, damage: &Damage) -> Error {
        Error::new(
            Kind::Corrupt,
            format!(
                "{} is damaged at byte {} (records {} to {}), and on_damage = \"stop\": run forebay verify, then set on_damage = \"gap\"",
                damage.file, damage.offset, damage.first_sequence, damage.last_sequence
            ),
        )
    }

    fn sync_names(&self) -> Result<()> {
        self.disk
            .sync_names()
            .map_err(|error| Error::io(format!("{} can't be made durable", self.place), error))
    }
}

fn known(state: &StoreState, cursors: &[Cursor], gaps: &GapFile) -> Known {
    let confirmed = || cursors.iter().map(|cursor| cursor.state().confirmed);
    Known {
        state: Some(state.encode()),
        confirmed_min: confirmed().min().unwrap_or(0),
        confirmed_max: confirmed().max().unwrap_or(0),
        last_gap: gaps.iter().map(|gap| gap.last_sequence).max().unwrap_or(0),
        ..Known::default()
    }
}

/// Whether a file of this name is one that a store makes.
fn is_ours(name: &str) -> bool {
    matches!(name, LOCK_NAME | "state" | "gaps" | "quarantine")
        || name.starts_with("cursor-")
        || format::slot_of_name(name).is_some()
}

/// An open that fails leaves no half of a store where none was. Called while the lock is held; where it can't be done
/// the next open goes on from what is there.
fn take_back(disk: &dyn Disk) {
    let names = disk.names().unwrap_or_default();
    let rest = names.iter().filter(|name| is_ours(name) && !matches!(name.as_str(), "state" | LOCK_NAME));
    let removed = rest.map(|name| disk.remove(name)).all(|removed| removed.is_ok());
    // What `state` alone tells the owner of goes before it, whatever a power cut takes; the lock goes last.
    if removed && disk.sync_names().is_ok() {
        let _ = disk.remove("state");
        let _ = disk.remove(LOCK_NAME);
    }
}

/// Whose the first sound slot is.
pub(super) fn store_of_slots(disk: &dyn Disk, names: &[String]) -> Option<StoreId> {
    let arena = Arena::new(ALIGNMENT, 1).ok()?;
    let mut slot = arena.take()?;
    names.iter().filter(|name| format::slot_of_name(name).is_some()).find_map(|name| {
        let file = disk.open(name, Access::ReadDirect).ok()?;
        file.read_at(&mut slot, 0).ok()?;
        match format::open_envelope(format::Envelope::Segment, &slot) {
            format::Opened::Sound { store, .. } => Some(store),
            _ => None,
        }
    })
}

/// What was opened, before it is put together.
struct Files {
    state_file: StateFile,
    state: StoreState,
    destinations: Destinations,
    recovered: Recovered,
    next_sequence: u64,
    report: Vec<String>,
}

/// Blocks are at most a quarter of a segment, so that little is left over at its end.
fn block_bytes(config: &Config, segment_bytes: u64) -> usize {
    let quarter = segment_bytes / 4 / ALIGNMENT as u64 * ALIGNMENT as u64;
    config.write.batch_bytes.min(quarter) as usize
}

fn durably(method: SyncMethod) -> Durably {
    match method {
        SyncMethod::Auto => Durably::SmallByWrite,
        SyncMethod::Dsync => Durably::ByWrite,
        SyncMethod::Fdatasync | SyncMethod::FdatasyncThread => Durably::BySync,
    }
}

fn cadence(sync: SyncPolicy) -> Cadence {
    match sync {
        SyncPolicy::Group => Cadence::Group,
        SyncPolicy::Interval(interval) => Cadence::Interval(interval.as_nanos() as u64),
        SyncPolicy::None => Cadence::Never,
    }
}

const _: () = assert!(METADATA_BYTES_MIN < METADATA_BYTES);
