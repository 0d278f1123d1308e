//! The statements collector on a real server: what it counts is what the view counted, the quantiles
//! lie where the load's lie, and nothing that happens to the view lowers a counter.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Collector;
use pgrunway::collectors::statements::{State, Statements};
use pgrunway::config::{Connect, Settings};
use pgrunway::error::CollectError;
use pgrunway::metric::{Family, Histogram, Refused, Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio::time::sleep;

/// A session and the state that outlives it.
struct Probe {
    session: Session,
    state: State,
    clock: Clock,
    settings: Arc<Settings>,
}

impl Probe {
    async fn new(cluster: &Cluster, user: &str, settings: Settings) -> Self {
        let (clock, settings) = (Clock::start(), Arc::new(settings));
        let connect = common::connect(cluster, user);
        let session = Session::connect(&connect, None, settings.clone(), clock).await.unwrap();
        Self { session, state: State::default(), clock, settings }
    }

    async fn reconnect(&mut self, connect: &Connect) {
        self.session =
            Session::connect(connect, None, self.settings.clone(), self.clock).await.unwrap();
    }

    async fn poll(&mut self) -> Vec<Family> {
        let rows = Statements.fetch(&self.session, &self.state).await.unwrap();
        let mut sink = Sink::new(Statements::METRICS, self.settings.series_limit);
        Statements.derive(&mut self.state, rows, &mut sink);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default());
        families
    }
}

fn sample<'a>(families: &'a [Family], name: &str, labels: &[&str]) -> Option<&'a Value> {
    let family = families.iter().find(|f| f.metric.name == name)?;
    let found = family.samples.iter().find(|s| s.labels.iter().map(|l| &**l).eq(labels.to_vec()));
    found.map(|s| &s.value)
}

fn number(families: &[Family], name: &str, labels: &[&str]) -> Option<f64> {
    match sample(families, name, labels)? {
        Value::Number(n) => Some(*n),
        Value::Histogram(_) => None,
    }
}

fn histogram<'a>(families: &'a [Family], name: &str, labels: &[&str]) -> Option<&'a Histogram> {
    match sample(families, name, labels)? {
        Value::Histogram(h) => Some(h),
        Value::Number(_) => None,
    }
}

fn at_most(h: &Histogram, bound: f64) -> u64 {
    h.cumulative[h.bounds.iter().position(|b| *b == bound).unwrap()]
}

/// Every counter and every bucket that is counted by increments, by series.
fn counters(families: &[Family]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in families {
        for sample in &family.samples {
            let series = format!("{} {:?}", family.metric.name, sample.labels);
            match &sample.value {
                // The server's own, which falls where the server's does.
                Value::Number(_) if family.metric.name == "pg_stat_statements_dealloc_total" => {}
                Value::Number(_) if sample.labels.len() == 3 && &*sample.labels[2] != "other" => {}
                Value::Number(v) if family.metric.name.ends_with("_total") => {
                    all.insert(series, *v);
                }
                Value::Number(_) => {}
                Value::Histogram(h) => {
                    for (bound, count) in h.bounds.iter().zip(&h.cumulative) {
                        all.insert(format!("{series} {bound}"), *count as f64);
                    }
                    all.insert(format!("{series} count"), h.count as f64);
                    all.insert(format!("{series} sum"), h.sum);
                }
            }
        }
    }
    all
}

fn assert_nothing_fell(before: &[Family], after: &[Family]) {
    let after = counters(after);
    for (series, value) in counters(before) {
        let now = after.get(&series);
        assert!(now.is_some_and(|now| *now >= value), "{series}: {value}, then {now:?}");
    }
}

fn calls_in(families: &[Family], datname: &str) -> u64 {
    histogram(families, "pg_query_duration_seconds", &[datname]).map_or(0, |h| h.count)
}

/// A shuffled mix of 140 calls of 5 ms, 44 of 30 ms and 16 of 120 ms.
async fn mixed_load(cluster: &Cluster) {
    let client = common::client(cluster, "app", "shop").await;
    let sleeps = client.prepare("SELECT pg_sleep($1)").await.unwrap();
    let mix: Vec<f64> =
        [vec![0.005; 140], vec![0.030; 44], vec![0.120; 16]].into_iter().flatten().collect();
    for i in 0..mix.len() {
        // A fixed permutation: 77 and 200 have no common factor.
        client.query(&sleeps, &[&mix[i * 77 % mix.len()]]).await.unwrap();
    }
}

/// The latencies of the executions that the server logged, in seconds, ascending. On a busy machine
/// a sleep takes longer than asked for.
fn logged(cluster: &Cluster) -> Vec<f64> {
    let log = std::fs::read_to_string(cluster.log_path()).unwrap();
    let mut truth: Vec<f64> = log
        .lines()
        .filter(|line| line.contains(" ms  execute ") && line.contains("pg_sleep"))
        .map(|line| {
            let (_, rest) = line.split_once("duration: ").unwrap();
            rest.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
        })
        .collect();
    truth.sort_by(f64::total_cmp);
    truth
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_load_is_counted_exactly_and_its_quantiles_lie_where_they_must() {
    let cluster = common::server_with(&[("pg_stat_statements.track_planning", "on")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
    admin.batch_execute("ALTER ROLE app SET log_min_duration_statement = 0").await.unwrap();
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let mut settings = common::settings();
    settings.statements.include_text = true;
    let mut probe = Probe::new(&cluster, "mon", settings).await;
    probe.poll().await;

    let load = mixed_load(&cluster);
    tokio::pin!(load);
    loop {
        tokio::select! {
            () = &mut load => break,
            () = sleep(Duration::from_millis(15)) => { probe.poll().await; }
        }
    }
    probe.poll().await;
    let families = probe.poll().await;

    let view = admin
        .query_one(
            "SELECT queryid, calls, total_exec_time / 1e3, plans, \
                    (SELECT sum(calls)::int8 FROM pg_stat_statements s WHERE s.dbid = t.dbid) \
             FROM pg_stat_statements t WHERE query = 'SELECT pg_sleep($1)'",
            &[],
        )
        .await
        .unwrap();
    let queryid = view.get::<_, i64>(0).to_string();
    let (calls, seconds, plans): (i64, f64, i64) = (view.get(1), view.get(2), view.get(3));
    assert_eq!(calls, 200);

    let database = histogram(&families, "pg_query_duration_seconds", &["shop"]).unwrap();
    assert_eq!(database.count, u64::try_from(view.get::<_, i64>(4)).unwrap());
    let sum = |name| number(&families, name, &["app", "shop", &queryid]).unwrap();
    assert_eq!(sum("pg_stat_statements_calls_total"), 200.0);
    assert_eq!(sum("pg_stat_statements_rows_total"), 200.0);
    assert_eq!(sum("pg_stat_statements_plans_total"), plans as f64);
    assert!((sum("pg_stat_statements_seconds_total") - seconds).abs() < 1e-9);
    assert!((database.sum - seconds).abs() < 1e-9);
    let exact = number(&families, "pg_query_exact_calls_total", &["shop"]).unwrap();
    assert!((20.0..=200.0).contains(&exact), "{exact}");
    let truth = logged(&cluster);
    assert_eq!(truth.len(), 200);
    // What is estimated may be off by a few.
    for bound in [0.01, 0.05] {
        let below = truth.iter().filter(|x| **x <= bound).count() as u64;
        let got = at_most(database, bound);
        assert!(got.abs_diff(below) <= 8, "{got} calls up to {bound}, not {below}");
    }
    for (quantile, rank) in [("0.5", 100), ("0.95", 190), ("0.99", 198)] {
        let labels = ["shop", "5m", quantile];
        let got = number(&families, "pg_query_latency_seconds", &labels).unwrap();
        let error = got / truth[rank] - 1.0;
        println!("p{quantile}: {got}, truly {}; {exact} of 200 exact", truth[rank]);
        assert!(error.abs() < 0.15, "p{quantile}: {got}, truly {}", truth[rank]);
    }

    // Texts are asked for every few seconds, in the poll after the one that exposed a statement.
    let labels = ["shop", "app", &queryid, "SELECT pg_sleep($1)"];
    let end = Instant::now() + Duration::from_secs(12);
    while number(&probe.poll().await, "pg_statement_info", &labels) != Some(1.0) {
        assert!(Instant::now() < end, "no text of the statement");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn plans_are_counted_as_the_view_counts_them() {
    let cluster = common::server_with(&[("pg_stat_statements.track_planning", "on")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    // One poll to see that planning is tracked, one to read it.
    probe.poll().await;
    probe.poll().await;
    let client = common::client(&cluster, "app", "shop").await;
    for round in 0..30 {
        client.simple_query("SELECT count(*) FROM pg_class a, pg_class b").await.unwrap();
        client.simple_query(&format!("SELECT {round}")).await.unwrap();
        if round % 5 == 0 {
            probe.poll().await;
        }
    }
    let families = probe.poll().await;
    let view = admin
        .query_one(
            "SELECT sum(plans)::int8, sum(total_plan_time) / 1e3, max(max_plan_time) / 1e3 \
             FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE datname = 'shop'",
            &[],
        )
        .await
        .unwrap();
    let (plans, seconds, longest): (i64, f64, f64) = (view.get(0), view.get(1), view.get(2));
    assert!(plans >= 60, "{plans}");
    let got = histogram(&families, "pg_query_planning_duration_seconds", &["shop"]).unwrap();
    assert_eq!(got.count, u64::try_from(plans).unwrap());
    assert!((got.sum - seconds).abs() < 1e-9, "{} for {seconds}", got.sum);
    let p99 = number(&families, "pg_query_planning_latency_seconds", &["shop", "1m", "0.99"]);
    let p99 = p99.unwrap();
    assert!((longest / 2.0..longest * 1.1).contains(&p99), "{p99}, the longest is {longest}");
}

#[tokio::test]
async fn resets_and_an_eviction_storm_lower_nothing_and_add_nothing() {
    // 100 is the least that pg_stat_statements.max can be.
    let cluster = common::server_with(&[("pg_stat_statements.max", "100")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    let mut before = probe.poll().await;
    let base = calls_in(&before, "postgres");
    let mut sent = 0;
    for round in 0..12u32 {
        for i in 1..=400 {
            // Each number of columns is a statement of its own.
            let columns = vec!["1"; 1 + (i * 7 + round as usize) % 400].join(",");
            admin.simple_query(&format!("SELECT {columns}")).await.unwrap();
            sent += 1;
        }
        if round == 6 {
            admin.simple_query("SELECT pg_stat_statements_reset()").await.unwrap();
        }
        let after = probe.poll().await;
        assert_nothing_fell(&before, &after);
        before = after;
    }
    // Beside ours there are a handful of its own statements in each poll.
    let counted = calls_in(&before, "postgres") - base;
    assert!((500..=sent + 12 * 20).contains(&counted), "{counted} of {sent}");
    // Before PostgreSQL 14 the view does not tell.
    if probe.session.server().major() >= 14 {
        let dealloc = number(&before, "pg_stat_statements_dealloc_total", &[]).unwrap();
        let view = "SELECT dealloc FROM pg_stat_statements_info";
        let view: i64 = admin.query_one(view, &[]).await.unwrap().get(0);
        // Asking may evict another row.
        assert!(dealloc > 0.0 && dealloc <= view as f64, "{dealloc} {view}");
        // Each takes ten rows or more; most came and went between two readings.
        let evicted = number(&before, "pg_stat_statements_evicted_entries_total", &[]).unwrap();
        assert!((200.0..=12.0 * 110.0).contains(&evicted), "{evicted}");
        assert_eq!(number(&before, "pg_stat_statements_resets_total", &[]), Some(1.0));
    }
    assert_eq!(number(&before, "pg_stat_statements_max_entries", &[]), Some(100.0));
    let entries = number(&before, "pg_stat_statements_entries", &[]).unwrap();
    assert!((50.0..=110.0).contains(&entries), "{entries}");
}

#[tokio::test]
async fn a_restart_and_another_server_lower_nothing_and_make_no_spike() {
    let mut cluster = common::server().await;
    let other = common::server().await;
    for (cluster, times) in [(&cluster, 50), (&other, 900)] {
        let client = common::admin(cluster, "postgres").await;
        for _ in 0..times {
            client.simple_query("SELECT 1 AS probe").await.unwrap();
        }
    }
    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    probe.poll().await;
    let client = common::admin(&cluster, "postgres").await;
    for _ in 0..10 {
        client.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let first = probe.poll().await;
    assert!((10..30).contains(&calls_in(&first, "postgres")), "{}", calls_in(&first, "postgres"));

    cluster.restart().await.unwrap();
    probe.reconnect(&common::connect(&cluster, "mon")).await;
    let second = probe.poll().await;
    assert_nothing_fell(&first, &second);
    let client = common::admin(&cluster, "postgres").await;
    for _ in 0..10 {
        client.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let third = probe.poll().await;
    assert_nothing_fell(&second, &third);
    let more = calls_in(&third, "postgres") - calls_in(&second, "postgres");
    assert!((10..30).contains(&more), "{more} calls after the restart");

    probe.reconnect(&common::connect(&other, "mon")).await;
    let moved = probe.poll().await;
    assert_nothing_fell(&third, &moved);
    let more = calls_in(&moved, "postgres") - calls_in(&third, "postgres");
    assert!(more < 20, "{more} calls of another server's history");
    let client = common::admin(&other, "postgres").await;
    for _ in 0..10 {
        client.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let last = probe.poll().await;
    assert_nothing_fell(&moved, &last);
    let more = calls_in(&last, "postgres") - calls_in(&moved, "postgres");
    assert!((10..30).contains(&more), "{more} calls after the failover");
}

/// The error of a first poll.
async fn refusal(connect: &Connect) -> CollectError {
    let settings = Arc::new(common::settings());
    let session = Session::connect(connect, None, settings, Clock::start()).await.unwrap();
    Statements.fetch(&session, &State::default()).await.unwrap_err()
}

#[tokio::test]
async fn what_is_missing_is_named_with_its_remedy() {
    let cluster = common::server_with(&[("shared_preload_libraries", "")], &[]).await;
    let connect = common::connect(&cluster, "mon");
    let unloaded = refusal(&connect).await;
    assert!(matches!(unloaded, CollectError::Missing { .. }), "{unloaded}");
    let text = unloaded.to_string();
    assert!(text.contains("shared_preload_libraries") && text.contains("restart"), "{text}");

    let absent = refusal(&Connect { dbname: "template1".to_owned(), ..connect }).await;
    assert!(matches!(absent, CollectError::Missing { .. }), "{absent}");
    let text = absent.to_string();
    assert!(text.contains("template1") && text.contains("CREATE EXTENSION"), "{text}");
}

#[tokio::test]
async fn an_old_extension_is_asked_to_update_and_1_8_works() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let create = |version: &str| {
        format!(
            "DROP EXTENSION pg_stat_statements; \
             CREATE EXTENSION pg_stat_statements VERSION '{version}'"
        )
    };
    admin.batch_execute(&create("1.7")).await.unwrap();
    let old = refusal(&common::connect(&cluster, "mon")).await;
    assert!(old.to_string().contains("ALTER EXTENSION pg_stat_statements UPDATE"), "{old}");

    admin.batch_execute(&create("1.8")).await.unwrap();
    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    probe.poll().await;
    for _ in 0..10 {
        admin.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let families = probe.poll().await;
    let calls = calls_in(&families, "postgres");
    assert!((10..30).contains(&calls), "{calls}");
    assert_eq!(number(&families, "pg_stat_statements_dealloc_total", &[]), None);
    assert_eq!(number(&families, "pg_stat_statements_evicted_entries_total", &[]), None);
    // Not tracked unless the server is told to.
    let planning = histogram(&families, "pg_query_planning_duration_seconds", &["postgres"]);
    assert_eq!(planning, None);
}

#[tokio::test]
async fn hostile_names_come_out_as_they_are() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    // 63 bytes each: quotes, a backslash, a newline, a dollar and letters of two and three bytes.
    let name = |text: String| common::shared_name(&cluster, &text);
    let datname = name(format!("d\"b'\\\n$1{}{}", "é".repeat(8), "漢".repeat(12 + 1)));
    let rolname = name(format!("r\"o'\\\n$1{}{}", "ß".repeat(8), "字".repeat(12 + 1)));
    assert_eq!((datname.len(), rolname.len()), (63, 63));
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    admin.batch_execute(&format!("CREATE DATABASE {}", quote(&datname))).await.unwrap();
    admin.batch_execute(&format!("CREATE ROLE {} LOGIN", quote(&rolname))).await.unwrap();
    admin
        .batch_execute(&format!(
            "DROP EXTENSION pg_stat_statements; CREATE SCHEMA {0}; GRANT USAGE ON SCHEMA {0} TO mon; \
             CREATE EXTENSION pg_stat_statements SCHEMA {0}",
            quote(&datname)
        ))
        .await
        .unwrap();

    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    probe.poll().await;
    let client = common::client(&cluster, &rolname, &datname).await;
    client.simple_query("SELECT 1 AS probe").await.unwrap();
    probe.poll().await;
    for _ in 0..3 {
        client.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let families = probe.poll().await;
    assert_eq!(calls_in(&families, &datname), 4);
    let family = families.iter().find(|f| f.metric.name == "pg_stat_statements_calls_total");
    let sample = family
        .unwrap()
        .samples
        .iter()
        .find(|s| *s.labels[0] == *rolname && *s.labels[1] == *datname)
        .unwrap();
    assert_eq!(sample.value, Value::Number(4.0));
}

#[tokio::test]
async fn without_pg_monitor_hidden_rows_are_told_and_a_grant_brings_no_spike() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE plain LOGIN").await.unwrap();
    for _ in 0..1_000 {
        admin.simple_query("SELECT 1 AS probe").await.unwrap();
    }
    let mut probe = Probe::new(&cluster, "plain", common::settings()).await;
    let families = probe.poll().await;
    let hidden = number(&families, "pg_stat_statements_hidden_entries", &[]).unwrap();
    assert!(hidden >= 1.0, "{hidden}");
    admin.batch_execute("GRANT pg_monitor TO plain").await.unwrap();
    // What is known of the role is old: the poller does this.
    let old = Statements.fetch(&probe.session, &probe.state).await;
    assert!(matches!(old, Err(CollectError::Changed)), "{:?}", old.err());
    probe.session.refresh().await;
    let families = probe.poll().await;
    assert_eq!(number(&families, "pg_stat_statements_hidden_entries", &[]), Some(0.0));
    let calls = calls_in(&families, "postgres");
    assert!(calls < 20, "{calls} calls out of hiding");
}

/// Before 1.9 the view does not say which statements were nested: where they are tracked, nothing is told
/// by database, rather than each of them twice.
#[tokio::test]
async fn nested_statements_are_never_taken_for_top_level_ones() {
    let cluster = common::server_with(&[("pg_stat_statements.track", "all")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let shop = common::admin(&cluster, "shop").await;
    shop.batch_execute(
        "CREATE FUNCTION ten() RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN FOR i IN 1..10 LOOP PERFORM count(*) FROM pg_class; END LOOP; END $$",
    )
    .await
    .unwrap();
    let mut probe = Probe::new(&cluster, "mon", common::settings()).await;
    probe.poll().await;
    for _ in 0..3 {
        shop.batch_execute("SELECT ten()").await.unwrap();
    }
    probe.poll().await;
    let families = probe.poll().await;
    let told = histogram(&families, "pg_query_duration_seconds", &["shop"]).map(|h| h.count);
    let remarks = probe.session.take_remarks();
    let failed: Vec<String> = remarks.failed.iter().map(ToString::to_string).collect();
    if probe.session.server().major() < 14 {
        assert_eq!(told, None);
        assert!(
            failed.iter().all(|e| e.contains("track is all")) && !failed.is_empty(),
            "{failed:?}"
        );
    } else {
        assert_eq!(told, Some(3));
        assert_eq!(failed, [""; 0]);
    }
}
