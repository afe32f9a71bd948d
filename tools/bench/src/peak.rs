//! Was the promise of the governor kept, by what the destination saw? Pure; the demonstration asks it too.
//!
//! The promise: in every sliding window, records <= limit x T + burst. So over all windows that begin and end
//! with an arrival, the most by which records pass limit x T is at most the burst.

/// When something arrived, in milliseconds of one clock; how many records; how many bytes.
pub type Arrival = (u64, u64, u64);

/// The governor as it stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Governed {
    /// Milliseconds of the arrivals' clock.
    pub at_ms: u64,
    /// Records a second that may go.
    pub limit_per_second: u64,
    /// Records that may go at once.
    pub burst: u64,
}

/// The worst that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Records of the window that passed limit x T by most.
    pub records: u64,
    /// Its length.
    pub seconds: f64,
    /// limit x T of that window, without the burst.
    pub granted: f64,
    /// What may pass it.
    pub burst: u64,
    /// Records of the busiest second.
    pub busiest_second: u64,
}

impl Peak {
    /// Whether the promise was kept.
    pub fn is_held(&self) -> bool {
        self.records as f64 <= self.granted + self.burst as f64
    }

    /// By how much it passed limit x T.
    pub fn above(&self) -> f64 {
        (self.records as f64 - self.granted).max(0.0)
    }
}

/// The worst of all windows within `from_ms..=to_ms`; `None` when nothing arrived there.
pub fn measure(arrivals: &[Arrival], governed: &[Governed], from_ms: u64, to_ms: u64) -> Option<Peak> {
    let within: Vec<_> = arrivals.iter().filter(|(at, ..)| (from_ms..=to_ms).contains(at)).collect();
    let mut worst: Option<Peak> = None;
    // Where the worst window that ends here begins: its index, records before it, and limit x time before it.
    let mut begin: Option<(u64, u64, f64)> = None;
    let mut sum = 0;
    for (at_ms, records, _) in within.iter().copied() {
        let granted = granted_until(governed, from_ms, *at_ms);
        let debt = sum as f64 - granted;
        if begin.is_none_or(|(_, before, granted)| debt <= before as f64 - granted) {
            begin = Some((*at_ms, sum, granted));
        }
        sum += records;
        let (begin_ms, before, granted_before) = begin.expect("set above");
        let (limit, burst) = in_force(governed, *at_ms);
        // Both ends are cut to whole milliseconds: the window may be one longer than it looks.
        let peak = Peak {
            records: sum - before,
            seconds: (at_ms - begin_ms + 1) as f64 / 1e3,
            granted: granted - granted_before + limit as f64 / 1e3,
            burst,
            busiest_second: 0,
        };
        let excess = |peak: &Peak| peak.records as f64 - peak.granted - peak.burst as f64;
        if worst.is_none_or(|worst| excess(&peak) > excess(&worst)) {
            worst = Some(peak);
        }
    }
    worst.map(|worst| Peak { busiest_second: busiest_second(&within), ..worst })
}

fn busiest_second(within: &[&Arrival]) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (at_ms, records, _) in within.iter().copied() {
        sum += records;
        while within[first].0 + 1_000 <= *at_ms {
            sum -= within[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// The limit's integral from `from_ms` to `to_ms`. Between two looks it may have changed at any moment: the
/// larger one counts.
fn granted_until(governed: &[Governed], from_ms: u64, to_ms: u64) -> f64 {
    let mut granted = 0.0;
    for (index, look) in governed.iter().enumerate() {
        let next = governed.get(index + 1);
        let begin = if index == 0 { from_ms } else { look.at_ms.max(from_ms) };
        let end = next.map_or(to_ms, |next| next.at_ms.min(to_ms));
        let limit = look.limit_per_second.max(next.map_or(0, |next| next.limit_per_second));
        granted += limit as f64 * end.saturating_sub(begin) as f64 / 1e3;
    }
    granted
}

/// Limit and burst at a moment; around a change the larger ones.
fn in_force(governed: &[Governed], at_ms: u64) -> (u64, u64) {
    let after = governed.partition_point(|look| look.at_ms <= at_ms);
    let near = &governed[after.saturating_sub(1)..(after + 1).min(governed.len())];
    let most = |of: fn(&Governed) -> u64| near.iter().map(of).max().unwrap_or(0);
    (most(|look| look.limit_per_second), most(|look| look.burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(limit: u64) -> Vec<Governed> {
        (0..100).map(|n| Governed { at_ms: n * 100, limit_per_second: limit, burst: limit / 10 }).collect()
    }

    #[test]
    fn an_even_flow_at_the_limit_with_one_burst_holds() {
        let mut arrivals = vec![(1_000, 100, 0)];
        arrivals.extend((1..50).map(|n| (1_000 + n * 50, 50, 0)));
        let peak = measure(&arrivals, &steady(1_000), 1_000, 5_000).unwrap();
        assert!(peak.is_held(), "{peak:?}");
        assert_eq!(peak.busiest_second, 100 + 19 * 50);
    }

    #[test]
    fn a_flow_above_the_limit_is_found_wherever_it_is() {
        for begin in [1_000, 3_000, 4_900] {
            let mut arrivals: Vec<_> = (0..80).map(|n| (1_000 + n * 50, 40, 0)).collect();
            arrivals.extend([(begin, 70, 0), (begin + 2, 70, 0)]);
            arrivals.sort_unstable();
            let peak = measure(&arrivals, &steady(1_000), 1_000, 5_000).unwrap();
            assert!(!peak.is_held(), "{begin}: {peak:?}");
        }
    }

    #[test]
    fn a_slow_excess_adds_up() {
        // 10 % above the limit: after a second and a bit the burst is used up.
        let arrivals: Vec<_> = (0..80).map(|n| (1_000 + n * 50, 55, 0)).collect();
        assert!(!measure(&arrivals, &steady(1_000), 1_000, 5_000).unwrap().is_held());
        assert!(measure(&arrivals, &steady(1_000), 1_000, 1_300).unwrap().is_held());
        assert_eq!(measure(&arrivals, &steady(1_000), 9_000, 9_500), None);
    }
}
