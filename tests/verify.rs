//! `pgrunway verify`: each fault is found, what is printed for it runs through psql, and then it is
//! gone; reports that programs read are read by programs.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "verify/agreement.rs"]
mod agreement;
mod common;
#[path = "verify/gate.rs"]
mod gate;
#[path = "verify/reports.rs"]
mod reports;

use std::collections::BTreeSet;
use std::path::Path;

use gate::Gate;
use pgrunway::cmd::cluster::{Cluster, find_binaries};
use pgrunway::cmd::demo::setup;
use pgrunway::cmd::verify::all;
use pgrunway::findings::{Rule, When};

/// What the file says of the database with the faults.
const EXPECTED: &str = r#"
collectors:
  indexhealth: {unused_after: 1s}
partitions:
- {table: public.kept, database: faulty, max_age: 30d, must_exist: true}
indexes:
- {table: public.wanted, database: faulty, name: wanted_id, create: 'CREATE INDEX wanted_id ON ONLY public.wanted USING btree (id) WHERE (id > 5)'}
- {table: 'public.Wanted "too"', database: faulty, name: 'Wanted it', columns: '"Key" DESC NULLS LAST, ts'}
- {table: public.plain, database: faulty, columns: 'a, b', unique: true}
- {table: public.plain, database: faulty, name: plain_pkey, create: 'ALTER TABLE public.plain ADD CONSTRAINT plain_pkey PRIMARY KEY (a)'}
verify:
  queries:
  - name: one day
    database: faulty
    sql: SELECT * FROM public.wanted WHERE ts >= now() AND ts < now() + interval '1 hour' -- at most two
    max_partitions: 2
"#;

/// Checks whose findings no SQL fixes, or that have a test of their own below.
const ELSEWHERE: [&str; 8] = [
    "database.reachable",
    "index.sequential_scans",
    "maintenance.standby",
    "partition.many",
    "partition.missing",
    "partition.open_ended",
    "partition.siblings",
    "settings.role",
];

#[tokio::test]
async fn every_planted_fault_is_found_mended_and_gone() {
    let settings = [
        ("shared_preload_libraries", ""),
        ("autovacuum", "off"),
        ("track_activity_query_size", "200"),
        ("track_io_timing", "off"),
    ];
    let mut cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let version = "SELECT current_setting('server_version_num')::int4";
    let version: i32 = admin.query_one(version, &[]).await.unwrap().get(0);
    drop(admin);
    let gate = Gate::new(&cluster, EXPECTED);
    gate.sql(
        "postgres",
        "DROP EXTENSION pg_stat_statements;
         CREATE DATABASE faulty;
         ALTER DATABASE faulty SET enable_partition_pruning = off;
         ALTER ROLE mon SET track_counts = off;
         ALTER DATABASE postgres SET track_activities = off;",
    )
    .await;
    if version >= 140_000 {
        gate.sql("postgres", "ALTER SYSTEM SET compute_query_id = off; SELECT pg_reload_conf();")
            .await;
    }
    gate.sql("faulty", include_str!("verify/faults.sql")).await;
    // These fail half-way, as they are meant to.
    for sql in [
        "CREATE UNIQUE INDEX CONCURRENTLY broken_a ON broken (a)",
        "REINDEX INDEX CONCURRENTLY broken_a",
    ] {
        let (ok, said) = gate.psql("faulty", sql).await;
        assert!(!ok && said.contains("could not create unique index"), "{said}");
    }
    gate.sql("faulty", "DELETE FROM broken WHERE b = 2; VACUUM broken").await;

    // unused_after must have passed since the server began to count.
    let counted = "SELECT pg_sleep(greatest(0, 1.5 - extract(epoch FROM clock_timestamp() - \
                   pg_postmaster_start_time()))::float8)";
    gate.sql("postgres", counted).await;
    let requested = "index.corrupt,constraint.foreign_key";
    let with = ["--with", requested, "--exact"];
    let (code, report) = gate.json(&with).await;
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(report["verdict"], "failed");
    let found = gate::found(&report);
    let asked = |rule: &&Rule| rule.when == When::Always || requested.contains(rule.id);
    let mut want: BTreeSet<&str> =
        all().filter(asked).map(|r| r.id).filter(|id| !ELSEWHERE.contains(id)).collect();
    if version < 140_000 {
        want.remove("settings.compute_query_id");
    }
    let ids: BTreeSet<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, want, "{report:#}");
    for (id, object) in [
        ("index.missing", "public.wanted.wanted_id"),
        ("index.missing", "public.Wanted \"too\".Wanted it"),
        ("index.missing", "public.plain.(a, b)"),
        ("index.missing", "public.plain.plain_pkey"),
        ("index.invalid", "public.broken.broken_a"),
        ("index.invalid", "public.broken.broken_a_ccnew"),
        ("index.partition_coverage", "public.covered.covered_note"),
        ("index.partition_coverage", "public.covered.covered_once"),
        ("index.unused", "public.child.child_unused"),
        ("index.duplicate", "public.child.child_b_again"),
        ("index.redundant", "public.child.child_a"),
        ("index.foreign_key", "public.child"),
        ("index.bloat", "public.airy.airy_t"),
        ("index.corrupt", "public.disordered.disordered_a"),
        ("partition.runway", "public.short"),
        ("partition.gap", "public.gappy"),
        ("partition.default_rows", "public.swallowed"),
        ("partition.retention", "public.kept"),
        ("partition.pruning", "one day"),
        ("extension.outdated", "hstore"),
        ("constraint.not_valid", "public.doubtful"),
        ("constraint.not_valid", "public.positive"),
        ("constraint.foreign_key", "public.orphans"),
        ("statistics.age", "public.stale"),
        ("statistics.load", "public.loaded"),
        ("vacuum.age", "public.dead"),
        ("vacuum.wraparound", "public.ancient"),
        ("settings.track_counts", "track_counts"),
        ("settings.autovacuum", "autovacuum"),
    ] {
        let there = found.iter().any(|(i, o)| i == id && o == object);
        assert!(there, "{id} {object}: {found:#?}");
    }
    // Those of partitions come with their parent's; 18 has NOT NULL too, and what is NOT ENFORCED is
    // meant so.
    let not_valid = found.iter().filter(|(id, _)| id == "constraint.not_valid").count();
    assert_eq!(not_valid, if version >= 180_000 { 5 } else { 4 }, "{found:#?}");
    // From 14 on the server says when a partitioned table was analysed.
    let whole = found.iter().any(|(id, o)| id == "statistics.age" && o == "public.whole");
    assert_eq!(whole, version >= 140_000, "{found:#?}");
    assert_eq!(report["counts"]["unchecked"], 0, "{report:#}");
    // The estimate finds the same as the measurement.
    let (_, estimated) = gate.json(&["--only", "index.bloat"]).await;
    assert_eq!(gate::found(&estimated).len(), 1, "{estimated:#}");

    for (database, object, sql) in gate::fixes(&report) {
        let (ok, said) = gate.psql(&database, &sql).await;
        assert!(ok, "{object}: {said}\n{sql}");
    }
    drop(gate);
    cluster.restart().await.unwrap();
    let gate = Gate::new(&cluster, EXPECTED);
    // What is to be used is used now; and what is kept aside by the plan has no rows any more.
    gate.sql(
        "faulty",
        "SET enable_seqscan = off;
         SELECT count(*) FROM child WHERE a = 1 AND b = 1; SELECT count(*) FROM child WHERE b = 1;
         SELECT count(*) FROM child WHERE parent_id = 1; SELECT count(*) FROM wanted WHERE id = 7;
         SELECT count(*) FROM \"Wanted \"\"too\"\"\" WHERE \"Key\" = ''; SELECT count(*) FROM airy WHERE t = '';
         SELECT count(*) FROM covered WHERE note = '' AND id > 0;
         SELECT count(*) FROM disordered WHERE a = 1;",
    )
    .await;
    let mut args = with.to_vec();
    args.extend(["--fail-on", "info"]);
    let (code, report) = gate.json(&args).await;
    assert_eq!(gate::found(&report), [], "{report:#}");
    assert_eq!((code, report["verdict"].as_str()), (0, Some("passed")), "{report:#}");
    assert_eq!(report["counts"]["unchecked"], 0, "{report:#}");
    let summary = gate::summary(&report, "index.missing", "faulty");
    assert_eq!(summary, "4 indexes expected, 4 present");
    let summary = gate::summary(&report, "partition.missing", "faulty");
    assert_eq!(summary, "1 table expected, 1 present");
}

async fn demo() -> Cluster {
    let options = setup::cluster_options(find_binaries().unwrap());
    let cluster = Cluster::start(&options).await.unwrap();
    let (admin, _) = setup::schema(&cluster, false).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    cluster
}

#[tokio::test]
async fn the_demo_meets_its_expectations_and_has_19_indexes() {
    let cluster = demo().await;
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = repo.join("examples/trading.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    // To explain a query, a role must have the privilege to run it.
    let gate = Gate::of_role(&cluster, &text, "pgrunway");
    let (code, out, _) = gate.verify(&[]).await;
    assert!(out.starts_with("pgrunway verify: UNCHECKED, 0 critical, "), "{out}");
    assert_eq!(code, 2);
    let (code, out, _) = gate.verify(&["--skip", "partition.pruning"]).await;
    assert!(out.starts_with("pgrunway verify: PASSED, 0 critical, "), "{out}");
    assert_eq!(code, 0);
    let owner = Gate::of_role(&cluster, &text, "postgres");
    let (code, out, err) = owner.verify(&[]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("pgrunway verify: PASSED, 0 critical, "), "{out}");
    assert!(out.contains("19 indexes expected, 19 present\n"), "{out}");
    assert!(out.contains("19 indexes of partitioned tables, 19 on every partition\n"), "{out}");
    assert!(out.contains("2 tables expected, 2 present\n"), "{out}");
    assert!(out.contains("2 queries planned\n"), "{out}");

    // What --init writes of it is held by it, and names as many.
    let (code, written, err) = gate.verify(&["--init", "--database", "trading"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(written.contains("--init: 19 indexes, which must"), "{written}");
    let again = Gate::of_role(&cluster, &written, "pgrunway");
    let (code, report) = again.json(&[]).await;
    assert_eq!(code, 0, "{report:#}");
    let summary = gate::summary(&report, "index.missing", "trading");
    assert_eq!(summary, "19 indexes expected, 19 present");
    // The example is what it wrote, and what no database can tell.
    for line in written.lines().filter(|line| !line.starts_with('#')) {
        assert!(text.contains(line), "{line:?} is not in the example");
    }

    // One index is gone: the gate closes, says how to bring it back, and that works.
    gate.sql("trading", "DROP INDEX idx_trades_seller_order").await;
    let (code, report) = again.json(&["--only", "index"]).await;
    assert_eq!(code, 1, "{report:#}");
    let found: Vec<_> =
        gate::found(&report).into_iter().filter(|(id, _)| id == "index.missing").collect();
    let want = ("index.missing".to_owned(), "public.trades.idx_trades_seller_order".to_owned());
    assert_eq!(found, [want]);
    let summary = gate::summary(&report, "index.missing", "trading");
    assert_eq!(summary, "19 indexes expected, 18 present");
    let (code, script, _) = again.verify(&["--only", "index.missing", "--format", "sql"]).await;
    assert_eq!(code, 1);
    assert!(script.contains("\\connect -reuse-previous=on \"dbname='trading'\""), "{script}");
    gate.sql("postgres", &script).await;
    let (code, report) = again.json(&["--only", "index"]).await;
    assert_eq!(code, 0, "{report:#}");
    let summary = gate::summary(&report, "index.partition_coverage", "trading");
    assert_eq!(summary, "19 indexes of partitioned tables, 19 on every partition");

    // No role of the exporter's is owner or superuser, and it wrote nothing.
    gate.sql(
        "trading",
        "DO $$ BEGIN ASSERT (SELECT NOT rolsuper FROM pg_roles WHERE rolname = 'pgrunway'); END $$",
    )
    .await;
}

#[tokio::test]
async fn what_init_writes_is_met_whatever_the_names_are() {
    let cluster = common::server().await;
    let gate = Gate::new(&cluster, "");
    gate.sql("postgres", "CREATE DATABASE \"it's: \"\"odd\"\" # 1\"").await;
    let odd = "it's: \"odd\" # 1";
    gate.sql(
        odd,
        "CREATE SCHEMA \"a.b\"; CREATE SCHEMA \"Größe\"; CREATE SCHEMA \"#yes\";
         CREATE TABLE \"Größe\".\"it's\" (\"A, b\" int PRIMARY KEY, c text COLLATE \"C\");
         CREATE UNIQUE INDEX \"no: \"\"x\"\"\" ON \"Größe\".\"it's\" (lower(c) DESC) WHERE c <> 'it''s';
         CREATE TABLE \"#yes\".\"null\" (a int, r int4range, EXCLUDE USING gist (r WITH &&));
         CREATE INDEX \"true\" ON \"#yes\".\"null\" (a) INCLUDE (r);
         CREATE INDEX E'tab\\tand\\nline' ON \"#yes\".\"null\" (a DESC);
         CREATE TABLE \"what?*\" (a int PRIMARY KEY);
         CREATE TABLE \"a.b\".c (a int PRIMARY KEY);
         CREATE TABLE days (d date NOT NULL) PARTITION BY RANGE (d);
         CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2000-01-01') TO ('2100-01-01');
         CREATE TABLE hashed (a int) PARTITION BY HASH (a);"
            .replace("E'tab\\tand\\nline'", "\"tab\tand\nline\"")
            .as_str(),
    )
    .await;
    let output = gate.path("expected.yml");
    let args = ["--init", "--output", &output, "--database", odd];
    let (code, out, err) = gate.verify(&args).await;
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let written = std::fs::read_to_string(&output).unwrap();
    // The table with wildcards in its name, and the schema with a dot, are there as comments.
    for why in ["`*` and `?` for wildcards", "before the first dot", "it has no runway"] {
        assert!(written.contains(why), "{why}: {written}");
    }
    assert!(written.contains("--init: 5 indexes, which must"), "{written}");
    let again = Gate::new(&cluster, &written);
    let (code, report) = again.json(&["--database", odd]).await;
    assert_eq!(code, 0, "{written}\n{report:#}");
    assert_eq!(gate::summary(&report, "index.missing", odd), "5 indexes expected, 5 present");
    assert_eq!(gate::summary(&report, "partition.missing", odd), "1 table expected, 1 present");
    // Drop them all, and what is printed brings them back.
    again
        .sql(
            odd,
            "DROP INDEX \"Größe\".\"no: \"\"x\"\"\", \"#yes\".\"true\", \"#yes\".\"tab\tand\nline\";
             ALTER TABLE \"#yes\".\"null\" DROP CONSTRAINT null_r_excl;
             ALTER TABLE \"Größe\".\"it's\" DROP CONSTRAINT \"it's_pkey\";",
        )
        .await;
    let (code, report) = again.json(&["--only", "index.missing"]).await;
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(gate::found(&report).len(), 5, "{report:#}");
    for (database, object, sql) in gate::fixes(&report) {
        assert!(!sql.contains('\t'), "{sql:?}");
        let (ok, said) = again.psql(&database, &sql).await;
        assert!(ok, "{object}: {said}\n{sql}");
    }
    let (code, report) = again.json(&["--only", "index.missing"]).await;
    assert_eq!(code, 0, "{report:#}");

    // An existing file is left alone.
    let (code, _, err) = gate.verify(&args).await;
    assert_eq!(code, 2);
    assert!(err.contains("cannot create") && err.contains("File exists"), "{err}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), written);
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_neither_passed_nor_failed() {
    let cluster = common::server().await;
    let expected = "
partitions:
- {table: public.gone, database: postgres, must_exist: true}
- {table: public.days, database: nowhere, must_exist: true}
verify:
  queries:
  - {name: unqualified, database: postgres, sql: SELECT * FROM secret}
  - {name: secret, database: postgres, sql: 'SELECT * FROM public.secret'}
  - {name: parameter, database: postgres, sql: 'SELECT $1::int'}
  - {name: two, database: postgres, sql: 'SELECT 1; DROP TABLE public.secret'}
  - {name: executed, database: postgres, sql: 'ANALYZE SELECT 1'}
  - {name: fine, database: postgres, sql: 'SELECT 1', max_partitions: 0}
";
    let gate = Gate::new(&cluster, expected);
    gate.sql("postgres", "CREATE TABLE secret (a int PRIMARY KEY); CREATE ROLE bare LOGIN").await;
    let (code, report) = gate.json(&["--with", "index.corrupt"]).await;
    // The failures are there although something could not be looked at.
    assert_eq!(code, 1, "{report:#}");
    let found = gate::found(&report);
    for (id, object) in [("partition.missing", "public.gone"), ("database.reachable", "nowhere")] {
        assert!(found.contains(&(id.to_owned(), object.to_owned())), "{found:?}");
    }
    let check = |id: &str, database: Option<&str>| {
        let all = report["checks"].as_array().unwrap();
        all.iter().find(|c| c["id"] == id && c["database"].as_str() == database).unwrap().clone()
    };
    let pruning = check("partition.pruning", Some("postgres"));
    assert_eq!(pruning["status"], "unchecked");
    assert_eq!(pruning["summary"], "1 query planned");
    let said = pruning["unchecked"].as_str().unwrap();
    for part in [
        "unqualified: query failed (SQLSTATE 42P01)",
        "write the names with their schema",
        "secret: permission denied: permission denied for table secret",
        "write values in the place of parameters",
        "two: query failed (SQLSTATE 42601): cannot insert multiple commands",
        "executed: query failed (SQLSTATE 42601)",
        "GRANT what is missing",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let corrupt = check("index.corrupt", Some("postgres"));
    assert!(corrupt["unchecked"].as_str().unwrap().contains("CREATE EXTENSION amcheck"));
    let skip = ["--skip", "partition.missing,database.reachable,settings"];
    let (code, report) = gate.json(&skip).await;
    assert_eq!((code, report["verdict"].as_str()), (2, Some("unchecked")), "{report:#}");
    let (code, out, _) = gate.verify(&skip).await;
    assert_eq!(code, 2);
    assert!(out.starts_with("pgrunway verify: UNCHECKED, 0 critical"), "{out}");
    assert!(out.contains("Could not be checked\n  partition.pruning in postgres\n"), "{out}");

    // A role with nothing.
    let bare = Gate::of_role(&cluster, "", "bare");
    let (code, report) = bare.json(&["--only", "settings.role"]).await;
    assert_eq!(code, 0, "a warning: {report:#}");
    for (database, _, sql) in gate::fixes(&report) {
        gate.sql(&database, &sql).await;
    }
    let (_, report) = bare.json(&["--only", "settings.role"]).await;
    assert_eq!(gate::found(&report), []);

    // No server at all, and no such check.
    let dead = [("DATA_SOURCE_NAME", "postgresql://mon:hunter2@127.0.0.1:1/postgres")];
    let (code, out, err) = common::process::run(&["verify"], &dead).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("cannot reach") && !err.contains("hunter2"), "{err}");
    for args in [["--only", "index.mising"], ["--skip", "index.misssing"], ["--with", "indx"]] {
        let (code, _, err) = gate.verify(&args).await;
        assert_eq!(code, 2);
        assert!(err.contains(args[0]) && err.contains("did you mean `index"), "{err}");
    }
}

#[tokio::test]
async fn a_locked_table_holds_up_nothing_else() {
    let cluster = common::server().await;
    let gate = Gate::new(&cluster, "");
    gate.sql(
        "postgres",
        "CREATE TABLE t (a int PRIMARY KEY, b int CHECK (b > 0) REFERENCES t);
         CREATE TABLE p (d date NOT NULL, PRIMARY KEY (d)) PARTITION BY RANGE (d);
         CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2000-01-01') TO ('2100-01-01');",
    )
    .await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("BEGIN; LOCK TABLE t, p IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (code, report) = gate.json(&[]).await;
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["counts"]["unchecked"], 0, "{report:#}");
    assert_eq!(gate::summary(&report, "index.invalid", "postgres"), "3 indexes checked");

    // What is found of it is still found; that its SQL cannot be made is said, after lock_timeout.
    let expected = "
indexes:
- {table: public.t, database: postgres, columns: b}
- {table: public.u, database: postgres, columns: b}
";
    let gate = Gate::new(&cluster, expected);
    gate.sql("postgres", "CREATE TABLE u (b int)").await;
    let (code, report) = gate.json(&["--only", "index.missing"]).await;
    assert_eq!(code, 1, "{report:#}");
    let check = &report["checks"].as_array().unwrap().last().unwrap()["findings"];
    assert!(check[0]["caution"].as_str().unwrap().starts_with("No SQL: the server gave up"));
    let sql = "'CREATE INDEX CONCURRENTLY u_b_idx ON public.u USING btree (b)'";
    assert!(check[1]["fix"][0].as_str().unwrap().contains(sql), "{report:#}");
    // What reads all data waits no longer either, and the rest is read.
    gate.sql("postgres", "CREATE EXTENSION amcheck").await;
    let superuser = Gate::of_role(&cluster, "", "postgres");
    let (code, report) = superuser.json(&["--only", "index.corrupt,constraint.foreign_key"]).await;
    assert_eq!(code, 2, "{report:#}");
    assert_eq!(gate::summary(&report, "index.corrupt", "postgres"), "0 B-tree indexes read");
}

#[tokio::test]
async fn nothing_to_look_into_is_no_pass() {
    let cluster = common::server().await;
    let gate = Gate::new(&cluster, "");
    for (args, code, said) in [
        (["--database", "nowhere", "--only", "index"], 1, "nowhere"),
        (["--databases.include", "nowhere", "--only", "index"], 2, "all are excluded"),
        (["--database", "nowhere", "--skip", "database,settings"], 0, "no database"),
    ] {
        let (got, out, err) = gate.verify(&args).await;
        assert_eq!(got, code, "{args:?}: {out}{err}");
        assert!(out.contains(said), "{args:?}: {out}");
    }
}

#[tokio::test]
async fn a_session_that_breaks_costs_one_check() {
    let cluster = common::server().await;
    let expected = "
verify:
  queries: [{name: fatal, database: postgres, sql: 'SELECT public.die()'}]
";
    let gate = Gate::new(&cluster, expected);
    // Worked out while it is planned, because it says that it is immutable.
    gate.sql(
        "postgres",
        "CREATE FUNCTION die() RETURNS boolean IMMUTABLE LANGUAGE sql
           AS 'SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())';",
    )
    .await;
    let (code, report) = gate.json(&[]).await;
    assert_eq!(code, 2, "{report:#}");
    assert_eq!(report["counts"]["unchecked"], 1, "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    let broken = checks.iter().find(|c| c["id"] == "partition.pruning").unwrap();
    let why = broken["unchecked"].as_str().unwrap();
    assert!(why.starts_with("the server ended the session"), "{broken:#}");
    let summary = gate::summary(&report, "constraint.not_valid", "postgres");
    assert_eq!(summary, "every constraint is validated");
}

#[tokio::test]
async fn a_standby_is_looked_at_for_what_it_knows() {
    let mut cluster = common::server().await;
    let gate = Gate::new(&cluster, "");
    gate.sql("postgres", "CREATE EXTENSION amcheck; CREATE TABLE t (a int PRIMARY KEY)").await;
    drop(gate);
    let standby = cluster.standby().await.unwrap();
    let gate = Gate::of_role(&standby, "", "postgres");
    let (code, report) = gate.json(&["--with", "index.corrupt"]).await;
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(gate::summary(&report, "index.corrupt", "postgres"), "1 B-tree index read");
    let skipped: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["skipped"].as_str().is_some_and(|why| why.contains("standby")))
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    let want = ["statistics.age", "statistics.load", "vacuum.age", "vacuum.wraparound"];
    assert_eq!(skipped, want);
}

#[tokio::test]
async fn recommendations_are_given_on_request_with_their_sql() {
    let cluster = common::server_with(&[("fsync", "off"), ("track_io_timing", "on")], &[]).await;
    let gate = Gate::new(&cluster, "host: {memory: 16GB}\n");
    let (_, report) = gate.json(&[]).await;
    let ids = |report: &serde_json::Value| -> Vec<String> {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(!ids(&report).contains(&"settings.fsync".to_owned()), "it was not asked for");
    // What was one check is one for each rule; its former id means them all.
    let (code, report) = gate.json(&["--only", "settings.recommended"]).await;
    assert_eq!(code, 1, "{report:#}");
    let found = gate::found(&report);
    let has = |rule: &str, object: &str| found.contains(&(rule.to_owned(), object.to_owned()));
    assert!(has("settings.fsync", "fsync"), "{found:?}");
    assert!(has("settings.shared_buffers", "shared_buffers"), "{found:?}");
    // Our own transactions have an end for it; the server has none.
    let idle = "idle_in_transaction_session_timeout";
    assert!(has("settings.idle_in_transaction", idle), "{found:?}");
    assert!(!ids(&report).contains(&"settings.track_io_timing".to_owned()), "{found:?}");
    assert!(ids(&report).contains(&"connections.pool".to_owned()), "{found:?}");
    let text = report.to_string();
    assert!(text.contains("ALTER SYSTEM SET shared_buffers = '4GB';"), "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    let work_mem = checks.iter().find(|c| c["id"] == "settings.work_mem").unwrap();
    assert_eq!(work_mem["status"], "skipped", "not judged after so short a time: {report:#}");
    let (code, report) = gate.json(&["--only", "settings.idle_in_transaction"]).await;
    assert_eq!(code, 0, "{report:#}");
    for (database, _, sql) in gate::fixes(&report) {
        gate.sql(&database, &sql).await;
    }
    let (_, report) = gate.json(&["--only", "settings.idle_in_transaction"]).await;
    assert_eq!(gate::found(&report), []);
}

#[tokio::test]
async fn former_ids_select_and_are_warned_of_once() {
    let cluster = common::server().await;
    let gate = Gate::new(&cluster, "");
    let (code, out, err) = gate.verify(&["--only", "indexes.unused,partitions.runway"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("index.unused") && out.contains("partition.runway"), "{out}");
    assert!(!out.contains("index.invalid"), "{out}");
    for (former, now) in
        [("indexes.unused", "index.unused"), ("partitions.runway", "partition.runway")]
    {
        let said = format!("--only {former}: the id is {now} now");
        assert_eq!(err.matches(&said).count(), 1, "{err}");
    }
    let (code, _, err) = gate.verify(&["--only", "index.unused", "--fail-on", "error"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
}
