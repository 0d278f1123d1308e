//! SQL that is put together from templates in the source and typed parts.
//!
//! Must not: take a part whose type does not say how it is quoted.

use std::fmt;

use serde::{Serialize, Serializer};

use super::quote;
use super::text::tame;

/// A statement, or a piece of one, without its semicolon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sql(String);

/// What may stand in a statement.
pub trait SqlPart {
    /// Appends it, quoted.
    fn put(&self, out: &mut String);
}

/// A name: of a column, role, constraint, trigger…
#[derive(Debug, Clone, Copy)]
pub struct Ident<'a>(pub &'a str);

/// A relation, type or function by schema and name, unquoted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// `pg_class.relname`, unquoted.
    pub name: String,
}

/// A string.
#[derive(Debug, Clone, Copy)]
pub struct Literal<'a>(pub &'a str);

/// A relation as a string for `to_regclass()`, which knows no `U&"..."`.
#[derive(Debug, Clone, Copy)]
pub struct Regclass<'a>(pub &'a Relation);

/// What the server itself wrote as SQL: `pg_get_expr()`, `pg_get_indexdef()`, `format_type()`…
#[derive(Debug, Clone, Copy)]
pub struct Deparsed<'a>(pub &'a str);

/// Parts with commas between them.
pub struct List<'a, P>(pub &'a [P]);

impl Relation {
    /// Of unquoted parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// For people: `schema.name` without quotes, in one line.
    pub fn display(&self) -> String {
        super::text::one_line(&format!("{}.{}", self.schema, self.name))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote::relation(&self.schema, &self.name))
    }
}

impl SqlPart for Ident<'_> {
    fn put(&self, out: &mut String) {
        out.push_str(&quote::ident(self.0));
    }
}

impl SqlPart for Relation {
    fn put(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl SqlPart for Literal<'_> {
    fn put(&self, out: &mut String) {
        let literal = quote::literal(self.0);
        // The space before an E is for what ends in a letter.
        let bare = out.ends_with(|c: char| !c.is_alphanumeric() && c != '_');
        out.push_str(if bare { literal.trim_start_matches(' ') } else { &literal });
    }
}

impl SqlPart for Regclass<'_> {
    fn put(&self, out: &mut String) {
        let literal = quote::regclass(&self.0.schema, &self.0.name);
        out.push_str(literal.trim_start_matches(' '));
    }
}

impl SqlPart for Deparsed<'_> {
    fn put(&self, out: &mut String) {
        out.push_str(&tame(self.0));
    }
}

impl SqlPart for Sql {
    fn put(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl<P: SqlPart> SqlPart for List<'_, P> {
    fn put(&self, out: &mut String) {
        for (n, part) in self.0.iter().enumerate() {
            if n > 0 {
                out.push_str(", ");
            }
            part.put(out);
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl SqlPart for $number {
            fn put(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
        })*
    };
}
numbers!(i32, i64, u32, u64, usize, bool);

impl Sql {
    /// A template from the source with a part for each `{}`; `{{` and `}}` are braces. What there is too
    /// much or too little of is a defect that the tests of each template find: it becomes SQL that no server
    /// takes.
    pub fn new(template: &'static str, parts: &[&dyn SqlPart]) -> Self {
        let mut out = String::with_capacity(template.len() + 32 * parts.len());
        let mut parts = parts.iter();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let (two, one) = (rest.get(at..at + 2), &rest[at..at + 1]);
            match two {
                Some("{}") => match parts.next() {
                    Some(part) => part.put(&mut out),
                    None => out.push_str("{a part is missing}"),
                },
                Some("{{") => out.push('{'),
                Some("}}") => out.push('}'),
                _ => out.push_str(one),
            }
            let taken = if matches!(two, Some("{}" | "{{" | "}}")) { 2 } else { 1 };
            rest = &rest[at + taken..];
        }
        out.push_str(rest);
        if parts.next().is_some() {
            out.push_str("{a part is left over}");
        }
        Self(out)
    }

    /// Several pieces with a template's text between them.
    pub fn join(pieces: &[Self], between: &'static str) -> Self {
        let texts: Vec<&str> = pieces.iter().map(|p| p.0.as_str()).collect();
        Self(texts.join(between))
    }

    /// The text, as a server takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Sql {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remedy::text::hazardous;
    use proptest::prelude::*;

    #[test]
    fn parts_are_quoted_by_their_type() {
        let table = Relation::new("public", "Or\u{1b}der");
        let columns = [Ident("a"), Ident("B")];
        let sql = Sql::new(
            "SELECT {} FROM {} WHERE x = {} AND y > {} AND '{{}}' = {}",
            &[&List(&columns), &table, &Literal("it's\\"), &3_i64, &Regclass(&table)],
        );
        assert_eq!(
            sql.as_str(),
            "SELECT a, \"B\" FROM public.U&\"Or\\001Bder\" WHERE x = E'it''s\\\\' AND y > 3 \
             AND '{}' = E'public.\"Or\\u001Bder\"'"
        );
        assert!(Sql::new("{} {}", &[&1_i64]).as_str().contains("missing"));
        assert!(Sql::new("{}", &[&1_i64, &2_i64]).as_str().contains("left over"));
        assert_eq!(serde_json::to_string(&Sql::new("x", &[])).unwrap(), "\"x\"");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_comes_through(text in any::<String>()) {
            let table = Relation::new(text.as_str(), text.as_str());
            let sql = Sql::new("{} {} {}", &[&table, &Literal(&text), &Regclass(&table)]);
            prop_assert!(!sql.as_str().chars().any(hazardous));
        }
    }
}
