//! What a wrong flag, DSN or file gets: one error that names the place and the remedy, exit code 2.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::process::run;

const DSN: (&str, &str) = ("DATA_SOURCE_NAME", "postgresql://mon@127.0.0.1:1/postgres");

async fn refused(args: &[&str], env: &[(&str, &str)], words: &[&str]) {
    let (code, out, err) = run(args, env).await;
    assert_eq!(code, 2, "{args:?}: {err}");
    assert!(out.is_empty(), "{out}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
    assert!(!err.contains("hunter2"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[tokio::test]
async fn wrong_input_names_the_place_and_the_remedy() {
    refused(&["--web.listn-address=:1"], &[DSN], &["--web.listn-address", "--web.listen-address"])
        .await;
    refused(&["--web.listen-address=nowhere"], &[DSN], &["--web.listen-address", "no port"]).await;
    let path = "--web.telemetry-path";
    for (value, problem) in [
        ("/-/healthy", "lies under `/-/`"),
        ("//", "empty segment"),
        ("/{x}", "not a plain path"),
        ("/:x", "not a plain path"),
        ("/*x", "not a plain path"),
    ] {
        refused(&[&format!("{path}={value}")], &[DSN], &[path, problem]).await;
    }
    refused(&["--no-collector.statments"], &[DSN], &["statments", "statements"]).await;
    let env = [("DATA_SOURCE_NAME", "postgresql://mon:hunter2@h/db?sslmod=require")];
    refused(&[], &env, &["DATA_SOURCE_NAME", "sslmod", "sslmode"]).await;
    let env = [("DATA_SOURCE_NAME", "host=h password='hunter2")];
    refused(&[], &env, &["DATA_SOURCE_NAME"]).await;
    refused(&["--config.file=/nonexistent/pgrunway.yml"], &[DSN], &["/nonexistent/pgrunway.yml"])
        .await;
}

#[tokio::test]
async fn a_wrong_file_is_named_with_line_and_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgrunway.yml");
    let flag = format!("--config.file={}", path.display());
    let case = |text: &str| std::fs::write(&path, text).unwrap();

    case("objectives:\n  latency: 50ms\n  cache_hit_rato: 0.95\n");
    refused(&[&flag], &[DSN], &["pgrunway.yml:3", "cache_hit_rato", "cache_hit_ratio"]).await;
    case("objectives:\n  cache_hit_ratio: 95\n");
    refused(&[&flag], &[DSN], &["pgrunway.yml:2", "cache_hit_ratio", "95"]).await;
    case("collectors:\n  statements:\n    intervall: 1s\n");
    refused(&[&flag], &[DSN], &["pgrunway.yml:3", "intervall", "interval"]).await;
    case("dsn: [unclosed\n");
    refused(&[&flag], &[DSN], &["pgrunway.yml"]).await;
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    let (code, out, _) = run(&["--version"], &[]).await;
    assert_eq!((code, out.trim()), (0, concat!("pgrunway ", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = run(&["--help"], &[]).await;
    assert_eq!(code, 0);
    for word in ["serve", "demo", "metrics", "--web.listen-address", "--collector.statements"] {
        assert!(out.contains(word), "{word} is not in the help:\n{out}");
    }
}

#[tokio::test]
async fn metrics_prints_the_exposition_once() {
    let cluster = common::server().await;
    let dsn = cluster.uri("mon", "postgres");
    let env = [("DATA_SOURCE_NAME", dsn.as_str())];
    let (code, out, err) = run(&["metrics", "--over=1s"], &env).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\npg_up 1\n") && out.contains("\npg_database_size_bytes{"), "{out}");

    let (code, out, err) = run(&["metrics", "--over=1s"], &[DSN]).await;
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("\npg_up 0\n") && err.contains("127.0.0.1:1"), "{err}");
}

#[tokio::test]
async fn a_rule_of_the_file_reaches_the_exposition() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE events (ts int8) PARTITION BY RANGE (ts); \
             CREATE TABLE events_0 PARTITION OF events FOR VALUES FROM (0) TO (4102444800123); \
             CREATE TABLE old (ts date) PARTITION BY RANGE (ts)",
        )
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgrunway.yml");
    let rules = "partitions:\n\
        - {table: public.events, unit: ms, runway_required: 3d}\n\
        - {table: public.gone, database: postgres, must_exist: true}\n\
        - {table: 'public.*', ignore: true}\n";
    std::fs::write(&path, rules).unwrap();
    let dsn = cluster.uri("mon", "postgres");
    let env = [("DATA_SOURCE_NAME", dsn.as_str())];
    let flag = format!("--config.file={}", path.display());
    let (code, out, err) = run(&["metrics", "--over=1s", &flag], &env).await;
    assert_eq!(code, 0, "{err}");
    let table = "{datname=\"postgres\",schemaname=\"public\",relname=";
    for line in [
        "covered_until_timestamp_seconds{table}\"events\"} 4102444800.123",
        "runway_required_seconds{table}\"events\"} 259200",
        "required_missing{table}\"gone\",reason=\"missing\"} 1",
    ] {
        let line = format!("\npg_partition_{}\n", line.replace("{table}", table));
        assert!(out.contains(&line), "{line}{out}");
    }
    assert!(!out.contains(&format!("pg_partition_runway_seconds{table}\"old\"")), "{out}");
}

#[tokio::test]
async fn healthcheck_asks_the_running_exporter() {
    let process = common::process::Process::serve(DSN.1, &[]).await;
    let flag = format!("--web.listen-address={}", process.address);
    let (code, _, err) = run(&["healthcheck", &flag], &[]).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["healthcheck", "--web.listen-address=127.0.0.1:1"], &[]).await;
    assert_eq!(code, 1, "{err}");
}

/// `pgrunway verify --list | head -1`, and commands that ask a server: no word on standard error, and the exit
/// code that it would have had.
#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::process::Stdio;

    let cluster = common::server().await;
    let dsn = format!("postgresql://mon:mon@127.0.0.1:{}/postgres", cluster.port());
    let passed: &[i32] = &[0];
    for (args, codes) in [
        (vec!["verify", "--list"], passed),
        (vec!["--help"], passed),
        (vec!["metrics", "--over", "1s"], passed),
        (vec!["report", "--over", "1s"], passed),
        // The empty server has findings or none; either way the verdict is told.
        (vec!["verify"], &[0, 1]),
    ] {
        let mut child = common::process::command(&args, &[("DATA_SOURCE_NAME", &dsn)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output());
        let ended = ended.await.expect("it ends").unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(codes.contains(&ended.status.code().unwrap_or(-1)), "{args:?}: {said}");
        assert!(!said.contains("pipe") && !said.contains("panicked"), "{args:?}: {said}");
    }
}
