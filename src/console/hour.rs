//! The last hour as small plots.
//!
//! Must not: draw what was not remembered.

use maud::{Markup, html};

use super::figure::hint;
use super::history::HourSeries;
use super::read::FigureOrigin;

const HEIGHT: f32 = 34.0;

/// The panel.
pub fn panel(series: &[HourSeries], metrics: &str) -> Markup {
    let longest = series.iter().map(|s| s.points.len()).max().unwrap_or(0);
    let origins: Vec<FigureOrigin> = series.iter().map(|s| s.origin.clone()).collect();
    html! {
        section.panel id="hour" aria-labelledby="hour-h" {
            header { h2 id="hour-h" { "Last hour" } }
            @if series.is_empty() {
                p.none { "The first point is taken within a minute of the start." }
            } @else {
                dl.sparks { @for s in series { (one(s)) } }
                p.note {
                    "One point a minute, of the last " (longest) " min, kept in the exporter\u{2019}s memory for an hour. \
                     Under each: lowest\u{2013}highest. Over several databases the worst, or the sum."
                }
                (super::figure::sources(&origins, metrics))
            }
        }
    }
}

fn one(s: &HourSeries) -> Markup {
    let known = || s.points.iter().flatten().copied();
    let (low, high) =
        known().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let show = |value: f32| s.unit.show(f64::from(value));
    let last = s.points.iter().rev().find_map(|p| *p);
    html! {
        div title=(hint(&s.origin)) {
            dt { (s.label) }
            dd.v { @match last { Some(last) => { (show(last)) }, None => { "\u{2014}" } } }
            dd { (plot(&s.points, low, high)) }
            dd { small { @if low == high { (show(low)) } @else { (show(low)) "\u{2013}" (show(high)) } } }
        }
    }
}

/// A line, broken where nothing was known.
fn plot(points: &[Option<f32>], low: f32, high: f32) -> Markup {
    let width = points.len().max(2) - 1;
    let base = low.min(0.0);
    let span = if high > base { high - base } else { 1.0 };
    let mut path = String::new();
    let mut before = false;
    for (x, point) in points.iter().enumerate() {
        if let Some(value) = point {
            let y = HEIGHT - 2.0 - (value - base) / span * (HEIGHT - 4.0);
            let step = if before { 'L' } else { 'M' };
            path.push_str(&format!("{step}{x} {y:.1}"));
            // A point alone is seen as well.
            if !before && points.get(x + 1).is_none_or(Option::is_none) {
                path.push_str("h.4");
            }
        }
        before = point.is_some();
    }
    html! {
        svg height="34" viewBox=(format!("0 0 {width} 34")) preserveAspectRatio="none" aria-hidden="true" {
            path.ln d=(path) {}
        }
    }
}
