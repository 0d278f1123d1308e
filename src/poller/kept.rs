//! The first worker of a target: it holds one connection for what is asked of the server as a whole, and
//! what it meets says whether the server is up.
//!
//! Must not: overlap two runs of a collector, or open a connection before the last one is closed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Stop;
use super::Target;
use super::board::Board;
use super::job::{Ended, Job, Run};
use super::leftovers::Leftovers;
use super::retry::{Announcer, CADENCE, Retry, turn};
use crate::config::TargetKind;
use crate::error::{CollectError, ConnectError, Cost};
use crate::pg::{Clock, Quota, Session, settle};
use crate::remedy::quote::ident;

/// The kept connection is tried at least this often, so that `pg_up` is true even when every
/// collector of the server is switched off or slow.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A server that left a query without an answer is down unless a new session can be had in this time.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the second worker has to give up its connection for this one.
const YIELD: Duration = Duration::from_secs(2);
const BACKENDS: &str = "backends that were given up do not end";

/// The worker on the kept connection.
pub(super) struct Kept {
    target: Arc<Target>,
    board: Arc<Board>,
    clock: Clock,
    quota: Quota,
    /// What the target turned out to be last; the jobs are those for it.
    kind: TargetKind,
    jobs: Vec<Job>,
    session: Option<Session>,
    leftovers: Leftovers,
    announcer: Announcer,
    /// Why the last session was given up, where the server left it without an answer.
    unanswered: Option<Arc<str>>,
    /// When the server that answered last was started.
    started: Option<f64>,
    /// Whether the last thing said of the role was that it sees little.
    blind: bool,
    search: Search,
    /// Whether to look for another database, which begins with a new session.
    searching: bool,
}

/// First and longest pause between two searches for a database in which an extension may be read: each
/// costs a few connections.
const FIRST_SEARCH: Duration = Duration::from_secs(30);
const LONGEST_SEARCH: Duration = Duration::from_secs(900);

/// When the next search is due.
struct Search {
    due: Instant,
    pause: Duration,
}

impl Default for Search {
    fn default() -> Self {
        Self { due: Instant::now() + FIRST_SEARCH, pause: FIRST_SEARCH }
    }
}

impl Search {
    /// Whether it is time; if so, the next time is later.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.due {
            return false;
        }
        self.pause = (self.pause * 2).min(LONGEST_SEARCH);
        self.due = now + self.pause;
        true
    }
}

/// How a session came to its end.
enum Over {
    /// We were told to stop.
    Stopped,
    /// The next one may be opened after this pause.
    After(Duration),
}

impl Kept {
    pub(super) fn new(
        target: Arc<Target>,
        board: Arc<Board>,
        clock: Clock,
        quota: Quota,
        kind: TargetKind,
    ) -> Self {
        Self {
            jobs: jobs(&target, kind),
            target,
            board,
            clock,
            quota,
            kind,
            session: None,
            leftovers: Leftovers::default(),
            announcer: Announcer::default(),
            unanswered: None,
            started: None,
            blind: false,
            search: Search::default(),
            searching: false,
        }
    }

    /// Polls until it is told to stop.
    pub(super) async fn run(&mut self, mut stop: Stop) {
        let mut retry = Retry::default();
        loop {
            let mut freed = self.quota.freed();
            let began = Instant::now();
            let (pause, held) = match self.connect().await {
                Ok(session) => match self.poll(session, &mut retry, &mut stop).await {
                    Over::Stopped => return,
                    Over::After(pause) => (pause, false),
                },
                Err(e) => {
                    let held = matches!(e, ConnectError::Held { .. });
                    (retry.after(e.cost(), began.elapsed()), held)
                }
            };
            tokio::select! {
                () = async { sleep(pause).await; turn().await } => {}
                // As soon as a place is free there is no reason to wait.
                _ = freed.changed(), if held => {}
                () = stop.asked() => return,
            }
        }
    }

    /// Polls as long as the session lasts.
    async fn poll(&mut self, mut session: Session, retry: &mut Retry, stop: &mut Stop) -> Over {
        if self.leftovers.too_many(&session).await {
            self.announcer.lost("the server", BACKENDS);
            self.board.set_down("held", BACKENDS);
            session.close().await;
            return Over::After(super::retry::LONGEST);
        }
        let mut settled = false;
        let mut cause = None;
        while !session.is_broken() {
            let heartbeat = Instant::now() + HEARTBEAT;
            let due = self.next_due().min(heartbeat);
            if !settled && due > Instant::now() {
                // Every collector that was due has run: the session can be relied on.
                settled = true;
                *retry = Retry::default();
                self.announcer.works("the server");
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = session.over() => break,
                () = stop.asked() => {
                    session.close().await;
                    return Over::Stopped;
                }
            }
            if session.is_broken() {
                break;
            }
            cause = self.turn_of_one(&mut session, due).await.or(cause);
            if std::mem::take(&mut self.searching) && !session.is_broken() {
                let least = CADENCE.saturating_sub(session.age());
                session.close().await;
                return Over::After(least);
            }
        }
        // An answer that did not come says that the server is silent; a connection that ended says
        // nothing yet: the next attempt follows at once, and its failure is what is told.
        self.unanswered = cause.as_ref().filter(|(_, deadline)| *deadline).map(|(e, _)| e.clone());
        let idled_out = session.is_idled_out();
        let least = CADENCE.saturating_sub(session.age());
        if idled_out {
            // The server does not want idle sessions: one is opened when there is something to ask.
            let due = self.next_due().min(Instant::now() + HEARTBEAT);
            return Over::After(due.saturating_duration_since(Instant::now()).max(least));
        }
        if settled {
            return Over::After(least);
        }
        let cause = cause.map_or_else(|| "the server closes them".into(), |(cause, _)| cause);
        self.announcer.lost("the server", &cause);
        Over::After(retry.after(Cost::Much, Duration::ZERO))
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + HEARTBEAT * 2;
        self.jobs.iter().map(Job::due).min().unwrap_or(far)
    }

    /// Runs what is due, or asks for a sign of life. Gives the error of what cost the session, and
    /// whether it is that no answer came.
    async fn turn_of_one(
        &mut self,
        session: &mut Session,
        due: Instant,
    ) -> Option<(Arc<str>, bool)> {
        let next = (0..self.jobs.len()).min_by_key(|i| self.jobs.get(*i).map(Job::due));
        let next = next.filter(|i| self.jobs.get(*i).is_some_and(|job| job.due() <= due));
        let Some(next) = next else { return self.heartbeat(session).await };
        let mut ended = self.run_one(next, session, Run::First).await;
        if ended == Ended::Again && !session.is_broken() {
            self.refresh(session).await;
            ended = self.run_one(next, session, Run::Last).await;
        }
        match ended {
            Ended::Done | Ended::Again => None,
            Ended::FactsDoubted => {
                let needs = self.jobs.get(next).is_some_and(|job| job.need().is_some());
                self.searching = needs && self.search.is_due();
                self.refresh(session).await;
                None
            }
            Ended::SessionBroken { left_behind } => {
                if left_behind {
                    self.leftovers.add(session);
                }
                let cause = self.jobs.get(next).and_then(Job::error);
                cause.map(|cause| (cause, left_behind))
            }
        }
    }

    async fn run_one(&mut self, i: usize, session: &Session, run: Run) -> Ended {
        match self.jobs.get_mut(i) {
            Some(job) => job.run(session, &self.board, run).await,
            None => Ended::Done,
        }
    }

    async fn heartbeat(&mut self, session: &mut Session) -> Option<(Arc<str>, bool)> {
        match session.ping().await {
            Ok(()) => None,
            Err(CollectError::Changed) => {
                self.refresh(session).await;
                None
            }
            Err(e) => Some((e.to_string().into(), matches!(e, CollectError::Deadline(_)))),
        }
    }

    async fn refresh(&mut self, session: &mut Session) {
        session.refresh().await;
        self.learn(session);
    }

    /// Runs every collector once, due or not.
    pub(super) async fn run_all(&mut self) {
        if let Some(session) = &self.session {
            for job in &mut self.jobs {
                let ended = job.run(session, &self.board, Run::Last).await;
                if matches!(ended, Ended::SessionBroken { .. }) {
                    break;
                }
            }
        }
    }

    /// Has a session that [`Kept::run_all`] can use.
    pub(super) async fn prepare(&mut self) -> bool {
        if self.session.as_ref().is_none_or(Session::is_broken) {
            self.session = self.connect().await.ok();
        }
        self.session.is_some()
    }

    async fn connect(&mut self) -> Result<Session, ConnectError> {
        let mut opened = self.open().await;
        if matches!(opened, Err(ConnectError::Held { .. })) && !*self.quota.claimed().borrow() {
            // Whether the server is up matters more than what is in its databases.
            let mut freed = self.quota.freed();
            self.quota.claim(true);
            let _ = timeout(YIELD, freed.changed()).await;
            opened = self.open().await;
        }
        if opened.as_ref().is_err_and(ConnectError::is_lost_session) {
            // Somebody ended it as soon as it was there, which says nothing of the server.
            opened = self.open().await;
        }
        let opened = match opened {
            Ok(session) => self.settle(session).await,
            Err(e) => Err(e),
        };
        match opened {
            Ok(session) => {
                self.quota.claim(false);
                self.unanswered = None;
                if session.kind() != self.kind {
                    self.kind = session.kind();
                    self.jobs = jobs(&self.target, self.kind);
                    self.board.set_kind(super::of(self.kind));
                }
                let back = !self.board.is_up();
                self.learn(&session);
                let now = Instant::now();
                let started = session.server().started;
                let anew = self.started.replace(started).is_some_and(|before| before != started);
                if anew {
                    self.jobs.iter_mut().for_each(|job| job.forgive(true));
                }
                if back || anew {
                    self.jobs.iter_mut().for_each(|job| job.resume(now));
                }
                Ok(session)
            }
            Err(e) => {
                self.jobs.iter_mut().for_each(|job| job.forgive(false));
                // That nothing may be opened while it leaves us without an answer is not the cause.
                let held = matches!(e, ConnectError::Held { .. });
                let (kind, why) = match self.unanswered.as_deref().filter(|_| held) {
                    Some(cause) => ("deadline", cause.to_owned()),
                    None => (e.kind(), e.to_string()),
                };
                self.board.set_down(kind, &why);
                self.announcer.fails("the server", kind, &why);
                Err(e)
            }
        }
    }

    /// The session, or one where the extension that a collector needs is better read.
    async fn settle(&self, session: Session) -> Result<Session, ConnectError> {
        let Target { connect, databases, .. } = &*self.target;
        match self.target.kept(TargetKind::Server).iter().find_map(|c| c.need()) {
            Some(need) => settle(session, connect, need, databases, Some(&self.quota)).await,
            None => Ok(session),
        }
    }

    async fn open(&mut self) -> Result<Session, ConnectError> {
        let (target, clock) = (&self.target, self.clock);
        let settings = target.settings.clone();
        let quota = Some(&self.quota);
        let opening = Session::connect_within(&target.connect, None, settings, clock, quota);
        let mut opening = pin!(opening);
        if let Some(cause) = &self.unanswered
            && self.board.is_up()
        {
            match timeout(SILENCE, &mut opening).await {
                Ok(opened) => return opened,
                Err(_) => self.board.set_down("deadline", cause),
            }
        }
        opening.await
    }

    /// Puts what is known of the server on the board, and tells once of a role that sees little.
    fn learn(&mut self, session: &Session) {
        let server = session.server();
        self.board.set_up(session);
        let blind = session.kind() == TargetKind::Server && !server.reads_all_stats;
        if blind && !self.blind {
            tracing::warn!(
                role = server.role,
                "the role sees its own sessions only: alerts on transactions, locks and \
                 replication cannot fire: GRANT pg_monitor TO {}",
                ident(&server.role)
            );
        } else if self.blind && !blind {
            tracing::info!(role = server.role, "the role sees all sessions now");
        }
        self.blind = blind;
    }
}

fn jobs(target: &Target, kind: TargetKind) -> Vec<Job> {
    target.kept(kind).into_iter().map(|c| Job::new(c, None, &target.settings)).collect()
}
