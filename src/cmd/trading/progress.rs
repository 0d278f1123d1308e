//! How far a fill is: a bar, the rate of late and the time it will take.
//!
//! Must not: write anything.

use std::collections::VecDeque;
use std::time::Duration;

/// Over so many looks the rate is taken.
const LOOKS: usize = 40;
const WIDTH: usize = 24;

/// Looks at a fill.
#[derive(Debug)]
pub struct FillProgress {
    total: u64,
    looks: VecDeque<(Duration, u64)>,
}

impl FillProgress {
    /// Before the first of `total` rows.
    pub fn new(total: u64) -> Self {
        Self { total, looks: VecDeque::from([(Duration::ZERO, 0)]) }
    }

    /// The line for now: `elapsed` since the start, `done` rows sent.
    pub fn line(&mut self, elapsed: Duration, done: u64, bar: bool) -> String {
        self.looks.push_back((elapsed, done));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let rate = self.looks.front().map_or(0.0, |(since, before)| {
            done.saturating_sub(*before) as f64
                / elapsed.saturating_sub(*since).as_secs_f64().max(1e-3)
        });
        let percent = (done.saturating_mul(100)).checked_div(self.total).unwrap_or(100);
        let left = if rate > 0.0 {
            seconds(self.total.saturating_sub(done) as f64 / rate)
        } else {
            "-".to_owned()
        };
        let filled = usize::try_from(percent.min(100)).unwrap_or(0) * WIDTH / 100;
        let bar = if bar {
            format!("[{:<width$}] ", "#".repeat(filled), width = WIDTH)
        } else {
            String::new()
        };
        format!("{bar}{percent:>3} %  {done} of {} rows  {rate:.0}/s  ETA {left}", self.total)
    }
}

/// A time to wait, coarse: `45 s`, `3 min 20 s`, `2 h 5 min`.
pub fn seconds(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from float saturates"
    )]
    let s = seconds.ceil() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_late() {
        let mut progress = FillProgress::new(10_000);
        let at = Duration::from_secs;
        assert_eq!(progress.line(at(0), 0, false), "  0 %  0 of 10000 rows  0/s  ETA -");
        let bar = progress.line(at(2), 5_000, true);
        assert_eq!(bar, "[############            ]  50 %  5000 of 10000 rows  2500/s  ETA 2 s");
        for second in 3..100 {
            progress.line(at(second), 5_000 + second * 10, false);
        }
        let line = progress.line(at(100), 6_000, false);
        assert!(line.ends_with("10/s  ETA 6 min 40 s"), "{line}");
        assert_eq!(seconds(7_500.0), "2 h 5 min");
    }
}
