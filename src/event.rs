//! What happened that an operator would want to know: typed here, a line of JSON in the log.
//!
//! Keys are never in an event: a gap says how many it concerns. (In `read` and at the destination they are.)

use serde::Serialize;

use crate::gaps::Reason;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The store was opened.
    Recovery {
        /// The first sequence that this open will give.
        next_sequence: u64,
        /// What was found and mended, a sentence each.
        report: Vec<String>,
    },
    /// Records go to disk from now on.
    QueueSpill {
        /// `queue_full`, `offline` or `always`.
        cause: &'static str,
        /// Records in memory at that moment.
        memory_records: u64,
    },
    /// Records stay in memory again.
    QueueResume {
        /// Records not yet sent at that moment.
        unsent_records: u64,
    },
    /// A backlog drains from now on, governed.
    BackfillStart {
        /// Records not yet sent.
        unsent_records: u64,
        /// The governor's limit.
        limit_records_per_second: u64,
        /// How long it will take at that, in seconds; nothing when the input is as fast as the limit.
        drain_seconds: Option<f64>,
    },
    /// The destination has caught up.
    BackfillEnd {
        /// Records sent since the start.
        records: u64,
        /// Seconds since the start.
        seconds: f64,
    },
    /// Records are lost, and named.
    Gap {
        /// Why.
        reason: Reason,
        /// The first sequence of the range.
        first_sequence: u64,
        /// The last sequence of the range.
        last_sequence: u64,
        /// How many records.
        count: u64,
        /// How many keys it concerns, as far as they are listed.
        keys: usize,
    },
    /// A destination stands otherwise.
    Connectivity {
        /// Its name.
        destination: String,
        /// How it stood.
        from: &'static str,
        /// How it stands.
        to: &'static str,
        /// What it said, or what the network said.
        reason: String,
    },
    /// The disk has no more room, or has some again.
    DiskPressure {
        /// Whether there is no room.
        full: bool,
        /// Bytes of all slots.
        disk_bytes: u64,
        /// Bytes that they may be.
        disk_bytes_cap: u64,
    },
    /// Nothing can be made durable any more.
    WritingEnded {
        /// Why.
        reason: String,
    },
}

/// An event, and when it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Occurrence {
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
