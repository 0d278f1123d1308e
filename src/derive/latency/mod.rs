//! Latency distributions from cumulative counters: two readings of a `pg_stat_statements` row give
//! an interval's calls, mean and variance (`moments`); an [`Estimator`] per statement places what
//! is exact and spreads the rest by a learnt shape ([`shapes`], [`tilt`]) over a log grid ([`grid`]);
//! [`Latencies`] accumulates for exposition and [`Recent`] keeps windows for quantiles. What is certain
//! whatever the shape is said by [`bounds`], kept by [`Recent`] as [`PlacedCalls`] puts it on the grid; what is
//! likely by [`likely`].
//!
//! Must not: know PostgreSQL's units (everything is in seconds), a clock, or a label.

#![allow(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "`!(a > b)` is how what is not a number goes the careful way"
)]

pub mod bounds;
mod estimator;
pub mod grid;
mod histogram;
pub mod likely;
mod moments;
mod placed;
pub mod shapes;
pub mod tilt;
mod window;

pub use estimator::{Estimator, Observed, Scratch};
pub use histogram::Latencies;
pub use likely::{ErrorBar, Learnt};
pub use moments::{Cumulative, Interval, MomentStep};
pub use placed::PlacedCalls;
pub use window::{Distribution, FoundCalls, Recent};
