//! The section on where the time went: active sessions by what they waited for and by statement, each share with the
//! error of sampling, and who holds up whom.
//!
//! Must not: judge, or show a share without its error.

use std::collections::BTreeMap;

use super::document::{Block, Cell, Line, Table, figure, name, words};
use super::gather::{Gathered, StatementRow};
use super::statements::short;
use crate::collector::Collector;
use crate::collectors::activity::{
    ActivitySamples, SampledSeconds, SlowNow, StatementWaitSeconds, UnsampledSeconds, WaitSeconds,
    WorkerSeconds,
};
use crate::collectors::blocking::Blocking;
use crate::collectors::published;
use crate::derive::proportion::interval;
use crate::derive::units::seconds;
use crate::findings::{SampledWaits, WaitedSeconds};

/// Rows of a table.
const SHOWN: usize = 12;
/// What waits for nothing.
const CPU: &str = "CPU";
/// The statements without series of their own.
const OTHER: &str = "other";

/// What the samples say.
struct SampledTime {
    samples: f64,
    /// What they stand for, in seconds.
    span: f64,
    /// Seconds of active sessions.
    total: f64,
}

impl SampledTime {
    /// Average number of sessions, share of all active ones, and where that lies with 95 % certainty.
    fn cells(&self, seconds: f64) -> [Cell; 3] {
        // A session in a sample is one observation, of so many seconds.
        let one = self.span / self.samples;
        let error = interval(seconds / one, self.total / one);
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        [
            figure(Some(format!("{:.2}", seconds / self.span))),
            figure(Some(format!("{} %", percent(seconds / self.total)))),
            figure(error.map(|(low, high)| format!("{} to {} %", percent(low), percent(high)))),
        ]
    }
}

/// For the rules.
pub fn facts(gathered: &Gathered) -> SampledWaits {
    let families = &gathered.snapshot.families;
    let waited = |datname: &str, kind: &str, event: &str, seconds: f64| WaitedSeconds {
        datname: datname.to_owned(),
        kind: kind.to_owned(),
        event: event.to_owned(),
        seconds,
    };
    SampledWaits {
        samples: published::all(families).map(|s: ActivitySamples<'_>| s.count).sum(),
        span: published::all(families).map(|s: SampledSeconds<'_>| s.seconds).sum(),
        waits: published::all(families)
            .map(|w: WaitSeconds<'_>| waited(w.datname, w.wait_event_type, w.wait_event, w.seconds))
            .collect(),
        workers: published::all(families)
            .map(|w: WorkerSeconds<'_>| waited("", w.wait_event_type, w.wait_event, w.seconds))
            .collect(),
        cpus: gathered.facts.cpus,
    }
}

/// The section.
pub fn section(gathered: &Gathered, out: &mut Vec<Block>) {
    let families = &gathered.snapshot.families;
    out.push(Block::Section("waits", "Where the time went"));
    let samples = published::all(families).map(|s: ActivitySamples<'_>| s.count).next();
    let span = published::all(families).map(|s: SampledSeconds<'_>| s.seconds).next();
    let gaps = published::all(families).map(|s: UnsampledSeconds<'_>| s.seconds).next();
    let waits: Vec<WaitSeconds<'_>> = published::all(families).collect();
    let total: f64 = waits.iter().map(|wait| wait.seconds).sum();
    let (Some(samples), Some(span)) = (samples.filter(|n| *n > 0.0), span) else {
        out.push(Block::Text(Line::from("Not known: sessions were not sampled.")));
        return;
    };
    let gaps = gaps.filter(|s| *s > 0.0).map(|s| format!("; {} were not sampled", seconds(s)));
    let gaps = gaps.unwrap_or_default();
    if total <= 0.0 {
        let none =
            format!("No session was active in {samples:.0} samples over {}{gaps}.", seconds(span));
        out.push(Block::Text(Line::from(none)));
    } else {
        let time = SampledTime { samples, span, total };
        let on_cpu: f64 =
            waits.iter().filter(|w| w.wait_event_type == CPU).map(|w| w.seconds).sum();
        out.push(Block::Text(Line::from(format!(
            "{samples:.0} samples over {}{gaps}: {:.2} sessions were active on average, {:.2} of them waited for \
             nothing and were on a processor or in its queue.",
            seconds(span),
            total / span,
            on_cpu / span
        ))));
        by_wait(&time, waits, out);
        by_statement(&time, gathered, out);
        out.push(Block::Source(
            "pg_stat_activity of client backends and their parallel workers, sampled; the range is Wilson's 95 \
             % interval for independent samples; the true one is wider where single sessions waited for long"
                .to_owned(),
        ));
    }
    let slow: f64 = published::all(families).map(|s: SlowNow| s.count).sum();
    if slow > 0.0 {
        out.push(Block::Text(Line::from(format!(
            "At the last look {slow:.0} running statements were older than {}, the objective: no percentile has them \
             before they end.",
            seconds(gathered.objectives.latency)
        ))));
    }
    let blocking = gathered.snapshot.outcomes.iter().find(|o| &*o.collector == Blocking::NAME);
    if let Some(tree) = blocking.and_then(|outcome| outcome.shown.as_deref()) {
        out.push(Block::Heading("Who blocks whom".to_owned()));
        out.push(Block::Code("text", tree.to_owned()));
        out.push(Block::Source(
            "pg_blocking_pids(), pg_locks and pg_stat_activity at the last look".to_owned(),
        ));
    }
}

fn by_wait(time: &SampledTime, mut waits: Vec<WaitSeconds<'_>>, out: &mut Vec<Block>) {
    waits.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let rows = waits.iter().take(SHOWN).map(|wait| {
        let what = match wait.wait_event_type {
            CPU => CPU.to_owned(),
            kind => format!("{kind}:{}", wait.wait_event),
        };
        let mut row = vec![name(what), words(wait.datname)];
        row.extend(time.cells(wait.seconds));
        row
    });
    out.push(Block::Heading("By wait".to_owned()));
    out.push(Block::Table(Table {
        head: vec!["wait", "database", "sessions", "share", "likely"],
        rows: rows.collect(),
    }));
}

fn by_statement(time: &SampledTime, gathered: &Gathered, out: &mut Vec<Block>) {
    let mut statements: BTreeMap<[&str; 3], (f64, BTreeMap<&str, f64>)> = BTreeMap::new();
    for wait in published::all::<StatementWaitSeconds<'_>>(&gathered.snapshot.families) {
        let key = [wait.datname, wait.usename, wait.queryid];
        let (sum, kinds) = statements.entry(key).or_default();
        *sum += wait.seconds;
        *kinds.entry(wait.wait_event_type).or_default() += wait.seconds;
    }
    if statements.is_empty() {
        return;
    }
    let mut statements: Vec<_> = statements.into_iter().collect();
    statements.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let text = |[datname, usename, queryid]: [&str; 3]| {
        if queryid == OTHER {
            return "other statements".to_owned();
        }
        let known = gathered.statements.iter().flatten();
        let same = |s: &&StatementRow| {
            s.queryid == queryid && s.datname == datname && s.usename == usename
        };
        let text = known.filter(same).map(|s| s.text.as_str()).next();
        short(text.unwrap_or_default(), queryid)
    };
    let rows = statements.iter().take(SHOWN).map(|(key, (sum, kinds))| {
        let mut kinds: Vec<(&str, f64)> = kinds.iter().map(|(kind, s)| (*kind, *s)).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
        let parts =
            kinds.iter().take(3).map(|(kind, s)| format!("{kind} {:.0} %", s / sum * 100.0));
        let mut row = vec![name(text(*key)), words(key[0])];
        row.extend(time.cells(*sum));
        row.push(words(parts.collect::<Vec<_>>().join(", ")));
        row
    });
    out.push(Block::Heading("By statement".to_owned()));
    out.push(Block::Table(Table {
        head: vec!["statement", "database", "sessions", "share", "likely", "of which"],
        rows: rows.collect(),
    }));
}
