//! What all pages share: the head, the bar with the pages, the foot, and the links between them.
//!
//! Must not: load anything from elsewhere, or hold a script or a style in the page.

use maud::{DOCTYPE, Markup, html};

use super::Page;
use super::finds::Found;
use super::icons::{icon, symbols};
use super::state::TargetState;

/// Where links lead.
pub struct Links<'a> {
    /// Of the target, where it has one.
    pub target: Option<&'a str>,
    /// Path of the exposition.
    pub telemetry: &'a str,
    /// The exposition of this target.
    pub exposition: String,
    /// Whether there is a list of targets.
    pub listed: bool,
    /// Seconds after which the page asks for itself again.
    pub every: Option<u32>,
}

/// A value in a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl<'a> Links<'a> {
    /// For a target, or for none.
    pub fn new(
        target: Option<&'a str>,
        telemetry: &'a str,
        listed: bool,
        every: Option<u32>,
    ) -> Self {
        let exposition = match target {
            Some(name) => format!("{telemetry}?target={}", encoded(name)),
            None => telemetry.to_owned(),
        };
        Self { target, telemetry, exposition, listed, every }
    }

    fn query(&self) -> String {
        let target = self.target.map(|name| format!("target={}", encoded(name)));
        let every = self.every.map(|seconds| format!("every={seconds}"));
        let parts: Vec<String> = [target, every].into_iter().flatten().collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    /// Of a page about the same target.
    pub fn page(&self, page: Page) -> String {
        format!("{}{}", page.path(), self.query())
    }

    /// Of a target's overview.
    pub fn overview(&self, target: &str) -> String {
        let every = self.every.map(|seconds| format!("&every={seconds}")).unwrap_or_default();
        format!("/?target={}{every}", encoded(target))
    }

    /// The exposition.
    pub fn metrics(&self) -> &str {
        &self.exposition
    }

    /// A metric in it.
    pub fn metric(&self, name: &str) -> String {
        format!("{}#:~:text={name}", self.exposition)
    }
}

/// Findings that belong to a page, for the bar: how many, and the worst.
fn mark(page: Page, found: &[Found]) -> Option<(usize, &'static str)> {
    let mine = found.iter().filter(|f| f.page == page.path() && f.severity != "info");
    let worst = mine.clone().map(|f| f.severity).next()?;
    Some((mine.count(), worst))
}

/// A page.
pub fn frame(
    (title, page): (&str, Page),
    state: Option<&TargetState>,
    found: &[Found],
    links: &Links<'_>,
    body: &Markup,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                @if let Some(seconds) = links.every {
                    // With a script it is done in place.
                    noscript { meta http-equiv="refresh" content=(seconds); }
                }
                title { (title) " \u{b7} pgrunway" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/console.js" defer {}
            }
            body {
                (symbols())
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/" { (icon("mark")) "pgrunway" }
                    @if let Some(state) = state.filter(|_| links.listed) {
                        a.target href=(links.page(Page::Overview)) { bdi { (state.title()) } }
                    }
                    nav aria-label="Pages" {
                        @if links.listed { (tab("/", "Targets", page == Page::Targets, None)) }
                        @if let Some(state) = state {
                            @for p in Page::of(state.kind) {
                                (tab(&links.page(*p), p.title(), page == *p, mark(*p, found)))
                            }
                        }
                        (tab(&links.page(Page::Configuration), Page::Configuration.title(), page == Page::Configuration, None))
                    }
                    span.at {
                        @if let Some(state) = state {
                            span title="Time of the snapshot, by the exporter's clock" { span.dk { "as of " } (clock(state.as_of)) }
                        }
                        a href="" data-refresh=(links.every.map_or_else(String::new, |s| s.to_string())) { "Refresh" }
                    }
                }
                main id="main" {
                    // The first page and the list begin with their verdict.
                    @if !matches!(page, Page::Targets | Page::Overview) { h1.sr { (title) } }
                    (body)
                }
                footer.foot {
                    span { "pgrunway " (env!("CARGO_PKG_VERSION")) }
                    a href=(links.metrics()) { "Metrics" }
                    a href="/targets" { "/targets" }
                    a href="/-/ready" { "/-/ready" }
                    a href=(json(page, links)) { "This page as JSON" }
                    span {
                        "What is shown is the last snapshot: this page asks PostgreSQL nothing. "
                        @match links.every {
                            Some(seconds) => { "It asks for itself again every " (seconds) " s. " a href=(without_every(page, links)) { "Stop" } },
                            None => { "Refresh by itself: " a href=(every(page, links, 5)) { "every 5 s" } ", " a href=(every(page, links, 30)) { "every 30 s" } },
                        }
                    }
                }
            }
        }
    }
}

fn with(page: Page, links: &Links<'_>, seconds: Option<u32>) -> String {
    Links {
        every: seconds,
        target: links.target,
        telemetry: links.telemetry,
        exposition: String::new(),
        listed: links.listed,
    }
    .page(page)
}

fn every(page: Page, links: &Links<'_>, seconds: u32) -> String {
    with(page, links, Some(seconds))
}

fn without_every(page: Page, links: &Links<'_>) -> String {
    with(page, links, None)
}

/// Where the same stands for programs.
fn json(page: Page, links: &Links<'_>) -> String {
    let target = links.target.map(|name| format!("?target={}", encoded(name))).unwrap_or_default();
    format!("/api/v1/{}{target}", page.word())
}

fn tab(href: &str, title: &str, current: bool, mark: Option<(usize, &'static str)>) -> Markup {
    html! {
        a href=(href) aria-current=[current.then_some("page")] {
            (title)
            @if let Some((count, worst)) = mark {
                @let shape = super::finds::shape(worst);
                span class=(format!("n {shape}")) { (icon(shape)) (count) span.sr { " found, worst: " (worst) } }
            }
        }
    }
}

/// The time of day in UTC.
fn clock(unix: f64) -> String {
    crate::derive::units::instant(unix)
        .split_once(' ')
        .map_or_else(String::new, |(_, time)| time.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_value_of_a_query() {
        assert_eq!(encoded("a b&c=d/é\"<"), "a%20b%26c%3Dd%2F%C3%A9%22%3C");
        let links = Links::new(Some("x&y"), "/metrics", true, Some(5));
        assert_eq!(links.page(Page::Queries), "/queries?target=x%26y&every=5");
        assert_eq!(links.metrics(), "/metrics?target=x%26y");
    }
}
