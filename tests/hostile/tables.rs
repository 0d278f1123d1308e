//! The tables of pg_partman and pg_cron in eve's database, and hers in their place. Where the packages are
//! missing, another extension takes the name: what is read is a table by its name and membership.

use crate::common::http;
use crate::world::{MONITORS, World, polls, refused, success};

/// An extension by the name of pg_partman with its table, which belongs to a superuser.
pub const PARTMAN: &str = "
CREATE EXTENSION pageinspect;
SET allow_system_table_mods = on;
UPDATE pg_extension SET extname = 'pg_partman' WHERE extname = 'pageinspect';
CREATE SCHEMA partman;
CREATE TABLE partman.part_config (parent_table text PRIMARY KEY, premake int, retention text,
  automatic_maintenance text, infinite_time_partitions bool, retention_keep_table bool);
INSERT INTO partman.part_config VALUES ('public.ev', 4, '30 days', 'on', true, false);
ALTER EXTENSION pg_partman ADD TABLE partman.part_config;
GRANT USAGE ON SCHEMA partman TO PUBLIC; GRANT SELECT ON partman.part_config TO PUBLIC;
";

/// The same of pg_cron.
const CRON: &str = "
CREATE EXTENSION pgrowlocks;
SET allow_system_table_mods = on;
UPDATE pg_extension SET extname = 'pg_cron' WHERE extname = 'pgrowlocks';
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid int8, schedule text, command text, database text, active bool, jobname text);
INSERT INTO cron.job VALUES (1, '* * * * *', 'SELECT run_maintenance()', 'eves', true, 'parts');
ALTER EXTENSION pg_cron ADD TABLE cron.job;
GRANT USAGE ON SCHEMA cron TO PUBLIC; GRANT SELECT ON cron.job TO PUBLIC;
";

fn readable(text: &str, source: &str, reason: &str) -> Option<f64> {
    let labels = [("datname", "eves"), ("source", source), ("reason", reason)];
    http::value(text, "pg_partition_maintenance_readable", &labels)
}

/// Eve got the tables and their schemas, as where she installed the extensions from their scripts.
const HERS: &str =
    "ALTER SCHEMA partman OWNER TO eve; ALTER TABLE partman.part_config OWNER TO eve;
                    ALTER SCHEMA cron OWNER TO eve; ALTER TABLE cron.job OWNER TO eve;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_a_plain_role_owns_are_not_even_planned() {
    let world = World::new().await;
    world.extension("eves", PARTMAN).await;
    world.extension("eves", CRON).await;
    world.extension("eves", HERS).await;
    world.extension("eves", "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO eve").await;
    let eve = world.client("eve", "eves").await;
    let port = world.cluster.port();
    let host = world.cluster.socket_dir().display().to_string();
    let mut ways = vec![
        // 9, 10: an expression and a predicate of an index, which are folded when the table is planned.
        "CREATE INDEX ON partman.part_config ((traps.text(parent_table)), (traps.note()))".to_owned(),
        "CREATE INDEX ON partman.part_config (premake) WHERE traps.bool()".to_owned(),
        // 11: a policy; without FORCE it does not hold for her own members.
        "CREATE POLICY p ON partman.part_config USING (traps.bool());
         ALTER TABLE partman.part_config ENABLE ROW LEVEL SECURITY;
         ALTER TABLE partman.part_config FORCE ROW LEVEL SECURITY"
            .to_owned(),
        // 12: the index of a child.
        "CREATE TABLE partman.child () INHERITS (partman.part_config);
         CREATE INDEX ON partman.child ((traps.note()))"
            .to_owned(),
        // 13: a foreign child, for which the monitor would connect to where she likes.
        format!(
            "CREATE SERVER out FOREIGN DATA WRAPPER postgres_fdw
               OPTIONS (host '{host}', port '{port}', dbname 'bobs');
             CREATE USER MAPPING FOR PUBLIC SERVER out OPTIONS (user 'bob', password_required 'false');
             CREATE FOREIGN TABLE partman.away (parent_table text NOT NULL, premake int, retention text,
               automatic_maintenance text, infinite_time_partitions bool, retention_keep_table bool)
               SERVER out OPTIONS (table_name 'part_config');
             ALTER FOREIGN TABLE partman.away INHERIT partman.part_config"
        ),
        // 14: a check that is folded where constraint_exclusion is on.
        "ALTER TABLE partman.part_config ADD CHECK (traps.bool() AND premake > 0);
         ALTER DATABASE eves SET constraint_exclusion = on"
            .to_owned(),
        // 15: the same of pg_cron's.
        "CREATE INDEX ON cron.job ((traps.note()));
         CREATE POLICY p ON cron.job USING (traps.bool());
         ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY"
            .to_owned(),
    ];
    if world.major >= 14 {
        // 16: extended statistics.
        ways.push(
            "CREATE STATISTICS partman.s ON (traps.text(parent_table)), (traps.note() + premake)
               FROM partman.part_config"
                .to_owned(),
        );
    }
    if world.major >= 18 {
        // 17: a generated column that is worked out when it is read; the server takes no function of hers.
        let column =
            "ALTER TABLE partman.part_config ADD x int GENERATED ALWAYS AS (traps.note()) VIRTUAL";
        assert!(eve.batch_execute(column).await.is_err());
    }
    // A password without one is a superuser's to allow: as one, then, but hers all the same.
    let root = world.root("eves").await;
    for way in &ways {
        if way.contains("password_required") {
            root.batch_execute(way).await.unwrap();
            root.batch_execute(
                "ALTER SERVER out OWNER TO eve; ALTER FOREIGN TABLE partman.away OWNER TO eve",
            )
            .await
            .unwrap();
        } else {
            eve.batch_execute(way).await.unwrap();
        }
    }
    eve.batch_execute("SELECT parent_table FROM ONLY partman.part_config").await.unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        let why = ["pg_partman in database eves is not used", "belongs to eve", "trust_owners"];
        let text = refused(&process, "maintenance", "eves", &why).await;
        assert_eq!(readable(&text, "pg_partman", "untrusted"), Some(0.0));
        assert_eq!(readable(&text, "pg_cron", "untrusted"), Some(0.0));
        assert!(!text.contains("pg_partman_premake{"));
        assert_eq!(success(&text, "maintenance", "bobs"), Some(1.0), "bob's are his own");
        assert_eq!(success(&text, "partitions", "eves"), Some(1.0));
        polls(&process, "maintenance", "eves").await;
    }
    world.assert_unsprung("part_config");
}

/// Ways 18 to 20: what is hers is the schema only, or the database, or the table is none any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_that_are_swapped_and_views_in_the_place_of_tables_are_refused() {
    let world = World::new().await;
    world.extension("eves", PARTMAN).await;
    let eve = world.client("eve", "eves").await;
    let root = world.root("eves").await;
    // The table is a superuser's; the database is not.
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        refused(&process, "maintenance", "eves", &["database eves belongs to eve"]).await;
    }
    // As an operator has it who followed the advice.
    world.admin.batch_execute("ALTER DATABASE eves OWNER TO postgres").await.unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        process.wait("part_config is read", |t| readable(t, "pg_partman", "") == Some(1.0)).await;
    }
    root.batch_execute("ALTER SCHEMA partman OWNER TO eve; GRANT CREATE ON DATABASE eves TO eve")
        .await
        .unwrap();
    eve.batch_execute(
        "ALTER SCHEMA partman RENAME TO aside; CREATE SCHEMA partman;
         CREATE VIEW partman.part_config AS SELECT traps.text('public.ev') AS parent_table, 1 AS premake;
         GRANT USAGE ON SCHEMA partman TO PUBLIC; GRANT SELECT ON partman.part_config TO PUBLIC;
         SELECT * FROM partman.part_config",
    )
    .await
    .unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        refused(&process, "maintenance", "eves", &["schema aside belongs to eve"]).await;
    }
    // A view that a superuser made a member.
    root.batch_execute(
        "ALTER SCHEMA aside OWNER TO postgres; ALTER EXTENSION pg_partman DROP TABLE aside.part_config;
         ALTER SCHEMA partman OWNER TO postgres; ALTER EXTENSION pg_partman ADD VIEW partman.part_config",
    )
    .await
    .unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        refused(&process, "maintenance", "eves", &["is not a plain table"]).await;
    }
    world.assert_unsprung("schemas and views");
}

/// Ways 21 and 22: a function of hers in an index of a superuser's, which she can change at any time, and
/// an index of hers in a view that she hangs on it, which must not close it to us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_of_hers_in_a_superusers_table_counts_and_a_view_on_it_does_not() {
    let world = World::new().await;
    world.extension("eves", PARTMAN).await;
    world
        .admin
        .batch_execute(
            "ALTER DATABASE eves OWNER TO postgres; GRANT CREATE ON DATABASE eves TO eve",
        )
        .await
        .unwrap();
    let eve = world.client("eve", "eves").await;
    eve.batch_execute(
        "CREATE SCHEMA hers; SELECT traps.note();
         CREATE VIEW hers.v AS SELECT traps.text(parent_table) FROM partman.part_config",
    )
    .await
    .unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        process.wait("part_config is read", |t| readable(t, "pg_partman", "") == Some(1.0)).await;
    }
    let root = world.root("eves").await;
    root.batch_execute("CREATE INDEX ON partman.part_config ((traps.note()))").await.unwrap();
    for monitor in MONITORS {
        let process = world.serve(monitor, "postgres", &[]).await;
        refused(&process, "maintenance", "eves", &["function note belongs to eve"]).await;
    }
    world.assert_unsprung("a function of hers");
}

/// Way 23: one sequence that is exhausted hides how long the keys of the others last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_sequence_hides_no_other_tables_keys() {
    let world = World::new().await;
    let bob = world.client("bob", "bobs").await;
    let root = world.root("bobs").await;
    root.batch_execute("CREATE SCHEMA app AUTHORIZATION bob; CREATE SCHEMA hers AUTHORIZATION eve")
        .await
        .unwrap();
    bob.batch_execute(
        "CREATE TABLE app.orders (id bigserial) PARTITION BY RANGE (id);
         CREATE TABLE app.orders_1 PARTITION OF app.orders FOR VALUES FROM (1) TO (1000);
         GRANT USAGE ON SCHEMA app TO mon; GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO mon",
    )
    .await
    .unwrap();
    let eve = world.client("eve", "bobs").await;
    eve.batch_execute(
        "CREATE TABLE hers.t (id bigserial) PARTITION BY RANGE (id);
         CREATE TABLE hers.t_1 PARTITION OF hers.t FOR VALUES FROM (1) TO (1000);
         SELECT setval('hers.t_id_seq', 9223372036854775807);
         GRANT USAGE ON SCHEMA hers TO mon; GRANT SELECT ON ALL SEQUENCES IN SCHEMA hers TO mon",
    )
    .await
    .unwrap();
    let process = world.serve("mon", "postgres", &[]).await;
    let of = |schema: &'static str, table: &'static str| {
        [("datname", "bobs"), ("schemaname", schema), ("relname", table)]
    };
    let name = "pg_partition_keys_remaining";
    let text = process
        .wait("keys are counted", |t| http::value(t, name, &of("app", "orders")).is_some())
        .await;
    assert_eq!(http::value(&text, name, &of("app", "orders")), Some(999.0));
    assert!(http::value(&text, name, &of("hers", "t")).is_some_and(|left| left <= 0.0), "{text}");
}
