//! One file per subcommand, and what several of them share.
//!
//! Must not: be imported by anything but `main` and tests.

pub mod cluster;
pub mod metrics;
pub mod serve;
