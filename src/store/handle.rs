//! What a destination's owner may say and ask: how far it has come, and what was lost.
//!
//! ```text
//! confirm (memory) ──► persist: gaps, then cursor, durable ──► slots that both copies are past: spare
//! ```
//!
//! It knows no sink and no wire: whoever delivers, or drains, says here how far that has come.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::gaps::{Gap, Reason};
use crate::position::Epoch;
use crate::store::shared::{Shared, lock};
use crate::store::{Appended, Store};

/// One destination of an open store.
#[derive(Debug)]
pub struct Destination<'a> {
    shared: &'a Arc<Shared>,
    index: usize,
}

impl Store {
    /// The destination of this name, which is made if it is new.
    ///
    /// # Errors
    /// `Config` when the name is not allowed, and what the disk says when it is made.
    pub fn destination(&self, name: &str) -> Result<Destination<'_>> {
        let index = lock(&self.shared.destinations).open(name)?;
        Ok(Destination { shared: &self.shared, index })
    }

    /// The destinations that there are.
    pub fn destination_names(&self) -> Vec<String> {
        lock(&self.shared.destinations).names().map(str::to_owned).collect()
    }

    /// Every loss that some destination has still to be told of, in ascending order.
    pub fn gaps(&self) -> Vec<Gap> {
        lock(&self.shared.destinations).gaps().iter().cloned().collect()
    }
}

impl Appended {
    /// The sequence that was given, if one was.
    pub fn sequence(self) -> Option<u64> {
        match self {
            Self::Accepted(sequence) | Self::Dropped(sequence) => Some(sequence),
            Self::Full(_) => None,
        }
    }
}

impl Destination<'_> {
    /// It has everything up to here, or a durable gap names it.
    pub fn confirmed(&self) -> u64 {
        lock(&self.shared.destinations).state(self.index).confirmed
    }

    /// It was told of every gap up to here; at most [`Destination::confirmed`].
    pub fn gaps_through(&self) -> u64 {
        lock(&self.shared.destinations).state(self.index).gaps_through
    }

    /// Names records that can't be had any more: durable when it returns, and may then be confirmed over.
    ///
    /// # Errors
    /// `Config` for a range that is none, and what writing `gaps` says.
    pub fn lose(&self, epoch: Epoch, first: u64, last: u64, reason: Reason) -> Result<()> {
        if first == 0 || first > last {
            return Err(Error::new(Kind::Config, format!("{first} to {last} is no range of records")));
        }
        lock(&self.shared.destinations).lose([Gap::of_range(epoch, first, last, reason)])
    }

    /// It has everything up to `through`, and was told of every gap up to there. How many records it got by
    /// that. In memory: what is not persisted is delivered again after a crash.
    ///
    /// # Panics
    /// When nothing of the sequence `through` was ever appended.
    pub fn confirm(&self, through: u64) -> u64 {
        assert!(through <= self.shared.marks.appended(), "confirmed what was never appended: {through}");
        let mut destinations = lock(&self.shared.destinations);
        let delivered = destinations.confirm(self.index, through);
        let slowest = destinations.slowest();
        drop(destinations);
        self.shared.marks.confirm(slowest);
        delivered
    }

    /// Makes what was confirmed durable, and frees the slots that the older copy of every cursor is past too:
    /// those that the last call had confirmed. Blocks for a sync per file that has changed.
    ///
    /// # Errors
    /// What the disk says; what was persisted before stays.
    pub fn persist(&self) -> Result<()> {
        let through = lock(&self.shared.destinations).persist()?;
        self.shared.recycle(through);
        Ok(())
    }

    /// [`Destination::persist`] into both copies, so that everything confirmed is freed now: for when room is
    /// short, and before leaving.
    ///
    /// # Errors
    /// As there.
    pub fn persist_twice(&self) -> Result<()> {
        let through = lock(&self.shared.destinations).persist_twice()?;
        self.shared.recycle(through);
        Ok(())
    }
}
