//! The gaps of a store in memory: in order, apart, never more than there is room for on disk.

use super::codec::{gap_bytes, key_bytes};
use super::{GAPS_MAX, Gap, keys};
use crate::segment::format::{ENVELOPE_BYTES, GAPS_COPY_BYTES};

/// Bytes that all gaps together may take.
pub(super) const BODY_BYTES_MAX: usize = GAPS_COPY_BYTES - ENVELOPE_BYTES;

/// How far keys are cut back once they no longer fit, so that the next gap does not cut again.
const BODY_BYTES_EASED: usize = BODY_BYTES_MAX / 8 * 7;

/// What became of a gap that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a gap that found no room is named nowhere"]
pub enum Added {
    /// It is named.
    Named {
        /// Losses that no gap had named before; at most the `count` that was added.
        count: u64,
        /// False where the new range cut a sparse gap: how many of the sequences that both cover were named
        /// before, nobody can know, and none of them was counted again.
        exact: bool,
    },
    /// No room, and nothing that may be merged: it comes back, and nothing has changed. What it names must be held,
    /// or named again later, until the slowest destination has confirmed a gap.
    Full(Gap),
}

/// Gaps in ascending order; no two cover the same sequence.
///
/// When there are too many bytes, the keys with the fewest losses are summed into `other_keys_count`. When there are
/// too many gaps, the nearest two of one reason and epoch with no gap between become one *sparse* gap over both:
/// its `count` is their sum. No loss is ever forgotten.
#[derive(Debug, Clone, Default)]
pub struct GapList {
    gaps: Vec<Gap>,
    body_bytes: usize,
    positions: Vec<u64>,
    /// Gaps that were named by [`GapList::add`]; one that only made its neighbour grow is none of its own.
    named_count: u64,
}

impl GapList {
    /// The gaps of a file.
    pub(super) fn of(mut gaps: Vec<Gap>) -> Self {
        // Written largest first; what sums the smallest relies on it, so it is not left to the disk.
        gaps.iter_mut().for_each(|gap| gap.keys.sort_by_key(|(_, count)| std::cmp::Reverse(*count)));
        let body_bytes = gaps.iter().map(gap_bytes).sum();
        Self { gaps, body_bytes, ..Self::default() }
    }

    /// Names a loss.
    ///
    /// A dense gap is cut around what is named already: only the rest of its range counts, and its bytes and keys
    /// in proportion. A sparse gap's `count` is taken to be losses that are not named yet. A gap joins a
    /// neighbour of its reason, epoch and density that it touches, so that a tail gap grows.
    ///
    /// Cost: a search, and a move of the entries behind it (1,024 at most); no file is touched.
    ///
    /// # Panics
    /// When `gap` has a [flaw](Gap::flaw).
    pub fn add(&mut self, gap: Gap) -> Added {
        assert_eq!(gap.flaw(), None, "{gap:?}");
        let overlapped = self.overlapped(gap.first_sequence, gap.last_sequence);
        let is_tight = self.gaps.len() + overlapped.len() + 1 > GAPS_MAX;
        let before = is_tight.then(|| (self.gaps.clone(), self.body_bytes, self.named_count));
        let (pieces, mut exact) = self.uncovered(&gap, overlapped);
        let original = before.is_some().then(|| gap.clone());
        let mut count = 0;
        for piece in cut(gap, &pieces, &mut exact) {
            count += piece.count;
            self.insert(piece);
        }
        if let (false, Some(before), Some(gap)) = (self.shrink(), before, original) {
            (self.gaps, self.body_bytes, self.named_count) = before;
            return Added::Full(gap);
        }
        Added::Named { count, exact }
    }

    /// Forgets the gaps that lie wholly at or below `sequence`, which is what the slowest destination has
    /// confirmed, and hands them back.
    pub fn remove_below(&mut self, sequence: u64) -> Vec<Gap> {
        let end = self.gaps.partition_point(|gap| gap.last_sequence <= sequence);
        let removed: Vec<_> = self.gaps.drain(..end).collect();
        self.body_bytes -= removed.iter().map(gap_bytes).sum::<usize>();
        removed
    }

    /// Where each destination is: the last sequence that it was handed, the gap there included. A gap that one
    /// of them has seen no longer grows, and is not merged with one that it has not seen: else the growth
    /// would pass that destination by. Said again after each open: the file does not know it.
    pub fn keep_apart_at(&mut self, positions: &[u64]) {
        self.positions.clear();
        self.positions.extend_from_slice(positions);
    }

    /// The gaps that cover anything between the two sequences, both included.
    pub fn covering(&self, first: u64, last: u64) -> std::slice::Iter<'_, Gap> {
        self.gaps[self.overlapped(first, last)].iter()
    }

    /// The gap that covers `sequence`, else the first one behind it.
    pub fn next_at_or_after(&self, sequence: u64) -> Option<&Gap> {
        self.gaps.get(self.gaps.partition_point(|gap| gap.last_sequence < sequence))
    }

    /// Every gap, in ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, Gap> {
        self.gaps.iter()
    }

    /// How many gaps.
    pub fn len(&self) -> usize {
        self.gaps.len()
    }

    /// How many gaps were ever added, merged since or not.
    pub fn named_count(&self) -> u64 {
        self.named_count
    }

    /// Whether nothing is lost that is not confirmed.
    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    fn overlapped(&self, first: u64, last: u64) -> std::ops::Range<usize> {
        let start = self.gaps.partition_point(|gap| gap.last_sequence < first);
        let end = self.gaps.partition_point(|gap| gap.first_sequence <= last);
        start..end.max(start)
    }

    /// The parts of the range of `gap` that `overlapped` leave over, and whether that is all there is to say.
    fn uncovered(&mut self, gap: &Gap, overlapped: std::ops::Range<usize>) -> (Vec<(u64, u64)>, bool) {
        let (mut pieces, mut exact) = (Vec::new(), true);
        let mut next = gap.first_sequence;
        for named in &mut self.gaps[overlapped] {
            if named.first_sequence > next {
                pieces.push((next, named.first_sequence - 1));
            }
            let is_inside =
                named.first_sequence >= gap.first_sequence && named.last_sequence <= gap.last_sequence;
            if gap.is_dense() && is_inside {
                // Now everything in a sparse gap is lost. Which of it was lost before is forgotten: say the first.
                named.last_sequence = named.first_sequence + named.count - 1;
            } else if gap.is_dense() {
                exact &= named.is_dense();
            }
            next = named.last_sequence.saturating_add(1);
        }
        if next <= gap.last_sequence {
            pieces.push((next, gap.last_sequence));
        }
        (pieces, exact)
    }

    fn insert(&mut self, gap: Gap) {
        self.body_bytes += gap_bytes(&gap);
        let index = self.gaps.partition_point(|other| other.first_sequence < gap.first_sequence);
        self.gaps.insert(index, gap);
        let joined = self.join_if_touching(index) | (index > 0 && self.join_if_touching(index - 1));
        self.named_count += u64::from(!joined);
    }

    fn join_if_touching(&mut self, index: usize) -> bool {
        let Some([left, right]) = self.gaps.get(index..).and_then(<[Gap]>::first_chunk) else { return false };
        let touches = left.last_sequence + 1 == right.first_sequence && left.is_dense() == right.is_dense();
        let joins = touches && self.may_join(left, right);
        if joins {
            self.join(index);
        }
        joins
    }

    fn may_join(&self, left: &Gap, right: &Gap) -> bool {
        let seen = |gap: &Gap, position: u64| gap.first_sequence <= position;
        left.reason == right.reason
            && left.epoch == right.epoch
            && self.positions.iter().all(|position| seen(left, *position) == seen(right, *position))
    }

    fn join(&mut self, index: usize) {
        let right = self.gaps.remove(index + 1);
        let left = &mut self.gaps[index];
        self.body_bytes -= gap_bytes(left) + gap_bytes(&right);
        left.last_sequence = right.last_sequence;
        left.count += right.count;
        left.bytes = left.bytes.saturating_add(right.bytes);
        left.first_timestamp = earliest(left.first_timestamp, right.first_timestamp);
        left.last_timestamp = left.last_timestamp.max(right.last_timestamp);
        let (keys, others) = keys::merged(std::mem::take(&mut left.keys), right.keys);
        left.keys = keys;
        let sums = left.other_keys_count.saturating_add(right.other_keys_count);
        left.other_keys_count = sums.saturating_add(others);
        self.body_bytes += gap_bytes(left);
    }

    /// Makes the gaps fit the file. False when there are too many, and no two that may be merged.
    fn shrink(&mut self) -> bool {
        while self.gaps.len() > GAPS_MAX {
            let Some(index) = self.nearest_pair() else { return false };
            self.join(index);
        }
        if self.body_bytes > BODY_BYTES_MAX {
            self.sum_smallest_keys();
        }
        true
    }

    fn nearest_pair(&self) -> Option<usize> {
        let pairs = self.gaps.windows(2).enumerate();
        let mergeable = pairs.filter(|(_, pair)| self.may_join(&pair[0], &pair[1]));
        let nearest = mergeable.min_by_key(|(_, pair)| pair[1].first_sequence - pair[0].last_sequence);
        nearest.map(|(index, _)| index)
    }

    fn sum_smallest_keys(&mut self) {
        let keys = self.gaps.iter().flat_map(|gap| &gap.keys);
        let mut counts: Vec<_> = keys.map(|(key, count)| (*count, key_bytes(key))).collect();
        counts.sort_unstable();
        let mut surplus = self.body_bytes - BODY_BYTES_EASED;
        let enough = counts.iter().find(|(_, bytes)| {
            surplus = surplus.saturating_sub(*bytes);
            surplus == 0
        });
        let count_summed_max = enough.map_or(u64::MAX, |(count, _)| *count);
        let mut surplus = self.body_bytes - BODY_BYTES_EASED;
        // Keys are largest first, so from the back; of those at the limit only as many as must go.
        for gap in &mut self.gaps {
            while let Some((key, count)) = gap.keys.pop_if(|(_, count)| *count <= count_summed_max) {
                if count == count_summed_max && surplus == 0 {
                    gap.keys.push((key, count));
                    break;
                }
                surplus = surplus.saturating_sub(key_bytes(&key));
                gap.other_keys_count = gap.other_keys_count.saturating_add(count);
            }
        }
        self.body_bytes = self.gaps.iter().map(gap_bytes).sum();
    }
}

/// `gap` as its parts over `pieces`. Of a dense gap each piece is lost whole; the losses of a sparse one are spread
/// over them.
fn cut(gap: Gap, pieces: &[(u64, u64)], exact: &mut bool) -> Vec<Gap> {
    if pieces == [(gap.first_sequence, gap.last_sequence)] {
        let (keys, others) = keys::largest(gap.keys);
        let other_keys_count = gap.other_keys_count.saturating_add(others);
        return vec![Gap { keys, other_keys_count, ..gap }];
    }
    let room: u64 = pieces.iter().map(|(first, last)| last - first + 1).sum();
    let is_dense = gap.is_dense();
    let mut count_left = if is_dense { room } else { gap.count.min(room) };
    *exact &= is_dense || count_left == gap.count;
    let mut room_left = room;
    let mut parts = Vec::with_capacity(pieces.len());
    for (first, last) in pieces {
        let span = last - first + 1;
        // What is left is spread over the room that is left, so that rounding loses nothing.
        let count = keys::share(count_left, span, room_left);
        (count_left, room_left) = (count_left - count, room_left - span);
        if count > 0 {
            parts.push(part(&gap, (*first, *last), count));
        }
    }
    parts
}

fn part(gap: &Gap, (first_sequence, last_sequence): (u64, u64), count: u64) -> Gap {
    let of_part = |value| keys::share(value, count, gap.count);
    let shares = gap.keys.iter().map(|(key, count)| (key.clone(), of_part(*count)));
    let (keys, _) = keys::largest(shares.collect());
    let listed = keys.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    let keyed = gap.keys.iter().fold(gap.other_keys_count, |sum, (_, count)| sum.saturating_add(*count));
    let other_keys_count = of_part(keyed).saturating_sub(listed);
    Gap { first_sequence, last_sequence, count, bytes: of_part(gap.bytes), keys, other_keys_count, ..*gap }
}

fn earliest(one: u64, other: u64) -> u64 {
    // 0 is not a time but the absence of one.
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}
