//! Everything that decides, put together in virtual time: a steady producer, an outage, a spill, a
//! reconnect, a governed drain. No clock, no file and no socket; the log is a vector, a read takes a few
//! milliseconds and comes back out of order, and the central is a yes or a no.
//!
//! What is shown: nothing is lost, doubled or out of order, the ledger closes at every step, no window of
//! the governed emission exceeds the limit in force plus the burst, and the backlog drains in about the
//! time that input and limit allow.

use std::collections::VecDeque;

use forebay::backfill::connectivity::{BackoffSettings, Connectivity, SendVerdict, State};
use forebay::backfill::read_ahead::{ALIGNMENT, Chunk, Completed, Front, ReadAhead};
use forebay::governor::{Governor, GovernorSettings, Verdict};
use forebay::ledger::Ledger;
use forebay::queue::spill::{Cause, Load, Spill, SpillSettings, Turn};

const SECOND: u64 = 1_000_000_000;
const STEP_NS: u64 = 5_000_000;
const BLOCKS_PER_SEGMENT: u64 = 1_000;
const BATCH_RECORDS: u64 = 5_000;

#[derive(Debug, Clone, Copy)]
struct Scenario {
    records_per_second: u64,
    record_bytes: u64,
    /// The central is away from, and back at.
    outage_ns: (u64, u64),
    factor: f64,
    seed: u64,
}

impl Scenario {
    fn is_away(&self, now_ns: u64) -> bool {
        self.outage_ns.0 <= now_ns && now_ns < self.outage_ns.1
    }
}

/// One governed send: `[records, bytes]` in billionths; what the limit had given since the start.
struct Emission {
    cost: [u128; 2],
    earned: [u128; 2],
    burst: [u128; 2],
}

/// The log and its reader: one record a block, so that places can be computed.
struct Log {
    sequences: Vec<u64>,
    /// Blocks that the reader was told of.
    published: u64,
    window: ReadAhead<Vec<u64>>,
    in_flight: Vec<(u64, Chunk)>,
    /// Read, in order, and not yet sent.
    ready: VecDeque<u64>,
    sent: u64,
    reads: u64,
}

impl Log {
    fn new() -> Self {
        let mut window = ReadAhead::new(4, 256 * ALIGNMENT as usize);
        window.seek(0, 0, 0);
        Self {
            sequences: Vec::new(),
            published: 0,
            window,
            in_flight: Vec::new(),
            ready: VecDeque::new(),
            sent: 0,
            reads: 0,
        }
    }

    fn unsent(&self) -> u64 {
        self.sequences.len() as u64 - self.sent
    }

    fn publish(&mut self) {
        let written = self.sequences.len() as u64;
        while self.published < written && self.window.wants_more() {
            let segment = self.published / BLOCKS_PER_SEGMENT;
            let end = written.min((segment + 1) * BLOCKS_PER_SEGMENT);
            let end_bytes = (end - segment * BLOCKS_PER_SEGMENT) * ALIGNMENT;
            if self.published.is_multiple_of(BLOCKS_PER_SEGMENT) && segment > 0 {
                self.window.extend(segment, 0, end_bytes);
            } else {
                self.window.grow(end_bytes);
            }
            self.published = end;
        }
    }

    /// Reads come back after one to three steps, the latest first, and some of them short.
    fn read(&mut self, step: u64) {
        self.publish();
        let (due, later): (Vec<_>, Vec<_>) = self.in_flight.drain(..).partition(|(at, _)| *at <= step);
        self.in_flight = later;
        for (_, chunk) in due.into_iter().rev() {
            self.reads += 1;
            let len = if self.reads.is_multiple_of(7) { chunk.len.div_ceil(2).max(4096) } else { chunk.len };
            let first = (chunk.segment * BLOCKS_PER_SEGMENT + chunk.offset / ALIGNMENT) as usize;
            let sequences = self.sequences[first..first + len / ALIGNMENT as usize].to_vec();
            assert_eq!(self.window.complete(chunk.token, len, sequences), Completed::InWindow);
        }
        while (self.ready.len() as u64) < BATCH_RECORDS {
            let Some(Front::Data(chunk, sequences)) = self.window.pop() else { break };
            assert_eq!(chunk.len, sequences.len() * ALIGNMENT as usize);
            self.ready.extend(sequences);
        }
        while let Some(chunk) = self.window.next() {
            self.in_flight.push((step + 1 + chunk.token % 3, chunk));
        }
        assert!(self.window.in_flight() <= 4);
    }
}

struct World {
    scenario: Scenario,
    now_ns: u64,
    spill: Spill,
    connectivity: Connectivity,
    governor: Governor,
    memory: VecDeque<u64>,
    log: Log,
    accepted: u64,
    delivered: u64,
    /// From the first spill until the backlog is no more than a burst.
    governed: bool,
    earned: [u128; 2],
    emissions: Vec<Emission>,
    turns: Vec<(u64, Turn)>,
    states: Vec<State>,
    backlog_records_max: u64,
    drained_ns: Option<u64>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let settings = GovernorSettings { factor: scenario.factor, ..GovernorSettings::default() };
        let records_max = (scenario.records_per_second * 5).max(100);
        let bytes_max = records_max * scenario.record_bytes * 2;
        Self {
            now_ns: 0,
            spill: Spill::new(SpillSettings { records_max, bytes_max, ..SpillSettings::default() }),
            connectivity: Connectivity::new(BackoffSettings::default(), scenario.seed),
            governor: Governor::new(settings, 0).expect("right settings"),
            memory: VecDeque::new(),
            log: Log::new(),
            accepted: 0,
            delivered: 0,
            governed: false,
            earned: [0; 2],
            emissions: Vec::new(),
            turns: Vec::new(),
            states: vec![State::Online],
            backlog_records_max: 0,
            drained_ns: None,
            scenario,
        }
    }

    fn step(&mut self, step: u64) {
        let limit = self.governor.limit();
        self.earned[0] += u128::from(limit.records_per_second) * u128::from(STEP_NS);
        self.earned[1] += u128::from(limit.bytes_per_second) * u128::from(STEP_NS);
        self.now_ns += STEP_NS;
        self.produce();
        self.decide();
        self.log.read(step);
        self.send();
        self.assert_ledger();
    }

    fn unsent(&self) -> u64 {
        self.log.unsent() + self.memory.len() as u64
    }

    fn produce(&mut self) {
        let due = u128::from(self.scenario.records_per_second) * u128::from(self.now_ns) / 1_000_000_000;
        while u128::from(self.accepted) < due {
            self.accepted += 1;
            match self.spill.spilling() {
                None => self.memory.push_back(self.accepted),
                Some(_) => self.log.sequences.push(self.accepted),
            }
        }
        self.governor.observe(self.now_ns, self.accepted, self.accepted * self.scenario.record_bytes, false);
    }

    fn decide(&mut self) {
        let (memory_records, unsent_records) = (self.memory.len() as u64, self.unsent());
        let turn = self.spill.observe(Load {
            memory_records,
            memory_bytes: memory_records * self.scenario.record_bytes,
            unsent_records,
            unsent_bytes: unsent_records * self.scenario.record_bytes,
            online: self.connectivity.state().is_online(),
        });
        if let Some(turn) = turn {
            self.turns.push((self.now_ns, turn));
            if matches!(turn, Turn::Start(_)) {
                self.governed = true;
                self.log.sequences.extend(self.memory.drain(..));
            }
        }
        self.backlog_records_max = self.backlog_records_max.max(unsent_records);
        let caught_up = self.log.unsent() == 0 && unsent_records <= self.governor.burst().records;
        if self.governed && self.spill.spilling().is_none() && caught_up {
            self.governed = false;
            self.drained_ns = Some(self.now_ns);
        }
    }

    /// How many records the next batch has; 0 to wait.
    fn batch_records(&self) -> u64 {
        let ready = if self.log.unsent() > 0 { self.log.ready.len() } else { self.memory.len() };
        let batch = (ready as u64).min(BATCH_RECORDS);
        if !self.governed {
            return batch;
        }
        let (burst, now) = (self.governor.burst(), self.governor.affordable(self.now_ns));
        let fits = |records: u64, bytes: u64| records.min(bytes / self.scenario.record_bytes);
        let worthwhile = batch.min((fits(burst.records, burst.bytes) / 2).max(1));
        let affordable = batch.min(fits(now.records, now.bytes));
        if affordable >= worthwhile { affordable } else { 0 }
    }

    fn send(&mut self) {
        let records = self.batch_records();
        if records == 0 || matches!(self.connectivity.may_send(self.now_ns), SendVerdict::At(_)) {
            return;
        }
        self.remember_state();
        if self.governed {
            self.take(records);
        }
        if self.scenario.is_away(self.now_ns) {
            let _ = self.connectivity.on_failure(self.now_ns, None);
        } else {
            let _ = self.connectivity.on_success(self.now_ns);
            self.confirm(records);
        }
        self.remember_state();
    }

    fn take(&mut self, records: u64) {
        let bytes = records * self.scenario.record_bytes;
        assert_eq!(self.governor.take(self.now_ns, records, bytes), Verdict::Now, "it was affordable");
        let burst = self.governor.burst();
        let billionths = |units| u128::from(units) * 1_000_000_000;
        self.emissions.push(Emission {
            cost: [records, bytes].map(billionths),
            earned: self.earned,
            burst: [burst.records, burst.bytes].map(billionths),
        });
    }

    fn confirm(&mut self, records: u64) {
        let from_log = self.log.unsent() > 0;
        for _ in 0..records {
            let queue = if from_log { &mut self.log.ready } else { &mut self.memory };
            assert_eq!(queue.pop_front(), Some(self.delivered + 1), "in order, none lost, none twice");
            self.delivered += 1;
        }
        self.log.sent += if from_log { records } else { 0 };
    }

    fn remember_state(&mut self) {
        if self.states.last() != Some(&self.connectivity.state()) {
            self.states.push(self.connectivity.state());
        }
    }

    fn assert_ledger(&self) {
        let ledger = Ledger {
            accepted: self.accepted,
            delivered: self.delivered,
            pending: self.unsent(),
            ..Ledger::new("default")
        };
        assert!(ledger.closes(), "{ledger}");
    }

    /// Every window that begins and ends with a governed send, each summed on its own.
    fn assert_promise(&self) {
        assert!(self.emissions.len() > 10, "there was something to govern");
        for unit in [0, 1] {
            for (index, begin) in self.emissions.iter().enumerate() {
                let mut sum = 0;
                for end in &self.emissions[index..] {
                    sum += end.cost[unit];
                    assert!(sum <= end.earned[unit] - begin.earned[unit] + end.burst[unit]);
                }
            }
        }
    }
}

fn play(scenario: Scenario, seconds: u64) -> World {
    let mut world = World::new(scenario);
    for step in 0..seconds * SECOND / STEP_NS {
        world.step(step);
    }
    world
}

fn assert_the_story(world: &World, drain_ns_max: u64) {
    let scenario = world.scenario;
    world.assert_promise();
    let [(started_ns, Turn::Start(Cause::Offline)), (stopped_ns, Turn::Stop)] = world.turns[..] else {
        panic!("one spill and one return: {:?}", world.turns);
    };
    assert!(scenario.is_away(started_ns), "{scenario:?}");
    assert!(stopped_ns >= scenario.outage_ns.1);
    use State::{Offline, Online, Probing, Suspect};
    assert_eq!(world.states[..3], [Online, Suspect, Offline]);
    assert_eq!(world.states[world.states.len() - 2..], [Probing, Online]);
    let middle = &world.states[2..world.states.len() - 1];
    assert!(middle.chunks(2).all(|pair| pair == [Offline, Probing]), "{:?}", world.states);
    let drained_ns = world.drained_ns.expect("the backlog has drained");
    assert!(drained_ns <= drain_ns_max, "drained at {drained_ns}, not by {drain_ns_max}: {scenario:?}");
    assert!(world.unsent() <= scenario.records_per_second / 100 + 1, "live again");
}

#[test]
fn an_outage_is_spilled_and_drained_within_the_limit() {
    for seed in 0..6 {
        let outage_ns = (20 * SECOND, 50 * SECOND);
        let scenario =
            Scenario { records_per_second: 2_000, record_bytes: 200, outage_ns, factor: 1.5, seed };
        let world = play(scenario, 300);
        // What was produced until the reconnect drains at half the input's rate; 10 % for the steps.
        let online_ns = reconnected_ns(&world);
        let backlog_ns = online_ns - 20 * SECOND;
        assert!(world.backlog_records_max >= 59_000, "the whole outage was kept");
        assert_the_story(&world, online_ns + 2 * backlog_ns * 11 / 10);
    }
}

#[test]
fn an_idle_source_drains_at_the_floor() {
    let outage_ns = (20 * SECOND, 50 * SECOND);
    let scenario = Scenario { records_per_second: 20, record_bytes: 100, outage_ns, factor: 1.5, seed: 3 };
    let world = play(scenario, 200);
    assert_eq!(world.governor.limit().records_per_second, 100);
    let online_ns = reconnected_ns(&world);
    // 20 a second were produced, 80 a second are gained.
    assert_the_story(&world, online_ns + (online_ns - 20 * SECOND) / 4 * 12 / 10);
}

#[test]
fn large_records_are_governed_by_their_bytes() {
    let outage_ns = (20 * SECOND, 35 * SECOND);
    let scenario = Scenario { records_per_second: 50, record_bytes: 20_000, outage_ns, factor: 2.0, seed: 5 };
    let world = play(scenario, 200);
    assert!(world.governor.limit().bytes_per_second >= 1_990_000);
    let online_ns = reconnected_ns(&world);
    assert_the_story(&world, online_ns + (online_ns - 20 * SECOND) * 12 / 10);
}

#[test]
fn an_agent_younger_than_its_window_still_drains() {
    let outage_ns = (200_000_000, 10 * SECOND);
    let scenario =
        Scenario { records_per_second: 20_000, record_bytes: 256, outage_ns, factor: 1.5, seed: 1 };
    let world = play(scenario, 100);
    let online_ns = reconnected_ns(&world);
    assert_the_story(&world, online_ns + 2 * online_ns * 11 / 10);
}

/// When the probe came through that ended the outage.
fn reconnected_ns(world: &World) -> u64 {
    world.connectivity.since_ns()
}
