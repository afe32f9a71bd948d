//! Where the agent takes records from: HTTP, lines over TCP and Unix sockets, standard input.
//!
//! Promises that a record that was answered for has reached the level that the answer names, and that nothing
//! is taken faster than there is room. It knows no file, no sink and no governor.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::config::{Answer, IngestConfig};
use forebay::store::{Appended, Level};
use forebay::{Kind, Pipeline, Record};
use tokio::time::Instant;

pub(crate) mod http;
mod json_line;
mod lines;
pub(crate) mod stream;
pub(crate) mod unix_socket;

/// What all ingests share.
#[derive(Debug)]
pub(crate) struct Ingest {
    pipeline: Arc<Pipeline>,
    level: Level,
    level_name: &'static str,
    key_field: String,
    record_bytes_max: usize,
}

/// What became of a record.
#[derive(Debug)]
enum Taken {
    /// It is in the queue.
    Accepted(u64),
    /// It was dropped, and a gap names it.
    Dropped(u64),
    /// There was no room in time; the producer still has it.
    Full,
}

impl Ingest {
    pub(crate) fn new(pipeline: Arc<Pipeline>, config: &IngestConfig) -> Self {
        let level = match config.answer {
            Answer::Accepted => Level::Accepted,
            Answer::Written => Level::Written,
            Answer::Durable => Level::Durable,
        };
        let record_bytes_max = pipeline.store().record_bytes_max();
        Self {
            pipeline,
            level,
            level_name: config.answer.name(),
            key_field: config.key_field.clone(),
            record_bytes_max,
        }
    }

    /// Takes one record; waits for room until `until`, or without end.
    async fn take(&self, payload: &[u8], key: &[u8], until: Option<Instant>) -> forebay::Result<Taken> {
        let record = Record { payload, key, timestamp: now() };
        match self.pipeline.store().try_append(&record)? {
            Appended::Accepted(sequence) => return Ok(Taken::Accepted(sequence)),
            Appended::Dropped(sequence) => return Ok(Taken::Dropped(sequence)),
            Appended::Full(_) => {}
        }
        let append = self.pipeline.append(&record, Level::Accepted);
        let appended = match until {
            None => append.await,
            Some(until) => match tokio::time::timeout_at(until, append).await {
                Ok(appended) => appended,
                Err(_) => return Ok(Taken::Full),
            },
        };
        match appended {
            Ok(sequence) => Ok(Taken::Accepted(sequence)),
            Err(error) if error.kind() == Kind::NoSpace => Ok(Taken::Full),
            Err(error) => Err(error),
        }
    }

    /// Waits until everything up to `sequence` has reached the level of the answer; false: not in time.
    async fn reached(&self, sequence: u64, limit: Duration) -> forebay::Result<bool> {
        let began = Instant::now();
        match tokio::time::timeout(limit, self.pipeline.store().reached(sequence, self.level)).await {
            Ok(reached) => reached?,
            Err(_) => return Ok(false),
        }
        if self.level == Level::Durable {
            metrics::histogram!("forebay_append_durable_seconds").record(began.elapsed().as_secs_f64());
        }
        Ok(true)
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
