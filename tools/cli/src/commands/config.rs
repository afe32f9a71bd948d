//! `forebay config`: is this file right, what holds and why, and every setting there is.

use std::io::{self, Write as _};
use std::path::PathBuf;

use forebay::Config;
use forebay::config::{Origin, Setting};
use serde_json::{Map, Value, json};

use crate::args::{Global, Output};
use crate::environment;
use crate::exit::{Done, Exit, Failure};

/// Commands under `forebay config`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Say whether a file is right; where not, the line, the column and what would be
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Print every setting as it holds, the environment included
    Show {
        /// The configuration; without it, the defaults
        file: Option<PathBuf>,
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
    },
    /// Print a commented file with every default
    Default,
}

/// Does it.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    match args {
        Args::Check { file } => check(&file, global.output),
        Args::Show { file, origin } => show(file.as_deref(), origin, global.output),
        Args::Default => print(Config::default_toml()),
    }
}

fn check(file: &std::path::Path, output: Output) -> Done {
    let name = file.display().to_string();
    let (config, _) = environment::load(file)?;
    config.check_agent().map_err(|error| Failure::new(Exit::Usage, format!("{name}: {error}")))?;
    match output {
        Output::Text => print(&format!("{name} is right\n")),
        Output::Json => print(&format!("{}\n", json!({ "file": name, "ok": true }))),
    }
}

fn show(file: Option<&std::path::Path>, origin: bool, output: Output) -> Done {
    let settings = match file {
        Some(file) => environment::load(file)?.1,
        None => defaults()?,
    };
    print(&match output {
        Output::Text => as_text(&settings, origin),
        Output::Json => as_json(&settings, origin)?,
    })
}

/// What holds where there is no file.
fn defaults() -> Result<Vec<Setting>, Failure> {
    let mut overrides = environment::overrides()?;
    let dir_is_set = overrides.iter().any(|(key, _)| key == "dir");
    if !dir_is_set {
        overrides.push(("dir".into(), "/var/lib/forebay".into()));
    }
    let (_, mut settings) = Config::parse_with_origins("", "defaults", &overrides)?;
    if !dir_is_set {
        let dir = settings.iter_mut().filter(|setting| setting.key == "dir");
        dir.for_each(|setting| setting.origin = Origin::Default);
    }
    Ok(settings)
}

fn origin_name(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".into(),
        Origin::File { line } => format!("file, line {line}"),
        Origin::Override => "environment".into(),
    }
}

fn as_text(settings: &[Setting], origin: bool) -> String {
    let mut text = String::new();
    for setting in settings {
        let line = match &setting.value {
            Some(value) => format!("{} = {value}", setting.key),
            None => format!("# {} is settled at open", setting.key),
        };
        let comment = if origin { format!("# {}", origin_name(&setting.origin)) } else { String::new() };
        text.push_str(format!("{line:<52} {comment}").trim_end());
        text.push('\n');
    }
    text
}

fn as_json(settings: &[Setting], origin: bool) -> Result<String, Failure> {
    let mut all = Map::new();
    for setting in settings {
        let value = setting.value.as_deref().map_or(Ok(Value::Null), value_of)?;
        let entry =
            if origin { json!({ "value": value, "origin": origin_name(&setting.origin) }) } else { value };
        all.insert(setting.key.into(), entry);
    }
    Ok(format!("{}\n", Value::Object(all)))
}

/// A TOML value as JSON.
fn value_of(text: &str) -> Result<Value, Failure> {
    let unreadable = |error: String| Failure::new(Exit::Io, format!("cannot show the value {text}: {error}"));
    let table: toml::Table =
        toml::from_str(&format!("value = {text}")).map_err(|error| unreadable(error.to_string()))?;
    serde_json::to_value(&table["value"]).map_err(|error| unreadable(error.to_string()))
}

fn print(text: &str) -> Done {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_names_every_setting_and_its_origin() {
        let (_, settings) = Config::parse_with_origins(Config::default_toml(), "f", &[]).unwrap();
        let text = as_text(&settings, true);
        assert_eq!(text.lines().count(), settings.len());
        assert!(
            text.lines()
                .any(|line| line.starts_with("queue.bytes = \"64MiB\"") && line.contains("file, line"))
        );
        let json: Value = serde_json::from_str(&as_json(&settings, true).unwrap()).unwrap();
        assert_eq!(json["queue.spill_threshold"]["value"], 0.8);
        assert_eq!(json["disk_bytes_cap"]["origin"], "default");
    }
}
