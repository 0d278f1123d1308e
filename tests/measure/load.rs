//! The load: the report's five queries, an UPDATE of one row and a heavy aggregate, each at several
//! rates, and what disturbs them.
//!
//! A role for each rate makes each rate a statement of its own in the view.
//!
//! Must not: call anything but SELECT and UPDATE in a loop, since `auto_explain` logs no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pgrunway::cmd::cluster::{Cluster, Options, find_binaries};
use pgrunway::cmd::demo::setup;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::truth::{Key, LINE_PREFIX};
use crate::common;

/// What goes on beside the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Nothing.
    Steady,
    /// A session holds the row for 50 to 400 ms, again and again.
    Locks,
    /// Lookups all over a table that is larger than the cache.
    Eviction,
    /// Aggregates take all cores for a second or two, three at a time.
    Bursts,
    /// Resets, evictions and a restart of the server.
    Chaos,
    /// Only what is called every other second.
    Idle,
    /// Nothing at all.
    Quiet,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Locks => "row locks",
            Self::Eviction => "IO eviction",
            Self::Bursts => "stalls",
            Self::Chaos => "chaos",
            Self::Idle => "idle",
            Self::Quiet => "quiet",
        }
    }
}

const ACTIVE: &str = include_str!("../../src/cmd/trading/queries/1_active_orders.sql");
const RECENT: &str = include_str!("../../src/cmd/trading/queries/2_recent_trades.sql");
const VOLUME: &str = include_str!("../../src/cmd/trading/queries/3_volume.sql");
const STATISTICS: &str = include_str!("../../src/cmd/trading/queries/4_statistics.sql");
const BOOK: &str = include_str!("../../src/cmd/trading/queries/5_order_book.sql");
const UPDATE: &str = "UPDATE account SET balance = balance + 1 WHERE id = 1";
const HEAVY: &str = "SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY price), \
     sum(quantity * price) FROM trades GROUP BY symbol";
const HOLD: &str = "UPDATE account SET balance = balance WHERE id = 1 RETURNING pg_sleep($1)";
const EVICT: &str = "SELECT sum(v) FROM big WHERE id = ANY ($1)";
const BURST: &str = "SELECT sum(sqrt(g::float8 * h)) FROM generate_series(1, $1::int) g, \
     generate_series(1, 1000) h";

const BIG: i32 = 300_000;
const SYMBOLS: [&str; 5] = ["BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT"];

/// Role, statement, calls a second, connections.
const LOAD: &[(&str, &str, f64, u32)] = &[
    ("app_1", ACTIVE, 0.6, 1),
    ("app_1", RECENT, 0.6, 1),
    ("app_1", VOLUME, 0.6, 1),
    ("app_1", STATISTICS, 0.6, 1),
    ("app_1", BOOK, 0.6, 1),
    ("app_1", UPDATE, 0.6, 1),
    ("app_1", HEAVY, 0.6, 1),
    ("app_10", ACTIVE, 5.0, 1),
    ("app_10", RECENT, 5.0, 1),
    ("app_10", VOLUME, 5.0, 1),
    ("app_10", STATISTICS, 5.0, 1),
    ("app_10", BOOK, 5.0, 1),
    ("app_10", UPDATE, 5.0, 2),
    ("app_10", HEAVY, 2.0, 1),
    ("app_100", ACTIVE, 50.0, 1),
    ("app_100", RECENT, 50.0, 1),
    ("app_100", BOOK, 50.0, 1),
    ("app_100", UPDATE, 50.0, 6),
    ("app_1000", ACTIVE, 400.0, 2),
    ("app_1000", STATISTICS, 200.0, 2),
];
/// The role of what disturbs.
const NOISE: &str = "app_noise";

/// Where the server is, for those who may have to come again.
#[derive(Clone)]
pub struct Place(tokio_postgres::Config);

impl Place {
    pub fn of(cluster: &Cluster) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host_path(cluster.socket_dir()).port(cluster.port());
        Self(config)
    }

    pub async fn connect(&self, user: &str, dbname: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = self.0.clone();
        let (client, connection) =
            config.user(user).dbname(dbname).connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Every execution is logged, with its queryid, in files of a size that can be deleted soon.
pub fn cluster_options() -> Options {
    let mut options = setup::cluster_options(find_binaries().expect("PostgreSQL is needed"));
    options.kept = Some(env!("CARGO_TARGET_TMPDIR").into());
    for (name, value) in [
        ("shared_preload_libraries", "pg_stat_statements,auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "off"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_nested_statements", "off"),
        ("auto_explain.sample_rate", "1"),
        ("logging_collector", "on"),
        ("log_directory", "log"),
        ("log_filename", "pg-%Y%m%d%H%M%S.log"),
        ("log_rotation_age", "0"),
        ("log_rotation_size", "32MB"),
        ("log_line_prefix", LINE_PREFIX),
        ("max_connections", "80"),
        ("shared_buffers", "16MB"),
        ("pg_stat_statements.max", "500"),
        ("jit", "off"),
    ] {
        options.settings.push((name.to_owned(), value.to_owned()));
    }
    options
}

/// Roles, the row that is fought over, and a table larger than the cache.
pub async fn prepare(cluster: &Cluster) {
    let client = common::admin(cluster, setup::DATABASE).await;
    for role in ["app_1", "app_10", "app_100", "app_1000", NOISE] {
        client.batch_execute(&format!("CREATE ROLE {role} LOGIN IN ROLE app")).await.unwrap();
    }
    let sql = format!(
        "CREATE TABLE account (id int PRIMARY KEY, balance numeric) WITH (fillfactor = 10);
         INSERT INTO account SELECT n, 0 FROM generate_series(1, 100) n;
         CREATE TABLE big (id int PRIMARY KEY, v float8, pad text);
         INSERT INTO big SELECT n, n, repeat('x', 150) FROM generate_series(1, {BIG}) n;
         GRANT SELECT, UPDATE ON account, big TO app; VACUUM ANALYZE account, big"
    );
    for statement in sql.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
}

/// Calls and milliseconds of each statement of ours, by the view.
pub async fn totals(client: &Client) -> BTreeMap<Key, (u64, f64)> {
    let sql = "SELECT r.rolname::text, s.queryid, s.calls, s.total_exec_time \
               FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
               WHERE r.rolname LIKE 'app\\_%' AND s.query !~ '^SET '";
    let rows = client.query(sql, &[]).await.unwrap();
    let calls = |n: i64| u64::try_from(n).unwrap();
    rows.iter().map(|r| ((r.get(0), r.get(1)), (calls(r.get(2)), r.get(3)))).collect()
}

/// So many different statements that those that are seldom called are evicted: one eviction removes a twentieth of 500,
/// each makes a hundredth of what calls are worth be forgotten.
pub async fn evict(client: &Client) {
    const DIGITS: [&str; 3] = ["1", "'x'::text", "1.5"];
    for batch in 0..19_000u32 / 500 {
        let statements = (batch * 500..(batch + 1) * 500).map(|i| {
            let columns: Vec<&str> =
                (0..9).map(|digit| DIGITS[(i / 3u32.pow(digit) % 3) as usize]).collect();
            format!("SELECT {}", columns.join(", "))
        });
        client.batch_execute(&statements.collect::<Vec<_>>().join(";")).await.unwrap();
    }
}

/// Resets all.
pub async fn reset(client: &Client) {
    client.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
}

/// Resets one row of each role, and, where that is possible (from 1.11 on), the extremes of the others.
pub async fn reset_one(client: &Client) {
    let one = "SELECT pg_stat_statements_reset(userid, dbid, min(queryid)) FROM pg_stat_statements s \
                 JOIN pg_roles r ON r.oid = userid WHERE rolname LIKE 'app\\_%' GROUP BY userid, dbid";
    client.batch_execute(one).await.unwrap();
    let extremes = "SELECT count(*) > 0 FROM pg_proc WHERE proname = 'pg_stat_statements_reset' \
                    AND pronargs = 4";
    if client.query_one(extremes, &[]).await.unwrap().get(0) {
        let reset = "SELECT pg_stat_statements_reset(0, 0, 0, true)";
        client.batch_execute(reset).await.unwrap();
    }
}

/// A running load.
pub struct Load {
    phase: Arc<AtomicU8>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts all connections.
    pub async fn start(cluster: &Cluster) -> Self {
        let phase = Arc::new(AtomicU8::new(Phase::Steady as u8));
        let mut tasks = JoinSet::new();
        let mut seed = 0;
        for (role, sql, rate, connections) in LOAD {
            for _ in 0..*connections {
                seed += 1;
                let rate = rate / f64::from(*connections);
                tasks.spawn(calls(Place::of(cluster), role, sql, rate, phase.clone(), seed));
            }
        }
        let noise = || common::client(cluster, NOISE, setup::DATABASE);
        tasks.spawn(locks(noise().await, phase.clone()));
        tasks.spawn(evictions(noise().await, phase.clone()));
        tasks.spawn(bursts([noise().await, noise().await, noise().await], phase.clone()));
        Self { phase, tasks }
    }

    /// Changes what goes on beside it.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Stops between two calls: a call that was cut off is in the log or the view alone.
    pub async fn stop(mut self) {
        self.phase.store(STOP, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
    }
}

const STOP: u8 = u8::MAX;

/// Independent arrivals on a schedule of their own. What is late by more than a second is left out. A session that the
/// server ended is followed by another.
async fn calls(place: Place, role: &str, sql: &str, rate: f64, phase: Arc<AtomicU8>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while phase.load(Ordering::Relaxed) != STOP {
        if let Ok(client) = place.connect(role, setup::DATABASE).await {
            let ended = call(&client, sql, rate, &phase, &mut rng).await;
            if let Err(e) = ended {
                assert!(e.is_closed() || e.code().is_some_and(ends_a_session), "{e:?}");
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn ends_a_session(code: &SqlState) -> bool {
    [&SqlState::ADMIN_SHUTDOWN, &SqlState::CANNOT_CONNECT_NOW, &SqlState::CRASH_SHUTDOWN]
        .contains(&code)
}

async fn call(
    client: &Client,
    sql: &str,
    rate: f64,
    phase: &AtomicU8,
    rng: &mut StdRng,
) -> Result<(), tokio_postgres::Error> {
    let statement = client.prepare(sql).await?;
    let by_symbol = !statement.params().is_empty();
    let mut due = Instant::now();
    loop {
        due += Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / rate);
        due = due.max(Instant::now() - Duration::from_secs(1));
        sleep_until(due).await;
        match phase.load(Ordering::Relaxed) {
            STOP => return Ok(()),
            now if now == Phase::Quiet as u8 => continue,
            now if now == Phase::Idle as u8 && rate > 1.0 => continue,
            _ => {}
        }
        let symbol = SYMBOLS[rng.random_range(0..SYMBOLS.len())];
        match by_symbol {
            true => client.execute(&statement, &[&symbol]).await?,
            false => client.execute(&statement, &[]).await?,
        };
    }
}

/// Waits until the phase is on; false at the end.
async fn wait_for(phase: &AtomicU8, want: Phase) -> bool {
    loop {
        match phase.load(Ordering::Relaxed) {
            STOP => return false,
            now if now == want as u8 => return true,
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn locks(client: Client, phase: Arc<AtomicU8>) {
    let hold = client.prepare(HOLD).await.unwrap();
    let mut rng = StdRng::seed_from_u64(1_001);
    while wait_for(&phase, Phase::Locks).await {
        client.query(&hold, &[&rng.random_range(0.05..0.4)]).await.unwrap();
        sleep(Duration::from_secs_f64(rng.random_range(0.3..1.5))).await;
    }
}

async fn evictions(client: Client, phase: Arc<AtomicU8>) {
    let evict = client.prepare(EVICT).await.unwrap();
    let mut rng = StdRng::seed_from_u64(1_002);
    while wait_for(&phase, Phase::Eviction).await {
        let ids: Vec<i32> = (0..1_000).map(|_| rng.random_range(1..=BIG)).collect();
        client.query(&evict, &[&ids]).await.unwrap();
        sleep(Duration::from_millis(rng.random_range(50..400))).await;
    }
}

async fn bursts(clients: [Client; 3], phase: Arc<AtomicU8>) {
    let mut prepared = Vec::new();
    for client in &clients {
        prepared.push(client.prepare(BURST).await.unwrap());
    }
    let mut rng = StdRng::seed_from_u64(1_003);
    while wait_for(&phase, Phase::Bursts).await {
        let rows: i32 = rng.random_range(2_000..5_000);
        let burst = async |n: usize| clients[n].query(&prepared[n], &[&rows]).await;
        let (a, b, c) = tokio::join!(burst(0), burst(1), burst(2));
        for result in [a, b, c] {
            result.unwrap();
        }
        sleep(Duration::from_secs_f64(rng.random_range(4.0..8.0))).await;
    }
}
