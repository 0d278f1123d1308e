//! Where the workers of a target leave their latest results, and where snapshots are taken from.
//!
//! Must not: hand out a sample that is too old to be true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};

use crate::certificate::CertificateEnds;
use crate::clock::Time;
use crate::config::TargetKind;
use crate::error::CollectError;
use crate::findings::Reported;
use crate::metric::{Dress, Family};
use crate::pg::Session;
use crate::snapshot::{Database, Findings, Of, Outcome, Role, Snapshot, Trouble};

use super::room::Room;

/// A sample lives for three intervals of its collector, and at least this long.
const LEAST_LIFE: Duration = Duration::from_secs(60);
const LIFE_IN_INTERVALS: u32 = 3;

/// A collector's place: its name, and the database where it runs once per database.
pub(super) type CollectorPlace = (Arc<str>, Option<Arc<str>>);

/// What a run gave.
#[derive(Default)]
pub(super) struct Results {
    /// Its samples.
    pub(super) families: Vec<Arc<Family>>,
    /// What rules found.
    pub(super) findings: Arc<[Reported]>,
    /// Whether the user wrote what gave them.
    pub(super) guest: bool,
}

struct BoardSlot {
    outcome: Outcome,
    results: Results,
    taken: Time,
}

#[derive(Default)]
struct BoardState {
    of: Of,
    up: bool,
    tried: bool,
    trouble: Option<Trouble>,
    version: Option<Arc<str>>,
    major: Option<i32>,
    role: Option<Role>,
    certificates: CertificateEnds,
    /// Why each cannot be entered; `None` for one that can.
    databases: BTreeMap<Arc<str>, Option<Arc<str>>>,
    left_out: usize,
    slots: BTreeMap<CollectorPlace, BoardSlot>,
}

/// The results of one target.
pub(super) struct Board {
    target: Arc<str>,
    dress: Arc<Dress>,
    server_label: Option<Arc<str>>,
    state: Mutex<BoardState>,
    changed: Notify,
    /// As in the state, for whoever waits for it.
    up: watch::Sender<bool>,
}

impl Board {
    pub(super) fn new(target: String, of: Of, server_label: Option<Arc<str>>) -> Self {
        let state = BoardState { of, ..BoardState::default() };
        let up = watch::Sender::new(false);
        let (target, dress, state) = (target.into(), Arc::default(), Mutex::new(state));
        Self { target, dress, server_label, state, changed: Notify::new(), up }
    }

    /// The same whose series wear something.
    pub(super) fn dressed(self, dress: Dress) -> Self {
        Self { dress: Arc::new(dress), ..self }
    }

    /// A panic while the lock is held leaves plain data behind: nothing to repair.
    fn lock(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once something changed since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The server answered.
    pub(super) fn set_up(&self, session: &Session) {
        let server = session.server();
        let role = (session.kind() == TargetKind::Server).then(|| Role {
            name: server.role.as_str().into(),
            reads_all_stats: server.reads_all_stats,
        });
        let major = role.is_some().then(|| server.major());
        let mut state = self.lock();
        (state.certificates, state.major) = (session.certificates(), major);
        drop(state);
        self.answered(Some(&server.version), role);
    }

    fn answered(&self, version: Option<&str>, role: Option<Role>) {
        let mut state = self.lock();
        (state.up, state.tried, state.role) = (true, true, role);
        if let Some(trouble) = state.trouble.as_mut().filter(|t| t.over.is_none()) {
            trouble.over = Some(SystemTime::now());
        }
        if let Some(version) = version {
            state.version = Some(version.into());
        }
        drop(state);
        self.tell(true);
    }

    /// The server could not be reached.
    pub(super) fn set_down(&self, kind: &'static str, message: &str) {
        let now = SystemTime::now();
        let mut state = self.lock();
        (state.up, state.tried) = (false, true);
        let since = state.trouble.as_ref().filter(|t| t.over.is_none()).map_or(now, |t| t.since);
        let message = message.into();
        state.trouble = Some(Trouble { kind, message, since, last: now, over: None });
        drop(state);
        self.tell(false);
    }

    fn tell(&self, up: bool) {
        self.up.send_if_modified(|was| std::mem::replace(was, up) != up);
        self.changed.notify_one();
    }

    /// Changes whenever the server comes or goes.
    pub(super) fn up_changes(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// What the target turned out to be. If it was taken for something else, nothing of that is
    /// true any more.
    pub(super) fn set_kind(&self, of: Of) {
        let mut state = self.lock();
        if state.of != of {
            *state = BoardState { of, tried: state.tried, ..BoardState::default() };
        }
    }

    /// What the target is, as far as is known.
    pub(super) fn of(&self) -> Of {
        self.lock().of
    }

    /// Whether the target answered last, `None` before the first try.
    pub(super) fn up(&self) -> Option<bool> {
        let state = self.lock();
        state.tried.then_some(state.up)
    }

    /// Whether the server answered last.
    pub(super) fn is_up(&self) -> bool {
        self.lock().up
    }

    /// A database could be entered, or not, and why.
    pub(super) fn set_database(&self, datname: &Arc<str>, reason: Option<&str>) {
        self.lock().databases.insert(datname.clone(), reason.map(Into::into));
        self.changed.notify_one();
    }

    /// No database can be entered, for the same reason; `home` is one of them.
    pub(super) fn set_all_databases(&self, home: &str, reason: &str) {
        let reason: Arc<str> = reason.into();
        let mut state = self.lock();
        if state.databases.is_empty() {
            state.databases.insert(home.into(), None);
        }
        state.databases.values_mut().for_each(|why| *why = Some(reason.clone()));
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets the databases that are not in the list any more.
    pub(super) fn retain_databases(&self, list: &[Arc<str>], left_out: usize) {
        let mut state = self.lock();
        state.left_out = left_out;
        state.databases.retain(|d, _| list.contains(d));
        state.slots.retain(|(_, d), _| d.as_ref().is_none_or(|d| list.contains(d)));
    }

    /// A run ended: with results on success, without on failure (the old ones live on until they
    /// are too old). Quietly: it is on the next snapshot, and brings none about, but for the first time.
    pub(super) fn record(
        &self,
        place: CollectorPlace,
        outcome: Outcome,
        results: Option<Results>,
        mut quiet: bool,
    ) {
        let now = Time::now();
        let mut state = self.lock();
        match state.slots.get_mut(&place) {
            Some(slot) => {
                slot.outcome = outcome;
                if let Some(results) = results {
                    (slot.results, slot.taken) = (results, now);
                }
            }
            None => {
                let results = results.unwrap_or_default();
                state.slots.insert(place, BoardSlot { outcome, results, taken: now });
                quiet = false;
            }
        }
        drop(state);
        if !quiet {
            self.changed.notify_one();
        }
    }

    /// What of a guest's families cannot go beside what others have, if anything.
    pub(super) fn collision(
        &self,
        place: &CollectorPlace,
        families: &[Arc<Family>],
        repeats: bool,
    ) -> Option<CollectError> {
        let state = self.lock();
        let mut room = Room::new(&self.dress, families);
        for (at, slot) in &state.slots {
            if !slot.results.guest || at < place {
                room.take(&slot.results.families, !slot.results.guest);
            }
        }
        room.admit(families, repeats).1
    }

    /// Whether each of these collectors has run: of the server, and inside every database that was entered those that
    /// are for it; of those, one at least.
    pub(super) fn has_run(
        &self,
        of_server: &[Arc<str>],
        inside: impl Fn(&str) -> Vec<Arc<str>>,
    ) -> bool {
        let state = self.lock();
        let server = of_server.iter().all(|name| state.slots.contains_key(&(name.clone(), None)));
        let ran = |datname: &Arc<str>| {
            let mut names = inside(datname).into_iter();
            names.all(|name| state.slots.contains_key(&(name, Some(datname.clone()))))
        };
        let mut open = state.databases.iter().filter(|(_, why)| why.is_none()).map(|(d, _)| d);
        server && open.all(ran)
    }

    /// Whether any database is known.
    pub(super) fn has_databases(&self) -> bool {
        !self.lock().databases.is_empty()
    }

    /// Those of the slots; of guests only what goes beside the others.
    fn families<'a>(&self, slots: impl Iterator<Item = &'a BoardSlot>) -> Vec<Arc<Family>> {
        let (guests, own): (Vec<&BoardSlot>, Vec<&BoardSlot>) =
            slots.partition(|slot| slot.results.guest);
        let mut families: Vec<Arc<Family>> =
            own.iter().flat_map(|slot| slot.results.families.iter().cloned()).collect();
        if !guests.is_empty() {
            let mut room =
                Room::new(&self.dress, guests.iter().flat_map(|slot| &slot.results.families));
            room.take(&families, true);
            for guest in guests {
                families.extend(room.admit(&guest.results.families, true).0);
            }
        }
        families
    }

    /// Everything that is still true at `now`. What was asked of a server that is down, or of a database
    /// that cannot be entered, is not known to be true any more, whatever its last run said.
    pub(super) fn snapshot(&self, now: Time) -> Snapshot {
        let state = self.lock();
        let fresh = |slot: &BoardSlot| {
            let life = (slot.outcome.interval * LIFE_IN_INTERVALS).max(LEAST_LIFE);
            now.since(&slot.taken) < life
        };
        let down = state.trouble.as_ref().filter(|_| !state.up).map(|t| t.message.clone());
        let database = |(datname, why): (&Arc<str>, &Option<Arc<str>>)| Database {
            datname: datname.clone(),
            trouble: down.clone().or_else(|| why.clone()),
        };
        let outcome = |slot: &BoardSlot| {
            let mut outcome = slot.outcome.clone();
            if outcome.error.is_none() {
                let datname = outcome.datname.as_ref();
                let inside = datname.and_then(|d| state.databases.get(d).cloned().flatten());
                outcome.error = down.clone().or(inside);
            }
            outcome
        };
        Snapshot {
            of: state.of,
            server_label: self.server_label.clone(),
            up: state.up,
            tried: state.tried,
            trouble: state.trouble.clone(),
            role: state.role.clone(),
            certificates: state.certificates,
            target: self.target.clone(),
            version: state.version.clone(),
            major: state.major,
            databases: state.databases.iter().map(database).collect(),
            left_out: state.left_out,
            outcomes: state.slots.values().map(outcome).collect(),
            families: self.families(state.slots.values().filter(|slot| fresh(slot))),
            findings: state
                .slots
                .iter()
                .filter(|(_, slot)| fresh(slot) && !slot.results.findings.is_empty())
                .map(|((_, datname), slot)| Findings {
                    datname: datname.clone(),
                    reported: slot.results.findings.clone(),
                })
                .collect(),
            dress: self.dress.clone(),
            parts: Vec::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::metric::Metric;

    static G: Metric = Metric::gauge("pg_g", &[], "G.");

    fn families() -> Option<Results> {
        let families = vec![Arc::new(Family { metric: &G, samples: Vec::new() })];
        Some(Results { families, findings: Arc::default(), guest: false })
    }

    fn outcome(seconds: u64) -> Outcome {
        Outcome::new("x", None, Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn samples_live_for_three_intervals_and_at_least_a_minute() {
        for (interval, life) in [(1, 60), (30, 90)] {
            let board = Board::new("t".to_owned(), Of::Server, None);
            board.record(("x".into(), None), outcome(interval), families(), false);
            let start = Time::now();
            let at = |s: u64| board.snapshot(start.after(Duration::from_secs(s)));
            let asleep = board.snapshot(start.asleep(Duration::from_secs(life)));
            assert_eq!(asleep.families.len(), 0, "suspended, it grew as old");
            assert_eq!(at(life - 1).families.len(), 1);
            assert_eq!(at(life).families.len(), 0);
            assert_eq!(at(life).outcomes.len(), 1, "the outcome stays");
            // A failed run does not renew them.
            tokio::time::advance(Duration::from_secs(life - 1)).await;
            board.record(("x".into(), None), outcome(interval), None, false);
            assert_eq!(at(life).families.len(), 0);
        }
    }

    #[tokio::test]
    async fn a_database_that_is_gone_takes_its_results_along() {
        let board = Board::new("t".to_owned(), Of::Server, None);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for d in [&a, &b] {
            board.set_database(d, None);
            board.record(("x".into(), Some(d.clone())), outcome(1), families(), false);
        }
        board.record(("y".into(), None), outcome(1), families(), false);
        board.retain_databases(std::slice::from_ref(&a), 0);
        let snapshot = board.snapshot(Time::now());
        assert_eq!(snapshot.databases, [Database { datname: a, trouble: None }]);
        assert_eq!(snapshot.families.len(), 2);
    }

    #[tokio::test]
    async fn what_was_asked_of_a_server_that_is_down_or_of_a_closed_database_is_not_said_to_be_well()
     {
        let board = Board::new("t".to_owned(), Of::Server, None);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        board.answered(None, None);
        for d in [&a, &b] {
            board.set_database(d, None);
            board.record(
                ("x".into(), Some(d.clone())),
                Outcome { datname: Some(d.clone()), ..outcome(1) },
                None,
                false,
            );
        }
        board.record(("y".into(), None), outcome(1), None, false);
        let errors = || -> Vec<Option<String>> {
            let outcomes = board.snapshot(Time::now()).outcomes;
            outcomes.into_iter().map(|o| o.error.map(|e| e.to_string())).collect()
        };
        let says = |text: &str| Some(text.to_owned());
        assert_eq!(errors(), [None, None, None]);
        board.set_database(&b, Some("closed"));
        assert_eq!(errors(), [None, says("closed"), None]);
        board.set_down("refused", "gone");
        assert_eq!(errors(), [says("gone"), says("gone"), says("gone")]);
        let first = board.snapshot(Time::now()).trouble.unwrap();
        board.set_down("refused", "still gone");
        let snapshot = board.snapshot(Time::now());
        let trouble = snapshot.trouble.unwrap();
        assert_eq!((trouble.since, &*trouble.message), (first.since, "still gone"));
        assert!(snapshot.databases.iter().all(|d| d.trouble.as_deref() == Some("still gone")));
        board.answered(None, None);
        assert!(board.snapshot(Time::now()).trouble.unwrap().over.is_some());
        assert_eq!(errors(), [None, says("closed"), None]);
    }
}
