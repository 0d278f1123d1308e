//! What happened between two readings of a statement's cumulative counters: how many calls, how
//! long in all, and their second moment, with a bound on its rounding error.
//!
//! Must not: believe a difference that the two rows contradict.

/// One row of `pg_stat_statements` in seconds: the execution times of all calls so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cumulative {
    /// `calls`.
    pub calls: u64,
    /// `total_exec_time`.
    pub total: f64,
    /// `min_exec_time`; 0 together with `max` where nothing was recorded since a min/max reset.
    pub min: f64,
    /// `max_exec_time`.
    pub max: f64,
    /// `mean_exec_time`.
    pub mean: f64,
    /// `stddev_exec_time` (of the population).
    pub stddev: f64,
    /// Identifies the span of min and max: `minmax_stats_since` where there is one, else 0.
    pub extremes_since: f64,
}

/// The calls of one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Number of calls, at least 1.
    pub calls: u64,
    /// Sum of their latencies in seconds.
    pub total: f64,
    /// Sum of squared deviations from their mean, in s².
    pub m2: f64,
    /// Bound of the rounding error of `m2`.
    pub m2_error: f64,
    /// Bound of the rounding error of `total`.
    pub total_error: f64,
    /// No call was shorter; 0 where nothing is known.
    pub low: f64,
    /// No call was longer; infinite where nothing is known.
    pub high: f64,
    /// The latency of one of these calls, where a new minimum shows it.
    pub new_min: Option<f64>,
    /// The latency of one of these calls, where a new maximum shows it.
    pub new_max: Option<f64>,
}

/// What two readings say about the time in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MomentStep {
    /// No call ended.
    Idle,
    /// The counters went on.
    Progress(Interval),
    /// The row began anew (reset, eviction and return, another server); what it counted since.
    Restarted(Option<Interval>),
    /// The counters rose, but not by calls that could have given the new row. A row that began
    /// anew and overtook the old count looks so. The calls are the difference, so that nothing is
    /// counted twice, and the shape is that of the new row.
    Inconsistent(Interval),
}

/// Half the distance between 1 and the next float: what one rounding may cost.
const HALF_ULP: f64 = f64::EPSILON / 2.0;

impl Cumulative {
    /// The sum of squared deviations from the mean over all calls.
    fn m2(&self) -> f64 {
        self.stddev * self.stddev * self.calls as f64
    }

    /// Everything the row counted, as one interval: its min and max are exact.
    ///
    /// `None` for a row without calls.
    pub fn from_zero(&self) -> Option<Interval> {
        if self.calls == 0 {
            return None;
        }
        let n = self.calls as f64;
        let recorded = self.has_extremes();
        Some(Interval {
            calls: self.calls,
            total: self.total,
            m2: self.m2(),
            m2_error: (4.0 + n * 0.5) * f64::EPSILON * self.m2(),
            total_error: f64::EPSILON * self.total * f64::max(1.0, 0.5 * n.sqrt()),
            low: if recorded { self.min } else { 0.0 },
            high: if recorded { self.max } else { f64::INFINITY },
            new_min: recorded.then_some(self.min),
            new_max: recorded.then_some(self.max),
        })
    }

    fn has_extremes(&self) -> bool {
        self.max > 0.0 || self.min > 0.0
    }

    /// What happened between `prev` and `self`, two readings of the same row.
    ///
    /// The variance of two merged samples (Chan, Golub and LeVeque, 1979) is inverted:
    /// `M2 = M2_b - M2_a - w·δ²` with `δ = mean - mean_a` and `w = n_a·n / (n_a + n)`. Each term
    /// carries rounding errors of the server's running sums: `e = ε·total_b·max(1, √n/2)` on the
    /// sum, and `4ε(M2_a + M2_b) + ε/2·n·M2_b + 2w|δ|(e/n + 2ε·mean_a) + w(e/n)²` on the result.
    ///
    /// A row began anew where calls or total fell, where min rose or max fell, or where the total
    /// moved without a call: none of these is ever a matter of rounding.
    pub fn since(&self, prev: &Cumulative) -> MomentStep {
        let same_extremes = self.extremes_since == prev.extremes_since;
        let extremes_fell_back = same_extremes
            && prev.has_extremes()
            && (self.min > prev.min || self.max < prev.max || !self.has_extremes());
        if self.calls < prev.calls || self.total < prev.total || extremes_fell_back {
            return MomentStep::Restarted(self.from_zero());
        }
        if self.calls == prev.calls {
            // Not `!=`: a total that is not a number is no sign of life.
            let moved = self.total > prev.total || (same_extremes && self.max > prev.max);
            return if moved { MomentStep::Restarted(self.from_zero()) } else { MomentStep::Idle };
        }
        if prev.calls == 0 {
            return self.from_zero().map_or(MomentStep::Idle, MomentStep::Progress);
        }
        self.progress(prev, same_extremes)
    }

    fn progress(&self, prev: &Cumulative, same_extremes: bool) -> MomentStep {
        let calls = self.calls - prev.calls;
        let (n, n_a) = (calls as f64, prev.calls as f64);
        let total = self.total - prev.total;
        let mean = total / n;
        let delta = mean - prev.mean;
        let w = n_a * n / (n_a + n);
        let m2 = self.m2() - prev.m2() - w * delta * delta;

        let total_error = f64::EPSILON * self.total * f64::max(1.0, 0.5 * n.sqrt());
        let mean_error = total_error / n;
        let m2_error = 4.0 * f64::EPSILON * (prev.m2() + self.m2())
            + HALF_ULP * n * self.m2()
            + 2.0 * w * delta.abs() * (mean_error + 2.0 * f64::EPSILON * prev.mean)
            + w * mean_error * mean_error;

        let recorded = self.has_extremes();
        // Where min and max were reset in this interval, the new ones are calls of it, but calls
        // before the reset may lie anywhere.
        let (low, high) =
            if same_extremes && recorded { (self.min, self.max) } else { (0.0, f64::INFINITY) };
        let interval = Interval {
            calls,
            total,
            m2: m2.max(0.0),
            // As far as it lies below zero rounding has moved it for certain.
            m2_error: m2_error + (-m2).max(0.0),
            total_error,
            low,
            high,
            new_min: (recorded && (!same_extremes || self.min < prev.min)).then_some(self.min),
            new_max: (recorded && (!same_extremes || self.max > prev.max)).then_some(self.max),
        };

        let most = n * (mean - low) * (high - mean);
        let about = 1e-9 * mean + mean_error;
        let mean_fits = mean >= low - about && mean <= high + about;
        // The rounding of min and max against the mean matters where all calls are alike.
        let slack = m2_error + 1e-9 * n * mean * mean;
        let m2_fits = m2 >= -slack && (m2 <= most + slack || high.is_infinite());
        if mean_fits && m2_fits {
            MomentStep::Progress(interval)
        } else {
            MomentStep::Inconsistent(self.like_row(calls))
        }
    }

    /// `calls` calls with the mean and the spread of the whole row.
    fn like_row(&self, calls: u64) -> Interval {
        let n = calls as f64;
        let recorded = self.has_extremes();
        Interval {
            calls,
            total: self.mean * n,
            m2: self.stddev * self.stddev * n,
            m2_error: 0.0,
            total_error: 0.0,
            low: if recorded { self.min } else { 0.0 },
            high: if recorded { self.max } else { f64::INFINITY },
            new_min: None,
            new_max: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts as the server does: Welford's running mean and sum of squares.
    fn row(latencies: &[f64]) -> Cumulative {
        let mut c = Cumulative { min: f64::INFINITY, max: 0.0, ..Cumulative::default() };
        let mut m2 = 0.0;
        for x in latencies {
            c.calls += 1;
            c.total += x;
            c.min = c.min.min(*x);
            c.max = c.max.max(*x);
            let old = c.mean;
            c.mean += (x - old) / c.calls as f64;
            m2 += (x - old) * (x - c.mean);
        }
        if c.calls > 0 {
            c.stddev = (m2 / c.calls as f64).sqrt();
        } else {
            c.min = 0.0;
        }
        c
    }

    fn moments(latencies: &[f64]) -> (f64, f64) {
        let total: f64 = latencies.iter().sum();
        let mean = total / latencies.len() as f64;
        (total, latencies.iter().map(|x| (x - mean) * (x - mean)).sum())
    }

    #[test]
    fn two_calls_after_many_are_recovered() {
        let mut all: Vec<f64> = (1..1000).map(|i| 0.001 * f64::from(i % 7 + 1)).collect();
        let before = row(&all);
        all.extend([0.020, 0.004]);
        let MomentStep::Progress(got) = row(&all).since(&before) else { panic!("no progress") };
        assert_eq!(got.calls, 2);
        assert!((got.total - 0.024).abs() < 1e-12);
        assert!((got.m2 - 2.0 * 0.008f64.powi(2)).abs() < 1e-12, "{}", got.m2);
        assert!(got.new_max == Some(0.020) && got.new_min.is_none());
        assert!(got.m2_error < 1e-3 * got.m2);
    }

    #[test]
    fn a_fall_of_any_kind_counts_from_zero() {
        let before = row(&[0.1, 0.2, 0.3]);
        let fewer = row(&[0.25]);
        let higher_min = row(&[0.2, 0.3, 0.3, 0.2]);
        let lower_max = row(&[0.1, 0.2, 0.2, 0.2, 0.2]);
        let same_count = row(&[0.1, 0.3, 0.3]);
        for after in [fewer, higher_min, lower_max, same_count] {
            let MomentStep::Restarted(Some(got)) = after.since(&before) else {
                panic!("{after:?}")
            };
            assert_eq!((got.calls, got.total), (after.calls, after.total));
            assert_eq!((got.new_min, got.new_max), (Some(after.min), Some(after.max)));
        }
        assert_eq!(Cumulative::default().since(&before), MomentStep::Restarted(None));
        assert_eq!(before.since(&before), MomentStep::Idle);
    }

    #[test]
    fn a_row_that_overtook_the_old_count_is_found_by_its_moments() {
        // 3 calls of 1 s; then the row is made anew and gets 10 calls of 0.5 s and two that keep
        // the extremes: calls, total, min and max all go on, the moments do not.
        let before = row(&[1.0, 1.0, 1.0, 0.2]);
        let mut anew = vec![1.0, 0.2];
        anew.extend(std::iter::repeat_n(0.9, 3));
        let after = row(&anew);
        assert!(after.total > before.total);
        let MomentStep::Inconsistent(got) = after.since(&before) else {
            panic!("{:?}", after.since(&before))
        };
        assert_eq!(got.calls, 1);
        assert!((got.total - after.mean).abs() < 1e-12);
    }

    #[test]
    fn a_reset_of_min_and_max_alone_is_no_restart() {
        let before = row(&[0.1, 0.2, 0.3]);
        let mut after = row(&[0.1, 0.2, 0.3, 0.15, 0.25]);
        (after.min, after.max, after.extremes_since) = (0.25, 0.25, 1.0);
        let MomentStep::Progress(got) = after.since(&before) else { panic!("no progress") };
        assert_eq!(got.calls, 2);
        assert_eq!((got.new_min, got.new_max), (Some(0.25), Some(0.25)));
        assert_eq!((got.low, got.high), (0.0, f64::INFINITY));
        (after.min, after.max) = (0.0, 0.0);
        let MomentStep::Progress(got) = after.since(&before) else { panic!("no progress") };
        assert_eq!((got.new_min, got.new_max), (None, None));
    }

    proptest! {
        #[test]
        fn the_interval_is_recovered_within_its_error_bound(
            a in prop::collection::vec(1e-5f64..10.0, 1..200),
            b in prop::collection::vec(1e-5f64..10.0, 1..50),
        ) {
            let before = row(&a);
            let mut all = a.clone();
            all.extend(&b);
            let MomentStep::Progress(got) = row(&all).since(&before) else {
                return Err(TestCaseError::fail("no progress"));
            };
            let (total, m2) = moments(&b);
            prop_assert_eq!(got.calls, b.len() as u64);
            prop_assert!((got.total - total).abs() <= 1e-9 * total);
            // The bound is one of typical errors: allow it four times over, and the reference sum.
            prop_assert!((got.m2 - m2).abs() <= 4.0 * got.m2_error + 1e-12 * m2);
        }

        #[test]
        fn no_pair_of_rows_gives_a_negative_or_a_panic(bits in prop::array::uniform14(any::<u64>())) {
            let read = |b: &[u64]| Cumulative {
                calls: b[0],
                total: f64::from_bits(b[1]),
                min: f64::from_bits(b[2]),
                max: f64::from_bits(b[3]),
                mean: f64::from_bits(b[4]),
                stddev: f64::from_bits(b[5]),
                extremes_since: f64::from_bits(b[6]),
            };
            let step = read(&bits[7..]).since(&read(&bits[..7]));
            if let MomentStep::Progress(i) | MomentStep::Inconsistent(i) | MomentStep::Restarted(Some(i)) = step {
                prop_assert!(i.calls > 0 && !(i.m2 < 0.0));
            }
        }
    }
}
