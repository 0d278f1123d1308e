//! One fixture for each rule: facts at which it finds something, and a near miss.
//!
//! Must not: leave a rule out; a test counts them.

use super::*;
use crate::remedy::create::Make;

/// Facts of any kind.
#[allow(clippy::large_enum_variant, reason = "a few of them, in a test")]
pub(in crate::findings) enum Given {
    Server(ServerFacts),
    Database(DatabaseFacts),
    Waits(SampledWaits),
    Pooler(Pooler),
    Access(AccessFacts),
}

impl Given {
    fn facts(&self) -> Facts<'_> {
        match self {
            Self::Server(facts) => facts.into(),
            Self::Database(facts) => facts.into(),
            Self::Waits(facts) => facts.into(),
            Self::Pooler(facts) => facts.into(),
            Self::Access(facts) => facts.into(),
        }
    }
}

/// The id, facts at which the rule finds something, and facts at which it just does not.
type Fixture = (&'static str, Given, Given);

fn numbers(id: &'static str, name: &str, found: f64, quiet: f64) -> Fixture {
    let of = |value| {
        let mut s = defaults();
        set(&mut s, name, value);
        Given::Server(s)
    };
    (id, of(found), of(quiet))
}

fn switch(id: &'static str, name: &str) -> Fixture {
    let of = |value| {
        let mut s = defaults();
        s.settings.insert(name.to_owned(), Setting::Flag(value));
        Given::Server(s)
    };
    (id, of(false), of(true))
}

fn word(id: &'static str, name: &str, found: &str, quiet: &str) -> Fixture {
    let of = |value: &str| {
        let mut s = ServerFacts { has_statements: Some(true), ..defaults() };
        s.settings.insert(name.to_owned(), Setting::Text(value.to_owned()));
        Given::Server(s)
    };
    (id, of(found), of(quiet))
}

fn server(id: &'static str, found: ServerFacts, quiet: ServerFacts) -> Fixture {
    (id, Given::Server(found), Given::Server(quiet))
}

fn database<T>(
    id: &'static str,
    put: impl Fn(&mut DatabaseFacts, T),
    found: T,
    quiet: T,
) -> Fixture {
    let of = |what| {
        let mut d =
            DatabaseFacts { datname: "shop".to_owned(), span: 60.0, ..DatabaseFacts::default() };
        put(&mut d, what);
        Given::Database(d)
    };
    (id, of(found), of(quiet))
}

fn on_server() -> Vec<Fixture> {
    let absent = |names: &[&str]| ServerFacts {
        absent: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        ..defaults()
    };
    let role = |monitors| ServerFacts { monitors: Some(monitors), ..defaults() };
    let counted = |amount| Some(Counted { amount, span: HOUR });
    let forced = |requested| ServerFacts {
        checkpoints: Some(CheckpointCounts { timed: 6.0, requested, span: HOUR }),
        ..defaults()
    };
    let wal = |rate: f64| ServerFacts { wal: counted(rate * HOUR), ..defaults() };
    let spilled = |rate: f64| ServerFacts {
        temporary: Some(Temporary {
            files: 100.0,
            bytes: Counted { amount: rate * HOUR, span: HOUR },
        }),
        ..defaults()
    };
    let peak = |peak| ServerFacts {
        connections: Some(ConnectionPeak { peak, peak_active: 70.0 }),
        ..defaults()
    };
    let busy = |n| ServerFacts { autovacuum_workers: Some(n), ..defaults() };
    let evicted = |amount| ServerFacts { evictions: counted(amount), ..defaults() };
    let many = |cpus| ServerFacts { cpus: Some(cpus), ..defaults() };
    vec![
        server("database.reachable", absent(&["gone"]), absent(&[])),
        word(
            "settings.pg_stat_statements",
            "shared_preload_libraries",
            "pg_cron, pg_stat_statements_not",
            "pg_cron, \"$libdir/pg_stat_statements\"",
        ),
        word("settings.compute_query_id", "compute_query_id", "off", "auto"),
        switch("settings.track_activities", "track_activities"),
        numbers(
            "settings.track_activity_query_size",
            "track_activity_query_size",
            1_023.0,
            1_024.0,
        ),
        server("settings.role", role(false), role(true)),
        switch("settings.fsync", "full_page_writes"),
        switch("settings.autovacuum", "autovacuum"),
        switch("settings.track_counts", "track_counts"),
        switch("settings.track_io_timing", "track_io_timing"),
        numbers("settings.checkpoint_completion_target", "checkpoint_completion_target", 0.89, 0.9),
        numbers("settings.log_min_duration_statement", "log_min_duration_statement", -1.0, 0.0),
        numbers("settings.idle_in_transaction", "idle_in_transaction_session_timeout", 0.0, 0.001),
        numbers("settings.shared_buffers", "shared_buffers", 2.3 * GB, 2.5 * GB),
        numbers("settings.effective_cache_size", "effective_cache_size", 7.9 * GB, 8.0 * GB),
        numbers("settings.maintenance_work_mem", "maintenance_work_mem", 255.0 * MB, 256.0 * MB),
        server("settings.work_mem", spilled(1.1 * MB), spilled(MB)),
        server("settings.parallel_workers", many(9.0), many(8.0)),
        server("settings.max_wal_size", forced(3.0), forced(2.0)),
        server("settings.checkpoint_timeout", wal(1.1 * MB), wal(MB)),
        server("statements.max", evicted(1.0), evicted(0.0)),
        server("connections.pool", peak(80.0), peak(79.0)),
        server("vacuum.workers", busy(3.0), busy(2.0)),
    ]
}

fn on_indexes() -> Vec<Fixture> {
    let wanted = |lack| {
        vec![WantedIndex {
            table: table("t"),
            table_oid: Some(7),
            what: "t_a".to_owned(),
            unique: false,
            make: Make::Unknown,
            lack,
        }]
    };
    let index = |fault| FaultyIndex {
        table: table("t"),
        table_oid: 7,
        name: "i".to_owned(),
        oid: 1,
        constraint: false,
        cover: Some((2, "j".to_owned())),
        bytes: MB,
        scans: 3.0,
        partitioned: false,
        fault,
    };
    let fault = |id, fault, other| {
        let put = |d: &mut DatabaseFacts, i: FaultyIndex| d.indexes = Some(vec![i]);
        database(id, put, index(fault), index(other))
    };
    let duplicate = || IndexFault::Duplicate;
    let partial = |missing| {
        vec![Partial {
            table: table("t"),
            table_oid: 7,
            name: "i".to_owned(),
            oid: 1,
            leaves: 9,
            missing,
            first: vec!["public.t_1".to_owned()],
        }]
    };
    let key = KeyWithoutIndex {
        table: table("t"),
        table_oid: 7,
        name: "t_parent_fkey".to_owned(),
        columns: vec!["parent".to_owned()],
        rows: [1e6, 1e3],
        references: "public.parent".to_owned(),
    };
    let scanned = Scanned { table: table("t"), scans: [90.0, 10.0], rows_per_scan: 1e6, bytes: GB };
    let bloated = |share| {
        vec![Bloated {
            table: table("t"),
            name: "i".to_owned(),
            part: None,
            oid: 1,
            bytes: GB,
            share,
            measured: false,
        }]
    };
    let corrupt = Corrupt {
        table: table("t"),
        index: table("i"),
        oid: 1,
        exclusion: false,
        message: "item order invariant violated for index \"i\"".to_owned(),
    };
    vec![
        database(
            "index.missing",
            |d, w| d.wanted = Some(w),
            wanted(Some(Lack::Index)),
            wanted(None),
        ),
        fault("index.invalid", IndexFault::Invalid([false, true, true]), duplicate()),
        database("index.partition_coverage", |d, p| d.partial = Some(p), partial(1), partial(0)),
        fault("index.unused", IndexFault::Unused { since: 0.0, seconds: 9e6 }, duplicate()),
        fault("index.duplicate", duplicate(), IndexFault::Redundant { twin: true }),
        fault("index.redundant", IndexFault::Redundant { twin: true }, duplicate()),
        database("index.foreign_key", |d, k| d.keys = Some(k), vec![key], vec![]),
        database("index.sequential_scans", |d, s| d.scanned = Some(s), vec![scanned], vec![]),
        database("index.bloat", |d, b| d.bloated = Some(b), bloated(0.51), bloated(0.5)),
        database("index.corrupt", |d, c| d.corrupt = Some(c), vec![corrupt], vec![]),
    ]
}

fn on_partitions() -> Vec<Fixture> {
    const DAY: f64 = 86_400.0;
    let trades = || Partitioned {
        name: table("trades"),
        leaves: 30.0,
        runway: Some((7.0 * DAY, 7.0 * DAY)),
        covered: true,
        max_age: Some(90.0 * DAY),
        ..Partitioned::default()
    };
    let of = |id, found: Partitioned, quiet: Partitioned| {
        database(id, |d, t| d.partitioned = Some(vec![t]), found, quiet)
    };
    let expected = |lack| vec![ExpectedTable { name: Relation::new("public", "trades"), lack }];
    let gap = Some(Gap { from: Some(0.0), to: DAY });
    let open = |bounded| {
        let open_end = Some(OpenEnded { bounded: bounded * DAY, covered: true, rows: Some(0.0) });
        Partitioned { open_end, ..trades() }
    };
    let odd = Odd {
        table: table("trades"),
        what: "owner".to_owned(),
        usual: "app".to_owned(),
        leaves: 30.0,
        odd: 1.0,
        first: table("trades_1"),
        value: "bob".to_owned(),
    };
    let job = |refused| {
        let name = "maintain partitions".to_owned();
        vec![JobFacts { name, database: "shop".to_owned(), refused, started: Some(0.0) }]
    };
    let plan = |used| {
        let read = PartitionsRead {
            root: "public.trades".to_owned(),
            key: "RANGE (at)".to_owned(),
            used,
            leaves: 30,
        };
        vec![Planned { name: "one day".to_owned(), most: 2, reads: vec![read], off: None }]
    };
    vec![
        database(
            "partition.missing",
            |d, e| d.expected = Some(e),
            expected(Some("missing")),
            expected(None),
        ),
        of(
            "partition.runway",
            Partitioned { runway: Some((6.9 * DAY, 7.0 * DAY)), ..trades() },
            trades(),
        ),
        of("partition.gap", Partitioned { gap, ..trades() }, trades()),
        of(
            "partition.default_rows",
            Partitioned { default_rows: Some(1.0), ..trades() },
            Partitioned { default_rows: Some(0.0), ..trades() },
        ),
        of("partition.open_ended", open(6.9), open(7.0)),
        of(
            "partition.retention",
            Partitioned { retention_exceeded: Some(1.0), ..trades() },
            Partitioned { retention_exceeded: Some(0.0), ..trades() },
        ),
        database("partition.siblings", |d, o| d.odd = Some(o), vec![odd], vec![]),
        of(
            "partition.many",
            Partitioned { leaves: 1_001.0, ..trades() },
            Partitioned { leaves: 1_000.0, ..trades() },
        ),
        database("maintenance.standby", |d, j| d.jobs = Some(j), job(true), job(false)),
        database("partition.pruning", |d, p| d.plans = Some(p), plan(3), plan(2)),
    ]
}

fn on_tables() -> Vec<Fixture> {
    let overdue = |tables| {
        let leaf = Leaf { oid: 1, amount: 9e4, live: 1e5, ..Leaf::default() };
        Overdue { tables, times: 2.1, worst: vec![leaf; tables] }
    };
    let of = |id, put: fn(&mut TableFacts, Overdue)| {
        let table = |overdue| {
            let mut t = TableFacts { name: table("t"), rows: 1e5, ..TableFacts::default() };
            put(&mut t, overdue);
            t
        };
        let facts = |d: &mut DatabaseFacts, t: TableFacts| d.tables = Some(vec![t]);
        database(id, facts, table(overdue(1)), table(overdue(0)))
    };
    let aged = |xids| {
        let old = Age { name: table("t"), xids: (xids, 2e8), mxids: (0.0, 4e8) };
        Ages { tables: 1.0, oldest: xids, old: vec![old] }
    };
    let large = |scale_factor| {
        let rows = 1e7;
        vec![TableFacts {
            name: table("t"),
            rows,
            scale_factor,
            vacuum_at: 2e6,
            ..TableFacts::default()
        }]
    };
    let extension = |installed: &str| ExtensionFacts {
        name: "hstore".to_owned(),
        installed: installed.to_owned(),
        available: "1.8".to_owned(),
    };
    let not_valid =
        NotValid { of: table("t"), domain: false, kind: "CHECK", name: "t_check".to_owned() };
    let lost = |rows| {
        vec![Lost {
            child: table("t"),
            child_tree: false,
            parent: table("p"),
            parent_tree: false,
            key: "t_p_fkey".to_owned(),
            present: "f.p IS NOT NULL".to_owned(),
            matches: "p.id = f.p".to_owned(),
            rows,
            follow: vec![],
        }]
    };
    let grown = |per_day| {
        let tables = vec![growing(per_day, 90_000.0, None)];
        Growth { bytes: 365.0 * GB, tables }
    };
    vec![
        database(
            "extension.outdated",
            |d, e| d.extensions = Some(e),
            vec![extension("1.7")],
            vec![extension("1.8")],
        ),
        database("constraint.not_valid", |d, c| d.not_valid = Some(c), vec![not_valid], vec![]),
        database("constraint.foreign_key", |d, l| d.lost = Some(l), lost(1), lost(0)),
        of("statistics.age", |t, o| t.analyze = o),
        of("statistics.load", |t, o| t.loaded = o),
        of("vacuum.age", |t, o| t.vacuum = o),
        database("vacuum.wraparound", |d, a| d.ages = Some(a), aged(2.3e8), aged(2.2e8)),
        database("vacuum.scale_factor", |d, t| d.tables = Some(t), large(0.1), large(0.09)),
        database("storage.growth", |d, g| d.growth = Some(g), grown(GB), grown(0.9 * GB)),
    ]
}

fn on_statements() -> Vec<Fixture> {
    let bench = |held, unprepared| {
        let planned = Some(("trades".to_owned(), [held, 400.0]));
        vec![BenchFacts { name: "recent".to_owned(), unprepared, prepared: 1e-3, planned }]
    };
    let statement = |blocks, jit| {
        vec![StatementFacts {
            name: "1".to_owned(),
            calls: 60.0,
            execution: 10.0,
            rows: 60.0,
            blocks,
            aggregates: Some(true),
            jit: Some(jit),
            ..StatementFacts::default()
        }]
    };
    let benched = |d: &mut DatabaseFacts, b| d.benches = Some(b);
    let watched = |d: &mut DatabaseFacts, s| d.statements = Some(s);
    vec![
        database("statements.partitions", benched, bench(100.0, 1e-3), bench(99.0, 1e-3)),
        database("statements.prepare", benched, bench(1.0, 3e-3), bench(1.0, 1.9e-3)),
        database("statements.materialise", watched, statement(6e4, 0.0), statement(5.9e4, 0.0)),
        database("statements.jit", watched, statement(0.0, 2.1), statement(0.0, 2.0)),
    ]
}

/// All of them.
fn fixtures() -> Vec<Fixture> {
    let pooler = crate::findings::pooler::fixtures().into_iter();
    let pooler = pooler.map(|(id, found, quiet)| (id, Given::Pooler(found), Given::Pooler(quiet)));
    let waits = crate::findings::waits::fixtures().into_iter();
    let waits = waits.map(|(id, found, quiet)| (id, Given::Waits(found), Given::Waits(quiet)));
    let access = crate::findings::access::fixtures().into_iter();
    let access = access.map(|(id, found, quiet)| (id, Given::Access(found), Given::Access(quiet)));
    [on_server(), on_indexes(), on_partitions(), on_tables(), on_statements()]
        .into_iter()
        .flatten()
        .chain(pooler)
        .chain(waits)
        .chain(access)
        .collect()
}

#[test]
fn each_rule_has_one_fixture_that_it_finds_and_a_near_miss_that_it_does_not() {
    let fixtures = fixtures();
    let ids: BTreeSet<&str> = fixtures.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids.len(), fixtures.len(), "one fixture each");
    let rules: BTreeSet<&str> = all().map(|rule| rule.id).collect();
    assert_eq!(ids, rules, "a rule without a fixture, or a fixture without a rule");
    for (id, found, quiet) in &fixtures {
        let rule = rule(id).unwrap();
        let all = rule.judge(found.facts()).unwrap().unwrap_or_default();
        assert!(!all.is_empty(), "{id} finds its fixture");
        let near = rule.judge(quiet.facts()).unwrap();
        assert_eq!(near, Some(Vec::new()), "{id}: the near miss");
        for finding in &all {
            assert!(finding.severity <= rule.severity, "{id}");
            for text in [&finding.evidence, &finding.advice] {
                let whole = text.is_empty() || text.ends_with(['.', ';', '"']);
                assert!(whole && !text.contains("  ") && !text.contains('\n'), "{id}: {text}");
            }
            assert!(!finding.evidence.is_empty(), "{id}");
            let names: BTreeSet<&str> = finding.figures.iter().map(|f| f.name).collect();
            assert_eq!(names.len(), finding.figures.len(), "{id}: {:?}", finding.figures);
            assert!(finding.figures.iter().all(|f| !f.value.is_nan()), "{id}");
            // What is printed to be run names the database that it is for.
            if let (Some(Remedy::Sql(script)), Given::Database(_)) = (&finding.remedy, found) {
                assert_eq!(script.head.database, "shop", "{id}");
            }
        }
    }
}
