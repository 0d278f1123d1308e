//! What is fuzzed: everything that reads text or bytes of others. Each entry takes any bytes; a panic, a hang or
//! memory without bound is a fault. `fuzz/` drives them with libFuzzer, `tests/fuzz_corpus.rs` with the corpora.
//!
//! Must not: be called by the program.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::cmd::{bench, known};
use crate::collector::Collector;
use crate::collectors::pgbouncer::{PgBouncer, Rows, State};
use crate::config::{Config, Endpoint, Flags, Surroundings, passfile, web_file};
use crate::derive::partition::tree::Strategy;
use crate::derive::partition::{
    Bound, Child, Level, PartitionKey, assess, coverage, fixed_zone, keys_remaining, settle, slices,
};
use crate::metric::Sink;
use crate::pg::ConsoleTable;
use crate::pg::framing::{Framing, Limits};
use crate::render;

/// Takes any bytes.
pub type FuzzEntry = fn(&[u8]);

/// Name and entry; `fuzz/fuzz_targets` and `fuzz/corpus` have the same names.
pub const TARGETS: &[(&str, FuzzEntry)] = &[
    ("accept", accept),
    ("bench_file", bench_file),
    ("bounds", bounds),
    ("certificate", certificate),
    ("config", config),
    ("dsn", dsn),
    ("expressions", expressions),
    ("framing", framing),
    ("passfile", pass),
    ("pgbouncer", pgbouncer),
    ("queries", queries),
    ("service", service),
    ("web_file", web),
];

/// Runs one target.
///
/// # Panics
/// On a fault that was found, and for a name that no target has.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(n, _)| *n == name);
    let (_, entry) = target.unwrap_or_else(|| panic!("no target {name}"));
    entry(data);
}

fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        // What comes before the fault is as good a text.
        Err(e) => data.get(..e.valid_up_to()).map_or("", |d| std::str::from_utf8(d).unwrap_or("")),
    }
}

/// A certificate in DER, as whoever connects sends it before anything of it was verified.
fn certificate(data: &[u8]) {
    let names = crate::certificate::alternative_names(data);
    assert!(names.len() <= data.len());
    let _ = crate::certificate::not_after(data);
}

/// The file of `--web.config.file`.
fn web(data: &[u8]) {
    if let Err(e) = web_file::parse(Path::new("/etc/web.yml"), text(data)) {
        assert!(e.place.starts_with("/etc/web.yml"), "{e}");
    }
}

/// The file of `--extend.query-path`.
fn queries(data: &[u8]) {
    let (queries, file) = crate::config::table::queries_of("/etc/queries.yaml", text(data));
    assert!(queries.iter().filter(|query| query.fault.is_some()).count() <= file.faults.len());
    assert!(file.faults.iter().all(|fault| fault.starts_with("/etc/queries.yaml")), "{file:?}");
}

/// Headers of a request, one a line.
fn accept(data: &[u8]) {
    let choice = render::choose(text(data).lines());
    assert!(!choice.content_type.is_empty());
}

/// The file of `bench`.
fn bench_file(data: &[u8]) {
    let text = text(data);
    match bench::parse("queries.sql", text) {
        Ok(queries) => assert!(queries.iter().all(|q| !q.name.is_empty() && !q.sql.is_empty())),
        Err(e) => assert!(e.to_string().len() < 4096, "a message of {}", e.to_string().len()),
    }
}

/// Bounds of the partitions of one table, one a line, after a line with its key's type and how it is partitioned.
fn bounds(data: &[u8]) {
    let mut lines = text(data).lines();
    let mut head = lines.next().unwrap_or_default().split(' ');
    let key = PartitionKey::of(head.next().unwrap_or_default());
    let strategy = head.next().and_then(Strategy::from_code).unwrap_or(Strategy::Range);
    let zone = head.next().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let child = |(n, line): (usize, &str)| Child {
        id: i64::try_from(n).unwrap_or(0),
        bound: Bound::parse(line),
        level: None,
        pages: 1,
        rows: None,
    };
    let children = lines.take(1000).enumerate().map(child).collect();
    let level = Level { strategy, keys: [key].into(), column: None, zone: None, children };
    let mut levels = vec![level];
    settle(&mut levels, 0, None);
    let now = 1_700_000_000_000_000;
    let outlook = assess(&levels, 0, now, &zone);
    if let Ok(runway) = &outlook.runway {
        assert!(!runway.seconds(now).is_nan());
    }
    let _ = (coverage(&levels, 0, now, &zone), slices(&levels, 0, &zone));
    let _ = keys_remaining(&mut levels, 0, 7);
}

/// The text of `pg_partitioned_table.partexprs`.
fn expressions(data: &[u8]) {
    let text = text(data);
    if let Some(zone) = fixed_zone(text) {
        assert!(zone.len() <= text.len());
    }
}

/// A process without a home, with files of its own.
#[derive(Default)]
struct World<'a> {
    env: HashMap<&'static str, &'a str>,
    files: HashMap<PathBuf, &'a str>,
}

impl Surroundings for World<'_> {
    fn names(&self) -> Vec<String> {
        self.env.keys().map(|name| (*name).to_owned()).collect()
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).filter(|v| !v.is_empty()).map(|v| (*v).to_owned())
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        let text = self.files.get(path);
        text.map(|t| (*t).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn account(&self) -> Option<(String, PathBuf)> {
        Some(("user".to_owned(), PathBuf::from("/nowhere")))
    }
}

fn resolve(world: &World<'_>, config: Option<&str>) {
    let mut flags = Flags::default();
    flags.set_config_file(config.map(PathBuf::from));
    match Config::resolve(&flags, world, &known()) {
        Ok(config) => assert!(!config.connect().describe().contains('\n')),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// `pgrunway.yml`.
fn config(data: &[u8]) {
    let path = "/pgrunway.yml";
    let files = HashMap::from([(PathBuf::from(path), text(data))]);
    resolve(&World { files, ..World::default() }, Some(path));
}

/// A connection string.
fn dsn(data: &[u8]) {
    let env = HashMap::from([("DATA_SOURCE_NAME", text(data))]);
    resolve(&World { env, ..World::default() }, None);
}

/// `pg_service.conf`.
fn service(data: &[u8]) {
    let path = "/service.conf";
    let env = HashMap::from([("PGSERVICE", "shop"), ("PGSERVICEFILE", path)]);
    let files = HashMap::from([(PathBuf::from(path), text(data))]);
    resolve(&World { env, files }, None);
}

/// What a server sends, after a byte for whether TLS was asked for and one for the size of the pieces that arrive.
/// What is refused does not depend on how the bytes are cut.
fn framing(data: &[u8]) {
    let [tls, size, sent @ ..] = data else { return };
    let limits = Limits { row: 4096, answer: 65_536, types: |oid| oid < 16_384 };
    let taken = |size: usize| {
        let mut framing = Framing::new(limits, tls % 2 == 1);
        sent.chunks(size).try_for_each(|piece| framing.take(piece))
    };
    assert_eq!(taken(usize::from(*size) + 1), taken(sent.len().max(1)));
}

/// `.pgpass`.
fn pass(data: &[u8]) {
    let text = text(data);
    for endpoint in [
        Endpoint::Tcp { host: "db".to_owned(), port: 5432 },
        Endpoint::Unix { directory: PathBuf::from("/run/a:b"), port: 5433 },
    ] {
        if let Some(password) = passfile::lookup(text, &endpoint, "shop", "mon") {
            assert!(!password.expose().is_empty() && password.expose().len() <= text.len());
        }
    }
}

/// Tables of PgBouncer's console, a blank line between two; columns by `|`, `~` for NULL. A form feed ends what
/// one poll was shown.
fn pgbouncer(data: &[u8]) {
    let table = |text: &str| {
        let mut lines = text.lines();
        let cells = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
        let columns = cells(lines.next().unwrap_or_default());
        // The protocol gives each row as many values as there are columns.
        let row = |line: &str| {
            let mut row: Vec<Option<String>> =
                cells(line).into_iter().map(|c| (c != "~").then_some(c)).collect();
            row.resize(columns.len(), None);
            row
        };
        let rows = lines.map(row).collect();
        ConsoleTable { columns, rows }
    };
    let mut state = State::default();
    for (n, poll) in text(data).split('\x0c').take(8).enumerate() {
        let mut tables = poll.split("\n\n").map(table);
        let mut next = || tables.next().unwrap_or_default();
        let rows = Rows {
            at: 5.0 * n as f64,
            pools: next(),
            databases: next(),
            totals: next(),
            lists: next(),
            config: next(),
            users: next(),
            longest_wait: 1.0,
        };
        let mut sink = Sink::new(PgBouncer::METRICS, 1000);
        PgBouncer.derive(&mut state, rows, &mut sink);
        let _ = sink.finish();
    }
}
