//! The error bars against the truth: of the very calls that a window holds, which the exported number of calls and
//! their sum tell one by one, and of the minute by the clock.
//!
//! Must not: take a window whose polls are not those of its minute.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::load::Phase;
use super::recipes::{QUANTILES, Subject, subject};
use super::report::{CLASSES, FEWEST};
use super::truth::{Key, Truth, quantile};
use super::{Plan, SCRAPE, WINDOW};
use crate::common::prometheus::Prometheus;

/// Seconds between the ends of two windows that are looked at.
const EVERY: u32 = 2 * SCRAPE;
/// The log rounds to whole microseconds.
const LOG: f64 = 0.55e-6;
/// Seconds: `objectives.latency` where nobody says otherwise.
const OBJECTIVE: f64 = 0.05;
/// A call is logged just before it is counted: as many as there are connections may be counted on the other side of a
/// poll than the log says.
const AT_ONCE: usize = 6;
pub const LEVELS: [&str; 2] = ["likely", "certain"];

/// One error bar.
struct Bar {
    subject: Subject,
    phase: Phase,
    class: u32,
    q: usize,
    level: &'static str,
    /// Half of it, as a part of the truth.
    width: f64,
    /// See [`Real`].
    found: bool,
    /// Whether it holds the quantile of its calls, one of those that some other calls at its ends would give, and that
    /// of the clock's minute.
    held: [bool; 3],
}

/// All of them.
#[derive(Default)]
pub struct Bars {
    bars: Vec<Bar>,
    /// Of the certain bounds of statements' shares over the objective: whether they hold, and how wide they are.
    shares: Vec<(bool, f64)>,
}

/// What Prometheus has of one scrape.
struct Scraped {
    polled: f64,
    /// Of all calls that were counted: their number and seconds.
    counted: BTreeMap<Subject, [f64; 2]>,
    /// Of the calls over the objective: the share's certain bounds.
    slow: BTreeMap<Subject, [f64; 2]>,
    /// By index into [`QUANTILES`] and level.
    ends: BTreeMap<(Subject, usize, &'static str), [f64; 2]>,
}

async fn scraped(prometheus: &Prometheus, at: f64) -> Option<Scraped> {
    // A second later it is there, even if it came some milliseconds late.
    let time = at + 1.0;
    let polled = "pgrunway_collector_last_success_timestamp_seconds{collector=\"statements\"}";
    let polled = prometheus.query_at(polled, time).await.first()?.1;
    let (mut counted, mut slow, mut ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for kind in ["pg_statement", "pg_query"] {
        for (i, what) in ["count", "sum"].into_iter().enumerate() {
            let what = format!("{kind}_duration_seconds_{what}");
            for (labels, value) in prometheus.query_at(&what, time).await {
                if let Some(subject) = subject(&labels) {
                    counted.entry(subject).or_insert([f64::NAN; 2])[i] = value;
                }
            }
        }
        for (i, end) in ["low", "high"].into_iter().enumerate() {
            let share = format!("{kind}_slow_ratio_{end}{{window=\"1m\"}}");
            for (labels, share) in prometheus.query_at(&share, time).await {
                if let Some(subject) = subject(&labels) {
                    slow.entry(subject).or_insert([f64::NAN; 2])[i] = share;
                }
            }
            let bars = format!("{kind}_latency_{end}_seconds{{window=\"1m\"}}");
            for (labels, seconds) in prometheus.query_at(&bars, time).await {
                let q = QUANTILES.iter().position(|(_, label, _)| labels["quantile"] == **label);
                let level = LEVELS.into_iter().find(|level| labels["level"] == **level);
                let Some(((subject, q), level)) = subject(&labels).zip(q).zip(level) else {
                    continue;
                };
                ends.entry((subject, q, level)).or_insert([f64::NAN; 2])[i] = seconds;
            }
        }
    }
    Some(Scraped { polled, counted, slow, ends })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of calls")]
fn whole(calls: f64) -> usize {
    calls as usize
}

/// What really happened in a window: the very calls, more of them at both ends, and those of the clock's minute.
struct Real {
    calls: Vec<f64>,
    loose: Vec<f64>,
    clock: Vec<f64>,
    /// Whether these are the very calls for certain: their sum is the one that was counted.
    found: bool,
}

/// Looks at every scrape from `start` on that has a whole minute before it.
pub async fn bars(prometheus: &Prometheus, plan: &Plan, start: f64, truth: &Truth) -> Bars {
    let step = f64::from(EVERY);
    let mut scrapes = Vec::new();
    for i in 0..=plan.minutes() * 60 / EVERY {
        scrapes.push(scraped(prometheus, start + f64::from(i) * step).await);
    }
    let before = 60 / EVERY as usize;
    let mut all = Bars::default();
    for (i, pair) in scrapes.windows(before + 1).enumerate() {
        let (Some(first), Some(last)) = (&pair[0], &pair[before]) else { continue };
        let seconds = last.polled - first.polled;
        if (seconds - WINDOW).abs() > 0.45 {
            continue;
        }
        let phase = plan.phase(u32::try_from(i).unwrap() * EVERY / 60);
        let end = start + (i + before) as f64 * step;
        // What really happened is the same for all bars of a subject.
        let mut real = BTreeMap::new();
        for subject in last.counted.keys() {
            let of =
                |key: &Key| subject.as_ref().map_or(key.0.starts_with("app_"), |one| one == key);
            let clock = truth.between(of, (end - WINDOW, end));
            let Some(one) = subject else {
                let calls = truth.between(of, (first.polled, last.polled));
                let loose = calls.clone();
                real.insert(subject, Real { calls, loose, clock, found: true });
                continue;
            };
            let ([from, seconds_from], [to, seconds_to]) =
                (first.counted.get(subject).unwrap_or(&[0.0; 2]), last.counted[subject]);
            let n = whole(to - from);
            let Some((place, off)) = truth.find(one, n, seconds_to - seconds_from, first.polled)
            else {
                continue;
            };
            let loose = place.saturating_sub(AT_ONCE)..place + n + AT_ONCE;
            real.insert(
                subject,
                Real {
                    calls: truth.slice(one, place..place + n),
                    loose: truth.slice(one, loose),
                    clock,
                    found: off <= LOG * (4.0 + 2.0 * (n as f64).sqrt()),
                },
            );
        }
        for (subject, [low, high]) in &last.slow {
            let Some(real) = real.get(subject).filter(|real| !real.calls.is_empty()) else {
                continue;
            };
            let over = |by: f64| real.calls.iter().filter(|x| **x > OBJECTIVE + by).count();
            let share = |n: usize| n as f64 / real.calls.len() as f64;
            let holds = share(over(LOG)) <= *high + 1e-9 && *low - 1e-9 <= share(over(-LOG));
            if subject.is_some() && real.found {
                all.shares.push((holds, high - low));
            }
        }
        for ((subject, q, level), [low, high]) in &last.ends {
            let Some(Real { calls: sure, loose, clock: by_clock, found }) = real.get(subject)
            else {
                continue;
            };
            if sure.len() < FEWEST {
                continue;
            }
            let share = QUANTILES[*q].0;
            let real = quantile(sure, share);
            let within = |x: f64| *low <= x + LOG && x - LOG <= *high;
            let moved = |by: f64| {
                let rank = share * sure.len() as f64
                    + by
                    + if subject.is_none() { 0.0 } else { AT_ONCE as f64 };
                loose[whole(rank.max(1.0)).clamp(1, loose.len()) - 1]
            };
            let most = 2.0 * AT_ONCE as f64;
            let rate = sure.len() as f64 / seconds;
            all.bars.push(Bar {
                subject: subject.clone(),
                phase,
                class: CLASSES
                    .into_iter()
                    .find(|class| rate <= f64::from(*class))
                    .unwrap_or(10_000),
                q: *q,
                level,
                width: (high - low) / (2.0 * real),
                found: *found,
                held: [
                    within(real),
                    *low <= moved(most) + LOG && moved(-most) - LOG <= *high,
                    !by_clock.is_empty() && within(quantile(by_clock, share)),
                ],
            });
        }
    }
    all
}

/// How many, the parts that held, and the median of the half-widths.
type Summary = (usize, [f64; 3], f64);

impl Bars {
    fn summary(&self, of: impl Fn(&Bar) -> bool) -> Option<Summary> {
        let bars: Vec<&Bar> = self.bars.iter().filter(|bar| of(bar)).collect();
        let held = std::array::from_fn(|i| {
            bars.iter().filter(|bar| bar.held[i]).count() as f64 / bars.len() as f64
        });
        let mut widths: Vec<f64> = bars.iter().map(|bar| bar.width).collect();
        widths.sort_by(f64::total_cmp);
        (!bars.is_empty()).then(|| (bars.len(), held, quantile(&widths, 0.5)))
    }

    #[allow(dead_code, reason = "the long form prints its tables only")]
    /// Of all statements at an index into [`QUANTILES`].
    pub fn pooled(&self, q: usize, level: &str) -> Option<Summary> {
        self.summary(|bar| bar.subject.is_some() && bar.q == q && bar.level == level)
    }

    /// Statements and quantiles, and how many of them hold at least four of five likely bars.
    fn cells(&self) -> (usize, usize) {
        let mut cells: BTreeMap<(&Subject, usize), (u32, u32)> = BTreeMap::new();
        for bar in self.bars.iter().filter(|bar| bar.level == LEVELS[0]) {
            let cell = cells.entry((&bar.subject, bar.q)).or_default();
            *cell = (cell.0 + u32::from(bar.held[0]), cell.1 + 1);
        }
        let good = cells.values().filter(|(held, all)| f64::from(*held) >= 0.8 * f64::from(*all));
        (good.count(), cells.len())
    }

    /// Statements' certain bars that miss, or, where the very calls were not found, that miss by more than the calls at the
    /// ends of a window.
    pub fn broken(&self) -> usize {
        let certain =
            self.bars.iter().filter(|bar| bar.level == LEVELS[1] && bar.subject.is_some());
        certain.filter(|bar| !bar.held[usize::from(!bar.found)]).count()
            + self.shares.iter().filter(|(holds, _)| !holds).count()
    }

    /// The tables.
    pub fn text(&self) -> String {
        let (good, cells) = self.cells();
        let found = self.bars.iter().filter(|bar| bar.found).count();
        let mut out = format!(
            "Error bars over 1-minute windows with at least {FEWEST} calls, one every {EVERY} s: part that holds the \
             quantile of the very calls / of a clock's minute, median half-width. {good} of {cells} cells of \
             statement and quantile hold at least 80 % of their likely bars; {} certain bars of statements miss. The \
             very calls were found for {found} of {} bars. {} certain bounds of shares over the objective, {} of them \
             without a width.\n\n\
             | quantile | of | windows | likely | certain |\n|---|---|---:|---:|---:|\n",
            self.broken(),
            self.bars.len(),
            self.shares.len(),
            self.shares.iter().filter(|(_, width)| *width < 1e-9).count(),
        );
        let phases: std::collections::BTreeSet<Phase> =
            self.bars.iter().map(|bar| bar.phase).collect();
        for (q, (_, label, _)) in QUANTILES.iter().enumerate() {
            let statement = |bar: &Bar| bar.subject.is_some();
            self.line(&mut out, q, label, "all statements", statement);
            for phase in &phases {
                self.line(&mut out, q, label, phase.name(), |b| statement(b) && b.phase == *phase);
            }
            for class in CLASSES {
                let name = format!("up to {class}/s");
                self.line(&mut out, q, label, &name, |bar| statement(bar) && bar.class == class);
            }
            self.line(&mut out, q, label, "the database", |bar| bar.subject.is_none());
        }
        out
    }

    fn line(&self, out: &mut String, q: usize, label: &str, name: &str, of: impl Fn(&Bar) -> bool) {
        let of = |level: &str| self.summary(|bar| bar.q == q && bar.level == level && of(bar));
        let Some((windows, ..)) = of(LEVELS[0]) else { return };
        // Writing to a String cannot fail.
        let _ = write!(out, "| {label} | {name} | {windows} |");
        for level in LEVELS {
            let Some((_, [calls, _, clock], width)) = of(level) else {
                out.push_str(" |");
                continue;
            };
            let (calls, clock, width) = (calls * 100.0, clock * 100.0, width * 100.0);
            let _ = write!(out, " {calls:.1} / {clock:.1} %, {width:.1} % |");
        }
        out.push('\n');
    }
}
