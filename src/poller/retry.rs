//! When to try again after a failure, and what is said of it.
//!
//! Must not: let a thousand targets try at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::told::Told;
use crate::error::{ConnectError, Cost};

/// A server that is away is asked so often whether it is back.
pub(super) const CADENCE: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST_LITTLE: Duration = Duration::from_secs(2);
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// Between two attempts of all targets together: 200 a second, so that of a thousand servers that are
/// away each is asked every five seconds.
const SPACING: Duration = Duration::from_millis(5);

/// How long to wait after each failure: where attempts cost the server nothing, never longer than
/// [`CADENCE`], however long it is away; else twice as long each time. With jitter, so that a fleet of
/// exporters does not reconnect in step.
#[derive(Debug, Default)]
pub(super) struct Retry {
    costly: u32,
}

impl Retry {
    /// The pause after an attempt that took so long.
    pub(super) fn after(&mut self, cost: Cost, took: Duration) -> Duration {
        let longest = match cost {
            Cost::Nothing => {
                // It is another failure now; what was before says nothing of the next.
                self.costly = 0;
                return jitter(CADENCE).saturating_sub(took);
            }
            Cost::Little => LONGEST_LITTLE,
            Cost::Much => LONGEST,
        };
        let full = FIRST * 2u32.saturating_pow(self.costly.min(10));
        self.costly = self.costly.saturating_add(1);
        jitter(full.min(longest))
    }
}

/// From a half to the whole.
fn jitter(full: Duration) -> Duration {
    full.mul_f64(rand::random_range(0.5..=1.0))
}

/// When the next attempt may begin.
struct Backoff(Mutex<Option<Instant>>);

/// Of all targets together.
static PACE: Backoff = Backoff::new();

impl Backoff {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    async fn turn(&self) {
        let now = Instant::now();
        let mine = {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mine = next.unwrap_or(now).max(now);
            *next = Some(mine + SPACING);
            mine
        };
        sleep_until(mine).await;
    }
}

/// Waits for a turn to try again: the attempts of all targets are 5 ms apart.
pub(super) async fn turn() {
    PACE.turn().await;
}

/// Says once that something fails and once that it works again.
#[derive(Default)]
pub(super) struct Announcer(Told);

impl Announcer {
    pub(super) fn failed(&mut self, what: &str, e: &ConnectError) {
        if let Some(held) = self.0.fails(&e.cause()) {
            tracing::warn!(kind = e.kind(), "{what}: {e}{held}");
        }
    }

    /// As [`Announcer::failed`], for what is no failed attempt to connect.
    pub(super) fn fails(&mut self, what: &str, kind: &str, message: &str) {
        if let Some(held) = self.0.fails(kind) {
            tracing::warn!(kind, "{what}: {message}{held}");
        }
    }

    /// Sessions can be had, but do not last.
    pub(super) fn lost(&mut self, what: &str, cause: &str) {
        if let Some(held) = self.0.fails("sessions do not last") {
            tracing::warn!("{what}: sessions do not last: {cause}{held}");
        }
    }

    pub(super) fn works(&mut self, what: &str) {
        if let Some(held) = self.0.works() {
            tracing::info!("{what}: connected again{held}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[test]
    fn costly_failures_back_off_to_their_limit_with_jitter_below() {
        for (cost, longest) in [(Cost::Much, LONGEST), (Cost::Little, LONGEST_LITTLE)] {
            let (mut retry, mut full) = (Retry::default(), FIRST);
            for _ in 0..40 {
                let wait = retry.after(cost, Duration::ZERO);
                assert!(wait <= full && wait >= full / 2, "{wait:?} of {full:?}");
                full = (full * 2).min(longest);
            }
            assert_eq!(full, longest);
        }
    }

    /// A server that refuses logins, stops for ten minutes, and is then first starting up.
    #[tokio::test(start_paused = true)]
    async fn after_ten_minutes_away_it_is_tried_within_a_second_of_its_return() {
        let mut retry = Retry::default();
        for _ in 0..8 {
            retry.after(Cost::Much, Duration::ZERO);
        }
        let pace = Backoff::new();
        let (start, mut last) = (Instant::now(), Instant::now());
        let back = start + Duration::from_secs(600);
        while last < back {
            sleep(retry.after(Cost::Nothing, Duration::ZERO)).await;
            pace.turn().await;
            assert!(last.elapsed() <= CADENCE + SPACING * 2, "{:?}", last.elapsed());
            last = Instant::now();
        }
        assert!(last - back <= CADENCE + SPACING * 2);
        // And it does not spin: at least half a second lies between two attempts.
        assert!(retry.after(Cost::Nothing, Duration::ZERO) >= CADENCE / 2);
        // What an attempt that was never answered took is part of the pause.
        assert_eq!(retry.after(Cost::Nothing, CADENCE * 3), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_targets_share_two_hundred_attempts_a_second() {
        let (start, pace) = (Instant::now(), Backoff::new());
        let targets = (0..1_000).map(|_| async {
            let mut retry = Retry::default();
            let mut tries = 0;
            while start.elapsed() < Duration::from_secs(60) {
                sleep(retry.after(Cost::Nothing, Duration::ZERO)).await;
                pace.turn().await;
                tries += 1;
            }
            tries
        });
        let tries = futures_util::future::join_all(targets).await;
        let all: u32 = tries.iter().sum();
        // The last of each may end after the minute.
        assert!((11_000..=13_200).contains(&all), "{all} in a minute");
        assert!(tries.iter().all(|t| *t >= 9), "nobody starves");
    }
}
