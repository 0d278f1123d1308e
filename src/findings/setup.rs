//! Rules about what must be there for anything to be seen: databases, the role's rights, and what makes the server
//! count.
//!
//! Must not: judge settings that are a matter of taste or of the machine's size.

use super::facts::ServerFacts;
use super::server::{alter, none, one};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::bytes;
use crate::remedy::setting::{extension, grant, preload};

const MODULE: &str = "pg_stat_statements";
/// Bytes of a running statement's text below which it is cut off where it matters.
const QUERY_SIZE: f64 = 1_024.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "database.reachable",
        formerly: &[],
        title: "Create the database that is expected",
        severity: Severity::Critical,
        finds: "a database that --database or the file names and the server does not have",
        why: "What the file expects of it would not be checked, and the gate would pass all the same.",
        source: "pg_database, the configuration",
        alerts: &[],
        part: Part::Databases,
        when: When::Always,
        check: Check::Server(reachable),
    },
    &Rule {
        id: "settings.pg_stat_statements",
        formerly: &[],
        title: "Load pg_stat_statements",
        severity: Severity::Warning,
        finds: "pg_stat_statements is not loaded, not installed in the exporter's database, or set to track nothing",
        why: "Without it there are no latencies, neither per database nor per statement.",
        source: "pg_settings, pg_extension",
        alerts: &["PostgresStatementsMissing"],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(statements),
    },
    &Rule {
        id: "settings.compute_query_id",
        formerly: &[],
        title: "Compute query identifiers",
        severity: Severity::Warning,
        finds: "compute_query_id (14 and newer) is off",
        why: "pg_stat_statements counts nothing then.",
        source: "pg_settings",
        alerts: &["PostgresStatementsMissing"],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(query_id),
    },
    &Rule {
        id: "settings.track_activities",
        formerly: &[],
        title: "Switch track_activities on",
        severity: Severity::Warning,
        finds: "track_activities is off",
        why: "What sessions do and for how long they wait is not known.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(activities),
    },
    &Rule {
        id: "settings.track_activity_query_size",
        formerly: &[],
        title: "Show the full text of running statements",
        severity: Severity::Info,
        finds: "track_activity_query_size is below 1 kB",
        why: "The text of long statements is cut off.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(query_size),
    },
    &Rule {
        id: "settings.role",
        formerly: &[],
        title: "Make the role a member of pg_monitor",
        severity: Severity::Warning,
        finds: "the role is not a member of pg_monitor",
        why: "It does not see other users' statements and sessions, nor all settings.",
        source: "pg_has_role()",
        alerts: &["PgrunwayRoleSeesLittle"],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(role),
    },
];

fn reachable(s: &ServerFacts) -> Verdict {
    let missing = s.absent.as_ref()?.iter().map(|name| {
        Finding::new(Subject::Named(name.clone()), "The server has no database of this name.")
            .advice("Create it, or remove its expectations from the file.")
    });
    Some(missing.collect())
}

fn statements(s: &ServerFacts) -> Verdict {
    let name = "shared_preload_libraries";
    let (now, installed) = (s.text(name)?, s.has_statements?);
    let mut found = Vec::new();
    let mut libraries = now.split(',').map(|l| l.trim().trim_matches('"'));
    // A path may stand before it.
    if !libraries.any(|l| l.rsplit('/').next() == Some(MODULE)) {
        let evidence = format!("{name} = '{now}' does not load {MODULE}.");
        let both = if now.is_empty() { MODULE.to_owned() } else { format!("{now},{MODULE}") };
        let mut finding = alter(s, name, &both, evidence, "");
        if finding.remedy.is_some() {
            // What was added meanwhile stays.
            finding = finding.remedy(preload(&s.datname, MODULE));
        }
        found.push(finding);
    }
    if !installed {
        let mut evidence = format!("The extension {MODULE} is not in database {}.", s.datname);
        for (datname, why) in &s.statements_elsewhere {
            evidence.push_str(&format!(" It is in database {datname}, and not read there: {why}."));
        }
        let finding = Finding::new(Subject::Named(s.datname.clone()), evidence)
            .advice(format!("Run it in database {}.", s.datname))
            .remedy(extension(&s.datname, MODULE));
        found.push(finding);
    }
    if s.text("pg_stat_statements.track") == Some("none") {
        found.push(alter(
            s,
            "pg_stat_statements.track",
            "top",
            "It tracks nothing.".to_owned(),
            "",
        ));
    }
    Some(found)
}

fn query_id(s: &ServerFacts) -> Verdict {
    let name = "compute_query_id";
    match s.text(name)? {
        "on" | "auto" | "regress" => none(),
        now => one(alter(s, name, "auto", format!("{name} = {now}."), "")),
    }
}

fn activities(s: &ServerFacts) -> Verdict {
    let name = "track_activities";
    match s.flag(name)? {
        true => none(),
        false => one(alter(s, name, "on", format!("{name} is off."), "")),
    }
}

fn query_size(s: &ServerFacts) -> Verdict {
    let name = "track_activity_query_size";
    let now = s.number(name)?;
    if now >= QUERY_SIZE {
        return none();
    }
    let finding = alter(s, name, "4kB", format!("{name} is {}.", bytes(now)), "");
    one(finding.figure("now", now, Unit::Bytes))
}

fn role(s: &ServerFacts) -> Verdict {
    if s.monitors? {
        return none();
    }
    let finding = Finding::new(Subject::Role(s.role.clone()), "It is not a member of pg_monitor.")
        .remedy(grant(&s.datname, "pg_monitor", &s.role));
    one(finding)
}
