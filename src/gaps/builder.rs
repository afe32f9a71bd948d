//! One gap out of records that are dropped one by one, in bounded memory.

use std::collections::HashMap;

use super::{Gap, Reason, keys};
use crate::position::Epoch;

/// Keys that are counted at once.
const COUNTERS_MAX: usize = 1024;

/// Collects records dropped for one reason.
///
/// Memory is bounded at 1,024 keys (Misra and Gries: where one more comes, every counter goes down by one). With
/// no more keys than that every count is exact. With more, a key's count is too low by at most 1/1,025 of the
/// records, never too high, and `other_keys_count` has what is missing: the sum is always exact.
#[derive(Debug, Clone)]
pub struct GapBuilder {
    gap: Gap,
    counters: HashMap<Vec<u8>, u64>,
    keyed_count: u64,
}

impl GapBuilder {
    /// Nothing dropped yet.
    pub fn new(epoch: Epoch, reason: Reason) -> Self {
        let gap = Gap {
            epoch,
            first_sequence: u64::MAX,
            last_sequence: 0,
            count: 0,
            bytes: 0,
            first_timestamp: 0,
            last_timestamp: 0,
            reason,
            keys: Vec::new(),
            other_keys_count: 0,
        };
        Self { gap, counters: HashMap::new(), keyed_count: 0 }
    }

    /// One more record: its timestamp in nanoseconds since 1970 (0 where nobody can know), its key (empty when
    /// it has none), and the bytes of key and payload. No sequence is added twice; the order is free.
    pub fn add(&mut self, sequence: u64, timestamp: u64, key: &[u8], bytes: u64) {
        let gap = &mut self.gap;
        gap.first_sequence = gap.first_sequence.min(sequence);
        gap.last_sequence = gap.last_sequence.max(sequence);
        gap.count += 1;
        gap.bytes = gap.bytes.saturating_add(bytes);
        if timestamp != 0 {
            let earliest = if gap.first_timestamp == 0 { timestamp } else { gap.first_timestamp };
            gap.first_timestamp = earliest.min(timestamp);
            gap.last_timestamp = gap.last_timestamp.max(timestamp);
        }
        if !key.is_empty() {
            self.keyed_count += 1;
            self.count_key(key);
        }
    }

    /// How many records were added.
    pub fn count(&self) -> u64 {
        self.gap.count
    }

    /// The last sequence that was added (0: none).
    pub fn last_sequence(&self) -> u64 {
        self.gap.last_sequence
    }

    /// The gap; `None` when nothing was added.
    pub fn finish(self) -> Option<Gap> {
        let Self { mut gap, counters, keyed_count } = self;
        let (keys, _) = keys::largest(counters.into_iter().collect());
        let listed = keys.iter().fold(0u64, |sum, (_, count)| sum + count);
        gap.keys = keys;
        gap.other_keys_count = keyed_count - listed;
        (gap.count > 0).then_some(gap)
    }

    fn count_key(&mut self, key: &[u8]) {
        if let Some(count) = self.counters.get_mut(key) {
            *count += 1;
        } else if self.counters.len() < COUNTERS_MAX {
            self.counters.insert(key.to_vec(), 1);
        } else {
            self.counters.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}
