//! What is exposed of the calls that were found: a distribution per database, one per statement of
//! the exposed set, and one per database for all others.
//!
//! Must not: take anything back that was counted, or move a call from one series to another.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map};
use std::sync::Arc;

use super::bars::{self, Latest, Levels};
use super::catalogue as m;
use super::entry::{Counters, Entry, EntryKey, ViewFacts};
use super::scan::{Rows, TEXTS, Text};
use super::track::New;
use crate::derive::latency::grid::{CLASSIC_BOUNDS, NATIVE_SCHEMA, NATIVE_ZERO_THRESHOLD};
use crate::derive::latency::{Latencies, Learnt, likely};
use crate::metric::{Histogram, Native, Sink};

/// A statement that was silent for so long leaves the exposed set; so does a dropped database.
const SILENCE: f64 = 3600.0;
/// The exposed set may grow to so many times the configured number, so that a heavy newcomer need
/// not wait for an hour's silence.
const ROOM: usize = 2;
/// In a full set, a newcomer takes the place of whoever was not among the heaviest for so long.
const OUTRANKED: f64 = 600.0;
/// A text that was asked for so often in vain is not to be had.
const ASKS: u32 = 5;
/// How many rows postgres_exporter shows.
const PEERS_LIMIT: usize = 100;
/// Label of the statements that are not exposed.
const OTHER: &str = "other";

/// A statement as it is labelled. Rows of the view that differ only in what no label tells (nesting
/// level) are one statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    datname: Arc<str>,
    usename: Arc<str>,
    queryid: i64,
}

/// What identifies the rows of a statement: database, role and queryid.
type Id = (i64, i64, i64);

/// Calls, seconds and the other counters of a statement, as the view has them.
type Own = (f64, f64, Counters);

/// Calls of one database, statement or rest.
struct Series {
    latencies: Latencies,
    latest: Latest,
    exact: u64,
    counters: Counters,
    /// Monotonic seconds when there was nothing in it: what Unix time that was changes with a step of the
    /// wall clock.
    created: f64,
    /// Monotonic seconds of the last call.
    active: f64,
    /// Monotonic seconds when it was last among the heaviest.
    ranked: f64,
    text: Option<Arc<str>>,
    /// How often its text was asked for.
    asked: u32,
    /// Whose rows they are; of a statement only.
    id: Option<Id>,
}

/// All series of a target.
#[derive(Default)]
pub(super) struct Exposition {
    databases: BTreeMap<Arc<str>, Series>,
    statements: BTreeMap<Statement, Series>,
    others: BTreeMap<Arc<str>, Series>,
    /// Plans of a database.
    planning: BTreeMap<Arc<str>, Series>,
    /// Monotonic seconds up to which everything was counted.
    until: Option<f64>,
    /// Texts to ask for in the next poll: queryids.
    wanted: Vec<i64>,
    /// Texts of the rows that postgres_exporter shows, by queryid; empty but in its profile.
    peers: BTreeMap<i64, PeersText>,
    bounds: Option<Arc<[f64]>>,
}

/// The text of a row that postgres_exporter shows.
#[derive(Debug, Default)]
struct PeersText {
    text: Option<Arc<str>>,
    /// How often it was asked for in vain.
    asked: u32,
}

impl Series {
    /// An empty series: created at `created`, its first calls about `at`.
    fn new(at: f64, created: f64, latest: Latest) -> Self {
        Self {
            latencies: Latencies::default(),
            latest,
            exact: 0,
            counters: Counters::default(),
            created,
            active: at,
            ranked: at,
            text: None,
            asked: 0,
            id: None,
        }
    }

    fn add(&mut self, at: f64, new: &New<'_>) {
        self.latencies.add(new.found.mass, new.found.calls, new.seconds);
        self.latest.add(at, &new.found);
        self.exact += new.found.exact;
        self.counters = self.counters.combined(new.counters, |sum, by| sum + by);
        self.active = at;
    }

    fn lacks_text(&self) -> bool {
        self.text.is_none() && self.asked < ASKS
    }

    fn histogram(&self, bounds: &Arc<[f64]>, epoch: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            bounds: bounds.clone(),
            cumulative: self.latencies.cumulative().into(),
            count: self.latencies.count(),
            sum: self.latencies.sum(),
            native: Some(Native {
                schema: NATIVE_SCHEMA,
                zero_threshold: NATIVE_ZERO_THRESHOLD,
                zero_count: self.latencies.native_zero(),
                buckets: self.latencies.native_buckets().collect(),
            }),
            created: Some(epoch + self.created),
        })
    }
}

impl ViewFacts {
    /// The statement of a row. What was dropped since goes by PostgreSQL's own name for it.
    fn statement(&self, key: EntryKey) -> Statement {
        let unknown = |oid| Arc::from(format!("unknown (OID={oid})"));
        let name = |names: &std::collections::HashMap<i64, Arc<str>>, oid: i64| {
            names.get(&oid).cloned().unwrap_or_else(|| unknown(oid))
        };
        Statement {
            datname: name(&self.databases, key.dbid),
            usename: name(&self.roles, key.userid),
            queryid: key.queryid,
        }
    }
}

impl Exposition {
    /// Counts new calls where they belong now.
    pub(super) fn add(&mut self, at: f64, facts: &ViewFacts, new: &New<'_>) {
        let statement = facts.statement(new.key);
        let created = self.created(at);
        if new.key.toplevel {
            let datname = statement.datname.clone();
            let series = self.databases.entry(datname);
            series.or_insert_with(|| Series::new(at, created, Latest::bounded())).add(at, new);
        }
        let series = match self.statements.get_mut(&statement) {
            Some(series) => series,
            None => {
                let series = self.others.entry(statement.datname);
                series.or_insert_with(|| Series::new(at, created, Latest::bounded()))
            }
        };
        series.add(at, new);
    }

    /// Counts new plans.
    pub(super) fn add_plans(&mut self, at: f64, facts: &ViewFacts, new: &New<'_>) {
        if new.key.toplevel {
            let (datname, created) = (facts.statement(new.key).datname, self.created(at));
            let series = self.planning.entry(datname);
            series.or_insert_with(|| Series::new(at, created, Latest::plain())).add(at, new);
        }
    }

    /// Notes that a row may have lost calls, or counted some that are none.
    pub(super) fn doubt(&mut self, at: f64, facts: &ViewFacts, key: EntryKey) {
        let statement = facts.statement(key);
        if key.toplevel
            && let Some(series) = self.databases.get_mut(&statement.datname)
        {
            series.latest.doubt(at);
        }
        let series = match self.statements.get_mut(&statement) {
            Some(series) => Some(series),
            None => self.others.get_mut(&statement.datname),
        };
        if let Some(series) = series {
            series.latest.doubt(at);
        }
    }

    /// Notes that rows may have lost calls that nobody saw: of which statements one knows, or not of any.
    pub(super) fn doubt_all(&mut self, at: f64, statements_known: bool) {
        let unknown = self.databases.values_mut().chain(self.others.values_mut());
        unknown.for_each(|series| series.latest.doubt(at));
        if !statements_known {
            self.statements.values_mut().for_each(|series| series.latest.doubt(at));
        }
    }

    /// Notes that, under evictions, a statement whose row is not there may have had one since the last poll.
    pub(super) fn doubt_absent(&mut self, at: f64, there: impl Fn(Id) -> bool) {
        let absent =
            self.statements.values_mut().filter(|series| series.id.is_none_or(|id| !there(id)));
        absent.for_each(|series| series.latest.doubt(at));
    }

    /// Notes that all calls until then are counted.
    pub(super) fn read_until(&mut self, at: f64) {
        self.until = Some(at);
    }

    /// When a series was empty whose first calls were found at `at`: at the reading before.
    fn created(&self, at: f64) -> f64 {
        self.until.unwrap_or(at)
    }

    /// Lets the heaviest in, and those out that fell silent.
    pub(super) fn choose(
        &mut self,
        at: f64,
        facts: &ViewFacts,
        top: usize,
        heaviest: impl Iterator<Item = EntryKey>,
    ) {
        self.statements.retain(|_, series| at - series.active < SILENCE);
        let there: HashSet<&Arc<str>> = facts.databases.values().collect();
        for all in [&mut self.databases, &mut self.others, &mut self.planning] {
            all.retain(|datname, s| at - s.active < SILENCE || there.contains(datname));
        }
        for key in heaviest {
            let statement = facts.statement(key);
            if let Some(series) = self.statements.get_mut(&statement) {
                series.ranked = at;
            } else if self.statements.len() < top.saturating_mul(ROOM) || self.make_room(at) {
                let id = Some((key.dbid, key.userid, key.queryid));
                let series = Series { id, ..Series::new(at, at, Latest::bounded()) };
                self.statements.insert(statement, series);
            }
        }
    }

    fn make_room(&mut self, at: f64) -> bool {
        let outranked = self
            .statements
            .iter()
            .filter(|(_, series)| at - series.ranked >= OUTRANKED)
            .min_by(|a, b| a.1.ranked.total_cmp(&b.1.ranked))
            .map(|(statement, _)| statement.clone());
        outranked.is_some_and(|statement| self.statements.remove(&statement).is_some())
    }

    /// Keeps the texts that came for exposed statements.
    pub(super) fn take_texts(&mut self, facts: &ViewFacts, texts: &[Text]) {
        for text in texts {
            let (dbid, userid, queryid) = text.id;
            let statement = facts.statement(EntryKey { dbid, userid, queryid, toplevel: true });
            if let Some(series) = self.statements.get_mut(&statement) {
                series.text = Some(text.query.clone());
            }
            if let Some(peers) = self.peers.get_mut(&queryid) {
                peers.text.get_or_insert_with(|| text.query.clone());
            }
        }
    }

    /// Queryids of shown statements whose text is not known.
    pub(super) fn wanted(&self) -> &Vec<i64> {
        &self.wanted
    }

    /// Notes the texts to ask for next, or none.
    pub(super) fn want_texts(&mut self, yes: bool) {
        self.wanted.clear();
        if yes {
            let missing = self.statements.iter_mut().filter(|(_, series)| series.lacks_text());
            for (statement, series) in missing.take(TEXTS) {
                series.asked += 1;
                self.wanted.push(statement.queryid);
            }
            for (queryid, peers) in &mut self.peers {
                if peers.text.is_none() && peers.asked < ASKS && !self.wanted.contains(queryid) {
                    peers.asked += 1;
                    self.wanted.push(*queryid);
                }
            }
        }
    }

    /// What the view says now of each exposed statement that it has; of several nesting levels the sum.
    fn own(&self, entries: &[Entry]) -> HashMap<Id, Own> {
        let exposed: HashSet<Id> = self.statements.values().filter_map(|s| s.id).collect();
        let mut own: HashMap<Id, Own> = HashMap::with_capacity(exposed.len());
        for Entry { key, time, counters, .. } in entries {
            let id = (key.dbid, key.userid, key.queryid);
            if exposed.contains(&id) {
                let (calls, seconds, sums) = own.entry(id).or_default();
                *calls += time.calls as f64;
                *seconds += time.total;
                *sums = sums.combined(*counters, |sum, by| sum + by);
            }
        }
        own
    }

    /// The counters of the rows that postgres_exporter shows: the hundred that took longest, the shortest tenth left out.
    fn emit_like_postgres_exporter(&mut self, rows: &Rows, sink: &mut Sink) {
        let (facts, entries) = (&rows.facts, &rows.last().entries);
        let excluded = &rows.options.excluded;
        let mut times: Vec<f64> = entries.iter().map(|entry| entry.time.total).collect();
        times.sort_by(f64::total_cmp);
        let Some(least) = tenth(&times) else { return };
        let shown = |e: &&Entry| e.time.total > least && !excluded.has(facts, &e.key);
        let mut longest: Vec<&Entry> = entries.iter().filter(shown).collect();
        longest.sort_by(|a, b| b.time.total.total_cmp(&a.time.total));
        let mut sums: BTreeMap<Statement, Own> = BTreeMap::new();
        for Entry { key, time, counters, .. } in longest.into_iter().take(PEERS_LIMIT) {
            let (calls, seconds, sum) = sums.entry(facts.statement(*key)).or_default();
            *calls += time.calls as f64;
            *seconds += time.total;
            *sum = sum.combined(*counters, |sum, by| sum + by);
        }
        let mut before = std::mem::take(&mut self.peers);
        for (statement, own) in sums {
            let Statement { datname, usename, queryid: id } = statement;
            let queryid = id.to_string();
            emit_counters(facts, [&datname, &usename, &queryid], own, sink);
            if let btree_map::Entry::Vacant(new) = self.peers.entry(id) {
                let peers = new.insert(before.remove(&id).unwrap_or_default());
                if let Some(text) = &peers.text {
                    sink.number(&m::QUERY_ID, &[&queryid, text], 1.0);
                }
            }
        }
    }

    /// Emits everything, with what the view says of the statements now, and error bars from what was `learnt` of the
    /// latencies of rows.
    pub(super) fn emit(
        &mut self,
        at: f64,
        rows: &Rows,
        learnt: impl Fn(&EntryKey, f64) -> Option<Learnt>,
        sink: &mut Sink,
    ) {
        let (facts, objective) = (&rows.facts, rows.options.objective);
        let entries = &rows.last().entries;
        let mut own = self.own(entries);
        let theirs = sink.is_compatible();
        if theirs {
            self.emit_like_postgres_exporter(rows, sink);
        }
        let (epoch, track_planning) = (facts.epoch, facts.track_planning);
        let bounds = self.bounds.get_or_insert_with(|| CLASSIC_BOUNDS.as_slice().into()).clone();
        let all = [&mut self.databases, &mut self.others, &mut self.planning];
        let all = all.into_iter().flat_map(BTreeMap::values_mut);
        all.chain(self.statements.values_mut()).for_each(|series| series.latest.refresh(at));
        for (datname, series) in &self.databases {
            let labels: [&str; 1] = [datname];
            sink.histogram(&m::QUERY_DURATION, &labels, series.histogram(&bounds, epoch));
            sink.number(&m::QUERY_EXACT, &labels, series.exact as f64);
            sink.number(&m::QUERY_EXACT_RATIO, &labels, series.latest.exact_ratio());
            // All statements' shapes err alike.
            let statements = self.statements.iter().filter(|(s, _)| s.datname == *datname);
            let parts = || {
                let statements = statements.clone().map(|(_, series)| (&series.latest, series.id));
                statements.chain(self.others.get(datname).map(|series| (&series.latest, None)))
            };
            let deviation = |window: usize, _, _, x: f64| {
                let learnt = |id: Option<Id>| shape(id, x, &learnt);
                parts().map(|(part, id)| part.deviation(window, x, || learnt(id))).sum()
            };
            let wanted = (Levels::ALL, objective);
            bars::emit(&m::QUERY, wanted, &labels, &series.latest, deviation, sink);
        }
        if track_planning {
            for (datname, series) in &mut self.planning {
                let labels: [&str; 1] = [datname];
                sink.histogram(&m::PLANNING_DURATION, &labels, series.histogram(&bounds, epoch));
                bars::quantiles(&m::PLANNING_LATENCY, &labels, &series.latest, sink);
            }
        }
        for (datname, series) in &mut self.others {
            let labels = [&**datname, OTHER, OTHER];
            let sums = (series.latencies.count() as f64, series.latencies.sum(), series.counters);
            sink.histogram(&m::DURATION, &labels, series.histogram(&bounds, epoch));
            // Of a mixture nothing is learnt.
            let deviation =
                |_, share, estimated, _| likely::deviation(share, estimated, Learnt::default());
            let wanted = (rows.options.bars, objective);
            bars::emit(&m::STATEMENT_BARS, wanted, &labels, &series.latest, deviation, sink);
            if !theirs {
                emit_counters(facts, labels, sums, sink);
            }
        }
        let mut texts: BTreeMap<i64, Arc<str>> = BTreeMap::new();
        for (statement, series) in &mut self.statements {
            let queryid = statement.queryid.to_string();
            let labels: [&str; 3] = [&statement.datname, &statement.usename, &queryid];
            sink.histogram(&m::DURATION, &labels, series.histogram(&bounds, epoch));
            let deviation = |_, share, estimated, x| {
                likely::deviation(share, estimated, shape(series.id, x, &learnt))
            };
            let wanted = (rows.options.bars, objective);
            bars::emit(&m::STATEMENT_BARS, wanted, &labels, &series.latest, deviation, sink);
            // A row that was evicted counts nothing until it is back, and then from zero.
            if let Some(own) = series.id.and_then(|id| own.remove(&id)).filter(|_| !theirs) {
                emit_counters(facts, labels, own, sink);
            }
            if let Some(text) = &series.text {
                sink.number(&m::INFO, &[labels[0], labels[1], labels[2], text], 1.0);
                if theirs {
                    continue;
                }
                texts.entry(statement.queryid).or_insert_with(|| text.clone());
            }
        }
        for (queryid, text) in &texts {
            sink.number(&m::QUERY_ID, &[&queryid.to_string(), text], 1.0);
        }
    }
}

/// What was learnt of a statement's latencies up to `x`: nothing of those that are not told apart.
fn shape(id: Option<Id>, x: f64, learnt: impl Fn(&EntryKey, f64) -> Option<Learnt>) -> Learnt {
    let row = |(dbid, userid, queryid), toplevel| EntryKey { dbid, userid, queryid, toplevel };
    let found = id.and_then(|id| learnt(&row(id, true), x).or_else(|| learnt(&row(id, false), x)));
    found.unwrap_or_default()
}

/// What a tenth of some ascending numbers lies below, as `percentile_cont` has it.
fn tenth(ascending: &[f64]) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let place = 0.1 * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a tenth of a length"
    )]
    let below = place as usize;
    let (low, high) = (ascending[below], ascending[(below + 1).min(last)]);
    Some(low + (high - low) * place.fract())
}

fn emit_counters(
    facts: &ViewFacts,
    [datname, usename, queryid]: [&str; 3],
    (calls, seconds, counters): Own,
    sink: &mut Sink,
) {
    let entry = [usename, datname, queryid];
    sink.number(&m::CALLS, &entry, calls);
    sink.number(&m::SECONDS, &entry, seconds);
    let planning = [&m::PLANS, &m::PLAN_SECONDS];
    for (metric, value) in Counters::METRICS.into_iter().zip(<[_; Counters::N]>::from(counters)) {
        if facts.track_planning || !planning.iter().any(|p| std::ptr::eq(*p, metric)) {
            sink.number(metric, &entry, value);
        }
    }
}
