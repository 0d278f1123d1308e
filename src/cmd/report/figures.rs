//! The figures of the collectors' last snapshot that a report shows, by what they are about.
//!
//! Must not: derive one that the exporter does not publish.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::gather::StatementRow;
use crate::collectors::cache::HitRatio;
use crate::collectors::connections::Used;
use crate::collectors::databases::DatabaseSize;
use crate::collectors::indexes::ScanRatio;
use crate::collectors::published;
use crate::collectors::sizes::{IndexesSize, TableSize};
use crate::collectors::statements::published::{
    ExactRatio, Quantiles, query_latencies, statement_durations, statement_latencies,
};
use crate::collectors::tables::TableHitRatio;
use crate::metric::Histogram;
use crate::snapshot::Snapshot;

/// Of a database, each where it was published.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabaseFigures {
    /// Bytes.
    pub size: Option<f64>,
    /// Share of block reads that were found in shared buffers.
    pub hit_ratio: Option<f64>,
    /// Share of calls whose time was observed.
    pub exact: Option<f64>,
    /// Of its statements.
    pub latency: Quantiles,
}

/// Of a root table with its partitions, each where it was published.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableFigures {
    /// Bytes, TOAST included.
    pub size: Option<f64>,
    /// Bytes of its indexes.
    pub indexes: f64,
    /// As of a database.
    pub hit_ratio: Option<f64>,
    /// Share of scans that used an index.
    pub scan_ratio: Option<f64>,
}

/// By database, schema and name.
type TableKey<'a> = [&'a str; 3];

/// What the last snapshot holds.
#[derive(Debug, Clone, Default)]
pub struct ReportFigures<'a> {
    /// By name.
    pub databases: BTreeMap<&'a str, DatabaseFigures>,
    /// By database, schema and name.
    pub tables: BTreeMap<TableKey<'a>, TableFigures>,
    /// Connections in use.
    pub connections: Option<f64>,
    latencies: HashMap<[&'a str; 3], Quantiles>,
    durations: HashMap<[&'a str; 3], &'a Arc<Histogram>>,
}

impl<'a> ReportFigures<'a> {
    /// Reads them.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let families = &snapshot.families;
        let mut all = Self {
            connections: published::all(families).map(|u: Used<'_>| u.connections).next(),
            latencies: statement_latencies(families),
            durations: statement_durations(families),
            ..Self::default()
        };
        for DatabaseSize { datname, bytes, .. } in published::all(families) {
            all.databases.entry(datname).or_default().size = Some(bytes);
        }
        for HitRatio { datname, ratio, .. } in published::all(families) {
            all.databases.entry(datname).or_default().hit_ratio = Some(ratio);
        }
        for ExactRatio { datname, ratio, .. } in published::all(families) {
            all.databases.entry(datname).or_default().exact = Some(ratio);
        }
        for (datname, latency) in query_latencies(families) {
            all.databases.entry(datname).or_default().latency = latency;
        }
        for TableSize { datname, schemaname, relname, bytes, .. } in published::all(families) {
            all.table([datname, schemaname, relname]).size = Some(bytes);
        }
        for IndexesSize { datname, schemaname, relname, bytes, .. } in published::all(families) {
            all.table([datname, schemaname, relname]).indexes = bytes;
        }
        for TableHitRatio { datname, schemaname, relname, ratio, .. } in published::all(families) {
            all.table([datname, schemaname, relname]).hit_ratio = Some(ratio);
        }
        for ScanRatio { datname, schemaname, relname, ratio, .. } in published::all(families) {
            all.table([datname, schemaname, relname]).scan_ratio = Some(ratio);
        }
        all
    }

    fn table(&mut self, key: TableKey<'a>) -> &mut TableFigures {
        self.tables.entry(key).or_default()
    }

    /// Quantiles of a statement.
    pub fn latency(&self, row: &StatementRow) -> Quantiles {
        self.latencies.get(&key(row)).copied().unwrap_or_default()
    }

    /// Durations of a statement's calls.
    pub fn durations(&self, row: &StatementRow) -> Option<&'a Arc<Histogram>> {
        self.durations.get(&key(row)).copied()
    }
}

/// A value with what it may be off by, where this is known.
pub fn within(value: String, off: Option<String>) -> String {
    match off {
        Some(off) => format!("{value} ± {off}"),
        None => value,
    }
}

fn key(row: &StatementRow) -> [&str; 3] {
    [&row.datname, &row.usename, &row.queryid]
}
