//! A disk small enough to cut its power at every operation, with every subset of sectors reaching the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::io::{Access, Arena, DeviceOptions, Disk, File, ReadDevice, WriteDevice};

pub(crate) const SECTOR_BYTES: usize = 512;

/// A directory whose power fails when told.
#[derive(Debug, Clone, Default)]
pub(crate) struct PowerDisk(Arc<Mutex<Platter>>);

#[derive(Debug, Clone, Default)]
struct Platter {
    files: BTreeMap<String, Content>,
    operations_left: Option<u64>,
    sync_fails: bool,
    write_fails: bool,
    unreadable: Option<Range<u64>>,
    writes: Vec<(u64, usize)>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    is_named_durably: bool,
}

impl PowerDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("one thread tests at a time")
    }

    /// Lets `count` more operations through; the one after them starts, and nothing answers any more.
    pub(crate) fn cut_power_after(&self, count: u64) {
        self.platter().operations_left = Some(count);
    }

    pub(crate) fn fail_syncs(&self, fails: bool) {
        self.platter().sync_fails = fails;
    }

    pub(crate) fn fail_writes(&self, fails: bool) {
        self.platter().write_fails = fails;
    }

    pub(crate) fn make_unreadable(&self, range: Range<u64>) {
        self.platter().unreadable = Some(range);
    }

    /// Where each write began, and its length, since the last call.
    pub(crate) fn take_writes(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.platter().writes)
    }

    /// How many sectors of all files no sync has covered.
    pub(crate) fn dirty_sector_count(&self) -> usize {
        self.platter().files.values().map(|content| content.dirty.len()).sum()
    }

    /// The disk that comes back: of the sectors that no sync covered those whose bit in `kept` is set, and of the names
    /// those that are durable (or all).
    pub(crate) fn after_power_cut(&self, kept: u64, keeps_names: bool) -> Self {
        let mut files = self.platter().files.clone();
        files.retain(|_, content| content.is_named_durably || keeps_names);
        let mut bit = 0;
        for content in files.values_mut() {
            for sector in std::mem::take(&mut content.dirty) {
                let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(content.live.len());
                if kept >> bit & 1 == 1 {
                    let end = content.durable.len().max(range.end);
                    content.durable.resize(end, 0);
                    content.durable[range.clone()].copy_from_slice(&content.live[range]);
                }
                bit += 1;
            }
            content.live = content.durable.clone();
        }
        Self(Arc::new(Mutex::new(Platter { files, ..Platter::default() })))
    }

    /// Another disk of the same content.
    pub(crate) fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(self.platter().clone())))
    }

    /// Changes the bytes of a file behind everybody's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut platter = self.platter();
        let content = platter.files.get_mut(name).expect("the file is there");
        change(&mut content.live);
        content.durable = content.live.clone();
    }
}

impl Platter {
    fn start(&mut self) -> Result<()> {
        match &mut self.operations_left {
            None => Ok(()),
            Some(0) => Err(Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn content(&mut self, name: &str) -> Result<&mut Content> {
        self.files.get_mut(name).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct PowerFile {
    disk: PowerDisk,
    name: String,
}

impl File for PowerFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut platter = self.disk.platter();
        let end = offset + buffer.len() as u64;
        if platter.unreadable.as_ref().is_some_and(|bad| bad.start < end && offset < bad.end) {
            return Err(Error::from_raw_os_error(5));
        }
        let live = &platter.content(&self.name)?.live;
        let from = live.get(offset as usize..).unwrap_or_default();
        // Short reads, so that the callers' loops run.
        let count = from.len().min(buffer.len()).min(3000);
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let mut platter = self.disk.platter();
        let started = platter.start();
        let bytes = &bytes[..bytes.len().min(4096)];
        platter.writes.push((offset, bytes.len()));
        let half = if platter.write_fails { bytes.len() / 2 } else { bytes.len() };
        let content = platter.content(&self.name)?;
        let range = offset as usize..offset as usize + half;
        let end = content.live.len().max(range.end);
        content.live.resize(end, 0);
        content.live[range.clone()].copy_from_slice(&bytes[..half]);
        content.dirty.extend(range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES));
        started?;
        if platter.write_fails { Err(Error::from_raw_os_error(5)) } else { Ok(bytes.len()) }
    }

    fn sync(&self) -> Result<()> {
        let mut platter = self.disk.platter();
        platter.start()?;
        if platter.sync_fails {
            // As kernels do: the cache keeps the bytes, calls them clean, and the platter never sees them.
            platter.content(&self.name)?.dirty.clear();
            return Err(Error::from_raw_os_error(5));
        }
        let content = platter.content(&self.name)?;
        content.durable = content.live.clone();
        content.dirty.clear();
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.disk.platter().content(&self.name)?.live.len() as u64)
    }

    fn alignment(&self) -> usize {
        1
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Disk for PowerDisk {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.platter().files.keys().rev().cloned().collect())
    }

    fn open(&self, name: &str, _access: Access) -> Result<Arc<dyn File>> {
        self.platter().content(name)?;
        Ok(Arc::new(PowerFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn create(&self, name: &str, len: u64, access: Access) -> Result<Arc<dyn File>> {
        let mut platter = self.platter();
        platter.start()?;
        if platter.files.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let content = Content { live: vec![0; len as usize], ..Content::default() };
        platter.files.insert(name.to_owned(), content);
        drop(platter);
        self.open(name, access)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut platter = self.platter();
        platter.start()?;
        platter.files.remove(name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, _from: &str, _to: &str) -> Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync_names(&self) -> Result<()> {
        let mut platter = self.platter();
        platter.start()?;
        platter.files.values_mut().for_each(|content| content.is_named_durably = true);
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn write_device(&self, _: &Arc<Arena>, _: DeviceOptions) -> Result<Box<dyn WriteDevice>> {
        Err(ErrorKind::Unsupported.into())
    }

    fn read_device(&self, _: &Arc<Arena>, _: DeviceOptions) -> Result<Box<dyn ReadDevice>> {
        Err(ErrorKind::Unsupported.into())
    }

    fn place(&self) -> String {
        "a disk of a test".to_owned()
    }
}
