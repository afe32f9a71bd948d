//! `forebay bench`: flags for what lies in `tools/bench`, and its report printed.

use std::path::PathBuf;

use forebay::config::SyncPolicy;
use forebay::io::SyncMethod;
use forebay_bench::append::{Append, Waits};
use forebay_bench::engine::Engine;
use forebay_bench::raw::{Cadence, Length, Raw};
use forebay_bench::{Amount, Bench, Report};

use crate::args::{self, Global, Output};
use crate::commands::append::{By, sync_policy};
use crate::exit::{Done, Exit};
use crate::report;
use crate::stop::Stop;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Producers to the log as fast as they can (closed loop), beside the raw device and the copy probe
    Append(AppendArgs),
    /// The device alone: writes and syncs of the same sizes, depth and cadence, and sequential reads
    Raw(RawArgs),
}

/// Flags of every measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// An empty directory on the disk to measure, or one that is not there; what is made in it is removed
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Rounds: each runs a lap of every lane, in an order of its own
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// What the order of the laps is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Flags for the engine.
#[derive(Debug, clap::Args)]
struct EngineArgs {
    /// Bytes of a payload
    #[arg(long, value_name = "N", default_value = "256", value_parser = args::bytes)]
    payload: u64,
    /// What durable means: `group` (stable storage), `interval=DUR` or `none`
    #[arg(long, value_name = "SYNC", default_value = "group", value_parser = sync_policy)]
    sync: SyncPolicy,
    /// How a group is made durable
    #[arg(long, value_enum, default_value_t = SyncBy::Auto)]
    sync_method: SyncBy,
    /// How the disk is written
    #[arg(long, value_enum, default_value_t = By::Auto)]
    backend: By,
    /// Bytes of a block, at most
    #[arg(long, value_name = "N", default_value = "256KiB", value_parser = args::bytes)]
    batch_bytes: u64,
    /// Blocks in flight
    #[arg(long, value_name = "N", default_value_t = 4)]
    depth: u64,
    /// Bytes of the queue in memory
    #[arg(long, value_name = "N", default_value = "64MiB", value_parser = args::bytes)]
    queue_bytes: u64,
    /// Bytes of disk for the store, at most; the raw device takes as much again
    #[arg(long, value_name = "N", default_value = "768MiB", value_parser = args::bytes)]
    disk_bytes: u64,
}

/// [`SyncMethod`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SyncBy {
    /// What the device does best
    Auto,
    /// One fdatasync in the device's own stream
    Fdatasync,
    /// fdatasync on a thread of its own
    FdatasyncThread,
    /// Every write carries its own sync
    Dsync,
}

impl EngineArgs {
    fn engine(&self) -> Engine {
        Engine {
            payload_bytes: usize::try_from(self.payload).unwrap_or(usize::MAX),
            sync: self.sync,
            sync_method: match self.sync_method {
                SyncBy::Auto => SyncMethod::Auto,
                SyncBy::Fdatasync => SyncMethod::Fdatasync,
                SyncBy::FdatasyncThread => SyncMethod::FdatasyncThread,
                SyncBy::Dsync => SyncMethod::Dsync,
            },
            backend: self.backend.into(),
            batch_bytes: self.batch_bytes,
            depth: self.depth,
            queue_bytes: self.queue_bytes,
            disk_bytes: self.disk_bytes,
        }
    }
}

/// Flags of `forebay bench append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Threads that append
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: usize,
    /// Records of a lap, all producers together [default: 2000000, or half a second where each is awaited]
    #[arg(long, value_name = "N", value_parser = args::bytes, conflicts_with = "seconds")]
    records: Option<u64>,
    /// Seconds of a lap, instead of records
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Each producer waits until all is durable after each N records
    #[arg(long, value_name = "N", conflicts_with_all = ["awaits", "tasks"])]
    barrier: Option<u64>,
    /// Each producer waits until each record is durable
    #[arg(long = "await")]
    awaits: bool,
    /// The same with N tasks on a runtime, instead of threads
    #[arg(long, value_name = "N", conflicts_with = "producers")]
    tasks: Option<usize>,
    /// Each lap goes into a new store, and the raw device writes a file that was never written
    #[arg(long)]
    cold: bool,
}

impl AppendArgs {
    fn append(&self) -> Append {
        let waits = match (self.tasks, self.awaits, self.barrier) {
            (Some(_), ..) => Waits::Tasks,
            (None, true, _) => Waits::Each,
            (None, false, Some(records)) => Waits::Barrier(records),
            (None, false, None) => Waits::Pipelined,
        };
        let amount = match (self.records, self.seconds) {
            (Some(records), _) => Amount::Records(records),
            (None, Some(seconds)) => Amount::Seconds(seconds),
            (None, None) if matches!(waits, Waits::Each | Waits::Tasks) => Amount::Seconds(0.5),
            (None, None) => Amount::Records(2_000_000),
        };
        Append {
            engine: self.engine.engine(),
            producers: self.tasks.unwrap_or(self.producers),
            waits,
            amount,
            cold: self.cold,
        }
    }
}

/// Flags of `forebay bench raw`.
#[derive(Debug, clap::Args)]
pub(crate) struct RawArgs {
    #[command(flatten)]
    place: Where,
    /// Bytes of a write
    #[arg(long, value_name = "N", default_value = "256KiB", value_parser = args::bytes)]
    block_bytes: u64,
    /// Writes in flight
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    depth: u16,
    /// When they are made durable
    #[arg(long, value_enum, default_value_t = SyncWhen::Pipelined, value_name = "WHEN")]
    cadence: SyncWhen,
    /// With `--cadence barrier`: after so many bytes
    #[arg(long, value_name = "N", default_value = "1MiB", value_parser = args::bytes)]
    barrier_bytes: u64,
    /// Each lap writes a file that was allocated and never written
    #[arg(long)]
    cold: bool,
    /// Beside it, each record is copied and checksummed into its block: the floor of processor time
    #[arg(long)]
    copy: bool,
    /// Payload bytes of these records
    #[arg(long, value_name = "N", default_value = "256", value_parser = args::bytes)]
    payload: u64,
    /// Bytes of a lap
    #[arg(long, value_name = "N", default_value = "512MiB", value_parser = args::bytes, conflicts_with = "seconds")]
    bytes: u64,
    /// Seconds of a lap, instead of bytes
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Bytes of the file, which is written round and round
    #[arg(long, value_name = "N", default_value = "512MiB", value_parser = args::bytes)]
    file_bytes: u64,
}

/// [`Cadence`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SyncWhen {
    /// One fdatasync after the other, while writes go on
    Pipelined,
    /// An fdatasync after each `--barrier-bytes`, with nothing else going on
    Barrier,
    /// Each write carries its own sync (RWF_DSYNC)
    Dsync,
    /// At the end
    Once,
}

impl RawArgs {
    fn raw(&self) -> Raw {
        Raw {
            block_bytes: self.block_bytes,
            depth: self.depth.into(),
            cadence: match self.cadence {
                SyncWhen::Pipelined => Cadence::Pipelined,
                SyncWhen::Barrier => Cadence::Barrier(self.barrier_bytes),
                SyncWhen::Dsync => Cadence::Each,
                SyncWhen::Once => Cadence::Once,
            },
            cold: self.cold,
            copy: self.copy,
            payload_bytes: usize::try_from(self.payload).unwrap_or(usize::MAX),
            length: match self.seconds {
                Some(seconds) => Length::Time(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))),
                None => Length::Bytes(self.bytes),
            },
            file_bytes: self.file_bytes,
        }
    }
}

/// Measures, and prints the report.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    match args {
        Args::Append(args) => measured(&args.place, global, |bench| args.append().run(bench)),
        Args::Raw(args) => measured(&args.place, global, |bench| args.raw().run(bench)),
    }
}

fn measured(
    place: &Where,
    global: &Global,
    measure: impl FnOnce(&Bench<'_>) -> forebay::Result<Report>,
) -> Done {
    let stop = Stop::listen()?;
    let bench = Bench {
        dir: &place.dir,
        repeats: place.repeats as usize,
        seed: place.seed,
        commit: args::COMMIT,
        is_stopped: &|| stop.is_asked(),
    };
    let measured = measure(&bench);
    if let Err(error) = &measured
        && stop.is_asked()
    {
        crate::emit::note(format_args!("{error}"));
        return Ok(Exit::Done);
    }
    let measured = measured?;
    report::print(&match global.output {
        Output::Text => measured.text(),
        Output::Json => format!("{}\n", measured.json()),
    })?;
    Ok(Exit::Done)
}
