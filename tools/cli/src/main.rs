//! The `forebay` command: typed flags, then what they mean, then the action.
//!
//! Owns the process: its arguments, its environment, its signals, its exit code. The library knows none
//! of these. Each command lies in `commands/`; what several share lies beside this file.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Cli;
use crate::exit::{Done, Exit, Failure};

mod admin;
mod args;
mod central;
mod commands;
mod demo;
mod emit;
mod environment;
mod exit;
mod framing;
mod http_sink;
mod ingest;
mod listener;
mod log;
mod ndjson;
mod redact;
mod report;
mod sinks;
mod stop;
mod timestamp;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::conclude(usage(&error)),
    };
    exit::conclude(run(cli))
}

fn run(cli: Cli) -> Done {
    log::install(&cli.global, cli.command.log_level())?;
    keep_file_size_signal_away()?;
    cli.command.run(&cli.global)
}

/// Help and version go to stdout and are no failure; wrong usage goes to stderr.
fn usage(error: &clap::Error) -> Done {
    let printed = error.print();
    if error.use_stderr() {
        // Where stderr is gone it is wrong usage all the same.
        return Ok(Exit::Usage);
    }
    printed?;
    Ok(Exit::Done)
}

/// A file-size limit (`ulimit -f`) shall be an error of the write that meets it, not the end of the process:
/// any handler for SIGXFSZ does that, and tokio's stays in place when its runtime is gone.
fn keep_file_size_signal_away() -> Result<(), Failure> {
    let listen = || -> io::Result<()> {
        // What tokio opens for signals; without enough descriptors it panics.
        drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _guard = runtime.enter();
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
    };
    listen().map_err(|error| Failure::io("cannot handle the signal SIGXFSZ", error))
}
