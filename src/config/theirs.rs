//! postgres_exporter's command line and environment (0.19 and 0.20): each flag and variable, and what becomes of
//! it here. The one table of it: the parser, the notes of the log and docs/migrating.md follow from it.
//!
//! Must not: say what a setting of ours means, or know where a value came from.

use super::schema::Key;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: `--flag`, and `--no-flag` for its contrary.
    Switch,
    /// One value; an empty one counts as not given.
    Text,
}

/// What becomes of a flag or a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// A flag of ours by the same name, and its setting.
    Same,
    /// This setting of ours, with the same values.
    Setting(&'static str),
    /// The series of these metrics: off, they are left out; on, the collectors that give them run.
    Metrics(&'static [&'static str]),
    /// On, the series of these metrics are left out.
    Hides(&'static [&'static str]),
    /// This setting of ours, where that is more: a duration.
    Lowers(&'static str),
    /// The list of metrics is printed, and nothing runs.
    Lists,
    /// The file of queries that it names is run.
    Queries,
    /// Nothing: on, or with the words in brackets, because it is so anyway; else with a warning that says why.
    Nothing(&'static str, &'static [&'static str]),
}

/// A flag of postgres_exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theirs {
    /// Without its dashes.
    pub flag: &'static str,
    /// Its variable; empty if it has none.
    pub env: &'static str,
    /// Its form.
    pub takes: Takes,
    /// What it is here.
    pub becomes: Becomes,
}

const fn text(flag: &'static str, env: &'static str, becomes: Becomes) -> Theirs {
    Theirs { flag, env, takes: Takes::Text, becomes }
}

const fn switch(flag: &'static str, env: &'static str, becomes: Becomes) -> Theirs {
    Theirs { flag, env, takes: Takes::Switch, becomes }
}

const fn metrics(flag: &'static str, names: &'static [&'static str]) -> Theirs {
    switch(flag, "", Becomes::Metrics(names))
}

const fn setting(flag: &'static str, env: &'static str, path: &'static str) -> Theirs {
    text(flag, env, Becomes::Setting(path))
}

const AURORA: Becomes = Becomes::Nothing("Aurora's own functions are not read", &["false"]);

/// All of them, in the order of its `--help`. `--help` and `--version` are everybody's.
pub const ALL: &[Theirs] = &[
    metrics("collector.buffercache_summary", &["pg_buffercache_summary_*"]),
    metrics("collector.database", &["pg_database_size_bytes", "pg_database_connection_limit"]),
    metrics("collector.database_wraparound", &["pg_database_wraparound_*"]),
    metrics("collector.locks", &["pg_locks_count"]),
    metrics("collector.long_running_transactions", &["pg_long_running_transactions*"]),
    setting(
        "collector.long_running_transactions.threshold",
        "",
        "collectors.longtransactions.threshold",
    ),
    metrics("collector.postmaster", &["pg_postmaster_start_time_seconds"]),
    metrics("collector.process_idle", &["pg_process_idle_seconds"]),
    metrics(
        "collector.replication",
        &[
            "pg_replication_lag_seconds",
            "pg_replication_is_replica",
            "pg_replication_last_replay_seconds",
        ],
    ),
    metrics("collector.replication_slot", &["pg_replication_slot_*", "pg_replication_slots_*"]),
    metrics("collector.replication_slots", &["pg_replication_slot_*", "pg_replication_slots_*"]),
    metrics("collector.roles", &["pg_roles_*"]),
    metrics("collector.settings", &["pg_settings_*"]),
    metrics(
        "collector.stat_activity",
        &["pg_stat_activity_count", "pg_stat_activity_max_tx_duration"],
    ),
    metrics("collector.stat_activity_autovacuum", &["pg_stat_activity_autovacuum_*"]),
    metrics("collector.stat_archiver", &["pg_stat_archiver_*"]),
    metrics("collector.stat_bgwriter", &["pg_stat_bgwriter_*"]),
    metrics("collector.stat_checkpointer", &["pg_stat_checkpointer_*"]),
    metrics("collector.stat_database", &["pg_stat_database_*"]),
    metrics("collector.stat_progress_vacuum", &["pg_stat_progress_vacuum_*"]),
    metrics("collector.stat_replication", &["pg_stat_replication_*"]),
    metrics("collector.stat_statements", &["pg_stat_statements_*"]),
    switch(
        "collector.stat_statements.include_query",
        "",
        Becomes::Setting("collectors.statements.include_text"),
    ),
    setting("collector.stat_statements.query_length", "", "collectors.statements.text_length"),
    setting("collector.stat_statements.limit", "", "collectors.statements.top"),
    setting(
        "collector.stat_statements.exclude_databases",
        "",
        "collectors.statements.exclude_databases",
    ),
    setting("collector.stat_statements.exclude_users", "", "collectors.statements.exclude_users"),
    metrics("collector.stat_user_tables", &["pg_stat_user_tables_*"]),
    metrics("collector.stat_wal_receiver", &["pg_stat_wal_receiver_*"]),
    metrics("collector.statio_user_indexes", &["pg_statio_user_indexes_*"]),
    metrics("collector.statio_user_tables", &["pg_statio_user_tables_*"]),
    metrics("collector.wal", &["pg_wal_segments", "pg_wal_size_bytes"]),
    metrics("collector.xlog_location", &["pg_xlog_location_bytes"]),
    switch("collector.aurora_global_db_instance_status", "", AURORA),
    switch("collector.aurora_global_db_status", "", AURORA),
    switch("collector.aurora_replica_status", "", AURORA),
    switch("collector.aurora_stat_bgwriter", "", AURORA),
    switch("collector.aurora_stat_database", "", AURORA),
    switch("collector.aurora_stat_dml_activity", "", AURORA),
    switch("collector.aurora_stat_get_db_commit_latency", "", AURORA),
    switch("collector.aurora_stat_logical_wal_cache", "", AURORA),
    switch("collector.aurora_stat_optimized_reads_cache", "", AURORA),
    text("config.file", "", Becomes::Same),
    text("web.config.file", "", Becomes::Same),
    switch("web.systemd-socket", "", Becomes::Same),
    text("web.listen-address", "PG_EXPORTER_WEB_LISTEN_ADDRESS", Becomes::Same),
    text("web.telemetry-path", "PG_EXPORTER_WEB_TELEMETRY_PATH", Becomes::Same),
    switch(
        "disable-default-metrics",
        "PG_EXPORTER_DISABLE_DEFAULT_METRICS",
        Becomes::Hides(&[
            "pg_stat_activity_count",
            "pg_stat_activity_max_tx_duration",
            "pg_stat_archiver_*",
            "pg_stat_database_conflicts_confl_*",
            "pg_stat_replication_*",
            "pg_replication_slots_active",
            "pg_replication_slots_pg_wal_lsn_diff",
        ]),
    ),
    switch(
        "disable-settings-metrics",
        "PG_EXPORTER_DISABLE_SETTINGS_METRICS",
        Becomes::Hides(&["pg_settings_*"]),
    ),
    switch(
        DISCOVER,
        "PG_EXPORTER_AUTO_DISCOVER_DATABASES",
        Becomes::Nothing("all databases are visited; name some in databases.include", &["true"]),
    ),
    setting("exclude-databases", "PG_EXPORTER_EXCLUDE_DATABASES", "databases.exclude"),
    setting("include-databases", "PG_EXPORTER_INCLUDE_DATABASES", "databases.include"),
    text(QUERY_PATH, "PG_EXPORTER_EXTEND_QUERY_PATH", Becomes::Queries),
    switch("dumpmaps", "", Becomes::Lists),
    setting("constantLabels", "PG_EXPORTER_CONSTANT_LABELS", "metrics.constant_labels"),
    setting("metric-prefix", "PG_EXPORTER_METRIC_PREFIX", "metrics.prefix"),
    text(
        "collection-timeout",
        "PG_EXPORTER_COLLECTION_TIMEOUT",
        Becomes::Lowers("timeouts.statement"),
    ),
    switch(
        "wrap-large-counters",
        "",
        Becomes::Nothing(
            "counters are exported as the server has them, beyond 2^53 rounded",
            &["false"],
        ),
    ),
    text("log.level", "", Becomes::Same),
    text("log.format", "", Becomes::Same),
];

/// The flag that names the file of queries, and the one that runs them in every database.
pub(super) const QUERY_PATH: &str = "extend.query-path";
pub(super) const DISCOVER: &str = "auto-discover-databases";

/// Variables of it that no flag has.
pub const VARIABLES: [&str; 7] = [
    "DATA_SOURCE_NAME",
    "DATA_SOURCE_URI",
    "DATA_SOURCE_URI_FILE",
    "DATA_SOURCE_USER",
    "DATA_SOURCE_USER_FILE",
    "DATA_SOURCE_PASS",
    "DATA_SOURCE_PASS_FILE",
];

/// Those that need a flag of their own beside ours: where a collector of ours has the same name, ours is meant.
pub fn beside(keys: &[Key]) -> Vec<&'static Theirs> {
    let ours: Vec<String> = keys.iter().map(Key::flag).collect();
    let new = |theirs: &&Theirs| {
        theirs.becomes != Becomes::Same && !ours.iter().any(|flag| flag == theirs.flag)
    };
    ALL.iter().filter(new).collect()
}

/// What a switch's variable says, as Go reads it; `None` where it is no truth value.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
