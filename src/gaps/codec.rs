//! Gaps as the body of a copy of `gaps`: entries in ascending order, each followed by its keys.
//!
//! Every length is checked against the bytes that are there before anything is reserved for it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{GAPS_MAX, Gap, KEYS_MAX, Reason};
use crate::position::Epoch;
use crate::segment::format::GapEntry;

/// Bytes that `key` takes behind its entry: a length, itself, a count.
pub(super) fn key_bytes(key: &[u8]) -> usize {
    1 + key.len() + 8
}

/// Bytes that `gap` takes.
pub(super) fn gap_bytes(gap: &Gap) -> usize {
    size_of::<GapEntry>() + keys_bytes(gap)
}

fn keys_bytes(gap: &Gap) -> usize {
    gap.keys.iter().map(|(key, _)| key_bytes(key)).sum()
}

/// Writes `gaps` to the end of `body`.
pub(super) fn encode<'a>(gaps: impl Iterator<Item = &'a Gap>, body: &mut Vec<u8>) {
    for gap in gaps {
        let entry = GapEntry {
            epoch: U64::new(gap.epoch.0),
            first_sequence: U64::new(gap.first_sequence),
            last_sequence: U64::new(gap.last_sequence),
            count: U64::new(gap.count),
            bytes: U64::new(gap.bytes),
            first_timestamp: U64::new(gap.first_timestamp),
            last_timestamp: U64::new(gap.last_timestamp),
            reason: U16::new(gap.reason.number()),
            key_count: U16::new(gap.keys.len() as u16),
            keys_length: U32::new(keys_bytes(gap) as u32),
            other_keys_count: U64::new(gap.other_keys_count),
        };
        body.extend_from_slice(entry.as_bytes());
        for (key, count) in &gap.keys {
            body.push(u8::try_from(key.len()).expect("a listed key is no longer than a record's"));
            body.extend_from_slice(key);
            body.extend_from_slice(&count.to_le_bytes());
        }
    }
}

/// The gaps of `body`; `None` unless every one is possible, they ascend, and nothing is left over.
pub(super) fn decode(mut body: &[u8]) -> Option<Vec<Gap>> {
    let mut gaps: Vec<Gap> = Vec::new();
    while !body.is_empty() {
        let (entry, rest) = GapEntry::ref_from_prefix(body).ok()?;
        let (keys, rest) = rest.split_at_checked(entry.keys_length.get() as usize)?;
        let gap = decode_gap(entry, keys)?;
        let ascends = gaps.last().is_none_or(|before| before.last_sequence < gap.first_sequence);
        if !ascends || gaps.len() == GAPS_MAX || gap.flaw().is_some() {
            return None;
        }
        gaps.push(gap);
        body = rest;
    }
    Some(gaps)
}

fn decode_gap(entry: &GapEntry, keys: &[u8]) -> Option<Gap> {
    Some(Gap {
        epoch: Epoch(entry.epoch.get()),
        first_sequence: entry.first_sequence.get(),
        last_sequence: entry.last_sequence.get(),
        count: entry.count.get(),
        bytes: entry.bytes.get(),
        first_timestamp: entry.first_timestamp.get(),
        last_timestamp: entry.last_timestamp.get(),
        reason: Reason::of_number(entry.reason.get())?,
        keys: decode_keys(entry.key_count.get().into(), keys)?,
        other_keys_count: entry.other_keys_count.get(),
    })
}

fn decode_keys(key_count: usize, mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, u64)>> {
    if key_count > KEYS_MAX {
        return None;
    }
    let mut keys = Vec::with_capacity(key_count);
    for _ in 0..key_count {
        let (length, rest) = bytes.split_first()?;
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let (count, rest) = rest.split_first_chunk()?;
        keys.push((key.to_vec(), u64::from_le_bytes(*count)));
        bytes = rest;
    }
    bytes.is_empty().then_some(keys)
}
