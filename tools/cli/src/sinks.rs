//! Destinations without a network, and the one that a configuration names.

use std::time::Duration;

use forebay::config::{SinkConfig, SinkKind};
use forebay::sink::{Batch, Outcome, Sink};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Stdout};

use crate::http_sink::HttpSink;
use crate::ndjson;

/// The sink that a configuration names.
#[derive(Debug)]
pub(crate) enum ConfiguredSink {
    /// Kind `http`.
    Http(HttpSink),
    /// Kind `stdout`.
    Stdout(StdoutSink),
    /// Kind `null`.
    Null(NullSink),
}

impl ConfiguredSink {
    /// The sink of `config`; nothing is connected yet.
    ///
    /// # Errors
    /// [`forebay::Kind::Config`] when the URL is none.
    pub(crate) fn new(config: &SinkConfig) -> forebay::Result<Self> {
        Ok(match config.kind {
            SinkKind::Http => Self::Http(HttpSink::new(&config.url, config.timeout)?),
            SinkKind::Stdout => Self::Stdout(LineSink::new(tokio::io::stdout(), config.timeout)),
            SinkKind::Null => Self::Null(NullSink),
        })
    }
}

impl Sink for ConfiguredSink {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        match self {
            Self::Http(sink) => sink.send(batch).await,
            Self::Stdout(sink) => sink.send(batch).await,
            Self::Null(sink) => sink.send(batch).await,
        }
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NullSink;

impl Sink for NullSink {
    async fn send(&mut self, _batch: &Batch) -> Outcome {
        Outcome::Accepted
    }
}

/// Lines of the wire on standard output.
pub(crate) type StdoutSink = LineSink<Stdout>;

/// Lines of the wire into a stream; accepted when flushed.
#[derive(Debug)]
pub(crate) struct LineSink<W> {
    stream: W,
    timeout: Duration,
    buffer: Vec<u8>,
    /// A line may stand half written at the end of the stream.
    is_torn: bool,
}

impl<W: AsyncWrite + Unpin + Send> LineSink<W> {
    /// A sink into `stream`; each send takes `timeout` at most.
    pub(crate) fn new(stream: W, timeout: Duration) -> Self {
        Self { stream, timeout, buffer: Vec::new(), is_torn: false }
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for LineSink<W> {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        if self.is_torn {
            // Ends what a failed send had begun, so that the repeat starts on a line of its own.
            self.buffer.push(b'\n');
        }
        ndjson::push_batch(&mut self.buffer, batch);
        self.is_torn = true;
        let write = async {
            self.stream.write_all(&self.buffer).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.timeout, write).await {
            Ok(Ok(())) => {
                self.is_torn = false;
                Outcome::Accepted
            }
            Ok(Err(error)) => Outcome::Unknown { reason: format!("the stream broke: {error}") },
            Err(_) => {
                Outcome::Unknown { reason: format!("the stream took nothing within {:?}", self.timeout) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay::position::{Epoch, StoreId};
    use forebay::sink::{Lane, RecordRef};
    use tokio::io::AsyncReadExt as _;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn batch() -> Batch {
        let mut batch = Batch::new(StoreId([7; 16]), Epoch(1), Lane::Live);
        batch.push(RecordRef { sequence: 1, timestamp: 0, key: b"", payload: b"hello" });
        batch
    }

    #[tokio::test]
    async fn accepted_lines_stand_in_the_stream() {
        let (near, mut far) = tokio::io::duplex(4_096);
        let mut sink = LineSink::new(near, PATIENCE);
        assert_eq!(sink.send(&batch()).await, Outcome::Accepted);
        drop(sink);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("{\"store\":") && text.ends_with("\"payload\":\"hello\"}\n"), "{text}");
    }

    #[tokio::test]
    async fn a_stream_that_is_gone_or_stuck_is_unknown() {
        let (near, far) = tokio::io::duplex(10);
        let mut sink = LineSink::new(near, Duration::from_millis(5));
        assert!(matches!(sink.send(&batch()).await, Outcome::Unknown { .. }));
        drop(far);
        sink.timeout = PATIENCE;
        assert!(matches!(sink.send(&batch()).await, Outcome::Unknown { .. }));
    }

    #[tokio::test]
    async fn a_repeat_starts_on_a_line_of_its_own() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut sink = LineSink::new(near, Duration::from_millis(5));
        assert!(matches!(sink.send(&batch()).await, Outcome::Unknown { .. }));
        sink.timeout = PATIENCE;
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            far.read_to_string(&mut text).await.map(|_| text)
        });
        assert_eq!(sink.send(&batch()).await, Outcome::Accepted);
        drop(sink);
        let text = reader.await.unwrap().unwrap();
        assert_eq!(text.lines().filter(|line| line.ends_with("\"payload\":\"hello\"}")).count(), 1, "{text}");
    }
}
