//! Every key of the file once: its path, how its value is read into [`Config`] and shown again.
//!
//! Pure. The parser, `config show` and the overrides all walk [`FIELDS`], so none can know a key that
//! another does not. Ranges are not checked here but in `check`.

use std::path::PathBuf;
use std::time::Duration;

use super::units::{self, Bare};
use super::{
    Answer, Config, DirectIo, FullPolicy, OnDamage, Order, SinkConfig, SinkKind, SpillMode, SyncPolicy,
};
use crate::io::{Backend, SyncMethod};

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    /// A TOML string.
    Text(&'a str),
    /// A TOML integer or float, as written.
    Number(&'a str),
    /// A TOML boolean.
    Boolean(bool),
    /// An override: text that has no type yet.
    Untyped(&'a str),
    /// Anything else, by TOML's name for it.
    Other(&'static str),
}

/// One key.
pub(super) struct Field {
    /// Its path, dots between the tables.
    pub path: &'static str,
    /// Reads a value into its place, or says what is wrong with it (a sentence without a subject).
    pub set: fn(&mut Config, Given<'_>) -> Result<(), String>,
    /// The value as it would stand in the file; `None` when it is not set or there is no such sink.
    pub show: fn(&Config) -> Option<String>,
}

macro_rules! field {
    ($path:literal, $kind:ident, $($place:tt)+) => {
        Field {
            path: $path,
            set: |config, given| { config.$($place)+ = $kind::read(given)?; Ok(()) },
            show: |config| $kind::show(&config.$($place)+),
        }
    };
}

macro_rules! sink_field {
    ($path:literal, $kind:ident, $name:ident) => {
        Field {
            path: $path,
            set: |config, given| {
                sink(config).$name = $kind::read(given)?;
                Ok(())
            },
            show: |config| config.sinks.first().and_then(|sink| $kind::show(&sink.$name)),
        }
    };
}

/// Every key there is, in the order of the default file.
pub(super) const FIELDS: &[Field] = &[
    field!("dir", path, dir),
    field!("spill", spill, spill),
    Field { path: "spill_to_disk", set: set_spill_to_disk, show: |_| None },
    field!("sync", sync, sync),
    field!("disk_bytes_cap", optional_bytes, disk_bytes_cap),
    field!("on_damage", on_damage, on_damage),
    field!("queue.records", count, queue.records),
    field!("queue.bytes", bytes, queue.bytes),
    field!("queue.spill_threshold", ratio, queue.spill_threshold),
    field!("queue.resume_threshold", ratio, queue.resume_threshold),
    field!("queue.full", full, queue.full),
    field!("disk.segment_bytes", optional_bytes, disk.segment_bytes),
    field!("disk.free_bytes_min", bytes, disk.free_bytes_min),
    field!("disk.warm_bytes", optional_bytes, disk.warm_bytes),
    field!("disk.direct_io", direct_io, disk.direct_io),
    field!("write.batch_bytes", bytes, write.batch_bytes),
    field!("write.depth", count, write.depth),
    field!("write.batch_linger_unawaited", duration, write.batch_linger_unawaited),
    field!("write.record_bytes_max", optional_bytes, write.record_bytes_max),
    field!("write.sync_method", sync_method, write.sync_method),
    field!("write.backend", backend, write.backend),
    field!("governor.factor", ratio, governor.factor),
    field!("governor.burst", duration, governor.burst),
    field!("governor.window", duration, governor.window),
    field!("governor.floor_records_per_second", count, governor.floor_records_per_second),
    field!("governor.floor_bytes_per_second", bytes, governor.floor_bytes_per_second),
    field!("backoff.min", duration, backoff.min),
    field!("backoff.max", duration, backoff.max),
    field!("ingest.http", optional_text, ingest.http),
    field!("ingest.tcp", optional_text, ingest.tcp),
    field!("ingest.unix", optional_path, ingest.unix),
    field!("ingest.stdin", boolean, ingest.stdin),
    field!("ingest.answer", answer, ingest.answer),
    field!("ingest.key_field", text, ingest.key_field),
    sink_field!("sink.name", text, name),
    sink_field!("sink.kind", sink_kind, kind),
    sink_field!("sink.url", text, url),
    sink_field!("sink.order", order, order),
    sink_field!("sink.batch_records", count, batch_records),
    sink_field!("sink.batch_bytes", bytes, batch_bytes),
    sink_field!("sink.timeout", duration, timeout),
    field!("admin.listen", optional_text, admin.listen),
];

/// The one sink; made when the file first speaks of it.
pub(super) fn sink(config: &mut Config) -> &mut SinkConfig {
    if config.sinks.is_empty() {
        config.sinks.push(SinkConfig::default());
    }
    &mut config.sinks[0]
}

fn set_spill_to_disk(config: &mut Config, given: Given<'_>) -> Result<(), String> {
    config.spill = if boolean::read(given)? { SpillMode::Always } else { SpillMode::Threshold };
    Ok(())
}

/// The string in it, or what was given instead.
fn text_of<'a>(given: Given<'a>, wanted: &str) -> Result<&'a str, String> {
    match given {
        Given::Text(text) | Given::Untyped(text) => Ok(text),
        Given::Number(number) => Err(format!("must be {wanted}, not the number {number}")),
        Given::Boolean(value) => Err(format!("must be {wanted}, not {value}")),
        Given::Other(kind) => Err(format!("must be {wanted}, not a TOML {kind}")),
    }
}

fn quoted(text: impl std::fmt::Display) -> Option<String> {
    Some(toml::Value::String(text.to_string()).to_string())
}

/// A kind of value that is one of a few words.
macro_rules! words {
    ($kind:ident, $type:ty, $($word:literal => $value:expr),+ ; $($later:literal),*) => {
        mod $kind {
            use super::*;

            const WORDS: &[(&str, $type)] = &[$(($word, $value)),+];
            const LATER: &[&str] = &[$($later),*];

            pub(super) fn read(given: Given<'_>) -> Result<$type, String> {
                let known = WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
                let wanted = if WORDS.len() == 1 { known } else { format!("one of {known}") };
                let text = text_of(given, &wanted)?;
                if LATER.contains(&text) {
                    return Err(format!("is \"{text}\", which comes with a later version; today it must be {wanted}"));
                }
                let found = WORDS.iter().find(|(word, _)| *word == text);
                found.map(|(_, value)| *value).ok_or_else(|| format!("must be {wanted}, not \"{text}\""))
            }

            pub(super) fn show(value: &$type) -> Option<String> {
                WORDS.iter().find(|(_, known)| known == value).and_then(|(word, _)| quoted(word))
            }
        }
    };
}

words!(spill, SpillMode, "threshold" => SpillMode::Threshold, "always" => SpillMode::Always;);
words!(on_damage, OnDamage, "gap" => OnDamage::Gap, "stop" => OnDamage::Stop;);
words!(full, FullPolicy, "drop_oldest" => FullPolicy::DropOldest, "drop_newest" => FullPolicy::DropNewest,
    "block" => FullPolicy::Block, "reject" => FullPolicy::Reject;);
words!(direct_io, DirectIo, "auto" => DirectIo::Auto, "require" => DirectIo::Require, "off" => DirectIo::Off;);
words!(sync_method, SyncMethod, "auto" => SyncMethod::Auto, "fdatasync" => SyncMethod::Fdatasync,
    "fdatasync-thread" => SyncMethod::FdatasyncThread, "dsync" => SyncMethod::Dsync;);
words!(backend, Backend, "auto" => Backend::Auto, "ring" => Backend::Ring, "blocking" => Backend::Blocking;);
words!(answer, Answer, "durable" => Answer::Durable, "written" => Answer::Written,
    "accepted" => Answer::Accepted;);
words!(sink_kind, SinkKind, "http" => SinkKind::Http, "stdout" => SinkKind::Stdout, "null" => SinkKind::Null;
    "nats", "relay");
words!(order, Order, "fifo" => Order::Fifo; "live-first");

mod text {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<String, String> {
        text_of(given, "a string").map(str::to_owned)
    }

    pub(super) fn show(value: &String) -> Option<String> {
        quoted(value)
    }
}

mod path {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<PathBuf, String> {
        text_of(given, "a path in quotes").map(PathBuf::from)
    }

    #[expect(clippy::ptr_arg, reason = "called by the field macro with the field's own type")]
    pub(super) fn show(value: &PathBuf) -> Option<String> {
        quoted(value.display())
    }
}

mod optional_text {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<Option<String>, String> {
        let text = text_of(given, "an address in quotes, or \"off\"")?;
        Ok((text != "off").then(|| text.to_owned()))
    }

    pub(super) fn show(value: &Option<String>) -> Option<String> {
        quoted(value.as_deref().unwrap_or("off"))
    }
}

mod optional_path {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<Option<PathBuf>, String> {
        Ok(optional_text::read(given)?.map(PathBuf::from))
    }

    pub(super) fn show(value: &Option<PathBuf>) -> Option<String> {
        value.as_ref().map_or_else(|| quoted("off"), path::show)
    }
}

mod boolean {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<bool, String> {
        match given {
            Given::Boolean(value) => Ok(value),
            Given::Untyped("true" | "1") => Ok(true),
            Given::Untyped("false" | "0") => Ok(false),
            Given::Other(kind) => Err(format!("must be true or false, not a TOML {kind}")),
            Given::Text(text) | Given::Number(text) | Given::Untyped(text) => {
                Err(format!("must be true or false, not `{text}`"))
            }
        }
    }

    pub(super) fn show(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

mod count {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<u64, String> {
        let (Given::Number(text) | Given::Untyped(text)) = given else {
            return Err("must be a whole number without quotes".into());
        };
        let plain: String = text.chars().filter(|c| *c != '_').collect();
        plain.parse().map_err(|_| format!("must be a whole number, not {text}"))
    }

    pub(super) fn show(value: &u64) -> Option<String> {
        Some(value.to_string())
    }
}

mod ratio {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<f64, String> {
        let (Given::Number(text) | Given::Untyped(text)) = given else {
            return Err("must be a number without quotes".into());
        };
        let plain: String = text.chars().filter(|c| *c != '_').collect();
        let value: f64 = plain.parse().map_err(|_| format!("must be a number, not {text}"))?;
        if value.is_finite() { Ok(value) } else { Err(format!("must be a finite number, not {text}")) }
    }

    pub(super) fn show(value: &f64) -> Option<String> {
        Some(format!("{value:?}"))
    }
}

mod bytes {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<u64, String> {
        match given {
            Given::Number(number) => Err(units::bytes_need_unit(number)),
            given => units::parse_bytes(text_of(given, "a size such as \"64MiB\"")?, Bare::Refused),
        }
    }

    pub(super) fn show(value: &u64) -> Option<String> {
        quoted(units::show_bytes(*value))
    }
}

mod optional_bytes {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<Option<u64>, String> {
        bytes::read(given).map(Some)
    }

    pub(super) fn show(value: &Option<u64>) -> Option<String> {
        value.as_ref().and_then(bytes::show)
    }
}

mod duration {
    use super::*;

    pub(super) fn read(given: Given<'_>) -> Result<Duration, String> {
        match given {
            Given::Number(number) => Err(units::duration_needs_unit(number)),
            given => units::parse_duration(text_of(given, "a duration such as \"250ms\"")?),
        }
    }

    pub(super) fn show(value: &Duration) -> Option<String> {
        quoted(units::show_duration(*value))
    }
}

mod sync {
    use super::*;

    const WANTED: &str = "\"group\", \"none\" or such as \"interval=50ms\"";

    pub(super) fn read(given: Given<'_>) -> Result<SyncPolicy, String> {
        let text = text_of(given, WANTED)?;
        match text {
            "group" => Ok(SyncPolicy::Group),
            "none" => Ok(SyncPolicy::None),
            _ => match text.strip_prefix("interval=") {
                Some(interval) => units::parse_duration(interval).map(SyncPolicy::Interval),
                None => Err(format!("must be {WANTED}, not \"{text}\"")),
            },
        }
    }

    pub(super) fn show(value: &SyncPolicy) -> Option<String> {
        match value {
            SyncPolicy::Group => quoted("group"),
            SyncPolicy::None => quoted("none"),
            SyncPolicy::Interval(interval) => {
                quoted(format_args!("interval={}", units::show_duration(*interval)))
            }
        }
    }
}

/// One word or value as the command line gives it: `std::str::FromStr` with a sentence without a subject.
macro_rules! from_word {
    ($($type:ty, $kind:ident);+ $(;)?) => {$(
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $kind::read(Given::Untyped(text))
            }
        }
    )+};
}

from_word!(SpillMode, spill; SyncPolicy, sync; OnDamage, on_damage; DirectIo, direct_io; Backend, backend;
    SyncMethod, sync_method; Answer, answer; SinkKind, sink_kind; Order, order);

impl std::str::FromStr for FullPolicy {
    type Err = String;

    /// As the file has it (`drop_oldest`) or as flags are written (`drop-oldest`).
    fn from_str(text: &str) -> Result<Self, String> {
        full::read(Given::Untyped(&text.replace('-', "_")))
    }
}
