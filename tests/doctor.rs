//! `pgrunway doctor`: each planted defect is named, its script fixes it, and then there is nothing to do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use common::pgbouncer::PgBouncer;
use common::process::{Process, run};
use pgrunway::cmd::cluster::Cluster;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Exit code and what it says, as JSON.
async fn doctor(args: &[&str], env: &[(&str, &str)]) -> (i32, Value) {
    // A machine that is busy with other tests is no defect.
    let patient =
        ["--timeouts.connect=30s", "--timeouts.handshake=30s", "--timeouts.statement=30s"];
    let mut all = vec!["doctor", "--format", "json"];
    all.extend(patient);
    all.extend(args);
    let (code, out, err) = run(&all, env).await;
    let report = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"));
    (code, report)
}

fn each<'a>(report: &'a Value, key: &'a str) -> impl Iterator<Item = &'a Value> {
    let targets = report["targets"].as_array().unwrap().iter();
    targets.flat_map(move |target| target[key].as_array().unwrap())
}

/// Id and object of what has to be done something about.
fn defects(report: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = each(report, "findings").filter(|f| f["severity"] != "info");
    found.map(|f| (text(&f["id"]), text(&f["object"]))).collect()
}

fn defect(id: &str, object: &str) -> (String, String) {
    (id.to_owned(), object.to_owned())
}

/// What a finding says.
fn evidence<'a>(report: &'a Value, id: &str) -> &'a str {
    let mut found = each(report, "findings").filter(|f| f["id"] == id);
    found.next().unwrap_or_else(|| panic!("no {id}: {report:#}"))["found"].as_str().unwrap()
}

async fn psql(cluster: &Cluster, database: &str, script: &str) {
    let (ok, said) = common::psql(cluster, database, script).await;
    assert!(ok, "{said}\n{script}");
}

/// A certificate that the server can use, in a folder of its own.
fn certificate(dir: &Path) -> [String; 2] {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (cert, private) = (dir.join("server.pem"), dir.join("server.key"));
    std::fs::write(&cert, certificate.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = nix::unistd::User::from_name("postgres").unwrap();
    if let Some(owner) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        for path in [dir, &private] {
            chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        }
    }
    [cert, private].map(|path| path.display().to_string())
}

#[tokio::test]
async fn planted_defects_are_named_and_fixed_by_what_is_printed_until_there_is_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = certificate(dir.path());
    let settings = [
        ("shared_preload_libraries", ""),
        ("ssl", "off"),
        ("ssl_cert_file", cert.as_str()),
        ("ssl_key_file", key.as_str()),
    ];
    let mut cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let major: i32 = {
        let sql = "SELECT current_setting('server_version_num')::int4 / 10000";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    };
    let odd = common::shared_name(&cluster, "it's \"odd\"; \\! x");
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    for sql in [
        "DROP EXTENSION pg_stat_statements",
        "CREATE DATABASE shop",
        &format!("CREATE DATABASE {quoted}"),
        "REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
        &format!("REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC"),
        "REVOKE pg_monitor FROM mon",
        "ALTER ROLE mon NOLOGIN CONNECTION LIMIT 0",
        "ALTER ROLE mon SET track_counts = off",
        "ALTER DATABASE shop SET track_activities = off",
    ] {
        admin.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    if major >= 14 {
        admin.batch_execute("ALTER SYSTEM SET compute_query_id = off").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }
    drop(admin);
    let dsn = format!("postgresql://mon:mon@localhost:{}/shop?sslmode=require", cluster.port());
    let env = [("DATA_SOURCE_NAME", dsn.as_str())];

    let (mut seen, mut codes, mut restarts) = (BTreeSet::new(), Vec::new(), 0);
    let last = loop {
        let (code, report) = doctor(&[], &env).await;
        codes.push(code);
        let found = defects(&report);
        if code == 0 {
            assert_eq!(found, BTreeSet::new(), "{report:#}");
            break report;
        }
        assert!(!found.is_empty() && codes.len() < 9, "{codes:?} {report:#}");
        psql(&cluster, "postgres", report["script"].as_str().unwrap()).await;
        // Each is found until its script was run, and not again; but for what a restart brings about.
        let again: Vec<_> = seen.intersection(&found).collect();
        assert!(again.is_empty(), "{again:?} {report:#}");
        if found.iter().any(|(id, _)| id == "settings.pg_stat_statements") {
            cluster.restart().await.unwrap();
            restarts += 1;
        }
        seen.extend(found);
    };
    let mut want: BTreeSet<_> = [
        ("access.tls", "server"),
        ("access.login", "mon"),
        ("access.connections", "mon"),
        ("access.database", "shop"),
        ("access.database", odd.as_str()),
        ("settings.role", "mon"),
        ("settings.pg_stat_statements", "shared_preload_libraries"),
        ("settings.pg_stat_statements", "shop"),
        ("settings.track_activities", "track_activities"),
        ("settings.track_counts", "track_counts"),
    ]
    .map(|(id, object)| defect(id, object))
    .into();
    if major >= 14 {
        want.insert(defect("settings.compute_query_id", "compute_query_id"));
    }
    assert_eq!(seen, want);
    assert_eq!((codes.first(), codes.last(), restarts), (Some(&2), Some(&0), 1), "{codes:?}");

    // Stage by stage, each collector once, with what it costs.
    let stages: Vec<&str> = each(&last, "stages").map(|s| s["stage"].as_str().unwrap()).collect();
    let names = [
        "name",
        "route",
        "tls",
        "login",
        "role",
        "settings",
        "extensions",
        "databases",
        "collectors",
    ];
    assert_eq!(stages, names);
    assert!(each(&last, "stages").all(|s| s["state"] == "passed"), "{last:#}");
    let entered: BTreeSet<&str> =
        each(&last, "databases").map(|d| d["database"].as_str().unwrap()).collect();
    assert_eq!(entered, BTreeSet::from(["postgres", "shop", &odd]));
    for name in ["statements", "connections", "tables", "partitions"] {
        let mut all = each(&last, "collectors").filter(|c| c["collector"] == name);
        let one = all.next().unwrap_or_else(|| panic!("no {name}: {last:#}"));
        assert!(one["error"].is_null() && one["seconds"].as_f64() > Some(0.0), "{one:#}");
        let hour =
            one["seconds"].as_f64().unwrap() * 3600.0 / one["interval_seconds"].as_f64().unwrap();
        assert!((one["seconds_an_hour"].as_f64().unwrap() - hour).abs() < 1e-6, "{one:#}");
    }
    let (code, text, _) = run(&["doctor"], &env).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("pgrunway doctor: nothing to do, 1 target"), "{text}");
    let (code, script, _) = run(&["doctor", "--format", "sql"], &env).await;
    assert_eq!((code, script.as_str()), (0, "-- pgrunway doctor.\n-- Nothing to do.\n"));
}

#[tokio::test]
async fn the_library_without_the_extension_is_told_from_an_extension_that_is_elsewhere() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let dsn = cluster.uri("mon", "postgres");
    let env = [("DATA_SOURCE_NAME", dsn.as_str())];
    let want = BTreeSet::from([defect("settings.pg_stat_statements", "postgres")]);
    let (code, report) = doctor(&[], &env).await;
    assert_eq!((code, defects(&report)), (1, want.clone()), "{report:#}");
    let says = evidence(&report, "settings.pg_stat_statements");
    assert_eq!(says, "The extension pg_stat_statements is not in database postgres.");
    // The collector that lacks it fails for that, and is no fault of its own.
    let statements = each(&report, "collectors").find(|c| c["collector"] == "statements").unwrap();
    assert!(statements["error"].is_string(), "{statements:#}");

    admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
    admin.batch_execute("CREATE DATABASE theirs OWNER app").await.unwrap();
    psql(&cluster, "theirs", "CREATE EXTENSION pg_stat_statements").await;
    let (code, report) = doctor(&[], &env).await;
    assert_eq!((code, defects(&report)), (1, want), "{report:#}");
    let says = evidence(&report, "settings.pg_stat_statements");
    assert!(says.contains("It is in database theirs, and not read there: its owner"), "{says}");
    psql(&cluster, "postgres", report["script"].as_str().unwrap()).await;
    let (code, report) = doctor(&[], &env).await;
    assert_eq!((code, defects(&report)), (0, BTreeSet::new()), "{report:#}");

    // One that a superuser's database has is read there, and nothing is degraded.
    admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    admin.batch_execute("CREATE DATABASE ours").await.unwrap();
    psql(&cluster, "ours", "CREATE EXTENSION pg_stat_statements").await;
    let (code, report) = doctor(&[], &env).await;
    assert_eq!((code, defects(&report)), (0, BTreeSet::new()), "{report:#}");
    let stage = each(&report, "stages").find(|s| s["stage"] == "extensions").unwrap();
    let says = stage["says"].as_str().unwrap();
    assert!(says.contains("pg_stat_statements 1.") && says.ends_with(" in ours"), "{says}");
}

#[tokio::test]
async fn network_names_and_a_pooler_by_statement_are_told_apart_and_the_others_are_well() {
    let cluster = common::server().await;
    let pooler = PgBouncer::start(
        &cluster,
        &["postgres = SERVER dbname=postgres"],
        &["pool_mode = statement"],
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgrunway.yml");
    let write = |port: u16, host: &str| {
        let text = format!(
            "targets:\n- {{name: route, dsn: 'postgresql://mon:s3cret@127.0.0.1:{port}/postgres'}}\n\
             - {{name: name, dsn: 'postgresql://mon:mon@{host}:{}/postgres'}}\n\
             - {{name: pooled, dsn: '{}'}}\n- {{name: console, dsn: '{}'}}\n- {{name: well, dsn: '{}'}}\n",
            cluster.port(),
            pooler.dsn("mon", "postgres"),
            pooler.dsn("stats", "pgbouncer"),
            cluster.uri("mon", "postgres"),
        );
        std::fs::write(&file, text.replace("s3cret", if port == 1 { "s3cret" } else { "mon" }))
            .unwrap();
    };
    write(1, "nowhere.invalid");
    let config = format!("--config.file={}", file.display());
    let (code, report) = doctor(&[&config], &[]).await;
    assert_eq!(code, 2, "{report:#}");
    let verdicts: Vec<(&str, &str, Vec<&str>)> = report["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let found =
                t["findings"].as_array().unwrap().iter().filter(|f| f["severity"] != "info");
            let ids = found.map(|f| f["id"].as_str().unwrap()).collect();
            (t["name"].as_str().unwrap(), t["verdict"].as_str().unwrap(), ids)
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("route", "unreachable", vec!["access.route"]),
            ("name", "unreachable", vec!["access.name"]),
            ("pooled", "unreachable", vec!["access.pooler"]),
            ("console", "well", vec![]),
            ("well", "well", vec![]),
        ],
        "{report:#}"
    );
    assert!(!report.to_string().contains("s3cret"));
    let script = report["script"].as_str().unwrap();
    for line in script.lines() {
        assert!(line.is_empty() || line.starts_with("--"), "nothing to run: {line}");
    }
    assert!(script.contains("-- By hand: Set pool_mode = transaction"), "{script}");
    let (code, report) = doctor(&[&config, "--target", "well", "--target", "console"], &[]).await;
    assert_eq!((code, defects(&report)), (0, BTreeSet::new()), "{report:#}");
    let (code, _, err) = run(&["doctor", &config, "--target", "wel"], &[]).await;
    assert!(code == 2 && err.contains("did you mean `well`?"), "{err}");

    // What is to be done by hand is done.
    pooler.set("pool_mode = statement", "pool_mode = transaction").await;
    write(cluster.port(), "127.0.0.1");
    let (code, report) = doctor(&[&config], &[]).await;
    assert_eq!((code, defects(&report)), (0, BTreeSet::new()), "{report:#}");
}

#[tokio::test]
async fn serve_says_each_defect_in_one_line_at_the_start() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for sql in [
        "ALTER DATABASE postgres SET track_activities = off",
        "ALTER ROLE mon SET track_counts = off",
        "REVOKE pg_monitor FROM mon",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let process = Process::serve(&cluster.uri("mon", "postgres"), &[]).await;
    let lines = |what: &str| process.log().iter().filter(|line| line.contains(what)).count();
    let wanted = ["settings.track_activities", "settings.track_counts", "GRANT pg_monitor TO mon"];
    let end = Instant::now() + Duration::from_secs(90);
    while wanted.iter().any(|what| lines(what) == 0) {
        assert!(Instant::now() < end, "{:#?}", process.log());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(wanted.map(lines), [1, 1, 1], "{:#?}", process.log());
    let log = process.log();
    let line = log.iter().find(|line| line.contains("settings.track_counts")).unwrap();
    assert!(line.contains("WARN") && line.contains("track_counts is off. "), "{line}");
}
