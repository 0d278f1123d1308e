//! Sizes on a real server: exact, and with locks held.
//!
//! Must not: assert that a sample is there without asserting its value.

use super::*;

#[tokio::test]
async fn sizes_are_the_servers_own() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    // A TOAST table with something in it.
    let random = "string_agg(md5(random()::text), '')";
    let toast = format!(
        "UPDATE plain SET note = (SELECT {random} FROM generate_series(1, 500)) WHERE id < 9"
    );
    work(&cluster, "postgres", &toast).await;
    work(&cluster, "postgres", "VACUUM").await;
    let admin = common::admin(&cluster, "postgres").await;
    let poll = Run::new(&cluster, "mon", "postgres", "sizes").await.poll().await;
    let over = |f: &str, of: &str| format!("SELECT sum({f}(relid)) FROM pg_partition_tree('{of}')");
    for (metric, labels, sql) in [
        ("pg_stat_user_tables_table_size_bytes", PLAIN, "SELECT pg_table_size('plain')".to_owned()),
        (
            "pg_stat_user_tables_index_size_bytes",
            PLAIN,
            "SELECT pg_indexes_size('plain')".to_owned(),
        ),
        ("pg_stat_user_tables_table_size_bytes", TRADES, over("pg_table_size", "trades")),
        ("pg_stat_user_tables_index_size_bytes", TRADES, over("pg_indexes_size", "trades")),
        ("pg_index_size_bytes", &TRADES_AT, over("pg_table_size", "trades_at")),
    ] {
        let own = number(&admin, &sql).await;
        assert!(own > 0.0, "{sql}");
        assert_eq!(poll.get(metric, labels), Some(own), "{metric} {labels:?}");
    }
    assert_eq!(poll.get("pg_size_estimated_relations", &["postgres"]), Some(0.0));
    assert_eq!(poll.series("pg_index_size_bytes").len(), 2, "trades_1_local has no series");
}

#[tokio::test]
async fn a_locked_table_costs_nobody_a_sample_or_a_second() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    work(&cluster, "postgres", "CREATE TABLE free AS SELECT generate_series(1, 9000) i").await;
    work(&cluster, "postgres", "VACUUM ANALYZE").await;
    let holder = common::admin(&cluster, "postgres").await;
    holder.batch_execute("BEGIN; LOCK trades").await.unwrap();
    // ACCESS EXCLUSIVE that is only awaited blocks whoever comes later.
    let reader = common::admin(&cluster, "postgres").await;
    reader.batch_execute("BEGIN; SELECT * FROM plain LIMIT 1").await.unwrap();
    let queued = common::admin(&cluster, "postgres").await;
    let waits = tokio::spawn(async move { queued.batch_execute("BEGIN; LOCK plain").await });
    until(&cluster, "postgres", "EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)").await;

    let admin = common::admin(&cluster, "postgres").await;
    for name in ["connections", "cache", "tables", "indexes", "sizes", "databases"] {
        let poll = Run::new(&cluster, "mon", "postgres", name).await.poll().await;
        assert!(poll.1 < Duration::from_secs(1), "{name} took {:?}", poll.1);
        if name != "sizes" {
            continue;
        }
        let size =
            |t: &str| poll.get("pg_stat_user_tables_table_size_bytes", &["postgres", "public", t]);
        assert_eq!(size("free"), Some(number(&admin, "SELECT pg_table_size('free')").await));
        let pages =
            "SELECT sum(relpages) * 8192 FROM pg_class WHERE relkind = 'r' AND relname LIKE";
        let trades = number(&admin, &format!("{pages} 'trades%'")).await;
        assert!(trades > 0.0);
        assert_eq!(size("trades"), Some(trades));
        let toast =
            "COALESCE((SELECT t.relpages FROM pg_class t WHERE t.oid = c.reltoastrelid), 0)";
        let plain =
            format!("SELECT (relpages + {toast}) * 8192 FROM pg_class c WHERE relname = 'plain'");
        assert_eq!(size("plain"), Some(number(&admin, &plain).await));
        // trades_1, trades_2a and plain; LOCK TABLE does not lock the indexes.
        assert_eq!(poll.get("pg_size_estimated_relations", &["postgres"]), Some(3.0));
    }
    drop((holder, reader));
    waits.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reindexed_toast_table_costs_no_other_table_its_size() {
    let cluster = server().await;
    work(&cluster, "postgres", SCHEMA).await;
    // Never analysed, so that the catalog says 0 pages.
    work(&cluster, "postgres", "CREATE TABLE fresh AS SELECT generate_series(1, 100000) i").await;
    work(&cluster, "postgres", "CREATE TABLE locked (note text)").await;
    let holder = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "sizes").await;
    let before = run.poll().await;
    // The index of a TOAST table is opened with its table.
    let index = "SELECT indexrelid::regclass::text FROM pg_index i JOIN pg_class c \
                 ON c.reltoastrelid = i.indrelid WHERE c.relname = 'plain'";
    let index: String = holder.query_one(index, &[]).await.unwrap().get(0);
    holder.batch_execute(&format!("BEGIN; REINDEX INDEX {index}")).await.unwrap();
    holder.batch_execute("LOCK locked").await.unwrap();
    let poll = Run::new(&cluster, "mon", "postgres", "sizes").await.poll().await;
    assert!(poll.1 < Duration::from_secs(1), "{:?}", poll.1);
    let metric = "pg_stat_user_tables_table_size_bytes";
    let pages =
        number(&holder, "SELECT relpages * 8192 FROM pg_class WHERE relname = 'plain'").await;
    assert_eq!(poll.get(metric, PLAIN), Some(pages));
    let fresh = number(&holder, "SELECT pg_table_size('fresh')").await;
    assert!(fresh > 3e6);
    assert_eq!(poll.get(metric, &["postgres", "public", "fresh"]), Some(fresh));
    assert_eq!(poll.get(metric, &["postgres", "public", "locked"]), None, "nobody knows");
    assert_eq!(poll.get("pg_size_estimated_relations", &["postgres"]), Some(2.0));
    // Who has measured before keeps what it found.
    let later = run.poll().await;
    assert_eq!(later.get(metric, PLAIN), before.get(metric, PLAIN));
    assert!(before.get(metric, PLAIN).unwrap() > pages, "the free space map, and TOAST");
}

#[tokio::test]
async fn one_database_that_may_not_be_measured_does_not_lose_the_others() {
    let cluster = server().await;
    work(&cluster, "postgres", "CREATE ROLE plain LOGIN; CREATE ROLE nobody").await;
    work(&cluster, "postgres", "CREATE DATABASE closed").await;
    work(&cluster, "postgres", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC").await;
    let admin = common::admin(&cluster, "postgres").await;
    let size = |d: &str| format!("SELECT pg_database_size('{d}')");
    let mon = Run::new(&cluster, "mon", "postgres", "databases").await.poll().await;
    let plain = Run::new(&cluster, "plain", "postgres", "databases").await.poll().await;
    let template = number(&admin, &size("template1")).await;
    let closed = number(&admin, &size("closed")).await;
    let metric = "pg_database_size_bytes";
    assert_eq!(mon.get(metric, &["template1"]), Some(template));
    assert_eq!(mon.get(metric, &["closed"]), Some(closed));
    assert_eq!(plain.get(metric, &["template1"]), Some(template));
    assert_eq!(plain.get(metric, &["closed"]), None);
    // What an interrupted DROP DATABASE leaves behind is no database, and its files may be gone.
    let half = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'closed'";
    admin.batch_execute(half).await.unwrap();
    let mon = Run::new(&cluster, "mon", "postgres", "databases").await.poll().await;
    assert_eq!(mon.get(metric, &["closed"]), None);
    assert_eq!(mon.get(metric, &["template1"]), Some(template));
}
