//! Batches over HTTP: one POST at a time on one connection that is kept.
//!
//! Promises to tell apart what did not arrive (no connection: try again), what was answered (by its
//! status), and what nobody can know (a timeout or a reset after the request had begun: the same batch
//! comes again). Bounds its own waiting. Follows no redirect and speaks no TLS; when to try again is not
//! its business.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay::sink::{Batch, Outcome, Sink};
use forebay::{Error, Kind};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ndjson;
use crate::timestamp::parse_http_date;

/// A buffer larger than this is not kept for the next batch.
const BUFFER_BYTES_KEPT_MAX: usize = 16 << 20;
/// How much of an answer is read, at most; the connection of a longer one is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the rest of an answer may take when its status is known.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// How much of an answer is quoted, in characters.
const QUOTE_CHARS_MAX: usize = 200;
/// A longer Retry-After is taken for a mistake and cut.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The sink of kind `http`.
#[derive(Debug)]
pub(crate) struct HttpSink {
    target: Target,
    timeout: Duration,
    /// The body, used again.
    buffer: Vec<u8>,
    connection: Option<Connection>,
}

/// Where to send, taken apart once.
#[derive(Debug)]
struct Target {
    host: String,
    port: u16,
    /// The Host header.
    authority: String,
    path: String,
}

/// A connection, and the task that moves its bytes.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How far a send has come: whether anything may have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Sending,
}

impl HttpSink {
    /// A sink for `url` (`http://HOST[:PORT]/PATH`); each send takes `timeout` at most. Connects later.
    ///
    /// # Errors
    /// [`Kind::Config`] when the URL is none.
    pub(crate) fn new(url: &str, timeout: Duration) -> forebay::Result<Self> {
        let target = Target::parse(url).ok_or_else(|| {
            let shown = crate::redact::url(url);
            let sentence = format!("`sink.url` is \"{shown}\"; it must be http://HOST[:PORT]/PATH");
            Error::new(Kind::Config, sentence)
        })?;
        Ok(Self { target, timeout, buffer: Vec::new(), connection: None })
    }

    /// Sends, and waits for the status.
    async fn exchange(
        &mut self,
        batch: &Batch,
        body: &Bytes,
        stage: &mut Stage,
    ) -> Result<Response<Incoming>, Outcome> {
        let mut request = self
            .target
            .request(batch, body.clone())
            .map_err(|error| Outcome::Rejected { reason: format!("the request cannot be made: {error}") })?;
        loop {
            let is_kept = self.connect(stage).await.map_err(|error| Outcome::RetryAfter {
                after: None,
                reason: format!("cannot connect to {}: {error}", self.target.authority),
            })?;
            *stage = Stage::Sending;
            let connection = self.connection.as_mut().expect("connect made one");
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => {
                    self.connection = None;
                    match error.take_message() {
                        // The kept connection was closed meanwhile and nothing of this was sent.
                        Some(unsent) if is_kept => request = unsent,
                        _ => return Err(unanswered(error.error())),
                    }
                }
            }
        }
    }

    /// Makes sure of a connection; true when it is the one kept from the last send.
    async fn connect(&mut self, stage: &mut Stage) -> io::Result<bool> {
        if let Some(connection) = &mut self.connection
            && connection.sender.ready().await.is_ok()
        {
            return Ok(true);
        }
        *stage = Stage::Connecting;
        self.connection = None;
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await?;
        // The end of a batch shall not wait for the acknowledgement of what was before it.
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What ends it is told to the request that waits.
        let driver = tokio::spawn(async move { drop(connection.await) });
        self.connection = Some(Connection { sender, driver });
        Ok(false)
    }

    /// What the status means. The rest of the answer is read so that the connection can be kept.
    async fn judge(&mut self, response: Response<Incoming>) -> Outcome {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (status, after) = (response.status(), retry_after(response.headers(), now));
        let wait = ANSWER_WAIT_MAX.min(self.timeout);
        let text = match timeout(wait, read_answer(response.into_body())).await {
            Ok(Some(text)) => text,
            _ => {
                self.connection = None;
                String::new()
            }
        };
        meaning(status, after, &text)
    }

    /// Takes the body's buffer back, where nobody holds it any more.
    fn keep_buffer(&mut self, body: Bytes) {
        if let Ok(buffer) = body.try_into_mut()
            && buffer.capacity() <= BUFFER_BYTES_KEPT_MAX
        {
            self.buffer = Vec::from(buffer);
        }
    }
}

impl Sink for HttpSink {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        let mut text = std::mem::take(&mut self.buffer);
        text.clear();
        ndjson::push_batch(&mut text, batch);
        let body = Bytes::from(text);
        let mut stage = Stage::Connecting;
        let outcome = match timeout(self.timeout, self.exchange(batch, &body, &mut stage)).await {
            Ok(Ok(response)) => self.judge(response).await,
            Ok(Err(outcome)) => outcome,
            Err(_) => {
                self.connection = None;
                timed_out(stage, self.timeout)
            }
        };
        self.keep_buffer(body);
        outcome
    }
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        (!host.is_empty()).then(|| Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: path.to_owned(),
        })
    }

    /// The headers are the contract of the wire, to the letter.
    fn request(&self, batch: &Batch, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (store, epoch) = (batch.store().to_string(), batch.epoch().to_string());
        let (first, last) = (batch.first_sequence(), batch.last_sequence());
        Request::post(&self.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header("Idempotency-Key", format!("{store}/{epoch}/{first}-{last}"))
            .header("Forebay-Store", store)
            .header("Forebay-Epoch", epoch)
            .header("Forebay-First", first)
            .header("Forebay-Last", last)
            .header("Forebay-Lane", batch.lane().name())
            .body(Full::new(body))
    }
}

/// What a send that ran out of time means.
fn timed_out(stage: Stage, timeout: Duration) -> Outcome {
    match stage {
        Stage::Connecting => {
            Outcome::RetryAfter { after: None, reason: format!("no connection within {timeout:?}") }
        }
        Stage::Sending => Outcome::Unknown { reason: format!("no answer within {timeout:?}") },
    }
}

/// What a request that began and got no answer means.
fn unanswered(error: &hyper::Error) -> Outcome {
    let what = if error.is_parse() { "the answer is no HTTP" } else { "the connection broke" };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Outcome::Unknown { reason: format!("{what}: {error}{cause}") }
}

/// What a status means.
fn meaning(status: StatusCode, after: Option<Duration>, text: &str) -> Outcome {
    let reason = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
    match status.as_u16() {
        200..=299 => Outcome::Accepted,
        408 | 429 | 500..=599 => Outcome::RetryAfter { after, reason },
        _ => Outcome::Rejected { reason },
    }
}

/// How long the destination wants to be left alone: it says so in seconds or as a date. `now` is since 1970.
fn retry_after(headers: &HeaderMap, now: Duration) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_secs(parse_http_date(text)?).saturating_sub(now),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The front of an answer, for people; `None` when it did not come to a proper end.
async fn read_answer(mut body: Incoming) -> Option<String> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim().chars().filter(|c| !c.is_control()).take(QUOTE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests;
