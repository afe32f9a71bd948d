//! `forebay append`: standard input to the log, a record a line.
//!
//! One thread reads and appends, one prints the durable mark as it moves, one listens for signals. Input that
//! flows fills whole blocks; when nothing is there to read and somebody wants acks, durability is asked for.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::clock::Clock;
use forebay::config::{DirectIo, FullPolicy, SpillMode, SyncPolicy};
use forebay::io::Backend;
use forebay::io::real::RealDisk;
use forebay::queue::memory::Full;
use forebay::record::Record;
use forebay::store::{Appended, Level, Store, Watch};
use forebay::{Config, Error, Kind};

use crate::args::{self, Global};
use crate::emit::note;
use crate::exit::{Done, Exit, Failure};
use crate::framing::{Cut, Framing, Pieces};
use crate::stop::{Ready, Stop};

/// How long room is waited for before signals are looked at again.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// Flags of `forebay append`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What durable means: `group` (stable storage), `interval=DUR` or `none`
    #[arg(long, value_name = "SYNC", default_value = "group", value_parser = sync_policy)]
    sync: SyncPolicy,
    /// Print `next N` once open, then `durable N` each time the durable watermark moves
    #[arg(long)]
    ack: bool,
    /// The key (monitor id) of every record, at most 255 bytes: a longer one is left out
    #[arg(long, value_name = "K", default_value = "", hide_default_value = true)]
    key: String,
    /// How records are told apart on standard input
    #[arg(long, value_enum, default_value_t = Framing::Lines)]
    framing: Framing,
    /// Bytes of a new segment
    #[arg(long, value_name = "N", value_parser = args::bytes)]
    segment_bytes: Option<u64>,
    /// What the store may take of the disk
    #[arg(long, value_name = "N", value_parser = args::bytes)]
    disk_bytes_cap: Option<u64>,
    /// What is left to others of the file system [default: 1 GiB, or a tenth of what is free if that is less]
    #[arg(long, value_name = "N", value_parser = args::bytes)]
    free_bytes_min: Option<u64>,
    /// What happens at the cap, or on a full disk
    #[arg(long, value_enum, default_value_t = WhenFull::Reject)]
    full: WhenFull,
    /// How the disk is written
    #[arg(long, value_enum, default_value_t = By::Auto)]
    backend: By,
}

/// [`FullPolicy`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WhenFull {
    /// Ends with 75, and names the first sequence that was not taken
    Reject,
    /// Waits for room
    Block,
    /// The oldest segment goes, as a gap
    DropOldest,
    /// The new record goes, as a gap
    DropNewest,
}

/// [`Backend`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// The ring where the kernel allows it, else blocking calls
    Auto,
    /// Only through io_uring
    Ring,
    /// Only through blocking calls
    Blocking,
}

impl From<By> for Backend {
    fn from(by: By) -> Self {
        match by {
            By::Auto => Self::Auto,
            By::Ring => Self::Ring,
            By::Blocking => Self::Blocking,
        }
    }
}

impl Args {
    fn config(&self) -> Config {
        let mut config = Config::new(&self.dir);
        config.spill = SpillMode::Always;
        config.sync = self.sync;
        config.disk_bytes_cap = self.disk_bytes_cap;
        config.disk.segment_bytes = self.segment_bytes;
        config.disk.free_bytes_min = self.free_bytes_min.unwrap_or_else(|| self.left_to_others(&config));
        config.queue.full = match self.full {
            WhenFull::Reject => FullPolicy::Reject,
            WhenFull::Block => FullPolicy::Block,
            WhenFull::DropOldest => FullPolicy::DropOldest,
            WhenFull::DropNewest => FullPolicy::DropNewest,
        };
        config.write.backend = self.backend.into();
        config
    }
}

impl Args {
    /// On a small disk less than the setting's default, or it would take nothing at all.
    fn left_to_others(&self, config: &Config) -> u64 {
        let place = self.dir.ancestors().find(|place| place.exists());
        let free = rustix::fs::statvfs(place.unwrap_or(Path::new(".")));
        let free = free.map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        config.disk.free_bytes_min.min(free / 10)
    }
}

/// A [`SyncPolicy`] for clap.
pub(crate) fn sync_policy(text: &str) -> Result<SyncPolicy, String> {
    match text.split_once('=') {
        None if text == "group" => Ok(SyncPolicy::Group),
        None if text == "none" => Ok(SyncPolicy::None),
        Some(("interval", interval)) => args::duration(interval).map(SyncPolicy::Interval),
        _ => Err("use group, interval=DUR (such as interval=50ms) or none".into()),
    }
}

/// Appends until the input ends, the process is asked to stop, or no more can be taken.
pub(crate) fn run(args: Args, _global: &Global) -> Done {
    let stop = Stop::listen()?;
    let store = open(&args.config())?;
    let mut printed = store.next_sequence() - 1;
    if args.ack {
        // Whoever listened for acks may have gone; the records are no less welcome.
        let _ = say("next", printed + 1);
    } else {
        printed = u64::MAX;
    }
    let printer = print_marks(store.watch(), printed, stop.clone())?;
    let mut feed = Feed { store: &store, stop: &stop, key: args.key.as_bytes(), last: 0, taken: 0 };
    let ended = feed.input(args.framing, args.ack);
    let closed = store.close();
    let _ = printer.join();
    closed?;
    ended.map(|()| Exit::Done)
}

fn open(config: &Config) -> Result<Store, Failure> {
    config.check()?;
    let place = config.dir.display();
    let disk = RealDisk::create(&config.dir, DirectIo::Auto)
        .map_err(|error| Failure::create(format!("cannot open or make the directory {place}"), error))?;
    let disk = Arc::new(disk);
    let store = Store::open_on(disk.clone(), config, Arc::new(Clock::new()))?;
    for sentence in disk.notes().iter().chain(store.recovery()) {
        note(format_args!("{sentence}"));
    }
    let device = store.device();
    if !device.reason.is_empty() {
        note(format_args!("no io_uring, so the {} backend writes: {}", device.backend, device.reason));
    }
    Ok(store)
}

/// Prints the durable mark whenever it is above `printed`. When writing fails, the input is no longer waited for.
fn print_marks(watch: Watch, mut printed: u64, stop: Stop) -> Result<JoinHandle<()>, Failure> {
    let print = move || {
        loop {
            match watch.above(Level::Durable, printed) {
                Ok(durable) => {
                    if say("durable", durable).is_err() {
                        printed = u64::MAX;
                    } else {
                        printed = durable;
                    }
                }
                Err(error) if error.kind() == Kind::Closed => return,
                Err(_) => return stop.ask(),
            }
        }
    };
    let thread = std::thread::Builder::new().name("forebay-acks".into()).spawn(print);
    thread.map_err(|error| Failure::io("cannot start a thread", error))
}

fn say(word: &str, sequence: u64) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word} {sequence}")?;
    stdout.flush()
}

/// Brings the input to the store.
struct Feed<'a> {
    store: &'a Store,
    stop: &'a Stop,
    key: &'a [u8],
    /// The last sequence that was given.
    last: u64,
    /// Records taken from the input.
    taken: u64,
}

impl Feed<'_> {
    /// All of standard input, or as much as is to be had before the process is asked to stop.
    fn input(&mut self, framing: Framing, asks: bool) -> Result<(), Failure> {
        let failed = |error| Failure::io("cannot read standard input", error);
        let stdin = rustix::stdio::stdin();
        let limit = self.store.record_bytes_max();
        let mut pieces = Pieces::new(framing, limit);
        loop {
            let ready = match self.stop.poll(stdin, false).map_err(failed)? {
                Ready::Nothing => {
                    if asks {
                        self.store.ask(self.last, Level::Durable);
                    }
                    self.stop.poll(stdin, true).map_err(failed)?
                }
                ready => ready,
            };
            if ready == Ready::Stop {
                return Ok(());
            }
            if !pieces.read(stdin).map_err(failed)? {
                break;
            }
            let timestamp = now_ns();
            loop {
                match pieces.next() {
                    Cut::Record(payload) => self.take(payload, timestamp)?,
                    Cut::Part => break,
                    Cut::TooLarge(bytes) => return Err(self.too_large(bytes)),
                }
            }
        }
        match (pieces.last(), framing) {
            (None, _) => Ok(()),
            (Some(line), Framing::Lines) => self.take(line, now_ns()),
            (Some(part), Framing::U32le) => Err(Failure::new(
                Exit::Usage,
                format!(
                    "the input ends {} bytes into record {}: the {} before it are durable",
                    part.len(),
                    self.taken + 1,
                    self.taken
                ),
            )),
        }
    }

    /// One record. What is asked to stop before there was room for it has not done what it was given to do.
    fn take(&mut self, payload: &[u8], timestamp: u64) -> Result<(), Failure> {
        let record = Record { payload, key: self.key, timestamp };
        loop {
            match self.store.append_within(&record, ROOM_WAIT)? {
                Appended::Accepted(sequence) | Appended::Dropped(sequence) => {
                    self.last = sequence;
                    self.taken += 1;
                    return Ok(());
                }
                Appended::Full(Full::Disk) if self.rejects() => {
                    return Err(self.not_taken(
                        "the disk is full, free_bytes_min would be passed, or disk_bytes_cap is reached",
                    ));
                }
                Appended::Full(_) if self.stop.is_asked() => {
                    return Err(self.not_taken("asked to stop while it waited for room"));
                }
                Appended::Full(_) => {}
            }
        }
    }

    fn rejects(&self) -> bool {
        self.store.full_policy() == FullPolicy::Reject
    }

    fn not_taken(&self, why: &str) -> Failure {
        let next = self.store.next_sequence();
        let sentence = format!(
            "{why}: sequence {next} was not taken, and all before it are durable; drain the store, raise the cap or \
             free some space"
        );
        Error::new(Kind::NoSpace, sentence).into()
    }

    fn too_large(&self, bytes: usize) -> Failure {
        let (number, before) = (self.taken + 1, self.taken);
        let sentence = format!(
            "record {number} of the input has {bytes} bytes or more, over {}; or split it; the {before} before it are \
             durable",
            self.store.record_limit()
        );
        Failure::new(Exit::Usage, sentence)
    }
}

/// Nanoseconds since 1970: one look at the clock serves all records of one read.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_policy_is_one_of_three() {
        assert_eq!(sync_policy("group"), Ok(SyncPolicy::Group));
        assert_eq!(sync_policy("none"), Ok(SyncPolicy::None));
        assert_eq!(sync_policy("interval=50ms"), Ok(SyncPolicy::Interval(Duration::from_millis(50))));
        for wrong in ["", "interval", "interval=", "interval=50", "group=1s", "never"] {
            assert!(sync_policy(wrong).is_err(), "{wrong}");
        }
        assert_eq!(sync_policy("interval=50").unwrap_err(), "needs a unit: write \"50s\" or \"50ms\"");
    }
}
