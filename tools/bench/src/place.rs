//! The directory that a bench works in: refused where something is in it, empty again whatever happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use forebay::config::DirectIo;
use forebay::io::Disk as _;
use forebay::io::real::RealDisk;
use forebay::{Error, Kind, Result};

/// What a file system is left with beside what a bench takes, in bytes.
const ROOM_LEFT: u64 = 64 << 20;

/// A directory with nothing in it but what the bench makes.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// The directory was not there before.
    is_ours: bool,
}

impl Place {
    /// Takes `dir`, which is empty or not there, if its file system has room for `bytes`.
    pub(crate) fn take(dir: &Path, bytes: u64) -> Result<Self> {
        let failed = |error| {
            Error::io(format!("{} can't be made or read: name another directory", dir.display()), error)
        };
        let path = std::path::absolute(dir).map_err(failed)?;
        let is_ours = match fs::read_dir(&path) {
            Ok(entries) => {
                let names: io::Result<Vec<_>> =
                    entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
                refuse_content(dir, &names.map_err(failed)?)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(failed)?;
                true
            }
            Err(error) => return Err(failed(error)),
        };
        let place = Self { path, is_ours };
        place.check_room(bytes)?;
        Ok(place)
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        let free = RealDisk::open(&self.path, DirectIo::Off).and_then(|disk| disk.free_bytes());
        let free =
            free.map_err(|error| Error::io(format!("{} can't be looked at", self.path.display()), error))?;
        if free < bytes + ROOM_LEFT {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let sentence = format!(
                "{} has {} MiB free and this run takes {} MiB: name another disk, or ask for fewer records",
                self.path.display(),
                free >> 20,
                mib(bytes + ROOM_LEFT)
            );
            return Err(Error::new(Kind::NoSpace, sentence));
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, which is made by who uses it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn refuse_content(dir: &Path, names: &[std::ffi::OsString]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let is_store = names.iter().any(|name| name == "state" || name.to_string_lossy().starts_with("slot-"));
    let what = if is_store { "is a store" } else { "is not empty" };
    let sentence = format!(
        "{} {what}, and a bench overwrites and removes what is in it: name an empty directory",
        dir.display()
    );
    Err(Error::new(Kind::Config, sentence))
}

/// Removes a directory of the bench's own making; once it is gone already, nothing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("{} can't be removed", path.display()), error))
        }
        _ => Ok(()),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            // Files too: a device that was refused half-way may leave one.
            let _ = remove(&entry.path())
                .or_else(|_| fs::remove_file(entry.path()).map_err(|error| Error::io("", error)));
        }
        if self.is_ours {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_refused_and_stays() {
        let outside = tempfile::tempdir().unwrap();
        for (name, word) in [("notes.txt", "is not empty"), ("state", "is a store")] {
            let dir = outside.path().join(name.replace('.', "-"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(name), "x").unwrap();
            let refused = Place::take(&dir, 0).unwrap_err();
            assert_eq!(refused.kind(), Kind::Config);
            assert!(refused.to_string().contains(word), "{refused}");
            assert!(dir.join(name).exists());
        }
    }

    #[test]
    fn what_it_made_is_gone_afterwards() {
        let outside = tempfile::tempdir().unwrap();
        let (there, made) = (outside.path().join("there"), outside.path().join("made"));
        fs::create_dir(&there).unwrap();
        for dir in [&there, &made] {
            let place = Place::take(dir, 0).unwrap();
            fs::create_dir(place.join("store")).unwrap();
            fs::write(place.join("store/slot"), "x").unwrap();
            fs::write(place.join("file"), "x").unwrap();
        }
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        assert!(!made.exists());
    }

    #[test]
    fn a_disk_without_room_is_named_before_anything_is_written() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("made");
        let refused = Place::take(&dir, 1 << 60).unwrap_err();
        assert_eq!(refused.kind(), Kind::NoSpace);
        assert!(!dir.exists());
    }
}
