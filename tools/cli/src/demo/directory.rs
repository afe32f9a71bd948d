//! The fresh directory of one demonstration: made, and removed again whatever happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// How many names are tried in the temporary directory.
const NAMES_MAX: u32 = 100;

/// A directory that goes when this does.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// `wanted`, which is empty or not there; else a new one under the temporary directory.
    pub(super) fn make(wanted: Option<&Path>) -> Result<Self, Failure> {
        let failed = |path: &Path, error| Failure::create(format!("cannot make {}", path.display()), error);
        let Some(path) = wanted else {
            return Self::make_temporary().map_err(|error| failed(&std::env::temp_dir(), error));
        };
        let path = std::path::absolute(path).map_err(|error| failed(path, error))?;
        match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                let sentence = format!(
                    "--dir is {}, which is not empty: everything in it would be removed at the end; name an empty one",
                    path.display()
                );
                return Err(Failure::new(Exit::Usage, sentence));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&path).map_err(|error| failed(&path, error))?;
            }
            Err(error) => return Err(failed(&path, error)),
        }
        Ok(Self { path })
    }

    fn make_temporary() -> io::Result<Self> {
        let process = std::process::id();
        let mut attempt = 0;
        loop {
            let path = std::env::temp_dir().join(format!("forebay-demo-{process}-{attempt}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES_MAX => {
                    attempt += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the directory; again where somebody made a file in it meanwhile. What stays is told.
pub(super) fn remove(path: &Path) {
    let removed = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        crate::emit::note(format_args!("{} stays: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_afterwards_and_never_takes_what_was_there() {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("a/b");
        let scratch = Scratch::make(Some(&path)).unwrap();
        fs::write(scratch.path().join("slot"), "x").unwrap();
        let refused = Scratch::make(Some(&path)).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        drop(scratch);
        assert!(!path.exists() && outside.path().exists());
    }

    #[test]
    fn two_at_once_are_two() {
        let (one, two) = (Scratch::make(None).unwrap(), Scratch::make(None).unwrap());
        assert_ne!(one.path(), two.path());
    }
}
