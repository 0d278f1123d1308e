//! Statements that get no series of their own because of whose they are: their calls count in `other`, and in the
//! figures of their database.
//!
//! Must not: leave a call out of a sum.

use super::entry::{EntryKey, ViewFacts};

/// Databases and roles, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Databases.
    pub databases: Vec<String>,
    /// Roles.
    pub users: Vec<String>,
}

impl Excluded {
    /// Whether a statement is of one of them.
    pub(super) fn has(&self, facts: &ViewFacts, key: &EntryKey) -> bool {
        let of = |names: &[String], name: Option<&std::sync::Arc<str>>| {
            name.is_some_and(|name| names.iter().any(|excluded| **excluded == **name))
        };
        of(&self.databases, facts.databases.get(&key.dbid))
            || of(&self.users, facts.roles.get(&key.userid))
    }
}
