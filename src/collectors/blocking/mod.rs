//! Who holds up whom: the sessions and prepared transactions at the roots of all waits for locks, how many wait behind
//! each and for how long; the whole tree on the console.
//!
//! Must not: label by process but for a few that have held others up for too long, or show a statement's text that
//! nobody asked for.

mod catalogue;
mod read;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Pacing, Scope};
use crate::derive::blocking::RootBlocker;
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use catalogue as m;
pub use read::{BlockingRow, Rows};
use tree::WaitTree;

/// Blockers with series of their own.
const WORST: usize = 5;

published! {
    /// `pg_root_blocker_held_up_sessions`.
    pub struct HeldUp of m::HELD_UP { datname => sessions: f64 }
}
published! {
    /// `pg_root_blocker_overdue_sessions`.
    pub struct HeldUpOverdue of m::OVERDUE { datname => sessions: f64 }
}
published! {
    /// `pg_root_blocker_longest_wait_seconds`.
    pub struct HeldUpLongest of m::LONGEST { datname => seconds: f64 }
}
published! {
    /// `pg_blocked_sessions_objective`.
    pub struct HeldUpObjective of m::OBJECTIVE { => sessions: f64 }
}

/// The collector of blockers.
pub struct Blocking;

/// What lives on between looks.
#[derive(Default)]
pub struct State {
    /// How long the last look took on the server, in seconds.
    took: Option<f64>,
}

impl Collector for Blocking {
    type Rows = Rows;
    type State = State;

    const NAME: &'static str = "blocking";
    const HELP: &'static str = "Which sessions block others, how many and for how long.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(2);
    const METRICS: &'static [&'static Metric] = m::METRICS;
    const PACE: Option<Pacing> = Some(Pacing {
        shortest: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        share: 0.005,
        jitter: false,
        quiet: false,
    });

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        read::read(session).await
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let clock = |line: &&BlockingRow| line.kind == "clock";
        let clocks = rows.lines.iter().filter(clock).filter_map(|line| line.seconds);
        let (first, last) = clocks.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), clock| {
            (min.min(clock), max.max(clock))
        });
        state.took = Some(last - first).filter(|took| (0.0..60.0).contains(took));
        sink.number(&m::LOOK, &[], state.took);
        sink.number(&m::OBJECTIVE, &[], rows.most as f64);
        if rows.sees_all {
            emit(&rows, sink);
        }
    }

    fn cost(&self, state: &State) -> Option<Duration> {
        state.took.and_then(|took| Duration::try_from_secs_f64(took).ok())
    }
}

/// What is said of a database.
#[derive(Default)]
struct Most {
    held_up: usize,
    overdue: usize,
    longest: Option<f64>,
}

fn emit(rows: &Rows, sink: &mut Sink) {
    let tree = WaitTree::new(&rows.lines);
    let named = rows.lines.iter().filter(|line| line.kind == "database");
    let mut databases: BTreeMap<&str, Most> =
        named.filter_map(|line| line.datname.as_deref()).map(|d| (d, Most::default())).collect();
    let mut states: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for root in &tree.graph.roots {
        let (datname, state) = (tree.datname(root.id), tree.state(root.id));
        *states.entry((datname, state)).or_default() += 1;
        let most = databases.entry(datname).or_default();
        most.held_up = most.held_up.max(root.held_up.len());
        most.overdue = most.overdue.max(tree.overdue(root, rows.objective));
        most.longest = Some(most.longest.unwrap_or(0.0).max(root.longest));
    }
    for (datname, most) in databases {
        sink.number(&m::HELD_UP, &[datname], most.held_up as f64);
        sink.number(&m::OVERDUE, &[datname], most.overdue as f64);
        sink.number(&m::LONGEST, &[datname], most.longest);
    }
    for ((datname, state), count) in states {
        sink.number(&m::ROOTS, &[datname, state], count as f64);
    }
    sink.number(&m::IN_CIRCLE, &[], tree.graph.in_circle.len() as f64);
    sink.number(&m::UNRESOLVED, &[], tree.graph.unresolved as f64);
    worst(rows, &tree, sink);
    if let Some(text) = tree.text() {
        sink.show(text);
    }
}

/// Those that hold up most, once that has lasted too long: how many of them there are in a day is bounded by that. Two
/// prepared transactions that only their names tell apart are one series.
fn worst(rows: &Rows, tree: &WaitTree<'_>, sink: &mut Sink) {
    let overdue = |root: &&RootBlocker| tree.overdue(root, rows.objective) > 0;
    let mut series: BTreeMap<[String; 6], f64> = BTreeMap::new();
    for root in tree.graph.roots.iter().filter(overdue).take(WORST) {
        *series.entry(tree.labels(root.id)).or_default() += root.held_up.len() as f64;
    }
    for (labels, held_up) in series {
        sink.number(&m::WORST, &labels.each_ref().map(String::as_str), held_up);
    }
}
