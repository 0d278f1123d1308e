//! Whether partitioned tables take rows for long enough, by what the exporter's own collector says of them, with the
//! SQL of `pgrunway plan`.
//!
//! Must not: come to another result than the metrics and alerts do.

use super::super::check::CheckFinding;
use super::{Context, Looked, counted};
use crate::cli;
use crate::cmd::plan;
use crate::derive::units::seconds;
use crate::error::CollectError;
use crate::findings::{DatabaseFacts, Partitioned, partition};
use crate::pg::{Row, columns};
use crate::remedy::{Command, Relation, table};

/// Partitioned tables, and what to say of each rule about them.
pub(super) async fn look(cx: &Context<'_>) -> Result<Looked, CollectError> {
    let database = super::partitioned(cx).await?;
    let mut looked = Looked::default();
    if database.expected.as_ref().is_none_or(Vec::is_empty) {
        let why = "no rule of the file says must_exist for this database".to_owned();
        looked.skips.insert(partition::MISSING.id, why);
    }
    let mut tables = database.partitioned.iter().flatten();
    if tables.all(|t| t.retention_exceeded.is_none()) {
        let why = "no rule of the file gives a max_age for a table here".to_owned();
        looked.skips.insert(partition::RETENTION.id, why);
    }
    summaries(&database, &mut looked);
    Ok(Looked { database, ..looked })
}

/// What was looked at.
fn summaries(facts: &DatabaseFacts, looked: &mut Looked) {
    let tables = facts.partitioned.as_deref().unwrap_or_default();
    let count = |of: fn(&Partitioned) -> bool| tables.iter().filter(|t| of(t)).count();
    let expected = facts.expected.as_deref().unwrap_or_default();
    let there = expected.iter().filter(|table| table.lack.is_none()).count();
    let runways = tables.iter().filter_map(|t| Some(t.runway?.0));
    let mut runway = counted(runways.clone().count(), "table", "with a runway");
    let shortest = runways.fold(f64::INFINITY, f64::min);
    if shortest.is_finite() {
        runway.push_str(&format!(", the shortest {}", seconds(shortest)));
    }
    let blind: Vec<String> = tables
        .iter()
        .filter_map(|t| Some(format!("{} ({})", t.name.display(), t.reason?)))
        .collect();
    if !blind.is_empty() {
        runway.push_str(&format!("; not known of {}", blind.join(", ")));
    }
    let open = counted(count(|t| t.open_end.is_some()), "table", "with an open-ended partition");
    looked.summary = counted(tables.len(), "table", "checked");
    looked.summaries.extend([
        (
            partition::MISSING.id,
            format!("{}, {there} present", counted(expected.len(), "table", "expected")),
        ),
        (partition::RUNWAY.id, runway),
        (
            partition::DEFAULT_ROWS.id,
            counted(count(|t| t.default_rows.is_some()), "table", "with a DEFAULT"),
        ),
        (partition::OPEN_ENDED.id, format!("{open} behind others")),
        (
            partition::RETENTION.id,
            counted(count(|t| t.retention_exceeded.is_some()), "table", "with a max_age"),
        ),
        (partition::GAP.id, counted(count(|t| t.runway.is_some()), "table", "checked")),
    ]);
}

/// Adds the SQL that a command of `pgrunway plan` prints, or why there is none.
pub(in crate::cmd::verify) async fn planned(
    cx: &Context<'_>,
    finding: CheckFinding,
    command: &Command,
) -> CheckFinding {
    let args = match cli::parse(command.words(), &[]).map(|invocation| invocation.command) {
        Ok(cli::CliCommand::Plan(args)) => args,
        // A rule wrote it; its tests would have shown.
        _ => return finding.also("No SQL: the command cannot be read."),
    };
    if let Some(age) = args.retire {
        return retired(cx, finding, &args.table, age).await;
    }
    let wanted =
        plan::PlanRequest { table: args.table, database: None, days: args.days, retire: None };
    match plan::script(cx.session, &wanted).await {
        // What it sets for itself must not meet what is run after it.
        Ok(script) => {
            finding.fix(script).fix("RESET lock_timeout;").fix("RESET default_tablespace;")
        }
        Err(e) => finding.also(format!("No SQL: {e:#}.")),
    }
}

/// What removes the partitions that are so old or older, or why nothing does.
async fn retired(
    cx: &Context<'_>,
    finding: CheckFinding,
    table: &str,
    age: std::time::Duration,
) -> CheckFinding {
    match plan::retirement(cx.session, table, age).await {
        Ok(retire) if retire.partitions.is_empty() => {
            let why: Vec<String> = retire
                .spared
                .iter()
                .map(|(relation, why)| format!("{} stays, because {why}", relation.display()))
                .chain(retire.notes)
                .collect();
            let why = if why.is_empty() {
                "no whole partition is old enough".into()
            } else {
                why.join("; ")
            };
            finding.also(format!("No SQL: {why}."))
        }
        Ok(retire) => {
            let finding = finding.remedy(retire.script());
            finding.caution("THIS DELETES DATA. Archive what must be kept first.")
        }
        Err(e) => finding.also(format!("No SQL: {e:#}.")),
    }
}

/// The DEFAULT partitions below each root that hold rows as far as the statistics know.
const DEFAULTS: &str = "\
WITH RECURSIVE tree(root, id) AS (
SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p' AND NOT c.relispartition
UNION ALL
SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id)
SELECT rn.nspname::text AS schema, r.relname::text AS name,
       n.nspname::text AS default_schema, c.relname::text AS default_name,
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

columns! {
    struct FilledDefault {
        schema: String,
        name: String,
        default_schema: String,
        default_name: String,
        key: Option<String>,
    }
}

/// Where the plan does not move the rows of a DEFAULT: how to look at them; else what brings the estimate up
/// to date.
pub(in crate::cmd::verify) async fn moved(
    cx: &Context<'_>,
    finding: CheckFinding,
    table: &Relation,
) -> Result<CheckFinding, CollectError> {
    let mut tables = Vec::new();
    for row in Row::all::<FilledDefault>(&cx.session.read(DEFAULTS).await?)? {
        if row.schema == table.schema && row.name == table.name {
            tables.push((Relation::new(row.default_schema, row.default_name), row.key));
        }
    }
    if finding.fix.iter().any(|script| script.contains("moved there.")) {
        // Else the estimate would go on counting them.
        let vacuum = |finding: CheckFinding, (default, _): &(Relation, _)| {
            finding.fix(table::vacuum(cx.datname(), &[default]).body())
        };
        return Ok(tables.iter().fold(finding, vacuum));
    }
    let looks: Vec<String> = tables
        .iter()
        .filter_map(|(table, key)| {
            let key = key.as_ref()?;
            Some(format!("SELECT min({key}), max({key}), count(*) FROM {table};"))
        })
        .collect();
    let finding = CheckFinding { fix: Vec::new(), command: None, ..finding };
    Ok(finding.also(format!(
        "No SQL: this plan does not move them. See where they belong, then plan that far ahead (`pgrunway plan \
         --days`), or create the partitions of the past by hand. {}",
        looks.join(" ")
    )))
}
