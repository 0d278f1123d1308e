//! What was published about statements, for those who show it.
//!
//! Must not: estimate anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::bars::{LIKELY, LONGEST, QUANTILES, WINDOWS};
use super::catalogue::{
    CALLS, DURATION, HIGH, INFO, LATENCY, LOW, OBJECTIVE, QUERY_DURATION, QUERY_EXACT_RATIO,
    QUERY_HIGH, QUERY_LATENCY, QUERY_LOW, QUERY_SLOW, ROWS, SECONDS,
};
use crate::collectors::published::{all, published};
use crate::metric::{Family, Histogram};

published! {
    /// `pg_query_latency_seconds`.
    pub struct QueryLatency of QUERY_LATENCY { datname, window, quantile => seconds: f64 }
}
published! {
    /// `pg_query_latency_exact_ratio`.
    pub struct ExactRatio of QUERY_EXACT_RATIO { datname => ratio: f64 }
}
published! {
    /// `pg_statement_latency_seconds`.
    pub struct StatementLatency of LATENCY { datname, usename, queryid, window, quantile => seconds: f64 }
}
published! {
    /// `pg_query_latency_low_seconds`.
    pub struct QueryLow of QUERY_LOW { datname, window, quantile, level => seconds: f64 }
}
published! {
    /// `pg_query_latency_high_seconds`.
    pub struct QueryHigh of QUERY_HIGH { datname, window, quantile, level => seconds: f64 }
}
published! {
    /// `pg_statement_latency_low_seconds`.
    pub struct StatementLow of LOW {
        datname, usename, queryid, window, quantile, level => seconds: f64
    }
}
published! {
    /// `pg_statement_latency_high_seconds`.
    pub struct StatementHigh of HIGH {
        datname, usename, queryid, window, quantile, level => seconds: f64
    }
}
published! {
    /// `pg_statement_duration_seconds`.
    pub struct StatementDuration of DURATION {
        datname, usename, queryid => histogram: &'a Arc<Histogram>
    }
}

published! {
    /// `pg_latency_objective_seconds`.
    pub struct LatencyObjective of OBJECTIVE { => seconds: f64 }
}
published! {
    /// `pg_query_duration_seconds`.
    pub struct QueryDuration of QUERY_DURATION { datname => histogram: &'a Arc<Histogram> }
}
published! {
    /// `pg_query_slow_ratio`.
    pub struct SlowRatio of QUERY_SLOW { datname, window => ratio: f64 }
}
published! {
    /// `pg_statement_info`.
    pub struct PublishedStatementText of INFO { datname, usename, queryid, query => one: f64 }
}
published! {
    /// `pg_stat_statements_calls_total`.
    pub struct StatementCalls of CALLS { user, datname, queryid => count: f64 }
}
published! {
    /// `pg_stat_statements_seconds_total`.
    pub struct StatementSeconds of SECONDS { user, datname, queryid => seconds: f64 }
}
published! {
    /// `pg_stat_statements_rows_total`.
    pub struct StatementRows of ROWS { user, datname, queryid => count: f64 }
}

/// Estimated quantiles over the longest window, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quantiles {
    /// Of 0.5.
    pub p50: Option<f64>,
    /// Of 0.95.
    pub p95: Option<f64>,
    /// Of 0.99.
    pub p99: Option<f64>,
    /// Where that of 0.95 begins and ends in about nine of ten cases.
    pub p95_low: Option<f64>,
    /// See [`Self::p95_low`].
    pub p95_high: Option<f64>,
}

/// An end of an error bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The lower.
    Low,
    /// The upper.
    High,
}

impl Quantiles {
    /// By how much that of 0.95 may be off in about nine of ten cases, in seconds.
    pub fn p95_off(&self) -> Option<f64> {
        let (p95, (low, high)) = self.p95.zip(self.p95_low.zip(self.p95_high))?;
        Some((p95 - low).max(high - p95).max(0.0))
    }

    /// Takes an end of an error bar that was published with these labels.
    pub fn take_end(&mut self, end: End, [window, quantile, level]: [&str; 3], seconds: f64) {
        if window == WINDOWS[LONGEST].0 && quantile == QUANTILES[1].0 && level == LIKELY {
            match end {
                End::Low => self.p95_low = Some(seconds),
                End::High => self.p95_high = Some(seconds),
            }
        }
    }

    /// Takes what was published with these labels.
    pub fn take(&mut self, window: &str, quantile: &str, seconds: f64) {
        if window != WINDOWS[LONGEST].0 {
            return;
        }
        let all = [&mut self.p50, &mut self.p95, &mut self.p99];
        for (of, (label, _)) in all.into_iter().zip(QUANTILES) {
            if label == quantile {
                *of = Some(seconds);
            }
        }
    }
}

/// By database.
pub fn query_latencies(families: &[Arc<Family>]) -> BTreeMap<&str, Quantiles> {
    let mut latencies: BTreeMap<&str, Quantiles> = BTreeMap::new();
    for QueryLatency { datname, window, quantile, seconds, .. } in all(families) {
        latencies.entry(datname).or_default().take(window, quantile, seconds);
    }
    for QueryLow { datname, window, quantile, level, seconds, .. } in all(families) {
        let of = latencies.entry(datname).or_default();
        of.take_end(End::Low, [window, quantile, level], seconds);
    }
    for QueryHigh { datname, window, quantile, level, seconds, .. } in all(families) {
        let of = latencies.entry(datname).or_default();
        of.take_end(End::High, [window, quantile, level], seconds);
    }
    latencies
}

/// Of a statement: its database, its role and its `queryid`.
pub type StatementLabels<'a> = [&'a str; 3];

/// By statement.
pub fn statement_latencies(families: &[Arc<Family>]) -> HashMap<StatementLabels<'_>, Quantiles> {
    let mut latencies: HashMap<StatementLabels<'_>, Quantiles> = HashMap::new();
    for s in all::<StatementLatency<'_>>(families) {
        let of = latencies.entry([s.datname, s.usename, s.queryid]).or_default();
        of.take(s.window, s.quantile, s.seconds);
    }
    for s in all::<StatementLow<'_>>(families) {
        let of = latencies.entry([s.datname, s.usename, s.queryid]).or_default();
        of.take_end(End::Low, [s.window, s.quantile, s.level], s.seconds);
    }
    for s in all::<StatementHigh<'_>>(families) {
        let of = latencies.entry([s.datname, s.usename, s.queryid]).or_default();
        of.take_end(End::High, [s.window, s.quantile, s.level], s.seconds);
    }
    latencies
}

/// By statement.
pub fn statement_durations(
    families: &[Arc<Family>],
) -> HashMap<StatementLabels<'_>, &Arc<Histogram>> {
    let durations = all::<StatementDuration<'_>>(families);
    durations.map(|s| ([s.datname, s.usename, s.queryid], s.histogram)).collect()
}
