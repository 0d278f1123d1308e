//! Our own metric model: descriptors that collectors declare, samples, and the [`Sink`] that
//! refuses what an exposition must never hold (duplicates, undeclared names, wrong types, NaN).
//!
//! Must not: know PostgreSQL, a clock, or how samples are encoded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The Prometheus type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only rises while the process that counts it lives. The name ends in `_total`.
    Counter,
    /// Cumulative buckets with `_count` and `_sum`.
    Histogram,
    /// A gauge or counter whose name postgres_exporter's users know, but which breaks the rules that
    /// `promtool check metrics` holds typed metrics to (a gauge ending in `_count`, a counter that
    /// does not end in `_total`). The name is kept, the type is left open; PromQL does not look at it.
    Untyped,
}

/// How a metric goes out in the profile that is postgres_exporter's to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// With this type, and with the label `server` or without.
    As(Kind, bool),
    /// Not here: a collector of that profile has the name, with other labels.
    Elsewhere,
    /// In that profile only.
    Only,
}

/// What a collector may emit: name, type, labels and help. Declared as `static` beside the
/// collector and listed in its catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name, base unit and `_total` included.
    pub name: &'static str,
    /// One sentence with a full stop, naming the source view and column.
    pub help: &'static str,
    /// The Prometheus type.
    pub kind: Kind,
    /// Label names in the order in which [`Sink`] takes their values.
    pub labels: &'static [&'static str],
    /// What differs in postgres_exporter's profile.
    pub compat: Option<Compat>,
}

/// Most descriptors that are made at run time: of settings, of which a server has some 400, in two profiles.
const MOST_MADE: usize = 4_096;
/// Descriptors that were made at run time, by name. They are never freed, so that samples can refer to them as to
/// those that are declared, and there is one of each, however many targets have it.
static MADE: Mutex<Option<HashMap<String, Vec<&'static Metric>>>> = Mutex::new(None);

impl Metric {
    /// Declares a gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, labels, compat: None }
    }

    /// Declares a counter.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Counter, labels, compat: None }
    }

    /// Declares a metric without a type; see [`Kind::Untyped`].
    pub const fn untyped(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Untyped, labels, compat: None }
    }

    /// Declares a histogram.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, kind: Kind::Histogram, labels, compat: None }
    }
}

impl Metric {
    /// In postgres_exporter's profile it is a gauge.
    pub const fn gauge_there(mut self) -> Self {
        self.compat = Some(Compat::As(Kind::Gauge, false));
        self
    }

    /// In postgres_exporter's profile it is a counter.
    pub const fn counter_there(mut self) -> Self {
        self.compat = Some(Compat::As(Kind::Counter, false));
        self
    }

    /// In postgres_exporter's profile it has this type and the label `server`.
    pub const fn with_server_there(mut self, kind: Kind) -> Self {
        self.compat = Some(Compat::As(kind, true));
        self
    }

    /// In postgres_exporter's profile another collector has the name.
    pub const fn elsewhere_there(mut self) -> Self {
        self.compat = Some(Compat::Elsewhere);
        self
    }

    /// It is there in postgres_exporter's profile only.
    pub const fn only_there(mut self) -> Self {
        self.compat = Some(Compat::Only);
        self
    }

    /// One like this with another name, help, type or labels. `None` when there are too many.
    fn made(
        &self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[&'static str],
    ) -> Option<&'static Self> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_default();
        let like =
            |m: &&&'static Self| m.kind == kind && m.labels == labels && m.compat == self.compat;
        if let Some(metric) = made.get(name).and_then(|all| all.iter().find(like)) {
            return Some(metric);
        }
        if made.len() >= MOST_MADE || made.get(name).is_some_and(|all| all.len() >= 8) {
            return None;
        }
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let metric: &'static Self = Box::leak(Box::new(Self {
            name: text(name),
            help: text(help),
            kind,
            labels: Box::leak(labels.to_vec().into_boxed_slice()),
            compat: self.compat,
        }));
        made.entry(name.to_owned()).or_default().push(metric);
        Some(metric)
    }
}

/// A finished histogram, ready to be encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending, in base units; `+Inf` is implied.
    pub bounds: Arc<[f64]>,
    /// Cumulative counts, one per bound, never falling from one to the next.
    pub cumulative: Box<[u64]>,
    /// All observations; at least the last cumulative count.
    pub count: u64,
    /// Sum of all observations in base units.
    pub sum: f64,
    /// The same observations by finer buckets, for scrapers that take native histograms.
    pub native: Option<Native>,
    /// When counting began, in Unix seconds, where that is known.
    pub created: Option<f64>,
}

/// Buckets of a native histogram of non-negative observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Native {
    /// There are `2^schema` buckets per factor of two: bucket `i` is
    /// `(2^((i-1)/2^schema), 2^(i/2^schema)]` in base units.
    pub schema: i32,
    /// Upper bound of the zero bucket in base units.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Index and observations of each other bucket, by ascending index, empty ones left out. With
    /// the zero bucket they add up to [`Histogram::count`].
    pub buckets: Box<[(i32, u64)]>,
}

impl Histogram {
    /// Whether the buckets rise, agree with the count, and the sum is a number.
    fn is_sound(&self) -> bool {
        let native = self.native.as_ref().is_none_or(|native| {
            let all = native.buckets.iter().try_fold(native.zero_count, |s, b| s.checked_add(b.1));
            all == Some(self.count) && native.buckets.windows(2).all(|w| w[0].0 < w[1].0)
        });
        native
            && self.cumulative.windows(2).all(|w| w[0] <= w[1])
            && self.cumulative.last().is_none_or(|&last| last <= self.count)
            && self.cumulative.len() == self.bounds.len()
            && self.sum.is_finite()
    }
}

/// The value of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a gauge, a counter or an untyped metric.
    Number(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

impl Value {
    /// How many series a scraper makes of it in the plain text format: of a histogram one for each
    /// bound, `+Inf`, `_sum` and `_count`.
    pub fn series(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Histogram(histogram) => histogram.bounds.len() + 3,
        }
    }
}

/// One series at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Label values, in the order of [`Metric::labels`].
    pub labels: Box<[Arc<str>]>,
    /// The value.
    pub value: Value,
}

/// All samples of one metric from one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The descriptor.
    pub metric: &'static Metric,
    /// Its samples, in the order they were emitted.
    pub samples: Vec<Sample>,
}

/// What a target's series wear: the beginning of their names, and labels beside their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dress {
    /// In the place of `pg`, where a name begins with that.
    pub prefix: Option<Arc<str>>,
    /// Name and value; a metric that has a label of the same name keeps its own.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

/// Nothing added.
static PLAIN: Dress = Dress { prefix: None, labels: Vec::new() };

impl Dress {
    /// What a metric is called in it.
    pub fn name<'a>(&self, metric: &'a Metric) -> Cow<'a, str> {
        match (&self.prefix, metric.name.strip_prefix("pg_")) {
            (Some(prefix), Some(rest)) => Cow::Owned(format!("{prefix}_{rest}")),
            _ => Cow::Borrowed(metric.name),
        }
    }

    /// The labels that a metric gets in it beside its own.
    pub fn labels<'a>(&'a self, metric: &'a Metric) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.labels.iter().map(|(name, value)| (&**name, &**value));
        pairs.filter(|(name, _)| !metric.labels.contains(name))
    }
}

/// A family and what it wears.
#[derive(Debug, Clone, Copy)]
pub struct Dressed<'a> {
    /// The samples.
    pub family: &'a Family,
    /// Of their target.
    pub dress: &'a Dress,
}

impl<'a> From<&'a Family> for Dressed<'a> {
    fn from(family: &'a Family) -> Self {
        Self { family, dress: &PLAIN }
    }
}

/// What the sink refused, kept so that a defect shows itself in a metric and not as a bad scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// The series of this label set was already there.
    pub duplicate: u64,
    /// Not in the catalogue, wrong type, or wrong number of labels.
    pub undeclared: u64,
    /// NaN, a negative counter, or a histogram whose buckets fall or do not add up.
    pub value: u64,
    /// Series beyond the collector's limit.
    pub over_limit: u64,
    /// Series of objects whose names are not UTF-8, and the same as another's once they are shown.
    pub unreadable: u64,
}

impl Refused {
    /// Everything that points at a defect (the series limit is a setting, not a defect).
    pub fn defects(&self) -> u64 {
        self.duplicate + self.undeclared + self.value
    }
}

/// Takes a collector's samples and holds them to its catalogue.
#[derive(Debug)]
pub struct Sink {
    catalogue: &'static [&'static Metric],
    limit: usize,
    series: usize,
    families: BTreeMap<&'static str, Family>,
    seen: HashSet<(&'static str, Box<[Arc<str>]>)>,
    values: HashSet<Arc<str>>,
    refused: Refused,
    /// In postgres_exporter's profile the value of its label `server`.
    server: Option<Arc<str>>,
    shown: Option<Arc<str>>,
}

impl Sink {
    /// A sink that accepts what `catalogue` declares, up to `limit` series.
    pub fn new(catalogue: &'static [&'static Metric], limit: usize) -> Self {
        Self {
            catalogue,
            limit,
            series: 0,
            families: BTreeMap::new(),
            seen: HashSet::new(),
            values: HashSet::new(),
            refused: Refused::default(),
            server: None,
            shown: None,
        }
    }

    /// Has a text stand on the status page, for what no metric holds. Whoever shows it escapes it.
    pub fn show(&mut self, text: String) {
        self.shown = Some(text.into());
    }

    /// What [`Sink::show`] was given last.
    pub fn take_shown(&mut self) -> Option<Arc<str>> {
        self.shown.take()
    }

    /// Gives names, types and labels of postgres_exporter's profile, with this value of the label `server`, if
    /// there is one.
    pub fn like_postgres_exporter(mut self, server: Option<Arc<str>>) -> Self {
        self.server = server;
        self
    }

    /// Whether the samples are to be postgres_exporter's.
    pub fn is_compatible(&self) -> bool {
        self.server.is_some()
    }

    /// Adds a gauge whose name and help are known at run time only: the declared name with more after it.
    pub fn named(
        &mut self,
        metric: &'static Metric,
        (suffix, help): (&str, &str),
        labels: &[&str],
        value: Option<f64>,
    ) {
        let Some(value) = value else { return };
        let name = format!("{}{suffix}", metric.name);
        if !self.declares(metric) || !valid_metric_name(&name) {
            self.refused.undeclared += 1;
            return;
        }
        // As where a name is declared: such a suffix belongs to other types.
        let others = ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
        let kind = match metric.kind {
            Kind::Gauge if others => Kind::Untyped,
            kind => kind,
        };
        match metric.made(&name, help, kind, metric.labels) {
            Some(made) => self.take(made, labels, Value::Number(value), value.is_nan()),
            None => self.refused.over_limit += 1,
        }
    }

    fn declares(&self, metric: &'static Metric) -> bool {
        self.catalogue.iter().any(|m| std::ptr::eq(*m, metric))
    }

    /// Adds a gauge, counter or untyped sample. `None` (SQL NULL) is no sample.
    pub fn number(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        value: impl Into<Option<f64>>,
    ) {
        let Some(value) = value.into() else { return };
        let bad_kind = metric.kind == Kind::Histogram;
        let bad_value = value.is_nan()
            || (metric.kind == Kind::Counter && (value < 0.0 || value.is_infinite()));
        self.add(metric, labels, Value::Number(value), bad_kind, bad_value);
    }

    /// Adds a histogram sample.
    pub fn histogram(&mut self, metric: &'static Metric, labels: &[&str], value: Arc<Histogram>) {
        let bad_value = !value.is_sound();
        let bad_kind = metric.kind != Kind::Histogram;
        self.add(metric, labels, Value::Histogram(value), bad_kind, bad_value);
    }

    fn add(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        value: Value,
        bad_kind: bool,
        bad_value: bool,
    ) {
        if bad_kind || labels.len() != metric.labels.len() || !self.declares(metric) {
            self.refused.undeclared += 1;
            return;
        }
        self.take(metric, labels, value, bad_value);
    }

    fn take(&mut self, metric: &'static Metric, labels: &[&str], value: Value, bad_value: bool) {
        let server = self.server.clone();
        let mut all: Vec<&str> = Vec::new();
        let (metric, labels) = match (&server, metric.compat) {
            (Some(_), Some(Compat::Elsewhere)) | (None, Some(Compat::Only)) => return,
            (Some(server), Some(Compat::As(kind, with_server))) => {
                let mut names = metric.labels.to_vec();
                all.extend(labels);
                if with_server {
                    names.push("server");
                    all.push(server);
                }
                match metric.made(metric.name, metric.help, kind, &names) {
                    Some(made) => (made, all.as_slice()),
                    None => {
                        self.refused.over_limit += 1;
                        return;
                    }
                }
            }
            _ => (metric, labels),
        };
        if bad_value {
            self.refused.value += 1;
            return;
        }
        let series = value.series();
        if self.series + series > self.limit {
            self.refused.over_limit += series as u64;
            return;
        }
        let labels: Box<[Arc<str>]> = labels.iter().map(|l| self.shared(l)).collect();
        if !self.seen.insert((metric.name, labels.clone())) {
            let unreadable = labels.iter().any(|l| l.contains(char::REPLACEMENT_CHARACTER));
            self.refused.unreadable += u64::from(unreadable);
            self.refused.duplicate += u64::from(!unreadable);
            return;
        }
        self.series += series;
        self.families
            .entry(metric.name)
            .or_insert_with(|| Family { metric, samples: Vec::new() })
            .samples
            .push(Sample { labels, value });
    }

    /// A label's value, of which there is one copy however many samples have it.
    fn shared(&mut self, value: &str) -> Arc<str> {
        if let Some(known) = self.values.get(value) {
            return known.clone();
        }
        let new: Arc<str> = value.into();
        self.values.insert(new.clone());
        new
    }

    /// The families by name, and what was refused.
    pub fn finish(self) -> (Vec<Family>, Refused) {
        (self.families.into_values().collect(), self.refused)
    }
}

/// Whether a name is a valid metric name (`[a-zA-Z_:][a-zA-Z0-9_:]*`).
pub fn valid_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Whether a name is a valid label name (`[a-zA-Z_][a-zA-Z0-9_]*`, not starting with `__`).
pub fn valid_label_name(name: &str) -> bool {
    !name.contains(':') && !name.starts_with("__") && valid_metric_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    static GAUGE: Metric = Metric::gauge("pg_x", &["datname"], "X.");
    static COUNTER: Metric = Metric::counter("pg_y_total", &[], "Y.");
    static STRANGER: Metric = Metric::gauge("pg_z", &[], "Z.");
    static HISTOGRAM: Metric = Metric::histogram("pg_h_seconds", &[], "H.");
    static CATALOGUE: &[&Metric] = &[&GAUGE, &COUNTER, &HISTOGRAM];

    fn histogram(cumulative: &[u64], count: u64) -> Arc<Histogram> {
        let bounds = (0..cumulative.len()).map(|i| i as f64).collect();
        let cumulative = cumulative.into();
        Arc::new(Histogram { bounds, cumulative, count, sum: 1.0, native: None, created: None })
    }

    fn native(buckets: &[(i32, u64)], zero_count: u64, count: u64) -> Arc<Histogram> {
        let native =
            Native { schema: 3, zero_threshold: 1e-6, zero_count, buckets: buckets.into() };
        Arc::new(Histogram { native: Some(native), ..(*histogram(&[1], count)).clone() })
    }

    #[test]
    fn keeps_good_samples_in_order_and_null_as_no_sample() {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.number(&GAUGE, &["b"], 2.0);
        sink.number(&GAUGE, &["a"], f64::INFINITY);
        sink.number(&COUNTER, &[], None);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default());
        assert_eq!(families.len(), 1);
        let labels: Vec<&str> = families[0].samples.iter().map(|s| &*s.labels[0]).collect();
        assert_eq!(labels, ["b", "a"]);
    }

    #[test]
    fn refuses_what_an_exposition_must_not_hold() {
        let mut sink = Sink::new(CATALOGUE, 3);
        sink.number(&GAUGE, &["a"], 1.0);
        sink.number(&GAUGE, &["a"], 2.0);
        sink.number(&GAUGE, &[], 2.0);
        sink.number(&STRANGER, &[], 2.0);
        sink.number(&GAUGE, &["n"], f64::NAN);
        sink.number(&COUNTER, &[], -1.0);
        sink.histogram(&HISTOGRAM, &[], histogram(&[2, 1], 3));
        sink.histogram(&HISTOGRAM, &[], histogram(&[1, 4], 3));
        sink.number(&HISTOGRAM, &[], 1.0);
        sink.number(&GAUGE, &["b"], 1.0);
        sink.number(&GAUGE, &["c"], 1.0);
        sink.number(&GAUGE, &["d"], 1.0);
        let (families, refused) = sink.finish();
        let want = Refused { duplicate: 1, undeclared: 3, value: 4, over_limit: 1, unreadable: 0 };
        assert_eq!(refused, want);
        assert_eq!(families[0].samples.len(), 3);
    }

    #[test]
    fn names_that_look_the_same_once_shown_are_no_defect() {
        let mut sink = Sink::new(CATALOGUE, 3);
        sink.number(&GAUGE, &["a\u{fffd}"], 1.0);
        sink.number(&GAUGE, &["a\u{fffd}"], 2.0);
        let refused = sink.finish().1;
        assert_eq!((refused.unreadable, refused.defects()), (1, 0));
    }

    #[test]
    fn a_histogram_counts_as_the_series_it_is_exposed_as() {
        // Two bounds, +Inf, _sum and _count.
        for (limit, over_limit) in [(5, 0), (4, 5)] {
            let mut sink = Sink::new(CATALOGUE, limit);
            sink.histogram(&HISTOGRAM, &[], histogram(&[1, 2], 3));
            assert_eq!(sink.finish().1, Refused { over_limit, ..Refused::default() });
        }
        let mut sink = Sink::new(CATALOGUE, 6);
        sink.histogram(&HISTOGRAM, &[], histogram(&[1, 2], 3));
        sink.number(&GAUGE, &["a"], 1.0);
        sink.number(&GAUGE, &["b"], 1.0);
        assert_eq!(sink.finish().1, Refused { over_limit: 1, ..Refused::default() });
    }

    #[test]
    fn native_buckets_must_add_up_to_the_count_in_order() {
        let mut sink = Sink::new(CATALOGUE, 20);
        sink.histogram(&HISTOGRAM, &[], native(&[(-3, 2), (4, 1)], 1, 3));
        sink.histogram(&HISTOGRAM, &[], native(&[(4, 1), (-3, 2)], 1, 4));
        sink.histogram(&HISTOGRAM, &[], native(&[(-3, u64::MAX)], 2, 1));
        sink.histogram(&HISTOGRAM, &[], native(&[(-3, 2), (4, 1)], 1, 4));
        let (families, refused) = sink.finish();
        assert_eq!((refused.value, refused.duplicate, families[0].samples.len()), (3, 0, 1));
    }

    #[test]
    fn names_are_held_to_the_data_model() {
        assert!(valid_metric_name("pg_up") && valid_metric_name("a:b"));
        assert!(!valid_metric_name("") && !valid_metric_name("1a") && !valid_metric_name("a-b"));
        assert!(valid_label_name("datname") && !valid_label_name("__x"));
        assert!(!valid_label_name("a:b"));
    }
}
