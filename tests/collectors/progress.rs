//! Commands that are held in the middle of their work: what is exported of them is what the views say.
//!
//! Must not: depend on how fast a command is.

use super::*;

/// A function that an index or a trigger calls waits here while the test holds the lock.
const GATE: &str = "\
CREATE FUNCTION gate(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  PERFORM pg_advisory_lock_shared(42); PERFORM pg_advisory_unlock_shared(42); RETURN i; END $$;
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.gate(1); RETURN NEW; END $$;
CREATE TABLE orders (i int) PARTITION BY RANGE (i);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (1000000);
INSERT INTO orders SELECT generate_series(1, 2000);
CREATE TABLE copied (i int); CREATE TRIGGER gate BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION gate();
CREATE TABLE pinned (i int); INSERT INTO pinned SELECT generate_series(1, 2000);";

/// Runs a command until it stands at the gate, or whatever else `held` says, and gives what lets it go on.
struct Held {
    holder: Client,
    command: tokio::task::JoinHandle<()>,
}

impl Held {
    async fn start(cluster: &Cluster, hold: &str, command: &str, held: &str) -> Self {
        let holder = common::admin(cluster, "postgres").await;
        holder.batch_execute(hold).await.unwrap();
        let client = common::admin(cluster, "postgres").await;
        let command = command.to_owned();
        let command = tokio::spawn(async move { client.batch_execute(&command).await.unwrap() });
        until(cluster, "postgres", held).await;
        Self { holder, command }
    }

    async fn release(self) {
        drop(self.holder);
        self.command.await.unwrap();
    }
}

/// The columns of a view and the metrics that they go out as.
type Columns = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn commands_that_run_are_where_the_views_say() {
    let cluster = server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let major = figure(&admin, "current_setting('server_version_num')::int / 10000").await;
    work(&cluster, "postgres", GATE).await;
    work(
        &cluster,
        "postgres",
        "COPY (SELECT generate_series(1, 100000)) TO PROGRAM 'cat > copied'",
    )
    .await;
    let mut run = Run::new(&cluster, "mon", "postgres", "progress").await;
    let idle = run.poll().await;
    assert!(idle.series("pg_progress_backends").is_empty());

    let gate = "SELECT pg_advisory_lock(42)";
    let waits = |view: &str| {
        format!(
            "EXISTS (SELECT FROM {view} p JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory' AND NOT l.granted)"
        )
    };
    let rewrite =
        if major >= 19.0 { "pg_stat_progress_repack" } else { "pg_stat_progress_cluster" };
    let written = if major >= 19.0 { "heap_tuples_inserted" } else { "heap_tuples_written" };
    let copy = "COPY copied FROM PROGRAM 'cat copied'";
    let file = "DO $$ BEGIN EXECUTE format('COPY copied FROM %L', current_setting('data_directory') || '/copied'); END $$";
    let index = "CREATE INDEX gated ON orders_1 (public.gate(i))";
    let scenes: Vec<(&str, &str, &str, &str, Columns)> = vec![
        (
            "pg_stat_progress_create_index",
            index,
            "orders",
            "CREATE INDEX",
            &[
                ("blocks_total", "create_index_blocks"),
                ("blocks_done", "create_index_blocks_done"),
                ("tuples_total", "create_index_tuples"),
                ("lockers_total", "create_index_lockers"),
                ("partitions_done", "create_index_partitions_done"),
            ],
        ),
        (
            "pg_stat_progress_analyze",
            "ANALYZE orders_1",
            "orders",
            "ANALYZE",
            &[
                ("sample_blks_total", "analyze_sample_blks"),
                ("sample_blks_scanned", "analyze_sample_blks_scanned"),
                ("ext_stats_total", "analyze_ext_stats"),
                ("child_tables_total", "analyze_child_tables"),
            ],
        ),
        (
            rewrite,
            "VACUUM FULL orders_1",
            "orders",
            "VACUUM FULL",
            &[
                ("heap_blks_total", "cluster_heap_blks"),
                ("heap_blks_scanned", "cluster_heap_blks_scanned"),
                ("heap_tuples_scanned", "cluster_heap_tuples_scanned"),
                ("index_rebuild_count", "cluster_index_rebuilds"),
            ],
        ),
        (
            "pg_stat_progress_copy",
            if major >= 14.0 { file } else { copy },
            "copied",
            "COPY FROM",
            &[
                ("bytes_total", "copy_bytes"),
                ("bytes_processed", "copy_bytes_processed"),
                ("tuples_processed", "copy_tuples_processed"),
                ("tuples_excluded", "copy_tuples_excluded"),
            ],
        ),
    ];
    for (view, command, table, label, columns) in scenes {
        if view == "pg_stat_progress_copy" && major < 14.0 {
            continue;
        }
        let held = Held::start(&cluster, gate, command, &waits(view)).await;
        let poll = run.poll().await;
        let labels = ["postgres", "public", table];
        for (column, name) in columns {
            let expected = figure(&admin, &format!("{column} FROM {view}")).await;
            let metric = format!("pg_stat_progress_{name}");
            assert_eq!(poll.get(&metric, &labels), Some(expected), "{view}.{column}");
        }
        let phase = if view == "pg_stat_progress_copy" { "''" } else { "phase" };
        let phase: String = admin
            .query_one(&format!("SELECT {phase}::text FROM {view}"), &[])
            .await
            .unwrap()
            .get(0);
        let running = ["postgres", "public", table, label, &phase];
        assert_eq!(poll.get("pg_progress_backends", &running), Some(1.0), "{view}");
        if view == rewrite {
            let rows = figure(&admin, &format!("{written} FROM {view}")).await;
            let metric = "pg_stat_progress_cluster_heap_tuples_written";
            assert_eq!(poll.get(metric, &labels), Some(rows));
            assert_eq!(rows, 2_000.0);
        }
        let (part, unit) = match view {
            "pg_stat_progress_create_index" => ("blocks_done / blocks_total", "blocks"),
            "pg_stat_progress_analyze" => ("sample_blks_scanned / sample_blks_total", "blocks"),
            "pg_stat_progress_copy" => ("bytes_processed / bytes_total", "bytes"),
            _ => ("heap_blks_scanned / heap_blks_total", "blocks"),
        };
        let part =
            figure(&admin, &format!("{} FROM {view}", part.replace(" /", "::float8 /"))).await;
        let of = ["postgres", "public", table, label, unit];
        assert_eq!(poll.get("pg_progress_done_ratio", &of), Some(part), "{view}");
        held.release().await;
    }

    // A vacuum that has to freeze a page which somebody holds.
    let held = Held::start(
        &cluster,
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM pinned; FETCH 1 FROM c",
        "VACUUM (FREEZE) pinned",
        "EXISTS (SELECT FROM pg_stat_progress_vacuum p JOIN pg_stat_activity a USING (pid) \
           WHERE a.wait_event_type IN ('BufferPin', 'Buffer'))",
    )
    .await;
    let poll = run.poll().await;
    let phase = ["postgres", "public", "pinned", "VACUUM", "scanning heap"];
    assert_eq!(poll.get("pg_progress_backends", &phase), Some(1.0));
    let part = "heap_blks_scanned::float8 / heap_blks_total FROM pg_stat_progress_vacuum";
    let of = ["postgres", "public", "pinned", "VACUUM", "blocks"];
    assert_eq!(poll.get("pg_progress_done_ratio", &of), Some(figure(&admin, part).await));
    let labels = ["postgres", "public", "pinned"];
    let most = poll.get("pg_stat_progress_vacuum_max_dead_tuple_bytes", &labels);
    if major >= 17.0 {
        let sql = "max_dead_tuple_bytes FROM pg_stat_progress_vacuum";
        assert_eq!(most, Some(figure(&admin, sql).await));
    } else {
        assert_eq!(most, None);
    }
    let info = poll.series("pg_progress_info");
    if major >= 19.0 {
        let sql = "SELECT mode, started_by FROM pg_stat_progress_vacuum";
        let row = admin.query_one(sql, &[]).await.unwrap();
        let (mode, by): (String, String) = (row.get(0), row.get(1));
        let labels = ["postgres", "public", "pinned", "VACUUM", &mode, &by].map(str::to_owned);
        assert_eq!(info, [(labels.to_vec(), 1.0)]);
        assert_eq!((&*mode, &*by), ("aggressive", "manual"));
    } else {
        assert!(info.is_empty());
    }
    held.release().await;
    assert!(run.poll().await.series("pg_progress_backends").is_empty());
}

#[tokio::test]
async fn a_base_backup_is_where_the_view_says() {
    let cluster =
        common::server_with(&[("autovacuum", "off"), ("max_wal_senders", "2")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    let major = figure(&admin, "current_setting('server_version_num')::int / 10000").await;
    let mut run = Run::new(&cluster, "mon", "postgres", "basebackups").await;
    assert!(run.poll().await.0.is_empty());
    let options = if major >= 15.0 {
        "(PROGRESS, MAX_RATE 32, CHECKPOINT 'fast')"
    } else {
        "PROGRESS FAST MAX_RATE 32"
    };
    let mut backup = tokio::process::Command::new(common::psql_program(&cluster))
        .arg("-Xqc")
        .arg(format!("BASE_BACKUP {options}"))
        .arg(format!(
            "host={} port={} user=postgres replication=true",
            cluster.socket_dir().display(),
            cluster.port()
        ))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let streams = "EXISTS (SELECT FROM pg_stat_progress_basebackup WHERE backup_streamed > 0)";
    until(&cluster, "postgres", streams).await;
    let sent = "backup_streamed FROM pg_stat_progress_basebackup";
    let before = figure(&admin, sent).await;
    let poll = run.poll().await;
    let after = figure(&admin, sent).await;
    let told = poll.get("pg_stat_progress_basebackup_streamed_bytes", &[]).unwrap();
    assert!((before..=after).contains(&told), "{before} <= {told} <= {after}");
    let total = figure(&admin, "backup_total FROM pg_stat_progress_basebackup").await;
    assert_eq!(poll.get("pg_stat_progress_basebackup_bytes", &[]), Some(total));
    assert_eq!(poll.get("pg_stat_progress_basebackup_done_ratio", &[]), Some(told / total));
    assert_eq!(poll.get("pg_stat_progress_basebackup_tablespaces", &[]), Some(1.0));
    let phase = ["streaming database files"];
    assert_eq!(poll.get("pg_stat_progress_basebackup_backends", &phase), Some(1.0));
    backup.kill().await.unwrap();
    until(&cluster, "postgres", "NOT EXISTS (SELECT FROM pg_stat_progress_basebackup)").await;
    assert!(run.poll().await.0.is_empty());
}
