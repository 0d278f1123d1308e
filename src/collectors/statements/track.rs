//! Every row of the view from scan to scan: which calls are new, and how their latencies lie.
//!
//! Must not: count a call twice, take a row's history for something that just happened, or remember
//! rows that are gone.

use std::collections::{HashMap, HashSet};

use super::entry::{Counters, Entry, EntryKey, Scan};
use crate::derive::delta::increment;
use crate::derive::latency::{
    Cumulative, Estimator, FoundCalls, Learnt, MomentStep, PlacedCalls, Scratch,
};

/// Time constant in seconds over which a statement's total time ranks it.
const RANKING: f64 = 300.0;
/// No statement ends more often than so many times a second: a row that counts more was not made since the last scan.
const FASTEST: f64 = 100_000.0;

/// What a row did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatementPhase {
    /// Calls ended.
    Execution,
    /// Plans were made; there are no counters with them.
    Planning,
}

/// New calls (or plans) of one row.
pub(super) struct New<'a> {
    pub key: EntryKey,
    pub seconds: f64,
    pub found: FoundCalls<'a>,
    pub counters: Counters,
}

/// What was met on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    /// Rows that began anew.
    pub restarted: u64,
    /// Intervals that their rows contradict.
    pub inconsistent: u64,
    /// Intervals whose variance was lost to rounding.
    pub imprecise: u64,
}

/// How a scan relates to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continuity {
    /// None before, or another server: whatever is there is history.
    Baseline,
    /// All rows were reset in between: whatever is there is new.
    Reset,
    /// The same server, going on.
    Continues,
}

/// One row as last seen: 220 bytes, and 1.1 KiB more once it was seen to be called.
struct Tracked {
    time: Cumulative,
    since: f64,
    counters: Counters,
    /// Number of the scan that saw it last.
    scan: u64,
    /// When calls were last observed.
    observed: f64,
    /// Decayed seconds of execution, as of `observed`.
    heat: f64,
    estimator: Option<Box<Estimator>>,
    planning: Option<Box<Planning>>,
}

/// Planning times of a row as last seen: 100 bytes, and 1.1 KiB more once it was seen to be planned.
struct Planning {
    time: Cumulative,
    observed: f64,
    estimator: Option<Box<Estimator>>,
}

/// What is known of a row's past when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// What it counted so far happened before we looked.
    History,
    /// It was not there before, or began anew: all it counted is new.
    Nothing,
    /// It was seen in the scan before.
    Known,
}

/// All rows of the view.
#[derive(Default)]
pub(super) struct Tracker {
    rows: HashMap<EntryKey, Tracked>,
    scan: u64,
    /// Databases and roles that had hidden rows in the last scan.
    hidden: HashSet<(i64, i64)>,
    /// Seconds of the scan before, and of this one.
    at: (f64, f64),
    scratch: Scratch,
    placed: PlacedCalls,
    /// Rows that may have lost calls, or counted some that are none, since somebody asked.
    pub doubted: Vec<EntryKey>,
    ranked: Vec<(f64, EntryKey)>,
    pub faults: Faults,
}

impl Tracker {
    /// Compares a scan with the one before and hands every row with new calls or plans to `found`. Where there
    /// were evictions, a row without a time of birth may be another one than before.
    pub(super) fn read(
        &mut self,
        scan: &Scan,
        relation: Continuity,
        (objective, evictions): (f64, bool),
        mut found: impl FnMut(StatementPhase, New<'_>),
    ) {
        self.scan += 1;
        self.at = (self.at.1, scan.at);
        for entry in &scan.entries {
            let (past, step) = self.step(entry, relation);
            // Before it there may have been another, which nobody saw.
            let newborn = evictions && past == Past::Nothing;
            let past = if matches!(step, MomentStep::Restarted(_)) { Past::Nothing } else { past };
            if let Some(new) = self.plan(entry, past, scan.at) {
                found(StatementPhase::Planning, new);
            }
            let known =
                matches!(step, MomentStep::Progress(_) | MomentStep::Idle) && past == Past::Known;
            let replaced = evictions && known && self.may_be_another(entry, &step);
            let Some(row) = self.rows.get_mut(&entry.key) else { continue };
            if matches!(step, MomentStep::Restarted(_)) {
                self.faults.restarted += 1;
            }
            // What was hidden counted nothing while it was.
            let came_back = past == Past::History && relation == Continuity::Continues;
            if replaced || came_back || newborn || matches!(step, MomentStep::Restarted(_)) {
                self.doubted.push(entry.key);
            }
            let (MomentStep::Progress(interval)
            | MomentStep::Inconsistent(interval)
            | MomentStep::Restarted(Some(interval))) = step
            else {
                continue;
            };
            let estimator = row.estimator.get_or_insert_default();
            let observed = estimator.observe(scan.at - row.observed, &interval, &mut self.scratch);
            let inconsistent = matches!(step, MomentStep::Inconsistent(_));
            if inconsistent {
                self.placed.clear();
            } else {
                self.placed.place(&interval, objective);
            }
            self.faults.inconsistent += u64::from(inconsistent);
            self.faults.imprecise += u64::from(observed.imprecise);
            row.heat = row.heat_at(scan.at) + finite(interval.total);
            row.observed = scan.at;
            let anew = matches!(step, MomentStep::Restarted(_));
            let before = if anew { Counters::default() } else { row.counters };
            let counters = before.combined(entry.counters, |before, now| {
                // A part of the row never falls alone: a fall would be an overtaken restart, whose
                // history is not told from what is new.
                let step = increment(before, now);
                if step.reset { 0.0 } else { finite(step.by) }
            });
            row.counters = entry.counters;
            let new = New {
                key: entry.key,
                seconds: finite(interval.total),
                found: FoundCalls {
                    calls: interval.calls,
                    exact: observed.exact,
                    mass: self.scratch.mass(),
                    placed: &self.placed,
                },
                counters,
            };
            found(StatementPhase::Execution, new);
        }
        self.hidden.clear();
        self.hidden.extend(&scan.hidden);
    }

    /// Replaces what is known of a row, and says what happened to it since. The counters stay until
    /// calls are found, so that an increment of theirs without a call is not lost.
    fn step(&mut self, entry: &Entry, relation: Continuity) -> (Past, MomentStep) {
        let fresh = Tracked {
            time: entry.time,
            since: entry.since,
            counters: entry.counters,
            scan: self.scan,
            observed: f64::NEG_INFINITY,
            heat: 0.0,
            estimator: None,
            planning: None,
        };
        let Some(row) = self.rows.get_mut(&entry.key) else {
            // Rows come out of hiding when the role is granted more: that is history too.
            let history = relation == Continuity::Baseline
                || self.hidden.contains(&(entry.key.dbid, entry.key.userid));
            let counters = if history { entry.counters } else { Counters::default() };
            self.rows.insert(entry.key, Tracked { counters, ..fresh });
            let new = entry.time.from_zero().filter(|_| !history);
            let past = if history { Past::History } else { Past::Nothing };
            return (past, new.map_or(MomentStep::Idle, MomentStep::Progress));
        };
        let missed = row.scan + 1 < self.scan;
        let made_anew = missed || entry.since != row.since || relation == Continuity::Reset;
        let before = std::mem::replace(&mut row.time, entry.time);
        row.since = entry.since;
        row.scan = self.scan;
        match relation {
            Continuity::Baseline => {
                row.counters = entry.counters;
                (Past::History, MomentStep::Idle)
            }
            _ if made_anew => (Past::Nothing, MomentStep::Restarted(entry.time.from_zero())),
            _ => (Past::Known, entry.time.since(&before)),
        }
    }

    /// New plans of a row, where planning is read.
    fn plan(&mut self, entry: &Entry, past: Past, at: f64) -> Option<New<'_>> {
        let row = self.rows.get_mut(&entry.key)?;
        let Some(now) = entry.planning else {
            row.planning = None;
            return None;
        };
        let before = row.planning.as_ref().map(|planning| planning.time);
        let planning = row.planning.get_or_insert_with(|| {
            Box::new(Planning { time: now, observed: f64::NEG_INFINITY, estimator: None })
        });
        planning.time = now;
        let interval = match (past, before) {
            (Past::Nothing, _) => now.from_zero(),
            (Past::Known, Some(before)) => match now.since(&before) {
                MomentStep::Progress(interval) | MomentStep::Inconsistent(interval) => {
                    Some(interval)
                }
                MomentStep::Restarted(interval) => interval,
                MomentStep::Idle => None,
            },
            (Past::History, _) | (Past::Known, None) => None,
        }?;
        let estimator = planning.estimator.get_or_insert_default();
        let observed = estimator.observe(at - planning.observed, &interval, &mut self.scratch);
        planning.observed = at;
        self.placed.clear();
        Some(New {
            key: entry.key,
            seconds: finite(interval.total),
            found: FoundCalls {
                calls: interval.calls,
                exact: observed.exact,
                mass: self.scratch.mass(),
                placed: &self.placed,
            },
            counters: Counters::default(),
        })
    }

    /// Whether a row that went on may have been made anew since the last scan, and have overtaken its old count.
    fn may_be_another(&self, entry: &Entry, step: &MomentStep) -> bool {
        let MomentStep::Progress(_) = step else { return false };
        let seconds = (self.at.1 - self.at.0).max(0.0);
        entry.since == 0.0 && entry.time.calls as f64 <= FASTEST * seconds
    }

    /// Whether a statement has a row, of database, role and queryid.
    pub(super) fn has(&self, (dbid, userid, queryid): (i64, i64, i64)) -> bool {
        let key = |toplevel| EntryKey { dbid, userid, queryid, toplevel };
        self.rows.contains_key(&key(true)) || self.rows.contains_key(&key(false))
    }

    /// What was learnt of a row's latencies.
    pub(super) fn learnt(&self, key: &EntryKey, x: f64) -> Option<Learnt> {
        Some(self.rows.get(key)?.estimator.as_ref()?.learnt(x))
    }

    /// Forgets the rows that the last scan did not see, and says how many they were. The calls that they had since
    /// they were seen are lost.
    pub(super) fn forget_gone(&mut self) -> u64 {
        let (scan, before) = (self.scan, self.rows.len());
        let doubted = &mut self.doubted;
        self.rows.retain(|key, row| {
            let there = row.scan == scan;
            if !there {
                doubted.push(*key);
            }
            there
        });
        if self.rows.capacity() > 4 * self.rows.len() + 1024 {
            self.rows.shrink_to(2 * self.rows.len());
        }
        (before - self.rows.len()) as u64
    }

    /// The `top` rows with the most execution time of late, the heaviest first, without those that
    /// are left out.
    pub(super) fn heaviest(
        &mut self,
        at: f64,
        top: usize,
        left_out: impl Fn(&EntryKey) -> bool,
    ) -> impl Iterator<Item = EntryKey> + '_ {
        self.ranked.clear();
        let hot = self.rows.iter().filter(|(key, row)| row.heat > 0.0 && !left_out(key));
        self.ranked.extend(hot.map(|(key, row)| (row.heat_at(at), *key)));
        let heavier = |a: &(f64, EntryKey), b: &(f64, EntryKey)| {
            b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
        };
        if top < self.ranked.len() && top > 0 {
            self.ranked.select_nth_unstable_by(top - 1, heavier);
        }
        self.ranked.truncate(top);
        self.ranked.sort_unstable_by(heavier);
        self.ranked.iter().map(|(_, key)| *key)
    }
}

impl Tracked {
    fn heat_at(&self, at: f64) -> f64 {
        if self.heat > 0.0 { self.heat * ((self.observed - at) / RANKING).exp() } else { 0.0 }
    }
}

/// Seconds that can be added up.
fn finite(x: f64) -> f64 {
    if x.is_finite() { x.max(0.0) } else { 0.0 }
}
