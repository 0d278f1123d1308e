//! The connection limit of each role, and when its password ends.
//!
//! Must not: say anything else of a role.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Row, Session, columns};

static LIMIT: Metric = Metric::gauge(
    "pg_roles_connection_limit",
    &["rolname"],
    "Most concurrent connections of the role, pg_roles.rolconnlimit; -1 where unlimited.",
);

static VALID_UNTIL: Metric = Metric::gauge(
    "pg_role_valid_until_timestamp_seconds",
    &["rolname"],
    "Unix time after which the role's password is not taken any more, pg_roles.rolvaliduntil, of the 1,000 roles that may \
     log in whose passwords end first or ended within the last 30 days.",
);

const ROLES: &str = "\
SELECT pg_catalog.textsend(r.rolname::text) AS rolname, r.rolconnlimit::float8 AS connlimit
  FROM pg_catalog.pg_roles r ORDER BY r.rolname";

const EXPIRING: &str = "\
SELECT pg_catalog.textsend(r.rolname::text) AS rolname, pg_catalog.date_part('epoch', r.rolvaliduntil)::float8 AS until
  FROM pg_catalog.pg_roles r
 WHERE r.rolcanlogin AND pg_catalog.isfinite(r.rolvaliduntil)
   AND r.rolvaliduntil > pg_catalog.now() - interval '30 days'
 ORDER BY r.rolvaliduntil, r.rolname LIMIT 1000";

pub struct Roles;

columns! {
    /// A limit of one role.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RoleLimit {
        /// Name.
        pub rolname: String as Lossy,
        /// Connections.
        pub limit: f64 = "connlimit",
    }
}

columns! {
    /// A role whose password ends.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ExpiringRole {
        /// Name.
        pub rolname: String as Lossy,
        /// Unix seconds.
        pub until: f64,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Every role.
    pub limits: Vec<RoleLimit>,
    /// Those whose passwords end.
    pub expiring: Vec<ExpiringRole>,
}

impl Collector for Roles {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "roles";
    const HELP: &'static str = "Connection limit of each role, and when its password ends.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&VALID_UNTIL, &LIMIT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        let answers = session.read_all(&[ROLES.into(), EXPIRING.into()]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows { limits: Row::all(next())?, expiring: Row::all(next())? })
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for role in &rows.expiring {
            sink.number(&VALID_UNTIL, &[&role.rolname], role.until);
        }
        for role in &rows.limits {
            sink.number(&LIMIT, &[&role.rolname], role.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let role = |name: &str, limit| RoleLimit { rolname: name.to_owned(), limit };
        let rows = Rows {
            limits: vec![role("app", -1.0), role("sh\"op", 3.0)],
            expiring: vec![ExpiringRole { rolname: "app".to_owned(), until: 1_700_000_000.0 }],
        };
        check("roles", &poll(&Roles, &mut (), rows));
    }
}
