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

use super::DurationHistogram;
use super::market::Market;
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

/// Connections of [`Load::start`].
pub const CONNECTIONS: u16 = 4;
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
    due: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    latencies: Mutex<LoadLatencies>,
}

/// From when a call was due to its answer, so that those that had to wait for another count with their
/// wait.
#[derive(Debug, Clone, Default)]
pub struct LoadLatencies {
    /// Of the calls that were answered without an error, by what was called.
    pub calls: BTreeMap<&'static str, DurationHistogram>,
    /// Of all of those, and of calls given up, with how late they were then.
    pub all: DurationHistogram,
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

    /// Calls that the schedule held so far, queries and inserts.
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    /// Round trips, counted from when they were due.
    pub fn latencies(&self) -> LoadLatencies {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn miss(&self, late: Duration) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).all.add(late);
    }

    fn answered(&self, name: &'static str, took: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.calls.entry(name).or_default().add(took);
        latencies.all.add(took);
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

/// What load.
#[derive(Debug, Clone, Copy)]
pub struct LoadPace {
    /// Queries per second, all five together; inserts are a fraction of that on top.
    pub rate: f64,
    /// Connections.
    pub clients: u16,
    /// Of the schedule and of what is sent.
    pub seed: u64,
    /// For so long calls are due; for ever if not given.
    pub length: Option<Duration>,
}

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts a load of `rate` queries per second, and inserts at a fraction of that, on four
    /// connections.
    pub fn start(connect: &Connect, rate: f64, seed: u64) -> Self {
        Self::with(connect, LoadPace { rate, clients: CONNECTIONS, seed, length: None })
    }

    /// Starts a load at a pace.
    pub fn with(connect: &Connect, pace: LoadPace) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for number in 0..pace.clients {
            let seed = pace.seed.wrapping_mul(1_000_003).wrapping_add(1 + u64::from(number));
            let calls = pace.rate * (1.0 + ORDERS_SHARE + TRADES_SHARE);
            let worker = LoadWorker {
                connect: connect.clone(),
                // Not the market of the data: ids must not come again.
                market: Market::new(seed),
                mean_gap: f64::from(pace.clients) / calls,
                length: pace.length,
                tally: tally.clone(),
            };
            tasks.spawn(worker.run());
        }
        Self { tally, tasks }
    }

    /// Waits until the last call that was due has its answer or was given up. Comes to no end where the
    /// pace has none.
    pub async fn finished(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// What it has done.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

struct LoadStatements {
    queries: Vec<Prepared>,
    insert_order: Prepared,
    insert_trade: Prepared,
}

struct LoadWorker {
    connect: Connect,
    market: Market,
    /// Seconds between two calls on this connection.
    mean_gap: f64,
    length: Option<Duration>,
    tally: Arc<Tally>,
}

/// When calls are due.
struct Schedule {
    /// The last that was given out.
    due: Instant,
    end: Option<Instant>,
}

impl LoadWorker {
    async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let mut schedule = None;
        let began = Instant::now();
        loop {
            match self.open().await {
                Ok((connection, statements)) => {
                    backoff = FIRST_BACKOFF;
                    // It begins with the first connection, and goes on without one.
                    let schedule = schedule.get_or_insert_with(|| {
                        let due = Instant::now();
                        Schedule { due, end: self.length.map(|length| due + length) }
                    });
                    if self.drive(&connection, &statements, schedule).await {
                        return;
                    }
                }
                Err(kind) => {
                    self.tally.error(kind);
                    // Jitter, so that the connections do not come back as one.
                    sleep(backoff.mul_f64(0.5 + self.market.uniform() / 2.0)).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
            let over = match &mut schedule {
                Some(schedule) => self.given_up(schedule),
                None => self.length.is_some_and(|length| began.elapsed() > length),
            };
            if over {
                return;
            }
        }
    }

    /// When the next call is due; `None` after the last.
    fn next(&mut self, schedule: &mut Schedule) -> Option<Instant> {
        // Independent arrivals have exponential gaps.
        let gap = -(1.0 - self.market.uniform()).ln() * self.mean_gap;
        schedule.due += Duration::from_secs_f64(gap);
        if schedule.end.is_some_and(|end| schedule.due > end) {
            return None;
        }
        self.tally.due.fetch_add(1, Ordering::Relaxed);
        Some(schedule.due)
    }

    /// Whether all that was left is too late by now, without a connection; it is missed then.
    fn given_up(&mut self, schedule: &mut Schedule) -> bool {
        let now = Instant::now();
        if schedule.end.is_none_or(|end| now < end + MAX_LAG) {
            return false;
        }
        while let Some(due) = self.next(schedule) {
            self.tally.miss(now - due);
        }
        true
    }

    async fn open(&self) -> Result<(Admin, LoadStatements), String> {
        let failed = |e: ConnectError| format!("connect: {}", e.kind());
        let connection = Admin::connect(&self.connect, &TIMEOUTS).await.map_err(failed)?;
        let failed = |e: CollectError| format!("prepare: {}", describe(&e));
        // The queries name their tables alone, as an application's do.
        connection.batch("SET search_path = public").await.map_err(failed)?;
        let mut queries = Vec::new();
        for query in &QUERIES {
            queries.push(connection.prepare(query.sql).await.map_err(failed)?);
        }
        let insert_order = connection.prepare(INSERT_ORDER).await.map_err(failed)?;
        let insert_trade = connection.prepare(INSERT_TRADE).await.map_err(failed)?;
        Ok((connection, LoadStatements { queries, insert_order, insert_trade }))
    }

    /// Keeps the schedule until the connection has to be made anew, or to its end: then it is true.
    async fn drive(
        &mut self,
        connection: &Admin,
        statements: &LoadStatements,
        schedule: &mut Schedule,
    ) -> bool {
        while let Some(due) = self.next(schedule) {
            let late = Instant::now().saturating_duration_since(due);
            if late > MAX_LAG {
                self.tally.miss(late);
                continue;
            }
            sleep_until(due).await;
            let (name, counter, result) = self.call(connection, statements).await;
            match result {
                Ok(()) => {
                    self.tally.answered(name, Instant::now().saturating_duration_since(due));
                    let counter = if counter { &self.tally.queries } else { &self.tally.inserts };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    self.tally.error(format!("{name}: {}", describe(&e)));
                    // A table that changed under a prepared `SELECT *` needs a new one.
                    let stale = matches!(&e,
                        CollectError::Query { sqlstate, .. } if sqlstate == "0A000");
                    if stale || connection.is_broken() {
                        return false;
                    }
                }
            }
        }
        true
    }

    async fn call(
        &mut self,
        connection: &Admin,
        statements: &LoadStatements,
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
