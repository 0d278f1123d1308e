//! The rule about jobs that look after partitions.
//!
//! Must not: take a job that is late for one that went astray; alerts say which are late.

use super::facts::{DatabaseFacts, JobFacts};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::instant;

pub(super) static RULES: &[&Rule] = &[&Rule {
    id: "maintenance.standby",
    formerly: &[],
    title: "Send maintenance jobs to the primary",
    severity: Severity::Critical,
    finds: "the last run of a pg_cron job that maintains partitions failed because it ran on a standby, or in a \
            read-only database",
    why: "A standby accepts no DDL: partitions are neither created nor retired, although the job runs on time.",
    source: "cron.job, cron.job_run_details.return_message (in English)",
    alerts: &["PostgresPartitionJobFailed"],
    part: Part::Jobs,
    when: When::Always,
    check: Check::Database(standby),
}];

fn standby(d: &DatabaseFacts) -> Verdict {
    let check = |job: &JobFacts| {
        job.refused.then(|| {
            let when = job.started.map_or_else(String::new, |at| format!(" ({})", instant(at)));
            let evidence = format!(
                "Its last run{when} in database {} was refused: a standby, or a read-only database, accepts no DDL.",
                job.database
            );
            let finding = Finding::new(Subject::Job(job.name.clone()), evidence).advice(
                "Set cron.job.nodename and nodeport to an address of the primary that follows a failover, and \
                 check whether default_transaction_read_only is set for the database or the job's role.",
            );
            match job.started {
                Some(at) => finding.figure("started", at, Unit::UnixSeconds),
                None => finding,
            }
        })
    };
    Some(d.jobs.as_ref()?.iter().filter_map(check).collect())
}
