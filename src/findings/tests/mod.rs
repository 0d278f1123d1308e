//! Each rule against facts at, under and over its threshold.

mod fixtures;

use std::collections::BTreeSet;

use super::*;

const GB: f64 = 1_073_741_824.0;
const MB: f64 = 1_048_576.0;
const HOUR: f64 = 3_600.0;

fn table(name: &str) -> Relation {
    Relation::new("public", name)
}

fn counted(amount: f64) -> Counted {
    Counted { amount, span: HOUR }
}

fn set(server: &mut ServerFacts, name: &str, value: f64) {
    server.settings.insert(name.to_owned(), Setting::Number(value));
}

/// PostgreSQL's defaults on the report's machine of 16 GB, where nothing happens.
fn defaults() -> ServerFacts {
    let mut s = ServerFacts {
        memory: Some(16.0 * GB),
        cpus: Some(8.0),
        checkpoints: Some(CheckpointCounts { timed: 12.0, requested: 0.0, span: HOUR }),
        wal: Some(counted(0.0)),
        temporary: Some(Temporary { files: 0.0, bytes: counted(0.0) }),
        evictions: Some(counted(0.0)),
        connections: Some(ConnectionPeak { peak: 10.0, peak_active: 5.0 }),
        autovacuum_workers: Some(1.0),
        latency_objective: Some(0.05),
        ..ServerFacts::default()
    };
    for (name, value) in [
        ("shared_buffers", 128.0 * MB),
        ("effective_cache_size", 4.0 * GB),
        ("maintenance_work_mem", 64.0 * MB),
        ("work_mem", 4.0 * MB),
        ("max_connections", 100.0),
        ("max_parallel_workers", 8.0),
        ("max_worker_processes", 8.0),
        ("max_wal_size", GB),
        ("checkpoint_timeout", 300.0),
        ("checkpoint_completion_target", 0.9),
        ("log_min_duration_statement", -1.0),
        ("log_min_duration_sample", -1.0),
        ("idle_in_transaction_session_timeout", 0.0),
        ("pg_stat_statements.max", 5_000.0),
        ("autovacuum_max_workers", 3.0),
        ("autovacuum_vacuum_cost_limit", -1.0),
        ("vacuum_cost_limit", 200.0),
    ] {
        set(&mut s, name, value);
    }
    for name in ["fsync", "full_page_writes", "autovacuum", "track_counts", "track_io_timing"] {
        s.settings.insert(name.to_owned(), Setting::Flag(name != "track_io_timing"));
    }
    s
}

pub(super) fn verdict<'a>(facts: impl Into<Facts<'a>>, id: &str) -> Verdict {
    let rule = rule(id).unwrap_or_else(|| panic!("no rule {id}"));
    assert_eq!(rule.id, id, "a former id");
    rule.judge(facts.into()).unwrap_or_else(|| panic!("{id} is about something else"))
}

/// The statements of the only finding, without the reload.
fn sql<'a>(facts: impl Into<Facts<'a>>, id: &str) -> Option<String> {
    let Remedy::Sql(script) = verdict(facts, id).unwrap().pop()?.remedy? else { return None };
    let body = script.body().replace("SELECT pg_catalog.pg_reload_conf();", "");
    Some(body.trim().to_owned())
}

fn active(server: &ServerFacts) -> BTreeSet<&'static str> {
    judge(server)
        .filter(|(_, verdict)| verdict.as_ref().is_some_and(|f| !f.is_empty()))
        .map(|(rule, _)| rule.id)
        .collect()
}

#[test]
fn ids_are_unique_and_texts_are_whole() {
    let mut seen = BTreeSet::new();
    let ids: BTreeSet<&str> = all().map(|rule| rule.id).collect();
    for rule in all() {
        let Rule { id, title, finds, why, source, .. } = rule;
        // One former id may have become several.
        assert!(rule.formerly.iter().all(|former| !ids.contains(former)), "{id}");
        for id in std::iter::once(id).chain(rule.formerly) {
            assert!(seen.insert(*id) || rule.formerly.contains(id), "{id}");
            let (group, name) = id.split_once('.').unwrap();
            for part in [group, name] {
                let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
                assert!(!part.is_empty() && part.bytes().all(plain), "{id}");
            }
        }
        for (text, sentence) in [(title, false), (finds, false), (why, true), (source, false)] {
            assert!(text.len() > 5 && !text.contains('\n') && !text.contains("  "), "{id}: {text}");
            assert_eq!(text.ends_with('.'), sentence, "{id}: {text}");
        }
    }
}

#[test]
fn each_alert_that_a_rule_names_has_a_runbook() {
    let runbooks = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for (rule, alert) in all().flat_map(|r| r.alerts.iter().map(move |a| (r.id, a))) {
        assert!(runbooks.join(format!("{alert}.md")).is_file(), "{rule}: {alert}");
    }
}

#[test]
fn former_ids_find_their_rule() {
    for (former, id) in [("indexes.unused", "index.unused"), ("vacuum.overdue", "vacuum.age")] {
        assert_eq!(rule(former).map(|r| r.id), Some(id));
    }
    assert!(rule("index").is_none());
    assert_eq!(Severity::from_word("error"), Some(Severity::Critical));
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        assert_eq!(Severity::from_word(severity.word()), Some(severity));
    }
}

#[test]
fn the_reports_machine_with_defaults_gets_the_reports_table() {
    let s = defaults();
    let expected = [
        "settings.checkpoint_timeout",
        "settings.effective_cache_size",
        "settings.idle_in_transaction",
        "settings.log_min_duration_statement",
        "settings.maintenance_work_mem",
        "settings.shared_buffers",
        "settings.track_io_timing",
    ];
    // Without WAL there is no reason to space checkpoints out.
    assert_eq!(active(&s), expected[1..].iter().copied().collect());
    let s = ServerFacts { wal: Some(counted(HOUR * 2.0 * MB)), ..s };
    assert_eq!(active(&s), expected.into_iter().collect());
    for (id, expected) in [
        ("settings.shared_buffers", "ALTER SYSTEM SET shared_buffers = '4GB';"),
        ("settings.effective_cache_size", "ALTER SYSTEM SET effective_cache_size = '12GB';"),
        ("settings.maintenance_work_mem", "ALTER SYSTEM SET maintenance_work_mem = '1GB';"),
        ("settings.checkpoint_timeout", "ALTER SYSTEM SET checkpoint_timeout = '15min';"),
        (
            "settings.log_min_duration_statement",
            "ALTER SYSTEM SET log_min_duration_statement = '100ms';",
        ),
    ] {
        assert_eq!(sql(&s, id).as_deref(), Some(expected), "{id}");
    }
}

#[test]
fn what_was_recommended_is_recommended_no_more() {
    let mut s = defaults();
    set(&mut s, "shared_buffers", 4.0 * GB);
    set(&mut s, "effective_cache_size", 12.0 * GB);
    set(&mut s, "maintenance_work_mem", GB);
    set(&mut s, "log_min_duration_statement", 0.1);
    set(&mut s, "idle_in_transaction_session_timeout", 600.0);
    s.settings.insert("track_io_timing".to_owned(), Setting::Flag(true));
    assert_eq!(active(&s), BTreeSet::new());
}

#[test]
fn without_facts_nothing_is_judged() {
    let (server, database) = (ServerFacts::default(), DatabaseFacts::default());
    for (rule, verdict) in judge(&server).chain(judge(&database)) {
        assert_eq!(verdict, None, "{}", rule.id);
    }
    let unknown = ServerFacts { memory: None, cpus: None, ..defaults() };
    for id in ["settings.shared_buffers", "settings.parallel_workers"] {
        assert_eq!(verdict(&unknown, id), None, "{id}");
    }
    // Ten seconds of temporary files prove nothing.
    let bytes = Counted { amount: GB, span: 10.0 };
    let short = ServerFacts { temporary: Some(Temporary { files: 10.0, bytes }), ..defaults() };
    assert_eq!(verdict(&short, "settings.work_mem"), None);
}

#[test]
fn spills_raise_work_mem_as_far_as_is_safe() {
    let spilling = |files: f64, each: f64| ServerFacts {
        temporary: Some(Temporary { files, bytes: counted(files * each) }),
        ..defaults()
    };
    let s = spilling(400.0, 8.0 * MB);
    assert!(verdict(&s, "settings.work_mem").unwrap().is_empty(), "under 1 MB/s");
    assert_eq!(
        sql(&spilling(600.0, 8.0 * MB), "settings.work_mem").as_deref(),
        Some("ALTER SYSTEM SET work_mem = '16MB';")
    );
    // A quarter of 16 GB over 100 connections is 40.96 MB.
    assert_eq!(
        sql(&spilling(600.0, 100.0 * MB), "settings.work_mem").as_deref(),
        Some("ALTER SYSTEM SET work_mem = '40MB';")
    );
    let mut crowded = spilling(600.0, 100.0 * MB);
    set(&mut crowded, "max_connections", 2_000.0);
    let found = verdict(&crowded, "settings.work_mem").unwrap();
    assert!(found[0].remedy.is_none() && found[0].advice.contains("2000 connections"), "{found:?}");
}

#[test]
fn forced_checkpoints_ask_for_room_for_the_wal_that_was_measured() {
    let forced = |timed, requested, rate: f64| ServerFacts {
        checkpoints: Some(CheckpointCounts { timed, requested, span: HOUR }),
        wal: Some(counted(rate * HOUR)),
        ..defaults()
    };
    let id = "settings.max_wal_size";
    assert!(verdict(&forced(7.0, 3.0, 10.0 * MB), id).unwrap().is_empty());
    // 10 MB/s over 300 s, 1.9 times, and a fifth: 6.7 GB.
    let s = forced(6.0, 3.0, 10.0 * MB);
    assert_eq!(sql(&s, id).as_deref(), Some("ALTER SYSTEM SET max_wal_size = '7GB';"));
    let s = forced(0.0, 3.0, 0.1 * MB);
    assert_eq!(sql(&s, id).as_deref(), Some("ALTER SYSTEM SET max_wal_size = '2GB';"));
    assert!(verdict(&forced(0.0, 2.0, 10.0 * MB), id).unwrap().is_empty());
}

#[test]
fn crowds_get_a_pool_of_what_was_active() {
    let crowd = |peak, peak_active| ServerFacts {
        connections: Some(ConnectionPeak { peak, peak_active }),
        ..defaults()
    };
    let id = "connections.pool";
    assert!(verdict(&crowd(79.0, 70.0), id).unwrap().is_empty());
    let found = verdict(&crowd(80.0, 30.0), id).unwrap();
    assert!(found[0].advice.contains("default_pool_size = 45"), "{found:?}");
    // Far from the limit, but 200 mostly idle ones on 8 processors.
    let mut idle = crowd(200.0, 4.0);
    set(&mut idle, "max_connections", 1_000.0);
    let found = verdict(&idle, id).unwrap();
    assert!(found[0].advice.contains("default_pool_size = 16"), "{found:?}");
}

#[test]
fn evictions_and_busy_workers() {
    let s =
        ServerFacts { evictions: Some(counted(3.0)), autovacuum_workers: Some(3.0), ..defaults() };
    assert_eq!(
        sql(&s, "statements.max").as_deref(),
        Some("ALTER SYSTEM SET pg_stat_statements.max = '10000';")
    );
    assert_eq!(
        sql(&s, "vacuum.workers").as_deref(),
        Some("ALTER SYSTEM SET autovacuum_vacuum_cost_limit = '400';")
    );
}

#[test]
fn an_expired_table_is_critical_and_says_what_to_run() {
    let day = 86_400.0;
    let orders = |runway: f64| Partitioned {
        name: table("orders"),
        runway: Some((runway, 7.0 * day)),
        covered: runway > 0.0,
        ..Partitioned::default()
    };
    let of = |partitioned| {
        let d = DatabaseFacts {
            datname: "shop".to_owned(),
            partitioned: Some(partitioned),
            ..DatabaseFacts::default()
        };
        verdict(&d, "partition.runway").unwrap()
    };
    let found = of(vec![orders(-22.5 * day), orders(7.0 * day), orders(f64::INFINITY)]);
    assert_eq!(found.len(), 1);
    assert!(found[0].evidence.contains("ended 22.5 d ago"), "{found:?}");
    let command = found[0].remedy.as_ref().unwrap().text();
    assert_eq!(command, "pgrunway plan public.orders --days 14 --database=shop");
    // What the command would refuse is not recommended, and what it would leave is said with it.
    let foreseen = |foreseen| Partitioned { foreseen: Some(foreseen), ..orders(day) };
    let found = of(vec![
        foreseen(Foreseen::Refuses("its partitions follow no rhythm".to_owned())),
        foreseen(Foreseen::Leaves("Rows of orders_rest are not moved.".to_owned())),
    ]);
    assert_eq!(found[0].remedy, None);
    assert!(
        found[0]
            .advice
            .starts_with("`pgrunway plan` refuses this table: its partitions follow no rhythm."),
        "{found:?}"
    );
    assert!(found[1].remedy.is_some());
    assert!(
        found[1].advice.ends_with("the way by hand: Rows of orders_rest are not moved."),
        "{found:?}"
    );
    let fallen = Partitioned { has_default: true, ..orders(-day) };
    let never = orders(0.0);
    let found = of(vec![fallen, never, orders(5.0 * day)]);
    let evidence: Vec<&str> = found.iter().map(|f| f.evidence.as_str()).collect();
    assert_eq!(
        evidence,
        [
            "Coverage ended 24 h ago: inserts go into DEFAULT.",
            "No partition accepts the present: inserts fail.",
            "Runway 5 d of 7 d required.",
        ]
    );
    assert_eq!(verdict(&DatabaseFacts::default(), "partition.runway"), None);
    let leaves = |leaves| Partitioned { leaves, ..Partitioned::default() };
    let partitioned = Some(vec![leaves(1_000.0), leaves(1_001.0)]);
    let d = DatabaseFacts { partitioned, ..DatabaseFacts::default() };
    assert_eq!(verdict(&d, "partition.many").unwrap().len(), 1);
}

#[test]
fn an_open_ended_partition_matters_when_it_holds_rows_or_will_soon() {
    let day = 86_400.0;
    let of = |bounded: f64, rows: Option<f64>| {
        let covered = bounded > 0.0;
        let table = Partitioned {
            name: table("trades"),
            runway: Some((f64::INFINITY, 7.0 * day)),
            covered: true,
            open_end: Some(OpenEnded { bounded: bounded * day, covered, rows }),
            ..Partitioned::default()
        };
        let d = DatabaseFacts {
            datname: "shop".to_owned(),
            partitioned: Some(vec![table]),
            ..DatabaseFacts::default()
        };
        verdict(&d, "partition.open_ended").unwrap().pop()
    };
    assert_eq!(of(7.0, Some(0.0)), None);
    assert_eq!(of(7.0, None), None);
    let evidence = |bounded, rows| of(bounded, rows).unwrap().evidence;
    assert_eq!(
        evidence(6.0, None),
        "Partitions with an end last 6 d of 7 d required; then all rows go into the open-ended one."
    );
    assert!(evidence(30.0, Some(12.0)).ends_with("; about 12 are there (estimated)."));
    assert!(
        evidence(-3.0, None)
            .starts_with("New rows have gone into its open-ended partition for 3 d")
    );
    let finding = of(6.0, None).unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    let command = finding.remedy.unwrap().text();
    assert_eq!(command, "pgrunway plan public.trades --days 14 --database=shop");
    let bare = Partitioned { runway: Some((1.0, 2.0)), ..Partitioned::default() };
    let d = DatabaseFacts { partitioned: Some(vec![bare]), ..DatabaseFacts::default() };
    assert_eq!(verdict(&d, "partition.open_ended"), Some(vec![]), "there is none");
}

#[test]
fn partitions_unlike_their_siblings_are_named() {
    let of = |odd: f64, value: &str| {
        let odd = Odd {
            table: table("trades"),
            what: "owner".to_owned(),
            usual: "alice".to_owned(),
            leaves: 30.0,
            odd,
            first: table("trades_1"),
            value: value.to_owned(),
        };
        let d = DatabaseFacts { odd: Some(vec![odd]), ..DatabaseFacts::default() };
        verdict(&d, "partition.siblings").unwrap().remove(0).evidence
    };
    let one =
        "public.trades_1, one of 30 partitions, differs in owner: bob, where most have alice.";
    assert_eq!(of(1.0, "bob"), one);
    let long = "bob".repeat(40);
    let some = "2 of 30 partitions, public.trades_1 among them, differ in owner.";
    assert_eq!(of(2.0, &long), some);
    let d = DatabaseFacts { odd: Some(vec![]), ..DatabaseFacts::default() };
    assert_eq!(verdict(&d, "partition.siblings"), Some(vec![]));
}

#[test]
fn planning_that_dominates_is_told_with_what_was_measured() {
    let statement = |calls: f64, planning: f64, execution: f64| StatementFacts {
        name: "42".to_owned(),
        calls,
        plans: Some(calls),
        planning: planning * calls,
        execution: execution * calls,
        ..StatementFacts::default()
    };
    let of = |s: StatementFacts| {
        let d =
            DatabaseFacts { span: 100.0, statements: Some(vec![s]), ..DatabaseFacts::default() };
        verdict(&d, "statements.prepare").unwrap()
    };
    let found = of(statement(200.0, 0.02245, 0.00116));
    assert!(found[0].evidence.contains("at 22.5 ms each, 95 % of its time"), "{found:?}");
    assert!(found[0].evidence.contains("44.9 ms of planning a second"), "{found:?}");
    assert!(of(statement(99.0, 0.02, 0.001)).is_empty(), "less than one call a second");
    assert!(of(statement(200.0, 0.0009, 0.0001)).is_empty(), "less than a millisecond");
    assert!(of(statement(200.0, 0.002, 0.002)).is_empty(), "half of the time");
    let prepared = |custom: f64| StatementFacts {
        custom: Some(custom),
        generic: Some(200.0 - custom),
        ..statement(200.0, 0.02, 0.001)
    };
    let found = of(prepared(180.0));
    assert!(
        found[0].evidence.contains("180 executions had a plan of their own and 20"),
        "{found:?}"
    );
    assert!(found[0].advice.contains("force_generic_plan"), "{found:?}");
    let found = of(StatementFacts { generic: Some(0.0), ..prepared(0.0) });
    assert!(found[0].advice.starts_with("Prepare it"), "{found:?}");
    let untracked = StatementFacts { plans: None, ..statement(200.0, 0.0, 0.001) };
    let d = DatabaseFacts {
        span: 100.0,
        statements: Some(vec![untracked]),
        ..DatabaseFacts::default()
    };
    assert_eq!(verdict(&d, "statements.prepare"), None);

    let bench = BenchFacts {
        name: "recent_trades".to_owned(),
        unprepared: 0.0085,
        prepared: 0.0004,
        planned: None,
    };
    let d = DatabaseFacts { benches: Some(vec![bench]), ..DatabaseFacts::default() };
    let found = verdict(&d, "statements.prepare").unwrap();
    assert!(found[0].evidence.contains("8.1 ms saved"), "{found:?}");
}

#[test]
fn aggregates_that_read_much_for_little() {
    let s = |blocks: f64, aggregates| StatementFacts {
        name: "7".to_owned(),
        calls: 100.0,
        execution: 30.0,
        rows: 500.0,
        blocks,
        aggregates,
        ..StatementFacts::default()
    };
    let other = StatementFacts { execution: 70.0, ..StatementFacts::default() };
    let of = |s: StatementFacts| {
        let d = DatabaseFacts {
            span: 60.0,
            statements: Some(vec![s, other.clone()]),
            ..DatabaseFacts::default()
        };
        verdict(&d, "statements.materialise").unwrap()
    };
    let found = of(s(500_000.0, Some(true)));
    assert!(found[0].evidence.starts_with("30 % of all execution time; 1000 blocks"), "{found:?}");
    assert!(of(s(499_000.0, Some(true))).is_empty());
    assert!(of(s(500_000.0, None)).is_empty());
}

#[test]
fn indexes_are_dropped_or_rebuilt_as_the_server_takes_it() {
    let index = |fault, partitioned| FaultyIndex {
        table: table("t"),
        table_oid: 7,
        scans: 0.0,
        name: "i".to_owned(),
        oid: 1,
        constraint: false,
        cover: None,
        bytes: 200.0 * MB,
        partitioned,
        fault,
    };
    let of = |i: FaultyIndex, id: &str| {
        let d = DatabaseFacts { indexes: Some(vec![i]), ..DatabaseFacts::default() };
        sql(&d, id)
    };
    let unused = IndexFault::Unused { since: 0.0, seconds: 864_000.0 };
    let said = of(index(unused.clone(), false), "index.unused").unwrap();
    assert!(said.contains("SELECT 'DROP INDEX CONCURRENTLY public.i' WHERE"), "{said}");
    let said = of(index(unused.clone(), true), "index.unused").unwrap();
    assert!(said.contains("DROP INDEX public.i;") && !said.contains("DROP INDEX CONC"), "{said}");
    let kept = FaultyIndex { constraint: true, ..index(unused, false) };
    assert_eq!(of(kept, "index.unused"), None, "what a constraint rests on stays");
    let bloat = |share: f64, bytes: f64, part| {
        let bloated = Some(vec![Bloated {
            table: table("t"),
            name: "i".to_owned(),
            oid: 1,
            bytes,
            share,
            part,
            measured: false,
        }]);
        let d = DatabaseFacts { bloated, ..DatabaseFacts::default() };
        sql(&d, "index.bloat")
    };
    let rebuilt = |said: Option<String>, name: &str| {
        said.unwrap().contains(&format!("'REINDEX INDEX CONCURRENTLY public.{name}'"))
    };
    assert_eq!(bloat(0.5, 200.0 * MB, None), None);
    assert!(rebuilt(bloat(0.6, 200.0 * MB, None), "i"));
    // Of a partition's, that one alone.
    let part = Some((table("t_1"), table("t_1_i")));
    assert!(rebuilt(bloat(0.6, 200.0 * MB, part), "t_1_i"));
    assert_eq!(bloat(0.9, 10.0 * MB, None), None);
}

fn growing(per_day: f64, span: f64, kept: Option<f64>) -> Growing {
    Growing {
        name: table("trades"),
        bytes: 100.0 * GB,
        per_day,
        span,
        oldest: 0.0,
        kept,
        estimated: false,
    }
}

#[test]
fn growth_is_told_where_it_doubles_within_a_year() {
    let of = |tables: Vec<Growing>| {
        let growth = Some(Growth { bytes: 365.0 * GB, tables });
        verdict(&DatabaseFacts { growth, ..DatabaseFacts::default() }, "storage.growth")
    };
    assert_eq!(of(vec![]), None);
    assert_eq!(of(vec![growing(GB, 3_600.0, None)]), None, "an hour is no evidence");
    assert!(of(vec![growing(0.9 * GB, 90_000.0, None)]).unwrap().is_empty());
    let found =
        of(vec![growing(0.25 * GB, 2.6e6, None), growing(0.75 * GB, 90_000.0, None)]).unwrap();
    let evidence = &found[0].evidence;
    assert!(evidence.contains("395 GB in 30 days, 455 GB in 90 days, 730 GB in 365"), "{evidence}");
    let measured = "1 GB a day by the sizes (measured) of partitions that were filled over 25 h";
    assert!(evidence.contains(measured), "{evidence}");
    // One that is too young says nothing of the others.
    let young = growing(9.0 * GB, 3_600.0, None);
    let found = of(vec![growing(GB, 90_000.0, None), young]).unwrap();
    assert!(found[0].evidence.contains("730 GB in 365"), "{found:?}");
    let small = Growth { bytes: 0.0, tables: vec![growing(1_000.0, 90_000.0, None)] };
    let d = DatabaseFacts { growth: Some(small), ..DatabaseFacts::default() };
    assert_eq!(verdict(&d, "storage.growth"), Some(vec![]), "less than 1 GB a year");
    // What is retired after 150 days never holds more than 150 GB.
    assert!(of(vec![growing(GB, 90_000.0, Some(150.0 * 86_400.0))]).unwrap().is_empty());
}

#[test]
fn a_table_that_retires_its_data_grows_until_it_is_full() {
    let kept = |days: f64| growing(GB, 90_000.0, Some(days * 86_400.0));
    assert_eq!(growing(GB, 90_000.0, None).after(30.0), 130.0 * GB);
    assert_eq!(kept(120.0).after(10.0), 110.0 * GB);
    assert_eq!(kept(120.0).after(30.0), 120.0 * GB);
    assert_eq!(kept(50.0).after(30.0), 100.0 * GB, "it has more than that already");
}

#[test]
fn what_autovacuum_leaves_is_told_with_how_far_it_is() {
    let of = |table: TableFacts, id: &str| {
        let tables = Some(vec![TableFacts { name: self::table("t"), ..table }]);
        verdict(&DatabaseFacts { tables, ..DatabaseFacts::default() }, id).unwrap()
    };
    let leaf = |name: Option<&str>| Leaf {
        oid: 1,
        name: name.map(self::table),
        amount: 808_000.0,
        live: 1e6,
        last: Some(0.0),
    };
    let overdue = |tables, times, name| Overdue { tables, times, worst: vec![leaf(name)] };
    let plain = TableFacts { vacuum: overdue(1, 4.04, None), off: true, ..TableFacts::default() };
    let found = of(plain, "vacuum.age");
    assert_eq!(
        found[0].evidence,
        "About 808,000 dead or inserted rows beside 1,000,000 live ones, 4.0 times as many as start autovacuum; \
         last VACUUM: 1970-01-01 00:00:00 UTC. Autovacuum is off for it."
    );
    let text = found[0].remedy.as_ref().unwrap().text();
    assert!(text.contains("\nVACUUM (ANALYZE) public.t;\n"), "{text}");
    let parts = |vacuum| TableFacts { vacuum, partitioned: true, ..TableFacts::default() };
    let found = of(parts(overdue(3, 2.5, None)), "vacuum.age");
    assert!(found[0].evidence.starts_with("3 of its partitions"), "{found:?}");
    assert_eq!(found[0].remedy, None, "it would take all partitions");
    let found = of(parts(overdue(1, 2.5, Some("t_1"))), "vacuum.age");
    let text = found[0].remedy.as_ref().unwrap().text();
    assert!(text.contains("\nVACUUM (ANALYZE) public.t_1;\n"), "{text}");
    assert!(of(parts(Overdue::default()), "vacuum.age").is_empty());

    let day = 86_400.0;
    let whole = |rows: f64, unanalyzed: f64| TableFacts {
        unanalyzed: Some(unanalyzed),
        partitioned: true,
        rows,
        ..TableFacts::default()
    };
    assert!(of(whole(1e6, 29.0 * day), "statistics.age").is_empty());
    assert!(of(whole(10_000.0, f64::INFINITY), "statistics.age").is_empty());
    let found = of(whole(1e6, f64::INFINITY), "statistics.age");
    assert!(found[0].advice.starts_with("Autovacuum never analyses"), "{found:?}");
    let found = of(whole(1e6, 31.0 * day), "statistics.age");
    assert_eq!(found[0].evidence, "Last analysed as a whole 31 d ago.");
    let large = |scale_factor, partitioned| TableFacts {
        rows: 2e7,
        scale_factor,
        vacuum_at: 4_000_050.0,
        partitioned,
        ..TableFacts::default()
    };
    let found = of(large(0.2, false), "vacuum.scale_factor");
    assert!(found[0].evidence.contains("starts at 4000050 dead ones"), "{found:?}");
    assert!(of(large(0.05, false), "vacuum.scale_factor").is_empty());
    assert!(of(large(0.2, true), "vacuum.scale_factor").is_empty());
}

#[test]
fn plans_that_keep_many_partitions_are_named() {
    let of = |held: f64| {
        let planned = Some(("trades".to_owned(), [held, 400.0]));
        let bench = BenchFacts { name: "recent".to_owned(), planned, ..BenchFacts::default() };
        let d = DatabaseFacts { benches: Some(vec![bench]), ..DatabaseFacts::default() };
        verdict(&d, "statements.partitions").unwrap()
    };
    assert!(of(99.0).is_empty());
    let found = of(100.0);
    assert_eq!(found[0].evidence, "Its plan keeps 100 of 400 partitions of trades.");
    assert_eq!(verdict(&DatabaseFacts::default(), "statements.partitions"), None);
}
