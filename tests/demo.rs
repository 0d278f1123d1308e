//! The demo against a real PostgreSQL: its schema, its load, and that nothing of it stays behind.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod common;

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::{self, Cluster};
use pgrunway::cmd::demo::{self, DemoExporter, Load, QUERIES, Terminal, setup};
use pgrunway::config::{Config, Flags};
use pgrunway::pg::Admin;
use tokio::io::AsyncBufReadExt;
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// One test at a time: each checks that this process leaves nothing behind.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Folders and processes of clusters that `pid` started.
fn leftovers(pid: u32) -> Vec<String> {
    let mine = format!("pgrunway-{pid}-");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&mine) {
            found.push(name);
        }
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if line.contains(&mine) || cwd.to_string_lossy().contains(&mine) {
            found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Waits until nothing is left; a process that was told to go may take a moment.
async fn nothing_left(pid: u32) {
    let mut left = leftovers(pid);
    for _ in 0..100 {
        if left.is_empty() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
        left = leftovers(pid);
    }
    panic!("left behind: {left:#?}");
}

async fn database(expire_orders: bool) -> (Cluster, Admin, setup::DemoPartitions, Client) {
    let binaries = cluster::find_binaries().unwrap();
    let cluster = Cluster::start(&setup::cluster_options(binaries)).await.unwrap();
    let (admin, partitions) = setup::schema(&cluster, expire_orders).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    let client = common::admin(&cluster, setup::DATABASE).await;
    (cluster, admin, partitions, client)
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

async fn names(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

async fn refused(client: &Client, sql: &str) -> SqlState {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone()
}

/// The constraint that refuses a statement.
async fn constraint(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    error.constraint().or(error.column()).unwrap_or_default().to_owned()
}

const INDEXES: [&str; 19] = [
    "idx_orders_client_order_id",
    "idx_orders_created_at",
    "idx_orders_status",
    "idx_orders_symbol",
    "idx_orders_symbol_status",
    "idx_orders_user_id",
    "idx_trades_buyer_order",
    "idx_trades_buyer_user_executed",
    "idx_trades_buyer_user_id",
    "idx_trades_executed_at",
    "idx_trades_maker_flag",
    "idx_trades_seller_order",
    "idx_trades_seller_user_executed",
    "idx_trades_seller_user_id",
    "idx_trades_symbol",
    "idx_trades_symbol_executed_at",
    "idx_trades_symbol_time_volume",
    "orders_pkey",
    "trades_pkey",
];

#[tokio::test]
async fn the_schema_is_the_reports() {
    let _alone = ALONE.lock().await;
    let (cluster, _admin, partitions, db) = database(false).await;

    assert_eq!(partitions, setup::DemoPartitions { orders: 12, trades: 30 });
    let of = |table: &str| {
        format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass")
    };
    assert_eq!(number(&db, &of("orders")).await, 12);
    assert_eq!(number(&db, &of("trades")).await, 30);

    let roots =
        names(&db, "SELECT relname::text FROM pg_class WHERE relkind = 'I' ORDER BY 1").await;
    assert_eq!(roots, INDEXES);
    // Each partition has exactly the indexes of its table, each attached and valid.
    let incomplete = number(
        &db,
        "SELECT count(*) FROM pg_class p \
           JOIN pg_inherits h ON h.inhrelid = p.oid \
          WHERE p.relkind = 'r' AND (\
                SELECT count(*) FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid \
                 WHERE i.indrelid = p.oid AND i.indisvalid) \
             <> (SELECT count(*) FROM pg_index i WHERE i.indrelid = h.inhparent)",
    )
    .await;
    assert_eq!(incomplete, 0);
    assert_eq!(
        number(
            &db,
            "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
                     WHERE c.relispartition"
        )
        .await,
        12 * 7 + 30 * 12
    );
    assert_eq!(
        names(
            &db,
            "SELECT indexname::text FROM pg_indexes WHERE indexdef LIKE '%WHERE%' \
                    AND indexname LIKE 'idx%' ORDER BY 1"
        )
        .await,
        ["idx_orders_client_order_id", "idx_trades_buyer_order", "idx_trades_seller_order"]
    );

    assert_eq!(number(&db, "SELECT count(*) FROM orders").await, 500);
    assert_eq!(number(&db, "SELECT count(*) FROM trades").await, 5_000);
    assert_eq!(number(&db, "SELECT count(DISTINCT symbol) FROM trades").await, 5);
    assert_eq!(
        names(&db, "SELECT symbol FROM trades GROUP BY 1 ORDER BY count(*) DESC LIMIT 1").await,
        ["BTC/USDT"]
    );
    assert_eq!(number(&db, "SELECT count(*) FROM orders WHERE created_at > now()").await, 0);
    assert_eq!(number(&db, "SELECT count(*) FROM trades WHERE executed_at > now()").await, 0);
    // Eight months back and this one, which may be a minute old.
    let filled = number(&db, "SELECT count(DISTINCT tableoid) FROM orders").await;
    assert!((8..=9).contains(&filled), "{filled}");
    // Of the partitions: before 14 the parent has no estimate of its own.
    let estimate = "SELECT sum(c.reltuples)::int8 FROM pg_partition_tree('trades') t \
                    JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf";
    assert_eq!(number(&db, estimate).await, 5_000, "not analysed");

    // The ends, as plain SQL sees them.
    assert_eq!(
        number(
            &db,
            "SELECT (max(partition_end(inhrelid))::date - now()::date)::int8 \
                       FROM pg_inherits WHERE inhparent = 'trades'::regclass"
        )
        .await,
        30
    );
    assert_eq!(
        number(
            &db,
            "SELECT count(*) FROM (SELECT max(partition_end(inhrelid)) \
                       FROM pg_inherits WHERE inhparent = 'orders'::regclass) m(at) \
                      WHERE at = date_trunc('month', now()) + interval '4 months'"
        )
        .await,
        1
    );

    rules_hold(&db).await;
    functions_keep_the_partitions(&db).await;
    roles_have_no_more_than_they_need(&cluster).await;
    drop(cluster);
    nothing_left(std::process::id()).await;
}

async fn rules_hold(db: &Client) {
    let order = |values: &str| {
        format!(
            "INSERT INTO orders (user_id, symbol, side, type, status, quantity, price, \
             filled_quantity) VALUES ({values})"
        )
    };
    for (values, name) in [
        ("1, 'btc', 'BUY', 'LIMIT', 'OPEN', 1, 1, 0", "orders_symbol_check"),
        ("1, 'BTC/USDT', 'HOLD', 'LIMIT', 'OPEN', 1, 1, 0", "orders_side_check"),
        ("1, 'BTC/USDT', 'BUY', 'STOP', 'OPEN', 1, 1, 0", "orders_type_check"),
        ("1, 'BTC/USDT', 'BUY', 'LIMIT', 'open', 1, 1, 0", "orders_status_check"),
        ("1, 'BTC/USDT', 'BUY', 'LIMIT', 'OPEN', 0, 1, 0", "orders_quantity_check"),
        ("1, 'BTC/USDT', 'BUY', 'LIMIT', 'OPEN', 1, -1, 0", "orders_price_check"),
        ("1, 'BTC/USDT', 'BUY', 'LIMIT', 'OPEN', 1, 1, 2", "orders_filled_quantity_check"),
        ("1, 'BTC/USDT', 'BUY', 'LIMIT', 'FILLED', 1, 1, 0", "orders_filled_status_check"),
        ("NULL, 'BTC/USDT', 'BUY', 'LIMIT', 'OPEN', 1, 1, 0", "user_id"),
    ] {
        assert_eq!(constraint(db, &order(values)).await, name, "{values}");
    }
    // A limit order needs a price; `NULL > 0` alone would pass a CHECK.
    let without_price = order("1, 'BTC/USDT', 'BUY', 'LIMIT', 'OPEN', 1, NULL, 0");
    assert_eq!(constraint(db, &without_price).await, "orders_price_check");
    let trade = |values: &str| {
        format!(
            "INSERT INTO trades (symbol, price, quantity, buyer_user_id, seller_user_id, \
             is_buyer_maker) VALUES ({values})"
        )
    };
    for (values, name) in [
        ("'BTC', 1, 1, 1, 2, true", "trades_symbol_check"),
        ("'BTC/USDT', 0, 1, 1, 2, true", "trades_price_check"),
        ("'BTC/USDT', 1, -1, 1, 2, true", "trades_quantity_check"),
        ("'BTC/USDT', 1, 1, 7, 7, true", "trades_self_trade_check"),
        ("'BTC/USDT', 1, 1, 1, 2, NULL", "is_buyer_maker"),
    ] {
        assert_eq!(constraint(db, &trade(values)).await, name, "{values}");
    }

    let stale = "SELECT count(*) FROM orders WHERE updated_at > created_at";
    assert_eq!(number(db, stale).await, 0);
    let touched = db
        .execute("UPDATE orders SET client_order_id = 'x' WHERE symbol = 'XRP/USDT'", &[])
        .await
        .unwrap();
    assert!(touched > 0);
    assert_eq!(number(db, stale).await, i64::try_from(touched).unwrap());
}

async fn functions_keep_the_partitions(db: &Client) {
    let due =
        names(db, "SELECT to_char(now() + interval '30 days', '\"trades_\"YYYY_MM_DD')").await;
    assert_eq!(names(db, "SELECT create_trade_partition()").await, due);
    assert_eq!(names(db, "SELECT create_trade_partition()").await, [""; 0]);
    // A hole is fixed, also from a session in another zone.
    let hole =
        names(db, "SELECT to_char(now() + interval '3 days', '\"trades_\"YYYY_MM_DD')").await;
    db.batch_execute(&format!("DROP TABLE {}; SET timezone = 'Asia/Tokyo'", hole[0]))
        .await
        .unwrap();
    assert_eq!(names(db, "SELECT create_trade_partition()").await, hole);
    db.batch_execute("RESET timezone").await.unwrap();
    for nonsense in ["-1", "367", "NULL"] {
        let code = refused(db, &format!("SELECT create_trade_partition({nonsense})")).await;
        assert_eq!(code, SqlState::INVALID_PARAMETER_VALUE, "{nonsense}");
    }

    assert_eq!(names(db, "SELECT create_order_partition()").await, [""; 0]);
    let due = names(
        db,
        "SELECT to_char(date_trunc('month', now()) + interval '4 months', \
                                        '\"orders_\"YYYY_MM')",
    )
    .await;
    assert_eq!(names(db, "SELECT create_order_partition(4)").await, due);

    // 90 days and 91 days old at their start: the younger one still holds the 90th day.
    for age in [91, 90] {
        let sql = format!(
            "SELECT add_partition('trades', 'trades_old_{age}', \
             date_trunc('day', now()) - interval '{age} days', \
             date_trunc('day', now()) - interval '{} days')",
            age - 1
        );
        assert_eq!(names(db, &sql).await, [format!("trades_old_{age}")]);
    }
    assert_eq!(names(db, "SELECT drop_old_trade_partitions(90)").await, ["trades_old_91"]);
    assert_eq!(names(db, "SELECT drop_old_trade_partitions(90)").await, [""; 0]);
    assert_eq!(names(db, "SELECT drop_old_trade_partitions(1)").await, ["trades_old_90"]);
    for nonsense in ["0", "-90", "NULL"] {
        let code = refused(db, &format!("SELECT drop_old_trade_partitions({nonsense})")).await;
        assert_eq!(code, SqlState::INVALID_PARAMETER_VALUE, "{nonsense}");
    }
    assert_eq!(number(db, "SELECT count(*) FROM trades").await, 5_000);
}

async fn roles_have_no_more_than_they_need(cluster: &Cluster) {
    let app = common::client(cluster, setup::APP, setup::DATABASE).await;
    let denied = refused(&app, "DELETE FROM trades").await;
    assert_eq!(denied, SqlState::INSUFFICIENT_PRIVILEGE);
    let exporter = common::client(cluster, setup::EXPORTER, setup::DATABASE).await;
    let denied = refused(&exporter, "SELECT 1 FROM trades").await;
    assert_eq!(denied, SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(
        names(
            &exporter,
            "SELECT r.rolname::text FROM pg_auth_members m \
               JOIN pg_roles r ON r.oid = m.roleid \
               JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = current_user"
        )
        .await,
        ["pg_monitor"]
    );
}

#[tokio::test]
async fn expired_orders_ended_22_days_ago_and_refuse_inserts() {
    let _alone = ALONE.lock().await;
    let (cluster, _admin, partitions, db) = database(true).await;
    assert_eq!(partitions, setup::DemoPartitions { orders: 12, trades: 30 });
    assert_eq!(number(&db, "SELECT count(*) FROM orders").await, 500);
    let ended = "SELECT count(*) FROM (SELECT max(partition_end(inhrelid)) FROM pg_inherits \
                 WHERE inhparent = 'orders'::regclass) m(at) \
                 WHERE at = date_trunc('day', now()) - interval '22 days'";
    assert_eq!(number(&db, ended).await, 1);
    let insert = "INSERT INTO orders (user_id, symbol, side, type, quantity, price) \
                  VALUES (1, 'BTC/USDT', 'BUY', 'LIMIT', 1, 1)";
    assert_eq!(refused(&db, insert).await, SqlState::CHECK_VIOLATION);

    // The load goes on, and says what fails.
    let app = setup::connect(&cluster, setup::APP, setup::DATABASE);
    let load = Load::start(&app, 400.0, 1);
    let failing = "insert into orders: no partition of relation \"orders\" found for row (23514)";
    until("the load counts the failure", || {
        load.tally().errors().get(failing).is_some_and(|n| *n >= 3) && load.tally().queries() > 100
    })
    .await;
    assert_eq!(load.tally().errors().len(), 1, "{:?}", load.tally().errors());
    assert!(load.tally().inserts() > 0, "trades are still inserted");
    drop(load);

    // Mended by the function, from the day after the end and without a gap.
    assert!(names(&db, "SELECT create_order_partition()").await.len() >= 4);
    db.batch_execute(insert).await.unwrap();
    drop(cluster);
    nothing_left(std::process::id()).await;
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 60 s: {what}");
}

#[tokio::test]
async fn the_load_keeps_its_rate_and_outlives_a_restart() {
    let _alone = ALONE.lock().await;
    let (mut cluster, _admin, _, db) = database(false).await;
    let app = setup::connect(&cluster, setup::APP, setup::DATABASE);
    let load = Load::start(&app, 100.0, 1);
    let began = Instant::now();
    until("500 queries", || load.tally().queries() >= 500).await;
    // 5 s expected; five standard deviations of a Poisson count. However busy the machine, no call comes
    // before it is due, none is given up, and none is late by more than the latencies show.
    let (tally, took) = (load.tally(), began.elapsed().as_secs_f64());
    assert!(took > 3.8, "500 queries in {took} s at 100/s");
    assert_eq!(tally.missed(), 0);
    let late = tally.latencies().all.max().as_secs_f64();
    let least = 106.0 * (took - late - 0.1);
    let done = (tally.queries() + tally.inserts()) as f64;
    assert!(done > least - 5.0 * least.max(0.0).sqrt(), "{done} calls in {took} s, {late} s late");
    assert_eq!(load.tally().errors().len(), 0, "{:?}", load.tally().errors());
    assert!(load.tally().inserts() > 5);

    // Each query is one entry, found by its marker, and was prepared once per connection.
    for query in &QUERIES {
        let found = format!(
            "SELECT count(*) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
             WHERE r.rolname = 'app' AND calls > 5 AND position('{}' IN query) > 0",
            query.marker()
        );
        assert_eq!(number(&db, &found).await, 1, "{}", query.title());
    }

    cluster.restart().await.unwrap();
    let before = load.tally().queries();
    until("queries after the restart", || load.tally().queries() > before + 200).await;
    let errors = load.tally().errors();
    assert!(!errors.is_empty(), "a restart must show");
    drop(load);
    drop(cluster);
    nothing_left(std::process::id()).await;
}

/// A writer that the test can read while the demo writes.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn options() -> demo::DemoOptions {
    options_at(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn options_at(listen: SocketAddr) -> demo::DemoOptions {
    let config = demo::configure(&Flags::default(), &pgrunway::cmd::known()).unwrap();
    let config = config.with_listen(vec![listen]);
    demo::DemoOptions {
        rate: 50.0,
        expire_orders: false,
        config,
        binaries: None,
        seed: 1,
        scale: demo::Scale::default(),
    }
}

/// An exporter that only listens; what is tested here comes before the first scrape.
async fn listening(config: Config) -> anyhow::Result<DemoExporter> {
    assert_eq!(config.connect().user, "pgrunway");
    let listener = TcpListener::bind(config.listen()[0])?;
    Ok(DemoExporter { addr: listener.local_addr()?, stop: Box::pin(async move { drop(listener) }) })
}

async fn run(
    options: demo::DemoOptions,
    start: impl AsyncFnOnce(Config) -> anyhow::Result<DemoExporter>,
    stop: impl Future<Output = ()>,
) -> (anyhow::Result<()>, String) {
    let out = Shared::default();
    let result = demo::run_until(options, Terminal::PLAIN, out.clone(), start, stop).await;
    (result, out.text())
}

#[tokio::test]
async fn starts_says_how_to_connect_and_removes_everything() {
    let _alone = ALONE.lock().await;
    let out = Shared::default();
    let seen = out.clone();
    let stop = async move {
        until("the demo has started", || seen.text().contains("Ctrl-C ends")).await;
        let text = seen.text();
        let command = text.lines().find_map(|line| line.strip_prefix("psql        ")).unwrap();
        let answer = tokio::process::Command::new("sh")
            .args(["-c", &format!("{command} -Atc 'SELECT count(*) FROM orders'")])
            .output()
            .await
            .unwrap();
        let orders: i64 = String::from_utf8_lossy(&answer.stdout).trim().parse().unwrap();
        assert!(orders >= 500, "{answer:?}");
    };
    demo::run_until(options(), Terminal::PLAIN, out.clone(), listening, stop).await.unwrap();
    let text = out.text();
    let steps: Vec<&str> =
        text.lines().filter_map(|l| l.split_whitespace().next()).take(5).collect();
    assert_eq!(steps, ["PostgreSQL", "cluster", "schema", "data", "exporter"], "{text}");
    assert!(text.contains("partitions: 12 of orders, 30 of trades ("), "{text}");
    assert!(text.contains("500 orders, 5000 trades ("), "{text}");
    let console = text.find("console     http://127.0.0.1:").expect("the console's address");
    assert!(text.find("metrics     http://127.0.0.1:").is_some_and(|at| console < at), "{text}");
    assert!(text.trim_end().ends_with("is removed"), "{text}");
    nothing_left(std::process::id()).await;
}

#[tokio::test]
async fn a_start_that_fails_or_is_stopped_leaves_nothing() {
    let _alone = ALONE.lock().await;
    let never = std::future::pending::<()>;

    // At the last step.
    let failing = async |_: Config| anyhow::bail!("no exporter today");
    let (result, _) = run(options(), failing, never()).await;
    assert_eq!(format!("{:#}", result.unwrap_err()), "no exporter today");
    assert_eq!(leftovers(std::process::id()), [""; 0]);

    // When the server does not like its settings.
    let mut bad = setup::cluster_options(cluster::find_binaries().unwrap());
    bad.settings.push(("shared_buffers".to_owned(), "many".to_owned()));
    let error = format!("{:#}", Cluster::start(&bad).await.unwrap_err());
    assert!(error.contains("shared_buffers"), "{error}");
    assert_eq!(leftovers(std::process::id()), [""; 0]);

    // While initdb runs, while the server starts, and later.
    for milliseconds in [5, 100, 400, 1_000, 2_000] {
        let (result, text) =
            run(options(), listening, sleep(Duration::from_millis(milliseconds))).await;
        assert!(result.is_ok() && text.contains("stopped"), "{result:?} {text}");
        nothing_left(std::process::id()).await;
    }

    // In a panic.
    let panicking = async |_: Config| panic!("a defect");
    let task = tokio::task::LocalSet::new();
    let joined = task.run_until(async {
        tokio::task::spawn_local(async move { run(options(), panicking, never()).await }).await
    });
    assert!(joined.await.unwrap_err().is_panic());
    assert_eq!(leftovers(std::process::id()), [""; 0]);
}

#[tokio::test]
async fn mistakes_are_named_before_anything_is_made() {
    let _alone = ALONE.lock().await;
    let never = std::future::pending::<()>;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (result, text) = run(options_at(addr), listening, never()).await;
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.starts_with(&format!("--web.listen-address={addr}: cannot listen")), "{error}");
    assert_eq!(text, "\nstopped\n");

    let (result, _) =
        run(demo::DemoOptions { rate: f64::NAN, ..options() }, listening, never()).await;
    assert!(format!("{:#}", result.unwrap_err()).starts_with("--rate=NaN: "));

    let binaries = Some(PathBuf::from("/nowhere"));
    let (result, _) = run(demo::DemoOptions { binaries, ..options() }, listening, never()).await;
    let error = format!("{:#}", result.unwrap_err());
    assert_eq!(error, "/nowhere holds no initdb and postgres");
    assert_eq!(leftovers(std::process::id()), [""; 0]);
}

#[tokio::test]
async fn sweeps_orphans_and_nothing_else() {
    let _alone = ALONE.lock().await;
    let live = common::server().await;
    // No pid is above the kernel's limit of 2^22.
    let folder = |n: u32| std::env::temp_dir().join(format!("pgrunway-{}-{n}", 1 << 23));
    let (orphan, stranger, wrong_name) =
        (folder(1), folder(2), std::env::temp_dir().join(format!("pgrunaway-{}", 1 << 23)));
    for dir in [&orphan, &stranger, &wrong_name] {
        std::fs::create_dir_all(dir.join("data")).unwrap();
    }
    std::fs::write(orphan.join("owner.lock"), "").unwrap();
    std::fs::write(wrong_name.join("owner.lock"), "").unwrap();
    // A pid file is not believed: this one names us.
    std::fs::write(orphan.join("data/postmaster.pid"), std::process::id().to_string()).unwrap();

    let swept = cluster::sweep().unwrap();
    assert!(swept.contains(&orphan), "{swept:?}");
    assert!(!orphan.exists() && stranger.exists() && wrong_name.exists());
    assert!(live.socket_dir().exists());
    common::admin(&live, "postgres").await;
    for dir in [&stranger, &wrong_name] {
        std::fs::remove_dir_all(dir).unwrap();
    }
    drop(live);
    nothing_left(std::process::id()).await;
}

/// The real binary, ended by each signal, SIGKILL included.
#[tokio::test]
async fn the_binary_cleans_up_on_every_signal() {
    use nix::sys::signal::{Signal, kill};
    let _alone = ALONE.lock().await;
    for (signal, halfway) in [
        (Signal::SIGTERM, false),
        (Signal::SIGINT, false),
        (Signal::SIGHUP, true),
        (Signal::SIGTERM, true),
        (Signal::SIGKILL, false),
        (Signal::SIGKILL, true),
    ] {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_pgrunway"))
            .args(["demo", "--web.listen-address=127.0.0.1:0"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = child.id().unwrap();
        let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = if halfway { "PostgreSQL" } else { "Ctrl-C ends" };
        loop {
            let line = lines.next_line().await.unwrap().expect("the demo ended early");
            if line.contains(wanted) {
                break;
            }
        }
        sleep(Duration::from_millis(200)).await;
        assert!(!leftovers(pid).is_empty(), "nothing to clean up yet");
        kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(15), child.wait()).await.unwrap();
        assert_eq!(status.unwrap().success(), signal != Signal::SIGKILL, "{signal}");
        nothing_left(pid).await;
    }
}
