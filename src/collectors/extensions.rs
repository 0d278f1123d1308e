//! Extensions of a database of which the server has files of another version than the one that is installed.
//!
//! Must not: run anything of an extension's.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Row, Session, columns};

static UPDATE: Metric = Metric::gauge(
    "pg_extension_update_available",
    &["datname", "extname", "installed", "available"],
    "Whether ALTER EXTENSION ... UPDATE would bring another version, pg_available_extensions.default_version against \
     pg_extension.extversion; absent where the server has no files of the extension.",
);

/// The view reads a file for each extension of the server's, hence seldom.
const SQL: &str = "\
SELECT pg_catalog.textsend(e.extname::text) AS extname, pg_catalog.textsend(e.extversion) AS installed,
       pg_catalog.textsend(a.default_version) AS available
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_available_extensions a ON a.name = e.extname
 WHERE a.default_version IS NOT NULL ORDER BY e.extname";

pub struct Extensions;

columns! {
    /// An extension that is installed.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ExtensionVersion {
        /// Name.
        pub extname: String as Lossy,
        /// Its version.
        pub installed: String as Lossy,
        /// That of the server's files.
        pub available: String as Lossy,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Its extensions.
    pub extensions: Vec<ExtensionVersion>,
}

impl Collector for Extensions {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "extensions";
    const HELP: &'static str = "Extensions that have newer versions on the server's disk.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(3_600);
    const METRICS: &'static [&'static Metric] = &[&UPDATE];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let extensions = Row::all(&session.read(SQL).await?)?;
        Ok(Rows { datname: session.server().datname.clone(), extensions })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        for ExtensionVersion { extname, installed, available } in &rows.extensions {
            let differs = f64::from(u8::from(installed != available));
            sink.number(&UPDATE, &[&rows.datname, extname, installed, available], differs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let extension = |name: &str, installed: &str, available: &str| ExtensionVersion {
            extname: name.to_owned(),
            installed: installed.to_owned(),
            available: available.to_owned(),
        };
        let extensions =
            vec![extension("hstore", "1.8", "1.8"), extension("pg_stat_statements", "1.9", "1.10")];
        check(
            "extensions",
            &poll(&Extensions, &mut (), Rows { datname: "a\"b".to_owned(), extensions }),
        );
    }
}
