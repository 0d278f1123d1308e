//! How far one gets on the way to a target, and what stays closed there.
//!
//! Must not: hold a password, or judge.

/// The step of a connection that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessStep {
    /// Passwords, certificates and keys of our own.
    Credentials,
    /// The host's name.
    Name,
    /// The way to the port.
    Route,
    /// The TLS handshake, which the server declined where `offered` is false.
    Tls {
        /// Whether the server has TLS at all.
        offered: bool,
    },
    /// The server refused the login; its SQLSTATE says why.
    Login,
    /// What answers does not do as a server does, or said too much or nothing.
    Answer,
    /// The first query.
    Query,
}

/// Why no session could be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFailure {
    /// Where it failed.
    pub step: AccessStep,
    /// What the server answered with; empty where it did not.
    pub sqlstate: String,
    /// The whole error, a sentence without a full stop.
    pub message: String,
}

/// A database that could not be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedDatabase {
    /// `pg_database.datname`.
    pub datname: String,
    /// Whether it is the privilege CONNECT that lacks.
    pub denied: bool,
    /// Why, a sentence without a full stop.
    pub message: String,
}

/// Collectors that failed for one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingCollector {
    /// Its name.
    pub collector: String,
    /// Databases that it failed in; empty for one of the server.
    pub databases: Vec<String>,
    /// The error, a sentence without a full stop.
    pub message: String,
}

/// A target as one comes to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessFacts {
    /// Host and port, or the socket.
    pub endpoint: String,
    /// The role that logs in.
    pub role: String,
    /// The database of the connection string.
    pub database: String,
    /// Why no session could be had, `Some(None)` if one could; `None` where nobody tried.
    pub failure: Option<Option<AccessFailure>>,
    /// Databases that were to be read and could not be entered.
    pub closed: Option<Vec<ClosedDatabase>>,
    /// Collectors that failed, but for those whose cause another rule has.
    pub failing: Option<Vec<FailingCollector>>,
}
