//! The rounds: each runs a slice of every query in every mode, in an order of its own, so that what
//! disturbs the machine disturbs all alike.
//!
//! Must not: explain, compare or print a result.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::document::{BenchRound, Mode, RoundTrip};
use super::worker::{BenchWorkers, Limit, QueryInMode, Times, WorkerSlice};
use crate::derive::sample::{Random, Summary, median, percentile};
use crate::error::StatementError;

/// Samples of a query in a mode that are kept at most; sixteen bytes each, of which
/// half only where the server is local.
pub const MOST_SAMPLES: usize = 1_000_000;
/// Before this many executions the server has not decided about a generic plan.
const LEAST_WARMUP: u32 = 6;
/// How long a call may go on after it was interrupted, before it is cancelled.
const PATIENCE: Duration = Duration::from_millis(300);

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub iterations: Option<u32>,
    pub duration: Option<Duration>,
    pub warmup: u32,
    pub rounds: u16,
    pub concurrency: u16,
    pub seed: u64,
}

impl Extent {
    /// What one worker does of one cell in one round.
    fn slice(&self) -> Limit {
        let shares = usize::from(self.rounds) * usize::from(self.concurrency);
        let most = (MOST_SAMPLES / shares).max(1);
        let iterations = self.iterations.map_or(most, |n| (n as usize).div_ceil(shares).min(most));
        Limit { iterations, duration: self.duration.map(|d| d / u32::from(self.rounds)) }
    }
}

/// What was measured of a cell.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// By round.
    pub rounds: Vec<Times>,
    /// Of the reference query, by round.
    pub references: Vec<Times>,
    pub error: Option<StatementError>,
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn middle(nanos: &[u64]) -> Option<f64> {
    median(&mut nanos.iter().map(|n| seconds(*n)).collect::<Vec<f64>>())
}

impl Samples {
    fn add(&mut self, slices: Vec<WorkerSlice>) {
        let (mut query, mut reference) = (Times::default(), Times::default());
        for slice in slices {
            query.extend(slice.query);
            reference.extend(slice.reference);
            self.error = self.error.take().or(slice.error);
        }
        if !query.round_trip.is_empty() {
            self.rounds.push(query);
            self.references.push(reference);
        }
    }

    /// Of all samples; `None` if there are none.
    pub fn round_trip(&self, judged: f64) -> Option<RoundTrip> {
        let mut all: Vec<u64> = self.rounds.iter().flat_map(|r| &r.round_trip).copied().collect();
        let summary = Summary::of(&mut all)?;
        Some(RoundTrip {
            samples: summary.count,
            min: seconds(summary.min),
            mean: summary.mean / 1e9,
            p50: seconds(summary.p50),
            p95: seconds(summary.p95),
            p99: seconds(summary.p99),
            max: seconds(summary.max),
            judged: seconds(percentile(&all, judged)?),
        })
    }

    /// Median time for which the backend ran or was blocked, where that can be told of each sample.
    pub fn undisturbed(&self) -> Option<f64> {
        let whole = |r: &Times| r.undisturbed.len() == r.round_trip.len();
        let all: Vec<u64> = self.rounds.iter().flat_map(|r| &r.undisturbed).copied().collect();
        middle(&all).filter(|_| self.rounds.iter().all(whole))
    }

    /// One line for each round.
    pub fn rounds(&self) -> Vec<BenchRound> {
        let rounds = self.rounds.iter().zip(&self.references);
        rounds
            .filter_map(|(query, reference)| {
                let undisturbed = |times: &Times| {
                    let whole = times.undisturbed.len() == times.round_trip.len();
                    middle(&times.undisturbed).filter(|_| whole)
                };
                Some(BenchRound {
                    samples: query.round_trip.len(),
                    median: middle(&query.round_trip)?,
                    reference: middle(&reference.round_trip)?,
                    undisturbed: undisturbed(query),
                    undisturbed_reference: undisturbed(reference),
                })
            })
            .collect()
    }
}

/// Tells how far it is, in one line of a terminal.
pub struct BenchProgress {
    out: Option<Box<dyn Write + Send>>,
    shown: Option<Instant>,
}

impl BenchProgress {
    /// Writes to `out`, or nothing.
    pub fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        Self { out, shown: None }
    }

    /// Shows a line in place of the last one, ten times a second at most.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let Some(out) = &mut self.out else { return };
        if self.shown.is_some_and(|at| at.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.shown = Some(Instant::now());
        // A terminal that is gone is no reason to stop.
        let _ = write!(out, "\r\x1b[K{}", line()).and_then(|()| out.flush());
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let (Some(out), Some(_)) = (&mut self.out, self.shown.take()) {
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

/// Measures the cells. Ends early, with what there is, when `stopped` becomes true.
pub async fn measure(
    workers: &BenchWorkers,
    extent: &Extent,
    cells: &[(QueryInMode, String)],
    stopped: &mut tokio::sync::watch::Receiver<bool>,
    progress: &mut BenchProgress,
    what: &str,
) -> HashMap<QueryInMode, Samples> {
    let mut found: HashMap<QueryInMode, Samples> =
        cells.iter().map(|(cell, _)| (*cell, Samples::default())).collect();
    let mut order: Vec<&(QueryInMode, String)> = cells.iter().collect();
    let mut random = Random::new(&[extent.seed, 1]);
    let began = Instant::now();
    // Round 0 warms up.
    for round in 0..=extent.rounds {
        for last in (1..order.len()).rev() {
            order.swap(last, random.index(last + 1));
        }
        for (at, (cell, name)) in order.iter().enumerate() {
            let samples = found.entry(*cell).or_default();
            if samples.error.is_some() {
                continue;
            }
            progress.show(|| {
                let done = usize::from(round) * order.len() + at;
                let all = (usize::from(extent.rounds) + 1) * order.len();
                let left = began.elapsed().as_secs_f64() / done.max(1) as f64 * (all - done) as f64;
                let eta =
                    if done < order.len() { String::new() } else { format!(", {left:.0} s left") };
                format!("{what}round {round} of {}: {name} {}{eta}", extent.rounds, cell.mode)
            });
            let limit = match round {
                0 => warmup(extent, cell.mode),
                _ => extent.slice(),
            };
            let slices = slice(workers, *cell, limit, stopped).await;
            match round {
                0 => samples.error = slices.into_iter().find_map(|s| s.error),
                _ => samples.add(slices),
            }
            if *stopped.borrow() {
                // That a call was cancelled is no fault of the query.
                samples.error = None;
                return found;
            }
        }
    }
    found
}

fn warmup(extent: &Extent, mode: Mode) -> Limit {
    let least = if mode == Mode::Prepared { LEAST_WARMUP } else { 1 };
    Limit { iterations: extent.warmup.max(least) as usize, duration: None }
}

async fn slice(
    workers: &BenchWorkers,
    cell: QueryInMode,
    limit: Limit,
    stopped: &mut tokio::sync::watch::Receiver<bool>,
) -> Vec<WorkerSlice> {
    let mut work = std::pin::pin!(workers.slice(cell, limit));
    tokio::select! {
        slices = &mut work => return slices,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    workers.stop();
    if let Ok(slices) = tokio::time::timeout(PATIENCE, &mut work).await {
        return slices;
    }
    workers.cancel().await;
    // The session's own deadline ends even a call that cannot be cancelled.
    work.await
}
