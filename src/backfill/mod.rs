//! Backfill: the way back to the destination after an outage, decided.
//!
//! ```text
//!            offline, spilling, or behind at the start
//!   live ────────────────────────────────────────────────► backfill: at most factor × steady state
//!     ◄────────────────────────────────────────────────
//!            all that is unsent may go at once
//! ```
//!
//! [`Backfill`] puts the three policies together: whether the destination may be sent to ([`connectivity`]),
//! how fast ([`crate::governor`]), and where new records go meanwhile ([`crate::queue::spill`]). It is pure:
//! no clock, no file, no record; `now_ns` and what happened are told to it. It governs until what is left
//! fits what may go at once, so that the bound holds across the end of the backfill too.

pub mod connectivity;
pub mod read_ahead;

use crate::error::Result;
use crate::governor::{Allowance, Estimate, Governor, GovernorSettings, Limit, Verdict};
use crate::queue::spill::{Cause, Load, Spill, SpillSettings, Turn};
use crate::sink::Lane;

use connectivity::{BackoffSettings, Change, Connectivity, SendVerdict, State};

/// What happens, in the order in which it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// New records, and all that memory holds, go to the log from now on.
    Spill(Cause),
    /// New records stay in memory again.
    StopSpilling,
    /// The destination can be reached, and a backlog drains to it from now on, governed.
    StartBackfill,
    /// The destination has caught up.
    EndBackfill,
    /// How the destination stands.
    Connectivity(Change),
}

/// What happened to the input since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Input {
    /// Records accepted in all.
    pub records_total: u64,
    /// Their bytes.
    pub bytes_total: u64,
    /// Producers are held back: the steady state stands still.
    pub blocked: bool,
}

/// Whether, and how much, may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Any amount.
    Live,
    /// At most this much.
    Governed(Allowance),
    /// Nothing before this time.
    At(u64),
}

/// The three policies of one destination.
#[derive(Debug)]
pub struct Backfill {
    connectivity: Connectivity,
    governor: Governor,
    spill: Spill,
    lane: Lane,
    /// The start of a backfill was told, its end not yet.
    is_told: bool,
}

impl Backfill {
    /// Begins live, online and in memory.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when the governor can't work with its settings.
    pub fn new(
        spill: SpillSettings,
        governor: GovernorSettings,
        backoff: BackoffSettings,
        seed: u64,
        now_ns: u64,
    ) -> Result<Self> {
        Ok(Self {
            connectivity: Connectivity::new(backoff, seed),
            governor: Governor::new(governor, now_ns)?,
            spill: Spill::new(spill),
            lane: Lane::Live,
            is_told: false,
        })
    }

    /// Goes on from what an earlier process measured.
    pub fn restore(&mut self, now_ns: u64, estimate: Estimate) {
        self.governor.restore(now_ns, estimate);
    }

    /// Looks at the input and the load, about every 100 ms and whenever something turned.
    pub fn observe(&mut self, now_ns: u64, input: Input, load: Load, decisions: &mut Vec<Decision>) {
        self.governor.observe(now_ns, input.records_total, input.bytes_total, input.blocked);
        let turn = self.spill.observe(Load { online: self.connectivity.state().is_online(), ..load });
        match turn {
            Some(Turn::Start(cause)) => decisions.push(Decision::Spill(cause)),
            Some(Turn::Stop) => decisions.push(Decision::StopSpilling),
            None => {}
        }
        let fits = self.fits_at_once(now_ns, load);
        let behind = match self.spill.spilling() {
            None | Some(Cause::Always) => !self.connectivity.state().is_online(),
            Some(Cause::QueueFull | Cause::Offline) => true,
        };
        if self.lane == Lane::Live && behind && load.unsent_records > 0 {
            self.lane = Lane::Backfill;
        }
        self.tell_start(decisions);
        if self.is_told && !behind && fits {
            (self.lane, self.is_told) = (Lane::Live, false);
            decisions.push(Decision::EndBackfill);
        }
    }

    /// While nobody can be reached nothing drains, though probes are governed: the forecast is made when it begins.
    fn tell_start(&mut self, decisions: &mut Vec<Decision>) {
        if self.lane == Lane::Backfill && self.connectivity.state().is_online() && !self.is_told {
            self.is_told = true;
            decisions.push(Decision::StartBackfill);
        }
    }

    /// A backlog was there when the store was opened.
    pub fn begin_behind(&mut self, now_ns: u64, load: Load, decisions: &mut Vec<Decision>) {
        if !self.fits_at_once(now_ns, load) {
            self.lane = Lane::Backfill;
            self.tell_start(decisions);
        }
    }

    fn fits_at_once(&self, now_ns: u64, load: Load) -> bool {
        let may = self.governor.affordable(now_ns);
        load.unsent_records <= may.records && load.unsent_bytes <= may.bytes
    }

    /// Whether a batch of about this size may go now. A sender waits until half a burst may go, or all it has:
    /// one that waits for a whole burst loses what its timer is late.
    pub fn permission(&self, now_ns: u64, records: u64, bytes: u64) -> Permission {
        if self.lane == Lane::Live {
            return Permission::Live;
        }
        let burst = self.governor.burst();
        let (records, bytes) =
            (records.min(burst.records.div_ceil(2)).max(1), bytes.min(burst.bytes.div_ceil(2)));
        let at = self.governor.next_at(now_ns, records, bytes);
        if at > now_ns { Permission::At(at) } else { Permission::Governed(self.governor.affordable(now_ns)) }
    }

    /// Whether this batch, cut and whole, may go right now; counted if so. It is on its way until
    /// [`Backfill::answered`], [`Backfill::failed`] or [`Backfill::abandon`].
    pub fn take(&mut self, now_ns: u64, records: u64, bytes: u64) -> Verdict {
        let verdict = self.governor.take(now_ns, records, bytes);
        if verdict == Verdict::Now {
            self.governor.hold(records, bytes);
        }
        // Live traffic is counted where it can be, so that a backfill does not begin with a full burst.
        if self.lane == Lane::Live { Verdict::Now } else { verdict }
    }

    /// Asks the breaker, with a batch in hand.
    pub fn may_send(&mut self, now_ns: u64) -> SendVerdict {
        self.connectivity.may_send(now_ns)
    }

    /// The batch that the breaker was asked about did not go after all.
    pub fn abandon(&mut self, now_ns: u64) {
        self.governor.arrived(now_ns);
        let _ = self.connectivity.on_abandoned(now_ns);
    }

    /// The destination has answered: it took the batch or will never take it, and so it is there.
    pub fn answered(&mut self, now_ns: u64, decisions: &mut Vec<Decision>) {
        self.governor.arrived(now_ns);
        decisions.extend(self.connectivity.on_success(now_ns).map(Decision::Connectivity));
    }

    /// The destination did not take the batch, or nobody knows.
    pub fn failed(&mut self, now_ns: u64, retry_after_ns: Option<u64>, decisions: &mut Vec<Decision>) {
        self.governor.arrived(now_ns);
        decisions.extend(self.connectivity.on_failure(now_ns, retry_after_ns).map(Decision::Connectivity));
    }

    /// Which traffic a batch belongs to now.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// How the destination stands.
    pub fn state(&self) -> State {
        self.connectivity.state()
    }

    /// Why new records go to the log, if they do.
    pub fn spilling(&self) -> Option<Cause> {
        self.spill.spilling()
    }

    /// How fast a backlog may drain now.
    pub fn limit(&self) -> Limit {
        self.governor.limit()
    }

    /// How much of a backlog may go at once at best.
    pub fn burst(&self) -> Allowance {
        self.governor.burst()
    }

    /// What the source usually gives.
    pub fn steady_state(&self) -> Option<Estimate> {
        self.governor.steady_state()
    }

    /// Seconds until a backlog is drained at the limit while the input goes on as usual; `None` when it grows.
    pub fn drain_seconds(&self, unsent_records: u64) -> Option<f64> {
        let input = self.governor.steady_state().map_or(0, |estimate| estimate.records_per_second);
        let surplus =
            self.governor.limit().records_per_second.checked_sub(input).filter(|surplus| *surplus > 0)?;
        Some(unsent_records as f64 / surplus as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const RATE: u64 = 20_000;

    /// A policy, and what happens to it every 100 ms.
    struct Story {
        backfill: Backfill,
        now_ns: u64,
        unsent_records: u64,
        told: Vec<Decision>,
    }

    impl Story {
        fn new() -> Self {
            let backoff = BackoffSettings { min_ns: MS, max_ns: MS };
            let (spill, governor) = (SpillSettings::default(), GovernorSettings::default());
            let backfill = Backfill::new(spill, governor, backoff, 1, 0).unwrap();
            Self { backfill, now_ns: 0, unsent_records: 0, told: Vec::new() }
        }

        /// Lets 100 ms pass, with input; gives what was decided on starts and ends.
        fn tick(&mut self) -> Vec<Decision> {
            self.now_ns += 100 * MS;
            let records_total = RATE * self.now_ns / (1_000 * MS);
            let input = Input { records_total, bytes_total: 100 * records_total, blocked: false };
            let load = Load {
                memory_records: self.unsent_records.min(1_000),
                memory_bytes: 0,
                unsent_records: self.unsent_records,
                unsent_bytes: 100 * self.unsent_records,
                online: true,
            };
            self.backfill.observe(self.now_ns, input, load, &mut self.told);
            self.told
                .drain(..)
                .filter(|told| matches!(told, Decision::StartBackfill | Decision::EndBackfill))
                .collect()
        }

        fn fails(&mut self) {
            assert!(!matches!(self.backfill.may_send(self.now_ns), SendVerdict::At(_)));
            self.backfill.failed(self.now_ns, None, &mut self.told);
        }

        fn is_answered(&mut self) {
            assert!(!matches!(self.backfill.may_send(self.now_ns), SendVerdict::At(_)));
            self.backfill.answered(self.now_ns, &mut self.told);
        }

        fn outage(&mut self) {
            (0..20).for_each(|_| assert_eq!(self.tick(), []));
            for _ in 0..40 {
                self.fails();
                self.unsent_records += RATE / 10;
                assert_eq!(self.tick(), [], "nothing drains while nobody is there");
            }
            assert_eq!(self.backfill.lane(), Lane::Backfill, "a probe is governed too");
        }
    }

    #[test]
    fn a_backfill_starts_when_the_destination_is_back_and_its_forecast_is_of_the_whole_backlog() {
        let mut story = Story::new();
        story.outage();
        story.is_answered();
        assert_eq!(story.tick(), [Decision::StartBackfill]);
        let forecast = story.backfill.drain_seconds(story.unsent_records).unwrap();
        assert!((7.9..8.1).contains(&forecast), "80,000 at 10,000 a second: {forecast}");
        story.unsent_records = 0;
        assert_eq!(story.tick(), [Decision::EndBackfill]);
        assert_eq!((story.tick(), story.backfill.lane()), (Vec::new(), Lane::Live));
    }

    #[test]
    fn a_connection_lost_on_the_way_is_the_same_backfill() {
        let mut story = Story::new();
        story.outage();
        story.is_answered();
        assert_eq!(story.tick(), [Decision::StartBackfill]);
        for _ in 0..5 {
            story.fails();
            assert_eq!(story.tick(), []);
        }
        story.unsent_records = 0;
        assert_eq!(story.tick(), [], "nobody is there to have caught up");
        story.is_answered();
        assert_eq!(story.tick(), [Decision::EndBackfill]);
    }

    #[test]
    fn a_backlog_that_fits_at_once_starts_and_ends() {
        let mut story = Story::new();
        story.outage();
        story.unsent_records = 10;
        story.is_answered();
        assert_eq!(story.tick(), [Decision::StartBackfill, Decision::EndBackfill]);
    }
}
