//! What the configuration changes, on a real server, and the keys that hold no time.
//!
//! Must not: repeat what the trees show.

use super::*;

async fn poll_with(cluster: &Cluster, dbname: &str, rules: Vec<PartitionRule>) -> Poll {
    let mut settings = settings(None);
    settings.partitions.rules = rules;
    Poll::of(&session_with(cluster, dbname, settings).await).await
}

impl Poll {
    /// All samples of a metric: the labels after `datname`, and the value.
    fn all(&self, metric: &str) -> Vec<(String, f64)> {
        let family = self.families.iter().find(|f| f.metric.name == metric);
        let samples = family.into_iter().flat_map(|f| &f.samples);
        samples
            .map(|s| {
                let Value::Number(number) = s.value else { panic!("{metric} is a histogram") };
                (s.labels[1..].join(" "), number)
            })
            .collect()
    }
}

#[tokio::test]
async fn serial_ids_say_how_many_inserts_are_left() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    admin
        .batch_execute(
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO mon;
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO mon;
             CREATE TABLE owned (id bigserial, x int) PARTITION BY RANGE (id);
             CREATE TABLE owned_0 PARTITION OF owned FOR VALUES FROM (0) TO (100);
             CREATE TABLE owned_1 PARTITION OF owned FOR VALUES FROM (100) TO (150);
             CREATE TABLE owned_2 PARTITION OF owned FOR VALUES FROM (200) TO (300);
             CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5), x int) PARTITION BY RANGE (id);
             CREATE TABLE ident_0 PARTITION OF ident FOR VALUES FROM (0) TO (50);
             CREATE SEQUENCE apart; CREATE TABLE shared (id int8 DEFAULT nextval('apart') + 0, x int) PARTITION BY RANGE (id);
             CREATE TABLE shared_0 PARTITION OF shared FOR VALUES FROM (MINVALUE) TO (20) PARTITION BY HASH (id);
             CREATE TABLE shared_00 PARTITION OF shared_0 FOR VALUES WITH (modulus 1, remainder 0);
             CREATE TABLE hidden (id serial, x int) PARTITION BY RANGE (id);
             CREATE TABLE hidden_0 PARTITION OF hidden FOR VALUES FROM (0) TO (9);
             REVOKE ALL ON SEQUENCE hidden_id_seq FROM mon;
             CREATE TABLE plain (id int8, x int) PARTITION BY RANGE (id);
             CREATE TABLE plain_0 PARTITION OF plain FOR VALUES FROM (0) TO (1000000000);
             SELECT nextval('owned_id_seq') FROM generate_series(1, 40);
             SELECT nextval('apart')",
        )
        .await
        .unwrap();
    let session = session(&cluster, "shop", None).await;
    // The truth: inserts until one is refused.
    for (table, step) in [("owned", 1.0), ("ident", 5.0), ("shared", 1.0)] {
        let poll = Poll::of(&session).await;
        assert_eq!(poll.support(table).2, "unit_unknown");
        let left = poll.value("pg_partition_keys_remaining", table).unwrap();
        let mut taken = 0.0;
        let insert = format!("INSERT INTO {table} (x) VALUES (1)");
        while admin.batch_execute(&insert).await.is_ok() {
            taken += 1.0;
        }
        assert_eq!((left / step).ceil(), taken, "{table}: {left}");
        assert!(taken > 7.0, "{table}: {taken}");
        // The refused insert took a key too.
        let after = Poll::of(&session).await.value("pg_partition_keys_remaining", table);
        assert_eq!(after, Some(left - step * (taken + 1.0)), "{table}");
    }
    let poll = Poll::of(&session).await;
    for table in ["hidden", "plain"] {
        assert_eq!(poll.support(table).2, "unit_unknown");
        assert_eq!(poll.value("pg_partition_keys_remaining", table), None);
    }
    // A locked sequence costs its own figure, and no more than the lock timeout.
    admin.batch_execute("BEGIN; ALTER SEQUENCE apart INCREMENT 2").await.unwrap();
    let start = Instant::now();
    let poll = Poll::of(&session).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(poll.value("pg_partition_keys_remaining", "shared"), None);
    assert_eq!(poll.value("pg_partition_count", "shared"), Some(1.0));
    admin.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_table_that_must_exist_is_reported() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    admin
        .batch_execute(
            "CREATE TABLE good (ts date) PARTITION BY RANGE (ts); CREATE TABLE plain (ts date);
             CREATE TABLE ids (id int) PARTITION BY RANGE (id);
             CREATE TABLE quiet (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE good_sub PARTITION OF good DEFAULT PARTITION BY RANGE (ts)",
        )
        .await
        .unwrap();
    let must = |table: &str, ignore: bool| PartitionRule {
        database: Some("shop".to_owned()),
        must_exist: true,
        ignore,
        ..rule(table)
    };
    let rules = || {
        ["public.good", "public.good_sub", "public.gone", "public.ids", "public.plain"]
            .iter()
            .map(|t| must(t, false))
            .chain([must("public.quiet", true)])
            .collect::<Vec<_>>()
    };
    let poll = poll_with(&cluster, "shop", rules()).await;
    let reported = |line: &str, value| (format!("public {line}"), value);
    assert_eq!(
        poll.all("pg_partition_required_missing"),
        [
            reported("good ", 0.0),
            reported("good_sub missing", 1.0),
            reported("gone missing", 1.0),
            reported("ids unit_unknown", 1.0),
            reported("plain missing", 1.0),
            reported("quiet ", 0.0),
        ]
    );
    let elsewhere = poll_with(&cluster, "postgres", rules()).await;
    assert_eq!(elsewhere.all("pg_partition_required_missing"), []);
}

#[tokio::test]
async fn rules_choose_what_is_required_and_who_is_left_out() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    admin
        .batch_execute(
            "CREATE SCHEMA scratch; CREATE TABLE scratch.x (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE scratch.y (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE trades (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE orders (ts date) PARTITION BY RANGE (ts)",
        )
        .await
        .unwrap();
    let required =
        |table: &str, seconds: f64| PartitionRule { required: Some(seconds), ..rule(table) };
    let rules = vec![
        required("public.trades", 86_400.0),
        PartitionRule { database: Some("other".to_owned()), ..required("*.orders", 1.0) },
        required("scratch.y", 2.0),
        PartitionRule { ignore: true, ..rule("scratch.*") },
    ];
    let poll = poll_with(&cluster, "shop", rules).await;
    assert_eq!(
        poll.all("pg_partition_runway_required_seconds"),
        [
            ("public orders".to_owned(), 604_800.0),
            ("public trades".to_owned(), 86_400.0),
            ("scratch y".to_owned(), 2.0),
        ]
    );
    for family in &poll.families {
        assert!(family.samples.iter().all(|s| &*s.labels[2] != "x"), "{}", family.metric.name);
    }
}

#[tokio::test]
async fn data_that_should_be_gone_is_told_by_its_age() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    // The oldest partition is empty, the next has rows, neither is analysed.
    let ddl = |table: &str| {
        format!(
            "CREATE TABLE {table} (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO (now() - '50 d'::interval);
             CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES FROM (now() - '50 d'::interval) TO (now() - '40 d'::interval);
             CREATE TABLE {table}_2 PARTITION OF {table} FOR VALUES FROM (now() - '40 d'::interval) TO (now() + '10 d');"
        )
    };
    for table in ["late", "fine", "empty", "unaged"] {
        admin.batch_execute(&ddl(table)).await.unwrap();
    }
    admin
        .batch_execute(
            "INSERT INTO late VALUES (now() - '41 d'::interval), (now());
             INSERT INTO fine VALUES (now() - '41 d'::interval)",
        )
        .await
        .unwrap();
    let day = 86_400.0;
    let aged = |table: &str, days: f64| PartitionRule { max_age: Some(days * day), ..rule(table) };
    let rules = || vec![aged("*.late", 30.0), aged("*.fine", 45.0), aged("*.empty", 1.0)];
    let exceeded = |poll: &Poll, table| {
        poll.value("pg_partition_retention_exceeded_seconds", table)
            .map(|s| (s / day * 1e3).round())
    };
    // The statistics of the rows arrive a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    let poll = loop {
        let poll = poll_with(&cluster, "shop", rules()).await;
        if exceeded(&poll, "late") != Some(0.0) {
            break poll;
        }
        assert!(Instant::now() < deadline, "live tuples of the old partition");
        admin.batch_execute("SELECT 1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(exceeded(&poll, "late"), Some(10_000.0), "ten days over");
    assert_eq!(exceeded(&poll, "fine"), Some(0.0));
    assert_eq!(exceeded(&poll, "empty"), Some(0.0));
    assert_eq!(exceeded(&poll, "unaged"), None);
    // Once vacuumed, the pages tell.
    admin.batch_execute("VACUUM ANALYZE").await.unwrap();
    let poll = poll_with(&cluster, "shop", rules()).await;
    assert_eq!(exceeded(&poll, "late"), Some(10_000.0));
    admin.batch_execute("DROP TABLE late_1").await.unwrap();
    let poll = poll_with(&cluster, "shop", rules()).await;
    assert_eq!(exceeded(&poll, "late"), Some(0.0));
}

#[tokio::test]
async fn the_largest_leaves_have_series_where_asked() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    // VACUUM runs in no transaction block.
    for part in [
        "CREATE SCHEMA \"Old\"; CREATE TABLE t (ts date, k int) PARTITION BY RANGE (ts);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE \"Old\".t_1 PARTITION OF t FOR VALUES FROM ('2019-01-01') TO ('2020-01-01') PARTITION BY LIST (k);
         CREATE TABLE \"Old\".deep PARTITION OF \"Old\".t_1 FOR VALUES IN (1);
         CREATE TABLE t_3 PARTITION OF t DEFAULT;
         INSERT INTO t SELECT '2020-02-02', 1 FROM generate_series(1, 1000);
         INSERT INTO t SELECT '2019-02-02', 1 FROM generate_series(1, 9000);
         INSERT INTO t VALUES ('2000-01-01', 7);
         CREATE TABLE u (ts date) PARTITION BY RANGE (ts);
         CREATE TABLE u_1 PARTITION OF u FOR VALUES FROM (MINVALUE) TO (MAXVALUE);",
        "VACUUM ANALYZE",
    ] {
        admin.batch_execute(part).await.unwrap();
    }
    let mut settings = settings(None);
    settings.partitions.per_partition = 2;
    let poll = Poll::of(&session_with(&cluster, "shop", settings).await).await;
    let sql = "SELECT pg_relation_size('\"Old\".deep')::float8, pg_relation_size('t_1')::float8";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let label = |text: &str| format!("public {text}");
    assert_eq!(
        poll.all("pg_partition_leaf_size_bytes"),
        [
            (label("t \"Old\".deep"), row.get(0)),
            (label("t public.t_1"), row.get(1)),
            (label("u public.u_1"), 0.0),
        ]
    );
    assert_eq!(
        poll.all("pg_partition_leaf_rows"),
        [
            (label("t \"Old\".deep"), 9000.0),
            (label("t public.t_1"), 1000.0),
            (label("u public.u_1"), 0.0),
        ]
    );
    let none = Poll::of(&session(&cluster, "shop", None).await).await;
    assert_eq!(none.all("pg_partition_leaf_size_bytes"), []);
}
