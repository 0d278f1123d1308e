//! The latency distribution of one statement, interval by interval: what was observed exactly is
//! placed exactly, the rest is spread by a learnt shape that has the measured mean and variance.
//!
//! Must not: allocate, read a clock, or lose or invent a call, whatever the floats it is given.

use std::ops::RangeInclusive;

use super::grid::{self, CELLS, EDGES, LN_MIDDLES, MIDDLES, SLOT_EDGES, SLOTS};
use super::likely::Learnt;
use super::moments::Interval;
use super::shapes::{self, Kernel, normal_cdf};
use super::tilt::{Fit, TiltArrays, tilt};

/// Time constant of a statement's long-run moments, in seconds.
const LONG_RUN: f64 = 600.0;
/// Calls that the long-run moments weigh against the interval's own.
const SHRINKAGE: f64 = 20.0;
/// Long-run calls at which they have their full weight.
const SETTLED: f64 = 50.0;
/// Weight of an estimated interval in the learnt histogram: up to so many calls count in full, since calls that happen to
/// be alone are not like the others; of more the moments tell less.
const FEW: f64 = 6.0;
/// In the reference, the lesser of this and `ESTIMATED·FEW/n`.
const ESTIMATED: f64 = 2.0;
/// Most weight that the learnt histogram remembers.
const MEMORY: f64 = 1000.0;
/// Factors of the kernels' bandwidths: the usual one, and one for statements whose latencies lie in
/// several places (a value that is cached and one that is not, a rare symbol and a common one).
const BANDWIDTHS: [f64; 2] = [0.7, 0.15];
/// Least bandwidth in cells: less than the distance to the next one, so that what lies in one cell stays there.
const LEAST_BANDWIDTH: f64 = 0.3;
/// In the reference.
const PLAIN_BANDWIDTH: f64 = 0.5;
/// Weight at which the learnt histogram counts half as much as its score says.
const TRUST: f64 = 10.0;
/// Decay of the scores for each exact observation.
const SCORE_DECAY: f64 = 0.995;
/// Lognormal, gamma, and the learnt histogram by each kernel.
const SHAPES: usize = 2 + BANDWIDTHS.len();
/// Scores at the start.
const FIRST_SCORES: [f64; SHAPES] = [0.0, -1.0, -1.0, -2.0];
/// Added to a probability before its logarithm is a score.
const SCORE_FLOOR: f64 = 1e-6;
/// A shape of less weight is left out.
const NEGLIGIBLE: f64 = 1e-6;
/// A single jump is looked for once so much was learnt,
const JUMP_LEARNT: f64 = 20.0;
/// in intervals of so many times the usual relative variance,
const JUMP_VARIANCE: f64 = 3.0;
/// so many usual deviations from the others,
const JUMP_DISTANCE: f64 = 4.0;
/// if these then lie within this factor of where they usually do,
const JUMP_DRIFT: f64 = 1.5;
/// and if no more than so many of the interval's calls are usually so slow.
const JUMPS: f64 = 0.6;
/// Part of what was learnt that is the usual: the rest is what jumps.
const BODY: f64 = 0.98;
/// Below this coefficient of variation all calls lie within a cell or two.
const NARROW: f64 = 0.03;
/// Below this one, all in one place.
const POINT: f64 = 1e-4;
/// The variance constraint is dropped where its rounding error is a larger part of it.
const IMPRECISE: f64 = 0.1;
/// An observation is exact where rounding moves it by less than this part (a fifth of a cell).
const EXACT: f64 = 0.02;
/// The least latency a support reaches down to.
const LEAST: f64 = 1e-3 / 1024.0;

/// Working arrays, shared by all statements of a target. About 20 KiB.
#[derive(Debug, Clone)]
pub struct Scratch {
    mass: [f64; SLOTS],
    x: [f64; CELLS],
    ln_x: [f64; CELLS],
    reference: [f64; CELLS],
    lognormal: [f64; CELLS],
    gamma: [f64; CELLS],
    learnt: [f64; CELLS],
    y: [f64; CELLS],
    q: [f64; CELLS],
    p: [f64; CELLS],
}

impl Default for Scratch {
    fn default() -> Self {
        let cells = [0.0; CELLS];
        Self {
            mass: [0.0; SLOTS],
            x: cells,
            ln_x: cells,
            reference: cells,
            lognormal: cells,
            gamma: cells,
            learnt: cells,
            y: cells,
            q: cells,
            p: cells,
        }
    }
}

impl Scratch {
    /// The calls of the interval that [`Estimator::observe`] saw last, by slot. They sum to its
    /// calls, to rounding.
    pub fn mass(&self) -> &[f64; SLOTS] {
        &self.mass
    }

    fn set_point(&mut self, cell: usize, x: f64) {
        self.x[cell] = x;
        self.ln_x[cell] = x.ln();
    }
}

/// What is known of one interval beside its mass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// Calls whose latency was observed, not estimated.
    pub exact: u64,
    /// The variance was lost to rounding, so that only the mean was kept.
    pub imprecise: bool,
}

/// What is remembered of one statement: 1.1 KiB.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimator {
    /// Latencies learnt so far, by cell, of total weight `weight`.
    histogram: [f32; CELLS],
    weight: f64,
    /// Exact calls in it, which weigh one each; forgotten as it is.
    exact: f64,
    /// Decayed number of calls, their mean and sum of squared deviations.
    calls: f64,
    mean: f64,
    m2: f64,
    /// Decayed log-likelihood of exact observations under each shape.
    scores: [f64; SHAPES],
    /// Without what the reference does not have.
    plain: bool,
}

impl Default for Estimator {
    fn default() -> Self {
        Self {
            histogram: [0.0; CELLS],
            weight: 0.0,
            exact: 0.0,
            calls: 0.0,
            mean: 0.0,
            m2: 0.0,
            scores: FIRST_SCORES,
            plain: false,
        }
    }
}

/// At most: the interval's new maximum and minimum, and the two calls that are left.
#[derive(Default)]
struct ExactCalls {
    values: [f64; 4],
    len: usize,
}

impl ExactCalls {
    fn push(&mut self, x: f64) {
        if let Some(place) = self.values.get_mut(self.len) {
            *place = x;
            self.len += 1;
        }
    }
    fn iter(&self) -> impl Iterator<Item = f64> {
        self.values.into_iter().take(self.len)
    }
}

/// Calls that are not exact: their number, mean and sum of squared deviations.
#[derive(Clone, Copy)]
struct Rest {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Estimator {
    /// An estimator that knows one kernel only and no single jumps, as the reference implementation does
    /// that the port is tested against.
    pub fn like_reference() -> Self {
        let mut this = Self::default();
        this.scores[SHAPES - 1] = f64::NEG_INFINITY;
        this.plain = true;
        this
    }

    /// Spreads the calls of an interval over `scratch.mass()` and learns from it. `dt` is the time
    /// in seconds since the last interval of this statement.
    pub fn observe(&mut self, dt: f64, interval: &Interval, scratch: &mut Scratch) -> Observed {
        scratch.mass.fill(0.0);
        let decay = (-dt.max(0.0) / LONG_RUN).exp();
        self.calls *= decay;
        self.m2 *= decay;
        if interval.calls == 0 {
            return Observed::default();
        }
        let n = interval.calls as f64;
        let mean = interval.total / n;
        // Not `<`: what is not a number goes the same way. Off the grid there is no shape.
        if !(mean > 0.5 * EDGES[0] && mean < 2.0 * EDGES[CELLS]) {
            scratch.mass[grid::slot(mean)] = n;
            return Observed { exact: u64::from(interval.calls == 1), imprecise: false };
        }
        let (m2, mut observed) = self.trusted_m2(interval, n, mean);
        self.merge(n, mean, m2);

        let mut exact = ExactCalls::default();
        let mut rest = Rest { n, mean, m2 };
        if interval.calls > 2 {
            for x in [interval.new_max, interval.new_min].into_iter().flatten() {
                if rest.n > 1.0 && x.is_finite() && x >= 0.0 {
                    rest = rest.without(x, interval);
                    exact.push(x);
                }
            }
        }
        let selected = exact.len;
        let certain = rest.place_last_two(interval, &mut exact);
        for x in exact.iter() {
            scratch.mass[grid::slot(x)] += 1.0;
        }
        observed.exact = if certain { exact.len } else { selected } as u64;
        if rest.n == 0.0 {
            self.learn_exact(n, &exact, scratch);
        } else {
            self.spread(n, rest, interval, &exact, scratch);
        }
        self.forget();
        observed
    }

    /// What was learnt of the shape, and of which part of it is up to `x` seconds.
    pub fn learnt(&self, x: f64) -> Learnt {
        let cell = grid::cell(x);
        let below: f64 = self.histogram[..cell].iter().map(|h| f64::from(*h)).sum();
        let part = (x / EDGES[cell]).ln() / (EDGES[cell + 1] / EDGES[cell]).ln();
        let up_to = below + part.clamp(0.0, 1.0) * f64::from(self.histogram[cell]);
        let share = (self.weight > 0.0).then(|| (up_to / self.weight).min(1.0));
        Learnt { exact: self.exact, share }
    }

    /// The second moment to go by: the measured one, or, where rounding has swallowed it, the one
    /// that the statement usually has at this mean, as far as the measurement allows.
    fn trusted_m2(&self, interval: &Interval, n: f64, mean: f64) -> (f64, Observed) {
        let most = n * (n - 1.0) * mean * mean;
        let finite = interval.m2.is_finite() && interval.m2 >= 0.0;
        let m2 = if finite { interval.m2 } else { 0.0 };
        let error = if finite && interval.m2_error >= 0.0 { interval.m2_error } else { most };
        let matters = m2 + error > n * (NARROW * mean).powi(2);
        if interval.calls < 2 || error <= IMPRECISE * m2 || !matters {
            return (m2.min(most), Observed::default());
        }
        let usual = if self.calls > 1.0 && self.mean > 0.0 {
            n * self.m2 / self.calls * (mean / self.mean).powi(2)
        } else {
            m2
        };
        let m2 = usual.clamp((m2 - error).max(0.0), m2 + error).min(most);
        (m2, Observed { exact: 0, imprecise: true })
    }

    /// Merges an interval into the long-run moments (Chan, Golub and LeVeque).
    fn merge(&mut self, n: f64, mean: f64, m2: f64) {
        let d = mean - self.mean;
        let calls = self.calls + n;
        self.m2 += m2 + d * d * self.calls * n / calls;
        self.mean += d * n / calls;
        self.calls = calls;
    }

    fn variance(&self) -> f64 {
        self.m2 / self.calls
    }

    /// Scores each shape by what it made of the observations, then adds them.
    fn learn_exact(&mut self, n: f64, exact: &ExactCalls, scratch: &mut Scratch) {
        if self.calls > n + 5.0 {
            let (mean, variance) = (self.mean, self.variance());
            shapes::lognormal(mean, variance, &LN_MIDDLES, &mut scratch.lognormal);
            shapes::gamma(mean, variance, &MIDDLES, &LN_MIDDLES, &mut scratch.gamma);
            let kernels = self.kernels();
            for x in exact.iter() {
                let k = grid::cell(x);
                let mut predicted = [scratch.lognormal[k], scratch.gamma[k], 0.0, 0.0];
                for (i, predicted) in predicted[2..].iter_mut().enumerate() {
                    let mut at = [0.0];
                    if let Some(kernels) = &kernels {
                        kernels[i].smooth(&self.histogram, self.weight, k, &mut at);
                    }
                    *predicted = (at[0] + 4.0 / CELLS as f64) / (self.weight + 4.0);
                }
                for (score, p) in self.scores.iter_mut().zip(predicted) {
                    *score = *score * SCORE_DECAY + (p + SCORE_FLOOR).ln();
                }
            }
        }
        for x in exact.iter() {
            self.learn(grid::cell(x), 1.0);
            self.weight += 1.0;
            self.exact += 1.0;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a weight up to 1000 needs no more digits")]
    fn learn(&mut self, cell: usize, weight: f64) {
        self.histogram[cell] += weight as f32;
    }

    #[expect(clippy::cast_possible_truncation, reason = "a factor needs no more digits")]
    fn forget(&mut self) {
        if self.weight > MEMORY {
            let factor = (MEMORY / self.weight) as f32;
            for h in &mut self.histogram {
                *h *= factor;
            }
            self.exact *= f64::from(factor);
            self.weight = MEMORY;
        }
    }

    /// Places the calls that are not exact.
    fn spread(
        &mut self,
        n: f64,
        mut rest: Rest,
        interval: &Interval,
        exact: &ExactCalls,
        scratch: &mut Scratch,
    ) {
        let part = f64::min(1.0, FEW / n);
        let lesson = if self.plain { ESTIMATED * part } else { n * part * part };
        if let Some((x, others)) = self.jump(rest, interval) {
            scratch.mass[grid::slot(x)] += 1.0;
            self.learn(grid::cell(x), lesson / n);
            rest = others;
        }
        let s = (rest.m2 / rest.n).sqrt();
        if s < NARROW * rest.mean {
            narrow(rest, s, &mut scratch.mass);
            self.learn(grid::cell(rest.mean), lesson);
            self.weight += lesson;
            return;
        }
        let (first, last) = support(rest, s, interval, scratch);
        self.reference(rest, s, first, last, scratch);
        let cells = first..=last;
        if fit(rest, s, cells.clone(), scratch) == Fit::Failed {
            // Few calls that lie at the very bounds have more variance than the middles of the
            // outermost cells allow: put these points on the bounds.
            widen(rest, s, interval, cells.clone(), scratch);
            if fit(rest, s, cells.clone(), scratch) == Fit::Failed {
                let ln_x = &scratch.ln_x[cells.clone()];
                shapes::lognormal(rest.mean, s * s, ln_x, &mut scratch.p[cells.clone()]);
            }
        }
        for k in cells {
            grid::spread(k, rest.n * scratch.p[k], &mut scratch.mass);
            self.learn(k, lesson * scratch.p[k] * rest.n / n);
        }
        for x in exact.iter() {
            self.learn(grid::cell(x), lesson / n);
        }
        self.weight += lesson;
    }

    /// The one call that made the variance, and the others without it, where that is what happened.
    ///
    /// Under a heavy tail a variance far above the usual comes of one great latency, not of all being
    /// a little longer, which is what a tilt would make of it (the principle of a single big jump).
    /// With others of their usual relative variance c² about `m'`,
    /// `x = m + √((M2 - (n-1)·c²·m'²)·(n-1)/n)` and `m' = (n·m - x)/(n-1)`.
    fn jump(&self, rest: Rest, interval: &Interval) -> Option<(f64, Rest)> {
        let Rest { n, mean, m2 } = rest;
        if self.plain || n < 3.0 || self.weight < JUMP_LEARNT {
            return None;
        }
        let (usual, c2) = self.body()?;
        if m2 < JUMP_VARIANCE * c2 * n * mean * mean {
            return None;
        }
        let (mut x, mut others) = (mean, mean);
        for _ in 0..3 {
            let left = m2 - (n - 1.0) * c2 * others * others;
            x = mean + (left.max(0.0) * (n - 1.0) / n).sqrt();
            others = (n * mean - x) / (n - 1.0);
        }
        let far = others * (1.0 + JUMP_DISTANCE * c2.sqrt());
        let possible = others > 0.0 && x > far && x <= interval.high && others >= interval.low;
        let alike = others * JUMP_DRIFT > usual && others < usual * JUMP_DRIFT;
        if !(possible && alike) {
            return None;
        }
        // Where several such calls are to be expected, the learnt shape knows more of them.
        let slow: f64 = self.histogram[grid::cell(far)..].iter().map(|h| f64::from(*h)).sum();
        (n * slow <= JUMPS * self.weight).then(|| (x, rest.without(x, interval)))
    }

    fn kernels(&self) -> Option<[Kernel; BANDWIDTHS.len()]> {
        let least = if self.plain { PLAIN_BANDWIDTH } else { LEAST_BANDWIDTH };
        Kernel::for_histogram(&self.histogram, self.weight, BANDWIDTHS, least)
    }

    /// Mean and squared coefficient of variation of what was learnt, without the slowest.
    fn body(&self) -> Option<(f64, f64)> {
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for (h, x) in self.histogram.iter().zip(&MIDDLES) {
            let h = f64::from(*h);
            if total + h > BODY * self.weight {
                break;
            }
            total += h;
            first += h * x;
            second += h * x * x;
        }
        let mean = first / total;
        let c2 = second / total / (mean * mean) - 1.0;
        (total > 0.5 * self.weight).then(|| (mean, c2.max(NARROW * NARROW)))
    }

    /// The mixture of the three shapes on the support, in `scratch.reference`.
    fn reference(&self, rest: Rest, s: f64, first: usize, last: usize, scratch: &mut Scratch) {
        let cells = first..=last;
        // The interval's own moments, shrunk towards the long-run ones where it has few calls.
        let w = SHRINKAGE / (SHRINKAGE + rest.n) * f64::min(1.0, self.calls / SETTLED);
        let mean = (1.0 - w) * rest.mean + w * self.mean;
        let between = w * (1.0 - w) * (rest.mean - self.mean).powi(2);
        let variance = (1.0 - w) * s * s + w * self.variance() + between;
        let ln_x = &scratch.ln_x[cells.clone()];
        let x = &scratch.x[cells.clone()];
        shapes::lognormal(mean, variance, ln_x, &mut scratch.lognormal[cells.clone()]);
        shapes::gamma(mean, variance, x, ln_x, &mut scratch.gamma[cells.clone()]);

        let top = self.scores.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let mut a = self.scores.map(|score| (score - top).exp());
        let trust = self.weight / (self.weight + TRUST);
        let learnt = &mut scratch.learnt[cells.clone()];
        let sum = &mut scratch.q[cells.clone()];
        sum.fill(0.0);
        let kernels = self.kernels();
        for (i, a) in a[2..].iter_mut().enumerate() {
            *a *= trust;
            let Some(kernels) = kernels.as_ref().filter(|_| *a > NEGLIGIBLE) else {
                *a = 0.0;
                continue;
            };
            kernels[i].smooth(&self.histogram, self.weight, first, learnt);
            let inside: f64 = learnt.iter().sum();
            if !(inside >= 1e-4 * self.weight && inside > 0.0) {
                *a = 0.0;
                continue;
            }
            for (sum, learnt) in sum.iter_mut().zip(learnt.iter()) {
                *sum += *a / inside * learnt;
            }
        }
        let total: f64 = a.iter().sum();
        let (a0, a1) = ((a[0] / total).max(0.01), a[1] / total);
        for k in cells {
            scratch.reference[k] =
                a0 * scratch.lognormal[k] + a1 * scratch.gamma[k] + scratch.q[k] / total;
        }
    }
}

impl Rest {
    /// What is left after one observation `x`: `m' = (n·m - x)/(n-1)`, `M2' = M2 - (x-m)(x-m')`.
    fn without(self, x: f64, interval: &Interval) -> Self {
        let n = self.n - 1.0;
        let mean = (self.mean * self.n - x) / n;
        let m2 = (self.m2 - (x - mean) * (x - self.mean)).max(0.0);
        // Rounding alone can push the mean of the others out of their bounds.
        let low = interval.low.max(LEAST);
        let bounded = mean.max(low).min(interval.high.max(low));
        Self { n, mean: if bounded.is_finite() { bounded } else { self.mean }, m2 }
    }

    /// One or two calls that are left are exact: the mean, or the mean and √(M2/2) to both sides.
    /// Gives whether rounding leaves them so.
    fn place_last_two(&mut self, interval: &Interval, exact: &mut ExactCalls) -> bool {
        let moved = if self.n == 1.0 {
            exact.push(self.mean);
            interval.total_error
        } else if self.n == 2.0 {
            let mut d = (0.5 * self.m2).sqrt();
            if d > self.mean {
                d = self.mean * 0.999;
            }
            exact.push(self.mean - d);
            exact.push(self.mean + d);
            // How far the error of M2 may move d: all of it where M2 itself is 0.
            let error = interval.m2_error;
            (0.5 * (self.m2 + error)).sqrt() - (0.5 * (self.m2 - error).max(0.0)).sqrt()
        } else {
            return true;
        };
        self.n = 0.0;
        moved <= EXACT * self.mean
    }
}

/// The least and the largest latency that a call can have had: within the known extremes, and
/// (Samuelson, 1968) within `s·√(n-1)` of the mean.
fn bounds(rest: Rest, s: f64, interval: &Interval) -> (f64, f64) {
    let Rest { n, mean: m, .. } = rest;
    let farthest = s * (n - 1.0).sqrt();
    let mut low = interval.low.max(m - farthest).max(LEAST);
    let mut high = interval.high.min(m + farthest);
    if !(high >= m + 0.5 * s) {
        high = m + farthest;
    }
    if !(low <= m - 0.01 * s) {
        low = (m - farthest).max(LEAST);
    }
    (low, high)
}

/// The cells between the bounds. Fills their points: the middles, or the bounds where they cut the
/// outermost cells short of these.
fn support(rest: Rest, s: f64, interval: &Interval, scratch: &mut Scratch) -> (usize, usize) {
    let (low, high) = bounds(rest, s, interval);
    let (first, last) = (grid::cell(low), grid::cell(high));
    let cells = first..=last;
    scratch.x[cells.clone()].copy_from_slice(&MIDDLES[cells.clone()]);
    scratch.ln_x[cells.clone()].copy_from_slice(&LN_MIDDLES[cells]);
    scratch.set_point(first, MIDDLES[first].max(low).min(EDGES[first + 1]));
    scratch.set_point(last, scratch.x[last].min(high).max(EDGES[last]));
    (first, last)
}

/// Moves the outermost points to the bounds.
fn widen(
    rest: Rest,
    s: f64,
    interval: &Interval,
    cells: RangeInclusive<usize>,
    scratch: &mut Scratch,
) {
    let (low, high) = bounds(rest, s, interval);
    let (first, last) = (*cells.start(), *cells.end());
    scratch.set_point(first, low.max(EDGES[first]).min(EDGES[first + 1]));
    scratch.set_point(last, high.max(EDGES[last]).min(EDGES[last + 1]));
}

/// Tilts the reference on these cells; the weights are in `scratch.p`.
fn fit(rest: Rest, s: f64, cells: RangeInclusive<usize>, scratch: &mut Scratch) -> Fit {
    let mut work = TiltArrays {
        y: &mut scratch.y[cells.clone()],
        q: &mut scratch.q[cells.clone()],
        p: &mut scratch.p[cells.clone()],
    };
    tilt(&scratch.reference[cells.clone()], &scratch.x[cells], rest.mean, s, &mut work)
}

/// A lognormal that spans a few slots at most.
fn narrow(rest: Rest, s: f64, mass: &mut [f64; SLOTS]) {
    let m = rest.mean;
    if !(s >= POINT * m) {
        mass[grid::slot(m)] += rest.n;
        return;
    }
    let s2 = (s * s / (m * m)).ln_1p();
    let (mu, sigma) = (m.ln() - 0.5 * s2, s2.sqrt());
    let reach = (5.0 * sigma).exp();
    let (first, last) = (grid::slot(m / reach), grid::slot(m * reach));
    let mut below = 0.0;
    for slot in first..=last {
        let z = (SLOT_EDGES[slot + 1].ln() - mu) / sigma;
        let up_to = if slot == last { 1.0 } else { normal_cdf(z).max(below) };
        mass[slot] += rest.n * (up_to - below);
        below = up_to;
    }
}
