//! Recommendations about the server: each follows what the server's settings and counters say.
//!
//! Must not: assert what depends on the machine.

use super::{Run, common, until, work};

const ACTIVE: &str = "pg_recommendation_active";

#[tokio::test]
async fn recommendations_follow_the_settings_in_their_units() {
    let settings = [
        ("track_io_timing", "off"),
        ("checkpoint_completion_target", "0.5"),
        ("idle_in_transaction_session_timeout", "3s"),
        ("log_min_duration_statement", "-1"),
        ("shared_buffers", "64MB"),
        ("effective_cache_size", "1536MB"),
        ("maintenance_work_mem", "32MB"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let mut given = common::settings();
    given.host.memory = Some(2_147_483_648.0);
    let mut run = Run::with(&cluster, "mon", "postgres", "recommendations", given).await;
    let poll = run.poll().await;
    for (id, expected) in [
        ("settings.track_io_timing", Some(1.0)),
        ("settings.checkpoint_completion_target", Some(1.0)),
        ("settings.idle_in_transaction", Some(0.0)),
        ("settings.log_min_duration_statement", Some(1.0)),
        // 3 % and 75 % of 2 GB; exactly a 64th.
        ("settings.shared_buffers", Some(1.0)),
        ("settings.effective_cache_size", Some(0.0)),
        ("settings.maintenance_work_mem", Some(0.0)),
        ("settings.fsync", Some(1.0)),
        ("connections.pool", Some(0.0)),
        // Not enough time, and no processors.
        ("settings.max_wal_size", None),
        ("settings.work_mem", None),
        ("settings.parallel_workers", None),
    ] {
        assert_eq!(poll.get(ACTIVE, &[id]), expected, "{id}");
    }
    let change = "ALTER SYSTEM SET track_io_timing = on; ALTER SYSTEM SET log_min_duration_statement = 100; \
                  ALTER SYSTEM SET maintenance_work_mem = '31MB'";
    for statement in change.split("; ") {
        work(&cluster, "postgres", statement).await;
    }
    work(&cluster, "postgres", "SELECT pg_reload_conf()").await;
    until(
        &cluster,
        "postgres",
        "(SELECT setting = 'on' FROM pg_settings WHERE name = 'track_io_timing')",
    )
    .await;
    let poll = loop {
        // Each backend takes the change up by itself.
        let poll = run.poll().await;
        if poll.get(ACTIVE, &["settings.track_io_timing"]) == Some(0.0) {
            break poll;
        }
    };
    assert_eq!(poll.get(ACTIVE, &["settings.log_min_duration_statement"]), Some(0.0));
    assert_eq!(poll.get(ACTIVE, &["settings.maintenance_work_mem"]), Some(1.0));
}

#[tokio::test]
async fn a_crowd_asks_for_a_pool() {
    let cluster = common::server_with(&[("max_connections", "20")], &[]).await;
    let mut run = Run::new(&cluster, "mon", "postgres", "recommendations").await;
    assert_eq!(run.poll().await.get(ACTIVE, &["connections.pool"]), Some(0.0));
    let mut crowd = Vec::new();
    for _ in 0..15 {
        crowd.push(common::client(&cluster, "postgres", "postgres").await);
    }
    // The crowd and nobody else (we do not count ourselves): one below the limit.
    until(
        &cluster,
        "postgres",
        "(SELECT count(*) >= 17 FROM pg_stat_activity WHERE backend_type = 'client backend')",
    )
    .await;
    crowd.push(common::client(&cluster, "postgres", "postgres").await);
    assert_eq!(run.poll().await.get(ACTIVE, &["connections.pool"]), Some(1.0));
}
