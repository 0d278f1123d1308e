//! What `pgrunway plan` prints is run by psql, twice, and then the runway is what was asked for.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "plan/checked.rs"]
mod checked;
mod common;
#[path = "plan/layouts.rs"]
mod layouts;
mod promql;
#[path = "plan/tester.rs"]
mod tester;

use std::collections::{BTreeSet, HashSet};

use common::process::run;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::cmd::demo::setup;
use tester::{Tester, database};

#[tokio::test]
async fn each_rhythm_is_continued_under_its_names() {
    let cluster = common::server().await;
    let admin = database(&cluster, "utc", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "utc", admin: &admin };
    // Table, DDL, days, pattern of its names, rhythm as told.
    for (table, ddl, days, pattern, rhythm) in [
        (
            "daily",
            "CREATE TABLE daily (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
             CALL spans('daily', today(-3), today(4), '1 day', '\"daily_\"YYYY_MM_DD')",
            30,
            "\"daily_\"YYYY_MM_DD",
            "daily in UTC",
        ),
        (
            "hourly",
            "CREATE TABLE hourly (ts timestamptz, id int) PARTITION BY RANGE (ts, id);
             CREATE TABLE hourly_0 PARTITION OF hourly FOR VALUES FROM (MINVALUE, MINVALUE)
               TO ('2001-01-01', MINVALUE);
             DO $$ BEGIN FOR h IN 0..30 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF hourly FOR VALUES FROM (%L, MINVALUE) TO (%L, MINVALUE)',
                 to_char(today() + make_interval(hours => h), '\"hourly_p\"YYYYMMDD_HH24\"00\"'),
                 today() + make_interval(hours => h), today() + make_interval(hours => h + 1));
             END LOOP; END $$",
            3,
            "",
            "hourly in UTC",
        ),
        (
            "weekly",
            "CREATE TABLE weekly (d date) PARTITION BY RANGE (d);
             CALL spans('weekly', date_trunc('week', today(-21)), today(8), '7 days', '\"weekly_p\"IYYY\"w\"IW')",
            90,
            "\"weekly_p\"IYYY\"w\"IW",
            "weekly in the writer's local time",
        ),
        (
            "quarterly",
            "CREATE TABLE quarterly (ts timestamp) PARTITION BY RANGE (ts);
             CALL spans('quarterly', date_trunc('quarter', month(-9)), month(1), '3 months', '\"quarterly_\"YYYY\"q\"Q')",
            400,
            "\"quarterly_\"YYYY\"q\"Q",
            "quarterly in",
        ),
        (
            "yearly",
            "CREATE TABLE yearly (d date) PARTITION BY RANGE (d);
             CALL spans('yearly', date_trunc('year', today(-800)), today(), '1 year', '\"y\"YYYY')",
            1000,
            "\"y\"YYYY",
            "yearly in",
        ),
        (
            // Long expired, and a wide one before the rhythm.
            "expired",
            "CREATE TABLE expired (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE expired_old PARTITION OF expired FOR VALUES FROM ('2001-01-01') TO ('2020-01-01');
             CALL spans('expired', month(-7), month(-3), '1 month', '\"expired_\"YYYYMM')",
            45,
            "",
            "monthly in UTC",
        ),
        (
            // A gap behind, which stays, and two ahead.
            "gaps",
            "CREATE TABLE gaps (ts timestamp) PARTITION BY RANGE (ts);
             CALL spans('gaps', today(-9), today(-6), '1 day', '\"gaps_\"YYYY_MM_DD');
             CALL spans('gaps', today(-3), today(2), '1 day', '\"gaps_\"YYYY_MM_DD');
             CALL spans('gaps', today(3), today(5), '1 day', '\"gaps_\"YYYY_MM_DD');
             CALL spans('gaps', today(7), today(9), '1 day', '\"gaps_\"YYYY_MM_DD')",
            20,
            "\"gaps_\"YYYY_MM_DD",
            "daily in",
        ),
        (
            "future",
            "CREATE TABLE future (ts timestamptz) PARTITION BY RANGE (ts);
             CALL spans('future', today(5), today(9), '1 day', '\"future_\"YYYY_MM_DD')",
            20,
            "\"future_\"YYYY_MM_DD",
            "daily in UTC",
        ),
        (
            "listed",
            "CREATE TABLE listed (d date) PARTITION BY LIST (d);
             DO $$ BEGIN FOR i IN -2..2 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF listed FOR VALUES IN (%L)',
                 to_char(today(i), '\"listed_\"YYYYMMDD'), today(i)::date);
             END LOOP; END $$",
            10,
            "",
            "daily in",
        ),
        (
            "expression",
            "CREATE TABLE expression (ts timestamptz) PARTITION BY RANGE (((ts AT TIME ZONE 'Asia/Tokyo')::date));
             CALL spans('expression', today(-2), today(3), '1 day', '\"expression_\"YYYY_MM_DD');
             CREATE TABLE expression_d PARTITION OF expression DEFAULT",
            10,
            "\"expression_\"YYYY_MM_DD",
            "daily in",
        ),
    ] {
        t.sql(ddl).await;
        let script = t.extend(table, days, &[]).await;
        assert!(script.contains(&format!(": {rhythm}")), "{script}");
        assert!(!script.contains("No pattern reproduces") && !script.contains("WARNING: the name"), "{script}");
        if !pattern.is_empty() {
            assert_eq!(t.misnamed(table, pattern).await, Vec::<String>::new(), "{script}");
        }
    }
    let gap = t.texts("SELECT relname::text FROM pg_class WHERE relname = to_char(today(-5), '\"gaps_\"YYYY_MM_DD')");
    assert_eq!(gap.await, Vec::<String>::new(), "a gap that is over is left");
    let hours = t.texts("SELECT c.relname::text FROM pg_class c WHERE relname = to_char(today(2), '\"hourly_p\"YYYYMMDD_HH24\"00\"')");
    assert_eq!(hours.await.len(), 1);
    let days = t.texts("SELECT c.relname::text FROM pg_class c WHERE relname = to_char(today(9), '\"listed_\"YYYYMMDD')");
    assert_eq!(days.await.len(), 1);
    let months = t.texts("SELECT c.relname::text FROM pg_class c WHERE relname = to_char(month(1), '\"expired_\"YYYYMM')");
    assert_eq!(months.await.len(), 1);
}

/// Tables whose integer or UUID key holds a time, five days of them, named by the day.
const NUMBERS: &str = r#"
CREATE FUNCTION v7(at timestamptz) RETURNS text LANGUAGE sql AS
  'SELECT regexp_replace(lpad(to_hex((extract(epoch FROM at) * 1000)::int8), 12, ''0''),
                         ''(.{8})(.{4})'', ''\1-\2-7000-8000-000000000000'')';
CREATE TABLE s (at int4) PARTITION BY RANGE (at);
CREATE TABLE ms (at int8, id int) PARTITION BY RANGE (at, id);
CREATE TABLE ns (at int8) PARTITION BY RANGE (at);
CREATE TABLE day (at int4) PARTITION BY RANGE (at);
CREATE TABLE days (at int4) PARTITION BY LIST (at);
CREATE TABLE v7 (at uuid) PARTITION BY RANGE (at);
DO $$ DECLARE a timestamptz; b timestamptz; BEGIN FOR i IN -2..2 LOOP
  a := today(i); b := today(i + 1);
  EXECUTE format('CREATE TABLE %I PARTITION OF s FOR VALUES FROM (%s) TO (%s)',
    to_char(a, '"s_"YYYYMMDD'), extract(epoch FROM a)::int8, extract(epoch FROM b)::int8);
  EXECUTE format('CREATE TABLE %I PARTITION OF ms FOR VALUES FROM (%s, MINVALUE) TO (%s, MINVALUE)',
    to_char(a, '"ms_"YYYYMMDD'), extract(epoch FROM a)::int8 * 1000, extract(epoch FROM b)::int8 * 1000);
  EXECUTE format('CREATE TABLE %I PARTITION OF ns FOR VALUES FROM (%s) TO (%s)',
    to_char(a, '"ns_"YYYYMMDD'), extract(epoch FROM a)::int8 * 1000000000, extract(epoch FROM b)::int8 * 1000000000);
  EXECUTE format('CREATE TABLE %I PARTITION OF day FOR VALUES FROM (%s) TO (%s)',
    to_char(a, '"day_"YYYYMMDD'), to_char(a, 'YYYYMMDD'), to_char(b, 'YYYYMMDD'));
  EXECUTE format('CREATE TABLE %I PARTITION OF days FOR VALUES IN (%s)',
    to_char(a, '"days_"YYYYMMDD'), to_char(a, 'YYYYMMDD'));
  EXECUTE format('CREATE TABLE %I PARTITION OF v7 FOR VALUES FROM (%L) TO (%L)',
    to_char(a, '"v7_"YYYYMMDD'), v7(a), v7(b));
END LOOP; END $$;
CREATE TABLE s_rest PARTITION OF s DEFAULT;
INSERT INTO s SELECT extract(epoch FROM today(5))::int4 + 7"#;

#[tokio::test]
async fn numbers_and_uuids_that_hold_a_time_go_on_in_their_unit() {
    let cluster = common::server().await;
    let admin = database(&cluster, "numbers", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "numbers", admin: &admin };
    t.sql(NUMBERS).await;
    for table in ["s", "ms", "ns", "day", "days", "v7"] {
        // Two months, so that every month's end is met by yyyymmdd.
        let script = t.extend(table, 62, &[]).await;
        assert!(script.contains(": daily in"), "{script}");
        assert!(script.contains(&format!("Names follow {table}_YYYYMMDD")), "{script}");
        let sql = format!(
            "SELECT relname::text FROM pg_class WHERE relname = to_char(today(62), '\"{table}_\"YYYYMMDD')"
        );
        assert_eq!(t.texts(&sql).await.len(), 1, "{script}");
    }
    let sql = "SELECT tableoid::regclass::text = to_char(today(5), '\"s_\"YYYYMMDD') FROM s";
    let moved: bool = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert!(moved, "the row of the DEFAULT");
}

#[tokio::test]
async fn zones_and_clock_changes_are_kept() {
    let cluster = common::server().await;
    let admin = database(&cluster, "berlin", "Europe/Berlin").await;
    let t = Tester { cluster: &cluster, datname: "berlin", admin: &admin };
    t.sql(
        "CREATE TABLE instants (ts timestamptz) PARTITION BY RANGE (ts);
         CALL spans('instants', today(-3), today(4), '1 day', '\"instants_\"YYYY_MM_DD');
         CREATE TABLE local (ts timestamp) PARTITION BY RANGE (ts);
         CALL spans('local', month(-2), month(1), '1 month', '\"local_\"YYYY_MM');
         CREATE TABLE hours (ts timestamptz) PARTITION BY RANGE (ts);
         DO $$ DECLARE at timestamptz := date_trunc('hour', now()); BEGIN FOR h IN 0..4 LOOP
           EXECUTE format('CREATE TABLE %I PARTITION OF hours FOR VALUES FROM (%L) TO (%L)',
             to_char(at AT TIME ZONE 'UTC', '\"hours_\"YYYYMMDDHH24'), at, at + interval '1 hour');
           at := at + interval '1 hour';
         END LOOP; END $$",
    )
    .await;
    // A year meets both changes.
    let script = t.extend("instants", 366, &[]).await;
    assert!(script.contains(": daily in Europe/Berlin"), "{script}");
    assert_eq!(t.misnamed("instants", "\"instants_\"YYYY_MM_DD").await, Vec::<String>::new());
    let lengths = t.texts(
        "SELECT DISTINCT ((substring(b, 'TO \\(''([^'']+)''')::timestamptz \
                - substring(b, 'FROM \\(''([^'']+)''')::timestamptz))::text \
           FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS b FROM pg_inherits i \
                   JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'instants'::regclass) x \
          ORDER BY 1",
    );
    assert_eq!(lengths.await, ["1 day", "1 day 01:00:00", "23:00:00"]);
    let script = t.extend("local", 100, &[]).await;
    assert!(script.contains("those of Europe/Berlin"), "{script}");
    assert_eq!(t.misnamed("local", "\"local_\"YYYY_MM").await, Vec::<String>::new());
    let script = t.extend("hours", 2, &[]).await;
    assert!(
        script.contains(": hourly in UTC") && script.contains("hours_YYYYMMDDHH24"),
        "{script}"
    );
}

#[tokio::test]
async fn rows_of_a_default_are_moved_out_of_the_way() {
    let cluster = common::server().await;
    let admin = database(&cluster, "shop", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "shop", admin: &admin };
    t.sql(
        "CREATE TABLE empty (ts timestamptz PRIMARY KEY) PARTITION BY RANGE (ts);
         CALL spans('empty', today(-2), today(2), '1 day', '\"empty_\"YYYY_MM_DD');
         CREATE TABLE empty_rest PARTITION OF empty DEFAULT;
         CREATE TABLE \"in way\" (id int GENERATED ALWAYS AS IDENTITY, \"At\" timestamptz NOT NULL,
           note text, twice int GENERATED ALWAYS AS (length(note) * 2) STORED, PRIMARY KEY (id, \"At\"))
           PARTITION BY RANGE (\"At\");
         CALL spans('\"in way\"', today(-2), today(2), '1 day', '\"in way \"YYYY_MM_DD');
         CREATE TABLE \"the rest\" (twice int, note text, id int NOT NULL, \"At\" timestamptz NOT NULL);
         DROP TABLE \"the rest\";
         CREATE TABLE \"the rest\" PARTITION OF \"in way\" DEFAULT;
         INSERT INTO \"in way\" (\"At\", note) SELECT today(i), 'n' || i FROM generate_series(-5, 9) i;
         ANALYZE \"the rest\";
         CREATE TABLE referenced (ts timestamptz PRIMARY KEY) PARTITION BY RANGE (ts);
         CALL spans('referenced', today(-2), today(2), '1 day', '\"referenced_\"YYYY_MM_DD');
         CREATE TABLE referenced_rest PARTITION OF referenced DEFAULT;
         CREATE TABLE refers (ts timestamptz REFERENCES referenced);
         INSERT INTO referenced VALUES (today(-9));
         INSERT INTO refers VALUES (today(-9))",
    )
    .await;
    let script = t.extend("empty", 10, &[]).await;
    assert!(script.contains("WARNING: public.empty_rest is its DEFAULT"), "{script}");
    assert!(
        script.contains("--   SELECT count(*) FROM public.empty_rest WHERE ts >= "),
        "{script}"
    );
    assert_eq!(t.misnamed("empty", "\"empty_\"YYYY_MM_DD").await, Vec::<String>::new());

    // Plainly creating one fails, which is why the rest is there.
    let plain = format!(
        "CREATE TABLE x PARTITION OF \"in way\" FOR VALUES FROM ('{0}') TO ('{1}')",
        t.texts("SELECT today(5)::text").await[0],
        t.texts("SELECT today(6)::text").await[0]
    );
    assert!(admin.batch_execute(&plain).await.is_err());
    let before =
        t.texts("SELECT id || ' ' || \"At\" || note || twice FROM \"in way\" ORDER BY id").await;
    let script = t.extend("\"in way\"", 6, &[]).await;
    assert!(script.contains("contains about 11 rows"), "{script}");
    let after =
        t.texts("SELECT id || ' ' || \"At\" || note || twice FROM \"in way\" ORDER BY id").await;
    assert_eq!(before, after, "no row is lost or changed");
    // 3 before, and those at 7, 8 and 9 days: 6 days from now are in the seventh.
    let left = t.texts("SELECT note FROM \"the rest\" ORDER BY \"At\"").await;
    assert_eq!(left, ["n-5", "n-4", "n-3", "n7", "n8", "n9"]);

    // A foreign key refers to the rows, and is not asked.
    t.sql("INSERT INTO referenced SELECT today(i) FROM generate_series(3, 4) i; INSERT INTO refers SELECT today(4)").await;
    let script = t.extend("referenced", 6, &[]).await;
    assert!(script.contains("a superuser if rows are in"), "{script}");
    assert_eq!(t.texts("SELECT count(*)::text FROM refers").await, ["2"]);
    assert_eq!(t.texts("SELECT count(*)::text FROM referenced_rest").await, ["1"]);
}

#[tokio::test]
async fn levels_below_are_made_like_those_of_the_newest() {
    let cluster = common::server().await;
    let admin = database(&cluster, "trees", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "trees", admin: &admin };
    // Time over list with a DEFAULT, whose names begin with their parent's, and whose do not.
    t.sql(
        "CREATE TABLE ev (ts timestamptz, region text) PARTITION BY RANGE (ts);
         CALL spans('ev', month(-1), month(1), '1 month', '\"ev_\"YYYY_MM', 'PARTITION BY LIST (region)');
         DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits
              WHERE inhparent = 'ev'::regclass LOOP
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (''eu'', ''it''''s'', NULL)', p || '_eu', p);
           EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', replace(p, 'ev_', 'ev_rest_'), p);
         END LOOP; END $$",
    )
    .await;
    let script = t.extend("ev", 70, &[]).await;
    assert!(script.contains("BEGIN;") && script.contains("PARTITION BY LIST (region)"), "{script}");
    for (n, pattern) in [(2, "\"ev_\"YYYY_MM\"_eu\""), (2, "\"ev_rest_\"YYYY_MM")] {
        let sql = format!(
            "SELECT relname::text FROM pg_class WHERE relname = to_char(month({n}), '{pattern}')"
        );
        assert_eq!(t.texts(&sql).await.len(), 1, "{pattern}: {script}");
    }
    // List over time: each has its own.
    t.sql(
        "CREATE TABLE li (region text, ts timestamptz) PARTITION BY LIST (region);
         CREATE TABLE li_eu PARTITION OF li FOR VALUES IN ('eu') PARTITION BY RANGE (ts);
         CREATE TABLE li_us PARTITION OF li FOR VALUES IN ('us') PARTITION BY RANGE (ts);
         CREATE TABLE li_rest PARTITION OF li DEFAULT;
         CALL spans('li_eu', today(-1), today(3), '1 day', '\"li_eu_\"YYYYMMDD');
         CALL spans('li_us', month(-1), month(1), '1 month', '\"li_us_\"YYYYMM')",
    )
    .await;
    t.extend("li", 40, &[]).await;
    assert_eq!(t.misnamed("li_eu", "\"li_eu_\"YYYYMMDD").await, Vec::<String>::new());
    assert_eq!(t.misnamed("li_us", "\"li_us_\"YYYYMM").await, Vec::<String>::new());
    // Hash below time.
    t.sql(
        "CREATE TABLE ha (ts timestamptz, id int) PARTITION BY RANGE (ts);
         CALL spans('ha', today(-1), today(2), '1 day', '\"ha_\"YYYYMMDD', 'PARTITION BY HASH (id)');
         DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits
              WHERE inhparent = 'ha'::regclass LOOP FOR i IN 0..2 LOOP
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (modulus 3, remainder %s)', p || '_h' || i, p, i);
         END LOOP; END LOOP; END $$",
    )
    .await;
    t.extend("ha", 5, &[]).await;
    let made = t.texts("SELECT relname::text FROM pg_class WHERE relname LIKE to_char(today(4), '\"ha_\"YYYYMMDD\"\\_h_\"') ORDER BY 1");
    assert_eq!(made.await.len(), 3);
    // Year over day: days of this year, then a new year with its first days.
    t.sql(
        "CREATE TABLE yd (d date) PARTITION BY RANGE (d);
         CALL spans('yd', date_trunc('year', today(-366)), today(), '1 year', '\"yd_\"YYYY', 'PARTITION BY RANGE (d)');
         DO $$ DECLARE p text; y timestamp := date_trunc('year', today()); BEGIN
           EXECUTE format('CALL spans(%L, today(-1), today(1), ''1 day'', ''\"yd_\"YYYY_MM_DD'')', to_char(y, '\"yd_\"YYYY'));
         EXCEPTION WHEN OTHERS THEN
           EXECUTE format('CALL spans(%L, %L, today(1), ''1 day'', ''\"yd_\"YYYY_MM_DD'')', to_char(y, '\"yd_\"YYYY'), y);
         END $$",
    )
    .await;
    t.extend("yd", 60, &[]).await;
}

#[tokio::test]
async fn names_places_and_parameters_are_the_newests() {
    let cluster = common::server().await;
    let admin = database(&cluster, "places", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "places", admin: &admin };
    t.sql("SET allow_in_place_tablespaces = on").await;
    t.sql("CREATE TABLESPACE \"Fast disk\" LOCATION ''").await;
    let long = format!("{}_end", "x".repeat(52));
    t.sql(&format!(
        "CREATE SCHEMA \"Odd.Schema\"; CREATE SCHEMA other;
         CREATE TABLE \"Odd.Schema\".\"Ta\"\"ble\" (\"T s\" timestamptz) PARTITION BY RANGE (\"T s\");
         DO $$ BEGIN FOR i IN -1..1 LOOP
           EXECUTE format('CREATE TABLE \"Odd.Schema\".%I PARTITION OF \"Odd.Schema\".\"Ta\"\"ble\" FOR VALUES FROM (%L) TO (%L)',
             to_char(today(i), '\"It''s \"YYYY-MM-DD'), today(i), today(i + 1));
         END LOOP; END $$;
         CREATE TABLE \"order\" (ts timestamptz, id int, big text) PARTITION BY RANGE (ts);
         CALL spans('\"order\"', today(-1), today(1), '1 day', '\"order_\"YYYY_MM_DD');
         DO $$ BEGIN EXECUTE format(
           'CREATE UNLOGGED TABLE other.%I PARTITION OF \"order\" FOR VALUES FROM (%L) TO (%L)
              WITH (fillfactor = 70, toast.autovacuum_enabled = false) TABLESPACE \"Fast disk\"',
           to_char(today(1), '\"order_\"YYYY_MM_DD'), today(1), today(2)); END $$;
         CREATE TABLE {long} (ts timestamptz) PARTITION BY RANGE (ts);
         CALL spans('{long}', today(-1), today(2), '1 day', '\"p_\"YYYYMMDD');
         CREATE TABLE {long}2 (ts timestamptz) PARTITION BY RANGE (ts);
         CREATE TABLE a1 PARTITION OF {long}2 FOR VALUES FROM (MINVALUE) TO ('2001-01-01');
         CREATE TABLE red PARTITION OF {long}2 FOR VALUES FROM ('2001-01-01') TO ('2011-01-01');
         CREATE TABLE blue PARTITION OF {long}2 FOR VALUES FROM ('2011-01-01') TO ('2021-01-01');
         CREATE TABLE taken (ts timestamptz) PARTITION BY RANGE (ts);
         CALL spans('taken', today(-1), today(2), '1 day', '\"taken_\"YYYYMMDD');
         DO $$ BEGIN EXECUTE format('CREATE TABLE %I (x int)', to_char(today(3), '\"taken_\"YYYYMMDD')); END $$"
    ))
    .await;
    let script = t.extend("\"Odd.Schema\".\"Ta\"\"ble\"", 5, &[]).await;
    assert!(script.contains("(LIKE \"Odd.Schema\".\"It's "), "{script}");
    let sql = "SELECT relname::text FROM pg_class WHERE relname = to_char(today(4), '\"It''s \"YYYY-MM-DD')";
    assert_eq!(t.texts(sql).await.len(), 1);

    let script = t.extend("\"order\"", 5, &[]).await;
    let sql = "SELECT n.nspname || ' ' || s.spcname || ' ' || c.relpersistence::text || ' ' || c.reloptions::text \
               || ' ' || x.reloptions::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 JOIN pg_class x ON x.oid = c.reltoastrelid JOIN pg_tablespace s ON s.oid = c.reltablespace \
                WHERE c.relname = to_char(today(4), '\"order_\"YYYY_MM_DD')";
    assert_eq!(
        t.texts(sql).await,
        ["other Fast disk u {fillfactor=70} {autovacuum_enabled=false}"],
        "{script}"
    );

    t.extend(&long, 5, &[]).await;
    assert_eq!(t.misnamed(&long, "\"p_\"YYYYMMDD").await, Vec::<String>::new());
    let (code, script, err) = t.plan(&format!("{long}2"), 5, &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        script.contains("every 10 years") && script.contains("No pattern reproduces"),
        "{script}"
    );
    let script = t.extend(&format!("{long}2"), 3000, &[]).await;
    // The parent's name is cut, the date is not.
    let cut = &format!("{long}2")[..53];
    assert!(script.contains(&format!("public.{cut}_p20210101 ")), "{script}");

    let script = t.extend("taken", 6, &[]).await;
    let name = t.texts("SELECT to_char(today(3), '\"taken_\"YYYYMMDD')").await[0].clone();
    assert!(script.contains(&format!("WARNING: the name {name} is taken")), "{script}");
    assert!(script.contains(&format!("public.{name}_2 (LIKE")), "{script}");
}

#[tokio::test]
async fn what_is_old_goes_and_nothing_else() {
    let cluster = common::server().await;
    let admin = database(&cluster, "old", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "old", admin: &admin };
    t.sql(
        "CREATE TABLE tr (ts timestamptz) PARTITION BY RANGE (ts);
         CALL spans('tr', today(-40), today(3), '1 day', '\"tr_\"YYYY_MM_DD');
         INSERT INTO tr SELECT today(i) FROM generate_series(-40, 2) i;
         CREATE TABLE de (region text, ts timestamptz) PARTITION BY LIST (region);
         CREATE TABLE de_eu PARTITION OF de FOR VALUES IN ('eu') PARTITION BY RANGE (ts);
         CALL spans('de_eu', today(-40), today(3), '1 day', '\"de_eu_\"YYYY_MM_DD');
         CREATE TABLE de_eu_rest PARTITION OF de_eu DEFAULT;
         INSERT INTO de SELECT 'eu', today(i) FROM generate_series(-40, 9) i",
    )
    .await;
    // Ended 30 days ago or earlier: those that began 31 days ago or earlier.
    let script = t.extend("tr", 10, &["--retire", "30"]).await;
    let version: i32 = t.texts("SHOW server_version_num").await[0].parse().unwrap();
    let concurrently = if version >= 140_000 { 10 } else { 0 };
    assert_eq!(script.matches("CALL pg_temp.pgrunway_drop(").count(), 10, "{script}");
    assert_eq!(script.matches("SELECT * FROM pg_temp.pgrunway_detach(").count(), 2 * concurrently);
    assert!(script.contains("8192 bytes: FOR VALUES FROM"), "{script}");
    assert_eq!(
        t.texts("SELECT min(ts)::text FROM tr").await,
        t.texts("SELECT today(-30)::timestamptz::text").await
    );
    assert_eq!(t.count("tr").await, 30 + 11);
    let left = t.texts("SELECT relname::text FROM pg_class WHERE relname < to_char(today(-30), '\"tr_\"YYYY_MM_DD') AND relname LIKE 'tr\\_%'");
    assert_eq!(left.await, Vec::<String>::new(), "dropped, not only detached");

    let script = t.extend("de", 5, &["--retire", "30"]).await;
    assert!(!script.contains("SELECT * FROM pg_temp.pgrunway_detach("), "{script}");
    assert_eq!(t.count("de_eu").await, 30 + 6 + 1);
    assert_eq!(
        t.texts("SELECT min(ts)::text FROM de").await,
        t.texts("SELECT today(-30)::timestamptz::text").await
    );
    assert_eq!(
        t.texts("SELECT ts::text FROM de_eu_rest ORDER BY 1").await.len(),
        4,
        "6 to 9 days ahead"
    );
}

#[tokio::test]
async fn what_cannot_be_planned_says_why() {
    let cluster = common::server().await;
    let admin = database(&cluster, "no", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "no", admin: &admin };
    t.sql(
        "CREATE TABLE by_id (id int8) PARTITION BY RANGE (id);
         CREATE TABLE by_id_0 PARTITION OF by_id FOR VALUES FROM (0) TO (1000);
         CREATE TABLE by_text (id text) PARTITION BY RANGE (id);
         CREATE TABLE none (ts timestamptz) PARTITION BY RANGE (ts);
         CREATE TABLE swallow (ts date) PARTITION BY RANGE (ts);
         CREATE TABLE swallow_all PARTITION OF swallow DEFAULT;
         CREATE TABLE chaos (ts timestamptz) PARTITION BY RANGE (ts);
         CREATE TABLE chaos_1 PARTITION OF chaos FOR VALUES FROM ('2026-01-01') TO ('2026-01-03');
         CREATE TABLE chaos_2 PARTITION OF chaos FOR VALUES FROM ('2026-01-03') TO ('2026-01-08');
         CREATE TABLE li (region text, ts timestamptz) PARTITION BY LIST (region);
         CREATE TABLE li_empty PARTITION OF li FOR VALUES IN ('eu') PARTITION BY RANGE (ts);
         CREATE TABLE minutes (ts timestamptz) PARTITION BY RANGE (ts);
         DO $$ BEGIN FOR i IN 0..2 LOOP EXECUTE format('CREATE TABLE minutes_%s PARTITION OF minutes
           FOR VALUES FROM (%L) TO (%L)', i, today() + i * interval '1 min', today() + (i + 1) * interval '1 min');
         END LOOP; END $$;
         CREATE TABLE plain (ts timestamptz)",
    )
    .await;
    for (table, said) in [
        ("by_id", "the bounds of its integer key do not show a unit of time"),
        ("by_text", "its key is not a time"),
        ("none", "no partition with a beginning and an end"),
        ("swallow", "public.swallow has no partition with"),
        ("chaos", "the 2 partitions of public.chaos have no regular interval"),
        ("li", "li_empty has no partition with"),
        ("minutes", "more than 10000"),
        ("plain", "public.plain in database no is not a partitioned table"),
        ("li_empty", "is itself a partition: plan public.li"),
        ("chaso", "no partitioned table chaso, but public.chaos in database no"),
        ("public.mintues", "public.minutes"),
    ] {
        let (code, out, err) = t.plan(table, 30, &[]).await;
        assert_eq!((code, out.as_str()), (1, ""), "{table}: {err}");
        assert!(err.contains(said), "{table}: {err}");
    }
    let (code, _, err) = t.plan("by_id", 0, &[]).await;
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = run(
        &["plan", "x", "--days", "3", "--database", "nowhere"],
        &[("DATA_SOURCE_NAME", cluster.uri("mon", "postgres").as_str())],
    )
    .await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("nowhere"), "{err}");
}

#[tokio::test]
async fn the_tables_of_the_demo() {
    for expire in [false, true] {
        let binaries = pgrunway::cmd::cluster::find_binaries().unwrap();
        let cluster = Cluster::start(&setup::cluster_options(binaries)).await.unwrap();
        setup::schema(&cluster, expire).await.unwrap();
        let admin = common::admin(&cluster, setup::DATABASE).await;
        admin
            .batch_execute("CREATE ROLE mon LOGIN PASSWORD 'mon'; GRANT pg_monitor TO mon; GRANT CONNECT ON DATABASE trading TO mon")
            .await
            .unwrap();
        let t = Tester { cluster: &cluster, datname: setup::DATABASE, admin: &admin };
        let script = t.extend("trades", 60, &[]).await;
        assert!(
            script.contains("daily in UTC") && script.contains("trades_YYYY_MM_DD"),
            "{script}"
        );
        assert_eq!(t.misnamed("trades", "\"trades_\"YYYY_MM_DD").await, Vec::<String>::new());
        let script = t.extend("orders", 180, &[]).await;
        assert!(script.contains("monthly in UTC") && script.contains("orders_YYYY_MM"), "{script}");
        assert_eq!(t.misnamed("orders", "\"orders_\"YYYY_MM").await, Vec::<String>::new());
        let names = t.texts("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE 'orders\\_%'").await;
        assert_eq!(names.len(), names.iter().collect::<HashSet<_>>().len());
    }
}

#[tokio::test]
async fn what_the_page_on_maintenance_tells_works() {
    let page = std::fs::read_to_string(promql::repo("docs/maintenance.md")).unwrap();
    let expressions: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.contains("pg_partition_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(expressions.len(), 2);
    expressions.iter().for_each(|line| promql::assert_exported("maintenance.md", line, &[]));
    promql::assert_parse(&expressions);

    let calls: BTreeSet<&str> = page
        .match_indices("SELECT public.")
        .map(|(at, _)| &page[at..at + page[at..].find(')').unwrap() + 1])
        .collect();
    assert_eq!(calls.len(), 3, "{calls:?}");
    let binaries = pgrunway::cmd::cluster::find_binaries().unwrap();
    let cluster = Cluster::start(&setup::cluster_options(binaries)).await.unwrap();
    setup::schema(&cluster, true).await.unwrap();
    let admin = common::admin(&cluster, setup::DATABASE).await;
    for call in calls {
        admin.batch_execute(call).await.unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
}
