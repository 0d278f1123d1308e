//! Goes to one target, step by step, and gathers what the rules look at.
//!
//! Must not: judge, or hold more than two connections to a server.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Examined, Stage, StageState};
use crate::cmd::databases::{self, ListedDatabase};
use crate::cmd::{advice, words::counted};
use crate::collectors::{self, statements};
use crate::config::{Endpoint, SslMode, TargetKind};
use crate::error::{CONNECTING, ConnectError, NAMING, NO_TLS};
use crate::findings::{
    self, AccessFacts, AccessFailure, AccessStep, ClosedDatabase, FailingCollector, Part, Reported,
    Severity,
};
use crate::pg::{Clock, Session, reach, settle};
use crate::poller::{self, Target};
use crate::snapshot::{Outcome, Snapshot};

/// The stages, in their order.
pub(super) const STAGES: [&str; 9] =
    ["name", "route", "tls", "login", "role", "settings", "extensions", "databases", "collectors"];
/// Databases that are entered to find an extension.
const SEARCHED: usize = 20;
/// Names that are listed in a line.
const LISTED: usize = 8;

/// Everything about one target.
pub(super) async fn target(name: Option<String>, target: Target) -> Examined {
    let connect = &target.connect;
    let host = connect.endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp { host, port } => Some((host.clone(), *port)),
        Endpoint::Unix { .. } => None,
    });
    let mut visit = Visit {
        access: AccessFacts {
            endpoint: endpoints(&target),
            role: connect.user.clone(),
            database: connect.dbname.clone(),
            ..AccessFacts::default()
        },
        target: &target,
        stages: Vec::new(),
        found: Vec::new(),
    };
    let mut examined = Examined {
        name,
        target: connect.describe(),
        host,
        stages: Vec::new(),
        databases: Vec::new(),
        collectors: Vec::new(),
        found: Vec::new(),
    };
    if let Some(listed) = visit.arrive().await {
        let snapshot = poller::collect_once(target.clone()).await;
        visit.work(&snapshot, &listed);
        let databases = snapshot.databases.iter();
        examined.databases = databases
            .map(|d| (d.datname.to_string(), d.trouble.as_ref().map(ToString::to_string)))
            .collect();
        examined.collectors = snapshot.outcomes;
    }
    for name in STAGES.iter().skip(visit.stages.len()) {
        let (state, says) = (StageState::Skipped, "not looked at".to_owned());
        visit.stages.push(Stage { name, state, says, took: None });
    }
    visit.found.sort_by_key(|found| std::cmp::Reverse(found.finding.severity));
    (examined.stages, examined.found) = (visit.stages, visit.found);
    examined
}

fn endpoints(target: &Target) -> String {
    let all: Vec<String> = target.connect.endpoints.iter().map(ToString::to_string).collect();
    all.join(", ")
}

struct Visit<'a> {
    target: &'a Target,
    access: AccessFacts,
    stages: Vec<Stage>,
    found: Vec<Reported>,
}

impl Visit<'_> {
    fn stage(&mut self, state: StageState, says: impl Into<String>, took: Option<Duration>) {
        if let Some(name) = STAGES.get(self.stages.len()) {
            self.stages.push(Stage { name, state, says: says.into(), took });
        }
    }

    /// Asks all rules of a part about such facts; whether they found something to do.
    fn ask<'f>(&mut self, facts: impl Into<findings::Facts<'f>>, parts: &[Part]) -> bool {
        let facts = facts.into();
        let before = self.found.len();
        let rules = findings::all().filter(|rule| parts.contains(&rule.part));
        for rule in rules.filter(|rule| rule.when == findings::When::Always) {
            let verdict = rule.judge(facts).flatten().into_iter().flatten();
            self.found.extend(verdict.map(|finding| Reported { rule, finding }));
        }
        self.found[before..].iter().any(|found| found.finding.severity > Severity::Info)
    }

    fn state(found: bool) -> StageState {
        if found { StageState::Degraded } else { StageState::Passed }
    }

    /// From the name to the extensions. Gives the databases, or `None` where nothing behind the login is to be had.
    async fn arrive(&mut self) -> Option<Vec<ListedDatabase>> {
        let Target { connect, settings, .. } = self.target;
        let mut lines = (Vec::new(), Vec::new());
        let (mut name_took, mut route_took) = (None, None);
        for endpoint in &connect.endpoints {
            let reached = reach(endpoint, settings.timeouts.connect).await;
            let addresses: Vec<String> =
                reached.addresses.iter().map(ToString::to_string).collect();
            lines.0.push(match (endpoint, reached.name) {
                (Endpoint::Unix { .. }, _) => "a socket of this machine".to_owned(),
                (_, Some(_)) => addresses.join(", "),
                (_, None) => format!("{endpoint} has no address"),
            });
            lines.1.push(match reached.route {
                Some(_) => format!("{endpoint} answers"),
                None => format!("nothing answers at {endpoint}"),
            });
            name_took = name_took.or(reached.name);
            route_took = route_took.or(reached.route);
        }
        let clock = Clock::start();
        let began = Instant::now();
        let opened = Session::connect(connect, None, settings.clone(), clock).await;
        let took = began.elapsed();
        let failure = opened.as_ref().err().map(failure);
        let step = failure.as_ref().map(|failure| failure.step);
        self.access.failure = Some(failure);
        let broken = self.ask(&self.access.clone(), &[Part::Access]);
        let failed = |this: &mut Self, says: String| {
            this.stage(StageState::Failed, says, None);
            debug_assert!(broken, "a failure without a rule");
        };
        let error = opened.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if step == Some(AccessStep::Name) {
            failed(self, error);
            return None;
        }
        self.stage(StageState::Passed, lines.0.join("; "), name_took);
        if step == Some(AccessStep::Route) {
            failed(self, error);
            return None;
        }
        self.stage(StageState::Passed, lines.1.join("; "), route_took);
        if let Some(AccessStep::Tls { .. }) = step {
            failed(self, error);
            return None;
        }
        let session = match opened {
            Err(_) => {
                let says = format!("sslmode={}, as far as it came to that", self.sslmode());
                self.stage(StageState::Passed, says, None);
                failed(self, error);
                return None;
            }
            Ok(session) => session,
        };
        let tls = match session.certificates().server {
            Some(_) => format!("on, sslmode={}", self.sslmode()),
            None => format!("off, sslmode={}", self.sslmode()),
        };
        self.stage(StageState::Passed, tls, None);
        let server = session.server();
        let kind = match session.kind() {
            TargetKind::Pooler => "PgBouncer's console".to_owned(),
            TargetKind::Server if server.in_recovery => {
                format!("PostgreSQL {}, a standby", server.version)
            }
            TargetKind::Server => format!("PostgreSQL {}", server.version),
        };
        self.stage(StageState::Passed, format!("as {}, {kind}", connect.user), Some(took));
        if session.kind() == TargetKind::Pooler {
            for _ in 0..4 {
                self.stage(StageState::Skipped, "a console has none", None);
            }
            session.close().await;
            return Some(Vec::new());
        }
        self.inside(session, clock).await
    }

    fn sslmode(&self) -> &'static str {
        match self.target.connect.sslmode {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// From the role to the list of databases.
    async fn inside(&mut self, session: Session, clock: Clock) -> Option<Vec<ListedDatabase>> {
        let Target { connect, databases, .. } = self.target;
        let listed = databases::list(&session).await;
        let home = session.server().datname.clone();
        let session = match settle(session, connect, &statements::NEED, databases, None).await {
            Ok(session) => session,
            Err(e) => {
                self.stage(StageState::Failed, e.to_string(), None);
                return None;
            }
        };
        let mut notes = Vec::new();
        let began = Instant::now();
        let mut facts = advice::setup(&session, &mut notes).await;
        let took = began.elapsed();
        let server = session.server().clone();
        session.close().await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(e) => {
                notes.push(format!("databases: {e}"));
                Vec::new()
            }
        };
        if facts.has_statements == Some(false) {
            facts.statements_elsewhere = self.elsewhere(&home, &listed, clock).await;
        }
        let known = self.found.len();
        self.ask(&facts, &[Part::Settings]);
        let found = |this: &Self, ids: &[&str]| {
            let mut all = this.found[known..].iter();
            all.any(|f| f.finding.severity > Severity::Info && ids.contains(&f.rule.id))
        };
        let blind = found(self, &["settings.role"]);
        let member = if facts.monitors == Some(true) { "has" } else { "lacks" };
        self.stage(Self::state(blind), format!("{} {member} pg_monitor", server.role), None);
        let wrong: Vec<&str> = self.found[known..]
            .iter()
            .filter(|f| f.finding.severity > Severity::Info && f.rule.id != "settings.role")
            .map(|f| f.rule.id)
            .collect();
        let mut says = format!("{} read", counted(facts.settings.len(), "setting"));
        if !notes.is_empty() {
            says = format!("{says}; {}", notes.join("; "));
        }
        self.stage(Self::state(!wrong.is_empty()), says, Some(took));
        let lacks = found(self, &["settings.pg_stat_statements"]);
        let mut installed: Vec<String> = server
            .extensions
            .iter()
            .map(|(name, e)| format!("{name} {}.{}", e.version.0, e.version.1))
            .collect();
        if installed.is_empty() {
            installed.push("none".to_owned());
        }
        let says = format!("{} in {}", installed.join(", "), server.datname);
        self.stage(Self::state(lacks), says, None);
        Some(listed)
    }

    /// Databases that have pg_stat_statements, of a server on which it is not read, and why it is not.
    async fn elsewhere(
        &self,
        home: &str,
        listed: &[ListedDatabase],
        clock: Clock,
    ) -> Vec<(String, String)> {
        let Target { connect, databases, settings, .. } = self.target;
        let mut all = Vec::new();
        let others = listed.iter().filter(|d| d.datname != home && d.may_enter);
        for other in others.take(SEARCHED) {
            let session = Session::connect(connect, Some(&other.datname), settings.clone(), clock);
            let Ok(session) = session.await else { continue };
            if session.server().extensions.contains_key(statements::NEED.extension) {
                let why = if !other.of_superuser {
                    "its owner is no superuser, and could put something else in its place"
                } else if !databases.may_enter(&other.datname) {
                    "databases.exclude names it"
                } else {
                    "not all of the extension belongs to superusers there"
                };
                all.push((other.datname.clone(), why.to_owned()));
            }
            session.close().await;
        }
        all
    }

    /// Databases and collectors, by what one round over them gave.
    fn work(&mut self, snapshot: &Snapshot, listed: &[ListedDatabase]) {
        let may = |datname: &str| listed.iter().find(|d| d.datname == datname).map(|d| d.may_enter);
        let closed = snapshot.databases.iter().filter_map(|database| {
            let message = database.trouble.as_ref()?.to_string();
            let datname = database.datname.to_string();
            let denied = may(&datname) == Some(false);
            let message =
                if denied { format!("{} lacks CONNECT", self.access.role) } else { message };
            Some(ClosedDatabase { datname, denied, message })
        });
        self.access.closed = Some(closed.collect());
        self.access.failing = Some(self.failing(&snapshot.outcomes));
        let known = self.found.len();
        let access = self.access.clone();
        self.ask(&access, &[Part::Access]);
        for found in snapshot.findings.iter().flat_map(|place| place.reported.iter()) {
            if found.rule.part == Part::Pooler {
                self.found.push(found.clone());
            }
        }
        let of = |this: &Self, id: &str| this.found[known..].iter().any(|f| f.rule.id == id);
        if self.stages.len() + 1 < STAGES.len() {
            let closed: Vec<&str> =
                access.closed.iter().flatten().map(|c| c.datname.as_str()).collect();
            let entered = snapshot.databases.len() - closed.len();
            let mut says = format!("{} entered", counted(entered, "database"));
            if !closed.is_empty() {
                says.push_str(&format!("; not {}", some(&closed)));
            }
            if snapshot.left_out > 0 {
                says.push_str(&format!("; {} beyond the most that are walked", snapshot.left_out));
            }
            self.stage(Self::state(of(self, "access.database")), says, None);
        }
        let ran = snapshot.outcomes.iter().filter(|o| o.runs > 0);
        let took: Duration = ran.clone().map(|o| o.duration).sum();
        let names = |all: &mut dyn Iterator<Item = &Outcome>| {
            let mut names: Vec<&str> = all.map(|o| &*o.collector).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let failed = names(&mut snapshot.outcomes.iter().filter(|o| o.error.is_some()));
        let series: usize = snapshot.outcomes.iter().map(|o| o.series).sum();
        let mut says =
            format!("{}, {series} series", counted(names(&mut ran.clone()).len(), "collector"));
        if !failed.is_empty() {
            let failed: Vec<&str> = failed.iter().map(String::as_str).collect();
            says.push_str(&format!("; failed: {}", some(&failed)));
        }
        let cost: f64 = snapshot.outcomes.iter().map(super::an_hour).sum();
        says.push_str(&format!("; {cost:.0} s of waiting for answers an hour"));
        self.stage(Self::state(!failed.is_empty()), says, Some(took));
    }

    /// Collectors that failed, by their errors, without those whose cause a rule has that found something, and those
    /// in databases that could not be entered.
    fn failing(&self, outcomes: &[Outcome]) -> Vec<FailingCollector> {
        let has = |id: &str| self.found.iter().any(|found| found.rule.id == id);
        let closed = self.access.closed.iter().flatten();
        let closed: Vec<&str> = closed.map(|closed| closed.datname.as_str()).collect();
        let explained = |outcome: &Outcome| {
            let need = collectors::by_name(&outcome.collector).and_then(|c| c.need());
            let lacks = need.is_some_and(|need| need.extension == statements::NEED.extension);
            let denied = outcome.errors.contains_key("permission");
            // A role that sees little does not see what else the extension lacks.
            lacks && (has("settings.pg_stat_statements") || has("settings.role"))
                || denied && has("settings.role")
        };
        let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for outcome in outcomes {
            let datname = outcome.datname.as_deref();
            let Some(error) = &outcome.error else { continue };
            if explained(outcome) || datname.is_some_and(|datname| closed.contains(&datname)) {
                continue;
            }
            let key = (outcome.collector.to_string(), error.to_string());
            all.entry(key).or_default().extend(datname.map(str::to_owned));
        }
        all.into_iter()
            .map(|((collector, message), databases)| FailingCollector {
                collector,
                databases,
                message,
            })
            .collect()
    }
}

fn some(names: &[&str]) -> String {
    match names.len() {
        few if few <= LISTED => names.join(", "),
        many => format!("{} and {} more", names[..LISTED].join(", "), many - LISTED),
    }
}

/// Where it failed, and what the server said.
fn failure(e: &ConnectError) -> AccessFailure {
    let step = match e {
        ConnectError::Credentials { .. } => AccessStep::Credentials,
        ConnectError::Unknown { .. } => AccessStep::Name,
        ConnectError::Timeout { stage, .. } if *stage == NAMING => AccessStep::Name,
        ConnectError::Timeout { stage, .. } if *stage == CONNECTING => AccessStep::Route,
        ConnectError::Unreachable { .. }
        | ConnectError::Held { .. }
        | ConnectError::Forbidden { .. } => AccessStep::Route,
        ConnectError::Tls { source, .. } => {
            AccessStep::Tls { offered: source.to_string() != NO_TLS }
        }
        ConnectError::Refused { .. } => AccessStep::Login,
        ConnectError::Timeout { .. }
        | ConnectError::Cut { .. }
        | ConnectError::Protocol { .. }
        | ConnectError::Limit { .. } => AccessStep::Answer,
        ConnectError::Facts { .. } => AccessStep::Query,
    };
    let sqlstate = e.sqlstate().unwrap_or_default().to_owned();
    AccessFailure { step, sqlstate, message: e.to_string() }
}
