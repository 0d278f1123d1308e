//! What rules look at. Everything is optional: what could not be read or measured is `None`, and no
//! rule guesses it.
//!
//! Must not: hold text of statements (they may carry secrets).

use std::collections::BTreeMap;

use crate::remedy::Relation;

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// `pg_settings.setting` in bytes, seconds or as it is, by `pg_settings.unit`.
    Number(f64),
    /// On or off.
    Flag(bool),
    /// Anything else.
    Text(String),
}

/// Checkpoints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoints {
    /// Because `checkpoint_timeout` had passed.
    pub timed: f64,
    /// Because of `max_wal_size` or by command.
    pub requested: f64,
    /// Seconds over which they were counted.
    pub span: f64,
}

/// Something that was counted over a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// How much.
    pub amount: f64,
    /// Seconds.
    pub span: f64,
}

impl Counted {
    /// A second.
    pub(super) fn rate(self) -> f64 {
        self.amount / self.span.max(f64::MIN_POSITIVE)
    }
}

/// Temporary files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temporary {
    /// Their number.
    pub files: f64,
    /// Their bytes.
    pub bytes: Counted,
}

/// Connections while they were watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connections {
    /// Most client backends at once.
    pub peak: f64,
    /// Most of them in a statement at once.
    pub peak_active: f64,
}

/// A server as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Server {
    /// The database of the session that read the facts.
    pub datname: String,
    /// By name.
    pub settings: BTreeMap<String, Setting>,
    /// Bytes of the machine's memory. SQL does not tell it: from the configuration.
    pub memory: Option<f64>,
    /// The machine's processors, likewise.
    pub cpus: Option<f64>,
    /// Checkpoints.
    pub checkpoints: Option<Checkpoints>,
    /// Bytes of WAL.
    pub wal: Option<Counted>,
    /// Temporary files.
    pub temporary: Option<Temporary>,
    /// Evictions from `pg_stat_statements`.
    pub evictions: Option<Counted>,
    /// Connections.
    pub connections: Option<Connections>,
    /// Most autovacuum workers at once.
    pub autovacuum_workers: Option<f64>,
    /// What a statement may take, in seconds, from the configuration.
    pub latency_objective: Option<f64>,
}

impl Server {
    /// A number; `None` where the server lacks the setting.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.settings.get(name)? {
            Setting::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// On or off.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.settings.get(name)? {
            Setting::Flag(value) => Some(*value),
            _ => None,
        }
    }
}

/// What a statement did over [`Database::span`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statement {
    /// `queryid`, or the name under which it was benchmarked.
    pub name: String,
    /// Times executed.
    pub calls: f64,
    /// Times planned; `None` where `pg_stat_statements.track_planning` is off.
    pub plans: Option<f64>,
    /// Seconds spent planning.
    pub planning: f64,
    /// Seconds spent executing.
    pub execution: f64,
    /// Rows returned or changed.
    pub rows: f64,
    /// Blocks of shared buffers hit or read.
    pub blocks: f64,
    /// Whether it reads only and aggregates, where its text was looked at.
    pub aggregates: Option<bool>,
    /// Seconds of just-in-time compilation, where the server tells (15 and later).
    pub jit: Option<f64>,
}

/// Medians of one query's round trips, measured by `bench`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bench {
    /// Its name in the file.
    pub name: String,
    /// Seconds when planned at each call.
    pub unprepared: f64,
    /// Seconds when prepared.
    pub prepared: f64,
    /// Partitions that its plan keeps after pruning, and all, of the table where it keeps most of them.
    pub planned: Option<(String, [f64; 2])>,
}

/// A table that is partitioned, and nobody's partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Partitioned {
    /// The table.
    pub name: Relation,
    /// Partitions that are not partitioned themselves.
    pub leaves: f64,
    /// Runway and what is required, in seconds.
    pub runway: Option<(f64, f64)>,
    /// Why it has no runway, where it has none.
    pub reason: Option<&'static str>,
    /// What is not covered before later partitions, where there is such a gap.
    pub gap: Option<Gap>,
    /// Whether a row of now finds its partition; `false` where it falls into a DEFAULT.
    pub covered: bool,
    /// Whether there is a DEFAULT.
    pub has_default: bool,
    /// Rows in a DEFAULT partition, estimated.
    pub default_rows: Option<f64>,
    /// What an open-ended partition behind others takes, where there is one.
    pub open_end: Option<OpenEnded>,
    /// Seconds by which its oldest data exceed their retention.
    pub retention_exceeded: Option<f64>,
    /// That retention in seconds: `max_age` of the partition rule.
    pub max_age: Option<f64>,
}

/// An open-ended partition (`TO (MAXVALUE)`) behind others that have an end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OpenEnded {
    /// Runway in seconds by the others, as [`Partitioned::runway`].
    pub bounded: f64,
    /// Whether one of them takes a row of now.
    pub covered: bool,
    /// Rows in it, estimated.
    pub rows: Option<f64>,
}

/// A stretch of time between partitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Unix seconds at which coverage ends or ended; `None` where it never began.
    pub from: Option<f64>,
    /// Unix seconds at which it begins again.
    pub to: f64,
}

/// Partitions of a table that differ in one property from most of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Odd {
    /// The table.
    pub table: Relation,
    /// The property: owner, replica identity, row security or grants.
    pub what: String,
    /// What most have.
    pub usual: String,
    /// Partitions that are not partitioned themselves.
    pub leaves: f64,
    /// Those that differ.
    pub odd: f64,
    /// The first of these by name.
    pub first: Relation,
    /// What that has.
    pub value: String,
}

/// A table that must exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Its name.
    pub name: Relation,
    /// `missing`, or why it has no runway; `None` where it has one.
    pub lack: Option<&'static str>,
}

/// A table that is nobody's partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The table.
    pub name: Relation,
    /// Whether it is partitioned.
    pub partitioned: bool,
    /// Estimated rows, partitions included.
    pub rows: f64,
    /// What is overdue for a VACUUM.
    pub vacuum: Overdue,
    /// What is overdue for an ANALYZE.
    pub analyze: Overdue,
    /// Whether it is partitioned and has no statistics of its own, where the server tells.
    pub never_analyzed: Option<bool>,
    /// `autovacuum_vacuum_scale_factor` in force.
    pub scale_factor: f64,
    /// Dead rows at which autovacuum comes; of a table that is not partitioned.
    pub vacuum_at: f64,
}

/// Partitions, or the table itself, that have changed by far more than autovacuum waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overdue {
    /// How many.
    pub tables: usize,
    /// Changes of the one of them that needs it most, in multiples of its threshold.
    pub times: f64,
}

/// What is wrong with an index.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexFault {
    /// Not scanned for so many seconds.
    Unused { seconds: f64 },
    /// The same as another.
    Duplicate { of: String },
    /// A left prefix of another.
    Redundant { of: String },
    /// Not valid.
    Invalid,
}

/// An index with a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Its table.
    pub table: Relation,
    /// Its name, in the schema of its table.
    pub name: String,
    /// `pg_class.oid`.
    pub oid: i64,
    /// Whether a constraint rests on it.
    pub constraint: bool,
    /// The index that does its work: OID and name.
    pub cover: Option<(i64, String)>,
    /// Its bytes, partitions included.
    pub bytes: f64,
    /// Whether it is a partitioned one, which CONCURRENTLY does not take.
    pub partitioned: bool,
    /// What is wrong.
    pub fault: IndexFault,
}

/// A B-tree of which part holds nothing, by estimate.
#[derive(Debug, Clone, PartialEq)]
pub struct Bloated {
    /// Its table.
    pub table: Relation,
    /// Its name, in the schema of its table.
    pub name: String,
    /// `pg_class.oid`.
    pub oid: i64,
    /// Bytes that were looked at, of all its parts that were.
    pub bytes: f64,
    /// Share of these that holds nothing, estimated.
    pub share: f64,
    /// Whether it is a partitioned one.
    pub partitioned: bool,
}

/// A table that grows.
#[derive(Debug, Clone, PartialEq)]
pub struct Growing {
    /// The table.
    pub name: Relation,
    /// Bytes now, with TOAST and indexes.
    pub bytes: f64,
    /// Bytes a day, of slices of time that are complete.
    pub per_day: f64,
    /// Seconds over which that was measured.
    pub span: f64,
    /// Unix seconds at which its oldest slice of time begins.
    pub oldest: f64,
    /// Seconds after which its data are retired, where that is configured or was seen.
    pub kept: Option<f64>,
    /// Whether some sizes are estimates.
    pub estimated: bool,
}

impl Growing {
    /// Bytes after so many days of the same growth; no more than it keeps, where it keeps less.
    pub fn after(&self, days: f64) -> f64 {
        let grown = self.bytes + self.per_day * days;
        let full = self.kept.map_or(f64::INFINITY, |kept| self.per_day * kept / 86_400.0);
        grown.min(full.max(self.bytes))
    }
}

/// How a database grows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Growth {
    /// Bytes now of all its tables and indexes.
    pub bytes: f64,
    /// The tables whose growth could be measured.
    pub tables: Vec<Growing>,
}

impl Growth {
    /// Bytes after so many days; what could not be measured stays as it is.
    pub fn after(&self, days: f64) -> f64 {
        self.bytes + self.tables.iter().map(|t| t.after(days) - t.bytes).sum::<f64>()
    }
}

/// One database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Database {
    /// Its name.
    pub datname: String,
    /// Seconds over which statements were measured.
    pub span: f64,
    /// Statements.
    pub statements: Option<Vec<Statement>>,
    /// Queries that were benchmarked.
    pub benches: Option<Vec<Bench>>,
    /// Partitioned tables.
    pub partitioned: Option<Vec<Partitioned>>,
    /// Partitions that differ from their siblings.
    pub odd: Option<Vec<Odd>>,
    /// Tables that the configuration says must exist.
    pub expected: Option<Vec<Expected>>,
    /// Tables by what autovacuum looks at.
    pub tables: Option<Vec<Table>>,
    /// Indexes with faults, by the verdicts of `derive::index`.
    pub indexes: Option<Vec<Index>>,
    /// Estimates of bloat.
    pub bloated: Option<Vec<Bloated>>,
    /// Growth.
    pub growth: Option<Growth>,
}
