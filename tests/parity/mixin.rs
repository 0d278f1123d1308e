//! What the alerts and the dashboard of postgres_exporter's own mixin ask for, through a real Prometheus that scrapes
//! both exporters: each expression has data from both, and the same.
//!
//! Must not: compare with a threshold, whose answer is mostly empty; both sides of each comparison are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use pgrunway::cmd::cluster::Cluster;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::common::prometheus::Prometheus;
use crate::common::{self, process::Process};
use crate::rival::Rival;

/// Where each comes from, and what it asks for; `$rate` is a window that holds all that was done.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("MaxConnectionsReached", "sum by (job, server) (pg_stat_activity_count)"),
    (
        "MaxConnectionsReached, HighConnections",
        "sum by (server) (pg_settings_max_connections) - sum by (server) (pg_settings_superuser_reserved_connections)",
    ),
    ("Down", "pg_up"),
    (
        "SlowQueries",
        "avg by (datname, server) (rate(pg_stat_activity_max_tx_duration{datname!~\"template.*\"}[$rate])) > -1e9",
    ),
    (
        "QPS",
        "avg by (datname) (irate(pg_stat_database_xact_commit{datname!~\"template.*\"}[$rate]) \
         + irate(pg_stat_database_xact_rollback{datname!~\"template.*\"}[$rate]))",
    ),
    (
        "CacheHitRatio",
        "avg by (datname) (rate(pg_stat_database_blks_hit{datname=\"shop\"}[$rate]) \
         / (rate(pg_stat_database_blks_hit{datname=\"shop\"}[$rate]) \
            + rate(pg_stat_database_blks_read{datname=\"shop\"}[$rate])))",
    ),
    (
        "TooManyRollbacks",
        "avg without (pod) (rate(pg_stat_database_xact_rollback{datname=\"shop\"}[$rate]) \
         / (rate(pg_stat_database_xact_commit{datname=\"shop\"}[$rate]) \
            + rate(pg_stat_database_xact_rollback{datname=\"shop\"}[$rate])))",
    ),
    (
        "HighDeadLocks",
        "max without (pod) (rate(pg_stat_database_deadlocks{datname!~\"template.*\"}[$rate]) * 60)",
    ),
    (
        "AcquiredTooManyLocks",
        "max by (datname, server) (pg_locks_count{datname!~\"template.*\", mode!=\"accesssharelock\"} \
         / on (job, instance) group_left (server) \
           (pg_settings_max_locks_per_transaction * pg_settings_max_connections))",
    ),
    ("ReplicationLaggingMore1Hour, RoleChanged", "pg_replication_is_replica"),
    ("ReplicationRoleChanged", "changes(pg_replication_is_replica[$rate])"),
    ("ReplicationSlotUsed", "pg_replication_slots_active"),
    ("ExporterErrors", "pg_exporter_last_scrape_error"),
    ("TablesNotVacuumed", "pg_stat_user_tables_n_dead_tup"),
    (
        "TablesNotVacuumed",
        "pg_stat_user_tables_n_live_tup * on (job, instance) group_left pg_settings_autovacuum_vacuum_scale_factor \
         + on (job, instance) group_left pg_settings_autovacuum_vacuum_threshold",
    ),
    ("TooManyCheckpointsRequested", "rate(pg_stat_bgwriter_checkpoints_req_total[$rate])"),
    ("TooManyCheckpointsRequested", "rate(pg_stat_bgwriter_checkpoints_timed_total[$rate])"),
    (
        "panel QPS",
        "sum(irate(pg_stat_database_xact_commit{datname=\"shop\"}[$rate])) \
         + sum(irate(pg_stat_database_xact_rollback{datname=\"shop\"}[$rate]))",
    ),
    ("panel Rows", "sum(increase(pg_stat_database_tup_fetched{datname=\"shop\"}[$rate])) > -1"),
    ("panel Rows", "sum(increase(pg_stat_database_tup_returned{datname=\"shop\"}[$rate])) > -1"),
    ("panel Rows", "sum(increase(pg_stat_database_tup_inserted{datname=\"shop\"}[$rate]))"),
    ("panel Rows", "sum(increase(pg_stat_database_tup_updated{datname=\"shop\"}[$rate]))"),
    ("panel Rows", "sum(increase(pg_stat_database_tup_deleted{datname=\"shop\"}[$rate]))"),
    ("panel Buffers", "irate(pg_stat_bgwriter_buffers_backend_fsync_total[$rate])"),
    ("panel Buffers", "irate(pg_stat_bgwriter_buffers_clean_total[$rate])"),
    ("panel Buffers", "irate(pg_stat_bgwriter_buffers_checkpoint_total[$rate])"),
    ("panel Buffers", "increase(pg_stat_bgwriter_buffers_backend_total[$rate])"),
    ("panel Buffers", "increase(pg_stat_bgwriter_buffers_alloc_total[$rate])"),
    ("panel Conflicts/Deadlocks", "sum(pg_stat_database_deadlocks{datname=\"shop\"})"),
    ("panel Conflicts/Deadlocks", "sum(pg_stat_database_conflicts{datname=\"shop\"})"),
    ("panel Number of active connections", "count(pg_stat_database_numbackends)"),
    (
        "variable db",
        "count by (datname) (pg_stat_database_tup_fetched{datname!~\"template.*|postgres\"})",
    ),
];

/// Labels but those that tell the two apart, and the value.
type Answer = BTreeMap<String, f64>;

async fn ask(prometheus: &Prometheus, job: &str, expression: &str) -> Answer {
    // Everything that is selected is of one job.
    let mut of_job = String::new();
    let mut rest = expression.replace("$rate", "5m");
    while let Some(at) = rest.find("pg_") {
        let end = rest[at..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(rest.len(), |e| at + e);
        of_job.push_str(&rest[..end]);
        rest = rest.split_off(end);
        match rest.strip_prefix('{') {
            Some(inner) => {
                of_job.push_str(&format!("{{job=\"{job}\","));
                rest = inner.to_owned();
            }
            None => of_job.push_str(&format!("{{job=\"{job}\"}}")),
        }
    }
    of_job.push_str(&rest);
    let answer = prometheus.query(&of_job).await;
    answer.into_iter().map(|(labels, value)| (name(&labels), value)).collect()
}

fn name(labels: &Value) -> String {
    let labels = labels.as_object().unwrap();
    let labels = labels.iter().filter(|(name, _)| !["job", "instance"].contains(&name.as_str()));
    labels.map(|(name, value)| format!("{name}={value} ")).collect()
}

/// Sample times differ by a second of some twenty, and what the exporters do themselves is counted too.
fn same(theirs: &Answer, ours: &Answer) -> bool {
    theirs.len() == ours.len()
        && theirs.iter().all(|(labels, value)| {
            let ours = ours.get(labels).copied().unwrap_or(f64::NAN);
            (ours - value).abs() <= 0.25 * value.abs().max(ours.abs()) + 1e-6
        })
}

/// Asks each expression of both until they have agreed, while nothing is done; gives those that never did.
pub async fn compare(cluster: &Cluster, process: &Process, rival: &Rival) -> Vec<String> {
    let config = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n\
         - job_name: theirs\n  static_configs: [{{targets: ['{}']}}]\n\
         - job_name: ours\n  static_configs: [{{targets: ['{}']}}]\n",
        rival.address, process.address
    );
    let prometheus = Prometheus::configured(&config, &[]).await;
    for job in ["ours", "theirs"] {
        let twice =
            format!("count_over_time(pg_stat_user_tables_n_dead_tup{{job='{job}'}}[5m]) > 1");
        prometheus.wait(&twice).await;
    }
    for _ in 0..5 {
        let work = "INSERT INTO customer SELECT i FROM generate_series(10001, 13000) i; \
                    UPDATE customer SET note = 'y' WHERE id > 10000; DELETE FROM customer WHERE id > 10000; \
                    CHECKPOINT";
        for sql in work.split(';') {
            common::work(cluster, "shop", sql).await;
        }
        common::work(cluster, "shop", "BEGIN; SELECT count(*) FROM customer; ROLLBACK").await;
    }
    let end = Instant::now() + Duration::from_secs(45);
    let mut open: Vec<&(&str, &str)> = EXPRESSIONS.iter().collect();
    loop {
        let mut still = Vec::new();
        for asked in open {
            let (from, expression) = asked;
            let theirs = ask(&prometheus, "theirs", expression).await;
            let ours = ask(&prometheus, "ours", expression).await;
            if theirs.is_empty() || !same(&theirs, &ours) {
                let said = format!("{from}: {expression}\n  theirs {theirs:?}\n  ours   {ours:?}");
                still.push((asked, said));
            }
        }
        if still.is_empty() || Instant::now() > end {
            return still.into_iter().map(|(_, said)| said).collect();
        }
        open = still.into_iter().map(|(asked, _)| asked).collect();
        sleep(Duration::from_secs(1)).await;
    }
}

/// How many expressions there are.
pub const COUNT: usize = EXPRESSIONS.len();
