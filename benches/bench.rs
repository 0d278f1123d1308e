//! How far `pgrunway bench` can be trusted: `cargo bench --bench bench [pgbench|same|planted ...]`.
//!
//! - `pgbench`: p50 of `SELECT 1`, prepared, beside `pgbench -M prepared` on the same socket, by turns;
//! - `same`: the five queries 21 times, each compared with the time before: every SLOWER is false;
//! - `planted`: 20 times, an index dropped, `enable_indexscan` off, and 30 % more work: each must be
//!   found, and what was not touched must not.
//!
//! `TRIALS` is for fewer than 20, `PGRUNWAY_BIN` for a binary that is built already.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pgrunway::cmd::cluster::{Cluster, find_binaries};
use pgrunway::cmd::demo::setup;
use pgrunway::pg::Admin;
use serde_json::Value;

struct Scene {
    cluster: Cluster,
    admin: Admin,
    dir: tempfile::TempDir,
}

impl Scene {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Runs `pgrunway bench` on the demo's database; the document that it prints.
    fn bench(&self, file: &str, args: &[&str]) -> Value {
        let binary = std::env::var("PGRUNWAY_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgrunway").to_owned());
        let mut command = Command::new(binary);
        command.args(["bench", file, "--format", "json"]).args(args);
        command.env("DATA_SOURCE_NAME", self.cluster.uri("postgres", setup::DATABASE));
        let out = command.output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {err}"))
    }

    async fn sql(&self, sql: &str) {
        self.admin.batch(sql).await.unwrap();
    }
}

fn trials() -> usize {
    std::env::var("TRIALS").ok().and_then(|t| t.parse().ok()).unwrap_or(20)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// `query mode` to its change.
fn changes(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for query in document["queries"].as_array().unwrap() {
        assert_eq!(query["failure"], Value::Null);
        for measured in query["modes"].as_array().unwrap() {
            assert_eq!(measured["failure"], Value::Null);
            let name = format!("{} {}", query["name"], measured["mode"]).replace('"', "");
            found.insert(name, measured["change"].clone());
        }
    }
    found
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median latency of a pgbench run in microseconds, of all its transactions.
fn pgbench(scene: &Scene, script: &str) -> f64 {
    let prefix = scene.path("log");
    let status = Command::new(scene.cluster.binaries().join("pgbench"))
        .args(["-M", "prepared", "-n", "-c", "1", "-j", "1", "-t", "20000", "-l", "-U", "postgres"])
        .args(["--log-prefix", &prefix, "-f", script, "-p", &scene.cluster.port().to_string()])
        .arg("-h")
        .arg(scene.cluster.socket_dir())
        .arg(setup::DATABASE)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(scene.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("log.") {
            let text = std::fs::read_to_string(&path).unwrap();
            // client, transaction, microseconds, ...
            latencies
                .extend(text.lines().map(|l| l.split(' ').nth(2).unwrap().parse::<f64>().unwrap()));
            std::fs::remove_file(path).unwrap();
        }
    }
    median(latencies)
}

fn beside_pgbench(scene: &Scene) {
    let script = scene.write("trivial.pgbench", "SELECT 1;\n");
    let file = scene.write("trivial.sql", "-- name: trivial\nSELECT 1;\n");
    let args = ["--mode", "prepared", "--iterations", "20000", "--warmup", "1000"];
    let mut ratios = Vec::new();
    for turn in 0..9 {
        let theirs = pgbench(scene, &script);
        let document = scene.bench(&file, &args);
        let p50 = &document["queries"][0]["modes"][0]["round_trip"]["p50"];
        let ours = p50.as_f64().unwrap() * 1e6;
        println!(
            "turn {}: pgrunway {ours:.1} µs, pgbench {theirs:.1} µs, ratio {:.2} (load {})",
            turn + 1,
            ours / theirs,
            load()
        );
        ratios.push(ours / theirs);
    }
    println!("median ratio {:.2}; 1.30 is the limit", median(ratios));
}

fn same(scene: &Scene) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/trading.sql");
    let (example, base) = (example.display().to_string(), scene.path("same.json"));
    let few = ["--iterations", "200", "--save", &base];
    scene.bench(&example, &few);
    let mut alarmed = 0;
    for trial in 1..=trials() {
        let args: Vec<&str> = few.iter().copied().chain(["--compare", &base]).collect();
        let document = scene.bench(&example, &args);
        let changes = changes(&document);
        let of = |verdict: &str| changes.values().filter(|c| c["verdict"] == verdict).count();
        let factors = |key: &str| {
            let all: Vec<f64> = changes.values().map(|c| c[key].as_f64().unwrap()).collect();
            let min = all.iter().copied().fold(f64::INFINITY, f64::min);
            format!("{min:.2} to {:.2}", all.iter().copied().fold(0.0, f64::max))
        };
        alarmed += usize::from(of("slower") > 0);
        println!(
            "same {trial}: slower {}, unconfirmed {}, faster {}, same {}; factors {}, as measured {} (load {})",
            of("slower"),
            of("unconfirmed"),
            of("faster"),
            of("same"),
            factors("adjusted"),
            factors("raw"),
            load()
        );
        for (name, change) in changes.iter().filter(|(_, c)| c["verdict"] == "slower") {
            println!("  {name}: {change}");
        }
    }
    println!("{alarmed} of {} comparisons with a false regression", trials());
}

async fn planted(scene: &Scene) {
    scene
        .sql(
            "CREATE TABLE k AS SELECT n AS id, n % 50 AS v FROM generate_series(1, 20000) n;
             CREATE TABLE l AS SELECT * FROM k; CREATE TABLE m AS SELECT * FROM k;
             CREATE INDEX k_id ON k (id); CREATE INDEX l_id ON l (id); CREATE INDEX m_id ON m (id);
             CREATE TABLE work AS SELECT 8000 AS n",
        )
        .await;
    scene.sql("VACUUM ANALYZE").await;
    // Without an index scan `l` is read by a bitmap of the index, and `m`, which has no index then, whole.
    let file = scene.write(
        "planted.sql",
        "-- name: dropped\n-- params: 1..19000\nSELECT sum(v) FROM m WHERE id BETWEEN $1 AND $1::int + 500;\n\
         -- name: disabled\n-- params: 1..19000\nSELECT v FROM l WHERE id = $1;\n\
         -- name: thirty\nSELECT count(*) FROM generate_series(1, (SELECT n FROM work));\n\
         -- name: control\n-- params: 1..19000\nSELECT count(*) FROM generate_series(1, $1::int * 0 + 8000);\n",
    );
    let base = scene.path("planted.json");
    let few = ["--mode", "prepared", "--iterations", "200"];
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for trial in 1..=trials() {
        let save: Vec<&str> = few.iter().copied().chain(["--save", &base]).collect();
        scene.bench(&file, &save);
        scene.sql("UPDATE work SET n = n * 13 / 10; DROP INDEX m_id").await;
        let off =
            ["--compare", &base, "--set", "enable_indexscan=off", "--set", "enable_bitmapscan=off"];
        let compare: Vec<&str> = few.iter().copied().chain(off).collect();
        let document = scene.bench(&file, &compare);
        scene.sql("UPDATE work SET n = n * 10 / 13; CREATE INDEX m_id ON m (id)").await;
        scene.sql("VACUUM work").await;
        let mut said = Vec::new();
        for (name, change) in changes(&document) {
            let slower = change["verdict"] == "slower";
            let factor = change["adjusted"].as_f64().unwrap();
            said.push(format!("{name} {factor:.2} {}", change["verdict"]));
            *found.entry(name).or_default() += usize::from(slower);
        }
        println!("planted {trial}: {} (load {})", said.join(", "), load());
    }
    for (name, times) in found {
        println!("{name}: slower in {times} of {}", trials());
    }
}

#[tokio::main]
async fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|a| a == name);
    let cluster = Cluster::start(&setup::cluster_options(find_binaries().unwrap())).await.unwrap();
    let (admin, _) = setup::schema(&cluster, false).await.unwrap();
    setup::data(&admin, 1).await.unwrap();
    let scene = Scene { cluster, admin, dir: tempfile::tempdir().unwrap() };
    if wanted("pgbench") {
        beside_pgbench(&scene);
    }
    if wanted("same") {
        same(&scene);
    }
    if wanted("planted") {
        planted(&scene).await;
    }
}
