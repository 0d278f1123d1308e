//! Turns the crank for one target: two workers, each with one connection, run the collectors that
//! are due and put the results on a board; the board is published as snapshots.
//!
//! Must not: let one collector, one database or a silent server hold up what is not concerned, hold
//! more than two connections, or keep state outside the target.

mod board;
mod job;
mod kept;
mod leftovers;
mod retry;
mod room;
mod told;
mod walker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument, Span};

use crate::clock::{Clock, Time};
use crate::collector::{Handle, Scope};
use crate::config::{Compatibility, Connect, DatabaseFilter, Exposed, Settings, TargetKind};
use crate::metric::Dress;
use crate::pg::Quota;
use crate::snapshot::{Of, Snapshot};
use board::Board;
use kept::Kept;
use walker::Walker;

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
    pub collectors: Vec<Handle>,
}

impl Target {
    /// The collectors that are due on the kept connection.
    fn kept(&self, kind: TargetKind) -> Vec<Handle> {
        self.of_scope(match kind {
            TargetKind::Server => Scope::Server,
            TargetKind::Pooler => Scope::Pooler,
        })
    }

    fn of_scope(&self, scope: Scope) -> Vec<Handle> {
        self.collectors.iter().filter(|c| c.scope() == scope).cloned().collect()
    }

    /// Those that run inside a database. What is of use in every database leaves out those that are not to be visited;
    /// what the user asks of the one that the connection string names, none.
    fn inside(&self, datname: &str, home: bool) -> Vec<Handle> {
        let visited = self.databases.admits(datname);
        let mut all = self.of_scope(Scope::Database);
        all.retain(|c| c.is_for(datname, home) && (visited || (home && c.is_guest())));
        all
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

    /// True once it may begin, false if it is told to stop before.
    async fn granted(&mut self, free: &mut watch::Receiver<bool>) -> bool {
        tokio::select! {
            // Whoever could say that it may not has ended: it may.
            _ = free.wait_for(|free| *free) => true,
            () = self.asked() => false,
        }
    }

    /// True at that time, false if it is told to stop before.
    async fn until(&mut self, then: Instant) -> bool {
        tokio::select! {
            () = sleep_until(then) => true,
            () = self.asked() => false,
        }
    }
}

/// What a target is now, for whoever asks: while its poller replaces another one and has not tried yet, what that
/// one knew.
#[derive(Clone)]
pub struct TargetView {
    target: Arc<Target>,
    board: Arc<Board>,
    before: Option<Arc<Board>>,
}

impl TargetView {
    /// Everything that is still true.
    pub fn snapshot(&self) -> Snapshot {
        self.known().snapshot(Time::now())
    }

    /// Whether there is nothing to wait for: it could not be reached, or every collector has run once, those that
    /// look inside databases in each that was entered so far.
    pub fn is_complete(&self) -> bool {
        match self.board.up() {
            None => false,
            Some(false) => true,
            Some(true) => {
                let kind = match self.board.of() {
                    Of::Pooler => TargetKind::Pooler,
                    Of::Server | Of::Exporter => TargetKind::Server,
                };
                let names = |all: Vec<Handle>| -> Vec<Arc<str>> {
                    all.iter().map(|c| c.name().into()).collect()
                };
                let home = &self.target.connect.dbname;
                let inside = |datname: &str| names(self.target.inside(datname, datname == home));
                let walks =
                    kind == TargetKind::Server && !self.target.of_scope(Scope::Database).is_empty();
                (!walks || self.board.has_databases())
                    && self.board.has_run(&names(self.target.kept(kind)), |datname| {
                        if walks { inside(datname) } else { Vec::new() }
                    })
            }
        }
    }

    /// The board that it is read from now.
    fn known(&self) -> &Arc<Board> {
        match &self.before {
            Some(before) if self.board.up().is_none() => before,
            _ => &self.board,
        }
    }

    /// Whether the target answered last, `None` before the first try.
    pub fn up(&self) -> Option<bool> {
        self.known().up()
    }
}

/// One of several targets.
pub struct Named<'a> {
    /// Its name in the log.
    pub name: &'a str,
    /// Whether its series wear its name as the label `server`, since they share a page with others'.
    pub grouped: bool,
    /// What it is taken for until it was asked.
    pub expected: TargetKind,
    /// Pause before it is tried, so that not all are at once.
    pub delay: Duration,
}

/// Polls one target and publishes a snapshot of it at each change, until stopped or dropped.
pub struct Poller {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    workers: Workers,
    _publisher: JoinSet<()>,
}

impl Poller {
    /// Starts polling. Must be called inside a tokio runtime.
    pub fn start(target: Target) -> Self {
        Self::instead_of(None, target)
    }

    /// The same in the place of another one, which ends first: no server has more connections for it.
    pub fn instead_of(before: Option<Self>, target: Target) -> Self {
        let expected = target.connect.expected();
        let before = before.map(|poller| poller.workers);
        let workers = Workers::start(before, target, expected, None, Duration::ZERO, &Span::none());
        let (board, view) = (workers.board.clone(), workers.view());
        let (tx, snapshots) = watch::channel(Arc::new(view.snapshot()));
        let mut publisher = JoinSet::new();
        publisher.spawn(async move {
            loop {
                let at_least = Instant::now() + PUBLISH_AT_LEAST;
                tokio::select! {
                    () = board.changed() => {}
                    () = sleep_until(at_least) => {}
                }
                tx.send_replace(Arc::new(view.snapshot()));
                sleep(PUBLISH_SPACING).await;
            }
        });
        Self { snapshots, workers, _publisher: publisher }
    }

    /// Lets the workers end what they are at and close their sessions, for a second at the most, so
    /// that the server's log does not tell of clients that vanished.
    pub async fn stop(self) {
        self.workers.stop().await;
    }

    /// The latest snapshot, and a notice of each new one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

/// Polls one of several targets, until stopped or dropped. Nothing is published: with a thousand
/// targets it is cheaper to look when somebody asks.
pub struct NamedPoller(Workers);

impl NamedPoller {
    /// Starts polling; what is logged of the target bears its name. Must be called inside a tokio
    /// runtime.
    pub fn start(target: Target, named: &Named<'_>) -> Self {
        Self::instead_of(None, target, named)
    }

    /// The same in the place of another one, which ends first: no server has more connections for it.
    pub fn instead_of(before: Option<Self>, target: Target, named: &Named<'_>) -> Self {
        // Of the highest level, or a log of errors alone would not tell of whom it speaks.
        let span = tracing::error_span!("target", name = named.name);
        let server = named.grouped.then_some(named.name);
        let before = before.map(|Self(workers)| workers);
        Self(Workers::start(before, target, named.expected, server, named.delay, &span))
    }

    /// As [`Poller::stop`].
    pub async fn stop(self) {
        self.0.stop().await;
    }

    /// What the target is, whenever it is asked for.
    pub fn view(&self) -> TargetView {
        self.0.view()
    }
}

/// The two workers of a target.
struct Workers {
    target: Arc<Target>,
    board: Arc<Board>,
    /// Of the workers that these replace.
    before: Option<Arc<Board>>,
    quota: Quota,
    /// When its first try is due.
    begins: Instant,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Workers {
    fn start(
        before: Option<Self>,
        target: Target,
        expected: TargetKind,
        server: Option<&str>,
        delay: Duration,
        span: &Span,
    ) -> Self {
        let target = Arc::new(target);
        // Connections that were given up count on where they lead to.
        let same = before
            .as_ref()
            .filter(|before| before.target.connect.endpoints == target.connect.endpoints);
        let quota = same.map(|before| before.quota.clone()).unwrap_or_default();
        // Whoever is replaced again before it was tried keeps its turn, however often that is.
        let begins = Instant::now() + delay;
        let untried = before.as_ref().filter(|before| before.board.up().is_none());
        let begins = untried.map_or(begins, |before| before.begins.min(begins));
        let (board, mut kept, mut walker) = parts(target.clone(), expected, server, quota.clone());
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let shown = before.as_ref().map(|before| before.view().known().clone());
        let (ended, mut free) = watch::channel(before.is_none());
        let mut free_for_walker = free.clone();
        tasks.spawn(async move {
            if let Some(before) = before {
                before.stop().await;
                ended.send_replace(true);
            }
        });
        let mut for_kept = Stop(stopped.clone());
        let kept = async move {
            if for_kept.until(begins).await && for_kept.granted(&mut free).await {
                kept.run(for_kept).await;
            }
        };
        let mut for_walker = Stop(stopped);
        let walker = async move {
            if for_walker.until(begins).await && for_walker.granted(&mut free_for_walker).await {
                walker.run(for_walker).await;
            }
        };
        tasks.spawn(kept.instrument(span.clone()));
        tasks.spawn(walker.instrument(span.clone()));
        Self { target, board, before: shown, quota, begins, stop, tasks }
    }

    fn view(&self) -> TargetView {
        let (target, board) = (self.target.clone(), self.board.clone());
        TargetView { target, board, before: self.before.clone() }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ =
            timeout(STOP_LIMIT, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// Collects everything twice, `over` apart, and gives the snapshot after the second time.
pub async fn collect_twice(target: Target, over: Duration) -> Snapshot {
    collect(target, &[Duration::ZERO, over]).await
}

/// Collects everything once.
pub async fn collect_once(target: Target) -> Snapshot {
    collect(target, &[Duration::ZERO]).await
}

/// Collects everything after each of these pauses, and gives the snapshot after the last time.
async fn collect(target: Target, pauses: &[Duration]) -> Snapshot {
    let expected = target.connect.expected();
    let (board, mut kept, mut walker) = parts(Arc::new(target), expected, None, Quota::default());
    for pause in pauses {
        sleep(*pause).await;
        if kept.prepare().await {
            tokio::join!(kept.run_all(), walker.run_all());
        }
    }
    board.snapshot(Time::now())
}

fn parts(
    target: Arc<Target>,
    expected: TargetKind,
    server: Option<&str>,
    quota: Quota,
) -> (Arc<Board>, Kept, Walker) {
    let clock = Clock::start();
    let dress = dress(&target.settings.exposed, server);
    let first = target.connect.endpoints.first();
    let compatible = target.settings.compatibility == Compatibility::PostgresExporter;
    let label = first.filter(|_| compatible).map(|endpoint| endpoint.to_string().into());
    let board = Board::new(target.connect.describe(), of(expected), label).dressed(dress);
    let board = Arc::new(board);
    let walker = Walker::new(target.clone(), board.clone(), clock, quota.for_second());
    let kept = Kept::new(target, board.clone(), clock, quota, expected);
    (board, kept, walker)
}

/// What the configuration puts on a target's series. The last of two labels of the same name counts.
fn dress(exposed: &Exposed, server: Option<&str>) -> Dress {
    let mut labels: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    let constant = exposed.constant_labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    for (name, value) in constant.chain(server.map(|server| ("server", server))) {
        labels.retain(|(known, _)| **known != *name);
        labels.push((name.into(), value.into()));
    }
    let prefix = (exposed.prefix != "pg").then(|| exposed.prefix.as_str().into());
    Dress { prefix, labels }
}

fn of(kind: TargetKind) -> Of {
    match kind {
        TargetKind::Server => Of::Server,
        TargetKind::Pooler => Of::Pooler,
    }
}
