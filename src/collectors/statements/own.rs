//! pgrunway's own statements. A poll a second of a quiet server would otherwise be most of what its
//! percentiles show. They are told by the comment that each of them carries, not by the role, which
//! may be an application's too.
//!
//! Must not: leave out a statement whose text was not seen, or read texts again and again.

use std::collections::HashMap;

use super::entry::{EntryKey, Scan};
use super::track::New;

/// For so long after the first poll, texts are read whenever there is something new: each collector
/// runs for the first time then, and what is not known to be ours counts as the users'.
const EAGER: f64 = 15.0;
/// Later, texts are read at most this often: the server reads all of them, whatever is asked for.
const PAUSE: f64 = 60.0;
/// When texts cannot be read (one of another database's encoding is enough), the pause doubles up to
/// this: each try is an error in the server's log.
const LONGEST_PAUSE: f64 = 3600.0;

/// `dbid`, `userid`, `queryid`.
pub type Id = (i64, i64, i64);

/// Which statements of our role are ours, and what they took.
#[derive(Default)]
pub(super) struct Own {
    verdicts: HashMap<Id, bool>,
    /// Monotonic seconds of the first poll.
    first: Option<f64>,
    /// Monotonic seconds before which nothing is asked.
    quiet_until: f64,
    /// Questions in a row that brought no answer.
    failures: u32,
    pub calls: u64,
    pub seconds: f64,
}

/// What was learnt of statements of our role.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Answer {
    /// Nothing was asked in this poll.
    #[default]
    NotAsked,
    /// The texts could not be read.
    Failed,
    /// Whether each is ours.
    Known(Vec<(Id, bool)>),
}

fn id(key: &EntryKey) -> Id {
    (key.dbid, key.userid, key.queryid)
}

impl Own {
    /// Queryids of `role` whose texts are to be looked at now.
    pub(super) fn unknown(&self, scan: &Scan, role: i64) -> Vec<i64> {
        if scan.at < self.quiet_until {
            return Vec::new();
        }
        let of_role = scan.entries.iter().filter(|e| e.key.userid == role);
        let unknown = of_role.filter(|e| !self.verdicts.contains_key(&id(&e.key)));
        unknown.map(|e| e.key.queryid).collect()
    }

    /// Notes what the texts told, and forgets what is not in the view any more.
    pub(super) fn take(&mut self, scan: &Scan, answer: &Answer) {
        let first = *self.first.get_or_insert(scan.at);
        match answer {
            Answer::NotAsked => {}
            Answer::Known(verdicts) => {
                self.verdicts.extend(verdicts.iter().copied());
                self.failures = 0;
                let eager = scan.at < first + EAGER;
                self.quiet_until = if eager { scan.at } else { scan.at + PAUSE };
            }
            Answer::Failed => {
                let pause = PAUSE * f64::from(1u32 << self.failures.min(10));
                self.quiet_until = scan.at + pause.min(LONGEST_PAUSE);
                self.failures += 1;
            }
        }
        if self.verdicts.len() > 2 * scan.entries.len() {
            let there: std::collections::HashSet<Id> =
                scan.entries.iter().map(|e| id(&e.key)).collect();
            self.verdicts.retain(|id, _| there.contains(id));
        }
    }

    /// Whether a row is known to be ours.
    pub(super) fn is_own(&self, key: &EntryKey) -> bool {
        self.verdicts.get(&id(key)) == Some(&true)
    }

    /// Counts new calls if they are ours, and says whether they are.
    pub(super) fn takes(&mut self, new: &New<'_>) -> bool {
        let ours = self.is_own(&new.key);
        if ours {
            self.calls += new.found.calls;
            self.seconds += new.seconds;
        }
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::statements::Entry;
    use crate::derive::latency::Cumulative;

    fn scan(at: f64, queryids: &[i64]) -> Scan {
        let entry = |queryid: &i64| Entry {
            key: EntryKey { dbid: 1, userid: 10, queryid: *queryid, toplevel: true },
            since: 0.0,
            time: Cumulative::default(),
            counters: Default::default(),
            planning: None,
        };
        Scan { at, entries: queryids.iter().map(entry).collect(), ..Scan::default() }
    }

    #[test]
    fn texts_are_asked_for_once_and_later_seldom() {
        let mut own = Own::default();
        assert_eq!(own.unknown(&scan(0.0, &[1, 2]), 10), [1, 2]);
        assert_eq!(own.unknown(&scan(0.0, &[1, 2]), 11), [0; 0], "another role");
        let known = Answer::Known(vec![((1, 10, 1), true), ((1, 10, 2), false)]);
        own.take(&scan(0.0, &[1, 2]), &known);
        assert_eq!(own.unknown(&scan(1.0, &[1, 2]), 10), [0; 0]);
        assert_eq!(own.unknown(&scan(1.0, &[1, 2, 3]), 10), [3]);
        own.take(&scan(60.0, &[1, 2, 3]), &Answer::Known(vec![((1, 10, 3), false)]));
        assert_eq!(own.unknown(&scan(100.0, &[1, 4]), 10), [0; 0]);
        assert_eq!(own.unknown(&scan(120.0, &[1, 4]), 10), [4]);
    }

    #[test]
    fn texts_that_cannot_be_read_are_asked_for_ever_more_seldom() {
        let mut own = Own::default();
        let (mut at, mut asked) = (0.0, 0);
        while at < 86_400.0 {
            let now = scan(at, &[1]);
            let failed = !own.unknown(&now, 10).is_empty();
            own.take(&now, if failed { &Answer::Failed } else { &Answer::NotAsked });
            asked += u32::from(failed);
            at += 1.0;
        }
        assert!((20..=32).contains(&asked), "{asked} times a day");
    }

    #[test]
    fn what_left_the_view_is_forgotten() {
        let mut own = Own::default();
        let answers: Vec<(Id, bool)> = (0..5).map(|q| ((1, 10, q), true)).collect();
        own.take(&scan(0.0, &[1]), &Answer::Known(answers));
        assert_eq!(own.verdicts.len(), 1);
    }
}
