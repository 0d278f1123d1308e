//! Takes a point a minute of each target for the console's plots, from what was published.
//!
//! Must not: take all targets at once: a thousand would be felt in the answers meanwhile.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::fleet::ShownFleet;
use crate::console::Reader;
use crate::console::history::{Hours, STEP};
use crate::snapshot::Snapshot;

/// Longest pause between two targets.
const SPACING: Duration = Duration::from_millis(20);
/// The first point is taken so soon, so that the first look has one.
const FIRST: Duration = Duration::from_secs(5);

/// For ever.
pub(super) async fn follow(hours: Arc<Hours>, shown: watch::Receiver<ShownFleet>) {
    let step = Duration::from_secs_f64(STEP);
    let mut next = Instant::now() + FIRST;
    loop {
        sleep_until(next).await;
        let now = shown.borrow().clone();
        let take = |target: Option<&str>, snapshot: &Snapshot| {
            hours.take(&Reader { snapshot, now: SystemTime::now(), target, hides: false });
        };
        if let Some(default) = &now.default {
            let snapshot = default.borrow().clone();
            take(None, &snapshot);
        }
        let count = u32::try_from(now.seen.len().max(1)).unwrap_or(u32::MAX);
        let spacing = SPACING.min(step / 2 / count);
        for seen in now.seen.iter() {
            take(Some(&seen.name), &seen.view.snapshot());
            sleep(spacing).await;
        }
        hours.retain(|name| name.is_empty() || now.pages.contains_key(name));
        next += step;
        // After a suspension no points are made up.
        next = next.max(Instant::now() + Duration::from_secs(1));
    }
}
