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

/// Labels of the one series of an info metric.
fn info(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("pg_replication_role_info{"))?;
    let (_, rest) = line.split_once(&format!("{label}=\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Role and timeline, how often the timeline changed, and the role to a primary and to a standby.
fn standing(text: &str) -> Option<(String, String, [f64; 3])> {
    let changes = |role: &str| value(text, "pg_replication_role_changes_total", &[("role", role)]);
    let timelines = value(text, "pg_timeline_changes_total", &[])?;
    let counts = [timelines, changes("primary")?, changes("standby")?];
    Some((info(text, "role")?, info(text, "timeline")?, counts))
}

/// An exporter and what it showed last.
struct Watch {
    exporter: Process,
    what: &'static str,
    last: Vec<(String, f64)>,
}

/// Counters that go on whatever server answers: what is added up here.
const OURS: [&str; 3] = [
    "pg_query_duration_seconds_count{",
    "pg_timeline_changes_total",
    "pg_replication_role_changes_total{",
];

impl Watch {
    async fn new(what: &'static str, dsn: &str) -> Self {
        let fast = ["failover", "replication", "settings", "statements", "cache"]
            .map(|name| format!("--collector.{name}.interval=1s"));
        let fast: Vec<&str> = fast.iter().map(String::as_str).collect();
        Self { exporter: Process::serve(dsn, &fast).await, what, last: Vec::new() }
    }

    /// Waits until it stands so; no counter of ours may be lower than before.
    async fn stands(&mut self, role: &str, timeline: &str, counts: [f64; 3]) -> String {
        let want = Some((role.to_owned(), timeline.to_owned(), counts));
        let up = |text: &str| value(text, "pg_up", &[]) == Some(1.0);
        let what = format!("{}: {want:?}", self.what);
        let text = self.exporter.wait(&what, |text| up(text) && standing(text) == want).await;
        let now: Vec<(String, f64)> = text
            .lines()
            .filter(|line| OURS.iter().any(|name| line.starts_with(name)))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
            .collect();
        for (series, before) in &self.last {
            if let Some((_, value)) = now.iter().find(|(name, _)| name == series) {
                assert!(value >= before, "{} of {series}: {before}, then {value}", self.what);
            }
        }
        self.last = now;
        text
    }

    /// Executions that were counted.
    fn calls(&self) -> f64 {
        let counts = self.last.iter().filter(|(series, _)| series.starts_with(OURS[0]));
        counts.map(|(_, value)| value).sum()
    }
}

/// Primaries among these pages, each server once: what PostgresSplitBrain counts.
fn primaries(pages: &[&str]) -> std::collections::BTreeSet<String> {
    let of = |text: &&&str| value(text, "pg_up", &[]) == Some(1.0);
    let role = |text: &&&str| info(text, "role").as_deref() == Some("primary");
    let started = |text: &&str| {
        let start = value(text, "pg_postmaster_start_time_seconds", &[]).unwrap();
        format!("{} {start}", info(text, "system_identifier").unwrap())
    };
    pages.iter().filter(of).filter(role).map(started).collect()
}

async fn promote(cluster: &Cluster) {
    let admin = common::admin(cluster, "postgres").await;
    admin.batch_execute("SELECT pg_promote()").await.unwrap();
}

#[tokio::test]
async fn a_split_a_rewind_and_a_switchover_of_a_streaming_pair_are_told_as_they_are() {
    // What pg_rewind needs.
    let settings = [("wal_log_hints", "on"), ("full_page_writes", "on"), ("cluster_name", "pair")];
    let mut a = common::server_with(&settings, &[]).await;
    common::work(&a, "postgres", "CREATE TABLE t AS SELECT generate_series(1, 100) AS i").await;
    let mut b = a.standby().await.unwrap();
    let settings = "SELECT pg_sleep(0) /* of the standby alone */";
    let many = vec![settings; 3_000].join(";");
    common::work(&b, "postgres", &many).await;

    let both = format!(
        "host={},{} port={},{} user=mon dbname=postgres",
        a.socket_dir().display(),
        b.socket_dir().display(),
        a.port(),
        b.port()
    );
    let mut on_a = Watch::new("the first", &a.uri("mon", "postgres")).await;
    let mut on_b = Watch::new("the second", &b.uri("mon", "postgres")).await;
    let mut on_both = Watch::new("whoever answers", &both).await;
    let first = on_a.stands("primary", "1", [0.0; 3]).await;
    let second = on_b.stands("standby", "1", [0.0; 3]).await;
    on_both.stands("primary", "1", [0.0; 3]).await;
    for label in ["system_identifier", "cluster_name"] {
        assert_eq!(info(&first, label), info(&second, label), "{label}");
    }
    assert_eq!(info(&first, "cluster_name").as_deref(), Some("pair"));
    let id = "SELECT system_identifier::text FROM pg_control_system()";
    let id: String = common::admin(&a, "postgres").await.query_one(id, &[]).await.unwrap().get(0);
    assert_eq!(info(&first, "system_identifier"), Some(id));
    on_a.exporter
        .wait("its standby is asynchronous", |t| info(t, "sync_state").as_deref() == Some("async"))
        .await;
    assert_eq!(primaries(&[&first, &second]).len(), 1);

    // Promoted while the old primary goes on: two of one system.
    promote(&b).await;
    common::work(&a, "postgres", "INSERT INTO t VALUES (101)").await;
    let second = on_b.stands("primary", "2", [1.0, 1.0, 0.0]).await;
    let first = on_a.stands("primary", "1", [0.0; 3]).await;
    let third = on_both.stands("primary", "1", [0.0; 3]).await;
    assert_eq!(primaries(&[&first, &second, &third]).len(), 2, "the first one is watched twice");

    // The old one is gone, and who follows the address finds the other: its counters are not added to the first one's.
    let before = on_both.calls();
    a.stop().await.unwrap();
    on_both.stands("primary", "2", [1.0, 0.0, 0.0]).await;
    on_a.exporter.wait("it is away", |text| value(text, "pg_up", &[]) == Some(0.0)).await;
    assert!(on_both.calls() - before < 1_500.0, "{before}, then {}", on_both.calls());
    let alone = on_a.exporter.metrics().await;
    assert_eq!(primaries(&[&alone, &second]).len(), 1, "what is down is none");

    // It is rewound and comes back as a standby, on the new timeline.
    a.rewind(&b).await.unwrap();
    let first = on_a.stands("standby", "2", [1.0, 0.0, 1.0]).await;
    assert_eq!(value(&first, "pg_replication_is_replica", &[]), Some(1.0));

    // A switchover in order.
    b.stop().await.unwrap();
    promote(&a).await;
    b.follow(&a).await.unwrap();
    let first = on_a.stands("primary", "3", [2.0, 1.0, 1.0]).await;
    let second = on_b.stands("standby", "3", [2.0, 1.0, 1.0]).await;
    assert_eq!(primaries(&[&first, &second]).len(), 1);
    let collectors = ["failover", "replication", "settings", "statements", "cache"];
    for (watch, text) in [(&on_a, &first), (&on_b, &second)] {
        for collector in collectors {
            let labels = [("collector", collector), ("datname", "")];
            let success = value(text, "pgrunway_collector_success", &labels);
            assert_eq!(success, Some(1.0), "{collector} of {}", watch.what);
        }
    }
}
