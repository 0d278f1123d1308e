//! How the server is loaded: cache, index scans, connections, transactions, sessions that wait and those that hold them
//! up, replication; each against its objective where it has one.
//!
//! Must not: add up what was published for several databases where the sum is no figure of anything.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{ConsoleFigure, Measure, Objective, panel_age, sources};
use super::icons::icon;
use super::read::{FigureOrigin, PLAIN, Reader};
use crate::collectors::blocking::{HeldUp, HeldUpLongest};
use crate::collectors::cache::{HitRatio, HitRatioObjective, ScanRatioObjective};
use crate::collectors::connections::{
    LongestQuery, LongestQueryObjective, MaxConnections, OldestIdle, OldestIdleObjective,
    OldestTransaction, OldestTransactionObjective, Sessions, Used, UsedRatio, WaitingBackends,
};
use crate::collectors::indexes::DatabaseScanRatio;
use crate::collectors::locks::{LongestLockWait, LongestLockWaitObjective};
use crate::collectors::replication::{IsReplica, ReplicationLag, ReplicationLagObjective};

/// Sessions of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionCount {
    /// State, or what they wait for.
    pub name: String,
    /// How many.
    pub count: f64,
}

/// The load of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadView {
    /// Of each database that has any.
    pub cache: Vec<ConsoleFigure>,
    /// Connections, transactions, statements.
    pub connections: Vec<ConsoleFigure>,
    /// Locks.
    pub locks: Vec<ConsoleFigure>,
    /// Replication.
    pub replication: Vec<ConsoleFigure>,
    /// By state.
    pub sessions: Vec<SessionCount>,
    /// Active ones that wait, by what they wait for.
    pub waits: Vec<SessionCount>,
    /// Where the sessions come from.
    pub session_origins: Vec<FigureOrigin>,
}

/// The greatest of all databases, and which one has it.
fn worst<'a>(values: impl Iterator<Item = (&'a str, f64)>) -> Option<(&'a str, f64)> {
    values.fold(None, |worst, (datname, value)| match worst {
        Some((_, most)) if most >= value => worst,
        _ => Some((datname, value)),
    })
}

/// A figure of the database in which it is greatest.
fn greatest(
    label: &str,
    value: Option<(&str, f64)>,
    (unit, objective): (Measure, Option<f64>),
    origin: impl Fn(Option<&str>) -> FigureOrigin,
) -> ConsoleFigure {
    let datname = value.map(|(datname, _)| datname);
    let label = datname.map_or_else(|| label.to_owned(), |datname| format!("{label} in {datname}"));
    let mut figure = ConsoleFigure::new(label, value.map(|(_, v)| v), unit, origin(datname));
    figure.none = figure.origin.age_seconds.is_some() && !figure.origin.stale;
    figure.held_to(objective.map(Objective::AtMost))
}

/// Reads it.
pub fn load(reader: &Reader<'_>) -> LoadView {
    let hit_objective =
        reader.first::<HitRatioObjective<'_>>().map(|o| Objective::AtLeast(o.ratio));
    let scan_objective =
        reader.first::<ScanRatioObjective<'_>>().map(|o| Objective::AtLeast(o.ratio));
    let mut cache: Vec<ConsoleFigure> = Vec::new();
    for s in reader.all::<HitRatio<'_>>() {
        let origin = reader.origin::<HitRatio<'_>>(Some(s.datname), PLAIN);
        let label = format!("Cache hits in {}", s.datname);
        cache.push(
            ConsoleFigure::new(label, Some(s.ratio), Measure::Ratio, origin).held_to(hit_objective),
        );
    }
    for s in reader.all::<DatabaseScanRatio<'_>>() {
        let origin = reader.origin::<DatabaseScanRatio<'_>>(Some(s.datname), PLAIN);
        let label = format!("Index scans in {}", s.datname);
        cache.push(
            ConsoleFigure::new(label, Some(s.ratio), Measure::Ratio, origin)
                .held_to(scan_objective),
        );
    }
    // The worst first; what has no objective is last.
    let short = |f: &ConsoleFigure| match f.objective {
        Some(Objective::AtLeast(least)) => f.value.unwrap_or(1.0) - least,
        _ => 1.0,
    };
    cache.sort_by(|a, b| short(a).total_cmp(&short(b)));

    let mut states: BTreeMap<&str, f64> = BTreeMap::new();
    for s in reader.all::<Sessions<'_>>() {
        *states.entry(s.state).or_default() += s.count;
    }
    let mut waits: BTreeMap<&str, f64> = BTreeMap::new();
    for s in reader.all::<WaitingBackends<'_>>() {
        *waits.entry(s.wait_event_type).or_default() += s.count;
    }
    let listed = |counts: BTreeMap<&str, f64>| -> Vec<SessionCount> {
        let some = counts.into_iter().filter(|(_, count)| *count > 0.0);
        let mut all: Vec<SessionCount> =
            some.map(|(name, count)| SessionCount { name: name.to_owned(), count }).collect();
        all.sort_by(|a, b| b.count.total_cmp(&a.count));
        all
    };
    LoadView {
        cache,
        connections: connections(reader),
        locks: locks(reader),
        replication: replication(reader),
        sessions: listed(states),
        waits: listed(waits),
        session_origins: vec![
            reader.origin::<Sessions<'_>>(None, PLAIN),
            reader.origin::<WaitingBackends<'_>>(None, PLAIN),
        ],
    }
}

fn connections(reader: &Reader<'_>) -> Vec<ConsoleFigure> {
    let used = reader.first::<Used<'_>>().map(|u| u.connections);
    let most = reader.first::<MaxConnections<'_>>().map(|m| m.connections);
    let label = most.map_or_else(
        || "Connections".to_owned(),
        |most| format!("Connections of {}", Measure::Count.show(most)),
    );
    let mut count =
        ConsoleFigure::new(label, used, Measure::Count, reader.origin::<Used<'_>>(None, PLAIN));
    count.full = most;
    let ratio = reader.first::<UsedRatio<'_>>().map(|u| u.ratio);
    vec![
        count,
        ConsoleFigure::new(
            "Of those for ordinary roles",
            ratio,
            Measure::Ratio,
            reader.origin::<UsedRatio<'_>>(None, PLAIN),
        ),
        greatest(
            "Oldest transaction",
            worst(reader.all::<OldestTransaction<'_>>().map(|s| (s.datname, s.seconds))),
            (Measure::Seconds, reader.first::<OldestTransactionObjective<'_>>().map(|o| o.seconds)),
            |d| reader.origin::<OldestTransaction<'_>>(d, PLAIN),
        ),
        greatest(
            "Idle in transaction",
            worst(reader.all::<OldestIdle<'_>>().map(|s| (s.datname, s.seconds))),
            (Measure::Seconds, reader.first::<OldestIdleObjective<'_>>().map(|o| o.seconds)),
            |d| reader.origin::<OldestIdle<'_>>(d, PLAIN),
        ),
        greatest(
            "Longest statement",
            worst(reader.all::<LongestQuery<'_>>().map(|s| (s.datname, s.seconds))),
            (Measure::Seconds, reader.first::<LongestQueryObjective<'_>>().map(|o| o.seconds)),
            |d| reader.origin::<LongestQuery<'_>>(d, PLAIN),
        ),
    ]
}

fn locks(reader: &Reader<'_>) -> Vec<ConsoleFigure> {
    let objective = reader.first::<LongestLockWaitObjective<'_>>().map(|o| o.seconds);
    vec![
        greatest(
            "Longest wait for a lock",
            worst(reader.all::<LongestLockWait<'_>>().map(|s| (s.datname, s.seconds))),
            (Measure::Seconds, objective),
            |d| reader.origin::<LongestLockWait<'_>>(d, PLAIN),
        ),
        greatest(
            "Sessions held up by one",
            worst(reader.all::<HeldUp<'_>>().map(|s| (s.datname, s.sessions))),
            (Measure::Count, None),
            |d| reader.origin::<HeldUp<'_>>(d, PLAIN),
        ),
        greatest(
            "Held up longest",
            worst(reader.all::<HeldUpLongest<'_>>().map(|s| (s.datname, s.seconds))),
            (Measure::Seconds, objective),
            |d| reader.origin::<HeldUpLongest<'_>>(d, PLAIN),
        ),
    ]
}

fn replication(reader: &Reader<'_>) -> Vec<ConsoleFigure> {
    if reader.first::<IsReplica<'_>>().is_none_or(|r| r.yes == 0.0) {
        return Vec::new();
    }
    let lag = reader.first::<ReplicationLag<'_>>().map(|l| l.seconds);
    let objective =
        reader.first::<ReplicationLagObjective<'_>>().map(|o| Objective::AtMost(o.seconds));
    let origin = reader.origin::<ReplicationLag<'_>>(None, PLAIN);
    vec![ConsoleFigure::new("Age of the data", lag, Measure::Seconds, origin).held_to(objective)]
}

impl LoadView {
    /// Figures on the wrong side of their objective.
    pub fn beyond(&self) -> impl Iterator<Item = &ConsoleFigure> {
        let all = [&self.cache, &self.connections, &self.locks, &self.replication];
        all.into_iter().flatten().filter(|f| f.beyond)
    }
}

/// A figure with a bar, where it has an end, and a tick at its objective.
pub fn meter(f: &ConsoleFigure) -> Markup {
    let share =
        |value: f64| format!("{:.2}%", (value / f.full.unwrap_or(1.0) * 100.0).clamp(0.0, 100.0));
    let tick = f.objective.map(|o| match o {
        super::figure::Objective::AtLeast(v) | super::figure::Objective::AtMost(v) => v,
    });
    html! {
        li title=(f.hint()) {
            span { (f.label) @if let Some(limit) = f.limit() { " " small { (limit) } } }
            span.v {
                @if f.beyond { b.warn { (icon("warn")) span.sr { "beyond its objective: " } " " (f.text()) } }
                @else { b { (f.text()) } }
            }
            @if let (Some(_), Some(value)) = (f.full, f.value) {
                svg.tl width="100%" height="6" aria-hidden="true" {
                    rect.track width="100%" height="6" rx="1" {}
                    rect class=(if f.beyond { "fw" } else { "dot" }) width=(share(value)) height="6" rx="1" {}
                    @if let Some(tick) = tick { line.now x1=(share(tick)) x2=(share(tick)) y1="-2" y2="8" {} }
                }
            }
        }
    }
}

/// A panel of figures.
pub fn panel(
    id: &str,
    title: &str,
    figures: &[ConsoleFigure],
    most: usize,
    metrics: &str,
) -> Markup {
    let origins: Vec<FigureOrigin> = figures.iter().map(|f| f.origin.clone()).collect();
    html! {
        section.panel id=(id) aria-labelledby=(format!("{id}-h")) {
            header { h2 id=(format!("{id}-h")) { (title) } (panel_age(&origins)) }
            @if figures.is_empty() { p.none { "Nothing was read yet; the collectors\u{2019} page says why." } }
            ul.meters { @for f in figures.iter().take(most) { (meter(f)) } }
            @if figures.len() > most { p.note { (figures.len() - most) " more on the server\u{2019}s page." } }
            (sources(&origins, metrics))
        }
    }
}

/// Sessions by state and active ones by wait.
pub fn sessions_panel(load: &LoadView, link: Option<&str>, metrics: &str) -> Markup {
    let waiting: f64 = load.waits.iter().map(|w| w.count).sum();
    let active = load.sessions.iter().find(|s| s.name == "active").map_or(0.0, |s| s.count);
    let waits = |name: &str| load.waits.iter().find(|w| w.name == name).map_or(0.0, |w| w.count);
    html! {
        section.panel id="sessions" aria-labelledby="sessions-h" {
            header { h2 id="sessions-h" { "Sessions" } (panel_age(&load.session_origins)) }
            @if load.sessions.is_empty() { p.none { "No session of a client but this exporter\u{2019}s own." } }
            table {
                caption.sr { "Sessions by state, and active ones by what they wait for" }
                tbody {
                    @for s in &load.sessions { tr { th scope="row" { (s.name) } td.num { b { (Measure::Count.show(s.count)) } } } }
                    @if active > 0.0 {
                        tr { th scope="row" { "\u{2003}running" } td.num { (Measure::Count.show((active - waiting).max(0.0))) } }
                    }
                    @for w in &load.waits {
                        tr { th scope="row" { "\u{2003}waiting: " (w.name) } td.num { (Measure::Count.show(w.count)) } }
                    }
                }
            }
            @if waits("Lock") > 0.0 { @if let Some(link) = link { p.note { a href=(link) { "Who waits for whom" } } } }
            (sources(&load.session_origins, metrics))
        }
    }
}
