//! What of the server and the machine bears on latencies, and how it differs from a baseline's.
//!
//! Must not: tell host names, addresses or anything about people.

use std::collections::BTreeMap;

use super::document::{BenchDocument, BenchedServer, Machine};
use crate::pg::{Bench, Query, Row, columns};

/// The version, and settings of the session that bear on plans and times.
const SETTINGS: &str = "\
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int4 AS version_num,
       pg_catalog.current_database()::text AS database,
       s.name::text AS name,
       pg_catalog.concat_ws(' x ', s.setting, s.unit) AS setting
  FROM pg_catalog.pg_settings s
 WHERE s.category LIKE 'Query Tuning%'
    OR s.name IN ('shared_buffers', 'work_mem', 'hash_mem_multiplier', 'temp_buffers', 'huge_pages',
                  'effective_io_concurrency', 'io_method', 'max_parallel_workers',
                  'max_worker_processes', 'shared_preload_libraries', 'track_io_timing',
                  'track_activities', 'pg_stat_statements.track',
                  'pg_stat_statements.track_planning', 'auto_explain.log_min_duration',
                  'auto_explain.log_analyze', 'synchronous_commit', 'fsync', 'debug_assertions',
                  'data_checksums', 'ssl', 'session_preload_libraries', 'log_min_duration_statement',
                  'log_statement', 'default_transaction_isolation')
 ORDER BY s.name";

columns! {
    struct SettingOfServer {
        version: String,
        version_num: i32,
        database: String,
        name: String,
        setting: String,
    }
}

/// Reads the server's facts.
///
/// # Errors
/// The query fails.
pub async fn server(session: &Bench) -> anyhow::Result<BenchedServer> {
    let mut server = BenchedServer::default();
    for row in Row::all::<SettingOfServer>(&session.rows(Query::new(SETTINGS)).await?)? {
        server.version = row.version;
        server.version_num = row.version_num;
        server.database = row.database;
        server.settings.insert(row.name, row.setting);
    }
    Ok(server)
}

fn line_after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.lines().find_map(|l| l.strip_prefix(word)?.split_once(':').map(|(_, value)| value.trim()))
}

/// The one-minute load average.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// This machine; where the server is another, it tells of the client's side alone.
pub fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes =
        line_after(&memory, "MemTotal").and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
    Machine {
        cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        cpu: line_after(&read("/proc/cpuinfo"), "model name").map(str::to_owned),
        memory_bytes: kilobytes.map(|kb| kb * 1024),
        kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned())
            .filter(|k| !k.is_empty()),
        load: None,
    }
}

/// What is not the same as for the baseline, in sentences.
pub fn differences(before: &BenchDocument, now: &BenchDocument) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differ = |what: &str, old: &str, new: &str| {
        if old != new {
            notes.push(format!("{what} was {old} for the baseline and is {new} now"));
        }
    };
    let cpu = |m: &Machine| format!("{} x {}", m.cpus, m.cpu.as_deref().unwrap_or("unknown"));
    let memory = |m: &Machine| {
        m.memory_bytes.map_or("unknown".to_owned(), |b| format!("{} MiB", b / 1024 / 1024))
    };
    differ("the server's version", &before.server.version, &now.server.version);
    differ("the database", &before.server.database, &now.server.database);
    differ("this machine's processor", &cpu(&before.machine), &cpu(&now.machine));
    differ("this machine's memory", &memory(&before.machine), &memory(&now.machine));
    differ("the connection", &before.run.connection, &now.run.connection);
    let number = |n: u64| n.to_string();
    differ(
        "the concurrency",
        &number(before.run.concurrency.into()),
        &number(now.run.concurrency.into()),
    );
    differ("the seed", &number(before.run.seed), &number(now.run.seed));
    let names: BTreeMap<&String, ()> =
        before.server.settings.keys().chain(now.server.settings.keys()).map(|n| (n, ())).collect();
    for name in names.into_keys() {
        let of =
            |d: &BenchDocument| d.server.settings.get(name).map_or("not there", |v| v).to_owned();
        differ(&format!("the setting {name}"), &of(before), &of(now));
    }
    for query in &before.queries {
        match now.queries.iter().find(|q| q.name == query.name) {
            None => notes.push(format!("{} is in the baseline and was not run now", query.name)),
            Some(same) if same.sql != query.sql => {
                notes.push(format!("{} has another text than in the baseline", query.name));
            }
            Some(_) => {}
        }
    }
    for query in &now.queries {
        if !before.queries.iter().any(|q| q.name == query.name) {
            notes.push(format!("{} is not in the baseline", query.name));
        }
    }
    notes
}
