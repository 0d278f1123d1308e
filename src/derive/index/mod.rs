//! Verdicts on indexes, foreign keys and table scans from facts of the catalogs and the statistics:
//! what is broken, what is never used, what another index does as well, and what is missing.
//!
//! Must not: know SQL or how the facts were read; it gets names, numbers and the text of node trees.

mod bloat;
mod cover;
mod expected;
mod facts;
mod judge;
mod node;
#[cfg(test)]
mod tests;

pub use bloat::{BtreeColumn, btree_pages};
pub use cover::{Cover, How};
pub use expected::{Expected, ExpectedKey, Met, NullsOrder, meets};
pub use facts::{
    Definition, ForeignKey, Index, IndexFacts, IndexKey, IndexedTable, Predicate, TableKind, Term,
};
pub use judge::{
    Coverage, Exemption, Invalid, Judged, SeqScanned, Strictness, Unindexed, Usage, Verdicts, judge,
};
pub use node::split;
