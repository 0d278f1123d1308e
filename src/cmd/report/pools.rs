//! The poolers of the configuration's list of targets: watched beside the server, on their consoles, by the
//! exporter's own collector; and the section about their pools.
//!
//! Must not: lose the report to a pooler that is away (that is noted), or judge.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::document::{Block, Cell, Line, Table, figure, name, words};
use crate::collector::Collector;
use crate::collectors::pgbouncer::{PgBouncer, State};
use crate::config::{Config, TargetConfig, TargetKind};
use crate::derive::units::seconds;
use crate::findings::{Pool, PoolMode, Pooler};
use crate::pg::{Clock, Session};

/// Between two looks at a console, at the least and at the most: queues come and go.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);

/// A pooler and what was seen of it.
#[derive(Debug, Clone)]
pub struct WatchedPooler {
    /// Its name in the file.
    pub name: String,
    /// PgBouncer's version, as it tells it.
    pub version: String,
    /// For the rules, and for the section.
    pub facts: Pooler,
}

/// Watches all poolers of the file for `over`, on a connection each. What went wrong is told beside.
pub async fn watch(
    config: &Config,
    over: Duration,
    clock: Clock,
) -> (Vec<WatchedPooler>, Vec<String>) {
    let end = Instant::now() + over;
    let step = (over / 120).clamp(SHORTEST, LONGEST);
    let poolers = config.targets().iter().filter(|t| t.expected == TargetKind::Pooler);
    let (mut watched, mut notes) = (Vec::new(), Vec::new());
    for (seen, note) in join_all(poolers.map(|target| one(target, end, step, clock))).await {
        watched.extend(seen);
        notes.extend(note);
    }
    (watched, notes)
}

async fn one(
    target: &TargetConfig,
    end: Instant,
    step: Duration,
    clock: Clock,
) -> (Option<WatchedPooler>, Option<String>) {
    let note = |e: &dyn std::fmt::Display| Some(format!("pooler {}: {e}", target.name));
    let session = Session::connect(&target.connect, None, target.settings.clone(), clock).await;
    let session = match session {
        Ok(session) => session,
        Err(e) => return (None, note(&e)),
    };
    let mut state = State::default();
    let mut watched = None;
    let failed = loop {
        match PgBouncer.fetch(&session, &state).await {
            Ok(rows) => {
                watched = Some(WatchedPooler {
                    name: target.name.clone(),
                    version: session.server().version.clone(),
                    facts: state.facts(&rows),
                });
            }
            Err(e) => break note(&e),
        }
        let now = Instant::now();
        if now >= end {
            break None;
        }
        sleep_until(end.min(now + step)).await;
    };
    session.close().await;
    (watched, failed)
}

/// The section, where the file lists poolers.
pub fn section(poolers: &[WatchedPooler], out: &mut Vec<Block>) {
    if poolers.is_empty() {
        return;
    }
    out.push(Block::Section("pools", "Pools"));
    for pooler in poolers {
        out.push(Block::Heading(pooler.name.clone()));
        let facts = &pooler.facts;
        let clients = match (facts.clients, facts.settings.get("max_client_conn")) {
            (Some(most), Some(limit)) => {
                format!(" {most:.0} of {limit:.0} client connections were used at the peak.")
            }
            _ => String::new(),
        };
        out.push(Block::Text(Line::from(format!("{}.{clients}", pooler.version))));
        let head = vec![
            "database",
            "user",
            "mode",
            "pool size",
            "most in use",
            "most waiting",
            "longest wait",
        ];
        let rows = facts.pools.iter().flatten().map(row).collect();
        out.push(Block::Table(Table { head, rows }));
        out.push(Block::Source(format!(
            "SHOW POOLS, DATABASES, USERS and LISTS, watched for {}; what changed between two readings is not \
             included",
            seconds(facts.span)
        )));
    }
}

fn row(pool: &Pool) -> Vec<Cell> {
    let mode = match pool.mode {
        Some(PoolMode::Session) => "session",
        Some(PoolMode::Transaction) => "transaction",
        Some(PoolMode::Statement) => "statement",
        None => "–",
    };
    let count = |n: f64| figure(Some(format!("{n:.0}")));
    vec![
        name(pool.database.as_str()),
        name(pool.user.as_str()),
        words(mode),
        figure(pool.size.map(|n| format!("{n:.0}"))),
        count(pool.peak),
        count(pool.waiting),
        figure(Some(seconds(pool.wait))),
    ]
}
