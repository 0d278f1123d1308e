//! Scripts that build, complete, rebuild and drop indexes.
//!
//! Each says at its end whether the index is as it should be: what a run that was cut off left behind is
//! neither taken for done nor left there.
//!
//! Must not: drop an index that a constraint, a foreign key, replication or CLUSTER relies on.

use super::locked::{LOCKS, locked};
use super::script::{Head, Script, Step, note};
use super::sql::{Deparsed, Ident, Literal, Regclass, Relation, Sql};

/// An index that is to be there.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its table.
    pub table: &'a Relation,
    /// Schema and name.
    pub index: &'a Relation,
    /// Whether it is unique.
    pub unique: bool,
    /// `USING btree (a) WHERE b`.
    pub rest: &'a str,
    /// Whether the server itself would write `rest` so.
    pub exact: bool,
}

/// An index that is there.
#[derive(Debug, Clone)]
pub struct There<'a> {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Schema and name.
    pub index: &'a Relation,
    /// Its table.
    pub table: &'a Relation,
}

const USABLE: &str = "i.indisvalid AND i.indisready AND i.indislive";

fn usable() -> Sql {
    Sql::new(USABLE, &[])
}

fn settings() -> Vec<Step> {
    vec![
        note("CONCURRENTLY waits for older transactions; no other session waits for it."),
        Step::Sql(Sql::new("SET lock_timeout = '5min'", &[])),
    ]
}

fn head(database: &str, title: String, changes: &str, undo: String, locks: &str) -> Head {
    Head {
        title,
        role: "the owner of the table, or a superuser.".to_owned(),
        database: database.to_owned(),
        locks: format!("SHARE UPDATE EXCLUSIVE, which blocks neither reads nor writes. \
                        {locks}").trim_end().to_owned(),
        changes: changes.to_owned(),
        undo,
        again: "what is done is skipped, and what an interrupted run left half-built is built again. It fails \
                (exit code 3) unless everything is as planned."
            .to_owned(),
        deletes: None,
        notes: Vec::new(),
    }
}

/// Waits until nobody works on an index that is not valid, for half a minute.
fn quiet(index: &Relation, table: &Relation) -> Step {
    Step::Block(Sql::new(
        "BEGIN\n  \
           FOR n IN 1 .. 300 LOOP\n    \
             IF NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({})\n        \
                  AND NOT ({}))\n       \
                OR NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.relation = pg_catalog.to_regclass({})\n        \
                  AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()\n        \
                  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d\n                             \
                    WHERE d.datname = pg_catalog.current_database())) THEN\n      \
               RETURN;\n    \
             END IF;\n    \
             COMMIT;\n    \
             PERFORM pg_catalog.pg_sleep(0.1);\n  \
           END LOOP;\n  \
           RAISE EXCEPTION '% is being built by another session', {};\n\
         END",
        &[&Regclass(index), &usable(), &Regclass(table), &Literal(&index.display())],
    ))
}

/// Fails unless an index is there, on its table, and usable.
fn check(wanted: &Wanted<'_>) -> Step {
    let exact = if wanted.exact {
        Sql::new(
            " AND pg_catalog.substring(pg_catalog.pg_get_indexdef(i.indexrelid), ' (USING .*)$') = {}",
            &[&Literal(wanted.rest)],
        )
    } else {
        Sql::default()
    };
    Step::Block(Sql::new(
        "BEGIN\n  \
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({})\n      \
                AND i.indrelid = pg_catalog.to_regclass({}) AND i.indisunique = {}{}\n      \
                AND {}) THEN\n    \
             RAISE EXCEPTION '% is not the planned index, or not valid', {}\n      \
               USING HINT = 'If another index has this name, rename that one. Otherwise run this again.';\n  \
           END IF;\n\
         END",
        &[
            &Regclass(wanted.index),
            &Regclass(wanted.table),
            &wanted.unique,
            &exact,
            &usable(),
            &Literal(&wanted.index.display()),
        ],
    ))
}

fn create(wanted: &Wanted<'_>, how: &'static str, on: &'static str) -> Sql {
    let unique = Sql::new(if wanted.unique { "UNIQUE INDEX" } else { "INDEX" }, &[]);
    Sql::new(
        "CREATE {}{} {} ON {}{} {}",
        &[
            &unique,
            &Sql::new(how, &[]),
            &Ident(&wanted.index.name),
            &Sql::new(on, &[]),
            wanted.table,
            &Deparsed(wanted.rest),
        ],
    )
}

/// Builds an index on a table that is not partitioned.
pub fn build(wanted: &Wanted<'_>) -> Vec<Step> {
    let (index, table) = (wanted.index, wanted.table);
    let drop = Sql::new("DROP INDEX CONCURRENTLY {}", &[index]);
    let create = create(wanted, " CONCURRENTLY", "");
    vec![
        note(format!("{} on {}", index.display(), table.display())),
        quiet(index, table),
        Step::Gexec(Sql::new(
            "SELECT {} FROM pg_catalog.pg_index i\n \
             WHERE i.indexrelid = pg_catalog.to_regclass({}) AND i.indrelid = pg_catalog.to_regclass({})\n   \
               AND NOT ({})\n   \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)\n   \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)",
            &[&Literal(drop.as_str()), &Regclass(index), &Regclass(table), &usable()],
        )),
        Step::Gexec(Sql::new(
            "SELECT {}\n WHERE pg_catalog.to_regclass({}) IS NULL",
            &[&Literal(create.as_str()), &Regclass(index)],
        )),
        check(wanted),
    ]
}

/// `(relation, mode)` for one table.
fn only(table: &Relation, mode: &'static str) -> Sql {
    Sql::new(
        "SELECT {}::pg_catalog.regclass AS relation, {} AS mode",
        &[&Regclass(table), &Literal(mode)],
    )
}

/// The same for a table with all its partitions, from the top; foreign tables take no lock.
fn whole(table: &Relation, mode: &'static str) -> Sql {
    Sql::new(
        "WITH RECURSIVE tree(id, depth) AS (\n        \
           SELECT {}::pg_catalog.regclass::pg_catalog.oid, 0 UNION ALL\n        \
           SELECT h.inhrelid, depth + 1 FROM tree JOIN pg_catalog.pg_inherits h ON h.inhparent = tree.id)\n      \
         SELECT c.oid::pg_catalog.regclass AS relation, {} AS mode\n        \
           FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.id WHERE c.relkind IN ('r', 'p')\n       \
          ORDER BY tree.depth, c.oid",
        &[&Regclass(table), &Literal(mode)],
    )
}

fn exists(index: &Relation) -> Sql {
    Sql::new("pg_catalog.to_regclass({}) IS NOT NULL", &[&Regclass(index)])
}

/// Creates the index of a partitioned table on that alone; it becomes valid with its last part.
pub fn on_only(wanted: &Wanted<'_>) -> Vec<Step> {
    vec![
        note(format!("{} on {} alone", wanted.index.display(), wanted.table.display())),
        locked(
            &wanted.index.display(),
            &only(wanted.table, "SHARE"),
            &exists(wanted.index),
            &[create(wanted, "", "ONLY ")],
        ),
    ]
}

/// Creates the index of a partitioned table with foreign partitions, which takes the parts that are there.
pub fn over_parts(wanted: &Wanted<'_>) -> Vec<Step> {
    vec![
        note(format!("{} attaches the existing parts", wanted.index.display())),
        locked(
            &wanted.index.display(),
            &whole(wanted.table, "SHARE"),
            &exists(wanted.index),
            &[create(wanted, "", "")],
        ),
        check(wanted),
    ]
}

/// Adds a constraint that keeps an index: on a partitioned table alone, with its key; on a leaf from an
/// index that is there.
pub fn constrain(wanted: &Wanted<'_>, kind: &'static str, key: Option<&str>) -> Vec<Step> {
    let name = Ident(&wanted.index.name);
    let kind = Sql::new(kind, &[]);
    let add = match key {
        Some(key) => Sql::new(
            "ALTER TABLE ONLY {} ADD CONSTRAINT {} {} {}",
            &[wanted.table, &name, &kind, &Deparsed(key)],
        ),
        None => Sql::new(
            "ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}",
            &[wanted.table, &name, &kind, &name],
        ),
    };
    let done = Sql::new(
        "EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = {}::pg_catalog.regclass AND k.conname = {})",
        &[&Regclass(wanted.table), &Literal(&wanted.index.name)],
    );
    vec![locked(&wanted.index.display(), &only(wanted.table, "ACCESS EXCLUSIVE"), &done, &[add])]
}

/// Makes an index a part of a parent's; one that is attached already lets the parent be valid.
pub fn attach(parent: &Relation, part: &Relation) -> Step {
    let attach = Sql::new("ALTER INDEX {} ATTACH PARTITION {}", &[parent, part]);
    let none =
        Sql::new("SELECT NULL::pg_catalog.regclass AS relation, NULL AS mode WHERE false", &[]);
    let never = Sql::new("false", &[]);
    let wait = Sql::new("PERFORM pg_catalog.set_config('lock_timeout', '800', true)", &[]);
    locked(&part.display(), &none, &never, &[wait, attach])
}

/// Fails unless an index is valid.
pub fn valid(index: &Relation) -> Step {
    Step::Block(Sql::new(
        "BEGIN\n  \
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({})\n      \
                AND {}) THEN\n    \
             RAISE EXCEPTION '% is not valid yet', {}\n      \
               USING HINT = 'A partition may have been added meanwhile: print this script again.';\n  \
           END IF;\n\
         END",
        &[&Regclass(index), &usable(), &Literal(&index.display())],
    ))
}

/// A script of such steps, for an index that is to be there.
pub fn building(database: &str, index: &Relation, table: &Relation, steps: Vec<Step>) -> Script {
    let undo =
        format!("DROP INDEX CONCURRENTLY {index} (without CONCURRENTLY on a partitioned table).");
    let mut all = settings();
    all.extend(steps);
    Script {
        head: head(
            database,
            format!("{} on {} must exist and be valid.", index.display(), table.display()),
            "creates the missing parts of the index; it takes disk space and I/O.",
            undo,
            &format!(
                "A stronger lock (SHARE to create it on a parent, ACCESS EXCLUSIVE to attach a part) {LOCKS}"
            ),
        ),
        steps: all,
    }
}

/// Rebuilds an index, valid or not. `exclusion` is for one that no CONCURRENTLY rebuilds.
pub fn rebuild(there: &There<'_>, exclusion: bool) -> Vec<Step> {
    let (index, table) = (there.index, there.table);
    let leftovers = Sql::new(
        "FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid\n \
         WHERE i.indrelid = pg_catalog.to_regclass({}) AND NOT ({})\n   \
           AND pg_catalog.left(c.relname::text, {}) = {}\n   \
           AND pg_catalog.substr(c.relname::text, {}) ~ '^_cc(new|old)[0-9]*$'\n   \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)",
        &[
            &Regclass(table),
            &usable(),
            &index.name.chars().count(),
            &Literal(&index.name),
            &(index.name.chars().count() + 1),
        ],
    );
    let concurrently = Sql::new(if exclusion { "" } else { " CONCURRENTLY" }, &[]);
    let rebuild = Sql::new("REINDEX INDEX{} {}", &[&concurrently, index]);
    let mut steps = vec![
        note(format!("{} of {}", index.display(), table.display())),
        quiet(index, table),
        Step::Gexec(Sql::new(
            "SELECT 'DROP INDEX CONCURRENTLY ' || c.oid::pg_catalog.regclass {}",
            &[&leftovers],
        )),
    ];
    // One that was rebuilt has another OID.
    let reindex = Step::Gexec(Sql::new(
        "SELECT {} FROM pg_catalog.pg_index i WHERE i.indexrelid = {} AND i.indexrelid = pg_catalog.to_regclass({})",
        &[&Literal(rebuild.as_str()), &there.oid, &Regclass(index)],
    ));
    if exclusion {
        steps.push(note(
            "It cannot be rebuilt without blocking writes: after 1.5 s it gives up, and changes \
                         nothing.",
        ));
        steps.push(Step::Sql(Sql::new("SET lock_timeout = '400ms'", &[])));
        steps.push(Step::Sql(Sql::new("SET statement_timeout = '1500ms'", &[])));
        steps.push(reindex);
        steps.push(Step::Sql(Sql::new("SET statement_timeout = 0", &[])));
    } else {
        steps.push(reindex);
    }
    steps.push(Step::Block(Sql::new(
        "BEGIN\n  \
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({})\n      \
                AND i.indrelid = pg_catalog.to_regclass({}) AND {})\n     \
              OR EXISTS (SELECT {}) THEN\n    \
             RAISE EXCEPTION '% is not valid, or a part of its rebuilding is left', {}\n      \
               USING HINT = 'Run this again.';\n  \
           END IF;\n\
         END",
        &[
            &Regclass(index),
            &Regclass(table),
            &usable(),
            &leftovers,
            &Literal(&index.display()),
        ],
    )));
    steps
}

/// A script that rebuilds an index.
pub fn rebuilding(database: &str, there: &There<'_>, exclusion: bool) -> Script {
    let mut steps = settings();
    steps.extend(rebuild(there, exclusion));
    let locks = if exclusion {
        "To rebuild an exclusion constraint's index, SHARE on the table: writes wait for up to 1.5 s."
    } else {
        ""
    };
    let mut head = head(
        database,
        format!("{} of {} must be rebuilt.", there.index.display(), there.table.display()),
        "builds a new index beside the old one, which takes the same space again while it runs.",
        "nothing to undo.".to_owned(),
        locks,
    );
    head.notes.push(
        "A unique index cannot be rebuilt while there are duplicates: REINDEX names one."
            .to_owned(),
    );
    Script { head, steps }
}

/// A script that drops an index nobody relies on; `cover` does its work and must be there and valid.
/// `partitioned` is for one with parts, which no CONCURRENTLY drops.
pub fn dropping(
    database: &str,
    there: &There<'_>,
    cover: Option<&There<'_>>,
    partitioned: bool,
) -> Script {
    let (index, table) = (there.index, there.table);
    let covered = cover.map_or_else(
        || Sql::new("true", &[]),
        |cover| {
            Sql::new(
                "EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = {} AND {})",
                &[&cover.oid, &usable()],
            )
        },
    );
    // With all its parts, where it has any.
    let free = Sql::new(
        "{}\n   \
           AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = {}\n     \
             AND i.indexrelid = pg_catalog.to_regclass({}) AND i.indrelid = pg_catalog.to_regclass({}))\n   \
           AND NOT EXISTS (\n     \
             WITH RECURSIVE part(id) AS (SELECT {}::pg_catalog.oid UNION ALL\n       \
               SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits h ON h.inhparent = part.id)\n     \
             SELECT FROM part JOIN pg_catalog.pg_index i ON i.indexrelid = part.id\n      \
              WHERE i.indisprimary OR i.indisexclusion OR i.indisreplident OR i.indisclustered\n         \
                 OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = part.id))",
        &[&covered, &there.oid, &Regclass(index), &Regclass(table), &there.oid],
    );
    let gone =
        Sql::new("NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = {})", &[&there.oid]);
    let mut steps = settings();
    steps.push(note(format!("{} of {}", index.display(), table.display())));
    if partitioned {
        let drop = Sql::new("DROP INDEX {}", &[index]);
        let refuse = Sql::new(
            "IF NOT ({}) THEN\n        RAISE EXCEPTION 'something now depends on %', {};\n      END IF",
            &[&free, &Literal(&index.display())],
        );
        let relations = whole(table, "ACCESS EXCLUSIVE");
        steps.push(locked(&index.display(), &relations, &gone, &[refuse, drop]));
    } else {
        let drop = Sql::new("DROP INDEX CONCURRENTLY {}", &[index]);
        steps.push(Step::Gexec(Sql::new("SELECT {} WHERE {}", &[&Literal(drop.as_str()), &free])));
    }
    steps.push(Step::Block(Sql::new(
        "BEGIN\n  \
           IF NOT ({}) THEN\n    \
             RAISE EXCEPTION '% is there still: something relies on it by now, or the index that does its work is gone', {};\n  \
           END IF;\n\
         END",
        &[&gone, &Literal(&index.display())],
    )));
    let locks = if partitioned {
        format!(
            "An index with parts cannot be dropped CONCURRENTLY: ACCESS EXCLUSIVE on the table and all its \
             partitions; it {LOCKS}"
        )
    } else {
        String::new()
    };
    let mut head = head(
        database,
        format!("{} of {} can be dropped.", index.display(), table.display()),
        "drops the index, if it is still the one that was checked and nothing depends on it.",
        "create it again from its definition, which pg_get_indexdef() gives.".to_owned(),
        &locks,
    );
    if let Some(cover) = cover {
        head.notes.push(format!("{} does its work.", cover.index.display()));
    }
    Script { head, steps }
}
