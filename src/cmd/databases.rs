//! Which databases of a server there are to look into, for commands that do not leave it to the poller.
//!
//! Must not: enter one, or choose among them.

use crate::error::CollectError;
use crate::pg::{Lossy, Row, Session, columns};

/// Databases that can be entered at all, and whether this role may. Names as bytes, since they need not be
/// in this database's encoding.
const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname,
       pg_catalog.has_database_privilege(d.oid, 'CONNECT') AS may,
       EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = d.datdba AND r.rolsuper) AS superuser
  FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
 ORDER BY d.datname";

columns! {
    /// A database of the server.
    pub struct ListedDatabase {
        /// `pg_database.datname`.
        pub datname: String as Lossy,
        /// Whether the role has CONNECT.
        pub may_enter: bool = "may",
        /// Whether it belongs to a superuser.
        pub of_superuser: bool = "superuser",
    }
}

/// Those that the exporter would look into, but for the configuration's filter.
///
/// # Errors
/// `pg_database` could not be read.
pub async fn list(session: &Session) -> Result<Vec<ListedDatabase>, CollectError> {
    Row::all(&session.read(DATABASES).await?)
}
