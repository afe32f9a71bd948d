//! What the reactor tells the world: events, the status, metrics. It changes nothing that decides.
//!
//! Whoever asks for the status or the events takes a lock that only this journal takes, ten times a second: no
//! append and no read ever waits for a scrape.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use metrics::{counter, gauge, histogram};

use crate::backfill::connectivity::State;
use crate::backfill::{Backfill, Decision};
use crate::clock::Clock;
use crate::event::{Event, Occurrence};
use crate::gaps::{Gap, Reason};
use crate::pipeline::load::Status;
use crate::queue::spill::Load;
use crate::sink::{Batch, Lane};
use crate::store::lock;

/// Events remembered; older ones make room.
const EVENTS_MAX: usize = 256;

/// What the reactor last said.
#[derive(Debug, Default)]
pub(super) struct Board {
    status: Mutex<Status>,
    events: Mutex<VecDeque<Occurrence>>,
}

impl Board {
    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(super) fn events(&self) -> Vec<Occurrence> {
        lock(&self.events).iter().cloned().collect()
    }

    /// The reactor has ended: nothing is delivered any more.
    pub(super) fn ended(&self, clock: &Clock, error: &crate::Error) {
        lock(&self.status).failure = error.to_string();
        self.tell(clock, Event::WritingEnded { reason: error.to_string() });
    }

    /// Remembers an event, and writes it to the log with its fields.
    pub(super) fn tell(&self, clock: &Clock, event: Event) {
        let occurrence = Occurrence { timestamp: clock.wall_ns(), event };
        log(&occurrence.event);
        let mut events = lock(&self.events);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(occurrence);
    }
}

/// One line, its fields as they are typed.
fn log(event: &Event) {
    match event {
        Event::Recovery { next_sequence, report } => {
            tracing::info!(
                event = "Recovery",
                next_sequence,
                report = report.join("; "),
                "the store is open"
            );
        }
        Event::QueueSpill { cause, memory_records } => {
            tracing::info!(event = "QueueSpill", cause, memory_records, "records go to disk");
        }
        Event::QueueResume { unsent_records } => {
            tracing::info!(event = "QueueResume", unsent_records, "records stay in memory again");
        }
        Event::BackfillStart { unsent_records, limit_records_per_second, drain_seconds } => tracing::info!(
            event = "BackfillStart",
            unsent_records,
            limit_records_per_second,
            drain_seconds,
            "a backlog drains"
        ),
        Event::BackfillEnd { records, seconds } => {
            tracing::info!(event = "BackfillEnd", records, seconds, "the destination has caught up");
        }
        Event::Gap { reason, first_sequence, last_sequence, count, keys } => tracing::warn!(
            event = "Gap",
            reason = reason.name(),
            first_sequence,
            last_sequence,
            count,
            keys,
            "records are lost, and named"
        ),
        Event::Connectivity { destination, from, to, reason } => {
            tracing::info!(event = "Connectivity", destination, from, to, reason, "the destination");
        }
        Event::DiskPressure { full, disk_bytes, disk_bytes_cap } => {
            tracing::warn!(event = "DiskPressure", full, disk_bytes, disk_bytes_cap, "room on disk");
        }
        Event::WritingEnded { reason } => {
            tracing::error!(event = "WritingEnded", reason, "nothing more becomes durable, or is sent");
        }
    }
}

/// The reactor's pen.
pub(super) struct Journal {
    board: Arc<Board>,
    clock: Arc<Clock>,
    destination: String,
    reason: String,
    backfill_since_ns: u64,
    backfill_records: u64,
}

impl Journal {
    pub(super) fn new(board: Arc<Board>, clock: Arc<Clock>, destination: String) -> Self {
        Self { board, clock, destination, reason: String::new(), backfill_since_ns: 0, backfill_records: 0 }
    }

    /// What the destination, or the network, said last.
    pub(super) fn failure(&mut self, reason: &str) {
        self.reason = reason.to_owned();
    }

    /// The destination has a batch.
    pub(super) fn delivered(&mut self, batch: &Batch) {
        let records = batch.record_count() as u64;
        if batch.lane() == Lane::Backfill {
            self.backfill_records += records;
        }
        let lane = batch.lane().name();
        counter!("forebay_emitted_records_total", "destination" => self.destination.clone(), "lane" => lane)
            .increment(records);
    }

    /// Records are lost.
    pub(super) fn gap(&self, gap: &Gap) {
        self.board.tell(
            &self.clock,
            Event::Gap {
                reason: gap.reason,
                first_sequence: gap.first_sequence,
                last_sequence: gap.last_sequence,
                count: gap.count,
                keys: gap.keys.len(),
            },
        );
    }

    pub(super) fn gaps_found(&self, found: &mut Vec<Gap>) {
        found.drain(..).for_each(|gap| self.gap(&gap));
    }

    /// How late the loop came round: it was to wake at `due_ns`, and nothing woke it before.
    pub(super) fn slip(&self, now_ns: u64, due_ns: u64) {
        if now_ns >= due_ns {
            let late = (now_ns - due_ns) as f64 / 1e9;
            histogram!("forebay_loop_slip_seconds", "loop" => "backfill").record(late);
        }
    }

    /// Something was decided.
    pub(super) fn decided(&mut self, decision: Decision, load: Load, backfill: &Backfill) {
        let now = self.clock.now_ns();
        let event = match decision {
            Decision::Spill(cause) => {
                Event::QueueSpill { cause: cause.name(), memory_records: load.memory_records }
            }
            Decision::StopSpilling => Event::QueueResume { unsent_records: load.unsent_records },
            Decision::StartBackfill => {
                (self.backfill_since_ns, self.backfill_records) = (now, 0);
                Event::BackfillStart {
                    unsent_records: load.unsent_records,
                    limit_records_per_second: backfill.limit().records_per_second,
                    drain_seconds: backfill.drain_seconds(load.unsent_records),
                }
            }
            Decision::EndBackfill => Event::BackfillEnd {
                records: self.backfill_records,
                seconds: now.saturating_sub(self.backfill_since_ns) as f64 / 1e9,
            },
            Decision::Connectivity(change) => Event::Connectivity {
                destination: self.destination.clone(),
                from: change.from.name(),
                to: change.to.name(),
                reason: if change.to == State::Online { String::new() } else { self.reason.clone() },
            },
        };
        self.board.tell(&self.clock, event);
    }

    /// Losses by reason, of this destination, since the store was made.
    pub(super) fn losses(&self, dropped: impl Fn(Reason) -> u64) {
        for reason in Reason::ALL {
            counter!("forebay_dropped_records_total", "reason" => reason.name()).absolute(dropped(reason));
        }
    }

    /// Refreshes the status and the gauges.
    pub(super) fn publish(&self, status: Status) {
        gauge!("forebay_queue_records").set(status.queue_records as f64);
        gauge!("forebay_queue_bytes").set(status.queue_bytes as f64);
        counter!("forebay_accepted_records_total").absolute(status.accepted_records);
        counter!("forebay_spilled_records_total").absolute(status.spilled_records);
        let backlog = if status.lane == Lane::Backfill.name() {
            (status.unsent_records, status.unsent_bytes)
        } else {
            (0, 0)
        };
        gauge!("forebay_backfill_queue_records").set(backlog.0 as f64);
        gauge!("forebay_backfill_queue_bytes").set(backlog.1 as f64);
        gauge!("forebay_governor_limit_records_per_second")
            .set(status.governor_limit_records_per_second as f64);
        gauge!("forebay_governor_burst_records").set(status.governor_burst_records as f64);
        gauge!("forebay_steady_state_records_per_second").set(status.steady_state_records_per_second as f64);
        let marks = [
            ("appended", status.appended_sequence),
            ("written", status.written_sequence),
            ("durable", status.durable_sequence),
            ("sent", status.sent_sequence),
            ("confirmed", status.confirmed_sequence),
        ];
        for (mark, sequence) in marks {
            gauge!("forebay_watermark_sequence", "mark" => mark).set(sequence as f64);
        }
        gauge!("forebay_disk_bytes").set(status.disk_bytes as f64);
        gauge!("forebay_disk_bytes_cap").set(status.disk_bytes_cap as f64);
        let slots = [("used", status.used_slots), ("warm", status.warm_slots), ("cold", status.cold_slots)];
        for (state, count) in slots {
            gauge!("forebay_slots", "state" => state).set(count as f64);
        }
        counter!("forebay_slots_cold_total").absolute(status.cold_segments);
        counter!("forebay_zero_written_bytes_total").absolute(status.zero_written_bytes);
        for state in State::ALL {
            let is = f64::from(u8::from(state.name() == status.destination_state));
            gauge!("forebay_destination_state", "name" => self.destination.clone(), "state" => state.name())
                .set(is);
        }
        gauge!("forebay_time_to_drain_seconds").set(status.time_to_drain_seconds.unwrap_or(0.0));
        gauge!("forebay_time_to_full_seconds").set(status.time_to_full_seconds.unwrap_or(f64::INFINITY));
        *lock(&self.board.status) = status;
    }

    /// How old the oldest record is that the destination does not have.
    pub(super) fn oldest(&self, timestamp: Option<u64>) {
        let age = timestamp.map_or(0, |timestamp| self.clock.wall_ns().saturating_sub(timestamp));
        gauge!("forebay_oldest_record_age_seconds").set(age as f64 / 1e9);
    }
}
