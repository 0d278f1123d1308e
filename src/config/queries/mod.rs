//! Queries of the user's own: `queries` in `pgrunway.yml`, and postgres_exporter's file of `--extend.query-path`.
//!
//! Must not: connect anywhere, or repeat the text of a query, which may hold a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::schema::{DAY, MS, SECOND, SettingKind, settings};
use super::wildcard::matches;

mod read;
mod versions;

pub(super) use read::{TheirFile, items, of_file};
pub use versions::Versions;

/// How often a query is asked that does not say.
const INTERVAL: Duration = Duration::from_secs(15);

const USAGES: SettingKind = SettingKind::Choice {
    words: &["gauge", "counter", "label", "histogram", "mappedmetric", "duration", "discard"],
    aliases: &[],
};
const ROLES: SettingKind =
    SettingKind::Choice { words: &["any", "primary", "standby"], aliases: &[] };

settings! {
    /// A query as the file has it; its name is the key that it stands under.
    pub(super) struct QueryItem {
        /// What it is called in `pgrunway_collector_*`, after `query_`.
        pub name: String = String::new(), "name" => SettingKind::Text;
        /// One statement that reads; SELECT, WITH, VALUES, TABLE or SHOW.
        pub query: Option<String> = None, "query" => SettingKind::Text;
        /// How the names of its metrics begin; its name if left out, so that several queries, for several versions, may
        /// have the same metrics.
        pub prefix: Option<String> = None, "prefix" => SettingKind::Text;
        /// Pause between two runs; 15 seconds if left out.
        pub interval: Option<Duration> = None,
            "interval" => SettingKind::Duration { min: SECOND, max: DAY };
        /// The same in seconds, as postgres_exporter has it; 0 counts as left out.
        pub cache_seconds: Option<u64> = None,
            "cache_seconds" => SettingKind::Integer { min: 0, max: 86_400 };
        /// `statement_timeout` of this query, where it should be less than `timeouts.statement`.
        pub timeout: Option<Duration> = None,
            "timeout" => SettingKind::Duration { min: MS, max: Duration::from_secs(600) };
        /// Databases to run it in, by name or pattern; in the one of the connection string if left out. Its metrics then
        /// have the label `datname`.
        pub databases: Vec<String> = Vec::new(), "databases" => SettingKind::List;
        /// Whether to run it in the database of the connection string alone, whatever `databases` says.
        pub master: bool = false, "master" => SettingKind::Boolean;
        /// Targets to run it on, by name, `host:port` or pattern; all if left out.
        pub targets: Vec<String> = Vec::new(), "targets" => SettingKind::List;
        /// Versions of the server to run it on, such as `>=13.0.0 <16.0.0`; all if left out.
        pub runonserver: Option<String> = None, "runonserver" => SettingKind::Text;
        /// Whether to run it on primaries, on standbys or on both.
        pub role: String = "any".to_owned(), "role" => ROLES;
        /// Most series that it may publish for one database, where that should be less than `series_limit`.
        pub series_limit: Option<usize> = None,
            "series_limit" => SettingKind::Integer { min: 1, max: 1_000_000 };
        /// Where names without a schema are looked for; nowhere but in `pg_catalog` if left out.
        pub search_path: Option<String> = None, "search_path" => SettingKind::Text;
    }

    /// A column of a query's answer, as the file has it.
    pub(super) struct ColumnItem {
        /// The column; with the query's prefix before it, the metric.
        pub name: String = String::new(), "name" => SettingKind::Text;
        /// What it is.
        pub usage: Option<String> = None, "usage" => USAGES;
        /// HELP of the metric.
        pub description: Option<String> = None, "description" => SettingKind::Text;
        /// Of a `mappedmetric`: the number of each text.
        pub metric_mapping: Vec<String> = Vec::new(), "metric_mapping" => SettingKind::Options;
        /// Versions of the server on which the column counts; on others it is discarded.
        pub pg_version: Option<String> = None, "pg_version" => SettingKind::Text;
    }
}

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnUsage {
    /// Nothing.
    Discard,
    /// A label of the query's metrics.
    Label,
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A gauge, by the number that each text stands for.
    Mapped(BTreeMap<String, f64>),
    /// A gauge in milliseconds, from a duration such as `1m30s` or an interval.
    Duration,
    /// A histogram: upper bounds; counts, sum and count are in columns of the same name with `_bucket`, `_sum` and
    /// `_count`.
    Histogram,
}

/// A column of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryColumn {
    /// As the answer has it.
    pub name: String,
    /// What becomes of it.
    pub usage: ColumnUsage,
    /// HELP.
    pub help: String,
    /// On which versions.
    pub versions: Versions,
}

/// On which servers a query runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// On all.
    Any,
    /// Where writes are taken.
    Primary,
    /// In recovery.
    Standby,
}

/// A query of the user's own.
#[derive(Clone, PartialEq)]
pub struct CustomQuery {
    /// Its collector: `query_` and what the file calls it.
    pub name: String,
    /// How the names of its metrics begin.
    pub prefix: String,
    /// The statement, without a semicolon at its end.
    pub sql: String,
    /// In the order of the file.
    pub columns: Vec<QueryColumn>,
    /// Patterns of databases; empty for the one of the connection string.
    pub databases: Vec<String>,
    /// Pause between two runs.
    pub interval: Duration,
    /// `statement_timeout`, where it is less than that of all.
    pub timeout: Option<Duration>,
    /// Patterns of targets; empty for all.
    pub targets: Vec<String>,
    /// Versions of servers.
    pub versions: Versions,
    /// Kind of servers.
    pub role: ServerRole,
    /// Most series.
    pub series_limit: Option<usize>,
    /// Where names without a schema are looked for.
    pub search_path: Option<String>,
    /// Whether it is of postgres_exporter's file: its session has the role's own `search_path`, `TimeZone` and
    /// `row_security`, and columns that the file does not name go out untyped.
    pub theirs: bool,
    /// Why it cannot be run, with its place in the file.
    pub fault: Option<String>,
}

/// Without the statement, which may hold a secret.
impl std::fmt::Debug for CustomQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomQuery").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CustomQuery {
    /// Whether it runs in a database.
    pub fn is_for_database(&self, datname: &str, home: bool) -> bool {
        match self.databases.as_slice() {
            [] => home,
            patterns => patterns.iter().any(|pattern| matches(pattern, datname)),
        }
    }

    /// Whether it runs on a target, which has these names.
    pub fn is_for_target(&self, names: &[String]) -> bool {
        let named = |pattern: &String| names.iter().any(|name| matches(pattern, name));
        self.targets.is_empty() || self.targets.iter().any(named)
    }

    /// The labels of its metrics, in the order of the file; with the database at the end where it runs in several and
    /// has no such column.
    pub fn labels(&self) -> Vec<String> {
        let labels = self.columns.iter().filter(|column| column.usage == ColumnUsage::Label);
        let mut labels: Vec<String> = labels.map(|column| column.name.clone()).collect();
        if self.adds_datname() {
            labels.push("datname".to_owned());
        }
        labels
    }

    /// Whether its metrics get the database as a label.
    pub fn adds_datname(&self) -> bool {
        let own =
            |column: &QueryColumn| column.usage == ColumnUsage::Label && column.name == "datname";
        !self.databases.is_empty() && !self.columns.iter().any(own)
    }

    /// What the metric of a column is called.
    pub fn metric(&self, column: &QueryColumn) -> String {
        let unit = if column.usage == ColumnUsage::Duration { "_milliseconds" } else { "" };
        format!("{}_{}{unit}", self.prefix, column.name)
    }
}

/// Those of one target, by the names that it has.
pub fn for_target(queries: &[Arc<CustomQuery>], names: &[String]) -> Vec<Arc<CustomQuery>> {
    queries.iter().filter(|query| query.is_for_target(names)).cloned().collect()
}

/// How postgres_exporter's file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFile {
    /// As it was named.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal; empty if it could not be read.
    pub hash: String,
    /// What is wrong with it, or with queries in it: place, problem and remedy.
    pub faults: Vec<String>,
}

/// One statement that reads, as it is sent.
fn statement(text: &str) -> Result<String, Fault> {
    let mut sql = text.trim();
    while let Some(rest) = sql.strip_suffix(';') {
        sql = rest.trim_end();
    }
    let word: String = first_word(sql).to_ascii_uppercase();
    let reads = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW"];
    if !reads.contains(&word.as_str()) {
        return Err(Fault::new(
            "is no statement that reads",
            "begin it with SELECT, WITH, VALUES, TABLE or SHOW; it runs in a read-only transaction",
        ));
    }
    if sql.contains('\0') {
        return Err(Fault::new("holds a NUL character", "remove it"));
    }
    Ok(sql.to_owned())
}

/// The first word after comments and parentheses.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            return &rest[..end];
        }
    }
}

/// What follows a comment, which may hold others.
fn after_comment(text: &str) -> &str {
    let (mut rest, mut depth) = (text, 0_u32);
    loop {
        if let Some(after) = rest.strip_prefix("/*") {
            (rest, depth) = (after, depth + 1);
        } else if let Some(after) = rest.strip_prefix("*/") {
            (rest, depth) = (after, depth.saturating_sub(1));
            if depth == 0 {
                return rest;
            }
        } else {
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return "";
            }
            rest = chars.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_reads_is_a_query() {
        for (text, sql) in [
            (" SELECT 1; ; \n", "SELECT 1"),
            ("-- a\n/* b /* c */ */ (select 1)", "-- a\n/* b /* c */ */ (select 1)"),
            ("with x as (select 1) table x;", "with x as (select 1) table x"),
            ("SHOW server_version", "SHOW server_version"),
        ] {
            assert_eq!(statement(text), Ok(sql.to_owned()), "{text}");
        }
        for text in [
            "",
            ";",
            "COMMIT",
            "SET role x",
            "-- SELECT 1",
            "/* SELECT 1",
            "INSERT INTO t VALUES (1)",
            "DO $$ $$",
            "COPY t TO STDOUT",
            "SELECT 'a\0b'",
            "EXPLAIN ANALYZE DELETE FROM t",
        ] {
            assert!(statement(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-/*(;a-zäSELECT \n]{0,40}") {
            let _ = statement(&text);
        }
    }
}
