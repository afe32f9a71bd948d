//! A central for trying things out: takes batches over HTTP, keeps their records, and counts.
//!
//! Promises that what it answered 2xx stands in FILE and in its counts, and that a refused batch left
//! nothing behind. It shares nothing with the pipeline but the socket and the wire's text: what it counts as
//! missing or duplicate is a second opinion. Not a place to keep anything.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::quota::Quota;
use self::tally::Tally;
pub(crate) use self::tally::{Arrival, Totals};

mod intervals;
mod quota;
mod tally;
mod wire;

/// The largest body, in bytes: the largest payload, every byte of it escaped, and some room.
const BODY_BYTES_MAX: usize = 400 << 20;
/// Connections at once; more wait to be accepted.
const CONNECTION_COUNT_MAX: usize = 256;
/// How long requests in progress may take to end when the central goes away.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the central behaves.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Gets each payload and a newline, repeats included, before the answer.
    pub(crate) out: Option<File>,
    /// Answers every batch with this; other than 2xx keeps nothing.
    pub(crate) status: Option<StatusCode>,
    /// Answers 429 above this many records a second.
    pub(crate) rate_limit: Option<u64>,
}

/// A central that listens, until it is stopped. Dropped, it stops at once.
#[derive(Debug)]
pub(crate) struct Central {
    address: SocketAddr,
    state: Arc<State>,
    serving: Option<Serving>,
}

/// How the central leaves its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// Not at all.
    Stay,
    /// Requests in progress may end.
    Leave,
    /// At once.
    Reset,
}

/// A listener and its connections.
#[derive(Debug)]
struct Serving {
    /// Dropped or set: go away.
    farewell: watch::Sender<Farewell>,
    task: JoinHandle<()>,
}

impl Central {
    /// Listens on `listen` (port 0: any) and serves on the runtime that this is called in.
    ///
    /// # Errors
    /// What binding the address failed with.
    pub(crate) async fn start(listen: &str, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(options));
        let serving = Some(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sums so far.
    pub(crate) fn stats(&self) -> Totals {
        self.state.books().tally.totals()
    }

    /// Every batch of the last ten minutes, oldest first.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.books().tally.arrivals()
    }

    /// Stops listening and ends every connection; requests in progress have a second. Counts stay.
    pub(crate) async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.farewell.send_replace(Farewell::Leave);
            // It ends by itself; it fails only if it panicked, and then it is gone too.
            let _ = serving.task.await;
        }
    }

    /// Gone at once, as with the power off: stops listening and resets every connection. Counts stay; what was
    /// being counted at that moment is counted, though nobody is told.
    pub(crate) async fn break_off(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.farewell.send_replace(Farewell::Reset);
            let _ = serving.task.await;
        }
    }

    /// Listens again where it did.
    ///
    /// # Errors
    /// What binding the address failed with.
    pub(crate) async fn come_back(&mut self) -> io::Result<()> {
        if self.serving.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            self.serving = Some(serve(listener, Arc::clone(&self.state)));
        }
        Ok(())
    }

    /// Goes away for good, and gives the sums.
    pub(crate) async fn stop(mut self) -> Totals {
        self.go_away().await;
        self.stats()
    }
}

/// What all connections share.
#[derive(Debug)]
struct State {
    status: Option<StatusCode>,
    /// Both clocks at the start: what is counted goes by the steady one.
    started: (SystemTime, Instant),
    books: Mutex<Books>,
}

/// The counts and FILE, so that both always say the same.
#[derive(Debug)]
struct Books {
    tally: Tally,
    quota: Option<Quota>,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    file: File,
    /// Bytes that are whole lines.
    len: u64,
}

impl Out {
    /// All of it or nothing.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // What was half written must not run into the next line; a pipe cannot be cut and is left.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += lines.len() as u64;
        Ok(())
    }
}

/// What becomes of a batch.
enum Verdict {
    Taken { records: u64 },
    Malformed(wire::Malformed),
    TooFast { seconds: u64 },
    NoRoom(String),
}

impl State {
    fn new(options: Options) -> Self {
        let started = (SystemTime::now(), Instant::now());
        let out = options.out.map(|file| {
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            Out { file, len }
        });
        let quota = options.rate_limit.map(|rate| Quota::new(rate, Duration::ZERO));
        let books = Mutex::new(Books { tally: Tally::default(), quota, out });
        Self { status: options.status, started, books }
    }

    /// A panic while counting would have been ours; the counts are whole numbers all the same.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since 1970, and never backwards.
    fn now(&self) -> Duration {
        let (wall, steady) = self.started;
        wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + steady.elapsed()
    }

    /// Reads, keeps and counts a body that began to arrive at `arrived`. Blocks while FILE is written.
    fn take(&self, bytes: &[u8], arrived: Duration) -> Verdict {
        let body = match wire::read(bytes) {
            Ok(body) => body,
            Err(malformed) => return Verdict::Malformed(malformed),
        };
        let mut books = self.books();
        if !books.tally.has_room() {
            return Verdict::NoRoom("there are too many holes to count".into());
        }
        let elapsed = self.started.1.elapsed();
        if let Some(Err(seconds)) = books.quota.as_mut().map(|quota| quota.take(body.records, elapsed)) {
            return Verdict::TooFast { seconds };
        }
        if let Some(Err(error)) = books.out.as_mut().map(|out| out.append(&body.lines)) {
            return Verdict::NoRoom(format!("cannot append to the file: {error}"));
        }
        books.tally.count(&body, arrived);
        Verdict::Taken { records: body.records }
    }

    fn stats_json(&self) -> serde_json::Value {
        let (totals, arrivals) = {
            let books = self.books();
            (books.tally.totals(), books.tally.arrivals())
        };
        let mut stats = json!(totals);
        stats["arrivals"] = json!(arrivals);
        stats
    }
}

fn serve(listener: TcpListener, state: Arc<State>) -> Serving {
    let (farewell, leaving) = watch::channel(Farewell::Stay);
    Serving { farewell, task: tokio::spawn(accept(listener, state, leaving)) }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut leaving: watch::Receiver<Farewell>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Set, or its sender is gone.
            _ = leaving.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTION_COUNT_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&state), leaving.clone()));
                }
                // No descriptor left, or the peer was gone already: let the others end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all_ended).await;
}

async fn connection(stream: TcpStream, state: Arc<State>, mut leaving: watch::Receiver<Farewell>) {
    // Answers are small: waiting to fill a segment would cost 40 ms each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(Arc::clone(&state), request));
    let mut builder = http1::Builder::new();
    let mut connection = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // How a connection ended is its peer's affair.
    tokio::select! {
        _ = &mut connection => return,
        _ = leaving.changed() => {}
    }
    if *leaving.borrow() == Farewell::Reset {
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
        return;
    }
    Pin::new(&mut connection).graceful_shutdown();
    let _ = connection.await;
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/records") => records(&state, request).await,
        (&Method::GET, "/stats") => respond(StatusCode::OK, &state.stats_json()),
        (_, "/v1/records") => refuse(StatusCode::METHOD_NOT_ALLOWED, "send records with POST"),
        _ => refuse(StatusCode::NOT_FOUND, "there is POST /v1/records and GET /stats"),
    };
    if !response.status().is_success() {
        state.books().tally.count_refused();
    }
    Ok(response)
}

async fn records(state: &Arc<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    // As it meets the socket: reading and counting are this side's own time.
    let arrived = state.now();
    let body = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "a body is at most 400 MiB");
        }
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}")),
    };
    if let Some(status) = state.status.filter(|status| !status.is_success()) {
        return refuse(status, "as told on the command line");
    }
    let books = Arc::clone(state);
    let verdict = tokio::task::spawn_blocking(move || books.take(&body, arrived)).await;
    match verdict.unwrap_or_else(|_| Verdict::NoRoom("counting failed".into())) {
        Verdict::Taken { records } => {
            respond(state.status.unwrap_or(StatusCode::OK), &json!({ "received": records }))
        }
        Verdict::Malformed(malformed) => {
            let error = json!({ "line": malformed.line, "message": malformed.message });
            respond(StatusCode::BAD_REQUEST, &json!({ "error": error }))
        }
        Verdict::TooFast { seconds } => {
            let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "above the rate limit");
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            response
        }
        Verdict::NoRoom(reason) => refuse(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, &json!({ "error": { "message": message } }))
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    // These must have no body, or the next answer on the connection is read wrong.
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let text = if is_bodiless { String::new() } else { format!("{body}\n") };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
