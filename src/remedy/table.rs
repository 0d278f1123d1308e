//! Scripts that vacuum, analyse and validate, and that say truly whether it was done.
//!
//! Must not: stop reads or writes of a table.

use super::script::{Head, Script, Step};
use super::sql::{Ident, Literal, Regclass, Relation, Sql};

fn head(database: &str, title: String, locks: &str, changes: &str) -> Head {
    Head {
        title,
        role: "the owner of the table, or a superuser (from 17 on also who has MAINTAIN on it)."
            .to_owned(),
        database: database.to_owned(),
        locks: locks.to_owned(),
        changes: changes.to_owned(),
        undo: "nothing to undo.".to_owned(),
        again: "it starts from the beginning. It fails (exit code 3) unless it was done."
            .to_owned(),
        deletes: None,
        notes: Vec::new(),
    }
}

const BESIDE: &str = "SHARE UPDATE EXCLUSIVE, beside reads and writes; it waits 10 s for that.";

fn patience() -> Step {
    Step::Sql(Sql::new("SET lock_timeout = '10s'", &[]))
}

/// When it began, for [`done_since`].
fn begin() -> Step {
    Step::Sql(Sql::new(
        "SELECT pg_catalog.set_config('pgrunway.began', pg_catalog.clock_timestamp()::text, false)",
        &[],
    ))
}

/// Fails unless the statistics system was told, within 5 s, that it was done after the beginning. One that
/// lacks the privilege is only warned by the server.
fn done_since(table: &Relation, function: &'static str, what: &'static str) -> Step {
    Step::Block(Sql::new(
        "BEGIN\n  \
           FOR n IN 1 .. 50 LOOP\n    \
             IF {}(pg_catalog.to_regclass({})) >= pg_catalog.current_setting('pgrunway.began')::timestamptz THEN\n      \
               RETURN;\n    \
             END IF;\n    \
             PERFORM pg_catalog.pg_sleep(0.1);\n    \
             PERFORM pg_catalog.pg_stat_clear_snapshot();\n  \
           END LOOP;\n  \
           RAISE EXCEPTION {}, {};\n\
         END",
        &[&Sql::new(function, &[]), &Regclass(table), &Literal(what), &Literal(&table.display())],
    ))
}

/// `public.a`, or `public.a and 3 more`.
fn names(tables: &[&Relation]) -> String {
    let first = tables.first().map_or_else(String::new, |table| table.display());
    match tables.len() {
        0 | 1 => first,
        n => format!("{first} and {} more", n - 1),
    }
}

/// Removes dead rows and renews the statistics, of one table after the other.
pub fn vacuum(database: &str, tables: &[&Relation]) -> Script {
    let mut steps = vec![patience(), begin()];
    for table in tables {
        steps.push(Step::Sql(Sql::new("VACUUM (ANALYZE) {}", &[*table])));
        steps.push(done_since(
            table,
            "pg_catalog.pg_stat_get_last_vacuum_time",
            "% was not vacuumed: see the warning above",
        ));
    }
    Script {
        head: head(
            database,
            format!("{} is to be vacuumed.", names(tables)),
            BESIDE,
            "makes room of dead rows for new ones, and renews the planner's statistics.",
        ),
        steps,
    }
}

/// Renews the planner's statistics; of a partitioned table `only` its own. `counted` where the server says when
/// each was analysed.
pub fn analyze(database: &str, tables: &[&Relation], only: bool, counted: bool) -> Script {
    let only = Sql::new(if only { "ONLY " } else { "" }, &[]);
    let mut steps = vec![patience(), begin()];
    for table in tables {
        steps.push(Step::Sql(Sql::new("ANALYZE {}{}", &[&only, *table])));
        if counted {
            steps.push(done_since(
                table,
                "pg_catalog.pg_stat_get_last_analyze_time",
                "% was not analysed: see the warning above",
            ));
        }
    }
    Script {
        head: head(
            database,
            format!("{} is to be analysed.", names(tables)),
            BESIDE,
            "renews the planner's statistics from a sample of rows; plans may change.",
        ),
        steps,
    }
}

/// Lets autovacuum come to a table after fewer changes.
pub fn scale_factor(database: &str, table: &Relation, factor: &'static str) -> Script {
    let mut head = head(
        database,
        format!("{} is to be vacuumed more often.", table.display()),
        BESIDE,
        "a storage parameter of the table.",
    );
    head.undo = format!("ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor).");
    head.again = "comes to the same.".to_owned();
    let set = Sql::new(
        "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = {})",
        &[table, &Sql::new(factor, &[])],
    );
    Script { head, steps: vec![patience(), Step::Sql(set)] }
}

/// Freezes old rows. It is done once transactions and multixacts are younger than this.
pub fn freeze(database: &str, table: &Relation, xids: i64, mxids: i64) -> Script {
    let check = Step::Block(Sql::new(
        "BEGIN\n  \
           IF EXISTS (SELECT FROM pg_catalog.pg_class c\n       \
                LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid\n      \
                WHERE c.oid = pg_catalog.to_regclass({})\n        \
                  AND (GREATEST(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid)) > {}\n          \
                       OR GREATEST(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid)) > {}))\n     \
              OR pg_catalog.to_regclass({}) IS NULL THEN\n    \
             RAISE EXCEPTION '% is as old as before', {} USING HINT =\n      \
               'An old transaction, prepared transaction or replication slot holds it back, or the role may not.';\n  \
           END IF;\n\
         END",
        &[&Regclass(table), &xids, &mxids, &Regclass(table), &Literal(&table.display())],
    ));
    Script {
        head: head(
            database,
            format!("{} is to be frozen.", table.display()),
            BESIDE,
            "marks old rows as visible to all; it reads the table and writes what it marks, also to the WAL.",
        ),
        steps: vec![
            patience(),
            Step::Sql(Sql::new("VACUUM (FREEZE, TRUNCATE false) {}", &[table])),
            check,
        ],
    }
}

/// Checks the rows that were there before a constraint.
pub fn validate(database: &str, of: &Relation, constraint: &str, domain: bool) -> Script {
    let what = Sql::new(if domain { "DOMAIN" } else { "TABLE" }, &[]);
    let validate = Sql::new("ALTER {} {} VALIDATE CONSTRAINT {}", &[&what, of, &Ident(constraint)]);
    let owner = if domain {
        Sql::new("k.contypid = pg_catalog.to_regtype({})", &[&Regclass(of)])
    } else {
        Sql::new("k.conrelid = pg_catalog.to_regclass({})", &[&Regclass(of)])
    };
    let which = Sql::new("{} AND k.conname = {}", &[&owner, &Literal(constraint)]);
    let validate = Step::Sql(validate);
    let check = Step::Block(Sql::new(
        "BEGIN\n  \
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE {} AND k.convalidated) THEN\n    \
             RAISE EXCEPTION 'there is no such constraint, or it is not valid: %', {};\n  \
           END IF;\n\
         END",
        &[&which, &Literal(constraint)],
    ));
    let (locks, steps) = if domain {
        (
            "SHARE on each table that has a column of the domain (before 18), so that its writes wait: for up \
             to 1.5 s, then it gives up.",
            vec![
                Step::Sql(Sql::new("SET lock_timeout = '400ms'", &[])),
                Step::Sql(Sql::new("SET statement_timeout = '1500ms'", &[])),
                validate,
                Step::Sql(Sql::new("SET statement_timeout = 0", &[])),
                check,
            ],
        )
    } else {
        (
            "SHARE UPDATE EXCLUSIVE on the table and, for a foreign key, ROW SHARE on the other, beside reads \
             and writes; it waits 10 s for that.",
            vec![patience(), validate, check],
        )
    };
    let mut head = head(
        database,
        format!("{} of {} is to be validated.", super::text::one_line(constraint), of.display()),
        locks,
        "reads the whole table; then the constraint counts for all rows.",
    );
    head.again = "passes over a constraint that is valid. It fails (exit code 3) while a row breaks it: the server \
                  says which rule."
        .to_owned();
    Script { head, steps }
}
