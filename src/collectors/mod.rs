//! The registration list: a collector is one file here, one line in [`ALL`] and one golden file.
//!
//! Must not: hold logic.

pub mod activity;
pub mod autovacuum;
pub mod base_backups;
pub mod bloat;
pub mod blocking;
pub mod buffercache;
pub mod cache;
pub mod checkpoints;
pub mod compatible;
pub mod compatible_indexes;
pub mod conflicts;
pub mod connections;
pub mod custom;
pub mod database_recommendations;
pub mod databases;
pub mod extensions;
pub mod failover;
pub(crate) mod figures;
#[cfg(test)]
mod golden;
pub mod index_health;
pub mod indexes;
pub mod io;
pub mod leftovers;
pub mod lock_waits;
pub mod locks;
pub mod logical_slots;
pub mod long_transactions;
pub mod maintenance;
pub mod partitions;
pub mod pgbouncer;
pub mod process_idle;
pub mod progress;
pub mod published;
pub mod recommendations;
pub mod recovery;
pub(crate) mod relations;
pub mod replication;
pub mod roles;
pub mod scans;
pub mod scores;
pub mod sequences;
pub mod settings;
pub mod sizes;
pub mod slots;
pub mod slru;
pub mod statements;
pub mod subscriptions;
pub mod tables;
pub mod vacuum;
pub mod wal;
pub mod wal_receiver;
pub mod waldir;
pub mod wraparound;

use crate::collector::AnyCollector;

/// Every collector, in the order in which they run when several are due.
pub static ALL: &[&dyn AnyCollector] = &[
    &statements::Statements,
    &activity::Activity,
    &connections::Connections,
    &compatible::Compatible,
    &cache::Cache,
    &buffercache::Buffercache,
    &locks::Locks,
    &lock_waits::LockWaits,
    &blocking::Blocking,
    &long_transactions::LongTransactions,
    &autovacuum::Autovacuum,
    &process_idle::ProcessIdle,
    &replication::Replication,
    &failover::Failover,
    &wal_receiver::WalReceiver,
    &recovery::Recovery,
    &base_backups::BaseBackups,
    &slots::ReplicationSlots,
    &logical_slots::LogicalSlots,
    &wal::Wal,
    &checkpoints::Checkpoints,
    &io::Io,
    &slru::Slru,
    &tables::Tables,
    &scans::Scans,
    &indexes::Indexes,
    &compatible_indexes::CompatibleIndexes,
    &index_health::IndexHealth,
    &partitions::Partitions,
    &sequences::Sequences,
    &vacuum::Vacuum,
    &progress::Progress,
    &scores::Scores,
    &subscriptions::Subscriptions,
    &bloat::TableBloat,
    &extensions::Extensions,
    &leftovers::LeftBehind,
    &wraparound::Wraparound,
    &settings::ServerSettings,
    &waldir::Waldir,
    &maintenance::Maintenance,
    &databases::Databases,
    &conflicts::Conflicts,
    &roles::Roles,
    &sizes::Sizes,
    &recommendations::Recommendations,
    &database_recommendations::DatabaseRecommendations,
    &pgbouncer::PgBouncer,
];

/// The collector of a name.
pub fn by_name(name: &str) -> Option<&'static dyn AnyCollector> {
    ALL.iter().copied().find(|c| c.name() == name)
}
