//! The server as a whole: databases, replication, WAL, transaction IDs.
//!
//! Must not: show a setting that no collector publishes.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{ConsoleFigure, Measure, Objective, duration, panel_age, sources};
use super::finds::{self, Found};
use super::load::{self, LoadView};
use super::read::{FigureOrigin, PLAIN, RATE, Reader};
use crate::collectors::cache::{Deadlocks, HitRatio};
use crate::collectors::connections::Sessions;
use crate::collectors::databases::DatabaseSize;
use crate::collectors::indexes::DatabaseScanRatio;
use crate::collectors::replication::{IsReplica, StandbyLag};
use crate::collectors::settings::ServerStart;
use crate::collectors::slots::{SlotRetained, SlotRetainedObjective};
use crate::collectors::wraparound::WraparoundRatio;

/// One database.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DatabaseView {
    /// Its name.
    pub datname: String,
    /// Bytes.
    pub size_bytes: Option<f64>,
    /// Share of blocks found in shared buffers.
    pub hit_ratio: Option<f64>,
    /// Share of scans that used an index.
    pub scan_ratio: Option<f64>,
    /// Share of transaction IDs used up.
    pub wraparound_ratio: Option<f64>,
    /// Client sessions.
    pub sessions: Option<f64>,
    /// Since the statistics began.
    pub deadlocks: Option<f64>,
}

/// A standby, and how far it is behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StandbyView {
    /// `pg_stat_replication.application_name`.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its slot.
    pub slot: String,
    /// `sent`, `written`, `flushed` or `replayed`, and bytes behind.
    pub lags: Vec<(String, f64)>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerView {
    /// Whether it is in recovery.
    pub is_replica: Option<bool>,
    /// Seconds since it started.
    pub uptime_seconds: Option<f64>,
    /// The largest first.
    pub databases: Vec<DatabaseView>,
    /// That stream from it.
    pub standbys: Vec<StandbyView>,
    /// WAL that slots retain.
    pub slots: Vec<ConsoleFigure>,
    /// Cache, connections, replication.
    pub load: LoadView,
    /// What the rules found about the server.
    pub findings: Vec<Found>,
    /// Where the databases' figures come from.
    pub origins: Vec<FigureOrigin>,
}

/// Reads it.
pub fn server(reader: &Reader<'_>) -> ServerView {
    let mut databases: BTreeMap<&str, DatabaseView> = BTreeMap::new();
    macro_rules! take {
        ($($name:ident $read:ident $field:ident;)*) => {
            $(for s in reader.all::<$name<'_>>() { databases.entry(s.datname).or_default().$field = Some(s.$read); })*
        };
    }
    take! {
        DatabaseSize bytes size_bytes;
        HitRatio ratio hit_ratio;
        DatabaseScanRatio ratio scan_ratio;
        WraparoundRatio ratio wraparound_ratio;
        Deadlocks count deadlocks;
    }
    for s in reader.all::<Sessions<'_>>() {
        *databases.entry(s.datname).or_default().sessions.get_or_insert(0.0) += s.count;
    }
    // Counters that are of no database have no name.
    let mut databases: Vec<DatabaseView> = databases
        .into_iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, row)| DatabaseView { datname: name.to_owned(), ..row })
        .collect();
    databases.sort_by(|a, b| b.size_bytes.unwrap_or(0.0).total_cmp(&a.size_bytes.unwrap_or(0.0)));
    let mut standbys: BTreeMap<[&str; 3], Vec<(String, f64)>> = BTreeMap::new();
    for s in reader.all::<StandbyLag<'_>>() {
        let key = [s.application_name, s.client_addr, s.slot_name];
        standbys.entry(key).or_default().push((s.stage.to_owned(), s.bytes));
    }
    let most = reader.first::<SlotRetainedObjective<'_>>().map(|o| Objective::AtMost(o.bytes));
    let slots = reader.all::<SlotRetained<'_>>().map(|s| {
        let origin = reader.origin::<SlotRetained<'_>>(None, PLAIN);
        ConsoleFigure::new(format!("Slot {}", s.slot_name), Some(s.bytes), Measure::Bytes, origin)
            .held_to(most)
    });
    ServerView {
        is_replica: reader.first::<IsReplica<'_>>().map(|r| r.yes == 1.0),
        uptime_seconds: reader.first::<ServerStart<'_>>().map(|s| reader.unix() - s.seconds),
        databases,
        standbys: standbys
            .into_iter()
            .map(|([name, address, slot], lags)| StandbyView {
                name: reader.private(name).into_owned(),
                address: address.to_owned(),
                slot: slot.to_owned(),
                lags,
            })
            .collect(),
        slots: slots.collect(),
        load: load::load(reader),
        findings: finds::found(reader)
            .into_iter()
            .filter(|f| f.page == super::Page::Server.path())
            .collect(),
        origins: vec![
            reader.origin::<DatabaseSize<'_>>(None, PLAIN),
            reader.origin::<HitRatio<'_>>(None, PLAIN),
            reader.origin::<DatabaseScanRatio<'_>>(None, PLAIN),
            reader.origin::<WraparoundRatio<'_>>(None, PLAIN),
            reader.origin::<Sessions<'_>>(None, PLAIN),
            reader.origin::<Deadlocks<'_>>(None, RATE),
        ],
    }
}

/// The page.
pub fn page(view: &ServerView, metrics: &str) -> Markup {
    let ratio = |value: Option<f64>| {
        value.map_or_else(|| "\u{2014}".to_owned(), |v| Measure::Ratio.show(v))
    };
    let count = |value: Option<f64>| {
        value.map_or_else(|| "\u{2014}".to_owned(), |v| Measure::Count.show(v))
    };
    html! {
        @if !view.findings.is_empty() { section aria-label="Findings about the server" { ol.finds { (finds::list(&view.findings)) } } }
        section.panel aria-labelledby="databases-h" {
            header {
                h2 id="databases-h" { "Databases" }
                small {
                    @match view.is_replica { Some(true) => { "standby" }, Some(false) => { "primary" }, None => {} }
                    @if let Some(up) = view.uptime_seconds { " \u{b7} started " (duration(up.max(0.0))) " ago" }
                }
                (panel_age(&view.origins))
            }
            @if view.databases.is_empty() { p.none { "Nothing was read yet; the collectors\u{2019} page says why." } } @else {
                div.scroll {
                    table.cards {
                        caption.sr { "Databases, the largest first" }
                        thead { tr {
                            th scope="col" { "Database" } th.num scope="col" { "Size" } th.num scope="col" { "Cache hits" } th.num scope="col" { "Index scans" }
                            th.num scope="col" { "Transaction IDs used" } th.num scope="col" { "Sessions" } th.num scope="col" { "Deadlocks" }
                        } }
                        tbody {
                            @for d in &view.databases {
                                tr {
                                    th.f scope="row" { code { bdi { (d.datname) } } }
                                    td.num data-l="size" { (d.size_bytes.map_or_else(|| "\u{2014}".to_owned(), |b| Measure::Bytes.show(b))) }
                                    td.num data-l="cache hits" { (ratio(d.hit_ratio)) }
                                    td.num data-l="index scans" { (ratio(d.scan_ratio)) }
                                    td.num data-l="IDs used" { (ratio(d.wraparound_ratio)) }
                                    td.num data-l="sessions" { (count(d.sessions)) }
                                    td.num data-l="deadlocks" { (count(d.deadlocks)) }
                                }
                            }
                        }
                    }
                }
                (sources(&view.origins, metrics))
            }
        }
        div.two.even {
            (load::panel("cache", "Cache and indexes", &view.load.cache, usize::MAX, metrics))
            (load::panel("connections", "Connections and transactions", &view.load.connections, usize::MAX, metrics))
        }
        @if !view.standbys.is_empty() || !view.slots.is_empty() || !view.load.replication.is_empty() {
            section.panel aria-labelledby="replication-h" {
                header { h2 id="replication-h" { "Replication" } }
                ul.meters { @for f in view.load.replication.iter().chain(&view.slots) { (load::meter(f)) } }
                @if !view.standbys.is_empty() {
                    table.cards {
                        caption.sr { "Standbys" }
                        thead { tr { th scope="col" { "Standby" } th scope="col" { "Address" } th scope="col" { "Slot" } th scope="col" { "Behind" } } }
                        tbody {
                            @for s in &view.standbys {
                                tr {
                                    th.f scope="row" { bdi { (s.name) } } td { (s.address) } td { (s.slot) }
                                    td { @for (stage, bytes) in &s.lags { div { (stage) " " (Measure::Bytes.show(*bytes)) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
