//! Standbys, slots, subscriptions and the archiver on real servers: what is exported equals what the
//! views say, also while replay is paused, a slot is left behind and a link is cut.
//!
//! Must not: compare a figure that moves with a single reading of it.

use super::*;

const WALRECEIVER: [&str; 3] = ["walreceiver", "", ""];

/// Polls until the condition holds.
async fn poll_until(run: &mut Run, what: &str, condition: impl Fn(&Poll) -> bool) -> Poll {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let poll = run.poll().await;
        if condition(&poll) {
            return poll;
        }
        assert!(Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A figure that lies between two readings of the server's own.
async fn assert_between(
    client: &Client,
    run: &mut Run,
    sql: &str,
    metric: &str,
    labels: &[&str],
) -> f64 {
    let before = figure(client, sql).await;
    let value = run.poll().await.get(metric, labels).unwrap_or_else(|| panic!("no {metric}"));
    let after = figure(client, sql).await;
    assert!((before..=after).contains(&value), "{metric}: {before} <= {value} <= {after}");
    value
}

#[tokio::test]
async fn a_standby_its_lag_and_its_primary() {
    let mut primary = server().await;
    work(&primary, "postgres", "SELECT pg_create_physical_replication_slot('held', true)").await;
    let standby = primary.standby().await.unwrap();
    let here = common::admin(&primary, "postgres").await;
    let there = common::admin(&standby, "postgres").await;
    until(&standby, "postgres", "(SELECT status FROM pg_stat_wal_receiver) = 'streaming'").await;

    let mut replica = Run::new(&standby, "mon", "postgres", "replication").await;
    let mut main = Run::new(&primary, "mon", "postgres", "replication").await;
    let mut slots = Run::new(&primary, "mon", "postgres", "slots").await;
    let lag = "pg_replication_lag_seconds";
    let level = poll_until(&mut replica, "level", |p| p.get(lag, &[]) == Some(0.0)).await;
    assert_eq!(level.get("pg_replication_is_replica", &[]), Some(1.0));
    assert_eq!(level.get("pg_wal_receiver_streaming", &[]), Some(1.0));
    assert_eq!(level.get("pg_replication_replay_paused", &[]), Some(0.0));
    assert_eq!(level.get("pg_replication_lag_objective_seconds", &[]), Some(300.0));
    let poll = main.poll().await;
    assert_eq!(poll.get("pg_replication_is_replica", &[]), Some(0.0));
    assert_eq!(poll.get(lag, &[]), Some(0.0));
    assert_eq!(poll.get("pg_wal_receiver_streaming", &[]), None, "a primary has none");
    assert_eq!(poll.get("pg_stat_replication_streaming", &WALRECEIVER), Some(1.0));
    assert_eq!(poll.get("pg_stat_replication_sync", &WALRECEIVER), Some(0.0));

    // Received and not replayed.
    there.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    // The positions are of what was written, which an asynchronous commit leaves to others.
    let create = "SET synchronous_commit = on; CREATE TABLE t AS SELECT generate_series(1, 100000)";
    work(&primary, "postgres", create).await;
    let written = figure(&here, "pg_current_wal_lsn() - '0/0'").await;
    let received = format!("pg_last_wal_receive_lsn() - '0/0' >= {written}");
    until(&standby, "postgres", &received).await;
    until(&standby, "postgres", "pg_is_wal_replay_paused()").await;
    let paused = replica.poll().await;
    assert_eq!(paused.get("pg_replication_replay_paused", &[]), Some(1.0));
    let behind = paused.get(lag, &[]).unwrap();
    assert!(behind > 0.0 && behind < 60.0, "{behind}");
    let sql = "pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn()) FROM pg_stat_wal_receiver";
    let bytes = assert_between(&there, &mut replica, sql, "pg_wal_receiver_lag_bytes", &[]).await;
    assert!(bytes > 1e6, "{bytes}");
    let sql = "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication";
    let replay = ["walreceiver", "", "", "replay"];
    let metric = "pg_stat_replication_lag_bytes";
    assert!(assert_between(&here, &mut main, sql, metric, &replay).await > 1e6);
    let state = ["walreceiver", "", "streaming", ""];
    assert_between(&here, &mut main, sql, "pg_stat_replication_pg_wal_lsn_diff", &state).await;
    let sql = "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots";
    let metric = "pg_replication_slots_pg_wal_lsn_diff";
    assert!(assert_between(&here, &mut slots, sql, metric, &["held", ""]).await > 1e6);
    let poll = slots.poll().await;
    assert_eq!(poll.get("pg_replication_slots_active", &["held", ""]), Some(0.0));
    let status = ["held", "physical", "reserved"];
    assert_eq!(poll.get("pg_replication_slots_wal_status", &status), Some(1.0));
    assert_eq!(poll.series("pg_replication_slots_invalidated"), []);
    let objective = poll.get("pg_replication_slots_retained_objective_bytes", &[]);
    assert_eq!(objective, Some(10_737_418_240.0));

    let recovery = Run::new(&standby, "mon", "postgres", "recovery").await.poll().await;
    if replica.session.server().major() >= 19 {
        let pause = recovery.get("pg_stat_recovery_pause_state", &["paused"]);
        assert_eq!(pause, Some(1.0), "{:?}", recovery.series("pg_stat_recovery_pause_state"));
        for (sql, metric) in [
            ("promote_triggered::int", "promote_triggered"),
            ("last_replayed_tli", "last_replayed_timeline"),
            ("replay_end_tli", "replay_end_timeline"),
            ("last_replayed_end_lsn - '0/0'", "last_replayed_end_lsn_bytes"),
            ("replay_end_lsn - '0/0'", "replay_end_lsn_bytes"),
            ("extract(epoch FROM recovery_last_xact_time)", "last_xact_timestamp_seconds"),
            (
                "extract(epoch FROM current_chunk_start_time)",
                "current_chunk_start_timestamp_seconds",
            ),
        ] {
            // NULL has no sample.
            let sql = format!("COALESCE(({sql})::float8, -1) FROM pg_stat_recovery");
            let expected = figure(&there, &sql).await;
            let told = recovery.get(&format!("pg_stat_recovery_{metric}"), &[]).unwrap_or(-1.0);
            assert!((told - expected).abs() < 1e-3, "{metric}: {told}, not {expected}");
        }
    } else {
        assert!(recovery.0.is_empty());
    }

    there.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    poll_until(&mut replica, "level again", |p| p.get(lag, &[]) == Some(0.0)).await;
    poll_until(&mut main, "nothing left to replay", |p| {
        p.get("pg_stat_replication_lag_bytes", &replay) == Some(0.0)
    })
    .await;

    // The link is cut: all that was received was replayed, and yet nobody knows what is new.
    drop((here, main, slots));
    primary.stop().await.unwrap();
    let cut = "pg_wal_receiver_streaming";
    let first = poll_until(&mut replica, "cut", |p| p.get(cut, &[]) == Some(0.0)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = replica.poll().await;
    let grown = second.get(lag, &[]).unwrap() - first.get(lag, &[]).unwrap();
    assert!((1.0..30.0).contains(&grown), "{grown}");
    let last = second.get("pg_replication_last_replay_seconds", &[]).unwrap();
    assert!(second.get(lag, &[]).unwrap() <= last, "level after the last commit");
}

#[tokio::test]
async fn a_slot_that_lost_its_wal_says_why() {
    let cluster = common::server_with(&[("max_slot_wal_keep_size", "1MB")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("SELECT pg_create_physical_replication_slot('late', true)").await.unwrap();
    let mut run = Run::new(&cluster, "mon", "postgres", "slots").await;
    let safe =
        run.poll().await.get("pg_replication_slots_safe_wal_size_bytes", &["late", "physical"]);
    assert!(safe.unwrap() > 0.0);
    admin.batch_execute("CREATE TABLE t (i int)").await.unwrap();
    for i in 0..4 {
        let sql = format!("INSERT INTO t VALUES ({i})");
        for sql in [&*sql, "SELECT pg_switch_wal()", "CHECKPOINT"] {
            admin.batch_execute(sql).await.unwrap();
        }
    }
    until(&cluster, "postgres", "(SELECT wal_status FROM pg_replication_slots) = 'lost'").await;
    let poll = run.poll().await;
    let lost = ["late", "physical", "wal_removed"];
    assert_eq!(poll.get("pg_replication_slots_invalidated", &lost), Some(1.0));
    let status = ["late", "physical", "lost"];
    assert_eq!(poll.get("pg_replication_slots_wal_status", &status), Some(1.0));
    admin.batch_execute("SELECT pg_drop_replication_slot('late')").await.unwrap();
    assert_eq!(run.poll().await.series("pg_replication_slots_active"), []);
}

#[tokio::test]
async fn a_subscription_that_runs_and_one_that_fails() {
    let cluster =
        common::server_with(&[("wal_level", "logical"), ("autovacuum", "off")], &[]).await;
    work(&cluster, "postgres", "CREATE DATABASE src").await;
    work(&cluster, "postgres", "CREATE DATABASE dst").await;
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    work(&cluster, "src", &format!("{table}; CREATE PUBLICATION p FOR TABLE t")).await;
    work(&cluster, "src", "SELECT pg_create_logical_replication_slot('orders', 'pgoutput')").await;
    work(&cluster, "dst", table).await;
    let subscribe = format!(
        "CREATE SUBSCRIPTION orders CONNECTION 'host={} port={} user=postgres dbname=src' \
         PUBLICATION p WITH (create_slot = false, slot_name = 'orders', copy_data = false)",
        cluster.socket_dir().display(),
        cluster.port()
    );
    work(&cluster, "dst", &subscribe).await;
    let labels = ["dst", "orders"];
    let mut run = Run::new(&cluster, "mon", "postgres", "replication").await;
    let running = "pg_stat_subscription_running";
    let poll = poll_until(&mut run, "runs", |p| p.get(running, &labels) == Some(1.0)).await;
    assert_eq!(poll.get("pg_subscription_enabled", &labels), Some(1.0));
    assert_eq!(poll.series(running).len(), 1);
    let receipt = "pg_stat_subscription_last_msg_receipt_timestamp_seconds";
    let poll = poll_until(&mut run, "a message", |p| p.get(receipt, &labels).is_some()).await;
    let admin = common::admin(&cluster, "postgres").await;
    let now = figure(&admin, "extract(epoch FROM now())").await;
    assert!((0.0..60.0).contains(&(now - poll.get(receipt, &labels).unwrap())));
    let streaming = ["orders", "", "orders"];
    let level = |p: &Poll| p.get("pg_stat_replication_streaming", &streaming) == Some(1.0);
    poll_until(&mut run, "its publisher streams", level).await;
    let slots = Run::new(&cluster, "mon", "postgres", "slots").await.poll().await;
    assert_eq!(slots.get("pg_replication_slots_active", &["orders", "src"]), Some(1.0));
    let confirmed =
        slots.get("pg_replication_slots_slot_confirmed_flush_lsn", &["orders", "logical"]);
    assert!(confirmed.unwrap() > 0.0);

    let mut tables = Run::new(&cluster, "mon", "dst", "subscriptions").await;
    let dst = common::admin(&cluster, "dst").await;
    let states =
        |poll: &Poll, state: &str| poll.get("pg_subscription_tables", &["dst", "orders", state]);
    let poll = tables.poll().await;
    for (letter, state) in
        [("i", "init"), ("d", "datasync"), ("f", "finishedcopy"), ("s", "syncdone"), ("r", "ready")]
    {
        let sql = format!("count(*) FROM pg_subscription_rel WHERE srsubstate = '{letter}'");
        assert_eq!(states(&poll, state), Some(figure(&dst, &sql).await), "{state}");
    }
    assert_eq!(states(&poll, "ready"), Some(1.0));
    let worker = ["dst", "orders", "apply"];
    assert_eq!(poll.get("pg_stat_subscription_workers", &worker), Some(1.0));
    let delay = poll.get("pg_stat_subscription_message_delay_seconds", &labels).unwrap();
    assert!((0.0..60.0).contains(&delay), "{delay}");
    let reported = "pg_stat_subscription_latest_end_timestamp_seconds";
    let sql = "extract(epoch FROM latest_end_time) FROM pg_stat_subscription";
    assert_between(&dst, &mut tables, sql, reported, &labels).await;
    assert!(poll.get("pg_stat_subscription_unreported_bytes", &labels).is_some());
    let elsewhere = Run::new(&cluster, "mon", "postgres", "subscriptions").await.poll().await;
    assert!(elsewhere.0.is_empty(), "it is another database's");

    // The row is there already, so that the worker fails, and is started again, and fails.
    let errors = "pg_stat_subscription_errors_total";
    let counts = run.session.server().major() >= 15;
    assert_eq!(run.poll().await.get(errors, &labels), counts.then_some(0.0));
    work(&cluster, "dst", "INSERT INTO t VALUES (1)").await;
    work(&cluster, "src", "INSERT INTO t VALUES (1)").await;
    poll_until(&mut run, "it fails", |p| {
        if counts {
            p.get(errors, &labels).is_some_and(|n| n >= 1.0)
        } else {
            p.get(running, &labels) == Some(0.0)
        }
    })
    .await;
    work(&cluster, "dst", "ALTER SUBSCRIPTION orders DISABLE").await;
    let off = |p: &Poll| p.get(running, &labels) == Some(0.0);
    let poll = poll_until(&mut run, "it ends", off).await;
    if counts {
        let sql = "apply_error_count FROM pg_stat_subscription_stats";
        let metric = "pg_stat_subscription_apply_errors_total";
        assert!(assert_between(&dst, &mut tables, sql, metric, &labels).await >= 1.0);
    }
    let conflicts = "pg_stat_subscription_conflicts_total";
    if run.session.server().major() >= 18 {
        let sql = "confl_insert_exists FROM pg_stat_subscription_stats";
        let of = ["dst", "orders", "insert_exists"];
        assert!(assert_between(&dst, &mut tables, sql, conflicts, &of).await >= 1.0);
    } else {
        assert!(tables.poll().await.series(conflicts).is_empty());
    }
    work(&cluster, "dst", "UPDATE pg_subscription_rel SET srsubstate = 'd'").await;
    let copying = tables.poll().await;
    assert_eq!((states(&copying, "datasync"), states(&copying, "ready")), (Some(1.0), Some(0.0)));
    assert_eq!(poll.get("pg_subscription_enabled", &labels), Some(0.0));
}

#[tokio::test]
async fn an_archive_command_that_fails_and_then_works() {
    let settings = [("archive_mode", "on"), ("archive_command", "false"), ("autovacuum", "off")];
    let cluster = common::server_with(&settings, &[]).await;
    let mut wal = Run::new(&cluster, "mon", "postgres", "wal").await;
    let mut waldir = Run::new(&cluster, "mon", "postgres", "waldir").await;
    let first = wal.poll().await;
    assert_eq!(first.get("pg_stat_archiver_failed_count", &[]), Some(0.0));
    assert_eq!(first.get("pg_stat_archiver_last_archive_age", &[]), None, "never archived");
    let admin = common::admin(&cluster, "postgres").await;
    let position = figure(&admin, "pg_current_wal_lsn() - '0/0'").await;
    let failed = figure(&admin, "failed_count FROM pg_stat_archiver").await;
    admin.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 1000)").await.unwrap();
    admin.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    let count = format!("(SELECT failed_count FROM pg_stat_archiver) > {failed}");
    until(&cluster, "postgres", &count).await;
    let poll = wal.poll().await;
    assert!(poll.get("pg_stat_archiver_failed_count", &[]).unwrap() >= 1.0);
    let at = poll.get("pg_stat_archiver_last_failed_timestamp_seconds", &[]).unwrap();
    let now = figure(&admin, "extract(epoch FROM now())").await;
    assert!((0.0..60.0).contains(&(now - at)), "{now} {at}");
    let by = figure(&admin, "pg_current_wal_lsn() - '0/0'").await - position;
    let grown = poll.get("pg_wal_bytes_total", &[]).unwrap();
    assert!(grown > 0.0 && grown <= by + 1e6, "{grown} of {by}");
    // A segment that was just ended may become ready between the two readings.
    let statuses = "count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
    let end = Instant::now() + Duration::from_secs(30);
    let dir = loop {
        let dir = waldir.poll().await;
        let ready = figure(&admin, statuses).await;
        let shown = dir.get("pg_wal_archive_ready_files", &[]);
        if ready >= 1.0 && shown == Some(ready) {
            break dir;
        }
        assert!(Instant::now() < end, "{shown:?} of {ready}");
    };
    let files = "FROM pg_ls_waldir() WHERE length(name) = 24";
    let segments = figure(&admin, &format!("count(*) {files}")).await;
    assert_eq!(dir.get("pg_wal_segments", &[]), Some(segments));
    let bytes = figure(&admin, &format!("sum(size) {files}")).await;
    assert_eq!(dir.get("pg_wal_size_bytes", &[]), Some(bytes));

    admin.batch_execute("ALTER SYSTEM SET archive_command = 'true'").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    admin.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    let done = |p: &Poll| p.get("pg_stat_archiver_archived_count", &[]).is_some_and(|n| n >= 1.0);
    let poll = poll_until(&mut wal, "archived", done).await;
    let archived = poll.get("pg_stat_archiver_last_archived_timestamp_seconds", &[]).unwrap();
    let failed = poll.get("pg_stat_archiver_last_failed_timestamp_seconds", &[]).unwrap();
    assert!(archived > failed, "the rule on a failing archiver ends");
    assert!((0.0..60.0).contains(&poll.get("pg_stat_archiver_last_archive_age", &[]).unwrap()));
}
