//! Quantiles over the last minutes: a queue of steps, each with the calls of a moment by slot, as they are estimated
//! and at their certain bounds.
//!
//! Must not: read a clock (times are arguments), give a quantile where there were no calls, or call certain what is
//! not known of every call.

use std::collections::VecDeque;

use super::bounds::{MOST, rank};
use super::grid::{SLOT_EDGES, SLOTS};
use super::likely::{self, ErrorBar};
use super::placed::{self, PlacedCalls, SlotEnds, UpTo};

/// Half of the least time between two polls, in seconds. What lies closer together is one poll, and
/// a poll that comes so much early or late belongs where it was due.
const JITTER: f64 = 0.5;

/// Calls to be added.
#[derive(Debug, Clone, Copy)]
pub struct FoundCalls<'a> {
    /// Their number.
    pub calls: u64,
    /// How many of them were observed, not estimated.
    pub exact: u64,
    /// How many lie in each slot, by estimate.
    pub mass: &'a [f64; SLOTS],
    /// Where they can lie for certain.
    pub placed: &'a PlacedCalls,
}

/// The calls of one step.
#[derive(Debug, Clone)]
struct WindowStep {
    /// Seconds of its first and of its last addition.
    from: f64,
    to: f64,
    calls: u64,
    exact: u64,
    objective: UpTo,
    slots: SlotSpan<f32>,
    ends: SlotSpan<SlotEnds>,
}

/// What a step has in the slots from `first` on. Most statements use a few of them.
#[derive(Debug, Clone)]
struct SlotSpan<T> {
    first: usize,
    slots: Vec<T>,
}

impl<T> Default for SlotSpan<T> {
    fn default() -> Self {
        Self { first: 0, slots: Vec::new() }
    }
}

/// A sliding window. Takes 4 bytes for each slot between the fastest and the slowest call of a step,
/// and reuses them; at most 1 KiB a step. With certain bounds 12 bytes more for each slot that these touch, at most
/// 4 KiB a step, and 2 KiB for their sums.
#[derive(Debug, Clone)]
pub struct Recent {
    span: f64,
    step: f64,
    steps: VecDeque<WindowStep>,
    bars: Option<Box<Bars>>,
}

/// All steps at their bounds, added up as calls come and taken away as they go.
#[derive(Debug, Clone)]
struct Bars {
    fastest: [u32; SLOTS],
    slowest: [u32; SLOTS],
    objective: UpTo,
    /// Seconds when calls were last added, or lost, of which nothing is certain.
    doubted: f64,
}

/// The calls of a window.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Number of calls.
    pub calls: u64,
    /// How many of them were observed, not estimated.
    pub exact: u64,
    /// Calls up to each edge of [`SLOT_EDGES`].
    cum: [f64; SLOTS + 1],
}

impl Recent {
    /// Remembers the last `span` seconds in steps of `step` seconds. With polls a `step` apart the
    /// window is `span` long; with more frequent ones it is off by half a step at most.
    pub fn new(span: f64, step: f64) -> Self {
        Self { span, step, steps: VecDeque::new(), bars: None }
    }

    /// The same with certain bounds.
    pub fn with_bounds(span: f64, step: f64) -> Self {
        Self { bars: Some(Box::default()), ..Self::new(span, step) }
    }

    /// Adds calls that ended shortly before `at` seconds. Times should not go back; if they do, the
    /// calls count as of the newest time seen.
    pub fn add(&mut self, at: f64, found: &FoundCalls<'_>) {
        let at = at.max(self.steps.back().map_or(f64::NEG_INFINITY, |step| step.to));
        if self.steps.back().is_none_or(|step| at >= step.from + self.step - JITTER) {
            let (mut slots, mut ends) = self.expire(at).unwrap_or_default();
            slots.slots.clear();
            ends.slots.clear();
            let objective = UpTo::default();
            let step = WindowStep { from: at, to: at, calls: 0, exact: 0, objective, slots, ends };
            self.steps.push_back(step);
        }
        let Some(step) = self.steps.back_mut() else { return };
        step.to = at;
        step.calls = step.calls.saturating_add(found.calls);
        step.exact = step.exact.saturating_add(found.exact);
        step.slots.add(found.mass);
        let Some(bars) = &mut self.bars else { return };
        if found.calls > 0 && !found.placed.is_sure() {
            bars.doubted = at;
        }
        step.objective.add(found.placed.objective());
        bars.objective.add(found.placed.objective());
        let (first, ends) = found.placed.slots();
        step.ends.grow(first, first + ends.len(), SlotEnds::NONE);
        let to = &mut step.ends.slots[first - step.ends.first.min(first)..];
        for (to, ends) in to.iter_mut().zip(ends) {
            *to = to.and(*ends);
        }
        bars.add(first, ends, u32::wrapping_add);
    }

    /// Lets go of what is older than the span, for statements that fell silent. Gives memory that
    /// can be used again.
    fn expire(&mut self, at: f64) -> Option<(SlotSpan<f32>, SlotSpan<SlotEnds>)> {
        let mut free = None;
        while self.steps.front().is_some_and(|step| !self.covers(at, step)) {
            let Some(step) = self.steps.pop_front() else { break };
            if let Some(bars) = &mut self.bars {
                bars.objective.remove(step.objective);
                bars.add(step.ends.first, &step.ends.slots, u32::wrapping_sub);
            }
            free = Some((step.slots, step.ends));
        }
        if self.steps.is_empty() {
            self.steps.shrink_to_fit();
        }
        free
    }

    /// Whether the calls of a step ended in the last `span` seconds before `at`: those of a poll ended
    /// before it, so a poll at the very beginning has none.
    fn covers(&self, at: f64, step: &WindowStep) -> bool {
        0.5 * (step.from + step.to) > at - self.span + JITTER
    }

    /// Notes that calls were lost, or counted that are none, shortly before `at` seconds: nothing is certain until
    /// they have left the window.
    pub fn doubt(&mut self, at: f64) {
        if let Some(bars) = &mut self.bars {
            bars.doubted = bars.doubted.max(at);
        }
    }

    /// Puts the calls of the last `span` seconds before `at` into `out`.
    pub fn over(&mut self, at: f64, out: &mut Distribution) {
        self.expire(at);
        (out.calls, out.exact) = (0, 0);
        out.cum.fill(0.0);
        for step in &self.steps {
            out.calls = out.calls.saturating_add(step.calls);
            out.exact = out.exact.saturating_add(step.exact);
            let cum = &mut out.cum[step.slots.first + 1..];
            for (sum, slot) in cum.iter_mut().zip(&step.slots.slots) {
                *sum += f64::from(*slot);
            }
        }
        let mut sum = 0.0;
        for cum in &mut out.cum {
            sum += *cum;
            *cum = sum;
        }
    }

    /// The bounds and the number of all calls of the last `span` seconds before `at`, where something is certain of
    /// them.
    fn sure(&mut self, at: f64) -> Option<(&Bars, u64)> {
        self.expire(at);
        let bars = self.bars.as_deref()?;
        let calls = self.steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.calls));
        let sure = bars.doubted <= at - self.span - self.step;
        (sure && (1..=MOST).contains(&calls)).then_some((bars, calls))
    }

    /// The times between which the `q`-quantile of the last `span` seconds before `at` lies for certain: that is the
    /// call that ⌈q·N⌉ of the N calls do not exceed.
    pub fn certain(&mut self, at: f64, q: f64) -> Option<ErrorBar> {
        let (bars, calls) = self.sure(at)?;
        let rank = rank(q, calls).min(calls);
        let [fastest, slowest] = [&bars.fastest, &bars.slowest].map(|calls| {
            let mut sum = 0;
            calls.iter().position(|calls| {
                sum += u64::from(*calls);
                sum >= rank
            })
        });
        let (first, last) = (fastest?, slowest?);
        // No call is faster or slower within these slots than the ends of any step.
        let ends = |slot: usize| {
            let all = self.steps.iter().filter_map(move |step| step.ends.get(slot));
            all.copied().fold(SlotEnds::NONE, SlotEnds::and)
        };
        let (low, high) =
            (placed::time(first, ends(first).from), placed::time(last, ends(last).to));
        (low <= high).then_some(ErrorBar { low, high })
    }

    /// The bounds of the share of calls that were longer than the objective, for certain.
    pub fn certain_share(&mut self, at: f64) -> Option<ErrorBar> {
        let (bars, calls) = self.sure(at)?;
        let over = |up_to: u32| (1.0 - f64::from(up_to) / calls as f64).max(0.0);
        Some(ErrorBar { low: over(bars.objective.most), high: over(bars.objective.least) })
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self { calls: 0, exact: 0, cum: [0.0; SLOTS + 1] }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self {
            fastest: [0; SLOTS],
            slowest: [0; SLOTS],
            objective: UpTo::default(),
            doubted: f64::NEG_INFINITY,
        }
    }
}

impl Bars {
    fn add(&mut self, first: usize, ends: &[SlotEnds], with: impl Fn(u32, u32) -> u32) {
        let sums = self.fastest[first..].iter_mut().zip(&mut self.slowest[first..]);
        for ((fastest, slowest), ends) in sums.zip(ends) {
            *fastest = with(*fastest, ends.fastest);
            *slowest = with(*slowest, ends.slowest);
        }
    }
}

impl<T: Copy> SlotSpan<T> {
    /// Makes room for the slots up to `end`.
    fn grow(&mut self, first: usize, end: usize, empty: T) {
        if first >= end {
            return;
        }
        if self.slots.is_empty() {
            self.first = first;
        }
        if first < self.first {
            self.slots.splice(0..0, std::iter::repeat_n(empty, self.first - first));
            self.first = first;
        }
        if end > self.first + self.slots.len() {
            self.slots.resize(end - self.first, empty);
        }
    }

    fn get(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot.checked_sub(self.first)?)
    }
}

impl SlotSpan<f32> {
    fn add(&mut self, mass: &[f64; SLOTS]) {
        let Some(first) = mass.iter().position(|m| *m > 0.0) else { return };
        let end = mass.iter().rposition(|m| *m > 0.0).map_or(SLOTS, |last| last + 1);
        self.grow(first, end, 0.0);
        for (slot, m) in self.slots.iter_mut().zip(&mass[self.first..]) {
            *slot += single(*m);
        }
    }
}

impl Distribution {
    /// The `q`-quantile in seconds, interpolated in the logarithm inside a slot. `None` without
    /// calls.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.cum[SLOTS];
        if self.calls == 0 || !(total > 0.0) {
            return None;
        }
        Some(likely::log_quantile(&SLOT_EDGES, &self.cum, q.clamp(0.0, 1.0) * total).exp())
    }

    /// The calls up to `x` seconds.
    pub fn up_to(&self, x: f64) -> f64 {
        likely::calls_up_to(&SLOT_EDGES, &self.cum, x)
    }

    /// The calls whose times were estimated.
    pub fn estimated(&self) -> f64 {
        self.calls.saturating_sub(self.exact) as f64
    }

    /// Where the `q`-quantile lies in about nine of ten cases. `deviation`: see [`likely::interval`].
    pub fn likely(&self, q: f64, deviation: f64, certain: Option<ErrorBar>) -> Option<ErrorBar> {
        let total = self.cum[SLOTS];
        let multiples = likely::multiples(q);
        (self.calls > 0 && total > 0.0).then(|| {
            likely::interval(q, multiples, &SLOT_EDGES, &self.cum, total, deviation, certain)
        })
    }

    /// The part of the calls that took longer than `x` seconds. `None` without calls.
    pub fn share_over(&self, x: f64) -> Option<f64> {
        let total = self.cum[SLOTS];
        (self.calls > 0 && total > 0.0).then(|| (1.0 - self.up_to(x) / total).clamp(0.0, 1.0))
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

    /// Of which nothing is certain.
    fn add(recent: &mut Recent, at: f64, mass: &[f64; SLOTS], calls: u64, exact: u64) {
        recent.add(at, &FoundCalls { calls, exact, mass, placed: &PlacedCalls::default() });
    }

    fn over(recent: &mut Recent, at: f64) -> Distribution {
        let mut out = Distribution::default();
        recent.over(at, &mut out);
        out
    }

    fn one(x: f64, calls: f64) -> [f64; SLOTS] {
        let mut mass = [0.0; SLOTS];
        mass[slot(x)] = calls;
        mass
    }

    #[test]
    fn old_calls_leave_the_window_and_silence_has_no_quantile() {
        let mut recent = Recent::new(60.0, 1.0);
        add(&mut recent, 2.0, &one(0.1, 90.0), 90, 3);
        add(&mut recent, 50.0, &one(1.5, 10.0), 10, 1);
        let all = over(&mut recent, 52.0);
        assert_eq!((all.calls, all.exact_ratio()), (100, Some(0.04)));
        let (p50, p95) = (all.quantile(0.5).unwrap(), all.quantile(0.95).unwrap());
        assert!((p50 / 0.1 - 1.0).abs() < 0.09 && (p95 / 1.5 - 1.0).abs() < 0.09, "{p50} {p95}");
        let late = over(&mut recent, 100.0);
        assert_eq!(late.calls, 10);
        assert!(late.quantile(0.01).unwrap() > 1.0);
        assert_eq!(over(&mut recent, 200.0).quantile(0.5), None);
        assert_eq!(over(&mut recent, 200.0).exact_ratio(), None);
        recent.expire(200.0);
        assert!(recent.steps.is_empty());
    }

    /// Two scans a poll, a poll every `every` seconds, each up to 0.2 s early or late.
    fn polled(span: f64, step: f64, every: u32) -> (Recent, u64) {
        let mut recent = Recent::new(span, step);
        let mut last = 0.0;
        for i in (0..2_000).step_by(every as usize) {
            let at = f64::from(i) + 0.1 * f64::from(i * 7 % 5) - 0.2;
            add(&mut recent, at, &one(0.1, f64::from(every)), u64::from(every), 0);
            add(&mut recent, at + 0.01, &one(0.1, 0.0), 0, 0);
            last = at + 0.01;
        }
        let calls = over(&mut recent, last).calls;
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
            add(&mut recent, 1.0, &one(x, 1.0), 1, 1);
        }
        let all = over(&mut recent, 1.0);
        for x in [0.1, 0.001, 10.0] {
            assert_eq!(all.cum[slot(x) + 1] - all.cum[slot(x)], if x == 0.1 { 2.0 } else { 1.0 });
        }
        assert_eq!(all.cum[SLOTS], 4.0);
    }

    #[test]
    fn half_the_calls_lie_below_the_median_by_interpolation() {
        let mut recent = Recent::new(60.0, 1.0);
        // Uniform over one octave in the logarithm: the median is its geometric middle.
        let mut mass = [0.0; SLOTS];
        for k in 160..168 {
            super::super::grid::spread(k, 100.0, &mut mass);
        }
        add(&mut recent, 0.0, &mass, 800, 0);
        let median = over(&mut recent, 0.0).quantile(0.5).unwrap();
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
                add(&mut recent, 1.0, &one(*x, f64::from(*n)), u64::from(*n), 0);
            }
            let window = over(&mut recent, 1.0);
            qs.sort_by(f64::total_cmp);
            let values: Vec<f64> = qs.iter().map(|q| window.quantile(*q).unwrap()).collect();
            prop_assert!(values.windows(2).all(|w| w[0] <= w[1]));
            let least = calls.iter().map(|c| c.0).fold(f64::INFINITY, f64::min);
            let most = calls.iter().map(|c| c.0).fold(0.0, f64::max);
            prop_assert!(values[0] >= least / 1.1 && values[values.len() - 1] <= most * 1.1);
        }
    }
}
