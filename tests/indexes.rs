//! Verdicts on indexes against a real server, as a role that has only `pg_monitor`: each situation of
//! `tests/indexes/fixture.sql` gets what its comment says, and none anything else.
//!
//! Must not: expect a verdict that is not written beside the index.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::{AnyCollector, AnyState};
use pgrunway::collectors::by_name;
use pgrunway::collectors::index_health::catalogue::{self, WhoseNames};
use pgrunway::config::{IndexColumn, IndexRule, Settings};
use pgrunway::derive::index::{
    Exemption, How, IndexFacts, Invalid, Judged, Strictness, Usage, Verdicts, judge,
};
use pgrunway::metric::{Family, Refused, Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio_postgres::Client;

const FIXTURE: &str = include_str!("indexes/fixture.sql");

/// Everything is judged at once.
const STRICT: Strictness = Strictness { unused_after: 0.0, minimum_rows: 0.0, seq_scan_bytes: 0.0 };

/// The fixture's blocks for a major.
fn fixture(major: i32) -> String {
    let mut blocks = FIXTURE.split("\n-- since ");
    let mut sql = blocks.next().unwrap().to_owned();
    for block in blocks {
        let (since, rest) = block.split_once('\n').unwrap();
        if since.parse::<i32>().unwrap() <= major {
            sql.push_str(rest);
        }
    }
    sql
}

async fn session(cluster: &Cluster, settings: Settings) -> Session {
    let connect = common::connect(cluster, "mon");
    Session::connect(&connect, Some("postgres"), Arc::new(settings), Clock::start()).await.unwrap()
}

async fn until(admin: &Client, condition: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let row = admin.query_one(&format!("SELECT ({condition})"), &[]).await.unwrap();
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return;
        }
        assert!(Instant::now() < limit, "never true: {condition}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A server with the fixture on it, one of its indexes scanned and one broken.
async fn server() -> (Cluster, Client, i32) {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    let major: i32 = admin.query_one(version, &[]).await.unwrap().get(0);
    admin.batch_execute(&fixture(major)).await.unwrap();
    admin
        .batch_execute("CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2)")
        .await
        .unwrap();
    admin.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY twice_a ON twice (a)").await.unwrap_err();
    admin
        .batch_execute(
            "COMMENT ON INDEX twice_a IS 'invalid; broken'; CREATE INDEX twice_again ON twice (a); \
             COMMENT ON INDEX twice_again IS 'unused'; CREATE TEMP TABLE mine (i int PRIMARY KEY)",
        )
        .await
        .unwrap();
    let scan = "SET enable_seqscan = off; SELECT * FROM quick WHERE a = 7";
    common::work(&cluster, "postgres", scan).await;
    let scanned = "(SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'quick_a') = 1";
    until(&admin, scanned).await;
    (cluster, admin, major)
}

fn said(facts: &IndexFacts, judged: &Judged) -> String {
    let usage = match judged.usage {
        Usage::Used => "used",
        Usage::Unused { .. } => "unused",
        Usage::TooEarly { .. } => "too early",
        Usage::Exempt(Exemption::Primary) => "primary",
        Usage::Exempt(Exemption::Unique) => "unique",
        Usage::Exempt(Exemption::Exclusion) => "exclusion",
        Usage::Exempt(Exemption::ReplicaIdentity) => "replica identity",
        Usage::Exempt(Exemption::ForeignKey) => "foreign key",
        Usage::Exempt(Exemption::Invalid) => "invalid",
    };
    let mut said = usage.to_owned();
    if let Some(cover) = judged.cover {
        let how = match cover.how {
            How::Duplicate => "duplicate",
            How::Twin => "twin",
            How::Prefix => "prefix",
        };
        said += &format!("; {how} of {}", index_name(facts, cover.by));
    }
    match judged.invalid {
        None => {}
        Some(Invalid::Broken) => said += "; broken",
        Some(Invalid::Unattached) => said += "; unattached",
    }
    said
}

fn index_name(facts: &IndexFacts, id: i64) -> &str {
    facts.indexes.iter().find(|i| i.id == id).and_then(|i| i.name.as_deref()).unwrap()
}

fn table_name(facts: &IndexFacts, id: i64) -> String {
    let (schema, table) = facts.tables.iter().find(|t| t.id == id).unwrap().name.clone().unwrap();
    format!("{schema}.{table}")
}

/// What was said of each index and foreign key, by `schema.table: name`.
fn all_said(facts: &IndexFacts, verdicts: &Verdicts) -> BTreeMap<String, String> {
    let indexes = verdicts.indexes.iter().map(|judged| {
        let (table, name) = (table_name(facts, judged.table), index_name(facts, judged.id));
        (format!("{table}: {name}"), said(facts, judged))
    });
    let keys = facts.foreign_keys.iter().enumerate().map(|(place, key)| {
        let unindexed = verdicts.unindexed.iter().any(|u| u.foreign_key == place);
        let said = if unindexed { "unindexed" } else { "indexed" };
        (format!("{}: {}", table_name(facts, key.table), key.name), said.to_owned())
    });
    indexes.chain(keys).collect()
}

/// The comments, and `no comment` for what has none.
async fn expected(admin: &Client) -> BTreeMap<String, String> {
    let sql = "\
        SELECT n.nspname || '.' || t.relname || ': ' || c.relname, \
               COALESCE(obj_description(c.oid, 'pg_class'), 'no comment') \
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
          JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE NOT c.relispartition AND n.nspname !~ '^pg_' AND c.relpersistence <> 't' \
         UNION ALL \
        SELECT n.nspname || '.' || t.relname || ': ' || k.conname, \
               COALESCE(obj_description(k.oid, 'pg_constraint'), 'no comment') \
          FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid \
          JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conname <> 'on_paper'";
    admin.query(sql, &[]).await.unwrap().iter().map(|r| (r.get(0), r.get(1))).collect()
}

#[tokio::test]
async fn every_situation_gets_its_verdict_and_no_other() {
    let (cluster, admin, _) = server().await;
    let session = session(&cluster, common::settings()).await;
    for names in [WhoseNames::Judged, WhoseNames::All] {
        let facts = catalogue::facts(&session, names).await.unwrap();
        let verdicts = judge(&facts, &STRICT);
        let (said, expected) = (all_said(&facts, &verdicts), expected(&admin).await);
        let differ: Vec<_> = expected
            .iter()
            .filter(|(k, v)| said.get(*k) != Some(*v))
            .map(|(k, v)| (k, v, said.get(k)))
            .collect();
        assert!(differ.is_empty(), "{differ:#?}");
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        assert!(said.len() >= 100);
    }
}

/// One poll of a collector by a role with only `pg_monitor`; nothing may be refused.
struct Run {
    collector: &'static dyn AnyCollector,
    state: AnyState,
    session: Session,
}

impl Run {
    async fn new(cluster: &Cluster, name: &str, settings: Settings) -> Self {
        let collector = by_name(name).unwrap();
        let session = session(cluster, settings).await;
        Self { collector, state: collector.new_state(), session }
    }

    async fn poll(&mut self) -> Poll {
        let rows = self.collector.fetch(&self.session, &self.state).await.unwrap();
        let mut sink = Sink::new(self.collector.metrics(), 10_000);
        self.collector.derive(&mut self.state, rows, &mut sink);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default());
        Poll(families)
    }
}

struct Poll(Vec<Family>);

impl Poll {
    /// Labels without the database, joined by `/`, and values.
    fn series(&self, name: &str) -> BTreeMap<String, f64> {
        let family = self.0.iter().find(|f| f.metric.name == name);
        let samples = family.map(|f| f.samples.as_slice()).unwrap_or_default();
        samples
            .iter()
            .map(|s| {
                let Value::Number(n) = s.value else { panic!("{name} is a histogram") };
                assert_eq!(&*s.labels[0], "postgres");
                (s.labels[1..].join("/"), n)
            })
            .collect()
    }
}

/// Settings under which everything is judged at once.
fn strict() -> Settings {
    let mut settings = common::settings();
    settings.timeouts.statement = Duration::from_secs(5);
    settings.indexes.unused_after = 0.0;
    settings.indexes.minimum_rows = 0;
    settings
}

fn expect(table: &str, name: Option<&str>, columns: &[(&str, bool)], unique: bool) -> IndexRule {
    let columns = columns.iter().map(|(name, descending)| IndexColumn {
        name: (*name).to_owned(),
        descending: *descending,
        nulls_first: None,
    });
    IndexRule {
        create: None,
        table: table.to_owned(),
        database: Some("postgres".to_owned()),
        name: name.map(str::to_owned),
        columns: columns.collect(),
        unique,
    }
}

#[tokio::test]
async fn the_metrics_say_what_the_verdicts_say_though_every_table_is_locked() {
    let (cluster, admin, _) = server().await;
    let mut settings = strict();
    settings.indexes.expected = vec![
        expect("public.orders", Some("orders_a"), &[], false),
        expect("public.orders", None, &[("b", false), ("c", true)], false),
        expect("public.orders", None, &[("b", true), ("c", true)], false),
        expect("public.orders", None, &[("c", false)], false),
        expect("public.orders", Some("orders_a"), &[("a", false)], true),
        expect("public.trades", Some("trades_only"), &[], false),
        expect("public.trades", None, &[("at", false)], false),
        expect("public.parts", None, &[("b", false)], true),
        expect("public.gone", Some("x"), &[], false),
        expect("*.plain", Some("plain_a"), &[], false),
    ];
    let facts =
        catalogue::facts(&session(&cluster, strict()).await, WhoseNames::All).await.unwrap();
    let verdicts = judge(&facts, &STRICT);
    let mut run = Run::new(&cluster, "indexhealth", settings).await;
    let locks = "SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', c.oid::regclass) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information)'";
    let locks: Vec<String> =
        admin.query(locks, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    admin.batch_execute(&format!("BEGIN; {}", locks.join("; "))).await.unwrap();
    let start = Instant::now();
    let poll = run.poll().await;
    let took = start.elapsed();
    admin.batch_execute("ROLLBACK").await.unwrap();
    assert!(locks.len() > 20 && took < Duration::from_secs(4), "{took:?}");

    let label = |j: &Judged| {
        let (schema, table) =
            facts.tables.iter().find(|t| t.id == j.table).unwrap().name.clone().unwrap();
        format!("{schema}/{table}/{}", index_name(&facts, j.id))
    };
    let covers = |duplicate: bool| -> BTreeMap<String, f64> {
        let all = verdicts.indexes.iter().filter_map(|j| Some((j, j.cover?)));
        all.filter(|(_, c)| (c.how == How::Duplicate) == duplicate)
            .map(|(j, c)| (format!("{}/{}", label(j), index_name(&facts, c.by)), 1.0))
            .collect()
    };
    let unused: BTreeMap<String, f64> = verdicts
        .indexes
        .iter()
        .filter(|j| matches!(j.usage, Usage::Unused { .. }))
        .map(|j| (label(j), 1.0))
        .collect();
    assert_eq!(poll.series("pg_index_unused"), unused);
    assert_eq!(poll.series("pg_index_duplicate"), covers(true));
    assert_eq!(poll.series("pg_index_redundant"), covers(false));
    assert!(covers(true).contains_key("public/keys/keys_id_key/keys_pkey"));
    assert!(covers(false).contains_key("public/trades_2a/trades_2a_local/trades_2a_at_symbol_idx"));
    let unindexed = ["public/source/pair_turned", "public/source/some_only"];
    assert!(poll.series("pg_foreign_key_unindexed").keys().eq(unindexed));
    let findings = poll.series("pg_index_findings");
    let counted = [
        ("duplicate", covers(true).len()),
        ("foreign_key_unindexed", 2),
        ("invalid", 3),
        ("redundant", covers(false).len()),
        ("seq_scans", 0),
        ("unused", unused.len()),
    ];
    assert!(findings.into_iter().eq(counted.map(|(k, n)| (k.to_owned(), n as f64))));
    let coverage = poll.series("pg_index_partition_coverage_ratio");
    for (index, ratio) in [
        ("trades/trades_at", Some(1.0)),
        ("trades/trades_only", Some(0.0)),
        ("trades/trades_half", Some(1.0 / 3.0)),
        ("trades_2/trades_2_mid", Some(1.0)),
        ("far/far_a", Some(1.0)),
        ("bare/bare_a", None),
        ("trades_1/trades_1_local", None),
    ] {
        assert_eq!(coverage.get(&format!("public/{index}")).copied(), ratio, "{index}");
    }
    let expected = poll.series("pg_index_expected_missing");
    let expected: Vec<_> = expected.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(
        expected,
        [
            ("other/plain/plain_a/", 0.0),
            ("public/gone/x/no_table", 1.0),
            ("public/orders/(b DESC, c DESC)/", 0.0),
            ("public/orders/(b, c DESC)/", 0.0),
            ("public/orders/(c)/missing", 1.0),
            ("public/orders/orders_a/", 0.0),
            ("public/orders/orders_a/missing", 1.0),
            ("public/parts/(b)/missing", 1.0),
            ("public/plain/plain_a/", 0.0),
            ("public/trades/(at)/", 0.0),
            ("public/trades/trades_only/invalid", 1.0),
        ]
    );
    let info = poll.series("pg_index_info");
    for labels in [
        "public/orders/orders_b_desc_c/btree/b DESC, c/false/false/true/true/false",
        "public/orders/orders_d_last/btree/d DESC NULLS LAST/false/false/true/true/false",
        "public/keys/keys_pkey/btree/id/true/true/true/true/false",
        "public/parts/parts_one_open/btree/b/true/false/true/true/true",
        "public/twice/twice_a/btree/a/true/false/false/false/false",
        "public/forms/forms_upper_b/btree/(expression), b/false/false/true/true/false",
        "s\"c\\h/t'\nx/i \"2\"/btree/Ä, b, (expression)/false/false/true/true/false",
    ] {
        assert_eq!(info.get(labels), Some(&1.0), "{labels}\n{info:#?}");
    }
    assert_eq!(info.len(), verdicts.indexes.len());
}

#[tokio::test]
async fn nothing_is_called_unused_before_its_window_has_passed() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE TABLE t (a int, b int); CREATE INDEX old ON t (a)").await.unwrap();
    let mut patient = strict();
    patient.indexes.unused_after = 3.0;
    let mut run = Run::new(&cluster, "indexhealth", patient).await;
    run.poll().await;
    admin.batch_execute("CREATE INDEX young ON t (b)").await.unwrap();
    until(&admin, "clock_timestamp() - pg_postmaster_start_time() > interval '3.1 seconds'").await;
    // The first index is as old as the statistics for all that is known, the second was seen to come.
    let poll = run.poll().await;
    assert!(
        poll.series("pg_index_unused").keys().eq(["public/t/old"]),
        "{:?}",
        poll.series("pg_index_unused")
    );
    let window = poll.series("pg_index_unused_window_seconds")[""];
    assert!((3.0..60.0).contains(&window), "{window}");
    counters_of_one_index_that_were_reset(&cluster, &admin).await;
    admin.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    let reset = "(SELECT stats_reset FROM pg_stat_database WHERE datname = 'postgres') IS NOT NULL";
    until(&admin, reset).await;
    let mut weeks = strict();
    weeks.indexes.unused_after = 604_800.0;
    let poll = Run::new(&cluster, "indexhealth", weeks).await.poll().await;
    assert_eq!(poll.series("pg_index_unused").len(), 0);
    assert!(poll.series("pg_index_unused_window_seconds")[""] < window + 3.0);
}

/// What it was used for before is gone with them, so that it is not unused for as long as the others.
async fn counters_of_one_index_that_were_reset(cluster: &Cluster, admin: &Client) {
    // Of an index that nobody ever used the server has no counters to reset.
    let used = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT a FROM t WHERE a = 1";
    common::work(cluster, "postgres", used).await;
    let reset = "SELECT pg_stat_reset_single_table_counters('old'::regclass)";
    admin.batch_execute(reset).await.unwrap();
    let session = session(cluster, strict()).await;
    let facts = catalogue::facts(&session, WhoseNames::Judged).await.unwrap();
    let of = |name: &str| facts.indexes.iter().find(|i| i.name.as_deref() == Some(name)).unwrap();
    let since = facts.now - facts.since;
    let judged = judge(&facts, &Strictness { unused_after: since, ..STRICT });
    let usage = |name: &str| judged.indexes.iter().find(|j| j.id == of(name).id).unwrap().usage;
    if session.server().major() < 19 {
        assert_eq!((of("old").reset, usage("old")), (None, Usage::Unused { since: facts.since }));
        return;
    }
    let sql = "SELECT extract(epoch FROM stats_reset)::float8 FROM pg_stat_user_indexes WHERE indexrelname = 'old'";
    let reset: f64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert!((of("old").reset.unwrap() - reset).abs() < 1e-3);
    // The server lets the statistics of the whole database begin then, too.
    let begun = of("old").reset.unwrap().max(facts.since);
    assert_eq!(usage("old"), Usage::Unused { since: begun });
    let patient = judge(&facts, &Strictness { unused_after: since + 1.0, ..STRICT });
    let old = patient.indexes.iter().find(|j| j.id == of("old").id).unwrap();
    assert_eq!(old.usage, Usage::TooEarly { since: begun });
}

#[tokio::test]
async fn small_tables_are_let_off_and_large_ones_that_are_scanned_whole_are_named() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE target (id int PRIMARY KEY); INSERT INTO target VALUES (1); \
             CREATE TABLE small AS SELECT 1 AS fk FROM generate_series(1, 100); \
             CREATE TABLE large (id int PRIMARY KEY, fk int); \
             INSERT INTO large SELECT i, 1 FROM generate_series(1, 20000) i; \
             CREATE TABLE peeked AS SELECT * FROM large; \
             ALTER TABLE small ADD CONSTRAINT s FOREIGN KEY (fk) REFERENCES target; \
             ALTER TABLE large ADD CONSTRAINT l FOREIGN KEY (fk) REFERENCES target; ANALYZE",
        )
        .await
        .unwrap();
    let scan = "SELECT count(*) FROM large WHERE fk = 2; SELECT count(*) FROM small; \
                SELECT * FROM peeked LIMIT 1;";
    common::work(&cluster, "postgres", &scan.repeat(30)).await;
    for table in ["large", "small", "peeked"] {
        let seen =
            format!("(SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}') >= 30");
        until(&admin, &seen).await;
    }
    let mut settings = strict();
    settings.indexes.minimum_rows = 10_000;
    settings.indexes.seq_scan_bytes = 100_000;
    let poll = Run::new(&cluster, "indexhealth", settings.clone()).await.poll().await;
    assert!(poll.series("pg_foreign_key_unindexed").keys().eq(["public/large/l"]));
    assert!(poll.series("pg_table_seq_scans_dominate").keys().eq(["public/large"]));
    // A few scans before the first row was there may count with the thirty.
    let rows = poll.series("pg_table_rows_per_seq_scan")["public/large"];
    assert!((15_000.0..=20_000.0).contains(&rows), "{rows}");
    settings.indexes.seq_scan_bytes = 100_000_000;
    let poll = Run::new(&cluster, "indexhealth", settings).await.poll().await;
    assert_eq!(poll.series("pg_table_seq_scans_dominate").len(), 0);
}

#[tokio::test]
async fn bloat_is_estimated_without_privileges_where_widths_are_fixed() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (id int8 PRIMARY KEY, note text); \
             INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100000) i; \
             CREATE INDEX t_note ON t (note); CREATE INDEX t_small ON t (id) WHERE id < 10; \
             CREATE TABLE p (id int8) PARTITION BY RANGE (id); \
             CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (1000000); \
             CREATE INDEX p_id ON p (id); INSERT INTO p SELECT generate_series(1, 100000)",
        )
        .await
        .unwrap();
    admin.batch_execute("DELETE FROM t WHERE id % 4 <> 0").await.unwrap();
    admin.batch_execute("VACUUM ANALYZE t").await.unwrap();
    admin.batch_execute("VACUUM ANALYZE p").await.unwrap();
    let mut run = Run::new(&cluster, "indexhealth", strict()).await;
    let poll = run.poll().await.series("pg_index_bloat_estimated_bytes");
    assert!(poll.keys().eq(["public/p/p_id", "public/t/t_pkey"]), "{poll:?}");
    // Three quarters are gone: REINDEX says how much that is.
    let size = async |index: &str| -> f64 {
        let sql = format!("SELECT pg_relation_size('{index}')::float8");
        admin.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let (before, note_before) = (size("t_pkey").await, size("t_note").await);
    admin.batch_execute("GRANT SELECT ON t TO mon").await.unwrap();
    let granted = run.poll().await.series("pg_index_bloat_estimated_bytes");
    admin.batch_execute("REINDEX TABLE t").await.unwrap();
    let gone = before - size("t_pkey").await;
    let note_gone = note_before - size("t_note").await;
    let near = |estimate: f64, truth: f64| (estimate / truth - 1.0).abs() < 0.1;
    assert!(near(poll["public/t/t_pkey"], gone), "{poll:?} {gone}");
    assert!(near(granted["public/t/t_note"], note_gone), "{granted:?} {note_gone}");
    assert!(poll["public/p/p_id"] < 0.1 * size("p_1_id_idx").await);
    let mut none = strict();
    none.indexes.bloat_largest = 0;
    let poll = Run::new(&cluster, "indexhealth", none).await.poll().await;
    assert_eq!(poll.series("pg_index_bloat_estimated_bytes").len(), 0);
}

#[tokio::test]
async fn the_counters_agree_with_the_views_and_partitions_come_on_request() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    let major: i32 = admin.query_one(version, &[]).await.unwrap().get(0);
    common::work(
        &cluster,
        "postgres",
            "CREATE TABLE t (id int, at int) PARTITION BY RANGE (at); \
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000); \
             CREATE SCHEMA \"S 1\"; \
             CREATE TABLE \"S 1\".\"t 2\" PARTITION OF t FOR VALUES FROM (1000) TO (9000); \
             CREATE INDEX t_at ON t (at); CREATE TABLE small (id int PRIMARY KEY); \
             INSERT INTO small VALUES (1); INSERT INTO t SELECT i, i FROM generate_series(0, 8999) i; \
             ANALYZE",
        )
        .await;
    let mut settings = strict();
    settings.indexes.minimum_rows = 9_000;
    settings.indexes.per_partition = 1;
    let leaves = |what: &str| {
        format!(
            "(SELECT COALESCE(sum({what}), 0)::float8 FROM pg_stat_user_indexes JOIN pg_statio_user_indexes \
             USING (indexrelid) WHERE indexrelid IN (SELECT relid FROM pg_partition_tree('t_at')))"
        )
    };
    let number = async |sql: String| -> f64 {
        admin.query_one(&format!("SELECT {sql}"), &[]).await.unwrap().get(0)
    };
    let blocks = leaves("idx_blks_hit + idx_blks_read");
    until(&admin, &format!("{blocks} > 0")).await;
    let mut run = Run::new(&cluster, "indexes", settings.clone()).await;
    let first = run.poll().await;
    let hits = number(leaves("idx_blks_hit")).await;
    let reads = number(leaves("idx_blks_read")).await;
    let label = "public/t/t_at";
    assert_eq!(first.series("pg_statio_user_indexes_idx_blks_hit_total")[label], 0.0);
    let scan = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT * FROM t WHERE at = 7; \
         SELECT * FROM t WHERE at = 2000; SELECT * FROM t WHERE at = 2001; SELECT * FROM small WHERE id = 1";
    common::work(&cluster, "postgres", scan).await;
    until(&admin, &format!("{} = 3", leaves("idx_scan"))).await;
    until(&admin, "(SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'small') = 1").await;
    let second = run.poll().await;
    assert_eq!(second.series("pg_stat_user_indexes_idx_scan_total")[label], 3.0);
    for (metric, column, before) in [
        ("pg_statio_user_indexes_idx_blks_hit_total", "idx_blks_hit", hits),
        ("pg_statio_user_indexes_idx_blks_read_total", "idx_blks_read", reads),
    ] {
        let by = number(leaves(column)).await - before;
        assert_eq!(second.series(metric)[label], by, "{metric}");
        assert!(by > 0.0 || column == "idx_blks_read");
    }
    let last = second.series("pg_stat_user_indexes_last_idx_scan_timestamp_seconds");
    if major >= 16 {
        let view = number(
            leaves("0")
                + " + (SELECT max(extract(epoch FROM last_idx_scan))::float8 \
            FROM pg_stat_user_indexes WHERE indexrelid IN (SELECT relid FROM pg_partition_tree('t_at')))",
        );
        assert!((last[label] - view.await).abs() < 1e-3, "{last:?}");
    } else {
        assert_eq!(last.len(), 0);
    }
    let partitions = second.series("pg_index_partition_scans_total");
    let most = "public/t/t_at/\"S 1\".\"t 2\"";
    assert!(partitions.keys().eq([most]), "{partitions:?}");
    assert_eq!(second.series("pg_index_scan_ratio")["public/t"], 1.0);
    let exempt = second.series("pg_index_scan_ratio_exempt");
    assert_eq!((exempt["public/t"], exempt["public/small"]), (0.0, 1.0));
    assert_eq!(second.series("pg_database_index_scan_ratio")[""], 1.0);
    settings.indexes.per_partition = 0;
    let none = Run::new(&cluster, "indexes", settings).await.poll().await;
    assert_eq!(none.series("pg_index_partition_scans_total").len(), 0);
}

#[tokio::test]
async fn an_index_that_is_being_built_is_not_called_invalid() {
    let cluster = common::server_with(&[("autovacuum", "off")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    // The build waits for a transaction that has the table in use.
    let holder = common::admin(&cluster, "postgres").await;
    holder.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let builder = common::admin(&cluster, "postgres").await;
    let build = tokio::spawn(async move {
        builder.batch_execute("CREATE INDEX CONCURRENTLY t_a ON t (a)").await
    });
    let waits = "EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('t_a') AND NOT indisvalid) \
        AND EXISTS (SELECT 1 FROM pg_stat_progress_create_index)";
    until(&admin, waits).await;
    let mut counters = Run::new(&cluster, "indexes", strict()).await;
    let mut health = Run::new(&cluster, "indexhealth", strict()).await;
    assert_eq!(counters.poll().await.series("pg_index_invalid")["public/t/t_a"], 0.0);
    assert_eq!(health.poll().await.series("pg_index_findings")["invalid"], 0.0);
    build.abort();
    let cancel = "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index";
    admin.batch_execute(cancel).await.unwrap();
    until(&admin, "NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index)").await;
    assert_eq!(counters.poll().await.series("pg_index_invalid")["public/t/t_a"], 1.0);
    assert_eq!(health.poll().await.series("pg_index_findings")["invalid"], 1.0);
    drop(holder);
}
