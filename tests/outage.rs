//! Servers that stop, freeze, fill up, throw us out or turn into others: what is said follows, never more
//! than two backends are ours, and we are back at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::collector::collector;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, Collector, Scope};
use pgrunway::config::{DatabaseFilter, Endpoint, Password, Secret};
use pgrunway::error::CollectError;
use pgrunway::metric::{Metric, Sink, Value};
use pgrunway::pg::Session;
use pgrunway::poller::{Poller, Target};
use pgrunway::snapshot::{Outcome, Snapshot};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

collector!(quick, Scope::Server, 200, "SELECT 'fine'::text");
collector!(calm, Scope::Server, 5_000, "SELECT 'fine'::text");
collector!(inside, Scope::Database, 500, "SELECT pg_catalog.current_database()::text");
collector!(
    who,
    Scope::Database,
    500,
    "SELECT (pg_catalog.current_database() || ': ' || current_user)::text"
);

fn target(cluster: &Cluster, collectors: Vec<&'static dyn AnyCollector>) -> Target {
    Target {
        connect: common::connect(cluster, "mon"),
        databases: DatabaseFilter::default(),
        settings: Arc::new(common::settings()),
        collectors: collectors.into_iter().map(Into::into).collect(),
    }
}

/// The same with short timeouts, for servers that do not answer: two seconds for a query, one elsewhere.
fn impatient(cluster: &Cluster, collectors: Vec<&'static dyn AnyCollector>) -> Target {
    let mut settings = common::hasty();
    settings.timeouts.statement = Duration::from_secs(2);
    Target { settings: Arc::new(settings), ..target(cluster, collectors) }
}

/// Waits until a snapshot satisfies `want`, and says how long that took.
async fn wait(
    poller: &Poller,
    limit: u64,
    what: &str,
    want: impl Fn(&Snapshot) -> bool,
) -> (Arc<Snapshot>, Duration) {
    let mut snapshots = poller.snapshots();
    let start = Instant::now();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if want(&snapshot) {
            return (snapshot, start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(limit), "{what}: {snapshot:#?}");
        let _ = tokio::time::timeout(Duration::from_millis(100), snapshots.changed()).await;
    }
}

fn runs(s: &Snapshot, collector: &str, answer: &str) -> f64 {
    let name = format!("pg_{collector}");
    let families = s.families.iter().filter(|f| f.metric.name == name);
    families.flat_map(|f| &f.samples).find(|s| &*s.labels[0] == answer).map_or(0.0, |s| {
        match s.value {
            Value::Number(n) => n,
            Value::Histogram(_) => f64::NAN,
        }
    })
}

fn outcome<'a>(s: &'a Snapshot, collector: &str, datname: &str) -> Option<&'a Outcome> {
    s.outcomes
        .iter()
        .find(|o| *o.collector == *collector && o.datname.as_deref().unwrap_or("") == datname)
}

/// Whether the database is up, and if not, why.
fn database<'a>(s: &'a Snapshot, datname: &str) -> Option<Result<(), &'a str>> {
    let found = s.databases.iter().find(|d| &*d.datname == datname)?;
    Some(found.trouble.as_deref().map_or(Ok(()), Err))
}

fn all_well(s: &Snapshot) -> bool {
    s.up && runs(s, "quick", "fine") > 0.0
        && s.outcomes.iter().all(|o| o.error.is_none())
        && !s.databases.is_empty()
        && s.databases.iter().all(|d| d.trouble.is_none())
}

/// Nothing that was asked of a server that is away is said to be well.
fn all_down(s: &Snapshot) -> bool {
    !s.up
        && s.trouble.as_ref().is_some_and(|t| t.over.is_none())
        && s.outcomes.iter().all(|o| o.error.is_some())
        && s.databases.iter().all(|d| d.trouble.is_some())
}

/// Something was given up: without that, to count what is left behind shows nothing.
fn hurt(s: &Snapshot) -> bool {
    s.tried && (!s.up || s.databases.iter().any(|d| d.trouble.is_some()))
}

/// Pid and title of each process of the server, as the kernel has them.
fn processes(cluster: &Cluster) -> Vec<(i32, String)> {
    let postmaster = cluster.pid().unwrap().to_string();
    let out = std::process::Command::new("ps")
        .args(["--ppid", &postmaster, "-o", "pid=,args="])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| {
            let (pid, title) = line.trim().split_once(' ')?;
            Some((pid.parse().ok()?, title.to_owned()))
        })
        .collect()
}

/// Backends of the role, those that are still starting among them.
fn backends(cluster: &Cluster) -> usize {
    processes(cluster).iter().filter(|(_, title)| title.contains("postgres: mon ")).count()
}

/// The greatest number of backends within a time.
async fn most_backends(cluster: &Cluster, time: Duration) -> usize {
    let (mut most, end) = (0, Instant::now() + time);
    while Instant::now() < end {
        most = most.max(backends(cluster));
        sleep(Duration::from_millis(50)).await;
    }
    most
}

fn logged(cluster: &Cluster, what: &str) -> usize {
    std::fs::read_to_string(cluster.log_path()).unwrap().matches(what).count()
}

#[tokio::test]
async fn logins_that_hang_behind_a_lock_on_a_catalog_are_two_backends_at_most() {
    let cluster = common::server().await;
    let mut locker = common::admin(&cluster, "postgres").await;
    for catalog in ["pg_authid", "pg_database", "pg_class"] {
        let lock = locker.transaction().await.unwrap();
        let statement = format!("LOCK TABLE pg_catalog.{catalog} IN ACCESS EXCLUSIVE MODE");
        lock.batch_execute(&statement).await.unwrap();
        // A start-up is given up after two seconds here: there would be one after another.
        let poller = Poller::start(impatient(&cluster, vec![&quick, &inside]));
        let most = most_backends(&cluster, Duration::from_secs(9)).await;
        assert!((1..=2).contains(&most), "{catalog}: {most} backends");
        let (down, _) = wait(&poller, 10, catalog, all_down).await;
        assert!(
            matches!(down.trouble.as_ref().unwrap().kind, "timeout" | "held" | "deadline"),
            "{down:#?}"
        );
        lock.commit().await.unwrap();
        let (_, took) = wait(&poller, 20, catalog, all_well).await;
        println!("{catalog}: {most} backends at most, well {took:?} after the lock was released");
        let after = most_backends(&cluster, Duration::from_secs(1)).await;
        assert!(after <= 2, "{after}");
        poller.stop().await;
    }
}

/// PgBouncer logs in for its clients, one login at a time; that it is not asked again and again is ours.
#[tokio::test]
async fn behind_a_pooler_logins_that_hang_are_two_backends_at_most() {
    let cluster = common::server().await;
    let lines = ["postgres = SERVER dbname=postgres"];
    let pooler = common::pgbouncer::PgBouncer::start(&cluster, &lines, &[]).await;
    let mut target = impatient(&cluster, vec![&quick, &inside]);
    target.connect.endpoints =
        vec![Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: pooler.port() }];
    target.connect.password = Password::Literal(Secret::new("mon"));
    let mut locker = common::admin(&cluster, "postgres").await;
    for (catalog, running) in [("pg_authid", false), ("pg_class", true)] {
        let poller = running.then(|| Poller::start(target.clone()));
        if let Some(poller) = &poller {
            wait(poller, 20, "up", all_well).await;
        }
        let lock = locker.transaction().await.unwrap();
        let statement = format!("LOCK TABLE pg_catalog.{catalog} IN ACCESS EXCLUSIVE MODE");
        lock.batch_execute(&statement).await.unwrap();
        let poller = poller.unwrap_or_else(|| Poller::start(target.clone()));
        let most = most_backends(&cluster, Duration::from_secs(12)).await;
        if !running {
            // One that runs already goes on with the pooler's connections.
            wait(&poller, 10, "nothing was given up", hurt).await;
        }
        lock.commit().await.unwrap();
        println!("behind a pooler, {catalog}: {most} backends at most");
        assert!((1..=2).contains(&most), "{catalog}: {most} backends");
        wait(&poller, 60, catalog, all_well).await;
        poller.stop().await;
    }
}

#[tokio::test]
async fn a_lock_on_a_catalog_while_we_poll_leaves_two_backends_at_most() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let mut locker = common::admin(&cluster, "postgres").await;
    let poller = Poller::start(impatient(&cluster, vec![&quick, &inside]));
    wait(&poller, 20, "up", |s| all_well(s) && runs(s, "inside", "shop") > 1.0).await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let most = most_backends(&cluster, Duration::from_secs(12)).await;
    assert!(most <= 2, "{most} backends");
    wait(&poller, 10, "nothing was given up", hurt).await;
    lock.commit().await.unwrap();
    wait(&poller, 20, "well again", all_well).await;
}

#[tokio::test]
async fn a_server_that_ends_idle_sessions_is_up_all_the_time() {
    // The setting came with 14; before that nobody ends idle sessions.
    let cluster = common::server_with(&[("log_connections", "on")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let idle =
        "SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
    if !admin.query(idle, &[]).await.unwrap().is_empty() {
        admin.batch_execute("ALTER ROLE mon SET idle_session_timeout = '1s'").await.unwrap();
    }
    let poller = Poller::start(target(&cluster, vec![&calm, &inside]));
    wait(&poller, 20, "up", |s| s.up && database(s, "postgres") == Some(Ok(()))).await;
    let before = logged(&cluster, "connection authorized: user=mon");
    let mut snapshots = poller.snapshots();
    let end = Instant::now() + Duration::from_secs(13);
    while Instant::now() < end {
        let snapshot = snapshots.borrow_and_update().clone();
        assert!(snapshot.up && snapshot.trouble.is_none(), "{snapshot:#?}");
        assert!(snapshot.outcomes.iter().all(|o| o.errors.is_empty()), "{snapshot:#?}");
        assert_eq!(database(&snapshot, "postgres"), Some(Ok(())), "{snapshot:#?}");
        let _ = tokio::time::timeout(Duration::from_millis(50), snapshots.changed()).await;
    }
    let last = poller.snapshots().borrow().clone();
    assert!(runs(&last, "calm", "fine") >= 3.0, "{last:#?}");
    // One for each look every five seconds; the second connection is never idle for a second.
    let connects = logged(&cluster, "connection authorized: user=mon") - before;
    assert!(connects <= 4, "{connects} connections in 13 s");
}

#[tokio::test]
async fn sessions_that_are_terminated_are_no_outage() {
    let cluster = common::server_with(&[("log_connections", "on")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let poller = Poller::start(target(&cluster, vec![&calm, &inside]));
    wait(&poller, 20, "up", |s| s.up && database(s, "postgres") == Some(Ok(()))).await;
    let mut snapshots = poller.snapshots();
    let before = logged(&cluster, "connection authorized: user=mon");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        admin
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mon'",
            )
            .await
            .unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(300), snapshots.changed()).await;
        let snapshot = snapshots.borrow_and_update().clone();
        assert!(snapshot.up && snapshot.trouble.is_none(), "{snapshot:#?}");
    }
    // Once a second each, however often they are ended.
    let connects = logged(&cluster, "connection authorized: user=mon") - before;
    assert!(connects <= 24, "{connects} connections in 6 s");
    // One that was cut off without a word is left alone for fifteen seconds.
    wait(&poller, 60, "still at work", |s| all_but_errors(s, "calm")).await;
}

fn all_but_errors(s: &Snapshot, collector: &str) -> bool {
    s.up && outcome(s, collector, "").is_some_and(|o| o.error.is_none())
        && database(s, "postgres") == Some(Ok(()))
}

#[tokio::test]
async fn everything_follows_a_server_that_stops_or_freezes() {
    let mut cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let poller = Poller::start(impatient(&cluster, vec![&quick, &inside]));
    let both = |s: &Snapshot| all_well(s) && runs(s, "inside", "shop") > 0.0;
    wait(&poller, 20, "up", both).await;

    let frozen: Vec<Pid> = std::iter::once(cluster.pid().unwrap())
        .chain(processes(&cluster).into_iter().map(|(pid, _)| pid))
        .map(Pid::from_raw)
        .collect();
    let signal = |signal| frozen.iter().for_each(|pid| assert_eq!(kill(*pid, signal), Ok(())));
    signal(Signal::SIGSTOP);
    let (down, took) = wait(&poller, 20, "frozen", all_down).await;
    println!("frozen: all down after {took:?}: {:?}", down.trouble);
    let why = down.trouble.as_ref().unwrap();
    assert!(why.kind == "deadline" && why.message.contains("no answer within"), "{why:?}");
    sleep(Duration::from_secs(3)).await;
    signal(Signal::SIGCONT);
    let (_, took) = wait(&poller, 20, "thawed", both).await;
    println!("thawed: all well after {took:?}");
    assert!(most_backends(&cluster, Duration::from_secs(1)).await <= 2);

    cluster.stop().await.unwrap();
    let (down, took) = wait(&poller, 5, "stopped", all_down).await;
    println!("stopped: all down after {took:?}: {:?}", down.trouble);
    let gone = |s: &Snapshot| s.trouble.as_ref().is_some_and(|t| t.kind == "unreachable");
    wait(&poller, 5, "its socket is gone", gone).await;
    cluster.restart().await.unwrap();
    wait(&poller, 20, "started", both).await;
}

#[tokio::test]
async fn everything_follows_a_server_whose_lock_table_is_full() {
    let settings = [("max_locks_per_transaction", "10"), ("max_connections", "10")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&quick, &inside]));
    wait(&poller, 20, "up", |s| all_well(s) && runs(s, "inside", "shop") > 0.0).await;
    // Locks of a session outlive the statement that fails to get one more.
    let full = admin.batch_execute("SELECT pg_advisory_lock(i) FROM generate_series(1, 100000) i");
    assert_eq!(full.await.unwrap_err().code().unwrap().code(), "53200");
    let (down, took) = wait(&poller, 10, "no database can be entered", |s| {
        ["postgres", "shop"].iter().all(|d| {
            matches!(database(s, d), Some(Err(_)))
                && outcome(s, "inside", d).is_some_and(|o| o.error.is_some())
        })
    })
    .await;
    println!("lock table full: databases down after {took:?}: {:?}", down.databases);
    admin.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    wait(&poller, 15, "well again", all_well).await;
}

#[tokio::test]
async fn databases_follow_a_server_that_is_out_of_connection_slots() {
    let settings = [("max_connections", "7"), ("superuser_reserved_connections", "3")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&quick, &inside]));
    wait(&poller, 20, "up", |s| all_well(s) && runs(s, "inside", "shop") > 0.0).await;
    // Between two databases the second connection is closed: its slot is taken by others.
    let mut greedy = Vec::new();
    let mut config = tokio_postgres::Config::new();
    config.host_path(cluster.socket_dir()).port(cluster.port()).user("app").dbname("postgres");
    let start = Instant::now();
    loop {
        if let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await {
            tokio::spawn(connection);
            greedy.push(client);
        }
        let snapshot = poller.snapshots().borrow().clone();
        let crowded =
            |d| database(&snapshot, d).is_some_and(|d| d.is_err_and(|e| e.contains("53300")));
        if crowded("postgres") && crowded("shop") {
            assert!(snapshot.up, "the kept connection stays: {snapshot:#?}");
            assert!(outcome(&snapshot, "inside", "shop").unwrap().error.is_some());
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{snapshot:#?}");
        sleep(Duration::from_millis(20)).await;
    }
    drop(greedy);
    let (_, took) = wait(&poller, 15, "well again", all_well).await;
    println!("slots free: databases up after {took:?}");
}

#[tokio::test]
async fn a_role_that_a_database_imposes_is_put_off_and_one_of_the_role_itself_is_kept() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for sql in [
        "CREATE DATABASE trap",
        "CREATE DATABASE pair",
        "CREATE ROLE nobody_much",
        "GRANT nobody_much TO mon",
        "ALTER DATABASE trap SET role = nobody_much",
        "ALTER ROLE mon IN DATABASE pair SET role = nobody_much",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let poller = Poller::start(target(&cluster, vec![&quick, &who]));
    let (snapshot, _) = wait(&poller, 20, "as mon everywhere", |s| {
        ["postgres: mon", "trap: mon", "pair: mon"].iter().all(|a| runs(s, "who", a) > 1.0)
    })
    .await;
    assert!(snapshot.role.as_ref().unwrap().reads_all_stats);
    poller.stop().await;
    // What whoever set up the role wants everywhere is no trap.
    admin.batch_execute("CREATE ROLE reader IN ROLE pg_monitor").await.unwrap();
    admin.batch_execute("GRANT reader TO mon; ALTER ROLE mon SET role = reader").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&quick, &who]));
    wait(&poller, 20, "as the chosen role", |s| runs(s, "who", "postgres: reader") > 0.0).await;
}

#[tokio::test]
async fn a_role_without_pg_monitor_shows_and_a_grant_is_seen_without_a_reconnect() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("REVOKE pg_monitor FROM mon").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&quick]));
    let sees = |s: &Snapshot| s.role.as_ref().map(|r| r.reads_all_stats);
    wait(&poller, 20, "it sees little", |s| sees(s) == Some(false)).await;
    let own = "SELECT min(pid) FROM pg_stat_activity WHERE usename = 'mon'";
    let pid: i32 = admin.query_one(own, &[]).await.unwrap().get(0);
    admin.batch_execute("GRANT pg_monitor TO mon").await.unwrap();
    let (snapshot, _) = wait(&poller, 10, "it sees all", |s| sees(s) == Some(true)).await;
    assert!(outcome(&snapshot, "quick", "").unwrap().errors.is_empty(), "{snapshot:#?}");
    assert_eq!(admin.query_one(own, &[]).await.unwrap().get::<_, i32>(0), pid);
}

#[tokio::test]
async fn a_role_that_sees_little_is_told_of_once_on_the_page_and_in_a_metric() {
    use common::http::{get, value};
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("REVOKE pg_monitor FROM mon").await.unwrap();
    let idle = common::admin(&cluster, "postgres").await;
    idle.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let fast = ["--collector.connections.interval=1s", "--collector.settings.interval=1s"];
    let process = common::process::Process::serve(&cluster.uri("mon", "postgres"), &fast).await;
    let sees = |text: &str| value(text, "pgrunway_role_reads_all_stats", &[]);
    let age = |text: &str| {
        value(text, "pg_oldest_idle_in_transaction_seconds", &[("datname", "postgres")])
    };
    let polled = |text: &str| value(text, "pg_connections_used", &[]).is_some();
    let text = process.wait("polled blindly", |t| sees(t) == Some(0.0) && polled(t)).await;
    assert_eq!(age(&text), None);
    let page = get(process.address, "/").await.text();
    // The rule says the same once it was asked.
    let says = ["The role sees its own sessions only", "It is not a member of pg_monitor."];
    assert!(says.iter().any(|said| page.contains(said)), "{page}");
    // Reconnects change nothing of it.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mon'";
    for _ in 0..3 {
        admin.batch_execute(end).await.unwrap();
        sleep(Duration::from_millis(1_500)).await;
    }
    let told = |what: &str| process.log().iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("GRANT pg_monitor TO mon"), 1, "{:#?}", process.log());
    admin.batch_execute("GRANT pg_monitor TO mon").await.unwrap();
    process.wait("it sees", |t| sees(t) == Some(1.0) && age(t).is_some()).await;
    assert_eq!(told("sees all sessions now"), 1, "{:#?}", process.log());
}

#[tokio::test]
async fn a_database_that_may_not_be_entered_says_what_to_grant() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE \"Bill\"\"ing\"").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&quick, &inside]));
    wait(&poller, 20, "entered", |s| runs(s, "inside", "Bill\"ing") > 0.0).await;
    admin.batch_execute("REVOKE CONNECT ON DATABASE \"Bill\"\"ing\" FROM PUBLIC").await.unwrap();
    let (snapshot, _) =
        wait(&poller, 10, "refused", |s| matches!(database(s, "Bill\"ing"), Some(Err(_)))).await;
    let why = database(&snapshot, "Bill\"ing").unwrap().unwrap_err().to_owned();
    let grant = "GRANT CONNECT ON DATABASE \"Bill\"\"ing\" TO mon";
    assert!(why.contains(grant), "{why}");
    assert_eq!(outcome(&snapshot, "inside", "Bill\"ing").unwrap().error.as_deref(), Some(&*why));
    admin.batch_execute(grant).await.unwrap();
    wait(&poller, 10, "entered again", all_well).await;
    admin.batch_execute("DROP DATABASE \"Bill\"\"ing\" WITH (FORCE)").await.unwrap();
    wait(&poller, 10, "forgotten", |s| {
        database(s, "Bill\"ing").is_none() && outcome(s, "inside", "Bill\"ing").is_none()
    })
    .await;
}

#[tokio::test]
async fn why_a_server_is_down_tells_a_wrong_password_from_a_wrong_port() {
    let cluster = common::server().await;
    let tcp = |host: &str, port| {
        let mut target = target(&cluster, vec![&quick]);
        target.connect.endpoints = vec![Endpoint::Tcp { host: host.to_owned(), port }];
        target.connect.password = Password::Literal(Secret::new("hunter2"));
        target
    };
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (target, kind, said) in [
        (tcp("127.0.0.1", cluster.port()), "refused", "28P01"),
        (tcp("127.0.0.1", nobody), "unreachable", "refused"),
        (tcp("no-such-host.invalid", cluster.port()), "unreachable", "no-such-host.invalid"),
    ] {
        let poller = Poller::start(target);
        let (down, _) = wait(&poller, 20, kind, |s| s.trouble.is_some()).await;
        let trouble = down.trouble.as_ref().unwrap();
        assert_eq!(trouble.kind, kind, "{trouble:?}");
        assert!(trouble.message.contains(said), "{trouble:?}");
        assert!(!trouble.message.contains("hunter2") && trouble.since <= trouble.last);
        poller.stop().await;
    }
}

/// Answers each start-up with one error and closes.
async fn refusing(sqlstate: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut length = [0; 4];
                loop {
                    stream.read_exact(&mut length).await.unwrap();
                    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
                    stream.read_exact(&mut rest).await.unwrap();
                    if rest != 80_877_103u32.to_be_bytes() {
                        break;
                    }
                    stream.write_all(b"N").await.unwrap();
                }
                let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mnot now\0\0");
                let length = u32::try_from(fields.len() + 4).unwrap();
                let message = [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat();
                stream.write_all(&message).await.unwrap();
            });
        }
    });
    port
}

#[tokio::test]
async fn a_later_host_is_tried_while_the_first_is_starting_up_and_not_after_a_refused_login() {
    let cluster = common::server().await;
    let at = |port| Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
    for (sqlstate, up) in [("57P03", true), ("57P01", true), ("28P01", false)] {
        let mut target = target(&cluster, vec![&quick]);
        target.connect.endpoints = vec![at(refusing(sqlstate).await), at(cluster.port())];
        target.connect.password = Password::Literal(Secret::new("mon"));
        let poller = Poller::start(target);
        let (snapshot, _) = wait(&poller, 10, sqlstate, |s| s.tried).await;
        assert_eq!(snapshot.up, up, "{sqlstate}: {snapshot:#?}");
        poller.stop().await;
    }
}

/// Twenty outages: from the moment at which the server accepts connections to the first good poll.
#[tokio::test]
async fn after_an_outage_the_first_good_poll_follows_within_two_seconds() {
    let mut cluster = common::server().await;
    let poller = Poller::start(target(&cluster, vec![&quick, &inside]));
    let inside_runs = |s: &Snapshot| runs(s, "inside", "postgres");
    wait(&poller, 20, "up", |s| all_well(s) && inside_runs(s) > 0.0).await;
    let mut times = Vec::new();
    for outage in 0..20 {
        cluster.stop().await.unwrap();
        wait(&poller, 10, "down", all_down).await;
        // At another moment between two attempts each time.
        sleep(Duration::from_millis(300 + 97 * (outage % 10))).await;
        let before = poller.snapshots().borrow().clone();
        cluster.restart().await.unwrap();
        let (kept, walked) = (runs(&before, "quick", "fine"), inside_runs(&before));
        let (_, took) = wait(&poller, 20, "back", |s| {
            all_well(s) && runs(s, "quick", "fine") > kept && inside_runs(s) > walked
        })
        .await;
        times.push(took);
    }
    times.sort();
    println!("seconds until both workers polled again: {times:.2?}");
    let limit = Duration::from_secs(2);
    assert!(times[times.len() / 2] <= limit, "{times:?}");
    // A busy machine may hold up one or the other, and snapshots come every half second.
    assert!(times[18] <= limit * 2 && times[19] <= limit * 3, "{times:?}");
}

/// Whether [`cut`] ends its session after the answer.
static CUTS: AtomicBool = AtomicBool::new(false);

/// Its answer is complete, and then its session ends, as when a server is stopped at that moment.
#[allow(non_camel_case_types, reason = "its name is its label")]
struct cut;

impl Collector for cut {
    type Rows = ();
    type State = f64;
    const NAME: &'static str = "cut";
    const HELP: &'static str = "A collector of the test.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_millis(200);
    const METRICS: &'static [&'static Metric] = {
        static RUNS: Metric = Metric::gauge("pg_cut", &["answer"], "Runs.");
        &[&RUNS]
    };

    async fn fetch(&self, session: &Session, _: &f64) -> Result<(), CollectError> {
        let pid = session.read("SELECT pg_catalog.pg_backend_pid() AS pid").await?[0]
            .get::<i32>("pid")?;
        if CUTS.swap(false, Ordering::Relaxed) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
            tokio::time::timeout(Duration::from_secs(10), session.over()).await.unwrap();
        }
        Ok(())
    }

    fn derive(&self, state: &mut f64, (): (), sink: &mut Sink) {
        *state += 1.0;
        sink.number(Self::METRICS[0], &["fine"], *state);
    }
}

#[tokio::test]
async fn a_session_that_ends_with_the_server_after_an_answer_is_not_held_against_its_collector() {
    let mut cluster = common::server().await;
    let poller = Poller::start(target(&cluster, vec![&cut]));
    wait(&poller, 20, "polled", |s| s.up && runs(s, "cut", "fine") > 2.0).await;
    CUTS.store(true, Ordering::Relaxed);
    while CUTS.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(5)).await;
    }
    cluster.stop().await.unwrap();
    let (down, _) = wait(&poller, 10, "down", |s| !s.up).await;
    let before = runs(&down, "cut", "fine");
    cluster.restart().await.unwrap();
    // Held against it, it would be left alone for fifteen seconds.
    wait(&poller, 10, "back", |s| s.up && runs(s, "cut", "fine") > before + 1.0).await;
}
