//! One connection to one database, on which everything happens in short read-only transactions with
//! timeouts on the server and a deadline of our own.
//!
//! Must not: write, prepare a named statement (a pooler may stand in between), or keep a
//! transaction open across collections.

mod checked;
mod console;

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};

use self::checked::Ledger;
pub use self::checked::Remarks;
pub use self::console::Table;
pub(super) use self::console::explained;
use super::connect::{Connection, host_of, open};
use super::quota::Quota;
use super::row::Row;
use super::server::{FACTS, Identity, Server};
use super::socket::Socket;
use super::tls::Tls;
use crate::clock::Clock;
use crate::config::{Connect, Endpoint, Settings, TargetKind};
use crate::error::{CollectError, ConnectError, Source};

/// How long beyond `statement_timeout` we wait before we call the peer silent.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long after a connection is lost its task has to tell why.
const LAST_WORD: Duration = Duration::from_millis(100);
/// One parameter value and its type, so that the server need not be asked for it.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query with its parameters.
pub struct Query<'a> {
    sql: Cow<'a, str>,
    params: Vec<Param<'a>>,
}

impl<'a> Query<'a> {
    /// A query without parameters.
    pub fn new(sql: impl Into<Cow<'a, str>>) -> Self {
        Self { sql: sql.into(), params: Vec::new() }
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    pub(super) fn params(&self) -> &[Param<'a>] {
        &self.params
    }

    /// Adds an `int8[]` parameter.
    pub fn int8_array(mut self, value: &'a Vec<i64>) -> Self {
        self.params.push((value, Type::INT8_ARRAY));
        self
    }

    /// Adds an `int8` parameter.
    pub fn int8(mut self, value: &'a i64) -> Self {
        self.params.push((value, Type::INT8));
        self
    }

    /// Adds a `text[]` parameter.
    pub fn text_array(mut self, value: &'a Vec<String>) -> Self {
        self.params.push((value, Type::TEXT_ARRAY));
        self
    }

    /// Adds a `text` parameter.
    pub fn text(mut self, value: &'a String) -> Self {
        self.params.push((value, Type::TEXT));
        self
    }
}

impl<'a> From<&'a str> for Query<'a> {
    fn from(sql: &'a str) -> Self {
        Self::new(sql)
    }
}

/// A live session.
pub struct Session {
    client: tokio_postgres::Client,
    connection: Connection,
    server: Server,
    settings: Arc<Settings>,
    clock: Clock,
    begin: String,
    /// Who answered when the facts were read.
    identity: Identity,
    deadline: Duration,
    broken: AtomicBool,
    remarks: Ledger,
    /// Where a request to cancel goes.
    endpoint: Endpoint,
    tls: Tls,
    since: Instant,
}

impl Session {
    /// Connects to `datname` (or the configured database) and reads the server's facts.
    ///
    /// # Errors
    /// Each endpoint is tried in turn; the error is that of the last one, except that a refused
    /// login is final at once, as in libpq. The facts cannot be read.
    pub async fn connect(
        connect: &Connect,
        datname: Option<&str>,
        settings: Arc<Settings>,
        clock: Clock,
    ) -> Result<Self, ConnectError> {
        Self::connect_within(connect, datname, settings, clock, None).await
    }

    /// As [`Session::connect`], and only if the quota has a place for the connection, which then counts
    /// until the server has closed its end.
    ///
    /// # Errors
    /// As [`Session::connect`]; [`ConnectError::Held`].
    pub async fn connect_within(
        connect: &Connect,
        datname: Option<&str>,
        settings: Arc<Settings>,
        clock: Clock,
        quota: Option<&Quota>,
    ) -> Result<Self, ConnectError> {
        let (client, connection, endpoint) =
            open(connect, datname, &settings.timeouts, quota).await?;
        let tls = Tls::new(connect, settings.timeouts.handshake)?;
        Self::set_up(client, connection, endpoint, tls, settings, clock).await
    }

    async fn set_up(
        client: tokio_postgres::Client,
        connection: Connection,
        endpoint: &Endpoint,
        tls: Tls,
        settings: Arc<Settings>,
        clock: Clock,
    ) -> Result<Self, ConnectError> {
        let begin = begin(&settings, false);
        let deadline = settings.timeouts.statement + GRACE;
        let mut session = Self {
            client,
            connection,
            server: Server::default(),
            settings,
            clock,
            begin,
            identity: Identity::default(),
            deadline,
            broken: AtomicBool::new(false),
            remarks: Ledger::default(),
            endpoint: endpoint.clone(),
            tls,
            since: Instant::now(),
        };
        let facts = |source: CollectError| ConnectError::Facts {
            endpoint: endpoint.to_string(),
            source: source.into(),
        };
        session.learn().await.map_err(facts)?;
        Ok(session)
    }

    /// Reads the server's facts.
    async fn learn(&mut self) -> Result<(), CollectError> {
        if self.kind() == TargetKind::Pooler {
            self.server = self.console_facts().await?;
            return Ok(());
        }
        let (mut rows, mut identity) = self.read_anew(FACTS).await?;
        if Server::role_is_imposed(&rows)? {
            self.begin = begin(&self.settings, true);
            (rows, identity) = self.read_anew(FACTS).await?;
        }
        self.server = Server::from_rows(&rows)?;
        self.identity = identity;
        Ok(())
    }

    /// The rows of one query, whoever answers, and who did.
    async fn read_anew(&self, sql: &str) -> Result<(Vec<Row>, Identity), CollectError> {
        let query = Query::new(sql);
        self.within_deadline(async {
            let (begun, rows, ended) =
                tokio::join!(self.begun(), self.rows(&query), self.client.batch_execute(COMMIT),);
            let identity = begun?;
            ended.map_err(collect_error)?;
            Ok((rows?, identity))
        })
        .await
    }

    /// Begins a transaction. Behind a pooler, and after a failover, whoever answers may be another
    /// server than last time, of which nothing that is known holds.
    async fn begun(&self) -> Result<Identity, CollectError> {
        let messages = self.client.simple_query(&self.begin).await.map_err(collect_error)?;
        Ok(Identity::from_messages(&messages))
    }

    /// As [`Session::begun`]; an error if it is not the one whose facts are known.
    async fn begun_as_before(&self) -> Result<(), CollectError> {
        match self.begun().await? == self.identity {
            true => Ok(()),
            false => Err(CollectError::Changed),
        }
    }

    /// What is at the other end: a server, or PgBouncer's console.
    pub fn kind(&self) -> TargetKind {
        self.connection.kind
    }

    /// Asks for a sign of life. A failure shows in [`Session::is_broken`].
    ///
    /// # Errors
    /// As [`Session::read`].
    pub async fn ping(&self) -> Result<(), CollectError> {
        match self.kind() {
            TargetKind::Server => self.read("SELECT 1 AS alive").await.map(drop),
            TargetKind::Pooler => self.console_facts().await.map(drop),
        }
    }

    /// Reads the server's facts again, because an extension may have come or gone. A failure leaves
    /// the old ones: the next query on the session meets it too.
    pub async fn refresh(&mut self) {
        let _ = self.learn().await;
    }

    /// What is known of the server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the user configured for the collectors.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same, for another session.
    pub(super) fn shared_settings(&self) -> Arc<Settings> {
        self.settings.clone()
    }

    /// The clock that the target's sessions share.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Monotonic seconds, comparable across the sessions of one target.
    pub fn seconds(&self) -> f64 {
        self.clock.seconds()
    }

    /// Ends the session and waits, for at most a second, until its connection is closed, so that
    /// the next one does not come on top of it.
    pub async fn close(self) {
        let Self { client, connection, .. } = self;
        drop(client);
        connection.close().await;
    }

    /// How long the session has lasted.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether the session is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.client.is_closed()
    }

    /// Resolves once the connection is over.
    pub async fn over(&self) {
        let _ = self.connection.over.clone().wait_for(Option::is_some).await;
    }

    /// Whether the server said that it ended the session because it was idle for too long.
    pub fn is_idled_out(&self) -> bool {
        matches!(&*self.connection.over.borrow(), Some(Some((sqlstate, _))) if sqlstate == "57P05")
    }

    /// The rows of one query in a transaction of its own.
    ///
    /// # Errors
    /// [`CollectError`]; after a fatal one [`Session::is_broken`] holds.
    pub async fn read<'q>(&self, query: impl Into<Query<'q>>) -> Result<Vec<Row>, CollectError> {
        let query = query.into();
        self.takes_sql()?;
        self.within_deadline(async {
            // All three are sent before the first answer is awaited: one round trip.
            let (begun, rows, ended) = tokio::join!(
                self.begun_as_before(),
                self.rows(&query),
                self.client.batch_execute(COMMIT),
            );
            begun?;
            ended.map_err(collect_error).and(rows)
        })
        .await
    }

    /// Several queries, pipelined in one transaction.
    ///
    /// # Errors
    /// That of the first query that failed.
    pub async fn read_all(&self, queries: &[Query<'_>]) -> Result<Vec<Vec<Row>>, CollectError> {
        self.takes_sql()?;
        self.within_deadline(async {
            let (begun, rows, ended) = tokio::join!(
                self.begun_as_before(),
                futures_util::future::join_all(queries.iter().map(|q| self.rows(q))),
                self.client.batch_execute(COMMIT),
            );
            begun?;
            ended.map_err(collect_error)?;
            rows.into_iter().collect()
        })
        .await
    }

    async fn timed(&self, query: &Query<'_>) -> Result<Timed, CollectError> {
        let start = Instant::now();
        let rows = self.rows(query).await?;
        Ok(Timed { rows, at: self.clock.seconds(), took: start.elapsed() })
    }

    async fn rows(&self, query: &Query<'_>) -> Result<Vec<Row>, CollectError> {
        let sql = format!("{} {OWN_MARK}", query.sql);
        let rows = self.client.query_typed(&sql, &query.params).await.map_err(collect_error)?;
        Ok(rows.into_iter().map(Row::new).collect())
    }

    /// Gives the work its deadline. Past it the server is asked to cancel; only if even that brings
    /// no answer is the session given up, since a backend that was left behind still counts.
    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, CollectError>>,
    ) -> Result<T, CollectError> {
        let mut work = pin!(work);
        let result = match timeout(self.deadline, &mut work).await {
            Ok(result) => result,
            Err(_) if self.kind() == TargetKind::Pooler => {
                Err(CollectError::Deadline(self.deadline))
            }
            Err(_) => {
                let cancelled = async {
                    self.cancel().await;
                    work.await
                };
                match timeout(GRACE, cancelled).await {
                    Ok(result) => result,
                    Err(_) => Err(CollectError::Deadline(self.deadline)),
                }
            }
        };
        let Err(e) = result else { return result };
        if e.is_fatal() {
            self.broken.store(true, Ordering::Relaxed);
        }
        Err(self.explained(e).await)
    }

    /// A connection that is lost was perhaps ended by the server with a word.
    async fn explained(&self, e: CollectError) -> CollectError {
        let mut over = self.connection.over.clone();
        if matches!(e, CollectError::Lost(_))
            && let Ok(Ok(said)) = timeout(LAST_WORD, over.wait_for(Option::is_some)).await
            && let Some(Some((sqlstate, message))) = &*said
        {
            return CollectError::Ended { sqlstate: sqlstate.clone(), message: message.clone() };
        }
        e
    }

    /// Asks the server to cancel what this session runs. That it could be asked is all there is to
    /// know; whether it helped shows in the work.
    async fn cancel(&self) {
        let Ok(socket) = Socket::open(&self.endpoint, GRACE, None).await else { return };
        let mut tls = self.tls.clone();
        let host = host_of(&self.endpoint);
        if let Ok(tls) = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, host) {
            let _ = self.client.cancel_token().cancel_query_raw(socket, tls).await;
        }
    }
}

/// Rows and when they came.
pub struct Timed {
    /// The answer.
    pub rows: Vec<Row>,
    /// [`Session::seconds`] when the last row had come.
    pub at: f64,
    /// From sending the query to the last row.
    pub took: Duration,
}

/// Every statement of ours carries this, so that they can be told from the users' in
/// `pg_stat_statements`.
pub const OWN_MARK: &str = "/* pgrunway */";
/// Ends a transaction; of a failed one this is a ROLLBACK.
const COMMIT: &str = "COMMIT /* pgrunway */";

/// Opens every transaction, in two statements that `pg_stat_statements` counts. `pg_temp` last, or a
/// temporary table could shadow a catalog. With `row_security` off a table with a policy is an error
/// and not a call of what its owner wrote. With `as_logged_in` a role that the database imposes is put
/// off first. What is selected at the end is the [`Identity`] of whoever answers.
fn begin(settings: &Settings, as_logged_in: bool) -> String {
    let statement = settings.timeouts.statement.as_millis();
    let lock = settings.timeouts.lock.as_millis();
    format!(
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY {OWN_MARK}; \
         SELECT {role}{set}('search_path', 'pg_catalog, pg_temp', true), \
         {set}('statement_timeout', '{statement}', true), {set}('lock_timeout', '{lock}', true), \
         {set}('idle_in_transaction_session_timeout', '{statement}', true), \
         {set}('row_security', 'off', true), {set}('standard_conforming_strings', 'on', true), \
         {set}('transform_null_equals', 'off', true), \
         {set}('jit', 'off', true), {set}('timezone', 'UTC', true), \
         {set}('datestyle', 'ISO, YMD', true), {set}('intervalstyle', 'postgres', true), \
         {set}('extra_float_digits', '1', true), {columns} {OWN_MARK}",
        set = "pg_catalog.set_config",
        role = match as_logged_in {
            true => "pg_catalog.set_config('role', 'none', true), ",
            false => "",
        },
        columns = Identity::COLUMNS,
    )
}

/// An error with its causes, in one line.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

pub(super) fn collect_error(e: tokio_postgres::Error) -> CollectError {
    let Some(db) = e.as_db_error() else {
        return CollectError::Lost(Source::from(chain(&e)));
    };
    let sqlstate = db.code().code().to_owned();
    let message = db.message().to_owned();
    let code = db.code();
    if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE {
        CollectError::ServerTimeout { sqlstate, message }
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        CollectError::Permission(message)
    } else if sqlstate.starts_with("57P") || sqlstate.starts_with("08") {
        // Terminated by an administrator, crash or idle timeout: the server closes the connection.
        CollectError::Ended { sqlstate, message }
    } else {
        CollectError::Query { sqlstate, message }
    }
}
