//! The two workers of a target. [`Kept`] holds one connection for what is asked of the server as a
//! whole; [`Walker`] goes from database to database with the other.
//!
//! Must not: overlap two runs of a collector, or open a connection before the last one is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Target;
use super::board::Board;
use super::job::{Ended, Job};
use crate::collector::Scope;
use crate::error::{CollectError, ConnectError};
use crate::pg::{Clock, Session};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The kept connection is tried at least this often, so that `pg_up` is true even when every
/// collector of the server is switched off or slow.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The walker alone is refused (a limit on connections, most likely) if it fails so often in a row
/// while the kept connection is up; fewer failures are those of a server that has just gone.
const REFUSALS: u32 = 4;

/// Exponential, with jitter of a half, so that a fleet of exporters does not reconnect in step.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    fn next(&mut self) -> Duration {
        let full = self.0;
        self.0 = (full * 2).min(LONGEST_BACKOFF);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// Says once that something fails and once that it works again.
#[derive(Default)]
struct Announcer(Option<String>);

impl Announcer {
    fn failed(&mut self, what: &str, e: &ConnectError) {
        let message = e.to_string();
        if self.0.as_ref() != Some(&message) {
            tracing::warn!(kind = e.kind(), "{what}: {message}");
            self.0 = Some(message);
        }
    }

    /// The attempt to reconnect follows at once, and its end is what is told.
    fn lost(&mut self) {
        self.0.get_or_insert_default();
    }

    fn works(&mut self, what: &str) {
        if self.0.take().is_some() {
            tracing::info!("{what}: connected again");
        }
    }
}

/// The worker on the kept connection.
pub(super) struct Kept {
    target: Arc<Target>,
    board: Arc<Board>,
    clock: Clock,
    jobs: Vec<Job>,
    session: Option<Session>,
    announcer: Announcer,
}

impl Kept {
    pub(super) fn new(target: Arc<Target>, board: Arc<Board>, clock: Clock) -> Self {
        let jobs = target
            .of_scope(Scope::Server)
            .into_iter()
            .map(|c| Job::new(c, None, &target.settings))
            .collect();
        Self { target, board, clock, jobs, session: None, announcer: Announcer::default() }
    }

    /// Polls for ever.
    pub(super) async fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            if !self.connect().await {
                sleep(backoff.next()).await;
                continue;
            }
            backoff = Backoff::new();
            while let Some(mut session) = self.session.take_if(|s| !s.is_broken()) {
                let next = self.jobs.iter_mut().min_by_key(|job| job.due());
                let heartbeat = Instant::now() + HEARTBEAT;
                match next {
                    Some(job) if job.due() < heartbeat => {
                        sleep_until(job.due()).await;
                        if job.run(&session, &self.board).await == Ended::FactsDoubted {
                            session.refresh().await;
                        }
                    }
                    _ => {
                        sleep_until(heartbeat).await;
                        // A failure shows in the session, which is looked at next.
                        let _ = session.read("SELECT 1 AS alive").await;
                    }
                }
                self.session = Some(session);
            }
            self.session = None;
            self.board.set_up(false, None);
            self.announcer.lost();
        }
    }

    /// Runs every collector once, due or not.
    pub(super) async fn run_all(&mut self) {
        if !self.connect().await {
            return;
        }
        if let Some(session) = &self.session {
            for job in &mut self.jobs {
                if job.run(session, &self.board).await == Ended::SessionBroken {
                    break;
                }
            }
        }
    }

    async fn connect(&mut self) -> bool {
        if self.session.as_ref().is_some_and(|s| !s.is_broken()) {
            return true;
        }
        self.session = None;
        let (target, clock) = (&self.target, self.clock);
        match Session::connect(&target.connect, None, target.settings.clone(), clock).await {
            Ok(session) => {
                self.board.set_up(true, Some(&session.server().version));
                self.announcer.works("the server");
                let now = Instant::now();
                self.jobs.iter_mut().for_each(|job| job.due_now(now));
                self.session = Some(session);
                true
            }
            Err(e) => {
                self.board.set_up(false, None);
                self.announcer.failed("the server", &e);
                false
            }
        }
    }
}

/// Databases that can be entered at all.
const DATABASES: &str = "\
SELECT d.datname::text AS datname
  FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate
   AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')
 ORDER BY d.datname";

/// Databases that the role may not enter are told apart from those that do not exist.
const FORBIDDEN: &str = "\
SELECT d.datname::text AS datname
  FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate
   AND NOT pg_catalog.has_database_privilege(d.oid, 'CONNECT')
 ORDER BY d.datname";

struct Visited {
    jobs: Vec<Job>,
    announcer: Announcer,
}

/// The worker that walks the databases.
pub(super) struct Walker {
    target: Arc<Target>,
    board: Arc<Board>,
    clock: Clock,
    databases: BTreeMap<Arc<str>, Visited>,
    session: Option<Session>,
    /// Failures in a row to enter the home database while the server was up.
    refusals: u32,
    announcer: Announcer,
}

impl Walker {
    pub(super) fn new(target: Arc<Target>, board: Arc<Board>, clock: Clock) -> Self {
        Self {
            target,
            board,
            clock,
            databases: BTreeMap::new(),
            session: None,
            refusals: 0,
            announcer: Announcer::default(),
        }
    }

    /// Walks for ever.
    pub(super) async fn run(&mut self) {
        if self.target.of_scope(Scope::Database).is_empty() {
            return;
        }
        let mut backoff = Backoff::new();
        loop {
            if !self.walk(false).await {
                sleep(backoff.next()).await;
                continue;
            }
            backoff = Backoff::new();
            let next = self.databases.values().flat_map(|d| &d.jobs).map(Job::due).min();
            // Without a database to visit, look again for new ones after a while.
            sleep_until(next.unwrap_or_else(|| Instant::now() + LONGEST_BACKOFF)).await;
        }
    }

    /// Runs every collector in every database once, due or not.
    pub(super) async fn run_all(&mut self) {
        self.walk(true).await;
    }

    /// One round over the databases. False if the server could not be reached at all.
    async fn walk(&mut self, all: bool) -> bool {
        let Ok(list) = self.list().await else {
            let now = Instant::now();
            for job in self.databases.values_mut().flat_map(|d| &mut d.jobs) {
                if job.due() <= now {
                    job.postpone(now);
                }
            }
            return false;
        };
        for datname in list {
            let now = Instant::now();
            let due = |job: &Job| all || job.due() <= now;
            let Some(visited) = self.databases.get(&datname) else { continue };
            if visited.jobs.iter().any(due) {
                self.visit(&datname, all).await;
            }
        }
        // One connection that stays is cheaper than one per walk, but only where there is just one
        // database; otherwise the next walk starts at home again.
        if self.databases.len() > 1
            && let Some(session) = self.session.take()
        {
            session.close().await;
        }
        true
    }

    /// The databases to visit, the home database first; the board and the jobs follow the list.
    async fn list(&mut self) -> Result<Vec<Arc<str>>, ()> {
        let home: Arc<str> = self.target.connect.dbname.as_str().into();
        if let Err(e) = self.enter(&home).await {
            self.refused(&home, &e);
            return Err(());
        }
        self.refusals = 0;
        self.announcer.works("the second connection");
        let Some(session) = &self.session else { return Err(()) };
        let read = |rows: Vec<crate::pg::Row>| -> Result<Vec<Arc<str>>, CollectError> {
            rows.iter().map(|r| r.get::<&str>("datname").map(Arc::from)).collect()
        };
        let answers = session.read_all(&[DATABASES.into(), FORBIDDEN.into()]).await;
        let lists = answers.and_then(|answers| {
            answers.into_iter().map(read).collect::<Result<Vec<_>, CollectError>>()
        });
        let mut lists = match lists {
            Ok(lists) => lists.into_iter(),
            Err(e) => {
                tracing::warn!(kind = e.kind(), "cannot list the databases: {e}");
                return Err(());
            }
        };
        let admits = |d: &Arc<str>| self.target.databases.admits(d);
        let mut open: Vec<Arc<str>> =
            lists.next().unwrap_or_default().into_iter().filter(admits).collect();
        let forbidden: Vec<Arc<str>> =
            lists.next().unwrap_or_default().into_iter().filter(admits).collect();
        open.sort_by_key(|d| **d != *home);

        let known: Vec<Arc<str>> = open.iter().chain(&forbidden).cloned().collect();
        self.databases.retain(|d, _| known.contains(d));
        self.board.retain_databases(&known);
        for datname in forbidden {
            self.board.set_database(&datname, false);
        }
        for datname in &open {
            if !self.databases.contains_key(datname) {
                let jobs = self
                    .target
                    .of_scope(Scope::Database)
                    .into_iter()
                    .map(|c| Job::new(c, Some(datname.clone()), &self.target.settings))
                    .collect();
                let visited = Visited { jobs, announcer: Announcer::default() };
                self.databases.insert(datname.clone(), visited);
            }
        }
        Ok(open)
    }

    /// Where the server is away the kept worker says so; here it would be said twice.
    fn refused(&mut self, home: &Arc<str>, e: &ConnectError) {
        self.refusals = if self.board.is_up() { self.refusals + 1 } else { 0 };
        if self.refusals >= REFUSALS {
            self.announcer.failed("the second connection, which walks the databases", e);
            self.board.set_database(home, false);
        }
    }

    async fn visit(&mut self, datname: &Arc<str>, all: bool) {
        let entered = self.enter(datname).await;
        let now = Instant::now();
        let Some(visited) = self.databases.get_mut(datname) else { return };
        let what = format!("database {datname:?}");
        if let Err(e) = entered {
            self.board.set_database(datname, false);
            visited.announcer.failed(&what, &e);
            visited.jobs.iter_mut().filter(|j| j.due() <= now).for_each(|j| j.postpone(now));
            return;
        }
        visited.announcer.works(&what);
        let Some(session) = &mut self.session else { return };
        let mut alive = true;
        for job in &mut visited.jobs {
            if !alive || !(all || job.due() <= now) {
                continue;
            }
            match job.run(session, &self.board).await {
                Ended::Done => {}
                Ended::FactsDoubted => session.refresh().await,
                Ended::SessionBroken => alive = false,
            }
        }
        self.board.set_database(datname, alive);
        if !alive {
            self.session = None;
        }
    }

    /// Makes `self.session` a live session of the database, closing another one first.
    async fn enter(&mut self, datname: &str) -> Result<(), ConnectError> {
        if let Some(session) = self.session.take() {
            if !session.is_broken() && session.server().datname == datname {
                self.session = Some(session);
                return Ok(());
            }
            session.close().await;
        }
        let target = &self.target;
        let session =
            Session::connect(&target.connect, Some(datname), target.settings.clone(), self.clock);
        self.session = Some(session.await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_with_jitter_below() {
        let mut backoff = Backoff::new();
        let mut full = FIRST_BACKOFF;
        for _ in 0..10 {
            let wait = backoff.next();
            assert!(wait <= full && wait >= full / 2, "{wait:?} of {full:?}");
            full = (full * 2).min(LONGEST_BACKOFF);
        }
        assert_eq!(full, LONGEST_BACKOFF);
    }
}
