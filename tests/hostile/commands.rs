//! `verify` on eve's database: functions in the place of `pgstattuple`'s and `amcheck`'s, and tables of hers
//! that bring code along when they are planned.

use crate::common::process;
use crate::world::{MONITORS, World};

/// What `verify` says and its exit code.
async fn verify(world: &World, monitor: &str, args: &[&str]) -> (i32, String) {
    let uri = world.cluster.uri(monitor, "postgres");
    let mut all = vec!["verify", "--database", "eves"];
    all.extend(args);
    let (code, out, err) = process::run(&all, &[("DATA_SOURCE_NAME", &uri)]).await;
    // The text is wrapped.
    (code, (out + &err).split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Ways 24 and 25: the functions of `pgstattuple` and `amcheck`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measuring_and_checking_indexes_runs_no_function_of_eves() {
    let world = World::new().await;
    if world.major < 15 {
        world
            .extension(
                "eves",
                "ALTER SCHEMA public OWNER TO eve; GRANT ALL ON SCHEMA public TO eve",
            )
            .await;
    }
    world.extension("eves", "CREATE EXTENSION pgstattuple; CREATE EXTENSION amcheck").await;
    let grant = "GRANT EXECUTE ON FUNCTION public.pgstatindex(regclass), \
                 public.bt_index_check(regclass, boolean) TO mon, kin";
    world.extension("eves", grant).await;
    let eve = world.client("eve", "eves").await;
    eve.batch_execute(
        "CREATE SCHEMA hers; CREATE TABLE hers.t (id int PRIMARY KEY);
         INSERT INTO hers.t SELECT generate_series(1, 60000); ANALYZE hers.t",
    )
    .await
    .unwrap();
    let checks = ["--only=index.bloat", "--only=index.corrupt", "--with=index.corrupt", "--exact"];
    let root = world.root("eves").await;
    root.batch_execute("VACUUM ANALYZE hers.t").await.unwrap();
    // Of one that she owns already, though she has not done anything with it.
    for monitor in MONITORS {
        let (code, out) = verify(&world, monitor, &checks).await;
        assert_eq!(code, 2, "{out}");
        for extension in ["pgstattuple", "amcheck"] {
            let why = format!("{extension} in database eves is not used");
            assert!(out.contains(&why), "{out}");
        }
        assert!(out.contains("belongs to eve") && out.contains("trust_owners"), "{out}");
    }
    eve.batch_execute(
        "ALTER SCHEMA public RENAME TO aside; CREATE SCHEMA public;
         CREATE FUNCTION public.pgstatindex(relname regclass, OUT index_size int8, OUT deleted_pages int8,
           OUT empty_pages int8, OUT leaf_pages int8, OUT avg_leaf_density float8) LANGUAGE plpgsql
           AS $$ BEGIN RAISE LOG 'sprung as %', session_user; END $$;
         CREATE FUNCTION public.bt_index_check(index regclass, heapallindexed bool) RETURNS void
           LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'sprung as %', session_user; END $$;
         GRANT USAGE ON SCHEMA public TO PUBLIC;
         SELECT public.pgstatindex('hers.t_pkey'), public.bt_index_check('hers.t_pkey', true)",
    )
    .await
    .unwrap();
    for monitor in MONITORS {
        let (code, out) = verify(&world, monitor, &checks).await;
        assert_eq!(code, 2, "{out}");
    }
    world.assert_unsprung("pgstattuple and amcheck");
    // Who trusts her, or runs it as her, gets what she gives; the real ones all the same.
    let mut trusting = checks.to_vec();
    trusting.push("--trust-owners=eve");
    let (code, out) = verify(&world, "mon", &trusting).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("B-tree index") && !out.contains("not used"), "{out}");
    world.assert_unsprung("those of the extension");
}

/// Ways 26 to 30: an expression index, a policy, a foreign partition, an operator of hers, a function of hers
/// in another's index, all met by counting rows that lost their parents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_orphans_plans_no_table_of_eves() {
    let world = World::new().await;
    world.extension("eves", "CREATE EXTENSION postgres_fdw; CREATE SCHEMA app; CREATE ROLE dan LOGIN; GRANT CREATE ON DATABASE eves TO dan").await;
    let eve = world.client("eve", "eves").await;
    eve.batch_execute(
        "CREATE SCHEMA hers;
         CREATE TABLE hers.parent (id int PRIMARY KEY);
         CREATE TABLE hers.child (id int REFERENCES hers.parent);
         CREATE INDEX ON hers.child ((traps.note()));
         CREATE TABLE hers.p2 (id int PRIMARY KEY);
         CREATE TABLE hers.c2 (id int REFERENCES hers.p2);
         CREATE POLICY p ON hers.p2 USING (traps.bool()); ALTER TABLE hers.p2 ENABLE ROW LEVEL SECURITY;
         ALTER TABLE hers.p2 FORCE ROW LEVEL SECURITY;
         CREATE TABLE hers.c3 (id int REFERENCES hers.parent) PARTITION BY RANGE (id);
         CREATE TABLE hers.c3_1 PARTITION OF hers.c3 FOR VALUES FROM (1) TO (10);
         CREATE INDEX ON hers.c3_1 (id) WHERE traps.bool();
         INSERT INTO hers.parent SELECT 1; INSERT INTO hers.child SELECT 1;
         SELECT traps.note(), traps.bool(); SELECT count(*) FROM hers.child;
         GRANT USAGE ON SCHEMA hers TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA hers TO PUBLIC",
    )
    .await
    .unwrap();
    // Dan's, with an index by a function of eve's: she can change it when she likes.
    let dan = world.client("dan", "eves").await;
    dan.batch_execute(
        "CREATE SCHEMA dans; CREATE TABLE dans.parent (id int PRIMARY KEY);
         CREATE TABLE dans.child (id int REFERENCES dans.parent);
         CREATE INDEX ON dans.child ((traps.note()));
         GRANT USAGE ON SCHEMA dans TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA dans TO PUBLIC",
    )
    .await
    .unwrap();
    let check = ["--only=constraint.foreign_key", "--with=constraint.foreign_key"];
    for monitor in MONITORS {
        let (code, out) = verify(&world, monitor, &check).await;
        assert_eq!(code, 2, "{out}");
        for table in ["hers.child", "hers.c2", "hers.c3", "dans.child"] {
            assert!(out.contains(&format!("{table}, ")), "{table}: {out}");
        }
        assert!(out.contains("run it as eve"), "{out}");
    }
    // Trusting the table's owner is not trusting who wrote a function in its index.
    for monitor in MONITORS {
        let (code, out) =
            verify(&world, monitor, &[&check[..], &["--trust-owners=dan"]].concat()).await;
        assert_eq!(code, 2, "{out}");
        assert!(out.contains("dans.child, "), "{out}");
    }
    world.assert_unsprung("orphans");
    // As she herself: her own code runs as her.
    let uri = world.cluster.uri("eve", "eves");
    let args = ["verify", "--database=eves", check[0], check[1]];
    let (code, out, err) = process::run(&args, &[("DATA_SOURCE_NAME", &uri)]).await;
    assert!(code == 0 || code == 2, "{out}{err}");
    assert!(!out.contains("hers.child, "), "{out}{err}");
}

/// Way 31: an index by an expression, which amcheck works out; the extension itself is a superuser's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amcheck_works_out_no_expression_of_eves() {
    let world = World::new().await;
    world
        .admin
        .batch_execute(
            "ALTER DATABASE eves OWNER TO postgres; GRANT CREATE ON DATABASE eves TO eve",
        )
        .await
        .unwrap();
    world.extension("eves", "CREATE EXTENSION amcheck; GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO mon, kin").await;
    let eve = world.client("eve", "eves").await;
    eve.batch_execute(
        "CREATE SCHEMA hers; CREATE TABLE hers.t (id int PRIMARY KEY, x text);
         INSERT INTO hers.t SELECT 1, 'x'; CREATE INDEX e ON hers.t ((traps.text(x)));
         CREATE INDEX f ON hers.t (id) WHERE traps.bool()",
    )
    .await
    .unwrap();
    for monitor in MONITORS {
        let args = ["--only=index.corrupt", "--with=index.corrupt", "--exact"];
        let (code, out) = verify(&world, monitor, &args).await;
        assert_eq!(code, 2, "{out}");
        assert!(out.contains("hers.e in database eves is not used"), "{out}");
        assert!(out.contains("hers.f in database eves is not used"), "{out}");
        assert!(!out.contains("hers.t_pkey in database"), "{out}");
    }
    world.assert_unsprung("expressions of indexes");
}

/// Ways 39 to 41: a query of `verify.queries` over a table of eve's, and over a view of hers that calls her
/// function; planning it is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_query_is_not_planned_over_what_is_eves() {
    let world = World::new().await;
    let eve = world.client("eve", "eves").await;
    eve.batch_execute(
        "CREATE SCHEMA hers; CREATE TABLE hers.t (id int, x text) PARTITION BY RANGE (id);
         CREATE TABLE hers.t_1 PARTITION OF hers.t FOR VALUES FROM (1) TO (10);
         CREATE INDEX ON hers.t_1 ((traps.note()));
         CREATE VIEW hers.v AS SELECT traps.text('x') AS x;
         SELECT * FROM hers.v; SELECT * FROM hers.t;
         GRANT USAGE ON SCHEMA hers TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA hers TO PUBLIC",
    )
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgrunway.yml");
    let query = |name: &str, sql: &str| {
        format!("    - {{ name: {name}, database: eves, sql: \"{sql}\", max_partitions: 1 }}\n")
    };
    let text = "verify:\n  queries:\n".to_owned()
        + &query("of_t", "SELECT x FROM hers.t WHERE id = 1 -- end")
        + &query("of_v", "SELECT x FROM hers.v")
        + &query("of_none", "SELECT 1");
    std::fs::write(&file, text).unwrap();
    let config = format!("--config.file={}", file.display());
    for monitor in MONITORS {
        let (code, out) = verify(&world, monitor, &["--only=partition.pruning", &config]).await;
        assert_eq!(code, 2, "{out}");
        assert!(out.contains("query of_t in database eves is not used"), "{out}");
        assert!(out.contains("query of_v in database eves is not used"), "{out}");
        assert!(!out.contains("of_none"), "{out}");
    }
    world.assert_unsprung("planning");
}
