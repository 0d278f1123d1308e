//! What an interval's moments say for certain: of its calls, how few and how many can have been no longer than
//! any given time. Sharp: for each bound there are latencies with these moments that attain it.
//!
//! Must not: estimate, or trust a rounding error to be a typical one.

use super::moments::Interval;

/// Rounding errors are taken for so many times what is typical of them, and this held for all that was tried.
const HARD: f64 = 4.0;
/// Relative rounding of a value that is stored.
const STORED: f64 = 1e-12;
/// Of a bound before it becomes a whole number, per call.
const WHOLE: f64 = 1e-9;
/// Steps by which whole numbers may tighten a bound.
const STEPS: usize = 4;
/// More calls than these are not claimed anything of: their differences are no whole numbers any more.
pub(super) const MOST: u64 = u32::MAX as u64;

/// What is known of some calls of one interval. Times in seconds. One call alone is known: it lies within `low`
/// and `high`, and the rest says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallGroup {
    /// Number of calls.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// How far rounding may have moved their sum.
    pub sum_error: f64,
    /// Sum of their squared deviations from the mean, in s².
    pub m2: f64,
    /// How far rounding may have moved `m2`.
    pub m2_error: f64,
    /// None was shorter.
    pub low: f64,
    /// None was longer; infinite where nothing is known.
    pub high: f64,
}

/// The groups of an interval: its new extremes, and the others together or, where they are one or two, each alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallGroups {
    all: [Option<CallGroup>; 4],
    len: usize,
}

impl CallGroups {
    /// What the interval says. `None` where its figures are no figures.
    pub fn of(interval: &Interval) -> Option<Self> {
        let Interval { calls, total, m2, m2_error, total_error, low, high, .. } = *interval;
        let sound =
            [total, m2, m2_error, total_error, low].iter().all(|x| *x >= 0.0 && x.is_finite());
        if !sound || calls == 0 || calls > MOST || !(high >= low) {
            return None;
        }
        let mut groups = Self::default();
        let mut rest = CallGroup {
            n: calls,
            mean: total / calls as f64,
            sum_error: HARD * total_error,
            m2,
            m2_error: HARD * m2_error,
            low,
            high,
        };
        for x in [interval.new_max, interval.new_min].into_iter().flatten() {
            if calls > 2 && rest.n > 1 {
                if !(x >= 0.0 && x.is_finite()) {
                    return None;
                }
                rest = rest.without(x);
                groups.push(CallGroup::known(x, x, 0.0));
            }
        }
        let CallGroup { n, mean, sum_error, m2, m2_error, .. } = rest;
        match n {
            1 => groups.push(CallGroup::known(mean, mean, sum_error)),
            2 => {
                // Both lie √(M2/2) from the mean.
                let [least, most] =
                    [m2 - m2_error, m2 + m2_error].map(|m2| (0.5 * m2.max(0.0)).sqrt());
                let error = 0.5 * sum_error;
                groups.push(CallGroup::known(mean - most, mean - least, error));
                groups.push(CallGroup::known(mean + least, mean + most, error));
            }
            _ => groups.push(rest.within_reach()),
        }
        Some(groups)
    }

    fn push(&mut self, group: CallGroup) {
        if let Some(place) = self.all.get_mut(self.len) {
            *place = Some(group);
            self.len += 1;
        }
    }

    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = &CallGroup> {
        self.all.iter().flatten()
    }
}

impl CallGroup {
    /// One call between two times, which rounding may have moved.
    fn known(from: f64, to: f64, error: f64) -> Self {
        let error = error + STORED * to;
        let (low, high) = ((from - error).max(0.0), to + error);
        Self {
            n: 1,
            mean: f64::midpoint(from, to),
            sum_error: 0.0,
            m2: 0.0,
            m2_error: 0.0,
            low,
            high,
        }
    }

    /// The others of a call that is known: `M2' = M2 - (x-m)(x-m')`.
    fn without(self, x: f64) -> Self {
        let n = (self.n - 1) as f64;
        let away = x - self.mean;
        let mean = (self.mean * self.n as f64 - x) / n;
        Self {
            n: self.n - 1,
            mean: mean.max(self.low).min(self.high),
            m2: (self.m2 - away * (x - mean)).max(0.0),
            m2_error: self.m2_error
                + 2.0 * self.sum_error * away.abs() / n
                + 8.0 * f64::EPSILON * (self.m2 + away * away),
            ..self
        }
    }

    /// None of n values is further than `s·√(n-1)` from their mean (Samuelson, 1968).
    fn reach(&self) -> f64 {
        let n = self.n as f64;
        ((self.m2 + self.m2_error) / n * (n - 1.0)).sqrt() + self.sum_error
    }

    /// The times that hold all calls.
    pub(super) fn bounds(&self) -> (f64, f64) {
        let far = if self.n == 1 { f64::INFINITY } else { self.reach() };
        let low = self.low.max((self.mean - far).min(self.mean));
        let high = self.high.min((self.mean + far).max(self.mean));
        (low.min(high), high.max(low))
    }

    fn within_reach(self) -> Self {
        let far = self.reach();
        let (least, most) = (self.low * (1.0 - STORED), self.high * (1.0 + STORED));
        let low = least.max(self.mean - far).max(0.0);
        let high = most.min(self.mean + far);
        Self {
            low: if low > self.mean { least } else { low },
            high: if high < self.mean { most } else { high },
            ..self
        }
    }

    /// The fewest and the most of the calls that can be no longer than `t`.
    pub fn counts(&self, t: f64) -> (u64, u64) {
        if self.n == 1 {
            return (u64::from(self.high <= t), u64::from(self.low <= t));
        }
        let (low, high) = self.bounds();
        if !high.is_finite() {
            return (0, self.n);
        }
        if t >= high {
            return (self.n, self.n);
        }
        if !(t >= low) {
            return (0, 0);
        }
        let bounded = Self { low, high, ..*self };
        let (least, most) = bounded.moments_allow(t);
        let n = self.n as f64;
        let k = (least - WHOLE * n).max(0.0).ceil().min(n);
        let top = (most + WHOLE * n).min(n).floor().max(0.0);
        if k > top {
            // They contradict each other within rounding.
            return (calls((k.min(top) - 1.0).max(0.0)), calls((k.max(top) + 1.0).min(n)));
        }
        let (mut fewest, mut most) = (k, top);
        for _ in 0..STEPS {
            if fewest >= top || bounded.feasible(fewest, t) {
                break;
            }
            fewest += 1.0;
        }
        for _ in 0..STEPS {
            if most <= k || bounded.feasible(most, t) {
                break;
            }
            most -= 1.0;
        }
        if fewest <= most { (calls(fewest), calls(most)) } else { (calls(k), calls(top)) }
    }

    /// The bounds by mean and variance, of any number of values: Cantelli's, whose extremes have two places, and
    /// Chebyshev's, Markov's and Stieltjes's, whose extremes have three: `low`, `t` and `high`.
    fn moments_allow(&self, t: f64) -> (f64, f64) {
        let Self { mean, low, high, .. } = *self;
        let n = self.n as f64;
        let (s2, s2_least) =
            ((self.m2 + self.m2_error) / n, (self.m2 - self.m2_error).max(0.0) / n);
        let error = self.sum_error / n;
        let (mut least, mut most) = (0.0, n);
        if t > mean + error {
            let d = t - mean - error;
            least = n * d * d / (s2 + d * d);
        }
        if t < mean - error {
            let d = mean - error - t;
            most = n * s2 / (s2 + d * d);
        }
        if low < high {
            let slack = error * (high - low);
            if t > low {
                let above = s2_least - slack + (mean - t) * (mean - high);
                least = f64::max(least, n * above / ((t - low) * (high - low)));
            }
            let below = s2_least - slack + (mean - low) * (mean - t);
            most = f64::min(most, n * (1.0 - below / ((high - low) * (high - t))));
        }
        (least, most)
    }

    /// Whether exactly `k` of the calls can be no longer than `t`. The second moments that are possible for it fill
    /// all between a least and a most.
    fn feasible(&self, k: f64, t: f64) -> bool {
        let Self { mean, sum_error, m2, m2_error, low, high, .. } = *self;
        let n = self.n as f64;
        let sum = n * mean;
        let impossible = k < 0.0
            || k > n
            || k * low + (n - k) * t > sum + sum_error
            || k * t + (n - k) * high < sum - sum_error;
        if impossible {
            return false;
        }
        let d = ((mean - t).abs() - sum_error / n).max(0.0);
        let (near, far) = if mean > t { (k, n - k) } else { (n - k, k) };
        if far <= 0.0 {
            return d <= 0.0;
        }
        if near * n * d * d > (m2 + m2_error) * far {
            return false;
        }
        let (below, above) = (t - low, high - t);
        let most = self.most_m2(k, t, below, above);
        most + 4.0 * sum_error * below.max(above) >= m2 - m2_error
    }

    /// The largest second moment with `k` calls in `[t - below, t]` and the others in `[t, t + above]`: all lie at
    /// ends of their ranges but one.
    fn most_m2(&self, k: f64, t: f64, below: f64, above: f64) -> f64 {
        let n = self.n as f64;
        let d = n * (self.mean - t);
        let squares = if (n - k) * above - k * below <= d || below <= 0.0 {
            let down = if below > 0.0 { ((n - k) * above - d) / below } else { 0.0 };
            let down = down.min(k).max(0.0);
            let part = down.fract();
            (n - k) * above * above + (down.floor() + part * part) * below * below
        } else {
            let up = if above > 0.0 { (d + k * below) / above } else { 0.0 };
            let up = up.min(n - k).max(0.0);
            let part = up.fract();
            k * below * below + (up.floor() + part * part) * above * above
        };
        squares - d * d / n
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers between 0 and 2^32"
)]
fn calls(n: f64) -> u64 {
    n as u64
}

/// The rank of the `q`-quantile of `calls` calls: it is the one that this many do not exceed, itself included.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of calls"
)]
pub fn rank(q: f64, calls: u64) -> u64 {
    ((q * calls as f64 - WHOLE).ceil() as u64).max(1)
}
