//! Error bars on a simulated view: whatever happens to the server, what is called certain is true of every call that
//! ended.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::derive::latency::bounds::rank;

const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.95", 0.95), ("0.99", 0.99)];

fn gauss(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A statement of the load: calls a second, and what they take.
struct Load {
    key: EntryKey,
    rate: f64,
    latency: fn(&mut StdRng) -> f64,
}

fn loads() -> Vec<Load> {
    let load = |queryid, rate, latency| Load { key: key(APP, ALICE, queryid), rate, latency };
    vec![
        load(1, 0.3, |rng| 0.03 * (0.6 * gauss(rng)).exp()),
        load(2, 3.0, |rng| 0.004 * (0.5 * gauss(rng)).exp()),
        load(3, 12.0, |rng| 0.04 + 0.02 * rng.random::<f64>()),
        load(4, 60.0, |rng| 0.0005 * (0.8 * gauss(rng)).exp()),
        load(5, 30.0, |rng| match rng.random_bool(0.05) {
            true => 0.08 * (0.2 * gauss(rng)).exp(),
            false => 0.001 * (0.3 * gauss(rng)).exp(),
        }),
    ]
}

/// The server and all calls that ended on it: seconds, statement and latency.
struct Server {
    view: View,
    rng: StdRng,
    ended: Vec<(f64, i64, f64)>,
    now: f64,
}

impl Server {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { view: View::new(10), rng, ended: Vec::new(), now: 0.0 }
    }

    /// Lets `seconds` go by with the load.
    fn run(&mut self, seconds: f64, loads: &[Load]) {
        let end = self.now + seconds;
        for load in loads {
            let mut at = self.now;
            loop {
                at -= (1.0 - self.rng.random::<f64>()).ln() / load.rate;
                if at > end {
                    break;
                }
                let x = (load.latency)(&mut self.rng);
                self.view.call(load.key, &[x]);
                self.ended.push((at, load.key.queryid, x));
            }
        }
        self.now = end;
    }

    /// Latencies, ascending, that ended in the minute of polls before the last one.
    fn minute(&self, queryid: Option<i64>, from: f64) -> Vec<f64> {
        let of = |(at, id, _): &&(f64, i64, f64)| *at > from && queryid.is_none_or(|q| q == *id);
        let mut all: Vec<f64> = self.ended.iter().filter(of).map(|(.., x)| *x).collect();
        all.sort_by(f64::total_cmp);
        all
    }
}

/// What was asked of the bars, and what came.
#[derive(Default)]
struct Seen {
    certain: u32,
    likely: [(u32, u32); 3],
    absent: u32,
    widths: Vec<f64>,
}

fn bar(families: &[Family], name: &str, labels: &[&str]) -> Option<(f64, f64)> {
    let end = |end: &str| {
        let name = name.replace('*', end);
        let family = families.iter().find(|f| f.metric.name == name)?;
        let sample =
            family.samples.iter().find(|s| s.labels.iter().map(|l| &**l).eq(labels.to_vec()));
        match sample?.value {
            Value::Number(n) => Some(n),
            Value::Histogram(_) => None,
        }
    };
    end("low").zip(end("high"))
}

/// Compares one series' minute with the truth.
fn compare(families: &[Family], labels: &[&str], name: &str, truth: &[f64], seen: &mut Seen) {
    let all = |more: &[&'static str]| [labels, more].concat();
    for (i, (quantile, q)) in QUANTILES.into_iter().enumerate() {
        let point = value(families, &format!("pg_{name}_latency_seconds"), &all(&["1m", quantile]));
        let bars = format!("pg_{name}_latency_*_seconds");
        let certain = bar(families, &bars, &all(&["1m", quantile, "certain"]));
        let likely = bar(families, &bars, &all(&["1m", quantile, "likely"]));
        assert_eq!(point.is_some(), likely.is_some());
        let Some(((low, high), point)) = certain.zip(point) else {
            seen.absent += 1;
            continue;
        };
        let real = truth[usize::try_from(rank(q, truth.len() as u64)).unwrap() - 1];
        let holds = low <= real * (1.0 + 1e-9) && real <= high * (1.0 + 1e-9);
        assert!(holds, "{labels:?} p{quantile}: {real} is not in {low} to {high}");
        assert!(low <= point && point <= high, "{labels:?}: the point {point}");
        seen.certain += 1;
        let (from, to) = likely.unwrap();
        assert!(low <= from && from <= point && point <= to && to <= high, "{labels:?}");
        if truth.len() >= 20 {
            let held = from <= real * (1.0 + 1e-9) && real <= to * (1.0 + 1e-9);
            seen.likely[i].0 += u32::from(held);
            seen.likely[i].1 += 1;
            if quantile == "0.95" {
                seen.widths.push((to - from) / (2.0 * real));
            }
        }
    }
    let share = value(families, &format!("pg_{name}_slow_ratio"), &all(&["1m"]));
    if let Some(((low, high), share)) =
        bar(families, &format!("pg_{name}_slow_ratio_*"), &all(&["1m"])).zip(share)
    {
        let real = truth.iter().filter(|x| **x > 0.05).count() as f64 / truth.len() as f64;
        assert!(low <= real + 1e-12 && real <= high + 1e-12, "{labels:?}: {real}, {low} to {high}");
        assert!(low <= share && share <= high);
    }
}

/// Polls once a second for so many seconds; `chaos` happens between two polls.
fn watch(seed: u64, seconds: u32, mut chaos: impl FnMut(u32, &mut Server, &[Load])) -> Seen {
    let loads = loads();
    let (mut server, mut state, mut seen) = (Server::new(seed), State::default(), Seen::default());
    let mut polls = Vec::new();
    for second in 0..seconds {
        server.run(0.6, &loads);
        chaos(second, &mut server, &loads);
        server.run(0.4, &loads);
        let at = server.now;
        let mut rows = server.view.rows(at);
        server.run(0.01, &loads);
        rows.scans[1] = server.view.scan(at + 0.01);
        polls.push(at + 0.01);
        let families = run(&mut state, rows);
        // The first poll shows what was before, and a minute must be over.
        if second % 5 != 4 || second < 70 {
            continue;
        }
        let first = polls.iter().rposition(|poll| *poll <= at + 0.01 - 60.0 + 0.5).unwrap();
        // The poll at the beginning of the window is its first two scans' middle.
        let from = polls[first];
        compare(&families, &["app"], "query", &server.minute(None, from), &mut seen);
        for load in &loads {
            let truth = server.minute(Some(load.key.queryid), from);
            let queryid = load.key.queryid.to_string();
            compare(&families, &["app", "alice", &queryid], "statement", &truth, &mut seen);
        }
    }
    seen
}

#[test]
fn what_is_certain_holds_and_what_is_likely_in_nine_of_ten() {
    let mut all = [(0, 0); 3];
    let mut widths = Vec::new();
    for seed in 1..=2 {
        let seen = watch(seed, 360, |_, _, _| {});
        assert!(seen.certain > 800 && seen.absent == 0, "{} of {}", seen.certain, seen.absent);
        for (sum, (held, asked)) in all.iter_mut().zip(seen.likely) {
            *sum = (sum.0 + held, sum.1 + asked);
        }
        widths.extend(seen.widths);
    }
    widths.sort_by(f64::total_cmp);
    let median = widths[widths.len() / 2];
    println!("held, asked: {all:?}; median half-width at p95 {median:.3}");
    for (held, asked) in all {
        assert!(f64::from(held) >= 0.85 * f64::from(asked), "{held} of {asked}");
    }
    assert!(median <= 0.12, "{median}");
}

#[test]
fn nothing_is_certain_while_calls_were_lost_and_what_is_certain_is_true_all_the_same() {
    let (mut certain, mut absent) = (0, 0);
    for seed in 11..=12 {
        let seen = watch(seed, 900, |second, server, loads| match second {
            // Everything is reset, with calls that nobody read.
            100 => {
                server.view.facts.stats_reset = Some(2_000.0 + server.now);
                server.view.reset();
            }
            // One row alone.
            250 => server.view.forget(loads[1].key),
            // Evictions: rows go, and come back with more calls than they had.
            400 | 401 => {
                server.view.facts.dealloc = server.view.facts.dealloc.map(|n| n + 1.0);
                server.view.forget(loads[0].key);
                server.view.forget(loads[2].key);
                server.run(0.05, loads);
            }
            // Min and max alone are reset.
            550 => {
                for row in server.view.rows.values_mut() {
                    (row.time.min, row.time.max) = (0.0, 0.0);
                    row.time.extremes_since += 1.0;
                }
            }
            // Another server process.
            700 => {
                server.view.facts.started += 1.0;
                server.view.reset();
            }
            // Evictions for so long that a row which is seldom there loses calls between polls that do not see it.
            790..=830 => {
                server.view.facts.dealloc = server.view.facts.dealloc.map(|n| n + 1.0);
                server.view.forget(loads[0].key);
            }
            _ => {}
        });
        certain += seen.certain;
        absent += seen.absent;
    }
    println!("certain {certain}, absent {absent}");
    assert!(absent > 300, "{absent} of {certain}");
    assert!(2 * certain > 3 * absent, "{certain} and {absent}: it comes back after a minute");
}

#[test]
fn a_setting_says_which_bars_statements_have_and_databases_have_all() {
    let counts = |bars: Levels| {
        let mut state = State::default();
        let mut view = View::new(5);
        let mut poll = |view: &View, at: f64| {
            let mut rows = view.rows(at);
            rows.options.bars = bars;
            run(&mut state, rows)
        };
        view.call(key(APP, ALICE, 1), &[0.010]);
        poll(&view, 0.0);
        view.call(key(APP, ALICE, 1), &[0.010]);
        poll(&view, 1.0);
        view.call(key(APP, ALICE, 1), &[0.010, 0.030, 0.080]);
        let families = poll(&view, 2.0);
        let of = |name: &str| {
            families.iter().filter(|f| f.metric.name == name).map(|f| f.samples.len()).sum()
        };
        let all: [usize; 6] = [
            of("pg_query_latency_low_seconds"),
            of("pg_query_slow_ratio_high"),
            of("pg_statement_latency_low_seconds"),
            of("pg_statement_latency_high_seconds"),
            of("pg_statement_latency_ill_defined"),
            of("pg_statement_slow_ratio"),
        ];
        all
    };
    assert_eq!(counts(Levels { likely: false, certain: false }), [12, 2, 0, 0, 0, 0]);
    // The statement has, and so have the others, of which it was one at its first call.
    assert_eq!(counts(Levels { likely: true, certain: false }), [12, 2, 12, 12, 12, 4]);
    assert_eq!(counts(Levels::ALL), [12, 2, 24, 24, 12, 4]);
}
