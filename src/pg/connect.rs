//! From an address to a connection that is logged in: each step has a deadline of its own, and each
//! failure says which step it was and what it cost the server.
//!
//! Must not: send a query, or try another host after a refused login.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;

use super::framing::{Limits, Refusal};
use super::guard::{GivenUp, Guard, Guarded};
use super::password::{password, refused as password_refused};
use super::quota::Quota;
use super::redact::Veil;
use super::row::too_large;
use super::socket::{Forbidden, NoAddress, Socket, full};
use super::tls::{HandshakeError, Plain, Tls};
use super::words::{chain, explained};
use crate::certificate::CertificateEnds;
use crate::config::{Connect, Endpoint, SslMode, TargetKind, Timeouts};
use crate::error::{CONNECTING, CollectError, ConnectError, NAMING, NO_TLS, Source, is_not_ready};

/// How PgBouncer's console ends its `server_version`: `1.26.1/bouncer`. Through PgBouncer to a
/// database the server's own version is told.
const BOUNCER: &str = "/bouncer";
/// How long a connection may take to say goodbye before it is cut.
const FAREWELL: Duration = Duration::from_secs(1);

/// The task that moves the bytes. Dropping `closing` makes it say goodbye and end.
pub(super) struct Connection {
    closing: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Set when the connection is over, with what the server said at the end without being asked.
    pub(super) over: watch::Receiver<Option<Farewell>>,
    /// What the other side calls itself in `server_version`.
    pub(super) kind: TargetKind,
    /// When the certificates of the handshake end.
    pub(super) certificates: CertificateEnds,
    refused: GivenUp,
    veil: Veil,
}

/// What a server said before it closed a connection: SQLSTATE and message. None if it said nothing.
pub(super) type Farewell = Option<(String, String)>;

impl Connection {
    /// Says goodbye and waits, for at most a second, until the server has closed its side too.
    /// The client must have been dropped.
    pub(super) async fn close(self) {
        let Self { closing, task, .. } = self;
        drop(closing);
        let _ = task.await;
    }

    /// Keeps the password out of what the server says.
    pub(super) fn veil(&self) -> &Veil {
        &self.veil
    }

    /// What we refused to take, if that ended the connection.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.get().map(|refusal| format!("the server sent {refusal}"))
    }

    /// Why a call failed. What the server says comes without the password, in one line of bounded length.
    pub(super) fn collect_error(&self, e: tokio_postgres::Error) -> CollectError {
        let Some(db) = e.as_db_error() else {
            return match (self.refused.get(), self.refused()) {
                (Some(refusal), Some(what)) if refusal.is_limit() => too_large(what, true),
                (Some(Refusal::Type { .. }), Some(what)) => CollectError::Foreign(what),
                (_, Some(what)) => CollectError::Lost(what.into()),
                _ => CollectError::Lost(self.veil.text(&chain(&e)).into()),
            };
        };
        let sqlstate = self.veil.text(db.code().code());
        let message = self.veil.text(db.message());
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
}

/// Opens a connection to the first endpoint that lets us in.
///
/// # Errors
/// A refused login is final at once, as in libpq, unless that server is starting up or shutting down.
/// Otherwise the error of the endpoint at which it cost most to fail, the last of these.
pub(super) async fn open<'c>(
    connect: &'c Connect,
    datname: Option<&str>,
    timeouts: &Timeouts,
    limits: Limits,
    quota: Option<&Quota>,
) -> Result<(tokio_postgres::Client, Connection, &'c Endpoint), ConnectError> {
    let mut worst: Option<ConnectError> = None;
    for endpoint in &connect.endpoints {
        match open_at(connect, endpoint, datname, timeouts, limits, quota).await {
            Ok((client, connection)) => return Ok((client, connection, endpoint)),
            Err(ConnectError::Refused { endpoint, sqlstate, message })
                if !is_not_ready(&sqlstate) =>
            {
                return Err(ConnectError::Refused { endpoint, sqlstate, message });
            }
            Err(e) if worst.as_ref().is_none_or(|worst| worst.cost() <= e.cost()) => {
                worst = Some(e)
            }
            Err(_) => {}
        }
    }
    Err(worst.unwrap_or_else(|| ConnectError::Unreachable {
        endpoint: "the server".to_owned(),
        source: "no host is configured".into(),
    }))
}

async fn open_at(
    connect: &Connect,
    endpoint: &Endpoint,
    datname: Option<&str>,
    timeouts: &Timeouts,
    limits: Limits,
    quota: Option<&Quota>,
) -> Result<(tokio_postgres::Client, Connection), ConnectError> {
    let late =
        |stage, limit| ConnectError::Timeout { endpoint: endpoint.to_string(), stage, limit };
    let unreachable =
        |e: Source| ConnectError::Unreachable { endpoint: endpoint.to_string(), source: e };
    // First, so that the files below are not read again and again while there is no server.
    let opened = Socket::open(endpoint, timeouts.connect, quota, connect.only.as_deref()).await;
    let no_address =
        |e: &std::io::Error| e.get_ref().and_then(|e| e.downcast_ref()).map(NoAddress::is_late);
    let socket = match opened {
        Ok(socket) => socket,
        Err(e) if no_address(&e) == Some(true) => {
            return Err(late(NAMING, timeouts.connect));
        }
        Err(e) if no_address(&e) == Some(false) => {
            return Err(ConnectError::Unknown { endpoint: endpoint.to_string(), source: e.into() });
        }
        Err(e) if e.kind() == ErrorKind::TimedOut => {
            return Err(late(CONNECTING, timeouts.connect));
        }
        Err(e) if e.get_ref().is_some_and(|inner| inner.is::<Forbidden>()) => {
            return Err(ConnectError::Forbidden { endpoint: endpoint.to_string() });
        }
        Err(e) => {
            return Err(match full(&e) {
                None => unreachable(e.into()),
                Some(full) => {
                    ConnectError::Held { endpoint: endpoint.to_string(), source: full.into() }
                }
            });
        }
    };
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
    let password = password(connect, endpoint, datname).await?;
    let veil = Veil::new(password.as_deref(), &[&connect.user, &connect.dbname, datname]);
    if let Some(password) = password {
        driver.password(password);
    }
    let first = socket.first();
    let guard = Guard::new(limits, driver.get_ssl_mode() != DriverSslMode::Disable);
    let refused = guard.refused();
    let socket = Guarded::new(socket, Some(guard));
    let mut secure = Tls::new(connect, timeouts.handshake)?;
    let tls = MakeTlsConnect::<Plain>::make_tls_connect(&mut secure, host).map_err(unreachable)?;
    // The handshake has a deadline of its own; this one ends an authentication that never answers.
    let limit = timeouts.handshake * 2;
    let (client, connection) = match timeout(limit, driver.connect_raw(socket, tls)).await {
        Ok(Ok(pair)) => pair,
        Ok(Err(e)) => {
            let no_tls = driver.get_ssl_mode() == DriverSslMode::Require
                && first.load(Ordering::Relaxed) == b'N';
            let error = connect_error(e, endpoint, timeouts, no_tls, (&veil, &refused));
            if matches!(&error, ConnectError::Refused { sqlstate, .. } if sqlstate.starts_with("28"))
            {
                password_refused(connect).await;
            }
            return Err(error);
        }
        Err(_) => return Err(late("start-up", limit)),
    };
    let version = connection.parameter("server_version").unwrap_or_default();
    let kind = if version.ends_with(BOUNCER) { TargetKind::Pooler } else { TargetKind::Server };
    let (closing, closed) = oneshot::channel::<()>();
    let (ended, over) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut connection = pin!(connection);
        let last = tokio::select! {
            // The error, if any, reaches whoever waits for an answer.
            last = &mut connection => last.err(),
            _ = closed => { let _ = timeout(FAREWELL, connection).await; None }
        };
        let said = last.as_ref().and_then(tokio_postgres::Error::as_db_error);
        ended.send_replace(Some(
            said.map(|db| (db.code().code().to_owned(), db.message().to_owned())),
        ));
    });
    let certificates = secure.certificates();
    Ok((client, Connection { closing, task, over, kind, certificates, refused, veil }))
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
    no_tls: bool,
    (veil, refused): (&Veil, &GivenUp),
) -> ConnectError {
    use std::error::Error as _;
    let endpoint = endpoint.to_string();
    if let Some(refusal) = refused.get() {
        let what = refusal.to_string();
        return match refusal.is_limit() {
            true => ConnectError::Limit { endpoint, what },
            false => ConnectError::Protocol { endpoint, source: format!("it sent {what}").into() },
        };
    }
    if let Some(db) = e.as_db_error() {
        let sqlstate = veil.text(db.code().code());
        let message = veil.text(&explained(db.message()));
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
                ConnectError::Tls { endpoint, source: veil.text(&inner.to_string()).into() }
            }
        };
    }
    if no_tls {
        let source = NO_TLS.into();
        return ConnectError::Tls { endpoint, source };
    }
    match source.and_then(|s| s.downcast_ref::<std::io::Error>()) {
        Some(io) if io.kind() != ErrorKind::InvalidInput => {
            ConnectError::Cut { endpoint, source: veil.text(&io.to_string()).into() }
        }
        _ if e.is_closed() => ConnectError::Cut { endpoint, source: chain(&e).into() },
        // An authentication method that we do not know, or another protocol altogether.
        _ => ConnectError::Protocol { endpoint, source: veil.text(&chain(&e)).into() },
    }
}
