//! What the latency estimator costs: microseconds an interval, and milliseconds a poll of the
//! statements collector at 5,000 rows of which 500 were called. `cargo bench --bench latency`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pgrunway::collector::Collector;
use pgrunway::collectors::statements::{
    Entry, EntryKey, Levels, Rows, Scan, State, StatementOptions, Statements, ViewFacts,
};
use pgrunway::derive::latency::{
    Cumulative, Estimator, Interval, MomentStep, PlacedCalls, Scratch,
};
use pgrunway::metric::Sink;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A lognormal latency of median 2 ms by the sum of twelve uniforms.
fn latency(rng: &mut StdRng, sigma: f64) -> f64 {
    let z: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    0.002 * (sigma * z).exp()
}

/// Counts as the server does.
fn call(row: &mut Cumulative, x: f64) {
    let m2 = row.stddev * row.stddev * row.calls as f64;
    row.calls += 1;
    row.total += x;
    row.min = if row.calls == 1 { x } else { row.min.min(x) };
    row.max = row.max.max(x);
    let before = row.mean;
    row.mean += (x - before) / row.calls as f64;
    row.stddev = ((m2 + (x - before) * (x - row.mean)) / row.calls as f64).sqrt();
}

fn intervals(calls: usize, sigma: f64, count: usize) -> Vec<Interval> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut row = Cumulative::default();
    for _ in 0..1_000 {
        call(&mut row, latency(&mut rng, sigma));
    }
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let before = row;
        for _ in 0..calls {
            call(&mut row, latency(&mut rng, sigma));
        }
        if let MomentStep::Progress(interval) = row.since(&before) {
            all.push(interval);
        }
    }
    all
}

fn one_interval() {
    println!(
        "interval of         sigma 0.3          sigma 0.6          sigma 1.5   (microseconds each: estimated, + bounded)"
    );
    for calls in [1, 2, 3, 10, 100, 1_000] {
        print!("{calls:>6} calls ");
        for sigma in [0.3, 0.6, 1.5] {
            let intervals = intervals(calls, sigma, 2_000);
            let mut estimator = Estimator::default();
            let mut scratch = Scratch::default();
            let start = Instant::now();
            for interval in &intervals {
                black_box(estimator.observe(1.0, black_box(interval), &mut scratch));
            }
            let each = start.elapsed().as_secs_f64() / intervals.len() as f64;
            print!("{:>12.2}", each * 1e6);
            let mut placed = PlacedCalls::default();
            let start = Instant::now();
            for interval in &intervals {
                placed.place(black_box(interval), 0.05);
                black_box(&placed);
            }
            let each = start.elapsed().as_secs_f64() / intervals.len() as f64;
            print!(" +{:>5.2}", each * 1e6);
        }
        println!();
    }
}

fn one_poll(entries: usize, active: usize) {
    let mut rng = StdRng::seed_from_u64(2);
    let names = |name: &str| [(1, Arc::from(name))].into_iter().collect();
    let facts = ViewFacts { databases: names("app"), roles: names("app"), ..ViewFacts::default() };
    let mut rows: Vec<Entry> = (0..entries)
        .map(|i| Entry {
            key: EntryKey {
                dbid: 1,
                userid: 1,
                queryid: i64::try_from(i).unwrap() * 7_919,
                toplevel: true,
            },
            since: 0.0,
            time: Cumulative::default(),
            planning: None,
            counters: [0.0; 8].into(),
        })
        .collect();
    for row in &mut rows {
        (0..50).for_each(|_| call(&mut row.time, latency(&mut rng, 0.6)));
    }
    let scan = |rows: &[Entry], at: f64| Scan {
        at,
        clock: (at, at),
        entries: rows.to_vec(),
        hidden: Vec::new(),
    };
    let bars = Levels { likely: true, certain: false };
    let options = StatementOptions {
        top: 100,
        include_text: false,
        objective: 0.05,
        slo: 0.99,
        bars,
        excluded: Default::default(),
    };
    let mut state = State::default();
    let (mut took, mut polls) = (0.0, 0u32);
    for second in 0..60u32 {
        for row in rows.iter_mut().take(active) {
            (0..20).for_each(|_| call(&mut row.time, latency(&mut rng, 0.6)));
        }
        let at = f64::from(second);
        let first = scan(&rows, at);
        for row in rows.iter_mut().take(active / 10) {
            call(&mut row.time, latency(&mut rng, 0.6));
        }
        let second_scan = scan(&rows, at + 0.01);
        let scans = vec![first, second_scan];
        let rows = Rows {
            facts: facts.clone(),
            scans,
            texts: None,
            own: Default::default(),
            options: options.clone(),
        };
        let mut sink = Sink::new(Statements::METRICS, 100_000);
        let start = Instant::now();
        Statements.derive(&mut state, rows, &mut sink);
        if second >= 10 {
            took += start.elapsed().as_secs_f64();
            polls += 1;
        }
        black_box(sink.finish());
    }
    let each = took / f64::from(polls) * 1e3;
    println!(
        "{entries} rows, {active} of them called: {each:.2} ms a poll (two scans), derive only"
    );
}

fn main() {
    one_interval();
    println!("an estimator takes {} bytes", size_of::<Estimator>());
    one_poll(5_000, 0);
    one_poll(5_000, 500);
}
