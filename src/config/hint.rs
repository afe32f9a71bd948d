//! The key that was probably meant by one that nobody knows. Pure; knows the keys, no value.
//!
//! Keys are compared word by word: `batch` means `batch_bytes`, `cap` in `[disk]` means `disk_bytes_cap`, however
//! many letters lie between. A word that is in no way in a key rules that key out, so that a hint is never just the
//! shortest name around.

use super::fields::FIELDS;

/// The sentence for a key that nobody knows, with the one that was probably meant.
pub(super) fn unknown(path: &str) -> String {
    let tables = FIELDS.iter().filter_map(|field| field.path.split_once('.')).map(|(table, _)| table);
    if let Some(table) = tables.filter(|table| is_near(path, table)).min_by_key(|table| edits(path, table)) {
        return format!("unknown key `{path}`; did you mean the table `[{table}]`?");
    }
    let known = FIELDS.iter().filter_map(|field| Some((distance(path, field.path)?, field.path)));
    // Of equals the first, as in the default file.
    match known.min_by_key(|(distance, _)| *distance) {
        Some((_, key)) => format!("unknown key `{path}`; did you mean `{key}`?"),
        None => format!("unknown key `{path}`; `forebay config default` prints all there are"),
    }
}

/// How far `path` is from `key`; `None` when it is certainly not meant.
fn distance(path: &str, key: &str) -> Option<usize> {
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    let (key_table, key_name) = key.rsplit_once('.').unwrap_or(("", key));
    let words: Vec<&str> = key.split(['.', '_']).collect();
    let by_words = name.split('_').map(|word| nearest(word, &words)).sum::<Option<usize>>().map(|slipped| {
        let told: Vec<&str> = path.split(['.', '_']).collect();
        slipped + key_name.split('_').filter(|word| nearest(word, &told).is_none()).count()
    });
    let by_letters = edits(&name.replace('_', ""), &key_name.replace('_', ""));
    let whole = (by_letters <= name.len().min(key_name.len()).div_ceil(3)).then_some(by_letters);
    let named = [by_words, whole].into_iter().flatten().min()?;
    // The name alone says it: in the wrong table, or in none.
    let elsewhere = if table == key_table { 0 } else { slips(table, key_table).unwrap_or(2) };
    Some(named + elsewhere)
}

/// The slips to the nearest of `words`, if one is near.
fn nearest(word: &str, words: &[&str]) -> Option<usize> {
    words.iter().filter_map(|known| slips(word, known)).min()
}

/// How far two words are apart, where one may be meant by the other: near, or the one is the other cut short.
fn slips(word: &str, known: &str) -> Option<usize> {
    if is_near(word, known) {
        return Some(edits(word, known));
    }
    let is_cut = word.len().min(known.len()) >= 3 && (known.starts_with(word) || word.starts_with(known));
    is_cut.then_some(1)
}

/// One slip in four letters, and one in a short word.
fn is_near(word: &str, known: &str) -> bool {
    edits(word, known) <= word.len().min(known.len()).div_ceil(4)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    rows[0] = (0..=right.len()).collect();
    for i in 1..=left.len() {
        rows[i][0] = i;
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            rows[i][j] = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[left.len()][right.len()]
}
