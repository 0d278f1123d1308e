//! The console: what a person reads of a target, as pages and as JSON of the same, from its last snapshot.
//!
//! A page has a view, which is read of the snapshot and goes out as JSON as it is, and its HTML, which says nothing that
//! the view does not hold.
//!
//! Must not: ask a server, read a clock (the time is given), or judge what the rules and the objectives do not.

mod activity;
mod fares;
pub mod figure;
mod finds;
pub mod history;
mod hour;
mod icons;
mod latency;
mod list;
mod load;
mod overview;
mod pools;
mod queries;
mod read;
mod runway;
mod server;
mod settings;
mod shell;
mod state;
#[cfg(test)]
mod tests;
mod verdicts;

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{ConfiguredSettings, ConsoleAccess};
use crate::snapshot::Snapshot;
use history::Hours;
pub use list::ListAsked;
pub use read::Reader;
use shell::Links;

/// What a browser is sent beside the pages: path, type, content.
pub static ASSETS: [(&str, &str, &str); 3] = [
    ("/assets/console.css", "text/css; charset=utf-8", include_str!("assets/console.css")),
    ("/assets/console.js", "text/javascript; charset=utf-8", include_str!("assets/console.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// Nothing but what this exporter serves, no script or style in the page, in no frame.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// One of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The list of targets.
    Targets,
    /// What is wrong with a target.
    Overview,
    /// Statements and latencies.
    Queries,
    /// Who works, waits and blocks.
    Activity,
    /// Runways.
    Partitions,
    /// VerdictsView on indexes.
    Indexes,
    /// Databases, replication.
    Server,
    /// PoolsView.
    Poolers,
    /// Why a series is missing.
    Collectors,
    /// Settings in force.
    Configuration,
}

impl Page {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Targets,
        Self::Overview,
        Self::Queries,
        Self::Activity,
        Self::Partitions,
        Self::Indexes,
        Self::Server,
        Self::Poolers,
        Self::Collectors,
        Self::Configuration,
    ];

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Targets => "/",
            Self::Overview => "/overview",
            Self::Queries => "/queries",
            Self::Activity => "/activity",
            Self::Partitions => "/partitions",
            Self::Indexes => "/indexes",
            Self::Server => "/server",
            Self::Poolers => "/poolers",
            Self::Collectors => "/collectors",
            Self::Configuration => "/configuration",
        }
    }

    /// In the path of its JSON.
    pub fn word(self) -> &'static str {
        if self == Self::Targets { "targets" } else { &self.path()[1..] }
    }

    /// In the bar.
    pub fn title(self) -> &'static str {
        match self {
            Self::Targets => "Targets",
            Self::Overview => "Overview",
            Self::Queries => "Queries",
            Self::Activity => "Activity",
            Self::Partitions => "Partitions",
            Self::Indexes => "Indexes",
            Self::Server => "Server",
            Self::Poolers => "Poolers",
            Self::Collectors => "Collectors",
            Self::Configuration => "Configuration",
        }
    }

    /// Those about a target of that kind ([`state::TargetState::kind`]), but for the settings.
    fn of(kind: &str) -> &'static [Self] {
        match kind {
            "server" => &[
                Self::Overview,
                Self::Queries,
                Self::Activity,
                Self::Partitions,
                Self::Indexes,
                Self::Server,
                Self::Poolers,
                Self::Collectors,
            ],
            "pooler" => &[Self::Overview, Self::Poolers, Self::Collectors],
            _ => &[Self::Poolers],
        }
    }
}

/// As what a page goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Html,
    /// For programs.
    Json,
}

/// What stays between requests.
#[derive(Clone)]
pub struct Console {
    /// Who sees what.
    pub access: ConsoleAccess,
    /// The last hour of each target.
    pub hours: Arc<Hours>,
    /// The settings in force.
    pub settings: Arc<dyn Fn() -> Arc<ConfiguredSettings> + Send + Sync>,
    /// Path of the exposition.
    pub telemetry: Arc<str>,
}

/// What a request asks for.
#[derive(Debug, Clone, Default)]
pub struct ConsoleAsked {
    /// Name of a target; none for the server without one.
    pub target: Option<String>,
    /// What is searched.
    pub search: String,
    /// Of the list.
    pub list: ListAsked,
    /// Seconds after which a page asks for itself again.
    pub every: Option<u32>,
}

/// A page that is to be made.
pub struct Wanted<'a> {
    /// Which.
    pub page: Page,
    /// As what.
    pub form: Form,
    /// With what.
    pub asked: &'a ConsoleAsked,
    /// Whether there is a list of targets.
    pub listed: bool,
}

/// View and HTML of a page.
struct Made<V> {
    view: V,
    html: fn(&V, &Links<'_>) -> Markup,
}

impl<V: Serialize> Made<V> {
    fn finish(self, wanted: &Wanted<'_>, reader: &Reader<'_>, console: &Console) -> String {
        let state = state::state(reader);
        if wanted.form == Form::Json {
            return text(&json!({ "target": state, wanted.page.word(): self.view }));
        }
        let links = links(wanted, console);
        let body = (self.html)(&self.view, &links);
        let found = finds::found(reader);
        let title = match wanted.page {
            Page::Overview => state.title().to_owned(),
            page => format!("{}: {}", state.title(), page.title()),
        };
        shell::frame((&title, wanted.page), Some(&state), &found, &links, &body).into_string()
    }
}

fn text(value: &Value) -> String {
    format!("{value}\n")
}

fn links<'a>(wanted: &'a Wanted<'_>, console: &'a Console) -> Links<'a> {
    let asked = wanted.asked;
    Links::new(asked.target.as_deref(), &console.telemetry, wanted.listed, asked.every)
}

impl Console {
    /// A page about a target. `poolers` are the poolers among the targets, for their page.
    pub fn of_target(
        &self,
        wanted: &Wanted<'_>,
        reader: &Reader<'_>,
        poolers: &[(String, Snapshot)],
    ) -> String {
        let search = &wanted.asked.search;
        match wanted.page {
            Page::Targets | Page::Overview => {
                let state = state::state(reader);
                let view = (overview::overview(reader, &state, &self.hours), state);
                let overview = Wanted { page: Page::Overview, ..*wanted };
                if wanted.form == Form::Json {
                    return text(&json!({ "target": view.1, "overview": view.0 }));
                }
                let html: fn(&(overview::Overview, state::TargetState), &Links<'_>) -> Markup =
                    |(view, state), links| overview::page(view, state, links);
                Made { view, html }.finish(&overview, reader, self)
            }
            Page::Queries => {
                let view = queries::queries(reader);
                Made { view, html: |v, l| queries::page(v, l.metrics()) }
                    .finish(wanted, reader, self)
            }
            Page::Activity => {
                let view = activity::activity(reader);
                Made { view, html: |v, l| activity::page(v, l.metrics()) }
                    .finish(wanted, reader, self)
            }
            Page::Partitions => {
                let view = runway::runways(reader);
                Made { view, html: |v, l| runway::page(v, l.metrics()) }
                    .finish(wanted, reader, self)
            }
            Page::Indexes => {
                let view = verdicts::verdicts(reader);
                Made { view, html: |v, l| verdicts::page(v, l.metrics()) }
                    .finish(wanted, reader, self)
            }
            Page::Server => {
                let view = server::server(reader);
                Made { view, html: |v, l| server::page(v, l.metrics()) }
                    .finish(wanted, reader, self)
            }
            Page::Poolers => {
                let of = |name: Option<&str>, snapshot: &Snapshot| {
                    let reader = Reader { snapshot, target: name, ..*reader };
                    (state::state(&reader), pools::pools(&reader))
                };
                let own = (reader.snapshot.of == crate::snapshot::Of::Pooler)
                    .then(|| of(reader.target, reader.snapshot));
                let others =
                    poolers.iter().filter(|(name, _)| Some(name.as_str()) != reader.target);
                let others = others.map(|(name, snapshot)| of(Some(name), snapshot));
                let view = PoolersView(match own {
                    Some(own) => vec![own],
                    None => others.collect(),
                });
                Made { view, html: poolers_page }.finish(wanted, reader, self)
            }
            Page::Collectors => {
                let view = fares::collecting(reader, search);
                Made { view, html: fares::page }.finish(wanted, reader, self)
            }
            Page::Configuration => {
                let view = settings::settings(&(self.settings)(), reader);
                Made { view, html: settings::page }.finish(wanted, reader, self)
            }
        }
    }

    /// The list of targets; the one without a name has none here either.
    pub fn of_all<'a>(
        &self,
        wanted: &Wanted<'_>,
        now: std::time::SystemTime,
        targets: impl Iterator<Item = (Option<&'a str>, Arc<Snapshot>)>,
    ) -> String {
        let hides = self.access == ConsoleAccess::WithoutNames;
        let rows = targets.map(|(target, snapshot)| {
            list::row(&Reader { snapshot: &snapshot, now, target, hides })
        });
        let list = list::list(rows.collect(), wanted.asked.list.clone());
        if wanted.form == Form::Json {
            return text(&json!({ "targets": list }));
        }
        let links = Links::new(None, &self.telemetry, true, wanted.asked.every);
        let body = list::page(&list, &links);
        shell::frame(("Targets", Page::Targets), None, &[], &links, &body).into_string()
    }
}

/// Poolers and their pools.
#[derive(Serialize)]
#[serde(transparent)]
struct PoolersView(Vec<(state::TargetState, pools::PoolsView)>);

fn poolers_page(view: &PoolersView, links: &Links<'_>) -> Markup {
    html! {
        @if view.0.is_empty() {
            section.panel aria-label="Poolers" { p.none { "No PgBouncer is among the targets; docs/pgbouncer.md says how to add one." } }
        }
        @for (state, pools) in &view.0 {
            section aria-label=(state.title()) { (state.line()) ol.finds { (state.items(&[])) } }
            (pools::panel(pools, links.metrics()))
        }
    }
}
