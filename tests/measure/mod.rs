//! The accuracy measurement: a real server under a mixed load, the real exporter, a real Prometheus,
//! and the truth from `auto_explain`. `benches/accuracy.rs` runs the long form and `tests/accuracy.rs`
//! the short one.
//!
//! Must not: give an estimate a chance that a user does not have; it sees what Prometheus stored.

pub mod bars;
pub mod load;
pub mod recipes;
pub mod record;
pub mod report;
pub mod truth;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bars::Bars;
use load::{Load, Phase};
use pgrunway::cmd::cluster::Cluster;
use pgrunway::cmd::demo::setup;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use recipes::{Native, View};
use record::Recorder;
use report::Report;
use tokio::time::sleep;
use truth::{Key, Truth};

use crate::common;
use crate::common::process::Process;
use crate::common::prometheus::Prometheus;

/// Seconds between two scrapes.
pub const SCRAPE: u32 = 5;
/// Seconds in a window.
pub const WINDOW: f64 = 60.0;
/// Minutes in which the view is made to forget, every other one: after each there is a minute of which nothing is
/// certain, and one of which something is.
const CHAOS: u32 = 8;

/// Which phases to go through, in minutes, after a warm-up that no figure counts.
pub struct Plan {
    pub warm_up: Duration,
    pub phases: Vec<(Phase, u32)>,
}

impl Plan {
    /// The form that CI runs: three windows.
    pub fn short() -> Self {
        Self {
            warm_up: Duration::from_secs(20),
            phases: vec![(Phase::Steady, 1), (Phase::Locks, 1), (Phase::Bursts, 1)],
        }
    }

    /// `minutes` of measured windows, at least ten.
    #[allow(dead_code, reason = "the short form does without")]
    pub fn long(minutes: u32) -> Self {
        let part = |share: u32| (minutes * share / 20).max(1);
        let chaos = if minutes >= 20 { CHAOS } else { 0 };
        let disturbed =
            [(Phase::Locks, part(4)), (Phase::Eviction, part(3)), (Phase::Bursts, part(3))];
        let rest: u32 = disturbed.iter().map(|(_, minutes)| minutes).sum();
        let steady = (Phase::Steady, minutes.saturating_sub(rest + chaos).max(1));
        let phases = [steady].into_iter().chain(disturbed).chain([(Phase::Chaos, chaos)]).collect();
        Self { warm_up: Duration::from_secs(60), phases }
    }

    fn minutes(&self) -> u32 {
        self.phases.iter().map(|(_, minutes)| minutes).sum()
    }

    /// The minute in which a phase begins.
    fn first(&self, phase: Phase) -> u32 {
        self.phases.iter().take_while(|(one, _)| *one != phase).map(|(_, minutes)| minutes).sum()
    }

    /// The phase of a minute.
    fn phase(&self, minute: u32) -> Phase {
        let mut left = minute;
        for (phase, minutes) in &self.phases {
            if left < *minutes {
                return *phase;
            }
            left -= minutes;
        }
        Phase::Idle
    }
}

/// One minute between two scrapes.
pub struct Window {
    pub phase: Phase,
    /// Unix seconds of the scrape that ends it.
    pub scraped: f64,
    /// Unix seconds of the polls that the scrapes at its ends show: the calls between these are what
    /// the figures are about.
    pub polled: (f64, f64),
    /// Seconds between two polls, as exported.
    pub interval: f64,
    /// Lifetime mean and standard deviation by the view at the end, for the naive recipe.
    pub view: View,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

async fn sleep_until_unix(at: f64) {
    sleep(Duration::from_secs_f64((at - now()).max(0.0))).await;
}

/// Runs the plan and compares the estimates and their error bars. What the view and the log say is written to a folder
/// if one is given.
pub async fn run(plan: &Plan, record: Option<&Path>) -> (Report, Bars) {
    let mut cluster = Cluster::start(&load::cluster_options()).await.expect("a real PostgreSQL");
    let (admin, _) = setup::schema(&cluster, false).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    load::prepare(&cluster).await;
    let truth = Truth::follow(&cluster, record.map(|dir| dir.join("calls")).as_deref());
    let recorder = record.map(|dir| Recorder::start(&cluster, &dir.join("scans")));

    let dsn = cluster.uri(setup::EXPORTER, setup::DATABASE);
    let exporter = Process::serve(&dsn, &["--collector.statements.error-bars=certain"]).await;
    let prometheus = Prometheus::start_with(&[exporter.address], &[], SCRAPE, &[]).await;
    let native = Native::start(exporter.address).await;
    let load = Load::start(&cluster).await;

    let first = prometheus.wait("timestamp(up == 1)").await[0].1;
    // From one scrape to another, so that a window holds whole scrapes and one phase.
    let step = f64::from(SCRAPE);
    let start = first + ((now() + plan.warm_up.as_secs_f64() - first) / step).ceil() * step;
    sleep_until_unix(start).await;
    let (mut windows, mut checked, mut rng) = (Vec::new(), None, StdRng::seed_from_u64(1));
    for minute in 0..plan.minutes() {
        let phase = plan.phase(minute);
        let scraped = start + f64::from(minute + 1) * WINDOW;
        if phase == Phase::Chaos {
            if checked.is_none() {
                checked = Some(check(&cluster, &load).await);
            }
            load.enter(phase);
            chaos(&mut cluster, minute - plan.first(phase), &mut rng).await;
            sleep_until_unix(scraped).await;
            continue;
        }
        load.enter(phase);
        sleep_until_unix(scraped).await;
        let client = common::admin(&cluster, setup::DATABASE).await;
        let view = recipes::view(&client).await;
        windows.push(Window { phase, scraped, polled: (0.0, 0.0), interval: 0.0, view });
    }
    // The last scrape is in.
    sleep(Duration::from_secs(2)).await;
    let checked = match checked {
        Some(checked) => checked,
        None => check(&cluster, &load).await,
    };
    load.stop().await;
    // So is the last of the log.
    sleep(Duration::from_secs(1)).await;
    if let Some(recorder) = recorder {
        recorder.finish().await;
    }
    for window in &mut windows {
        recipes::locate(&prometheus, window).await;
    }
    let estimates = recipes::estimates(&prometheus, native.as_ref(), &windows).await;
    let truth = truth.finish().await;
    let bars = bars::bars(&prometheus, plan, start, &truth).await;
    let view = (&checked.0, checked.1);
    (Report::new(&windows, &truth, &estimates, view), bars)
}

/// Lets all be silent for a moment: what the view has then, and when that was.
async fn check(cluster: &Cluster, load: &Load) -> (BTreeMap<Key, (u64, f64)>, f64) {
    load.enter(Phase::Quiet);
    let client = common::admin(cluster, setup::DATABASE).await;
    let mut before = load::totals(&client).await;
    loop {
        sleep(Duration::from_millis(700)).await;
        let now_totals = load::totals(&client).await;
        if now_totals == before {
            return (before, now());
        }
        before = now_totals;
    }
}

/// Does what makes the view forget, one thing every other minute.
async fn chaos(cluster: &mut Cluster, minute: u32, rng: &mut StdRng) {
    sleep(Duration::from_secs_f64(rng.random_range(5.0..6.0))).await;
    let client = common::admin(cluster, setup::DATABASE).await;
    match minute {
        0 => load::evict(&client).await,
        2 => load::reset(&client).await,
        4 => {
            drop(client);
            cluster.restart().await.unwrap();
        }
        6 => load::reset_one(&client).await,
        _ => {}
    }
}
