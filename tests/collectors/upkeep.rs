//! What needs looking after in a server and its databases: extensions, passwords, checksums, bloat, what autovacuum would
//! turn to, and what was left behind.
//!
//! Must not: wait for a fixed time.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

#[tokio::test]
async fn versions_passwords_and_checksums_are_the_servers() {
    let cluster = server().await;
    work(
        &cluster,
        "postgres",
        "CREATE EXTENSION hstore VERSION '1.4'; CREATE ROLE soon LOGIN VALID UNTIL '2100-01-01 00:00:00+00';
         CREATE ROLE never LOGIN VALID UNTIL 'infinity'; CREATE ROLE nobody VALID UNTIL '2100-01-01';
         CREATE ROLE late LOGIN VALID UNTIL '2001-01-01'",
    )
    .await;
    let admin = common::admin(&cluster, "postgres").await;
    let poll = Run::new(&cluster, "mon", "postgres", "extensions").await.poll().await;
    let rows = "SELECT e.extname::text, e.extversion, a.default_version, (e.extversion <> a.default_version)::int::float8 \
                  FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname ORDER BY 1";
    let rows = admin.query(rows, &[]).await.unwrap();
    let expected: Vec<(Vec<String>, f64)> = rows
        .iter()
        .map(|row| (vec!["postgres".to_owned(), row.get(0), row.get(1), row.get(2)], row.get(3)))
        .collect();
    let mut told = poll.series("pg_extension_update_available");
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, expected);
    let outdated: Vec<_> = told.iter().filter(|(_, outdated)| *outdated == 1.0).collect();
    assert_eq!((outdated.len(), &*outdated[0].0[1]), (1, "hstore"));

    let poll = Run::new(&cluster, "mon", "postgres", "roles").await.poll().await;
    let until = "extract(epoch FROM rolvaliduntil) FROM pg_roles WHERE rolname = 'soon'";
    let until = figure(&admin, until).await;
    assert_eq!(
        poll.series("pg_role_valid_until_timestamp_seconds"),
        [(vec!["soon".to_owned()], until)]
    );

    let poll = Run::new(&cluster, "mon", "postgres", "settings").await.poll().await;
    let state: String =
        admin.query_one("SELECT current_setting('data_checksums')", &[]).await.unwrap().get(0);
    assert_eq!(poll.series("pg_data_checksums_state"), [(vec![state], 1.0)]);
}

#[tokio::test]
async fn what_dead_sessions_leave_is_counted_and_what_live_ones_have_is_not() {
    let cluster = server().await;
    work(&cluster, "postgres", "SELECT lo_create(0) FROM generate_series(1, 3)").await;
    // A session that comes later may get the number of one that is gone, and with it the schema: the lowest that is free.
    let mut before = Vec::new();
    for _ in 0..8 {
        before.push(common::admin(&cluster, "postgres").await);
    }
    let admin = common::admin(&cluster, "postgres").await;
    let major = figure(&admin, "current_setting('server_version_num')::int / 10000").await;
    let labels = ["postgres"];
    // A commit that was not waited for would be lost below.
    admin.batch_execute("SET synchronous_commit = on").await.unwrap();
    admin.batch_execute("CREATE TEMP TABLE mine (i int)").await.unwrap();
    let mut run = Run::new(&cluster, "mon", "postgres", "leftovers").await;
    let poll = run.poll().await;
    assert_eq!(poll.get("pg_large_objects", &labels), Some(3.0));
    let left = "pg_temporary_tables_left_behind";
    // Before 16 nobody can say whose it is.
    assert_eq!(poll.get(left, &labels), (major >= 16.0).then_some(0.0));

    // The whole server begins again when one of its processes is killed, and the catalogs stay.
    let pid: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    while !admin.is_closed() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connect = common::connect(&cluster, "mon");
    let limit = Instant::now() + Duration::from_secs(60);
    let session = loop {
        let settings = Arc::new(common::settings());
        match Session::connect(&connect, Some("postgres"), settings, Clock::start()).await {
            Ok(session) => break session,
            Err(e) => assert!(Instant::now() < limit, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    run.session = session;
    let poll = run.poll().await;
    assert_eq!(poll.get(left, &labels), Some(1.0));
    let age = poll.get("pg_temporary_tables_left_behind_xid_age", &labels).unwrap();
    let admin = common::admin(&cluster, "postgres").await;
    let expected = "max(age(relfrozenxid)) FROM pg_class WHERE relname = 'mine'";
    assert_eq!(age, figure(&admin, expected).await);
    // A session that is there has its own, by another number than that of the dead one.
    let poll = run.poll().await;
    assert_eq!(poll.get(left, &labels), (major >= 16.0).then_some(1.0));
}

/// Free and dead bytes by pgstattuple, over the size.
async fn empty(admin: &Client, relation: &str) -> (f64, f64) {
    let sql = format!(
        "SELECT (free_space + dead_tuple_len)::float8, table_len::float8 FROM pgstattuple({relation})"
    );
    let row = admin.query_one(&sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn estimates_of_bloat_are_near_what_pgstattuple_measures() {
    let cluster = server().await;
    work(
        &cluster,
        "postgres",
        "CREATE EXTENSION pgstattuple;
         CREATE TABLE whole (id int, at timestamptz, note text, flag bool, n bigint);
         INSERT INTO whole SELECT i, now(), repeat('x', i % 50), true, i FROM generate_series(1, 40000) i;
         CREATE TABLE half (LIKE whole) PARTITION BY RANGE (id);
         CREATE TABLE half_1 PARTITION OF half FOR VALUES FROM (0) TO (20000);
         CREATE TABLE half_2 PARTITION OF half FOR VALUES FROM (20000) TO (100000);
         INSERT INTO half SELECT * FROM whole; DELETE FROM half WHERE id % 2 = 0;
         CREATE TABLE fixed (a int, b bigint, c bool) WITH (fillfactor = 50);
         INSERT INTO fixed SELECT i, i, NULL FROM generate_series(1, 40000) i;
         CREATE TABLE hidden (a text); INSERT INTO hidden SELECT repeat('x', 50) FROM generate_series(1, 40000);
         CREATE TABLE large (id int, t text); ALTER TABLE large ALTER t SET STORAGE EXTERNAL;
         INSERT INTO large SELECT i, repeat('x', 60000) FROM generate_series(1, 100) i; DELETE FROM large WHERE id % 4 = 0;
         GRANT SELECT ON whole, half, half_1, half_2, fixed TO mon",
    )
    .await;
    work(&cluster, "postgres", "VACUUM ANALYZE").await;
    let admin = common::admin(&cluster, "postgres").await;
    let poll = Run::new(&cluster, "mon", "postgres", "bloat").await.poll().await;
    let estimated = "pg_table_bloat_estimated_bytes";
    let of = |metric: &str, name: &str| poll.get(metric, &["postgres", "public", name]);
    let mut measured = empty(&admin, "'half_1'").await;
    let second = empty(&admin, "'half_2'").await;
    measured = (measured.0 + second.0, measured.1 + second.1);
    for (name, (empty, size)) in [("half", measured), ("whole", empty(&admin, "'whole'").await)] {
        let told = of(estimated, name).unwrap();
        println!("{name}: {told} estimated, {empty} measured of {size}");
        assert!((told - empty).abs() < size * 0.05, "{name}: {told}, not {empty} of {size}");
    }
    // What the fill factor keeps free is not bloat; widths of fixed size need no statistics.
    let (empty_half, size) = empty(&admin, "'fixed'").await;
    assert!(empty_half > size * 0.4, "{empty_half} of {size}");
    let told = of(estimated, "fixed").unwrap();
    assert!(told < size * 0.05, "fixed: {told} of {size}");
    assert_eq!(of(estimated, "hidden"), None, "its widths may not be known");
    let toast = "(SELECT reltoastrelid FROM pg_class WHERE relname = 'large')";
    let (empty, size) = empty(&admin, toast).await;
    let told = of("pg_table_toast_bloat_estimated_bytes", "large").unwrap();
    println!("TOAST of large: {told} estimated, {empty} measured of {size}");
    assert!((told - empty).abs() < size * 0.05, "TOAST: {told}, not {empty} of {size}");
    assert!(told > size * 0.15, "{told} of {size}");
}

#[tokio::test]
async fn scores_of_autovacuum_are_the_views() {
    let cluster = server().await;
    work(
        &cluster,
        "postgres",
        "CREATE TABLE plain (i int); INSERT INTO plain SELECT generate_series(1, 1000); DELETE FROM plain WHERE i > 100;
         CREATE TABLE parts (i int) PARTITION BY RANGE (i);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (10000);
         INSERT INTO parts SELECT generate_series(1, 9000)",
    )
    .await;
    let admin = common::admin(&cluster, "postgres").await;
    let poll = Run::new(&cluster, "mon", "postgres", "scores").await.poll().await;
    if figure(&admin, "current_setting('server_version_num')::int").await < 190_000.0 {
        assert!(poll.0.is_empty());
        return;
    }
    let near = |told: Option<f64>, expected: f64, what: &str| {
        let told = told.unwrap_or_else(|| panic!("no {what}"));
        // The age of transactions goes on.
        assert!((told - expected).abs() < 1e-3, "{what}: {told}, not {expected}");
    };
    for (name, part) in [("plain", "plain"), ("parts", "parts_2")] {
        let from = format!("FROM pg_stat_autovacuum_scores WHERE relname = '{part}'");
        let labels = ["postgres", "public", name];
        near(
            poll.get("pg_autovacuum_score", &labels),
            figure(&admin, &format!("score {from}")).await,
            name,
        );
        for (reason, column) in [
            ("xid", "xid_score"),
            ("multixact", "mxid_score"),
            ("dead_rows", "vacuum_score"),
            ("inserts", "vacuum_insert_score"),
            ("analyze", "analyze_score"),
        ] {
            let told =
                poll.get("pg_autovacuum_score_by_reason", &["postgres", "public", name, reason]);
            near(told, figure(&admin, &format!("{column} {from}")).await, column);
        }
    }
    for (work, column) in
        [("vacuum", "do_vacuum"), ("analyze", "do_analyze"), ("wraparound", "for_wraparound")]
    {
        let sql = format!("count(*) FILTER (WHERE {column}) FROM pg_stat_autovacuum_scores");
        let told = poll.get("pg_autovacuum_tables_due", &["postgres", work]);
        assert_eq!(told, Some(figure(&admin, &sql).await), "{work}");
    }
}
