//! Rules about statements and their plans, where a report watched or benchmarked them.
//!
//! Must not: quote the text of a statement.

use super::facts::{DatabaseFacts, StatementFacts};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::seconds;
use crate::remedy::setting::{SettingSource, set};

/// Shares of time over less than this are no evidence.
const ENOUGH: f64 = 60.0;
/// The manual wants all but a small number pruned.
const PARTITIONS_PER_PLAN: f64 = 100.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "statements.partitions",
        formerly: &[],
        title: "Let statements name the partition key",
        severity: Severity::Info,
        finds: "the plan of a benchmarked query keeps 100 partitions of a table or more after pruning",
        why: "Each one is planned, opened and locked, whether it is read or not.",
        source: "EXPLAIN (ANALYZE) by `pgrunway bench`",
        alerts: &[],
        part: Part::Statements,
        when: When::OnRequest,
        check: Check::Database(partitions_per_plan),
    },
    &Rule {
        id: "statements.prepare",
        formerly: &[],
        title: "Prepare statements whose planning dominates",
        severity: Severity::Warning,
        finds: "planning is over half of a statement's time and 1 ms or more a call, at one call a second or more; \
                or a benchmark measured as much",
        why: "The same statement is planned again at each call, for longer than it runs.",
        source: "pg_stat_statements.total_plan_time (track_planning), custom_plan_calls and generic_plan_calls (1.13 and \
                 later), or `pgrunway bench`",
        alerts: &[],
        part: Part::Statements,
        when: When::OnRequest,
        check: Check::Database(prepare),
    },
    &Rule {
        id: "statements.materialise",
        formerly: &[],
        title: "Keep the result of a repeated aggregate",
        severity: Severity::Info,
        finds: "a statement that aggregates takes 20 % of all execution time or more and reads 1,000 blocks or more \
                for each row that it returns",
        why: "The same rows are read again and again for few results.",
        source: "pg_stat_statements.shared_blks_hit, shared_blks_read, rows, total_exec_time",
        alerts: &[],
        part: Part::Statements,
        when: When::OnRequest,
        check: Check::Database(materialise),
    },
    &Rule {
        id: "statements.jit",
        formerly: &[],
        title: "Switch JIT off where compiling dominates",
        severity: Severity::Info,
        finds: "compiling takes over 20 % of the execution time of all statements",
        why: "Short statements run for less time than it takes to compile them.",
        source: "pg_stat_statements.jit_*_time (15 and later)",
        alerts: &[],
        part: Part::Statements,
        when: When::OnRequest,
        check: Check::Database(jit),
    },
];

fn finding(statement: &str, evidence: String) -> Finding {
    Finding::new(Subject::Statement(statement.to_owned()), evidence)
}

fn partitions_per_plan(d: &DatabaseFacts) -> Verdict {
    let found = d.benches.as_ref()?.iter().filter_map(|b| {
        let (table, [held, all]) = b.planned.as_ref()?;
        (*held >= PARTITIONS_PER_PLAN).then(|| {
            let evidence = format!("Its plan keeps {held:.0} of {all:.0} partitions of {table}.");
            finding(&b.name, evidence).figure("partitions", *held, Unit::Count).advice(
                "A condition on the partition key lets the planner leave the others out; fewer, longer \
                 partitions help all statements.",
            )
        })
    });
    Some(found.collect())
}

fn prepare(d: &DatabaseFacts) -> Verdict {
    let planned = |s: &StatementFacts| {
        let plans = s.plans?;
        let mean = s.planning / plans.max(1.0);
        let share = s.planning / (s.planning + s.execution).max(f64::MIN_POSITIVE);
        let often = d.span >= ENOUGH && s.calls / d.span >= 1.0 && plans >= s.calls * 0.5;
        (often && share > 0.5 && mean >= 1e-3).then(|| {
            let evidence = format!(
                "Planned {plans:.0} times in {} at {} each, {:.0} % of its time; {} of planning a \
                 second.",
                seconds(d.span),
                seconds(mean),
                share * 100.0,
                seconds(s.planning / d.span)
            );
            let found = |evidence| {
                finding(&s.name, evidence)
                    .figure("planning", mean, Unit::Seconds)
                    .figure("share", share, Unit::Ratio)
            };
            // Of a prepared statement the server says which kind of plan it took.
            match (s.custom, s.generic) {
                (Some(custom), generic) if custom >= s.calls * 0.5 => {
                    let generic = generic.unwrap_or_default();
                    found(format!(
                        "{evidence} It is prepared, but {custom:.0} executions had a plan of their own and \
                         {generic:.0} a generic one."
                    ))
                    .advice(GENERIC)
                }
                _ => found(evidence).advice(PREPARE),
            }
        })
    };
    let from_statements = d.statements.as_ref().filter(|all| all.iter().any(|s| s.plans.is_some()));
    if from_statements.is_none() && d.benches.is_none() {
        return None;
    }
    let mut found: Vec<Finding> =
        from_statements.into_iter().flatten().filter_map(planned).collect();
    for b in d.benches.iter().flatten() {
        let saved = b.unprepared - b.prepared;
        if saved >= 1e-3 && saved > b.unprepared * 0.5 {
            let evidence = format!(
                "Median round trip {} unprepared, {} prepared: {} saved a call, measured.",
                seconds(b.unprepared),
                seconds(b.prepared),
                seconds(saved)
            );
            found.push(
                finding(&b.name, evidence).figure("saved", saved, Unit::Seconds).advice(PREPARE),
            );
        }
    }
    Some(found)
}

const PREPARE: &str = "Prepare it once a connection and execute it by parameters: after five executions \
                       PostgreSQL uses a generic plan if it costs no more.";

const GENERIC: &str = "PostgreSQL expects a plan for the parameters to be cheaper by more than planning costs. Compare both \
                       by EXPLAIN (GENERIC_PLAN); if the generic plan does, set plan_cache_mode to \
                       force_generic_plan for the role or the transaction that executes it.";

fn materialise(d: &DatabaseFacts) -> Verdict {
    let statements = d.statements.as_ref()?;
    if d.span < ENOUGH {
        return None;
    }
    let all: f64 = statements.iter().map(|s| s.execution).sum();
    let dear = |s: &&StatementFacts| {
        s.aggregates == Some(true)
            && s.calls >= 2.0
            && s.execution >= all * 0.2
            && s.blocks >= s.rows.max(1.0) * 1_000.0
    };
    let found = statements.iter().filter(dear).map(|s| {
        let (share, blocks) = (s.execution / all.max(f64::MIN_POSITIVE), s.blocks / s.rows.max(1.0));
        let evidence = format!(
            "{:.0} % of all execution time; {blocks:.0} blocks for each of {:.1} rows a call, {:.2} calls a \
             second.",
            share * 100.0,
            s.rows / s.calls,
            s.calls / d.span
        );
        finding(&s.name, evidence)
            .figure("share", share, Unit::Ratio)
            .figure("blocks_per_row", blocks, Unit::Count)
            .advice(
                "A materialised view, refreshed CONCURRENTLY as often as its readers need, answers it \
                 without reading the rows again.",
            )
    });
    Some(found.collect())
}

fn jit(d: &DatabaseFacts) -> Verdict {
    let statements = d.statements.as_ref()?;
    if d.span < ENOUGH || !statements.iter().any(|s| s.jit.is_some()) {
        return None;
    }
    let compiling: f64 = statements.iter().filter_map(|s| s.jit).sum();
    let execution: f64 = statements.iter().map(|s| s.execution).sum();
    if compiling <= execution * 0.2 {
        return Some(Vec::new());
    }
    let evidence = format!(
        "{} of {} of execution were spent compiling.",
        seconds(compiling),
        seconds(execution)
    );
    let finding = Finding::new(Subject::Database, evidence)
        .figure("compiling", compiling, Unit::Seconds)
        .figure("execution", execution, Unit::Seconds)
        .advice("Off for the roles that run short statements, or a higher jit_above_cost.")
        .remedy(set(&d.datname, "jit", "off", SettingSource::System { restart: false }));
    Some(vec![finding])
}
