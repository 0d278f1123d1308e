//! Plots as inline SVG. Colours come from the page's style sheet, so that they follow light, dark and
//! print.
//!
//! Must not: show a figure that no table beside the plot gives, or need a script.

use std::fmt::Write;

use crate::derive::units::{bytes, seconds};
use maud::{Markup, PreEscaped, html};

/// What a figure is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotUnit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// 0 to 1.
    Ratio,
    /// A number of things.
    Count,
}

impl PlotUnit {
    /// A value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Bytes => bytes(value),
            Self::Seconds => seconds(value),
            Self::Ratio => format!("{:.1} %", value * 100.0),
            Self::Count if value >= 1e6 => format!("{:.1} M", value / 1e6),
            Self::Count if value >= 1e4 => format!("{:.0} k", value / 1e3),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// A stretch of time on a timeline, in Unix seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Whether nothing covers it.
    pub gap: bool,
}

/// Latencies of one query.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencySpread {
    /// The query.
    pub label: String,
    /// Upper bounds of bins in seconds, ascending, and the share of calls in each.
    pub bins: Vec<(f64, f64)>,
    /// p50, p95 and p99 in seconds.
    pub quantiles: [f64; 3],
    /// What it should take, in seconds.
    pub target: Option<f64>,
}

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub enum Plot {
    /// One bar a row.
    Bars { caption: String, unit: PlotUnit, rows: Vec<(String, f64)> },
    /// Values over time: (Unix seconds, value), and a line to compare with.
    Lines {
        caption: String,
        unit: PlotUnit,
        series: Vec<(String, Vec<(f64, f64)>)>,
        limit: Option<f64>,
    },
    /// What is covered, one row a table.
    Timeline { caption: String, now: f64, rows: Vec<(String, Vec<Stretch>)> },
    /// Distributions on one logarithmic axis.
    Spreads { caption: String, rows: Vec<LatencySpread> },
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 210.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 24.0;
const TALL: f64 = 46.0;
const AXIS: f64 = 26.0;
const DAY: f64 = 86_400.0;

impl Plot {
    /// What it shows, in one sentence.
    pub fn caption(&self) -> &str {
        match self {
            Self::Bars { caption, .. }
            | Self::Lines { caption, .. }
            | Self::Timeline { caption, .. }
            | Self::Spreads { caption, .. } => caption,
        }
    }

    /// An `svg` element.
    pub fn svg(&self) -> Markup {
        let mut out = String::new();
        let height = match self {
            Self::Bars { unit, rows, .. } => bars(&mut out, *unit, rows),
            Self::Lines { unit, series, limit, .. } => lines(&mut out, *unit, series, *limit),
            Self::Timeline { now, rows, .. } => timeline(&mut out, *now, rows),
            Self::Spreads { rows, .. } => spreads(&mut out, rows),
        };
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {height:.0}")) role="img" aria-label=(self.caption()) {
                (PreEscaped(out))
            }
        }
    }
}

/// A coordinate.
fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
    let element = html! {
        text class=(class) x=(tenth(x)) y=(tenth(y)) text-anchor=(anchor) { (text) }
    };
    out.push_str(&element.0);
}

fn rect(out: &mut String, class: &str, [x, y, width, height]: [f64; 4], title: &str) {
    let (width, height) = (tenth(width.max(0.5)), tenth(height));
    let element = html! {
        rect class=(class) x=(tenth(x)) y=(tenth(y)) width=(width) height=(height) {
            title { (title) }
        }
    };
    out.push_str(&element.0);
}

fn rule(out: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = write!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// A row's name, shortened to what fits; the whole one shows on hovering.
fn label(out: &mut String, y: f64, name: &str) {
    const FITS: usize = 30;
    let short: String = if name.chars().count() > FITS {
        name.chars().take(FITS - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let element = html! {
        text class="label" x=(tenth(LABELS - 8.0)) y=(tenth(y)) text-anchor="end" {
            (short) title { (name) }
        }
    };
    out.push_str(&element.0);
}

fn bars(out: &mut String, unit: PlotUnit, rows: &[(String, f64)]) -> f64 {
    let most = rows.iter().map(|r| r.1).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - LABELS - RIGHT) / most } else { 0.0 };
    for (i, (name, value)) in rows.iter().enumerate() {
        let y = ROW * i as f64;
        label(out, y + 16.0, name);
        let shown = unit.show(*value);
        let width = value.max(0.0) * scale;
        rect(out, "bar", [LABELS, y + 4.0, width, ROW - 8.0], &format!("{name}: {shown}"));
        text(out, "figure", LABELS + width + 6.0, y + 16.0, "start", &shown);
    }
    ROW * rows.len() as f64 + 4.0
}

/// Round values that divide a range into about `parts`.
fn ticks(low: f64, high: f64, parts: f64) -> Vec<f64> {
    let raw = (high - low) / parts;
    if !raw.is_finite() || raw <= 0.0 {
        return vec![low];
    }
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
    let first = (low / step).ceil();
    (0..20)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|v| *v <= high + step * 1e-9)
        .collect()
}

fn lines(
    out: &mut String,
    unit: PlotUnit,
    series: &[(String, Vec<(f64, f64)>)],
    limit: Option<f64>,
) -> f64 {
    const HEIGHT: f64 = 180.0;
    const LEFT: f64 = 64.0;
    let points = || series.iter().flat_map(|s| &s.1);
    let fold = |of: fn(&(f64, f64)) -> f64, with: fn(f64, f64) -> f64, start: f64| {
        points().map(of).fold(start, with)
    };
    let (from, to) =
        (fold(|p| p.0, f64::min, f64::INFINITY), fold(|p| p.0, f64::max, f64::NEG_INFINITY));
    let mut low = fold(|p| p.1, f64::min, f64::INFINITY).min(limit.unwrap_or(f64::INFINITY));
    let mut high = fold(|p| p.1, f64::max, f64::NEG_INFINITY).max(limit.unwrap_or(f64::MIN));
    if !(from.is_finite() && low.is_finite() && high.is_finite()) {
        text(out, "label", WIDTH / 2.0, 20.0, "middle", "nothing was measured");
        return 32.0;
    }
    let margin = ((high - low) * 0.1).max(high.abs() * 1e-3).max(1e-9);
    (low, high) = (low - margin, high + margin);
    if unit == PlotUnit::Ratio {
        (low, high) = (low.max(0.0), high.min(1.0).max(low + margin));
    }
    let x =
        |t: f64| LEFT + (t - from) / (to - from).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| 8.0 + (high - v) / (high - low) * HEIGHT;
    for tick in ticks(low, high, 4.0) {
        rule(out, "grid", [LEFT, y(tick), WIDTH - RIGHT, y(tick)]);
        text(out, "figure", LEFT - 6.0, y(tick) + 4.0, "end", &unit.show(tick));
    }
    if let Some(limit) = limit {
        rule(out, "limit", [LEFT, y(limit), WIDTH - RIGHT, y(limit)]);
        text(out, "limit", WIDTH - RIGHT + 4.0, y(limit) + 4.0, "start", &unit.show(limit));
    }
    for (i, (name, points)) in series.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|(t, v)| format!("{:.1},{:.1}", x(*t), y(*v))).collect();
        let element = html! {
            polyline class={ "line s" (i % 4) } points=(path.join(" ")) { title { (name) } }
        };
        out.push_str(&element.0);
    }
    let below = HEIGHT + 24.0;
    text(out, "figure", LEFT, below, "start", &clock(from));
    text(out, "figure", WIDTH - RIGHT, below, "end", &format!("{} UTC", clock(to)));
    let mut along = LEFT;
    if series.len() > 1 {
        for (i, (name, _)) in series.iter().enumerate() {
            rule(
                out,
                &format!("line s{}", i % 4),
                [along, below + 16.0, along + 18.0, below + 16.0],
            );
            text(out, "label", along + 24.0, below + 20.0, "start", name);
            along += 60.0 + name.chars().count() as f64 * 7.0;
        }
        return below + 28.0;
    }
    below + 8.0
}

/// `14:05:09`
fn clock(at: f64) -> String {
    super::stamp(at, "%H:%M:%S")
}

/// `2026-11-22`
fn day(at: f64) -> String {
    super::stamp(at, "%Y-%m-%d")
}

fn timeline(out: &mut String, now: f64, rows: &[(String, Vec<Stretch>)]) -> f64 {
    let all = || rows.iter().flat_map(|r| &r.1);
    let finite = |t: f64| t.is_finite().then_some(t);
    let first = all().filter_map(|s| finite(s.from)).fold(now, f64::min);
    let last = all().filter_map(|s| finite(s.to)).fold(now, f64::max);
    // Nobody looks at ten years of history to see next week.
    let ahead = (last - now).clamp(7.0 * DAY, 400.0 * DAY);
    let from = first.max(now - (ahead * 1.5).max(30.0 * DAY));
    let to = now + ahead + (ahead * 0.04);
    let room = WIDTH - LABELS - 20.0;
    let x = |t: f64| LABELS + (t.clamp(from, to) - from) / (to - from) * room;
    let bottom = ROW * rows.len() as f64;
    for (i, (name, stretches)) in rows.iter().enumerate() {
        let y = ROW * i as f64;
        label(out, y + 16.0, name);
        for s in stretches {
            if s.to < from || s.from > to {
                continue;
            }
            let (class, what) = if s.gap { ("gap", "no partition") } else { ("bar", "covered") };
            let end = |t: f64| if t.is_finite() { day(t) } else { "without end".to_owned() };
            let title = format!("{name}: {what} {} to {}", end(s.from), end(s.to));
            let (left, right) = (x(s.from), x(s.to));
            rect(out, class, [left, y + 5.0, right - left, ROW - 10.0], &title);
        }
    }
    for tick in months(from, to) {
        rule(out, "grid", [x(tick), 0.0, x(tick), bottom]);
        text(out, "figure", x(tick), bottom + 16.0, "middle", &day(tick));
    }
    rule(out, "now", [x(now), -2.0, x(now), bottom + 4.0]);
    text(out, "now", x(now), bottom + 30.0, "middle", &format!("now, {}", day(now)));
    bottom + 38.0
}

/// Beginnings of months, or of as many weeks, that do not crowd the axis.
fn months(from: f64, to: f64) -> Vec<f64> {
    let span = (to - from) / DAY;
    let step = [7.0, 14.0, 30.5, 61.0, 91.5, 183.0, 366.0, 3_660.0]
        .into_iter()
        .find(|step| span / step <= 6.0)
        .unwrap_or(span);
    let first = (from / DAY / step).ceil() * step;
    (0..7)
        .map(|i| ((first + f64::from(i) * step) * DAY / DAY).floor() * DAY)
        .filter(|t| *t < to)
        .collect()
}

fn spreads(out: &mut String, rows: &[LatencySpread]) -> f64 {
    let values = || {
        rows.iter().flat_map(|r| {
            r.quantiles.iter().copied().chain(r.target).chain(r.bins.iter().map(|b| b.0))
        })
    };
    let low = values().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    if !(low.is_finite() && high > 0.0) {
        text(out, "label", WIDTH / 2.0, 20.0, "middle", "nothing was measured");
        return 32.0;
    }
    let (low, high) = ((low / 1.5).log10(), (high * 1.2).log10());
    let room = WIDTH - LABELS - 24.0;
    let x = |v: f64| LABELS + ((v.max(1e-12).log10() - low) / (high - low)).clamp(0.0, 1.0) * room;
    let bottom = TALL * rows.len() as f64;
    for decade in -9..6 {
        for m in [1.0, 2.0, 5.0] {
            let value = m * 10_f64.powi(decade);
            let few = high - low > 2.5 && m != 1.0;
            if few || value.log10() < low || value.log10() > high {
                continue;
            }
            rule(out, "grid", [x(value), 0.0, x(value), bottom]);
            text(out, "figure", x(value), bottom + 16.0, "middle", &seconds(value));
        }
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TALL * i as f64;
        label(out, y + TALL / 2.0 + 4.0, &row.label);
        let most = row.bins.iter().map(|b| b.1).fold(0.0, f64::max);
        let mut left = 0.0;
        for (upper, share) in &row.bins {
            if *share > 0.0 && most > 0.0 {
                let height = (TALL - 20.0) * share / most;
                let (from, to) = (x(left), x(*upper));
                let title = format!("up to {}: {:.1} % of calls", seconds(*upper), share * 100.0);
                rect(out, "bar", [from, y + TALL - 6.0 - height, to - from, height], &title);
            }
            left = *upper;
        }
        rule(out, "grid", [LABELS, y + TALL - 6.0, WIDTH - 24.0, y + TALL - 6.0]);
        let mut free = f64::NEG_INFINITY;
        for (value, name) in row.quantiles.iter().zip(["p50", "p95", "p99"]) {
            rule(out, "quantile", [x(*value), y + 12.0, x(*value), y + TALL - 2.0]);
            // Two labels in one place are none.
            if x(*value) < free {
                continue;
            }
            free = x(*value) + 24.0;
            let (along, below) = (tenth(x(*value)), tenth(y + 10.0));
            let element = html! {
                text class="quantile" x=(along) y=(below) text-anchor="middle" {
                    (name) title { (name) " " (seconds(*value)) }
                }
            };
            out.push_str(&element.0);
        }
        if let Some(target) = row.target {
            rule(out, "limit", [x(target), y + 2.0, x(target), y + TALL - 2.0]);
        }
    }
    bottom + AXIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let rows = vec![("a<b".to_owned(), 50.0), ("b".to_owned(), 100.0)];
        let svg = Plot::Bars { caption: "c\"".to_owned(), unit: PlotUnit::Count, rows }
            .svg()
            .into_string();
        assert!(svg.contains("aria-label=\"c&quot;\"") && svg.contains("a&lt;b"), "{svg}");
        assert!(svg.contains("width=\"240.0\"") && svg.contains("width=\"480.0\""), "{svg}");
    }

    #[test]
    fn a_timeline_shows_gaps_and_survives_infinity() {
        let stretch = |from, to, gap| Stretch { from, to, gap };
        let now = 1_800_000_000.0;
        let rows = vec![
            (
                "t".to_owned(),
                vec![
                    stretch(f64::NEG_INFINITY, now, false),
                    stretch(now, now + DAY, true),
                    stretch(now + DAY, f64::INFINITY, false),
                ],
            ),
            ("never".to_owned(), vec![]),
        ];
        let svg = Plot::Timeline { caption: String::new(), now, rows }.svg().into_string();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("class=\"gap\"").count(), 1);
        assert!(svg.contains("without end"));
    }

    #[test]
    fn empty_plots_say_so() {
        let lines = Plot::Lines {
            caption: String::new(),
            unit: PlotUnit::Ratio,
            series: vec![("a".to_owned(), vec![])],
            limit: None,
        };
        assert!(lines.svg().into_string().contains("nothing was measured"));
        let spreads = Plot::Spreads { caption: String::new(), rows: vec![] };
        assert!(spreads.svg().into_string().contains("nothing was measured"));
        let bars = Plot::Bars { caption: String::new(), unit: PlotUnit::Bytes, rows: vec![] };
        assert!(!bars.svg().into_string().contains("NaN"));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 1.0, 4.0), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.91, 0.99, 4.0).len(), 4);
        assert_eq!(ticks(1.0, 1.0, 4.0), [1.0]);
    }
}
