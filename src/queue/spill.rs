//! When records go to disk, and when they stop.
//!
//! ```text
//!            memory >= spill_threshold, offline, or always
//!   memory ───────────────────────────────────────────────► spilling
//!      ◄───────────────────────────────────────────────────
//!            online and unsent <= resume_threshold, in records and in bytes
//! ```
//!
//! It promises no flapping: between a stop and the next start for fullness the load has risen from the low
//! to the high watermark, and between a start and its stop it has fallen, or never was above it.
//!
//! It owns the decision alone. It does not know where records are, and writes none.

/// Shares are counted in millionths, so that watermarks do not depend on how floats round.
const MILLIONTHS: u128 = 1_000_000;

/// What the policy is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpillSettings {
    /// Everything goes to disk first, whatever the load.
    pub always: bool,
    /// The high watermark as a share of the capacity; above `resume_threshold`, at most 1.
    pub spill_threshold: f64,
    /// The low watermark as a share of the capacity; 0 or more.
    pub resume_threshold: f64,
    /// The capacity of the memory queue in records; at least 1.
    pub records_max: u64,
    /// The capacity of the memory queue in bytes; at least 1.
    pub bytes_max: u64,
}

impl Default for SpillSettings {
    fn default() -> Self {
        Self {
            always: false,
            spill_threshold: 0.8,
            resume_threshold: 0.5,
            records_max: 262_144,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What the policy is told each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Records that memory holds.
    pub memory_records: u64,
    /// Their bytes.
    pub memory_bytes: u64,
    /// Records that the destination has not been sent, in memory and on disk together.
    pub unsent_records: u64,
    /// Their bytes.
    pub unsent_bytes: u64,
    /// Whether the destination can be reached (suspect counts as online).
    pub online: bool,
}

/// Why spilling starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The memory queue has passed its high watermark.
    QueueFull,
    /// The destination cannot be reached.
    Offline,
    /// The operator says so.
    Always,
}

impl Cause {
    /// As it stands in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Offline => "offline",
            Self::Always => "always",
        }
    }
}

/// The decision has changed.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// From the oldest unconfirmed record in memory on, everything goes through the log.
    Start(Cause),
    /// The log has drained far enough: memory alone from here on.
    Stop,
}

/// A watermark in both units.
#[derive(Debug, Clone, Copy)]
struct Mark {
    records: u64,
    bytes: u64,
}

/// The spill policy.
#[derive(Debug, Clone)]
pub struct Spill {
    always: bool,
    high: Mark,
    low: Mark,
    spilling: Option<Cause>,
}

impl Spill {
    /// A policy that is not spilling yet, even where it always does: the first observation turns it.
    ///
    /// # Panics
    ///
    /// When the thresholds are not `0 <= resume < spill <= 1`, or a capacity is 0: the configuration has
    /// refused that before.
    pub fn new(settings: SpillSettings) -> Self {
        let (low, high) = (settings.resume_threshold, settings.spill_threshold);
        assert!(0.0 <= low && low < high && high <= 1.0, "0 <= resume {low} < spill {high} <= 1");
        assert!(settings.records_max > 0 && settings.bytes_max > 0, "the queue holds something");
        let mark = |share| Mark {
            records: share_of(settings.records_max, share),
            bytes: share_of(settings.bytes_max, share),
        };
        let (low, high) = (mark(low), mark(high));
        // A tiny queue may round both marks to one number; the high one is then the next above.
        let high = Mark { records: high.records.max(low.records + 1), bytes: high.bytes.max(low.bytes + 1) };
        Self { always: settings.always, high, low, spilling: None }
    }

    /// Looks at the load, and says if the decision has changed.
    pub fn observe(&mut self, load: Load) -> Option<Turn> {
        match self.spilling {
            None => {
                let cause = self.cause_to_start(load)?;
                self.spilling = Some(cause);
                Some(Turn::Start(cause))
            }
            Some(_) if self.may_stop(load) => {
                self.spilling = None;
                Some(Turn::Stop)
            }
            Some(_) => None,
        }
    }

    /// Why records are going to disk; `None` when they are not.
    pub fn spilling(&self) -> Option<Cause> {
        self.spilling
    }

    fn cause_to_start(&self, load: Load) -> Option<Cause> {
        if self.always {
            Some(Cause::Always)
        } else if !load.online {
            Some(Cause::Offline)
        } else if load.memory_records >= self.high.records || load.memory_bytes >= self.high.bytes {
            Some(Cause::QueueFull)
        } else {
            None
        }
    }

    /// Memory counts too, though what is unsent should cover it: what is sent and not yet confirmed still
    /// fills it, and stopping then would start again at once.
    fn may_stop(&self, load: Load) -> bool {
        let records = load.unsent_records.max(load.memory_records);
        let bytes = load.unsent_bytes.max(load.memory_bytes);
        !self.always && load.online && records <= self.low.records && bytes <= self.low.bytes
    }
}

fn share_of(capacity: u64, share: f64) -> u64 {
    let millionths = (share * MILLIONTHS as f64).round() as u128;
    u64::try_from(u128::from(capacity) * millionths / MILLIONTHS).expect("a share is at most the whole")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spill() -> Spill {
        Spill::new(SpillSettings { records_max: 100, bytes_max: 1_000, ..SpillSettings::default() })
    }

    fn calm() -> Load {
        Load { memory_records: 0, memory_bytes: 0, unsent_records: 0, unsent_bytes: 0, online: true }
    }

    #[test]
    fn starts_at_the_high_watermark_in_either_unit() {
        assert_eq!(spill().observe(Load { memory_records: 79, memory_bytes: 799, ..calm() }), None);
        let full = Some(Turn::Start(Cause::QueueFull));
        assert_eq!(spill().observe(Load { memory_records: 80, ..calm() }), full);
        assert_eq!(spill().observe(Load { memory_bytes: 800, ..calm() }), full);
    }

    #[test]
    fn starts_when_offline_and_stays_while_offline() {
        let mut spill = spill();
        let offline = Load { online: false, ..calm() };
        assert_eq!(spill.observe(offline), Some(Turn::Start(Cause::Offline)));
        assert_eq!(spill.observe(offline), None);
        assert_eq!(spill.spilling(), Some(Cause::Offline));
        assert_eq!(spill.observe(calm()), Some(Turn::Stop));
        assert_eq!(spill.spilling(), None);
    }

    #[test]
    fn stops_at_the_low_watermark_in_both_units() {
        let mut spill = spill();
        assert!(spill.observe(Load { memory_records: 80, ..calm() }).is_some());
        for (unsent_records, unsent_bytes) in [(51, 0), (0, 501), (51, 501)] {
            assert_eq!(spill.observe(Load { unsent_records, unsent_bytes, ..calm() }), None);
        }
        let low = Load { unsent_records: 50, unsent_bytes: 500, ..calm() };
        assert_eq!(spill.observe(low), Some(Turn::Stop));
    }

    #[test]
    fn always_never_stops() {
        let mut spill = Spill::new(SpillSettings { always: true, ..SpillSettings::default() });
        assert_eq!(spill.observe(calm()), Some(Turn::Start(Cause::Always)));
        assert_eq!(spill.observe(calm()), None);
    }

    #[test]
    fn a_queue_of_one_record_still_has_two_watermarks() {
        let mut spill =
            Spill::new(SpillSettings { records_max: 1, bytes_max: 1, ..SpillSettings::default() });
        assert_eq!(spill.observe(calm()), None);
        let full = Load { memory_records: 1, unsent_records: 1, ..calm() };
        assert_eq!(spill.observe(full), Some(Turn::Start(Cause::QueueFull)));
        assert_eq!(spill.observe(full), None);
        assert_eq!(spill.observe(calm()), Some(Turn::Stop));
    }

    fn loads() -> impl Strategy<Value = Vec<Load>> {
        let load = (0..=100_u64, 0..=1_000_u64, 0..200_u64, 0..2_000_u64, proptest::bool::weighted(0.8));
        let load = load.prop_map(|(memory_records, memory_bytes, more_records, more_bytes, online)| Load {
            memory_records,
            memory_bytes,
            // Some loads break the rule that memory is a part of what is unsent.
            unsent_records: (memory_records + more_records).saturating_sub(100),
            unsent_bytes: (memory_bytes + more_bytes).saturating_sub(1_000),
            online,
        });
        proptest::collection::vec(load, 1..200)
    }

    proptest! {
        #[test]
        fn turns_alternate_and_each_has_crossed_its_own_watermark(loads in loads()) {
            let mut spill = spill();
            let mut spilling = false;
            for load in loads {
                let high = load.memory_records >= 80 || load.memory_bytes >= 800;
                let low = load.memory_records.max(load.unsent_records) <= 50
                    && load.memory_bytes.max(load.unsent_bytes) <= 500;
                let turn = spill.observe(load);
                match turn {
                    Some(Turn::Start(cause)) => {
                        prop_assert!(!spilling);
                        prop_assert_eq!(cause, if load.online { Cause::QueueFull } else { Cause::Offline });
                        prop_assert!(high || !load.online);
                    }
                    Some(Turn::Stop) => prop_assert!(spilling && low && load.online),
                    None if spilling => prop_assert!(!low || !load.online),
                    None => prop_assert!(!high && load.online),
                }
                spilling ^= turn.is_some();
                prop_assert_eq!(spill.spilling().is_some(), spilling);
                // The same load again changes nothing: no load is both a reason to start and to stop.
                prop_assert_eq!(spill.observe(load), None);
            }
        }
    }
}
