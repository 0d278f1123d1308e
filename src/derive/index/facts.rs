//! What is known of the tables, indexes and foreign keys of one database.
//!
//! Must not: judge.

use super::node;

/// How a table stores rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A table, a partition that is a table, or a materialised view.
    Plain,
    /// A partitioned table, which stores none itself.
    Partitioned,
    /// A foreign table, which cannot have indexes.
    Foreign,
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedTable {
    /// `pg_class.oid`.
    pub id: i64,
    /// The partitioned table it is a partition of.
    pub parent: Option<i64>,
    /// Schema and name; of partitions only where asked for, or where something is judged on them.
    pub name: Option<(String, String)>,
    /// `pg_class.relkind`.
    pub kind: TableKind,
    /// Rows: `pg_class.reltuples`, or the statistics' live rows where that is unknown.
    pub rows: f64,
    /// `pg_class.relpages`.
    pub pages: f64,
    /// `pg_stat_user_tables.seq_scan`.
    pub seq_scans: f64,
    /// `pg_stat_user_tables.seq_tup_read`.
    pub seq_rows: f64,
    /// When its own counters were last reset, Unix seconds (PostgreSQL 19 and later).
    pub reset: Option<f64>,
}

/// One column of an index key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// `pg_attribute.attnum` of the table.
    Column(i16),
    /// An expression, its node tree without what says nothing of its meaning.
    Expression(String),
}

/// One key of an index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexKey {
    /// What is indexed.
    pub term: Term,
    /// Stands for the operator class: equal for those that differ by name only.
    pub opclass: i64,
    /// `pg_collation.oid`, 0 for none.
    pub collation: i64,
    /// `pg_index.indoption`: 1 for DESC, 2 for NULLS FIRST.
    pub option: i16,
}

/// The predicate of a partial index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Predicate {
    text: String,
    /// The columns of which it says that they are not null, where it says nothing else.
    pub not_null: Option<Vec<i16>>,
}

impl Predicate {
    /// From `pg_index.indpred::text`.
    pub fn new(tree: &str) -> Self {
        Self { text: node::normalise(tree), not_null: node::not_null_columns(tree) }
    }
}

/// What an index indexes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// `pg_am.amname`.
    pub method: String,
    /// The first `indnkeyatts` columns.
    pub keys: Vec<IndexKey>,
    /// The INCLUDE columns.
    pub include: Vec<i16>,
    /// Where it is partial.
    pub predicate: Option<Predicate>,
    /// Options that change what the index can do: those of operator classes, and storage parameters
    /// of methods other than B-tree and hash.
    pub options: String,
    /// `indisunique`.
    pub unique: bool,
    /// `indnullsnotdistinct` (PostgreSQL 15 and later).
    pub nulls_not_distinct: bool,
    /// `indimmediate`: not deferrable.
    pub immediate: bool,
}

impl Definition {
    /// The table's columns of the first `n` keys, in ascending order; `None` where one of them is an
    /// expression or there are fewer keys.
    pub(super) fn leading(&self, n: usize) -> Option<Vec<i16>> {
        let columns = self.keys.get(..n)?.iter().map(|key| match key.term {
            Term::Column(column) => Some(column),
            Term::Expression(_) => None,
        });
        let mut columns = columns.collect::<Option<Vec<_>>>()?;
        columns.sort_unstable();
        Some(columns)
    }
}

/// One index.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// `pg_class.oid`.
    pub id: i64,
    /// Its table.
    pub table: i64,
    /// The partitioned index it is attached to.
    pub parent: Option<i64>,
    /// Its name; of those that have a definition here.
    pub name: Option<String>,
    /// Whether it is the index of a partitioned table, without storage of its own.
    pub partitioned: bool,
    /// `indisvalid`.
    pub valid: bool,
    /// `indisready`.
    pub ready: bool,
    /// `indislive`.
    pub live: bool,
    /// Whether a command that builds an index on its table is running.
    pub building: bool,
    /// `indisprimary`.
    pub primary: bool,
    /// `indisexclusion`.
    pub exclusion: bool,
    /// Whether it is the replica identity of its table.
    pub replica_identity: bool,
    /// `indisclustered`.
    pub clustered: bool,
    /// The primary key, unique or exclusion constraint that it enforces.
    pub constraint: Option<String>,
    /// Whether a foreign key relies on it (`pg_constraint.conindid`).
    pub referenced: bool,
    /// `idx_scan`.
    pub scans: f64,
    /// `last_idx_scan`, Unix seconds (PostgreSQL 16 and later).
    pub last_scan: Option<f64>,
    /// `pg_class.relpages`.
    pub pages: f64,
    /// Unix seconds before which it was not there, or was used, as far as that is known.
    pub created: Option<f64>,
    /// When its own counters were last reset, Unix seconds (PostgreSQL 19 and later).
    pub reset: Option<f64>,
    /// Left out where nothing is compared with it: for indexes that are attached to one of the
    /// partitioned table, unless something else is judged on the same partition.
    pub definition: Option<Definition>,
}

impl Index {
    /// Whether queries can use it.
    pub fn usable(&self) -> bool {
        self.valid && self.ready && self.live
    }
}

/// One foreign key that a user declared; those that PostgreSQL adds for partitions are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// `pg_constraint.oid`.
    pub id: i64,
    /// The referencing table.
    pub table: i64,
    /// `conname`.
    pub name: String,
    /// `conkey`.
    pub columns: Vec<i16>,
    /// `confrelid`.
    pub references: i64,
}

/// Everything that [`super::judge`] looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IndexFacts {
    /// The server's clock, Unix seconds.
    pub now: f64,
    /// Since when the statistics count: the later of their reset and the server's start.
    pub since: f64,
    /// Bytes a page.
    pub block_size: f64,
    /// All tables of users, partitions among them.
    pub tables: Vec<IndexedTable>,
    /// All indexes on them.
    pub indexes: Vec<Index>,
    /// The foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
}
