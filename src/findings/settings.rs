//! Rules about settings that are right or wrong by themselves.
//!
//! Must not: judge what depends on the machine's size or on what the server does.

use super::facts::ServerFacts;
use super::server::{alter, none, one};
use super::{Check, Part, Rule, Severity, Unit, Verdict, When};

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "settings.fsync",
        formerly: &["settings.recommended"],
        title: "Switch fsync and full_page_writes on",
        severity: Severity::Critical,
        finds: "fsync or full_page_writes is off",
        why: "A crash of the machine can corrupt all data while it is off.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(fsync),
    },
    &Rule {
        id: "settings.autovacuum",
        formerly: &[],
        title: "Switch autovacuum on",
        severity: Severity::Warning,
        finds: "autovacuum is off",
        why: "Dead rows stay, statistics age, and everything has to be frozen at the last moment.",
        source: "pg_settings",
        alerts: &["PostgresAutovacuumOff"],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(autovacuum),
    },
    &Rule {
        id: "settings.track_counts",
        formerly: &[],
        title: "Switch track_counts on",
        severity: Severity::Critical,
        finds: "track_counts is off",
        why: "Scans and rows are not counted, and autovacuum does not work.",
        source: "pg_settings",
        alerts: &["PostgresAutovacuumOff"],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(track_counts),
    },
    &Rule {
        id: "settings.track_io_timing",
        formerly: &[],
        title: "Time reads and writes of blocks",
        severity: Severity::Info,
        finds: "track_io_timing is off",
        why: "Without it, the time that reads and writes take is not known; pg_test_timing shows what measuring \
              it costs on your machine.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::Always,
        check: Check::Server(track_io_timing),
    },
    &Rule {
        id: "settings.checkpoint_completion_target",
        formerly: &["settings.recommended"],
        title: "Spread the writes of a checkpoint",
        severity: Severity::Info,
        finds: "checkpoint_completion_target under 0.9",
        why: "A checkpoint that writes fast slows down queries that need the disk.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(checkpoint_completion_target),
    },
    &Rule {
        id: "settings.log_min_duration_statement",
        formerly: &["settings.recommended"],
        title: "Log slow statements",
        severity: Severity::Info,
        finds: "log_min_duration_statement and log_min_duration_sample are -1",
        why: "No statement is logged for its duration, however long it took.",
        source: "pg_settings",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(log_min_duration_statement),
    },
    &Rule {
        id: "settings.idle_in_transaction",
        formerly: &["settings.recommended"],
        title: "End sessions that sit idle in a transaction",
        severity: Severity::Info,
        finds: "idle_in_transaction_session_timeout is 0",
        why: "A client that forgot to COMMIT holds its locks and keeps VACUUM from removing rows.",
        source: "pg_settings",
        alerts: &["PostgresIdleInTransactionLong"],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(idle_in_transaction),
    },
];

/// A switch that is to be on.
fn on(s: &ServerFacts, names: &[&'static str], advice: &str) -> Verdict {
    let mut off = None;
    for name in names {
        if !s.flag(name)? {
            off.get_or_insert(*name);
        }
    }
    let Some(name) = off else { return none() };
    one(alter(s, name, "on", format!("{name} is off."), advice))
}

fn fsync(s: &ServerFacts) -> Verdict {
    on(s, &["fsync", "full_page_writes"], "")
}

fn autovacuum(s: &ServerFacts) -> Verdict {
    on(s, &["autovacuum"], "")
}

fn track_counts(s: &ServerFacts) -> Verdict {
    on(s, &["track_counts"], "")
}

fn track_io_timing(s: &ServerFacts) -> Verdict {
    on(
        s,
        &["track_io_timing"],
        "Run pg_test_timing first: a clock that takes long to read makes it dear.",
    )
}

fn checkpoint_completion_target(s: &ServerFacts) -> Verdict {
    let name = "checkpoint_completion_target";
    let now = s.number(name)?;
    if now >= 0.9 {
        return none();
    }
    let finding = alter(s, name, "0.9", format!("{name} is {now}."), "");
    one(finding.figure(name, now, Unit::Ratio))
}

fn log_min_duration_statement(s: &ServerFacts) -> Verdict {
    let name = "log_min_duration_statement";
    let (statement, sample) = (s.number(name)?, s.number("log_min_duration_sample")?);
    if statement >= 0.0 || sample >= 0.0 {
        return none();
    }
    let milliseconds = (s.latency_objective.unwrap_or(0.05) * 2_000.0).max(1.0);
    let advice = "Twice the latency objective; texts in the log may hold data.";
    one(alter(s, name, &format!("{milliseconds:.0}ms"), format!("{name} is -1."), advice))
}

fn idle_in_transaction(s: &ServerFacts) -> Verdict {
    let name = "idle_in_transaction_session_timeout";
    if s.number(name)? != 0.0 {
        return none();
    }
    one(alter(s, name, "10min", format!("{name} is 0: no end."), ""))
}
