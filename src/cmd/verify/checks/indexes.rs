//! Indexes: those that are expected, broken, unused, needless, missing or bloated, by the same verdicts
//! as the exporter's collector.
//!
//! Must not: judge in another way than `derive::index` does, or say how to mend (`build` does).

use std::collections::{HashMap, HashSet};

use super::super::check::{Check, Context, Finding, Found, Scope, Severity};
use super::build::{self, Names};
use super::create::Create;
use super::{counted, sorted, thousands};
use crate::collectors::index_health::catalogue;
use crate::config::IndexRule;
use crate::derive::index::{
    Expected, ExpectedKey, Facts, How, Index, Invalid, Judged, Limits, Met, NullsOrder, Table,
    TableKind, Usage, Verdicts, judge, meets,
};
use crate::derive::units::{bytes, instant, seconds};
use crate::error::CollectError;

const LOCKS: &str = "none to judge; ACCESS SHARE for a moment on tables that something is found on, to print \
                SQL";

const fn check(
    id: &'static str,
    severity: Severity,
    finds: &'static str,
    why: &'static str,
) -> Check {
    Check::always(id, severity, Scope::Database, [finds, why, LOCKS])
}

static MISSING: Check = Check {
    run: Some(|cx| Box::pin(missing(cx))),
    ..check(
        "index.missing",
        Severity::Critical,
        "An index that the list `indexes` expects and that is not there, or not valid.",
        "The queries that it was made for read the whole table, and constraints are not kept.",
    )
};
static INVALID: Check = Check {
    run: Some(|cx| Box::pin(invalid(cx))),
    ..check(
        "index.invalid",
        Severity::Critical,
        "An index that is not valid, ready and live, and that nobody is building just now.",
        "A CONCURRENTLY failed: no query uses it, but every write keeps it up, and a unique one keeps \
         nothing unique that was there before.",
    )
};
static COVERAGE: Check = Check {
    run: Some(|cx| Box::pin(coverage(cx))),
    ..check(
        "index.partition_coverage",
        Severity::Critical,
        "An index of a partitioned table that some of its partitions do not have.",
        "Queries read those partitions from end to end, and new partitions are the only ones that get it \
         by themselves.",
    )
};
static UNUSED: Check = Check {
    run: Some(|cx| Box::pin(unused(cx))),
    ..check(
        "index.unused",
        Severity::Info,
        "An index without a scan since the statistics count, if that is as long as \
         `collectors.indexhealth.unused_after`; not one that keeps a constraint or serves a foreign key.",
        "Every write keeps it up, and it takes memory from those that are read.",
    )
};
static DUPLICATE: Check = Check {
    run: Some(|cx| Box::pin(duplicate(cx))),
    ..check(
        "index.duplicate",
        Severity::Warning,
        "An index that is the same as another.",
        "It costs as much as the other and gives nothing.",
    )
};
static REDUNDANT: Check = Check {
    run: Some(|cx| Box::pin(redundant(cx))),
    ..check(
        "index.redundant",
        Severity::Info,
        "An index whose work another one does as well, because it begins with the same columns.",
        "Every write keeps it up; it is worth that only where the other is much larger and both are read \
         a lot.",
    )
};
static FOREIGN_KEY: Check = Check {
    run: Some(|cx| Box::pin(foreign_key(cx))),
    ..check(
        "index.foreign_key",
        Severity::Warning,
        "A foreign key without an index on the referencing side, of a table that is not small \
         (`collectors.indexes.minimum_rows`).",
        "Each row that is deleted or gets another key on the referenced side reads that whole table, \
         under a lock.",
    )
};
static SEQ_SCANS: Check = Check {
    run: Some(|cx| Box::pin(sequential(cx))),
    ..check(
        "index.sequential_scans",
        Severity::Info,
        "A table over `collectors.indexhealth.seq_scan_bytes` that is read from end to end more often \
         than by its indexes.",
        "An index may be missing: look for the statements that read it in pg_stat_statements.",
    )
};
pub(super) static CHECKS: &[&Check] =
    &[&MISSING, &INVALID, &COVERAGE, &UNUSED, &DUPLICATE, &REDUNDANT, &FOREIGN_KEY, &SEQ_SCANS];

/// What is known of the indexes of a database, and what is to say about them.
pub(in crate::cmd::verify) struct Book {
    pub(super) facts: Facts,
    verdicts: Verdicts,
    tables: HashMap<i64, usize>,
    indexes: HashMap<i64, usize>,
}

impl Book {
    async fn read(cx: &Context<'_>) -> Result<Self, CollectError> {
        let facts = catalogue::facts(cx.session, catalogue::Names::All).await?;
        let settings = &cx.session.settings().indexes;
        let limits = Limits {
            unused_after: settings.unused_after,
            minimum_rows: settings.minimum_rows as f64,
            seq_scan_bytes: settings.seq_scan_bytes as f64,
        };
        let verdicts = judge(&facts, &limits);
        let tables = facts.tables.iter().enumerate().map(|(at, t)| (t.id, at)).collect();
        let indexes = facts.indexes.iter().enumerate().map(|(at, i)| (i.id, at)).collect();
        Ok(Self { facts, verdicts, tables, indexes })
    }

    fn table(&self, id: i64) -> Option<&Table> {
        self.facts.tables.get(*self.tables.get(&id)?)
    }

    pub(super) fn index(&self, id: i64) -> Option<&Index> {
        self.facts.indexes.get(*self.indexes.get(&id)?)
    }

    /// `public.orders`.
    fn table_name(&self, id: i64) -> String {
        match self.table(id).and_then(|t| t.name.as_ref()) {
            Some((schema, name)) => format!("{schema}.{name}"),
            None => format!("table {id}"),
        }
    }

    /// `public.orders.orders_pkey`.
    pub(super) fn index_name(&self, id: i64) -> String {
        match self.index(id) {
            Some(index) => {
                let name = index.name.as_deref().unwrap_or("?");
                format!("{}.{name}", self.table_name(index.table))
            }
            None => format!("index {id}"),
        }
    }

    fn partitioned(&self, table: i64) -> bool {
        self.table(table).is_some_and(|t| t.kind == TableKind::Partitioned)
    }

    fn size(&self, pages: f64) -> String {
        bytes(pages * self.facts.block_size)
    }

    /// Whether an index, or the one that it is attached to, is to go anyway.
    pub(super) fn is_unused(&self, id: i64) -> bool {
        let mut root = id;
        // No chain is longer than there are indexes.
        for _ in 0..self.facts.indexes.len() {
            let Some(parent) = self.index(root).and_then(|index| index.parent) else { break };
            root = parent;
        }
        let judged = self.verdicts.indexes.iter().find(|judged| judged.id == root);
        judged.is_some_and(|judged| matches!(judged.usage, Usage::Unused { .. }))
    }

    fn of(&self, table: i64) -> impl Iterator<Item = &Index> {
        self.facts.indexes.iter().filter(move |i| i.table == table && i.parent.is_none())
    }
}

pub(super) async fn book<'a>(cx: &'a Context<'_>) -> Result<&'a Book, CollectError> {
    cx.indexes.get_or_try_init(|| Book::read(cx)).await
}

/// A rule of the file, as the verdicts take it.
fn expected(rule: &IndexRule) -> Expected {
    let columns = rule.columns.iter().map(|column| ExpectedKey {
        column: column.name.clone(),
        descending: column.descending,
        nulls: column.nulls_first.map(|first| match first {
            true => NullsOrder::First,
            false => NullsOrder::Last,
        }),
    });
    Expected { name: rule.name.clone(), columns: columns.collect(), unique: rule.unique }
}

async fn missing(cx: &Context<'_>) -> Result<Found, CollectError> {
    let settings = &cx.session.settings().indexes;
    let book = book(cx).await?;
    let roots = || book.facts.tables.iter().filter(|t| t.parent.is_none());
    let mut wanted: Vec<(&Table, &IndexRule)> = Vec::new();
    for table in roots() {
        let Some((schema, name)) = &table.name else { continue };
        wanted.extend(settings.expected(cx.datname(), schema, name).map(|rule| (table, rule)));
    }
    let mut findings = Vec::new();
    let mut total = wanted.len();
    for (schema, name, rule) in settings.exact(cx.datname()) {
        let named = |t: &Table| t.name.as_ref().is_some_and(|(s, n)| s == schema && n == name);
        if !roots().any(named) {
            total += 1;
            findings.push(MISSING.finding(
                format!("{schema}.{name}.{}", rule.describe()),
                format!("there is no table {schema}.{name} that could have it"),
            ));
        }
    }
    if total == 0 {
        return Ok(Found::skipped(
            "the list `indexes` of the file expects nothing of this database",
        ));
    }
    let tables: Vec<i64> = wanted.iter().map(|(table, _)| table.id).collect();
    let columns = catalogue::columns(cx.session, &tables).await?;
    let mut met = HashSet::new();
    for (table, rule) in &wanted {
        let column = |number| columns.get(&(table.id, number)).map(String::as_str);
        let object = format!("{}.{}", book.table_name(table.id), rule.describe());
        match meets(&expected(rule), book.of(table.id), column) {
            Met::Yes(id) => {
                met.insert(id);
            }
            Met::Invalid(id) => {
                let finding = MISSING.finding(object, "it is there, but not valid");
                findings.push(build::validate(cx, finding, id).await);
            }
            Met::No => {
                let unique = if rule.unique { "unique index" } else { "index" };
                let finding = MISSING.finding(object, format!("there is no such {unique}"));
                findings.push(build::create(cx, finding, table, rule).await);
            }
        }
    }
    let tables: HashSet<i64> = tables.into_iter().collect();
    let others = book.verdicts.indexes.iter().filter(|i| tables.contains(&i.table));
    let others = others.filter(|i| !met.contains(&i.id)).count();
    let mut summary =
        format!("{}, {} present", counted(total, "index", "expected"), total - findings.len());
    if others > 0 && findings.is_empty() {
        summary.push_str(&format!("; {others} more on the same tables"));
    }
    Ok(Found::new(summary, sorted(findings)))
}

async fn invalid(cx: &Context<'_>) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let mut findings = Vec::new();
    for judged in &book.verdicts.indexes {
        if judged.invalid != Some(Invalid::Broken) {
            continue;
        }
        let flags = book.index(judged.id).map_or([true; 3], |index| index.valid);
        let missing: Vec<&str> = ["valid", "ready", "live"]
            .into_iter()
            .zip(flags)
            .filter_map(|(word, holds)| (!holds).then_some(word))
            .collect();
        let found = match missing.as_slice() {
            [] => "a part of it is not valid".to_owned(),
            words => format!("it is not {}", words.join(" and not ")),
        };
        let finding = INVALID.finding(book.index_name(judged.id), found);
        findings.push(build::validate(cx, finding, judged.id).await);
    }
    let building = book.facts.indexes.iter().filter(|i| i.building && !i.usable()).count();
    let mut summary = counted(book.facts.indexes.len(), "index", "looked at");
    if building > 0 {
        summary.push_str(&format!(", {building} being built"));
    }
    Ok(Found::new(summary, sorted(findings)))
}

async fn coverage(cx: &Context<'_>) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let mut findings = Vec::new();
    let mut covered = 0;
    for judged in &book.verdicts.indexes {
        let Some(coverage) = &judged.coverage else { continue };
        if coverage.missing.is_empty() {
            covered += 1;
            continue;
        }
        let some: Vec<String> =
            coverage.missing.iter().take(3).map(|leaf| book.table_name(*leaf)).collect();
        let more = coverage.missing.len() - some.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let found = format!(
            "{} of {} partitions have it; not {}{more}",
            coverage.leaves - coverage.missing.len(),
            coverage.leaves,
            some.join(", ")
        );
        let finding = COVERAGE.finding(book.index_name(judged.id), found);
        findings.push(build::validate(cx, finding, judged.id).await);
    }
    let total = covered + findings.len();
    let noun = counted(total, "index", "of partitioned tables");
    Ok(Found::new(format!("{noun}, {covered} on every partition"), sorted(findings)))
}

/// Adds what drops an index, unless it keeps a constraint.
fn drop_it(
    cx: &Context<'_>,
    book: &Book,
    names: &Names,
    finding: Finding,
    judged: &Judged,
    cover: Option<i64>,
) -> Finding {
    let needless = build::Needless {
        index: judged.id,
        table: judged.table,
        cover,
        constraint: book.index(judged.id).is_some_and(|index| index.constraint.is_some()),
        partitioned: book.partitioned(judged.table),
    };
    build::drop_index(cx, names, finding, &needless)
}

async fn unused(cx: &Context<'_>) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let unused = |judged: &&Judged| matches!(judged.usage, Usage::Unused { .. });
    let some: Vec<&Judged> = book.verdicts.indexes.iter().filter(unused).collect();
    let names = Names::read(cx, &ids(&some)).await?;
    let mut findings = Vec::new();
    for judged in some {
        let Usage::Unused { since } = judged.usage else { continue };
        let found = format!(
            "not scanned once since {} ({}), {}",
            instant(since),
            seconds(book.facts.now - since),
            book.size(judged.pages)
        );
        let finding = UNUSED.finding(book.index_name(judged.id), found);
        let finding = drop_it(cx, book, &names, finding, judged, None);
        let note = "Each server counts for itself: look at the standbys too, and think of what runs once \
                    a month.";
        findings.push(match &finding.caution {
            Some(caution) => {
                let both = format!("{note} {caution}");
                finding.caution(both)
            }
            None => finding.caution(note),
        });
    }
    let count =
        |f: fn(&Usage) -> bool| book.verdicts.indexes.iter().filter(|j| f(&j.usage)).count();
    let summary = format!(
        "{} used, {} needed anyway, {} not known for long enough",
        counted(count(|u| matches!(u, Usage::Used)), "index", ""),
        count(|u| matches!(u, Usage::Exempt(_))),
        count(|u| matches!(u, Usage::TooEarly { .. }))
    );
    Ok(Found::new(summary, sorted(findings)))
}

fn ids(judged: &[&Judged]) -> Vec<i64> {
    judged
        .iter()
        .flat_map(|j| [Some(j.id), Some(j.table), j.cover.map(|cover| cover.by)])
        .flatten()
        .collect()
}

async fn covered(
    cx: &Context<'_>,
    check: &'static Check,
    ways: &[How],
) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let chosen = |j: &&Judged| j.cover.is_some_and(|cover| ways.contains(&cover.how));
    let some: Vec<&Judged> = book.verdicts.indexes.iter().filter(chosen).collect();
    let names = Names::read(cx, &ids(&some)).await?;
    let mut findings = Vec::new();
    for judged in some {
        let Some(cover) = judged.cover else { continue };
        let by = book.index(cover.by).and_then(|i| i.name.as_deref()).unwrap_or("?");
        let how = match cover.how {
            How::Duplicate => "is the same",
            How::Twin => "has the same keys",
            How::Prefix => "begins with the same keys",
        };
        let scans = match judged.scans {
            0.0 => "never scanned".to_owned(),
            n => format!("scanned {} times", thousands(n)),
        };
        let found = format!("{by} {how}; it has {} and was {scans}", book.size(judged.pages));
        let finding = check.finding(book.index_name(judged.id), found);
        findings.push(drop_it(cx, book, &names, finding, judged, Some(cover.by)));
    }
    Ok(Found::new(counted(book.verdicts.indexes.len(), "index", "compared"), sorted(findings)))
}

async fn duplicate(cx: &Context<'_>) -> Result<Found, CollectError> {
    covered(cx, &DUPLICATE, &[How::Duplicate]).await
}

async fn redundant(cx: &Context<'_>) -> Result<Found, CollectError> {
    covered(cx, &REDUNDANT, &[How::Twin, How::Prefix]).await
}

async fn foreign_key(cx: &Context<'_>) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let keys = &book.facts.foreign_keys;
    let tables: Vec<i64> = keys.iter().map(|key| key.table).collect();
    let columns = catalogue::columns(cx.session, &tables).await?;
    let mut findings = Vec::new();
    let mut small = 0;
    for unindexed in &book.verdicts.unindexed {
        if unindexed.small {
            small += 1;
            continue;
        }
        let Some(key) = keys.get(unindexed.foreign_key) else { continue };
        let names: Vec<&str> = key
            .columns
            .iter()
            .filter_map(|number| columns.get(&(key.table, *number)).map(String::as_str))
            .collect();
        let [rows, referenced] = unindexed.rows;
        let found = format!(
            "no index begins with ({}) of {}: about {} rows, {} in {}",
            names.join(", "),
            key.name,
            thousands(rows),
            thousands(referenced),
            book.table_name(key.references)
        );
        let finding = FOREIGN_KEY.finding(book.table_name(key.table), found);
        // A constraint's name is unique in its table only, an index's in its schema.
        let named = book.table(key.table).and_then(|t| t.name.as_ref());
        let table = named.map_or("", |(_, name)| name.as_str());
        let name = match key.name.starts_with(table) {
            true => format!("{}_idx", key.name),
            false => format!("{table}_{}_idx", key.name),
        };
        let create = Create::on_columns(&name, &names);
        findings.push(build::new_index(cx, finding, key.table, &create).await);
    }
    let indexed = keys.len() - book.verdicts.unindexed.len();
    let mut summary =
        format!("{}, {indexed} with an index", counted(keys.len(), "foreign key", ""));
    if small > 0 {
        summary.push_str(&format!(", {small} of small tables without"));
    }
    Ok(Found::new(summary, sorted(findings)))
}

async fn sequential(cx: &Context<'_>) -> Result<Found, CollectError> {
    let book = book(cx).await?;
    let findings = book
        .verdicts
        .seq_scanned
        .iter()
        .map(|found| {
            let [scans, by_index] = found.scans;
            SEQ_SCANS.finding(
                book.table_name(found.table),
                format!(
                    "{} sequential scans of {} rows each, {} by index; {}",
                    thousands(scans),
                    thousands(found.rows_per_scan),
                    thousands(by_index),
                    bytes(found.bytes)
                ),
            )
        })
        .collect();
    let roots = book.facts.tables.iter().filter(|t| t.parent.is_none()).count();
    Ok(Found::new(counted(roots, "table", "looked at"), sorted(findings)))
}
