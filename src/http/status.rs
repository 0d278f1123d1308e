//! The status page: what is collected, and why something is not.
//!
//! Must not: show a secret, or text from a database without escaping it.

use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};

use super::{App, Asked, unknown};
use crate::snapshot::{Of, Outcome, Snapshot};

pub(super) async fn page(State(app): State<App>, Query(asked): Query<Asked>) -> Response {
    let path = &app.telemetry_path;
    let html = match asked.target {
        None => {
            let snapshot = app.snapshots.borrow().clone();
            let listed: Vec<(&str, Snapshot)> =
                app.targets.iter().map(|(name, t)| (name.as_str(), (t.snapshot)())).collect();
            status_html(&snapshot, &listed, path)
        }
        Some(name) => {
            let Some(listed) = app.targets.get(&name) else { return unknown(&app) };
            status_html(&(listed.snapshot)(), &[], &format!("{path}?target={name}"))
        }
    };
    Html(html).into_response()
}

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:62rem;padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#c0392b;font-weight:600}\
.ok{color:#1e8449}nav a{margin-right:1.2rem}code{overflow-wrap:anywhere}";

fn state(good: bool, yes: &str, no: &str) -> String {
    match good {
        true => format!("<span class=ok>{yes}</span>"),
        false => format!("<span class=bad>{no}</span>"),
    }
}

fn status_html(snapshot: &Snapshot, listed: &[(&str, Snapshot)], metrics: &str) -> String {
    let mut body = String::new();
    if snapshot.of != Of::Exporter {
        body.push_str(&of_target(snapshot));
    }
    if !listed.is_empty() {
        let rows: String = listed.iter().map(|(name, target)| row(name, target)).collect();
        body.push_str(&format!(
            "<h2>Targets</h2><p>For Prometheus: <a href=\"/targets\">/targets</a>\
             <table><tr><th>Target<th>State<th>Where<th>Collectors that fail{rows}</table>"
        ));
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>pgrunway</title>\
         <meta name=viewport content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>pgrunway {}</h1><nav><a href=\"/\">/</a><a href=\"{path}\">{path}</a>\
         <a href=\"/-/healthy\">/-/healthy</a><a href=\"/-/ready\">/-/ready</a></nav>{body}</html>\n",
        env!("CARGO_PKG_VERSION"),
        path = escape(metrics),
    )
}

/// One of the targets, in the list of them.
fn row(name: &str, snapshot: &Snapshot) -> String {
    let failing: Vec<&str> =
        snapshot.outcomes.iter().filter(|o| o.error.is_some()).map(|o| o.collector).collect();
    format!(
        "<tr><td><a href=\"/?target={name}\">{name}</a><td>{}<td><code>{}</code> ({})<td>{}",
        state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" }),
        escape(&snapshot.target),
        escape(snapshot.version.as_deref().unwrap_or("version not known yet")),
        failing.join(", "),
        name = escape(name),
    )
}

fn of_target(snapshot: &Snapshot) -> String {
    let rows: String = snapshot.outcomes.iter().map(outcome_row).collect();
    let databases: Vec<String> = snapshot
        .databases
        .iter()
        .map(|(name, up)| format!("{} {}", escape(name), state(*up, "up", "cannot be entered")))
        .collect();
    let databases = match (snapshot.of, &databases[..]) {
        (Of::Server, []) => "<p>Databases: none visited yet".to_owned(),
        (Of::Server, all) => format!("<p>Databases: {}", all.join(", ")),
        _ => String::new(),
    };
    let version = snapshot.version.as_deref().unwrap_or("version not known yet");
    format!(
        "<p><code>{}</code> ({}): {}{databases}\
         <h2>Collectors</h2><table><tr><th>Collector<th>Database<th>State<th class=n>Interval\
         <th class=n>Took<th class=n>Series{rows}</table>",
        escape(&snapshot.target),
        escape(version),
        state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" }),
    )
}

fn outcome_row(outcome: &Outcome) -> String {
    let state = match &outcome.error {
        None => "<span class=ok>ok</span>".to_owned(),
        Some(e) => format!("<span class=bad>{}</span>", escape(e)),
    };
    format!(
        "<tr><td>{}<td>{}<td>{state}<td class=n>{} s<td class=n>{:.1} ms<td class=n>{}",
        escape(outcome.collector),
        escape(outcome.datname.as_deref().unwrap_or("(server)")),
        outcome.interval.as_secs_f64(),
        outcome.duration.as_secs_f64() * 1e3,
        outcome.series,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_status_page_escapes_what_it_shows() {
        let mut outcome = Outcome::new("x", Some("<b>".into()), Duration::from_secs(1));
        outcome.error = Some("relation \"<script>\" & more".into());
        let snapshot = Snapshot { outcomes: vec![outcome], ..Snapshot::default() };
        let html = status_html(&snapshot, &[], "/metrics");
        assert!(html.contains("relation &quot;&lt;script&gt;&quot; &amp; more"), "{html}");
        assert!(html.contains("&lt;b&gt;") && html.contains("not tried yet"));
        assert!(!html.contains("<script>"));
    }
}
