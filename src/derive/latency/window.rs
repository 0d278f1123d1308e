//! Quantiles over the last minutes: a ring of steps, each with the calls of a few seconds by slot.
//!
//! Must not: read a clock (times are arguments), or give a quantile where there were no calls.

use std::collections::VecDeque;

use super::grid::{SLOT_EDGES, SLOTS};

/// Seconds in one step of the ring: a window is this much longer than asked for, at most.
const STEP: f64 = 5.0;

/// The calls of one step.
#[derive(Debug, Clone)]
struct Step {
    number: i64,
    calls: u64,
    exact: u64,
    slots: Box<[f32; SLOTS]>,
}

/// A sliding window of at most `span` seconds. Takes 1 KiB for each step in which there were calls,
/// and reuses it.
#[derive(Debug, Clone)]
pub struct Recent {
    span: f64,
    steps: VecDeque<Step>,
}

/// The calls of a window.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Number of calls.
    pub calls: u64,
    /// How many of them were observed, not estimated.
    pub exact: u64,
    slots: [f64; SLOTS],
    total: f64,
}

impl Recent {
    /// Remembers the last `span` seconds.
    pub fn new(span: f64) -> Self {
        Self { span, steps: VecDeque::new() }
    }

    /// Adds calls that ended at about `at` seconds. Times should not go back; if they do, the calls
    /// count as of the newest time seen.
    pub fn add(&mut self, at: f64, mass: &[f64; SLOTS], calls: u64, exact: u64) {
        let number = step_number(at).max(self.steps.back().map_or(i64::MIN, |s| s.number));
        if self.steps.back().is_none_or(|step| step.number < number) {
            let oldest = step_number(at - self.span);
            let mut free = None;
            while self.steps.front().is_some_and(|step| step.number < oldest) {
                free = self.steps.pop_front().map(|step| step.slots);
            }
            let mut slots = free.unwrap_or_else(|| Box::new([0.0; SLOTS]));
            slots.fill(0.0);
            self.steps.push_back(Step { number, calls: 0, exact: 0, slots });
        }
        if let Some(step) = self.steps.back_mut() {
            step.calls += calls;
            step.exact += exact;
            for (slot, m) in step.slots.iter_mut().zip(mass) {
                *slot += single(*m);
            }
        }
    }

    /// Lets go of what is older than the span, for statements that fell silent.
    pub fn expire(&mut self, at: f64) {
        let oldest = step_number(at - self.span);
        while self.steps.front().is_some_and(|step| step.number < oldest) {
            self.steps.pop_front();
        }
        if self.steps.is_empty() {
            self.steps.shrink_to_fit();
        }
    }

    /// The calls of the last `span` seconds before `at`.
    pub fn over(&self, at: f64, span: f64) -> Distribution {
        let oldest = step_number(at - span);
        let mut out = Distribution { calls: 0, exact: 0, slots: [0.0; SLOTS], total: 0.0 };
        for step in self.steps.iter().filter(|step| step.number >= oldest) {
            out.calls += step.calls;
            out.exact += step.exact;
            for (sum, slot) in out.slots.iter_mut().zip(step.slots.iter()) {
                *sum += f64::from(*slot);
            }
        }
        out.total = out.slots.iter().sum();
        out
    }
}

impl Distribution {
    /// The `q`-quantile in seconds, interpolated in the logarithm inside a slot. `None` without
    /// calls.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.calls == 0 || !(self.total > 0.0) {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * self.total;
        let mut below = 0.0;
        let mut found = None;
        for (slot, count) in self.slots.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let part = ((rank - below) / count).clamp(0.0, 1.0);
            found = Some((slot, part));
            below += count;
            // The sum may miss the rank by rounding, which must not skip to the next slot.
            if below >= rank - 1e-6 * self.total.min(1.0) {
                break;
            }
        }
        let (slot, part) = found?;
        let (low, high) = (SLOT_EDGES[slot], SLOT_EDGES[slot + 1]);
        Some(low * (high / low).powf(part))
    }

    /// The part of the calls that were observed, not estimated. `None` without calls.
    pub fn exact_ratio(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.exact.min(self.calls) as f64 / self.calls as f64)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since the start; the cast saturates")]
fn step_number(at: f64) -> i64 {
    (at / STEP).floor() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "a window's counts need no more digits")]
fn single(m: f64) -> f32 {
    m as f32
}

#[cfg(test)]
mod tests {
    use super::super::grid::slot;
    use super::*;
    use proptest::prelude::*;

    fn one(x: f64, calls: f64) -> [f64; SLOTS] {
        let mut mass = [0.0; SLOTS];
        mass[slot(x)] = calls;
        mass
    }

    #[test]
    fn old_calls_leave_the_window_and_silence_has_no_quantile() {
        let mut recent = Recent::new(300.0);
        recent.add(2.0, &one(0.1, 90.0), 90, 3);
        recent.add(50.0, &one(1.5, 10.0), 10, 1);
        let all = recent.over(52.0, 60.0);
        assert_eq!((all.calls, all.exact_ratio()), (100, Some(0.04)));
        let (p50, p95) = (all.quantile(0.5).unwrap(), all.quantile(0.95).unwrap());
        assert!((p50 / 0.1 - 1.0).abs() < 0.09 && (p95 / 1.5 - 1.0).abs() < 0.09, "{p50} {p95}");
        let late = recent.over(100.0, 60.0);
        assert_eq!(late.calls, 10);
        assert!(late.quantile(0.01).unwrap() > 1.0);
        assert_eq!(recent.over(100.0, 300.0).calls, 100);
        assert_eq!(recent.over(400.0, 60.0).quantile(0.5), None);
        assert_eq!(recent.over(400.0, 60.0).exact_ratio(), None);
        recent.expire(400.0);
        assert!(recent.steps.is_empty());
    }

    #[test]
    fn steps_are_reused_and_bounded() {
        let mut recent = Recent::new(300.0);
        for i in 0..10_000 {
            recent.add(f64::from(i), &one(0.1, 1.0), 1, 1);
        }
        assert!(recent.steps.len() <= 62, "{}", recent.steps.len());
        let calls = recent.over(9_999.0, 300.0).calls;
        assert!((300..=305).contains(&calls), "{calls}");
    }

    #[test]
    fn half_the_calls_lie_below_the_median_by_interpolation() {
        let mut recent = Recent::new(60.0);
        // Uniform over one octave in the logarithm: the median is its geometric middle.
        let mut mass = [0.0; SLOTS];
        for k in 160..168 {
            super::super::grid::spread(k, 100.0, &mut mass);
        }
        recent.add(0.0, &mass, 800, 0);
        let median = recent.over(0.0, 60.0).quantile(0.5).unwrap();
        assert!((median - std::f64::consts::SQRT_2).abs() < 1e-9, "{median}");
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone_and_within_the_calls(
            calls in prop::collection::vec((1e-6f64..1000.0, 1u32..100), 1..20),
            mut qs in prop::collection::vec(0.0f64..=1.0, 2..10),
        ) {
            let mut recent = Recent::new(60.0);
            for (x, n) in &calls {
                recent.add(1.0, &one(*x, f64::from(*n)), u64::from(*n), 0);
            }
            let window = recent.over(1.0, 60.0);
            qs.sort_by(f64::total_cmp);
            let values: Vec<f64> = qs.iter().map(|q| window.quantile(*q).unwrap()).collect();
            prop_assert!(values.windows(2).all(|w| w[0] <= w[1]));
            let least = calls.iter().map(|c| c.0).fold(f64::INFINITY, f64::min);
            let most = calls.iter().map(|c| c.0).fold(0.0, f64::max);
            prop_assert!(values[0] >= least / 1.1 && values[values.len() - 1] <= most * 1.1);
        }
    }
}
