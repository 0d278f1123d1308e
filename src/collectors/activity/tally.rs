//! Session seconds by what they are counted under: a bounded number of names, and all others together.
//!
//! Must not: take anything back that was counted, or let a name go that was seen within the hour.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A name that was not seen for so long, in seconds, makes room for another; a statement leaves the exposed set.
const SILENCE: f64 = 3600.0;
/// In a full set of statements, a newcomer takes the place of whoever was not among the heaviest for so long.
const OUTRANKED: f64 = 600.0;
/// The exposed set may grow to so many times the configured number.
const ROOM: usize = 2;
/// Most databases whose statements that are not exposed are counted apart.
const MOST_OTHERS: usize = 1_000;
/// Statements that are remembered, exposed or not.
const REMEMBERED: usize = 4_096;
/// In so many seconds the weight of what a statement took falls to 1/e.
const MEMORY: f64 = 600.0;
/// What stands for all names that are not kept.
pub(super) const OTHER: &str = "other";

/// What seconds are counted under: a database and a name in it, or the like.
pub(super) type Name = (Arc<str>, Arc<str>);

/// Seconds by name, and of each by type of wait.
#[derive(Debug, Default)]
pub(super) struct SecondsByName {
    names: BTreeMap<Name, TallyEntry>,
    /// Seconds that were counted as other because there was no room.
    pub(super) folded: f64,
}

#[derive(Debug, Default)]
struct TallyEntry {
    seconds: BTreeMap<Arc<str>, f64>,
    /// Monotonic seconds when it was last seen.
    seen: f64,
}

impl SecondsByName {
    /// Counts seconds under the name. If there are `most` already that were seen within the hour, they go to the first
    /// part's `other`, and if there are twice as many, to the one `other` for all.
    pub(super) fn add(&mut self, at: f64, name: Name, kind: &Arc<str>, seconds: f64, most: usize) {
        let name = if self.names.contains_key(&name) || self.make_room(at, most) {
            name
        } else {
            self.folded += seconds;
            let other: Arc<str> = OTHER.into();
            let first = (name.0, other.clone());
            let room = self.names.contains_key(&first) || self.names.len() < 2 * most;
            if room { first } else { (other.clone(), other) }
        };
        let entry = self.names.entry(name).or_default();
        *entry.seconds.entry(kind.clone()).or_default() += seconds;
        entry.seen = at;
    }

    fn make_room(&mut self, at: f64, most: usize) -> bool {
        if self.names.len() < most {
            return true;
        }
        let oldest = self.names.iter().min_by(|a, b| a.1.seen.total_cmp(&b.1.seen));
        match oldest.filter(|(_, entry)| at - entry.seen >= SILENCE).map(|(name, _)| name.clone()) {
            Some(name) => self.names.remove(&name).is_some(),
            None => false,
        }
    }

    /// Both parts of each name, the type of wait, and the seconds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &str, f64)> {
        self.names.iter().flat_map(|((a, b), entry)| {
            entry.seconds.iter().map(move |(kind, seconds)| (&**a, &**b, &**kind, *seconds))
        })
    }
}

/// A statement as it is labelled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ActiveStatement {
    pub(super) datname: Arc<str>,
    pub(super) usename: Arc<str>,
    pub(super) queryid: i64,
}

/// Sessions that are alike, as one look found them.
pub(super) struct Alike {
    pub(super) datname: Arc<str>,
    /// `None` where the server does not tell.
    pub(super) statement: Option<ActiveStatement>,
    /// Type of wait.
    pub(super) kind: Arc<str>,
    pub(super) seconds: f64,
}

#[derive(Debug, Default)]
struct Taken {
    /// Seconds by type of wait, while it was exposed.
    seconds: BTreeMap<Arc<str>, f64>,
    /// Seconds as they weighed at `seen`.
    weight: f64,
    seen: f64,
    /// When it was last among the heaviest.
    ranked: f64,
    exposed: bool,
}

impl Taken {
    fn weight(&self, at: f64) -> f64 {
        self.weight * ((self.seen - at) / MEMORY).exp()
    }
}

/// Seconds by statement: those that take most have series of their own. They leave the set as statements of
/// `pg_stat_statements` do, and go on where they ended when they are back.
#[derive(Debug, Default)]
pub(super) struct SecondsByStatement {
    all: BTreeMap<ActiveStatement, Taken>,
    others: SecondsByName,
    /// Seconds of identified statements that were counted as other.
    pub(super) folded: f64,
}

impl SecondsByStatement {
    /// Counts what one look found; sessions without an identified statement have `None`.
    pub(super) fn add(&mut self, at: f64, top: usize, found: &[Alike]) {
        for Alike { statement, seconds, .. } in found {
            let Some(statement) = statement else { continue };
            let taken = self.all.entry(statement.clone()).or_default();
            taken.weight = taken.weight(at) + seconds;
            taken.seen = at;
        }
        self.choose(at, top);
        for Alike { datname, statement, kind, seconds } in found {
            let exposed =
                statement.as_ref().and_then(|s| self.all.get_mut(s)).filter(|t| t.exposed);
            match exposed {
                Some(taken) => *taken.seconds.entry(kind.clone()).or_default() += seconds,
                None => {
                    let name = (datname.clone(), OTHER.into());
                    self.others.add(at, name, kind, *seconds, MOST_OTHERS);
                    self.folded += if statement.is_some() { *seconds } else { 0.0 };
                }
            }
        }
        self.forget(at);
    }

    /// Lets the heaviest in, and those out that fell silent.
    fn choose(&mut self, at: f64, top: usize) {
        let mut exposed = 0;
        for taken in self.all.values_mut() {
            taken.exposed &= at - taken.seen < SILENCE;
            exposed += usize::from(taken.exposed);
        }
        let heaviest = self.heaviest(at, top);
        for statement in &heaviest {
            if let Some(taken) = self.all.get_mut(statement) {
                taken.ranked = at;
            }
        }
        for statement in heaviest {
            if self.all.get(&statement).is_none_or(|taken| taken.exposed) {
                continue;
            }
            if exposed >= top.saturating_mul(ROOM) {
                let outranked =
                    self.all.values_mut().filter(|t| t.exposed && at - t.ranked >= OUTRANKED);
                let Some(last) = outranked.min_by(|a, b| a.ranked.total_cmp(&b.ranked)) else {
                    break;
                };
                last.exposed = false;
                exposed -= 1;
            }
            if let Some(taken) = self.all.get_mut(&statement) {
                taken.exposed = true;
                exposed += 1;
            }
        }
    }

    /// At most `top`, the heaviest first.
    fn heaviest(&self, at: f64, top: usize) -> Vec<ActiveStatement> {
        let mut all: Vec<(f64, &ActiveStatement)> =
            self.all.iter().map(|(s, taken)| (taken.weight(at), s)).collect();
        if top > 0 && top < all.len() {
            all.select_nth_unstable_by(top - 1, |a, b| b.0.total_cmp(&a.0));
        }
        all.truncate(top);
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().map(|(_, statement)| statement.clone()).collect()
    }

    /// Forgets the lightest that are not exposed when there are too many, half of them at a time.
    fn forget(&mut self, at: f64) {
        if self.all.len() <= REMEMBERED {
            return;
        }
        let mut hidden: Vec<(f64, ActiveStatement)> = self
            .all
            .iter()
            .filter(|(_, taken)| !taken.exposed)
            .map(|(s, taken)| (taken.weight(at), s.clone()))
            .collect();
        hidden.sort_by(|a, b| a.0.total_cmp(&b.0));
        hidden.truncate(hidden.len().div_ceil(2));
        hidden.iter().for_each(|(_, statement)| drop(self.all.remove(statement)));
    }

    /// Each exposed statement with its seconds by type of wait.
    pub(super) fn exposed(
        &self,
    ) -> impl Iterator<Item = (&ActiveStatement, &BTreeMap<Arc<str>, f64>)> {
        self.all.iter().filter(|(_, taken)| taken.exposed).map(|(s, taken)| (s, &taken.seconds))
    }

    /// Database, type of wait and seconds of all other statements.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.others.iter().map(|(datname, _, kind, seconds)| (datname, kind, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ledger_folds_newcomers_and_says_so_until_a_name_was_silent_for_an_hour() {
        let mut ledger = SecondsByName::default();
        let mut add = |at, (datname, name): (&str, &str), kind: &str, seconds| {
            ledger.add(at, (datname.into(), name.into()), &kind.into(), seconds, 2);
            let all = ledger.iter().map(|(a, b, c, s)| (format!("{a}.{b} {c}"), s));
            (all.collect::<Vec<_>>(), ledger.folded)
        };
        let all = |pairs: &[(&str, f64)]| -> Vec<(String, f64)> {
            pairs.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect()
        };
        add(0.0, ("d", "a"), "IO", 1.0);
        add(1.0, ("d", "b"), "IO", 2.0);
        add(2.0, ("d", "c"), "IO", 4.0);
        add(2.0, ("d", "b"), "Lock", 1.0);
        add(2.0, ("e", "c"), "IO", 8.0);
        let (names, folded) = add(3.0, ("f", "c"), "IO", 16.0);
        let full = [("d.a IO", 1.0), ("d.b IO", 2.0), ("d.b Lock", 1.0), ("d.other IO", 4.0)];
        let rest = [("e.other IO", 8.0), ("other.other IO", 16.0)];
        assert_eq!((names, folded), (all(&[&full[..], &rest[..]].concat()), 28.0));
        let (names, folded) = add(3_600.0, ("d", "z"), "IO", 1.0);
        let now = [&full[1..], &[("d.z IO", 1.0)], &rest].concat();
        assert_eq!((names, folded), (all(&now), 28.0));
    }

    fn statement(queryid: i64) -> ActiveStatement {
        ActiveStatement { datname: "app".into(), usename: "u".into(), queryid }
    }

    fn look(all: &mut SecondsByStatement, at: f64, top: usize, found: &[(Option<i64>, f64)]) {
        let found: Vec<_> = found
            .iter()
            .map(|(queryid, seconds)| Alike {
                datname: "app".into(),
                statement: queryid.map(statement),
                kind: "CPU".into(),
                seconds: *seconds,
            })
            .collect();
        all.add(at, top, &found);
    }

    fn exposed(all: &SecondsByStatement) -> Vec<(i64, f64)> {
        all.exposed().map(|(s, seconds)| (s.queryid, seconds.values().sum())).collect()
    }

    fn other(all: &SecondsByStatement) -> f64 {
        all.others().map(|(.., seconds)| seconds).sum()
    }

    #[test]
    fn the_heaviest_statements_have_series_and_nothing_is_counted_twice_or_lost() {
        let mut all = SecondsByStatement::default();
        look(&mut all, 0.0, 1, &[(Some(1), 1.0), (None, 0.5)]);
        assert_eq!((exposed(&all), other(&all)), (vec![(1, 1.0)], 0.5));
        // Lighter than the heaviest: no series of its own.
        look(&mut all, 1.0, 1, &[(Some(2), 0.5)]);
        assert_eq!((exposed(&all), other(&all), all.folded), (vec![(1, 1.0)], 1.0, 0.5));
        // Now the heaviest; there is room for twice as many as are asked for.
        look(&mut all, 2.0, 1, &[(Some(2), 5.0)]);
        assert_eq!(exposed(&all), [(1, 1.0), (2, 5.0)]);
        // The set is full, and its members were among the heaviest a moment ago.
        look(&mut all, 3.0, 1, &[(Some(3), 50.0)]);
        assert_eq!((exposed(&all), other(&all)), (vec![(1, 1.0), (2, 5.0)], 51.0));
        // After a while the one that was outranked longest goes.
        look(&mut all, 700.0, 1, &[(Some(3), 50.0)]);
        assert_eq!(exposed(&all), [(2, 5.0), (3, 50.0)]);
        // Back again, it goes on where it ended.
        look(&mut all, 1_400.0, 1, &[(Some(1), 500.0)]);
        assert_eq!(exposed(&all), [(1, 501.0), (3, 50.0)]);
    }

    #[test]
    fn statements_that_fell_silent_leave_and_with_top_0_all_are_other() {
        let mut all = SecondsByStatement::default();
        look(&mut all, 0.0, 5, &[(Some(1), 1.0)]);
        look(&mut all, 3_600.0, 0, &[(Some(2), 1.0)]);
        assert_eq!((exposed(&all), other(&all)), (vec![], 1.0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut all = SecondsByStatement::default();
        for turn in 0..10 {
            let found: Vec<_> = (0..1_000).map(|n| (Some(turn * 1_000 + n), 1.0)).collect();
            look(&mut all, turn as f64, 10, &found);
        }
        assert!(all.all.len() <= REMEMBERED, "{}", all.all.len());
        let counted: f64 = exposed(&all).iter().map(|(_, s)| s).sum::<f64>();
        assert!(counted + other(&all) <= 10_000.0 && other(&all) > 9_000.0);
    }
}
