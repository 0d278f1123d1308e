//! A plan as a script for psql.
//!
//! Must not: print what cannot be run twice, or put a statement into a transaction that refuses one.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::catalogue::{Catalogue, TreeTable};
use super::model::Models;
use super::{attach, check, layouts};
use crate::derive::partition::plan::rhythm::local;
use crate::derive::partition::plan::{Creation, Shortfall};
use crate::pg::Server;
use crate::remedy::index::{self, Wanted};
use crate::remedy::{
    Deparsed, Head, Literal, Regclass, Relation as Table, Script, Sql, Step, block, note,
};

/// Everything that goes on the page.
pub(super) struct PlanPage<'a> {
    pub(super) server: &'a Server,
    pub(super) catalogue: &'a Catalogue,
    pub(super) models: &'a Models,
    pub(super) writer: &'a TimeZone,
    /// Whether the writer's zone is more than a guess.
    pub(super) zone_known: bool,
    pub(super) days: u16,
    /// Microseconds since 1970.
    pub(super) until: i128,
    pub(super) extensions: &'a [Shortfall],
    /// Of each extension: why rows of its DEFAULT, or of its open partition, are not moved.
    pub(super) refusals: &'a [Refusals],
}

/// Why rows are not moved.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    pub(super) default: Option<String>,
    pub(super) open: Option<String>,
}

/// Microseconds since 1970 for people, in UTC to the second.
pub(super) fn instant(micros: i128) -> String {
    let whole = micros - micros.rem_euclid(1_000_000);
    match local(whole, &TimeZone::UTC) {
        Some(at) => format!("{} UTC", at.to_string().replace('T', " ")),
        None => format!("{} s since 1970", whole / 1_000_000),
    }
}

/// The tables that new ones are made like.
pub(super) fn models<'a>(catalogue: &'a Catalogue, creations: &[Creation]) -> Vec<&'a TreeTable> {
    let mut found: Vec<&TreeTable> = Vec::new();
    for creation in creations {
        let own = catalogue.partition(creation.like.0, creation.like.1);
        for model in own.into_iter().chain(models(catalogue, &creation.children)) {
            if !found.iter().any(|f| f.oid == model.oid) {
                found.push(model);
            }
        }
    }
    found
}

impl PlanPage<'_> {
    pub(super) fn script(&self) -> Script {
        let mut steps = Vec::new();
        if !self.extensions.is_empty() {
            self.begin(&mut steps);
        }
        for (n, extension) in self.extensions.iter().enumerate() {
            let refusals = self.refusals.get(n).cloned().unwrap_or_default();
            self.extension(&mut steps, extension, &refusals);
        }
        steps.extend(check::step(self.server.version_num, self.catalogue, self.extensions));
        if self.extensions.is_empty() {
            steps.push(note("Nothing to create: the partitions last until then."));
        }
        Script { head: self.head(), steps }
    }

    fn root(&self) -> Option<&TreeTable> {
        self.catalogue.tables.get(self.catalogue.root)
    }

    fn head(&self) -> Head {
        let name = self.root().map_or_else(String::new, |t| t.table().display());
        let sources = self.extensions.iter().any(|e| e.default.is_some() || carves(e));
        let locks = if self.extensions.is_empty() {
            "none".to_owned()
        } else if sources {
            "each partition is attached under an ACCESS EXCLUSIVE lock on its parent and on the partition that \
             may contain rows for it. Waiting for the lock, moving rows and reading the others take 2 s at most \
             (pgrunway.longest_wait below), then other sessions have their turn. If it cannot get a lock, it \
             tries 60 times, with pauses, for about two minutes."
                .to_owned()
        } else {
            "each partition is attached under a SHARE UPDATE EXCLUSIVE lock on its parent, which blocks neither \
             readers nor writers. If it cannot get a lock within 0.5 s, it tries 60 times, with pauses, for about \
             two minutes."
                .to_owned()
        };
        let count: usize = self.extensions.iter().map(|e| e.creations.len()).sum();
        let changes = match (count, sources) {
            (0, _) => "nothing".to_owned(),
            (count, false) => format!("creates {count} partitions."),
            (count, true) => format!(
                "creates {count} partitions, and moves the rows that belong into them. No trigger fires, and no \
                 other row is touched."
            ),
        };
        let mut notes = Vec::new();
        self.notes(&mut notes);
        Head {
            title: format!(
                "plan for {name} in database {}, from {} for {} days, until {}.",
                self.server.datname,
                instant(self.catalogue.now),
                self.days,
                instant(self.until)
            ),
            role: self.role(),
            database: self.server.datname.clone(),
            locks,
            changes,
            undo: "a new partition without rows can be dropped. Moved rows are where new inserts go too: \
                   nothing to undo. If the script was interrupted and you do not run it again, drop the \
                   constraints, functions and indexes whose names begin with pgrunway_."
                .to_owned(),
            again: "yes. What is done already is skipped, what was interrupted is finished, and two runs at \
                    once wait for each other. A check at the end fails if another table got one of these names in \
                    the meantime."
                .to_owned(),
            deletes: None,
            notes,
        }
    }

    fn role(&self) -> String {
        let tree = self.catalogue.tables.iter().chain(self.catalogue.partitions.iter().flatten());
        let owners: BTreeSet<&str> = tree.map(|t| t.owner.as_str()).collect();
        let all: Vec<&Creation> = self.extensions.iter().flat_map(|e| &e.creations).collect();
        let mut publications = BTreeSet::new();
        for creation in all {
            for model in models(self.catalogue, std::slice::from_ref(creation)) {
                publications.extend(self.models.publications_of_others(model));
            }
        }
        let owner = self.root().map_or("", |t| t.owner.as_str());
        if owners.len() > 1 {
            return "a superuser, because the table and its partitions have several owners."
                .to_owned();
        }
        if !publications.is_empty() {
            return "a superuser, because siblings are in a publication of another owner's."
                .to_owned();
        }
        let moves = self.extensions.iter().any(|e| e.default.is_some() || carves(e));
        let mut tree = self.catalogue.partitions.iter().flatten();
        if tree.any(|t| t.forced) {
            return "a superuser or a role with BYPASSRLS, because row security is forced on partitions."
                .to_owned();
        }
        if moves && self.server.version_num < 150_000 {
            return format!(
                "the table's owner, {owner}; a superuser if rows are in the way and the table has triggers, or \
                 foreign keys refer to it: before 15 only a superuser can suspend these."
            );
        }
        if moves && self.catalogue.referenced {
            return format!(
                "the table's owner, {owner}; a superuser if rows are in the way, because foreign keys refer to \
                 the table and must not react to the move."
            );
        }
        format!("the table's owner, {owner}, or a superuser.")
    }

    fn notes(&self, notes: &mut Vec<String>) {
        if !self.zone_known {
            notes.push(
                "The writer's time zone is not known here: local times count as UTC.".to_owned(),
            );
        } else if self.extensions.iter().any(|e| e.rhythm.contains("local time")) {
            let zone = self.writer.iana_name().unwrap_or("the configured zone");
            notes.push(format!("Local times are taken as those of {zone}."));
        }
        for (parent, partition) in &self.catalogue.pending {
            notes.push(format!(
                "{} is half detached, and blocks a new one for its time. To finish the detach: \
                 ALTER TABLE {parent} DETACH PARTITION {} FINALIZE;",
                partition.table().display(),
                partition.sql,
            ));
        }
        let mut said = BTreeSet::new();
        for extension in self.extensions {
            for model in models(self.catalogue, &extension.creations) {
                said.extend(self.models.left_out(model));
            }
        }
        notes.extend(said.into_iter().map(|what| format!("Not copied: {what}.")));
        for (extension, refusals) in self.extensions.iter().zip(self.refusals) {
            notes.extend(left(self.catalogue, extension, refusals));
        }
    }

    /// What holds for the session that runs it, and that nobody else runs one for this table.
    fn begin(&self, steps: &mut Vec<Step>) {
        let Some(root) = self.root() else { return };
        steps.push(note("The longest time for which one step may block other sessions."));
        for sql in [
            "SET pgrunway.longest_wait = '2s'",
            "SET lock_timeout = '1s'",
            "SET default_tablespace = ''",
            "SET TimeZone = 'UTC'",
            "SET DateStyle = 'ISO, YMD'",
            "SET IntervalStyle = 'postgres'",
            "SET extra_float_digits = 1",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE",
        ] {
            steps.push(Step::Sql(Sql::new(sql, &[])));
        }
        let name = root.table();
        let name = format!("pgrunway plan {}.{}", name.schema, name.name);
        steps.push(block(Sql::new(
            "BEGIN\n  \
               FOR n IN 1 .. 600 LOOP\n    \
                 EXIT WHEN pg_try_advisory_lock(hashtextextended({}, 0));\n    \
                 IF n = 600 THEN\n      \
                   RAISE EXCEPTION 'another session has been running a plan for this table for ten minutes';\n    \
                 END IF;\n    \
                 COMMIT;\n    \
                 PERFORM pg_sleep(1);\n  \
               END LOOP;\n\
             END",
            &[&Literal(&name)],
        )));
    }

    fn extension(&self, steps: &mut Vec<Step>, extension: &Shortfall, refusals: &Refusals) {
        let Some(parent) = self.catalogue.tables.get(extension.level) else { return };
        let count = extension.creations.len();
        let name = parent.table().display();
        steps.push(note(format!("{name}: {}, {count} to create.", extension.rhythm)));
        match &extension.pattern {
            Some(pattern) => steps.push(note(format!("Names follow {pattern}."))),
            None => steps.push(note(
                "No pattern reproduces the names of all its partitions, so new ones are named after their \
                 parent and their beginning, with _pYYYYMMDD (_HH24MISS).",
            )),
        }
        for (from, to) in &extension.past {
            let text = format!("Not filled, because it is in the past: a gap from {from} to {to}.");
            steps.push(note(text));
        }
        let of = |i: usize| self.catalogue.partition(extension.level, i);
        if let Some(default) = extension.default.and_then(of) {
            self.source(steps, extension, parent, default, "is its DEFAULT", refusals);
        }
        if let Some(open) = extension.open.filter(|_| carves(extension)).and_then(of) {
            self.source(steps, extension, parent, open, "has no end", refusals);
        }
        for creation in &extension.creations {
            let new = Table::new(&creation.name.schema, &creation.name.table);
            let mut made = Vec::new();
            self.creation(creation, parent, true, &mut made);
            steps.push(Step::Gset(Sql::new(
                "SELECT to_regclass({}) IS NULL AS missing",
                &[&Regclass(&new)],
            )));
            steps.push(Step::If("missing", vec![Step::Transaction(made)]));
        }
        let finders: Vec<(&TreeTable, Table)> = [
            extension.default.filter(|_| refusals.default.is_none()),
            extension.open.filter(|_| refusals.open.is_none() && carves(extension)),
        ]
        .into_iter()
        .filter_map(|source| of(source?))
        .filter(|source| source.kind == "r")
        .map(|source| (source, finder(source)))
        .collect();
        for (source, index) in &finders {
            find(steps, extension, parent, source, index);
        }
        steps.push(note(format!("Attaches them to {name}.")));
        steps.push(block(attach::block(
            self.server,
            self.catalogue,
            self.models,
            extension,
            parent,
        )));
        for (_, index) in &finders {
            steps.push(Step::Gset(Sql::new(
                "SELECT to_regclass({}) IS NOT NULL AS indexed",
                &[&Regclass(index)],
            )));
            steps.push(Step::If(
                "indexed",
                vec![Step::Sql(Sql::new("DROP INDEX CONCURRENTLY {}", &[index]))],
            ));
        }
    }

    /// What holds rows that may be in the way.
    fn source(
        &self,
        steps: &mut Vec<Step>,
        extension: &Shortfall,
        parent: &TreeTable,
        source: &TreeTable,
        what: &str,
        refusals: &Refusals,
    ) {
        let name = source.table().display();
        let why = if what == "has no end" { &refusals.open } else { &refusals.default };
        steps.push(note(format!(
            "WARNING: {name} {what} and contains about {} rows (estimated). Rows of it that belong into a new \
             partition are {}.",
            source.rows,
            if why.is_some() { "not moved: see the first lines" } else { "moved there" }
        )));
        let first = extension.creations.first().and_then(|c| c.ends.as_ref());
        let last = extension.creations.iter().filter_map(|c| c.ends.as_ref()).next_back();
        if let (Some(key), Some((from, _)), Some((_, to))) = (&parent.leading, first, last) {
            let key = Deparsed(key);
            steps.push(note("How many there are:"));
            steps.push(Step::Look(Sql::new(
                "SELECT count(*) FROM {} WHERE {} >= {} AND {} < {}",
                &[&source.table(), &key, &Literal(from), &key, &Literal(to)],
            )));
        }
    }

    fn creation(&self, creation: &Creation, parent: &TreeTable, top: bool, out: &mut Vec<Step>) {
        let Some(model) = self.catalogue.partition(creation.like.0, creation.like.1) else {
            return;
        };
        let new = Table::new(&creation.name.schema, &creation.name.table);
        let mark = attach::mark(parent, creation);
        self.models.create(creation, &new, model, &mark, out);
        for below in &creation.children {
            self.creation(below, parent, false, out);
            let child = Table::new(&below.name.schema, &below.name.table);
            out.push(Step::Sql(Sql::new(
                "ALTER TABLE {} ATTACH PARTITION {} {}",
                &[&new, &child, &Deparsed(&below.bound.to_string())],
            )));
        }
        if !top {
            let comment = self.models.comment(model);
            let text = Sql::new("NULL", &[]);
            let text = comment.map_or(text, |c| Sql::new("{}", &[&Literal(c)]));
            out.push(Step::Sql(Sql::new("COMMENT ON TABLE {} IS {}", &[&new, &text])));
        }
    }
}

fn carves(extension: &Shortfall) -> bool {
    extension.creations.iter().any(|c| c.carved)
}

/// Rows that stay where they are, why, and the way by hand.
pub(super) fn left(
    catalogue: &Catalogue,
    extension: &Shortfall,
    refusals: &Refusals,
) -> Vec<String> {
    let sources = [
        (extension.default, &refusals.default),
        (extension.open.filter(|_| carves(extension)), &refusals.open),
    ];
    let each = sources.into_iter().filter_map(|(source, why)| {
        let source = catalogue.partition(extension.level, source?)?;
        Some(refused(&source.table(), why.as_deref()?))
    });
    each.collect()
}

/// An index for the time of the move alone.
fn finder(source: &TreeTable) -> Table {
    Table::new(&source.name.schema, format!("pgrunway_find_{}", source.oid))
}

/// Builds an index on the key of a large source that has rows in the way and no such index: without one, each part
/// of the move would read the whole source while others wait.
fn find(
    steps: &mut Vec<Step>,
    extension: &Shortfall,
    parent: &TreeTable,
    source: &TreeTable,
    index: &Table,
) {
    let ends = || extension.creations.iter().filter_map(|c| c.ends.as_ref());
    let (Some(key), Some((from, _)), Some((_, to))) =
        (&parent.leading, ends().next(), ends().next_back())
    else {
        return;
    };
    let (table, column) = (source.table(), Deparsed(key));
    // Whom row security keeps from seeing all rows is stopped where they are moved, with the reason.
    steps.push(Step::Gset(Sql::new(
        "SELECT pg_relation_size({}) >= 104857600 AND NOT row_security_active({}::regclass) AND NOT EXISTS (SELECT FROM pg_index i \
           JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = {}::regclass AND i.indisvalid \
           AND i.indpred IS NULL AND m.amname = 'btree' AND pg_get_indexdef(i.indexrelid, 1, false) = {}) AS unindexed",
        &[&Regclass(&table), &Regclass(&table), &Regclass(&table), &Literal(key)],
    )));
    let rows = Step::Gset(Sql::new(
        "SELECT EXISTS (SELECT FROM {} WHERE {} >= {} AND {} < {}) AS filled",
        &[&table, &column, &Literal(from), &column, &Literal(to)],
    ));
    let rest = format!("USING btree ({key})");
    let wanted = Wanted { table: &table, index, unique: false, rest: &rest, exact: false };
    let mut build = vec![
        note("An index for the move; it is dropped at the end."),
        Step::Sql(Sql::new("SET lock_timeout = '5min'", &[])),
    ];
    build.extend(index::build(&wanted));
    build.push(Step::Sql(Sql::new("SET lock_timeout = '1s'", &[])));
    steps.push(Step::If("unindexed", vec![rows, Step::If("filled", build)]));
}

/// The reason, and the way by hand.
fn refused(source: &Table, why: &str) -> String {
    let name = source.display();
    let way = layouts::ways(why);
    format!(
        "Rows of {name} are not moved, because {why}. Partitions without such rows are created all the same; \
         the script ends with an error that names the others. By hand: {way}."
    )
}
