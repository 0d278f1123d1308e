//! The steady load: the report's five queries and some inserts, prepared, on a schedule of its own.
//!
//! The loop is open: what is due is due, however slow the server is, so that a stall shows in the
//! latencies and does not quietly lower the rate. Each connection keeps its own schedule.
//!
//! Must not: stop because of an error, or log one line per error; it counts them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::data::Market;
use crate::config::{Connect, Timeouts};
use crate::error::{CollectError, ConnectError};
use crate::pg::{Admin, Prepared, ToSql};

/// One of the report's queries.
#[derive(Debug)]
pub struct NamedQuery {
    /// Holds [`NamedQuery::marker`], by which `pg_stat_statements` shows it again: after the first
    /// word, since from 18 on what stands before it is cut off.
    pub sql: &'static str,
    /// Share of the calls.
    share: f64,
    /// Whether `$1` is a symbol.
    by_symbol: bool,
}

impl NamedQuery {
    /// The comment in it.
    pub fn marker(&self) -> &'static str {
        let marker = self.sql.find("/*").zip(self.sql.find("*/"));
        marker.and_then(|(start, end)| self.sql.get(start..end + 2)).unwrap_or_default()
    }

    /// The comment's text.
    pub fn title(&self) -> &'static str {
        self.marker().trim_start_matches("/*").trim_end_matches("*/").trim()
    }
}

/// The report's five queries.
pub static QUERIES: [NamedQuery; 5] = [
    NamedQuery { sql: include_str!("queries/1_active_orders.sql"), share: 0.30, by_symbol: true },
    NamedQuery { sql: include_str!("queries/2_recent_trades.sql"), share: 0.30, by_symbol: true },
    NamedQuery { sql: include_str!("queries/3_volume.sql"), share: 0.08, by_symbol: false },
    NamedQuery { sql: include_str!("queries/4_statistics.sql"), share: 0.12, by_symbol: true },
    NamedQuery { sql: include_str!("queries/5_order_book.sql"), share: 0.20, by_symbol: true },
];

const INSERT_ORDER: &str = include_str!("queries/insert_order.sql");
const INSERT_TRADE: &str = include_str!("queries/insert_trade.sql");

const CONNECTIONS: u16 = 4;
/// Inserts per query.
const ORDERS_SHARE: f64 = 0.02;
const TRADES_SHARE: f64 = 0.04;
/// What is due for longer is given up and counted as missed.
const MAX_LAG: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A frozen server holds a connection of the load for no longer than this and a second.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    statement: Duration::from_secs(5),
    lock: Duration::from_secs(5),
};

/// What the load has done since it began.
#[derive(Debug, Default)]
pub struct Tally {
    queries: AtomicU64,
    inserts: AtomicU64,
    missed: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// Queries answered.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Rows inserted.
    pub fn inserts(&self) -> u64 {
        self.inserts.load(Ordering::Relaxed)
    }

    /// Calls given up because they were more than 10 s late.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Errors by what was tried and what went wrong (SQLSTATE and message).
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn error(&self, kind: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(kind).or_default() += 1;
    }
}

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Tally>,
    _tasks: JoinSet<()>,
}

impl Load {
    /// Starts a load of `rate` queries per second, and inserts at a fraction of that, on four
    /// connections.
    pub fn start(connect: &Connect, rate: f64, seed: u64) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let worker = Worker {
                connect: connect.clone(),
                // Not the market of the data: ids must not come again.
                market: Market::new(seed.wrapping_mul(1_000_003).wrapping_add(1 + number as u64)),
                mean_gap: f64::from(CONNECTIONS) / (rate * (1.0 + ORDERS_SHARE + TRADES_SHARE)),
                tally: tally.clone(),
            };
            tasks.spawn(worker.run());
        }
        Self { tally, _tasks: tasks }
    }

    /// What it has done.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

struct Statements {
    queries: Vec<Prepared>,
    insert_order: Prepared,
    insert_trade: Prepared,
}

struct Worker {
    connect: Connect,
    market: Market,
    /// Seconds between two calls on this connection.
    mean_gap: f64,
    tally: Arc<Tally>,
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let mut due = Instant::now();
        loop {
            match self.open().await {
                Ok((connection, statements)) => {
                    backoff = FIRST_BACKOFF;
                    self.drive(&connection, &statements, &mut due).await;
                }
                Err(kind) => {
                    self.tally.error(kind);
                    // Jitter, so that the connections do not come back as one.
                    sleep(backoff.mul_f64(0.5 + self.market.uniform() / 2.0)).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    async fn open(&self) -> Result<(Admin, Statements), String> {
        let failed = |e: ConnectError| format!("connect: {}", e.kind());
        let connection = Admin::connect(&self.connect, &TIMEOUTS).await.map_err(failed)?;
        let failed = |e: CollectError| format!("prepare: {}", describe(&e));
        let mut queries = Vec::new();
        for query in &QUERIES {
            queries.push(connection.prepare(query.sql).await.map_err(failed)?);
        }
        let insert_order = connection.prepare(INSERT_ORDER).await.map_err(failed)?;
        let insert_trade = connection.prepare(INSERT_TRADE).await.map_err(failed)?;
        Ok((connection, Statements { queries, insert_order, insert_trade }))
    }

    /// Keeps the schedule until the connection has to be made anew.
    async fn drive(&mut self, connection: &Admin, statements: &Statements, due: &mut Instant) {
        loop {
            // Independent arrivals have exponential gaps.
            let gap = -(1.0 - self.market.uniform()).ln() * self.mean_gap;
            *due += Duration::from_secs_f64(gap);
            let late = Instant::now().saturating_duration_since(*due);
            if late > MAX_LAG {
                self.tally.missed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            sleep_until(*due).await;
            let (name, counter, result) = self.call(connection, statements).await;
            match result {
                Ok(()) => {
                    let counter = if counter { &self.tally.queries } else { &self.tally.inserts };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    self.tally.error(format!("{name}: {}", describe(&e)));
                    // A table that changed under a prepared `SELECT *` needs a new one.
                    let stale = matches!(&e,
                        CollectError::Query { sqlstate, .. } if sqlstate == "0A000");
                    if stale || connection.is_broken() {
                        return;
                    }
                }
            }
        }
    }

    async fn call(
        &mut self,
        connection: &Admin,
        statements: &Statements,
    ) -> (&'static str, bool, Result<(), CollectError>) {
        let mut left = self.market.uniform() * (1.0 + ORDERS_SHARE + TRADES_SHARE);
        for (query, prepared) in QUERIES.iter().zip(&statements.queries) {
            left -= query.share;
            if left < 0.0 {
                let symbol = self.market.symbol();
                let params: &[&(dyn ToSql + Sync)] = if query.by_symbol { &[&symbol] } else { &[] };
                return (query.title(), true, connection.execute(prepared, params).await);
            }
        }
        if left < ORDERS_SHARE {
            let o = self.market.order();
            let params: &[&(dyn ToSql + Sync)] = &[
                &o.user_id,
                &o.symbol,
                &o.side,
                &o.kind,
                &o.status,
                &o.quantity,
                &o.price,
                &o.filled_quantity,
                &o.client_order_id,
            ];
            let result = connection.execute(&statements.insert_order, params).await;
            return ("insert into orders", false, result);
        }
        let t = self.market.trade();
        let params: &[&(dyn ToSql + Sync)] = &[
            &t.symbol,
            &t.price,
            &t.quantity,
            &t.buyer_user_id,
            &t.seller_user_id,
            &t.buyer_order_id,
            &t.seller_order_id,
            &t.is_buyer_maker,
        ];
        let result = connection.execute(&statements.insert_trade, params).await;
        ("insert into trades", false, result)
    }
}

/// What is the same for every error of a kind, in few words.
fn describe(e: &CollectError) -> String {
    match e {
        CollectError::Query { sqlstate, message }
        | CollectError::ServerTimeout { sqlstate, message } => format!("{message} ({sqlstate})"),
        CollectError::Permission(message) => message.clone(),
        other => other.kind().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::QUERIES;

    #[test]
    fn every_query_has_a_name_and_the_shares_add_up() {
        let titles: Vec<&str> = QUERIES.iter().map(|q| q.title()).collect();
        assert_eq!(
            titles,
            [
                "1 active orders by symbol",
                "2 recent trades by symbol",
                "3 trade volume, 24 h",
                "4 statistics, 24 h",
                "5 order book depth",
            ]
        );
        let sum: f64 = QUERIES.iter().map(|q| q.share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert!(
            QUERIES
                .iter()
                .all(|q| q.sql.starts_with("SELECT /* ") && q.by_symbol == q.sql.contains("$1"))
        );
    }
}
