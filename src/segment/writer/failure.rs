//! A write or a sync has failed: its segment is given up, and what was not durable is placed again.

use std::io;

use super::{Content, FAILURES_MAX, LogWriter, lock};
use crate::error::{Error, Kind, Result};
use crate::io::FileIndex;
use crate::segment::format::FIRST_BLOCK_OFFSET;

impl LogWriter {
    pub(super) fn fail(&mut self, error: io::Error) {
        self.counts.failures += 1;
        tracing::error!(
            segment = self.active.as_ref().map(|active| active.id),
            error = %error,
            "a write or sync failed: the segment is given up, what was not durable goes to a fresh one"
        );
        self.failing.get_or_insert(error);
    }

    /// Forgets everything that is not durable, with nothing in flight: its place is not used again.
    pub(super) fn abandon_segment(&mut self) -> Result<Error> {
        let cause = self.failing.take().expect("asked by who saw it");
        let mut files: Vec<_> =
            self.active.take().map(|active| (active.id, active.file)).into_iter().collect();
        while let Some(entry) = self.line.pop_front() {
            self.front_token += 1;
            if !files.contains(&(entry.segment, entry.file)) {
                files.push((entry.segment, entry.file));
            }
            if !matches!(entry.content, Content::Block(_)) {
                self.page_is_back(entry.slot);
            }
        }
        self.received_front = 0;
        self.last_logged = self.last_synced;
        self.give_up(&files);
        let place = self.disk.place();
        let error =
            Error::io(format!("a write in {place} failed: see the cause, and look at the device"), cause);
        // A full disk is the full policy's to answer.
        self.failures_in_row += u32::from(error.kind() != Kind::NoSpace);
        if self.failures_in_row >= FAILURES_MAX { Err(error) } else { Ok(error) }
    }

    fn give_up(&mut self, files: &[(u64, FileIndex)]) {
        let mut catalog = lock(&self.catalog);
        for (segment, file) in files {
            self.device.0.detach(*file);
            catalog.seal(*segment);
            if catalog.segment(*segment).is_some_and(|segment| segment.end <= FIRST_BLOCK_OFFSET) {
                catalog.retire(*segment);
            }
        }
    }
}
