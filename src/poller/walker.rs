//! The second worker of a target: it goes from database to database with one connection, while the first
//! finds the server up.
//!
//! Must not: overlap two runs of a collector, open a connection before the last one is closed, or keep
//! one that the first worker needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Stop;
use super::Target;
use super::board::Board;
use super::job::{Ended, Job, Run};
use super::leftovers::Leftovers;
use super::retry::{Announcer, CADENCE, LONGEST, Retry};
use super::told::Told;
use crate::collector::Scope;
use crate::config::TargetKind;
use crate::error::{CollectError, ConnectError, Cost};
use crate::pg::{Clock, Quota, Row, Session, columns};
use crate::remedy::quote::ident;
use crate::snapshot::Of;

/// Failures in a row to enter the home database before that is said: the first may be the server's end,
/// which the first worker is about to see.
const REFUSALS: u32 = 2;
/// Pauses after a database could not be entered: the longest, and what the first is by its cost.
const LONGEST_REFUSED: Duration = Duration::from_secs(120);
const REFUSED: Duration = Duration::from_secs(15);
const CROWDED: Duration = Duration::from_secs(5);
/// Least interval per database: a walk over a hundred of them takes fifty seconds.
const PER_DATABASE: Duration = Duration::from_millis(500);
/// The walking connection is made anew after this, since a backend never forgets a relation that it
/// has looked at.
const WALKING_LIFE: Duration = Duration::from_secs(600);
/// Sessions that one visit may lose, each to another collector, before the rest has to wait.
const LOSSES: u32 = 2;

/// Databases and whether they can be entered. Names as bytes: one that was created from a database in
/// another encoding need not be UTF-8. A limit of -2 marks a DROP DATABASE that was interrupted. Those of managed
/// services (RDS and Aurora, Cloud SQL, AlloyDB, Azure) let nobody in, or hold nothing of the user's: they are known by
/// their owners too, and left out unless the configuration names them.
const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname,
       pg_catalog.has_database_privilege(d.oid, 'CONNECT') AS may_connect,
       (d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text) IN (
         ('alloydbadmin', 'alloydbadmin'), ('alloydbmetadata', 'alloydbadmin'), ('azure_maintenance', 'azuresu'),
         ('azure_sys', 'azuresu'), ('cloudsqladmin', 'cloudsqladmin'), ('rdsadmin', 'rdsadmin')) AS of_service,
       pg_catalog.count(*) OVER () AS count
  FROM pg_catalog.pg_database d
 WHERE d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
 ORDER BY d.datname = pg_catalog.current_database() DESC, d.datname LIMIT 10000";

/// Databases that are walked, in the order of their names after the home database. The list itself is bounded
/// above that, since the configuration may exclude some.
const MOST_DATABASES: usize = 1_000;

/// The walker's connection in the log.
const WALK: &str = "the second connection, which walks the databases";
const BACKENDS: &str = "backends that were given up do not end";

struct Visited {
    jobs: Vec<Job>,
    announcer: Announcer,
    /// Whether the role may enter it.
    open: bool,
    /// Failures in a row to enter it, and until when it is left alone.
    refusals: u32,
    not_before: Instant,
    /// Whether it was said that the database would impose a role.
    imposes: bool,
}

impl Visited {
    fn due(&self) -> Option<Instant> {
        let due = self.jobs.iter().map(Job::due).min()?;
        self.open.then_some(due.max(self.not_before))
    }
}

columns! {
    /// A database of the list.
    struct WalkedDatabase {
        /// As the server stores it.
        datname: Vec<u8>,
        may_connect: bool,
        of_service: bool,
        /// How many there are in all.
        count: i64,
    }
}

/// Why a walk came to nothing.
struct Failed {
    cost: Cost,
    /// It can go on as soon as a place is free.
    held: bool,
}

/// The worker that walks the databases.
pub(super) struct Walker {
    target: Arc<Target>,
    board: Arc<Board>,
    clock: Clock,
    quota: Quota,
    databases: BTreeMap<Arc<str>, Visited>,
    session: Option<Session>,
    /// The name by which the session's database was entered; behind a pooler it may have another one.
    entered: Arc<str>,
    /// Failures in a row to enter the home database while the server was up.
    refusals: u32,
    /// When the server that answered last was started.
    started: Option<f64>,
    leftovers: Leftovers,
    announcer: Announcer,
    left_out: Told,
}

impl Walker {
    pub(super) fn new(target: Arc<Target>, board: Arc<Board>, clock: Clock, quota: Quota) -> Self {
        Self {
            target,
            board,
            clock,
            quota,
            databases: BTreeMap::new(),
            session: None,
            entered: "".into(),
            refusals: 0,
            started: None,
            leftovers: Leftovers::default(),
            announcer: Announcer::default(),
            left_out: Told::default(),
        }
    }

    /// Walks until it is told to stop.
    pub(super) async fn run(&mut self, mut stop: Stop) {
        if self.target.of_scope(Scope::Database).is_empty() {
            return;
        }
        let (mut up, mut claimed) = (self.board.up_changes(), self.quota.claimed());
        let mut retry = Retry::default();
        loop {
            // While the first worker has no connection, none is held or opened here: its attempts are
            // those that tell, and the place may be the last.
            if !*up.borrow_and_update() || *claimed.borrow_and_update() {
                let down = !*up.borrow();
                self.leave().await;
                tokio::select! {
                    () = async { tokio::join!(becomes(&mut up, true), becomes(&mut claimed, false)); } => {}
                    () = stop.asked() => break,
                }
                if down {
                    self.resume(true);
                    retry = Retry::default();
                }
                continue;
            }
            let mut freed = self.quota.freed();
            let began = Instant::now();
            let (until, held) = match self.walk(false).await {
                Ok(()) => {
                    retry = Retry::default();
                    let next = self.databases.values().filter_map(Visited::due).min();
                    // Without a database to visit, look again for new ones after a while.
                    (next.unwrap_or_else(|| Instant::now() + LONGEST), false)
                }
                Err(Failed { cost, held }) => {
                    (Instant::now() + retry.after(cost, began.elapsed()), held)
                }
            };
            tokio::select! {
                () = sleep_until(until) => {}
                _ = freed.changed(), if held => {}
                _ = up.changed() => {}
                _ = claimed.changed() => {}
                () = stop.asked() => break,
            }
        }
        self.leave().await;
    }

    async fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// The server is back: whatever waited for something waits no longer.
    fn resume(&mut self, was_down: bool) {
        let now = Instant::now();
        self.refusals = 0;
        for visited in self.databases.values_mut() {
            (visited.refusals, visited.not_before) = (0, now);
            visited.jobs.iter_mut().for_each(|job| {
                if was_down {
                    job.forgive(false);
                }
                job.resume(now);
            });
        }
    }

    /// Runs every collector in every database once, due or not.
    pub(super) async fn run_all(&mut self) {
        let _ = self.walk(true).await;
    }

    /// One round over the databases; an error if not even a list of them was to be had.
    async fn walk(&mut self, all: bool) -> Result<(), Failed> {
        // A pooler's console has no databases to enter.
        if self.board.of() == Of::Pooler {
            self.databases.clear();
            return Ok(());
        }
        let list = match self.list().await {
            Ok(list) => list,
            Err(failed) => {
                let now = Instant::now();
                for job in self.databases.values_mut().flat_map(|d| &mut d.jobs) {
                    if job.due() <= now {
                        job.postpone(now);
                    }
                }
                return Err(failed);
            }
        };
        self.announcer.works(WALK);
        let claimed = self.quota.claimed();
        for datname in list {
            let Some(visited) = self.databases.get(&datname) else { continue };
            if all || visited.due().is_some_and(|due| due <= Instant::now()) {
                self.visit(&datname, all).await;
            }
            if !self.board.is_up() || *claimed.borrow() {
                break;
            }
        }
        // One connection that stays is cheaper than one per walk, but only where there is just one
        // database; otherwise the next walk starts at home again.
        let several = self.databases.len() > 1;
        if let Some(session) = self.session.take_if(|s| several || s.age() > WALKING_LIFE) {
            session.close().await;
        }
        Ok(())
    }

    /// The databases to visit, the home database first; the board and the jobs follow the list.
    async fn list(&mut self) -> Result<Vec<Arc<str>>, Failed> {
        let home: Arc<str> = self.target.connect.dbname.as_str().into();
        let listed = match self.listed(&home).await {
            Ok(Some(listed)) => listed,
            // The kept connection has seen that it is a pooler too, or is about to.
            Ok(None) => return Ok(Vec::new()),
            Err(failed) => return Err(failed),
        };
        if std::mem::take(&mut self.refusals) >= REFUSALS {
            // Nobody could be visited: everybody is now.
            self.resume(false);
        }
        let Some(session) = &self.session else { return Ok(Vec::new()) };
        let server = session.server();
        if self.started.replace(server.started).is_some_and(|before| before != server.started) {
            for job in self.databases.values_mut().flat_map(|visited| &mut visited.jobs) {
                job.forgive(true);
                job.resume(Instant::now());
            }
        }
        let home: Arc<str> = server.datname.as_str().into();
        let role = ident(&server.role);
        let mut known: Vec<Arc<str>> = Vec::new();
        let mut open: Vec<Arc<str>> = Vec::new();
        let all = listed.first().map_or(0, |first| usize::try_from(first.count).unwrap_or(0));
        let mut left_out = all.saturating_sub(listed.len());
        for WalkedDatabase { datname: name, may_connect, of_service, .. } in listed {
            let readable = std::str::from_utf8(&name).is_ok();
            let datname: Arc<str> = String::from_utf8_lossy(&name).as_ref().into();
            if of_service && datname != home && !self.target.databases.names(&datname) {
                continue;
            }
            let collectors = self.target.inside(&datname, datname == home);
            if collectors.is_empty() && !self.target.databases.admits(&datname) {
                continue;
            }
            if known.len() >= MOST_DATABASES {
                left_out += 1;
                continue;
            }
            known.push(datname.clone());
            let visited = self.databases.entry(datname.clone()).or_insert_with(|| {
                let collectors = collectors.into_iter();
                let job = |c| Job::new(c, Some(datname.clone()), &self.target.settings);
                Visited {
                    jobs: collectors.map(job).collect(),
                    announcer: Announcer::default(),
                    open: true,
                    refusals: 0,
                    not_before: Instant::now(),
                    imposes: false,
                }
            });
            // The protocol could carry any name; the driver takes UTF-8 only.
            visited.open = may_connect && readable;
            if visited.open {
                open.push(datname);
                continue;
            }
            let reason = match readable {
                true => format!(
                    "it cannot be entered: GRANT CONNECT ON DATABASE {} TO {role}, or name it in \
                     databases.exclude",
                    ident(&datname)
                ),
                false => "it cannot be entered: its name is not UTF-8".to_owned(),
            };
            visited.announcer.fails(&format!("database {datname:?}"), "permission", &reason);
            self.board.set_database(&datname, Some(&reason));
        }
        open.sort_by_key(|d| *d != home);
        self.databases.retain(|d, _| known.contains(d));
        self.board.retain_databases(&known, left_out);
        if left_out == 0 {
            self.left_out.works();
        } else if let Some(held) = self.left_out.fails("") {
            tracing::warn!(
                left_out,
                "more than {MOST_DATABASES} databases: list those to visit in databases.include{held}"
            );
        }
        let floor = PER_DATABASE * u32::try_from(open.len()).unwrap_or(u32::MAX);
        for job in self.databases.values_mut().flat_map(|d| &mut d.jobs) {
            job.set_floor(floor);
        }
        Ok(open)
    }

    /// Name and whether it may be entered; `None` from a pooler.
    async fn listed(&mut self, home: &Arc<str>) -> Result<Option<Vec<WalkedDatabase>>, Failed> {
        // A session that was kept may have been ended meanwhile, or lead to another server now.
        for last in [false, true] {
            if let Err(e) = self.enter(home).await {
                return Err(self.refused(&e));
            }
            let Some(session) = &mut self.session else { break };
            if session.kind() == TargetKind::Pooler {
                return Ok(None);
            }
            if self.leftovers.too_many(session).await {
                self.fails("held", BACKENDS);
                return Err(Failed { cost: Cost::Much, held: false });
            }
            let listed = session.read(DATABASES).await.and_then(|rows| Row::all(&rows));
            match listed {
                Ok(listed) => return Ok(Some(listed)),
                Err(CollectError::Changed) if !last => session.refresh().await,
                Err(CollectError::Lost(_) | CollectError::Ended { .. }) if !last => {}
                Err(e) => {
                    self.fails(e.kind(), &format!("cannot list the databases: {e}"));
                    break;
                }
            }
        }
        Err(Failed { cost: Cost::Much, held: false })
    }

    /// Where the server is away the kept worker says so; here it would be said twice.
    fn refused(&mut self, e: &ConnectError) -> Failed {
        self.refusals = if self.board.is_up() { self.refusals + 1 } else { 0 };
        if self.refusals >= REFUSALS {
            self.fails(e.kind(), &e.to_string());
        }
        Failed { cost: e.cost(), held: matches!(e, ConnectError::Held { .. }) }
    }

    /// No database can be visited.
    fn fails(&mut self, kind: &str, reason: &str) {
        self.refusals = self.refusals.max(REFUSALS);
        self.announcer.fails(WALK, kind, reason);
        self.board.set_all_databases(&self.target.connect.dbname, reason);
    }

    async fn visit(&mut self, datname: &Arc<str>, all: bool) {
        let what = format!("database {datname:?}");
        let (mut next, mut losses, mut lost) = (0, 0, None);
        while losses < LOSSES {
            let entered = self.enter(datname).await;
            let now = Instant::now();
            let Some(visited) = self.databases.get_mut(datname) else { return };
            if let Err(e) = entered {
                // One that is lost with the server is the first worker's to tell of.
                if self.board.is_up() {
                    self.board.set_database(datname, Some(&e.to_string()));
                    visited.announcer.failed(&what, &e);
                }
                visited
                    .jobs
                    .iter_mut()
                    .filter(|job| job.due() <= now)
                    .for_each(|job| job.postpone(now));
                let pause = match e.cost() {
                    Cost::Nothing => CADENCE,
                    Cost::Little => CROWDED,
                    Cost::Much => REFUSED * 2u32.saturating_pow(visited.refusals.min(10)),
                };
                visited.refusals = visited.refusals.saturating_add(1);
                visited.not_before = now + pause.min(LONGEST_REFUSED);
                return;
            }
            let Some(session) = &mut self.session else { return };
            (visited.refusals, visited.not_before) = (0, now);
            visited.announcer.works(&what);
            visited.tell_of_role(&what, session);
            lost = None;
            while let Some(job) = visited.jobs.get_mut(next) {
                if !all && job.due() > now {
                    next += 1;
                    continue;
                }
                let mut ended = job.run(session, &self.board, Run::First).await;
                if ended == Ended::Again && !session.is_broken() {
                    session.refresh().await;
                    ended = job.run(session, &self.board, Run::Last).await;
                }
                match ended {
                    Ended::Done => {}
                    // The same one on the next session.
                    Ended::Again => break,
                    Ended::FactsDoubted => session.refresh().await,
                    Ended::SessionBroken { left_behind } => {
                        lost = job.error();
                        if left_behind {
                            self.leftovers.add(session);
                        }
                    }
                }
                next += 1;
                if session.is_broken() {
                    break;
                }
            }
            if next >= visited.jobs.len() && lost.is_none() {
                break;
            }
            losses += 1;
        }
        self.board.set_database(datname, lost.as_deref());
        if self.session.as_ref().is_some_and(Session::is_broken) {
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
        let (target, settings) = (&self.target, self.target.settings.clone());
        let (clock, quota) = (self.clock, Some(&self.quota));
        let session =
            Session::connect_within(&target.connect, Some(datname), settings, clock, quota);
        self.session = Some(session.await?);
        self.entered = datname.into();
        Ok(())
    }
}

/// Its sender lives as long as the worker.
async fn becomes(changes: &mut watch::Receiver<bool>, wanted: bool) {
    let _ = changes.wait_for(|now| *now == wanted).await;
}

impl Visited {
    /// Says once that the database would make us another role.
    fn tell_of_role(&mut self, what: &str, session: &Session) {
        let server = session.server();
        if let (Some(imposed), false) = (&server.imposed_role, self.imposes) {
            tracing::warn!(
                role = server.role,
                "{what} sets the role {imposed:?}, which is put off: pgrunway reads as the role that \
                 logs in"
            );
        }
        self.imposes = server.imposed_role.is_some();
    }
}
