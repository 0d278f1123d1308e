//! Whether sampled waits are true, and what sampling costs: `cargo bench --bench waits`.
//!
//! First, sessions that sleep, wait for advisory and row locks, read from disk and are busy for times that the server
//! measures, and what the sampler made of them, for five minutes (`-- --seconds N` for another time; `--interval 200ms`).
//! One group is periodic by the second, which a sampler on a grid would see always or never. Reads last only where the
//! disk is throttled and the files are not cached: run it in control groups with `blkio.throttle.read_iops_device` and
//! `memory.limit_in_bytes` (cgroup v1), or `io.max` and `memory.max`. Then the processor time of the exporter
//! and of its backends with 50, 500 and 2,000 sessions (`--sessions 50,500`), in pairs with the collector off; and the
//! rate of transactions beside 200 sessions that wait for a lock, with the collectors on and off. `--only truth`,
//! `throughput` or `cost` for one of them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http::value;
use common::process::Process;
use pgrunway::cmd::cluster::Cluster;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

const PAIRS: usize = 5;
const OVER: Duration = Duration::from_secs(10);

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

#[tokio::main]
async fn main() {
    // A fault in shared buffers costs a read; where the machine's cache has the file, only a throttled disk makes it last.
    let settings = [
        ("max_connections", "2300"),
        ("deadlock_timeout", "600s"),
        ("shared_buffers", "32MB"),
        ("track_io_timing", "on"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    common::work(&cluster, "postgres", "CREATE DATABASE app").await;
    common::work(&cluster, "app", PREPARED).await;
    let only = argument("--only");
    let wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
    if wanted("truth") {
        let seconds = argument("--seconds").map_or(300, |text| text.parse().unwrap());
        truth(&cluster, Duration::from_secs(seconds)).await;
    }
    if wanted("throughput") {
        throughput(&cluster).await;
    }
    if wanted("cost") {
        let sessions = argument("--sessions").unwrap_or_else(|| "50,500,2000".to_owned());
        let mut idle = Vec::new();
        for count in sessions.split(',').map(|text| text.parse().unwrap()) {
            cost(&cluster, &mut idle, count).await;
        }
    }
}

/// What a session of the truth does.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Sleep,
    Periodic,
    Advisory,
    Row,
    Read,
    Busy,
}

/// The label values that its time is counted under, and how many sessions there are.
const WAYS: [(Way, &str, &str, usize); 6] = [
    (Way::Sleep, "Timeout", "PgSleep", 4),
    (Way::Periodic, "Timeout", "PgSleep", 4),
    (Way::Advisory, "Lock", "advisory", 4),
    (Way::Row, "Lock", "transactionid", 4),
    (Way::Read, "IO", "DataFileRead", 2),
    (Way::Busy, "CPU", "CPU", 4),
];

/// Since the statement began, by the server's clock: what a client measures has its own waiting for a processor in it.
const SINCE: &str = "extract(epoch FROM clock_timestamp() - statement_timestamp())::float8";

/// What the sessions need: a table that is larger than what is cached of it, and loops.
const PREPARED: &str = "
CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100);
CREATE UNLOGGED TABLE wide (id int PRIMARY KEY, filler text) WITH (fillfactor = 10);
INSERT INTO wide SELECT n, repeat('x', 700) FROM generate_series(1, 200000) n;
CREATE FUNCTION busy(seconds float8) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
  LOOP
    EXIT WHEN extract(epoch FROM clock_timestamp() - statement_timestamp()) > seconds;
  END LOOP;
  RETURN extract(epoch FROM clock_timestamp() - statement_timestamp());
END $$;
CREATE FUNCTION look_up(seconds float8) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
  LOOP
    PERFORM filler FROM wide WHERE id = 1 + floor(random() * 200000)::int;
    EXIT WHEN extract(epoch FROM clock_timestamp() - statement_timestamp()) > seconds;
  END LOOP;
  RETURN extract(epoch FROM clock_timestamp() - statement_timestamp());
END $$";

/// Seconds that one session was active in its way until the end.
async fn lives(client: Client, helper: Client, way: Way, n: usize, end: Instant) -> f64 {
    let mut active = 0.0;
    let mut turn = n;
    while Instant::now() < end {
        turn += 7;
        let pause = Duration::from_millis(40 + (turn as u64 * 37) % 200);
        let seconds = pause.as_secs_f64();
        let hold = async |take: String, wait: String, release: &str| -> f64 {
            helper.batch_execute(&take).await.unwrap();
            let waiting = async { client.query_one(&wait, &[]).await.unwrap().get::<_, f64>(0) };
            let releasing = async {
                sleep(pause).await;
                helper.batch_execute(release).await.unwrap();
            };
            tokio::join!(waiting, releasing).0
        };
        let asks = async |sql: String| -> f64 {
            client.query_one(&sql, &[]).await.unwrap().get::<_, f64>(0)
        };
        active += match way {
            Way::Sleep => asks(format!("SELECT {SINCE} FROM pg_sleep({seconds})")).await,
            Way::Periodic => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                sleep(Duration::from_nanos(1_000_000_000 - u64::from(now.subsec_nanos()))).await;
                asks(format!("SELECT {SINCE} FROM pg_sleep(0.3)")).await
            }
            Way::Advisory => {
                let lock = format!("SELECT {SINCE} FROM pg_advisory_xact_lock({n})");
                let unlock = format!("SELECT pg_advisory_unlock({n})");
                hold(format!("SELECT pg_advisory_lock({n})"), lock, &unlock).await
            }
            Way::Row => {
                let update = format!("UPDATE t SET i = {n} WHERE i = {n}");
                let wait = format!("{update} RETURNING {SINCE}");
                hold(format!("BEGIN; {update}"), wait, "COMMIT").await
            }
            Way::Read => asks(format!("SELECT look_up({seconds})")).await,
            Way::Busy => asks(format!("SELECT busy({seconds})")).await,
        };
        if way != Way::Periodic {
            sleep(pause).await;
        }
    }
    active
}

/// Seconds that reads of blocks took in the database so far, by track_io_timing, and that sessions were active in it.
async fn counted(admin: &Client) -> (f64, f64) {
    let sql = "SELECT blk_read_time / 1000, active_time / 1000 FROM pg_stat_database WHERE datname = 'app'";
    let row = admin.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn truth(cluster: &Cluster, time: Duration) {
    let admin = common::admin(cluster, "postgres").await;
    let interval = argument("--interval").unwrap_or_else(|| "1s".to_owned());
    let interval = format!("--collector.activity.interval={interval}");
    let exporter = Process::serve(&cluster.uri("mon", "postgres"), &[&interval]).await;
    exporter
        .wait("samples", |t| {
            value(t, "pgrunway_activity_samples_total", &[]).is_some_and(|n| n > 1.0)
        })
        .await;
    let (before, counted_before) = (exporter.metrics().await, counted(&admin).await);
    let end = Instant::now() + time;
    let mut sessions = JoinSet::new();
    for (way, .., count) in WAYS {
        for n in 1..=count {
            let client = common::admin(cluster, "app").await;
            let helper = common::admin(cluster, "app").await;
            sessions.spawn(async move { (way, lives(client, helper, way, n, end).await) });
        }
    }
    let mut active = [0.0; WAYS.len()];
    while let Some(ended) = sessions.join_next().await {
        let (way, seconds) = ended.unwrap();
        let place = WAYS.iter().position(|(w, ..)| *w == way).unwrap();
        active[place] += seconds;
    }
    // A sample more, and what the sessions counted.
    sleep(Duration::from_secs(6)).await;
    let after = exporter.metrics().await;
    let counted_after = counted(&admin).await;
    let place = |way| WAYS.iter().position(|(w, ..)| *w == way).unwrap();
    println!("busy loops took {:.1} s", active[place(Way::Busy)]);
    // Of what was active the rest waited for nothing: the loops, and a little of every statement.
    active[place(Way::Read)] = counted_after.0 - counted_before.0;
    active[place(Way::Busy)] = 0.0;
    active[place(Way::Busy)] = counted_after.1 - counted_before.1 - active.iter().sum::<f64>();
    let by = |name: &str, labels: &[(&str, &str)]| {
        let of = |text: &str| value(text, name, labels).unwrap_or(0.0);
        of(&after) - of(&before)
    };
    let samples = by("pgrunway_activity_samples_total", &[]);
    let sampled = by("pgrunway_activity_sampled_seconds_total", &[]);
    println!(
        "{samples} samples of {sampled:.1} s, unsampled {:.1} s",
        by("pgrunway_activity_unsampled_seconds_total", &[])
    );
    let all: f64 = active.iter().sum();
    for (kind, event) in [
        ("Timeout", "PgSleep"),
        ("Lock", "advisory"),
        ("Lock", "transactionid"),
        ("IO", "DataFileRead"),
        ("CPU", "CPU"),
    ] {
        let these = WAYS.iter().zip(active).filter(|((_, k, e, _), _)| *k == kind && *e == event);
        let (mut truth, mut variance) = (0.0, 0.0);
        for ((way, .., count), seconds) in these {
            truth += seconds;
            let (count, share) = (*count as f64, (seconds / *count as f64 / sampled).min(1.0));
            // What is periodic by the second is so in all of its sessions at once.
            let alike = if *way == Way::Periodic { count } else { 1.0 };
            variance += count * alike * share * (1.0 - share) / samples;
        }
        let labels = [("datname", "app"), ("wait_event_type", kind), ("wait_event", event)];
        let seconds = by("pg_active_session_seconds_total", &labels);
        println!(
            "{kind}:{event}: {truth:.1} s in truth ({:.1} % of all), {seconds:.1} s sampled, {:+.1} % (standard error {:.1} %)",
            truth / all * 100.0,
            (seconds / truth - 1.0) * 100.0,
            variance.sqrt() * sampled / truth * 100.0
        );
    }
}

/// CPU seconds of a process so far.
fn cpu(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    // USER_HZ is 100 on every Linux.
    (ticks[0] + ticks[1]) / 100.0
}

/// Per cent of a core of the exporter's first backend and of the exporter, and how long a look takes.
async fn measure(cluster: &Cluster, on: bool) -> (f64, f64, Option<f64>) {
    let flags: &[&str] = match on {
        true => &[],
        false => &["--no-collector.activity", "--no-collector.blocking"],
    };
    let exporter = Process::serve(&cluster.uri("mon", "postgres"), flags).await;
    exporter.wait("it is up", |t| t.contains("pg_up 1")).await;
    sleep(Duration::from_secs(5)).await;
    let admin = common::admin(cluster, "postgres").await;
    let kept =
        "SELECT pid FROM pg_stat_activity WHERE usename = 'mon' ORDER BY backend_start LIMIT 1";
    let backend: i32 = admin.query_one(kept, &[]).await.unwrap().get(0);
    let ours = exporter.pid();
    let (start, before) = (Instant::now(), [cpu(backend), cpu(ours)]);
    sleep(OVER).await;
    let taken = start.elapsed().as_secs_f64() / 100.0;
    let after = [cpu(backend), cpu(ours)];
    let look = value(&exporter.metrics().await, "pgrunway_activity_look_seconds", &[]);
    ((after[0] - before[0]) / taken, (after[1] - before[1]) / taken, look)
}

async fn cost(cluster: &Cluster, idle: &mut Vec<Client>, count: usize) {
    while idle.len() < count {
        let client = common::admin(cluster, "app").await;
        client.batch_execute("SELECT 1").await.unwrap();
        // Every tenth is active.
        if idle.len().is_multiple_of(10) {
            let active = common::admin(cluster, "app").await;
            tokio::spawn(async move { active.batch_execute("SELECT pg_sleep(3600)").await });
        }
        idle.push(client);
    }
    let mut differences = Vec::new();
    for _ in 0..PAIRS {
        let (off, on) = (measure(cluster, false).await, measure(cluster, true).await);
        println!(
            "{count} sessions: server {:.2} % of a core with, {:.2} % without; exporter {:.2} %, {:.2} %; a look {:.2} ms",
            on.0,
            off.0,
            on.1,
            off.1,
            on.2.unwrap_or(f64::NAN) * 1e3
        );
        differences.push((on.0 - off.0, on.1 - off.1));
    }
    differences.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (server, exporter) = differences[PAIRS / 2];
    println!(
        "{count} sessions: median {server:+.2} % of a core on the server, {exporter:+.2} % of the exporter"
    );
}

/// Transactions a second of four clients while 200 sessions wait for a lock.
async fn throughput(cluster: &Cluster) {
    let holder = common::admin(cluster, "app").await;
    holder.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
    for _ in 0..200 {
        let client = common::admin(cluster, "app").await;
        tokio::spawn(async move { client.batch_execute("SELECT pg_advisory_lock(77)").await });
    }
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let mut rates = [0.0; 2];
        let off = ["--no-collector.activity", "--no-collector.blocking"];
        // In turn, what comes first has no part in it.
        let order: [usize; 2] = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let flags: &[&str] = if which == 0 { &off } else { &[] };
            let rate = &mut rates[which];
            let exporter = Process::serve(&cluster.uri("mon", "postgres"), flags).await;
            exporter.wait("it is up", |t| t.contains("pg_up 1")).await;
            let end = Instant::now() + OVER;
            let mut clients = JoinSet::new();
            for n in 1..=4 {
                let client = common::admin(cluster, "app").await;
                let sql = format!("UPDATE t SET i = i WHERE i = {n}");
                clients.spawn(async move {
                    let mut count = 0.0;
                    while Instant::now() < end {
                        client.batch_execute(&sql).await.unwrap();
                        count += 1.0;
                    }
                    count
                });
            }
            while let Some(count) = clients.join_next().await {
                *rate += count.unwrap() / OVER.as_secs_f64();
            }
        }
        println!(
            "200 blocked sessions: {:.0} transactions/s with, {:.0} without",
            rates[1], rates[0]
        );
        ratios.push(rates[1] / rates[0]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("200 blocked sessions: median ratio {:.3}", ratios[PAIRS / 2]);
}
