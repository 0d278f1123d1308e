//! Cumulative counters of many leaves (partitions, their indexes) as totals per root that start at
//! zero and never fall while the root lives, whatever is dropped, detached, rebuilt or reset below it;
//! and what to publish of them: of a root that is one row of the server's view, the row itself.
//!
//! Must not: re-sum readings of several tables (a dropped one would take its history with it), or know what a
//! leaf is.

use std::collections::{HashMap, HashSet};

use super::delta::increment;

/// Deeper trees than this are taken for a cycle, which the catalogs cannot hold.
const MAX_DEPTH: usize = 100;

/// Who is whose parent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forest(HashMap<i64, i64>);

impl Forest {
    /// From (child, parent) pairs.
    pub fn new(pairs: impl IntoIterator<Item = (i64, i64)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The ancestors from the parent on.
    pub fn ancestors(&self, id: i64) -> impl Iterator<Item = i64> {
        let parent = |id: &i64| self.0.get(id).copied();
        std::iter::successors(parent(&id), parent).take(MAX_DEPTH)
    }

    /// The topmost ancestor, or `id` itself where it has none.
    pub fn root(&self, id: i64) -> i64 {
        self.ancestors(id).last().unwrap_or(id)
    }

    /// How many ancestors there are.
    pub fn depth(&self, id: i64) -> usize {
        self.ancestors(id).count()
    }
}

/// What a leaf keeps when its id changes: its owner and a hash of its name. `REINDEX CONCURRENTLY`
/// gives an index a new oid and copies its counters.
pub type Alias = (i64, i32);

/// The cumulative counters of one leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<const N: usize> {
    /// Unique among the readings of one update.
    pub id: i64,
    /// To whose total it adds.
    pub root: i64,
    /// How to know it again under another id.
    pub alias: Option<Alias>,
    /// The counters; they live in one row and are reset together.
    pub counters: [f64; N],
}

impl<const N: usize> Reading<N> {
    /// Whether it belongs to the row of the root in the server's view: it is the root, or an index of it.
    fn is_of_the_root(&self) -> bool {
        self.id == self.root || self.alias.is_some_and(|(owner, _)| owner == self.root)
    }
}

#[derive(Debug, Clone)]
struct LeafCounters<const N: usize> {
    alias: Option<Alias>,
    last: [f64; N],
}

/// What a root's leaves counted.
#[derive(Debug, Clone, Copy)]
struct Total<const N: usize> {
    shown: [f64; N],
    /// Counted before the root was first seen, and shown from the next update on: whoever computes
    /// increases needs the zero before it.
    pending: [f64; N],
    /// What the server itself counts, as long as nothing but the root's own row was ever added up.
    own: Option<[f64; N]>,
}

/// Totals per root: increments since the first update. What the leaves counted before is left out,
/// or a process that starts anew would start at a lower sum (without the history of the leaves that
/// are gone), which is taken for a reset, and the survivors' whole history for an increase.
#[derive(Debug, Clone)]
pub struct Rollup<const N: usize> {
    epoch: Option<f64>,
    leaves: HashMap<i64, LeafCounters<N>>,
    totals: HashMap<i64, Total<N>>,
}

impl<const N: usize> Default for Rollup<N> {
    fn default() -> Self {
        Self { epoch: None, leaves: HashMap::new(), totals: HashMap::new() }
    }
}

impl<const N: usize> Rollup<N> {
    /// Takes one reading of every leaf. A leaf whose counters are all zero may be left out, but a
    /// root lives only as long as there is a reading with it as `root`. A new root is zero; what it
    /// counted since the last update follows with the next.
    ///
    /// `epoch` is the start of the server that counted. Another one means that the counters may be
    /// another server's (a failover under the same name), so that the difference says nothing: that
    /// reading adds nothing and becomes the new base, as the first one does.
    pub fn update(&mut self, epoch: f64, readings: &[Reading<N>]) {
        let same_server = self.epoch == Some(epoch);
        self.epoch = Some(epoch);
        let renumbered = self.renumbered(readings);
        let mut leaves = HashMap::with_capacity(readings.len());
        let mut sums: HashMap<i64, [f64; N]> = HashMap::new();
        let mut rows: HashMap<i64, Option<[f64; N]>> = HashMap::new();
        for reading in readings {
            let known = renumbered.get(&reading.id).unwrap_or(&reading.id);
            let by = match self.leaves.get(known) {
                _ if !same_server => [0.0; N],
                Some(leaf) => row_increment(&leaf.last, &reading.counters),
                // Created since the last reading, so that all it counted is new.
                None => reading.counters,
            };
            add(sums.entry(reading.root).or_insert([0.0; N]), &by);
            let row = rows.entry(reading.root).or_insert(Some([0.0; N]));
            match row {
                Some(row) if reading.is_of_the_root() => add(row, &reading.counters),
                _ => *row = None,
            }
            leaves
                .insert(reading.id, LeafCounters { alias: reading.alias, last: reading.counters });
        }
        self.totals = sums
            .into_iter()
            .map(|(root, adds)| {
                let known = renumbered.get(&root).unwrap_or(&root);
                let own = rows.get(&root).copied().flatten();
                let total = match self.totals.get(known) {
                    None => Total { shown: [0.0; N], pending: adds, own },
                    Some(before) => {
                        let mut shown = before.shown;
                        add(&mut shown, &before.pending);
                        add(&mut shown, &adds);
                        // The last partition may be dropped, and the sum must not fall to the root's own.
                        let own = own.filter(|_| before.own.is_some());
                        Total { shown, pending: [0.0; N], own }
                    }
                };
                (root, total)
            })
            .collect();
        self.leaves = leaves;
    }

    /// New id to old id, for those that were known under another one.
    fn renumbered(&self, readings: &[Reading<N>]) -> HashMap<i64, i64> {
        let unknown: Vec<_> = readings
            .iter()
            .filter(|r| !self.leaves.contains_key(&r.id))
            .filter_map(|r| Some((r.id, r.alias?)))
            .collect();
        if unknown.is_empty() || self.leaves.is_empty() {
            return HashMap::new();
        }
        let present: HashSet<i64> = readings.iter().map(|r| r.id).collect();
        let gone: HashMap<Alias, i64> = self
            .leaves
            .iter()
            .filter(|(id, _)| !present.contains(id))
            .filter_map(|(id, leaf)| Some((leaf.alias?, *id)))
            .collect();
        unknown.into_iter().filter_map(|(id, alias)| Some((id, *gone.get(&alias)?))).collect()
    }

    /// What to publish of a root of the last update: the server's own counters where they are one row of its
    /// view, which fall when they are reset; else the total.
    pub fn published(&self, root: i64) -> Option<[f64; N]> {
        self.totals.get(&root).map(|total| total.own.unwrap_or(total.shown))
    }

    /// The increments of a root since its first update, for windows; of the last update.
    pub fn total(&self, root: i64) -> Option<[f64; N]> {
        self.totals.get(&root).map(|total| total.shown)
    }
}

/// Increments of counters that are reset together: when one fell, all count from zero.
fn row_increment<const N: usize>(last: &[f64; N], now: &[f64; N]) -> [f64; N] {
    let steps: [_; N] = std::array::from_fn(|i| increment(last[i], now[i]));
    let reset = steps.iter().any(|s| s.reset);
    std::array::from_fn(|i| if reset { now[i].max(0.0) } else { steps[i].by })
}

fn add<const N: usize>(sums: &mut [f64; N], by: &[f64; N]) {
    for (sum, by) in sums.iter_mut().zip(by) {
        *sum += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(id: i64, root: i64, count: f64) -> Reading<1> {
        Reading { id, root, alias: None, counters: [count] }
    }

    fn index(id: i64, root: i64, name: i32, count: f64) -> Reading<1> {
        Reading { id, root, alias: Some((root, name)), counters: [count] }
    }

    fn totals(polls: &[&[Reading<1>]], root: i64) -> Vec<Option<f64>> {
        let mut rollup = Rollup::default();
        polls
            .iter()
            .map(|readings| {
                rollup.update(1.0, readings);
                rollup.total(root).map(|t| t[0])
            })
            .collect()
    }

    #[test]
    fn starts_at_zero_and_adds_increments() {
        let seen = totals(
            &[
                &[leaf(1, 1, 0.0), leaf(2, 1, 10.0), leaf(3, 1, 5.0)],
                &[leaf(1, 1, 0.0), leaf(2, 1, 12.0), leaf(3, 1, 5.0)],
            ],
            1,
        );
        assert_eq!(seen, [Some(0.0), Some(2.0)]);
    }

    #[test]
    fn a_dropped_leaf_keeps_its_history_and_a_new_one_brings_its_own() {
        let seen = totals(
            &[
                &[leaf(1, 1, 0.0), leaf(2, 1, 10.0)],
                &[leaf(1, 1, 0.0)],
                &[leaf(1, 1, 0.0), leaf(3, 1, 4.0)],
            ],
            1,
        );
        assert_eq!(seen, [Some(0.0), Some(0.0), Some(4.0)]);
    }

    #[test]
    fn an_attached_table_brings_only_what_it_counts_from_then_on() {
        let polls: [&[Reading<1>]; 3] = [
            &[leaf(1, 1, 0.0), leaf(9, 9, 1000.0)],
            &[leaf(1, 1, 0.0), leaf(9, 1, 1001.0)],
            &[leaf(1, 1, 0.0), leaf(9, 9, 1003.0)],
        ];
        assert_eq!(totals(&polls, 1), [Some(0.0), Some(1.0), Some(1.0)]);
        assert_eq!(totals(&polls, 9), [Some(0.0), None, Some(0.0)]);
    }

    #[test]
    fn a_new_root_shows_zero_before_what_it_counted_already() {
        let polls: [&[Reading<1>]; 4] = [
            &[leaf(1, 1, 70.0)],
            &[leaf(1, 1, 70.0), leaf(2, 2, 5.0)],
            &[leaf(1, 1, 70.0), leaf(2, 2, 6.0)],
            &[leaf(1, 1, 70.0), leaf(2, 2, 6.0)],
        ];
        assert_eq!(totals(&polls, 2), [None, Some(0.0), Some(6.0), Some(6.0)]);
    }

    #[test]
    fn the_history_of_what_is_gone_makes_no_difference_to_a_process_that_starts_anew() {
        let before: &[Reading<1>] = &[leaf(1, 1, 0.0), leaf(2, 1, 9000.0), leaf(3, 1, 10.0)];
        let dropped: &[Reading<1>] = &[leaf(1, 1, 0.0), leaf(3, 1, 12.0)];
        let later: &[Reading<1>] = &[leaf(1, 1, 0.0), leaf(3, 1, 15.0)];
        let (long, new) = (totals(&[before, dropped, later], 1), totals(&[dropped, later], 1));
        assert_eq!(long, [Some(0.0), Some(2.0), Some(5.0)]);
        assert_eq!(new, [Some(0.0), Some(3.0)], "no higher than what was counted since");
    }

    #[test]
    fn a_reset_counts_from_zero_and_takes_the_whole_row_with_it() {
        let mut rollup = Rollup::<2>::default();
        let row = |counters| [Reading { id: 1, root: 1, alias: None, counters }];
        rollup.update(1.0, &row([100.0, 10.0]));
        rollup.update(1.0, &row([5.0, 20.0]));
        assert_eq!(rollup.total(1), Some([5.0, 20.0]));
    }

    #[test]
    fn a_leaf_left_out_at_zero_after_a_reset_counts_again_when_it_is_back() {
        let seen = totals(
            &[
                &[leaf(1, 1, 0.0), leaf(2, 1, 7.0)],
                &[leaf(1, 1, 0.0)],
                &[leaf(1, 1, 0.0), leaf(2, 1, 3.0)],
            ],
            1,
        );
        assert_eq!(seen, [Some(0.0), Some(0.0), Some(3.0)]);
    }

    #[test]
    fn a_rebuilt_index_is_known_by_its_name_whether_leaf_or_root() {
        let leaves = totals(
            &[&[leaf(1, 1, 0.0), index(2, 1, 42, 50.0)], &[leaf(1, 1, 0.0), index(3, 1, 42, 51.0)]],
            1,
        );
        assert_eq!(leaves, [Some(0.0), Some(1.0)]);
        let mut rollup = Rollup::default();
        let root = |id, count| [Reading { id, root: id, alias: Some((7, 42)), counters: [count] }];
        rollup.update(1.0, &root(2, 50.0));
        rollup.update(1.0, &root(2, 3.0));
        rollup.update(1.0, &root(5, 4.0));
        assert_eq!(rollup.total(5), Some([4.0]));
        assert_eq!(rollup.total(2), None);
    }

    #[test]
    fn another_server_is_a_new_base_without_a_spike() {
        let mut rollup = Rollup::default();
        rollup.update(1.0, &[leaf(1, 1, 10.0)]);
        rollup.update(1.0, &[leaf(1, 1, 20.0)]);
        rollup.update(2.0, &[leaf(1, 1, 1_000_000.0), leaf(2, 1, 500.0)]);
        assert_eq!(rollup.total(1), Some([10.0]));
        rollup.update(2.0, &[leaf(1, 1, 1_000_001.0), leaf(2, 1, 500.0)]);
        assert_eq!(rollup.total(1), Some([11.0]));
    }

    fn published(polls: &[&[Reading<1>]], root: i64) -> Vec<Option<f64>> {
        let mut rollup = Rollup::default();
        polls
            .iter()
            .map(|readings| {
                rollup.update(1.0, readings);
                rollup.published(root).map(|t| t[0])
            })
            .collect()
    }

    #[test]
    fn of_one_row_the_servers_own_value_is_published_also_when_it_falls() {
        let row = |count| vec![leaf(1, 1, count)];
        let seen = published(&[&row(70.0), &row(75.0), &row(2.0), &row(3.0)], 1);
        assert_eq!(seen, [70.0, 75.0, 2.0, 3.0].map(Some));
    }

    #[test]
    fn indexes_of_the_root_are_of_its_row() {
        let seen = published(&[&[leaf(1, 1, 5.0), index(2, 1, 42, 50.0)], &[leaf(1, 1, 6.0)]], 1);
        assert_eq!(seen, [Some(55.0), Some(6.0)]);
    }

    #[test]
    fn what_adds_up_rows_goes_by_increments_also_when_one_is_left() {
        let polls: [&[Reading<1>]; 4] = [
            &[leaf(1, 1, 0.0), leaf(2, 1, 10.0), Reading { root: 1, ..index(3, 2, 9, 5.0) }],
            &[leaf(1, 1, 0.0), leaf(2, 1, 14.0), Reading { root: 1, ..index(3, 2, 9, 6.0) }],
            &[leaf(1, 1, 0.0)],
            &[leaf(1, 1, 0.0), leaf(4, 1, 7.0)],
        ];
        assert_eq!(published(&polls, 1), [0.0, 5.0, 5.0, 12.0].map(Some));
    }

    #[test]
    fn the_first_partition_turns_a_row_into_a_sum_that_starts_at_zero() {
        let polls: [&[Reading<1>]; 2] = [&[leaf(1, 1, 0.0)], &[leaf(1, 1, 0.0), leaf(2, 1, 7.0)]];
        assert_eq!(published(&polls, 1), [0.0, 7.0].map(Some));
    }

    #[test]
    fn a_forest_finds_the_top_and_survives_a_cycle() {
        let forest = Forest::new([(3, 2), (2, 1), (8, 9), (9, 8)]);
        assert_eq!((forest.root(3), forest.root(1), forest.root(77)), (1, 1, 77));
        forest.root(8);
    }

    proptest! {
        #[test]
        fn totals_never_fall(
            polls in prop::collection::vec(
                prop::collection::btree_map(2i64..8, (0u32..1000, 0i32..3), 0..6),
                1..30,
            ),
            restarts in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut rollup = Rollup::default();
            let (mut last, mut epoch) = (0.0, 0.0);
            for (poll, restart) in polls.iter().zip(restarts) {
                epoch += f64::from(u8::from(restart));
                let mut readings = vec![leaf(1, 1, 0.0)];
                readings.extend(
                    poll.iter().map(|(id, (n, name))| index(*id, 1, *name, f64::from(*n))),
                );
                rollup.update(epoch, &readings);
                let total = rollup.total(1).map_or(f64::NAN, |t| t[0]);
                prop_assert!(total >= last, "{total} < {last}");
                last = total;
            }
        }
    }
}
