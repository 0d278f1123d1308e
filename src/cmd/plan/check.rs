//! The last statement of a plan: that each partition is attached where it was wanted, with its bound.
//!
//! Must not: leave anything behind, or depend on the settings of the session that runs it.

use std::fmt::{self, Write};

use super::print::Page;
use crate::derive::partition::plan::Creation;
use crate::remedy::quote::literal;

/// Parent, partition and bound of everything that is created, for VALUES.
fn rows(page: &Page<'_>, parent: &str, creations: &[Creation], found: &mut Vec<String>) {
    for creation in creations {
        let name = page.catalogue.quote(&creation.name);
        let bound = literal(&creation.check.to_string());
        found.push(format!("    ({}, {}, {bound})", literal(parent), literal(&name)));
        rows(page, &name, &creation.children, found);
    }
}

/// Bounds are compared without quotes and the letters before bit strings: integers are shown with or
/// without them, by their type. The settings that show a bound hold for this statement alone.
pub(super) fn write(out: &mut String, page: &Page<'_>) -> fmt::Result {
    let mut found = Vec::new();
    for extension in page.extensions {
        let parent = page.catalogue.level_name(extension.level);
        rows(page, &parent, &extension.creations, &mut found);
    }
    if found.is_empty() {
        return Ok(());
    }
    let values = found.join(",\n");
    // No name ends the block.
    let mut tag = "$check$".to_owned();
    while values.contains(&tag) {
        tag.insert(1, '_');
    }
    let attached =
        if page.server.version_num >= 140_000 { " AND NOT i.inhdetachpending" } else { "" };
    let bare = |text: &str| {
        format!(
            "pg_catalog.replace(pg_catalog.regexp_replace({text}, \
             '([(, ])[BX]''', '\\1''', 'g'), '''', '')"
        )
    };
    writeln!(
        out,
        "\n-- Fails unless each of these is attached with the bound that is wanted. Changes nothing.\n\
         DO LANGUAGE plpgsql {tag}\n\
         DECLARE\n  wrong text;\n\
         BEGIN\n  \
           PERFORM pg_catalog.set_config(s.name, s.setting, true)\n     \
             FROM (VALUES ('TimeZone', 'UTC'), ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'),\n                  \
                  ('extra_float_digits', '1')) s(name, setting);\n  \
           SELECT pg_catalog.string_agg(want.partition || ' ' || want.bound, '; ') INTO wrong\n    \
             FROM (VALUES\n{values}\n    ) want(parent, partition, bound)\n   \
            WHERE NOT EXISTS (\n         \
              SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid\n          \
               WHERE i.inhrelid = pg_catalog.to_regclass(want.partition)\n            \
                 AND i.inhparent = pg_catalog.to_regclass(want.parent){attached}\n            \
                 AND {have}\n              = {wanted});\n  \
           IF wrong IS NOT NULL THEN\n    \
             RAISE EXCEPTION 'not there with the bound that was wanted: %', pg_catalog.left(wrong, 2000)\n      \
               USING HINT = 'Another relation has the name, or it was changed meanwhile. Plan again.';\n  \
           END IF;\n\
         END {tag};",
        have = bare("pg_catalog.pg_get_expr(c.relpartbound, 0)"),
        wanted = bare("want.bound"),
    )
}
