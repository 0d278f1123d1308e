//! A failover behind a pooler: another server answers on the same connection, and neither its counters
//! nor its recovery state are taken for the old one's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::http::value;
use common::pgbouncer::PgBouncer;
use common::process::Process;
use pgrunway::cmd::cluster::Cluster;

const HITS: &str = "pg_stat_database_blks_hit";

/// What the server itself counted.
async fn counted(cluster: &Cluster) -> f64 {
    let admin = common::admin(cluster, "postgres").await;
    let sql = "SELECT blks_hit::float8 FROM pg_stat_database WHERE datname = 'postgres'";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_failover_behind_a_pooler_is_a_reset_and_no_increment() {
    let mut first = common::server().await;
    common::work(
        &first,
        "postgres",
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i",
    )
    .await;
    let second = first.standby().await.unwrap();
    // Far more than the first one counts in the time of this test.
    let read = "DO $$ BEGIN FOR i IN 1..400 LOOP PERFORM count(*) FROM t; END LOOP; END $$";
    common::work(&second, "postgres", read).await;
    let far = counted(&second).await;
    assert!(far > 150_000.0, "{far}");

    let pooler =
        PgBouncer::start(&first, &["postgres = SERVER dbname=postgres pool_size=2"], &[]).await;
    let fast = ["cache", "replication", "settings", "wal", "checkpoints"]
        .map(|name| format!("--collector.{name}.interval=1s"));
    let fast: Vec<&str> = fast.iter().map(String::as_str).collect();
    let exporter = Process::serve(&pooler.dsn("mon", "postgres"), &fast).await;
    let hits = |text: &str| {
        let line =
            text.lines().find(|l| l.starts_with(HITS) && l.contains("datname=\"postgres\""))?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    let replica = |text: &str| value(text, "pg_replication_is_replica", &[]);
    let before = exporter
        .wait("counting", |text| hits(text).is_some_and(|h| h > 0.0) && replica(text) == Some(0.0))
        .await;

    let mut standby = second;
    for (from, to) in [(0, 1), (1, 0)] {
        let line = |which| {
            let cluster = if which == 0 { &first } else { &standby };
            format!("host={} port={}", cluster.socket_dir().display(), cluster.port())
        };
        let console = pooler.client("admin", "pgbouncer").await;
        console.simple_query("PAUSE").await.unwrap();
        pooler.set(&line(from), &line(to)).await;
        console.simple_query("RESUME").await.unwrap();
        exporter.wait("the other one answers", |text| replica(text) == Some(f64::from(to))).await;
    }
    let polled = |text: &str| {
        let name = "pgrunway_collector_last_success_timestamp_seconds";
        value(text, name, &[("collector", "cache"), ("datname", "")]).unwrap()
    };
    let since = polled(&exporter.metrics().await);
    let after = exporter.wait("some polls more", |text| polled(text) > since + 3.0).await;
    let gained = hits(&after).unwrap() - hits(&before).unwrap();
    assert!(gained < far / 2.0, "{gained} of {far} were counted by another server");
    for collector in ["cache", "replication", "settings", "wal"] {
        let labels = [("collector", collector), ("datname", "")];
        assert_eq!(value(&after, "pgrunway_collector_success", &labels), Some(1.0), "{collector}");
    }

    // A promotion changes no counter, but what the server is.
    let line = |cluster: &Cluster| {
        format!("host={} port={}", cluster.socket_dir().display(), cluster.port())
    };
    pooler.set(&line(&first), &line(&standby)).await;
    exporter.wait("the standby", |text| replica(text) == Some(1.0)).await;
    first.stop().await.unwrap();
    let admin = common::admin(&standby, "postgres").await;
    admin.batch_execute("SELECT pg_promote()").await.unwrap();
    exporter.wait("promoted", |text| replica(text) == Some(0.0)).await;
    standby.stop().await.unwrap();
}
