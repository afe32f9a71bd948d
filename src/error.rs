//! What can go wrong, named by what the caller does next.
//!
//! An [`Error`] is one sentence (what, where, what to do) with a [`Kind`] to act on and, where the
//! kernel said something, its words as the source. `Display` never prints the source: whoever shows
//! an error to a person prints the chain. Expected results (a full queue) are enums, not errors.

use std::fmt;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Mend the configuration or the call.
    Config,
    /// Run on another kernel, file system or setting.
    Unsupported,
    /// Wait for the other process, or stop it.
    Locked,
    /// Send less at once.
    TooLarge,
    /// Free disk space; it heals by itself.
    NoSpace,
    /// Name the directory right, or make it.
    NotFound,
    /// Run as another user, or change the permissions.
    Permission,
    /// Look at the damage (`forebay verify`); the rest is served.
    Corrupt,
    /// The device failed; what was acked stays.
    Failed,
    /// The store was closed.
    Closed,
}

/// One sentence, its kind, and what lies under it.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    sentence: String,
    source: Option<std::sync::Arc<std::io::Error>>,
}

impl Error {
    /// An error of our own making.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), source: None }
    }

    /// An error of the operating system, its kind read off its number.
    pub fn io(sentence: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Kind::NoSpace,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Permission,
            ErrorKind::NotFound | ErrorKind::NotADirectory => Kind::NotFound,
            ErrorKind::Unsupported => Kind::Unsupported,
            _ => Kind::Failed,
        };
        Self { kind, sentence: sentence.into(), source: Some(std::sync::Arc::new(source)) }
    }

    /// What the caller does next.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
