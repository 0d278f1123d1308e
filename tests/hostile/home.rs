//! Eve owns the database that the exporter connects to, and what she puts in the place of
//! `pg_stat_statements` there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::http;
use crate::common::process;
use crate::world::{LOOKALIKES, MONITORS, World, polls, refused, says, success};

/// In a schema of her own that gets the name of the extension's. From 15 on `public` is hers.
const SWAPPED: &str = "ALTER SCHEMA public RENAME TO aside; CREATE SCHEMA public;";
/// Before 15 `public` is a superuser's, who was careless once.
const CARELESS: &str = "ALTER SCHEMA public OWNER TO eve; GRANT ALL ON SCHEMA public TO eve";

async fn world() -> World {
    let world = World::new().await;
    if world.major < 15 {
        world.extension("eves", CARELESS).await;
    }
    world.extension("eves", "CREATE EXTENSION pg_stat_statements").await;
    world
}

/// She springs it herself, so that it is known to work.
const TRY: &str =
    "SELECT * FROM public.pg_stat_statements(false), public.pg_stat_statements_info()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_superusers_is_read_instead_and_nothing_of_eves() {
    let world = world().await;
    let eve = world.client("eve", "eves").await;
    let mut processes = Vec::new();
    for monitor in MONITORS {
        processes.push(world.serve(monitor, "eves", &[]).await);
    }
    for process in &processes {
        says(process, "pg_stat_statements: read in database postgres, all owned by superusers")
            .await;
    }
    // Way 1: a schema of the extension's name with functions of its functions' names.
    eve.batch_execute(SWAPPED).await.unwrap();
    eve.batch_execute(LOOKALIKES).await.unwrap();
    eve.batch_execute(TRY).await.unwrap();
    for process in &processes {
        let text = polls(process, "statements", "").await;
        assert_eq!(success(&text, "statements", ""), Some(1.0));
    }
    world.assert_unsprung("renamed schema");
    // Way 2: the extension dropped with the schema that holds it, which the schema's owner may.
    eve.batch_execute("DROP SCHEMA aside CASCADE").await.unwrap();
    let before = http::sum(&processes[0].metrics().await, "pgrunway_own_statements_total");
    for process in &processes {
        let text = polls(process, "statements", "").await;
        assert_eq!(success(&text, "statements", ""), Some(1.0));
    }
    // Way 3: what she does to her database does not blind the others' figures.
    let bob = world.client("bob", "bobs").await;
    for i in 0..50 {
        bob.batch_execute(&format!("SELECT {i} AS bobs_own")).await.unwrap();
    }
    for process in &processes {
        process
            .wait("bob's calls are counted", |t| {
                http::value(t, "pg_query_duration_seconds_count", &[("datname", "bobs")])
                    .is_some_and(|n| n >= 1.0)
            })
            .await;
    }
    let after = http::sum(&processes[0].metrics().await, "pgrunway_own_statements_total");
    assert!(after > before, "{after}");
    // A new exporter, which never saw the real one there.
    for monitor in MONITORS {
        let process = world.serve(monitor, "eves", &[]).await;
        says(&process, "pg_stat_statements: read in database postgres").await;
    }
    world.assert_unsprung("dropped schema");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_such_a_database_it_is_refused_and_says_why_and_what_to_do() {
    let world = world().await;
    world.admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let eve = world.client("eve", "eves").await;
    // The path is eve's before she does anything.
    let why = ["pg_stat_statements in database eves is not used", "belongs to eve", "trust_owners"];
    for monitor in MONITORS {
        let process = world.serve(monitor, "eves", &[]).await;
        let text = refused(&process, "statements", "", &why).await;
        assert_eq!(success(&text, "connections", ""), Some(1.0), "the others go on");
        assert!(!text.contains("pg_query_duration_seconds_count{"));
    }
    // Way 4: swapped to and fro while statements run, which no check can see in time.
    let stop = Arc::new(AtomicBool::new(false));
    eve.batch_execute("CREATE SCHEMA other; SET search_path = other").await.unwrap();
    eve.batch_execute(&LOOKALIKES.replace("SCHEMA public", "SCHEMA other")).await.unwrap();
    eve.batch_execute(&TRY.replace("public", "other")).await.unwrap();
    let mut processes = Vec::new();
    for monitor in MONITORS {
        processes.push(world.serve(monitor, "eves", &[]).await);
    }
    let swapping = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let swap = "ALTER SCHEMA public RENAME TO aside; ALTER SCHEMA other RENAME TO public;";
            let back = "ALTER SCHEMA public RENAME TO other; ALTER SCHEMA aside RENAME TO public;";
            let mut swaps = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                eve.batch_execute(swap).await.unwrap();
                eve.batch_execute(back).await.unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    for process in &processes {
        refused(process, "statements", "", &[]).await;
        polls(process, "statements", "").await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(swapping.await.unwrap() > 10);
    world.assert_unsprung("swapped to and fro");
    // The remedy that is named works, without a restart.
    world.admin.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let process = world.serve("mon", "eves", &[]).await;
    says(&process, "read in database postgres, all owned by superusers").await;
    // So does the other one, for who trusts her.
    world.admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let process = world.serve("mon", "eves", &["--trust-owners=eve"]).await;
    says(&process, "read in database eves, trusted: owner eve is in trust_owners").await;
    world.assert_unsprung("remedies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_alikes_without_the_extension_are_not_taken_for_it() {
    let world = World::new().await;
    world.admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let eve = world.client("eve", "eves").await;
    if world.major < 15 {
        world.extension("eves", CARELESS).await;
    }
    // Way 5: she has the functions, and there is no extension.
    eve.batch_execute(LOOKALIKES).await.unwrap();
    eve.batch_execute(TRY).await.unwrap();
    // Way 6: overloads that a call without an exact match would choose, and operators and casts by the
    // names of PostgreSQL's, in every schema that she can get into a path.
    eve.batch_execute(
        "CREATE FUNCTION public.pg_stat_statements_info(VARIADIC x int[] DEFAULT '{}') RETURNS int
           LANGUAGE sql AS 'SELECT traps.note()';
         CREATE FUNCTION public.same(a text, b text) RETURNS bool LANGUAGE sql AS 'SELECT traps.bool()';
         CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = text, RIGHTARG = text);
         CREATE FUNCTION public.same(a oid, b oid) RETURNS bool LANGUAGE sql AS 'SELECT traps.bool()';
         CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = oid, RIGHTARG = oid);
         CREATE FUNCTION public.joined(a text, b name) RETURNS text LANGUAGE sql AS
           'SELECT traps.text(a)';
         CREATE OPERATOR public.|| (FUNCTION = public.joined, LEFTARG = text, RIGHTARG = name);
         CREATE FUNCTION public.set_config(text, text, bool) RETURNS text LANGUAGE sql AS
           'SELECT traps.text($1)';
         ALTER DATABASE eves SET search_path = public, traps, pg_catalog;",
    )
    .await
    .unwrap();
    // Way 7: settings of her database that change what a query means.
    for setting in [
        "row_security = on",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "constraint_exclusion = on",
        "default_transaction_read_only = off",
        "default_transaction_isolation = 'serializable'",
        "bytea_output = escape",
        "DateStyle = 'German'",
        "jit_above_cost = 0",
    ] {
        // Which 19 knows no other value of.
        if world.major >= 19 && setting.starts_with("standard_conforming_strings") {
            continue;
        }
        eve.batch_execute(&format!("ALTER DATABASE eves SET {setting}")).await.unwrap();
    }
    for monitor in MONITORS {
        let process = world.serve(monitor, "eves", &[]).await;
        refused(&process, "statements", "", &["has no extension pg_stat_statements"]).await;
        let text = process
            .wait("every collector ran in every database", |t| {
                ["eves", "bobs", "postgres"].iter().all(|d| {
                    ["partitions", "sizes", "tables", "indexhealth", "maintenance", "vacuum"]
                        .iter()
                        .all(|c| success(t, c, d) == Some(1.0))
                })
            })
            .await;
        assert_eq!(http::value(&text, "pgrunway_database_up", &[("datname", "bobs")]), Some(1.0));
    }
    world.assert_unsprung("look-alikes, operators, settings");
}

/// Way 8: the same of `report`, which reads texts too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_reads_the_statements_of_a_superusers_database_or_says_why_not() {
    let world = world().await;
    let eve = world.client("eve", "eves").await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.md").to_str().unwrap().to_owned();
    let report = async |monitor: &str| {
        let uri = world.cluster.uri(monitor, "eves");
        let args = ["report", "--over", "2s", "--markdown", &out];
        let (code, _, err) = process::run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
        assert_eq!(code, 0, "{err}");
        // Without Markdown's escapes.
        std::fs::read_to_string(&out).unwrap().replace('\\', "")
    };
    eve.batch_execute(SWAPPED).await.unwrap();
    eve.batch_execute(LOOKALIKES).await.unwrap();
    eve.batch_execute(TRY).await.unwrap();
    for monitor in MONITORS {
        let text = report(monitor).await;
        assert!(!text.contains("is not used"), "{text}");
    }
    world.admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    for monitor in MONITORS {
        let text = report(monitor).await;
        let why = "pg_stat_statements in database eves is not used";
        assert!(text.contains(why), "{text}");
    }
    world.assert_unsprung("report");
}
