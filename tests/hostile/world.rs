//! The server, its parties, and what shows whether a trap was sprung.

use std::time::Duration;

use pgrunway::cmd::cluster::Cluster;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::common::{self, http, process::Process};

/// The monitoring roles.
pub const MONITORS: [&str; 3] = ["mon", "kin", "root"];

/// A server with the databases `postgres`, `eves` (hers) and `bobs` (his), each a plain role's.
pub struct World {
    pub cluster: Cluster,
    /// A superuser in `postgres`.
    pub admin: Client,
    /// `server_version_num / 10000`.
    pub major: i32,
}

/// What eve's functions do: tell in the log as whom they run. Of each kind that can be hung on a table.
const TRAPS: &str = "
CREATE SCHEMA traps;
CREATE FUNCTION traps.note() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  RAISE LOG 'sprung as %', session_user; RETURN 1; END $$;
CREATE FUNCTION traps.text(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  RAISE LOG 'sprung as %', session_user; RETURN x; END $$;
CREATE FUNCTION traps.bool() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  RAISE LOG 'sprung as %', session_user; RETURN true; END $$;
GRANT USAGE ON SCHEMA traps TO PUBLIC;
";

/// Functions by the names of the extension's, which spring the trap, in the current search path.
pub const LOOKALIKES: &str = "
CREATE TYPE statements_row AS (userid oid, dbid oid, toplevel bool, queryid int8, query text, plans int8,
  total_plan_time float8, min_plan_time float8, max_plan_time float8, mean_plan_time float8,
  stddev_plan_time float8, calls int8, total_exec_time float8, min_exec_time float8,
  max_exec_time float8, mean_exec_time float8, stddev_exec_time float8, rows int8,
  shared_blks_hit int8, shared_blks_read int8, temp_blks_written int8, blk_read_time float8,
  blk_write_time float8, shared_blk_read_time float8, shared_blk_write_time float8,
  stats_since timestamptz, minmax_stats_since timestamptz);
CREATE FUNCTION pg_stat_statements(showtext bool) RETURNS SETOF statements_row LANGUAGE plpgsql AS $$
BEGIN RAISE LOG 'sprung as %', session_user; RETURN; END $$;
CREATE FUNCTION pg_stat_statements_info(OUT dealloc int8, OUT stats_reset timestamptz)
LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'sprung as %', session_user; END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
";

impl World {
    pub async fn new() -> Self {
        let cluster = common::server_with(&[("log_min_messages", "log")], &[]).await;
        let admin = common::admin(&cluster, "postgres").await;
        admin
            .batch_execute(
                "CREATE ROLE eve LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE root LOGIN SUPERUSER;
                 CREATE ROLE kin LOGIN; GRANT pg_monitor TO kin; GRANT eve TO kin;",
            )
            .await
            .unwrap();
        admin.batch_execute("CREATE DATABASE eves OWNER eve").await.unwrap();
        admin.batch_execute("CREATE DATABASE bobs OWNER bob").await.unwrap();
        let row = admin.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]);
        let major = row.await.unwrap().get(0);
        let world = Self { cluster, admin, major };
        let eve = world.client("eve", "eves").await;
        eve.batch_execute(TRAPS).await.unwrap();
        world
    }

    pub async fn client(&self, user: &str, dbname: &str) -> Client {
        common::client(&self.cluster, user, dbname).await
    }

    /// A superuser in a database.
    pub async fn root(&self, dbname: &str) -> Client {
        common::admin(&self.cluster, dbname).await
    }

    /// Hands a database's extension to the server's owner, as `CREATE EXTENSION` by a superuser does.
    pub async fn extension(&self, dbname: &str, sql: &str) {
        self.root(dbname).await.batch_execute(sql).await.unwrap();
    }

    /// Who sprang a trap so far.
    pub fn sprung(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.cluster.log_path()).unwrap();
        let as_whom = |line: &str| Some(line.split_once("sprung as ")?.1.trim().to_owned());
        log.lines().filter_map(as_whom).collect()
    }

    /// The traps work, and no monitor has sprung one.
    pub fn assert_unsprung(&self, what: &str) {
        let sprung = self.sprung();
        assert!(sprung.iter().any(|who| who == "eve"), "{what}: nobody tried the trap");
        let caught: Vec<&String> =
            sprung.iter().filter(|w| MONITORS.contains(&w.as_str())).collect();
        assert!(caught.is_empty(), "{what}: sprung as {caught:?}");
    }

    /// The exporter with a home database, its slow collectors hurried.
    pub async fn serve(&self, monitor: &str, home: &str, args: &[&str]) -> Process {
        let mut all = vec![
            "--collector.maintenance.interval=1s",
            "--collector.partitions.interval=1s",
            "--collector.statements.include-text",
        ];
        all.extend(args);
        Process::serve(&self.cluster.uri(monitor, home), &all).await
    }
}

/// A series of the exporter's own about a collector.
pub fn of(text: &str, name: &str, collector: &str, datname: &str) -> Option<f64> {
    http::value(text, name, &[("collector", collector), ("datname", datname)])
}

pub fn success(text: &str, collector: &str, datname: &str) -> Option<f64> {
    of(text, "pgrunway_collector_success", collector, datname)
}

fn missing(text: &str, collector: &str, datname: &str) -> f64 {
    let labels = [("collector", collector), ("datname", datname), ("kind", "missing")];
    http::value(text, "pgrunway_collector_errors_total", &labels).unwrap_or(0.0)
}

/// Waits until a collector has run three times more, well or not.
pub async fn polls(process: &Process, collector: &str, datname: &str) -> String {
    let runs = |text: &str| {
        let last = "pgrunway_collector_last_success_timestamp_seconds";
        (of(text, last, collector, datname).unwrap_or(0.0), missing(text, collector, datname))
    };
    let mut text = process.metrics().await;
    for _ in 0..3 {
        let before = runs(&text);
        text = process.wait(&format!("{collector} runs again"), |t| runs(t) != before).await;
    }
    text
}

/// Waits until a collector says that something is missing: in its metrics, on the page and once in the log.
pub async fn refused(process: &Process, collector: &str, datname: &str, why: &[&str]) -> String {
    let text = process
        .wait(&format!("{collector} refuses"), |t| {
            success(t, collector, datname) == Some(0.0) && missing(t, collector, datname) >= 2.0
        })
        .await;
    let page = http::get(process.address, "/collectors").await.text();
    let log = process.log();
    let lines: Vec<&String> = log
        .iter()
        .filter(|l| l.contains("missing") && l.contains(&format!("\"{collector}\"")))
        .filter(|l| why.iter().all(|why| l.contains(why)))
        .collect();
    for why in why {
        assert!(page.contains(&why.replace('"', "&quot;")), "{why}: {page}");
    }
    assert_eq!(lines.len(), 1, "{why:?}: {log:#?}");
    text
}

/// What the page says.
pub async fn page(process: &Process) -> String {
    http::get(process.address, "/collectors").await.text()
}

/// Waits until the page says something.
pub async fn says(process: &Process, what: &str) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let page = page(process).await;
        if page.contains(what) {
            return page;
        }
        assert!(Instant::now() < end, "{what}:\n{page}\n{:#?}", process.log());
        sleep(Duration::from_millis(200)).await;
    }
}
