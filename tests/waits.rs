//! Where sessions spend their time and who holds up whom, on a real server: sessions that wait for what is known and
//! for times that are known, and what is exported of them.
//!
//! Must not: hold a share to less than the error of sampling, or time anything but by what was measured.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Handle;
use pgrunway::collectors::by_name;
use pgrunway::config::{CollectorSetting, DatabaseFilter, Settings};
use pgrunway::metric::Value;
use pgrunway::poller::{Poller, Target};
use pgrunway::snapshot::Snapshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

fn poller(cluster: &Cluster, name: &'static str, mut settings: Settings, interval: u64) -> Poller {
    let interval = Some(Duration::from_millis(interval));
    settings.collectors.insert(name.to_owned(), CollectorSetting { enabled: true, interval });
    Poller::start(Target {
        connect: common::connect(cluster, "mon"),
        databases: DatabaseFilter::default(),
        settings: Arc::new(settings),
        collectors: vec![Handle::Listed(by_name(name).unwrap())],
    })
}

/// The value of a series, by the values of its labels.
fn get(snapshot: &Snapshot, name: &str, labels: &[&str]) -> Option<f64> {
    let families = snapshot.families.iter().filter(|f| f.metric.name == name);
    let sample = families
        .flat_map(|f| &f.samples)
        .find(|s| s.labels.iter().map(|l| &**l).eq(labels.iter().copied()));
    match sample?.value {
        Value::Number(n) => Some(n),
        Value::Histogram(_) => None,
    }
}

/// The first snapshot of which something holds.
async fn wait(poller: &Poller, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = poller.snapshots();
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if holds(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < end, "{what}: {snapshot:#?}");
        let _ = tokio::time::timeout(Duration::from_secs(1), snapshots.changed()).await;
    }
}

/// Runs a statement that waits, on a connection of its own.
async fn waits(
    cluster: &Cluster,
    application: &str,
    sql: &str,
) -> (i32, JoinHandle<Result<(), tokio_postgres::Error>>) {
    let client = common::admin(cluster, "app").await;
    client.batch_execute(&format!("SET application_name = '{application}'")).await.unwrap();
    let pid = pid(&client).await;
    let sql = sql.to_owned();
    (pid, tokio::spawn(async move { client.batch_execute(&sql).await }))
}

/// Until a query says true.
async fn until(client: &Client, sql: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(Instant::now() < end, "never true: {sql}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

const SESSIONS: &str = "pg_active_session_seconds_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seconds_by_wait_are_what_sessions_really_waited() {
    let cluster = common::server().await;
    common::work(&cluster, "postgres", "CREATE DATABASE app").await;
    common::work(&cluster, "app", "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await;
    let admin = common::admin(&cluster, "postgres").await;

    // These wait from before the first look until after the last.
    let holder = common::admin(&cluster, "app").await;
    let hold = "SELECT pg_advisory_lock(7); BEGIN; UPDATE t SET i = 1";
    holder.batch_execute(hold).await.unwrap();
    let mut waiting = vec![waits(&cluster, "sleeper", "SELECT pg_sleep(3600)").await];
    waiting.push(waits(&cluster, "sleeper", "SELECT pg_sleep(3600)").await);
    for _ in 0..3 {
        waiting.push(waits(&cluster, "advised", "SELECT pg_advisory_lock(7)").await);
    }
    waiting.push(waits(&cluster, "updater", "UPDATE t SET i = 1").await);
    let all = "SELECT count(*) = 6 FROM pg_stat_activity WHERE datname = 'app' AND state = 'active' \
               AND wait_event_type IN ('Lock', 'Timeout')";
    until(&admin, all).await;

    let mut settings = common::settings();
    settings.activity.by_application = true;
    settings.activity.by_client = true;
    let poller = poller(&cluster, "activity", settings, 200);
    let samples = |s: &Snapshot| get(s, "pgrunway_activity_samples_total", &[]).unwrap_or_default();
    wait(&poller, "a first sample", |s| samples(s) >= 1.0).await;

    // This one is active for times that it measures, now and then, and one is busy for a while.
    let begun = Instant::now();
    let busy = waits(
        &cluster,
        "busy",
        "DO $$ BEGIN LOOP \
        EXIT WHEN clock_timestamp() > statement_timestamp() + interval '3 s'; END LOOP; END $$",
    );
    let busy = busy.await;
    let now_and_then = tokio::spawn({
        let client = common::client(&cluster, "postgres", "postgres").await;
        async move {
            let mut slept = Duration::ZERO;
            for turn in 0..14u32 {
                let start = Instant::now();
                client.batch_execute("SELECT pg_sleep(0.25)").await.unwrap();
                slept += start.elapsed();
                sleep(Duration::from_millis(u64::from(150 + 50 * (turn % 7)))).await;
            }
            (slept, Instant::now())
        }
    });
    busy.1.await.unwrap().unwrap();
    let busy = begun.elapsed();
    let (slept, ended) = now_and_then.await.unwrap();
    let taken = (ended - begun).as_secs_f64();
    let least = samples(&poller.snapshots().borrow()) + 2.0;
    let last = wait(&poller, "samples", |s| samples(s) >= least).await;

    let sampled = get(&last, "pgrunway_activity_sampled_seconds_total", &[]).unwrap();
    let n = samples(&last);
    assert!(sampled >= taken, "{sampled} of {taken}");
    let exactly = |labels: &[&str], sessions: f64, metric: &str| {
        let seconds = get(&last, metric, labels).unwrap_or_default();
        assert!(
            (seconds - sessions * sampled).abs() < 1e-6 * sampled,
            "{labels:?}: {seconds} of {sampled}"
        );
    };
    exactly(&["app", "Timeout", "PgSleep"], 2.0, SESSIONS);
    exactly(&["app", "Lock", "advisory"], 3.0, SESSIONS);
    exactly(&["app", "Lock", "transactionid"], 1.0, SESSIONS);
    exactly(&["app"], 1.0, "pg_idle_in_transaction_session_seconds_total");
    let (by_application, by_client) =
        ("pg_application_active_session_seconds_total", "pg_client_active_session_seconds_total");
    exactly(&["app", "sleeper", "Timeout"], 2.0, by_application);
    exactly(&["app", "advised", "Lock"], 3.0, by_application);
    exactly(&["app", "", "Lock"], 4.0, by_client);
    assert_eq!(get(&last, "pg_running_statements", &["app", "1"]), Some(6.0));
    assert_eq!(get(&last, "pg_running_statements_slow", &["app"]), Some(6.0));

    // Within four standard errors of a share of so many samples, and a look at each end.
    let about = |labels: &[&str], truth: f64| {
        let seconds = get(&last, SESSIONS, labels).unwrap_or_default();
        let share = truth / sampled;
        let error = 4.0 * (share * (1.0 - share) / n).sqrt() * sampled + 2.0 * sampled / n;
        assert!((seconds - truth).abs() < error, "{labels:?}: {seconds} for {truth}, {n} samples");
    };
    about(&["postgres", "Timeout", "PgSleep"], slept.as_secs_f64());
    about(&["app", "CPU", "CPU"], busy.as_secs_f64());

    let version = "SELECT current_setting('server_version_num')::int4";
    if admin.query_one(version, &[]).await.unwrap().get::<_, i32>(0) >= 140_000 {
        let of = "SELECT query_id, count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' GROUP BY 1";
        let queryid: i64 = admin.query_one(of, &[]).await.unwrap().get(0);
        let labels = ["app", "postgres", &queryid.to_string(), "Lock"];
        exactly(&labels, 3.0, "pg_statement_active_session_seconds_total");
    }
    // Once there is enough of it, the rules say what most wait for.
    let judged = wait(&poller, "evidence", |s| {
        get(s, "pg_wait_recommendation_active", &["waits.lock"]).is_some()
    });
    let judged = judged.await;
    let active = |id: &str| get(&judged, "pg_wait_recommendation_active", &[id]);
    assert_eq!((active("waits.lock"), active("waits.read")), (Some(1.0), Some(0.0)));
    assert_eq!(active("waits.cpu"), None, "host.cpus is not configured");
    let reported: Vec<_> = judged.findings.iter().flat_map(|f| f.reported.iter()).collect();
    assert_eq!(reported.len(), 1, "{reported:?}");
    let finding = &reported[0].finding;
    assert!(finding.evidence.contains("Lock:advisory (3.00), Lock:transactionid (1.00): "));
    assert!(finding.advice.starts_with("Most wait for advisory locks"), "{}", finding.advice);

    let outcome = last.outcomes.iter().find(|o| &*o.collector == "activity").unwrap();
    assert!(outcome.errors.is_empty() && outcome.refused.defects() == 0, "{outcome:?}");
    poller.stop().await;
}

/// What the console shows of it.
fn shown(snapshot: &Snapshot) -> String {
    let outcome = snapshot.outcomes.iter().find(|o| &*o.collector == "blocking").unwrap();
    assert!(outcome.errors.is_empty() && outcome.refused.defects() == 0, "{outcome:?}");
    outcome.shown.as_deref().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blockers_are_found_through_chains_queues_prepared_transactions_and_deadlocks() {
    let settings = [("max_prepared_transactions", "5"), ("deadlock_timeout", "600s")];
    let cluster = common::server_with(&settings, &[]).await;
    common::work(&cluster, "postgres", "CREATE DATABASE app").await;
    let tables = "CREATE TABLE t (i int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0); CREATE TABLE b (i int)";
    common::work(&cluster, "app", tables).await;
    let admin = common::admin(&cluster, "postgres").await;

    // One session holds a row; the first behind it holds another, the rest queue for either.
    let root = common::admin(&cluster, "app").await;
    let hold = "SET application_name = 'ro\"ot'; BEGIN; UPDATE t SET n = 1 WHERE i = 1";
    root.batch_execute(hold).await.unwrap();
    let root_pid = pid(&root).await;
    // What it ran last is another statement.
    root.batch_execute("SELECT 42 AS secret").await.unwrap();
    let chain = "BEGIN; UPDATE t SET n = 2 WHERE i = 2; UPDATE t SET n = 2 WHERE i = 1; COMMIT";
    let mut waiting = vec![waits(&cluster, "first", chain).await];
    let count = |n: usize| {
        format!("SELECT count(*) = {n} FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    };
    until(&admin, &count(1)).await;
    for row in [1, 1, 2] {
        let sql = format!("UPDATE t SET n = 3 WHERE i = {row}");
        waiting.push(waits(&cluster, "next", &sql).await);
    }
    let preparer = common::admin(&cluster, "app").await;
    preparer.batch_execute("BEGIN; LOCK b; PREPARE TRANSACTION 'forgot''ten'").await.unwrap();
    waiting.push(waits(&cluster, "reader", "SELECT * FROM b").await);
    // Each has one of two locks and asks for the other's.
    let mut circle = Vec::new();
    for (own, others) in [(1, 2), (2, 1)] {
        let client = common::admin(&cluster, "app").await;
        client.batch_execute(&format!("SELECT pg_advisory_lock({own})")).await.unwrap();
        circle.push((pid(&client).await, client, others));
    }
    let victim = circle[0].0;
    for (_, client, others) in circle {
        let sql = format!("SELECT pg_advisory_lock({others})");
        tokio::spawn(async move { client.batch_execute(&sql).await });
    }
    until(&admin, &count(7)).await;

    let mut settings = common::settings();
    settings.objectives.lock_wait = 0.5;
    let told = poller(&cluster, "blocking", settings.clone(), 1000);
    let overdue = |s: &Snapshot| get(s, "pg_root_blocker_overdue_sessions", &["app"]);
    let prepared = ["app", "postgres", "", "prepared", "", ""];
    let behind_prepared = |s: &Snapshot| get(s, "pg_root_blocker_sessions", &prepared);
    let all = |s: &Snapshot| overdue(s) == Some(4.0) && behind_prepared(s) == Some(1.0);
    let look = wait(&told, "all are overdue", all).await;
    assert_eq!(get(&look, "pg_root_blocker_held_up_sessions", &["app"]), Some(4.0));
    assert_eq!(get(&look, "pg_root_blocker_held_up_sessions", &["postgres"]), Some(0.0));
    assert_eq!(get(&look, "pg_root_blockers", &["app", "idle in transaction"]), Some(1.0));
    assert_eq!(get(&look, "pg_root_blockers", &["app", "prepared"]), Some(1.0));
    assert_eq!(get(&look, "pg_deadlocked_sessions", &[]), Some(2.0));
    assert_eq!(get(&look, "pg_blocking_unresolved_sessions", &[]), Some(0.0));
    assert_eq!(get(&look, "pg_blocked_sessions_objective", &[]), Some(3.0));
    let version = "SELECT current_setting('server_version_num')::int4";
    let queryid = match admin.query_one(version, &[]).await.unwrap().get::<_, i32>(0) {
        ..140_000 => String::new(),
        _ => {
            let of = "SELECT query_id::text FROM pg_stat_activity WHERE pid = $1";
            admin.query_one(of, &[&root_pid]).await.unwrap().get(0)
        }
    };
    let labels =
        ["app", "postgres", "ro\"ot", "idle in transaction", &queryid, &root_pid.to_string()];
    assert_eq!(get(&look, "pg_root_blocker_sessions", &labels), Some(4.0));
    let text = shown(&look);
    let lines: Vec<&str> = text.lines().collect();
    let begins =
        |line: usize, with: &str| assert!(lines[line].starts_with(with), "{with}:\n{text}");
    begins(0, &format!("pid {root_pid} (postgres in app, idle in transaction for "));
    assert!(lines[0].contains(" blocks 4 sessions, the first of them for "), "{text}");
    begins(1, &format!("    pid {} (postgres in app, active for ", waiting[0].0));
    assert!(lines[1].contains(" s for transactionid ShareLock"), "{text}");
    for line in 2..5 {
        begins(line, "        pid ");
    }
    begins(5, "Prepared transaction \"forgot'ten\" (postgres in app since ");
    begins(6, &format!("    pid {} (postgres in app, active for ", waiting[4].0));
    begins(7, "A deadlock, or behind one: pid ");
    assert_eq!(lines.len(), 8, "{text}");
    assert!(
        !text.contains("secret") && !text.contains("UPDATE"),
        "texts are shown where asked: {text}"
    );

    settings.statements.include_text = true;
    let texts = poller(&cluster, "blocking", settings, 1000);
    let look =
        wait(&texts, "the texts", |s| !s.outcomes.is_empty() && shown(s).contains("secret")).await;
    assert!(shown(&look).lines().next().unwrap().ends_with(": SELECT ? AS secret"));
    texts.stop().await;

    // All of it ends, and so does what is said of it.
    root.batch_execute("COMMIT").await.unwrap();
    preparer.batch_execute("ROLLBACK PREPARED 'forgot''ten'").await.unwrap();
    admin.execute("SELECT pg_terminate_backend($1)", &[&victim]).await.unwrap();
    let over =
        wait(&told, "nobody waits", |s| overdue(s) == Some(0.0) && shown(s).is_empty()).await;
    assert_eq!(get(&over, "pg_deadlocked_sessions", &[]), Some(0.0));
    let left = over.families.iter().filter(|f| f.metric.name == "pg_root_blocker_sessions");
    assert_eq!(left.flat_map(|f| &f.samples).count(), 0);
    for (_, waiter) in waiting {
        waiter.await.unwrap().unwrap();
    }
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_at_the_root_is_named_and_hostile_names_come_out_whole() {
    // Its vacuum takes a second for ten pages, and is not cancelled for whoever waits for it.
    let settings = [
        ("deadlock_timeout", "600s"),
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_threshold", "1"),
        ("autovacuum_vacuum_cost_delay", "100ms"),
        ("autovacuum_vacuum_cost_limit", "1"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    // A newline in the name of either is refused from 19 on.
    let (dbname, role) = ("d'b\"<i>\u{2028}", "we\"ird<b>\t\u{1b}");
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for sql in [
        "CREATE DATABASE app".to_owned(),
        format!("CREATE DATABASE {}", quoted(dbname)),
        format!("CREATE ROLE {} LOGIN", quoted(role)),
    ] {
        admin.batch_execute(&sql).await.unwrap();
    }
    let table = "CREATE TABLE t (i int, filler text); \
                 INSERT INTO t SELECT n, repeat('x', 700) FROM generate_series(1, 20000) n; \
                 UPDATE t SET i = i + 1";
    common::work(&cluster, "app", table).await;

    let root = common::client(&cluster, role, dbname).await;
    let application = "<script>alert(\"1\")</script>\\";
    root.execute("SELECT set_config('application_name', $1, false)", &[&application])
        .await
        .unwrap();
    root.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let root_pid = pid(&root).await;
    let waiter = common::client(&cluster, role, dbname).await;
    let waiter =
        tokio::spawn(async move { waiter.batch_execute("SELECT pg_advisory_lock(1)").await });

    let vacuum = "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) \
                  WHERE backend_type = 'autovacuum worker' AND pg_locks.mode = 'ShareUpdateExclusiveLock' \
                  AND relation > 16383 AND granted AND datname = 'app' LIMIT 1";
    until(&admin, &format!("SELECT EXISTS ({vacuum})")).await;
    let worker: i32 = admin.query_one(vacuum, &[]).await.unwrap().get(0);
    let (_, locker) = waits(&cluster, "ddl", "BEGIN; LOCK TABLE t; COMMIT").await;

    let mut settings = common::settings();
    settings.objectives.lock_wait = 0.0;
    let poller = poller(&cluster, "blocking", settings, 1000);
    let labels = ["app", "", "", "autovacuum worker", "", &worker.to_string()];
    let version = "SELECT current_setting('server_version_num')::int4";
    let queryid = match admin.query_one(version, &[]).await.unwrap().get::<_, i32>(0) {
        ..140_000 => String::new(),
        _ => {
            let of = "SELECT query_id::text FROM pg_stat_activity WHERE pid = $1";
            admin.query_one(of, &[&root_pid]).await.unwrap().get(0)
        }
    };
    let hostile = [dbname, role, application, "idle", &queryid, &root_pid.to_string()];
    let worst = |s: &Snapshot, labels: &[&str]| get(s, "pg_root_blocker_sessions", labels);
    let both = |s: &Snapshot| {
        worst(s, &labels) == Some(1.0) && worst(s, &hostile).is_some_and(|n| n == 1.0)
    };
    let look = wait(&poller, "both roots", both).await;
    let text = shown(&look);
    assert!(text.contains(&format!("pid {worker} (in app, autovacuum worker for ")), "{text}");
    assert!(
        text.contains(&format!("pid {root_pid} (we\"ird<b>   in d'b\"<i> , idle for ")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(get(&look, "pg_root_blockers", &["app", "autovacuum worker"]), Some(1.0));

    admin.execute("SELECT pg_terminate_backend($1)", &[&worker]).await.unwrap();
    locker.await.unwrap().unwrap();
    drop(root);
    waiter.await.unwrap().unwrap();
    poller.stop().await;
}
