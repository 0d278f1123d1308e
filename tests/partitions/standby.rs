//! Polls while partitions come and go, on the server itself and on a hot standby of it.
//!
//! Must not: leave out a statement that a maintenance job would run.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// The table never changes its coverage.
const UNTIL: f64 = 4_102_444_800.0;

async fn prepare(admin: &Client) {
    admin
        .batch_execute(
            "CREATE TABLE t (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2100-01-01');
             CREATE TABLE loose (ts timestamptz);",
        )
        .await
        .unwrap();
}

/// Creates, attaches, detaches and drops for four seconds, and until there were rounds and polls enough; returns
/// how often.
async fn churn(admin: Client, vacuum: bool, polls: Arc<AtomicU32>) -> u32 {
    let version = admin.query_one("SELECT current_setting('server_version_num')::int4", &[]).await;
    let concurrently =
        if version.unwrap().get::<_, i32>(0) >= 140_000 { "CONCURRENTLY" } else { "" };
    let mut rounds = 0;
    let start = Instant::now();
    let enough = |rounds| rounds > 20 && polls.load(Ordering::Relaxed) > 50;
    while start.elapsed() < Duration::from_secs(4) || !enough(rounds) {
        assert!(start.elapsed() < Duration::from_secs(120), "{rounds} rounds, {polls:?} polls");
        for sql in [
            "CREATE TABLE t_b PARTITION OF t FOR VALUES FROM ('2200-01-01') TO ('2300-01-01') \
             PARTITION BY LIST (ts)",
            "ALTER TABLE t ATTACH PARTITION loose FOR VALUES FROM ('2400-01-01') TO ('2500-01-01')",
            "ALTER TABLE t DETACH PARTITION loose",
            "ALTER TABLE t ATTACH PARTITION loose FOR VALUES FROM ('2500-01-01') TO ('2600-01-01')",
            &format!("ALTER TABLE t DETACH PARTITION loose {concurrently}"),
            "DROP TABLE t_b",
            "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE m (k mood) PARTITION BY LIST (k); \
             CREATE TABLE m_a PARTITION OF m FOR VALUES IN ('a', 'b')",
            "DROP TABLE m; DROP TYPE mood",
        ] {
            admin.batch_execute(sql).await.unwrap();
        }
        if vacuum && rounds % 10 == 0 {
            // What cancels queries on a standby: rows that they may still see are removed.
            for catalogue in ["pg_class", "pg_inherits", "pg_partitioned_table", "pg_type"] {
                let sql = format!("VACUUM pg_catalog.{catalogue}");
                admin.batch_execute(&sql).await.unwrap();
            }
        }
        rounds += 1;
    }
    rounds
}

async fn polls_during(cluster: &Cluster, admin: Client, vacuum: bool) {
    let mut patient = settings(None);
    // Where the machine is late, a lock that is given back at once is held for longer.
    patient.timeouts.lock = Duration::from_secs(2);
    let session = session_with(cluster, "postgres", patient).await;
    let polls = Arc::new(AtomicU32::new(0));
    let churn = tokio::spawn(churn(admin, vacuum, polls.clone()));
    while !churn.is_finished() {
        let poll = Poll::of(&session).await;
        let found = poll.value("pg_partition_covered_until_timestamp_seconds", "t");
        assert_eq!(found, Some(UNTIL));
        polls.fetch_add(1, Ordering::Relaxed);
    }
    let rounds = churn.await.unwrap();
    assert!(polls.load(Ordering::Relaxed) > 50 && rounds > 20, "{polls:?} polls, {rounds} rounds");
}

#[tokio::test]
async fn churn_costs_no_poll_and_moves_no_figure() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    prepare(&admin).await;
    polls_during(&cluster, admin, false).await;
}

#[tokio::test]
async fn churn_costs_no_poll_on_a_hot_standby() {
    // The default of 30 s would hide a query that stands in the way of the replay.
    let mut cluster = common::server_with(&[("max_standby_streaming_delay", "3s")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    prepare(&admin).await;
    admin
        .batch_execute(
            "CREATE TABLE ids (id bigserial, x int) PARTITION BY RANGE (id);
             CREATE TABLE ids_0 PARTITION OF ids FOR VALUES FROM (0) TO (1000);
             INSERT INTO ids (x) VALUES (1); GRANT SELECT ON SEQUENCE ids_id_seq TO mon",
        )
        .await
        .unwrap();
    let standby = cluster.standby().await.unwrap();
    // The server was restarted for it.
    let admin = common::admin(&cluster, "postgres").await;
    let there = common::admin(&standby, "postgres").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while there.simple_query("SELECT 'ids'::regclass").await.is_err() {
        assert!(Instant::now() < deadline, "the standby follows");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let row = there.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let poll = Poll::of(&session(&standby, "postgres", None).await).await;
    let left = poll.value("pg_partition_keys_remaining", "ids").unwrap();
    assert!((966.0..=998.0).contains(&left), "a standby is told up to 32 keys ahead: {left}");
    polls_during(&standby, admin, true).await;
    // It did follow all the while.
    let follows = "SELECT pg_last_wal_replay_lsn() > '0/0'::pg_lsn AND EXISTS (SELECT FROM \
                pg_stat_wal_receiver WHERE status = 'streaming')";
    assert!(there.query_one(follows, &[]).await.unwrap().get::<_, bool>(0));
}
