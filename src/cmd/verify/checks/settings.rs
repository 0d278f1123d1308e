//! What the server must have switched on for the exporter to see anything, and what the role needs.
//!
//! Must not: judge settings that are a matter of taste or of the machine's size.

use super::super::check::{Check, Context, Finding, Found, Scope, Severity};
use crate::error::CollectError;
use crate::pg::{Query, Row};
use crate::remedy::setting::{self, Source};

const LOCKS: &str = "none";

const fn check(
    id: &'static str,
    severity: Severity,
    finds: &'static str,
    why: &'static str,
) -> Check {
    Check::always(id, severity, Scope::Server, [finds, why, LOCKS])
}

static STATEMENTS: Check = Check {
    run: Some(|cx| Box::pin(statements(cx))),
    ..check(
        "settings.pg_stat_statements",
        Severity::Warning,
        "pg_stat_statements is not loaded, not installed in the exporter's database, or told to track \
         nothing.",
        "Without it there are no latencies, neither per database nor per statement.",
    )
};
static QUERY_ID: Check = Check {
    run: Some(|cx| {
        Box::pin(switch(cx, &QUERY_ID, "compute_query_id", &["on", "auto", "regress"], "auto"))
    }),
    ..check(
        "settings.compute_query_id",
        Severity::Warning,
        "compute_query_id (14 and newer) is off.",
        "pg_stat_statements counts nothing then.",
    )
};
static COUNTS: Check = Check {
    run: Some(|cx| Box::pin(switch(cx, &COUNTS, "track_counts", &["on"], "on"))),
    ..check(
        "settings.track_counts",
        Severity::Critical,
        "track_counts is off.",
        "Nothing is known of scans and rows, and autovacuum does not work.",
    )
};
static ACTIVITIES: Check = Check {
    run: Some(|cx| Box::pin(switch(cx, &ACTIVITIES, "track_activities", &["on"], "on"))),
    ..check(
        "settings.track_activities",
        Severity::Warning,
        "track_activities is off.",
        "What sessions do and for how long they wait is not known.",
    )
};
static IO_TIMING: Check = Check {
    run: Some(|cx| Box::pin(switch(cx, &IO_TIMING, "track_io_timing", &["on"], "on"))),
    ..check(
        "settings.track_io_timing",
        Severity::Info,
        "track_io_timing is off.",
        "Time spent on reading blocks is not told from time spent on computing; pg_test_timing says what \
         it costs on your machine.",
    )
};
static QUERY_SIZE: Check = Check {
    run: Some(|cx| Box::pin(query_size(cx))),
    ..check(
        "settings.track_activity_query_size",
        Severity::Info,
        "track_activity_query_size is below 1 kB.",
        "The text of running statements is cut off where it becomes interesting.",
    )
};
static AUTOVACUUM: Check = Check {
    run: Some(|cx| Box::pin(switch(cx, &AUTOVACUUM, "autovacuum", &["on"], "on"))),
    ..check(
        "settings.autovacuum",
        Severity::Warning,
        "autovacuum is off.",
        "Dead rows stay, statistics age, and everything has to be frozen at the last moment.",
    )
};
static ROLE: Check = Check {
    run: Some(|cx| Box::pin(role(cx))),
    ..check(
        "settings.role",
        Severity::Warning,
        "The role is no member of pg_monitor.",
        "It does not see other users' statements and sessions, nor all settings.",
    )
};

pub(super) static CHECKS: &[&Check] =
    &[&STATEMENTS, &QUERY_ID, &COUNTS, &ACTIVITIES, &IO_TIMING, &QUERY_SIZE, &AUTOVACUUM, &ROLE];

const SETTING: &str = "\
SELECT s.name::text AS name, s.setting::text AS setting, s.source::text AS source,
       s.context = 'postmaster' AS restart
  FROM pg_catalog.pg_settings s WHERE s.name = $1";

async fn parameter(cx: &Context<'_>, name: &str) -> Result<Option<Row>, CollectError> {
    let name = name.to_owned();
    Ok(cx.session.read(Query::new(SETTING).text(&name)).await?.into_iter().next())
}

/// Adds what sets a parameter: where it is set for the role or the database only, that is undone.
fn set(
    finding: Finding,
    cx: &Context<'_>,
    row: &Row,
    value: &str,
) -> Result<Finding, CollectError> {
    let server = cx.session.server();
    let name: &str = row.get("name")?;
    let source = match row.get("source")? {
        "database" => Source::Database(&server.datname),
        "user" => Source::Role(&server.role),
        "database user" => Source::RoleIn(&server.role, &server.datname),
        "global" => Source::All,
        "command line" => {
            return Ok(finding.caution(format!(
                "It was given on the server's command line, which wins over ALTER SYSTEM: change it \
                 there to {name} = {value}."
            )));
        }
        _ => Source::System { restart: row.get("restart")? },
    };
    let finding = finding.remedy(setting::set(&server.datname, name, value, source));
    Ok(match source {
        Source::System { restart: true } => {
            finding.caution("It takes effect when the server is restarted.")
        }
        _ => finding,
    })
}

/// A parameter that must have one of a few values.
async fn switch(
    cx: &Context<'_>,
    check: &'static Check,
    name: &str,
    good: &[&str],
    value: &str,
) -> Result<Found, CollectError> {
    let Some(row) = parameter(cx, name).await? else {
        return Ok(Found::skipped(format!("this server has no setting {name}")));
    };
    let now: &str = row.get("setting")?;
    let summary = format!("{name} = {now}");
    if good.contains(&now) {
        return Ok(Found::new(summary, Vec::new()));
    }
    let finding = check.finding(name, summary.clone());
    Ok(Found::new(summary, vec![set(finding, cx, &row, value)?]))
}

async fn query_size(cx: &Context<'_>) -> Result<Found, CollectError> {
    let name = "track_activity_query_size";
    let Some(row) = parameter(cx, name).await? else {
        return Ok(Found::skipped(format!("this server has no setting {name}")));
    };
    let now: &str = row.get("setting")?;
    let summary = format!("{name} = {now} B");
    if now.parse().is_ok_and(|bytes: u64| bytes >= 1_024) {
        return Ok(Found::new(summary, Vec::new()));
    }
    let finding = QUERY_SIZE.finding(name, summary.clone());
    Ok(Found::new(summary, vec![set(finding, cx, &row, "4kB")?]))
}

async fn statements(cx: &Context<'_>) -> Result<Found, CollectError> {
    let server = cx.session.server();
    let mut findings = Vec::new();
    let name = "pg_stat_statements";
    if let Some(row) = parameter(cx, "shared_preload_libraries").await? {
        let now: &str = row.get("setting")?;
        let libraries: Vec<&str> =
            now.split(',').map(|l| l.trim().trim_matches('"')).filter(|l| !l.is_empty()).collect();
        // A path may stand before it.
        if !libraries.iter().any(|l| l.rsplit('/').next() == Some(name)) {
            let finding = STATEMENTS.finding(
                "shared_preload_libraries",
                format!("shared_preload_libraries = '{now}' does not load {name}"),
            );
            findings.push(match row.get("source")? {
                "command line" => set(finding, cx, &row, &format!("{now},{name}"))?,
                _ => finding
                    .remedy(setting::preload(&server.datname, name))
                    .caution("It takes effect when the server is restarted."),
            });
        }
    } else {
        // Only a superuser or pg_read_all_settings sees it.
        return Ok(Found {
            unchecked: Some("the role may not see shared_preload_libraries".to_owned()),
            ..Found::default()
        });
    }
    if !server.extensions.contains_key(name) {
        findings.push(
            STATEMENTS
                .finding(
                    &*server.datname,
                    format!("the extension {name} is not in database {}", server.datname),
                )
                .remedy(setting::extension(&server.datname, name))
                .caution(format!("Run it in database {}.", server.datname)),
        );
    }
    if let Some(row) = parameter(cx, "pg_stat_statements.track").await?
        && row.get::<&str>("setting")? == "none"
    {
        let finding = STATEMENTS.finding("pg_stat_statements.track", "it tracks nothing");
        findings.push(set(finding, cx, &row, "top")?);
    }
    let summary = match server.extensions.get(name) {
        Some(e) => {
            let (major, minor) = e.version;
            format!("{name} {major}.{minor} in database {}", server.datname)
        }
        None => format!("{name} is not installed"),
    };
    Ok(Found::new(summary, findings))
}

async fn role(cx: &Context<'_>) -> Result<Found, CollectError> {
    let server = cx.session.server();
    let sql = "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE') AS may";
    let rows = cx.session.read(sql).await?;
    if rows.first().map_or(Ok(false), |row| row.get("may"))? {
        return Ok(Found::new(format!("{} has pg_monitor", server.role), Vec::new()));
    }
    let finding = ROLE
        .finding(&*server.role, format!("{} lacks pg_monitor", server.role))
        .remedy(setting::grant(&server.datname, "pg_monitor", &server.role));
    Ok(Found::new(format!("{} lacks pg_monitor", server.role), vec![finding]))
}
