//! The two workers of a target. [`Kept`] holds one connection for what is asked of the server as a
//! whole; [`Walker`] goes from database to database with the other.
//!
//! Must not: overlap two runs of a collector, or open a connection before the last one is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Stop;
use super::Target;
use super::board::Board;
use super::job::{Ended, Job};
use crate::collector::Scope;
use crate::config::TargetKind;
use crate::error::ConnectError;
use crate::pg::{Clock, Query, Session};
use crate::snapshot::Of;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The kept connection is tried at least this often, so that `pg_up` is true even when every
/// collector of the server is switched off or slow.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The walker alone is refused (a limit on connections, most likely) if it fails so often in a row
/// while the kept connection is up; fewer failures are those of a server that has just gone.
const REFUSALS: u32 = 4;
/// Backends that a worker may leave behind before it starts nothing more until one of them ends.
const MOST_LEFTOVERS: usize = 2;
/// Least interval per database: a walk over a hundred of them takes fifty seconds.
const PER_DATABASE: Duration = Duration::from_millis(500);
/// The walking connection is made anew after this, since a backend never forgets a relation that it
/// has looked at.
const WALKING_LIFE: Duration = Duration::from_secs(600);

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

    /// The attempt to reconnect follows at once, and its end is what is told, unless the sessions
    /// do not last: then the cause is.
    fn lost(&mut self, what: &str, cause: Option<&str>) {
        match cause {
            Some(cause) if self.0.as_deref() != Some(cause) => {
                tracing::warn!("{what}: sessions do not last: {cause}");
                self.0 = Some(cause.to_owned());
            }
            _ => {
                self.0.get_or_insert_default();
            }
        }
    }

    fn works(&mut self, what: &str) {
        if self.0.take().is_some() {
            tracing::info!("{what}: connected again");
        }
    }
}

/// Backends of ours that were given up because they did not even answer a request to cancel, as when
/// they hang in the kernel. They count as connections until they end.
#[derive(Default)]
struct Leftovers(Vec<(i32, f64)>);

impl Leftovers {
    /// A pooler's console has no backend.
    fn add(&mut self, session: &Session) {
        if session.kind() == TargetKind::Pooler {
            return;
        }
        self.0.push(session.server().backend);
    }

    /// Forgets those that have ended. True if so many are left that nothing more may be started.
    async fn too_many(&mut self, session: &Session) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let pids: Vec<i64> = self.0.iter().map(|(pid, _)| i64::from(*pid)).collect();
        let Ok(rows) = session.read(Query::new(ALIVE).int8_array(&pids)).await else { return true };
        let alive: Vec<(i32, f64)> = rows
            .iter()
            .filter_map(|row| Some((row.at::<i32>(0).ok()?, row.at::<f64>(1).ok()?)))
            .collect();
        self.0.retain(|backend| alive.contains(backend));
        self.0.len() >= MOST_LEFTOVERS
    }
}

/// Of these backends, those that are at work for us, with their start. Behind a pooler a connection
/// outlives its client, and idles or works for others, or for us again, and then this very query is
/// what it is at; without one, an idle backend notices that it was left. Our mark stands at the end, and the view cuts long texts.
const ALIVE: &str = "\
SELECT a.pid, pg_catalog.date_part('epoch', a.backend_start)
  FROM pg_catalog.pg_stat_get_activity(NULL) a
 WHERE a.pid = ANY ($1) AND a.backend_start IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.state IS DISTINCT FROM 'idle'
   AND (a.query LIKE '%/* pgrunway */%' OR pg_catalog.length(a.query) >= 1000)";

/// The worker on the kept connection.
pub(super) struct Kept {
    target: Arc<Target>,
    board: Arc<Board>,
    clock: Clock,
    /// What the target turned out to be last; the jobs are those for it.
    kind: TargetKind,
    jobs: Vec<Job>,
    session: Option<Session>,
    leftovers: Leftovers,
    announcer: Announcer,
}

impl Kept {
    pub(super) fn new(
        target: Arc<Target>,
        board: Arc<Board>,
        clock: Clock,
        kind: TargetKind,
    ) -> Self {
        let jobs = jobs(&target, kind);
        let (leftovers, announcer) = Default::default();
        Self { target, board, clock, kind, jobs, session: None, leftovers, announcer }
    }

    /// Polls until it is told to stop.
    pub(super) async fn run(&mut self, mut stop: Stop) {
        let mut backoff = Backoff::new();
        loop {
            if self.connect().await && self.poll(&mut backoff, &mut stop).await {
                return;
            }
            let pause = backoff.next();
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.asked() => return,
            }
        }
    }

    /// Polls as long as the session lasts. True if it was told to stop.
    async fn poll(&mut self, backoff: &mut Backoff, stop: &mut Stop) -> bool {
        let Some(mut session) = self.session.take() else { return false };
        if self.leftovers.too_many(&session).await {
            self.announcer.lost("the server", Some("backends that were given up do not end"));
            session.close().await;
            *backoff = Backoff(LONGEST_BACKOFF);
            return false;
        }
        let mut settled = false;
        let mut cause = None;
        while !session.is_broken() {
            let next = self.jobs.iter_mut().min_by_key(|job| job.due());
            let heartbeat = Instant::now() + HEARTBEAT;
            let job = next.filter(|job| job.due() < heartbeat);
            let due = job.as_ref().map_or(heartbeat, |job| job.due());
            if !settled && due > Instant::now() {
                // Every collector that was due has run: the session can be relied on.
                settled = true;
                *backoff = Backoff::new();
                self.announcer.works("the server");
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = stop.asked() => {
                    session.close().await;
                    return true;
                }
            }
            let Some(job) = job else {
                // A failure shows in the session, which is looked at next.
                let _ = session.ping().await;
                continue;
            };
            match job.run(&session, &self.board).await {
                Ended::Done => {}
                Ended::FactsDoubted => session.refresh().await,
                Ended::SessionBroken { left_behind } => {
                    cause = job.error();
                    if left_behind {
                        self.leftovers.add(&session);
                    }
                }
            }
        }
        self.board.set_up(false, None);
        self.jobs.iter_mut().for_each(|job| job.lose(&self.board));
        self.announcer.lost("the server", cause.as_deref().filter(|_| !settled));
        false
    }

    /// Runs every collector once, due or not.
    pub(super) async fn run_all(&mut self) {
        if !self.connect().await {
            return;
        }
        if let Some(session) = &self.session {
            for job in &mut self.jobs {
                if matches!(job.run(session, &self.board).await, Ended::SessionBroken { .. }) {
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
                if session.kind() != self.kind {
                    self.kind = session.kind();
                    self.jobs = jobs(target, self.kind);
                    self.board.set_kind(super::of(self.kind));
                }
                self.board.set_up(true, Some(&session.server().version));
                let now = Instant::now();
                self.jobs.iter_mut().for_each(|job| job.resume(now));
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

fn jobs(target: &Target, kind: TargetKind) -> Vec<Job> {
    target.kept(kind).into_iter().map(|c| Job::new(c, None, &target.settings)).collect()
}

/// Databases and whether they can be entered. Names as bytes: one that was created from a database in
/// another encoding need not be UTF-8. A limit of -2 marks a DROP DATABASE that was interrupted.
const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text),
       pg_catalog.has_database_privilege(d.oid, 'CONNECT')
  FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
 ORDER BY d.datname";

/// The walker's connection in the log.
const WALK: &str = "the second connection, which walks the databases";

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
    /// The name by which the session's database was entered; behind a pooler it may have another one.
    entered: Arc<str>,
    /// Failures in a row to enter the home database while the server was up.
    refusals: u32,
    leftovers: Leftovers,
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
            entered: "".into(),
            refusals: 0,
            leftovers: Leftovers::default(),
            announcer: Announcer::default(),
        }
    }

    /// Walks until it is told to stop.
    pub(super) async fn run(&mut self, mut stop: Stop) {
        if self.target.of_scope(Scope::Database).is_empty() {
            return;
        }
        let mut backoff = Backoff::new();
        loop {
            let until = if self.walk(false).await {
                backoff = Backoff::new();
                let next = self.databases.values().flat_map(|d| &d.jobs).map(Job::due).min();
                // Without a database to visit, look again for new ones after a while.
                next.unwrap_or_else(|| Instant::now() + LONGEST_BACKOFF)
            } else {
                Instant::now() + backoff.next()
            };
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.asked() => break,
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Runs every collector in every database once, due or not.
    pub(super) async fn run_all(&mut self) {
        self.walk(true).await;
    }

    /// One round over the databases. False if the server could not be reached at all.
    async fn walk(&mut self, all: bool) -> bool {
        // A pooler's console has no databases to enter.
        if self.board.of() == Of::Pooler {
            self.databases.clear();
            return true;
        }
        let Ok(list) = self.list().await else {
            let now = Instant::now();
            for job in self.databases.values_mut().flat_map(|d| &mut d.jobs) {
                if job.due() <= now {
                    job.postpone(now);
                }
            }
            return false;
        };
        self.announcer.works(WALK);
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
        let several = self.databases.len() > 1;
        if let Some(session) = self.session.take_if(|s| several || s.age() > WALKING_LIFE) {
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
        let Some(session) = &self.session else { return Err(()) };
        if session.kind() == TargetKind::Pooler {
            // The kept connection has seen it too, or is about to.
            return Ok(Vec::new());
        }
        let home: Arc<str> = session.server().datname.as_str().into();
        if self.leftovers.too_many(session).await {
            self.announcer.lost(WALK, Some("backends that were given up do not end"));
            return Err(());
        }
        let listed = session.read(DATABASES).await.and_then(|rows| {
            rows.iter().map(|row| Ok((row.at::<Vec<u8>>(0)?, row.at::<bool>(1)?))).collect()
        });
        let listed: Vec<(Vec<u8>, bool)> = match listed {
            Ok(listed) => listed,
            Err(e) => {
                self.announcer.lost(WALK, Some(&format!("cannot list the databases: {e}")));
                self.board.set_database(&home, false);
                return Err(());
            }
        };
        let (mut open, mut closed) = (Vec::<Arc<str>>::new(), Vec::<Arc<str>>::new());
        for (name, may_enter) in listed {
            let readable = std::str::from_utf8(&name).is_ok();
            let datname: Arc<str> = String::from_utf8_lossy(&name).as_ref().into();
            if self.target.databases.admits(&datname) {
                // The protocol could carry any name; the driver takes UTF-8 only.
                if may_enter && readable { open.push(datname) } else { closed.push(datname) }
            }
        }
        open.sort_by_key(|d| *d != home);

        let known: Vec<Arc<str>> = open.iter().chain(&closed).cloned().collect();
        self.databases.retain(|d, _| known.contains(d));
        self.board.retain_databases(&known);
        for datname in closed {
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
        let floor = PER_DATABASE * u32::try_from(open.len()).unwrap_or(u32::MAX);
        for job in self.databases.values_mut().flat_map(|d| &mut d.jobs) {
            job.set_floor(floor);
        }
        Ok(open)
    }

    /// Where the server is away the kept worker says so; here it would be said twice.
    fn refused(&mut self, home: &Arc<str>, e: &ConnectError) {
        self.refusals = if self.board.is_up() { self.refusals + 1 } else { 0 };
        if self.refusals >= REFUSALS {
            self.announcer.failed(WALK, e);
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
            for job in visited.jobs.iter_mut().filter(|job| job.due() <= now) {
                job.postpone(now);
                job.put_off(now);
            }
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
                Ended::SessionBroken { left_behind } => {
                    alive = false;
                    if left_behind {
                        self.leftovers.add(session);
                    }
                }
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
            let inside = *self.entered == *datname || session.server().datname == datname;
            if !session.is_broken() && inside {
                self.session = Some(session);
                return Ok(());
            }
            session.close().await;
        }
        let target = &self.target;
        let session =
            Session::connect(&target.connect, Some(datname), target.settings.clone(), self.clock);
        self.session = Some(session.await?);
        self.entered = datname.into();
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
