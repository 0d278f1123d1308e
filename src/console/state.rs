//! Whether a target answers, and if not: since when, why, and what to do.
//!
//! Must not: show a secret, or what a server said where names are to be hidden.

use std::time::SystemTime;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::age;
use super::finds::Found;
use super::icons::icon;
use super::read::Reader;
use crate::derive::units;
use crate::snapshot::{NEWEST_MAJOR, Of};

/// The rule that says the same of the role, with a remedy, once it was asked.
const ROLE_RULE: &str = "settings.role";

/// A time in which a target could not be reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownTrouble {
    /// What went wrong, as in the logs.
    pub kind: &'static str,
    /// What the last attempt failed with.
    pub message: String,
    /// Unix seconds of the first failure.
    pub since: f64,
    /// Unix seconds of the last one.
    pub last: f64,
    /// Unix seconds at which one succeeded.
    pub over: Option<f64>,
    /// What to do.
    pub remedy: &'static str,
}

/// A database that is walked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownDatabase {
    /// Its name.
    pub datname: String,
    /// Why it cannot be entered.
    pub trouble: Option<String>,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetState {
    /// What the configuration calls it.
    pub name: Option<String>,
    /// Where it is, without secrets.
    pub place: String,
    /// `server`, `pooler` or `exporter`.
    pub kind: &'static str,
    /// `up`, `down` or `not tried yet`.
    pub state: &'static str,
    /// Of the server.
    pub version: Option<String>,
    /// Whether it is newer than any that was tested.
    pub untested: bool,
    /// The role it is read as.
    pub role: Option<String>,
    /// Whether that role sees other roles' sessions.
    pub reads_all_stats: Option<bool>,
    /// The last time in which it could not be reached.
    pub trouble: Option<ShownTrouble>,
    /// Those that are walked.
    pub databases: Vec<ShownDatabase>,
    /// Unix seconds of this page.
    pub as_of: f64,
}

fn unix(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// What to do about an error of this kind ([`crate::error::ConnectError::kind`]).
pub fn remedy(kind: &str) -> &'static str {
    match kind {
        "credentials" => {
            "The password file, certificate or key could not be read: check its path and that the user that runs pgrunway may read it."
        }
        "unreachable" => {
            "Nothing listens there, the name is unknown, or a firewall refuses: check host and port of the connection string, that the server runs, and its listen_addresses."
        }
        "timeout" => {
            "It does not answer in time: a firewall that drops, a machine that is overloaded, or a login that hangs behind a lock. timeouts.connect sets how long is waited."
        }
        "tls" => {
            "The TLS handshake failed: check sslmode, sslrootcert and the server's certificate."
        }
        "refused" => {
            "The server refused the login: check user, password and database of the connection string, and the server's pg_hba.conf."
        }
        "cut" => {
            "The connection was closed during start-up: see the server's log; it may be a port of something else, or a proxy without a server."
        }
        "protocol" => {
            "What answers is no PostgreSQL or PgBouncer that pgrunway knows: check the port."
        }
        "held" => "The server still holds connections that were given up; they are waited for.",
        "forbidden" => "probe.allow does not list this place.",
        "limit" => {
            "It sent more than is taken before a session was ready: is it a PostgreSQL server?"
        }
        "facts" => {
            "The session was made, but its facts could not be read: the collectors' page and the log say which."
        }
        _ => "See the log.",
    }
}

/// Reads it.
pub fn state(reader: &Reader<'_>) -> TargetState {
    let s = reader.snapshot;
    let trouble = s.trouble.as_ref().map(|t| ShownTrouble {
        kind: t.kind,
        message: reader.private(&t.message).into_owned(),
        since: unix(t.since),
        last: unix(t.last),
        over: t.over.map(unix),
        remedy: remedy(t.kind),
    });
    TargetState {
        name: reader.target.map(str::to_owned),
        // As `user@host:port/database`.
        place: match s.target.rsplit_once('@') {
            Some((_, place)) if reader.hides => place.to_owned(),
            _ => s.target.to_string(),
        },
        kind: match s.of {
            Of::Server => "server",
            Of::Pooler => "pooler",
            Of::Exporter => "exporter",
        },
        state: match (s.up, s.tried) {
            (true, _) => "up",
            (false, true) => "down",
            (false, false) => "not tried yet",
        },
        version: s.version.as_deref().map(str::to_owned),
        untested: s.major.is_some_and(|major| major > NEWEST_MAJOR),
        role: s.role.as_ref().map(|r| reader.private(&r.name).into_owned()),
        reads_all_stats: s.role.as_ref().map(|r| r.reads_all_stats),
        trouble,
        databases: s
            .databases
            .iter()
            .map(|d| ShownDatabase {
                datname: d.datname.to_string(),
                trouble: d.trouble.as_deref().map(|t| reader.private(t).into_owned()),
            })
            .collect(),
        as_of: reader.unix(),
    }
}

impl TargetState {
    /// What to call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.place)
    }

    /// One line: where it is, what it is, what is walked.
    pub fn line(&self) -> Markup {
        let product = match self.kind {
            "server" => "PostgreSQL ",
            "pooler" => "PgBouncer ",
            _ => "",
        };
        html! {
            p.id {
                b { (self.title()) }
                @if self.name.is_some() { " \u{b7} " (self.place) }
                " \u{b7} " @match &self.version { Some(version) => { (product) (version) }, None => { "version not known yet" } }
                @if let Some(role) = &self.role { " \u{b7} read as " code { (role) } }
                @if self.kind == "server" {
                    " \u{b7} databases: "
                    @if self.databases.is_empty() { "none visited yet" }
                    @for (i, d) in self.databases.iter().enumerate() { @if i > 0 { ", " } code { (d.datname) } }
                }
            }
        }
    }

    /// What is wrong with reaching it, as items of the list of findings.
    pub fn items(&self, found: &[Found]) -> Markup {
        let judged = found.iter().any(|f| f.rule == ROLE_RULE);
        html! {
            @if let Some(t) = &self.trouble {
                @if t.over.is_none() {
                    li.c {
                        div {
                            h2 { span.sev.down { (icon("down")) " down" } " " span { "It cannot be reached: " (t.kind) } }
                            p { (t.message) }
                            dl.ev {
                                div { dt { "Down since" } dd { (units::instant(t.since)) } }
                                div { dt { "Last tried" } dd { (units::instant(t.last)) } }
                            }
                        }
                        div { p { (t.remedy) } }
                    }
                } @else if let Some(over) = t.over {
                    li {
                        div {
                            h2 { span.sev.info { (icon("info")) " note" } " " span { "It was down from " (units::instant(t.since)) " to " (units::instant(over)) } }
                            p { (t.kind) ": " (t.message) }
                            p.by { (age(self.as_of - over)) " ago" }
                        }
                    }
                }
            }
            @if self.reads_all_stats == Some(false) && !judged {
                li {
                    div {
                        h2 { span.sev.warn { (icon("warn")) " warning" } " " span { "The role sees its own sessions only" } }
                        p {
                            "The role " code { (self.role.as_deref().unwrap_or_default()) }
                            " is no member of pg_monitor: ages of transactions, waits for locks and other roles\u{2019} statements are absent."
                        }
                    }
                }
            }
            @if self.untested {
                li {
                    div {
                        h2 { span.sev.info { (icon("info")) " note" } " " span { "This PostgreSQL is newer than any that this pgrunway was tested with" } }
                        p { "It is read as " (NEWEST_MAJOR) "; what it lacks of that is absent, and said on the collectors\u{2019} page." }
                    }
                }
            }
            // Of a server that is down they all have the same reason.
            @for d in self.databases.iter().filter(|_| self.state == "up") {
                @if let Some(why) = &d.trouble {
                    li {
                        div {
                            h2 { span.sev.warn { (icon("warn")) " warning" } " " span { "The database " code { (d.datname) } " cannot be read" } }
                            p { (why) }
                        }
                        div { p.do { "Let the role connect to it, or leave it out by databases.exclude." } }
                    }
                }
            }
        }
    }
}
