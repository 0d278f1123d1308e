//! The verdicts, each with the evidence that a DBA would ask for.
//!
//! Must not: judge what cannot be known yet: an index is unused only after a window of statistics that
//! is long enough.

use std::collections::{HashMap, HashSet};

use super::super::rollup::Forest;
use super::cover::{self, Cover};
use super::facts::{ForeignKey, Index, IndexFacts, IndexedTable, TableKind};

/// What is judged how strictly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strictness {
    /// Seconds of statistics before an index without scans is called unused.
    pub unused_after: f64,
    /// Rows below which a table is small: reading all of it is the right plan.
    pub minimum_rows: f64,
    /// Bytes above which sequential scans of a table are judged.
    pub seq_scan_bytes: f64,
}

/// Sequential scans a day below which they may be a dump or a report.
const SEQ_SCANS_A_DAY: f64 = 24.0;
const DAY: f64 = 86_400.0;

/// Why queries cannot use an index, or not on all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// It was left behind by a command that failed: `indisvalid`, `indisready` or `indislive` is false.
    Broken,
    /// Partitions have no index attached to it, or one that is broken.
    Unattached,
}

/// The partitions of a table that have their part of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Partitions that are tables.
    pub leaves: usize,
    /// Those without a usable index that is attached to this one, by oid, ascending.
    pub missing: Vec<i64>,
}

impl Coverage {
    /// Leaves that have it / leaves; `None` where there are no leaves.
    pub fn ratio(&self) -> Option<f64> {
        let leaves = self.leaves as f64;
        (self.leaves > 0).then(|| (leaves - self.missing.len() as f64) / leaves)
    }
}

/// Why an index is needed though nothing scans it; where there are several reasons, the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exemption {
    /// It is the primary key.
    Primary,
    /// It enforces an exclusion constraint.
    Exclusion,
    /// It is the replica identity.
    ReplicaIdentity,
    /// It enforces uniqueness.
    Unique,
    /// It finds the referencing rows of a foreign key.
    ForeignKey,
    /// It cannot be used, which is another matter.
    Invalid,
}

/// Whether an index is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Usage {
    /// It was scanned.
    Used,
    /// It was not, since this time (Unix seconds), on this server.
    Unused { since: f64 },
    /// It was not, but that is known only since this time.
    TooEarly { since: f64 },
    /// It was not, and that says nothing.
    Exempt(Exemption),
}

/// All that is to say about an index that is attached to no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// `pg_class.oid`.
    pub id: i64,
    /// Its table.
    pub table: i64,
    /// Whether queries cannot use it; `None` too while it is being built.
    pub invalid: Option<Invalid>,
    /// Of an index of a partitioned table.
    pub coverage: Option<Coverage>,
    /// Whether it is used.
    pub usage: Usage,
    /// The index that does its work as well.
    pub cover: Option<Cover>,
    /// Scans, those of the attached indexes included.
    pub scans: f64,
    /// The last of them, Unix seconds (PostgreSQL 16 and later).
    pub last_scan: Option<f64>,
    /// Pages by the catalog, those of the attached indexes included.
    pub pages: f64,
}

/// A foreign key whose referencing rows no index finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Unindexed {
    /// Which, by its place in [`IndexFacts::foreign_keys`].
    pub foreign_key: usize,
    /// Rows of the referencing table, and of the one that it references.
    pub rows: [f64; 2],
    /// Whether the referencing table is small, so that it does not matter.
    pub small: bool,
}

/// A table that is read by sequential scans for the most part.
#[derive(Debug, Clone, PartialEq)]
pub struct SeqScanned {
    /// The table.
    pub table: i64,
    /// Sequential scans since the statistics count, and scans of its indexes.
    pub scans: [f64; 2],
    /// Rows that a sequential scan read on average.
    pub rows_per_scan: f64,
    /// Bytes by the catalog.
    pub bytes: f64,
}

/// Everything that was judged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdicts {
    /// Every index that is attached to no other, by oid.
    pub indexes: Vec<Judged>,
    /// In the order of [`IndexFacts::foreign_keys`].
    pub unindexed: Vec<Unindexed>,
    /// By oid of the table.
    pub seq_scanned: Vec<SeqScanned>,
}

/// Sums over the indexes that are attached to one.
#[derive(Default)]
struct AttachedSums {
    scans: f64,
    last_scan: Option<f64>,
    /// When the counters of one of them were last reset: what it was used for before is not known.
    reset: Option<f64>,
    pages: f64,
    broken: bool,
    /// One of them is a replica identity, or a foreign key relies on it.
    pinned: bool,
    exemption: Option<Exemption>,
    /// Leaves with a usable index.
    leaves: HashSet<i64>,
}

/// A table with its partitions, and its leaves.
#[derive(Default)]
struct Whole {
    rows: f64,
    pages: f64,
    seq_scans: f64,
    /// Rows that those scans read.
    seq_rows: f64,
    leaves: Vec<i64>,
}

/// Judges everything.
pub fn judge(facts: &IndexFacts, limits: &Strictness) -> Verdicts {
    let tables = Forest::new(facts.tables.iter().filter_map(|t| Some((t.id, t.parent?))));
    let indexes = Forest::new(facts.indexes.iter().filter_map(|i| Some((i.id, i.parent?))));
    let wholes = wholes(&facts.tables, &tables);
    let (supported, unindexed) = foreign_keys(facts, limits, &wholes);
    let groups = groups(facts, &indexes, &supported);
    let covers = cover::all(&facts.indexes, |t| tables.depth(t), |i| indexes.root(i));
    let mut judged: Vec<Judged> = facts
        .indexes
        .iter()
        .filter(|index| index.parent.is_none())
        .filter_map(|index| {
            let (whole, group) = (wholes.get(&index.table)?, groups.get(&index.id)?);
            Some(one(facts, limits, index, whole, group, covers.get(&index.id).copied()))
        })
        .collect();
    judged.sort_unstable_by_key(|index| index.id);
    keep_one(&mut judged, &indexes);
    let seq_scanned = seq_scanned(facts, limits, &tables, &wholes);
    Verdicts { indexes: judged, unindexed, seq_scanned }
}

/// Takes back that an index is covered by one that is to go as unused: who drops both has neither.
fn keep_one(judged: &mut [Judged], forest: &Forest) {
    let unused: HashSet<i64> =
        judged.iter().filter(|j| matches!(j.usage, Usage::Unused { .. })).map(|j| j.id).collect();
    for index in judged.iter_mut().filter(|j| !unused.contains(&j.id)) {
        index.cover = index.cover.filter(|cover| !unused.contains(&forest.root(cover.by)));
    }
}

fn one(
    facts: &IndexFacts,
    limits: &Strictness,
    index: &Index,
    whole: &Whole,
    group: &AttachedSums,
    cover: Option<Cover>,
) -> Judged {
    let coverage = index.partitioned.then(|| {
        let mut missing: Vec<i64> =
            whole.leaves.iter().copied().filter(|leaf| !group.leaves.contains(leaf)).collect();
        missing.sort_unstable();
        Coverage { leaves: whole.leaves.len(), missing }
    });
    let partial = coverage.as_ref().is_some_and(|c| !c.missing.is_empty());
    let invalid = match (index.building, partial, group.broken) {
        (true, ..) | (false, false, false) => None,
        (false, true, _) => Some(Invalid::Unattached),
        (false, false, true) => Some(Invalid::Broken),
    };
    let begun = [index.created, group.reset].into_iter().flatten();
    let since = begun.fold(facts.since, f64::max);
    let usage = match group.exemption {
        _ if group.scans > 0.0 => Usage::Used,
        _ if group.broken || partial => Usage::Exempt(Exemption::Invalid),
        Some(exemption) => Usage::Exempt(exemption),
        None if facts.now - since < limits.unused_after => Usage::TooEarly { since },
        None => Usage::Unused { since },
    };
    let AttachedSums { scans, last_scan, pages, .. } = *group;
    Judged {
        id: index.id,
        table: index.table,
        invalid,
        coverage,
        usage,
        cover: cover.filter(|_| !partial && !group.pinned),
        scans,
        last_scan,
        pages,
    }
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    if other > one { other } else { one }
}

fn groups(
    facts: &IndexFacts,
    forest: &Forest,
    supported: &HashSet<i64>,
) -> HashMap<i64, AttachedSums> {
    let plain: HashSet<i64> =
        facts.tables.iter().filter(|t| t.kind == TableKind::Plain).map(|t| t.id).collect();
    let mut groups: HashMap<i64, AttachedSums> = HashMap::new();
    for index in &facts.indexes {
        let group = groups.entry(forest.root(index.id)).or_default();
        group.scans += index.scans;
        group.last_scan = later(group.last_scan, index.last_scan);
        group.reset = later(group.reset, index.reset);
        group.pages += index.pages;
        group.broken |= !index.usable();
        group.pinned |= index.replica_identity || index.referenced;
        let both = [group.exemption, exemption(index, supported)];
        group.exemption = both.into_iter().flatten().min();
        if index.usable() && plain.contains(&index.table) {
            group.leaves.insert(index.table);
        }
    }
    groups
}

fn exemption(index: &Index, supported: &HashSet<i64>) -> Option<Exemption> {
    [
        (index.primary, Exemption::Primary),
        (index.exclusion, Exemption::Exclusion),
        (index.replica_identity, Exemption::ReplicaIdentity),
        (index.definition.as_ref().is_some_and(|d| d.unique), Exemption::Unique),
        (supported.contains(&index.id), Exemption::ForeignKey),
    ]
    .into_iter()
    .find_map(|(holds, exemption)| holds.then_some(exemption))
}

fn wholes(tables: &[IndexedTable], forest: &Forest) -> HashMap<i64, Whole> {
    let mut wholes: HashMap<i64, Whole> = HashMap::with_capacity(tables.len());
    for table in tables {
        for id in std::iter::once(table.id).chain(forest.ancestors(table.id)) {
            let whole = wholes.entry(id).or_default();
            if table.kind == TableKind::Partitioned {
                continue;
            }
            whole.rows += table.rows;
            whole.pages += table.pages;
            whole.seq_scans += table.seq_scans;
            whole.seq_rows += table.seq_rows;
            if id != table.id && table.kind == TableKind::Plain {
                whole.leaves.push(table.id);
            }
        }
    }
    wholes
}

/// Whether an index finds the rows of a foreign key: its leading columns are the key's, in any order, and
/// it has all rows that have a key.
fn supports(index: &Index, key: &ForeignKey) -> bool {
    let Some(definition) = index.definition.as_ref() else { return false };
    let mut columns = key.columns.clone();
    columns.sort_unstable();
    let method = match definition.method.as_str() {
        "btree" => true,
        "hash" => columns.len() == 1,
        _ => false,
    };
    let whole = definition.predicate.as_ref().is_none_or(|predicate| {
        let not_null = predicate.not_null.as_ref();
        not_null.is_some_and(|not_null| not_null.iter().all(|column| columns.contains(column)))
    });
    method && whole && definition.leading(columns.len()) == Some(columns)
}

/// The indexes that support a foreign key, and the foreign keys that none does.
fn foreign_keys(
    facts: &IndexFacts,
    limits: &Strictness,
    wholes: &HashMap<i64, Whole>,
) -> (HashSet<i64>, Vec<Unindexed>) {
    let with_keys: HashSet<i64> = facts.foreign_keys.iter().map(|key| key.table).collect();
    let mut indexes: HashMap<i64, Vec<&Index>> = HashMap::new();
    for index in facts.indexes.iter().filter(|index| with_keys.contains(&index.table)) {
        indexes.entry(index.table).or_default().push(index);
    }
    let rows = |table: i64| wholes.get(&table).map(|whole| whole.rows);
    let (mut supported, mut unindexed) = (HashSet::new(), Vec::new());
    for (place, key) in facts.foreign_keys.iter().enumerate() {
        let all = indexes.get(&key.table).into_iter().flatten();
        let by: Vec<&Index> = all.copied().filter(|index| supports(index, key)).collect();
        supported.extend(by.iter().map(|index| index.id));
        if !by.iter().any(|index| index.usable()) {
            // That of a temporary table is nobody's business.
            let Some(referencing) = rows(key.table) else { continue };
            let rows = [referencing, rows(key.references).unwrap_or(0.0)];
            let small = rows[0] < limits.minimum_rows;
            unindexed.push(Unindexed { foreign_key: place, rows, small });
        }
    }
    (supported, unindexed)
}

fn seq_scanned(
    facts: &IndexFacts,
    limits: &Strictness,
    forest: &Forest,
    wholes: &HashMap<i64, Whole>,
) -> Vec<SeqScanned> {
    let mut by_index: HashMap<i64, f64> = HashMap::new();
    let resets: HashMap<i64, f64> =
        facts.tables.iter().filter_map(|table| Some((table.id, table.reset?))).collect();
    // Where an index has counted for a shorter time than its table, their scans do not compare.
    let mut uneven: HashSet<i64> = HashSet::new();
    for index in &facts.indexes {
        let root = forest.root(index.table);
        *by_index.entry(root).or_default() += index.scans;
        let since = resets.get(&index.table).map_or(facts.since, |reset| reset.max(facts.since));
        if index.reset.is_some_and(|reset| reset > since) {
            uneven.insert(root);
        }
    }
    let days = ((facts.now - facts.since) / DAY).max(1.0);
    let roots = facts.tables.iter().filter(|table| table.parent.is_none());
    let mut found: Vec<SeqScanned> = roots
        .filter_map(|table| {
            let whole = wholes.get(&table.id)?;
            let (scans, read) = (whole.seq_scans, whole.seq_rows);
            let (bytes, indexed) =
                (whole.pages * facts.block_size, by_index.get(&table.id).copied().unwrap_or(0.0));
            let rows_per_scan = read / scans;
            let dominate = bytes >= limits.seq_scan_bytes
                && scans >= SEQ_SCANS_A_DAY * days
                && scans > indexed
                && rows_per_scan >= limits.minimum_rows
                && !uneven.contains(&table.id);
            let table = table.id;
            dominate.then_some(SeqScanned { table, scans: [scans, indexed], rows_per_scan, bytes })
        })
        .collect();
    found.sort_unstable_by_key(|table| table.table);
    found
}
