//! The threads that execute and time: each has a runtime and a connection of its own, so that no
//! answer has to cross from one thread to another before its time is taken.
//!
//! Must not: do anything between the two looks at the clock but the call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::delay::{Accounts, undisturbed};
use super::document::Mode;
use super::params::Pools;
use crate::config::{Connect, Timeouts};
use crate::derive::sample::Random;
use crate::error::StatementError;
use crate::pg::{Bench, BenchStatement, Canceller};

/// Work for the server's processor that no plan, table or cache changes; some 0.3 ms of it.
const REFERENCE: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 2000) AS i";
/// Its executions before and again after each slice.
const REFERENCES: usize = 8;

/// What all workers share.
pub struct Task {
    pub connect: Connect,
    pub database: Option<String>,
    /// `statement` is the longest that any query may take.
    pub timeouts: Timeouts,
    /// Parameters of the sessions.
    pub set: Vec<(String, String)>,
    pub queries: Vec<Ready>,
    pub seed: u64,
}

impl Task {
    /// A session as the workers have it.
    ///
    /// # Errors
    /// It cannot be had, or refuses a setting.
    pub async fn connect(&self) -> Result<Bench, StatementError> {
        let database = self.database.as_deref();
        let bench = Bench::connect(&self.connect, database, &self.timeouts, true).await;
        let bench = bench.map_err(|e| StatementError::Lost(e.to_string()))?;
        for (name, value) in &self.set {
            bench.set(name, value).await?;
        }
        Ok(bench)
    }
}

/// A query whose parameters are known.
pub struct Ready {
    pub name: String,
    pub sql: String,
    pub pools: Pools,
    pub read_write: bool,
    pub timeout: Duration,
}

/// A query in a mode; by index into [`Task::queries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueryInMode {
    pub query: usize,
    pub mode: Mode,
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub iterations: usize,
    pub duration: Option<Duration>,
}

/// Nanoseconds of calls, in their order.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// From handing the statement over to the last row having been read.
    pub round_trip: Vec<u64>,
    /// For which the backend ran or was blocked; empty where that cannot be told.
    pub undisturbed: Vec<u64>,
}

impl Times {
    /// Adds those of another.
    pub fn extend(&mut self, other: Self) {
        self.round_trip.extend(other.round_trip);
        self.undisturbed.extend(other.undisturbed);
    }

    /// Times one call. Between the two looks at the clock there is nothing but the call.
    async fn add(
        &mut self,
        accounts: Option<&Accounts>,
        call: impl Future<Output = Result<u64, StatementError>>,
    ) -> Result<(), StatementError> {
        let before = accounts.and_then(Accounts::look);
        let start = Instant::now();
        let result = call.await;
        let took = start.elapsed();
        result?;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.push(nanos);
        if let Some((before, after)) = before.zip(accounts.and_then(Accounts::look)) {
            self.undisturbed.push(undisturbed(nanos, before, after));
        }
        Ok(())
    }
}

/// What one worker measured of one cell in one round.
#[derive(Debug, Default)]
pub struct WorkerSlice {
    pub query: Times,
    pub reference: Times,
    pub error: Option<StatementError>,
}

enum WorkerOrder {
    Slice {
        cell: QueryInMode,
        limit: Limit,
        reply: oneshot::Sender<WorkerSlice>,
    },
    /// How often each prepared statement had a generic and a custom plan, by query.
    PlanCounts(oneshot::Sender<HashMap<usize, (i64, i64)>>),
}

/// The threads. Dropping them stops them.
pub struct BenchWorkers {
    jobs: Vec<mpsc::UnboundedSender<WorkerOrder>>,
    threads: Vec<JoinHandle<()>>,
    cancellers: Arc<Mutex<HashMap<u16, Canceller>>>,
    stop: Arc<AtomicBool>,
}

impl BenchWorkers {
    /// Starts `count` threads; they connect with their first slice.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(task: Arc<Task>, count: u16) -> anyhow::Result<Self> {
        let mut workers = Self {
            jobs: Vec::new(),
            threads: Vec::new(),
            cancellers: Arc::default(),
            stop: Arc::default(),
        };
        for number in 0..count {
            let (jobs, work) = mpsc::unbounded_channel();
            let worker = BenchWorker {
                task: task.clone(),
                number,
                stop: workers.stop.clone(),
                cancellers: workers.cancellers.clone(),
                session: None,
                draws: HashMap::new(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new()
                .name(format!("bench-{number}"))
                .spawn(move || runtime.block_on(worker.run(work)))
                .context("cannot start a thread")?;
            workers.jobs.push(jobs);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Lets all workers run the cell at the same time, and waits for them.
    pub async fn slice(&self, cell: QueryInMode, limit: Limit) -> Vec<WorkerSlice> {
        let answers: Vec<_> = self
            .jobs
            .iter()
            .map(|jobs| {
                let (reply, answer) = oneshot::channel();
                let _ = jobs.send(WorkerOrder::Slice { cell, limit, reply });
                answer
            })
            .collect();
        let lost = || WorkerSlice {
            error: Some(StatementError::Lost("its thread has ended".to_owned())),
            ..WorkerSlice::default()
        };
        let mut slices = Vec::new();
        for answer in answers {
            slices.push(answer.await.unwrap_or_else(|_| lost()));
        }
        slices
    }

    /// Generic and custom plans of the prepared statements of the first worker, where the server
    /// counts them.
    pub async fn plan_counts(&self) -> HashMap<usize, (i64, i64)> {
        let (reply, answer) = oneshot::channel();
        if let Some(jobs) = self.jobs.first() {
            let _ = jobs.send(WorkerOrder::PlanCounts(reply));
        }
        answer.await.unwrap_or_default()
    }

    /// Lets every slice end after the call that is under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Cancels the calls that are under way.
    pub async fn cancel(&self) {
        let all: Vec<Canceller> = {
            let held = self.cancellers.lock().unwrap_or_else(PoisonError::into_inner);
            held.values().cloned().collect()
        };
        for canceller in all {
            canceller.cancel().await;
        }
    }

    /// Ends the threads, each after it has closed its connection.
    pub async fn close(self) {
        let Self { jobs, threads, .. } = self;
        drop(jobs);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A panic has been printed, and its slices were lost with an error.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

struct WorkerSession {
    bench: Bench,
    accounts: Option<Accounts>,
    reference: BenchStatement,
    statements: HashMap<usize, BenchStatement>,
}

struct BenchWorker {
    task: Arc<Task>,
    number: u16,
    stop: Arc<AtomicBool>,
    cancellers: Arc<Mutex<HashMap<u16, Canceller>>>,
    session: Option<WorkerSession>,
    draws: HashMap<QueryInMode, Random>,
}

impl BenchWorker {
    async fn run(mut self, mut work: mpsc::UnboundedReceiver<WorkerOrder>) {
        while let Some(job) = work.recv().await {
            match job {
                WorkerOrder::Slice { cell, limit, reply } => {
                    let mut slice = WorkerSlice::default();
                    if let Err(e) = self.slice(cell, limit, &mut slice).await {
                        slice.error = Some(e);
                    }
                    let _ = reply.send(slice);
                }
                WorkerOrder::PlanCounts(reply) => {
                    let _ = reply.send(self.plan_counts().await.unwrap_or_default());
                }
            }
        }
        if let Some(session) = self.session.take() {
            let WorkerSession { bench, reference, statements, .. } = session;
            // They send a Close each, which must come before the goodbye.
            drop((reference, statements));
            bench.close().await;
        }
    }

    async fn open(&mut self) -> Result<WorkerSession, StatementError> {
        let bench = self.task.connect().await?;
        let reference = bench.prepare(REFERENCE).await?;
        {
            let mut held = self.cancellers.lock().unwrap_or_else(PoisonError::into_inner);
            held.insert(self.number, bench.canceller());
        }
        let accounts = match bench.is_local() {
            true => {
                let (backend, database) = bench.backend().await?;
                Accounts::open(backend, &database)
            }
            false => None,
        };
        Ok(WorkerSession { bench, accounts, reference, statements: HashMap::new() })
    }

    async fn slice(
        &mut self,
        cell: QueryInMode,
        limit: Limit,
        slice: &mut WorkerSlice,
    ) -> Result<(), StatementError> {
        let session = match self.session.take() {
            Some(session) if !session.bench.is_broken() => session,
            _ => self.open().await?,
        };
        let session = self.session.insert(session);
        let Some(query) = self.task.queries.get(cell.query) else { return Ok(()) };
        let bench = &session.bench;
        let read_only = if query.read_write { "off" } else { "on" };
        bench.set("default_transaction_read_only", read_only).await?;
        bench.set("statement_timeout", &query.timeout.as_millis().to_string()).await?;
        let statement = match session.statements.get(&cell.query) {
            Some(statement) => statement.clone(),
            None => {
                let made = bench.prepare(&query.sql).await?;
                session.statements.insert(cell.query, made.clone());
                made
            }
        };
        let seed = [self.task.seed, cell.query as u64, u64::from(self.number)];
        let random = self.draws.entry(cell).or_insert_with(|| Random::new(&seed));

        refer(session, &mut slice.reference).await?;
        let end = limit.duration.map(|d| Instant::now() + d);
        let accounts = session.accounts.as_ref();
        while slice.query.round_trip.len() < limit.iterations
            && !self.stop.load(Ordering::Relaxed)
            && end.is_none_or(|end| Instant::now() < end)
        {
            let values = query.pools.draw(random);
            let times = &mut slice.query;
            match cell.mode {
                Mode::Prepared => times.add(accounts, bench.execute(&statement, &values)).await?,
                Mode::Unprepared => {
                    let call = bench.execute_unprepared(&query.sql, &statement, &values);
                    times.add(accounts, call).await?;
                }
            }
        }
        refer(session, &mut slice.reference).await
    }

    async fn plan_counts(&self) -> Result<HashMap<usize, (i64, i64)>, StatementError> {
        let Some(session) = &self.session else { return Ok(HashMap::new()) };
        let mut found = HashMap::new();
        for index in session.statements.keys() {
            let Some(query) = self.task.queries.get(*index) else { continue };
            let select = crate::pg::Query::new(
                "SELECT generic_plans, custom_plans FROM pg_catalog.pg_prepared_statements \
                 WHERE NOT from_sql AND statement = $1",
            );
            for row in session.bench.rows(select.text(&query.sql)).await? {
                if let (Ok(generic), Ok(custom)) =
                    (row.get("generic_plans"), row.get("custom_plans"))
                {
                    found.insert(*index, (generic, custom));
                }
            }
        }
        Ok(found)
    }
}

async fn refer(session: &WorkerSession, times: &mut Times) -> Result<(), StatementError> {
    for _ in 0..REFERENCES {
        let call = session.bench.execute(&session.reference, &[]);
        times.add(session.accounts.as_ref(), call).await?;
    }
    Ok(())
}
