//! Rules about indexes, by the verdicts of `derive::index`.
//!
//! Must not: judge in another way than these verdicts do.

use super::facts::{Bloated, DatabaseFacts, FaultyIndex, IndexFault, Lack};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{bytes, instant, seconds, thousands};
use crate::remedy::create::Create;
use crate::remedy::index::{self, There};
use crate::remedy::tree::{Fix, Tree};
use crate::remedy::{Relation, Script};

const HALF: f64 = 0.5;
/// Bytes that hold nothing, from which on it matters.
const WASTED: f64 = 10e6;
/// Bytes of an index whose bloat matters: where one so large cannot be estimated, nothing is said of any.
pub const LARGE_INDEX: f64 = 100.0 * 1_048_576.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "index.missing",
        formerly: &[],
        title: "Create the index that is expected",
        severity: Severity::Critical,
        finds: "an index that the list `indexes` expects is not there, or not valid",
        why: "Queries that need it read the whole table; if it is unique, duplicates get in.",
        source: "pg_index, the configuration",
        alerts: &["PostgresIndexExpectedMissing"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(missing),
    },
    &Rule {
        id: "index.invalid",
        formerly: &["indexes.invalid"],
        title: "Rebuild or drop invalid indexes",
        severity: Severity::Critical,
        finds: "an index is not valid, ready and live, and is not being built",
        why: "CREATE INDEX or REINDEX CONCURRENTLY failed: no query uses it, but every write maintains it, and \
              a unique one does not make sure that older rows are unique.",
        source: "pg_index.indisvalid, indisready, indislive",
        alerts: &["PostgresIndexInvalid"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(invalid),
    },
    &Rule {
        id: "index.partition_coverage",
        formerly: &[],
        title: "Complete indexes on the partitions that lack them",
        severity: Severity::Critical,
        finds: "some partitions do not have an index of their partitioned table",
        why: "Queries read those partitions from end to end; only new partitions get the index automatically.",
        source: "pg_index, pg_inherits",
        alerts: &["PostgresIndexInvalid"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(coverage),
    },
    &Rule {
        id: "index.unused",
        formerly: &["indexes.unused"],
        title: "Drop indexes that nothing uses",
        severity: Severity::Info,
        finds: "no scan since the statistics began, at least collectors.indexhealth.unused_after ago; without \
                indexes that enforce a constraint or support a foreign key",
        why: "Every write maintains it, and it takes memory from indexes that are used.",
        source: "pg_stat_user_indexes.idx_scan, pg_stat_database.stats_reset",
        alerts: &["PostgresIndexUnused"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(unused),
    },
    &Rule {
        id: "index.duplicate",
        formerly: &["indexes.duplicate"],
        title: "Drop indexes that are the same as another",
        severity: Severity::Warning,
        finds: "same table, columns, classes, order and predicate as another index",
        why: "It costs as much as the other and adds nothing.",
        source: "pg_index, pg_constraint",
        alerts: &["PostgresIndexRedundant"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(duplicate),
    },
    &Rule {
        id: "index.redundant",
        formerly: &[],
        title: "Consider dropping indexes that another one begins with",
        severity: Severity::Info,
        finds: "its columns are the first ones of another index, with the same classes, order and predicate",
        why: "Every write maintains it; that pays only if the other one is much larger and both are scanned often.",
        source: "pg_index, pg_constraint",
        alerts: &["PostgresIndexRedundant"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(redundant),
    },
    &Rule {
        id: "index.foreign_key",
        formerly: &[],
        title: "Index foreign keys",
        severity: Severity::Warning,
        finds: "a foreign key has no index on the referencing table, and the table is not small \
                (collectors.indexes.minimum_rows)",
        why: "Each DELETE or key change of a referenced row reads the whole referencing table, under a lock.",
        source: "pg_constraint, pg_index, pg_class.reltuples",
        alerts: &["PostgresForeignKeyUnindexed"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(foreign_key),
    },
    &Rule {
        id: "index.sequential_scans",
        formerly: &[],
        title: "Find the index that large scans lack",
        severity: Severity::Info,
        finds: "a table over collectors.indexhealth.seq_scan_bytes is read from end to end more often than by its \
                indexes",
        why: "An index may be missing: look for the statements that read it in pg_stat_statements.",
        source: "pg_stat_user_tables.seq_scan, seq_tup_read, idx_scan; pg_class.relpages",
        alerts: &["PostgresIndexScanRatioLow"],
        part: Part::Indexes,
        when: When::Always,
        check: Check::Database(sequential),
    },
    &Rule {
        id: "index.bloat",
        formerly: &["indexes.bloat"],
        title: "Rebuild bloated indexes",
        severity: Severity::Warning,
        finds: "more than half of a B-tree, and at least 10 MB, is empty, estimated (or, with --exact, measured \
                by pgstattuple); without unused indexes",
        why: "It takes memory and disk, and scans read more pages than they need.",
        source: "pg_class.relpages, pg_stats.avg_width (an estimate; `pgrunway verify --exact` measures)",
        alerts: &[],
        part: Part::Bloat,
        when: When::Always,
        check: Check::Database(bloat),
    },
    &Rule {
        id: "index.corrupt",
        formerly: &[],
        title: "Rebuild corrupt indexes",
        severity: Severity::Critical,
        finds: "the entries of a B-tree are out of order, by amcheck's bt_index_check(); with --exact also: it lacks \
                rows of its table",
        why: "Queries that use it miss rows, and a unique one lets duplicates in; a new version of the \
              collation library can cause this.",
        source: "bt_index_check() (`pgrunway verify --with index.corrupt`)",
        alerts: &[],
        part: Part::Corruption,
        when: When::OnRequest,
        check: Check::Database(corrupt),
    },
];

fn each(d: &DatabaseFacts, check: impl Fn(&FaultyIndex) -> Option<Finding>) -> Verdict {
    Some(d.indexes.as_ref()?.iter().filter_map(check).collect())
}

fn subject(table: &Relation, name: &str) -> Subject {
    Subject::Index(table.clone(), name.to_owned())
}

fn finding(i: &FaultyIndex, evidence: String) -> Finding {
    Finding::new(subject(&i.table, &i.name), evidence).figure("size", i.bytes, Unit::Bytes)
}

/// Adds what the partition tree of a table says of it, where that was read.
fn by_tree(
    d: &DatabaseFacts,
    table: i64,
    finding: Finding,
    how: impl FnOnce(&Tree) -> Fix,
) -> Finding {
    match d.trees.get(&table) {
        None => finding,
        Some(Err(why)) => finding.also(format!("No SQL: {}.", why.trim_end_matches('.'))),
        Some(Ok(tree)) => {
            let fix = how(tree);
            let finding = finding.also(fix.note);
            match fix.script {
                Some(script) => finding.remedy(script),
                None => finding,
            }
        }
    }
}

fn missing(d: &DatabaseFacts) -> Verdict {
    let found = d.wanted.as_ref()?.iter().filter_map(|w| {
        let lack = w.lack?;
        let subject = subject(&w.table, &w.what);
        let kind = if w.unique { "unique index" } else { "index" };
        let finding = match lack {
            Lack::Table => {
                Finding::new(subject, format!("There is no table {}.", w.table.display()))
            }
            Lack::Index => Finding::new(subject, format!("There is no such {kind}.")),
            Lack::Valid(_) => Finding::new(subject, "It exists, but is not valid."),
        };
        Some(match (w.table_oid, lack) {
            (Some(table), Lack::Valid(oid)) => {
                by_tree(d, table, finding, |tree| tree.validate(&d.datname, oid))
            }
            (Some(table), _) => by_tree(d, table, finding, |tree| tree.make(&d.datname, &w.make)),
            (None, _) => finding.advice("Create the table, or remove the index from the list."),
        })
    });
    Some(found.collect())
}

fn invalid(d: &DatabaseFacts) -> Verdict {
    each(d, |i| {
        let IndexFault::Invalid(flags) = i.fault else { return None };
        let missing: Vec<&str> = ["valid", "ready", "live"]
            .into_iter()
            .zip(flags)
            .filter_map(|(word, holds)| (!holds).then_some(word))
            .collect();
        let what = match missing.as_slice() {
            [] => "A part of it is not valid".to_owned(),
            words => format!("It is not {}", words.join(" and not ")),
        };
        let finding = finding(i, format!("{what}; every change maintains {}.", bytes(i.bytes)));
        Some(by_tree(d, i.table_oid, finding, |tree| tree.validate(&d.datname, i.oid)))
    })
}

fn coverage(d: &DatabaseFacts) -> Verdict {
    let found = d.partial.as_ref()?.iter().filter(|p| p.missing > 0).map(|p| {
        let more = match p.missing.saturating_sub(p.first.len()) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let evidence = format!(
            "{} of {} partitions have it; missing on {}{more}.",
            p.leaves.saturating_sub(p.missing),
            p.leaves,
            p.first.join(", ")
        );
        let finding = Finding::new(subject(&p.table, &p.name), evidence)
            // There are at most some thousands.
            .figure("partitions", p.leaves as f64, Unit::Count)
            .figure("missing", p.missing as f64, Unit::Count);
        by_tree(d, p.table_oid, finding, |tree| tree.validate(&d.datname, p.oid))
    });
    Some(found.collect())
}

fn rebuild(
    d: &DatabaseFacts,
    oid: i64,
    table: &Relation,
    index: &Relation,
    exclusion: bool,
) -> Script {
    index::rebuilding(&d.datname, &There { oid, index, table }, exclusion)
}

/// What a constraint rests on is not dropped by a script.
fn drop(d: &DatabaseFacts, i: &FaultyIndex, finding: Finding) -> Finding {
    if i.constraint {
        return finding.also(
            "No SQL: it enforces a constraint, which statements may name (ON CONFLICT) and foreign keys may \
             need. If both constraints are the same, drop one by hand, at a quiet hour, with lock_timeout set.",
        );
    }
    let named = |name: &str| Relation::new(i.table.schema.as_str(), name);
    // One that is not used needs nobody to do its work.
    let needed = !matches!(i.fault, IndexFault::Unused { .. });
    let other = i.cover.as_ref().filter(|_| needed).map(|(oid, name)| (*oid, named(name)));
    let cover = other.as_ref().map(|(oid, index)| There { oid: *oid, index, table: &i.table });
    let index = named(&i.name);
    let which = There { oid: i.oid, index: &index, table: &i.table };
    finding.remedy(index::dropping(&d.datname, &which, cover.as_ref(), i.partitioned))
}

fn unused(d: &DatabaseFacts) -> Verdict {
    each(d, |i| {
        let IndexFault::Unused { since, seconds: s } = i.fault else { return None };
        let evidence =
            format!("No scan since {} ({}); {}.", instant(since), seconds(s), bytes(i.bytes));
        let finding = finding(i, evidence).figure("watched", s, Unit::Seconds).advice(
            "Each server counts its own scans: check the primary and all standbys, and think of what runs once \
             a month.",
        );
        Some(drop(d, i, finding))
    })
}

/// The other index, its size and scans of this one.
fn covered(i: &FaultyIndex, how: &str) -> Finding {
    let by = i.cover.as_ref().map_or("?", |(_, name)| name.as_str());
    let scans = match i.scans {
        n if n < 0.5 => "never scanned".to_owned(),
        n => format!("scanned {} times", thousands(n)),
    };
    finding(i, format!("{by} {how}; this one has {} and was {scans}.", bytes(i.bytes))).figure(
        "scans",
        i.scans,
        Unit::Count,
    )
}

fn duplicate(d: &DatabaseFacts) -> Verdict {
    each(d, |i| {
        matches!(i.fault, IndexFault::Duplicate).then(|| {
            let finding = covered(i, "is the same");
            drop(d, i, finding.advice("The other index serves the same statements."))
        })
    })
}

fn redundant(d: &DatabaseFacts) -> Verdict {
    each(d, |i| {
        let IndexFault::Redundant { twin } = i.fault else { return None };
        let how = if twin { "has the same keys" } else { "begins with the same keys" };
        let advice = "The other index can serve the same statements, but reads more pages if it is much larger: \
                      compare their scans first.";
        Some(drop(d, i, covered(i, how).advice(advice)))
    })
}

fn foreign_key(d: &DatabaseFacts) -> Verdict {
    let found = d.keys.as_ref()?.iter().map(|key| {
        let [rows, referenced] = key.rows;
        let evidence = format!(
            "No index begins with ({}) of {}: about {} rows, {} in {}.",
            key.columns.join(", "),
            key.name,
            thousands(rows),
            thousands(referenced),
            key.references
        );
        let finding = Finding::new(Subject::Relation(key.table.clone()), evidence)
            .figure("rows", rows, Unit::Count)
            .figure("referenced", referenced, Unit::Count);
        // A constraint's name is unique in its table only, an index's in its schema.
        let table = key.table.name.as_str();
        let name = match key.name.starts_with(table) {
            true => format!("{}_idx", key.name),
            false => format!("{table}_{}_idx", key.name),
        };
        let columns: Vec<&str> = key.columns.iter().map(String::as_str).collect();
        let create = Create::on_columns(&name, &columns);
        by_tree(d, key.table_oid, finding, |tree| tree.create(&d.datname, &create))
    });
    Some(found.collect())
}

fn sequential(d: &DatabaseFacts) -> Verdict {
    let found = d.scanned.as_ref()?.iter().map(|t| {
        let [scans, by_index] = t.scans;
        let evidence = format!(
            "{} sequential scans of {} rows each, {} by index; {}.",
            thousands(scans),
            thousands(t.rows_per_scan),
            thousands(by_index),
            bytes(t.bytes)
        );
        Finding::new(Subject::Relation(t.table.clone()), evidence)
            .figure("scans", scans, Unit::Count)
            .figure("rows_per_scan", t.rows_per_scan, Unit::Count)
            .figure("size", t.bytes, Unit::Bytes)
    });
    Some(found.collect())
}

fn bloat(d: &DatabaseFacts) -> Verdict {
    let bloated = |i: &&Bloated| i.is_worthwhile();
    let found = d.bloated.as_ref()?.iter().filter(bloated).map(|i| {
        let how = if i.measured { "measured" } else { "estimated" };
        let evidence =
            format!("{:.0} % of {} is empty, {how}.", (i.share * 100.0).floor(), bytes(i.bytes));
        let own = (i.table.clone(), Relation::new(i.table.schema.as_str(), i.name.as_str()));
        let (table, index) = i.part.clone().unwrap_or(own);
        let mut finding = Finding::new(subject(&table, &index.name), evidence)
            .figure("size", i.bytes, Unit::Bytes)
            .figure("empty", i.share, Unit::Ratio)
            .advice("It needs the same space again while it runs.");
        if !i.measured {
            finding = finding.also("`pgrunway verify --exact` measures first.");
        }
        finding.remedy(rebuild(d, i.oid, &table, &index, false))
    });
    Some(found.collect())
}

impl Bloated {
    /// Whether it is worth rebuilding.
    pub fn is_worthwhile(&self) -> bool {
        self.share > HALF && self.share * self.bytes > WASTED
    }
}

fn corrupt(d: &DatabaseFacts) -> Verdict {
    let found = d.corrupt.as_ref()?.iter().map(|i| {
        Finding::new(subject(&i.table, &i.index.name), i.message.clone())
            .advice(
                "Find out why first: disk, memory, or a new version of the collation library. A unique index \
                 may have let duplicates in; then REINDEX fails and names one.",
            )
            .remedy(rebuild(d, i.oid, &i.table, &i.index, i.exclusion))
    });
    Some(found.collect())
}
