//! Reference shapes of a latency distribution on the cells of a support: lognormal, gamma, and the
//! kernel density of what was learnt. Each is what the tilt starts from.
//!
//! Must not: know the moments of the interval (the tilt does), or allocate.

use super::grid::CELLS;

/// Keeps every cell reachable: a shape of exact zeros could not be tilted anywhere.
const FLOOR: f64 = 1e-14;
/// The lognormal's least log-variance: about half a cell.
const LEAST_LOG_VARIANCE: f64 = 0.002;
/// A kernel reaches no further than this many cells.
const FARTHEST: usize = 40;
/// Weights below this part of the whole add nothing to a kernel density.
const NEGLIGIBLE: f64 = 1e-9;

/// A lognormal of mean `m` and variance `v` at points with logarithms `ln_x`, summing to 1.
///
/// In log space, so that each cell has the density of its middle:
/// `exp(-(ln x - μ)² / 2σ²)`, `σ² = ln(1 + v/m²)`, `μ = ln m - σ²/2`.
pub fn lognormal(m: f64, v: f64, ln_x: &[f64], out: &mut [f64]) {
    let s2 = (v / (m * m)).ln_1p().max(LEAST_LOG_VARIANCE);
    let mu = m.ln() - 0.5 * s2;
    let scale = -0.5 / s2;
    for (p, ln_x) in out.iter_mut().zip(ln_x) {
        let d = ln_x - mu;
        *p = exp_or_zero(scale * d * d) + FLOOR;
    }
    normalise(out);
}

/// A gamma of mean `m` and variance `v` at points `x`, summing to 1: in log space
/// `exp(a·(ln(x/m) - x/m))` with the shape `a = m²/v`.
pub fn gamma(m: f64, v: f64, x: &[f64], ln_x: &[f64], out: &mut [f64]) {
    let a = m * m / v.max(1e-4 * m * m);
    let ln_m = m.ln();
    let mut top = f64::NEG_INFINITY;
    for ((p, x), ln_x) in out.iter_mut().zip(x).zip(ln_x) {
        *p = a * (ln_x - ln_m) - a * x / m;
        top = top.max(*p);
    }
    for p in out.iter_mut() {
        *p = exp_or_zero(*p - top) + FLOOR;
    }
    normalise(out);
}

/// `exp`, except that what is too small to matter costs nothing.
pub(super) fn exp_or_zero(x: f64) -> f64 {
    if x < -60.0 { 0.0 } else { x.exp() }
}

fn normalise(out: &mut [f64]) {
    let total: f64 = out.iter().sum();
    for p in out.iter_mut() {
        *p /= total;
    }
}

/// A Gaussian kernel over cells, as wide as the learnt histogram is uncertain.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Weights at distances 0 to `reach`; summed over both sides they are 1.
    weights: [f64; FARTHEST + 1],
    reach: usize,
}

impl Kernel {
    /// The kernels for a histogram of weight `weight`: bandwidth
    /// `scale·min(sd, IQR/1.34)·W^(-1/5)` cells (Silverman's rule, robust form), at least `least`
    /// cells, for each scale. `None` for an empty histogram.
    pub fn for_histogram<const N: usize>(
        histogram: &[f32; CELLS],
        weight: f64,
        scales: [f64; N],
        least: f64,
    ) -> Option<[Self; N]> {
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for (k, h) in histogram.iter().enumerate() {
            let (h, k) = (f64::from(*h), k as f64);
            total += h;
            first += h * k;
            second += h * k * k;
        }
        if !(total > 0.0) {
            return None;
        }
        let mean = first / total;
        let sd = (second / total - mean * mean).max(0.0).sqrt();
        let (mut sum, mut q1, mut q3) = (0.0, None, None);
        for (k, h) in histogram.iter().enumerate() {
            sum += f64::from(*h);
            if q1.is_none() && sum >= 0.25 * total {
                q1 = Some(k);
            }
            if sum >= 0.75 * total {
                q3 = Some(k);
                break;
            }
        }
        let iqr = match (q1, q3) {
            (Some(a), Some(b)) => ((b - a) as f64).max(1.0),
            _ => 1.0,
        };
        let usual = sd.min(iqr / 1.34) * weight.max(1.0).powf(-0.2);
        Some(scales.map(|scale| Self::new((scale * usual).max(least))))
    }

    fn new(bandwidth: f64) -> Self {
        let mut weights = [0.0; FARTHEST + 1];
        let mut reach = 0;
        let mut total = 0.0;
        for (j, w) in weights.iter_mut().enumerate() {
            *w = (-0.5 * (j as f64 / bandwidth).powi(2)).exp();
            total += if j == 0 { *w } else { 2.0 * *w };
            reach = j;
            if j as f64 >= 2.5 * bandwidth {
                break;
            }
        }
        for w in &mut weights {
            *w /= total;
        }
        Self { weights, reach }
    }

    /// The smoothed histogram on the cells `first..first + out.len()`. What would fall off the
    /// grid stays in its outermost cells.
    pub fn smooth(&self, histogram: &[f32; CELLS], weight: f64, first: usize, out: &mut [f64]) {
        out.fill(0.0);
        let last = first + out.len() - 1;
        let from = if first == 0 { 0 } else { first.saturating_sub(self.reach) };
        let to = if last == CELLS - 1 { last } else { (last + self.reach).min(CELLS - 1) };
        for (k, h) in histogram.iter().enumerate().take(to + 1).skip(from) {
            let h = f64::from(*h);
            if h <= NEGLIGIBLE * weight {
                continue;
            }
            let mut put = |at: usize, w: f64| {
                if (first..=last).contains(&at) {
                    out[at - first] += h * w;
                }
            };
            put(k, self.weights[0]);
            for (j, w) in self.weights.iter().enumerate().take(self.reach + 1).skip(1) {
                put(k.saturating_sub(j), *w);
                put((k + j).min(CELLS - 1), *w);
            }
        }
    }
}

/// The standard normal distribution function, to 1e-7 (Abramowitz and Stegun, 7.1.26).
pub fn normal_cdf(z: f64) -> f64 {
    let x = z.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * series * (-x * x).exp();
    if z > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::super::grid::{LN_MIDDLES, MIDDLES};
    use super::*;

    fn mean_and_variance(p: &[f64]) -> (f64, f64) {
        let mean: f64 = p.iter().zip(&MIDDLES).map(|(p, x)| p * x).sum();
        (mean, p.iter().zip(&MIDDLES).map(|(p, x)| p * (x - mean) * (x - mean)).sum())
    }

    #[test]
    fn parametric_shapes_have_the_moments_they_are_asked_for() {
        let mut p = [0.0; CELLS];
        for (m, s) in [(0.004, 0.002), (0.1, 0.08), (1.0, 0.5)] {
            lognormal(m, s * s, &LN_MIDDLES, &mut p);
            let (mean, variance) = mean_and_variance(&p);
            assert!((mean / m - 1.0).abs() < 1e-3 && (variance / (s * s) - 1.0).abs() < 0.02);
            gamma(m, s * s, &MIDDLES, &LN_MIDDLES, &mut p);
            let (mean, variance) = mean_and_variance(&p);
            assert!((mean / m - 1.0).abs() < 1e-3 && (variance / (s * s) - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn smoothing_keeps_the_weight_and_does_not_leak_off_the_grid() {
        let mut histogram = [0f32; CELLS];
        for (k, h) in [(0, 3.0), (1, 1.0), (100, 5.0), (110, 2.0), (255, 4.0)] {
            histogram[k] = h;
        }
        let [kernel] = Kernel::for_histogram(&histogram, 15.0, [0.7], 0.5).unwrap();
        let mut all = [0.0; CELLS];
        kernel.smooth(&histogram, 15.0, 0, &mut all);
        assert!((all.iter().sum::<f64>() - 15.0).abs() < 1e-9);
        let mut part = [0.0; 30];
        kernel.smooth(&histogram, 15.0, 90, &mut part);
        assert_eq!(part, all[90..120]);
        assert!(Kernel::for_histogram(&[0.0; CELLS], 0.0, [0.7], 0.5).is_none());
    }

    #[test]
    fn the_normal_distribution_function_is_the_tabled_one() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_746), (-1.0, 0.158_655_254), (2.326_348, 0.99)] {
            assert!((normal_cdf(z) - p).abs() < 2e-7, "{z}");
        }
        assert_eq!((normal_cdf(-40.0), normal_cdf(40.0)), (0.0, 1.0));
    }
}
