//! Rust text as the rules read it: without comments and literals, with its paths spelled out.
//!
//! Every transformation keeps the lines where they are, so that a complaint names the right one. It is a
//! reader for text that rustc accepts; it knows no rule.

/// `text` with comments and the insides of string and character literals blanked.
pub(super) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_opaque(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` when none begins there.
fn end_of_opaque(chars: &[char], at: usize) -> usize {
    let follows_name = at > 0 && is_name(chars[at - 1]);
    match (chars[at], chars.get(at + 1)) {
        ('/', Some('/')) => end_where(chars, at, |c| c == '\n'),
        ('/', Some('*')) => end_of_block_comment(chars, at),
        ('"', _) => end_of_string(chars, at + 1),
        ('\'', _) => end_of_char(chars, at),
        ('r', Some('"' | '#')) if !follows_name || at > 0 && chars[at - 1] == 'b' => {
            end_of_raw_string(chars, at)
        }
        _ => at,
    }
}

fn end_where(chars: &[char], from: usize, is_end: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|&c| is_end(c)).map_or(chars.len(), |length| from + length)
}

fn end_of_block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end < chars.len() {
        match (chars[end], chars.get(end + 1)) {
            ('/', Some('*')) => (depth, end) = (depth + 1, end + 2),
            ('*', Some('/')) => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end.min(chars.len())
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// A quote begins a character only when another one closes it; else it begins a lifetime.
fn end_of_char(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => end_where(chars, (at + 3).min(chars.len()), |c| c == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn end_of_raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at; // r#name
    }
    let mut end = open + 1;
    while end < chars.len() {
        if chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
        {
            return end + 1 + hashes;
        }
        end += 1;
    }
    end
}

/// `code` with every item under `#[cfg(test)]` blanked.
pub(super) fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(start) = rest.find("#[cfg(test)]") {
        let item = &rest[start..];
        let end = end_of_item(item);
        kept.push_str(&rest[..start]);
        kept.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[end..];
    }
    kept + rest
}

/// Where the item that `code` begins with ends: at its `;`, or at the brace that closes it.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Every path in `code` that begins with `root::`, groups spelled out, with its line: `use a::{b, c::d}`
/// gives `b` and `c::d` under the root `a`.
pub(super) fn paths_under(code: &str, root: &str) -> Vec<(usize, Vec<String>)> {
    let head = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&head) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_name(c) || c == ':') {
            continue;
        }
        let mut rest = code[at + head.len()..].chars().peekable();
        let mut paths = Vec::new();
        tree(&mut rest, &mut Vec::new(), &mut paths);
        let line = line_at(code, at);
        found.extend(paths.into_iter().map(|path| (line, path)));
    }
    found
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads one use tree: a path that may end in a group of trees.
fn tree(letters: &mut Letters<'_>, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let depth = prefix.len();
    loop {
        skip_space(letters);
        if letters.peek() == Some(&'{') {
            letters.next();
            group(letters, prefix, paths);
            break;
        }
        let name = name(letters);
        if name.is_empty() {
            paths.push(prefix.clone());
            break;
        }
        prefix.push(name);
        let mut ahead = letters.clone();
        skip_space(&mut ahead);
        if ahead.next() != Some(':') || ahead.next() != Some(':') {
            paths.push(prefix.clone());
            break;
        }
        *letters = ahead;
    }
    prefix.truncate(depth);
}

fn group(letters: &mut Letters<'_>, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    loop {
        tree(letters, prefix, paths);
        // What stands between a tree and the next comma is `as NAME`.
        match letters.find(|c| matches!(c, ',' | '}')) {
            Some(',') => skip_space(letters),
            _ => return,
        }
        if letters.peek() == Some(&'}') {
            letters.next();
            return;
        }
    }
}

fn name(letters: &mut Letters<'_>) -> String {
    let mut name = String::new();
    while let Some(c) = letters.next_if(|&c| is_name(c)) {
        name.push(c);
    }
    name
}

fn skip_space(letters: &mut Letters<'_>) {
    while letters.next_if(|c| c.is_whitespace()).is_some() {}
}

/// The lines on which `needle` stands in `code`, not as a part of a longer name.
pub(super) fn lines_with(code: &str, needle: &str) -> Vec<usize> {
    let stands_alone = |&(at, found): &(usize, &str)| {
        let (before, after) = (&code[..at], &code[at + found.len()..]);
        let joined_before = starts_with_name(needle) && before.chars().next_back().is_some_and(is_name);
        let joined_after =
            needle.chars().next_back().is_some_and(is_name) && after.chars().next().is_some_and(is_name);
        !joined_before && !joined_after
    };
    code.match_indices(needle).filter(stands_alone).map(|(at, _)| line_at(code, at)).collect()
}

fn starts_with_name(needle: &str) -> bool {
    needle.chars().next().is_some_and(is_name)
}

/// Names of items that `code` declares, with their lines.
pub(super) fn declared_names(code: &str) -> Vec<(usize, String)> {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static"];
    let mut names = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut words = line.split(|c| !is_name(c)).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if KEYWORDS.contains(&word)
                && let Some(name) = words.clone().next()
            {
                names.push((index + 1, name.to_owned()));
            }
        }
    }
    names
}

/// `SlotHelper` and `slot_helper` as `["slot", "helper"]`.
pub(super) fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if matches!(c, '_' | '-' | '.') || c.is_uppercase() && after_lower {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("it began with one").extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_at(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}
