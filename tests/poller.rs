//! The poller on a real server, with collectors of the test's own that fail in every way there is:
//! what is not concerned goes on, and two connections are the limit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::collector::collector;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, Scope};
use pgrunway::config::{CollectorSetting, DatabaseFilter, Settings};
use pgrunway::metric::Value;
use pgrunway::poller::{Poller, Target};
use pgrunway::snapshot::{Database, Outcome, Snapshot};
use tokio::time::{Instant, sleep};

collector!(good, Scope::Server, 200, "SELECT 'fine'::text");
collector!(slow, Scope::Server, 200, "SELECT pg_catalog.pg_sleep(60)::text");
collector!(faulty, Scope::Server, 200, "SELECT 'x'::text", |runs| assert!(
    runs < 3.0,
    "on purpose"
));
// What has arguments is not asked for by itself, to be left out.
collector!(denied, Scope::Database, 200, "SELECT pg_catalog.pg_read_file('PG_VERSION')::text");
collector!(inside, Scope::Database, 200, "SELECT pg_catalog.current_database()::text");
collector!(
    killed,
    Scope::Database,
    200,
    "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())::text"
);

collector!(
    fatal,
    Scope::Server,
    200,
    "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())::text"
);
collector!(stuck, Scope::Server, 200, "SELECT 'stuck'::text FROM pg_catalog.pg_sleep(60)");

/// A query that takes too long is given up soon; a connection has the time that it needs.
fn settings() -> Settings {
    let mut settings = common::settings();
    settings.timeouts.statement = common::hasty().timeouts.statement;
    settings
}

fn target(cluster: &Cluster, collectors: Vec<&'static dyn AnyCollector>) -> Target {
    Target {
        connect: common::connect(cluster, "mon"),
        databases: DatabaseFilter::default(),
        settings: Arc::new(settings()),
        collectors: collectors.into_iter().map(Into::into).collect(),
    }
}

/// Waits until a snapshot satisfies `want`; its last state is in the message if none does.
async fn wait(poller: &Poller, what: &str, want: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let snapshots = poller.snapshots();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let snapshot = snapshots.borrow().clone();
        if want(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < end, "{what}: {snapshot:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn outcome<'a>(s: &'a Snapshot, collector: &str, datname: &str) -> Option<&'a Outcome> {
    s.outcomes
        .iter()
        .find(|o| *o.collector == *collector && o.datname.as_deref().unwrap_or("") == datname)
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

#[tokio::test]
async fn what_fails_fails_alone() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let all: Vec<&'static dyn AnyCollector> =
        vec![&good, &slow, &faulty, &denied, &killed, &inside];
    let poller = Poller::start(target(&cluster, all));
    let snapshot = wait(&poller, "all have run", |s| {
        runs(s, "good", "fine") >= 4.0
            && runs(s, "inside", "shop") >= 2.0
            && outcome(s, "faulty", "").is_some_and(|o| o.errors.contains_key("defect"))
            && outcome(s, "slow", "").is_some_and(|o| o.errors.contains_key("server_timeout"))
    })
    .await;
    assert!(snapshot.up);
    assert!(outcome(&snapshot, "good", "").unwrap().errors.is_empty());
    // After the panic it starts afresh, from a new state.
    wait(&poller, "faulty starts afresh", |s| runs(s, "faulty", "x") == 1.0).await;
    for datname in ["postgres", "shop"] {
        let refused = outcome(&snapshot, "denied", datname).unwrap();
        assert_eq!(refused.errors.keys().copied().collect::<Vec<_>>(), ["permission"]);
        assert_eq!(refused.last_success, None);
    }
    // The slow one holds the kept connection for its timeout: the ticks it cost are counted.
    assert!(outcome(&snapshot, "good", "").unwrap().skipped > 0);
}

#[tokio::test]
async fn at_most_two_connections_whatever_the_number_of_databases() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    for i in 0..5 {
        admin.batch_execute(&format!("CREATE DATABASE d{i}")).await.unwrap();
    }
    let poller = Poller::start(target(&cluster, vec![&good, &inside]));
    let mut most = 0;
    for _ in 0..100 {
        let row = admin
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrunway'",
                &[],
            )
            .await
            .unwrap();
        most = most.max(row.get::<_, i64>(0));
        sleep(Duration::from_millis(20)).await;
    }
    wait(&poller, "all were visited", |s| {
        (0..5).all(|i| runs(s, "inside", &format!("d{i}")) > 2.0)
    })
    .await;
    assert!((1..=2).contains(&most), "{most} connections");
}

#[tokio::test]
async fn databases_come_go_and_forbid() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let hostile = &*common::shared_name(&cluster, "we\"ird\n\\schön-ünïcödé");
    let quoted = hostile.replace('"', "\"\"");
    admin.batch_execute("CREATE DATABASE dark").await.unwrap();
    admin.batch_execute("REVOKE CONNECT ON DATABASE dark FROM PUBLIC").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&inside]));
    let up = |s: &Snapshot, d: &str| {
        s.databases.iter().find(|db| &*db.datname == d).map(|db| db.trouble.is_none())
    };
    wait(&poller, "dark is seen as forbidden", |s| up(s, "dark") == Some(false)).await;
    admin.batch_execute(&format!("CREATE DATABASE \"{quoted}\"")).await.unwrap();
    wait(&poller, "the hostile name is a label", |s| runs(s, "inside", hostile) > 0.0).await;
    admin.batch_execute(&format!("DROP DATABASE \"{quoted}\" WITH (FORCE)")).await.unwrap();
    wait(&poller, "the dropped one is forgotten", |s| {
        up(s, hostile).is_none() && runs(s, "inside", hostile) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_is_down_at_once_and_comes_back() {
    let mut cluster = common::server().await;
    let poller = Poller::start(target(&cluster, vec![&good, &inside]));
    let before = wait(&poller, "up", |s| s.up && runs(s, "good", "fine") > 1.0).await;
    assert_eq!(before.databases, [Database { datname: "postgres".into(), trouble: None }]);
    cluster.stop().await.unwrap();
    let stopped = Instant::now();
    let down = wait(&poller, "down", |s| !s.up).await;
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    assert!(runs(&down, "good", "fine") > 1.0, "what was true a moment ago is still served");
    cluster.restart().await.unwrap();
    let seen = runs(&down, "good", "fine");
    wait(&poller, "up again, its state kept", |s| s.up && runs(s, "good", "fine") > seen).await;
}

#[tokio::test]
async fn the_users_interval_wins() {
    let cluster = common::server().await;
    let mut target = target(&cluster, vec![&good, &inside]);
    let mut settings = settings();
    let hourly = CollectorSetting { enabled: true, interval: Some(Duration::from_secs(60)) };
    settings.collectors.insert("good".to_owned(), hourly);
    target.settings = Arc::new(settings);
    let poller = Poller::start(target);
    wait(&poller, "ran once", |s| runs(s, "good", "fine") == 1.0).await;
    // By its own interval it would have run as often as the other.
    let snapshot =
        wait(&poller, "the other goes on", |s| runs(s, "inside", "postgres") > 10.0).await;
    assert_eq!(runs(&snapshot, "good", "fine"), 1.0);
    assert_eq!(outcome(&snapshot, "good", "").unwrap().interval, Duration::from_secs(60));
}

#[tokio::test]
async fn a_role_with_one_connection_keeps_the_server_and_says_what_it_lacks() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("ALTER ROLE mon CONNECTION LIMIT 1").await.unwrap();
    let poller = Poller::start(target(&cluster, vec![&good, &inside]));
    let home = |s: &Snapshot| {
        s.databases.iter().find(|d| &*d.datname == "postgres").map(|d| d.trouble.is_none())
    };
    let snapshot = wait(&poller, "one of the two is refused", |s| {
        home(s) == Some(false) || runs(s, "inside", "postgres") > 0.0
    })
    .await;
    // Whichever came first has the connection.
    assert_eq!(snapshot.up, home(&snapshot) == Some(false));
    admin.batch_execute("ALTER ROLE mon CONNECTION LIMIT -1").await.unwrap();
    wait(&poller, "both run", |s| s.up && home(s) == Some(true)).await;
}

#[tokio::test]
async fn a_query_that_freezes_its_backend_does_not_freeze_one_after_another() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let poller = Poller::start(target(&cluster, vec![&stuck, &good]));
    let (mut frozen, mut most) = (Vec::new(), 0);
    let mut end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let rows = admin
            .query(
                "SELECT pid, query LIKE '%pg_sleep(60)%' AND state = 'active' FROM pg_stat_activity \
                 WHERE application_name = 'pgrunway'",
                &[],
            )
            .await
            .unwrap();
        most = most.max(rows.len());
        for pid in rows.iter().filter(|r| r.get::<_, Option<bool>>(1) == Some(true)) {
            let pid = nix::unistd::Pid::from_raw(pid.get(0));
            if !frozen.contains(&pid) {
                // Its first pause takes 15 s, and begins once its deadline has passed.
                if frozen.is_empty() {
                    end = Instant::now() + Duration::from_secs(12);
                }
                // As a hung volume does: no signal and no timeout reaches it.
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
                frozen.push(pid);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(frozen.len(), 1, "within its first pause it is not tried again");
    // The one that hangs and the kept one, which has the walker's place.
    assert!(most <= 2, "{most} connections");
    let snapshot =
        wait(&poller, "the others go on", |s| s.up && runs(s, "good", "fine") > 3.0).await;
    assert!(outcome(&snapshot, "stuck", "").unwrap().errors.contains_key("deadline"));
    for pid in frozen {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    }
}

#[tokio::test]
async fn a_collector_that_kills_its_session_is_put_off_and_the_others_go_on() {
    let cluster = common::server().await;
    let started = Instant::now();
    let poller = Poller::start(target(&cluster, vec![&fatal, &good]));
    let snapshot =
        wait(&poller, "the others go on", |s| s.up && runs(s, "good", "fine") > 30.0).await;
    let log = std::fs::read_to_string(cluster.log_path()).unwrap();
    let kills = log.matches("terminating connection due to administrator command").count();
    // Not each time that the other ran: after the first pause of 15 s again, then after one of 30 s.
    let most = if started.elapsed() < Duration::from_secs(15) { 1 } else { 3 };
    assert!((1..=most).contains(&kills), "{kills} in {:?}: {log}", started.elapsed());
    assert!(snapshot.up);
}
