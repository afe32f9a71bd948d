//! Tests of the gap list, its file and its codec.

use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::copies::Found;
use crate::copies::power_disk::PowerDisk;
use crate::io::{Access, Disk};
use crate::position::StoreId;

const STORE: StoreId = StoreId([6; 16]);

fn gap(first: u64, last: u64, reason: Reason) -> Gap {
    let span = last - first + 1;
    Gap {
        epoch: Epoch(1),
        first_sequence: first,
        last_sequence: last,
        count: span,
        bytes: span * 100,
        first_timestamp: first * 10,
        last_timestamp: last * 10,
        reason,
        keys: vec![(vec![b'k', (first % 5) as u8], span)],
        other_keys_count: 0,
    }
}

fn sparse(first: u64, last: u64, count: u64, reason: Reason) -> Gap {
    Gap { count, keys: vec![(b"k".to_vec(), count)], ..gap(first, last, reason) }
}

fn named(count: u64) -> Added {
    Added::Named { count, exact: true }
}

fn list_of(gaps: impl IntoIterator<Item = Gap>) -> GapList {
    let mut list = GapList::default();
    for gap in gaps {
        assert!(matches!(list.add(gap), Added::Named { .. }));
    }
    list
}

fn ranges(list: &GapList) -> Vec<(u64, u64, u64)> {
    list.iter().map(|gap| (gap.first_sequence, gap.last_sequence, gap.count)).collect()
}

fn keyed(gap: &Gap) -> u64 {
    gap.keys.iter().map(|(_, count)| count).sum::<u64>() + gap.other_keys_count
}

fn check_shape(list: &GapList) {
    let gaps: Vec<_> = list.iter().collect();
    assert!(gaps.windows(2).all(|pair| pair[0].last_sequence < pair[1].first_sequence));
    assert!(gaps.iter().all(|gap| gap.flaw().is_none() && keyed(gap) <= gap.count));
    let mut body = Vec::new();
    codec::encode(list.iter(), &mut body);
    assert!(gaps.len() <= GAPS_MAX && body.len() <= list::BODY_BYTES_MAX);
    assert_eq!(codec::decode(&body).expect("what is kept can be written").len(), gaps.len());
    assert_eq!(body.len(), gaps.iter().map(|gap| codec::gap_bytes(gap)).sum::<usize>());
}

fn any_reason() -> impl Strategy<Value = Reason> {
    (0..Reason::ALL.len()).prop_map(|index| Reason::ALL[index])
}

prop_compose! {
    fn any_gap()(
        first in 1..u64::MAX, span in 0..u64::from(u32::MAX), numbers in any::<[u64; 5]>(),
        epoch in any::<u64>(), reason in any_reason(),
        keys in vec((vec(any::<u8>(), 0..=255), any::<u64>()), 0..9),
    ) -> Gap {
        let last = first.saturating_add(span);
        let [count, bytes, first_timestamp, last_timestamp, other_keys_count] = numbers;
        Gap {
            epoch: Epoch(epoch), first_sequence: first, last_sequence: last, count: 1 + count % (last - first + 1),
            bytes, first_timestamp, last_timestamp, reason, keys, other_keys_count,
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_what_is_decoded(mut gaps in vec(any_gap(), 0..9)) {
        gaps.sort_by_key(|gap| gap.first_sequence);
        gaps.dedup_by(|later, before| later.first_sequence <= before.last_sequence);
        let mut body = Vec::new();
        codec::encode(gaps.iter(), &mut body);
        prop_assert_eq!(codec::decode(&body), Some(gaps));
    }

    #[test]
    fn no_damaged_body_panics_and_a_cut_one_never_says_more(
        gap in any_gap(), place in any::<prop::sample::Index>(), bit in 0..8u8, length in any::<prop::sample::Index>(),
    ) {
        let mut body = Vec::new();
        codec::encode([&gap].into_iter(), &mut body);
        let cut = length.index(body.len());
        prop_assert_eq!(codec::decode(&body[..cut]), (cut == 0).then(Vec::new));
        let place = place.index(body.len());
        body[place] ^= 1 << bit;
        if let Some(gaps) = codec::decode(&body) {
            prop_assert!(gaps.iter().all(|gap| gap.flaw().is_none()));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = codec::decode(&bytes);
    }

    /// The model: the first loss of a sequence names it.
    #[test]
    fn every_lost_sequence_is_named_once_for_the_reason_that_came_first(
        losses in vec((1..300u64, 0..40u64, any_reason()), 1..60)
    ) {
        let (mut list, mut model) = (GapList::default(), BTreeMap::new());
        for (first, span, reason) in losses {
            let before = model.len();
            (first..=first + span).for_each(|sequence| { model.entry(sequence).or_insert(reason); });
            prop_assert_eq!(list.add(gap(first, first + span, reason)), named((model.len() - before) as u64));
        }
        check_shape(&list);
        let mut said = BTreeMap::new();
        for gap in list.iter() {
            prop_assert!(gap.is_dense());
            said.extend((gap.first_sequence..=gap.last_sequence).map(|sequence| (sequence, gap.reason)));
        }
        prop_assert_eq!(said, model);
        let touching = list.gaps_touching();
        prop_assert!(touching.is_none(), "not joined: {:?}", touching);
    }

    #[test]
    fn sums_by_reason_survive_sparse_gaps_and_a_dense_one_over_all(
        losses in vec((0..20u64, 1..9u64, any_reason()), 1..40), last in any_reason(),
    ) {
        let (mut list, mut totals, mut next) = (GapList::default(), Totals::default(), 10);
        for (skip, count, reason) in losses {
            let end = next + skip + count;
            prop_assert_eq!(list.add(sparse(next, end, count, reason)), named(count));
            totals.add(reason, count);
            next = end + 1 + skip % 2;
        }
        let (before, end) = (totals.sum() as u64, next + 5);
        prop_assert_eq!(list.add(gap(5, end, last)), named(end - 4 - before));
        totals.add(last, end - 4 - before);
        check_shape(&list);
        prop_assert_eq!(list.totals(), totals);
        prop_assert!(list.iter().all(Gap::is_dense));
    }

    #[test]
    fn counted_keys_are_never_too_high_and_too_low_by_little(
        steps in vec((0..4000u32, 1..4u32), 1..3000)
    ) {
        let (mut builder, mut truth, mut sequence) = (GapBuilder::new(Epoch(1), Reason::QueueFull), HashMap::new(), 0);
        for (key, repeats) in steps {
            // Half of the losses are of a few keys.
            let key = if key % 2 == 0 { key % 16 } else { key };
            for _ in 0..repeats {
                sequence += 1;
                builder.add(sequence, sequence, &key.to_le_bytes(), 8);
                *truth.entry(key.to_le_bytes().to_vec()).or_insert(0u64) += 1;
            }
        }
        let gap = builder.finish().unwrap();
        prop_assert_eq!((gap.count, keyed(&gap), gap.bytes), (sequence, sequence, sequence * 8));
        prop_assert!(gap.is_dense() && gap.keys.len() <= KEYS_MAX);
        let error_max = sequence / 1025;
        for (key, count) in &gap.keys {
            prop_assert!(*count <= truth[key] && truth[key] <= count + error_max);
        }
    }
}

impl GapList {
    /// Two dense gaps that should be one.
    fn gaps_touching(&self) -> Option<(&Gap, &Gap)> {
        let alike = |one: &Gap, other: &Gap| one.reason == other.reason && one.epoch == other.epoch;
        let mut pairs = self.iter().zip(self.iter().skip(1));
        pairs.find(|(one, other)| alike(one, other) && one.last_sequence + 1 == other.first_sequence)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.iter().for_each(|gap| totals.add(gap.reason, gap.count));
        totals
    }
}

#[test]
fn a_tail_gap_grows_and_its_parts_add_up() {
    let list = list_of([gap(10, 19, Reason::DiskFull), gap(20, 29, Reason::DiskFull)]);
    let grown = list.iter().next().unwrap();
    assert_eq!((grown.first_sequence, grown.last_sequence, grown.count, grown.bytes), (10, 29, 20, 2000));
    assert_eq!((grown.first_timestamp, grown.last_timestamp), (100, 290));
    assert_eq!((list.len(), grown.keys.as_slice()), (1, [(vec![b'k', 0], 20)].as_slice()));
}

#[test]
fn an_unknown_time_is_not_the_earliest() {
    let unknown = Gap { first_timestamp: 0, last_timestamp: 0, ..gap(10, 19, Reason::Corrupt) };
    let list = list_of([unknown, gap(20, 29, Reason::Corrupt)]);
    let joined = list.iter().next().unwrap();
    assert_eq!((joined.first_timestamp, joined.last_timestamp), (200, 290));
}

#[test]
fn a_dense_gap_is_cut_around_what_is_named_with_its_share_of_bytes_and_keys() {
    let mut list = list_of([gap(20, 29, Reason::Corrupt), gap(40, 49, Reason::Expired)]);
    assert_eq!(list.add(gap(10, 59, Reason::DiskFull)), named(30));
    assert_eq!(ranges(&list), [(10, 19, 10), (20, 29, 10), (30, 39, 10), (40, 49, 10), (50, 59, 10)]);
    let part = list.next_at_or_after(30).unwrap();
    assert_eq!((part.bytes, keyed(part), part.reason), (1000, 10, Reason::DiskFull));
    assert_eq!(list.add(gap(12, 58, Reason::Expired)), named(0));
}

#[test]
fn another_epoch_or_reason_does_not_join() {
    let other_epoch = Gap { epoch: Epoch(2), ..gap(20, 29, Reason::Corrupt) };
    let list = list_of([gap(10, 19, Reason::Corrupt), other_epoch, gap(30, 39, Reason::Expired)]);
    assert_eq!(list.len(), 3);
}

#[test]
fn a_gap_that_a_destination_was_handed_no_longer_grows() {
    let mut list = list_of([gap(10, 19, Reason::DiskFull)]);
    list.keep_apart_at(&[5, 19]);
    assert_eq!(list.add(gap(20, 29, Reason::DiskFull)), named(10));
    assert_eq!(ranges(&list), [(10, 19, 10), (20, 29, 10)]);
    assert_eq!(list.add(gap(30, 39, Reason::DiskFull)), named(10), "nobody has seen the new one");
    assert_eq!(ranges(&list), [(10, 19, 10), (20, 39, 20)]);
}

#[test]
fn a_range_that_cuts_a_sparse_gap_counts_nothing_twice_and_says_so() {
    let mut list = list_of([sparse(10, 40, 22, Reason::QueueFull)]);
    assert_eq!(list.add(gap(25, 60, Reason::DiskFull)), Added::Named { count: 20, exact: false });
    assert_eq!(ranges(&list), [(10, 40, 22), (41, 60, 20)]);
}

#[test]
fn the_losses_of_a_sparse_gap_are_spread_over_the_room_that_is_left() {
    let mut list = list_of([gap(20, 29, Reason::Corrupt)]);
    assert_eq!(list.add(sparse(10, 39, 7, Reason::Expired)), named(7));
    assert_eq!(list.totals().of(Reason::Expired), 7);
    check_shape(&list);
    let more = sparse(15, 30, 15, Reason::QueueFull);
    assert_eq!(list.add(more), Added::Named { count: 0, exact: false });
}

#[test]
fn when_there_are_too_many_the_nearest_of_one_reason_merge_and_no_loss_is_forgotten() {
    let mut list = GapList::default();
    let (mut totals, mut next) = (Totals::default(), 1);
    for index in 0..3 * GAPS_MAX as u64 {
        let reason = Reason::ALL[(index / 5 % 7) as usize];
        let last = next + index % 4;
        assert_eq!(list.add(gap(next, last, reason)), named(last - next + 1));
        totals.add(reason, last - next + 1);
        next = last + 2 + index % 11;
    }
    check_shape(&list);
    assert_eq!((list.len(), list.totals()), (GAPS_MAX, totals));
    assert_eq!(list.iter().map(keyed).sum::<u64>(), totals.sum() as u64);
}

#[test]
fn a_gap_that_finds_no_room_comes_back_and_nothing_changes() {
    let reasons = [Reason::Corrupt, Reason::Expired];
    let mut list = list_of(
        (0..GAPS_MAX as u64).map(|index| gap(2 + index * 4, 3 + index * 4, reasons[index as usize % 2])),
    );
    let before = (ranges(&list), list.totals());
    let refused = gap(1, 9000, Reason::DiskFull);
    assert_eq!(list.add(refused.clone()), Added::Full(refused));
    assert_eq!((ranges(&list), list.totals()), before);
    check_shape(&list);
    assert_eq!(
        list.add(gap(4, 5, Reason::Corrupt)),
        named(2),
        "what touches a gap of its kind needs no room"
    );
    assert_eq!(list.remove_below(5).len(), 1);
    assert_eq!(list.add(gap(9000, 9000, Reason::DiskFull)), named(1));
}

#[test]
fn when_the_bytes_are_too_many_the_smallest_keys_are_summed() {
    let mut list = GapList::default();
    for index in 0..200u64 {
        let key = |number: u64| (format!("monitor-{index}-{number:0>80}").into_bytes(), 1 + number);
        let keys: Vec<_> = (0..40).map(key).collect();
        let count = keys.iter().map(|(_, count)| count).sum();
        let first = index * 10_000 + 1;
        let lost = Gap { keys, count, ..gap(first, first + 5000, Reason::QueueFull) };
        assert_eq!(list.add(lost), named(count));
        check_shape(&list);
    }
    assert_eq!(list.len(), 200);
    assert!(list.iter().all(|gap| keyed(gap) == gap.count));
    let kept_in_old = &list.iter().next().unwrap().keys;
    assert!(!kept_in_old.is_empty() && kept_in_old.iter().all(|(_, count)| *count > 20), "the largest stay");
}

#[test]
fn more_keys_than_fit_are_summed_and_ordered() {
    let keys = (0..300u64).map(|number| (number.to_be_bytes().to_vec(), number)).collect();
    let list = list_of([Gap { keys, count: 45_000, ..gap(1, 50_000, Reason::QueueFull) }]);
    let kept = list.iter().next().unwrap();
    assert_eq!((kept.keys.len(), kept.keys[0].1, kept.keys[127].1, keyed(kept)), (128, 299, 172, 44_850));
}

#[test]
fn what_every_destination_has_confirmed_is_removed_and_no_more() {
    let mut list = list_of([gap(10, 19, Reason::Corrupt), gap(30, 39, Reason::Corrupt)]);
    assert_eq!(list.remove_below(9), []);
    assert_eq!(list.remove_below(38), [gap(10, 19, Reason::Corrupt)]);
    assert_eq!(ranges(&list), [(30, 39, 10)]);
    check_shape(&list);
    assert_eq!(list.remove_below(39).len(), 1);
    assert!(list.is_empty());
}

#[test]
fn gaps_are_found_by_what_they_cover() {
    let list = list_of([gap(10, 19, Reason::Corrupt), gap(30, 39, Reason::Corrupt)]);
    let firsts = |first, last| list.covering(first, last).map(|gap| gap.first_sequence).collect::<Vec<_>>();
    assert_eq!((firsts(1, 9), firsts(19, 30), firsts(20, 29)), (vec![], vec![10, 30], vec![]));
    let next = |sequence| list.next_at_or_after(sequence).map(|gap| gap.first_sequence);
    assert_eq!((next(1), next(19), next(20), next(40)), (Some(10), Some(10), Some(30), None));
}

#[test]
fn nothing_dropped_is_no_gap_and_keyless_losses_are_counted() {
    assert_eq!(GapBuilder::new(Epoch(1), Reason::Expired).finish(), None);
    let mut builder = GapBuilder::new(Epoch(1), Reason::Expired);
    builder.add(9, 0, b"", 1);
    builder.add(5, 70, b"a", 2);
    let gap = builder.finish().unwrap();
    assert_eq!((gap.first_sequence, gap.last_sequence, gap.count, gap.is_dense()), (5, 9, 2, false));
    assert_eq!((gap.first_timestamp, gap.last_timestamp, gap.bytes), (70, 70, 3));
    assert_eq!((gap.keys.as_slice(), gap.other_keys_count), ([(b"a".to_vec(), 1)].as_slice(), 0));
}

#[test]
fn a_reason_has_the_number_of_its_place() {
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!((reason.number(), reason as usize), (index as u16 + 1, index));
        assert_eq!(Reason::of_number(reason.number()), Some(reason));
    }
    assert_eq!((Reason::of_number(0), Reason::of_number(8)), (None, None));
}

#[test]
fn a_written_gap_survives_any_power_cut() {
    for operations in 0..5 {
        let disk = PowerDisk::default();
        let mut file = GapFile::create(&disk, STORE).unwrap();
        disk.sync_names().unwrap();
        assert_eq!(file.add(gap(10, 19, Reason::Corrupt)), named(10));
        file.write().unwrap();
        assert_eq!(file.add(gap(30, 39, Reason::Expired)), named(10));
        disk.cut_power_after(operations);
        let is_written = file.write().is_ok();
        assert_eq!(file.is_written(), is_written);
        for kept in 0..1 << disk.dirty_sector_count() {
            let disk = disk.after_power_cut(kept, false);
            let said = GapFile::open(&disk, STORE, Access::Write).unwrap().sound().unwrap();
            let firsts: Vec<_> = said.iter().map(|gap| gap.first_sequence).collect();
            assert!(firsts == [10, 30] || (!is_written && firsts == [10]));
        }
    }
}

#[test]
fn nothing_is_written_when_nothing_changed_and_growth_never_needs_room() {
    let disk = PowerDisk::default();
    let mut file = GapFile::create(&disk, STORE).unwrap();
    assert_eq!(disk.open("gaps", Access::Read).unwrap().len().unwrap(), 512 * 1024);
    disk.take_writes();
    assert!(file.remove_below(100).is_empty());
    file.write().unwrap();
    assert_eq!(disk.take_writes(), []);
    for index in 0..2000u64 {
        assert!(matches!(file.add(gap(index * 3 + 1, index * 3 + 1, Reason::Expired)), Added::Named { .. }));
    }
    file.write().unwrap();
    assert!(disk.take_writes().iter().all(|(offset, length)| offset + *length as u64 <= 512 * 1024));
    let read = GapFile::open(&disk, STORE, Access::Read).unwrap().sound().unwrap();
    assert!(read.iter().eq(file.iter()));
}

#[test]
fn a_lost_file_of_gaps_is_an_outcome() {
    let disk = PowerDisk::default();
    assert!(matches!(GapFile::open(&disk, STORE, Access::Write).unwrap(), Found::Missing));
    GapFile::create(&disk, STORE).unwrap();
    disk.damage("gaps", |bytes| bytes.fill(1));
    assert!(matches!(GapFile::open(&disk, STORE, Access::Write).unwrap(), Found::Damaged { blank: false }));
    assert!(GapFile::replace(&disk, STORE).unwrap().gaps().is_empty());
}
