//! Where each root table stands between two vacuums, with all its partitions: for the recommendations, which judge it.
//!
//! Must not: read, or judge.

use std::collections::HashMap;

use super::Rows;
use crate::collectors::relations::Roots;

/// Where a root table stands, with all below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing<'a> {
    /// Schema.
    pub schema: &'a str,
    /// Name.
    pub relname: &'a str,
    /// Whether it holds rows itself.
    pub stored: bool,
    /// Rows, live and dead (estimated).
    pub rows: f64,
    /// Tables that hold rows whose VACUUM has been due for long, itself or partitions, and how far the
    /// worst of them is.
    pub vacuum: (usize, f64),
    /// The same for ANALYZE.
    pub analyze: (usize, f64),
    /// Whether it is partitioned and has no statistics of its own, where the server tells.
    pub never_analyzed: Option<bool>,
    /// `autovacuum_vacuum_scale_factor`, the table's own or the server's.
    pub scale_factor: f64,
    /// Dead rows at which autovacuum comes, where it holds rows.
    pub vacuum_at: f64,
}

/// Changes beyond a threshold by this factor are overdue: at the threshold autovacuum is on its way.
pub const OVERDUE: f64 = 2.0;
/// Rows of a table below which nothing is overdue: what is small does no harm.
pub const WORTHWHILE: f64 = 10_000.0;

/// Every root table, in the order of their names.
pub fn standings(rows: &Rows) -> Vec<Standing<'_>> {
    let roots = Roots::new(rows.relations.iter().map(|r| &r.table));
    let names = roots.iter().map(|(schema, relname, oid)| {
        let standing = Standing {
            schema,
            relname,
            stored: false,
            rows: 0.0,
            vacuum: (0, 0.0),
            analyze: (0, 0.0),
            never_analyzed: None,
            scale_factor: rows.thresholds.vacuum.1,
            vacuum_at: 0.0,
        };
        (oid, standing)
    });
    let mut by_root: HashMap<i64, Standing<'_>> = names.collect();
    for relation in &rows.relations {
        let Some(root) = roots.of(relation.table.id) else { continue };
        let Some(standing) = by_root.get_mut(&root) else { continue };
        let own = relation.thresholds(rows.thresholds);
        if root == relation.table.id {
            standing.stored = relation.stored;
            standing.scale_factor = own.vacuum.1;
            standing.vacuum_at = own.dead(relation.counts.rows);
        }
        if !relation.stored {
            if root == relation.table.id && rows.tells_of_partitioned {
                let last = relation.last.analyze.or(relation.last.autoanalyze);
                let never = relation.counts.rows <= 0.0 && last.is_none();
                standing.never_analyzed = Some(never);
            }
            continue;
        }
        let due = own.due(&relation.counts);
        let size = relation.live + relation.counts.dead;
        standing.rows += size;
        let kinds = [(&mut standing.vacuum, due.vacuum), (&mut standing.analyze, due.analyze)];
        for (overdue, due) in kinds {
            if due > OVERDUE && size > WORTHWHILE {
                *overdue = (overdue.0 + 1, overdue.1.max(due));
            }
        }
    }
    roots.iter().filter_map(|(_, _, oid)| by_root.remove(&oid)).collect()
}
