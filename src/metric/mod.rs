//! Our own metric model: descriptors that collectors declare, samples, and the [`Sink`] that
//! refuses what an exposition must never hold (duplicates, undeclared names, wrong types, NaN).
//!
//! Must not: know PostgreSQL, a clock, or how samples are encoded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

mod made;

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

    /// The first major version that has it, and the first that has it no more, as its help says:
    /// `(PostgreSQL 16 and later)`, `(before PostgreSQL 17)`.
    pub fn majors(&self) -> (Option<i32>, Option<i32>) {
        let number = |lead: &str| {
            let (_, rest) = self.help.split_once(lead)?;
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            rest[..digits].parse().ok()
        };
        (number("(PostgreSQL "), number("(before PostgreSQL "))
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

    fn is_unknown(&self) -> bool {
        match self {
            Self::Number(value) => value.is_nan(),
            Self::Histogram(histogram) => histogram.sum.is_nan(),
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

/// From when to when a partitioned table takes rows, for a timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct TableCoverage {
    /// Schema.
    pub schemaname: Arc<str>,
    /// Table.
    pub relname: Arc<str>,
    /// Beginning and end of each stretch in Unix seconds, in order; infinite where there is none.
    pub stretches: Box<[(f64, f64)]>,
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
    catalogue: Vec<&'static Metric>,
    limit: usize,
    series: usize,
    families: BTreeMap<&'static str, Family>,
    seen: HashSet<(&'static str, Box<[Arc<str>]>)>,
    values: HashSet<Arc<str>>,
    refused: Refused,
    /// In postgres_exporter's profile the value of its label `server`.
    server: Option<Arc<str>>,
    shown: Option<Arc<str>>,
    covered: Arc<[TableCoverage]>,
    /// Whether a value may be unknown.
    without_unknown: bool,
}

impl Sink {
    /// A sink that accepts what `catalogue` declares, up to `limit` series.
    pub fn new(catalogue: &[&'static Metric], limit: usize) -> Self {
        Self {
            catalogue: catalogue.to_vec(),
            limit,
            series: 0,
            families: BTreeMap::new(),
            seen: HashSet::new(),
            values: HashSet::new(),
            refused: Refused::default(),
            server: None,
            shown: None,
            covered: Arc::default(),
            without_unknown: false,
        }
    }

    /// Has a text stand on the console, for what no metric holds. Whoever shows it escapes it.
    pub fn show(&mut self, text: String) {
        self.shown = Some(text.into());
    }

    /// What [`Sink::show`] was given last.
    pub fn take_shown(&mut self) -> Option<Arc<str>> {
        self.shown.take()
    }

    /// Gives the timelines of partitioned tables for the console, since metrics hold the first gap only.
    pub fn cover(&mut self, covered: Vec<TableCoverage>) {
        self.covered = covered.into();
    }

    /// What [`Sink::cover`] was given last.
    pub fn take_covered(&mut self) -> Arc<[TableCoverage]> {
        std::mem::take(&mut self.covered)
    }

    /// Takes NaN for what the server did not say, and leaves it out; else it is a defect.
    pub fn without_unknown(mut self, unknown: bool) -> Self {
        self.without_unknown = unknown;
        self
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

    /// Adds an untyped sample whose name came with the rows, with the labels of `like`: what a query of the user's own
    /// has more than it was said to have.
    pub fn found(
        &mut self,
        like: &'static Metric,
        (name, help): (&str, &str),
        labels: &[&str],
        value: f64,
    ) {
        if !self.declares(like) || !valid_metric_name(name) || labels.len() != like.labels.len() {
            self.refused.undeclared += 1;
            return;
        }
        let server = self.server.clone();
        let (mut names, mut labels) = (like.labels.to_vec(), labels.to_vec());
        if let Some(server) = &server {
            names.push("server");
            labels.push(server);
        }
        match made::FOUND.get(name, help, Kind::Untyped, &names, None) {
            Some(metric) => self.put(metric, &labels, Value::Number(value), value.is_nan()),
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
        self.put(metric, labels, value, bad_value);
    }

    fn put(&mut self, metric: &'static Metric, labels: &[&str], value: Value, bad_value: bool) {
        if bad_value {
            let unknown = self.without_unknown && value.is_unknown();
            self.refused.value += u64::from(!unknown);
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
mod tests;
