//! `pg_replication_slots`: who holds WAL back, how much of it, and who has lost its place.
//!
//! Must not: give a slot that reserves nothing a size.

use std::time::Duration;

use super::figures::figures;
use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{IfColumn, Lossy, Row, Session, columns};

const BY_DATABASE: &[&str] = &["slot_name", "database"];
const BY_TYPE: &[&str] = &["slot_name", "slot_type"];

static ACTIVE: Metric = Metric::gauge(
    "pg_replication_slots_active",
    BY_DATABASE,
    "Whether a consumer streams from the slot, pg_replication_slots.active.",
)
.with_server_there(Kind::Gauge);
static RETAINED: Metric = Metric::gauge(
    "pg_replication_slots_pg_wal_lsn_diff",
    BY_DATABASE,
    "Bytes of WAL that the slot holds back, the server's position less \
     pg_replication_slots.restart_lsn; absent where it reserves none.",
)
.with_server_there(Kind::Gauge);
static RETAINED_OBJECTIVE: Metric = Metric::gauge(
    "pg_replication_slots_retained_objective_bytes",
    &[],
    "Most WAL that a slot may hold back before an alert fires, from the configuration.",
);
static CURRENT: Metric = Metric::gauge(
    "pg_replication_slots_slot_current_wal_lsn",
    BY_TYPE,
    "Position of the server's WAL in bytes, pg_current_wal_lsn(), on a standby of what it received.",
);
static CONFIRMED: Metric = Metric::gauge(
    "pg_replication_slots_slot_confirmed_flush_lsn",
    BY_TYPE,
    "Position up to which a logical consumer confirmed, pg_replication_slots.confirmed_flush_lsn, in \
     bytes.",
);
static IS_ACTIVE: Metric = Metric::gauge(
    "pg_replication_slots_slot_is_active",
    BY_TYPE,
    "Whether a consumer streams from the slot, pg_replication_slots.active.",
);
static SAFE: Metric = Metric::gauge(
    "pg_replication_slots_safe_wal_size_bytes",
    BY_TYPE,
    "Bytes of WAL that may yet be written before the slot is in danger of being lost, \
     pg_replication_slots.safe_wal_size; absent where max_slot_wal_keep_size is not set.",
);
static STATUS: Metric = Metric::gauge(
    "pg_replication_slots_wal_status",
    &["slot_name", "slot_type", "wal_status"],
    "Constant 1 with pg_replication_slots.wal_status: reserved, extended, unreserved or lost.",
);
static INVALID: Metric = Metric::gauge(
    "pg_replication_slots_invalidated",
    &["slot_name", "slot_type", "reason"],
    "Constant 1 for a slot that can no longer be used, with pg_replication_slots.invalidation_reason, \
     before PostgreSQL 17 wal_removed (wal_status is lost) or rows_removed (conflicting); absent \
     for others.",
);
static INACTIVE_SINCE: Metric = Metric::gauge(
    "pg_replication_slots_inactive_since_timestamp_seconds",
    BY_TYPE,
    "Unix time since which no consumer has streamed from the slot, pg_replication_slots.inactive_since \
     (PostgreSQL 17 and later).",
);

static CONFLICTING: Metric = Metric::gauge(
    "pg_replication_slots_conflicting",
    BY_TYPE,
    "Whether recovery on this standby removed rows that the logical slot needed, pg_replication_slots.conflicting \
     (PostgreSQL 16 and later).",
);
static TWO_PHASE: Metric = Metric::gauge(
    "pg_replication_slots_two_phase",
    BY_TYPE,
    "Whether the slot decodes prepared transactions, pg_replication_slots.two_phase (PostgreSQL 14 and later).",
);
static FAILOVER: Metric = Metric::gauge(
    "pg_replication_slots_failover",
    BY_TYPE,
    "Whether standbys are to keep a copy of the slot, pg_replication_slots.failover (PostgreSQL 17 and later).",
);
static SYNCED: Metric = Metric::gauge(
    "pg_replication_slots_synced",
    BY_TYPE,
    "Whether this is the copy of a primary's slot, pg_replication_slots.synced (PostgreSQL 17 and later).",
);
static SYNC_SKIPPED: Metric = Metric::gauge(
    "pg_replication_slots_slotsync_skip_reason",
    &["slot_name", "slot_type", "reason"],
    "Constant 1 for a slot whose last synchronisation from the primary was skipped, with \
     pg_replication_slots.slotsync_skip_reason (PostgreSQL 19 and later).",
);

/// The names that postgres_exporter 0.19 has; 0.20 has those above.
macro_rules! older {
    ($($ident:ident $name:literal $labels:expr, $newer:literal;)*) => {
        $(static $ident: Metric = Metric::gauge(
            concat!("pg_replication_slot_", $name), $labels,
            concat!("The same as ", $newer, " under its older name, from pg_replication_slots."),
        );)*
    };
}
older! {
    OLD_CURRENT "slot_current_wal_lsn" BY_TYPE, "pg_replication_slots_slot_current_wal_lsn";
    OLD_CONFIRMED "slot_confirmed_flush_lsn" BY_TYPE, "pg_replication_slots_slot_confirmed_flush_lsn";
    OLD_IS_ACTIVE "slot_is_active" BY_TYPE, "pg_replication_slots_slot_is_active";
    OLD_SAFE "safe_wal_size_bytes" BY_TYPE, "pg_replication_slots_safe_wal_size_bytes";
    OLD_STATUS "wal_status" &["slot_name", "slot_type", "wal_status"], "pg_replication_slots_wal_status";
}

/// A slot whose WAL is gone keeps its row until it is dropped.
fn sql(version_num: i32) -> String {
    let reason = match version_num {
        170_000.. => "s.invalidation_reason",
        160_000.. => {
            "CASE WHEN s.wal_status = 'lost' AND NOT COALESCE(s.conflicting, false) THEN 'wal_removed' \
                  WHEN s.conflicting THEN 'rows_removed' END"
        }
        _ => "CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END",
    };
    let inactive = match version_num {
        170_000.. => ", pg_catalog.date_part('epoch', s.inactive_since)::float8 AS inactive_since",
        _ => "",
    };
    let since = |major: i32, columns: &'static str| if version_num >= major { columns } else { "" };
    let newer = [
        since(140_000, ", s.two_phase::int4::float8 AS two_phase"),
        since(160_000, ", s.conflicting::int4::float8 AS conflicting"),
        since(170_000, ", s.failover::int4::float8 AS failover, s.synced::int4::float8 AS synced"),
        since(190_000, ", s.slotsync_skip_reason AS skip_reason"),
    ]
    .concat();
    format!(
        "SELECT s.slot_name::text, s.slot_type, s.active, \
                pg_catalog.textsend(COALESCE(s.database::text, '')) AS database, \
                pg_catalog.pg_wal_lsn_diff(wal.lsn, '0/0')::float8 AS current, \
                CASE WHEN s.wal_status IS DISTINCT FROM 'lost' \
                     THEN pg_catalog.pg_wal_lsn_diff(wal.lsn, s.restart_lsn) END::float8 AS retained, \
                pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0')::float8 AS confirmed, \
                s.safe_wal_size::float8, s.wal_status, {reason} AS reason{inactive}{newer} \
           FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
                             THEN COALESCE(pg_catalog.pg_last_wal_receive_lsn(), \
                                           pg_catalog.pg_last_wal_replay_lsn()) \
                             ELSE pg_catalog.pg_current_wal_lsn() END) wal(lsn) \
          CROSS JOIN pg_catalog.pg_replication_slots s ORDER BY s.slot_name"
    )
}

published! {
    /// `pg_replication_slots_pg_wal_lsn_diff`.
    pub struct SlotRetained of RETAINED { slot_name => bytes: f64 }
}
published! {
    /// `pg_replication_slots_retained_objective_bytes`.
    pub struct SlotRetainedObjective of RETAINED_OBJECTIVE { => bytes: f64 }
}

pub struct ReplicationSlots;

figures! {
    /// What a slot is, as 0 and 1.
    pub struct SlotTraits: Option<f64> as IfColumn<Option<f64>> {
        /// Whether it decodes prepared transactions.
        two_phase => TWO_PHASE,
        /// Whether rows that it needed are gone.
        conflicting => CONFLICTING,
        /// Whether standbys keep a copy.
        failover => FAILOVER,
        /// Whether it is a copy.
        synced => SYNCED,
    }
}

columns! {
    /// One slot.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReplicationSlot {
        /// Name.
        pub name: String = "slot_name",
        /// `physical` or `logical`.
        pub kind: String = "slot_type",
        /// Database of a logical slot, else empty.
        pub database: String as Lossy,
        /// Whether somebody streams from it.
        pub active: Option<bool>,
        /// The server's position in bytes.
        pub current: Option<f64>,
        /// Bytes held back.
        pub retained: Option<f64>,
        /// Position in bytes.
        pub confirmed: Option<f64>,
        /// Bytes.
        pub safe: Option<f64> = "safe_wal_size",
        /// `reserved`, `extended`, `unreserved`, `lost`.
        pub status: Option<String> = "wal_status",
        /// Why it is of no more use.
        pub reason: Option<String>,
        /// Unix seconds; from PostgreSQL 17 on.
        pub inactive_since: Option<f64> as IfColumn<Option<f64>>,
        /// What else is said of it.
        pub traits: SlotTraits,
        /// Why its copy was not made; from PostgreSQL 19 on.
        pub skip_reason: Option<String> as IfColumn<Option<String>>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Objective in bytes.
    pub objective: f64,
    /// All slots.
    pub slots: Vec<ReplicationSlot>,
}

impl Collector for ReplicationSlots {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "slots";
    const HELP: &'static str = "Replication slots and the WAL that they hold back.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[
        &RETAINED_OBJECTIVE,
        &ACTIVE,
        &RETAINED,
        &INVALID,
        &STATUS,
        &SAFE,
        &INACTIVE_SINCE,
        &CONFLICTING,
        &TWO_PHASE,
        &FAILOVER,
        &SYNCED,
        &SYNC_SKIPPED,
        &IS_ACTIVE,
        &CURRENT,
        &CONFIRMED,
        &OLD_CURRENT,
        &OLD_CONFIRMED,
        &OLD_IS_ACTIVE,
        &OLD_SAFE,
        &OLD_STATUS,
    ];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let sql = sql(session.server().version_num);
        let rows = session.read(sql.as_str()).await?;
        Ok(Rows {
            objective: session.settings().objectives.slot_retained_bytes,
            slots: Row::all(&rows)?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        sink.number(&RETAINED_OBJECTIVE, &[], rows.objective);
        for slot in &rows.slots {
            let by_database = [slot.name.as_str(), slot.database.as_str()];
            let by_type = [slot.name.as_str(), slot.kind.as_str()];
            let active = slot.active.map(|active| f64::from(u8::from(active)));
            sink.number(&ACTIVE, &by_database, active);
            sink.number(&RETAINED, &by_database, slot.retained.map(|b| b.max(0.0)));
            sink.number(&IS_ACTIVE, &by_type, active);
            sink.number(&CURRENT, &by_type, slot.current);
            sink.number(&CONFIRMED, &by_type, slot.confirmed);
            // Below zero it is lost at the next checkpoint.
            sink.number(&SAFE, &by_type, slot.safe);
            sink.number(&OLD_IS_ACTIVE, &by_type, active);
            sink.number(&OLD_CURRENT, &by_type, slot.current);
            sink.number(&OLD_CONFIRMED, &by_type, slot.confirmed);
            sink.number(&OLD_SAFE, &by_type, slot.safe);
            sink.number(&INACTIVE_SINCE, &by_type, slot.inactive_since);
            if let Some(status) = &slot.status {
                sink.number(&STATUS, &[&slot.name, &slot.kind, status], 1.0);
                sink.number(&OLD_STATUS, &[&slot.name, &slot.kind, status], 1.0);
            }
            if let Some(reason) = &slot.reason {
                sink.number(&INVALID, &[&slot.name, &slot.kind, reason], 1.0);
            }
            slot.traits.emit(&by_type, sink);
            if let Some(reason) = &slot.skip_reason {
                sink.number(&SYNC_SKIPPED, &[&slot.name, &slot.kind, reason], 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let physical = ReplicationSlot {
            name: "standby_1".to_owned(),
            kind: "physical".to_owned(),
            database: String::new(),
            active: Some(true),
            current: Some(5000.0),
            retained: Some(-3.0),
            confirmed: None,
            safe: None,
            status: Some("reserved".to_owned()),
            reason: None,
            inactive_since: None,
            traits: SlotTraits::default(),
            skip_reason: None,
        };
        let logical = ReplicationSlot {
            name: "cdc".to_owned(),
            kind: "logical".to_owned(),
            database: "sh\"op".to_owned(),
            active: Some(false),
            retained: Some(4000.0),
            confirmed: Some(900.0),
            safe: Some(-12.0),
            status: Some("unreserved".to_owned()),
            inactive_since: Some(1_700_000_000.0),
            traits: [Some(1.0), Some(0.0), Some(1.0), Some(0.0)].into(),
            skip_reason: Some("wal_or_rows_removed".to_owned()),
            ..physical.clone()
        };
        let lost = ReplicationSlot {
            name: "lost".to_owned(),
            retained: None,
            status: Some("lost".to_owned()),
            reason: Some("wal_removed".to_owned()),
            ..logical.clone()
        };
        let slots = vec![logical, lost, physical];
        check("slots", &poll(&ReplicationSlots, &mut (), Rows { objective: 1e10, slots }));
    }
}
