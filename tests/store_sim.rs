//! The store on a disk that loses power, fails and lies: nothing is mocked, one thread, one seed.
//!
//! These tests were tested: each bug below was planted, and the tests beside it failed.
//!
//! | planted | fails |
//! |---|---|
//! | acked after the write, before the segment's sync | `crash::a_power_cut_*`, `faults::a_hung_disk_answers_unknown_*` |
//! | acked over a prefix that is not contiguous across segments | `crash::a_power_cut_*`, `faults::any_failed_sync_*` |
//! | no directory sync after a slot is made | `crash::a_power_cut_*`, nearly all others |
//! | a stale block of an older epoch is trusted | `crash::a_power_cut_*`, `faults::any_failed_sync_*` |
//! | a block of any segment id is believed | `faults::a_segment_lost_between_*`, `faults::any_failed_sync_*` |
//! | a slot is spare before its name is synced | `crash::a_power_cut_*`, `slots::a_power_cut_*` |
//! | a segment is begun in a slot that zeros are on their way to | `slots::no_segment_is_begun_*` |
//! | zero-writing goes on when there is a block | `slots::zero_writing_stops_when_there_is_a_block` |
//! | recycled before both copies of the cursor are past it | `faults::a_rotten_cursor_copy_never_points_at_recycled_records` |
//!
//! `SEED=n` replays one life of `random`.

#![allow(unreachable_pub, reason = "the modules of one test share what is theirs")]

#[path = "sim/crash.rs"]
mod crash;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/full.rs"]
mod full;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/slots.rs"]
mod slots;
#[path = "sim/world.rs"]
mod world;
