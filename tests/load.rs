//! `pgrunway load` against a real PostgreSQL: what it writes, where it refuses to, how it stops, and what its
//! latencies are counted from.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::process::{command, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::{self, Cluster};
use pgrunway::cmd::demo::{self, setup};
use pgrunway::cmd::load::MARK;
use pgrunway::cmd::trading::drive::{Load, LoadPace};
use pgrunway::cmd::trading::fill::FillCounters;
use pgrunway::cmd::trading::rows::Amount;
use pgrunway::config::Connect;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

/// A run of `load` on a database of the cluster: exit code, stdout, stderr.
async fn load(cluster: &Cluster, dbname: &str, args: &str) -> (i32, String, String) {
    let dsn = cluster.uri("postgres", dbname);
    let args: Vec<&str> = std::iter::once("load").chain(args.split_whitespace()).collect();
    run(&args, &[("DATA_SOURCE_NAME", &dsn)]).await
}

async fn loaded(cluster: &Cluster, dbname: &str, args: &str) -> String {
    let (code, out, err) = load(cluster, dbname, args).await;
    assert_eq!(code, 0, "{args}: {out}{err}");
    out
}

async fn text(client: &Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// Noon of today, so that what is loaded does not depend on the hour.
async fn noon(client: &Client) -> String {
    text(client, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T12:00:00Z\"')").await
}

const CHECKSUM: &str = "
SELECT md5((SELECT string_agg(t::text, '|' ORDER BY trade_id) FROM trades t)
        || (SELECT string_agg(o::text, '|' ORDER BY order_id) FROM orders o))";

#[tokio::test]
async fn rows_and_partitions_are_those_asked_for_and_the_same_by_seed() {
    let cluster = common::server().await;
    let until = noon(&common::admin(&cluster, "postgres").await).await;
    let args = format!("--trades-per-day 2600 --history 2d --orders 150 --until {until}");
    let out = loaded(&cluster, "one", &format!("{args} --clients 1 --batch 1000")).await;
    // Two days and a half.
    let said = "loaded: 6650 of 6650 rows loaded (150 orders, 6500 trades), in ";
    assert!(out.starts_with(said), "{out}");

    let db = common::admin(&cluster, "one").await;
    db.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let days = "SELECT string_agg(n::text, ',' ORDER BY at) FROM \
                (SELECT executed_at::date AS at, count(*) AS n FROM trades GROUP BY 1) d";
    assert_eq!(text(&db, days).await, "2600,2600,1300");
    let astray = format!("SELECT count(*) FROM trades WHERE executed_at >= '{until}'");
    assert_eq!(number(&db, &astray).await, 0);
    // Each partition holds its own day, by its name too.
    let named = "SELECT count(*) FROM trades t WHERE t.tableoid::regclass::text \
                 <> to_char(executed_at, '\"trades_\"YYYY_MM_DD')";
    assert_eq!(number(&db, named).await, 0);
    let of = |table: &str| {
        format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass")
    };
    assert_eq!(number(&db, &of("trades")).await, 2 + 1 + 29);
    assert!((4..=5).contains(&number(&db, &of("orders")).await));
    assert_eq!(number(&db, "SELECT count(*) FROM pg_class WHERE relkind = 'I'").await, 19);
    let stale = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relispartition \
                 AND relname LIKE 'trades%' AND reltuples > 0";
    assert_eq!(number(&db, stale).await, 3, "not analysed");
    assert_eq!(number(&db, "SELECT count(*) FROM pg_roles WHERE rolname = 'app'").await, 0);
    let comment =
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'one'";
    assert_eq!(text(&db, comment).await, MARK);

    // Other batches and connections: the same rows. Another seed: others.
    loaded(&cluster, "two", &format!("{args} --clients 3 --batch 7000")).await;
    loaded(&cluster, "three", &format!("{args} --seed 2")).await;
    let sum = text(&db, CHECKSUM).await;
    assert_eq!(sum.len(), 32);
    let two = common::admin(&cluster, "two").await;
    two.batch_execute("SET timezone = 'UTC'").await.unwrap();
    assert_eq!(text(&two, CHECKSUM).await, sum);
    let three = common::admin(&cluster, "three").await;
    three.batch_execute("SET timezone = 'UTC'").await.unwrap();
    assert_ne!(text(&three, CHECKSUM).await, sum);

    // Into what is there already: the same rows are refused, others added.
    let (code, out, err) = load(&cluster, "one", &args).await;
    assert_eq!((code, out.starts_with("failed: 0 of 6650 rows loaded")), (1, true), "{out}{err}");
    assert!(err.contains("use another --seed"), "{err}");
    loaded(&cluster, "one", "--trades 10 --history 1d --orders 0 --seed 9").await;
    assert_eq!(number(&db, "SELECT count(*) FROM trades").await, 6_510);
    assert_eq!(number(&db, "SELECT count(*) FROM orders").await, 150);
}

/// All that a load could leave.
const TRACES: &str = "
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
     + (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'))";

#[tokio::test]
async fn a_database_that_is_not_ours_is_left_alone() {
    let cluster = common::server().await;
    let postgres = common::admin(&cluster, "postgres").await;
    let before = number(&postgres, TRACES).await;
    let refused = async |dbname: &str, args: &str, said: &str| {
        let (code, out, err) = load(&cluster, dbname, args).await;
        assert_eq!((code, out.as_str()), (1, ""), "{args}: {err}");
        assert!(err.contains(said), "{args}: {err}");
        assert!(err.to_lowercase().contains("nothing was changed"), "{args}: {err}");
    };
    let few = "--trades 10 --history 1d";
    refused("postgres", few, "database \"postgres\" was not created by `pgrunway load`").await;
    refused("postgres", "--rate 10 --for 1s", "--into=postgres writes into this one").await;
    let wrong = format!("{few} --into shop");
    refused("postgres", &wrong, "--into=shop: the connection leads to database \"postgres\"").await;
    let midnight = noon(&postgres).await.replace("T12", "T00");
    let timeless = format!("--trades 10 --history 0d --until {midnight} --into postgres");
    refused("postgres", &timeless, "leave no time for trades").await;
    assert_eq!(number(&postgres, TRACES).await, before);

    // Our names for other things, in one that is named.
    for (name, tables, said) in [
        (
            "a",
            "CREATE TABLE orders (id int)",
            "public.orders is not ours: it is not partitioned by",
        ),
        ("b", "CREATE VIEW trades AS SELECT 1", "public.orders is missing"),
        (
            "c",
            "CREATE TABLE orders (order_id uuid, created_at timestamptz) \
             PARTITION BY RANGE (created_at)",
            "public.orders is not ours: it has order_id uuid instead of order_id uuid not null",
        ),
    ] {
        postgres.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let db = common::admin(&cluster, name).await;
        db.batch_execute(tables).await.unwrap();
        let before = number(&db, TRACES).await;
        refused(name, &format!("{few} --into {name}"), said).await;
        assert_eq!(number(&db, TRACES).await, before);
    }
    // Nor by halves: a function of ours that is something else's.
    postgres.batch_execute("CREATE DATABASE d").await.unwrap();
    let db = common::admin(&cluster, "d").await;
    let other =
        "CREATE FUNCTION partition_end(oid) RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'";
    db.batch_execute(other).await.unwrap();
    let before = number(&db, TRACES).await;
    let (code, _, err) = load(&cluster, "d", &format!("{few} --into d")).await;
    assert!(code == 1 && err.contains("partition_end"), "{err}");
    assert_eq!(number(&db, TRACES).await, before);

    // Named rightly, and ours are partitions by day.
    postgres.batch_execute("CREATE DATABASE e").await.unwrap();
    loaded(&cluster, "e", &format!("{few} --into e")).await;
    let db = common::admin(&cluster, "e").await;
    assert_eq!(number(&db, "SELECT count(*) FROM trades").await, 10);
    db.batch_execute("CREATE TABLE trades_old PARTITION OF trades FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')")
        .await
        .unwrap();
    refused("e", &format!("{few} --into e --seed 2"), "a partition \"trades_old\"").await;
}

#[tokio::test]
async fn an_interrupt_leaves_what_it_says() {
    let cluster = common::server().await;
    let dsn = cluster.uri("postgres", "big");
    let args = ["load", "--trades=3000000", "--history=3d", "--batch=2000", "--clients=2"];
    let child = command(&args, &[("DATA_SOURCE_NAME", &dsn)])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let postgres = common::admin(&cluster, "postgres").await;
    let deadline = Instant::now() + Duration::from_secs(120);
    let copying =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'big' AND query LIKE 'COPY%'";
    let (mut db, mut rows) = (None, 0);
    while rows == 0 {
        assert!(Instant::now() < deadline, "no rows came");
        sleep(Duration::from_millis(50)).await;
        if db.is_none() && number(&postgres, copying).await > 0 {
            db = Some(common::admin(&cluster, "big").await);
        }
        if let Some(db) = &db {
            rows = number(db, "SELECT count(*) FROM orders").await;
        }
    }
    kill(pid, Signal::SIGINT).unwrap();
    let ended = timeout(Duration::from_secs(90), child.wait_with_output()).await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert_eq!(ended.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("stopped before all rows were loaded"), "{err}");
    let db = common::admin(&cluster, "big").await;
    let (orders, trades) = (
        number(&db, "SELECT count(*) FROM orders").await,
        number(&db, "SELECT count(*) FROM trades").await,
    );
    let said = format!(
        "stopped: {} of 3300000 rows loaded ({orders} orders, {trades} trades)",
        orders + trades
    );
    assert!(out.starts_with(&said), "{out} but {orders} and {trades}");
    assert!((rows..3_300_000).contains(&(orders + trades)));
    // Whole batches of 2,000 and no part of one.
    assert_eq!(((orders % 2_000), (trades % 2_000)), (0, 0));
}

/// The numbers of a line of the summary.
fn numbers(out: &str, line: &str) -> Vec<f64> {
    let line = out.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{line}: {out}"));
    line.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|n| n.parse().ok()).collect()
}

#[tokio::test]
async fn a_drive_keeps_its_rate_and_counts_from_when_calls_were_due() {
    let cluster = common::server().await;
    let args = "--trades 3000 --history 1d --rate 60 --for 5s --clients 3";
    let out = loaded(&cluster, "shop", args).await;
    let driven = numbers(&out, "driven: ");
    // 300 expected; five standard deviations of a Poisson count, and a busy machine.
    assert!((200.0..=400.0).contains(&driven[0]), "{out}");
    let due = numbers(&out, "due: ");
    let (calls, answered, errors, missed) = (due[0], due[1], due[2], due[3]);
    assert_eq!((errors, missed), (0.0, 0.0), "{out}");
    assert_eq!(calls, answered, "{out}");
    assert_eq!(driven[0] + driven[1], answered, "{out}");
    let all = numbers(&out, "all, missed included");
    assert_eq!(all[0], calls, "{out}");
    assert!(all[1] > 0.0 && all[1..].is_sorted(), "{out}");
    let db = common::admin(&cluster, "shop").await;
    let rows = number(&db, "SELECT (SELECT count(*) FROM trades) + (SELECT count(*) FROM orders)");
    assert_eq!(rows.await as f64, 3_300.0 + driven[1]);

    // A server that stands still for a second, under one connection: a single call is sent meanwhile, and
    // some twenty are due.
    let connect = Connect { dbname: "shop".to_owned(), ..common::connect(&cluster, "postgres") };
    let length = Some(Duration::from_secs(6));
    let mut load = Load::with(&connect, LoadPace { rate: 20.0, clients: 1, seed: 1, length });
    let deadline = Instant::now() + Duration::from_secs(30);
    while load.tally().queries() < 20 {
        assert!(Instant::now() < deadline, "no queries: {:?}", load.tally().errors());
        sleep(Duration::from_millis(20)).await;
    }
    let find = "SELECT pid::int8 FROM pg_stat_activity \
                WHERE datname = 'shop' AND application_name = 'pgrunway'";
    let pid = Pid::from_raw(i32::try_from(number(&db, find).await).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let during = load.tally().queries() + load.tally().inserts();
    sleep(Duration::from_millis(1_200)).await;
    let sent = load.tally().queries() + load.tally().inserts() - during;
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(sent <= 1, "{sent} answered by a server that stands still");
    timeout(Duration::from_secs(60), load.finished()).await.unwrap();
    let tally = load.tally();
    assert_eq!(tally.errors().len(), 0, "{:?}", tally.errors());
    let all = tally.latencies().all;
    assert_eq!(all.count(), tally.due());
    assert!(all.max() >= Duration::from_secs(1), "{:?}", all.max());
    // One slow call in some 120 would leave both of these where they were.
    let (p95, p99) = (all.percentile(95.0).unwrap(), all.percentile(99.0).unwrap());
    assert!(p95 >= Duration::from_millis(300), "p95 {p95:?}");
    assert!(p99 >= Duration::from_millis(700), "p99 {p99:?}");
    assert!((70..=190).contains(&all.count()), "{} calls in six seconds at 20/s", all.count());
}

#[tokio::test]
async fn a_larger_demo_has_the_days_the_rows_and_the_room() {
    let scale =
        demo::Scale { orders: 1_234, trades: Amount::PerDay(1_500), history: 33, clients: 6 };
    let binaries = cluster::find_binaries().unwrap();
    let cluster = Cluster::start(&setup::cluster_options_for(binaries, &scale)).await.unwrap();
    let (admin, partitions) = setup::schema_for(&cluster, false, &scale).await.unwrap();
    assert_eq!(partitions, setup::DemoPartitions { orders: 12, trades: 33 + 30 });
    let spans = setup::spans(&admin, &scale).await.unwrap();
    let connect = setup::connect(&cluster, "postgres", setup::DATABASE);
    let counters = Arc::new(FillCounters::default());
    setup::data_for(&connect, &scale, 1, &spans, counters.clone()).await.unwrap();
    let db = common::admin(&cluster, setup::DATABASE).await;
    let full = "SELECT count(*) FROM (SELECT FROM trades WHERE executed_at < date_trunc('day', now()) \
                GROUP BY tableoid HAVING count(*) = 1500) d";
    assert_eq!(number(&db, full).await, 33);
    let trades = number(&db, "SELECT count(*) FROM trades").await;
    assert!((33 * 1_500..=34 * 1_500).contains(&trades), "{trades}");
    assert_eq!(counters.trades(), u64::try_from(trades).unwrap());
    assert_eq!(number(&db, "SELECT count(*) FROM orders").await, 1_234);
    assert_eq!(counters.orders(), 1_234);
    assert_eq!(number(&db, "SELECT count(*) FROM trades WHERE executed_at > now()").await, 0);

    // Every connection may lock all partitions at once.
    let app = setup::connect(&cluster, setup::APP, setup::DATABASE);
    let load = Load::with(&app, LoadPace { rate: 120.0, clients: 6, seed: 1, length: None });
    let deadline = Instant::now() + Duration::from_secs(60);
    while load.tally().queries() < 300 {
        assert!(Instant::now() < deadline, "no queries: {:?}", load.tally().errors());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(load.tally().errors().len(), 0, "{:?}", load.tally().errors());
    let clients = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    assert_eq!(number(&db, clients).await, 6);
}
