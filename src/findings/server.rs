//! Rules about what a server does: checkpoints, connections, autovacuum, what it records.
//!
//! Must not: take a rate over a short time for evidence.

use super::facts::{Origin, ServerFacts};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{bytes, seconds};
use crate::remedy::setting::{SettingSource, set};

const GIB: f64 = 1_073_741_824.0;
pub(super) const MIB: f64 = 1_048_576.0;
/// Rates over less time than this are no evidence.
pub(super) const ENOUGH: f64 = 600.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "settings.max_wal_size",
        formerly: &["settings.recommended"],
        title: "Raise max_wal_size: checkpoints are forced by WAL",
        severity: Severity::Warning,
        finds: "over 30 % of at least 3 checkpoints in 10 minutes or longer were requested",
        why: "A requested checkpoint writes fast, and after each one the first change of a page writes the \
              whole page to the WAL.",
        source: "pg_stat_bgwriter or pg_stat_checkpointer, pg_current_wal_insert_lsn()",
        alerts: &["PostgresCheckpointsTooFrequent"],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(max_wal_size),
    },
    &Rule {
        id: "settings.checkpoint_timeout",
        formerly: &["settings.recommended"],
        title: "Space checkpoints out",
        severity: Severity::Info,
        finds: "checkpoint_timeout of 5 minutes or less while over 1 MB/s of WAL are written",
        why: "After each checkpoint, the first change of a page writes the whole page to the WAL.",
        source: "pg_settings, pg_current_wal_insert_lsn()",
        alerts: &[],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(checkpoint_timeout),
    },
    &Rule {
        id: "statements.max",
        formerly: &["settings.recommended"],
        title: "Raise pg_stat_statements.max: it evicts",
        severity: Severity::Warning,
        finds: "any eviction while it was watched",
        why: "Calls of evicted statements are lost to all percentiles.",
        source: "pg_stat_statements_info.dealloc",
        alerts: &["PostgresStatementsEvicting"],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(statements_max),
    },
    &Rule {
        id: "connections.pool",
        formerly: &["settings.recommended"],
        title: "Put a pooler in front",
        severity: Severity::Warning,
        finds: "80 % of max_connections in use at the peak, or more than 20 connections a processor of which under a \
                fifth were ever active at once",
        why: "Clients beyond max_connections are refused, and each idle backend costs memory.",
        source: "pg_stat_activity, pg_settings, host.cpus of the configuration",
        alerts: &["PostgresConnectionsNearLimit", "PostgresConnectionsExhausted"],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(pool),
    },
    &Rule {
        id: "vacuum.workers",
        formerly: &["settings.recommended"],
        title: "Let autovacuum keep up",
        severity: Severity::Warning,
        finds: "all autovacuum_max_workers busy at once",
        why: "Tables that are due wait for a worker.",
        source: "pg_stat_activity, pg_settings",
        alerts: &["PostgresVacuumOverdue"],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(autovacuum_workers),
    },
];

pub(super) fn none() -> Verdict {
    Some(Vec::new())
}

pub(super) fn one(finding: Finding) -> Verdict {
    Some(vec![finding])
}

/// A setting that another value would suit better, and what gives it that: where it is set for the role or the
/// database only, that is taken back.
pub(super) fn alter(
    s: &ServerFacts,
    name: &'static str,
    value: &str,
    evidence: String,
    advice: impl AsRef<str>,
) -> Finding {
    let finding = Finding::new(Subject::Setting(name.to_owned()), evidence).also(advice);
    let origin = s.origins.get(name).copied().unwrap_or(Origin::System { restart: false });
    let (source, when) = match origin {
        Origin::System { restart: false } => {
            (SettingSource::System { restart: false }, "It takes effect at once.")
        }
        Origin::System { restart: true } => (
            SettingSource::System { restart: true },
            "It takes effect when the server is restarted.",
        ),
        Origin::Database => (SettingSource::Database(&s.datname), NEW),
        Origin::Role => (SettingSource::Role(&s.role), NEW),
        Origin::RoleIn => (SettingSource::RoleIn(&s.role, &s.datname), NEW),
        Origin::Roles => (SettingSource::All, NEW),
        Origin::CommandLine => {
            return finding.also(format!(
                "It was given on the server's command line, which wins over ALTER SYSTEM: change it there to \
                 {name} = {value}."
            ));
        }
    };
    finding.also(when).remedy(set(&s.datname, name, value, source))
}

const NEW: &str = "It takes effect in new sessions.";

fn max_wal_size(s: &ServerFacts) -> Verdict {
    let (c, wal, now) = (s.checkpoints?, s.wal?, s.number("max_wal_size")?);
    if c.span < ENOUGH {
        return None;
    }
    let all = c.timed + c.requested;
    if all < 3.0 || c.requested / all <= 0.3 {
        return none();
    }
    let rate = wal.rate();
    let evidence = format!(
        "{:.0} of {all:.0} checkpoints in {} were requested; {}/s of WAL over {}, max_wal_size is {}.",
        c.requested,
        seconds(c.span),
        bytes(rate),
        seconds(wal.span),
        bytes(now)
    );
    // WAL of one interval and of the checkpoint that runs beside it, and a fifth more.
    let timeout = s.number("checkpoint_timeout")?;
    let target = s.number("checkpoint_completion_target")?;
    let wanted = (rate * timeout * (1.0 + target) * 1.2).max(now * 2.0);
    let gigabytes = (wanted / GIB).ceil();
    let advice = "That much WAL may lie on disk, and recovery after a crash replays it; CHECKPOINT by command \
                  counts as requested too.";
    let finding = alter(s, "max_wal_size", &format!("{gigabytes:.0}GB"), evidence, advice)
        .figure("requested", c.requested / all, Unit::Ratio)
        .figure("wal", rate, Unit::BytesPerSecond)
        .figure("max_wal_size", now, Unit::Bytes);
    one(finding)
}

fn checkpoint_timeout(s: &ServerFacts) -> Verdict {
    let (wal, now) = (s.wal?, s.number("checkpoint_timeout")?);
    if wal.span < ENOUGH {
        return None;
    }
    if now > 300.0 || wal.rate() <= MIB {
        return none();
    }
    let evidence =
        format!("checkpoint_timeout is {}, at {}/s of WAL.", seconds(now), bytes(wal.rate()));
    let advice = "Fewer checkpoints, less WAL, and a longer recovery after a crash.";
    let finding = alter(s, "checkpoint_timeout", "15min", evidence, advice)
        .figure("checkpoint_timeout", now, Unit::Seconds)
        .figure("wal", wal.rate(), Unit::BytesPerSecond);
    one(finding)
}

fn statements_max(s: &ServerFacts) -> Verdict {
    let name = "pg_stat_statements.max";
    let (evictions, now) = (s.evictions?, s.number(name)?);
    if evictions.amount <= 0.0 {
        return none();
    }
    let evidence = format!(
        "{:.0} evictions in {}; {name} is {now:.0}.",
        evictions.amount,
        seconds(evictions.span)
    );
    let advice = "If texts are made of values, bind them instead.";
    let finding = alter(s, name, &format!("{:.0}", now * 2.0), evidence, advice)
        .figure("evictions", evictions.amount, Unit::Count)
        .figure("watched", evictions.span, Unit::Seconds);
    one(finding)
}

fn pool(s: &ServerFacts) -> Verdict {
    let (c, most) = (s.connections?, s.number("max_connections")?);
    let near = c.peak >= most * 0.8;
    let idle = s.cpus.is_some_and(|cpus| c.peak > cpus * 20.0 && c.peak_active < c.peak * 0.2);
    if !near && !idle {
        return none();
    }
    let evidence = format!(
        "At most {:.0} of {most:.0} connections were used at once, {:.0} of them in a statement.",
        c.peak, c.peak_active
    );
    let size = (c.peak_active * 1.5).max(s.cpus.unwrap_or(0.0) * 2.0).max(5.0).ceil();
    let advice = format!(
        "PgBouncer with pool_mode = transaction and default_pool_size = {size:.0} (half as much again as \
         were active at the peak) serves the same clients with fewer backends; clients that prepare \
         statements need PgBouncer 1.21 and max_prepared_statements."
    );
    let finding = Finding::new(Subject::Server, evidence)
        .figure("peak", c.peak, Unit::Count)
        .figure("peak_active", c.peak_active, Unit::Count)
        .figure("max_connections", most, Unit::Count)
        .advice(advice);
    one(finding)
}

fn autovacuum_workers(s: &ServerFacts) -> Verdict {
    let (busy, most) = (s.autovacuum_workers?, s.number("autovacuum_max_workers")?);
    if busy < most {
        return none();
    }
    let limit = match s.number("autovacuum_vacuum_cost_limit")? {
        // -1 stands for vacuum_cost_limit.
        limit if limit < 0.0 => s.number("vacuum_cost_limit")?,
        limit => limit,
    };
    let evidence = format!("All {most:.0} autovacuum workers were busy at once.");
    let advice = format!(
        "They share a cost limit of {limit:.0}: more of it makes each faster, more workers alone make each \
         slower."
    );
    let wanted = format!("{:.0}", (limit * 2.0).min(10_000.0));
    let finding = alter(s, "autovacuum_vacuum_cost_limit", &wanted, evidence, advice).figure(
        "workers",
        most,
        Unit::Count,
    );
    one(finding)
}
