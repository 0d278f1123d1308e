//! Rules about what VACUUM and ANALYZE have left undone.
//!
//! Must not: read a user's rows; the counters of the server and the catalogues tell.

use super::facts::{Age, DatabaseFacts, Overdue, TableFacts};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{instant, seconds, thousands};
use crate::derive::vacuum::WORTHWHILE;
use crate::remedy::{Relation, table};

const MANY_ROWS: f64 = 1e7;
/// Seconds after which the statistics of a partitioned table as a whole are old.
const OLD: f64 = 30.0 * 86_400.0;
/// Ages beyond the point at which autovacuum freezes by this factor are overdue.
const OVERDUE_AGE: f64 = 1.1;
/// From where on `vacuum_failsafe_age` drops all courtesy.
const FAILSAFE: f64 = 1.6e9;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "statistics.age",
        formerly: &["vacuum.analyze"],
        title: "Analyze what is overdue",
        severity: Severity::Warning,
        finds: "a table or partition of more than 10,000 rows has more than twice the changes that start \
                autovacuum, or a partitioned table of as many rows (14 and later) was not analysed itself for 30 days",
        why: "The planner works with figures that are no longer true; autovacuum never analyses a partitioned table \
              as a whole.",
        source: "pg_stat_user_tables.n_mod_since_analyze, last_analyze, pg_class.reloptions, pg_settings",
        alerts: &[],
        part: Part::Vacuum,
        when: When::Always,
        check: Check::Database(analyze),
    },
    &Rule {
        id: "statistics.load",
        formerly: &[],
        title: "Analyze what was loaded",
        severity: Severity::Warning,
        finds: "most rows of a table or partition of more than 10,000 came after its last ANALYZE, and the planner does \
                not count them",
        why: "The planner still expects the table's size before the load, and may read it again and again in a \
              nested loop.",
        source: "pg_stat_user_tables.n_mod_since_analyze, n_live_tup, last_analyze, pg_class.reltuples",
        alerts: &[],
        part: Part::Vacuum,
        when: When::Always,
        check: Check::Database(loaded),
    },
    &Rule {
        id: "vacuum.age",
        formerly: &["vacuum.overdue"],
        title: "Vacuum what is overdue",
        severity: Severity::Warning,
        finds: "a table or partition of more than 10,000 rows has more than twice the dead or inserted rows \
                that start autovacuum",
        why: "Scans read the dead rows too; autovacuum is off, does not keep up, or is held back.",
        source: "pg_stat_user_tables.n_dead_tup, n_ins_since_vacuum, pg_class.reloptions, pg_settings",
        alerts: &["PostgresVacuumOverdue"],
        part: Part::Vacuum,
        when: When::Always,
        check: Check::Database(vacuum),
    },
    &Rule {
        id: "vacuum.wraparound",
        formerly: &[],
        title: "Freeze old rows",
        severity: Severity::Critical,
        finds: "a table's oldest transaction or multixact is 10 % older than where autovacuum must freeze it; critical \
                from 1,600 million on",
        why: "At about 2,000 million the server takes no more writes.",
        source: "age(pg_class.relfrozenxid), mxid_age(relminmxid), TOAST included; pg_class.reloptions, pg_settings",
        alerts: &["PostgresWraparoundRisk", "PostgresWraparoundImminent"],
        part: Part::Ages,
        when: When::Always,
        check: Check::Database(wraparound),
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
        part: Part::Vacuum,
        when: When::OnRequest,
        check: Check::Database(scale_factor),
    },
];

fn each(d: &DatabaseFacts, check: impl Fn(&TableFacts) -> Option<Finding>) -> Verdict {
    Some(d.tables.as_ref()?.iter().filter_map(check).collect())
}

fn finding(t: &TableFacts, evidence: String) -> Finding {
    Finding::new(Subject::Relation(t.name.clone()), evidence)
}

const VACUUM: [&str; 2] = ["dead or inserted rows", "VACUUM"];
const ANALYZE: [&str; 2] = ["changed rows", "ANALYZE"];

/// What is overdue, in a sentence or two; `None` where nothing is.
fn overdue(t: &TableFacts, overdue: &Overdue, [rows, command]: [&str; 2]) -> Option<String> {
    let many = match (t.partitioned, overdue.tables) {
        (_, 0) => return None,
        (false, _) => String::new(),
        (true, 1) => "One of its partitions is overdue. ".to_owned(),
        (true, n) => format!("{n} of its partitions are overdue. "),
    };
    let worst = overdue.worst.first();
    let figures = worst.map(|leaf| {
        let last = leaf.last.map_or_else(|| "never".to_owned(), instant);
        let name = match &leaf.name {
            Some(name) if t.partitioned => format!("{}: ", name.display()),
            _ => String::new(),
        };
        format!(
            "{name}about {} {rows} beside {} live ones, {:.1} times as many as start autovacuum; last {command}: \
             {last}.",
            thousands(leaf.amount),
            thousands(leaf.live),
            overdue.times
        )
    });
    let off = if t.off { " Autovacuum is off for it." } else { "" };
    let figures = figures.unwrap_or_else(|| {
        format!("{:.1} times as many {rows} as start autovacuum.", overdue.times)
    });
    let mut chars = figures.chars();
    let first = match chars.next() {
        Some(c) if many.is_empty() => c.to_uppercase().to_string(),
        Some(c) => c.to_string(),
        None => String::new(),
    };
    Some(format!("{many}{first}{}{off}", chars.as_str()))
}

/// The tables that hold the rows, where all their names are known.
fn leaves<'a>(t: &'a TableFacts, overdue: &'a Overdue) -> Option<Vec<&'a Relation>> {
    if !t.partitioned {
        return Some(vec![&t.name]);
    }
    let named: Vec<&Relation> =
        overdue.worst.iter().filter_map(|leaf| leaf.name.as_ref()).collect();
    (!named.is_empty()).then_some(named)
}

/// Says that there are more than a script names.
fn more(t: &TableFacts, overdue: &Overdue) -> String {
    match overdue.tables.saturating_sub(overdue.worst.len()) {
        n if n > 0 && t.partitioned => {
            format!("These are the {} most overdue; {n} more follow.", overdue.worst.len())
        }
        _ => String::new(),
    }
}

const HELD_BACK: &str = "\
VACUUM keeps what the oldest transaction, prepared transaction or replication slot may still see: look for them in \
pg_stat_activity.backend_xmin, pg_prepared_xacts and pg_replication_slots.xmin.";

fn vacuum(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let finding = finding(t, overdue(t, &t.vacuum, VACUUM)?)
            .figure("times_threshold", t.vacuum.times, Unit::Ratio)
            .figure("rows", t.rows, Unit::Count)
            .advice(HELD_BACK)
            .also(
                "If it happens again, find out why autovacuum does not run: long transactions, too few workers, \
                 locks, or a table option.",
            )
            .also(more(t, &t.vacuum));
        Some(match leaves(t, &t.vacuum) {
            Some(leaves) => finding.remedy(table::vacuum(&d.datname, &leaves)),
            None => finding.also(
                "VACUUM of the table includes every partition: name those with the most dead rows in \
                 pg_stat_user_tables.",
            ),
        })
    })
}

fn analyze(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let age = t.unanalyzed.filter(|age| *age > OLD && t.partitioned && t.rows > WORTHWHILE);
        if let Some(age) = age {
            let evidence = match age.is_finite() {
                true => format!("Last analysed as a whole {} ago.", seconds(age)),
                false => "Never analysed as a whole; its partitions may be.".to_owned(),
            };
            // From 18 on the partitions need not be analysed along with their table.
            let only = d.version_num >= 180_000;
            let finding = finding(t, evidence)
                .figure("age", age, Unit::Seconds)
                .figure("rows", t.rows, Unit::Count)
                .advice("Autovacuum never analyses a partitioned table itself: let a job do it, for example weekly.")
                .remedy(table::analyze(&d.datname, &[&t.name], only, false));
            return Some(finding);
        }
        let finding = finding(t, overdue(t, &t.analyze, ANALYZE)?)
            .figure("times_threshold", t.analyze.times, Unit::Ratio)
            .figure("rows", t.rows, Unit::Count)
            .advice("Until then the planner works with old statistics.")
            .also(more(t, &t.analyze));
        Some(match leaves(t, &t.analyze) {
            Some(leaves) => finding.remedy(table::analyze(&d.datname, &leaves, false, true)),
            None => finding.remedy(table::analyze(&d.datname, &[&t.name], false, false)),
        })
    })
}

fn loaded(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let worst = t.loaded.worst.first()?;
        let many = match (t.partitioned, t.loaded.tables) {
            (false, _) => String::new(),
            (true, 1) => "One of its partitions was loaded. ".to_owned(),
            (true, n) => format!("{n} of its partitions were loaded. "),
        };
        let when = worst.last.map_or_else(
            || "it never was analysed".to_owned(),
            |at| format!("after {}", instant(at)),
        );
        let off = if t.off { " Autovacuum is off for it." } else { "" };
        let evidence = format!(
            "{many}{} rows were inserted or changed, of {} live ones; {when}.{off}",
            thousands(worst.amount),
            thousands(worst.live)
        );
        let finding = finding(t, evidence)
            .figure("changed", worst.amount, Unit::Count)
            .figure("rows", worst.live, Unit::Count)
            .advice("End the loading job with ANALYZE.")
            .also(more(t, &t.loaded));
        Some(match leaves(t, &t.loaded) {
            Some(leaves) => finding.remedy(table::analyze(&d.datname, &leaves, false, true)),
            None => finding.remedy(table::analyze(&d.datname, &[&t.name], false, false)),
        })
    })
}

/// An age that the server counts; at most some thousand millions.
#[expect(clippy::cast_possible_truncation, reason = "it is far below 2^53")]
fn whole(age: f64) -> i64 {
    age as i64
}

fn wraparound(d: &DatabaseFacts) -> Verdict {
    let check = |a: &Age| {
        let share = |(age, limit): (f64, f64)| age / limit.max(1.0);
        let multi = share(a.mxids) > share(a.xids);
        let (noun, (age, limit)) =
            if multi { ("multixacts", a.mxids) } else { ("transactions", a.xids) };
        if age <= OVERDUE_AGE * limit && age < FAILSAFE {
            return None;
        }
        let evidence = format!(
            "Not frozen for {} {noun}; autovacuum should have done so from {} on.",
            thousands(age),
            thousands(limit)
        );
        let severity = if age >= FAILSAFE { Severity::Critical } else { Severity::Warning };
        let limits = (whole(a.xids.1), whole(a.mxids.1));
        let finding = Finding::new(Subject::Relation(a.name.clone()), evidence)
            .at_most(severity)
            .figure("age", age, Unit::Count)
            .figure("freeze_max_age", limit, Unit::Count)
            .advice(HELD_BACK)
            .remedy(table::freeze(&d.datname, &a.name, limits.0, limits.1));
        Some(finding)
    };
    Some(d.ages.as_ref()?.old.iter().filter_map(check).collect())
}

fn scale_factor(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        (!t.partitioned && t.rows >= MANY_ROWS && t.scale_factor >= 0.1).then(|| {
            let evidence = format!(
                "About {:.0} rows (estimated): autovacuum starts at {:.0} dead ones.",
                t.rows, t.vacuum_at
            );
            finding(t, evidence)
                .figure("rows", t.rows, Unit::Count)
                .figure("threshold", t.vacuum_at, Unit::Count)
                .advice("It then runs more often, and each run takes less time.")
                .remedy(table::scale_factor(&d.datname, &t.name, "0.02"))
        })
    })
}
