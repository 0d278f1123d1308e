//! Everything a run needs, resolved once from flags, environment and `pgrunway.yml` and validated.
//!
//! Flag > environment > file > default. [`schema`] is the one table of settings; [`params`] is that of
//! libpq's connection parameters.
//!
//! Must not: connect anywhere, know the list of collectors (it comes in as data), or let a secret be
//! printed.

mod dsn;
pub mod duration;
mod file;
mod index_rules;
pub mod params;
pub mod passfile;
mod resolve;
mod rules;
pub mod schema;
mod service;
pub mod suggest;
pub mod surroundings;
mod target;

pub use index_rules::{IndexColumn, IndexRule, IndexSettings};
pub use resolve::{Flags, default_listen, listen_addresses};
pub use rules::{PartitionRule, QueryRule};
pub use surroundings::{Process, Surroundings};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;

/// Where Debian and most packages put the server's Unix socket.
pub const DEFAULT_SOCKET_DIR: &str = "/var/run/postgresql";

/// What is wrong with a value, and what to do; whoever knows the place makes an error of it.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    problem: String,
    remedy: String,
}

impl Fault {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    fn at(self, place: impl Into<String>) -> ConfigError {
        ConfigError::new(place, self.problem, self.remedy)
    }
}

/// A password. It has no `Display`, and its `Debug` shows only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Host name or address, and port.
    Tcp { host: String, port: u16 },
    /// Directory of the Unix socket, and the port in the socket's name.
    Unix { directory: PathBuf, port: u16 },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => {
                write!(f, "{}/.s.PGSQL.{port}", directory.display())
            }
        }
    }
}

/// Where the password comes from. Files are read again at every connect, so rotation works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// No password is sent.
    None,
    /// Given in the DSN or the environment.
    Literal(Secret),
    /// The whole content of a file, less one trailing line end.
    File(PathBuf),
    /// A `.pgpass` file, matched by host, port, database and user at every connect.
    Passfile(PathBuf),
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS where the server offers it, nothing verified.
    Prefer,
    /// TLS or nothing; the chain is verified only where a root certificate is given, as libpq does.
    Require,
    /// TLS with a verified chain.
    VerifyCa,
    /// TLS with a verified chain and host name.
    VerifyFull,
}

/// Root certificates for `sslmode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCert {
    /// None given and none in libpq's default place.
    None,
    /// `sslrootcert=system`: the system's trust store.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// How to reach one server. Timeouts of sessions are in [`Timeouts`].
#[derive(Debug, Clone)]
pub struct Connect {
    /// Tried in order.
    pub endpoints: Vec<Endpoint>,
    /// Role to log in as.
    pub user: String,
    /// The database of the kept connection.
    pub dbname: String,
    /// Source of the password.
    pub password: Password,
    /// libpq's `sslmode`.
    pub sslmode: SslMode,
    /// Root certificates.
    pub root_cert: RootCert,
    /// Client certificate and key (PEM), both or none.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// `application_name`, `pgrunway` unless the user set one.
    pub application_name: String,
}

impl Connect {
    /// The target in one line for logs, without a secret: `user@host:port/dbname`.
    pub fn describe(&self) -> String {
        let endpoints: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        format!("{}@{}/{}", self.user, endpoints.join(","), self.dbname)
    }

    /// What it is most likely to be, until it was asked.
    pub fn expected(&self) -> TargetKind {
        if self.dbname == CONSOLE { TargetKind::Pooler } else { TargetKind::Server }
    }
}

/// What is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// PostgreSQL, straight or through a pooler.
    Server,
    /// PgBouncer's own console.
    Pooler,
}

/// The virtual database that PgBouncer's console is.
pub const CONSOLE: &str = "pgbouncer";

/// Deadlines and server-side timeouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP or Unix connect, per endpoint.
    pub connect: Duration,
    /// TLS handshake, and again for the rest of the start-up (authentication).
    pub handshake: Duration,
    /// `statement_timeout`; our own deadline for a collection lies one second above.
    pub statement: Duration,
    /// `lock_timeout`.
    pub lock: Duration,
}

/// What the alert rules compare with; exported, so that nobody edits PromQL to change a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Objectives {
    /// Seconds; a p95 above it pages.
    pub latency: f64,
    /// Seconds; a statement that has run for longer pages before it ends.
    pub longest_query: f64,
    /// Seconds; a client of a pooler that has waited for longer pages.
    pub pooler_wait: f64,
    /// 0 to 1.
    pub cache_hit_ratio: f64,
    /// 0 to 1.
    pub index_scan_ratio: f64,
    /// 0 to 1; share of the calls that must end within 50 ms.
    pub latency_slo: f64,
    /// Seconds since the beginning of the oldest transaction.
    pub oldest_transaction: f64,
    /// Seconds that a session may idle in a transaction.
    pub idle_in_transaction: f64,
    /// Seconds that a backend may wait for a lock.
    pub lock_wait: f64,
    /// Seconds that a standby may lag behind.
    pub replication_lag: f64,
    /// Bytes of WAL that a replication slot may hold back.
    pub slot_retained_bytes: f64,
    /// Bytes a second that a database may write to temporary files.
    pub temp_bytes_per_second: f64,
}

/// The machine that the server runs on, which SQL does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Bytes.
    pub memory: Option<f64>,
    /// Processors.
    pub cpus: Option<u64>,
}

/// One collector as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorSetting {
    /// Whether it runs.
    pub enabled: bool,
    /// The interval, where the user set one.
    pub interval: Option<Duration>,
}

/// Settings of the statements collector.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementSettings {
    /// Statements with series of their own.
    pub top: usize,
    /// Whether `pg_statement_info` carries the normalised text.
    pub include_text: bool,
    /// Characters of text kept.
    pub text_length: usize,
    /// Pause between the two scans of one poll.
    pub scan_spacing: Duration,
}

/// Settings of the partitions collector.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionSettings {
    /// Runway that every table must have, in seconds.
    pub required: f64,
    /// IANA zone in which the writers fill naive timestamps and dates; `None`: the database's own.
    pub zone: Option<String>,
    /// Partitions of each table that have series of their own, the largest.
    pub per_partition: usize,
    /// In the order of the file.
    pub rules: Vec<PartitionRule>,
}

/// What the collectors read.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Thresholds for the rules.
    pub objectives: Objectives,
    /// The server's machine.
    pub host: Host,
    /// Deadlines and timeouts.
    pub timeouts: Timeouts,
    /// Window of `pg_cache_hit_ratio` and `pg_index_scan_ratio`.
    pub ratio_window: Duration,
    /// Most series one collector may publish for one database.
    pub series_limit: usize,
    /// Statements collector.
    pub statements: StatementSettings,
    /// Partitions collector.
    pub partitions: PartitionSettings,
    /// Queries whose plans `verify` looks at, in the order of the file.
    pub queries: Vec<QueryRule>,
    /// Index collectors.
    pub indexes: IndexSettings,
    /// By collector name; every known collector has an entry.
    pub collectors: BTreeMap<String, CollectorSetting>,
}

impl Default for Settings {
    /// The documented defaults, without an entry for any collector.
    fn default() -> Self {
        Self {
            objectives: Objectives {
                latency: 0.05,
                longest_query: 300.0,
                pooler_wait: 1.0,
                cache_hit_ratio: 0.95,
                index_scan_ratio: 0.9,
                latency_slo: 0.99,
                oldest_transaction: 3600.0,
                idle_in_transaction: 600.0,
                lock_wait: 60.0,
                replication_lag: 300.0,
                slot_retained_bytes: 10_737_418_240.0,
                temp_bytes_per_second: 10_485_760.0,
            },
            host: Host::default(),
            timeouts: Timeouts {
                connect: Duration::from_secs(3),
                handshake: Duration::from_secs(3),
                statement: Duration::from_secs(5),
                lock: Duration::from_millis(100),
            },
            ratio_window: Duration::from_secs(300),
            series_limit: 20_000,
            statements: StatementSettings {
                top: 100,
                include_text: false,
                text_length: 120,
                scan_spacing: Duration::from_millis(10),
            },
            partitions: PartitionSettings {
                required: 7.0 * 86_400.0,
                zone: None,
                per_partition: 0,
                rules: Vec::new(),
            },
            queries: Vec::new(),
            indexes: IndexSettings::default(),
            collectors: BTreeMap::new(),
        }
    }
}

/// What the configuration needs to know of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownCollector {
    /// Name in flags, the file and labels.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it runs unless the user says otherwise.
    pub default_on: bool,
    /// Interval unless the user sets one.
    pub interval: Duration,
}

/// Databases that Amazon RDS, Google Cloud SQL and Azure keep for themselves: their customers can see
/// but not enter them, so that an alert on databases that cannot be read would fire for ever.
pub(crate) const NOT_TO_BE_ENTERED: [&str; 4] =
    ["rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"];

/// Which databases of a server are visited by the collectors that need to be inside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFilter {
    /// If not empty, only these.
    pub include: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
}

impl Default for DatabaseFilter {
    /// All but those that managed services keep for themselves.
    fn default() -> Self {
        let exclude = NOT_TO_BE_ENTERED.map(str::to_owned).to_vec();
        Self { include: Vec::new(), exclude }
    }
}

impl DatabaseFilter {
    /// Whether a database is to be visited.
    pub fn admits(&self, datname: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|d| d == datname))
            && !self.exclude.iter().any(|d| d == datname)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One of several servers or poolers, with a page of its own.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// Name in the URL and in labels, unique.
    pub name: String,
    /// What it is taken for until it was asked.
    pub expected: TargetKind,
    /// How to reach it.
    pub connect: Connect,
    /// Which databases to visit.
    pub databases: DatabaseFilter,
    /// What the collectors read.
    pub settings: Arc<Settings>,
}

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) telemetry_path: String,
    pub(crate) log_level: tracing::Level,
    pub(crate) log_format: LogFormat,
    pub(crate) connect: Connect,
    pub(crate) default_target: bool,
    pub(crate) targets: Vec<TargetConfig>,
    pub(crate) databases: DatabaseFilter,
    pub(crate) settings: Arc<Settings>,
    pub(crate) notes: Vec<String>,
}

impl Config {
    /// Addresses to listen on, at least one.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }
    /// Path of the exposition, starting with `/`.
    pub fn telemetry_path(&self) -> &str {
        &self.telemetry_path
    }
    /// Lowest level that is logged.
    pub fn log_level(&self) -> tracing::Level {
        self.log_level
    }
    /// Form of the log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
    /// Whether there is a server whose page is the telemetry path itself: one that is named by a
    /// connection string or the environment, or, where the file lists no targets, libpq's default.
    pub fn has_default_target(&self) -> bool {
        self.default_target
    }
    /// The targets that the file lists.
    pub fn targets(&self) -> &[TargetConfig] {
        &self.targets
    }
    /// How to reach the server.
    pub fn connect(&self) -> &Connect {
        &self.connect
    }
    /// Which databases to visit.
    pub fn databases(&self) -> &DatabaseFilter {
        &self.databases
    }
    /// What the collectors read.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }
    /// What was accepted but has no effect or another one than the user may expect; one line each,
    /// to be logged once at the start.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
