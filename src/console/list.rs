//! The list of targets: the worst first, searched and sorted by the server.
//!
//! Must not: be longer than a page, however many targets there are.

use std::cmp::Ordering;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{Measure, duration};
use super::finds;
use super::icons::icon;
use super::read::Reader;
use super::shell::{Links, encoded};
use super::state::{self, TargetState};
use crate::collectors::cache::HitRatio;
use crate::collectors::connections::UsedRatio;
use crate::collectors::partitions::published::RunwayLeft;
use crate::collectors::pgbouncer::published::PoolClientsUsed;
use crate::collectors::statements::published::{LatencyObjective, QueryLatency};

/// Targets of a page.
const PER_PAGE: usize = 50;

/// What the list was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ListAsked {
    /// Part of a name, a place, a database or a version.
    pub search: String,
    /// What it is sorted by: `state`, `name`, `runway`, `p95`, `connections` or `cache`.
    pub sort: String,
    /// `down`, `critical`, `warning` or `ok`; all where empty.
    pub state: String,
    /// From 1.
    pub page: usize,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedRow {
    /// Its name; none for the server without one.
    pub name: Option<String>,
    /// Where it is.
    pub place: String,
    /// `down`, `critical`, `warning`, `ok` or `unknown`.
    pub state: &'static str,
    /// Why it is down.
    pub trouble: Option<String>,
    /// Unix seconds since which it is down.
    pub down_since: Option<f64>,
    /// Of the server.
    pub version: Option<String>,
    /// `server`, `pooler` or `exporter`.
    pub kind: &'static str,
    /// What the rules found.
    pub tally: finds::FoundTally,
    /// Collectors that fail.
    pub failing: Vec<String>,
    /// The shortest of its tables, in seconds.
    pub runway_seconds: Option<f64>,
    /// The slowest p95 of its databases, in seconds.
    pub p95_seconds: Option<f64>,
    /// Whether that is over the objective.
    pub slow: bool,
    /// Share of connections in use.
    pub connections_ratio: Option<f64>,
    /// The lowest of its databases.
    pub hit_ratio: Option<f64>,
    #[serde(skip)]
    databases: String,
}

/// What is shown of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetList {
    /// What was asked.
    pub asked: ListAsked,
    /// All targets.
    pub total: usize,
    /// Those that match.
    pub matching: usize,
    /// Pages of those.
    pub pages: usize,
    /// How many there are of each state, of those that the search leaves.
    pub states: [(&'static str, usize); 4],
    /// Those of this page.
    pub targets: Vec<ListedRow>,
}

/// Keys that the list can be sorted by, and what stands over the column.
pub const SORTS: [(&str, &str); 6] = [
    ("state", "State"),
    ("name", "Target"),
    ("runway", "Shortest runway"),
    ("p95", "p95"),
    ("connections", "Connections"),
    ("cache", "Cache hits"),
];

const STATES: [&str; 4] = ["down", "critical", "warning", "ok"];

/// Reads one.
pub fn row(reader: &Reader<'_>) -> ListedRow {
    let state: TargetState = state::state(reader);
    let tally = finds::tally(reader);
    let runway = reader.all::<RunwayLeft<'_>>().map(|r| r.value).reduce(f64::min);
    let p95 = reader.all::<QueryLatency<'_>>().filter(|q| q.quantile == "0.95" && q.window == "5m");
    let p95 = p95.map(|q| q.seconds).reduce(f64::max);
    let objective = reader.first::<LatencyObjective<'_>>().map(|o| o.seconds);
    let slow = p95.zip(objective).is_some_and(|(p95, most)| p95 > most);
    let pooler = reader.first::<PoolClientsUsed<'_>>().map(|u| u.ratio);
    let failing: Vec<String> = if state.state == "up" {
        let outcomes = reader.snapshot.outcomes.iter().filter(|o| o.error.is_some());
        outcomes.map(|o| o.collector.to_string()).collect()
    } else {
        Vec::new()
    };
    let shown = match state.state {
        "down" => "down",
        "not tried yet" => "unknown",
        _ if tally.critical > 0 || runway.is_some_and(|r| r <= 0.0) => "critical",
        _ if tally.warning > 0 || slow || !failing.is_empty() => "warning",
        _ => "ok",
    };
    let trouble = state.trouble.as_ref().filter(|t| t.over.is_none());
    ListedRow {
        state: shown,
        trouble: trouble.map(|t| format!("{}: {}", t.kind, t.message)),
        down_since: trouble.map(|t| t.since),
        kind: state.kind,
        tally,
        failing,
        runway_seconds: runway,
        p95_seconds: p95,
        slow,
        connections_ratio: reader.first::<UsedRatio<'_>>().map(|u| u.ratio).or(pooler),
        hit_ratio: reader.all::<HitRatio<'_>>().map(|h| h.ratio).reduce(f64::min),
        databases: state
            .databases
            .iter()
            .map(|d| d.datname.to_lowercase())
            .collect::<Vec<_>>()
            .join("\n"),
        name: state.name,
        place: state.place,
        version: state.version,
    }
}

impl ListedRow {
    fn rank(&self) -> usize {
        match self.state {
            "down" => 0,
            "critical" => 1,
            "warning" => 2,
            "unknown" => 3,
            _ => 4,
        }
    }

    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.place)
    }

    fn matches(&self, search: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(search);
        search.is_empty()
            || self.name.as_deref().is_some_and(has)
            || has(&self.place)
            || self.version.as_deref().is_some_and(has)
            || self.trouble.as_deref().is_some_and(has)
            || self.databases.contains(search)
    }
}

/// What is not known comes last.
fn by(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Searches, sorts and cuts.
pub fn list(rows: Vec<ListedRow>, asked: ListAsked) -> TargetList {
    let total = rows.len();
    let search = asked.search.trim().to_lowercase();
    let mut rows: Vec<ListedRow> = rows.into_iter().filter(|r| r.matches(&search)).collect();
    let states = STATES.map(|state| (state, rows.iter().filter(|r| r.state == state).count()));
    if !asked.state.is_empty() {
        rows.retain(|r| r.state == asked.state);
    }
    let negative = |value: Option<f64>| value.map(|v| -v);
    rows.sort_by(|a, b| {
        let order = match asked.sort.as_str() {
            "name" => Ordering::Equal,
            "runway" => by(a.runway_seconds, b.runway_seconds),
            "p95" => by(negative(a.p95_seconds), negative(b.p95_seconds)),
            "connections" => by(negative(a.connections_ratio), negative(b.connections_ratio)),
            "cache" => by(a.hit_ratio, b.hit_ratio),
            _ => (a.rank(), b.tally.critical, b.tally.warning).cmp(&(
                b.rank(),
                a.tally.critical,
                a.tally.warning,
            )),
        };
        order.then_with(|| a.title().cmp(b.title()))
    });
    let matching = rows.len();
    let pages = matching.div_ceil(PER_PAGE).max(1);
    let page = asked.page.clamp(1, pages);
    let targets = rows.into_iter().skip((page - 1) * PER_PAGE).take(PER_PAGE).collect();
    TargetList { asked: ListAsked { page, ..asked }, total, matching, pages, states, targets }
}

fn href(asked: &ListAsked, (sort, state, page): (&str, &str, usize)) -> String {
    let mut parts = Vec::new();
    for (name, value) in [("q", asked.search.as_str()), ("sort", sort), ("state", state)] {
        if !value.is_empty() {
            parts.push(format!("{name}={}", encoded(value)));
        }
    }
    if page > 1 {
        parts.push(format!("page={page}"));
    }
    if parts.is_empty() { "/".to_owned() } else { format!("/?{}", parts.join("&")) }
}

/// The page.
pub fn page(list: &TargetList, links: &Links<'_>) -> Markup {
    let a = &list.asked;
    let worst = list.states.iter().find(|(_, count)| *count > 0).map_or("ok", |(state, _)| state);
    html! {
        section.verdict aria-label="Verdict" {
            (super::icons::sole(shape(worst), worst))
            div { h1 { (sentence(list)) } }
            p.tally {
                @for (state, count) in &list.states {
                    a href=(href(a, (&a.sort, state, 1))) { (icon(shape(state))) " " b { (count) } " " (state) }
                }
                a href=(href(a, (&a.sort, "", 1))) { b { (list.total) } " in all" }
            }
        }
        section.panel aria-labelledby="targets-h" {
            header { h2 id="targets-h" { "Targets" } }
            form.tools method="get" action="/" role="search" {
                label for="q" { "Search" }
                input type="search" id="q" name="q" value=(a.search) placeholder="name, host, database, version";
                label for="sort" { "Sort by" }
                select id="sort" name="sort" {
                    @for (key, title) in SORTS { option value=(key) selected[a.sort == key] { (title) } }
                }
                @if !a.state.is_empty() { input type="hidden" name="state" value=(a.state); }
                button type="submit" { "Show" }
                @if !a.search.is_empty() || !a.state.is_empty() { a href="/" { "Show all" } }
            }
            @if list.targets.is_empty() { p.none { "No target matches." } } @else { (table(list, links)) }
            @if list.pages > 1 {
                p.pg {
                    @if a.page > 1 { a href=(href(a, (&a.sort, &a.state, a.page - 1))) { "Previous" } " " }
                    "Page " (a.page) " of " (list.pages) " (" (list.matching) " targets) "
                    @if a.page < list.pages { a href=(href(a, (&a.sort, &a.state, a.page + 1))) { "Next" } }
                }
            }
        }
    }
}

fn sentence(list: &TargetList) -> String {
    let of = |wanted: &str| list.states.iter().find(|(s, _)| *s == wanted).map_or(0, |(_, n)| *n);
    let (down, critical, warning) = (of("down"), of("critical"), of("warning"));
    let verb = |n: usize| if n == 1 { "is" } else { "are" };
    match (down, critical, warning) {
        (0, 0, 0) => {
            format!("Nothing was found on {} targets by what could be asked", list.matching)
        }
        (0, 0, n) => format!("{n} of {} targets have warnings", list.matching),
        (0, n, _) => format!("{n} of {} targets {} critical", list.matching, verb(n)),
        (d, 0, _) => format!("{d} of {} targets {} down", list.matching, verb(d)),
        (d, n, _) => format!("{d} of {} targets {} down, {n} critical", list.matching, verb(d)),
    }
}

fn shape(state: &str) -> &'static str {
    match state {
        "down" => "down",
        "critical" => "crit",
        "warning" => "warn",
        "ok" => "ok",
        _ => "unk",
    }
}

fn table(list: &TargetList, links: &Links<'_>) -> Markup {
    let dash = || "\u{2014}".to_owned();
    let ratio = |value: Option<f64>| value.map_or_else(dash, |v| Measure::Ratio.show(v));
    html! {
        div.scroll {
            table.cards {
                caption.sr { "Targets, sorted by " (if list.asked.sort.is_empty() { "state" } else { &list.asked.sort }) }
                thead { tr {
                    @for (key, title) in SORTS {
                        @let sorted = list.asked.sort == key || (list.asked.sort.is_empty() && key == "state");
                        th scope="col" class=(if matches!(key, "state" | "name") { "" } else { "num" }) aria-sort=[sorted.then_some("other")] {
                            a href=(href(&list.asked, (key, &list.asked.state, 1))) { (title) }
                        }
                    }
                    th scope="col" { "Findings, and what fails" }
                } }
                tbody {
                    @for t in &list.targets {
                        tr {
                            td { span class=(format!("sev {}", shape(t.state))) { (icon(shape(t.state))) " " (t.state) } }
                            th.f scope="row" {
                                @match &t.name {
                                    Some(name) => { a href=(links.overview(name)) { bdi { (name) } } },
                                    None => { a href="/overview" { "(the server without a name)" } },
                                }
                                small { (t.place) " \u{b7} " (t.version.as_deref().unwrap_or("version not known yet")) }
                            }
                            td.num data-l="runway" {
                                @match t.runway_seconds {
                                    Some(left) => { span class=(if left <= 0.0 { "crit" } else { "" }) { (Measure::Seconds.show(left)) } },
                                    None => { "\u{2014}" },
                                }
                            }
                            td.num data-l="p95" {
                                @let p95 = t.p95_seconds.map_or_else(dash, duration);
                                @if t.slow { b.warn { (icon("warn")) span.sr { "over its objective: " } " " (p95) } } @else { (p95) }
                            }
                            td.num data-l="connections" { (ratio(t.connections_ratio)) }
                            td.num data-l="cache hits" { (ratio(t.hit_ratio)) }
                            td.why.f {
                                @if let Some(trouble) = &t.trouble {
                                    (trouble)
                                    @if let Some(since) = t.down_since { small { "since " (crate::derive::units::instant(since)) } }
                                } @else {
                                    @let found = counts(t);
                                    (found)
                                    @if !t.failing.is_empty() { small { "fails: " (t.failing.join(", ")) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn counts(t: &ListedRow) -> String {
    let all =
        [(t.tally.critical, "critical"), (t.tally.warning, "warning"), (t.tally.info, "info")];
    all.iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::snapshot::{Snapshot, Trouble};

    fn rows() -> Vec<ListedRow> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        (0..1_000)
            .map(|i| {
                let name = format!("shop-{i:04}");
                let trouble = (i == 700).then(|| Trouble {
                    kind: "refused",
                    message: "no".into(),
                    since: now,
                    last: now,
                    over: None,
                });
                let up = trouble.is_none();
                let snapshot = Snapshot {
                    up,
                    tried: true,
                    trouble,
                    target: format!("db{i}:5432").into(),
                    ..Snapshot::default()
                };
                row(&Reader { snapshot: &snapshot, now, target: Some(&name), hides: false })
            })
            .collect()
    }

    #[test]
    fn of_a_thousand_targets_the_worst_come_first_and_what_is_searched_is_found() {
        let rows = rows();
        let all = list(rows.clone(), ListAsked::default());
        assert_eq!((all.total, all.matching, all.pages, all.targets.len()), (1_000, 1_000, 20, 50));
        assert_eq!(all.targets[0].name.as_deref(), Some("shop-0700"));
        assert_eq!(all.states, [("down", 1), ("critical", 0), ("warning", 0), ("ok", 999)]);
        let asked =
            |search: &str, page| ListAsked { search: search.into(), page, ..ListAsked::default() };
        let found = list(rows.clone(), asked("DB99", 1));
        assert_eq!(found.matching, 11, "db99 and db990 to db999");
        let last = list(rows.clone(), asked("", 99));
        assert_eq!((last.asked.page, last.targets.len()), (20, 50), "no page beyond the last");
        let down = list(rows.clone(), ListAsked { state: "down".into(), ..ListAsked::default() });
        assert_eq!(down.matching, 1);
        let links = Links::new(None, "/metrics", true, None);
        let begin = Instant::now();
        let html = page(&list(rows, asked("shop", 2)), &links).into_string();
        assert!(html.contains("shop-0050") && html.contains("Page 2 of 20"), "{html}");
        // Far from what it takes, also on a busy machine without optimization.
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn hostile_names_stay_text_and_one_value() {
        let now = SystemTime::UNIX_EPOCH;
        let snapshot = Snapshot { target: "<b>\"&'".into(), ..Snapshot::default() };
        let name = "</a><script>alert(1)</script>&x=\"\u{202e}";
        let rows =
            vec![row(&Reader { snapshot: &snapshot, now, target: Some(name), hides: false })];
        let html = page(
            &list(rows, ListAsked { search: "\"><script>".into(), ..ListAsked::default() }),
            &Links::new(None, "/m", true, None),
        )
        .into_string();
        assert!(!html.contains("<script>"), "{html}");
        let rows =
            vec![row(&Reader { snapshot: &snapshot, now, target: Some(name), hides: false })];
        let html = page(&list(rows, ListAsked::default()), &Links::new(None, "/m", true, None))
            .into_string();
        assert!(
            !html.contains("<script>") && html.contains("?target=%3C%2Fa%3E%3Cscript%3E"),
            "{html}"
        );
    }
}
