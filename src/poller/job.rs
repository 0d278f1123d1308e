//! One collector in one place: when it is due, its state, and how its runs went.
//!
//! Must not: let a panic or an error of the collector reach the worker.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::board::{Board, CollectorPlace, Results};
use super::told::Told;
use crate::collector::{AnyState, Handle};
use crate::config::Settings;
use crate::error::{CollectError, NotAvailable};
use crate::metric::{Family, Refused, Sink};
use crate::pg::{LONGEST_TEXT, Need, Remarks, Session, TooLong};
use crate::snapshot::Outcome;

/// First and longest pause of a job that costs sessions.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Weight of a new measurement in the smoothed cost of a run. A dear run counts at once, cheap ones little by little.
const SMOOTHING: f64 = 0.2;

/// What a run means for the session it ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Go on.
    Done,
    /// Nothing was recorded: the server ended the session while it was idle, or another one answers on
    /// it. To be run again, with another session or with new facts.
    Again,
    /// An extension is missing or a query was refused: what is known of the server may be old.
    FactsDoubted,
    /// The session is of no more use, and its backend may live on.
    SessionBroken { left_behind: bool },
}

/// How a collector's session was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The server said that it ends it, or did not answer at all; or the answer had come before.
    Told,
    /// Without a word.
    Silent,
}

/// Whether a run that was in vain through no fault of the collector may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    First,
    Last,
}

/// A collector in its place.
pub(super) struct Job {
    collector: Handle,
    state: AnyState,
    configured: Option<Duration>,
    /// What a run costs the server, smoothed; of a collector that is paced by it.
    cost: Option<Duration>,
    due: Instant,
    outcome: Outcome,
    /// Whether anything was recorded yet.
    seen: bool,
    /// What the log knows; of a lost connection the worker tells.
    told: Told,
    left_out: Told,
    lacks: Told,
    /// Runs in a row that cost their session.
    strikes: u32,
    /// How the last of them ended, which may turn out to be the server's end and not this collector's
    /// doing.
    loss: Option<Loss>,
    /// Whether the last run was in vain and is to be repeated.
    again: bool,
    /// Whether it failed because the connection was lost, of which the worker tells.
    lost: bool,
    /// Least interval, so that many databases are not walked without a pause.
    floor: Duration,
    /// Runs in a row of a guest that cost too much, its session or not.
    costly: u32,
}

impl Job {
    pub(super) fn new(collector: Handle, datname: Option<Arc<str>>, settings: &Settings) -> Self {
        let configured = settings.collectors.get(collector.name()).and_then(|c| c.interval);
        let interval = configured.unwrap_or_else(|| collector.default_interval());
        let interval = collector.pace().map_or(interval, |pace| pace.interval(interval, None));
        Self {
            state: collector.new_state(),
            configured,
            cost: None,
            due: Instant::now(),
            outcome: Outcome::new(collector.name(), datname, interval),
            collector,
            seen: false,
            told: Told::default(),
            left_out: Told::default(),
            lacks: Told::default(),
            strikes: 0,
            loss: None,
            again: false,
            lost: false,
            floor: Duration::ZERO,
            costly: 0,
        }
    }

    /// The extension that it reads in whichever database has it.
    pub(super) fn need(&self) -> Option<&'static Need> {
        self.collector.need()
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Runs the collector once on a session and records the result.
    pub(super) async fn run(&mut self, session: &Session, board: &Board, run: Run) -> Ended {
        let start = Instant::now();
        drop(session.take_remarks());
        let result = match AssertUnwindSafe(self.collect(session)).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => {
                self.state = self.collector.new_state();
                Err(CollectError::Defect(panic_text(panic.as_ref())))
            }
        };
        let in_vain = |e: &CollectError| matches!(e, CollectError::Changed) || e.is_idle_timeout();
        if run == Run::First && !self.again && result.as_ref().is_err_and(in_vain) {
            self.again = true;
            return Ended::Again;
        }
        self.again = false;
        self.outcome.runs += 1;
        self.outcome.duration = start.elapsed();
        let (mut ended, mut left_behind, mut blameless) = (Ended::Done, false, false);
        let mut too_much = false;
        let Remarks { trusted, failed, .. } = session.take_remarks();
        self.outcome.trusted = joined(trusted);
        let results = match result {
            // A part that failed is told as a failure; the rest is published all the same.
            Ok((results, refused)) => {
                self.loss = Some(Loss::Told);
                self.costly = 0;
                let place = self.place();
                let guest = self.collector.is_guest();
                let repeats = self.collector.may_repeat();
                let collision =
                    guest.then(|| board.collision(&place, &results.families, repeats)).flatten();
                match several(failed.into_iter().chain(collision).collect()) {
                    Some(e) => {
                        self.outcome.series = series(&results.families);
                        self.fail(&e);
                        ended = Ended::FactsDoubted;
                    }
                    None => self.succeed(&results.families, refused),
                }
                Some(results)
            }
            Err(e) => {
                self.fail(&e);
                self.collector.failed(&mut self.state);
                blameless = e.is_idle_timeout();
                too_much = e.is_too_much();
                self.loss = match e {
                    CollectError::Ended { .. } | CollectError::Deadline(_) => Some(Loss::Told),
                    CollectError::Lost(_) => Some(Loss::Silent),
                    CollectError::Limit { .. } => None,
                    // It was answered; what became of the session after that is seen below.
                    _ => Some(Loss::Told),
                };
                match e {
                    CollectError::Missing { .. }
                    | CollectError::Query { .. }
                    | CollectError::Changed => ended = Ended::FactsDoubted,
                    CollectError::Deadline(_) => left_behind = true,
                    _ => {}
                }
                None
            }
        };
        let now = Instant::now();
        self.reschedule(start, now);
        self.spare(now, too_much);
        if !session.is_broken() {
            (self.strikes, self.loss) = (0, None);
        } else if !blameless {
            self.put_off(now);
        }
        let quiet = self.collector.pace().is_some_and(|pace| pace.quiet);
        board.record(self.place(), self.outcome.clone(), results, quiet);
        if session.is_broken() { Ended::SessionBroken { left_behind } } else { ended }
    }

    async fn collect(&mut self, session: &Session) -> Result<(Results, Refused), CollectError> {
        drop(session.take_too_long());
        let rows = self.collector.fetch(session, &self.state).await;
        self.leave_out(&session.take_too_long());
        let rows = rows?;
        self.go_without(&session.missing());
        let limit = session.settings().series_limit;
        let limit = self.collector.series_limit().map_or(limit, |own| own.min(limit));
        let mut sink = Sink::new(self.collector.metrics(), limit)
            .like_postgres_exporter(session.server_label())
            .without_unknown(!self.outcome.missing.is_empty());
        self.collector.derive(&mut self.state, rows, &mut sink);
        self.outcome.shown = sink.take_shown();
        self.outcome.covered = sink.take_covered();
        let (mut families, refused) = sink.finish();
        let exposed = &session.settings().exposed;
        let guest = self.collector.is_guest();
        families.retain(|family| guest || !exposed.hides(family.metric.name));
        let families = families.into_iter().map(Arc::new).collect();
        let findings = self.collector.findings(&self.state);
        Ok((Results { families, findings, guest }, refused))
    }

    /// Says once that texts were left out.
    fn leave_out(&mut self, texts: &TooLong) {
        if texts.count > 0 && self.outcome.too_long == 0 && self.left_out.fails("").is_some() {
            let (collector, datname) = self.names();
            tracing::warn!(
                collector,
                datname,
                texts = texts.count,
                first = texts.first,
                "texts longer than {LONGEST_TEXT} bytes are left out, and what they belong to is not judged"
            );
        } else if texts.count == 0 {
            self.left_out.works();
        }
        self.outcome.too_long = texts.count;
    }

    /// Says once what is not available here. What was counted with it and what is counted without it are not one.
    fn go_without(&mut self, missing: &[NotAvailable]) {
        if *self.outcome.missing == *missing {
            return;
        }
        self.state = self.collector.new_state();
        self.outcome.missing = missing.into();
        let names: Vec<String> = missing.iter().map(NotAvailable::to_string).collect();
        let names = names.join(", ");
        let (collector, datname) = (self.collector.name(), self.outcome.datname.clone());
        let datname = datname.as_deref().unwrap_or_default();
        if missing.is_empty() {
            self.lacks.works();
            tracing::info!(
                collector,
                datname,
                "the server has everything that the collector reads again"
            );
        } else if let Some(held) = self.lacks.fails(&names) {
            tracing::warn!(
                collector,
                datname,
                missing = names,
                "not available here: the metrics that are made of it are left out{held}"
            );
        }
    }

    fn succeed(&mut self, families: &[Arc<Family>], refused: Refused) {
        (self.outcome.error, self.outcome.kind) = (None, None);
        let held = self.told.works();
        let (collector, datname) = self.names();
        if let Some(held) = held {
            tracing::info!(collector, datname, "the collector works again{held}");
        }
        if refused.over_limit > 0 && self.outcome.refused.over_limit == 0 {
            tracing::warn!(
                collector,
                datname,
                left_out = refused.over_limit,
                "series_limit reached: raise it, or let the collector publish less"
            );
        }
        if refused.defects() > 0 && self.outcome.refused.defects() == 0 {
            tracing::error!(collector, datname, ?refused, "samples refused: please report this");
        }
        self.outcome.refused.duplicate += refused.duplicate;
        self.outcome.refused.undeclared += refused.undeclared;
        self.outcome.refused.value += refused.value;
        self.outcome.refused.over_limit += refused.over_limit;
        self.outcome.last_success = Some(SystemTime::now());
        self.outcome.series = series(families);
        self.seen = true;
    }

    fn fail(&mut self, e: &CollectError) {
        self.lost = e.kind() == "lost";
        let message: Arc<str> = e.to_string().into();
        // One line per change of state or cause, not per try or text; of a lost connection the worker tells.
        if let Some(held) = (!self.lost).then(|| self.told.fails(&e.cause())).flatten() {
            let (collector, datname) = self.names();
            tracing::warn!(collector, datname, kind = e.kind(), "{message}{held}");
        }
        *self.outcome.errors.entry(e.kind()).or_default() += 1;
        (self.outcome.error, self.outcome.kind) = (Some(message), Some(e.kind()));
        self.seen = true;
    }

    fn place(&self) -> CollectorPlace {
        (self.outcome.collector.clone(), self.outcome.datname.clone())
    }

    fn names(&self) -> (&str, &str) {
        (self.collector.name(), self.outcome.datname.as_deref().unwrap_or_default())
    }

    /// The next tick on the old grid, or where ticks are drawn a pause after this run began; ticks that have
    /// passed are counted, not made up for.
    fn reschedule(&mut self, began: Instant, now: Instant) {
        let interval = self.configured.unwrap_or_else(|| self.collector.interval(&self.state));
        let pace = self.collector.pace();
        let interval = pace.map_or(interval, |pace| {
            self.cost = smoothed(self.cost, self.collector.cost(&self.state));
            pace.interval(interval, self.cost)
        });
        let interval = interval.max(self.floor);
        self.outcome.interval = interval;
        let missed = missed_ticks(now.saturating_duration_since(self.due), interval);
        self.outcome.skipped += u64::from(missed);
        match pace.is_some_and(|pace| pace.jitter) {
            true => self.due = began + interval.mul_f64(rand::random_range(0.5..1.5)),
            false => self.due += interval * (missed + 1),
        }
    }

    /// Puts a run off because there is no session for it; the ticks that pass count as skipped.
    pub(super) fn postpone(&mut self, now: Instant) {
        let interval = self.outcome.interval;
        let missed = missed_ticks(now.saturating_duration_since(self.due), interval) + 1;
        self.outcome.skipped += u64::from(missed);
        self.due += interval * missed;
    }

    /// Least interval from now on.
    pub(super) fn set_floor(&mut self, floor: Duration) {
        self.floor = floor;
    }

    /// After a run that cost its session: the pause doubles each time, so that a query which freezes its
    /// backend does not freeze one after another.
    fn put_off(&mut self, now: Instant) {
        let pause =
            FIRST_PAUSE.max(self.outcome.interval) * 2u32.saturating_pow(self.strikes.min(10));
        self.strikes = self.strikes.saturating_add(1);
        self.due = self.due.max(now + pause.min(LONGEST_PAUSE));
    }

    /// What the user wrote may hold the connection for long: it then waits ten times as long as it took, and twice that
    /// each time it happens again.
    fn spare(&mut self, now: Instant, too_much: bool) {
        if self.collector.is_guest() && too_much {
            let pause = self.outcome.duration * 10 * 2u32.saturating_pow(self.costly.min(10));
            self.costly = self.costly.saturating_add(1);
            self.due = self.due.max(now + pause.min(LONGEST_PAUSE));
        }
    }

    /// After a reconnect there is nothing to wait for, except for a job that costs sessions. Ticks
    /// that passed meanwhile are counted.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.strikes == 0 && self.costly == 0 {
            let missed =
                missed_ticks(now.saturating_duration_since(self.due), self.outcome.interval);
            self.outcome.skipped += u64::from(missed);
            self.due = now;
        }
    }

    /// The server is away, or has been started anew: a session that was lost just before was not lost by
    /// this collector. Where a connection ended without a word the query may have crashed a backend, and
    /// all others with it; but not the process that starts them.
    pub(super) fn forgive(&mut self, started_anew: bool) {
        if self.loss.take_if(|loss| started_anew || *loss == Loss::Told).is_some() {
            self.strikes = self.strikes.saturating_sub(1);
        }
    }

    /// What its last run failed with.
    pub(super) fn error(&self) -> Option<Arc<str>> {
        self.outcome.error.clone()
    }
}

/// What a run is taken to cost after one that cost `new`.
fn smoothed(before: Option<Duration>, new: Option<Duration>) -> Option<Duration> {
    let (Some(before), Some(new)) = (before, new) else { return new.or(before) };
    Some(new.max(before.mul_f64(1.0 - SMOOTHING) + new.mul_f64(SMOOTHING)))
}

fn series(families: &[Arc<Family>]) -> usize {
    families.iter().flat_map(|f| &f.samples).map(|s| s.value.series()).sum()
}

/// What was used, each once.
fn joined(mut trusted: Vec<String>) -> Option<Arc<str>> {
    trusted.sort();
    trusted.dedup();
    (!trusted.is_empty()).then(|| trusted.join("; ").into())
}

/// All that failed of one run, as one error.
fn several(failed: Vec<CollectError>) -> Option<CollectError> {
    let mut failed = failed.into_iter();
    let first = failed.next()?;
    let texts: Vec<String> = failed.map(|e| e.to_string()).collect();
    Some(match (first, texts.is_empty()) {
        (first, true) => first,
        (CollectError::Missing { what, remedy }, false) => {
            CollectError::Missing { what, remedy: format!("{remedy}; {}", texts.join("; ")) }
        }
        (first, false) => first,
    })
}

/// Whole intervals in `late`; a thousand at the most, so that a suspended machine does not overflow.
fn missed_ticks(late: Duration, interval: Duration) -> u32 {
    let ticks = late.as_millis() / interval.as_millis().max(1);
    u32::try_from(ticks.min(1_000)).unwrap_or(1_000)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_run_counts_at_once_and_is_forgotten_little_by_little() {
        let ms = Duration::from_millis;
        assert_eq!(smoothed(None, Some(ms(1))), Some(ms(1)));
        assert_eq!(smoothed(Some(ms(1)), Some(ms(50))), Some(ms(50)));
        assert_eq!(smoothed(Some(ms(50)), Some(ms(1))), Some(Duration::from_micros(40_200)));
        assert_eq!(smoothed(Some(ms(50)), None), Some(ms(50)));
    }

    #[test]
    fn late_ticks_are_counted_whole() {
        let s = Duration::from_secs;
        assert_eq!(missed_ticks(s(0), s(5)), 0);
        assert_eq!(missed_ticks(s(4), s(5)), 0);
        assert_eq!(missed_ticks(s(11), s(5)), 2);
        assert_eq!(missed_ticks(s(1_000_000), s(1)), 1_000);
        assert_eq!(missed_ticks(s(1), Duration::ZERO), 1_000);
    }
}
