//! What needs a lock that others wait behind: it is taken within a fraction of a second or given back.
//!
//! Must not: hold one lock while it waits for another for longer than that.

use super::script::Step;
use super::sql::{Literal, Sql};

/// How long others wait behind it, for heads.
pub(super) const LOCKS: &str = "gets its locks within 0.8 s or releases them and tries again, 10 times, a \
                                second apart, so that others wait for less than 2 s; then it fails.";

/// Takes the locks of a query (`relation regclass, mode text`, in this order) unless `done` holds, then runs
/// statements of PL/pgSQL, all in one transaction.
pub(super) fn locked(what: &str, relations: &Sql, done: &Sql, run: &[Sql]) -> Step {
    let run = Sql::join(run, ";\n      ");
    Step::Block(Sql::new(
        "DECLARE\n  \
           l record;\n  \
           until timestamptz;\n\
         BEGIN\n  \
           FOR attempt IN 1 .. 10 LOOP\n    \
             BEGIN\n      \
               EXIT WHEN {};\n      \
               until := pg_catalog.clock_timestamp() + interval '800 ms';\n      \
               FOR l IN {} LOOP\n        \
                 PERFORM pg_catalog.set_config('lock_timeout', GREATEST(1, (1000 * pg_catalog.date_part('epoch',\n          \
                   until - pg_catalog.clock_timestamp()))::int)::text, true);\n        \
                 EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN %s MODE', l.relation, l.mode);\n      \
               END LOOP;\n      \
               PERFORM pg_catalog.set_config('lock_timeout', '400', true);\n      \
               {};\n      \
               EXIT;\n    \
             EXCEPTION WHEN lock_not_available OR deadlock_detected THEN\n      \
               IF attempt = 10 THEN\n        \
                 RAISE EXCEPTION '%: its locks could not be had in 10 attempts, as others hold theirs', {}\n          \
                   USING HINT = 'Look at pg_locks and pg_stat_activity, then run this again.';\n      \
               END IF;\n    \
             END;\n    \
             COMMIT;\n    \
             PERFORM pg_catalog.pg_sleep(1);\n  \
           END LOOP;\n\
         END",
        &[done, relations, &run, &Literal(what)],
    ))
}
