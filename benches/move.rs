//! What it costs to move rows out of a DEFAULT by what `pgrunway plan` prints, beside a writer and a reader:
//! `cargo bench --bench move -- --rows 10000000`.
//!
//! A throwaway PostgreSQL; the script runs through psql. What it must keep to: no row lost, doubled or changed, and
//! nobody waits longer than 2 s. `--read` has the server read the DEFAULT for each part, as it does without proofs.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::process::run;
use tokio_postgres::Client;

/// Days that the rows of the DEFAULT lie in, the first of which is tomorrow.
const DAYS: i64 = 5;
const MOST: i64 = 50_000_000;

/// Does one thing after another until it is stopped: how often, and the longest that one took.
async fn ever(client: Client, sql: &str, rows: i64, stop: Arc<AtomicBool>) -> (i64, Duration) {
    let statement = client.prepare(sql).await.unwrap();
    let (mut done, mut longest) = (0_i64, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let id = 1 + done * 7_919 % rows;
        let begun = Instant::now();
        client.execute(&statement, &[&id, &(done + 1)]).await.unwrap();
        longest = longest.max(begun.elapsed());
        done += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (done, longest)
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rows = args.iter().position(|a| a == "--rows").and_then(|at| args.get(at + 1));
    let rows = rows.map_or(200_000, |n| n.parse::<i64>().unwrap()).clamp(1_000, MOST);
    let read = args.iter().any(|a| a == "--read");
    let settings =
        [("max_wal_size", "8GB"), ("shared_buffers", "512MB"), ("checkpoint_timeout", "30min")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(&format!(
            "CREATE TABLE ev (id int8, at timestamptz, note text, touched int8, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE ev_default PARTITION OF ev DEFAULT;
             DO $$ DECLARE d timestamptz := date_trunc('day', now(), 'UTC'); BEGIN FOR i IN -2 .. 0 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF ev FOR VALUES FROM (%L) TO (%L)',
                 to_char((d + make_interval(days => i)) AT TIME ZONE 'UTC', '\"ev_p\"YYYYMMDD'),
                 d + make_interval(days => i), d + make_interval(days => i + 1));
             END LOOP; END $$;
             CREATE FUNCTION at(id int8) RETURNS timestamptz STABLE LANGUAGE sql AS $$
               SELECT date_trunc('day', now(), 'UTC') + interval '1 day' + id * (interval '{DAYS} days' / {rows}::float8) - interval '1 ms' $$;
             INSERT INTO ev SELECT i, at(i), 'an event of which little is known, number ' || i, 0 FROM generate_series(1::int8, {rows}) i;"
        ))
        .await
        .unwrap();
    admin.batch_execute("VACUUM ANALYZE ev_default").await.unwrap();
    let sum = format!(
        "SELECT concat_ws(' ', count(*), count(DISTINCT id), sum(hashtextextended(concat_ws('|', id, at, note), 0)::numeric)) FROM ev WHERE id <= {rows}"
    );
    let before = text(&admin, &sum).await;
    let size = text(&admin, "SELECT pg_size_pretty(pg_total_relation_size('ev_default'))").await;
    println!("rows in the DEFAULT: {rows} ({size})");

    let uri = cluster.uri("mon", "postgres");
    let (code, script, err) =
        run(&["plan", "public.ev", "--days", "6"], &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 0, "{err}");
    let script = if read { script.replace("v_scan > c_longest * 0.05", "false") } else { script };
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for (what, sql) in [
        ("insert", format!("INSERT INTO ev SELECT {rows} + $2::int8, at($1::int8), 'new', $2")),
        ("update", "UPDATE ev SET touched = $2 WHERE id = $1 AND at = at($1)".to_owned()),
        ("select", "SELECT FROM ev WHERE id = $1 AND at = at($1) AND $2::int8 > 0".to_owned()),
    ] {
        let (client, stop) = (common::admin(&cluster, "postgres").await, stop.clone());
        others.push((what, tokio::spawn(async move { ever(client, &sql, rows, stop).await })));
    }
    let wal = text(&admin, "SELECT pg_current_wal_lsn()::text").await;
    let begun = Instant::now();
    let (ok, said) = common::psql(&cluster, "postgres", &script).await;
    let elapsed = begun.elapsed();
    let wal = text(
        &admin,
        &format!("SELECT pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), '{wal}'))"),
    )
    .await;
    stop.store(true, Ordering::Relaxed);
    let parts = said.lines().filter(|l| l.contains(" rows moved from ")).count();
    let how = if ok { "done" } else { "failed" };
    println!("script: {how} in {:.1} s, {parts} parts", elapsed.as_secs_f64());
    for line in said.lines().filter(|l| l.contains("ERROR") || l.contains("HINT")) {
        println!("  {line}");
    }
    println!("WAL: {wal}");
    let (mut longest, mut inserted) = (Duration::ZERO, 0);
    for (what, task) in others {
        let (done, most) = task.await.unwrap();
        longest = longest.max(most);
        inserted += if what == "insert" { done } else { 0 };
        println!("{what}: {done}, the longest {:.0} ms", most.as_secs_f64() * 1000.0);
    }
    let after = text(&admin, &sum).await;
    println!("rows before and after, distinct, sum of hashes:\n  {before}\n  {after}");
    let have = text(&admin, "SELECT count(*)::text FROM ev").await;
    let left = text(&admin, "SELECT count(*)::text FROM ev_default").await;
    println!("all rows: {have}, {} expected; left in the DEFAULT: {left}", rows + inserted);
    let whole = before == after && have == (rows + inserted).to_string();
    assert!(whole, "rows are lost, doubled or changed");
    assert!(longest < Duration::from_secs(2), "others waited {longest:?}");
    assert!(ok, "{said}");
    assert_eq!(left, "0");
}
