//! How a command ends: its exit code, and one sentence on stderr where it failed.
//!
//! Scripts rely on the codes; the sentences are for people. A broken pipe is handled here, once: whoever
//! reads our output has seen enough (`forebay read | head`), so it ends the command with 0 and no word.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use forebay::Kind;

/// What a command comes back with.
pub(crate) type Done = Result<Exit, Failure>;

/// Every exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is "no".
    No = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// A needed service or kernel feature is missing.
    Unavailable = 69,
    /// A file or directory cannot be made.
    CannotCreate = 73,
    /// The device or the network failed.
    Io = 74,
    /// Try again: locked, or the disk is full.
    TryAgain = 75,
    /// No permission.
    Permission = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Config | Kind::TooLarge | Kind::NotFound => Self::Usage,
            Kind::Unsupported => Self::Unavailable,
            Kind::Locked | Kind::NoSpace => Self::TryAgain,
            Kind::Permission => Self::Permission,
            Kind::Corrupt => Self::No,
            _ => Self::Io,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    sentence: String,
}

impl Failure {
    /// A failure in our own words.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    /// A failure of the operating system; `sentence` says what was tried, and where.
    pub(crate) fn io(sentence: impl Into<String>, source: io::Error) -> Self {
        forebay::Error::io(sentence, source).into()
    }

    /// As [`Failure::io`], where the trying was to make something.
    pub(crate) fn create(sentence: impl Into<String>, source: io::Error) -> Self {
        let failure = Self::io(sentence, source);
        match failure.exit {
            Exit::Permission | Exit::TryAgain => failure,
            _ => Self { exit: Exit::CannotCreate, ..failure },
        }
    }

    /// The code to end with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<forebay::Error> for Failure {
    fn from(error: forebay::Error) -> Self {
        let mut sentence = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            if is_broken_pipe(cause) {
                return Self::new(Exit::Done, "");
            }
            sentence.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::new(error.kind().into(), sentence)
    }
}

/// Only for writing to our own stdout; everything else says where (see [`Failure::io`]).
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::io("cannot write to standard output", error)
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says what is to be said, and gives the code to end with.
pub(crate) fn conclude(done: Done) -> ExitCode {
    let exit = done.unwrap_or_else(|failure| {
        if failure.exit() != Exit::Done {
            // Where stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {failure}");
        }
        failure.exit()
    });
    exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_ends_with_the_code_of_the_contract() {
        for (kind, code) in [
            (Kind::Config, 2),
            (Kind::Unsupported, 69),
            (Kind::Failed, 74),
            (Kind::Locked, 75),
            (Kind::NoSpace, 75),
            (Kind::Permission, 77),
            (Kind::Corrupt, 1),
        ] {
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn a_broken_pipe_ends_with_zero_and_nothing_to_say() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.to_string().as_str()), (Exit::Done, ""));
    }

    #[test]
    fn the_chain_is_one_sentence() {
        let source = io::Error::other("the kernel's words");
        let failure = Failure::io("cannot read /x", source);
        assert_eq!(failure.to_string(), "cannot read /x: the kernel's words");
        assert_eq!(failure.exit(), Exit::Io);
    }

    #[test]
    fn what_cannot_be_made_keeps_the_better_code() {
        let exit = |kind: io::ErrorKind| Failure::create("cannot make /x", kind.into()).exit();
        assert_eq!(exit(io::ErrorKind::NotFound), Exit::CannotCreate);
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Permission);
        assert_eq!(exit(io::ErrorKind::StorageFull), Exit::TryAgain);
    }
}
