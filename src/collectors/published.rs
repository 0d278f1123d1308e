//! `published!`: what a collector published of a metric, read back as structs: a field a label, and the value. So who
//! shows a figure names neither the metric nor a label's place.
//!
//! Must not: derive a figure that was not published.

use std::sync::Arc;

use crate::metric::{Family, Histogram, Metric, Sample, Value};

/// One sample of one metric.
pub trait Published<'a>: Sized {
    /// The metric.
    const METRIC: &'static Metric;
    /// The labels that are read.
    const LABELS: &'static [&'static str];

    /// From the values of [`Published::LABELS`]; `None` where the sample's value is of another kind.
    fn of(labels: &[&'a str], value: &'a Value) -> Option<Self>;
}

/// The samples of the metric among families, however many of them share it.
pub fn all<'a, T: Published<'a>>(families: &'a [Arc<Family>]) -> impl Iterator<Item = T> {
    families.iter().filter(|family| family.metric.name == T::METRIC.name).flat_map(|family| {
        // A profile may add labels.
        let place = |label: &&str| family.metric.labels.iter().position(|name| name == label);
        let places: Vec<Option<usize>> = T::LABELS.iter().map(place).collect();
        family.samples.iter().filter_map(move |sample| one(sample, &places))
    })
}

fn one<'a, T: Published<'a>>(sample: &'a Sample, places: &[Option<usize>]) -> Option<T> {
    let label = |place: &Option<usize>| Some(&**sample.labels.get((*place)?)?);
    let labels: Option<Vec<&str>> = places.iter().map(label).collect();
    T::of(&labels?, &sample.value)
}

/// What a sample's value is read as.
pub trait Reads<'a>: Sized {
    /// `None` where it is of another kind.
    fn reads(value: &'a Value) -> Option<Self>;
}

impl Reads<'_> for f64 {
    fn reads(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(*number),
            Value::Histogram(_) => None,
        }
    }
}

impl<'a> Reads<'a> for &'a Arc<Histogram> {
    fn reads(value: &'a Value) -> Option<Self> {
        match value {
            Value::Number(_) => None,
            Value::Histogram(histogram) => Some(histogram),
        }
    }
}

/// Whether a metric has a label of this name.
pub(crate) const fn declares(metric: &Metric, label: &str) -> bool {
    let mut at = 0;
    while at < metric.labels.len() {
        let (one, other) = (metric.labels[at].as_bytes(), label.as_bytes());
        let mut same = 0;
        while same < one.len() && same < other.len() && one[same] == other[same] {
            same += 1;
        }
        if same == one.len() && same == other.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// Declares a struct for the samples of a metric. It does not compile with a label that the metric lacks.
macro_rules! published {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident of $metric:path {
            $($label:ident),* $(,)? => $value:ident: $read:ty $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name<'a> {
            $(#[doc = concat!("Label `", stringify!($label), "`.")] pub $label: &'a str,)*
            /// As it was published.
            pub $value: $read,
            /// For those without labels.
            of: std::marker::PhantomData<&'a ()>,
        }

        $(const _: () =
            assert!($crate::collectors::published::declares(&$metric, stringify!($label)));)*

        impl<'a> $crate::collectors::published::Published<'a> for $name<'a> {
            const METRIC: &'static $crate::metric::Metric = &$metric;
            const LABELS: &'static [&'static str] = &[$(stringify!($label)),*];

            fn of(labels: &[&'a str], value: &'a $crate::metric::Value) -> Option<Self> {
                let [$($label),*] = *labels else { return None };
                let $value = $crate::collectors::published::Reads::reads(value)?;
                Some(Self { $($label,)* $value, of: std::marker::PhantomData })
            }
        }
    };
}
pub(crate) use published;

#[cfg(test)]
mod tests {
    use super::*;

    static SIZE: Metric = Metric::gauge("pg_size", &["datname", "relname"], "Size.");
    static USED: Metric = Metric::gauge("pg_used", &[], "Used.");

    published! {
        struct Size of SIZE { relname => bytes: f64 }
    }
    published! {
        struct Used of USED { => count: f64 }
    }

    fn family(metric: &'static Metric, samples: &[(&[&str], f64)]) -> Arc<Family> {
        let samples = samples.iter().map(|(labels, value)| Sample {
            labels: labels.iter().map(|label| Arc::from(*label)).collect(),
            value: Value::Number(*value),
        });
        Arc::new(Family { metric, samples: samples.collect() })
    }

    #[test]
    fn samples_are_read_by_the_names_of_labels_in_all_families_of_the_metric() {
        let families = [
            family(&SIZE, &[(&["a", "t"], 1.0), (&["a", "u"], 2.0)]),
            family(&USED, &[(&[], 7.0)]),
            family(&SIZE, &[(&["b", "t"], 3.0)]),
        ];
        let sizes: Vec<_> = all(&families).map(|s: Size| (s.relname, s.bytes)).collect();
        assert_eq!(sizes, [("t", 1.0), ("u", 2.0), ("t", 3.0)]);
        assert_eq!(all(&families).map(|u: Used| u.count).next(), Some(7.0));
    }
}
