//! Until when each partitioned table accepts rows, from the catalogues alone.
//!
//! Must not: call anything that opens a user relation. `pg_get_expr` gets relation 0, which takes no
//! lock; with the partition's own OID it would queue behind every ATTACH and ALTER.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::collector::{Collector, Scope};
use crate::derive::partition::{Bound, Child, Key, Level, Strategy, assess, fixed_zone};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session};

/// The collector.
pub struct Partitions;

const TABLE: &[&str] = &["datname", "schemaname", "relname"];
const SUPPORT: &[&str] = &["datname", "schemaname", "relname", "strategy", "key_type", "reason"];

static RUNWAY: Metric = Metric::gauge(
    "pg_partition_runway_seconds",
    TABLE,
    "Seconds from the server's now() until the first insert of a current row fails or falls into a \
     DEFAULT partition, from pg_class.relpartbound over the tree of leaves; negative: seconds since \
     it began to fail; 0: never covered; +Inf: no end; timestamp and date keys are taken as local \
     time in the configured zone, else in the database's TimeZone.",
);
static COVERED_UNTIL: Metric = Metric::gauge(
    "pg_partition_covered_until_timestamp_seconds",
    TABLE,
    "Unix time at which the coverage that holds now ends, or ended if it is over, from \
     pg_class.relpartbound; +Inf: no end; 0: never covered, so that covered_until - time() pages.",
);
static COVERED: Metric = Metric::gauge(
    "pg_partition_covered",
    TABLE,
    "Whether a row of the server's now() reaches a partition that is no DEFAULT of a time level, \
     from pg_class.relpartbound; 0: expired or never covered.",
);
static GAP: Metric = Metric::gauge(
    "pg_partition_gap",
    TABLE,
    "Whether rows will be refused, or are, although later partitions exist, from \
     pg_class.relpartbound.",
);
static NEXT: Metric = Metric::gauge(
    "pg_partition_next_coverage_timestamp_seconds",
    TABLE,
    "Unix time at which coverage begins again after the gap, from pg_class.relpartbound; absent \
     without a gap.",
);
static REQUIRED: Metric = Metric::gauge(
    "pg_partition_runway_required_seconds",
    TABLE,
    "Runway that the table must have, from the exporter's configuration.",
);
static SUPPORTED: Metric = Metric::gauge(
    "pg_partition_supported",
    SUPPORT,
    "Whether the table's runway is known, from pg_partitioned_table.partstrat and partclass; \
     reason says why not, and with 1 that naive times were taken as UTC (zone_unknown).",
);
static COUNT: Metric = Metric::untyped(
    "pg_partition_count",
    TABLE,
    "Direct partitions, the DEFAULT included and pending detaches excluded, from pg_inherits.",
);
static FUTURE: Metric = Metric::untyped(
    "pg_partition_future_count",
    TABLE,
    "Distinct time ranges of leaf partitions that begin after now, from pg_class.relpartbound; no \
     sign of health, since those behind a gap count too.",
);
static HAS_DEFAULT: Metric = Metric::gauge(
    "pg_partition_has_default",
    TABLE,
    "Whether a level partitioned by time, or the root of an unsupported table, has a DEFAULT, from \
     pg_class.relpartbound.",
);
static DEFAULT_ROWS: Metric = Metric::gauge(
    "pg_partition_default_rows",
    TABLE,
    "Estimated rows in those DEFAULT partitions, from pg_class.reltuples, or from \
     pg_stat_get_live_tuples where that is not positive.",
);
static OLDEST: Metric = Metric::gauge(
    "pg_partition_oldest_timestamp_seconds",
    TABLE,
    "Unix time at which the oldest leaf partition begins, from pg_class.relpartbound; -Inf: \
     MINVALUE.",
);
static INTERVAL: Metric = Metric::gauge(
    "pg_partition_interval_seconds",
    TABLE,
    "Median width of the last five leaf partitions that have an end, from pg_class.relpartbound.",
);
static SIZE: Metric = Metric::gauge(
    "pg_partition_size_bytes",
    TABLE,
    "Estimated size of all leaf partitions without indexes and TOAST, as of their last VACUUM or \
     ANALYZE, from pg_class.relpages.",
);

/// The server's now, its page size, and nothing that locks.
const NOW: &str = "\
SELECT (pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::int8 AS now,
       pg_catalog.current_setting('block_size')::int8 AS block_size";

/// Partitioned tables, then partitions, in one statement and so of one snapshot. An inner
/// partitioned table is in both. Only roots carry names. A user's own operator class may sort in
/// its own way, so that its type counts as unknown.
macro_rules! relations {
    ($attached:literal) => {
        concat!(
            "\
SELECT p.partrelid::int8 AS oid, NULL::int8 AS parent, NULL::text AS bound,
       CASE WHEN c.relispartition THEN NULL ELSE n.nspname::text END AS schemaname,
       CASE WHEN c.relispartition THEN NULL ELSE c.relname::text END AS relname,
       p.partstrat::text AS strategy,
       ARRAY(SELECT CASE WHEN k.opc::int8 < 16384 THEN t.typname::text ELSE 'user_defined' END
               FROM pg_catalog.unnest(p.partclass::pg_catalog.oid[]) WITH ORDINALITY k(opc, nr)
               JOIN pg_catalog.pg_opclass o ON o.oid = k.opc
               JOIN pg_catalog.pg_type t ON t.oid = o.opcintype
              ORDER BY k.nr) AS keys,
       NULL::int8 AS pages, NULL::float8 AS rows,
       CASE WHEN p.partattrs[0] = 0 THEN p.partexprs::text END AS exprs
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't'
UNION ALL
SELECT c.oid::int8, p.partrelid::int8, pg_catalog.pg_get_expr(c.relpartbound, 0),
       NULL, NULL, NULL, NULL, c.relpages::int8,
       CASE WHEN c.oid = p.partdefid
                 OR p.partrelid IN (SELECT d.partdefid FROM pg_catalog.pg_partitioned_table d)
            THEN CASE WHEN c.reltuples > 0 THEN c.reltuples::float8
                      ELSE pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 END END, NULL
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_inherits i ON i.inhparent = p.partrelid
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'",
            $attached
        )
    };
}

/// From 14 on a partition can be half detached: still bound, but closed to inserts.
const RELATIONS: &[(i32, &str)] =
    &[(140_000, relations!(" AND NOT i.inhdetachpending")), (0, relations!(""))];

/// SQLSTATEs of `cache lookup failed for type` and `invalid internal value for enum`.
const VANISHED: &[&str] = &["XX000", "22P03"];
/// Tries to read a catalogue that changes under us. In a loop that does nothing but create and drop
/// types, about one try in twenty fails.
const TRIES: u32 = 5;

/// One partitioned table.
#[derive(Debug, Clone)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Schema and name; `None` for one that is itself a partition.
    pub name: Option<(String, String)>,
    /// `partstrat`.
    pub strategy: String,
    /// Key types by operator class, in order.
    pub keys: Vec<String>,
    /// The zone that the leading key's expression fixes, if it does.
    pub zone: Option<Zone>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its parent's.
    pub parent: i64,
    /// Its bound, as PostgreSQL deparses it.
    pub bound: Option<String>,
    /// `relpages`.
    pub pages: i64,
    /// Row estimate, of DEFAULT partitions only.
    pub rows: Option<f64>,
}

/// The zone of naive key values.
#[derive(Debug, Clone)]
pub enum Zone {
    /// Found.
    Known(TimeZone),
    /// Neither the configured nor the server's zone is known here: UTC is assumed.
    Unknown,
}

impl Zone {
    /// The first of these names that means something, as an IANA zone or a POSIX rule.
    pub fn find<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names
            .into_iter()
            .find_map(|name| match name {
                // Found even where there is no zone table.
                "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT" => Some(TimeZone::UTC),
                name => TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok(),
            })
            .map_or(Self::Unknown, Self::Known)
    }
}

/// What one collection reads.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Database.
    pub datname: String,
    /// Microseconds since 1970 by the server's clock.
    pub now: i64,
    /// Bytes a page.
    pub block_size: i64,
    /// Of the writers of naive timestamps and dates.
    pub zone: Zone,
    /// Required runway in seconds.
    pub required: f64,
    /// Partitioned tables.
    pub tables: Vec<Table>,
    /// Their partitions.
    pub partitions: Vec<Partition>,
}

impl Collector for Partitions {
    type Rows = Rows;
    type State = ();

    const NAME: &'static str = "partitions";
    const HELP: &'static str = "Partition runway: seconds until an insert fails, gaps, DEFAULTs.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &[
        &RUNWAY,
        &COVERED_UNTIL,
        &COVERED,
        &GAP,
        &NEXT,
        &REQUIRED,
        &SUPPORTED,
        &COUNT,
        &FUTURE,
        &HAS_DEFAULT,
        &DEFAULT_ROWS,
        &OLDEST,
        &INTERVAL,
        &SIZE,
    ];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let server = session.server();
        let relations = RELATIONS
            .iter()
            .find(|(since, _)| server.version_num >= *since)
            .map_or(relations!(""), |(_, sql)| sql);
        let answers = read(session, relations).await?;
        let [now, relations] = answers.as_slice() else { return Err(no_answer()) };
        let now = now.first().ok_or_else(no_answer)?;
        let settings = &session.settings().partitions;
        let zones = settings.zone.iter().chain([&server.timezone]).map(String::as_str);
        let mut rows = Rows {
            datname: server.datname.clone(),
            now: now.get("now")?,
            block_size: now.get("block_size")?,
            zone: Zone::find(zones),
            required: settings.required,
            tables: Vec::new(),
            partitions: Vec::new(),
        };
        for row in relations {
            rows.read(row)?;
        }
        Ok(rows)
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let (levels, index) = forest(&rows);
        let (zone, zone_known) = match &rows.zone {
            Zone::Known(zone) => (zone.clone(), true),
            Zone::Unknown => (TimeZone::UTC, false),
        };
        let mut roots: Vec<(&(String, String), &Table)> =
            rows.tables.iter().filter_map(|t| Some((t.name.as_ref()?, t))).collect();
        roots.sort_by_key(|(name, _)| *name);
        let roots: Vec<_> = roots
            .into_iter()
            .filter_map(|(name, table)| {
                let root = *index.get(&table.oid)?;
                Some((name, table, assess(&levels, root, rows.now.into(), &zone)))
            })
            .collect();
        // What pages comes first: should the series limit be hit, the rest is lost before it.
        for ((schema, relname), table, outlook) in &roots {
            let labels = [rows.datname.as_str(), schema, relname];
            let reason = match &outlook.runway {
                Ok(runway) if runway.local && !zone_known => "zone_unknown",
                Ok(_) => "",
                Err(reason) => reason.label(),
            };
            let strategy = Strategy::from_code(&table.strategy).map_or("unknown", Strategy::label);
            let key = table.keys.first().map_or("unknown", String::as_str);
            let support = [labels[0], labels[1], labels[2], strategy, key, reason];
            sink.number(&SUPPORTED, &support, flag(outlook.runway.is_ok()));
            let Ok(runway) = &outlook.runway else { continue };
            sink.number(&RUNWAY, &labels, runway.seconds(rows.now.into()));
            sink.number(&COVERED_UNTIL, &labels, runway.until.map_or(0.0, |m| m.seconds()));
            sink.number(&COVERED, &labels, flag(runway.covered));
            sink.number(&REQUIRED, &labels, rows.required);
            sink.number(&GAP, &labels, flag(runway.next.is_some()));
            sink.number(&NEXT, &labels, runway.next.map(|m| m.seconds()));
        }
        for ((schema, relname), _, outlook) in &roots {
            let labels = [rows.datname.as_str(), schema, relname];
            sink.number(&COUNT, &labels, outlook.count as f64);
            sink.number(&HAS_DEFAULT, &labels, flag(outlook.has_default));
            sink.number(&DEFAULT_ROWS, &labels, outlook.default_rows);
            sink.number(&SIZE, &labels, outlook.pages as f64 * rows.block_size as f64);
            let Ok(runway) = &outlook.runway else { continue };
            sink.number(&FUTURE, &labels, runway.future as f64);
            sink.number(&OLDEST, &labels, runway.oldest.map(|m| m.seconds()));
            sink.number(&INTERVAL, &labels, runway.interval.map(|us| us as f64 / 1e6));
        }
    }
}

/// Where a type is dropped between the statement's snapshot and the deparsing of a bound that holds
/// its values, the server fails the statement; at the next try the table is gone too.
async fn read(session: &Session, relations: &str) -> Result<Vec<Vec<Row>>, CollectError> {
    let mut tries = 1;
    loop {
        let answers = session.read_all(&[Query::new(NOW), Query::new(relations)]).await;
        match answers {
            Err(CollectError::Query { sqlstate, .. })
                if VANISHED.contains(&sqlstate.as_str()) && tries < TRIES =>
            {
                tries += 1;
            }
            answers => return answers,
        }
    }
}

impl Rows {
    fn read(&mut self, row: &Row) -> Result<(), CollectError> {
        // By position: there may be tens of thousands of them.
        let (oid, parent) = (row.at(0)?, row.at::<Option<i64>>(1)?);
        match parent {
            Some(parent) => self.partitions.push(Partition {
                oid,
                parent,
                bound: row.at(2)?,
                pages: row.at(7)?,
                rows: row.at(8)?,
            }),
            None => {
                let name = row.at::<Option<String>>(3)?.zip(row.at::<Option<String>>(4)?);
                let zone = row.at::<Option<&str>>(9)?.and_then(fixed_zone);
                self.tables.push(Table {
                    oid,
                    name,
                    strategy: row.at(5)?,
                    keys: row.at(6)?,
                    zone: zone.map(|zone| Zone::find([zone.as_str()])),
                });
            }
        }
        Ok(())
    }
}

/// The partitioned tables with their partitions, and where each OID is among them.
fn forest(rows: &Rows) -> (Vec<Level>, HashMap<i64, usize>) {
    let mut levels = Vec::with_capacity(rows.tables.len());
    let mut index = HashMap::with_capacity(rows.tables.len());
    for table in &rows.tables {
        let Some(strategy) = Strategy::from_code(&table.strategy) else { continue };
        let keys = table.keys.iter().map(|k| Key::of(k)).collect();
        index.insert(table.oid, levels.len());
        // An abbreviation that only the server knows leaves the zone of the writers.
        let zone = match &table.zone {
            Some(Zone::Known(zone)) => Some(zone.clone()),
            Some(Zone::Unknown) | None => None,
        };
        levels.push(Level { strategy, keys, column: None, zone, children: Vec::new() });
    }
    for partition in &rows.partitions {
        let level = index.get(&partition.oid).copied();
        let parent = index.get(&partition.parent).and_then(|&parent| levels.get_mut(parent));
        if let Some(parent) = parent {
            parent.children.push(Child {
                bound: partition.bound.as_deref().and_then(Bound::parse),
                level,
                // Block numbers are unsigned, the column is not.
                pages: partition.pages.rem_euclid(1 << 32).unsigned_abs(),
                rows: partition.rows,
            });
        }
    }
    (levels, index)
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn no_answer() -> CollectError {
    CollectError::Missing {
        what: "the server did not say what time it is".to_owned(),
        remedy: "check that this is a PostgreSQL server".to_owned(),
    }
}
