//! What may stand on the command line, typed. `--help`, the man page and the completions come from here.
//!
//! A new command takes four lines: its `mod` in `commands/mod.rs`, its variant here, its arm in
//! [`Command::run`]; its flags and its `run` lie in its own file.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use forebay::config::units::{self, Bare};

use crate::commands;
use crate::exit::Done;

/// Version, commit, and the version of the bytes on disk.
pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("FOREBAY_COMMIT"), ", format 1)");
/// The commit that was built.
pub(crate) const COMMIT: &str = env!("FOREBAY_COMMIT");
const _: () = assert!(forebay::limits::FORMAT_VERSION == 1, "VERSION names the format");

/// A pool between telemetry agents and their central: records flow through memory while the central keeps
/// up, spill to disk when it does not, and drain at a governed rate when it is back.
#[derive(Debug, Parser)]
#[command(name = "forebay", version = VERSION, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 the answer is \"no\"; 2 wrong usage or configuration; \
    69 a needed service or kernel feature is missing; 73 cannot create; 74 I/O error; \
    75 try again (locked, disk full); 77 no permission.")]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command knows.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// How reports are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub(crate) output: Output,
    /// How the log is printed, on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info (the default; `demo` and `bench`: warn), debug, trace, or by module
    /// (`forebay=debug,warn`)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// How the log is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Append standard input to a store, a record a line
    Append(commands::append::Args),
    /// Print every record of a store that is durable and not yet trimmed
    Read(commands::read::Args),
    /// Print a destination's records, and confirm what was printed
    Drain(commands::drain::Args),
    /// Read everything, check every checksum, the sequences and the ledger
    Verify(commands::verify::Args),
    /// Show what lies in a store's directory
    Inspect(commands::inspect::Args),
    /// The whole story on this machine: samples, an outage, spill, reconnect, governed backfill
    Demo(commands::demo::Args),
    /// The sidecar: takes records in, keeps them, and sends them on
    Agent(commands::agent::Args),
    /// How a running agent stands
    Status(commands::status::Args),
    /// Measure the engine beside the raw device, in one run
    #[command(subcommand)]
    Bench(commands::bench::Args),
    /// A central for trying things out
    Central(commands::central::Args),
    /// Check, show or print a configuration
    #[command(subcommand)]
    Config(commands::config::Args),
    /// Print the completions for a shell
    Completions(commands::completions::Args),
    /// Print the man page
    Man,
}

impl Command {
    /// What is logged where nobody says: the demonstration and the benches tell what happens themselves.
    pub(crate) fn log_level(&self) -> &'static str {
        if matches!(self, Self::Demo(_) | Self::Bench(_)) { "warn" } else { "info" }
    }

    /// Does it.
    pub(crate) fn run(self, global: &Global) -> Done {
        match self {
            Self::Append(args) => commands::append::run(args, global),
            Self::Read(args) => commands::read::run(args, global),
            Self::Drain(args) => commands::drain::run(args, global),
            Self::Verify(args) => commands::verify::run(args, global),
            Self::Inspect(args) => commands::inspect::run(args, global),
            Self::Demo(args) => commands::demo::run(args, global),
            Self::Agent(args) => commands::agent::run(args, global),
            Self::Status(args) => commands::status::run(args, global),
            Self::Bench(args) => commands::bench::run(args, global),
            Self::Central(args) => commands::central::run(args, global),
            Self::Config(args) => commands::config::run(args, global),
            Self::Completions(args) => commands::completions::run(&args),
            Self::Man => commands::man::run(),
        }
    }
}

/// A size for clap: a bare number is bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    units::parse_bytes(text, Bare::Allowed)
}

/// A duration for clap: with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_flag_has_a_help() {
        fn all(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            for inside in command.get_subcommands() {
                assert!(inside.get_about().is_some(), "{}", inside.get_name());
                all(inside);
            }
        }
        all(&Cli::command());
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["forebay", "config", "default", "--output", "json"]).unwrap();
        assert_eq!(cli.global.output, Output::Json);
    }
}
