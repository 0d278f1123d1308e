//! Watches the server with the exporter's own collectors, for as long as was asked for and until each of
//! them has run once.
//!
//! Must not: wait for ever, or keep silent about what was not reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cmd::serve;
use crate::collector::{Collector, Scope};
use crate::collectors::activity::Activity;
use crate::collectors::cache::HitRatio;
use crate::collectors::connections::Sessions;
use crate::collectors::published;
use crate::config::Config;
use crate::derive::units::seconds;
use crate::findings::ConnectionPeak;
use crate::pg::Clock;
use crate::poller::{Poller, Target};
use crate::snapshot::{Of, Snapshot};

/// Interval of collectors that are watched over a short time.
const SHORTEST: Duration = Duration::from_secs(1);
/// Samples of active sessions that are worth having, and the interval that is taken for them at the least.
const SAMPLES: u32 = 600;
const DENSEST: Duration = Duration::from_millis(200);
/// How much longer than asked for it may take until every collector has run once.
const LONGER: Duration = Duration::from_secs(60);

/// What was seen.
pub struct WatchedServer {
    /// The collectors' last snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Cache hit ratio by database, over time in Unix seconds.
    pub cache: BTreeMap<String, Vec<(f64, f64)>>,
    /// The most that there were.
    pub peak: ConnectionPeak,
    /// What was not reached in time.
    pub notes: Vec<String>,
}

/// What has to run once.
struct ExpectedRuns {
    collectors: Vec<String>,
    databases: BTreeSet<String>,
}

impl ExpectedRuns {
    fn of(target: &Target, databases: &BTreeSet<String>) -> Self {
        let of = |scope: Scope| target.collectors.iter().filter(move |c| c.scope() == scope);
        let walked = of(Scope::Database).next().is_some();
        Self {
            collectors: of(Scope::Server).map(|c| c.name().to_owned()).collect(),
            databases: if walked { databases.clone() } else { BTreeSet::new() },
        }
    }

    /// What the snapshot does not know of yet: neither that it was read, nor why it could not be.
    fn missing(&self, snapshot: &Snapshot) -> (Vec<&str>, Vec<&str>) {
        if snapshot.of == Of::Pooler {
            return (Vec::new(), Vec::new());
        }
        let ran = |name: &str| {
            snapshot.outcomes.iter().any(|o| *o.collector == *name && o.datname.is_none())
        };
        let visited: BTreeSet<&str> = snapshot.databases.iter().map(|d| &*d.datname).collect();
        let databases = self.databases.iter().map(String::as_str);
        let mut databases: Vec<&str> = databases.filter(|d| !visited.contains(d)).collect();
        // Beyond the most that are walked none is visited, however long it takes.
        if databases.len() <= snapshot.left_out {
            databases.clear();
        }
        (self.collectors.iter().map(String::as_str).filter(|c| !ran(c)).collect(), databases)
    }

    /// Whether there is nothing to wait for.
    fn is_complete(&self, snapshot: &Snapshot) -> bool {
        let away = snapshot.tried && !snapshot.up;
        let (collectors, databases) = self.missing(snapshot);
        away || snapshot.tried && collectors.is_empty() && databases.is_empty()
    }

    fn notes(&self, snapshot: &Snapshot, over: Duration) -> Vec<String> {
        let (collectors, databases) = self.missing(snapshot);
        let when = format!(
            "not reached within {}: watch longer (--over)",
            seconds((over + LONGER).as_secs_f64())
        );
        let mut notes: Vec<String> =
            collectors.iter().map(|name| format!("collector {name}: {when}")).collect();
        let of = |name: &&str| format!("what the collectors read in database {name}: {when}");
        notes.extend(databases.iter().map(of));
        if snapshot.left_out > 0 {
            notes.push(format!(
                "{} databases beyond the limit: list those to visit in \
                 databases.include",
                snapshot.left_out
            ));
        }
        notes
    }
}

/// Runs the collectors, and looks at every snapshot that they give. `databases` are those of which
/// something is expected.
pub async fn watch(
    config: &Config,
    over: Duration,
    clock: Clock,
    databases: &BTreeSet<String>,
) -> WatchedServer {
    let mut target = serve::target(config);
    let mut settings = (*target.settings).clone();
    for name in ["tables", "cache", "connections", "indexes"] {
        // A curve wants points; what the user chose stays.
        if let Some(collector) = settings.collectors.get_mut(name) {
            collector.interval.get_or_insert((over / 20).max(SHORTEST));
        }
    }
    if let Some(activity) = settings.collectors.get_mut(Activity::NAME) {
        activity.interval.get_or_insert((over / SAMPLES).clamp(DENSEST, SHORTEST));
    }
    target.settings = Arc::new(settings);
    let expected = ExpectedRuns::of(&target, databases);
    let poller = Poller::start(target);
    let mut snapshots = poller.snapshots();
    let mut cache: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut peak = ConnectionPeak { peak: 0.0, peak_active: 0.0 };
    let end = Instant::now() + over;
    let mut last = f64::NEG_INFINITY;
    let snapshot = loop {
        let until = if Instant::now() < end { end } else { end + LONGER };
        tokio::select! {
            () = sleep_until(until) => {}
            changed = snapshots.changed() => if changed.is_err() {
                break snapshots.borrow().clone();
            },
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let at = clock.epoch() + clock.seconds();
        let (mut connected, mut active) = (0.0, 0.0);
        for sessions in published::all::<Sessions<'_>>(&snapshot.families) {
            connected += sessions.count;
            active += if sessions.are_active() { sessions.count } else { 0.0 };
        }
        peak.peak = peak.peak.max(connected);
        peak.peak_active = peak.peak_active.max(active);
        if at - last >= 1.0 {
            last = at;
            for HitRatio { datname, ratio, .. } in published::all(&snapshot.families) {
                cache.entry(datname.to_owned()).or_default().push((at, ratio));
            }
        }
        let now = Instant::now();
        if now >= end + LONGER || now >= end && expected.is_complete(&snapshot) {
            break snapshot;
        }
    };
    poller.stop().await;
    let notes = expected.notes(&snapshot, over);
    WatchedServer { snapshot, cache, peak, notes }
}
