//! Time as the exporter measures it: it goes on while the machine sleeps, and no step of the wall clock
//! moves it.
//!
//! Must not: be set by what a server says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A wall clock that is off by less has been slewed, or read a little later.
const STEP: f64 = 1.0;

/// An instant on both clocks. Timers run on the one that stops while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    awake: Instant,
    boot: Duration,
}

impl Time {
    /// Now.
    pub fn now() -> Self {
        Self { awake: Instant::now(), boot: since_boot() }
    }

    /// How much time passed since `earlier`, sleep included.
    pub fn since(&self, earlier: &Self) -> Duration {
        // Under a test's clock only the first goes on, during sleep only the second.
        let awake = self.awake.saturating_duration_since(earlier.awake);
        awake.max(self.boot.saturating_sub(earlier.boot))
    }

    /// This instant, earlier by as much.
    pub fn ago(self, time: Duration) -> Self {
        Self { boot: self.boot.saturating_sub(time), ..self }
    }

    /// This instant and as much awake.
    pub fn after(self, time: Duration) -> Self {
        Self { awake: self.awake + time, ..self }
    }

    /// This instant and as much asleep.
    pub fn asleep(self, time: Duration) -> Self {
        Self { boot: self.boot + time, ..self }
    }
}

/// Linux' CLOCK_MONOTONIC stands still while the machine is suspended; elsewhere it does not.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    Duration::ZERO
}

/// Seconds since a target was set up, shared by all its sessions, so that rows of two connections can be
/// compared.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Time,
    epoch: f64,
}

impl Clock {
    /// Starts at 0 now.
    pub fn start() -> Self {
        Self { start: Time::now(), epoch: unix() }
    }

    /// Unix seconds at [`Clock::start`], as the wall clock has it now: after a step of that clock what
    /// began then began at another Unix time. The same value as long as there was no step.
    pub fn epoch(&self) -> f64 {
        self.epoch_at(unix(), self.seconds())
    }

    /// In whole steps, so that it does not waver with the time between the readings of two clocks.
    fn epoch_at(&self, unix: f64, seconds: f64) -> f64 {
        self.epoch + ((unix - seconds - self.epoch) / STEP).round() * STEP
    }

    /// Seconds since [`Clock::start`].
    pub fn seconds(&self) -> f64 {
        Time::now().since(&self.start).as_secs_f64()
    }
}

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_follows_a_step_of_the_wall_clock_and_nothing_less() {
        let clock = Clock { start: Time::now(), epoch: 1_700_000_000.25 };
        assert_eq!(clock.epoch_at(1_700_000_100.251, 100.0), 1_700_000_000.25, "read 1 ms later");
        assert_eq!(clock.epoch_at(1_700_003_700.26, 100.0), 1_700_003_600.25, "an hour ahead");
        assert_eq!(clock.epoch_at(1_699_999_950.24, 100.0), 1_699_999_850.25, "150 s back");
        assert!((Clock::start().epoch() - unix()).abs() < 1.0);
    }

    #[test]
    fn time_passes_asleep_as_awake() {
        let (start, hour) = (Time::now(), Duration::from_secs(3600));
        assert_eq!(start.asleep(hour).since(&start), hour);
        assert_eq!(start.after(hour).since(&start), hour);
        let minute = Duration::from_secs(60);
        assert_eq!(start.since(&start.ago(minute)), minute);
        assert_eq!(start.since(&start.after(hour)), Duration::ZERO, "it does not run backwards");
    }
}
