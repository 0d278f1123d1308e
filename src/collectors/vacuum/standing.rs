//! Where each root table stands between two vacuums, with all its partitions: for the recommendations, which judge it.
//!
//! Must not: read, or judge.

use std::collections::HashMap;

use super::{Rows, later};
use crate::collectors::relations::Roots;
use crate::derive::vacuum::{Counts, LOADED, OVERDUE, WORTHWHILE};

/// Where a root table stands, with all below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing<'a> {
    /// Schema.
    pub schema: &'a str,
    /// Name.
    pub relname: &'a str,
    /// Whether it holds rows itself.
    pub stored: bool,
    /// Rows, live and dead (estimated).
    pub rows: f64,
    /// Tables that hold rows whose VACUUM has been due for long, itself or partitions.
    pub vacuum: Behind,
    /// The same for ANALYZE.
    pub analyze: Behind,
    /// Those of which most rows came or changed after the last ANALYZE.
    pub loaded: Behind,
    /// Seconds since it was analysed as a whole, infinite if never; of a partitioned one, where the server
    /// tells.
    pub unanalyzed: Option<f64>,
    /// Whether autovacuum is switched off for it, or for what of it is overdue.
    pub off: bool,
    /// `autovacuum_vacuum_scale_factor`, the table's own or the server's.
    pub scale_factor: f64,
    /// Dead rows at which autovacuum comes, where it holds rows.
    pub vacuum_at: f64,
}

/// Tables that hold rows and are overdue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behind {
    /// How many.
    pub tables: usize,
    /// How far the worst is beyond its threshold.
    pub times: f64,
    /// Those that need it most, the first one most, with how far each is.
    pub worst: Vec<(f64, OverdueRelation)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverdueRelation {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Rows that are dead, or inserted, or changed.
    pub amount: f64,
    /// Live rows.
    pub live: f64,
    /// Unix seconds at which what it needs was last done.
    pub last: Option<f64>,
}

/// Overdue tables of one root that are told apart.
const WORST: usize = 50;

impl Behind {
    fn add(&mut self, times: f64, one: OverdueRelation) {
        self.tables += 1;
        self.times = self.times.max(times);
        let at = self.worst.partition_point(|(other, _)| *other >= times);
        if at < WORST {
            self.worst.insert(at, (times, one));
            self.worst.truncate(WORST);
        }
    }
}

/// Every root table, in the order of their names.
pub fn standings(rows: &Rows) -> Vec<Standing<'_>> {
    let roots = Roots::new(rows.relations.iter().map(|r| &r.table));
    let names = roots.iter().map(|(schema, relname, oid)| {
        let standing = Standing {
            schema,
            relname,
            stored: false,
            rows: 0.0,
            vacuum: Behind::default(),
            analyze: Behind::default(),
            loaded: Behind::default(),
            unanalyzed: None,
            off: false,
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
        let last = &relation.last;
        let vacuumed = later(last.vacuum, last.autovacuum);
        let analysed = later(last.analyze, last.autoanalyze);
        if root == relation.table.id {
            standing.stored = relation.stored;
            standing.scale_factor = own.vacuum.1;
            standing.vacuum_at = own.dead(relation.counts.rows);
        }
        if !relation.stored {
            if root == relation.table.id && rows.tells_of_partitioned {
                let unknown = if relation.counts.rows > 0.0 { 0.0 } else { f64::INFINITY };
                standing.unanalyzed = Some(analysed.map_or(unknown, |at| (rows.now - at).max(0.0)));
            }
            continue;
        }
        let counts = &relation.counts;
        let due = own.due(counts);
        let size = relation.live + counts.dead;
        standing.rows += size;
        if size <= WORTHWHILE {
            continue;
        }
        let leaf = |amount, last| OverdueRelation {
            oid: relation.table.id,
            amount,
            live: relation.live,
            last,
        };
        let before = standing.vacuum.tables + standing.analyze.tables + standing.loaded.tables;
        if due.vacuum > OVERDUE {
            let dead = Counts { inserted: 0.0, ..*counts };
            let amount =
                if own.due(&dead).vacuum < due.vacuum { counts.inserted } else { counts.dead };
            standing.vacuum.add(due.vacuum, leaf(amount, vacuumed));
        }
        // What was changed in the session that analysed it may be counted after that: the size that the planner
        // knows tells the load.
        let unknown = relation.live - counts.rows.max(0.0);
        let grown = relation.live > WORTHWHILE && unknown > LOADED * relation.live;
        if grown && counts.modified > LOADED * relation.live {
            standing.loaded.add(due.analyze, leaf(counts.modified, analysed));
        } else if due.analyze > OVERDUE {
            standing.analyze.add(due.analyze, leaf(counts.modified, analysed));
        }
        let after = standing.vacuum.tables + standing.analyze.tables + standing.loaded.tables;
        standing.off |= after > before && relation.off();
    }
    roots.iter().filter_map(|(_, _, oid)| by_root.remove(&oid)).collect()
}
