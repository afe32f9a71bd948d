//! Tests of the HTTP sink, against the real central and against peers that misbehave.

use super::*;
use crate::central::{Central, Options};
use forebay::gaps::{Gap, Reason};
use forebay::position::{Epoch, StoreId};
use forebay::sink::{Lane, RecordRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Long enough that only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn batch(first: u64, payload_bytes: usize) -> Batch {
    let mut batch = Batch::new(StoreId([7; 16]), Epoch(1 << 32 | 9), Lane::Backfill);
    let payload = vec![b'x'; payload_bytes];
    for sequence in first..first + 3 {
        batch.push(RecordRef { sequence, timestamp: 1, key: b"m1", payload: &payload });
    }
    batch
}

fn sink_at(address: impl std::fmt::Display) -> HttpSink {
    HttpSink::new(&format!("http://{address}/v1/records"), PATIENCE).unwrap()
}

async fn central(options: Options) -> Central {
    Central::start("127.0.0.1:0", options).await.unwrap()
}

/// Reads one request with a body that is not larger than a read.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut chunk = vec![0; 64 << 10];
    while !text.contains("\r\n\r\n") || !text.ends_with('\n') {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request ended early");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn what_is_accepted_has_arrived_with_its_identities_and_gaps() {
    let central = central(Options::default()).await;
    let mut sink = sink_at(central.address());
    let mut with_gap = batch(1, 10);
    with_gap.push_gap(Gap {
        epoch: Epoch(1 << 32 | 9),
        first_sequence: 4,
        last_sequence: 6,
        count: 3,
        bytes: 30,
        first_timestamp: 0,
        last_timestamp: 0,
        reason: Reason::QueueFull,
        keys: Vec::new(),
        other_keys_count: 3,
    });
    assert_eq!(sink.send(&with_gap).await, Outcome::Accepted);
    assert_eq!(sink.send(&batch(7, 10)).await, Outcome::Accepted);
    assert_eq!(sink.send(&batch(7, 10)).await, Outcome::Accepted);
    let totals = central.stop().await;
    assert_eq!((totals.received, totals.distinct, totals.duplicates), (9, 6, 3));
    assert_eq!((totals.missing, totals.gaps, totals.bytes), (0, 1, 9 * 12));
}

#[tokio::test]
async fn every_status_means_what_the_contract_says() {
    for (code, expected) in [
        (200, "accepted"),
        (204, "accepted"),
        (301, "rejected"),
        (304, "rejected"),
        (400, "rejected"),
        (404, "rejected"),
        (408, "again"),
        (413, "rejected"),
        (429, "again"),
        (500, "again"),
        (503, "again"),
    ] {
        let status = Some(StatusCode::from_u16(code).unwrap());
        let central = central(Options { status, ..Options::default() }).await;
        let mut sink = sink_at(central.address());
        for _ in 0..2 {
            let outcome = match sink.send(&batch(1, 10)).await {
                Outcome::Accepted => "accepted",
                Outcome::RetryAfter { after: None, reason } if reason.contains(&code.to_string()) => "again",
                Outcome::Rejected { reason } if reason.contains(&code.to_string()) => "rejected",
                _ => "something else",
            };
            assert_eq!(outcome, expected, "{code}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    let central = central(Options { rate_limit: Some(1), ..Options::default() }).await;
    let mut sink = sink_at(central.address());
    let outcomes =
        [sink.send(&batch(1, 1)).await, sink.send(&batch(4, 1)).await, sink.send(&batch(7, 1)).await];
    let after = Some(Duration::from_secs(1));
    let is_told =
        |outcome: &Outcome| matches!(outcome, Outcome::RetryAfter { after: told, .. } if *told == after);
    assert!(outcomes.iter().any(is_told), "{outcomes:?}");
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let now = Duration::from_secs(784_111_777);
    let read = |text: &str| {
        let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
        retry_after(&headers, now)
    };
    assert_eq!(read("7"), Some(Duration::from_secs(7)));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
    assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(read("99999999999"), Some(RETRY_AFTER_MAX));
    assert_eq!(read("soon"), None);
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[tokio::test]
async fn the_headers_are_those_of_the_contract_and_the_connection_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink_at(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heads = Vec::new();
        for _ in 0..2 {
            heads.push(read_request(&mut stream).await);
            stream.write_all(ANSWER_OK).await.unwrap();
        }
        heads
    });
    assert_eq!(sink.send(&batch(5, 1)).await, Outcome::Accepted);
    assert_eq!(sink.send(&batch(8, 1)).await, Outcome::Accepted);
    let heads = server.await.unwrap();
    let store = StoreId([7; 16]);
    assert!(heads[0].starts_with("POST /v1/records HTTP/1.1\r\n"));
    for header in [
        "content-type: application/x-ndjson".to_owned(),
        format!("forebay-store: {store}"),
        "forebay-epoch: 1.00000009".into(),
        "forebay-first: 5".into(),
        "forebay-last: 7".into(),
        "forebay-lane: backfill".into(),
        format!("idempotency-key: {store}/1.00000009/5-7"),
    ] {
        assert!(heads[0].contains(&format!("\r\n{header}\r\n")), "{header} is not in {}", heads[0]);
    }
    assert!(heads[1].contains("forebay-first: 8"));
}

#[tokio::test]
async fn nobody_there_means_again_and_nothing_arrived() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = sink_at(address).send(&batch(1, 1)).await;
    assert!(matches!(outcome, Outcome::RetryAfter { after: None, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_silence_after_the_request_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink_at(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(ANSWER_OK).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert_eq!(sink.send(&batch(1, 1)).await, Outcome::Accepted);
    // The connection stands, so whatever this machine is busy with, the time runs out while sending.
    sink.timeout = Duration::from_millis(20);
    let outcome = sink.send(&batch(4, 1)).await;
    assert!(matches!(&outcome, Outcome::Unknown { reason } if reason.contains("20ms")), "{outcome:?}");
    server.abort();
}

#[test]
fn no_time_left_before_the_connection_means_nothing_arrived() {
    assert!(matches!(timed_out(Stage::Connecting, PATIENCE), Outcome::RetryAfter { after: None, .. }));
}

#[tokio::test]
async fn a_reset_in_the_middle_of_the_body_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink_at(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 1_000]).await.unwrap();
        // Closed with bytes unread: the kernel answers with a reset.
    });
    let outcome = sink.send(&batch(1, 8 << 20)).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn garbage_for_an_answer_is_unknown_and_the_next_send_starts_afresh() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink_at(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for answer in [&b"\0\x01 what?\r\n\r\n"[..], b"", b"HTTP/1.1 20", ANSWER_OK] {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        }
    });
    for _ in 0..3 {
        let outcome = sink.send(&batch(1, 1)).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    }
    assert_eq!(sink.send(&batch(1, 1)).await, Outcome::Accepted);
    server.await.unwrap();
}

#[tokio::test]
async fn a_status_counts_even_where_the_rest_of_the_answer_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink_at(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    });
    assert_eq!(sink.send(&batch(1, 1)).await, Outcome::Accepted);
    assert!(sink.connection.is_none());
    server.await.unwrap();
}

#[tokio::test]
async fn it_finds_back_to_a_central_that_was_away() {
    let mut central = central(Options::default()).await;
    let mut sink = sink_at(central.address());
    assert_eq!(sink.send(&batch(1, 1)).await, Outcome::Accepted);
    central.go_away().await;
    assert_ne!(sink.send(&batch(4, 1)).await, Outcome::Accepted);
    central.come_back().await.unwrap();
    assert_eq!(sink.send(&batch(4, 1)).await, Outcome::Accepted);
    assert_eq!(central.stop().await.missing, 0);
}

#[tokio::test]
async fn the_buffer_is_used_again() {
    let central = central(Options::default()).await;
    let mut sink = sink_at(central.address());
    assert_eq!(sink.send(&batch(1, 100_000)).await, Outcome::Accepted);
    let capacity = sink.buffer.capacity();
    assert!(capacity >= 300_000, "{capacity}");
    assert_eq!(sink.send(&batch(4, 1)).await, Outcome::Accepted);
    assert_eq!(sink.buffer.capacity(), capacity);
}

#[test]
fn only_plain_http_urls_are_taken() {
    for (url, host, port) in
        [("http://h/x", "h", 80), ("http://[::1]:9/x?y", "::1", 9), ("http://h:1", "h", 1)]
    {
        let sink = HttpSink::new(url, PATIENCE).unwrap();
        assert_eq!((sink.target.host.as_str(), sink.target.port), (host, port));
    }
    for url in ["", "h", "/x", "https://h/", "http://", "http://u:p@h/", "http:///x"] {
        assert_eq!(HttpSink::new(url, PATIENCE).unwrap_err().kind(), Kind::Config, "{url}");
    }
}
