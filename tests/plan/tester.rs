//! Plans a table, runs what is printed through psql, and looks at the runway.
//!
//! Must not: execute a plan in another way than its header tells.

use std::sync::Arc;

use pgrunway::cmd::cluster::Cluster;
use pgrunway::collector::Collector;
use pgrunway::collectors::partitions::Partitions;
use pgrunway::config::Settings;
use pgrunway::metric::{Sink, Value};
use pgrunway::pg::{Clock, Session};
use tokio_postgres::Client;

use super::common;
use super::common::process::run;

const DAY: f64 = 86_400.0;

/// A database with [`SPANS`] and a time zone.
pub async fn database(cluster: &Cluster, name: &str, zone: &str) -> Client {
    let admin = common::admin(cluster, "postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {name} SET timezone = '{zone}'")).await.unwrap();
    let admin = common::admin(cluster, name).await;
    admin.batch_execute(SPANS).await.unwrap();
    admin
}

/// `spans(parent, first, last, step, name, tail)`: partitions from `first` to `last` in steps, named
/// by `to_char` of their beginning.
const SPANS: &str = r"
CREATE PROCEDURE spans(parent regclass, first timestamp, last timestamp, step interval, name text,
                       tail text DEFAULT '', type text DEFAULT 'timestamp')
LANGUAGE plpgsql AS $$
DECLARE
  at timestamp := first;
BEGIN
  WHILE at < last LOOP
    EXECUTE format('CREATE TABLE %s.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L) %s',
                   (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE c.oid = parent),
                   to_char(at, name), parent, at, at + step, tail);
    at := at + step;
  END LOOP;
END $$;
CREATE FUNCTION today(n int DEFAULT 0) RETURNS timestamp STABLE LANGUAGE sql AS
  'SELECT date_trunc(''day'', localtimestamp) + make_interval(days => n)';
CREATE FUNCTION month(n int DEFAULT 0) RETURNS timestamp STABLE LANGUAGE sql AS
  'SELECT date_trunc(''month'', localtimestamp) + make_interval(months => n)';
";

/// Plans for the tables of one database.
pub struct Tester<'a> {
    pub cluster: &'a Cluster,
    pub datname: &'a str,
    pub admin: &'a Client,
}

impl Tester<'_> {
    pub async fn plan(&self, table: &str, days: u32, more: &[&str]) -> (i32, String, String) {
        let uri = self.cluster.uri("mon", "postgres");
        let days = days.to_string();
        let mut args = vec!["plan", table, "--days", &days, "--database", self.datname];
        args.extend(more);
        run(&args, &[("DATA_SOURCE_NAME", &uri)]).await
    }

    /// Runs a script as its header tells, as a superuser.
    pub async fn psql(&self, script: &str) -> (bool, String) {
        common::psql(self.cluster, self.datname, script).await
    }

    /// Plans, runs the plan twice, sees the runway, plans again. Returns the script.
    pub async fn extend(&self, table: &str, days: u32, more: &[&str]) -> String {
        let (code, script, err) = self.plan(table, days, more).await;
        assert_eq!(code, 0, "{table}: {err}");
        for _ in 0..2 {
            let (ok, text) = self.psql(&script).await;
            assert!(ok, "{table}: {text}\n{script}");
        }
        let runway = self.runway(table).await;
        // A minute for the time since the plan.
        assert!(runway >= f64::from(days) * DAY - 60.0, "{table}: {} days\n{script}", runway / DAY);
        let (code, again, err) = self.plan(table, days, &[]).await;
        assert_eq!(code, 0, "{table}: {err}");
        assert!(!again.contains("CREATE TABLE"), "{table}: {again}");
        script
    }

    async fn runway(&self, table: &str) -> f64 {
        let mut settings = Settings::default();
        settings.timeouts = common::settings().timeouts;
        let connect = common::connect(self.cluster, "mon");
        let session =
            Session::connect(&connect, Some(self.datname), Arc::new(settings), Clock::start());
        let session = session.await.unwrap();
        let rows = Partitions.fetch(&session, &Default::default()).await.unwrap();
        let mut sink = Sink::new(Partitions::METRICS, 1_000_000);
        Partitions.derive(&mut Default::default(), rows, &mut sink);
        let (families, _) = sink.finish();
        let family = families.iter().find(|f| f.metric.name == "pg_partition_runway_seconds");
        let name = table.rsplit('.').next().unwrap().trim_matches('"').replace("\"\"", "\"");
        let sample = family.unwrap().samples.iter().find(|s| *s.labels[2] == *name);
        match sample.unwrap_or_else(|| panic!("{table} has no runway")).value {
            Value::Number(number) => number,
            Value::Histogram(_) => panic!("a histogram"),
        }
    }

    pub async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.admin.query(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Names of the partitions of a table that do not match `to_char` of their lower bound, in UTC.
    pub async fn misnamed(&self, table: &str, pattern: &str) -> Vec<String> {
        self.texts(&format!(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
              WHERE i.inhparent = '{table}'::regclass \
                AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' \
                AND c.relname <> to_char(substring(pg_get_expr(c.relpartbound, c.oid), \
                    'FROM \\(''([^'']+)''')::timestamptz AT TIME ZONE current_setting('TimeZone'), \
                    '{pattern}')"
        ))
        .await
    }

    pub async fn count(&self, table: &str) -> usize {
        let sql = format!(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass"
        );
        self.texts(&sql).await.len()
    }
}
