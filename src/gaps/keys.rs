//! The keys of a gap: the largest by name, the rest as a sum.

use std::collections::HashMap;

use super::KEYS_MAX;
use crate::limits::KEY_BYTES_MAX;

/// Keys with their losses.
pub(super) type Keys = Vec<(Vec<u8>, u64)>;

/// The 128 keys with the most losses, largest first, and what the others lost.
/// A key that no record can have is not listed.
pub(super) fn largest(mut keys: Keys) -> (Keys, u64) {
    keys.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let mut kept = 0;
    let mut others = 0u64;
    keys.retain(|(key, count)| {
        let keeps = kept < KEYS_MAX && *count > 0 && key.len() <= KEY_BYTES_MAX;
        kept += usize::from(keeps);
        others = others.saturating_add(if keeps { 0 } else { *count });
        keeps
    });
    (keys, others)
}

/// Both lists as one, and what the keys lost that have no place in it.
pub(super) fn merged(one: Keys, other: Keys) -> (Keys, u64) {
    let mut sums: HashMap<Vec<u8>, u64> = HashMap::with_capacity(one.len() + other.len());
    for (key, count) in one.into_iter().chain(other) {
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }
    largest(sums.into_iter().collect())
}

/// `part` of `whole` of `value`, rounded down.
pub(super) fn share(value: u64, part: u64, whole: u64) -> u64 {
    debug_assert!(part <= whole && whole > 0);
    (u128::from(value) * u128::from(part) / u128::from(whole)) as u64
}
