//! What rules look at. Everything is optional: what could not be read or measured is `None`, and no
//! rule guesses it.
//!
//! Must not: hold text of statements (they may carry secrets).

use std::collections::BTreeMap;

use crate::remedy::Relation;
use crate::remedy::tree::Tree;

mod access;
mod indexes;

pub use access::{AccessFacts, AccessFailure, AccessStep, ClosedDatabase, FailingCollector};
pub use indexes::{
    Bloated, Corrupt, FaultyIndex, IndexFault, KeyWithoutIndex, Lack, Partial, Scanned, WantedIndex,
};

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

/// What gives a setting its value (`pg_settings.source`), and so where it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file or the default; whether a change takes a restart.
    System {
        /// `pg_settings.context` is `postmaster`.
        restart: bool,
    },
    /// The server's command line.
    CommandLine,
    /// ALTER DATABASE.
    Database,
    /// ALTER ROLE.
    Role,
    /// ALTER ROLE IN DATABASE.
    RoleIn,
    /// ALTER ROLE ALL.
    Roles,
}

/// Checkpoints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointCounts {
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
    pub(in crate::findings) fn rate(self) -> f64 {
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
pub struct ConnectionPeak {
    /// Most client backends at once.
    pub peak: f64,
    /// Most of them in a statement at once.
    pub peak_active: f64,
}

/// A server as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerFacts {
    /// The database of the session that read the facts.
    pub datname: String,
    /// The role of that session.
    pub role: String,
    /// By name, without what the session set for itself.
    pub settings: BTreeMap<String, Setting>,
    /// Where each of these comes from.
    pub origins: BTreeMap<String, Origin>,
    /// Whether the role has `pg_monitor`.
    pub monitors: Option<bool>,
    /// Whether `pg_stat_statements` is installed in the session's database.
    pub has_statements: Option<bool>,
    /// Where else it is, of a server that lacks it there, and why it is not read there.
    pub statements_elsewhere: Vec<(String, String)>,
    /// Databases that somebody wants and that are not there.
    pub absent: Option<Vec<String>>,
    /// Bytes of the machine's memory. SQL does not tell it: from the configuration.
    pub memory: Option<f64>,
    /// The machine's processors, likewise.
    pub cpus: Option<f64>,
    /// Checkpoints.
    pub checkpoints: Option<CheckpointCounts>,
    /// Bytes of WAL.
    pub wal: Option<Counted>,
    /// Temporary files.
    pub temporary: Option<Temporary>,
    /// Evictions from `pg_stat_statements`.
    pub evictions: Option<Counted>,
    /// Connections.
    pub connections: Option<ConnectionPeak>,
    /// Most autovacuum workers at once.
    pub autovacuum_workers: Option<f64>,
    /// What a statement may take, in seconds, from the configuration.
    pub latency_objective: Option<f64>,
}

impl ServerFacts {
    /// A number; `None` where the server lacks the setting.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.settings.get(name)? {
            Setting::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// A word or a list.
    pub(in crate::findings) fn text(&self, name: &str) -> Option<&str> {
        match self.settings.get(name)? {
            Setting::Text(value) => Some(value),
            _ => None,
        }
    }

    /// On or off.
    pub(in crate::findings) fn flag(&self, name: &str) -> Option<bool> {
        match self.settings.get(name)? {
            Setting::Flag(value) => Some(*value),
            _ => None,
        }
    }
}

/// What a statement did over [`DatabaseFacts::span`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatementFacts {
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
    /// Executions of a prepared statement with a generic plan, where the extension tells (1.13 and later).
    pub generic: Option<f64>,
    /// Executions of a prepared statement that was planned for its parameters, where the extension tells.
    pub custom: Option<f64>,
}

/// Medians of one query's round trips, measured by `bench`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BenchFacts {
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
    /// Direct partitions, the DEFAULT included.
    pub partitions: f64,
    /// Bytes of all leaves without indexes and TOAST, by `pg_class.relpages`.
    pub bytes: f64,
    /// Unix seconds at which coverage ends or ended, infinite without end; `None` where it never began.
    pub until: Option<f64>,
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
    /// What `pgrunway plan` will say of it, where it was asked and will not do all.
    pub foreseen: Option<Foreseen>,
}

/// What `pgrunway plan` will say of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Foreseen {
    /// It prints nothing, for this reason.
    Refuses(String),
    /// It leaves rows where they are: which and why, in sentences.
    Leaves(String),
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
pub struct ExpectedTable {
    /// Its name.
    pub name: Relation,
    /// `missing`, or why it has no runway; `None` where it has one.
    pub lack: Option<&'static str>,
}

/// A table that is nobody's partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableFacts {
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
    /// Of what most rows came after its last ANALYZE; it is not among `analyze`.
    pub loaded: Overdue,
    /// Seconds since it was analysed as a whole, infinite if never; of a partitioned one, where the server
    /// tells.
    pub unanalyzed: Option<f64>,
    /// Whether autovacuum is switched off for it.
    pub off: bool,
    /// `autovacuum_vacuum_scale_factor` in force.
    pub scale_factor: f64,
    /// Dead rows at which autovacuum comes; of a table that is not partitioned.
    pub vacuum_at: f64,
}

/// Partitions, or the table itself, that have changed by far more than autovacuum waits for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overdue {
    /// How many.
    pub tables: usize,
    /// Changes of the one of them that needs it most, in multiples of its threshold.
    pub times: f64,
    /// Those that need it most, the first one most.
    pub worst: Vec<Leaf>,
}

/// A table that holds rows itself: a partition, or what is not partitioned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaf {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its name, where that was read.
    pub name: Option<Relation>,
    /// Rows that are dead, or that changed.
    pub amount: f64,
    /// Live rows.
    pub live: f64,
    /// Unix seconds of the last VACUUM or ANALYZE, whichever it needs.
    pub last: Option<f64>,
}

/// Ages of the oldest transactions and multixacts of a database's tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ages {
    /// Tables that were looked at.
    pub tables: f64,
    /// The greatest age.
    pub oldest: f64,
    /// Those beyond the point at which autovacuum must freeze them.
    pub old: Vec<Age>,
}

/// A table that holds rows, its TOAST table included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Age {
    /// The table.
    pub name: Relation,
    /// Transactions, and from how many on autovacuum freezes.
    pub xids: (f64, f64),
    /// Multixacts, likewise.
    pub mxids: (f64, f64),
}

/// An extension that is installed, and of which the server has files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub installed: String,
    /// That of the files.
    pub available: String,
}

/// A constraint that was never validated.
#[derive(Debug, Clone, PartialEq)]
pub struct NotValid {
    /// The table or domain.
    pub of: Relation,
    /// Whether it is a domain.
    pub domain: bool,
    /// `CHECK`, `FOREIGN KEY`, `NOT NULL` or `constraint`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Rows whose foreign key points to no row.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    /// The referencing table.
    pub child: Relation,
    /// Whether its partitions belong to it.
    pub child_tree: bool,
    /// The referenced one.
    pub parent: Relation,
    /// Whether its partitions belong to it.
    pub parent_tree: bool,
    /// The constraint.
    pub key: String,
    /// `f.a IS NOT NULL`, as the server quotes it.
    pub present: String,
    /// `p.id = f.a`, the same.
    pub matches: String,
    /// How many there are.
    pub rows: i64,
    /// What else goes or changes with them.
    pub follow: Vec<String>,
}

/// A job of pg_cron that looks after partitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFacts {
    /// Its name, or `job 7`.
    pub name: String,
    /// The database that it runs in.
    pub database: String,
    /// Whether its last run that is over failed because it was sent to a standby, or to a database that is
    /// read-only.
    pub refused: bool,
    /// Unix seconds at which that run began.
    pub started: Option<f64>,
}

/// The plan of a query of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its name in the file.
    pub name: String,
    /// Partitions that it may read.
    pub most: usize,
    /// What it reads of each partitioned table.
    pub reads: Vec<PartitionsRead>,
    /// What switches `enable_partition_pruning` off, where it is off.
    pub off: Option<Origin>,
}

/// Partitions of one table in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionsRead {
    /// The table.
    pub root: String,
    /// Its partition key.
    pub key: String,
    /// Partitions in the plan.
    pub used: i64,
    /// Partitions that it has.
    pub leaves: i64,
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
pub struct DatabaseFacts {
    /// Its name.
    pub datname: String,
    /// `server_version_num`.
    pub version_num: i32,
    /// The role of the session that read the facts.
    pub role: String,
    /// Seconds over which statements were measured.
    pub span: f64,
    /// Statements.
    pub statements: Option<Vec<StatementFacts>>,
    /// Queries that were benchmarked.
    pub benches: Option<Vec<BenchFacts>>,
    /// Jobs of pg_cron that look after partitions.
    pub jobs: Option<Vec<JobFacts>>,
    /// Queries of the file that were planned.
    pub plans: Option<Vec<Planned>>,
    /// Partitioned tables.
    pub partitioned: Option<Vec<Partitioned>>,
    /// Partitions that differ from their siblings.
    pub odd: Option<Vec<Odd>>,
    /// Tables that the configuration says must exist.
    pub expected: Option<Vec<ExpectedTable>>,
    /// Tables by what autovacuum looks at.
    pub tables: Option<Vec<TableFacts>>,
    /// Ages of transaction IDs.
    pub ages: Option<Ages>,
    /// Indexes with faults, by the verdicts of `derive::index`.
    pub indexes: Option<Vec<FaultyIndex>>,
    /// Indexes that the file expects.
    pub wanted: Option<Vec<WantedIndex>>,
    /// Indexes of partitioned tables that partitions lack.
    pub partial: Option<Vec<Partial>>,
    /// Foreign keys without an index, of tables that are not small.
    pub keys: Option<Vec<KeyWithoutIndex>>,
    /// Large tables that are read from end to end.
    pub scanned: Option<Vec<Scanned>>,
    /// How full B-trees are.
    pub bloated: Option<Vec<Bloated>>,
    /// B-trees that amcheck objects to.
    pub corrupt: Option<Vec<Corrupt>>,
    /// Extensions.
    pub extensions: Option<Vec<ExtensionFacts>>,
    /// Constraints that were never validated.
    pub not_valid: Option<Vec<NotValid>>,
    /// Rows of foreign keys that have lost their parent.
    pub lost: Option<Vec<Lost>>,
    /// Growth.
    pub growth: Option<Growth>,
    /// The partition trees of tables that a script is to be written for, by OID; or why they could not be read.
    pub trees: BTreeMap<i64, Result<Tree, String>>,
}
