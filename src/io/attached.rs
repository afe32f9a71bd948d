//! The files attached to a write device, by index.
//!
//! Promises that an index is good for one attachment only: after a detach it is refused, also when its place
//! has been taken by another file. Does not know what a device does with a file.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::{File, FileIndex};

/// A [`FileIndex`] is the place in its low bits and the place's generation above.
const PLACE_BITS: u32 = 16;

#[derive(Debug, Default)]
struct Place {
    generation: u16,
    file: Option<Arc<dyn File>>,
}

/// A table of files.
#[derive(Debug, Default)]
pub(super) struct AttachedFiles {
    places: Vec<Place>,
}

impl AttachedFiles {
    /// Takes `file` in at the lowest free place.
    pub(super) fn attach(&mut self, file: Arc<dyn File>) -> io::Result<FileIndex> {
        let place = self.places.iter().position(|place| place.file.is_none()).unwrap_or(self.places.len());
        if place >= 1 << PLACE_BITS {
            return Err(Errno::MFILE.into());
        }
        if place == self.places.len() {
            self.places.push(Place::default());
        }
        self.places[place].file = Some(file);
        let generation = u32::from(self.places[place].generation);
        Ok(FileIndex(generation << PLACE_BITS | place as u32))
    }

    /// Lets go of a file; `None` when the index is not, or no longer, good.
    pub(super) fn detach(&mut self, index: FileIndex) -> Option<Arc<dyn File>> {
        self.get(index).ok()?;
        let place = &mut self.places[place_of(index)];
        place.generation = place.generation.wrapping_add(1);
        place.file.take()
    }

    /// The file at `index`, or EBADF.
    pub(super) fn get(&self, index: FileIndex) -> io::Result<&Arc<dyn File>> {
        let place = self.places.get(place_of(index));
        place
            .filter(|place| u32::from(place.generation) == index.0 >> PLACE_BITS)
            .and_then(|place| place.file.as_ref())
            .ok_or_else(|| Errno::BADF.into())
    }
}

/// Which place of the table `index` means.
pub(super) fn place_of(index: FileIndex) -> usize {
    (index.0 & ((1 << PLACE_BITS) - 1)) as usize
}
