//! Verdicts on indexes, foreign keys and table scans, and what they rest on.
//!
//! Must not: know how the catalogs are read; `catalogue` does.

pub mod catalogue;
