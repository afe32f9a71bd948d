//! A small file of two copies: one is always whole.
//!
//! ```text
//! 0              copy_bytes          2 × copy_bytes
//! ┌──────────────┬──────────────┐
//! │ copy 0       │ copy 1       │    odd generations live in copy 0, even ones in copy 1
//! │ generation 7 │ generation 6 │ ◄─ the next write: generation 8, here
//! └──────────────┴──────────────┘
//! ```
//!
//! Each write goes over the *older* copy and is synced; the newer one is never touched. So after a power cut the
//! file says what it said before, or what was being written, and what a finished write said is never lost to a
//! later one. Where a generation lives follows from its number, so that a copy in the wrong place is damage.
//!
//! It knows envelopes and bytes; what a body means is its owner's: a body that its owner can't read makes the
//! copy a damaged one. Only the bytes in use are written; a file keeps its size from creation on.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::io::{Access, Disk, File};
use crate::position::StoreId;
use crate::segment::format::{self, ENVELOPE_BYTES, Envelope, aligned};

#[cfg(test)]
pub(crate) mod power_disk;
#[cfg(test)]
mod tests;

/// How often a reader that changes nothing looks again, while a writer may be in the middle of a copy.
const LOOKS_MAX: usize = 4;

/// Which file, and its shape.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// What its envelopes hold.
    pub kind: Envelope,
    /// Bytes of one copy, envelope included: a multiple of 4096.
    pub copy_bytes: usize,
}

/// What became of a file that was looked for.
#[derive(Debug)]
#[must_use]
pub enum Found<T> {
    /// At least one copy is sound.
    Sound(T),
    /// No such file.
    Missing,
    /// Neither copy can be believed; the owner makes the file anew from what else it knows.
    Damaged {
        /// Nothing was ever written: its creation was cut short.
        blank: bool,
    },
}

impl<T> Found<T> {
    /// What was found, as something else.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Sound(found) => Found::Sound(change(found)),
            Self::Missing => Found::Missing,
            Self::Damaged { blank } => Found::Damaged { blank },
        }
    }

    /// What was found, if it is sound.
    pub fn sound(self) -> Option<T> {
        match self {
            Self::Sound(found) => Some(found),
            Self::Missing | Self::Damaged { .. } => None,
        }
    }
}

/// A file with at least one sound copy.
#[derive(Debug)]
pub struct Opened<T> {
    /// The file, for writing on.
    pub copies: TwoCopies,
    /// What the sound copy of the highest generation says.
    pub newest: T,
    /// What the other one says, if it is sound too.
    pub other: Option<T>,
}

/// One file of two alternating copies. One owner writes; dropping it loses nothing that was written.
#[derive(Debug)]
pub struct TwoCopies {
    file: Arc<dyn File>,
    name: String,
    kind: Envelope,
    store: StoreId,
    copy_bytes: usize,
    generation: u64,
    damaged_copies: u8,
    latched: bool,
    sealed: Vec<u8>,
}

impl TwoCopies {
    /// Makes the file (it must not be there), both copies saying `body`, and syncs it.
    ///
    /// Durable once the caller has synced the names of the directory. When it fails nothing stays behind.
    /// Cost: one allocation of blocks, two writes, one sync.
    pub fn create(disk: &dyn Disk, layout: Layout<'_>, store: StoreId, body: &[u8]) -> Result<Self> {
        let failed = |error| Error::io(format!("cannot make {} in {}", layout.name, disk.place()), error);
        let file = disk.create(layout.name, 2 * layout.copy_bytes as u64, Access::Write).map_err(failed)?;
        let mut copies = Self::over(file, layout, store, 0);
        let made = copies.write_both(body);
        if made.is_err() {
            // A half-made file would be found blank or damaged: recovered from, but with a false alarm.
            let _ = disk.remove(layout.name);
        }
        made.map(|()| copies)
    }

    /// Makes both copies of a damaged file say `body`, in place, and syncs it. A crash meanwhile leaves
    /// a file that is damaged still, or says `body`.
    pub fn replace(disk: &dyn Disk, layout: Layout<'_>, store: StoreId, body: &[u8]) -> Result<Self> {
        let file = open_file(disk, layout.name, Access::Write)?;
        let mut copies = Self::over(file, layout, store, 0);
        copies.write_both(body).map(|()| copies)
    }

    /// Opens the file and reads both copies; the higher generation that is sound and that `decode` can read
    /// is believed. With `store` unknown the file says whose it is.
    ///
    /// For writing, the file is synced first: what is believed is durable. For reading only, nothing is changed,
    /// and a copy that is just being written is looked at again.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when a later version wrote it, [`Kind::Corrupt`] when it is another store's,
    /// and what the system says. A missing or damaged file is not an error but an outcome.
    pub fn open<T>(
        disk: &dyn Disk,
        layout: Layout<'_>,
        store: Option<StoreId>,
        access: Access,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Found<Opened<T>>> {
        let file = match open_file(disk, layout.name, access) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Found::Missing),
            opened => opened?,
        };
        if access == Access::Write {
            file.sync().map_err(|error| said(layout.name, "sync", error))?;
        }
        let look = || Look::take(&*file, layout, store, &decode);
        let mut seen = look()?;
        for _ in 1..LOOKS_MAX {
            if access == Access::Write || seen.sound_count() == 2 {
                break;
            }
            seen = look()?;
        }
        let damaged_copies = 2 - seen.sound_count();
        let blank = seen.blank;
        let Some((newest, other)) = seen.ranked(layout.name)? else {
            return Ok(Found::Damaged { blank });
        };
        let mut copies = Self::over(file, layout, newest.store, newest.generation);
        copies.damaged_copies = damaged_copies;
        Ok(Found::Sound(Opened { copies, newest: newest.value, other: other.map(|copy| copy.value) }))
    }

    /// Writes `body` over the older copy and syncs it: durable when it returns `Ok`. When it fails, the newer
    /// copy is what it was. Cost: one write of the bytes in use (in steps of 4096) and one sync; no allocation
    /// once the largest body was written.
    ///
    /// # Errors
    /// After a failed sync nobody knows what is on the device: every later write fails with [`Kind::Failed`]
    /// until the file is opened again, which then believes the newer copy: what failed is made unsound as far as it
    /// still can be. A failed write may be tried again.
    pub fn write(&mut self, body: &[u8]) -> Result<()> {
        self.check_latch()?;
        let generation = self.generation + 1;
        self.write_copy(generation, body)?;
        if let Err(error) = self.sync() {
            self.take_back(generation);
            return Err(error);
        }
        self.generation = generation;
        self.damaged_copies = 0;
        Ok(())
    }

    /// Whose file it is.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The generation that is believed; each write takes the next one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many copies (0 or 1) were found damaged and have not been written since.
    pub fn damaged_copies(&self) -> u8 {
        self.damaged_copies
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that a body may take.
    pub fn body_bytes_max(&self) -> usize {
        self.copy_bytes - ENVELOPE_BYTES
    }

    fn over(file: Arc<dyn File>, layout: Layout<'_>, store: StoreId, generation: u64) -> Self {
        let Layout { name, kind, copy_bytes } = layout;
        assert_eq!(copy_bytes, aligned(copy_bytes), "copies are aligned");
        let (name, damaged_copies, latched) = (name.to_owned(), 0, false);
        Self { file, name, kind, store, copy_bytes, generation, damaged_copies, latched, sealed: Vec::new() }
    }

    fn write_both(&mut self, body: &[u8]) -> Result<()> {
        self.write_copy(1, body)?;
        self.write_copy(2, body)?;
        self.sync()?;
        self.generation = 2;
        Ok(())
    }

    fn write_copy(&mut self, generation: u64, body: &[u8]) -> Result<()> {
        assert!(body.len() <= self.body_bytes_max(), "{} holds less than {} bytes", self.name, body.len());
        self.sealed.resize(aligned(ENVELOPE_BYTES + body.len()), 0);
        format::seal_envelope(self.kind, self.store, generation, body, &mut self.sealed);
        let offset = (copy_of(generation) * self.copy_bytes) as u64;
        write_all(&*self.file, &self.sealed, offset).map_err(|error| said(&self.name, "write", error))
    }

    fn sync(&mut self) -> Result<()> {
        let synced = self.file.sync();
        self.latched = synced.is_err();
        synced.map_err(|error| said(&self.name, "sync", error))
    }

    /// The page cache may call clean what the device never took. Whoever opens the file next would believe that copy
    /// and write over the one that is durable: so the copy is made unsound, as far as anything still can be.
    fn take_back(&mut self, generation: u64) {
        self.sealed.truncate(format::ALIGNMENT);
        self.sealed.fill(0);
        let _ = write_all(&*self.file, &self.sealed, (copy_of(generation) * self.copy_bytes) as u64);
    }

    fn check_latch(&self) -> Result<()> {
        if !self.latched {
            return Ok(());
        }
        Err(Error::new(Kind::Failed, format!("{} failed to sync before; open the store again", self.name)))
    }
}

/// Where a generation lives: the older copy is always the one that the next generation belongs to.
fn copy_of(generation: u64) -> usize {
    generation.is_multiple_of(2).into()
}

fn open_file(disk: &dyn Disk, name: &str, access: Access) -> Result<Arc<dyn File>> {
    disk.open(name, access)
        .map_err(|error| Error::io(format!("cannot open {name} in {}", disk.place()), error))
}

fn said(name: &str, verb: &str, error: std::io::Error) -> Error {
    Error::io(format!("cannot {verb} {name}"), error)
}

/// A copy that is sound.
struct SoundCopy<T> {
    store: StoreId,
    generation: u64,
    value: T,
}

/// Both copies, read once.
struct Look<T> {
    copies: [Option<SoundCopy<T>>; 2],
    foreign: Option<StoreId>,
    blank: bool,
}

impl<T> Look<T> {
    fn take(
        file: &dyn File,
        layout: Layout<'_>,
        store: Option<StoreId>,
        decode: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Self> {
        let mut look = Self { copies: [None, None], foreign: None, blank: true };
        let mut bytes = vec![0; layout.copy_bytes];
        let mut unreadable = Vec::new();
        for copy in 0..2 {
            let length = match read_all(file, &mut bytes, (copy * layout.copy_bytes) as u64) {
                Ok(length) => length,
                Err(error) => {
                    unreadable.push(error);
                    look.blank = false;
                    continue;
                }
            };
            look.blank &= bytes[..length].iter().all(|byte| *byte == 0);
            look.judge(copy, &bytes[..length], layout, store, decode)?;
        }
        // One copy that can't be read is damage; two are a device that can't be read.
        match unreadable.pop() {
            Some(error) if !unreadable.is_empty() => Err(said(layout.name, "read", error)),
            _ => Ok(look),
        }
    }

    fn judge(
        &mut self,
        copy: usize,
        bytes: &[u8],
        layout: Layout<'_>,
        expected: Option<StoreId>,
        decode: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<()> {
        match format::open_envelope(layout.kind, bytes) {
            format::Opened::Newer(version) => {
                let name = layout.name;
                let known = format::VERSION;
                let sentence =
                    format!("{name} is of version {version}, and this program reads up to {known}");
                return Err(Error::new(Kind::Unsupported, sentence));
            }
            format::Opened::Sound { store, .. } if expected.is_some_and(|expected| expected != store) => {
                self.foreign = Some(store);
            }
            // The last generation has no successor; nobody gets there by counting.
            format::Opened::Sound { store, generation, body }
                if copy_of(generation) == copy && (1..u64::MAX).contains(&generation) =>
            {
                self.copies[copy] = decode(body).map(|value| SoundCopy { store, generation, value });
            }
            format::Opened::Sound { .. } | format::Opened::Unsound => {}
        }
        Ok(())
    }

    fn sound_count(&self) -> u8 {
        self.copies.iter().flatten().count() as u8
    }

    /// The newest, and the other; `None` when neither is sound.
    #[expect(clippy::type_complexity, reason = "a pair of copies, used once")]
    fn ranked(self, name: &str) -> Result<Option<(SoundCopy<T>, Option<SoundCopy<T>>)>> {
        Ok(match (self.copies, self.foreign) {
            ([Some(zero), Some(one)], _) if zero.store != one.store => {
                let sentence =
                    format!("the copies of {name} are of two stores, {} and {}", zero.store, one.store);
                return Err(Error::new(Kind::Corrupt, sentence));
            }
            ([Some(zero), Some(one)], _) if zero.generation > one.generation => Some((zero, Some(one))),
            ([Some(zero), Some(one)], _) => Some((one, Some(zero))),
            ([Some(only), None] | [None, Some(only)], _) => Some((only, None)),
            ([None, None], Some(store)) => {
                return Err(Error::new(Kind::Corrupt, format!("{name} belongs to another store, {store}")));
            }
            ([None, None], None) => None,
        })
    }
}

fn read_all(file: &dyn File, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_all(file: &dyn File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
