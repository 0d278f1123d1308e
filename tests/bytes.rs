//! What the creator of a table, a role or a database can cost the exporter in memory and log: the real binary on a real
//! server with texts of megabytes, tens of thousands of relations, and names that are not UTF-8.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and shows its figures"
)]

mod common;

use std::time::Duration;

use common::process::Process;
use pgrunway::cmd::cluster::Cluster;

/// What one of them may cost, in bytes.
const MOST: u64 = 16 << 20;

/// Intervals such that a test sees several runs of everything.
const FAST: &[&str] = &[
    "--collector.partitions.interval=1s",
    "--collector.indexhealth.interval=1s",
    "--collector.vacuum.interval=1s",
    "--collector.tables.interval=1s",
    "--collector.indexes.interval=1s",
    "--collector.sizes.interval=1s",
    "--collector.maintenance.interval=1s",
    "--collector.databaserecommendations.interval=1s",
];

async fn serve(cluster: &Cluster, args: &[&str]) -> Process {
    let port = cluster.port();
    let dsn = format!("postgresql://mon:mon@127.0.0.1:{port}/postgres?sslmode=disable");
    let args: Vec<&str> = FAST.iter().chain(args).copied().collect();
    Process::serve(&dsn, &args).await
}

/// The values of a metric, with their labels.
fn values<'t>(text: &'t str, name: &str) -> Vec<(&'t str, f64)> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "))
        .map(|(labels, value)| (labels, value.parse().unwrap()))
        .collect()
}

fn value(text: &str, name: &str, label: &str) -> Option<f64> {
    values(text, name).iter().find(|(labels, _)| labels.contains(label)).map(|(_, value)| *value)
}

/// Every collector of the server, and of each of so many databases, has run and succeeded.
fn all_succeed(text: &str, databases: usize) -> bool {
    let success = values(text, "pgrunway_collector_success");
    let inside = success.iter().filter(|(labels, _)| labels.contains("\"partitions\"")).count();
    inside == databases && success.iter().all(|(_, value)| *value == 1.0)
}

fn log_is_small(process: &Process) {
    let log = process.log();
    let bytes: usize = log.iter().map(String::len).sum();
    assert!(bytes < 32_768, "{bytes} bytes: {log:#?}");
    assert!(log.iter().all(|line| line.len() < 8_192), "{log:#?}");
}

#[tokio::test]
async fn texts_of_megabytes_are_left_out_and_everything_else_goes_on() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE plain (id int PRIMARY KEY, t text);
             CREATE TABLE trades (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE trades_1 PARTITION OF trades FOR VALUES FROM ('2020-01-01') TO ('2099-01-01');",
        )
        .await
        .unwrap();
    let process = serve(&cluster, &[]).await;
    let start = process.memory("VmRSS");
    process.wait("a first round", |text| all_succeed(text, 1)).await;
    let quiet = process.memory("VmHWM");
    // What compresses fits a page of the catalog: pg_partitioned_table has a TOAST table besides.
    admin
        .batch_execute(
            "DO $$
             BEGIN
               FOR i IN 1..4 LOOP
                 EXECUTE format('CREATE TABLE keyed%s (k text) PARTITION BY LIST ((k || %L))', i, repeat('x', 12000000));
               END LOOP;
               CREATE TABLE listed (k text) PARTITION BY LIST (k);
               FOR i IN 1..30 LOOP
                 EXECUTE format('CREATE TABLE listed%s PARTITION OF listed FOR VALUES IN (%L)', i, i || repeat('x', 150000));
                 EXECUTE format('CREATE INDEX plain%s ON plain (id) WHERE t <> %L', i, repeat('x', 150000));
                 EXECUTE format('CREATE INDEX said%s ON plain ((t || %L))', i, repeat('x', 150000));
               END LOOP;
               EXECUTE 'ALTER TABLE plain SET (autovacuum_vacuum_scale_factor = 1.' || repeat('0', 150000) || ')';
             END $$",
        )
        .await
        .unwrap();
    let text = process
        .wait("the texts are left out", |text| {
            all_succeed(text, 1)
                && value(text, "pgrunway_collector_texts_too_long", "\"partitions\"") == Some(34.0)
                && value(text, "pgrunway_collector_texts_too_long", "\"indexhealth\"") == Some(60.0)
        })
        .await;
    // A few more rounds, of which each could add to it.
    let runs = |text: &str| {
        value(text, "pgrunway_collector_last_success_timestamp_seconds", "\"partitions\"")
    };
    for _ in 0..3 {
        let before = runs(&process.metrics().await);
        process.wait("another round", |text| runs(text) > before && all_succeed(text, 1)).await;
    }
    let most = process.memory("VmHWM");
    println!("texts: start {start}, quiet {quiet}, most {most}: {} above the start", most - start);
    assert!(most - quiet <= MOST && most - start <= 2 * MOST, "{start} {quiet} {most}");
    // The others are judged as ever.
    assert!(value(&text, "pg_partition_runway_seconds", "\"trades\"").unwrap() > 1e9, "{text}");
    assert_eq!(value(&text, "pg_partition_count", "\"listed\""), Some(30.0));
    let log = process.log();
    let told = log.iter().filter(|line| line.contains("longer than 16384 bytes")).count();
    assert!((2..=3).contains(&told), "{log:#?}");
    log_is_small(&process);
}

#[tokio::test]
async fn thirty_thousand_relations_cost_what_is_documented() {
    let cluster = common::server_with(&[("max_locks_per_transaction", "2000")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let process = serve(&cluster, &["--timeouts.statement=30s", "--answer-limit=16000000"]).await;
    process.wait("a first round", |text| all_succeed(text, 1)).await;
    let quiet = process.memory("VmRSS");
    for chunk in 0..15 {
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..2000 LOOP
               EXECUTE format('CREATE TABLE a_table_with_a_name_of_usual_length_%s_%s ()', {chunk}, i);
             END LOOP; END $$"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    let text = process
        .wait_for("all are seen", Duration::from_secs(180), |text| {
            let left_out = value(text, "pgrunway_collector_series_over_limit_total", "\"vacuum\"");
            all_succeed(text, 1) && left_out > Some(0.0)
        })
        .await;
    assert_eq!(
        values(&text, "pgrunway_collector_defective_samples_total")
            .iter()
            .map(|v| v.1)
            .sum::<f64>(),
        0.0
    );
    let most = process.memory("VmHWM");
    println!("30,000 relations: {} above {quiet}", most - quiet);
    // docs/limits.md: about 5 KiB each.
    assert!(most - quiet <= 30_000 * 5_120 + MOST, "{quiet} {most}");
    log_is_small(&process);
}

#[tokio::test]
async fn an_answer_beyond_its_limit_costs_one_error_and_no_session() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let process = serve(&cluster, &["--answer-limit=131072"]).await;
    process.wait("a first round", |text| all_succeed(text, 1)).await;
    admin
        .batch_execute("DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); END LOOP; END $$")
        .await
        .unwrap();
    // Of what a collector is refused, others may see the session go; all but the refused one go on.
    let limit = "collector=\"tables\",datname=\"postgres\",kind=\"limit\"";
    process
        .wait("the limit is reached, and the rest goes on", |text| {
            value(text, "pgrunway_collector_errors_total", limit) > Some(0.0)
                && value(text, "pgrunway_collector_success", "\"tables\"") == Some(0.0)
                && value(text, "pgrunway_database_up", "\"postgres\"") == Some(1.0)
                && value(text, "pgrunway_collector_success", "\"connections\"") == Some(1.0)
        })
        .await;
    let log = process.log();
    let told: Vec<_> = log.iter().filter(|line| line.contains("answer_limit")).collect();
    assert!(told.iter().any(|line| line.contains("131072 bytes")), "{log:#?}");
    log_is_small(&process);
}

/// Rows of `pg_database` without anything behind them.
#[tokio::test]
async fn a_hundred_and_fifty_thousand_databases_are_bounded() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let process = serve(&cluster, &[]).await;
    process.wait("a first round", |text| all_succeed(text, 1)).await;
    let quiet = process.memory("VmHWM");
    admin
        .batch_execute(
            "SET allow_system_table_mods = on;
             -- Its columns differ from major to major.
             DO $$
             DECLARE names text; given text;
             BEGIN
               SELECT pg_catalog.string_agg(attname, ', ' ORDER BY attnum),
                      pg_catalog.string_agg(CASE attname
                        WHEN 'oid' THEN '(1000000 + i)::pg_catalog.oid'
                        WHEN 'datname' THEN '(''a_database_with_a_name_of_usual_length_'' || i)::name'
                        WHEN 'datallowconn' THEN 'true'
                        ELSE 'd.' || attname END, ', ' ORDER BY attnum)
                 INTO names, given FROM pg_catalog.pg_attribute
                WHERE attrelid = 'pg_catalog.pg_database'::pg_catalog.regclass AND attnum > 0;
               EXECUTE 'INSERT INTO pg_catalog.pg_database (' || names || ') SELECT ' || given
                 || ' FROM pg_catalog.pg_database d, pg_catalog.generate_series(1, 150000) i'
                 || ' WHERE d.datname = ''postgres''';
             END $$",
        )
        .await
        .unwrap();
    process
        .wait_for("they are left out", Duration::from_secs(120), |text| {
            value(text, "pgrunway_collector_success", "\"partitions\",datname=\"postgres\"")
                .is_some()
                && text.contains("\npgrunway_databases_left_out 1")
        })
        .await;
    let most = process.memory("VmHWM");
    println!("150,000 databases: {} above {quiet}", most - quiet);
    // Both connections may hold an answer of as much as answer_limit at the same time.
    assert!(most - quiet <= MOST + (8 << 20), "{quiet} {most}");
    let bytes: usize = process.log().iter().map(String::len).sum();
    assert!(bytes < 1 << 20, "{bytes}");
}

/// Databases in three encodings, each with a table, an index, a column and a schema whose names are no UTF-8, and a
/// role and a database that every one of them sees.
#[tokio::test]
async fn names_that_are_not_utf8_cost_nothing_but_themselves() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for (name, encoding) in
        [("raw", "SQL_ASCII"), ("windows", "WIN1252"), ("japan", "EUC_JP"), ("west", "LATIN1")]
    {
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            ))
            .await
            .unwrap();
    }
    // In SQL_ASCII any bytes are a text; in WIN1252 0x81 is one that UTF-8 has nothing for.
    for (database, bad) in [("raw", "e9ff"), ("windows", "81"), ("west", "e9")] {
        let inside = common::admin(&cluster, database).await;
        inside
            .batch_execute(&format!(
                "DO $$
                 DECLARE bad text := pg_catalog.convert_from('\\x{bad}', pg_catalog.getdatabaseencoding());
                 BEGIN
                   FOR i IN 1..2 LOOP
                     EXECUTE format('CREATE SCHEMA %I', 's' || i || bad);
                     EXECUTE format('CREATE TABLE %I.%I (%I int PRIMARY KEY, ts timestamptz)', 's' || i || bad, 't' || bad, 'c' || bad);
                     EXECUTE format('CREATE INDEX %I ON %I.%I (ts)', 'i' || bad, 's' || i || bad, 't' || bad);
                     EXECUTE format('CREATE TABLE %I.%I (ts timestamptz) PARTITION BY RANGE (ts)', 's' || i || bad, 'p' || bad);
                     EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.%I DEFAULT', 's' || i || bad, 'd' || bad, 's' || i || bad, 'p' || bad);
                   END LOOP;
                   CREATE TABLE good (id int PRIMARY KEY);
                 END $$"
            ))
            .await
            .unwrap();
    }
    let raw = common::admin(&cluster, "raw").await;
    raw.batch_execute(
        "DO $$
         DECLARE a text := pg_catalog.convert_from('\\xff', 'SQL_ASCII');
                 b text := pg_catalog.convert_from('\\xfe', 'SQL_ASCII');
         BEGIN
           -- Two that look the same once they are readable.
           EXECUTE format('CREATE TABLE %I (id int)', 'same' || a);
           EXECUTE format('CREATE TABLE %I (id int)', 'same' || b);
           EXECUTE format('CREATE ROLE %I', 'role' || a);
           EXECUTE format('ALTER DATABASE japan RENAME TO %I', 'base' || a);
         END $$",
    )
    .await
    .unwrap();
    let process = serve(&cluster, &[]).await;
    let named = [
        (
            "pg_stat_user_tables_n_live_tup",
            "datname=\"raw\",schemaname=\"s1\u{fffd}\u{fffd}\",relname=\"t\u{fffd}\u{fffd}\"",
        ),
        (
            "pg_stat_user_tables_n_live_tup",
            "datname=\"raw\",schemaname=\"public\",relname=\"good\"",
        ),
        (
            "pg_stat_user_tables_n_live_tup",
            "datname=\"windows\",schemaname=\"public\",relname=\"good\"",
        ),
        ("pg_stat_user_tables_n_live_tup", "datname=\"west\",schemaname=\"s2é\",relname=\"té\""),
        (
            "pg_partition_count",
            "datname=\"raw\",schemaname=\"s2\u{fffd}\u{fffd}\",relname=\"p\u{fffd}\u{fffd}\"",
        ),
        ("pgrunway_database_up", "datname=\"base\u{fffd}\""),
    ];
    // What a backend counted reaches the statistics a moment later.
    let text = process
        .wait("every collector succeeds everywhere, and each name is there", |text| {
            all_succeed(text, 4) && named.iter().all(|(m, label)| value(text, m, label).is_some())
        })
        .await;
    let defects: f64 =
        values(&text, "pgrunway_collector_defective_samples_total").iter().map(|v| v.1).sum();
    assert_eq!(defects, 0.0, "{:#?}", process.log());
    let mut series: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.rsplit_once(' ').unwrap().0)
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "no series twice");
    assert!(
        !process.log().iter().any(|line| line.contains("please report")),
        "{:#?}",
        process.log()
    );
}
