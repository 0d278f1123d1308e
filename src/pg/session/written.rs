//! A statement that the user wrote: in a read-only transaction like ours, which is rolled back, so that nothing that it
//! sets outlives it.
//!
//! Must not: send it by the protocol that takes several statements at once, or repeat it in an error.

use super::{Query, Session};
use crate::error::CollectError;
use crate::pg::cell::WrittenAnswer;

/// Ends a transaction and all that was set in it.
const ROLLBACK: &str = "ROLLBACK /* pgrunway */";
/// What the role and the database have, as a session of postgres_exporter has it.
const AS_LOGGED_IN: &str = "\
SELECT pg_catalog.set_config(s.name, s.reset_val, true) AS own
  FROM pg_catalog.pg_settings s WHERE s.name IN ('search_path', 'TimeZone', 'row_security')";
const SET_PATH: &str = "SELECT pg_catalog.set_config('search_path', $1, true) AS path";
const SET_TIMEOUT: &str = "SELECT pg_catalog.set_config('statement_timeout', $1, true) AS timeout";
/// Most bytes of one value where all are read as text.
const LONGEST: usize = 1 << 18;

/// How such a statement is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrittenManner {
    /// With what the role and the database set themselves, in place of what we pin.
    pub as_logged_in: bool,
    /// Where names without a schema are looked for; only in `pg_catalog` if not given.
    pub search_path: Option<String>,
    /// `statement_timeout` in milliseconds; that of the settings if not given.
    pub timeout: Option<String>,
    /// Read each value as text, of whatever type.
    pub as_text: bool,
}

impl Session {
    /// What a statement of the user's own answers.
    ///
    /// # Errors
    /// As [`Session::read`]; [`CollectError::Foreign`], after which the session is lost, where a column is of a type
    /// that is not PostgreSQL's own, unless all are read as text.
    pub async fn read_written(
        &self,
        sql: &str,
        manner: &WrittenManner,
    ) -> Result<WrittenAnswer, CollectError> {
        let result = self.read_written_once(sql, manner).await;
        if self.is_unreadable(&result) { self.read_written_once(sql, manner).await } else { result }
    }

    async fn read_written_once(
        &self,
        sql: &str,
        manner: &WrittenManner,
    ) -> Result<WrittenAnswer, CollectError> {
        self.takes_sql()?;
        // On lines of its own, because it may end with a comment.
        let query = match manner.as_text {
            false => Query::new(format!("{sql}\n")),
            true => Query::new(format!(
                "SELECT r.n AS n, e.key AS key, e.value AS value \
                   FROM (SELECT pg_catalog.row_number() OVER () AS n, pg_catalog.row_to_json(q.*) AS j \
                           FROM (\n{sql}\n) q) r \
                  CROSS JOIN LATERAL pg_catalog.json_each_text(r.j) WITH ORDINALITY e(key, value, i) \
                  ORDER BY r.n, e.i"
            ))
            .longest(LONGEST),
        };
        let query = query.as_written();
        let set = [
            manner.as_logged_in.then(|| Query::new(AS_LOGGED_IN)),
            manner.search_path.as_ref().map(|path| Query::new(SET_PATH).text(path)),
            manner.timeout.as_ref().map(|timeout| Query::new(SET_TIMEOUT).text(timeout)),
        ];
        let set: Vec<Query<'_>> = set.into_iter().flatten().collect();
        self.within_deadline(async {
            let budget = self.budget();
            let (begun, set, rows, ended) = tokio::join!(
                self.begun_as_before(),
                futures_util::future::join_all(set.iter().map(|query| self.rows(query, &budget))),
                self.rows(&query, &budget),
                self.roll_back(),
            );
            begun?;
            set.into_iter().collect::<Result<Vec<_>, _>>()?;
            let rows = rows?;
            ended?;
            if manner.as_text {
                WrittenAnswer::of_texts(&rows)
            } else {
                Ok(WrittenAnswer::of(&rows))
            }
        })
        .await
    }

    async fn roll_back(&self) -> Result<(), CollectError> {
        self.client.batch_execute(ROLLBACK).await.map_err(|e| self.connection.collect_error(e))
    }
}
