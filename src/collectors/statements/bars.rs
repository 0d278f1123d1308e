//! Quantiles of the last minutes and by how much they may be off: what is certain, and what is likely.
//!
//! Must not: know which statement it is about, or publish a point that is certainly wrong.

use crate::derive::latency::likely::{self, ErrorBar, Learnt};
use crate::derive::latency::{Distribution, FoundCalls, Recent};
use crate::metric::{Metric, Sink};

/// Windows of the quantile gauges, and the seconds to which their beginning is exact. A minute in which a
/// statement is called a few times needs its own calls and not a second's more.
pub(super) const WINDOWS: [(&str, f64, f64); 2] = [("1m", 60.0, 1.0), ("5m", 300.0, 5.0)];
pub(super) const LONGEST: usize = 1;
pub(super) const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.95", 0.95), ("0.99", 0.99)];
/// Labels of the two kinds of error bars.
pub(super) const LIKELY: &str = "likely";
const CERTAIN: &str = "certain";

/// Which error bars are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Those that hold nine of ten, whether a percentile is well defined, and the share of calls over the objective.
    pub likely: bool,
    /// Those that hold all.
    pub certain: bool,
}

impl Levels {
    pub(super) const ALL: Self = Self { likely: true, certain: true };
}

/// The metrics of one kind of series, whose labels come first.
pub(super) struct Metrics {
    pub latency: &'static Metric,
    pub low: &'static Metric,
    pub high: &'static Metric,
    pub ill_defined: &'static Metric,
    pub slow: &'static Metric,
    pub slow_low: &'static Metric,
    pub slow_high: &'static Metric,
}

/// The windows of one series. 5 KiB beside what [`Recent`] says.
pub(super) struct Latest {
    recent: [Recent; WINDOWS.len()],
    now: [LatestWindow; WINDOWS.len()],
}

/// One window at the last poll.
struct LatestWindow {
    distribution: Distribution,
    certain: [Option<ErrorBar>; QUANTILES.len()],
    share: Option<ErrorBar>,
}

impl Latest {
    /// Windows with certain bounds.
    pub(super) fn bounded() -> Self {
        Self::of(WINDOWS.map(|(_, span, step)| Recent::with_bounds(span, step)))
    }

    /// Windows without.
    pub(super) fn plain() -> Self {
        Self::of(WINDOWS.map(|(_, span, step)| Recent::new(span, step)))
    }

    fn of(recent: [Recent; WINDOWS.len()]) -> Self {
        let empty = || LatestWindow {
            distribution: Distribution::default(),
            certain: [None; QUANTILES.len()],
            share: None,
        };
        Self { recent, now: std::array::from_fn(|_| empty()) }
    }

    pub(super) fn add(&mut self, at: f64, found: &FoundCalls<'_>) {
        for recent in &mut self.recent {
            recent.add(at, found);
        }
    }

    /// Notes that calls may have been lost.
    pub(super) fn doubt(&mut self, at: f64) {
        for recent in &mut self.recent {
            recent.doubt(at);
        }
    }

    /// Looks at the windows that end `at`; all that is said is about these.
    pub(super) fn refresh(&mut self, at: f64) {
        for (recent, now) in self.recent.iter_mut().zip(&mut self.now) {
            recent.over(at, &mut now.distribution);
            for (certain, (_, q)) in now.certain.iter_mut().zip(QUANTILES) {
                *certain = recent.certain(at, q);
            }
            now.share = recent.certain_share(at);
        }
    }

    /// Part of the calls of the longest window that were observed, not estimated.
    pub(super) fn exact_ratio(&self) -> Option<f64> {
        self.now[LONGEST].distribution.exact_ratio()
    }

    /// One deviation, in calls, of how many of this series' calls are up to `x`, as a part of others'.
    pub(super) fn deviation(&self, window: usize, x: f64, learnt: impl FnOnce() -> Learnt) -> f64 {
        let distribution = &self.now[window].distribution;
        let estimated = distribution.estimated();
        if estimated < 1.0 {
            return 0.0;
        }
        let share = 1.0 - distribution.share_over(x).unwrap_or_default();
        likely::deviation(share, estimated, learnt())
    }
}

impl LatestWindow {
    fn point(&self, index: usize, q: f64) -> Option<f64> {
        let point = self.distribution.quantile(q)?;
        Some(self.certain[index].map_or(point, |range| point.clamp(range.low, range.high)))
    }
}

/// Emits the quantiles alone.
pub(super) fn quantiles(
    metric: &'static Metric,
    labels: &[&str],
    latest: &Latest,
    sink: &mut Sink,
) {
    let mut labels = SeriesLabels::of(labels);
    for ((name, ..), window) in WINDOWS.iter().zip(&latest.now) {
        for (index, (quantile, q)) in QUANTILES.iter().enumerate() {
            sink.number(metric, labels.and(&[name, quantile]), window.point(index, *q));
        }
    }
}

/// Emits the quantiles, their error bars and the share of calls over the `objective`. `deviation` says how many calls one
/// deviation is: of the window of an index, at a quantile, of so many estimated calls, at a time.
pub(super) fn emit(
    metrics: &Metrics,
    (levels, objective): (Levels, f64),
    labels: &[&str],
    latest: &Latest,
    deviation: impl Fn(usize, f64, f64, f64) -> f64,
    sink: &mut Sink,
) {
    quantiles(metrics.latency, labels, latest, sink);
    let mut labels = SeriesLabels::of(labels);
    for (index, ((name, ..), window)) in WINDOWS.iter().zip(&latest.now).enumerate() {
        let distribution = &window.distribution;
        for (i, (quantile, q)) in QUANTILES.iter().enumerate() {
            let certain = window.certain[i];
            if let Some(range) = certain.filter(|_| levels.certain) {
                let labels = labels.and(&[name, quantile, CERTAIN]);
                sink.number(metrics.low, labels, range.low);
                sink.number(metrics.high, labels, range.high);
            }
            let Some(point) = window.point(i, *q).filter(|_| levels.likely) else { continue };
            let deviation = deviation(index, *q, distribution.estimated(), point);
            let Some(range) = distribution.likely(*q, deviation, certain) else { continue };
            // The estimate is among what is likely.
            let range = ErrorBar { low: range.low.min(point), high: range.high.max(point) };
            sink.number(metrics.low, labels.and(&[name, quantile, LIKELY]), range.low);
            sink.number(metrics.high, labels.and(&[name, quantile, LIKELY]), range.high);
            let ill_defined = f64::from(u8::from(range.is_ill_defined()));
            sink.number(metrics.ill_defined, labels.and(&[name, quantile]), ill_defined);
        }
        if levels.likely {
            let share = distribution.share_over(objective);
            let share =
                share.map(|x| window.share.map_or(x, |range| x.clamp(range.low, range.high)));
            sink.number(metrics.slow, labels.and(&[name]), share);
            sink.number(metrics.slow_low, labels.and(&[name]), window.share.map(|range| range.low));
            sink.number(
                metrics.slow_high,
                labels.and(&[name]),
                window.share.map(|range| range.high),
            );
        }
    }
}

/// Labels of a series with others behind them.
struct SeriesLabels<'a> {
    all: Vec<&'a str>,
    own: usize,
}

impl<'a> SeriesLabels<'a> {
    fn of(own: &[&'a str]) -> Self {
        Self { all: own.to_vec(), own: own.len() }
    }

    fn and(&mut self, more: &[&'a str]) -> &[&'a str] {
        self.all.truncate(self.own);
        self.all.extend(more);
        &self.all
    }
}
