//! Which recommendations about one database hold, by the rules of `findings`, from what the
//! collectors of partitions, vacuum, sizes and indexes read.
//!
//! Must not: ask for more than they ask for, or lose the rules that can be judged to one of them that
//! fails; it says so itself.

pub mod catalogue;
mod facts;
mod indexes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::extensions::{self, Extensions};
use super::index_health::catalogue::WhoseNames;
use super::index_health::{self, IndexHealth};
use super::maintenance::{self, Maintenance};
use super::partitions::{self, Partitions};
use super::published::published;
use super::sizes::{self, Sizes};
use super::vacuum::{self, Vacuum};
use crate::collector::{Collector, Scope};
use crate::derive::partition::Moment;
use crate::error::CollectError;
use crate::findings::{self, Ages, Growth, Judgement, NotValid, Reported};
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use crate::remedy::Relation;

pub use facts::{facts, of_extensions, of_jobs, of_partitions, of_vacuum, verdicts};
pub use indexes::{Known, known, of_indexes};

static ACTIVE: Metric = Metric::gauge(
    "pg_database_recommendation_active",
    &["datname", "id"],
    "Whether the recommendation about the database holds, by its rule (docs/recommendations.md); absent where \
     its facts could not be read.",
);

/// It rests a hundred times as long as it took: at most 1 % of a backend.
const REST: f64 = 100.0;

published! {
    /// `pg_database_recommendation_active`.
    pub struct DatabaseRuleActive of ACTIVE { datname, id => active: f64 }
}

pub struct DatabaseRecommendations;

/// What the other collectors read, or why they could not.
#[derive(Debug)]
pub struct Rows {
    /// Seconds the poll took.
    pub took: f64,
    /// Longest interval that the user set for a collector whose part this reads too.
    pub least: Duration,
    /// This database.
    pub datname: String,
    /// `server_version_num`.
    pub version_num: i32,
    /// The role of the session.
    pub role: String,
    /// Partitioned tables.
    pub partitions: Result<partitions::Rows, CollectError>,
    /// Partitions that differ from their siblings.
    pub odd: Result<Option<Vec<findings::Odd>>, CollectError>,
    /// What autovacuum looks at.
    pub vacuum: Result<vacuum::Rows, CollectError>,
    /// Bytes on disk.
    pub sizes: Result<sizes::Rows, CollectError>,
    /// Indexes.
    pub indexes: Result<index_health::Rows, CollectError>,
    /// Constraints that were never validated.
    pub not_valid: Result<Vec<NotValid>, CollectError>,
    /// Extensions.
    pub extensions: Result<extensions::Rows, CollectError>,
    /// Ages of transaction IDs.
    pub ages: Result<Ages, CollectError>,
    /// Jobs that look after partitions.
    pub jobs: Result<maintenance::Rows, CollectError>,
    /// Of partitions on which something was found, for who is shown that.
    pub names: catalogue::NamesByOid,
}

/// What only several polls tell.
#[derive(Debug, Default)]
pub struct State {
    indexes: index_health::State,
    /// Unix seconds at which the oldest slice of each table began when it was first seen.
    oldest: HashMap<Relation, f64>,
    /// Seconds that the last poll took.
    took: f64,
    /// Shortest interval that the user allows for what it reads.
    least: Duration,
    /// What was found.
    reported: Arc<[Reported]>,
}

/// What another collector reads, unless the user switched it off. An error that costs the session costs
/// the poll.
async fn part<C: Collector>(
    collector: C,
    session: &Session,
    state: &C::State,
) -> Result<Result<C::Rows, CollectError>, CollectError> {
    match is_on::<C>(session) {
        Ok(()) => read(collector.fetch(session, state).await),
        Err(e) => Ok(Err(e)),
    }
}

/// Whether the user left the collector on.
fn is_on<C: Collector>(session: &Session) -> Result<(), CollectError> {
    let setting = session.settings().collectors.get(C::NAME);
    match setting.map_or(C::DEFAULT_ON, |setting| setting.enabled) {
        true => Ok(()),
        false => Err(CollectError::Missing {
            what: format!("collector {} is switched off", C::NAME),
            remedy: format!("--collector.{}=true", C::NAME),
        }),
    }
}

/// An error that costs the session costs the poll.
fn read<T>(result: Result<T, CollectError>) -> Result<Result<T, CollectError>, CollectError> {
    match result {
        Err(e) if e.is_fatal() => Err(e),
        other => Ok(other),
    }
}

/// What a standby cannot know.
fn on_standby<T>(what: &str) -> Result<T, CollectError> {
    Err(CollectError::Missing { what: what.to_owned(), remedy: "ask the primary".to_owned() })
}

impl Collector for DatabaseRecommendations {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "databaserecommendations";
    const HELP: &'static str =
        "Which recommendations about a database hold: partitions, indexes, vacuum, growth.";
    const SCOPE: Scope = Scope::Database;
    // Nothing of it is urgent: what is has alerts of its own.
    const INTERVAL: Duration = Duration::from_secs(900);
    const METRICS: &'static [&'static Metric] = &[&ACTIVE];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let mut rows = Rows::read(session, WhoseNames::Judged).await?;
        // As far as is known before it is dated, which is enough to ask for names.
        let mut facts = facts(&rows, verdicts(&rows).as_ref());
        rows.names = read(catalogue::names(session, &mut facts).await)?.unwrap_or_default();
        Ok(rows)
    }

    fn derive(&self, state: &mut State, mut rows: Rows, sink: &mut Sink) {
        (state.took, state.least) = (rows.took, rows.least);
        if let Ok(indexes) = &mut rows.indexes {
            state.indexes.date(&mut indexes.facts);
        }
        let mut facts = facts(&rows, verdicts(&rows).as_ref());
        if let (Some(growth), Ok(partitions)) = (&mut facts.growth, &rows.partitions) {
            state.watch(growth, Moment::At(partitions.now.into()).seconds());
        }
        catalogue::give_names(&mut facts, &rows.names);
        let judgement = Judgement::of(&facts);
        for (id, active) in judgement.active {
            sink.number(&ACTIVE, &[&rows.datname, id], active);
        }
        state.reported = judgement.reported.into();
    }

    fn findings(state: &State) -> Arc<[Reported]> {
        state.reported.clone()
    }

    /// It rests as `sizes` does, and reads nothing more often than the user wants it read.
    fn interval(&self, state: &State) -> Duration {
        let rest = Duration::from_secs_f64((state.took * REST).clamp(0.0, 86_400.0));
        Self::INTERVAL.max(rest).max(state.least)
    }
}

impl Rows {
    /// Reads what the rules look at. Of partitions with `names` of all tables, for who says which they are.
    ///
    /// # Errors
    /// Nothing could be read, or the session is lost.
    pub async fn read(session: &Session, names: WhoseNames) -> Result<Self, CollectError> {
        let start = session.seconds();
        let server = session.server();
        let parts = [Partitions::NAME, Vacuum::NAME, Sizes::NAME, IndexHealth::NAME];
        let set = |name: &str| session.settings().collectors.get(name)?.interval;
        let partitions = part(Partitions, session, &()).await?;
        // Of a collector that is switched off nothing is read.
        let odd = match &partitions {
            Ok(_) => read(partitions::siblings(session).await.map(Some))?,
            Err(_) => Ok(None),
        };
        let (vacuum, ages) = if server.in_recovery {
            // What a standby counts is its own, and nothing changes rows there.
            (
                on_standby("a standby does not know what was changed and vacuumed"),
                on_standby("a standby cannot freeze"),
            )
        } else {
            let vacuum = part(Vacuum, session, &vacuum::State::default()).await?;
            (vacuum, read(catalogue::ages(session).await)?)
        };
        let sizes = part(Sizes, session, &sizes::State::default()).await?;
        let indexes = match is_on::<IndexHealth>(session) {
            Ok(()) => read(index_health::read(session, names).await)?,
            Err(e) => Err(e),
        };
        let not_valid = read(catalogue::not_valid(session).await)?;
        let extensions = part(Extensions, session, &()).await?;
        let jobs = part(Maintenance, session, &maintenance::State::default()).await?;
        let rows = Self {
            took: session.seconds() - start,
            least: parts.into_iter().filter_map(set).max().unwrap_or_default(),
            datname: server.datname.clone(),
            version_num: server.version_num,
            role: server.role.clone(),
            partitions,
            odd,
            vacuum,
            sizes,
            indexes,
            not_valid,
            extensions,
            ages,
            jobs,
            names: catalogue::NamesByOid::default(),
        };
        match rows {
            Self { partitions: Err(e), vacuum: Err(_), sizes: Err(_), indexes: Err(_), .. } => {
                Err(e)
            }
            rows => Ok(rows),
        }
    }
}

impl State {
    /// A table whose oldest slice went is one whose data are retired, configured or not.
    fn watch(&mut self, growth: &mut Growth, now: f64) {
        let before = std::mem::take(&mut self.oldest);
        for table in &mut growth.tables {
            let first = before.get(&table.name).copied().unwrap_or(table.oldest);
            if table.oldest > first {
                table.kept.get_or_insert(now - table.oldest);
            }
            self.oldest.insert(table.name.clone(), first);
        }
    }
}
