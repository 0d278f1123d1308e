//! Where the workers of a target leave their latest results, and where snapshots are taken from.
//!
//! Must not: hand out a sample that is too old to be true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metric::Family;
use crate::snapshot::{Of, Outcome, Snapshot};

/// A sample lives for three intervals of its collector, and at least this long.
const LEAST_LIFE: Duration = Duration::from_secs(60);
const LIFE_IN_INTERVALS: u32 = 3;

/// A collector's place: its name, and the database where it runs once per database.
pub(super) type Place = (&'static str, Option<Arc<str>>);

struct Slot {
    outcome: Outcome,
    families: Vec<Arc<Family>>,
    taken: Instant,
}

#[derive(Default)]
struct State {
    of: Of,
    up: bool,
    tried: bool,
    version: Option<Arc<str>>,
    databases: BTreeMap<Arc<str>, bool>,
    slots: BTreeMap<Place, Slot>,
}

/// The results of one target.
pub(super) struct Board {
    target: Arc<str>,
    state: Mutex<State>,
    changed: Notify,
}

impl Board {
    pub(super) fn new(target: String, of: Of) -> Self {
        let state = State { of, ..State::default() };
        Self { target: target.into(), state: Mutex::new(state), changed: Notify::new() }
    }

    /// A panic while the lock is held leaves plain data behind: nothing to repair.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once something changed since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The server answered, or could not be reached.
    pub(super) fn set_up(&self, up: bool, version: Option<&str>) {
        let mut state = self.lock();
        state.up = up;
        state.tried = true;
        if let Some(version) = version {
            state.version = Some(version.into());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// What the target turned out to be. If it was taken for something else, nothing of that is
    /// true any more.
    pub(super) fn set_kind(&self, of: Of) {
        let mut state = self.lock();
        if state.of != of {
            *state = State { of, tried: state.tried, ..State::default() };
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

    /// A database could be entered, or not.
    pub(super) fn set_database(&self, datname: &Arc<str>, up: bool) {
        self.lock().databases.insert(datname.clone(), up);
        self.changed.notify_one();
    }

    /// Forgets the databases that are not in the list any more.
    pub(super) fn retain_databases(&self, list: &[Arc<str>]) {
        let mut state = self.lock();
        state.databases.retain(|d, _| list.contains(d));
        state.slots.retain(|(_, d), _| d.as_ref().is_none_or(|d| list.contains(d)));
    }

    /// A run ended: with families on success, without on failure (the old ones live on until they
    /// are too old).
    pub(super) fn record(
        &self,
        place: Place,
        outcome: Outcome,
        families: Option<Vec<Arc<Family>>>,
    ) {
        let now = Instant::now();
        let mut state = self.lock();
        match state.slots.get_mut(&place) {
            Some(slot) => {
                slot.outcome = outcome;
                if let Some(families) = families {
                    slot.families = families;
                    slot.taken = now;
                }
            }
            None => {
                let families = families.unwrap_or_default();
                state.slots.insert(place, Slot { outcome, families, taken: now });
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Everything that is still true at `now`.
    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let state = self.lock();
        let fresh = |slot: &&Slot| {
            let life = (slot.outcome.interval * LIFE_IN_INTERVALS).max(LEAST_LIFE);
            now.saturating_duration_since(slot.taken) < life
        };
        Snapshot {
            of: state.of,
            up: state.up,
            tried: state.tried,
            target: self.target.clone(),
            version: state.version.clone(),
            databases: state.databases.iter().map(|(d, up)| (d.clone(), *up)).collect(),
            outcomes: state.slots.values().map(|s| s.outcome.clone()).collect(),
            families: state
                .slots
                .values()
                .filter(fresh)
                .flat_map(|s| s.families.iter().cloned())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    static G: Metric = Metric::gauge("pg_g", &[], "G.");

    fn families() -> Option<Vec<Arc<Family>>> {
        Some(vec![Arc::new(Family { metric: &G, samples: Vec::new() })])
    }

    fn outcome(seconds: u64) -> Outcome {
        Outcome::new("x", None, Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn samples_live_for_three_intervals_and_at_least_a_minute() {
        for (interval, life) in [(1, 60), (30, 90)] {
            let board = Board::new("t".to_owned(), Of::Server);
            board.record(("x", None), outcome(interval), families());
            let start = Instant::now();
            let at = |s: u64| board.snapshot(start + Duration::from_secs(s));
            assert_eq!(at(life - 1).families.len(), 1);
            assert_eq!(at(life).families.len(), 0);
            assert_eq!(at(life).outcomes.len(), 1, "the outcome stays");
            // A failed run does not renew them.
            tokio::time::advance(Duration::from_secs(life - 1)).await;
            board.record(("x", None), outcome(interval), None);
            assert_eq!(at(life).families.len(), 0);
        }
    }

    #[tokio::test]
    async fn a_database_that_is_gone_takes_its_results_along() {
        let board = Board::new("t".to_owned(), Of::Server);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for d in [&a, &b] {
            board.set_database(d, true);
            board.record(("x", Some(d.clone())), outcome(1), families());
        }
        board.record(("y", None), outcome(1), families());
        board.retain_databases(std::slice::from_ref(&a));
        let snapshot = board.snapshot(Instant::now());
        assert_eq!(snapshot.databases, [(a, true)]);
        assert_eq!(snapshot.families.len(), 2);
    }
}
