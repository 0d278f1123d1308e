//! Secrets in texts of statements that the extension does not normalise.

use crate::common::{http, process};
use crate::world::{World, polls};

/// Ways 32 to 38: each with a literal in it.
const STATEMENTS: [&str; 7] = [
    "SELECT 'hunter2-into' AS secret, 471100114711 AS n INTO TEMP t1",
    "CREATE TEMP TABLE t2 AS SELECT 'hunter2-as' AS secret",
    "BEGIN; DECLARE c CURSOR FOR SELECT 'hunter2-cursor'; FETCH c; COMMIT",
    "EXPLAIN SELECT 'hunter2-explain'",
    "/* hunter2-comment */ SELECT count(*) -- hunter2-end\n FROM pg_class",
    "SELECT $q$hunter2-dollar$q$ AS secret INTO TEMP t3",
    "SELECT E'hunter2-\\'escaped' AS secret INTO TEMP t4",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_shows_a_literal_or_a_comment() {
    let world = World::new().await;
    let bob = world.client("bob", "bobs").await;
    let process = world.serve("mon", "postgres", &["--collector.statements.top=10000"]).await;
    polls(&process, "statements", "").await;
    for _ in 0..3 {
        for statement in STATEMENTS {
            bob.batch_execute(statement).await.unwrap();
        }
        bob.batch_execute("DROP TABLE t1, t2, t3, t4").await.unwrap();
        polls(&process, "statements", "").await;
    }
    // An entry that goes while its statement runs comes back with its text as it was sent.
    let late = tokio::spawn(async move {
        bob.batch_execute("SELECT pg_sleep(3), 'hunter2-late' AS secret").await.unwrap();
        bob
    });
    // Its entry is made when it is parsed: only one that sleeps already loses it.
    let activity = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%hunter2-late%' \
                    AND wait_event = 'PgSleep'";
    while world.admin.query_one(activity, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    world.admin.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let bob = late.await.unwrap();
    let raw = "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%hunter2-late%'";
    let kept: i64 = world.admin.query_one(raw, &[]).await.unwrap().get(0);
    assert_eq!(kept, 1, "the server keeps it raw");
    // Called again and again, so that it is among the heaviest; the text stays that of the first call.
    let calls = async {
        loop {
            bob.batch_execute("SELECT pg_sleep(0.05), 'hunter2-later' AS secret").await.unwrap();
        }
    };
    let shown = process.wait("the texts are there", |t| t.contains("pg_sleep(?), ? AS secret"));
    let text = tokio::select! {
        text = shown => text,
        () = calls => unreachable!("it has no end"),
    };
    assert!(!text.contains("hunter2") && !text.contains("471100114711"), "{text}");
    let page = http::get(process.address, "/").await.text();
    assert!(!page.contains("hunter2"));
    assert!(!process.log().iter().any(|line| line.contains("hunter2")));

    // The report prints texts as well.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.md").to_str().unwrap().to_owned();
    let uri = world.cluster.uri("mon", "postgres");
    let args = ["report", "--over=3s", "--markdown", &out];
    let working = async {
        let bob = world.client("bob", "bobs").await;
        for _ in 0..200 {
            for statement in &STATEMENTS[..2] {
                bob.batch_execute(statement).await.unwrap();
            }
            bob.batch_execute("DROP TABLE t1, t2").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        }
    };
    let env = [("DATA_SOURCE_NAME", uri.as_str())];
    let (ended, ()) = tokio::join!(process::run(&args, &env), working);
    assert_eq!(ended.0, 0, "{}", ended.2);
    let report = std::fs::read_to_string(&out).unwrap();
    assert!(report.contains("AS secret"), "{report}");
    assert!(!report.contains("hunter2") && !report.contains("471100114711"), "{report}");
}
