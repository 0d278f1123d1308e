//! The accuracy measurement: a real server under a mixed load, the real exporter, a real Prometheus,
//! and the truth from `auto_explain`. `benches/accuracy.rs` runs the long form and `tests/accuracy.rs`
//! the short one.
//!
//! Must not: give an estimate a chance that a user does not have; it sees what Prometheus stored.

pub mod bars;
pub mod load;
pub mod recipes;
pub mod report;
pub mod truth;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bars::Bars;
use load::{Load, Phase};
use pgrunway::cmd::cluster::Cluster;
use pgrunway::cmd::demo::setup;
use recipes::{Native, View};
use report::Report;
use tokio::time::sleep;
use truth::Truth;

use crate::common;
use crate::common::http::value;
use crate::common::process::Process;
use crate::common::prometheus::Prometheus;

/// Seconds between two scrapes.
pub const SCRAPE: u32 = 5;
/// Seconds in a window.
pub const WINDOW: f64 = 60.0;

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

    /// `minutes` of measured windows, at least five.
    #[allow(dead_code, reason = "the short form does without")]
    pub fn long(minutes: u32) -> Self {
        let part = |share: u32| (minutes * share / 20).max(1);
        let disturbed = [
            (Phase::Locks, part(5)),
            (Phase::Eviction, part(4)),
            (Phase::Bursts, part(4)),
            (Phase::Idle, part(2)),
        ];
        let rest = minutes.saturating_sub(disturbed.iter().map(|(_, minutes)| minutes).sum());
        let phases = [(Phase::Steady, rest.max(1))].into_iter().chain(disturbed).collect();
        Self { warm_up: Duration::from_secs(60), phases }
    }

    fn minutes(&self) -> u32 {
        self.phases.iter().map(|(_, minutes)| minutes).sum()
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

/// Runs the plan and compares the estimates and their error bars. Gives the truth too.
pub async fn run(plan: &Plan) -> (Report, Bars, Truth) {
    let cluster = Cluster::start(&load::cluster_options()).await.expect("a real PostgreSQL");
    let (admin, _) = setup::schema(&cluster, false).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    load::prepare(&cluster).await;
    let truth = Truth::follow(&cluster);

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
    let client = common::admin(&cluster, setup::DATABASE).await;
    let mut windows = Vec::new();
    for minute in 0..plan.minutes() {
        let phase = plan.phase(minute);
        load.enter(phase);
        let scraped = start + f64::from(minute + 1) * WINDOW;
        sleep_until_unix(scraped).await;
        let view = recipes::view(&client).await;
        windows.push(Window { phase, scraped, polled: (0.0, 0.0), interval: 0.0, view });
    }
    load.enter(Phase::Idle);
    // The last scrape is in, and so is the last second of the log.
    sleep(Duration::from_secs(3)).await;
    load.stop().await;
    let stopped = now();
    let polled = |text: &str| {
        let collector = [("collector", "statements")];
        value(text, "pgrunway_collector_last_success_timestamp_seconds", &collector) > Some(stopped)
    };
    exporter.wait("a poll after the last call", polled).await;
    let exported = exporter.metrics().await;
    let checked = load::totals(&client).await;
    for window in &mut windows {
        recipes::locate(&prometheus, window).await;
    }
    let estimates = recipes::estimates(&prometheus, native.as_ref(), &windows).await;
    let truth = truth.finish().await;
    let bars = bars::bars(&prometheus, plan, start, &truth, &checked, &exported).await;
    (Report::new(&windows, &truth, &estimates, &checked), bars, truth)
}
