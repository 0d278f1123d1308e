//! Everything a run needs, resolved once from flags, environment and `pgrunway.yml` and validated.
//!
//! Flag > environment > file > default. `settings.rs` holds the settings, each in one place, and
//! [`table`] lists them; [`params`] are libpq's connection parameters.
//!
//! Must not: connect anywhere, know the list of collectors (it comes in as data), or let a secret be
//! printed.

mod allow;
mod columns;
mod dsn;
pub mod duration;
mod exposed;
mod file;
mod index_rules;
mod item;
mod names;
pub mod params;
pub mod passfile;
mod probe;
pub mod queries;
mod resolve;
mod rules;
pub mod schema;
mod service;
mod settings;
pub mod suggest;
pub mod surroundings;
pub mod table;
mod target;
pub mod theirs;
pub mod web_file;
mod wildcard;

pub use allow::Allow;
pub use columns::IndexColumn;
pub use exposed::Exposed;
pub use index_rules::{IndexRule, IndexSettings};
pub use probe::{NoProbe, Probe, ProbeSettings, forbidden};
pub use queries::{ColumnUsage, CustomQuery, QueryColumn, QueryFile, ServerRole};
pub use resolve::{Flags, default_listen, listen_addresses};
pub use rules::{PartitionRule, PartitionSettings, QueryRule};
pub use settings::{
    CollectorSetting, DatabaseFilter, Host, Objectives, Settings, StatementSettings, Timeouts,
};
pub use surroundings::{Process, Surroundings};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// What a program prints.
    Command(Arc<PasswordCommand>),
}

/// A program that prints a password, and what it printed last.
pub struct PasswordCommand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// For how long it may run.
    pub timeout: Duration,
    /// For how long what it printed is used again.
    pub ttl: Duration,
    /// What it printed last, and when; held while it runs.
    pub kept: tokio::sync::Mutex<Option<(Secret, Instant)>>,
}

impl PasswordCommand {
    /// Nothing was printed yet.
    pub fn new(argv: Vec<String>, timeout: Duration, ttl: Duration) -> Self {
        Self { argv, timeout, ttl, kept: tokio::sync::Mutex::default() }
    }
}

/// Without its arguments.
impl std::fmt::Debug for PasswordCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PasswordCommand").field(&self.argv.first()).finish()
    }
}

/// What is configured.
impl PartialEq for PasswordCommand {
    fn eq(&self, other: &Self) -> bool {
        (&self.argv, self.timeout, self.ttl) == (&other.argv, other.timeout, other.ttl)
    }
}

impl Eq for PasswordCommand {}

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
#[derive(Debug, Clone, PartialEq)]
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
    /// Where its names may lead; anywhere if not given.
    pub only: Option<Arc<Allow>>,
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

impl KnownCollector {
    /// Least and longest interval that the user may set.
    pub const INTERVALS: (Duration, Duration) =
        (Duration::from_millis(100), Duration::from_secs(86_400));
}

/// Whose labels, types and texts the metrics have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// Our own: bounded labels, partitions rolled up.
    None,
    /// postgres_exporter's, to the letter.
    PostgresExporter,
}

/// Which error bars of their percentiles statements have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorBars {
    /// None.
    None,
    /// Those that hold nine of ten.
    Likely,
    /// Those, and those that hold all.
    Certain,
}

impl ErrorBars {
    /// Whether those that hold nine of ten are wanted.
    pub fn likely(self) -> bool {
        self != Self::None
    }

    /// Whether those that hold all are wanted.
    pub fn certain(self) -> bool {
        self == Self::Certain
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

/// Who sees what on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAccess {
    /// All of it.
    On,
    /// Everything but names of users, texts of statements and what servers say in errors.
    WithoutNames,
    /// There is none.
    Off,
}

/// A setting in force, and where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredSetting {
    /// Path in `pgrunway.yml`.
    pub path: String,
    /// As it was written, or the default; `(secret)` for what may hold one.
    pub value: String,
    /// The flag, the variable or the place in the file; `default` where nothing was given.
    pub place: String,
    /// What it means.
    pub help: String,
}

/// All settings in force, and what targets have of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguredSettings {
    /// By path.
    pub general: Vec<ConfiguredSetting>,
    /// By target.
    pub targets: BTreeMap<String, Vec<ConfiguredSetting>>,
}

/// One of several servers or poolers, with a page of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetConfig {
    /// Name in the URL and in labels, unique.
    pub name: String,
    /// Whether it comes from a list of connection strings: its series then stand on the page of this process too,
    /// with its name as the label `server`.
    pub grouped: bool,
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
    pub(crate) enable_lifecycle: bool,
    pub(crate) web_config: Option<PathBuf>,
    pub(crate) systemd_socket: bool,
    pub(crate) console: ConsoleAccess,
    pub(crate) shown: Arc<ConfiguredSettings>,
    pub(crate) probe: Probe,
    pub(crate) log_level: tracing::Level,
    pub(crate) log_format: LogFormat,
    pub(crate) connect: Connect,
    pub(crate) default_target: bool,
    pub(crate) targets: Vec<TargetConfig>,
    pub(crate) databases: DatabaseFilter,
    pub(crate) settings: Arc<Settings>,
    pub(crate) notes: Vec<String>,
    pub(crate) query_file: Option<QueryFile>,
    pub(crate) missing: bool,
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
    /// Whether a request may have the configuration loaded again.
    pub fn enable_lifecycle(&self) -> bool {
        self.enable_lifecycle
    }
    /// The file of `--web.config.file`.
    pub fn web_config(&self) -> Option<&Path> {
        self.web_config.as_deref()
    }
    /// Whether systemd hands the sockets over.
    pub fn systemd_socket(&self) -> bool {
        self.systemd_socket
    }
    /// Who sees what on the console.
    pub fn console(&self) -> ConsoleAccess {
        self.console
    }

    /// All settings with where each comes from, without secrets.
    pub fn shown(&self) -> &Arc<ConfiguredSettings> {
        &self.shown
    }

    /// What may be probed.
    pub fn probe(&self) -> &Probe {
        &self.probe
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
    /// The file of `--extend.query-path`.
    pub fn query_file(&self) -> Option<&QueryFile> {
        self.query_file.as_ref()
    }
    /// Whether the file that was named is missing, which was accepted.
    pub fn file_is_missing(&self) -> bool {
        self.missing
    }
    /// What was accepted but has no effect or another one than the user may expect; one line each,
    /// to be logged once at the start.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}
