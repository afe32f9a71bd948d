//! Forebay beside other logs and stores: the same records, the same barriers, the same file system, and durability that
//! is equal because the kernel was asked.
//!
//! Owns the command line and the order of things: prove, race, report. See `docs/BENCHMARKS.md`, "Rivals".

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::contestants::{ENTRANTS, Entrant, Terms};
use crate::place::Place;
use crate::race::{Plan, Row};
use crate::workload::Workload;

mod contestants;
mod lap;
mod place;
mod plot;
mod proof;
mod race;
mod report;
mod spread;
mod stop;
mod workload;

/// What fails ends a lap or the run, and is told in one sentence.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Races Forebay against other logs and stores, at equal durability.
#[derive(Debug, Parser)]
#[command(version, after_help = names())]
struct Arguments {
    #[command(subcommand)]
    lap: Option<Lap>,
    /// Records of a grouped lap; a single lap has a 1,000th, a lap of threads a 250th of them
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(4_000..=100_000_000))]
    records: u64,
    /// Laps of each contestant in each workload
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    laps: u16,
    /// Where the laps' directories are made and removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Only these contestants
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD,...")]
    workload: Vec<Workload>,
    #[arg(long, default_value = "text")]
    output: Output,
    /// Writes a bar plot (SVG) as well
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Only counts the syncs of each contestant, and says who is refused
    #[arg(long, conflicts_with = "no_proof")]
    prove: bool,
    /// Races without counting syncs before; the table says so
    #[arg(long)]
    no_proof: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Lap {
    /// One lap in the working directory; what the runner starts
    #[command(hide = true)]
    Lap { name: String, workload: Workload, appends: u64 },
}

fn names() -> String {
    let names: Vec<&str> = ENTRANTS.iter().map(|entrant| entrant.name).collect();
    format!("Contestants: {}", names.join(", "))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.lap {
        Some(Lap::Lap { name, workload, appends }) => run_lap(name, *workload, *appends),
        None => run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_lap(name: &str, workload: Workload, appends: u64) -> Result<ExitCode> {
    let directory = std::env::current_dir()?;
    let outcome = lap::run(entrant(name)?, &Terms { directory: &directory, workload, appends })?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    stop::listen()?;
    let place = Place::look(&arguments.dir, arguments.records)?;
    let scratch = tempfile::Builder::new().prefix("rivals-").tempdir_in(&arguments.dir)?;
    let path = scratch.path().canonicalize()?;
    let plan = Plan {
        records: arguments.records,
        laps: if arguments.prove { 0 } else { arguments.laps },
        proves: !arguments.no_proof,
    };
    let mut rows = rows(arguments)?;
    race::run(&plan, &mut rows, &path, &place)?;
    scratch.close()?;
    match arguments.output {
        Output::Text => print!("{}", report::text(&plan, &rows, &place)),
        Output::Json => println!("{:#}", report::json(&plan, &rows, &place)),
    }
    if let Some(file) = &arguments.plot {
        write(file, &plot::svg(&rows))?;
    }
    // A row that is missing without its being known beforehand is a failed run.
    let failed = rows.iter().any(Row::has_failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(file: &Path, text: &str) -> Result<()> {
    Ok(std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?)
}

fn entrant(name: &str) -> Result<&'static Entrant> {
    let found = ENTRANTS.iter().find(|entrant| entrant.name == name);
    Ok(found.ok_or_else(|| format!("no contestant named `{name}`. {}", names()))?)
}

fn rows(arguments: &Arguments) -> Result<Vec<Row>> {
    let only = arguments.only.iter().map(|name| entrant(name)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for workload in Workload::ALL {
        if !arguments.workload.is_empty() && !arguments.workload.contains(&workload) {
            continue;
        }
        let wanted = |entrant: &&Entrant| {
            let named = only.is_empty() || only.iter().any(|wanted| wanted.name == entrant.name);
            named && entrant.workloads.contains(&workload)
        };
        rows.extend(ENTRANTS.iter().filter(wanted).map(|entrant| Row::new(entrant, workload)));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_and_workload_choose_rows() {
        let of = |words: &[&str]| rows(&Arguments::parse_from(words)).map(|rows| rows.len());
        assert_eq!(of(&["rivals", "--only", "forebay,okaywal", "--workload", "single,threads"]).unwrap(), 4);
        assert_eq!(of(&["rivals", "--only", "yaque", "--workload", "threads"]).unwrap(), 0);
        assert!(
            of(&["rivals", "--only", "yak"]).unwrap_err().to_string().contains("no contestant named `yak`")
        );
    }
}
