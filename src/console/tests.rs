//! What the pages say, from snapshots made by hand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::ConfiguredSettings;
use crate::error::{NotAvailable, WhyMissing};
use crate::findings::{self, Counted, Judgement, Reported, ServerFacts, Setting};
use crate::snapshot::{Database, Findings, NEWEST_MAJOR, Outcome, Role, Trouble};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn console(access: ConsoleAccess) -> Console {
    Console {
        access,
        hours: Arc::default(),
        settings: Arc::new(|| Arc::new(ConfiguredSettings::default())),
        telemetry: "/metrics".into(),
    }
}

fn page_as(access: ConsoleAccess, page: Page, snapshot: &Snapshot, form: Form) -> String {
    let asked = ConsoleAsked::default();
    let wanted = Wanted { page, form, asked: &asked, listed: false };
    let hides = access == ConsoleAccess::WithoutNames;
    let reader = Reader { snapshot, now: at(1_700_000_100), target: None, hides };
    console(access).of_target(&wanted, &reader, &[])
}

fn page(page: Page, snapshot: &Snapshot) -> String {
    page_as(ConsoleAccess::On, page, snapshot, Form::Html)
}

#[test]
fn pages_escape_what_they_show() {
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
    assert!(
        !page(Page::Activity, &down).contains("application &lt;"),
        "of a server that is down it is what was"
    );
    let html = page(Page::Activity, &Snapshot { up: true, ..down });
    assert!(html.contains("application &lt;script&gt;"), "{html}");
    let major = Some(NEWEST_MAJOR);
    let mut snapshot = Snapshot { outcomes: vec![outcome], major, ..Snapshot::default() };
    let html = page(Page::Collectors, &snapshot);
    let says = "without pg_stat_x.&lt;i&gt;, pg_new(), which the server does not have; without \
                pg_ls_waldir(), which its role may not read";
    assert!(html.contains(says), "{html}");
    assert!(html.contains("relation &quot;&lt;script&gt;&quot; &amp; more"), "{html}");
    assert!(
        html.contains("<small>read in &lt;db&gt;</small>") && html.contains("&lt;b&gt;"),
        "{html}"
    );
    assert!(!html.contains("<script>"), "{html}");
    assert!(!page(Page::Overview, &snapshot).contains("newer than any"));
    snapshot.major = Some(NEWEST_MAJOR + 1);
    let newer = page(Page::Overview, &snapshot);
    assert!(newer.contains("newer than any that this pgrunway was tested with"), "{newer}");
    assert!(newer.contains("was not tried yet"), "{newer}");
}

#[test]
fn it_is_said_why_a_target_is_down_since_when_and_what_to_do() {
    let mut snapshot = Snapshot {
        tried: true,
        target: "db:5432".into(),
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
    let html = page(Page::Overview, &snapshot);
    for said in [
        "Down: db:5432 cannot be reached (refused)",
        "127.0.0.1:5432 refused the login: password &lt;wrong&gt;",
        "2023-11-14 22:13:20 UTC",
        "2023-11-14 22:14:20 UTC",
        "pg_hba.conf",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    assert!(
        !html.contains("The database <code>"),
        "all its databases have the same reason: {html}"
    );
    snapshot.up = true;
    if let Some(trouble) = &mut snapshot.trouble {
        trouble.over = Some(at(1_700_000_090));
    }
    snapshot.role = Some(Role { name: "m<n".into(), reads_all_stats: false });
    let html = page(Page::Overview, &snapshot);
    let down = "It was down from 2023-11-14 22:13:20 UTC to 2023-11-14 22:14:50 UTC";
    assert!(html.contains(down), "{html}");
    assert!(html.contains("The database <code>shop</code> cannot be read"), "{html}");
    assert!(html.contains("The role <code>m&lt;n</code> is no member of pg_monitor"), "{html}");
    let hidden = page_as(ConsoleAccess::WithoutNames, Page::Overview, &snapshot, Form::Html);
    assert!(!hidden.contains("m&lt;n") && !hidden.contains("&lt;wrong&gt;"), "{hidden}");
    assert!(hidden.contains("(hidden)"), "{hidden}");
    let json = page_as(ConsoleAccess::WithoutNames, Page::Overview, &snapshot, Form::Json);
    assert!(!json.contains("m<n") && !json.contains("<wrong>"), "{json}");
}

#[test]
fn every_kind_of_trouble_has_a_remedy_of_its_own() {
    let kinds = [
        "credentials",
        "unreachable",
        "timeout",
        "tls",
        "refused",
        "cut",
        "protocol",
        "held",
        "forbidden",
        "limit",
        "facts",
    ];
    let all: std::collections::BTreeSet<&str> =
        kinds.iter().map(|kind| state::remedy(kind)).collect();
    assert_eq!(all.len(), kinds.len());
    assert!(!all.contains(state::remedy("")));
}

#[test]
fn every_finding_stands_there_with_its_remedy_the_worst_first() {
    let settings = [
        ("fsync", Setting::Flag(false)),
        ("track_io_timing", Setting::Flag(false)),
        ("pg_stat_statements.max", Setting::Number(100.0)),
    ];
    let server = ServerFacts {
        datname: "shop<b>".to_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
        evictions: Some(Counted { amount: 7.0, span: 60.0 }),
        ..ServerFacts::default()
    };
    let reported: Arc<[Reported]> = Judgement::of(&server).reported.into();
    let findings = vec![Findings { datname: None, reported }];
    let snapshot = Snapshot { up: true, tried: true, findings, ..Snapshot::default() };
    let html = page(Page::Overview, &snapshot);
    let ids: Vec<&str> = snapshot.findings[0].reported.iter().map(|r| r.rule.id).collect();
    assert!(ids.contains(&"statements.max"), "{ids:?}");
    for Reported { rule, finding } in snapshot.findings[0].reported.iter() {
        assert!(html.contains(&format!("<p class=\"by\"><code>{}</code>", rule.id)), "{html}");
        assert!(html.contains(&maud::html! { (finding.evidence) }.into_string()), "{html}");
    }
    assert!(html.contains("pgrunway verify --only statements.max"), "{html}");
    assert!(html.contains("ALTER SYSTEM SET"), "{html}");
    let place = |word: &str| html.find(&format!("</svg> {word}</span>"));
    let (critical, warning) = (place("critical"), place("warning"));
    assert!(warning.is_some() && (critical.is_none() || critical < warning), "{html}");
    assert!(findings::rule("statements.max").is_some());
    let json: Value =
        serde_json::from_str(&page_as(ConsoleAccess::On, Page::Overview, &snapshot, Form::Json))
            .unwrap();
    assert_eq!(json["overview"]["findings"].as_array().unwrap().len(), ids.len());
    let worst = snapshot.findings[0].reported.iter().map(|r| r.finding.severity).max().unwrap();
    assert_eq!(json["overview"]["findings"][0]["severity"], worst.word());
    assert!(!page(Page::Overview, &Snapshot::default()).contains("id=\"f\""));
}

#[test]
fn why_a_series_is_missing_is_one_word_and_its_reason() {
    let one = |name: &str, kind: Option<&'static str>| {
        let mut outcome = Outcome::new(name, None, Duration::from_secs(15));
        (outcome.error, outcome.kind) = (kind.map(|_| "because".into()), kind);
        outcome.last_success = Some(at(1_700_000_090));
        outcome
    };
    let mut limited = one("sizes", None);
    limited.refused.over_limit = 3;
    let mut stale = one("locks", None);
    stale.last_success = Some(at(1_700_000_000));
    let outcomes = vec![
        one("cache", None),
        one("io", None),
        one("wal", Some("permission")),
        one("slots", Some("missing")),
        one("tables", Some("query")),
        one("roles", Some("deadline")),
        limited,
        stale,
    ];
    let snapshot =
        Snapshot { up: true, tried: true, major: Some(15), outcomes, ..Snapshot::default() };
    let json = page_as(ConsoleAccess::On, Page::Collectors, &snapshot, Form::Json);
    let view: Value = serde_json::from_str(&json).unwrap();
    let rows = view["collectors"]["collectors"].as_array().unwrap();
    for (name, state) in [
        ("cache", "ok"),
        ("io", "not supported"),
        ("wal", "forbidden"),
        ("slots", "not supported"),
        ("tables", "refused"),
        ("roles", "failed"),
        ("sizes", "limited"),
        ("locks", "stale"),
        ("partitions", "off"),
    ] {
        let row = rows.iter().find(|row| row["collector"] == name).unwrap();
        assert_eq!(row["state"], state, "{name}: {row}");
    }
    assert!(rows.iter().all(|row| row["collector"] != "pgbouncer"), "it is no pooler");
    let io = rows.iter().find(|row| row["collector"] == "io").unwrap();
    assert_eq!(io["reason"], "needs PostgreSQL 16");
}
