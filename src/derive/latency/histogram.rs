//! A histogram that only grows: latencies by slot, with whole cumulative counts for exposition.
//!
//! Must not: ever give a count that is lower than one it gave before.

use super::grid::{CLASSIC, CLASSIC_SLOTS, SLOTS};

/// Sums of many parts of calls miss a whole number by rounding; less than this is no part of one.
const ROUNDING: f64 = 1e-6;

/// Counts calls by latency. 2 KiB.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    slots: [f64; SLOTS],
    count: u64,
    sum: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { slots: [0.0; SLOTS], count: 0, sum: 0.0 }
    }
}

impl Latencies {
    /// Adds `calls` calls of `seconds` in all, spread over the slots as `mass` says.
    pub fn add(&mut self, mass: &[f64; SLOTS], calls: u64, seconds: f64) {
        for (slot, m) in self.slots.iter_mut().zip(mass) {
            *slot += m;
        }
        self.count = self.count.saturating_add(calls);
        if seconds > 0.0 && seconds.is_finite() {
            self.sum += seconds;
        }
    }

    /// Calls so far: exact.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Seconds so far: exact.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Calls by slot, parts of calls included.
    pub fn slots(&self) -> &[f64; SLOTS] {
        &self.slots
    }

    /// Cumulative counts at [`super::grid::CLASSIC_BOUNDS`].
    ///
    /// A call that is spread over several slots is counted where its last part falls: the whole part
    /// of the sum up to a bound. Sums in a fixed order of terms that never fall never fall either,
    /// rounding included, so the counts are monotone in time and from bound to bound.
    pub fn cumulative(&self) -> [u64; CLASSIC] {
        let mut out = [0; CLASSIC];
        let (mut sum, mut from) = (0.0, 0);
        for (out, to) in out.iter_mut().zip(CLASSIC_SLOTS) {
            for slot in &self.slots[from..to] {
                sum += slot;
            }
            from = to;
            *out = whole(sum).min(self.count);
        }
        out
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of positive parts of calls; the cast saturates"
)]
fn whole(sum: f64) -> u64 {
    (sum + ROUNDING) as u64
}

#[cfg(test)]
mod tests {
    use super::super::grid::{CLASSIC_BOUNDS, slot, spread};
    use super::*;
    use proptest::prelude::*;

    fn at(bound: f64) -> usize {
        CLASSIC_BOUNDS.iter().position(|b| *b == bound).unwrap()
    }

    #[test]
    fn whole_calls_are_counted_at_the_bounds_they_lie_below() {
        let mut latencies = Latencies::default();
        let mut mass = [0.0; SLOTS];
        for x in [0.0099, 0.01, 0.0101, 0.05, 0.0501] {
            mass[slot(x)] += 1.0;
        }
        latencies.add(&mass, 5, 0.1301);
        let counts = latencies.cumulative();
        assert_eq!((counts[at(0.0078125)], counts[at(0.01)], counts[at(0.05)]), (0, 2, 4));
        assert_eq!((counts[at(0.015625)], counts[at(64.0)]), (3, 5));
        assert_eq!((latencies.count(), latencies.sum()), (5, 0.1301));
    }

    #[test]
    fn parts_of_a_call_become_one_where_they_are_complete() {
        let mut latencies = Latencies::default();
        for _ in 0..10 {
            let mut mass = [0.0; SLOTS];
            spread(100, 0.7, &mut mass);
            spread(160, 0.3, &mut mass);
            latencies.add(&mass, 1, 0.5);
        }
        let counts = latencies.cumulative();
        assert_eq!((counts[at(0.0078125)], counts[at(1.0)], counts[at(2.0)]), (7, 7, 10));
    }

    proptest! {
        #[test]
        fn counts_rise_with_time_and_with_the_bound(
            adds in prop::collection::vec(
                (prop::collection::vec((0usize..256, 0.0f64..3.0), 1..6), 0u64..10), 1..30)
        ) {
            let mut latencies = Latencies::default();
            let mut before = latencies.cumulative();
            for (parts, calls) in adds {
                let mut mass = [0.0; SLOTS];
                for (k, w) in parts {
                    spread(k, w, &mut mass);
                }
                latencies.add(&mass, calls, 0.1);
                let now = latencies.cumulative();
                prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before));
                prop_assert!(now.windows(2).all(|w| w[0] <= w[1]));
                prop_assert!(now[CLASSIC - 1] <= latencies.count());
                before = now;
            }
        }
    }
}
