//! What `pgrunway plan --retire` prints, through psql: what is old goes, and nothing else, whatever happens
//! in between.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;
#[path = "plan/tester.rs"]
#[allow(dead_code, reason = "tests/plan.rs uses the rest")]
mod tester;

use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use tester::{Tester, database};
use tokio_postgres::Client;

impl Tester<'_> {
    /// The script that retires what is as old as `age`.
    async fn retire(&self, table: &str, age: &str) -> String {
        let uri = self.cluster.uri("mon", "postgres");
        let args = ["plan", table, "--retire", age, "--database", self.datname];
        let (code, script, err) = common::process::run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
        assert_eq!(code, 0, "{table}: {err}");
        script
    }

    async fn number(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    async fn version(&self) -> i64 {
        self.number("SELECT current_setting('server_version_num')::int8").await
    }
}

/// Tables whose rows know how old they are (`at`), with keys of every kind that holds a time; writers are in
/// Los Angeles. Each has partitions from four days ago on.
const KEYS: &str = r#"
CREATE FUNCTION v7(at timestamptz) RETURNS uuid LANGUAGE sql AS
  $$SELECT (regexp_replace(lpad(to_hex((extract(epoch FROM at) * 1000)::int8), 12, '0'),
                          '(.{8})(.{4})', '\1-\2-7000-8000-000000000000'))::uuid$$;
CREATE TABLE hourly (at timestamptz, id int) PARTITION BY RANGE (at);
CREATE TABLE two (at timestamptz, id int) PARTITION BY RANGE (at, id);
CREATE TABLE day_two (at timestamptz, d date, id int) PARTITION BY RANGE (d, id);
CREATE TABLE local (at timestamptz, d date) PARTITION BY RANGE (d);
CREATE TABLE stamp (at timestamptz, ts timestamp) PARTITION BY RANGE (ts);
CREATE TABLE epoch (at timestamptz, s int8) PARTITION BY RANGE (s);
CREATE TABLE number (at timestamptz, day int) PARTITION BY RANGE (day);
CREATE TABLE ids (at timestamptz, id uuid) PARTITION BY RANGE (id);
CREATE TABLE listed (at timestamptz, d date) PARTITION BY LIST (d);
CREATE TABLE floor (at timestamptz, ts timestamp) PARTITION BY RANGE (date_trunc('day', ts));
CREATE TABLE shifted (at timestamptz, ts timestamp) PARTITION BY RANGE ((ts - interval '30 days'));
CREATE TABLE tokyo (at timestamptz) PARTITION BY RANGE (((at AT TIME ZONE 'Asia/Tokyo')::date));
CREATE TABLE early (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE "Reg.ion" (at timestamptz, region text) PARTITION BY LIST (region);
CREATE TABLE "Reg.ion eu" PARTITION OF "Reg.ion" FOR VALUES IN ('eu') PARTITION BY RANGE (at);
CREATE TABLE "Reg.ion rest" PARTITION OF "Reg.ion" DEFAULT PARTITION BY RANGE (at);
CREATE TABLE "Reg.ion rest all" PARTITION OF "Reg.ion rest" DEFAULT;
CREATE TABLE changed (at timestamptz, before timestamptz) PARTITION BY RANGE (at);
CREATE TABLE changed_all PARTITION OF changed FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')
  PARTITION BY RANGE (before);
CREATE TABLE listed_null PARTITION OF listed FOR VALUES IN (NULL);
DO $$ DECLARE a timestamptz; b timestamptz; l timestamp; m timestamp; BEGIN
  FOR h IN -100..6 LOOP
    a := date_trunc('hour', now()) + make_interval(hours => h); b := a + interval '1 hour';
    EXECUTE format('CREATE TABLE hourly_%s PARTITION OF hourly FOR VALUES FROM (%L) TO (%L)', h + 100, a, b);
    EXECUTE format('CREATE TABLE two_%s PARTITION OF two FOR VALUES FROM (%L, 5) TO (%L, 5)', h + 100, a, b);
    EXECUTE format('CREATE TABLE epoch_%s PARTITION OF epoch FOR VALUES FROM (%s) TO (%s)', h + 100,
      extract(epoch FROM a)::int8, extract(epoch FROM b)::int8);
    EXECUTE format('CREATE TABLE ids_%s PARTITION OF ids FOR VALUES FROM (%L) TO (%L)', h + 100, v7(a), v7(b));
    EXECUTE format('CREATE TABLE "Reg.ion eu %s" PARTITION OF "Reg.ion eu" FOR VALUES FROM (%L) TO (%L)', h + 100, a, b);
    EXECUTE format('CREATE TABLE changed_%s PARTITION OF changed_all FOR VALUES FROM (%L) TO (%L)', h + 100, a, b);
    EXECUTE format('CREATE TABLE early_%s PARTITION OF early FOR VALUES FROM (%s) TO (%L)', h + 100,
      CASE WHEN h = -100 THEN 'MINVALUE' ELSE quote_literal(a) END, b);
  END LOOP;
  FOR i IN -8..2 LOOP
    l := date_trunc('day', localtimestamp) + make_interval(days => i); m := l + interval '1 day';
    EXECUTE format('CREATE TABLE local_%s PARTITION OF local FOR VALUES FROM (%L) TO (%L)', i + 8, l, m);
    EXECUTE format('CREATE TABLE stamp_%s PARTITION OF stamp FOR VALUES FROM (%L) TO (%L)', i + 8, l, m);
    EXECUTE format('CREATE TABLE floor_%s PARTITION OF floor FOR VALUES FROM (%L) TO (%L)', i + 8,
      l + interval '1 hour', m + interval '1 hour');
    EXECUTE format('CREATE TABLE shifted_%s PARTITION OF shifted FOR VALUES FROM (%L) TO (%L)', i + 8,
      l - interval '30 days', m - interval '30 days');
    EXECUTE format('CREATE TABLE tokyo_%s PARTITION OF tokyo FOR VALUES FROM (%L) TO (%L)', i + 8, l::date, m::date);
    EXECUTE format('CREATE TABLE day_two_%s PARTITION OF day_two FOR VALUES FROM (%L, 5) TO (%L, 5)', i + 8, l::date, m::date);
    EXECUTE format('CREATE TABLE number_%s PARTITION OF number FOR VALUES FROM (%s) TO (%s)', i + 8,
      to_char(l, 'YYYYMMDD'), to_char(m, 'YYYYMMDD'));
    EXECUTE format('CREATE TABLE listed_%s PARTITION OF listed FOR VALUES IN (%L)', i + 8, l::date);
  END LOOP;
END $$;
CREATE TEMP TABLE rows AS
  SELECT now() - i * interval '7 minutes' AS at, (now() - i * interval '7 minutes')::timestamp AS ts, i % 10 AS id
    FROM generate_series(0, 820) i;
INSERT INTO hourly SELECT at, id FROM rows;
INSERT INTO two SELECT at, id FROM rows WHERE at > date_trunc('hour', now()) - interval '99 hours';
INSERT INTO two SELECT date_trunc('hour', now()) - make_interval(hours => i), 3 FROM generate_series(0, 90) i;
INSERT INTO day_two SELECT at, ts::date, id FROM rows;
INSERT INTO local SELECT at, ts::date FROM rows;
INSERT INTO stamp SELECT at, ts FROM rows;
INSERT INTO epoch SELECT at, extract(epoch FROM at)::int8 FROM rows;
INSERT INTO number SELECT at, to_char(ts, 'YYYYMMDD')::int FROM rows;
INSERT INTO ids SELECT at, v7(at) FROM rows;
INSERT INTO listed SELECT at, ts::date FROM rows;
INSERT INTO listed SELECT at, NULL FROM rows;
INSERT INTO floor SELECT at, ts FROM rows;
INSERT INTO shifted SELECT at, ts FROM rows;
INSERT INTO tokyo SELECT at FROM rows;
INSERT INTO early SELECT at FROM rows;
INSERT INTO "Reg.ion" SELECT at, CASE WHEN id < 5 THEN 'eu' END FROM rows;
INSERT INTO changed SELECT now(), at FROM rows;
"#;

#[tokio::test]
async fn no_row_younger_than_asked_goes_whatever_the_key() {
    let cluster = common::server().await;
    let admin = database(&cluster, "keys", "America/Los_Angeles").await;
    let t = Tester { cluster: &cluster, datname: "keys", admin: &admin };
    t.sql(KEYS).await;
    let young = "at > now() - interval '47 hours'";
    for (table, goes) in [
        ("hourly", true),
        ("two", true),
        ("day_two", true),
        ("local", true),
        ("stamp", true),
        ("epoch", true),
        ("number", true),
        ("ids", true),
        ("listed", true),
        ("floor", true),
        ("shifted", false),
        ("tokyo", true),
        ("early", true),
        ("\"Reg.ion\"", true),
        ("changed", false),
    ] {
        let count = |w: &str| format!("SELECT count(*) FROM {table} WHERE {w}");
        let kept = t.number(&count(young)).await;
        let all = t.number(&count("true")).await;
        let script = t.retire(table, "47h").await;
        for _ in 0..2 {
            let (ok, said) = t.psql(&script).await;
            assert!(ok, "{table}: {said}\n{script}");
            // Those that grew old meanwhile are still there.
            let sql = format!(
                "SELECT count(*) FROM {table} WHERE at > now() - interval '46 hours 58 minutes'"
            );
            assert!(t.number(&sql).await <= kept);
            assert!(t.number(&count("true")).await >= kept, "{table} lost young rows\n{script}");
        }
        let left = t.number(&count("true")).await;
        assert_eq!(left < all, goes, "{table}: {left} of {all}\n{script}");
        let oldest = format!(
            "SELECT (extract(epoch FROM now() - min(at)) / 3600)::int8 FROM {table} WHERE at IS NOT NULL"
        );
        if goes && !["listed", "\"Reg.ion\""].contains(&table) {
            // 47 hours, a day's partition, its zones and a grain: nothing much older is left.
            assert!(t.number(&oldest).await <= 47 + 24 + 24 + 8, "{table}\n{script}");
        }
    }
    let script = t.retire("shifted", "47h").await;
    assert!(script.contains("its key is the expression"), "{script}");
    let listed = t.number("SELECT count(*) FROM listed WHERE d IS NULL").await;
    assert_eq!(listed, 821, "nobody knows how old they are by their key");
    // Nothing is left that was detached and not dropped.
    let loose = t.texts("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relnamespace = 'public'::regnamespace");
    assert_eq!(loose.await, Vec::<String>::new());
}

/// A table by day with partitions `NAME_0` to `NAME_9` from 50 days ago on, a row in each.
fn daily(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
         DO $$ BEGIN FOR i IN 0..9 LOOP
           EXECUTE format('CREATE TABLE {name}_%s PARTITION OF {name} FOR VALUES FROM (%L) TO (%L)', i, today(i - 50), today(i - 49));
         END LOOP; END $$;
         CREATE TABLE {name}_now PARTITION OF {name} FOR VALUES FROM (today(-40)) TO (today(3));
         INSERT INTO {name} SELECT today(i) FROM generate_series(-50, 2) i;"
    )
}

#[tokio::test]
async fn what_is_another_thing_by_now_or_needed_stays() {
    let cluster = common::server().await;
    let admin = database(&cluster, "other", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "other", admin: &admin };
    for default in ["", "CREATE TABLE t_default PARTITION OF t DEFAULT;"] {
        t.sql(&daily("t")).await;
        t.sql(default).await;
        t.sql("CREATE TABLE history (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
               CREATE UNIQUE INDEX ON t_9 (ts); CREATE TABLE early_ref (ts timestamptz REFERENCES t_9 (ts));
               CREATE VIEW v8 AS SELECT * FROM t_8;").await;
        let script = t.retire("t", "30").await;
        assert!(
            script.contains("Not retired: public.t_9, because the foreign key early_ref_ts_fkey"),
            "{script}"
        );
        assert!(script.contains("Not retired: public.t_8, because the view public.v8"), "{script}");
        let bound = |n: i32| format!("FROM (today({})) TO (today({}))", n - 50, n - 49);
        t.sql(&format!(
            "ALTER TABLE t DETACH PARTITION t_0;
             ALTER TABLE t DETACH PARTITION t_1;
             ALTER TABLE history ATTACH PARTITION t_1 FOR VALUES {};
             ALTER TABLE t_2 RENAME TO t_2_was; CREATE TABLE t_2 (kept int); INSERT INTO t_2 VALUES (1);
             DROP TABLE t_3; CREATE TABLE t_3 PARTITION OF t FOR VALUES {}; INSERT INTO t SELECT today(-47);
             CREATE UNIQUE INDEX ON t_4 (ts); CREATE TABLE ref (ts timestamptz REFERENCES t_4 (ts) ON DELETE CASCADE);
             INSERT INTO ref SELECT ts FROM t_4;
             CREATE VIEW v5 AS SELECT * FROM t_5;
             ALTER TABLE t DETACH PARTITION t_6; ALTER TABLE t ATTACH PARTITION t_6 FOR VALUES FROM (today(5)) TO (today(6) + interval '1 h') ",
            bound(1),
            bound(3),
        ).replace("ALTER TABLE t ATTACH PARTITION t_6", "TRUNCATE t_6; ALTER TABLE t ATTACH PARTITION t_6"))
        .await;
        let (ok, said) = t.psql(&script).await;
        assert!(!ok, "some are left in the table: {said}\n{script}");
        for (name, why) in [
            ("t_0", "somebody else has detached it"),
            ("t_1", "it is a partition of public.history now"),
            ("t_2", "it is called public.t_2_was now"),
            ("t_4", "the foreign key ref_ts_fkey of public.ref points to it"),
            ("t_5", "the view public.v5 reads it"),
            ("t_6", "it has another bound now"),
        ] {
            assert!(said.contains(why), "{name} {why}: {said}");
            assert_eq!(
                t.number(&format!("SELECT count(*) FROM {name}")).await,
                i64::from(name != "t_6")
            );
        }
        assert!(
            said.contains(
                "ERROR:  not retired: public.t_2; public.t_3; public.t_4; public.t_5; public.t_6"
            ),
            "{said}"
        );
        for there in ["t_2_was", "t_3", "t_8", "t_9", "ref"] {
            assert_eq!(t.number(&format!("SELECT count(*) FROM {there}")).await, 1, "{there}");
        }
        let gone = t.texts("SELECT relname::text FROM pg_class WHERE relname IN ('t_7')").await;
        assert_eq!(gone, Vec::<String>::new(), "it could go and did: {said}");
        // Another plan names what it may take.
        let script = t.retire("t", "30").await;
        assert_eq!(script.matches("CALL pg_temp").count(), 2, "t_2_was and t_3: {script}");
        t.sql("DROP TABLE history, ref, early_ref, t_0, t_2; DROP TABLE t CASCADE").await;
    }
    // What somebody took off to keep is no reason to fail: the table is as it should be.
    t.sql(&daily("t")).await;
    let script = t.retire("t", "30").await;
    t.sql("ALTER TABLE t DETACH PARTITION t_0; ALTER TABLE t DETACH PARTITION t_5").await;
    for _ in 0..2 {
        let (ok, said) = t.psql(&script).await;
        assert!(ok, "{said}");
    }
    let left =
        t.texts("SELECT relname::text FROM pg_class WHERE relname LIKE 't\\__' ORDER BY 1").await;
    assert_eq!(left, ["t_0", "t_5"]);
    // The same names in another database are not meant.
    let other = database(&cluster, "copy", "UTC").await;
    other.batch_execute(&daily("t")).await.unwrap();
    let copy = Tester { cluster: &cluster, datname: "copy", admin: &other };
    let (ok, said) = copy.psql(&script).await;
    assert!(!ok && said.contains("the script is for another"), "{said}");
    t.sql("DROP TABLE t, t_0, t_5").await;
    t.sql(&daily("t")).await;
    let (ok, said) = t.psql(&script).await;
    assert!(!ok && said.contains("is not the table that this was made for"), "{said}");
    assert_eq!(t.count("t").await, 11);
}

/// Reads and writes until it is told to stop; the longest that one statement took.
async fn others(
    cluster: &Cluster,
    datname: &str,
    sql: Vec<String>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Duration {
    let client = common::admin(cluster, datname).await;
    let mut longest = Duration::ZERO;
    while !*stop.borrow() {
        for statement in &sql {
            let start = Instant::now();
            client.batch_execute(statement).await.unwrap();
            longest = longest.max(start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    longest
}

/// Runs a script beside a reader and a writer; whether it was right, what it said, how long they waited.
async fn beside(t: &Tester<'_>, script: &str, table: &str) -> (bool, String, Duration) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let all = async |stop: tokio::sync::watch::Sender<bool>| {
        let got = t.psql(script).await;
        stop.send(true).unwrap();
        got
    };
    let reads = vec![format!("SELECT count(*) FROM {table}")];
    let writes = vec![format!("INSERT INTO {table} SELECT now()")];
    let ((ok, said), read, wrote) = tokio::join!(
        all(stop),
        others(t.cluster, t.datname, reads, stopped.clone()),
        others(t.cluster, t.datname, writes, stopped)
    );
    (ok, said, read.max(wrote))
}

const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn who_uses_the_table_for_long_is_waited_for_and_not_waited_behind() {
    let cluster = common::server_with(&[("max_prepared_transactions", "5")], &[]).await;
    let admin = database(&cluster, "busy", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "busy", admin: &admin };
    for default in ["", "CREATE TABLE t_default PARTITION OF t DEFAULT;"] {
        t.sql(&daily("t")).await;
        t.sql(default).await;
        let script = t.retire("t", "48").await;
        let blocker: Client = common::admin(&cluster, "busy").await;
        blocker.batch_execute("BEGIN; SELECT count(*) FROM t").await.unwrap();
        let (ok, said, longest) = beside(&t, &script, "t").await;
        assert!(!ok && said.contains("not retired"), "{said}");
        assert!(longest < PATIENCE, "{longest:?}: {said}");
        assert_eq!(t.number("SELECT count(*) FROM t WHERE ts < today(-1)").await, 49, "{said}");
        blocker.batch_execute("COMMIT").await.unwrap();
        // A prepared transaction holds its locks without a session.
        blocker
            .batch_execute("BEGIN; INSERT INTO t SELECT now(); PREPARE TRANSACTION 'long'")
            .await
            .unwrap();
        let (ok, said, longest) = beside(&t, &script, "t").await;
        assert!(!ok && said.contains("not retired"), "{said}");
        assert!(longest < PATIENCE, "{longest:?}: {said}");
        blocker.batch_execute("COMMIT PREPARED 'long'").await.unwrap();
        let (ok, said, longest) = beside(&t, &script, "t").await;
        assert!(ok, "{said}");
        assert!(longest < PATIENCE, "{longest:?}: {said}");
        let left =
            t.texts("SELECT relname::text FROM pg_class WHERE relname IN ('t_0', 't_1')").await;
        assert_eq!(left, Vec::<String>::new());
        t.sql("DROP TABLE t").await;
    }
}

/// Where the statements of a script end.
fn ends(script: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut quote: Option<&str> = None;
    let mut at = 0;
    for line in script.split_inclusive('\n') {
        at += line.len();
        let tags = ["$do$", "$why$", "$detach$", "$drop$", "$check$"];
        for tag in tags {
            for _ in line.matches(tag) {
                quote = if quote == Some(tag) { None } else { quote.or(Some(tag)) };
            }
        }
        let end = line.trim_end();
        if quote.is_none()
            && !line.starts_with("--")
            && (end.ends_with(';') || end.ends_with("\\gexec"))
        {
            found.push(at);
        }
    }
    found
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_ended_by_the_next() {
    let cluster = common::server().await;
    let admin = database(&cluster, "cut", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "cut", admin: &admin };
    let version = t.version().await;
    t.sql(&daily("t")).await;
    t.sql("COMMENT ON TABLE t_1 IS 'as it was'").await;
    let script = t.retire("t", "42").await;
    let ends = ends(&script);
    assert!(ends.len() > 20, "{script}");
    let rows = async || t.number("SELECT count(*) FROM t WHERE ts >= today(-42)").await;
    let kept = rows().await;
    for end in ends {
        let (_, said) = t.psql(&format!("{}\\quit\n", &script[..end])).await;
        assert!(!said.contains("ERROR"), "{said}");
        assert_eq!(rows().await, kept);
    }
    let gone = "SELECT relname::text FROM pg_class WHERE relname IN ('t_0', 't_1', 't_2', 't_3', 't_4', 't_5', 't_6', 't_7') ORDER BY 1";
    let (ok, said) = t.psql(&script).await;
    assert!(ok, "{said}");
    assert_eq!(t.texts(gone).await, Vec::<String>::new());
    t.sql("DROP TABLE t").await;

    if version >= 140_000 {
        // Half detached: by us, it is ended; by somebody else, it is theirs.
        t.sql(&daily("t")).await;
        let script = t.retire("t", "42").await;
        let reader = common::admin(&cluster, "cut").await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM t").await.unwrap();
        let oid: u32 = admin.query_one("SELECT 't'::regclass::oid", &[]).await.unwrap().get(0);
        t.sql(&format!("COMMENT ON TABLE t_0 IS 'pgrunway is retiring this partition; to keep it, take this comment away. Table {oid}.'; SET lock_timeout = '200ms'")).await;
        for partition in ["t_0"] {
            let cut = admin
                .batch_execute(&format!("ALTER TABLE t DETACH PARTITION {partition} CONCURRENTLY"))
                .await;
            assert!(cut.is_err());
        }
        t.sql("RESET lock_timeout").await;
        let (ok, said, longest) = beside(&t, &script, "t").await;
        assert!(!ok && said.contains("not retired") && longest < PATIENCE, "{longest:?} {said}");
        reader.batch_execute("COMMIT").await.unwrap();
        let (ok, said) = t.psql(&script).await;
        assert!(ok, "{said}");
        assert_eq!(t.texts(gone).await, Vec::<String>::new());
        t.sql("DROP TABLE t").await;

        t.sql(&daily("t")).await;
        let script = t.retire("t", "42").await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM t").await.unwrap();
        t.sql("SET lock_timeout = '200ms'").await;
        assert!(
            admin.batch_execute("ALTER TABLE t DETACH PARTITION t_0 CONCURRENTLY").await.is_err()
        );
        t.sql("RESET lock_timeout").await;
        reader.batch_execute("COMMIT").await.unwrap();
        let (ok, said) = t.psql(&script).await;
        assert!(!ok, "{said}");
        // While one is half detached, the server detaches no other.
        assert_eq!(t.texts(gone).await.len(), 8, "{said}");
        t.sql("ALTER TABLE t DETACH PARTITION t_0 FINALIZE").await;
        let (ok, said) = t.psql(&script).await;
        assert!(ok, "{said}");
        assert_eq!(t.texts(gone).await, ["t_0"]);
        assert_eq!(t.number("SELECT count(*) FROM t_0").await, 1);
        t.sql("DROP TABLE t_0; DROP TABLE t").await;
    }

    // Two at once: what is to go goes, and each says truly whether it is gone.
    t.sql(&daily("t")).await;
    let script = t.retire("t", "42").await;
    let ((a, said_a), (b, said_b)) = tokio::join!(t.psql(&script), t.psql(&script));
    assert!(a || b, "{said_a}\n{said_b}");
    assert_eq!(t.texts(gone).await, Vec::<String>::new());
    let (ok, said) = t.psql(&script).await;
    assert!(ok, "{said}");
}
