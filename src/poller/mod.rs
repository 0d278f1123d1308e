//! Turns the crank for one target: two workers, each with one connection, run the collectors that
//! are due and put the results on a board; the board is published as snapshots.
//!
//! Must not: let one collector, one database or a silent server hold up what is not concerned, hold
//! more than two connections, or keep state outside the target.

mod board;
mod job;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::collector::{AnyCollector, Scope};
use crate::config::{Connect, DatabaseFilter, Settings};
use crate::pg::Clock;
use crate::snapshot::Snapshot;
use board::Board;
use worker::{Kept, Walker};

/// Least time between two snapshots, so that rendering costs the same however many collectors run.
const PUBLISH_SPACING: Duration = Duration::from_millis(500);
/// A snapshot is published at least this often, so that what went stale disappears in time.
const PUBLISH_AT_LEAST: Duration = Duration::from_secs(5);

/// One server and what to collect from it.
#[derive(Clone)]
pub struct Target {
    /// How to reach it.
    pub connect: Connect,
    /// Which databases to walk.
    pub databases: DatabaseFilter,
    /// What the collectors read.
    pub settings: Arc<Settings>,
    /// The collectors to run.
    pub collectors: Vec<&'static dyn AnyCollector>,
}

impl Target {
    fn of_scope(&self, scope: Scope) -> Vec<&'static dyn AnyCollector> {
        self.collectors.iter().copied().filter(|c| c.scope() == scope).collect()
    }
}

/// Polls one target until dropped.
pub struct Poller {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    _tasks: JoinSet<()>,
}

impl Poller {
    /// Starts polling. Must be called inside a tokio runtime.
    pub fn start(target: Target) -> Self {
        let (board, mut kept, mut walker) = parts(target);
        let (tx, snapshots) = watch::channel(Arc::new(board.snapshot(Instant::now())));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { kept.run().await });
        tasks.spawn(async move { walker.run().await });
        tasks.spawn(async move {
            loop {
                let at_least = Instant::now() + PUBLISH_AT_LEAST;
                tokio::select! {
                    () = board.changed() => {}
                    () = sleep_until(at_least) => {}
                }
                tx.send_replace(Arc::new(board.snapshot(Instant::now())));
                sleep(PUBLISH_SPACING).await;
            }
        });
        Self { snapshots, _tasks: tasks }
    }

    /// The latest snapshot, and a notice of each new one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

/// Collects everything twice, `over` apart, and gives the snapshot after the second time.
pub async fn collect_twice(target: Target, over: Duration) -> Snapshot {
    let (board, mut kept, mut walker) = parts(target);
    for round in 0..2 {
        if round > 0 {
            sleep(over).await;
        }
        tokio::join!(kept.run_all(), walker.run_all());
    }
    board.snapshot(Instant::now())
}

fn parts(target: Target) -> (Arc<Board>, Kept, Walker) {
    let target = Arc::new(target);
    let clock = Clock::start();
    let board = Arc::new(Board::new(target.connect.describe()));
    let kept = Kept::new(target.clone(), board.clone(), clock);
    let walker = Walker::new(target, board.clone(), clock);
    (board, kept, walker)
}
