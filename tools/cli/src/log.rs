//! The log: what the library traces, on stderr, as text or as JSON. Only the command installs a subscriber.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{Global, LogFormat};
use crate::exit::{Exit, Failure};

/// Installs the subscriber of this process; call it once, before anything is traced.
/// `level` holds where none was asked for.
pub(crate) fn install(global: &Global, level: &str) -> Result<(), Failure> {
    let level = global.log_level.as_deref().unwrap_or(level);
    let subscriber = subscriber(global.log_format, level, Stderr)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::new(Exit::Io, format!("the log is set up twice: {error}")))
}

fn subscriber<W>(format: LogFormat, level: &str, writer: W) -> Result<Subscriber, Failure>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(level).map_err(|_| {
        let range = "error, warn, info, debug, trace, off, or by module such as forebay=debug,warn";
        Failure::new(Exit::Usage, format!("--log-level is \"{level}\"; it must be {range}"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Text => {
            Arc::new(builder.with_ansi(io::stderr().is_terminal()).with_target(false).finish())
        }
        LogFormat::Json => Arc::new(builder.json().flatten_event(true).with_target(false).finish()),
    })
}

type Subscriber = Arc<dyn tracing::Subscriber + Send + Sync>;

/// Standard error; where it is gone there is nobody left to tell, and nothing else shall fail for it.
struct Stderr;

impl<'w> MakeWriter<'w> for Stderr {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str) -> String {
        let shared = Shared::default();
        let writer = shared.clone();
        let subscriber = subscriber(format, level, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(records = 7, "spilling");
            tracing::debug!("a detail");
        });
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_an_object_a_line_with_its_fields() {
        let text = logged(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["records"]), (&"spilling".into(), &7.into()));
    }

    #[test]
    fn the_level_holds() {
        assert_eq!(logged(LogFormat::Text, "warn"), "");
        assert_eq!(logged(LogFormat::Text, "info").lines().count(), 1);
        assert_eq!(logged(LogFormat::Text, "debug").lines().count(), 2);
    }

    #[test]
    fn a_level_that_is_none_is_wrong_usage() {
        let failure = subscriber(LogFormat::Text, "lots=of=noise", io::sink).err().unwrap();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
