//! An index and its parts on a partition tree: what builds, completes and repairs it, without a lock that stops
//! reads or writes where PostgreSQL knows a way. An index of a partitioned table cannot be built CONCURRENTLY: it
//! is created on the parent alone, then on each partition CONCURRENTLY, and these are attached.
//!
//! Must not: read the tree (collectors do), judge, or name an index of a partition as another one is named already.

use super::create::{Create, Make, NAME_MAX, shortened};
use super::index::{self, There};
use super::{Deparsed, Relation, Script, Sql, Step};

/// A table of a partition tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its parent's, 0 of the root.
    pub parent: i64,
    /// `pg_class.relkind`.
    pub kind: String,
    /// Schema and name.
    pub relation: Relation,
}

/// An index of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPart {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Its table's.
    pub table: i64,
    /// The index that it is attached to.
    pub parent: Option<i64>,
    /// Whether it is valid, ready and live.
    pub usable: bool,
    /// Whether it is an exclusion constraint's.
    pub exclusion: bool,
    /// Whether it is a primary key's.
    pub primary: bool,
    /// Schema and name.
    pub relation: Relation,
    /// Whether a constraint rests on it.
    pub constraint: bool,
    /// `pg_get_indexdef()`.
    pub definition: String,
}

/// A table with all below it, and their indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Tables, by name.
    pub nodes: Vec<Node>,
    /// Indexes, by name.
    pub parts: Vec<IndexPart>,
}

/// What is to be done, or what to say where nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fix {
    /// The script.
    pub script: Option<Script>,
    /// What to know: sentences.
    pub note: &'static str,
}

impl Fix {
    fn none(note: &'static str) -> Self {
        Self { script: None, note }
    }

    fn by(script: Script, note: &'static str) -> Self {
        Self { script: Some(script), note }
    }
}

impl Tree {
    fn node(&self, oid: i64) -> Option<&Node> {
        self.nodes.iter().find(|n| n.oid == oid)
    }

    /// Brings the partitions below `table` to have what `index` is on it.
    fn complete(
        &self,
        out: &mut Vec<Step>,
        table: i64,
        index: (Option<i64>, &Relation),
        create: &Create,
        constraint: Option<&'static str>,
    ) {
        for child in self.nodes.iter().filter(|n| n.parent == table) {
            // A foreign table has no indexes.
            if child.kind == "f" {
                continue;
            }
            let attached = index.0.and_then(|id| {
                self.parts.iter().find(|p| p.table == child.oid && p.parent == Some(id))
            });
            let same = || {
                self.parts.iter().find(|p| {
                    let found = Create::parse(&p.definition);
                    p.table == child.oid
                        && p.parent.is_none()
                        && (p.usable || child.kind == "p")
                        && p.constraint == constraint.is_some()
                        && found.is_some_and(|f| f.rest == create.rest && f.unique == create.unique)
                })
            };
            match attached.or_else(same) {
                Some(part) => {
                    if part.usable && attached.is_some() {
                        continue;
                    }
                    if child.kind == "p" {
                        let below = (Some(part.oid), &part.relation);
                        self.complete(out, child.oid, below, create, constraint);
                    } else if !part.usable {
                        out.extend(index::rebuild(&part.there(child), part.exclusion));
                    }
                    // Again for one that is attached: the parent is told that it is valid now.
                    out.push(index::attach(index.1, &part.relation));
                }
                None => {
                    let name = format!("{}_{}", child.relation.name, create.name);
                    let name = self.free(&shortened(&name));
                    let full = Relation::new(child.relation.schema.as_str(), name);
                    let wanted = create.wanted(&child.relation, &full);
                    match (child.kind.as_str(), constraint) {
                        ("p", Some(kind)) => {
                            let key = key_of(&create.rest);
                            out.extend(index::constrain(&wanted, kind, Some(key)));
                            self.complete(out, child.oid, (None, &full), create, constraint);
                        }
                        ("p", None) => {
                            out.extend(index::on_only(&wanted));
                            self.complete(out, child.oid, (None, &full), create, constraint);
                        }
                        (_, constraint) => {
                            out.extend(index::build(&wanted));
                            if let Some(kind) = constraint {
                                out.extend(index::constrain(&wanted, kind, None));
                            }
                        }
                    }
                    out.push(index::attach(index.1, &full));
                }
            }
        }
    }

    fn has_foreign(&self) -> bool {
        self.nodes.iter().any(|n| n.kind == "f")
    }

    /// A foreign partition has no part to attach, and without it the parent's index never becomes valid.
    /// CREATE INDEX without ONLY leaves foreign tables out, and takes the parts that are there.
    fn beside_foreign(&self, root: &Node, index: &Relation, create: &Create) -> Vec<Step> {
        let mut steps = Vec::new();
        for leaf in self.nodes.iter().filter(|n| !matches!(n.kind.as_str(), "p" | "f")) {
            let there = self.parts.iter().any(|p| {
                p.table == leaf.oid
                    && p.parent.is_none()
                    && p.usable
                    && Create::parse(&p.definition)
                        .is_some_and(|f| f.rest == create.rest && f.unique == create.unique)
            });
            if !there {
                let name = shortened(&format!("{}_{}", leaf.relation.name, create.name));
                let part = Relation::new(leaf.relation.schema.as_str(), self.free(&name));
                steps.extend(index::build(&create.wanted(&leaf.relation, &part)));
            }
        }
        steps.extend(index::over_parts(&create.wanted(&root.relation, index)));
        steps
    }

    /// A name that no index of the tree has.
    fn free(&self, name: &str) -> String {
        let taken = |name: &str| self.parts.iter().any(|p| p.relation.name == name);
        let mut free = name.to_owned();
        let mut n = 1;
        while taken(&free) {
            let mut end = name.len().min(NAME_MAX - 4);
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            free = format!("{}_{n}", &name[..end]);
            n += 1;
        }
        free
    }
}

impl IndexPart {
    fn there<'a>(&'a self, node: &'a Node) -> There<'a> {
        There { oid: self.oid, index: &self.relation, table: &node.relation }
    }
}

/// `(a, b)` of `USING btree (a, b)`.
fn key_of(rest: &str) -> &str {
    rest.find('(').map_or(rest, |at| &rest[at..])
}

impl Tree {
    /// What makes an index valid: rebuilt, or completed on the partitions that lack it.
    pub fn validate(&self, database: &str, id: i64) -> Fix {
        let Some(part) = self.parts.iter().find(|p| p.oid == id) else {
            return Fix::none("It is gone by now.");
        };
        let Some(node) = self.node(part.table) else { return Fix::default() };
        if node.kind != "p" {
            // What REINDEX CONCURRENTLY left behind has its work done by the original.
            let leftover = |suffix: &str| {
                part.relation.name.rsplit_once(suffix).is_some_and(|(base, number)| {
                    number.bytes().all(|b| b.is_ascii_digit())
                        && self.parts.iter().any(|p| p.relation.name == base)
                })
            };
            if (leftover("_ccnew") || leftover("_ccold")) && !part.constraint {
                let script = index::dropping(database, &part.there(node), None, false);
                return Fix::by(script, "A REINDEX CONCURRENTLY that failed left it behind.");
            }
            return Fix::by(
                index::rebuilding(database, &part.there(node), part.exclusion),
                "Where it is unique, REINDEX fails as long as there are duplicates, and names one.",
            );
        }
        if self.has_foreign() {
            return Fix::none(
                "No SQL: with a foreign partition, attaching cannot make it valid. Drop it and create it again \
                 without ONLY, which leaves foreign tables out.",
            );
        }
        let Some(create) = Create::parse(&part.definition) else { return Fix::default() };
        let create = Create { exact: true, ..create };
        if part.exclusion {
            return Fix::none(
                "No SQL: an exclusion constraint has to be added to each partition by ALTER TABLE.",
            );
        }
        let constraint = match (part.constraint, part.primary) {
            (false, _) => None,
            (true, true) => Some("PRIMARY KEY"),
            (true, false) => Some("UNIQUE"),
        };
        let mut steps = Vec::new();
        self.complete(&mut steps, part.table, (Some(id), &part.relation), &create, constraint);
        if steps.is_empty() {
            // All parts are there and valid, and it was not told.
            let parts = self.parts.iter().filter(|p| p.parent == Some(id));
            steps.extend(parts.map(|p| index::attach(&part.relation, &p.relation)));
        }
        steps.push(index::valid(&part.relation));
        Fix::by(index::building(database, &part.relation, &node.relation, steps), "")
    }

    /// What makes an index that the file expects on the table at the root, as far as it says how.
    pub fn make(&self, database: &str, how: &Make) -> Fix {
        match how {
            Make::Create(create) => self.create(database, create),
            Make::Verbatim(sql) => {
                let Some(node) = self.root() else { return Fix::default() };
                let steps = vec![Step::Sql(Sql::new("{}", &[&Deparsed(sql)]))];
                let mut script = index::building(database, &node.relation, &node.relation, steps);
                script.head.title =
                    format!("{} is to have what the file expects.", node.relation.display());
                script.head.undo = "drop it again.".to_owned();
                Fix::by(
                    script,
                    "Taken from the file as it is; a constraint locks the table while its index is built.",
                )
            }
            Make::Unknown => Fix::none(
                "No SQL: the file says nothing but its name. With `create` it would (`pgrunway verify --init` \
                 writes it).",
            ),
        }
    }

    /// What creates an index on the table at the root.
    pub fn create(&self, database: &str, create: &Create) -> Fix {
        let Some(node) = self.root() else { return Fix::default() };
        let index = Relation::new(node.relation.schema.as_str(), create.name.as_str());
        let wanted = create.wanted(&node.relation, &index);
        let steps = if node.kind != "p" {
            index::build(&wanted)
        } else if self.has_foreign() {
            if create.unique {
                return Fix::none(
                    "No SQL: a table with foreign partitions cannot have a unique index.",
                );
            }
            self.beside_foreign(node, &index, create)
        } else {
            let mut steps = index::on_only(&wanted);
            self.complete(&mut steps, node.oid, (None, &index), create, None);
            steps.push(index::valid(&index));
            steps
        };
        Fix::by(index::building(database, &index, &node.relation, steps), "")
    }

    fn root(&self) -> Option<&Node> {
        self.nodes.iter().find(|n| n.parent == 0)
    }
}
