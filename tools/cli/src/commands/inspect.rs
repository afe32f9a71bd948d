//! `forebay inspect`: what lies in a store's directory, without reading the records.

use std::fmt::Write as _;
use std::path::PathBuf;

use forebay::config::units::show_bytes;
use forebay::cursor::CursorState;
use forebay::gaps::Gap;
use forebay::io::Access;
use forebay::segment::catalog::{Segment, Spare};
use forebay::segment::recovery::Refused;
use forebay::store::Archive;
use serde_json::{Map, Value, json};

use crate::args::{Global, Output};
use crate::exit::{Done, Exit, Failure};
use crate::report;

/// Flags of `forebay inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Looks and tells. Writes nothing.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    let archive = Archive::open(&args.dir)?;
    let used = used_bytes(&archive)?;
    report::print(&match global.output {
        Output::Text => text(&archive, used),
        Output::Json => format!("{}\n", json(&archive, used)),
    })?;
    Ok(Exit::Done)
}

/// The sizes of all files in the directory.
fn used_bytes(archive: &Archive) -> Result<u64, Failure> {
    let disk = archive.disk();
    let failed = |error| Failure::io(format!("cannot list {}", disk.place()), error);
    let names = disk.names().map_err(failed)?;
    // What goes away meanwhile, or is a directory, takes nothing.
    let sizes = names.iter().filter_map(|name| disk.open(name, Access::Read).ok()?.len().ok());
    Ok(sizes.sum())
}

fn json(archive: &Archive, used: u64) -> Value {
    let recovered = archive.recovered();
    let state = archive.state().copied().unwrap_or_default();
    let destinations: Map<String, Value> =
        archive.destinations().iter().map(|(name, cursor)| (name.clone(), destination(cursor))).collect();
    json!({
        "store": archive.store().to_string(),
        "epoch": archive.epoch().to_string(),
        "clean": state.clean,
        "watermarks": {
            "appended": state.appended_sequence,
            "durable": recovered.last_sequence.max(recovered.proven_sequence),
            "confirmed": archive.confirmed_min(),
            "next": recovered.next_sequence,
        },
        "bytes": { "used": used, "cap": state.disk_bytes_cap, "segment": state.segment_bytes },
        "segments": recovered.catalog.segments().map(segment).collect::<Vec<_>>(),
        "spares": recovered.catalog.spares().map(spare).collect::<Vec<_>>(),
        "refused": recovered.refused.iter().map(refused).collect::<Vec<_>>(),
        "cursors": destinations,
        "gaps": archive.gaps().iter().map(report::gap).collect::<Vec<_>>(),
        "recovery": {
            "damage": recovered.damage.iter().map(report::damage).collect::<Vec<_>>(),
            "lost_tail": recovered.lost_tail.as_ref().map(report::damage),
            "bytes_cut": recovered.bytes_cut,
            "report": recovered.report,
        },
        "flaws": archive.flaws(),
    })
}

fn segment(segment: &Segment) -> Value {
    json!({
        "file": forebay::segment::format::slot_name(segment.slot),
        "id": segment.id,
        "epoch": segment.epoch.to_string(),
        "base_sequence": segment.base_sequence,
        "previous_sequence": segment.previous_sequence,
        "bytes": segment.segment_bytes,
        "end": segment.end,
        "sealed": segment.sealed,
    })
}

fn spare(spare: &Spare) -> Value {
    json!({ "file": forebay::segment::format::slot_name(spare.slot), "bytes": spare.segment_bytes })
}

fn refused(refused: &Refused) -> Value {
    json!({
        "file": forebay::segment::format::slot_name(refused.slot),
        "bytes": refused.segment_bytes,
        "reason": format!("{:?}", refused.reason).to_lowercase(),
    })
}

fn destination(cursor: &CursorState) -> Value {
    let dropped: Map<String, Value> =
        cursor.dropped.iter().map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
    json!({
        "confirmed": cursor.confirmed,
        "since": cursor.since_sequence,
        "gaps_through": cursor.gaps_through,
        "delivered": cursor.delivered,
        "dropped": dropped,
        "exact": !cursor.inexact,
        "steady_records_per_second": cursor.steady_records_milli as f64 / 1000.0,
        "steady_bytes_per_second": cursor.steady_bytes,
    })
}

fn text(archive: &Archive, used: u64) -> String {
    let mut text = String::new();
    let recovered = archive.recovered();
    let state = archive.state().copied().unwrap_or_default();
    let stop = if state.clean { "closed cleanly" } else { "open, or not closed cleanly" };
    // Writing to a String does not fail.
    let _ = writeln!(text, "store {} epoch {}, {stop}", archive.store(), archive.epoch());
    let _ = writeln!(
        text,
        "appended {} durable {} confirmed {}; the next record gets {}",
        state.appended_sequence,
        recovered.last_sequence.max(recovered.proven_sequence),
        archive.confirmed_min(),
        recovered.next_sequence
    );
    let _ = writeln!(text, "{} of {} used", show_bytes(used), show_bytes(state.disk_bytes_cap));
    for segment in recovered.catalog.segments() {
        let kind = if segment.sealed { "sealed" } else { "active" };
        let _ = writeln!(
            text,
            "slot-{:06} {kind} segment {} from sequence {}, {} of {}",
            segment.slot,
            segment.id,
            segment.base_sequence,
            show_bytes(segment.end),
            show_bytes(segment.segment_bytes)
        );
    }
    for spare in recovered.catalog.spares() {
        let _ = writeln!(text, "slot-{:06} spare, {}", spare.slot, show_bytes(spare.segment_bytes));
    }
    for refused in &recovered.refused {
        let _ = writeln!(text, "slot-{:06} refused: {:?}", refused.slot, refused.reason);
    }
    for (name, cursor) in archive.destinations() {
        let CursorState { confirmed, delivered, .. } = cursor;
        let dropped = cursor.dropped.sum();
        let _ =
            writeln!(text, "cursor-{name} confirmed {confirmed}, delivered {delivered}, dropped {dropped}");
    }
    for Gap { first_sequence, last_sequence, count, reason, .. } in archive.gaps() {
        let reason = reason.name();
        let _ = writeln!(text, "gap {first_sequence} to {last_sequence}: {count} records, {reason}");
    }
    for sentence in archive.flaws().iter().chain(&recovered.report) {
        let _ = writeln!(text, "found: {sentence}");
    }
    text
}
