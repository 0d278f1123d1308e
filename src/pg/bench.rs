//! A connection that times statements of the user's own, prepared under a name or not at all, one
//! round trip each.
//!
//! Must not: put anything into a timed call that the user did not write: no BEGIN, no mark, no SET.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, SimpleQueryMessage};

use super::connect::{Connection, open};
use super::redact::Veil;
use super::row::{Budget, Row, RowsOf};
use super::session::{GRACE, OWN_LIMITS, OWN_MARK, Query, cancel};
use super::tls::Tls;
use super::words::chain;
use crate::config::{Connect, Endpoint, Timeouts};
use crate::error::{ConnectError, StatementError};

/// A value as text, whatever the parameter's type: the server reads it as it reads a literal.
#[derive(Debug)]
struct TextValue<'a>(&'a str);

impl ToSql for TextValue<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The text of a `json` column.
struct Json(String);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }
}

/// A statement prepared on one [`Bench`], with the types that the server inferred.
#[derive(Clone)]
pub struct BenchStatement(tokio_postgres::Statement);

impl BenchStatement {
    /// The names of the types of `$1`, `$2` and so on.
    pub fn parameters(&self) -> Vec<String> {
        self.0.params().iter().map(|t| t.name().to_owned()).collect()
    }
}

/// A connection on which each call is a transaction of its own, begun and ended by the server.
pub struct Bench {
    client: tokio_postgres::Client,
    connection: Connection,
    endpoint: Endpoint,
    tls: Tls,
    deadline: Duration,
    broken: AtomicBool,
}

/// Asks the server to cancel what its [`Bench`] is running, from anywhere.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    endpoint: Endpoint,
    tls: Tls,
}

impl Canceller {
    /// That it could be asked is all there is to know.
    pub async fn cancel(self) {
        cancel(&self.token, &self.endpoint, None, self.tls).await;
    }
}

impl Bench {
    /// Connects to the configured database or `datname`. The role's own `search_path` and planner settings
    /// stay. With `read_only`, every transaction of the session is read-only unless it says otherwise.
    ///
    /// # Errors
    /// As [`Admin::connect`](super::Admin::connect).
    pub async fn connect(
        connect: &Connect,
        datname: Option<&str>,
        timeouts: &Timeouts,
        read_only: bool,
    ) -> Result<Self, ConnectError> {
        let (client, connection, endpoint) =
            open(connect, datname, timeouts, OWN_LIMITS, None).await?;
        let bench = Self {
            client,
            connection,
            endpoint: endpoint.clone(),
            tls: Tls::new(connect, timeouts.handshake)?,
            deadline: timeouts.statement + GRACE,
            broken: AtomicBool::new(false),
        };
        let facts = |source: StatementError| ConnectError::Facts {
            endpoint: endpoint.to_string(),
            source: source.into(),
        };
        for (name, value) in [
            ("default_transaction_read_only", if read_only { "on" } else { "off" }.to_owned()),
            ("statement_timeout", timeouts.statement.as_millis().to_string()),
            ("lock_timeout", timeouts.lock.as_millis().to_string()),
        ] {
            bench.set(name, &value).await.map_err(facts)?;
        }
        Ok(bench)
    }

    /// Sets a parameter of the session.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn set(&self, name: &str, value: &str) -> Result<(), StatementError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let query = Query::new("SELECT pg_catalog.set_config($1, $2, false)");
        self.rows(query.text(&name).text(&value)).await.map(drop)
    }

    /// Whether the connection is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.client.is_closed()
    }

    /// What cancels this session's statements.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            token: self.client.cancel_token(),
            endpoint: self.endpoint.clone(),
            tls: self.tls.clone(),
        }
    }

    /// Whether the connection is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix { .. })
    }

    /// Whether the connection stays on this machine.
    pub fn is_local(&self) -> bool {
        match &self.endpoint {
            Endpoint::Unix { .. } => true,
            Endpoint::Tcp { host, .. } => ["localhost", "127.0.0.1", "::1"].contains(&&**host),
        }
    }

    /// The process number of its backend, as the server has it, and the database.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn backend(&self) -> Result<(i32, String), StatementError> {
        let sql = "SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.current_database()::text AS datname";
        let rows = self.rows(sql).await?;
        let first = rows.first().ok_or_else(|| StatementError::Value("no row".to_owned()))?;
        let wrong = |e: crate::error::CollectError| StatementError::Value(e.to_string());
        Ok((first.get("pid").map_err(wrong)?, first.get("datname").map_err(wrong)?))
    }

    /// Ends the session, and waits until the server has noticed, a second at most.
    pub async fn close(self) {
        let Self { client, connection, .. } = self;
        drop(client);
        connection.close().await;
    }

    /// Prepares a named statement that lives as long as the result.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn prepare(&self, sql: &str) -> Result<BenchStatement, StatementError> {
        self.within_deadline(async { self.client.prepare(sql).await.map(BenchStatement) }).await
    }

    /// Executes a prepared statement: Bind, Execute and Sync in one round trip. Returns the rows of
    /// the answer, which were all read, or those that were changed.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn execute(
        &self,
        statement: &BenchStatement,
        values: &[Option<String>],
    ) -> Result<u64, StatementError> {
        let values: Vec<Option<TextValue>> =
            values.iter().map(|v| v.as_deref().map(TextValue)).collect();
        let params: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
        self.within_deadline(self.client.execute(&statement.0, &params)).await
    }

    /// Parses, plans and executes anew: Parse of the unnamed statement, Bind, Describe, Execute and
    /// Sync in one round trip. `types` is `sql` prepared, for the types of the parameters alone.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn execute_unprepared(
        &self,
        sql: &str,
        types: &BenchStatement,
        values: &[Option<String>],
    ) -> Result<u64, StatementError> {
        let values: Vec<Option<TextValue>> =
            values.iter().map(|v| v.as_deref().map(TextValue)).collect();
        let params = typed(types, &values);
        self.within_deadline(self.client.execute_typed(sql, &params)).await
    }

    /// Whether the server takes `value` for the statement's `index`th parameter, from 0.
    ///
    /// # Errors
    /// [`StatementError`] says why not.
    pub async fn accepts(
        &self,
        statement: &BenchStatement,
        index: usize,
        value: Option<&str>,
    ) -> Result<(), StatementError> {
        let Some(kind) = statement.0.params().get(index) else { return Ok(()) };
        let value = value.map(TextValue);
        let sql = format!("SELECT $1 {OWN_MARK}");
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&value, kind.clone())];
        self.within_deadline(self.client.execute_typed(&sql, &params)).await.map(drop)
    }

    /// The one `json` document that a statement such as EXPLAIN answers with.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn json(
        &self,
        sql: &str,
        types: &BenchStatement,
        values: &[Option<String>],
    ) -> Result<String, StatementError> {
        let values: Vec<Option<TextValue>> =
            values.iter().map(|v| v.as_deref().map(TextValue)).collect();
        let params = typed(types, &values);
        let rows = self.within_deadline(self.client.query_typed(sql, &params)).await?;
        let first = rows.first().ok_or_else(|| StatementError::Value("no row".to_owned()))?;
        let Json(text) = first.try_get(0).map_err(|e| StatementError::Value(chain(&e)))?;
        Ok(text)
    }

    /// All rows of statements as text, by the simple protocol.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn text(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, StatementError> {
        let messages = self.within_deadline(self.client.simple_query(sql)).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The rows of a query of ours.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn rows<'q>(&self, query: impl Into<Query<'q>>) -> Result<Vec<Row>, StatementError> {
        let query = query.into();
        let sql = format!("{} {OWN_MARK}", query.sql());
        let rows = self.within_deadline(self.client.query_typed(&sql, query.params())).await?;
        let (budget, mut made) =
            (Budget::new(u64::MAX), RowsOf::new(self.connection.veil(), usize::MAX));
        for row in &rows {
            let pushed = made.push(row, &budget);
            pushed.map_err(|e| statement_error(e, &self.connection))?;
        }
        Ok(made.finish().0)
    }

    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StatementError> {
        let result = match timeout(self.deadline, work).await {
            Ok(result) => result.map_err(|e| statement_error(e, &self.connection)),
            Err(_) => Err(StatementError::Deadline(self.deadline)),
        };
        if result.as_ref().is_err_and(StatementError::is_fatal) {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}

fn typed<'v>(
    types: &BenchStatement,
    values: &'v [Option<TextValue<'v>>],
) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
    let kinds = types.0.params().iter().cloned();
    values.iter().map(|v| v as &(dyn ToSql + Sync)).zip(kinds).collect()
}

fn statement_error(e: tokio_postgres::Error, connection: &Connection) -> StatementError {
    use tokio_postgres::error::ErrorPosition;
    let veil: &Veil = connection.veil();
    if let Some(what) = connection.refused() {
        return StatementError::Lost(what);
    }
    let Some(db) = e.as_db_error() else {
        return match e.is_closed() || e.source().is_some_and(|s| s.is::<std::io::Error>()) {
            true => StatementError::Lost(veil.text(&chain(&e))),
            false => StatementError::Value(veil.text(&chain(&e))),
        };
    };
    let sqlstate = veil.text(db.code().code());
    if sqlstate.starts_with("57P") || sqlstate.starts_with("08") {
        let message = veil.text(db.message());
        return StatementError::Lost(format!("{message} (SQLSTATE {sqlstate})"));
    }
    StatementError::Refused {
        sqlstate,
        message: veil.text(db.message()),
        detail: db.detail().map(|text| veil.text(text)),
        hint: db.hint().map(|text| veil.text(text)),
        position: match db.position() {
            Some(ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        },
    }
}
