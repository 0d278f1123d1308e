//! Rules about partitioned tables.
//!
//! Must not: come to another result than the metrics and alerts about the same table do.

use super::facts::{DatabaseFacts, Foreseen, Origin, Partitioned, Planned};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{instant, seconds};
use crate::remedy::Command;
use crate::remedy::setting::{SettingSource, set};

const TOO_MANY: f64 = 1_000.0;
const DAY: f64 = 86_400.0;

pub(super) static RULES: &[&Rule] =
    &[&MISSING, &RUNWAY, &GAP, &DEFAULT_ROWS, &OPEN_ENDED, &RETENTION, &SIBLINGS, &MANY, &PRUNING];

/// A table that must exist does not.
pub static MISSING: Rule = Rule {
    id: "partition.missing",
    formerly: &[],
    title: "Create the table that must exist",
    severity: Severity::Critical,
    finds: "a partitioned table that a rule with must_exist names is not there, or has no runway",
    why: "A table that does not exist cannot run out, so no other rule would notice.",
    source: "pg_partitioned_table, the configuration",
    alerts: &["PostgresPartitionRequiredMissing"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(missing),
};
/// The runway is too short.
pub static RUNWAY: Rule = Rule {
    id: "partition.runway",
    formerly: &["partitions.runway"],
    title: "Create partitions ahead",
    severity: Severity::Critical,
    finds: "the runway is shorter than pg_partition_runway_required_seconds",
    why: "After the end of the last partition, inserts fail or go into the DEFAULT partition.",
    source: "pg_class.relpartbound",
    alerts: &["PostgresPartitionRunwayShort", "PostgresPartitionNotCovered"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(runway),
};
/// A gap lies ahead.
pub static GAP: Rule = Rule {
    id: "partition.gap",
    formerly: &[],
    title: "Close the gap ahead",
    severity: Severity::Critical,
    finds: "there are partitions beyond the end of the runway",
    why: "Inserts into the gap fail or go into the DEFAULT partition, however many partitions follow.",
    source: "pg_class.relpartbound",
    alerts: &["PostgresPartitionGap"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(gap),
};
/// A DEFAULT holds rows.
pub static DEFAULT_ROWS: Rule = Rule {
    id: "partition.default_rows",
    formerly: &["partitions.default_rows"],
    title: "Move rows out of the DEFAULT partition",
    severity: Severity::Warning,
    finds: "the DEFAULT partition of a level by time contains rows (estimated)",
    why: "Their partition was missing when they were inserted, and cannot be created while they are there; \
          queries for other times read them too.",
    source: "pg_class.reltuples (estimated) of the DEFAULT partition",
    alerts: &["PostgresPartitionDefaultRows"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(default_rows),
};
/// An open-ended partition fills.
pub static OPEN_ENDED: Rule = Rule {
    id: "partition.open_ended",
    formerly: &[],
    title: "Create partitions before the open-ended one fills",
    severity: Severity::Warning,
    finds: "a partition TO (MAXVALUE) after others that have an end contains rows (estimated), or the others \
            end sooner than pg_partition_runway_required_seconds",
    why: "No insert fails, but all later rows go into it: a partition for any of them cannot be created, and \
          they are never retired.",
    source: "pg_class.relpartbound, reltuples (estimated)",
    alerts: &["PostgresPartitionOpenEnded"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(open_ended),
};
/// Data are older than they may be.
pub static RETENTION: Rule = Rule {
    id: "partition.retention",
    formerly: &["partitions.retention"],
    title: "Retire partitions that are past their retention",
    severity: Severity::Warning,
    finds: "data are older than max_age of the partition rule",
    why: "The job that removes them has stopped, and the disk fills.",
    source: "pg_class.relpartbound, the configuration",
    alerts: &["PostgresPartitionRetentionExceeded"],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(retention),
};
/// A partition is unlike its siblings.
pub static SIBLINGS: Rule = Rule {
    id: "partition.siblings",
    formerly: &[],
    title: "Make partitions alike",
    severity: Severity::Warning,
    finds: "owner, replica identity, row security or grants (the owner's own left out) of a partition differ \
            from those of most of its siblings",
    why: "Statements of the others' owner fail on it, logical replication of its changes fails or lacks \
          columns, and a query on the partition itself shows other rows than on its siblings.",
    source: "pg_class.relowner, relreplident, relrowsecurity, relforcerowsecurity, relacl",
    alerts: &[],
    part: Part::Siblings,
    when: When::Always,
    check: Check::Database(siblings),
};
/// There are very many partitions.
pub static MANY: Rule = Rule {
    id: "partition.many",
    formerly: &["partitions.many"],
    title: "Make fewer, larger partitions",
    severity: Severity::Info,
    finds: "more than 1,000 partitions in one table",
    why: "A statement that cannot prune plans and locks all of them.",
    source: "pg_inherits",
    alerts: &[],
    part: Part::Partitions,
    when: When::Always,
    check: Check::Database(many),
};

/// A query reads more partitions than it may.
pub static PRUNING: Rule = Rule {
    id: "partition.pruning",
    formerly: &[],
    title: "Let queries prune partitions",
    severity: Severity::Critical,
    finds: "the plan of a query of verify.queries reads more partitions than it may",
    why: "It reads and locks partitions that cannot contain its rows, and more of them with each new one.",
    source: "EXPLAIN of the queries in the file",
    alerts: &[],
    part: Part::Plans,
    when: When::Always,
    check: Check::Database(pruning),
};

fn each(d: &DatabaseFacts, check: impl Fn(&Partitioned) -> Option<Finding>) -> Verdict {
    Some(d.partitioned.as_ref()?.iter().filter_map(check).collect())
}

fn finding(t: &Partitioned, evidence: String) -> Finding {
    Finding::new(Subject::Relation(t.name.clone()), evidence)
}

/// `pgrunway plan` for a table.
fn plan(d: &DatabaseFacts, t: &Partitioned, options: &[&str]) -> Command {
    // As `plan` reads names: with SQL's quotes, and no escapes.
    let quoted = |name: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        match name.bytes().all(plain) && !name.is_empty() {
            true => name.to_owned(),
            false => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    };
    let name = format!("{}.{}", quoted(&t.name.schema), quoted(&t.name.name));
    let command = Command::new("pgrunway").arg("plan").arg(name);
    command.args(options.iter().copied()).arg(format!("--database={}", d.datname))
}

/// A finding with the command that extends the table, as far as that will do it.
fn extended(mut finding: Finding, d: &DatabaseFacts, t: &Partitioned, days: &str) -> Finding {
    let said = match &t.foreseen {
        Some(Foreseen::Refuses(why)) => {
            finding.advice = format!(
                "`pgrunway plan` refuses this table: {why}. Create the partitions by hand, or let the job do so \
                 that creates them."
            );
            return finding;
        }
        Some(Foreseen::Leaves(what)) => {
            format!(" What it will not do, and the way by hand: {what}")
        }
        None => String::new(),
    };
    finding.advice.push_str(&said);
    finding.remedy(plan(d, t, &["--days", days]))
}

fn runway(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let (left, required) = t.runway?;
        if left >= required {
            return None;
        }
        let fate = if t.has_default { "go into DEFAULT" } else { "fail" };
        let evidence = match (t.covered, left < 0.0) {
            (true, _) => format!("Runway {} of {} required.", seconds(left), seconds(required)),
            (false, true) => {
                format!("Coverage ended {} ago: inserts {fate}.", seconds(-left))
            }
            (false, false) => {
                format!("No partition accepts the present: inserts {fate}.")
            }
        };
        // In whole days, and as far again as is required.
        let days = format!("{:.0}", (required * 2.0 / DAY).ceil().max(1.0));
        let finding = finding(t, evidence)
            .figure("runway", left, Unit::Seconds)
            .figure("required", required, Unit::Seconds)
            .advice(
                "The command prints the DDL. Then fix the job that creates partitions, and monitor it.",
            );
        Some(extended(finding, d, t, &days))
    })
}

fn siblings(d: &DatabaseFacts) -> Verdict {
    let found = d.odd.as_ref()?.iter().map(|o| {
        let name = o.first.display();
        let who = match o.odd {
            n if n > 1.5 => format!("{n:.0} of {:.0} partitions, {name} among them, differ", o.leaves),
            _ => format!("{name}, one of {:.0} partitions, differs", o.leaves),
        };
        // Grants may be many.
        let long = o.value.len() > 80 || o.usual.len() > 80;
        let how = match long {
            true => String::new(),
            false => format!(": {}, where most have {}", o.value, o.usual),
        };
        Finding::new(Subject::Relation(o.table.clone()), format!("{who} in {}{how}.", o.what))
            .figure("partitions", o.leaves, Unit::Count)
            .figure("differ", o.odd, Unit::Count)
            .advice(
                "Change them to what the others have, and so the job that creates partitions (pg_partman: its \
                 template table).",
            )
    });
    Some(found.collect())
}

fn missing(d: &DatabaseFacts) -> Verdict {
    let found = d.expected.as_ref()?.iter().filter_map(|table| {
        let evidence = match table.lack? {
            "missing" => "There is no partitioned table of this name.".to_owned(),
            reason => format!("It exists, but has no runway ({reason})."),
        };
        let finding = Finding::new(Subject::Relation(table.name.clone()), evidence);
        Some(finding.advice("Create the table, or remove the rule from the file."))
    });
    Some(found.collect())
}

fn gap(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let ((left, required), gap) = (t.runway?, t.gap?);
        let evidence = match gap.from {
            None => format!("No row is accepted before {}.", instant(gap.to)),
            Some(from) => {
                format!("No row is accepted from {} until {}.", instant(from), instant(gap.to))
            }
        };
        // Up to where coverage begins again, and what it must have anyway.
        let ahead = gap.from.map_or(0.0, |from| left + gap.to - from).max(required);
        let finding = finding(t, evidence)
            .figure("until", gap.to, Unit::UnixSeconds)
            .advice("The command prints the DDL that fills the gap.");
        Some(extended(finding, d, t, &days(ahead)))
    })
}

/// Days to plan for: so many seconds, and a day for the time until it is run.
fn days(seconds: f64) -> String {
    format!("{:.0}", ((seconds / DAY).ceil() + 1.0).clamp(1.0, 3_660.0))
}

fn default_rows(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        // Elsewhere than by time, a DEFAULT is where rows may well belong.
        let (_, required) = t.runway?;
        let rows = t.default_rows.filter(|rows| *rows >= 0.5)?;
        let evidence = format!("About {rows:.0} rows are in the DEFAULT partition (estimated).");
        let finding = finding(t, evidence)
            .figure("rows", rows, Unit::Count)
            .advice(
                "A new partition cannot be attached while the DEFAULT contains rows that belong in it; the \
                 command prints the SQL that moves them, for the days that it plans.",
            );
        Some(extended(finding, d, t, &days(required)))
    })
}

fn open_ended(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let (_, required) = t.runway?;
        let open = t.open_end?;
        let rows = open.rows.filter(|rows| *rows > 0.0);
        if rows.is_none() && open.bounded >= required {
            return None;
        }
        let reach = match (open.covered, open.bounded < 0.0) {
            (true, _) => format!(
                "Partitions with an end last {} of {} required; then all rows go into the open-ended one",
                seconds(open.bounded),
                seconds(required)
            ),
            (false, true) => format!(
                "New rows have gone into its open-ended partition for {}",
                seconds(-open.bounded)
            ),
            (false, false) => "New rows go into its open-ended partition".to_owned(),
        };
        let held = rows.map(|n| format!("; about {n:.0} are there (estimated)"));
        let mut finding = finding(t, format!("{reach}{}.", held.unwrap_or_default()))
            .figure("bounded_runway", open.bounded, Unit::Seconds)
            .figure("required", required, Unit::Seconds);
        if let Some(rows) = open.rows {
            finding = finding.figure("rows", rows, Unit::Count);
        }
        let days = format!("{:.0}", (required * 2.0 / DAY).ceil().max(1.0));
        let advice = "The command prints how to split the open-ended partition, or says why it cannot; then \
                      let the job that creates partitions do so ahead of time.";
        Some(extended(finding.advice(advice), d, t, &days))
    })
}

fn retention(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        let over = t.retention_exceeded.filter(|over| *over > 0.0)?;
        let evidence = format!("Its oldest data are {} past their retention.", seconds(over));
        let finding = finding(t, evidence).figure("over", over, Unit::Seconds).advice(
            "The command prints the DETACH and DROP, which delete data: archive what must be kept first.",
        );
        // In whole days where it can be said so; nothing younger goes.
        Some(match t.max_age {
            Some(age) if age >= 60.0 => {
                let whole = age % DAY == 0.0;
                let age =
                    if whole { format!("{:.0}", age / DAY) } else { format!("{:.0}s", age.ceil()) };
                finding.remedy(plan(d, t, &["--retire", &age]))
            }
            _ => finding,
        })
    })
}

fn many(d: &DatabaseFacts) -> Verdict {
    each(d, |t| {
        (t.leaves > TOO_MANY).then(|| {
            let evidence = format!("{:.0} partitions on all levels.", t.leaves);
            finding(t, evidence).figure("partitions", t.leaves, Unit::Count).advice(
                "Use a longer interval, or retire old ones; statements should filter by the key.",
            )
        })
    })
}

fn pruning(d: &DatabaseFacts) -> Verdict {
    let check = |p: &Planned| {
        let used: i64 = p.reads.iter().map(|read| read.used).sum();
        if usize::try_from(used).is_ok_and(|used| used <= p.most) {
            return None;
        }
        let reads: Vec<String> = p
            .reads
            .iter()
            .map(|read| format!("{} of {} partitions of {}", read.used, read.leaves, read.root))
            .collect();
        let evidence = format!("Reads {}; {} allowed.", reads.join(" and "), p.most);
        // A plan has far fewer than 2^53.
        let finding = Finding::new(Subject::Statement(p.name.clone()), evidence)
            .figure("partitions", used as f64, Unit::Count)
            .figure("allowed", p.most as f64, Unit::Count);
        let Some(origin) = p.off else {
            let keys: Vec<String> =
                p.reads.iter().map(|read| format!("{} by {}", read.root, read.key)).collect();
            return Some(finding.advice(format!(
                "No SQL fixes it: compare the partition key itself, without a function or cast around it, with a \
                 value or a stable expression ({}).",
                keys.join(", ")
            )));
        };
        let source = match origin {
            Origin::Database => SettingSource::Database(&d.datname),
            Origin::Role => SettingSource::Role(&d.role),
            Origin::RoleIn => SettingSource::RoleIn(&d.role, &d.datname),
            Origin::Roles => SettingSource::All,
            Origin::System { .. } | Origin::CommandLine => SettingSource::System { restart: false },
        };
        let script = set(&d.datname, "enable_partition_pruning", "on", source);
        Some(finding.advice("enable_partition_pruning is off.").remedy(script))
    };
    Some(d.plans.as_ref()?.iter().filter_map(check).collect())
}
