//! Rules about what active sessions wait for, by samples of them, and the facts that they look at.
//!
//! Must not: find what the error of sampling allows not to be; or promise that a wait that goes away leaves the time
//! that it took, because what is behind it may wait for the next thing.

mod lwlocks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::server::none;
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::proportion::interval;
use crate::derive::units::seconds;
use crate::remedy::text::printable;

#[cfg(test)]
pub(super) use tests::fixtures;

/// Fewer samples, or samples of less time in seconds, are no evidence.
const ENOUGH_SAMPLES: f64 = 30.0;
const ENOUGH: f64 = 30.0;
/// Events that an evidence names.
const NAMED: usize = 3;
/// Fewer sessions on average in the wait for light-weight locks of one purpose are nothing to look at.
const SESSIONS_IN_LWLOCK: f64 = 0.2;
/// `wait_event_type` of what waits for nothing.
const CPU: &str = "CPU";

/// Seconds that sessions of one database spent in one wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WaitedSeconds {
    /// `pg_database.datname`; empty for a background worker.
    pub datname: String,
    /// `pg_stat_activity.wait_event_type`, or `CPU` where there is none.
    pub kind: String,
    /// `pg_stat_activity.wait_event`, or `CPU`.
    pub event: String,
    /// Seconds of sessions.
    pub seconds: f64,
}

impl WaitedSeconds {
    /// Names of events changed their case in 17.
    fn is(&self, kind: &str, events: &[&str]) -> bool {
        self.kind == kind && events.iter().any(|event| event.eq_ignore_ascii_case(&self.event))
    }
}

/// Samples of a server's sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampledWaits {
    /// How many samples.
    pub samples: f64,
    /// What they stand for, in seconds.
    pub span: f64,
    /// Of active client backends and their parallel workers.
    pub waits: Vec<WaitedSeconds>,
    /// Of active backends without a client.
    pub workers: Vec<WaitedSeconds>,
    /// The machine's processors, from the configuration.
    pub cpus: Option<f64>,
}

/// What of the sampled time a rule is about.
struct Share {
    /// Sessions on average.
    sessions: f64,
    /// Sessions on average that were active at all.
    all: f64,
    /// Share of the active time, and where that lies with 95 % certainty.
    share: f64,
    range: (f64, f64),
    /// Events with sessions on average, most first.
    events: Vec<(String, f64)>,
    /// The database with most of it.
    datname: String,
}

impl SampledWaits {
    /// What is in these waits; `None` where there were too few samples. `sessions` and more are on average in some of
    /// them, or it is no share.
    fn share<'a>(
        &'a self,
        all: impl Iterator<Item = &'a WaitedSeconds> + Clone,
        is: impl Fn(&WaitedSeconds) -> bool,
    ) -> Option<Option<Share>> {
        if self.samples < ENOUGH_SAMPLES || self.span < ENOUGH {
            return None;
        }
        let total: f64 = all.clone().map(|w| w.seconds).sum();
        let (mut events, mut databases) = (BTreeMap::new(), BTreeMap::new());
        for wait in all.filter(|w| is(w)) {
            let name = match &*wait.kind {
                CPU => CPU.to_owned(),
                kind => format!("{}:{}", printable(kind), printable(&wait.event)),
            };
            *events.entry(name).or_insert(0.0) += wait.seconds;
            *databases.entry(&*wait.datname).or_insert(0.0) += wait.seconds;
        }
        let waited: f64 = events.values().sum();
        // A session in a sample is one observation.
        let one = self.span / self.samples;
        let Some(range) = interval((waited / one).min(total / one), total / one) else {
            return Some(None);
        };
        let mut events: Vec<(String, f64)> =
            events.into_iter().map(|(name, s)| (name, s / self.span)).collect();
        events.sort_by(|a, b| b.1.total_cmp(&a.1));
        let most = databases.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        Some(Some(Share {
            sessions: waited / self.span,
            all: total / self.span,
            share: waited / total,
            range,
            events,
            datname: most.map(|(datname, _)| printable(datname)).unwrap_or_default(),
        }))
    }

    /// A finding where the sampled share is certainly `least` of the time of active sessions, or more, and `sessions` or
    /// more are on average in it.
    fn judge(
        &self,
        least: f64,
        sessions: f64,
        is: impl Fn(&WaitedSeconds) -> bool,
        advice: impl FnOnce(&Share) -> String,
    ) -> Verdict {
        let Some(found) = self.share(self.waits.iter(), is)? else { return none() };
        if found.range.0 < least || found.sessions < sessions {
            return none();
        }
        let advice = advice(&found);
        Some(vec![self.finding(&found, "active").advice(advice)])
    }

    fn finding(&self, share: &Share, of: &str) -> Finding {
        let mut events: Vec<String> = share
            .events
            .iter()
            .take(NAMED)
            .map(|(name, sessions)| format!("{name} ({sessions:.2})"))
            .collect();
        if share.events.len() > NAMED {
            events.push(format!("{} more", share.events.len() - NAMED));
        }
        let most = match &*share.datname {
            "" => String::new(),
            datname => format!("; most of it in database {datname}"),
        };
        let percent = |share: f64| share * 100.0;
        let evidence = format!(
            "{:.2} of {:.2} {of} sessions on average were in {}: {:.0} % of their time, {:.0} to {:.0} % with the error \
             of {:.0} samples over {}{most}.",
            share.sessions,
            share.all,
            events.join(", "),
            percent(share.share),
            percent(share.range.0),
            percent(share.range.1),
            self.samples,
            seconds(self.span)
        );
        Finding::new(Subject::Server, evidence)
            .figure("sessions", share.sessions, Unit::Count)
            .figure("share", share.share, Unit::Ratio)
            .figure("share_low", share.range.0, Unit::Ratio)
            .figure("share_high", share.range.1, Unit::Ratio)
            .figure("samples", self.samples, Unit::Count)
    }
}

const SOURCE: &str = "pg_stat_activity.wait_event_type, wait_event, sampled";
const WHICH: &str = "Which statements: pg_statement_active_session_seconds_total, dashboard Activity, or by statement under \
                     \"Where the time went\" in a report.";

/// Of `IO`, what reads blocks of relations; from 18 on, what waits for such reads to end.
const READS: &[&str] = &[
    "DataFileRead",
    "DataFilePrefetch",
    "SLRURead",
    "AioIoCompletion",
    "AioIoUringExecution",
    "AioIoUringSubmit",
];
/// Of `IO`, what writes blocks of relations.
const WRITES: &[&str] = &[
    "DataFileWrite",
    "DataFileExtend",
    "DataFileFlush",
    "DataFileSync",
    "DataFileImmediateSync",
    "DataFileTruncate",
    "SLRUWrite",
    "SLRUSync",
    "SLRUFlushSync",
];
/// Of `IO`, temporary files.
const TEMPORARY: &[&str] = &["BufFileRead", "BufFileWrite", "BufFileTruncate"];
/// Of `IO`, WAL.
const WAL: &[&str] = &["WALWrite", "WALSync", "WALSyncMethodAssign", "WALInitWrite", "WALInitSync"];
/// Of `LWLock`, WAL.
const WAL_LOCKS: &[&str] = &["WALWrite", "WALInsert", "WALBufMapping"];

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "waits.cpu",
        formerly: &[],
        title: "Give the sessions fewer things to compute, or more processors",
        severity: Severity::Warning,
        finds: "active sessions that wait for nothing are on average, with the error of sampling, certainly more than \
                the processors of the machine (host.cpus)",
        why: "What wants a processor and gets none stands in its queue, and all of it takes longer.",
        source: "pg_stat_activity.wait_event_type, sampled; host.cpus of the configuration",
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(cpu),
    },
    &Rule {
        id: "waits.read",
        formerly: &[],
        title: "Read less from disk",
        severity: Severity::Warning,
        finds: "0.5 sessions or more are on average in reads of data files, certainly 30 % of the time of active \
                sessions or more",
        why: "A block that is not in shared_buffers is asked of the operating system, and the statement waits for it.",
        source: SOURCE,
        alerts: &["PostgresCacheHitRatioLow"],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(read),
    },
    &Rule {
        id: "waits.write",
        formerly: &[],
        title: "Leave writing of data files to the background",
        severity: Severity::Warning,
        finds: "0.3 sessions or more are on average in writes of data files, certainly 20 % of the time of active \
                sessions or more",
        why: "A session that finds no clean buffer writes one itself before it goes on, and new blocks are added to a \
              file by whoever needs them.",
        source: SOURCE,
        alerts: &["PostgresCheckpointsTooFrequent"],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(write),
    },
    &Rule {
        id: "waits.temporary",
        formerly: &[],
        title: "Keep sorts and hashes in memory",
        severity: Severity::Info,
        finds: "0.2 sessions or more are on average in reads and writes of temporary files, certainly 10 % of the time \
                of active sessions or more",
        why: "What does not fit into work_mem is written to a file and read again.",
        source: SOURCE,
        alerts: &["PostgresTempFilesHeavy"],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(temporary),
    },
    &Rule {
        id: "waits.wal",
        formerly: &[],
        title: "Let commits wait less for WAL",
        severity: Severity::Warning,
        finds: "0.3 sessions or more are on average in writes and syncs of WAL or in locks on its buffers, certainly \
                20 % of the time of active sessions or more",
        why: "A commit returns once its WAL is on disk, and one session at a time writes it.",
        source: SOURCE,
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(wal),
    },
    &Rule {
        id: "waits.replica",
        formerly: &[],
        title: "Let commits wait less for standbys",
        severity: Severity::Warning,
        finds: "0.3 sessions or more are on average in the wait for a synchronous standby, certainly 20 % of the time \
                of active sessions or more",
        why: "With synchronous_standby_names a commit returns once a standby has it too.",
        source: SOURCE,
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(replica),
    },
    &Rule {
        id: "waits.lock",
        formerly: &[],
        title: "Hold locks for less time",
        severity: Severity::Warning,
        finds: "0.5 sessions or more are on average in waits for locks, certainly 20 % of the time of active sessions or \
                more",
        why: "They do nothing until another transaction ends.",
        source: SOURCE,
        alerts: &["PostgresSessionsBlocked", "PostgresLockWaitLong"],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(lock),
    },
    &Rule {
        id: "waits.client",
        formerly: &[],
        title: "Let clients keep up",
        severity: Severity::Info,
        finds: "0.5 sessions or more are on average active and wait for their client, certainly 30 % of the time of \
                active sessions or more",
        why: "The statement has rows that the client does not take, or waits for data that it does not send, and holds \
              its locks and its snapshot for as long.",
        source: SOURCE,
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(client),
    },
    &Rule {
        id: "waits.buffer_pin",
        formerly: &[],
        title: "Close what keeps pages pinned",
        severity: Severity::Info,
        finds: "0.1 sessions and background workers or more wait on average for others to let go of a page, certainly \
                5 % of their active time or more",
        why: "VACUUM and what cleans an index wait until nobody looks at the page: an open cursor can keep one for \
              hours.",
        source: "pg_stat_activity.wait_event_type (BufferPin, from 19 on Buffer:BufferCleanup), sampled",
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(buffer_pin),
    },
    &Rule {
        id: "waits.lwlock",
        formerly: &[],
        title: "Make sessions contend less in shared memory",
        severity: Severity::Warning,
        finds: "0.2 sessions or more are on average in the wait for light-weight locks of one purpose (by name; not \
                those of WAL), certainly 10 % of the time of active sessions or more",
        why: "These locks are held for microseconds; a queue for one says that too many sessions want the same at once, \
              and more sessions make it worse.",
        source: SOURCE,
        alerts: &[],
        part: Part::Waits,
        when: When::OnRequest,
        check: Check::Waits(lwlock),
    },
];

fn cpu(w: &SampledWaits) -> Verdict {
    let cpus = w.cpus?;
    let Some(found) = w.share(w.waits.iter(), |wait| wait.kind == CPU)? else { return none() };
    if found.range.0 * found.all <= cpus {
        return none();
    }
    let advice = format!(
        "The machine has {cpus:.0}. Look first at the statements that take most processor time; then at how many \
         sessions may be active at once: a pooler lets the others queue where that costs nothing. {WHICH}"
    );
    Some(vec![w.finding(&found, "active").figure("cpus", cpus, Unit::Count).advice(advice)])
}

fn read(w: &SampledWaits) -> Verdict {
    w.judge(0.3, 0.5, |wait| wait.is("IO", READS), |_| {
        format!(
            "Look first at the statements that read most (shared_blks_read of pg_stat_statements): an index, or fewer \
             rows. Then at shared_buffers and the memory that the operating system has left to cache files; then at \
             how long one read takes (read_time of pg_stat_io, with track_io_timing). {WHICH}"
        )
    })
}

fn write(w: &SampledWaits) -> Verdict {
    w.judge(0.2, 0.3, |wait| wait.is("IO", WRITES), |found| {
        let extends = found.events.first().is_some_and(|(name, _)| name.ends_with("Extend"));
        let first = if extends {
            "Most add blocks to files: load in fewer, larger statements (COPY), and look at how long the disk takes to \
             allocate."
        } else {
            "Let the background writer clean more buffers (bgwriter_lru_maxpages, bgwriter_delay) and checkpoints come \
             less often (max_wal_size); larger shared_buffers keep dirty blocks longer."
        };
        format!("{first} Fewer indexes on a table make each change write less. {WHICH}")
    })
}

fn temporary(w: &SampledWaits) -> Verdict {
    w.judge(0.1, 0.2, |wait| wait.is("IO", TEMPORARY), |_| {
        format!(
            "Give the role or the statement that spills more work_mem (SET LOCAL work_mem in its transaction), or an \
             index that has the order; log_temp_files names the statements. {WHICH}"
        )
    })
}

fn wal(w: &SampledWaits) -> Verdict {
    let is = |wait: &WaitedSeconds| wait.is("IO", WAL) || wait.is("LWLock", WAL_LOCKS);
    w.judge(0.2, 0.3, is, |_| {
        "Put several changes into one transaction: each commit waits for one sync. pg_wal on a disk of its own with a \
         fast sync (pg_test_fsync measures it) helps all; commit_delay lets busy servers sync for several at once; \
         synchronous_commit = off for roles or transactions that may lose their last moments in a crash, without \
         harm to others. Less WAL by fewer indexes, and by checkpoints that come less often (full page images)."
            .to_owned()
    })
}

fn replica(w: &SampledWaits) -> Verdict {
    w.judge(0.2, 0.3, |wait| wait.is("IPC", &["SyncRep"]), |_| {
        "Look at write_lag, flush_lag and replay_lag of pg_stat_replication: the network, the standby's disk, or its \
         replay. synchronous_commit = remote_write or local for roles or transactions that need less; several \
         candidates in synchronous_standby_names (ANY 1) let the fastest answer. Several changes in one transaction \
         wait once."
            .to_owned()
    })
}

/// What to do about the locks that most wait for.
const LOCKS: &[(&[&str], &str)] = &[
    (
        &["transactionid", "tuple"],
        "Most wait for rows that another transaction has changed: end transactions soon after their last change, and \
         do nothing slow between (no call to another service); change rows in one order everywhere; where workers \
         take jobs from a table, SELECT … FOR UPDATE SKIP LOCKED.",
    ),
    (
        &["relation"],
        "Most wait for a whole table: give DDL and LOCK TABLE a lock_timeout and try again, so that nobody queues \
         behind them; idle_in_transaction_session_timeout ends the sessions that they wait for.",
    ),
    (
        &["advisory", "userlock"],
        "Most wait for advisory locks, which the application takes itself: hold them for less, or try with \
         pg_try_advisory_lock and do something else meanwhile.",
    ),
    (
        &["extend"],
        "Most wait to add blocks to one table or index: write in fewer, larger statements (COPY), or to several \
         partitions.",
    ),
    (
        &["virtualxid"],
        "Most wait for the end of transactions that are older, as CREATE INDEX CONCURRENTLY does: end long ones.",
    ),
    (
        &["spectoken"],
        "Most wait for inserts of the same key by others (INSERT … ON CONFLICT): let one session have a key.",
    ),
];

fn lock(w: &SampledWaits) -> Verdict {
    w.judge(0.2, 0.5, |wait| wait.kind == "Lock", |found| {
        let first = found.events.first().and_then(|(name, _)| name.strip_prefix("Lock:"));
        let known = LOCKS.iter().find(|(names, _)| first.is_some_and(|n| names.contains(&n)));
        let known = known.map(|(_, advice)| format!("{advice} ")).unwrap_or_default();
        format!(
            "{known}Who holds up whom: pg_root_blocker_sessions, and the tree on the exporter's page. log_lock_waits \
             logs each that takes longer than deadlock_timeout. {WHICH}"
        )
    })
}

fn client(w: &SampledWaits) -> Verdict {
    w.judge(0.3, 0.5, |wait| wait.kind == "Client", |found| {
        let reads = found.events.first().is_some_and(|(name, _)| name.ends_with("Read"));
        let first = if reads {
            "Most wait for data that the client sends (COPY FROM STDIN, or a pipeline that it does not end): look at \
             what feeds it."
        } else {
            "Most wait for the client to take rows: ask for fewer rows and columns, fetch in larger portions, work on \
             them after they are all there, and look at the network between."
        };
        format!("{first} {WHICH}")
    })
}

fn buffer_pin(w: &SampledWaits) -> Verdict {
    let is =
        |wait: &WaitedSeconds| wait.kind == "BufferPin" || wait.is("Buffer", &["BufferCleanup"]);
    let Some(found) = w.share(w.waits.iter().chain(&w.workers), is)? else { return none() };
    if found.range.0 < 0.05 || found.sessions < 0.1 {
        return none();
    }
    let advice = "Look for cursors that stay open and sessions idle in a transaction (pg_stat_activity, oldest xact_start \
                  first) and end them; idle_in_transaction_session_timeout does it from then on. On a standby it is \
                  replay that waits: max_standby_streaming_delay says for how long.";
    Some(vec![w.finding(&found, "active").advice(advice)])
}

fn lwlock(w: &SampledWaits) -> Verdict {
    // Without any, too, there may be too few samples.
    w.share(w.waits.iter(), |_| false)?;
    let mut all = Vec::new();
    let waited = lwlocks::by_purpose(&w.waits);
    for (purpose, _) in
        waited.into_iter().filter(|(_, seconds)| seconds / w.span >= SESSIONS_IN_LWLOCK)
    {
        let is = |wait: &WaitedSeconds| lwlocks::purpose(wait).as_ref() == Some(&purpose);
        all.extend(w.judge(0.1, SESSIONS_IN_LWLOCK, is, |_| purpose.advice())?);
    }
    Some(all)
}
