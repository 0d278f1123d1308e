//! `pgrunway demo`: a throwaway PostgreSQL with the trade schema, data and a load, and the exporter
//! on it. Everything it makes goes when it ends, however it ends.
//!
//! Must not: touch a server that it did not start.

mod exporter;
mod figures;
mod screen;
pub mod setup;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

pub use exporter::DemoExporter;
pub use screen::Terminal;
pub use setup::Scale;

use super::cluster::{self, Cluster};
use super::fetch;
use super::trading::drive::LoadPace;
pub use super::trading::drive::{Load, QUERIES};
use super::trading::fill::FillCounters;
use super::trading::progress::FillProgress;
use crate::config::{Config, Flags, KnownCollector, Process, default_listen};
use crate::error::ConfigError;
use crate::pg::Admin;
use figures::{QueryIds, ScreenFigures};
use screen::{Report, Screen};

/// Flag that sets [`Options::listen`], for the message about a port that is taken.
const LISTEN_FLAG: &str = "--web.listen-address";
/// The first figures are shown when they are complete, or after this.
const FIRST_FIGURES: Duration = Duration::from_secs(20);
/// Pause between two looks at how far the data is.
const LOOK: Duration = Duration::from_millis(250);
/// How long the exporter may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What the user may choose.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Queries per second, all five together.
    pub rate: f64,
    /// Let the partitions of orders end 22 days ago, so that inserts fail.
    pub expire_orders: bool,
    /// The exporter's configuration, but for the server: the demo fills that in.
    pub config: Config,
    /// Folder of `initdb` and `postgres`; found if not given.
    pub binaries: Option<PathBuf>,
    /// Seed of the data and the load.
    pub seed: u64,
    /// How large it is.
    pub scale: Scale,
}

/// Where the exporter listens unless the user says otherwise: a demo is nobody else's business.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9187);

/// The exporter's configuration from flags, environment and file; the server comes later.
///
/// # Errors
/// A setting is wrong.
pub fn configure(flags: &Flags, known: &[KnownCollector]) -> Result<Config, ConfigError> {
    let nowhere = setup::connect_to(Vec::new(), setup::EXPORTER, setup::DATABASE);
    let config = Config::resolve_for(nowhere, flags, &Process, known)?;
    let chosen = config.listen() != default_listen();
    Ok(if chosen { config } else { config.with_listen(vec![LISTEN]) })
}

/// Runs the demo until SIGINT, SIGTERM or SIGHUP, then removes everything it created.
///
/// # Errors
/// When it could not start, or `out` could not be written to (a closed pipe is a normal end);
/// everything is removed then too.
pub async fn run(options: DemoOptions, terminal: Terminal, out: impl Write) -> anyhow::Result<()> {
    // Before anything is made: a signal from here on is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    run_until(options, terminal, out, exporter::start, stop).await
}

/// As [`run`], with the exporter and the end given.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    options: DemoOptions,
    terminal: Terminal,
    out: impl Write,
    start_exporter: impl AsyncFnOnce(Config) -> anyhow::Result<DemoExporter>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut screen = Screen::new(out, terminal);
    let mut running = Running::default();
    let stopped = tokio::select! {
        ended = demonstrate(&options, &mut screen, &mut running, start_exporter) => match ended {
            // Whoever read the output has seen enough, as with `| head`.
            Err(e) if e.downcast_ref().is_some_and(is_broken_pipe) => Ok(()),
            ended => ended,
        },
        () = stop => Ok(()),
    };
    let folder = running.cluster.as_ref().map(|c| c.socket_dir().display().to_string());
    running.take_down().await;
    // What went wrong first counts; a screen that is gone (SIGHUP, a closed pipe) is no news.
    let _ = screen.line(&match folder {
        Some(folder) => format!("\nstopped; {folder} is removed"),
        None => "\nstopped".to_owned(),
    });
    stopped
}

fn is_broken_pipe(e: &std::io::Error) -> bool {
    e.kind() == std::io::ErrorKind::BrokenPipe
}

/// What has to be taken down. Dropped in this order if it comes to a panic.
#[derive(Default)]
struct Running {
    load: Option<Load>,
    exporter: Option<DemoExporter>,
    cluster: Option<Cluster>,
}

impl Running {
    async fn take_down(mut self) {
        self.load = None;
        if let Some(exporter) = self.exporter.take() {
            let _ = timeout(STOP_LIMIT, exporter.stop).await;
        }
        self.cluster = None;
    }
}

/// Brings everything up and shows figures for ever.
async fn demonstrate<W: Write>(
    options: &DemoOptions,
    screen: &mut Screen<W>,
    running: &mut Running,
    start_exporter: impl AsyncFnOnce(Config) -> anyhow::Result<DemoExporter>,
) -> anyhow::Result<()> {
    ensure!(
        options.rate.is_finite() && (0.1..=10_000.0).contains(&options.rate),
        "--rate={}: must be between 0.1 and 10000 queries per second",
        options.rate
    );
    for address in options.config.listen() {
        can_listen(*address)?;
    }
    for folder in cluster::sweep()? {
        screen.line(&format!("removed {}, left by a demo that was killed", folder.display()))?;
    }

    screen.step("PostgreSQL")?;
    let binaries = match &options.binaries {
        Some(dir) => dir.clone(),
        None => cluster::find_binaries()?,
    };
    screen.done(&binaries.display().to_string())?;

    screen.step("cluster")?;
    let wanted = setup::cluster_options_for(binaries, &options.scale);
    let cluster = running.cluster.insert(Cluster::start(&wanted).await?);
    screen.done(&cluster.socket_dir().display().to_string())?;

    screen.step("schema")?;
    let (admin, made) = setup::schema_for(cluster, options.expire_orders, &options.scale).await?;
    screen.done(&format!("partitions: {} of orders, {} of trades", made.orders, made.trades))?;

    screen.step("data")?;
    let rows = fill(options, cluster, &admin, screen).await?;
    screen.done(&format!("{} orders, {} trades", rows.orders(), rows.trades()))?;

    screen.step("exporter")?;
    let connect = setup::connect(cluster, setup::EXPORTER, setup::DATABASE);
    let config = options.config.clone().with_connect(connect);
    let exporter = running.exporter.insert(start_exporter(config).await?);
    let addr = exporter.addr;
    screen.done(&format!("listens on {addr}"))?;

    let app = setup::connect(cluster, setup::APP, setup::DATABASE);
    let (rate, seed, clients) = (options.rate, options.seed, options.scale.clients);
    let pace = LoadPace { rate, clients, seed, length: None };
    let load = running.load.insert(Load::with(&app, pace));
    screen.line(&format!(
        "\nconsole     http://{at}/\nmetrics     http://{at}/metrics\npsql        {}\nCtrl-C ends the demo and \
         removes everything it created.",
        psql(cluster),
        at = fetch::reachable(addr)[0],
    ))?;
    watch(options, screen, addr, Admins::new(cluster, admin), load).await
}

/// Fills the tables, telling how far it is.
async fn fill<W: Write>(
    options: &DemoOptions,
    cluster: &Cluster,
    admin: &Admin,
    screen: &mut Screen<W>,
) -> anyhow::Result<Arc<FillCounters>> {
    let connect = setup::connect(cluster, "postgres", setup::DATABASE);
    let spans = setup::spans(admin, &options.scale).await?;
    let counters = Arc::new(FillCounters::default());
    let began = Instant::now();
    let mut progress = FillProgress::new(spans.iter().map(|s| s.rows).sum());
    let scale = &options.scale;
    let data = setup::data_for(&connect, scale, options.seed, &spans, counters.clone());
    let mut data = pin!(data);
    loop {
        match timeout(LOOK, &mut data).await {
            Ok(done) => return done.map(|()| counters),
            Err(_) => {
                screen.progress(|bar| progress.line(began.elapsed(), counters.sent(), bar))?
            }
        }
    }
}

/// Fails early, and with the flag's name, when the port is taken.
fn can_listen(addr: SocketAddr) -> anyhow::Result<()> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(e) => Err(e).with_context(|| {
            let other = SocketAddr::new(addr.ip(), addr.port().checked_add(1).unwrap_or(9187));
            format!(
                "{LISTEN_FLAG}={addr}: cannot listen there; stop what listens there, or choose another \
                 port, such as {LISTEN_FLAG}={other}"
            )
        }),
    }
}

/// A command for a shell. The socket's folder admits the cluster's owner and root, as which the
/// demo runs.
fn psql(cluster: &Cluster) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("psql").is_file());
    let own = cluster.binaries().join("psql");
    let program =
        if found || !own.is_file() { "psql".to_owned() } else { own.display().to_string() };
    format!("{program} '{}'", cluster.uri("postgres", setup::DATABASE))
}

/// The superuser's connection, made anew when it breaks.
struct Admins {
    connect: crate::config::Connect,
    admin: Option<Admin>,
}

impl Admins {
    fn new(cluster: &Cluster, admin: Admin) -> Self {
        let connect = setup::connect(cluster, "postgres", setup::DATABASE);
        Self { connect, admin: Some(admin) }
    }

    async fn find_query_ids(&mut self, ids: &mut QueryIds) -> anyhow::Result<()> {
        if self.admin.as_ref().is_none_or(Admin::is_broken) {
            self.admin = Some(Admin::connect(&self.connect, &setup::TIMEOUTS).await?);
        }
        match &self.admin {
            Some(admin) => figures::find_query_ids(admin, ids).await,
            None => Ok(()),
        }
    }
}

async fn watch<W: Write>(
    options: &DemoOptions,
    screen: &mut Screen<W>,
    addr: SocketAddr,
    mut admins: Admins,
    load: &Load,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut ids = QueryIds::default();
    let mut shown: Option<(Instant, u64)> = None;
    loop {
        sleep(if shown.is_some() { screen.refresh() } else { Duration::from_secs(1) }).await;
        // Without the ids there are no latencies to show; the rest still is.
        let _ = admins.find_query_ids(&mut ids).await;
        let read: anyhow::Result<ScreenFigures> = figures::read(addr, &ids).await;
        let complete = read.as_ref().is_ok_and(ScreenFigures::complete);
        if shown.is_none() && !complete && began.elapsed() < FIRST_FIGURES {
            continue;
        }
        let (now, queries) = (Instant::now(), load.tally().queries());
        let (since, before) = shown.unwrap_or((began, 0));
        let reached = queries.saturating_sub(before) as f64 / (now - since).as_secs_f64().max(1e-3);
        shown = Some((now, queries));
        screen.figures(&Report {
            figures: read.as_ref().map_err(|e| format!("{e:#}")),
            tally: load.tally(),
            rate: options.rate,
            reached,
            running: now - began,
        })?;
    }
}
