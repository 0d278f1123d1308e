//! CREATE INDEX as text: taken apart and put together.
//!
//! Must not: ask a server, or change what comes after the table's name.

use crate::remedy::Relation;
use crate::remedy::index::Wanted;
use crate::remedy::quote::ident;

/// `NAMEDATALEN` less its NUL.
pub(super) const NAME_MAX: usize = 63;

/// A CREATE INDEX taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Create {
    pub(super) unique: bool,
    /// As it is in the catalog, without a schema.
    pub(super) name: String,
    /// `USING btree (a) WHERE b`.
    pub(super) rest: String,
    /// Whether the server would write `rest` so.
    pub(super) exact: bool,
}

impl Create {
    /// A B-tree on columns.
    pub(super) fn on_columns(name: &str, columns: &[&str]) -> Self {
        let columns: Vec<String> = columns.iter().map(|column| ident(column)).collect();
        let exact = !columns.iter().any(|column| column.starts_with("U&"));
        Self { exact, ..Self::on_keys(name, false, &columns) }
    }

    /// A B-tree on keys such as `a DESC`, quoted where need be.
    pub(super) fn on_keys(name: &str, unique: bool, keys: &[String]) -> Self {
        let rest = format!("USING btree ({})", keys.join(", "));
        Self { unique, name: shortened(name), rest, exact: false }
    }

    /// From a statement such as `pg_get_indexdef` prints.
    pub(super) fn parse(sql: &str) -> Option<Self> {
        let mut rest = sql.trim().trim_end_matches(';').trim_end();
        let unique = {
            rest = word(rest, "CREATE")?;
            match word(rest, "UNIQUE") {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            }
        };
        rest = word(rest, "INDEX")?;
        rest = word(rest, "CONCURRENTLY").unwrap_or(rest);
        if let Some(after) = word(rest, "IF") {
            rest = word(word(after, "NOT")?, "EXISTS")?;
        }
        let (name, after) = name(rest)?;
        rest = word(after, "ON")?;
        rest = word(rest, "ONLY").unwrap_or(rest);
        let (_, mut after) = self::name(rest)?;
        while let Some(more) = after.trim_start().strip_prefix('.') {
            after = self::name(more)?.1;
        }
        let rest = after.trim_start();
        (rest.starts_with('(') || word(rest, "USING").is_some()).then(|| Self {
            unique,
            name: bare(name),
            rest: rest.to_owned(),
            exact: false,
        })
    }

    /// The same on a table, under a name.
    pub(super) fn wanted<'a>(&'a self, table: &'a Relation, index: &'a Relation) -> Wanted<'a> {
        Wanted { table, index, unique: self.unique, rest: &self.rest, exact: self.exact }
    }
}

/// A name as it is in the catalog.
fn bare(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

/// What follows a key word.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let (head, rest) = text.split_at_checked(key.len())?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (head.eq_ignore_ascii_case(key) && ends).then_some(rest)
}

/// An identifier, with its quotes, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = match text.strip_prefix('"') {
        Some(inside) => {
            let mut end = 0;
            loop {
                end += inside.get(end..)?.find('"')?;
                if !inside.get(end + 1..)?.starts_with('"') {
                    break end + 2;
                }
                end += 2;
            }
        }
        None => {
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            text.find(|c: char| !plain(c)).unwrap_or(text.len())
        }
    };
    (end > 0).then(|| text.split_at(end))
}

/// A name that fits; one that is too long ends in a hash of the whole.
pub(super) fn shortened(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    // FNV-1a: the same in every run.
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let mut end = NAME_MAX - 9;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{hash:08x}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn create_index_is_taken_apart() {
        let parse = |sql: &str| Create::parse(sql).map(|c| (c.unique, c.name, c.rest));
        for (sql, unique, name, rest) in [
            (
                "CREATE INDEX i ON ONLY public.t USING btree (a, b DESC) WHERE (a IS NOT NULL)",
                false,
                "i",
                "USING btree (a, b DESC) WHERE (a IS NOT NULL)",
            ),
            (
                "create unique index concurrently if not exists \"on \"\"x\" on \"S.\".\"ONLY\"(a);",
                true,
                "on \"x",
                "(a)",
            ),
            ("CREATE INDEX on_it ON only_t USING hash (a)", false, "on_it", "USING hash (a)"),
        ] {
            let want = (unique, name.to_owned(), rest.to_owned());
            assert_eq!(parse(sql), Some(want), "{sql}");
        }
        for sql in [
            "",
            "ALTER TABLE t ADD PRIMARY KEY (a)",
            "CREATE INDEX ON t (a)",
            "CREATE INDEX i ON t",
            "CREATE INDEX \"i ON t (a)",
            "CREATE INDEX i ON t.",
        ] {
            assert_eq!(parse(sql), None, "{sql}");
        }
        assert_eq!(Create::parse("CREATE INDEX \"a\"\"b\" ON t (a)").unwrap().name, "a\"b");
    }

    #[test]
    fn names_fit() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(40);
        let cut = shortened(&long);
        assert!(cut.len() <= NAME_MAX && cut.starts_with("üü"), "{cut}");
        assert_ne!(cut, shortened(&format!("{long}x")));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), tail in "[ -~]{0,20}") {
            let _ = Create::parse(&text);
            let _ = Create::parse(&format!("CREATE INDEX {text} ON {tail} (a)"));
            prop_assert!(shortened(&text).len() <= NAME_MAX.max(text.len().min(NAME_MAX)));
        }
    }
}
