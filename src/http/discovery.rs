//! `/targets`: Prometheus' HTTP service discovery of this exporter's own pages.
//!
//! Must not: tell where a target is or who logs in to it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST, HeaderMap};
use axum::http::{StatusCode, uri::Authority};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::App;

/// One group of Prometheus' format.
#[derive(Debug, PartialEq, Serialize)]
struct TargetGroup {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

/// The page of this process first, which is that of the default target too where there is one, then
/// each target under its own name.
pub(super) async fn targets(State(app): State<App>, headers: HeaderMap) -> Response {
    // Where whoever asks can reach this exporter, he knows best.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_plain(host));
    let Some(host) = host else {
        let text = "Name the host: its address goes into the answer.\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let targets = (app.targets)();
    let names = targets.keys().map(String::as_str);
    match serde_json::to_string(&groups(host, &app.telemetry_path, names)) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

fn groups<'a>(host: &str, path: &str, names: impl Iterator<Item = &'a str>) -> Vec<TargetGroup> {
    let group = |name: Option<&str>| {
        let mut labels = BTreeMap::from([("__metrics_path__", path.to_owned())]);
        if let Some(name) = name {
            labels.insert("__param_target", name.to_owned());
            labels.insert("instance", name.to_owned());
        }
        TargetGroup { targets: [host.to_owned()], labels }
    };
    std::iter::once(group(None)).chain(names.map(|name| group(Some(name)))).collect()
}

/// A host and a port and nothing else.
fn is_plain(host: &str) -> bool {
    !host.contains('@') && host.parse::<Authority>().is_ok_and(|a| !a.host().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_page_comes_first_then_each_target_as_an_instance() {
        let json = serde_json::to_value(groups("[::1]:9187", "/m", ["a", "b-1"].into_iter()));
        let expected = serde_json::json!([
            {"targets": ["[::1]:9187"], "labels": {"__metrics_path__": "/m"}},
            {"targets": ["[::1]:9187"],
             "labels": {"__metrics_path__": "/m", "__param_target": "a", "instance": "a"}},
            {"targets": ["[::1]:9187"],
             "labels": {"__metrics_path__": "/m", "__param_target": "b-1", "instance": "b-1"}},
        ]);
        assert_eq!(json.unwrap(), expected);
    }

    #[test]
    fn only_a_host_with_a_port_is_taken_for_one() {
        for (host, plain) in [
            ("exporter:9187", true),
            ("10.0.0.1", true),
            ("[::1]:9187", true),
            ("", false),
            ("a b", false),
            ("user@host", false),
            ("host/path", false),
            ("host\"", false),
        ] {
            assert_eq!(is_plain(host), plain, "{host}");
        }
    }
}
