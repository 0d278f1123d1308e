//! Reads the configuration again, on SIGHUP and on `POST /-/reload`, and has the pollers follow it.
//!
//! Must not: change anything where the new configuration has a fault.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::fleet::Fleet;
use crate::cmd;
use crate::config::{Config, Flags, Process};
use crate::error::ConfigError;
use crate::snapshot::Reloaded;

/// How long the files may take to be read: one may lie on a disk that hangs, or be a pipe that nobody writes to.
const READING: Duration = Duration::from_secs(5);
/// Readings that hang: each holds a thread for as long as it does.
const HANGING: usize = 4;

type ReadConfig = JoinHandle<Result<Config, ConfigError>>;

/// What it takes.
#[derive(Clone)]
pub(super) struct Reloader {
    flags: Arc<Flags>,
    fleet: Arc<Mutex<Fleet>>,
    /// Locked while another configuration is read.
    current: Arc<Mutex<InForce>>,
}

struct InForce {
    config: watch::Sender<Arc<Config>>,
    /// What was given up.
    hanging: Vec<ReadConfig>,
}

impl InForce {
    /// Reads all of it again, within [`READING`].
    async fn read(&mut self, flags: Arc<Flags>) -> Result<Config, String> {
        self.hanging.retain(|reading| !reading.is_finished());
        if self.hanging.len() >= HANGING {
            return Err(format!(
                "{HANGING} earlier attempts still hang while they read a file that it names; see where those files lie"
            ));
        }
        let mut reading = spawn_blocking(move || Config::resolve(&flags, &Process, &cmd::known()));
        match timeout(READING, &mut reading).await {
            Ok(Ok(resolved)) => resolved.map_err(|e| e.to_string()),
            Ok(Err(e)) => Err(format!("the configuration could not be read: {e}")),
            Err(_) => {
                self.hanging.push(reading);
                Err(format!("a file that it names could not be read within {READING:?}"))
            }
        }
    }
}

impl Reloader {
    pub(super) fn new(
        flags: Flags,
        in_force: watch::Sender<Arc<Config>>,
        fleet: Arc<Mutex<Fleet>>,
    ) -> Self {
        let current = InForce { config: in_force, hanging: Vec::new() };
        Self { flags: Arc::new(flags), fleet, current: Arc::new(Mutex::new(current)) }
    }

    /// Reads the file and all it names again. One at a time; who comes second waits.
    ///
    /// # Errors
    /// What is wrong with the configuration; that in force stays.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let mut in_force = self.current.lock().await;
        let current = in_force.config.borrow().clone();
        let resolved = in_force.read(self.flags.clone()).await;
        let mut fleet = self.fleet.lock().await;
        let config = match resolved {
            Ok(config) => config,
            Err(e) => {
                fleet.refused();
                tracing::error!(
                    "the configuration was not loaded, and the old one stays in force: {e}"
                );
                return Err(e);
            }
        };
        for note in config.notes().iter().filter(|note| !current.notes().contains(note)) {
            tracing::warn!("{note}");
        }
        if let Some(what) = needs_a_start(&current, &config) {
            tracing::warn!("{what} changed, which takes effect at the next start");
        }
        let reloaded =
            Reloaded { successful: !config.file_is_missing(), success: SystemTime::now() };
        let (started, kept) = fleet.apply(&config, reloaded);
        tracing::info!(started, kept, "the configuration was loaded");
        in_force.config.send_replace(Arc::new(config));
        Ok(())
    }
}

/// The first setting that differs and that a running process does not change.
fn needs_a_start(now: &Config, then: &Config) -> Option<&'static str> {
    [
        ("web.listen_address", now.listen() != then.listen()),
        ("web.telemetry_path", now.telemetry_path() != then.telemetry_path()),
        ("web.console", now.console() != then.console()),
        ("web.config.file", now.web_config() != then.web_config()),
        ("web.systemd_socket", now.systemd_socket() != then.systemd_socket()),
        ("web.enable_lifecycle", now.enable_lifecycle() != then.enable_lifecycle()),
        ("log.level", now.log_level() != then.log_level()),
        ("log.format", now.log_format() != then.log_format()),
    ]
    .into_iter()
    .find_map(|(name, differs)| differs.then_some(name))
}
