//! The result for people and for programs: a table a workload, who is out and why, and how each was set.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::lap::megabytes_per_second;
use crate::place::Place;
use crate::proof::Proof;
use crate::race::{Plan, Row};
use crate::spread::Spread;
use crate::workload::{PAYLOAD_BYTES, Workload};

/// Who the others are compared with.
const OURS: &str = "forebay";

/// The tables.
pub(crate) fn text(plan: &Plan, rows: &[Row], place: &Place) -> String {
    let mut text = format!(
        "Rivals: records of {PAYLOAD_BYTES} B, {} interleaved laps, each in a fresh directory and a process of its own\n\
         {} cores, {}, Linux {}, {}\n",
        plan.laps, place.cores, place.machine, place.kernel, place.file_system
    );
    if !plan.proves {
        text.push_str(
            "NOT PROVEN: syncs were not counted (--no-proof), so nothing says that durability is equal\n",
        );
    }
    for workload in Workload::ALL {
        let of: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        if of.is_empty() {
            continue;
        }
        let appends =
            if plan.laps == 0 { workload.appends_proving() } else { workload.appends(plan.records) };
        let _ = writeln!(text, "\n{} ({appends} records a lap)", workload.title());
        let _ = writeln!(text, "{}", heading(workload, plan));
        for row in &of {
            let _ = writeln!(text, "{:26} {}", row.title(), line(row, ours(rows, workload)));
        }
    }
    text.push_str(&footnotes(plan, rows));
    text
}

fn ours(rows: &[Row], workload: Workload) -> Option<&Row> {
    rows.iter().find(|row| row.entrant.name == OURS && row.workload == workload)
}

fn heading(workload: Workload, plan: &Plan) -> String {
    if plan.laps == 0 {
        return format!("{:26} {}", "", "syncs / barriers, system calls");
    }
    let speed = match workload {
        Workload::Single => format!("{:>20} {:>8}", "p50 us (min-max)", "p99 us"),
        Workload::Grouped => format!("{:>20} {:>8}", "M rec/s (min-max)", "MB/s"),
        Workload::Threads => format!("{:>20} {:>8}", "k rec/s (min-max)", "p50 us"),
    };
    format!("{:26} {speed} {:>20} {:>9} {:>14}", "", "forebay is x times", "CPU ns", "syncs/barrier")
}

fn line(row: &Row, ours: Option<&Row>) -> String {
    if let Some(why) = &row.out {
        let word = if row.has_failed() { "failed" } else { "refused" };
        return format!("{word}: {why}");
    }
    let (Some(speed), Some(cpu)) = (row.records_per_second(), row.cpu_ns_per_record()) else {
        return row.proof.as_ref().map_or_else(String::new, counted);
    };
    let wait = row.wait_us();
    let speed = match (row.workload, wait) {
        (Workload::Single, Some((p50, p99))) => format!("{:>20} {:>8.0}", shown(p50, 0), p99.median),
        (Workload::Threads, Some((p50, _))) => {
            format!("{:>20} {:>8.0}", shown(scaled(speed, 1e-3), 1), p50.median)
        }
        _ => {
            let megabytes = megabytes_per_second(speed.median);
            format!("{:>20} {megabytes:>8.0}", shown(scaled(speed, 1e-6), 2))
        }
    };
    let times = ours.filter(|ours| ours.entrant.name != row.entrant.name);
    let times =
        times.and_then(|ours| row.times_slower_than(ours)).map_or_else(String::new, |times| shown(times, 2));
    let syncs = row
        .proof
        .as_ref()
        .map_or("not proven".to_owned(), |proof| format!("{:.2}", proof.syncs_per_barrier()));
    format!("{speed} {times:>20} {:>9.0} {syncs:>14}", cpu.median)
}

fn counted(proof: &Proof) -> String {
    let calls: Vec<String> = proof.calls.iter().map(|(name, calls)| format!("{name} {calls}")).collect();
    format!("{} / {} by {}; strace: {}", proof.syncs, proof.barriers, proof.counted_by, calls.join(", "))
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread { min: spread.min * by, median: spread.median * by, max: spread.max * by }
}

fn shown(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}-{:.digits$})", spread.median, spread.min, spread.max)
}

fn footnotes(plan: &Plan, rows: &[Row]) -> String {
    let mut text = String::from("\nHow each was set:\n");
    let mut seen = Vec::new();
    for row in rows {
        if !seen.contains(&row.entrant.name) {
            seen.push(row.entrant.name);
            let _ = writeln!(text, "  {}: {}", row.title(), row.entrant.settings);
        }
    }
    text.push_str(
        "\nCPU is that of the process a record, user and system; the kernel's own threads (write-back, journal) are in \
         nobody's.\n",
    );
    if plan.proves
        && let Some(proof) = rows.iter().find_map(|row| row.proof.as_ref())
    {
        let _ = writeln!(
            text,
            "Syncs were counted by {} in a short lap before the race; fewer than barriers are refused.",
            proof.counted_by
        );
    }
    text
}

/// The same for programs: every lap, and the figures of the table.
pub(crate) fn json(plan: &Plan, rows: &[Row], place: &Place) -> Value {
    let row = |row: &Row| {
        let wait = row.wait_us();
        json!({
            "name": row.entrant.name,
            "version": row.entrant.version(),
            "workload": row.workload,
            "settings": row.entrant.settings,
            "barriers_ahead": row.entrant.barriers_ahead,
            "refused": row.out.as_ref().filter(|_| !row.has_failed()),
            "failed": row.out.as_ref().filter(|_| row.has_failed()),
            "proof": row.proof,
            "records_per_second": row.records_per_second(),
            "cpu_ns_per_record": row.cpu_ns_per_record(),
            "wait_p50_us": wait.map(|wait| wait.0),
            "wait_p99_us": wait.map(|wait| wait.1),
            "forebay_is_times": ours(rows, row.workload).and_then(|ours| row.times_slower_than(ours)),
            "laps": row.laps,
        })
    };
    json!({
        "payload_bytes": PAYLOAD_BYTES,
        "records": plan.records,
        "laps": plan.laps,
        "proven": plan.proves,
        "environment": place,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::ENTRANTS;
    use crate::lap::Outcome;

    fn place() -> Place {
        Place { kernel: "6".into(), machine: "x".into(), cores: 2, file_system: "ext4" }
    }

    fn rows() -> Vec<Row> {
        let mut rows: Vec<Row> =
            [0, 3, 10].map(|index| Row::new(&ENTRANTS[index], Workload::Grouped)).into_iter().collect();
        let lap = |wall_ns| Outcome { appends: 4_000, begun_ns: 0, wall_ns, cpu_ns: 400_000, wait_ns: None };
        rows[0].laps = vec![lap(1_000_000); 2];
        rows[1].laps = vec![lap(2_000_000); 2];
        let proof =
            Proof { barriers: 40, needed: 40, syncs: 0, counted_by: "strace".into(), calls: Vec::new() };
        rows[2].out = proof.refusal();
        rows[2].proof = Some(proof);
        rows
    }

    #[test]
    fn who_is_refused_has_a_reason_and_no_figure() {
        let plan = Plan { records: 4_000, laps: 2, proves: true };
        let rows = rows();
        let text = text(&plan, &rows, &place());
        let line = text.lines().find(|line| line.starts_with("yaque")).unwrap();
        assert!(line.contains("refused: never syncs: 40 barriers, no sync (strace)"), "{line}");
        let json = json(&plan, &rows, &place());
        assert_eq!(json["rows"][2]["records_per_second"], Value::Null);
        assert!(!rows[2].has_failed());
    }

    #[test]
    fn the_ratio_says_how_many_times_as_fast_ours_is() {
        let plan = Plan { records: 4_000, laps: 2, proves: false };
        let text = text(&plan, &rows(), &place());
        let line = text.lines().find(|line| line.starts_with("file ")).unwrap();
        assert!(line.contains("2.00 (2.00-2.00)") && line.ends_with("not proven"), "{line}");
        assert!(text.contains("NOT PROVEN"));
        let json = json(&plan, &rows(), &place());
        assert_eq!(json["rows"][1]["forebay_is_times"]["median"], 2.0);
    }
}
