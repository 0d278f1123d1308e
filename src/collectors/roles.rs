//! The connection limit of each role.
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

const ROLES: &str = "\
SELECT pg_catalog.textsend(r.rolname::text) AS rolname, r.rolconnlimit::float8 AS connlimit
  FROM pg_catalog.pg_roles r ORDER BY r.rolname";

columns! {
    /// One role.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RoleLimit {
        /// Its name.
        pub rolname: String as Lossy,
        /// Most connections; -1 for no limit.
        pub connlimit: f64,
    }
}

pub struct Roles;

impl Collector for Roles {
    type Rows = Vec<RoleLimit>;
    type State = ();
    const NAME: &'static str = "roles";
    const HELP: &'static str = "Connection limit of each role.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&LIMIT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(ROLES).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for role in &rows {
            sink.number(&LIMIT, &[&role.rolname], role.connlimit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let role = |rolname: &str, connlimit| RoleLimit { rolname: rolname.to_owned(), connlimit };
        let rows = vec![role("app", -1.0), role("sh\"op", 3.0)];
        check("roles", &poll(&Roles, &mut (), rows));
    }
}
