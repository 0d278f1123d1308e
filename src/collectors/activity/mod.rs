//! Where the time goes: a look a second at the sessions that are active, added up by what they wait for, by statement,
//! and where asked by application and client; and how old the statements are that run now.
//!
//! Must not: invent what happened while nobody looked, label by process, or look more often than its cost allows.

mod catalogue;
mod hour;
mod read;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Pacing, Scope};
use crate::error::CollectError;
use crate::findings::Reported;
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use catalogue as m;
use hour::{JudgedHour, WaitTotals};
pub use read::{ActiveSessions, Rows};
use tally::{ActiveStatement, Alike, OTHER, SecondsByName, SecondsByStatement};

/// A sample stands for no more than so many seconds, unless the user wants longer pauses: the longest that its cost
/// brings about is 7.5.
const LONGEST: f64 = 10.0;
/// Most combinations of database and event of a wait; an event beyond goes to the database's `other`.
const MOST_WAITS: usize = 2_000;
/// Most combinations of worker and event.
const MOST_WORKERS: usize = 500;
/// Databases whose running statements are shown; they leave after so many seconds without one.
const MOST_DATABASES: usize = 1_000;
const SILENCE: f64 = 3600.0;
/// What an active backend that waits for nothing is on, as far as PostgreSQL tells.
const CPU: &str = "CPU";

published! {
    /// `pg_active_session_seconds_total`.
    pub struct WaitSeconds of m::SESSIONS { datname, wait_event_type, wait_event => seconds: f64 }
}
published! {
    /// `pg_statement_active_session_seconds_total`.
    pub struct StatementWaitSeconds of m::STATEMENTS {
        datname, usename, queryid, wait_event_type => seconds: f64
    }
}
published! {
    /// `pg_background_active_seconds_total`.
    pub struct WorkerSeconds of m::WORKERS { wait_event_type, wait_event => seconds: f64 }
}
published! {
    /// `pg_running_statements_slow`.
    pub struct SlowNow of m::SLOW { => count: f64 }
}
published! {
    /// `pgrunway_activity_samples_total`.
    pub struct ActivitySamples of m::SAMPLES { => count: f64 }
}
published! {
    /// `pgrunway_activity_sampled_seconds_total`.
    pub struct SampledSeconds of m::SAMPLED { => seconds: f64 }
}
published! {
    /// `pgrunway_activity_unsampled_seconds_total`.
    pub struct UnsampledSeconds of m::UNSAMPLED { => seconds: f64 }
}

published! {
    /// `pg_wait_recommendation_active`.
    pub struct WaitRuleActive of m::RECOMMENDATION { id => active: f64 }
}

/// The collector of active sessions.
pub struct Activity;

/// What lives on between looks.
#[derive(Default)]
pub struct State {
    /// Monotonic seconds of the last look, and when the server that it saw was started.
    last: Option<(f64, f64)>,
    /// Whether a look failed since.
    failed: bool,
    sampled: f64,
    unsampled: f64,
    samples: u64,
    own: f64,
    waits: SecondsByName,
    workers: SecondsByName,
    applications: SecondsByName,
    clients: SecondsByName,
    idle: SecondsByName,
    statements: SecondsByStatement,
    /// When each database last had a statement that ran, and how many older than each age.
    running: BTreeMap<Arc<str>, (f64, [i64; read::AGES.len() + 1])>,
    /// How long the last look took on the server.
    took: Option<f64>,
    /// What the rules say of the last hour.
    hour: JudgedHour,
}

impl Collector for Activity {
    type Rows = Rows;
    type State = State;

    const NAME: &'static str = "activity";
    const HELP: &'static str = "Active sessions by what they wait for and by statement, sampled; how old running statements are.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(1);
    const METRICS: &'static [&'static Metric] = m::METRICS;
    const PACE: Option<Pacing> = Some(Pacing {
        shortest: Duration::from_millis(200),
        longest: Duration::from_secs(5),
        share: 0.01,
        jitter: true,
        quiet: true,
    });

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        read::read(session).await
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        state.take(&rows);
        state.emit(&rows, sink);
    }

    fn cost(&self, state: &State) -> Option<Duration> {
        state.took.and_then(|took| Duration::try_from_secs_f64(took).ok())
    }

    fn failed(&self, state: &mut State) {
        state.failed = true;
    }

    fn findings(state: &State) -> Arc<[Reported]> {
        state.hour.reported()
    }
}

impl State {
    fn take(&mut self, rows: &Rows) {
        let clocks = rows.groups.iter().filter_map(|g| g.clock);
        let (first, last) = clocks.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), clock| {
            (min.min(clock), max.max(clock))
        });
        // A step of the server's clock says nothing.
        self.took = Some(last - first).filter(|took| (0.0..60.0).contains(took));
        let same_server = self.last.is_none_or(|(_, started)| started == rows.started);
        let weight = self.stands_for(rows);
        self.running.retain(|_, (seen, _)| rows.at - *seen < SILENCE);
        self.running.values_mut().for_each(|(_, older)| older.fill(0));
        if !rows.sees_all || !same_server {
            // What another server did, or nobody saw, is no evidence.
            self.hour = JudgedHour::default();
        }
        if !rows.sees_all {
            return;
        }
        let mut found = Vec::new();
        for group in rows.groups.iter().filter(|g| g.clock.is_none()) {
            self.take_group(rows, group, weight, &mut found);
        }
        if weight > 0.0 && rows.tells_statements {
            self.statements.add(rows.at, rows.top, &found);
        }
        // There are at most some thousands of processors.
        let cpus = rows.cpus.map(|cpus| cpus as f64);
        if self.hour.is_due(rows.at) {
            let totals = WaitTotals::of(self.samples, self.sampled, &self.waits, &self.workers);
            self.hour.judge(rows.at, cpus, totals);
        }
    }

    /// For how many seconds the sessions of this look are taken to have been as they are.
    fn stands_for(&mut self, rows: &Rows) -> f64 {
        let failed = std::mem::take(&mut self.failed);
        let Some((at, started)) = self.last.replace((rows.at, rows.started)) else { return 0.0 };
        let since = (rows.at - at).max(0.0);
        if failed || since > rows.longest || started != rows.started {
            self.unsampled += since;
            return 0.0;
        }
        self.sampled += since;
        self.samples += 1;
        since
    }

    fn take_group(
        &mut self,
        rows: &Rows,
        group: &ActiveSessions,
        weight: f64,
        found: &mut Vec<Alike>,
    ) {
        let (at, count) = (rows.at, group.count as f64);
        let seconds = count * weight;
        if group.ours {
            self.own += if group.idle { 0.0 } else { seconds };
            return;
        }
        let kind: Arc<str> = group.wait_event_type.as_deref().unwrap_or(CPU).into();
        let event: Arc<str> = match &group.wait_event_type {
            Some(_) => group.wait_event.as_deref().unwrap_or_default().into(),
            None => CPU.into(),
        };
        if let Some(worker) = &group.worker {
            if !group.idle && weight > 0.0 {
                self.workers.add(at, (worker.as_str().into(), event), &kind, seconds, MOST_WORKERS);
            }
            return;
        }
        let datname: Arc<str> = group.datname.as_deref().unwrap_or_default().into();
        if self.running.contains_key(&datname) || self.running.len() < MOST_DATABASES {
            let (seen, running) =
                self.running.entry(datname.clone()).or_insert((at, Default::default()));
            *seen = at;
            running.iter_mut().zip(&group.older).for_each(|(sum, n)| *sum += n);
        }
        if weight == 0.0 {
            return;
        }
        if group.idle {
            self.idle.add(at, (datname, "".into()), &kind, seconds, MOST_DATABASES);
            return;
        }
        self.waits.add(at, (datname.clone(), event), &kind, seconds, MOST_WAITS);
        let named =
            [(&group.application, &mut self.applications), (&group.client, &mut self.clients)];
        for (name, ledger) in named {
            let Some(name) = name else { continue };
            let name = (datname.clone(), name.as_str().into());
            ledger.add(at, name, &kind, seconds, rows.most_names);
        }
        let statement = group.queryid.filter(|q| *q != 0).map(|queryid| ActiveStatement {
            datname: datname.clone(),
            usename: group.usename.as_deref().unwrap_or_default().into(),
            queryid,
        });
        found.push(Alike { datname, statement, kind, seconds });
    }

    fn emit(&self, rows: &Rows, sink: &mut Sink) {
        sink.number(&m::SAMPLED, &[], self.sampled);
        sink.number(&m::UNSAMPLED, &[], self.unsampled);
        sink.number(&m::SAMPLES, &[], self.samples as f64);
        sink.number(&m::LOOK, &[], self.took);
        sink.number(&m::CPUS, &[], rows.cpus.map(|cpus| cpus as f64));
        if !rows.sees_all {
            return;
        }
        sink.number(&m::OWN, &[], self.own);
        for (id, active) in self.hour.active() {
            sink.number(&m::RECOMMENDATION, &[id], *active);
        }
        let ledgers = [
            (&m::SESSIONS, "wait", &self.waits, true),
            (&m::WORKERS, "worker", &self.workers, true),
            (&m::APPLICATIONS, "application", &self.applications, rows.by.0),
            (&m::CLIENTS, "client", &self.clients, rows.by.1),
        ];
        for (metric, by, ledger, asked) in ledgers {
            if asked {
                sink.number(&m::FOLDED, &[by], ledger.folded);
            }
            // The event is a name, and stands last.
            let event_last = matches!(by, "wait" | "worker");
            for (first, name, kind, seconds) in ledger.iter() {
                let labels = if event_last { [first, kind, name] } else { [first, name, kind] };
                sink.number(metric, &labels, seconds);
            }
        }
        let mut idle: BTreeMap<&str, f64> = BTreeMap::new();
        self.idle.iter().for_each(|(datname, _, _, s)| *idle.entry(datname).or_default() += s);
        for (datname, seconds) in idle {
            sink.number(&m::IDLE, &[datname], seconds);
        }
        for (datname, (_, older)) in &self.running {
            for ((age, _), count) in read::AGES.iter().zip(older) {
                sink.number(&m::RUNNING, &[datname, age], *count as f64);
            }
            sink.number(&m::SLOW, &[datname], older.last().map(|count| *count as f64));
        }
        if !rows.tells_statements {
            return;
        }
        sink.number(&m::FOLDED, &["statement"], self.statements.folded);
        for (datname, kind, seconds) in self.statements.others() {
            sink.number(&m::STATEMENTS, &[datname, OTHER, OTHER, kind], seconds);
        }
        for (statement, waits) in self.statements.exposed() {
            let queryid = statement.queryid.to_string();
            for (kind, seconds) in waits {
                let labels: [&str; 4] = [&statement.datname, &statement.usename, &queryid, kind];
                sink.number(&m::STATEMENTS, &labels, *seconds);
            }
        }
    }
}
