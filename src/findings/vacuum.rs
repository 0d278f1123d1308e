//! Rules about what VACUUM and ANALYZE have left undone.
//!
//! Must not: read a user's rows; the counters of the server and the catalogues tell.

use super::facts::{Database, Overdue, Table};
use super::{Check, Finding, Rule, Severity, Subject, Unit, Verdict, fix};

const ROWS: f64 = 10_000.0;
const MANY_ROWS: f64 = 1e7;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "vacuum.age",
        formerly: &["vacuum.overdue"],
        title: "Vacuum what is overdue",
        severity: Severity::Warning,
        finds: "a table of 10,000 rows or more, or a partition, has over twice the dead or inserted rows at which \
                autovacuum comes",
        why: "Scans read the dead rows too; autovacuum is off, does not keep up, or is held back.",
        source: "pg_stat_user_tables.n_dead_tup, n_ins_since_vacuum, pg_class.reloptions, pg_settings",
        alerts: &["PostgresVacuumOverdue"],
        check: Check::Database(vacuum),
    },
    &Rule {
        id: "statistics.age",
        formerly: &["vacuum.analyze"],
        title: "Analyze what is overdue",
        severity: Severity::Warning,
        finds: "a table of 10,000 rows or more, or a partition, has over twice the changes at which autovacuum \
                comes; or a partitioned table of as many rows never was analysed itself",
        why: "The planner works with figures that are no longer true.",
        source: "pg_stat_user_tables.n_mod_since_analyze, last_analyze, pg_class.reloptions, pg_settings",
        alerts: &[],
        check: Check::Database(analyze),
    },
    &Rule {
        id: "vacuum.scale_factor",
        formerly: &[],
        title: "Vacuum large tables before a fifth of them is dead",
        severity: Severity::Info,
        finds: "10 million rows or more in a table that is not partitioned, with autovacuum_vacuum_scale_factor of \
                0.1 or more",
        why: "The larger the table, the more dead rows wait, and the longer the vacuum that removes them.",
        source: "pg_stat_user_tables.n_live_tup, pg_class.reloptions; pg_settings",
        alerts: &[],
        check: Check::Database(scale_factor),
    },
];

fn each(d: &Database, check: impl Fn(&Table) -> Option<Finding>) -> Verdict {
    Some(d.tables.as_ref()?.iter().filter_map(check).collect())
}

fn finding(t: &Table, evidence: String) -> Finding {
    Finding::new(Subject::Relation(t.name.clone()), evidence)
}

fn vacuum(d: &Database) -> Verdict {
    each(d, |t| {
        let finding = finding(t, changed(t, t.vacuum)?).figure(
            "times_threshold",
            t.vacuum.times,
            Unit::Ratio,
        );
        let why = "Should it stay so, find out why autovacuum does not come: long transactions, too few \
                   workers, locks, or a table option.";
        Some(if t.partitioned {
            finding.advice(format!(
                "VACUUM of the table takes every partition: name those that pg_stat_user_tables shows with \
                 the most dead rows. {why}"
            ))
        } else {
            finding.advice(why).remedy(fix::vacuum(&d.datname, &t.name))
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
    each(d, |t| {
        let finding = if t.never_analyzed == Some(true) && t.rows >= ROWS {
            let evidence =
                "Its partitions may have statistics, the partitioned table as a whole has none.";
            finding(t, evidence.to_owned()).advice(
                "autovacuum never analyses a partitioned table itself: let a job do it, weekly say.",
            )
        } else {
            finding(t, changed(t, t.analyze)?)
                .figure("times_threshold", t.analyze.times, Unit::Ratio)
                .advice("The planner works with old statistics until then.")
        };
        Some(finding.figure("rows", t.rows, Unit::Count).remedy(fix::analyze(
            &d.datname,
            &t.name,
            t.partitioned,
        )))
    })
}

fn scale_factor(d: &Database) -> Verdict {
    each(d, |t| {
        (!t.partitioned && t.rows >= MANY_ROWS && t.scale_factor >= 0.1).then(|| {
            let evidence = format!(
                "About {:.0} rows (estimated): autovacuum waits for {:.0} dead ones.",
                t.rows, t.vacuum_at
            );
            finding(t, evidence)
                .figure("rows", t.rows, Unit::Count)
                .figure("threshold", t.vacuum_at, Unit::Count)
                .advice("It comes more often then, and takes less time.")
                .remedy(fix::scale_factor(&d.datname, &t.name, "0.02"))
        })
    })
}
