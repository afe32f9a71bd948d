//! `forebay demo`: the flags; the story itself is in [`crate::demo`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::args::{self, Global};
use crate::demo::{self, Story};
use crate::exit::{Done, Exit, Failure};

/// When the central goes away, in a story that is long enough.
const AWAY_FROM: Duration = Duration::from_secs(4);

/// Flags of `forebay demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Send the lines of FILE, over and over, instead of samples of this host
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// How long the central is away, from the 4th second on
    #[arg(long, value_name = "DUR", default_value = "4s", value_parser = args::duration)]
    outage: Duration,
    /// How long records are made, in seconds, 1 to 26; the whole takes 28 s at most
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=26))]
    seconds: u64,
    /// Where the store is made; an empty directory, or none yet. Removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One plain line a second instead of a live display
    #[arg(long)]
    plain: bool,
    /// For tests: swallow the N-th batch between pipeline and central, and answer as if it had arrived
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u64).range(1..))]
    drop_batch: Option<u64>,
}

/// Tells the story.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    let started = Instant::now();
    let seconds = Duration::from_secs(args.seconds);
    let away_from = away_from(seconds, args.outage).ok_or_else(|| {
        let sentence = format!(
            "--outage is {:?} and --seconds {}: the central has to be back before the records end",
            args.outage, args.seconds
        );
        Failure::new(Exit::Usage, sentence)
    })?;
    demo::run(
        &Story {
            input: args.input,
            rate: args.rate,
            away_from,
            outage: args.outage,
            length: seconds,
            dir: args.dir,
            plain: args.plain,
            drop_batch: args.drop_batch,
            output: global.output,
        },
        started,
    )
}

/// The 4th second; earlier where the story would be too short for that.
fn away_from(length: Duration, outage: Duration) -> Option<Duration> {
    let spare = length.checked_sub(outage).filter(|spare| !spare.is_zero())?;
    Some(if spare >= AWAY_FROM { AWAY_FROM } else { spare / 2 })
}
