//! For producers that can be slowed: appends that wait for room a while, and a look at the marks from elsewhere.
//!
//! A [`Watch`] waits for a mark to move without asking for anything, so that blocks fill as if nobody watched.

use std::sync::Arc;
use std::time::Duration;

use crate::config::FullPolicy;
use crate::error::Result;
use crate::record::Record;
use crate::segment::writer::WriterCounts;
use crate::store::marks::Level;
use crate::store::shared::Shared;
use crate::store::{Appended, Full, Patience, Store};

/// A look at the marks of a store. It may outlive the store, and then says that it is closed.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Shared>);

impl Store {
    /// A look at the marks, for another thread.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// What has been written since it was opened; whoever waited for a record finds it counted.
    pub fn counts(&self) -> WriterCounts {
        self.shared.counts.writer()
    }

    /// Bytes of the longest payload that this store takes.
    pub fn record_bytes_max(&self) -> usize {
        self.record_limit.0 as usize
    }

    /// That limit, what it comes from and how it is raised, for people.
    pub fn record_limit(&self) -> String {
        let (bytes, from) = &self.record_limit;
        format!("record_bytes_max ({bytes} bytes): {from}")
    }

    /// What happens to a record that finds no room.
    pub fn full_policy(&self) -> FullPolicy {
        self.shared.full
    }

    /// [`Store::try_append`] for a producer that can be slowed: full memory is waited for, for at most `limit`,
    /// whatever the policy. A full disk is the policy's to answer; `Full` comes back when it is to wait and the
    /// limit is over, or when it is to reject.
    ///
    /// # Errors
    /// As [`Store::try_append`].
    pub fn append_within(&self, record: &Record<'_>, limit: Duration) -> Result<Appended> {
        let first = self.offer_one(record, Patience::Window)?;
        let Appended::Full(full) = first else { return Ok(first) };
        if self.rejects(full) {
            return Ok(first);
        }
        let epoch = self.shared.marks.room_epoch();
        let second = self.offer_one(record, Patience::Window)?;
        let Appended::Full(full) = second else { return Ok(second) };
        if self.shared.marks.wait_room_blocking(epoch, Some(limit))? || full == Full::Window {
            // Held once is enough: memory has room.
            return self.offer_one(record, Patience::Memory);
        }
        Ok(second)
    }
}

impl Watch {
    /// Blocks until the mark of `level` is above `sequence`, and says where it is. Asks for nothing: blocks are
    /// sealed as if nobody watched.
    ///
    /// # Errors
    /// Why it will not move any more: the store was closed, or writing has ended.
    pub fn above(&self, level: Level, sequence: u64) -> Result<u64> {
        let marks = &self.0.marks;
        let _ = marks.wait_blocking(level, sequence.saturating_add(1), None)?;
        Ok(match level {
            Level::Accepted => marks.appended(),
            Level::Written => marks.written().max(marks.confirmed()),
            Level::Durable => marks.durable().max(marks.confirmed()),
        })
    }
}
