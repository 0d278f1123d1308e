//! The settings: each with its default, its key, what it may hold and what it means. Flags,
//! environment variables, keys of `pgrunway.yml`, "did you mean" and the reference in the docs derive
//! from these lines.
//!
//! Must not: know where a value came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::exposed::Exposed;
use super::index_rules::IndexSettings;
use super::probe::ProbeSettings;
use super::queries::CustomQuery;
use super::rules::{PartitionSettings, QueryRule};
use super::schema::{DAY, Key, Keyed, MS, SECOND, Setting, SettingKind, settings};
use super::{Compatibility, ConsoleAccess, ErrorBars, KnownCollector, LogFormat, TargetKind};

/// The settings that other code names, for the place of a fault.
pub(super) const CONNECT: &str = "timeouts.connect";
pub(super) const STATEMENT: &str = "timeouts.statement";
pub(super) const LOCK: &str = "timeouts.lock";
pub(super) const WEB_CONFIG: &str = "web.config.file";
pub(super) const SCAN_SPACING: &str = "collectors.statements.scan_spacing";

const LEVELS: SettingKind = SettingKind::Choice {
    words: &["trace", "debug", "info", "warn", "error"],
    aliases: &[("warning", "warn"), ("fatal", "error")],
};
const FORMATS: SettingKind =
    SettingKind::Choice { words: &["text", "json"], aliases: &[("logfmt", "text")] };
const PROFILES: SettingKind =
    SettingKind::Choice { words: &["none", "postgres_exporter"], aliases: &[] };
const ERROR_BARS: SettingKind =
    SettingKind::Choice { words: &["none", "likely", "certain"], aliases: &[] };
const CONSOLES: SettingKind = SettingKind::Choice {
    words: &["on", "without_names", "off"],
    aliases: &[("true", "on"), ("false", "off")],
};
const TARGET_KINDS: SettingKind =
    SettingKind::Choice { words: &["postgres", "pgbouncer"], aliases: &[] };
const TIMEOUT: SettingKind = SettingKind::Duration { min: MS, max: Duration::from_secs(600) };
/// Of queries and of clients that wait.
const SHORT: SettingKind = SettingKind::Duration { min: MS, max: DAY };
/// Of transactions, locks and standbys.
const LONG: SettingKind =
    SettingKind::Duration { min: SECOND, max: Duration::from_secs(365 * 86_400) };
const KILOBYTE: f64 = 1_024.0;
const MEGABYTE: f64 = 1_024.0 * KILOBYTE;
const GIGABYTE: f64 = 1_024.0 * MEGABYTE;

/// Databases that Amazon RDS, Google Cloud SQL and Azure keep for themselves: their customers can see
/// but not enter them, so that an alert on databases that cannot be read would fire for ever.
const NOT_TO_BE_ENTERED: [&str; 4] =
    ["rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"];

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

settings! {
    /// Where metrics are served.
    #[derive(Debug, Clone)]
    pub(super) struct Web {
        /// Address and port to serve on; `:9187` means all addresses; may be given several times.
        env("PG_EXPORTER_WEB_LISTEN_ADDRESS")
        pub listen_address: Vec<SocketAddr> =
            vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 9187))],
            "web.listen_address" => SettingKind::Addresses;
        /// Path of the metrics.
        env("PG_EXPORTER_WEB_TELEMETRY_PATH")
        pub telemetry_path: String = "/metrics".to_owned(), "web.telemetry_path" => SettingKind::UrlPath;
        /// The console, the pages at `/` and `/api/v1/`: on, without names of users and texts, or off.
        pub console: ConsoleAccess = ConsoleAccess::On, "web.console" => CONSOLES;
        /// Whether `POST /-/reload` loads the configuration again; SIGHUP always does.
        pub enable_lifecycle: bool = false, "web.enable_lifecycle" => SettingKind::Boolean;
        /// File with TLS, passwords, headers and a rate limit of the port, in the format of Prometheus'
        /// exporter-toolkit (docs/web.md).
        pub config_file: Option<String> = None, WEB_CONFIG => SettingKind::File;
        /// Whether to listen on the sockets that systemd hands over, in place of `web.listen_address`.
        pub systemd_socket: bool = false, "web.systemd_socket" => SettingKind::Boolean;
    }

    /// The log, on standard error.
    #[derive(Debug, Clone)]
    pub(super) struct Log {
        /// Lowest level that is logged.
        pub level: tracing::Level = tracing::Level::INFO, "log.level" => LEVELS;
        /// Form of the log lines, on standard error.
        pub format: LogFormat = LogFormat::Text, "log.format" => FORMATS;
    }

    /// A program that prints the password of a server.
    #[derive(Debug, Clone)]
    pub(super) struct Login {
        /// Program that prints the password as the first line of its output, and its arguments, as a list; no shell
        /// runs it (docs/credentials.md).
        pub command: Vec<String> = Vec::new(), "password_command" => SettingKind::List;
        /// For how long `password_command` may run before it is killed.
        pub timeout: Duration = seconds(10), "password_command_timeout" => TIMEOUT;
        /// For how long a password of `password_command` is used again; 0 runs it for each connection.
        pub ttl: Duration = seconds(300),
            "password_command_ttl" => SettingKind::Duration { min: Duration::ZERO, max: DAY };
    }

    /// Which databases of a server are visited by the collectors that need to be inside one.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DatabaseFilter {
        /// Databases to visit for the collectors that look inside one; all of them if empty.
        env("PG_EXPORTER_INCLUDE_DATABASES")
        pub include: Vec<String> = Vec::new(), "databases.include" => SettingKind::List;
        /// Databases never to visit; the default are those that managed services keep for themselves,
        /// and a list of your own replaces it.
        env("PG_EXPORTER_EXCLUDE_DATABASES")
        pub exclude: Vec<String> = NOT_TO_BE_ENTERED.map(str::to_owned).to_vec(),
            "databases.exclude" => SettingKind::List;
    }

    /// Deadlines and server-side timeouts.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Timeouts {
        /// Limit for a TCP or Unix connection, per address of a host; wins over `connect_timeout` of
        /// the DSN.
        pub connect: Duration = seconds(3), CONNECT => TIMEOUT;
        /// Limit for the TLS handshake, and again for the authentication.
        pub handshake: Duration = seconds(3), "timeouts.handshake" => TIMEOUT;
        /// `statement_timeout` of our queries; a second later the connection is given up.
        pub statement: Duration = seconds(5), STATEMENT => TIMEOUT;
        /// `lock_timeout` of our queries; below `timeouts.statement`.
        pub lock: Duration = 100 * MS, LOCK => TIMEOUT;
    }

    /// What the alert rules compare with; exported, so that nobody edits PromQL to change a
    /// threshold. Times are in seconds, ratios from 0 to 1.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Objectives {
        /// Highest acceptable 95th percentile of a database's query latency.
        pub latency: f64 = 0.05, "objectives.latency" => SHORT;
        /// For how long a statement may run before an alert pages.
        pub longest_query: f64 = 300.0, "objectives.longest_query" => SHORT;
        /// For how long a client of a PgBouncer may wait for a server connection before an alert pages.
        pub pooler_wait: f64 = 1.0, "objectives.pooler_wait" => SHORT;
        /// Lowest acceptable cache hit ratio of a database.
        pub cache_hit_ratio: f64 = 0.95, "objectives.cache_hit_ratio" => SettingKind::Ratio;
        /// Lowest acceptable share of a table's scans that use an index.
        pub index_scan_ratio: f64 = 0.9, "objectives.index_scan_ratio" => SettingKind::Ratio;
        /// Share of calls that must end within 50 ms, for the alerts on burn rates.
        pub latency_slo: f64 = 0.99, "objectives.latency_slo" => SettingKind::Ratio;
        /// For how long a transaction, prepared or not, may stay open before an alert fires.
        pub oldest_transaction: f64 = 3600.0, "objectives.oldest_transaction" => LONG;
        /// For how long a session may be idle in a transaction before an alert fires.
        pub idle_in_transaction: f64 = 600.0, "objectives.idle_in_transaction" => LONG;
        /// For how long a backend may wait for a lock before an alert fires.
        pub lock_wait: f64 = 60.0, "objectives.lock_wait" => LONG;
        /// How many sessions, blocked by one for longer than `objectives.lock_wait`, make an alert page.
        pub blocked_sessions: usize = 3,
            "objectives.blocked_sessions" => SettingKind::Integer { min: 1, max: 1_000_000 };
        /// By how much a standby may lag behind before an alert fires.
        pub replication_lag: f64 = 300.0, "objectives.replication_lag" => LONG;
        /// Bytes of WAL that a replication slot may hold back before an alert fires.
        pub slot_retained_bytes: f64 = 10.0 * GIGABYTE,
            "objectives.slot_retained_bytes" => SettingKind::Bytes;
        /// Bytes a second that the queries of a database may write to temporary files before an alert fires.
        pub temp_bytes_per_second: f64 = 10.0 * MEGABYTE,
            "objectives.temp_bytes_per_second" => SettingKind::Bytes;
    }

    /// The machine that the server runs on, which SQL does not show.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Host {
        /// Memory of the machine that the server runs on. SQL does not show it: without it, recommendations that
        /// need it are not evaluated.
        pub memory: Option<f64> = None, "host.memory" => SettingKind::Bytes;
        /// Processors of the machine that the server runs on; as `host.memory`.
        pub cpus: Option<u64> = None, "host.cpus" => SettingKind::Integer { min: 1, max: 4_096 };
    }

    /// Settings of the statements collector.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StatementSettings {
        /// Statements with series of their own; the others are summed up as `other`.
        pub top: usize = 100, "collectors.statements.top" => SettingKind::Integer { min: 0, max: 10_000 };
        /// Whether `pg_statement_info` carries the normalised text of the statements.
        pub include_text: bool = false, "collectors.statements.include_text" => SettingKind::Boolean;
        /// Characters of text kept.
        pub text_length: usize = 120,
            "collectors.statements.text_length" => SettingKind::Integer { min: 1, max: 10_000 };
        /// Error bars of each exposed statement's percentiles and of its share of slow calls: none, those that
        /// hold in about nine of ten cases, or the certain ones too. Databases always have both.
        pub error_bars: ErrorBars = ErrorBars::Likely, "collectors.statements.error_bars" => ERROR_BARS;
        /// Databases whose statements get no series of their own; they count in `other`.
        pub exclude_databases: Vec<String> = Vec::new(),
            "collectors.statements.exclude_databases" => SettingKind::List;
        /// Roles whose statements get no series of their own; they count in `other`.
        pub exclude_users: Vec<String> = Vec::new(),
            "collectors.statements.exclude_users" => SettingKind::List;
        /// Pause between the two scans of one poll, below `timeouts.statement`; up to 20 ms, a poll of a view that is cheap to
        /// read has four or six scans within five such pauses.
        pub scan_spacing: Duration = 10 * MS,
            SCAN_SPACING => SettingKind::Duration { min: MS, max: seconds(10) };
    }

    /// Settings of the activity collector.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ActivitySettings {
        /// Whether active sessions are also counted by `application_name`.
        pub by_application: bool = false, "collectors.activity.by_application" => SettingKind::Boolean;
        /// Whether active sessions are also counted by the client's address.
        pub by_client: bool = false, "collectors.activity.by_client" => SettingKind::Boolean;
        /// How many applications, and how many clients, are counted by name over all databases; the others are
        /// summed up as `other`.
        pub most_names: usize = 100,
            "collectors.activity.most_names" => SettingKind::Integer { min: 1, max: 10_000 };
    }

    /// What the collectors read.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Settings {
        /// Window over which the cache hit and index scan ratios are taken.
        pub ratio_window: Duration = seconds(300),
            "ratio_window" => SettingKind::Duration { min: SECOND, max: seconds(7 * 86_400) };
        /// For how long a transaction must have been open for `longtransactions` to count it.
        pub long_transaction: Duration = seconds(60),
            "collectors.longtransactions.threshold" => SettingKind::Duration { min: Duration::ZERO, max: DAY };
        /// Most series that one collector may publish for one database; a histogram counts one for
        /// each bucket, `_sum` and `_count`.
        pub series_limit: usize = 20_000,
            "series_limit" => SettingKind::Integer { min: 1, max: 1_000_000 };
        /// With `postgres_exporter`, metrics that it has too get its exact labels, types and texts; with `none`,
        /// labels are bounded and partitions summed up (docs/migrating.md shows both).
        pub compatibility: Compatibility = Compatibility::None, "compatibility" => PROFILES;
        /// Roles that may do all that the monitoring role may: their databases, schemas, extensions and tables are
        /// used like those of superusers; `*` means all roles (SECURITY.md).
        pub trust_owners: Vec<String> = Vec::new(), "trust_owners" => SettingKind::List;
        /// Most bytes that one reading of a collector may return; a collector that needs more fails with the kind
        /// `limit`. A relation or an index takes about 200; `verify`, `plan` and
        /// `report` take 64 MiB at least.
        pub answer_limit: usize = 6 << 20,
            "answer_limit" => SettingKind::Integer { min: 65_536, max: 1_000_000_000 };
        parts {
            /// Deadlines and timeouts.
            pub timeouts: Timeouts,
            /// Thresholds for the rules.
            pub objectives: Objectives,
            /// The server's machine.
            pub host: Host,
            /// Statements collector.
            pub statements: StatementSettings,
            /// Activity collector.
            pub activity: ActivitySettings,
            /// Partitions collector.
            pub partitions: PartitionSettings,
            /// Index collectors.
            pub indexes: IndexSettings,
            /// What goes out, and how.
            pub exposed: Exposed,
        }
        rest {
            /// Queries whose plans `verify` looks at, in the order of the file.
            pub queries: Vec<QueryRule>,
            /// Queries of the user's own, in the order of the file, then those of postgres_exporter's file.
            pub custom: Vec<Arc<CustomQuery>>,
            /// By collector name; every known collector has an entry.
            pub collectors: BTreeMap<String, CollectorSetting>,
        }
    }

    /// What each target of the file may have of its own.
    #[derive(Debug, Clone)]
    pub(super) struct PerTarget {
        parts {
            /// Which databases to visit.
            pub databases: DatabaseFilter,
            /// What the collectors read.
            pub settings: Settings,
        }
    }

    /// All of it.
    #[derive(Debug, Clone)]
    pub(super) struct General {
        parts {
            /// Where metrics are served.
            pub web: Web,
            /// The log.
            pub log: Log,
            /// The password of the server without a name.
            pub login: Login,
            /// What may be probed.
            pub probe: ProbeSettings,
            /// What targets may have of their own.
            pub each: PerTarget,
        }
    }

    /// What a target's item in the file says of it, before its connection string is taken apart.
    pub(super) struct TargetItem {
        /// What the target is called: in `/metrics?target=NAME`, and as `instance` in `/targets`.
        pub name: String = String::new(), "name" => SettingKind::Name;
        /// Its connection string; what it leaves out comes from the `PG*` variables, the service file
        /// and `.pgpass`.
        pub dsn: Option<String> = None, "dsn" => SettingKind::Dsn;
        /// File with the connection string, in place of `dsn`.
        pub dsn_file: Option<String> = None, "dsn_file" => SettingKind::File;
        /// File with the password, read again at every connect.
        pub password_file: Option<String> = None, "password_file" => SettingKind::File;
        /// What it is. If left out, its answer shows it; before the first answer, a database `pgbouncer` means
        /// PgBouncer.
        pub kind: Option<TargetKind> = None, "kind" => TARGET_KINDS;
        parts {
            /// Where its password comes from, if a program prints it.
            pub login: Login,
        }
    }
}

/// One collector as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorSetting {
    /// Whether it runs.
    pub enabled: bool,
    /// The interval, where the user set one.
    pub interval: Option<Duration>,
}

impl Settings {
    /// The documented defaults with an entry for each collector.
    pub fn for_collectors(known: &[KnownCollector]) -> Self {
        let setting =
            |c: &KnownCollector| CollectorSetting { enabled: c.default_on, interval: None };
        let collectors = known.iter().map(|c| (c.name.to_owned(), setting(c))).collect();
        Self { collectors, ..Self::default() }
    }
}

impl DatabaseFilter {
    /// Whether a database may be entered for what it shows of the whole server.
    pub fn may_enter(&self, datname: &str) -> bool {
        !self.exclude.iter().any(|d| d == datname)
    }

    /// Whether a database is to be visited by its own name.
    pub fn names(&self, datname: &str) -> bool {
        self.include.iter().any(|d| d == datname)
    }

    /// Whether a database is to be visited.
    pub fn admits(&self, datname: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|d| d == datname))
            && !self.exclude.iter().any(|d| d == datname)
    }
}

impl PerTarget {
    /// Its settings and those that every collector has.
    pub(super) fn keys_with(known: &[KnownCollector]) -> Vec<Setting<Self>> {
        let mut keys = Self::keys();
        for collector in known {
            let name = collector.name;
            let key = |setting: &str, kind, default: String, help: String| Key {
                path: format!("collectors.{name}.{setting}"),
                kind,
                default,
                help,
                aliases: &[],
            };
            let (on, sentence) =
                (collector.default_on.to_string(), collector.help.trim_end_matches('.'));
            let enabled =
                key("enabled", SettingKind::Boolean, on, format!("Collector {name}: {sentence}."));
            keys.push(Setting::by(enabled, move |each: &mut Self, value| {
                let of = each.settings.collectors.get_mut(name);
                of.is_some_and(|setting| value.put(&mut setting.enabled))
            }));
            let (min, max) = KnownCollector::INTERVALS;
            let range = SettingKind::Duration { min, max };
            let default = super::duration::format(collector.interval);
            let interval =
                key("interval", range, default, format!("Interval of the {name} collector."));
            keys.push(Setting::by(interval, move |each: &mut Self, value| {
                let of = each.settings.collectors.get_mut(name);
                of.is_some_and(|setting| value.put(&mut setting.interval))
            }));
        }
        keys
    }
}

impl General {
    /// Its settings and those that every collector has.
    pub(super) fn keys_with(known: &[KnownCollector]) -> Vec<Setting<Self>> {
        let web = Web::keys().into_iter().map(|key| key.of(|all: &mut Self| &mut all.web));
        let log = Log::keys().into_iter().map(|key| key.of(|all: &mut Self| &mut all.log));
        let login = Login::keys().into_iter().map(|key| key.of(|all: &mut Self| &mut all.login));
        let probe = ProbeSettings::keys();
        let probe = probe.into_iter().map(|key| key.of(|all: &mut Self| &mut all.probe));
        let each = PerTarget::keys_with(known);
        let each = each.into_iter().map(|key| key.of(|all: &mut Self| &mut all.each));
        web.chain(log).chain(login).chain(probe).chain(each).collect()
    }
}
