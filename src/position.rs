//! Who a record is and where it lies: store, epoch, sequence; segment, offset.
//!
//! Identity towards the outside is `{store, epoch, sequence}`; receivers deduplicate with it.
//! Sequences start at 1, so that 0 can mean "none yet" in every watermark.

use std::fmt;

/// The store's own id, drawn once when the directory is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub [u8; 16]);

/// One open for writing: a counter in the high half, random bits in the low half, so that two clones
/// of one directory differ too. Epochs of one store only ascend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after `self`, told apart from any clone's by `random`.
    pub fn next(self, random: u32) -> Self {
        Self((((self.0 >> 32) + 1) << 32) | u64::from(random))
    }

    /// How many times the store had been opened for writing.
    pub fn counter(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.0 >> 32, self.0 as u32)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in the log. Ordered: segment ids and offsets only ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Extent {
    /// The segment's id, never used twice.
    pub segment: u64,
    /// Bytes from the start of the segment's file.
    pub offset: u64,
}
