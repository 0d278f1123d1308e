//! What a run found, as the JSON that is printed, saved as a baseline and compared with. Times are in
//! seconds.
//!
//! Must not: change a field's name or meaning without a new [`VERSION`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::cmd::file;

/// Value of [`BenchDocument::format`].
pub const FORMAT: &str = "pgrunway-bench";
/// Raised when an older program could misread the document.
pub const VERSION: u64 = 1;

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchDocument {
    pub format: String,
    pub version: u64,
    /// Version of pgrunway.
    pub pgrunway: String,
    /// When it began, in UTC.
    pub taken_at: String,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    pub run: BenchRun,
    pub machine: Machine,
    pub server: BenchedServer,
    pub queries: Vec<BenchedQuery>,
    /// What to know before believing the comparison; empty without one.
    #[serde(default)]
    pub notes: Vec<String>,
    /// When the baseline that this was compared with was taken.
    #[serde(default)]
    pub compared_with: Option<String>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchRun {
    pub file: String,
    /// Per query and mode, where they were counted.
    pub iterations: Option<u32>,
    /// Per query and mode, where they were timed.
    pub duration_seconds: Option<f64>,
    pub rounds: u16,
    pub concurrency: u16,
    pub warmup: u32,
    pub seed: u64,
    /// Which percentile is held against the target.
    pub percentile: f64,
    /// Smallest change that counts, as a share.
    pub min_change: f64,
    /// `unix` or `tcp`.
    pub connection: String,
    /// Parameters set for the sessions by `--set`.
    pub set: BTreeMap<String, String>,
}

/// The machine that pgrunway ran on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpus: usize,
    pub cpu: Option<String>,
    pub memory_bytes: Option<u64>,
    pub kernel: Option<String>,
    /// One-minute load average at the beginning and the end.
    pub load: Option<(f64, f64)>,
}

/// The server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BenchedServer {
    pub version: String,
    pub version_num: i32,
    pub database: String,
    /// Settings that bear on plans and times, as the sessions had them.
    pub settings: BTreeMap<String, String>,
}

/// One query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BenchedQuery {
    pub name: String,
    pub sql: String,
    pub target_seconds: Option<f64>,
    pub read_write: bool,
    /// Why it was not measured at all.
    pub failure: Option<Failure>,
    pub modes: Vec<Measured>,
}

/// Why a query could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// File and line, and the column where the server named one.
    pub place: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub sqlstate: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(state) = &self.sqlstate {
            write!(f, " (SQLSTATE {state})")?;
        }
        for (name, text) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "; {name}: {text}")?;
            }
        }
        Ok(())
    }
}

/// Prepared or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Parsed and planned at each execution.
    Unprepared,
    /// Parsed once.
    Prepared,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unprepared => "unprepared",
            Self::Prepared => "prepared",
        })
    }
}

/// One query in one mode.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    pub mode: Mode,
    pub failure: Option<Failure>,
    /// From handing the statement to the driver to the last row having been read.
    pub round_trip: Option<RoundTrip>,
    /// Median time for which the backend ran or was blocked, with no wait for a processor and none of
    /// the client's work; absent where that cannot be told.
    #[serde(default)]
    pub undisturbed: Option<f64>,
    /// Whether the target was met; absent without a target.
    pub met: Option<bool>,
    pub rounds: Vec<BenchRound>,
    /// Of the first client's executions, warm-up included, where the server counts them (14 and
    /// later) and the statement was prepared.
    #[serde(default)]
    pub plans: Option<PlanCounts>,
    pub explain: Option<Explain>,
    #[serde(default)]
    pub change: Option<BenchChange>,
}

/// How a prepared statement was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCounts {
    /// Executions of the plan that is made once.
    pub generic: i64,
    /// Executions that were planned for their own values.
    pub custom: i64,
}

/// Percentiles of all samples, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    pub samples: usize,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// The percentile that is held against the target.
    pub judged: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BenchRound {
    pub samples: usize,
    /// Median round trip.
    pub median: f64,
    /// Median round trip of the reference query around it.
    pub reference: f64,
    /// As that of all rounds.
    #[serde(default)]
    pub undisturbed: Option<f64>,
    /// As `reference`, likewise.
    #[serde(default)]
    pub undisturbed_reference: Option<f64>,
}

/// What EXPLAIN (ANALYZE) told in runs of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    pub runs: usize,
    /// In a session that has planned it before.
    pub planning_seconds: MedianAndMost,
    /// As the first statement of a new session, which must read the catalogs first; absent where
    /// the query was prepared.
    #[serde(default)]
    pub first_planning_seconds: Option<MedianAndMost>,
    pub execution_seconds: MedianAndMost,
    /// Rows of the answer; the median of the runs, as all that follow.
    pub rows: f64,
    pub buffers: Buffers,
    pub planning_buffers: Buffers,
    pub temp_blocks_read: f64,
    pub temp_blocks_written: f64,
    /// Functions compiled.
    pub jit_functions: f64,
    pub jit_seconds: f64,
    /// `Index Scan using i on t`, partitions under their root's names.
    pub scans: Vec<String>,
    pub indexes: Vec<String>,
    pub partitions: Vec<PrunedPartitions>,
    /// The plan of the last run in one line, its partitions collapsed.
    pub plan: String,
    /// Different plans among the runs.
    pub plans: usize,
    /// Whether the last run had a generic plan, where the server tells (14 and later).
    pub generic: Option<bool>,
}

/// Median and largest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MedianAndMost {
    pub median: f64,
    pub max: f64,
}

/// Blocks of shared buffers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Buffers {
    pub hit: f64,
    pub read: f64,
}

/// What became of a table's partitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrunedPartitions {
    pub table: String,
    pub total: usize,
    /// Read at least once.
    pub scanned: usize,
    /// In the plan and never reached.
    pub unreached: usize,
    /// Left out of the plan, by the planner or when the execution began.
    pub pruned: usize,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchVerdict {
    Same,
    Slower,
    Faster,
    /// Too little was measured to tell.
    Unclear,
    /// Slower at first, and not when it was measured again.
    Unconfirmed,
}

/// Against the baseline, as factors: 1.3 is 30 % slower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchChange {
    pub verdict: BenchVerdict,
    /// Whether `adjusted`, `low`, `high` and `machine` are of undisturbed times.
    pub undisturbed: bool,
    /// Of the median round trip, relative to the reference query's.
    pub adjusted: f64,
    pub low: f64,
    pub high: f64,
    /// Of the reference query.
    pub machine: f64,
    /// Of the median round trip as it was measured.
    pub raw: f64,
    /// Of the percentile that is held against the target, as it was measured; not judged.
    pub tail: f64,
    /// Times that a slowdown was measured again and found again.
    pub confirmed: u16,
    /// The baseline's plan, where it was another.
    pub plan_before: Option<String>,
}

/// Reads a baseline.
///
/// # Errors
/// The file cannot be read, is no JSON, is something else, or is of another version.
pub fn load(path: &Path) -> anyhow::Result<BenchDocument> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the baseline {shown}; make one with --save"))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("the baseline {shown} is no JSON; make a new one with --save"))?;
    if value.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
        bail!("{shown} is no baseline of pgrunway bench; make one with --save");
    }
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => bail!(
            "the baseline {shown} is of version {other} of the format, and this pgrunway reads \
             {VERSION}; make a new one with --save"
        ),
        None => bail!("the baseline {shown} has no version; make a new one with --save"),
    }
    serde_json::from_value(value)
        .with_context(|| format!("the baseline {shown} is damaged; make a new one with --save"))
}

/// Writes a baseline, so that an older one is whole until the new one is.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, document: &BenchDocument) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    file::write(path, &text)
}
