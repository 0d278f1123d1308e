//! Who holds up whom: from who waits for what, and who stands in the way of some of them, to the sessions at the roots
//! and all that wait behind each.
//!
//! Must not: ask, or take a session for a root that waits itself.

use std::collections::{BTreeMap, BTreeSet};

/// A session, by its process; a prepared transaction by any number that no process has.
pub type Id = i64;

/// A session that waits for a lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiter {
    /// Who.
    pub id: Id,
    /// What for: who waits for the same waits for the same ones.
    pub lock: String,
    /// For how long, in seconds.
    pub seconds: f64,
}

/// A session that waits for nobody, and what waits behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct RootBlocker {
    /// Who.
    pub id: Id,
    /// All that wait for it, directly or behind others; a session that waits for two roots is behind both.
    pub held_up: Vec<Id>,
    /// For how long the first of them has waited, in seconds.
    pub longest: f64,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Those who hold up most first.
    pub roots: Vec<RootBlocker>,
    /// Of each session, those that wait for it.
    pub behind: BTreeMap<Id, Vec<Id>>,
    /// Sessions that wait for each other and for nobody else: a deadlock that is not found yet, and all behind it.
    pub in_circle: Vec<Id>,
    /// Sessions of which nobody asked whom they wait for.
    pub unresolved: usize,
}

/// The graph of `waiters`, of some of which `asked` says who is in their way. Where that is nobody the wait was over
/// meanwhile. A session that was not asked for has whoever is in the way of one that waits for the same lock.
pub fn graph(waiters: &[Waiter], asked: &BTreeMap<Id, Vec<Id>>) -> Graph {
    let by_lock: BTreeMap<&str, &Vec<Id>> = waiters
        .iter()
        .filter_map(|w| asked.get(&w.id).map(|blockers| (w.lock.as_str(), blockers)))
        .filter(|(_, blockers)| !blockers.is_empty())
        .collect();
    let mut graph = Graph::default();
    let mut blockers: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for waiter in waiters {
        let known = asked.get(&waiter.id).or_else(|| by_lock.get(waiter.lock.as_str()).copied());
        let Some(known) = known else {
            graph.unresolved += 1;
            continue;
        };
        let others: BTreeSet<Id> = known.iter().copied().filter(|id| *id != waiter.id).collect();
        if !others.is_empty() {
            blockers.insert(waiter.id, others);
        }
    }
    for (waiter, its) in &blockers {
        for blocker in its {
            graph.behind.entry(*blocker).or_default().push(*waiter);
        }
    }
    let seconds: BTreeMap<Id, f64> = waiters.iter().map(|w| (w.id, w.seconds)).collect();
    let waits =
        |ids: &[Id]| ids.iter().filter_map(|id| seconds.get(id)).fold(0.0, |a: f64, b| a.max(*b));
    let mut reached: BTreeSet<Id> = BTreeSet::new();
    for id in graph.behind.keys().filter(|id| !blockers.contains_key(id)) {
        let held_up = all_behind(*id, &graph.behind);
        reached.extend(&held_up);
        graph.roots.push(RootBlocker { id: *id, longest: waits(&held_up), held_up });
    }
    graph.roots.sort_by(|a, b| {
        b.held_up.len().cmp(&a.held_up.len()).then(b.longest.total_cmp(&a.longest))
    });
    graph.in_circle = blockers.into_keys().filter(|id| !reached.contains(id)).collect();
    graph
}

/// All that wait for one, directly or behind others.
fn all_behind(root: Id, behind: &BTreeMap<Id, Vec<Id>>) -> Vec<Id> {
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        let waiting = behind.get(&id).into_iter().flatten();
        next.extend(waiting.filter(|id| found.insert(**id)));
    }
    found.remove(&root);
    found.into_iter().collect()
}

/// Each session below a root once, with its depth, those that wait directly for one right below it; at most `most`.
pub fn lines(root: Id, graph: &Graph, most: usize) -> Vec<(usize, Id)> {
    let mut seen = BTreeSet::from([root]);
    let mut lines = Vec::new();
    let below =
        |id, depth| graph.behind.get(&id).into_iter().flatten().rev().map(move |id| (depth, *id));
    let mut next: Vec<(usize, Id)> = below(root, 1).collect();
    while let Some((depth, id)) = next.pop() {
        if lines.len() < most && seen.insert(id) {
            lines.push((depth, id));
            next.extend(below(id, depth + 1));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiter(id: Id, lock: &str, seconds: f64) -> Waiter {
        Waiter { id, lock: lock.to_owned(), seconds }
    }

    fn asked(pairs: &[(Id, &[Id])]) -> BTreeMap<Id, Vec<Id>> {
        pairs.iter().map(|(id, blockers)| (*id, blockers.to_vec())).collect()
    }

    #[test]
    fn a_queue_for_a_row_has_one_root_though_only_its_head_waits_for_it() {
        // 2 waits for the transaction of 1, 3 for the tuple that 2 holds, 4 and 5 behind it for the same.
        let waiters = [
            waiter(2, "transactionid 9", 60.0),
            waiter(3, "tuple 7", 50.0),
            waiter(4, "tuple 7", 40.0),
            waiter(5, "tuple 7", 30.0),
        ];
        let graph = graph(&waiters, &asked(&[(2, &[1]), (3, &[2])]));
        assert_eq!(graph.roots, [RootBlocker { id: 1, held_up: vec![2, 3, 4, 5], longest: 60.0 }]);
        assert_eq!((graph.unresolved, graph.in_circle.len()), (0, 0));
        assert_eq!(lines(1, &graph, 10), [(1, 2), (2, 3), (2, 4), (2, 5)]);
        assert_eq!(lines(1, &graph, 2), [(1, 2), (2, 3)]);
    }

    #[test]
    fn two_roots_share_who_waits_for_both_and_the_one_that_holds_up_more_is_first() {
        let waiters = [waiter(3, "a", 1.0), waiter(4, "b", 2.0), waiter(5, "c", 9.0)];
        let graph = graph(&waiters, &asked(&[(3, &[1]), (4, &[2]), (5, &[1, 2, 4])]));
        let root =
            |id, held_up: &[Id], longest| RootBlocker { id, held_up: held_up.to_vec(), longest };
        assert_eq!(graph.roots, [root(1, &[3, 5], 9.0), root(2, &[4, 5], 9.0)]);
        assert_eq!(lines(2, &graph, 10), [(1, 4), (2, 5)]);
    }

    #[test]
    fn a_circle_has_no_root_a_wait_that_ended_is_none_and_what_nobody_asked_for_is_counted() {
        let waiters = [
            waiter(1, "a", 1.0),
            waiter(2, "b", 1.0),
            waiter(3, "b", 1.0),
            waiter(4, "c", 1.0),
            waiter(5, "d", 1.0),
        ];
        let graph = graph(&waiters, &asked(&[(1, &[2]), (2, &[1]), (4, &[])]));
        assert_eq!(graph.roots, []);
        assert_eq!(graph.in_circle, [1, 2, 3], "3 waits for the same as 2");
        assert_eq!(graph.unresolved, 1, "5");
    }

    #[test]
    fn a_session_that_waits_for_what_it_holds_in_part_is_not_its_own_blocker() {
        let waiters = [waiter(2, "a", 9.0), waiter(3, "a", 1.0)];
        let graph = graph(&waiters, &asked(&[(2, &[1, 3])]));
        assert_eq!(graph.roots, [RootBlocker { id: 1, held_up: vec![2, 3], longest: 9.0 }]);
    }

    proptest! {
        #[test]
        fn every_waiter_is_behind_a_root_or_in_a_circle_or_accounted_for(
            waits in proptest::collection::vec((0i64..20, proptest::option::of(proptest::collection::vec(0i64..25, 0..4))), 0..30),
        ) {
            let mut waiters = BTreeMap::new();
            let mut asked = BTreeMap::new();
            for (id, blockers) in waits {
                waiters.insert(id, waiter(id, &format!("l{}", id % 7), id as f64));
                if let Some(blockers) = blockers { asked.insert(id, blockers); }
            }
            let waiters: Vec<Waiter> = waiters.into_values().collect();
            let graph = graph(&waiters, &asked);
            let ids: BTreeSet<Id> = waiters.iter().map(|w| w.id).collect();
            let held: BTreeSet<Id> = graph.roots.iter().flat_map(|r| r.held_up.clone()).collect();
            prop_assert!(held.is_subset(&ids));
            prop_assert!(graph.in_circle.iter().all(|id| ids.contains(id) && !held.contains(id)));
            let stuck = |w: &&Waiter| asked.get(&w.id).is_some_and(|b| b.iter().any(|id| *id != w.id));
            for waiter in waiters.iter().filter(stuck) {
                prop_assert!(held.contains(&waiter.id) || graph.in_circle.contains(&waiter.id));
            }
            prop_assert!(held.len() + graph.in_circle.len() + graph.unresolved <= waiters.len());
            for root in &graph.roots {
                let below: BTreeSet<Id> = lines(root.id, &graph, 1_000).into_iter().map(|(_, id)| id).collect();
                prop_assert_eq!(below, root.held_up.iter().copied().collect());
                prop_assert!(!root.held_up.contains(&root.id));
            }
        }
    }
}
