//! Recommendations: rules that look at measured facts and say what to change, on what evidence.
//! One registry serves `report`, `verify` and the exporter.
//!
//! Must not: read a clock, a socket or SQL; judge by a fact that is not there; or promise a gain that was
//! not measured.

mod database;
mod facts;
mod pooler;
mod server;
mod size;

pub use database::LARGE_INDEX;
pub use facts::{
    Bench, Bloated, Checkpoints, Connections, Counted, Database, Growing, Growth, Index,
    IndexFault, Overdue, Partitioned, Server, Setting, Statement, Table, Temporary,
};
pub use pooler::{Pool, PoolMode, Pooler, Queue, Work};
pub use size::{bytes, seconds};

#[cfg(test)]
mod tests;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Info,
    /// Costs time or room today.
    Warning,
    /// Data or service is at risk.
    Critical,
}

impl Weight {
    /// Lower case, as alert severities are.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is about: a table, an index, a statement, a pool; `None` for the server, database or
    /// pooler itself.
    pub object: Option<String>,
    /// What was measured, with its figures.
    pub evidence: String,
    /// What to do, and what it costs.
    pub remedy: String,
    /// The statement that does it, where one does; of a pooler the line in the section `[pgbouncer]` of
    /// its pgbouncer.ini.
    pub sql: Option<String>,
}

/// What a rule says of the facts: `None` where those it needs are not known.
pub type Verdict = Option<Vec<Finding>>;

/// A rule about facts of type `F`.
#[derive(Debug)]
pub struct Rule<F> {
    /// Stable: label value, `--only`, anchor in the docs.
    pub id: &'static str,
    /// What is recommended, as a headline.
    pub title: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// When it holds, in words, with the figures that the rule compares with.
    pub threshold: &'static str,
    /// Views and columns that the facts come from.
    pub source: &'static str,
    /// The rule.
    pub check: fn(&F) -> Verdict,
}

impl<F> Rule<F> {
    /// 1 where it holds, 0 where not; `None` where the facts that it needs are not known.
    pub fn active(&self, facts: &F) -> Option<f64> {
        (self.check)(facts).map(|found| f64::from(u8::from(!found.is_empty())))
    }
}

/// Rules about a server as a whole.
pub static SERVER: &[&Rule<Server>] = server::RULES;

/// Rules about one database.
pub static DATABASE: &[&Rule<Database>] = database::RULES;

/// Rules about a PgBouncer.
pub static POOLER: &[&Rule<Pooler>] = pooler::RULES;
