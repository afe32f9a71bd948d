//! The rules against text that breaks them: each plant has to be found, and each innocent left alone.

use super::{Tidied, code_of, complaints, words_of};

/// The complaints about `text` at `path`, under a header that satisfies the rule about headers.
fn about(path: &str, text: &str) -> Vec<String> {
    complaints(&Tidied::new(path, &format!("//! A plant.\n{text}\n"), true))
}

#[track_caller]
fn found(path: &str, text: &str, part: &str) {
    let complaints = about(path, text);
    assert!(
        complaints.iter().any(|complaint| complaint.contains(part) && complaint.starts_with(path)),
        "{path}: {text:?} has to be refused with {part:?}; complaints: {complaints:?}"
    );
}

#[track_caller]
fn clean(path: &str, text: &str) {
    let complaints = about(path, text);
    assert!(complaints.is_empty(), "{path}: {text:?} breaks no rule; complaints: {complaints:?}");
}

#[test]
fn words_know_only_words() {
    found("src/record.rs", "use crate::io::Slot;", "words know only words");
    found("src/record.rs", "fn f() { crate::segment::format::aligned(1); }", "words know only words");
    found("src/error.rs", "use super::block::Block;", "words know only words");
    clean("src/record.rs", "use crate::position::{Epoch, StoreId};");
    clean("src/record.rs", "use crate::{Error, Result};\nfn f() { crate::Error::io(); }");
    clean("src/config/fields.rs", "use crate::io::{Backend, SyncMethod};");
    found("src/config/fields.rs", "use crate::io::{Backend, Disk};", "io::Disk");
    found("src/event.rs", "use crate::io::Backend;", "words know only words");
    found("src/gap_file.rs", "use crate::ledger::Ledger;", "what stores knows");
    clean("src/gaps.rs", "use crate::io::File;\nuse crate::position::Epoch;");
}

#[test]
fn io_knows_no_record_segment_or_queue() {
    found("src/io/blocking.rs", "use crate::segment::format::BlockHeader;", "io knows only words");
    found("src/io/uring/mod.rs", "use crate::{error::Error, queue::memory::Queue};", "queue::memory::Queue");
    found("src/io/blocking.rs", "use crate::record::Frame;", "io moves bytes");
    found("src/io/sim.rs", "use crate::ledger::Ledger;", "io knows only words");
    clean("src/io/uring/mod.rs", "use super::{Disk, arena::Slot};\nuse crate::error::Error;");
}

#[test]
fn what_stores_and_what_decides_are_strangers() {
    found("src/segment/writer.rs", "use crate::queue::spill::Policy;", "the log is handed blocks");
    found("src/cursor.rs", "use crate::governor::Quota;", "what stores knows");
    found("src/queue/memory.rs", "use super::spill::Policy;", "what stores knows");
    found("src/queue/spill.rs", "use super::memory::Queue;", "what decides knows");
    found("src/governor/quota.rs", "use crate::sink::Batch;", "the governor sees cost and time");
    found(
        "src/governor/quota.rs",
        "use crate::{\n    limits::A,\n    io::{self, Slot},\n};",
        "what decides knows",
    );
    clean("src/governor/quota.rs", "use super::feedback::Feedback;\nuse crate::limits::KEY_BYTES_MAX;");
    clean(
        "src/segment/writer.rs",
        "use super::format::aligned;\nuse crate::block::Block;\nuse crate::io::Slot;",
    );
}

#[test]
fn only_the_composition_knows_both_columns() {
    let both = "use crate::governor::Quota;\nuse crate::segment::Log;\nuse crate::queue::spill::Policy;";
    clean("src/pipeline/forward.rs", both);
    clean("src/backfill/mod.rs", both);
    clean("src/lib.rs", "pub mod block;\npub use error::{Error, Kind, Result};");
    found("src/backfill/read_ahead.rs", "use crate::segment::Log;", "what decides knows");
    found("src/store.rs", "use crate::pipeline::ingest::Ingest;", "what stores knows");
    found("src/pipeline/mod.rs", "use crate::*;", "name it by the module");
}

#[test]
fn a_file_that_nobody_placed_says_so() {
    for path in ["src/novelty.rs", "src/novelty/mod.rs", "src/queue/novelty.rs", "src/backfill/novelty.rs"] {
        found(path, "", "say where it belongs");
    }
    clean("src/segment/novelty.rs", "");
    clean("src/segment/writer_tests.rs", "use crate::pipeline::Anything;\nfn f() { x.unwrap(); }");
    clean("src/segment/writer/tests.rs", "use crate::pipeline::Anything;");
}

#[test]
fn unsafe_stays_in_its_rooms_and_carries_its_argument() {
    found("src/block.rs", "fn f() { unsafe { g() } }", "only the four rooms");
    found("src/io/uring/probe.rs", "// SAFETY: none\nunsafe impl Send for A {}", "only the four rooms");
    found("tools/cli/src/main.rs", "#[test] fn f() { unsafe { g() } }", "only the four rooms");
    found("src/io/arena.rs", "unsafe impl Send for Arena {}", "without its argument");
    clean("src/io/arena.rs", "// SAFETY: an address only.\nunsafe impl Send for Arena {}");
    clean("src/block.rs", "// unsafe would be wrong here\nconst A: &str = \"unsafe\";");
}

#[test]
fn the_ring_stays_behind_its_door() {
    found("src/io/real.rs", "use io_uring::IoUring;", "only io/uring knows it");
    found("src/io/uring/mod.rs", "use tokio_uring::Runtime;", "only io/uring/reactor.rs");
    found("tools/cli/src/main.rs", "use io_uring::IoUring;", "only io/uring knows it");
    clean("src/io/uring/reactor.rs", "use tokio_uring::Runtime;");
    clean("src/io/uring/mod.rs", "use io_uring::IoUring;");
}

#[test]
fn files_clocks_chance_and_settings_come_in_through_their_doors() {
    found("src/store.rs", "use std::{fmt, fs::{File, read}};", "`io::Disk`");
    found("src/store.rs", "fn f() { std::fs::read(p); }", "`io::Disk`");
    found("src/config.rs", "use std::env;", "come in through `config`");
    found("src/store.rs", "fn f() { thread::sleep(d); }", "wait on a device");
    found("src/governor/quota.rs", "fn f() { let now = Instant::now(); }", "clock::Clock");
    found("src/event.rs", "use std::time::SystemTime;", "clock::Clock");
    found("src/backfill/connectivity.rs", "use rand::Rng;", "take a seed");
    clean("src/clock.rs", "use std::time::SystemTime;");
    clean("src/io/real.rs", "use std::fs::File;\nuse std::env;");
    clean("tools/cli/src/main.rs", "use std::{env, fs};");
    clean("src/store.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; fn g() { x.unwrap(); } }");
    found("src/store.rs", "#[cfg(test)]\nmod tests { fn g() {} }\nuse std::fs;", "`io::Disk`");
}

#[test]
fn channels_have_bounds() {
    found("src/pipeline/mod.rs", "fn f() { tokio::sync::mpsc::unbounded_channel::<u8>(); }", "has a bound");
    found("tools/cli/src/agent.rs", "fn f() { let (a, b) = mpsc::channel(); }", "has a bound");
    found("src/pipeline/mod.rs", "fn f() { let (a, b) = mpsc::channel::<Vec<u8>>(); }", "has a bound");
    clean(
        "src/pipeline/mod.rs",
        "fn f() { mpsc::sync_channel::<u8>(4); mpsc::channel(8); channel::<u8>(8); }",
    );
}

#[test]
fn unwrap_is_for_tests() {
    found("src/block.rs", "fn f() { x.unwrap(); }", "expect(");
    found("tools/cli/src/main.rs", "fn f() { x.unwrap(); }", "expect(");
    clean("src/block.rs", "fn f() { x.unwrap_or(1); } // x.unwrap()");
    clean("tests/contract.rs", "fn f() { x.unwrap(); }");
    clean("examples/bulk.rs", "fn f() { x.unwrap(); }");
}

#[test]
fn files_are_short_and_introduce_themselves() {
    found("src/block.rs", &"// a line\n".repeat(600), "room of its own");
    clean("src/block.rs", &"// a line\n".repeat(598));
    let bare = complaints(&Tidied::new("src/block.rs", "use std::fmt;\n", false));
    assert!(bare.iter().any(|complaint| complaint.contains("no module header")), "{bare:?}");
}

#[test]
fn names_say_something() {
    for name in ["SlotManager", "slot_helper", "Utils", "common", "do_write", "write_inner", "StateInner"] {
        found("src/block.rs", &format!("fn {name}() {{}}"), name);
        found("src/block.rs", &format!("pub(crate) struct {name} {{}}"), name);
    }
    found("src/io/utils.rs", "", "`utils`");
    found("tests/helpers/shell.bash", "", "`helpers`");
    clean("src/block.rs", "fn commonly_due() {}\nstruct Inner;\nfn dot() {}\nfn done() {}");
}

#[test]
fn nothing_is_left_to_do() {
    for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")] {
        found("src/block.rs", &format!("// {mark}: later"), "do it now");
        found("docs/FORMAT.md", &format!("{mark}: later"), "do it now");
    }
    found("src/block.rs", concat!("fn f() { to", "do!() }"), "leave it out");
    found("src/block.rs", concat!("fn f() { unimple", "mented!() }"), "leave it out");
    clean("tests/trace.sh", "mktemp -d store.XXXXXX");
}

#[test]
fn no_place_of_one_machine_is_named() {
    found("docs/TESTING.md", concat!("see /ho", "me/somebody/x"), "place of one machine");
    found("src/block.rs", concat!("// in `/wo", "rk/x`"), "place of one machine");
    clean("docs/TESTING.md", concat!("the folder a/wo", "rk/b and $X/ho", "me."));
}

#[test]
fn scripts_can_be_started() {
    for path in ["tests/append_trace.sh", "tools/test", ".ci/run"] {
        let refused = complaints(&Tidied::new(path, "#!/usr/bin/env bash\n", false));
        assert!(refused.iter().any(|complaint| complaint.contains("chmod +x")), "{path}: {refused:?}");
        assert!(complaints(&Tidied::new(path, "#!/usr/bin/env bash\n", true)).is_empty());
    }
    assert!(complaints(&Tidied::new("tests/shell/setup.bash", "", false)).is_empty(), "it is sourced");
}

#[test]
fn literals_and_comments_are_no_code() {
    let text = "a /* b /* c */ d */ e \"f\\\" g\" h r#\"i \" j\"# k 'l' m '\\'' n &'o p b\"q\" r#type // s";
    let words: Vec<String> = code_of(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["a", "e", "h", "k", "m", "n", "&'o", "p", "b", "r#type"]);
    assert_eq!(code_of("\"a\nb\"\n/* c\nd */").matches('\n').count(), 3, "lines stay where they are");
}

#[test]
fn names_fall_into_words() {
    assert_eq!(words_of("SlotManager"), ["slot", "manager"]);
    assert_eq!(words_of("in_flight_count_max"), ["in", "flight", "count", "max"]);
    assert_eq!(words_of("NDJSON"), ["ndjson"]);
}
