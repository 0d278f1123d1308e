//! Descriptors that are made at run time: of a server's settings, for postgres_exporter's profile, and of queries of
//! the user's own.
//!
//! Must not: grow without a bound, since none is ever freed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Compat, Kind, Metric};

/// Descriptors by name. They are never freed, so that samples can refer to them as to those that are declared, and
/// there is one of each, however many targets have it.
pub(super) struct MadeMetrics {
    /// Most names.
    most: usize,
    by_name: Mutex<Option<HashMap<String, Vec<&'static Metric>>>>,
}

/// Most that one name may be: a configuration that is loaded again may change a text or a label each time.
const EACH: usize = 64;

/// What the settings and the configuration name.
static MADE: MadeMetrics = MadeMetrics::new(4_096);
/// What servers name: columns of answers.
pub(super) static FOUND: MadeMetrics = MadeMetrics::new(1_024);

impl MadeMetrics {
    const fn new(most: usize) -> Self {
        Self { most, by_name: Mutex::new(None) }
    }

    /// The one with this name, help, type and labels; where there are too many of the name, an older one whose help
    /// differs. `None` when there are too many.
    pub(super) fn get(
        &self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[&'static str],
        compat: Option<Compat>,
    ) -> Option<&'static Metric> {
        let mut made = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_default();
        let like =
            |m: &&&'static Metric| m.kind == kind && m.labels == labels && m.compat == compat;
        let known = made.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some(metric) = known.iter().filter(like).find(|m| m.help == help) {
            return Some(metric);
        }
        if known.len() >= EACH {
            return known.iter().rfind(like).copied();
        }
        if made.len() >= self.most && !made.contains_key(name) {
            return None;
        }
        let metric: &'static Metric = Box::leak(Box::new(Metric {
            name: text(name),
            help: text(help),
            kind,
            labels: Box::leak(labels.to_vec().into_boxed_slice()),
            compat,
        }));
        made.entry(name.to_owned()).or_default().push(metric);
        Some(metric)
    }
}

fn text(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

impl Metric {
    /// One like this with another name, help, type or labels. `None` when there are too many.
    pub(super) fn made(
        &self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[&'static str],
    ) -> Option<&'static Self> {
        MADE.get(name, help, kind, labels, self.compat)
    }

    /// One that the configuration names; in postgres_exporter's profile it has the label `server` besides. `None` when
    /// there are too many, or a name is not valid.
    pub fn configured(
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[String],
    ) -> Option<&'static Self> {
        let valid = super::valid_metric_name(name)
            && labels.iter().all(|label| super::valid_label_name(label));
        let labels = labels.iter().map(|label| shared(label)).collect::<Option<Vec<_>>>()?;
        let compat = Some(Compat::As(kind, true));
        valid.then(|| MADE.get(name, help, kind, &labels, compat)).flatten()
    }

    /// The same samples' descriptor with the type and help of another one that has its name.
    pub fn typed_as(&'static self, other: &'static Self) -> Option<&'static Self> {
        MADE.get(self.name, other.help, other.kind, self.labels, self.compat)
    }
}

/// A label's name, of which there is one copy.
fn shared(label: &str) -> Option<&'static str> {
    static LABELS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = labels.iter().find(|known| **known == label) {
        return Some(known);
    }
    if labels.len() >= MADE.most {
        return None;
    }
    let new = text(label);
    labels.push(new);
    Some(new)
}
