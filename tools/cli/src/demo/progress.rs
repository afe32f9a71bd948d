//! What is shown while the story goes on: a live display on a terminal, else plain lines.
//!
//! The report goes to stdout alone; so do plain lines, except where the report is one JSON document.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use forebay::event::Event;
use forebay::pipeline::Status;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Output;
use crate::demo::{Story, grouped};

/// The rates of the live display are means of so long.
const RATE_OVER: Duration = Duration::from_millis(500);

/// How it stands.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) elapsed: Duration,
    pub(super) accepted: u64,
    /// At the central, repeats included.
    pub(super) received: u64,
    pub(super) status: Status,
    pub(super) away: bool,
}

/// Where it is shown.
#[derive(Debug)]
pub(super) struct Screen {
    live: Option<ProgressBar>,
    to_stderr: bool,
    /// Elapsed, accepted and received, when rates were last taken.
    before: (Duration, u64, u64),
    rates: (u64, u64),
}

impl Screen {
    pub(super) fn new(story: &Story) -> Self {
        let to_stderr = story.output == Output::Json;
        let is_live = !story.plain && io::stderr().is_terminal() && (to_stderr || io::stdout().is_terminal());
        let live = is_live.then(|| {
            let bar = ProgressBar::new(story.length.as_millis() as u64);
            let style = ProgressStyle::with_template("{bar:60} {msg}").expect("a template of ours");
            bar.set_style(style.progress_chars("━╸ "));
            bar
        });
        Self { live, to_stderr, before: (Duration::ZERO, 0, 0), rates: (0, 0) }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Text that stays.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        match &self.live {
            Some(bar) => text.lines().for_each(|line| bar.println(line)),
            // Where stderr is gone there is nobody left to tell.
            None if self.to_stderr => drop(writeln!(io::stderr(), "{text}")),
            None => {
                let mut stdout = io::stdout().lock();
                writeln!(stdout, "{text}")?;
                stdout.flush()?;
            }
        }
        Ok(())
    }

    /// Something happened.
    pub(super) fn event(&self, at: Duration, sentence: &str) -> io::Result<()> {
        self.say(&format!("{:5.1} s  * {sentence}", at.as_secs_f64()))
    }

    /// How it stands.
    pub(super) fn show(&mut self, moment: &Moment) -> io::Result<()> {
        let (then, accepted, received) = self.before;
        let over = moment.elapsed.saturating_sub(then);
        if over >= RATE_OVER {
            let rate = |count: u64| (count as f64 / over.as_secs_f64()).round() as u64;
            self.rates = (rate(moment.accepted - accepted), rate(moment.received - received));
            self.before = (moment.elapsed, moment.accepted, moment.received);
        }
        let Status { unsent_records, governor_limit_records_per_second: limit, lane, spilling, .. } =
            moment.status;
        let numbers = [
            format!("accepted {:>7}/s", grouped(self.rates.0)),
            format!("delivered {:>7}/s", grouped(self.rates.1)),
            format!("backlog {:>8}", grouped(unsent_records)),
            format!("limit {:>7}/s", grouped(limit)),
        ];
        let to = if spilling.is_empty() { "memory" } else { "disk" };
        let away = if moment.away { ", central away" } else { "" };
        let state = format!("{}, {lane}, to {to}{away}", moment.status.destination_state);
        match &self.live {
            Some(bar) => {
                bar.set_position((moment.elapsed.as_millis() as u64).min(bar.length().unwrap_or(0)));
                bar.set_message(format!(
                    "{:4.1} s\n{}\n{state}",
                    moment.elapsed.as_secs_f64(),
                    numbers.join("   ")
                ));
                Ok(())
            }
            None => {
                let elapsed = moment.elapsed.as_secs_f64();
                self.say(&format!("{elapsed:5.1} s  {}  {state}", numbers.join("  ")))
            }
        }
    }

    /// The report comes next.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.live {
            bar.finish_and_clear();
        }
    }
}

/// An event in a sentence; those that say nothing here are left out.
pub(super) fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::QueueSpill { cause, memory_records } => {
            format!(
                "QueueSpill ({cause}): records go to disk, {} from memory first",
                grouped(*memory_records)
            )
        }
        Event::QueueResume { unsent_records } => {
            format!("QueueResume: new records stay in memory, {} unsent", grouped(*unsent_records))
        }
        Event::BackfillStart { unsent_records, limit_records_per_second, drain_seconds } => {
            let forecast = match drain_seconds {
                Some(seconds) => format!("forecast {seconds:.1} s"),
                None => "no forecast: the backlog grows".into(),
            };
            let (unsent, limit) = (grouped(*unsent_records), grouped(*limit_records_per_second));
            format!("BackfillStart: {unsent} unsent, at most {limit}/s, {forecast}")
        }
        Event::BackfillEnd { records, seconds } => {
            format!("BackfillEnd: {} records in {seconds:.1} s", grouped(*records))
        }
        Event::Gap { reason, first_sequence, last_sequence, count, .. } => {
            format!(
                "Gap: {count} records of {first_sequence} to {last_sequence} are lost ({})",
                reason.name()
            )
        }
        Event::Connectivity { from, to, reason, .. } if reason.is_empty() => format!("{from} -> {to}"),
        Event::Connectivity { from, to, reason, .. } => format!("{from} -> {to}: {reason}"),
        Event::DiskPressure { full, .. } => {
            format!("DiskPressure: {}", if *full { "no room" } else { "room again" })
        }
        Event::WritingEnded { reason } => format!("WritingEnded: {reason}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_backfill_comes_with_its_forecast() {
        let start = |drain_seconds| {
            sentence(&Event::BackfillStart {
                unsent_records: 80_000,
                limit_records_per_second: 30_000,
                drain_seconds,
            })
        };
        let told = start(Some(8.04)).unwrap();
        assert_eq!(told, "BackfillStart: 80,000 unsent, at most 30,000/s, forecast 8.0 s");
        assert!(start(None).unwrap().ends_with("no forecast: the backlog grows"));
    }
}
