//! The queue: what is accepted and not yet confirmed, in memory first.

pub mod memory;
pub mod run_ahead;
pub mod spill;
