//! The one table of settings.
//!
//! Must not: know where a value came from.

use std::time::Duration;

use super::super::{KnownCollector, NOT_TO_BE_ENTERED, Settings, duration};
use super::{DAY, Key, Kind, MS, SECOND};

const MEGABYTE: f64 = 1_048_576.0;

pub(super) const LEVELS: Kind = Kind::Choice {
    words: &["trace", "debug", "info", "warn", "error"],
    aliases: &[("warning", "warn")],
};
pub(super) const FORMATS: Kind =
    Kind::Choice { words: &["text", "json"], aliases: &[("logfmt", "text")] };

/// All settings, the general ones first, then those of each collector.
pub fn keys(known: &[KnownCollector]) -> Vec<Key> {
    let d = Settings::default();
    let time = duration::format;
    let timeout = Kind::Duration { min: MS, max: Duration::from_secs(600) };
    let span = Kind::Duration { min: SECOND, max: 365 * DAY };
    let mut keys = vec![
        Key::new(
            "dsn",
            Kind::Dsn,
            "",
            "Connection string of the server: a URI or keyword=value pairs, as libpq reads them; \
             other users of the machine can read it on a command line.",
        )
        .or_env(&["DATA_SOURCE_NAME"]),
        Key::new(
            "web.listen_address",
            Kind::Addresses,
            ":9187",
            "Address and port to serve on; `:9187` means all addresses; may be given several times.",
        )
        .or_env(&["PG_EXPORTER_WEB_LISTEN_ADDRESS"]),
        Key::new("web.telemetry_path", Kind::UrlPath, "/metrics", "Path of the metrics.")
            .or_env(&["PG_EXPORTER_WEB_TELEMETRY_PATH"]),
        Key::new("log.level", LEVELS, "info", "Lowest level that is logged."),
        Key::new("log.format", FORMATS, "text", "Form of the log lines, on standard error."),
        Key::new(
            "databases.include",
            Kind::List,
            "",
            "Databases to visit for the collectors that look inside one; all of them if empty.",
        )
        .or_env(&["PG_EXPORTER_INCLUDE_DATABASES"]),
        Key::new(
            "databases.exclude",
            Kind::List,
            NOT_TO_BE_ENTERED.join(","),
            "Databases never to visit; the default are those that managed services keep for \
             themselves, and a list of your own replaces it.",
        )
        .or_env(&["PG_EXPORTER_EXCLUDE_DATABASES"]),
        Key::new(
            "timeouts.connect",
            timeout,
            time(d.timeouts.connect),
            "Limit for a TCP or Unix connection, per address of a host; wins over `connect_timeout` \
             of the DSN.",
        ),
        Key::new(
            "timeouts.handshake",
            timeout,
            time(d.timeouts.handshake),
            "Limit for the TLS handshake, and again for the authentication.",
        ),
        Key::new(
            "timeouts.statement",
            timeout,
            time(d.timeouts.statement),
            "`statement_timeout` of our queries; a second later the connection is given up.",
        ),
        Key::new(
            "timeouts.lock",
            timeout,
            time(d.timeouts.lock),
            "`lock_timeout` of our queries; below `timeouts.statement`.",
        ),
        Key::new(
            "objectives.latency",
            Kind::Duration { min: MS, max: DAY },
            time(Duration::from_secs_f64(d.objectives.latency)),
            "95th percentile of query latency that the alerts hold each database to.",
        ),
        Key::new(
            "objectives.longest_query",
            Kind::Duration { min: MS, max: DAY },
            time(Duration::from_secs_f64(d.objectives.longest_query)),
            "For how long the longest-running statement of a database may run before it pages.",
        ),
        Key::new(
            "objectives.pooler_wait",
            Kind::Duration { min: MS, max: DAY },
            time(Duration::from_secs_f64(d.objectives.pooler_wait)),
            "For how long a client of a PgBouncer may wait for a server connection before it pages.",
        ),
        Key::new(
            "objectives.cache_hit_ratio",
            Kind::Ratio,
            format!("{:.2}", d.objectives.cache_hit_ratio),
            "Cache hit ratio that the alerts hold each database to.",
        ),
        Key::new(
            "objectives.index_scan_ratio",
            Kind::Ratio,
            format!("{:.2}", d.objectives.index_scan_ratio),
            "Share of scans by index that the alerts hold each table to.",
        ),
        Key::new(
            "objectives.latency_slo",
            Kind::Ratio,
            format!("{:.2}", d.objectives.latency_slo),
            "Share of calls that must end within 50 ms, for the alerts on burn rates.",
        ),
        Key::new(
            "objectives.oldest_transaction",
            span,
            time(Duration::from_secs_f64(d.objectives.oldest_transaction)),
            "For how long a transaction, prepared or not, may stay open before it alerts.",
        ),
        Key::new(
            "objectives.idle_in_transaction",
            span,
            time(Duration::from_secs_f64(d.objectives.idle_in_transaction)),
            "For how long a session may idle in a transaction before it alerts.",
        ),
        Key::new(
            "objectives.lock_wait",
            span,
            time(Duration::from_secs_f64(d.objectives.lock_wait)),
            "For how long a backend may wait for a lock before it alerts.",
        ),
        Key::new(
            "objectives.replication_lag",
            span,
            time(Duration::from_secs_f64(d.objectives.replication_lag)),
            "By how much a standby may lag behind before it alerts.",
        ),
        Key::new(
            "objectives.slot_retained_bytes",
            Kind::Bytes,
            format!("{:.0}GB", d.objectives.slot_retained_bytes / (MEGABYTE * 1024.0)),
            "Bytes of WAL that a replication slot may hold back before it alerts.",
        ),
        Key::new(
            "objectives.temp_bytes_per_second",
            Kind::Bytes,
            format!("{:.0}MB", d.objectives.temp_bytes_per_second / MEGABYTE),
            "Bytes a second that the queries of a database may write to temporary files before it \
             alerts.",
        ),
        Key::new(
            "host.memory",
            Kind::Bytes,
            "",
            "Memory of the machine that the server runs on; SQL does not tell it, and recommendations \
             that need it are silent without.",
        ),
        Key::new(
            "host.cpus",
            Kind::Integer { min: 1, max: 4_096 },
            "",
            "Processors of the machine that the server runs on, likewise.",
        ),
        Key::new(
            "ratio_window",
            Kind::Duration { min: SECOND, max: 7 * DAY },
            time(d.ratio_window),
            "Window over which the cache hit and index scan ratios are taken.",
        ),
        Key::new(
            "series_limit",
            Kind::Integer { min: 1, max: 1_000_000 },
            d.series_limit.to_string(),
            "Most series that one collector may publish for one database; a histogram counts one for \
             each bucket, `_sum` and `_count`.",
        ),
        Key::new(
            "collectors.statements.top",
            Kind::Integer { min: 0, max: 10_000 },
            d.statements.top.to_string(),
            "Statements with series of their own; the others are summed up as `other`.",
        ),
        Key::new(
            "collectors.statements.include_text",
            Kind::Boolean,
            d.statements.include_text.to_string(),
            "Whether `pg_statement_info` carries the normalised text of the statements.",
        ),
        Key::new(
            "collectors.statements.text_length",
            Kind::Integer { min: 1, max: 10_000 },
            d.statements.text_length.to_string(),
            "Characters of text kept.",
        ),
        Key::new(
            "collectors.statements.scan_spacing",
            Kind::Duration { min: MS, max: 10 * SECOND },
            time(d.statements.scan_spacing),
            "Pause between the two scans of one poll; below `timeouts.statement`.",
        ),
        Key::new(
            "collectors.partitions.runway_required",
            Kind::Duration { min: SECOND, max: 36_500 * DAY },
            time(Duration::from_secs_f64(d.partitions.required)),
            "Runway that every partitioned table must have, unless a rule says otherwise.",
        ),
        Key::new(
            "collectors.partitions.zone",
            Kind::Zone,
            "",
            "Time zone in which naive times and days are written, unless a rule says otherwise; else the \
             database's own.",
        ),
        Key::new(
            "collectors.partitions.per_partition",
            Kind::Integer { min: 0, max: 10_000 },
            d.partitions.per_partition.to_string(),
            "Partitions of each table, the largest, with series of their own.",
        ),
        Key::new(
            "collectors.indexes.minimum_rows",
            Kind::Integer { min: 0, max: 1_000_000_000 },
            d.indexes.minimum_rows.to_string(),
            "Rows below which reading all of a table is the right plan: it is exempt from the objective \
             of the index scan ratio, from foreign keys without an index, and from the verdict on \
             sequential scans.",
        ),
        Key::new(
            "collectors.indexes.per_partition",
            Kind::Integer { min: 0, max: 10_000 },
            d.indexes.per_partition.to_string(),
            "Partitions' indexes with series of their own, the most scanned of each index.",
        ),
        Key::new(
            "collectors.indexhealth.unused_after",
            Kind::Duration { min: SECOND, max: 3_650 * DAY },
            time(Duration::from_secs_f64(d.indexes.unused_after)),
            "How long the statistics must have counted before an index without scans is called unused.",
        ),
        Key::new(
            "collectors.indexhealth.seq_scan_bytes",
            Kind::Integer { min: 0, max: 1 << 50 },
            d.indexes.seq_scan_bytes.to_string(),
            "Size of a table in bytes from which on it is looked at whether sequential scans dominate.",
        ),
        Key::new(
            "collectors.indexhealth.bloat_largest",
            Kind::Integer { min: 0, max: 100_000 },
            d.indexes.bloat_largest.to_string(),
            "B-trees, the largest, whose bloat is estimated; 0 for none.",
        ),
    ];
    for collector in known {
        let sentence = collector.help.trim_end_matches('.');
        keys.push(Key::new(
            &format!("collectors.{}.enabled", collector.name),
            Kind::Boolean,
            collector.default_on.to_string(),
            &format!("Collector {}: {sentence}.", collector.name),
        ));
        keys.push(Key::new(
            &format!("collectors.{}.interval", collector.name),
            Kind::Duration { min: 100 * MS, max: DAY },
            time(collector.interval),
            &format!("Interval of the {} collector.", collector.name),
        ));
    }
    keys
}

/// A list in the file whose items hold keys of their own; no flag and no variable has it.
#[derive(Debug, Clone)]
pub struct List {
    /// Its key in the file.
    pub name: &'static str,
    /// How an item begins, for who wrote something else.
    pub begins: &'static str,
    /// The keys of an item.
    pub keys: Vec<Key>,
}

/// Rules for partitioned tables.
pub const PARTITIONS: &str = "partitions";

/// Queries whose plans `pgrunway verify` holds to few partitions.
pub const QUERIES: &str = "verify.queries";

fn query_keys() -> Vec<Key> {
    vec![
        Key::new("name", Kind::Text, "", "What the reports of `pgrunway verify` call it."),
        Key::new("database", Kind::Text, "", "The database it is for."),
        Key::new(
            "sql",
            Kind::Text,
            "",
            "One statement, with names that carry their schema and with values in the place of \
             parameters; it is explained, never executed.",
        ),
        Key::new(
            "max_partitions",
            Kind::Integer { min: 0, max: 1_000_000 },
            "1",
            "Most partitions, of all tables together, that its plan may read.",
        ),
    ]
}

/// Indexes that must be there.
pub const INDEXES: &str = "indexes";

fn index_rule_keys() -> Vec<Key> {
    vec![
        Key::new(
            "table",
            Kind::Pattern,
            "",
            "The tables that must have it: `schema.table`, unquoted.",
        ),
        Key::new("database", Kind::Pattern, "", "Their database; any if left out."),
        Key::new("name", Kind::Text, "", "The index by its name."),
        Key::new(
            "columns",
            Kind::Text,
            "",
            "The index by its key columns, all of them in this order, as `a, b DESC`; it has no \
             predicate, whatever it includes. In the reverse order it is as good.",
        ),
        Key::new("unique", Kind::Boolean, "false", "Whether it must be unique."),
        Key::new(
            "create",
            Kind::Text,
            "",
            "The statement that creates it, which `pgrunway verify` prints where it is missing; nothing is \
             compared with it.",
        ),
    ]
}

/// Servers and poolers with pages of their own.
pub const TARGETS: &str = "targets";

/// All lists of the file.
pub fn lists(known: &[KnownCollector]) -> Vec<List> {
    let begins = "- table: schema.table";
    vec![
        List { name: TARGETS, begins: "- name: shop", keys: target_keys(known) },
        List { name: PARTITIONS, begins, keys: partition_rule_keys() },
        List { name: INDEXES, begins, keys: index_rule_keys() },
        List { name: QUERIES, begins: "- name: NAME", keys: query_keys() },
    ]
}

/// A target's own keys, then the settings that may differ from target to target.
fn target_keys(known: &[KnownCollector]) -> Vec<Key> {
    let kinds = Kind::Choice { words: &["postgres", "pgbouncer"], aliases: &[] };
    let mut own = vec![
        Key::new(
            "name",
            Kind::Name,
            "",
            "What the target is called: in `/metrics?target=NAME`, and as `instance` in `/targets`.",
        ),
        Key::new(
            "dsn",
            Kind::Dsn,
            "",
            "Its connection string; what it leaves out comes from the `PG*` variables, the service \
             file and `.pgpass`.",
        ),
        Key::new("dsn_file", Kind::File, "", "File with the connection string, in place of `dsn`."),
        Key::new(
            "password_file",
            Kind::File,
            "",
            "File with the password, read again at every connect.",
        ),
        Key::new(
            "kind",
            kinds,
            "",
            "What it is; told from the server's own answer if left out, and until it has answered \
             taken for PgBouncer where the database is `pgbouncer`.",
        ),
    ];
    let differs = |key: &Key| {
        let parts = ["databases.", "timeouts.", "objectives.", "collectors."];
        parts.iter().any(|part| key.path.starts_with(part))
            || matches!(key.path.as_str(), "ratio_window" | "series_limit")
    };
    own.extend(keys(known).into_iter().filter(differs));
    own
}

fn partition_rule_keys() -> Vec<Key> {
    let span = Kind::Duration { min: SECOND, max: 36_500 * DAY };
    let units = Kind::Choice { words: &["s", "ms", "us", "ns", "yyyymmdd"], aliases: &[] };
    vec![
        Key::new("table", Kind::Pattern, "", "The tables it is for: `schema.table`, unquoted."),
        Key::new("database", Kind::Pattern, "", "Their database; any if left out."),
        Key::new("runway_required", span, "", "Runway that they must have."),
        Key::new("zone", Kind::Zone, "", "Time zone of those who write naive times and days."),
        Key::new(
            "unit",
            units,
            "",
            "What their topmost integer key holds: a time since 1970, or a day as 20261122.",
        ),
        Key::new("max_age", span, "", "Age at which their data should be gone."),
        Key::new("ignore", Kind::Boolean, "false", "Whether they have no series at all."),
        Key::new(
            "must_exist",
            Kind::Boolean,
            "false",
            "Whether to report the table if it is missing or unsupported; needs a `table` and a \
             `database` without wildcards.",
        ),
    ]
}
