//! Sequences, and the views of counters that go out as they are, held to the server's own answers.
//!
//! Must not: wait for a fixed time.

use super::*;

#[tokio::test]
async fn sequences_end_with_themselves_or_their_columns() {
    let cluster = server().await;
    work(
        &cluster,
        "postgres",
        "CREATE TABLE narrow (id smallint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME of_two START 30000));
         CREATE SEQUENCE wide AS bigint; CREATE TABLE filled (id int DEFAULT nextval('wide'));
         SELECT setval('wide', 1073741824);
         CREATE TABLE owner (id int); CREATE SEQUENCE owned OWNED BY owner.id; SELECT setval('owned', 2147483647);
         CREATE SEQUENCE down INCREMENT -2 MINVALUE -1000 MAXVALUE 0 START 0; SELECT setval('down', -250);
         CREATE SEQUENCE fresh MAXVALUE 100; CREATE SEQUENCE round CYCLE MAXVALUE 10; SELECT setval('round', 10);
         CREATE DOMAIN small AS smallint; CREATE DOMAIN smaller AS small CHECK (VALUE > 0);
         CREATE SEQUENCE domained; CREATE TABLE domains (id smaller DEFAULT nextval('domained')); SELECT setval('domained', 32766);
         CREATE SEQUENCE hidden; GRANT SELECT ON of_two, wide, owned, down, fresh, round, domained TO mon",
    )
    .await;
    let poll = Run::new(&cluster, "mon", "postgres", "sequences").await.poll().await;
    let admin = common::admin(&cluster, "postgres").await;
    let get = |metric: &str, name: &str| poll.get(metric, &["postgres", "public", name]);
    let ends = [
        ("of_two", "(30000 - 1 - 1)::float8 / (32767 - 1)", "32767 - 29999"),
        (
            "wide",
            "((SELECT last_value FROM wide) - 1)::float8 / (2147483647 - 1)",
            "2147483647 - (SELECT last_value FROM wide)",
        ),
        ("owned", "1", "0"),
        ("domained", "32765.0 / 32766", "1"),
        ("down", "250.0 / 1000", "750 / 2"),
        ("fresh", "0", "(SELECT max_value FROM pg_sequences WHERE sequencename = 'fresh')"),
    ];
    for (name, used, remaining) in ends {
        let expected = figure(&admin, used).await;
        let told = get("pg_sequence_used_ratio", name).unwrap();
        assert!((told - expected).abs() < 1e-9, "{name}: {told}, not {expected}");
        assert_eq!(
            get("pg_sequence_values_remaining", name),
            Some(figure(&admin, remaining).await),
            "{name}"
        );
    }
    for name in ["round", "hidden"] {
        assert_eq!(get("pg_sequence_used_ratio", name), None, "{name}");
    }
    assert_eq!(poll.get("pg_sequences_unreadable", &["postgres"]), Some(1.0));
    // What remains is what nextval() gives.
    admin.batch_execute("SELECT nextval('fresh') FROM generate_series(1, 100)").await.unwrap();
    assert!(admin.batch_execute("SELECT nextval('fresh')").await.is_err());
    let poll = Run::new(&cluster, "mon", "postgres", "sequences").await.poll().await;
    let labels = ["postgres", "public", "fresh"];
    assert_eq!(poll.get("pg_sequence_values_remaining", &labels), Some(0.0));
    assert_eq!(poll.get("pg_sequence_used_ratio", &labels), Some(1.0));
}

#[tokio::test]
async fn counters_of_views_are_the_views() {
    let cluster = common::server_with(&[("wal_level", "logical")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let major = figure(&admin, "current_setting('server_version_num')::int / 10000").await;
    admin
        .batch_execute("SELECT pg_create_logical_replication_slot('slot', 'test_decoding')")
        .await
        .unwrap();
    work(
        &cluster,
        "postgres",
        "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 100)",
    )
    .await;
    // Only what is flushed is decoded.
    let decoded = "(SELECT count(*) FROM pg_logical_slot_get_changes('slot', NULL, NULL)) > 0";
    until(&cluster, "postgres", decoded).await;
    // Each view, the label's column, the collector, and the columns with the names that they go out by.
    let slru = [
        "blks_hit",
        "blks_read",
        "blks_written",
        "blks_zeroed",
        "blks_exists",
        "flushes",
        "truncates",
    ];
    let poll = Run::new(&cluster, "mon", "postgres", "slru").await.poll().await;
    let names = admin.query("SELECT name FROM pg_stat_slru ORDER BY 1", &[]).await.unwrap();
    assert!(names.len() >= 7);
    for row in &names {
        let name: String = row.get(0);
        for column in slru {
            let now =
                figure(&admin, &format!("{column} FROM pg_stat_slru WHERE name = '{name}'")).await;
            let told = poll.get(&format!("pg_stat_slru_{column}_total"), &[&name]).unwrap();
            // The look itself reads transaction states.
            assert!(told <= now && now - told < 1_000.0, "{name} {column}: {told}, {now}");
        }
    }
    if major >= 14.0 {
        let seen = "EXISTS (SELECT FROM pg_stat_replication_slots WHERE total_txns > 0)";
        until(&cluster, "postgres", seen).await;
        let poll = Run::new(&cluster, "mon", "postgres", "logicalslots").await.poll().await;
        let newer = (major >= 19.0).then_some(("mem_exceeded_count", "mem_exceeded"));
        let always = [("total_txns", "txns"), ("total_bytes", "bytes"), ("spill_count", "spills")];
        for (column, name) in always.into_iter().chain(newer) {
            let now = figure(
                &admin,
                &format!("{column} FROM pg_stat_replication_slots WHERE slot_name = 'slot'"),
            )
            .await;
            let metric = format!("pg_stat_replication_slots_{name}_total");
            assert_eq!(poll.get(&metric, &["slot"]), Some(now), "{column}");
        }
    }
    let poll = Run::new(&cluster, "mon", "postgres", "lockwaits").await.poll().await;
    if major < 19.0 {
        assert!(poll.series("pg_stat_lock_waits_total").is_empty());
        return;
    }
    let types = figure(&admin, "count(*) FROM pg_stat_lock").await;
    for metric in ["waits", "wait_seconds", "fastpath_exceeded"] {
        assert_eq!(poll.series(&format!("pg_stat_lock_{metric}_total")).len() as f64, types);
    }
    // One that lasted longer than deadlock_timeout and got its lock.
    let holder = common::admin(&cluster, "postgres").await;
    holder.batch_execute("BEGIN; LOCK t").await.unwrap();
    let waiter = common::admin(&cluster, "postgres").await;
    let waiting = tokio::spawn(async move {
        waiter.batch_execute("SET deadlock_timeout = 1; SELECT count(*) FROM t").await.unwrap();
    });
    let waits = "EXISTS (SELECT FROM pg_locks WHERE NOT granted AND clock_timestamp() - waitstart > '50 ms')";
    until(&cluster, "postgres", waits).await;
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap();
    until(&cluster, "postgres", "EXISTS (SELECT FROM pg_stat_lock WHERE waits > 0)").await;
    let poll = Run::new(&cluster, "mon", "postgres", "lockwaits").await.poll().await;
    let now =
        figure(&admin, "wait_time / 1000 FROM pg_stat_lock WHERE locktype = 'relation'").await;
    assert_eq!(poll.get("pg_stat_lock_wait_seconds_total", &["relation"]), Some(now));
    assert!(now >= 0.05, "{now}");
}
