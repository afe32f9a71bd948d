//! What has arrived, counted: received, distinct, missing, gaps; and when. Pure: `now` is an argument.
//!
//! *Distinct* goes by identity (store, epoch, sequence). *Missing* are the sequences of a store between the
//! first and the last it spoke of that neither a record nor a gap covers. Memory grows with holes and has a
//! limit; a batch beyond it is refused rather than miscounted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::intervals::Intervals;
use super::wire::{Body, Span};

/// Ranges of all sets together, at most: some 32 MiB.
const RANGE_COUNT_MAX: usize = 1 << 20;
/// How long an arrival is remembered.
const ARRIVALS_AGE_MAX: Duration = Duration::from_secs(600);
/// How many are remembered, at most: 24 MiB.
const ARRIVALS_MAX: usize = 1 << 20;

/// Sums since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Records, repeats included.
    pub(crate) received: u64,
    /// Records by identity.
    pub(crate) distinct: u64,
    /// `received - distinct`.
    pub(crate) duplicates: u64,
    /// Sequences that neither a record nor a gap covers.
    pub(crate) missing: u64,
    /// Gaps, repeats not counted.
    pub(crate) gaps: u64,
    /// Sequences that gaps cover.
    pub(crate) gap_sequences: u64,
    /// Keys and payloads, repeats included.
    pub(crate) bytes: u64,
    /// Batches taken.
    pub(crate) batches: u64,
    /// Requests answered otherwise than with a 2xx.
    pub(crate) refused: u64,
}

/// When a batch came: milliseconds since 1970, records, bytes.
pub(crate) type Arrival = (u64, u64, u64);

/// The counting.
#[derive(Debug, Default)]
pub(super) struct Tally {
    totals: Totals,
    stores: HashMap<String, Store>,
    arrivals: VecDeque<Arrival>,
}

/// What is known of one store.
#[derive(Debug, Default)]
struct Store {
    records: HashMap<String, Intervals>,
    gaps: Intervals,
    /// Records of all epochs, and gaps.
    covered: Intervals,
}

impl Tally {
    /// Whether there is room to count what may come.
    pub(super) fn has_room(&self) -> bool {
        self.stores.values().map(Store::range_count).sum::<usize>() + self.stores.len() < RANGE_COUNT_MAX
    }

    /// Counts a body that has arrived `now` (since 1970).
    pub(super) fn count(&mut self, body: &Body, now: Duration) {
        for span in &body.spans {
            self.count_span(span);
        }
        self.totals.received += body.records;
        self.totals.bytes += body.bytes;
        self.totals.batches += 1;
        let now_ms = now.as_millis() as u64;
        self.arrivals.push_back((now_ms, body.records, body.bytes));
        let oldest_ms = now_ms.saturating_sub(ARRIVALS_AGE_MAX.as_millis() as u64);
        while self.arrivals.len() > ARRIVALS_MAX
            || self.arrivals.front().is_some_and(|(ms, ..)| *ms < oldest_ms)
        {
            self.arrivals.pop_front();
        }
    }

    fn count_span(&mut self, span: &Span) {
        if !self.stores.contains_key(&span.store) {
            self.stores.insert(span.store.clone(), Store::default());
        }
        let store = self.stores.get_mut(&span.store).expect("it was just put in");
        store.covered.insert(span.first..=span.last);
        if span.is_gap {
            let new = store.gaps.insert(span.first..=span.last);
            self.totals.gaps += u64::from(new > 0);
            self.totals.gap_sequences += new;
            return;
        }
        if !store.records.contains_key(&span.epoch) {
            store.records.insert(span.epoch.clone(), Intervals::default());
        }
        let records = store.records.get_mut(&span.epoch).expect("it was just put in");
        self.totals.distinct += records.insert(span.first..=span.last);
    }

    /// Counts a request that was refused.
    pub(super) fn count_refused(&mut self) {
        self.totals.refused += 1;
    }

    /// The sums.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            duplicates: self.totals.received - self.totals.distinct,
            missing: self.stores.values().map(|store| store.covered.missing()).sum(),
            ..self.totals
        }
    }

    /// Every batch of the last ten minutes, oldest first.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.iter().copied().collect()
    }
}

impl Store {
    fn range_count(&self) -> usize {
        let of_records: usize = self.records.values().map(|records| records.range_count() + 1).sum();
        of_records + self.gaps.range_count() + self.covered.range_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(spans: &[(&str, u64, u64, bool)]) -> Body {
        let spans: Vec<Span> = spans
            .iter()
            .map(|(epoch, first, last, is_gap)| Span {
                store: "s".into(),
                epoch: (*epoch).into(),
                first: *first,
                last: *last,
                is_gap: *is_gap,
            })
            .collect();
        let records = spans.iter().filter(|span| !span.is_gap).map(|span| span.last - span.first + 1).sum();
        Body { spans, records, bytes: 10 * records, lines: Vec::new() }
    }

    fn counted(bodies: &[&[(&str, u64, u64, bool)]]) -> Totals {
        let mut tally = Tally::default();
        for spans in bodies {
            tally.count(&body(spans), Duration::ZERO);
        }
        tally.totals()
    }

    #[test]
    fn a_repeat_is_a_duplicate_and_another_epoch_is_none() {
        let totals =
            counted(&[&[("1.a", 1, 10, false)], &[("1.a", 5, 12, false)], &[("2.b", 12, 13, false)]]);
        assert_eq!((totals.received, totals.distinct, totals.duplicates), (20, 14, 6));
        assert_eq!(totals.missing, 0);
    }

    #[test]
    fn a_hole_is_missing_until_a_record_or_a_gap_fills_it() {
        let hole: &[_] = &[("1.a", 1, 10, false), ("2.b", 21, 30, false)];
        assert_eq!(counted(&[hole]).missing, 10);
        let totals =
            counted(&[hole, &[("1.a", 11, 15, true)], &[("1.a", 16, 20, false)], &[("1.a", 11, 15, true)]]);
        assert_eq!((totals.missing, totals.gaps, totals.gap_sequences), (0, 1, 5));
    }

    #[test]
    fn arrivals_are_forgotten_after_ten_minutes() {
        let mut tally = Tally::default();
        for second in [0, 1, 600, 601] {
            tally.count(&body(&[("1.a", 1, 2, false)]), Duration::from_secs(second));
        }
        assert_eq!(tally.arrivals(), [(1_000, 2, 20), (600_000, 2, 20), (601_000, 2, 20)]);
    }

    #[test]
    fn memory_has_a_limit() {
        let mut tally = Tally::default();
        let spans: Vec<_> = (1..=RANGE_COUNT_MAX as u64 / 2).map(|n| ("1.a", 2 * n, 2 * n, false)).collect();
        assert!(tally.has_room());
        tally.count(&body(&spans), Duration::ZERO);
        assert!(!tally.has_room());
    }
}
