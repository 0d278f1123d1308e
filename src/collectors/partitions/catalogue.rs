//! What the partitions collector reads: partitioned tables, partitions and their bounds, sequences.
//!
//! Must not: call anything that opens a user's table. `pg_get_expr` gets relation 0, which takes no
//! lock; with the partition's own OID it would queue behind every ATTACH and ALTER.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use crate::collectors::relations::RelationName;
use crate::derive::partition::{Bound, Child, KeyUnit, Level, PartitionKey, Strategy, fixed_zone};
use crate::error::CollectError;
use crate::pg::{IfFound, Query, Row, Session, Uncut, columns, cut};

/// The server's now, its page size, and nothing that locks.
const NOW: &str = "\
SELECT (pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::int8 AS now,
       pg_catalog.current_setting('block_size')::int8 AS block_size";

/// How much is read of each partition beside the rows of DEFAULTs and of what has no end: nothing more, rows of
/// those without pages, names and rows.
const BOUNDS: i64 = 0;
const DATA: i64 = 1;
const NAMES: i64 = 2;

/// Partitioned tables, then partitions, in one statement and so of one snapshot. An inner
/// partitioned table is in both. Roots carry names, and leaves where asked (`$1`). A user's own operator class may sort in
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
       CASE WHEN p.partattrs[0] = 0 THEN ",
            cut!("p.partexprs::text"),
            " END AS exprs,
       (SELECT a.attname::text FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]) AS key_column
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't'
UNION ALL
SELECT c.oid::int8, p.partrelid::int8, b.bound,
       NULL,
       CASE WHEN $1 > 1 AND c.relkind <> 'p'
            THEN (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                    FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace) END,
       NULL, NULL, c.relpages::int8,
       CASE WHEN $1 > 1 OR $1 = 1 AND c.relpages = 0 OR c.oid = p.partdefid
                 OR p.partrelid IN (SELECT d.partdefid FROM pg_catalog.pg_partitioned_table d)
                OR b.bound LIKE '%TO (MAXVALUE%' OR b.bound LIKE '%TO (''infinity''%'
            THEN CASE WHEN c.reltuples > 0 THEN c.reltuples::float8
                      ELSE pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 END END, NULL, NULL
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_inherits i ON i.inhparent = p.partrelid
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 CROSS JOIN LATERAL (SELECT ",
            cut!("pg_catalog.pg_get_expr(c.relpartbound, 0)"),
            " AS bound OFFSET 0) b
 WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'",
            $attached
        )
    };
}

/// From 14 on a partition can be half detached: still bound, but closed to inserts.
const RELATIONS: &[(i32, &str)] =
    &[(140_000, relations!(" AND NOT i.inhdetachpending")), (0, relations!(""))];

/// The next value of each sequence that fills the leading integer column of a root, be it owned by it
/// or named in its default. Each sequence is locked for a moment (ROW EXCLUSIVE), which
/// `lock_timeout` bounds; tables are not.
const SEQUENCES: &str = "\
SELECT o.oid::int8 AS oid,
       CASE WHEN pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT,USAGE')
                 AND (c.relpersistence = 'p' OR NOT pg_catalog.pg_is_in_recovery())
            THEN LEAST(9223372036854775807,
                       COALESCE(pg_catalog.pg_sequence_last_value(s.seqrelid)::numeric
                                + s.seqincrement, s.seqstart))
       END::int8 AS next
  FROM (SELECT p.partrelid AS oid, d.objid AS seq
          FROM pg_catalog.pg_partitioned_table p
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.refobjid = p.partrelid AND d.refobjsubid = p.partattrs[0]
           AND d.classid = d.refclassid AND d.deptype IN ('a', 'i')
         UNION
        SELECT p.partrelid, d.refobjid
          FROM pg_catalog.pg_partitioned_table p
          JOIN pg_catalog.pg_attrdef a ON a.adrelid = p.partrelid AND a.adnum = p.partattrs[0]
          JOIN pg_catalog.pg_depend d
            ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = a.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) o
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = o.seq
  JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
  JOIN pg_catalog.pg_class t ON t.oid = o.oid
 WHERE NOT t.relispartition AND s.seqincrement > 0";

/// SQLSTATEs of `cache lookup failed for type`, `invalid internal value for enum`, and of a standby
/// that has to replay what the statement still looks at.
const VANISHED: &[&str] = &["XX000", "22P03", "40001"];
/// Tries to read a catalogue that changes under us. In a loop that does nothing but create and drop
/// types, about one try in twenty fails.
const TRIES: u32 = 5;

columns! {
    struct PartitionsNow {
        now: i64,
        block_size: i64,
    }
}

columns! {
    /// A partitioned table, or a partition.
    struct TreeRow {
        oid: i64,
        table: Option<PartitionedRow> as IfFound<PartitionedRow>,
        partition: Option<Attached> as IfFound<Attached>,
    }
}

columns! {
    struct PartitionedRow {
        strategy: String,
        keys: Vec<String>,
        name: Option<(String, String)> as IfFound<RelationName>,
        key_column: Option<String>,
        exprs: Option<String> as Uncut<Option<String>>,
    }
}

columns! {
    struct Attached {
        parent: i64,
        bound: Option<String> as Uncut<Option<String>>,
        pages: i64,
        rows: Option<f64>,
        name: Option<String> = "relname",
    }
}

columns! {
    struct NextKey {
        oid: i64,
        next: Option<i64>,
    }
}

/// One partitioned table.
#[derive(Debug, Clone)]
pub struct PartitionedTable {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Schema and name; `None` for one that is itself a partition.
    pub name: Option<(String, String)>,
    /// `partstrat`.
    pub strategy: String,
    /// Key types by operator class, in order.
    pub keys: Vec<String>,
    /// Name of the leading key column; `None` for an expression.
    pub column: Option<String>,
    /// The zone that the leading key's expression fixes, if it does.
    pub zone: Option<Zone>,
    /// What the configuration says of it.
    pub rule: TableRule,
}

impl PartitionedTable {
    /// Whether it is a root by RANGE of an integer, behind which there may be a sequence.
    fn may_count(&self) -> bool {
        let integer = |k: &String| matches!(k.as_str(), "int2" | "int4" | "int8");
        self.name.is_some() && self.strategy == "r" && self.keys.first().is_some_and(integer)
    }
}

/// What the configuration says of one root; `None`: as of all.
#[derive(Debug, Clone, Default)]
pub struct TableRule {
    /// No series.
    pub ignore: bool,
    /// Required runway in seconds.
    pub required: Option<f64>,
    /// Zone of the writers.
    pub zone: Option<Zone>,
    /// What the topmost integer key holds.
    pub unit: Option<KeyUnit>,
    /// Seconds after which data should be gone.
    pub max_age: Option<f64>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its parent's.
    pub parent: i64,
    /// Its bound, as PostgreSQL deparses it; `None` where that is too long to be read.
    pub bound: Option<String>,
    /// `relpages`.
    pub pages: i64,
    /// Row estimate: of DEFAULT partitions, and of others where asked for.
    pub rows: Option<f64>,
    /// Schema and name of a leaf, quoted where need be, where asked for.
    pub name: Option<String>,
}

impl Partition {
    /// Block numbers are unsigned, the column is not.
    pub(super) fn pages(&self) -> u64 {
        self.pages.rem_euclid(1 << 32).unsigned_abs()
    }
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
    pub tables: Vec<PartitionedTable>,
    /// Their partitions.
    pub partitions: Vec<Partition>,
    /// Next value of the sequence behind the leading column, by OID of the table.
    pub next_keys: HashMap<i64, i64>,
    /// Schema and name of the tables that must exist here.
    pub must_exist: Vec<(String, String)>,
    /// Leaves of each table with series of their own.
    pub per_partition: usize,
}

/// Where a type is dropped between the statement's snapshot and the deparsing of a bound that holds
/// its values, the server fails the statement; at the next try the table is gone too.
async fn read(session: &Session, detail: i64) -> Result<Vec<Vec<Row>>, CollectError> {
    let version = session.server().version_num;
    let relations = RELATIONS
        .iter()
        .find(|(since, _)| version >= *since)
        .map_or(relations!(""), |(_, sql)| sql);
    let mut tries = 1;
    loop {
        let queries = [Query::new(NOW), Query::new(relations).int8(&detail)];
        let answers = session.read_all(&queries).await;
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

/// The next keys, where they can be read: a sequence that is locked or dropped just now costs no more
/// than that.
async fn next_keys(session: &Session) -> Result<HashMap<i64, i64>, CollectError> {
    let rows = match session.read(SEQUENCES).await {
        Err(e) if !e.is_fatal() => return Ok(HashMap::new()),
        answer => answer?,
    };
    let mut keys = HashMap::new();
    for key in Row::each(&rows) {
        let NextKey { oid, next } = key?;
        if let Some(next) = next {
            keys.entry(oid).and_modify(|most: &mut i64| *most = next.max(*most)).or_insert(next);
        }
    }
    Ok(keys)
}

impl Rows {
    /// Reads everything about one database.
    pub(super) async fn fetch(session: &Session) -> Result<Self, CollectError> {
        let server = session.server();
        let settings = &session.settings().partitions;
        let aged = settings.rules.iter().any(|rule| rule.max_age.is_some());
        let detail = match settings.per_partition {
            0 if aged => DATA,
            0 => BOUNDS,
            _ => NAMES,
        };
        let answers = read(session, detail).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let PartitionsNow { now, block_size } = Row::one(next())?;
        let zones = || settings.zone.iter().chain([&server.timezone]).map(String::as_str);
        let must_exist = settings.must_exist(&server.datname);
        let mut rows = Self {
            datname: server.datname.clone(),
            now,
            block_size,
            zone: Zone::find(zones()),
            required: settings.required,
            tables: Vec::new(),
            partitions: Vec::new(),
            next_keys: HashMap::new(),
            must_exist: must_exist.map(|(s, t)| (s.to_owned(), t.to_owned())).collect(),
            per_partition: settings.per_partition,
        };
        for relation in Row::each(next()) {
            rows.add(relation?);
        }
        for table in &mut rows.tables {
            let Some((schema, relname)) = &table.name else { continue };
            let Some(rule) = settings.rule(&server.datname, schema, relname) else { continue };
            table.rule = TableRule {
                ignore: rule.ignore,
                required: rule.required,
                zone: rule
                    .zone
                    .as_deref()
                    .map(|zone| Zone::find([zone].into_iter().chain(zones()))),
                unit: rule.unit.as_deref().and_then(KeyUnit::from_word),
                max_age: rule.max_age,
            };
        }
        if rows.tables.iter().any(PartitionedTable::may_count) {
            rows.next_keys = next_keys(session).await?;
        }
        Ok(rows)
    }

    fn add(&mut self, relation: TreeRow) {
        let oid = relation.oid;
        if let Some(Attached { parent, bound, pages, rows, name }) = relation.partition {
            self.partitions.push(Partition { oid, parent, bound, pages, rows, name });
        } else if let Some(table) = relation.table {
            let zone = table.exprs.as_deref().and_then(fixed_zone);
            self.tables.push(PartitionedTable {
                oid,
                name: table.name,
                strategy: table.strategy,
                keys: table.keys,
                column: table.key_column,
                zone: zone.map(|zone| Zone::find([zone.as_str()])),
                rule: TableRule::default(),
            });
        }
    }
}

/// The partitioned tables with their partitions, and where each OID is among them.
pub(super) fn forest(rows: &Rows) -> (Vec<Level>, HashMap<i64, usize>) {
    let mut levels = Vec::with_capacity(rows.tables.len());
    let mut index = HashMap::with_capacity(rows.tables.len());
    for table in &rows.tables {
        let Some(strategy) = Strategy::from_code(&table.strategy) else { continue };
        let keys = table.keys.iter().map(|k| PartitionKey::of(k)).collect();
        index.insert(table.oid, levels.len());
        // An abbreviation that only the server knows leaves the zone of the writers.
        let zone = match &table.zone {
            Some(Zone::Known(zone)) => Some(zone.clone()),
            Some(Zone::Unknown) | None => None,
        };
        let column = table.column.as_deref().map(Into::into);
        levels.push(Level { strategy, keys, column, zone, children: Vec::new() });
    }
    for partition in &rows.partitions {
        let level = index.get(&partition.oid).copied();
        let parent = index.get(&partition.parent).and_then(|&parent| levels.get_mut(parent));
        if let Some(parent) = parent {
            parent.children.push(Child {
                id: partition.oid,
                bound: partition.bound.as_deref().and_then(Bound::parse),
                level,
                pages: partition.pages(),
                rows: partition.rows,
            });
        }
    }
    (levels, index)
}
