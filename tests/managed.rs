//! Managed services: what they forbid or lack is taken from a real server, as their documentation says, and every
//! collector then succeeds, says once what is not available, and gives the rest. `docs/managed.md` is written from what
//! was seen: `UPDATE_DOCS=1 cargo test --test managed`.
//!
//! Must not: claim that this is what a service does today; the page names what each row rests on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use common::http::value;
use common::process::Process;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Scope;

/// A service, or one way in which it is used.
struct Service {
    name: &'static str,
    /// What is simulated, for the page.
    taken: &'static str,
    /// The role that pgrunway logs in as.
    role: &'static str,
    /// The database that it connects to.
    database: &'static str,
    /// Reasons that must be seen.
    reasons: &'static [&'static str],
}

/// On one server that has the databases of all of them.
const WITH_ROLES: &[Service] = &[
    Service {
        name: "RDS",
        taken: "no superuser; `rdsadmin` lets nobody in; functions that list the server's files are refused \
                although the role has what `pg_monitor` reads",
        role: "reader",
        database: "postgres",
        reasons: &["forbidden"],
    },
    Service {
        name: "Cloud SQL, AlloyDB",
        taken: "no superuser, `pg_monitor` granted by `cloudsqlsuperuser`; `cloudsqladmin` and `alloydbadmin` let \
                nobody in",
        role: "mon",
        database: "postgres",
        reasons: &[],
    },
    Service {
        name: "Azure, `pg_monitor` granted",
        taken: "no superuser; `azure_maintenance` lets nobody in, `azure_sys` holds the service's own tables",
        role: "mon",
        database: "postgres",
        reasons: &[],
    },
    Service {
        name: "Azure, `pg_read_all_stats` and `pg_read_all_settings` granted",
        taken: "as older instructions for version 16 have it, where `pg_monitor` could not be granted",
        role: "reader",
        database: "postgres",
        reasons: &["forbidden"],
    },
    Service {
        name: "Neon, Supabase",
        taken: "no superuser; extensions in a schema of their own, which the role may use",
        role: "mon",
        database: "app",
        reasons: &[],
    },
];

const AURORA: &[Service] = &[
    Service {
        name: "Aurora, writer",
        taken: "`wal_level` below `logical`: functions of the WAL's position and of the control file raise 55000; \
                files are not listed",
        role: "reader",
        database: "postgres",
        reasons: &["forbidden", "unsupported"],
    },
    Service {
        name: "Aurora, reader",
        taken: "in recovery, without a WAL receiver: functions of what was received and replayed raise 0A000",
        role: "reader",
        database: "postgres",
        reasons: &["forbidden", "unsupported"],
    },
];

/// Databases of the services, which are to be left out without a word.
const DATABASES: &[(&str, &str)] = &[
    ("alloydbadmin", "alloydbadmin"),
    ("azure_maintenance", "azuresu"),
    ("azure_sys", "azuresu"),
    ("cloudsqladmin", "cloudsqladmin"),
    ("rdsadmin", "rdsadmin"),
];

const ROLES: &str = "CREATE ROLE reader LOGIN;
    GRANT pg_read_all_stats, pg_read_all_settings, pg_stat_scan_tables TO reader";

/// Puts a function that raises an error in the place of one of the server's.
fn refused(name: &str, returns: &str, sqlstate: &str, message: &str) -> String {
    format!(
        "ALTER FUNCTION pg_catalog.{name}() RENAME TO pgrunway_{name};
         CREATE FUNCTION pg_catalog.{name}() RETURNS {returns} LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = '{message}'; END $$;"
    )
}

/// What Aurora refuses, as users have met it.
fn aurora() -> String {
    let wal = "wal_level must be set to ''logical''";
    let unsupported =
        "Function pg_last_xlog_receive_location() is currently not supported for Aurora";
    let checkpoint = "TABLE (checkpoint_lsn pg_lsn, redo_lsn pg_lsn, timeline_id int4)";
    [
        "SET allow_system_table_mods = on;".to_owned(),
        refused("pg_current_wal_lsn", "pg_lsn", "55000", wal),
        refused("pg_control_checkpoint", checkpoint, "55000", wal),
        refused("pg_last_wal_receive_lsn", "pg_lsn", "0A000", unsupported),
        refused("pg_last_wal_replay_lsn", "pg_lsn", "0A000", unsupported),
    ]
    .concat()
}

/// What was seen of a service.
struct Seen {
    /// Name and reason of what each collector did without.
    missing: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Metrics of collectors that had nothing else to give.
    empty: BTreeSet<String>,
}

/// The value of a label.
fn label(line: &str, name: &str) -> String {
    let at = ["{", ","].iter().find_map(|before| line.split_once(&format!("{before}{name}=\"")));
    at.unwrap().1.split_once('"').unwrap().0.to_owned()
}

/// Runs an exporter until every collector has run, and holds it to what it must say.
async fn see(cluster: &Cluster, service: &Service) -> Seen {
    let dsn = cluster.uri(service.role, service.database);
    let exporter = Process::serve(&dsn, &[]).await;
    let collectors: Vec<_> = pgrunway::collectors::ALL
        .iter()
        .filter(|c| c.default_on() && !c.compatible_only() && c.scope() != Scope::Pooler)
        .collect();
    // In each database those that look inside.
    let all = |text: &str| {
        let of = |name: &str| -> BTreeSet<(String, String)> {
            let lines = text.lines().filter(|l| l.starts_with(name));
            let field = |line: &str, name: &str| line.contains(name).then(|| label(line, name));
            lines
                .map(|l| (field(l, "collector").unwrap_or_default(), label(l, "datname")))
                .collect()
        };
        let ran = of("pgrunway_collector_success{");
        let databases = of("pgrunway_database_up{");
        let has = |c: &str, d: &str| ran.contains(&(c.to_owned(), d.to_owned()));
        databases.iter().any(|(_, datname)| datname == service.database)
            && collectors.iter().all(|c| match c.scope() {
                Scope::Database => databases.iter().all(|(_, datname)| has(c.name(), datname)),
                _ => has(c.name(), ""),
            })
    };
    let text = exporter.wait("every collector ran", all).await;
    let name = service.name;
    for line in text.lines().filter(|l| l.starts_with("pgrunway_collector_success{")) {
        assert!(line.ends_with(" 1"), "{name}: {line}\n{:#?}", exporter.log());
    }
    for (database, _) in DATABASES {
        let up = value(&text, "pgrunway_database_up", &[("datname", database)]);
        assert_eq!(up, None, "{name}: {database} is left out");
    }
    let log = exporter.log();
    let told = log.iter().filter(|line| DATABASES.iter().any(|(d, _)| line.contains(d))).count();
    assert_eq!(told, 0, "{name}: {log:#?}");
    let mut seen = Seen { missing: BTreeMap::new(), empty: BTreeSet::new() };
    for line in text.lines().filter(|l| l.starts_with("pgrunway_collector_missing{")) {
        let collector = label(line, "collector");
        seen.missing
            .entry(collector)
            .or_default()
            .insert((label(line, "name"), label(line, "reason")));
    }
    let reasons: BTreeSet<&str> =
        seen.missing.values().flatten().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons, service.reasons.iter().copied().collect(), "{name}: {:?}", seen.missing);
    for collector in seen.missing.keys() {
        let series = text.lines().find(|line| {
            line.starts_with("pgrunway_collector_series{") && label(line, "collector") == *collector
        });
        if series.is_some_and(|line| line.ends_with(" 0")) {
            seen.empty.insert(collector.clone());
        }
        // Once in each database, and never as an error.
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            // What is logged comes through a pipe, and a database may be asked after the others.
            let text = exporter.metrics().await;
            let databases: BTreeSet<String> = text
                .lines()
                .filter(|line| line.starts_with("pgrunway_collector_missing{"))
                .filter(|line| label(line, "collector") == *collector)
                .map(|line| label(line, "datname"))
                .collect();
            let log = exporter.log();
            let lines = log.iter().filter(|line| {
                line.contains("not available here")
                    && line.contains(&format!("collector=\"{collector}\""))
            });
            let count = lines.count();
            if count == databases.len() {
                break;
            }
            assert!(Instant::now() < limit, "{name}: {collector}: {databases:?} {log:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let errors = text.lines().filter(|l| l.starts_with("pgrunway_collector_errors_total{"));
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}");
    let page = common::http::get(exporter.address, "/collectors").await.text();
    let says =
        [("forbidden", "which its role may not read"), ("unsupported", "refuses to everybody")];
    for (reason, words) in says {
        assert_eq!(page.contains(words), reasons.contains(reason), "{name}: {words}");
    }
    seen
}

fn row(service: &Service, seen: &Seen) -> String {
    let mut cells = Vec::new();
    for (collector, missing) in &seen.missing {
        let names: Vec<String> =
            missing.iter().map(|(name, reason)| format!("`{name}` {reason}")).collect();
        let nothing = if seen.empty.contains(collector) { ", nothing is left" } else { "" };
        cells.push(format!("`{collector}`: {}{nothing}", names.join(", ")));
    }
    let cells = if cells.is_empty() { "nothing".to_owned() } else { cells.join("; ") };
    format!("| {} | {} | {cells} |\n", service.name, service.taken)
}

#[tokio::test]
async fn what_a_service_forbids_or_lacks_is_said_once_and_is_no_error() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute(ROLES).await.unwrap();
    let owners: BTreeSet<&str> = DATABASES.iter().map(|(_, owner)| *owner).collect();
    for owner in owners {
        admin.batch_execute(&format!("CREATE ROLE {owner}")).await.unwrap();
    }
    for (database, owner) in DATABASES {
        admin.batch_execute(&format!("CREATE DATABASE {database} OWNER {owner}")).await.unwrap();
        let revoke = format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC");
        if *database != "azure_sys" {
            admin.batch_execute(&revoke).await.unwrap();
        }
    }
    admin.batch_execute("CREATE DATABASE app").await.unwrap();
    let app = common::admin(&cluster, "app").await;
    app.batch_execute(
        "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO mon;
         CREATE EXTENSION pg_stat_statements SCHEMA extensions; CREATE TABLE t (id serial PRIMARY KEY)",
    )
    .await
    .unwrap();
    let mut rows = String::new();
    for service in WITH_ROLES {
        rows.push_str(&row(service, &see(&cluster, service).await));
    }
    drop((admin, app));

    let mut writer = common::server().await;
    let admin = common::admin(&writer, "postgres").await;
    admin.batch_execute(ROLES).await.unwrap();
    admin.batch_execute(&aurora()).await.unwrap();
    drop(admin);
    let reader = writer.standby().await.unwrap();
    for (service, cluster) in AURORA.iter().zip([&writer, &reader]) {
        rows.push_str(&row(service, &see(cluster, service).await));
    }

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/managed.md");
    let now = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- seen:begin -->\n", "<!-- seen:end -->");
    let (before, rest) = now.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let mut want = String::new();
    let head = "| service | what is simulated | what the collectors do without |\n|---|---|---|\n";
    write!(want, "{before}{begin}{head}{rows}{end}{after}").unwrap();
    if now != want {
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        assert!(
            update,
            "docs/managed.md is stale: UPDATE_DOCS=1 cargo test --test managed\n{want}"
        );
        std::fs::write(path, want).unwrap();
    }
}
