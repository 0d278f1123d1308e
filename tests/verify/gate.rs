//! Runs `pgrunway verify` with a file of the test's own, and psql.
//!
//! Must not: fix in another way than the report prints.

use pgrunway::cmd::cluster::Cluster;
use serde_json::Value;

use super::common;
use super::common::process::run;

/// A server and what is expected of it.
pub struct Gate<'a> {
    cluster: &'a Cluster,
    dir: tempfile::TempDir,
    role: &'a str,
}

impl<'a> Gate<'a> {
    pub fn new(cluster: &'a Cluster, expected: &str) -> Self {
        Self::of_role(cluster, expected, "mon")
    }

    pub fn of_role(cluster: &'a Cluster, expected: &str, role: &'a str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pgrunway.yml"), expected).unwrap();
        Self { cluster, dir, role }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Of the server's database `postgres`.
    pub fn uri(&self) -> String {
        self.cluster.uri(self.role, "postgres")
    }

    /// Exit code, standard output, standard error.
    pub async fn verify(&self, args: &[&str]) -> (i32, String, String) {
        self.verify_with(args, &[]).await
    }

    pub async fn verify_with(&self, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
        let uri = self.cluster.uri(self.role, "postgres");
        let file = format!("--config.file={}", self.path("pgrunway.yml"));
        let mut all = vec!["verify", &file, "--timeouts.statement=30s"];
        all.extend(args);
        let mut env = env.to_vec();
        env.push(("DATA_SOURCE_NAME", &uri));
        run(&all, &env).await
    }

    pub async fn json(&self, args: &[&str]) -> (i32, Value) {
        let mut all = vec!["--format", "json"];
        all.extend(args);
        let (code, out, err) = self.verify(&all).await;
        let report = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"));
        (code, report)
    }

    /// Runs a script through psql as a superuser.
    pub async fn psql(&self, database: &str, script: &str) -> (bool, String) {
        common::psql(self.cluster, database, script).await
    }
}

impl Gate<'_> {
    /// As [`Gate::psql`]; it must succeed.
    pub async fn sql(&self, database: &str, script: &str) {
        let (ok, said) = self.psql(database, script).await;
        assert!(ok, "{said}\n{script}");
    }
}

/// What a check looked at in a database.
pub fn summary(report: &Value, id: &str, database: &str) -> String {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|c| c["id"] == id && c["database"] == database);
    let check = check.unwrap_or_else(|| panic!("no {id} in {database}: {report:#}"));
    check["summary"].as_str().unwrap().to_owned()
}

fn each(report: &Value) -> Vec<(&Value, &Value)> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.flat_map(|c| c["findings"].as_array().unwrap().iter().map(move |f| (c, f))).collect()
}

/// Check and object of every finding.
pub fn found(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    each(report).iter().map(|(c, f)| (text(&c["id"]), text(&f["object"]))).collect()
}

/// Database, object and SQL of every finding; there is some for each.
pub fn fixes(report: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    each(report)
        .iter()
        .map(|(c, f)| {
            let sql: Vec<String> = f["fix"].as_array().unwrap().iter().map(text).collect();
            assert!(!sql.is_empty(), "no SQL for {} of {}: {f:#}", f["object"], c["id"]);
            let database = c["database"].as_str().unwrap_or("postgres");
            (database.to_owned(), format!("{} {}", c["id"], f["object"]), sql.join("\n"))
        })
        .collect()
}
