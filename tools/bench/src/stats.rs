//! Medians and spreads (pure).

/// The least, the median and the most of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

/// Of an even count the median is the mean of the middle two. `None` for no values.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { sorted[middle - 1].midpoint(sorted[middle]) };
    Some(Spread { least, median, most })
}

/// Numbers that look random and come back with the same seed: for orders and payloads, for nothing secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Puts `values` into an order of its own.
    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, (self.draw() % (last as u64 + 1)) as usize);
        }
    }

    /// `count` bytes that no device can compress.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_median_has_as_many_below_as_above(values in prop::collection::vec(-1e9..1e9f64, 1..50)) {
            let found = spread(&values).unwrap();
            let below = values.iter().filter(|&&value| value < found.median).count();
            let above = values.iter().filter(|&&value| value > found.median).count();
            prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
            prop_assert!(values.iter().all(|&value| found.least <= value && value <= found.most));
            prop_assert!(values.contains(&found.least) && values.contains(&found.most));
        }

        #[test]
        fn shuffling_loses_nothing_and_a_seed_repeats_it(seed: u64, count in 0..20usize) {
            let shuffled = |seed| {
                let mut values: Vec<usize> = (0..count).collect();
                Random::new(seed).shuffle(&mut values);
                values
            };
            let mut sorted = shuffled(seed);
            prop_assert_eq!(&sorted, &shuffled(seed));
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_has_no_median_and_two_have_the_middle() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[4.0, 2.0]), Some(Spread { least: 2.0, median: 3.0, most: 4.0 }));
    }
}
