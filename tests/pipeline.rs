//! The whole path in one process, on a real disk, with sinks that behave badly.
//!
//! What a sink has seen is the oracle; nothing of the pipeline's own counts is believed where the sink can tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::event::Event;
use forebay::sink::{Batch, Item, Outcome};
use forebay::store::Level;
use forebay::{Pipeline, Record, Sink};

/// What a destination has seen: the payload and how often, by sequence; and gaps.
#[derive(Debug, Default)]
struct Seen {
    records: BTreeMap<u64, (Vec<u8>, u32)>,
    gaps: Vec<(u64, u64)>,
    batches: u64,
    is_away: bool,
}

#[derive(Clone, Default)]
struct TestSink(Arc<Mutex<Seen>>);

impl TestSink {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_away(&self, is_away: bool) {
        self.seen().is_away = is_away;
    }

    fn count(&self) -> u64 {
        self.seen().records.len() as u64
    }

    /// Waits, without a bound of its own, until the destination has as many records: the runner has one.
    fn wait_for(&self, count: u64) {
        while self.count() < count {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every record from 1 to `last` once at least, with its bytes, and nothing else.
    fn assert_whole(&self, last: u64) {
        let seen = self.seen();
        assert!(seen.records.keys().copied().eq(1..=last), "a hole, or something that nobody submitted");
        for (sequence, (payload, _)) in &seen.records {
            assert_eq!(payload, &payload_of(*sequence), "record {sequence}");
        }
    }
}

impl Sink for TestSink {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        let mut seen = self.seen();
        if seen.is_away {
            return Outcome::RetryAfter { after: None, reason: "away".into() };
        }
        seen.batches += 1;
        for item in batch.iter() {
            match item {
                Item::Data(record) => {
                    seen.records.entry(record.sequence).or_insert_with(|| (record.payload.to_vec(), 0)).1 +=
                        1;
                }
                Item::Gap(gap) => seen.gaps.push((gap.first_sequence, gap.last_sequence)),
            }
        }
        Outcome::Accepted
    }
}

fn payload_of(sequence: u64) -> Vec<u8> {
    let mut payload = format!("record {sequence} ").into_bytes();
    payload.resize(40 + (sequence % 200) as usize, b'.');
    payload
}

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::new(dir.join("store"));
    config.disk_bytes_cap = Some(64 << 20);
    config.disk.segment_bytes = Some(1 << 20);
    config.disk.free_bytes_min = 0;
    config.backoff.min = Duration::from_millis(5);
    config.backoff.max = Duration::from_millis(20);
    config.governor.floor_records_per_second = 200_000;
    config.governor.floor_bytes_per_second = 200 << 20;
    config
}

fn start(config: &Config, sink: &TestSink) -> Pipeline {
    let mut pipeline = Pipeline::open(config).expect("a fresh directory");
    let forwarder = pipeline.forwarder().expect("the first to ask");
    forwarder.spawn(sink.clone()).expect("a thread");
    pipeline
}

fn append(pipeline: &Pipeline, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        let given =
            pipeline.store().append_blocking(&Record::new(&payload_of(sequence), sequence), Level::Accepted);
        assert_eq!(given.expect("room"), sequence);
    }
}

fn has(pipeline: &Pipeline, wanted: impl Fn(&Event) -> bool) -> bool {
    pipeline.events().iter().any(|occurrence| wanted(&occurrence.event))
}

#[test]
fn while_the_central_keeps_up_nothing_touches_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = TestSink::default();
    let pipeline = start(&config(dir.path()), &sink);
    append(&pipeline, 1..=5_000);
    sink.wait_for(5_000);
    sink.assert_whole(5_000);
    assert!(!has(&pipeline, |event| matches!(event, Event::QueueSpill { .. })));
    pipeline.close().expect("a clean stop");
    assert!(sink.seen().records.values().all(|(_, times)| *times == 1), "nothing was sent twice");
}

#[test]
fn an_outage_spills_and_everything_arrives_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = TestSink::default();
    let pipeline = start(&config(dir.path()), &sink);
    append(&pipeline, 1..=1_000);
    sink.wait_for(1_000);
    sink.set_away(true);
    append(&pipeline, 1_001..=20_000);
    while !has(&pipeline, |event| matches!(event, Event::QueueSpill { .. })) {
        std::thread::sleep(Duration::from_millis(5));
    }
    append(&pipeline, 20_001..=40_000);
    sink.set_away(false);
    append(&pipeline, 40_001..=50_000);
    sink.wait_for(50_000);
    sink.assert_whole(50_000);
    while !has(&pipeline, |event| matches!(event, Event::BackfillEnd { .. })) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(sink.seen().gaps.is_empty());
    pipeline.close().expect("a clean stop");
}

#[test]
fn what_was_not_delivered_is_delivered_by_the_next_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = TestSink::default();
    let config = config(dir.path());
    for round in 0..5u64 {
        sink.set_away(round < 4);
        let pipeline = start(&config, &sink);
        append(&pipeline, round * 10_000 + 1..=(round + 1) * 10_000);
        if round == 4 {
            sink.wait_for(50_000);
        }
        pipeline.close().expect("a clean stop");
    }
    sink.assert_whole(50_000);
    assert!(sink.seen().gaps.is_empty());
}

#[test]
fn write_ahead_delivers_only_what_is_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = TestSink::default();
    let mut config = config(dir.path());
    config.spill = SpillMode::Always;
    let pipeline = start(&config, &sink);
    append(&pipeline, 1..=30_000);
    sink.wait_for(30_000);
    sink.assert_whole(30_000);
    assert!(pipeline.store().marks().durable() >= 30_000);
    pipeline.close().expect("a clean stop");
}

/// A record that was dropped is named, not waited for: it would be durable with a later one only.
#[test]
fn an_append_whose_record_is_dropped_answers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().join("store"));
    config.spill = SpillMode::Always;
    config.queue.full = FullPolicy::DropNewest;
    config.queue.bytes = 2 << 20;
    config.disk.segment_bytes = Some(256 << 10);
    config.disk_bytes_cap = Some(3 << 20);
    let store = forebay::Store::open(&config).unwrap();
    let payload = vec![7; 40_000];
    let mut dropped = 0;
    for timestamp in 0..200 {
        let sequence = store.append_blocking(&Record::new(&payload, timestamp), Level::Durable).unwrap();
        dropped += u64::from(!store.marks().reached(Level::Durable, sequence));
    }
    assert!(dropped > 50, "{dropped} were dropped of 8 MB into 3 MiB");
    store.close().unwrap();
}
