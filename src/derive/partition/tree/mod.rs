//! The outlook of one partitioned table: until when every row that is accepted now will be.
//!
//! Coverage, by recursion: a leaf takes everything; a level whose leading key is a time takes what
//! its partitions take, each within its own bound, the DEFAULT left out; any other level takes only
//! what all its partitions take, its DEFAULT among them.
//!
//! Must not: let a DEFAULT of a time level lengthen the runway.

use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::tz::TimeZone;

use super::accept::{Accept, AcceptedRange};
use super::bound::{Bound, Datum};
use super::moment::{self, Moment, Span};
use super::unit::{KeyUnit, TimeKey};

/// Levels deeper than this are not followed; nobody builds them, but the stack must not end.
const DEEPEST: usize = 64;
/// Slices whose widths give the interval.
const RECENT: usize = 5;

/// `partstrat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// `r`
    Range,
    /// `l`
    List,
    /// `h`
    Hash,
}

impl Strategy {
    /// From `pg_partitioned_table.partstrat`.
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "r" => Some(Self::Range),
            "l" => Some(Self::List),
            "h" => Some(Self::Hash),
            _ => None,
        }
    }

    /// Label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::List => "list",
            Self::Hash => "hash",
        }
    }
}

/// One column of a partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKey {
    /// A type that holds a time.
    Time(TimeKey),
    /// `int2`, `int4` or `int8`, of which [`super::settle`] has found no unit (yet).
    Integer,
    /// A UUID, of which [`super::settle`] has found no time (yet).
    Uuid,
    /// Any other type.
    Other,
}

impl PartitionKey {
    /// From the name of a built-in type.
    pub fn of(typname: &str) -> Self {
        match typname {
            "timestamptz" => Self::Time(TimeKey::Timestamptz),
            "timestamp" => Self::Time(TimeKey::Timestamp),
            "date" => Self::Time(TimeKey::Date),
            "int2" | "int4" | "int8" => Self::Integer,
            "uuid" => Self::Uuid,
            _ => Self::Other,
        }
    }

    pub(super) fn may_hold_time(self) -> bool {
        matches!(self, Self::Integer | Self::Uuid)
    }
}

/// One partitioned table, root or not.
#[derive(Debug, Clone)]
pub struct Level {
    /// How it is partitioned.
    pub strategy: Strategy,
    /// By what, in order.
    pub keys: Box<[PartitionKey]>,
    /// Name of the leading column; `None` for an expression. Levels by the same column hold the same.
    pub column: Option<Box<str>>,
    /// The zone of its leading key, where its expression fixes one; else that of the writers.
    pub zone: Option<TimeZone>,
    /// Its partitions.
    pub children: Vec<Child>,
}

impl Level {
    /// The type of its leading key, where its partitions are slices of time. A list of timestamps is
    /// not: each takes a microsecond.
    pub fn time_key(&self) -> Option<TimeKey> {
        match (self.strategy, self.keys.first()?) {
            (Strategy::Range, PartitionKey::Time(key)) => Some(*key),
            (
                Strategy::List,
                PartitionKey::Time(key @ (TimeKey::Date | TimeKey::Number(KeyUnit::Day))),
            ) => Some(*key),
            _ => None,
        }
    }
}

/// One partition.
#[derive(Debug, Clone)]
pub struct Child {
    /// Which: `pg_class.oid`.
    pub id: i64,
    /// `None` where the text was not understood.
    pub bound: Option<Bound>,
    /// Index of its own [`Level`] if it is partitioned; `None` for a leaf.
    pub level: Option<usize>,
    /// Heap pages of a leaf.
    pub pages: u64,
    /// Estimated rows of a leaf, where known.
    pub rows: Option<f64>,
}

/// Why a table has no runway, or only a doubtful one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// HASH or LIST, and no level below is partitioned by time.
    NoTimeLevel,
    /// RANGE over a type that holds no time, and no level below does.
    KeyType,
    /// RANGE over an integer whose bounds do not agree on a unit of time: serial IDs, perhaps.
    UnitUnknown,
    /// RANGE over UUIDs whose bounds are not those of version 7.
    UuidNotV7,
    /// RANGE in which a time comes after another column.
    TimeNotLeading,
    /// A bound on a time could not be read.
    BoundUnreadable,
    /// More than 64 levels.
    TooDeep,
}

impl Reason {
    /// Label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoTimeLevel => "no_time_level",
            Self::KeyType => "key_type",
            Self::UnitUnknown => "unit_unknown",
            Self::UuidNotV7 => "uuid_not_v7",
            Self::TimeNotLeading => "time_not_leading",
            Self::BoundUnreadable => "bound_unreadable",
            Self::TooDeep => "too_deep",
        }
    }
}

/// What is known of the coverage of a table by time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Runway {
    /// Whether a row of now is accepted.
    pub covered: bool,
    /// End of the covered span that holds now, else of the last one before; `None` if there is none.
    pub until: Option<Moment>,
    /// Start of the next covered span after [`Runway::until`] or now.
    pub next: Option<Moment>,
    /// Time slices that begin after now, gaps or not.
    pub future: usize,
    /// Start of the oldest slice.
    pub oldest: Option<Moment>,
    /// End of the oldest slice that holds data, as far as the statistics know.
    pub oldest_data_end: Option<Moment>,
    /// Median width of the last five slices that have one, in microseconds.
    pub interval: Option<i128>,
    /// Whether a key is local time, so that the result depends on the zone.
    pub local: bool,
}

impl Runway {
    /// Seconds from now until the first insert fails: negative once expired, 0 if nothing was ever
    /// covered, infinite if there is no end.
    pub fn seconds(&self, now: i128) -> f64 {
        match self.until {
            None => 0.0,
            Some(Moment::At(until)) => moment::seconds(until - now),
            Some(end) => end.seconds(),
        }
    }
}

/// What a partition without an end (`TO (MAXVALUE)`) behind others that have one does to a table: nothing is
/// refused, but all that comes after them goes into it, and none that would take a part of that can be created.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenEnd {
    /// The runway by the partitions that have an end.
    pub bounded: Runway,
    /// Estimated rows in those that have none.
    pub rows: Option<f64>,
}

/// Everything about one root.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The runway, or why there is none.
    pub runway: Result<Runway, Reason>,
    /// Direct partitions, the DEFAULT included.
    pub count: usize,
    /// Whether a time level (or an unsupported root) has a DEFAULT.
    pub has_default: bool,
    /// Estimated rows in those DEFAULTs.
    pub default_rows: Option<f64>,
    /// What has no end behind what has one, if anything.
    pub open_end: Option<OpenEnd>,
    /// Partitions that are not partitioned themselves.
    pub leaves: usize,
    /// Heap pages of all leaves.
    pub pages: u64,
}

/// The outlook of `levels[root]` at `now` (microseconds since 1970). Naive times are local in `zone`.
pub fn assess(levels: &[Level], root: usize, now: i128, zone: &TimeZone) -> Outlook {
    let mut walk = Walk::new(levels, Moment::At(now), zone);
    let spans = walk.coverage(root, Span::ALL, false, 0);
    let level = levels.get(root);
    if !walk.timed
        && let Some(default) =
            level.and_then(|l| l.children.iter().find(|c| c.bound == Some(Bound::Default)))
    {
        walk.swallow(default);
    }
    let runway = match walk.obstacle(level) {
        Some(reason) => Err(reason),
        None => Ok(walk.runway(spans)),
    };
    let endless = walk.slices.iter().any(|(span, _)| span.to == Moment::Future);
    Outlook {
        open_end: if runway.is_ok() && endless { open_end(levels, root, now, zone) } else { None },
        runway,
        count: level.map_or(0, |l| l.children.len()),
        has_default: walk.has_default,
        default_rows: walk.default_rows,
        leaves: walk.leaves(root),
        pages: walk.pages(root),
    }
}

/// By a walk that leaves out what has no end, where that is beside what has one.
fn open_end(levels: &[Level], root: usize, now: i128, zone: &TimeZone) -> Option<OpenEnd> {
    let mut walk = Walk { bounded: true, ..Walk::new(levels, Moment::At(now), zone) };
    let spans = walk.coverage(root, Span::ALL, false, 0);
    walk.open_end.then(|| OpenEnd { bounded: walk.runway(spans), rows: walk.open_rows })
}

/// When `levels[root]` takes what it takes at `now`, past and future, in order. Empty where no level of it
/// is partitioned by time.
pub fn coverage(levels: &[Level], root: usize, now: i128, zone: &TimeZone) -> Vec<Span> {
    let mut walk = Walk::new(levels, Moment::At(now), zone);
    let spans = walk.coverage(root, Span::ALL, false, 0);
    if walk.obstacle(levels.get(root)).is_none() { spans } else { Vec::new() }
}

/// The slices of time of `levels[root]` with the leaf that takes each: a leaf by LIST may take several.
/// Naive times are local in `zone`. Empty where [`coverage`] is unknown.
pub fn slices(levels: &[Level], root: usize, zone: &TimeZone) -> Vec<(Span, i64)> {
    let mut walk = Walk::new(levels, Moment::Past, zone);
    walk.coverage(root, Span::ALL, false, 0);
    if walk.obstacle(levels.get(root)).is_none() { walk.slices } else { Vec::new() }
}

/// A span, and what it takes of the other keys (`None`: everything).
struct Piece {
    span: Span,
    accept: Option<Rc<Accept>>,
}

struct Walk<'a> {
    levels: &'a [Level],
    now: Moment,
    zone: &'a TimeZone,
    timed: bool,
    local: bool,
    unreadable: bool,
    too_deep: bool,
    has_default: bool,
    default_rows: Option<f64>,
    /// With the leaf.
    slices: Vec<(Span, i64)>,
    oldest_data_end: Option<Moment>,
    /// Whether to leave out what has no end beside what has one.
    bounded: bool,
    /// Whether anything was left out.
    open_end: bool,
    /// Rows of that.
    open_rows: Option<f64>,
}

impl<'a> Walk<'a> {
    fn new(levels: &'a [Level], now: Moment, zone: &'a TimeZone) -> Self {
        Self {
            levels,
            now,
            zone,
            timed: false,
            local: false,
            unreadable: false,
            too_deep: false,
            has_default: false,
            default_rows: None,
            slices: Vec::new(),
            oldest_data_end: None,
            bounded: false,
            open_end: false,
            open_rows: None,
        }
    }

    /// What a level covers within `path`, as far as it takes everything that it takes now.
    fn coverage(&mut self, level: usize, path: Span, sliced: bool, depth: usize) -> Vec<Span> {
        let pieces = self.pieces(level, path, sliced, depth);
        let today = pieces.iter().find(|p| p.span.holds(self.now)).map(|p| p.accept.clone());
        let spans = pieces.into_iter().filter_map(|piece| {
            let later = piece.span.from > self.now;
            let enough = match (&piece.accept, &today) {
                (None, _) | (_, None) => true,
                (Some(_), Some(None)) => false,
                (Some(then), Some(Some(now))) => Rc::ptr_eq(then, now) || then.contains(now),
            };
            (!later || enough).then_some(piece.span)
        });
        moment::union(spans.collect())
    }

    /// `sliced` says that a level above is a time level, so that `path` is a slice of time.
    fn pieces(&mut self, level: usize, path: Span, sliced: bool, depth: usize) -> Vec<Piece> {
        let Some(level) = self.levels.get(level) else { return Vec::new() };
        if depth > DEEPEST {
            self.too_deep = true;
            return Vec::new();
        }
        match level.time_key() {
            Some(key) => self.by_time(level, key, path, depth),
            None => self.by_other(level, path, sliced, depth),
        }
    }

    fn by_time(&mut self, level: &Level, key: TimeKey, path: Span, depth: usize) -> Vec<Piece> {
        self.timed = true;
        self.local |= key.is_local() && level.zone.is_none();
        let zone = level.zone.as_ref().unwrap_or(self.zone);
        let mut parts = Vec::with_capacity(level.children.len());
        for child in &level.children {
            if child.bound == Some(Bound::Default) {
                self.swallow(child);
                continue;
            }
            let Some(spans) = child.bound.as_ref().and_then(|b| spans(b, key, zone)) else {
                self.unreadable = true;
                continue;
            };
            parts.extend(spans.into_iter().filter_map(|s| Some((child, s.clip(path)?))));
        }
        let endless = |span: &Span| span.to == Moment::Future;
        // What is alone, or ends with the level above, is meant to be so.
        let bounded = self.bounded && parts.iter().any(|(_, span)| !endless(span));
        let mut pieces = Vec::with_capacity(parts.len());
        for (child, span) in parts {
            let first = pieces.len();
            match child.level {
                None => {
                    self.slice(child, span);
                    pieces.push(Piece { span, accept: None });
                }
                Some(below) => pieces.extend(self.pieces(below, span, true, depth + 1)),
            }
            if bounded && pieces[first..].iter().any(|piece| endless(&piece.span)) {
                let mut at = 0;
                pieces.retain(|piece| {
                    at += 1;
                    at <= first || !endless(&piece.span)
                });
                self.leave_out(child);
            }
        }
        pieces.sort_by_key(|p| p.span);
        pieces
    }

    fn by_other(&mut self, level: &Level, path: Span, sliced: bool, depth: usize) -> Vec<Piece> {
        let mut covered =
            if level.children.is_empty() || has_hole(level) { Vec::new() } else { vec![path] };
        for child in &level.children {
            match child.level {
                None if sliced => self.slice(child, path),
                None => {}
                Some(below) => {
                    let spans = self.coverage(below, path, sliced, depth + 1);
                    covered = moment::intersection(&covered, &spans);
                }
            }
        }
        let accept = Some(Rc::new(self.accept(level, depth))).filter(|a| **a != Accept::All);
        covered.into_iter().map(|span| Piece { span, accept: accept.clone() }).collect()
    }

    /// What a level takes of the keys that hold no time. Time levels below compare their own slices.
    fn accept(&self, level: &Level, depth: usize) -> Accept {
        if level.time_key().is_some() || depth > DEEPEST {
            return Accept::All;
        }
        let mut values = BTreeMap::new();
        let mut ranges = Vec::new();
        let mut branches = Vec::new();
        let mut default = None;
        for child in &level.children {
            let next = child.level.and_then(|below| self.levels.get(below));
            let below = next.map_or(Accept::All, |next| self.accept(next, depth + 1));
            match &child.bound {
                Some(Bound::Default) => default = Some(below),
                Some(Bound::List(listed)) => {
                    values.extend(listed.iter().map(|v| (v.clone(), below.clone())));
                }
                Some(Bound::Range { from, to }) => {
                    ranges.push(AcceptedRange { from: from.clone(), to: to.clone(), below });
                }
                Some(Bound::Hash { .. }) => branches.push(below),
                None => {}
            }
        }
        match level.strategy {
            Strategy::List => Accept::listed(values, default),
            Strategy::Range => Accept::ranged(ranges, default),
            Strategy::Hash => Accept::hashed(branches),
        }
    }

    /// Notes a leaf that takes a slice of time.
    fn slice(&mut self, leaf: &Child, span: Span) {
        self.slices.push((span, leaf.id));
        if leaf.pages > 0 || leaf.rows.is_some_and(|rows| rows > 0.0) {
            let oldest = self.oldest_data_end.get_or_insert(span.to);
            *oldest = span.to.min(*oldest);
        }
    }

    /// Notes a DEFAULT and the rows below it.
    fn swallow(&mut self, default: &Child) {
        self.has_default = true;
        count(self.levels, default, &mut self.default_rows);
    }

    /// Notes what has no end, and the rows below it.
    fn leave_out(&mut self, child: &Child) {
        self.open_end = true;
        count(self.levels, child, &mut self.open_rows);
    }

    fn leaves(&self, root: usize) -> usize {
        let mut count = 0;
        leaves(self.levels, root, |_| count += 1);
        count
    }

    fn pages(&self, root: usize) -> u64 {
        let mut pages = 0_u64;
        leaves(self.levels, root, |leaf| pages = pages.saturating_add(leaf.pages));
        pages
    }

    fn obstacle(&self, root: Option<&Level>) -> Option<Reason> {
        if self.too_deep {
            return Some(Reason::TooDeep);
        }
        if !self.timed {
            let (strategy, keys) = root.map(|r| (r.strategy, &r.keys))?;
            let time = keys.iter().any(|k| matches!(k, PartitionKey::Time(_)));
            return Some(match strategy {
                Strategy::Range if time => Reason::TimeNotLeading,
                Strategy::Range => match keys.first() {
                    Some(PartitionKey::Integer) => Reason::UnitUnknown,
                    Some(PartitionKey::Uuid) => Reason::UuidNotV7,
                    _ => Reason::KeyType,
                },
                Strategy::List | Strategy::Hash => Reason::NoTimeLevel,
            });
        }
        self.unreadable.then_some(Reason::BoundUnreadable)
    }

    fn runway(&self, spans: Vec<Span>) -> Runway {
        let now = self.now;
        let mut slices: Vec<Span> = self.slices.iter().map(|(span, _)| *span).collect();
        slices.sort_unstable();
        slices.dedup();
        let current = spans.iter().find(|s| s.holds(now));
        let last = current.or_else(|| spans.iter().rfind(|s| s.to <= now));
        let widths = slices.iter().rev().filter_map(|s| match (s.from, s.to) {
            (Moment::At(from), Moment::At(to)) => Some(to - from),
            _ => None,
        });
        let mut widths: Vec<i128> = widths.take(RECENT).collect();
        widths.sort_unstable();
        Runway {
            covered: current.is_some(),
            until: last.map(|s| s.to),
            next: spans.iter().map(|s| s.from).find(|from| *from > now),
            future: slices.iter().filter(|s| s.from > now).count(),
            oldest: slices.first().map(|s| s.from),
            oldest_data_end: self.oldest_data_end,
            interval: widths.get(widths.len() / 2).copied(),
            local: self.local,
        }
    }
}

/// The spans of a bound on a time. The leading column decides; a bound that goes on inside a
/// value of it (`TO ('2026-12-01', 5)`) still takes rows of that value, and so includes it.
fn spans(bound: &Bound, key: TimeKey, zone: &TimeZone) -> Option<Vec<Span>> {
    let begin = |text: &str| key.begin(text, zone);
    let end = |text: &str| key.end(text, zone);
    match bound {
        Bound::Range { from, to } => {
            let from = match (from.first()?, from.get(1)) {
                (Datum::MinValue, _) => Moment::Past,
                (Datum::MaxValue, _) => Moment::Future,
                (Datum::Value(text), Some(Datum::MaxValue)) => end(text)?,
                (Datum::Value(text), _) => begin(text)?,
                (Datum::Null, _) => return None,
            };
            let to = match (to.first()?, to.get(1)) {
                (Datum::MinValue, _) => Moment::Past,
                (Datum::MaxValue, _) => Moment::Future,
                (Datum::Value(text), None | Some(Datum::MinValue)) => begin(text)?,
                (Datum::Value(text), _) => end(text)?,
                (Datum::Null, _) => return None,
            };
            Some(vec![Span { from, to }])
        }
        Bound::List(values) => {
            let days = values.iter().filter_map(|value| match value {
                Datum::Value(text) => {
                    Some(begin(text).zip(end(text)).map(|(from, to)| Span { from, to }))
                }
                _ => None,
            });
            days.collect()
        }
        Bound::Default | Bound::Hash { .. } => None,
    }
}

/// Whether rows of some hash value have no partition. Moduli divide the largest one.
fn has_hole(level: &Level) -> bool {
    if level.strategy != Strategy::Hash {
        return false;
    }
    let moduli = || {
        level.children.iter().filter_map(|c| match c.bound {
            Some(Bound::Hash { modulus, .. }) => Some(modulus),
            _ => None,
        })
    };
    let largest = moduli().max().unwrap_or(1);
    moduli().map(|m| u128::from(largest / m)).sum::<u128>() < u128::from(largest)
}

/// Adds the rows that are known of a child's leaves.
fn count(levels: &[Level], child: &Child, sum: &mut Option<f64>) {
    let mut add = |leaf: &Child| {
        if let Some(rows) = leaf.rows {
            *sum.get_or_insert(0.0) += rows;
        }
    };
    match child.level {
        None => add(child),
        Some(level) => leaves(levels, level, add),
    }
}

/// Visits every leaf below a level. By a list of what is left to do, since depth has no limit here.
fn leaves(levels: &[Level], root: usize, mut visit: impl FnMut(&Child)) {
    let mut todo = vec![root];
    while let Some(level) = todo.pop().and_then(|level| levels.get(level)) {
        for child in &level.children {
            match child.level {
                Some(below) => todo.push(below),
                None => visit(child),
            }
        }
    }
}

#[cfg(test)]
mod tests;
