//! `docs/versions.md` is true of the version that this runs on: every collector succeeds on a busy primary and on its
//! standby, gives something from the version on that it declares, and nothing before.
//!
//! Must not: hold a version of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrunway::collector::Scope;
use pgrunway::collectors::ALL;

use super::*;

/// Collectors that have nothing to show of this scene, and why.
const NOTHING_HERE: &[(&str, &str)] = &[
    ("autovacuum", "no worker need run"),
    ("processidle", "nobody need be idle"),
    ("basebackups", "no base backup is taken"),
    ("blocking", "nobody waits for long"),
    ("bloat", "the table is small"),
    ("extensions", "none is older than its files"),
    ("leftovers", "nothing is left behind"),
    ("progress", "no command runs for long"),
    ("subscriptions", "there is none"),
    (
        "logicalslots",
        "a slot of logical decoding needs wal_level = logical; tests/collectors/counted.rs has one",
    ),
    ("maintenance", "neither pg_partman nor pg_cron"),
];
/// Collectors that have something to show on a primary only, or on a standby only.
const ON_A_PRIMARY: &[&str] = &["indexhealth", "scores"];
const ON_A_STANDBY: &[&str] = &["walreceiver", "conflicts", "recovery"];

/// What of the metrics each collector gave in two polls; a failure or a refused sample fails the test.
async fn given(cluster: &Cluster) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut all = BTreeMap::new();
    for collector in ALL.iter().filter(|c| c.scope() != Scope::Pooler && !c.compatible_only()) {
        let mut run = Run::new(cluster, "mon", "postgres", collector.name()).await;
        let mut names = BTreeSet::new();
        for _ in 0..2 {
            let rows = run.collector.fetch(&run.session, &run.state).await;
            let rows = rows.unwrap_or_else(|e| panic!("{}: {e}", collector.name()));
            assert_eq!(run.session.missing(), [], "{}", collector.name());
            let mut sink = Sink::new(run.collector.metrics(), 10_000);
            run.collector.derive(&mut run.state, rows, &mut sink);
            let (families, refused) = sink.finish();
            assert_eq!(refused, Refused::default(), "{}", collector.name());
            names.extend(families.iter().filter(|f| !f.samples.is_empty()).map(|f| f.metric.name));
        }
        all.insert(collector.name(), names);
    }
    all
}

/// Writes, reads, sorts and rolls back until it is told to stop.
async fn load(admin: Client, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        admin
            .batch_execute(
                "INSERT INTO busy (t) SELECT repeat('x', 50) FROM generate_series(1, 500);
                 UPDATE busy SET t = 'y' WHERE id % 7 = 0; SELECT count(*) FROM busy WHERE id = 7;
                 SELECT count(*) FROM (SELECT t FROM busy ORDER BY t OFFSET 1) x;
                 BEGIN; DELETE FROM busy WHERE id % 5 = 0; ROLLBACK",
            )
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn every_collector_does_on_this_version_what_the_table_says() {
    let mut primary = common::server_with(&[("track_io_timing", "on")], &[]).await;
    work(
        &primary,
        "postgres",
        "CREATE TABLE busy (id serial PRIMARY KEY, t text);
         CREATE TABLE parts (at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE TABLE parts_now PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2100-01-01');
         INSERT INTO busy (t) SELECT 'z' FROM generate_series(1, 1000); ANALYZE busy;
         DO $$ BEGIN IF current_setting('server_version_num')::int >= 160000 THEN
           CREATE EXTENSION pg_buffercache; END IF; END $$;
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO mon;
         SELECT pg_create_physical_replication_slot('kept', true)",
    )
    .await;
    let standby = primary.standby().await.unwrap();
    until(&standby, "postgres", "(SELECT status FROM pg_stat_wal_receiver) = 'streaming'").await;
    let admin = common::admin(&primary, "postgres").await;
    let row = admin
        .query_one("SELECT current_setting('server_version_num')::int / 10000", &[])
        .await
        .unwrap();
    let major: i32 = row.get(0);

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(admin, stop.clone()));
    let (of_primary, of_standby) = (given(&primary).await, given(&standby).await);
    assert!(!load.is_finished(), "it was busy");
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();

    let mut faults = Vec::new();
    let mut judged = 0;
    for collector in ALL.iter().filter(|c| of_primary.contains_key(c.name())) {
        let name = collector.name();
        let since = collector.since();
        for (role, given) in [("primary", &of_primary[name]), ("standby", &of_standby[name])] {
            if major < since && !given.is_empty() {
                faults.push(format!(
                    "{name} is declared since {since}, and gives {given:?} on a {role}"
                ));
            }
            let excused = NOTHING_HERE.iter().any(|(excused, _)| *excused == name)
                || (role == "standby" && ON_A_PRIMARY.contains(&name))
                || (role == "primary" && ON_A_STANDBY.contains(&name));
            if major >= since && given.is_empty() && !excused {
                faults.push(format!(
                    "{name} gives nothing on a {role}: declare in the collector since which version it does (SINCE), \
                     or add to the scene what it shows"
                ));
            }
            for metric in collector.metrics().iter().filter(|metric| given.contains(metric.name)) {
                let (from, to) = metric.majors();
                judged += 1;
                if from.is_some_and(|from| major < from) || to.is_some_and(|to| major >= to) {
                    faults.push(format!("{} is there on a {role} of {major}", metric.name));
                }
            }
        }
    }
    assert!(faults.is_empty(), "PostgreSQL {major}:\n{}", faults.join("\n"));
    assert!(judged > 300, "{judged}");
}
