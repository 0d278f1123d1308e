//! Which index does another one's work as well.
//!
//! Must not: name an index that something but queries relies on, or one whose cover is named itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::facts::{Definition, Index, IndexKey, Term};

/// In what way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// The other is the same.
    Duplicate,
    /// The other has the same keys, and enforces them, returns more columns, or is in the reverse
    /// order.
    Twin,
    /// The other begins with these keys.
    Prefix,
}

/// Why an index need not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cover {
    /// The index that does its work.
    pub by: i64,
    /// How.
    pub how: How,
}

/// What of an index decides which of two equals stays: the one that most relies on. Then the name, which
/// stays the same over dump and restore, as oids do not.
fn rank(index: &Index) -> impl Ord + '_ {
    let name = index.name.as_deref().unwrap_or_default();
    let needed = [
        index.primary,
        index.replica_identity,
        index.referenced,
        index.constraint.is_some(),
        // A partition's own index goes before the one that comes with the root's.
        index.parent.is_some(),
        index.clustered,
    ];
    (std::cmp::Reverse(needed), name.len(), name.to_owned(), index.id)
}

/// Whether something but queries relies on an index, so that it is never named. (An exclusion
/// constraint's operators are not compared.)
fn pinned(index: &Index) -> bool {
    index.primary
        || index.exclusion
        || index.replica_identity
        || index.referenced
        || index.clustered
}

/// Whether the keys of `a` begin `b`: in the same order, or all reversed, which a B-tree read backwards
/// gives.
fn begins(a: &[IndexKey], b: &[IndexKey], btree: bool) -> Option<bool> {
    let prefix = b.get(..a.len())?;
    let same = |flip: i16| {
        a.iter().zip(prefix).all(|(x, y)| {
            let equal = (&x.term, x.opclass, x.collation) == (&y.term, y.opclass, y.collation);
            equal && x.option == y.option ^ flip
        })
    };
    if same(0) {
        return Some(false);
    }
    (btree && same(3)).then_some(true)
}

/// Whether an index-only scan of `b` gives the INCLUDE columns of `a`.
fn includes(a: &Definition, b: &Definition, btree: bool) -> bool {
    let key = |column: &i16| btree && b.keys.iter().any(|key| key.term == Term::Column(*column));
    a.include.iter().all(|column| b.include.contains(column) || key(column))
}

/// How `b` does the work of `a` by their definitions; no word on which of two equals stays.
fn shape(a: &Index, b: &Index) -> Option<How> {
    let (x, y) = (a.definition.as_ref()?, b.definition.as_ref()?);
    let comparable = a.id != b.id
        && a.table == b.table
        && x.method == y.method
        && x.options == y.options
        && x.predicate == y.predicate;
    if !comparable || pinned(a) || !a.usable() || !b.usable() {
        return None;
    }
    let btree = x.method == "btree";
    let mirrored = begins(&x.keys, &y.keys, btree)?;
    if !includes(x, y, btree) {
        return None;
    }
    if x.keys.len() < y.keys.len() {
        return (btree && !x.unique && a.constraint.is_none()).then_some(How::Prefix);
    }
    let enforces = (x.unique, x.nulls_not_distinct, x.immediate)
        == (y.unique, y.nulls_not_distinct, y.immediate);
    if enforces && !b.exclusion && !mirrored && includes(y, x, false) && includes(x, y, false) {
        return Some(How::Duplicate);
    }
    (!x.unique && a.constraint.is_none()).then_some(How::Twin)
}

/// As [`shape`], but of two that do each other's work only one is named.
fn covers(a: &Index, b: &Index) -> Option<How> {
    let how = shape(a, b)?;
    let stays = match shape(b, a) {
        Some(_) => rank(b) < rank(a),
        // The other is pinned, or does more.
        None => true,
    };
    stays.then_some(how)
}

/// The covers of the indexes of one table, by the oid of what is covered. `named` says of an index that
/// is attached to another one whether that is covered.
fn of_table(
    indexes: &[&Index],
    named: &HashSet<i64>,
    root: impl Fn(i64) -> i64,
) -> HashMap<i64, Cover> {
    // An index covers only those that begin with the same term.
    let mut groups: HashMap<&Term, Vec<&Index>> = HashMap::new();
    for index in indexes {
        let first = index.definition.as_ref().and_then(|d| d.keys.first());
        if let Some(first) = first {
            groups.entry(&first.term).or_default().push(index);
        }
    }
    let mut found = HashMap::new();
    for group in groups.values() {
        let by: Vec<(&Index, Vec<(&Index, How)>)> = group
            .iter()
            .filter(|a| a.parent.is_none())
            .map(|a| {
                let all = group.iter().filter_map(|b| Some((*b, covers(a, b)?)));
                (*a, all.collect::<Vec<_>>())
            })
            .filter(|(_, all)| !all.is_empty())
            .collect();
        let gone: HashSet<i64> = by.iter().map(|(a, _)| a.id).collect();
        let stays = |b: &Index| !gone.contains(&b.id) && !named.contains(&root(b.id));
        for (a, all) in by {
            let best = all.into_iter().min_by(|(x, how_x), (y, how_y)| {
                stays(y)
                    .cmp(&stays(x))
                    .then(how_x.cmp(how_y))
                    .then_with(|| by_size(x, y))
                    .then_with(|| rank(x).cmp(&rank(y)))
            });
            found.extend(best.map(|(b, how)| (a.id, Cover { by: b.id, how })));
        }
    }
    found
}

/// The narrower first.
fn by_size(x: &Index, y: &Index) -> Ordering {
    let size = |index: &Index| {
        index.definition.as_ref().map_or((0, 0), |d| (d.keys.len(), d.include.len()))
    };
    size(x).cmp(&size(y))
}

/// The covers of all indexes that are attached to no other, by the oid of what is covered. A table comes
/// after those that it is a partition of (`depth`), since its indexes follow theirs.
pub(super) fn all(
    indexes: &[Index],
    depth: impl Fn(i64) -> usize,
    root: impl Fn(i64) -> i64 + Copy,
) -> HashMap<i64, Cover> {
    let mut tables: HashMap<i64, Vec<&Index>> = HashMap::new();
    for index in indexes.iter().filter(|index| index.definition.is_some()) {
        tables.entry(index.table).or_default().push(index);
    }
    let mut levels: BTreeMap<usize, Vec<Vec<&Index>>> = BTreeMap::new();
    for (table, indexes) in tables.into_iter().filter(|(_, all)| all.len() > 1) {
        levels.entry(depth(table)).or_default().push(indexes);
    }
    let mut found = HashMap::new();
    for tables in levels.values() {
        let named: HashSet<i64> = found.keys().copied().collect();
        for indexes in tables {
            found.extend(of_table(indexes, &named, root));
        }
    }
    found
}
