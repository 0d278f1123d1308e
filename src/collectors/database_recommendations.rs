//! Which recommendations about one database hold, by the rules of `findings`, from what the
//! collectors of partitions, vacuum, sizes and indexes read.
//!
//! Must not: ask for more than they ask for, or lose the rules that can be judged to one of them that
//! fails; it says so itself.

use std::collections::HashMap;
use std::time::Duration;

use super::index_health::{self, IndexHealth, bloat_by_root};
use super::partitions::{self, Partitions, filled, roots};
use super::sizes::{self, Sizes};
use super::vacuum::standing::{Standing, standings};
use super::vacuum::{self, Vacuum};
use crate::collector::{Collector, Scope};
use crate::derive::growth::pace;
use crate::derive::index::{Facts, How, Invalid, Judged, Usage, Verdicts, judge};
use crate::derive::partition::Moment;
use crate::derive::rollup::Forest;
use crate::error::CollectError;
use crate::findings::{
    self, Bloated, Database, Expected, Gap, Growing, Growth, Index, IndexFault, OpenEnded, Overdue,
    Partitioned, Table,
};
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use crate::remedy::Relation;

static ACTIVE: Metric = Metric::gauge(
    "pg_database_recommendation_active",
    &["datname", "id"],
    "Whether the recommendation about the database holds, by its rule, see docs/recommendations.md; absent \
     where what it rests on could not be read.",
);

/// It rests a hundred times as long as it took: at most 1 % of a backend.
const REST: f64 = 100.0;

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
        let start = session.seconds();
        let parts = [Partitions::NAME, Vacuum::NAME, Sizes::NAME, IndexHealth::NAME];
        let set = |name: &str| session.settings().collectors.get(name)?.interval;
        let partitions = part(Partitions, session, &()).await?;
        // Of a collector that is switched off nothing is read.
        let odd = match &partitions {
            Ok(_) => match partitions::siblings(session).await {
                Err(e) if e.is_fatal() => return Err(e),
                odd => odd.map(Some),
            },
            Err(_) => Ok(None),
        };
        let rows = Rows {
            odd,
            least: parts.into_iter().filter_map(set).max().unwrap_or_default(),
            datname: session.server().datname.clone(),
            partitions,
            vacuum: if session.server().in_recovery {
                // What a standby counts is its own, and nothing changes rows there.
                Err(CollectError::Missing {
                    what: "a standby does not know what was changed and vacuumed".to_owned(),
                    remedy: "ask the primary".to_owned(),
                })
            } else {
                part(Vacuum, session, &vacuum::State::default()).await?
            },
            sizes: part(Sizes, session, &sizes::State::default()).await?,
            indexes: part(IndexHealth, session, &state.indexes).await?,
            took: session.seconds() - start,
        };
        match rows {
            Rows { partitions: Err(e), vacuum: Err(_), sizes: Err(_), indexes: Err(_), .. } => {
                Err(e)
            }
            rows => Ok(rows),
        }
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
        for (rule, verdict) in findings::judge(&facts) {
            sink.number(&ACTIVE, &[&rows.datname, rule.id], findings::active(&verdict));
        }
    }

    /// It rests as `sizes` does, and reads nothing more often than the user wants it read.
    fn interval(&self, state: &State) -> Duration {
        let rest = Duration::from_secs_f64((state.took * REST).clamp(0.0, 86_400.0));
        Self::INTERVAL.max(rest).max(state.least)
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

/// The verdicts on the indexes, where they could be read.
pub fn verdicts(rows: &Rows) -> Option<Verdicts> {
    rows.indexes.as_ref().ok().map(|r| judge(&r.facts, &r.limits))
}

/// What the rules look at, with the [`verdicts`] of the same rows. Statements are not among it: that takes
/// their texts, and watching.
pub fn facts(rows: &Rows, verdicts: Option<&Verdicts>) -> Database {
    let indexes = rows.indexes.as_ref().ok().zip(verdicts);
    let indexes = indexes.map(|(r, verdicts)| (r, known(&r.facts, verdicts)));
    Database {
        tables: rows.vacuum.as_ref().ok().map(|r| standings(r).iter().map(table).collect()),
        indexes: indexes.as_ref().map(|(r, known)| faults(&r.facts, known)),
        bloated: indexes.as_ref().and_then(|(r, known)| bloated(r, known)),
        growth: growth(rows),
        odd: rows.odd.as_ref().ok().cloned().flatten(),
        ..rows.partitions.as_ref().map_or_else(
            |_| Database { datname: rows.datname.clone(), ..Database::default() },
            of_partitions,
        )
    }
}

/// What the rules about partitions look at, and nothing else.
pub fn of_partitions(rows: &partitions::Rows) -> Database {
    let roots = roots(rows);
    let expected = rows.must_exist.iter().map(|(schema, relname)| {
        let found = roots.iter().find(|r| r.schema == schema && r.relname == relname);
        let lack = match found.map(|root| &root.outlook.runway) {
            None => Some("missing"),
            Some(Err(reason)) => Some(reason.label()),
            Some(Ok(_)) => None,
        };
        Expected { name: Relation::new(schema, relname), lack }
    });
    Database {
        datname: rows.datname.clone(),
        expected: Some(expected.collect()),
        partitioned: Some(partitioned(rows, &roots)),
        ..Database::default()
    }
}

fn partitioned(rows: &partitions::Rows, roots: &[partitions::Root<'_>]) -> Vec<Partitioned> {
    let wanted = roots.iter().filter(|root| !root.table.rule.ignore);
    let each = wanted.map(|root| {
        let rule = &root.table.rule;
        let mut table = Partitioned {
            name: Relation::new(root.schema, root.relname),
            leaves: root.outlook.leaves as f64,
            has_default: root.outlook.has_default,
            default_rows: root.outlook.default_rows,
            ..Partitioned::default()
        };
        let runway = match &root.outlook.runway {
            Ok(runway) => runway,
            Err(reason) => {
                table.reason = Some(reason.label());
                return table;
            }
        };
        let from = runway.until.map(Moment::seconds);
        table.gap = runway.next.map(|next| Gap { from, to: next.seconds() });
        table.covered = runway.covered;
        let required = rule.required.unwrap_or(rows.required);
        table.open_end = root.outlook.open_end.map(|open| OpenEnded {
            bounded: open.bounded.seconds(rows.now.into()),
            covered: open.bounded.covered,
            rows: open.rows,
        });
        table.runway = Some((runway.seconds(rows.now.into()), required));
        table.max_age = rule.max_age;
        if let (Some(max_age), Some(Moment::At(end))) = (rule.max_age, runway.oldest_data_end) {
            let age = Moment::At(i128::from(rows.now) - end).seconds();
            table.retention_exceeded = Some((age - max_age).max(0.0));
        }
        table
    });
    each.collect()
}

fn table(standing: &Standing<'_>) -> Table {
    let overdue = |(tables, times): (usize, f64)| Overdue { tables, times };
    Table {
        name: Relation::new(standing.schema, standing.relname),
        partitioned: !standing.stored,
        rows: standing.rows,
        vacuum: overdue(standing.vacuum),
        analyze: overdue(standing.analyze),
        never_analyzed: standing.never_analyzed,
        scale_factor: standing.scale_factor,
        vacuum_at: standing.vacuum_at,
    }
}

/// Bytes of a table with its TOAST and indexes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    bytes: f64,
    estimated: bool,
    unknown: bool,
}

impl Size {
    fn add(&mut self, relation: &sizes::Relation) {
        // Bytes on disk are far below 2^53. One without a size that is no estimate was dropped.
        self.bytes += relation.bytes.unwrap_or(0) as f64;
        self.estimated |= relation.estimated;
        self.unknown |= relation.estimated && relation.bytes.is_none();
    }
}

/// `None` without sizes. A table of which a part has no size is left out: too little looks like no growth.
fn growth(rows: &Rows) -> Option<Growth> {
    let (Ok(partitions), Ok(sizes)) = (&rows.partitions, &rows.sizes) else { return None };
    let tables = sizes.relations.iter().filter(|r| r.index_of.is_none());
    let forest = Forest::new(tables.filter_map(|r| Some((r.table.id, r.table.parent?))));
    let (mut by_leaf, mut by_root) = (HashMap::new(), HashMap::new());
    for relation in &sizes.relations {
        let table = relation.index_of.unwrap_or(relation.table.id);
        by_leaf.entry(table).or_insert_with(Size::default).add(relation);
        by_root.entry(forest.root(table)).or_insert_with(Size::default).add(relation);
    }
    let now = Moment::At(partitions.now.into()).seconds();
    let slices = filled(partitions, |oid| by_leaf.get(&oid).map_or(0.0, |size| size.bytes));
    let named = partitions.tables.iter().filter(|table| !table.rule.ignore);
    let tables = named.filter_map(|table| {
        let (schema, relname) = table.name.as_ref()?;
        let slices = slices.get(&table.oid)?;
        let size = by_root.get(&table.oid).filter(|size| !size.unknown)?;
        let pace = pace(slices, now)?;
        Some(Growing {
            name: Relation::new(schema, relname),
            bytes: size.bytes,
            per_day: pace.per_day,
            span: pace.to - pace.from,
            oldest: slices.iter().map(|slice| slice.from).fold(f64::INFINITY, f64::min),
            kept: table.rule.max_age,
            estimated: size.estimated,
        })
    });
    let mut tables: Vec<Growing> = tables.collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Growth { bytes: by_root.values().map(|size| size.bytes).sum(), tables })
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
    /// `pg_class.relname` of the index, unquoted.
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
fn faults(facts: &Facts, known: &[Known<'_>]) -> Vec<Index> {
    let names: HashMap<i64, &str> = known.iter().map(|k| (k.judged.id, k.name)).collect();
    let mut faults = Vec::new();
    for k in known {
        let mut add = |fault| {
            faults.push(Index {
                table: Relation::new(k.schema, k.table),
                name: k.name.to_owned(),
                oid: k.judged.id,
                constraint: k.index.constraint.is_some(),
                cover: k
                    .judged
                    .cover
                    .and_then(|cover| Some((cover.by, (*names.get(&cover.by)?).to_owned()))),
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
            let of = names.get(&cover.by).map_or_else(String::new, |n| (*n).to_owned());
            add(match cover.how {
                How::Duplicate | How::Twin => IndexFault::Duplicate { of },
                How::Prefix => IndexFault::Redundant { of },
            });
        }
    }
    faults
}

/// Indexes of which a part could be estimated. `None` where one that is large enough to matter could not.
fn bloated(rows: &index_health::Rows, known: &[Known<'_>]) -> Option<Vec<Bloated>> {
    let estimates = bloat_by_root(rows);
    let mut bloated = Vec::new();
    for k in known {
        if matches!(k.judged.usage, Usage::Unused { .. }) {
            // It is to go anyway.
            continue;
        }
        let tree = k.index.definition.as_ref().is_some_and(|d| d.method == "btree");
        match estimates.get(&k.judged.id) {
            Some((all, beyond)) => bloated.push(Bloated {
                table: Relation::new(k.schema, k.table),
                name: k.name.to_owned(),
                oid: k.judged.id,
                bytes: *all,
                share: beyond / all.max(1.0),
                partitioned: k.index.partitioned,
            }),
            None if tree && k.judged.pages * rows.facts.block_size >= findings::LARGE_INDEX => {
                return None;
            }
            None => {}
        }
    }
    Some(bloated)
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
            options: None,
            live: 100_000.0,
            counts: Counts {
                rows: 100_000.0 * f64::from(u8::from(stored)),
                dead,
                ..Counts::default()
            },
            last: vacuum::Last::default(),
            counters: vacuum::Counters::default(),
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
            tells_of_partitioned: true,
            relations: vec![
                relation(1, None, Some("trades"), false, 0.0),
                relation(100, Some(1), None, true, 40_101.0),
                relation(101, Some(1), None, true, 40_000.0),
                relation(9, None, Some("users"), true, 0.0),
            ],
            progress: Vec::new(),
        };
        Rows {
            took: 1.0,
            least: Duration::ZERO,
            datname: "app".to_owned(),
            partitions: Ok(partitions),
            odd: Ok(Some(Vec::new())),
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
        assert_eq!(active("partition.runway"), Some(1.0), "5.5 of 7 days");
        assert_eq!(active("vacuum.age"), Some(1.0));
        assert_eq!(active("storage.growth"), Some(1.0));
        assert_eq!(active("index.unused"), None);
        assert_eq!(active("statements.prepare"), None);
        check("databaserecommendations", &families);
    }

    #[test]
    fn the_facts_are_those_of_the_collectors() {
        let rows = rows();
        let facts = facts(&rows, verdicts(&rows).as_ref());
        let growth = facts.growth.unwrap();
        let mib = 1_048_576.0;
        assert_eq!(growth.bytes, (41.0 * 12.0 + 1_000.0) * mib);
        assert_eq!(
            growth.tables,
            [Growing {
                name: Relation::new("public", "trades"),
                bytes: 41.0 * 12.0 * mib,
                per_day: 12.0 * mib,
                span: 30.0 * 86_400.0,
                oldest: (20_000.0 - 40.0) * 86_400.0,
                kept: None,
                estimated: false,
            }]
        );
        let [trades] = facts.partitioned.unwrap().try_into().unwrap();
        assert_eq!((trades.leaves, trades.covered, trades.has_default), (46.0, true, false));
        assert_eq!(trades.runway, Some((5.5 * 86_400.0, 7.0 * 86_400.0)));
        let [trades, users]: [Table; 2] = facts.tables.unwrap().try_into().unwrap();
        // Of two partitions one is just not overdue.
        assert_eq!(trades.vacuum, Overdue { tables: 1, times: 40_101.0 / 20_050.0 });
        assert_eq!((trades.never_analyzed, trades.partitioned), (Some(true), true));
        assert_eq!(trades.rows, 280_101.0);
        assert_eq!((users.never_analyzed, users.partitioned), (None, false));
        assert_eq!(users.vacuum_at, 20_050.0);
        assert_eq!((facts.indexes, facts.bloated), (None, None));
    }

    #[test]
    fn what_could_not_be_read_is_not_judged() {
        let missing = || CollectError::Missing { what: "off".to_owned(), remedy: String::new() };
        let active = |rows: Rows, id: &str| {
            let families = poll(&DatabaseRecommendations, &mut State::default(), rows);
            value(&families, ACTIVE.name, &["app", id])
        };
        let without = || Rows { partitions: Err(missing()), ..rows() };
        assert_eq!(active(without(), "partition.runway"), None);
        assert_eq!(active(without(), "storage.growth"), None);
        assert_eq!(active(without(), "vacuum.age"), Some(1.0));
        let without = || Rows { vacuum: Err(missing()), ..rows() };
        assert_eq!(active(without(), "vacuum.age"), None);
        assert_eq!(active(without(), "vacuum.scale_factor"), None);
        assert_eq!(active(without(), "partition.runway"), Some(1.0));
        // One partition whose size nobody knows: too little looks like no growth.
        let mut locked = rows();
        let sizes = locked.sizes.as_mut().unwrap();
        (sizes.relations[0].estimated, sizes.relations[0].bytes) = (true, None);
        assert_eq!(active(locked, "storage.growth"), None);
    }

    #[test]
    fn what_is_retired_does_not_grow_and_rest_is_as_long_as_the_work() {
        let mut state = State::default();
        let growing = |state: &mut State, rows| {
            let families = poll(&DatabaseRecommendations, state, rows);
            value(&families, ACTIVE.name, &["app", "storage.growth"])
        };
        assert_eq!(growing(&mut state, rows()), Some(1.0));
        let mut retired = rows();
        retired.partitions.as_mut().unwrap().partitions.remove(0);
        (retired.took, retired.least) = (20.0, Duration::from_secs(1_000));
        assert_eq!(growing(&mut state, retired), Some(0.0), "it keeps 39 days and holds as many");
        let interval = |state: &State| Collector::interval(&DatabaseRecommendations, state);
        assert_eq!(interval(&state), Duration::from_secs(2_000));
        state.took = 0.1;
        assert_eq!(interval(&state), Duration::from_secs(1_000));
        assert_eq!(interval(&State::default()), DatabaseRecommendations::INTERVAL);
    }
}
