//! Says at the start what of each server is not as it must be for everything to be seen: one line a defect, in the
//! words of the rules, which `pgrunway doctor` has too.
//!
//! Must not: say again what its worker says by itself: a server that cannot be reached, a database that cannot be
//! entered, a collector that fails, a role that sees little.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::fleet::ShownFleet;
use crate::findings::{Part, Reported, Severity, When};
use crate::remedy::text::one_line;
use crate::snapshot::Snapshot;

/// Who has not answered by then says nothing here.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);
/// The collector whose rules they are.
const JUDGE: &str = "recommendations";

/// Looks at each target of the start once it was judged for the first time.
pub(super) async fn announce(shown: watch::Receiver<ShownFleet>) {
    let end = Instant::now() + PATIENCE;
    let mut said: BTreeSet<Option<String>> = BTreeSet::new();
    while Instant::now() < end {
        sleep(LOOK).await;
        let now = shown.borrow().clone();
        let mut waiting = false;
        let mut look = |name: Option<&str>, snapshot: &dyn Fn() -> Snapshot| {
            let name = name.map(str::to_owned);
            if said.contains(&name) {
                return;
            }
            let snapshot = snapshot();
            if is_judged(&snapshot) {
                defects(&snapshot).for_each(|found| say(name.as_deref(), found));
                said.insert(name);
            } else {
                waiting = true;
            }
        };
        if let Some(default) = &now.default {
            look(None, &|| Snapshot::clone(&default.borrow()));
        }
        for target in now.seen.iter() {
            look(Some(&target.name), &|| target.view.snapshot());
        }
        if !waiting {
            return;
        }
    }
}

fn is_judged(snapshot: &Snapshot) -> bool {
    snapshot.outcomes.iter().any(|outcome| &*outcome.collector == JUDGE && outcome.runs > 0)
}

fn defects(snapshot: &Snapshot) -> impl Iterator<Item = &Reported> {
    let failed = |collector: &str| {
        let mut all = snapshot.outcomes.iter();
        all.any(|outcome| &*outcome.collector == collector && outcome.error.is_some())
    };
    let said = [("settings.role", true), ("settings.pg_stat_statements", failed("statements"))];
    let all = snapshot.findings.iter().flat_map(|place| place.reported.iter());
    all.filter(move |found| {
        let rule = found.rule;
        rule.part == Part::Settings
            && rule.when == When::Always
            && found.finding.severity > Severity::Info
            && !said.contains(&(rule.id, true))
    })
}

fn say(target: Option<&str>, found: &Reported) {
    let (id, finding) = (found.rule.id, &found.finding);
    tracing::warn!(
        target = target,
        rule = id,
        "{} {}; `pgrunway doctor` prints what fixes it",
        one_line(&finding.evidence),
        found.rule.why.trim_end_matches('.'),
    );
}
