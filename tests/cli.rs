//! What a wrong flag, DSN or file gets: one error that names the place and the remedy, exit code 2.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::http;
use common::process::{Process, run};
use nix::sys::signal::Signal;
use pgrunway::cli::{self, Invocation};
use pgrunway::cmd;
use pgrunway::config::{Config, Process as Surroundings};

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
async fn man_pages_and_completions_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let (code, out, err) = run(&["man", "--output", folder], &[]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("pgrunway-plan.1"), "{err}");
    let page = std::fs::read_to_string(dir.path().join("pgrunway.1")).unwrap();
    assert!(page.contains(".TH PGRUNWAY 1"), "{page}");
    let (code, out, err) = run(&["man", "--output", "/nowhere"], &[]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("writing /nowhere/pgrunway.1"), "{err}");
    let (code, out, _) = run(&["completions", "bash"], &[]).await;
    assert!(code == 0 && out.contains("complete -F _pgrunway"), "{out}");
    assert_eq!(run(&["completions", "tcsh"], &[]).await.0, 2);
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

/// Flags and variables of postgres_exporter: versions, flag, whether it is a switch, variable, a value.
fn theirs() -> Vec<(&'static str, &'static str, bool, Option<&'static str>, &'static str)> {
    let text = include_str!("postgres_exporter/flags.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let variable = (cells[3] != "-").then_some(cells[3]);
            (cells[0], cells[1], cells[2] == "switch", variable, cells[4])
        })
        .collect()
}

#[tokio::test]
async fn every_flag_and_variable_of_postgres_exporter_starts() {
    for version in ["0.19", "0.20"] {
        let of_it = || {
            theirs().into_iter().filter(|(versions, flag, ..)| {
                versions.contains(version) && !["dumpmaps", "web.systemd-socket"].contains(flag)
            })
        };
        assert!(of_it().count() >= 40, "{version}");
        // kingpin's forms: --flag=value and --flag value, --flag and --no-flag.
        for form in 0..2 {
            let mut args = Vec::new();
            for (_, flag, switch, _, value) in of_it() {
                match (switch, form) {
                    (true, 0) => args.push(format!("--{flag}")),
                    (true, _) => args.push(format!("--no-{flag}")),
                    (false, 0) => args.push(format!("--{flag}={value}")),
                    (false, _) => args.extend([format!("--{flag}"), value.to_owned()]),
                }
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut process = Process::start(&args, &[DSN]).await;
            let answer = http::get(process.address, "/m").await;
            assert_eq!(answer.status, 200, "{args:?}");
            let log = process.log().join("\n");
            assert!(log.contains("going on without it"), "{log}");
            let warned = log.matches("has no effect").count();
            assert_eq!(warned, form, "{log}");
            process.stop(Signal::SIGTERM).await;
        }
        let mut env = vec![DSN, ("PG_EXPORTER_WEB_LISTEN_ADDRESS", "127.0.0.1:0")];
        env.extend(of_it().filter_map(|(.., switch, variable, value)| {
            Some((variable?, if switch { "T" } else { value }))
        }));
        assert!(env.len() >= 10);
        let mut process = Process::start(&[], &env).await;
        assert_eq!(http::get(process.address, "/m").await.status, 200);
        process.stop(Signal::SIGTERM).await;
    }
}

/// The chart prometheus-postgres-exporter 8.2 with its default values, and with each of its switches.
#[tokio::test]
async fn the_helm_chart_s_arguments_start() {
    let env = [
        ("DATA_SOURCE_URI", "127.0.0.1:1/?sslmode=disable"),
        ("DATA_SOURCE_USER", "postgres"),
        ("DATA_SOURCE_PASS", "hunter2"),
    ];
    let default = ["--config.file=/etc/postgres_exporter.yml", "--web.listen-address=127.0.0.1:0"];
    let all = [
        "--no-collector.database",
        "--no-collector.stat_bgwriter",
        "--disable-default-metrics",
        "--disable-settings-metrics",
        "--log.level=fatal",
        "--log.format=json",
    ];
    let mut process = Process::start(&default, &env).await;
    let log = process.log().join("\n");
    let said = "--config.file: cannot read /etc/postgres_exporter.yml";
    assert!(log.contains(said) && log.contains("going on without it"), "{log}");
    assert_eq!(http::get(process.address, "/").await.status, 200, "its probes ask for /");
    process.stop(Signal::SIGTERM).await;
    let args: Vec<&str> = default.into_iter().chain(all).filter(|a| !a.contains("log.")).collect();
    let mut process = Process::start(&args, &env).await;
    process.stop(Signal::SIGTERM).await;
    // Without a line of the log its address is not known here; that it is accepted is.
    let all = std::iter::once("pgrunway").chain(default).chain(all);
    let Invocation { flags, .. } = cli::parse(all, &cmd::known()).unwrap();
    assert!(Config::resolve(&flags, &Surroundings, &cmd::known()).is_ok());
}

#[tokio::test]
async fn a_variable_that_nothing_has_is_named_with_the_nearest() {
    let env = [
        DSN,
        ("PGRUNWAY_LOGLEVEL", "debug"),
        ("PG_EXPORTER_METRIC_PREFX", "x"),
        ("DATA_SOURCE_PASSWORD", "hunter2"),
        // Of a service named pgrunway, by Kubernetes.
        ("PGRUNWAY_SERVICE_HOST", "10.0.0.1"),
        ("PGRUNWAY_PORT_9187_TCP_ADDR", "10.0.0.1"),
        ("PGRUNWAY_SERVICE_PORT_HTTP", "9187"),
        ("PGRUNWAY_PORT", "tcp://10.0.0.1:9187"),
    ];
    let mut process = Process::start(&["--web.listen-address=127.0.0.1:0"], &env).await;
    let log = process.log().join("\n");
    for (name, meant) in [
        ("PGRUNWAY_LOGLEVEL", "did you mean `PGRUNWAY_LOG_LEVEL`?"),
        ("PG_EXPORTER_METRIC_PREFX", "did you mean `PG_EXPORTER_METRIC_PREFIX`?"),
        ("DATA_SOURCE_PASSWORD", "see docs/config.md"),
    ] {
        let line = log.lines().find(|line| line.contains(&format!("{name} has no effect")));
        assert!(line.is_some_and(|line| line.contains(meant)), "{name}: {log}");
    }
    assert_eq!(log.matches("has no effect").count(), 3, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    process.stop(Signal::SIGTERM).await;
}

#[tokio::test]
async fn dumpmaps_lists_metrics_and_ends() {
    let (code, out, err) = run(&["--dumpmaps"], &[]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.lines().any(|line| line.starts_with("pg_up{}  ")), "{out}");
}

#[tokio::test]
async fn check_config_says_where_a_file_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgrunway.yml");
    let text = path.display().to_string();
    std::fs::write(&path, "web:\n  enable_lifecycl: true\n").unwrap();
    let (code, out, err) = run(&["check-config", &text], &[DSN]).await;
    let said =
        format!("{text}:2:3: unknown key `enable_lifecycl`; did you mean `enable_lifecycle`?");
    assert!(code == 2 && out.is_empty() && err.contains(&said), "{code} {out} {err}");
    std::fs::write(&path, "targets:\n- {name: a, dsn: 'postgresql://mon:hunter2@h/d'}\n").unwrap();
    let flag = format!("--config.file={text}");
    for args in [vec!["check-config", &text], vec![&flag, "check-config"]] {
        let (code, out, err) = run(&args, &[]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert_eq!(out, format!("{text}: valid; targets: 1\n"));
    }
    let missing = dir.path().join("postgres_exporter.yml").display().to_string();
    let (code, _, err) = run(&["check-config", &missing], &[DSN]).await;
    assert!(code == 2 && err.contains("does not exist"), "{err}");
    let (code, out, err) = run(&["check-config", "--wrap-large-counters"], &[DSN]).await;
    assert!(code == 0 && out.contains("targets: 1") && err.starts_with("warning: "), "{out} {err}");
}
