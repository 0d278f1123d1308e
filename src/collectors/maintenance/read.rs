//! What the maintenance collector reads: the tree of partitions, pg_partman's settings, pg_cron's jobs.
//!
//! Must not: lock a user's table, read a table of runs further than by its primary key and a limit, or
//! let one extension cost the other.

use std::collections::BTreeSet;

use super::State;
use crate::collectors::relations::RelationName;
use crate::error::CollectError;
use crate::pg::{
    ExtensionTable as Table, IfFound, Need, OrFalse, Query, Row, Session, Trusted, columns,
};

/// Rows of `cron.job_run_details` that one poll looks at in each direction.
const RUNS: i64 = 10_000;

macro_rules! roots {
    ($attached:literal) => {
        concat!(
            "\
SELECT p.partrelid::int8 AS oid, i.inhparent::int8 AS parent,
       CASE WHEN NOT c.relispartition THEN n.nspname::text END AS schemaname,
       CASE WHEN NOT c.relispartition THEN c.relname::text END AS relname,
       COALESCE(a.partitions, 0)::int8 AS partitions, COALESCE(a.newest, 0)::int8 AS newest,
       pg_catalog.date_part('epoch', a.committed) AS committed
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = p.partrelid",
            $attached,
            "
  LEFT JOIN (SELECT i.inhparent, pg_catalog.count(*) AS partitions,
                    pg_catalog.max(i.inhrelid::int8) AS newest,
                    pg_catalog.max(CASE WHEN $1 > 0 AND pg_catalog.current_setting('track_commit_timestamp')::bool
                                        THEN pg_catalog.pg_xact_commit_timestamp(i.xmin) END) AS committed
               FROM pg_catalog.pg_inherits i
               JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = i.inhparent",
            $attached,
            "
              GROUP BY i.inhparent) a ON a.inhparent = p.partrelid
 WHERE c.relpersistence <> 't'"
        )
    };
}

/// A pending detach rewrites its row of `pg_inherits`, and is no attachment.
const ROOTS: &[(i32, &str)] = &[(140_000, roots!(" AND NOT i.inhdetachpending")), (0, roots!(""))];

/// SQLSTATE of a standby that is told to keep commit times, but gets none from its primary.
const NO_COMMIT_TIMES: &str = "55000";

/// Now, and which of the extensions are here.
const NOW: &str = "\
SELECT pg_catalog.date_part('epoch', pg_catalog.now()) AS now,
       ARRAY(SELECT e.extname::text FROM pg_catalog.pg_extension e
              WHERE e.extname IN ('pg_partman', 'pg_cron')) AS extensions";

static PARTMAN: Need = Need {
    extension: "pg_partman",
    oldest: (0, 0),
    functions: &[],
    tables: &["part_config"],
    install: "run CREATE EXTENSION pg_partman there",
    anywhere: false,
};

static CRON: Need = Need {
    extension: "pg_cron",
    oldest: (0, 0),
    functions: &[],
    tables: &["job", "job_run_details"],
    install: "run CREATE EXTENSION pg_cron there",
    anywhere: false,
};

/// What closes a table by policies is opened by one that lets all rows through, and that needs them to be
/// in force. Who wrote them was looked at.
const WITH_POLICIES: &str = "SELECT pg_catalog.set_config('row_security', 'on', true)";

/// Characters of a job's name that are shown.
const LONGEST_LABEL: usize = 200;
/// Most bytes of a qualified name, and of a job's schedule.
const LONGEST_NAME: usize = 512;

/// A column as a type, or NULL where this version has none, or one of a type that a user made.
fn column(table: &Table, name: &str, kind: &str) -> String {
    match table.columns.iter().any(|c| c == name) {
        true => format!("c.{name}::{kind}"),
        false => format!("NULL::{kind}"),
    }
}

/// What is no interval in words counts keys, or is nothing that pg_partman knows.
fn part_config(table: &Table) -> String {
    let column = |name, kind| column(table, name, kind);
    format!(
        "\
SELECT {parent} AS parent, {premake} AS premake, {automatic} = 'on' AS automatic,
       {infinite} AS infinite,
       CASE WHEN {retention} ~* '^( *[0-9]{{1,6}} +(year|month|mon|week|day|hour|minute|min|second|sec)s?)+ *$'
            THEN pg_catalog.date_part('epoch', {retention}::interval) END AS retention,
       CASE WHEN {retention} IS NOT NULL THEN {keeps} END AS keeps,
       pg_catalog.date_part('epoch', {last_run}) AS last_run
  FROM ONLY {sql} c WHERE pg_catalog.octet_length({parent}) <= {LONGEST_NAME} LIMIT 10000",
        parent = column("parent_table", "text"),
        premake = column("premake", "float8"),
        automatic = column("automatic_maintenance", "text"),
        infinite = column("infinite_time_partitions", "bool"),
        retention = column("retention", "text"),
        keeps = column("retention_keep_table", "bool"),
        last_run = column("maintenance_last_run", "timestamptz"),
        sql = table.sql,
    )
}

/// The jobs that concern partitions, by their command or name; neither leaves the server but the name.
fn jobs(table: &Table) -> String {
    let column = |name, kind| column(table, name, kind);
    format!(
        "\
SELECT {id} AS jobid, pg_catalog.left(COALESCE({name}, ''), {LONGEST_LABEL}) AS jobname,
       pg_catalog.left({database}, 64) AS database,
       CASE WHEN pg_catalog.octet_length({schedule}) <= {LONGEST_NAME} THEN {schedule} ELSE '' END
         AS schedule, COALESCE({active}, true) AS active
  FROM ONLY {sql} c
 WHERE pg_catalog.concat_ws(' ', {command}, {name}) ~* 'partition|partman|run_maintenance'
 ORDER BY 1 LIMIT 1000",
        id = column("jobid", "int8"),
        name = column("jobname", "text"),
        database = column("database", "text"),
        schedule = column("schedule", "text"),
        active = column("active", "bool"),
        command = column("command", "text"),
        sql = table.sql,
    )
}

/// What a standby says to a command that writes, in English.
const READ_ONLY: &str = "cannot execute .+ (in a read-only transaction|during recovery)";

/// Runs above `$1`, below `$2` and at `$3`, each by the primary key; of the jobs in `$4`.
fn runs(details: &Table) -> String {
    let table = &details.sql;
    let refused = match details.columns.iter().any(|c| c == "return_message") {
        true => format!("COALESCE(r.return_message::text ~ '{READ_ONLY}', false)"),
        false => "false".to_owned(),
    };
    let chunk = |condition: &str| {
        format!("(SELECT * FROM ONLY {table} d WHERE d.runid {condition} LIMIT {RUNS})")
    };
    format!(
        "\
SELECT r.runid::int8, r.jobid::int8, r.status IN ('succeeded', 'failed') AS finished,
       r.status = 'succeeded' AS succeeded, r.status = 'failed' AND {refused} AS refused,
       pg_catalog.date_part('epoch', r.start_time) AS started,
       pg_catalog.date_part('epoch', r.end_time) AS ended
  FROM ({above} UNION ALL {below} UNION ALL {at}) r
 WHERE r.jobid = ANY ($4)
 ORDER BY r.runid",
        above = chunk("> $1 ORDER BY d.runid"),
        below = chunk("< $2 ORDER BY d.runid DESC"),
        at = chunk("= ANY ($3)"),
    )
}

/// The newest run, and how far the chunks of [`runs`] reach.
fn reach(table: &str) -> String {
    format!(
        "\
SELECT COALESCE((SELECT pg_catalog.max(d.runid) FROM ONLY {table} d), 0)::int8 AS newest,
       (SELECT pg_catalog.max(x.runid) FROM (SELECT d.runid FROM ONLY {table} d
         WHERE d.runid > $1 ORDER BY d.runid LIMIT {RUNS}) x)::int8 AS high,
       (SELECT pg_catalog.min(x.runid) FROM (SELECT d.runid FROM ONLY {table} d
         WHERE d.runid < $2 ORDER BY d.runid DESC LIMIT {RUNS}) x)::int8 AS low"
    )
}

columns! {
    struct MaintenanceNow {
        now: f64,
        extensions: Vec<String>,
    }
}

columns! {
    /// A partitioned table and what is directly below it.
    #[derive(Debug, Clone)]
    pub struct LevelRow {
        /// `pg_class.oid`.
        pub oid: i64,
        /// Its parent's, of an inner one.
        pub parent: Option<i64>,
        /// Schema and name of a root.
        pub name: Option<(String, String)> as IfFound<RelationName>,
        /// How many partitions it has.
        pub partitions: i64,
        /// Highest OID of them.
        pub newest: i64,
        /// Unix seconds at which the last one was attached, where the server keeps that.
        pub committed: Option<f64>,
    }
}

columns! {
    struct PartmanRow {
        parent: String,
        premake: Option<f64>,
        automatic: Option<bool>,
        infinite: Option<bool>,
        retention: Option<f64>,
        keeps: Option<bool>,
        last_run: Option<f64>,
    }
}

/// One row of `part_config`.
#[derive(Debug, Clone)]
pub struct Partman {
    /// Schema and name of the parent.
    pub name: (String, String),
    /// Partitions that are made ahead.
    pub premake: Option<f64>,
    /// Whether `run_maintenance` without arguments looks at it.
    pub automatic: Option<bool>,
    /// Whether partitions are made although no data comes.
    pub infinite: Option<bool>,
    /// Seconds.
    pub retention: Option<f64>,
    /// Whether retention keeps the tables.
    pub keeps: Option<bool>,
    /// Unix seconds of the last success.
    pub last_run: Option<f64>,
}

columns! {
    /// One job of pg_cron.
    #[derive(Debug, Clone)]
    pub struct CronJob {
        /// `jobid`.
        pub id: i64 = "jobid",
        /// `jobname`, empty if it has none.
        pub name: String = "jobname",
        /// Where it runs.
        pub database: String,
        /// As written.
        pub schedule: String,
        /// Whether it is to run.
        pub active: bool,
    }
}

columns! {
    /// One run of a job.
    #[derive(Debug, Clone)]
    pub struct JobRun {
        /// `runid`.
        pub id: i64 = "runid",
        /// `jobid`.
        pub job: i64 = "jobid",
        /// Whether it is over.
        pub finished: bool as OrFalse,
        /// Whether that was a success.
        pub succeeded: bool as OrFalse,
        /// Whether it failed because it was sent to a standby, or to a database that is read-only.
        pub refused: bool as OrFalse,
        /// Unix seconds; a job that found no connection has neither.
        pub started: Option<f64>,
        /// Unix seconds.
        pub ended: Option<f64>,
    }
}

columns! {
    /// How far the runs reach that one poll looks at.
    struct Reach {
        newest: i64,
        high: Option<i64>,
        low: Option<i64>,
    }
}

/// What was read of pg_cron.
#[derive(Debug, Clone, Default)]
pub struct Cron {
    /// Jobs that concern partitions.
    pub jobs: Vec<CronJob>,
    /// Runs of them, by ID.
    pub runs: Vec<JobRun>,
    /// All runs up to this one have been looked at, from `low` on.
    pub high: i64,
    /// See `high`.
    pub low: i64,
    /// Whether run IDs began anew, so that what is known is of another table.
    pub afresh: bool,
}

/// What one collection reads.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Database.
    pub datname: String,
    /// Unix seconds by the server's clock.
    pub now: f64,
    /// Partitioned tables.
    pub levels: Vec<LevelRow>,
    /// Roots of which the configuration wants no series.
    pub ignored: BTreeSet<(String, String)>,
    /// Extension, and why it could not be read; empty if it could.
    pub sources: Vec<(&'static str, &'static str)>,
    /// pg_partman's settings.
    pub partman: Vec<Partman>,
    /// pg_cron's jobs, in the database that has them.
    pub cron: Option<Cron>,
}

/// Why an extension could not be read.
type WhyUnread = &'static str;

/// A table that may be read, and all of it.
fn open(table: Option<&Table>) -> Result<&Table, WhyUnread> {
    match table {
        None => Err("failed"),
        Some(table) if !table.granted => Err("privilege"),
        Some(table) if !table.whole => Err("row_security"),
        Some(table) => Ok(table),
    }
}

/// What `plan` reads of an extension, in one transaction with the look at who owns it. Whatever keeps it
/// from being read costs that extension only: a lock, an unknown version, an owner who is not trusted,
/// which is a failure of the collector besides.
async fn read<'q>(
    session: &Session,
    need: &Need,
    plan: impl FnOnce(&Trusted) -> Result<(Vec<Query<'q>>, bool), WhyUnread>,
) -> Result<Result<Vec<Vec<Row>>, WhyUnread>, CollectError> {
    let mut reason = None;
    let mut before = 0;
    let answers = session
        .read_trusted(need, |trusted| {
            let (mut queries, by_policy) = plan(trusted).unwrap_or_else(|why| {
                reason = Some(why);
                (Vec::new(), false)
            });
            if by_policy {
                queries.insert(0, Query::new(WITH_POLICIES));
                before = 1;
            }
            Ok(queries)
        })
        .await;
    match (answers, reason) {
        (Err(e), _) if e.is_fatal() => Err(e),
        (Err(e @ CollectError::Missing { .. }), _) => {
            session.remark(e);
            Ok(Err("untrusted"))
        }
        (Err(_), _) => Ok(Err("failed")),
        (Ok(_), Some(reason)) => Ok(Err(reason)),
        (Ok((_, mut answers)), None) => Ok(Ok(answers.split_off(before))),
    }
}

impl Rows {
    /// Reads everything about one database.
    pub(super) async fn fetch(session: &Session, state: &State) -> Result<Self, CollectError> {
        let server = session.server();
        let version = server.version_num;
        let roots = ROOTS.iter().find(|(since, _)| version >= *since);
        let roots = roots.map_or(roots!(""), |(_, sql)| sql);
        let read = async |times: i64| {
            session.read_all(&[Query::new(NOW), Query::new(roots).int8(&times)]).await
        };
        let answers = match read(1).await {
            Err(CollectError::Query { sqlstate, .. }) if sqlstate == NO_COMMIT_TIMES => {
                read(0).await?
            }
            answers => answers?,
        };
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let MaintenanceNow { now, extensions } = Row::one(next())?;
        let here = |extension: &str| extensions.iter().any(|e| e == extension);
        let mut rows = Self {
            datname: server.datname.clone(),
            now,
            levels: Row::all(next())?,
            ignored: BTreeSet::new(),
            sources: Vec::new(),
            partman: Vec::new(),
            cron: None,
        };
        if here(PARTMAN.extension) {
            let read = rows.read_partman(session).await?;
            rows.sources.push((PARTMAN.extension, read.err().unwrap_or_default()));
        }
        if here(CRON.extension) {
            let read = read_cron(session, state).await?;
            rows.sources.push((CRON.extension, read.as_ref().err().unwrap_or(&"")));
            rows.cron = read.ok();
        }
        let rules = &session.settings().partitions;
        let names = rows.levels.iter().filter_map(|level| level.name.as_ref());
        let ignored =
            names.chain(rows.partman.iter().map(|p| &p.name)).filter(|(schema, table)| {
                rules.rule(&rows.datname, schema, table).is_some_and(|rule| rule.ignore)
            });
        rows.ignored = ignored.cloned().collect();
        Ok(rows)
    }

    async fn read_partman(
        &mut self,
        session: &Session,
    ) -> Result<Result<(), WhyUnread>, CollectError> {
        let plan = |trusted: &Trusted| {
            let table = open(trusted.table("part_config"))?;
            Ok((vec![Query::new(part_config(table))], table.by_policy))
        };
        let answers = match read(session, &PARTMAN, plan).await? {
            Ok(answers) => answers,
            Err(reason) => return Ok(Err(reason)),
        };
        for row in answers.iter().flat_map(|rows| Row::each(rows)) {
            let row: PartmanRow = row?;
            let Some((schema, relname)) = row.parent.split_once('.') else { continue };
            self.partman.push(Partman {
                name: (schema.to_owned(), relname.to_owned()),
                premake: row.premake,
                automatic: row.automatic,
                infinite: row.infinite,
                retention: row.retention,
                keeps: row.keeps,
                last_run: row.last_run,
            });
        }
        Ok(Ok(()))
    }
}

async fn read_cron(
    session: &Session,
    state: &State,
) -> Result<Result<Cron, WhyUnread>, CollectError> {
    let first = state.high == 0;
    let mut kept = true;
    let plan = |trusted: &Trusted| {
        let job = open(trusted.table("job"))?;
        let mut queries = vec![Query::new(jobs(job))];
        // Before 1.3 there are no runs to be read.
        let details = trusted.table("job_run_details").map(|t| open(Some(t))).transpose()?;
        kept = details.is_some();
        if let Some(details) = details.filter(|_| first) {
            // At first nothing is new, and everything is old.
            queries.push(Query::new(reach(&details.sql)).int8(&0).int8(&0));
        }
        Ok((queries, job.by_policy || details.is_some_and(|d| d.by_policy)))
    };
    let answers = match read(session, &CRON, plan).await? {
        Ok(answers) => answers,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut answers = answers.iter().map(Vec::as_slice);
    let mut next = || answers.next().unwrap_or_default();
    let jobs: Vec<CronJob> = Row::all(next())?;
    let mut cron = Cron { jobs, high: state.high, low: state.low, ..Cron::default() };
    if !kept {
        return Ok(Ok(cron));
    }
    if let Some(Reach { newest, .. }) = Row::first(next())? {
        (cron.high, cron.low) = (newest, newest.saturating_add(1));
    }
    let ids: Vec<i64> = cron.jobs.iter().map(|job| job.id).collect();
    // Older runs are of use only as long as there is a job of which no run is known.
    let backwards = ids.iter().any(|id| !state.runs.contains_key(id));
    let (above, below) = (cron.high, if backwards { cron.low } else { 0 });
    let plan = |trusted: &Trusted| {
        let details = open(trusted.table("job_run_details"))?;
        let runs = Query::new(runs(details)).int8(&above).int8(&below);
        let queries = vec![
            Query::new(reach(&details.sql)).int8(&above).int8(&below),
            runs.int8_array(&state.pending).int8_array(&ids),
        ];
        Ok((queries, details.by_policy))
    };
    let answers = match read(session, &CRON, plan).await? {
        Ok(answers) => answers,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut answers = answers.iter().map(Vec::as_slice);
    let mut next = || answers.next().unwrap_or_default();
    let Reach { newest, high, low } = Row::one(next())?;
    cron.runs = Row::all(next())?;
    cron.afresh = newest < cron.high && newest > 0;
    cron.high = high.unwrap_or(cron.high);
    if backwards {
        // Nothing is left below: there is no more to look for.
        cron.low = low.unwrap_or(0);
    }
    Ok(Ok(cron))
}
