//! Facts about a server that decide which query a collector sends. Read again at every connect.
//!
//! Must not: be cached beyond a session (an upgrade or `CREATE EXTENSION` changes them).

use std::collections::BTreeMap;

use tokio_postgres::SimpleQueryMessage;

use super::columns::{OrZero, columns};
use super::row::Row;
use crate::error::CollectError;

/// One installed extension. Where its objects are is looked at in each transaction that uses them
/// ([`Session::read_trusted`](super::Session::read_trusted)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// `extversion`, such as `1.10`.
    pub version: (u32, u32),
}

/// What is known of the server and of this session's database.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Server {
    /// `server_version_num`, such as 150018.
    pub version_num: i32,
    /// `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// The database of this session.
    pub datname: String,
    /// The role of this session.
    pub role: String,
    /// Its OID.
    pub role_oid: i64,
    /// The role that the database would impose on this one (`ALTER DATABASE … SET role`), and that is
    /// put off in each transaction.
    pub imposed_role: Option<String>,
    /// Process of this session's backend, and when it began (`pg_stat_activity.backend_start`, Unix
    /// seconds): together they name a backend for ever.
    pub backend: (i32, f64),
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Unix seconds of `pg_postmaster_start_time()`.
    pub started: f64,
    /// Whether the role sees other users' statistics (`pg_read_all_stats`).
    pub reads_all_stats: bool,
    /// The `TimeZone` that a new session of this database gets.
    pub timezone: String,
    /// Extensions of this database by name.
    pub extensions: BTreeMap<String, Extension>,
}

/// One row per extension (or one row with NULLs).
///
/// The session's own TimeZone is pinned to UTC, but `reset_val` still holds what start-up gave it:
/// the database's setting and this role's. The writers' role may differ, which is why the zone can
/// be configured.
pub(super) const FACTS: &str = "\
SELECT pg_catalog.current_setting('server_version_num')::int4 AS version_num,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_database()::text AS datname,
       current_user::text AS role, pg_catalog.pg_backend_pid() AS pid,
       (SELECT pg_catalog.date_part('epoch', a.backend_start)
          FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a) AS backend_start,
       (SELECT r.oid::int8 FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS role_oid,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) AS started,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats,
       (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'TimeZone') AS timezone,
       (SELECT CASE WHEN s.setdatabase <> 0 OR s.setrole = 0
                    THEN pg_catalog.substr(c.setting, 6) END
          FROM pg_catalog.pg_db_role_setting s
          JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
         CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c (setting)
         WHERE s.setdatabase IN (0, d.oid) AND c.setting LIKE 'role=%'
           AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r
                                  WHERE r.rolname = session_user))
         ORDER BY s.setrole DESC, s.setdatabase DESC LIMIT 1) AS imposed,
       current_user <> session_user AS other_role,
       e.extname::text AS extname, e.extversion
  FROM (VALUES (1)) one(x)
  LEFT JOIN pg_catalog.pg_extension e ON true";

columns! {
    /// One row of [`FACTS`].
    struct FactsOfServer {
        version_num: i32,
        version: String,
        datname: String,
        role: String,
        role_oid: i64,
        pid: i32,
        backend_start: f64 as OrZero,
        in_recovery: bool,
        started: f64,
        reads_all_stats: bool,
        timezone: Option<String>,
        imposed: Option<String>,
        other_role: bool,
        extname: Option<String>,
        extversion: Option<String>,
    }
}

/// Who answers: what must be the same for the facts to hold, and for counters to go on. Columns of the
/// statement that opens a transaction, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Identity([Option<String>; 4]);

impl Identity {
    /// The last four columns. After a restart, a failover behind a pooler, a promotion, or a GRANT or
    /// REVOKE of the privilege one of them differs.
    pub(super) const COLUMNS: &str = "\
pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()), pg_catalog.pg_is_in_recovery(), \
pg_catalog.current_setting('server_version_num'), \
pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";

    pub(super) fn from_messages(messages: &[SimpleQueryMessage]) -> Self {
        let row = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Self(std::array::from_fn(|i| {
            let row = row?;
            let column = row.len().checked_sub(4)? + i;
            row.try_get(column).ok().flatten().map(str::to_owned)
        }))
    }
}

impl Server {
    /// Whether the role of the session is one that the database, and not the role itself or the
    /// connection, chose.
    pub(super) fn role_is_imposed(rows: &[Row]) -> Result<bool, CollectError> {
        let row: Option<FactsOfServer> = Row::first(rows)?;
        Ok(row.is_some_and(|row| row.other_role && row.imposed.is_some()))
    }

    pub(super) fn from_rows(rows: &[Row]) -> Result<Self, CollectError> {
        let mut extensions = BTreeMap::new();
        let rows: Vec<FactsOfServer> = Row::all(rows)?;
        for row in &rows {
            if let (Some(name), Some(version)) = (&row.extname, &row.extversion) {
                extensions.insert(name.clone(), Extension { version: parse_version(version) });
            }
        }
        let first = rows.into_iter().next().ok_or_else(|| CollectError::Missing {
            what: "the server answered the first query with no row".to_owned(),
            remedy: "check that this is a PostgreSQL server".to_owned(),
        })?;
        Ok(Self {
            version_num: first.version_num,
            version: first.version,
            datname: first.datname,
            role: first.role,
            role_oid: first.role_oid,
            imposed_role: first.imposed.filter(|role| role != "none"),
            backend: (first.pid, first.backend_start),
            in_recovery: first.in_recovery,
            started: first.started,
            reads_all_stats: first.reads_all_stats,
            timezone: first.timezone.unwrap_or_else(|| "UTC".to_owned()),
            extensions,
        })
    }

    /// Major version, such as 15.
    pub fn major(&self) -> i32 {
        self.version_num / 10_000
    }
}

/// `1.10` as `(1, 10)`; what is not a number counts as 0.
pub(super) fn parse_version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn extension_versions_compare_by_number() {
        assert!(parse_version("1.10") > parse_version("1.9"));
        assert_eq!(parse_version("2"), (2, 0));
        assert_eq!(parse_version("dev"), (0, 0));
    }
}
