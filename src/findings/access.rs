//! Rules about the way to a target: its name, the route, TLS, the login, the databases, and whether collectors can
//! work there. The order is that of the steps; the first that fails hides those behind it.
//!
//! Must not: read a message that a server wrote to tell causes apart, for servers speak many languages; SQLSTATE does.

use super::facts::{AccessFacts, AccessFailure, AccessStep};
use super::server::none;
use super::{Check, Finding, Part, Rule, Severity, Subject, Verdict, When};
use crate::remedy::{Remedy, access, setting};

/// Databases that one failing collector is named with.
const NAMED: usize = 3;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "access.credentials",
        formerly: &[],
        title: "Let pgrunway read its own passwords and certificates",
        severity: Severity::Critical,
        finds: "a password file, password command, certificate or key of the connection cannot be used",
        why: "Without it the server is not even asked.",
        source: "the connection string",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(credentials),
    },
    &Rule {
        id: "access.name",
        formerly: &[],
        title: "Give the host a name that resolves",
        severity: Severity::Critical,
        finds: "the host's name has no address",
        why: "Nothing is known of the target.",
        source: "the system's resolver",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(name),
    },
    &Rule {
        id: "access.route",
        formerly: &[],
        title: "Open the way to the port",
        severity: Severity::Critical,
        finds: "nothing answers at host and port, or at the socket",
        why: "Nothing is known of the target.",
        source: "connect()",
        alerts: &["PostgresDown", "PgBouncerDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(route),
    },
    &Rule {
        id: "access.tls",
        formerly: &[],
        title: "Agree on TLS",
        severity: Severity::Critical,
        finds: "the server has no TLS and sslmode demands it, or its certificate does not pass sslmode's checks",
        why: "No login is sent over a connection that is not what was asked for.",
        source: "the TLS handshake",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(tls),
    },
    &Rule {
        id: "access.login",
        formerly: &[],
        title: "Let the role log in",
        severity: Severity::Critical,
        finds: "the server refuses the role, its password or its address (SQLSTATE 28000, 28P01)",
        why: "Nothing is known of the target.",
        source: "the server's answer to the login",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(login),
    },
    &Rule {
        id: "access.connections",
        formerly: &[],
        title: "Keep two connections free for the exporter",
        severity: Severity::Critical,
        finds: "the server, or the role, has no connection left (SQLSTATE 53300)",
        why: "Whoever watches is locked out just when the server is full.",
        source: "the server's answer to the login",
        alerts: &["PostgresDown", "PostgresConnectionsExhausted"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(connections),
    },
    &Rule {
        id: "access.database",
        formerly: &[],
        title: "Let the role into the databases",
        severity: Severity::Critical,
        finds: "a database that is to be read is not there, takes no connections, or CONNECT on it is revoked",
        why: "Tables, indexes and partitions are seen from inside their database only.",
        source: "pg_database, the server's answer to the login",
        alerts: &["PgrunwayCollectorFailing"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(database),
    },
    &Rule {
        id: "access.pooler",
        formerly: &[],
        title: "Pool by session or by transaction",
        severity: Severity::Critical,
        finds: "a pooler ends transactions of several statements (SQLSTATE 08P01), as in pool_mode = statement",
        why: "Every reading is one read-only transaction with limits of its own, and that mode has none.",
        source: "the first transaction",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(pooler),
    },
    &Rule {
        id: "access.server",
        formerly: &[],
        title: "Have a PostgreSQL server answer",
        severity: Severity::Critical,
        finds: "what answers is no PostgreSQL server or PgBouncer, starts up or shuts down, or leaves us without an answer",
        why: "Nothing is known of the target.",
        source: "what came after the connection was made",
        alerts: &["PostgresDown"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(server),
    },
    &Rule {
        id: "access.collectors",
        formerly: &[],
        title: "Let every collector work",
        severity: Severity::Warning,
        finds: "a collector fails for a cause that no other rule has",
        why: "Its series are absent.",
        source: "how the last run of each collector went",
        alerts: &["PgrunwayCollectorFailing"],
        part: Part::Access,
        when: When::Always,
        check: Check::Access(collectors),
    },
];

/// What the kinds of refusals are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Credentials,
    Name,
    Route,
    Tls,
    Login,
    Connections,
    Database,
    Pooler,
    Server,
}

fn cause(failure: &AccessFailure) -> Cause {
    let class = failure.sqlstate.get(..2).unwrap_or_default();
    match (failure.step, failure.sqlstate.as_str(), class) {
        (AccessStep::Credentials, ..) => Cause::Credentials,
        (AccessStep::Name, ..) => Cause::Name,
        (AccessStep::Route, ..) => Cause::Route,
        (AccessStep::Tls { .. }, ..) => Cause::Tls,
        (AccessStep::Login | AccessStep::Query, "08P01", _) => Cause::Pooler,
        (AccessStep::Login, "53300", _) => Cause::Connections,
        // The database is not there; CONNECT is revoked; it takes no connections.
        (AccessStep::Login, "3D000" | "42501" | "55000", _) => Cause::Database,
        (AccessStep::Login, _, "28") => Cause::Login,
        _ => Cause::Server,
    }
}

/// What a rule says of the failure if it is of its kind.
fn of(
    a: &AccessFacts,
    wanted: Cause,
    found: impl FnOnce(&AccessFailure, Finding) -> Finding,
) -> Verdict {
    let failure = a.failure.as_ref()?.as_ref();
    let Some(failure) = failure.filter(|failure| cause(failure) == wanted) else { return none() };
    let subject = match wanted {
        Cause::Login | Cause::Connections => Subject::Role(a.role.clone()),
        Cause::Database => Subject::Named(a.database.clone()),
        Cause::Pooler => Subject::Pooler,
        _ => Subject::Server,
    };
    let finding = Finding::new(subject, sentence(&failure.message));
    Some(vec![found(failure, finding)])
}

/// With a full stop, in one line.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}.", text.trim_end_matches(['.', ';']))
}

fn by_hand(finding: Finding, words: impl Into<String>) -> Finding {
    finding.remedy(Remedy::Prose(words.into()))
}

fn credentials(a: &AccessFacts) -> Verdict {
    of(a, Cause::Credentials, |_, finding| {
        by_hand(
            finding,
            "Correct the path, the file's rights or its content; it is read by the user that runs pgrunway.",
        )
    })
}

fn name(a: &AccessFacts) -> Verdict {
    of(a, Cause::Name, |_, finding| {
        let words = format!(
            "Correct the host in the connection string, or the resolver: `getent hosts` says what this machine knows of \
             the host in {}.",
            a.endpoint
        );
        by_hand(finding, words)
    })
}

fn route(a: &AccessFacts) -> Verdict {
    of(a, Cause::Route, |_, finding| {
        let words = format!(
            "See that the server runs and listens at {} (listen_addresses, port, unix_socket_directories), that the \
             connection string names that port, and that no firewall or network policy lies between.",
            a.endpoint
        );
        by_hand(finding, words)
    })
}

fn tls(a: &AccessFacts) -> Verdict {
    of(a, Cause::Tls, |failure, finding| {
        match failure.step {
        AccessStep::Tls { offered: false } => finding
            .advice(
                "It needs server.crt and server.key in the data directory, or ssl_cert_file and ssl_key_file that name \
                 them; until then the server goes on without TLS and says why in its log.",
            )
            .remedy(setting::set("", "ssl", "on", setting::SettingSource::System { restart: false })),
        _ => by_hand(
            finding,
            "UnknownIssuer: name the authority's certificate in sslrootcert. NotValidForName: connect by the name that \
             the certificate has, or have one made with that name. Expired: renew it on the server.",
        ),
    }
    })
}

fn login(a: &AccessFacts) -> Verdict {
    of(a, Cause::Login, |_, finding| {
        finding
            .advice(
                "The script makes a role that may log in; where it is the password or pg_hba.conf, its head says what to \
                 do by hand.",
            )
            .remedy(access::login(&a.role))
    })
}

fn connections(a: &AccessFacts) -> Verdict {
    of(a, Cause::Connections, |_, finding| {
        finding
            .advice("A server that is full takes more connections by max_connections, or a pooler in front of it.")
            .remedy(access::connections(&a.role))
    })
}

fn database(a: &AccessFacts) -> Verdict {
    let home = of(a, Cause::Database, |failure, finding| match failure.sqlstate.as_str() {
        "3D000" => {
            by_hand(finding, "Create the database, or name another one in the connection string.")
        }
        _ => finding.remedy(access::connect(&a.database, &a.role)),
    })?;
    if !home.is_empty() {
        return Some(home);
    }
    let Some(closed) = &a.closed else { return a.failure.as_ref()?.as_ref().map(|_| Vec::new()) };
    let found = closed.iter().map(|closed| {
        let finding =
            Finding::new(Subject::Named(closed.datname.clone()), sentence(&closed.message))
                .at_most(Severity::Warning);
        let advice = "Name it in databases.exclude if it is not to be read.";
        match closed.denied {
            true => finding.advice(advice).remedy(access::connect(&closed.datname, &a.role)),
            false => finding.advice(advice),
        }
    });
    Some(found.collect())
}

fn pooler(a: &AccessFacts) -> Verdict {
    of(a, Cause::Pooler, |_, finding| {
        let words = format!(
            "Set pool_mode = transaction in pgbouncer.ini, for the database {} or for all, and RELOAD; or connect past the \
             pooler.",
            a.database
        );
        by_hand(finding, words)
    })
}

fn server(a: &AccessFacts) -> Verdict {
    of(a, Cause::Server, |_, finding| {
        by_hand(
            finding,
            "See what listens there, and its log; one that starts up is ready by itself.",
        )
    })
}

fn collectors(a: &AccessFacts) -> Verdict {
    let found = a.failing.as_ref()?.iter().map(|failing| {
        let place = match failing.databases.as_slice() {
            [] => String::new(),
            few if few.len() <= NAMED => format!("In {}: ", few.join(", ")),
            many => format!(
                "In {} and {} databases more: ",
                many[..NAMED].join(", "),
                many.len() - NAMED
            ),
        };
        let subject = Subject::Collector(failing.collector.clone());
        let finding = Finding::new(subject, format!("{place}{}", sentence(&failing.message)));
        by_hand(finding, "docs/troubleshooting.md says what each kind of error means.")
    });
    Some(found.collect())
}

#[cfg(test)]
pub(super) fn fixtures() -> Vec<(&'static str, AccessFacts, AccessFacts)> {
    use super::facts::{ClosedDatabase, FailingCollector};
    let there = || AccessFacts {
        endpoint: "db:5432".to_owned(),
        role: "mon".to_owned(),
        database: "shop".to_owned(),
        failure: Some(None),
        closed: Some(Vec::new()),
        failing: Some(Vec::new()),
    };
    let failed = |step, sqlstate: &str| AccessFacts {
        failure: Some(Some(AccessFailure {
            step,
            sqlstate: sqlstate.to_owned(),
            message: "it did not work".to_owned(),
        })),
        closed: None,
        failing: None,
        ..there()
    };
    let closed = ClosedDatabase {
        datname: "crm".to_owned(),
        denied: true,
        message: "CONNECT is revoked".to_owned(),
    };
    let failing = FailingCollector {
        collector: "sizes".to_owned(),
        databases: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        message: "no answer in time".to_owned(),
    };
    let login = |sqlstate| failed(AccessStep::Login, sqlstate);
    vec![
        ("access.credentials", failed(AccessStep::Credentials, ""), failed(AccessStep::Name, "")),
        ("access.name", failed(AccessStep::Name, ""), failed(AccessStep::Route, "")),
        ("access.route", failed(AccessStep::Route, ""), failed(AccessStep::Answer, "")),
        ("access.tls", failed(AccessStep::Tls { offered: false }, ""), there()),
        ("access.login", login("28P01"), login("53300")),
        ("access.connections", login("53300"), login("53200")),
        ("access.database", AccessFacts { closed: Some(vec![closed]), ..there() }, there()),
        ("access.pooler", failed(AccessStep::Query, "08P01"), failed(AccessStep::Query, "42501")),
        ("access.server", login("57P03"), login("28000")),
        ("access.collectors", AccessFacts { failing: Some(vec![failing]), ..there() }, there()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_exactly_one_rule() {
        let steps = [
            AccessStep::Credentials,
            AccessStep::Name,
            AccessStep::Route,
            AccessStep::Tls { offered: true },
            AccessStep::Login,
            AccessStep::Answer,
            AccessStep::Query,
        ];
        let states =
            ["", "28000", "28P01", "3D000", "42501", "55000", "53300", "57P03", "08P01", "x"];
        for (step, sqlstate) in steps.iter().flat_map(|step| states.map(|state| (*step, state))) {
            let failure =
                AccessFailure { step, sqlstate: sqlstate.to_owned(), message: "no".to_owned() };
            let facts = AccessFacts { failure: Some(Some(failure)), ..AccessFacts::default() };
            let found: Vec<&str> = RULES
                .iter()
                .filter(|rule| rule.judge((&facts).into()).flatten().is_some_and(|f| !f.is_empty()))
                .map(|rule| rule.id)
                .collect();
            assert_eq!(found.len(), 1, "{step:?} {sqlstate}: {found:?}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_nobody_tried() {
        let facts = AccessFacts::default();
        assert!(RULES.iter().all(|rule| rule.judge((&facts).into()) == Some(None)));
    }
}
