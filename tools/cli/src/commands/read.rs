//! `forebay read`: every record of a store that is durable and not yet trimmed.

use std::path::PathBuf;

use forebay::sink::Item;
use forebay::store::{Archive, Step};

use crate::args::Global;
use crate::emit::{Emitter, note};
use crate::exit::{Done, Exit};
use crate::stop::Stop;

/// Flags of `forebay read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The first sequence
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Payloads and newlines instead of NDJSON; losses go to standard error
    #[arg(long)]
    raw: bool,
}

/// Prints until the end, the limit, or a signal.
pub(crate) fn run(args: Args, _global: &Global) -> Done {
    let stop = Stop::listen()?;
    let archive = Archive::open(&args.dir)?;
    let mut reader = archive.reader(args.from, args.from.saturating_sub(1))?;
    let mut batch = reader.batch();
    let mut emitter = Emitter::new(args.raw);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 && !stop.is_asked() {
        match reader.next(&mut batch)? {
            Step::Records => {
                for item in batch.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    if let Item::Data(record) = item {
                        emitter.record(record)?;
                        left -= 1;
                    }
                }
            }
            Step::Gap(gap) => emitter.gap(&gap),
            Step::Damaged(damage) => emitter.damaged(&damage),
            Step::Trimmed { first, last } => {
                note(format_args!("records {first} to {last} were delivered and trimmed meanwhile"));
            }
            Step::Absent { .. } => {}
            Step::End => break,
        }
    }
    emitter.flush()?;
    Ok(Exit::Done)
}
