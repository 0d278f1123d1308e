//! Indexes that the configuration expects, held against those that are there.
//!
//! Must not: know patterns of tables or databases; whoever calls has chosen the table.

use super::facts::{Index, Term};

/// Where nulls sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullsOrder {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// One key of an expected index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedKey {
    /// The column's name.
    pub column: String,
    /// DESC.
    pub descending: bool,
    /// `None`: as the direction has it (first for DESC).
    pub nulls: Option<NullsOrder>,
}

impl ExpectedKey {
    fn option(&self) -> i16 {
        let first = self.nulls.map_or(self.descending, |nulls| nulls == NullsOrder::First);
        i16::from(self.descending) | (i16::from(first) << 1)
    }
}

/// An expected index of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// The name that the rule gives, if any.
    pub name: Option<String>,
    /// Its keys, all of them and in this order, of an index without predicate; any if empty.
    pub columns: Vec<ExpectedKey>,
    /// Whether it must be unique.
    pub unique: bool,
}

/// Whether an expectation is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// By this index.
    Yes(i64),
    /// Only by one that is not valid.
    Invalid(i64),
    /// By none.
    No,
}

/// Holds an expectation against the indexes of a table. `column` names the table's columns; a column
/// order that is all reversed is as good, since an index can be read backwards.
pub fn meets<'a>(
    expected: &Expected,
    indexes: impl IntoIterator<Item = &'a Index>,
    column: impl Fn(i16) -> Option<&'a str>,
) -> Met {
    let mut met = Met::No;
    for index in indexes {
        if !fits(expected, index, &column) {
            continue;
        }
        if index.usable() {
            return Met::Yes(index.id);
        }
        met = Met::Invalid(index.id);
    }
    met
}

fn fits<'a>(expected: &Expected, index: &Index, column: &impl Fn(i16) -> Option<&'a str>) -> bool {
    let Some(definition) = &index.definition else { return false };
    let named = expected.name.as_ref().is_none_or(|name| index.name.as_ref() == Some(name));
    if !named || (expected.unique && !definition.unique) {
        return false;
    }
    if expected.columns.is_empty() {
        return expected.name.is_some();
    }
    let ordered = definition.method == "btree";
    let columns = |flip: i16| {
        definition.keys.len() == expected.columns.len()
            && definition.keys.iter().zip(&expected.columns).all(|(key, want)| {
                let Term::Column(number) = key.term else { return false };
                column(number) == Some(&*want.column)
                    && (!ordered || key.option ^ flip == want.option())
            })
    };
    definition.predicate.is_none() && (columns(0) || columns(3))
}
