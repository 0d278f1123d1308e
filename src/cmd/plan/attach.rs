//! The block that attaches new partitions, and moves the rows that are in their way.
//!
//! Must not: say what is done to a row in two places; the block itself decides, when it is run.

use super::catalogue::{Catalogue, TreeTable};
use super::layouts::{COVERS, EXPRESSION, REFUSAL};
use super::model::Models;
use crate::derive::partition::plan::{Creation, Shortfall};
use crate::derive::partition::{Bound, Datum};
use crate::pg::Server;
use crate::remedy::{Deparsed, Literal, Regclass, Relation as Table, Sql, SqlPart, quote};

const ATTACH: &str = include_str!("attach.sql");
const LOCK: &str = include_str!("lock.sql");

/// The source; and all that an attempt touches.
const SOURCE: &str = "v_source::oid";
const ALL: &str = "x::oid FROM unnest(ARRAY[c_default, v_source, CASE WHEN v_grown THEN v_part END]) x WHERE x IS NOT NULL";

/// Locks what is selected and all below it, one relation after the other, each for no longer than is left of the time
/// that others may wait.
fn lock(seed: &str, indent: usize) -> String {
    LOCK.trim_end().replace("{seed}", seed).replace('\n', &format!("\n{:indent$}", ""))
}

/// Why rows of `source`, a partition of `parent`, are not moved: a query with one text, NULL where they are.
/// `open` is whether the source has no end, and is cut by detaching it.
pub(super) fn refusal(
    server: &Server,
    source: &dyn SqlPart,
    parent: &dyn SqlPart,
    open: &dyn SqlPart,
) -> Sql {
    let covers = covers(server.version_num);
    // FOR TABLES IN SCHEMA.
    let (whole, any) = if server.version_num >= 150_000 {
        (
            "\n           OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid JOIN up ON up.id = c.oid WHERE s.pnpubid = p.oid)",
            "\n          OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid\n                      WHERE s.pnpubid = p.oid AND c.oid IN (SELECT id FROM up UNION SELECT id FROM down))",
        )
    } else {
        ("", "")
    };
    Sql::new(REFUSAL, &[source, parent, &Deparsed(whole), &Deparsed(any), open, &Deparsed(&covers)])
}

/// What publications leave out of the replica identity, for which the server refuses each DELETE.
fn covers(version_num: i32) -> String {
    if version_num < 150_000 {
        return String::new();
    }
    // Before 18 no publication holds generated columns, and none is asked for.
    let generated = if version_num >= 180_000 {
        "a.attgenerated <> '' AND l.columns IS NULL AND (a.attgenerated <> 's' OR l.pubgencols <> 's')"
    } else {
        "false"
    };
    let gencols = if version_num >= 180_000 { "q.pubgencols" } else { "NULL" };
    COVERS.replace("{generated}", generated).replace("{gencols}", gencols)
}

/// A bound without quotes and the letters before bit strings: integers are shown with or without them, by
/// their type.
pub(super) fn bare(text: Sql) -> Sql {
    Sql::new("replace(regexp_replace({}, '([(, ])[BX]''', '\\1''', 'g'), '''', '')", &[&text])
}

fn array(items: &[Option<String>]) -> Sql {
    let items: Vec<Sql> = items
        .iter()
        .map(|item| match item {
            Some(text) => Sql::new("{}", &[&Literal(text)]),
            None => Sql::new("NULL", &[]),
        })
        .collect();
    Sql::new("ARRAY[\n    {}]::text[]", &[&Sql::join(&items, ",\n    ")])
}

fn regclass(table: Option<&TreeTable>) -> Sql {
    match table {
        Some(table) => Sql::new("{}", &[&Regclass(&table.table())]),
        None => Sql::new("NULL", &[]),
    }
}

/// What stands in the comment of a new table until it is attached as a whole.
pub(super) fn mark(parent: &TreeTable, creation: &Creation) -> String {
    let parent = parent.table();
    format!("pgrunway: becomes a partition of {}.{} {}", parent.schema, parent.name, creation.check)
}

/// A text that `to_regclass()` reads.
fn spelled(table: &Table) -> String {
    quote::spelled(&table.schema, &table.name)
}

/// Each new table under a creation with the one it is made like.
fn pairs(catalogue: &Catalogue, creation: &Creation, found: &mut Vec<(String, String)>) {
    let (level, child) = creation.like;
    if let Some(model) = catalogue.partition(level, child) {
        let new = Table::new(&creation.name.schema, &creation.name.table);
        found.push((spelled(&new), spelled(&model.table())));
    }
    creation.children.iter().for_each(|c| pairs(catalogue, c, found));
}

/// `, MINVALUE` for each column of the key behind the first.
fn tail(bound: &Bound, what: Option<&str>) -> String {
    let Bound::Range { from, .. } = bound else { return String::new() };
    let one =
        |datum: &Datum| format!(", {}", what.map_or_else(|| datum.to_string(), str::to_owned));
    from.iter().skip(1).map(one).collect()
}

/// The block for one level, whose table's `key` is the leading column or expression; without one nothing
/// moves.
pub(super) fn block(
    server: &Server,
    catalogue: &Catalogue,
    models: &Models,
    extension: &Shortfall,
    parent: &TreeTable,
) -> Sql {
    let default = extension.default.and_then(|i| catalogue.partition(extension.level, i));
    let open = extension.open.filter(|_| extension.creations.iter().any(|c| c.carved));
    let open = open.and_then(|i| catalogue.partition(extension.level, i));
    let all = &extension.creations;
    let each =
        |one: &dyn Fn(&Creation) -> Option<String>| array(&all.iter().map(one).collect::<Vec<_>>());
    let key = parent.leading.as_deref().unwrap_or("NULL::text");
    let list = |c: &Creation| match &c.bound {
        Bound::List(values) => {
            let values: Vec<String> = values.iter().map(Datum::to_string).collect();
            Some(format!("{key} IN ({})", values.join(", ")))
        }
        _ => None,
    };
    let comment = |c: &Creation| {
        let model = catalogue.partition(c.like.0, c.like.1)?;
        models.comment(model).map(str::to_owned)
    };
    let mut tables = Vec::new();
    all.iter().for_each(|c| pairs(catalogue, c, &mut tables));
    let (new, like): (Vec<_>, Vec<_>) =
        tables.into_iter().map(|(new, like)| (Some(new), Some(like))).unzip();
    let first = all.first().map(|c| &c.bound);
    let tails = first.map(|b| tail(b, None)).unwrap_or_default();
    let top = format!("MAXVALUE{}", first.map(|b| tail(b, Some("MAXVALUE"))).unwrap_or_default());
    let refusal = refusal(
        server,
        &Deparsed("v_source"),
        &Deparsed("c_parent"),
        &Deparsed("v_source = c_open"),
    );
    let refusal = Sql::new("v_refusal := ({})", &[&refusal]);
    let refusal = match parent.leading {
        Some(_) => refusal,
        None => Sql::new("v_refusal := {}", &[&Literal(EXPRESSION)]),
    };
    Sql::new(
        ATTACH,
        &[
            &Regclass(&parent.table()),
            &regclass(default),
            &regclass(open),
            &each(&|c| Some(spelled(&Table::new(&c.name.schema, &c.name.table)))),
            &each(&|c| Some(c.ends.as_ref()?.0.clone())),
            &each(&|c| Some(c.ends.as_ref()?.1.clone())),
            &each(&|c| Some(c.bound.to_string())),
            &each(&|c| Some(c.check.to_string())),
            &each(&list),
            &each(&|c| Some(if c.carved { "t" } else { "f" }.to_owned())),
            &each(&|c| Some(mark(parent, c))),
            &each(&comment),
            &array(&new),
            &array(&like),
            &Literal(key),
            &Literal(&tails),
            &Literal(&top),
            &Deparsed(&lock(SOURCE, 12)),
            &Sql::new("{};", &[&refusal]),
            &bare(Sql::new("v_bound", &[])),
            &bare(Sql::new("c_checks[n]", &[])),
            &Deparsed(&lock(ALL, 10)),
            &Deparsed(&lock(SOURCE, 8)),
        ],
    )
}
