//! What a sink takes and refuses.

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
    let native = Native { schema: 3, zero_threshold: 1e-6, zero_count, buckets: buckets.into() };
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
