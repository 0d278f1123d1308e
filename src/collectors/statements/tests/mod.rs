//! The statements collector on a simulated view: what is exposed over several polls.
//!
//! Must not: need a server; `tests/statements.rs` has one.

mod bars;
mod scans;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::excluded::Excluded;
use super::*;
use crate::collectors::golden::{check, poll, value};
use crate::derive::latency::Cumulative;
use crate::metric::{Family, Value};

const APP: i64 = 5;
const HOSTILE: i64 = 6;
const ALICE: i64 = 10;
const BOB: i64 = 11;

/// A server with the view in it. Counts as PostgreSQL does.
#[derive(Clone)]
struct View {
    rows: BTreeMap<EntryKey, Entry>,
    m2: BTreeMap<EntryKey, f64>,
    facts: ViewFacts,
    hidden: Vec<(i64, i64)>,
    top: usize,
    include_text: bool,
}

fn key(dbid: i64, userid: i64, queryid: i64) -> EntryKey {
    EntryKey { dbid, userid, queryid, toplevel: true }
}

impl View {
    fn new(top: usize) -> Self {
        let names = |names: &[(i64, &str)]| {
            names.iter().map(|(oid, name)| (*oid, Arc::from(*name))).collect()
        };
        let facts = ViewFacts {
            nested: false,
            epoch: 1_700_000_000.0,
            started: 1_000.0,
            max_entries: Some(5_000.0),
            track_planning: false,
            dealloc: Some(7.0),
            stats_reset: Some(1_500.0),
            databases: names(&[(APP, "app"), (HOSTILE, "a\"b\\c\nd")]),
            roles: names(&[(ALICE, "alice"), (BOB, "bob")]),
        };
        let (rows, m2) = Default::default();
        Self { rows, m2, facts, hidden: Vec::new(), top, include_text: false }
    }

    fn call(&mut self, key: EntryKey, latencies: &[f64]) {
        let row = self.rows.entry(key).or_insert(Entry {
            key,
            since: 0.0,
            time: Cumulative { min: f64::INFINITY, ..Cumulative::default() },
            counters: entry::Counters::default(),
            planning: None,
        });
        let m2 = self.m2.entry(key).or_default();
        let t = &mut row.time;
        for x in latencies {
            t.calls += 1;
            t.total += x;
            t.min = t.min.min(*x);
            t.max = t.max.max(*x);
            let before = t.mean;
            t.mean += (x - before) / t.calls as f64;
            *m2 += (x - before) * (x - t.mean);
            t.stddev = (*m2 / t.calls as f64).sqrt();
            let numbers: [f64; entry::Counters::N] = std::array::from_fn(|i| (i + 1) as f64);
            row.counters = row.counters.combined(numbers.into(), |sum, by| sum + by);
        }
    }

    /// Plans of a statement that is there.
    fn plan(&mut self, key: EntryKey, times: &[f64]) {
        let row = self.rows.get_mut(&key).unwrap();
        let t =
            row.planning.get_or_insert(Cumulative { min: f64::INFINITY, ..Cumulative::default() });
        for x in times {
            t.calls += 1;
            t.total += x;
            t.min = t.min.min(*x);
            t.max = t.max.max(*x);
            let (m2, before) = (t.stddev * t.stddev * (t.calls - 1) as f64, t.mean);
            t.mean += (x - before) / t.calls as f64;
            t.stddev = ((m2 + (x - before) * (x - t.mean)) / t.calls as f64).sqrt();
        }
    }

    fn reset(&mut self) {
        self.rows.clear();
        self.m2.clear();
    }

    fn forget(&mut self, key: EntryKey) {
        self.rows.remove(&key);
        self.m2.remove(&key);
    }

    /// Takes on the order of 10 ms on a server whose clock is 2,000 s ahead of ours.
    fn scan(&self, at: f64) -> Scan {
        Scan {
            at,
            clock: (2_000.0 + at - 0.001, 2_000.0 + at),
            entries: self.rows.values().copied().collect(),
            hidden: self.hidden.clone(),
        }
    }

    /// A poll whose two scans have nothing between them.
    fn rows(&self, at: f64) -> Rows {
        self.between(at, &self.clone())
    }

    fn between(&self, at: f64, second: &View) -> Rows {
        Rows {
            facts: self.facts.clone(),
            scans: vec![self.scan(at), second.scan(at + 0.01)],
            texts: None,
            own: Default::default(),
            options: StatementOptions {
                top: self.top,
                include_text: self.include_text,
                objective: 0.05,
                slo: 0.99,
                bars: Levels::ALL,
                excluded: Excluded::default(),
            },
        }
    }
}

fn run(state: &mut State, rows: Rows) -> Vec<Family> {
    poll(&Statements, state, rows)
}

/// Count, sum and cumulative counts of one histogram.
fn histogram(families: &[Family], name: &str, labels: &[&str]) -> Option<(u64, f64, Vec<u64>)> {
    let family = families.iter().find(|f| f.metric.name == name)?;
    let sample = family.samples.iter().find(|s| s.labels.iter().map(|l| &**l).eq(labels.to_vec()));
    match &sample?.value {
        Value::Histogram(h) => Some((h.count, h.sum, h.cumulative.to_vec())),
        Value::Number(_) => None,
    }
}

fn calls(families: &[Family], datname: &str) -> u64 {
    histogram(families, "pg_query_duration_seconds", &[datname]).map_or(0, |h| h.0)
}

/// Every counter and every bucket that is counted by increments, by series.
fn counters(families: &[Family]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in families {
        for sample in &family.samples {
            let series = format!("{} {:?}", family.metric.name, sample.labels);
            match &sample.value {
                // The server's own, which falls where the server's does.
                Value::Number(_) if family.metric.name == "pg_stat_statements_dealloc_total" => {}
                Value::Number(_) if sample.labels.len() == 3 && &*sample.labels[2] != "other" => {}
                Value::Number(v) if family.metric.name.ends_with("_total") => {
                    all.insert(series, *v);
                }
                Value::Number(_) => {}
                Value::Histogram(h) => {
                    for (bound, count) in h.bounds.iter().zip(&h.cumulative) {
                        all.insert(format!("{series} {bound}"), *count as f64);
                    }
                    for (index, count) in h.native.iter().flat_map(|native| &native.buckets) {
                        all.insert(format!("{series} native {index}"), *count as f64);
                    }
                    all.insert(format!("{series} count"), h.count as f64);
                    all.insert(format!("{series} sum"), h.sum);
                }
            }
        }
    }
    all
}

fn assert_nothing_fell(before: &[Family], after: &[Family]) {
    let after = counters(after);
    for (series, value) in counters(before) {
        let now = after.get(&series);
        assert!(now.is_some_and(|now| *now >= value), "{series}: {value}, then {now:?}");
    }
}

#[test]
fn golden_after_several_polls() {
    let mut state = State::default();
    let mut view = View::new(2);
    view.include_text = true;
    view.facts.track_planning = true;
    let (heavy, light, hostile) = (key(APP, ALICE, 101), key(APP, BOB, -202), key(HOSTILE, BOB, 3));
    let nested = EntryKey { toplevel: false, ..heavy };
    view.call(heavy, &[9.0; 100]);
    let first = run(&mut state, view.rows(0.0));
    assert_eq!(calls(&first, "app"), 0, "what was there before is history");

    view.call(heavy, &[0.020, 0.049, 0.060]);
    view.call(nested, &[0.5]);
    view.call(light, &[0.010]);
    view.call(hostile, &[0.0002]);
    view.facts.dealloc = Some(9.0);
    view.hidden = vec![(APP, BOB), (HOSTILE, BOB)];
    let mut later = view.clone();
    later.call(heavy, &[0.030]);
    let second = run(&mut state, view.between(1.0, &later));
    assert_eq!(calls(&second, "app"), 5);

    view = later;
    let spread: Vec<f64> = (0..40).map(|i| 0.015 + 0.0005 * f64::from(i)).collect();
    view.call(heavy, &spread);
    view.call(light, &[0.011, 0.013]);
    let mut rows = view.rows(2.0);
    rows.texts = Some(vec![Text {
        id: (APP, ALICE, 101),
        query: "SELECT \"a\\b\"\n FROM t WHERE id = $1".into(),
    }]);
    let third = run(&mut state, rows);
    assert_nothing_fell(&second, &third);
    let (count, sum, buckets) = histogram(&third, "pg_query_duration_seconds", &["app"]).unwrap();
    let total = 0.020 + 0.049 + 0.060 + 0.010 + 0.030 + 0.024 + spread.iter().sum::<f64>();
    assert_eq!(count, 47);
    assert!((sum - total).abs() < 1e-9, "{sum} for {total}");
    assert_eq!(buckets.last(), Some(&47));
    check("statements", &third);
}

#[test]
fn a_reset_an_eviction_and_a_return_lose_nothing_and_lower_nothing() {
    let mut state = State::default();
    let mut view = View::new(5);
    let a = key(APP, ALICE, 1);
    view.call(a, &[0.1; 50]);
    run(&mut state, view.rows(0.0));
    view.call(a, &[0.1; 10]);
    let before = run(&mut state, view.rows(1.0));
    assert_eq!(calls(&before, "app"), 10);

    // Evicted, and back with one call.
    view.forget(a);
    view.call(a, &[0.2]);
    let evicted = run(&mut state, view.rows(2.0));
    assert_eq!(calls(&evicted, "app"), 11);
    assert_nothing_fell(&before, &evicted);
    assert_eq!(value(&evicted, "pg_stat_statements_restarted_entries_total", &[]), Some(1.0));

    // Gone for a while, then back.
    view.forget(a);
    let gone = run(&mut state, view.rows(3.0));
    assert_nothing_fell(&evicted, &gone);
    view.call(a, &[0.2; 3]);
    let back = run(&mut state, view.rows(4.0));
    assert_eq!(calls(&back, "app"), 14);

    // All reset, and overtaken at once: only the time of the reset tells.
    view.reset();
    view.facts.stats_reset = Some(2_004.5);
    view.call(a, &[0.2; 30]);
    let reset = run(&mut state, view.rows(5.0));
    assert_eq!(calls(&reset, "app"), 44);
    assert_nothing_fell(&back, &reset);
    assert_eq!(value(&reset, "pg_stat_statements_resets_total", &[]), Some(1.0));
    let exact = value(&reset, "pg_query_exact_calls_total", &["app"]).unwrap();
    assert!(exact <= 44.0);
}

#[test]
fn rows_that_are_gone_count_as_evicted_where_there_were_evictions_and_no_reset() {
    let mut state = State::default();
    let mut view = View::new(5);
    let all: Vec<EntryKey> = (1..=6).map(|q| key(APP, ALICE, q)).collect();
    all.iter().for_each(|k| view.call(*k, &[0.1]));
    let mut at = 0.0;
    let mut evicted = |state: &mut State, view: &View| {
        at += 1.0;
        value(&run(state, view.rows(at)), "pg_stat_statements_evicted_entries_total", &[])
    };
    assert_eq!(evicted(&mut state, &view), Some(0.0));
    // One reset alone, by its queryid.
    view.forget(all[0]);
    evicted(&mut state, &view);
    assert_eq!(evicted(&mut state, &view), Some(0.0));
    // Evicted before the facts were read, and after.
    view.forget(all[1]);
    view.facts.dealloc = Some(8.0);
    evicted(&mut state, &view);
    assert_eq!(evicted(&mut state, &view), Some(1.0));
    view.forget(all[2]);
    view.forget(all[3]);
    evicted(&mut state, &view);
    view.facts.dealloc = Some(9.0);
    assert_eq!(evicted(&mut state, &view), Some(3.0));
    // A reset that the facts tell at once, and one that the scans met first.
    view.reset();
    view.facts.dealloc = Some(10.0);
    view.facts.stats_reset = Some(2_007.5);
    evicted(&mut state, &view);
    assert_eq!(evicted(&mut state, &view), Some(3.0));
    view.call(all[0], &[0.1]);
    evicted(&mut state, &view);
    view.reset();
    evicted(&mut state, &view);
    view.facts.dealloc = Some(11.0);
    view.facts.stats_reset = Some(2_010.9);
    assert_eq!(evicted(&mut state, &view), Some(3.0));
    view.facts.dealloc = None;
    assert_eq!(evicted(&mut state, &view), None);
}

#[test]
fn plans_have_a_distribution_of_their_own_where_they_are_tracked() {
    let mut state = State::default();
    let mut view = View::new(5);
    view.facts.track_planning = true;
    let (a, b) = (key(APP, ALICE, 1), key(APP, ALICE, 2));
    let plans = |families: &[Family]| {
        histogram(families, "pg_query_planning_duration_seconds", &["app"]).map(|h| (h.0, h.1))
    };
    view.call(a, &[0.1]);
    let first = run(&mut state, view.rows(0.0));
    assert!(state.last.as_ref().unwrap().track_planning, "the next scan reads it");
    // What was planned before it was read is history.
    view.plan(a, &[0.002; 50]);
    assert_eq!(plans(&run(&mut state, view.rows(1.0))), None);
    view.plan(a, &[0.004, 0.006]);
    view.call(b, &[0.1]);
    view.plan(b, &[0.030]);
    let nested = EntryKey { toplevel: false, ..a };
    view.call(nested, &[0.1]);
    view.plan(nested, &[0.5]);
    let third = run(&mut state, view.rows(2.0));
    let (count, sum) = plans(&third).unwrap();
    assert_eq!(count, 3);
    assert!((sum - 0.040).abs() < 1e-12, "{sum}");
    let labels = ["app", "5m", "0.99"];
    let p99 = value(&third, "pg_query_planning_latency_seconds", &labels).unwrap();
    assert!((0.029..0.033).contains(&p99), "{p99}");
    assert_eq!(calls(&third, "app") - calls(&first, "app"), 1, "a plan is no call");
    // Evicted, and back with as many plans.
    view.forget(a);
    view.call(a, &[0.1]);
    view.plan(a, &[0.008; 52]);
    let back = run(&mut state, view.rows(3.0));
    assert_nothing_fell(&third, &back);
    assert_eq!(plans(&back).unwrap().0, 55);
    view.facts.track_planning = false;
    assert_eq!(plans(&run(&mut state, view.rows(4.0))), None);
}

#[test]
fn native_buckets_are_the_calls_and_each_series_says_since_when_it_counts() {
    let mut state = State::default();
    let mut view = View::new(1);
    run(&mut state, view.rows(10.0));
    view.call(key(APP, ALICE, 1), &[0.010, 0.080]);
    let now = run(&mut state, view.rows(20.0));
    let family = now.iter().find(|f| f.metric.name == "pg_query_duration_seconds").unwrap();
    let Value::Histogram(h) = &family.samples[0].value else { panic!("no histogram") };
    let native = h.native.as_ref().unwrap();
    assert_eq!((native.schema, native.zero_count), (3, 0));
    // 2^(-54/8) < 0.01 < 2^(-53/8), 2^(-30/8) < 0.08 < 2^(-29/8).
    assert_eq!(native.buckets, Box::from([(-53, 1), (-29, 1)]));
    let created = h.created.unwrap() - 1_700_000_000.0;
    assert!((created - 10.01).abs() < 1e-6, "{created}: the last reading without them");
    // The wall clock was an hour slow, and is set: so was what was read off it.
    view.facts.epoch += 3_600.0;
    let stepped = run(&mut state, view.rows(30.0));
    let family = stepped.iter().find(|f| f.metric.name == "pg_query_duration_seconds").unwrap();
    let Value::Histogram(h) = &family.samples[0].value else { panic!("no histogram") };
    assert!((h.created.unwrap() - 1_700_003_610.01).abs() < 1e-6, "{:?}", h.created);
}

#[test]
fn a_reset_that_the_scans_saw_first_is_not_counted_twice() {
    let mut state = State::default();
    let mut view = View::new(5);
    let a = key(APP, ALICE, 1);
    view.call(a, &[0.1; 50]);
    run(&mut state, view.rows(0.0));
    // Between the facts and the first scan of the poll at 1 s.
    view.reset();
    view.call(a, &[0.1; 2]);
    let first = run(&mut state, view.rows(1.0));
    assert_eq!(calls(&first, "app"), 2);
    view.facts.stats_reset = Some(2_000.99);
    let second = run(&mut state, view.rows(2.0));
    assert_eq!(calls(&second, "app"), 2);
    assert_eq!(value(&second, "pg_stat_statements_resets_total", &[]), Some(1.0));
}

#[test]
fn another_server_under_the_same_name_is_a_new_baseline() {
    let mut state = State::default();
    let mut view = View::new(5);
    let (a, b) = (key(APP, ALICE, 1), key(APP, ALICE, 2));
    view.call(a, &[0.1; 50]);
    run(&mut state, view.rows(0.0));
    view.call(a, &[0.1; 5]);
    let before = run(&mut state, view.rows(1.0));
    let mut other = View::new(5);
    other.facts.started = 1_900.0;
    other.facts.stats_reset = Some(100.0);
    other.facts.dealloc = Some(10_000.0);
    other.call(a, &[3.0; 1_000]);
    other.call(b, &[3.0; 1_000]);
    let after = run(&mut state, other.rows(2.0));
    assert_eq!(counters(&before), counters(&after), "no spike and no fall");
    other.call(b, &[0.1]);
    assert_eq!(calls(&run(&mut state, other.rows(3.0)), "app"), 6);
}

#[test]
fn rows_that_come_out_of_hiding_are_history() {
    let mut state = State::default();
    let mut view = View::new(5);
    view.hidden = vec![(APP, ALICE), (APP, ALICE)];
    let hidden = run(&mut state, view.rows(0.0));
    assert_eq!(value(&hidden, "pg_stat_statements_hidden_entries", &[]), Some(2.0));
    view.hidden.clear();
    view.call(key(APP, ALICE, 1), &[0.1; 1_000]);
    view.call(key(APP, BOB, 1), &[0.1; 7]);
    let shown = run(&mut state, view.rows(1.0));
    assert_eq!(calls(&shown, "app"), 7, "bob's had not been hidden");
}

#[test]
fn whoever_is_excluded_is_in_the_sums_only() {
    for (databases, users) in [(vec!["app".to_owned()], vec![]), (vec![], vec!["alice".to_owned()])]
    {
        let excluded = Excluded { databases, users };
        let with = |mut rows: Rows| {
            rows.options.excluded = excluded.clone();
            rows
        };
        let mut state = State::default();
        let mut view = View::new(2);
        run(&mut state, with(view.rows(0.0)));
        view.call(key(APP, ALICE, 1), &[5.0]);
        let now = run(&mut state, with(view.rows(1.0)));
        let labels = ["alice", "app", "1"];
        assert_eq!(value(&now, "pg_stat_statements_calls_total", &labels), None);
        assert_eq!(calls(&now, "app"), 1);
    }
}

#[test]
fn the_heaviest_get_series_of_their_own_and_other_never_falls() {
    let mut state = State::default();
    let mut view = View::new(2);
    let statement = |q| key(APP, ALICE, q);
    run(&mut state, view.rows(0.0));
    let mut before: Option<Vec<Family>> = None;
    for round in 1..=10 {
        for q in 1..=8 {
            // Each round another one is the heaviest.
            let long = if q == 1 + round % 8 { 5.0 } else { 0.001 * q as f64 };
            view.call(statement(q), &[long]);
        }
        let now = run(&mut state, view.rows(round as f64));
        if let Some(before) = before {
            assert_nothing_fell(&before, &now);
        }
        before = Some(now);
    }
    let now = before.unwrap();
    let family = now.iter().find(|f| f.metric.name == "pg_stat_statements_calls_total").unwrap();
    let exposed: Vec<&str> = family.samples.iter().map(|s| &*s.labels[2]).collect();
    assert_eq!(exposed.len(), 2 * 2 + 1, "{exposed:?}");
    let durations = now.iter().find(|f| f.metric.name == "pg_statement_duration_seconds").unwrap();
    let all = durations.samples.iter().map(|s| match &s.value {
        Value::Number(_) => 0,
        Value::Histogram(h) => h.count,
    });
    assert_eq!(all.sum::<u64>(), 80, "every call is in one series");
    assert_eq!(calls(&now, "app"), 80);
    for queryid in exposed.into_iter().filter(|q| *q != "other") {
        let labels = ["alice", "app", queryid];
        assert_eq!(
            value(&now, "pg_stat_statements_calls_total", &labels),
            Some(10.0),
            "the view's"
        );
    }
}

#[test]
fn the_counters_of_a_statement_are_the_views_own_also_after_a_reset_and_absent_without_its_row() {
    let mut state = State::default();
    let mut view = View::new(2);
    let statement = key(APP, ALICE, 1);
    let get = |families: &[Family]| {
        value(families, "pg_stat_statements_calls_total", &["alice", "app", "1"])
    };
    view.call(statement, &[0.5; 70]);
    run(&mut state, view.rows(0.0));
    view.call(statement, &[0.5; 5]);
    view.call(EntryKey { toplevel: false, ..statement }, &[0.5; 2]);
    let first = run(&mut state, view.rows(1.0));
    assert_eq!(get(&first), Some(77.0), "what was there before, and nested calls");
    let seconds = value(&first, "pg_stat_statements_seconds_total", &["alice", "app", "1"]);
    assert_eq!(seconds, Some(38.5));
    let mut reset = View::new(2);
    reset.facts.stats_reset = Some(3_000.0);
    assert_eq!(get(&run(&mut state, reset.rows(2.0))), None);
    reset.call(statement, &[0.5; 3]);
    assert_eq!(get(&run(&mut state, reset.rows(3.0))), Some(3.0));
}

#[test]
fn who_is_silent_for_an_hour_leaves_and_who_is_outranked_makes_room() {
    let mut state = State::default();
    let mut view = View::new(1);
    let names = |families: &[Family]| -> Vec<String> {
        let family = families.iter().find(|f| f.metric.name == "pg_stat_statements_calls_total");
        family
            .map_or_else(Vec::new, |f| f.samples.iter().map(|s| s.labels[2].to_string()).collect())
    };
    run(&mut state, view.rows(0.0));
    for (at, q) in [(1.0, 1), (300.0, 2)] {
        view.call(key(APP, ALICE, q), &[10.0]);
        run(&mut state, view.rows(at));
    }
    // Two places, taken by 1 and 2; 1 was not the heaviest since 2 came. Now 3 is.
    view.call(key(APP, ALICE, 1), &[0.001]);
    view.call(key(APP, ALICE, 3), &[100.0]);
    assert_eq!(names(&run(&mut state, view.rows(500.0))), ["other", "1", "2"]);
    view.call(key(APP, ALICE, 3), &[100.0]);
    assert_eq!(names(&run(&mut state, view.rows(1100.0))), ["other", "2", "3"]);
    view.call(key(APP, ALICE, 3), &[0.1]);
    assert_eq!(names(&run(&mut state, view.rows(4400.0))), ["other", "3"]);
}

#[test]
fn a_dropped_database_leaves_after_an_hour_though_others_never_had_a_call() {
    let mut state = State::default();
    let mut view = View::new(1);
    view.facts.databases.extend((1..=3).map(|oid| (oid, Arc::from(format!("template{oid}")))));
    run(&mut state, view.rows(0.0));
    view.call(key(APP, ALICE, 1), &[0.1]);
    view.call(key(HOSTILE, ALICE, 1), &[0.1]);
    run(&mut state, view.rows(1.0));
    view.facts.databases.remove(&HOSTILE);
    let names = |families: &[Family]| -> Vec<String> {
        let family = families.iter().find(|f| f.metric.name == "pg_query_duration_seconds");
        family.unwrap().samples.iter().map(|s| s.labels[0].to_string()).collect()
    };
    assert_eq!(names(&run(&mut state, view.rows(3600.0))), ["a\"b\\c\nd", "app"]);
    assert_eq!(names(&run(&mut state, view.rows(3602.0))), ["app"], "silent, but there");
}

#[test]
fn what_has_no_name_any_more_does_not_collide() {
    let mut state = State::default();
    let mut view = View::new(10);
    run(&mut state, view.rows(0.0));
    for (db, role) in [(APP, 77), (APP, 78), (99, ALICE), (98, ALICE)] {
        view.call(key(db, role, 1), &[0.1]);
        view.call(EntryKey { toplevel: false, ..key(db, role, 1) }, &[0.1]);
    }
    run(&mut state, view.rows(1.0));
    for (db, role) in [(APP, 77), (99, ALICE)] {
        view.call(key(db, role, 1), &[0.1]);
    }
    // `poll` refuses duplicates.
    let now = run(&mut state, view.rows(2.0));
    let labels = ["unknown (OID=77)", "app", "1"];
    assert_eq!(value(&now, "pg_stat_statements_calls_total", &labels), Some(3.0));
    assert_eq!(calls(&now, "unknown (OID=99)"), 2);
}

#[test]
fn texts_are_asked_for_now_and_then_and_only_where_missing() {
    let mut state = State::default();
    let mut view = View::new(10);
    view.include_text = true;
    run(&mut state, view.rows(0.0));
    view.call(key(APP, ALICE, 1), &[0.1]);
    run(&mut state, view.rows(1.0));
    assert_eq!(state.exposition.wanted(), &[1]);
    let mut rows = view.rows(2.0);
    rows.texts = Some(vec![Text { id: (APP, ALICE, 1), query: "SELECT $1".into() }]);
    let now = run(&mut state, rows);
    let labels = ["app", "alice", "1", "SELECT $1"];
    assert_eq!(value(&now, "pg_statement_info", &labels), Some(1.0));
    view.call(key(APP, ALICE, 2), &[0.1]);
    run(&mut state, view.rows(3.0));
    assert!(state.exposition.wanted().is_empty(), "too soon");
    run(&mut state, view.rows(7.5));
    assert_eq!(state.exposition.wanted(), &[2]);
    for poll in 0..10 {
        let mut rows = view.rows(10.0 * f64::from(poll + 1));
        rows.texts = Some(Vec::new());
        run(&mut state, rows);
    }
    assert!(state.exposition.wanted().is_empty(), "it is not to be had");
}

#[test]
fn the_interval_follows_the_cost_of_a_scan() {
    let mut state = State::default();
    let mut at = 0.0;
    let mut polls = |state: &mut State, took: f64| {
        for _ in 0..60 {
            at += 1.0;
            let mut rows = View::new(1).rows(at);
            for scan in &mut rows.scans {
                scan.clock.0 = scan.clock.1 - took;
            }
            run(state, rows);
        }
        Collector::interval(&Statements, state).as_secs()
    };
    assert_eq!(polls(&mut state, 0.0077), 1);
    assert_eq!(polls(&mut state, 0.0145), 2);
    assert_eq!(polls(&mut state, 0.009), 2, "not back at once");
    assert_eq!(polls(&mut state, 0.1), 5);
    assert_eq!(polls(&mut state, 0.001), 1);
}

#[test]
fn quantiles_are_absent_without_calls_and_near_the_truth_with_them() {
    let mut state = State::default();
    let mut view = View::new(1);
    let a = key(APP, ALICE, 1);
    view.call(a, &[0.001]);
    run(&mut state, view.rows(0.0));
    for second in 1..=30 {
        // One call of each, a second: the poll sees intervals of one call.
        let mut later = view.clone();
        view.call(a, &[0.010]);
        later.call(a, &[0.010, 0.080]);
        let now = run(&mut state, view.between(f64::from(second), &later));
        view = later;
        let q = |window, q| value(&now, "pg_query_latency_seconds", &["app", window, q]).unwrap();
        assert!((q("1m", "0.5") / 0.010 - 1.0).abs() < 0.1, "{}", q("1m", "0.5"));
        assert!((q("5m", "0.95") / 0.080 - 1.0).abs() < 0.1, "{}", q("5m", "0.95"));
    }
    let late = run(&mut state, view.rows(500.0));
    assert_eq!(value(&late, "pg_query_latency_seconds", &["app", "1m", "0.5"]), None);
    assert_eq!(value(&late, "pg_query_latency_exact_ratio", &["app"]), None);
    assert_eq!(calls(&late, "app"), 60);
}
