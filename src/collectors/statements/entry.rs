//! What one scan of the view holds.
//!
//! Must not: know how it is read, or what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalogue as m;
use crate::collectors::figures::figures;
use crate::derive::latency::Cumulative;
use crate::pg::{Count, Milliseconds};

/// Identifies a row of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    /// `dbid`.
    pub dbid: i64,
    /// `userid`.
    pub userid: i64,
    /// `queryid`.
    pub queryid: i64,
    /// `toplevel`; true where the extension does not tell (before 1.9).
    pub toplevel: bool,
}

/// One row of the view. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Which row.
    pub key: EntryKey,
    /// `stats_since` as Unix seconds, 0 where the extension does not tell (before 1.11).
    pub since: f64,
    /// Calls and execution times.
    pub time: Cumulative,
    /// What else is counted.
    pub counters: Counters,
    /// Plans and planning times, where they were read.
    pub planning: Option<Cumulative>,
}

figures! {
    /// Counters of a row beside calls and execution times.
    pub struct Counters: f64 {
        /// Rows retrieved or affected.
        rows: Count => m::ROWS,
        /// Blocks found in shared buffers.
        shared_blks_hit: Count => m::BLOCKS_HIT,
        /// Blocks read from outside them.
        shared_blks_read: Count => m::BLOCKS_READ,
        /// Temporary blocks written.
        temp_blks_written: Count => m::TEMP_BLOCKS_WRITTEN,
        /// Seconds of reading blocks.
        blk_read_time: Milliseconds => m::BLOCK_READ_SECONDS,
        /// Seconds of writing blocks.
        blk_write_time: Milliseconds => m::BLOCK_WRITE_SECONDS,
        /// Times that it was planned.
        plans: Count => m::PLANS,
        /// Seconds of planning.
        total_plan_time: Milliseconds => m::PLAN_SECONDS,
    }
}

impl Counters {
    /// Each figure with the same one of another.
    pub(super) fn combined(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        let (one, other): ([f64; Self::N], [f64; Self::N]) = (self.into(), other.into());
        Self::from(std::array::from_fn(|i| with(one[i], other[i])))
    }
}

/// The view at one instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// Monotonic seconds when the answer had come.
    pub at: f64,
    /// Unix seconds by the server's clock just before and just after.
    pub clock: (f64, f64),
    /// The rows.
    pub entries: Vec<Entry>,
    /// Database and role of the rows whose queryid is hidden from us, one element a row.
    pub hidden: Vec<(i64, i64)>,
}

/// What else one poll learns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ViewFacts {
    /// Unix seconds, by our clock, at 0 of the monotonic one.
    pub epoch: f64,
    /// Unix seconds of the postmaster's start: another value is another server process.
    pub started: f64,
    /// `pg_stat_statements.max`.
    pub max_entries: Option<f64>,
    /// Whether `pg_stat_statements.track_planning` is on.
    pub track_planning: bool,
    /// Whether `pg_stat_statements.track` is `all` anywhere.
    pub nested: bool,
    /// `pg_stat_statements_info.dealloc`.
    pub dealloc: Option<f64>,
    /// `pg_stat_statements_info.stats_reset` as Unix seconds.
    pub stats_reset: Option<f64>,
    /// Names by OID.
    pub databases: HashMap<i64, Arc<str>>,
    /// Names by OID.
    pub roles: HashMap<i64, Arc<str>>,
}
