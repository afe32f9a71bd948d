//! `forebay drain`: takes a destination's records out of a store, and confirms what was printed.
//!
//! Order: printed and flushed, then confirmed. So a drain that is killed prints some records again, and loses none.

use std::path::{Path, PathBuf};

use forebay::config::SpillMode;
use forebay::gaps::Reason;
use forebay::position::Epoch;
use forebay::sink::{Batch, Item};
use forebay::store::{Archive, DEFAULT_DESTINATION, Destination, Step, Store};
use forebay::{Config, Error, Kind};

use crate::args::Global;
use crate::emit::{Emitter, note};
use crate::exit::{Done, Exit, Failure};
use crate::stop::Stop;

/// Records that are printed before they are confirmed.
const CONFIRM_RECORDS: u64 = 1_000;

/// Flags of `forebay drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Whose records
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DESTINATION)]
    destination: String,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Payloads and newlines instead of NDJSON; losses go to standard error
    #[arg(long)]
    raw: bool,
}

/// Prints and confirms until the end, the limit, or a signal.
pub(crate) fn run(args: Args, _global: &Global) -> Done {
    let stop = Stop::listen()?;
    // Nothing is made where no store is.
    let store = open(&args.dir)?;
    for sentence in store.recovery() {
        note(format_args!("{sentence}"));
    }
    let names = store.destination_names();
    if !names.contains(&args.destination) {
        let (name, known) = (&args.destination, names.join(", "));
        let sentence = format!("there is no destination {name}; this store has {known}");
        return Err(Error::new(Kind::Config, sentence).into());
    }
    let drain = Drain {
        destination: store.destination(&args.destination)?,
        epoch: store.epoch(),
        emitter: Emitter::new(args.raw),
        printed: 0,
        through: 0,
        left: args.limit.unwrap_or(u64::MAX),
    };
    let drained = drain.run(&args.dir, &stop);
    let closed = store.close();
    drained?;
    closed?;
    Ok(Exit::Done)
}

fn open(dir: &Path) -> Result<Store, Failure> {
    Archive::open(dir)?;
    let mut config = Config::new(dir);
    // Nothing is appended; and nothing of this open lies in memory alone, should it be killed.
    config.spill = SpillMode::Always;
    Ok(Store::open(&config)?)
}

struct Drain<'a> {
    destination: Destination<'a>,
    epoch: Epoch,
    emitter: Emitter,
    /// Records printed and not confirmed.
    printed: u64,
    /// Everything up to here is printed.
    through: u64,
    /// Records that may still be printed.
    left: u64,
}

impl Drain<'_> {
    fn run(mut self, dir: &Path, stop: &Stop) -> Result<(), Failure> {
        self.through = self.destination.confirmed();
        let archive = Archive::open(dir)?;
        let mut reader = archive.reader(self.through + 1, self.destination.gaps_through())?;
        let mut batch = reader.batch();
        while self.left > 0 && !stop.is_asked() {
            match reader.next(&mut batch)? {
                Step::Records => self.records(&batch)?,
                Step::Gap(gap) => {
                    self.emitter.gap(&gap);
                    if gap.is_dense() {
                        self.through = self.through.max(gap.last_sequence);
                    }
                }
                Step::Damaged(damage) => {
                    self.emitter.damaged(&damage);
                    let (first, last) = (damage.first_sequence, damage.last_sequence);
                    // Named before it is confirmed over.
                    self.destination.lose(self.epoch, first, last, Reason::Corrupt)?;
                    self.through = self.through.max(last);
                }
                Step::Absent { last, .. } => self.through = self.through.max(last),
                Step::Trimmed { .. } => {}
                Step::End => break,
            }
        }
        self.confirm()?;
        Ok(self.destination.persist_twice()?)
    }

    fn records(&mut self, batch: &Batch) -> Result<(), Failure> {
        for item in batch.iter() {
            let Item::Data(record) = item else { continue };
            if self.left == 0 {
                break;
            }
            self.emitter.record(record)?;
            (self.left, self.printed) = (self.left - 1, self.printed + 1);
            self.through = record.sequence;
            if self.printed == CONFIRM_RECORDS {
                self.confirm()?;
            }
        }
        Ok(())
    }

    fn confirm(&mut self) -> Result<(), Failure> {
        self.emitter.flush()?;
        self.destination.confirm(self.through);
        self.printed = 0;
        Ok(self.destination.persist()?)
    }
}
