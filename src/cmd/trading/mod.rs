//! The trade schema with its made-up data and load, for `pgrunway demo` and `pgrunway load`.
//!
//! Must not: decide which server or database it is let loose on.

pub mod drive;
pub mod fill;
mod histogram;
pub mod market;
pub mod progress;
pub mod rows;

pub use histogram::DurationHistogram;

/// Tables, indexes and the trigger.
pub const SCHEMA: &str = include_str!("schema.sql");
/// Partition maintenance.
pub const FUNCTIONS: &str = include_str!("functions.sql");
