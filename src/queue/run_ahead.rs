//! How far producers that can wait may run ahead of the log.
//!
//! Behind a fast device a full queue is of no use: whoever appends without a break fills it whatever its size,
//! each record waits for all of it, and its blocks have left the caches when the device takes them. So a
//! producer that can wait is held a *window* ahead of the log. That costs it one block's time, no more: behind
//! a slow device, or one that hangs, nobody is held, and memory takes what it can.
//!
//! Pure: it is told how many blocks the log has let go of, and the time. It knows no queue and no device.

/// A log that lets go of a window in this time is fast enough to be waited for.
pub const WINDOW_NS_MAX: u64 = 4_000_000;

/// Blocks that producers may run ahead: one group that is synced, one that is written, `depth` writes, the one
/// that is packed. As much is registered with the ring.
pub const fn window_blocks(depth: usize) -> usize {
    2 * depth + 6
}

/// Watches how fast the log goes.
#[derive(Debug, Clone, Copy)]
pub struct RunAhead {
    window_blocks: usize,
    /// Blocks let go of since `lap_begun_ns`.
    lap_blocks: usize,
    lap_begun_ns: u64,
    /// Nothing was left when it looked last: the time since then says nothing of the log.
    is_idle: bool,
    is_fast: bool,
}

impl RunAhead {
    /// Holds nobody, until it has seen a fast log.
    pub fn new(window_blocks: usize) -> Self {
        Self { window_blocks, lap_blocks: 0, lap_begun_ns: 0, is_idle: true, is_fast: false }
    }

    /// The log has let go of `released` blocks, and `waiting` are left.
    pub fn observe(&mut self, now_ns: u64, released: usize, waiting: usize) {
        if std::mem::replace(&mut self.is_idle, waiting == 0) {
            (self.lap_blocks, self.lap_begun_ns) = (0, now_ns);
            return;
        }
        self.lap_blocks += released;
        if self.lap_blocks >= self.window_blocks {
            self.is_fast = now_ns.saturating_sub(self.lap_begun_ns) <= WINDOW_NS_MAX;
            (self.lap_blocks, self.lap_begun_ns) = (0, now_ns);
        }
    }

    /// Nothing was let go of for as long as a window may take.
    pub fn stalled(&mut self) {
        self.is_fast = false;
    }

    /// From how many blocks on a producer that can wait is held.
    pub fn limit_blocks(&self) -> usize {
        if self.is_fast { self.window_blocks } else { usize::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 10;

    /// The limit after `blocks` blocks, one each `block_ns`, with more waiting.
    fn limit_after(blocks: u64, block_ns: u64) -> usize {
        let mut ahead = RunAhead::new(WINDOW);
        (0..=blocks).for_each(|block| ahead.observe(block * block_ns, 1, 5));
        ahead.limit_blocks()
    }

    #[test]
    fn a_log_that_takes_a_window_in_time_holds_producers_to_it_and_a_slower_one_nobody() {
        let block_ns = WINDOW_NS_MAX / WINDOW as u64;
        assert_eq!(limit_after(9, 1), usize::MAX, "not yet a window");
        assert_eq!(limit_after(10, block_ns), WINDOW);
        assert_eq!(limit_after(10, block_ns + 1), usize::MAX);
    }

    #[test]
    fn a_stall_lets_everybody_go_until_the_log_is_fast_again() {
        let mut ahead = RunAhead::new(WINDOW);
        ahead.observe(0, 1, 5);
        ahead.observe(1, WINDOW, 5);
        assert_eq!(ahead.limit_blocks(), WINDOW);
        ahead.stalled();
        assert_eq!(ahead.limit_blocks(), usize::MAX);
        ahead.observe(WINDOW_NS_MAX * 9, WINDOW, 5);
        assert_eq!(ahead.limit_blocks(), usize::MAX, "the stall is in this lap");
        ahead.observe(WINDOW_NS_MAX * 9 + 1, WINDOW, 5);
        assert_eq!(ahead.limit_blocks(), WINDOW);
    }

    #[test]
    fn time_in_which_nothing_waited_does_not_count() {
        let mut ahead = RunAhead::new(WINDOW);
        ahead.observe(1, 1, 0);
        ahead.observe(1_000_000_000, 1, 0);
        ahead.observe(2_000_000_000, 1, 3);
        ahead.observe(2_000_000_001, WINDOW, 3);
        assert_eq!(ahead.limit_blocks(), WINDOW);
    }
}
