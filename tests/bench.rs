//! `pgrunway bench` on a real server: what it says of queries whose plans and times are known.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::process::{command, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::{self, Cluster};
use pgrunway::cmd::demo::{QUERIES, setup};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A server, a folder for files, and where the server is.
struct Scene {
    cluster: Cluster,
    dir: TempDir,
    dsn: String,
}

impl Scene {
    async fn new() -> Self {
        let cluster = common::server().await;
        let dsn = cluster.uri("postgres", "postgres");
        Self { cluster, dir: tempfile::tempdir().unwrap(), dsn }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    /// Runs a file with a few iterations; `args` come after those and may overrule them.
    async fn bench(&self, file: &str, args: &[&str]) -> (i32, String, String) {
        let mut all = vec!["bench", file];
        for (flag, value) in [("--iterations", "12"), ("--rounds", "3"), ("--warmup", "2")] {
            let replaced =
                args.contains(&flag) || (flag == "--iterations" && args.contains(&"--duration"));
            if !replaced {
                all.extend([flag, value]);
            }
        }
        all.extend(args);
        let (code, out, err) = run(&all, &[("DATA_SOURCE_NAME", &self.dsn)]).await;
        assert!(!err.contains("panicked"), "{err}");
        (code, out, err)
    }

    async fn json(&self, file: &str, args: &[&str]) -> (i32, Value, String) {
        let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
        let (code, out, err) = self.bench(file, &args).await;
        let document = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
        (code, document, err)
    }
}

/// What was measured of a query in a mode.
fn measured<'d>(document: &'d Value, name: &str, mode: &str) -> &'d Value {
    let queries = document["queries"].as_array().unwrap();
    let query = queries.iter().find(|q| q["name"] == name).unwrap();
    query["modes"].as_array().unwrap().iter().find(|m| m["mode"] == mode).unwrap()
}

fn explain<'d>(document: &'d Value, name: &str, mode: &str) -> &'d Value {
    let found = &measured(document, name, mode)["explain"];
    assert!(found.is_object(), "{name} {mode}: {document:#}");
    found
}

const MODES: [&str; 2] = ["unprepared", "prepared"];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/trading.sql")
}

/// From 14 on the server counts generic and custom plans.
fn counts_plans(document: &Value) -> bool {
    document["server"]["version_num"].as_i64().unwrap() >= 140_000
}

#[tokio::test]
async fn the_five_queries_run_on_the_demos_schema() {
    let binaries = cluster::find_binaries().unwrap();
    let cluster = Cluster::start(&setup::cluster_options(binaries)).await.unwrap();
    let (admin, made) = setup::schema(&cluster, false).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    assert_eq!((made.orders, made.trades), (12, 30));
    let dsn = cluster.uri("app", "trading");
    let scene = Scene { cluster, dir: tempfile::tempdir().unwrap(), dsn };
    let file = example().display().to_string();
    let raw = scene.path("raw.csv").display().to_string();
    let (code, document, err) = scene.json(&file, &["--raw", &raw, "--concurrency", "2"]).await;
    assert!(code == 0 || code == 1, "{err}");
    assert_eq!(document["server"]["database"], "trading");

    for (name, rows, table, total) in [
        ("active_orders", None, "orders", 12),
        ("recent_trades", Some(100.0), "trades", 30),
        ("trade_volume", Some(5.0), "trades", 30),
        ("statistics_24h", Some(1.0), "trades", 30),
        ("order_book_depth", None, "orders", 12),
    ] {
        for mode in MODES {
            let found = measured(&document, name, mode);
            // 12 in 3 rounds by 2 clients.
            assert_eq!(found["round_trip"]["samples"], 12, "{name} {mode}");
            let judged = found["round_trip"]["judged"].as_f64().unwrap();
            assert_eq!(found["met"], judged <= 0.010, "{name} {mode}: {judged}");
            let plan = explain(&document, name, mode);
            if let Some(rows) = rows {
                assert_eq!(plan["rows"], rows, "{name} {mode}");
            }
            let partitions = plan["partitions"].as_array().unwrap();
            assert_eq!((partitions.len(), &partitions[0]["table"]), (1, &table.into()), "{name}");
            let count = |key: &str| partitions[0][key].as_u64().unwrap();
            assert_eq!(count("total"), total, "{name}");
            assert_eq!(count("scanned") + count("unreached") + count("pruned"), total, "{name}");
            assert!(plan["buffers"]["hit"].as_f64().unwrap() >= 1.0, "{name}: {plan}");
        }
        // The finding of the report that this file comes from: planning goes away once prepared.
        let planning =
            |mode| explain(&document, name, mode)["planning_seconds"]["median"].as_f64().unwrap();
        assert!(planning("prepared") < planning("unprepared") / 2.0, "{name}: {document:#}");
        if counts_plans(&document) {
            assert_eq!(explain(&document, name, "prepared")["generic"], true, "{name}");
        }
    }
    agrees_with_its_samples(&document, &std::fs::read_to_string(&raw).unwrap());
    drop(scene);
}

/// Percentiles by counting: the smallest sample that enough others do not exceed.
fn agrees_with_its_samples(document: &Value, raw: &str) {
    for query in document["queries"].as_array().unwrap() {
        for found in query["modes"].as_array().unwrap() {
            let prefix =
                format!("{},{},", query["name"].as_str().unwrap(), found["mode"].as_str().unwrap());
            let samples: Vec<u64> = raw
                .lines()
                .filter_map(|l| l.strip_prefix(&prefix)?.split(',').nth(1)?.parse().ok())
                .collect();
            let trip = &found["round_trip"];
            assert_eq!(trip["samples"], samples.len(), "{prefix}");
            for (key, percent) in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)] {
                let enough = |x: u64| {
                    samples.iter().filter(|s| **s <= x).count() * 100 >= percent * samples.len()
                };
                let brute = samples.iter().copied().filter(|x| enough(*x)).min().unwrap();
                let said = (trip[key].as_f64().unwrap() * 1e9).round();
                assert!((said - brute as f64).abs() < 0.5, "{prefix} {key}: {said} {brute}");
            }
            let mean = samples.iter().sum::<u64>() as f64 / samples.len() as f64;
            assert!((trip["mean"].as_f64().unwrap() * 1e9 - mean).abs() < 1.0, "{prefix}");
        }
    }
}

#[test]
fn the_example_is_the_demos_load() {
    let text = std::fs::read_to_string(example()).unwrap();
    let plain = |sql: &str| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let shipped: Vec<String> = text
        .split("-- name:")
        .skip(1)
        .map(|part| {
            let lines: Vec<&str> = part.lines().skip(1).filter(|l| !l.starts_with("--")).collect();
            plain(lines.join("\n").trim().trim_end_matches(';'))
        })
        .collect();
    let load: Vec<String> = QUERIES.iter().map(|q| plain(&q.sql.replace(q.marker(), ""))).collect();
    assert_eq!(shipped, load);
}

#[tokio::test]
async fn plans_are_told_as_they_are() {
    let scene = Scene::new().await;
    let admin = common::admin(&scene.cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (id int8, d date, v text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
             DO $$ BEGIN FOR i IN 0..29 LOOP
               EXECUTE format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%L) TO (%L)',
                 i, date '2026-01-01' + i, date '2026-01-02' + i);
             END LOOP; END $$;
             INSERT INTO t SELECT n, date '2026-01-01' + (n % 30)::int, repeat('x', 50)
               FROM generate_series(0, 29999) n;
             CREATE TABLE log (n int8);
             ANALYZE",
        )
        .await
        .unwrap();
    let file = scene.write(
        "q.sql",
        "-- name: keyed\n-- target: 10s\n-- params: (SELECT id, d FROM t WHERE id % 7 = 0)\n\
         SELECT v FROM t WHERE id = $1 AND d = $2;\n\
         -- name: sorted\n-- params: 40000..50000\n\
         SELECT v, n FROM t, generate_series(1, $1) n WHERE id = 1 AND d = '2026-01-02' ORDER BY n DESC, v;\n\
         -- name: writes\n-- params: 1..9\n-- transaction: read write\nINSERT INTO log VALUES ($1);\n",
    );
    let (code, document, err) = scene.json(&file, &["--set", "work_mem=64kB"]).await;
    assert_eq!(code, 0, "{err}");
    let keyed = |document: &Value, mode: &str| {
        let plan = explain(document, "keyed", mode);
        assert_eq!(plan["rows"], 1.0, "{plan}");
        assert_eq!(plan["indexes"], serde_json::json!(["t_pkey"]), "{plan}");
        assert_eq!(plan["scans"], serde_json::json!(["Index Scan using t_pkey on t"]), "{plan}");
        assert_eq!(plan["plan"], "Index Scan using t_pkey on t", "{plan}");
        assert_eq!((&plan["plans"], &plan["jit_functions"]), (&1.into(), &0.0.into()), "{plan}");
        let want = serde_json::json!(
            [{"table": "t", "total": 30, "scanned": 1, "unreached": 0, "pruned": 29}]
        );
        assert_eq!(plan["partitions"], want, "{plan}");
        plan.clone()
    };
    for mode in MODES {
        keyed(&document, mode);
    }
    // A generic plan has all partitions and prunes when it begins; here the custom ones are cheaper.
    let args =
        ["--set", "plan_cache_mode=force_generic_plan", "--only", "keyed", "--mode", "prepared"];
    let (_, forced, _) = scene.json(&file, &args).await;
    let plan = keyed(&forced, "prepared");
    if counts_plans(&document) {
        assert_eq!(plan["generic"], true);
        assert_eq!(explain(&document, "keyed", "prepared")["generic"], false);
        // 6 that warm up, 12 that count.
        let plans = serde_json::json!({"generic": 18, "custom": 0});
        assert_eq!(measured(&forced, "keyed", "prepared")["plans"], plans);
    }
    let sorted = explain(&document, "sorted", "unprepared");
    let rows = sorted["rows"].as_f64().unwrap();
    assert!((40_000.0..=50_000.0).contains(&rows), "{sorted}");
    assert!(sorted["temp_blocks_written"].as_f64().unwrap() > 0.0, "{sorted}");
    // Two and six that warm up, twelve each that count; those under EXPLAIN are taken back.
    let log: i64 = admin.query_one("SELECT count(*) FROM log", &[]).await.unwrap().get(0);
    assert_eq!(log, 2 + 12 + 6 + 12);
    assert!(explain(&document, "writes", "unprepared")["first_planning_seconds"].is_object());
}

#[tokio::test]
async fn verdicts_formats_and_baselines() {
    let scene = Scene::new().await;
    let admin = common::admin(&scene.cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE delay AS SELECT 0.004::float8 AS s;
             CREATE TABLE k AS SELECT n AS id FROM generate_series(1, 20000) n;
             CREATE INDEX k_id ON k (id); ANALYZE",
        )
        .await
        .unwrap();
    let file = scene.write(
        "q.sql",
        "-- name: fast\n-- target: 20s\nSELECT 1;\n\
         -- name: slow\n-- target: 3ms\nSELECT pg_sleep(s) FROM delay;\n\
         -- name: found\n-- params: 1..20000\nSELECT id FROM k WHERE id = $1;\n",
    );
    let (code, out, err) = scene.bench(&file, &["--only", "fast"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.matches(" PASS\n").count(), 2, "{out}");
    let (code, out, err) = scene.bench(&file, &[]).await;
    assert_eq!((code, err.trim()), (1, "pgrunway: 2 missed the target"), "{out}");
    assert_eq!((out.matches(" PASS\n").count(), out.matches(" FAIL\n").count()), (2, 2), "{out}");

    let (code, out, _) = scene.bench(&file, &["--format", "markdown"]).await;
    assert_eq!(code, 1);
    let table: Vec<&str> = out.lines().filter(|l| l.starts_with('|')).collect();
    assert_eq!(table.len(), 8, "{out}");
    assert!(table.iter().all(|l| l.matches('|').count() == table[0].matches('|').count()), "{out}");
    let (code, out, _) = scene.bench(&file, &["--format", "junit"]).await;
    assert_eq!(code, 1);
    assert!(out.contains("tests=\"6\" failures=\"2\" errors=\"0\""), "{out}");
    assert_eq!(out.matches("<testcase ").count(), out.matches("</testcase>").count(), "{out}");
    assert!(out.contains("<failure message=\"p95 ") && out.contains("above the target of 3.00 ms"));

    // A baseline of its own kind only.
    let base = scene.path("base.json").display().to_string();
    for (text, word) in [
        ("{", "no JSON"),
        ("{}", "no baseline"),
        ("{\"format\": \"pgrunway-bench\", \"version\": 99}", "version 99"),
        ("{\"format\": \"pgrunway-bench\", \"version\": 1}", "damaged"),
    ] {
        std::fs::write(&base, text).unwrap();
        let (code, _, err) = scene.bench(&file, &["--compare", &base]).await;
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(word) && err.contains("--save"), "{err}");
    }
    std::fs::remove_file(&base).unwrap();
    let (code, _, err) = scene.bench(&file, &["--compare", &base]).await;
    assert!(code == 2 && err.contains("cannot read the baseline"), "{err}");

    // The noise of a loaded machine is not what this tests: only a change by a factor counts.
    let enough = ["--rounds", "8", "--iterations", "24", "--min-change", "150"];
    let with = |more: &[&'static str]| -> Vec<&'static str> {
        enough.iter().chain(more).copied().collect()
    };
    let mut args = with(&["--only", "slow", "--only", "found", "--mode", "prepared"]);
    args.extend(["--save", &base]);
    let (code, saved, _) = scene.json(&file, &args).await;
    assert_eq!(code, 1);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&base).unwrap()).unwrap();
    assert_eq!(written, saved);

    let mut args = with(&["--only", "slow", "--only", "found", "--mode", "prepared"]);
    args.extend(["--compare", &base]);
    admin.batch_execute("UPDATE delay SET s = 0.04; DROP INDEX k_id").await.unwrap();
    let mut differing = args.clone();
    differing.extend(["--set", "work_mem=7MB"]);
    let (code, document, err) = scene.json(&file, &differing).await;
    assert!(code == 1 && err.contains("slower than the baseline"), "{err}");
    let change = &measured(&document, "slow", "prepared")["change"];
    assert_eq!(
        (&change["verdict"], &change["confirmed"]),
        (&"slower".into(), &2.into()),
        "{change}"
    );
    assert!(change["low"].as_f64().unwrap() > 2.5, "{change}");
    // On one machine Linux tells what the backend did: here it slept.
    assert_eq!(change["undisturbed"], true, "{change}");
    let backend = measured(&saved, "slow", "prepared")["undisturbed"].as_f64().unwrap();
    // What waits for a processor is taken off, even where the other slept meanwhile: on a busy machine the
    // sleep may be covered.
    let round_trip = measured(&saved, "slow", "prepared")["round_trip"]["p50"].as_f64().unwrap();
    let least = if round_trip < 0.006 { 0.004 } else { 0.0002 };
    assert!((least..0.03).contains(&backend), "{backend} of {round_trip}");
    let change = &measured(&document, "found", "prepared")["change"];
    let before = change["plan_before"].as_str().unwrap();
    assert_eq!(before, "Index Only Scan using k_id on k");
    assert_eq!(explain(&document, "found", "prepared")["plan"], "Seq Scan on k");
    let notes = document["notes"].to_string();
    assert!(notes.contains("work_mem was 4096 x kB"), "{notes}");
    admin.batch_execute("UPDATE delay SET s = 0.004; CREATE INDEX k_id ON k (id)").await.unwrap();
    let (_, document, _) = scene.json(&file, &args).await;
    let change = &measured(&document, "slow", "prepared")["change"];
    assert_eq!(change["verdict"], "same", "{change}");
    assert_eq!(measured(&document, "found", "prepared")["change"]["plan_before"], Value::Null);
}

#[tokio::test]
async fn what_fails_is_told_and_the_rest_runs() {
    let scene = Scene::new().await;
    let file = scene.write(
        "q.sql",
        "-- name: good\nSELECT 1;\n\
         -- name: typo\nSELECT 1,\n  nosuch\nFROM pg_class;\n\
         -- name: few\n-- params: 1\nSELECT $1::int8 + $2::int8;\n\
         -- name: wrong\n-- params: ['1', 'x']\nSELECT $1::int8;\n\
         -- name: zero\n-- params: 0\nSELECT 1 / $1::int8;\n\
         -- name: writes\nCREATE TABLE x ();\n\
         -- name: late\n-- timeout: 100ms\nSELECT pg_sleep(20);\n\
         -- name: empty\n-- params: (SELECT 1 WHERE false)\nSELECT $1::int4;\n",
    );
    let (code, document, err) = scene.json(&file, &["--mode", "prepared"]).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(err.trim(), "pgrunway: 7 could not be run");
    assert_eq!(measured(&document, "good", "prepared")["round_trip"]["samples"], 12);
    let failure = |name: &str| {
        let queries = document["queries"].as_array().unwrap();
        let query = queries.iter().find(|q| q["name"] == name).unwrap();
        let own = query["failure"].clone();
        if own.is_null() { query["modes"][0]["failure"].clone() } else { own }
    };
    for (name, line, sqlstate, message) in [
        ("typo", "5:3", Some("42703"), "column \"nosuch\" does not exist"),
        ("few", "8", None, "few takes 2 ($1 int8, $2 int8), and 1 are given"),
        ("wrong", "11", Some("22P02"), "a value for $1: invalid input syntax for type bigint"),
        ("zero", "15", Some("22012"), "division by zero"),
        ("writes", "17", Some("25006"), "cannot execute CREATE TABLE in a read-only transaction"),
        ("late", "20", Some("57014"), "canceling statement due to statement timeout"),
        ("empty", "22", None, "the query for values gives no row"),
    ] {
        let found = failure(name);
        assert_eq!(found["place"], format!("{file}:{line}"), "{found}");
        assert_eq!(found["sqlstate"].as_str(), sqlstate, "{found}");
        assert!(found["message"].as_str().unwrap().starts_with(message), "{found}");
    }
    let (_, out, _) = scene.bench(&file, &["--mode", "prepared", "--format", "junit"]).await;
    assert!(out.contains("tests=\"8\" failures=\"0\" errors=\"7\""), "{out}");

    let wrong = scene.write("wrong.sql", "-- name: a\n-- taget: 1ms\nSELECT 1\n");
    let (code, _, err) = scene.bench(&wrong, &[]).await;
    assert!(code == 2 && err.contains("wrong.sql:2") && err.contains("`target`"), "{err}");
    let (code, _, err) = scene.bench(&file, &["--only", "goood"]).await;
    assert!(code == 2 && err.contains("did you mean good?"), "{err}");
    let (code, _, err) = scene.bench(&file, &["--set", "wrok_mem=1"]).await;
    assert!(code == 2 && err.contains("wrok_mem"), "{err}");
    let nowhere = [("DATA_SOURCE_NAME", "postgresql://a@127.0.0.1:1/a")];
    let (code, _, err) = run(&["bench", &file], &nowhere).await;
    assert!(code == 2 && err.contains("127.0.0.1:1"), "{err}");
}

#[tokio::test]
async fn an_interrupt_shows_what_was_measured() {
    let scene = Scene::new().await;
    let base = scene.path("base.json");
    let file = scene.write("q.sql", "-- name: a\nSELECT 1;\n-- name: b\nSELECT pg_sleep(0.3);\n");
    let args =
        ["bench", &file, "--duration", "10m", "--rounds", "1000", "--format", "json", "--save"];
    let args: Vec<&str> = args.into_iter().chain([base.to_str().unwrap()]).collect();
    let mut child = command(&args, &[("DATA_SOURCE_NAME", &scene.dsn)]);
    child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    let admin = common::admin(&scene.cluster, "postgres").await;
    // Until it has been at it for a while: `a` is 0.6 s a round, and b's warm-up takes 8 s.
    let own = "SELECT count(*) FROM pg_stat_activity \
               WHERE application_name = 'pgrunway bench' AND query LIKE '%pg_sleep%'";
    let seen = async {
        while admin.query_one(own, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), seen).await.unwrap();
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
    let out = timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{err}");
    assert!(err.contains("interrupted") && err.contains("is not written"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["interrupted"], true);
    assert_eq!(measured(&document, "b", "prepared")["failure"], Value::Null);
    assert!(!base.exists());
    // Its connections are gone.
    let gone = async {
        let left =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrunway bench'";
        while admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
}
