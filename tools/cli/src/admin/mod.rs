//! Where the agent answers questions: metrics, health, the status and a page that shows it.
//!
//! Only reads, and takes no lock that appends or the device's threads hold: a device that hangs shows here
//! and does not stop it. Knows no secret: the sink's URL comes redacted.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use forebay::Pipeline;
use forebay::health::{Check, readiness};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::ingest::http::{HEAD_BYTES_MAX, HEAD_WAIT_MAX};
use crate::listener::{Leaving, left};

pub(crate) mod metrics;

/// Events in /status, at most.
const EVENTS_SHOWN_MAX: usize = 50;
/// The page loads nothing from anywhere and talks to nobody but this address.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// What it answers from.
pub(crate) struct Admin {
    /// The pipeline.
    pub(crate) pipeline: Arc<Pipeline>,
    /// What renders /metrics.
    pub(crate) metrics: PrometheusHandle,
    /// What holds for the whole life of the process: version, store, backend, sink.
    pub(crate) facts: Value,
}

/// Serves one connection.
pub(crate) async fn serve(admin: Arc<Admin>, stream: TcpStream, mut leaving: Leaving) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request)) }
    });
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

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if request.method() != Method::GET {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "ask with GET\n".into());
        }
        match request.uri().path() {
            "/" => respond(StatusCode::OK, "text/html; charset=utf-8", include_str!("page.html").into()),
            "/livez" => respond(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => {
                let verbose = request.uri().query().is_some_and(|query| query.split('&').any(is_verbose));
                let (status, text) = ready(&readiness(&self.pipeline.status()), verbose);
                respond(status, TEXT, text)
            }
            "/metrics" => respond(StatusCode::OK, "text/plain; version=0.0.4", self.render_metrics()),
            "/status" => respond(StatusCode::OK, "application/json", format!("{}\n", self.status())),
            _ => {
                let there = "there is /, /livez, /readyz, /metrics and /status\n";
                respond(StatusCode::NOT_FOUND, TEXT, there.into())
            }
        }
    }

    fn render_metrics(&self) -> String {
        let status = self.pipeline.status();
        let ready = readiness(&status).iter().all(|check| check.ok);
        ::metrics::gauge!("forebay_ready").set(f64::from(u8::from(ready)));
        ::metrics::gauge!("forebay_held_back").set(f64::from(u8::from(status.held_back)));
        // The exporter writes the number as Rust does; the text format has its own word for it. Only a value ends a line.
        self.metrics.render().replace(" inf\n", " +Inf\n")
    }

    fn status(&self) -> Value {
        let status = self.pipeline.status();
        let checks = readiness(&status);
        let events = self.pipeline.events();
        let shown = &events[events.len().saturating_sub(EVENTS_SHOWN_MAX)..];
        let mut object = self.facts.clone();
        object["ready"] = checks.iter().all(|check| check.ok).into();
        object["checks"] = json!(checks);
        object["status"] = json!(status);
        object["recovery"] = json!(self.pipeline.store().recovery());
        object["events"] = json!(shown);
        object
    }
}

fn is_verbose(pair: &str) -> bool {
    pair.split('=').next() == Some("verbose")
}

fn ready(checks: &[Check], verbose: bool) -> (StatusCode, String) {
    let is_ready = checks.iter().all(|check| check.ok);
    let mut text = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        let mark = if check.ok { "[+]" } else { "[-]" };
        let after = if check.ok { " ok".to_owned() } else { format!(": {}", check.reason) };
        text.push_str(&format!("{mark} {}{after}\n", check.name));
    }
    text.push_str(if is_ready { "ready\n" } else { "not ready\n" });
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_check_is_unready_and_is_told_with_its_reason() {
        let good = Check { name: "disk", ok: true, reason: String::new() };
        let bad = Check { name: "full", ok: false, reason: "no room".into() };
        assert_eq!(ready(std::slice::from_ref(&good), false), (StatusCode::OK, "ready\n".into()));
        assert_eq!(ready(std::slice::from_ref(&good), true).1, "[+] disk ok\nready\n");
        let (status, text) = ready(&[good, bad], false);
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "[-] full: no room\nnot ready\n")
        );
    }
}
