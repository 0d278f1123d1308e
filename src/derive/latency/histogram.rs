//! A histogram that only grows: whole calls by latency, for exposition.
//!
//! Must not: ever give a count that is lower than one it gave before, or counts that do not add up.

use super::grid::{
    CELLS, CLASSIC, CLASSIC_SLOTS, NATIVE_ZERO_CELLS, SLOTS, first_slot, native_index,
};

/// Sums of many parts of calls miss a whole number by rounding; less than this is no part of one.
const ROUNDING: f64 = 1e-6;

/// Counts calls by latency. 4 KiB.
///
/// An interval's mass is mostly parts of calls, and a bucket wants whole ones, which may never be
/// taken back. So each interval's calls are made whole as it is added: first the whole ones of each
/// slot, then the rest of the calls where the parts add up to them, together with the parts that
/// earlier intervals still owe. Each slot only ever gains, all slots together are the count, and
/// classic and native buckets, being sums of slots, agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    slots: [u64; SLOTS],
    /// For each slot: how many more calls up to and with it there were than its counts say.
    owed: [f64; SLOTS],
    count: u64,
    sum: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { slots: [0; SLOTS], owed: [0.0; SLOTS], count: 0, sum: 0.0 }
    }
}

impl Latencies {
    /// Adds `calls` calls of `seconds` in all, spread over the slots as `mass` says.
    pub fn add(&mut self, mass: &[f64; SLOTS], calls: u64, seconds: f64) {
        if seconds > 0.0 && seconds.is_finite() {
            self.sum += seconds;
        }
        let calls = calls.min(u64::MAX - self.count);
        self.count += calls;
        let mut left = calls;
        let (mut parts, mut total) = ([0.0; SLOTS], 0.0);
        for ((slot, part), m) in self.slots.iter_mut().zip(&mut parts).zip(mass) {
            let m = if *m > 0.0 { *m } else { continue };
            let given = whole(m).min(left);
            *slot += given;
            left -= given;
            *part = (m - given as f64).max(0.0);
            total += *part;
        }
        if left > 0 {
            if total > 0.0 {
                // 1 but for rounding.
                let scale = left as f64 / total;
                parts.iter_mut().for_each(|part| *part *= scale);
            } else {
                parts[0] = left as f64;
            }
            self.give(&parts, left);
        }
    }

    /// Gives `left` whole calls to the slots so that the counts up to each slot stay as near as
    /// they can to the sums of the parts up to it, `owed` included.
    ///
    /// These sums need not rise from slot to slot, since `owed` does not, while whole calls can only
    /// be given: the rising sequence that is nearest at its worst place is half way between the
    /// highest so far and the lowest still to come; rounding it keeps it rising.
    fn give(&mut self, parts: &[f64; SLOTS], left: u64) {
        let mut sum = 0.0;
        for (owed, part) in self.owed.iter_mut().zip(parts) {
            sum += part;
            *owed += sum;
        }
        let mut lowest = self.owed;
        for k in (0..SLOTS - 1).rev() {
            lowest[k] = lowest[k].min(lowest[k + 1]);
        }
        let (mut highest, mut given) = (f64::NEG_INFINITY, 0);
        for (k, (owed, slot)) in self.owed.iter_mut().zip(&mut self.slots).enumerate() {
            highest = highest.max(*owed);
            let up_to = whole(f64::midpoint(highest, lowest[k]) + 0.5 - ROUNDING);
            let up_to = if k == SLOTS - 1 { left } else { up_to.clamp(given, left) };
            *slot += up_to - given;
            given = up_to;
            *owed -= given as f64;
        }
        // Nothing is owed in all, but for rounding.
        self.owed[SLOTS - 1] = 0.0;
    }

    /// Calls so far: exact.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Seconds so far: exact.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Cumulative counts at [`super::grid::CLASSIC_BOUNDS`].
    pub fn cumulative(&self) -> [u64; CLASSIC] {
        let mut out = [0; CLASSIC];
        let (mut sum, mut from) = (0, 0);
        for (out, to) in out.iter_mut().zip(CLASSIC_SLOTS) {
            sum += self.slots[from..to].iter().sum::<u64>();
            from = to;
            *out = sum;
        }
        out
    }

    /// Count of the zero bucket of a native histogram: what is at most
    /// [`super::grid::NATIVE_ZERO_THRESHOLD`].
    pub fn native_zero(&self) -> u64 {
        self.slots[..first_slot(NATIVE_ZERO_CELLS)].iter().sum()
    }

    /// The other buckets of a native histogram of schema [`super::grid::NATIVE_SCHEMA`], those
    /// without calls left out: index and count, by ascending index.
    pub fn native_buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (NATIVE_ZERO_CELLS..CELLS).filter_map(|k| {
            let count = self.slots[first_slot(k)..first_slot(k + 1)].iter().sum();
            (count > 0).then(|| (native_index(k), count))
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is negative is nothing; the cast saturates"
)]
fn whole(calls: f64) -> u64 {
    (calls + ROUNDING) as u64
}

#[cfg(test)]
mod tests {
    use super::super::grid::{CLASSIC_BOUNDS, MIDDLES, slot, spread};
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

    /// The parts themselves, up to and with each slot.
    fn sums(mass: &[f64; SLOTS]) -> [f64; SLOTS] {
        let (mut out, mut sum) = ([0.0; SLOTS], 0.0);
        for (out, m) in out.iter_mut().zip(mass) {
            sum += m;
            *out = sum;
        }
        out
    }

    #[test]
    fn parts_of_a_call_become_one_where_they_are_complete() {
        let mut latencies = Latencies::default();
        let (first, second) = (slot(MIDDLES[100]), slot(MIDDLES[160]));
        let mut given = Vec::new();
        for _ in 0..10 {
            let mut mass = [0.0; SLOTS];
            spread(100, 0.7, &mut mass);
            spread(160, 0.3, &mut mass);
            latencies.add(&mass, 1, 0.5);
            given.push((latencies.slots[first], latencies.slots[second]));
        }
        let want = [(1, 0), (1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (6, 2), (6, 3), (7, 3)];
        assert_eq!(given, want);
    }

    #[test]
    fn what_was_observed_is_counted_where_it_was_whatever_is_owed() {
        let mut latencies = Latencies::default();
        let exact = slot(0.049);
        for n in 1..=100 {
            let mut mass = [0.0; SLOTS];
            for k in 80..140 {
                spread(k, 4.0 / 60.0, &mut mass);
            }
            let before = latencies.slots[exact];
            mass[exact] += 1.0;
            latencies.add(&mass, 5, 0.1);
            assert!(latencies.slots[exact] > before, "{n}");
        }
    }

    #[test]
    fn native_buckets_are_the_cells_and_agree_with_the_classic_ones() {
        let mut latencies = Latencies::default();
        let mut mass = [0.0; SLOTS];
        for x in [0.0, 1e-6, 0.0099, 0.01, 0.0105, 0.5, 1.0, 1.01, 5_000.0] {
            mass[slot(x)] += 1.0;
        }
        latencies.add(&mass, 9, 5_002.5);
        let found: Vec<(i32, u64)> = latencies.native_buckets().collect();
        // Bucket i ends at 2^(i/8): 0.0098 < 0.0099 < 0.01 < 0.0105 < 0.0107, 1.0 is a bound itself.
        assert_eq!(found, [(-53, 2), (-52, 1), (-8, 1), (0, 1), (1, 1), (96, 1)]);
        assert_eq!(latencies.native_zero(), 2);
        let counts = latencies.cumulative();
        assert_eq!((counts[at(0.01)], counts[at(0.5)], counts[at(1.0)]), (4, 6, 7));
    }

    #[test]
    fn counts_stay_within_two_calls_of_the_parts_for_ever() {
        let mut latencies = Latencies::default();
        let mut all = [0.0; SLOTS];
        let (mut squares, mut seen) = (0.0, 0.0);
        for n in 0..5_000 {
            let (from, width, calls) = (60 + n * 37 % 80, 1 + n * 23 % 61, 1 + n as u64 * 7 % 11);
            let mut mass = [0.0; SLOTS];
            (from..from + width).for_each(|k| spread(k, calls as f64 / width as f64, &mut mass));
            all.iter_mut().zip(&mass).for_each(|(all, m)| *all += m);
            latencies.add(&mass, calls, 0.1);
            let mut up_to = 0;
            for (slot, sum) in latencies.slots.iter().zip(sums(&all)) {
                up_to += slot;
                let off = up_to as f64 - sum;
                assert!(off.abs() < 2.0, "{off} after {n}");
                squares += off * off;
                seen += 1.0;
            }
        }
        // Rounding alone makes the root of a twelfth, 0.29.
        let typical = f64::sqrt(squares / seen);
        assert!(typical < 0.35, "{typical}");
    }

    proptest! {
        #[test]
        fn counts_only_rise_add_up_and_stay_near_the_parts(
            adds in prop::collection::vec(
                (prop::collection::vec((0usize..256, 1usize..60, 0.01f64..9.0), 1..4), 1u64..40),
                1..60)
        ) {
            let mut latencies = Latencies::default();
            let mut before = latencies.clone();
            let mut all = [0.0; SLOTS];
            for (parts, calls) in adds {
                let mut mass = [0.0; SLOTS];
                for (k, width, w) in parts {
                    for k in k..(k + width).min(CELLS) {
                        spread(k, w / width as f64, &mut mass);
                    }
                }
                let total: f64 = mass.iter().sum();
                for (all, m) in all.iter_mut().zip(&mut mass) {
                    *m *= calls as f64 / total;
                    *all += *m;
                }
                latencies.add(&mass, calls, 0.1);
                prop_assert!(latencies.slots.iter().zip(before.slots).all(|(a, b)| *a >= b));
                prop_assert_eq!(latencies.slots.iter().sum::<u64>(), latencies.count());
                let native: u64 = latencies.native_buckets().map(|b| b.1).sum();
                prop_assert_eq!(native + latencies.native_zero(), latencies.count());
                let classic = latencies.cumulative();
                prop_assert!(classic.windows(2).all(|w| w[0] <= w[1]));
                prop_assert!(classic[CLASSIC - 1] <= latencies.count());
                let mut up_to = 0;
                for (slot, sum) in latencies.slots.iter().zip(sums(&all)) {
                    up_to += slot;
                    let off = (up_to as f64 - sum).abs();
                    prop_assert!(off < 8.0, "{} for {sum}", up_to);
                }
                before = latencies.clone();
            }
        }

        #[test]
        fn any_mass_is_counted_once(
            adds in prop::collection::vec(
                (prop::collection::vec((0usize..SLOTS, any::<f64>()), 0..6), any::<u64>()), 1..20)
        ) {
            let mut latencies = Latencies::default();
            let mut before = latencies.clone();
            for (parts, calls) in adds {
                let mut mass = [0.0; SLOTS];
                for (slot, m) in parts {
                    mass[slot] = m;
                }
                latencies.add(&mass, calls, 0.1);
                prop_assert!(latencies.slots.iter().zip(before.slots).all(|(a, b)| *a >= b));
                prop_assert_eq!(latencies.slots.iter().sum::<u64>(), latencies.count());
                before = latencies.clone();
            }
        }
    }
}
