//! The scripts that fix what rules find, by the constructors of `remedy`.
//!
//! Must not: judge.

use crate::remedy::setting::{Source, set};
use crate::remedy::{Relation, Script, table};

/// `ALTER SYSTEM SET`, by a name from the source.
pub(super) fn setting(database: &str, name: &'static str, value: &str, restart: bool) -> Script {
    set(database, name, value, Source::System { restart })
}

/// `VACUUM (ANALYZE)`.
pub(super) fn vacuum(database: &str, relation: &Relation) -> Script {
    table::vacuum(database, relation)
}

/// `ANALYZE`; `whole` of a partitioned table, for which the server does not say when.
pub(super) fn analyze(database: &str, relation: &Relation, whole: bool) -> Script {
    table::analyze(database, relation, false, !whole)
}

/// `ALTER TABLE ... SET (autovacuum_vacuum_scale_factor)`.
pub(super) fn scale_factor(database: &str, relation: &Relation, value: &'static str) -> Script {
    table::scale_factor(database, relation, value)
}
