//! The console in a real Chromium: with and without a script, light and dark, on paper, from 360 to 1,920 px; hostile
//! names do nothing, nothing is asked of anybody else, and axe-core finds nothing.
//!
//! `UPDATE_PICTURES=1` writes the pictures of `docs/images` anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::chromium::{Chromium, Look};
use common::http;
use common::process::Process;
use serde_json::Value;

const PAGES: [&str; 8] = [
    "/overview",
    "/queries",
    "/activity",
    "/partitions",
    "/indexes",
    "/server",
    "/collectors",
    "/configuration",
];

/// 63 bytes, as long as a name can be.
const SCRIPT: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"\u{202e}txt&lt;";

/// A quoted name of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn hostile(cluster: &pgrunway::cmd::cluster::Cluster) -> String {
    let mut name = SCRIPT.to_owned();
    while name.len() > 63 {
        name.pop();
    }
    let database = common::shared_name(cluster, &format!("{}\n", &name[..name.len() - 8]));
    let admin = common::admin(cluster, "postgres").await;
    for sql in [
        format!("CREATE DATABASE {}", quoted(&database)),
        format!("CREATE ROLE {} LOGIN", quoted(&name)),
    ] {
        admin.batch_execute(&sql).await.unwrap();
    }
    let inside = common::admin(cluster, &database).await;
    let sql = format!(
        "CREATE SCHEMA {s}; CREATE TABLE {s}.{s} (ts timestamptz NOT NULL, i int) PARTITION BY RANGE (ts);
         CREATE TABLE {s}.p1 PARTITION OF {s}.{s} FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
         CREATE TABLE {s}.p2 PARTITION OF {s}.{s} FOR VALUES FROM ('2020-03-01') TO ('2020-04-01');
         CREATE TABLE gap (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
         CREATE TABLE open_end (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
         CREATE TABLE by_hash (i int) PARTITION BY HASH (i);
         DO $$ DECLARE d timestamptz := date_trunc('day', now()); BEGIN
           EXECUTE format('CREATE TABLE gap_1 PARTITION OF gap FOR VALUES FROM (%L) TO (%L)', d - interval '9 d', d + interval '3 d');
           EXECUTE format('CREATE TABLE gap_2 PARTITION OF gap FOR VALUES FROM (%L) TO (%L)', d + interval '5 d', d + interval '19 d');
           EXECUTE format('CREATE TABLE open_1 PARTITION OF open_end FOR VALUES FROM (%L) TO (MAXVALUE)', d - interval '9 d');
         END $$;
         CREATE TABLE gap_default PARTITION OF gap DEFAULT;
         CREATE TABLE i (a int, b int); CREATE INDEX {s} ON i (a); CREATE INDEX i_ab ON i (a, b);",
        s = quoted(&name)
    );
    inside.batch_execute(&sql).await.unwrap();
    database
}

/// The same page for programs.
async fn api(process: &Process, path: &str) -> Value {
    let answer = http::get(process.address, &format!("/api/v1{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until the view of a page holds.
async fn holds(process: &Process, path: &str, what: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let view = api(process, path).await;
        if what(&view) {
            return view;
        }
        assert!(Instant::now() < end, "{path}: {view:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_what_is_wrong_and_nothing_does_harm() {
    let cluster = common::server().await;
    let database = hostile(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgrunway.yml");
    let dsn = cluster.uri("mon", "postgres");
    let down = "postgresql://nobody:hunter2@127.0.0.1:1/x";
    let yaml = format!(
        "collectors: {{statements: {{include_text: true}}}}\ntargets:\n  - {{name: live, dsn: '{}'}}\n  - {{name: away, dsn: '{down}'}}\n",
        dsn.replace('\'', "''")
    );
    std::fs::write(&file, &yaml).unwrap();
    let config = format!("--config.file={}", file.display());
    let args = ["serve", "--web.listen-address=127.0.0.1:0", &config];
    let process = Process::start(&args, &[]).await;

    // Everything is told for programs as well.
    let view = holds(&process, "/partitions?target=live", |v| {
        v["partitions"]["tables"].as_array().is_some_and(|t| t.len() == 4)
    })
    .await;
    let tables = view["partitions"]["tables"].as_array().unwrap();
    let of = |name: &str| tables.iter().find(|t| t["relname"] == name).unwrap();
    assert_eq!(tables[0]["state"], "critical", "the worst is first: {tables:#?}");
    assert_eq!(tables[0]["datname"], database.as_str());
    assert_eq!(tables[0]["stretches"].as_array().unwrap().len(), 2);
    let gap = of("gap");
    assert_eq!((gap["has_default"].clone(), gap["state"].clone()), (true.into(), "warning".into()));
    assert_eq!(gap["stretches"].as_array().unwrap().len(), 2, "{gap}");
    assert!(of("open_end")["runway_seconds"].is_null(), "JSON has no infinity");
    assert_eq!(of("by_hash")["state"], "unknown");
    let list = holds(&process, "/targets", |v| v["targets"]["targets"][0]["state"] == "down").await;
    assert_eq!(list["targets"]["targets"][0]["name"], "away");
    assert_eq!(list["targets"]["total"], 2);
    holds(&process, "/indexes?target=live", |v| {
        v["indexes"]["verdicts"]
            .as_array()
            .is_some_and(|all| all.iter().any(|v| v["verdict"] == "redundant"))
    })
    .await;
    holds(&process, "/overview?target=live", |v| {
        let findings = v["overview"]["findings"].as_array().unwrap();
        findings.iter().any(|f| f["rule"] == "partition.runway" && f["severity"] == "critical")
    })
    .await;
    holds(&process, "/overview?target=live", |v| {
        !v["overview"]["hour"].as_array().unwrap().is_empty()
    })
    .await;
    let settings = api(&process, "/configuration?target=live").await.to_string();
    assert!(
        settings.contains("(secret)")
            && !settings.contains("hunter2")
            && !settings.contains(":mon@")
    );
    assert!(settings.contains("pgrunway.yml:1:"), "where it comes from: {settings}");

    let mut chromium = Chromium::start().await;
    let origin = format!("http://{}/", process.address);
    let at = |path: &str| format!("http://{}{path}", process.address);
    let mut checked = 0;
    for (width, dark, script) in [(360, false, true), (1_280, true, true), (1_920, false, false)] {
        chromium.look(Look { width, dark, script, print: false }).await;
        let all = PAGES.map(|page| format!("{page}?target=live"));
        let others =
            ["/".to_owned(), "/overview?target=away".to_owned(), "/poolers?target=live".to_owned()];
        for path in all.iter().chain(&others) {
            let loaded = chromium.open(&at(path)).await;
            assert!(loaded.said.is_empty(), "{path}: {:#?}", loaded.said);
            assert!(loaded.asked.len() >= 2, "{path}: {:?}", loaded.asked);
            let elsewhere: Vec<&String> =
                loaded.asked.iter().filter(|url| !url.starts_with(&origin)).collect();
            assert!(elsewhere.is_empty(), "{path}: {elsewhere:?}");
            let wide = chromium.eval("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{path} at {width}: {wide}");
            let foreign = "document.querySelectorAll('script:not([src]), img, iframe, style, [style], [onerror]').length";
            assert_eq!(chromium.eval(foreign).await, 0, "{path}");
            assert_eq!(chromium.eval("document.cookie").await, "");
            // One look at the phone for the hardest, all in the dark; the light ones have the same markup.
            if script && (dark || path.starts_with("/overview")) {
                let faults = chromium.faults().await;
                assert!(faults.is_empty(), "{path} at {width}, dark {dark}: {faults:#?}");
                checked += 1;
            }
        }
    }
    assert!(checked >= PAGES.len() + 3);
    // What is shown is the name, as it is.
    let titles = "[...document.querySelectorAll('h3 code')].map(e => e.textContent)";
    chromium.open(&at("/partitions?target=live")).await;
    let shown = chromium.eval(titles).await;
    assert!(shown[0].as_str().unwrap().contains("<script>alert(1)</script>"), "{shown}");

    // On paper all that is folded is open, and nothing is cut at the side.
    chromium.look(Look { width: 720, dark: true, script: true, print: true }).await;
    chromium.open(&at("/overview?target=live")).await;
    let wide = chromium.eval("document.documentElement.scrollWidth").await;
    assert!(wide.as_u64().unwrap() <= 720, "{wide}");
    let ground = chromium.eval("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(ground, "rgb(255, 255, 255)");
    let bar = "getComputedStyle(document.querySelector('.top nav')).display";
    assert_eq!(chromium.eval(bar).await, "none");

    // In place: what was opened stays open, and no click is lost.
    chromium.look(Look { width: 1_280, dark: false, script: true, print: false }).await;
    chromium.open(&at("/overview?target=live&every=2")).await;
    let refreshed = "new Promise(done => { const before = document.querySelector('main'); \
        document.querySelector('main details').open = true; \
        const look = () => { const now = document.querySelector('main'); \
          if (now !== before) done(now.querySelector('details').open); else setTimeout(look, 50); }; look(); })";
    assert_eq!(chromium.eval(refreshed).await, true);

    if std::env::var_os("UPDATE_PICTURES").is_some() {
        pictures(&mut chromium).await;
    }
}

/// Of the demo, which is what a reader sees first.
async fn pictures(chromium: &mut Chromium) {
    let Ok(address) = std::env::var("PICTURES_OF") else { return };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    for (name, path, width, dark) in [
        ("console-overview", "/", 1_280, false),
        ("console-overview-dark", "/", 1_280, true),
        ("console-phone", "/", 390, false),
        ("console-partitions", "/partitions", 1_280, false),
        ("console-queries", "/queries", 1_280, false),
    ] {
        chromium.look(Look { width, dark, script: true, print: false }).await;
        chromium.open(&format!("{address}{path}")).await;
        std::fs::write(folder.join(format!("{name}.png")), chromium.picture().await).unwrap();
    }
}

#[tokio::test]
async fn names_can_be_kept_from_the_console_and_it_can_be_off() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE ROLE secretary LOGIN PASSWORD 's'").await.unwrap();
    let client = common::client(&cluster, "secretary", "postgres").await;
    let args = ["--web.console=without_names", "--collector.statements.include-text"];
    let hidden = Process::serve(&cluster.uri("mon", "postgres"), &args).await;
    let end = Instant::now() + Duration::from_secs(120);
    let view = loop {
        client.batch_execute("SELECT 'confidential' AS c").await.unwrap();
        let view = api(&hidden, "/queries").await;
        if view["queries"]["statements"].as_array().is_some_and(|s| !s.is_empty()) {
            break view;
        }
        assert!(Instant::now() < end, "{view:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(view["queries"]["statements"][0]["usename"], "(hidden)");
    assert!(view["queries"]["statements"][0]["text"].is_null());
    for page in PAGES.iter().filter(|p| **p != "/configuration") {
        for path in [(*page).to_owned(), format!("/api/v1{page}")] {
            let text = http::get(hidden.address, &path).await.text();
            for word in ["secretary", "confidential", "mon@", "<code>mon<", "\"role\":\"mon\""] {
                assert!(!text.contains(word), "{path} shows {word}: {text}");
            }
        }
    }
    let off = Process::serve(&cluster.uri("mon", "postgres"), &["--web.console=off"]).await;
    for (path, status) in
        [("/", 200), ("/queries", 404), ("/api/v1/overview", 404), ("/metrics", 200)]
    {
        assert_eq!(http::get(off.address, path).await.status, status, "{path}");
    }
    assert!(http::get(off.address, "/").await.text().contains("the console is off"));
    // Every answer of the console carries the policy; it holds for what the database holds, and needs no cookie.
    let page = http::get(hidden.address, "/").await;
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert_eq!(page.headers["cache-control"], "no-store");
    assert!(!page.headers.contains_key("set-cookie"));
}
