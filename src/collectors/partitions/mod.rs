//! Until when each partitioned table accepts rows, from the catalogues alone.
//!
//! Must not: know how the catalogues are read; `catalogue` does.

mod catalogue;
mod metrics;
pub mod published;
mod siblings;

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::collector::{Collector, Scope};
use crate::derive::growth::Slice;
use crate::derive::partition::{
    Level, Moment, Outlook, Span, Strategy, assess, coverage, keys_remaining, settle, slices,
};
use crate::error::CollectError;
use crate::metric::{Metric, Sink, TableCoverage};
use crate::pg::Session;

pub use catalogue::{Partition, PartitionedTable, Rows, TableRule, Zone};
use metrics::*;
pub use siblings::siblings;

/// Of one table on a timeline.
const STRETCHES: usize = 100;

pub struct Partitions;

/// A root and what is known of it.
pub struct Root<'a> {
    /// Its schema.
    pub schema: &'a str,
    /// `pg_class.relname`, unquoted.
    pub relname: &'a str,
    /// Its row.
    pub table: &'a PartitionedTable,
    /// Its runway and what lies behind it.
    pub outlook: Outlook,
    /// From when to when it is covered, in order.
    pub covered: Vec<Span>,
    keys_remaining: Option<f64>,
    zone_known: bool,
}

impl Collector for Partitions {
    type Rows = Rows;
    type State = ();

    const NAME: &'static str = "partitions";
    const HELP: &'static str = "Partition runway: seconds until an insert fails, gaps, DEFAULTs.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &[
        &RUNWAY,
        &COVERED_UNTIL,
        &COVERED,
        &GAP,
        &NEXT,
        &REQUIRED,
        &SUPPORTED,
        &REQUIRED_MISSING,
        &RETENTION,
        &KEYS_REMAINING,
        &COUNT,
        &FUTURE,
        &HAS_DEFAULT,
        &DEFAULT_ROWS,
        &BOUNDED_UNTIL,
        &OPEN_ENDED_ROWS,
        &OLDEST,
        &INTERVAL,
        &SIZE,
        &LEAF_SIZE,
        &LEAF_ROWS,
    ];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        Rows::fetch(session).await
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let roots = roots(&rows);
        // What pages comes first: should the series limit be hit, the rest is lost before it.
        for root in &roots {
            root.emit_runway(&rows, sink);
        }
        for (schema, relname) in &rows.must_exist {
            let found = roots.iter().find(|r| r.schema == schema && r.relname == relname);
            let reason = match found.map(|root| &root.outlook.runway) {
                None => "missing",
                Some(Err(reason)) => reason.label(),
                Some(Ok(_)) => "",
            };
            let labels = [rows.datname.as_str(), schema, relname, reason];
            sink.number(&REQUIRED_MISSING, &labels, flag(!reason.is_empty()));
        }
        for root in roots.iter().filter(|root| !root.table.rule.ignore) {
            root.emit_rest(&rows, sink);
        }
        if rows.per_partition > 0 {
            emit_leaves(&rows, &roots, sink);
        }
        let shown = roots.iter().filter(|root| !root.table.rule.ignore);
        sink.cover(shown.map(Root::coverage).collect());
    }
}

/// The roots in order of their names, the ignored ones among them.
pub fn roots(rows: &Rows) -> Vec<Root<'_>> {
    each_root(rows, |table, (schema, relname), levels, root| {
        let (zone, zone_known) = writers_zone(rows, table);
        let outlook = assess(levels, root, rows.now.into(), &zone);
        let covered = coverage(levels, root, rows.now.into(), &zone);
        let next = rows.next_keys.get(&table.oid);
        let keys_remaining = next.and_then(|next| keys_remaining(levels, root, *next));
        Root { schema, relname, table, outlook, covered, keys_remaining, zone_known }
    })
}

/// What `of` makes of every root, in order of their names: of its row, its name, the levels, settled for
/// it, and its place among them.
fn each_root<'a, T>(
    rows: &'a Rows,
    mut of: impl FnMut(&'a PartitionedTable, &'a (String, String), &mut [Level], usize) -> T,
) -> Vec<T> {
    let (mut levels, index) = catalogue::forest(rows);
    let mut roots: Vec<(&(String, String), &PartitionedTable)> =
        rows.tables.iter().filter_map(|t| Some((t.name.as_ref()?, t))).collect();
    roots.sort_by_key(|(name, _)| *name);
    roots
        .into_iter()
        .filter_map(|(name, table)| {
            let root = *index.get(&table.oid)?;
            settle(&mut levels, root, table.rule.unit);
            Some(of(table, name, &mut levels, root))
        })
        .collect()
}

/// Of the rows that are written, and whether it is known.
fn writers_zone(rows: &Rows, table: &PartitionedTable) -> (TimeZone, bool) {
    match table.rule.zone.as_ref().unwrap_or(&rows.zone) {
        Zone::Known(zone) => (zone.clone(), true),
        Zone::Unknown => (TimeZone::UTC, false),
    }
}

/// By OID of the root: from when to when it is covered, in Unix seconds and in order.
pub fn covered(rows: &Rows) -> HashMap<i64, Vec<(f64, f64)>> {
    let covered = each_root(rows, |table, _, levels, root| {
        let spans = coverage(levels, root, rows.now.into(), &writers_zone(rows, table).0);
        let spans = spans.iter().map(|span| (span.from.seconds(), span.to.seconds()));
        (table.oid, spans.collect())
    });
    covered.into_iter().collect()
}

/// By OID of the root: the slices of time, with the bytes that `size` knows of their leaves by OID. What
/// takes several slices is spread over them by their length.
pub fn filled(rows: &Rows, size: impl Fn(i64) -> f64) -> HashMap<i64, Vec<Slice>> {
    let filled = each_root(rows, |table, _, levels, root| {
        let slices: Vec<(f64, f64, i64)> = slices(levels, root, &writers_zone(rows, table).0)
            .into_iter()
            .map(|(span, id)| (span.from.seconds(), span.to.seconds(), id))
            .collect();
        let mut whole: HashMap<i64, f64> = HashMap::new();
        for (from, to, id) in &slices {
            *whole.entry(*id).or_default() += to - from;
        }
        let slice = |(from, to, id): (f64, f64, i64)| {
            // Without end, a slice is all that its leaf takes.
            let whole = whole.get(&id).copied().filter(|whole| *whole != to - from);
            let share = whole.map_or(1.0, |whole| (to - from) / whole);
            Slice { from, to, bytes: size(id) * share }
        };
        (table.oid, slices.into_iter().map(slice).collect())
    });
    filled.into_iter().collect()
}

impl Root<'_> {
    /// Why it has no runway, or what its runway lacks; else empty.
    pub fn reason(&self) -> &'static str {
        match &self.outlook.runway {
            Ok(runway) if runway.local && !self.zone_known => "zone_unknown",
            Ok(_) => "",
            Err(reason) => reason.label(),
        }
    }

    /// What a timeline shows: the last stretches, since what is long past matters least.
    fn coverage(&self) -> TableCoverage {
        let seconds = |span: &Span| (span.from.seconds(), span.to.seconds());
        let from = self.covered.len().saturating_sub(STRETCHES);
        let stretches = self.covered[from..].iter().map(seconds).collect();
        TableCoverage { schemaname: self.schema.into(), relname: self.relname.into(), stretches }
    }

    fn emit_runway(&self, rows: &Rows, sink: &mut Sink) {
        if self.table.rule.ignore {
            return;
        }
        let labels = [rows.datname.as_str(), self.schema, self.relname];
        let strategy = Strategy::from_code(&self.table.strategy).map_or("unknown", Strategy::label);
        let key = self.table.keys.first().map_or("unknown", String::as_str);
        let support = [labels[0], labels[1], labels[2], strategy, key, self.reason()];
        sink.number(&SUPPORTED, &support, flag(self.outlook.runway.is_ok()));
        let Ok(runway) = &self.outlook.runway else { return };
        let now = rows.now.into();
        sink.number(&RUNWAY, &labels, runway.seconds(now));
        sink.number(&COVERED_UNTIL, &labels, runway.until.map_or(0.0, Moment::seconds));
        sink.number(&COVERED, &labels, flag(runway.covered));
        sink.number(&REQUIRED, &labels, self.table.rule.required.unwrap_or(rows.required));
        sink.number(&GAP, &labels, flag(runway.next.is_some()));
        sink.number(&NEXT, &labels, runway.next.map(Moment::seconds));
        if let Some(open) = &self.outlook.open_end {
            let until = open.bounded.until.map_or(0.0, Moment::seconds);
            sink.number(&BOUNDED_UNTIL, &labels, until);
            sink.number(&OPEN_ENDED_ROWS, &labels, open.rows);
        }
        if let Some(max_age) = self.table.rule.max_age {
            let age = match runway.oldest_data_end {
                Some(Moment::At(end)) => Moment::At(now - end).seconds() - max_age,
                _ => 0.0,
            };
            sink.number(&RETENTION, &labels, age.max(0.0));
        }
    }

    fn emit_rest(&self, rows: &Rows, sink: &mut Sink) {
        let labels = [rows.datname.as_str(), self.schema, self.relname];
        let outlook = &self.outlook;
        sink.number(&COUNT, &labels, outlook.count as f64);
        sink.number(&HAS_DEFAULT, &labels, flag(outlook.has_default));
        sink.number(&DEFAULT_ROWS, &labels, outlook.default_rows);
        sink.number(&SIZE, &labels, outlook.pages as f64 * rows.block_size as f64);
        let Ok(runway) = &outlook.runway else {
            sink.number(&KEYS_REMAINING, &labels, self.keys_remaining);
            return;
        };
        sink.number(&FUTURE, &labels, runway.future as f64);
        sink.number(&OLDEST, &labels, runway.oldest.map(Moment::seconds));
        sink.number(&INTERVAL, &labels, runway.interval.map(|us| us as f64 / 1e6));
    }
}

/// The largest leaves of each root.
fn emit_leaves(rows: &Rows, roots: &[Root<'_>], sink: &mut Sink) {
    let parents: HashMap<i64, i64> =
        rows.partitions.iter().filter(|p| p.name.is_none()).map(|p| (p.oid, p.parent)).collect();
    let mut leaves: HashMap<i64, Vec<(&Partition, &str)>> = HashMap::new();
    for partition in &rows.partitions {
        let Some(name) = &partition.name else { continue };
        let mut root = partition.parent;
        // No chain is longer than there are links.
        for _ in 0..parents.len() {
            let Some(parent) = parents.get(&root) else { break };
            root = *parent;
        }
        leaves.entry(root).or_default().push((partition, name));
    }
    for root in roots.iter().filter(|root| !root.table.rule.ignore) {
        let Some(leaves) = leaves.get_mut(&root.table.oid) else { continue };
        leaves.sort_unstable_by_key(|(p, name)| (std::cmp::Reverse(p.pages()), *name));
        for (partition, name) in leaves.iter().take(rows.per_partition) {
            let labels = [rows.datname.as_str(), root.schema, root.relname, name];
            sink.number(&LEAF_SIZE, &labels, partition.pages() as f64 * rows.block_size as f64);
            sink.number(&LEAF_ROWS, &labels, partition.rows);
        }
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}
