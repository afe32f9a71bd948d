//! Who may know whom: words <- io <- do, words <- decide, and only the composition knows both columns.
//!
//! The table below is the map of `src`. A file that it does not name fails, so that whoever adds one says
//! which column it belongs to.

use super::Tidied;
use super::code::paths_under;

/// A layer of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// What things are called: no files, no policy.
    Words,
    /// The seam to the kernel.
    Io,
    /// What stores.
    Do,
    /// What decides: pure, `now` and seeds are arguments.
    Decide,
    /// What composes both columns.
    Compose,
    /// The tour: re-exports.
    Tour,
}

use Layer::{Compose, Decide, Do, Io, Tour, Words};

/// Modules by path, the longest match counts. A folder stands for everything in it.
const ROOMS: [(&str, Layer); 30] = [
    ("lib", Tour),
    ("error", Words),
    ("limits", Words),
    ("position", Words),
    ("config", Words),
    ("record", Words),
    ("sink", Words),
    ("event", Words),
    ("clock", Words),
    ("gaps", Words),
    ("io", Io),
    ("block", Do),
    ("segment", Do),
    ("queue", Do),
    ("queue::memory", Do),
    ("state", Do),
    ("copies", Do),
    ("cursor", Do),
    ("gap_file", Do),
    ("store", Do),
    ("queue::spill", Decide),
    ("queue::run_ahead", Decide),
    ("backfill::read_ahead", Decide),
    ("backfill::connectivity", Decide),
    ("governor", Decide),
    ("ledger", Decide),
    ("backfill", Compose),
    ("pipeline", Compose),
    ("health", Compose),
    ("metrics", Compose),
];

/// The one exception: the words of a gap and the file of gaps share a module, so `gaps` is a word to all
/// others and stores itself.
const STORES_ITSELF: &str = "gaps";

/// Ignorance that is narrower than a layer: the first never names the second, and why.
const STRANGERS: [(&str, &str, &str); 11] = [
    ("io", "record", "io moves bytes; let the caller encode them"),
    ("io", "sink", "io moves bytes; let the caller hand them on"),
    ("io", "gaps", "io reports a failure; let the caller name the loss"),
    ("segment", "queue", "the log is handed blocks; let the pipeline bring them"),
    ("governor", "record", "the governor sees cost and time; pass counts and bytes"),
    ("governor", "sink", "the governor sees cost and time; pass counts and bytes"),
    ("governor", "gaps", "the governor sees cost and time; pass counts and bytes"),
    ("sink", "block", "a sink sees records; give it a `Batch`"),
    ("sink", "segment", "a sink sees no file; give it a `Batch`"),
    ("backfill::connectivity", "record", "the breaker sees outcomes and time"),
    ("backfill::connectivity", "gaps", "the breaker sees outcomes and time"),
];

/// Settings that are spelled where they are obeyed: the first may name the second all the same.
const LENT: [(&str, &str); 6] = [
    ("config", "io::Backend"),
    ("config", "io::DirectIo"),
    ("config", "io::SyncMethod"),
    // Pure arithmetic over extents, with no policy in it: the one thing that decides for who reads.
    ("segment::stream", "backfill::read_ahead"),
    // The writer's own pace, which no pipeline has to know of.
    ("store::driver", "queue::run_ahead"),
    ("store::open", "queue::run_ahead"),
];

/// Names that `lib.rs` re-exports and everybody may use from the root.
const ROOT_NAMES: [&str; 3] = ["Error", "Kind", "Result"];

impl Layer {
    fn may_know(self, other: Self) -> bool {
        match self {
            Words => other == Words,
            Io => matches!(other, Words | Io),
            Do => matches!(other, Words | Io | Do),
            Decide => matches!(other, Words | Decide),
            Compose => other != Tour,
            Tour => true,
        }
    }

    /// What to do instead of knowing more.
    fn instead(self) -> &'static str {
        match self {
            Words => "words know only words; move the type to a word, or the function to who needs it",
            Io => "io knows only words; pass bytes, offsets and tokens",
            Do => {
                "what stores knows words, io and what stores; let `pipeline` ask what decides and pass the answer"
            }
            Decide => "what decides knows only words and what decides; take numbers and `now` as arguments",
            Compose | Tour => "nothing in src knows `lib.rs`",
        }
    }
}

/// The layer of a module path, by its longest known beginning.
fn layer_of(module: &[String]) -> Option<Layer> {
    let mut beginnings = (1..=module.len()).rev().map(|length| module[..length].join("::"));
    beginnings.find_map(|name| ROOMS.iter().find(|room| room.0 == name).map(|room| room.1))
}

/// `src/segment/format.rs` as `["segment", "format"]`; nothing for what is not in `src`.
fn module_of(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").or(inside.strip_suffix("/tests")).unwrap_or(inside);
    Some(inside.split('/').map(str::to_owned).collect())
}

/// A file of a folder of two columns has to be named itself: the folder's own layer says nothing of it.
fn is_placed(module: &[String]) -> bool {
    let mixed = matches!(module[0].as_str(), "queue" | "backfill");
    let length = if mixed { module.len().min(2) } else { 1 };
    let name = module[..length].join("::");
    ROOMS.iter().any(|room| room.0 == name)
}

/// Every module that `file` names, from the root, with the line.
fn known_modules(file: &Tidied, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut known = paths_under(&file.shipped, "crate");
    let above = &module[..module.len() - 1];
    for (line, path) in paths_under(&file.shipped, "super") {
        let climbs = path.iter().take_while(|step| *step == "super").count();
        let base = &above[..above.len().saturating_sub(climbs)];
        known.push((line, base.iter().chain(&path[climbs..]).cloned().collect()));
    }
    known
}

pub(super) fn imports(file: &Tidied) -> Vec<String> {
    let Some(module) = module_of(&file.path) else { return Vec::new() };
    let Some(layer) = layer_of(&module).filter(|_| is_placed(&module)) else {
        let name = module.join("::");
        let what =
            format!("`{name}` has no layer: say where it belongs, in ROOMS of tests/tidy/direction.rs");
        return vec![file.complain(1, &what)];
    };
    let layer = if module[0] == STORES_ITSELF { Do } else { layer };
    known_modules(file, &module)
        .into_iter()
        .filter_map(|(line, path)| {
            let instead = refusal(&module, layer, &path)?;
            Some(file.complain(line, &format!("`{}`: {instead}", path.join("::"))))
        })
        .collect()
}

/// Why `module` may not name `path`, if it may not.
fn refusal(module: &[String], layer: Layer, path: &[String]) -> Option<&'static str> {
    if layer == Tour || path.first().is_some_and(|name| ROOT_NAMES.contains(&name.as_str())) {
        return None;
    }
    let begins =
        |path: &[String], name: &str| (1..=path.len()).any(|length| path[..length].join("::") == name);
    if LENT.iter().any(|(who, what)| begins(module, who) && begins(path, what)) {
        return None;
    }
    let stranger = STRANGERS.iter().find(|(who, whom, _)| begins(module, who) && begins(path, whom));
    if let Some((_, _, instead)) = stranger {
        return Some(instead);
    }
    // A glob, a macro or a constant of the root: logic in the tour.
    let Some(other) = layer_of(path) else {
        return Some("no module of the table: name it by the module that it lives in");
    };
    (!layer.may_know(other)).then(|| layer.instead())
}
