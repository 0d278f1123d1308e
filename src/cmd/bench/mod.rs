//! `pgrunway bench`: a file of named queries, timed unprepared and prepared, against targets and a
//! saved baseline.
//!
//! Must not: let anything that explains, counts or reports into the time that is measured.

mod delay;
pub mod document;
mod explain;
mod facts;
mod file;
mod measure;
mod params;
mod print;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cli::{BenchArgs, BenchFormatWord, BenchMode};
use crate::cmd::output;
use crate::config::{Config, Timeouts, suggest};
use crate::derive::sample::{self, Movement as Judged};
use crate::error::ConfigError;
use crate::pg::Bench;
use document::{
    BenchChange, BenchDocument, BenchRun, BenchVerdict, BenchedQuery, Failure, Measured, Mode,
    PlanCounts,
};
pub use file::parse;
use measure::{BenchProgress, Extent, Samples, measure};
pub use print::BenchFormat;
use worker::{BenchWorkers, QueryInMode, Ready, Task};

/// Runs under EXPLAIN of each query in each mode.
const EXPLAINS: usize = 5;
/// Sessions whose first statement a query is.
const NEW_SESSIONS: usize = 3;
const ITERATIONS: u32 = 1_000;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchOptions {
    pub file: PathBuf,
    /// The database; the exporter's own if not given.
    pub database: Option<String>,
    /// Names of queries; all if empty.
    pub only: Vec<String>,
    pub modes: Vec<Mode>,
    /// Per query and mode, over all rounds and workers.
    pub iterations: Option<u32>,
    pub duration: Option<Duration>,
    pub warmup: u32,
    pub rounds: u16,
    pub concurrency: u16,
    pub seed: u64,
    pub percentile: f64,
    pub read_write: bool,
    /// Of a query that does not say its own.
    pub timeout: Duration,
    /// Parameters for the sessions.
    pub set: Vec<(String, String)>,
    pub save: Option<PathBuf>,
    pub compare: Option<PathBuf>,
    /// As a share.
    pub min_change: f64,
    /// How often a slowdown is measured again before it counts.
    pub confirm: u16,
    pub format: BenchFormat,
    pub raw: Option<PathBuf>,
}

/// How a run that could be made ended other than well; its text is for standard error.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BenchEnded {
    /// 1 for a missed target or a regression, 2 if something could not be run.
    pub code: u8,
    text: String,
}

/// Where something could not be run, whatever it was.
const COULD_NOT: u8 = 2;

/// The exit code that an error of this subcommand asks for.
pub fn exit_code(e: &anyhow::Error) -> Option<u8> {
    let aborted = e.is::<Aborted>().then_some(COULD_NOT);
    e.downcast_ref::<BenchEnded>().map(|ended| ended.code).or(aborted)
}

/// Whether the cursor can be moved.
fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The run could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Aborted(anyhow::Error);

/// Runs what the command line says, to standard output, until done or SIGINT or SIGTERM.
///
/// # Errors
/// As [`run`]; all have an [`exit_code`] but wrong options.
pub async fn start(config: &Config, args: BenchArgs) -> anyhow::Result<()> {
    let options = BenchOptions::from(args);
    let stop = super::serve::shutdown_signal()?;
    let progress: Option<Box<dyn Write + Send>> = match is_terminal() {
        true => Some(Box::new(std::io::stderr())),
        false => None,
    };
    let result = run(config, &options, &mut output::stdout(), progress, stop).await;
    result.map_err(|e| match e.is::<BenchEnded>() || e.is::<ConfigError>() {
        true => e,
        false => Aborted(e).into(),
    })
}

impl From<BenchArgs> for BenchOptions {
    fn from(args: BenchArgs) -> Self {
        let all = [Mode::Unprepared, Mode::Prepared];
        let fixed = args.duration.is_none();
        Self {
            file: args.file,
            database: args.database,
            only: args.only,
            modes: match args.mode {
                BenchMode::Both => all.to_vec(),
                BenchMode::Prepared => vec![Mode::Prepared],
                BenchMode::Unprepared => vec![Mode::Unprepared],
            },
            iterations: fixed.then_some(args.iterations.unwrap_or(ITERATIONS)),
            duration: args.duration,
            warmup: args.warmup,
            rounds: args.rounds,
            concurrency: args.concurrency,
            seed: args.seed,
            percentile: args.percentile,
            read_write: args.read_write,
            timeout: args.statement_timeout,
            set: args.set,
            save: args.save,
            compare: args.compare,
            min_change: args.min_change,
            confirm: args.confirm,
            format: match args.format {
                BenchFormatWord::Text => BenchFormat::Text,
                BenchFormatWord::Json => BenchFormat::Json,
                BenchFormatWord::Junit => BenchFormat::Junit,
                BenchFormatWord::Markdown => BenchFormat::Markdown,
            },
            raw: args.raw,
        }
    }
}

/// Runs the benchmark and writes its report to `out`, progress to `progress`, until done or until
/// `stop` resolves.
///
/// # Errors
/// [`ConfigError`] for a wrong file or option; no session; a baseline or an output that cannot be
/// read or written; [`BenchEnded`] after the report.
pub async fn run(
    config: &Config,
    options: &BenchOptions,
    out: &mut dyn Write,
    progress: Option<Box<dyn Write + Send>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let path = options.file.display().to_string();
    let text = std::fs::read_to_string(&options.file).map_err(|e| {
        ConfigError::new(&path, format!("cannot read it: {e}"), "name a file of queries")
    })?;
    let queries = chosen(options, &path, file::parse(&path, &text)?)?;
    let baseline = options.compare.as_deref().map(document::load).transpose()?;

    let timeout = |q: &file::FileQuery| q.timeout.unwrap_or(options.timeout);
    let longest = queries.iter().map(timeout).max().unwrap_or(options.timeout);
    let given = &config.settings().timeouts;
    let timeouts = Timeouts { statement: longest, lock: longest, ..given.clone() };
    let mut connect = config.connect().clone();
    if connect.application_name == "pgrunway" {
        connect.application_name = "pgrunway bench".to_owned();
    }
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        let _ = stopping.send(true);
        // Dropped, the channel would count as closed while somebody still waits for a change.
        std::future::pending::<()>().await;
    });

    let session = Bench::connect(&connect, options.database.as_deref(), &timeouts, true).await?;
    for (name, value) in &options.set {
        session.set(name, value).await.map_err(|e| {
            ConfigError::new(
                format!("--set {name}={value}"),
                e.to_string(),
                "name a setting of the server",
            )
        })?;
    }
    let mut document = BenchDocument {
        format: document::FORMAT.to_owned(),
        version: document::VERSION,
        pgrunway: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at: jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string(),
        interrupted: false,
        run: described(options, &path, session.is_unix()),
        machine: facts::machine(),
        server: facts::server(&session).await?,
        queries: Vec::new(),
        notes: Vec::new(),
        compared_with: None,
    };
    let load = facts::load();

    let mut ready = Vec::new();
    let mut cells = Vec::new();
    for query in &queries {
        let read_write = query.read_write || options.read_write;
        let (pools, failure) = match params::resolve(&session, &path, query).await {
            Ok(pools) => (pools, None),
            Err(failure) => (params::Pools::default(), Some(failure)),
        };
        if failure.is_none() {
            let index = ready.len();
            cells.extend(
                options
                    .modes
                    .iter()
                    .map(|m| (QueryInMode { query: index, mode: *m }, query.name.clone())),
            );
        }
        document.queries.push(BenchedQuery {
            name: query.name.clone(),
            sql: query.sql.clone(),
            target_seconds: query.target.map(|t| t.as_secs_f64()),
            read_write,
            failure,
            modes: Vec::new(),
        });
        ready.push(Ready {
            name: query.name.clone(),
            sql: query.sql.clone(),
            pools,
            read_write,
            timeout: timeout(query),
        });
    }
    // Cells count into `ready`, where a query that failed has a place that nobody uses.
    let task = Arc::new(Task {
        connect,
        database: options.database.clone(),
        timeouts,
        set: options.set.clone(),
        queries: ready,
        seed: options.seed,
    });
    let workers = BenchWorkers::start(task.clone(), options.concurrency)?;
    let mut bench = Runner {
        options,
        path: &path,
        queries: &queries,
        task,
        workers,
        stopped,
        progress: BenchProgress::new(progress),
        session,
    };
    let samples = bench.measure(&cells).await;
    bench.fill(&mut document, &samples).await;
    if let Some(baseline) = &baseline {
        bench.compare(&mut document, baseline).await;
    }
    bench.progress.clear();
    document.interrupted = *bench.stopped.borrow();
    document.machine.load = load.zip(facts::load());
    bench.close().await;

    if let Some(raw) = &options.raw {
        dump(raw, &document, &cells, &samples)?;
    }
    out.write_all(print::report(&document, options.format)?.as_bytes())?;
    out.flush()?;
    if let Some(save) = &options.save {
        match ended(&document) {
            Some(BenchEnded { code: 2, text }) => {
                let path = save.display();
                return Err(
                    BenchEnded { code: 2, text: format!("{text}; {path} is not written") }.into()
                );
            }
            _ => document::save(save, &document)?,
        }
    }
    ended(&document).map_or(Ok(()), |ended| Err(ended.into()))
}

fn chosen(
    options: &BenchOptions,
    path: &str,
    queries: Vec<file::FileQuery>,
) -> Result<Vec<file::FileQuery>, ConfigError> {
    for name in &options.only {
        if !queries.iter().any(|q| q.name == *name) {
            let near = suggest::nearest(name, queries.iter().map(|q| q.name.as_str()));
            let remedy = match near {
                Some(near) => format!("did you mean {near}?"),
                None => "see its `-- name:` lines".to_owned(),
            };
            return Err(ConfigError::new("--only", format!("{path} has no query {name}"), remedy));
        }
    }
    let wanted = |q: &file::FileQuery| options.only.is_empty() || options.only.contains(&q.name);
    Ok(queries.into_iter().filter(wanted).collect())
}

fn described(options: &BenchOptions, path: &str, local: bool) -> BenchRun {
    BenchRun {
        file: path.to_owned(),
        iterations: options.iterations,
        duration_seconds: options.duration.map(|d| d.as_secs_f64()),
        rounds: options.rounds,
        concurrency: options.concurrency,
        warmup: options.warmup,
        seed: options.seed,
        percentile: options.percentile,
        min_change: options.min_change,
        connection: if local { "unix" } else { "tcp" }.to_owned(),
        set: options.set.iter().cloned().collect::<BTreeMap<_, _>>(),
    }
}

/// What is there while it runs.
struct Runner<'o> {
    options: &'o BenchOptions,
    path: &'o str,
    queries: &'o [file::FileQuery],
    task: Arc<Task>,
    workers: BenchWorkers,
    stopped: watch::Receiver<bool>,
    progress: BenchProgress,
    /// For everything but the timed calls.
    session: Bench,
}

impl Runner<'_> {
    async fn close(self) {
        self.workers.close().await;
        self.session.close().await;
    }

    fn extent(&self) -> Extent {
        Extent {
            iterations: self.options.iterations,
            duration: self.options.duration,
            warmup: self.options.warmup,
            rounds: self.options.rounds,
            concurrency: self.options.concurrency,
            seed: self.options.seed,
        }
    }

    async fn measure(&mut self, cells: &[(QueryInMode, String)]) -> HashMap<QueryInMode, Samples> {
        let extent = self.extent();
        let stopped = &mut self.stopped;
        measure(&self.workers, &extent, cells, stopped, &mut self.progress, "").await
    }

    /// Percentiles, verdicts on targets, and plans.
    async fn fill(
        &mut self,
        document: &mut BenchDocument,
        samples: &HashMap<QueryInMode, Samples>,
    ) {
        let counts = self.workers.plan_counts().await;
        for (index, query) in document.queries.iter_mut().enumerate() {
            if query.failure.is_some() {
                continue;
            }
            for mode in &self.options.modes {
                let cell = QueryInMode { query: index, mode: *mode };
                let Some(samples) = samples.get(&cell) else { continue };
                let round_trip = samples.round_trip(self.options.percentile);
                let met = query.target_seconds.zip(round_trip).map(|(t, r)| r.judged <= t);
                let mut failure = samples.error.as_ref().and_then(|e| self.failed(index, e));
                let mut explain = None;
                if failure.is_none() && !*self.stopped.borrow() {
                    match self.explain(cell).await {
                        Ok(read) => explain = Some(read),
                        Err(explain::NoPlan::Server(e)) => failure = self.failed(index, &e),
                        Err(e) => failure = Some(self.unread(index, &e)),
                    }
                }
                query.modes.push(Measured {
                    mode: *mode,
                    // Those of a part are no verdict.
                    met: met.filter(|_| failure.is_none()),
                    failure,
                    round_trip,
                    undisturbed: samples.undisturbed(),
                    rounds: samples.rounds(),
                    plans: match mode {
                        Mode::Unprepared => None,
                        Mode::Prepared => counts.get(&index).map(|(generic, custom)| PlanCounts {
                            generic: *generic,
                            custom: *custom,
                        }),
                    },
                    explain,
                    change: None,
                });
            }
        }
    }

    async fn explain(&mut self, cell: QueryInMode) -> Result<document::Explain, explain::NoPlan> {
        let query = self.task.queries.get(cell.query);
        let Some(query) = query else {
            return Err(explain::NoPlan::Unread(anyhow::anyhow!("it is gone")));
        };
        self.progress.show(|| format!("plans: {} {}", query.name, cell.mode));
        let seed = self.options.seed;
        let mut explain = explain::explain(&self.session, query, cell.mode, EXPLAINS, seed).await?;
        if cell.mode == Mode::Unprepared {
            let mut new = Vec::new();
            for _ in 0..NEW_SESSIONS {
                new.push(self.task.connect().await?);
            }
            let first = explain::first_planning(&self.session, &new, query, seed).await;
            for session in new {
                session.close().await;
            }
            explain.first_planning_seconds = first?;
        }
        Ok(explain)
    }

    fn failed(&self, index: usize, e: &crate::error::StatementError) -> Option<Failure> {
        let query = self.queries.get(index)?;
        Some(params::failure(params::place(self.path, query, e), e, ""))
    }

    fn unread(&self, index: usize, e: &explain::NoPlan) -> Failure {
        let line = self.queries.get(index).map_or(0, |q| q.sql_line);
        Failure {
            place: format!("{}:{line}", self.path),
            message: e.to_string(),
            detail: None,
            hint: None,
            sqlstate: None,
        }
    }

    /// Holds the run against the baseline. What is slower is measured again, and is a regression
    /// only if it is slower each time.
    async fn compare(&mut self, document: &mut BenchDocument, baseline: &BenchDocument) {
        document.notes = facts::differences(baseline, document);
        document.compared_with = Some(baseline.taken_at.clone());
        let mut suspects = Vec::new();
        for (index, query) in document.queries.iter_mut().enumerate() {
            for measured in &mut query.modes {
                let Some(old) = found(baseline, &query.name, measured.mode) else { continue };
                measured.change = self.change(old, measured, &measured.rounds);
                if measured.change.as_ref().is_some_and(|c| c.verdict == BenchVerdict::Slower) {
                    let cell = QueryInMode { query: index, mode: measured.mode };
                    suspects.push((cell, query.name.clone()));
                }
            }
        }
        for again in 1..=self.options.confirm {
            if suspects.is_empty() || *self.stopped.borrow() {
                return;
            }
            let extent = self.extent();
            let what = format!("confirming {again} of {}, ", self.options.confirm);
            let stopped = &mut self.stopped;
            let progress = &mut self.progress;
            let samples =
                measure(&self.workers, &extent, &suspects, stopped, progress, &what).await;
            suspects.retain(|(cell, name)| {
                let measured = document
                    .queries
                    .get_mut(cell.query)
                    .and_then(|q| q.modes.iter_mut().find(|m| m.mode == cell.mode));
                let Some(measured) = measured else { return false };
                let Some(old) = found(baseline, name, cell.mode) else { return false };
                let rounds = samples.get(cell).map(Samples::rounds).unwrap_or_default();
                let second = self.change(old, measured, &rounds).map(|c| c.verdict);
                let Some(change) = &mut measured.change else { return false };
                match second {
                    Some(BenchVerdict::Slower) => change.confirmed = again,
                    Some(BenchVerdict::Unclear) | None => {}
                    Some(_) => change.verdict = BenchVerdict::Unconfirmed,
                }
                second == Some(BenchVerdict::Slower)
            });
        }
    }

    fn change(
        &self,
        old: &Measured,
        new: &Measured,
        rounds: &[document::BenchRound],
    ) -> Option<BenchChange> {
        let told = |r: &document::BenchRound| r.undisturbed.zip(r.undisturbed_reference).is_some();
        let undisturbed = old.rounds.iter().chain(rounds).all(told);
        let pure = |rounds: &[document::BenchRound]| -> Vec<sample::Round> {
            let one = |r: &document::BenchRound| match (r.undisturbed, r.undisturbed_reference) {
                (Some(median), Some(reference)) if undisturbed => {
                    sample::Round { median, reference }
                }
                _ => sample::Round { median: r.median, reference: r.reference },
            };
            rounds.iter().map(one).collect()
        };
        let minimum = self.options.min_change;
        let change =
            sample::compare(&pure(&old.rounds), &pure(rounds), minimum, self.options.seed)?;
        let (before, now) = (old.round_trip?, new.round_trip?);
        let plan = |m: &Measured| m.explain.as_ref().map(|e| e.plan.clone());
        Some(BenchChange {
            verdict: match change.verdict {
                Judged::Same => BenchVerdict::Same,
                Judged::Slower => BenchVerdict::Slower,
                Judged::Faster => BenchVerdict::Faster,
                Judged::Unclear => BenchVerdict::Unclear,
            },
            undisturbed,
            adjusted: change.adjusted,
            low: change.low,
            high: change.high,
            machine: change.machine,
            raw: now.p50 / before.p50,
            tail: now.judged / before.judged,
            confirmed: 0,
            plan_before: plan(old).filter(|old| plan(new).is_some_and(|new| new != *old)),
        })
    }
}

fn found<'d>(document: &'d BenchDocument, name: &str, mode: Mode) -> Option<&'d Measured> {
    let query = document.queries.iter().find(|q| q.name == name)?;
    query.modes.iter().find(|m| m.mode == mode)
}

/// What makes the exit code other than 0.
fn ended(document: &BenchDocument) -> Option<BenchEnded> {
    let modes = || document.queries.iter().flat_map(|q| &q.modes);
    let failed = document.queries.iter().filter(|q| q.failure.is_some()).count()
        + modes().filter(|m| m.failure.is_some()).count();
    let slower =
        |m: &&Measured| m.change.as_ref().is_some_and(|c| c.verdict == BenchVerdict::Slower);
    let (missed, slower) =
        (modes().filter(|m| m.met == Some(false)).count(), modes().filter(slower).count());
    let mut said = Vec::new();
    if document.interrupted {
        said.push("interrupted".to_owned());
    }
    for (count, what) in [
        (failed, "could not be run"),
        (missed, "missed the target"),
        (slower, "slower than the baseline"),
    ] {
        if count > 0 {
            said.push(format!("{count} {what}"));
        }
    }
    let code = if document.interrupted || failed > 0 { 2 } else { 1 };
    (!said.is_empty()).then(|| BenchEnded { code, text: said.join(", ") })
}

/// One line for each sample: query, mode, round from 1, nanoseconds.
fn dump(
    path: &Path,
    document: &BenchDocument,
    cells: &[(QueryInMode, String)],
    samples: &HashMap<QueryInMode, Samples>,
) -> anyhow::Result<()> {
    crate::cmd::file::write_with(path, |file| {
        writeln!(file, "query,mode,round,nanoseconds")?;
        for (cell, _) in cells {
            let name = document.queries.get(cell.query).map_or("", |q| q.name.as_str());
            let Some(samples) = samples.get(cell) else { continue };
            for (round, times) in samples.rounds.iter().enumerate() {
                for nanos in &times.round_trip {
                    writeln!(file, "{name},{},{},{nanos}", cell.mode, round + 1)?;
                }
            }
        }
        Ok(())
    })
}
