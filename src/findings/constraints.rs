//! Rules about constraints that nobody has checked, and rows that break one that counts as valid.
//!
//! Must not: read a row; who counted them says how many.

use super::facts::{DatabaseFacts, Lost};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::thousands;
use crate::remedy::orphans::Orphans;
use crate::remedy::table;

pub(super) static RULES: &[&Rule] = &[
    &Rule {
        id: "constraint.not_valid",
        formerly: &[],
        title: "Validate constraints",
        severity: Severity::Warning,
        finds: "a constraint was added as NOT VALID and never validated",
        why: "Rows that were there before it may break it, and the planner does not rely on it.",
        source: "pg_constraint.convalidated",
        alerts: &[],
        part: Part::Constraints,
        when: When::Always,
        check: Check::Database(not_valid),
    },
    &Rule {
        id: "constraint.foreign_key",
        formerly: &[],
        title: "Fix rows whose foreign key points to no row",
        severity: Severity::Critical,
        finds: "rows whose foreign key points to no row, although the key is valid",
        why: "They come from disabled triggers or replication, and break joins, dumps and the next upgrade.",
        source: "the rows of both tables (`pgrunway verify --with constraint.foreign_key`)",
        alerts: &[],
        part: Part::Orphans,
        when: When::OnRequest,
        check: Check::Database(foreign_key),
    },
];

fn not_valid(d: &DatabaseFacts) -> Verdict {
    let found = d.not_valid.as_ref()?.iter().map(|c| {
        let evidence = format!("{} {} is NOT VALID.", c.kind, c.name);
        Finding::new(Subject::Relation(c.of.clone()), evidence)
            .advice(
                "It reads the whole table without blocking reads or writes, and fails if a row breaks the \
                 constraint.",
            )
            .remedy(table::validate(&d.datname, &c.of, &c.name, c.domain))
    });
    Some(found.collect())
}

fn foreign_key(d: &DatabaseFacts) -> Verdict {
    let found = d.lost.as_ref()?.iter().filter(|lost| lost.rows > 0).map(|lost| {
        // Rows of one table are far fewer than 2^53.
        let rows = lost.rows as f64;
        let parent = lost.parent.display();
        let evidence = format!("{} rows of {} point to no row of {parent}.", thousands(rows), lost.key);
        let orphans = lost.remedy(&d.datname);
        Finding::new(Subject::Relation(lost.child.clone()), evidence)
            .figure("rows", rows, Unit::Count)
            .advice(format!(
                "THIS DELETES DATA. It is better to restore the missing rows, or to set the key to NULL. To see \
                 them: {};",
                orphans.look()
            ))
            .remedy(orphans.script())
    });
    Some(found.collect())
}

impl Lost {
    /// As the remedy takes it.
    pub fn remedy<'a>(&'a self, database: &'a str) -> Orphans<'a> {
        Orphans {
            database,
            child: &self.child,
            child_tree: self.child_tree,
            parent: &self.parent,
            parent_tree: self.parent_tree,
            key: &self.key,
            present: &self.present,
            matches: &self.matches,
            rows: self.rows,
            follow: &self.follow,
        }
    }
}
