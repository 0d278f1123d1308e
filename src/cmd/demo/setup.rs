//! The demo's database on a new cluster: schema, roles, data.
//!
//! Must not: touch a server that the demo did not start.

use std::time::Duration;

use anyhow::Context;

use super::data::{COPY_ORDERS, COPY_TRADES, Market, copy_order, copy_trade};
use crate::cmd::cluster::{self, Cluster};
use crate::config::{Connect, Endpoint, Password, RootCert, SslMode, Timeouts};
use crate::pg::{Admin, Query};

/// Orders in the database before the load starts.
pub const ORDERS: usize = 500;
/// Trades in the database before the load starts.
pub const TRADES: usize = 5_000;
/// Name of the demo's database.
pub const DATABASE: &str = "trading";
/// Role of the load.
pub const APP: &str = "app";
/// Role of the exporter, with `pg_monitor` only.
pub const EXPORTER: &str = "pgrunway";

const SCHEMA: &str = include_str!("schema.sql");
const FUNCTIONS: &str = include_str!("functions.sql");
const ROLES: &str = include_str!("roles.sql");
const PARTITIONS: &str = include_str!("partitions.sql");
const SPAN: &str = include_str!("span.sql");

/// Deadlines of the demo's own connections.
pub const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    statement: Duration::from_secs(30),
    lock: Duration::from_secs(10),
};

/// What the demo's server is to run with.
pub fn cluster_options(binaries: std::path::PathBuf) -> cluster::Options {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    cluster::Options {
        binaries: Some(binaries),
        settings: vec![
            setting("shared_preload_libraries", "pg_stat_statements"),
            setting("track_io_timing", "on"),
            setting("max_connections", "50"),
            setting("timezone", "UTC"),
            setting("cluster_name", "pgrunway-demo"),
        ],
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
    }
}

/// Partitions that [`schema`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions {
    pub orders: usize,
    pub trades: usize,
}

/// Creates the database with tables, partitions, functions and roles; returns a superuser's
/// connection to it. With `expire_orders`, the partitions of orders end 22 days ago.
pub async fn schema(cluster: &Cluster, expire_orders: bool) -> anyhow::Result<(Admin, Partitions)> {
    let postgres = Admin::connect(&connect(cluster, "postgres", "postgres"), &TIMEOUTS).await?;
    postgres.batch(&format!("CREATE DATABASE {DATABASE}")).await.context("creating it")?;
    let admin = Admin::connect(&connect(cluster, "postgres", DATABASE), &TIMEOUTS).await?;
    admin.batch(SCHEMA).await.context("schema.sql")?;
    admin.batch(FUNCTIONS).await.context("functions.sql")?;
    admin.batch(ROLES).await.context("roles.sql")?;
    let expired = i64::from(expire_orders);
    let made = admin.rows(Query::new(PARTITIONS).int8(&expired)).await.context("partitions.sql")?;
    let mut partitions = Partitions { orders: 0, trades: 0 };
    for row in &made {
        match row.get::<&str>("name")?.starts_with("orders") {
            true => partitions.orders += 1,
            false => partitions.trades += 1,
        }
    }
    Ok((admin, partitions))
}

/// Fills the tables over the part of their partitions' time that has passed, then forgets the
/// statements that it took, so that the exporter starts with the load alone.
pub async fn data(admin: &Admin, seed: u64) -> anyhow::Result<()> {
    let mut market = Market::new(seed);
    for row in admin.rows(SPAN).await.context("span.sql")? {
        let (first, last): (f64, f64) = (row.get("first")?, row.get("last")?);
        if row.get::<&str>("relname")? == "orders" {
            // Denser towards the end: a growing business.
            let share = |market: &mut Market| 1.0 - market.uniform().powi(2);
            let times = times(&mut market, ORDERS, first, last, share)?;
            let mut lines = String::new();
            times.iter().for_each(|at| copy_order(&mut lines, &market.order(), at));
            admin.copy_in(COPY_ORDERS, lines).await.context("copying orders")?;
        } else {
            let times = times(&mut market, TRADES, first, last, Market::uniform)?;
            let mut lines = String::new();
            times.iter().for_each(|at| copy_trade(&mut lines, &market.trade(), at));
            admin.copy_in(COPY_TRADES, lines).await.context("copying trades")?;
        }
    }
    admin.batch("ANALYZE").await.context("ANALYZE")?;
    admin.batch("SELECT public.pg_stat_statements_reset()").await.context("reset")?;
    Ok(())
}

/// Ascending timestamps from `first` up to, not at, `last` (Unix seconds).
fn times(
    market: &mut Market,
    count: usize,
    first: f64,
    last: f64,
    mut share: impl FnMut(&mut Market) -> f64,
) -> anyhow::Result<Vec<String>> {
    // The end of the last partition is not in it.
    let length = (last - first - 1e-3).max(0.0);
    let mut at: Vec<f64> = (0..count).map(|_| first + share(market) * length).collect();
    at.sort_by(f64::total_cmp);
    at.into_iter()
        .map(|seconds| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "jiff refuses what is out of range"
            )]
            let microseconds = (seconds * 1e6) as i64;
            Ok(jiff::Timestamp::from_microsecond(microseconds)?.to_string())
        })
        .collect()
}
