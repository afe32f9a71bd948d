//! How long things took, as a histogram that many threads write.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::runner::Sample;

/// A nanosecond to a minute, three digits.
const NANOSECONDS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// Times of one kind. Recording locks one of several parts: give each producer another number.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Mutex<Histogram<u64>>>);

/// The figures of a histogram in a report.
pub(crate) struct Names {
    pub(crate) p50: &'static str,
    pub(crate) p99: &'static str,
    pub(crate) p999: &'static str,
    pub(crate) most: &'static str,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS).expect("the bounds are in order")
}

impl Latencies {
    pub(crate) fn new(parts: usize) -> Self {
        Self((0..parts.max(1)).map(|_| Mutex::new(histogram())).collect())
    }

    pub(crate) fn record(&self, part: usize, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut part = self.0[part % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner);
        part.saturating_record(nanoseconds);
    }

    /// Takes in the times of another.
    pub(crate) fn add(&self, other: &Self) {
        let mut first = self.0[0].lock().unwrap_or_else(PoisonError::into_inner);
        first.add(other.whole()).expect("all have the same bounds");
    }

    /// All parts in one.
    pub(crate) fn whole(&self) -> Histogram<u64> {
        let mut whole = histogram();
        for part in &self.0 {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            whole.add(&*part).expect("all have the same bounds");
        }
        whole
    }

    /// Its figures; none where nothing was recorded.
    pub(crate) fn figures(&self, names: &Names, sample: &mut Sample) {
        let whole = self.whole();
        if whole.is_empty() {
            return;
        }
        sample.set(names.p50, whole.value_at_quantile(0.5) as f64);
        sample.set(names.p99, whole.value_at_quantile(0.99) as f64);
        sample.set(names.p999, whole.value_at_quantile(0.999) as f64);
        sample.set(names.most, whole.max() as f64);
    }
}
