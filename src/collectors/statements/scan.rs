//! What one poll reads: the view twice without its texts, the names behind its OIDs, and, now and
//! then, the texts of statements that were newly exposed.
//!
//! Must not: keep anything, read a text in the scan, or compare two scans.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::own::{Answer, Id, Own};
use crate::derive::latency::Cumulative;
use crate::error::CollectError;
use crate::pg::{Extension, Lossy, OWN_MARK, Query, Row, Session};

/// Counters of an [`Entry`] beside calls and times.
pub(super) const COUNTERS: usize = 8;
/// Most bytes of statement text taken in one go.
const TEXT_BYTES: usize = 1 << 20;
/// Most texts asked for in one go.
pub(super) const TEXTS: usize = 1_000;

/// Identifies a row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    /// `dbid`.
    pub dbid: i64,
    /// `userid`.
    pub userid: i64,
    /// `queryid`.
    pub queryid: i64,
    /// `toplevel`; true where the extension does not tell (before 1.9).
    pub toplevel: bool,
}

/// One row of the view. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Which row.
    pub key: EntryKey,
    /// `stats_since` as Unix seconds, 0 where the extension does not tell (before 1.11).
    pub since: f64,
    /// Calls and execution times.
    pub time: Cumulative,
    /// rows, shared blocks hit, shared blocks read, temporary blocks written, block read seconds,
    /// block write seconds, plans, plan seconds.
    pub counters: [f64; COUNTERS],
    /// Plans and planning times, where they were read.
    pub planning: Option<Cumulative>,
}

/// The view at one instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// Monotonic seconds when the answer had come.
    pub at: f64,
    /// Unix seconds by the server's clock just before and just after.
    pub clock: (f64, f64),
    /// The rows.
    pub entries: Vec<Entry>,
    /// Database and role of the rows whose queryid is hidden from us, one element a row.
    pub hidden: Vec<(i64, i64)>,
}

/// What else one poll learns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Unix seconds, by our clock, at 0 of the monotonic one.
    pub epoch: f64,
    /// Unix seconds of the postmaster's start: another value is another server process.
    pub started: f64,
    /// `pg_stat_statements.max`.
    pub max_entries: Option<f64>,
    /// Whether `pg_stat_statements.track_planning` is on.
    pub track_planning: bool,
    /// `pg_stat_statements_info.dealloc`.
    pub dealloc: Option<f64>,
    /// `pg_stat_statements_info.stats_reset` as Unix seconds.
    pub stats_reset: Option<f64>,
    /// Names by OID.
    pub databases: HashMap<i64, Arc<str>>,
    /// Names by OID.
    pub roles: HashMap<i64, Arc<str>>,
}

/// The settings that `derive` needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Statements with series of their own.
    pub top: usize,
    /// Whether texts are wanted.
    pub include_text: bool,
    /// Latency objective in seconds.
    pub objective: f64,
    /// Share of the calls that must end within 50 ms.
    pub slo: f64,
}

/// The text of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// `dbid`, `userid`, `queryid`.
    pub id: (i64, i64, i64),
    /// `query`, truncated.
    pub query: Arc<str>,
}

/// What one poll reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Names and settings.
    pub facts: Facts,
    /// The two scans, the older first.
    pub scans: [Scan; 2],
    /// Texts, where this poll asked for some.
    pub texts: Option<Vec<Text>>,
    /// Which statements of our role are ours.
    pub own: Answer,
    /// Settings.
    pub options: Options,
}

/// Reads the view twice, `scan_spacing` apart, and the texts of `wanted` queryids. The shape of
/// planning times needs columns that the scan leaves out unless they are worth having.
pub(super) async fn read(
    session: &Session,
    own: &Own,
    wanted: &Vec<i64>,
    planning: bool,
) -> Result<Rows, CollectError> {
    let extension = extension(session)?;
    let settings = &session.settings().statements;
    let options = Options {
        top: settings.top,
        include_text: settings.include_text,
        objective: session.settings().objectives.latency,
        slo: session.settings().objectives.latency_slo,
    };
    let (facts, scan) = (facts_sql(extension), scan_sql(extension, planning));
    let pause = settings.scan_spacing;
    let (once, twice) = session
        .read_twice(Query::new(&facts), Query::new(&scan), pause)
        .await
        .map_err(not_loaded)?;
    let [first, second] = twice;
    let mut rows = Rows {
        facts: Facts { epoch: session.clock().epoch(), ..facts_of(&once)? },
        scans: [
            scan_of(&first.rows, first.at, planning)?,
            scan_of(&second.rows, second.at, planning)?,
        ],
        texts: None,
        own: Answer::NotAsked,
        options,
    };
    let unknown = own.unknown(&rows.scans[1], session.server().role_oid);
    if !unknown.is_empty() {
        rows.own = optional(whether_own(session, extension, &unknown).await)?
            .map_or(Answer::Failed, Answer::Known);
    }
    if wanted.is_empty() || !settings.include_text {
        return Ok(rows);
    }
    let texts = optional(texts(session, extension, wanted, settings.text_length).await)?;
    Ok(Rows { texts: Some(texts.unwrap_or_default()), ..rows })
}

/// A text that cannot be read (converted from another encoding, say) must not cost the poll.
fn optional<T>(result: Result<T, CollectError>) -> Result<Option<T>, CollectError> {
    match result {
        Err(e) if e.is_fatal() => Err(e),
        result => Ok(result.ok()),
    }
}

/// Whether the statements of our role carry our comment. Compared as bytes: a text may be in
/// another database's encoding.
async fn whether_own(
    session: &Session,
    extension: &Extension,
    queryids: &Vec<i64>,
) -> Result<Vec<(Id, bool)>, CollectError> {
    let sql = format!(
        "SELECT s.dbid::int8, s.userid::int8, s.queryid,
                pg_catalog.position(pg_catalog.textsend(s.query), pg_catalog.textsend($2::text)) > 0
           FROM {}.pg_stat_statements(true) s
          WHERE s.userid = $3::int8::oid AND s.queryid = ANY ($1) AND s.query IS NOT NULL",
        extension.schema
    );
    let (mark, role) = (OWN_MARK.to_owned(), session.server().role_oid);
    let query = Query::new(&sql).int8_array(queryids).text(&mark).int8(&role);
    let rows = read_texts(session, query).await?;
    rows.iter().map(|row| Ok(((row.at(0)?, row.at(1)?, row.at(2)?), row.at(3)?))).collect()
}

fn extension(session: &Session) -> Result<&Extension, CollectError> {
    let server = session.server();
    let found =
        server.extensions.get("pg_stat_statements").ok_or_else(|| CollectError::Missing {
            what: format!("database {} has no extension pg_stat_statements", server.datname),
            remedy:
                "add pg_stat_statements to shared_preload_libraries, restart the server and run \
                 CREATE EXTENSION pg_stat_statements in that database"
                    .to_owned(),
        })?;
    if found.version < (1, 8) {
        let (major, minor) = found.version;
        return Err(CollectError::Missing {
            what: format!("pg_stat_statements {major}.{minor} is older than 1.8 (PostgreSQL 13)"),
            remedy: "run ALTER EXTENSION pg_stat_statements UPDATE".to_owned(),
        });
    }
    Ok(found)
}

/// SQLSTATE 55000: the extension is there, its library is not.
fn not_loaded(e: CollectError) -> CollectError {
    match e {
        CollectError::Query { sqlstate, .. } if sqlstate == "55000" => CollectError::Missing {
            what: "the library of pg_stat_statements is not loaded".to_owned(),
            remedy: "add pg_stat_statements to shared_preload_libraries and restart the server"
                .to_owned(),
        },
        other => other,
    }
}

/// Raises work_mem for the transaction: the view, and more so its texts, would spill to disk.
const WORK_MEM: &str = "\
pg_catalog.set_config('work_mem', (GREATEST(16777216,
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))) / 1024)::text, true)";

/// The rows of a query over the view with its texts.
async fn read_texts(session: &Session, query: Query<'_>) -> Result<Vec<Row>, CollectError> {
    let work_mem = format!("SELECT {WORK_MEM}");
    let mut answers = session.read_all(&[Query::new(&work_mem), query]).await?;
    Ok(answers.pop().unwrap_or_default())
}

/// One list of (kind, id, name, value). Sets work_mem for the scans that follow in the transaction:
/// 10,000 rows of the view would otherwise spill to disk. Names come as bytes, since shared
/// catalogs may hold names in another database's encoding.
fn facts_sql(extension: &Extension) -> String {
    let mut sql = "\
SELECT 'database'::text, d.oid::int8, pg_catalog.textsend(d.datname::text), NULL::float8
  FROM pg_catalog.pg_database d
UNION ALL
SELECT 'role', r.oid::int8, pg_catalog.textsend(r.rolname::text), NULL
  FROM pg_catalog.pg_roles r
UNION ALL
SELECT 'started', NULL, NULL, pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())
UNION ALL
SELECT 'max', NULL, NULL, pg_catalog.current_setting('pg_stat_statements.max', true)::float8
UNION ALL
SELECT 'planning', NULL, NULL,
       pg_catalog.current_setting('pg_stat_statements.track_planning', true)::bool::int4::float8
UNION ALL
SELECT 'work_mem', NULL, NULL, pg_catalog.length("
        .to_owned();
    sql.push_str(WORK_MEM);
    sql.push_str(")::float8");
    if extension.version >= (1, 9) {
        let schema = &extension.schema;
        sql.push_str(&format!(
            "
UNION ALL
SELECT 'dealloc', NULL, NULL, i.dealloc::float8 FROM {schema}.pg_stat_statements_info() i
UNION ALL
SELECT 'stats_reset', NULL, NULL, pg_catalog.date_part('epoch', i.stats_reset)
  FROM {schema}.pg_stat_statements_info() i"
        ));
    }
    sql
}

/// The rows between two that carry nothing but the server's time, so that the cost of a scan is
/// known whatever the network does.
fn scan_sql(extension: &Extension, planning: bool) -> String {
    const CLOCK: &str = "\
SELECT NULL::int8, NULL::int8, NULL::int8, NULL::bool, NULL::int8,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), NULL::float8, NULL::float8,
       NULL::float8, NULL::float8, NULL::int8, NULL::int8, NULL::int8, NULL::int8, NULL::float8,
       NULL::float8, NULL::int8, NULL::float8, NULL::float8, NULL::float8";
    let version = extension.version;
    let toplevel = if version >= (1, 9) { "s.toplevel" } else { "true" };
    let (shared, since) = if version >= (1, 11) {
        let since = "pg_catalog.date_part('epoch', s.stats_since), \
                     pg_catalog.date_part('epoch', s.minmax_stats_since)";
        ("shared_", since)
    } else {
        ("", "0::float8, 0::float8")
    };
    let (no_planning, planning) = if planning {
        (
            ", NULL::float8, NULL::float8, NULL::float8, NULL::float8",
            ", s.min_plan_time, s.max_plan_time, s.mean_plan_time, s.stddev_plan_time",
        )
    } else {
        ("", "")
    };
    format!(
        "{CLOCK}{no_planning}
UNION ALL
SELECT s.dbid::int8, s.userid::int8, s.queryid, {toplevel}, s.calls,
       s.total_exec_time, s.min_exec_time, s.max_exec_time,
       s.mean_exec_time, s.stddev_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_written, s.{shared}blk_read_time, s.{shared}blk_write_time, s.plans,
       s.total_plan_time, {since}{planning}
  FROM {schema}.pg_stat_statements(false) s
UNION ALL
{CLOCK}{no_planning}",
        schema = extension.schema
    )
}

fn facts_of(rows: &[Row]) -> Result<Facts, CollectError> {
    let mut facts = Facts::default();
    for row in rows {
        let value: Option<f64> = row.at(3)?;
        match row.at::<&str>(0)? {
            kind @ ("database" | "role") => {
                let name = row.at::<Lossy>(2)?.0.into();
                let names = if kind == "role" { &mut facts.roles } else { &mut facts.databases };
                names.insert(row.at(1)?, name);
            }
            "started" => facts.started = value.unwrap_or_default(),
            "max" => facts.max_entries = value,
            "planning" => facts.track_planning = value == Some(1.0),
            "dealloc" => facts.dealloc = value,
            "stats_reset" => facts.stats_reset = value,
            _ => {}
        }
    }
    Ok(facts)
}

fn scan_of(rows: &[Row], at: f64, planning: bool) -> Result<Scan, CollectError> {
    let mut scan = Scan {
        at,
        clock: (f64::INFINITY, f64::NEG_INFINITY),
        entries: Vec::with_capacity(rows.len()),
        hidden: Vec::new(),
    };
    for row in rows {
        let Some(dbid) = row.at::<Option<i64>>(0)? else {
            let now: f64 = row.at(5)?;
            scan.clock = (scan.clock.0.min(now), scan.clock.1.max(now));
            continue;
        };
        let userid = row.at(1)?;
        match row.at::<Option<i64>>(2)? {
            None => scan.hidden.push((dbid, userid)),
            Some(queryid) => {
                let key = EntryKey { dbid, userid, queryid, toplevel: row.at(3)? };
                scan.entries.push(entry(key, row, planning)?);
            }
        }
    }
    Ok(scan)
}

/// The view's milliseconds become seconds here and nowhere else.
fn entry(key: EntryKey, row: &Row, planning: bool) -> Result<Entry, CollectError> {
    let seconds = |column| row.at::<f64>(column).map(|ms| ms / 1e3);
    let count = |column| row.at::<i64>(column).map(|n| n as f64);
    let calls = |column| row.at::<i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
    let extremes_since = row.at(19)?;
    let planning = if planning {
        Some(Cumulative {
            calls: calls(16)?,
            total: seconds(17)?,
            min: seconds(20)?,
            max: seconds(21)?,
            mean: seconds(22)?,
            stddev: seconds(23)?,
            extremes_since,
        })
    } else {
        None
    };
    Ok(Entry {
        key,
        since: row.at(18)?,
        time: Cumulative {
            calls: calls(4)?,
            total: seconds(5)?,
            min: seconds(6)?,
            max: seconds(7)?,
            mean: seconds(8)?,
            stddev: seconds(9)?,
            extremes_since,
        },
        counters: [
            count(10)?,
            count(11)?,
            count(12)?,
            count(13)?,
            seconds(14)?,
            seconds(15)?,
            count(16)?,
            seconds(17)?,
        ],
        planning,
    })
}

async fn texts(
    session: &Session,
    extension: &Extension,
    wanted: &Vec<i64>,
    length: usize,
) -> Result<Vec<Text>, CollectError> {
    let length = length.min(TEXT_BYTES);
    let sql = format!(
        "SELECT s.dbid::int8, s.userid::int8, s.queryid,
                pg_catalog.textsend(pg_catalog.left(s.query, {length}))
           FROM {}.pg_stat_statements(true) s WHERE s.queryid = ANY ($1) AND s.query IS NOT NULL",
        extension.schema
    );
    let mut bytes = 0;
    let mut texts = Vec::new();
    for row in read_texts(session, Query::new(&sql).int8_array(wanted)).await? {
        let query: &[u8] = row.at(3)?;
        bytes += query.len();
        if bytes > TEXT_BYTES {
            break;
        }
        let query = published(&String::from_utf8_lossy(query)).into();
        texts.push(Text { id: (row.at(0)?, row.at(1)?, row.at(2)?), query });
    }
    Ok(texts)
}

/// What of a text may be published. pg_stat_statements replaces the constants of plannable statements
/// only; a utility statement keeps them (`ALTER ROLE ... PASSWORD '...'`), so that its first word is
/// all that is shown of it.
fn published(text: &str) -> String {
    const NORMALISED: [&str; 8] =
        ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"];
    let start = text.len() - without_comments(text).len();
    let statement = text[start..].trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    let word: String = statement.chars().take_while(char::is_ascii_alphabetic).collect();
    let word = word.to_ascii_uppercase();
    if NORMALISED.contains(&word.as_str()) { text.to_owned() } else { format!("{word} ...") }
}

/// The text from its first word on.
fn without_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let rest = if let Some(line) = text.strip_prefix("--") {
            line.find('\n').map(|end| &line[end..])
        } else if text.starts_with("/*") {
            end_of_comment(text).map(|end| &text[end..])
        } else {
            return text;
        };
        // A comment that does not end was cut off: there is no word.
        let Some(rest) = rest else { return "" };
        text = rest;
    }
}

/// Where a comment ends that the text starts with; they nest in PostgreSQL.
fn end_of_comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while let Some(two) = text.as_bytes().get(at..at + 2) {
        match two {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

impl Scan {
    /// How long the scan took on the server.
    pub(super) fn took(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.clock.1 - self.clock.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::published;

    #[test]
    fn only_statements_without_constants_are_published_whole() {
        for whole in [
            "SELECT $1",
            "  with x as (select $1) select * from x",
            "/* app=shop */ INSERT INTO t VALUES ($1)",
            "-- a comment\n(SELECT 1)",
            "/* nested /* one */ two */ select $1",
        ] {
            assert_eq!(published(whole), whole);
        }
        for (text, tag) in [
            ("ALTER ROLE mon PASSWORD 'hunter2'", "ALTER ..."),
            ("/* x */ create user u password 'hunter2'", "CREATE ..."),
            ("COPY (SELECT 1) TO PROGRAM 'curl -u a:hunter2'", "COPY ..."),
            ("/* SELECT 1 */ SET x = 'hunter2'", "SET ..."),
            ("/* cut off SELECT hunter2", " ..."),
            ("-- hunter2", " ..."),
            ("DO $$ hunter2 $$", "DO ..."),
            ("", " ..."),
        ] {
            assert_eq!(published(text), tag, "{text}");
        }
    }
}
