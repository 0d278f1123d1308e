//! The last statement of a plan: that each partition is attached where it was wanted, with its bound.
//!
//! Must not: leave anything behind, or depend on the settings of the session that runs it.

use super::attach::bare;
use super::catalogue::Catalogue;
use crate::derive::partition::plan::{Creation, Shortfall};
use crate::remedy::{Deparsed, Literal, Regclass, Relation as Table, Sql, Step, block};

/// Parent, partition and bound of everything that is created, for VALUES.
fn rows(parent: &Table, creations: &[Creation], found: &mut Vec<Sql>) {
    for creation in creations {
        let name = Table::new(&creation.name.schema, &creation.name.table);
        let bound = creation.check.to_string();
        found.push(Sql::new(
            "({}, {}, {})",
            &[&Regclass(parent), &Regclass(&name), &Literal(&bound)],
        ));
        rows(&name, &creation.children, found);
    }
}

/// Fails unless each partition is attached with its bound, and none is left standing alone.
pub(super) fn step(
    version_num: i32,
    catalogue: &Catalogue,
    extensions: &[Shortfall],
) -> Option<Step> {
    let mut found = Vec::new();
    for extension in extensions {
        if let Some(parent) = catalogue.tables.get(extension.level) {
            rows(&parent.table(), &extension.creations, &mut found);
        }
    }
    if found.is_empty() {
        return None;
    }
    let pending = version_num >= 140_000;
    let attached = if pending { " AND NOT i.inhdetachpending" } else { "" };
    Some(block(Sql::new(
        "DECLARE\n  v_wrong text;\n\
         BEGIN\n  \
           -- Fails unless each of these is attached with the planned bound. Changes nothing.\n  \
           SELECT string_agg(want.partition || ' ' || want.bound, '; ') INTO v_wrong\n    \
             FROM (VALUES\n    {}\n    ) want(parent, partition, bound)\n   \
            WHERE NOT EXISTS (\n         \
              SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid\n          \
               WHERE i.inhrelid = to_regclass(want.partition)\n            \
                 AND i.inhparent = to_regclass(want.parent){}\n            \
                 AND {}\n              = {});\n  \
           IF v_wrong IS NOT NULL THEN\n    \
             RAISE EXCEPTION 'not attached with the planned bound: %', left(v_wrong, 2000)\n      \
               USING HINT = 'Another relation has the name, or it was changed meanwhile. Plan again.';\n  \
           END IF;\n\
         END",
        &[
            &Sql::join(&found, ",\n    "),
            &Deparsed(attached),
            &bare(Sql::new("pg_get_expr(c.relpartbound, 0)", &[])),
            &bare(Sql::new("want.bound", &[])),
        ],
    )))
}
