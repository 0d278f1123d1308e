//! What a query of the user's own gives, beside what pgrunway exports: a page must not hold a name with two types, or
//! a series twice.
//!
//! Must not: change what is pgrunway's own, or depend on who asks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::error::CollectError;
use crate::metric::{Dress, Family, Kind, Metric, Sample};
use crate::snapshot::METRICS;

/// Ends of the names of a histogram's series.
const ENDS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// A series: its labels in the order of their names, as they go out.
type Series = Vec<(String, String)>;

/// What is there already, of the names that guests have.
pub(super) struct Room<'d> {
    dress: &'d Dress,
    /// Names that guests have, and those that would stand in their way.
    wanted: HashSet<String>,
    kinds: HashMap<String, &'static Metric>,
    /// By name, as far as there is more than one family of it.
    series: HashMap<String, HashSet<Series>>,
    families: HashMap<String, Vec<Arc<Family>>>,
    /// Names that pgrunway has itself.
    own: HashSet<String>,
}

impl<'d> Room<'d> {
    /// Room for these guests' families.
    pub(super) fn new<'f>(
        dress: &'d Dress,
        guests: impl IntoIterator<Item = &'f Arc<Family>>,
    ) -> Self {
        let mut wanted = HashSet::new();
        for family in guests {
            let name = dress.name(family.metric).into_owned();
            ENDS.iter().for_each(|end| {
                wanted.insert(format!("{name}{end}"));
                wanted.extend(name.strip_suffix(end).map(str::to_owned));
            });
            wanted.insert(name);
        }
        let mut room = Self {
            dress,
            wanted,
            kinds: HashMap::new(),
            series: HashMap::new(),
            families: HashMap::new(),
            own: HashSet::new(),
        };
        for metric in METRICS.iter().copied() {
            room.know(metric);
        }
        room
    }

    /// Families that are there in any case; of pgrunway's own, or of other guests.
    pub(super) fn take<'f>(
        &mut self,
        families: impl IntoIterator<Item = &'f Arc<Family>>,
        own: bool,
    ) {
        for family in families {
            if let Some(name) = self.know(family.metric) {
                if own {
                    self.own.insert(name.clone());
                }
                self.families.entry(name).or_default().push(family.clone());
            }
        }
    }

    /// Notes a name that a guest might want.
    fn know(&mut self, metric: &'static Metric) -> Option<String> {
        let name = self.dress.name(metric);
        if !self.wanted.contains(&*name) {
            return None;
        }
        let name = name.into_owned();
        self.kinds.entry(name.clone()).or_insert(metric);
        Some(name)
    }

    /// What of a guest's families can go out, and why the rest cannot; of one that `repeats`, series that pgrunway has
    /// itself are no fault.
    pub(super) fn admit(
        &mut self,
        guest: &[Arc<Family>],
        repeats: bool,
    ) -> (Vec<Arc<Family>>, Option<CollectError>) {
        let (mut admitted, mut faults) = (Vec::new(), Vec::new());
        let mut twice: BTreeMap<String, usize> = BTreeMap::new();
        for family in guest {
            let name = self.dress.name(family.metric).into_owned();
            match self.typed(&name, family.metric) {
                Ok(metric) => {
                    let (family, left_out) = self.once(&name, family, metric);
                    if left_out > 0 && !(repeats && self.own.contains(&name)) {
                        *twice.entry(name.clone()).or_default() += left_out;
                    }
                    self.kinds.entry(name.clone()).or_insert(family.metric);
                    self.families.entry(name).or_default().push(family.clone());
                    admitted.push(family);
                }
                Err(fault) => faults.push(fault),
            }
        }
        for (name, count) in twice {
            faults.push(format!("{count} series of {name} are there already, and are left out"));
        }
        let error = (!faults.is_empty()).then(|| CollectError::Collision {
            what: faults.join("; "),
            remedy:
                "give the query's metrics names of their own, or add a LABEL that makes its rows different"
                    .to_owned(),
        });
        (admitted, error)
    }

    /// The descriptor under which a guest's family goes out: that of the type which its name has here.
    fn typed(&self, name: &str, metric: &'static Metric) -> Result<&'static Metric, String> {
        let kind_at = |name: &str| self.kinds.get(name).map(|known| known.kind);
        for end in ENDS {
            let whole = name.strip_suffix(end).and_then(kind_at);
            let part = metric.kind == Kind::Histogram && kind_at(&format!("{name}{end}")).is_some();
            if whole == Some(Kind::Histogram) || part {
                return Err(format!("{name} would stand between the series of a histogram"));
            }
        }
        if METRICS.iter().any(|own| self.dress.name(own) == name) {
            return Err(format!("{name} is what pgrunway says of itself"));
        }
        let Some(known) = self.kinds.get(name) else { return Ok(metric) };
        let refused = || {
            format!("{name} is a {} already, and a {} here", word(known.kind), word(metric.kind))
        };
        match (known.kind, metric.kind) {
            (known, own) if known == own => Ok(metric),
            (Kind::Untyped, Kind::Gauge | Kind::Counter) | (Kind::Gauge, Kind::Untyped) => {
                metric.typed_as(known).ok_or_else(refused)
            }
            _ => Err(refused()),
        }
    }

    /// The family without the series that are there already, and how many these are.
    fn once(
        &mut self,
        name: &str,
        family: &Arc<Family>,
        metric: &'static Metric,
    ) -> (Arc<Family>, usize) {
        let Some(others) = self.families.get_mut(name) else {
            return (family.clone(), 0);
        };
        let dress = self.dress;
        let there = self.series.entry(name.to_owned()).or_default();
        for other in others.drain(..) {
            there.extend(other.samples.iter().map(|sample| series(dress, other.metric, sample)));
        }
        let new: Vec<Sample> = family
            .samples
            .iter()
            .filter(|sample| !there.contains(&series(dress, metric, sample)))
            .cloned()
            .collect();
        let left_out = family.samples.len() - new.len();
        if left_out == 0 && std::ptr::eq(metric, family.metric) {
            return (family.clone(), 0);
        }
        (Arc::new(Family { metric, samples: new }), left_out)
    }
}

/// The labels as they go out; empty ones are none.
fn series(dress: &Dress, metric: &'static Metric, sample: &Sample) -> Series {
    let own = metric.labels.iter().zip(&sample.labels).map(|(name, value)| (*name, &**value));
    let all: BTreeSet<(&str, &str)> =
        own.chain(dress.labels(metric)).filter(|(_, value)| !value.is_empty()).collect();
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        Kind::Untyped => "metric without a type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sink;

    static OWN: Metric = Metric::gauge("pg_own", &["datname"], "Own.");
    static OPEN: Metric = Metric::untyped("pg_open_count", &["datname"], "Open.");
    static LATENCY: Metric = Metric::histogram("pg_wait_seconds", &[], "Waits.");

    fn own() -> Vec<Arc<Family>> {
        let mut sink = Sink::new(&[&OWN, &OPEN], 10);
        sink.number(&OWN, &["a"], 1.0);
        sink.number(&OPEN, &["a"], 1.0);
        let mut families: Vec<_> = sink.finish().0.into_iter().map(Arc::new).collect();
        families.push(Arc::new(Family { metric: &LATENCY, samples: Vec::new() }));
        families
    }

    fn guest(name: &str, kind: Kind, labels: &[&str], rows: &[&[&str]]) -> Arc<Family> {
        let labels: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        let metric = Metric::configured(name, "Help.", kind, &labels).unwrap();
        let mut sink = Sink::new(&[metric], 10);
        rows.iter().for_each(|row| sink.number(metric, row, 2.0));
        let family = sink.finish().0.pop();
        Arc::new(family.unwrap_or(Family { metric, samples: Vec::new() }))
    }

    fn admitted(dress: &Dress, guests: &[Arc<Family>]) -> (Vec<usize>, Option<String>) {
        let own = own();
        let mut room = Room::new(dress, guests);
        room.take(&own, true);
        let (families, fault) = room.admit(guests, false);
        (families.iter().map(|f| f.samples.len()).collect(), fault.map(|e| e.to_string()))
    }

    #[test]
    fn a_series_is_on_the_page_once_whatever_the_order_of_its_labels() {
        let plain = Dress::default();
        let both = guest("pg_own", Kind::Gauge, &["datname"], &[&["a"], &["b"]]);
        let (counts, fault) = admitted(&plain, &[both]);
        assert_eq!(counts, [1]);
        assert!(fault.unwrap().starts_with("1 series of pg_own are there already"));
        let again = [guest("pg_own", Kind::Gauge, &["datname"], &[&["a"], &["b"]])];
        let mut room = Room::new(&plain, &again);
        room.take(&own(), true);
        let (families, fault) = room.admit(&again, true);
        assert!(fault.is_none() && families[0].samples.len() == 1, "postgres_exporter's file may");
        let ab = guest("pg_new", Kind::Gauge, &["x", "y"], &[&["1", "2"]]);
        let ba = guest("pg_new", Kind::Gauge, &["y", "x"], &[&["2", "1"], &["1", "2"]]);
        let bare = guest("pg_new", Kind::Gauge, &["z"], &[&[""]]);
        let none = guest("pg_new", Kind::Gauge, &[], &[&[]]);
        let (counts, _) = admitted(&plain, &[ab, ba, bare, none]);
        assert_eq!(counts, [1, 1, 1, 0], "an empty label is none");
    }

    #[test]
    fn constant_labels_and_the_prefix_count_as_they_go_out() {
        let dress =
            Dress { prefix: Some("my".into()), labels: vec![("region".into(), "eu".into())] };
        let plain = guest("pg_x", Kind::Gauge, &[], &[&[]]);
        let own_label = guest("my_x", Kind::Gauge, &["region"], &[&["eu"], &["us"]]);
        let (counts, fault) = admitted(&dress, &[plain, own_label]);
        assert_eq!(counts, [1, 1]);
        assert!(fault.unwrap().contains("my_x"));
    }

    #[test]
    fn a_name_has_one_type() {
        let plain = Dress::default();
        let fault = |guest| admitted(&plain, &[guest]).1.unwrap_or_default();
        let text = fault(guest("pg_own", Kind::Counter, &[], &[&[]]));
        assert!(text.contains("pg_own is a gauge already, and a counter here"), "{text}");
        assert!(fault(guest("pg_up", Kind::Gauge, &["x"], &[&["1"]])).contains("of itself"));
        let text = fault(guest("pg_wait_seconds_count", Kind::Gauge, &[], &[&[]]));
        assert!(text.contains("between the series of a histogram"), "{text}");
        // What has no type here takes it, and so the page has one.
        let own = own();
        let guests = [guest("pg_open_count", Kind::Counter, &[], &[&[]])];
        let mut room = Room::new(&plain, &guests);
        room.take(&own, true);
        let (families, fault) = room.admit(&guests, false);
        assert!(fault.is_none());
        assert_eq!((families[0].metric.kind, families[0].metric.help), (Kind::Untyped, "Open."));
    }
}
