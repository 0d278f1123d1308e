//! What rules about indexes look at.
//!
//! Must not: judge.

use crate::remedy::Relation;
use crate::remedy::create::Make;

/// What is wrong with an index.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexFault {
    /// Not scanned since then (Unix seconds), for so many seconds.
    Unused {
        /// When its scans began to count.
        since: f64,
        /// Until now.
        seconds: f64,
    },
    /// The same as another.
    Duplicate,
    /// Another one does its work.
    Redundant {
        /// Whether that has all the same keys.
        twin: bool,
    },
    /// Not valid, ready and live: which of these it is.
    Invalid([bool; 3]),
}

/// An index with a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultyIndex {
    /// Its table.
    pub table: Relation,
    /// That table's OID.
    pub table_oid: i64,
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
    /// How often it was scanned.
    pub scans: f64,
    /// Whether it is a partitioned one, which CONCURRENTLY does not take.
    pub partitioned: bool,
    /// What is wrong.
    pub fault: IndexFault,
}

/// An index that the file expects.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedIndex {
    /// Its table.
    pub table: Relation,
    /// That table's OID, where it is there.
    pub table_oid: Option<i64>,
    /// What is expected, in words.
    pub what: String,
    /// Whether it is to be unique.
    pub unique: bool,
    /// How it can be made.
    pub make: Make,
    /// `None` where it is there.
    pub lack: Option<Lack>,
}

/// Why an index that is expected is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Nor is its table.
    Table,
    /// There is none.
    Index,
    /// It is not valid: its OID.
    Valid(i64),
}

/// An index of a partitioned table.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// Its table.
    pub table: Relation,
    /// That table's OID.
    pub table_oid: i64,
    /// Its name.
    pub name: String,
    /// `pg_class.oid`.
    pub oid: i64,
    /// Partitions that are not partitioned themselves.
    pub leaves: usize,
    /// How many of these do not have it.
    pub missing: usize,
    /// The first of those.
    pub first: Vec<String>,
}

/// A foreign key without an index on the referencing side.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyWithoutIndex {
    /// The referencing table.
    pub table: Relation,
    /// Its OID.
    pub table_oid: i64,
    /// The constraint.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Rows of the referencing and of the referenced table, estimated.
    pub rows: [f64; 2],
    /// The referenced table.
    pub references: String,
}

/// A table that is read from end to end more often than by its indexes.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanned {
    /// The table.
    pub table: Relation,
    /// Sequential scans, and scans by index.
    pub scans: [f64; 2],
    /// Rows that a sequential scan read on average.
    pub rows_per_scan: f64,
    /// Bytes of the table.
    pub bytes: f64,
}

/// A B-tree of which part holds nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Bloated {
    /// Its table, and its name; of a partition's those of the index that it is attached to, unless `part` is
    /// known.
    pub table: Relation,
    /// Its name, in the schema of its table.
    pub name: String,
    /// Its own table and name, where it is a partition's and they were read.
    pub part: Option<(Relation, Relation)>,
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its bytes.
    pub bytes: f64,
    /// Share of these that holds nothing.
    pub share: f64,
    /// Whether it was read, and not estimated.
    pub measured: bool,
}

/// A B-tree whose entries are out of order.
#[derive(Debug, Clone, PartialEq)]
pub struct Corrupt {
    /// Its table.
    pub table: Relation,
    /// Schema and name.
    pub index: Relation,
    /// `pg_class.oid`.
    pub oid: i64,
    /// Whether it is an exclusion constraint's.
    pub exclusion: bool,
    /// What amcheck says.
    pub message: String,
}
