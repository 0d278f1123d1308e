//! The check at the end of a plan: what came between planning and running is an error, not a hole.
//!
//! Must not: look at the text of a script where its effect can be seen.

use super::common;
use super::tester::{Tester, database};

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_fails_the_script() {
    let cluster = common::server().await;
    let admin = database(&cluster, "checked", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "checked", admin: &admin };
    t.sql(
        "CREATE TABLE tr (ts timestamptz, k text) PARTITION BY RANGE (ts);
         CALL spans('tr', today(-1), today(2), '1 day', '\"tr_\"YYYYMMDD', 'PARTITION BY LIST (k)');
         DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits
              WHERE inhparent = 'tr'::regclass LOOP
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (''$check$'', ''b''''b'', NULL)', p || '_a', p);
           EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', p || '_d', p);
         END LOOP; END $$",
    )
    .await;
    let (code, script, err) = t.plan("tr", 5, &[]).await;
    assert_eq!(code, 0, "{err}");
    let name = |n: i32| format!("SELECT to_char(today({n}), '\"tr_\"YYYYMMDD')");
    let fourth = t.texts(&name(4)).await[0].clone();
    let functions = "SELECT count(*)::text FROM pg_proc";
    let before = t.texts(functions).await;
    // Of the same name: a plain table, a partition for another time, one with another list below it.
    for meanwhile in [
        format!("CREATE TABLE {fourth} (ts timestamptz, k text); CREATE TABLE {fourth}_a (x int)"),
        format!(
            "DROP TABLE {fourth}, {fourth}_a; CREATE TABLE {fourth} PARTITION OF tr
               FOR VALUES FROM ('2001-01-01') TO ('2001-01-02') PARTITION BY LIST (k)"
        ),
        format!(
            "DROP TABLE {fourth}; DO $$ BEGIN EXECUTE format('CREATE TABLE {fourth} PARTITION OF tr
               FOR VALUES FROM (%L) TO (%L) PARTITION BY LIST (k)', today(4), today(5)); END $$;
             CREATE TABLE {fourth}_a PARTITION OF {fourth} FOR VALUES IN ('$check$', 'b''c', NULL)"
        ),
    ] {
        t.sql(&meanwhile).await;
        let (ok, text) = t.psql(&script).await;
        assert!(!ok, "{meanwhile}\n{text}");
        // The plain table stops the statement below it; the others pass every statement.
        let said = text.contains("not attached with the planned bound: public.tr_")
            || text.contains("is not partitioned");
        assert!(said && text.contains(&fourth), "{meanwhile}\n{text}");
        assert_eq!(t.texts(functions).await, before);
    }
    t.sql(&format!("DROP TABLE {fourth}")).await;
    t.extend("tr", 5, &[]).await;
    let (ok, text) = t.psql(&script).await;
    assert!(ok, "{text}");
}

#[tokio::test]
async fn the_check_reads_bounds_in_its_own_settings() {
    let cluster = common::server().await;
    let admin = database(&cluster, "checked", "America/St_Johns").await;
    let t = Tester { cluster: &cluster, datname: "checked", admin: &admin };
    t.sql(
        "CREATE TABLE local (ts timestamp) PARTITION BY RANGE (ts);
         CALL spans('local', month(-2), month(1), '1 month', '\"local_\"YYYY_MM');
         CREATE TABLE listed (d date) PARTITION BY LIST (d);
         DO $$ BEGIN FOR i IN -2..2 LOOP EXECUTE format('CREATE TABLE %I PARTITION OF listed FOR VALUES IN (%L)',
           to_char(today(i), '\"listed_\"YYYYMMDD'), today(i)::date); END LOOP; END $$;
         CREATE TABLE tz (ts timestamptz, bits bit(3), yes bool, price numeric, nr int8)
           PARTITION BY RANGE (ts);
         CALL spans('tz', today(-2), today(2), '1 day', '\"tz_\"YYYYMMDD', 'PARTITION BY LIST (bits)');
         DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits
              WHERE inhparent = 'tz'::regclass LOOP
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (B''101'', B''001'') PARTITION BY LIST (yes)', p || '_b', p);
           EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', p || '_bd', p);
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (true) PARTITION BY RANGE (price, nr)', p || '_y', p || '_b');
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (false)', p || '_n', p || '_b');
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (MINVALUE, MINVALUE) TO (-1.50, -7)', p || '_l', p || '_y');
           EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (-1.50, -7) TO (MAXVALUE, MAXVALUE)', p || '_h', p || '_y');
         END LOOP; END $$;
         ALTER DATABASE checked SET datestyle = 'SQL, DMY';
         -- From 19 on it cannot be off.
         DO $$ BEGIN
           ALTER ROLE postgres IN DATABASE checked SET standard_conforming_strings = off;
         EXCEPTION WHEN feature_not_supported THEN NULL; END $$;
         ALTER ROLE postgres IN DATABASE checked SET timezone = 'Asia/Kathmandu'",
    )
    .await;
    // Half a year meets a change of the clock; each is run twice, and a wrong check would fail it.
    t.extend("local", 200, &[]).await;
    t.extend("listed", 9, &[]).await;
    t.extend("tz", 9, &[]).await;
}
