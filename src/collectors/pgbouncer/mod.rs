//! PgBouncer's console: pools, databases, totals, lists and limits. Columns are found by name, so
//! that what a version lacks is absent and what a newer one adds is ignored.
//!
//! Must not: ask for a row per connection (`SHOW CLIENTS`, `SHOW SERVERS`): `SHOW POOLS` and
//! `SHOW LISTS` have their counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::findings::{Judgement, Reported};
use crate::metric::{Metric, Sink};
use crate::pg::{ConsoleTable, Session};

mod evidence;
mod metrics;
pub mod published;

pub use evidence::State;
use metrics::*;

/// Users beyond which their own pool sizes are not looked up: an `auth_file` may have thousands.
const MOST_USERS: f64 = 1_000.0;

pub struct PgBouncer;

/// What one poll was shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Seconds, [`Session::seconds`].
    pub at: f64,
    /// `SHOW POOLS`.
    pub pools: ConsoleTable,
    /// `SHOW DATABASES`.
    pub databases: ConsoleTable,
    /// `SHOW STATS_TOTALS`.
    pub totals: ConsoleTable,
    /// `SHOW LISTS`.
    pub lists: ConsoleTable,
    /// `SHOW CONFIG`.
    pub config: ConsoleTable,
    /// `SHOW USERS`, empty where there are too many.
    pub users: ConsoleTable,
    /// Objective for the longest wait in seconds.
    pub longest_wait: f64,
}

impl Collector for PgBouncer {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "pgbouncer";
    const HELP: &'static str = "Pools, waiting clients, totals and limits of a PgBouncer, from its \
                                console.";
    const SCOPE: Scope = Scope::Pooler;
    const INTERVAL: Duration = Duration::from_secs(5);
    const METRICS: &'static [&'static Metric] = CATALOGUE;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let lists = session.show("LISTS").await?;
        let users = keyed(&lists).get("users").copied().unwrap_or(0.0);
        Ok(Rows {
            at: session.seconds(),
            pools: session.show("POOLS").await?,
            databases: session.show("DATABASES").await?,
            totals: session.show("STATS_TOTALS").await?,
            config: session.show("CONFIG").await?,
            users: if users <= MOST_USERS {
                session.show("USERS").await?
            } else {
                ConsoleTable::default()
            },
            lists,
            longest_wait: session.settings().objectives.pooler_wait,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let databases = ConsoleDatabases::of(&rows.databases);
        databases.emit(sink);
        pools(&rows.pools, &databases.pool_sizes, &user_pool_sizes(&rows.users), sink);
        for (labels, values) in grouped(&rows.totals, &["database"], TOTALS) {
            emit(sink, TOTALS, &labels, &values);
        }
        let (lists, config) = (keyed(&rows.lists), keyed(&rows.config));
        for (name, metric) in LISTS {
            sink.number(metric, &[], lists.get(*name).copied());
        }
        for (name, metric) in CONFIG {
            sink.number(metric, &[], config.get(*name).copied());
        }
        let clients = (lists.get("used_clients"), config.get("max_client_conn"));
        if let (Some(used), Some(most)) = clients {
            sink.number(&CLIENTS_USED_RATIO, &[], ratio(*used, *most));
        }
        sink.number(&WAIT_OBJECTIVE, &[], rows.longest_wait);
        let facts = state.facts(&rows);
        let judgement = Judgement::of(&facts);
        for (id, active) in judgement.active {
            sink.number(&RECOMMENDATION, &[id], active);
        }
        state.reported = judgement.reported.into();
    }

    fn findings(state: &State) -> Arc<[Reported]> {
        state.reported.clone()
    }
}

/// `None` where there is no limit.
fn ratio(used: f64, most: f64) -> Option<f64> {
    (most > 0.0).then(|| used / most)
}

/// The sizes of `SHOW USERS` are padded with blanks.
fn number(row: &[Option<String>], column: Option<usize>) -> Option<f64> {
    let value: f64 = row.get(column?)?.as_deref()?.trim().parse().ok()?;
    value.is_finite().then_some(value)
}

fn text(row: &[Option<String>], column: Option<usize>) -> String {
    column.and_then(|c| row.get(c)?.clone()).unwrap_or_default()
}

/// The numbers of a table that holds a name and a value in each row (`SHOW LISTS`, `SHOW CONFIG`).
fn keyed(table: &ConsoleTable) -> BTreeMap<&str, f64> {
    let name = table.column("list").or(table.column("key"));
    let value = table.column("items").or(table.column("value"));
    let pairs = table.rows.iter().filter_map(|row| {
        let name = row.get(name?)?.as_deref()?;
        Some((name, number(row, value)?))
    });
    pairs.collect()
}

/// The values of some columns by the labels of their rows. Names that differ only in what is not
/// UTF-8 are one, and their values are added up.
fn grouped(
    table: &ConsoleTable,
    labels: &[&str],
    columns: &[Column],
) -> BTreeMap<Vec<String>, Vec<Option<f64>>> {
    let labels: Vec<_> = labels.iter().map(|l| table.column(l)).collect();
    let places: Vec<_> = columns.iter().map(|c| table.column(c.name)).collect();
    let mut groups = BTreeMap::new();
    for row in &table.rows {
        let key = labels.iter().map(|l| text(row, *l)).collect();
        let values: &mut Vec<Option<f64>> =
            groups.entry(key).or_insert_with(|| vec![None; columns.len()]);
        for ((sum, place), column) in values.iter_mut().zip(&places).zip(columns) {
            if let Some(value) = number(row, *place) {
                *sum = Some(sum.unwrap_or(0.0) + value * column.unit);
            }
        }
    }
    groups
}

fn emit(sink: &mut Sink, columns: &[Column], labels: &[String], values: &[Option<f64>]) {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    for (column, value) in columns.iter().zip(values) {
        sink.number(column.metric, &labels, *value);
    }
}

/// What `SHOW DATABASES` has.
struct ConsoleDatabases {
    rows: BTreeMap<Vec<String>, Vec<Option<f64>>>,
    /// By name.
    pool_sizes: BTreeMap<String, f64>,
    /// Connections in use and allowed, by name, where there is a limit.
    connections: BTreeMap<String, f64>,
    /// Connections allowed, by name, where there is a limit.
    limits: BTreeMap<String, f64>,
    /// Names of those whose clients are to wait.
    paused: BTreeSet<String>,
}

impl ConsoleDatabases {
    fn of(table: &ConsoleTable) -> Self {
        let name = table.column("name");
        let of_name = |value: &dyn Fn(&[Option<String>]) -> Option<f64>| {
            let rows = table.rows.iter();
            rows.filter_map(|row| Some((text(row, name), value(row)?))).collect()
        };
        let column = |name: &str| table.column(name);
        let (size, current, most) =
            (column("pool_size"), column("current_connections"), column("max_connections"));
        let paused = column("paused");
        Self {
            rows: grouped(table, DATABASE_LABELS, DATABASES),
            pool_sizes: of_name(&|row| number(row, size)),
            connections: of_name(&|row| ratio(number(row, current)?, number(row, most)?)),
            limits: of_name(&|row| number(row, most).filter(|most| *most > 0.0)),
            paused: table
                .rows
                .iter()
                .filter(|row| number(row, paused) == Some(1.0))
                .map(|row| text(row, name))
                .collect(),
        }
    }

    fn emit(&self, sink: &mut Sink) {
        for (labels, values) in &self.rows {
            emit(sink, DATABASES, labels, values);
        }
        for (name, used) in &self.connections {
            sink.number(&DATABASE_USED_RATIO, &[name], *used);
        }
    }
}

/// Pool sizes that users have of their own (PgBouncer 1.24 and later).
fn user_pool_sizes(table: &ConsoleTable) -> BTreeMap<String, f64> {
    let (name, size) = (table.column("name"), table.column("pool_size"));
    let rows = table.rows.iter();
    rows.filter_map(|row| Some((text(row, name), number(row, size)?))).collect()
}

fn pools(
    table: &ConsoleTable,
    of_databases: &BTreeMap<String, f64>,
    of_users: &BTreeMap<String, f64>,
    sink: &mut Sink,
) {
    for (labels, values) in grouped(table, POOL_LABELS, POOLS) {
        emit(sink, POOLS, &labels, &values);
        let [database, user] = &labels[..] else { continue };
        let value = |name: &str| {
            let place = POOLS.iter().position(|c| c.name == name)?;
            values.get(place).copied().flatten()
        };
        let label = [database.as_str(), user.as_str()];
        let size = of_users.get(user).or(of_databases.get(database)).copied();
        let taken = IN_USE.iter().filter_map(|name| value(name)).sum::<f64>();
        sink.number(&POOL_SIZE, &label, size);
        sink.number(&SATURATION, &label, size.and_then(|size| ratio(taken, size)));
        if let (Some(active), Some(waiting)) = (value("cl_active"), value("cl_waiting")) {
            sink.number(&WAIT_RATIO, &label, ratio(waiting, active + waiting));
        }
    }
    for (labels, waits) in longest_waits(table) {
        sink.number(&MAXWAIT, &[&labels[0], &labels[1]], waits);
    }
}

/// Seconds and microseconds of the longest wait, by pool.
fn longest_waits(table: &ConsoleTable) -> BTreeMap<[String; 2], f64> {
    let [database, user, seconds, micros] =
        ["database", "user", "maxwait", "maxwait_us"].map(|name| table.column(name));
    let mut waits: BTreeMap<[String; 2], f64> = BTreeMap::new();
    for row in &table.rows {
        let Some(whole) = number(row, seconds) else { continue };
        let wait = whole + number(row, micros).unwrap_or(0.0) * MICROSECOND;
        let longest = waits.entry([text(row, database), text(row, user)]).or_default();
        *longest = longest.max(wait);
    }
    waits
}

#[cfg(test)]
mod tests;
