//! Tests of the central.

use super::*;
use std::io::{Read as _, Seek as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn line(sequence: u64, payload: &str) -> String {
    format!(
        "{{\"store\":\"s\",\"epoch\":\"1.0\",\"sequence\":{sequence},\"kind\":\"data\",\"payload\":\"{payload}\"}}\n"
    )
}

/// Sends `head` and `body` as they are, and gives all that comes back.
async fn exchange(central: &Central, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn post(central: &Central, body: &str) -> String {
    exchange(central, "POST /v1/records", body).await
}

async fn start(options: Options) -> Central {
    Central::start("127.0.0.1:0", options).await.unwrap()
}

#[tokio::test]
async fn what_is_answered_stands_in_the_file_repeats_included() {
    let mut kept = tempfile::tempfile().unwrap();
    let central = start(Options { out: Some(kept.try_clone().unwrap()), ..Options::default() }).await;
    assert!(post(&central, &(line(1, "a") + &line(2, "b"))).await.starts_with("HTTP/1.1 200"));
    assert!(post(&central, &line(2, "b")).await.contains("{\"received\":1}"));
    let mut text = String::new();
    kept.rewind().unwrap();
    kept.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a\nb\nb\n");
    let totals = central.stop().await;
    assert_eq!((totals.received, totals.distinct, totals.duplicates, totals.missing), (3, 2, 1, 0));
}

#[tokio::test]
async fn a_malformed_batch_is_a_400_and_leaves_nothing_behind() {
    let central = start(Options::default()).await;
    let answer = post(&central, &(line(1, "a") + "garbage\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"line\":2"), "{answer}");
    assert!(exchange(&central, "GET /v1/records", "").await.starts_with("HTTP/1.1 405"));
    assert!(exchange(&central, "POST /elsewhere", "").await.starts_with("HTTP/1.1 404"));
    let totals = central.stop().await;
    assert_eq!((totals.received, totals.refused), (0, 3));
}

#[tokio::test]
async fn garbage_that_is_no_http_hurts_nobody() {
    let central = start(Options::default()).await;
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    stream.write_all(b"\0\xff garbage\r\n\r\n").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert!(post(&central, &line(1, "a")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn above_the_rate_it_answers_429_and_how_long_to_wait() {
    let central = start(Options { rate_limit: Some(1), ..Options::default() }).await;
    assert!(post(&central, &line(1, "a")).await.starts_with("HTTP/1.1 200"));
    // A hundred at once are far more than a second brings, however slow this machine is.
    let many: String = (2..100).map(|sequence| line(sequence, "x")).collect();
    let answers = [post(&central, &many).await, post(&central, &many).await];
    let slow_down = answers.iter().find(|answer| answer.starts_with("HTTP/1.1 429")).expect("one of two");
    assert!(slow_down.contains("retry-after: 1"), "{slow_down}");
}

#[tokio::test]
async fn a_fixed_status_is_all_it_says_and_keeps_nothing() {
    let central =
        start(Options { status: Some(StatusCode::SERVICE_UNAVAILABLE), ..Options::default() }).await;
    assert!(post(&central, &line(1, "a")).await.starts_with("HTTP/1.1 503"));
    let totals = central.stop().await;
    assert_eq!((totals.received, totals.refused), (0, 1));
}

#[tokio::test]
async fn stats_tell_totals_and_arrivals() {
    let central = start(Options::default()).await;
    post(&central, &(line(1, "ab") + &line(4, "c"))).await;
    let answer = exchange(&central, "GET /stats", "").await;
    let stats: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&stats["received"], &stats["missing"]), (&2.into(), &2.into()));
    assert_eq!((&stats["arrivals"][0][1], &stats["arrivals"][0][2]), (&2.into(), &3.into()));
    assert!(stats["arrivals"][0][0].as_u64().unwrap() > 1_600_000_000_000);
}

#[tokio::test]
async fn it_goes_away_and_comes_back_with_its_counts() {
    let mut central = start(Options::default()).await;
    post(&central, &line(1, "a")).await;
    central.go_away().await;
    assert!(TcpStream::connect(central.address()).await.is_err());
    central.come_back().await.unwrap();
    post(&central, &line(1, "a")).await;
    assert_eq!(central.stop().await.duplicates, 1);
}

#[tokio::test]
async fn it_breaks_off_in_the_middle_of_a_request() {
    let mut central = start(Options::default()).await;
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    stream.write_all(b"POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    // A second request, answered, shows that the first has come in.
    assert!(post(&central, &line(1, "a")).await.starts_with("HTTP/1.1 200"));
    central.break_off().await;
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(TcpStream::connect(central.address()).await.is_err());
    central.come_back().await.unwrap();
    assert!(post(&central, &line(2, "a")).await.starts_with("HTTP/1.1 200"));
}
