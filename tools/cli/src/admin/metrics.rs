//! What is measured: installs the recorder, and says what each metric is. Only the agent does.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::exit::{Exit, Failure};

/// Bounds of the histograms, in seconds: from a fast device's write to a hang.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// How often the runtime's lateness is taken.
const SLIP_INTERVAL: Duration = Duration::from_secs(1);

/// Gauges and what they say.
const GAUGES: [(&str, Unit, &str); 19] = [
    ("queue_records", Unit::Count, "Records in memory"),
    ("queue_bytes", Unit::Bytes, "Bytes of the blocks that they take"),
    ("backfill_queue_records", Unit::Count, "Records not yet sent while a backlog drains"),
    ("backfill_queue_bytes", Unit::Bytes, "About how many bytes they are"),
    ("governor_limit_records_per_second", Unit::Count, "The most that is sent while a backlog drains"),
    ("governor_burst_records", Unit::Count, "The most that is sent at once while a backlog drains"),
    ("steady_state_records_per_second", Unit::Count, "What the input usually is"),
    (
        "watermark_sequence",
        Unit::Count,
        "How far records have come: appended, written, durable, sent, confirmed",
    ),
    ("disk_bytes", Unit::Bytes, "Bytes of all segments on disk"),
    ("disk_bytes_cap", Unit::Bytes, "Bytes that they may be"),
    ("slots", Unit::Count, "Slots on disk: used by a segment, or spare and warm (written before) or cold"),
    ("destination_state", Unit::Count, "1 for the state that the destination is in"),
    ("time_to_drain_seconds", Unit::Seconds, "Until the backlog is drained; 0 while there is none"),
    ("time_to_full_seconds", Unit::Seconds, "Until the disk is full; +Inf while the backlog does not grow"),
    (
        "oldest_record_age_seconds",
        Unit::Seconds,
        "Age of the oldest record that the destination does not have",
    ),
    ("backend_info", Unit::Count, "What writes, how it syncs, and why not otherwise"),
    ("build_info", Unit::Count, "Version and commit"),
    ("ready", Unit::Count, "1 while /readyz says so"),
    ("held_back", Unit::Count, "1 while producers are held back or refused"),
];

/// Counters and what they count.
const COUNTERS: [(&str, &str); 9] = [
    ("accepted_records_total", "Records accepted since the start"),
    ("spilled_records_total", "Records that went through the log since the start"),
    ("dropped_records_total", "Records lost since the store was made, each named by a gap"),
    ("emitted_records_total", "Records that the destination took"),
    ("gaps_total", "Losses named since the start"),
    ("slots_cold_total", "Segments begun in a slot that was not written before, since the start"),
    ("zero_written_bytes_total", "Zeros written to spare slots while idle, in bytes, since the start"),
    ("ingest_requests_total", "Requests answered"),
    ("ingest_oversize_lines_total", "Lines left out because they were too long"),
];

/// Histograms and what they measure.
const HISTOGRAMS: [(&str, &str); 3] = [
    ("sync_duration_seconds", "How long a sync of the log takes"),
    ("append_durable_seconds", "How long a producer waits until its records are durable"),
    ("loop_slip_seconds", "How late a loop comes round"),
];

/// Installs the recorder of this process.
pub(crate) fn install() -> Result<PrometheusHandle, Failure> {
    let failed = |error: metrics_exporter_prometheus::BuildError| {
        Failure::new(Exit::Io, format!("the metrics can't be set up: {error}"))
    };
    let builder = PrometheusBuilder::new().set_buckets(&SECONDS).map_err(failed)?;
    let handle = builder.install_recorder().map_err(failed)?;
    for (name, unit, text) in GAUGES {
        describe_gauge!(format!("forebay_{name}"), unit, text);
    }
    for (name, text) in COUNTERS {
        describe_counter!(format!("forebay_{name}"), text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(format!("forebay_{name}"), Unit::Seconds, text);
    }
    // They are there from the start, so that a rate over them has a beginning.
    let _ = metrics::histogram!("forebay_sync_duration_seconds");
    let _ = metrics::histogram!("forebay_append_durable_seconds");
    let _ = metrics::histogram!("forebay_loop_slip_seconds", "loop" => "backfill");
    let _ = metrics::counter!("forebay_gaps_total");
    let version = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("FOREBAY_COMMIT"))];
    metrics::gauge!("forebay_build_info", &version).set(1.0);
    Ok(handle)
}

/// Keeps the histograms small, and measures how late this runtime is. Never ends.
pub(crate) async fn keep(handle: PrometheusHandle) {
    let mut ticks = interval(SLIP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let late = Instant::now().saturating_duration_since(due);
        metrics::histogram!("forebay_loop_slip_seconds", "loop" => "agent").record(late.as_secs_f64());
        handle.run_upkeep();
    }
}
