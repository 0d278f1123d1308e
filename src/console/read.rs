//! What is read of a snapshot, by the structs that collectors declare, and where each figure comes from: its metric,
//! its age, its source and its PromQL.
//!
//! Must not: look a figure up by the name of its metric, or make one that was not published.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Serialize;

use crate::collectors;
use crate::collectors::published::{self, Published};
use crate::metric::Metric;
use crate::snapshot::{Outcome, Snapshot};

/// Intervals after which a figure is stale.
const STALE_INTERVALS: f64 = 3.0;

/// What there is in the place of a name or a text that is not to be shown.
pub const HIDDEN: &str = "(hidden)";

/// One target, at one moment.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// As it was published.
    pub snapshot: &'a Snapshot,
    /// The exporter's clock.
    pub now: SystemTime,
    /// What the configuration calls it; `None` for the server without a name.
    pub target: Option<&'a str>,
    /// Whether names of users and texts of statements are kept from whoever looks.
    pub hides: bool,
}

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FigureOrigin {
    /// As it stands in the exposition.
    pub metric: String,
    /// Whose it is.
    pub collector: String,
    /// Seconds since it was read; absent before the first time.
    pub age_seconds: Option<f64>,
    /// Seconds between two readings.
    pub interval_seconds: f64,
    /// Whether it is older than three intervals, or its last reading failed.
    pub stale: bool,
    /// View and column: the metric's help.
    pub source: &'static str,
    /// Asks Prometheus for the same.
    pub promql: String,
}

/// What stands around a selector in PromQL: `["rate(", "[5m])"]`.
pub type Around = [&'static str; 2];
/// Nothing.
pub const PLAIN: Around = ["", ""];
/// A counter by the second.
pub const RATE: Around = ["rate(", "[5m])"];

impl<'a> Reader<'a> {
    /// The samples of a metric.
    pub fn all<T: Published<'a>>(&self) -> impl Iterator<Item = T> {
        published::all(&self.snapshot.families)
    }

    /// The first of them.
    pub fn first<T: Published<'a>>(&self) -> Option<T> {
        self.all().next()
    }

    /// Where figures of this metric come from, of one database or of all.
    pub fn origin<T: Published<'a>>(&self, datname: Option<&str>, around: Around) -> FigureOrigin {
        let metric = T::METRIC;
        let mut labels: Vec<(&str, &str)> = self.snapshot.dress.labels(metric).collect();
        if let (Some(target), true) = (self.target, labels.is_empty()) {
            labels.push(("instance", target));
        }
        labels
            .extend(datname.filter(|_| metric.labels.contains(&"datname")).map(|d| ("datname", d)));
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let name = self.snapshot.dress.name(metric);
        let selector = match labels[..] {
            [] => name.to_string(),
            _ => format!("{name}{{{}}}", labels.join(", ")),
        };
        let collector = owner(metric);
        let outcomes = self.outcomes(collector, datname);
        let ages = outcomes.iter().filter_map(|o| self.age(o));
        let age =
            ages.fold(None, |oldest: Option<f64>, age| Some(oldest.map_or(age, |o| o.max(age))));
        let interval = outcomes.iter().map(|o| o.interval.as_secs_f64()).fold(0.0, f64::max);
        let failed = outcomes.iter().any(|o| o.error.is_some());
        FigureOrigin {
            metric: name.into_owned(),
            collector: collector.to_owned(),
            age_seconds: age,
            interval_seconds: interval,
            stale: failed || age.is_some_and(|age| age > STALE_INTERVALS * interval.max(1.0)),
            source: metric.help,
            promql: format!("{}{selector}{}", around[0], around[1]),
        }
    }

    /// How runs of a collector went, of the server and of one database or of all.
    fn outcomes(&self, collector: &str, datname: Option<&str>) -> Vec<&'a Outcome> {
        let of = |o: &&Outcome| {
            *o.collector == *collector
                && (datname.is_none() || o.datname.is_none() || o.datname.as_deref() == datname)
        };
        self.snapshot.outcomes.iter().filter(of).collect()
    }

    /// Seconds since the last run that succeeded.
    pub fn age(&self, outcome: &Outcome) -> Option<f64> {
        let at = outcome.last_success?;
        Some(self.now.duration_since(at).map_or(0.0, |age| age.as_secs_f64()))
    }

    /// Unix seconds of the exporter's clock.
    pub fn unix(&self) -> f64 {
        self.now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
    }

    /// A user's name, a text, or what a server said, where it may be shown.
    pub fn private<'s>(&self, text: &'s str) -> Cow<'s, str> {
        Cow::Borrowed(if self.hides && !text.is_empty() { HIDDEN } else { text })
    }
}

/// The collector that has a metric.
fn owner(metric: &'static Metric) -> &'static str {
    let has = |c: &&&dyn crate::collector::AnyCollector| {
        c.metrics().iter().any(|m| std::ptr::eq(*m, metric))
    };
    collectors::ALL.iter().find(has).map_or("", |c| c.name())
}

/// A value in PromQL's double quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
