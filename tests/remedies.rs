//! What `pgrunway verify` prints to be run, as a property: each fault of `remedies/kinds.rs`, under names that
//! would end a string, a quote or a line, beside a reader and a writer, behind a blocker, cut off at each
//! statement, terminated, run twice and twice at once. Nothing that must be kept is ever lost, others wait for
//! less than 2 s, and exit code 0 means that it is as it should be.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;
#[path = "verify/gate.rs"]
#[allow(dead_code, reason = "tests/verify.rs uses the rest")]
mod gate;
#[path = "remedies/kinds.rs"]
mod kinds;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::process::run;
use gate::Gate;
use kinds::{KINDS, Kind, fill};
use pgrunway::cmd::cluster::Cluster;
use tokio_postgres::Client;

/// Nobody waits for longer than that behind a script.
const PATIENCE: Duration = Duration::from_secs(2);

/// Schema, table, other table, index: as SQL writes them.
const NAMES: [[&str; 4]; 2] = [
    ["shop", "trades", "traders", "trades_a"],
    [
        "\"S\"\"x'$do$\"",
        "\"it's \"\"t\"\" \\ é;--\"",
        "\"$(touch pwned)\"",
        "\"I`x %s {} \u{202e}\"",
    ],
];

/// What was seen over all cases.
#[derive(Default)]
struct Sum {
    cases: usize,
    scripts: usize,
    refused: usize,
    longest: Duration,
}

struct Case<'a> {
    cluster: &'a Cluster,
    gate: &'a Gate<'a>,
    database: String,
    admin: Client,
    kind: &'static Kind,
    names: [&'static str; 4],
    sum: &'a Mutex<Sum>,
}

impl Case<'_> {
    fn sql(&self, template: &str) -> String {
        fill(template, self.names)
    }

    async fn holds(&self, template: &str) -> bool {
        let sql = format!("SELECT COALESCE(({})::boolean, false)", self.sql(template));
        self.admin.query_one(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    async fn kept(&self, when: &str, script: &str) {
        assert!(
            self.holds(self.kind.kept).await,
            "{}, {when}: {} is lost\n{script}",
            self.kind.what,
            self.kind.kept
        );
    }

    /// Makes the fault anew.
    async fn plant(&self) {
        let schema = self.names[0];
        let client = common::admin(self.cluster, &self.database).await;
        client
            .batch_execute(&format!(
                "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"
            ))
            .await
            .unwrap();
        let plant = self.sql(self.kind.plant);
        client.batch_execute(&plant).await.unwrap_or_else(|e| panic!("{plant}: {e:?}"));
        for sql in self.kind.fails {
            assert!(client.batch_execute(&self.sql(sql)).await.is_err(), "{sql} is meant to fail");
        }
        client.batch_execute(&self.sql(self.kind.then)).await.unwrap();
        assert!(
            self.kind.wanted.is_empty() || !self.holds(self.kind.wanted).await,
            "{} is planted",
            self.kind.what
        );
    }

    /// The script for all that is found of it, as `--format sql` prints it; `None` where there is none.
    async fn script(&self) -> Option<String> {
        let args = ["--only", self.kind.check, "--database", &self.database];
        let as_sql = [&args[..], &["--format", "sql"]].concat();
        // What a backend counted reaches the statistics a moment later, and before 15 old ones may be read once more.
        let end = Instant::now() + Duration::from_secs(30);
        let script = loop {
            let (_, report) = self.gate.json(&args).await;
            if !gate::found(&report).is_empty() {
                let (_, script, _) = self.gate.verify(&as_sql).await;
                if self.kind.wanted.is_empty() || script.contains("\\set ON_ERROR_STOP on") {
                    break script;
                }
            }
            let late = Instant::now() > end;
            assert!(!late, "{} is found: {report:#}", self.kind.what);
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let raw = self.admin.query_one("SELECT current_database()::text", &[]).await.unwrap();
        let database: String = raw.get(0);
        assert!(
            !script.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{script}"
        );
        if !script.contains("\\set ON_ERROR_STOP on") {
            return None;
        }
        // What deletes rows is a comment until somebody reads it.
        let deletes = script.contains("-- \\set ON_ERROR_STOP on");
        assert_eq!(
            deletes,
            ["constraint.foreign_key", "partition.retention"].contains(&self.kind.check)
        );
        assert!(script.contains(&format!("dbname='{database}'")), "{script}");
        let script: Vec<&str> = script
            .lines()
            .map(|l| if deletes { l.strip_prefix("-- ").unwrap_or(l) } else { l })
            .collect();
        let from = script.iter().position(|l| l.starts_with("\\set ON_ERROR_STOP")).unwrap();
        Some(script[from..].join("\n") + "\n")
    }

    async fn psql(&self, script: &str) -> (bool, String) {
        self.gate.psql(&self.database, script).await
    }

    /// Runs it until it is right, at most so often.
    async fn until_right(&self, script: &str, most: usize) {
        let mut said = String::new();
        for _ in 0..most {
            let (ok, text) = self.psql(script).await;
            self.kept("after a run", script).await;
            if ok {
                assert!(
                    self.holds(self.kind.wanted).await,
                    "{}: exit code 0, but: {text}\n{script}",
                    self.kind.what
                );
                return;
            }
            said = text;
        }
        panic!("{}: not right after {most} runs: {said}\n{script}", self.kind.what);
    }

    /// Reads and writes the table while `work` goes on; how long the slowest statement took.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let table = self.sql("{t}");
        let each = async |sql: String| {
            let client = common::admin(self.cluster, &self.database).await;
            let mut longest = Duration::ZERO;
            while !*stopped.borrow() {
                let start = Instant::now();
                client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                longest = longest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        };
        let all = async {
            let got = work.await;
            stop.send(true).unwrap();
            got
        };
        let (got, read, wrote) = tokio::join!(
            all,
            each(format!("SELECT count(*) FROM {table}")),
            each(format!("INSERT INTO {table} DEFAULT VALUES"))
        );
        (got, read.max(wrote))
    }

    fn count(&self, longest: Duration) {
        let mut sum = self.sum.lock().unwrap();
        sum.cases += 1;
        sum.longest = sum.longest.max(longest);
    }

    async fn all(&self) {
        self.plant().await;
        let Some(script) = self.script().await else {
            assert!(self.kind.wanted.is_empty(), "{}: no script", self.kind.what);
            let mut sum = self.sum.lock().unwrap();
            sum.refused += 1;
            sum.cases += 1;
            return;
        };
        assert!(!self.kind.wanted.is_empty(), "{}: none is expected\n{script}", self.kind.what);
        self.sum.lock().unwrap().scripts += 1;
        // Beside others, and twice.
        let (_, longest) = self.beside(self.until_right(&script, 1)).await;
        assert!(longest < PATIENCE, "{}: others waited for {longest:?}\n{script}", self.kind.what);
        self.until_right(&script, 1).await;
        self.count(longest);
        self.cut().await;
        self.behind("SELECT count(*) FROM {t}").await;
        self.behind("INSERT INTO {t} DEFAULT VALUES").await;
        self.terminated().await;
        self.at_once().await;
    }

    /// Cut off after each statement, then run again.
    async fn cut(&self) {
        self.plant().await;
        let script = self.script().await.unwrap();
        for end in ends(&script) {
            let (_, said) = self.psql(&format!("{}\\quit\n", &script[..end])).await;
            assert!(!said.contains("ERROR"), "{}: {said}\n{script}", self.kind.what);
            self.kept("cut off", &script).await;
        }
        self.until_right(&script, 1).await;
        self.count(Duration::ZERO);
    }

    /// Behind a transaction that ends after 1.5 s.
    async fn behind(&self, holds: &str) {
        self.plant().await;
        let script = self.script().await.unwrap();
        let blocker = common::admin(self.cluster, &self.database).await;
        blocker.batch_execute(&format!("BEGIN; {}", self.sql(holds))).await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            blocker.batch_execute("COMMIT").await.unwrap();
        };
        // One that gives up soon is run again.
        let work = async { tokio::join!(self.until_right(&script, 12), release) };
        let (_, longest) = self.beside(work).await;
        assert!(longest < PATIENCE, "{}: others waited for {longest:?}\n{script}", self.kind.what);
        self.count(longest);
    }

    /// Terminated at several moments behind a blocker, and without one.
    async fn terminated(&self) {
        self.plant().await;
        let script = self.script().await.unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql' AND datname = current_database()";
        let blocker = common::admin(self.cluster, &self.database).await;
        for (n, wait) in [30_u64, 60, 120, 240].into_iter().enumerate() {
            let begin = if n % 2 == 0 {
                self.sql("BEGIN; INSERT INTO {t} DEFAULT VALUES")
            } else {
                "BEGIN".to_owned()
            };
            blocker.batch_execute(&begin).await.unwrap();
            // Again and again: the first may come before psql is there, which would then wait for the blocker.
            let kill = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    self.admin.batch_execute(end).await.unwrap();
                }
            };
            let (ok, said) = tokio::select! {
                ended = self.psql(&script) => ended,
                () = kill => unreachable!("it goes on until psql has ended"),
            };
            blocker.batch_execute("COMMIT").await.unwrap();
            self.kept("terminated", &script).await;
            assert!(!ok || self.holds(self.kind.wanted).await, "{}: {said}", self.kind.what);
        }
        self.until_right(&script, 3).await;
        self.count(Duration::ZERO);
    }

    /// Two people at once.
    async fn at_once(&self) {
        self.plant().await;
        let script = self.script().await.unwrap();
        let ((a, said_a), (b, said_b)) = tokio::join!(self.psql(&script), self.psql(&script));
        self.kept("two at once", &script).await;
        let right = self.holds(self.kind.wanted).await;
        assert!(
            !(a && b) || right,
            "{}: both say that it is right\n{said_a}\n{said_b}\n{script}",
            self.kind.what
        );
        self.until_right(&script, 3).await;
        self.count(Duration::ZERO);
    }
}

/// Where the statements of a script end.
fn ends(script: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    let mut at = 0;
    for line in script.split_inclusive('\n') {
        at += line.len();
        let end = line.trim_end();
        if let Some(tag) = &inside {
            if end == format!("{tag};") || end.ends_with(&format!("{tag};")) {
                inside = None;
                found.push(at);
            }
        } else if let Some(tag) = end.strip_prefix("DO LANGUAGE plpgsql ") {
            inside = Some(tag.to_owned());
        } else if let Some((_, tag)) = end.rsplit_once(" AS $") {
            inside = Some(format!("${tag}"));
        } else if !line.starts_with("--") && (end.ends_with(';') || end.ends_with("\\gexec")) {
            found.push(at);
        }
    }
    found
}

const CONFIG: &str = "
collectors:
  indexhealth: {unused_after: 90d}
  indexes: {minimum_rows: 1000}
partitions:
- {table: shop.trades, max_age: 47h}
indexes:
- {table: shop.trades, name: expected, columns: 'b, a'}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_verify_prints_is_safe_to_follow() {
    let settings = [
        ("autovacuum", "off"),
        ("fsync", "off"),
        ("max_connections", "100"),
        ("track_io_timing", "on"),
    ];
    let cluster = common::server_with(&settings, &[]).await;
    let gate = Gate::of_role(&cluster, CONFIG, "postgres");
    let eager = Gate::of_role(&cluster, &CONFIG.replace("90d", "1s"), "postgres");
    let sum = Mutex::new(Sum::default());
    let lane = async |lane: usize| {
        let mut n = 0;
        for kind in KINDS {
            for (which, names) in NAMES.into_iter().enumerate() {
                if which > 0 && !kind.any_name {
                    continue;
                }
                n += 1;
                if n % 3 != lane {
                    continue;
                }
                let mut database = "postgres".to_owned();
                if !kind.server {
                    database = format!("lane_{lane}_{n}");
                    let create = format!("CREATE DATABASE {database}");
                    // Not by psql, which a case of the whole server terminates.
                    common::admin(&cluster, "postgres").await.batch_execute(&create).await.unwrap();
                }
                let admin = common::admin(&cluster, &database).await;
                let case = Case {
                    cluster: &cluster,
                    gate: if kind.check == "index.unused" { &eager } else { &gate },
                    database,
                    admin,
                    kind,
                    names,
                    sum: &sum,
                };
                case.all().await;
            }
        }
    };
    tokio::join!(lane(0), lane(1), lane(2));
    let sum = sum.into_inner().unwrap();
    eprintln!(
        "{} cases, {} scripts, {} refused, others waited for {:?} at most",
        sum.cases, sum.scripts, sum.refused, sum.longest
    );
    assert!(sum.cases >= 100, "{} cases", sum.cases);
    assert_eq!(sum.refused, 2);
}

#[test]
fn the_list_of_remedies_is_current() {
    let mut text = String::from(
        "# What verify prints to be run\n\n\
         Written by `UPDATE_DOCS=1 cargo test --test remedies the_list` from the faults that the test plants. Each \
         script was run\nbeside a reader and a writer, behind a transaction that holds ACCESS SHARE and one that \
         holds ROW EXCLUSIVE, cut off\nafter each statement, terminated, twice, and twice at once, under plain and \
         hostile names: nothing that must be kept was\nlost, others waited for less than 2 s, and exit code 0 meant \
         that it was as it should be.\n\n\
         | check | found | the script |\n|---|---|---|\n",
    );
    for kind in KINDS {
        text.push_str(&format!("| `{}` | {} | {} |\n", kind.check, kind.what, kind.does));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/remedies.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "UPDATE_DOCS=1 writes it anew");
}

#[tokio::test]
async fn a_report_names_commands_that_a_shell_runs_as_one() {
    // Tables whose names would be commands, with too short a runway.
    let cluster = common::server().await;
    let gate = Gate::of_role(&cluster, "", "postgres");
    gate.sql(
        "postgres",
        "CREATE TABLE \"x$(touch pwned)`touch pwned`\" (ts timestamptz) PARTITION BY RANGE (ts);
         CREATE TABLE x_1 PARTITION OF \"x$(touch pwned)`touch pwned`\" FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
         CREATE TABLE x_2 PARTITION OF \"x$(touch pwned)`touch pwned`\" FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');",
    )
    .await;
    let uri = cluster.uri("postgres", "postgres");
    let (code, out, err) = run(&["report", "--over", "1s"], &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 0, "{err}");
    let command =
        out.lines().find(|l| l.starts_with("pgrunway plan ")).unwrap_or_else(|| panic!("{out}"));
    assert!(command.ends_with("--database=postgres"), "{command}");
    let dir = tempfile::tempdir().unwrap();
    let shown = std::process::Command::new("bash")
        .current_dir(dir.path())
        .args(["-c", &format!("pgrunway() {{ printf '%s\\n' \"$@\"; }}; {command}")])
        .output()
        .unwrap();
    let words = String::from_utf8(shown.stdout).unwrap();
    let words: Vec<&str> = words.lines().collect();
    assert_eq!(words[..2], ["plan", "public.\"x$(touch pwned)`touch pwned`\""], "{command}");
    assert!(!dir.path().join("pwned").exists());
    // And `plan` understands it.
    let (code, script, err) = run(&words, &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 0, "{err}");
    assert!(script.contains("x_2026") || script.contains("x$(touch pwned)"), "{script}");
}
