//! The status page: what is collected, and why something is not.
//!
//! Must not: show a secret, or text from a database without escaping it.

use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{App, Asked, findings, unknown};
use crate::error::{NotAvailable, WhyMissing};
use crate::snapshot::{NEWEST_MAJOR, Of, Outcome, Snapshot};

pub(super) async fn page(State(app): State<App>, Query(asked): Query<Asked>) -> Response {
    let path = &app.telemetry_path;
    let html = match asked.target {
        None => {
            let snapshot = app.snapshots.borrow().clone();
            let targets = (app.targets)();
            let listed: Vec<(&str, Snapshot)> =
                targets.iter().map(|(name, t)| (name.as_str(), (t.snapshot)())).collect();
            status_html(&snapshot, &listed, path)
        }
        Some(name) => {
            let targets = (app.targets)();
            let Some(listed) = targets.get(&name) else { return unknown(&targets) };
            status_html(&(listed.snapshot)(), &[], &format!("{path}?target={name}"))
        }
    };
    Html(html.into_string()).into_response()
}

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:62rem;padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#c0392b;font-weight:600}\
.ok{color:#1e8449}pre{white-space:pre-wrap;overflow-wrap:anywhere}nav a{margin-right:1.2rem}code{overflow-wrap:anywhere}";

fn state(good: bool, yes: &str, no: &str) -> Markup {
    html! {
        @if good { span class="ok" { (yes) } } @else { span class="bad" { (no) } }
    }
}

fn status_html(snapshot: &Snapshot, listed: &[(&str, Snapshot)], metrics: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "pgrunway" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "pgrunway " (env!("CARGO_PKG_VERSION")) }
                nav {
                    @for path in ["/", metrics, "/-/healthy", "/-/ready"] {
                        a href=(path) { (path) } " "
                    }
                }
                @if snapshot.of != Of::Exporter { (of_target(snapshot)) }
                @if !listed.is_empty() {
                    h2 { "Targets" }
                    p { "For Prometheus: " a href="/targets" { "/targets" } }
                    table {
                        tr { th { "Target" } th { "State" } th { "Where" } th { "Findings" } th { "Collectors that fail" } }
                        @for (name, target) in listed { (row(name, target)) }
                    }
                }
            }
        }
    }
}

/// One of the targets, in the list of them.
fn row(name: &str, snapshot: &Snapshot) -> Markup {
    let failing: Vec<&str> =
        snapshot.outcomes.iter().filter(|o| o.error.is_some()).map(|o| &*o.collector).collect();
    html! {
        tr {
            td { a href={ "/?target=" (name) } { (name) } }
            td { (reached(snapshot)) (trouble(snapshot)) (untested(snapshot)) (role(snapshot)) }
            td { code { (snapshot.target) } " (" (version(snapshot)) ")" }
            td { a href={ "/?target=" (name) "#findings" } { (findings::counts(snapshot)) } }
            td { (failing.join(", ")) }
        }
    }
}

fn reached(snapshot: &Snapshot) -> Markup {
    state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" })
}

fn version(snapshot: &Snapshot) -> &str {
    snapshot.version.as_deref().unwrap_or("version not known yet")
}

fn of_target(snapshot: &Snapshot) -> Markup {
    html! {
        p { code { (snapshot.target) } " (" (version(snapshot)) "): " (reached(snapshot)) }
        (trouble(snapshot)) (untested(snapshot)) (role(snapshot))
        @if snapshot.of == Of::Server {
            p {
                "Databases: "
                @if snapshot.databases.is_empty() { "none visited yet" }
                @for (i, database) in snapshot.databases.iter().enumerate() {
                    @if i > 0 { ", " }
                    (database.datname) " "
                    @match database.trouble.as_deref().filter(|_| snapshot.up) {
                        None => { (state(database.trouble.is_none(), "up", "down")) },
                        Some(why) => { span class="bad" { (why) } },
                    }
                }
            }
        }
        (findings::section(snapshot))
        h2 { "Collectors" }
        table {
            tr {
                th { "Collector" } th { "Database" } th { "State" }
                th class="n" { "Interval" } th class="n" { "Took" } th class="n" { "Series" }
            }
            @for outcome in &snapshot.outcomes { (outcome_row(outcome)) }
        }
        // Of a server that is down it is what was, and is not shown.
        @for outcome in snapshot.outcomes.iter().filter(|o| snapshot.up && o.error.is_none()) {
            @if let Some(shown) = &outcome.shown {
                h2 { "Collector " (outcome.collector) }
                pre { (shown) }
            }
        }
    }
}

/// Why the target is down, or was last.
fn trouble(snapshot: &Snapshot) -> Markup {
    let Some(trouble) = &snapshot.trouble else { return html! {} };
    let since = time(trouble.since);
    html! {
        @match trouble.over {
            None => {
                p class="bad" {
                    "Down since " (since) ", last tried " (time(trouble.last)) ": " (trouble.kind)
                    " (" (trouble.message) ")"
                }
            },
            Some(over) => {
                p {
                    "It was down from " (since) " to " (time(over)) ": " (trouble.kind)
                    " (" (trouble.message) ")"
                }
            },
        }
    }
}

/// A role that sees little.
fn role(snapshot: &Snapshot) -> Markup {
    html! {
        @if let Some(role) = snapshot.role.as_ref().filter(|role| !role.reads_all_stats) {
            p class="bad" {
                "The role " (role.name) " sees its own sessions only: GRANT pg_monitor to it"
            }
        }
    }
}

/// A version that is newer than any tested one.
fn untested(snapshot: &Snapshot) -> Markup {
    html! {
        @if let Some(major) = snapshot.major.filter(|major| *major > NEWEST_MAJOR) {
            p class="bad" {
                "PostgreSQL " (major) " is newer than any that this pgrunway was tested with, and is read as "
                (NEWEST_MAJOR)
            }
        }
    }
}

/// UTC, to the second.
fn time(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What a collector does without, and why.
fn without(missing: &[NotAvailable]) -> String {
    let of = |why| -> Vec<&str> {
        missing.iter().filter(|one| one.why == why).map(|one| &*one.name).collect()
    };
    let mut parts = Vec::new();
    for (names, why) in [
        (of(WhyMissing::Absent), "which the server does not have"),
        (of(WhyMissing::Forbidden), "which its role may not read"),
        (of(WhyMissing::Unsupported), "which the server refuses to everybody"),
    ] {
        if !names.is_empty() {
            parts.push(format!("without {}, {why}", names.join(", ")));
        }
    }
    parts.join("; ")
}

fn outcome_row(outcome: &Outcome) -> Markup {
    html! {
        tr {
            td { (outcome.collector) }
            td { (outcome.datname.as_deref().unwrap_or("(server)")) }
            td {
                @match &outcome.error {
                    None => { span class="ok" { "ok" } },
                    Some(e) => { span class="bad" { (e) } },
                }
                @if let Some(trusted) = &outcome.trusted { br; small { (trusted) } }
                @if !outcome.missing.is_empty() {
                    br;
                    small { (without(&outcome.missing)) }
                }
            }
            td class="n" { (outcome.interval.as_secs_f64()) " s" }
            td class="n" { (format!("{:.1} ms", outcome.duration.as_secs_f64() * 1e3)) }
            td class="n" { (outcome.series) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::{Database, Role, Trouble};

    #[test]
    fn the_status_page_escapes_what_it_shows() {
        let mut outcome = Outcome::new("x", Some("<b>".into()), Duration::from_secs(1));
        outcome.trusted = Some("read in <db>".into());
        let lacking = |name: &str, why| NotAvailable { name: name.into(), why };
        outcome.missing = vec![
            lacking("pg_stat_x.<i>", WhyMissing::Absent),
            lacking("pg_new()", WhyMissing::Absent),
            lacking("pg_ls_waldir()", WhyMissing::Forbidden),
        ];
        outcome.error = Some("relation \"<script>\" & more".into());
        let mut shows = Outcome::new("y", None, Duration::from_secs(1));
        shows.shown = Some("application <script>".into());
        let down = Snapshot { outcomes: vec![shows], ..Snapshot::default() };
        assert!(!status_html(&down, &[], "/metrics").into_string().contains("application"));
        let html = status_html(&Snapshot { up: true, ..down }, &[], "/metrics").into_string();
        assert!(html.contains("<pre>application &lt;script&gt;</pre>"), "{html}");
        let major = Some(NEWEST_MAJOR);
        let mut snapshot = Snapshot { outcomes: vec![outcome], major, ..Snapshot::default() };
        let html = status_html(&snapshot, &[], "/metrics").into_string();
        let says = "without pg_stat_x.&lt;i&gt;, pg_new(), which the server does not have; without \
                    pg_ls_waldir(), which its role may not read";
        assert!(html.contains(says), "{html}");
        assert!(!html.contains("newer than any"), "{html}");
        snapshot.major = Some(NEWEST_MAJOR + 1);
        let newer = status_html(&snapshot, &[], "/metrics").into_string();
        assert!(newer.contains("is newer than any that this pgrunway was tested with"), "{newer}");
        assert!(html.contains("relation &quot;&lt;script&gt;&quot; &amp; more"), "{html}");
        assert!(html.contains("<small>read in &lt;db&gt;</small>"), "{html}");
        assert!(html.contains("&lt;b&gt;") && html.contains("not tried yet"));
        assert!(!html.contains("<script>"));
    }

    #[test]
    fn it_says_why_a_target_is_down_and_since_when() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let mut snapshot = Snapshot {
            tried: true,
            trouble: Some(Trouble {
                kind: "refused",
                message: "127.0.0.1:5432 refused the login: password <wrong>".into(),
                since: at(1_700_000_000),
                last: at(1_700_000_060),
                over: None,
            }),
            databases: vec![Database { datname: "shop".into(), trouble: Some("x".into()) }],
            ..Snapshot::default()
        };
        let html = status_html(&snapshot, &[("a", snapshot.clone())], "/metrics").into_string();
        let said = "Down since 2023-11-14 22:13:20 UTC, last tried 2023-11-14 22:14:20 UTC: refused \
                    (127.0.0.1:5432 refused the login: password &lt;wrong&gt;)";
        assert_eq!(html.matches(said).count(), 2, "for itself and in the list: {html}");
        assert!(html.contains("shop <span class=\"bad\">down</span>"), "{html}");
        snapshot.up = true;
        if let Some(trouble) = &mut snapshot.trouble {
            trouble.over = Some(at(1_700_000_120));
        }
        snapshot.role = Some(Role { name: "m<n".into(), reads_all_stats: false });
        let html = status_html(&snapshot, &[], "/metrics").into_string();
        assert!(
            html.contains("down from 2023-11-14 22:13:20 UTC to 2023-11-14 22:15:20"),
            "{html}"
        );
        assert!(html.contains("shop <span class=\"bad\">x</span>"), "{html}");
        assert!(html.contains("The role m&lt;n sees its own sessions only"), "{html}");
    }
}
