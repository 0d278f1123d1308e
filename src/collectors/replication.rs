//! Who replicates from this server and how far behind they are, whether this server is itself a
//! standby and how old its data is, and the subscriptions of its databases.
//!
//! Must not: call a standby late because its primary is idle, or current because its link is cut.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Lossy, Query, Row, Session, columns};

static IS_REPLICA: Metric = Metric::gauge(
    "pg_replication_is_replica",
    &[],
    "Whether the server is a standby or otherwise in recovery, pg_is_in_recovery().",
);
static LAG: Metric = Metric::gauge(
    "pg_replication_lag_seconds",
    &[],
    "Age of the data: on a standby seconds since the last replayed commit \
     (pg_last_xact_replay_timestamp()) or since what the primary had at an earlier look was replayed, over a working \
     link, 0 while that is so; 0 on a primary, absent where nothing was replayed yet.",
);
static LAST_REPLAY: Metric = Metric::gauge(
    "pg_replication_last_replay_seconds",
    &[],
    "Seconds since the last replayed commit was made on the primary, \
     pg_last_xact_replay_timestamp(); grows on a standby of an idle primary, 0 on a primary.",
);
static OBJECTIVE: Metric = Metric::gauge(
    "pg_replication_lag_objective_seconds",
    &[],
    "Highest acceptable pg_replication_lag_seconds and pg_stat_replication_lag_seconds, from the \
     configuration.",
);
static PAUSED: Metric = Metric::gauge(
    "pg_replication_replay_paused",
    &[],
    "Whether replay is paused on this standby, pg_is_wal_replay_paused().",
);
static RECEIVER: Metric = Metric::gauge(
    "pg_wal_receiver_streaming",
    &[],
    "Whether the WAL receiver of this standby streams, pg_stat_wal_receiver.status; absent on a \
     primary, and on a standby without primary_conninfo.",
);
static RECEIVER_LAG: Metric = Metric::gauge(
    "pg_wal_receiver_lag_bytes",
    &[],
    "Bytes of WAL that the primary had and this standby has not replayed, \
     pg_stat_wal_receiver.latest_end_lsn less pg_last_wal_replay_lsn(); absent without a WAL receiver.",
);

published! {
    /// `pg_replication_is_replica`.
    pub struct IsReplica of IS_REPLICA { => yes: f64 }
}
published! {
    /// `pg_replication_lag_seconds`.
    pub struct ReplicationLag of LAG { => seconds: f64 }
}
published! {
    /// `pg_replication_lag_objective_seconds`.
    pub struct ReplicationLagObjective of OBJECTIVE { => seconds: f64 }
}

const SENDER: &[&str] = &["application_name", "client_addr", "slot_name"];
const STAGE: &[&str] = &["application_name", "client_addr", "slot_name", "stage"];
const STATE: &[&str] = &["application_name", "client_addr", "state", "slot_name"];

static CURRENT: Metric = Metric::gauge(
    "pg_stat_replication_pg_current_wal_lsn_bytes",
    STATE,
    "Position of this server's WAL in bytes, pg_current_wal_lsn(), for each of its \
     pg_stat_replication rows.",
)
.elsewhere_there();
static DIFF: Metric = Metric::gauge(
    "pg_stat_replication_pg_wal_lsn_diff",
    STATE,
    "Bytes of WAL that the standby has not replayed, pg_current_wal_lsn() less \
     pg_stat_replication.replay_lsn.",
)
.elsewhere_there();
static LAG_BYTES: Metric = Metric::gauge(
    "pg_stat_replication_lag_bytes",
    STAGE,
    "Bytes of WAL that have not reached the stage (sent, written, flushed or replayed by the standby), \
     pg_current_wal_lsn() less pg_stat_replication.sent_lsn, write_lsn, flush_lsn and replay_lsn.",
);
static LAG_SECONDS: Metric = Metric::gauge(
    "pg_stat_replication_lag_seconds",
    STAGE,
    "Time between the local flush of WAL and the standby's report that it has written, flushed or replayed it, \
     pg_stat_replication.write_lag, flush_lag and replay_lag; 0 where it has all of it.",
);
published! {
    /// `pg_stat_replication_lag_bytes`.
    pub struct StandbyLag of LAG_BYTES { application_name, client_addr, slot_name, stage => bytes: f64 }
}

static STREAMING: Metric = Metric::gauge(
    "pg_stat_replication_streaming",
    SENDER,
    "Whether the standby or subscriber streams (1) or is still starting or catching up (0), \
     pg_stat_replication.state; base backups are left out.",
);
static SYNC: Metric = Metric::gauge(
    "pg_stat_replication_sync",
    SENDER,
    "Whether a commit may wait for this standby (pg_stat_replication.sync_state is sync or quorum).",
);

const SUBSCRIPTION: &[&str] = &["datname", "subname"];

static SUB_ENABLED: Metric = Metric::gauge(
    "pg_subscription_enabled",
    SUBSCRIPTION,
    "Whether the subscription is enabled, pg_subscription.subenabled.",
);
static SUB_RUNNING: Metric = Metric::gauge(
    "pg_stat_subscription_running",
    SUBSCRIPTION,
    "Whether the subscription's apply worker runs, pg_stat_subscription.pid.",
);
static SUB_RECEIPT: Metric = Metric::gauge(
    "pg_stat_subscription_last_msg_receipt_timestamp_seconds",
    SUBSCRIPTION,
    "Unix time at which the last message of the publisher arrived, \
     pg_stat_subscription.last_msg_receipt_time.",
);
static SUB_ERRORS: Metric = Metric::counter(
    "pg_stat_subscription_errors_total",
    SUBSCRIPTION,
    "Errors while applying changes or copying tables, pg_stat_subscription_stats.apply_error_count \
     and sync_error_count (sync_table_error_count from 19 on) \
     (PostgreSQL 15 and later).",
);

/// Functions that are wrong for the present role of the server raise an error, hence CASE. Who may not
/// read primary_conninfo gets NULL.
const STATUS: &str = "\
SELECT pg_catalog.pg_is_in_recovery() AS replica,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::float8 AS now,
       pg_catalog.date_part('epoch', pg_catalog.pg_last_xact_replay_timestamp())::float8
         AS last_replay,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END
         AS paused,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::float8 AS replayed,
       CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
            THEN pg_catalog.current_setting('primary_conninfo', true) <> '' END AS follows,
       r.status AS receiver,
       pg_catalog.pg_wal_lsn_diff(r.latest_end_lsn, pg_catalog.pg_last_wal_replay_lsn())::float8
         AS behind
  FROM (VALUES (1)) one(x) LEFT JOIN pg_catalog.pg_stat_wal_receiver r ON true";

const SENDERS: &str = "\
SELECT COALESCE(r.application_name, '') AS application,
       COALESCE(pg_catalog.host(r.client_addr), '') AS address,
       COALESCE(s.slot_name::text, '') AS slot, r.state, COALESCE(r.sync_state, '') AS sync_state,
       pg_catalog.pg_wal_lsn_diff(wal.lsn, '0/0')::float8 AS current,
       pg_catalog.pg_wal_lsn_diff(wal.lsn, r.sent_lsn)::float8 AS sent_bytes,
       pg_catalog.pg_wal_lsn_diff(wal.lsn, r.write_lsn)::float8 AS write_bytes,
       pg_catalog.pg_wal_lsn_diff(wal.lsn, r.flush_lsn)::float8 AS flush_bytes,
       pg_catalog.pg_wal_lsn_diff(wal.lsn, r.replay_lsn)::float8 AS replay_bytes,
       pg_catalog.date_part('epoch', r.write_lag)::float8 AS write_seconds,
       pg_catalog.date_part('epoch', r.flush_lag)::float8 AS flush_seconds,
       pg_catalog.date_part('epoch', r.replay_lag)::float8 AS replay_seconds
  FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END) wal(lsn)
 CROSS JOIN pg_catalog.pg_stat_replication r
  LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
 WHERE r.state <> 'backup'
 ORDER BY 1, 2, 3, 4";

/// A subscription's name is unique in its database only, but before 14 its oid may not be read.
fn subscriptions(version_num: i32) -> String {
    let same = if version_num >= 140_000 { "w.subid = s.oid" } else { "w.subname = s.subname" };
    // Leaders of the apply workers only.
    let leader = if version_num >= 160_000 { "AND w.leader_pid IS NULL" } else { "" };
    let (errors, join) = if version_num >= 150_000 {
        let copying =
            if version_num >= 190_000 { "sync_table_error_count" } else { "sync_error_count" };
        (
            format!(", (e.apply_error_count + e.{copying})::float8 AS errors"),
            "LEFT JOIN pg_catalog.pg_stat_subscription_stats e ON e.subid = s.oid",
        )
    } else {
        (String::new(), "")
    };
    format!(
        "SELECT pg_catalog.textsend(d.datname::text) AS datname, \
                pg_catalog.textsend(s.subname::text) AS subname, s.subenabled, \
                w.pid IS NOT NULL AS running, \
                pg_catalog.date_part('epoch', w.last_msg_receipt_time)::float8 \
                  AS last_message{errors} \
           FROM pg_catalog.pg_subscription s \
           JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
           LEFT JOIN pg_catalog.pg_stat_subscription w ON {same} AND w.relid IS NULL {leader} \
           {join} ORDER BY 1, 2"
    )
}

/// Looks that are remembered until what the primary had by then is replayed.
const MOST_MARKS: usize = 1_000;

pub struct Replication;

columns! {
    /// What the server says of itself as a standby.
    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct Standby {
        /// `pg_is_in_recovery()`.
        pub replica: bool,
        /// The server's clock, Unix seconds.
        pub now: f64,
        /// Unix seconds of the last replayed commit.
        pub last_replay: Option<f64>,
        /// Whether replay is paused.
        pub paused: Option<bool>,
        /// Bytes: position up to which it is replayed.
        pub replayed: Option<f64>,
        /// Whether a primary to stream from is configured.
        pub follows: Option<bool>,
        /// State of the WAL receiver, where there is one.
        pub receiver: Option<String>,
        /// Bytes that the primary had beyond what was replayed.
        pub behind: Option<f64>,
    }
}

columns! {
    /// One row of `pg_stat_replication`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Sender {
        /// `application_name`.
        pub application: String,
        /// Of the client.
        pub address: String,
        /// Replication slot, or empty.
        pub slot: String,
        /// `startup`, `catchup`, `streaming`, `stopping`.
        pub state: String,
        /// `async`, `potential`, `sync`, `quorum`.
        pub sync_state: String,
        /// Position of this server.
        pub current: Option<f64>,
        /// Bytes not yet sent.
        pub sent_bytes: Option<f64>,
        /// Bytes not yet written.
        pub write_bytes: Option<f64>,
        /// Bytes not yet flushed.
        pub flush_bytes: Option<f64>,
        /// Bytes not yet replayed.
        pub replay_bytes: Option<f64>,
        /// Seconds until written.
        pub write_seconds: Option<f64>,
        /// Seconds until flushed.
        pub flush_seconds: Option<f64>,
        /// Seconds until replayed.
        pub replay_seconds: Option<f64>,
    }
}

columns! {
    /// One subscription.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Subscription {
        /// Database.
        pub datname: String as Lossy,
        /// Subscription.
        pub subname: String as Lossy,
        /// Whether it should run.
        pub enabled: bool = "subenabled",
        /// Whether its worker runs.
        pub running: bool,
        /// Unix seconds.
        pub last_message: Option<f64>,
        /// Errors since a reset; from PostgreSQL 15 on.
        pub errors: Option<f64> as IfColumn<Option<f64>>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Objective in seconds.
    pub objective: f64,
    /// As a standby.
    pub standby: Standby,
    /// Who streams from here.
    pub senders: Vec<Sender>,
    /// Subscriptions of all databases.
    pub subscriptions: Vec<Subscription>,
}

/// What must survive a poll.
#[derive(Debug, Default)]
pub struct State {
    /// Unix seconds at which the standby was last known to have all that its primary had.
    current_at: Option<f64>,
    /// Ends of the primary's WAL and when they were seen, until they are replayed.
    marks: VecDeque<(f64, f64)>,
    errors: Rollup<1>,
    /// Numbers of subscriptions, by database and name.
    ids: BTreeMap<(String, String), i64>,
}

impl Collector for Replication {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "replication";
    const HELP: &'static str = "Standbys and their lag, this server as a standby, subscriptions.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[
        &IS_REPLICA,
        &LAG,
        &LAST_REPLAY,
        &OBJECTIVE,
        &PAUSED,
        &RECEIVER,
        &RECEIVER_LAG,
        &STREAMING,
        &SYNC,
        &LAG_BYTES,
        &LAG_SECONDS,
        &CURRENT,
        &DIFF,
        &SUB_ENABLED,
        &SUB_RUNNING,
        &SUB_RECEIPT,
        &SUB_ERRORS,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let subscriptions = subscriptions(session.server().version_num);
        let queries = [Query::new(STATUS), Query::new(SENDERS), Query::new(&subscriptions)];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            started: session.server().started,
            objective: session.settings().objectives.replication_lag,
            standby: Row::one(next())?,
            senders: Row::all(next())?,
            subscriptions: Row::all(next())?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        sink.number(&OBJECTIVE, &[], rows.objective);
        standby(state, &rows.standby, sink);
        senders(&rows.senders, sink);
        subscribed(state, &rows, sink);
    }
}

impl Standby {
    fn streams(&self) -> bool {
        self.receiver.as_deref() == Some("streaming")
    }
}

impl State {
    /// What the primary had at an earlier look and is replayed now shows that the data is as new as
    /// that look, however long ago a transaction committed: a load or an index build takes hours.
    fn mark(&mut self, standby: &Standby) {
        let Some(replayed) = standby.replayed else { return };
        if let Some(behind) = standby.behind.filter(|_| standby.streams()) {
            let end = replayed + behind;
            if self.marks.back().is_some_and(|(position, _)| *position > end) {
                // Another timeline.
                self.marks.clear();
            }
            if self.marks.len() < MOST_MARKS {
                self.marks.push_back((end, standby.now));
            }
        }
        while let Some((_, at)) = self.marks.front().filter(|(position, _)| *position <= replayed) {
            self.current_at = Some(*at);
            self.marks.pop_front();
        }
    }
}

impl Sender {
    /// A time is NULL once a standby that has everything has been idle for a while.
    fn lag(&self, seconds: Option<f64>, bytes: Option<f64>) -> Option<f64> {
        let idle = self.state == "streaming" && bytes.is_some_and(|b| b <= 0.0);
        seconds.or(idle.then_some(0.0))
    }
}

impl Subscription {
    fn id(&self) -> (String, String) {
        (self.datname.clone(), self.subname.clone())
    }
}

fn standby(state: &mut State, standby: &Standby, sink: &mut Sink) {
    sink.number(&IS_REPLICA, &[], flag(standby.replica));
    if !standby.replica {
        (state.current_at, state.marks) = Default::default();
        sink.number(&LAG, &[], 0.0);
        sink.number(&LAST_REPLAY, &[], 0.0);
        return;
    }
    let since = |then: f64| (standby.now - then).max(0.0);
    state.mark(standby);
    // An idle primary commits nothing, so the age of the last commit alone says too much; once the
    // link is cut, only what was known until then counts.
    let known = match (standby.last_replay, state.current_at) {
        (Some(replayed), Some(current)) => Some(replayed.max(current)),
        (replayed, current) => replayed.or(current),
    };
    sink.number(&LAG, &[], known.map(since));
    let never = sink.is_compatible().then_some(0.0);
    sink.number(&LAST_REPLAY, &[], standby.last_replay.map(since).or(never));
    sink.number(&PAUSED, &[], standby.paused.map(flag));
    if standby.follows == Some(true) || standby.receiver.is_some() {
        sink.number(&RECEIVER, &[], flag(standby.streams()));
    }
    sink.number(&RECEIVER_LAG, &[], standby.behind.map(|b| b.max(0.0)));
}

/// Two standbys may have the same labels; the one that is further behind counts.
#[derive(Default)]
struct Worst<'a>(BTreeMap<(&'static str, Vec<&'a str>), (&'static Metric, f64)>);

impl<'a> Worst<'a> {
    fn see(&mut self, metric: &'static Metric, labels: Vec<&'a str>, value: Option<f64>) {
        let Some(value) = value else { return };
        let seen = self.0.entry((metric.name, labels)).or_insert((metric, value));
        // Streaming is the only one of which less is worse.
        let less = std::ptr::eq(metric, &STREAMING);
        seen.1 = if less { seen.1.min(value) } else { seen.1.max(value) };
    }
}

fn senders(senders: &[Sender], sink: &mut Sink) {
    let mut worst = Worst::default();
    for sender in senders {
        let (application, address, slot) = (&*sender.application, &*sender.address, &*sender.slot);
        let who = || vec![application, address, slot];
        let with = |stage| vec![application, address, slot, stage];
        let old = || vec![application, address, &*sender.state, slot];
        let sync = ["sync", "quorum"].contains(&&*sender.sync_state);
        worst.see(&STREAMING, who(), Some(flag(sender.state == "streaming")));
        worst.see(&SYNC, who(), Some(flag(sync)));
        // The position was read first, so a fast sender may be ahead of it.
        let missing = |bytes: Option<f64>| bytes.map(|b| b.max(0.0));
        worst.see(&LAG_BYTES, with("sent"), missing(sender.sent_bytes));
        let stages = [
            ("write", sender.write_bytes, sender.write_seconds),
            ("flush", sender.flush_bytes, sender.flush_seconds),
            ("replay", sender.replay_bytes, sender.replay_seconds),
        ];
        for (stage, bytes, seconds) in stages {
            worst.see(&LAG_BYTES, with(stage), missing(bytes));
            worst.see(&LAG_SECONDS, with(stage), sender.lag(seconds, bytes));
        }
        worst.see(&CURRENT, old(), sender.current);
        worst.see(&DIFF, old(), missing(sender.replay_bytes));
    }
    for ((_, labels), (metric, value)) in worst.0 {
        sink.number(metric, &labels, value);
    }
}

fn subscribed(state: &mut State, rows: &Rows, sink: &mut Sink) {
    let mut readings: Vec<Reading<1>> = Vec::new();
    let mut seen = BTreeMap::new();
    for subscription in &rows.subscriptions {
        let labels = [subscription.datname.as_str(), subscription.subname.as_str()];
        // A table's workers and, before 14, a namesake in another database give further rows.
        if seen.insert(labels, ()).is_some() {
            continue;
        }
        sink.number(&SUB_ENABLED, &labels, flag(subscription.enabled));
        sink.number(&SUB_RUNNING, &labels, flag(subscription.running));
        sink.number(&SUB_RECEIPT, &labels, subscription.last_message);
        let next = i64::try_from(state.ids.len()).unwrap_or(i64::MAX);
        let id = *state.ids.entry(subscription.id()).or_insert(next);
        if let Some(errors) = subscription.errors {
            readings.push(Reading { id, root: id, alias: None, counters: [errors] });
        }
    }
    state.errors.update(rows.started, &readings);
    for subscription in &rows.subscriptions {
        let labels = [subscription.datname.as_str(), subscription.subname.as_str()];
        let Some(id) = state.ids.get(&subscription.id()) else { continue };
        if seen.remove(&labels).is_some() {
            let errors = state.errors.published(*id).map(|[errors]| errors);
            sink.number(&SUB_ERRORS, &labels, errors);
        }
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn sender(name: &str, state: &str, bytes: f64, seconds: Option<f64>) -> Sender {
        Sender {
            application: name.to_owned(),
            address: "10.0.0.2".to_owned(),
            slot: String::new(),
            state: state.to_owned(),
            sync_state: "async".to_owned(),
            current: Some(1000.0),
            sent_bytes: Some(0.0),
            write_bytes: Some(bytes),
            flush_bytes: Some(bytes),
            replay_bytes: Some(bytes),
            write_seconds: seconds,
            flush_seconds: seconds,
            replay_seconds: seconds,
        }
    }

    #[test]
    fn columns_are_those_of_the_version() {
        assert!(!subscriptions(140_000).contains("error_count"));
        assert!(subscriptions(180_000).contains("e.sync_error_count)"));
        assert!(subscriptions(190_000).contains("e.sync_table_error_count)"));
    }

    fn rows(standby: Standby) -> Rows {
        Rows { started: 1.0, objective: 300.0, standby, senders: vec![], subscriptions: vec![] }
    }

    fn standby(now: f64, receiver: Option<&str>, replayed_all: bool) -> Standby {
        Standby {
            replica: true,
            now,
            last_replay: Some(100.0),
            paused: Some(false),
            replayed: Some(if replayed_all { 5000.0 } else { 904.0 }),
            follows: Some(true),
            receiver: receiver.map(str::to_owned),
            behind: receiver.map(|_| if replayed_all { -8.0 } else { 4096.0 }),
        }
    }

    fn lag(state: &mut State, standby: Standby) -> Option<f64> {
        let families = poll(&Replication, state, rows(standby));
        value(&families, "pg_replication_lag_seconds", &[])
    }

    #[test]
    fn golden() {
        let subscription = |subname: &str, errors| Subscription {
            datname: "app".to_owned(),
            subname: subname.to_owned(),
            enabled: true,
            running: errors == Some(0.0),
            last_message: Some(1_700_000_000.0),
            errors,
        };
        let mut all = rows(standby(400.0, Some("streaming"), false));
        let synced = Sender {
            application: "b\"\\\n".to_owned(),
            address: String::new(),
            slot: "slot".to_owned(),
            sync_state: "quorum".to_owned(),
            ..sender("", "streaming", 0.0, None)
        };
        // Two of one name: one in the middle of a catch-up, the other level.
        all.senders = vec![
            sender("walreceiver", "streaming", -5.0, None),
            sender("walreceiver", "catchup", 500.0, Some(3.0)),
            synced,
        ];
        all.subscriptions = vec![
            subscription("orders", Some(0.0)),
            subscription("trades", Some(5.0)),
            subscription("trades", Some(5.0)),
        ];
        let mut state = State::default();
        poll(&Replication, &mut state, all.clone());
        all.subscriptions[1].errors = Some(7.0);
        check("replication", &poll(&Replication, &mut state, all));
    }

    #[test]
    fn an_idle_primary_is_no_lag_and_a_cut_link_is_one_from_then_on() {
        let mut state = State::default();
        let streaming = Some("streaming");
        assert_eq!(
            lag(&mut state, standby(1000.0, streaming, false)),
            Some(900.0),
            "unknown before"
        );
        assert_eq!(lag(&mut state, standby(1015.0, streaming, true)), Some(0.0));
        assert_eq!(lag(&mut state, standby(5000.0, streaming, true)), Some(0.0), "idle");
        assert_eq!(lag(&mut state, standby(5015.0, None, true)), Some(15.0), "the link is cut");
        assert_eq!(lag(&mut state, standby(8000.0, None, true)), Some(3000.0));
        assert_eq!(lag(&mut state, standby(8010.0, streaming, false)), Some(3010.0), "catching up");
        let replayed = Standby { last_replay: Some(8015.0), ..standby(8020.0, streaming, false) };
        assert_eq!(lag(&mut state, replayed), Some(5.0));
        let primary = Standby { replica: false, now: 8030.0, ..Standby::default() };
        assert_eq!(lag(&mut state, primary), Some(0.0));
        let empty = Standby { last_replay: None, ..standby(9000.0, None, true) };
        assert_eq!(lag(&mut state, empty), None, "nothing is known of a new standby");
    }
}
