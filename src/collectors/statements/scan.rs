//! What one poll reads: the view twice without its texts, the names behind its OIDs, and, now and
//! then, the texts of statements that were newly exposed.
//!
//! Must not: keep anything, read a text in the scan, or compare two scans.

use std::sync::Arc;
use std::time::Duration;

use super::bars::Levels;
use super::entry::{Counters, Entry, EntryKey, Scan, ViewFacts};
use super::excluded::Excluded;
use super::own::{Answer, Id, Own};
use crate::derive::latency::Cumulative;
use crate::derive::statement::published;
use crate::error::CollectError;
use crate::pg::{
    IfColumn, IfFound, Lossy, Milliseconds, Need, OWN_MARK, Query, Row, Session, Trusted, Whole,
    columns,
};

/// Most bytes of statement text taken in one go.
const TEXT_BYTES: usize = 1 << 20;
/// ScansPerPoll further apart than this are two.
const WIDEST: Duration = Duration::from_millis(20);
/// Most texts asked for in one go.
pub(super) const TEXTS: usize = 1_000;

/// Shows the texts only where it is told to.
const VIEW: &str = "pg_stat_statements(boolean)";
/// From 1.9 on.
const INFO: &str = "pg_stat_statements_info()";

/// The functions that stand behind the views: a view is a table with a rule, which its owner can change.
/// They show the whole server, whichever database has them.
pub static NEED: Need = Need {
    extension: "pg_stat_statements",
    oldest: (1, 8),
    functions: &[VIEW, INFO],
    tables: &[],
    install: "add pg_stat_statements to shared_preload_libraries, restart the server and run \
              CREATE EXTENSION pg_stat_statements in a database of a superuser's, such as postgres, or \
              in the one that is connected to",
    anywhere: true,
};

/// Which function gives the rows, and the condition under which one is a top-level statement's.
///
/// # Errors
/// The extension is not what it should be.
pub fn view(trusted: &Trusted) -> Result<(&str, &'static str), CollectError> {
    // Before 1.9 the view does not say; it holds top-level statements only unless nested ones are
    // tracked, and then nobody can tell.
    const UNTOLD: &str = "\
COALESCE(pg_catalog.current_setting('pg_stat_statements.track', true) <> 'all', true)
         AND NOT (SELECT pg_catalog.count(*) > 0 FROM pg_catalog.pg_db_role_setting x
                   WHERE 'pg_stat_statements.track=all' = ANY (x.setconfig))";
    let toplevel = if trusted.version >= (1, 9) { "s.toplevel" } else { UNTOLD };
    Ok((trusted.function(VIEW)?, toplevel))
}

/// The function that says when the view was reset and what it evicted; `None` before 1.9.
///
/// # Errors
/// The extension is not what it should be.
fn info(trusted: &Trusted) -> Result<Option<&str>, CollectError> {
    if trusted.version >= (1, 9) { trusted.function(INFO).map(Some) } else { Ok(None) }
}

columns! {
    /// Evictions since the last reset.
    pub struct Evictions {
        /// How many.
        pub count: Option<f64>,
        /// In how many seconds.
        pub seconds: Option<f64>,
    }
}

/// Evictions; `None` before 1.9.
///
/// # Errors
/// As [`Session::read_trusted`].
pub async fn evictions(session: &Session) -> Result<Option<Evictions>, CollectError> {
    let plan = |trusted: &Trusted| {
        let sql = info(trusted)?.map(|info| {
            format!(
                "SELECT i.dealloc::float8 AS count, pg_catalog.date_part('epoch', \
                        pg_catalog.clock_timestamp() - i.stats_reset) AS seconds FROM {info}() i"
            )
        });
        Ok(sql.map(Query::new).into_iter().collect())
    };
    let (_, answers) = session.read_trusted(&NEED, plan).await?;
    Row::first(answers.first().map(Vec::as_slice).unwrap_or_default())
}

columns! {
    /// A row of a scan: the server's clock, or a row of the view. The view's milliseconds become seconds here and
    /// nowhere else.
    struct ScanLine {
        /// NULL for the clock.
        dbid: Option<i64>,
        userid: Option<i64>,
        /// NULL where it is hidden from us.
        queryid: Option<i64>,
        toplevel: Option<bool>,
        /// What the clock's rows carry, in the place of a time.
        clock: Option<f64> = "total_exec_time",
        /// `None` for the clock.
        figures: Option<Figures> as IfFound<Figures>,
    }
}

columns! {
    struct Figures {
        calls: u64 as Whole,
        total: f64 as Milliseconds = "total_exec_time",
        min: f64 as Milliseconds = "min_exec_time",
        max: f64 as Milliseconds = "max_exec_time",
        mean: f64 as Milliseconds = "mean_exec_time",
        stddev: f64 as Milliseconds = "stddev_exec_time",
        counters: Counters,
        since: f64 = "stats_since",
        extremes_since: f64 = "minmax_stats_since",
        /// Only where the scan asks for them.
        planning: Option<PlanTimes> as IfColumn<PlanTimes>,
    }
}

columns! {
    struct PlanTimes {
        calls: u64 as Whole = "plans",
        total: f64 as Milliseconds = "total_plan_time",
        min: f64 as Milliseconds = "min_plan_time",
        max: f64 as Milliseconds = "max_plan_time",
        mean: f64 as Milliseconds = "mean_plan_time",
        stddev: f64 as Milliseconds = "stddev_plan_time",
    }
}

columns! {
    struct Fact {
        kind: String,
        id: Option<i64>,
        name: Option<Lossy>,
        value: Option<f64>,
    }
}

columns! {
    struct Info {
        dealloc: Option<f64>,
        stats_reset: Option<f64>,
    }
}

columns! {
    struct Marked {
        dbid: i64,
        userid: i64,
        queryid: i64,
        own: bool,
    }
}

columns! {
    struct TextRow {
        dbid: i64,
        userid: i64,
        queryid: i64,
        query: Vec<u8>,
    }
}

/// How often one poll reads the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ScansPerPoll {
    /// A spacing apart.
    #[default]
    Two,
    Four,
    Six,
}

impl ScansPerPoll {
    pub(super) const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Six];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Six => 6,
        }
    }

    /// When they are after the first. What lies between two of them holds few calls at some rate: the shorter it is, the
    /// higher that rate. Where they are to lie far apart, there are two, so that no transaction lasts.
    pub(super) fn times(self, spacing: Duration) -> Vec<Duration> {
        let parts: &[f64] = match self {
            _ if spacing > WIDEST => &[1.0],
            Self::Two => &[1.0],
            Self::Four => &[0.2, 1.0, 5.0],
            Self::Six => &[0.2, 0.5, 1.0, 2.0, 5.0],
        };
        parts.iter().map(|part| spacing.mul_f64(*part)).collect()
    }
}

/// The settings that `derive` needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementOptions {
    /// Statements with series of their own.
    pub top: usize,
    /// Whether texts are wanted.
    pub include_text: bool,
    /// Latency objective in seconds.
    pub objective: f64,
    /// Share of the calls that must end within 50 ms.
    pub slo: f64,
    /// Which error bars each exposed statement has.
    pub bars: Levels,
    /// Whose statements get no series of their own.
    pub excluded: Excluded,
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
    pub facts: ViewFacts,
    /// Two scans or more, the oldest first.
    pub scans: Vec<Scan>,
    /// Texts, where this poll asked for some.
    pub texts: Option<Vec<Text>>,
    /// Which statements of our role are ours.
    pub own: Answer,
    /// Settings.
    pub options: StatementOptions,
}

impl Rows {
    /// The newest scan.
    pub(super) fn last(&self) -> &Scan {
        static NONE: Scan =
            Scan { at: 0.0, clock: (0.0, 0.0), entries: Vec::new(), hidden: Vec::new() };
        self.scans.last().unwrap_or(&NONE)
    }
}

/// Reads the view as often as `scans` says, and the texts of `wanted` queryids. The shape of
/// planning times needs columns that the scan leaves out unless they are worth having.
pub(super) async fn read(
    session: &Session,
    own: &Own,
    wanted: &Vec<i64>,
    (planning, scans): (bool, ScansPerPoll),
) -> Result<Rows, CollectError> {
    let settings = &session.settings().statements;
    let times = scans.times(settings.scan_spacing);
    let options = StatementOptions {
        top: settings.top,
        include_text: settings.include_text,
        objective: session.settings().objectives.latency,
        slo: session.settings().objectives.latency_slo,
        bars: Levels {
            likely: settings.error_bars.likely(),
            certain: settings.error_bars.certain(),
        },
        excluded: Excluded {
            databases: settings.exclude_databases.clone(),
            users: settings.exclude_users.clone(),
        },
    };
    let plan = |trusted: &Trusted| {
        Ok([Query::new(info_sql(trusted)?), Query::new(scan_sql(trusted, planning)?)])
    };
    let (trusted, [facts, info], scans) = session
        .read_again(&NEED, Query::new(facts_sql()), plan, &times)
        .await
        .map_err(not_loaded)?;
    let facts = ViewFacts { epoch: session.clock().epoch(), ..facts_of(&facts, &info)? };
    if facts.nested && trusted.version < (1, 9) {
        session.remark(nested_untold());
    }
    let mut rows = Rows {
        facts,
        scans: scans.iter().map(|scan| scan_of(&scan.rows, scan.at)).collect::<Result<_, _>>()?,
        texts: None,
        own: Answer::NotAsked,
        options,
    };
    let unknown = own.unknown(rows.last(), session.server().role_oid);
    if !unknown.is_empty() {
        rows.own =
            optional(whether_own(session, &unknown).await)?.map_or(Answer::Failed, Answer::Known);
    }
    if wanted.is_empty() || !settings.include_text {
        return Ok(rows);
    }
    let texts = optional(texts(session, wanted, settings.text_length).await)?;
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
    queryids: &Vec<i64>,
) -> Result<Vec<(Id, bool)>, CollectError> {
    let (mark, role) = (OWN_MARK.to_owned(), session.server().role_oid);
    let rows = read_texts(session, |view| {
        let sql = format!(
            "SELECT s.dbid::int8, s.userid::int8, s.queryid,
                    pg_catalog.position(pg_catalog.textsend(s.query), pg_catalog.textsend($2::text)) > 0 AS own
               FROM {view}(true) s
              WHERE s.userid = $3::int8::oid AND s.queryid = ANY ($1) AND s.query IS NOT NULL"
        );
        Query::new(sql).int8_array(queryids).text(&mark).int8(&role)
    })
    .await?;
    let marked = Row::all(&rows)?.into_iter();
    Ok(marked.map(|m: Marked| ((m.dbid, m.userid, m.queryid), m.own)).collect())
}

/// Of a view without `toplevel` that holds nested statements: what is counted by database would count
/// them twice, so that it is left out.
fn nested_untold() -> CollectError {
    CollectError::Missing {
        what: "pg_stat_statements before 1.9 does not tell nested statements from others, and \
               pg_stat_statements.track is all: there are no figures by database"
            .to_owned(),
        remedy: "set pg_stat_statements.track to top, or upgrade to PostgreSQL 14".to_owned(),
    }
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
async fn read_texts<'q>(
    session: &Session,
    query: impl FnOnce(&str) -> Query<'q>,
) -> Result<Vec<Row>, CollectError> {
    let plan = |trusted: &Trusted| {
        let query = query(trusted.function(VIEW)?);
        Ok(vec![Query::new(format!("SELECT {WORK_MEM}")), query])
    };
    let (_, mut answers) = session.read_trusted(&NEED, plan).await?;
    Ok(answers.pop().unwrap_or_default())
}

/// One list of (kind, id, name, value). Sets work_mem for the scans that follow in the transaction:
/// 10,000 rows of the view would otherwise spill to disk. Names come as bytes, since shared
/// catalogs may hold names in another database's encoding.
fn facts_sql() -> String {
    format!(
        "\
SELECT 'database'::text AS kind, d.oid::int8 AS id, pg_catalog.textsend(d.datname::text) AS name,
       NULL::float8 AS value
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
SELECT 'nested', NULL, NULL,
       (pg_catalog.current_setting('pg_stat_statements.track', true) = 'all'
        OR EXISTS (SELECT FROM pg_catalog.pg_db_role_setting x
                    WHERE 'pg_stat_statements.track=all' = ANY (x.setconfig)))::int4::float8
UNION ALL
SELECT 'work_mem', NULL, NULL, pg_catalog.length({WORK_MEM})::float8"
    )
}

/// Evictions and the time of the last reset.
fn info_sql(trusted: &Trusted) -> Result<String, CollectError> {
    Ok(match info(trusted)? {
        Some(info) => format!(
            "SELECT i.dealloc::float8, pg_catalog.date_part('epoch', i.stats_reset) AS stats_reset \
               FROM {info}() i"
        ),
        None => "SELECT NULL::float8 AS dealloc, NULL::float8 AS stats_reset".to_owned(),
    })
}

/// The rows between two that carry nothing but the server's time, so that the cost of a scan is
/// known whatever the network does. The first of them names the columns.
fn scan_sql(trusted: &Trusted, planning: bool) -> Result<String, CollectError> {
    const CLOCK: &str = "\
SELECT NULL::int8 AS dbid, NULL::int8 AS userid, NULL::int8 AS queryid, NULL::bool AS toplevel,
       NULL::int8 AS calls,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) AS total_exec_time,
       NULL::float8 AS min_exec_time, NULL::float8 AS max_exec_time, NULL::float8 AS mean_exec_time,
       NULL::float8 AS stddev_exec_time, NULL::int8 AS rows, NULL::int8 AS shared_blks_hit,
       NULL::int8 AS shared_blks_read, NULL::int8 AS temp_blks_written,
       NULL::float8 AS blk_read_time, NULL::float8 AS blk_write_time, NULL::int8 AS plans,
       NULL::float8 AS total_plan_time, NULL::float8 AS stats_since,
       NULL::float8 AS minmax_stats_since";
    let (view, toplevel) = view(trusted)?;
    let (shared, since) = if trusted.version >= (1, 11) {
        let since = "pg_catalog.date_part('epoch', s.stats_since), \
                     pg_catalog.date_part('epoch', s.minmax_stats_since)";
        ("shared_", since)
    } else {
        ("", "0::float8, 0::float8")
    };
    let (no_planning, planning) = if planning {
        (
            ", NULL::float8 AS min_plan_time, NULL::float8 AS max_plan_time,
       NULL::float8 AS mean_plan_time, NULL::float8 AS stddev_plan_time",
            ", s.min_plan_time, s.max_plan_time, s.mean_plan_time, s.stddev_plan_time",
        )
    } else {
        ("", "")
    };
    Ok(format!(
        "{CLOCK}{no_planning}
UNION ALL
SELECT s.dbid::int8, s.userid::int8, s.queryid, {toplevel}, s.calls,
       s.total_exec_time, s.min_exec_time, s.max_exec_time,
       s.mean_exec_time, s.stddev_exec_time, s.rows, s.shared_blks_hit, s.shared_blks_read,
       s.temp_blks_written, s.{shared}blk_read_time, s.{shared}blk_write_time, s.plans,
       s.total_plan_time, {since}{planning}
  FROM {view}(false) s
UNION ALL
{CLOCK}{no_planning}"
    ))
}

fn facts_of(rows: &[Row], info: &[Row]) -> Result<ViewFacts, CollectError> {
    let mut facts = ViewFacts::default();
    if let Some(Info { dealloc, stats_reset }) = Row::first(info)? {
        (facts.dealloc, facts.stats_reset) = (dealloc, stats_reset);
    }
    for fact in Row::each(rows) {
        let Fact { kind, id, name, value } = fact?;
        match (kind.as_str(), id, name) {
            ("database", Some(oid), Some(Lossy(name))) => {
                facts.databases.insert(oid, name.into());
            }
            ("role", Some(oid), Some(Lossy(name))) => {
                facts.roles.insert(oid, name.into());
            }
            ("started", ..) => facts.started = value.unwrap_or_default(),
            ("max", ..) => facts.max_entries = value,
            ("planning", ..) => facts.track_planning = value == Some(1.0),
            ("nested", ..) => facts.nested = value == Some(1.0),
            _ => {}
        }
    }
    Ok(facts)
}

fn scan_of(rows: &[Row], at: f64) -> Result<Scan, CollectError> {
    let mut scan = Scan {
        at,
        clock: (f64::INFINITY, f64::NEG_INFINITY),
        entries: Vec::with_capacity(rows.len()),
        hidden: Vec::new(),
    };
    for line in Row::each(rows) {
        let ScanLine { dbid, userid, queryid, toplevel, clock, figures } = line?;
        match (dbid.zip(userid), queryid, figures) {
            (Some((dbid, userid)), Some(queryid), Some(figures)) => {
                let toplevel = toplevel.unwrap_or(true);
                let key = EntryKey { dbid, userid, queryid, toplevel };
                scan.entries.push(figures.of(key));
            }
            (Some(hidden), ..) => scan.hidden.push(hidden),
            (None, ..) => {
                let now = clock.unwrap_or(f64::NAN);
                scan.clock = (scan.clock.0.min(now), scan.clock.1.max(now));
            }
        }
    }
    Ok(scan)
}

impl Figures {
    fn of(self, key: EntryKey) -> Entry {
        let Self { calls, total, min, max, mean, stddev, counters, since, extremes_since, .. } =
            self;
        let planning = self.planning.map(|times| Cumulative {
            calls: times.calls,
            total: times.total,
            min: times.min,
            max: times.max,
            mean: times.mean,
            stddev: times.stddev,
            extremes_since,
        });
        let time = Cumulative { calls, total, min, max, mean, stddev, extremes_since };
        Entry { key, since, time, counters, planning }
    }
}

async fn texts(
    session: &Session,
    wanted: &Vec<i64>,
    length: usize,
) -> Result<Vec<Text>, CollectError> {
    let length = length.min(TEXT_BYTES);
    let rows = read_texts(session, |view| {
        let sql = format!(
            "SELECT s.dbid::int8, s.userid::int8, s.queryid,
                    pg_catalog.textsend(pg_catalog.left(s.query, {length})) AS query
               FROM {view}(true) s WHERE s.queryid = ANY ($1) AND s.query IS NOT NULL"
        );
        Query::new(sql).int8_array(wanted)
    })
    .await?;
    let mut bytes = 0;
    let mut texts = Vec::new();
    for row in Row::each(&rows) {
        let TextRow { dbid, userid, queryid, query } = row?;
        bytes += query.len();
        if bytes > TEXT_BYTES {
            break;
        }
        let query = published(&String::from_utf8_lossy(&query)).into();
        texts.push(Text { id: (dbid, userid, queryid), query });
    }
    Ok(texts)
}

impl Scan {
    /// How long the scan took on the server.
    pub(super) fn took(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.clock.1 - self.clock.0).ok()
    }
}
