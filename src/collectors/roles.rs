//! The connection limit of each role.
//!
//! Must not: say anything else of a role.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Session};

static LIMIT: Metric = Metric::gauge(
    "pg_roles_connection_limit",
    &["rolname"],
    "Most concurrent connections of the role, pg_roles.rolconnlimit; -1 where unlimited.",
);

const ROLES: &str = "\
SELECT pg_catalog.textsend(r.rolname::text) AS rolname, r.rolconnlimit::float8 AS connlimit
  FROM pg_catalog.pg_roles r ORDER BY r.rolname";

pub struct Roles;

impl Collector for Roles {
    /// Name and limit of each role.
    type Rows = Vec<(String, f64)>;
    type State = ();
    const NAME: &'static str = "roles";
    const HELP: &'static str = "Connection limit of each role.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&LIMIT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        let rows = session.read(ROLES).await?;
        rows.iter().map(|row| Ok((row.get::<Lossy>("rolname")?.0, row.get("connlimit")?))).collect()
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for (rolname, limit) in &rows {
            sink.number(&LIMIT, &[rolname], *limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let rows = vec![("app".to_owned(), -1.0), ("sh\"op".to_owned(), 3.0)];
        check("roles", &poll(&Roles, &mut (), rows));
    }
}
