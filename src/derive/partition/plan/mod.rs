//! Which partitions a table lacks to be covered until a given time, in its own rhythm and under the
//! names that its partitions already follow; and which ones are old enough to go.
//!
//! A level partitioned by time gets partitions; each is made like the newest of its siblings, with
//! the same levels below. A level that is not keeps its partitions, and each is looked into.
//!
//! Must not: write SQL, or call a plan good that [`assess`] does not find long enough.

mod axis;
pub mod naming;
mod retire;
pub mod rhythm;

use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::bound::{Bound, Datum};
use super::moment::{Moment, Span, union};
use super::tree::{Child, Level, Reason, Strategy, assess};
use axis::Axis;
use naming::{NameSlot, Pattern};
pub use retire::{Grain, KeyForm, retire};
use rhythm::Rhythm;

/// More partitions than this are nobody's intention.
const MOST: usize = 10_000;

/// Schema and name, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

/// What is known of one partition beside its place in the tree.
#[derive(Debug, Clone)]
pub struct Label {
    /// What it is called.
    pub name: Name,
    /// Whether new partitions can be made like it: a table, not a foreign one.
    pub model: bool,
}

/// A tree, and how its relations are called.
#[derive(Debug, Clone, Copy)]
pub struct NamedTree<'a> {
    /// Partitioned tables, without pending detaches.
    pub levels: &'a [Level],
    /// One name for each of `levels`.
    pub names: &'a [Name],
    /// One label for each child of each of `levels`.
    pub labels: &'a [Vec<Label>],
    /// Index of the root.
    pub root: usize,
    /// Where naive times are at home.
    pub writer: &'a TimeZone,
    /// Zones in which instants may be regular, beside UTC.
    pub zones: &'a [TimeZone],
}

/// A partition to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// What it will be called.
    pub name: Name,
    /// The name that it would have, were that not taken.
    pub instead_of: Option<String>,
    /// What it takes.
    pub bound: Bound,
    /// The same as the server will give it back in UTC.
    pub check: Bound,
    /// Level and child that it is made like.
    pub like: (usize, usize),
    /// Whether it is cut off the beginning of [`Shortfall::open`].
    pub carved: bool,
    /// First key value and the one after the last, as SQL takes them; none of lists.
    pub ends: Option<(String, String)>,
    /// Its own partitions, where it has any.
    pub children: Vec<Creation>,
}

/// What one partitioned table lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortfall {
    /// Its level.
    pub level: usize,
    /// Such as `daily in UTC`.
    pub rhythm: String,
    /// The pattern of the names in `to_char`'s terms; `None` where none was found.
    pub pattern: Option<String>,
    /// The one for now first, then by time.
    pub creations: Vec<Creation>,
    /// What is lacking but over: first and last key value.
    pub past: Vec<(String, String)>,
    /// Its DEFAULT, if it has one.
    pub default: Option<usize>,
    /// Its last partition where that has no end and others with two follow a rhythm: what is created in it
    /// begins where it begins, without a gap.
    pub open: Option<usize>,
    /// Key values between which rows of the DEFAULT would be in the way.
    pub ranges: Vec<(String, String)>,
}

/// A partition that is old enough to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    /// Its level.
    pub level: usize,
    /// Its place there.
    pub child: usize,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle {
    /// No runway is known.
    Unsupported(Reason),
    /// Those of a level's partitions that have two ends follow no rhythm, or there are none.
    NoRhythm { level: usize, partitions: usize },
    /// A level has no partition that new ones could be made like.
    NoModel { level: usize },
    /// Another column of the key plays a part in the bounds.
    OtherColumns { level: usize },
    /// More than ten thousand partitions.
    TooMany { level: usize },
    /// Beyond the years that can be reckoned with.
    OutOfRange { level: usize },
    /// Even so the table would be covered until then only, or never.
    StillShort { until: Option<Moment> },
}

/// Finds what is missing for a table to be covered from `now` to `until` (microseconds since 1970).
/// Nothing is created that would be over at `since`. No name in `taken` is used.
///
/// # Errors
/// [`Obstacle`].
pub fn extend(
    tree: NamedTree<'_>,
    now: i128,
    until: i128,
    since: Option<i128>,
    taken: HashSet<Name>,
) -> Result<Vec<Shortfall>, Obstacle> {
    assess(tree.levels, tree.root, now, tree.writer).runway.map_err(Obstacle::Unsupported)?;
    let mut planner = Planner { tree, now, until, since, taken, found: Vec::new(), count: 0 };
    planner.level(tree.root, Span::ALL)?;
    let found = planner.found;
    let mut levels = tree.levels.to_vec();
    for extension in &found {
        adopt(&mut levels, tree.levels, extension.level, &extension.creations);
    }
    match assess(&levels, tree.root, now, tree.writer).runway {
        Err(reason) => Err(Obstacle::Unsupported(reason)),
        Ok(runway) if runway.covered && runway.until >= Some(Moment::At(until)) => Ok(found),
        Ok(runway) => Err(Obstacle::StillShort { until: runway.until }),
    }
}

/// Adds what is to be created to a copy of the tree.
fn adopt(levels: &mut Vec<Level>, old: &[Level], parent: usize, creations: &[Creation]) {
    for creation in creations {
        let (level, child) = creation.like;
        let Some(model) = old.get(level).and_then(|l| l.children.get(child)) else { continue };
        let mut new = Child { bound: Some(creation.bound.clone()), ..model.clone() };
        if let Some(below) = model.level.and_then(|l| old.get(l)) {
            let below = Level { children: Vec::new(), ..below.clone() };
            let index = levels.len();
            new.level = Some(index);
            levels.push(below);
            adopt(levels, old, index, &creation.children);
        }
        if let Some(parent) = levels.get_mut(parent) {
            parent.children.push(new);
        }
    }
}

/// What is known of the time level from its partitions.
struct Manner {
    axis: Axis,
    rhythm: Rhythm,
    pattern: Option<Pattern>,
    /// The newest partition that can be copied.
    model: (usize, usize),
    like: Bound,
}

struct Planner<'a> {
    tree: NamedTree<'a>,
    now: i128,
    until: i128,
    since: Option<i128>,
    taken: HashSet<Name>,
    found: Vec<Shortfall>,
    count: usize,
}

impl Planner<'_> {
    fn get(&self, index: usize) -> Result<&Level, Obstacle> {
        // Indices come from the tree itself.
        self.tree.levels.get(index).ok_or(Obstacle::Unsupported(Reason::TooDeep))
    }

    /// Plans an existing level within `path`, in instants.
    fn level(&mut self, index: usize, path: Span) -> Result<(), Obstacle> {
        let level = self.get(index)?.clone();
        let below = level.children.iter().filter_map(|c| Some((c, c.level?)));
        let Some(axis) = Axis::of(&level, self.tree.writer) else {
            for (_, child) in below {
                self.level(child, path)?;
            }
            return Ok(());
        };
        let window = axis.on(Span { from: Moment::At(self.now), to: Moment::At(self.until) });
        let path_here = axis.on(path);
        let covered = union(level.children.iter().flat_map(|c| axis.spans(c)).collect());
        let lacking: Vec<Span> =
            holes(&covered).iter().filter_map(|hole| hole.clip(path_here)).collect();
        let wanted: Vec<Span> =
            lacking.iter().copied().filter(|h| h.clip(window).is_some()).collect();
        let open = if path_here.to == Moment::Future { open(&level, &axis) } else { None };
        let open = open.filter(|(_, span)| span.clip(window).is_some());
        let manner = match self.manner(index) {
            // Without a rhythm the open one is all there is to be.
            Err(obstacle) if !wanted.is_empty() => return Err(obstacle),
            manner => manner.ok(),
        };
        let open = open.filter(|_| manner.is_some());
        if let Some(manner) = manner.filter(|_| !wanted.is_empty() || open.is_some()) {
            let mut spans = Vec::new();
            for hole in wanted {
                spans.extend(self.slots(index, &manner, hole, window, self.since)?);
            }
            let carved = match open {
                Some((_, span)) => self.slots(index, &manner, span, window, None)?,
                None => Vec::new(),
            };
            // The one for now is the most urgent.
            let (Moment::At(now), first) = (window.from, spans.clone()) else { return Ok(()) };
            spans.sort_by_key(|(from, to)| !(*from <= now && now < *to));
            let carve = spans.len();
            // One after the other, since what is left of the open one has to be in one piece.
            spans.extend(carved);
            let zone = &manner.rhythm.zone;
            let text = |at| manner.axis.text(at, zone).ok_or(Obstacle::OutOfRange { level: index });
            let mut ranges = Vec::new();
            for span in union(first.iter().map(|(f, t)| finite(*f, *t)).collect()) {
                if let Span { from: Moment::At(from), to: Moment::At(to) } = span {
                    ranges.push((text(from)?, text(to)?));
                }
            }
            let mut past = Vec::new();
            for hole in lacking.iter().filter(|h| h.to <= window.from && h.from > Moment::Past) {
                if let (Moment::At(from), Moment::At(to)) = (hole.from, hole.to)
                    && hole.from > path_here.from
                {
                    past.push((text(from)?, text(to)?));
                }
            }
            let parent = self.name(index)?;
            let mut creations = Vec::new();
            for (n, (from, to)) in spans.into_iter().enumerate() {
                let creation = self.creation(index, &manner, &parent, from, to)?;
                creations.push(Creation { carved: n >= carve, ..creation });
            }
            self.found.push(Shortfall {
                level: index,
                rhythm: manner.describe(),
                pattern: manner.pattern.as_ref().map(|p| p.describe(&parent.table)),
                creations,
                past,
                open: open.map(|(child, _)| child),
                default: level.children.iter().position(|c| c.bound == Some(Bound::Default)),
                ranges,
            });
        }
        for (child, below) in level.children.iter().filter_map(|c| Some((c, c.level?))) {
            let span = axis.span(child).and_then(|s| s.clip(path_here));
            if let Some(span) = span.filter(|s| s.clip(window).is_some()) {
                self.level(below, axis.instants(span))?;
            }
        }
        Ok(())
    }

    fn name(&self, index: usize) -> Result<Name, Obstacle> {
        let unknown = Obstacle::Unsupported(Reason::TooDeep);
        self.tree.names.get(index).cloned().ok_or(unknown)
    }

    fn manner(&self, index: usize) -> Result<Manner, Obstacle> {
        let level = self.get(index)?;
        let labels = self.tree.labels.get(index).map(Vec::as_slice).unwrap_or_default();
        let axis = Axis::of(level, self.tree.writer).ok_or(Obstacle::NoModel { level: index })?;
        let mut spans: Vec<(i128, i128, usize)> = level
            .children
            .iter()
            .enumerate()
            .filter_map(|(i, child)| match axis.span(child)? {
                Span { from: Moment::At(from), to: Moment::At(to) } => Some((from, to, i)),
                _ => None,
            })
            .collect();
        spans.sort_unstable();
        let mut zones = vec![TimeZone::UTC];
        if !axis.naive() {
            // A number or UUID is regular in the zone of whoever chose the bounds, too.
            zones.extend(self.tree.zones.iter().cloned());
        }
        let pairs: Vec<(i128, i128)> = spans.iter().map(|(f, t, _)| (*f, *t)).collect();
        let rhythm = Rhythm::detect(&pairs, &zones)
            .ok_or(Obstacle::NoRhythm { level: index, partitions: spans.len() })?;
        let members = spans.get(rhythm.members.clone()).unwrap_or_default();
        let model = members.iter().rev().find(|(_, _, i)| labels.get(*i).is_some_and(|l| l.model));
        let Some((_, _, model)) = model else { return Err(Obstacle::NoModel { level: index }) };
        let bound = |i: usize| level.children.get(i).and_then(|c| c.bound.as_ref());
        let like = bound(*model).ok_or(Obstacle::NoModel { level: index })?.clone();
        // (ts, MINVALUE) to (ts, MINVALUE) leaves no row between two partitions; so does any tail
        // that all have in common.
        let tails = members.iter().filter_map(|(_, _, i)| bound(*i)).flat_map(|b| match b {
            Bound::Range { from, to } => vec![from.get(1..), to.get(1..)],
            _ => Vec::new(),
        });
        let tails: HashSet<_> = tails.collect();
        let plain = members.iter().filter_map(|(_, _, i)| bound(*i)).all(|b| axis.writes(b));
        if tails.len() > 1 || !plain {
            return Err(Obstacle::OtherColumns { level: index });
        }
        // Names speak of the zone of the rhythm, or of another.
        let mut spoken = vec![rhythm.zone.clone()];
        spoken.extend(zones.into_iter().filter(|z| *z != rhythm.zone));
        let parent = self.name(index)?;
        let named: Vec<(&str, NameSlot)> = members
            .iter()
            .filter_map(|(from, to, i)| {
                let name = labels.get(*i)?.name.table.as_str();
                Some((name, NameSlot { from: *from, to: *to, index: rhythm.index(*from)? }))
            })
            .collect();
        let pattern = Pattern::learn(&parent.table, &named, &spoken);
        Ok(Manner { axis, rhythm, pattern, model: (index, *model), like })
    }

    /// The steps of the rhythm that fill a hole as far as the window needs it.
    fn slots(
        &self,
        index: usize,
        manner: &Manner,
        hole: Span,
        window: Span,
        since: Option<i128>,
    ) -> Result<Vec<(i128, i128)>, Obstacle> {
        let far = || Obstacle::OutOfRange { level: index };
        let rhythm = &manner.rhythm;
        let at = |n| rhythm.at(n).ok_or_else(far);
        let (Moment::At(now), Moment::At(until)) = (window.from, window.to) else {
            return Err(far());
        };
        let mut from = match hole.from {
            Moment::At(from) => from,
            // Nothing before: what is over needs no partition.
            _ => at(rhythm.index(now).ok_or_else(far)?)?,
        };
        let since = since.map(Moment::At).map(|at| Span { from: at, to: Moment::Future });
        if let Some(Span { from: Moment::At(since), .. }) = since.map(|s| manner.axis.on(s)) {
            from = from.max(at(rhythm.index(since).ok_or_else(far)?)?);
        }
        let mut n = rhythm.index(from).ok_or_else(far)?;
        let mut found = Vec::new();
        while from < until && Moment::At(from) < hole.to {
            let next = at(n + 1)?;
            let to = match hole.to {
                Moment::At(end) => next.min(end),
                _ => next,
            };
            found.push((from, to));
            if self.count + found.len() > MOST {
                return Err(Obstacle::TooMany { level: index });
            }
            (from, n) = (to, n + 1);
        }
        Ok(found)
    }

    fn creation(
        &mut self,
        index: usize,
        manner: &Manner,
        parent: &Name,
        from: i128,
        to: i128,
    ) -> Result<Creation, Obstacle> {
        let far = || Obstacle::OutOfRange { level: index };
        let (axis, rhythm) = (&manner.axis, &manner.rhythm);
        let slot = NameSlot { from, to, index: rhythm.index(from).ok_or_else(far)? };
        let plain = || naming::plain(&parent.table, slot, rhythm.step, &rhythm.zone);
        let table = manner
            .pattern
            .as_ref()
            .and_then(|p| p.name(&parent.table, slot))
            .filter(|name| name.len() <= naming::LONGEST)
            .or_else(plain)
            .ok_or_else(far)?;
        let (level, child) = manner.model;
        let (name, instead_of) = self.claim(level, child, table)?;
        let bound = |zone| axis.bound(from, to, zone, &manner.like).ok_or_else(far);
        let (bound, check) = (bound(&rhythm.zone)?, bound(&TimeZone::UTC)?);
        let below = self.get(level)?.children.get(child).and_then(|c| c.level);
        let children = match below {
            Some(below) => self.below(below, axis.instants(finite(from, to)), &name)?,
            None => Vec::new(),
        };
        let text = |at| axis.text(at, &TimeZone::UTC).ok_or_else(far);
        let ends = if axis.is_list() { None } else { Some((text(from)?, text(to)?)) };
        let like = manner.model;
        Ok(Creation { name, instead_of, bound, check, like, carved: false, ends, children })
    }

    /// The partitions of a new table that is partitioned as the level `like`.
    fn below(&mut self, like: usize, path: Span, parent: &Name) -> Result<Vec<Creation>, Obstacle> {
        let level = self.get(like)?.clone();
        let model = self.name(like)?;
        let mut creations = Vec::new();
        let timed = Axis::of(&level, self.tree.writer).is_some();
        if timed {
            let manner = self.manner(like)?;
            let path = manner.axis.on(path);
            let window = manner.axis.on(Span { from: path.from, to: Moment::At(self.until) });
            let window = Span { from: path.from, ..window };
            for (from, to) in self.slots(like, &manner, path, window, self.since)? {
                creations.push(self.creation(like, &manner, parent, from, to)?);
            }
        }
        for (child, partition) in level.children.iter().enumerate() {
            let Some(bound) = partition.bound.clone() else { continue };
            if timed && bound != Bound::Default {
                continue;
            }
            let label = self.tree.labels.get(like).and_then(|l| l.get(child));
            let label = label.filter(|l| l.model).ok_or(Obstacle::NoModel { level: like })?;
            let table = inherit(&label.name.table, &model.table, &parent.table, child);
            let (name, instead_of) = self.claim(like, child, table)?;
            let children = match partition.level {
                Some(below) => self.below(below, path, &name)?,
                None => Vec::new(),
            };
            let check = bound.clone();
            let like = (like, child);
            let (carved, ends) = (false, None);
            creations.push(Creation {
                name,
                instead_of,
                bound,
                check,
                like,
                carved,
                ends,
                children,
            });
        }
        Ok(creations)
    }

    /// Makes a name free and takes it, in the schema of what it is made like.
    fn claim(
        &mut self,
        level: usize,
        child: usize,
        table: String,
    ) -> Result<(Name, Option<String>), Obstacle> {
        self.count += 1;
        if self.count > MOST {
            return Err(Obstacle::TooMany { level });
        }
        let label = self.tree.labels.get(level).and_then(|l| l.get(child));
        let schema = label.ok_or(Obstacle::NoModel { level })?.name.schema.clone();
        let mut name = Name { schema, table: table.clone() };
        let mut n = 1;
        while !self.taken.insert(name.clone()) {
            n += 1;
            name.table = naming::fit(&table, &format!("_{n}"));
        }
        let instead_of = (name.table != table).then_some(table);
        Ok((name, instead_of))
    }
}

impl Manner {
    fn describe(&self) -> String {
        let zone = if self.axis.naive() {
            "in the writer's local time".to_owned()
        } else {
            format!("in {}", self.rhythm.zone.iana_name().unwrap_or("the configured zone"))
        };
        format!("{} {zone}", self.rhythm.step.describe())
    }
}

/// The name of a partition's partition: what its model's name has behind (or around) its parent's,
/// around the new parent's.
fn inherit(name: &str, model: &str, parent: &str, child: usize) -> String {
    if let Some((before, after)) = name.split_once(model) {
        let room = naming::LONGEST.saturating_sub(before.len());
        if after.len() < room {
            let stem = naming::fit(&format!("{before}{parent}"), after);
            return stem;
        }
    }
    // events_2026_11 and events_eu_2026_11: the end that differs is the parent's date.
    let common = model.char_indices().zip(parent.chars()).find(|((_, a), b)| a != b);
    let start = common.map_or(model.len().min(parent.len()), |((at, _), _)| at);
    // The whole number that differs, not some of its digits.
    let start = model
        .get(..start)
        .and_then(|head| head.rfind(|c: char| !c.is_ascii_digit() && c != '_'))
        .map_or(0, |at| at + 1);
    if let (Some(old), Some(new)) = (model.get(start..), parent.get(start..))
        && old.len() > 3
        && name.matches(old).count() == 1
    {
        let renamed = name.replacen(old, new, 1);
        if renamed.len() <= naming::LONGEST {
            return renamed;
        }
    }
    naming::fit(parent, &format!("_{child}"))
}

/// The partition without an end, where there are others with two before it.
fn open(level: &Level, axis: &Axis) -> Option<(usize, Span)> {
    if level.strategy != Strategy::Range {
        return None;
    }
    let spans = level.children.iter().map(|child| axis.span(child)).collect::<Vec<_>>();
    let (child, span) = spans.iter().enumerate().find_map(|(n, span)| match span {
        Some(span @ Span { from: Moment::At(_), to: Moment::Future }) => Some((n, *span)),
        _ => None,
    })?;
    // 'infinity' is a value, and nothing lies between it and MAXVALUE that a plan could name.
    let bound = level.children.get(child)?.bound.as_ref()?;
    let unbounded =
        matches!(bound, Bound::Range { to, .. } if to.first() == Some(&Datum::MaxValue));
    let before = |s: &Span| matches!((s.from, s.to), (Moment::At(_), Moment::At(to)) if Moment::At(to) <= span.from);
    (unbounded && spans.iter().flatten().any(before)).then_some((child, span))
}

fn finite(from: i128, to: i128) -> Span {
    Span { from: Moment::At(from), to: Moment::At(to) }
}

/// What lies between spans that are sorted and disjoint.
fn holes(covered: &[Span]) -> Vec<Span> {
    let mut from = Moment::Past;
    let mut found = Vec::new();
    for span in covered {
        found.push(Span { from, to: span.from });
        from = span.to;
    }
    found.push(Span { from, to: Moment::Future });
    found.retain(|span| span.from < span.to);
    found
}

#[cfg(test)]
mod tests;
