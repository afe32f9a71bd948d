//! Settings from the environment: `FOREBAY__QUEUE__SPILL_THRESHOLD=0.8` is `queue.spill_threshold`.
//!
//! The only place that reads them; the library takes them as arguments.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use forebay::config::Setting;
use forebay::{Config, Error, Kind};

use crate::exit::Failure;

const PREFIX: &str = "FOREBAY__";

/// The overrides that the environment holds, in the order of their names.
pub(crate) fn overrides() -> Result<Vec<(String, String)>, Failure> {
    overrides_in(std::env::vars_os())
}

/// Reads a configuration file under the overrides of the environment, and where each value came from.
pub(crate) fn load(path: &Path) -> Result<(Config, Vec<Setting>), Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&name, error))?;
    Ok(Config::parse_with_origins(&text, &name, &overrides()?)?)
}

/// What is no file of text is a wrong argument, not a failing device.
fn unreadable(name: &str, error: io::Error) -> Failure {
    let wrong = match error.kind() {
        io::ErrorKind::IsADirectory => "is a directory: name the file in it",
        io::ErrorKind::InvalidData => "is no UTF-8 text: name a TOML file",
        _ => return Failure::io(format!("cannot read the configuration {name}"), error),
    };
    Error::new(Kind::Config, format!("the configuration {name} {wrong}")).into()
}

fn overrides_in(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(path) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let key = path.to_lowercase().replace("__", ".");
        let value = value.into_string().map_err(|_| {
            let sentence = format!("the environment variable {PREFIX}{path} is no UTF-8");
            Failure::from(Error::new(Kind::Config, sentence))
        })?;
        found.push((key, value));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_underscores_are_a_dot_and_others_are_left_alone() {
        let variables = [
            ("FOREBAY__QUEUE__SPILL_THRESHOLD", "0.8"),
            ("FOREBAY__DIR", "/x"),
            ("FOREBAY_COMMIT", "y"),
            ("HOME", "/"),
        ];
        let found = overrides_in(variables.iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
        let expected = [("dir", "/x"), ("queue.spill_threshold", "0.8")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
