//! One error enum per stage, each with a `kind()` from a bounded set that is safe to use as a label.
//!
//! Must not: name a driver's type (sources are boxed), hold a secret, or know how an error is shown.

use std::error::Error as StdError;
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
    /// No TCP or Unix-socket connection: refused, unreachable, unknown host.
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
    /// The connection was made, but the facts every collector needs could not be read.
    #[error("cannot read the facts of {endpoint}: {source}")]
    Facts { endpoint: String, source: Source },
}

impl ConnectError {
    /// Bounded label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => "credentials",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::Refused { .. } => "refused",
            Self::Facts { .. } => "facts",
        }
    }
}

/// Why one collection gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The connection broke, or the peer went silent past our own deadline: the session is lost.
    #[error("connection lost: {0}")]
    Lost(Source),
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
    /// A column was absent or not of the type expected.
    #[error("column {column}: {source}")]
    Decode { column: String, source: Source },
    /// A collector panicked; its state was thrown away and it starts afresh.
    #[error("defect in the collector, please report it: {0}")]
    Defect(String),
}

impl CollectError {
    /// Bounded label value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lost(_) => "lost",
            Self::Deadline(_) => "deadline",
            Self::ServerTimeout { .. } => "server_timeout",
            Self::Permission(_) => "permission",
            Self::Missing { .. } => "missing",
            Self::Query { .. } => "query",
            Self::Decode { .. } => "decode",
            Self::Defect(_) => "defect",
        }
    }

    /// Whether the session can no longer be used.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Deadline(_))
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
