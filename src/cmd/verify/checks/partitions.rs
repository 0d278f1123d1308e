//! Whether partitioned tables take rows for long enough, by what the exporter's own collector says
//! of them, with the SQL of `pgrunway plan`.
//!
//! Must not: come to another result than the metrics and alerts do.

use std::collections::BTreeMap;

use super::super::check::{Check, Context, Finding, Found, Scope, Severity};
use super::{counted, instant, sorted, thousands};
use crate::cmd::plan;
use crate::collector::Collector;
use crate::collectors::partitions::Partitions;
use crate::derive::units::seconds;
use crate::error::CollectError;
use crate::metric::{Family, Sink, Value};
use crate::remedy::quote::ident;

const LOCKS: &str = "none, but for a sequence behind an integer key (ROW EXCLUSIVE for a moment); to print SQL, \
                ACCESS SHARE for a moment on the table";

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
        "partition.missing",
        Severity::Critical,
        "A partitioned table that a rule with `must_exist` names and that is not there, or has no runway.",
        "What is not there cannot run out, so that no other check would notice.",
    )
};
static RUNWAY: Check = Check {
    run: Some(|cx| Box::pin(runway(cx))),
    ..check(
        "partition.runway",
        Severity::Critical,
        "A table whose partitions do not last for the runway that it must have.",
        "Inserts fail from the end of the last partition on.",
    )
};
static GAP: Check = Check {
    run: Some(|cx| Box::pin(gap(cx))),
    ..check(
        "partition.gap",
        Severity::Critical,
        "A table with partitions beyond the end of its runway.",
        "Inserts fail in the gap between, however many partitions there are after it.",
    )
};
static DEFAULT_ROWS: Check = Check {
    run: Some(|cx| Box::pin(default_rows(cx))),
    ..check(
        "partition.default_rows",
        Severity::Warning,
        "Rows in the DEFAULT partition of a time level, estimated.",
        "A partition was missing when they came, they are in the way of its creation, and no query \
         for other times is spared them.",
    )
};
static RETENTION: Check = Check {
    run: Some(|cx| Box::pin(retention(cx))),
    ..check(
        "partition.retention",
        Severity::Warning,
        "Data that is older than its rule's `max_age`.",
        "The job that removes it has stopped, and the disk fills.",
    )
};

pub(super) static CHECKS: &[&Check] = &[&MISSING, &RUNWAY, &GAP, &DEFAULT_ROWS, &RETENTION];

/// Samples of one metric by schema and table; the other labels follow.
type Samples<'a> = BTreeMap<(&'a str, &'a str), (f64, &'a [std::sync::Arc<str>])>;

async fn families<'a>(cx: &'a Context<'_>) -> Result<&'a [Family], CollectError> {
    let read = async || {
        let rows = Partitions.fetch(cx.session, &()).await?;
        let mut sink = Sink::new(Partitions::METRICS, usize::MAX);
        Partitions.derive(&mut (), rows, &mut sink);
        Ok(sink.finish().0)
    };
    Ok(cx.partitions.get_or_try_init(read).await?.as_slice())
}

fn samples<'a>(families: &'a [Family], name: &str) -> Samples<'a> {
    let family = families.iter().filter(|f| f.metric.name == name);
    let number = |value: &Value| match value {
        Value::Number(number) => Some(*number),
        Value::Histogram(_) => None,
    };
    family
        .flat_map(|f| &f.samples)
        .filter_map(|s| match &*s.labels {
            [_, schema, table, rest @ ..] => {
                Some(((&**schema, &**table), (number(&s.value)?, rest)))
            }
            _ => None,
        })
        .collect()
}

/// The SQL of `pgrunway plan`, or why there is none.
async fn planned(
    cx: &Context<'_>,
    finding: Finding,
    (schema, table): (&str, &str),
    days: f64,
) -> Finding {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what a u16 holds"
    )]
    let whole = |days: f64, most: f64| days.ceil().clamp(1.0, most) as u16;
    let wanted = plan::Wanted {
        table: format!("{}.{}", ident(schema), ident(table)),
        database: None,
        days: Some(whole(days, 3_660.0)),
        retire: None,
    };
    match plan::script(cx.session, &wanted).await {
        // What it sets for itself must not meet what is run after it.
        Ok(script) => {
            finding.mend(script).mend("RESET lock_timeout;").mend("RESET default_tablespace;")
        }
        Err(e) => finding.caution(format!("No SQL: {e:#}.")),
    }
}

/// What removes the partitions that are `age` seconds old or older, or why nothing does.
async fn retired(
    cx: &Context<'_>,
    finding: Finding,
    (schema, table): (&str, &str),
    age: f64,
) -> Finding {
    // Up to the next millisecond: nothing younger goes.
    let Ok(age) = std::time::Duration::try_from_secs_f64((age * 1_000.0).ceil() / 1_000.0) else {
        return finding.caution("No SQL: max_age is no length of time.");
    };
    // As SQL reads names, whatever they hold.
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = format!("{}.{}", quoted(schema), quoted(table));
    match plan::retirement(cx.session, &table, age).await {
        Ok(retire) if retire.partitions.is_empty() => {
            let why: Vec<String> = retire
                .spared
                .iter()
                .map(|(relation, why)| format!("{} stays, because {why}", relation.display()))
                .chain(retire.notes)
                .collect();
            let why = if why.is_empty() {
                "no partition is old as a whole".into()
            } else {
                why.join("; ")
            };
            finding.caution(format!("No SQL: {why}."))
        }
        Ok(retire) => {
            finding.mend(retire.script().to_string()).deletes("Archive first what must be kept.")
        }
        Err(e) => finding.caution(format!("No SQL: {e:#}.")),
    }
}

/// Days to plan for: what the table must have, and a day for the time until it is run.
fn days(required: f64) -> f64 {
    required / 86_400.0 + 1.0
}

async fn missing(cx: &Context<'_>) -> Result<Found, CollectError> {
    let wanted = samples(families(cx).await?, "pg_partition_required_missing");
    if wanted.is_empty() {
        return Ok(Found::skipped("no rule of the file says must_exist for this database"));
    }
    let findings: Vec<Finding> = wanted
        .iter()
        .filter(|(_, (value, _))| *value > 0.0)
        .map(|((schema, table), (_, rest))| {
            let found = match rest.first().map_or("", |reason| &**reason) {
                "missing" => "there is no partitioned table of this name".to_owned(),
                reason => format!("it is there, but has no runway ({reason})"),
            };
            MISSING
                .finding(format!("{schema}.{table}"), found)
                .caution("No SQL mends it: create the table, or take the rule out of the file.")
        })
        .collect();
    let there = wanted.len() - findings.len();
    let noun = counted(wanted.len(), "table", "expected");
    Ok(Found::new(format!("{noun}, {there} present"), sorted(findings)))
}

async fn runway(cx: &Context<'_>) -> Result<Found, CollectError> {
    let families = families(cx).await?;
    let required = samples(families, "pg_partition_runway_required_seconds");
    let runways = samples(families, "pg_partition_runway_seconds");
    let covered = samples(families, "pg_partition_covered");
    let supported = samples(families, "pg_partition_supported");
    let mut findings = Vec::new();
    let mut shortest = f64::INFINITY;
    for (name, (runway, _)) in &runways {
        let needed = required.get(name).map_or(0.0, |(value, _)| *value);
        shortest = shortest.min(*runway);
        if *runway >= needed {
            continue;
        }
        let found = match covered.get(name) {
            Some((0.0, _)) if *runway < 0.0 => {
                format!("has taken no row of now for {}", seconds(-runway))
            }
            Some((0.0, _)) => "takes no row of now".to_owned(),
            _ => format!("lasts {}, must last {}", seconds(*runway), seconds(needed)),
        };
        let finding = RUNWAY.finding(format!("{}.{}", name.0, name.1), found);
        findings.push(planned(cx, finding, *name, days(needed)).await);
    }
    let blind: Vec<String> = supported
        .iter()
        .filter(|(_, (value, _))| *value == 0.0)
        .map(|((schema, table), (_, rest))| {
            let reason = rest.get(2).map_or("", |reason| &**reason);
            format!("{schema}.{table} ({reason})")
        })
        .collect();
    let mut summary = counted(runways.len(), "table", "with a runway");
    if shortest.is_finite() {
        summary.push_str(&format!(", the shortest {}", seconds(shortest)));
    }
    if !blind.is_empty() {
        summary.push_str(&format!("; none can be told of {}", blind.join(", ")));
    }
    Ok(Found::new(summary, sorted(findings)))
}

async fn gap(cx: &Context<'_>) -> Result<Found, CollectError> {
    let families = families(cx).await?;
    let gaps = samples(families, "pg_partition_gap");
    let next = samples(families, "pg_partition_next_coverage_timestamp_seconds");
    let until = samples(families, "pg_partition_covered_until_timestamp_seconds");
    let runways = samples(families, "pg_partition_runway_seconds");
    let required = samples(families, "pg_partition_runway_required_seconds");
    let mut findings = Vec::new();
    for (name, _) in gaps.iter().filter(|(_, (value, _))| *value > 0.0) {
        let at = |samples: &Samples<'_>| samples.get(name).map_or(0.0, |(value, _)| *value);
        let (from, to) = (at(&until), at(&next));
        let found = match from {
            0.0 => format!("no row is taken before {}", instant(to)),
            from => format!("no row is taken from {} until {}", instant(from), instant(to)),
        };
        let finding = GAP.finding(format!("{}.{}", name.0, name.1), found);
        // Up to where coverage begins again, and what it must have anyway.
        let ahead = at(&runways) + (to - from.max(1.0)).max(0.0);
        let ahead = if from == 0.0 { at(&required) } else { ahead.max(at(&required)) };
        findings.push(planned(cx, finding, *name, days(ahead)).await);
    }
    Ok(Found::new(counted(gaps.len(), "table", "looked at"), sorted(findings)))
}

/// The DEFAULT partitions below each root that hold rows as far as the statistics know.
const DEFAULTS: &str = "\
WITH RECURSIVE tree(root, id) AS (
SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p' AND NOT c.relispartition
UNION ALL
SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id)
SELECT rn.nspname::text AS schema, r.relname::text AS name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS default_sql,
       (SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]) AS key
  FROM tree t
  JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = t.id
  JOIN pg_catalog.pg_class c ON c.oid = p.partdefid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid = t.root
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
 WHERE c.relkind = 'r' AND (c.reltuples > 0 OR pg_catalog.pg_stat_get_live_tuples(c.oid) > 0)
 ORDER BY 1, 2, 3";

async fn default_rows(cx: &Context<'_>) -> Result<Found, CollectError> {
    let families = families(cx).await?;
    let supported = samples(families, "pg_partition_supported");
    let required = samples(families, "pg_partition_runway_required_seconds");
    let all = samples(families, "pg_partition_default_rows");
    let mut findings = Vec::new();
    let defaults = cx.session.read(DEFAULTS).await?;
    for (name, (rows, _)) in &all {
        // Elsewhere than by time, a DEFAULT is where rows may well belong.
        let timed = supported.get(name).is_some_and(|(value, _)| *value > 0.0);
        if *rows < 0.5 || !timed {
            continue;
        }
        let found = format!("about {} rows in its DEFAULT", thousands(*rows));
        let finding = DEFAULT_ROWS.finding(format!("{}.{}", name.0, name.1), found);
        let needed = required.get(name).map_or(0.0, |(value, _)| *value);
        let planned = planned(cx, finding.clone(), *name, days(needed)).await;
        let moves = planned.mend.iter().any(|script| script.contains("moved there."));
        let mut tables = Vec::new();
        for row in &defaults {
            if (row.get::<&str>("schema")?, row.get::<&str>("name")?) == *name {
                tables.push((row.get::<String>("default_sql")?, row.get::<Option<String>>("key")?));
            }
        }
        findings.push(if moves {
            // Else the estimate would go on telling of them.
            tables.iter().fold(planned, |finding, (table, _)| {
                finding.mend(format!("VACUUM (ANALYZE) {table};"))
            })
        } else {
            let looks: Vec<String> = tables
                .iter()
                .filter_map(|(table, key)| {
                    let key = key.as_ref()?;
                    Some(format!("SELECT min({key}), max({key}), count(*) FROM {table};"))
                })
                .collect();
            finding.caution(format!(
                "No SQL: the plan for the coming {:.0} days has no use for them. Look where they \
                 belong, then plan so far (`pgrunway plan --days`), or create the partitions of the \
                 past by hand. {}",
                days(needed).ceil(),
                looks.join(" ")
            ))
        });
    }
    Ok(Found::new(counted(all.len(), "table", "with a DEFAULT"), sorted(findings)))
}

async fn retention(cx: &Context<'_>) -> Result<Found, CollectError> {
    let ages = samples(families(cx).await?, "pg_partition_retention_exceeded_seconds");
    if ages.is_empty() {
        return Ok(Found::skipped("no rule of the file gives a max_age for a table here"));
    }
    let rules = &cx.session.settings().partitions;
    let mut findings = Vec::new();
    for (name, (over, _)) in ages.iter().filter(|(_, (over, _))| *over > 0.0) {
        let rule = rules.rule(cx.datname(), name.0, name.1);
        let age = rule.and_then(|rule| rule.max_age).unwrap_or(0.0);
        let found = format!("keeps data for {} longer than max_age", seconds(*over));
        let finding = RETENTION.finding(format!("{}.{}", name.0, name.1), found);
        findings.push(retired(cx, finding, *name, age).await);
    }
    Ok(Found::new(counted(ages.len(), "table", "with a max_age"), sorted(findings)))
}
