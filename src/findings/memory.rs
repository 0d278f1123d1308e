//! Rules about what the machine's memory and processors allow.
//!
//! Must not: guess the machine's memory or processors; without them the rules that need them are
//! silent.

use super::facts::ServerFacts;
use super::server::{ENOUGH, MIB, alter, none, one};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{bytes, seconds, setting};

const GIB: f64 = 1_073_741_824.0;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "settings.shared_buffers",
        formerly: &["settings.recommended"],
        title: "Give shared_buffers a quarter of the memory",
        severity: Severity::Warning,
        finds: "shared_buffers under 15 % or over 40 % of the machine's memory, where that is 1 GB or more",
        why: "A quarter of the memory is where tuning begins: with less, blocks are read again and again; with more, \
              the system's own cache starves.",
        source: "pg_settings, host.memory of the configuration",
        alerts: &["PostgresCacheHitRatioLow"],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(shared_buffers),
    },
    &Rule {
        id: "settings.effective_cache_size",
        formerly: &["settings.recommended"],
        title: "Set effective_cache_size to what is cached",
        severity: Severity::Info,
        finds: "effective_cache_size under 50 % or over 90 % of the machine's memory",
        why: "The more the planner believes to be cached, the more it prefers indexes.",
        source: "pg_settings, host.memory of the configuration",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(effective_cache_size),
    },
    &Rule {
        id: "settings.maintenance_work_mem",
        formerly: &["settings.recommended"],
        title: "Give VACUUM and CREATE INDEX more memory",
        severity: Severity::Info,
        finds: "maintenance_work_mem under a 64th of the machine's memory and under 256 MB",
        why: "VACUUM scans all indexes once more each time its memory is full, and CREATE INDEX sorts on disk.",
        source: "pg_settings, host.memory of the configuration",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(maintenance_work_mem),
    },
    &Rule {
        id: "settings.work_mem",
        formerly: &["settings.recommended"],
        title: "Raise work_mem: statements spill to disk",
        severity: Severity::Warning,
        finds: "temporary files over 1 MB/s for 10 minutes or longer",
        why: "Sorts and hashes that do not fit into work_mem are written to disk and read again.",
        source: "pg_stat_database.temp_files, temp_bytes; pg_settings",
        alerts: &["PostgresTempFilesHeavy"],
        part: Part::Load,
        when: When::OnRequest,
        check: Check::Server(work_mem),
    },
    &Rule {
        id: "settings.parallel_workers",
        formerly: &["settings.recommended"],
        title: "Let parallel queries use the processors",
        severity: Severity::Info,
        finds: "max_parallel_workers under the number of processors, where there are more than 8",
        why: "Large queries leave processors idle.",
        source: "pg_settings, host.cpus of the configuration",
        alerts: &[],
        part: Part::Settings,
        when: When::OnRequest,
        check: Check::Server(parallel_workers),
    },
];

fn shared_buffers(s: &ServerFacts) -> Verdict {
    let (memory, now) = (s.memory?, s.number("shared_buffers")?);
    if memory < GIB || (0.15..=0.40).contains(&(now / memory)) {
        return none();
    }
    let wanted = setting(memory * 0.25);
    let finding = alter(s, "shared_buffers", &wanted, of_memory("shared_buffers", now, memory), "");
    one(finding.figure("now", now, Unit::Bytes).figure("memory", memory, Unit::Bytes))
}

fn of_memory(name: &str, now: f64, memory: f64) -> String {
    let share = now / memory * 100.0;
    format!("{name} is {}, {share:.0} % of {} of memory.", bytes(now), bytes(memory))
}

fn effective_cache_size(s: &ServerFacts) -> Verdict {
    let name = "effective_cache_size";
    let (memory, now) = (s.memory?, s.number(name)?);
    if memory < GIB || (0.5..=0.9).contains(&(now / memory)) {
        return none();
    }
    let advice = "It allocates nothing.";
    let finding = alter(s, name, &setting(memory * 0.75), of_memory(name, now, memory), advice);
    one(finding.figure("now", now, Unit::Bytes).figure("memory", memory, Unit::Bytes))
}

fn maintenance_work_mem(s: &ServerFacts) -> Verdict {
    let name = "maintenance_work_mem";
    let (memory, now) = (s.memory?, s.number(name)?);
    if memory < GIB || now >= (memory / 64.0).min(256.0 * MIB) {
        return none();
    }
    let workers = s.number("autovacuum_max_workers").unwrap_or(3.0);
    let evidence = format!("{name} is {} with {} of memory.", bytes(now), bytes(memory));
    // VACUUM uses no more than 1 GB before version 17.
    let value = setting((memory / 16.0).min(GIB));
    let advice = format!(
        "Each of {workers:.0} autovacuum workers may take as much, unless autovacuum_work_mem says \
         otherwise."
    );
    let finding = alter(s, name, &value, evidence, advice);
    one(finding.figure("now", now, Unit::Bytes).figure("memory", memory, Unit::Bytes))
}

fn work_mem(s: &ServerFacts) -> Verdict {
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
    let prose = |advice: String| {
        Finding::new(Subject::Setting("work_mem".to_owned()), evidence.clone()).advice(advice)
    };
    // A sort in memory needs about twice the room that it takes on disk.
    let wanted = mean * 2.0;
    let finding = match (s.memory, s.number("max_connections")) {
        (Some(memory), Some(clients)) => {
            let most = memory * 0.25 / clients.max(1.0);
            if wanted.min(most) <= now {
                prose(format!(
                    "{} would be needed, more than every one of {clients:.0} connections may safely have. \
                     Raise it for the role or transaction that spills, or fix its statements.",
                    bytes(wanted)
                ))
            } else {
                let advice = format!(
                    "Each sort or hash of each connection may take as much; {} is a quarter of the memory \
                     over max_connections.",
                    bytes(most)
                );
                alter(s, "work_mem", &setting(wanted.min(most)), evidence, advice)
            }
        }
        _ => prose(
            "Raise it for the role whose statements spill (ALTER ROLE ... SET work_mem); how far is safe \
             depends on the memory, which is not known (host.memory)."
                .to_owned(),
        ),
    };
    one(finding
        .figure("temporary", rate, Unit::BytesPerSecond)
        .figure("file", mean, Unit::Bytes)
        .figure("work_mem", now, Unit::Bytes))
}

fn parallel_workers(s: &ServerFacts) -> Verdict {
    let (cpus, now) = (s.cpus?, s.number("max_parallel_workers")?);
    let processes = s.number("max_worker_processes")?;
    if cpus <= 8.0 || now.min(processes) >= cpus {
        return none();
    }
    let evidence = format!(
        "max_parallel_workers is {now:.0} and max_worker_processes {processes:.0} on {cpus:.0} \
         processors."
    );
    let value = format!("{cpus:.0}");
    let finding = if processes < cpus {
        let advice = "max_parallel_workers follows, in a second step.";
        alter(s, "max_worker_processes", &value, evidence, advice)
    } else {
        alter(s, "max_parallel_workers", &value, evidence, "")
    };
    one(finding.figure("workers", now, Unit::Count).figure("processors", cpus, Unit::Count))
}
