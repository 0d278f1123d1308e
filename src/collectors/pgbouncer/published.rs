//! What was published about a pooler, for those who show it.
//!
//! Must not: judge a pool.

use super::metrics::*;
use crate::collectors::published::published;

published! {
    /// `pgbouncer_pools_client_active_connections`.
    pub struct PoolClients of CL_ACTIVE { database, user => count: f64 }
}
published! {
    /// `pgbouncer_pools_client_waiting_connections`.
    pub struct PoolWaiting of CL_WAITING { database, user => count: f64 }
}
published! {
    /// `pgbouncer_pools_server_active_connections`.
    pub struct PoolServers of SV_ACTIVE { database, user => count: f64 }
}
published! {
    /// `pgbouncer_pools_server_idle_connections`.
    pub struct PoolIdleServers of SV_IDLE { database, user => count: f64 }
}
published! {
    /// `pgbouncer_pool_size`.
    pub struct PoolSize of POOL_SIZE { database, user => count: f64 }
}
published! {
    /// `pgbouncer_pool_saturation_ratio`.
    pub struct PoolSaturation of SATURATION { database, user => ratio: f64 }
}
published! {
    /// `pgbouncer_pools_client_maxwait_seconds`.
    pub struct PoolMaxWait of MAXWAIT { database, user => seconds: f64 }
}
published! {
    /// `pgbouncer_client_maxwait_objective_seconds`.
    pub struct PoolMaxWaitObjective of WAIT_OBJECTIVE { => seconds: f64 }
}
published! {
    /// `pgbouncer_clients_used_ratio`.
    pub struct PoolClientsUsed of CLIENTS_USED_RATIO { => ratio: f64 }
}
published! {
    /// `pgbouncer_databases_paused`.
    pub struct PoolPaused of DB_PAUSED { name => yes: f64 }
}
published! {
    /// `pgbouncer_recommendation_active`.
    pub struct PoolerRuleActive of RECOMMENDATION { id => active: f64 }
}
