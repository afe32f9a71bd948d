//! A store as its directory has it, for whoever does not own it: nothing is changed and no lock is taken.
//!
//! ```text
//! state ─► gaps, cursors ─► slot headers ─► the tail, synced through a read-only handle ─► Archive
//!                                                                      ArchiveReader ◄─────┘
//! ```
//!
//! Works on a store that somebody else is writing, and on a read-only mount. Beside a writer one look may see
//! things of two moments, which looks like damage: so what seems damaged is looked at again, and believed when two
//! looks agree. Counting, judging and showing is not its business.

use std::path::Path;
use std::sync::Arc;

use crate::copies::Found;
use crate::cursor::{Cursor, CursorState, entry_name};
use crate::error::{Error, Kind, Result};
use crate::gaps::{Gap, GapFile};
use crate::io::real::RealDisk;
use crate::io::{Access, Backend, Disk};
use crate::position::{Epoch, StoreId};
use crate::segment::format::{FIRST_BLOCK_OFFSET, slot_name, slot_of_name};
use crate::segment::recovery::{Damage, Known, Recovered, recover_scanned};
use crate::segment::salvage::scratch;
use crate::segment::scan::Scan;
use crate::segment::stream::Stream;
use crate::segment::survey::{Alone, BlockInfo, Proof, Survey};
use crate::state::{StateFile, StoreState};
use crate::store::open::store_of_slots;

mod reader;
#[cfg(test)]
mod tests;

pub use reader::{ArchiveReader, Step};

/// How often what seems damaged is looked at before it is believed without two equal looks.
const LOOKS_MAX: usize = 6;

/// A store at one moment.
#[derive(Debug)]
pub struct Archive {
    disk: Arc<dyn Disk>,
    store: StoreId,
    state: Option<StoreState>,
    destinations: Vec<(String, CursorState)>,
    gaps: Vec<Gap>,
    flaws: Vec<String>,
    recovered: Recovered,
}

impl Archive {
    /// Looks at the store in the directory `path`.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory, `Config` when it is not a store, `Unsupported` when a later
    /// version wrote it, `Permission`, and what the disk says. Damage is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let disk = RealDisk::read_only(path).map_err(|error| refused(path, error))?;
        Self::open_on(Arc::new(disk))
    }

    /// As [`Archive::open`], on a disk of the caller's.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Self> {
        let mut archive = Self::look(&disk)?;
        for _ in 1..LOOKS_MAX {
            if archive.is_sound() {
                break;
            }
            let again = Self::look(&disk)?;
            let agree = again.wounds() == archive.wounds();
            archive = again;
            if agree {
                break;
            }
        }
        Ok(archive)
    }

    fn look(disk: &Arc<dyn Disk>) -> Result<Self> {
        let mut flaws = Vec::new();
        let (store, state) = stated(&**disk, &mut flaws)?;
        let gaps = gaps_of(&**disk, store, &mut flaws)?;
        let (mut destinations, mut lost) = destinations_of(&**disk, store, &mut flaws)?;
        let mut scratch = scratch().map_err(|error| Error::io("no memory to read a store with", error))?;
        let scan = Scan::read(&**disk, store, &mut scratch)?;
        for name in repeated_names(&scan) {
            if !lost.contains(&name) && destinations.iter().all(|(known, _)| *known != name) {
                flaws.push(format!("cursor-{name} is missing"));
                lost.push(name);
            }
        }
        destinations.extend(lost.into_iter().map(|name| {
            let repeated = repeated_in(&scan, &name);
            (name, repeated)
        }));
        let confirmed = || destinations.iter().map(|(_, state)| state.confirmed);
        let known = Known {
            state: state.map(|state| state.encode()),
            confirmed_min: confirmed().min().unwrap_or(0),
            confirmed_max: confirmed().max().unwrap_or(0),
            last_gap: gaps.iter().map(|gap| gap.last_sequence).max().unwrap_or(0),
            read_only: true,
            ..Known::default()
        };
        let recovered = recover_scanned(&**disk, store, &known, scan)?;
        Ok(Self { disk: Arc::clone(disk), store, state, destinations, gaps, flaws, recovered })
    }

    fn is_sound(&self) -> bool {
        self.flaws.is_empty() && self.recovered.damage.is_empty() && self.recovered.lost_tail.is_none()
    }

    fn wounds(&self) -> (&[String], &[Damage], Option<&Damage>) {
        (&self.flaws, &self.recovered.damage, self.recovered.lost_tail.as_ref())
    }

    /// Whose records these are.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// What `state` says; `None` when it is lost.
    pub fn state(&self) -> Option<&StoreState> {
        self.state.as_ref()
    }

    /// The epoch of the last open for writing, as far as anything tells.
    pub fn epoch(&self) -> Epoch {
        let seen = self.recovered.epochs.iter().next_back().map(|(epoch, _)| epoch);
        seen.max(self.state.map(|state| state.epoch)).unwrap_or_default()
    }

    /// Each destination and what its cursor says; of a cursor that is lost, what a segment header repeats.
    pub fn destinations(&self) -> &[(String, CursorState)] {
        &self.destinations
    }

    /// The losses that are named and not yet told to everybody, ascending.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The small files that are damaged, a sentence each.
    pub fn flaws(&self) -> &[String] {
        &self.flaws
    }

    /// What an open would find: segments, spares, the end of the log, the damage.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The directory.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Every destination has everything up to here.
    pub fn confirmed_min(&self) -> u64 {
        self.destinations.iter().map(|(_, state)| state.confirmed).min().unwrap_or(0)
    }

    /// The highest sequence that anything in the directory knows of.
    pub fn last_sequence(&self) -> u64 {
        self.recovered.next_sequence - 1
    }

    /// Bytes of a segment's file, before the end of its last block, that belong to no block that is sound to its
    /// last record. Reads the whole segment; 0 when no segment is in that file.
    ///
    /// # Errors
    /// What opening the file says. Not for a thread that runs a tokio runtime, as [`Archive::reader`].
    pub fn unsound_bytes(&self, file: &str) -> Result<u64> {
        let mut segments = self.recovered.catalog.segments();
        let Some(segment) = segments.find(|segment| slot_name(segment.slot) == file) else { return Ok(0) };
        let failed = |error| Error::io(format!("cannot read {file} in {}", self.disk.place()), error);
        let open = self.disk.open(file, Access::ReadDirect).map_err(failed)?;
        let mut stream = Stream::on(&*self.disk, self.store, Backend::Auto).map_err(failed)?;
        let alone = Alone { segment: *segment, file: open };
        let blocks = Survey::all(&mut stream, &alone, Proof::Records).map_err(failed)?;
        let behind = blocks.last().map_or(segment.end, BlockInfo::end);
        let sound = blocks.iter().filter(|block| block.damaged.is_empty());
        let sound: u64 = sound.map(|block| block.block_length).sum();
        Ok((behind - FIRST_BLOCK_OFFSET).saturating_sub(sound))
    }

    /// Reads from `from` on, and tells of gaps that reach beyond `told`.
    ///
    /// # Errors
    /// What the disk says when reading begins.
    pub fn reader(&self, from: u64, told: u64) -> Result<ArchiveReader> {
        ArchiveReader::new(self, from, told)
    }
}

fn refused(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind;
    let place = path.display();
    Error::io(
        match error.kind() {
            ErrorKind::NotFound => format!("{place} is not there: name the directory of a store"),
            ErrorKind::NotADirectory => format!("{place} is not a directory: name the directory of a store"),
            ErrorKind::PermissionDenied => format!("{place} may not be looked into: run as its owner"),
            _ => format!("{place} can't be opened"),
        },
        error,
    )
}

/// Who the store is; by its segments where `state` is lost.
fn stated(disk: &dyn Disk, flaws: &mut Vec<String>) -> Result<(StoreId, Option<StoreState>)> {
    let blank = match StateFile::open(disk, None, Access::Read)? {
        Found::Sound(file) => {
            note_copies("state", file.damaged_copies(), flaws);
            return Ok((file.store(), Some(*file.state())));
        }
        Found::Missing => true,
        Found::Damaged { blank } => blank,
    };
    let place = disk.place();
    let names = disk.names().map_err(|error| Error::io(format!("{place} can't be listed"), error))?;
    let has_slots = names.iter().any(|name| slot_of_name(name).is_some());
    match store_of_slots(disk, &names) {
        Some(store) => {
            flaws.push("state is lost; the segments tell whose store it is".to_owned());
            Ok((store, None))
        }
        None if blank && !has_slots => Err(Error::new(
            Kind::Config,
            format!("{place} is not a store (no state is in it): name the directory of a store"),
        )),
        None => Err(Error::new(
            Kind::Corrupt,
            format!("{place}: state is damaged, and no segment tells whose store it is; see forebay export"),
        )),
    }
}

fn gaps_of(disk: &dyn Disk, store: StoreId, flaws: &mut Vec<String>) -> Result<Vec<Gap>> {
    match GapFile::open(disk, store, Access::Read)? {
        Found::Sound(file) => {
            note_copies("gaps", file.damaged_copies(), flaws);
            Ok(file.iter().cloned().collect())
        }
        // Not made yet, if the first open was cut short.
        Found::Missing | Found::Damaged { blank: true } => Ok(Vec::new()),
        Found::Damaged { blank: false } => {
            flaws.push("gaps is damaged: what it named shows as damage".to_owned());
            Ok(Vec::new())
        }
    }
}

/// The cursors that are sound, and the names of those that are not.
#[expect(clippy::type_complexity, reason = "a pair, taken apart at its one use")]
fn destinations_of(
    disk: &dyn Disk,
    store: StoreId,
    flaws: &mut Vec<String>,
) -> Result<(Vec<(String, CursorState)>, Vec<String>)> {
    let (mut sound, mut lost) = (Vec::new(), Vec::new());
    for name in Cursor::names(disk)? {
        match Cursor::open(disk, &name, store, Access::Read)? {
            Found::Sound(cursor) => {
                note_copies(&format!("cursor-{name}"), cursor.damaged_copies(), flaws);
                sound.push((name, cursor.state().clone()));
            }
            Found::Missing | Found::Damaged { blank: true } => {}
            Found::Damaged { blank: false } => {
                flaws.push(format!("cursor-{name} is damaged"));
                lost.push(name);
            }
        }
    }
    Ok((sound, lost))
}

/// The destinations that the newest segment header repeats: each had a cursor before anything was written there.
pub(super) fn repeated_names(scan: &Scan) -> Vec<String> {
    let entries = scan.newest_header.iter().flat_map(|header| header.destinations());
    entries.filter_map(|entry| entry_name(entry).map(String::from)).collect()
}

/// What the newest segment header still says of a destination, else of the oldest record that is left.
pub(super) fn repeated_in(scan: &Scan, name: &str) -> CursorState {
    let entries = scan.newest_header.iter().flat_map(|header| header.destinations());
    let mut entries = entries.filter(|entry| entry_name(entry).as_deref() == Some(name));
    let oldest = scan.seen.first().map_or(0, |seen| seen.segment.previous_sequence);
    match entries.next().map(CursorState::healed) {
        Some(state) if state.confirmed >= oldest => state,
        _ => CursorState { inexact: oldest > 0, ..CursorState::since(oldest) },
    }
}

fn note_copies(file: &str, damaged_copies: u8, flaws: &mut Vec<String>) {
    if damaged_copies > 0 {
        flaws.push(format!("one of the two copies of {file} is damaged; the other one is sound"));
    }
}
