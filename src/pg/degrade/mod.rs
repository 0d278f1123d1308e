//! What is left of a statement on a server that lacks a column, a function or a view which it reads: the same
//! statement with NULL in the place of each, and the names of those columns of its answer that are unknown for it.
//! A server newer than any that was tested, or a service that leaves something out, then costs the metrics that rest
//! on what is missing, and not their collector.
//!
//! Must not: send anything; be used for what a user wrote; or let a value that is unknown pass for a value.

mod statement;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::statement::ParsedStatement;
use crate::error::{NotAvailable, WhyMissing};

/// SQLSTATE of an undefined column, function and relation.
/// The fourth is that of an aggregate, which a column that is not there is taken for where one has its name.
const UNDEFINED: [&str; 4] = ["42703", "42883", "42P01", "42809"];
/// What a statement may end with where a NULL has the wrong type: an ambiguous function or parameter, a mismatch, a
/// cast that is not there, a type that cannot be told, a constant where none may stand or that is none of the type.
const MISTYPED: [&str; 9] =
    ["42883", "42725", "42804", "42846", "42P18", "42601", "42P08", "22P02", "22007"];
/// Functions that raise an error in the other role of the server, which says nothing of a service: those of a primary
/// and those of a standby.
const OF_A_PRIMARY: [&str; 4] = [
    "pg_current_wal_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn",
    "pg_walfile_name",
];
const OF_A_STANDBY: [&str; 2] = ["pg_is_wal_replay_paused", "pg_get_wal_replay_pause_state"];
/// Things of one statement that are asked for on their own.
const MOST_PROBES: usize = 16;
/// What stands in the place of a value, one after the other until the statement is understood.
const NULLS: [&str; 14] = [
    "NULL",
    "NULL::float8",
    "NULL::timestamptz",
    "NULL::text",
    "NULL::int8",
    "NULL::bool",
    "NULL::oid",
    "NULL::pg_lsn",
    "NULL::int4",
    "NULL::name",
    "NULL::xid",
    "NULL::inet",
    "NULL::interval",
    "NULL::_text",
];
/// How often all of them are tried at one place.
const ROUNDS: usize = 4;
/// What stands in the place of a view, so that each of its columns is missing next: no row where it is joined to
/// others, and one where all that is asked is of it, since of some views there is always one.
const NO_ROWS: &str = "(SELECT WHERE false)";
const ONE_ROW: &str = "(SELECT)";
/// Seconds after which a statement is tried as it was written.
const TRIED_AGAIN: f64 = 3_600.0;
/// Statements that are kept in mind.
const MOST: usize = 512;
/// Of one statement.
const MOST_HOLES: usize = 64;

/// What is missing at one place of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    /// Bytes of the statement.
    range: std::ops::Range<usize>,
    kind: HoleKind,
    /// What stands there, of [`NULLS`]; through all of them more than once, since what is right for one depends on
    /// others.
    guess: usize,
    /// As it is shown: `pg_stat_wal.wal_bytes`.
    name: String,
    /// The name that it gives to a column of a list, or to a relation that has no other.
    called: Option<String>,
    why: WhyMissing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HoleKind {
    /// A column, or the call of a function.
    Value,
    /// A view, a table, or a function in FROM.
    Relation,
    /// The same, of which there is a row.
    Alone,
}

/// What an error says is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Column,
    Function,
    Relation,
}

/// A statement as it can be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Degraded {
    pub(super) sql: String,
    /// Columns of its answer that are unknown.
    pub(super) unknown: BTreeSet<String>,
    /// What is missing.
    pub(super) missing: Vec<NotAvailable>,
}

struct KnownHoles {
    /// Seconds of the poller's clock.
    since: f64,
    holes: Vec<Hole>,
    degraded: Degraded,
}

/// Whose statement it is: the version of the server, whether it is a standby, and the database.
pub(super) type StatementPlace = (i32, bool, String);

/// A function or a view that a statement reads, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartQuery {
    /// Its bare name.
    pub(super) name: String,
    /// What asks for it alone.
    pub(super) sql: String,
}

/// What of a statement the server may refuse: functions without arguments and views, of its own schema, each once.
pub(super) fn probes(sql: &str, in_recovery: bool) -> Vec<PartQuery> {
    let mut probes: Vec<PartQuery> = Vec::new();
    for probe in ParsedStatement::new(sql).parts().into_iter().map(|part| part.probe) {
        let of_other = if in_recovery { &OF_A_PRIMARY[..] } else { &OF_A_STANDBY[..] };
        let asks = !of_other.contains(&&*probe.name) && !probes.contains(&probe);
        if asks && probes.len() < MOST_PROBES {
            probes.push(probe);
        }
    }
    probes
}

/// What the sessions of one target found to be missing, so that the server need not say it to each.
#[derive(Default)]
pub(super) struct MissingParts(Mutex<HashMap<(StatementPlace, String), KnownHoles>>);

impl MissingParts {
    fn lock(&self) -> MutexGuard<'_, HashMap<(StatementPlace, String), KnownHoles>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statement in the place of this one, if something of it is missing there.
    pub(super) fn degraded(&self, place: &StatementPlace, sql: &str, now: f64) -> Option<Degraded> {
        let mut known = self.lock();
        if known.is_empty() {
            return None;
        }
        let key = (place.clone(), sql.to_owned());
        if known.get(&key)?.since + TRIED_AGAIN < now {
            known.remove(&key);
        }
        known.get(&key).map(|known| known.degraded.clone())
    }

    /// Learns from an error, at a position in characters from 1 of the statement as it was sent. False if it says
    /// nothing that helps: then the error stands.
    pub(super) fn learn(
        &self,
        (place, sql): (&StatementPlace, &str),
        sqlstate: &str,
        position: Option<u32>,
        now: f64,
    ) -> bool {
        if !UNDEFINED.contains(&sqlstate) && !MISTYPED.contains(&sqlstate) {
            return false;
        }
        let mut known = self.lock();
        let key = (place.clone(), sql.to_owned());
        let before = known.get(&key).map(|known| known.holes.clone()).unwrap_or_default();
        let Some(holes) = improved(sql, before, sqlstate, position) else {
            known.remove(&key);
            return false;
        };
        if known.len() >= MOST && !known.contains_key(&key) {
            return false;
        }
        let degraded = fill(sql, &holes);
        known.insert(key, KnownHoles { since: now, holes, degraded });
        true
    }

    /// Whether something was learnt of a statement of late, be it that nothing can be left out of it.
    pub(super) fn knows(&self, place: &StatementPlace, sql: &str) -> bool {
        self.lock().contains_key(&(place.clone(), sql.to_owned()))
    }

    /// Learns that the server refuses these functions and views of a statement. False if that helps nothing.
    pub(super) fn refuse(
        &self,
        (place, sql): (&StatementPlace, &str),
        refused: &[(String, WhyMissing)],
        now: f64,
    ) -> bool {
        let parsed = ParsedStatement::new(sql);
        let mut holes: Vec<Hole> = Vec::new();
        for part in parsed.parts() {
            let why =
                refused.iter().find(|(name, _)| *name == part.probe.name).map(|(_, why)| *why);
            let Some(why) = why else { continue };
            let hole = parsed.hole(part.at, part.sought).map(|hole| Hole { why, ..hole });
            holes.extend(
                hole.filter(|new| holes.iter().all(|old| !overlaps(&old.range, &new.range))),
            );
        }
        let helps = !holes.is_empty() && holes.len() <= MOST_HOLES;
        let mut known = self.lock();
        if known.len() < MOST {
            let degraded = fill(sql, &holes);
            known.insert(
                (place.clone(), sql.to_owned()),
                KnownHoles { since: now, holes, degraded },
            );
        }
        helps
    }
}

/// The holes after one more error.
fn improved(
    sql: &str,
    mut holes: Vec<Hole>,
    sqlstate: &str,
    position: Option<u32>,
) -> Option<Vec<Hole>> {
    let at = position.and_then(|position| original(sql, &holes, position));
    let found = match at {
        Some(Spot::Text(at)) if UNDEFINED.contains(&sqlstate) => {
            let sought = match sqlstate {
                "42P01" => Sought::Relation,
                "42883" => Sought::Function,
                _ => Sought::Column,
            };
            ParsedStatement::new(sql).hole(at, sought)
        }
        _ => None,
    };
    let fresh = found.filter(|new: &Hole| {
        holes.len() < MOST_HOLES && holes.iter().all(|old| !overlaps(&old.range, &new.range))
    });
    let open = |hole: &Hole| hole.kind == HoleKind::Value && hole.guess + 1 < ROUNDS * NULLS.len();
    // A function that does not take what comes out of a hole is there; only when it takes nothing it is not.
    let mistyped = sqlstate == "42883" && holes.iter().any(open);
    if let Some(hole) = fresh.filter(|_| !mistyped) {
        if sqlstate == "42883" {
            holes.iter_mut().for_each(|hole| hole.guess = 0);
        }
        // The same column has one type wherever it stands.
        let guess = holes.iter().find(|old| old.name == hole.name).map_or(0, |old| old.guess);
        holes.push(Hole { guess, ..hole });
        return Some(holes);
    }
    let blamed = match at {
        Some(Spot::Hole(index)) => holes.get(index).filter(|hole| open(hole)),
        // The nearest one: what an operator or a function does not take stands beside it, by its name if it comes
        // from elsewhere.
        Some(Spot::Text(at)) => {
            let near = statement::words(sql, at);
            let call = ParsedStatement::new(sql).call(at);
            let candidates = holes.iter().filter(|hole| open(hole));
            candidates.min_by_key(|hole| {
                let column = hole.name.rsplit('.').next().unwrap_or_default();
                let inside = call.as_ref().is_some_and(|call| call.contains(&hole.range.start));
                let named = near.iter().any(|word| word == column);
                (!inside, !named, hole.range.start.abs_diff(at))
            })
        }
        None => holes.iter().rev().find(|hole| open(hole)),
    };
    let name = blamed?.name.clone();
    holes.iter_mut().filter(|hole| hole.name == name).for_each(|hole| hole.guess += 1);
    Some(holes)
}

fn overlaps(a: &std::ops::Range<usize>, b: &std::ops::Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Where a position of the statement that was sent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// In the text, in bytes.
    Text(usize),
    /// In what was put in.
    Hole(usize),
}

impl Hole {
    fn text(&self) -> Cow<'static, str> {
        let null = NULLS[self.guess % NULLS.len()];
        let name = self.called.as_ref().map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
        let relation = |rows: &str| match &name {
            None => rows.to_owned(),
            Some(name) => format!("{rows} {name}"),
        };
        match (self.kind, &name) {
            (HoleKind::Relation, _) => relation(NO_ROWS).into(),
            (HoleKind::Alone, _) => relation(ONE_ROW).into(),
            (HoleKind::Value, None) => null.into(),
            // Which gives the column its name, also through a cast.
            (HoleKind::Value, Some(name)) => format!("(SELECT {null} AS {name})").into(),
        }
    }
}

/// Indexes of the holes from left to right.
fn in_order(holes: &[Hole]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..holes.len()).collect();
    order.sort_by_key(|i| holes[*i].range.start);
    order
}

fn original(sql: &str, holes: &[Hole], position: u32) -> Option<Spot> {
    let mut left = usize::try_from(position).ok()?.checked_sub(1)?;
    let mut from = 0;
    // The byte that is so many characters into a piece, or how many are left after it.
    let within = |piece: &str, left: usize| match piece.char_indices().nth(left) {
        Some((at, _)) => Ok(at),
        None => Err(left - piece.chars().count()),
    };
    for i in in_order(holes) {
        match within(sql.get(from..holes[i].range.start)?, left) {
            Ok(at) => return Some(Spot::Text(from + at)),
            Err(more) => left = more,
        }
        let text = holes[i].text();
        match left.checked_sub(text.chars().count()) {
            Some(more) => left = more,
            None => return Some(Spot::Hole(i)),
        }
        from = holes[i].range.end;
    }
    within(sql.get(from..)?, left).ok().map(|at| Spot::Text(from + at))
}

fn fill(sql: &str, holes: &[Hole]) -> Degraded {
    let mut filled = String::with_capacity(sql.len());
    let mut from = 0;
    let mut missing = Vec::new();
    for i in in_order(holes) {
        filled.push_str(&sql[from..holes[i].range.start]);
        filled.push_str(&holes[i].text());
        from = holes[i].range.end;
        // With a view or a function its columns are gone.
        let whole = holes.iter().any(|hole| {
            let relation = hole.name.trim_end_matches("()");
            let column = holes[i].name.strip_prefix(relation);
            hole.kind != HoleKind::Value && column.is_some_and(|column| column.starts_with('.'))
        });
        if !whole {
            missing.push(NotAvailable { name: holes[i].name.as_str().into(), why: holes[i].why });
        }
    }
    filled.push_str(&sql[from..]);
    missing.sort();
    missing.dedup();
    Degraded { sql: filled, unknown: ParsedStatement::new(sql).unknown(holes), missing }
}

#[cfg(test)]
mod tests;
