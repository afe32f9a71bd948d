//! Holds the documents against the code: what they name has to be there.
//!
//! A place `file: Type::fn`, a test's name, a path, a command. It knows words, not meaning: whether a sentence is
//! true is for people to see.

use std::path::{Path, PathBuf};

/// Asked when it runs, as in `tidy`.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package lies").into()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands in backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder is there");
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            format!("{folder}/{}", entry.expect("it can be read").file_name().to_string_lossy())
        };
        names.extend(entries.map(file).filter(|name| name.ends_with(".md")));
    }
    names.into_iter().map(|name| (name.clone(), text(&name))).collect()
}

/// Every Rust source under `folder`, one after the other.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(&path).expect("a source can be read"));
        }
    }
}

fn declares(source: &str, kinds: &[&str], name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    kinds.iter().any(|kind| {
        let wanted = format!("{kind} {name}");
        source.match_indices(&wanted).any(|(at, _)| ends(&source[at + wanted.len()..]))
    })
}

#[test]
fn every_place_that_the_documents_name_is_in_the_code() {
    let mut seen = 0;
    for (name, document) in documents() {
        for (file, place) in quoted(&document).filter_map(|word| word.split_once(".rs: ")) {
            let source = text(&format!("{file}.rs"));
            let function = place.rsplit("::").next().expect("split gives one at least");
            assert!(declares(&source, &["fn"], function), "{name}: {file}.rs has no fn {function}");
            if let Some((owner, _)) = place.split_once("::") {
                let kinds = ["impl", "struct", "enum", "trait", "for"];
                assert!(declares(&source, &kinds, owner), "{name}: {file}.rs has no {owner}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} places: the pattern has changed");
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let mut all = String::new();
    for folder in ["src", "tests", "tools"] {
        sources(&root().join(folder), &mut all);
    }
    let mut seen = 0;
    for name in ["README.md", "docs/DURABILITY.md", "docs/TESTING.md"] {
        let is_test = |word: &&str| {
            word.matches('_').count() >= 3 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        for test in quoted(&text(name)).filter(is_test) {
            assert!(declares(&all, &["fn"], test), "{name}: there is no test {test}");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} tests: the pattern has changed");
}

#[test]
fn every_path_that_the_documents_name_is_there() {
    const FOLDERS: [&str; 6] = ["src/", "tests/", "tools/", "docs/", "benches/", "examples/"];
    for (name, document) in documents() {
        let is_path = |word: &&str| FOLDERS.iter().any(|folder| word.starts_with(folder));
        for word in quoted(&document).filter(is_path) {
            let path = word.split([' ', ':']).next().expect("split gives one at least");
            let is_pattern = path.contains(['*', 'N']);
            assert!(is_pattern || root().join(path).exists(), "{name}: there is no {path}");
        }
    }
}

#[test]
fn every_command_that_the_readme_names_is_one() {
    let readme = text("README.md");
    let lines = readme.lines().filter_map(|line| line.split_once("--release -- ").map(|(_, rest)| rest));
    let code = readme.lines().chain(quoted(&readme)).filter_map(|code| code.strip_prefix("forebay "));
    let commands = lines.chain(code).map(|rest| rest.split(' ').next().expect("split gives one at least"));
    let mut seen = 0;
    for command in commands {
        let file = format!("tools/cli/src/commands/{command}.rs");
        assert!(root().join(&file).exists(), "README.md: there is no command {command}");
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} commands: the pattern has changed");
}
