//! What a new partition gets from the sibling that it is made like, as statements.
//!
//! Must not: leave out a property without saying so; what is neither copied nor said is a defect.

use std::collections::HashMap;

use super::catalogue::TreeTable;
use crate::derive::partition::plan::Creation;
use crate::error::CollectError;
use crate::pg::{Query, Row, Session, columns};
use crate::remedy::{
    Deparsed, Ident, Literal, Regclass, Relation as Table, Sql, SqlPart, Step, block, note, quote,
};

const PROPERTIES: &str = include_str!("model.sql");

columns! {
    /// One property of a table, as `model.sql` has it.
    #[derive(Debug, Clone)]
    struct Property {
    oid: i64,
    kind: String,
    name: Option<String>,
    def: Option<String>,
    extra: Option<String>,
    flag: bool,
    other: bool,
    }
}

/// The properties of all tables that new ones are made like, by OID.
pub(super) struct Models(HashMap<i64, Vec<Property>>);

impl Models {
    /// Those of the tables with these OIDs.
    pub(super) async fn read(session: &Session, oids: &Vec<i64>) -> Result<Self, CollectError> {
        let mut found: HashMap<i64, Vec<Property>> = HashMap::new();
        if oids.is_empty() {
            return Ok(Self(found));
        }
        let (filter, columns) = if session.server().version_num >= 150_000 {
            (
                "pg_catalog.pg_get_expr(r.prqual, r.prrelid)",
                "(SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) \
                    FROM pg_catalog.pg_attribute a WHERE a.attrelid = m.oid AND a.attnum = ANY (r.prattrs::int2[]))",
            )
        } else {
            ("NULL", "NULL")
        };
        let sql = PROPERTIES.replace("{filter}", filter).replace("{columns}", columns);
        let rows = session.read(Query::new(&sql).int8_array(oids)).await?;
        for property in Row::all::<Property>(&rows)? {
            found.entry(property.oid).or_default().push(property);
        }
        Ok(Self(found))
    }

    fn of<'a>(&'a self, model: &TreeTable, kind: &'a str) -> impl Iterator<Item = &'a Property> {
        self.0.get(&model.oid).into_iter().flatten().filter(move |p| p.kind == kind)
    }

    /// The comment that it gets in the end: one that siblings share.
    pub(super) fn comment(&self, model: &TreeTable) -> Option<&str> {
        self.of(model, "comment").find(|p| p.flag).and_then(|p| p.def.as_deref())
    }

    /// The owner of a publication that names the sibling itself may be another than the table's.
    pub(super) fn publications_of_others(&self, model: &TreeTable) -> Vec<&str> {
        self.of(model, "publication")
            .filter(|p| p.other)
            .filter_map(|p| p.name.as_deref())
            .collect()
    }

    /// What the sibling has and a new partition does not get, and why.
    pub(super) fn left_out(&self, model: &TreeTable) -> Vec<String> {
        let of = model.table().display();
        let mut found = Vec::new();
        for p in self.0.get(&model.oid).into_iter().flatten() {
            let name = p.name.as_deref().unwrap_or_default();
            match p.kind.as_str() {
                "constraint" if !p.flag && p.extra.is_some() => found.push(format!(
                    "CHECK {name} of {of} speaks of the key and no sibling shares it: it is taken for the \
                     bounds of {of}, and new partitions do not get it"
                )),
                "comment" if !p.flag => found.push(format!(
                    "the comment on {of} is its own, and new partitions do not get it"
                )),
                "rule" => found.push(format!(
                    "rule {name} of {of} is not copied: create it on each new partition by hand"
                )),
                "referred" => found.push(format!(
                    "foreign key {name} of {} refers to {of} itself, and to no new partition",
                    p.def.as_deref().unwrap_or_default()
                )),
                _ => {}
            }
        }
        found
    }

    /// Creates a table like `model`, standing alone, with its own partitions, and all that the model has.
    pub(super) fn create(
        &self,
        creation: &Creation,
        new: &Table,
        model: &TreeTable,
        mark: &str,
        out: &mut Vec<Step>,
    ) {
        if let Some(taken) = &creation.instead_of {
            out.push(note(format!(
                "WARNING: the name {taken} is taken, and not by a partition for this time."
            )));
        }
        out.push(Step::Sql(create_table(new, model)));
        let mut alter = |action: Sql| {
            out.push(Step::Sql(Sql::new("ALTER TABLE {} {}", &[new, &action])));
        };
        alter(Sql::new("OWNER TO {}", &[&Ident(&model.owner)]));
        for p in self.of(model, "constraint").filter(|p| p.flag || p.extra.is_none()) {
            if let (Some(name), Some(def)) = (&p.name, &p.def) {
                alter(Sql::new("ADD CONSTRAINT {} {}", &[&Ident(name), &Deparsed(def)]));
            }
        }
        for p in self.of(model, "column") {
            let Some(name) = &p.name else { continue };
            if let Some(target) = p.def.as_deref().and_then(|t| t.parse::<i64>().ok())
                && target >= 0
            {
                alter(Sql::new("ALTER COLUMN {} SET STATISTICS {}", &[&Ident(name), &target]));
            }
            if let Some(options) = &p.extra {
                alter(Sql::new("ALTER COLUMN {} SET ({})", &[&Ident(name), &Deparsed(options)]));
            }
        }
        for p in self.of(model, "replica") {
            match (p.name.as_deref(), &p.def) {
                (Some("f"), _) => alter(Sql::new("REPLICA IDENTITY FULL", &[])),
                (Some("n"), _) => alter(Sql::new("REPLICA IDENTITY NOTHING", &[])),
                _ => {}
            }
        }
        for p in self.of(model, "security") {
            if p.flag {
                alter(Sql::new("ENABLE ROW LEVEL SECURITY", &[]));
            }
            if p.other {
                alter(Sql::new("FORCE ROW LEVEL SECURITY", &[]));
            }
        }
        self.programs(new, model, out);
        self.rights(new, model, out);
        self.surroundings(new, model, out);
        out.push(Step::Sql(Sql::new("COMMENT ON TABLE {} IS {}", &[new, &Literal(mark)])));
    }

    /// Triggers and policies: their text names the model.
    fn programs(&self, new: &Table, model: &TreeTable, out: &mut Vec<Step>) {
        let (old, now) = (
            format!(" ON {} ", quote::spelled(&model.name.schema, &model.name.table)),
            format!(" ON {} ", quote::spelled(&new.schema, &new.name)),
        );
        for p in self.of(model, "trigger") {
            let (Some(name), Some(def)) = (&p.name, &p.def) else { continue };
            // The server's text, with the name of the table it is on.
            let ident = quote::server_ident(name);
            let at = def.find(&ident).map_or(0, |at| at + ident.len());
            let (before, after) = def.split_at(at);
            let moved = format!("{before}{}", after.replacen(&old, &now, 1));
            out.push(Step::Sql(Sql::new("{}", &[&Deparsed(&moved)])));
        }
        for p in self.of(model, "policy") {
            let (Some(name), Some(def)) = (&p.name, &p.def) else { continue };
            // Inside a subquery a column of the table is called by the table's name.
            let old = format!("{}.", quote::server_ident(&model.name.table));
            let now = format!("{}.", quote::server_ident(&new.name));
            let mut moved = String::with_capacity(def.len());
            let mut rest = def.as_str();
            while let Some(at) = rest.find(&old) {
                let (before, from) = rest.split_at(at);
                moved.push_str(before);
                let part = before.chars().next_back().or_else(|| moved.chars().next_back());
                let inside = part.is_some_and(|c| c.is_alphanumeric() || "_\"$.".contains(c));
                moved.push_str(if inside { &old } else { &now });
                rest = &from[old.len()..];
            }
            moved.push_str(rest);
            out.push(Step::Sql(Sql::new(
                "CREATE POLICY {} ON {} {}",
                &[&Ident(name), new, &Deparsed(&moved)],
            )));
        }
    }

    /// Exactly the model's: default privileges of whoever runs the script may have added some.
    fn rights(&self, new: &Table, model: &TreeTable, out: &mut Vec<Step>) {
        let closed = self.of(model, "closed").any(|p| p.flag);
        out.push(block(Sql::new(
            "DECLARE\n  v_grantee text;\n\
             BEGIN\n  \
               FOR v_grantee IN SELECT DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC') FROM pg_class c\n      \
                 CROSS JOIN LATERAL aclexplode(c.relacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee\n     \
                 WHERE c.oid = {}::regclass AND ({} OR x.grantee <> c.relowner) LOOP\n    \
                 EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', {}::regclass, v_grantee);\n  \
               END LOOP;\n\
             END",
            &[&Regclass(new), &closed, &Regclass(new)],
        )));
        // One statement for all that one role gets in one way.
        let mut all: Vec<(Sql, &str, bool, Option<&str>)> = Vec::new();
        for p in self.of(model, "grant") {
            let grantee = match (&p.name, p.other) {
                (Some(role), _) => Sql::new("{}", &[&Ident(role)]),
                (None, true) => Sql::new("PUBLIC", &[]),
                // The role is gone.
                (None, false) => continue,
            };
            let Some(privilege) = p.def.as_deref() else { continue };
            all.push((grantee, privilege, p.flag, p.extra.as_deref()));
        }
        let mut done: Vec<(&Sql, bool)> = Vec::new();
        for (grantee, _, grantable, _) in &all {
            if done.contains(&(grantee, *grantable)) {
                continue;
            }
            done.push((grantee, *grantable));
            let of = all.iter().filter(|(g, _, o, _)| (g, o) == (grantee, grantable));
            let privileges: Vec<Sql> = of
                .map(|(_, privilege, _, column)| match column {
                    Some(column) => Sql::new("{} ({})", &[&Deparsed(privilege), &Ident(column)]),
                    None => Sql::new("{}", &[&Deparsed(privilege)]),
                })
                .collect();
            let option = if *grantable { " WITH GRANT OPTION" } else { "" };
            out.push(Step::Sql(Sql::new(
                "GRANT {} ON TABLE {} TO {}{}",
                &[&Sql::join(&privileges, ", "), new, grantee, &Deparsed(option)],
            )));
        }
    }

    fn surroundings(&self, new: &Table, model: &TreeTable, out: &mut Vec<Step>) {
        for p in self.of(model, "replica").filter(|p| p.name.as_deref() == Some("i")) {
            let Some(index) = &p.def else { continue };
            out.push(block(Sql::new(
                "DECLARE\n  v_index text;\n\
                 BEGIN\n  \
                   SELECT c.relname INTO v_index FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid\n   \
                    WHERE x.indrelid = {}::regclass AND x.indisunique AND x.indpred IS NULL\n     \
                      AND concat_ws(' ', x.indisprimary, ARRAY(SELECT a.attname FROM unnest(x.indkey::int2[]) WITH ORDINALITY k(nr, at)\n          \
                        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.nr ORDER BY k.at)::text) = {}\n   \
                    LIMIT 1;\n  \
                   EXECUTE format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {}::regclass, v_index);\n\
                 END",
                &[&Regclass(new), &Literal(index), &Regclass(new)],
            )));
        }
        for p in self.of(model, "index") {
            let (Some(space), Some(columns)) = (&p.def, &p.extra) else { continue };
            out.push(block(Sql::new(
                "DECLARE\n  v_index oid;\n\
                 BEGIN\n  \
                   FOR v_index IN SELECT x.indexrelid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid\n   \
                    WHERE x.indrelid = {}::regclass AND c.relkind = 'i' AND c.reltablespace = 0\n     \
                      AND ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = x.indexrelid ORDER BY a.attnum)::text = {} LOOP\n    \
                     EXECUTE format('ALTER INDEX %s SET TABLESPACE %s', v_index::regclass, {});\n  \
                   END LOOP;\n\
                 END",
                &[&Regclass(new), &Literal(columns), &Literal(space)],
            )));
        }
        for p in self.of(model, "publication") {
            let Some(name) = &p.name else { continue };
            let mut what = Sql::new("{}", &[new]);
            if let Some(columns) = &p.extra {
                what = Sql::new("{} ({})", &[&what, &Deparsed(columns)]);
            }
            if let Some(filter) = &p.def {
                what = Sql::new("{} WHERE ({})", &[&what, &Deparsed(filter)]);
            }
            out.push(Step::Sql(Sql::new(
                "ALTER PUBLICATION {} ADD TABLE ONLY {}",
                &[&Ident(name), &what],
            )));
        }
        for p in self.of(model, "label") {
            if let (Some(provider), Some(label)) = (&p.name, &p.def) {
                out.push(Step::Sql(Sql::new(
                    "SECURITY LABEL FOR {} ON TABLE {} IS {}",
                    &[&Ident(provider), new, &Literal(label)],
                )));
            }
        }
    }
}

fn create_table(new: &Table, model: &TreeTable) -> Sql {
    let leaf = model.key.is_none();
    let unlogged = if leaf && model.unlogged { "UNLOGGED " } else { "" };
    let mut sql = Sql::new(
        "CREATE {}TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING CONSTRAINTS)",
        &[&Deparsed(unlogged), new, &model.table()],
    );
    let mut add = |template: &'static str, part: &dyn SqlPart| {
        sql = Sql::new("{}{}", &[&sql, &Sql::new(template, &[part])]);
    };
    if let Some(key) = &model.key {
        add("\n  PARTITION BY {}", &Deparsed(key));
    }
    if let Some(method) = &model.method {
        add("\n  USING {}", &Deparsed(method));
    }
    if !model.options.is_empty() {
        let option = |text: &String| match text.split_once('=') {
            Some((name, value)) => Sql::new("{} = {}", &[&Deparsed(name), &Literal(value)]),
            None => Sql::new("{}", &[&Deparsed(text)]),
        };
        let options: Vec<Sql> = model.options.iter().map(option).collect();
        add("\n  WITH ({})", &Sql::join(&options, ", "));
    }
    if let Some(tablespace) = &model.tablespace {
        add("\n  TABLESPACE {}", &Deparsed(tablespace));
    }
    sql
}
