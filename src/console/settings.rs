//! The configuration in force: each setting with its value and where that comes from.
//!
//! Must not: show a secret; what may hold one came here without it.

use maud::{Markup, html};
use serde::Serialize;

use super::read::Reader;
use super::shell::Links;
use crate::config::{ConfiguredSetting, ConfiguredSettings};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigurationRow {
    /// Path in `pgrunway.yml`.
    pub path: String,
    /// As it was written.
    pub value: String,
    /// Flag, variable, place in the file, or `default`.
    pub place: String,
    /// What it means.
    pub help: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingsView {
    /// What was given, for all targets.
    pub given: Vec<ConfigurationRow>,
    /// What the target has of its own.
    pub own: Vec<ConfigurationRow>,
    /// What was not given.
    pub defaults: Vec<ConfigurationRow>,
}

fn row(s: &ConfiguredSetting, reader: &Reader<'_>) -> ConfigurationRow {
    // A user's name may be a setting's value.
    let names_users = s.path.ends_with("user") || s.path.contains("roles");
    let value = if names_users { reader.private(&s.value).into_owned() } else { s.value.clone() };
    ConfigurationRow { path: s.path.clone(), value, place: s.place.clone(), help: s.help.clone() }
}

/// Of a target, or of all.
pub fn settings(shown: &ConfiguredSettings, reader: &Reader<'_>) -> SettingsView {
    let rows = |wanted: bool| {
        let some = shown.general.iter().filter(|s| (s.place != "default") == wanted);
        some.map(|s| row(s, reader)).collect()
    };
    let own = reader.target.and_then(|name| shown.targets.get(name));
    SettingsView {
        given: rows(true),
        own: own.into_iter().flatten().map(|s| row(s, reader)).collect(),
        defaults: rows(false),
    }
}

/// The page.
pub fn page(view: &SettingsView, _: &Links<'_>) -> Markup {
    html! {
        @if !view.own.is_empty() { (panel("own", "This target\u{2019}s own settings", &view.own)) }
        (panel("given", "Settings that were given", &view.given))
        (panel("defaults", "Defaults in force", &view.defaults))
    }
}

fn panel(id: &str, title: &str, rows: &[ConfigurationRow]) -> Markup {
    html! {
        section.panel aria-labelledby=(format!("{id}-h")) {
            header { h2 id=(format!("{id}-h")) { (title) } small { (rows.len()) } }
            @if rows.is_empty() { p.none { "None: all are defaults." } } @else {
                div.scroll {
                    table.cards {
                        caption.sr { (title) }
                        thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } th scope="col" { "What it means" } } }
                        tbody {
                            @for s in rows {
                                tr {
                                    th.f scope="row" { code { (s.path) } }
                                    td.why { code { bdi { @if s.value.is_empty() { "\u{2014}" } @else { (s.value) } } } }
                                    td.nw data-l="from" { code { (s.place) } }
                                    td.why.f { (s.help) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
