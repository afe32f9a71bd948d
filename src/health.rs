//! Is it well: what `/readyz` says, decided from a [`Status`] alone. Pure.
//!
//! Ready means that what a producer hands in now is kept. A destination that is away is not unready: waiting for
//! it is what a forebay is for.

use serde::Serialize;

use crate::pipeline::Status;

/// One question, and its answer.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `durability`, `disk`, `room` or `full`.
    pub name: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// What is not, and what to do; empty when all is well.
    pub reason: String,
}

/// Slots that must be left while a backlog grows.
const SLOTS_LEFT_MIN: u64 = 2;

/// Every check; ready is when all are ok.
pub fn readiness(status: &Status) -> Vec<Check> {
    vec![durability(status), disk(status), room(status), full(status)]
}

fn check(name: &'static str, bad: bool, reason: impl FnOnce() -> String) -> Check {
    Check { name, ok: !bad, reason: if bad { reason() } else { String::new() } }
}

fn durability(status: &Status) -> Check {
    check("durability", !status.failure.is_empty(), || status.failure.clone())
}

fn disk(status: &Status) -> Check {
    let (bytes, cap) = (status.disk_bytes, status.disk_bytes_cap);
    check("disk", bytes > cap, || format!("{bytes} bytes on disk are above disk_bytes_cap ({cap})"))
}

fn room(status: &Status) -> Check {
    let left = status.room_bytes;
    let short = status.growing && left < SLOTS_LEFT_MIN * status.segment_bytes;
    check("room", short, || {
        format!(
            "the backlog grows and {left} bytes are left: bring the destination back, or raise disk_bytes_cap"
        )
    })
}

fn full(status: &Status) -> Check {
    check("full", status.held_back || status.dropping, || {
        let what = if status.dropping { "records are dropped, and named" } else { "producers are held back" };
        format!("there is no room: {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: u64 = 1 << 20;

    fn healthy() -> Status {
        Status {
            disk_bytes: 4 * SLOT,
            disk_bytes_cap: 16 * SLOT,
            segment_bytes: SLOT,
            room_bytes: 12 * SLOT,
            destination_state: "online",
            ..Status::default()
        }
    }

    fn unready(status: &Status) -> Vec<&'static str> {
        let checks = readiness(status);
        assert!(checks.iter().all(|check| check.ok == check.reason.is_empty()), "a reason where one is due");
        checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn a_destination_that_is_away_is_ready_while_there_is_room() {
        let away = Status { destination_state: "offline", spilling: "offline", growing: true, ..healthy() };
        assert_eq!(unready(&healthy()), [""; 0]);
        assert_eq!(unready(&away), [""; 0]);
    }

    #[test]
    fn under_two_slots_is_unready_only_while_the_backlog_grows() {
        let short = Status { room_bytes: 2 * SLOT - 1, growing: true, ..healthy() };
        assert_eq!(unready(&short), ["room"]);
        assert_eq!(unready(&Status { room_bytes: 2 * SLOT, ..short.clone() }), [""; 0]);
        assert_eq!(unready(&Status { growing: false, ..short }), [""; 0]);
    }

    #[test]
    fn no_room_no_durability_and_too_much_on_disk_are_unready() {
        assert_eq!(unready(&Status { held_back: true, ..healthy() }), ["full"]);
        assert_eq!(unready(&Status { dropping: true, ..healthy() }), ["full"]);
        assert_eq!(unready(&Status { failure: "the device is gone".into(), ..healthy() }), ["durability"]);
        assert_eq!(unready(&Status { disk_bytes: 16 * SLOT, ..healthy() }), [""; 0]);
        assert_eq!(unready(&Status { disk_bytes: 16 * SLOT + 1, ..healthy() }), ["disk"]);
    }
}
