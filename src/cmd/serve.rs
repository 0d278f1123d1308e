//! `pgrunway serve`: polls the server and answers scrapes until it is told to stop.
//!
//! Must not: exit because the database is away.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::{OptionFuture, join_all};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::collector::AnyCollector;
use crate::collectors;
use crate::config::{Config, Settings, TargetConfig};
use crate::http::{self, App, Limits, Listed};
use crate::poller::{Named, NamedPoller, Poller, Target, View};
use crate::render::{Publisher, Renderer};
use crate::snapshot::{Of, Snapshot, target_families};

/// Pause between the first tries of two listed targets, and the most that all of them may take.
const SPACING: Duration = Duration::from_millis(20);
const SPREAD: Duration = Duration::from_secs(15);
/// Without a server of its own the page of this process is renewed so often; where those of a list are on it,
/// so often.
const RENEWED: Duration = Duration::from_secs(5);
const RENEWED_GROUP: Duration = Duration::from_secs(1);

/// The limit of open files where it cannot be read, and the one that is enough for all that we do.
const FEW_FILES: u64 = 256;
const ENOUGH_FILES: u64 = 16_384;

/// A running exporter. Dropping it stops it at once; [`Exporter::stop`] drains first.
pub struct Exporter {
    addresses: Vec<SocketAddr>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Option<oneshot::Sender<()>>,
    http: JoinHandle<()>,
    render: JoinHandle<()>,
    poller: Option<Poller>,
    listed: Vec<NamedPoller>,
}

/// The server and the collectors that a configuration names.
pub fn target(config: &Config) -> Target {
    Target {
        connect: config.connect().clone(),
        databases: config.databases().clone(),
        settings: config.settings().clone(),
        collectors: enabled(config.settings()),
    }
}

fn listed(config: &TargetConfig) -> Target {
    Target {
        connect: config.connect.clone(),
        databases: config.databases.clone(),
        settings: config.settings.clone(),
        collectors: enabled(&config.settings),
    }
}

fn enabled(settings: &Settings) -> Vec<&'static dyn AnyCollector> {
    let exposed = &settings.exposed;
    let wanted = |c: &&dyn AnyCollector| {
        let on = settings.collectors.get(c.name()).map_or(c.default_on(), |own| own.enabled);
        let mut names = c.metrics().iter().map(|metric| metric.name);
        (on || names.clone().any(|name| exposed.shows(name)))
            && !names.all(|name| exposed.hides(name))
    };
    collectors::ALL.iter().copied().filter(wanted).collect()
}

/// Starts each listed target a little later than the one before.
fn start_listed(targets: &[TargetConfig]) -> Vec<(String, bool, NamedPoller)> {
    let count = u32::try_from(targets.len().max(1)).unwrap_or(u32::MAX);
    let spacing = SPACING.min(SPREAD / count);
    let mut delay = Duration::ZERO;
    let start = |config: &TargetConfig| {
        let (name, grouped) = (&config.name, config.grouped);
        let named = Named { name, grouped, expected: config.expected, delay };
        delay += spacing;
        (config.name.clone(), grouped, NamedPoller::start(listed(config), &named))
    };
    targets.iter().map(start).collect()
}

/// The views of the listed targets, by name, and whether their series stand on the page of this process.
type Views = Vec<(String, bool, View)>;

fn by_name(views: &Views) -> BTreeMap<String, Listed> {
    let listed = |(name, _, view): &(String, bool, View)| {
        let (for_page, for_state) = (view.clone(), view.clone());
        let listed = Listed {
            snapshot: Arc::new(move || for_page.snapshot()),
            up: Arc::new(move || for_state.up()),
        };
        (name.clone(), listed)
    };
    views.iter().map(listed).collect()
}

/// Files that this process may open: as many as the system lets it raise the limit to, since the usual 1024
/// are few for a thousand targets.
fn most_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return FEW_FILES };
    let wanted = hard.min(ENOUGH_FILES);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        return wanted;
    }
    soft
}

/// Files that are opened for other things than HTTP: sessions, what a look-up of names and a login read, and
/// those of the process itself.
fn others(config: &Config) -> u64 {
    let targets = config.targets().len() + usize::from(config.has_default_target());
    u64::try_from(targets).unwrap_or(u64::MAX).saturating_mul(4).saturating_add(64)
}

impl Exporter {
    /// Binds the addresses and starts polling.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for address in config.listen() {
            listeners.push(bind(*address).await?);
        }
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;

        let renderer = Renderer::new()?;
        let counters = renderer.http_counters();
        let poller = config.has_default_target().then(|| Poller::start(target(config)));
        let alone = Snapshot { of: Of::Exporter, tried: true, ..Snapshot::default() };
        let snapshots = match &poller {
            Some(poller) => poller.snapshots(),
            // Its sender is gone, so it stays as it is.
            None => watch::channel(Arc::new(alone)).1,
        };
        let listed = start_listed(config.targets());
        let views: Views =
            listed.iter().map(|(n, group, p)| (n.clone(), *group, p.view())).collect();
        let targets = Arc::new(by_name(&views));
        let first = with_targets(&snapshots.borrow(), &views);
        let (publisher, pages) = Publisher::new(renderer, first);
        let on_demand = publisher.on_demand();
        let render = tokio::spawn(publish_each(publisher, snapshots.clone(), views));

        let app = App {
            pages,
            snapshots: snapshots.clone(),
            targets,
            on_demand,
            counters,
            telemetry_path: config.telemetry_path().into(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let limits = Limits::within(most_files(), others(config));
        let http = tokio::spawn(http::serve(listeners, app, limits, stopped));
        let listed = listed.into_iter().map(|(_, _, poller)| poller).collect();
        Ok(Self { addresses, snapshots, stop: Some(stop), http, render, poller, listed })
    }

    /// Where it listens, with the port that was chosen for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The latest snapshot of the default target, and a notice of each new one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Stops accepting, lets open requests end, and closes the sessions.
    pub async fn stop(mut self) {
        self.stop = None;
        let default = self.poller.take().map(Poller::stop);
        let listed = self.listed.drain(..).map(NamedPoller::stop);
        // At once, since each may take seconds; what is still asked for has its answer in memory.
        let _ = tokio::join!(&mut self.http, OptionFuture::from(default), join_all(listed));
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.http.abort();
        self.render.abort();
    }
}

/// Binds an address. A machine without IPv6 has no `[::]`; `0.0.0.0` is what was meant then.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(e) if e.kind() != ErrorKind::AddrInUse && address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.with_context(|| {
        format!(
            "cannot listen on {address}; is another exporter running? Choose another address with \
             --web.listen-address"
        )
    })
}

/// The page of this process tells which of the listed targets are up.
fn with_targets(snapshot: &Arc<Snapshot>, views: &Views) -> Arc<Snapshot> {
    if views.is_empty() {
        return snapshot.clone();
    }
    let states = views.iter().map(|(name, _, view)| (name.as_str(), view.up()));
    let mut with = Snapshot::clone(snapshot);
    with.families.extend(target_families(states).into_iter().map(Arc::new));
    let grouped = views.iter().filter(|(_, grouped, _)| *grouped);
    with.parts = grouped.map(|(_, _, view)| view.snapshot()).collect();
    Arc::new(with)
}

/// Publishes every snapshot, off the threads that answer scrapes.
async fn publish_each(
    publisher: Publisher,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    views: Views,
) {
    let grouped = views.iter().any(|(_, grouped, _)| *grouped);
    let renewed = if grouped { RENEWED_GROUP } else { RENEWED };
    loop {
        if snapshots.changed().await.is_err() {
            sleep(renewed).await;
        }
        let snapshot = snapshots.borrow_and_update().clone();
        publisher.publish(with_targets(&snapshot, &views)).await;
    }
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// As [`Exporter::start`].
pub async fn run(config: &Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let exporter = Exporter::start(config).await?;
    for address in exporter.addresses() {
        let default = config.has_default_target().then(|| config.connect().describe());
        tracing::info!(
            target = default,
            targets = config.targets().len(),
            "listening on http://{address}{}",
            config.telemetry_path()
        );
    }
    shutdown.await;
    tracing::info!("stopping");
    exporter.stop().await;
    Ok(())
}

/// Resolves at SIGTERM, SIGINT or SIGHUP (the terminal went away).
///
/// # Errors
/// The handlers cannot be installed.
pub fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
