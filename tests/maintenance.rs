//! The maintenance collector against the real pg_partman and pg_cron (Debian's packages), as a role
//! that has `pg_monitor` and what `docs/maintenance.md` grants.
//!
//! Must not: stand in for an extension, or skip where one is missing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Collector;
use pgrunway::collectors::maintenance::{Maintenance, State};
use pgrunway::config::{PartitionRule, Settings};
use pgrunway::metric::{Family, Refused, Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio_postgres::Client;

/// The collector on a session of its own.
struct Watch {
    session: Session,
    state: State,
    families: Vec<Family>,
}

impl Watch {
    async fn new(cluster: &Cluster, datname: &str, settings: Settings) -> Self {
        let connect = common::connect(cluster, "mon");
        let session =
            Session::connect(&connect, Some(datname), Arc::new(settings), Clock::start()).await;
        Self { session: session.unwrap(), state: State::default(), families: Vec::new() }
    }

    async fn poll(&mut self) {
        let rows = Maintenance.fetch(&self.session, &self.state).await.unwrap();
        let mut sink = Sink::new(Maintenance::METRICS, 10_000);
        Maintenance.derive(&mut self.state, rows, &mut sink);
        let (families, refused) = sink.finish();
        assert_eq!(refused, Refused::default());
        self.families = families;
    }

    /// Labels joined, and values.
    fn all(&self, name: &str) -> Vec<(String, f64)> {
        assert!(Maintenance::METRICS.iter().any(|m| m.name == name), "{name}");
        let family = self.families.iter().find(|f| f.metric.name == name);
        let samples = family.map(|f| f.samples.as_slice()).unwrap_or_default();
        let labels = |s: &pgrunway::metric::Sample| {
            s.labels.iter().map(|l| &**l).collect::<Vec<_>>().join(" ")
        };
        samples
            .iter()
            .map(|s| match s.value {
                Value::Number(n) => (labels(s), n),
                Value::Histogram(_) => panic!("{name} is a histogram"),
            })
            .collect()
    }

    fn readable(&self) -> Vec<(String, f64)> {
        self.all("pg_partition_maintenance_readable")
    }

    fn get(&self, name: &str, labels: &str) -> Option<f64> {
        self.all(name).into_iter().find(|(l, _)| l == labels).map(|(_, v)| v)
    }
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(l, v)| ((*l).to_owned(), *v)).collect()
}

async fn number(client: &Client, sql: &str) -> f64 {
    client.query_one(&format!("SELECT ({sql})::float8"), &[]).await.unwrap().get(0)
}

/// Statements of the page on maintenance that grant what an extension hides, for our role.
fn grants(extension: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/maintenance.md");
    let page = std::fs::read_to_string(path).unwrap();
    let marker = format!("-- {extension}, ");
    let block = page.split("```").find(|b| b.contains(&marker) && b.contains("GRANT")).unwrap();
    let from = block.find(&marker).unwrap();
    let statements = block[from..].lines().skip(1).take_while(|line| !line.starts_with("--"));
    let sql: String = statements.collect::<Vec<_>>().join("\n").replace("TO pgrunway", "TO mon");
    assert!(sql.matches("TO mon").count() >= 2, "{sql}");
    sql
}

#[tokio::test]
async fn settings_of_pg_partman_are_told_where_they_may_be_read() {
    let cluster = common::server_with(&[("track_commit_timestamp", "on")], &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
             CREATE TABLE ev (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
             CREATE TABLE ids (id int8 NOT NULL) PARTITION BY RANGE (id);
             CREATE TABLE quiet (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
             SELECT partman.create_parent('public.ev', 'ts', 'native', 'daily', p_premake := 3);
             SELECT partman.create_parent('public.ids', 'id', 'native', '1000');
             SELECT partman.create_parent('public.quiet', 'ts', 'native', 'daily');
             UPDATE partman.part_config SET retention = '1 mon 5 days', retention_keep_table = false,
               infinite_time_partitions = true WHERE parent_table = 'public.ev';
             UPDATE partman.part_config SET retention = '5000', automatic_maintenance = 'off'
              WHERE parent_table = 'public.ids'",
        )
        .await
        .expect("pg_partman is needed: scripts/deps test");
    let mut settings = common::settings();
    let rule = PartitionRule {
        table: "public.quiet".to_owned(),
        ignore: true,
        ..PartitionRule::default()
    };
    settings.partitions.rules = vec![rule];
    let mut watch = Watch::new(&cluster, "postgres", settings).await;
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_partman privilege", 0.0)]));
    assert_eq!(watch.all("pg_partman_premake"), []);
    let attached = watch.all("pg_partition_last_attached_timestamp_seconds");
    let names: Vec<&str> = attached.iter().map(|(labels, _)| labels.as_str()).collect();
    assert_eq!(names, ["postgres public ev commit", "postgres public ids commit"]);

    admin.batch_execute(&grants("pg_partman")).await.unwrap();
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_partman ", 1.0)]));
    let both = |ev, ids| pairs(&[("postgres public ev", ev), ("postgres public ids", ids)]);
    assert_eq!(watch.all("pg_partman_premake"), both(3.0, 4.0));
    assert_eq!(watch.all("pg_partman_automatic_maintenance"), both(1.0, 0.0));
    assert_eq!(watch.all("pg_partman_infinite_time_partitions"), both(1.0, 0.0));
    let retention = [("postgres public ev", 35.0 * 86_400.0)];
    assert_eq!(watch.all("pg_partman_retention_seconds"), pairs(&retention), "5000 counts keys");
    assert_eq!(watch.all("pg_partman_retention_keep_table"), both(0.0, 1.0));
    assert_eq!(watch.all("pg_partman_last_run_timestamp_seconds"), [], "4.x does not keep it");

    // Maintenance attaches more, and the server knows when.
    let before = number(&admin, "extract(epoch FROM now())").await;
    admin
        .batch_execute(
            "UPDATE partman.part_config SET premake = 9 WHERE parent_table = 'public.ev';
             SELECT partman.run_maintenance('public.ev')",
        )
        .await
        .unwrap();
    let after = number(&admin, "extract(epoch FROM now())").await;
    watch.poll().await;
    let at = watch.get("pg_partition_last_attached_timestamp_seconds", "postgres public ev commit");
    assert!(at.is_some_and(|at| (before..=after).contains(&at)), "{before} {at:?} {after}");
    let ids =
        watch.get("pg_partition_last_attached_timestamp_seconds", "postgres public ids commit");
    assert!(ids.unwrap() < before, "{ids:?}");
    // What is taken away is no attachment.
    admin.batch_execute("DROP TABLE ids_default").await.unwrap();
    watch.poll().await;
    let same =
        watch.get("pg_partition_last_attached_timestamp_seconds", "postgres public ids commit");
    assert_eq!(same, ids);

    // The column that 5.1 brought.
    admin
        .batch_execute(
            "ALTER TABLE partman.part_config ADD maintenance_last_run timestamptz;
             UPDATE partman.part_config SET maintenance_last_run = to_timestamp(1700000000.5)
              WHERE parent_table = 'public.ev';
             UPDATE partman.part_config SET retention = 'no interval' WHERE parent_table = 'public.ids'",
        )
        .await
        .unwrap();
    watch.poll().await;
    let last = pairs(&[("postgres public ev", 1_700_000_000.5)]);
    assert_eq!(watch.all("pg_partman_last_run_timestamp_seconds"), last);
    assert_eq!(watch.all("pg_partman_retention_seconds"), pairs(&retention));

    // A lock on it costs its own series and no more than the lock timeout.
    admin.batch_execute("BEGIN; LOCK TABLE partman.part_config").await.unwrap();
    let start = Instant::now();
    watch.poll().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(watch.readable(), pairs(&[("postgres pg_partman failed", 0.0)]));
    assert_eq!(watch.all("pg_partition_last_attached_timestamp_seconds").len(), 2);
    admin.batch_execute("ROLLBACK").await.unwrap();
}

async fn cron() -> (Cluster, Client) {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements,pg_cron"),
        ("cron.database_name", "postgres"),
        ("cron.use_background_workers", "on"),
        ("max_worker_processes", "20"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE EXTENSION pg_cron").await.expect("pg_cron: scripts/deps test");
    (cluster, admin)
}

#[tokio::test]
async fn the_last_runs_of_pg_crons_jobs_are_told() {
    let (cluster, admin) = cron().await;
    admin.batch_execute("CREATE DATABASE trading").await.unwrap();
    // What a standby says to a job that is sent there.
    let read_only = "ALTER DATABASE trading SET default_transaction_read_only = on";
    admin.batch_execute(read_only).await.unwrap();
    admin
        .batch_execute(
            "SELECT cron.schedule('make them', '* * * * *', 'SELECT 1 /* create_trade_partition secret */');
             SELECT cron.schedule_in_database('drop old partitions', '* * * * *', 'CREATE TABLE t ()', 'trading');
             SELECT cron.schedule('vacuum', '* * * * *', 'SELECT 2');
             SELECT cron.schedule('30 2 1 */3 *', 'CALL partman.run_maintenance_proc()');
             UPDATE cron.job SET active = false WHERE jobid = 4",
        )
        .await
        .unwrap();
    let mut watch = Watch::new(&cluster, "postgres", common::settings()).await;
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_cron privilege", 0.0)]));
    let (all, policies): (String, String) = {
        let all = grants("pg_cron");
        let (grants, policies) = all.split_at(all.find("CREATE POLICY").unwrap());
        (grants.to_owned(), policies.to_owned())
    };
    admin.batch_execute(&all).await.unwrap();
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_cron row_security", 0.0)]));
    assert_eq!(watch.all("pg_cron_job_active"), []);
    // A policy for nobody of us opens nothing.
    admin
        .batch_execute(
            "CREATE ROLE other; CREATE POLICY x ON cron.job FOR SELECT TO other USING (true);
             CREATE POLICY x ON cron.job_run_details FOR SELECT TO other USING (true)",
        )
        .await
        .unwrap();
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_cron row_security", 0.0)]));
    admin.batch_execute(&policies).await.unwrap();
    watch.poll().await;
    assert_eq!(watch.readable(), pairs(&[("postgres pg_cron ", 1.0)]));
    let jobs = ["postgres 1 make them", "trading 2 drop old partitions", "postgres 4 "];
    let [made, dropped, off] = jobs;
    assert_eq!(
        watch.all("pg_cron_job_active"),
        pairs(&[(made, 1.0), (dropped, 1.0), (off, 0.0)]),
        "no job that has nothing to do with partitions"
    );
    assert_eq!(
        watch.all("pg_cron_job_interval_seconds"),
        pairs(&[(made, 60.0), (dropped, 60.0), (off, 92.0 * 86_400.0)])
    );
    // Jobs run on the full minute.
    let begun = number(&admin, "extract(epoch FROM now())").await - 61.0;
    let deadline = Instant::now() + Duration::from_secs(150);
    while watch.all("pg_cron_job_last_run_succeeded").len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", watch.families);
        tokio::time::sleep(Duration::from_millis(500)).await;
        watch.poll().await;
    }
    assert_eq!(watch.all("pg_cron_job_last_run_succeeded"), pairs(&[(made, 1.0), (dropped, 0.0)]));
    for (metric, column) in [
        ("pg_cron_job_last_start_timestamp_seconds", "start_time"),
        ("pg_cron_job_last_end_timestamp_seconds", "end_time"),
    ] {
        let value = watch.get(metric, made).unwrap();
        let sql = format!(
            "SELECT count(*) FROM cron.job_run_details WHERE jobid = 1 \
                AND abs(extract(epoch FROM {column}) - {value}) < 0.001"
        );
        let same: i64 = admin.query_one(&sql, &[]).await.unwrap().get(0);
        assert!(same == 1 && value >= begun, "{metric} {value}");
    }
    for family in &watch.families {
        let labels = family.samples.iter().flat_map(|s| s.labels.iter());
        assert!(labels.into_iter().all(|l| !l.contains("secret") && !l.contains("SELECT")));
    }
    let mut elsewhere = Watch::new(&cluster, "trading", common::settings()).await;
    elsewhere.poll().await;
    assert_eq!(elsewhere.families.iter().map(|f| f.samples.len()).sum::<usize>(), 0);

    let uri = cluster.uri("mon", "postgres");
    let args = ["verify", "--database=postgres", "--only=maintenance", "--format=json"];
    let (code, report, err) = common::process::run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 1, "{report}{err}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let found = &report["checks"][0]["findings"];
    assert_eq!(report["checks"][0]["id"], "maintenance.standby");
    assert_eq!(found.as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(found[0]["object"], "drop old partitions", "{report:#}");
    let text = found[0]["found"].as_str().unwrap();
    assert!(text.contains(" in database trading was refused"), "{text}");
}

#[tokio::test]
async fn a_long_list_of_runs_is_read_in_bounds() {
    let (cluster, admin) = cron().await;
    // One run of the partition job, long ago; then very many of another. One that still runs.
    admin
        .batch_execute(
            "SELECT cron.schedule('partitions', '0 0 1 1 *', 'SELECT 1');
             SELECT cron.schedule('other', '0 0 1 1 *', 'SELECT 2');
             INSERT INTO cron.job_run_details (jobid, runid, status, start_time, end_time)
               VALUES (1, 1, 'succeeded', to_timestamp(100), to_timestamp(101));
             INSERT INTO cron.job_run_details (jobid, runid, status, command, start_time, end_time)
               SELECT 2, i, 'succeeded', repeat('x', 100), to_timestamp(i), to_timestamp(i)
                 FROM generate_series(2, 60000) i",
        )
        .await
        .unwrap();
    admin.batch_execute("VACUUM ANALYZE cron.job_run_details").await.unwrap();
    admin.batch_execute(&grants("pg_cron")).await.unwrap();
    let mut watch = Watch::new(&cluster, "postgres", common::settings()).await;
    let job = "postgres 1 partitions";
    let mut polls = 0;
    loop {
        watch.poll().await;
        polls += 1;
        if watch.get("pg_cron_job_last_start_timestamp_seconds", job).is_some() {
            break;
        }
        assert!(polls < 10);
    }
    assert_eq!(polls, 6, "ten thousand at a time");
    assert_eq!(watch.get("pg_cron_job_last_end_timestamp_seconds", job), Some(101.0));
    assert_eq!(watch.get("pg_cron_job_last_run_succeeded", job), Some(1.0));

    // From then on a poll costs next to nothing, whatever the table holds.
    let blocks = "SELECT COALESCE(sum(shared_blks_hit + shared_blks_read), 0)::float8 FROM pg_stat_statements s \
                    JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'mon' AND query LIKE '%job_run_details%'";
    admin.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    watch.poll().await;
    let read: f64 = admin.query_one(blocks, &[]).await.unwrap().get(0);
    let table = number(&admin, "SELECT pg_relation_size('cron.job_run_details') / 8192").await;
    assert!(table > 1_000.0 && (1.0..200.0).contains(&read), "{read} of {table}");

    // One that is running is looked at again until it is over.
    admin
        .batch_execute(
            "INSERT INTO cron.job_run_details (jobid, runid, status, start_time)
               VALUES (1, 60001, 'running', to_timestamp(200))",
        )
        .await
        .unwrap();
    watch.poll().await;
    assert_eq!(watch.get("pg_cron_job_last_start_timestamp_seconds", job), Some(200.0));
    assert_eq!(watch.get("pg_cron_job_last_end_timestamp_seconds", job), Some(101.0));
    admin
        .batch_execute(
            "INSERT INTO cron.job_run_details (jobid, runid, status) VALUES (2, 60002, 'running');
             UPDATE cron.job_run_details SET status = 'failed', end_time = to_timestamp(201) WHERE runid = 60001",
        )
        .await
        .unwrap();
    watch.poll().await;
    assert_eq!(watch.get("pg_cron_job_last_end_timestamp_seconds", job), Some(201.0));
    assert_eq!(watch.get("pg_cron_job_last_run_succeeded", job), Some(0.0));
    // What was known outlives the runs, and an emptied table begins anew.
    admin.batch_execute("TRUNCATE cron.job_run_details").await.unwrap();
    watch.poll().await;
    assert_eq!(watch.get("pg_cron_job_last_run_succeeded", job), Some(0.0));
    admin
        .batch_execute(
            "INSERT INTO cron.job_run_details (jobid, runid, status, start_time, end_time)
               VALUES (1, 1, 'succeeded', to_timestamp(300), to_timestamp(301))",
        )
        .await
        .unwrap();
    watch.poll().await;
    watch.poll().await;
    assert_eq!(watch.get("pg_cron_job_last_end_timestamp_seconds", job), Some(301.0));
}

#[tokio::test]
async fn an_attachment_is_seen_where_the_server_keeps_no_times() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (ts date, k int) PARTITION BY RANGE (ts);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (k);
             CREATE INDEX ON t (k)",
        )
        .await
        .unwrap();
    let mut watch = Watch::new(&cluster, "postgres", common::settings()).await;
    let at = |watch: &Watch| {
        watch.get("pg_partition_last_attached_timestamp_seconds", "postgres public t poll")
    };
    watch.poll().await;
    assert_eq!(watch.all("pg_partition_last_attached_timestamp_seconds"), []);
    admin.batch_execute("ANALYZE t; CREATE INDEX ON t (ts); UPDATE t SET k = 1").await.unwrap();
    watch.poll().await;
    assert_eq!(at(&watch), None, "indexes are no partitions");
    admin.batch_execute("CREATE TABLE t_1_1 PARTITION OF t_1 FOR VALUES IN (1)").await.unwrap();
    let before = number(&admin, "extract(epoch FROM now())").await;
    watch.poll().await;
    let first = at(&watch).unwrap();
    assert!((0.0..60.0).contains(&(first - before)), "{first} {before}");
    watch.poll().await;
    assert_eq!(at(&watch), Some(first));
    assert_eq!(watch.readable(), []);
}

#[tokio::test]
async fn a_standby_that_gets_no_commit_times_sees_for_itself() {
    let mut cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE t (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
        )
        .await
        .unwrap();
    let mut standby = cluster.standby().await.unwrap();
    let conf = standby.log_path().with_file_name("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap() + "track_commit_timestamp = on\n";
    std::fs::write(&conf, text).unwrap();
    standby.restart().await.unwrap();
    let there = common::admin(&standby, "postgres").await;
    let refused =
        there.batch_execute("SELECT pg_xact_commit_timestamp(xmin) FROM pg_inherits").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "55000");
    let mut watch = Watch::new(&standby, "postgres", common::settings()).await;
    watch.poll().await;
    let metric = "pg_partition_last_attached_timestamp_seconds";
    assert_eq!(watch.all(metric), []);
    let admin = common::admin(&cluster, "postgres").await;
    let sql = "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')";
    admin.batch_execute(sql).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while watch.get(metric, "postgres public t poll").is_none() {
        assert!(Instant::now() < deadline, "the standby follows");
        tokio::time::sleep(Duration::from_millis(50)).await;
        watch.poll().await;
    }
}
