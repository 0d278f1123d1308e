//! Indexes (to be filled in).
//!
//! Must not: exist for long.

use super::super::check::{Check, Scope, Severity, When};

pub(super) static BLOAT: Check = Check {
    id: "index.bloat",
    severity: Severity::Warning,
    scope: Scope::Database,
    when: When::Always,
    finds: "A.",
    why: "B.",
    locks: "none",
    run: None,
};

pub(super) static CHECKS: &[&Check] = &[&BLOAT];
