//! A set of sequences as ranges: memory grows with its holes, not with its members.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Sequences; neighbours are one range.
#[derive(Debug, Clone, Default)]
pub(super) struct Intervals {
    /// First to last of each range.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Intervals {
    /// Puts all of `range` in, and says how many of it had not been there.
    pub(super) fn insert(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = (*range.start(), *range.end());
        if first > last {
            return 0;
        }
        let (mut start, mut end, mut known) = (first, last, 0);
        // Every range that touches the new one, from the right to the left, becomes part of it.
        while let Some((&old_start, &old_end)) = self.ranges.range(..=end.saturating_add(1)).next_back() {
            if old_end.saturating_add(1) < start {
                break;
            }
            let (from, to) = (old_start.max(first), old_end.min(last));
            known += if from <= to { to - from + 1 } else { 0 };
            start = start.min(old_start);
            end = end.max(old_end);
            self.ranges.remove(&old_start);
        }
        self.ranges.insert(start, end);
        let new = last - first + 1 - known;
        self.count += new;
        new
    }

    /// How many are between the first and the last and not in it.
    pub(super) fn missing(&self) -> u64 {
        match (self.ranges.first_key_value(), self.ranges.last_key_value()) {
            (Some((first, _)), Some((_, last))) => last - first + 1 - self.count,
            _ => 0,
        }
    }

    /// How many ranges it is.
    pub(super) fn range_count(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_counts_as_a_set_of_numbers_does() {
        // A small multiplicative sequence instead of chance: the same ranges every time.
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let (mut intervals, mut numbers) = (Intervals::default(), BTreeSet::new());
            for _ in 0..40 {
                let first = 1 + draw(120);
                let last = first + draw(9);
                let new = (first..=last).filter(|number| numbers.insert(*number)).count() as u64;
                assert_eq!(intervals.insert(first..=last), new);
                let span = numbers.last().unwrap() - numbers.first().unwrap() + 1;
                assert_eq!(intervals.missing(), span - numbers.len() as u64);
            }
        }
    }

    #[test]
    fn neighbours_are_one_range() {
        let mut intervals = Intervals::default();
        for sequence in (1..=1_000).rev() {
            intervals.insert(sequence..=sequence);
        }
        assert_eq!((intervals.range_count(), intervals.missing()), (1, 0));
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "a range that is none is what is tried")]
    fn the_ends_of_the_numbers_are_no_trouble() {
        let mut intervals = Intervals::default();
        assert_eq!(intervals.insert(u64::MAX..=u64::MAX), 1);
        assert_eq!(intervals.insert(1..=u64::MAX), u64::MAX - 1);
        assert_eq!(intervals.insert(5..=4), 0);
        assert_eq!(intervals.missing(), 0);
    }
}
