//! Rounds of laps: each round runs one lap of every lane, in an order of its own.
//!
//! What drifts (other guests, the device's own housekeeping) then meets all lanes alike, and a round's lap of one
//! lane can be held against its neighbour's. It knows no engine and no device.

use forebay::Result;

use crate::Bench;
use crate::stats::Random;

/// What one lap came to: figures by their names in the report.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(pub(crate) Vec<(&'static str, f64)>);

impl Sample {
    pub(crate) fn set(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// Nothing where the kernel does not tell.
    pub(crate) fn set_known(&mut self, name: &'static str, value: Option<f64>) {
        self.0.extend(value.map(|value| (name, value)));
    }
}

/// One of the things that are measured side by side: its laps.
pub(crate) type Lane<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// The samples of each lane, in the order of the lanes; those of one round have the same index.
pub(crate) fn run(bench: &Bench<'_>, lanes: &mut [Lane<'_>]) -> Result<Vec<Vec<Sample>>> {
    let mut random = Random::new(bench.seed);
    let mut samples = vec![Vec::new(); lanes.len()];
    for _ in 0..bench.repeats {
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        random.shuffle(&mut order);
        for index in order {
            bench.goes_on()?;
            let sample = lanes[index]()?;
            samples[index].push(sample);
        }
    }
    Ok(samples)
}
