//! `pgrunway serve`: polls the server and answers scrapes until it is told to stop.
//!
//! Must not: exit because the database is away.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::collectors;
use crate::config::Config;
use crate::http::{self, App};
use crate::poller::{Poller, Target};
use crate::render::{Publisher, Renderer};
use crate::snapshot::Snapshot;

/// A running exporter. Dropping it stops it at once; [`Exporter::stop`] drains first.
pub struct Exporter {
    addresses: Vec<SocketAddr>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Option<oneshot::Sender<()>>,
    http: JoinHandle<()>,
    render: JoinHandle<()>,
    _poller: Poller,
}

/// The server and the collectors that a configuration names.
pub fn target(config: &Config) -> Target {
    let settings = config.settings().clone();
    let enabled =
        |name: &str, default| settings.collectors.get(name).map_or(default, |c| c.enabled);
    let collectors =
        collectors::ALL.iter().copied().filter(|c| enabled(c.name(), c.default_on())).collect();
    Target {
        connect: config.connect().clone(),
        databases: config.databases().clone(),
        settings,
        collectors,
    }
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
        let poller = Poller::start(target(config));
        let snapshots = poller.snapshots();
        let (publisher, pages) = Publisher::new(renderer, snapshots.borrow().clone());
        let render = tokio::spawn(publish_each(publisher, snapshots.clone()));

        let app = App {
            pages,
            snapshots: snapshots.clone(),
            counters,
            telemetry_path: config.telemetry_path().into(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let router = http::router(app);
        let http = tokio::spawn(http::serve(listeners, router, async {
            let _ = stopped.await;
        }));
        Ok(Self { addresses, snapshots, stop: Some(stop), http, render, _poller: poller })
    }

    /// Where it listens, with the port that was chosen for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The latest snapshot, and a notice of each new one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Stops accepting, lets open requests end, and closes the sessions.
    pub async fn stop(mut self) {
        self.stop = None;
        let _ = (&mut self.http).await;
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

/// Publishes every snapshot, off the threads that answer scrapes.
async fn publish_each(publisher: Publisher, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        publisher.publish(snapshot).await;
    }
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// As [`Exporter::start`].
pub async fn run(config: &Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let exporter = Exporter::start(config).await?;
    for address in exporter.addresses() {
        tracing::info!(
            target = config.connect().describe(),
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
