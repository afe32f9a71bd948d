//! Tests of cursors.

use proptest::prelude::*;

use super::*;
use crate::copies::power_disk::PowerDisk;
use crate::gaps::Reason;

const STORE: StoreId = StoreId([5; 16]);

fn confirmed(confirmed: u64) -> CursorState {
    CursorState { confirmed, delivered: confirmed, ..CursorState::default() }
}

fn open(disk: &PowerDisk) -> Found<Cursor> {
    Cursor::open(disk, "default", STORE, Access::Write).unwrap()
}

fn disk_with(states: &[u64]) -> (PowerDisk, Cursor) {
    let disk = PowerDisk::default();
    let mut cursor = Cursor::create(&disk, "default", STORE, CursorState::default()).unwrap();
    disk.sync_names().unwrap();
    for state in states {
        cursor.write(confirmed(*state)).unwrap();
    }
    (disk, cursor)
}

prop_compose! {
    fn any_state()(
        since in 0..1000u64,
        delivered in any::<u32>(),
        dropped in proptest::collection::vec((0..Reason::ALL.len(), any::<u32>()), 0..9),
        steady in any::<(u64, u64)>(),
        inexact in any::<bool>(),
        steps in proptest::collection::vec((1..100u64, 0..100u64), 0..=RANGES_MAX),
    ) -> CursorState {
        let mut state = CursorState { delivered: delivered.into(), inexact, ..CursorState::since(since) };
        (state.steady_records_milli, state.steady_bytes) = steady;
        for (index, count) in dropped {
            state.dropped.add(Reason::ALL[index], count.into());
        }
        state.confirmed += state.delivered + state.dropped.sum() as u64;
        let mut next = state.confirmed;
        for (skip, span) in steps {
            state.ranges.push((next + skip, next + skip + span));
            next += skip + span;
        }
        state
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(state in any_state()) {
        let (disk, mut cursor) = disk_with(&[]);
        cursor.write(state.clone()).unwrap();
        let cursor = open(&disk).sound().unwrap();
        prop_assert_eq!(cursor.state(), &state);
    }

    #[test]
    fn a_cursor_whose_counts_do_not_add_up_is_refused(state in any_state(), off in 1..1000u64) {
        let state = CursorState { delivered: state.delivered + off, inexact: false, ..state };
        prop_assert_eq!(CursorState::decode(state.encode().as_bytes()), None);
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), size_of::<format::Cursor>())) {
        let _ = CursorState::decode(&bytes);
        // With the flags right the rest is reached.
        bytes[160..164].copy_from_slice(&1u32.to_le_bytes());
        bytes[164..168].copy_from_slice(&64u32.to_le_bytes());
        let _ = CursorState::decode(&bytes);
        prop_assert_eq!(CursorState::decode(&bytes[1..]), None);
    }

    #[test]
    fn a_segment_header_says_enough_to_lose_nothing(state in any_state(), name in "[a-z0-9._-]{1,63}") {
        let entry = state.entry(&name);
        let named = entry_name(&entry);
        prop_assert_eq!(named.as_deref(), Some(name.as_str()));
        let healed = CursorState::healed(&entry);
        prop_assert_eq!((healed.confirmed, healed.delivered), (state.confirmed, state.delivered));
        prop_assert!(healed.inexact && healed.flaw().is_none());
    }
}

#[test]
fn whichever_copy_is_lost_the_other_is_past_what_may_be_recycled() {
    for operations in 0..4 {
        let (disk, mut cursor) = disk_with(&[10, 20, 30]);
        assert_eq!(cursor.confirmed_in_both_copies(), 20);
        disk.cut_power_after(operations);
        let is_written = cursor.write(confirmed(40)).is_ok();
        let may_recycle = cursor.confirmed_in_both_copies();
        assert_eq!(may_recycle, if is_written { 30 } else { 0 });
        for kept in 0..1 << disk.dirty_sector_count() {
            let disk = disk.after_power_cut(kept, false);
            let says = open(&disk).sound().unwrap().state().confirmed;
            assert!(says == 40 || (!is_written && says == 30));
            for lost in [0, 4096] {
                let disk = disk.copied();
                disk.damage("cursor-default", |bytes| bytes[lost..lost + 4096].fill(0xa5));
                let left = open(&disk).sound().map(|cursor| cursor.state().confirmed);
                assert!(left.is_none_or(|left| left >= may_recycle));
                assert!(left.is_some() || !is_written);
            }
        }
    }
}

#[test]
fn both_copies_count_after_opening_and_a_damaged_one_says_nothing() {
    let (disk, cursor) = disk_with(&[10, 20]);
    drop(cursor);
    assert_eq!(open(&disk).sound().unwrap().confirmed_in_both_copies(), 10);
    disk.damage("cursor-default", |bytes| bytes[0] ^= 1);
    let mut cursor = open(&disk).sound().unwrap();
    assert_eq!((cursor.confirmed_in_both_copies(), cursor.damaged_copies()), (0, 1));
    cursor.write(confirmed(30)).unwrap();
    assert_eq!(cursor.confirmed_in_both_copies(), 20);
}

#[test]
fn two_damaged_copies_heal_from_what_a_segment_header_repeats() {
    let (disk, cursor) = disk_with(&[10, 20]);
    let entry = cursor.state().entry("default");
    disk.damage("cursor-default", |bytes| bytes.fill(7));
    assert!(matches!(open(&disk), Found::Damaged { blank: false }));
    Cursor::replace(&disk, "default", STORE, CursorState::healed(&entry)).unwrap();
    let cursor = open(&disk).sound().unwrap();
    assert_eq!((cursor.state().confirmed, cursor.state().inexact), (20, true));
    assert_eq!(cursor.confirmed_in_both_copies(), 20);
}

#[test]
fn a_missing_cursor_is_made_and_a_present_one_is_kept() {
    let disk = PowerDisk::default();
    let make = |since| Cursor::open_or_create(&disk, "eu-1", STORE, CursorState::since(since)).unwrap();
    assert!(matches!(Cursor::open(&disk, "eu-1", STORE, Access::Read).unwrap(), Found::Missing));
    assert_eq!(make(4).sound().unwrap().state().since_sequence, 4);
    let cursor = make(9).sound().unwrap();
    assert_eq!((cursor.state().since_sequence, cursor.name()), (4, "eu-1"));
}

#[test]
fn names_are_checked_with_the_rule_and_listed_in_order() {
    let disk = PowerDisk::default();
    let long = "x".repeat(64);
    for name in ["", "A", "a/b", "a b", "ä", long.as_str()] {
        let error = Cursor::create(&disk, name, STORE, CursorState::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(
            error.to_string().contains("1 to 63 of a-z") && error.to_string().contains(&format!("{name:?}"))
        );
    }
    for name in ["b", "a.1_x-y", "default"] {
        Cursor::create(&disk, name, STORE, CursorState::default()).unwrap();
    }
    disk.create("cursor-NOT", 0, Access::Write).unwrap();
    disk.create("state", 0, Access::Write).unwrap();
    assert_eq!(Cursor::names(&disk).unwrap(), ["a.1_x-y", "b", "default"]);
}

#[test]
#[should_panic(expected = "confirmed never goes back")]
fn confirmed_never_goes_back() {
    let (_disk, mut cursor) = disk_with(&[10]);
    let _ = cursor.write(confirmed(9));
}

#[test]
#[should_panic(expected = "do not add up")]
fn a_ledger_that_does_not_close_is_not_written() {
    let (_disk, mut cursor) = disk_with(&[10]);
    let _ = cursor.write(CursorState { delivered: 10, ..confirmed(11) });
}
