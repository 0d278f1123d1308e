//! Relative errors by quantile, phase and rate of calls, as tables and as a few figures to hold on to.
//!
//! Must not: leave out what an estimate failed to give; that is an error of 100 %.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Window;
use super::load::Phase;
use super::recipes::{Estimates, METHODS, Method, QUANTILES, Subject};
use super::truth::{Key, Truth, quantile};

/// With fewer calls in a window there is no quantile to speak of. At this many, p95 and p99 are
/// among the largest two.
pub const FEWEST: usize = 20;
/// Upper bounds of the classes of call rates, per second.
pub const CLASSES: [u32; 4] = [1, 10, 100, 1_000];

/// One estimate.
struct Record {
    window: usize,
    subject: Subject,
    phase: Phase,
    class: u32,
    calls: usize,
    q: usize,
    method: Method,
    truth: f64,
    /// `None` where the method gave nothing.
    estimate: Option<f64>,
}

impl Record {
    fn error(&self) -> f64 {
        self.estimate.map_or(1.0, |estimate| (estimate / self.truth - 1.0).abs())
    }
}

/// What came out.
pub struct Report {
    records: Vec<Record>,
    windows: usize,
    calls: usize,
    intervals: BTreeSet<String>,
    /// Statements, calls missing on either side, and the largest difference of a sum in
    /// microseconds a call.
    agreement: (usize, u64, f64),
    methods: Vec<Method>,
}

/// Median and 90th percentile.
pub type Figure = (f64, f64);

fn figure(mut errors: Vec<f64>) -> Figure {
    errors.sort_by(f64::total_cmp);
    (quantile(&errors, 0.5), quantile(&errors, 0.9))
}

impl Report {
    pub fn new(
        windows: &[Window],
        truth: &Truth,
        estimates: &Estimates,
        (view, checked): (&BTreeMap<Key, (u64, f64)>, f64),
    ) -> Self {
        let ours = |key: &Key| key.0.starts_with("app_");
        let subjects = truth.statements.keys().filter(|key| ours(key)).cloned().map(Some);
        let subjects: Vec<Subject> = subjects.chain([None]).collect();
        let methods: BTreeSet<Method> = estimates.keys().map(|(.., method)| *method).collect();
        let methods: Vec<Method> = METHODS.into_iter().filter(|m| methods.contains(m)).collect();
        let mut records = Vec::new();
        for (number, window) in windows.iter().enumerate() {
            for subject in &subjects {
                let of = |key: &Key| subject.as_ref().map_or(ours(key), |only| key == only);
                let calls = truth.between(of, window.polled);
                if calls.len() < FEWEST {
                    continue;
                }
                let rate = calls.len() as f64 / (window.polled.1 - window.polled.0);
                let class = CLASSES.into_iter().find(|class| rate <= f64::from(*class));
                for (q, (share, ..)) in QUANTILES.iter().enumerate() {
                    for method in &methods {
                        if subject.is_none() && *method == Method::Normal {
                            continue;
                        }
                        let place = (number, subject.clone(), q, *method);
                        records.push(Record {
                            window: number,
                            subject: subject.clone(),
                            phase: window.phase,
                            class: class.unwrap_or(10_000),
                            calls: calls.len(),
                            q,
                            method: *method,
                            truth: quantile(&calls, *share),
                            estimate: estimates.get(&place).copied(),
                        });
                    }
                }
            }
        }
        Self {
            records,
            windows: windows.len(),
            calls: truth.statements.iter().filter(|(k, _)| ours(k)).map(|(_, c)| c.count()).sum(),
            intervals: windows.iter().map(|w| format!("{} s", w.interval)).collect(),
            agreement: agreement(truth, view, checked),
            methods,
        }
    }

    /// Median and 90th percentile of the error of a method at an index into [`QUANTILES`], over all
    /// statements and windows.
    pub fn pooled(&self, method: Method, q: usize) -> Figure {
        figure(self.errors(q, method, |r| r.subject.is_some()))
    }

    /// Whether the log and the view agree on every call.
    pub fn truth_is_whole(&self) -> bool {
        let (statements, missing, difference) = self.agreement;
        statements > 0 && missing == 0 && difference < 1.0
    }

    fn errors(&self, q: usize, method: Method, of: impl Fn(&Record) -> bool) -> Vec<f64> {
        let records = self.records.iter().filter(|r| r.q == q && r.method == method && of(r));
        records.map(Record::error).collect()
    }

    /// The tables.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let (statements, missing, difference) = self.agreement;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} calls in {} windows of a minute. Log and view over {statements} statements: {missing} \
             calls in only one of them, sums apart by at most {difference:.3} us a call.\n\
             Seconds between two polls: {}.\n\
             Relative error, median / 90th percentile, of windows with at least {FEWEST} calls; no \
             estimate counts as 100 %.\n",
            self.calls,
            self.windows,
            self.intervals.iter().cloned().collect::<Vec<_>>().join(", ")
        );
        let names: Vec<&str> = self.methods.iter().map(|m| m.name()).collect();
        let _ = writeln!(out, "| quantile | of | windows | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|---|---:|{}", "---:|".repeat(names.len()));
        let phases: BTreeSet<Phase> = self.records.iter().map(|r| r.phase).collect();
        for (q, (_, label, _)) in QUANTILES.iter().enumerate() {
            let statement = |r: &Record| r.subject.is_some();
            self.line(&mut out, q, label, "all statements", statement);
            for phase in &phases {
                self.line(&mut out, q, label, phase.name(), |r| statement(r) && r.phase == *phase);
            }
            for class in CLASSES {
                let name = format!("up to {class}/s");
                self.line(&mut out, q, label, &name, |r| statement(r) && r.class == class);
            }
            self.line(&mut out, q, label, "the database", |r| r.subject.is_none());
        }
        out
    }

    fn line(
        &self,
        out: &mut String,
        q: usize,
        label: &str,
        name: &str,
        of: impl Fn(&Record) -> bool,
    ) {
        let count = self.records.iter().filter(|r| r.q == q && r.method == Method::Gauge && of(r));
        let _ = write!(out, "| {label} | {name} | {} |", count.count());
        for method in &self.methods {
            let errors = self.errors(q, *method, &of);
            if errors.is_empty() {
                let _ = write!(out, " |");
                continue;
            }
            let (median, p90) = figure(errors);
            let _ = write!(out, " {:.1} / {:.1} % |", median * 100.0, p90 * 100.0);
        }
        out.push('\n');
    }

    /// Every estimate, to look closer.
    pub fn csv(&self) -> String {
        let mut out =
            "window,phase,class,user,queryid,calls,quantile,method,truth,estimate\n".to_owned();
        for r in &self.records {
            let (user, queryid) = match &r.subject {
                Some((user, queryid)) => (user.as_str(), *queryid),
                None => ("", 0),
            };
            let estimate = r.estimate.map(|e| e.to_string()).unwrap_or_default();
            let _ = writeln!(
                out,
                "{},{},{},{user},{queryid},{},{},{},{},{estimate}",
                r.window,
                r.phase.name(),
                r.class,
                r.calls,
                QUANTILES[r.q].1,
                r.method.name(),
                r.truth
            );
        }
        out
    }
}

/// Of the view at a moment of silence.
fn agreement(truth: &Truth, view: &BTreeMap<Key, (u64, f64)>, at: f64) -> (usize, u64, f64) {
    let (mut missing, mut difference) = (0, 0f64);
    for (key, (calls, total)) in view {
        let (count, logged) = truth.until(key, at);
        missing += count.abs_diff(*calls);
        difference = difference.max((logged - total).abs() * 1e3 / (*calls).max(1) as f64);
    }
    (view.len(), missing, difference)
}
