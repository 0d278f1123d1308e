//! One figure as a person reads it: its value with its unit, what it is held against, and where it comes from.
//!
//! Must not: judge beyond holding a figure against an objective that was published with it.

use maud::{Markup, html};
use serde::Serialize;

use super::read::FigureOrigin;
use crate::derive::units;

/// What a figure is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// 0 to 1.
    Ratio,
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
}

impl Measure {
    /// A value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if value == f64::INFINITY => "no end".to_owned(),
            _ if value == f64::NEG_INFINITY => "no beginning".to_owned(),
            Self::Seconds => duration(value),
            Self::UnixSeconds => units::instant(value),
            Self::Bytes => units::bytes(value),
            Self::BytesPerSecond => format!("{}/s", units::bytes(value)),
            Self::Ratio if value > 0.0 && value < 0.001 => format!("{:.3} %", value * 100.0),
            Self::Ratio if value > 0.99 && value < 1.0 => {
                format!("{:.2} %", (value * 1e4).floor() / 100.0)
            }
            Self::Ratio => format!("{:.1} %", value * 100.0),
            Self::Count => units::thousands(value),
            Self::PerSecond if value.abs() >= 100.0 => format!("{}/s", units::thousands(value)),
            Self::PerSecond => format!("{value:.1}/s"),
        }
    }
}

/// Two units, so that nobody has to calculate: `22 d 10 h`, `4 min 12 s`, `9.6 ms`; negative with a true minus.
pub fn duration(value: f64) -> String {
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    let v = value.abs();
    let two = |big: f64, small: f64, names: [&str; 2]| {
        let all = (v / small).floor();
        let per = big / small;
        let (bigs, smalls) = ((all / per).floor(), all % per);
        if smalls == 0.0 {
            format!("{sign}{bigs} {}", names[0])
        } else {
            format!("{sign}{bigs} {} {smalls} {}", names[0], names[1])
        }
    };
    match v {
        v if v >= 100.0 * 86_400.0 => format!("{sign}{:.0} d", (v / 86_400.0).floor()),
        v if v >= 86_400.0 => two(86_400.0, 3_600.0, ["d", "h"]),
        v if v >= 3_600.0 => two(3_600.0, 60.0, ["h", "min"]),
        v if v >= 120.0 => two(60.0, 1.0, ["min", "s"]),
        v if v >= 1.0 => format!("{sign}{} s", rounded(v)),
        v if v >= 1e-3 => format!("{sign}{} ms", rounded(v * 1e3)),
        0.0 => "0 s".to_owned(),
        v => format!("{sign}{} µs", rounded(v * 1e6)),
    }
}

/// Three digits.
fn rounded(value: f64) -> String {
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A short age: `18 s`, `4 min`.
pub fn age(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// What a value should not pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsoleFigure {
    /// What it is.
    pub label: String,
    /// In the unit.
    pub value: Option<f64>,
    /// Of the value.
    pub unit: Measure,
    /// What it is held against, if anything.
    pub objective: Option<Objective>,
    /// Where it is full, for the bar; 1 for a share.
    #[serde(skip)]
    pub full: Option<f64>,
    /// Whether it is on the wrong side of its objective.
    pub beyond: bool,
    /// Whether there is nothing of the kind, where there is no value: it was looked for.
    pub none: bool,
    /// Metric, age, source, PromQL.
    pub origin: FigureOrigin,
}

impl ConsoleFigure {
    /// A figure without an objective.
    pub fn new(
        label: impl Into<String>,
        value: Option<f64>,
        unit: Measure,
        origin: FigureOrigin,
    ) -> Self {
        let full = (unit == Measure::Ratio).then_some(1.0);
        Self {
            label: label.into(),
            value,
            unit,
            objective: None,
            full,
            beyond: false,
            none: false,
            origin,
        }
    }

    /// Holds it against one.
    pub fn held_to(mut self, objective: Option<Objective>) -> Self {
        self.objective = objective;
        self.beyond = match (self.value, objective) {
            (Some(value), Some(Objective::AtLeast(least))) => value < least,
            (Some(value), Some(Objective::AtMost(most))) => value > most,
            _ => false,
        };
        if self.full.is_none()
            && let Some(Objective::AtMost(most)) = objective
        {
            self.full = Some(most.max(self.value.unwrap_or(0.0)));
        }
        self
    }

    /// The value in words.
    pub fn text(&self) -> String {
        match self.value {
            Some(value) => self.unit.show(value),
            None if self.none => "none".to_owned(),
            None => "\u{2014}".to_owned(),
        }
    }

    /// The objective in words: `≤ 1 h`.
    pub fn limit(&self) -> Option<String> {
        let (sign, value) = match self.objective? {
            Objective::AtLeast(value) => ('\u{2265}', value),
            Objective::AtMost(value) => ('\u{2264}', value),
        };
        Some(format!("{sign} {}", self.unit.show(value)))
    }

    /// What the pointer says over it.
    pub fn hint(&self) -> String {
        hint(&self.origin)
    }
}

/// Metric, age and source in one line.
pub fn hint(origin: &FigureOrigin) -> String {
    let age =
        origin.age_seconds.map_or_else(|| "not read yet".to_owned(), |s| format!("{} old", age(s)));
    format!("{} \u{b7} {age} \u{b7} {}", origin.metric, origin.source)
}

/// The age of a panel: of the oldest of what is on it.
pub fn panel_age(origins: &[FigureOrigin]) -> Markup {
    let oldest = origins
        .iter()
        .filter_map(|o| o.age_seconds)
        .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
    let stale = origins.iter().any(|o| o.stale);
    html! {
        @if let Some(oldest) = oldest {
            span.age {
                @if stale { (super::icons::icon("stale")) span.sr { "stale: " } " " }
                (age(oldest)) " old"
            }
        }
    }
}

/// Where all figures of a panel come from, folded: metric, age, source and PromQL of each.
pub fn sources(origins: &[FigureOrigin], metrics: &str) -> Markup {
    let mut seen: Vec<&FigureOrigin> = Vec::new();
    for origin in origins {
        if !seen.iter().any(|s| s.metric == origin.metric && s.promql == origin.promql) {
            seen.push(origin);
        }
    }
    html! {
        @if !seen.is_empty() {
            details.src {
                summary { "Metrics, sources and PromQL" }
                dl.srcs {
                    @for origin in seen {
                        dt {
                            a href=(format!("{metrics}#:~:text={}", origin.metric)) { code { (origin.metric) } }
                            " "
                            small {
                                @match origin.age_seconds {
                                    Some(seconds) => { (age(seconds)) " old" },
                                    None => { "not read yet" },
                                }
                                @if origin.interval_seconds > 0.0 { ", every " (duration(origin.interval_seconds)) }
                                @if origin.stale { ", stale" }
                            }
                        }
                        dd { (origin.source) pre tabindex="0" { (origin.promql) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_and_a_true_minus() {
        for (seconds, text) in [
            (-(22.0 * 86_400.0 + 10.0 * 3_600.0), "\u{2212}22 d 10 h"),
            (252.0, "4 min 12 s"),
            (120.0, "2 min"),
            (3_600.0, "1 h"),
            (0.0096, "9.6 ms"),
            (0.000_21, "210 µs"),
            (0.0, "0 s"),
            (59.96, "60 s"),
            (124.0 * 86_400.0, "124 d"),
            (172_800.0, "2 d"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        assert_eq!(Measure::Seconds.show(f64::INFINITY), "no end");
        assert_eq!(Measure::Ratio.show(0.999_999), "99.99 %", "never rounded up to all");
        assert_eq!(Measure::Ratio.show(1.0), "100.0 %");
    }
}
