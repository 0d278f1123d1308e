//! Who is trusted, against real roles: one tenant, an equal, a managed service's administrator, and those
//! who only look like them.

use pgrunway::collectors::statements::NEED;
use pgrunway::config::Settings;
use pgrunway::error::CollectError;
use pgrunway::pg::{Clock, Session};
use std::sync::Arc;

use crate::common;
use crate::world::{MONITORS, World};

/// What is said of the home database of a monitor.
async fn verdict(world: &World, monitor: &str, dbname: &str, settings: Settings) -> String {
    let connect = common::connect(&world.cluster, monitor);
    let session =
        Session::connect(&connect, Some(dbname), Arc::new(settings), Clock::start()).await.unwrap();
    match session.trusts(&NEED).await {
        Ok(trusted) => trusted.note("x"),
        Err(e @ CollectError::Missing { .. }) => format!("missing: {e}"),
        Err(e) => panic!("{e}"),
    }
}

async fn all(world: &World, dbname: &str) -> Vec<String> {
    let mut all = Vec::new();
    for monitor in MONITORS {
        // On the heap: the test below awaits this a score of times, and has a thread's stack for all.
        let said = Box::pin(verdict(world, monitor, dbname, common::settings())).await;
        let said = said.strip_prefix(&format!("x: read in database {dbname}, ")).unwrap_or(&said);
        all.push(if said.starts_with("missing: ") { "no" } else { said }.to_owned());
    }
    all
}

#[tokio::test]
async fn a_role_is_trusted_with_what_it_has_and_no_more() {
    let world = World::new().await;
    world.extension("eves", "CREATE EXTENSION pg_stat_statements").await;
    let admin = &world.admin;
    let run = async |sql: &str| {
        // One by one: databases are not dropped in a transaction.
        for statement in sql.split(';') {
            admin.batch_execute(statement).await.unwrap();
        }
    };
    let equal = |who: &str| format!("trusted: owner {who} has all that the monitoring role has");
    let sole = |who: &str| format!("trusted: owner {who} owns every database");
    let superusers = "all owned by superusers".to_owned();
    let no = || "no".to_owned();
    assert_eq!(
        all(&world, "postgres").await,
        [superusers.clone(), superusers.clone(), superusers.clone()]
    );
    assert_eq!(all(&world, "eves").await, [no(), no(), no()]);

    // The only tenant: a plain server goes on as it was. Not where the monitor is a superuser.
    run("DROP DATABASE bobs").await;
    assert_eq!(all(&world, "eves").await, [sole("eve"), sole("eve"), no()]);
    // A database of a superuser's may hold anybody's data.
    run("CREATE DATABASE payroll").await;
    assert_eq!(all(&world, "eves").await, [no(), no(), no()]);
    run("DROP DATABASE payroll").await;
    // Not where the monitor reaches files or programs of the server either.
    run("GRANT pg_read_server_files TO mon").await;
    assert_eq!(all(&world, "eves").await, [no(), sole("eve"), no()]);
    run("REVOKE pg_read_server_files FROM mon").await;
    // A template does not count, nor does one of the monitor's own.
    run("CREATE DATABASE t OWNER bob IS_TEMPLATE true").await;
    run("CREATE DATABASE m OWNER mon").await;
    assert_eq!(all(&world, "eves").await, [sole("eve"), no(), no()], "kin is not mon");
    run("ALTER DATABASE t IS_TEMPLATE false").await;
    run("CREATE DATABASE bobs OWNER bob").await;
    assert_eq!(all(&world, "eves").await, [no(), no(), no()]);

    // An equal: kin is a member of eve's role besides, which eve has.
    run("GRANT pg_monitor TO eve").await;
    assert_eq!(all(&world, "eves").await, [equal("eve"), equal("eve"), no()]);
    for (grant, revoke) in [
        ("GRANT bob TO mon", "REVOKE bob FROM mon"),
        ("ALTER ROLE mon BYPASSRLS", "ALTER ROLE mon NOBYPASSRLS"),
        ("ALTER ROLE mon CREATEROLE", "ALTER ROLE mon NOCREATEROLE"),
    ] {
        run(grant).await;
        assert_eq!(all(&world, "eves").await, [no(), equal("eve"), no()], "{grant}");
        run(revoke).await;
    }
    // Granted to the monitor in eve's database by another.
    let there = world.root("eves").await;
    there
        .batch_execute("CREATE TABLE traps.pay (n int); GRANT SELECT ON traps.pay TO mon")
        .await
        .unwrap();
    assert_eq!(all(&world, "eves").await, [no(), equal("eve"), no()]);
    there.batch_execute("GRANT SELECT ON traps.pay TO eve").await.unwrap();
    assert_eq!(all(&world, "eves").await, [equal("eve"), equal("eve"), no()]);
    run("REVOKE pg_monitor FROM eve").await;
    assert_eq!(all(&world, "eves").await, [no(), no(), no()]);

    // A managed service's administrator is a member of a role that has pg_monitor.
    run("CREATE ROLE rds_superuser NOLOGIN; GRANT rds_superuser TO eve").await;
    assert_eq!(all(&world, "eves").await, [no(), no(), no()], "the name alone is nothing");
    run("GRANT pg_monitor TO rds_superuser; GRANT bob TO mon").await;
    assert_eq!(all(&world, "eves").await, [equal("eve"), equal("eve"), no()]);
    run("REVOKE rds_superuser FROM eve; REVOKE bob FROM mon").await;

    // Who may become a superuser, or the monitor, has all.
    run("CREATE ROLE boss SUPERUSER; GRANT boss TO eve").await;
    assert_eq!(all(&world, "eves").await, [equal("eve"), equal("eve"), equal("eve")]);
    run("REVOKE boss FROM eve; GRANT mon TO eve").await;
    // By mon she has pg_monitor as well, which is all that kin has.
    assert_eq!(all(&world, "eves").await, [equal("eve"), equal("eve"), no()]);
    if world.major >= 16 {
        // A member that may not SET ROLE does not have what is not inherited.
        run("GRANT mon TO eve WITH SET false").await;
        run("REVOKE mon FROM eve; GRANT boss TO eve WITH SET false").await;
        assert_eq!(all(&world, "eves").await, [no(), no(), no()]);
        run("REVOKE boss FROM eve").await;
    } else {
        run("REVOKE mon FROM eve").await;
    }
    // And a monitor who may become a superuser is one.
    run("DROP DATABASE bobs; DROP DATABASE t; DROP DATABASE m; GRANT boss TO mon").await;
    assert_eq!(all(&world, "eves").await, [no(), sole("eve"), no()]);
    run("REVOKE boss FROM mon; CREATE DATABASE bobs OWNER bob").await;

    // The operator's word.
    for (named, want) in [("eve", true), ("*", true), ("bob", false), ("EVE", false)] {
        let settings = Settings { trust_owners: vec![named.to_owned()], ..common::settings() };
        let said = verdict(&world, "root", "eves", settings).await;
        assert_eq!(said.contains("trusted: owner eve is in trust_owners"), want, "{said}");
    }
    let said = verdict(&world, "mon", "eves", common::settings()).await;
    assert!(said.contains("pg_stat_statements in database eves is not used"), "{said}");
    assert!(said.contains("run CREATE EXTENSION pg_stat_statements in a database"), "{said}");
}
