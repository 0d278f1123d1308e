//! The script that takes old partitions off a table and drops them.
//!
//! Each is known by its OID, and goes only while it has the name, the parent and the bound that it was judged
//! by. Where the server can, it is detached CONCURRENTLY; a comment on it says that it is ours to drop, so
//! that a run that was cut off can be told from a partition that somebody took off to keep.
//!
//! Must not: judge which partitions are old.

use super::script::{Head, Script, Step, note};
use super::sql::{Literal, Regclass, Relation, Sql};

/// A partition of which every row is old enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    /// `pg_class.oid`.
    pub oid: i64,
    /// What it is called.
    pub relation: Relation,
    /// The table that it is a partition of.
    pub parent: Relation,
    /// The parent's OID.
    pub parent_oid: i64,
    /// `pg_get_expr(relpartbound, 0)` in UTC and ISO.
    pub bound: String,
    /// For people.
    pub size: String,
    /// Whether it can be detached CONCURRENTLY: from 14 on, where the parent has no DEFAULT.
    pub concurrently: bool,
}

/// A table whose old partitions are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retire {
    /// Where it is.
    pub database: String,
    /// The table.
    pub table: Relation,
    /// Its OID.
    pub oid: i64,
    /// Who owns it.
    pub owner: String,
    /// For people: how old their rows are, and what that means as an instant.
    pub age: String,
    /// What is to go, oldest first.
    pub partitions: Vec<Old>,
    /// What is as old but stays, and why.
    pub spared: Vec<(Relation, String)>,
    /// What else to know.
    pub notes: Vec<String>,
}

/// What tells a table that is ours to drop; the root's OID follows.
const MARK: &str =
    "pgrunway is retiring this partition; to keep it, take this comment away. Table ";

/// Why a partition is not to go, or NULL: it is not what was judged, or something needs it.
const WHY: &str = "\
CREATE OR REPLACE FUNCTION pg_temp.pgrunway_why(id oid, name text, parent oid, bound text)
RETURNS text LANGUAGE sql AS $why$
WITH RECURSIVE tree(id) AS (
  SELECT $1 UNION ALL SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id)
SELECT CASE
  WHEN c.oid IS NULL THEN 'gone'
  WHEN c.oid IS DISTINCT FROM pg_catalog.to_regclass($2)::oid THEN 'it is called ' || c.oid::regclass || ' now'
  WHEN i.inhparent <> $3 THEN 'it is a partition of ' || i.inhparent::regclass || ' now'
  WHEN i.inhparent = $3 AND pg_catalog.pg_get_expr(c.relpartbound, 0) <> $4 THEN 'it has another bound now'
  WHEN i.inhparent IS NULL AND NOT COALESCE(
    pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), {}), false)
    THEN 'somebody else has detached it'
  ELSE COALESCE(
    (SELECT 'the foreign key ' || pg_catalog.quote_ident(k.conname) || ' of ' || k.conrelid::regclass
            || ' points to it'
       FROM pg_catalog.pg_constraint k JOIN tree ON tree.id = k.confrelid
      WHERE k.contype = 'f' AND k.conrelid NOT IN (SELECT t.id FROM tree t) LIMIT 1),
    (SELECT 'the view ' || r.ev_class::regclass || ' reads it'
       FROM pg_catalog.pg_depend d
       JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
       JOIN tree ON tree.id = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND r.ev_class NOT IN (SELECT t.id FROM tree t) LIMIT 1)) END
  FROM (SELECT $1) w(oid)
  LEFT JOIN pg_catalog.pg_class c ON c.oid = w.oid
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
$why$";

/// What marks a partition as ours, and what detaches it: nothing where it is not to go, or where somebody
/// uses the table for longer than 10 s.
const DETACH: &str = "\
CREATE OR REPLACE FUNCTION pg_temp.pgrunway_detach(part oid, part_name text, root oid, part_bound text,
  OUT remark text, OUT detach text) RETURNS SETOF record LANGUAGE plpgsql AS $detach$
DECLARE
  waiting text[];
  said text := pg_catalog.obj_description(part, 'pg_class');
  pending boolean;
BEGIN
  SELECT i.inhdetachpending INTO pending FROM pg_catalog.pg_inherits i WHERE i.inhrelid = part AND i.inhparent = root;
  IF NOT FOUND OR pg_catalog.current_setting('pgrunway.busy') <> '' OR pg_temp.pgrunway_why(part, part_name, root, part_bound) IS NOT NULL
     OR pending AND NOT COALESCE(pg_catalog.starts_with(said, {}), false) THEN
    RETURN;
  END IF;
  SELECT pg_catalog.array_agg(l.virtualtransaction) INTO waiting FROM pg_catalog.pg_locks l
   WHERE l.relation IN (part, root) AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
     AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
  FOR n IN 1 .. 100 LOOP
    SELECT pg_catalog.array_agg(l.virtualtransaction) INTO waiting FROM pg_catalog.pg_locks l
     WHERE l.relation IN (part, root) AND l.granted AND l.virtualtransaction = ANY (waiting);
    EXIT WHEN waiting IS NULL;
    PERFORM pg_catalog.pg_sleep(0.1);
  END LOOP;
  IF waiting IS NOT NULL THEN
    PERFORM pg_catalog.set_config('pgrunway.busy', 'on', false);
    RAISE WARNING '% is not detached: a transaction has used it or its table for 10 s (%)', part_name,
      (SELECT pg_catalog.string_agg(DISTINCT COALESCE('pid ' || l.pid, 'a prepared transaction'), ', ')
         FROM pg_catalog.pg_locks l WHERE l.virtualtransaction = ANY (waiting));
    RETURN;
  END IF;
  remark := pg_catalog.format('COMMENT ON %s %s IS %L',
    CASE WHEN (SELECT c.relkind = 'f' FROM pg_catalog.pg_class c WHERE c.oid = part)
         THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
    part::regclass, CASE WHEN pg_catalog.starts_with(said, {}) THEN said ELSE {} || COALESCE(E'\\n' || said, '') END);
  detach := pg_catalog.format('ALTER TABLE %s DETACH PARTITION %s %s', root::regclass, part::regclass,
    CASE WHEN pending THEN 'FINALIZE' ELSE 'CONCURRENTLY' END);
  RETURN NEXT;
END $detach$";

/// Detaches where it is attached still (`at_once`), and drops; all or nothing. It takes its locks within
/// 0.8 s or lets all of them go.
const DROP: &str = "\
CREATE OR REPLACE PROCEDURE pg_temp.pgrunway_drop(part oid, part_name text, root oid, part_bound text,
  at_once boolean) LANGUAGE plpgsql AS $drop$
DECLARE
  why text;
  attached boolean;
  l record;
  until timestamptz;
BEGIN
  FOR n IN 1 .. 10 LOOP
    BEGIN
      why := pg_temp.pgrunway_why(part, part_name, root, part_bound);
      attached := EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = part);
      IF why IS NULL AND attached AND NOT at_once THEN
        why := 'it is attached still';
      END IF;
      IF why IS NULL AND pg_catalog.current_setting('pgrunway.busy') <> '' THEN
        why := 'not tried, as locks could not be had above';
      END IF;
      EXIT WHEN why IS NOT NULL;
      until := pg_catalog.clock_timestamp() + interval '800 ms';
      FOR l IN
        WITH RECURSIVE tree(id) AS (
          SELECT part UNION ALL
          SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id),
        needed(id, rank) AS (
          SELECT root, 0 WHERE attached
          UNION ALL SELECT p.partdefid, 1 FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = root AND attached
          UNION ALL SELECT t.tgrelid, 2 FROM pg_catalog.pg_trigger t
                      JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
                     WHERE k.contype = 'f' AND k.conrelid IN (SELECT tree.id FROM tree)
          UNION ALL SELECT tree.id, 3 FROM tree)
        SELECT c.oid::regclass AS relation FROM needed JOIN pg_catalog.pg_class c ON c.oid = needed.id
         WHERE c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')
         GROUP BY c.oid ORDER BY pg_catalog.min(needed.rank), c.oid
      LOOP
        PERFORM pg_catalog.set_config('lock_timeout', GREATEST(1, (1000 * pg_catalog.date_part('epoch',
          until - pg_catalog.clock_timestamp()))::int)::text, true);
        EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', l.relation);
      END LOOP;
      PERFORM pg_catalog.set_config('lock_timeout', '100', true);
      why := pg_temp.pgrunway_why(part, part_name, root, part_bound);
      EXIT WHEN why IS NOT NULL OR attached IS DISTINCT FROM
        EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = part);
      IF attached THEN
        EXECUTE pg_catalog.format('ALTER TABLE %s DETACH PARTITION %s', root::regclass, part::regclass);
      END IF;
      EXECUTE pg_catalog.format('DROP %s %s', CASE WHEN (SELECT c.relkind = 'f' FROM pg_catalog.pg_class c
        WHERE c.oid = part) THEN 'FOREIGN TABLE' ELSE 'TABLE' END, part::regclass);
      why := NULL;
      EXIT;
    EXCEPTION
      WHEN lock_not_available OR deadlock_detected THEN
        why := 'in 10 attempts its locks could not be had, as others hold theirs';
      WHEN dependent_objects_still_exist OR foreign_key_violation THEN
        why := SQLERRM;
        EXIT;
    END;
    COMMIT;
    PERFORM pg_catalog.set_config('pgrunway.busy', CASE WHEN n = 10 THEN 'on' ELSE '' END, false);
    PERFORM pg_catalog.pg_sleep(1);
  END LOOP;
  COMMIT;
  IF why IS NOT NULL AND why <> 'gone' THEN
    RAISE WARNING '% is left: %', part_name, why;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = root AND (i.inhrelid = part
       OR i.inhrelid = pg_catalog.to_regclass(part_name) AND part_bound = (SELECT pg_catalog.pg_get_expr(c.relpartbound, 0)
            FROM pg_catalog.pg_class c WHERE c.oid = i.inhrelid)))
     OR pg_catalog.starts_with(pg_catalog.obj_description(part, 'pg_class'), {}) THEN
    PERFORM pg_catalog.set_config('pgrunway.undone', COALESCE(pg_catalog.current_setting('pgrunway.undone', true), '')
      || part_name || '; ', false);
  END IF;
END $drop$";

impl Retire {
    fn mark(&self) -> String {
        format!("{MARK}{}.", self.oid)
    }

    fn head(&self) -> Head {
        let concurrently = self.partitions.iter().any(|p| p.concurrently);
        let at_once = self.partitions.iter().any(|p| !p.concurrently);
        let mut locks = Vec::new();
        if concurrently {
            locks.push(
                "CONCURRENTLY: reads and writes of the table go on; it waits up to 10 s for those who use the \
                 table now, and gives up for all that is left if they do not end. Who reads a partition by its own name waits for up \
                 to 1.5 s.",
            );
        }
        if at_once {
            locks.push(
                "At once (before 14, or because of a DEFAULT, CONCURRENTLY is not possible): the table and the \
                 partition are locked for a moment. It takes all locks within 0.8 s or lets them go, 10 times, \
                 a second apart, and then gives up for all that is left.",
            );
        }
        let mut notes = self.notes.clone();
        for (relation, why) in &self.spared {
            notes.push(format!("Not retired: {}, because {why}.", relation.display()));
        }
        if self.partitions.is_empty() {
            locks.push("none.");
            notes.push("Nothing to retire.".to_owned());
        }
        let count = self.partitions.len();
        Head {
            title: format!(
                "{count} {} of {} to retire: every row is {}.",
                if count == 1 { "partition" } else { "partitions" },
                self.table.display(),
                self.age
            ),
            role: format!("{}, who owns the table, or a superuser.", self.owner),
            database: self.database.clone(),
            locks: locks.join(" "),
            changes: "each partition below is detached and dropped, if it has the OID, name, parent and bound \
                      that it had when this was made; what has not is left and named. Logical subscribers keep \
                      their rows."
                .to_owned(),
            undo: "restore from a backup: what is dropped is gone.".to_owned(),
            again: "goes on where it was cut off, also with a detach that is half done; what is gone is passed \
                    over. It fails (exit code 3) as long as one of them is left in the table, or detached and \
                    not dropped."
                .to_owned(),
            deletes: (count > 0)
                .then(|| "all rows of these partitions. Archive what must be kept first.".to_owned()),
            notes,
        }
    }

    /// The script.
    pub fn script(&self) -> Script {
        if self.partitions.is_empty() {
            return Script { head: self.head(), steps: Vec::new() };
        }
        let mark = self.mark();
        let mark = Literal(&mark);
        let mut steps = vec![
            note("Bounds are compared as they were read."),
            Step::Sql(Sql::new("SET timezone = 'UTC'", &[])),
            Step::Sql(Sql::new("SET datestyle = 'ISO, YMD'", &[])),
            Step::Sql(Sql::new("SET intervalstyle = 'postgres'", &[])),
            Step::Sql(Sql::new("SET extra_float_digits = 1", &[])),
            Step::Sql(Sql::new("SET lock_timeout = '1500ms'", &[])),
            Step::Sql(Sql::new("SET pgrunway.undone = ''", &[])),
            Step::Sql(Sql::new("SET pgrunway.busy = ''", &[])),
            Step::Block(Sql::new(
                "BEGIN\n  \
                   IF pg_catalog.to_regclass({})::oid IS DISTINCT FROM {}::oid THEN\n    \
                     RAISE EXCEPTION '% is not the table that this was made for', {}\n      \
                       USING HINT = 'Plan again, in this database.';\n  \
                   END IF;\n  \
                   IF NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP') THEN\n    \
                     RAISE EXCEPTION 'this needs the privilege TEMP on the database, for functions of its own';\n  \
                   END IF;\n  \
                   FOR n IN 1 .. 50 LOOP\n    \
                     EXIT WHEN pg_catalog.pg_try_advisory_lock(1885827703, ({} - 2147483648)::int);\n    \
                     IF n = 50 THEN\n      \
                       RAISE EXCEPTION 'another session is retiring partitions of this table';\n    \
                     END IF;\n    \
                     COMMIT;\n    \
                     PERFORM pg_catalog.pg_sleep(0.1);\n  \
                   END LOOP;\n\
                 END",
                &[&Regclass(&self.table), &self.oid, &Literal(&self.table.display()), &self.oid],
            )),
            note("Functions of this session's own, gone at its end."),
            Step::Sql(Sql::new(WHY, &[&mark])),
        ];
        if self.partitions.iter().any(|p| p.concurrently) {
            steps.push(Step::Sql(Sql::new(DETACH, &[&mark, &mark, &mark])));
        }
        steps.push(Step::Sql(Sql::new(DROP, &[&mark])));
        for old in &self.partitions {
            steps.push(note(format!("{}, {}: {}", old.relation.display(), old.size, old.bound)));
            let which = Sql::new(
                "{}, {}, {}, {}",
                &[&old.oid, &Regclass(&old.relation), &old.parent_oid, &Literal(&old.bound)],
            );
            if old.concurrently {
                // A second time for a detach that was given up half-way.
                let detach = Sql::new("SELECT * FROM pg_temp.pgrunway_detach({})", &[&which]);
                steps.push(Step::Try(vec![Step::Gexec(detach.clone()), Step::Gexec(detach)]));
            }
            steps.push(Step::Sql(Sql::new(
                "CALL pg_temp.pgrunway_drop({}, {})",
                &[&which, &!old.concurrently],
            )));
        }
        steps.push(note("Fails if anything is left to do."));
        steps.push(Step::Block(Sql::new(
            "BEGIN\n  \
               PERFORM pg_catalog.pg_advisory_unlock(1885827703, ({} - 2147483648)::int);\n  \
               IF pg_catalog.current_setting('pgrunway.undone') <> '' THEN\n    \
                 RAISE EXCEPTION 'not retired: %', pg_catalog.left(pg_catalog.current_setting('pgrunway.undone'), 2000)\n      \
                   USING HINT = 'The warnings above say why. Run this again, or plan again.';\n  \
               END IF;\n\
             END",
            &[&self.oid],
        )));
        Script { head: self.head(), steps }
    }
}
