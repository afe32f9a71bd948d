//! A directory that is opened again, with something about it changed.

use std::path::Path;

use forebay::Record;
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::sink::Item;
use forebay::store::{Archive, Level, Step, Store};

fn config(dir: &Path, segment_bytes: u64) -> Config {
    let mut config = Config::new(dir.join("store"));
    config.spill = SpillMode::Always;
    config.disk_bytes_cap = Some(64 << 20);
    config.disk.segment_bytes = Some(segment_bytes);
    config.disk.free_bytes_min = 0;
    config.queue.full = FullPolicy::Reject; // counts its room before it takes a record
    config
}

/// Appends `count` records, each acked durable, and closes.
fn append(config: &Config, count: u64) -> u64 {
    let store = Store::open(config).expect("a store opens whatever happened to it");
    let mut last = 0;
    for number in 0..count {
        let payload = [number as u8; 700];
        last = store.append_blocking(&Record::new(&payload, number), Level::Accepted).expect("room");
    }
    assert!(store.wait(last, Level::Durable, None).expect("a sound disk"));
    store.close().expect("a clean stop");
    last
}

/// `state` made anew knew no epoch, and began below those of the segments: what it acked was a leftover to the
/// next open.
#[test]
fn what_is_acked_after_state_was_lost_is_there_at_the_next_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), 256 << 10);
    for round in 1..=3 {
        assert_eq!(append(&config, 1_000), round * 1_000, "nothing acked was lost, nothing given twice");
        std::fs::remove_file(config.dir.join("state")).expect("it was there");
    }
    append(&config, 1);
    let archive = Archive::open(&config.dir).expect("sound");
    assert_eq!(archive.last_sequence(), 3_001);
    assert!(archive.recovered().damage.is_empty() && archive.recovered().lost_tail.is_none());
    assert!(archive.gaps().is_empty(), "nothing was lost, and nothing is named");
}

/// Blocks were cut to the configured size, and found no slot that they fit into.
#[test]
fn slots_smaller_than_the_setting_are_filled_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    append(&config(dir.path(), 256 << 10), 1);
    assert_eq!(append(&config(dir.path(), 4 << 20), 5_000), 5_001);
    assert_eq!(append(&config(dir.path(), 512 << 10), 1), 5_002);
}

/// Every sequence that can be read, each with the payload that it was appended with.
fn readable(config: &Config) -> Vec<u64> {
    let archive = Archive::open(&config.dir).expect("whatever the damage");
    let mut reader = archive.reader(1, 0).expect("a reader");
    let mut batch = reader.batch();
    let mut found = Vec::new();
    while reader.next(&mut batch).expect("a sound disk") != Step::End {
        found.extend(batch.iter().filter_map(|item| match item {
            Item::Data(record) => Some((record.sequence, record.payload.to_vec())),
            Item::Gap(_) => None,
        }));
    }
    assert!(found.iter().all(|(_, payload)| payload[..] == [payload[0]; 700]), "no wrong bytes");
    found.into_iter().map(|(sequence, _)| sequence).collect()
}

/// The last block of a slot that was cut short reaches over the cut: what was written behind the cut was taken for a
/// part of it and never read; and the end of the segment was put where the file ended, onto sound blocks.
#[test]
fn behind_a_slot_that_was_cut_short_everything_acked_is_there_and_nothing_is_written_over() {
    for cut_bytes in [0, 5_000, 8_192, 100_000, 102_400, 300_000] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), 512 << 10);
        assert_eq!(append(&config, 1_000), 1_000);
        // One segment is full, the second one is cut.
        let slot = std::fs::File::options().write(true).open(config.dir.join("slot-000001"));
        slot.expect("the second slot").set_len(cut_bytes).expect("shorter");
        let left = readable(&config);
        for round in 1..=2 {
            let acked = append(&config, 1);
            let now = readable(&config);
            assert_eq!(now.last(), Some(&acked), "cut to {cut_bytes}, round {round}: the record just acked");
            assert_eq!(now[..left.len()], left[..], "cut to {cut_bytes}: what was sound before");
            assert_eq!(now.len(), left.len() + round);
        }
    }
}

/// It was recycled at its cut length, into which no block fitted, and the log waited for ever.
#[test]
fn a_slot_that_was_cut_short_is_a_whole_spare_once_it_is_drained() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path(), 256 << 10);
    config.disk_bytes_cap = Some(4 << 20);
    append(&config, 1_200);
    let slot = std::fs::File::options().write(true).open(config.dir.join("slot-000001"));
    slot.expect("the second slot").set_len(100_000).expect("shorter");
    for _ in 0..10 {
        let last = append(&config, 1_200);
        let store = Store::open(&config).expect("a store opens");
        let destination = store.destination("default").expect("it is there");
        destination.confirm(last);
        destination.persist_twice().expect("a sound disk");
        store.close().expect("a clean stop");
    }
    assert_eq!(append(&config, 1), 13_201, "round the slots several times");
}
