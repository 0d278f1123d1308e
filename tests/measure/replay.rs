//! A recorded run (see [`super::record`]) through the estimator, with the scans that one asks for: seconds instead of
//! the 20 minutes of a run.
//!
//! Must not: go on where the view forgot; what the collector does then only a run shows.

#![allow(clippy::cast_possible_truncation, reason = "numbers of calls")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

use pgrunway::derive::latency::likely;
use pgrunway::derive::latency::{
    Cumulative, Distribution, ErrorBar, Estimator, FoundCalls, MomentStep, PlacedCalls, Recent,
    Scratch,
};

/// Role and queryid.
type Key = (String, i64);

/// Quantiles that are looked at.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// Upper bounds of the classes of call rates, per second.
const CLASSES: [u32; 4] = [1, 10, 100, 1_000];
/// Seconds of a window, of which every fifth is looked at, and which has at least so many calls.
const WINDOW: f64 = 60.0;
const EVERY: usize = 5;
const FEWEST: u64 = 20;
/// Seconds before the first window, in which the shapes are learnt.
const WARM_UP: f64 = 120.0;
/// The log rounds to whole microseconds.
const LOG: f64 = 0.55e-6;

struct Scanned {
    /// Index into the recorder's offsets.
    place: usize,
    unix: f64,
    rows: Vec<(usize, Cumulative)>,
}

/// What was recorded.
pub struct Recording {
    keys: Vec<Key>,
    scans: Vec<Scanned>,
    /// Seconds of each call, by key, in the order in which they ended.
    calls: Vec<Vec<f64>>,
}

/// One quantile of one window, and what was said of it.
pub struct Outcome {
    key: usize,
    q: f64,
    calls: u64,
    truth: f64,
    point: f64,
    likely: ErrorBar,
    certain: Option<ErrorBar>,
}

/// One statement.
struct Followed {
    time: Cumulative,
    observed: f64,
    estimator: Estimator,
    recent: Recent,
}

impl Recording {
    /// Reads the files `scans` and `calls` of a folder.
    pub fn read(dir: &Path) -> Self {
        let mut this = Self { keys: Vec::new(), scans: Vec::new(), calls: Vec::new() };
        let mut known = HashMap::new();
        let text = std::fs::read_to_string(dir.join("scans")).unwrap();
        for line in text.lines() {
            let mut fields = line.split(' ');
            let first = fields.next().unwrap();
            let numbers: Option<Vec<f64>> = fields.map(|field| field.parse().ok()).collect();
            // The last line may be cut off where the run still goes on.
            let Some(numbers) = numbers else { continue };
            if first == "S" && numbers.len() == 2 {
                let (place, unix) = (index(numbers[0]), numbers[1]);
                this.scans.push(Scanned { place, unix, rows: Vec::new() });
            } else if numbers.len() == 8 {
                let queryid = line.split(' ').nth(1).unwrap().parse().unwrap();
                let key = (first.to_owned(), queryid);
                let next = known.len();
                let key = *known.entry(key.clone()).or_insert_with(|| {
                    this.keys.push(key);
                    next
                });
                let time = Cumulative {
                    calls: index(numbers[1]) as u64,
                    total: numbers[2] / 1e3,
                    min: numbers[3] / 1e3,
                    max: numbers[4] / 1e3,
                    mean: numbers[5] / 1e3,
                    stddev: numbers[6] / 1e3,
                    extremes_since: numbers[7],
                };
                this.scans.last_mut().unwrap().rows.push((key, time));
            }
        }
        this.calls = this.keys.iter().map(|_| Vec::new()).collect();
        let text = std::fs::read_to_string(dir.join("calls")).unwrap();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [role, queryid, _, milliseconds] = fields[..] else { continue };
            let key = (role.to_owned(), queryid.parse().unwrap());
            if let (Some(key), Ok(ms)) = (known.get(&key), milliseconds.parse::<f64>()) {
                this.calls[*key].push(ms / 1e3);
            }
        }
        this
    }

    /// What would have been said with the scans at these places of the recorder's offsets, of which the last of a
    /// second is where it is looked at.
    pub fn replay(&self, places: &[usize], looked_at: usize) -> Vec<Outcome> {
        let mut all: Vec<Option<Followed>> = self.keys.iter().map(|_| None).collect();
        let (mut scratch, mut placed) = (Scratch::default(), PlacedCalls::default());
        let (mut now, mut out, mut looks) = (Distribution::default(), Vec::new(), 0usize);
        let begun = self.scans.first().map_or(0.0, |scan| scan.unix);
        for scan in self.scans.iter().filter(|scan| places.contains(&scan.place)) {
            let at = scan.unix - begun;
            for (key, time) in &scan.rows {
                let Some(one) = &mut all[*key] else {
                    all[*key] = Some(Followed {
                        time: *time,
                        observed: f64::NEG_INFINITY,
                        estimator: Estimator::default(),
                        recent: Recent::with_bounds(WINDOW, 1.0),
                    });
                    continue;
                };
                let step = time.since(&one.time);
                one.time = *time;
                let interval = match step {
                    MomentStep::Idle => continue,
                    MomentStep::Progress(interval) => interval,
                    MomentStep::Inconsistent(interval) => {
                        println!("at {at:.1} s {:?} is inconsistent", self.keys[*key]);
                        interval
                    }
                    MomentStep::Restarted(_) => return out,
                };
                let observed = one.estimator.observe(at - one.observed, &interval, &mut scratch);
                one.observed = at;
                placed.place(&interval, 0.05);
                let found = FoundCalls {
                    calls: interval.calls,
                    exact: observed.exact,
                    mass: scratch.mass(),
                    placed: &placed,
                };
                one.recent.add(at, &found);
            }
            if scan.place != looked_at {
                continue;
            }
            looks += 1;
            if at < WARM_UP || looks % EVERY != 0 {
                continue;
            }
            for (key, one) in all.iter_mut().enumerate() {
                let Some(one) = one else { continue };
                one.recent.over(at, &mut now);
                if now.calls >= FEWEST {
                    self.look(key, at, one, &now, &mut out);
                }
            }
        }
        out
    }

    fn look(
        &self,
        key: usize,
        at: f64,
        one: &mut Followed,
        now: &Distribution,
        out: &mut Vec<Outcome>,
    ) {
        let end = one.time.calls as usize;
        let Some(real) = self.calls[key].get(end - now.calls as usize..end) else { return };
        let mut real = real.to_vec();
        real.sort_by(f64::total_cmp);
        for q in QUANTILES {
            let rank = index((q * real.len() as f64 - 1e-9).ceil()).clamp(1, real.len());
            let truth = real[rank - 1];
            let certain = one.recent.certain(at, q);
            let point = now.quantile(q).unwrap();
            let point = certain.map_or(point, |range| point.clamp(range.low, range.high));
            let learnt = one.estimator.learnt(point);
            let share = 1.0 - now.share_over(point).unwrap();
            let deviation = likely::deviation(share, now.estimated(), learnt);
            let likely = now.likely(q, deviation, certain).unwrap();
            out.push(Outcome {
                key,
                q,
                calls: now.calls,
                truth,
                point,
                likely: ErrorBar { low: likely.low.min(point), high: likely.high.max(point) },
                certain,
            });
        }
    }

    /// Of each class and quantile: windows, error of the point (median / nine of ten), part of the likely and of the
    /// certain bars that hold, median half-width of both; and how many statements and quantiles hold four of five.
    pub fn summary(&self, outcomes: &[Outcome]) -> String {
        let mut out = String::new();
        for q in QUANTILES {
            for class in [None, Some(1), Some(10), Some(100), Some(1_000)] {
                let of: Vec<&Outcome> = outcomes
                    .iter()
                    .filter(|o| o.q == q && class.is_none_or(|class| class == o.class()))
                    .collect();
                if of.is_empty() {
                    continue;
                }
                let mut errors: Vec<f64> =
                    of.iter().map(|o| (o.point / o.truth - 1.0).abs()).collect();
                errors.sort_by(f64::total_cmp);
                let at = |all: &[f64], q: f64| all[index(q * (all.len() - 1) as f64)] * 100.0;
                let held = |bar: &dyn Fn(&Outcome) -> Option<ErrorBar>| {
                    let bars: Vec<(&&Outcome, ErrorBar)> =
                        of.iter().filter_map(|o| bar(o).map(|bar| (o, bar))).collect();
                    let holds = bars.iter().filter(|(o, bar)| o.within(*bar)).count();
                    let mut widths: Vec<f64> = bars
                        .iter()
                        .map(|(o, bar)| (bar.high - bar.low) / (2.0 * o.truth))
                        .collect();
                    widths.sort_by(f64::total_cmp);
                    (holds as f64 / bars.len() as f64 * 100.0, at(&widths, 0.5))
                };
                let (likely, width) = held(&|o| Some(o.likely));
                let (certain, wide) = held(&|o| o.certain);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    out,
                    "p{q} {:>8} {:>5} | {:>5.1} / {:>5.1} % | {likely:>5.1} %, {width:>5.1} % | {certain:>5.1} %, {wide:>5.1} %",
                    class.map_or("all".to_owned(), |class| format!("{class}/s")),
                    of.len(),
                    at(&errors, 0.5),
                    at(&errors, 0.9),
                );
            }
        }
        let mut cells: BTreeMap<(usize, u64), (u32, u32)> = BTreeMap::new();
        for o in outcomes {
            let cell = cells.entry((o.key, o.q.to_bits())).or_default();
            *cell = (cell.0 + u32::from(o.within(o.likely)), cell.1 + 1);
        }
        let good = cells.values().filter(|(held, all)| f64::from(*held) >= 0.8 * f64::from(*all));
        let _ = writeln!(out, "{} of {} cells hold", good.count(), cells.len());
        out
    }
}

impl Outcome {
    fn class(&self) -> u32 {
        let rate = self.calls as f64 / WINDOW;
        CLASSES.into_iter().find(|class| rate <= f64::from(*class)).unwrap_or(10_000)
    }

    fn within(&self, bar: ErrorBar) -> bool {
        bar.low <= self.truth + LOG && self.truth - LOG <= bar.high
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
fn index(x: f64) -> usize {
    x as usize
}
