//! What `pgrunway plan` prints can be followed on a busy server: layouts and surroundings from seeds, each
//! script cut off in the middle, run twice, beside a writer, a reader and somebody who holds locks.
//!
//! `PGRUNWAY_FOLLOW_CASES` says how many layouts (8), `PGRUNWAY_FOLLOW_SEED` from which seed on (1).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "follow/case.rs"]
mod case;
mod common;
#[path = "follow/crowd.rs"]
mod crowd;
#[path = "follow/stream.rs"]
mod stream;

use std::process::Stdio;
use std::time::Duration;

use case::{Case, Draw, Source};
use common::process::run;
use crowd::Crowd;
use pgrunway::cmd::cluster::Cluster;
use tokio::process::Command;
use tokio_postgres::Client;

const LIKENESS: &str = include_str!("follow/likeness.sql");
/// Others wait at most 2 s for a script; the machine of a test may be slow itself.
const PATIENCE: Duration = Duration::from_secs(6);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
}

/// Runs a script through psql: its exit code and what it said.
pub async fn psql(cluster: &Cluster, user: &str, datname: &str, script: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.sql");
    std::fs::write(&file, script).unwrap();
    let out = Command::new(common::psql_program(cluster))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", datname, "-f"])
        .arg(&file)
        .arg("-h")
        .arg(cluster.socket_dir())
        .args(["-p", &cluster.port().to_string()])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

pub async fn plan(cluster: &Cluster, datname: &str, table: &str, days: &str) -> String {
    let uri = cluster.uri("mon", "postgres");
    let args = ["plan", table, "--days", days, "--database", datname];
    let (code, script, err) = run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 0, "{table}: {err}");
    script
}

/// The major version of the server.
pub async fn major(cluster: &Cluster) -> i32 {
    let admin = common::admin(cluster, "postgres").await;
    let sql = "SELECT (current_setting('server_version_num')::int / 10000)::text";
    texts(&admin, sql).await[0].parse().unwrap()
}

pub async fn roles(cluster: &Cluster) {
    common::admin(cluster, "postgres")
        .await
        .batch_execute(
            "CREATE ROLE app_owner LOGIN; CREATE ROLE app_other; CREATE ROLE app_writer; CREATE ROLE app_guest; GRANT pg_read_all_stats TO app_owner",
        )
        .await
        .unwrap();
}

#[derive(Debug, Default)]
struct Tally {
    scripts: usize,
    refused: usize,
    longest: Duration,
    rows: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plan_can_be_followed_on_a_busy_server() {
    let cluster = common::server_with(&[("wal_level", "logical")], &[]).await;
    roles(&cluster).await;
    let (cases, first) = (setting("PGRUNWAY_FOLLOW_CASES", 8), setting("PGRUNWAY_FOLLOW_SEED", 1));
    let major = major(&cluster).await;
    let mut tally = Tally::default();
    let mut faults = Vec::new();
    for seed in first..first + cases {
        let case = Case::new(seed, major);
        let found = follow(&cluster, &case, &mut tally).await;
        if !found.is_empty() {
            faults.push(format!("{case:?}\n  {}", found.join("\n  ")));
        }
    }
    println!("{cases} cases from seed {first} on {major}: {tally:?}, {} with faults", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// One case; what is not as it should be.
async fn follow(cluster: &Cluster, case: &Case, tally: &mut Tally) -> Vec<String> {
    let datname = format!("c{}", case.seed);
    let postgres = common::admin(cluster, "postgres").await;
    postgres.batch_execute(&format!("CREATE DATABASE {datname}")).await.unwrap();
    postgres
        .batch_execute(&format!("ALTER DATABASE {datname} SET timezone = 'UTC'"))
        .await
        .unwrap();
    let admin = common::admin(cluster, &datname).await;
    if let Err(e) = admin.batch_execute(&case.setup()).await {
        return vec![format!("setup: {:?}", e.as_db_error())];
    }
    let mut faults = Vec::new();
    let triggers = "SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
    let (before, leaves) = (texts(&admin, triggers).await, leaves(&admin, case).await);
    let model = leaves.iter().rfind(|l| l.contains("_p2")).cloned().unwrap();
    let likeness = likeness(&admin, &model).await;
    let notes = "SELECT (CASE WHEN to_regclass('public.note') IS NULL THEN 0 ELSE 1 END)::text";
    let has_notes = texts(&admin, notes).await[0] == "1";

    let script =
        plan(cluster, &datname, &pgrunway::remedy::quote::spelled(&case.schema, &case.table), "5")
            .await;
    tally.scripts += 1;
    let large = "v_scan > c_longest * 0.05";
    if case.source != Source::None && !script.contains(large) {
        faults.push(format!("the script has no {large}"));
    }
    let script = if case.large {
        script.replace(large, "true").replace(">= 104857600", ">= 0")
    } else {
        script
    };
    if script.chars().any(|c| c.is_control() && c != '\n') {
        faults.push("the script holds a control character".to_owned());
    }
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(common::admin(cluster, &datname).await);
    }
    let [writer, reader, blocker] = clients.try_into().unwrap();
    let crowd = Crowd::start(case, writer, reader, blocker);
    // Whoever may not do it is told, and nothing is lost by trying.
    let mut draw = Draw(case.seed ^ 0xc07);
    if case.cut {
        cut_off(cluster, &datname, case, &script, &mut draw).await;
    }
    let (mut ok, mut said) = (false, String::new());
    if case.as_owner {
        (ok, said) = psql(cluster, "app_owner", &datname, &script).await;
        let needs = ["only a superuser", "is a system trigger", "row security is forced"];
        let owners = case.foreign_owner.is_some();
        if owners
            && !script.contains("a superuser, because the table and its partitions have several")
        {
            faults.push("the head does not say as whom to run it".to_owned());
        }
        if !ok && !case.refuses() && !owners && !needs.iter().any(|n| said.contains(n)) {
            faults.push(format!("as the owner: {said}"));
        }
    }
    if !ok {
        (ok, said) = psql(cluster, "postgres", &datname, &script).await;
    }
    // Two at once.
    let both = tokio::join!(
        psql(cluster, "postgres", &datname, &script),
        psql(cluster, "postgres", &datname, &script)
    );
    let seen = crowd.end().await;
    tally.longest = tally.longest.max(seen.longest);
    tally.rows += seen.inserted;
    faults.extend(seen.faults.iter().map(|f| format!("others: {f}")));
    if seen.longest > PATIENCE {
        faults.push(format!("others waited {:?}", seen.longest));
    }
    if case.refuses() {
        tally.refused += 1;
        if ok || !said.contains("rows are in the way") {
            faults.push(format!("not refused: {said}"));
        }
    } else if !ok || !both.0.0 || !both.1.0 {
        faults.push(format!("run: {said}\nagain: {}\nbeside: {}", both.0.1, both.1.1));
    }

    // Every row is there once.
    let count =
        |table: &str| format!("SELECT concat_ws(' ', count(*), count(DISTINCT id)) FROM {table}");
    let rows = 400 + seen.inserted;
    let have = texts(&admin, &count(&case.root())).await;
    if have != [format!("{rows} {rows}")] {
        faults.push(format!("rows: {have:?}, {rows} expected"));
    }
    if has_notes {
        let have =
            texts(&admin, "SELECT concat_ws(' ', count(*), count(id), count(at)) FROM public.note")
                .await;
        if have != ["400 400 400"] {
            faults.push(format!("what refers to the rows: {have:?}"));
        }
    }
    if case.triggers {
        let sql =
            "SELECT concat_ws(' ', what, count(*)) FROM public.audit GROUP BY what ORDER BY 1";
        let have = texts(&admin, sql).await;
        let (i, u) = (seen.inserted, seen.updated);
        let mut want = vec![
            format!("always INSERT {i}"),
            format!("book INSERT {i}"),
            format!("book UPDATE {u}"),
            format!("booked INSERT {i}"),
            format!("booked UPDATE {u}"),
        ];
        want.retain(|line| !line.ends_with(" 0"));
        if have != want {
            faults.push(format!("triggers: {have:?}, {want:?} expected"));
        }
    }
    let after = texts(&admin, triggers).await;
    if before.iter().any(|t| !after.contains(t)) {
        faults.push(format!("triggers changed: {before:?} {after:?}"));
    }
    let (again, _) = psql(cluster, "postgres", &datname, &script).await;
    if again == case.refuses() {
        faults.push("another run ends differently".to_owned());
    }
    let left = "SELECT conrelid::regclass || ' ' || conname FROM pg_constraint WHERE conname LIKE 'pgrunway%'
                UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgrunway%'
                UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'pgrunway%' AND relpersistence = 'p'";
    let left = texts(&admin, left).await;
    if !left.is_empty() && !case.refuses() {
        faults.push(format!("left behind: {left:?}"));
    }
    // New leaves are what the newest of their siblings is.
    let new: Vec<String> =
        self::leaves(&admin, case).await.into_iter().filter(|l| !leaves.contains(l)).collect();
    if new.is_empty() && !case.refuses() {
        faults.push("nothing was created".to_owned());
    }
    for leaf in new {
        let tail = |name: &str| name.trim_end_matches('"').rsplit('_').next().unwrap().to_owned();
        let nested = matches!(case.shape, case::Shape::Listed | case::Shape::Hashed);
        if nested && tail(&leaf) != tail(&model) {
            continue;
        }
        let have = self::likeness(&admin, &leaf).await;
        let lacks: Vec<_> = likeness.iter().filter(|f| !have.contains(f)).collect();
        let more: Vec<_> = have.iter().filter(|f| !likeness.contains(f)).collect();
        if !lacks.is_empty() || !more.is_empty() {
            faults.push(format!("{leaf} is not what {model} is: lacks {lacks:#?}, has {more:#?}"));
        }
    }
    if case.source != Source::None && !case.refuses() {
        let left = format!(
            "SELECT count(*)::text FROM {} WHERE at >= public.k(date_trunc('day', now())) AND at < public.k(date_trunc('day', now()) + interval '6 days')",
            case.named(if case.source == Source::Open { "_future" } else { "_rest" }),
        );
        let left = texts(&admin, &left).await;
        if left != ["0"] {
            faults.push(format!("{left:?} rows were left behind"));
        }
    }
    drop(admin);
    let _ = postgres.batch_execute("DROP PUBLICATION IF EXISTS pub").await;
    let _ = postgres.batch_execute(&format!("DROP DATABASE {datname}")).await;
    faults
}

async fn leaves(admin: &Client, case: &Case) -> Vec<String> {
    let sql = format!(
        "SELECT relid::regclass::text FROM pg_partition_tree({}) WHERE isleaf ORDER BY 1",
        pgrunway::remedy::quote::literal(&pgrunway::remedy::quote::spelled(
            &case.schema,
            &case.table
        ))
    );
    texts(admin, &sql).await
}

async fn likeness(admin: &Client, table: &str) -> Vec<String> {
    let rows = admin.query(LIKENESS, &[&table]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Ends the script early: some statements of it alone, then all of it with its session ended now and then.
async fn cut_off(cluster: &Cluster, datname: &str, case: &Case, script: &str, draw: &mut Draw) {
    let ends: Vec<usize> = script.match_indices(";\n").map(|(at, _)| at + 2).collect();
    for _ in 0..2 {
        let end = ends[usize::try_from(draw.below(ends.len() as u64)).unwrap()];
        psql(cluster, "postgres", datname, &script[..end]).await;
    }
    let killer = common::admin(cluster, "postgres").await;
    for _ in 0..2 {
        let wait = Duration::from_millis(50 + draw.below(1500));
        let kill = async {
            tokio::time::sleep(wait).await;
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql' AND datname = $1";
            killer.query(sql, &[&datname]).await.unwrap();
        };
        let user = if case.as_owner { "app_owner" } else { "postgres" };
        tokio::join!(psql(cluster, user, datname, script), kill);
    }
}
