//! `POST /v1/records`: NDJSON, each line a record, one answer for all of them.
//!
//! Lines are taken as they come in: what stands before a bad line is kept, and the answer says how far that
//! is. A body is never held as a whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::Kind;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::json_line::key_of;
use super::lines::{Cut, Lines};
use super::{Ingest, Taken};
use crate::listener::{Leaving, left};

/// The largest body, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// The largest head of a request, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a connection may be silent between requests, or within a head.
pub(crate) const HEAD_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a body may be silent.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long one request may wait for room.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may wait for its level.
const LEVEL_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long, and how much, a body is read whose answer is known already: many clients listen only afterwards.
const REST_WAIT_MAX: Duration = Duration::from_secs(2);

/// Serves one connection.
pub(crate) async fn serve<S>(ingest: Arc<Ingest>, stream: S, mut leaving: Leaving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(Arc::clone(&ingest), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection ended is its peer's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = left(&mut leaving) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answer(
    ingest: Arc<Ingest>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/records") => records(&ingest, request.into_body()).await,
        (_, "/v1/records") => refuse(StatusCode::METHOD_NOT_ALLOWED, "send records with POST"),
        _ => refuse(StatusCode::NOT_FOUND, "there is POST /v1/records"),
    })
}

/// How far a request has come.
#[derive(Debug, Default)]
struct Progress {
    accepted: u64,
    dropped: u64,
    first: Option<u64>,
    last: Option<u64>,
    line: u64,
}

/// Why a request goes no further.
#[derive(Debug)]
struct Stop {
    status: StatusCode,
    column: Option<usize>,
    message: String,
}

impl Stop {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, column: None, message: message.into() }
    }

    fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

async fn records(ingest: &Ingest, mut body: Incoming) -> Response<Full<Bytes>> {
    let mut progress = Progress::default();
    let mut stop = if body.size_hint().lower() > BODY_BYTES_MAX {
        Some(Stop::too_large(format!("a body is at most {BODY_BYTES_MAX} bytes: send less at once")))
    } else {
        take_all(ingest, &mut body, &mut progress).await.err()
    };
    if stop.is_some() {
        read_rest(&mut body).await;
    }
    let mut level = ingest.level_name;
    if let Some(last) = progress.last {
        match ingest.reached(last, LEVEL_WAIT_MAX).await {
            Ok(true) => {}
            Ok(false) => {
                level = "accepted";
                let sentence =
                    format!("not {} in time: the records are kept, and may yet be", ingest.level_name);
                stop = Some(Stop::unavailable(sentence));
            }
            Err(error) => {
                level = "accepted";
                stop = Some(Stop::unavailable(error.to_string()));
            }
        }
    }
    report(&progress, stop, level)
}

async fn take_all(ingest: &Ingest, body: &mut Incoming, progress: &mut Progress) -> Result<(), Stop> {
    let mut lines = Lines::new(ingest.record_bytes_max);
    let until = Instant::now() + ROOM_WAIT_MAX;
    let mut body_bytes = 0;
    loop {
        let frame = match timeout(BODY_WAIT_MAX, body.frame()).await {
            Err(_) => return Err(Stop::new(StatusCode::REQUEST_TIMEOUT, "the body does not go on")),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Stop::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        body_bytes += piece.len() as u64;
        if body_bytes > BODY_BYTES_MAX {
            return Err(Stop::too_large(format!(
                "a body is at most {BODY_BYTES_MAX} bytes: send less at once"
            )));
        }
        let mut at = 0;
        while let Some(cut) = lines.next(&piece, &mut at) {
            progress.line += 1;
            match cut {
                Cut::Line(line) => take(ingest, line, progress, until).await?,
                Cut::TooLong => return Err(too_long(ingest)),
            }
        }
    }
    if let Some(line) = lines.last() {
        progress.line += 1;
        take(ingest, line, progress, until).await?;
    }
    Ok(())
}

fn too_long(ingest: &Ingest) -> Stop {
    Stop::too_large(format!("the line is over {}", ingest.pipeline.store().record_limit()))
}

async fn take(ingest: &Ingest, line: &[u8], progress: &mut Progress, until: Instant) -> Result<(), Stop> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let key = key_of(line, &ingest.key_field).map_err(|no_json| Stop {
        status: StatusCode::BAD_REQUEST,
        column: Some(no_json.column),
        message: no_json.message,
    })?;
    let sequence = match ingest.take(line, key.as_bytes(), Some(until)).await {
        Ok(Taken::Accepted(sequence)) => {
            progress.accepted += 1;
            sequence
        }
        Ok(Taken::Dropped(sequence)) => {
            progress.dropped += 1;
            sequence
        }
        Ok(Taken::Full) => {
            return Err(Stop::unavailable("there is no room: send this line and what follows later"));
        }
        Err(error) if error.kind() == Kind::TooLarge => return Err(too_long(ingest)),
        Err(error) => return Err(Stop::unavailable(error.to_string())),
    };
    progress.first.get_or_insert(sequence);
    progress.last = Some(sequence);
    Ok(())
}

async fn read_rest(body: &mut Incoming) {
    let mut bytes_left = BODY_BYTES_MAX;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            if len > bytes_left {
                break;
            }
            bytes_left -= len;
        }
    };
    let _ = timeout(REST_WAIT_MAX, read).await;
}

fn report(progress: &Progress, stop: Option<Stop>, level: &str) -> Response<Full<Bytes>> {
    let mut report = json!({
        "accepted": progress.accepted,
        "first_sequence": progress.first,
        "last_sequence": progress.last,
        "level": level,
    });
    if progress.dropped > 0 {
        report["dropped"] = progress.dropped.into();
    }
    let Some(stop) = stop else { return respond(StatusCode::OK, &report) };
    report["error"] = json!({ "line": progress.line, "column": stop.column, "message": stop.message });
    respond(stop.status, &report)
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, &json!({ "error": { "message": message } }))
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    metrics::counter!("forebay_ingest_requests_total", "status" => status.as_u16().to_string()).increment(1);
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
