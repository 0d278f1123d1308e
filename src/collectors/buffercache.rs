//! How the shared buffers are used, by the extension pg_buffercache, under postgres_exporter's names.
//!
//! Must not: run unless asked for, nor read the buffers one by one (the view `pg_buffercache`).

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Need, Query, Row, Session};

static USED: Metric = Metric::gauge(
    "pg_buffercache_summary_buffers_used",
    &[],
    "Shared buffers that hold a page, by pg_buffercache_summary() (PostgreSQL 16 and later).",
);
static UNUSED: Metric = Metric::gauge(
    "pg_buffercache_summary_buffers_unused",
    &[],
    "Shared buffers that hold none, by pg_buffercache_summary() (PostgreSQL 16 and later).",
);
static DIRTY: Metric = Metric::gauge(
    "pg_buffercache_summary_buffers_dirty",
    &[],
    "Shared buffers whose page is to be written, by pg_buffercache_summary() (PostgreSQL 16 and later).",
);
static PINNED: Metric = Metric::gauge(
    "pg_buffercache_summary_buffers_pinned",
    &[],
    "Shared buffers that a backend uses at the moment, by pg_buffercache_summary() (PostgreSQL 16 and later).",
);
static USAGE: Metric = Metric::gauge(
    "pg_buffercache_summary_usagecount_avg",
    &[],
    "Average usage count (0 to 5) of the used shared buffers, by pg_buffercache_summary() (PostgreSQL 16 and \
     later); 0 where none is used.",
);

/// The first server whose extension has it.
const SINCE: i32 = 160_000;
const SUMMARY: &str = "pg_buffercache_summary()";

static NEED: Need = Need {
    extension: "pg_buffercache",
    oldest: (1, 4),
    functions: &[SUMMARY],
    tables: &[],
    install: "run CREATE EXTENSION pg_buffercache in a database of a superuser's, such as postgres, or in the one that \
              is connected to; where PostgreSQL was upgraded, ALTER EXTENSION pg_buffercache UPDATE",
    anywhere: true,
};

pub struct Buffercache;

figures! {
    /// Buffers, and how much they are used.
    pub struct BufferUse: f64 {
        /// With a page.
        used = "buffers_used" => USED,
        /// Without.
        unused = "buffers_unused" => UNUSED,
        /// To be written.
        dirty = "buffers_dirty" => DIRTY,
        /// In use now.
        pinned = "buffers_pinned" => PINNED,
        /// 0 to 5.
        usage = "usagecount_avg" => USAGE,
    }
}

impl Collector for Buffercache {
    /// `None` before PostgreSQL 16.
    type Rows = Option<BufferUse>;
    type State = ();
    const NAME: &'static str = "buffercache";
    const HELP: &'static str =
        "How many shared buffers are used, dirty and pinned, from pg_buffercache (16+).";
    const DEFAULT_ON: bool = false;
    const SINCE: i32 = 16;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &BufferUse::METRICS;
    const NEED: Option<&'static Need> = Some(&NEED);

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        if session.server().version_num < SINCE {
            return Ok(None);
        }
        let (_, answers) = session
            .read_trusted(&NEED, |trusted| {
                let sql = format!(
                    "SELECT s.buffers_used::float8, s.buffers_unused::float8, s.buffers_dirty::float8,\n       \
                     s.buffers_pinned::float8, COALESCE(s.usagecount_avg, 0)::float8 AS usagecount_avg\n  \
                     FROM {}() s",
                    trusted.function(SUMMARY)?
                );
                Ok(vec![Query::new(sql)])
            })
            .await?;
        answers.first().map(|rows| Row::one(rows)).transpose()
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        if let Some(summary) = rows {
            summary.emit(&[], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let summary = BufferUse::from([900.0, 124.0, 30.0, 2.0, 3.25]);
        check("buffercache", &poll(&Buffercache, &mut (), Some(summary)));
    }

    #[test]
    fn nothing_is_said_before_16() {
        assert!(poll(&Buffercache, &mut (), None).iter().all(|f| f.samples.is_empty()));
    }
}
