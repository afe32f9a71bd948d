//! A directory that is opened again, with something about it changed.

use std::path::Path;

use forebay::Record;
use forebay::config::{Config, FullPolicy, SpillMode};
use forebay::store::{Archive, Level, Store};

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
