//! Rules about a PgBouncer, and the facts that they look at.
//!
//! Must not: take clients that waited for want of a server (it is away, paused, or lets nobody in) for
//! want of a larger pool; or tell busy servers from idle ones by the columns of `SHOW POOLS`, which in
//! session mode count both as `sv_active`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::seconds;
use crate::remedy::Remedy;

/// Transactions over less time than this are no evidence.
const ENOUGH: f64 = 600.0;
/// Looks at which clients waited; a burst that one look saw is what a pooler is for.
const OFTEN: f64 = 3.0;

/// When a server connection goes to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// Once its client is gone.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl PoolMode {
    /// `SHOW POOLS` `pool_mode`; `None` for what it cannot be.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "session" => Some(Self::Session),
            "transaction" => Some(Self::Transaction),
            "statement" => Some(Self::Statement),
            _ => None,
        }
    }
}

/// Clients that waited for longer than the objective while their pool could have no more servers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Queue {
    /// Looks at the pool at which that was so.
    pub looks: f64,
    /// Longest wait that was seen, in seconds.
    pub longest: f64,
    /// Most server connections in use and waiting clients at once.
    pub demand: f64,
}

/// One pool: a database and a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pool {
    /// The database, as PgBouncer calls it.
    pub database: String,
    /// The user.
    pub user: String,
    /// Its mode.
    pub mode: Option<PoolMode>,
    /// Server connections that it may have, the reserve not counted.
    pub size: Option<f64>,
    /// Most of them in use at once.
    pub peak: f64,
    /// Most clients that waited at once, for whatever reason.
    pub waiting: f64,
    /// Longest wait in seconds, likewise.
    pub wait: f64,
    /// Looks at it.
    pub looks: f64,
    /// Those who waited while all of its size were in use; `looks` is 0 where none did.
    pub queue: Queue,
    /// Those who waited while there was room in the pool, but its database had all the server connections
    /// that it may have.
    pub limited: Queue,
}

/// What the server connections of one database did while they were watched.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Seconds for which clients held them, by their number at each look.
    pub held: f64,
    /// Seconds that transactions took, of those that ended.
    pub transactions: f64,
    /// Transactions that ended.
    pub count: f64,
}

/// A PgBouncer. Its own console is not among the pools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pooler {
    /// Seconds for which it was watched.
    pub span: f64,
    /// Longest acceptable wait in seconds, from the configuration.
    pub wait_objective: Option<f64>,
    /// Pools.
    pub pools: Option<Vec<Pool>>,
    /// By database.
    pub work: BTreeMap<String, Work>,
    /// Server connections that all pools of a database may have together, where there is a limit.
    pub limits: BTreeMap<String, f64>,
    /// Most client connections at once.
    pub clients: Option<f64>,
    /// Those of `SHOW CONFIG` that are numbers; a version that lacks one has no entry for it.
    pub settings: BTreeMap<String, f64>,
}

impl Pooler {
    fn number(&self, name: &str) -> Option<f64> {
        self.settings.get(name).copied()
    }

    /// Sizes of all pools together.
    fn sizes(&self) -> f64 {
        self.pools.iter().flatten().filter_map(|pool| pool.size).sum()
    }
}

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "pool.size",
        formerly: &[],
        title: "Raise pool_size: clients wait for a server connection",
        severity: Severity::Warning,
        finds: "in three readings or more, a client had waited for longer than objectives.pooler_wait while as \
                    many server connections as pool_size were in use",
        why: "Queries wait for a connection before they begin.",
        source: "SHOW POOLS, SHOW DATABASES pool_size, SHOW USERS pool_size, objectives.pooler_wait of the \
                 configuration",
        alerts: &["PgBouncerPoolExhausted", "PgBouncerClientWaitLong", "PgBouncerClientsWaiting"],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(size),
    },
    &Rule {
        id: "pool.max_db_connections",
        formerly: &[],
        title: "Raise max_db_connections: it limits pools below their size",
        severity: Severity::Warning,
        finds: "in three readings or more, a client had waited for longer than objectives.pooler_wait in a pool \
                    with room, while the database had as many server connections as max_db_connections",
        why: "Queries wait for a connection although their pool has room.",
        source: "SHOW POOLS, SHOW DATABASES max_connections, current_connections, \
                 objectives.pooler_wait of the configuration",
        alerts: &["PgBouncerClientWaitLong", "PgBouncerClientsWaiting"],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(max_db_connections),
    },
    &Rule {
        id: "pool.max_client_conn",
        formerly: &[],
        title: "Raise max_client_conn before clients are refused",
        severity: Severity::Warning,
        finds: "over 80 % of max_client_conn in use at the peak",
        why: "Clients beyond it are refused.",
        source: "SHOW LISTS used_clients, SHOW CONFIG",
        alerts: &["PgBouncerClientsNearLimit"],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(max_client_conn),
    },
    &Rule {
        id: "pool.server_lifetime",
        formerly: &[],
        title: "Let server connections live: each is used once",
        severity: Severity::Warning,
        finds: "server_lifetime is 0",
        why: "Each use costs a new connection to the server, which a pooler is meant to save.",
        source: "SHOW CONFIG",
        alerts: &[],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(server_lifetime),
    },
    &Rule {
        id: "pool.mode",
        formerly: &[],
        title: "Pool by transaction where the application allows it",
        severity: Severity::Info,
        finds: "in session mode, 80 % of pool_size in use at the peak, and under a fifth of that time spent in \
                transactions, over 10 minutes or longer with at least one transaction per connection every 10 minutes",
        why: "Idle clients keep server connections that others could use.",
        source: "SHOW POOLS sv_active, pool_mode; SHOW STATS_TOTALS xact_time, xact_count",
        alerts: &[],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(mode),
    },
    &Rule {
        id: "pool.prepared_statements",
        formerly: &[],
        title: "Let PgBouncer support prepared statements",
        severity: Severity::Info,
        finds: "a pool in transaction or statement mode while max_prepared_statements is 0, or not there \
                    (before 1.21)",
        why: "Named prepared statements fail on another server connection, so clients do without them and every \
              call is planned again.",
        source: "SHOW POOLS pool_mode, SHOW CONFIG",
        alerts: &[],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(prepared_statements),
    },
    &Rule {
        id: "pool.query_wait_timeout",
        formerly: &[],
        title: "Limit how long clients wait",
        severity: Severity::Info,
        finds: "query_wait_timeout is 0",
        why: "A client that gets no server connection waits for ever; an error would let it react.",
        source: "SHOW CONFIG",
        alerts: &[],
        part: Part::Pooler,
        when: When::OnRequest,
        check: Check::Pooler(query_wait_timeout),
    },
];

const RELOAD: &str = "RELOAD on the console makes it effective.";

fn none() -> Verdict {
    Some(Vec::new())
}

/// With a line for the section `[pgbouncer]`.
fn one(evidence: String, advice: String, line: Option<String>) -> Verdict {
    let finding = Finding::new(Subject::Pooler, evidence).advice(advice);
    Some(vec![match line {
        Some(line) => finding.remedy(Remedy::Prose(line)),
        None => finding,
    }])
}

fn size(p: &Pooler) -> Verdict {
    let (pools, objective) = (p.pools.as_ref()?, p.wait_objective?);
    if !pools.is_empty() && pools.iter().all(|pool| pool.size.is_none()) {
        return None;
    }
    let found = pools.iter().filter_map(|pool| {
        let now = pool.size.filter(|_| pool.queue.looks >= OFTEN)?;
        let queue = pool.queue;
        let evidence = format!(
            "Clients waited for up to {} (the objective is {}) while all of pool_size ({now:.0}) was in use, \
             at {:.0} of {:.0} looks in {}; at the peak {:.0} were in use or wanted.",
            seconds(queue.longest),
            seconds(objective),
            queue.looks,
            pool.looks,
            seconds(p.span),
            queue.demand
        );
        let wanted = step(now, queue.demand);
        let sum = p.sizes();
        let mut advice = format!(
            "Set pool_size={wanted:.0} in the line of the database under [databases], or of the user under \
             [users] where that has one{}. {RELOAD} max_connections of the server must have room for \
             every pool on it, database by user: those that exist now may take {sum:.0} on all servers \
             together, and then {:.0}, reserves and max_db_connections not counted. Where statements wait for locks or the server's processors are busy, a larger pool \
             makes it worse.",
            if wanted < queue.demand { ", and look again" } else { "" },
            sum - now + wanted
        );
        if pool.mode == Some(PoolMode::Session) {
            advice.push_str(
                " In session mode a client holds its connection while it is idle too: look first whether \
                 they could be pooled by transaction, or closed.",
            );
        }
        let limits = [
            ("max_db_connections", p.limits.get(&pool.database).copied()),
            ("max_user_connections", p.number("max_user_connections")),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit.filter(|limit| *limit > 0.0 && *limit < wanted) {
                advice.push_str(&format!(" {name} of {limit:.0} is in the way."));
            }
        }
        let subject = Subject::Pool(pool.database.clone(), Some(pool.user.clone()));
        let finding = Finding::new(subject, evidence)
            .figure("wait", queue.longest, Unit::Seconds)
            .figure("objective", objective, Unit::Seconds)
            .figure("pool_size", now, Unit::Count)
            .figure("wanted", wanted, Unit::Count)
            .advice(advice);
        Some(finding)
    });
    Some(found.collect())
}

/// As many as there was work for at once, but no more than twice as many as now: those who wait behind
/// the slow need no connection of their own once the slow are served. Up to ten are given at once.
fn step(now: f64, demand: f64) -> f64 {
    demand.min((now * 2.0).max(10.0)).max(now + 1.0)
}

fn max_db_connections(p: &Pooler) -> Verdict {
    let (pools, objective) = (p.pools.as_ref()?, p.wait_objective?);
    let found = p.limits.iter().filter_map(|(database, limit)| {
        let own = || pools.iter().filter(|pool| pool.database == *database);
        let worst = own()
            .filter(|pool| pool.limited.looks >= OFTEN)
            .max_by(|a, b| a.limited.longest.total_cmp(&b.limited.longest))?;
        let evidence = format!(
            "Clients of user {} waited for up to {} (the objective is {}) while all of max_db_connections \
             ({limit:.0}) was taken, at {:.0} of {:.0} looks in {}.",
            worst.user,
            seconds(worst.limited.longest),
            seconds(objective),
            worst.limited.looks,
            worst.looks,
            seconds(p.span)
        );
        let advice = format!(
            "Raise max_db_connections in the line of the database under [databases], or in [pgbouncer] where \
             it stands there: its pools have sizes of {:.0} together, for which max_connections of the server \
             must have room; or make the pools of other users smaller. {RELOAD}",
            own().filter_map(|pool| pool.size).sum::<f64>()
        );
        let finding = Finding::new(Subject::Pool(database.clone(), None), evidence)
            .figure("wait", worst.limited.longest, Unit::Seconds)
            .figure("objective", objective, Unit::Seconds)
            .figure("limit", *limit, Unit::Count)
            .advice(advice);
        Some(finding)
    });
    Some(found.collect())
}

fn max_client_conn(p: &Pooler) -> Verdict {
    let (clients, most) = (p.clients?, p.number("max_client_conn")?);
    if clients <= most * 0.8 {
        return none();
    }
    let evidence =
        format!("At most {clients:.0} of {most:.0} client connections were used at once.");
    let advice = format!(
        "An idle client costs PgBouncer a few kB and a file: its \
         limit of open files must allow for this and all server connections. {RELOAD}"
    );
    // So that the peak is half of it.
    one(evidence, advice, Some(format!("max_client_conn = {:.0}", clients * 2.0)))
}

fn server_lifetime(p: &Pooler) -> Verdict {
    if p.number("server_lifetime")? > 0.0 {
        return none();
    }
    let advice = format!("0 is not without end. 3600 is the default. {RELOAD}");
    one("server_lifetime is 0.".to_owned(), advice, Some("server_lifetime = 3600".to_owned()))
}

fn mode(p: &Pooler) -> Verdict {
    let pools = p.pools.as_ref()?;
    let mut by_database: BTreeMap<&str, Vec<&Pool>> = BTreeMap::new();
    for pool in pools {
        pool.mode?;
        by_database.entry(&pool.database).or_default().push(pool);
    }
    // Transactions are counted by database, so all of its pools must hold their servers alike.
    let session = |pools: &Vec<&Pool>| pools.iter().all(|p| p.mode == Some(PoolMode::Session));
    by_database.retain(|_, pools| session(pools));
    if !by_database.is_empty() && p.span < ENOUGH {
        return None;
    }
    let found = by_database.into_iter().filter_map(|(database, pools)| {
        let full = |pool: &&&Pool| pool.size.is_some_and(|size| pool.peak >= size * 0.8);
        let fullest = pools.iter().filter(full).max_by(|a, b| a.peak.total_cmp(&b.peak))?;
        let work = p.work.get(database)?;
        // A transaction counts when it ends: were there few, most of the time might be one that goes on.
        if work.held <= 0.0 || work.count * ENOUGH < work.held {
            return None;
        }
        let share = work.transactions / work.held;
        if share >= 0.2 {
            return None;
        }
        let evidence = format!(
            "User {} held {:.0} of {:.0} server connections at the peak. Those of the database were in \
             transactions for {:.0} % of the time for which clients held them ({:.0} transactions in {}).",
            fullest.user,
            fullest.peak,
            fullest.size.unwrap_or_default(),
            share * 100.0,
            work.count,
            seconds(p.span)
        );
        let advice = format!(
            "With pool_mode=transaction in the database's line under [databases] a connection serves another \
             client after each transaction; {:.1} were in one on average. It breaks what a client keeps in \
             its session: SET, LISTEN, session-level advisory locks, temporary tables and WITH HOLD cursors \
             beyond a transaction, LOAD, PREPARE in SQL; prepared statements of the protocol need \
             max_prepared_statements (1.21 and later).",
            work.transactions / p.span
        );
        let finding = Finding::new(Subject::Pool(database.to_owned(), None), evidence)
            .figure("in_transaction", share, Unit::Ratio)
            .advice(advice);
        Some(finding)
    });
    Some(found.collect())
}

fn prepared_statements(p: &Pooler) -> Verdict {
    let pools = p.pools.as_ref()?;
    if p.settings.is_empty() {
        return None;
    }
    let mut shared = BTreeSet::new();
    for pool in pools {
        if pool.mode? != PoolMode::Session {
            shared.insert(pool.database.as_str());
        }
    }
    let setting = p.number("max_prepared_statements");
    if shared.is_empty() || setting.is_some_and(|most| most > 0.0) {
        return none();
    }
    let (what, setting, line) = match setting {
        Some(_) => (
            "max_prepared_statements is 0",
            RELOAD.to_owned(),
            Some("max_prepared_statements = 200".to_owned()),
        ),
        None => (
            "this PgBouncer has no max_prepared_statements",
            "PgBouncer 1.21 and later have it, 1.24 and later with 200 by default.".to_owned(),
            None,
        ),
    };
    let names: Vec<&str> = shared.iter().take(3).copied().collect();
    let more = if shared.len() > names.len() { " and others" } else { "" };
    let evidence = format!(
        "{} in transaction or statement mode, and {what}.",
        match names.as_slice() {
            [name] => format!("Database {name} is"),
            names => format!("Databases {}{more} are", names.join(", ")),
        }
    );
    let advice = format!(
        "`pgrunway bench` measures what planning costs. PREPARE in SQL stays unsupported. {setting}"
    );
    one(evidence, advice, line)
}

fn query_wait_timeout(p: &Pooler) -> Verdict {
    if p.number("query_wait_timeout")? > 0.0 {
        return none();
    }
    let advice = format!("120 is the default. {RELOAD}");
    let evidence = "query_wait_timeout is 0: no end.".to_owned();
    one(evidence, advice, Some("query_wait_timeout = 120".to_owned()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::fixtures;
