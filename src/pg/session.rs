//! One connection to one database, on which everything happens in short read-only transactions with
//! timeouts on the server and a deadline of our own.
//!
//! Must not: write, prepare a named statement (a pooler may stand in between), or keep a
//! transaction open across collections.

mod console;

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};

pub use self::console::Table;
use super::password::password;
use super::row::Row;
use super::server::{FACTS, Server};
use super::socket::Socket;
use super::tls::{HandshakeError, Tls};
use crate::config::{Connect, Endpoint, Settings, SslMode, TargetKind, Timeouts};
use crate::error::{CollectError, ConnectError, Source};

/// How long beyond `statement_timeout` we wait before we call the peer silent.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How PgBouncer's console ends its `server_version`: `1.26.1/bouncer`. Through PgBouncer to a
/// database the server's own version is told.
const BOUNCER: &str = "/bouncer";
/// How long a connection may take to say goodbye before it is cut.
const FAREWELL: Duration = Duration::from_secs(1);
/// Seconds since a target was set up: monotonic, and shared by all its sessions, so that rows of
/// two connections can be compared.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    epoch: f64,
}

impl Clock {
    /// Starts at 0 now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), epoch: unix.as_secs_f64() }
    }

    /// Unix seconds at [`Clock::start`].
    pub fn epoch(&self) -> f64 {
        self.epoch
    }

    /// Seconds since [`Clock::start`].
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// One parameter value and its type, so that the server need not be asked for it.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query with its parameters.
pub struct Query<'a> {
    sql: &'a str,
    params: Vec<Param<'a>>,
}

impl<'a> Query<'a> {
    /// A query without parameters.
    pub fn new(sql: &'a str) -> Self {
        Self { sql, params: Vec::new() }
    }

    pub(super) fn sql(&self) -> &str {
        self.sql
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

/// The task that moves the bytes. Dropping `closing` makes it say goodbye and end.
pub(super) struct Connection {
    closing: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// What the other side calls itself in `server_version`.
    kind: TargetKind,
}

impl Connection {
    /// Says goodbye and waits, for at most a second, until the server has closed its side too.
    /// The client must have been dropped.
    pub(super) async fn close(self) {
        let Self { closing, task, .. } = self;
        drop(closing);
        let _ = task.await;
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
    deadline: Duration,
    broken: AtomicBool,
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
        let (client, connection, endpoint) = open(connect, datname, &settings.timeouts).await?;
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
        let begin = begin(&settings);
        let deadline = settings.timeouts.statement + GRACE;
        let mut session = Self {
            client,
            connection,
            server: Server::default(),
            settings,
            clock,
            begin,
            deadline,
            broken: AtomicBool::new(false),
            endpoint: endpoint.clone(),
            tls,
            since: Instant::now(),
        };
        let facts = |source: CollectError| ConnectError::Facts {
            endpoint: endpoint.to_string(),
            source: source.into(),
        };
        session.server = session.facts().await.map_err(facts)?;
        Ok(session)
    }

    async fn facts(&self) -> Result<Server, CollectError> {
        match self.kind() {
            TargetKind::Server => Server::from_rows(&self.read(FACTS).await?),
            TargetKind::Pooler => self.console_facts().await,
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
        if let Ok(server) = self.facts().await {
            self.server = server;
        }
    }

    /// What is known of the server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the user configured for the collectors.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
                self.client.batch_execute(&self.begin),
                self.rows(&query),
                self.client.batch_execute(COMMIT),
            );
            begun.and(ended).map_err(collect_error).and(rows)
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
                self.client.batch_execute(&self.begin),
                futures_util::future::join_all(queries.iter().map(|q| self.rows(q))),
                self.client.batch_execute(COMMIT),
            );
            begun.and(ended).map_err(collect_error)?;
            rows.into_iter().collect()
        })
        .await
    }

    /// The same query twice with a pause in between, each with the time at which it was answered,
    /// after `first`, which is read once. All in one transaction.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub async fn read_twice(
        &self,
        once: Query<'_>,
        twice: Query<'_>,
        pause: Duration,
    ) -> Result<(Vec<Row>, [Timed; 2]), CollectError> {
        self.takes_sql()?;
        self.within_deadline(async {
            let (begun, once, first) = tokio::join!(
                self.client.batch_execute(&self.begin),
                self.rows(&once),
                self.timed(&twice),
            );
            let result = async {
                begun.map_err(collect_error)?;
                let (once, first) = (once?, first?);
                tokio::time::sleep(pause.saturating_sub(first.took)).await;
                let second = self.timed(&twice).await?;
                Ok((once, [first, second]))
            }
            .await;
            let ended = self.client.batch_execute(COMMIT).await.map_err(collect_error);
            result.and_then(|rows| ended.map(|()| rows))
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
        if result.as_ref().is_err_and(CollectError::is_fatal) {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Asks the server to cancel what this session runs. That it could be asked is all there is to
    /// know; whether it helped shows in the work.
    async fn cancel(&self) {
        let Ok(socket) = Socket::open(&self.endpoint, GRACE).await else { return };
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
/// temporary table could shadow a catalog.
fn begin(settings: &Settings) -> String {
    let statement = settings.timeouts.statement.as_millis();
    let lock = settings.timeouts.lock.as_millis();
    format!(
        "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY {OWN_MARK}; \
         SELECT {set}('search_path', 'pg_catalog, pg_temp', true), \
         {set}('statement_timeout', '{statement}', true), {set}('lock_timeout', '{lock}', true), \
         {set}('idle_in_transaction_session_timeout', '{statement}', true), \
         {set}('jit', 'off', true), {set}('timezone', 'UTC', true), \
         {set}('datestyle', 'ISO, YMD', true), {set}('intervalstyle', 'postgres', true), \
         {set}('extra_float_digits', '1', true) {OWN_MARK}",
        set = "pg_catalog.set_config"
    )
}

/// Opens a connection to the first endpoint that lets us in.
///
/// # Errors
/// That of the last endpoint, except that a refused login is final at once, as in libpq.
pub(super) async fn open<'c>(
    connect: &'c Connect,
    datname: Option<&str>,
    timeouts: &Timeouts,
) -> Result<(tokio_postgres::Client, Connection, &'c Endpoint), ConnectError> {
    let tls = Tls::new(connect, timeouts.handshake)?;
    let mut last = None;
    for endpoint in &connect.endpoints {
        match open_at(connect, endpoint, datname, timeouts, tls.clone()).await {
            Ok((client, connection)) => return Ok((client, connection, endpoint)),
            Err(refused @ ConnectError::Refused { .. }) => return Err(refused),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::Unreachable {
        endpoint: "the server".to_owned(),
        source: "no host is configured".into(),
    }))
}

async fn open_at(
    connect: &Connect,
    endpoint: &Endpoint,
    datname: Option<&str>,
    timeouts: &Timeouts,
    mut tls: Tls,
) -> Result<(tokio_postgres::Client, Connection), ConnectError> {
    let mut driver = tokio_postgres::Config::new();
    let datname = datname.unwrap_or(&connect.dbname);
    driver
        .user(&connect.user)
        .dbname(datname)
        .application_name(&connect.application_name)
        .ssl_mode(match connect.sslmode {
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
        });
    if matches!(endpoint, Endpoint::Unix { .. }) {
        // libpq ignores sslmode on Unix sockets.
        driver.ssl_mode(DriverSslMode::Disable);
    }
    let host = host_of(endpoint);
    if let Some(password) = password(connect, endpoint, datname)? {
        driver.password(password);
    }
    let late =
        |stage, limit| ConnectError::Timeout { endpoint: endpoint.to_string(), stage, limit };
    let unreachable =
        |e: Source| ConnectError::Unreachable { endpoint: endpoint.to_string(), source: e };
    let socket = match Socket::open(endpoint, timeouts.connect).await {
        Ok(socket) => socket,
        Err(e) if e.kind() == ErrorKind::TimedOut => {
            return Err(late("connecting", timeouts.connect));
        }
        Err(e) => return Err(unreachable(e.into())),
    };
    let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, host).map_err(unreachable)?;
    // The handshake has a deadline of its own; this one ends an authentication that never answers.
    let limit = timeouts.handshake * 2;
    let (client, connection) = match timeout(limit, driver.connect_raw(socket, tls)).await {
        Ok(Ok(pair)) => pair,
        Ok(Err(e)) => return Err(connect_error(e, endpoint, timeouts)),
        Err(_) => return Err(late("start-up", limit)),
    };
    let version = connection.parameter("server_version").unwrap_or_default();
    let kind = if version.ends_with(BOUNCER) { TargetKind::Pooler } else { TargetKind::Server };
    let (closing, closed) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let mut connection = pin!(connection);
        tokio::select! {
            // The error, if any, reaches whoever waits for an answer.
            _ = &mut connection => {}
            _ = closed => { let _ = timeout(FAREWELL, connection).await; }
        }
    });
    Ok((client, Connection { closing, task, kind }))
}

/// The name that a certificate is verified against.
pub(super) fn host_of(endpoint: &Endpoint) -> &str {
    match endpoint {
        Endpoint::Tcp { host, .. } => host,
        Endpoint::Unix { .. } => "",
    }
}

fn connect_error(
    e: tokio_postgres::Error,
    endpoint: &Endpoint,
    timeouts: &Timeouts,
) -> ConnectError {
    use std::error::Error as _;
    let endpoint = endpoint.to_string();
    if let Some(db) = e.as_db_error() {
        let sqlstate = db.code().code().to_owned();
        let message = console::explained(db.message());
        return ConnectError::Refused { endpoint, sqlstate, message };
    }
    let source = e.source();
    if let Some(handshake) = source.and_then(|s| s.downcast_ref::<HandshakeError>()) {
        return match handshake {
            HandshakeError::Timeout => ConnectError::Timeout {
                endpoint,
                stage: "the TLS handshake",
                limit: timeouts.handshake,
            },
            HandshakeError::Failed(inner) => {
                ConnectError::Tls { endpoint, source: inner.to_string().into() }
            }
        };
    }
    if let Some(io) = source.and_then(|s| s.downcast_ref::<std::io::Error>()) {
        return ConnectError::Unreachable { endpoint, source: io.to_string().into() };
    }
    // The driver does not publish the kind of its errors; what is left is about TLS being refused,
    // or a server that does not speak the protocol or an authentication method we know.
    let source = chain(&e);
    if source.contains("TLS") {
        return ConnectError::Tls { endpoint, source: source.into() };
    }
    ConnectError::Unreachable { endpoint, source: source.into() }
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
        CollectError::Lost(Source::from(format!("{message} (SQLSTATE {sqlstate})")))
    } else {
        CollectError::Query { sqlstate, message }
    }
}
