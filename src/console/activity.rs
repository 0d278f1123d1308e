//! Who works, who waits, and who holds others up, at the last look.
//!
//! Must not: show sessions by name where names are to be hidden.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{Measure, age, panel_age, sources};
use super::load::{self, LoadView};
use super::read::{FigureOrigin, RATE, Reader};
use crate::collectors::activity::{ActivitySamples, SampledSeconds, WaitSeconds};

/// Waits that are listed.
const MOST: usize = 20;

/// Seconds of sessions by what they waited for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitRow {
    /// Type, or `CPU`.
    pub wait_event_type: String,
    /// The event.
    pub wait_event: String,
    /// Session seconds since the exporter began to sample.
    pub seconds: f64,
    /// Share of all.
    pub share: f64,
}

/// All of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivityView {
    /// Sessions, locks, transactions.
    pub load: LoadView,
    /// Of all databases, the most first.
    pub waits: Vec<WaitRow>,
    /// Samples that stand behind those.
    pub samples: Option<f64>,
    /// Seconds that they stand for.
    pub sampled_seconds: Option<f64>,
    /// Who waits for whom, as text; absent where nobody does, or names are hidden.
    pub tree: Option<String>,
    /// Seconds since that was looked at.
    pub tree_age_seconds: Option<f64>,
    /// Where the waits come from.
    pub origins: Vec<FigureOrigin>,
}

/// Reads it.
pub fn activity(reader: &Reader<'_>) -> ActivityView {
    let mut waits: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for s in reader.all::<WaitSeconds<'_>>() {
        *waits.entry((s.wait_event_type, s.wait_event)).or_default() += s.seconds;
    }
    let whole: f64 = waits.values().sum();
    let some = waits.into_iter().filter(|(_, seconds)| *seconds > 0.0);
    let mut waits: Vec<WaitRow> = some
        .map(|((kind, event), seconds)| WaitRow {
            wait_event_type: kind.to_owned(),
            wait_event: event.to_owned(),
            seconds,
            share: seconds / whole,
        })
        .collect();
    waits.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    waits.truncate(MOST);
    let outcomes = &reader.snapshot.outcomes;
    let shows =
        outcomes.iter().find(|o| o.error.is_none() && o.shown.is_some() && reader.snapshot.up);
    ActivityView {
        load: load::load(reader),
        waits,
        samples: reader.first::<ActivitySamples<'_>>().map(|s| s.count),
        sampled_seconds: reader.first::<SampledSeconds<'_>>().map(|s| s.seconds),
        tree: shows.and_then(|o| o.shown.as_deref()).map(|t| reader.private(t).into_owned()),
        tree_age_seconds: shows.and_then(|o| reader.age(o)),
        origins: vec![
            reader.origin::<WaitSeconds<'_>>(None, RATE),
            reader.origin::<SampledSeconds<'_>>(None, RATE),
        ],
    }
}

/// The page.
pub fn page(view: &ActivityView, metrics: &str) -> Markup {
    html! {
        section.panel id="blockers" aria-labelledby="blockers-h" {
            header {
                h2 id="blockers-h" { "Who waits for whom" }
                @if let Some(seconds) = view.tree_age_seconds { span.age { (age(seconds)) " old" } }
            }
            @match &view.tree {
                Some(tree) => { pre.tree tabindex="0" { (tree) } },
                None => { p.none { "Nobody waited for a lock at the last look." } },
            }
        }
        div.two.even {
            (load::panel("locks", "Locks", &view.load.locks, 10, metrics))
            (load::panel("transactions", "Connections and transactions", &view.load.connections, 10, metrics))
        }
        div.two.even {
            (load::sessions_panel(&view.load, None, metrics))
            section.panel aria-labelledby="waits-h" {
                header { h2 id="waits-h" { "What sessions waited for" } (panel_age(&view.origins)) }
                @if view.waits.is_empty() { p.none { "No active session was sampled yet." } }
                ul.meters {
                    @for w in &view.waits {
                        li {
                            span { (w.wait_event_type) @if w.wait_event != w.wait_event_type { " " small { (w.wait_event) } } }
                            span.v { b { (Measure::Ratio.show(w.share)) } " " small { (super::figure::duration(w.seconds)) } }
                            svg.tl width="100%" height="6" aria-hidden="true" {
                                rect.track width="100%" height="6" rx="1" {}
                                rect.dot width=(format!("{:.2}%", w.share * 100.0)) height="6" rx="1" {}
                            }
                        }
                    }
                }
                @if let Some(samples) = view.samples {
                    p.note {
                        "Session seconds since this exporter began to sample, from " (Measure::Count.show(samples)) " samples"
                        @if let Some(seconds) = view.sampled_seconds { " over " (super::figure::duration(seconds)) }
                        "; a share p is off by about \u{221a}(p(1 \u{2212} p)/samples)."
                    }
                }
                (sources(&view.origins, metrics))
            }
        }
    }
}
