//! Quantiles over the last minutes: a queue of steps, each with the calls of a moment by slot.
//!
//! Must not: read a clock (times are arguments), or give a quantile where there were no calls.

use std::collections::VecDeque;

use super::grid::{SLOT_EDGES, SLOTS};

/// Half of the least time between two polls, in seconds. What lies closer together is one poll, and
/// a poll that comes so much early or late belongs where it was due.
const JITTER: f64 = 0.5;

/// The calls of one step.
#[derive(Debug, Clone)]
struct Step {
    /// Seconds of its first and of its last addition.
    from: f64,
    to: f64,
    calls: u64,
    exact: u64,
    /// The slots from `first` on. Most statements use a few of them.
    first: usize,
    slots: Vec<f32>,
}

/// A sliding window. Takes 4 bytes for each slot between the fastest and the slowest call of a step,
/// and reuses them; at most 1 KiB a step.
#[derive(Debug, Clone)]
pub struct Recent {
    span: f64,
    step: f64,
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
    /// Remembers the last `span` seconds in steps of `step` seconds. With polls a `step` apart the
    /// window is `span` long; with more frequent ones it is off by half a step at most.
    pub fn new(span: f64, step: f64) -> Self {
        Self { span, step, steps: VecDeque::new() }
    }

    /// Adds calls that ended shortly before `at` seconds. Times should not go back; if they do, the
    /// calls count as of the newest time seen.
    pub fn add(&mut self, at: f64, mass: &[f64; SLOTS], calls: u64, exact: u64) {
        let at = at.max(self.steps.back().map_or(f64::NEG_INFINITY, |step| step.to));
        if self.steps.back().is_none_or(|step| at >= step.from + self.step - JITTER) {
            let mut slots = self.expire(at).unwrap_or_default();
            slots.clear();
            self.steps.push_back(Step { from: at, to: at, calls: 0, exact: 0, first: 0, slots });
        }
        if let Some(step) = self.steps.back_mut() {
            step.to = at;
            step.calls += calls;
            step.exact += exact;
            step.add(mass);
        }
    }

    /// Lets go of what is older than the span, for statements that fell silent. Gives memory that
    /// can be used again.
    pub fn expire(&mut self, at: f64) -> Option<Vec<f32>> {
        let mut free = None;
        while self.steps.front().is_some_and(|step| !self.covers(at, step)) {
            free = self.steps.pop_front().map(|step| step.slots);
        }
        if self.steps.is_empty() {
            self.steps.shrink_to_fit();
        }
        free
    }

    /// Whether the calls of a step ended in the last `span` seconds before `at`: those of a poll ended
    /// before it, so a poll at the very beginning has none.
    fn covers(&self, at: f64, step: &Step) -> bool {
        0.5 * (step.from + step.to) > at - self.span + JITTER
    }

    /// The calls of the last `span` seconds before `at`.
    pub fn over(&self, at: f64) -> Distribution {
        let mut out = Distribution { calls: 0, exact: 0, slots: [0.0; SLOTS], total: 0.0 };
        for step in self.steps.iter().filter(|step| self.covers(at, step)) {
            out.calls += step.calls;
            out.exact += step.exact;
            for (sum, slot) in out.slots[step.first..].iter_mut().zip(&step.slots) {
                *sum += f64::from(*slot);
            }
        }
        out.total = out.slots.iter().sum();
        out
    }
}

impl Step {
    fn add(&mut self, mass: &[f64; SLOTS]) {
        let Some(first) = mass.iter().position(|m| *m > 0.0) else { return };
        let end = mass.iter().rposition(|m| *m > 0.0).map_or(SLOTS, |last| last + 1);
        if self.slots.is_empty() {
            self.first = first;
        }
        if first < self.first {
            self.slots.splice(0..0, std::iter::repeat_n(0.0, self.first - first));
            self.first = first;
        }
        if end > self.first + self.slots.len() {
            self.slots.resize(end - self.first, 0.0);
        }
        for (slot, m) in self.slots.iter_mut().zip(&mass[self.first..]) {
            *slot += single(*m);
        }
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
        let mut recent = Recent::new(60.0, 1.0);
        recent.add(2.0, &one(0.1, 90.0), 90, 3);
        recent.add(50.0, &one(1.5, 10.0), 10, 1);
        let all = recent.over(52.0);
        assert_eq!((all.calls, all.exact_ratio()), (100, Some(0.04)));
        let (p50, p95) = (all.quantile(0.5).unwrap(), all.quantile(0.95).unwrap());
        assert!((p50 / 0.1 - 1.0).abs() < 0.09 && (p95 / 1.5 - 1.0).abs() < 0.09, "{p50} {p95}");
        let late = recent.over(100.0);
        assert_eq!(late.calls, 10);
        assert!(late.quantile(0.01).unwrap() > 1.0);
        assert_eq!(recent.over(200.0).quantile(0.5), None);
        assert_eq!(recent.over(200.0).exact_ratio(), None);
        recent.expire(200.0);
        assert!(recent.steps.is_empty());
    }

    /// Two scans a poll, a poll every `every` seconds, each up to 0.2 s early or late.
    fn polled(span: f64, step: f64, every: u32) -> (Recent, u64) {
        let mut recent = Recent::new(span, step);
        let mut last = 0.0;
        for i in (0..2_000).step_by(every as usize) {
            let at = f64::from(i) + 0.1 * f64::from(i * 7 % 5) - 0.2;
            recent.add(at, &one(0.1, f64::from(every)), u64::from(every), 0);
            recent.add(at + 0.01, &one(0.1, 0.0), 0, 0);
            last = at + 0.01;
        }
        let calls = recent.over(last).calls;
        (recent, calls)
    }

    #[test]
    fn a_window_holds_the_polls_of_its_span_whether_early_or_late() {
        for every in [1, 2, 5] {
            assert_eq!(polled(60.0, 1.0, every).1, 60, "every {every} s");
        }
        let (recent, calls) = polled(300.0, 5.0, 1);
        assert!((297..=303).contains(&calls), "{calls}");
        assert!(recent.steps.len() <= 61, "{}", recent.steps.len());
    }

    #[test]
    fn a_step_grows_to_both_sides() {
        let mut recent = Recent::new(60.0, 1.0);
        for x in [0.1, 0.001, 10.0, 0.1] {
            recent.add(1.0, &one(x, 1.0), 1, 1);
        }
        let all = recent.over(1.0);
        for x in [0.1, 0.001, 10.0] {
            assert_eq!(all.slots[slot(x)], if x == 0.1 { 2.0 } else { 1.0 });
        }
        assert_eq!(all.total, 4.0);
    }

    #[test]
    fn half_the_calls_lie_below_the_median_by_interpolation() {
        let mut recent = Recent::new(60.0, 1.0);
        // Uniform over one octave in the logarithm: the median is its geometric middle.
        let mut mass = [0.0; SLOTS];
        for k in 160..168 {
            super::super::grid::spread(k, 100.0, &mut mass);
        }
        recent.add(0.0, &mass, 800, 0);
        let median = recent.over(0.0).quantile(0.5).unwrap();
        assert!((median - std::f64::consts::SQRT_2).abs() < 1e-9, "{median}");
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone_and_within_the_calls(
            calls in prop::collection::vec((1e-6f64..1000.0, 1u32..100), 1..20),
            mut qs in prop::collection::vec(0.0f64..=1.0, 2..10),
        ) {
            let mut recent = Recent::new(60.0, 1.0);
            for (x, n) in &calls {
                recent.add(1.0, &one(*x, f64::from(*n)), u64::from(*n), 0);
            }
            let window = recent.over(1.0);
            qs.sort_by(f64::total_cmp);
            let values: Vec<f64> = qs.iter().map(|q| window.quantile(*q).unwrap()).collect();
            prop_assert!(values.windows(2).all(|w| w[0] <= w[1]));
            let least = calls.iter().map(|c| c.0).fold(f64::INFINITY, f64::min);
            let most = calls.iter().map(|c| c.0).fold(0.0, f64::max);
            prop_assert!(values[0] >= least / 1.1 && values[values.len() - 1] <= most * 1.1);
        }
    }
}
