//! The demo's database on a new cluster: schema, roles, data.
//!
//! Must not: touch a server that the demo did not start.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::cmd::cluster::{self, Cluster};
use crate::cmd::trading::fill::{self, Fill, FillCounters};
use crate::cmd::trading::rows::{Amount, FilledSpan, RowSpread, TradeTable, days};
use crate::cmd::trading::{FUNCTIONS, SCHEMA, drive};
use crate::config::{Connect, Endpoint, Password, RootCert, SslMode, Timeouts};
use crate::pg::{Admin, Query, Row, columns};

/// Orders in the database before the load starts, unless more are asked for.
pub const ORDERS: u64 = 500;
/// Trades in the database before the load starts, unless more are asked for.
pub const TRADES: u64 = 5_000;
/// Name of the demo's database.
pub const DATABASE: &str = "trading";
/// Role of the load.
pub const APP: &str = "app";
/// Role of the exporter, with `pg_monitor` only.
pub const EXPORTER: &str = "pgrunway";

const EXTENSION: &str = "CREATE EXTENSION pg_stat_statements";
const ROLES: &str = include_str!("roles.sql");
const PARTITIONS: &str = include_str!("partitions.sql");
const HISTORY: &str = include_str!("history.sql");
const SPAN: &str = include_str!("span.sql");
/// Days whose partitions are made in one transaction: each takes some thirty locks.
const DAYS_AT_ONCE: u32 = 30;

/// How large the demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub orders: u64,
    pub trades: Amount,
    /// Days before today that have trades.
    pub history: u32,
    /// Connections of the load.
    pub clients: u16,
}

impl Default for Scale {
    fn default() -> Self {
        let trades = Amount::Total(TRADES);
        Self { orders: ORDERS, trades, history: 0, clients: drive::CONNECTIONS }
    }
}

/// Deadlines of the demo's own connections.
pub const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    statement: Duration::from_secs(30),
    lock: Duration::from_secs(10),
};

/// What the demo's server is to run with.
pub fn cluster_options(binaries: std::path::PathBuf) -> cluster::Options {
    cluster_options_for(binaries, &Scale::default())
}

/// As [`cluster_options`], with room for as many connections and partitions as there will be.
pub fn cluster_options_for(binaries: std::path::PathBuf, scale: &Scale) -> cluster::Options {
    let connections = 50.max(u32::from(scale.clients) + 20);
    // A generic plan locks all partitions and all their indexes; 64 is the server's default.
    let locks = if scale.history == 0 { 64 } else { 15 * (scale.history + 42) };
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    cluster::Options {
        binaries: Some(binaries),
        settings: vec![
            setting("shared_preload_libraries", "pg_stat_statements"),
            setting("track_io_timing", "on"),
            setting("max_connections", &connections.to_string()),
            setting("max_locks_per_transaction", &locks.to_string()),
            setting("timezone", "UTC"),
            setting("cluster_name", "pgrunway-demo"),
        ],
        kept: None,
        hba: Vec::new(),
    }
}

/// How to reach a database of the cluster as a role, over the Unix socket.
pub fn connect(cluster: &Cluster, user: &str, dbname: &str) -> Connect {
    let directory = cluster.socket_dir().to_owned();
    connect_to(vec![Endpoint::Unix { directory, port: cluster.port() }], user, dbname)
}

/// As [`connect`], for endpoints that are known or not yet.
pub(super) fn connect_to(endpoints: Vec<Endpoint>, user: &str, dbname: &str) -> Connect {
    Connect {
        endpoints,
        user: user.to_owned(),
        dbname: dbname.to_owned(),
        password: Password::None,
        sslmode: SslMode::Disable,
        root_cert: RootCert::None,
        client_cert: None,
        application_name: if user == EXPORTER { "pgrunway" } else { "pgrunway-demo" }.to_owned(),
        only: None,
    }
}

/// Partitions that [`schema`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPartitions {
    pub orders: usize,
    pub trades: usize,
}

/// Creates the database with tables, partitions, functions and roles; returns a superuser's
/// connection to it. With `expire_orders`, the partitions of orders end 22 days ago.
///
/// # Errors
/// The server refused a statement, or cannot be reached.
pub async fn schema(
    cluster: &Cluster,
    expire_orders: bool,
) -> anyhow::Result<(Admin, DemoPartitions)> {
    schema_for(cluster, expire_orders, &Scale::default()).await
}

/// As [`schema`], with partitions of trades for as many days as there will be trades.
///
/// # Errors
/// As [`schema`].
pub async fn schema_for(
    cluster: &Cluster,
    expire_orders: bool,
    scale: &Scale,
) -> anyhow::Result<(Admin, DemoPartitions)> {
    let postgres = Admin::connect(&connect(cluster, "postgres", "postgres"), &TIMEOUTS).await?;
    postgres.batch(&format!("CREATE DATABASE {DATABASE}")).await.context("creating it")?;
    let admin = Admin::connect(&connect(cluster, "postgres", DATABASE), &TIMEOUTS).await?;
    admin.batch(EXTENSION).await.context("pg_stat_statements")?;
    admin.batch(SCHEMA).await.context("schema.sql")?;
    admin.batch(FUNCTIONS).await.context("functions.sql")?;
    admin.batch(ROLES).await.context("roles.sql")?;
    let expired = i64::from(expire_orders);
    let made = admin.rows(Query::new(PARTITIONS).int8(&expired)).await.context("partitions.sql")?;
    let mut partitions = DemoPartitions { orders: 0, trades: 0 };
    for partition in Row::all::<MadePartition>(&made)? {
        match partition.name.starts_with("orders") {
            true => partitions.orders += 1,
            false => partitions.trades += 1,
        }
    }
    let mut first = scale.history;
    while first > 0 {
        let after = first.saturating_sub(DAYS_AT_ONCE);
        let (first_day, last_day) = (i64::from(first), i64::from(after + 1));
        let query = Query::new(HISTORY).int8(&first_day).int8(&last_day);
        partitions.trades += admin.rows(query).await.context("history.sql")?.len();
        first = after;
    }
    Ok((admin, partitions))
}

/// Fills the tables over the part of their partitions' time that has passed, then forgets the
/// statements that it took, so that the exporter starts with the load alone.
///
/// # Errors
/// The server refused a statement or the rows.
pub async fn data(admin: &Admin, seed: u64) -> anyhow::Result<()> {
    let spans = spans(admin, &Scale::default()).await?;
    // Few rows: one connection will do.
    let fill = Fill::new(&spans, seed, ORDERS + TRADES, Arc::default());
    fill.work(admin).await.context("copying rows")?;
    settle(admin).await
}

/// As [`data`], for any scale, over connections of its own.
///
/// # Errors
/// As [`data`].
pub async fn data_for(
    connect: &Connect,
    scale: &Scale,
    seed: u64,
    spans: &[FilledSpan],
    counters: Arc<FillCounters>,
) -> anyhow::Result<()> {
    let fill = Fill::new(spans, seed, fill::BATCH, counters);
    fill.run(connect, scale.clients.min(drive::CONNECTIONS)).await.context("copying rows")?;
    // ANALYZE may take longer than the deadline of the demo's own connection.
    settle(&Admin::connect(connect, &fill::TIMEOUTS).await?).await
}

columns! {
    struct MadePartition {
        name: String,
    }
}

columns! {
    struct PastSpan {
        relname: String,
        first: i64,
        last: i64,
    }
}

/// What rows are to go where.
///
/// # Errors
/// The server refused the query.
pub async fn spans(admin: &Admin, scale: &Scale) -> anyhow::Result<Vec<FilledSpan>> {
    let mut spans = Vec::new();
    for PastSpan { relname, first, last } in Row::all(&admin.rows(SPAN).await.context("span.sql")?)?
    {
        if relname == "orders" {
            let (length, rows) = (last - first, scale.orders);
            let (table, spread) = (TradeTable::Orders, RowSpread::Growing);
            spans.push(FilledSpan { table, start: first, length, rows, spread });
        } else {
            spans.extend(days(TradeTable::Trades, first, last, scale.trades));
        }
    }
    Ok(spans)
}

async fn settle(admin: &Admin) -> anyhow::Result<()> {
    admin.batch("ANALYZE").await.context("ANALYZE")?;
    admin.batch("SELECT public.pg_stat_statements_reset()").await.context("reset")?;
    Ok(())
}
