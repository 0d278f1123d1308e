//! What the rules about waits say of the samples of the last hour.
//!
//! Must not: take what another server did for evidence, or judge at each look.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::tally::SecondsByName;
use crate::findings::{Judgement, Reported, SampledWaits, WaitedSeconds};

/// Evidence of so many seconds is kept, in steps of so many.
const SPAN: f64 = 3600.0;
const STEP: f64 = 300.0;
/// The rules are asked so often, in seconds.
const EVERY: f64 = 30.0;

/// Seconds by name, event and type of a wait.
type ByWait = BTreeMap<[Arc<str>; 3], f64>;

/// What was sampled since the exporter began to.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitTotals {
    samples: f64,
    sampled: f64,
    waits: ByWait,
    workers: ByWait,
}

impl WaitTotals {
    pub(super) fn of(
        samples: u64,
        sampled: f64,
        waits: &SecondsByName,
        workers: &SecondsByName,
    ) -> Self {
        let by_wait = |all: &SecondsByName| {
            let one = |(name, event, kind, seconds): (&str, &str, &str, f64)| {
                ([name.into(), event.into(), kind.into()], seconds)
            };
            all.iter().map(one).collect()
        };
        let (waits, workers) = (by_wait(waits), by_wait(workers));
        Self { samples: samples as f64, sampled, waits, workers }
    }

    /// What came since then.
    fn since(&self, then: &Self, cpus: Option<f64>) -> SampledWaits {
        let waited = |now: &ByWait, then: &ByWait, named: bool| {
            let one = |(key, seconds): (&[Arc<str>; 3], &f64)| {
                // A name that made room for others and came back begins again.
                let before = then.get(key).filter(|before| *before <= seconds);
                let [name, event, kind] = key;
                WaitedSeconds {
                    datname: if named { name.to_string() } else { String::new() },
                    kind: kind.to_string(),
                    event: event.to_string(),
                    seconds: seconds - before.copied().unwrap_or(0.0),
                }
            };
            now.iter().map(one).filter(|wait| wait.seconds > 0.0).collect()
        };
        SampledWaits {
            samples: self.samples - then.samples,
            span: self.sampled - then.sampled,
            waits: waited(&self.waits, &then.waits, true),
            workers: waited(&self.workers, &then.workers, false),
            cpus,
        }
    }
}

/// The last hour, and what the rules said of it last.
#[derive(Debug, Default)]
pub(super) struct JudgedHour {
    /// Monotonic seconds and what the totals were then.
    marks: VecDeque<(f64, WaitTotals)>,
    judged: Option<f64>,
    active: Vec<(&'static str, Option<f64>)>,
    reported: Arc<[Reported]>,
}

impl JudgedHour {
    /// Whether the rules were not asked for a while.
    pub(super) fn is_due(&self, at: f64) -> bool {
        self.judged.is_none_or(|judged| at - judged >= EVERY)
    }

    /// Asks them.
    pub(super) fn judge(&mut self, at: f64, cpus: Option<f64>, now: WaitTotals) {
        self.judged = Some(at);
        // The oldest that is younger than an hour is where the evidence begins.
        while self.marks.front().is_some_and(|(then, _)| at - then > SPAN) {
            self.marks.pop_front();
        }
        let then = self.marks.front().map(|(_, then)| then);
        let facts = then.map(|then| now.since(then, cpus)).unwrap_or_default();
        let judgement = Judgement::of(&facts);
        self.active = judgement.active;
        self.reported = judgement.reported.into();
        if self.marks.back().is_none_or(|(last, _)| at - last >= STEP) {
            self.marks.push_back((at, now));
        }
    }

    /// By id: 1 where something was found, 0 where not, `None` where there is too little evidence.
    pub(super) fn active(&self) -> &[(&'static str, Option<f64>)] {
        &self.active
    }

    /// What was found.
    pub(super) fn reported(&self) -> Arc<[Reported]> {
        self.reported.clone()
    }
}
