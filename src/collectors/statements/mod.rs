//! `pg_stat_statements`: what each statement and each database did, by increments, and how long its
//! calls took, as histograms and quantiles that are estimated from the view's moments
//! ([`crate::derive::latency`]).
//!
//! Must not: fetch a statement's text in the scan, or let a histogram or the sum of the statements that are
//! not exposed count what happened before the first poll, or fall when the view is reset, evicts, restarts or
//! becomes another server's.

mod bars;
mod catalogue;
mod entry;
mod excluded;
mod own;
pub mod published;
mod scan;
mod series;
mod track;

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::derive::delta::increment;
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Need, Session};
pub use bars::Levels;
use catalogue as m;
pub use entry::{Entry, EntryKey, Scan, ViewFacts};
pub use own::Answer;
use own::Own;
use scan::ScansPerPoll;
pub use scan::{Evictions, NEED, Rows, StatementOptions, Text, evictions, view};
use series::Exposition;
use track::{Continuity, StatementPhase, Tracker};

/// The two scans of a poll together may take this part of the interval on the server,
const SHARE: f64 = 0.02;
/// and where there are more than two, all of them this part.
const MORE_SHARE: f64 = 0.01;
/// A shorter interval is gone back to only well below the limit, so that it does not flap.
const COMFORTABLE: f64 = 0.015;
/// Intervals to choose from, in seconds.
const INTERVALS: [u64; 3] = [1, 2, 5];
/// Weight of a new measurement in the smoothed duration of a scan.
const SMOOTHING: f64 = 0.2;
/// Seconds between two fetches of texts, each of which reads all texts on the server.
const TEXT_PAUSE: f64 = 5.0;

/// The collector of `pg_stat_statements`.
pub struct Statements;

/// What lives on between polls.
#[derive(Default)]
pub struct State {
    tracker: Tracker,
    exposition: Exposition,
    own: Own,
    /// Facts and end (server's clock) of the last poll.
    last: Option<Last>,
    resets: u64,
    /// Rows that were evicted, and those that went in the last poll, before it is known why.
    evicted: u64,
    gone: u64,
    /// Whether the last poll saw evictions.
    evicting: bool,
    /// Smoothed seconds of one scan.
    scan: Option<f64>,
    /// Index into [`INTERVALS`].
    interval: usize,
    /// Monotonic seconds before which no texts are asked for.
    texts_after: f64,
}

struct Last {
    started: f64,
    stats_reset: Option<f64>,
    dealloc: Option<f64>,
    clock: f64,
    track_planning: bool,
}

impl Collector for Statements {
    type Rows = Rows;
    type State = State;

    const NAME: &'static str = "statements";
    const HELP: &'static str =
        "Calls, time and latency percentiles of statements, from pg_stat_statements.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(INTERVALS[0]);
    const METRICS: &'static [&'static Metric] = m::METRICS;
    const NEED: Option<&'static Need> = Some(&NEED);

    async fn fetch(&self, session: &Session, state: &State) -> Result<Rows, CollectError> {
        let planning = state.last.as_ref().is_some_and(|last| last.track_planning);
        let how = (planning, state.scans());
        scan::read(session, &state.own, state.exposition.wanted(), how).await
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        state.take(&rows);
        state.emit(&rows, sink);
    }

    fn interval(&self, state: &State) -> Duration {
        Duration::from_secs(INTERVALS[state.interval])
    }
}

impl State {
    fn take(&mut self, rows: &Rows) {
        let facts = &rows.facts;
        let mut relation = self.relation(facts);
        let reset = relation == Continuity::Reset;
        let evictions = self.may_have_evicted(rows);
        if relation != Continuity::Continues || evictions {
            self.exposition.doubt_all(
                rows.scans.first().map_or(0.0, |scan| scan.at),
                relation == Continuity::Continues,
            );
        }
        let suspicions = (rows.options.objective, evictions);
        self.own.take(rows.last(), &rows.own);
        for scan in &rows.scans {
            let (exposition, own) = (&mut self.exposition, &mut self.own);
            self.tracker.read(scan, relation, suspicions, |activity, new| match activity {
                StatementPhase::Execution if own.takes(&new) => {}
                StatementPhase::Execution => exposition.add(scan.at, facts, &new),
                StatementPhase::Planning if own.is_own(&new.key) => {}
                StatementPhase::Planning => exposition.add_plans(scan.at, facts, &new),
            });
            self.exposition.read_until(scan.at);
            relation = Continuity::Continues;
            self.measure(scan);
        }
        let gone = self.tracker.forget_gone();
        self.gone = if reset { 0 } else { gone };
        for key in self.tracker.doubted.drain(..).filter(|key| !self.own.is_own(key)) {
            self.exposition.doubt(rows.last().at, facts, key);
        }
        if evictions {
            self.exposition.doubt_absent(rows.last().at, |id| self.tracker.has(id));
        }
        self.choose_interval();

        let last = rows.last();
        let excluded = &rows.options.excluded;
        let left_out = |key: &EntryKey| self.own.is_own(key) || excluded.has(facts, key);
        let heaviest = self.tracker.heaviest(last.at, rows.options.top, left_out);
        self.exposition.choose(last.at, facts, rows.options.top, heaviest);
        if let Some(texts) = &rows.texts {
            self.exposition.take_texts(facts, texts);
            self.texts_after = last.at + TEXT_PAUSE;
        }
        let due = rows.options.include_text && last.at >= self.texts_after;
        self.exposition.want_texts(due);
        self.last = Some(Last {
            started: facts.started,
            stats_reset: facts.stats_reset,
            dealloc: facts.dealloc,
            clock: last.clock.1,
            track_planning: facts.track_planning,
        });
    }

    /// How the first scan of this poll relates to the last one of the poll before.
    fn relation(&mut self, facts: &ViewFacts) -> Continuity {
        let Some(last) = self.last.as_ref().filter(|last| last.started == facts.started) else {
            return Continuity::Baseline;
        };
        let evictions = match (last.dealloc, facts.dealloc) {
            (Some(before), Some(now)) => increment(before, now).by,
            _ => 0.0,
        };
        let reset = match (last.stats_reset, facts.stats_reset) {
            (Some(before), Some(now)) if before != now => Some(now),
            _ => None,
        };
        self.resets += u64::from(reset.is_some());
        // A reset between the reading of the facts and the scans of the poll before was met by
        // those scans already; the rows they saw were new ones, those they missed were reset.
        let met = reset.is_some_and(|at| at <= last.clock);
        // What those scans missed was evicted before the facts were read or after.
        if (self.evicting || evictions > 0.0) && !met {
            self.evicted += self.gone;
        }
        self.evicting = evictions > 0.0;
        if reset.is_some() && !met { Continuity::Reset } else { Continuity::Continues }
    }

    /// Whether rows may have been evicted since the last poll. Where the server does not tell (before PostgreSQL 14),
    /// when there is not much room for more; each eviction takes a twentieth.
    fn may_have_evicted(&self, rows: &Rows) -> bool {
        match (rows.facts.dealloc, rows.facts.max_entries) {
            (Some(_), _) => self.evicting,
            (None, Some(most)) => {
                rows.scans.iter().any(|scan| scan.entries.len() as f64 >= 0.9 * most)
            }
            (None, None) => true,
        }
    }

    fn measure(&mut self, scan: &Scan) {
        if let Some(took) = scan.took() {
            let took = took.as_secs_f64();
            let before = self.scan.unwrap_or(took);
            self.scan = Some(before + SMOOTHING * (took - before));
        }
    }

    fn choose_interval(&mut self) {
        let Some(scan) = self.scan else { return };
        let share = |i: usize| 2.0 * scan / INTERVALS[i] as f64;
        let last = INTERVALS.len() - 1;
        while self.interval < last && share(self.interval) > SHARE {
            self.interval += 1;
        }
        while self.interval > 0 && share(self.interval - 1) < COMFORTABLE {
            self.interval -= 1;
        }
    }

    /// As many scans as are cheap: each shows some calls one by one that the others do not.
    fn scans(&self) -> ScansPerPoll {
        let Some(scan) = self.scan else { return ScansPerPoll::Two };
        let most = MORE_SHARE * INTERVALS[self.interval] as f64;
        let cheap = |scans: &ScansPerPoll| f64::from(scans.number()) * scan <= most;
        ScansPerPoll::ALL.into_iter().rev().find(cheap).unwrap_or_default()
    }

    fn emit(&mut self, rows: &Rows, sink: &mut Sink) {
        let scan = rows.last();
        let facts = &rows.facts;
        sink.number(&m::OBJECTIVE, &[], rows.options.objective);
        sink.number(&m::SLO, &[], rows.options.slo);
        sink.number(&m::ENTRIES, &[], (scan.entries.len() + scan.hidden.len()) as f64);
        sink.number(&m::MAX_ENTRIES, &[], facts.max_entries);
        sink.number(&m::HIDDEN, &[], scan.hidden.len() as f64);
        sink.number(&m::DEALLOC, &[], facts.dealloc);
        sink.number(&m::EVICTED, &[], facts.dealloc.map(|_| self.evicted as f64));
        sink.number(&m::RESETS, &[], facts.stats_reset.map(|_| self.resets as f64));
        sink.number(&m::SCAN_SECONDS, &[], self.scan);
        let faults = self.tracker.faults;
        sink.number(&m::RESTARTED, &[], faults.restarted as f64);
        sink.number(&m::UNRELIABLE, &["inconsistent"], faults.inconsistent as f64);
        sink.number(&m::UNRELIABLE, &["imprecise"], faults.imprecise as f64);
        sink.number(&m::OWN_CALLS, &[], self.own.calls as f64);
        sink.number(&m::OWN_SECONDS, &[], self.own.seconds);
        let tracker = &self.tracker;
        let learnt = |key: &EntryKey, x: f64| tracker.learnt(key, x);
        self.exposition.emit(scan.at, rows, learnt, sink);
    }
}

#[cfg(test)]
mod tests;
