//! Where a quantile lies in about nine of ten cases: the spread of a window's estimated calls as a number of
//! calls, and what this is in seconds.
//!
//! Must not: know how the calls were placed, or give an interval that what is certain excludes.

/// Part of the variance of a share that a known mean and variance leave open.
const OPEN: f64 = 0.36;
/// What the parametric shapes are worth, in exact calls.
const PRIOR: f64 = 30.0;
/// More exact calls than these teach no more: shapes move.
const CEILING: f64 = 800.0;
/// Deviations per share that the tilt had to move.
const DRIFT: f64 = 0.18;
/// Deviation of a value inside its cell, as a part of it.
const VALUE: f64 = 0.02;
/// Calls: the rank of a quantile between two of them.
const BETWEEN: f64 = 0.3;
/// A quantile whose interval spans more than this factor lies in a gap between two modes, or in a tail of which too
/// little is known.
const ILL_DEFINED: f64 = 4.0;
/// Deviations below and above, by quantile, that hold nine of ten. Fitted to measurements, and lopsided as these were.
const MULTIPLES: [(f64, f64, f64); 3] = [(0.5, 2.1, 1.7), (0.95, 2.0, 0.8), (0.99, 1.8, 0.7)];

/// Two times in seconds, the lower first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorBar {
    /// From here
    pub low: f64,
    /// to here.
    pub high: f64,
}

impl ErrorBar {
    /// Whether a percentile that lies between them has no well-defined value.
    pub fn is_ill_defined(self) -> bool {
        self.high > ILL_DEFINED * self.low
    }
}

/// What is known of the shape of a statement's latencies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Learnt {
    /// Exact calls behind it, decayed as it is.
    pub exact: f64,
    /// Part of them that was no longer than the time that is asked about; `None` where nobody knows.
    pub share: Option<f64>,
}

/// One standard deviation, in calls, of how many of `estimated` calls are up to a time, of which `share` is taken to be.
pub fn deviation(share: f64, estimated: f64, learnt: Learnt) -> f64 {
    // Not `<`: what is not a number goes the same way.
    if !(estimated >= 0.5) {
        return 0.0;
    }
    let share = share.clamp(0.0, 1.0);
    let variance = share * (1.0 - share);
    let exact = learnt.exact + PRIOR;
    let worth = 1.0 / (1.0 / exact + 1.0 / CEILING);
    let moved =
        learnt.share.map_or(0.0, |learnt| ((learnt - share).powi(2) - variance / exact).max(0.0));
    let sampled = OPEN * variance * (estimated + estimated * estimated / worth);
    (sampled + (DRIFT * estimated).powi(2) * moved).sqrt()
}

/// The logarithm of the time up to which `rank` calls are. `cum[k]` calls are up to `edges[k]`; `cum[0]` is 0.
pub fn log_quantile(edges: &[f64], cum: &[f64], rank: f64) -> f64 {
    let last = edges.len().min(cum.len()) - 1;
    let rank = rank.min(cum[last]).max(0.0);
    // The sums may miss the rank by rounding, which must not skip to the next edge.
    let slack = 1e-6 * cum[last].min(1.0);
    let empty = cum[1..last].partition_point(|c| !(*c > 0.0));
    let below = cum[1..last].partition_point(|c| *c < rank - slack).max(empty);
    let (from, to) = (edges[below].ln(), edges[below + 1].ln());
    let here = cum[below + 1] - cum[below];
    let part = if here > 0.0 { ((rank - cum[below]) / here).clamp(0.0, 1.0) } else { 1.0 };
    from + part * (to - from)
}

/// Calls up to a time, interpolated in the logarithm.
pub fn calls_up_to(edges: &[f64], cum: &[f64], x: f64) -> f64 {
    let last = edges.len().min(cum.len()) - 1;
    if !(x > edges[0]) {
        return cum[0];
    }
    if x >= edges[last] {
        return cum[last];
    }
    let k = edges[..last].partition_point(|edge| *edge < x).max(1);
    let part = (x / edges[k - 1]).ln() / (edges[k] / edges[k - 1]).ln();
    cum[k - 1] + part * (cum[k] - cum[k - 1])
}

/// How many deviations below and above the `q`-quantile hold nine of ten.
pub fn multiples(q: f64) -> (f64, f64) {
    let far = |of: &(f64, f64, f64)| (of.0 - q).abs();
    let nearest = MULTIPLES.iter().min_by(|a, b| far(a).total_cmp(&far(b)));
    nearest.map_or((2.0, 2.0), |(_, below, above)| (*below, *above))
}

/// The `q`-quantile with so many deviations `below` and `above` it. `deviation` is that of [`deviation`] at the estimate; of several
/// statements together the sum of theirs, since their shapes err alike. `calls` are all of the window.
pub fn interval(
    q: f64,
    (below, above): (f64, f64),
    edges: &[f64],
    cum: &[f64],
    calls: f64,
    deviation: f64,
    certain: Option<ErrorBar>,
) -> ErrorBar {
    let rank = q * calls;
    let most = cum.last().copied().unwrap_or_default();
    let (below, above) = (below * deviation + BETWEEN, above * deviation + BETWEEN);
    let point = log_quantile(edges, cum, rank);
    let low = log_quantile(edges, cum, rank - below);
    let beyond = certain.filter(|range| rank + above > most && range.high.is_finite());
    let high =
        beyond.map_or_else(|| log_quantile(edges, cum, rank + above), |range| range.high.ln());
    let low = if low < point { point - (point - low).hypot(VALUE) } else { low };
    let high = point + (high - point).max(0.0).hypot(VALUE);
    let Some(certain) = certain else { return ErrorBar { low: low.exp(), high: high.exp() } };
    let (low, high) = (low.exp().max(certain.low), high.exp().min(certain.high));
    if low > high { certain } else { ErrorBar { low, high } }
}
