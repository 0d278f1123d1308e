//! The pollers of a configuration, and what a new configuration does to them: those of targets that did not change
//! go on as they are, the others are replaced, added or ended.
//!
//! Must not: wait for a server, or show less of a target than was known before, while it is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{OptionFuture, join, join_all};
use tokio::sync::watch;

use super::{SPACING, SPREAD, listed, whole_target};
use crate::config::{Config, Connect, DatabaseFilter, Settings, TargetConfig};
use crate::http::ListedTarget;
use crate::poller::{Named, NamedPoller, Poller, TargetView};
use crate::snapshot::{QueryFileState, Reloaded, Snapshot};

/// What the server without a name is polled with.
#[derive(PartialEq)]
struct Default {
    connect: Connect,
    databases: DatabaseFilter,
    settings: Arc<Settings>,
}

/// All pollers.
pub(super) struct Fleet {
    default: Option<(Default, Poller)>,
    listed: Vec<(TargetConfig, NamedPoller)>,
    shown: watch::Sender<ShownFleet>,
}

/// One of the targets with a page of its own.
#[derive(Clone)]
pub(super) struct SeenTarget {
    pub(super) name: String,
    /// Whether its series stand on the page of this process too.
    pub(super) grouped: bool,
    pub(super) view: TargetView,
}

/// What others see of the pollers.
#[derive(Clone)]
pub(super) struct ShownFleet {
    /// Of the server without a name.
    pub(super) default: Option<watch::Receiver<Arc<Snapshot>>>,
    pub(super) seen: Arc<Vec<SeenTarget>>,
    /// For the HTTP server, by name.
    pub(super) pages: Arc<BTreeMap<String, ListedTarget>>,
    pub(super) reloaded: Reloaded,
    /// The file of `--extend.query-path`.
    pub(super) query_file: Option<QueryFileState>,
}

impl Fleet {
    /// Starts all of them.
    pub(super) fn start(config: &Config) -> Self {
        let reloaded =
            Reloaded { successful: !config.file_is_missing(), success: SystemTime::now() };
        let nothing = ShownFleet {
            default: None,
            seen: Arc::default(),
            pages: Arc::default(),
            reloaded,
            query_file: None,
        };
        let mut fleet =
            Self { default: None, listed: Vec::new(), shown: watch::Sender::new(nothing) };
        fleet.apply(config, reloaded);
        fleet
    }

    /// What there is, and a notice of each change.
    pub(super) fn shown(&self) -> watch::Receiver<ShownFleet> {
        self.shown.subscribe()
    }

    /// A configuration that cannot be used changes nothing but this.
    pub(super) fn refused(&self) {
        self.shown.send_modify(|shown| shown.reloaded.successful = false);
    }

    /// Takes a configuration. Gives how many pollers were started, those that replace others included, and how
    /// many go on.
    pub(super) fn apply(&mut self, config: &Config, reloaded: Reloaded) -> (usize, usize) {
        let (mut started, mut kept) = (0, 0);
        let wanted = config.has_default_target().then(|| Default {
            connect: config.connect().clone(),
            databases: config.databases().clone(),
            settings: config.settings().clone(),
        });
        self.default = match (self.default.take(), wanted) {
            (Some((now, poller)), Some(wanted)) if now == wanted => {
                kept += 1;
                Some((now, poller))
            }
            (before, Some(wanted)) => {
                started += 1;
                let poller =
                    Poller::instead_of(before.map(|(_, poller)| poller), whole_target(config));
                Some((wanted, poller))
            }
            (before, None) => {
                end(before.map(|(_, poller)| poller.stop()));
                None
            }
        };

        let mut before: BTreeMap<String, (TargetConfig, NamedPoller)> = BTreeMap::new();
        for (config, poller) in self.listed.drain(..) {
            before.insert(config.name.clone(), (config, poller));
        }
        let count = u32::try_from(config.targets().len().max(1)).unwrap_or(u32::MAX);
        let spacing = SPACING.min(SPREAD / count);
        let mut delay = Duration::ZERO;
        for wanted in config.targets() {
            let poller = match before.remove(&wanted.name) {
                Some((now, poller)) if now == *wanted => {
                    kept += 1;
                    poller
                }
                old => {
                    let (name, grouped) = (&wanted.name, wanted.grouped);
                    let named = Named { name, grouped, expected: wanted.expected, delay };
                    started += 1;
                    delay += spacing;
                    let old = old.map(|(_, poller)| poller);
                    NamedPoller::instead_of(old, listed(wanted), &named)
                }
            };
            self.listed.push((wanted.clone(), poller));
        }
        before.into_values().for_each(|(_, poller)| end(Some(poller.stop())));
        self.show(reloaded, query_file(config));
        (started, kept)
    }

    fn show(&self, reloaded: Reloaded, query_file: Option<QueryFileState>) {
        let seen = self.listed.iter().map(|(config, poller)| SeenTarget {
            name: config.name.clone(),
            grouped: config.grouped,
            view: poller.view(),
        });
        let seen: Vec<SeenTarget> = seen.collect();
        let pages = seen.iter().map(|seen| {
            let (for_page, for_state) = (seen.view.clone(), seen.view.clone());
            let listed = ListedTarget {
                snapshot: Arc::new(move || for_page.snapshot()),
                up: Arc::new(move || for_state.up()),
            };
            (seen.name.clone(), listed)
        });
        let pages = Arc::new(pages.collect());
        let default = self.default.as_ref().map(|(_, poller)| poller.snapshots());
        self.shown.send_replace(ShownFleet {
            default,
            seen: Arc::new(seen),
            pages,
            reloaded,
            query_file,
        });
    }

    /// Ends all of them, at once, since each may take seconds.
    pub(super) async fn stop(&mut self) {
        let default = self.default.take().map(|(_, poller)| poller.stop());
        let listed = self.listed.drain(..).map(|(_, poller)| poller.stop());
        join(OptionFuture::from(default), join_all(listed)).await;
    }
}

/// How the file of `--extend.query-path` was read.
fn query_file(config: &Config) -> Option<QueryFileState> {
    config.query_file().map(|file| QueryFileState {
        name: file.name.clone(),
        hash: file.hash.clone(),
        failed: !file.faults.is_empty(),
    })
}

/// Lets a poller close its sessions while the rest goes on.
fn end(stop: Option<impl Future<Output = ()> + Send + 'static>) {
    if let Some(stop) = stop {
        tokio::spawn(stop);
    }
}
