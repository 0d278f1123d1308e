//! Which values of the keys that hold no time a slice of time takes, so that a later slice counts
//! only if it takes all that today's slice takes.
//!
//! Must not: guess how a type sorts; what cannot be compared is not contained.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::bound::Datum;

/// The key values that reach a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// Everything: a leaf, or partitions that leave no hole.
    All,
    /// A LIST level.
    Listed {
        /// What each listed value takes below.
        values: BTreeMap<Datum, Accept>,
        /// The same for all other values, where there is a DEFAULT.
        default: Option<Box<Accept>>,
    },
    /// A RANGE level over something that is no time.
    Ranged {
        /// From, to, and what is taken below.
        ranges: Vec<AcceptedRange>,
        /// The same for everything outside, where there is a DEFAULT.
        default: Option<Box<Accept>>,
    },
    /// A HASH level: nobody chooses the branch, so that each must do.
    Hashed(Vec<Accept>),
}

/// One range of a [`Accept::Ranged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRange {
    /// Inclusive.
    pub from: Box<[Datum]>,
    /// Exclusive.
    pub to: Box<[Datum]>,
    /// What is taken below.
    pub below: Accept,
}

impl Accept {
    /// A LIST level, simplified.
    pub fn listed(values: BTreeMap<Datum, Accept>, default: Option<Accept>) -> Self {
        if default == Some(Self::All) && values.values().all(|a| *a == Self::All) {
            return Self::All;
        }
        Self::Listed { values, default: default.map(Box::new) }
    }

    /// A RANGE level, adjacent ranges joined.
    pub fn ranged(ranges: Vec<AcceptedRange>, default: Option<Accept>) -> Self {
        if default == Some(Self::All) && ranges.iter().all(|r| r.below == Self::All) {
            return Self::All;
        }
        let ranges = join(ranges);
        let everything = ranges.iter().any(|r| {
            r.from.first() == Some(&Datum::MinValue)
                && r.to.first() == Some(&Datum::MaxValue)
                && r.below == Self::All
        });
        if everything {
            return Self::All;
        }
        Self::Ranged { ranges, default: default.map(Box::new) }
    }

    /// A HASH level without a hole, simplified.
    pub fn hashed(branches: Vec<Accept>) -> Self {
        if branches.iter().all(|a| *a == Self::All) {
            return Self::All;
        }
        Self::Hashed(branches)
    }

    /// Whether everything that `other` takes is taken here too. `false` where that is not certain.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Hashed(branches), _) => branches.iter().all(|b| b.contains(other)),
            (_, Self::Hashed(branches)) => branches.iter().all(|b| self.contains(b)),
            (Self::Listed { values, default }, Self::Listed { values: wanted, default: rest }) => {
                let listed = wanted.iter().all(|(value, below)| {
                    let here = values.get(value).or(default.as_deref());
                    here.is_some_and(|here| here.contains(below))
                });
                // What the other lists by itself does not reach its DEFAULT.
                let reached = values.iter().filter(|(value, _)| !wanted.contains_key(*value));
                listed && contains_rest(default, rest, reached.map(|(_, below)| below))
            }
            (Self::Ranged { ranges, default }, Self::Ranged { ranges: wanted, default: rest }) => {
                let ranged = wanted.iter().all(|w| {
                    let inside =
                        ranges.iter().any(|r| r.surrounds(w) && r.below.contains(&w.below));
                    let all = || ranges.iter().all(|r| r.below.contains(&w.below));
                    inside || default.as_ref().is_some_and(|d| d.contains(&w.below) && all())
                });
                let reached = ranges.iter().filter(|r| !wanted.iter().any(|w| w.surrounds(r)));
                ranged && contains_rest(default, rest, reached.map(|r| &r.below))
            }
            _ => false,
        }
    }
}

/// What another level's DEFAULT takes may fall into any of our branches.
fn contains_rest<'a>(
    default: &Option<Box<Accept>>,
    rest: &Option<Box<Accept>>,
    mut branches: impl Iterator<Item = &'a Accept>,
) -> bool {
    rest.as_ref().is_none_or(|rest| {
        default.as_ref().is_some_and(|d| d.contains(rest)) && branches.all(|b| b.contains(rest))
    })
}

impl AcceptedRange {
    fn surrounds(&self, other: &Self) -> bool {
        let from = compare(&self.from, &other.from);
        let to = compare(&self.to, &other.to);
        from.is_some_and(Ordering::is_le) && to.is_some_and(Ordering::is_ge)
    }
}

/// Joins ranges of which one ends where the other begins. By equality, which needs no sort order.
fn join(ranges: Vec<AcceptedRange>) -> Vec<AcceptedRange> {
    let mut starts: BTreeMap<Box<[Datum]>, AcceptedRange> =
        ranges.into_iter().map(|r| (r.from.clone(), r)).collect();
    let mut joined = Vec::new();
    let ends: std::collections::BTreeSet<Box<[Datum]>> =
        starts.values().map(|r| r.to.clone()).collect();
    let heads: Vec<_> = starts.keys().filter(|from| !ends.contains(*from)).cloned().collect();
    for head in heads {
        let Some(mut range) = starts.remove(&head) else { continue };
        while let Some(next) = starts.remove(&range.to) {
            if next.below == range.below {
                range.to = next.to;
            } else {
                joined.push(std::mem::replace(&mut range, next));
            }
        }
        joined.push(range);
    }
    joined
}

/// Column by column: infinities, equal texts and integers compare; nothing else does.
fn compare(a: &[Datum], b: &[Datum]) -> Option<Ordering> {
    for (x, y) in a.iter().zip(b) {
        if x == y {
            // All that follows an infinity is the same infinity.
            continue;
        }
        return match (x, y) {
            (Datum::MinValue, _) | (_, Datum::MaxValue) => Some(Ordering::Less),
            (Datum::MaxValue, _) | (_, Datum::MinValue) => Some(Ordering::Greater),
            (Datum::Value(x), Datum::Value(y)) => {
                let (x, y) = (x.parse::<i128>().ok()?, y.parse::<i128>().ok()?);
                Some(x.cmp(&y))
            }
            _ => None,
        };
    }
    Some(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Datum {
        match text {
            "min" => Datum::MinValue,
            "max" => Datum::MaxValue,
            text => Datum::Value(text.into()),
        }
    }

    fn list(values: &[&str], default: bool) -> Accept {
        let values = values.iter().map(|v| (value(v), Accept::All)).collect();
        Accept::listed(values, default.then_some(Accept::All))
    }

    fn ranges(ranges: &[(&str, &str)]) -> Accept {
        let range = |(from, to): &(&str, &str)| AcceptedRange {
            from: [value(from)].into(),
            to: [value(to)].into(),
            below: Accept::All,
        };
        Accept::ranged(ranges.iter().map(range).collect(), None)
    }

    #[test]
    fn a_list_contains_its_subsets() {
        assert!(list(&["a", "b"], false).contains(&list(&["b"], false)));
        assert!(!list(&["a"], false).contains(&list(&["a", "b"], false)));
        assert!(list(&["a"], true) == Accept::All && Accept::All.contains(&list(&["z"], false)));
        assert!(!list(&["a"], false).contains(&Accept::All));
    }

    #[test]
    fn a_default_takes_only_what_is_not_listed() {
        let below = |values: &[&str]| list(values, false);
        let slice = |eu: &[&str]| {
            let values = BTreeMap::from([(value("eu"), below(eu))]);
            Accept::listed(values, Some(Accept::All))
        };
        assert!(slice(&["a"]).contains(&slice(&["a"])), "the same takes the same");
        assert!(slice(&["a", "b"]).contains(&slice(&["a"])));
        assert!(!slice(&["a"]).contains(&slice(&["a", "b"])));
        // Here `us` is narrower than the DEFAULT that takes it there.
        let values = BTreeMap::from([(value("eu"), below(&["a"])), (value("us"), below(&["a"]))]);
        let narrower = Accept::listed(values, Some(Accept::All));
        assert!(!narrower.contains(&slice(&["a"])) && slice(&["a"]).contains(&narrower));

        let ranged = |to: &str, inside: &[&str]| {
            let range = AcceptedRange {
                from: [value("0")].into(),
                to: [value(to)].into(),
                below: below(inside),
            };
            Accept::ranged(vec![range], Some(Accept::All))
        };
        assert!(ranged("9", &["a"]).contains(&ranged("9", &["a"])));
        assert!(!ranged("9", &["a"]).contains(&ranged("8", &["a"])), "from 8 on less is taken");
        assert!(ranged("8", &["a"]).contains(&ranged("9", &["a"])));
    }

    #[test]
    fn a_hash_level_takes_what_each_branch_takes() {
        let hashed = Accept::hashed(vec![Accept::All, list(&["a", "b"], false)]);
        assert!(hashed.contains(&list(&["a"], false)) && !hashed.contains(&list(&["c"], false)));
        assert!(list(&["a", "b"], false).contains(&Accept::hashed(vec![list(&["a"], false)])));
    }

    #[test]
    fn ranges_join_and_compare_by_number_not_by_text() {
        let wide = ranges(&[("10", "100"), ("9", "10"), ("200", "max")]);
        assert!(wide.contains(&ranges(&[("9", "100")])));
        assert!(wide.contains(&ranges(&[("50", "60"), ("1000", "max")])));
        assert!(!wide.contains(&ranges(&[("99", "101")])));
        assert_eq!(ranges(&[("0", "max"), ("min", "0")]), Accept::All);
        assert!(!ranges(&[("a", "z")]).contains(&ranges(&[("b", "c")])), "no order is known");
        assert!(ranges(&[("a", "m"), ("m", "z")]).contains(&ranges(&[("a", "z")])));
    }
}
