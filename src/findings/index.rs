//! Rules about indexes, by the verdicts of `derive::index`.
//!
//! Must not: judge in another way than these verdicts do.

use super::facts::{Bloated, Database, Index, IndexFault};
use super::{Check, Finding, Rule, Severity, Subject, Unit, Verdict};
use crate::derive::units::{bytes, seconds};
use crate::remedy::index::{self, There};
use crate::remedy::{Relation, Script};

const HALF: f64 = 0.5;
/// Bytes that hold nothing, from which on it matters.
const WASTED: f64 = 10e6;
/// Bytes of an index whose bloat matters: where one so large cannot be estimated, nothing is said of any.
pub const LARGE_INDEX: f64 = 100.0 * 1_048_576.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "index.invalid",
        formerly: &["indexes.invalid"],
        title: "Rebuild or drop invalid indexes",
        severity: Severity::Critical,
        finds: "an index is not valid, ready and live, and nobody is building it just now",
        why: "A CONCURRENTLY failed: no query uses it, but every write keeps it up, and a unique one keeps nothing \
              unique that was there before.",
        source: "pg_index.indisvalid, indisready, indislive",
        alerts: &["PostgresIndexInvalid"],
        check: Check::Database(invalid),
    },
    &Rule {
        id: "index.unused",
        formerly: &["indexes.unused"],
        title: "Drop indexes that nothing uses",
        severity: Severity::Info,
        finds: "no scan since statistics began, if that is as long as collectors.indexhealth.unused_after; not one \
                that keeps a constraint or serves a foreign key",
        why: "Every write keeps it up, and it takes memory from those that are read.",
        source: "pg_stat_user_indexes.idx_scan, pg_stat_database.stats_reset",
        alerts: &["PostgresIndexUnused"],
        check: Check::Database(unused),
    },
    &Rule {
        id: "index.duplicate",
        formerly: &["indexes.duplicate"],
        title: "Drop indexes that are the same as another",
        severity: Severity::Warning,
        finds: "same table, columns, classes, order and predicate as another index",
        why: "It costs as much as the other and gives nothing.",
        source: "pg_index, pg_constraint",
        alerts: &["PostgresIndexRedundant"],
        check: Check::Database(duplicate),
    },
    &Rule {
        id: "index.redundant",
        formerly: &[],
        title: "Consider dropping indexes that another one begins with",
        severity: Severity::Info,
        finds: "its columns are the first ones of another index, with the same classes, order and predicate",
        why: "Every write keeps it up; it is worth that only where the other is much larger and both are read a \
              lot.",
        source: "pg_index, pg_constraint",
        alerts: &["PostgresIndexRedundant"],
        check: Check::Database(redundant),
    },
    &Rule {
        id: "index.bloat",
        formerly: &["indexes.bloat"],
        title: "Rebuild bloated indexes",
        severity: Severity::Warning,
        finds: "more than half of a B-tree, and 10 MB, hold nothing, estimated; not one that is unused",
        why: "It takes memory and disk, and scans read more pages than they need.",
        source: "pg_class.relpages, pg_stats.avg_width (an estimate; `pgrunway verify --exact` measures)",
        alerts: &[],
        check: Check::Database(bloat),
    },
];

fn each(d: &Database, check: impl Fn(&Index) -> Option<Finding>) -> Verdict {
    Some(d.indexes.as_ref()?.iter().filter_map(check).collect())
}

fn finding(i: &Index, evidence: String) -> Finding {
    let subject = Subject::Index(i.table.clone(), i.name.clone());
    Finding::new(subject, evidence).figure("size", i.bytes, Unit::Bytes)
}

fn invalid(d: &Database) -> Verdict {
    each(d, |i| {
        matches!(i.fault, IndexFault::Invalid).then(|| {
            let evidence = format!(
                "It is not valid: nothing reads it, every change maintains {}.",
                bytes(i.bytes)
            );
            let finding = finding(i, evidence)
                .advice("Unless it is just being built: rebuild it, or drop it.");
            // That of a partitioned table becomes valid with the last part that is attached.
            match i.partitioned {
                true => finding,
                false => finding.remedy(rebuild(d, i.oid, &i.table, &i.name)),
            }
        })
    })
}

fn rebuild(d: &Database, oid: i64, table: &Relation, name: &str) -> Script {
    let index = Relation::new(table.schema.as_str(), name);
    index::rebuilding(&d.datname, &There { oid, index: &index, table }, false)
}

/// What a constraint rests on is not dropped by a script.
fn drop(d: &Database, i: &Index, finding: Finding) -> Finding {
    if i.constraint {
        let advice = format!(
            "{} It keeps a constraint, which statements may name: drop one of two that say the same by hand, with \
             lock_timeout set.",
            finding.advice
        );
        return finding.advice(advice);
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

fn unused(d: &Database) -> Verdict {
    each(d, |i| match i.fault {
        IndexFault::Unused { seconds: s } => {
            let evidence = format!("No scan in {}; {}.", seconds(s), bytes(i.bytes));
            let finding = finding(i, evidence).figure("watched", s, Unit::Seconds).advice(
                "Look at the primary and all standbys first: each counts its own scans; and think of what \
                 runs once a month.",
            );
            Some(drop(d, i, finding))
        }
        _ => None,
    })
}

fn duplicate(d: &Database) -> Verdict {
    each(d, |i| match &i.fault {
        IndexFault::Duplicate { of } => {
            let evidence = format!("It is the same as {of}; {}.", bytes(i.bytes));
            Some(drop(
                d,
                i,
                finding(i, evidence).advice("The other one serves the same statements."),
            ))
        }
        _ => None,
    })
}

fn redundant(d: &Database) -> Verdict {
    each(d, |i| match &i.fault {
        IndexFault::Redundant { of } => {
            let evidence = format!("It is a left prefix of {of}; {}.", bytes(i.bytes));
            let advice = "The other one can serve the same statements, and reads more pages for it where it is \
                          much larger: compare their scans first.";
            Some(drop(d, i, finding(i, evidence).advice(advice)))
        }
        _ => None,
    })
}

fn bloat(d: &Database) -> Verdict {
    let bloated = |i: &&Bloated| i.share > HALF && i.share * i.bytes > WASTED;
    let found = d.bloated.as_ref()?.iter().filter(bloated).map(|i| {
        let evidence =
            format!("About {:.0} % of {} hold nothing (estimated).", i.share * 100.0, bytes(i.bytes));
        Finding::new(Subject::Index(i.table.clone(), i.name.clone()), evidence)
            .figure("size", i.bytes, Unit::Bytes)
            .figure("empty", i.share, Unit::Ratio)
            .advice(if i.partitioned {
                "It needs as much room again for one part after the other (14 and later; before, name the \
                 parts). `pgrunway verify --exact` measures first."
            } else {
                "It needs as much room again while it runs. `pgrunway verify --exact` measures first."
            })
            .remedy(rebuild(d, i.oid, &i.table, &i.name))
    });
    Some(found.collect())
}
