//! The exponential tilt: of all distributions on a support with a given mean and variance, the one
//! nearest (in Kullback-Leibler divergence) to a reference.
//!
//! Must not: allocate, or give back weights that do not sum to 1.

use super::shapes::exp_or_zero;

/// Mean and variance are met to this part of the standard deviation and of the variance.
pub const TOLERANCE: f64 = 1e-4;
/// What is still taken where Newton's method stalls.
const STALLED_MEAN: f64 = 0.02;
const STALLED_VARIANCE: f64 = 0.05;
const ITERATIONS: usize = 60;
const HALVINGS: usize = 40;

/// How close the tilt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Within [`TOLERANCE`].
    Met,
    /// Within a few percent.
    Near,
    /// The support does not hold such a distribution; the weights are of no use.
    Failed,
}

/// Working arrays, as long as the support.
pub struct TiltArrays<'a> {
    /// `(x - m)/s`.
    pub y: &'a mut [f64],
    /// `y² - 1`.
    pub q: &'a mut [f64],
    /// The weights: the result.
    pub p: &'a mut [f64],
}

/// Sums over the weights, relative to their total.
struct Sums {
    /// `ln Σ ref·exp(l1·y + l2·q)`: convex in the multipliers, and least where the moments match.
    objective: f64,
    total: f64,
}

/// Finds `p ∝ reference·exp(l1·y + l2·(y² - 1))` with mean `m` and standard deviation `s` at the
/// points `x`: the minimum of a convex function of two multipliers, by Newton's method with a
/// backtracking line search. The result is in `work.p`.
pub fn tilt(reference: &[f64], x: &[f64], m: f64, s: f64, work: &mut TiltArrays<'_>) -> Fit {
    for ((y, q), x) in work.y.iter_mut().zip(work.q.iter_mut()).zip(x) {
        *y = (x - m) / s;
        *q = *y * *y - 1.0;
    }
    let (mut l1, mut l2) = (0.0, 0.0);
    let mut at = evaluate(reference, l1, l2, work);
    for _ in 0..ITERATIONS {
        let (g1, g2, h11, h12, h22) = derivatives(at.total, work);
        if g1.abs() < TOLERANCE && g2.abs() < TOLERANCE {
            return if normalise(work.p) { Fit::Met } else { Fit::Failed };
        }
        let h11 = h11 + 1e-12 + 1e-10 * h11;
        let h22 = h22 + 1e-12 + 1e-10 * h22;
        let determinant = h11 * h22 - h12 * h12;
        if !(determinant > 1e-300) {
            break;
        }
        let d1 = -(h22 * g1 - h12 * g2) / determinant;
        let d2 = -(h11 * g2 - h12 * g1) / determinant;
        let slope = g1 * d1 + g2 * d2;
        let mut step = 1.0;
        let mut found = None;
        for _ in 0..HALVINGS {
            let next = evaluate(reference, l1 + step * d1, l2 + step * d2, work);
            if next.objective <= at.objective + 1e-4 * step * slope {
                found = Some(next);
                break;
            }
            step *= 0.5;
        }
        let Some(next) = found else {
            // The last try left its weights behind: go back to the best.
            at = evaluate(reference, l1, l2, work);
            break;
        };
        l1 += step * d1;
        l2 += step * d2;
        at = next;
    }
    let (g1, g2, ..) = derivatives(at.total, work);
    let near = g1.abs() < STALLED_MEAN && g2.abs() < STALLED_VARIANCE;
    if near && normalise(work.p) { Fit::Near } else { Fit::Failed }
}

fn evaluate(reference: &[f64], l1: f64, l2: f64, work: &mut TiltArrays<'_>) -> Sums {
    let mut top = f64::NEG_INFINITY;
    for ((p, y), q) in work.p.iter_mut().zip(work.y.iter()).zip(work.q.iter()) {
        *p = l1 * y + l2 * q;
        top = top.max(*p);
    }
    let mut total = 0.0;
    for (p, r) in work.p.iter_mut().zip(reference) {
        *p = r * exp_or_zero(*p - top);
        total += *p;
    }
    Sums { objective: top + total.ln(), total }
}

/// Gradient and Hessian of the objective.
fn derivatives(total: f64, work: &TiltArrays<'_>) -> (f64, f64, f64, f64, f64) {
    let (mut g1, mut g2, mut h11, mut h12, mut h22) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((p, y), q) in work.p.iter().zip(work.y.iter()).zip(work.q.iter()) {
        let (py, pq) = (p * y, p * q);
        g1 += py;
        g2 += pq;
        h11 += py * y;
        h12 += py * q;
        h22 += pq * q;
    }
    let (g1, g2) = (g1 / total, g2 / total);
    (g1, g2, h11 / total - g1 * g1, h12 / total - g1 * g2, h22 / total - g2 * g2)
}

fn normalise(p: &mut [f64]) -> bool {
    let total: f64 = p.iter().sum();
    if !(total > 0.0 && total.is_finite()) {
        return false;
    }
    for p in p.iter_mut() {
        *p /= total;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::grid::{LN_MIDDLES, MIDDLES, cell};
    use super::super::shapes::lognormal;
    use super::*;
    use proptest::prelude::*;

    fn run(
        cells: std::ops::Range<usize>,
        from: (f64, f64),
        m: f64,
        s: f64,
    ) -> (Fit, f64, f64, f64) {
        let n = cells.len();
        let x = &MIDDLES[cells.clone()];
        let (mut r, mut y, mut q, mut p) = (vec![0.0; n], vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        lognormal(from.0, from.1 * from.1, &LN_MIDDLES[cells], &mut r);
        let fit = tilt(&r, x, m, s, &mut TiltArrays { y: &mut y, q: &mut q, p: &mut p });
        let mean: f64 = p.iter().zip(x).map(|(p, x)| p * x).sum();
        let var: f64 = p.iter().zip(x).map(|(p, x)| p * (x - mean) * (x - mean)).sum();
        (fit, p.iter().sum(), mean, var)
    }

    #[test]
    fn a_mean_outside_the_support_fails() {
        assert_eq!(run(100..140, (0.02, 0.01), 1.0, 0.01).0, Fit::Failed);
    }

    proptest! {
        #[test]
        fn mean_and_variance_of_the_tilted_shape_are_the_measured_ones(
            ln_m in -9.0f64..3.0, cv in 0.1f64..2.0, off in 0.5f64..2.0, wider in 0.5f64..2.0,
            n in prop_oneof![3u32..12, 12u32..5000],
        ) {
            // No n durations deviate further from their mean than by the root of n - 1 times it, and at
            // that bound all but one are zero.
            let cv = cv.min(0.9 * f64::from(n - 1).sqrt());
            let (m, s) = (ln_m.exp(), cv * ln_m.exp());
            // The support that an interval of n calls has.
            let farthest = s * f64::from(n - 1).sqrt();
            let cells = cell((m - farthest).max(1e-6))..cell(m + farthest) + 1;
            let (fit, total, mean, var) = run(cells, (m * off, s * wider), m, s);
            prop_assert_eq!(fit, Fit::Met);
            prop_assert!((total - 1.0).abs() < 1e-12);
            prop_assert!((mean - m).abs() <= 1.001 * TOLERANCE * s);
            prop_assert!((var / (s * s) - 1.0).abs() <= 1.01 * TOLERANCE);
        }

        #[test]
        fn whatever_the_moments_the_weights_are_a_distribution_or_refused(m: f64, s: f64) {
            let (fit, total, ..) = run(60..200, (0.01, 0.01), m, s);
            prop_assert!(fit == Fit::Failed || (total - 1.0).abs() < 1e-9);
        }
    }
}
