//! Sends rows by `COPY`: some connections, each batch a transaction, a few blocks in memory.
//!
//! Must not: change a row because of who sends it, or count one that is not committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use super::rows::{BLOCK, FilledSpan, TradeTable};
use crate::config::{Connect, Timeouts};
use crate::pg::Admin;

/// Blocks between the one who makes them and the one who sends them.
const AHEAD: usize = 2;
/// Rows of a batch unless it is said otherwise.
pub const BATCH: u64 = 20_000;
/// A batch, and any part of it, must be done in this time.
pub const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    statement: Duration::from_secs(600),
    lock: Duration::from_secs(30),
};

/// How far it is; shared with whoever shows it, and by whom it is stopped.
#[derive(Debug, Default)]
pub struct FillCounters {
    sent: AtomicU64,
    orders: AtomicU64,
    trades: AtomicU64,
    stopped: AtomicBool,
}

impl FillCounters {
    /// Rows handed to the server, committed or not.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Orders committed.
    pub fn orders(&self) -> u64 {
        self.orders.load(Ordering::Relaxed)
    }

    /// Trades committed.
    pub fn trades(&self) -> u64 {
        self.trades.load(Ordering::Relaxed)
    }

    /// Batches under way are rolled back, but for those whose last row is sent.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped, by an error or by [`FillCounters::stop`].
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Spans that are being sent.
#[derive(Debug)]
pub struct Fill {
    seed: u64,
    /// Blocks in a batch.
    batch: u64,
    queue: Mutex<Vec<OpenSpan>>,
    counters: Arc<FillCounters>,
}

/// A span with blocks left.
#[derive(Debug)]
struct OpenSpan {
    id: usize,
    span: FilledSpan,
    /// Blocks taken so far.
    taken: u64,
    /// Connections at work on it.
    workers: u32,
}

struct Batch {
    id: usize,
    span: FilledSpan,
    blocks: std::ops::Range<u64>,
}

impl Fill {
    /// Batches of `batch` rows, rounded up to whole blocks.
    pub fn new(spans: &[FilledSpan], seed: u64, batch: u64, counters: Arc<FillCounters>) -> Self {
        let open =
            |(id, span): (usize, &FilledSpan)| OpenSpan { id, span: *span, taken: 0, workers: 0 };
        Self {
            seed,
            batch: batch.div_ceil(BLOCK).max(1),
            queue: Mutex::new(spans.iter().enumerate().map(open).collect()),
            counters,
        }
    }

    /// Sends everything over `clients` connections.
    ///
    /// # Errors
    /// The first that one of them met; the others stop too.
    pub async fn run(self, connect: &Connect, clients: u16) -> anyhow::Result<()> {
        let fill = Arc::new(self);
        let mut tasks = JoinSet::new();
        for _ in 0..clients.max(1) {
            let (fill, connect) = (fill.clone(), connect.clone());
            tasks.spawn(async move {
                let admin = Admin::connect(&connect, &TIMEOUTS).await?;
                fill.work(&admin).await
            });
        }
        let mut first = Ok(());
        while let Some(joined) = tasks.join_next().await {
            let done = joined.context("a connection's task").flatten();
            if let Err(e) = done {
                fill.counters.stop();
                first = first.and(Err(e));
            }
        }
        first
    }

    /// Sends what is left over one connection.
    ///
    /// # Errors
    /// The batch at hand failed, and is not in.
    pub async fn work(&self, admin: &Admin) -> anyhow::Result<()> {
        let mut at = None;
        while let Some(batch) = self.next(at) {
            at = Some(batch.id);
            if !self.send(admin, &batch).await? {
                break;
            }
        }
        Ok(())
    }

    /// Whether it was sent to the end.
    async fn send(&self, admin: &Admin, batch: &Batch) -> anyhow::Result<bool> {
        let (tx, mut blocks) = mpsc::channel::<anyhow::Result<(String, u64)>>(AHEAD);
        let (span, seed, range) = (batch.span, self.seed, batch.blocks.clone());
        // In a thread: to make rows takes the processor, not the network.
        let maker = spawn_blocking(move || {
            for block in range {
                let made = span.block(seed, block).map(|lines| (lines, span.rows_of(block)));
                if tx.blocking_send(made).is_err() {
                    return;
                }
            }
        });
        let table = match span.table {
            TradeTable::Orders => "orders",
            TradeTable::Trades => "trades",
        };
        let mut copy = admin.copy(span.table.copy()).await.context(table)?;
        while let Some(made) = blocks.recv().await {
            // Dropped before its end, the COPY is rolled back.
            if self.counters.is_stopped() {
                return Ok(false);
            }
            let (lines, rows) = made?;
            copy.send(Bytes::from(lines)).await.context(table)?;
            self.counters.sent.fetch_add(rows, Ordering::Relaxed);
        }
        // Without this a maker that panicked would pass for one that was done.
        maker.await.context("making rows")?;
        let rows = copy.finish().await.context(table)?;
        let counter = match span.table {
            TradeTable::Orders => &self.counters.orders,
            TradeTable::Trades => &self.counters.trades,
        };
        counter.fetch_add(rows, Ordering::Relaxed);
        Ok(true)
    }

    /// The next batch for a connection that was at a span: there as long as it lasts, then where nobody is,
    /// then where anybody is. Each day has a partition, and two that write to one get in each other's way.
    fn next(&self, at: Option<usize>) -> Option<Batch> {
        if self.counters.is_stopped() {
            return None;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let own = queue.iter().position(|open| Some(open.id) == at);
        let next =
            own.or_else(|| queue.iter().position(|open| open.workers == 0)).or_else(|| {
                let left = |open: &&OpenSpan| open.span.blocks() - open.taken;
                let most = queue.iter().max_by_key(left)?.id;
                queue.iter().position(|open| open.id == most)
            })?;
        let open = queue.get_mut(next)?;
        if own.is_none() {
            open.workers += 1;
        }
        let end = (open.taken + self.batch).min(open.span.blocks());
        let batch = Batch { id: open.id, span: open.span, blocks: open.taken..end };
        open.taken = end;
        if end == open.span.blocks() {
            queue.remove(next);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::trading::rows::RowSpread;

    fn fill(rows: &[u64], batch: u64) -> Fill {
        let spans: Vec<FilledSpan> = (0i64..)
            .zip(rows)
            .map(|(day, rows)| FilledSpan {
                table: TradeTable::Trades,
                start: day * 86_400_000_000,
                length: 86_400_000_000,
                rows: *rows,
                spread: RowSpread::Even,
            })
            .collect();
        Fill::new(&spans, 1, batch, Arc::default())
    }

    #[test]
    fn each_connection_keeps_to_its_day_until_it_has_to_help() {
        let fill = fill(&[5_000, 2_000], 2_000);
        let next = |at| fill.next(at).map(|b| (b.id, b.blocks));
        assert_eq!(next(None), Some((0, 0..2)));
        assert_eq!(next(None), Some((1, 0..2)));
        assert_eq!(next(Some(0)), Some((0, 2..4)));
        assert_eq!(next(Some(1)), Some((0, 4..5)));
        assert_eq!(next(Some(0)), None);
    }

    #[test]
    fn a_batch_is_never_less_than_a_block_and_nothing_follows_a_stop() {
        let fill = fill(&[1_500], 1);
        let blocks: Vec<_> = (0..2).map(|_| fill.next(Some(0)).map(|b| b.blocks)).collect();
        assert_eq!(blocks, [Some(0..1), Some(1..2)]);
        let fill = self::fill(&[1_500], 1);
        fill.counters.stop();
        assert!(fill.next(None).is_none());
    }
}
