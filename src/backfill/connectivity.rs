//! Whether one destination can be reached, and when to try again.
//!
//! ```text
//!            failure            failure             the wait is over
//!   online ──────────► suspect ─────────► offline ──────────────────► probing
//!     ▲                   │                  ▲                           │
//!     │      success      │                  │         failure           │
//!     ├───────────────────┘                  └───────────────────────────┤
//!     └──────────────────────────────────────────────────────────────────┘
//!                                 success
//! ```
//!
//! It promises: after the n-th failure in a row the wait is drawn evenly from 0 to
//! `min(max, min × 2^(n-1))`, behind the destination's own wish where it named one (a floor, so a fleet that
//! was told one time does not come back at one time); offline, one probe is out at a time; and there is no
//! last attempt: whatever happens, a time comes at which it may send again, so nothing is ever given up
//! because time passed.
//!
//! It does not know what is sent or what a failure was. It has no clock and no dice: `now_ns` is monotonic
//! time in nanoseconds, and the seed of its random numbers is an argument.

/// How long to wait after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffSettings {
    /// The longest wait after the first failure, in nanoseconds; default 1 s.
    pub min_ns: u64,
    /// The longest wait after any failure, in nanoseconds; default 60 s. Not below `min_ns`.
    pub max_ns: u64,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self { min_ns: 1_000_000_000, max_ns: 60_000_000_000 }
    }
}

/// How it stands with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The last send came through, or none was tried yet.
    Online,
    /// The last send failed. It is tried again soon; not yet an outage.
    Suspect,
    /// Two or more sends in a row failed. Nothing is sent until the wait is over.
    Offline,
    /// One batch is out to see whether it is back.
    Probing,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Online, Self::Suspect, Self::Offline, Self::Probing];

    /// As it stands in metrics and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
            Self::Probing => "probing",
        }
    }

    /// Whether the spill policy counts it as reachable.
    pub fn is_online(self) -> bool {
        matches!(self, Self::Online | Self::Suspect)
    }
}

/// Whether a batch may be sent.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendVerdict {
    /// Yes.
    Yes,
    /// One, as a probe: the next batch waits for what becomes of it.
    Probe,
    /// Not now; ask again at this time (monotonic nanoseconds).
    At(u64),
}

/// One state has followed another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
}

/// The breaker of one destination.
#[derive(Debug, Clone)]
pub struct Connectivity {
    settings: BackoffSettings,
    state: State,
    /// When this state began.
    since_ns: u64,
    /// Failures since the last success.
    failure_count: u32,
    /// When to send again; while probing, when the probe counts as lost.
    next_ns: u64,
    dice: SplitMix64,
}

impl Connectivity {
    /// A breaker that is online. Seeds should differ between processes: they spread a fleet's retries.
    ///
    /// # Panics
    ///
    /// When `max_ns` is below `min_ns`, or `max_ns` is 0: the configuration has refused that before.
    pub fn new(settings: BackoffSettings, seed: u64) -> Self {
        assert!(settings.min_ns <= settings.max_ns && settings.max_ns > 0, "a wait has a length");
        let dice = SplitMix64(seed);
        Self { settings, state: State::Online, since_ns: 0, failure_count: 0, next_ns: 0, dice }
    }

    /// Asks to send one batch. [`SendVerdict::Probe`] is given to one asker: ask when the batch is ready,
    /// then send it, and say what became of it. A probe of which nothing is heard for `max_ns` counts as
    /// lost, and the next asker gets one.
    pub fn may_send(&mut self, now_ns: u64) -> SendVerdict {
        match self.state {
            State::Online => SendVerdict::Yes,
            _ if now_ns < self.next_ns => SendVerdict::At(self.next_ns),
            State::Suspect => SendVerdict::Yes,
            State::Offline | State::Probing => {
                let _ = self.turn(now_ns, State::Probing);
                self.next_ns = now_ns.saturating_add(self.settings.max_ns);
                SendVerdict::Probe
            }
        }
    }

    /// The destination took a batch.
    pub fn on_success(&mut self, now_ns: u64) -> Option<Change> {
        self.failure_count = 0;
        self.turn(now_ns, State::Online)
    }

    /// The destination did not take a batch, or nobody knows. `retry_after_ns` is its own wish: a floor.
    pub fn on_failure(&mut self, now_ns: u64, retry_after_ns: Option<u64>) -> Option<Change> {
        self.failure_count = self.failure_count.saturating_add(1);
        let wait_ns = self.dice.up_to(self.wait_ns_max());
        self.next_ns = now_ns.saturating_add(retry_after_ns.unwrap_or(0)).saturating_add(wait_ns);
        self.turn(now_ns, if self.failure_count == 1 { State::Suspect } else { State::Offline })
    }

    /// A probe was granted and not sent after all: the next asker gets it.
    pub fn on_abandoned(&mut self, now_ns: u64) -> Option<Change> {
        if self.state != State::Probing {
            return None;
        }
        self.next_ns = now_ns;
        self.turn(now_ns, State::Offline)
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it came to stand so (monotonic nanoseconds; 0 before the first change).
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// Failures since the last success.
    pub fn failure_count(&self) -> u32 {
        self.failure_count
    }

    /// The longest wait that the failures so far may cost.
    fn wait_ns_max(&self) -> u64 {
        let doublings = self.failure_count.saturating_sub(1).min(63);
        let wait_ns = u128::from(self.settings.min_ns) << doublings;
        u64::try_from(wait_ns).unwrap_or(u64::MAX).min(self.settings.max_ns)
    }

    fn turn(&mut self, now_ns: u64, to: State) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        self.since_ns = now_ns;
        Some(Change { from, to })
    }
}

/// Steele, Lea and Flood's generator: one word of state, every word comes once in 2^64.
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Evenly from 0 to `max`, both included (to within `max` in 2^64).
    fn up_to(&mut self, max: u64) -> u64 {
        let product = u128::from(self.next()) * (u128::from(max) + 1);
        u64::try_from(product >> 64).expect("the high word")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What a few words of prose say about the breaker, without a line of its code.
    #[derive(Clone)]
    struct Model {
        failures: u32,
        /// When the probe that is out was granted.
        probe_out_ns: Option<u64>,
        /// The earliest and the latest time at which it may be asked to send again.
        wait: (u64, u64),
    }

    impl Model {
        fn state(&self) -> State {
            match (self.failures, self.probe_out_ns) {
                (_, Some(_)) => State::Probing,
                (0, None) => State::Online,
                (1, None) => State::Suspect,
                _ => State::Offline,
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Ask,
        AskWhenDue,
        AskInAMinute,
        Success,
        Failure,
        FailureRetryAfter,
        Abandoned,
    }

    const EVENTS: [Event; 7] = [
        Event::Ask,
        Event::AskWhenDue,
        Event::AskInAMinute,
        Event::Success,
        Event::Failure,
        Event::FailureRetryAfter,
        Event::Abandoned,
    ];

    const RETRY_AFTER_NS: u64 = 100 * SECOND;

    #[derive(Clone)]
    struct World {
        breaker: Connectivity,
        model: Model,
        now_ns: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                breaker: Connectivity::new(BackoffSettings::default(), 42),
                model: Model { failures: 0, probe_out_ns: None, wait: (0, 0) },
                now_ns: 1_000 * SECOND,
            }
        }

        fn play(&mut self, event: Event) {
            let before = self.breaker.state();
            let change = match event {
                Event::Ask => self.ask(),
                Event::AskWhenDue => {
                    if let SendVerdict::At(at_ns) = self.breaker.clone().may_send(self.now_ns) {
                        assert!(matches!(self.breaker.clone().may_send(at_ns - 1), SendVerdict::At(_)));
                        self.now_ns = at_ns;
                    }
                    self.ask()
                }
                Event::AskInAMinute => {
                    self.now_ns += 60 * SECOND;
                    self.ask()
                }
                Event::Success => {
                    self.model = Model { failures: 0, probe_out_ns: None, wait: (0, 0) };
                    self.breaker.on_success(self.now_ns)
                }
                Event::Failure => self.fail(None),
                Event::FailureRetryAfter => self.fail(Some(RETRY_AFTER_NS)),
                Event::Abandoned => {
                    if self.model.probe_out_ns.take().is_some() {
                        self.model.wait = (self.now_ns, self.now_ns);
                    }
                    self.breaker.on_abandoned(self.now_ns)
                }
            };
            let after = self.breaker.state();
            if before != after {
                assert_eq!(self.breaker.since_ns(), self.now_ns);
            }
            assert_eq!(after, self.model.state(), "after {event:?}");
            if !matches!(event, Event::Ask | Event::AskWhenDue | Event::AskInAMinute) {
                let expected = (before != after).then_some(Change { from: before, to: after });
                assert_eq!(change, expected, "after {event:?}");
            }
            self.assert_never_given_up();
        }

        fn ask(&mut self) -> Option<Change> {
            let (low_ns, high_ns) = self.model.wait;
            match self.breaker.may_send(self.now_ns) {
                SendVerdict::Yes => {
                    assert!(self.model.failures <= 1 && self.now_ns >= low_ns);
                }
                SendVerdict::Probe => {
                    assert!(self.model.failures >= 2 && self.now_ns >= low_ns);
                    if let Some(granted_ns) = self.model.probe_out_ns {
                        assert!(self.now_ns >= granted_ns + 60 * SECOND, "two probes are out");
                    }
                    self.model.probe_out_ns = Some(self.now_ns);
                }
                SendVerdict::At(at_ns) if self.model.probe_out_ns.is_none() => {
                    assert!(self.now_ns < at_ns && low_ns <= at_ns && at_ns <= high_ns);
                }
                SendVerdict::At(at_ns) => {
                    assert_eq!(Some(at_ns), self.model.probe_out_ns.map(|granted| granted + 60 * SECOND));
                }
            }
            None
        }

        fn fail(&mut self, retry_after_ns: Option<u64>) -> Option<Change> {
            self.model.failures += 1;
            self.model.probe_out_ns = None;
            let low_ns = self.now_ns + retry_after_ns.unwrap_or(0);
            let cap_ns = [1, 2, 4, 8, 16, 32, 60][(self.model.failures as usize - 1).min(6)] * SECOND;
            self.model.wait = (low_ns, low_ns + cap_ns);
            self.breaker.on_failure(self.now_ns, retry_after_ns)
        }

        /// Wherever one is, waiting leads to a send.
        fn assert_never_given_up(&self) {
            let mut later = self.breaker.clone();
            if let SendVerdict::At(at_ns) = later.may_send(self.now_ns) {
                assert!(at_ns <= self.now_ns + RETRY_AFTER_NS + 60 * SECOND);
                assert!(!matches!(later.may_send(at_ns), SendVerdict::At(_)), "the time came, and nothing");
            }
        }
    }

    fn play_all(world: &World, depth: usize) {
        if depth == 0 {
            return;
        }
        for event in EVENTS {
            let mut next = world.clone();
            next.play(event);
            play_all(&next, depth - 1);
        }
    }

    #[test]
    fn every_short_story_ends_where_the_model_says() {
        play_all(&World::new(), 7);
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum_and_uses_all_of_it() {
        for (failures, cap_ns) in
            [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (200, 60)].map(|(n, s)| (n, s * SECOND))
        {
            let mut waits_ns = Vec::new();
            for seed in 0..2_000 {
                let mut breaker = Connectivity::new(BackoffSettings::default(), seed);
                for _ in 0..failures {
                    let _ = breaker.on_failure(0, None);
                }
                waits_ns.push(breaker.next_ns);
            }
            assert!(waits_ns.iter().all(|wait_ns| *wait_ns <= cap_ns));
            // Full jitter: even over ten equal parts (200 each on average, 6 sigma is 80).
            for part in 0..10 {
                let range = cap_ns / 10 * part..cap_ns / 10 * (part + 1);
                let count = waits_ns.iter().filter(|wait_ns| range.contains(wait_ns)).count();
                assert!((120..280).contains(&count), "{failures} failures, part {part}: {count}");
            }
        }
    }

    #[test]
    fn the_same_seed_waits_the_same_and_another_seed_does_not() {
        let wait = |seed| {
            let mut breaker = Connectivity::new(BackoffSettings::default(), seed);
            let _ = breaker.on_failure(0, None);
            breaker.next_ns
        };
        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }

    #[test]
    fn an_absurd_retry_after_does_not_overflow() {
        let mut breaker = Connectivity::new(BackoffSettings { min_ns: u64::MAX, max_ns: u64::MAX }, 1);
        let _ = breaker.on_failure(u64::MAX, Some(u64::MAX));
        assert_eq!(breaker.may_send(0), SendVerdict::At(u64::MAX));
        assert_eq!(breaker.may_send(u64::MAX), SendVerdict::Yes);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut dice = SplitMix64(1_234_567);
        let words: Vec<_> = (0..3).map(|_| dice.next()).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_state_has_its_own_name() {
        assert_eq!(State::ALL.map(State::name), ["online", "suspect", "offline", "probing"]);
        assert_eq!(State::ALL.map(State::is_online), [true, true, false, false]);
    }
}
