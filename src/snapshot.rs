//! What a target looks like at one instant: immutable, complete, and safe to publish. Also turns
//! the outcomes of the collectors into metrics of their own.
//!
//! Must not: read a clock, or know how it is rendered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::certificate::CertificateEnds;
use crate::error::NotAvailable;
use crate::findings::Reported;
use crate::metric::{Dress, Family, Metric, Refused, Sink, TableCoverage};

/// How the runs of one collector in one database went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Collector.
    pub collector: Arc<str>,
    /// Database, for collectors that run once per database.
    pub datname: Option<Arc<str>>,
    /// Runs since the start.
    pub runs: u64,
    /// What the last run failed with; `None` on success.
    pub error: Option<Arc<str>>,
    /// Of that error, while it is the collector's own.
    pub kind: Option<&'static str>,
    /// Failed runs since the start by [`crate::error::CollectError::kind`].
    pub errors: BTreeMap<&'static str, u64>,
    /// How long the last run took, failures included.
    pub duration: Duration,
    /// When it last succeeded.
    pub last_success: Option<SystemTime>,
    /// Ticks that passed while it or its connection was still busy, since the start.
    pub skipped: u64,
    /// Interval now in force.
    pub interval: Duration,
    /// What the sink refused since the start.
    pub refused: Refused,
    /// Series of the last successful run.
    pub series: usize,
    /// What beyond PostgreSQL's own catalogs was used in the last run, and why that is safe.
    pub trusted: Option<Arc<str>>,
    /// Texts that the last run left out because they were too long to be read.
    pub too_long: u64,
    /// What the last run that succeeded shows on the console beside its metrics, as plain text.
    pub shown: Option<Arc<str>>,
    /// What a timeline of partitioned tables shows, of the last run that succeeded.
    pub covered: Arc<[TableCoverage]>,
    /// Columns, functions and views that are not available and that the last run did without, in order.
    pub missing: Vec<NotAvailable>,
}

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Of {
    /// A PostgreSQL server.
    #[default]
    Server,
    /// A PgBouncer.
    Pooler,
    /// Nothing but this process.
    Exporter,
}

/// A time in which the target could not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// [`crate::error::ConnectError::kind`].
    pub kind: &'static str,
    /// What the last attempt failed with.
    pub message: Arc<str>,
    /// When the first attempt failed.
    pub since: SystemTime,
    /// When the last one failed.
    pub last: SystemTime,
    /// When one succeeded; `None` while none did.
    pub over: Option<SystemTime>,
}

/// The role that the server is read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// `pg_roles.rolname`.
    pub name: Arc<str>,
    /// Whether it sees other roles' sessions (`pg_read_all_stats`, of which `pg_monitor` is a member).
    pub reads_all_stats: bool,
}

/// A database of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `pg_database.datname`.
    pub datname: Arc<str>,
    /// Why it could not be entered and read in the last walk; `None` if it could.
    pub trouble: Option<Arc<str>>,
}

/// What rules found at one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The database; `None` for the server or the pooler.
    pub datname: Option<Arc<str>>,
    /// In the order of the rules.
    pub reported: Arc<[Reported]>,
}

/// Everything about one target.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What kind of target it is.
    pub of: Of,
    /// In postgres_exporter's profile the value of its label `server`.
    pub server_label: Option<Arc<str>>,
    /// Whether the server answers.
    pub up: bool,
    /// Whether anything was tried yet.
    pub tried: bool,
    /// The last time in which it could not be reached.
    pub trouble: Option<Trouble>,
    /// Who reads it, once known; of a server only.
    pub role: Option<Role>,
    /// When the certificates of the last connect end.
    pub certificates: CertificateEnds,
    /// Where it is, without secrets, for the console.
    pub target: Arc<str>,
    /// Version of the server, once known.
    pub version: Option<Arc<str>>,
    /// Its major version, of a server only.
    pub major: Option<i32>,
    /// By name.
    pub databases: Vec<Database>,
    /// Databases beyond the most that are walked.
    pub left_out: usize,
    /// How each collector fared.
    pub outcomes: Vec<Outcome>,
    /// Fresh families only; several may share a metric (one per database).
    pub families: Vec<Arc<Family>>,
    /// What rules found, as fresh as the families.
    pub findings: Vec<Findings>,
    /// What all its series wear.
    pub dress: Arc<Dress>,
    /// Other targets whose series stand on the same page.
    pub parts: Vec<Snapshot>,
}

/// Whether the server answers.
pub static UP: Metric = Metric::gauge(
    "pg_up",
    &[],
    "Whether the last attempt to reach the PostgreSQL server succeeded (1) or failed (0).",
);
static POOLER_UP: Metric = Metric::gauge(
    "pgbouncer_up",
    &[],
    "Whether the last attempt to reach PgBouncer's console succeeded (1) or failed (0).",
);
static POOLER_VERSION: Metric = Metric::gauge(
    "pgbouncer_version_info",
    &["version"],
    "Constant 1 with PgBouncer's version, from SHOW VERSION.",
);
static TARGETS: Metric = Metric::gauge(
    "pgrunway_targets",
    &[],
    "Targets that the configuration lists under `targets`, each with a page of its own.",
);
static TARGET_UP: Metric = Metric::gauge(
    "pgrunway_target_up",
    &["target"],
    "Whether the last attempt to reach the target succeeded, absent before the first.",
);
static RELOAD_SUCCESSFUL: Metric = Metric::gauge(
    "pgrunway_config_last_reload_successful",
    &[],
    "Whether the last attempt to load the configuration succeeded (1) or failed (0), at the start or later.",
);
static RELOAD_SUCCESS: Metric = Metric::gauge(
    "pgrunway_config_last_reload_success_timestamp_seconds",
    &[],
    "Unix time at which the configuration was last loaded.",
);
static THEIR_RELOAD_SUCCESSFUL: Metric = Metric::gauge(
    "postgres_exporter_config_last_reload_successful",
    &[],
    "The same as pgrunway_config_last_reload_successful, by the name that postgres_exporter has for it.",
);
static THEIR_RELOAD_SUCCESS: Metric = Metric::gauge(
    "postgres_exporter_config_last_reload_success_timestamp_seconds",
    &[],
    "The same as pgrunway_config_last_reload_success_timestamp_seconds, by postgres_exporter's name.",
);
static STATIC: Metric = Metric::gauge(
    "pg_static",
    &["short_version", "version"],
    "Constant 1 with the server's version, from server_version.",
)
.elsewhere_there();
static READS_ALL_STATS: Metric = Metric::gauge(
    "pgrunway_role_reads_all_stats",
    &[],
    "Whether the role that pgrunway logs in as sees other roles' sessions and statistics, \
     pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), as members of pg_monitor do; where it is 0, \
     ages of transactions and waits for locks are absent.",
);
static SERVER_CERTIFICATE: Metric = Metric::gauge(
    "pgrunway_server_certificate_not_after_timestamp_seconds",
    &[],
    "Unix time at which the certificate that the server showed at the last connect ends, its notAfter; absent \
     without TLS.",
);
static CLIENT_CERTIFICATE: Metric = Metric::gauge(
    "pgrunway_client_certificate_not_after_timestamp_seconds",
    &[],
    "Unix time at which the certificate of sslcert ends, its notAfter, as of the last connect; absent without TLS.",
);
static DATABASE_UP: Metric = Metric::gauge(
    "pgrunway_database_up",
    &["datname"],
    "Whether the exporter could connect to the database and read it at the last visit.",
);
static LEFT_OUT: Metric = Metric::gauge(
    "pgrunway_databases_left_out",
    &[],
    "Databases of pg_database that are not visited because there are more than 1,000; databases.include chooses \
     which are.",
);
static SUCCESS: Metric = Metric::gauge(
    "pgrunway_collector_success",
    &["collector", "datname"],
    "Whether the collector's last run succeeded; datname is empty for collectors of the server.",
);
static ERRORS: Metric = Metric::counter(
    "pgrunway_collector_errors_total",
    &["collector", "datname", "kind"],
    "Failed runs of the collector by kind of error, absent while there were none.",
);
static DURATION: Metric = Metric::gauge(
    "pgrunway_collector_duration_seconds",
    &["collector", "datname"],
    "How long the collector's last run took, failures included.",
);
static LAST_SUCCESS: Metric = Metric::gauge(
    "pgrunway_collector_last_success_timestamp_seconds",
    &["collector", "datname"],
    "Unix time of the collector's last successful run, absent before the first.",
);
static SKIPPED: Metric = Metric::counter(
    "pgrunway_collector_skipped_total",
    &["collector", "datname"],
    "Runs left out because the collector or its connection was still busy when they were due.",
);
static INTERVAL: Metric = Metric::gauge(
    "pgrunway_collector_interval_seconds",
    &["collector", "datname"],
    "Interval between two runs of the collector that is now in force.",
);
static SERIES: Metric = Metric::gauge(
    "pgrunway_collector_series",
    &["collector", "datname"],
    "Series that the collector's last successful run gave.",
);
static OVER_LIMIT: Metric = Metric::counter(
    "pgrunway_collector_series_over_limit_total",
    &["collector", "datname"],
    "Series left out because the collector had reached series_limit, summed over its runs.",
);
static TOO_LONG: Metric = Metric::gauge(
    "pgrunway_collector_texts_too_long",
    &["collector", "datname"],
    "Texts (bounds, expressions, predicates) left out of the collector's last run, each longer than 16 KiB.",
);
static MISSING: Metric = Metric::gauge(
    "pgrunway_collector_missing",
    &["collector", "datname", "name", "reason"],
    "Constant 1 for each column, function or view that the collector reads and that is not available here, for the \
     reason absent (the server does not have it), forbidden (the role may not use it although it reads all statistics) \
     or unsupported (the server refuses it to everybody): metrics that need it are absent, all others are exported.",
);
static UNTESTED: Metric = Metric::gauge(
    "pgrunway_server_version_untested",
    &[],
    "Whether the server's major version, from server_version_num, is newer than any that this pgrunway was tested \
     with: it is read as the newest known one.",
);
static REFUSED: Metric = Metric::counter(
    "pgrunway_collector_defective_samples_total",
    &["collector", "datname"],
    "Samples refused as duplicate, undeclared or invalid; anything but 0 is a defect of pgrunway.",
);

static SCRAPE_ERROR: Metric = Metric::gauge(
    "pg_exporter_last_scrape_error",
    &[],
    "Whether the last run of any collector failed (1) or none (0), under postgres_exporter's name; which one is in \
     pgrunway_collector_success.",
);
static SCRAPE_DURATION: Metric = Metric::gauge(
    "pg_exporter_last_scrape_duration_seconds",
    &[],
    "How long the last runs of all collectors took together, under postgres_exporter's name: what a round costs, not a \
     scrape, which is a copy.",
);
static SCRAPES: Metric = Metric::counter(
    "pg_exporter_scrapes_total",
    &[],
    "Runs of collectors since the start, under postgres_exporter's name.",
);
static PEER_SUCCESS: Metric = Metric::gauge(
    "pg_scrape_collector_success",
    &["collector"],
    "Whether the last runs succeeded of the collectors that read what postgres_exporter's collector of this \
     name reads.",
);
static PEER_DURATION: Metric = Metric::gauge(
    "pg_scrape_collector_duration_seconds",
    &["collector"],
    "How long the last runs took together of the collectors that read what postgres_exporter's collector of \
     this name reads.",
);
static PEER_BUILD: Metric = Metric::gauge(
    "postgres_exporter_build_info",
    &["branch", "goarch", "goos", "goversion", "revision", "tags", "version"],
    "Constant 1 with the version of pgrunway, under postgres_exporter's name.",
)
.only_there();

static QUERIES: Metric = Metric::gauge(
    "pg_exporter_user_queries_load_error",
    &["filename", "hashsum"],
    "Whether the file of --extend.query-path, or any query in it, could not be used (1) or all could (0), with its \
     SHA-256, under postgres_exporter's name; absent without such a file.",
);

/// postgres_exporter's collectors, and which of ours read the same.
const PEERS: &[(&str, &[&str])] = &[
    ("buffercache_summary", &["buffercache"]),
    ("database", &["databases", "connections"]),
    ("database_wraparound", &["wraparound"]),
    ("locks", &["locks"]),
    ("long_running_transactions", &["longtransactions"]),
    ("postmaster", &["settings"]),
    ("process_idle", &["processidle"]),
    ("replication", &["replication"]),
    ("replication_slot", &["slots"]),
    ("roles", &["roles"]),
    ("stat_activity_autovacuum", &["autovacuum"]),
    ("stat_bgwriter", &["checkpoints"]),
    ("stat_checkpointer", &["checkpoints"]),
    ("stat_database", &["cache"]),
    ("stat_progress_vacuum", &["vacuum"]),
    ("stat_statements", &["statements"]),
    ("stat_user_tables", &["vacuum", "scans", "sizes"]),
    ("stat_wal_receiver", &["walreceiver"]),
    ("statio_user_indexes", &["indexes"]),
    ("statio_user_tables", &["tables"]),
    ("wal", &["waldir"]),
    ("xlog_location", &["wal"]),
];

/// The oldest major version of PostgreSQL that is supported.
pub const OLDEST_MAJOR: i32 = 13;
/// The newest major version of PostgreSQL that everything here was tested with: the last of scripts/pg-versions.txt.
pub const NEWEST_MAJOR: i32 = 19;

/// Metrics about the target and the collectors, which every snapshot carries.
pub static METRICS: &[&Metric] = &[
    &SCRAPE_ERROR,
    &SCRAPE_DURATION,
    &SCRAPES,
    &PEER_SUCCESS,
    &PEER_DURATION,
    &PEER_BUILD,
    &QUERIES,
    &UP,
    &STATIC,
    &POOLER_UP,
    &POOLER_VERSION,
    &TARGETS,
    &RELOAD_SUCCESSFUL,
    &RELOAD_SUCCESS,
    &THEIR_RELOAD_SUCCESSFUL,
    &THEIR_RELOAD_SUCCESS,
    &TARGET_UP,
    &READS_ALL_STATS,
    &SERVER_CERTIFICATE,
    &CLIENT_CERTIFICATE,
    &DATABASE_UP,
    &LEFT_OUT,
    &SUCCESS,
    &ERRORS,
    &DURATION,
    &LAST_SUCCESS,
    &SKIPPED,
    &INTERVAL,
    &SERIES,
    &OVER_LIMIT,
    &TOO_LONG,
    &MISSING,
    &UNTESTED,
    &REFUSED,
];

/// How the configuration was last loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether the last attempt succeeded.
    pub successful: bool,
    /// When one did.
    pub success: SystemTime,
}

/// Whether the configuration is the one of the file.
pub fn reload_families(reloaded: &Reloaded) -> Vec<Family> {
    let mut sink = Sink::new(METRICS, usize::MAX);
    let successful = f64::from(u8::from(reloaded.successful));
    let success = reloaded.success.duration_since(UNIX_EPOCH).ok().map(|t| t.as_secs_f64());
    sink.number(&RELOAD_SUCCESSFUL, &[], successful);
    sink.number(&RELOAD_SUCCESS, &[], success);
    sink.number(&THEIR_RELOAD_SUCCESSFUL, &[], successful);
    sink.number(&THEIR_RELOAD_SUCCESS, &[], success);
    sink.finish().0
}

/// How the file with queries of the user's own was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFileState {
    /// As it was named.
    pub name: String,
    /// SHA-256 of its content; empty if it could not be read.
    pub hash: String,
    /// Whether it, or any query in it, could not be used.
    pub failed: bool,
}

/// Whether the file with queries of the user's own could be used.
pub fn query_file_families(file: &QueryFileState) -> Vec<Family> {
    let mut sink = Sink::new(METRICS, usize::MAX);
    sink.number(&QUERIES, &[&file.name, &file.hash], f64::from(u8::from(file.failed)));
    sink.finish().0
}

impl Snapshot {
    /// The families of [`METRICS`].
    pub fn own_families(&self) -> Vec<Family> {
        let sink = Sink::new(METRICS, usize::MAX);
        let mut sink = sink.like_postgres_exporter(self.server_label.clone());
        let up = f64::from(u8::from(self.up));
        match (self.of, &self.version) {
            (Of::Server, version) => {
                sink.number(&UP, &[], up);
                if let Some(version) = version {
                    let short = version.split_whitespace().next().unwrap_or_default();
                    sink.number(&STATIC, &[short, version], 1.0);
                }
            }
            (Of::Pooler, version) => {
                sink.number(&POOLER_UP, &[], up);
                let version = version.as_deref();
                version.into_iter().for_each(|v| sink.number(&POOLER_VERSION, &[v], 1.0));
            }
            (Of::Exporter, _) => {}
        }
        if let Some(major) = self.major {
            sink.number(&UNTESTED, &[], f64::from(u8::from(major > NEWEST_MAJOR)));
        }
        if let Some(role) = &self.role {
            sink.number(&READS_ALL_STATS, &[], f64::from(u8::from(role.reads_all_stats)));
        }
        let CertificateEnds { server, client } = self.certificates;
        sink.number(&SERVER_CERTIFICATE, &[], server.map(|at| at as f64));
        sink.number(&CLIENT_CERTIFICATE, &[], client.map(|at| at as f64));
        for database in &self.databases {
            let up = f64::from(u8::from(database.trouble.is_none()));
            sink.number(&DATABASE_UP, &[&database.datname], up);
        }
        if self.of == Of::Server && !self.databases.is_empty() {
            sink.number(&LEFT_OUT, &[], self.left_out as f64);
        }
        for outcome in &self.outcomes {
            outcome.emit(&mut sink);
        }
        if self.of == Of::Server {
            self.as_a_peer(&mut sink);
        }
        sink.finish().0
    }

    /// What postgres_exporter says of itself.
    fn as_a_peer(&self, sink: &mut Sink) {
        let took = |outcomes: &[&Outcome]| -> f64 {
            outcomes.iter().map(|o| o.duration.as_secs_f64()).sum()
        };
        let failed = |outcomes: &[&Outcome]| outcomes.iter().any(|o| o.error.is_some());
        let ran: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.runs > 0).collect();
        sink.number(&SCRAPE_ERROR, &[], f64::from(u8::from(failed(&ran) || !self.up)));
        sink.number(&SCRAPE_DURATION, &[], took(&ran));
        sink.number(&SCRAPES, &[], ran.iter().map(|o| o.runs).sum::<u64>() as f64);
        for (name, ours) in PEERS {
            let read = |o: &&Outcome| ours.contains(&&*o.collector);
            let read: Vec<&Outcome> = ran.iter().copied().filter(read).collect();
            if !read.is_empty() {
                sink.number(&PEER_SUCCESS, &[name], f64::from(u8::from(!failed(&read))));
                sink.number(&PEER_DURATION, &[name], took(&read));
            }
        }
        let version = concat!("pgrunway-", env!("CARGO_PKG_VERSION"));
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        sink.number(&PEER_BUILD, &["", arch, os, "", "", "", version], 1.0);
    }
}

/// How the targets with pages of their own are, by name: `None` for one that was not tried yet.
pub fn target_families<'a>(
    targets: impl ExactSizeIterator<Item = (&'a str, Option<bool>)>,
) -> Vec<Family> {
    let mut sink = Sink::new(METRICS, usize::MAX);
    sink.number(&TARGETS, &[], targets.len() as f64);
    for (name, up) in targets {
        sink.number(&TARGET_UP, &[name], up.map(|up| f64::from(u8::from(up))));
    }
    sink.finish().0
}

impl Outcome {
    /// What is known of a collector that has not run yet.
    pub fn new(collector: &str, datname: Option<Arc<str>>, interval: Duration) -> Self {
        Self {
            collector: collector.into(),
            datname,
            runs: 0,
            error: None,
            kind: None,
            errors: BTreeMap::new(),
            duration: Duration::ZERO,
            last_success: None,
            skipped: 0,
            interval,
            refused: Refused::default(),
            series: 0,
            trusted: None,
            too_long: 0,
            shown: None,
            covered: Arc::default(),
            missing: Vec::new(),
        }
    }

    fn emit(&self, sink: &mut Sink) {
        let labels = [&*self.collector, self.datname.as_deref().unwrap_or_default()];
        sink.number(&SUCCESS, &labels, f64::from(u8::from(self.error.is_none())));
        for (kind, count) in &self.errors {
            sink.number(&ERRORS, &[labels[0], labels[1], kind], *count as f64);
        }
        sink.number(&DURATION, &labels, self.duration.as_secs_f64());
        let last = self.last_success.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        sink.number(&LAST_SUCCESS, &labels, last.map(|d| d.as_secs_f64()));
        sink.number(&SKIPPED, &labels, self.skipped as f64);
        sink.number(&INTERVAL, &labels, self.interval.as_secs_f64());
        sink.number(&SERIES, &labels, self.series as f64);
        sink.number(&OVER_LIMIT, &labels, self.refused.over_limit as f64);
        sink.number(&TOO_LONG, &labels, self.too_long as f64);
        for NotAvailable { name, why } in &self.missing {
            sink.number(&MISSING, &[labels[0], labels[1], name, why.kind()], 1.0);
        }
        sink.number(&REFUSED, &labels, self.refused.defects() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Value;

    fn value(families: &[Family], name: &str) -> Vec<f64> {
        families
            .iter()
            .filter(|f| f.metric.name == name)
            .flat_map(|f| &f.samples)
            .map(|s| match &s.value {
                Value::Number(n) => *n,
                Value::Histogram(_) => f64::NAN,
            })
            .collect()
    }

    #[test]
    fn a_failed_collector_says_so_and_keeps_the_time_of_its_last_success() {
        let mut outcome = Outcome::new("sizes", Some("shop".into()), Duration::from_secs(60));
        outcome.error = Some("permission denied".into());
        outcome.errors.insert("permission", 3);
        outcome.last_success = Some(UNIX_EPOCH + Duration::from_secs(1_000));
        let snapshot = Snapshot {
            up: true,
            databases: [("shop", None), ("dark", Some("closed"))]
                .map(|(d, why)| Database { datname: d.into(), trouble: why.map(Into::into) })
                .to_vec(),
            role: Some(Role { name: "mon".into(), reads_all_stats: false }),
            outcomes: vec![outcome],
            ..Snapshot::default()
        };
        let families = snapshot.own_families();
        assert_eq!(value(&families, "pg_up"), [1.0]);
        assert_eq!(value(&families, "pgrunway_database_up"), [1.0, 0.0]);
        assert_eq!(value(&families, "pgrunway_role_reads_all_stats"), [0.0]);
        assert_eq!(value(&families, "pgrunway_collector_success"), [0.0]);
        assert_eq!(value(&families, "pgrunway_collector_errors_total"), [3.0]);
        let last = "pgrunway_collector_last_success_timestamp_seconds";
        assert_eq!(value(&families, last), [1_000.0]);
    }
}
