//! Whether the jobs that look after partitions are alive: when a partition was last attached,
//! pg_partman's settings, and the last runs of pg_cron's jobs.
//!
//! Must not: carry the text of a command, or fail where an extension may not be read.

mod read;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::derive::schedule::longest_gap;
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::Session;

pub use read::{Cron, CronJob, JobRun, LevelRow, Partman, Rows};

const TABLE: &[&str] = &["datname", "schemaname", "relname"];
const JOB: &[&str] = &["datname", "jobid", "jobname"];

static ATTACHED: Metric = Metric::gauge(
    "pg_partition_last_attached_timestamp_seconds",
    &["datname", "schemaname", "relname", "source"],
    "Unix time at which a partition was last attached anywhere below the table; source commit: \
     pg_xact_commit_timestamp() of pg_inherits.xmin, where track_commit_timestamp is on and still \
     knows it; source poll: when this exporter first saw it in pg_inherits; absent until it saw one.",
);
static READABLE: Metric = Metric::gauge(
    "pg_partition_maintenance_readable",
    &["datname", "source", "reason"],
    "Whether the tables of an installed extension (pg_extension) can be read; reason: privilege \
     (USAGE of the schema or SELECT is not granted), row_security (a policy hides rows), untrusted (their owner \
     could run code through them), failed.",
);
static PREMAKE: Metric = Metric::gauge(
    "pg_partman_premake",
    TABLE,
    "Partitions that pg_partman creates ahead of the newest data, from part_config.premake.",
);
static AUTOMATIC: Metric = Metric::gauge(
    "pg_partman_automatic_maintenance",
    TABLE,
    "Whether run_maintenance() without arguments looks at the table, from \
     part_config.automatic_maintenance.",
);
static INFINITE: Metric = Metric::gauge(
    "pg_partman_infinite_time_partitions",
    TABLE,
    "Whether partitions are created even without new data, from part_config.infinite_time_partitions.",
);
static RETENTION: Metric = Metric::gauge(
    "pg_partman_retention_seconds",
    TABLE,
    "Age from which pg_partman removes partitions, from part_config.retention, a month taken as 30 \
     days and a year as 365.25; absent where there is none or it counts keys.",
);
static KEEPS: Metric = Metric::gauge(
    "pg_partman_retention_keep_table",
    TABLE,
    "Whether partitions that are removed stay as tables of their own, from \
     part_config.retention_keep_table; absent without retention.",
);
static PARTMAN_RUN: Metric = Metric::gauge(
    "pg_partman_last_run_timestamp_seconds",
    TABLE,
    "Unix time at which pg_partman last completed maintenance of the table, from \
     part_config.maintenance_last_run; absent before pg_partman 5.1, which keeps no such time.",
);
static ACTIVE: Metric = Metric::gauge(
    "pg_cron_job_active",
    JOB,
    "Whether the job, whose command or name mentions partitions, is active, from cron.job.active; datname is \
     the database that it runs in.",
);
static GAP: Metric = Metric::gauge(
    "pg_cron_job_interval_seconds",
    JOB,
    "Longest time between two runs of the job by cron.job.schedule.",
);
static STARTED: Metric = Metric::gauge(
    "pg_cron_job_last_start_timestamp_seconds",
    JOB,
    "Unix time at which the job last started, from cron.job_run_details.start_time; absent where no \
     run is known.",
);
static ENDED: Metric = Metric::gauge(
    "pg_cron_job_last_end_timestamp_seconds",
    JOB,
    "Unix time at which the last finished run of the job ended, from cron.job_run_details.end_time; \
     absent where none is known, and for a run that got no connection.",
);
static SUCCESS: Metric = Metric::gauge(
    "pg_cron_job_last_run_succeeded",
    JOB,
    "Whether the last finished run of the job succeeded, from cron.job_run_details.status; absent \
     where none is known.",
);

/// Unfinished runs that are looked at again. A job runs once at a time.
const PENDING: usize = 1_000;

pub struct Maintenance;

/// What is known of one root from earlier polls.
#[derive(Debug, Clone, Copy)]
struct KnownRoot {
    partitions: i64,
    newest: i64,
    /// Unix seconds at which one was first seen, if it was not there from the start.
    at: Option<f64>,
}

/// What is known of the last runs of a job.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastRuns {
    start: Option<(i64, f64)>,
    end: Option<(i64, Option<f64>, bool)>,
}

/// What lives on between polls.
#[derive(Debug, Default)]
pub struct State {
    seen: Option<HashMap<(String, String), KnownRoot>>,
    /// By job.
    runs: BTreeMap<i64, LastRuns>,
    pending: Vec<i64>,
    high: i64,
    low: i64,
}

impl Collector for Maintenance {
    type Rows = Rows;
    type State = State;

    const NAME: &'static str = "maintenance";
    const HELP: &'static str =
        "Whether partition maintenance runs: last attachment, pg_partman, pg_cron.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[
        &ATTACHED,
        &READABLE,
        &PREMAKE,
        &AUTOMATIC,
        &INFINITE,
        &RETENTION,
        &KEEPS,
        &PARTMAN_RUN,
        &ACTIVE,
        &GAP,
        &STARTED,
        &ENDED,
        &SUCCESS,
    ];

    async fn fetch(&self, session: &Session, state: &State) -> Result<Rows, CollectError> {
        Rows::fetch(session, state).await
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let datname = rows.datname.as_str();
        for (source, reason) in &rows.sources {
            sink.number(&READABLE, &[datname, source, reason], flag(reason.is_empty()));
        }
        if let Some(cron) = &rows.cron {
            state.follow(cron);
            state.emit_jobs(cron, sink);
        }
        for table in rows.partman.iter().filter(|p| !rows.ignored.contains(&p.name)) {
            let labels = [datname, &table.name.0, &table.name.1];
            sink.number(&PREMAKE, &labels, table.premake);
            sink.number(&AUTOMATIC, &labels, table.automatic.map(flag));
            sink.number(&INFINITE, &labels, table.infinite.map(flag));
            sink.number(&RETENTION, &labels, table.retention);
            sink.number(&KEEPS, &labels, table.keeps.map(flag));
            sink.number(&PARTMAN_RUN, &labels, table.last_run);
        }
        state.emit_attached(&rows, sink);
    }
}

impl State {
    /// Takes in what is new about runs.
    fn follow(&mut self, cron: &Cron) {
        if cron.afresh {
            *self = Self { seen: self.seen.take(), ..Self::default() };
            return;
        }
        (self.high, self.low) = (cron.high, cron.low);
        self.pending.clear();
        for run in &cron.runs {
            let last = self.runs.entry(run.job).or_default();
            if let Some(at) = run.started
                && last.start.is_none_or(|(id, _)| id <= run.id)
            {
                last.start = Some((run.id, at));
            }
            if run.finished {
                if last.end.is_none_or(|(id, ..)| id <= run.id) {
                    last.end = Some((run.id, run.ended, run.succeeded));
                }
            } else if self.pending.len() < PENDING {
                self.pending.push(run.id);
            }
        }
        self.runs.retain(|id, _| cron.jobs.iter().any(|job| job.id == *id));
    }

    fn emit_jobs(&self, cron: &Cron, sink: &mut Sink) {
        for job in &cron.jobs {
            let id = job.id.to_string();
            let labels = [job.database.as_str(), &id, &job.name];
            sink.number(&ACTIVE, &labels, flag(job.active));
            sink.number(&GAP, &labels, longest_gap(&job.schedule));
            let last = self.runs.get(&job.id).copied().unwrap_or_default();
            sink.number(&STARTED, &labels, last.start.map(|(_, at)| at));
            sink.number(&ENDED, &labels, last.end.and_then(|(_, at, _)| at));
            sink.number(&SUCCESS, &labels, last.end.map(|(_, _, success)| flag(success)));
        }
    }

    fn emit_attached(&mut self, rows: &Rows, sink: &mut Sink) {
        let first = self.seen.is_none();
        let before = self.seen.take().unwrap_or_default();
        let mut now = HashMap::new();
        for (name, level) in roll_up(&rows.levels) {
            let at = match before.get(name) {
                // OIDs are handed out in turn, but an old table may be attached too.
                Some(old) if level.newest > old.newest || level.partitions > old.partitions => {
                    Some(rows.now)
                }
                Some(old) => old.at,
                None if first || level.partitions == 0 => None,
                None => Some(rows.now),
            };
            let seen = KnownRoot { partitions: level.partitions, newest: level.newest, at };
            now.insert(name.clone(), seen);
            if rows.ignored.contains(name) {
                continue;
            }
            let (source, at) = match level.committed {
                Some(at) => ("commit", Some(at)),
                None => ("poll", at),
            };
            sink.number(&ATTACHED, &[&rows.datname, &name.0, &name.1, source], at);
        }
        self.seen = Some(now);
    }
}

/// Each root with what is below it at all levels, by name.
fn roll_up(levels: &[LevelRow]) -> BTreeMap<&(String, String), LevelRow> {
    let parents: HashMap<i64, i64> =
        levels.iter().filter_map(|level| Some((level.oid, level.parent?))).collect();
    let names: HashMap<i64, &(String, String)> =
        levels.iter().filter_map(|level| Some((level.oid, level.name.as_ref()?))).collect();
    let mut roots: BTreeMap<&(String, String), LevelRow> = BTreeMap::new();
    for level in levels {
        let mut root = level.oid;
        // No chain is longer than there are links.
        for _ in 0..parents.len() {
            let Some(parent) = parents.get(&root) else { break };
            root = *parent;
        }
        let Some(name) = names.get(&root) else { continue };
        roots
            .entry(name)
            .and_modify(|sum| {
                sum.partitions += level.partitions;
                sum.newest = sum.newest.max(level.newest);
                // Not max of floats: `None` is below everything.
                if level.committed > sum.committed {
                    sum.committed = level.committed;
                }
            })
            .or_insert_with(|| level.clone());
    }
    roots
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests;
