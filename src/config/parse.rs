//! From the text of a file to a [`Config`]: every error with file, line, column and the way out.
//!
//! Pure: the text and the overrides are arguments. Knows TOML and [`FIELDS`], no range and no default.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::check::Complaint;
use super::fields::{self, FIELDS, Field, Given};
use super::{Config, SpillMode, hint};
use crate::error::{Error, Kind, Result};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, at this line (the first is 1).
    File {
        /// The line.
        line: usize,
    },
    /// An override: an environment variable or a flag.
    Override,
}

/// One setting as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its path, dots between the tables.
    pub key: &'static str,
    /// Its value as it would stand in the file; `None` when it is settled at open (see [`Config::sizes`]).
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl Config {
    /// Reads and checks the text of a configuration file; `file_name` is for errors.
    ///
    /// # Errors
    /// [`Kind::Config`] with file, line, column, the key, and what would be right.
    pub fn parse(text: &str, file_name: &str) -> Result<Self> {
        Self::parse_with(text, file_name, &[])
    }

    /// As [`Config::parse`], with overrides (`("queue.spill_threshold", "0.8")`) over what the file says.
    ///
    /// # Errors
    /// As [`Config::parse`]; an override is named instead of a line.
    pub fn parse_with(text: &str, file_name: &str, overrides: &[(String, String)]) -> Result<Self> {
        Self::parse_with_origins(text, file_name, overrides).map(|(config, _)| config)
    }

    /// As [`Config::parse_with`], and where each value came from, in the order of the default file.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse_with_origins(
        text: &str,
        file_name: &str,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<Setting>)> {
        let mut reading = Reading::new(text, file_name);
        reading.file()?;
        for (key, value) in overrides {
            reading.set(key, Given::Untyped(value), Place::Override)?;
        }
        reading.no_contradiction()?;
        if reading.place_of("dir").is_none() {
            return Err(Error::new(
                Kind::Config,
                format!("{file_name}: `dir` is not set; write dir = \"/var/lib/forebay\" at the top"),
            ));
        }
        reading.config.complaint().map_or(Ok(()), |complaint| Err(reading.complain(&complaint)))?;
        let settings = reading.settings();
        Ok((reading.config, settings))
    }
}

/// Where in the input a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The key, in bytes from the start of the text.
    File(Range<usize>),
    Override,
}

struct Reading<'a> {
    text: &'a str,
    file_name: &'a str,
    config: Config,
    places: Vec<(&'static str, Place)>,
}

impl<'a> Reading<'a> {
    fn new(text: &'a str, file_name: &'a str) -> Self {
        Self { text, file_name, config: Config::new(""), places: Vec::new() }
    }

    fn file(&mut self) -> Result<()> {
        let text = self.text;
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.error(error.span().unwrap_or(0..0), &message)
        })?;
        self.table("", table.get_ref())
    }

    /// Walks one table; `prefix` is its path with a dot at the end, empty at the top.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<()> {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            let place = key.span();
            let section = format!("{path}.");
            if let DeValue::Table(inside) = value.get_ref()
                && prefix.is_empty()
                && FIELDS.iter().any(|field| field.path.starts_with(&section))
            {
                if path == "sink" {
                    fields::sink(&mut self.config);
                }
                self.table(&section, inside)?;
                continue;
            }
            if path == "sink" || path == "sinks" {
                let message = "must be one table `[sink]`; several destinations come with a later version";
                return Err(self.error(place, &format!("`{path}` {message}")));
            }
            self.set(&path, given(value.get_ref()), Place::File(place))?;
        }
        Ok(())
    }

    fn set(&mut self, path: &str, given: Given<'_>, place: Place) -> Result<()> {
        let Some(field) = FIELDS.iter().find(|field| field.path == path) else {
            return Err(self.error_at(&place, &hint::unknown(path), path));
        };
        (field.set)(&mut self.config, given)
            .map_err(|what| self.error_at(&place, &format!("`{path}` {what}"), path))?;
        self.places.retain(|(key, _)| *key != field.path);
        self.places.push((field.path, place));
        Ok(())
    }

    /// `spill` and its alias must not say different things in one file; an override wins over the file.
    fn no_contradiction(&mut self) -> Result<()> {
        let (Some(spill), Some(alias)) = (self.place_of("spill"), self.place_of("spill_to_disk")) else {
            return Ok(());
        };
        if let (Place::File(_), Place::File(span)) = (spill, alias) {
            let message = "`spill_to_disk` is another word for `spill`; keep one of the two";
            return Err(self.error(span.clone(), message));
        }
        Ok(())
    }

    fn place_of(&self, key: &str) -> Option<&Place> {
        self.places.iter().find(|(known, _)| *known == key).map(|(_, place)| place)
    }

    fn complain(&self, complaint: &Complaint) -> Error {
        match self.place_of(complaint.key) {
            Some(place) => self.error_at(place, &complaint.sentence, complaint.key),
            None => Error::new(Kind::Config, format!("{}: {}", self.file_name, complaint.sentence)),
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let always = self.config.spill == SpillMode::Always;
        let alias = self.place_of("spill_to_disk").filter(|_| always);
        let shown = FIELDS.iter().filter(|field| field.path != "spill_to_disk");
        let of_sinks = |field: &&Field| !field.path.starts_with("sink.") || !self.config.sinks.is_empty();
        shown
            .filter(of_sinks)
            .map(|field| {
                let place = self.place_of(field.path).or(alias.filter(|_| field.path == "spill"));
                Setting { key: field.path, value: (field.show)(&self.config), origin: self.origin(place) }
            })
            .collect()
    }

    fn origin(&self, place: Option<&Place>) -> Origin {
        match place {
            None => Origin::Default,
            Some(Place::Override) => Origin::Override,
            Some(Place::File(span)) => Origin::File { line: line_and_column(self.text, span.start).0 },
        }
    }

    fn error_at(&self, place: &Place, message: &str, key: &str) -> Error {
        match place {
            Place::File(span) => self.error(span.clone(), message),
            Place::Override => Error::new(Kind::Config, format!("override of `{key}`: {message}")),
        }
    }

    fn error(&self, span: Range<usize>, message: &str) -> Error {
        let (line, column) = line_and_column(self.text, span.start);
        Error::new(Kind::Config, format!("{}:{line}:{column}: {message}", self.file_name))
    }
}

fn given<'v>(value: &'v DeValue<'_>) -> Given<'v> {
    match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Integer(number) if number.radix() == 10 => Given::Number(number.as_str()),
        DeValue::Integer(_) => Given::Other("integer that isn't decimal"),
        DeValue::Float(number) => Given::Number(number.as_str()),
        DeValue::Boolean(value) => Given::Boolean(*value),
        other => Given::Other(other.type_str()),
    }
}

/// Line and column of a byte, both from 1; the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
