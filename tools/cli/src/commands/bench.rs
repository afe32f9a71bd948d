//! `forebay bench`: flags for what lies in `tools/bench`, and its report printed.

use std::path::{Path, PathBuf};

use forebay::config::SyncPolicy;
use forebay::io::SyncMethod;
use forebay::store::Level;
use forebay_bench::append::{Append, Waits};
use forebay_bench::compare::{Comparison, Condition};
use forebay_bench::drain::Drain;
use forebay_bench::engine::Engine;
use forebay_bench::latency::Latency;
use forebay_bench::open::Open;
use forebay_bench::outage::Outage;
use forebay_bench::raw::{Cadence, Length, Raw};
use forebay_bench::{Amount, Bench, Report};

use crate::args::{self, Global, Output};
use crate::commands::append::{By, sync_policy};
use crate::exit::{Done, Exit, Failure};
use crate::report;
use crate::stop::Stop;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Producers to the log as fast as they can (closed loop), beside the raw device and the copy probe
    Append(AppendArgs),
    /// Appends at a given rate (open loop): how late each is, stalls included, and its service time
    Latency(LatencyArgs),
    /// A backlog read in order, every checksum proven, beside raw reads of the same files
    Drain(DrainArgs),
    /// The whole pipeline while its destination goes away, comes back, and the backlog drains
    Outage(OutageArgs),
    /// Time and memory of opening a store with a large backlog, beside a small one
    Open(OpenArgs),
    /// The device alone: writes and syncs of the same sizes, depth and cadence, and sequential reads
    Raw(RawArgs),
    /// Hold one JSON report against another; 1 if a condition of --fail-if holds
    Compare(CompareArgs),
}

/// Flags of every measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// An empty directory on the disk to measure, or one that is not there; what is made in it is removed
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Rounds: each runs a lap of every lane, in an order of its own [default: 5; outage: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: Option<u32>,
    /// What the order of the laps is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the report with plots too: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
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

/// Flags of `forebay bench latency`.
#[derive(Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Appends a second, all producers together
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    /// Threads that append in turns
    #[arg(long, value_name = "N", default_value_t = 2)]
    producers: usize,
    /// Seconds of a lap
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// What an append is waited for
    #[arg(long, value_enum, default_value_t = Until::Durable)]
    level: Until,
}

/// [`Level`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Until {
    /// It is in memory
    Accepted,
    /// It is with the kernel
    Written,
    /// It is on stable storage
    Durable,
}

impl LatencyArgs {
    fn latency(&self) -> Latency {
        Latency {
            engine: self.engine.engine(),
            rate: self.rate,
            producers: self.producers,
            seconds: self.seconds,
            level: match self.level {
                Until::Accepted => Level::Accepted,
                Until::Written => Level::Written,
                Until::Durable => Level::Durable,
            },
        }
    }
}

/// Flags of `forebay bench drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Records of the backlog
    #[arg(long, value_name = "N", default_value = "2000000", value_parser = args::bytes)]
    records: u64,
    /// Bytes of a raw read
    #[arg(long, value_name = "N", default_value = "512KiB", value_parser = args::bytes)]
    chunk_bytes: u64,
    /// Raw reads in flight
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    read_depth: u16,
    /// Prove every checksum: always so, the flag only says it
    #[arg(long)]
    verify: bool,
}

impl DrainArgs {
    fn drain(&self) -> Drain {
        Drain {
            engine: self.engine.engine(),
            records: self.records,
            chunk_bytes: usize::try_from(self.chunk_bytes).unwrap_or(usize::MAX),
            depth: self.read_depth.into(),
        }
    }
}

/// Flags of `forebay bench outage`.
#[derive(Debug, clap::Args)]
pub(crate) struct OutageArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rate: u64,
    /// Seconds before the destination goes away
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    steady: f64,
    /// Seconds that it is away
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    away: f64,
}

impl OutageArgs {
    fn outage(&self) -> Outage {
        Outage {
            engine: self.engine.engine(),
            rate: self.rate,
            steady_seconds: self.steady,
            away_seconds: self.away,
        }
    }
}

/// Flags of `forebay bench open`.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Bytes of the backlog
    #[arg(long, value_name = "N", default_value = "1GiB", value_parser = args::bytes)]
    backlog: u64,
    /// Bytes of the backlog that it is held against
    #[arg(long, value_name = "N", default_value = "64MiB", value_parser = args::bytes)]
    small: u64,
}

impl OpenArgs {
    fn open(&self) -> Open {
        Open { engine: self.engine.engine(), backlog_bytes: self.backlog, small_bytes: self.small }
    }
}

/// Flags of `forebay bench compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The report before
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The report after
    #[arg(value_name = "B.json")]
    after: PathBuf,
    /// `p99>+10%`: a figure's change; `ratio_to_raw_limit<0.9`: its value in B. May be given several times
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
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
        Args::Latency(args) => measured(&args.place, global, |bench| args.latency().run(bench)),
        Args::Drain(args) => measured(&args.place, global, |bench| args.drain().run(bench)),
        Args::Outage(args) => {
            // One round takes as long as five of the others.
            let place = Where { repeats: args.place.repeats.or(Some(1)), ..args.place };
            let outage = OutageArgs { place, ..args };
            measured(&outage.place, global, |bench| outage.outage().run(bench))
        }
        Args::Open(args) => measured(&args.place, global, |bench| args.open().run(bench)),
        Args::Raw(args) => measured(&args.place, global, |bench| args.raw().run(bench)),
        Args::Compare(args) => compare(&args, global),
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
        repeats: place.repeats.unwrap_or(5) as usize,
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
    if let Some(path) = &place.report {
        std::fs::write(path, measured.html())
            .map_err(|error| Failure::create(format!("cannot write {}", path.display()), error))?;
    }
    report::print(&match global.output {
        Output::Text => measured.text(),
        Output::Json => format!("{}\n", measured.json()),
    })?;
    Ok(Exit::Done)
}

fn compare(args: &CompareArgs, global: &Global) -> Done {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::io(format!("cannot read {}", path.display()), error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} is no JSON document: {error}", path.display()))
        })
    };
    let comparison = Comparison::new(&read(&args.before)?, &read(&args.after)?, &args.fail_if)?;
    report::print(&match global.output {
        Output::Text => comparison.text(),
        Output::Json => format!("{}\n", comparison.json()),
    })?;
    Ok(if comparison.is_good() { Exit::Done } else { Exit::No })
}
