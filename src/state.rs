//! The file `state`: who the store is, which epoch it is in, and how far it was durable.
//!
//! An epoch is written here, durably, before the first write or send of its open: so no identity is ever used
//! twice. The watermarks are what recovery tells damage from a torn tail by; they may lag, never lead.
//! It knows no segment: what it says of them (the highest id, their size) it was told.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::copies::{Found, Layout, TwoCopies};
use crate::error::Result;
use crate::io::{Access, Disk};
use crate::position::{Epoch, StoreId};
use crate::segment::format::{self, COPY_BYTES, Envelope};

const LAYOUT: Layout<'static> = Layout { name: "state", kind: Envelope::State, copy_bytes: COPY_BYTES };

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreState {
    /// The epoch of the last open for writing.
    pub epoch: Epoch,
    /// The first sequence of that epoch: what an older epoch has at or above it is stale.
    pub epoch_base: u64,
    /// Everything up to here was durable.
    pub durable_sequence: u64,
    /// Everything up to here had been accepted.
    pub appended_sequence: u64,
    /// The highest segment id that was ever given.
    pub segment_id_max: u64,
    /// Bytes of a slot of this directory.
    pub segment_bytes: u64,
    /// The cap in force at creation, in bytes.
    pub disk_bytes_cap: u64,
    /// The store was closed, and nothing was in memory alone.
    pub clean: bool,
    /// Records may leave, or be lost, before they are durable.
    pub exposed: bool,
}

impl StoreState {
    /// As it stands on disk.
    pub fn encode(&self) -> format::State {
        format::State {
            epoch: U64::new(self.epoch.0),
            epoch_base: U64::new(self.epoch_base),
            durable_sequence: U64::new(self.durable_sequence),
            appended_sequence: U64::new(self.appended_sequence),
            segment_id_max: U64::new(self.segment_id_max),
            segment_bytes: U64::new(self.segment_bytes),
            disk_bytes_cap: U64::new(self.disk_bytes_cap),
            clean: U32::new(self.clean.into()),
            exposed: U32::new(self.exposed.into()),
            ..format::State::new_zeroed()
        }
    }

    /// What `body` says; `None` if it can't be a state.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let state = format::State::read_from_bytes(body).ok()?;
        Some(Self {
            epoch: Epoch(state.epoch.get()),
            epoch_base: state.epoch_base.get(),
            durable_sequence: state.durable_sequence.get(),
            appended_sequence: state.appended_sequence.get(),
            segment_id_max: state.segment_id_max.get(),
            segment_bytes: state.segment_bytes.get(),
            disk_bytes_cap: state.disk_bytes_cap.get(),
            clean: flag(state.clean)?,
            exposed: flag(state.exposed)?,
        })
    }
}

/// A flag as it stands on disk: 0 or 1, and nothing else.
pub(crate) fn flag(stored: U32) -> Option<bool> {
    match stored.get() {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The open file. Each write costs one write of 4 KiB and one sync.
#[derive(Debug)]
pub struct StateFile {
    copies: TwoCopies,
    state: StoreState,
}

impl StateFile {
    /// Makes the file, with its blocks allocated, and syncs it; the caller syncs the names.
    pub fn create(disk: &dyn Disk, store: StoreId, state: StoreState) -> Result<Self> {
        let copies = TwoCopies::create(disk, LAYOUT, store, state.encode().as_bytes())?;
        Ok(Self { copies, state })
    }

    /// Opens it. Without `store` the file says which store this is.
    ///
    /// # Errors
    /// As [`TwoCopies::open`].
    pub fn open(disk: &dyn Disk, store: Option<StoreId>, access: Access) -> Result<Found<Self>> {
        let found = TwoCopies::open(disk, LAYOUT, store, access, StoreState::decode)?;
        Ok(found.map(|opened| Self { copies: opened.copies, state: opened.newest }))
    }

    /// Makes a file whose copies are both damaged say `state`.
    pub fn replace(disk: &dyn Disk, store: StoreId, state: StoreState) -> Result<Self> {
        let copies = TwoCopies::replace(disk, LAYOUT, store, state.encode().as_bytes())?;
        Ok(Self { copies, state })
    }

    /// What it says, durably.
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// Which store this is.
    pub fn store(&self) -> StoreId {
        self.copies.store()
    }

    /// How many copies (0 or 1) were found damaged and have not been written since.
    pub fn damaged_copies(&self) -> u8 {
        self.copies.damaged_copies()
    }

    /// Writes `state`; durable when it returns `Ok`, and what was written before when it does not.
    ///
    /// # Errors
    /// As [`TwoCopies::write`].
    pub fn write(&mut self, state: StoreState) -> Result<()> {
        assert!(state.epoch >= self.state.epoch, "epochs only ascend");
        assert!(state.segment_id_max >= self.state.segment_id_max, "a segment id is never given twice");
        self.copies.write(state.encode().as_bytes())?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::copies::power_disk::PowerDisk;

    const STORE: StoreId = StoreId([3; 16]);

    fn any_state() -> impl Strategy<Value = StoreState> {
        (any::<[u64; 7]>(), any::<(bool, bool)>()).prop_map(|(numbers, (clean, exposed))| StoreState {
            epoch: Epoch(numbers[0]),
            epoch_base: numbers[1],
            durable_sequence: numbers[2],
            appended_sequence: numbers[3],
            segment_id_max: numbers[4],
            segment_bytes: numbers[5],
            disk_bytes_cap: numbers[6],
            clean,
            exposed,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(state in any_state()) {
            let disk = PowerDisk::default();
            StateFile::create(&disk, STORE, StoreState::default()).unwrap().write(state).unwrap();
            let file = StateFile::open(&disk, None, Access::Read).unwrap().sound().unwrap();
            prop_assert_eq!((*file.state(), file.store()), (state, STORE));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = StoreState::decode(&bytes);
        }

        #[test]
        fn every_other_length_is_refused(state in any_state(), length in 0..136usize) {
            let stored = state.encode();
            prop_assert!(StoreState::decode(stored.as_bytes()).is_some());
            let is_whole = length == stored.as_bytes().len();
            let cut = stored.as_bytes().get(..length).unwrap_or_default();
            prop_assert_eq!(StoreState::decode(cut).is_some(), is_whole);
        }
    }

    #[test]
    fn an_epoch_once_written_survives_any_power_cut() {
        for operations in 0..4 {
            let disk = PowerDisk::default();
            let mut file = StateFile::create(&disk, STORE, StoreState::default()).unwrap();
            disk.sync_names().unwrap();
            let state = |epoch| StoreState { epoch: Epoch(epoch), ..StoreState::default() };
            file.write(state(1)).unwrap();
            disk.cut_power_after(operations);
            let is_written = file.write(state(2)).is_ok();
            for kept in 0..1 << disk.dirty_sector_count() {
                let disk = disk.after_power_cut(kept, false);
                let found = StateFile::open(&disk, Some(STORE), Access::Write).unwrap();
                let epoch = found.sound().unwrap().state().epoch.0;
                assert!(epoch == 2 || (epoch == 1 && !is_written));
            }
        }
    }

    #[test]
    #[should_panic(expected = "epochs only ascend")]
    fn an_epoch_never_goes_back() {
        let disk = PowerDisk::default();
        let state = StoreState { epoch: Epoch(5), ..StoreState::default() };
        let mut file = StateFile::create(&disk, STORE, state).unwrap();
        let _ = file.write(StoreState::default());
    }
}
