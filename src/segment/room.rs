//! The room that the log promises: counted by its writer, spent by whoever appends. Pure.

/// How many blocks the log will surely take; recounted by the writer, spent by appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Whether it limits appends at all (not while memory alone is the queue, nor when the oldest is dropped).
    pub limited: bool,
    /// Blocks of the largest size that fit into the active segment.
    pub active_blocks: u64,
    /// Segments that are ready to follow it.
    pub spare_segments: u64,
    /// Blocks of the largest size in each of them.
    pub segment_blocks: u64,
}

impl Room {
    /// Room without end.
    pub const UNLIMITED: Self =
        Self { limited: false, active_blocks: 0, spare_segments: 0, segment_blocks: 0 };

    /// Whether not even one block fits.
    pub fn is_exhausted(mut self) -> bool {
        !self.take(1)
    }

    /// Takes room for a run of `count` blocks that must lie in one segment.
    pub fn take(&mut self, count: u64) -> bool {
        if !self.limited {
            return true;
        }
        if self.active_blocks < count {
            if self.spare_segments == 0 || self.segment_blocks < count {
                return false;
            }
            self.spare_segments -= 1;
            self.active_blocks = self.segment_blocks;
        }
        self.active_blocks -= count;
        true
    }
}
