//! What VACUUM and ANALYZE have left undone.
//!
//! Must not: read a user's rows; the counters of the server and the catalogues tell.

use super::super::check::{Check, Context, Found, Scope, Severity, When};
use super::{counted, sorted, thousands};
use crate::derive::units::seconds;
use crate::error::CollectError;
use crate::pg::Row;
use crate::remedy::{Relation, table};

static ANALYZED: Check = Check {
    id: "statistics.age",
    severity: Severity::Warning,
    scope: Scope::Database,
    when: When::Always,
    finds: "A table of which more than 1,000 rows and 20 % changed since the last ANALYZE, or a \
            partitioned one (14 and newer) that was not analysed as a whole for 30 days.",
    why: "The planner works with figures that are no longer true; autovacuum never analyses a \
          partitioned table as a whole.",
    locks: "none",
    run: Some(|cx| Box::pin(analyzed(cx))),
};

static VACUUMED: Check = Check {
    id: "vacuum.age",
    severity: Severity::Warning,
    scope: Scope::Database,
    when: When::Always,
    finds: "A table of which more than 1,000 rows and 40 % are dead, estimated.",
    why: "Scans read them all; autovacuum is off, does not keep up, or is held back.",
    locks: "none",
    run: Some(|cx| Box::pin(vacuumed(cx))),
};

static WRAPAROUND: Check = Check {
    id: "vacuum.wraparound",
    severity: Severity::Critical,
    scope: Scope::Database,
    when: When::Always,
    finds: "A table whose oldest transaction or multixact is 10 % older than where autovacuum must \
            freeze it; critical from 1,600 million on.",
    why: "At about 2,000 million the server takes no more writes.",
    locks: "none",
    run: Some(|cx| Box::pin(wraparound(cx))),
};

pub(super) static CHECKS: &[&Check] = &[&ANALYZED, &VACUUMED, &WRAPAROUND];

/// From where on `vacuum_failsafe_age` drops all courtesy.
const FAILSAFE: f64 = 1.6e9;
const LONGEST_UNANALYZED: f64 = 30.0 * 86_400.0;
/// Rows below which nobody cares.
const FEW: f64 = 1_000.0;

/// Tables with what the statistics system counted. A partitioned one has the rows of its leaves.
const TABLES: &str = "\
WITH RECURSIVE tree(root, id) AS (
SELECT p.partrelid, p.partrelid FROM pg_catalog.pg_partitioned_table p
UNION ALL
SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id),
leaves AS (
SELECT t.root, pg_catalog.sum(pg_catalog.pg_stat_get_live_tuples(t.id)) AS live
  FROM tree t GROUP BY t.root)
SELECT n.nspname::text || '.' || c.relname::text AS object, c.relkind = 'p' AS partitioned,
       n.nspname::text AS schema, c.relname::text AS name,
       GREATEST(c.reltuples, 0)::float8 AS rows, c.reltuples < 0 AS never,
       COALESCE(l.live, pg_catalog.pg_stat_get_live_tuples(c.oid))::float8 AS live,
       pg_catalog.pg_stat_get_dead_tuples(c.oid)::float8 AS dead,
       pg_catalog.pg_stat_get_mod_since_analyze(c.oid)::float8 AS changed,
       pg_catalog.date_part('epoch', pg_catalog.now() - GREATEST(
           pg_catalog.pg_stat_get_last_analyze_time(c.oid),
           pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid))) AS since,
       COALESCE('autovacuum_enabled=false' = ANY (c.reloptions)
             OR 'autovacuum_enabled=off' = ANY (c.reloptions), false) AS off
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN leaves l ON l.root = c.oid
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1";

fn relation(row: &Row) -> Result<Relation, CollectError> {
    Ok(Relation::new(row.get::<&str>("schema")?, row.get::<&str>("name")?))
}

fn off(row: &Row) -> Result<&'static str, CollectError> {
    Ok(if row.get("off")? { "; autovacuum is switched off for it" } else { "" })
}

const STANDBY: &str = "a standby has no statistics of its own about that: ask the primary";

async fn analyzed(cx: &Context<'_>) -> Result<Found, CollectError> {
    let server = cx.session.server();
    if server.in_recovery {
        return Ok(Found::skipped(STANDBY));
    }
    let rows = cx.session.read(TABLES).await?;
    let mut findings = Vec::new();
    for row in &rows {
        let object: &str = row.get("object")?;
        let relation = relation(row)?;
        let since: Option<f64> = row.get("since")?;
        let found = if row.get("partitioned")? {
            // Before 14, the server does not say when a partitioned table was analysed.
            if server.version_num < 140_000 || row.get::<f64>("live")? < FEW {
                continue;
            }
            match since {
                _ if row.get("never")? => "never analysed as a whole".to_owned(),
                Some(since) if since > LONGEST_UNANALYZED => {
                    format!("last analysed as a whole {} ago", seconds(since))
                }
                _ => continue,
            }
        } else {
            let (changed, all): (f64, f64) = (row.get("changed")?, row.get("rows")?);
            if changed <= FEW + 0.2 * all {
                continue;
            }
            let ago = since.map_or("never".to_owned(), |s| format!("{} ago", seconds(s)));
            format!(
                "about {} of {} rows changed since the last ANALYZE ({ago}){}",
                thousands(changed),
                thousands(all.max(row.get("live")?)),
                off(row)?
            )
        };
        // From 18 on the partitions need not be analysed along with their table.
        let partitioned: bool = row.get("partitioned")?;
        let only = partitioned && server.version_num >= 180_000;
        let script = table::analyze(cx.datname(), &relation, only, !partitioned);
        findings.push(ANALYZED.finding(object, found).remedy(script));
    }
    Ok(Found::new(counted(rows.len(), "table", "looked at"), sorted(findings)))
}

async fn vacuumed(cx: &Context<'_>) -> Result<Found, CollectError> {
    if cx.session.server().in_recovery {
        return Ok(Found::skipped(STANDBY));
    }
    let rows = cx.session.read(TABLES).await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (dead, live): (f64, f64) = (row.get("dead")?, row.get("live")?);
        let all = live.max(row.get("rows")?);
        if row.get("partitioned")? || dead <= FEW + 0.4 * all {
            continue;
        }
        let object: &str = row.get("object")?;
        let relation = relation(row)?;
        let found = format!(
            "about {} dead rows beside {} live ones{}",
            thousands(dead),
            thousands(live),
            off(row)?
        );
        findings.push(
            VACUUMED
                .finding(object, found)
                .remedy(table::vacuum(cx.datname(), &relation))
                .caution(HELD_BACK),
        );
    }
    Ok(Found::new(counted(rows.len(), "table", "looked at"), sorted(findings)))
}

const HELD_BACK: &str = "\
It keeps what the oldest transaction, prepared transaction or replication slot may still see: look for \
them in pg_stat_activity.backend_xmin, pg_prepared_xacts and pg_replication_slots.xmin.";

/// An age that the server counts; at most some thousand millions.
#[expect(clippy::cast_possible_truncation, reason = "it is far below 2^53")]
fn whole(age: f64) -> i64 {
    age as i64
}

/// Tables with their TOAST tables, which VACUUM does along with them.
const AGES: &str = "\
SELECT n.nspname::text || '.' || c.relname::text AS object,
       n.nspname::text AS schema, c.relname::text AS name,
       GREATEST(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))::float8 AS xids,
       GREATEST(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))::float8 AS mxids,
       LEAST(pg_catalog.current_setting('autovacuum_freeze_max_age')::float8,
             (SELECT pg_catalog.min(o.option_value::float8)
                FROM pg_catalog.pg_options_to_table(c.reloptions) o
               WHERE o.option_name = 'autovacuum_freeze_max_age')) AS xid_limit,
       LEAST(pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::float8,
             (SELECT pg_catalog.min(o.option_value::float8)
                FROM pg_catalog.pg_options_to_table(c.reloptions) o
               WHERE o.option_name = 'autovacuum_multixact_freeze_max_age')) AS mxid_limit
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0'::pg_catalog.xid AND c.relpersistence <> 't'
 ORDER BY 1";

async fn wraparound(cx: &Context<'_>) -> Result<Found, CollectError> {
    if cx.session.server().in_recovery {
        return Ok(Found::skipped("a standby cannot freeze: ask the primary"));
    }
    let rows = cx.session.read(AGES).await?;
    let mut findings = Vec::new();
    let mut oldest: f64 = 0.0;
    for row in &rows {
        let age_of = |name: &str| -> Result<f64, CollectError> {
            Ok(row.get::<Option<f64>>(name)?.unwrap_or(0.0))
        };
        let (xids, mxids) = (age_of("xids")?, age_of("mxids")?);
        oldest = oldest.max(xids).max(mxids);
        let (noun, age, limit) = if mxids / age_of("mxid_limit")? > xids / age_of("xid_limit")? {
            ("multixacts", mxids, age_of("mxid_limit")?)
        } else {
            ("transactions", xids, age_of("xid_limit")?)
        };
        if age <= 1.1 * limit && age < FAILSAFE {
            continue;
        }
        let object: &str = row.get("object")?;
        let relation = relation(row)?;
        let found = format!(
            "not frozen for {} {noun}; autovacuum should have from {} on",
            thousands(age),
            thousands(limit)
        );
        let limits = (age_of("xid_limit")?, age_of("mxid_limit")?);
        let severity = if age >= FAILSAFE { Severity::Critical } else { Severity::Warning };
        findings.push(
            WRAPAROUND
                .finding(object, found)
                .severity(severity)
                .remedy(table::freeze(cx.datname(), &relation, whole(limits.0), whole(limits.1)))
                .caution(HELD_BACK),
        );
    }
    let noun = counted(rows.len(), "table", "looked at");
    Ok(Found::new(format!("{noun}, the oldest {} old", thousands(oldest)), sorted(findings)))
}
