//! Recommendations about the server: each follows what the server's settings and counters say.
//!
//! Must not: assert what depends on the machine.

use pgrunway::collector::Collector;
use pgrunway::collectors::database_recommendations::{
    DatabaseRecommendations, State, facts, verdicts,
};
use pgrunway::config::CollectorSetting;

use super::{Run, common, until, work};

const ACTIVE: &str = "pg_recommendation_active";

#[tokio::test]
async fn recommendations_follow_the_settings_in_their_units() {
    let settings = [
        ("track_io_timing", "off"),
        ("checkpoint_completion_target", "0.5"),
        ("idle_in_transaction_session_timeout", "3s"),
        ("log_min_duration_statement", "-1"),
        ("shared_buffers", "64MB"),
        ("effective_cache_size", "1536MB"),
        ("maintenance_work_mem", "32MB"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let mut given = common::settings();
    given.host.memory = Some(2_147_483_648.0);
    let mut run = Run::with(&cluster, "mon", "postgres", "recommendations", given).await;
    let poll = run.poll().await;
    for (id, expected) in [
        ("settings.track_io_timing", Some(1.0)),
        ("settings.checkpoint_completion_target", Some(1.0)),
        ("settings.idle_in_transaction", Some(0.0)),
        ("settings.log_min_duration_statement", Some(1.0)),
        // 3 % and 75 % of 2 GB; exactly a 64th.
        ("settings.shared_buffers", Some(1.0)),
        ("settings.effective_cache_size", Some(0.0)),
        ("settings.maintenance_work_mem", Some(0.0)),
        ("settings.fsync", Some(1.0)),
        ("connections.pool", Some(0.0)),
        // Not enough time, and no processors.
        ("settings.max_wal_size", None),
        ("settings.work_mem", None),
        ("settings.parallel_workers", None),
    ] {
        assert_eq!(poll.get(ACTIVE, &[id]), expected, "{id}");
    }
    let change = "ALTER SYSTEM SET track_io_timing = on; ALTER SYSTEM SET log_min_duration_statement = 100; \
                  ALTER SYSTEM SET maintenance_work_mem = '31MB'";
    for statement in change.split("; ") {
        work(&cluster, "postgres", statement).await;
    }
    work(&cluster, "postgres", "SELECT pg_reload_conf()").await;
    until(
        &cluster,
        "postgres",
        "(SELECT setting = 'on' FROM pg_settings WHERE name = 'track_io_timing')",
    )
    .await;
    let poll = loop {
        // Each backend takes the change up by itself.
        let poll = run.poll().await;
        if poll.get(ACTIVE, &["settings.track_io_timing"]) == Some(0.0) {
            break poll;
        }
    };
    assert_eq!(poll.get(ACTIVE, &["settings.log_min_duration_statement"]), Some(0.0));
    assert_eq!(poll.get(ACTIVE, &["settings.maintenance_work_mem"]), Some(1.0));
}

#[tokio::test]
async fn a_crowd_asks_for_a_pool() {
    let cluster = common::server_with(&[("max_connections", "20")], &[]).await;
    let mut run = Run::new(&cluster, "mon", "postgres", "recommendations").await;
    assert_eq!(run.poll().await.get(ACTIVE, &["connections.pool"]), Some(0.0));
    let mut crowd = Vec::new();
    for _ in 0..15 {
        crowd.push(common::client(&cluster, "postgres", "postgres").await);
    }
    // The crowd and nobody else (we do not count ourselves): one below the limit.
    until(
        &cluster,
        "postgres",
        "(SELECT count(*) >= 17 FROM pg_stat_activity WHERE backend_type = 'client backend')",
    )
    .await;
    crowd.push(common::client(&cluster, "postgres", "postgres").await);
    assert_eq!(run.poll().await.get(ACTIVE, &["connections.pool"]), Some(1.0));
}

#[tokio::test]
async fn recommendations_about_a_database_follow_its_tables() {
    const ACTIVE: &str = "pg_database_recommendation_active";
    let cluster = super::server().await;
    // Forty days and half of today, the runway ends at midnight; some 5 MB a day.
    let create = "\
        CREATE TABLE trades (at timestamptz NOT NULL, note text) PARTITION BY RANGE (at); \
        CREATE TABLE users (id int PRIMARY KEY, name text); \
        INSERT INTO users SELECT i, 'x' FROM generate_series(1, 20000) i; \
        CREATE INDEX users_name ON users (name); CREATE INDEX users_name_again ON users (name); \
        DO $$ DECLARE d timestamptz := date_trunc('day', now(), 'UTC'); BEGIN \
          FOR i IN -40 .. 0 LOOP \
            EXECUTE format('CREATE TABLE trades_%s PARTITION OF trades FOR VALUES FROM (%L) TO (%L)', \
                           i + 40, d + i * interval '24 hours', d + (i + 1) * interval '24 hours'); \
          END LOOP; \
          INSERT INTO trades SELECT d - i * interval '24 hours', repeat('x', 1000) \
            FROM generate_series(0, 39) i, generate_series(1, 4000); \
        END $$; ANALYZE users; DELETE FROM users WHERE id % 2 = 0";
    work(&cluster, "postgres", create).await;
    let mut given = common::settings();
    let off = CollectorSetting { enabled: false, interval: None };
    given.collectors.insert("indexhealth".to_owned(), off);
    let mut off =
        Run::with(&cluster, "mon", "postgres", "databaserecommendations", given.clone()).await;
    let mut run = Run::new(&cluster, "mon", "postgres", "databaserecommendations").await;
    let poll = run.poll().await;
    for (id, expected) in [
        ("partition.runway", Some(1.0)),
        ("partition.many", Some(0.0)),
        ("partition.siblings", Some(0.0)),
        ("index.duplicate", Some(1.0)),
        ("index.invalid", Some(0.0)),
        ("vacuum.age", Some(1.0)),
        // Of users half have changed since.
        ("statistics.age", Some(1.0)),
        ("vacuum.scale_factor", Some(0.0)),
        ("storage.growth", Some(1.0)),
        ("statements.prepare", None),
    ] {
        assert_eq!(poll.get(ACTIVE, &["postgres", id]), expected, "{id}");
    }
    let poll = off.poll().await;
    assert_eq!(poll.get(ACTIVE, &["postgres", "index.duplicate"]), None);
    assert_eq!(poll.get(ACTIVE, &["postgres", "partition.runway"]), Some(1.0));

    let rows = DatabaseRecommendations.fetch(&run.session, &State::default()).await.unwrap();
    let facts = facts(&rows, verdicts(&rows).as_ref());
    let growth = facts.growth.unwrap();
    let trades = &growth.tables[0];
    assert_eq!((growth.tables.len(), trades.name.display().as_str()), (1, "public.trades"));
    assert_eq!(trades.span, 30.0 * 86_400.0);
    let admin = common::admin(&cluster, "postgres").await;
    let of = |tables: &str| {
        format!(
            "sum(pg_total_relation_size(oid))::float8 FROM pg_class WHERE relname ~ '^({tables})$'"
        )
    };
    let month = super::figure(&admin, &of("trades_(1[0-9]|2[0-9]|3[0-9])")).await;
    assert!((trades.per_day - month / 30.0).abs() < 1.0, "{trades:?} {month}");
    assert_eq!(trades.bytes, super::figure(&admin, &of("trades_[0-9]+")).await);
    assert_eq!(growth.bytes, trades.bytes + super::figure(&admin, &of("users")).await);

    let fix = "DROP INDEX users_name_again; VACUUM ANALYZE; \
                CREATE TABLE trades_ahead PARTITION OF trades DEFAULT";
    for statement in fix.split("; ") {
        work(&cluster, "postgres", statement).await;
    }
    let poll = run.poll().await;
    for id in ["index.duplicate", "vacuum.age", "statistics.age"] {
        assert_eq!(poll.get(ACTIVE, &["postgres", id]), Some(0.0), "{id}");
    }
}

#[tokio::test]
async fn partitions_that_differ_from_most_are_found_by_each_property() {
    use pgrunway::collectors::partitions::siblings;
    let cluster = super::server().await;
    let create = "\
        CREATE ROLE bob; CREATE TABLE t (a int, b int NOT NULL) PARTITION BY LIST (a); \
        CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2) PARTITION BY LIST (b); \
        CREATE TABLE alike (a int) PARTITION BY LIST (a); \
        CREATE TABLE alike_1 PARTITION OF alike FOR VALUES IN (1); \
        CREATE TABLE alike_2 PARTITION OF alike FOR VALUES IN (2); \
        DO $$ BEGIN FOR i IN 3 .. 7 LOOP \
          EXECUTE format('CREATE TABLE t_%s PARTITION OF t FOR VALUES IN (%s)', i, i); \
          EXECUTE format('CREATE TABLE t_2_%s PARTITION OF t_2 FOR VALUES IN (%s)', i, i); \
        END LOOP; END $$; GRANT SELECT ON alike_1, alike_2 TO bob";
    work(&cluster, "postgres", create).await;
    let run = Run::new(&cluster, "mon", "postgres", "databaserecommendations").await;
    assert_eq!(siblings(&run.session).await.unwrap(), []);
    let change = "\
        ALTER TABLE t_3 OWNER TO bob; ALTER TABLE t_2_4 REPLICA IDENTITY FULL; \
        ALTER TABLE t_5 ENABLE ROW LEVEL SECURITY; ALTER TABLE t_6 ENABLE ROW LEVEL SECURITY; \
        GRANT SELECT, INSERT ON t_2_7 TO bob";
    work(&cluster, "postgres", change).await;
    let odd = siblings(&run.session).await.unwrap();
    assert!(odd.iter().all(|o| o.table.display() == "public.t" && o.leaves == 10.0), "{odd:?}");
    let of: Vec<_> = odd
        .iter()
        .map(|o| {
            (o.what.as_str(), o.odd, o.first.name.as_str(), o.value.as_str(), o.usual.as_str())
        })
        .collect();
    assert_eq!(
        of,
        [
            ("grants", 1.0, "t_2_7", "INSERT to bob, SELECT to bob", "none"),
            ("owner", 1.0, "t_3", "bob", "postgres"),
            ("replica identity", 1.0, "t_2_4", "FULL", "DEFAULT"),
            ("row security", 2.0, "t_5", "enabled", "disabled"),
        ]
    );
}
