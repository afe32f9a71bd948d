//! Keeps `state`: once a second under load, once when the writer has gone idle, and at the clean stop.

use crate::error::Result;
use crate::segment::spares::IDLE_NS;
use crate::segment::writer::LogWriter;
use crate::state::{StateFile, StoreState};
use crate::store::shared::{Shared, lock};

/// How old the durable watermark in `state` may be while records flow.
const STATE_INTERVAL_NS: u64 = 1_000_000_000;

/// The file, and what it said last.
#[derive(Debug)]
pub(super) struct StateKeeper {
    file: StateFile,
    written_ns: u64,
    /// The mark moved and is not written; since when it stands still.
    still_since_ns: Option<u64>,
    durable_seen: u64,
}

impl StateKeeper {
    pub(super) fn new(file: StateFile) -> Self {
        let durable_seen = file.state().durable_sequence;
        Self { file, written_ns: 0, still_since_ns: None, durable_seen }
    }

    /// When there is something to write although nothing happens.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.still_since_ns.map(|since| (since + IDLE_NS).min(self.written_ns + STATE_INTERVAL_NS).max(since))
    }

    /// Writes what is due. Blocks for one sync, at most once a second under load.
    pub(super) fn tend(&mut self, shared: &Shared, writer: &LogWriter) -> Result<()> {
        let durable = shared.marks.durable();
        let now = shared.clock.now_ns();
        if durable != self.durable_seen {
            self.durable_seen = durable;
            self.still_since_ns = Some(now);
        }
        if self.is_due(shared, writer) {
            self.write(shared, writer, false, now)?;
        }
        Ok(())
    }

    /// Whether the next [`StateKeeper::tend`] writes.
    pub(super) fn is_due(&self, shared: &Shared, writer: &LogWriter) -> bool {
        let now = shared.clock.now_ns();
        let is_idle = |since| writer.is_quiet() && now >= since + IDLE_NS;
        self.still_since_ns.is_some_and(|since| is_idle(since) || now >= self.written_ns + STATE_INTERVAL_NS)
    }

    /// The clean stop: nothing is in memory alone.
    pub(super) fn close(&mut self, shared: &Shared, writer: &LogWriter) -> Result<()> {
        self.write(shared, writer, true, shared.clock.now_ns())
    }

    fn write(&mut self, shared: &Shared, writer: &LogWriter, clean: bool, now_ns: u64) -> Result<()> {
        let state = StoreState {
            durable_sequence: writer.last_synced(),
            appended_sequence: shared.marks.appended(),
            segment_id_max: lock(&shared.catalog).segment_id_max(),
            clean,
            ..*self.file.state()
        };
        self.file.write(state)?;
        self.written_ns = now_ns;
        self.still_since_ns = None;
        Ok(())
    }
}
