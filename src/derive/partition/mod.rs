//! Partition runway: from the catalogue's bounds to the instant of the first insert that fails.
//!
//! [`bound`] parses what `pg_get_expr(relpartbound, 0)` prints, [`moment`] turns key values into
//! instants, [`expression`] finds the zone that a key fixes, [`mod@unit`] what an integer or UUID key holds,
//! [`accept`] compares which other key values two slices take, [`tree`] walks a partition tree and
//! says until when it is covered, and [`plan`] says which partitions it lacks.
//!
//! Must not: look up a time zone by name, ask a clock, or trust a partition's name; [`plan`] only
//! continues them.

pub mod accept;
pub mod bound;
pub mod expression;
pub mod moment;
pub mod plan;
mod settle;
pub mod tree;
pub mod unit;

pub use bound::{Bound, Datum};
pub use expression::fixed_zone;
pub use moment::{Moment, Span};
pub use settle::{keys_remaining, settle};
pub use tree::{
    Child, Level, OpenEnd, Outlook, PartitionKey, Reason, Strategy, assess, coverage, slices,
};
pub use unit::{KeyUnit, TimeKey};
