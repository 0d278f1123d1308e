//! One error enum per stage, each with a `kind()` from a bounded set that is safe to use as a label.
//!
//! Must not: name a driver's type (sources are boxed), hold a secret, or know how an error is shown.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

/// A boxed cause, so that no driver type leaks out of the module that owns the driver.
pub type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What was wrong in a flag, the environment or a file. `place` names it, `remedy` says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}{}", remedy.as_deref().map(|r| format!("; {r}")).unwrap_or_default())]
pub struct ConfigError {
    /// Where the value came from: `--web.listen-address`, `DATA_SOURCE_NAME`, `pgrunway.yml:3:5`.
    pub place: String,
    /// What is wrong with it, without repeating a secret.
    pub problem: String,
    /// What the user should do, when we know.
    pub remedy: Option<String>,
}

impl ConfigError {
    /// A problem at a place, with what to do about it.
    pub fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: Some(remedy.into()) }
    }
}

/// Why no session could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A password file, certificate or key could not be read or parsed.
    #[error("{what}: {source}")]
    Credentials { what: String, source: Source },
    /// The host's name has no address.
    #[error("cannot reach {endpoint}: {source}")]
    Unknown { endpoint: String, source: Source },
    /// No TCP or Unix-socket connection: refused, unreachable.
    #[error("cannot reach {endpoint}: {source}")]
    Unreachable { endpoint: String, source: Source },
    /// A step took longer than its own deadline.
    #[error("{stage} with {endpoint} took longer than {limit:?}")]
    Timeout { endpoint: String, stage: &'static str, limit: Duration },
    /// The TLS handshake failed, or the server offers no TLS and `sslmode` demands it.
    #[error("TLS with {endpoint}: {source}")]
    Tls { endpoint: String, source: Source },
    /// The server refused the user, the password or the database.
    #[error("{endpoint} refused the login (SQLSTATE {sqlstate}): {message}")]
    Refused { endpoint: String, sqlstate: String, message: String },
    /// A name that a request gave leads where none may lead.
    #[error("{endpoint} is not allowed by probe.allow")]
    Forbidden { endpoint: String },
    /// The other end closed the connection before the login was done.
    #[error("{endpoint} closed the connection during start-up: {source}")]
    Cut { endpoint: String, source: Source },
    /// What answers speaks another protocol, or asks for what this client cannot do.
    #[error("{endpoint}: {source}")]
    Protocol { endpoint: String, source: Source },
    /// The server still holds connections that were given up, so that no more may be opened.
    #[error("no new connection to {endpoint} now: {source}")]
    Held { endpoint: String, source: Source },
    /// It sent more than we take before the session was ready.
    #[error("{endpoint} sent too much: {what}")]
    Limit { endpoint: String, what: String },
    /// The connection was made, but the facts every collector needs could not be read.
    #[error("cannot read the facts of {endpoint}: {source}")]
    Facts { endpoint: String, source: Source },
}

/// What an attempt that failed cost the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Nothing to speak of: a packet, or a process that ended at once.
    Nothing,
    /// A process, or a start-up that was cut short.
    Little,
    /// A login or a handshake, whose repetition also fills the server's log.
    Much,
}

impl ConnectError {
    /// What is the same in two failures of one cause, whatever their texts say.
    pub fn cause(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Refused { endpoint, sqlstate, .. } => format!("{kind} {endpoint} {sqlstate}"),
            Self::Timeout { endpoint, stage, .. } => format!("{kind} {endpoint} {stage}"),
            Self::Unknown { endpoint, .. }
            | Self::Unreachable { endpoint, .. }
            | Self::Tls { endpoint, .. }
            | Self::Cut { endpoint, .. }
            | Self::Protocol { endpoint, .. }
            | Self::Held { endpoint, .. }
            | Self::Forbidden { endpoint }
            | Self::Limit { endpoint, .. } => format!("{kind} {endpoint}"),
            Self::Facts { endpoint, source } => {
                let source = source.downcast_ref().map(CollectError::cause).unwrap_or_default();
                format!("{kind} {endpoint} {source}")
            }
            Self::Credentials { what, .. } => format!("{kind} {what}"),
        }
    }

    /// Bounded label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => "credentials",
            Self::Unknown { .. } | Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::Refused { .. } => "refused",
            Self::Cut { .. } => "cut",
            Self::Protocol { .. } => "protocol",
            Self::Held { .. } => "held",
            Self::Forbidden { .. } => "forbidden",
            Self::Limit { .. } => "limit",
            Self::Facts { .. } => "facts",
        }
    }

    /// What the attempt cost the server.
    pub fn cost(&self) -> Cost {
        match self {
            Self::Unknown { .. }
            | Self::Unreachable { .. }
            | Self::Held { .. }
            | Self::Forbidden { .. } => Cost::Nothing,
            Self::Timeout { stage, .. } if [CONNECTING, NAMING].contains(stage) => Cost::Nothing,
            Self::Refused { sqlstate, .. } if is_not_ready(sqlstate) => Cost::Nothing,
            Self::Cut { .. } => Cost::Little,
            // Out of slots, of locks or of memory; or a pooler whose server is away.
            Self::Refused { sqlstate, .. }
                if sqlstate.starts_with("53") || sqlstate.starts_with("08") =>
            {
                Cost::Little
            }
            Self::Facts { .. } if self.is_lost_session() => Cost::Little,
            _ => Cost::Much,
        }
    }

    /// What the server answered with, at the login or to the first query.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused { sqlstate, .. } => Some(sqlstate),
            Self::Facts { source, .. } => source.downcast_ref().and_then(CollectError::sqlstate),
            _ => None,
        }
    }

    /// Whether there was a session, and the other end closed it before the facts were read.
    pub fn is_lost_session(&self) -> bool {
        let Self::Facts { source, .. } = self else { return false };
        matches!(source.downcast_ref(), Some(CollectError::Lost(_) | CollectError::Ended { .. }))
    }
}

/// The stage of [`ConnectError::Timeout`] in which no connection was made.
pub const CONNECTING: &str = "connecting";
/// The stage of [`ConnectError::Timeout`] in which the host's name was looked up.
pub const NAMING: &str = "looking up the name";
/// The source of [`ConnectError::Tls`] where the server has no TLS at all.
pub const NO_TLS: &str = "the server offers none, and sslmode demands it";

/// Whether a server refuses everybody with this SQLSTATE because it starts up, shuts down or recovers.
pub fn is_not_ready(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P01" | "57P02" | "57P03")
}

/// Why one collection gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The connection broke, or the peer went silent past our own deadline: the session is lost.
    #[error("connection lost: {0}")]
    Lost(Source),
    /// The server said that it ends the session: an administrator, a shutdown, a crash of another
    /// backend, or `idle_session_timeout`.
    #[error("the server ended the session (SQLSTATE {sqlstate}): {message}")]
    Ended { sqlstate: String, message: String },
    /// Another server answers on the connection, or this one has been promoted, or the role's
    /// privileges have changed: what is known of it is old, and the answer was thrown away.
    #[error("the server behind the connection changes from one transaction to the next")]
    Changed,
    /// The whole collection overran its deadline, and a request to cancel it brought no answer: the
    /// session is lost, and its backend may be left behind.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// `statement_timeout` or `lock_timeout` ended it on the server; the session lives on.
    #[error("the server gave up (SQLSTATE {sqlstate}): {message}")]
    ServerTimeout { sqlstate: String, message: String },
    /// The role may not read what this collector needs.
    #[error("permission denied: {0}")]
    Permission(String),
    /// Something the collector needs is not there; `remedy` is what the operator can do.
    #[error("{what}; {remedy}")]
    Missing { what: String, remedy: String },
    /// The server refused the query for another reason.
    #[error("query failed (SQLSTATE {sqlstate}): {message}")]
    Query { sqlstate: String, message: String },
    /// The server sent more than we take; if `fatal`, so much that the session was given up.
    #[error("{what}; {remedy}")]
    Limit { what: String, remedy: String, fatal: bool },
    /// What a query of the user's own gives cannot go out beside what others give.
    #[error("{what}; {remedy}")]
    Collision { what: String, remedy: String },
    /// A column is of a type that is not PostgreSQL's own: the session is lost.
    #[error("{0}")]
    Foreign(String),
    /// A column was absent or not of the type expected.
    #[error("column {column}: {source}")]
    Decode { column: String, source: Source },
    /// A collector panicked; its state was thrown away and it starts afresh.
    #[error("defect in the collector, please report it: {0}")]
    Defect(String),
}

impl CollectError {
    /// What is the same in two failures of one cause, whatever their texts say.
    pub fn cause(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Ended { sqlstate, .. }
            | Self::ServerTimeout { sqlstate, .. }
            | Self::Query { sqlstate, .. } => format!("{kind} {sqlstate}"),
            Self::Missing { what, .. } => format!("{kind} {what}"),
            Self::Decode { column, .. } => format!("{kind} {column}"),
            _ => kind.to_owned(),
        }
    }

    /// What the server answered with.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Ended { sqlstate, .. }
            | Self::ServerTimeout { sqlstate, .. }
            | Self::Query { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// Bounded label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lost(_) | Self::Ended { .. } => "lost",
            Self::Changed => "changed",
            Self::Deadline(_) => "deadline",
            Self::ServerTimeout { .. } => "server_timeout",
            Self::Permission(_) => "permission",
            Self::Missing { .. } => "missing",
            Self::Query { .. } => "query",
            Self::Limit { .. } => "limit",
            Self::Decode { .. } | Self::Foreign(_) => "decode",
            Self::Collision { .. } => "collision",
            Self::Defect(_) => "defect",
        }
    }

    /// Whether the session can no longer be used.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Lost(_)
                | Self::Ended { .. }
                | Self::Deadline(_)
                | Self::Foreign(_)
                | Self::Limit { fatal: true, .. }
        )
    }

    /// Whether it held the connection for as long, or brought as much, as is taken.
    pub fn is_too_much(&self) -> bool {
        match self {
            Self::ServerTimeout { sqlstate, .. } => sqlstate == "57014",
            Self::Deadline(_) | Self::Limit { .. } => true,
            _ => false,
        }
    }

    /// Whether the server ended the session because it was idle, so that nothing was run.
    pub fn is_idle_timeout(&self) -> bool {
        matches!(self, Self::Ended { sqlstate, .. } if sqlstate == "57P05")
    }
}

/// Why a collector does without a column, a function or a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyMissing {
    /// The server does not have it.
    Absent,
    /// The role may not use it, although it reads all statistics.
    Forbidden,
    /// The server has it and refuses it to everybody, as managed services do.
    Unsupported,
}

impl WhyMissing {
    /// Bounded label value.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A column, function or view that a collector does without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotAvailable {
    /// `pg_stat_wal.wal_bytes`, `pg_ls_waldir()`.
    pub name: Arc<str>,
    /// Why.
    pub why: WhyMissing,
}

impl std::fmt::Display for NotAvailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.why {
            WhyMissing::Absent => f.write_str(&self.name),
            WhyMissing::Forbidden | WhyMissing::Unsupported => {
                write!(f, "{} ({})", self.name, self.why.kind())
            }
        }
    }
}

/// Why a statement that the user wrote gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The server refused or cancelled it.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused {
        sqlstate: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
        /// Where in the statement, in characters from 1.
        position: Option<u32>,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No answer in our own time, which lies above `statement_timeout`; the connection is lost.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// A value cannot be sent, or a column is not of the type expected.
    #[error("{0}")]
    Value(String),
}

impl StatementError {
    /// Whether the session can no longer be used.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Deadline(_))
    }
}
