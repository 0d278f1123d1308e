//! The status page: what is collected, and why something is not.
//!
//! Must not: show a secret, or text from a database without escaping it.

use std::time::SystemTime;

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
        "<tr><td><a href=\"/?target={name}\">{name}</a><td>{}{}<td><code>{}</code> ({})<td>{}",
        state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" }),
        trouble(snapshot) + &role(snapshot),
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
        .map(|d| {
            let name = escape(&d.datname);
            match d.trouble.as_deref().filter(|_| snapshot.up) {
                None => format!("{name} {}", state(d.trouble.is_none(), "up", "down")),
                Some(why) => format!("{name} <span class=bad>{}</span>", escape(why)),
            }
        })
        .collect();
    let databases = match (snapshot.of, &databases[..]) {
        (Of::Server, []) => "<p>Databases: none visited yet".to_owned(),
        (Of::Server, all) => format!("<p>Databases: {}", all.join(", ")),
        _ => String::new(),
    };
    let version = snapshot.version.as_deref().unwrap_or("version not known yet");
    format!(
        "<p><code>{}</code> ({}): {}{}{databases}\
         <h2>Collectors</h2><table><tr><th>Collector<th>Database<th>State<th class=n>Interval\
         <th class=n>Took<th class=n>Series{rows}</table>",
        escape(&snapshot.target),
        escape(version),
        state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" }),
        trouble(snapshot) + &role(snapshot),
    )
}

/// Why the target is down, or was last.
fn trouble(snapshot: &Snapshot) -> String {
    let Some(trouble) = &snapshot.trouble else { return String::new() };
    let (since, why) = (time(trouble.since), escape(&trouble.message));
    match trouble.over {
        None => format!(
            "<p class=bad>Down since {since}, last tried {}: {} ({why})",
            time(trouble.last),
            trouble.kind
        ),
        Some(over) => {
            format!("<p>It was down from {since} to {}: {} ({why})", time(over), trouble.kind)
        }
    }
}

/// A role that sees little.
fn role(snapshot: &Snapshot) -> String {
    match &snapshot.role {
        Some(role) if !role.reads_all_stats => format!(
            "<p class=bad>The role {} sees its own sessions only: GRANT pg_monitor to it",
            escape(&role.name)
        ),
        _ => String::new(),
    }
}

/// UTC, to the second.
fn time(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn outcome_row(outcome: &Outcome) -> String {
    let state = match &outcome.error {
        None => "<span class=ok>ok</span>".to_owned(),
        Some(e) => format!("<span class=bad>{}</span>", escape(e)),
    };
    let trusted = outcome.trusted.as_deref().map(|t| format!("<br><small>{}</small>", escape(t)));
    format!(
        "<tr><td>{}<td>{}<td>{state}{}<td class=n>{} s<td class=n>{:.1} ms<td class=n>{}",
        escape(outcome.collector),
        escape(outcome.datname.as_deref().unwrap_or("(server)")),
        trusted.unwrap_or_default(),
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
    use crate::snapshot::{Database, Role, Trouble};

    #[test]
    fn the_status_page_escapes_what_it_shows() {
        let mut outcome = Outcome::new("x", Some("<b>".into()), Duration::from_secs(1));
        outcome.trusted = Some("read in <db>".into());
        outcome.error = Some("relation \"<script>\" & more".into());
        let snapshot = Snapshot { outcomes: vec![outcome], ..Snapshot::default() };
        let html = status_html(&snapshot, &[], "/metrics");
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
        let html = status_html(&snapshot, &[("a", snapshot.clone())], "/metrics");
        let said = "Down since 2023-11-14 22:13:20 UTC, last tried 2023-11-14 22:14:20 UTC: refused \
                    (127.0.0.1:5432 refused the login: password &lt;wrong&gt;)";
        assert_eq!(html.matches(said).count(), 2, "for itself and in the list: {html}");
        assert!(html.contains("shop <span class=bad>down</span>"), "{html}");
        snapshot.up = true;
        if let Some(trouble) = &mut snapshot.trouble {
            trouble.over = Some(at(1_700_000_120));
        }
        snapshot.role = Some(Role { name: "m<n".into(), reads_all_stats: false });
        let html = status_html(&snapshot, &[], "/metrics");
        assert!(
            html.contains("down from 2023-11-14 22:13:20 UTC to 2023-11-14 22:15:20"),
            "{html}"
        );
        assert!(html.contains("shop <span class=bad>x</span>"), "{html}");
        assert!(html.contains("The role m&lt;n sees its own sessions only"), "{html}");
    }
}
