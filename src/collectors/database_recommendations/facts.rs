//! From what the collectors read to the facts of the rules.
//!
//! Must not: read anything, or judge.

use std::collections::HashMap;

use super::Rows;
use super::indexes::of_indexes;
use crate::collectors::extensions;
use crate::collectors::maintenance;
use crate::collectors::partitions::{self, filled, roots};
use crate::collectors::sizes;
use crate::collectors::vacuum::{
    self,
    standing::{Behind, Standing, standings},
};
use crate::derive::growth::pace;
use crate::derive::index::{Verdicts, judge};
use crate::derive::partition::Moment;
use crate::derive::rollup::Forest;
use crate::findings::{
    DatabaseFacts, ExpectedTable, ExtensionFacts, Gap, Growing, Growth, JobFacts, Leaf, OpenEnded,
    Overdue, Partitioned, TableFacts,
};
use crate::remedy::Relation;

/// The verdicts on the indexes, where they could be read.
pub fn verdicts(rows: &Rows) -> Option<Verdicts> {
    rows.indexes.as_ref().ok().map(|r| judge(&r.facts, &r.limits))
}

/// What the rules look at, with the [`verdicts`] of the same rows. Statements are not among it: that takes
/// their texts, and watching.
pub fn facts(rows: &Rows, verdicts: Option<&Verdicts>) -> DatabaseFacts {
    let partitions =
        rows.partitions.as_ref().map_or_else(|_| DatabaseFacts::default(), of_partitions);
    let indexes = match (&rows.indexes, verdicts) {
        (Ok(rows), Some(verdicts)) => of_indexes(rows, verdicts),
        _ => DatabaseFacts::default(),
    };
    DatabaseFacts {
        datname: rows.datname.clone(),
        version_num: rows.version_num,
        role: rows.role.clone(),
        partitioned: partitions.partitioned,
        expected: partitions.expected,
        odd: rows.odd.as_ref().ok().cloned().flatten(),
        tables: rows.vacuum.as_ref().ok().map(of_vacuum),
        ages: rows.ages.as_ref().ok().cloned(),
        growth: growth(rows),
        jobs: rows.jobs.as_ref().ok().and_then(of_jobs),
        extensions: rows.extensions.as_ref().ok().map(of_extensions),
        not_valid: rows.not_valid.as_ref().ok().cloned(),
        ..indexes
    }
}

/// Extensions with the versions of their files.
pub fn of_extensions(rows: &extensions::Rows) -> Vec<ExtensionFacts> {
    let each = rows.extensions.iter().map(|extension| ExtensionFacts {
        name: extension.extname.clone(),
        installed: extension.installed.clone(),
        available: extension.available.clone(),
    });
    each.collect()
}

/// Jobs of pg_cron that look after partitions, with the last run that is over; `None` where pg_cron cannot be read.
pub fn of_jobs(rows: &maintenance::Rows) -> Option<Vec<JobFacts>> {
    let Some(cron) = &rows.cron else {
        // One that is not there has no jobs.
        let unread = rows.sources.iter().any(|(source, _)| *source == "pg_cron");
        return (!unread).then(Vec::new);
    };
    let each = cron.jobs.iter().filter(|job| job.active).map(|job| {
        let runs = cron.runs.iter().filter(|run| run.job == job.id && run.finished);
        let last = runs.max_by_key(|run| run.id);
        JobFacts {
            name: if job.name.is_empty() { format!("job {}", job.id) } else { job.name.clone() },
            database: job.database.clone(),
            refused: last.is_some_and(|run| run.refused),
            started: last.and_then(|run| run.started),
        }
    });
    Some(each.collect())
}

/// What VACUUM and ANALYZE have left undone.
pub fn of_vacuum(rows: &vacuum::Rows) -> Vec<TableFacts> {
    standings(rows).iter().map(table).collect()
}

/// What the rules about partitions look at, and nothing else.
pub fn of_partitions(rows: &partitions::Rows) -> DatabaseFacts {
    let roots = roots(rows);
    let expected = rows.must_exist.iter().map(|(schema, relname)| {
        let found = roots.iter().find(|r| r.schema == schema && r.relname == relname);
        let lack = match found.map(|root| &root.outlook.runway) {
            None => Some("missing"),
            Some(Err(reason)) => Some(reason.label()),
            Some(Ok(_)) => None,
        };
        ExpectedTable { name: Relation::new(schema, relname), lack }
    });
    DatabaseFacts {
        datname: rows.datname.clone(),
        expected: Some(expected.collect()),
        partitioned: Some(partitioned(rows, &roots)),
        ..DatabaseFacts::default()
    }
}

fn partitioned(rows: &partitions::Rows, roots: &[partitions::Root<'_>]) -> Vec<Partitioned> {
    let wanted = roots.iter().filter(|root| !root.table.rule.ignore);
    let each = wanted.map(|root| {
        let rule = &root.table.rule;
        let mut table = Partitioned {
            name: Relation::new(root.schema, root.relname),
            leaves: root.outlook.leaves as f64,
            partitions: root.outlook.count as f64,
            bytes: root.outlook.pages as f64 * rows.block_size as f64,
            has_default: root.outlook.has_default,
            default_rows: root.outlook.default_rows,
            ..Partitioned::default()
        };
        let runway = match &root.outlook.runway {
            Ok(runway) => runway,
            Err(reason) => {
                table.reason = Some(reason.label());
                return table;
            }
        };
        let from = runway.until.map(Moment::seconds);
        table.until = from;
        table.gap = runway.next.map(|next| Gap { from, to: next.seconds() });
        table.covered = runway.covered;
        let required = rule.required.unwrap_or(rows.required);
        table.open_end = root.outlook.open_end.map(|open| OpenEnded {
            bounded: open.bounded.seconds(rows.now.into()),
            covered: open.bounded.covered,
            rows: open.rows,
        });
        table.runway = Some((runway.seconds(rows.now.into()), required));
        table.max_age = rule.max_age;
        if let (Some(max_age), Some(Moment::At(end))) = (rule.max_age, runway.oldest_data_end) {
            let age = Moment::At(i128::from(rows.now) - end).seconds();
            table.retention_exceeded = Some((age - max_age).max(0.0));
        }
        table
    });
    each.collect()
}

fn table(standing: &Standing<'_>) -> TableFacts {
    let overdue = |behind: &Behind| Overdue {
        tables: behind.tables,
        times: behind.times,
        worst: behind
            .worst
            .iter()
            .map(|(_, one)| Leaf {
                oid: one.oid,
                name: None,
                amount: one.amount,
                live: one.live,
                last: one.last,
            })
            .collect(),
    };
    TableFacts {
        name: Relation::new(standing.schema, standing.relname),
        partitioned: !standing.stored,
        rows: standing.rows,
        vacuum: overdue(&standing.vacuum),
        analyze: overdue(&standing.analyze),
        loaded: overdue(&standing.loaded),
        unanalyzed: standing.unanalyzed,
        off: standing.off,
        scale_factor: standing.scale_factor,
        vacuum_at: standing.vacuum_at,
    }
}

/// Bytes of a table with its TOAST and indexes.
#[derive(Debug, Clone, Copy, Default)]
struct TableBytes {
    bytes: f64,
    estimated: bool,
    unknown: bool,
}

impl TableBytes {
    fn add(&mut self, relation: &sizes::SizedRelation) {
        // Bytes on disk are far below 2^53. One without a size that is no estimate was dropped.
        self.bytes += relation.bytes.unwrap_or(0) as f64;
        self.estimated |= relation.estimated;
        self.unknown |= relation.estimated && relation.bytes.is_none();
    }
}

/// `None` without sizes. A table of which a part has no size is left out: too little looks like no growth.
fn growth(rows: &Rows) -> Option<Growth> {
    let (Ok(partitions), Ok(sizes)) = (&rows.partitions, &rows.sizes) else { return None };
    let tables = sizes.relations.iter().filter(|r| r.index_of.is_none());
    let forest = Forest::new(tables.filter_map(|r| Some((r.table.id, r.table.parent?))));
    let (mut by_leaf, mut by_root) = (HashMap::new(), HashMap::new());
    for relation in &sizes.relations {
        let table = relation.index_of.unwrap_or(relation.table.id);
        by_leaf.entry(table).or_insert_with(TableBytes::default).add(relation);
        by_root.entry(forest.root(table)).or_insert_with(TableBytes::default).add(relation);
    }
    let now = Moment::At(partitions.now.into()).seconds();
    let slices = filled(partitions, |oid| by_leaf.get(&oid).map_or(0.0, |size| size.bytes));
    let named = partitions.tables.iter().filter(|table| !table.rule.ignore);
    let tables = named.filter_map(|table| {
        let (schema, relname) = table.name.as_ref()?;
        let slices = slices.get(&table.oid)?;
        let size = by_root.get(&table.oid).filter(|size| !size.unknown)?;
        let pace = pace(slices, now)?;
        Some(Growing {
            name: Relation::new(schema, relname),
            bytes: size.bytes,
            per_day: pace.per_day,
            span: pace.to - pace.from,
            oldest: slices.iter().map(|slice| slice.from).fold(f64::INFINITY, f64::min),
            kept: table.rule.max_age,
            estimated: size.estimated,
        })
    });
    let mut tables: Vec<Growing> = tables.collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Growth { bytes: by_root.values().map(|size| size.bytes).sum(), tables })
}
