//! pgrunway's own statements. A poll a second of a quiet server would otherwise be most of what its
//! percentiles show. They are told by the comment that each of them carries, not by the role, which
//! may be an application's too.
//!
//! Must not: leave out a statement whose text was not seen, or read texts again and again.

use std::collections::HashMap;

use super::scan::{EntryKey, Scan};
use super::track::New;

/// For so long after the first poll, texts are read whenever there is something new: each collector
/// runs for the first time then.
const EAGER: f64 = 60.0;
/// Later, texts are read at most this often. They are all read on the server, whatever is asked for.
const PAUSE: f64 = 60.0;

/// `dbid`, `userid`, `queryid`.
pub(super) type Id = (i64, i64, i64);

/// Which statements of our role are ours, and what they took.
#[derive(Default)]
pub(super) struct Own {
    verdicts: HashMap<Id, bool>,
    /// Monotonic seconds of the first poll and of the last answer.
    first: Option<f64>,
    answered: f64,
    pub calls: u64,
    pub seconds: f64,
}

fn id(key: &EntryKey) -> Id {
    (key.dbid, key.userid, key.queryid)
}

impl Own {
    /// Queryids of `role` whose texts are to be looked at now.
    pub(super) fn unknown(&self, scan: &Scan, role: i64) -> Vec<i64> {
        let eager = self.first.is_none_or(|first| scan.at < first + EAGER);
        if !eager && scan.at < self.answered + PAUSE {
            return Vec::new();
        }
        let of_role = scan.entries.iter().filter(|e| e.key.userid == role);
        let unknown = of_role.filter(|e| !self.verdicts.contains_key(&id(&e.key)));
        unknown.map(|e| e.key.queryid).collect()
    }

    /// Notes what the texts told, and forgets what is not in the view any more.
    pub(super) fn take(&mut self, scan: &Scan, answers: Option<&[(Id, bool)]>) {
        self.first.get_or_insert(scan.at);
        if let Some(answers) = answers {
            self.verdicts.extend(answers.iter().copied());
            self.answered = scan.at;
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
            self.calls += new.calls;
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
        own.take(&scan(0.0, &[1, 2]), Some(&[((1, 10, 1), true), ((1, 10, 2), false)]));
        assert_eq!(own.unknown(&scan(1.0, &[1, 2, 3]), 10), [3]);
        own.take(&scan(59.0, &[1, 2, 3]), Some(&[((1, 10, 3), false)]));
        assert_eq!(own.unknown(&scan(100.0, &[1, 4]), 10), [0; 0]);
        assert_eq!(own.unknown(&scan(119.0, &[1, 4]), 10), [4]);
    }

    #[test]
    fn what_left_the_view_is_forgotten() {
        let mut own = Own::default();
        let answers: Vec<(Id, bool)> = (0..5).map(|q| ((1, 10, q), true)).collect();
        own.take(&scan(0.0, &[1]), Some(&answers));
        assert_eq!(own.verdicts.len(), 1);
    }
}
