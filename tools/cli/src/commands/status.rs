//! `forebay status`: how a running agent stands, from its /status.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::args::{Global, Output};
use crate::exit::{Done, Exit, Failure};
use crate::report;
use crate::stop::StopSignals;
use crate::timestamp::push_rfc3339;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Events shown.
const EVENTS_SHOWN: usize = 10;

/// Flags of `forebay status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits 1 when the agent is not ready, 69 when there is none.")]
pub(crate) struct Args {
    /// Where the agent answers
    #[arg(long, default_value = "http://127.0.0.1:9601", value_name = "URL")]
    url: String,
    /// Again each second, until it is asked to stop
    #[arg(long)]
    watch: bool,
}

/// Asks, and prints.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start", error))?;
    runtime.block_on(show(&args, global.output))
}

async fn show(args: &Args, output: Output) -> Done {
    let mut stop = StopSignals::listen()?;
    let mut before = None;
    loop {
        let (now, status) = (Instant::now(), ask(&args.url).await?);
        report::print(&match output {
            Output::Json => format!("{status}\n"),
            Output::Text => {
                let clear = if args.watch { "\x1b[H\x1b[2J" } else { "" };
                format!("{clear}{}", text(&status, before.as_ref().map(|(then, was)| (now - *then, was))))
            }
        })?;
        let is_ready = status["ready"] == true;
        if !args.watch {
            return Ok(if is_ready { Exit::Done } else { Exit::No });
        }
        before = Some((now, status));
        tokio::select! {
            () = stop.asked() => return Ok(Exit::Done),
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

async fn ask(url: &str) -> Result<Value, Failure> {
    let uri: Uri = format!("{}/status", url.trim_end_matches('/'))
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some())
        .ok_or_else(|| {
            Failure::new(Exit::Usage, format!("--url is \"{url}\"; it must be http://HOST:PORT"))
        })?;
    let no_agent = |why: String| Failure::new(Exit::Unavailable, format!("no agent answers at {url}: {why}"));
    match timeout(PATIENCE, get(&uri)).await {
        Ok(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|error| no_agent(error.to_string())),
        Ok(Err(error)) => Err(no_agent(error.to_string())),
        Err(_) => Err(no_agent(format!("nothing within {PATIENCE:?}"))),
    }
}

async fn get(uri: &Uri) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What ends it is told to the request that waits.
    tokio::spawn(async move { drop(connection.await) });
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(uri.path()).header(HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("it says {}", response.status()).into());
    }
    Ok(Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes())
}

/// For people; with what was there before, rates.
fn text(all: &Value, before: Option<(Duration, &Value)>) -> String {
    let status = &all["status"];
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let rate = |key: &str| {
        let (elapsed, was) = before?;
        let moved = number(key).saturating_sub(was["status"][key].as_u64()?);
        Some(format!(" ({:.0}/s)", moved as f64 / elapsed.as_secs_f64()))
    };
    let mark = |key: &str| format!("{}{}", number(key), rate(key).unwrap_or_default());
    let seconds =
        |key: &str| status[key].as_f64().map_or("-".to_owned(), |seconds| format!("{seconds:.0} s"));
    let ready = if all["ready"] == true { "ready" } else { "NOT READY" };
    let spilling = match word(&status["spilling"]) {
        none if none.is_empty() => String::new(),
        cause => format!(", spilling ({cause})"),
    };
    let mut lines = vec![
        format!("{ready}  {}  {}", word(&all["dir"]), word(&all["version"])),
        format!(
            "destination  {} ({}), {}{spilling}",
            word(&all["sink"]["name"]),
            word(&status["destination_state"]),
            word(&status["lane"])
        ),
        format!(
            "watermarks   appended {}  durable {}  sent {}  confirmed {}",
            mark("appended_sequence"),
            number("durable_sequence"),
            number("sent_sequence"),
            mark("confirmed_sequence")
        ),
        format!(
            "queue        {} records in memory, {} not sent",
            number("queue_records"),
            number("unsent_records")
        ),
        format!(
            "governor     limit {}/s, burst {}, steady state {}/s",
            number("governor_limit_records_per_second"),
            number("governor_burst_records"),
            number("steady_state_records_per_second")
        ),
        format!("disk         {} of {} bytes", number("disk_bytes"), number("disk_bytes_cap")),
        format!(
            "forecast     to drain {}, to full {}",
            seconds("time_to_drain_seconds"),
            seconds("time_to_full_seconds")
        ),
    ];
    let empty = Vec::new();
    let checks = all["checks"].as_array().unwrap_or(&empty);
    lines.extend(
        checks
            .iter()
            .filter(|check| check["ok"] != true)
            .map(|check| format!("not well     {}: {}", word(&check["name"]), word(&check["reason"]))),
    );
    let events = all["events"].as_array().unwrap_or(&empty);
    lines.push("last events".into());
    lines.extend(events.iter().skip(events.len().saturating_sub(EVENTS_SHOWN)).map(event_line));
    lines.join("\n") + "\n"
}

fn event_line(event: &Value) -> String {
    let mut time = Vec::new();
    push_rfc3339(&mut time, event["timestamp"].as_u64().unwrap_or(0));
    let mut line = format!("  {} {}", String::from_utf8_lossy(&time), event["event"].as_str().unwrap_or(""));
    for (key, value) in event.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "timestamp" | "event") {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_well_and_what_happened_is_told() {
        let all = json!({
            "ready": false, "dir": "/d", "version": "1", "sink": { "name": "default" },
            "checks": [{ "name": "full", "ok": false, "reason": "no room" }],
            "status": { "appended_sequence": 300, "destination_state": "offline", "lane": "live", "spilling": "offline" },
            "events": [{ "timestamp": 0, "event": "QueueSpill", "cause": "offline" }],
        });
        let was = json!({ "status": { "appended_sequence": 100 } });
        let text = text(&all, Some((Duration::from_secs(2), &was)));
        for part in [
            "NOT READY",
            "appended 300 (100/s)",
            "full: no room",
            "spilling (offline)",
            "QueueSpill cause=\"offline\"",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
