//! The script that deletes rows whose foreign key points to no row.
//!
//! Must not: delete a row that has found its parent meanwhile, or more rows than were found.

use super::script::{Head, Script, Step, note};
use super::sql::{Deparsed, Relation, Sql};

/// Rows without a parent, as they were found.
#[derive(Debug, Clone)]
pub struct Orphans<'a> {
    /// Where they are.
    pub database: &'a str,
    /// The referencing table.
    pub child: &'a Relation,
    /// Whether its partitions belong to it.
    pub child_tree: bool,
    /// The referenced one.
    pub parent: &'a Relation,
    /// Whether its partitions belong to it.
    pub parent_tree: bool,
    /// The constraint.
    pub key: &'a str,
    /// `f.a IS NOT NULL`, as the server quotes it.
    pub present: &'a str,
    /// `p.id = f.a`, the same.
    pub matches: &'a str,
    /// How many there were.
    pub rows: i64,
    /// What else goes or changes with them: foreign keys that point to the child, and its triggers.
    pub follow: &'a [String],
}

impl Orphans<'_> {
    fn only(tree: bool) -> Sql {
        Sql::new(if tree { "" } else { "ONLY " }, &[])
    }

    /// The condition on a row `f` of the child.
    fn lost(&self) -> Sql {
        Sql::new(
            "({}) AND NOT EXISTS (SELECT FROM {}{} AS p WHERE {})",
            &[
                &Deparsed(self.present),
                &Self::only(self.parent_tree),
                self.parent,
                &Deparsed(self.matches),
            ],
        )
    }

    /// A query that shows them.
    pub fn look(&self) -> Sql {
        let child = Self::only(self.child_tree);
        Sql::new("SELECT f.* FROM {}{} AS f WHERE {}", &[&child, self.child, &self.lost()])
    }

    /// A query that counts them.
    pub fn count(&self) -> Sql {
        let child = Self::only(self.child_tree);
        Sql::new(
            "SELECT pg_catalog.count(*) AS n FROM {}{} AS f WHERE {}",
            &[&child, self.child, &self.lost()],
        )
    }

    /// The script.
    pub fn script(&self) -> Script {
        let (child, parent) = (Self::only(self.child_tree), Self::only(self.parent_tree));
        let lost = self.lost();
        let mut notes: Vec<String> =
            self.follow.iter().map(|what| format!("With them: {what}.")).collect();
        notes.push(
            "It is better to restore the missing rows, or to set the key to NULL.".to_owned(),
        );
        let head = Head {
            title: format!(
                "{} rows of {} point to no row of {} ({}).",
                self.rows,
                self.child.display(),
                self.parent.display(),
                super::text::one_line(self.key)
            ),
            role: "a superuser, or the owner of both tables; it fails if row security hides rows from him."
                .to_owned(),
            database: self.database.to_owned(),
            locks: format!(
                "SHARE on {} for each batch, so that no parent is inserted while its rows are deleted: its \
                 writes wait for less than 2 s. ROW EXCLUSIVE on {}.",
                self.parent.display(),
                self.child.display()
            ),
            changes: "deletes those rows in batches, each a transaction that checks again whether a row still \
                      has no parent. It counts them first, and fails if there are more than were found."
                .to_owned(),
            undo: "restore them from a backup; the query below copies them first.".to_owned(),
            again: "continues with the remaining rows. It fails (exit code 3) while any remains.".to_owned(),
            deletes: Some(format!("{} rows of {}.", self.rows, self.child.display())),
            notes,
        };
        let block = Sql::new(
            "DECLARE\n  \
               batch int8 := 1;\n  \
               found int8;\n  \
               gone int8;\n  \
               total int8 := 0;\n  \
               fails int := 0;\n  \
               began timestamptz;\n  \
               took float8;\n  \
               tables oid[];\n  \
               tids tid[];\n\
             BEGIN\n  \
               SELECT pg_catalog.count(*) INTO found FROM pg_temp.pgrunway_orphans;\n  \
               IF found > {} THEN\n    \
                 RAISE EXCEPTION '% rows are without a parent by now, more than the % that were found', found, {}\n      \
                   USING HINT = 'Find out why before any is deleted.';\n  \
               END IF;\n  \
               LOOP\n    \
                 SELECT pg_catalog.array_agg(o.tab), pg_catalog.array_agg(o.tid) INTO tables, tids\n      \
                   FROM (SELECT o.tab, o.tid FROM pg_temp.pgrunway_orphans o ORDER BY o.nr LIMIT batch) o;\n    \
                 EXIT WHEN tids IS NULL;\n    \
                 BEGIN\n      \
                   PERFORM pg_catalog.set_config('lock_timeout', '800', true);\n      \
                   LOCK TABLE {}{} IN SHARE MODE;\n      \
                   PERFORM pg_catalog.set_config('lock_timeout', '200', true);\n      \
                   began := pg_catalog.clock_timestamp();\n      \
                   DELETE FROM {}{} AS f WHERE f.ctid = ANY (tids)\n         \
                      AND (f.tableoid, f.ctid) IN (SELECT u.tab, u.tid FROM ROWS FROM (pg_catalog.unnest(tables), pg_catalog.unnest(tids)) u(tab, tid))\n         \
                      AND {};\n      \
                   GET DIAGNOSTICS gone = ROW_COUNT;\n      \
                   total := total + gone;\n      \
                   DELETE FROM pg_temp.pgrunway_orphans o WHERE (o.tab, o.tid) IN (\n        \
                     SELECT u.tab, u.tid FROM ROWS FROM (pg_catalog.unnest(tables), pg_catalog.unnest(tids)) u(tab, tid));\n      \
                   took := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - began);\n      \
                   batch := CASE WHEN took < 0.1 THEN LEAST(batch * 2, 2000) WHEN took > 0.4 THEN GREATEST(batch / 4, 1)\n        \
                     ELSE batch END;\n      \
                   fails := 0;\n    \
                 EXCEPTION WHEN lock_not_available OR deadlock_detected THEN\n      \
                   fails := fails + 1;\n      \
                   IF fails = 10 THEN\n        \
                     RAISE EXCEPTION 'locks could not be had in 10 attempts; % rows are deleted', total\n          \
                       USING HINT = 'Run this again.';\n      \
                   END IF;\n    \
                 END;\n    \
                 COMMIT;\n    \
                 PERFORM pg_catalog.pg_sleep(CASE WHEN fails > 0 THEN 1 ELSE 0.01 END);\n  \
               END LOOP;\n  \
               IF EXISTS (SELECT FROM {}{} AS f WHERE {}) THEN\n    \
                 RAISE EXCEPTION '% rows are deleted, and others are without a parent still', total\n      \
                   USING HINT = 'Run this again.';\n  \
               END IF;\n  \
               RAISE NOTICE '% rows were without a parent, % are deleted, none is left', found, total;\n\
             END",
            &[
                &self.rows,
                &self.rows,
                &parent,
                self.parent,
                &child,
                self.child,
                &lost,
                &child,
                self.child,
                &lost,
            ],
        );
        Script {
            head,
            steps: vec![
                note(format!("To look at them: {}", self.look())),
                Step::Sql(Sql::new("DROP TABLE IF EXISTS pg_temp.pgrunway_orphans", &[])),
                Step::Sql(Sql::new(
                    "CREATE TEMPORARY TABLE pgrunway_orphans AS\n  \
                     SELECT f.tableoid AS tab, f.ctid AS tid, pg_catalog.row_number() OVER () AS nr\n    \
                       FROM {}{} AS f WHERE {}",
                    &[&child, self.child, &lost],
                )),
                Step::Block(block),
                Step::Sql(Sql::new("DROP TABLE pg_temp.pgrunway_orphans", &[])),
            ],
        }
    }
}
