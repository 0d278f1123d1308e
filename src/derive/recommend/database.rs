//! Rules about one database: statements, partitions, indexes, vacuum, growth.
//!
//! Must not: quote the text of a statement, or call an estimate a measurement.

use super::facts::{
    Bloated, Database, Growth, Index, IndexFault, Overdue, Partitioned, Statement, Table,
};
use super::size::{bytes, seconds};
use super::{Finding, Rule, Verdict, Weight};

/// Shares of time over less than this are no evidence.
const ENOUGH: f64 = 60.0;
const MANY_PARTITIONS: f64 = 1_000.0;
/// The manual wants all but a small number pruned.
const PARTITIONS_PER_PLAN: f64 = 100.0;
const DAY: f64 = 86_400.0;
const ROWS: f64 = 10_000.0;
/// Growth in a year that is worth a word.
const MUCH: f64 = 1_073_741_824.0;
const MANY_ROWS: f64 = 1e7;
const HALF: f64 = 0.5;
/// Bytes of an index whose bloat matters.
pub const LARGE_INDEX: f64 = 100.0 * 1_048_576.0;

pub(super) static RULES: &[&Rule<Database>] = &[
    &Rule {
        id: "partitions.runway",
        title: "Create partitions ahead",
        weight: Weight::Critical,
        threshold: "the runway is shorter than pg_partition_runway_required_seconds",
        source: "pg_class.relpartbound",
        check: runway,
    },
    &Rule {
        id: "partitions.default_rows",
        title: "Move rows out of the DEFAULT partition",
        weight: Weight::Warning,
        threshold: "the DEFAULT partition holds rows",
        source: "pg_class.reltuples (estimated) of the DEFAULT partition",
        check: default_rows,
    },
    &Rule {
        id: "partitions.retention",
        title: "Retire partitions that are past their retention",
        weight: Weight::Info,
        threshold: "data are older than max_age of the partition rule",
        source: "pg_class.relpartbound, the configuration",
        check: retention,
    },
    &Rule {
        id: "partitions.many",
        title: "Make fewer, larger partitions",
        weight: Weight::Info,
        threshold: "more than 1,000 partitions in one table",
        source: "pg_inherits",
        check: many_partitions,
    },
    &Rule {
        id: "statements.partitions",
        title: "Let statements name the partition key",
        weight: Weight::Info,
        threshold: "the plan of a benchmarked query keeps 100 partitions of a table or more after pruning",
        source: "EXPLAIN (ANALYZE) by `pgrunway bench`",
        check: partitions_per_plan,
    },
    &Rule {
        id: "statements.prepare",
        title: "Prepare statements whose planning dominates",
        weight: Weight::Warning,
        threshold: "planning is over half of a statement's time and 1 ms or more a call, at one call a \
                    second or more; or a benchmark measured as much",
        source: "pg_stat_statements.total_plan_time (track_planning), or `pgrunway bench`",
        check: prepare,
    },
    &Rule {
        id: "statements.materialise",
        title: "Keep the result of a repeated aggregate",
        weight: Weight::Info,
        threshold: "a statement that aggregates takes 20 % of all execution time or more and reads 1,000 \
                    blocks or more for each row that it returns",
        source: "pg_stat_statements.shared_blks_hit, shared_blks_read, rows, total_exec_time",
        check: materialise,
    },
    &Rule {
        id: "statements.jit",
        title: "Switch JIT off where compiling dominates",
        weight: Weight::Info,
        threshold: "compiling takes over 20 % of the execution time of all statements",
        source: "pg_stat_statements.jit_*_time (15 and later)",
        check: jit,
    },
    &Rule {
        id: "indexes.invalid",
        title: "Rebuild or drop invalid indexes",
        weight: Weight::Warning,
        threshold: "pg_index.indisvalid, indisready or indislive is false",
        source: "pg_index",
        check: invalid,
    },
    &Rule {
        id: "indexes.unused",
        title: "Drop indexes that nothing uses",
        weight: Weight::Info,
        threshold: "no scan since statistics began, which is as long ago as \
                    `collectors.indexhealth.unused_after` asks for, and nothing depends on it",
        source: "pg_stat_user_indexes.idx_scan, pg_stat_database.stats_reset",
        check: unused,
    },
    &Rule {
        id: "indexes.duplicate",
        title: "Drop indexes that repeat another",
        weight: Weight::Warning,
        threshold: "same table, columns, classes, order and predicate; or a left prefix of another",
        source: "pg_index, pg_constraint",
        check: duplicate,
    },
    &Rule {
        id: "indexes.bloat",
        title: "Rebuild bloated indexes",
        weight: Weight::Info,
        threshold: "over half of 100 MB or more hold nothing, estimated",
        source: "pg_class.relpages, pg_stats.avg_width (an estimate; `pgrunway verify --exact` measures)",
        check: bloat,
    },
    &Rule {
        id: "vacuum.overdue",
        title: "Vacuum what is overdue",
        weight: Weight::Warning,
        threshold: "a table of 10,000 rows or more, or a partition, has over twice the dead or inserted rows \
                    at which autovacuum comes",
        source: "pg_stat_user_tables.n_dead_tup, n_ins_since_vacuum, pg_class.reloptions, pg_settings",
        check: vacuum,
    },
    &Rule {
        id: "vacuum.analyze",
        title: "Analyze what is overdue",
        weight: Weight::Info,
        threshold: "a table of 10,000 rows or more, or a partition, has over twice the changes at which \
                    autovacuum comes; or a partitioned table of as many rows never was analysed itself",
        source: "pg_stat_user_tables.n_mod_since_analyze, last_analyze, pg_class.reloptions, pg_settings",
        check: analyze,
    },
    &Rule {
        id: "vacuum.scale_factor",
        title: "Vacuum large tables before a fifth of them is dead",
        weight: Weight::Info,
        threshold: "10 million rows or more in a table that is not partitioned, with \
                    autovacuum_vacuum_scale_factor of 0.1 or more",
        source: "pg_stat_user_tables.n_live_tup, pg_class.reloptions; pg_settings",
        check: scale_factor,
    },
    &Rule {
        id: "storage.growth",
        title: "Plan for the database's growth",
        weight: Weight::Info,
        threshold: "it doubles within a year, by 1 GB or more, at the growth of its tables that are partitioned \
                    by time, as measured on complete partitions over a day or longer; what is retired counts \
                    where max_age says so, or the exporter has seen it",
        source: "pg_total_relation_size() of partitions, pg_class.relpartbound",
        check: growth,
    },
];

fn finding(object: &str, evidence: String, remedy: impl Into<String>) -> Finding {
    Finding { object: Some(object.to_owned()), evidence, remedy: remedy.into(), sql: None }
}

fn each_table(d: &Database, check: impl Fn(&Table) -> Option<Finding>) -> Verdict {
    Some(d.tables.as_ref()?.iter().filter_map(check).collect())
}

fn each_partitioned(d: &Database, check: impl Fn(&Partitioned) -> Option<Finding>) -> Verdict {
    Some(d.partitioned.as_ref()?.iter().filter_map(check).collect())
}

fn each_index(d: &Database, check: impl Fn(&Index) -> Option<Finding>) -> Verdict {
    Some(d.indexes.as_ref()?.iter().filter_map(check).collect())
}

fn runway(d: &Database) -> Verdict {
    each_partitioned(d, |t| {
        let (left, required) = t.runway?;
        if left >= required {
            return None;
        }
        let fate = if t.has_default { "fall into DEFAULT" } else { "fail" };
        let evidence = match (t.covered, left < 0.0) {
            (true, _) => format!("Runway {} of {} required.", seconds(left), seconds(required)),
            (false, true) => {
                format!("Coverage ended {} ago: inserts of new rows {fate}.", seconds(-left))
            }
            (false, false) => {
                format!("No partition is for the present: inserts of new rows {fate}.")
            }
        };
        // In whole days, and as far again as is required.
        let days = (required * 2.0 / DAY).ceil().max(1.0);
        let remedy = format!(
            "`pgrunway plan {} --days {days:.0}` prints the DDL; then make the job that creates \
             partitions run, and watch it.",
            t.name
        );
        Some(finding(&t.name, evidence, remedy))
    })
}

fn default_rows(d: &Database) -> Verdict {
    each_partitioned(d, |t| {
        let rows = t.default_rows.filter(|rows| *rows > 0.0)?;
        let evidence = format!("About {rows:.0} rows lie in the DEFAULT partition (estimated).");
        let remedy = format!(
            "A new partition cannot be attached while DEFAULT holds rows that belong in it; `pgrunway plan \
             {} --days 7` prints the SQL that moves them.",
            t.name
        );
        Some(finding(&t.name, evidence, remedy))
    })
}

fn retention(d: &Database) -> Verdict {
    each_partitioned(d, |t| {
        let over = t.retention_exceeded.filter(|over| *over > 0.0)?;
        let evidence = format!("Its oldest data are {} past their retention.", seconds(over));
        let remedy = format!(
            "`pgrunway plan {} --days 7 --retire DAYS` prints the DETACH and DROP.",
            t.name
        );
        Some(finding(&t.name, evidence, remedy))
    })
}

fn many_partitions(d: &Database) -> Verdict {
    each_partitioned(d, |t| {
        (t.leaves > MANY_PARTITIONS).then(|| {
            let evidence = format!("{:.0} partitions, those of partitions counted.", t.leaves);
            let remedy = "A statement that cannot prune plans and locks every one of them. Let each hold \
                          a longer span, or retire old ones; statements should name the key.";
            finding(&t.name, evidence, remedy)
        })
    })
}

fn partitions_per_plan(d: &Database) -> Verdict {
    let found = d.benches.as_ref()?.iter().filter_map(|b| {
        let (table, [held, all]) = b.planned.as_ref()?;
        (*held >= PARTITIONS_PER_PLAN).then(|| {
            let evidence = format!("Its plan keeps {held:.0} of {all:.0} partitions of {table}.");
            let remedy = "Each is planned, opened and locked, whether it is read or not. A condition on the \
                          partition key lets the planner leave the others out; fewer, longer partitions \
                          help all statements.";
            finding(&b.name, evidence, remedy)
        })
    });
    Some(found.collect())
}

fn prepare(d: &Database) -> Verdict {
    let planned = |s: &Statement| {
        let plans = s.plans?;
        let mean = s.planning / plans.max(1.0);
        let share = s.planning / (s.planning + s.execution).max(f64::MIN_POSITIVE);
        let often = d.span >= ENOUGH && s.calls / d.span >= 1.0 && plans >= s.calls * 0.5;
        (often && share > 0.5 && mean >= 1e-3).then(|| {
            let evidence = format!(
                "Planned {plans:.0} times in {} at {} each, {:.0} % of its time; {} of planning a \
                 second.",
                seconds(d.span),
                seconds(mean),
                share * 100.0,
                seconds(s.planning / d.span)
            );
            finding(&s.name, evidence, PREPARE)
        })
    };
    let from_statements = d.statements.as_ref().filter(|all| all.iter().any(|s| s.plans.is_some()));
    if from_statements.is_none() && d.benches.is_none() {
        return None;
    }
    let mut found: Vec<Finding> =
        from_statements.into_iter().flatten().filter_map(planned).collect();
    for b in d.benches.iter().flatten() {
        let saved = b.unprepared - b.prepared;
        if saved >= 1e-3 && saved > b.unprepared * 0.5 {
            let evidence = format!(
                "Median round trip {} unprepared, {} prepared: {} saved a call, measured.",
                seconds(b.unprepared),
                seconds(b.prepared),
                seconds(saved)
            );
            found.push(finding(&b.name, evidence, PREPARE));
        }
    }
    Some(found)
}

const PREPARE: &str = "Prepare it once a connection and execute it by parameters: after five executions \
                       PostgreSQL keeps a generic plan where that is no dearer.";

fn materialise(d: &Database) -> Verdict {
    let statements = d.statements.as_ref()?;
    if d.span < ENOUGH {
        return None;
    }
    let all: f64 = statements.iter().map(|s| s.execution).sum();
    let dear = |s: &&Statement| {
        s.aggregates == Some(true)
            && s.calls >= 2.0
            && s.execution >= all * 0.2
            && s.blocks >= s.rows.max(1.0) * 1_000.0
    };
    let found = statements.iter().filter(dear).map(|s| {
        let evidence = format!(
            "{:.0} % of all execution time; {:.0} blocks for each of {:.1} rows a call, {:.2} calls a \
             second.",
            s.execution / all * 100.0,
            s.blocks / s.rows.max(1.0),
            s.rows / s.calls,
            s.calls / d.span
        );
        let remedy = "A materialised view, refreshed CONCURRENTLY as often as its readers need, answers it \
                      without reading the rows again.";
        finding(&s.name, evidence, remedy)
    });
    Some(found.collect())
}

fn jit(d: &Database) -> Verdict {
    let statements = d.statements.as_ref()?;
    if d.span < ENOUGH || !statements.iter().any(|s| s.jit.is_some()) {
        return None;
    }
    let compiling: f64 = statements.iter().filter_map(|s| s.jit).sum();
    let execution: f64 = statements.iter().map(|s| s.execution).sum();
    if compiling <= execution * 0.2 {
        return Some(Vec::new());
    }
    Some(vec![Finding {
        object: None,
        evidence: format!(
            "{} of {} of execution were spent compiling.",
            seconds(compiling),
            seconds(execution)
        ),
        remedy: "Off for the roles that run short statements, or a higher jit_above_cost."
            .to_owned(),
        sql: Some("ALTER SYSTEM SET jit = 'off';".to_owned()),
    }])
}

fn drop(index: &Index) -> Option<String> {
    // DROP INDEX CONCURRENTLY does not take a partitioned index.
    let how = if index.partitioned { "" } else { "CONCURRENTLY " };
    Some(format!("DROP INDEX {how}{};", index.name))
}

fn invalid(d: &Database) -> Verdict {
    each_index(d, |i| {
        matches!(i.fault, IndexFault::Invalid).then(|| Finding {
            sql: (!i.partitioned).then(|| format!("REINDEX INDEX CONCURRENTLY {};", i.name)),
            ..finding(
                &i.name,
                format!(
                    "It is not valid: nothing reads it, every change maintains {}.",
                    bytes(i.bytes)
                ),
                "Unless it is just being built: rebuild it, or drop it.",
            )
        })
    })
}

fn unused(d: &Database) -> Verdict {
    each_index(d, |i| match i.fault {
        IndexFault::Unused { seconds: s } => Some(Finding {
            sql: drop(i),
            ..finding(
                &i.name,
                format!("No scan in {}; {}.", seconds(s), bytes(i.bytes)),
                "Look at the primary and all standbys first: each counts its own scans.",
            )
        }),
        _ => None,
    })
}

fn duplicate(d: &Database) -> Verdict {
    each_index(d, |i| {
        let (of, what) = match &i.fault {
            IndexFault::Duplicate { of } => (of, "the same as"),
            IndexFault::Redundant { of } => (of, "a left prefix of"),
            _ => return None,
        };
        Some(Finding {
            sql: drop(i),
            ..finding(
                &i.name,
                format!("It is {what} {of}; {}.", bytes(i.bytes)),
                "The other one serves the same statements.",
            )
        })
    })
}

fn bloat(d: &Database) -> Verdict {
    let bloated = |i: &&Bloated| i.share > HALF && i.bytes >= LARGE_INDEX;
    let found = d.bloated.as_ref()?.iter().filter(bloated).map(|i| Finding {
        sql: Some(format!("REINDEX INDEX CONCURRENTLY {};", i.name)),
        ..finding(
            &i.name,
            format!("About {:.0} % of {} hold nothing (estimated).", i.share * 100.0, bytes(i.bytes)),
            if i.partitioned {
                "It needs as much room again for one part after the other (14 and later; before, name the \
                 parts). `pgrunway verify --exact` measures first."
            } else {
                "It needs as much room again while it runs. `pgrunway verify --exact` measures first."
            },
        )
    });
    Some(found.collect())
}

fn vacuum(d: &Database) -> Verdict {
    each_table(d, |t| {
        let evidence = changed(t, t.vacuum)?;
        let remedy = if t.partitioned {
            "VACUUM of the table takes every partition: name those that pg_stat_user_tables shows with the most \
             dead rows. Should it stay so, find out why autovacuum does not come: long transactions, too few \
             workers, locks, or a table option."
        } else {
            "Should it stay so, find out why autovacuum does not come: long transactions, too few workers, \
             locks, or a table option."
        };
        Some(Finding {
            sql: (!t.partitioned).then(|| format!("VACUUM (ANALYZE) {};", t.name)),
            ..finding(&t.name, evidence, remedy)
        })
    })
}

/// `3 of its partitions are ...`, where any is.
fn changed(t: &Table, overdue: Overdue) -> Option<String> {
    let times = format!("{:.1} times the changes at which autovacuum comes", overdue.times);
    match (t.partitioned, overdue.tables) {
        (_, 0) => None,
        (false, _) => Some(format!("It has {times}.")),
        (true, 1) => Some(format!("One of its partitions has {times}.")),
        (true, n) => Some(format!("{n} of its partitions are overdue, one with {times}.")),
    }
}

fn analyze(d: &Database) -> Verdict {
    each_table(d, |t| {
        let (evidence, remedy) = if t.never_analyzed == Some(true) && t.rows >= ROWS {
            (
                "Its partitions may have statistics, the partitioned table as a whole has none."
                    .to_owned(),
                "autovacuum never analyses a partitioned table itself: let a job do it, weekly say.",
            )
        } else {
            (changed(t, t.analyze)?, "The planner works with old statistics until then.")
        };
        Some(Finding {
            sql: Some(format!("ANALYZE {};", t.name)),
            ..finding(&t.name, evidence, remedy)
        })
    })
}

fn scale_factor(d: &Database) -> Verdict {
    each_table(d, |t| {
        (!t.partitioned && t.rows >= MANY_ROWS && t.scale_factor >= 0.1).then(|| Finding {
            sql: Some(format!(
                "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0.02);",
                t.name
            )),
            ..finding(
                &t.name,
                format!(
                    "About {:.0} rows (estimated): autovacuum waits for {:.0} dead ones.",
                    t.rows, t.vacuum_at
                ),
                "More often and shorter.",
            )
        })
    })
}

fn growth(d: &Database) -> Verdict {
    let whole = d.growth.as_ref()?;
    let tables = whole.tables.iter().filter(|t| t.span >= DAY).cloned().collect();
    let g = Growth { tables, ..whole.clone() };
    let span = g.tables.iter().map(|t| t.span).reduce(f64::min)?;
    let year = g.after(365.0);
    if year < g.bytes * 2.0 || year - g.bytes < MUCH {
        return Some(Vec::new());
    }
    let ahead = [30, 90, 365]
        .map(|days: u16| format!("{} in {days} days", bytes(g.after(f64::from(days)))));
    let per_day: f64 = g.tables.iter().map(|t| t.per_day).sum();
    let how = if g.tables.iter().any(|t| t.estimated) { "estimated" } else { "measured" };
    Some(vec![Finding {
        object: None,
        evidence: format!(
            "{} of tables and indexes now, and {} a day by the sizes ({how}) of partitions that were filled \
             over {} or more: {} if that goes on and nothing is dropped but by max_age.",
            bytes(g.bytes),
            bytes(per_day),
            seconds(span),
            ahead.join(", ")
        ),
        remedy: "Make room, or retire old partitions (`pgrunway plan --retire`). Where a job does so already, \
                 say after how long: max_age of the partition rule."
            .to_owned(),
        sql: None,
    }])
}
