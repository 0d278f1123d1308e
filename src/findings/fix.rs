//! The SQL that fixes what rules find: scripts of one or two statements with the head that each needs.
//!
//! Must not: judge.

use crate::remedy::{Head, Ident, Literal, Relation, Script, Sql, Step};

const AGAIN: &str = "it does the same again; nothing is left half-done";

fn script(database: &str, title: String, steps: Vec<Sql>) -> Script {
    Script {
        head: Head {
            title,
            role: "the owner of the table, or a superuser".to_owned(),
            database: database.to_owned(),
            locks: String::new(),
            changes: String::new(),
            undo: "nothing to undo".to_owned(),
            again: AGAIN.to_owned(),
            deletes: None,
            notes: Vec::new(),
        },
        steps: steps.into_iter().map(Step::Sql).collect(),
    }
}

/// `ALTER SYSTEM SET`, by a name from the source.
pub(super) fn setting(database: &str, name: &'static str, value: &str, restart: bool) -> Script {
    let set = Sql::new("ALTER SYSTEM SET {} = {}", &[&Sql::new(name, &[]), &Literal(value)]);
    let reload = Sql::new("SELECT pg_catalog.pg_reload_conf()", &[]);
    let steps = if restart { vec![set] } else { vec![set, reload] };
    let mut script = script(database, format!("sets {name} to {value}"), steps);
    script.head.role = "a superuser, or who may ALTER SYSTEM".to_owned();
    script.head.locks = "none".to_owned();
    script.head.changes = format!(
        "postgresql.auto.conf; in force {}",
        if restart { "after a restart of the server" } else { "at once" }
    );
    script.head.undo = format!("ALTER SYSTEM RESET {name}");
    script
}

/// `DROP INDEX`, CONCURRENTLY where the server takes that: not of a partitioned table.
pub(super) fn drop_index(
    database: &str,
    table: &Relation,
    index: &str,
    partitioned: bool,
) -> Script {
    let name = Relation::new(table.schema.as_str(), index);
    let (steps, locks) = if partitioned {
        (
            vec![
                Sql::new("SET lock_timeout = '2s'", &[]),
                Sql::new("DROP INDEX {}", &[&name]),
                Sql::new("RESET lock_timeout", &[]),
            ],
            "ACCESS EXCLUSIVE on the table and all its partitions, for which it waits 2 s at most",
        )
    } else {
        (
            vec![Sql::new("DROP INDEX CONCURRENTLY {}", &[&name])],
            "SHARE UPDATE EXCLUSIVE on the table; reads and writes go on, and it waits for those that \
             run",
        )
    };
    let mut script = script(database, format!("drops index {}", name.display()), steps);
    script.head.locks = locks.to_owned();
    script.head.changes = "the index is gone".to_owned();
    script.head.undo = "create it again, by pg_get_indexdef() of before".to_owned();
    script.head.again = "it fails: there is no such index any more".to_owned();
    script
}

/// `REINDEX INDEX CONCURRENTLY`.
pub(super) fn reindex(database: &str, table: &Relation, index: &str) -> Script {
    let name = Relation::new(table.schema.as_str(), index);
    let steps = vec![Sql::new("REINDEX INDEX CONCURRENTLY {}", &[&name])];
    let mut script = script(database, format!("rebuilds index {}", name.display()), steps);
    script.head.locks = "SHARE UPDATE EXCLUSIVE on the table; reads and writes go on".to_owned();
    script.head.changes = "the index is built anew beside the old one, then replaces it".to_owned();
    script
}

/// `VACUUM (ANALYZE)`.
pub(super) fn vacuum(database: &str, table: &Relation) -> Script {
    let steps = vec![Sql::new("VACUUM (ANALYZE) {}", &[table])];
    maintenance(script(database, format!("vacuums {}", table.display()), steps))
}

/// `ANALYZE`.
pub(super) fn analyze(database: &str, table: &Relation) -> Script {
    let steps = vec![Sql::new("ANALYZE {}", &[table])];
    maintenance(script(database, format!("analyses {}", table.display()), steps))
}

fn maintenance(mut script: Script) -> Script {
    script.head.locks = "SHARE UPDATE EXCLUSIVE on the table; reads and writes go on".to_owned();
    script.head.changes = "statistics and free space; no rows".to_owned();
    script
}

/// `ALTER TABLE ... SET`, by a parameter and value from the source.
pub(super) fn storage(
    database: &str,
    table: &Relation,
    parameter: &'static str,
    value: &'static str,
) -> Script {
    let steps = vec![Sql::new(
        "ALTER TABLE {} SET ({} = {})",
        &[table, &Ident(parameter), &Sql::new(value, &[])],
    )];
    let mut script = script(database, format!("sets {parameter} of {}", table.display()), steps);
    script.head.locks = "SHARE UPDATE EXCLUSIVE on the table; reads and writes go on".to_owned();
    script.head.changes = format!("{parameter} of the table");
    script.head.undo = format!("ALTER TABLE ... RESET ({parameter})");
    script
}
