//! What a reader beside the store sees, on a simulated disk.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, FullPolicy, SpillMode};
use crate::gaps::Reason;
use crate::io::sim::SimDisk;
use crate::record::Record;
use crate::sink::Item;
use crate::store::{Driver, Store, Turn};

struct Place {
    disk: SimDisk,
    config: Config,
}

impl Place {
    fn new() -> Self {
        let mut config = Config::new("simulated");
        config.spill = SpillMode::Always;
        config.disk_bytes_cap = Some(16 << 20);
        config.queue.bytes = 1 << 20;
        config.queue.full = FullPolicy::Block;
        config.disk.segment_bytes = Some(256 << 10);
        config.disk.free_bytes_min = 0;
        config.write.batch_bytes = 16 << 10;
        config.write.batch_linger_unawaited = Duration::from_millis(1);
        Self { disk: SimDisk::new(1), config }
    }

    /// A store of `count` records of 1,000 bytes, and whatever `then` does before it closes.
    fn life(&self, count: u64, then: impl FnOnce(&Store)) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, mut driver) = Store::open_parts(disk, &self.config, Arc::new(Clock::new())).unwrap();
        for number in 0..count {
            while append(&store, number).is_none() {
                let _ = driver.turn(true).unwrap();
            }
        }
        then(&store);
        close(store, driver);
    }

    fn archive(&self) -> Archive {
        Archive::open_on(Arc::new(self.disk.clone())).unwrap()
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let mut names = self.disk.file_names();
        names.sort();
        names.into_iter().map(|name| (name.clone(), self.disk.read_file(&name).unwrap())).collect()
    }
}

fn append(store: &Store, number: u64) -> Option<u64> {
    let payload = [number as u8; 1000];
    store.try_append(&Record::new(&payload, number)).unwrap().sequence()
}

fn close(store: Store, mut driver: Driver) {
    store.begin_close();
    while driver.turn(true).unwrap() != Turn::Closed {}
    store.close().unwrap();
}

/// Everything a reader tells, records as ranges.
fn told(archive: &Archive, from: u64) -> Vec<String> {
    let mut reader = archive.reader(from, from - 1).unwrap();
    let mut batch = reader.batch();
    let (mut told, mut run) = (Vec::new(), None);
    loop {
        let step = reader.next(&mut batch).unwrap();
        if step == Step::Records {
            for item in batch.iter() {
                let Item::Data(record) = item else { panic!("gaps are steps") };
                run = match run {
                    Some((first, last)) if last + 1 == record.sequence => Some((first, record.sequence)),
                    None => Some((record.sequence, record.sequence)),
                    Some((_, last)) => panic!("{} after {last} with nothing said", record.sequence),
                };
            }
            continue;
        }
        told.extend(run.take().map(|(first, last)| format!("records {first}-{last}")));
        told.push(match step {
            Step::Gap(gap) => format!("gap {}-{}", gap.first_sequence, gap.last_sequence),
            Step::Damaged(damage) => format!("damaged {}-{}", damage.first_sequence, damage.last_sequence),
            Step::End => return told,
            other => format!("{other:?}"),
        });
    }
}

#[test]
fn gaps_are_told_once_in_their_place_and_what_they_name_is_not_read() {
    let place = Place::new();
    place.life(2000, |store| {
        let destination = store.destination("default").unwrap();
        for (first, last) in [(1, 3), (500, 999), (1000, 1000), (1999, 2000)] {
            let reason = if first == 1000 { Reason::Expired } else { Reason::RejectedBySink };
            destination.lose(store.epoch(), first, last, reason).unwrap();
        }
        destination.persist().unwrap();
    });
    let archive = place.archive();
    let all =
        ["gap 1-3", "records 4-499", "gap 500-999", "gap 1000-1000", "records 1001-1998", "gap 1999-2000"];
    assert_eq!(told(&archive, 1), all);
    assert_eq!(told(&archive, 700), ["gap 500-999", "gap 1000-1000", "records 1001-1998", "gap 1999-2000"]);
    assert_eq!(told(&archive, 1500), ["records 1500-1998", "gap 1999-2000"]);
    assert_eq!(told(&archive, 2001), Vec::<String>::new());
}

#[test]
fn damage_is_told_where_it_is_until_a_gap_names_it() {
    let place = Place::new();
    place.life(2000, |_| {});
    // One bit in the middle of a payload costs one record.
    place.disk.flip("slot-000002", 100_000, 3).unwrap();
    let steps = told(&place.archive(), 1);
    assert_eq!(steps.len(), 3, "{steps:?}");
    let lost: u64 = steps[1].strip_prefix("damaged ").unwrap().split('-').next().unwrap().parse().unwrap();
    assert_eq!(steps[1], format!("damaged {lost}-{lost}"));
    place.life(0, |store| {
        let destination = store.destination("default").unwrap();
        destination.lose(store.epoch(), lost, lost, Reason::Corrupt).unwrap();
    });
    let before = format!("records 1-{}", lost - 1);
    let after = format!("records {}-2000", lost + 1);
    assert_eq!(told(&place.archive(), 1), [before, format!("gap {lost}-{lost}"), after]);
}

#[test]
fn a_segment_that_is_gone_is_damage_wherever_it_was() {
    for slot in ["slot-000000", "slot-000003"] {
        let place = Place::new();
        place.life(2000, |_| {});
        place.disk.remove_file(slot).unwrap();
        let archive = place.archive();
        let steps = told(&archive, 1);
        let damaged = steps.iter().filter(|step| step.starts_with("damaged")).count();
        assert_eq!(damaged, 1, "{slot}: {steps:?}");
        assert_eq!(archive.last_sequence(), 2000);
    }
}

#[test]
fn looking_changes_nothing_and_takes_no_lock() {
    let place = Place::new();
    place.life(300, |_| {
        let before = place.contents();
        let archive = place.archive();
        let _ = told(&archive, 1);
        assert!(archive.unsound_bytes("slot-000000").is_ok());
        assert!(place.contents() == before, "every byte is what it was");
    });
    assert_eq!(told(&place.archive(), 1), ["records 1-300"]);
}

#[test]
fn a_directory_without_a_store_is_refused() {
    let place = Place::new();
    let error = Archive::open_on(Arc::new(place.disk.clone())).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(Archive::open("/nowhere/at/all").unwrap_err().kind(), Kind::NotFound);
}
