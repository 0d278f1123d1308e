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
use tokio::time::{Instant, sleep, sleep_until, timeout};

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

/// How long the workers may take to end what they are at and to close their sessions.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Tells a worker to stop.
struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when it is told to, or when nobody is left to tell it.
    async fn asked(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Polls one target until stopped or dropped.
pub struct Poller {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
    _publisher: JoinSet<()>,
}

impl Poller {
    /// Starts polling. Must be called inside a tokio runtime.
    pub fn start(target: Target) -> Self {
        let (board, mut kept, mut walker) = parts(target);
        let (tx, snapshots) = watch::channel(Arc::new(board.snapshot(Instant::now())));
        let (stop, stopped) = watch::channel(false);
        let (mut workers, mut publisher) = (JoinSet::new(), JoinSet::new());
        let for_kept = Stop(stopped.clone());
        workers.spawn(async move { kept.run(for_kept).await });
        workers.spawn(async move { walker.run(Stop(stopped)).await });
        publisher.spawn(async move {
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
        Self { snapshots, stop, workers, _publisher: publisher }
    }

    /// Lets the workers end what they are at and close their sessions, for a second at the most, so
    /// that the server's log does not tell of clients that vanished.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ =
            timeout(STOP_LIMIT, async { while self.workers.join_next().await.is_some() {} }).await;
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
