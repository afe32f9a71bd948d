//! Slots for the segments to come: made ahead of need, zero-written while nothing else happens, given back when there
//! are too many.
//!
//! ```text
//!  make       create and allocate ─► sync the file ─► sync the names ─► spare, cold
//!  warm       spare ─► zeros, a write at a time ─► sync ─► spare, warm
//!  give back  spare ─► (out of the catalog) ─► remove the name ─► sync the names
//! ```
//!
//! One of these at a time, with one operation in flight beside those of the log. What the log needs is made at
//! once (`Spares::stock_up`); the rest is done only while the log is quiet (`Spares::plan`), in steps so small
//! that a new block waits for one of them at most. A crash at any point leaves a spare more or a spare less.
//!
//! It knows slots, not what a segment holds. Zeros are written only behind what is known to have been written: a segment
//! that a crash brings back has all its blocks, or nobody needs it, as when its slot was begun anew.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind, Result};
use crate::io::{Access, Completion, Disk, File, FileIndex, Operation, Slot, WriteDevice};
use crate::segment::catalog::{Catalog, Spare};
use crate::segment::format::{ALIGNMENT, slot_name};
use crate::segment::writer::{WriterCounts, WriterSettings, lock};

/// Slots that are ready before the log needs them: while one is filled, the next one can be made.
pub const AHEAD_COUNT: usize = 2;

/// How long the log has been quiet when it counts as idle.
pub const IDLE_NS: u64 = 50_000_000;

/// Between two slots that are given back, and before the first.
const GIVE_BACK_NS: u64 = 1_000_000_000;

/// How long after a refusal the disk is asked for room again.
pub const ROOM_RETRY_NS: u64 = 200_000_000;

/// Slots in a row that could not be made, for another reason than space, after which writing ends.
const FAILURES_MAX: u32 = 3;

/// In a token: this is not of the log.
pub(super) const SPARE: u64 = 1 << 62;

/// What there is for the next segment.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// A slot.
    Ready,
    /// None yet, and an operation is in flight after which there is one, or it is known that there is none.
    Coming,
    /// None, and none can be had now.
    Spent,
}

/// How much the log wants of its slots just now.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    /// Since when nothing was to be written; `None` while something is.
    pub since_ns: Option<u64>,
    /// Records go to the log because memory or the destination does not take them.
    pub spilling: bool,
    /// This open has written blocks: a store that never does writes no zeros either.
    pub has_written: bool,
}

/// What is done while the log is quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chore {
    Make,
    Warm(Spare),
    GiveBack(Spare),
}

/// A slot that is zero-written.
#[derive(Debug, Clone, Copy)]
struct Warming {
    slot: u32,
    file: FileIndex,
    /// Where the next zeros go.
    offset: u64,
    end: u64,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Rest,
    /// To be begun by [`Spares::carry_out`]; what is to be given back is in no catalog any more.
    Planned(Chore),
    SyncingFile {
        spare: Spare,
        file: FileIndex,
    },
    SyncingNames(Spare),
    /// A write of zeros is in flight.
    Writing(Warming),
    /// None is, and the file is attached.
    Written(Warming),
    SyncingZeros(Warming),
    GivingBack,
}

/// The slots that no segment is in. Owned by the writer.
#[derive(Debug)]
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    catalog: Arc<Mutex<Catalog>>,
    segment_bytes: u64,
    slots_bytes_max: u64,
    free_bytes_min: u64,
    warm_bytes: u64,
    zeros: Arc<Slot>,
    step: Step,
    /// The disk had no room; until when it is not asked again.
    retry_ns: u64,
    gave_back_ns: u64,
    /// A chore was refused while there were so many spares: there is no other until that has changed.
    refused_at: Option<usize>,
    failures_in_row: u32,
    failure: Option<Error>,
    counts: WriterCounts,
}

impl Spares {
    /// `zeros` is a slot of the device's arena: what the largest write of zeros is written from.
    pub(super) fn new(
        settings: &WriterSettings,
        disk: Arc<dyn Disk>,
        catalog: Arc<Mutex<Catalog>>,
        mut zeros: Slot,
    ) -> Self {
        zeros.fill(0);
        Self {
            disk,
            catalog,
            segment_bytes: settings.segment_bytes,
            slots_bytes_max: settings.slots_bytes_max,
            free_bytes_min: settings.free_bytes_min,
            // All there is can be warm, and no more.
            warm_bytes: settings.warm_bytes.min(settings.slots_bytes_max),
            zeros: Arc::new(zeros),
            step: Step::Rest,
            retry_ns: 0,
            gave_back_ns: 0,
            refused_at: None,
            failures_in_row: 0,
            failure: None,
            counts: WriterCounts::default(),
        }
    }

    /// What was done here; of what is counted elsewhere, `whole`.
    pub(super) fn counts(&self, whole: WriterCounts) -> WriterCounts {
        let WriterCounts { slots, slots_given_back, zero_bytes, .. } = self.counts;
        WriterCounts { slots, slots_given_back, zero_bytes, ..whole }
    }

    /// Whether no operation is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.step, Step::Rest | Step::Planned(_) | Step::Written(_))
    }

    /// Takes the warmest slot to begin a segment in. Not one that zeros are on their way to: they would land on
    /// its blocks.
    pub(super) fn take(&mut self, device: &mut dyn WriteDevice) -> Option<Spare> {
        self.pause(device);
        lock(&self.catalog).take_spare(self.written_to())
    }

    /// What there is for the next segment.
    pub(super) fn stock(&self) -> Stock {
        let written_to = self.written_to();
        let ready = lock(&self.catalog).spares().any(|spare| Some(spare.slot) != written_to);
        match ready {
            true => Stock::Ready,
            false if self.is_quiet() => Stock::Spent,
            false => Stock::Coming,
        }
    }

    fn written_to(&self) -> Option<u32> {
        if let Step::Writing(warming) = self.step { Some(warming.slot) } else { None }
    }

    /// Sees to it that `ahead` slots are there for the segments to come: begins to make one, if the cap and the disk
    /// allow. Blocks for its allocation, not for a sync.
    ///
    /// # Errors
    /// Several slots in a row could not be made, and there is none.
    pub(super) fn stock_up(
        &mut self,
        device: &mut dyn WriteDevice,
        ahead: usize,
        now_ns: u64,
    ) -> Result<Stock> {
        if lock(&self.catalog).spares().len() < ahead {
            self.pause(device);
            if matches!(self.step, Step::Rest) {
                self.make(device, now_ns);
            }
        }
        let stock = self.stock();
        match self.failure.take().filter(|_| stock == Stock::Spent) {
            Some(error) => Err(error),
            None => Ok(stock),
        }
    }

    /// The first slot, before anybody appends, and before the device has a thread to wait on: all of it with calls
    /// that block. False when there is none.
    pub(super) fn make_at_once(&mut self) -> Result<bool> {
        if lock(&self.catalog).spares().len() > 0 {
            return Ok(true);
        }
        let made = self.create().and_then(|created| {
            let Some((spare, file)) = created else { return Ok(false) };
            let durable = file.sync().and_then(|()| self.disk.sync_names());
            self.settle(spare, durable).map(|()| true)
        });
        made.or_else(|error| {
            let error = self.cannot_make(error);
            if error.kind() == Kind::NoSpace { Ok(false) } else { Err(error) }
        })
    }

    /// Chooses what is done while the log is quiet; a slot that is given back leaves the catalog here. Changes
    /// nothing on disk.
    pub(super) fn plan(&mut self, quiet: Quiet, now_ns: u64) {
        let Step::Rest = self.step else { return };
        if self.due_ns(quiet).is_none_or(|due| now_ns < due) {
            return;
        }
        let Some(chore) = self.chore(quiet) else { return };
        if let Chore::GiveBack(spare) = chore {
            lock(&self.catalog).remove_spare(spare.slot);
            self.gave_back_ns = now_ns;
        }
        self.step = Step::Planned(chore);
    }

    /// When there is something to do although nothing happens.
    pub(super) fn due_ns(&self, quiet: Quiet) -> Option<u64> {
        let since = quiet.since_ns.filter(|_| matches!(self.step, Step::Rest))?;
        match self.chore(quiet)? {
            Chore::Make | Chore::Warm(_) => Some(since + IDLE_NS),
            Chore::GiveBack(_) => Some(since.max(self.gave_back_ns) + GIVE_BACK_NS),
        }
    }

    fn chore(&self, quiet: Quiet) -> Option<Chore> {
        let catalog = lock(&self.catalog);
        if self.refused_at == Some(catalog.spares().len()) {
            return None;
        }
        let bytes = |spare: &Spare| spare.segment_bytes;
        let spare_bytes: u64 = catalog.spares().map(bytes).sum();
        let warm_bytes: u64 = catalog.spares().filter(|spare| spare.is_warm()).map(bytes).sum();
        let coldest = catalog.spares().min_by_key(|spare| spare.written_bytes).copied();
        let begun = catalog.spares().filter(|spare| !spare.is_warm()).max_by_key(|spare| spare.written_bytes);
        if let Some(spare) = begun.filter(|spare| warm_bytes + spare.segment_bytes <= self.warm_bytes)
            && quiet.has_written
        {
            return Some(Chore::Warm(*spare));
        }
        if quiet.has_written && spare_bytes + self.segment_bytes <= self.warm_bytes && self.fits(&catalog) {
            return Some(Chore::Make);
        }
        // Over a cap that was lowered only what is needed ahead stays.
        let kept_bytes = if catalog.slot_bytes() > self.slots_bytes_max { 0 } else { self.warm_bytes };
        let given = coldest.filter(|spare| {
            catalog.spares().len() > AHEAD_COUNT && spare_bytes - spare.segment_bytes >= kept_bytes
        });
        given.filter(|_| !quiet.spilling).map(Chore::GiveBack)
    }

    fn fits(&self, catalog: &Catalog) -> bool {
        catalog.slot_bytes() + self.segment_bytes <= self.slots_bytes_max
    }

    /// Goes on with what was planned; stops between two writes of zeros when the log is quiet no more.
    pub(super) fn carry_out(&mut self, device: &mut dyn WriteDevice, quiet: Quiet, now_ns: u64) {
        match self.step {
            Step::Written(warming) if quiet.since_ns.is_some() => self.write_zeros(device, warming),
            Step::Written(_) => self.pause(device),
            Step::Planned(chore) => {
                self.step = Step::Rest;
                match chore {
                    Chore::Make => self.make(device, now_ns),
                    Chore::Warm(spare) => self.begin_warming(device, spare),
                    Chore::GiveBack(spare) => self.give_back(device, spare),
                }
                // What could not be begun is not begun again and again.
                if matches!(self.step, Step::Rest) {
                    self.refuse_chores();
                }
            }
            _ => {}
        }
    }

    /// Takes in an operation that is over.
    pub(super) fn complete(&mut self, device: &mut dyn WriteDevice, completion: Completion, now_ns: u64) {
        let result = completion.result;
        match mem::take(&mut self.step) {
            Step::SyncingFile { spare, file } => {
                device.detach(file);
                match result {
                    Ok(_) => {
                        device.submit(Operation::SyncNames { token: SPARE });
                        self.step = Step::SyncingNames(spare);
                    }
                    Err(error) => self.made(spare, Err(error), now_ns),
                }
            }
            Step::SyncingNames(spare) => self.made(spare, result.map(drop), now_ns),
            Step::Writing(warming) => self.wrote_zeros(device, warming, result),
            Step::SyncingZeros(warming) => {
                device.detach(warming.file);
                match result {
                    Ok(_) => lock(&self.catalog).set_written(warming.slot, warming.end),
                    Err(error) => self.retire(warming.slot, &error),
                }
            }
            Step::GivingBack => {
                self.counts.slots_given_back += 1;
                if let Err(error) = result {
                    tracing::warn!(error = %error, "the names of slots can't be synced");
                    self.refuse_chores();
                }
            }
            Step::Rest | Step::Planned(_) | Step::Written(_) => unreachable!("nothing was in flight"),
        }
    }

    fn create(&mut self) -> io::Result<Option<(Spare, Arc<dyn File>)>> {
        let segment_bytes = self.segment_bytes;
        if !self.fits(&lock(&self.catalog)) {
            return Ok(None);
        }
        if self.disk.free_bytes()? < segment_bytes + self.free_bytes_min {
            return Ok(None);
        }
        let slot = lock(&self.catalog).next_slot();
        let file = self.disk.create(&slot_name(slot), segment_bytes, Access::WriteDirect)?;
        // Filled with zeros where there is no fallocate; else cold.
        let written_bytes = file.written_bytes().unwrap_or(0);
        Ok(Some((Spare { slot, segment_bytes, written_bytes }, file)))
    }

    fn make(&mut self, device: &mut dyn WriteDevice, now_ns: u64) {
        if now_ns < self.retry_ns || !self.fits(&lock(&self.catalog)) {
            return;
        }
        match self.create() {
            Ok(Some((spare, file))) => match device.attach(file) {
                Ok(file) => {
                    device.submit(Operation::Sync { token: SPARE, file });
                    self.step = Step::SyncingFile { spare, file };
                }
                Err(error) => self.made(spare, Err(error), now_ns),
            },
            Ok(None) => self.retry_ns = now_ns + ROOM_RETRY_NS,
            Err(error) => self.refused(error, now_ns),
        }
    }

    /// The making of `spare` has ended.
    fn made(&mut self, spare: Spare, durable: io::Result<()>, now_ns: u64) {
        if let Err(error) = self.settle(spare, durable) {
            self.refused(error, now_ns);
        }
    }

    /// A slot whose name and size are durable is a spare; any other is none.
    fn settle(&mut self, spare: Spare, durable: io::Result<()>) -> io::Result<()> {
        if durable.is_ok() {
            self.counts.slots += 1;
            self.failures_in_row = 0;
            lock(&self.catalog).add_spare(spare);
        } else {
            // Half-made: taken back; if even that fails, recovery sees a slot with nothing in it.
            let _ = self.disk.remove(&slot_name(spare.slot));
        }
        durable
    }

    fn refused(&mut self, error: io::Error, now_ns: u64) {
        self.retry_ns = now_ns + ROOM_RETRY_NS;
        let error = self.cannot_make(error);
        if error.kind() == Kind::NoSpace {
            return;
        }
        tracing::error!(error = %error, "a slot could not be made");
        self.failures_in_row += 1;
        if self.failures_in_row >= FAILURES_MAX {
            self.failure = Some(error);
        }
    }

    fn cannot_make(&self, error: io::Error) -> Error {
        Error::io(format!("a slot can't be made in {}: see the cause", self.disk.place()), error)
    }

    fn begin_warming(&mut self, device: &mut dyn WriteDevice, spare: Spare) {
        let opened = self.disk.open(&slot_name(spare.slot), Access::WriteDirect);
        match opened.and_then(|file| device.attach(file)) {
            Ok(file) => {
                let whole = |bytes: u64| bytes / ALIGNMENT as u64 * ALIGNMENT as u64;
                let (offset, end) = (whole(spare.written_bytes), whole(spare.segment_bytes));
                self.write_zeros(device, Warming { slot: spare.slot, file, offset, end });
            }
            Err(error) => {
                tracing::warn!(slot = spare.slot, error = %error, "a spare slot can't be opened to be zero-written");
            }
        }
    }

    fn write_zeros(&mut self, device: &mut dyn WriteDevice, warming: Warming) {
        let Warming { file, offset, end, .. } = warming;
        let bytes = (self.zeros.len() as u64).min(end - offset) as usize;
        let slot = Arc::clone(&self.zeros);
        device.submit(Operation::Write { token: SPARE, file, slot, range: 0..bytes, offset, dsync: false });
        self.step = Step::Writing(warming);
    }

    fn wrote_zeros(&mut self, device: &mut dyn WriteDevice, mut warming: Warming, result: io::Result<usize>) {
        // A short write goes on at an aligned place.
        let moved = result.map(|bytes| (bytes / ALIGNMENT * ALIGNMENT) as u64);
        match moved {
            Ok(0) | Err(_) => {
                device.detach(warming.file);
                let error = moved.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded
                {
                    // A file system that copies on write: nothing is wrong with the slot.
                    tracing::warn!(slot = warming.slot, error = %error, "no space to zero-write a spare slot");
                    self.refuse_chores();
                } else {
                    self.retire(warming.slot, &error);
                }
            }
            Ok(bytes) => {
                self.counts.zero_bytes += bytes;
                warming.offset += bytes;
                if warming.offset < warming.end {
                    lock(&self.catalog).set_written(warming.slot, warming.offset);
                    self.step = Step::Written(warming);
                } else {
                    // It is warm when the sync is back.
                    device.submit(Operation::Sync { token: SPARE, file: warming.file });
                    self.step = Step::SyncingZeros(warming);
                }
            }
        }
    }

    /// Lets go of a slot that is being zero-written, between two writes: its turn comes again.
    fn pause(&mut self, device: &mut dyn WriteDevice) {
        if let Step::Written(warming) = self.step {
            device.detach(warming.file);
            self.step = Step::Rest;
        }
    }

    fn give_back(&mut self, device: &mut dyn WriteDevice, spare: Spare) {
        match self.disk.remove(&slot_name(spare.slot)) {
            Ok(()) => {
                device.submit(Operation::SyncNames { token: SPARE });
                self.step = Step::GivingBack;
            }
            Err(error) => {
                lock(&self.catalog).add_spare(spare);
                tracing::warn!(slot = spare.slot, error = %error, "a spare slot can't be removed");
            }
        }
    }

    /// A slot that failed is not used again.
    fn retire(&mut self, slot: u32, error: &io::Error) {
        lock(&self.catalog).remove_spare(slot);
        tracing::error!(slot, error = %error, "zeros can't be written to a spare slot: it is given up");
    }

    fn refuse_chores(&mut self) {
        self.refused_at = Some(lock(&self.catalog).spares().len());
    }
}

/// Asks the file system how much of each spare was written before: which of them are warm.
pub fn learn_written(disk: &dyn Disk, catalog: &mut Catalog) {
    let slots: Vec<u32> = catalog.spares().map(|spare| spare.slot).collect();
    for slot in slots {
        let file = disk.open(&slot_name(slot), Access::ReadDirect);
        // Whoever can't tell is cold.
        let written_bytes = file.and_then(|file| file.written_bytes()).unwrap_or(0);
        catalog.set_written(slot, written_bytes);
    }
}
