//! Which recommendations about one database hold, by the rules of `derive::recommend`, from what the
//! collectors of partitions, vacuum, sizes and indexes read.
//!
//! Must not: ask for more than they ask for, or lose the rules that can be judged to one of them that
//! fails; it says so itself.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::index_health::{self, IndexHealth};
use super::partitions::{self, Partitions, Root, filled, roots};
use super::sizes::{self, Sizes};
use super::vacuum::{self, Standing, Vacuum, standings};
use crate::collector::{Collector, Scope};
use crate::derive::growth::pace;
use crate::derive::index::{Facts, How, Invalid, Judged, Usage, Verdicts, judge};
use crate::derive::partition::Moment;
use crate::derive::recommend::{
    self, Database, Growing, Growth, Index, IndexFault, Overdue, Table,
};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use crate::pg::quote::relation;

static ACTIVE: Metric = Metric::gauge(
    "pg_database_recommendation_active",
    &["datname", "id"],
    "Whether the recommendation about the database holds, by its rule, see docs/recommendations.md; absent \
     where what it rests on could not be read.",
);

/// The collector.
pub struct DatabaseRecommendations;

/// What the other collectors read, or why they could not.
#[derive(Debug)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Partitioned tables.
    pub partitions: Result<partitions::Rows, CollectError>,
    /// What autovacuum looks at.
    pub vacuum: Result<vacuum::Rows, CollectError>,
    /// Bytes on disk.
    pub sizes: Result<sizes::Rows, CollectError>,
    /// Indexes.
    pub indexes: Result<index_health::Rows, CollectError>,
}

/// What is to be known of indexes over time.
#[derive(Debug, Default)]
pub struct State {
    indexes: index_health::State,
}

/// What another collector reads, unless the user switched it off. An error that costs the session costs
/// the poll.
async fn part<C: Collector>(
    collector: C,
    session: &Session,
    state: &C::State,
) -> Result<Result<C::Rows, CollectError>, CollectError> {
    let setting = session.settings().collectors.get(C::NAME);
    if !setting.map_or(C::DEFAULT_ON, |setting| setting.enabled) {
        return Ok(Err(CollectError::Missing {
            what: format!("collector {} is switched off", C::NAME),
            remedy: format!("--collector.{}=true", C::NAME),
        }));
    }
    match collector.fetch(session, state).await {
        Err(e) if e.is_fatal() => Err(e),
        other => Ok(other),
    }
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

    async fn fetch(&self, session: &Session, state: &State) -> Result<Rows, CollectError> {
        Ok(Rows {
            datname: session.server().datname.clone(),
            partitions: part(Partitions, session, &()).await?,
            vacuum: part(Vacuum, session, &vacuum::State::default()).await?,
            sizes: part(Sizes, session, &sizes::State::default()).await?,
            indexes: part(IndexHealth, session, &state.indexes).await?,
        })
    }

    fn derive(&self, state: &mut State, mut rows: Rows, sink: &mut Sink) {
        if let Ok(indexes) = &mut rows.indexes {
            state.indexes.date(&mut indexes.facts);
        }
        let facts = facts(&rows);
        for rule in recommend::DATABASE {
            sink.number(&ACTIVE, &[&rows.datname, rule.id], rule.active(&facts));
        }
    }
}

/// What the rules look at. Statements are not among it: that takes their texts, and watching.
pub fn facts(rows: &Rows) -> Database {
    Database {
        tables: tables(rows),
        indexes: rows.indexes.as_ref().ok().map(|r| faults(r, &judge(&r.facts, &r.limits))),
        growth: growth(rows),
        ..Database::default()
    }
}

/// `None` where nothing is known of any.
fn tables(rows: &Rows) -> Option<Vec<Table>> {
    if rows.partitions.is_err() && rows.vacuum.is_err() {
        return None;
    }
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for standing in rows.vacuum.as_ref().map(standings).unwrap_or_default() {
        let name = relation(standing.schema, standing.relname);
        stand(tables.entry(name).or_default(), &standing);
    }
    if let Ok(r) = &rows.partitions {
        for root in roots(r) {
            divide(tables.entry(relation(root.schema, root.relname)).or_default(), r, &root);
        }
    }
    for (name, table) in &mut tables {
        table.name.clone_from(name);
    }
    Some(tables.into_values().collect())
}

fn divide(table: &mut Table, rows: &partitions::Rows, root: &Root<'_>) {
    table.partitions = root.outlook.count as f64;
    let rule = &root.table.rule;
    if rule.ignore {
        return;
    }
    table.default_rows = root.outlook.default_rows;
    let Ok(runway) = &root.outlook.runway else { return };
    table.runway = Some((runway.seconds(rows.now.into()), rule.required.unwrap_or(rows.required)));
    if let (Some(max_age), Some(Moment::At(end))) = (rule.max_age, runway.oldest_data_end) {
        let age = Moment::At(i128::from(rows.now) - end).seconds();
        table.retention_exceeded = Some((age - max_age).max(0.0));
    }
}

fn stand(table: &mut Table, standing: &Standing<'_>) {
    table.rows = Some(standing.rows);
    table.scale_factor = Some(standing.scale_factor);
    table.never_analyzed = Some(standing.never_analyzed);
    table.vacuum = Some(Overdue { tables: standing.vacuum, times: standing.due.vacuum });
    table.analyze = Some(Overdue { tables: standing.analyze, times: standing.due.analyze });
}

/// `None` without sizes.
fn growth(rows: &Rows) -> Option<Growth> {
    let (Ok(partitions), Ok(sizes)) = (&rows.partitions, &rows.sizes) else { return None };
    let mut bytes: HashMap<i64, i64> = HashMap::new();
    for relation in &sizes.relations {
        *bytes.entry(relation.index_of.unwrap_or(relation.table.id)).or_default() +=
            relation.bytes.unwrap_or(0);
    }
    let now = Moment::At(partitions.now.into()).seconds();
    let slices = filled(partitions.clone(), |oid| bytes.get(&oid).copied().unwrap_or(0));
    let named = partitions.tables.iter().filter(|table| !table.rule.ignore);
    let tables = named.filter_map(|table| {
        let (schema, relname) = table.name.as_ref()?;
        let slices = slices.get(&table.oid)?;
        let pace = pace(slices, now)?;
        Some(Growing {
            name: relation(schema, relname),
            bytes: slices.iter().map(|slice| slice.bytes).sum(),
            per_day: pace.per_day,
            span: pace.to - pace.from,
            kept: table.rule.max_age,
        })
    });
    let mut tables: Vec<Growing> = tables.collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    // Bytes on disk are far below 2^53.
    Some(Growth { bytes: bytes.values().sum::<i64>() as f64, tables })
}

/// What is known of an index beside its verdict.
pub struct Known<'a> {
    /// The verdict.
    pub judged: &'a Judged,
    /// The index.
    pub index: &'a crate::derive::index::Index,
    /// Schema of its table and of itself.
    pub schema: &'a str,
    /// Its table.
    pub table: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The indexes that have a verdict, by schema and table, the primary key first.
pub fn known<'a>(facts: &'a Facts, verdicts: &'a Verdicts) -> Vec<Known<'a>> {
    let indexes: HashMap<i64, &crate::derive::index::Index> =
        facts.indexes.iter().map(|i| (i.id, i)).collect();
    let tables: HashMap<i64, &(String, String)> =
        facts.tables.iter().filter_map(|t| Some((t.id, t.name.as_ref()?))).collect();
    let each = |judged: &'a Judged| {
        let index = *indexes.get(&judged.id)?;
        let (schema, table) = tables.get(&judged.table)?;
        Some(Known { judged, index, schema, table, name: index.name.as_deref()? })
    };
    let mut known: Vec<Known> = verdicts.indexes.iter().filter_map(each).collect();
    known.sort_by_key(|k| (k.schema, k.table, !k.index.primary, k.name));
    known
}

/// Indexes with faults.
fn faults(rows: &index_health::Rows, verdicts: &Verdicts) -> Vec<Index> {
    let facts = &rows.facts;
    let known = known(facts, verdicts);
    let names: HashMap<i64, &str> = known.iter().map(|k| (k.judged.id, k.name)).collect();
    let mut faults = Vec::new();
    for k in &known {
        let mut add = |fault| {
            faults.push(Index {
                name: relation(k.schema, k.name),
                bytes: k.judged.pages * facts.block_size,
                partitioned: k.index.partitioned,
                fault,
            });
        };
        if k.judged.invalid == Some(Invalid::Broken) {
            add(IndexFault::Invalid);
        }
        if let Usage::Unused { since } = k.judged.usage {
            add(IndexFault::Unused { seconds: facts.now - since });
        }
        if let Some(cover) = k.judged.cover {
            let of = names.get(&cover.by).map_or_else(String::new, |n| relation(k.schema, n));
            add(match cover.how {
                How::Duplicate | How::Twin => IndexFault::Duplicate { of },
                How::Prefix => IndexFault::Redundant { of },
            });
        }
        if let Some(b) = rows.bloat.iter().find(|b| b.index == k.judged.id)
            && b.pages > 0.0
        {
            add(IndexFault::Bloated { share: 1.0 - b.needed / b.pages });
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations;
    use super::*;
    use crate::derive::vacuum::{Counts, Thresholds};

    const DAY: i64 = 86_400;

    /// `trades` by days: 40 behind, today, and five ahead; a plain table beside it.
    fn rows() -> Rows {
        let today = 20_000;
        let days = today - 40..=today + 5;
        let oid = |day: i64| 100 + day - (today - 40);
        let date = |day: i64| {
            let at = jiff::Timestamp::from_second(day * DAY).unwrap();
            Some(
                jiff::civil::DateTime::from(at.to_zoned(jiff::tz::TimeZone::UTC))
                    .date()
                    .to_string(),
            )
        };
        let bound = |day: i64| {
            Some(format!("FOR VALUES FROM ('{}') TO ('{}')", date(day)?, date(day + 1)?))
        };
        let partitions = partitions::Rows {
            datname: "app".to_owned(),
            now: (today * DAY + DAY / 2) * 1_000_000,
            block_size: 8_192,
            zone: partitions::Zone::find(["UTC"]),
            required: 7.0 * 86_400.0,
            tables: vec![partitions::Table {
                oid: 1,
                name: Some(("public".to_owned(), "trades".to_owned())),
                strategy: "r".to_owned(),
                keys: vec!["date".to_owned()],
                column: Some("day".to_owned()),
                zone: None,
                rule: partitions::Rule::default(),
            }],
            partitions: days
                .clone()
                .map(|day| partitions::Partition {
                    oid: oid(day),
                    parent: 1,
                    bound: bound(day),
                    pages: 1,
                    rows: None,
                    name: None,
                })
                .collect(),
            next_keys: HashMap::new(),
            must_exist: Vec::new(),
            per_partition: 0,
        };
        let size = |id: i64, parent, index_of, bytes| sizes::Relation {
            table: relations::Table { id, parent, name: None },
            index_of,
            estimated: false,
            bytes: Some(bytes),
        };
        // 12 MiB a day with its index until today; nothing is ahead.
        let mib = 1_048_576;
        let filled = |day: i64| if day <= today { mib } else { 0 };
        let sizes = sizes::Rows {
            took: 0.1,
            too_many: false,
            datname: "app".to_owned(),
            relations: days
                .flat_map(|day| {
                    [
                        size(oid(day), Some(1), None, 8 * filled(day)),
                        size(oid(day) + 1_000, None, Some(oid(day)), 4 * filled(day)),
                    ]
                })
                .chain([size(9, None, None, 1_000 * mib)])
                .collect(),
        };
        let relation = |id, parent, name: Option<&str>, stored, dead| vacuum::Relation {
            table: relations::Table {
                id,
                parent,
                name: name.map(|name| ("public".to_owned(), name.to_owned())),
            },
            stored,
            options: String::new(),
            live: 100_000.0,
            counts: Counts {
                rows: 100_000.0 * f64::from(u8::from(stored)),
                dead,
                ..Counts::default()
            },
            last: [None; 4],
            counters: [0.0; 8],
        };
        let vacuum = vacuum::Rows {
            started: 1.0,
            datname: "app".to_owned(),
            thresholds: Thresholds {
                vacuum: (50.0, 0.2),
                vacuum_max: None,
                insert: (1_000.0, 0.2),
                analyze: (50.0, 0.1),
                freeze_max_age: 2e8,
            },
            relations: vec![
                relation(1, None, Some("trades"), false, 0.0),
                relation(100, Some(1), None, true, 40_101.0),
                relation(101, Some(1), None, true, 40_000.0),
                relation(9, None, Some("users"), true, 0.0),
            ],
            progress: Vec::new(),
        };
        Rows {
            datname: "app".to_owned(),
            partitions: Ok(partitions),
            vacuum: Ok(vacuum),
            sizes: Ok(sizes),
            indexes: Err(CollectError::Missing {
                what: "no right".to_owned(),
                remedy: "GRANT".to_owned(),
            }),
        }
    }

    #[test]
    fn golden_with_one_part_that_could_not_be_read() {
        let families = poll(&DatabaseRecommendations, &mut State::default(), rows());
        let active = |id| value(&families, ACTIVE.name, &["app", id]);
        assert_eq!(active("partitions.runway"), Some(1.0), "5.5 of 7 days");
        assert_eq!(active("vacuum.overdue"), Some(1.0));
        assert_eq!(active("storage.growth"), Some(1.0));
        assert_eq!(active("indexes.unused"), None);
        assert_eq!(active("statements.prepare"), None);
        check("databaserecommendations", &families);
    }

    #[test]
    fn the_facts_are_those_of_the_collectors() {
        let facts = facts(&rows());
        let growth = facts.growth.unwrap();
        let mib = 1_048_576.0;
        assert_eq!(growth.bytes, (41.0 * 12.0 + 1_000.0) * mib);
        assert_eq!(
            growth.tables,
            [Growing {
                name: "public.trades".to_owned(),
                bytes: 41.0 * 12.0 * mib,
                per_day: 12.0 * mib,
                span: 30.0 * 86_400.0,
                kept: None,
            }]
        );
        let tables = facts.tables.unwrap();
        let [trades, users] = tables.as_slice() else { panic!("{tables:?}") };
        assert_eq!(trades.partitions, 46.0);
        assert_eq!(trades.runway, Some((5.5 * 86_400.0, 7.0 * 86_400.0)));
        assert_eq!(trades.vacuum, Some(Overdue { tables: 1, times: 40_101.0 / 20_050.0 }));
        assert_eq!(trades.never_analyzed, Some(true));
        assert_eq!(trades.rows, Some(280_101.0));
        assert_eq!((users.never_analyzed, users.partitions), (Some(false), 0.0));
        assert_eq!(facts.indexes, None);
    }
}
