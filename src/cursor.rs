//! A destination's file `cursor-NAME`: how far it has confirmed, and its side of the ledger.
//!
//! *Confirmed* means that the destination has everything up to there, or that a durable gap names it. Written
//! about once a second, which bounds what is sent again after a crash. A slot is recycled only when **both**
//! copies are past it ([`Cursor::confirmed_in_both_copies`]): whichever copy is lost, the other one never
//! points at records that are gone.
//!
//! The ledger closes in here: `delivered + dropped = confirmed - since_sequence`, unless it is `inexact`.
//! It knows neither the log nor the gaps; what it says of both it was told.

use std::borrow::Cow;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::copies::{Found, Layout, Opened, TwoCopies};
use crate::error::{Error, Kind, Result};
use crate::gaps::Totals;
use crate::io::{Access, Disk};
use crate::position::StoreId;
use crate::segment::format::{self, COPY_BYTES, DestinationEntry, Envelope, RANGES_MAX};
use crate::state::flag;

/// The longest name of a destination, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

const PREFIX: &str = "cursor-";

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CursorState {
    /// The destination has everything up to here, or a durable gap names it.
    pub confirmed: u64,
    /// Records delivered in all, of those up to `confirmed`.
    pub delivered: u64,
    /// Records dropped in all, by reason, of those up to `confirmed`.
    pub dropped: Totals,
    /// Steady state, records a second, in thousandths.
    pub steady_records_milli: u64,
    /// Steady state, bytes a second.
    pub steady_bytes: u64,
    /// An unclean stop, or damage, has made the counts inexact.
    pub inexact: bool,
    /// The sequence before the first one that this destination answers for.
    pub since_sequence: u64,
    /// The destination was told of every gap up to here; at most `confirmed`.
    pub gaps_through: u64,
    /// Confirmed beyond `confirmed`: first and last, ascending, apart, at most 64.
    pub ranges: Vec<(u64, u64)>,
}

impl CursorState {
    /// The state of a destination that answers for everything after `since_sequence`.
    pub fn since(since_sequence: u64) -> Self {
        Self { confirmed: since_sequence, since_sequence, gaps_through: since_sequence, ..Self::default() }
    }

    /// What a segment header can still say when both copies are damaged. Repeats may follow, loss may not;
    /// the counts are inexact from here on.
    pub fn healed(entry: &DestinationEntry) -> Self {
        let (confirmed, delivered) = (entry.confirmed.get(), entry.delivered.get());
        Self { confirmed, delivered, gaps_through: confirmed, inexact: true, ..Self::default() }
    }

    /// As a segment header repeats it.
    ///
    /// # Panics
    /// When `name` is longer than 63 bytes: the cursor of that name could not have been made.
    pub fn entry(&self, name: &str) -> DestinationEntry {
        let mut entry = DestinationEntry::new_zeroed();
        assert!(name.len() <= NAME_BYTES_MAX, "a destination's name is short");
        entry.name[..name.len()].copy_from_slice(name.as_bytes());
        entry.confirmed = U64::new(self.confirmed);
        entry.delivered = U64::new(self.delivered);
        entry
    }

    /// Why this can't be a cursor, if it can't.
    pub fn flaw(&self) -> Option<&'static str> {
        let starts = std::iter::once(self.confirmed).chain(self.ranges.iter().map(|range| range.1));
        if self.since_sequence > self.confirmed {
            return Some("confirmed lies before the destination's first sequence");
        }
        if self.gaps_through > self.confirmed {
            return Some("the destination was told of gaps that are not confirmed");
        }
        if self.ranges.len() > RANGES_MAX {
            return Some("more than 64 ranges are confirmed beyond the watermark");
        }
        if starts.zip(&self.ranges).any(|(before, (first, last))| *first <= before || first > last) {
            return Some("the ranges confirmed beyond the watermark do not ascend");
        }
        let counted = self.dropped.sum() + u128::from(self.delivered);
        if !self.inexact && counted != u128::from(self.confirmed - self.since_sequence) {
            return Some("delivered and dropped do not add up to confirmed");
        }
        None
    }

    /// As it stands on disk.
    pub fn encode(&self) -> format::Cursor {
        let mut cursor = format::Cursor {
            confirmed: U64::new(self.confirmed),
            delivered: U64::new(self.delivered),
            dropped: self.dropped.encode(),
            steady_records_milli: U64::new(self.steady_records_milli),
            steady_bytes: U64::new(self.steady_bytes),
            inexact: U32::new(self.inexact.into()),
            range_count: U32::new(self.ranges.len() as u32),
            since_sequence: U64::new(self.since_sequence),
            gaps_through: U64::new(self.gaps_through),
            ..format::Cursor::new_zeroed()
        };
        for (stored, (first, last)) in cursor.ranges.iter_mut().zip(&self.ranges) {
            *stored = format::Range { first: U64::new(*first), last: U64::new(*last) };
        }
        cursor
    }

    /// What `body` says; `None` if it can't be a cursor.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let cursor = format::Cursor::read_from_bytes(body).ok()?;
        let ranges = cursor.ranges.get(..cursor.range_count.get() as usize)?;
        let state = Self {
            confirmed: cursor.confirmed.get(),
            delivered: cursor.delivered.get(),
            dropped: Totals::decode(&cursor.dropped),
            steady_records_milli: cursor.steady_records_milli.get(),
            steady_bytes: cursor.steady_bytes.get(),
            inexact: flag(cursor.inexact)?,
            since_sequence: cursor.since_sequence.get(),
            gaps_through: cursor.gaps_through.get(),
            ranges: ranges.iter().map(|range| (range.first.get(), range.last.get())).collect(),
        };
        state.flaw().is_none().then_some(state)
    }
}

/// The name in a segment header's entry; `None` where it is not a destination's name.
pub fn entry_name(entry: &DestinationEntry) -> Option<Cow<'_, str>> {
    let name = entry.name.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name);
    check_name(&name).is_ok().then_some(name)
}

/// Whether `name` may be a destination's: 1 to 63 of `a-z`, `0-9`, `.`, `_` and `-`.
///
/// # Errors
/// [`Kind::Config`], with the rule.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let rule = "a destination's name has 1 to 63 of a-z, 0-9, '.', '_' and '-'";
    Err(Error::new(Kind::Config, format!("{rule}, and {name:?} is not such a name")))
}

/// One destination's open file. Each write costs one write of 4 KiB and one sync.
#[derive(Debug)]
pub struct Cursor {
    copies: TwoCopies,
    state: CursorState,
    /// What the older copy says is confirmed; 0 while nobody can know.
    confirmed_older: u64,
}

impl Cursor {
    /// Makes the file, with its blocks allocated, and syncs it; the caller syncs the names.
    ///
    /// # Errors
    /// [`Kind::Config`] when the name is not allowed, and what the system says.
    pub fn create(disk: &dyn Disk, name: &str, store: StoreId, state: CursorState) -> Result<Self> {
        check_name(name)?;
        let file = file_name(name);
        let copies = TwoCopies::create(disk, layout(&file), store, checked(&state).as_bytes())?;
        Ok(Self { copies, confirmed_older: state.confirmed, state })
    }

    /// Opens it. `Missing` and `Damaged` are the caller's to heal: from what the segment headers repeat
    /// ([`CursorState::healed`]), else from the oldest segment.
    ///
    /// # Errors
    /// [`Kind::Config`] when the name is not allowed; else as [`TwoCopies::open`].
    pub fn open(disk: &dyn Disk, name: &str, store: StoreId, access: Access) -> Result<Found<Self>> {
        check_name(name)?;
        let file = file_name(name);
        let found = TwoCopies::open(disk, layout(&file), Some(store), access, CursorState::decode)?;
        Ok(found.map(|Opened { copies, newest, other }| {
            let confirmed_older = other.map_or(0, |other| other.confirmed);
            Self { copies, state: newest, confirmed_older }
        }))
    }

    /// Opens it for writing, or makes it with `state` when it is missing. Never answers `Missing`.
    ///
    /// # Errors
    /// As [`Cursor::open`] and [`Cursor::create`].
    pub fn open_or_create(
        disk: &dyn Disk,
        name: &str,
        store: StoreId,
        state: CursorState,
    ) -> Result<Found<Self>> {
        match Self::open(disk, name, store, Access::Write)? {
            Found::Missing => Self::create(disk, name, store, state).map(Found::Sound),
            found => Ok(found),
        }
    }

    /// Makes a file whose copies are both damaged say `state`.
    ///
    /// # Errors
    /// As [`Cursor::create`].
    pub fn replace(disk: &dyn Disk, name: &str, store: StoreId, state: CursorState) -> Result<Self> {
        check_name(name)?;
        let file = file_name(name);
        let copies = TwoCopies::replace(disk, layout(&file), store, checked(&state).as_bytes())?;
        Ok(Self { copies, confirmed_older: state.confirmed, state })
    }

    /// The destinations that have a cursor in this directory, in alphabetical order.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(disk: &dyn Disk) -> Result<Vec<String>> {
        let found = disk.names();
        let found = found.map_err(|error| Error::io(format!("cannot list {}", disk.place()), error))?;
        let named = found.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let mut names: Vec<_> = named.filter(|name| check_name(name).is_ok()).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The destination's name.
    pub fn name(&self) -> &str {
        &self.copies.name()[PREFIX.len()..]
    }

    /// What it says, durably.
    pub fn state(&self) -> &CursorState {
        &self.state
    }

    /// How many copies (0 or 1) were found damaged and have not been written since.
    pub fn damaged_copies(&self) -> u8 {
        self.copies.damaged_copies()
    }

    /// The lower of what the two copies say is confirmed: after a write, what the write before it said. Only what
    /// lies at or below it may be recycled. 0 while one copy is damaged, or half written.
    pub fn confirmed_in_both_copies(&self) -> u64 {
        self.confirmed_older.min(self.state.confirmed)
    }

    /// Writes `state`; durable when it returns `Ok`, and what was written before when it does not.
    ///
    /// # Panics
    /// When `confirmed` would go back, or `state` has a [flaw](CursorState::flaw): the ledger would not close.
    ///
    /// # Errors
    /// As [`TwoCopies::write`].
    pub fn write(&mut self, state: CursorState) -> Result<()> {
        assert!(state.confirmed >= self.state.confirmed, "confirmed never goes back");
        self.confirmed_older = 0;
        self.copies.write(checked(&state).as_bytes())?;
        self.confirmed_older = self.state.confirmed;
        self.state = state;
        Ok(())
    }
}

fn checked(state: &CursorState) -> format::Cursor {
    assert_eq!(state.flaw(), None, "{state:?}");
    state.encode()
}

fn file_name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn layout(file: &str) -> Layout<'_> {
    Layout { name: file, kind: Envelope::Cursor, copy_bytes: COPY_BYTES }
}

#[cfg(test)]
mod tests;
