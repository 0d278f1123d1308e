//! `pgrunway load`: fills a database with the trade schema, drives it at a rate, or both.
//!
//! Must not: write into a database that it did not make and that was not named, or make a role there.

mod guard;
mod print;
mod schema;

use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::cli::LoadArgs;
use crate::cmd::demo::Terminal;
use crate::cmd::trading::drive::{Load, LoadPace};
use crate::cmd::trading::fill::{Fill, FillCounters};
use crate::cmd::trading::progress::{FillProgress, seconds};
use crate::cmd::trading::rows::{Amount, FilledSpan, RowSpread, TradeTable, days};
use crate::config::{Config, Connect};

pub use guard::MARK;

const DAY: i64 = 86_400_000_000;
/// Trades of a fill for one order, unless it is said how many.
const TRADES_PER_ORDER: u64 = 10;
/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// Pause between two lines where the cursor cannot be moved.
const TELL: Duration = Duration::from_secs(10);
/// How long the last batches may take to be committed or rolled back.
const STOPPING: Duration = Duration::from_secs(60);

/// Does what the command line says, until done or `stop`: the summary to `out`, how far it is to `err`.
///
/// # Errors
/// The database is refused or cannot be reached, a batch failed, or it was stopped before all rows were in;
/// what is in by then has been told. A drive that is stopped has come to its end.
pub async fn run(
    config: &Config,
    args: &LoadArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    terminal: Terminal,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let dbname = args.database.clone().unwrap_or_else(|| config.connect().dbname.clone());
    let application_name = "pgrunway-load".to_owned();
    let connect = Connect { dbname, application_name, ..config.connect().clone() };
    let mut session = LoadRun { args, err, terminal, stop: pin!(stop), stopped: false };

    let now = Timestamp::now();
    let until = args.until.unwrap_or(now);
    let spans = args.spans(until)?;
    let first = match args.has_rows() {
        true => Timestamp::from_microsecond(args.first(until)?)?,
        false => now,
    };
    let ready = async {
        let admitted = guard::admit(connect, args.into.as_deref()).await?;
        let made = schema::prepare(&admitted.admin, first, until.max(now)).await?;
        anyhow::Ok((admitted, made))
    };
    let (admitted, made) = tokio::select! {
        ready = ready => ready?,
        () = &mut session.stop => bail!("stopped before the first row"),
    };
    let created = if admitted.created { "created" } else { "there already" };
    session.say(&format!(
        "database \"{}\": {created}; {made} partitions made",
        admitted.connect.dbname
    ))?;
    if !spans.is_empty() {
        session.fill(&admitted, &spans, out).await?;
    }
    if let Some(rate) = args.rate {
        session.drive(&admitted.connect, rate, out).await?;
    }
    Ok(())
}

impl LoadArgs {
    fn has_rows(&self) -> bool {
        self.trades.is_some() || self.trades_per_day.is_some() || self.orders.is_some()
    }

    /// Midnight (UTC) of the first day with rows, in microseconds since 1970.
    fn first(&self, until: Timestamp) -> anyhow::Result<i64> {
        let today = until.as_microsecond().div_euclid(DAY) * DAY;
        let first = today.checked_sub(i64::from(self.history) * DAY);
        let first = first.filter(|f| Timestamp::from_microsecond(*f).is_ok());
        first.context("--history goes back before there were dates")
    }

    /// What rows are to go where.
    fn spans(&self, until: Timestamp) -> anyhow::Result<Vec<FilledSpan>> {
        if !self.has_rows() {
            return Ok(Vec::new());
        }
        let (first, last) = (self.first(until)?, until.as_microsecond());
        let mut spans = match (self.trades_per_day, self.trades) {
            (Some(rows), _) => days(TradeTable::Trades, first, last, Amount::PerDay(rows)),
            (None, Some(rows)) => days(TradeTable::Trades, first, last, Amount::Total(rows)),
            (None, None) => Vec::new(),
        };
        let trades: u64 = spans.iter().map(|s| s.rows).sum();
        ensure!(
            trades > 0 || (self.trades_per_day.is_none() && self.trades.is_none()),
            "--history and --until leave no time for trades; nothing was changed"
        );
        let rows = self.orders.unwrap_or(trades / TRADES_PER_ORDER);
        if rows > 0 && last > first {
            let (table, spread) = (TradeTable::Orders, RowSpread::Growing);
            spans.insert(0, FilledSpan { table, start: first, length: last - first, rows, spread });
        }
        Ok(spans)
    }
}

/// The run, as far as it tells and stops.
struct LoadRun<'a, S> {
    args: &'a LoadArgs,
    err: &'a mut dyn Write,
    terminal: Terminal,
    stop: std::pin::Pin<&'a mut S>,
    stopped: bool,
}

impl<S: Future<Output = ()>> LoadRun<'_, S> {
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.err, "{text}")?;
        Ok(self.err.flush()?)
    }

    /// How far it is: over the last on a terminal, as a line of its own now and then elsewhere.
    fn tell(
        &mut self,
        told: &mut Instant,
        text: impl FnOnce(bool) -> String,
    ) -> anyhow::Result<()> {
        if self.terminal.in_place {
            // A line that wraps could not be replaced.
            write!(self.err, "\r\x1b[K\x1b[?7l{}\x1b[?7h", text(true))?;
            self.err.flush()?;
        } else if told.elapsed() >= TELL {
            *told = Instant::now();
            self.say(&text(false))?;
        }
        Ok(())
    }

    fn told(&mut self) -> anyhow::Result<()> {
        if self.terminal.in_place {
            write!(self.err, "\r\x1b[K")?;
            self.err.flush()?;
        }
        Ok(())
    }

    async fn fill(
        &mut self,
        database: &guard::Admitted,
        spans: &[FilledSpan],
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let counters = Arc::new(FillCounters::default());
        let total = spans.iter().map(|s| s.rows).sum();
        let mut progress = FillProgress::new(total);
        let began = Instant::now();
        let mut told = began;
        let fill = Fill::new(spans, self.args.seed, self.args.batch, counters.clone());
        let mut fill = pin!(fill.run(&database.connect, self.args.clients));
        let done = loop {
            tokio::select! {
                done = timeout(LOOK, &mut fill) => if let Ok(done) = done { break done },
                () = &mut self.stop => {
                    self.stopped = true;
                    counters.stop();
                    break match timeout(STOPPING, &mut fill).await {
                        Ok(done) => done,
                        Err(_) => bail!("the server does not answer: the current batches may or may not be \
                                         committed"),
                    };
                }
            }
            self.tell(&mut told, |bar| progress.line(began.elapsed(), counters.sent(), bar))?;
        };
        let took = began.elapsed();
        self.told()?;
        let (orders, trades) = (counters.orders(), counters.trades());
        let word = if self.stopped {
            "stopped"
        } else if done.is_err() {
            "failed"
        } else {
            "loaded"
        };
        writeln!(
            out,
            "{word}: {} of {total} rows loaded ({orders} orders, {trades} trades), in {:.1} s: {:.0} \
             rows/s",
            orders + trades,
            took.as_secs_f64(),
            (orders + trades) as f64 / took.as_secs_f64().max(1e-3),
        )?;
        out.flush()?;
        done.map_err(explained)?;
        ensure!(!self.stopped, "stopped before all rows were loaded");
        // The estimates of the planner, which autovacuum would bring later and not for the parent.
        tokio::select! {
            done = database.admin.batch("ANALYZE public.orders, public.trades") => {
                done.context("ANALYZE")
            }
            () = &mut self.stop => bail!("stopped during ANALYZE; all rows are loaded"),
        }
    }

    async fn drive(
        &mut self,
        connect: &Connect,
        rate: f64,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let length = self.args.length;
        let pace = LoadPace { rate, clients: self.args.clients, seed: self.args.seed, length };
        let began = Instant::now();
        let mut told = began;
        let mut load = Load::with(connect, pace);
        loop {
            tokio::select! {
                done = timeout(LOOK, load.finished()) => if done.is_ok() { break },
                () = &mut self.stop => { self.stopped = true; break }
            }
            let (tally, elapsed) = (load.tally(), began.elapsed().as_secs_f64());
            let left = length.map(|l| seconds((l.as_secs_f64() - elapsed).max(0.0)));
            let line = format!(
                "{} queries, {} inserts, {} missed, {} errors  {:.1}/s of {rate}/s  {}",
                tally.queries(),
                tally.inserts(),
                tally.missed(),
                tally.errors().values().sum::<u64>(),
                tally.queries() as f64 / elapsed.max(1e-3),
                left.map_or_else(|| "Ctrl-C ends".to_owned(), |left| format!("ETA {left}"))
            );
            self.tell(&mut told, |_| line)?;
        }
        self.told()?;
        let took = began.elapsed();
        print::drive(out, load.tally(), rate, took, self.stopped)?;
        Ok(())
    }
}

/// What a unique violation means here.
fn explained(e: anyhow::Error) -> anyhow::Error {
    match format!("{e:#}").contains("(SQLSTATE 23505)") {
        true => e.context(
            "rows of this seed and time exist already, perhaps from an interrupted load: use another --seed, or \
             drop the database, which load creates again",
        ),
        false => e,
    }
}
