//! Which server of a replicated system this is: its role, its timeline and the system's identifier, and how often
//! they changed while it was watched.
//!
//! Must not: count a change that it has not seen, such as what was before its start, or take another system's role for
//! a failover.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

static INFO: Metric = Metric::gauge(
    "pg_replication_role_info",
    &["role", "timeline", "system_identifier", "cluster_name", "sync_state"],
    "Constant 1 with the role (primary or standby, pg_is_in_recovery()), the timeline, the system identifier \
     (pg_control_system()), cluster_name, and on a primary whether a commit waits for standbys (quorum, sync or async, \
     pg_stat_replication.sync_state; empty without standbys); what cannot be read is empty.",
);
static TIMELINE: Metric = Metric::gauge(
    "pg_timeline_id",
    &[],
    "Timeline that a primary writes (pg_walfile_name()) or a standby follows (pg_stat_wal_receiver.received_tli, \
     pg_control_recovery() and pg_control_checkpoint()); a promotion begins the next one.",
);
static TIMELINES: Metric = Metric::counter(
    "pg_timeline_changes_total",
    &[],
    "Times since this exporter's start that pg_timeline_id rose above all earlier ones of the system, which is a \
     promotion here or upstream.",
);
static ROLES: Metric = Metric::counter(
    "pg_replication_role_changes_total",
    &["role"],
    "Times since this exporter's start that the server at this address became a primary or a standby, \
     pg_is_in_recovery().",
);

/// Functions that are wrong for the present role raise an error, hence CASE. The control file knows of a promotion only
/// after the checkpoint that follows it, the name of the file that is written at once.
const SQL: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS replica,
       pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())::float8 AS started,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN ('x' || pg_catalog.substr(
                   pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int8
        END AS written,
       (SELECT r.received_tli::int8 FROM pg_catalog.pg_stat_wal_receiver r) AS received,
       (SELECT recovery.min_recovery_end_timeline::int8 FROM pg_catalog.pg_control_recovery() recovery) AS recovered,
       (SELECT last.timeline_id::int8 FROM pg_catalog.pg_control_checkpoint() last) AS checkpoint,
       (SELECT own.system_identifier::text FROM pg_catalog.pg_control_system() own) AS system,
       pg_catalog.current_setting('cluster_name', true) AS cluster,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN (SELECT CASE WHEN pg_catalog.bool_or(s.sync_state = 'quorum') THEN 'quorum'
                              WHEN pg_catalog.bool_or(s.sync_state = 'sync') THEN 'sync'
                              WHEN pg_catalog.bool_or(s.sync_state <> '') THEN 'async' END
                    FROM pg_catalog.pg_stat_replication s WHERE s.state <> 'backup') END AS sync";

pub struct Failover;

columns! {
    /// What the server says of itself.
    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct Rows {
        /// `pg_is_in_recovery()`.
        pub replica: Option<bool>,
        /// Unix seconds of the server's start.
        pub started: Option<f64>,
        /// Timeline of what a primary writes.
        pub written: Option<i64>,
        /// Timeline of what the WAL receiver got last.
        pub received: Option<i64>,
        /// Timeline up to which a standby must have replayed.
        pub recovered: Option<i64>,
        /// Timeline of the last checkpoint.
        pub checkpoint: Option<i64>,
        /// The system's identifier.
        pub system: Option<String>,
        /// `cluster_name`.
        pub cluster: Option<String>,
        /// The strongest state of a standby.
        pub sync: Option<String>,
    }
}

impl Rows {
    /// A standby whose receiver is down still has what the control file says; on a primary that may be behind.
    fn timeline(&self) -> Option<i64> {
        let followed = [self.received, self.recovered, self.checkpoint];
        self.written
            .or_else(|| followed.into_iter().flatten().max())
            .filter(|timeline| *timeline > 0)
    }
}

/// What must survive a poll: who was seen last, and what was counted.
#[derive(Debug, Default)]
pub struct State {
    system: Option<String>,
    replica: Option<bool>,
    /// The highest timeline of the system.
    timeline: Option<i64>,
    /// That of the server which started then, as it was read last.
    followed: Option<(f64, i64)>,
    timelines: u32,
    to_primary: u32,
    to_standby: u32,
}

impl State {
    /// Counts what changed; the timeline.
    fn see(&mut self, rows: &Rows) -> Option<i64> {
        if let Some(system) = &rows.system
            && self.system.as_ref() != Some(system)
        {
            let another = self.system.replace(system.clone()).is_some();
            if another {
                (self.replica, self.timeline, self.followed) = (None, None, None);
            }
        }
        if let Some(replica) = rows.replica
            && self.replica.replace(replica).is_some_and(|before| before != replica)
        {
            let changes = if replica { &mut self.to_standby } else { &mut self.to_primary };
            *changes = changes.saturating_add(1);
        }
        // A standby goes back to no earlier timeline while it runs, but the control file is behind what was streamed.
        let before = self.followed.filter(|(started, _)| Some(*started) == rows.started);
        let timeline = rows.timeline().max(before.map(|(_, timeline)| timeline));
        self.followed = rows.started.zip(timeline);
        if let Some(timeline) = timeline {
            if self.timeline.is_some_and(|highest| highest < timeline) {
                self.timelines = self.timelines.saturating_add(1);
            }
            self.timeline = self.timeline.max(Some(timeline));
        }
        timeline
    }
}

impl Collector for Failover {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "failover";
    const HELP: &'static str = "Role, timeline and system identifier, and how often they changed.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[&INFO, &TIMELINE, &TIMELINES, &ROLES];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        Row::one(&session.read(SQL).await?)
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let timeline = state.see(&rows);
        if let Some(replica) = rows.replica {
            let role = if replica { "standby" } else { "primary" };
            let number = timeline.map(|timeline| timeline.to_string()).unwrap_or_default();
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (system, cluster) = (text(&rows.system), text(&rows.cluster));
            sink.number(&INFO, &[role, &number, &system, &cluster, &text(&rows.sync)], 1.0);
        }
        sink.number(&TIMELINE, &[], timeline.map(|timeline| timeline as f64));
        sink.number(&TIMELINES, &[], f64::from(state.timelines));
        sink.number(&ROLES, &["primary"], f64::from(state.to_primary));
        sink.number(&ROLES, &["standby"], f64::from(state.to_standby));
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn primary(timeline: i64) -> Rows {
        Rows {
            replica: Some(false),
            started: Some(100.0),
            written: Some(timeline),
            checkpoint: Some(1),
            recovered: Some(0),
            system: Some("7301".to_owned()),
            cluster: Some("ma\"in".to_owned()),
            sync: Some("quorum".to_owned()),
            ..Rows::default()
        }
    }

    fn standby(received: Option<i64>, checkpoint: i64) -> Rows {
        Rows {
            replica: Some(true),
            started: Some(200.0),
            received,
            recovered: Some(1),
            checkpoint: Some(checkpoint),
            system: Some("7301".to_owned()),
            ..Rows::default()
        }
    }

    /// Timelines, changes of the timeline, to a primary and to a standby.
    fn seen(state: &mut State, rows: Rows) -> [Option<f64>; 4] {
        let families = poll(&Failover, state, rows);
        [
            value(&families, "pg_timeline_id", &[]),
            value(&families, "pg_timeline_changes_total", &[]),
            value(&families, "pg_replication_role_changes_total", &["primary"]),
            value(&families, "pg_replication_role_changes_total", &["standby"]),
        ]
    }

    #[test]
    fn golden() {
        let mut state = State::default();
        poll(&Failover, &mut state, standby(Some(1), 1));
        check("failover", &poll(&Failover, &mut state, primary(2)));
    }

    #[test]
    fn what_changes_is_counted_once_and_what_was_before_the_start_is_not() {
        let mut state = State::default();
        let some = |all: [f64; 4]| all.map(Some);
        assert_eq!(seen(&mut state, standby(Some(7), 1)), some([7.0, 0.0, 0.0, 0.0]), "the start");
        let lost = standby(None, 6);
        assert_eq!(
            seen(&mut state, lost.clone()),
            some([7.0, 0.0, 0.0, 0.0]),
            "the receiver is gone"
        );
        let restarted = Rows { started: Some(300.0), ..lost };
        assert_eq!(seen(&mut state, restarted), some([6.0, 0.0, 0.0, 0.0]), "it replays once more");
        assert_eq!(seen(&mut state, standby(Some(7), 6)), some([7.0, 0.0, 0.0, 0.0]), "and back");
        assert_eq!(seen(&mut state, standby(Some(8), 7)), some([8.0, 1.0, 0.0, 0.0]), "upstream");
        assert_eq!(seen(&mut state, primary(9)), some([9.0, 2.0, 1.0, 0.0]), "promoted");
        assert_eq!(seen(&mut state, primary(9)), some([9.0, 2.0, 1.0, 0.0]));
        assert_eq!(seen(&mut state, standby(Some(10), 9)), some([10.0, 3.0, 1.0, 1.0]), "replaced");
        let unknown = Rows { replica: Some(true), ..Rows::default() };
        assert_eq!(seen(&mut state, unknown), [None, Some(3.0), Some(1.0), Some(1.0)]);
        let other = Rows { system: Some("9".to_owned()), ..primary(40) };
        assert_eq!(seen(&mut state, other.clone()), some([40.0, 3.0, 1.0, 1.0]), "another system");
        assert_eq!(seen(&mut state, other), some([40.0, 3.0, 1.0, 1.0]));
    }
}
