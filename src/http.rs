//! The HTTP server: `/metrics`, liveness, readiness and a status page. The only user of axum.
//!
//! Must not: wait for a database, render an exposition on its threads, or hold a connection of a client that sends
//! nothing.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, VARY,
};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceBuilder;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::render::{self, HttpCounters, Pages};
use crate::snapshot::{Outcome, Snapshot};

/// A request is answered from memory; what takes longer is a client that does not read.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A client must send its request's head within this, on a new and on a kept connection.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// A client that does not read for so long is cut, and with it the page that it holds in memory.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// No request of ours has a body.
const BODY_LIMIT: usize = 1024;
/// Connections at a time; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 512;
/// How long open requests may take after a stop was asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// What the handlers answer from.
#[derive(Clone)]
pub struct App {
    /// The latest exposition in every format.
    pub pages: Pages,
    /// The latest snapshot, for readiness and the status page.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counts the answers.
    pub counters: HttpCounters,
    /// Path of the exposition.
    pub telemetry_path: Arc<str>,
}

/// The routes.
pub fn router(app: App) -> Router {
    let telemetry_path = app.telemetry_path.to_string();
    let mut router = Router::new()
        .route(&telemetry_path, get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready));
    if telemetry_path != "/" {
        router = router.route("/", get(status_page));
    }
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(from_fn_with_state(app.clone(), count))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_LIMIT))
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT));
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
        .with_state(app)
}

/// Serves until `stop` resolves, then lets open requests end.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let accepts = listeners.iter().map(|l| Box::pin(accept(l, &router, &graceful, &slots)));
    tokio::select! {
        _ = futures_util::future::join_all(accepts) => {}
        () = stop => {}
    }
    drop(listeners);
    if timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not end their requests within {DRAIN_LIMIT:?}");
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    graceful: &GracefulShutdown,
    slots: &Arc<Semaphore>,
) -> Infallible {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    loop {
        // Never closed, so this never fails; a connection without a slot would be served as well.
        let slot = slots.clone().acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of file descriptors, most likely: wait until some are given back.
                tracing::warn!("cannot accept a connection: {e}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_LIMIT));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("connection ended: {e}");
            }
            drop(slot);
        });
    }
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let handler = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let response = next.run(request).await;
    app.counters.count(handler.as_deref().unwrap_or("none"), response.status().as_u16());
    response
}

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let choice = render::choose(values(&headers, ACCEPT));
    let gzip = accepts_gzip(&headers);
    let body = match app.pages.get(choice.format, gzip).await {
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

/// Ready once the server was tried: from then on `/metrics` tells the truth, good or bad.
async fn ready(State(app): State<App>) -> Response {
    if app.snapshots.borrow().tried {
        "pgrunway is ready.\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "The server has not been tried yet.\n").into_response()
    }
}

async fn not_found(uri: Uri) -> Response {
    let text = format!("Nothing is at {}; see / for what is here.\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn method_not_allowed(method: Method) -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible here; use GET.\n"))
        .into_response()
}

async fn status_page(State(app): State<App>) -> Html<String> {
    let snapshot = app.snapshots.borrow().clone();
    Html(status_html(&snapshot, &app.telemetry_path))
}

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:62rem;padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#c0392b;font-weight:600}\
.ok{color:#1e8449}nav a{margin-right:1.2rem}code{overflow-wrap:anywhere}";

fn status_html(snapshot: &Snapshot, telemetry_path: &str) -> String {
    let state = |good: bool, yes: &str, no: &str| match good {
        true => format!("<span class=ok>{yes}</span>"),
        false => format!("<span class=bad>{no}</span>"),
    };
    let rows: String = snapshot.outcomes.iter().map(outcome_row).collect();
    let databases: Vec<String> = snapshot
        .databases
        .iter()
        .map(|(name, up)| format!("{} {}", escape(name), state(*up, "up", "cannot be entered")))
        .collect();
    let version = snapshot.version.as_deref().unwrap_or("version not known yet");
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>pgrunway</title>\
         <meta name=viewport content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>pgrunway {}</h1><nav><a href=\"{path}\">{path}</a><a href=\"/-/healthy\">/-/healthy</a>\
         <a href=\"/-/ready\">/-/ready</a></nav>\
         <p><code>{}</code> ({}): {}<p>Databases: {}\
         <h2>Collectors</h2><table><tr><th>Collector<th>Database<th>State<th class=n>Interval\
         <th class=n>Took<th class=n>Series{rows}</table></html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&snapshot.target),
        escape(version),
        state(snapshot.up, "up", if snapshot.tried { "down" } else { "not tried yet" }),
        if databases.is_empty() { "none visited yet".to_owned() } else { databases.join(", ") },
        path = escape(telemetry_path),
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
    use super::*;
    use crate::metric::{Metric, Sink};

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

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        static WIDE: Metric = Metric::gauge("pg_wide", &["label"], "Wide.");
        static CATALOGUE: &[&Metric] = &[&WIDE];
        let mut sink = Sink::new(CATALOGUE, 64);
        for n in 0..64 {
            // More in all than the kernel buffers between the two.
            sink.number(&WIDE, &[&format!("{n}{}", "x".repeat(1 << 20))], 1.0);
        }
        let families = sink.finish().0.into_iter().map(Arc::new).collect();
        let snapshot = Arc::new(Snapshot { families, ..Snapshot::default() });
        let renderer = render::Renderer::new().unwrap();
        let counters = renderer.http_counters();
        let (_publisher, pages) = render::Publisher::new(renderer, snapshot.clone());
        let (_snapshots, snapshots) = watch::channel(snapshot);
        let app = App { pages, snapshots, counters, telemetry_path: "/metrics".into() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(vec![listener], router(app), std::future::pending()));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        sleep(WRITE_LIMIT + Duration::from_secs(3)).await;
        let mut all = Vec::new();
        let _ = timeout(Duration::from_secs(5), client.read_to_end(&mut all)).await.unwrap();
        assert!(all.len() < 64 << 20, "the whole page came after all");
    }

    #[test]
    fn the_status_page_escapes_what_it_shows() {
        let mut outcome = Outcome::new("x", Some("<b>".into()), Duration::from_secs(1));
        outcome.error = Some("relation \"<script>\" & more".into());
        let snapshot = Snapshot { outcomes: vec![outcome], ..Snapshot::default() };
        let html = status_html(&snapshot, "/metrics");
        assert!(html.contains("relation &quot;&lt;script&gt;&quot; &amp; more"), "{html}");
        assert!(html.contains("&lt;b&gt;") && html.contains("not tried yet"));
        assert!(!html.contains("<script>"));
    }
}
