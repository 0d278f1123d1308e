//! What the log was told of one place: one line for each change of its state or cause, and no more than a few where
//! they change all the time.
//!
//! Must not: log by itself, or hold a text of a server's.

use std::time::Duration;

use tokio::time::Instant;

/// Lines in a row.
const BURST: f64 = 8.0;
/// After those, one in this time.
const SPACING: Duration = Duration::from_secs(1_800);

/// The state of one place, and what the log knows of it.
pub(super) struct Told {
    /// The cause of the failure, `None` where it works; the outer `None` before the first run.
    actual: Option<Option<String>>,
    told: Option<Option<String>>,
    /// Changes since the last line.
    changes: u64,
    lines: f64,
    at: Instant,
}

impl Default for Told {
    fn default() -> Self {
        Self { actual: None, told: None, changes: 0, lines: BURST, at: Instant::now() }
    }
}

/// How many changes were kept from the log since its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldBack(u64);

impl std::fmt::Display for HeldBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more changes since the last line of this are not logged)"),
        }
    }
}

impl Told {
    /// It failed by this cause. `Some` if the log is to have a line.
    pub(super) fn fails(&mut self, cause: &str) -> Option<HeldBack> {
        self.is(Some(cause.to_owned()))
    }

    /// It works. `Some` if the log is to have a line: never before it had one of a failure.
    pub(super) fn works(&mut self) -> Option<HeldBack> {
        self.is(None)
    }

    fn is(&mut self, state: Option<String>) -> Option<HeldBack> {
        if self.actual.as_ref() != Some(&state) {
            self.changes += 1;
            self.actual = Some(state.clone());
        }
        if self.told.as_ref() == Some(&state) || (self.told.is_none() && state.is_none()) {
            return None;
        }
        let now = Instant::now();
        let rested = now.saturating_duration_since(self.at).as_secs_f64() / SPACING.as_secs_f64();
        self.lines = (self.lines + rested).min(BURST);
        self.at = now;
        if self.lines < 1.0 {
            return None;
        }
        self.lines -= 1.0;
        self.told = Some(state);
        Some(HeldBack(std::mem::take(&mut self.changes).saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_a_flapping_place_seldom() {
        let mut told = Told::default();
        assert_eq!(told.works(), None);
        assert_eq!(told.fails("query 42P01"), Some(HeldBack(1)));
        assert_eq!(told.fails("query 42P01"), None);
        assert_eq!(told.fails("lost"), Some(HeldBack(0)));
        assert_eq!(told.works(), Some(HeldBack(0)));
        let mut lines = 0;
        for i in 0..86_400 {
            tokio::time::advance(Duration::from_secs(1)).await;
            lines += usize::from(told.fails(&format!("query {i}")).is_some());
        }
        assert!((48..60).contains(&lines), "{lines}");
        // What holds in the end is told when its turn comes, with what was left out.
        assert_eq!(told.works(), None);
        tokio::time::advance(SPACING).await;
        let held = told.works().unwrap();
        assert!(held.0 > 100, "{held}");
    }
}
