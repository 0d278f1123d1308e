//! Latencies in bounded memory: 128 buckets to each doubling, so that a percentile is at most 0.8 % above
//! the sample it stands for. Count and largest are exact.
//!
//! Must not: grow with the number of samples.

use std::time::Duration;

/// Steps of one doubling, as bits.
const BITS: u32 = 7;
const STEPS: u64 = 1 << BITS;
/// 2^40 µs are twelve days.
const LONGEST: u64 = (1 << 40) - 1;

/// Durations from 1 µs to twelve days.
#[derive(Debug, Clone, Default)]
pub struct DurationHistogram {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl DurationHistogram {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        let at = bucket(u64::try_from(sample.as_micros()).unwrap_or(LONGEST).min(LONGEST));
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.count += 1;
        self.max = self.max.max(sample);
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest; zero if there is none.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The percentile by nearest rank, as the upper edge of its bucket; `None` if there is no sample.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let wanted = (percent / 100.0 * self.count as f64).ceil().max(1.0);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return Some(Duration::from_micros(edge(at as u64)).min(self.max));
            }
        }
        None
    }
}

/// Below 256 each value has a bucket; above, the highest eight bits of a value name it.
fn bucket(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(BITS + 1);
    #[expect(clippy::cast_possible_truncation, reason = "at most 34 times 128")]
    let at = (u64::from(shift) * STEPS + (value >> shift)) as usize;
    at
}

/// The largest value of a bucket, plus one beyond the exact ones.
fn edge(bucket: u64) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    (bucket - shift * STEPS + 1) << shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(DurationHistogram::default().percentile(50.0), None);
        assert_eq!(DurationHistogram::default().max(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_a_sort_to_one_part_in_128(
            samples in proptest::collection::vec(1u64..100_000_000, 1..300)
        ) {
            let mut sorted = samples.clone();
            sorted.sort_unstable();
            let mut histogram = DurationHistogram::default();
            samples.iter().for_each(|s| histogram.add(Duration::from_micros(*s)));
            prop_assert_eq!(histogram.count(), samples.len() as u64);
            prop_assert_eq!(histogram.max(), Duration::from_micros(sorted[sorted.len() - 1]));
            for percent in [1.0, 50.0, 95.0, 99.0, 100.0] {
                let exact = crate::derive::sample::percentile(&sorted, percent).unwrap() as f64;
                let got = histogram.percentile(percent).unwrap().as_micros() as f64;
                prop_assert!(got >= exact && got <= exact * (1.0 + 1.0 / 128.0) + 1.0,
                    "{}: {} for {}", percent, got, exact);
            }
        }
    }
}
