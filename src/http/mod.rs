//! The HTTP server: `/metrics`, service discovery, liveness, readiness and the console. The only
//! user of axum.
//!
//! Must not: wait for a database, or render an exposition on its threads.

mod ask;
mod auth;
mod connections;
mod discovery;
mod pages;
mod slots;
mod tls;
mod watched;
mod web;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Body as _;
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

pub use ask::{asks_for_certificate, over_tls};
pub use connections::serve;
pub use slots::SlotLimits;
pub use web::PortFeatures;

use auth::{PasswordVerdict, Peer, Users};

use crate::console::Console;
use crate::render::{self, HttpCounters, OnDemand, Pages};
use crate::snapshot::Snapshot;

/// A request is answered from memory, at most after a page was rendered.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// No request of ours has a body.
const BODY_LIMIT: usize = 1024;

/// One of the targets that the configuration lists.
#[derive(Clone)]
pub struct ListedTarget {
    /// What it is now.
    pub snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// Whether it answered last, `None` before the first try.
    pub up: Arc<dyn Fn() -> Option<bool> + Send + Sync>,
}

/// What the handlers answer from.
#[derive(Clone)]
pub struct App {
    /// The latest exposition in every format.
    pub pages: Pages,
    /// The latest snapshot, for readiness and the console.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The targets with pages of their own, by name, as they are now.
    pub targets: Arc<dyn Fn() -> Arc<BTreeMap<String, ListedTarget>> + Send + Sync>,
    /// Renders those pages.
    pub on_demand: OnDemand,
    /// Counts the answers.
    pub counters: HttpCounters,
    /// Path of the exposition.
    pub telemetry_path: Arc<str>,
    /// The pages for people.
    pub console: Console,
    /// Loads the configuration again, where that is allowed to who asks.
    pub reload: Option<Reload>,
    /// TLS, users and headers.
    pub web: Arc<PortFeatures>,
    /// Polls a target that a request names.
    pub probe: ProbeTarget,
}

/// What `/probe` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAsked {
    /// `target` of the query.
    pub target: String,
    /// `auth_module` of the query.
    pub auth_module: Option<String>,
    /// How long the scraper waits, where it says so.
    pub timeout: Option<Duration>,
}

/// Why nothing was probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotProbed {
    /// Of the answer.
    pub status: u16,
    /// What is wrong and what to do, without a secret.
    pub text: String,
}

/// Polls a target that a request names.
pub type ProbeTarget = Arc<dyn Fn(ProbeAsked) -> Probing + Send + Sync>;
/// What it is.
pub type Probing = Pin<Box<dyn Future<Output = Result<Snapshot, NotProbed>> + Send>>;

/// Loads the configuration again.
pub type Reload = Arc<dyn Fn() -> Reloading + Send + Sync>;
/// What comes of it; an error says what is wrong.
pub type Reloading = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The routes.
pub fn router(app: App) -> Router {
    let telemetry_path = app.telemetry_path.to_string();
    let mut router = Router::new()
        .route(&telemetry_path, get(metrics))
        .route("/targets", get(discovery::targets))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload))
        .route("/probe", get(probe));
    router = pages::routes(router, &app);
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(from_fn_with_state(app.clone(), count))
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_LIMIT))
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT));
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
        .with_state(app)
}

/// Counts the answer to every request; refuses one that has no one meaning. After a body, which no request of ours
/// has, the connection ends, so that none of its bytes can be taken for a request.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let handler = request.extensions().get::<MatchedPath>().cloned();
    let hosts = request.headers().get_all(HOST).iter().count();
    let one_host = hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11);
    let has_body = !request.body().is_end_stream();
    let mut response = if one_host {
        next.run(request).await
    } else {
        (StatusCode::BAD_REQUEST, "A request needs one Host header.\n").into_response()
    };
    if has_body {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let handler = handler.as_ref().map_or("none", MatchedPath::as_str);
    app.counters.count(handler, response.status().as_u16());
    response
}

/// What the web configuration demands of a request, whatever it asks for, and gives to its answer.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let current = app.web.current();
    let header = request.headers().get(AUTHORIZATION).cloned();
    let sent = header.zip(request.extensions().get::<Peer>().cloned());
    let mut response = if !current.admits() {
        (StatusCode::TOO_MANY_REQUESTS, "Too many requests; see `rate_limit`.\n").into_response()
    } else if current.users.is_empty() {
        next.run(request).await
    } else {
        match may_ask(&app, &current.users, sent).await {
            None => next.run(request).await,
            Some(refusal) => refusal,
        }
    };
    for (name, value) in &current.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Why a request is refused: without a password, with a wrong one, or after too many of those.
async fn may_ask(
    app: &App,
    users: &Arc<Users>,
    sent: Option<(HeaderValue, Peer)>,
) -> Option<Response> {
    let unauthorized = || {
        let ask = [(WWW_AUTHENTICATE, "Basic realm=\"pgrunway\"")];
        (StatusCode::UNAUTHORIZED, ask, "Unauthorized\n").into_response()
    };
    let Some((header, peer)) = sent else {
        app.counters.refused("missing");
        return Some(unauthorized());
    };
    match app.web.guard.judge(users, &header, &peer).await {
        PasswordVerdict::Right => None,
        PasswordVerdict::Wrong => {
            app.counters.refused("wrong");
            Some(unauthorized())
        }
        PasswordVerdict::Later => {
            app.counters.refused("limit");
            let text = "Too many wrong passwords; try again in a second.\n";
            Some((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], text).into_response())
        }
    }
}

/// `target` of a query; everything else in it is of no account.
#[derive(serde::Deserialize)]
struct Asked {
    target: Option<String>,
}

async fn metrics(
    State(app): State<App>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let choice = render::choose(values(&headers, ACCEPT));
    let gzip = accepts_gzip(&headers);
    let body = match asked.target {
        None => app.pages.get(choice.format, gzip).await,
        Some(name) => {
            let targets = (app.targets)();
            let Some(listed) = targets.get(&name).cloned() else { return unknown(&targets) };
            app.on_demand.get(move || (listed.snapshot)(), choice.format, gzip).await
        }
    };
    exposition(body, choice, gzip)
}

/// An exposition as an answer.
fn exposition<E: std::fmt::Display>(
    body: Result<bytes::Bytes, E>,
    choice: render::Choice,
    gzip: bool,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(e) => {
            tracing::error!("cannot encode the metrics: {e}");
            return (StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be encoded.\n")
                .into_response();
        }
    };
    let mut response = Body::from(body).into_response();
    let out = response.headers_mut();
    if gzip {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    out.insert(CONTENT_TYPE, HeaderValue::from_static(choice.content_type));
    out.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `/probe`'s query.
#[derive(serde::Deserialize)]
struct AskedProbe {
    target: Option<String>,
    auth_module: Option<String>,
}

/// How long Prometheus waits for this answer.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// A target that the request names, as postgres_exporter has it.
async fn probe(
    State(app): State<App>,
    Query(asked): Query<AskedProbe>,
    headers: HeaderMap,
) -> Response {
    let Some(target) = asked.target.filter(|target| !target.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "target is required\n").into_response();
    };
    let seconds = headers.get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse().ok());
    let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let choice = render::choose(values(&headers, ACCEPT));
    let gzip = accepts_gzip(&headers);
    let asked = ProbeAsked { target, auth_module: asked.auth_module, timeout };
    match (app.probe)(asked).await {
        Ok(snapshot) => {
            let body = app.on_demand.get(move || snapshot, choice.format, gzip).await;
            exposition(body, choice, gzip)
        }
        Err(NotProbed { status, text }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, format!("{text}\n")).into_response()
        }
    }
}

/// What there is in the place of a target that is not in the list.
fn unknown(targets: &BTreeMap<String, ListedTarget>) -> Response {
    let names: Vec<&str> = targets.keys().map(String::as_str).collect();
    let known = match names[..] {
        [] => "the configuration lists no targets".to_owned(),
        _ => format!("the targets are: {}", names.join(", ")),
    };
    (StatusCode::NOT_FOUND, format!("No target has this name; {known}.\n")).into_response()
}

/// Every value of a header that is text.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok())
}

/// Whether `gzip` (or `*`) is among the accepted codings with a weight above 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = None;
    for coding in values(headers, ACCEPT_ENCODING).flat_map(|v| v.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|p| p.strip_prefix("q=")).map(str::parse::<f32>);
        let wanted = !matches!(weight, Some(Ok(0.0) | Err(_)));
        if name.eq_ignore_ascii_case("gzip") {
            return wanted;
        }
        if name == "*" {
            any = Some(wanted);
        }
    }
    any.unwrap_or(false)
}

async fn healthy() -> &'static str {
    "pgrunway is healthy.\n"
}

/// Ready once every target was tried: from then on `/metrics` tells the truth, good or bad.
async fn ready(State(app): State<App>) -> Response {
    let targets = (app.targets)();
    let waiting = targets.values().filter(|target| (target.up)().is_none()).count()
        + usize::from(!app.snapshots.borrow().tried);
    if waiting == 0 {
        "pgrunway is ready.\n".into_response()
    } else {
        let text = format!("Not tried yet: {waiting} of {} targets.\n", targets.len() + 1);
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

/// Loads the configuration again; 403 unless that was allowed, as Prometheus has it.
async fn reload(State(app): State<App>) -> Response {
    let Some(reload) = &app.reload else {
        let text =
            "Loading the configuration by request is off: --web.enable-lifecycle turns it on.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    match reload().await {
        Ok(()) => "The configuration was loaded.\n".into_response(),
        Err(e) => {
            let text = format!("The configuration was not loaded, and that in force stays: {e}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn not_found(uri: Uri) -> Response {
    let text = format!("Nothing is at {}; see / for what is here.\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn method_not_allowed(method: Method) -> Response {
    let text = format!("{method} is not possible here; use GET, and POST for /-/reload.\n");
    (StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
        accepts_gzip(&headers)
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_accepted() {
        assert!(gzip("gzip"));
        assert!(gzip("deflate, GZIP;q=0.5"));
        assert!(gzip("*"));
        assert!(!gzip("gzip;q=0"));
        assert!(!gzip("gzip; q=0.0, *"));
        assert!(!gzip("gzip;q=nonsense"));
        assert!(!gzip("br, zstd"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
