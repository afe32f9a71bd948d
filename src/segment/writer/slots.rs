//! What the writer's owner asks of the slots to come: [`Spares`](crate::segment::spares) on the writer's device.
//!
//! Knows no turn and no clock: when what is done is its caller's to say.

use crate::error::Result;
use crate::segment::spares::{Quiet, Stock};
use crate::segment::writer::LogWriter;

impl LogWriter {
    /// Sees to it that `ahead` slots are ready for the segments to come, as far as the cap and the disk allow; begins
    /// to make one where there are fewer.
    pub fn stock_up(&mut self, ahead: usize, now_ns: u64) -> Result<Stock> {
        self.spares.stock_up(self.device.0.as_mut(), ahead, now_ns)
    }

    /// What there is for the next segment.
    pub fn stock(&self) -> Stock {
        self.spares.stock()
    }

    /// Before the first turn: a slot, made with calls that block. False when none can be had.
    pub fn make_first_slot(&mut self) -> Result<bool> {
        self.spares.make_at_once()
    }

    /// Chooses what is done for spare slots while the log is quiet; [`LogWriter::room`] may be less afterwards.
    pub fn plan_slots(&mut self, quiet: Quiet, now_ns: u64) {
        self.spares.plan(quiet, now_ns);
    }

    /// Goes on with what was planned, or pauses.
    pub fn tend_slots(&mut self, quiet: Quiet, now_ns: u64) {
        self.spares.carry_out(self.device.0.as_mut(), quiet, now_ns);
    }

    /// When spare slots want something though nothing happens.
    pub fn slots_due_ns(&self, quiet: Quiet) -> Option<u64> {
        self.spares.due_ns(quiet)
    }

    /// Whether no operation on a spare slot is in flight.
    pub fn slots_are_quiet(&self) -> bool {
        self.spares.is_quiet()
    }
}
