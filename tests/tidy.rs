//! Holds the rules of the house against the files of the house.
//!
//! Each rule is a function over a file's path and text that returns its complaints; each complaint names
//! the place and what to write instead. The rules run over every file of the repository, and then over
//! planted violations: a rule that finds nothing in bad text is itself broken. What rustfmt and clippy hold
//! (function length among it: `clippy.toml`) is not repeated here.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/direction.rs"]
mod direction;
#[path = "tidy/plants.rs"]
mod plants;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use code::{code_of, declared_names, lines_with, paths_under, without_tests, words_of};

/// A file as the rules see it.
struct Tidied {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
    /// The text without comments and literals; empty for what is not Rust.
    code: String,
    /// The code without what only tests compile.
    shipped: String,
    /// Somebody may run it.
    executable: bool,
}

impl Tidied {
    fn new(path: &str, text: &str, executable: bool) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        let ships = path.starts_with("src/") || path.starts_with("tools/");
        let test_only =
            !ships || path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
        let shipped = if test_only { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped, executable }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// A complaint for each line of `code` on which one of `needles` stands.
    fn ban(&self, code: &str, needles: &[&str], instead: &str) -> Vec<String> {
        let one = |needle: &&str| {
            lines_with(code, needle)
                .into_iter()
                .map(|line| self.complain(line, &format!("`{needle}`: {instead}")))
                .collect::<Vec<_>>()
        };
        needles.iter().flat_map(one).collect()
    }
}

type Rule = fn(&Tidied) -> Vec<String>;

const RULES: [Rule; 12] = [
    direction::imports,
    unsafe_rooms,
    unsafe_has_its_argument,
    ring_behind_its_door,
    outside_world_behind_its_door,
    bounded_channels,
    no_unwrap,
    file_length,
    module_header,
    plain_names,
    nothing_left_to_do,
    no_place_of_a_machine,
];

/// The last one ships in nothing: an allocator that counts cannot be written without.
const UNSAFE_ROOMS: [&str; 5] = [
    "src/io/arena.rs",
    "src/io/uring/mod.rs",
    "src/io/uring/setup.rs",
    "src/io/uring/reactor.rs",
    "tests/allocations.rs",
];

fn unsafe_rooms(file: &Tidied) -> Vec<String> {
    if UNSAFE_ROOMS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    file.ban(&file.code, &["unsafe"], "only the four rooms in io may; call `io::Arena` or a device instead")
}

/// clippy asks for the comment at each block; this asks for it at each `unsafe impl` and `unsafe fn` too.
fn unsafe_has_its_argument(file: &Tidied) -> Vec<String> {
    const REACH: usize = 12;
    let lines: Vec<&str> = file.text.lines().collect();
    let argued = |line: &usize| {
        let near = &lines[line.saturating_sub(REACH)..*line];
        near.iter().any(|text| text.contains("SAFETY:") || text.contains("# Safety"))
    };
    lines_with(&file.code, "unsafe")
        .into_iter()
        .filter(|line| !argued(line))
        .map(|line| file.complain(line, "`unsafe` without its argument: write `// SAFETY: ...` above it"))
        .collect()
}

fn ring_behind_its_door(file: &Tidied) -> Vec<String> {
    let mut found = Vec::new();
    if !file.path.starts_with("src/io/uring/") {
        found.extend(file.ban(
            &file.code,
            &["io_uring"],
            "only io/uring knows it; ask for an `io::WriteDevice`",
        ));
    }
    if file.path != "src/io/uring/reactor.rs" {
        let instead = "only io/uring/reactor.rs knows it; ask for an `io::ReadDevice`";
        found.extend(file.ban(&file.code, &["tokio_uring"], instead));
    }
    found
}

fn outside_world_behind_its_door(file: &Tidied) -> Vec<String> {
    let inside = file.path.starts_with("src/") && file.path != "src/clock.rs";
    if !inside || file.path.starts_with("src/io/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, path) in paths_under(&file.shipped, "std") {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let instead = match path[..] {
            ["fs", ..] => "files are reached through `io::Disk`",
            ["env", ..] => "settings come in through `config`",
            ["thread", "sleep", ..] => "wait on a device or a condition, and take `now` as an argument",
            _ => continue,
        };
        found.push(file.complain(line, &format!("`std::{}`: {instead}", path.join("::"))));
    }
    let clocks = ["Instant::now", "SystemTime", "quanta"];
    found.extend(file.ban(&file.shipped, &clocks, "take `now_ns` as an argument, or read `clock::Clock`"));
    found.extend(file.ban(&file.shipped, &["thread::sleep"], "wait on a device or a condition"));
    let chance = ["rand", "getrandom", "fastrand", "RandomState"];
    found.extend(file.ban(&file.shipped, &chance, "take a seed as an argument; only io draws one"));
    found
}

fn bounded_channels(file: &Tidied) -> Vec<String> {
    let instead = "a channel has a bound: `mpsc::sync_channel(n)`, or tokio's `mpsc::channel(n)`";
    let mut found = file.ban(&file.shipped, &["unbounded_channel", "unbounded"], instead);
    for (line, text) in (1..).zip(file.shipped.lines()) {
        // std's takes no argument and has no bound, tokio's takes its bound.
        let call = text.split("channel").nth(1).and_then(|rest| rest.split_once('('));
        if call.is_some_and(|(between, after)| is_turbofish(between) && after.trim_start().starts_with(')')) {
            found.push(file.complain(line, &format!("`channel()`: {instead}")));
        }
    }
    found
}

fn is_turbofish(text: &str) -> bool {
    text.is_empty() || text.starts_with("::<") && text.ends_with('>')
}

fn no_unwrap(file: &Tidied) -> Vec<String> {
    let instead = "return the error, or `expect(\"why it can't fail\")` for our own invariant";
    file.ban(&file.shipped, &[".unwrap()", ".unwrap_err()", ".unwrap_unchecked()"], instead)
}

fn file_length(file: &Tidied) -> Vec<String> {
    const LINES_MAX: usize = 600;
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= LINES_MAX {
        return Vec::new();
    }
    let what = format!("{lines} lines, at most {LINES_MAX}: what in it wants a room of its own?");
    vec![file.complain(LINES_MAX + 1, &what)]
}

fn module_header(file: &Tidied) -> Vec<String> {
    if !file.is_rust() || file.text.starts_with("//! ") || file.text.starts_with("#![doc = include_str!") {
        return Vec::new();
    }
    vec![file.complain(1, "no module header: begin with `//! ` what it owns, promises, and does not know")]
}

fn plain_names(file: &Tidied) -> Vec<String> {
    let stem = |part: &str| part.trim_end_matches(".rs").to_owned();
    let of_path = file.path.split('/').map(|part| (1, stem(part)));
    of_path
        .chain(declared_names(&file.code))
        .filter_map(|(line, name)| {
            let instead = plain_name(&name)?;
            Some(file.complain(line, &format!("the name `{name}`: {instead}")))
        })
        .collect()
}

/// What is wrong with a name, if something is.
fn plain_name(name: &str) -> Option<&'static str> {
    const EMPTY: [&str; 8] =
        ["manager", "managers", "helper", "helpers", "util", "utils", "common", "utilities"];
    let words = words_of(name);
    if words.iter().any(|word| EMPTY.contains(&word.as_str())) {
        return Some("it says nothing; name what it owns or does");
    }
    if words.len() > 1 && words[0] == "do" {
        return Some("`do_` says nothing; name the step that it is");
    }
    (words.len() > 1 && words.last().is_some_and(|word| word == "inner"))
        .then_some("`_inner` says nothing; name what it holds or the step that it is")
}

fn nothing_left_to_do(file: &Tidied) -> Vec<String> {
    // Spelled apart, or this file would complain about itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut found = file.ban(&file.text, &marks, "do it now, or write the issue and its reason in docs");
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!")];
    found.extend(file.ban(&file.code, &macros, "write it, or leave it out"));
    found
}

fn no_place_of_a_machine(file: &Tidied) -> Vec<String> {
    let roots = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for root in roots {
            let begins = |(at, _): (usize, &str)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}~".contains(c))
            };
            if line.match_indices(root).any(begins) {
                let what =
                    format!("`{root}` is a place of one machine: a relative path or a temporary directory");
                found.push(file.complain(index + 1, &what));
            }
        }
    }
    found
}

/// What people and CI start by name has to be startable.
fn scripts_can_be_run(file: &Tidied) -> Vec<String> {
    let is_script =
        file.path.starts_with("tests/") && file.path.ends_with(".sh") && file.path.matches('/').count() == 1
            || matches!(file.path.as_str(), "tools/test" | ".ci/run");
    if !is_script || file.executable {
        return Vec::new();
    }
    vec![file.complain(1, "not executable: `chmod +x` it and `git update-index --chmod=+x`")]
}

/// Every complaint of every rule about one file.
fn complaints(file: &Tidied) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(file)).chain(scripts_can_be_run(file)).collect()
}

/// Asked when it runs, not when it was built: clones that share a target folder share this binary too.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package lies").into()
}

/// Every text file under `folder` that may belong to the repository.
fn collect(folder: &Path, files: &mut Vec<Tidied>) {
    const SKIPPED: [&str; 3] = ["target", ".git", "Cargo.lock"];
    const BYTES_MAX: u64 = 1 << 20;
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the entry can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let metadata = std::fs::symlink_metadata(&path).expect("the entry is still there");
        if SKIPPED.contains(&name.as_str()) || metadata.is_symlink() {
            continue;
        }
        if metadata.is_dir() {
            collect(&path, files);
            continue;
        }
        if metadata.len() > BYTES_MAX {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let place = path.strip_prefix(root()).expect("it lies under the root").to_string_lossy().into_owned();
        files.push(Tidied::new(&place, &text, metadata.permissions().mode() & 0o111 == 0o111));
    }
}

#[test]
fn the_house_is_tidy() {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the rules have looked at nothing");
    let found: Vec<String> = files.iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{} complaints:\n{}", found.len(), found.join("\n"));
}
