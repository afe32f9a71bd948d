//! Watches the story and directs the one thing that happens in it: the central goes away and comes back.
//!
//! Everything is read through what users have too: the pipeline's status and events, the central's counts.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::Pipeline;
use forebay::event::Occurrence;
use forebay_bench::peak::Governed;

use crate::demo::Story;
use crate::demo::produce::Pace;
use crate::demo::progress::{Moment, Screen};
use crate::demo::remote::Remote;
use crate::exit::Failure;
use crate::stop::Stop;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// What it watches for.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) story: &'a Story,
    pub(super) stop: &'a Stop,
    /// What is not delivered by then is counted as it stands.
    pub(super) give_up: Instant,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Film {
    /// When it began, in milliseconds since 1970: as the central's arrivals.
    pub(super) began_ms: u64,
    pub(super) length: Duration,
    pub(super) accepted: u64,
    pub(super) governed: Vec<Governed>,
    pub(super) events: Vec<Occurrence>,
    /// When the central really was away, in milliseconds since 1970.
    pub(super) away_ms: Option<(u64, u64)>,
    /// Somebody asked to stop.
    pub(super) is_interrupted: bool,
    /// The patience ended before everything was delivered.
    pub(super) is_unfinished: bool,
}

/// Where the central is in the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Before,
    Away { since_ms: u64 },
    After,
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Watch<'_> {
    /// Watches until the end.
    pub(super) fn film(
        &self,
        pipeline: &Pipeline,
        pace: &Pace,
        remote: &mut Remote,
        screen: &mut Screen,
    ) -> Result<Film, Failure> {
        let mut film = Film {
            began_ms: now_ms() - pace.began().elapsed().as_millis() as u64,
            length: Duration::ZERO,
            accepted: 0,
            governed: Vec::new(),
            events: Vec::new(),
            away_ms: None,
            is_interrupted: false,
            is_unfinished: false,
        };
        let mut act = if self.story.outage.is_zero() { Act::After } else { Act::Before };
        let mut shown = Duration::ZERO;
        loop {
            film.length = pace.began().elapsed();
            act = self.direct(act, &mut film, remote, screen)?;
            film.look(pipeline, screen)?;
            if film.length >= shown + SHOW_EVERY || screen.is_live() {
                shown += if film.length >= shown + SHOW_EVERY { SHOW_EVERY } else { Duration::ZERO };
                screen.show(&Moment {
                    elapsed: film.length,
                    accepted: pace.made(),
                    received: remote.totals().received,
                    status: pipeline.status(),
                    away: matches!(act, Act::Away { .. }),
                })?;
            }
            film.is_interrupted = self.stop.is_asked();
            film.is_unfinished = Instant::now() >= self.give_up;
            let is_done = pace.has_ended() && act == Act::After && film.is_delivered(pipeline, pace);
            if is_done || film.is_interrupted || film.is_unfinished {
                film.is_unfinished &= !is_done;
                film.accepted = pace.made();
                return Ok(film);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn direct(
        &self,
        act: Act,
        film: &mut Film,
        remote: &mut Remote,
        screen: &mut Screen,
    ) -> Result<Act, Failure> {
        let story = self.story;
        match act {
            Act::Before if film.length >= story.away_from => {
                let since_ms = now_ms();
                remote.break_off();
                screen
                    .event(film.length, "the central goes away: its port is closed, connections are reset")?;
                Ok(Act::Away { since_ms })
            }
            Act::Away { since_ms } if film.length >= story.away_from + story.outage => {
                remote.come_back()?;
                film.away_ms = Some((since_ms, now_ms()));
                screen.event(film.length, "the central is back")?;
                Ok(Act::After)
            }
            act => Ok(act),
        }
    }
}

impl Film {
    fn look(&mut self, pipeline: &Pipeline, screen: &mut Screen) -> Result<(), Failure> {
        let status = pipeline.status();
        if status.governor_limit_records_per_second > 0 {
            self.governed.push(Governed {
                at_ms: now_ms(),
                limit_per_second: status.governor_limit_records_per_second,
                burst: status.governor_burst_records,
            });
        }
        let events = pipeline.events();
        let known = self.events.last().and_then(|last| events.iter().rposition(|event| event == last));
        for occurrence in events.into_iter().skip(known.map_or(0, |index| index + 1)) {
            let at = Duration::from_millis((occurrence.timestamp / 1_000_000).saturating_sub(self.began_ms));
            if let Some(sentence) = crate::demo::progress::sentence(&occurrence.event) {
                screen.event(at, &sentence)?;
            }
            self.events.push(occurrence);
        }
        Ok(())
    }

    /// The destination has, or was told of, everything; and the backfill knows it.
    fn is_delivered(&self, pipeline: &Pipeline, pace: &Pace) -> bool {
        let marks = pipeline.store().marks();
        marks.appended() >= pace.made() && marks.confirmed() >= marks.appended()
    }
}
