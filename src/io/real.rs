//! A directory of the real file system.
//!
//! Owns the directory's descriptor: every name is looked up relative to it, no symbolic link is followed, and
//! what is made has mode 0600 (files) or 0700 (directories). Promises that a refused O_DIRECT or fallocate is
//! found out when a file is opened or made, never at its first write, and is told once in
//! [`RealDisk::notes`]. Chooses the devices, and falls back from the ring with the kernel's reason.
//!
//! Does not know what is in a file. A write beyond RLIMIT_FSIZE fails with EFBIG only in a process that
//! ignores SIGXFSZ, which is for the program to set up: the signal's default is to kill.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags, SeekFrom, StatxFlags, fallocate, fcntl_setfl,
    fdatasync, fstat, fstatfs, fstatvfs, fsync, mkdirat, openat, renameat, seek, statx, unlinkat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::arena::ALIGNMENT;
use super::blocking::{BlockingReader, BlockingWriter};
use super::latch::SyncLatch;
use super::uring::reactor::RingReader;
use super::uring::{Refusal, RingWriter};
use super::{
    Access, Arena, Backend, DeviceOptions, DirectIo, Disk, File, LOCK_NAME, ReadDevice, WriteDevice,
};

/// How long a lock is asked for again: the ring of a killed process may hold it for a moment.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(250);
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// What zeros are written in, where fallocate is not to be had.
const ZERO_FILL_BYTES: usize = 256 << 10;

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory, by its descriptor.
pub struct RealDisk {
    path: PathBuf,
    /// Its latch is that of its names: a failed sync of the directory is as final as one of a file.
    directory: Arc<RealFile>,
    direct_io: DirectIo,
    read_only: bool,
    /// This handle has made the directory, and takes it back where nothing came to be in it.
    is_new: bool,
    /// Subdirectories whose names changed since the last [`Disk::sync_names`].
    unsynced_subdirectories: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
}

/// Where a name is looked up: the directory itself or one below it.
enum Parent<'a> {
    Directory(BorrowedFd<'a>),
    Subdirectory(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(descriptor) => *descriptor,
            Self::Subdirectory(descriptor) => descriptor.as_fd(),
        }
    }
}

impl RealDisk {
    /// Opens a directory that is there.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn open(path: impl AsRef<Path>, direct_io: DirectIo) -> io::Result<Self> {
        Self::at(path.as_ref(), direct_io, false)
    }

    /// Makes the directory with mode 0700 if it is not there (its parent must be), makes its name durable, and
    /// opens it. One that it made and in which nothing is when it is dropped goes again.
    ///
    /// # Errors
    /// What mkdirat(2), fsync(2) or openat(2) says.
    pub fn create(path: impl AsRef<Path>, direct_io: DirectIo) -> io::Result<Self> {
        let path = path.as_ref();
        let is_new = match retry_on_intr(|| mkdirat(rustix::fs::CWD, path, Mode::RWXU)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        if is_new {
            sync_parent(path)?;
        }
        let mut disk = Self::at(path, direct_io, false)?;
        disk.is_new = is_new;
        Ok(disk)
    }

    /// Opens a directory to look at: every verb that would change something fails with `ReadOnlyFilesystem`.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::at(path.as_ref(), DirectIo::Auto, true)
    }

    /// What turned out other than asked for, one sentence each, each told once however often it happens.
    pub fn notes(&self) -> Vec<String> {
        locked(&self.notes).clone()
    }

    fn at(path: &Path, direct_io: DirectIo, read_only: bool) -> io::Result<Self> {
        let descriptor = retry_on_intr(|| openat(rustix::fs::CWD, path, DIRECTORY_FLAGS, Mode::empty()))?;
        Ok(Self {
            path: path.to_path_buf(),
            directory: Arc::new(RealFile { is_directory: true, ..RealFile::buffered(descriptor, ".") }),
            direct_io,
            read_only,
            is_new: false,
            unsynced_subdirectories: Mutex::default(),
            notes: Mutex::default(),
        })
    }

    fn note(&self, sentence: String) {
        let mut notes = locked(&self.notes);
        if !notes.contains(&sentence) {
            notes.push(sentence);
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
    }

    /// Splits `NAME` or `SUBDIRECTORY/NAME`, and opens what the name is relative to.
    fn parent<'a, 'n>(&'a self, name: &'n str) -> io::Result<(Parent<'a>, &'n str)> {
        let (subdirectory, name) = split(name)?;
        let Some(subdirectory) = subdirectory else {
            return Ok((Parent::Directory(self.directory.descriptor.as_fd()), name));
        };
        let flags = DIRECTORY_FLAGS | OFlags::NOFOLLOW;
        let descriptor =
            retry_on_intr(|| openat(&self.directory.descriptor, subdirectory, flags, Mode::empty()))?;
        Ok((Parent::Subdirectory(descriptor), name))
    }

    /// Makes the subdirectory that `name` lies in, if there is one in it, and remembers to sync it.
    fn prepare_subdirectory(&self, name: &str) -> io::Result<()> {
        let (Some(subdirectory), _) = split(name)? else { return Ok(()) };
        match retry_on_intr(|| mkdirat(&self.directory.descriptor, subdirectory, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.remember_subdirectory(subdirectory);
        Ok(())
    }

    fn remember_subdirectory(&self, subdirectory: &str) {
        let mut unsynced = locked(&self.unsynced_subdirectories);
        if !unsynced.iter().any(|known| known == subdirectory) {
            unsynced.push(subdirectory.to_owned());
        }
    }

    /// What a segment is opened with, so that whoever traces the program sees it where the file is opened.
    fn direct_flag(&self, access: Access) -> OFlags {
        let wants_direct = matches!(access, Access::WriteDirect | Access::ReadDirect);
        if wants_direct && self.direct_io != DirectIo::Off { OFlags::DIRECT } else { OFlags::empty() }
    }

    /// A file around `descriptor`, with the page cache gone round where `access` and the file system want it.
    fn file(&self, descriptor: OwnedFd, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let wants_direct = matches!(access, Access::WriteDirect | Access::ReadDirect);
        let mut file = RealFile::buffered(descriptor, name);
        if wants_direct && self.direct_io != DirectIo::Off {
            match go_direct(&file.descriptor)? {
                Ok(alignment) => (file.alignment, file.is_direct) = (alignment, true),
                Err(reason) if self.direct_io == DirectIo::Require => {
                    let sentence = format!("direct_io = require, but {reason}");
                    return Err(io::Error::new(io::ErrorKind::Unsupported, sentence));
                }
                Err(reason) => self.note(format!("{reason}: going through the page cache")),
            }
        }
        Ok(Arc::new(file))
    }

    /// Gives a fresh file its blocks.
    fn allocate(&self, descriptor: &OwnedFd, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match retry_on_intr(|| fallocate(descriptor, FallocateFlags::empty(), 0, len)) {
            Err(errno @ (Errno::OPNOTSUPP | Errno::NOSYS)) => {
                self.note(format!("fallocate: {}: filling new files with zeros", named(&errno.into())));
                fill_with_zeros(descriptor, len)
            }
            result => result.map_err(io::Error::from),
        }
    }

    fn fall_back(&self, backend: Backend, refusal: Refusal) -> io::Result<String> {
        if backend == Backend::Auto && refusal.is_for_good() {
            return Ok(refusal.to_string());
        }
        Err(refusal.into())
    }
}

impl Disk for RealDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory.descriptor)? {
            let entry = entry?;
            if !is_dots(entry.file_name()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let (parent, leaf) = self.parent(name)?;
        let mode = match access {
            Access::Read | Access::ReadDirect => OFlags::RDONLY,
            Access::Write | Access::WriteDirect => {
                self.check_writable()?;
                OFlags::RDWR
            }
        };
        // A FIFO under one of our names must not hang the open; the flag means nothing for a regular file.
        let flags = mode | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |flags| retry_on_intr(|| openat(&parent, leaf, flags, Mode::empty()));
        let descriptor = match open(flags | self.direct_flag(access)) {
            // Refused with O_DIRECT: told below, where it is asked for again.
            Err(Errno::INVAL) => open(flags)?,
            opened => opened?,
        };
        if FileType::from_raw_mode(fstat(&descriptor)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a regular file")));
        }
        // Left on, it would let the ring answer EAGAIN instead of waiting for the disk.
        fcntl_setfl(&descriptor, OFlags::empty())?;
        self.file(descriptor, name, access)
    }

    fn create(&self, name: &str, len: u64, access: Access) -> io::Result<Arc<dyn File>> {
        self.check_writable()?;
        if matches!(access, Access::Read | Access::ReadDirect) {
            return Err(Errno::INVAL.into());
        }
        self.prepare_subdirectory(name)?;
        let (parent, leaf) = self.parent(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |flags| retry_on_intr(|| openat(&parent, leaf, flags, FILE_MODE));
        let descriptor = match make(flags | self.direct_flag(access)) {
            Err(Errno::INVAL) => {
                // Some file systems make the name before they refuse O_DIRECT.
                let _ = unlinkat(&parent, leaf, AtFlags::empty());
                make(flags)?
            }
            made => made?,
        };
        // What fills it with zeros, where it must be, need not be aligned.
        fcntl_setfl(&descriptor, OFlags::empty())?;
        let made = self.allocate(&descriptor, len).and_then(|()| self.file(descriptor, name, access));
        if made.is_err() {
            // The first failure is the one to tell; a leftover is removed at the next open.
            let _ = unlinkat(&parent, leaf, AtFlags::empty());
        }
        made
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        let (parent, leaf) = self.parent(name)?;
        retry_on_intr(|| unlinkat(&parent, leaf, AtFlags::empty()))?;
        if let (Some(subdirectory), _) = split(name)? {
            self.remember_subdirectory(subdirectory);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        self.prepare_subdirectory(to)?;
        let (from_parent, from_leaf) = self.parent(from)?;
        let (to_parent, to_leaf) = self.parent(to)?;
        retry_on_intr(|| renameat(&from_parent, from_leaf, &to_parent, to_leaf))?;
        if let (Some(subdirectory), _) = split(from)? {
            self.remember_subdirectory(subdirectory);
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.latch.check()?;
        // Held throughout: a name that changes meanwhile is either in the list or not yet made.
        let mut unsynced = locked(&self.unsynced_subdirectories);
        for subdirectory in unsynced.iter() {
            let flags = DIRECTORY_FLAGS | OFlags::NOFOLLOW;
            match retry_on_intr(|| openat(&self.directory.descriptor, subdirectory, flags, Mode::empty())) {
                Ok(descriptor) => self.directory.latch.settle(fsync(descriptor).map_err(io::Error::from))?,
                // Removed by hand: its names are gone with it.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.directory.sync()?;
        unsynced.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let file_system = retry_on_intr(|| fstatvfs(&self.directory.descriptor))?;
        Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.check_writable()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = retry_on_intr(|| openat(&self.directory.descriptor, LOCK_NAME, flags, FILE_MODE))?;
        let file = std::fs::File::from(descriptor);
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        loop {
            match file.try_lock() {
                // Whoever held it has taken the directory back, lock and all: this is a file that nobody else finds.
                Ok(()) if fstat(&file)?.st_nlink == 0 => return self.lock(),
                Ok(()) => return Ok(Box::new(Lock(file))),
                Err(std::fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    fn write_device(&self, arena: &Arc<Arena>, options: DeviceOptions) -> io::Result<Box<dyn WriteDevice>> {
        let directory: Arc<dyn File> = Arc::clone(&self.directory) as _;
        if options.backend == Backend::Blocking {
            return Ok(Box::new(BlockingWriter::new(directory, String::new())));
        }
        match RingWriter::new(arena, Arc::clone(&directory), options) {
            Ok(ring) => Ok(Box::new(ring)),
            Err(refusal) => {
                let reason = self.fall_back(options.backend, refusal)?;
                Ok(Box::new(BlockingWriter::new(directory, reason)))
            }
        }
    }

    fn read_device(&self, arena: &Arc<Arena>, options: DeviceOptions) -> io::Result<Box<dyn ReadDevice>> {
        if options.backend == Backend::Blocking {
            return Ok(Box::new(BlockingReader::new(String::new())));
        }
        match RingReader::new(arena, options) {
            Ok(ring) => Ok(Box::new(ring)),
            Err(refusal) => Ok(Box::new(BlockingReader::new(self.fall_back(options.backend, refusal)?))),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for RealDisk {
    fn drop(&mut self) {
        if self.is_new {
            // Refused by the kernel as soon as anything is in it.
            let _ = unlinkat(rustix::fs::CWD, &self.path, AtFlags::REMOVEDIR);
        }
    }
}

impl fmt::Debug for RealDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealDisk")
            .field("path", &self.path)
            .field("direct_io", &self.direct_io)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// The lock of a directory. Unlocked by name when dropped: a child that was forked meanwhile has the same
/// description open, and would hold the lock on.
struct Lock(std::fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing unlocks too, where no child is in the way.
        let _ = self.0.unlock();
    }
}

/// An open file, or the directory itself, of which nothing can be read or written.
#[derive(Debug)]
struct RealFile {
    descriptor: OwnedFd,
    name: String,
    alignment: usize,
    is_direct: bool,
    is_directory: bool,
    latch: SyncLatch,
}

impl RealFile {
    fn buffered(descriptor: OwnedFd, name: &str) -> Self {
        let (name, latch) = (name.to_owned(), SyncLatch::new());
        Self { descriptor, name, alignment: 1, is_direct: false, is_directory: false, latch }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| pread(&self.descriptor, &mut *buffer, offset))?)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| pwrite(&self.descriptor, bytes, offset))?)
    }

    fn sync(&self) -> io::Result<()> {
        self.latch.check()?;
        // Of a directory fdatasync may leave out the names.
        let synced = if self.is_directory { fsync(&self.descriptor) } else { fdatasync(&self.descriptor) };
        self.latch.settle(synced.map_err(io::Error::from))
    }

    fn len(&self) -> io::Result<u64> {
        let size = retry_on_intr(|| fstat(&self.descriptor))?.st_size;
        u64::try_from(size).map_err(|_| Errno::OVERFLOW.into())
    }

    fn written_bytes(&self) -> io::Result<u64> {
        if !tells_unwritten(retry_on_intr(|| fstatfs(&self.descriptor))?.f_type as u64) {
            return Ok(0);
        }
        // The position that this moves is nobody's: every transfer names its offset.
        match retry_on_intr(|| seek(&self.descriptor, SeekFrom::Hole(0))) {
            Ok(first_hole) => Ok(first_hole),
            // Behind the end of the file: it is empty.
            Err(Errno::NXIO) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn is_direct(&self) -> bool {
        self.is_direct
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }

    fn sync_latch(&self) -> Option<&SyncLatch> {
        Some(&self.latch)
    }
}

/// Whether a file system of this magic number overwrites in place, and calls an extent that is allocated and not
/// written a hole. The answer of others would be "all of it is written" for a file that was only allocated.
fn tells_unwritten(magic: u64) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    matches!(magic & 0xffff_ffff, EXT4 | XFS)
}

/// Turns O_DIRECT on: the alignment it asks for, or why it is not to be had.
fn go_direct(descriptor: &OwnedFd) -> io::Result<Result<usize, String>> {
    let alignment = match direct_alignment(descriptor)? {
        Ok(alignment) => alignment,
        Err(reason) => return Ok(Err(reason)),
    };
    match retry_on_intr(|| fcntl_setfl(descriptor, OFlags::DIRECT)) {
        Ok(()) => Ok(Ok(alignment)),
        Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP)) => {
            Ok(Err(format!("the file system refuses O_DIRECT ({})", named(&errno.into()))))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// What the file system asks of direct transfers, from statx(2) where it tells.
fn direct_alignment(descriptor: &OwnedFd) -> io::Result<Result<usize, String>> {
    match retry_on_intr(|| statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)) {
        Ok(told) if told.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            Ok(alignment_of(told.stx_dio_mem_align, told.stx_dio_offset_align))
        }
        Ok(_) | Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(Ok(ALIGNMENT)),
        Err(errno) => Err(errno.into()),
    }
}

/// One alignment for buffers, offsets and lengths. We transfer multiples of 4096, so it must divide that.
fn alignment_of(memory_alignment: u32, offset_alignment: u32) -> Result<usize, String> {
    if offset_alignment == 0 {
        return Err("the file system takes no direct transfers for this file".to_owned());
    }
    let alignment = memory_alignment.max(offset_alignment).max(512) as usize;
    if !ALIGNMENT.is_multiple_of(alignment) {
        return Err(format!(
            "direct transfers need an alignment of {alignment} bytes, and ours is {ALIGNMENT}"
        ));
    }
    Ok(alignment)
}

fn fill_with_zeros(descriptor: &OwnedFd, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_FILL_BYTES];
    let mut offset = 0;
    while offset < len {
        let bytes = &zeros[..usize::try_from(len - offset).unwrap_or(usize::MAX).min(zeros.len())];
        match retry_on_intr(|| pwrite(descriptor, bytes, offset))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written_bytes => offset += written_bytes as u64,
        }
    }
    Ok(())
}

/// Makes the name of a fresh directory durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = retry_on_intr(|| openat(rustix::fs::CWD, parent, DIRECTORY_FLAGS, Mode::empty()))?;
    Ok(fsync(parent)?)
}

/// The subdirectory and the last component of a name; anything that could lead out of the directory is EINVAL.
fn split(name: &str) -> io::Result<(Option<&str>, &str)> {
    let is_component = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['/', '\0']);
    let (subdirectory, leaf) = match name.split_once('/') {
        Some((subdirectory, leaf)) => (Some(subdirectory), leaf),
        None => (None, name),
    };
    if !is_component(leaf) || !subdirectory.is_none_or(is_component) {
        return Err(Errno::INVAL.into());
    }
    Ok((subdirectory, leaf))
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Lists of strings are whole between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the kernel by its name and words, as `EPERM (Operation not permitted)`.
pub(super) fn named(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.to_string() };
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let name = match Errno::from_raw_os_error(errno) {
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::NOSYS => "ENOSYS",
        Errno::NOMEM => "ENOMEM",
        Errno::INVAL => "EINVAL",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::MFILE => "EMFILE",
        Errno::NFILE => "ENFILE",
        Errno::FAULT => "EFAULT",
        Errno::EXIST => "EEXIST",
        _ => return format!("errno {errno} ({words})"),
    };
    format!("{name} ({words})")
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod tests;
