//! The server's start, and every setting that holds a number or a switch, under postgres_exporter's names: in
//! seconds and bytes, with the unit in the name.
//!
//! Must not: export a setting that holds a text, or what only this session set.

use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{Row, Session, columns};

static START: Metric = Metric::gauge(
    "pg_postmaster_start_time_seconds",
    &[],
    "Unix time at which the server started, pg_postmaster_start_time().",
);
static RELOADED: Metric = Metric::gauge(
    "pg_conf_load_time_seconds",
    &[],
    "Unix time at which the configuration was last loaded, pg_conf_load_time().",
);
static PENDING: Metric = Metric::gauge(
    "pg_settings_pending_restart",
    &[],
    "Settings that were changed and wait for a restart, pg_settings.pending_restart.",
);

static CHECKSUMS: Metric = Metric::gauge(
    "pg_data_checksums_state",
    &["state"],
    "Constant 1 with the setting data_checksums: on, off, or on a server that can switch them while it runs what it is \
     about to do.",
);

static ANY: Metric = Metric::gauge(
    "pg_settings_",
    &[],
    "Any other setting that holds a number or a switch: its name, with _ for each dot, and _seconds or _bytes if it has \
     a unit; 1 and 0 for on and off, -1 as it is; pg_settings.setting.",
)
.with_server_there(Kind::Gauge);
/// What the collector of connections exports.
const OF_CONNECTIONS: [&str; 3] =
    ["max_connections", "superuser_reserved_connections", "reserved_connections"];

macro_rules! settings {
    ($($ident:ident $metric:literal $name:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::gauge(
            concat!("pg_settings_", $metric), &[], concat!($what, ", the setting ", $name, "."),
        ).with_server_there(Kind::Gauge);)*
        /// Name in `pg_settings`, and its metric.
        static EXPORTED: &[(&str, &Metric)] = &[$(($name, &$ident)),*];
        static METRICS: &[&Metric] = &[&START, &RELOADED, &PENDING, &CHECKSUMS, &ANY, $(&$ident),*];
    };
}

settings! {
    ARCHIVE_MODE "archive_mode" "archive_mode" "Whether WAL is archived: 0 off, 1 on, 2 always";
    AUTOVACUUM "autovacuum" "autovacuum" "Whether autovacuum runs";
    FREEZE "autovacuum_freeze_max_age" "autovacuum_freeze_max_age" "Age in transactions at which a table is vacuumed against wraparound";
    MULTIXACT_FREEZE "autovacuum_multixact_freeze_max_age" "autovacuum_multixact_freeze_max_age" "Age in multixacts at which a table is vacuumed against wraparound";
    WORKERS "autovacuum_max_workers" "autovacuum_max_workers" "Most autovacuum workers at a time";
    CHECKPOINT_TIMEOUT "checkpoint_timeout_seconds" "checkpoint_timeout" "Longest time between two checkpoints";
    DATA_CHECKSUMS "data_checksums" "data_checksums" "Whether data pages have checksums";
    FSYNC "fsync" "fsync" "Whether writes are forced to disk";
    PAGE_WRITES "full_page_writes" "full_page_writes" "Whether whole pages go into the WAL after a checkpoint";
    WAL_SIZE "max_wal_size_bytes" "max_wal_size" "WAL between two checkpoints that triggers one";
    PREPARED "max_prepared_transactions" "max_prepared_transactions" "Most prepared transactions at a time";
    SLOTS "max_replication_slots" "max_replication_slots" "Most replication slots";
    SENDERS "max_wal_senders" "max_wal_senders" "Most WAL senders at a time";
    SHARED_BUFFERS "shared_buffers_bytes" "shared_buffers" "Size of shared buffers";
    IO_TIMING "track_io_timing" "track_io_timing" "Whether the time of reads and writes is measured";
    WORK_MEM "work_mem_bytes" "work_mem" "Memory that one sort or hash may use before it goes to disk";
}

/// One pass over the view, which is built anew each time. Of what our own transaction sets, the value before; a standby
/// has no other transactions than those that read. A setting that a user made up holds a text.
const SETTINGS: &str = "\
SELECT s.name, s.unit, s.pending_restart, s.vartype IN ('bool', 'integer', 'real') AS numeric,
       CASE WHEN s.source = 'session'
             AND NOT (s.name = 'transaction_read_only' AND pg_catalog.pg_is_in_recovery())
            THEN s.reset_val ELSE s.setting END AS setting
  FROM pg_catalog.pg_settings s
 WHERE s.vartype IN ('bool', 'integer', 'real') OR s.name IN ('archive_mode', 'data_checksums') OR s.pending_restart
 ORDER BY s.name";

const TIMES: &str = "\
SELECT pg_catalog.date_part('epoch', pg_catalog.pg_conf_load_time())::float8 AS loaded";

published! {
    /// `pg_postmaster_start_time_seconds`.
    pub struct ServerStart of START { => seconds: f64 }
}

pub struct ServerSettings;

columns! {
    /// One row of `pg_settings`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ServerSetting {
        /// Name.
        pub name: String,
        /// Value as text.
        pub value: Option<String> = "setting",
        /// Unit, such as `8kB`.
        pub unit: Option<String>,
        /// Whether it waits for a restart.
        pub pending: bool = "pending_restart",
        /// Whether it holds a number or a switch.
        pub numeric: bool,
    }
}

columns! {
    /// When the files were read.
    struct FileTimes {
        loaded: Option<f64>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds.
    pub started: f64,
    /// Unix seconds.
    pub loaded: Option<f64>,
    /// Those that hold a number or a switch, and those that wait for a restart.
    pub settings: Vec<ServerSetting>,
}

impl Collector for ServerSettings {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "settings";
    const HELP: &'static str =
        "Start of the server, and every setting that holds a number or a switch.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let answers = session.read_all(&[TIMES.into(), SETTINGS.into()]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let FileTimes { loaded } = Row::one(next())?;
        Ok(Rows { started: session.server().started, loaded, settings: Row::all(next())? })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        sink.number(&START, &[], rows.started);
        sink.number(&RELOADED, &[], rows.loaded);
        let pending = rows.settings.iter().filter(|s| s.pending).count();
        // There are a few hundred settings.
        sink.number(&PENDING, &[], pending as f64);
        let checksums = rows.settings.iter().find(|setting| setting.name == "data_checksums");
        if let Some(state) = checksums.and_then(|setting| setting.value.as_deref()) {
            sink.number(&CHECKSUMS, &[state], 1.0);
        }
        for (name, metric) in EXPORTED {
            let setting = rows.settings.iter().find(|s| s.name == *name);
            sink.number(metric, &[], setting.and_then(ServerSetting::number));
        }
        let own = |name: &str| {
            EXPORTED.iter().any(|(own, _)| *own == name) || OF_CONNECTIONS.contains(&name)
        };
        for setting in rows.settings.iter().filter(|s| s.numeric && !own(&s.name)) {
            let (unit, words) = match setting.unit.as_deref().unwrap_or_default() {
                "" => ("", ""),
                "ms" | "s" | "min" | "h" | "d" => ("_seconds", " in seconds"),
                _ => ("_bytes", " in bytes"),
            };
            let suffix = format!("{}{unit}", setting.name.replace('.', "_"));
            let help = format!("The setting {}{words}, pg_settings.setting.", setting.name);
            sink.named(&ANY, (&suffix, &help), &[], setting.number());
        }
    }
}

impl ServerSetting {
    /// In seconds, bytes, or as 0 and 1 (and 2 for `always`).
    fn number(&self) -> Option<f64> {
        let value = self.value.as_deref()?;
        let number = match value {
            // Checksums that are being written or removed are not verified.
            "off" | "inprogress-on" | "inprogress-off" => 0.0,
            "on" => 1.0,
            "always" => 2.0,
            _ => value.parse().ok()?,
        };
        // Nothing, or another setting's: not an amount.
        if number == -1.0 {
            return Some(number);
        }
        let factor = match self.unit.as_deref().unwrap_or_default() {
            "" | "s" | "B" => 1.0,
            "ms" => 0.001,
            "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "kB" => 1024.0,
            "MB" => 1024.0 * 1024.0,
            "GB" => 1024.0 * 1024.0 * 1024.0,
            "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            // Blocks of any size: `8kB`, `16kB`, and segments: `16MB`.
            other => match other.strip_suffix("kB") {
                Some(blocks) => blocks.parse::<f64>().ok()? * 1024.0,
                None => other.strip_suffix("MB")?.parse::<f64>().ok()? * 1024.0 * 1024.0,
            },
        };
        Some(number * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    fn setting(name: &str, value: &str, unit: &str, pending: bool) -> ServerSetting {
        let unit = (!unit.is_empty()).then(|| unit.to_owned());
        let numeric = name != "archive_mode" && name != "data_checksums";
        ServerSetting {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            unit,
            pending,
            numeric,
        }
    }

    #[test]
    fn golden() {
        let settings = vec![
            setting("archive_mode", "always", "", false),
            setting("autovacuum", "off", "", false),
            setting("checkpoint_timeout", "300", "s", false),
            setting("data_checksums", "inprogress-on", "", false),
            setting("max_wal_size", "1024", "MB", true),
            setting("log_rotation_size", "-1", "kB", false),
            setting("pg_stat_statements.max", "5000", "", false),
            setting("port", "5432", "", true),
            setting("wal_writer_delay", "200", "ms", false),
            setting("shared_buffers", "16384", "8kB", false),
            setting("work_mem", "4096", "kB", false),
        ];
        let rows = Rows { started: 1_700_000_000.25, loaded: Some(1_700_000_060.0), settings };
        check("settings", &poll(&ServerSettings, &mut (), rows));
    }

    #[test]
    fn a_unit_that_is_not_known_gives_no_number() {
        assert_eq!(setting("x", "5", "min", false).number(), Some(300.0));
        assert_eq!(setting("x", "5", "parsec", false).number(), None);
        assert_eq!(setting("x", "replica", "", false).number(), None);
    }
}
