//! What a target looks like at one instant: immutable, complete, and safe to publish.
//!
//! Must not: read a clock or know how it is rendered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::metric::{Family, Refused};

/// How the last run of one collector in one database ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Collector.
    pub collector: &'static str,
    /// Database, for collectors that run once per database.
    pub datname: Option<Arc<str>>,
    /// `None` on success, else [`crate::error::CollectError::kind`] and the message.
    pub error: Option<(&'static str, Arc<str>)>,
    /// How long it took, failures included.
    pub duration: Duration,
    /// When it last succeeded.
    pub last_success: Option<SystemTime>,
    /// Ticks that passed while it or its connection was still busy, since the start.
    pub skipped: u64,
    /// Runs since the start.
    pub runs: u64,
    /// Interval now in force.
    pub interval: Duration,
    /// What the sink refused in the last run.
    pub refused: Refused,
    /// Series published.
    pub series: usize,
}

/// Everything about one target.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Whether the server answers.
    pub up: bool,
    /// Whether each database could be entered and read, by name.
    pub databases: Vec<(Arc<str>, bool)>,
    /// How each collector fared.
    pub outcomes: Vec<Outcome>,
    /// Fresh families only; several may share a metric (one per database).
    pub families: Vec<Arc<Family>>,
}
