//! The registration list: a collector is one file here, one line in [`ALL`] and one golden file.
//!
//! Must not: hold logic.

pub mod cache;
pub mod connections;
pub mod databases;
#[cfg(test)]
mod golden;
pub mod indexes;
pub mod maintenance;
pub mod partitions;
pub mod recommendations;
mod relations;
pub mod sizes;
pub mod statements;
pub mod tables;

use crate::collector::AnyCollector;

/// Every collector, in the order in which they run when several are due.
pub static ALL: &[&dyn AnyCollector] = &[
    &statements::Statements,
    &connections::Connections,
    &cache::Cache,
    &tables::Tables,
    &indexes::Indexes,
    &partitions::Partitions,
    &maintenance::Maintenance,
    &databases::Databases,
    &sizes::Sizes,
    &recommendations::Recommendations,
];

/// The collector of a name.
pub fn by_name(name: &str) -> Option<&'static dyn AnyCollector> {
    ALL.iter().copied().find(|c| c.name() == name)
}
