//! Reads the configuration again, on SIGHUP and on `POST /-/reload`, and has the pollers follow it.
//!
//! Must not: change anything where the new configuration has a fault.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::fleet::Fleet;
use crate::cmd;
use crate::config::{Config, Flags, Process};
use crate::snapshot::Reloaded;

/// What it takes.
#[derive(Clone)]
pub(super) struct Reloader {
    flags: Arc<Flags>,
    fleet: Arc<Mutex<Fleet>>,
    /// What is in force.
    current: Arc<Mutex<Config>>,
}

impl Reloader {
    pub(super) fn new(flags: Flags, config: Config, fleet: Arc<Mutex<Fleet>>) -> Self {
        Self { flags: Arc::new(flags), fleet, current: Arc::new(Mutex::new(config)) }
    }

    /// Reads the file and all it names again. One at a time; who comes second waits.
    ///
    /// # Errors
    /// What is wrong with the configuration; that in force stays.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let mut current = self.current.lock().await;
        let flags = self.flags.clone();
        let resolved =
            spawn_blocking(move || Config::resolve(&flags, &Process, &cmd::known())).await;
        let resolved = match resolved {
            Ok(resolved) => resolved.map_err(|e| e.to_string()),
            Err(e) => Err(format!("the configuration could not be read: {e}")),
        };
        let mut fleet = self.fleet.lock().await;
        let config = match resolved {
            Ok(config) => config,
            Err(e) => {
                fleet.refused();
                tracing::error!("the configuration was not loaded, and that in force stays: {e}");
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
        *current = config;
        Ok(())
    }
}

/// The first setting that differs and that a running process does not change.
fn needs_a_start(now: &Config, then: &Config) -> Option<&'static str> {
    [
        ("web.listen_address", now.listen() != then.listen()),
        ("web.telemetry_path", now.telemetry_path() != then.telemetry_path()),
        ("web.config.file", now.web_config() != then.web_config()),
        ("web.systemd_socket", now.systemd_socket() != then.systemd_socket()),
        ("web.enable_lifecycle", now.enable_lifecycle() != then.enable_lifecycle()),
        ("log.level", now.log_level() != then.log_level()),
        ("log.format", now.log_format() != then.log_format()),
    ]
    .into_iter()
    .find_map(|(name, differs)| differs.then_some(name))
}
