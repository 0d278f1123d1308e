//! PoolsView of a PgBouncer: who waits, how long, and how full they are.
//!
//! Must not: name a user where names are to be hidden.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{ConsoleFigure, Measure, Objective, duration, panel_age, sources};
use super::icons::icon;
use super::load::meter;
use super::read::{FigureOrigin, PLAIN, Reader};
use crate::collectors::pgbouncer::published::{
    PoolClients, PoolClientsUsed, PoolIdleServers, PoolMaxWait, PoolMaxWaitObjective, PoolPaused,
    PoolSaturation, PoolServers, PoolSize, PoolWaiting,
};

/// One pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PoolRow {
    /// Its database.
    pub database: String,
    /// Its user.
    pub user: String,
    /// Clients that are linked or idle.
    pub clients: Option<f64>,
    /// Clients that wait.
    pub waiting: Option<f64>,
    /// Servers that work.
    pub servers: Option<f64>,
    /// Servers that are free.
    pub idle: Option<f64>,
    /// Servers that it may have.
    pub size: Option<f64>,
    /// Share of those that no waiting client can have.
    pub saturation: Option<f64>,
    /// Seconds.
    pub max_wait_seconds: Option<f64>,
    /// Whether that is over the objective.
    pub beyond: bool,
}

/// All of a pooler.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolsView {
    /// Of the pooler as a whole.
    pub figures: Vec<ConsoleFigure>,
    /// Those that wait longest first.
    pub pools: Vec<PoolRow>,
    /// Databases that are paused.
    pub paused: Vec<String>,
    /// Where the figures come from.
    pub origins: Vec<FigureOrigin>,
}

/// Reads them.
pub fn pools(reader: &Reader<'_>) -> PoolsView {
    let mut rows: BTreeMap<(&str, &str), PoolRow> = BTreeMap::new();
    macro_rules! take {
        ($($name:ident $read:ident $field:ident;)*) => {
            $(for s in reader.all::<$name<'_>>() {
                rows.entry((s.database, s.user)).or_default().$field = Some(s.$read);
            })*
        };
    }
    take! {
        PoolClients count clients;
        PoolWaiting count waiting;
        PoolServers count servers;
        PoolIdleServers count idle;
        PoolSize count size;
        PoolSaturation ratio saturation;
        PoolMaxWait seconds max_wait_seconds;
    }
    let objective = reader.first::<PoolMaxWaitObjective<'_>>().map(|o| o.seconds);
    let mut pools: Vec<PoolRow> = rows
        .into_iter()
        .map(|((database, user), row)| PoolRow {
            database: database.to_owned(),
            user: reader.private(user).into_owned(),
            beyond: row.max_wait_seconds.zip(objective).is_some_and(|(wait, most)| wait > most),
            ..row
        })
        .collect();
    pools.sort_by(|a, b| {
        let key = |p: &PoolRow| (p.max_wait_seconds.unwrap_or(0.0), p.saturation.unwrap_or(0.0));
        key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let longest = pools.iter().filter_map(|p| p.max_wait_seconds).reduce(f64::max);
    let figures = vec![
        ConsoleFigure::new(
            "Longest wait of a client",
            longest,
            Measure::Seconds,
            reader.origin::<PoolMaxWait<'_>>(None, PLAIN),
        )
        .held_to(objective.map(Objective::AtMost)),
        ConsoleFigure::new(
            "Client connections used",
            reader.first::<PoolClientsUsed<'_>>().map(|u| u.ratio),
            Measure::Ratio,
            reader.origin::<PoolClientsUsed<'_>>(None, PLAIN),
        ),
    ];
    PoolsView {
        figures,
        pools,
        paused: reader
            .all::<PoolPaused<'_>>()
            .filter(|p| p.yes == 1.0)
            .map(|p| p.name.to_owned())
            .collect(),
        origins: vec![
            reader.origin::<PoolClients<'_>>(None, PLAIN),
            reader.origin::<PoolWaiting<'_>>(None, PLAIN),
            reader.origin::<PoolServers<'_>>(None, PLAIN),
            reader.origin::<PoolSize<'_>>(None, PLAIN),
            reader.origin::<PoolSaturation<'_>>(None, PLAIN),
            reader.origin::<PoolMaxWait<'_>>(None, PLAIN),
        ],
    }
}

/// The panel.
pub fn panel(pools: &PoolsView, metrics: &str) -> Markup {
    let count = |value: Option<f64>| {
        value.map_or_else(|| "\u{2014}".to_owned(), |v| Measure::Count.show(v))
    };
    html! {
        section.panel aria-labelledby="pools-h" {
            header { h2 id="pools-h" { "PoolsView" } (panel_age(&pools.origins)) }
            ul.meters { @for f in &pools.figures { (meter(f)) } }
            @if !pools.paused.is_empty() { p.warn { (icon("warn")) " Paused: " (pools.paused.join(", ")) } }
            @if pools.pools.is_empty() { p.none { "The pooler shows no pool." } } @else {
                div.scroll {
                    table.cards {
                        caption.sr { "PoolsView, those that wait longest first" }
                        thead { tr {
                            th scope="col" { "Database" } th scope="col" { "User" } th.num scope="col" { "Clients" }
                            th.num scope="col" { "Waiting" } th.num scope="col" { "Longest wait" } th.num scope="col" { "Servers" }
                            th.num scope="col" { "Idle" } th.num scope="col" { "Size" } th.num scope="col" { "In use" }
                        } }
                        tbody {
                            @for p in &pools.pools {
                                tr {
                                    th.f scope="row" { code { (p.database) } }
                                    td data-l="user" { code { (p.user) } }
                                    td.num data-l="clients" { (count(p.clients)) }
                                    td.num data-l="waiting" { (count(p.waiting)) }
                                    td.num data-l="longest wait" {
                                        @let wait = p.max_wait_seconds.map_or_else(|| "\u{2014}".to_owned(), duration);
                                        @if p.beyond { b.warn { (icon("warn")) " " (wait) } } @else { (wait) }
                                    }
                                    td.num data-l="servers" { (count(p.servers)) }
                                    td.num data-l="idle" { (count(p.idle)) }
                                    td.num data-l="size" { (count(p.size)) }
                                    td.num data-l="in use" { (p.saturation.map_or_else(|| "\u{2014}".to_owned(), |r| Measure::Ratio.show(r))) }
                                }
                            }
                        }
                    }
                }
                (sources(&pools.origins, metrics))
            }
        }
    }
}
