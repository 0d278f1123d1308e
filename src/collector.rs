//! What a collector is: a unit struct that declares its metrics, fetches rows (I/O only) and derives
//! samples from them (pure). Everything else about it is found by walking the registration list.
//!
//! Must not: name a particular collector, or keep state anywhere but in [`Collector::State`].

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::CollectError;
use crate::findings::Reported;
use crate::metric::{Metric, Sink};
use crate::pg::{Need, Session};

/// Where a collector's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Once per server, on the kept connection.
    Server,
    /// Once per database, by the connection that walks them.
    Database,
    /// Once per PgBouncer, on the connection to its console.
    Pooler,
}

/// How often a collector runs that is paced by what it costs the server. The interval is the one wanted
/// (the user's, else [`Collector::interval`]), made longer until a run's cost is within its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// Least interval; a wish for less means this.
    pub shortest: Duration,
    /// Longest interval that its cost brings about; beyond it the collector runs on, whatever it costs. The user may
    /// want a longer one.
    pub longest: Duration,
    /// Most of one core of the server that the runs may take.
    pub share: f64,
    /// Whether each pause is drawn from half the interval to one and a half of it, counted from the run before, so
    /// that samples do not beat with work that is periodic.
    pub jitter: bool,
    /// Whether the results wait for the next page that something else brings about: a collector that runs every
    /// second would else have all pages rendered once more a second.
    pub quiet: bool,
}

impl Pacing {
    /// The interval that suits a wish and the seconds of the server that a run costs.
    pub fn interval(&self, wanted: Duration, cost: Option<Duration>) -> Duration {
        let least = cost.map(|cost| cost.div_f64(self.share.max(f64::EPSILON)));
        wanted.max(least.unwrap_or_default().min(self.longest)).max(self.shortest)
    }
}

/// One source of metrics.
///
/// `fetch` does I/O and nothing else; `derive` is a pure function of the state, the rows and nothing
/// else: times arrive in the rows. What must survive from one collection to the next (the previous
/// counters, windows, learnt shapes) is in `State`, which lives with the target and survives
/// reconnects.
pub trait Collector: Send + Sync + 'static {
    /// What one collection reads, with the settings that `derive` needs.
    type Rows: Send + Sync + 'static;
    /// What lives on between collections, per target and database.
    type State: Default + Send + Sync + 'static;

    /// Flag, label and file name: lower case, one word.
    const NAME: &'static str;
    /// One sentence for `--help` and the docs.
    const HELP: &'static str;
    /// Whether it runs unless the user says otherwise.
    const DEFAULT_ON: bool = true;
    /// The first major version of PostgreSQL that has what it reads; on an older one it succeeds and gives nothing.
    const SINCE: i32 = 13;
    /// Whether it runs in postgres_exporter's profile only.
    const COMPATIBLE_ONLY: bool = false;
    /// Where it runs.
    const SCOPE: Scope;
    /// Interval unless the user sets one or [`Collector::interval`] chooses.
    const INTERVAL: Duration;
    /// Everything that it may emit.
    const METRICS: &'static [&'static Metric];
    /// The extension that it reads, where any database of the server that has it will do.
    const NEED: Option<&'static Need> = None;
    /// Where it is paced by its own cost: the bounds.
    const PACE: Option<Pacing> = None;

    /// Reads the rows, in as few round trips as possible.
    fn fetch(
        &self,
        session: &Session,
        state: &Self::State,
    ) -> impl Future<Output = Result<Self::Rows, CollectError>> + Send;

    /// Turns rows into samples.
    fn derive(&self, state: &mut Self::State, rows: Self::Rows, sink: &mut Sink);

    /// What the rules found at the last collection, of a collector that asks them.
    fn findings(state: &Self::State) -> Arc<[Reported]> {
        let _ = state;
        Arc::default()
    }

    /// The interval that suits what was measured so far; used where the user set none.
    fn interval(&self, state: &Self::State) -> Duration {
        let _ = state;
        Self::INTERVAL
    }

    /// How much of the server's time the last run took, by the server's own clock; for [`Collector::PACE`].
    fn cost(&self, state: &Self::State) -> Option<Duration> {
        let _ = state;
        None
    }

    /// Notes that a run failed, so that nothing is known of its time.
    fn failed(&self, state: &mut Self::State) {
        let _ = state;
    }
}

/// The state of one collector for one target and database, its type erased.
pub type AnyState = Box<dyn Any + Send + Sync>;
/// What one collection gives: the rows, their type erased.
pub type Collected<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Any + Send + Sync>, CollectError>> + Send + 'a>>;

/// [`Collector`] without its associated types, so that a list can hold them all.
pub trait AnyCollector: Send + Sync {
    /// [`Collector::NAME`].
    fn name(&self) -> &str;
    /// [`Collector::HELP`].
    fn help(&self) -> &str;
    /// [`Collector::DEFAULT_ON`].
    fn default_on(&self) -> bool;
    /// [`Collector::SINCE`].
    fn since(&self) -> i32 {
        13
    }
    /// [`Collector::COMPATIBLE_ONLY`].
    fn compatible_only(&self) -> bool;
    /// [`Collector::SCOPE`].
    fn scope(&self) -> Scope;
    /// [`Collector::METRICS`].
    fn metrics(&self) -> &[&'static Metric];
    /// [`Collector::NEED`].
    fn need(&self) -> Option<&'static Need>;
    /// A fresh state.
    fn new_state(&self) -> AnyState;
    /// [`Collector::interval`].
    fn interval(&self, state: &AnyState) -> Duration;
    /// [`Collector::INTERVAL`].
    fn default_interval(&self) -> Duration;
    /// [`Collector::PACE`].
    fn pace(&self) -> Option<Pacing>;
    /// [`Collector::cost`].
    fn cost(&self, state: &AnyState) -> Option<Duration>;
    /// [`Collector::failed`].
    fn failed(&self, state: &mut AnyState);
    /// [`Collector::fetch`]; the rows come back erased.
    fn fetch<'a>(&'a self, session: &'a Session, state: &'a AnyState) -> Collected<'a>;
    /// [`Collector::derive`] on rows that [`AnyCollector::fetch`] of the same collector gave.
    fn derive(&self, state: &mut AnyState, rows: Box<dyn Any + Send + Sync>, sink: &mut Sink);
    /// [`Collector::findings`].
    fn findings(&self, state: &AnyState) -> Arc<[Reported]>;
    /// Whether it runs inside a database, which may be the one of the connection string.
    fn is_for(&self, datname: &str, home: bool) -> bool {
        let _ = (datname, home);
        true
    }
    /// Whether the user wrote what it runs: it then has to keep clear of what pgrunway exports, and is asked less often
    /// while it costs too much.
    fn is_guest(&self) -> bool {
        false
    }
    /// Whether series of a guest that pgrunway has itself are no fault of it.
    fn may_repeat(&self) -> bool {
        false
    }
    /// Series that it may publish, where that is less than the setting says.
    fn series_limit(&self) -> Option<usize> {
        None
    }
}

/// A collector of the list, or one that the configuration made.
#[derive(Clone)]
pub enum Handle {
    /// Of the list.
    Listed(&'static dyn AnyCollector),
    /// It goes with the configuration.
    Made(Arc<dyn AnyCollector>),
}

impl Deref for Handle {
    type Target = dyn AnyCollector;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Listed(collector) => *collector,
            Self::Made(collector) => &**collector,
        }
    }
}

impl From<&'static dyn AnyCollector> for Handle {
    fn from(collector: &'static dyn AnyCollector) -> Self {
        Self::Listed(collector)
    }
}

/// The poller keeps each state and each bundle of rows beside the collector that made it, so the
/// types always match; a mismatch would be a defect of this crate, and is answered by doing nothing.
impl<C: Collector> AnyCollector for C {
    fn name(&self) -> &str {
        C::NAME
    }
    fn help(&self) -> &str {
        C::HELP
    }
    fn default_on(&self) -> bool {
        C::DEFAULT_ON
    }
    fn since(&self) -> i32 {
        C::SINCE
    }
    fn compatible_only(&self) -> bool {
        C::COMPATIBLE_ONLY
    }
    fn scope(&self) -> Scope {
        C::SCOPE
    }
    fn metrics(&self) -> &[&'static Metric] {
        C::METRICS
    }
    fn need(&self) -> Option<&'static Need> {
        C::NEED
    }
    fn new_state(&self) -> AnyState {
        Box::new(C::State::default())
    }
    fn interval(&self, state: &AnyState) -> Duration {
        state.downcast_ref().map_or(C::INTERVAL, |state| Collector::interval(self, state))
    }
    fn default_interval(&self) -> Duration {
        C::INTERVAL
    }
    fn pace(&self) -> Option<Pacing> {
        C::PACE
    }
    fn cost(&self, state: &AnyState) -> Option<Duration> {
        state.downcast_ref().and_then(|state| Collector::cost(self, state))
    }
    fn failed(&self, state: &mut AnyState) {
        if let Some(state) = state.downcast_mut() {
            Collector::failed(self, state);
        }
    }
    fn fetch<'a>(&'a self, session: &'a Session, state: &'a AnyState) -> Collected<'a> {
        Box::pin(async move {
            let missing = || CollectError::Missing {
                what: "the collector's state has another type".to_owned(),
                remedy: "this is a defect: please report it".to_owned(),
            };
            let state = state.downcast_ref::<C::State>().ok_or_else(missing)?;
            let rows = Collector::fetch(self, session, state).await?;
            Ok(Box::new(rows) as Box<dyn Any + Send + Sync>)
        })
    }
    fn derive(&self, state: &mut AnyState, rows: Box<dyn Any + Send + Sync>, sink: &mut Sink) {
        if let (Some(state), Ok(rows)) = (state.downcast_mut(), rows.downcast()) {
            Collector::derive(self, state, *rows, sink);
        }
    }
    fn findings(&self, state: &AnyState) -> Arc<[Reported]> {
        state.downcast_ref().map_or_else(Arc::default, C::findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paced_collector_runs_as_often_as_its_cost_allows_and_within_its_bounds() {
        let ms = Duration::from_millis;
        let (shortest, longest) = (ms(200), ms(5_000));
        let pace = Pacing { shortest, longest, share: 0.01, jitter: true, quiet: false };
        let second = ms(1_000);
        assert_eq!(pace.interval(second, None), second);
        assert_eq!(pace.interval(second, Some(ms(1))), second, "cheap: as wanted, no more often");
        assert_eq!(
            pace.interval(ms(200), Some(ms(3))),
            ms(300),
            "a wish does not buy more of the server"
        );
        assert_eq!(pace.interval(second, Some(ms(20))), ms(2_000));
        assert_eq!(pace.interval(second, Some(ms(400))), longest);
        assert_eq!(pace.interval(ms(100), None), shortest);
        assert_eq!(pace.interval(ms(60_000), Some(ms(400))), ms(60_000), "longer, as wanted");
    }
}
