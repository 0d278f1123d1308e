//! Queries of the user's own as collectors: made of the configuration, each runs in the databases that it names, by the
//! second connection, so that none of them holds up what tells whether the server is up.
//!
//! Must not: be in the list of collectors, or let the text of a query or a value out of the rows into an error.

mod convert;
mod hide;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::collector::{AnyCollector, AnyState, Collected, Pacing, Scope};
use crate::config::{ColumnUsage, CustomQuery, ServerRole};
use crate::error::CollectError;
use crate::findings::Reported;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{Need, Session, WrittenAnswer, WrittenManner};

use convert::{FoundValue, WrittenReading};

/// A query, and what its metrics are.
pub struct CustomCollector {
    query: Arc<CustomQuery>,
    /// With the labels of all of its metrics, for what the answer has besides.
    template: Option<&'static Metric>,
    /// By column, in the query's order; `None` for what is no metric.
    metrics: Vec<Option<&'static Metric>>,
    catalogue: Vec<&'static Metric>,
    /// Whether a column was of a type that is not read, so that all are read as text.
    as_text: AtomicBool,
}

impl CustomCollector {
    /// The collector of a query.
    pub fn new(query: Arc<CustomQuery>) -> Self {
        let labels = query.labels();
        let template = Metric::configured(&query.prefix, "", Kind::Untyped, &labels);
        let metric = |column: &crate::config::QueryColumn| {
            let kind = match column.usage {
                ColumnUsage::Discard | ColumnUsage::Label => return None,
                ColumnUsage::Counter => Kind::Counter,
                ColumnUsage::Gauge | ColumnUsage::Mapped(_) | ColumnUsage::Duration => Kind::Gauge,
                ColumnUsage::Histogram => Kind::Histogram,
            };
            Metric::configured(&query.metric(column), &column.help, kind, &labels)
        };
        let metrics: Vec<_> = query.columns.iter().map(metric).collect();
        let catalogue = metrics.iter().flatten().copied().chain(template).collect();
        Self { query, template, metrics, catalogue, as_text: AtomicBool::new(false) }
    }

    async fn read(&self, session: &Session) -> Result<WrittenReading, CollectError> {
        let query = &*self.query;
        if let Some(fault) = &query.fault {
            let (what, remedy) = fault.rsplit_once("; ").unwrap_or((fault, "fix the query"));
            let (what, remedy) = (what.to_owned(), remedy.to_owned());
            return Err(CollectError::Missing { what, remedy });
        }
        let server = session.server();
        let here = match query.role {
            ServerRole::Any => true,
            ServerRole::Primary => !server.in_recovery,
            ServerRole::Standby => server.in_recovery,
        };
        if !here || !query.versions.admit(server.version_num) {
            return Ok(WrittenReading::default());
        }
        let answer = self.answer(session).await?;
        let mut reading = convert::read(query, &answer, server.version_num, &server.datname);
        reading.faults.drain(..).for_each(|fault| session.remark(fault));
        Ok(reading)
    }

    async fn answer(&self, session: &Session) -> Result<WrittenAnswer, CollectError> {
        let query = &*self.query;
        let timeout =
            query.timeout.map(|timeout| timeout.min(session.settings().timeouts.statement));
        let mut manner = WrittenManner {
            as_logged_in: query.theirs,
            search_path: query.search_path.clone(),
            timeout: timeout.map(|timeout| timeout.as_millis().max(1).to_string()),
            as_text: self.as_text.load(Ordering::Relaxed),
        };
        let hidden = |e| hide::literals(&query.sql, e);
        match session.read_written(&query.sql, &manner).await {
            Ok(answer) if answer.has_unread() => {
                self.as_text.store(true, Ordering::Relaxed);
                manner.as_text = true;
                session.read_written(&query.sql, &manner).await.map_err(hidden)
            }
            // The session is lost; on the next one it is read as text.
            Err(CollectError::Foreign(_)) if !self.as_text.swap(true, Ordering::Relaxed) => {
                Err(CollectError::Changed)
            }
            answer => answer.map_err(hidden),
        }
    }

    fn emit(&self, reading: &WrittenReading, sink: &mut Sink) {
        for row in &reading.rows {
            let labels: Vec<&str> = row.labels.iter().map(String::as_str).collect();
            for (column, value) in &row.values {
                let Some(metric) = self.metrics.get(*column).copied().flatten() else { continue };
                match value {
                    FoundValue::Number(value) => sink.number(metric, &labels, *value),
                    FoundValue::Histogram(value) => sink.histogram(metric, &labels, value.clone()),
                }
            }
            for (name, value) in &row.unnamed {
                if let Some(template) = self.template {
                    let metric = format!("{}_{name}", self.query.prefix);
                    let help = format!("Unknown metric from {}", self.query.prefix);
                    sink.found(template, (&metric, &help), &labels, *value);
                }
            }
        }
    }
}

impl AnyCollector for CustomCollector {
    fn name(&self) -> &str {
        &self.query.name
    }
    fn help(&self) -> &str {
        "A query of the user's own."
    }
    fn default_on(&self) -> bool {
        true
    }
    fn compatible_only(&self) -> bool {
        false
    }
    fn scope(&self) -> Scope {
        Scope::Database
    }
    fn metrics(&self) -> &[&'static Metric] {
        &self.catalogue
    }
    fn need(&self) -> Option<&'static Need> {
        None
    }
    fn new_state(&self) -> AnyState {
        Box::new(())
    }
    fn interval(&self, _: &AnyState) -> Duration {
        self.query.interval
    }
    fn default_interval(&self) -> Duration {
        self.query.interval
    }
    fn pace(&self) -> Option<Pacing> {
        None
    }
    fn cost(&self, _: &AnyState) -> Option<Duration> {
        None
    }
    fn failed(&self, _: &mut AnyState) {}
    fn fetch<'a>(&'a self, session: &'a Session, _: &'a AnyState) -> Collected<'a> {
        Box::pin(async move {
            let reading = self.read(session).await?;
            Ok(Box::new(reading) as Box<dyn Any + Send + Sync>)
        })
    }
    fn derive(&self, _: &mut AnyState, rows: Box<dyn Any + Send + Sync>, sink: &mut Sink) {
        if let Ok(reading) = rows.downcast::<WrittenReading>() {
            self.emit(&reading, sink);
        }
    }
    fn findings(&self, _: &AnyState) -> Arc<[Reported]> {
        Arc::default()
    }
    fn is_for(&self, datname: &str, home: bool) -> bool {
        self.query.is_for_database(datname, home)
    }
    fn is_guest(&self) -> bool {
        true
    }
    fn may_repeat(&self) -> bool {
        self.query.theirs
    }
    fn series_limit(&self) -> Option<usize> {
        self.query.series_limit
    }
}
