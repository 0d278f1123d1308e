//! Whether the databases that are to be looked into are there.
//!
//! Must not: connect; `verify` does, and hands the result over.

use super::super::check::{Check, Finding, Found, Scope, Severity, When};

pub(in crate::cmd::verify) static REACHABLE: Check = Check {
    id: "database.reachable",
    severity: Severity::Critical,
    scope: Scope::Server,
    when: When::Always,
    finds: "A database that `--database` or the file names and the server does not have.",
    why: "What is expected of it would not be looked at, and the gate would pass for nothing.",
    locks: "none",
    run: None,
};

pub(super) static CHECKS: &[&Check] = &[&REACHABLE];

/// What to say of the databases that are missing among those that are wanted.
pub(in crate::cmd::verify) fn found(missing: &[String], visited: &[String]) -> Found {
    let findings: Vec<Finding> = missing
        .iter()
        .map(|name| REACHABLE.finding(name, "the server has no database of this name"))
        .collect();
    Found::new(super::counted(visited.len(), "database", "to look into"), findings)
}
