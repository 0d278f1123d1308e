//! Locks, deadlocks, temporary files, checkpoints, I/O, vacuum, wraparound and settings on a real
//! server, made to happen and held to its own views.
//!
//! Must not: wait for a fixed time.

use super::*;

#[tokio::test]
async fn who_waits_for_whom_and_what_is_prepared() {
    let cluster =
        common::server_with(&[("max_prepared_transactions", "5"), ("autovacuum", "off")], &[])
            .await;
    work(&cluster, "postgres", "CREATE DATABASE app").await;
    work(&cluster, "app", "CREATE TABLE a (i int); CREATE TABLE b (i int)").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "locks").await;
    let calm = run.poll().await;
    let app = ["app"];
    assert_eq!(calm.get("pg_lock_waiting_backends", &app), Some(0.0));
    assert_eq!(calm.get("pg_lock_blocking_backends", &app), Some(0.0));
    assert_eq!(calm.get("pg_longest_lock_wait_seconds", &app), None);
    assert_eq!(calm.get("pg_prepared_transactions", &app), Some(0.0));
    assert_eq!(calm.get("pg_longest_lock_wait_objective_seconds", &[]), Some(60.0));

    let holder = common::admin(&cluster, "app").await;
    holder.batch_execute("BEGIN; LOCK a IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let preparer = common::admin(&cluster, "app").await;
    preparer.batch_execute("BEGIN; LOCK b; PREPARE TRANSACTION 'forgotten'").await.unwrap();
    let mut waiting = Vec::new();
    for table in ["a", "a", "b"] {
        let client = common::admin(&cluster, "app").await;
        let sql = format!("SELECT * FROM {table}");
        waiting.push(tokio::spawn(async move { client.batch_execute(&sql).await }));
    }
    let all = "(SELECT count(*) FROM pg_locks WHERE NOT granted) = 3";
    until(&cluster, "postgres", all).await;
    let poll = run.poll().await;
    assert_eq!(poll.get("pg_lock_waiting_backends", &app), Some(3.0));
    assert_eq!(poll.get("pg_lock_blocking_backends", &app), Some(2.0), "a backend, a prepared one");
    let longest = poll.get("pg_longest_lock_wait_seconds", &app).unwrap();
    assert!(longest > 0.0 && longest < 60.0, "{longest}");
    assert_eq!(poll.get("pg_lock_waiting_backends", &["postgres"]), Some(0.0));
    assert_eq!(poll.get("pg_prepared_transactions", &app), Some(1.0));
    let age = poll.get("pg_oldest_prepared_transaction_seconds", &app).unwrap();
    assert!(age >= longest && age < 60.0, "{age}");
    assert_eq!(poll.get("pg_locks_count", &["app", "accessexclusivelock"]), Some(2.0));
    assert_eq!(poll.get("pg_locks_count", &["app", "accesssharelock"]), Some(3.0), "awaited");
    let metric = Run::new(&cluster, "mon", "postgres", "wraparound").await.poll().await;
    assert_eq!(metric.get("pg_oldest_xmin_age", &["prepared"]), Some(1.0));

    holder.batch_execute("COMMIT").await.unwrap();
    preparer.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
    for waiter in waiting {
        waiter.await.unwrap().unwrap();
    }
    let poll = run.poll().await;
    assert_eq!(poll.get("pg_lock_waiting_backends", &app), Some(0.0));
    assert_eq!(poll.get("pg_oldest_prepared_transaction_seconds", &app), None);
}

#[tokio::test]
async fn deadlocks_temporary_files_and_sessions() {
    let cluster =
        common::server_with(&[("deadlock_timeout", "50ms"), ("autovacuum", "off")], &[]).await;
    work(&cluster, "postgres", "CREATE DATABASE app").await;
    work(&cluster, "app", "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        .await;
    let mut run = Run::new(&cluster, "mon", "postgres", "cache").await;
    let admin = common::admin(&cluster, "postgres").await;
    let datid =
        figure(&admin, "oid::int8 FROM pg_database WHERE datname = 'app'").await.to_string();
    let labels = [datid.as_str(), "app"];
    let first = run.poll().await;
    assert_eq!(first.get("pg_stat_database_deadlocks", &labels), Some(0.0));
    assert_eq!(first.get("pg_temp_bytes_objective_bytes_per_second", &[]), Some(10_485_760.0));
    let of = |column: &str| format!("{column} FROM pg_stat_database WHERE datname = 'app'");
    let sessions = match run.session.server().major() {
        13 => None,
        _ => Some(figure(&admin, &of("sessions")).await),
    };
    {
        let one = common::admin(&cluster, "app").await;
        let two = common::admin(&cluster, "app").await;
        one.batch_execute("BEGIN; DELETE FROM t WHERE i = 1").await.unwrap();
        two.batch_execute("BEGIN; DELETE FROM t WHERE i = 2").await.unwrap();
        let (a, b) = tokio::join!(
            one.batch_execute("DELETE FROM t WHERE i = 2; COMMIT"),
            two.batch_execute("DELETE FROM t WHERE i = 1; COMMIT"),
        );
        assert!(a.is_err() != b.is_err(), "one of them is the victim");
    }
    let sort = "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT i FROM \
                generate_series(1, 100000) i ORDER BY i DESC OFFSET 1) x";
    work(&cluster, "app", sort).await;
    until(&cluster, "postgres", &format!("SELECT {}", of("deadlocks = 1"))).await;
    until(&cluster, "postgres", &format!("SELECT {}", of("temp_bytes > 0"))).await;
    if let Some(before) = sessions {
        let three = of(&format!("sessions = {}", before + 3.0));
        until(&cluster, "postgres", &format!("SELECT {three}")).await;
    }
    let second = run.poll().await;
    assert_eq!(second.get("pg_stat_database_deadlocks", &labels), Some(1.0));
    for column in ["temp_bytes", "temp_files"] {
        let view = figure(&admin, &of(column)).await;
        let metric = format!("pg_stat_database_{column}");
        assert_eq!(second.get(&metric, &labels), Some(view), "{metric}");
    }
    let begun = second.get("pg_stat_database_sessions_total", &labels);
    assert_eq!(begun, sessions.map(|before| before + 3.0));
    // initdb makes checksums the default from 18 on.
    let checked =
        figure(&admin, "CASE current_setting('data_checksums') WHEN 'on' THEN 1 ELSE 0 END");
    let failures = second.get("pg_stat_database_checksum_failures_total", &labels);
    assert_eq!(failures, (checked.await > 0.0).then_some(0.0));
    let last = "pg_stat_database_checksum_last_failure_timestamp_seconds";
    assert_eq!(second.series(last), []);
}

#[tokio::test]
async fn checkpoints_and_io_rise_as_the_views_do() {
    let cluster = server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "checkpoints").await;
    let mut io = Run::new(&cluster, "mon", "postgres", "io").await;
    let major = run.session.server().major();
    let new = major >= 17;
    let (view, requested, written) = match new {
        true => ("pg_stat_checkpointer", "num_requested", "buffers_written"),
        false => ("pg_stat_bgwriter", "checkpoints_req", "buffers_checkpoint"),
    };
    let of = |column: &str| format!("{column} FROM {view}");
    let first = run.poll().await;
    assert_eq!(first.get("pg_stat_checkpointer_num_requested_total", &[]), Some(0.0));
    let io_first = io.poll().await;
    let before = [figure(&admin, &of(requested)).await, figure(&admin, &of(written)).await];
    let writes = "sum(writes) FROM pg_stat_io WHERE backend_type = 'checkpointer' \
                  AND object = 'relation' AND context = 'normal'";
    let io_before = if major >= 16 { figure(&admin, writes).await } else { 0.0 };

    work(&cluster, "postgres", "CREATE TABLE t AS SELECT generate_series(1, 50000)").await;
    work(&cluster, "postgres", "CHECKPOINT").await;
    let done = format!("SELECT {}", of(&format!("{requested} > {}", before[0])));
    until(&cluster, "postgres", &done).await;
    let done = format!("SELECT {}", of(&format!("{written} > {}", before[1])));
    until(&cluster, "postgres", &done).await;
    let second = run.poll().await;
    second.assert_not_below(&first, |_| true);
    for (names, column, before) in [
        (
            ["pg_stat_checkpointer_num_requested_total", "pg_stat_bgwriter_checkpoints_req_total"],
            requested,
            before[0],
        ),
        (
            [
                "pg_stat_checkpointer_buffers_written_total",
                "pg_stat_bgwriter_buffers_checkpoint_total",
            ],
            written,
            before[1],
        ),
    ] {
        let view = figure(&admin, &of(column)).await;
        assert!(view > before, "{column}");
        for name in names {
            assert_eq!(second.get(name, &[]), Some(view), "{name}");
        }
    }
    let backend = second.get("pg_stat_bgwriter_buffers_backend_total", &[]);
    assert_eq!(backend.is_some(), !new, "gone from 17 on");
    assert_eq!(
        second.get("pg_stat_checkpointer_restartpoints_done_total", &[]),
        new.then_some(0.0)
    );
    let skipped_left_out = second.get("pg_stat_checkpointer_num_done_total", &[]);
    assert_eq!(skipped_left_out.is_some(), major >= 18);

    let labels = ["checkpointer", "relation", "normal"];
    let poll = io.poll().await;
    if major >= 16 {
        let view = figure(&admin, writes).await;
        assert!(view > io_before);
        assert_eq!(poll.get("pg_stat_io_writes_total", &labels), Some(view));
        assert_eq!(poll.get("pg_stat_io_write_bytes_total", &labels), Some(view * 8192.0));
        poll.assert_not_below(&io_first, |_| true);
        assert!(poll.0.iter().map(|f| f.samples.len()).sum::<usize>() < 200, "bounded");
    } else {
        assert_eq!(poll.0, []);
    }
}

#[tokio::test]
async fn wal_statistics_rise_as_the_view_does() {
    let cluster = server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "wal").await;
    let first = run.poll().await;
    assert_eq!(first.get("pg_wal_bytes_total", &[]), Some(0.0));
    let before = figure(&admin, "pg_current_wal_lsn() - '0/0'").await;
    // The position is of what was written, which an asynchronous commit leaves to others.
    let create = "SET synchronous_commit = on; CREATE TABLE t AS SELECT generate_series(1, 50000)";
    work(&cluster, "postgres", create).await;
    let least = figure(&admin, "pg_current_wal_lsn() - '0/0'").await - before;
    let second = run.poll().await;
    let grown = second.get("pg_wal_bytes_total", &[]).unwrap();
    assert!(grown >= least && least > 1e6, "{grown} {least}");
    let records = second.get("pg_stat_wal_records_total", &[]);
    assert_eq!(records.is_some(), run.session.server().major() >= 14);
    if records.is_some() {
        until(&cluster, "postgres", "(SELECT wal_records FROM pg_stat_wal) > 40000").await;
        let third = run.poll().await;
        assert!(third.get("pg_stat_wal_records_total", &[]).unwrap() > 40_000.0);
        third.assert_not_below(&second, |_| true);
    }
}

#[tokio::test]
async fn dead_rows_and_what_autovacuum_would_do() {
    let cluster = server().await;
    let schema = "CREATE TABLE plain (i int); \
        CREATE TABLE strict (i int) WITH (autovacuum_vacuum_threshold = 100, \
          autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1); \
        CREATE TABLE parts (i int) PARTITION BY RANGE (i); \
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1001); \
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1001) TO (5000); \
        INSERT INTO plain SELECT generate_series(1, 1000); \
        INSERT INTO strict SELECT generate_series(1, 1000); \
        INSERT INTO parts SELECT generate_series(1, 2000)";
    work(&cluster, "postgres", schema).await;
    let live = "(SELECT sum(n_live_tup) FROM pg_stat_user_tables) = 4000";
    until(&cluster, "postgres", live).await;
    // After the word of the inserts: it counts what came since.
    work(&cluster, "postgres", "ANALYZE plain, strict, parts_1, parts_2").await;
    let analyzed = "(SELECT count(last_analyze) FROM pg_stat_user_tables) = 4";
    until(&cluster, "postgres", analyzed).await;
    let delete = "DELETE FROM plain WHERE i <= 500; DELETE FROM strict WHERE i <= 300; \
                  DELETE FROM parts WHERE i BETWEEN 1 AND 250 OR i BETWEEN 1001 AND 1750";
    work(&cluster, "postgres", delete).await;
    let dead = |n: u32| format!("(SELECT sum(n_dead_tup) FROM pg_stat_user_tables) = {n}");
    until(&cluster, "postgres", &dead(1800)).await;
    let mut run = Run::new(&cluster, "mon", "postgres", "vacuum").await;
    let first = run.poll().await;
    let of = |relname| ["postgres", "public", relname];
    let get = |poll: &Poll, metric: &str, relname| poll.get(metric, &of(relname));
    for (relname, rows, due) in
        [("plain", 500.0, 2.0), ("strict", 300.0, 3.0), ("parts", 1000.0, 3.0)]
    {
        assert_eq!(get(&first, "pg_stat_user_tables_n_dead_tup", relname), Some(rows), "{relname}");
        let ratio = get(&first, "pg_table_vacuum_due_ratio", relname);
        assert_eq!(ratio, Some(due), "{relname}: the partition that needs it most");
        assert_eq!(get(&first, "pg_stat_user_tables_last_vacuum", relname), None);
        assert_eq!(get(&first, "pg_stat_user_tables_vacuum_count", relname), Some(0.0));
    }
    assert_eq!(get(&first, "pg_stat_user_tables_n_live_tup", "parts"), Some(1000.0));
    let analyze = get(&first, "pg_table_analyze_due_ratio", "plain");
    assert_eq!(analyze, Some(500.0 / 150.0));
    assert_eq!(get(&first, "pg_table_vacuum_due_ratio", "parts_1"), None, "rolled up");
    assert_eq!(first.get("pg_vacuums_running", &["postgres"]), Some(0.0));
    let admin = common::admin(&cluster, "postgres").await;
    let age = "max(age(relfrozenxid))::float8 / current_setting('autovacuum_freeze_max_age')::float8 \
               FROM pg_class WHERE relname = 'plain'";
    let freeze = get(&first, "pg_table_freeze_due_ratio", "plain").unwrap();
    assert!((freeze - figure(&admin, age).await).abs() < 1e-7);

    work(&cluster, "postgres", "VACUUM plain").await;
    until(&cluster, "postgres", &dead(1300)).await;
    let second = run.poll().await;
    let vacuums = |f: &Family| f.metric.name.contains("vacuum_count");
    let first = Poll(first.0.into_iter().filter(vacuums).collect(), first.1);
    second.assert_not_below(&first, |_| true);
    assert_eq!(get(&second, "pg_stat_user_tables_vacuum_count", "plain"), Some(1.0));
    assert_eq!(get(&second, "pg_stat_user_tables_n_dead_tup", "plain"), Some(0.0));
    assert_eq!(get(&second, "pg_table_vacuum_due_ratio", "plain"), Some(0.0));
    let at = "extract(epoch FROM last_vacuum) FROM pg_stat_user_tables WHERE relname = 'plain'";
    let (last, view) =
        (get(&second, "pg_stat_user_tables_last_vacuum", "plain"), figure(&admin, at).await);
    assert!((last.unwrap() - view).abs() < 1e-3);
}

#[tokio::test]
async fn ages_settings_and_the_start_are_the_servers_own() {
    let cluster = server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let poll = Run::new(&cluster, "mon", "postgres", "wraparound").await.poll().await;
    assert_eq!(poll.series("pg_database_xid_age").len(), 3, "the templates too");
    for datname in ["postgres", "template0", "template1"] {
        let of = |f: &str| format!("{f} FROM pg_database WHERE datname = '{datname}'");
        let xid = figure(&admin, &of("age(datfrozenxid)")).await;
        assert!(xid > 0.0);
        assert_eq!(poll.get("pg_database_xid_age", &[datname]), Some(xid));
        let multixact = figure(&admin, &of("mxid_age(datminmxid)")).await;
        assert_eq!(poll.get("pg_database_multixact_age", &[datname]), Some(multixact));
        let ratio = poll.get("pg_database_wraparound_ratio", &[datname]).unwrap();
        assert!((ratio - xid.max(multixact) / 2_144_483_648.0).abs() < 1e-12);
    }

    let mut run = Run::new(&cluster, "mon", "postgres", "settings").await;
    let poll = run.poll().await;
    let start = figure(&admin, "extract(epoch FROM pg_postmaster_start_time())").await;
    assert!((poll.get("pg_postmaster_start_time_seconds", &[]).unwrap() - start).abs() < 1e-3);
    for (metric, value) in [
        ("autovacuum", 0.0),
        ("autovacuum_freeze_max_age", 2e8),
        ("autovacuum_multixact_freeze_max_age", 4e8),
        ("checkpoint_timeout_seconds", 300.0),
        ("max_wal_size_bytes", 1_073_741_824.0),
        ("work_mem_bytes", 4_194_304.0),
        ("archive_mode", 0.0),
        ("fsync", 0.0),
        ("pending_restart", 0.0),
        // The server's, not our own transaction's.
        ("statement_timeout_seconds", 0.0),
        ("transaction_read_only", 0.0),
        ("log_rotation_age_seconds", 86_400.0),
        ("log_min_duration_statement_seconds", -1.0),
        ("pg_stat_statements_max", 5_000.0),
        ("wal_segment_size_bytes", 16_777_216.0),
    ] {
        assert_eq!(poll.get(&format!("pg_settings_{metric}"), &[]), Some(value), "{metric}");
    }
    let numbers = "count(*)::int8 FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real') \
                   AND name NOT IN ('max_connections', 'superuser_reserved_connections', \
                                    'reserved_connections')";
    let settings = poll.0.iter().filter(|f| f.metric.name.starts_with("pg_settings_")).count();
    // Beside them archive_mode, and how many wait for a restart.
    assert_eq!(settings as f64, figure(&admin, numbers).await + 2.0, "every number and switch");
    admin.batch_execute("ALTER SYSTEM SET max_connections = 60").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let pending = "(SELECT bool_or(pending_restart) FROM pg_settings)";
    until(&cluster, "postgres", pending).await;
    // A session reads the files anew when it is next asked.
    let limit = Instant::now() + Duration::from_secs(10);
    while run.poll().await.get("pg_settings_pending_restart", &[]) != Some(1.0) {
        assert!(Instant::now() < limit, "never pending");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_buffer_cache_and_the_tables_that_autovacuum_is_on() {
    let settings = [("autovacuum_naptime", "1s"), ("shared_buffers", "16MB")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let mut buffers = Run::new(&cluster, "mon", "postgres", "buffercache").await;
    let used = "pg_buffercache_summary_buffers_used";
    if buffers.session.server().major() < 16 {
        assert_eq!(buffers.poll().await.series(used), []);
    } else {
        let refused = buffers.collector.fetch(&buffers.session, &buffers.state).await;
        let why = refused.err().unwrap().to_string();
        assert!(why.contains("pg_buffercache"), "{why}");
        admin.batch_execute("CREATE EXTENSION pg_buffercache").await.unwrap();
        let mut buffers = Run::new(&cluster, "mon", "postgres", "buffercache").await;
        let poll = buffers.poll().await;
        let get = |name: &str| poll.get(&format!("pg_buffercache_summary_{name}"), &[]).unwrap();
        assert_eq!(get("buffers_used") + get("buffers_unused"), 2048.0);
        assert!(get("buffers_used") > 100.0 && get("buffers_dirty") <= get("buffers_used"));
        assert!(get("usagecount_avg") > 0.0 && get("usagecount_avg") <= 5.0);
    }

    // Each page costs a rest, so that autovacuum is still there when it is looked for.
    work(
        &cluster,
        "postgres",
        "CREATE TABLE slow (i int) WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, \
         autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0); \
         INSERT INTO slow SELECT generate_series(1, 50000); DELETE FROM slow",
    )
    .await;
    let there = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'autovacuum:%.slow%'";
    until(&cluster, "postgres", there).await;
    let mut workers = Run::new(&cluster, "mon", "postgres", "autovacuum").await;
    let poll = workers.poll().await;
    let began = figure(
        &admin,
        "date_part('epoch', xact_start)::float8 FROM pg_stat_activity WHERE query LIKE 'autovacuum:%.slow%'",
    )
    .await;
    assert_eq!(poll.get("pg_stat_activity_autovacuum_timestamp_seconds", &["slow"]), Some(began));
}
