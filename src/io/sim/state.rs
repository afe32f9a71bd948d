//! The state behind a simulated disk: names, files, handles, and every operation on them.
//!
//! Everything that changes the disk goes through [`State::operate`], which counts it, and there the power
//! may go: before it, in the middle of it, or right after it. From then on nothing changes any more and
//! everything answers EIO.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::crash::{CrashPoint, Phase};
use super::device::Queue;
use super::fault::{Effect, Faults, Verb};
use super::image::{Dropped, Node, Pending, tear};
use super::random::{Random, mix};
use super::{SimOptions, errno, image::Image};
use crate::io::{Access, Slot};

/// A file, whatever its names.
pub(super) type NodeId = u64;
/// Names and what they lead to.
pub(super) type Names = BTreeMap<String, NodeId>;

/// A change of names that no [`State::sync_names`] has made durable. Happens as a whole or not at all.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    /// The number of the operation that made it.
    pub(super) order: u64,
    /// The name that goes.
    pub(super) gone: Option<String>,
    /// The name that comes or changes.
    pub(super) set: Option<(String, NodeId)>,
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.gone {
            names.remove(name);
        }
        if let Some((name, node)) = &self.set {
            names.insert(name.clone(), *node);
        }
    }

    /// Whether it was made by operation `through` at the latest, and in the directory alone.
    pub(super) fn is_in_directory(&self, through: u64) -> bool {
        let names = self.gone.iter().chain(self.set.as_ref().map(|(name, _)| name));
        self.order <= through && names.into_iter().all(|name| !name.contains('/'))
    }

    fn touches(&self, name: &str) -> bool {
        self.gone.as_deref() == Some(name) || self.set.as_ref().is_some_and(|(set, _)| set == name)
    }
}

/// What a disk holds, without who uses it.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) live: Names,
    pub(super) durable: Names,
    /// In the order in which they were made.
    pub(super) changes: Vec<NameChange>,
}

impl Content {
    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("a file stays while a handle or a name leads to it")
    }

    /// Forgets files that no name and no handle leads to.
    pub(super) fn sweep(&mut self) {
        let named: BTreeSet<NodeId> = self.live.values().chain(self.durable.values()).copied().collect();
        let changing: BTreeSet<NodeId> =
            self.changes.iter().filter_map(|change| change.set.as_ref().map(|(_, node)| *node)).collect();
        self.nodes.retain(|id, node| node.handles > 0 || named.contains(id) || changing.contains(id));
    }
}

/// An open file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    pub(super) node: NodeId,
    pub(super) access: Access,
    /// A sync that failed later than the open latches the handle.
    pub(super) sync_failures_at_open: u64,
}

/// A device's write between submission and receipt.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) node: NodeId,
    pub(super) slot: Arc<Slot>,
    pub(super) range: Range<usize>,
    pub(super) offset: u64,
    pub(super) applied: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) content: Content,
    /// Open files by the address of their handle.
    pub(super) handles: BTreeMap<usize, Handle>,
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) operation_count: u64,
    pub(super) trace: u64,
    /// How many writes their callers have been told are over.
    pub(super) receipts: u64,
    pub(super) last_id: u64,
    pub(super) crash_at: Option<CrashPoint>,
    /// The power is gone.
    pub(super) dead: bool,
    pub(super) locked: bool,
    pub(super) flights: BTreeMap<u64, Flight>,
    /// What was in flight and not applied when the power went.
    pub(super) frozen: Vec<(NodeId, Pending)>,
    pub(super) queues: BTreeMap<u64, Queue>,
    /// Devices that were woken and have not returned since.
    pub(super) wakes: BTreeSet<u64>,
    pub(super) elapsed: Duration,
}

impl State {
    pub(super) fn new(seed: u64, options: SimOptions, content: Content) -> Self {
        let writes = content.nodes.values().flat_map(|node| &node.pending).map(|write| write.id);
        let last_id = writes.chain(content.nodes.keys().copied()).max().unwrap_or(0);
        Self {
            options,
            content,
            handles: BTreeMap::new(),
            faults: Faults::default(),
            random: Random::new(seed),
            operation_count: 0,
            trace: 0,
            receipts: 0,
            last_id,
            crash_at: None,
            dead: false,
            locked: false,
            flights: BTreeMap::new(),
            frozen: Vec::new(),
            queues: BTreeMap::new(),
            wakes: BTreeSet::new(),
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds `words` to the digest of all that happened.
    pub(super) fn note(&mut self, words: &[u64]) {
        for word in words {
            self.trace = mix(self.trace.rotate_left(7) ^ *word);
        }
    }

    pub(super) fn note_name(&mut self, verb: Verb, name: &str) {
        self.note(&[verb as u64, u64::from(crc32c::crc32c(name.as_bytes()))]);
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead { Err(errno(Errno::IO)) } else { Ok(()) }
    }

    /// Carries out one counted operation. `effect` is told whether to leave it half done.
    pub(super) fn operate(
        &mut self,
        verb: Verb,
        effect: impl FnOnce(&mut Self, /* torn: */ bool),
    ) -> io::Result<()> {
        self.alive()?;
        self.operation_count += 1;
        self.note(&[verb as u64, self.operation_count]);
        let Some(point) = self.crash_at.filter(|point| point.operation == self.operation_count) else {
            effect(self, false);
            return Ok(());
        };
        match point.phase {
            Phase::Before => {}
            Phase::During => effect(self, true),
            Phase::After => effect(self, false),
        }
        self.lose_power();
        Err(errno(Errno::IO))
    }

    /// A scripted error for `verb`, and whether the disk may be changed at all.
    pub(super) fn check(&mut self, verb: Verb) -> io::Result<()> {
        self.alive()?;
        if self.faults.read_only && !matches!(verb, Verb::Open | Verb::Read) {
            return Err(errno(Errno::ROFS));
        }
        match self.faults.strike(verb) {
            Some(Effect::Error(number)) => Err(io::Error::from_raw_os_error(number)),
            _ => Ok(()),
        }
    }
}

/// Names.
impl State {
    pub(super) fn create(&mut self, name: &str, len: u64) -> io::Result<NodeId> {
        self.note_name(Verb::Create, name);
        self.check(Verb::Create)?;
        if self.content.live.contains_key(name) {
            return Err(errno(Errno::EXIST));
        }
        let id = self.id();
        self.operate(Verb::Create, |state, torn| {
            if torn && state.random.coin() {
                return;
            }
            state.content.nodes.insert(id, Node::new(state.options.sector_bytes));
            state.change_names(None, Some((name.to_owned(), id)));
        })?;
        let Err(error) = self.allocate(id, len) else { return Ok(id) };
        if !self.dead {
            // Nothing stays behind: the name is taken back before anybody else has seen it.
            self.content.live.remove(name);
            self.content.changes.pop();
            self.content.nodes.remove(&id);
        }
        Err(error)
    }

    fn allocate(&mut self, node: NodeId, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.check(Verb::Allocate)?;
        if len > self.free_bytes() {
            return Err(errno(Errno::NOSPC));
        }
        let id = self.id();
        self.operate(Verb::Allocate, |state, torn| {
            let end = if torn { state.random.below(len) } else { len };
            let order = state.operation_count;
            let received = Some(state.receipts);
            state.content.node(node).apply(Pending { id, order, received, end, sectors: Vec::new() });
        })
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.note_name(Verb::Remove, name);
        self.check(Verb::Remove)?;
        self.find(name)?;
        self.operate(Verb::Remove, |state, torn| {
            if !torn || state.random.coin() {
                state.change_names(Some(name.to_owned()), None);
            }
        })
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.note_name(Verb::Rename, from);
        self.note_name(Verb::Rename, to);
        self.check(Verb::Rename)?;
        let node = self.find(from)?;
        if from == to {
            return Ok(());
        }
        self.operate(Verb::Rename, |state, torn| {
            if !torn || state.random.coin() {
                state.change_names(Some(from.to_owned()), Some((to.to_owned(), node)));
            }
        })
    }

    /// Makes the changes durable up to the first that `covers` does not name: none overtakes another.
    pub(super) fn sync_names(&mut self, covers: impl Fn(&NameChange) -> bool) -> io::Result<()> {
        self.check(Verb::SyncNames)?;
        if self.faults.syncs_lie {
            return self.operate(Verb::SyncNames, |_, _| ());
        }
        self.operate(Verb::SyncNames, |state, torn| {
            let all = state.content.changes.iter().take_while(|change| covers(change)).count();
            let done = if torn { state.random.below(all as u64 + 1) as usize } else { all };
            for change in state.content.changes.drain(..done) {
                change.apply(&mut state.content.durable);
            }
            state.content.sweep();
        })
    }

    fn change_names(&mut self, gone: Option<String>, set: Option<(String, NodeId)>) {
        let change = NameChange { order: self.operation_count, gone, set };
        change.apply(&mut self.content.live);
        self.content.changes.push(change);
    }

    pub(super) fn find(&self, name: &str) -> io::Result<NodeId> {
        self.content.live.get(name).copied().ok_or_else(|| errno(Errno::NOENT))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let named: BTreeSet<NodeId> = self.content.live.values().copied().collect();
        let taken = self.content.nodes.iter().filter(|(id, node)| node.handles > 0 || named.contains(id));
        let taken_bytes: u64 = taken.map(|(_, node)| node.live.len).sum();
        self.options.capacity_bytes.saturating_sub(taken_bytes)
    }
}

/// Handles.
impl State {
    pub(super) fn open(&mut self, name: &str, access: Access) -> io::Result<NodeId> {
        self.note_name(Verb::Open, name);
        self.check(Verb::Open)?;
        if self.faults.read_only && writes(access) {
            return Err(errno(Errno::ROFS));
        }
        self.find(name)
    }

    pub(super) fn enter(&mut self, address: usize, node: NodeId, access: Access) {
        let file = self.content.node(node);
        file.handles += 1;
        let sync_failures_at_open = file.sync_failures;
        let other = self.handles.insert(address, Handle { node, access, sync_failures_at_open });
        assert!(other.is_none(), "two open files at one address");
    }

    pub(super) fn leave(&mut self, address: usize) {
        if let Some(handle) = self.handles.remove(&address) {
            self.content.node(handle.node).handles -= 1;
            // Not while a power cut is still to come: it wants every file as it was.
            if !self.dead {
                self.content.sweep();
            }
        }
    }

    pub(super) fn handle(&self, address: usize) -> io::Result<Handle> {
        self.handles.get(&address).copied().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the file is not of this simulated disk")
        })
    }

    /// What offsets, lengths and buffers are multiples of.
    pub(super) fn alignment(&self, access: Access) -> usize {
        let direct = matches!(access, Access::WriteDirect | Access::ReadDirect) && self.options.direct_io;
        if direct { self.options.alignment } else { 1 }
    }

    fn aligned(&self, access: Access, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let alignment = self.alignment(access);
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(errno(Errno::FBIG));
        }
        let fits = offset.is_multiple_of(alignment as u64)
            && bytes.len().is_multiple_of(alignment)
            && bytes.as_ptr().addr().is_multiple_of(alignment);
        if fits { Ok(()) } else { Err(errno(Errno::INVAL)) }
    }
}

fn writes(access: Access) -> bool {
    matches!(access, Access::Write | Access::WriteDirect)
}

/// Bytes.
impl State {
    pub(super) fn read(
        &mut self,
        handle: Handle,
        buffer: &mut [u8],
        offset: u64,
        random: &mut Random,
    ) -> io::Result<usize> {
        self.aligned(handle.access, offset, buffer)?;
        self.check(Verb::Read)?;
        let rates = self.faults.rates;
        let granule = self.alignment(handle.access);
        let node = self.content.node(handle.node);
        let left = usize::try_from(node.live.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = Faults::shorten(rates.short_reads_per_mille, random, buffer.len().min(left), granule);
        let end = offset + len as u64;
        let bad = node.unreadable.iter().any(|range| range.start < end && offset < range.end);
        if bad || random.chance(rates.read_errors_per_mille) {
            return Err(errno(Errno::IO));
        }
        node.live.read(&mut buffer[..len], offset);
        self.note(&[Verb::Read as u64, handle.node, offset, len as u64]);
        Ok(len)
    }

    /// Applies the write `id`; its caller has still to be told ([`State::receive`]).
    pub(super) fn write(&mut self, handle: Handle, id: u64, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.alive()?;
        if !writes(handle.access) {
            return Err(errno(Errno::BADF));
        }
        self.aligned(handle.access, offset, bytes)?;
        let sum = u64::from(crc32c::crc32c(bytes));
        self.note(&[Verb::Write as u64, handle.node, offset, bytes.len() as u64, sum]);
        if self.faults.read_only {
            return Err(errno(Errno::ROFS));
        }
        let mut place = offset;
        match self.faults.strike(Verb::Write) {
            Some(Effect::Error(number)) => return self.fail_write(handle, id, bytes, offset, number),
            Some(Effect::Vanishes) => return self.operate(Verb::Write, |_, _| ()).map(|()| bytes.len()),
            Some(Effect::Strays(offset)) => place = offset,
            Some(Effect::Drops(..)) | None => {}
        }
        let (rates, granule) = (self.faults.rates, self.alignment(handle.access));
        if self.random.chance(rates.write_errors_per_mille) {
            return self.fail_write(handle, id, bytes, offset, Errno::IO.raw_os_error());
        }
        let room = self.room(handle.node, place, bytes.len(), granule)?;
        let len = Faults::shorten(rates.short_writes_per_mille, &mut self.random, room, granule);
        self.operate(Verb::Write, |state, torn| state.apply(handle.node, id, &bytes[..len], place, torn))?;
        Ok(len)
    }

    /// A write that fails may have changed some of its sectors.
    fn fail_write(
        &mut self,
        handle: Handle,
        id: u64,
        bytes: &[u8],
        offset: u64,
        number: i32,
    ) -> io::Result<usize> {
        self.operate(Verb::Write, |state, _| {
            let end = offset + bytes.len() as u64;
            if end <= state.content.node(handle.node).live.len && state.random.coin() {
                state.apply(handle.node, id, bytes, offset, true);
            }
        })?;
        Err(io::Error::from_raw_os_error(number))
    }

    /// How much of a write there is space for.
    fn room(&mut self, node: NodeId, offset: u64, len: usize, granule: usize) -> io::Result<usize> {
        let end = self.content.node(node).live.len.saturating_add(self.free_bytes());
        let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        let room = room - room % granule;
        if room == 0 && len > 0 { Err(errno(Errno::NOSPC)) } else { Ok(room) }
    }

    pub(super) fn apply(&mut self, node: NodeId, id: u64, bytes: &[u8], offset: u64, torn: bool) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.applied = true;
        }
        let mut sectors = self.content.node(node).live.overlay(bytes, offset);
        let mut end = offset + bytes.len() as u64;
        if torn {
            tear(&mut sectors, &mut self.random);
            let Some((last, _)) = sectors.last() else { return };
            end = end.min((last + 1) * self.options.sector_bytes as u64);
        }
        let order = self.operation_count;
        self.content.node(node).apply(Pending { id, order, received: None, end, sectors });
    }

    /// The caller learns that the write `id` is over: syncs from now on cover it, unless it failed.
    pub(super) fn receive(&mut self, node: NodeId, id: u64, succeeded: bool) {
        self.flights.remove(&id);
        if self.dead || !succeeded {
            return;
        }
        self.receipts += 1;
        let received = Some(self.receipts);
        let pending = &mut self.content.node(node).pending;
        pending.iter_mut().filter(|write| write.id == id).for_each(|write| write.received = received);
    }

    /// Makes durable what callers had been told of when `receipts` was the count of receipts.
    pub(super) fn sync(&mut self, handle: Handle, receipts: u64) -> io::Result<()> {
        self.note(&[Verb::Sync as u64, handle.node, receipts]);
        self.flush(handle, move |write| write.received.is_some_and(|received| received <= receipts))
    }

    /// Makes durable the one write `id`, which has `dsync` and gave `result`; a device that failed it has
    /// failed a sync.
    pub(super) fn sync_write(
        &mut self,
        handle: Handle,
        id: u64,
        result: io::Result<usize>,
    ) -> io::Result<usize> {
        let failed = |error: &io::Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
        if !self.dead && result.as_ref().is_err_and(failed) {
            self.content.node(handle.node).fail_sync(Errno::IO.raw_os_error());
        }
        let len = result?;
        self.flush(handle, move |write| write.id == id)?;
        Ok(len)
    }

    fn flush(&mut self, handle: Handle, covers: impl Fn(&Pending) -> bool) -> io::Result<()> {
        self.alive()?;
        let node = self.content.node(handle.node);
        if node.sync_failures != handle.sync_failures_at_open {
            return Err(io::Error::from_raw_os_error(node.sync_error));
        }
        if let Some((number, dropped)) = self.sync_fault() {
            self.operate(Verb::Sync, |state, _| {
                let node = state.content.node(handle.node);
                node.forget(covers, dropped);
                node.fail_sync(number);
            })?;
            return Err(io::Error::from_raw_os_error(number));
        }
        let lies = self.faults.syncs_lie;
        self.operate(Verb::Sync, |state, torn| {
            let State { content, random, .. } = state;
            if !lies {
                content.node(handle.node).settle(covers, || !torn || random.coin());
            }
        })
    }

    /// What the next sync fails with, if it does, and what reads show then.
    fn sync_fault(&mut self) -> Option<(i32, Dropped)> {
        if let Some(Effect::Drops(number, dropped)) = self.faults.strike(Verb::Sync) {
            return Some((number, dropped));
        }
        let fails = self.random.chance(self.faults.rates.sync_errors_per_mille);
        fails.then(|| {
            let dropped = if self.random.coin() { Dropped::ReadsNew } else { Dropped::ReadsOld };
            (Errno::IO.raw_os_error(), dropped)
        })
    }

    /// Asserts that nobody is writing `range` of `node` at this moment.
    pub(super) fn assert_alone(&self, node: NodeId, range: Range<u64>) {
        for flight in self.flights.values().filter(|flight| flight.node == node) {
            let other = flight.offset..flight.offset + flight.range.len() as u64;
            let apart = range.end <= other.start || other.end <= range.start;
            assert!(apart, "writes in flight overlap: {range:?} and {other:?}");
        }
    }
}

/// What tests do behind the program's back.
impl State {
    pub(super) fn put_file(&mut self, name: &str, image: Image) {
        let node = self.find(name).unwrap_or_else(|_| self.id());
        let file = self.content.nodes.entry(node).or_insert_with(|| Node::new(self.options.sector_bytes));
        let handles = file.handles;
        *file = Node { handles, ..Node::of(image) };
        self.content.live.insert(name.to_owned(), node);
        self.settle_name(name, Some(node));
    }

    pub(super) fn drop_file(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.content.live.remove(name);
        self.settle_name(name, None);
        Ok(())
    }

    /// Makes `name` durably what it is now, whatever was about to happen to it.
    fn settle_name(&mut self, name: &str, node: Option<NodeId>) {
        self.content.changes.retain(|change| !change.touches(name));
        match node {
            Some(node) => self.content.durable.insert(name.to_owned(), node),
            None => self.content.durable.remove(name),
        };
        self.content.sweep();
    }
}
