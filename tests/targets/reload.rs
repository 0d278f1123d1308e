//! The configuration is loaded again while scrapes and polls go on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrunway::cmd::cluster::Cluster;
use tokio::time::{Instant, sleep};

use super::common::{self, http};
use super::{Exporter, is};

const ON: (&str, &str) = ("PGRUNWAY_WEB_ENABLE_LIFECYCLE", "true");

/// The most targets that a change of the file changes, beside the one that comes or goes.
const CHANGED: usize = 10;

/// The round up to this one in which a target last changed: those of the second half take turns, some in each round.
fn last_changed(targets: usize, n: usize, round: usize) -> usize {
    let groups = (targets - targets / 2).div_ceil(CHANGED);
    round.saturating_sub((round + groups - n % groups) % groups)
}

/// A file in which the first half of the targets is always the same, and of the others some differ from round to
/// round; every second round has one more.
fn file(cluster: &Cluster, targets: usize, round: usize) -> String {
    let mut text = String::from("targets:\n");
    for n in 0..targets + round % 2 {
        let dsn = cluster.uri("mon", "postgres");
        let name = if n < targets { format!("t{n}") } else { "more".to_owned() };
        let _ = write!(text, "- {{name: {name}, dsn: '{dsn}&application_name={name}'");
        if n >= targets / 2 {
            let changed = last_changed(targets, n, round);
            let _ = write!(text, ", objectives: {{latency: {}ms}}", 10 + changed);
        }
        text.push_str("}\n");
    }
    text
}

async fn reload(exporter: &Exporter) -> http::Answer {
    http::request(exporter.process.address, "POST", "/-/reload", &[]).await
}

/// Pid and start of each target's oldest session.
async fn sessions(admin: &tokio_postgres::Client) -> BTreeMap<String, i32> {
    let rows = admin
        .query(
            "SELECT DISTINCT ON (application_name) application_name, pid FROM pg_stat_activity \
             WHERE usename = 'mon' ORDER BY application_name, backend_start",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[allow(clippy::print_stdout, reason = "the long form is run for its figures")]
/// Changes some of the targets again and again while all of them are scraped: no scrape fails, no session of the
/// others ends, and memory stays what it was.
async fn under_load(targets: usize, rounds: usize, pause: Duration, env: &[(&str, &str)]) {
    let connections = (2 * targets + 40).to_string();
    let cluster = common::server_with(&[("max_connections", &connections)], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let exporter = Exporter::start(&file(&cluster, targets, 0), env).await;
    for n in 0..targets {
        exporter.wait(&format!("t{n}"), "up", |text| is(text, "pg_up", 1.0)).await;
    }
    let before = sessions(&admin).await;
    assert_eq!(before.len(), targets, "{before:?}");

    let (over, scraped, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let address = exporter.process.address;
    let (ended, good, bad) = (over.clone(), scraped.clone(), failed.clone());
    let scraper = tokio::spawn(async move {
        let mut n = 0;
        while !ended.load(Ordering::Relaxed) {
            let path = match n % (targets + 1) {
                0 => "/metrics".to_owned(),
                n => format!("/metrics?target=t{}", n - 1),
            };
            let answer = http::get(address, &path).await;
            let up = path == "/metrics" || answer.text().contains("\npg_up 1\n");
            let count = if answer.status == 200 && up { &good } else { &bad };
            count.fetch_add(1, Ordering::Relaxed);
            n += 1;
            sleep(Duration::from_millis(2)).await;
        }
    });
    let (mut memory, mut late, mut longest) = (Vec::new(), 0, Duration::ZERO);
    let began = Instant::now();
    for round in 1..=rounds {
        let round_began = Instant::now();
        if (round - 1) % rounds.div_ceil(10) == 0 {
            memory.push(exporter.process.memory("VmRSS"));
        }
        exporter.write(&file(&cluster, targets, round));
        let answer = reload(&exporter).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let latency = (10 + round) as f64 / 1_000.0;
        let mut changed = (targets / 2..targets).rev();
        let changed = changed.find(|n| last_changed(targets, *n, round) == round).unwrap();
        exporter
            .wait(&format!("t{changed}"), "the new objective", |text| {
                is(text, "pg_latency_objective_seconds", latency)
            })
            .await;
        let more = http::get(address, "/metrics?target=more").await.status;
        assert_eq!(more, if round % 2 == 1 { 200 } else { 404 }, "round {round}");
        let took = round_began.elapsed();
        longest = longest.max(took);
        late += usize::from(took > pause);
        sleep(pause.saturating_sub(took)).await;
    }
    let took = began.elapsed();
    memory.push(exporter.process.memory("VmRSS"));
    let halfway = memory[memory.len() / 2];
    let grown = memory.last().unwrap().saturating_sub(halfway);
    over.store(true, Ordering::Relaxed);
    scraper.await.unwrap();
    let after = sessions(&admin).await;
    for n in 0..targets / 2 {
        let name = format!("t{n}");
        assert_eq!(before[&name], after[&name], "{name} was opened again");
    }
    let scraped = scraped.load(Ordering::Relaxed);
    println!(
        "{targets} targets, {rounds} rounds in {took:?}, {late} of them longer than {pause:?}, the longest {longest:?}: \
         {scraped} scrapes; resident memory, from the start to the end: {:?} MiB",
        memory.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>()
    );
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {scraped} scrapes; {:#?}",
        exporter.process.log()
    );
    assert!(scraped > rounds, "{scraped}");
    assert!(grown < (8 << 20) + targets as u64 * (64 << 10), "{grown}");
}

/// The short form; with `PGRUNWAY_RELOAD_TARGETS` and `PGRUNWAY_RELOAD_ROUNDS` the long one, a round a second. All its
/// targets are one server on a machine with other things to do, so they collect little: what a reload does is the same.
#[tokio::test]
async fn a_reload_costs_no_scrape_and_no_session_of_what_did_not_change() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("PGRUNWAY_RELOAD_ROUNDS").unwrap_or(6);
    let Some(targets) = number("PGRUNWAY_RELOAD_TARGETS") else {
        return under_load(8, rounds, Duration::ZERO, &[ON]).await;
    };
    let kept = ["statements", "connections", "databases"];
    let others = pgrunway::collectors::ALL.iter().filter(|c| !kept.contains(&c.name()));
    let off: Vec<String> =
        others.map(|c| format!("PGRUNWAY_COLLECTOR_{}", c.name().to_uppercase())).collect();
    let env: Vec<(&str, &str)> =
        off.iter().map(|name| (name.as_str(), "false")).chain([ON]).collect();
    under_load(targets, rounds, Duration::from_secs(1), &env).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_so() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let good = file(&cluster, 2, 0);
    let mut exporter = Exporter::start(&good, &[ON]).await;
    exporter.wait("t0", "up", |text| is(text, "pg_up", 1.0)).await;
    exporter.wait("t1", "up", |text| is(text, "pg_up", 1.0)).await;
    let before = sessions(&admin).await;
    let loaded = |value: f64| {
        move |text: &str| {
            ["pgrunway", "postgres_exporter"]
                .iter()
                .all(|of| is(text, &format!("{of}_config_last_reload_successful"), value))
        }
    };
    let time = "pgrunway_config_last_reload_success_timestamp_seconds";
    let first = exporter.process.wait("loaded at the start", loaded(1.0)).await;
    let first = http::value(&first, time, &[]).unwrap();

    exporter.write("targets:\n- {name: t0, dsn: 'postgresql://mon:hunter2@x/y?sslmod=disable'}\n");
    let answer = reload(&exporter).await;
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(
        text.contains("pgrunway.yml:2:19") && text.contains("did you mean `sslmode`?"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let page = exporter.process.wait("the failure shows", loaded(0.0)).await;
    assert_eq!(http::value(&page, time, &[]), Some(first));
    assert_eq!(sessions(&admin).await, before);
    let log = exporter.process.log().join("\n");
    assert!(log.contains("the configuration was not loaded") && !log.contains("hunter2"), "{log}");

    // SIGHUP does the same, and the file's end is the end of a target.
    exporter.write(&good.replace("name: t1", "name: t9").replace("name=t1", "name=t9"));
    let hangup = |exporter: &Exporter| {
        kill(Pid::from_raw(exporter.process.pid()), Signal::SIGHUP).unwrap();
    };
    hangup(&exporter);
    let page = exporter.process.wait("the success shows", loaded(1.0)).await;
    assert!(http::value(&page, time, &[]).unwrap() >= first);
    exporter.wait("t9", "up", |text| is(text, "pg_up", 1.0)).await;
    assert_eq!(http::get(exporter.process.address, "/metrics?target=t1").await.status, 404);
    assert_eq!(sessions(&admin).await["t0"], before["t0"]);
    let end = Instant::now() + Duration::from_secs(30);
    while sessions(&admin).await.contains_key("t1") {
        let all: Vec<i32> = before.values().copied().collect();
        assert!(Instant::now() < end, "{all:?}");
        sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_file(exporter.path()).unwrap();
    hangup(&exporter);
    exporter.process.wait("a file that is gone is a failure", loaded(0.0)).await;
    exporter.wait("t9", "still up", |text| is(text, "pg_up", 1.0)).await;

    // A pipe that nobody writes to is given up, and holds up neither scrapes nor the next attempt.
    let made = std::process::Command::new("mkfifo").arg(exporter.path()).status().unwrap();
    assert!(made.success());
    let answer = reload(&exporter).await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("could not be read within 5s"), "{}", answer.text());
    exporter.wait("t9", "still up", |text| is(text, "pg_up", 1.0)).await;
    exporter.write(&good);
    assert_eq!(reload(&exporter).await.status, 200);
    exporter.wait("t1", "up again", |text| is(text, "pg_up", 1.0)).await;
    exporter.process.stop(Signal::SIGTERM).await;
}

#[tokio::test]
async fn without_the_flag_a_request_may_not_load_anything() {
    let cluster = common::server().await;
    let exporter = Exporter::start(&file(&cluster, 1, 0), &[]).await;
    let answer = reload(&exporter).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("--web.enable-lifecycle"), "{}", answer.text());
    let address = exporter.process.address;
    assert_eq!(http::get(address, "/-/reload").await.status, 405);
    assert_eq!(http::request(address, "PUT", "/-/reload", &[]).await.status, 403);
}
