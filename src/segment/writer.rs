//! Puts blocks into segments, in order: write, then sync, then durable.
//!
//! ```text
//!  place ──► line: [ header │ block │ block │ … ]  in log order, some in flight, some received
//!                    └── one sync covers the received front, within one file ──► popped: durable
//! ```
//!
//! One sync stream: while a sync runs, the next blocks are written. A sync covers only writes whose
//! completions were received before it was submitted, and durable moves only over the front of the line, so
//! that nothing is durable before everything in front of it is, across segment borders too. A small group is one
//! write that carries its own sync ([`Durably`]): durable when it is back, in its turn. A durable block
//! is never rewritten. A failed write or sync is final for its segment: nothing since the last good sync is
//! believed, and the caller places those blocks again, in a fresh segment.
//!
//! It knows no queue: it is handed one block at a time, and says how far the marks have moved.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use zerocopy::little_endian::U64;
use zerocopy::{FromZeros, IntoBytes};

use crate::block::{Block, Place};
use crate::error::{Error, Result};
use crate::io::{Access, Completion, Disk, FileIndex, Operation, Slot, Wait, WriteDevice, lacks_descriptors};
use crate::segment::catalog::{Catalog, Segment, Spare};
use crate::segment::format::{self, ALIGNMENT, Envelope, FIRST_BLOCK_OFFSET, Summary};
use crate::segment::room::Room;
use crate::segment::spares::{SPARE, Spares};

mod entry;
mod failure;
mod slots;
mod small;
mod terms;

use entry::{Active, Content, Entry, SyncInFlight};
use terms::Device;
pub use terms::{Cadence, Durably, Notes, Placed, Progress, WriterCounts, WriterSettings};

/// Pages that headers and summaries are written from, two of them in use at a border; and one of zeros.
pub const PAGE_COUNT: usize = 5;

/// Failures in a row, each in a fresh segment, after which writing ends.
const FAILURES_MAX: u32 = 3;

/// How many times a write that moved no bytes is tried again.
const EMPTY_WRITES_MAX: u32 = 8;

/// In a token: this is a sync.
const SYNC: u64 = 1 << 63;

/// The writing end of the log. Owned by one thread.
#[derive(Debug)]
pub struct LogWriter {
    settings: WriterSettings,
    disk: Arc<dyn Disk>,
    device: Device,
    catalog: Arc<Mutex<Catalog>>,
    spares: Spares,
    notes: Arc<Mutex<Notes>>,
    active: Option<Active>,
    line: VecDeque<Entry>,
    /// The token of the front of the line.
    front_token: u64,
    /// Entries at the front that are received.
    received_front: usize,
    in_flight: usize,
    sync: Option<SyncInFlight>,
    sync_begun_ns: u64,
    /// When the last wait was over.
    now_ns: u64,
    pages: Vec<Slot>,
    last_logged: u64,
    /// The last record that is whole on stable storage.
    last_synced: u64,
    /// A segment could not be begun for want of descriptors, and that was told.
    lacks_descriptors: bool,
    failing: Option<io::Error>,
    failures_in_row: u32,
    completions: Vec<Completion>,
    counts: WriterCounts,
}

impl LogWriter {
    /// A writer that goes on behind `last_logged`. `pages` are [`PAGE_COUNT`] slots of the device's arena.
    pub fn new(
        settings: WriterSettings,
        disk: Arc<dyn Disk>,
        device: Box<dyn WriteDevice>,
        catalog: Arc<Mutex<Catalog>>,
        notes: Arc<Mutex<Notes>>,
        mut pages: Vec<Slot>,
        last_logged: u64,
    ) -> Self {
        let zeros = pages.pop().expect("PAGE_COUNT pages");
        Self {
            spares: Spares::new(&settings, Arc::clone(&disk), Arc::clone(&catalog), zeros),
            settings,
            disk,
            device: Device(device),
            catalog,
            notes,
            active: None,
            line: VecDeque::new(),
            front_token: 0,
            received_front: 0,
            in_flight: 0,
            sync: None,
            sync_begun_ns: 0,
            now_ns: 0,
            pages,
            last_logged,
            last_synced: last_logged,
            lacks_descriptors: false,
            failing: None,
            failures_in_row: 0,
            completions: Vec::new(),
            counts: WriterCounts::default(),
        }
    }

    /// Goes on in the segment that recovery has cut, behind its last block.
    pub fn resume(&mut self, segment: &Segment) -> io::Result<()> {
        let file = self.disk.open(&format::slot_name(segment.slot), Access::WriteDirect)?;
        self.active = Some(Active {
            id: segment.id,
            file: self.device.0.attach(file)?,
            offset: segment.end,
            end: format::blocks_end(segment.segment_bytes),
            segment_bytes: segment.segment_bytes,
            // Of what an earlier open wrote here nothing was counted: a scan will.
            summary: Summary::new_zeroed(),
        });
        Ok(())
    }

    /// What has been counted.
    pub fn counts(&self) -> WriterCounts {
        self.spares.counts(WriterCounts { enters: self.device.0.enters(), ..self.counts })
    }

    /// The last record in the log that is whole on stable storage.
    pub fn last_synced(&self) -> u64 {
        self.last_synced
    }

    /// The device.
    pub fn device(&self) -> &dyn WriteDevice {
        self.device.0.as_ref()
    }

    /// Whether another block may be placed now.
    pub fn is_ready(&self) -> bool {
        self.failing.is_none() && self.in_flight < self.settings.depth && self.pages.len() >= 2
    }

    /// Whether no write is in flight and no sync.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0 && self.sync.is_none()
    }

    /// Whether writes are in flight: a completion will come by itself.
    pub fn is_writing(&self) -> bool {
        self.in_flight > 0
    }

    /// A segment has failed and nothing is in flight: the next turn gives it up.
    pub fn gives_up(&self) -> bool {
        self.failing.is_some() && self.is_quiet()
    }

    /// Whether everything that was placed is durable.
    pub fn is_drained(&self) -> bool {
        self.line.is_empty() && self.failing.is_none()
    }

    /// When the next sync is due although nothing happens; `None` when only a completion can start it.
    pub fn sync_due_ns(&self) -> Option<u64> {
        match self.settings.cadence {
            Cadence::Interval(interval) if self.received_front > 0 && self.sync.is_none() => {
                Some(self.sync_begun_ns + interval)
            }
            _ => None,
        }
    }

    /// What surely fits, apart from what is still to be placed.
    pub fn room(&self) -> Room {
        let block = self.settings.block_bytes_max;
        let per_slot = |bytes: u64| (format::blocks_end(bytes) - FIRST_BLOCK_OFFSET) / block;
        let catalog = lock(&self.catalog);
        Room {
            limited: true,
            active_blocks: self.active.as_ref().map_or(0, |active| (active.end - active.offset) / block),
            spare_segments: catalog.spares().len() as u64,
            segment_blocks: catalog.spares().map(|spare| per_slot(spare.segment_bytes)).min().unwrap_or(0),
        }
    }

    /// Sends one block on its way: behind everything that was placed before. It `is_last` when none follows now.
    pub fn place(&mut self, block: &mut Block, is_last: bool) -> Result<Placed> {
        debug_assert!(self.is_ready(), "the caller asks first");
        let extract = *block.extract();
        let run_bytes = match extract.run {
            1 => block.block_bytes() as u64,
            run => u64::from(run) * self.settings.block_bytes_max,
        };
        if self.active.as_ref().is_none_or(|active| active.offset + run_bytes > active.end) {
            match self.roll(extract.first_sequence)? {
                Placed::Yes => {}
                refused => return Ok(refused),
            }
        }
        let dsync = self.carries_sync(is_last && extract.run == 1);
        let entry = self.pack(block, dsync);
        self.enter(entry);
        Ok(Placed::Yes)
    }

    /// Gives a block its place in the active segment, behind everything before.
    fn pack(&mut self, block: &mut Block, dsync: bool) -> Entry {
        let extract = *block.extract();
        let active = self.active.as_mut().expect("the caller has rolled");
        let (segment, file, offset) = (active.id, active.file, active.offset);
        active.offset += block.block_bytes() as u64;
        active.summary.add(&extract);
        let slot = block.place(&Place {
            store: self.settings.store,
            epoch: self.settings.epoch,
            epoch_base: self.settings.epoch_base,
            segment,
            offset,
            previous_sequence: self.last_logged,
            durable_sequence: self.last_synced,
        });
        self.last_logged = extract.last_sequence;
        self.counts.blocks += 1;
        self.counts.records += extract.record_count;
        Entry {
            segment,
            file,
            offset,
            length: block.block_bytes(),
            written: 0,
            empty_writes: 0,
            dsync,
            begun_ns: self.now_ns,
            slot,
            content: Content::Block(extract),
        }
    }

    fn enter(&mut self, entry: Entry) {
        self.counts.bytes += entry.length as u64;
        self.in_flight += 1;
        self.device.0.submit(entry.rest(self.front_token + self.line.len() as u64));
        self.line.push_back(entry);
    }

    fn open_slot(&mut self, slot: u32) -> io::Result<FileIndex> {
        self.disk
            .open(&format::slot_name(slot), Access::WriteDirect)
            .and_then(|file| self.device.0.attach(file))
    }

    /// A spare could not be opened: for good, or until somebody gives a descriptor back.
    fn spare_is_shut(&mut self, spare: Spare, error: io::Error) -> Result<Placed> {
        let name = format::slot_name(spare.slot);
        lock(&self.catalog).add_spare(spare);
        if !lacks_descriptors(&error) {
            let sentence = format!("{name} can't be opened for the next segment: see the cause");
            return Err(Error::io(sentence, error));
        }
        if !std::mem::replace(&mut self.lacks_descriptors, true) {
            tracing::error!(file = %name, error = %error, "no descriptor for the next segment: memory takes what comes until there is one; raise RLIMIT_NOFILE");
        }
        Ok(Placed::NotNow)
    }

    /// Whether writes are under way into a slot that was recycled meanwhile (memory had delivered what was in it): the
    /// next segment must not overtake them there.
    fn writes_into_recycled(&self) -> bool {
        let catalog = lock(&self.catalog);
        self.line.iter().any(|entry| catalog.segment(entry.segment).is_none())
    }

    /// Ends the active segment and begins the next one, if there is a slot for it.
    fn roll(&mut self, first_sequence: u64) -> Result<Placed> {
        if self.writes_into_recycled() {
            return Ok(Placed::NotNow);
        }
        let Some(spare) = self.spares.take(self.device.0.as_mut()) else { return Ok(Placed::NoRoom) };
        let file = match self.open_slot(spare.slot) {
            Ok(file) => file,
            Err(error) => return self.spare_is_shut(spare, error),
        };
        self.lacks_descriptors = false;
        let previous_segment = self.end_active();
        let id = lock(&self.catalog).next_segment_id();
        let settings = &self.settings;
        let segment = Segment {
            slot: spare.slot,
            id,
            epoch: settings.epoch,
            epoch_base: settings.epoch_base,
            base_sequence: first_sequence,
            previous_sequence: self.last_logged,
            segment_bytes: spare.segment_bytes,
            end: FIRST_BLOCK_OFFSET,
            sealed: false,
        };
        let header = lock(&self.notes).header(&segment, previous_segment);
        lock(&self.catalog).begin(segment);
        self.active = Some(Active {
            id,
            file,
            offset: FIRST_BLOCK_OFFSET,
            end: format::blocks_end(spare.segment_bytes),
            segment_bytes: spare.segment_bytes,
            summary: Summary::new_zeroed(),
        });
        self.counts.segments += 1;
        self.counts.cold_segments += u64::from(!spare.is_warm());
        self.enter_page(Envelope::Segment, id, file, 0, header.as_bytes(), Content::Header);
        Ok(Placed::Yes)
    }

    /// Writes the active segment's summary; gives its id (0: there was none).
    fn end_active(&mut self) -> u64 {
        let Some(mut active) = self.active.take() else { return 0 };
        active.summary.end_offset = U64::new(active.offset);
        lock(&self.catalog).seal(active.id);
        let offset = format::blocks_end(active.segment_bytes);
        let body = active.summary;
        self.enter_page(Envelope::Summary, active.id, active.file, offset, body.as_bytes(), Content::Summary);
        active.id
    }

    fn enter_page(
        &mut self,
        kind: Envelope,
        id: u64,
        file: FileIndex,
        offset: u64,
        body: &[u8],
        content: Content,
    ) {
        let mut page = self.pages.pop().expect("is_ready has seen two");
        format::seal_envelope(kind, self.settings.store, id, body, &mut page[..ALIGNMENT]);
        self.enter(Entry {
            segment: id,
            file,
            offset,
            length: ALIGNMENT,
            written: 0,
            empty_writes: 0,
            dsync: self.carries_sync(false),
            begun_ns: self.now_ns,
            slot: Arc::new(page),
            content,
        });
    }

    /// Starts what can start, waits as told, and says what has moved. `closing` syncs whatever the cadence.
    pub fn turn(&mut self, wait: Wait, now_ns: impl Fn() -> u64, closing: bool) -> Result<Progress> {
        self.start_sync(now_ns(), closing);
        let mut completions = std::mem::take(&mut self.completions);
        let waited = self.device.0.wait(wait, &mut completions);
        let mut progress = Progress::default();
        let now = now_ns();
        self.now_ns = now;
        for completion in completions.drain(..) {
            self.complete(completion, &mut progress);
        }
        self.completions = completions;
        waited.map_err(|error| Error::io("the write device stopped answering: see the cause", error))?;
        // What can start now starts now: the next wait submits it.
        self.start_sync(now, closing);
        if self.gives_up() {
            progress.place_again = Some(self.abandon_segment()?);
        }
        Ok(progress)
    }

    fn complete(&mut self, completion: Completion, progress: &mut Progress) {
        if completion.token & SPARE != 0 {
            return self.spares.complete(self.device.0.as_mut(), completion, self.now_ns);
        }
        if completion.token & SYNC != 0 {
            return self.sync_is_back(completion.result, progress);
        }
        self.in_flight -= 1;
        let index = (completion.token - self.front_token) as usize;
        match completion.result {
            Ok(bytes) => self.bytes_moved(index, bytes),
            Err(error) => self.fail(error),
        }
        self.move_written(progress);
        self.pop_synced_writes(progress);
    }

    /// A short write is finished before anything syncs.
    fn bytes_moved(&mut self, index: usize, bytes: usize) {
        let token = self.front_token + index as u64;
        let entry = &mut self.line[index];
        entry.written += bytes;
        entry.empty_writes += u32::from(bytes == 0);
        if entry.is_received() {
            return;
        }
        if entry.empty_writes > EMPTY_WRITES_MAX {
            return self.fail(io::Error::new(io::ErrorKind::WriteZero, "the device takes no more bytes"));
        }
        // O_DIRECT goes on at an aligned place; what it wrote behind the last one is written again.
        entry.written = entry.written / ALIGNMENT * ALIGNMENT;
        let rest = entry.rest(token);
        self.in_flight += 1;
        self.device.0.submit(rest);
    }

    fn move_written(&mut self, progress: &mut Progress) {
        while let Some(entry) = self.line.get(self.received_front).filter(|entry| entry.is_received()) {
            self.received_front += 1;
            if let Content::Block(extract) = &entry.content {
                progress.written = extract.complete_sequence;
                if self.settings.cadence != Cadence::Group {
                    lock(&self.catalog).set_end(entry.segment, entry.offset + entry.length as u64);
                }
            }
        }
    }

    fn start_sync(&mut self, now_ns: u64, closing: bool) {
        if self.sync.is_some() || self.failing.is_some() || self.received_front == 0 {
            return;
        }
        let front = &self.line[0];
        let (file, segment) = (front.file, front.segment);
        let count =
            self.line.iter().take(self.received_front).take_while(|entry| entry.segment == segment).count();
        let ends = matches!(self.line[count - 1].content, Content::Summary);
        let due = match self.settings.cadence {
            Cadence::Group => true,
            Cadence::Interval(interval) => ends || now_ns >= self.sync_begun_ns + interval,
            Cadence::Never => ends,
        };
        if due || closing {
            self.sync = Some(SyncInFlight { count, begun_ns: now_ns });
            self.sync_begun_ns = now_ns;
            self.device.0.submit(Operation::Sync { token: SYNC, file });
        }
    }

    fn sync_is_back(&mut self, result: io::Result<usize>, progress: &mut Progress) {
        let sync = self.sync.take().expect("one sync is out at a time");
        self.note_sync(sync.begun_ns, progress);
        if let Err(error) = result {
            return self.fail(error);
        }
        self.counts.syncs += 1;
        self.failures_in_row = 0;
        self.pop_durable(sync.count, progress);
        self.pop_synced_writes(progress);
    }

    /// Writes at the front that carried their own sync, unless a sync that is out has counted them.
    fn pop_synced_writes(&mut self, progress: &mut Progress) {
        if self.sync.is_some() || self.failing.is_some() {
            return;
        }
        let synced = self.line.iter().take(self.received_front).take_while(|entry| entry.dsync);
        let count = synced.count();
        if count > 0 {
            self.note_sync(self.line[count - 1].begun_ns, progress);
            self.counts.syncs += count as u64;
            self.failures_in_row = 0;
            self.pop_durable(count, progress);
        }
    }

    fn note_sync(&self, begun_ns: u64, progress: &mut Progress) {
        progress.sync_ns = progress.sync_ns.max(Some(self.now_ns.saturating_sub(begun_ns)));
    }

    /// The first `count` entries of the line are on stable storage.
    fn pop_durable(&mut self, count: usize, progress: &mut Progress) {
        let mut end = None;
        for _ in 0..count {
            let entry = self.line.pop_front().expect("who synced them has counted them");
            self.front_token += 1;
            self.received_front -= 1;
            match entry.content {
                Content::Block(extract) => {
                    end = Some((entry.segment, entry.offset + entry.length as u64));
                    // A record of which only some parts are synced is neither durable nor logged.
                    if extract.complete_sequence == extract.last_sequence {
                        self.last_synced = extract.last_sequence;
                    }
                    progress.durable = extract.complete_sequence;
                }
                Content::Header => self.page_is_back(entry.slot),
                Content::Summary => {
                    self.device.0.detach(entry.file);
                    self.page_is_back(entry.slot);
                }
            }
        }
        if let Some((segment, end)) = end {
            lock(&self.catalog).set_end(segment, end);
        }
    }

    fn page_is_back(&mut self, slot: Arc<Slot>) {
        let page = Arc::into_inner(slot).expect("its write has come back, and nobody else shares a page");
        self.pages.push(page);
    }
}

/// A panic elsewhere leaves plain, whole data behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
