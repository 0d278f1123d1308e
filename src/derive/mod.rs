//! Pure maths: deltas, windows, latency estimation, partition bounds and runway.
//!
//! Must not: know a clock, a socket, SQL, a metric or a collector. Numbers in, numbers out.

pub mod blocking;
pub mod delta;
pub mod growth;
pub mod heap;
pub mod index;
pub mod latency;
mod page;
pub mod partition;
pub mod proportion;
pub mod rollup;
pub mod sample;
pub mod schedule;
pub mod statement;
pub mod units;
pub mod vacuum;
