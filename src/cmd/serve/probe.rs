//! Targets that requests name: each is polled as long as it is asked for, so that windows and percentiles work.
//!
//! Must not: poll what the configuration in force does not allow, or more than it allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::listed;
use crate::config::{Config, NoProbe, Process, TargetConfig, forbidden};
use crate::http::{NotProbed, ProbeAsked};
use crate::poller::{Named, NamedPoller, TargetView};
use crate::snapshot::Snapshot;

/// How often is looked whether the first round has ended, and what was not asked for lately.
const LOOK: Duration = Duration::from_millis(25);
const SWEEP: Duration = Duration::from_secs(5);
/// How long is waited for the first round where the scraper does not say, and at the most: a request has ten seconds.
const LONGEST: Duration = Duration::from_secs(9);
/// [`crate::error::ConnectError::kind`] of a name that leads where it may not.
const FORBIDDEN: &str = "forbidden";

struct Probed {
    config: TargetConfig,
    poller: NamedPoller,
    asked: Instant,
}

/// By where it is and as whom.
type All = BTreeMap<(String, Option<String>), Probed>;

/// Polls what was probed.
#[derive(Clone)]
pub(super) struct Prober {
    /// The configuration in force.
    config: watch::Receiver<Arc<Config>>,
    all: Arc<Mutex<All>>,
}

impl Prober {
    pub(super) fn start(config: watch::Receiver<Arc<Config>>) -> (Self, AbortHandle) {
        let prober = Self { config, all: Arc::default() };
        let sweeper = prober.clone();
        let task = tokio::spawn(async move {
            loop {
                sleep(SWEEP.min(sweeper.keep() / 2)).await;
                sweeper.sweep().await;
            }
        });
        (prober, task.abort_handle())
    }

    fn keep(&self) -> Duration {
        self.config.borrow().probe().settings.keep
    }

    /// Ends what was not asked for lately.
    async fn sweep(&self) {
        let keep = self.keep();
        let mut all = self.all.lock().await;
        let old: Vec<_> = all
            .iter()
            .filter(|(_, probed)| probed.asked.elapsed() > keep)
            .map(|(key, _)| key.clone())
            .collect();
        for key in old {
            if let Some(probed) = all.remove(&key) {
                tracing::info!(
                    target = probed.config.name,
                    "no longer probed, so no longer polled"
                );
                tokio::spawn(probed.poller.stop());
            }
        }
    }

    /// What a request asks for: at once where it is polled already, else after its first round.
    pub(super) async fn probe(&self, asked: ProbeAsked) -> Result<Snapshot, NotProbed> {
        let began = Instant::now();
        let config = self.config.borrow().clone();
        let (target, module) = (asked.target, asked.auth_module);
        let (for_config, name) = (config.clone(), module.clone());
        // It looks for files of certificates.
        let resolved =
            spawn_blocking(move || for_config.probed(&target, name.as_deref(), &Process)).await;
        let wanted = match resolved {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(NoProbe::Bad(text))) => return Err(NotProbed { status: 400, text }),
            Ok(Err(NoProbe::Forbidden(text))) => return Err(NotProbed { status: 403, text }),
            Err(e) => return Err(NotProbed { status: 500, text: e.to_string() }),
        };
        let key = (wanted.connect.describe(), module);
        let view = self.polled(&key, wanted, config.probe().settings.limit).await?;
        let patience = asked.timeout.map_or(LONGEST, patience);
        while !view.is_complete() && began.elapsed() < patience {
            sleep(LOOK).await;
        }
        let snapshot = view.snapshot();
        let leads = snapshot.trouble.as_ref().filter(|t| t.over.is_none()).map(|t| t.kind);
        if leads == Some(FORBIDDEN) {
            if let Some(probed) = self.all.lock().await.remove(&key) {
                tokio::spawn(probed.poller.stop());
            }
            let (place, _) = key;
            let text = format!("by what its name leads to, {}", forbidden(&place));
            return Err(NotProbed { status: 403, text });
        }
        Ok(snapshot)
    }

    async fn polled(
        &self,
        key: &(String, Option<String>),
        wanted: TargetConfig,
        limit: usize,
    ) -> Result<TargetView, NotProbed> {
        let mut all = self.all.lock().await;
        let old = match all.remove(key) {
            Some(mut probed) if probed.config == wanted => {
                probed.asked = Instant::now();
                let view = probed.poller.view();
                all.insert(key.clone(), probed);
                return Ok(view);
            }
            other => other,
        };
        if old.is_none() && all.len() >= limit {
            let text = format!(
                "{limit} other targets are probed already, which is the limit: raise `probe.limit`"
            );
            return Err(NotProbed { status: 503, text });
        }
        let named = Named {
            name: &wanted.name,
            grouped: false,
            expected: wanted.expected,
            delay: Duration::ZERO,
        };
        let old = old.map(|probed| probed.poller);
        let poller = NamedPoller::instead_of(old, listed(&wanted), &named);
        let view = poller.view();
        all.insert(key.clone(), Probed { config: wanted, poller, asked: Instant::now() });
        Ok(view)
    }

    /// Ends all of them.
    pub(super) async fn stop(&self) {
        let all = std::mem::take(&mut *self.all.lock().await);
        let stops = all.into_values().map(|probed| probed.poller.stop());
        futures_util::future::join_all(stops).await;
    }
}

/// Of the scraper's own deadline, so much that the answer reaches it in time.
fn patience(limit: Duration) -> Duration {
    limit.saturating_sub((limit / 5).min(Duration::from_millis(500))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_before_the_scraper_gives_up() {
        let of = |ms: u64| patience(Duration::from_millis(ms)).as_millis();
        assert_eq!(
            [of(10_000), of(5_000), of(1_000), of(100), of(0), of(60_000)],
            [9_000, 4_500, 800, 80, 0, 9_000]
        );
    }
}
