//! The section about indexes.
//!
//! Must not: judge; `derive::index` does.

use super::document::{Block, Cell, Line, Table, figure, name, words};
use super::gather::{Gathered, ReportedDatabase};
use super::plot::{Plot, PlotUnit};
use crate::cmd::words::counted;
use crate::collectors::database_recommendations::{Known, known};
use crate::derive::index::{Exemption, How, Invalid, Usage};
use crate::derive::units::{bytes, seconds};

const SOURCE: &str = "pg_index, pg_class, pg_stat_user_indexes, pg_constraint; scans of partitions' indexes \
                      count for the root's";

/// The section.
pub fn section(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("indexes", "Index status"));
    for database in &gathered.databases {
        let known = known(&database.indexes, &database.verdicts);
        if known.is_empty() {
            continue;
        }
        out.push(Block::Heading(format!("Database {}", database.name)));
        let mut tables: Vec<(&str, &str)> = known.iter().map(|k| (k.schema, k.table)).collect();
        tables.dedup();
        let constraints = known.iter().filter(|k| k.index.constraint.is_some()).count();
        out.push(Block::Text(Line::default().text(format!(
            "{} on {} ({} of them behind a constraint). An index of a partitioned table is counted once, \
             with its parts on the partitions.",
            counted(known.len(), "index"),
            counted(tables.len(), "table"),
            constraints
        ))));
        out.push(Block::Table(Table {
            head: vec!["table", "index", "verdict", "scans", "last scan", "size", "partitions"],
            rows: known.iter().map(|k| row(database, k)).collect(),
        }));
        let mut used: Vec<(String, f64)> =
            known.iter().map(|k| (k.name.to_owned(), k.judged.scans)).collect();
        used.sort_by(|a, b| b.1.total_cmp(&a.1));
        used.truncate(30);
        out.push(Block::Plot(Plot::Bars {
            caption: format!("Scans of each index of {} since statistics began", database.name),
            unit: PlotUnit::Count,
            rows: used,
        }));
        let age = seconds(database.indexes.now - database.indexes.since);
        out.push(Block::Source(format!(
            "{SOURCE}; statistics count for {age}; sizes by pg_class.relpages, as of the last VACUUM or \
             ANALYZE"
        )));
    }
}

fn row(database: &ReportedDatabase, k: &Known) -> Vec<Cell> {
    let now = database.indexes.now;
    let verdict = match (k.judged.invalid, k.judged.cover, k.judged.usage) {
        (Some(Invalid::Broken), ..) => words("invalid"),
        (Some(Invalid::Unattached), ..) => words("missing on partitions"),
        (None, Some(cover), _) => {
            words(if cover.how == How::Duplicate { "duplicate" } else { "redundant" })
        }
        (None, None, Usage::Used) => words("used"),
        (None, None, Usage::Unused { since }) => {
            words(format!("unused for {}", seconds(now - since)))
        }
        (None, None, Usage::TooEarly { since }) => {
            words(format!("no scan in {}; too early to judge", seconds(now - since)))
        }
        (None, None, Usage::Exempt(why)) => words(match why {
            Exemption::Primary => "needed: primary key",
            Exemption::Unique => "needed: unique",
            Exemption::Exclusion => "needed: exclusion constraint",
            Exemption::ReplicaIdentity => "needed: replica identity",
            Exemption::ForeignKey => "needed: foreign key",
            Exemption::Invalid => "invalid",
        }),
    };
    let parts = k
        .judged
        .coverage
        .as_ref()
        .map(|c| format!("{} of {}", c.leaves - c.missing.len(), c.leaves));
    vec![
        name(k.table),
        name(k.name),
        verdict,
        figure(Some(format!("{:.0}", k.judged.scans))),
        figure(k.judged.last_scan.map(|at| format!("{} ago", seconds((now - at).max(0.0))))),
        figure(Some(bytes(k.judged.pages * database.indexes.block_size))),
        figure(parts),
    ]
}
