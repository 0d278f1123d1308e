//! For how long sessions have been idle, by application, under postgres_exporter's name.
//!
//! Must not: run unless asked for; the names of applications have no bound but `series_limit`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Histogram, Metric, Sink};
use crate::pg::{Row, Session, columns};

static IDLE: Metric = Metric::histogram(
    "pg_process_idle_seconds",
    &["state", "application_name"],
    "How long the sessions of an application have been in their present idle state, from \
     pg_stat_activity.state_change; a histogram of now, not of all time.",
);
const BOUNDS: [f64; 9] = [1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0];

const IDLE_SESSIONS: &str = "\
SELECT a.state AS state, a.application_name AS application_name,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.state_change)::float8 AS age
  FROM pg_catalog.pg_stat_activity a
 WHERE a.state LIKE 'idle%' AND a.state_change IS NOT NULL
   AND a.application_name IS NOT NULL";

pub struct ProcessIdle;

columns! {
    /// One session.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Idle {
        /// `idle`, or idle in a transaction.
        pub state: String,
        /// Who it is.
        pub application_name: String,
        /// Seconds.
        pub age: f64,
    }
}

impl Collector for ProcessIdle {
    type Rows = Vec<Idle>;
    type State = ();
    const NAME: &'static str = "processidle";
    const HELP: &'static str = "For how long sessions have been idle, by application.";
    const DEFAULT_ON: bool = false;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[&IDLE];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(IDLE_SESSIONS).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        let mut groups: BTreeMap<[&str; 2], Vec<f64>> = BTreeMap::new();
        for idle in &rows {
            // The server's clock may be set back.
            groups
                .entry([&idle.state, &idle.application_name])
                .or_default()
                .push(idle.age.max(0.0));
        }
        let bounds: Arc<[f64]> = BOUNDS.into();
        for (labels, ages) in groups {
            let within = |bound: &f64| ages.iter().filter(|age| *age <= bound).count() as u64;
            let histogram = Histogram {
                bounds: bounds.clone(),
                cumulative: BOUNDS.iter().map(within).collect(),
                count: ages.len() as u64,
                // postgres_exporter counts whole seconds.
                sum: ages.iter().map(|age| age.round()).sum(),
                native: None,
                created: None,
            };
            sink.histogram(&IDLE, &labels, Arc::new(histogram));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let idle = |state: &str, name: &str, age| Idle {
            state: state.to_owned(),
            application_name: name.to_owned(),
            age,
        };
        let rows = vec![
            idle("idle", "p\"sql", 1.5),
            idle("idle", "p\"sql", 400.0),
            idle("idle in transaction", "", -1.0),
        ];
        check("processidle", &poll(&ProcessIdle, &mut (), rows));
    }
}
