//! The part of a plan that takes old partitions off and drops them.
//!
//! Must not: name a partition that the derivation did not find old enough.

use std::fmt::{self, Write};

use super::DAY;
use super::print::{Page, instant, remark};
use crate::derive::partition::Bound;
use crate::remedy::quote::literal;

pub(super) fn write(out: &mut String, page: &Page<'_>, days: u16) -> fmt::Result {
    let before = instant(page.catalogue.now - i128::from(days) * DAY);
    let count = page.retirements.len();
    writeln!(
        out,
        "\n-- {count} to retire: partitions that ended {days} days ago, at {before}, or earlier."
    )?;
    if page.retirements.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "-- THIS DELETES DATA. Archive first what must be kept. \\gexec is psql's: it runs the statement\n\
         -- that the query returns, and none where the partition is detached already."
    )?;
    for retirement in page.retirements {
        let (Some(parent), Some(partition)) = (
            page.catalogue.tables.get(retirement.level),
            page.catalogue.partition(retirement.level, retirement.child),
        ) else {
            continue;
        };
        let level = page.catalogue.level(retirement.level);
        let children = level.map(|l| l.children.as_slice()).unwrap_or_default();
        let default = children.iter().any(|c| c.bound == Some(Bound::Default));
        let bound = children.get(retirement.child).and_then(|c| c.bound.as_ref());
        let concurrently = page.server.version_num >= 140_000 && !default;
        let size = page.sizes.get(&partition.oid).map_or("size unknown", String::as_str);
        let bound = bound.map(Bound::to_string).unwrap_or_default();
        let note = if default { "; not CONCURRENTLY, because of the DEFAULT" } else { "" };
        writeln!(out, "\n-- {}, {size}: {}{note}", remark(&partition.sql), remark(&bound))?;
        let detach = format!(
            "ALTER TABLE {} DETACH PARTITION {}{}",
            parent.sql,
            partition.sql,
            if concurrently { " CONCURRENTLY" } else { "" }
        );
        writeln!(
            out,
            "SELECT {} FROM pg_catalog.pg_inherits\n WHERE inhrelid = pg_catalog.to_regclass({}) \
             AND inhparent = pg_catalog.to_regclass({}){} \\gexec",
            literal(&detach),
            literal(&partition.sql),
            literal(&parent.sql),
            if concurrently { " AND NOT inhdetachpending" } else { "" }
        )?;
        let kind = if partition.kind == "f" { "FOREIGN TABLE" } else { "TABLE" };
        writeln!(out, "DROP {kind} IF EXISTS {};", partition.sql)?;
    }
    Ok(())
}
