//! From a fault in the database to the notification, and from its cure to the all-clear: a real
//! PostgreSQL, PgBouncer, pgrunway, Prometheus and Alertmanager with the configurations and rules that we ship.
//!
//! Of what is shipped only addresses are replaced, and `for:` is a sixtieth of what it says. Everything
//! else (intervals of polls, scrapes and evaluations, windows, grouping) is as users have it.
//!
//! Must not: change an expression, a threshold or a route.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use common::alertmanager::{Alertmanager, Webhook};
use common::http;
use common::pgbouncer::PgBouncer;
use common::process::{self, Process};
use common::prometheus::Prometheus;
use pgrunway::cmd::cluster::Cluster;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What `for:` is divided by.
const SCALE: u64 = 60;
/// Two notifications are a minute apart (`group_interval`); the rest is polls, scrapes, evaluations.
const LIMIT: Duration = Duration::from_secs(240);

fn shipped(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts").join(path))
        .unwrap()
}

/// Replaces what must be there exactly `times` times.
fn replaced(text: &str, from: &str, to: &str, times: usize) -> String {
    assert_eq!(text.matches(from).count(), times, "{from}");
    text.replace(from, to)
}

/// Seconds of a duration with one unit.
fn seconds(duration: &str) -> u64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("{duration}"),
    };
    number.parse::<u64>().unwrap() * unit
}

/// Copies the rules with `for:` divided, and nothing else changed; how long each alert waits as shipped.
fn scaled_rules(dir: &Path) -> Vec<(String, u64)> {
    let mut waits = Vec::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/rules");
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let (mut text, mut alert) = (String::new(), String::new());
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(name) = line.trim_start().strip_prefix("- alert: ") {
                name.clone_into(&mut alert);
            }
            match line.split_once("for: ") {
                Some((indent, wait)) if indent.trim().is_empty() => {
                    let wait = seconds(wait);
                    writeln!(text, "{indent}for: {}s", wait.div_ceil(SCALE)).unwrap();
                    waits.push((alert.clone(), wait));
                }
                _ => writeln!(text, "{line}").unwrap(),
            }
        }
        std::fs::write(dir.join(path.file_name().unwrap()), text).unwrap();
    }
    waits
}

/// How the clients of a database behave.
const HEALTHY: u8 = 0;
const FAULTY: u8 = 1;
const CURED: u8 = 2;

/// Clients that repeat a statement with parameters and a pause that depend on the mode.
struct Load {
    mode: Arc<AtomicU8>,
    _tasks: JoinSet<()>,
}

/// A statement's parameters, and the pause after it.
type Pace = fn(u8) -> (Vec<f64>, Duration);

impl Load {
    async fn start(cluster: &Cluster, dbname: &str, clients: u8, sql: &str, pace: Pace) -> Self {
        let mode = Arc::new(AtomicU8::new(HEALTHY));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let client = common::client(cluster, "app", dbname).await;
            let statement = client.prepare(sql).await.unwrap();
            let mode = mode.clone();
            tasks.spawn(async move {
                loop {
                    let (parameters, pause) = pace(mode.load(Ordering::Relaxed));
                    let parameters = parameters.iter().map(|p| p as _).collect::<Vec<_>>();
                    client.query(&statement, &parameters).await.unwrap();
                    sleep(pause).await;
                }
            });
        }
        Self { mode, _tasks: tasks }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::Relaxed);
    }
}

/// Clients of the pool, three for each of its connections, that hold one for a moment, or for two
/// seconds while idle.
struct Holders {
    long: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Holders {
    async fn start(pool: &PgBouncer) -> Self {
        let long = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let client = pool.client("app", "shop").await;
            let long = long.clone();
            tasks.spawn(async move {
                loop {
                    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
                    if long.load(Ordering::Relaxed) {
                        sleep(Duration::from_secs(2)).await;
                    }
                    client.batch_execute("COMMIT").await.unwrap();
                    sleep(Duration::from_millis(200)).await;
                }
            });
        }
        Self { long, _tasks: tasks }
    }

    fn hold(&self, long: bool) {
        self.long.store(long, Ordering::Relaxed);
    }
}

/// What must arrive, and how it must read.
struct Expected<'a> {
    alert: &'static str,
    severity: &'static str,
    /// The exporter's own page, if none.
    instance: Option<&'static str>,
    /// Beyond `alertname`, `severity`, `job` and `instance`.
    labels: Vec<(&'static str, &'static str)>,
    /// Without the instance, which stands where `@` is.
    summary: &'static str,
    /// What stands before and after the value.
    description: (&'a str, &'a str),
    /// Whether the value is a plausible one.
    value: fn(&str) -> bool,
}

/// When a fault began and what followed.
struct Course {
    /// Seconds from the fault to the evaluation that found it.
    fires: f64,
    alert: &'static str,
    page: Duration,
    clear: Duration,
}

fn percent(text: &str, low: f64, high: f64) -> bool {
    text.strip_suffix('%').is_some_and(|p| (low..high).contains(&p.parse::<f64>().unwrap()))
}

/// All that is running.
struct Stage {
    cluster: Cluster,
    pool: PgBouncer,
    exporter: Process,
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    webhook: Webhook,
    waits: Vec<(String, u64)>,
    _rules: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        // `orders` is a small part of shared buffers, `wide` several times as large as they are.
        let settings = [("shared_buffers", "64MB"), ("max_connections", "60")];
        let cluster = common::server_with(&settings, &[]).await;
        let admin = common::admin(&cluster, "postgres").await;
        admin.batch_execute("CREATE ROLE app LOGIN PASSWORD 'app'").await.unwrap();
        for (dbname, sql) in [("shop", ""), ("cold", COLD), ("trading", TRADING)] {
            admin.batch_execute(&format!("CREATE DATABASE {dbname}")).await.unwrap();
            common::admin(&cluster, dbname).await.batch_execute(sql).await.unwrap();
        }
        let shop = ["shop = SERVER dbname=shop"];
        let pool = PgBouncer::start(&cluster, &shop, &["default_pool_size = 2"]).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgrunway.yml");
        let targets = format!(
            "objectives: {{lock_wait: 5s}}\ntargets:\n- {{name: pooler, dsn: '{}'}}\n",
            pool.dsn("stats", "pgbouncer")
        );
        std::fs::write(&file, targets).unwrap();
        let file = format!("--config.file={}", file.display());
        let exporter = Process::serve(&cluster.uri("mon", "postgres"), &[&file]).await;

        let webhook = Webhook::start().await;
        let config = shipped("alertmanager.example.yml");
        let ours = format!("http://{}/", webhook.address);
        let config = replaced(&config, "http://localhost:9099/", &ours, 3);
        let alertmanager = Alertmanager::start(&config).await;

        let rules = tempfile::tempdir().unwrap();
        let waits = scaled_rules(rules.path());
        let config = shipped("prometheus.example.yml");
        let path = format!("- {}/*.yml", rules.path().display());
        let config = replaced(&config, "- rules/*.yml", &path, 1);
        let config = replaced(&config, "localhost:9093", &alertmanager.address.to_string(), 1);
        // What the example says in a comment, for several targets.
        let comment = "  #   http_sd_configs:\n  #     - url: http://localhost:9187/targets\n";
        assert!(config.contains(comment));
        let discovery =
            format!("http_sd_configs: [{{url: 'http://{}/targets'}}]", exporter.address);
        let statics = "static_configs:\n      - targets: ['localhost:9187']";
        let config = replaced(&config, statics, &discovery, 1);
        let prometheus = Prometheus::configured(&config, &[]).await;
        Self { cluster, pool, exporter, prometheus, alertmanager, webhook, waits, _rules: rules }
    }

    /// Waits for the notification of a fault that has just begun, cures it and waits for the all-clear.
    async fn course(&self, expected: Expected<'_>, cure: impl AsyncFnOnce()) -> Course {
        let (begun, begun_at) = (Instant::now(), jiff::Timestamp::now());
        let own = self.exporter.address.to_string();
        let instance = expected.instance.unwrap_or(&own);
        let mut labels = vec![
            ("alertname", expected.alert),
            ("severity", expected.severity),
            ("job", "pgrunway"),
            ("instance", instance),
        ];
        labels.extend(&expected.labels);
        let firing = self.webhook.wait("firing", &labels, LIMIT).await;
        let (notice, alert) = firing.unwrap_or_else(|e| panic!("{e}\n{}", self.alertmanager.log()));
        let page = notice.at - begun;
        let starts: jiff::Timestamp = alert["startsAt"].as_str().unwrap().parse().unwrap();
        let fires = starts.duration_since(begun_at).as_secs_f64();

        let at = expected.alert;
        let (path, receiver) = match expected.severity {
            "page" => ("/page", "pager"),
            _ => ("/team", "team"),
        };
        assert_eq!((&*notice.path, &notice.body["receiver"]), (path, &receiver.into()), "{at}");
        assert_eq!(alert["labels"].as_object().unwrap().len(), labels.len(), "{alert}");
        let said = |name: &str| alert["annotations"][name].as_str().unwrap();
        assert_eq!(said("summary"), expected.summary.replace('@', instance));
        let (before, after) = expected.description;
        let value = said("description").strip_prefix(before).and_then(|d| d.strip_suffix(after));
        let value = value.unwrap_or_else(|| panic!("{at}: {}", said("description")));
        assert!((expected.value)(value), "{at}: {value}");
        let runbook = format!("https://pgrunway.example/docs/runbooks/{at}.md");
        assert_eq!(said("runbook_url"), runbook);

        cure().await;
        let cured = Instant::now();
        let resolved = self.webhook.wait("resolved", &labels, LIMIT).await;
        let (notice, alert) = resolved.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((&*notice.path, &alert["labels"]["alertname"]), (path, &at.into()));
        Course { alert: at, fires, page, clear: notice.at - cured }
    }
}

/// One session holds a lock that three others wait for, until it is ended as its runbook says.
async fn blocked(stage: &Stage) -> Course {
    let root = common::client(&stage.cluster, "app", "shop").await;
    root.batch_execute("SET application_name = 'till'; BEGIN; SELECT pg_advisory_xact_lock(1)")
        .await
        .unwrap();
    let row = root.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    let pid: i32 = row.get(0);
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let client = common::client(&stage.cluster, "app", "shop").await;
        waiting.spawn(async move { client.batch_execute("SELECT pg_advisory_xact_lock(1)").await });
    }
    let before = format!(
        "3 sessions have waited for longer than the objectives (pg_blocked_sessions_objective, \
         pg_longest_lock_wait_objective_seconds) behind pid {pid} of app (idle in transaction, application \
         \"till\", queryid "
    );
    let expected = Expected {
        alert: "PostgresSessionsBlocked",
        severity: "page",
        instance: None,
        labels: vec![("datname", "shop")],
        summary: "A session in shop on @ blocks others",
        description: (
            &before,
            "), which blocks 3 in total; the exporter's status page has the tree.",
        ),
        value: |v| v == "unknown" || v.parse::<i64>().is_ok(),
    };
    let admin = common::admin(&stage.cluster, "postgres").await;
    let tree = format!("pid {pid} (app in shop, idle in transaction for ");
    let end = async || {
        // Who is paged finds the tree.
        let page = http::get(stage.exporter.address, "/activity").await.text();
        assert!(page.contains(&tree), "{tree}:\n{page}");
        assert_eq!(page.matches(" s for advisory ExclusiveLock").count(), 3, "{page}");
        admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let course = stage.course(expected, end).await;
    // The objective is 5 s, and two evaluations are 30 s; one more for a machine that is busy.
    assert!(course.fires <= 5.0 + 45.0, "{}", course.fires);
    while let Some(waited) = waiting.join_next().await {
        waited.unwrap().unwrap();
    }
    course
}

/// 20,000 pages of a row each, read through their index.
const COLD: &str = "
CREATE UNLOGGED TABLE wide (id int PRIMARY KEY, filler text) WITH (fillfactor = 10);
INSERT INTO wide SELECT n, repeat('x', 700) FROM generate_series(1, 20000) n;
CREATE FUNCTION look_up(among float8, times float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one int;
BEGIN
    FOR i IN 1..times LOOP
        one := 1 + floor(random() * among);
        PERFORM filler FROM wide WHERE id = one;
    END LOOP;
END $$;
GRANT SELECT ON wide TO app;
ANALYZE wide";

/// Daily partitions for 31 days from today, and a table of more than 10 MB and 10,000 rows.
const TRADING: &str = "
CREATE TABLE trades (executed_at timestamptz NOT NULL) PARTITION BY RANGE (executed_at);
DO $$
DECLARE
    day date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR n IN 0..30 LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF trades FOR VALUES FROM (%L) TO (%L)',
            'trades_' || to_char(day + n, 'YYYYMMDD'), (day + n) || ' 00:00:00+00',
            (day + n + 1) || ' 00:00:00+00');
    END LOOP;
END $$;
CREATE UNLOGGED TABLE orders (customer int, filler text) WITH (fillfactor = 20);
INSERT INTO orders SELECT n, repeat('x', 150) FROM generate_series(1, 12000) n;
CREATE INDEX orders_customer ON orders (customer);
CREATE FUNCTION buy(times float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one int;
BEGIN
    FOR i IN 1..times LOOP
        one := 1 + floor(random() * 12000);
        PERFORM FROM orders WHERE customer = one;
    END LOOP;
END $$;
GRANT SELECT ON orders TO app;
ANALYZE orders";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_told_to_whom_it_concerns_and_so_is_its_end() {
    let start = Instant::now();
    let stage = Stage::start().await;
    let (cluster, prometheus) = (&stage.cluster, &stage.prometheus);

    // The first parameter is what goes wrong, where it can: 80 ms, all pages, any customer.
    let sleeps = Load::start(cluster, "shop", 4, "SELECT pg_sleep($1)", |mode| match mode {
        HEALTHY => (vec![0.005], Duration::from_millis(45)),
        FAULTY => (vec![0.080], Duration::ZERO),
        _ => (vec![0.005], Duration::ZERO),
    });
    let sleeps = sleeps.await;
    let reads = Load::start(cluster, "cold", 1, "SELECT look_up($1, $2)", |mode| match mode {
        HEALTHY => (vec![200.0, 50.0], Duration::from_millis(100)),
        FAULTY => (vec![20_000.0, 50.0], Duration::from_millis(50)),
        _ => (vec![200.0, 300.0], Duration::from_millis(20)),
    });
    let reads = reads.await;
    let orders = Load::start(cluster, "trading", 1, "SELECT buy($1)", |mode| match mode {
        HEALTHY => (vec![1.0], Duration::from_millis(100)),
        FAULTY => (vec![1.0], Duration::from_millis(30)),
        _ => (vec![100.0], Duration::from_millis(20)),
    });
    let orders = orders.await;

    let holders = Holders::start(&stage.pool).await;

    // All is well, and known to be: nothing may be told.
    let mut healthy = Vec::new();
    for expr in [
        "pg_query_latency_seconds{datname=\"shop\", window=\"1m\", quantile=\"0.95\"} < 0.05",
        "pg_cache_hit_ratio{datname=\"cold\"} > 0.95",
        "pg_index_scan_ratio{relname=\"orders\"} > 0.9",
        "pg_stat_user_tables_table_size_bytes{relname=\"orders\"} > 10e6",
        "pg_partition_runway_seconds{relname=\"trades\"} > 7 * 86400",
        "pgbouncer_pools_client_maxwait_seconds{database=\"shop\"} < 1",
    ] {
        healthy.push(prometheus.wait(expr).await[0].1);
    }
    let notices = stage.webhook.notices();
    assert!(notices.is_empty(), "nothing is wrong: {notices:#?}");
    writeln!(std::io::stderr(), "healthy after {:?}: {healthy:?}", start.elapsed()).unwrap();

    let trading = common::admin(cluster, "trading").await;
    let days = "SELECT string_agg('DROP TABLE ' || quote_ident(inhrelid::regclass::text), '; ') \
                FROM (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'trades'::regclass \
                ORDER BY inhrelid::regclass::text OFFSET 3) later";
    let drops: String = trading.query_one(days, &[]).await.unwrap().get(0);

    let slow = async {
        sleeps.set(FAULTY);
        let expected = Expected {
            alert: "PostgresQueryLatencyHigh",
            severity: "page",
            instance: None,
            labels: vec![("datname", "shop"), ("window", "1m"), ("quantile", "0.95")],
            summary: "Queries in shop on @ are slow",
            description: (
                "The p95 execution time over the last minute is ",
                ", above the objective (pg_latency_objective_seconds).",
            ),
            value: |v| (70.0..160.0).contains(&v.strip_suffix("ms").unwrap().parse().unwrap()),
        };
        stage.course(expected, async || sleeps.set(CURED)).await
    };
    let cold = async {
        reads.set(FAULTY);
        let expected = Expected {
            alert: "PostgresCacheHitRatioLow",
            severity: "warning",
            instance: None,
            labels: vec![("datname", "cold")],
            summary: "Cache hit ratio of cold on @ is low",
            description: (
                "",
                " of block reads were found in shared buffers, below the objective \
                 (pg_cache_hit_ratio_objective).",
            ),
            value: |v| percent(v, 60.0, 95.0),
        };
        stage.course(expected, async || reads.set(CURED)).await
    };
    let scans = async {
        trading.batch_execute("DROP INDEX orders_customer").await.unwrap();
        orders.set(FAULTY);
        let expected = Expected {
            alert: "PostgresIndexScanRatioLow",
            severity: "warning",
            instance: None,
            labels: vec![("datname", "trading"), ("schemaname", "public"), ("relname", "orders")],
            summary: "public.orders in trading on @ is read by sequential scans",
            description: (
                "",
                " of its scans used an index, below the objective (pg_index_scan_ratio_objective).",
            ),
            value: |v| percent(v, 0.0, 90.0),
        };
        let index = async || {
            let sql = "CREATE INDEX CONCURRENTLY orders_customer ON orders (customer)";
            trading.batch_execute(sql).await.unwrap();
            orders.set(CURED);
        };
        stage.course(expected, index).await
    };
    let runway = async {
        trading.batch_execute(&drops).await.unwrap();
        let expected = Expected {
            alert: "PostgresPartitionRunwayShort",
            severity: "page",
            instance: None,
            labels: vec![("datname", "trading"), ("schemaname", "public"), ("relname", "trades")],
            summary: "public.trades in trading on @ runs out of partitions",
            description: (
                "Remaining runway: ",
                " (negative: time since coverage ended), less than pg_partition_runway_required_seconds. At \
                 its end inserts fail, or go into the DEFAULT partition.",
            ),
            value: |v| v.starts_with("2d "),
        };
        // By the runbook: what `pgrunway plan` prints.
        let plan = async || {
            let uri = cluster.uri("mon", "trading");
            let args = ["plan", "public.trades", "--days", "30"];
            let (code, sql, log) = process::run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
            assert_eq!(code, 0, "{log}");
            let (done, said) = common::psql(cluster, "trading", &sql).await;
            assert!(done, "{said}\n{sql}");
        };
        stage.course(expected, plan).await
    };
    let full = async {
        holders.hold(true);
        let expected = Expected {
            alert: "PgBouncerPoolExhausted",
            severity: "page",
            instance: Some("pooler"),
            labels: vec![("database", "shop"), ("user", "app")],
            summary: "The pool of app on shop of @ is exhausted",
            description: ("", " of its server connections are in use, and clients wait."),
            value: |v| v == "100%",
        };
        stage.course(expected, async || holders.hold(false)).await
    };
    let blocked = blocked(&stage);
    let (slow, cold, scans, runway, full, blocked) =
        tokio::join!(slow, cold, scans, runway, full, blocked);
    let courses = [slow, cold, scans, runway, full, blocked];

    let mut report = String::new();
    for Course { alert, fires, page, clear } in &courses {
        let wait = stage.waits.iter().find(|(name, _)| name == alert).map_or(0, |(_, wait)| *wait);
        writeln!(
            report,
            "{alert}: fires {fires:.0} s and is told {:.0} s after the fault began (for: {} s here, {wait} s as \
             shipped), its end {:.0} s after the cure",
            page.as_secs_f64(),
            wait.div_ceil(SCALE),
            clear.as_secs_f64(),
        )
        .unwrap();
    }
    // Past the capture of what a test prints: these figures are to be seen.
    writeln!(std::io::stderr(), "{report}in all {:.0} s", start.elapsed().as_secs_f64()).unwrap();

    // Nobody was told of what does not concern them, and nobody was paged for anything else.
    let mut expected: Vec<&str> = courses.iter().map(|c| c.alert).collect();
    // The first is muted while PgBouncerPoolExhausted is on, which may be a scrape behind it; the other is
    // of the slow queries too.
    expected.extend(["PgBouncerClientWaitLong", "PostgresLatencyBudgetBurnFast"]);
    for notice in stage.webhook.notices() {
        for alert in notice.body["alerts"].as_array().unwrap() {
            let labels = &alert["labels"];
            let to = match labels["severity"].as_str().unwrap() {
                "page" => "/page",
                "warning" => "/team",
                _ => "/notes",
            };
            assert_eq!(notice.path, to, "{labels}");
            let name = labels["alertname"].as_str().unwrap();
            assert!(to != "/page" || expected.contains(&name), "nobody planted this: {alert}");
        }
    }
}
