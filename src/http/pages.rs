//! The console's routes: which target and which page was asked for, and the headers of the answer.
//!
//! Must not: let a page load, send or be framed by anything but this exporter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{App, ListedTarget, unknown};
use crate::config::ConsoleAccess;
use crate::console::{self, ASSETS, ConsoleAsked, Form, ListAsked, Page, Reader, Wanted};
use crate::snapshot::{Of, Snapshot};

/// Least and most seconds after which a page asks for itself again.
const EVERY: std::ops::RangeInclusive<u32> = 2..=3_600;

/// What a query may hold; everything else in it is of no account.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct AskedPage {
    target: Option<String>,
    q: String,
    sort: String,
    state: String,
    page: String,
    every: String,
}

impl From<AskedPage> for ConsoleAsked {
    fn from(asked: AskedPage) -> Self {
        let every = asked.every.parse::<u32>().ok();
        Self {
            target: asked.target.filter(|name| !name.is_empty()),
            search: asked.q.clone(),
            list: ListAsked {
                search: asked.q,
                sort: asked.sort,
                state: asked.state,
                page: asked.page.parse().unwrap_or(1),
            },
            every: every.map(|seconds| seconds.clamp(*EVERY.start(), *EVERY.end())),
        }
    }
}

/// Adds the pages, their JSON and what they are made of.
pub(super) fn routes(mut router: Router<App>, app: &App) -> Router<App> {
    if app.console.access == ConsoleAccess::Off {
        return if *app.telemetry_path == *"/" { router } else { router.route("/", get(off)) };
    }
    for page in Page::ALL {
        for (path, form) in
            [(page.path().to_owned(), Form::Html), (format!("/api/v1/{}", page.word()), Form::Json)]
        {
            if *path != *app.telemetry_path {
                let handler = move |state: State<App>, asked: Query<AskedPage>| async move {
                    answer(state.0, (page, form), asked.0)
                };
                router = router.route(&path, get(handler));
            }
        }
    }
    for (path, kind, content) in ASSETS {
        let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=300")];
        router = router.route(path, get(move || async move { (headers, content).into_response() }));
    }
    router
}

async fn off(State(app): State<App>) -> Response {
    let path = &app.telemetry_path;
    format!(
        "pgrunway {}; the console is off (web.console). Metrics: {path}\n",
        env!("CARGO_PKG_VERSION")
    )
    .into_response()
}

fn answer(app: App, (page, form): (Page, Form), asked: AskedPage) -> Response {
    let asked = ConsoleAsked::from(asked);
    let targets = (app.targets)();
    let (default, now) = (app.snapshots.borrow().clone(), SystemTime::now());
    let listed = !targets.is_empty();
    let wanted = Wanted { page, form, asked: &asked, listed };
    if page == Page::Targets && asked.target.is_none() && (listed || form == Form::Json) {
        let own = (default.of != Of::Exporter).then(|| (None, default.clone()));
        let named = targets.iter().map(|(name, t)| (Some(name.as_str()), Arc::new((t.snapshot)())));
        return finish(form, app.console.of_all(&wanted, now, own.into_iter().chain(named)));
    }
    let snapshot = match &asked.target {
        None => default,
        Some(name) => match targets.get(name) {
            Some(target) => Arc::new((target.snapshot)()),
            None => return unknown(&targets),
        },
    };
    let reader = Reader {
        snapshot: &snapshot,
        now,
        target: asked.target.as_deref(),
        hides: app.console.access == ConsoleAccess::WithoutNames,
    };
    let poolers = if page == Page::Poolers { poolers(&targets) } else { Vec::new() };
    finish(form, app.console.of_target(&wanted, &reader, &poolers))
}

fn poolers(targets: &BTreeMap<String, ListedTarget>) -> Vec<(String, Snapshot)> {
    let all = targets.iter().map(|(name, target)| (name.clone(), (target.snapshot)()));
    all.filter(|(_, snapshot)| snapshot.of == Of::Pooler).collect()
}

fn finish(form: Form, text: String) -> Response {
    let kind = match form {
        Form::Html => "text/html; charset=utf-8",
        Form::Json => "application/json",
    };
    let mut response = text.into_response();
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, console::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
