//! Partition runway: of each table until when it takes rows, on a timeline with what is covered, gaps, DEFAULTs and
//! open ends.
//!
//! Must not: tell a runway from bounds; what is drawn was told by the collector.

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{Measure, duration, panel_age, sources};
use super::icons::sole;
use super::read::{FigureOrigin, PLAIN, Reader};
use crate::collectors::partitions::published::{
    CoveredUntil, DefaultRows, PublishedTable, RequiredRunway, RunwayLeft, RunwaySupported, tables,
};
use crate::derive::units;

const DAY: f64 = 86_400.0;

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunwayRow {
    /// Database.
    pub datname: String,
    /// Schema.
    pub schemaname: String,
    /// Table.
    pub relname: String,
    /// `critical` where rows of now reach no partition, `warning` where the runway is shorter than required, else
    /// `ok`; `unknown` where there is no runway.
    pub state: &'static str,
    /// Why there is none.
    pub reason: String,
    /// `RANGE`, `LIST` or `HASH`.
    pub strategy: String,
    /// Seconds; infinite where there is no end.
    pub runway_seconds: Option<f64>,
    /// Seconds that are required.
    pub required_seconds: Option<f64>,
    /// Unix seconds at which coverage ends, or ended.
    pub covered_until: Option<f64>,
    /// Unix seconds at which it begins again after a gap.
    pub next: Option<f64>,
    /// Whether a DEFAULT takes what nothing else does.
    pub has_default: bool,
    /// Estimated rows in it.
    pub default_rows: Option<f64>,
    /// Unix seconds until which partitions with an end go, where an open-ended one follows.
    pub bounded_until: Option<f64>,
    /// Partitions.
    pub count: Option<f64>,
    /// Bytes.
    pub size_bytes: Option<f64>,
    /// Of integer keys that hold no time.
    pub keys_remaining: Option<f64>,
    /// Seconds by which the oldest data is older than it should be.
    pub retention_exceeded_seconds: Option<f64>,
    /// From when to when rows are taken, in Unix seconds.
    pub stretches: Vec<(f64, f64)>,
}

/// All tables of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Runways {
    /// The worst first.
    pub tables: Vec<RunwayRow>,
    /// Unix seconds of what is drawn.
    pub now: f64,
    /// Where the figures come from.
    pub origins: Vec<FigureOrigin>,
}

/// Reads them.
pub fn runways(reader: &Reader<'_>) -> Runways {
    let published = tables(&reader.snapshot.families);
    let mut rows: Vec<RunwayRow> = reader
        .all::<RunwaySupported<'_>>()
        .map(|s| {
            let key = [s.datname, s.schemaname, s.relname];
            let table = published.get(&key).copied().unwrap_or_default();
            let mut row = row(key, &table);
            (row.reason, row.strategy) = (s.reason.to_owned(), s.strategy.to_owned());
            row
        })
        .collect();
    for outcome in reader.snapshot.outcomes.iter().filter(|o| !o.covered.is_empty()) {
        for covered in outcome.covered.iter() {
            let same = |row: &&mut RunwayRow| {
                outcome.datname.as_deref() == Some(&row.datname)
                    && *covered.schemaname == *row.schemaname
                    && *covered.relname == *row.relname
            };
            if let Some(row) = rows.iter_mut().find(same) {
                row.stretches = covered.stretches.to_vec();
            }
        }
    }
    rows.sort_by(|a, b| {
        (rank(a.state), a.runway_seconds.unwrap_or(f64::INFINITY))
            .partial_cmp(&(rank(b.state), b.runway_seconds.unwrap_or(f64::INFINITY)))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Runways {
        tables: rows,
        now: reader.unix(),
        origins: vec![
            reader.origin::<RunwayLeft<'_>>(None, PLAIN),
            reader.origin::<RequiredRunway<'_>>(None, PLAIN),
            reader.origin::<CoveredUntil<'_>>(None, PLAIN),
            reader.origin::<DefaultRows<'_>>(None, PLAIN),
        ],
    }
}

fn rank(state: &str) -> u8 {
    match state {
        "critical" => 0,
        "warning" => 1,
        "ok" => 2,
        _ => 3,
    }
}

fn row([datname, schemaname, relname]: [&str; 3], table: &PublishedTable) -> RunwayRow {
    let state = match (table.runway, table.covered, table.required) {
        (None, ..) => "unknown",
        (Some(_), Some(0.0), _) => "critical",
        (Some(left), _, Some(required)) if left < required => "warning",
        _ => "ok",
    };
    RunwayRow {
        datname: datname.to_owned(),
        schemaname: schemaname.to_owned(),
        relname: relname.to_owned(),
        state,
        reason: String::new(),
        strategy: String::new(),
        runway_seconds: table.runway,
        required_seconds: table.required,
        covered_until: table.covered_until,
        next: table.next,
        has_default: table.has_default == Some(1.0),
        default_rows: table.default_rows,
        bounded_until: table.bounded_until,
        count: table.count,
        size_bytes: table.size,
        keys_remaining: table.keys_remaining,
        retention_exceeded_seconds: table.retention_exceeded,
        stretches: Vec::new(),
    }
}

/// The times that a timeline shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TimeScale {
    from: f64,
    to: f64,
    now: f64,
}

impl TimeScale {
    /// A third of it is past; it reaches as far as most runways do, from two days to two months.
    fn of(runways: &Runways) -> Self {
        let far = runways.tables.iter().flat_map(|t| {
            let required = t.required_seconds.map(|r| r * 1.5);
            [t.runway_seconds.filter(|r| r.is_finite()).map(|r| r.abs() * 1.1), required]
        });
        let far = far.flatten().fold(0.0, f64::max).clamp(2.0 * DAY, 60.0 * DAY);
        // The end of a coverage that is over is on it too.
        let over = runways
            .tables
            .iter()
            .filter_map(|t| t.runway_seconds.filter(|r| r.is_finite() && *r < 0.0));
        let over = over.fold(0.0, |most: f64, r| most.max(-r * 1.2)).min(60.0 * DAY);
        Self { from: runways.now - over.max(far / 2.0), to: runways.now + far, now: runways.now }
    }

    /// In per cent of the width, held within it.
    fn at(self, seconds: f64) -> f64 {
        ((seconds - self.from) / (self.to - self.from) * 100.0).clamp(0.0, 100.0)
    }

    /// Marks of the axis: beginnings of days, five or so.
    fn marks(self) -> Vec<f64> {
        let step = ((self.to - self.from) / 6.0 / DAY).round().max(1.0) * DAY;
        let first = (self.from / step).ceil() * step;
        let marks = (0..12_u32).map(|i| first + f64::from(i) * step);
        marks
            .take_while(|at| *at < self.to)
            .filter(|at| (self.at(*at) - self.at(self.now)).abs() > 9.0)
            .collect()
    }
}

fn day(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "jiff refuses what is out of range")]
    let at = jiff::Timestamp::from_second(seconds as i64);
    at.map_or_else(|_| String::new(), |at| at.strftime("%-d %b").to_string())
}

fn pc(value: f64) -> String {
    format!("{value:.2}%")
}

/// What a reader of the screen hears.
fn spoken(t: &RunwayRow) -> String {
    let mut said = format!("{}.{}: {}", t.schemaname, t.relname, left(t));
    if let Some(until) = t.covered_until {
        said.push_str(&match until {
            f64::INFINITY => ", covered without end".to_owned(),
            0.0 => ", never covered".to_owned(),
            until => format!(", covered until {}", units::instant(until)),
        });
    }
    if let Some(next) = t.next {
        said.push_str(&format!(", covered again from {}", units::instant(next)));
    }
    if let Some(required) = t.required_seconds {
        said.push_str(&format!(", required {}", duration(required)));
    }
    if let Some(rows) = t.default_rows.filter(|_| t.has_default) {
        said.push_str(&format!(", about {} rows in DEFAULT", units::thousands(rows)));
    }
    said
}

fn left(t: &RunwayRow) -> String {
    t.runway_seconds.map_or_else(|| "\u{2014}".to_owned(), |s| Measure::Seconds.show(s))
}

/// What stands below the runway.
fn below(t: &RunwayRow) -> String {
    match (t.covered_until, t.default_rows.filter(|_| t.has_default)) {
        _ if t.state == "unknown" => t.reason.clone(),
        (_, Some(rows)) => format!("DEFAULT \u{2248} {} rows", units::thousands(rows)),
        (Some(f64::INFINITY), _) => "to MAXVALUE".to_owned(),
        (Some(0.0), _) => "never covered".to_owned(),
        (Some(until), _) if t.state == "critical" => format!("since {}", minute(until)),
        (Some(until), _) => format!("until {}", minute(until)),
        (None, _) => String::new(),
    }
}

fn minute(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "jiff refuses what is out of range")]
    let at = jiff::Timestamp::from_second(seconds as i64);
    at.map_or_else(|_| String::new(), |at| at.strftime("%-d %b %Y %H:%M").to_string())
}

fn timeline(t: &RunwayRow, scale: TimeScale, height: u32) -> Markup {
    let bar = height / 3;
    let ends = t.runway_seconds == Some(f64::INFINITY)
        || t.stretches.last().is_some_and(|(_, to)| *to > scale.to);
    let refused = t.state == "critical" && !t.has_default;
    // Between two stretches nothing takes rows; nor does it after the last one, until now, where that is over.
    let mut holes: Vec<(f64, f64)> = t.stretches.windows(2).map(|w| (w[0].1, w[1].0)).collect();
    if let Some((_, to)) = t.stretches.last().filter(|(_, to)| *to < scale.now) {
        holes.push((*to, scale.now));
    }
    html! {
        svg.tl width="100%" height=(height) role="img" aria-label=(spoken(t)) {
            rect.past width=(pc(scale.at(scale.now))) height=(height) {}
            @for at in scale.marks() {
                line.grid x1=(pc(scale.at(at))) x2=(pc(scale.at(at))) y2=(height) {}
            }
            line.base x1="0" x2="100%" y1=(bar * 2) y2=(bar * 2) {}
            @for (from, to) in &t.stretches {
                @let (x, end) = (scale.at(*from), scale.at(*to));
                @if end > x { rect.cov x=(pc(x)) y=(bar) width=(pc(end - x)) height=(bar) {} }
            }
            @for (from, to) in &holes {
                @let (x, end) = (scale.at(*from), scale.at(*to));
                @if end > x {
                    @if *to <= scale.now {
                        rect.miss fill="url(#hr)" x=(pc(x)) y=(bar) width=(pc(end - x)) height=(bar) {}
                    } @else {
                        rect.gap fill="url(#hw)" x=(pc(x)) y=(bar) width=(pc(end - x)) height=(bar) {}
                    }
                }
            }
            @if ends { svg x="100%" overflow="visible" { path.cov d=(format!("M0 {bar}v{bar}l7 -{}z", bar / 2)) {} } }
            @if t.has_default {
                rect class=(if t.default_rows.unwrap_or(0.0) > 0.0 { "def warn" } else { "def" }) x="0.2%" y=(bar * 2 + 4) width="99.6%" height="4" rx="2" {}
            }
            @if let Some(required) = t.required_seconds {
                @let end = pc(scale.at(scale.now + required));
                line.req x1=(pc(scale.at(scale.now))) x2=(end) y1="6" y2="6" {}
                line.req x1=(end) x2=(end) y1="3" y2="9" {}
            }
            line.now x1=(pc(scale.at(scale.now))) x2=(pc(scale.at(scale.now))) y2=(height) {}
            @if refused { text.crit x=(pc(scale.at(scale.now))) y=(bar * 2 - 1) dx="4" { "inserts fail now" } }
        }
    }
}

/// The shape for a state.
fn state_icon(state: &str) -> Markup {
    match state {
        "critical" => sole("crit", "critical"),
        "warning" => sole("warn", "warning"),
        "ok" => sole("ok", "ok"),
        _ => sole("unk", "cannot be told"),
    }
}

/// The class of the figure.
fn state_class(state: &str) -> &'static str {
    match state {
        "critical" => "crit",
        "warning" => "warn",
        _ => "",
    }
}

/// The panel of the overview: at most `most` tables, the worst first.
pub fn panel(runways: &Runways, most: usize, link: &str, metrics: &str) -> Markup {
    let known: Vec<&RunwayRow> = runways.tables.iter().filter(|t| t.state != "unknown").collect();
    let unknown = runways.tables.len() - known.len();
    let scale = TimeScale::of(runways);
    html! {
        section.panel id="runway" aria-labelledby="runway-h" {
            header {
                h2 id="runway-h" { "Partition runway" } small { "time until an insert fails" }
                (panel_age(&runways.origins))
            }
            @if runways.tables.is_empty() {
                p.none { "No partitioned table was found." }
            } @else {
                ul.runs {
                    @for t in known.iter().take(most) { (line(t, scale, link)) }
                    @if !known.is_empty() { (axis(scale)) }
                }
                (keys())
                p.note {
                    @if known.len() > most { (known.len() - most) " more tables. " }
                    @if unknown > 0 { "Of " (unknown) " tables the runway cannot be told. " }
                    a href=(link) { "All tables with all facts" }
                }
                (sources(&runways.origins, metrics))
            }
        }
    }
}

fn line(t: &RunwayRow, scale: TimeScale, link: &str) -> Markup {
    html! {
        li {
            div {
                (state_icon(t.state)) " "
                b { a href=(format!("{link}#{}", anchor(t))) { (t.schemaname) "." (t.relname) } }
            }
            div.v { b class=(state_class(t.state)) { (left(t)) } small { (below(t)) } }
            (timeline(t, scale, 34))
        }
    }
}

fn anchor(t: &RunwayRow) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{}.{}.{}", t.datname, t.schemaname, t.relname).chars().map(plain).collect()
}

fn axis(scale: TimeScale) -> Markup {
    html! {
        li.axis {
            svg.ax width="100%" height="16" aria-hidden="true" {
                @for (i, at) in scale.marks().into_iter().enumerate() {
                    text class=(if i % 2 == 1 { "dk" } else { "" }) x=(pc(scale.at(at))) y="11" text-anchor="middle" { (day(at)) }
                }
                text.ink x=(pc(scale.at(scale.now))) y="11" text-anchor="middle" { "now" }
            }
        }
    }
}

fn keys() -> Markup {
    html! {
        p.keys {
            span { svg width="18" height="10" aria-hidden="true" { rect.cov width="18" height="10" {} } "covered" }
            span { svg width="18" height="10" aria-hidden="true" { rect.miss fill="url(#hr)" x=".5" y=".5" width="17" height="9" {} } "no partition until now" }
            span { svg width="18" height="10" aria-hidden="true" { rect.gap fill="url(#hw)" x=".5" y=".5" width="17" height="9" {} } "gap ahead" }
            span { svg width="18" height="10" aria-hidden="true" { rect.def x=".5" y="3" width="17" height="4" rx="2" {} } "DEFAULT" }
            span { svg width="10" height="12" aria-hidden="true" { path.req d="M0 6h9M9 2v8" {} } "required" }
            span { svg width="10" height="12" aria-hidden="true" { path.cov d="M1 0v12l8-6z" {} } "goes on" }
        }
    }
}

/// The page: every table with every fact.
pub fn page(runways: &Runways, metrics: &str) -> Markup {
    let scale = TimeScale::of(runways);
    html! {
        section.panel aria-labelledby="tables-h" {
            header {
                h2 id="tables-h" { "Every partitioned table, the shortest runway first" }
                (panel_age(&runways.origins))
            }
            @if runways.tables.is_empty() { p.none { "No partitioned table was found in the databases that are walked." } }
            ul.tls { @for t in &runways.tables { (whole(t, scale)) } }
            @if !runways.tables.is_empty() { (keys()) }
            (sources(&runways.origins, metrics))
        }
    }
}

fn whole(t: &RunwayRow, scale: TimeScale) -> Markup {
    let seconds = |value: Option<f64>| value.map(|v| Measure::Seconds.show(v));
    let instant = |value: Option<f64>| {
        value
            .filter(|v| *v != 0.0)
            .map(|v| if v.is_finite() { units::instant(v) } else { "no end".to_owned() })
    };
    let count = |value: Option<f64>| value.map(units::thousands);
    let facts: [(&str, Option<String>); 9] = [
        ("Required", seconds(t.required_seconds)),
        ("Covered until", instant(t.covered_until)),
        ("Covered again from", instant(t.next)),
        ("Partitions with an end until", instant(t.bounded_until)),
        ("Partitions", count(t.count)),
        ("Size", t.size_bytes.map(units::bytes)),
        (
            "Rows in DEFAULT",
            t.default_rows
                .filter(|_| t.has_default)
                .map(|r| format!("\u{2248} {}", units::thousands(r))),
        ),
        ("Keys left", count(t.keys_remaining)),
        ("Older than max_age by", seconds(t.retention_exceeded_seconds.filter(|s| *s > 0.0))),
    ];
    html! {
        li id=(anchor(t)) {
            div.row {
                h3 { (state_icon(t.state)) " " code { (t.schemaname) "." (t.relname) } }
                small { "database " (t.datname) " \u{b7} " (t.strategy) }
                span class=(format!("v {}", state_class(t.state))) {
                    @if t.state == "unknown" { "cannot be told" @if !t.reason.is_empty() { ": " (t.reason) } }
                    @else { b { (left(t)) } " left" }
                }
            }
            dl.ev { @for (name, value) in facts { @if let Some(value) = value { div { dt { (name) } dd { (value) } } } } }
            @if t.state != "unknown" {
                (timeline(t, scale, 34))
                svg.ax width="100%" height="16" aria-hidden="true" {
                    @for at in scale.marks() { text x=(pc(scale.at(at))) y="11" text-anchor="middle" { (day(at)) } }
                    text.ink x=(pc(scale.at(scale.now))) y="11" text-anchor="middle" { "now" }
                }
            }
        }
    }
}
