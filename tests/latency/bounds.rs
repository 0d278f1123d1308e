//! What is certain of the latencies: against the reference's vectors, as sharp as constructed samples show, and true
//! of every window of rows that count as the server does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;

use pgrunway::derive::latency::bounds::{CallGroup, CallGroups, rank};
use pgrunway::derive::latency::grid::{SLOT_EDGES, SLOTS, slot};
use pgrunway::derive::latency::likely::{self, Learnt};
use pgrunway::derive::latency::{
    Cumulative, ErrorBar, Estimator, FoundCalls, Interval, MomentStep, PlacedCalls, Recent, Scratch,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

/// n, mean, error of the sum, M2, its error, low, high.
type Recorded = (u64, f64, f64, f64, f64, f64, f64);

#[derive(Deserialize)]
struct Vectors {
    count_bounds: Vec<Counted>,
    records: Vec<Divided>,
    windows: Vec<Windowed>,
    likely: Vec<Likely>,
}

#[derive(Deserialize)]
struct Counted {
    r#in: (u64, f64, f64, f64, f64, f64, f64, f64),
    out: (u64, u64),
}

#[derive(Deserialize)]
struct Divided {
    r#in: Figures,
    out: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Figures {
    n: u64,
    total: f64,
    m2: f64,
    total_error: f64,
    m2_error: f64,
    low: f64,
    high: f64,
    new_max: Option<f64>,
    new_min: Option<f64>,
}

#[derive(Deserialize)]
struct Windowed {
    records: Vec<Recorded>,
    quantiles: Vec<(f64, f64, f64)>,
    shares: Vec<(f64, f64, f64)>,
}

#[derive(Deserialize)]
struct Likely {
    first: i32,
    cum: Vec<f64>,
    calls: f64,
    estimated: f64,
    exact_weight: f64,
    quantiles: Vec<Quantile>,
}

#[derive(Deserialize)]
struct Quantile {
    q: f64,
    share: f64,
    learnt_share: f64,
    certain: (f64, f64),
    sd: f64,
    out: (f64, f64, f64),
}

fn group((n, mean, sum_error, m2, m2_error, low, high): Recorded) -> CallGroup {
    CallGroup { n, mean, sum_error, m2, m2_error, low, high }
}

/// The groups of a window as they are, without a grid: what the grid is held to.
struct Oracle(Vec<CallGroup>);

impl Oracle {
    fn counts(&self, t: f64) -> (u64, u64) {
        self.0.iter().map(|g| g.counts(t)).fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1))
    }

    fn calls(&self) -> u64 {
        self.0.iter().map(|g| g.n).sum()
    }

    /// By bisection, to a thousandth. `edge` calls at either end of the window may be others: those by which a
    /// clock's minute differs from the polls'.
    fn quantile(&self, q: f64, edge: u64) -> ErrorBar {
        let (calls, r) = (self.calls(), rank(q, self.calls()));
        let (first, last) = (r.saturating_sub(edge).max(1), (r + edge).min(calls));
        let least = self.0.iter().map(|g| g.low).fold(f64::INFINITY, f64::min);
        let most = self.0.iter().map(|g| g.high).fold(0.0, f64::max).min(1e12);
        let least = least.max(1e-7) * (1.0 - 1e-9);
        let bisect = |below: &dyn Fn(f64) -> bool| {
            let (mut low, mut high) = (least, most);
            while high > low * 1.001 {
                let t = (low * high).sqrt();
                if below(t) { low = t } else { high = t }
            }
            (low, high)
        };
        let low = if self.counts(least).1 < first {
            bisect(&|t| self.counts(t).1 < first).0
        } else {
            least
        };
        ErrorBar { low, high: bisect(&|t| self.counts(t).0 < last).1 }
    }

    fn share(&self, objective: f64) -> ErrorBar {
        let (least, most) = self.counts(objective);
        let calls = self.calls() as f64;
        ErrorBar { low: 1.0 - most as f64 / calls, high: 1.0 - least as f64 / calls }
    }
}

fn near(a: f64, b: f64, part: f64) -> bool {
    (a - b).abs() <= part * a.abs().max(b.abs()) + 1e-12
}

#[test]
fn the_bounds_are_those_of_the_reference() {
    let vectors: Vectors = serde_json::from_str(include_str!("../vectors/bounds.json")).unwrap();
    assert_eq!((vectors.count_bounds.len(), vectors.records.len()), (160, 30));
    assert_eq!((vectors.windows.len(), vectors.likely.len()), (5, 13));
    for Counted { r#in: (n, mean, e, m2, m2_e, low, high, t), out } in vectors.count_bounds {
        let group = group((n, mean, e, m2, m2_e, low, high));
        assert_eq!(group.counts(t), out, "{group:?} at {t}");
    }
    for Divided { r#in: f, out } in vectors.records {
        // The reference is given hard errors.
        let interval = Interval {
            calls: f.n,
            total: f.total,
            m2: f.m2,
            m2_error: f.m2_error / 4.0,
            total_error: f.total_error / 4.0,
            low: f.low,
            high: f.high,
            new_min: f.new_min,
            new_max: f.new_max,
        };
        let groups = CallGroups::of(&interval).unwrap();
        assert_eq!(groups.iter().count(), out.len(), "{interval:?}");
        for (got, want) in groups.iter().zip(out.into_iter().map(group)) {
            let all = |g: &CallGroup| match g.n {
                1 => vec![g.low, g.high],
                n => vec![n as f64, g.mean, g.sum_error, g.m2, g.m2_error, g.low, g.high],
            };
            let equal = all(got).iter().zip(all(&want)).all(|(a, b)| near(*a, b, 1e-9));
            assert!(equal && got.n == want.n, "{got:?} for {want:?}");
        }
    }
    for window in vectors.windows {
        let oracle = Oracle(window.records.into_iter().map(group).collect());
        for (q, low, high) in window.quantiles {
            let got = oracle.quantile(q, 0);
            assert!(near(got.low, low, 2e-3) && near(got.high, high, 2e-3), "{q}: {got:?}");
        }
        for (objective, low, high) in window.shares {
            let got = oracle.share(objective);
            assert!(near(got.low, low, 1e-9) && near(got.high, high, 1e-9), "{objective}: {got:?}");
        }
    }
    for window in vectors.likely {
        let edge = |k: usize| 2f64.powf((k as f64 + f64::from(window.first)) / 8.0 - 10.0);
        let edges: Vec<f64> = (0..window.cum.len()).map(edge).collect();
        for w in window.quantiles {
            let learnt = Learnt { exact: window.exact_weight, share: Some(w.learnt_share) };
            let sd = likely::deviation(w.share, window.estimated, learnt);
            let certain = ErrorBar { low: w.certain.0, high: w.certain.1 };
            let point = likely::log_quantile(&edges, &window.cum, w.q * window.calls).exp();
            let point = point.clamp(certain.low, certain.high);
            // The reference's; ours were fitted to more.
            let multiples = [(0.5, (1.2, 1.3)), (0.95, (2.0, 0.8)), (0.99, (1.7, 0.8))];
            let (_, multiples) = multiples.into_iter().find(|(q, _)| *q == w.q).unwrap();
            let (cum, calls) = (&window.cum, window.calls);
            let got = likely::interval(w.q, multiples, &edges, cum, calls, sd, Some(certain));
            let equal = [(sd, w.sd), (point, w.out.0), (got.low, w.out.1), (got.high, w.out.2)];
            assert!(equal.iter().all(|(a, b)| near(*a, *b, 1e-6)), "{}: {equal:?}", w.q);
        }
    }
}

fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean) * (x - mean)).sum())
}

/// Latencies of which `k` are up to `t`, with the moments and within the bounds of the group; `None` if there are none.
/// Between a sample with the least second moment and one with the most there is one with any other.
fn witness(group: &CallGroup, k: u64, t: f64) -> Option<Vec<f64>> {
    let CallGroup { n, mean, m2, low, high, .. } = *group;
    let (up_to, over) = (usize::try_from(k).unwrap(), usize::try_from(n - k).unwrap());
    let (k, others) = (k as f64, (n - k) as f64);
    let d = n as f64 * (mean - t);
    let (below, above) = (t - low, high - t);
    let all = |parts: &[(f64, usize)]| -> Vec<f64> {
        parts.iter().flat_map(|(x, times)| std::iter::repeat_n(*x, *times)).collect()
    };
    let near = if mean > t {
        (over > 0).then(|| all(&[(t, up_to), (t + d / others, over)]))?
    } else {
        (up_to > 0).then(|| all(&[(t + d / k, up_to), (t, over)]))?
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few calls")]
    let whole = |x: f64| x as usize;
    let far = if others * above - k * below <= d || below <= 0.0 {
        let down = if below > 0.0 { ((others * above - d) / below).clamp(0.0, k) } else { 0.0 };
        let w = whole(down);
        let inside = usize::from(w < up_to);
        all(&[(low, w), (t - down.fract() * below, inside), (t, up_to - w - inside), (high, over)])
    } else {
        let up = ((d + k * below) / above).clamp(0.0, others);
        let w = whole(up);
        let inside = usize::from(w < over);
        all(&[(low, up_to), (high, w), (t + up.fract() * above, inside), (t, over - w - inside)])
    };
    let spread = |x: &[f64]| x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    if spread(&near) - 1e-9 * m2 > m2 || m2 > spread(&far) + 1e-9 * m2 {
        return None;
    }
    let between = |c: f64| -> Vec<f64> {
        near.iter().zip(&far).map(|(near, far)| (1.0 - c) * near + c * far).collect()
    };
    let (mut from, mut to) = (0.0, 1.0);
    for _ in 0..200 {
        let c = f64::midpoint(from, to);
        if spread(&between(c)) < m2 { from = c } else { to = c }
    }
    Some(between(f64::midpoint(from, to)))
}

#[test]
fn the_bounds_hold_and_are_attained_by_constructed_samples() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut asked, mut attained) = (0, 0);
    for _ in 0..4_000 {
        let sigma = [0.2, 0.6, 1.5][rng.random_range(0..3)];
        let x: Vec<f64> =
            (0..rng.random_range(3..=12)).map(|_| (sigma * gauss(&mut rng)).exp()).collect();
        let (mean, m2) = moments(&x);
        let low =
            x.iter().copied().fold(f64::INFINITY, f64::min) * [1.0, 0.5][rng.random_range(0..2)];
        let high = x.iter().copied().fold(0.0, f64::max) * [1.0, 3.0][rng.random_range(0..2)];
        let t = x[rng.random_range(0..x.len())] * [0.7, 0.999, 1.001, 1.3][rng.random_range(0..4)];
        let n = x.len() as u64;
        let (sum_error, m2_error) = (1e-12 * mean, 1e-11 * m2);
        let group = CallGroup { n, mean, sum_error, m2, m2_error, low, high };
        let (least, most) = group.counts(t);
        let true_count = x.iter().filter(|x| **x <= t).count() as u64;
        assert!(least <= true_count && true_count <= most, "{x:?} at {t}: {least} to {most}");
        if !(low < t && t < high) {
            continue;
        }
        for k in [least, most] {
            asked += 1;
            let Some(sample) = witness(&group, k, t) else { continue };
            let (m, s) = moments(&sample);
            assert!((m - mean).abs() < 1e-6 * mean && (s - m2).abs() < 1e-6 * m2 + 1e-12);
            attained += 1;
        }
    }
    println!("{asked} bounds asked, {attained} attained");
    assert!(
        asked > 5_000 && f64::from(attained) > 0.98 * f64::from(asked),
        "{attained} of {asked}"
    );
}

fn gauss(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A row of the view, in milliseconds and by Welford's algorithm as the server keeps it.
struct Row {
    calls: u64,
    total: f64,
    mean: f64,
    m2: f64,
    min: f64,
    max: f64,
}

impl Row {
    /// A row with a long past: many calls, some of which took minutes.
    fn after(calls: u64, mean: f64, m2: f64, min: f64, max: f64) -> Self {
        Self { calls, total: mean * calls as f64, mean, m2, min, max }
    }

    fn call(&mut self, ms: f64) {
        self.calls += 1;
        self.total += ms;
        (self.min, self.max) = (self.min.min(ms), self.max.max(ms));
        let before = self.mean;
        self.mean += (ms - before) / self.calls as f64;
        self.m2 += (ms - before) * (ms - self.mean);
    }

    /// As it is read: the view shows the root, and the poller takes seconds.
    fn read(&self) -> Cumulative {
        let second = |ms: f64| ms / 1e3;
        Cumulative {
            calls: self.calls,
            total: second(self.total),
            min: second(if self.calls == 0 { 0.0 } else { self.min }),
            max: second(self.max),
            mean: second(self.mean),
            stddev: second(if self.calls == 0 {
                0.0
            } else {
                (self.m2 / self.calls as f64).sqrt()
            }),
            extremes_since: 0.0,
        }
    }
}

/// What there is of statements: calls a second, and the latencies in ms.
fn latency(kind: usize, rng: &mut StdRng) -> f64 {
    let x = match kind % 5 {
        0 => 2.0 * (0.4 * gauss(rng)).exp(),
        1 => 0.02 * (1.2 * gauss(rng)).exp(),
        // Two modes.
        2 if rng.random_bool(0.06) => 120.0 * (0.2 * gauss(rng)).exp(),
        2 => 0.5 * (0.2 * gauss(rng)).exp(),
        // A heavy tail.
        3 => 1.0 / (1.0 - rng.random::<f64>()).powf(1.0 / 1.5),
        _ => 20.0 + 60.0 * rng.random::<f64>(),
    };
    // Now and then one that waited for ten minutes.
    let x = if rng.random_bool(2e-4) { 600_000.0 } else { x };
    // The server counts in nanoseconds.
    ((x * 1e6).round() / 1e6).max(1e-3)
}

/// The windows of one statement over some minutes, each with what really happened.
fn watch(
    kind: usize,
    rate: f64,
    seed: u64,
    mut row: Row,
    mut check: impl FnMut(&mut Recent, f64, &[f64], &Oracle),
) {
    const OBJECTIVE: f64 = 0.047;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut recent = Recent::with_bounds(60.0, 1.0);
    let (mut estimator, mut scratch, mut placed) =
        (Estimator::default(), Scratch::default(), PlacedCalls::default());
    let mut truth: VecDeque<(f64, Vec<f64>, CallGroups)> = VecDeque::new();
    let (mut before, mut contradicted) = (row.read(), 0);
    for second in 1..=150u32 {
        for (at, part) in [(f64::from(second), 1.0), (f64::from(second) + 0.01, 0.01)] {
            let expected = rate * part;
            let mut calls = Vec::new();
            let mut due = -(1.0 - rng.random::<f64>()).ln();
            while due < expected {
                let ms = latency(kind, &mut rng);
                row.call(ms);
                calls.push(ms / 1e3);
                due -= (1.0 - rng.random::<f64>()).ln();
            }
            let now = row.read();
            let step = now.since(&before);
            before = now;
            let (interval, sound) = match step {
                MomentStep::Idle => continue,
                MomentStep::Progress(interval) => (interval, true),
                // After 10⁹ calls a mean is no better than this.
                MomentStep::Inconsistent(interval) => (interval, false),
                other => panic!("{other:?} of {calls:?}"),
            };
            let observed = estimator.observe(1.0, &interval, &mut scratch);
            if sound {
                placed.place(&interval, OBJECTIVE);
            } else {
                placed.clear();
                contradicted = second;
            }
            assert_eq!(placed.is_sure(), sound);
            let found = FoundCalls {
                calls: interval.calls,
                exact: observed.exact,
                mass: scratch.mass(),
                placed: &placed,
            };
            recent.add(at, &found);
            truth.push_back((at, calls, CallGroups::of(&interval).unwrap()));
        }
        let end = f64::from(second) + 0.01;
        while truth.front().is_some_and(|(at, ..)| *at <= end - 60.0 + 0.5) {
            truth.pop_front();
        }
        let mut calls: Vec<f64> = truth.iter().flat_map(|(_, calls, _)| calls.clone()).collect();
        if calls.is_empty() || second % 13 != 0 {
            continue;
        }
        if contradicted > 0 && second - contradicted < 61 {
            let certain = recent.certain(end, 0.5);
            assert_eq!(certain, None, "{}", second - contradicted);
            continue;
        }
        calls.sort_by(f64::total_cmp);
        let oracle = Oracle(truth.iter().flat_map(|(.., groups)| groups.iter().copied()).collect());
        check(&mut recent, end, &calls, &oracle);
        let share = recent.certain_share(end).unwrap();
        let over = calls.iter().filter(|x| **x > OBJECTIVE).count() as f64 / calls.len() as f64;
        assert!(share.low <= over + 1e-12 && over <= share.high + 1e-12, "{over} not in {share:?}");
        assert_eq!(share, oracle.share(OBJECTIVE), "the objective is no edge of the grid");
    }
}

/// Rows that begin, and rows of a long past, which rounding has blurred.
fn rows() -> [Row; 3] {
    [
        Row { calls: 0, total: 0.0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: 0.0 },
        Row::after(2_000_000, 3.0, 2e7, 0.001, 5_000.0),
        Row::after(1_000_000_000, 2.5, 1e9 * 40.0 + 600_000.0 * 600_000.0, 0.001, 600_000.0),
    ]
}

#[test]
fn every_quantile_of_every_window_lies_within_its_bounds() {
    let (mut windows, mut narrow) = (0, 0);
    for kind in 0..5 {
        for (i, rate) in [0.4, 4.0, 40.0, 400.0].into_iter().enumerate() {
            for (j, row) in rows().into_iter().enumerate() {
                let seed = (kind * 100 + i * 10 + j) as u64;
                watch(kind, rate, seed, row, |recent, at, calls, oracle| {
                    for q in [0.01, 0.5, 0.95, 0.99, 1.0] {
                        let place = format!("kind {kind}, {rate}/s, row {j}, at {at}, p{q}");
                        let truth =
                            calls[usize::try_from(rank(q, calls.len() as u64)).unwrap() - 1];
                        let got = recent.certain(at, q).unwrap();
                        let holds =
                            got.low <= truth * (1.0 + 1e-9) && truth <= got.high * (1.0 + 1e-9);
                        assert!(holds, "{place}: {truth} not in {got:?}");
                        windows += 1;
                        narrow += usize::from(got.high <= got.low * 1.002);
                        if q != 0.5 && q != 0.99 {
                            continue;
                        }
                        // The grid costs a slot at the most.
                        let exact = oracle.quantile(q, 0);
                        assert!(got.low <= exact.low * 1.0011 && exact.high <= got.high * 1.0011);
                        let (low, high) = (slot(exact.low * 1.0011), slot(exact.high / 1.0011));
                        let fits = slot(got.low * 1.0011) >= low.saturating_sub(1)
                            && slot(got.high / 1.0011) <= (high + 1).min(SLOTS - 1);
                        assert!(fits, "{place}: {got:?} for {exact:?}");
                        // A clock's minute that lacks two calls of the polls', the slowest or the fastest.
                        if calls.len() > 2 {
                            let clock = oracle.quantile(q, 2);
                            for moved in [&calls[2..], &calls[..calls.len() - 2]] {
                                let r = usize::try_from(rank(q, moved.len() as u64)).unwrap();
                                let truth = moved[r - 1];
                                let holds =
                                    clock.low <= truth * 1.001 && truth <= clock.high * 1.001;
                                assert!(holds, "{place}: {truth} not in {clock:?}");
                            }
                        }
                    }
                });
            }
        }
    }
    println!("{windows} quantiles of windows, {narrow} of them known to a five-hundredth");
    assert!(windows > 2_500 && narrow > windows / 6, "{narrow} of {windows}");
}

#[test]
fn what_is_lost_or_no_figure_leaves_nothing_certain_until_it_has_left_the_window() {
    let interval = |total: f64| Interval {
        calls: 3,
        total,
        m2: 1e-6,
        m2_error: 0.0,
        total_error: 0.0,
        low: 0.001,
        high: 0.1,
        new_min: None,
        new_max: None,
    };
    let mut recent = Recent::with_bounds(60.0, 1.0);
    let mut placed = PlacedCalls::default();
    let mut add = |recent: &mut Recent, at: f64, total: f64| {
        placed.place(&interval(total), 0.05);
        let mut mass = [0.0; SLOTS];
        mass[slot(total / 3.0)] = 3.0;
        recent.add(at, &FoundCalls { calls: 3, exact: 0, mass: &mass, placed: &placed });
    };
    add(&mut recent, 1.0, 0.03);
    let certain = recent.certain(1.0, 0.5).unwrap();
    assert!(certain.low <= 0.01 && certain.high >= 0.01, "{certain:?}");
    assert_eq!(recent.certain_share(1.0), Some(ErrorBar { low: 0.0, high: 0.0 }));
    add(&mut recent, 2.0, f64::NAN);
    assert_eq!((recent.certain(2.0, 0.5), recent.certain_share(2.0)), (None, None));
    add(&mut recent, 50.0, 0.03);
    assert_eq!(recent.certain(61.0, 0.5), None, "it may still be within the window");
    assert!(recent.certain(64.0, 0.5).is_some());
    recent.doubt(65.0);
    assert_eq!(recent.certain(65.0, 0.5), None);
    add(&mut recent, 100.0, 0.03);
    assert!(recent.certain(128.0, 0.5).is_some());
    // Without calls there is nothing to say.
    assert_eq!((recent.certain(500.0, 0.5), recent.certain_share(500.0)), (None, None));
    let mut plain = Recent::new(60.0, 1.0);
    add(&mut plain, 1.0, 0.03);
    assert_eq!(plain.certain(1.0, 0.5), None);
}

fn any_figure() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), 0f64..10.0, Just(0.0), Just(f64::INFINITY), Just(f64::NAN)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_the_figures_the_bounds_are_in_order_or_absent(
        intervals in prop::collection::vec(
            (prop_oneof![0u64..30, any::<u64>()], prop::array::uniform8(any_figure()), any::<(bool, bool)>()), 1..8),
        objective in any_figure(),
    ) {
        let mut recent = Recent::with_bounds(60.0, 1.0);
        let mut placed = PlacedCalls::default();
        for (at, (calls, f, (fell, rose))) in intervals.into_iter().enumerate() {
            let interval = Interval {
                calls, total: f[0], m2: f[1], m2_error: f[2], total_error: f[3], low: f[4], high: f[5],
                new_min: fell.then_some(f[6]), new_max: rose.then_some(f[7]),
            };
            placed.place(&interval, objective);
            let mass = [0.0; SLOTS];
            recent.add(at as f64, &FoundCalls { calls, exact: 0, mass: &mass, placed: &placed });
            for q in [0.0, 0.5, 0.99, 1.0] {
                if let Some(range) = recent.certain(at as f64, q) {
                    prop_assert!(range.low <= range.high && range.low >= 0.0, "{range:?}");
                }
            }
            if let Some(share) = recent.certain_share(at as f64) {
                prop_assert!(0.0 <= share.low && share.low <= share.high && share.high <= 1.0);
            }
        }
    }

    #[test]
    fn a_likely_interval_is_in_order_and_within_what_is_certain(
        masses in prop::collection::vec((0usize..SLOTS, 0.0f64..50.0), 1..20),
        q in 0.0f64..=1.0, deviation in 0.0f64..500.0, low in 1e-5f64..10.0, wide in 1.0f64..100.0, known: bool,
    ) {
        let mut cum = vec![0.0; SLOTS + 1];
        for (slot, mass) in masses {
            cum[slot + 1] += mass + 0.1;
        }
        for k in 1..=SLOTS {
            cum[k] += cum[k - 1];
        }
        let certain = known.then_some(ErrorBar { low, high: low * wide });
        let got = likely::interval(q, likely::multiples(q), &SLOT_EDGES, &cum, cum[SLOTS], deviation, certain);
        prop_assert!(got.low <= got.high, "{got:?}");
        if let Some(certain) = certain {
            prop_assert!(certain.low <= got.low && got.high <= certain.high, "{got:?} in {certain:?}");
        }
    }
}
