//! Rules about a server as a whole: memory, checkpoints, connections, what it records.
//!
//! Must not: guess the machine's memory or processors; without them the rules that need them are
//! silent.

use super::facts::Server;
use super::size::{bytes, seconds, setting};
use super::{Finding, Rule, Verdict, Weight};

const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;
/// Rates over less time than this are no evidence.
const ENOUGH: f64 = 600.0;

pub(super) static RULES: &[&Rule<Server>] = &[
    &Rule {
        id: "settings.fsync",
        title: "Switch fsync and full_page_writes on",
        weight: Weight::Critical,
        threshold: "either is off",
        source: "pg_settings",
        check: fsync,
    },
    &Rule {
        id: "settings.autovacuum",
        title: "Switch autovacuum on",
        weight: Weight::Critical,
        threshold: "autovacuum or track_counts is off",
        source: "pg_settings",
        check: autovacuum,
    },
    &Rule {
        id: "settings.shared_buffers",
        title: "Give shared_buffers a quarter of the memory",
        weight: Weight::Warning,
        threshold: "under 15 % or over 40 % of the machine's memory, where that is 1 GB or more",
        source: "pg_settings, host.memory of the configuration",
        check: shared_buffers,
    },
    &Rule {
        id: "settings.effective_cache_size",
        title: "Tell the planner how much is cached",
        weight: Weight::Info,
        threshold: "effective_cache_size under 50 % or over 90 % of the machine's memory",
        source: "pg_settings, host.memory of the configuration",
        check: effective_cache_size,
    },
    &Rule {
        id: "settings.maintenance_work_mem",
        title: "Give VACUUM and CREATE INDEX more memory",
        weight: Weight::Info,
        threshold: "under a 64th of the machine's memory and under 256 MB",
        source: "pg_settings, host.memory of the configuration",
        check: maintenance_work_mem,
    },
    &Rule {
        id: "settings.work_mem",
        title: "Raise work_mem: statements spill to disk",
        weight: Weight::Warning,
        threshold: "temporary files over 1 MB/s for 10 minutes or longer",
        source: "pg_stat_database.temp_files, temp_bytes; pg_settings",
        check: work_mem,
    },
    &Rule {
        id: "settings.parallel_workers",
        title: "Let parallel queries use the processors",
        weight: Weight::Info,
        threshold: "max_parallel_workers under the number of processors, where there are more than 8",
        source: "pg_settings, host.cpus of the configuration",
        check: parallel_workers,
    },
    &Rule {
        id: "settings.max_wal_size",
        title: "Raise max_wal_size: checkpoints are forced by WAL",
        weight: Weight::Warning,
        threshold: "over 30 % of at least 3 checkpoints in 10 minutes or longer were requested",
        source: "pg_stat_bgwriter or pg_stat_checkpointer, pg_current_wal_insert_lsn()",
        check: max_wal_size,
    },
    &Rule {
        id: "settings.checkpoint_timeout",
        title: "Space checkpoints out",
        weight: Weight::Info,
        threshold: "checkpoint_timeout of 5 minutes or less while over 1 MB/s of WAL are written",
        source: "pg_settings, pg_current_wal_insert_lsn()",
        check: checkpoint_timeout,
    },
    &Rule {
        id: "settings.checkpoint_completion_target",
        title: "Spread the writes of a checkpoint",
        weight: Weight::Info,
        threshold: "checkpoint_completion_target under 0.9",
        source: "pg_settings",
        check: checkpoint_completion_target,
    },
    &Rule {
        id: "settings.log_min_duration_statement",
        title: "Log slow statements",
        weight: Weight::Info,
        threshold: "log_min_duration_statement and log_min_duration_sample are -1",
        source: "pg_settings",
        check: log_min_duration_statement,
    },
    &Rule {
        id: "settings.track_io_timing",
        title: "Time reads and writes of blocks",
        weight: Weight::Info,
        threshold: "track_io_timing is off",
        source: "pg_settings",
        check: track_io_timing,
    },
    &Rule {
        id: "settings.idle_in_transaction",
        title: "End sessions that sit idle in a transaction",
        weight: Weight::Info,
        threshold: "idle_in_transaction_session_timeout is 0",
        source: "pg_settings",
        check: idle_in_transaction,
    },
    &Rule {
        id: "statements.max",
        title: "Raise pg_stat_statements.max: it evicts",
        weight: Weight::Warning,
        threshold: "any eviction while it was watched",
        source: "pg_stat_statements_info.dealloc",
        check: statements_max,
    },
    &Rule {
        id: "connections.pool",
        title: "Put a pooler in front",
        weight: Weight::Warning,
        threshold: "80 % of max_connections in use at the peak, or more than 20 connections a processor of \
                    which under a fifth were ever active at once",
        source: "pg_stat_activity, pg_settings, host.cpus of the configuration",
        check: pool,
    },
    &Rule {
        id: "vacuum.workers",
        title: "Let autovacuum keep up",
        weight: Weight::Warning,
        threshold: "all autovacuum_max_workers busy at once",
        source: "pg_stat_activity, pg_settings",
        check: autovacuum_workers,
    },
];

fn none() -> Verdict {
    Some(Vec::new())
}

fn one(evidence: String, remedy: impl Into<String>, sql: Option<String>) -> Verdict {
    Some(vec![Finding { object: None, evidence, remedy: remedy.into(), sql }])
}

fn alter(name: &str, value: &str) -> Option<String> {
    Some(format!("ALTER SYSTEM SET {name} = '{value}';"))
}

const RELOAD: &str = "A reload makes it effective: SELECT pg_reload_conf().";
const RESTART: &str = "It takes a restart.";

fn fsync(s: &Server) -> Verdict {
    let (fsync, pages) = (s.flag("fsync")?, s.flag("full_page_writes")?);
    let off = match (fsync, pages) {
        (true, true) => return none(),
        (false, _) => "fsync",
        (true, false) => "full_page_writes",
    };
    let remedy = format!("A crash of the machine can corrupt all data while it is off. {RELOAD}");
    one(format!("{off} is off."), remedy, alter(off, "on"))
}

fn autovacuum(s: &Server) -> Verdict {
    let off = match (s.flag("autovacuum")?, s.flag("track_counts")?) {
        (true, true) => return none(),
        (false, _) => "autovacuum",
        (true, false) => "track_counts",
    };
    let remedy = format!("Tables bloat and statistics age until it is on. {RELOAD}");
    one(format!("{off} is off."), remedy, alter(off, "on"))
}

fn shared_buffers(s: &Server) -> Verdict {
    let (memory, now) = (s.memory?, s.number("shared_buffers")?);
    if memory < GIB || (0.15..=0.40).contains(&(now / memory)) {
        return none();
    }
    let evidence = format!(
        "shared_buffers is {}, {:.0} % of {} of memory.",
        bytes(now),
        now / memory * 100.0,
        bytes(memory)
    );
    let remedy = format!("A quarter of the memory is where tuning begins. {RESTART}");
    one(evidence, remedy, alter("shared_buffers", &setting(memory * 0.25)))
}

fn effective_cache_size(s: &Server) -> Verdict {
    let (memory, now) = (s.memory?, s.number("effective_cache_size")?);
    if memory < GIB || (0.5..=0.9).contains(&(now / memory)) {
        return none();
    }
    let evidence = format!(
        "effective_cache_size is {}, {:.0} % of {} of memory.",
        bytes(now),
        now / memory * 100.0,
        bytes(memory)
    );
    let remedy = format!("It allocates nothing; it makes the planner trust indexes. {RELOAD}");
    one(evidence, remedy, alter("effective_cache_size", &setting(memory * 0.75)))
}

fn maintenance_work_mem(s: &Server) -> Verdict {
    let (memory, now) = (s.memory?, s.number("maintenance_work_mem")?);
    if memory < GIB || now >= (memory / 64.0).min(256.0 * MIB) {
        return none();
    }
    let workers = s.number("autovacuum_max_workers").unwrap_or(3.0);
    let evidence =
        format!("maintenance_work_mem is {} with {} of memory.", bytes(now), bytes(memory));
    // VACUUM uses no more than 1 GB before version 17.
    let value = setting((memory / 16.0).min(GIB));
    let remedy = format!(
        "Each of {workers:.0} autovacuum workers may take as much, unless autovacuum_work_mem says \
         otherwise. {RELOAD}"
    );
    one(evidence, remedy, alter("maintenance_work_mem", &value))
}

fn work_mem(s: &Server) -> Verdict {
    let (t, now) = (s.temporary?, s.number("work_mem")?);
    if t.bytes.span < ENOUGH {
        return None;
    }
    let (files, rate) = (t.files, t.bytes.rate());
    if rate <= MIB || files <= 0.0 {
        return none();
    }
    let mean = t.bytes.amount / files;
    let evidence = format!(
        "{files:.0} temporary files of {} each on average in {}, {}/s; work_mem is {}.",
        bytes(mean),
        seconds(t.bytes.span),
        bytes(rate),
        bytes(now)
    );
    // A sort in memory needs about twice the room that it takes on disk.
    let wanted = mean * 2.0;
    let (Some(memory), Some(clients)) = (s.memory, s.number("max_connections")) else {
        let remedy = "Raise it for the role whose statements spill (ALTER ROLE ... SET work_mem); how \
                      far is safe depends on the memory, which is not known (host.memory).";
        return one(evidence, remedy, None);
    };
    let most = memory * 0.25 / clients.max(1.0);
    if wanted.min(most) <= now {
        let remedy = format!(
            "{} would be needed, more than every one of {clients:.0} connections may safely have. Raise \
             it for the role or transaction that spills, or mend its statements.",
            bytes(wanted)
        );
        return one(evidence, remedy, None);
    }
    let remedy = format!(
        "Each sort or hash of each connection may take as much; {} is a quarter of the memory over \
         max_connections. {RELOAD}",
        bytes(most)
    );
    one(evidence, remedy, alter("work_mem", &setting(wanted.min(most))))
}

fn parallel_workers(s: &Server) -> Verdict {
    let (cpus, now) = (s.cpus?, s.number("max_parallel_workers")?);
    let processes = s.number("max_worker_processes")?;
    if cpus <= 8.0 || now.min(processes) >= cpus {
        return none();
    }
    let evidence = format!(
        "max_parallel_workers is {now:.0} and max_worker_processes {processes:.0} on {cpus:.0} \
         processors."
    );
    let name = if processes < cpus { "max_worker_processes" } else { "max_parallel_workers" };
    let remedy = if processes < cpus {
        format!("max_parallel_workers follows, in a second step. {RESTART}")
    } else {
        RELOAD.to_owned()
    };
    one(evidence, remedy, alter(name, &format!("{cpus:.0}")))
}

fn max_wal_size(s: &Server) -> Verdict {
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
    let remedy = format!(
        "That much WAL may lie on disk, and recovery after a crash replays it; CHECKPOINT by command \
         counts as requested too. {RELOAD}"
    );
    one(evidence, remedy, alter("max_wal_size", &format!("{gigabytes:.0}GB")))
}

fn checkpoint_timeout(s: &Server) -> Verdict {
    let (wal, now) = (s.wal?, s.number("checkpoint_timeout")?);
    if wal.span < ENOUGH {
        return None;
    }
    if now > 300.0 || wal.rate() <= MIB {
        return none();
    }
    let evidence =
        format!("checkpoint_timeout is {}, at {}/s of WAL.", seconds(now), bytes(wal.rate()));
    let remedy = format!(
        "Each checkpoint makes the first change of every page write it whole into WAL; fewer \
         checkpoints, less WAL, and a longer recovery after a crash. {RELOAD}"
    );
    one(evidence, remedy, alter("checkpoint_timeout", "15min"))
}

fn checkpoint_completion_target(s: &Server) -> Verdict {
    let now = s.number("checkpoint_completion_target")?;
    if now >= 0.9 {
        return none();
    }
    let evidence = format!("checkpoint_completion_target is {now}.");
    one(evidence, RELOAD, alter("checkpoint_completion_target", "0.9"))
}

fn log_min_duration_statement(s: &Server) -> Verdict {
    let statement = s.number("log_min_duration_statement")?;
    let sample = s.number("log_min_duration_sample")?;
    if statement >= 0.0 || sample >= 0.0 {
        return none();
    }
    let milliseconds = (s.latency_objective.unwrap_or(0.05) * 2_000.0).max(1.0);
    let evidence = "No statement is logged for its duration, however long.".to_owned();
    let remedy = format!("Twice the latency objective; texts in the log may hold data. {RELOAD}");
    one(evidence, remedy, alter("log_min_duration_statement", &format!("{milliseconds:.0}ms")))
}

fn track_io_timing(s: &Server) -> Verdict {
    if s.flag("track_io_timing")? {
        return none();
    }
    let remedy = format!(
        "Then EXPLAIN and pg_stat_statements tell waits for the disk from work. Run pg_test_timing \
         first: a clock that takes long to read makes it dear. {RELOAD}"
    );
    one("track_io_timing is off.".to_owned(), remedy, alter("track_io_timing", "on"))
}

fn idle_in_transaction(s: &Server) -> Verdict {
    if s.number("idle_in_transaction_session_timeout")? != 0.0 {
        return none();
    }
    let remedy = format!(
        "A client that forgot to COMMIT holds its locks and keeps VACUUM from removing rows. {RELOAD}"
    );
    let evidence = "idle_in_transaction_session_timeout is 0: no end.".to_owned();
    one(evidence, remedy, alter("idle_in_transaction_session_timeout", "10min"))
}

fn statements_max(s: &Server) -> Verdict {
    let (evictions, now) = (s.evictions?, s.number("pg_stat_statements.max")?);
    if evictions.amount <= 0.0 {
        return none();
    }
    let evidence = format!(
        "{:.0} evictions in {}; pg_stat_statements.max is {now:.0}.",
        evictions.amount,
        seconds(evictions.span)
    );
    let remedy = format!(
        "Calls of evicted statements are lost to all percentiles. If texts are made of values, bind them \
         instead. {RESTART}"
    );
    one(evidence, remedy, alter("pg_stat_statements.max", &format!("{:.0}", now * 2.0)))
}

fn pool(s: &Server) -> Verdict {
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
    let remedy = format!(
        "PgBouncer with pool_mode = transaction and default_pool_size = {size:.0} (half as much again as \
         were active at the peak) serves the same clients with fewer backends; clients that prepare \
         statements need PgBouncer 1.21 and max_prepared_statements."
    );
    one(evidence, remedy, None)
}

fn autovacuum_workers(s: &Server) -> Verdict {
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
    let remedy = format!(
        "They share a cost limit of {limit:.0}: more of it makes each faster, more workers alone make each \
         slower. {RELOAD}"
    );
    let wanted = format!("{:.0}", (limit * 2.0).min(10_000.0));
    one(evidence, remedy, alter("autovacuum_vacuum_cost_limit", &wanted))
}
