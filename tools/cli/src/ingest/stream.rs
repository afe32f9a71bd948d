//! Lines over a stream: no answer, the producer is slowed instead. Each line is a record, stored verbatim.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::json_line::key_of;
use super::lines::{Cut, Lines};
use super::{Ingest, Taken};
use crate::listener::{Leaving, left};

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// A connection that says nothing for this long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(900);
/// When the agent stops: what the producer had sent has come if nothing comes for this long.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// A log that refuses is asked again after this long.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Takes every line of `stream` until it ends, or `leaving`.
pub(crate) async fn serve<S>(ingest: Arc<Ingest>, mut stream: S, mut leaving: Leaving, may_be_silent: bool)
where
    S: AsyncRead + Unpin + Send,
{
    let mut lines = Lines::new(ingest.record_bytes_max);
    let mut buffer = vec![0; READ_BYTES];
    let mut is_leaving = false;
    loop {
        let silence = match (is_leaving, may_be_silent) {
            (true, _) => LAST_WORDS,
            (false, true) => Duration::MAX,
            (false, false) => SILENCE_MAX,
        };
        let read = tokio::select! {
            read = timeout(silence, stream.read(&mut buffer)) => read,
            () = left(&mut leaving), if !is_leaving => {
                is_leaving = true;
                continue;
            }
        };
        // The end, a reset, and silence are the same: what came is taken.
        let Ok(Ok(count @ 1..)) = read else { break };
        let mut at = 0;
        while let Some(cut) = lines.next(&buffer[..count], &mut at) {
            match cut {
                Cut::Line(line) if take(&ingest, line).await => {}
                Cut::Line(_) => return,
                Cut::TooLong => skipped(&ingest),
            }
        }
    }
    if let Some(line) = lines.last() {
        take(&ingest, line).await;
    }
}

/// False when nothing can be taken any more.
async fn take(ingest: &Ingest, line: &[u8]) -> bool {
    // A line need not be JSON here; where it is, it has its key.
    let key = if line.trim_ascii_start().starts_with(b"{") {
        key_of(line, &ingest.key_field).unwrap_or_default()
    } else {
        "".into()
    };
    loop {
        match ingest.take(line, key.as_bytes(), None).await {
            Ok(Taken::Accepted(_) | Taken::Dropped(_)) => return true,
            Ok(Taken::Full) => tokio::time::sleep(ROOM_PAUSE).await,
            Err(error) => {
                tracing::error!(error = %error, "a connection is closed: nothing can be taken");
                return false;
            }
        }
    }
}

fn skipped(ingest: &Ingest) {
    metrics::counter!("forebay_ingest_oversize_lines_total").increment(1);
    tracing::warn!(limit = ingest.pipeline.store().record_limit(), "a line was too long: it is left out");
}
