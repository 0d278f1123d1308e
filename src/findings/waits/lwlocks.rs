//! Light-weight locks by what they are for, and what to do where sessions queue for them.
//!
//! Must not: repeat what the rule about WAL says.

use std::collections::BTreeMap;

use super::{WAL_LOCKS, WaitedSeconds};
use crate::remedy::text::printable;

/// Names as PostgreSQL 13 to 19 have them; what 19 moved to the type `Buffer` is there.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["BufferMapping"],
        "The table of what is in shared_buffers: blocks are read and replaced all the time. Fewer blocks by better \
         indexes, larger shared_buffers, and large scans on a standby.",
    ),
    (
        &["BufferContent", "BufferShared", "BufferExclusive", "BufferShareExclusive"],
        "The same page is changed by many at once: the last page of an index on a rising key (a hash partitioned table, \
         or a key that is spread), a row that counts for all (several rows that are added up), or a small table that is \
         updated all the time (a lower fillfactor).",
    ),
    (
        &["LockManager", "LockFastPath"],
        "The table of locks: statements lock more relations than a session keeps for itself (16 before PostgreSQL 18, \
         from then on max_locks_per_transaction). Let statements name the partition key, so that fewer partitions are \
         locked; drop unused indexes, each of which is locked too; prepare statements; let fewer sessions be active.",
    ),
    (
        &["ProcArray"],
        "Who takes a snapshot and who ends a transaction meet here: fewer sessions that are active at once (a pooler), \
         fewer and larger transactions.",
    ),
    (
        &["XidGen"],
        "Transaction ids are given out one at a time: put several changes into one transaction, and use no savepoint or \
         exception block for each row.",
    ),
    (
        &["SubtransSLRU", "SubtransBuffer"],
        "Subtransactions: over 64 of them in one transaction (savepoints, PL/pgSQL's exception blocks), or a long \
         transaction beside, make everybody look them up. Use fewer; from PostgreSQL 17 on subtransaction_buffers.",
    ),
    (
        &[
            "MultiXactGen",
            "MultiXactOffsetSLRU",
            "MultiXactOffsetBuffer",
            "MultiXactMemberSLRU",
            "MultiXactMemberBuffer",
            "MultiXactTruncation",
        ],
        "Rows that several transactions lock at once: foreign keys to a few rows that are much used, and SELECT … FOR \
         SHARE. Fewer and shorter transactions on them; from PostgreSQL 17 on multixact_member_buffers.",
    ),
    (
        &["XactSLRU", "XactBuffer", "XactTruncation", "CommitTs", "CommitTsSLRU", "CommitTsBuffer"],
        "Whether transactions committed is looked up for rows that nobody has looked at since: VACUUM soon after large \
         changes; from PostgreSQL 17 on transaction_buffers.",
    ),
    (
        &[
            "PredicateLockManager",
            "SerializableXactHash",
            "SerializableFinishedList",
            "SerializablePredicateList",
            "PerXactPredicateList",
            "SerialSLRU",
            "SerialBuffer",
            "SerialControl",
        ],
        "The bookkeeping of serializable transactions: declare READ ONLY what only reads, keep them short, and let \
         fewer be active at once.",
    ),
    (
        &["SInvalRead", "SInvalWrite", "RelCacheInit", "RelationMapping"],
        "Changes of the catalog, which every session takes note of: create and drop fewer temporary tables (keep them, \
         and TRUNCATE or ON COMMIT DELETE ROWS).",
    ),
    (
        &["NotifyQueue", "NotifyQueueTail", "NotifySLRU", "NotifyBuffer", "NotifyChannelHash"],
        "LISTEN and NOTIFY: notify once a transaction or less, and end the transactions of those who listen.",
    ),
    (
        &["pg_stat_statements"],
        "pg_stat_statements adds statements that it does not know and evicts others: let applications send parameters \
         instead of constants, or raise pg_stat_statements.max.",
    ),
    (
        &["OidGen"],
        "Object identifiers are given out one at a time: fewer large objects and fewer new TOAST values at once.",
    ),
    (
        &[
            "ReplicationSlotControl",
            "ReplicationSlotAllocation",
            "ReplicationOrigin",
            "ReplicationOriginState",
        ],
        "Slots and origins of replication: create and drop fewer, and look at who asks for their state all the time.",
    ),
    (
        &["AioWorkerSubmissionQueue", "AioUringCompletion", "AioWorkerControl"],
        "Reads queue for the workers of asynchronous I/O: raise io_workers, or use io_method = io_uring.",
    ),
    (
        &[
            "ParallelHashJoin",
            "ParallelAppend",
            "ParallelBtreeScan",
            "ParallelQueryDSA",
            "PerSessionDSA",
            "SharedTidBitmap",
            "SharedTupleStore",
        ],
        "Workers of one parallel query wait for each other: fewer of them (max_parallel_workers_per_gather).",
    ),
];

/// What locks are for: one of the known, or the name of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LwLockPurpose {
    Known(usize),
    Named(String),
}

impl LwLockPurpose {
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Known(place) => KNOWN.get(*place).map_or("", |(_, advice)| *advice).to_owned(),
            Self::Named(name) => format!(
                "The manual's table of wait events says what {} protects; fewer sessions that are active at once queue \
                 less for it.",
                printable(name)
            ),
        }
    }
}

/// What a wait is for; `None` for another wait, and for locks of WAL.
pub(super) fn purpose(wait: &WaitedSeconds) -> Option<LwLockPurpose> {
    let wal = WAL_LOCKS.iter().any(|name| name.eq_ignore_ascii_case(&wait.event));
    let buffer = wait.kind == "Buffer" && wait.event != "BufferCleanup";
    if (wait.kind != "LWLock" && !buffer) || wal {
        return None;
    }
    let is = |(names, _): &(&[&str], &str)| {
        names.iter().any(|name| name.eq_ignore_ascii_case(&wait.event))
    };
    let known = KNOWN.iter().position(is).map(LwLockPurpose::Known);
    Some(known.unwrap_or_else(|| LwLockPurpose::Named(wait.event.clone())))
}

/// Seconds by what was waited for.
pub(super) fn by_purpose(waits: &[WaitedSeconds]) -> BTreeMap<LwLockPurpose, f64> {
    let mut all = BTreeMap::new();
    for wait in waits {
        if let Some(purpose) = purpose(wait) {
            *all.entry(purpose).or_insert(0.0) += wait.seconds;
        }
    }
    all
}
