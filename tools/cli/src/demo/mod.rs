//! The whole story on one machine: samples, a central on loopback, an outage, spill, reconnect, backfill.
//!
//! ```text
//!  Source ──► producer ──► Pipeline ──► forwarder ══ socket ══► central
//!  (paced)                 (a fresh directory)                  (its own threads and counts)
//!                               ▲                                    ▲
//!                               └───── watch: samples, events ───────┘ takes it away, brings it back
//! ```
//!
//! Two things are told apart to the end: what the pipeline believes (its ledger, counted from its directory)
//! and what the central has. *Missing* and *duplicates* are the central's word alone.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay::Pipeline;
use forebay::config::{Config, FullPolicy, SinkConfig};
use forebay::ledger::Ledger;

use crate::args::Output;
use crate::commands::verify;
use crate::exit::{Done, Exit, Failure};
use crate::report;
use crate::stop::Stop;

use self::directory::Scratch;
use self::produce::Pace;
use self::progress::Screen;
use self::remote::Remote;
use self::source::Source;
use self::table::Report;
use self::watch::{Film, Watch};

mod directory;
mod plot;
mod produce;
mod progress;
mod remote;
mod source;
mod table;
mod watch;

/// Everything is over by then, counted from the start of the process.
const HARD_LIMIT: Duration = Duration::from_secs(28);
/// What is not delivered by then is counted as it stands, so that there is time to close and to count.
const PATIENCE: Duration = Duration::from_millis(26_300);
/// Who hangs is ended a moment before the limit.
const END_BY_FORCE: Duration = Duration::from_millis(27_700);

/// What the slots may take: with cursors, gaps and state it stays under 512 MiB.
const DISK_BYTES_CAP: u64 = 500 << 20;
const SEGMENT_BYTES: u64 = 16 << 20;
/// Left to others: less than usual, since the demonstration is small and short.
const FREE_BYTES_MIN: u64 = 64 << 20;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const GOVERNOR_WINDOW: Duration = Duration::from_secs(2);

/// What is to be told.
#[derive(Debug)]
pub(crate) struct Story {
    /// Lines to send; without it samples of this host.
    pub(crate) input: Option<PathBuf>,
    /// Records a second.
    pub(crate) rate: u64,
    /// When the central goes away.
    pub(crate) away_from: Duration,
    /// For how long.
    pub(crate) outage: Duration,
    /// How long records are made.
    pub(crate) length: Duration,
    /// Where the store is made.
    pub(crate) dir: Option<PathBuf>,
    /// No live display.
    pub(crate) plain: bool,
    /// The batch that never arrives.
    pub(crate) drop_batch: Option<u64>,
    /// How the report is printed.
    pub(crate) output: Output,
}

/// Tells it; `started` is when the process began.
pub(crate) fn run(story: &Story, started: Instant) -> Done {
    let stop = Stop::listen()?;
    let mut source = Source::open(story.input.as_deref())?;
    let scratch = Scratch::make(story.dir.as_deref())?;
    end_by_force(&scratch, started)?;
    let mut screen = Screen::new(story);
    let mut remote = Remote::start()?;
    let mut config = config(&scratch);
    config.sinks = vec![SinkConfig { url: remote.url(), ..SinkConfig::default() }];
    screen.say(&preface(story, &source, &scratch))?;
    let mut pipeline = Pipeline::open(&config)?;
    let forwarder = pipeline.forwarder().expect("the first to ask");
    let forwarder = remote::forward(forwarder, &config.sinks[0].url, story.drop_batch)?;
    let watch = Watch { story, stop: &stop, give_up: started + PATIENCE };
    let film = film(&watch, &pipeline, &mut source, &mut remote, &mut screen)?;
    let ledgers = close(pipeline, forwarder, &scratch)?;
    screen.end();
    drop(scratch);
    let report = Report::new(story, film, &remote, ledgers);
    report::print(&match story.output {
        Output::Text => report.text(),
        Output::Json => format!("{}\n", report.json()),
    })?;
    Ok(if report.is_interrupted() || report.is_good() { Exit::Done } else { Exit::No })
}

/// Produces and watches, until all is delivered, the patience ends, or somebody asks to stop.
fn film(
    watch: &Watch<'_>,
    pipeline: &Pipeline,
    source: &mut Source,
    remote: &mut Remote,
    screen: &mut Screen,
) -> Result<Film, Failure> {
    let pace = Pace::new(watch.story.rate, watch.story.length, watch.give_up);
    std::thread::scope(|scope| {
        let producer = std::thread::Builder::new()
            .name("producer".into())
            .spawn_scoped(scope, || pace.produce(pipeline.store(), source))
            .map_err(|error| Failure::io("cannot start the producer's thread", error))?;
        let film = watch.film(pipeline, &pace, remote, screen);
        // Whatever the watch came back with, nobody produces any more.
        pace.end();
        let produced = producer.join().expect("the producer does not panic");
        let film = film?;
        produced?;
        Ok(film)
    })
}

/// Closes the pipeline, and counts what its directory says.
fn close(pipeline: Pipeline, forwarder: JoinHandle<()>, scratch: &Scratch) -> Result<Vec<Ledger>, Failure> {
    pipeline.close()?;
    forwarder.join().expect("the forwarder does not panic");
    // Counting takes milliseconds: it is not interrupted.
    let unasked = Stop::never()?;
    Ok(verify::ledgers(scratch.path(), &unasked)?.expect("nobody asks to stop"))
}

fn config(scratch: &Scratch) -> Config {
    let mut config = Config::new(scratch.path());
    config.disk_bytes_cap = Some(DISK_BYTES_CAP);
    config.disk.segment_bytes = Some(SEGMENT_BYTES);
    config.disk.free_bytes_min = FREE_BYTES_MIN;
    config.queue.full = FullPolicy::Block;
    config.backoff.min = BACKOFF_MIN;
    config.backoff.max = BACKOFF_MAX;
    config.governor.window = GOVERNOR_WINDOW;
    config
}

/// What will happen, and what is not as it usually is.
fn preface(story: &Story, source: &Source, scratch: &Scratch) -> String {
    let outage = if story.outage.is_zero() {
        "the central stays".to_owned()
    } else {
        format!("the central is away for {:?} from second {}", story.outage, story.away_from.as_secs_f64())
    };
    format!(
        "{} records/s for {} s: {}; {outage}\n\
         shortened for the demonstration: backoff {BACKOFF_MIN:?} to {BACKOFF_MAX:?} (default 1s to 60s), \
         governor window {GOVERNOR_WINDOW:?} (default 30s), free_bytes_min {} MiB (default 1 GiB)\n\
         store: {}, at most 512 MiB, removed at the end",
        grouped(story.rate),
        story.length.as_secs(),
        source.name(),
        FREE_BYTES_MIN >> 20,
        scratch.path().display(),
    )
}

/// The limit holds even where something hangs: a thread of its own sees to it.
fn end_by_force(scratch: &Scratch, started: Instant) -> Result<(), Failure> {
    let path = scratch.path().to_owned();
    let guard = std::thread::Builder::new().name("hard-limit".into()).spawn(move || {
        std::thread::sleep((started + END_BY_FORCE).saturating_duration_since(Instant::now()));
        directory::remove(&path);
        let sentence =
            format!("not done within {} s: what is undelivered was not counted", HARD_LIMIT.as_secs());
        // The code, not the way out of `main`, matters here: other threads may hang.
        let _ = crate::exit::conclude(Err(Failure::new(Exit::No, sentence)));
        std::process::exit(Exit::No as i32);
    });
    guard.map(drop).map_err(|error| Failure::io("cannot start the thread of the hard limit", error))
}

/// 20,000 for 20000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let all = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn the_configuration_is_sound_and_within_its_cap() {
        let scratch = Scratch::make(None).unwrap();
        config(&scratch).check().unwrap();
        const { assert!(DISK_BYTES_CAP + (8 << 20) <= 512 << 20) };
    }
}
