//! An interrupt ends the run between two steps, so that what it made on disk is removed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Takes over SIGINT and SIGTERM.
pub(crate) fn listen() -> Result<()> {
    Ok(ctrlc::set_handler(|| STOPPED.store(true, Ordering::Relaxed))?)
}

/// Whether somebody has asked to stop.
pub(crate) fn is_asked() -> bool {
    STOPPED.load(Ordering::Relaxed)
}
