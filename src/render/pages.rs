//! The latest snapshot in the formats that scrapers ask for.
//!
//! Must not: render what nobody asked for lately, render anything twice, or do it on a thread that
//! answers scrapes.

use std::array;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::{Error, IntCounterVec};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Format, Renderer, render_alone};
use crate::clock::Time;
use crate::snapshot::Snapshot;

/// A format is rendered at each publish for so long after it was last asked for.
const LATELY: Duration = Duration::from_secs(300);
/// Pages that are rendered on demand at a time: what they need for it stays bounded, and the threads
/// that poll keep a share of the machine.
const RENDERINGS: usize = 2;
/// A snapshot is published every few seconds. One that is older than this was taken before the machine
/// slept, and what it holds is not true any more: the next one, which drops it, is waited for.
const TOO_OLD: Duration = Duration::from_secs(15);
/// How long a scrape waits for it.
const NEXT: Duration = Duration::from_secs(7);
/// Each format, plain and gzip'd.
const VARIANTS: usize = 2 * Format::ALL.len();

fn variant(format: Format, gzip: bool) -> usize {
    2 * format as usize + usize::from(gzip)
}

fn of_variant(variant: usize) -> (Format, bool) {
    (Format::ALL[variant / 2], variant % 2 == 1)
}

/// One snapshot and what was rendered of it so far.
struct Page {
    renderer: Arc<Renderer>,
    snapshot: Arc<Snapshot>,
    made: Time,
    bodies: [OnceLock<Bytes>; VARIANTS],
    rendering: Mutex<()>,
}

impl Page {
    fn new(renderer: Arc<Renderer>, snapshot: Arc<Snapshot>) -> Self {
        let bodies = array::from_fn(|_| OnceLock::new());
        Self { renderer, snapshot, made: Time::now(), bodies, rendering: Mutex::new(()) }
    }

    fn rendered(&self, format: Format, gzip: bool) -> Option<&Bytes> {
        self.bodies[variant(format, gzip)].get()
    }

    /// Renders a format unless that was done. Takes its time.
    fn render(&self, format: Format, gzip: bool) -> Result<Bytes, Error> {
        // Who comes second waits and finds it done. Nothing to repair after a panic.
        let lock = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = match self.rendered(format, false) {
            Some(plain) => plain.clone(),
            None => self.keep(format, false, self.renderer.render(&self.snapshot, format)?),
        };
        let body = match self.rendered(format, gzip) {
            Some(body) => body.clone(),
            None => self.keep(format, gzip, compress(&plain)?),
        };
        drop(lock);
        Ok(body)
    }

    fn keep(&self, format: Format, gzip: bool, body: Vec<u8>) -> Bytes {
        self.bodies[variant(format, gzip)].get_or_init(|| body.into()).clone()
    }
}

fn compress(plain: &[u8]) -> Result<Vec<u8>, Error> {
    // The fastest level: 3 times its time buys 15 % fewer bytes, and this runs every second.
    let mut gzip = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    gzip.write_all(plain)?;
    Ok(gzip.finish()?)
}

/// When each variant was last asked for.
struct Demand {
    start: Instant,
    /// Milliseconds since `start`, and one; 0 for never.
    asked: [AtomicU64; VARIANTS],
}

impl Demand {
    fn new() -> Self {
        Self { start: Instant::now(), asked: array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).map_or(u64::MAX, |ms| ms.saturating_add(1))
    }

    fn ask(&self, format: Format, gzip: bool) {
        self.asked[variant(format, gzip)].store(self.now(), Ordering::Relaxed);
    }

    /// What was asked for within the time before `now`.
    fn since(&self, now: u64, lately: Duration) -> impl Iterator<Item = (Format, bool)> + '_ {
        let oldest = now.saturating_sub(u64::try_from(lately.as_millis()).unwrap_or(u64::MAX));
        let asked = self.asked.iter().map(|at| at.load(Ordering::Relaxed)).enumerate();
        asked.filter(move |(_, at)| *at > 0 && *at >= oldest).map(|(v, _)| of_variant(v))
    }
}

/// Publishes snapshots to scrapers.
pub struct Publisher {
    renderer: Arc<Renderer>,
    demand: Arc<Demand>,
    latest: watch::Sender<Arc<Page>>,
}

/// What scrapers are answered from: the snapshot that was published last.
#[derive(Clone)]
pub struct Pages {
    demand: Arc<Demand>,
    latest: watch::Receiver<Arc<Page>>,
    served: IntCounterVec,
}

impl Publisher {
    /// Publishes a first snapshot.
    pub fn new(renderer: Renderer, first: Arc<Snapshot>) -> (Self, Pages) {
        let (renderer, demand) = (Arc::new(renderer), Arc::new(Demand::new()));
        let served = renderer.served.clone();
        let (latest, pages) = watch::channel(Arc::new(Page::new(renderer.clone(), first)));
        let pages = Pages { demand: demand.clone(), latest: pages, served };
        (Self { renderer, demand, latest }, pages)
    }

    /// Renders pages of other snapshots, counted together with this one's.
    pub fn on_demand(&self) -> OnDemand {
        OnDemand {
            slots: Arc::new(Semaphore::new(RENDERINGS)),
            served: self.renderer.served.clone(),
        }
    }

    /// Renders what was asked for lately, then replaces the snapshot that is published. A snapshot
    /// that cannot be rendered is logged and left out.
    pub async fn publish(&self, snapshot: Arc<Snapshot>) {
        let page = Arc::new(Page::new(self.renderer.clone(), snapshot));
        let (ahead, demand) = (page.clone(), self.demand.clone());
        let rendered = spawn_blocking(move || {
            let wanted = demand.since(demand.now(), LATELY);
            wanted.map(|(format, gzip)| ahead.render(format, gzip)).collect::<Result<Vec<_>, _>>()
        });
        match rendered.await {
            Ok(Ok(_)) => {
                self.latest.send_replace(page);
            }
            Ok(Err(e)) => tracing::error!("cannot encode the metrics: {e}"),
            Err(e) => tracing::error!("rendering failed: {e}"),
        }
    }
}

impl Pages {
    async fn latest(&self) -> Arc<Page> {
        let mut latest = self.latest.clone();
        let page = latest.borrow_and_update().clone();
        if Time::now().since(&page.made) > TOO_OLD {
            let _ = timeout(NEXT, latest.changed()).await;
        }
        latest.borrow().clone()
    }

    /// The latest snapshot in a format: from memory, but for the first who asks for it after a
    /// while, who waits until it is rendered.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub async fn get(&self, format: Format, gzip: bool) -> Result<Bytes, Error> {
        self.demand.ask(format, gzip);
        let page = self.latest().await;
        let body = match page.rendered(format, gzip) {
            Some(body) => body.clone(),
            None => spawn_blocking(move || page.render(format, gzip))
                .await
                .map_err(|e| Error::Msg(e.to_string()))??,
        };
        self.served.with_label_values(&[format.name()]).inc();
        Ok(body)
    }
}

/// Renders the pages of targets when they are asked for, and keeps none: with many targets what is
/// kept, or rendered ahead of every scrape, would cost more than all else.
#[derive(Clone)]
pub struct OnDemand {
    slots: Arc<Semaphore>,
    served: IntCounterVec,
}

impl OnDemand {
    /// What `snapshot` gives, in a format.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub async fn get(
        &self,
        snapshot: impl FnOnce() -> Snapshot + Send + 'static,
        format: Format,
        gzip: bool,
    ) -> Result<Bytes, Error> {
        // Never closed, so this never fails; without a slot the page would be rendered as well.
        let slot = self.slots.clone().acquire_owned().await;
        let body = spawn_blocking(move || {
            let plain = render_alone(&snapshot(), format)?;
            let body = if gzip { compress(&plain)? } else { plain };
            drop(slot);
            Ok::<_, Error>(Bytes::from(body))
        });
        let body = body.await.map_err(|e| Error::Msg(e.to_string()))??;
        self.served.with_label_values(&[format.name()]).inc();
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pages() -> (Publisher, Pages) {
        Publisher::new(Renderer::new().unwrap(), Arc::new(Snapshot::default()))
    }

    fn rendered(pages: &Pages) -> Vec<(Format, bool)> {
        let page = pages.latest.borrow();
        (0..VARIANTS).map(of_variant).filter(|(f, z)| page.rendered(*f, *z).is_some()).collect()
    }

    #[tokio::test]
    async fn only_what_is_asked_for_is_rendered_and_from_then_on_before_it_is_published() {
        let (publisher, pages) = pages();
        publisher.publish(Arc::new(Snapshot::default())).await;
        assert_eq!(rendered(&pages), []);
        let zipped = pages.get(Format::OpenMetrics, true).await.unwrap();
        let both = [(Format::OpenMetrics, false), (Format::OpenMetrics, true)];
        assert_eq!(rendered(&pages), both);
        let plain = pages.get(Format::OpenMetrics, false).await.unwrap();
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).unwrap();
        assert_eq!(unzipped, plain);
        assert!(plain.ends_with(b"# EOF\n"));

        let up = Snapshot { up: true, ..Snapshot::default() };
        publisher.publish(Arc::new(up)).await;
        assert_eq!(rendered(&pages), both);
        let later = pages.get(Format::OpenMetrics, false).await.unwrap();
        let text = std::str::from_utf8(&later).unwrap();
        assert!(text.contains("\npg_up 1\n"), "{text}");
        // As of the publish: two scrapes before it.
        let counted = "\npgrunway_expositions_total{format=\"openmetrics\"} 2\n";
        assert!(text.contains(counted), "{text}");
    }

    #[tokio::test]
    async fn after_a_suspend_a_scrape_waits_for_a_page_that_was_made_since() {
        let (publisher, pages) = pages();
        let up = Arc::new(Snapshot { up: true, ..Snapshot::default() });
        let mut before = Page::new(publisher.renderer.clone(), up);
        before.made = before.made.ago(TOO_OLD * 2);
        publisher.latest.send_replace(Arc::new(before));
        let (body, ()) = tokio::join!(pages.get(Format::OpenMetrics, false), async {
            tokio::task::yield_now().await;
            publisher.publish(Arc::new(Snapshot::default())).await;
        });
        let body = body.unwrap();
        assert!(std::str::from_utf8(&body).unwrap().contains("\npg_up 0\n"));
    }

    #[test]
    fn demand_ends_after_a_while() {
        let demand = Demand::new();
        demand.ask(Format::Protobuf, true);
        let asked = |after: u64| demand.since(demand.now() + after, LATELY).collect::<Vec<_>>();
        assert_eq!(asked(200_000), [(Format::Protobuf, true)]);
        assert_eq!(asked(301_000), []);
    }
}
