//! `pgrunway serve`: polls the servers and answers scrapes until it is told to stop.
//!
//! Must not: exit because a database is away, or a configuration that is loaded again has a fault.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use crate::collector::{AnyCollector, Handle};
use crate::collectors;
use crate::collectors::custom::CustomCollector;
use crate::config::{Compatibility, Config, ConsoleAccess, Flags, Settings, TargetConfig, queries};
use crate::console::Console;
use crate::http::{self, App, PortFeatures, Probing, Reload, Reloading, SlotLimits};
use crate::poller::Target;
use crate::render::{Publisher, Renderer};
use crate::snapshot::{Of, Snapshot, query_file_families, reload_families, target_families};
use fleet::{Fleet, ShownFleet};
use probe::Prober;
use reload::Reloader;

mod defects;
mod fleet;
mod hours;
mod probe;
mod reload;

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
    scheme: &'static str,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Option<oneshot::Sender<()>>,
    http: JoinHandle<()>,
    render: JoinHandle<()>,
    fleet: Arc<Mutex<Fleet>>,
    reloader: Option<Reloader>,
    prober: Prober,
    sweeper: AbortHandle,
    defects: JoinHandle<()>,
    hours: Option<JoinHandle<()>>,
}

/// The server and the collectors that a configuration names, without queries of the user's own.
pub fn target(config: &Config) -> Target {
    Target {
        connect: config.connect().clone(),
        databases: config.databases().clone(),
        settings: config.settings().clone(),
        collectors: enabled(config.settings()),
    }
}

/// The same with them.
pub fn whole_target(config: &Config) -> Target {
    with_queries(target(config), Vec::new())
}

/// One of those that the file lists, with the queries that are for it.
pub fn listed(config: &TargetConfig) -> Target {
    let target = Target {
        connect: config.connect.clone(),
        databases: config.databases.clone(),
        settings: config.settings.clone(),
        collectors: enabled(&config.settings),
    };
    with_queries(target, vec![config.name.clone()])
}

/// With the queries of the user's own that are for a target of these names, and of where it is.
fn with_queries(mut target: Target, mut names: Vec<String>) -> Target {
    names.extend(target.connect.endpoints.iter().map(ToString::to_string));
    let queries = queries::for_target(&target.settings.custom, &names);
    let made = queries.into_iter().map(|query| Handle::Made(Arc::new(CustomCollector::new(query))));
    target.collectors.extend(made);
    target
}

fn enabled(settings: &Settings) -> Vec<Handle> {
    let exposed = &settings.exposed;
    let wanted = |c: &&'static dyn AnyCollector| {
        let on = settings.collectors.get(c.name()).map_or(c.default_on(), |own| own.enabled);
        let mut names = c.metrics().iter().map(|metric| metric.name);
        let compatible = settings.compatibility == Compatibility::PostgresExporter;
        (compatible || !c.compatible_only())
            && (on || names.clone().any(|name| exposed.shows(name)))
            && !names.all(|name| exposed.hides(name))
    };
    collectors::ALL.iter().copied().filter(wanted).map(Handle::from).collect()
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
    // A reload may add some.
    let targets = config.targets().len()
        + usize::from(config.has_default_target())
        + config.probe().settings.limit
        + 16;
    u64::try_from(targets).unwrap_or(u64::MAX).saturating_mul(4).saturating_add(64)
}

impl Exporter {
    /// Binds the addresses and starts polling.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        Self::start_with(config, None).await
    }

    /// The same; with flags, the configuration can be loaded again.
    ///
    /// # Errors
    /// As [`Exporter::start`].
    pub async fn start_with(config: &Config, flags: Option<Flags>) -> anyhow::Result<Self> {
        let web = Arc::new(PortFeatures::load(config.web_config())?);
        let mut listeners = Vec::new();
        if config.systemd_socket() {
            listeners = handed_over()?;
        } else {
            for address in config.listen() {
                listeners.push(bind(*address).await?);
            }
        }
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        if web.is_open() && addresses.iter().any(|address| address.ip().is_unspecified()) {
            tracing::info!(
                "anyone who can reach this port can read the metrics, in plain text: it listens on all \
                 addresses without TLS or passwords; see --web.config.file and --web.listen-address"
            );
        }
        let scheme = web.scheme();

        let renderer = Renderer::new()?;
        let counters = renderer.http_counters();
        let fleet = Fleet::start(config);
        let shown = fleet.shown();
        let (first, page) = of_process(&shown.borrow());
        let (publisher, pages) = Publisher::new(renderer, page);
        let on_demand = publisher.on_demand();
        let (latest, snapshots) = watch::channel(first);
        let render = tokio::spawn(publish_each(publisher, shown.clone(), latest));
        let defects = tokio::spawn(defects::announce(shown.clone()));
        let fleet = Arc::new(Mutex::new(fleet));
        let (in_force, current) = watch::channel(Arc::new(config.clone()));
        let settings = current.clone();
        let (prober, sweeper) = Prober::start(current);
        let console = Console {
            access: config.console(),
            hours: Arc::default(),
            settings: Arc::new(move || settings.borrow().shown().clone()),
            telemetry: config.telemetry_path().into(),
        };
        let hours = match console.access {
            ConsoleAccess::Off => None,
            _ => Some(tokio::spawn(hours::follow(console.hours.clone(), shown.clone()))),
        };
        let probing = prober.clone();
        let reloader = flags.map(|flags| Reloader::new(flags, in_force, fleet.clone()));

        let app = App {
            pages,
            snapshots: snapshots.clone(),
            targets: Arc::new(move || shown.borrow().pages.clone()),
            on_demand,
            counters,
            telemetry_path: config.telemetry_path().into(),
            console,
            reload: reloader.clone().filter(|_| config.enable_lifecycle()).map(|reloader| {
                let reload = move || {
                    let reloader = reloader.clone();
                    // Whoever asked may go away; what was begun is ended.
                    let task = tokio::spawn(async move { reloader.reload().await });
                    let result = async move { task.await.unwrap_or_else(|e| Err(e.to_string())) };
                    Box::pin(result) as Reloading
                };
                Arc::new(reload) as Reload
            }),
            web,
            probe: Arc::new(move |asked| {
                let prober = probing.clone();
                Box::pin(async move { prober.probe(asked).await }) as Probing
            }),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let limits = SlotLimits::within(most_files(), others(config));
        let http = tokio::spawn(http::serve(listeners, app, limits, stopped));
        Ok(Self {
            addresses,
            scheme,
            snapshots,
            stop: Some(stop),
            http,
            render,
            fleet,
            reloader,
            prober,
            sweeper,
            defects,
            hours,
        })
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
        let fleet = self.fleet.clone();
        let mut fleet = fleet.lock().await;
        // At once, since each may take seconds; what is still asked for has its answer in memory.
        let prober = self.prober.clone();
        let _ = tokio::join!(&mut self.http, fleet.stop(), prober.stop());
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.http.abort();
        self.render.abort();
        self.sweeper.abort();
        self.defects.abort();
        if let Some(hours) = &self.hours {
            hours.abort();
        }
    }
}

/// The sockets that systemd opened and hands over.
fn handed_over() -> anyhow::Result<Vec<TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..given.len() {
        let listener = given.take_tcp_listener(index).with_context(|| {
            format!(
                "socket {} of systemd's is no listening TCP socket; see ListenStream=",
                index + 1
            )
        })?;
        let Some(listener) = listener else { continue };
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    ensure!(
        !listeners.is_empty(),
        "systemd hands no socket over, and --web.systemd-socket is given; start pgrunway by its .socket unit"
    );
    Ok(listeners)
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

/// The server without a name, and the page of this process, which tells which of the other targets are up and
/// bears the series of those that come from a list.
fn of_process(shown: &ShownFleet) -> (Arc<Snapshot>, Arc<Snapshot>) {
    let alone = || Arc::new(Snapshot { of: Of::Exporter, tried: true, ..Snapshot::default() });
    let snapshot = shown.default.as_ref().map_or_else(alone, |default| default.borrow().clone());
    let mut page = Snapshot::clone(&snapshot);
    page.families.extend(reload_families(&shown.reloaded).into_iter().map(Arc::new));
    let queries = shown.query_file.iter().flat_map(query_file_families);
    page.families.extend(queries.map(Arc::new));
    if !shown.seen.is_empty() {
        let states = shown.seen.iter().map(|seen| (seen.name.as_str(), seen.view.up()));
        page.families.extend(target_families(states).into_iter().map(Arc::new));
        let grouped = shown.seen.iter().filter(|seen| seen.grouped);
        page.parts = grouped.map(|seen| seen.view.snapshot()).collect();
    }
    (snapshot, Arc::new(page))
}

/// Publishes every snapshot, off the threads that answer scrapes.
async fn publish_each(
    publisher: Publisher,
    mut shown: watch::Receiver<ShownFleet>,
    latest: watch::Sender<Arc<Snapshot>>,
) {
    loop {
        let now = shown.borrow_and_update().clone();
        let renewed =
            if now.seen.iter().any(|seen| seen.grouped) { RENEWED_GROUP } else { RENEWED };
        let mut default = now.default.clone();
        if let Some(default) = &mut default {
            default.borrow_and_update();
        }
        let (snapshot, page) = of_process(&now);
        latest.send_replace(snapshot);
        publisher.publish(page).await;
        let polled = async {
            match &mut default {
                // A poller that is replaced publishes no more; what replaces it is shown then.
                Some(default) => match default.changed().await {
                    Ok(()) => {}
                    Err(_) => std::future::pending().await,
                },
                None => sleep(renewed).await,
            }
        };
        tokio::select! {
            () = polled => {}
            changed = shown.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves until `shutdown` resolves. At SIGHUP the configuration is loaded again.
///
/// # Errors
/// As [`Exporter::start`].
pub async fn run(
    config: &Config,
    flags: Flags,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let exporter = Exporter::start_with(config, Some(flags)).await?;
    for address in exporter.addresses() {
        let default = config.has_default_target().then(|| config.connect().describe());
        tracing::info!(
            target = default,
            targets = config.targets().len(),
            "listening on {}://{address}{}",
            exporter.scheme,
            config.telemetry_path()
        );
    }
    let reload = async {
        while hangup.recv().await.is_some() {
            if let Some(reloader) = &exporter.reloader {
                // What is wrong is in the log.
                let _ = reloader.reload().await;
            }
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = reload => {}
    }
    tracing::info!("stopping");
    exporter.stop().await;
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at SIGTERM, SIGINT or SIGHUP (the terminal went away).
///
/// # Errors
/// The handlers cannot be installed.
pub fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let stop = stop_signal()?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            () = stop => {}
            _ = hangup.recv() => {}
        }
    })
}
