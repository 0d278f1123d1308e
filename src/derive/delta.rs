//! Increments of cumulative counters, with resets told apart from progress.
//!
//! Must not: ever give a negative increment.

/// What happened to a cumulative counter between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Increment {
    /// By how much it rose; after a reset, what it has counted since.
    pub by: f64,
    /// Whether it fell, so that what it counted between the first reading and the reset is lost.
    pub reset: bool,
}

/// The increment from `prev` to `cur`. A value that is not a number counts as no progress.
pub fn increment(prev: f64, cur: f64) -> Increment {
    if cur >= prev {
        Increment { by: cur - prev, reset: false }
    } else if cur < prev {
        Increment { by: cur.max(0.0), reset: true }
    } else {
        Increment { by: 0.0, reset: false }
    }
}

/// Sums of increments over a sliding window, for ratios that must be absent where nothing happened.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaWindow<const N: usize> {
    span: f64,
    last: Option<[f64; N]>,
    steps: std::collections::VecDeque<(f64, [f64; N])>,
}

impl<const N: usize> DeltaWindow<N> {
    /// A window of `span` seconds over `N` counters.
    pub fn new(span: f64) -> Self {
        Self { span, last: None, steps: std::collections::VecDeque::new() }
    }

    /// Takes a reading of the cumulative counters at `at` seconds. Any counter that fell makes all
    /// of them start from zero: they live in one row and are reset together.
    pub fn push(&mut self, at: f64, counters: [f64; N]) {
        if let Some(last) = self.last {
            let steps: [Increment; N] = std::array::from_fn(|i| increment(last[i], counters[i]));
            let reset = steps.iter().any(|s| s.reset);
            let by =
                std::array::from_fn(|i| if reset { counters[i].max(0.0) } else { steps[i].by });
            self.steps.push_back((at, by));
        }
        self.last = Some(counters);
        while self.steps.front().is_some_and(|(t, _)| *t <= at - self.span) {
            self.steps.pop_front();
        }
    }

    /// The next reading is another server's: it is a new base, and adds nothing.
    pub fn rebase(&mut self) {
        self.last = None;
    }

    /// The increments of each counter over the window.
    pub fn sums(&self) -> [f64; N] {
        let mut sums = [0.0; N];
        for (_, by) in &self.steps {
            for (sum, by) in sums.iter_mut().zip(by) {
                *sum += by;
            }
        }
        sums
    }
}

/// `part / whole`, or nothing where `whole` is not positive.
pub fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0 && part >= 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fall_is_a_reset_and_counts_from_zero() {
        assert_eq!(increment(10.0, 4.0), Increment { by: 4.0, reset: true });
        assert_eq!(increment(10.0, 10.0), Increment { by: 0.0, reset: false });
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_span() {
        let mut w = DeltaWindow::<2>::new(60.0);
        w.push(0.0, [100.0, 10.0]);
        assert_eq!(w.sums(), [0.0, 0.0]);
        w.push(30.0, [150.0, 11.0]);
        w.push(60.0, [160.0, 12.0]);
        assert_eq!(w.sums(), [60.0, 2.0]);
        w.push(90.0, [160.0, 12.0]);
        assert_eq!(w.sums(), [10.0, 1.0]);
    }

    #[test]
    fn another_server_adds_nothing_however_much_it_counted() {
        let mut w = DeltaWindow::<1>::new(60.0);
        w.push(0.0, [100.0]);
        w.push(10.0, [103.0]);
        w.rebase();
        w.push(20.0, [9_000_000.0]);
        w.push(30.0, [9_000_004.0]);
        assert_eq!(w.sums(), [7.0]);
    }

    #[test]
    fn one_counter_that_falls_resets_all_of_its_row() {
        let mut w = DeltaWindow::<2>::new(60.0);
        w.push(0.0, [100.0, 10.0]);
        w.push(1.0, [5.0, 20.0]);
        assert_eq!(w.sums(), [5.0, 20.0]);
    }

    proptest! {
        #[test]
        fn increments_are_never_negative_or_nan(prev: f64, cur: f64) {
            let step = increment(prev, cur);
            prop_assert!(step.by >= 0.0);
        }

        #[test]
        fn a_ratio_of_increments_lies_between_0_and_1(
            readings in prop::collection::vec((0u32..1_000_000, 0u32..1_000_000), 1..50)
        ) {
            let mut w = DeltaWindow::<2>::new(20.0);
            for (i, (hit, read)) in readings.iter().enumerate() {
                w.push(i as f64, [f64::from(*hit), f64::from(*read)]);
                let [hits, reads] = w.sums();
                if let Some(r) = ratio(hits, hits + reads) {
                    prop_assert!((0.0..=1.0).contains(&r));
                }
            }
        }
    }
}
