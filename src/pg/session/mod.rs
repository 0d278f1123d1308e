//! One connection to one database, on which everything happens in short read-only transactions with
//! timeouts on the server and a deadline of our own.
//!
//! Must not: write, prepare a named statement (a pooler may stand in between), or keep a
//! transaction open across collections.

mod checked;
mod console;
mod lacking;
mod query;
mod written;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::time::{Instant, timeout};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{Oid, Type};

use self::checked::Ledger;
pub use self::checked::Remarks;
pub use self::console::ConsoleTable;
pub use self::query::Query;
pub use self::written::WrittenManner;
use super::connect::{Connection, host_of, open};
use super::degrade::MissingParts;
use super::framing::Limits;
use super::guard::Guarded;
use super::quota::Quota;
use super::row::{Budget, Row, RowsOf, TooLong};
use super::server::{FACTS, Identity, Server};
use super::socket::Socket;
use super::tls::{Plain, Tls};
use crate::certificate::CertificateEnds;
use crate::clock::Clock;
use crate::config::{Allow, Compatibility, Connect, Endpoint, Settings, TargetKind};
use crate::error::{CollectError, ConnectError};

/// How long beyond `statement_timeout` we wait before we call the peer silent.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long after a connection is lost its task has to tell why.
const LAST_WORD: Duration = Duration::from_millis(100);
/// Least limit on one row: every text in it is cut where it is read, to 64 KiB at the most.
const LONGEST_ROW: usize = 1 << 18;
/// A row may have this part of an answer.
const ROWS_AT_LEAST: usize = 24;
/// An answer beyond its limit is cancelled and thrown away; one of so many times that is cut off.
const HEADROOM: u64 = 4;
/// Most bytes of a server's version that are shown.
const LONGEST_VERSION: usize = 128;
/// How a server says that it cannot put a text into our encoding (UTF-8): a name was created in another.
const UNREADABLE: [&str; 2] = ["22P05", "22021"];
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
    /// Whether the server sends texts as it stores them, since it cannot put one of them into UTF-8.
    as_stored: AtomicBool,
    /// What the server does not have, of a session that goes on without it.
    missing: Option<Arc<MissingParts>>,
    /// Whether something was found to be missing since it was last asked.
    learnt: AtomicBool,
    /// What the server refused without saying why, since it was last looked into.
    refused: Mutex<Vec<lacking::RefusedStatement>>,
    /// Texts that were left out since somebody asked.
    too_long: Mutex<TooLong>,
    /// Where a request to cancel goes.
    endpoint: Endpoint,
    only: Option<Arc<Allow>>,
    tls: Tls,
    since: Instant,
    /// Whether the database is the one that the connection string names.
    home: bool,
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
            open(connect, datname, &settings.timeouts, limits(&settings), quota).await?;
        let tls = Tls::new(connect, settings.timeouts.handshake)?;
        let at = (endpoint, connect.only.clone());
        let missing = quota.map(Quota::missing);
        let mut session =
            Self::set_up(client, connection, at, tls, settings, clock, missing).await?;
        session.home = datname.is_none_or(|datname| datname == connect.dbname);
        Ok(session)
    }

    async fn set_up(
        client: tokio_postgres::Client,
        connection: Connection,
        (endpoint, only): (&Endpoint, Option<Arc<Allow>>),
        tls: Tls,
        settings: Arc<Settings>,
        clock: Clock,
        missing: Option<Arc<MissingParts>>,
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
            as_stored: AtomicBool::new(false),
            missing,
            learnt: AtomicBool::new(false),
            refused: Mutex::default(),
            too_long: Mutex::default(),
            endpoint: endpoint.clone(),
            only,
            tls,
            since: Instant::now(),
            home: true,
        };
        let facts = |source: CollectError| ConnectError::Facts {
            endpoint: endpoint.to_string(),
            source: source.into(),
        };
        session.learn().await.map_err(facts)?;
        Ok(session)
    }

    /// When the certificates of its handshake end.
    pub fn certificates(&self) -> CertificateEnds {
        self.connection.certificates
    }

    /// Reads the server's facts.
    async fn learn(&mut self) -> Result<(), CollectError> {
        if self.kind() == TargetKind::Pooler {
            let server = self.console_facts().await?;
            self.server = self.shown(server);
            return Ok(());
        }
        let (mut rows, mut identity) = self.read_anew(FACTS).await?;
        if Server::role_is_imposed(&rows)? {
            self.begin = begin(&self.settings, true);
            (rows, identity) = self.read_anew(FACTS).await?;
        }
        self.server = self.shown(Server::from_rows(&rows)?);
        self.identity = identity;
        Ok(())
    }

    /// The version goes onto pages and into labels.
    fn shown(&self, mut server: Server) -> Server {
        let version = self.connection.veil().text(&server.version);
        server.version = crate::text::bounded(&version, LONGEST_VERSION).into_owned();
        server
    }

    /// The rows of one query, whoever answers, and who did.
    async fn read_anew(&self, sql: &str) -> Result<(Vec<Row>, Identity), CollectError> {
        let query = Query::new(sql);
        let mut tries = 0;
        loop {
            let result = self.read_anew_once(&query).await;
            Box::pin(self.find_refused()).await;
            if !self.is_worth_another(&result, &mut tries) {
                return result;
            }
        }
    }

    async fn read_anew_once(
        &self,
        query: &Query<'_>,
    ) -> Result<(Vec<Row>, Identity), CollectError> {
        self.within_deadline(async {
            let budget = self.budget();
            let (begun, rows, ended) =
                tokio::join!(self.begun(), self.rows(query, &budget), self.commit());
            let identity = begun?;
            ended?;
            Ok((rows?, identity))
        })
        .await
    }

    /// Begins a transaction. Behind a pooler, and after a failover, whoever answers may be another
    /// server than last time, of which nothing that is known holds.
    async fn begun(&self) -> Result<Identity, CollectError> {
        let as_stored = self.as_stored.load(Ordering::Relaxed);
        let begin = as_stored.then(|| self.begin.replacen("SELECT ", AS_STORED, 1));
        let begin = begin.as_deref().unwrap_or(&self.begin);
        let messages = self.client.simple_query(begin).await;
        let messages = messages.map_err(|e| self.connection.collect_error(e))?;
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

    /// Where it is, as postgres_exporter's label `server` has it, if its profile is asked for.
    pub fn server_label(&self) -> Option<Arc<str>> {
        let compatible = self.settings.compatibility == Compatibility::PostgresExporter;
        compatible.then(|| self.endpoint.to_string().into())
    }

    /// Whether its database is the one that the connection string names.
    pub fn is_home(&self) -> bool {
        self.home
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
        let mut tries = 0;
        loop {
            let result = self.read_once(&query).await;
            Box::pin(self.find_refused()).await;
            if !self.is_worth_another(&result, &mut tries) {
                return result;
            }
        }
    }

    async fn read_once(&self, query: &Query<'_>) -> Result<Vec<Row>, CollectError> {
        self.takes_sql()?;
        self.within_deadline(async {
            // All three are sent before the first answer is awaited: one round trip.
            let budget = self.budget();
            let (begun, rows, ended) =
                tokio::join!(self.begun_as_before(), self.rows(query, &budget), self.commit());
            begun?;
            ended.and(rows)
        })
        .await
    }

    /// Several queries, pipelined in one transaction.
    ///
    /// # Errors
    /// That of the first query that failed.
    pub async fn read_all(&self, queries: &[Query<'_>]) -> Result<Vec<Vec<Row>>, CollectError> {
        let mut tries = 0;
        loop {
            let result = self.read_all_once(queries).await;
            Box::pin(self.find_refused()).await;
            if !self.is_worth_another(&result, &mut tries) {
                return result;
            }
        }
    }

    async fn read_all_once(&self, queries: &[Query<'_>]) -> Result<Vec<Vec<Row>>, CollectError> {
        self.takes_sql()?;
        self.within_deadline(async {
            let budget = self.budget();
            let (begun, rows, ended) = tokio::join!(
                self.begun_as_before(),
                futures_util::future::join_all(queries.iter().map(|q| self.rows(q, &budget))),
                self.commit(),
            );
            begun?;
            ended?;
            rows.into_iter().collect()
        })
        .await
    }

    async fn timed(&self, query: &Query<'_>, budget: &Budget) -> Result<Timed, CollectError> {
        let start = Instant::now();
        let rows = self.rows(query, budget).await?;
        Ok(Timed { rows, at: self.clock.seconds(), took: start.elapsed() })
    }

    async fn commit(&self) -> Result<(), CollectError> {
        self.client.batch_execute(COMMIT).await.map_err(|e| self.connection.collect_error(e))
    }

    fn budget(&self) -> Budget {
        Budget::new(self.settings.answer_limit as u64)
    }

    /// Whether to read once more, with texts as they are stored: the server cannot put a name into UTF-8, which
    /// fails a whole query. What is not UTF-8 then shows as U+FFFD.
    fn is_unreadable<T>(&self, result: &Result<T, CollectError>) -> bool {
        matches!(result, Err(CollectError::Query { sqlstate, .. })
            if UNREADABLE.contains(&sqlstate.as_str()))
            && !self.as_stored.swap(true, Ordering::Relaxed)
    }

    async fn rows(&self, query: &Query<'_>, budget: &Budget) -> Result<Vec<Row>, CollectError> {
        let degraded = self.degraded(query);
        let sql = degraded.as_ref().map_or(&*query.sql, |degraded| &degraded.sql);
        let sql = format!("{sql} {OWN_MARK}");
        let unknown = degraded.as_ref().map(|degraded| &degraded.unknown);
        let params = query.params.iter().map(|(value, kind)| (*value, kind.clone()));
        let failed = |e| {
            self.learn_from(query, &e);
            self.connection.collect_error(e)
        };
        let mut stream = pin!(self.client.query_typed_raw(&sql, params).await.map_err(failed)?);
        let mut rows = RowsOf::new(self.connection.veil(), query.longest).without(unknown);
        while let Some(row) = stream.try_next().await.map_err(failed)? {
            if !rows.push(&row, budget).map_err(failed)? {
                // What is left is read without being kept, until the server has ended it.
                self.cancel().await;
                while let Ok(Some(_)) = stream.try_next().await {}
                return Err(budget.spent());
            }
        }
        let (rows, too_long) = rows.finish();
        self.lock_too_long().add(too_long);
        if let Some(degraded) = degraded {
            self.remarks.missing(degraded.missing);
        }
        Ok(rows)
    }

    fn lock_too_long(&self) -> MutexGuard<'_, TooLong> {
        self.too_long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The texts that were too long to be read since the last call.
    pub fn take_too_long(&self) -> TooLong {
        std::mem::take(&mut *self.lock_too_long())
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
            let veil = self.connection.veil();
            let (sqlstate, message) = (veil.text(sqlstate), veil.text(message));
            return CollectError::Ended { sqlstate, message };
        }
        e
    }

    /// Asks the server to cancel what this session runs. That it could be asked is all there is to
    /// know; whether it helped shows in the work.
    async fn cancel(&self) {
        let token = self.client.cancel_token();
        cancel(&token, &self.endpoint, self.only.as_deref(), self.tls.clone()).await;
    }
}

/// Sends a request to cancel. It is answered by the end of its connection, of which nothing is read.
pub(super) async fn cancel(
    token: &CancelToken,
    endpoint: &Endpoint,
    only: Option<&Allow>,
    mut tls: Tls,
) {
    let Ok(socket) = Socket::open(endpoint, GRACE, None, only).await else { return };
    if let Ok(tls) = MakeTlsConnect::<Plain>::make_tls_connect(&mut tls, host_of(endpoint)) {
        let _ = token.cancel_query_raw(Guarded::new(socket, None), tls).await;
    }
}

/// What a session that collects takes of its server.
fn limits(settings: &Settings) -> Limits {
    Limits {
        row: u32::try_from((settings.answer_limit / ROWS_AT_LEAST).max(LONGEST_ROW))
            .unwrap_or(u32::MAX),
        answer: (settings.answer_limit as u64).saturating_mul(HEADROOM),
        types: |oid| Type::from_oid(oid as Oid).is_some(),
    }
}

/// What is taken in answer to statements of the user's own: as much as PostgreSQL may send.
pub(super) const OWN_LIMITS: Limits = Limits { row: 1 << 30, answer: u64::MAX, types: |_| true };

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
/// How the transaction's first SELECT begins where the server is to send texts as they are stored.
const AS_STORED: &str = "SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true), ";

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
