//! The real postgres_exporter beside pgrunway on the same primary and the same standby: which of its families,
//! series and values are here. What was reached is held; it may only rise.
//!
//! Must not: count a value as equal that lies outside what pgrunway saw before and after.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and print its figures"
)]

mod common;
#[path = "parity/exposition.rs"]
mod exposition;
#[path = "parity/mixin.rs"]
mod mixin;
#[path = "parity/rival.rs"]
mod rival;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http;
use common::process::Process;
use exposition::Exposition;
use pgrunway::cmd::cluster::Cluster;
use rival::Rival;
use tokio::time::{Instant, sleep};

/// Ours that are off unless asked for.
const OPT_IN: [&str; 6] = [
    "--collector.autovacuum",
    "--collector.buffercache",
    "--collector.longtransactions",
    "--collector.processidle",
    "--collector.walreceiver",
    "--collector.statements.include-text",
];

/// What is said of the process and the Go runtime belongs to no server.
const OWN: [&str; 3] = ["go_", "process_", "promhttp_"];

/// Families, types, series with the same labels, and values, each of so many.
#[derive(Debug, Default, Clone, PartialEq)]
struct Figures {
    families: [usize; 2],
    types: [usize; 2],
    series: [usize; 2],
    values: [usize; 2],
}

/// The least share of families, series and values, and of families with the same type.
struct Least {
    missing_families: usize,
    types: f64,
    series: f64,
    values: f64,
}

/// Compares: a value is equal if it lies between what was seen before and after, bounds included.
fn compare(theirs: &Exposition, before: &Exposition, after: &Exposition) -> (Figures, String) {
    let mut figures = Figures::default();
    let mut by_name: BTreeMap<&str, [Vec<String>; 2]> = BTreeMap::new();
    let ours = after.names();
    let (mut faults, mut lacking) = (String::new(), Vec::new());
    let names = theirs.names();
    for name in names.iter().filter(|n| !OWN.iter().any(|own| n.starts_with(own))) {
        figures.families[1] += 1;
        if !ours.contains(name) {
            lacking.push(*name);
            continue;
        }
        figures.families[0] += 1;
        figures.types[1] += 1;
        if theirs.kind(name) == after.kind(name) {
            figures.types[0] += 1;
        } else {
            writeln!(faults, "type   {name}: {} not {}", after.kind(name), theirs.kind(name))
                .unwrap();
        }
    }
    for (series, value) in &theirs.series {
        let (name, labels) = series;
        if OWN.iter().any(|own| name.starts_with(own)) {
            continue;
        }
        figures.series[1] += 1;
        figures.values[1] += 1;
        let [absent, differing] = by_name.entry(name).or_default();
        let Some(now) = after.series.get(series) else {
            absent.push(format!("{labels:?} = {value}"));
            continue;
        };
        figures.series[0] += 1;
        let then = before.series.get(series).unwrap_or(now);
        let slack = value.abs() * 1e-9;
        if *value >= then.min(*now) - slack && *value <= then.max(*now) + slack {
            figures.values[0] += 1;
        } else {
            differing.push(format!("{labels:?}: {then}..{now} not {value}"));
        }
    }
    writeln!(faults, "absent families: {}", lacking.join(" ")).unwrap();
    for (name, [absent, differing]) in by_name {
        if let Some(first) = absent.first().filter(|_| ours.contains(name)) {
            writeln!(faults, "series {name}: {} absent, e.g. {first}", absent.len()).unwrap();
        }
        if let Some(first) = differing.first() {
            writeln!(faults, "value  {name}: {} differ, e.g. {first}", differing.len()).unwrap();
        }
    }
    (figures, faults)
}

fn share([part, whole]: [usize; 2]) -> f64 {
    part as f64 / whole as f64
}

fn dsn(cluster: &Cluster) -> String {
    format!("postgresql://mon:mon@127.0.0.1:{}/shop?sslmode=disable", cluster.port())
}

/// Two databases, a partitioned table, an index and a table never touched, a slot of each kind.
async fn primary() -> Cluster {
    let cluster = common::server_with(
        &[
            ("autovacuum", "off"),
            ("wal_level", "logical"),
            ("archive_mode", "on"),
            ("archive_command", "true"),
            ("max_prepared_transactions", "2"),
        ],
        &[],
    )
    .await;
    let admin = common::admin(&cluster, "postgres").await;
    for sql in ["CREATE DATABASE shop", "CREATE DATABASE other CONNECTION LIMIT 7"] {
        admin.batch_execute(sql).await.unwrap();
    }
    common::work(
        &cluster,
        "shop",
        "CREATE EXTENSION pg_stat_statements; CREATE SCHEMA api; \
         CREATE TABLE customer (id int PRIMARY KEY, note text); \
         CREATE TABLE api.untouched (id int); \
         CREATE TABLE account (id int PRIMARY KEY, balance int); CREATE TABLE branch (id int); \
         CREATE TABLE teller (id int PRIMARY KEY); CREATE TABLE history (at date); \
         CREATE TABLE product (id int, name text); CREATE TABLE sale (id int PRIMARY KEY, at date); \
         CREATE TABLE event (id int, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
         CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); \
         CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         INSERT INTO customer SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 2000) i; \
         INSERT INTO event SELECT i, date '2025-06-01' + i % 300 FROM generate_series(1, 3000) i; \
         UPDATE customer SET note = 'x' WHERE id < 200; DELETE FROM customer WHERE id > 1900; \
         ANALYZE customer; \
         SELECT count(*) FROM customer WHERE id = 7; SELECT count(*) FROM event",
    )
    .await;
    common::work(&cluster, "shop", "VACUUM event_2025").await;
    admin
        .batch_execute(
            "SELECT pg_create_physical_replication_slot('here', true); \
             CREATE ROLE limited CONNECTION LIMIT 3; SELECT pg_switch_wal()",
        )
        .await
        .unwrap();
    cluster
}

/// What each collector last succeeded with, all after `since` (Unix seconds).
fn polled_since(text: &str, since: f64) -> bool {
    let times = text
        .lines()
        .filter(|l| l.starts_with("pgrunway_collector_last_success_timestamp_seconds{"))
        .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    let mut count = 0;
    let all = times.inspect(|_| count += 1).all(|t| t > since);
    all && count > 20
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The exposition once all of it is newer than `since`. How long an answer takes is not looked at here: five
/// exporters that poll each second share the machine.
async fn polled(process: &Process, since: f64) -> String {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let text = http::get(process.address, "/metrics").await.text();
        if polled_since(&text, since) {
            return text;
        }
        assert!(Instant::now() < end, "not polled again: {:#?}", process.log());
        sleep(Duration::from_millis(250)).await;
    }
}

/// The three scrapes: ours, theirs, and ours once every collector has been polled again.
async fn scrapes(process: &Process, rival: &Rival) -> [Exposition; 3] {
    let began = now();
    let before = polled(process, began).await;
    let theirs = rival.metrics().await;
    let after = polled(process, now()).await;
    [before, theirs, after].map(|text| Exposition::parse(&text))
}

/// Polls each second, in postgres_exporter's profile and with all of its collectors, or by default.
async fn serve(dsn: &str, compatible: bool) -> Process {
    let intervals: Vec<String> = pgrunway::collectors::ALL
        .iter()
        .map(|c| format!("--collector.{}.interval=1s", c.name()))
        .collect();
    let mut flags: Vec<&str> = intervals.iter().map(String::as_str).collect();
    if compatible {
        flags.push("--compatibility=postgres_exporter");
        flags.extend(OPT_IN);
    }
    Process::serve(dsn, &flags).await
}

async fn measure(process: &Process, rival: &Rival, what: &str, least: Least) {
    let [before, theirs, after] = scrapes(process, rival).await;
    let (figures, faults) = compare(&theirs, &before, &after);
    let line = |name, pair: [usize; 2]| {
        format!("{name} {} of {} ({:.1} %)", pair[0], pair[1], 100.0 * share(pair))
    };
    println!(
        "{what}: {}, {}, {}, {}\n{faults}",
        line("families", figures.families),
        line("types", figures.types),
        line("series", figures.series),
        line("values", figures.values)
    );
    let missing = figures.families[1] - figures.families[0];
    assert!(missing <= least.missing_families, "{what}: {missing} families are missing");
    for (name, pair, least) in [
        ("types", figures.types, least.types),
        ("series", figures.series, least.series),
        ("values", figures.values, least.values),
    ] {
        assert!(share(pair) >= least, "{what}: {}, less than {least}", line(name, pair));
    }
}

/// One exporter of ours at a time, since each is a session that the others count.
async fn measure_server(cluster: &Cluster, what: &str) {
    let least =
        |missing_families, types, series, values| Least { missing_families, types, series, values };
    let dsn = dsn(cluster);
    let defaults = Rival::start(&dsn, false).await;
    {
        let process = serve(&dsn, true).await;
        let of = |which: &str| format!("compatible, {what}, {which}");
        measure(&process, &defaults, &of("defaults"), least(0, 1.0, 0.98, 0.96)).await;
        let all = Rival::start(&dsn, true).await;
        measure(&process, &all, &of("all"), least(0, 1.0, 0.94, 0.92)).await;
        if what == "primary" {
            let differing = mixin::compare(cluster, &process, &defaults).await;
            println!("mixin: {} of {} equal", mixin::COUNT - differing.len(), mixin::COUNT);
            assert!(differing.is_empty(), "{}", differing.join("\n"));
            return;
        }
    }
    let process = serve(&dsn, false).await;
    let of = format!("default profile, {what}, defaults");
    measure(&process, &defaults, &of, least(5, 0.84, 0.36, 0.33)).await;
}

/// Waits until the standby has what the primary wrote.
async fn caught_up(standby: &Cluster) {
    let client = common::admin(standby, "postgres").await;
    let end = Instant::now() + Duration::from_secs(30);
    let sql = "SELECT pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn()";
    while client.query_one(sql, &[]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
        assert!(Instant::now() < end, "the standby does not catch up");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_exporter_shows_is_here_and_its_mixin_has_the_same_data() {
    let mut primary = primary().await;
    let standby = primary.standby().await.unwrap();
    caught_up(&standby).await;
    tokio::join!(measure_server(&primary, "primary"), measure_server(&standby, "standby"));
}
