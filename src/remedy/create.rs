//! CREATE INDEX as text: taken apart and put together.
//!
//! Must not: ask a server, or change what comes after the table's name.

use super::Relation;
use super::index::Wanted;
use super::quote::ident;

/// `NAMEDATALEN` less its NUL.
pub const NAME_MAX: usize = 63;

/// A CREATE INDEX taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Whether it is UNIQUE.
    pub unique: bool,
    /// As it is in the catalog, without a schema.
    pub name: String,
    /// `USING btree (a) WHERE b`.
    pub rest: String,
    /// Whether the server would write `rest` so.
    pub exact: bool,
}

impl Create {
    /// A B-tree on columns.
    pub fn on_columns(name: &str, columns: &[&str]) -> Self {
        let columns: Vec<String> = columns.iter().map(|column| ident(column)).collect();
        let exact = !columns.iter().any(|column| column.starts_with("U&"));
        Self { exact, ..Self::on_keys(name, false, &columns) }
    }

    /// A B-tree on keys such as `a DESC`, quoted where need be.
    pub fn on_keys(name: &str, unique: bool, keys: &[String]) -> Self {
        let rest = format!("USING btree ({})", keys.join(", "));
        Self { unique, name: shortened(name), rest, exact: false }
    }

    /// From a statement such as `pg_get_indexdef` prints.
    pub fn parse(sql: &str) -> Option<Self> {
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
    pub fn wanted<'a>(&'a self, table: &'a Relation, index: &'a Relation) -> Wanted<'a> {
        Wanted { table, index, unique: self.unique, rest: &self.rest, exact: self.exact }
    }
}

/// How an index that is expected can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Make {
    /// By a CREATE INDEX that is understood.
    Create(Create),
    /// By a statement of the file, as it stands there.
    Verbatim(String),
    /// The file says nothing but its name.
    Unknown,
}

/// A key of a B-tree: column, whether it descends, and whether NULLs come first, where that is said.
pub type KeyColumn<'a> = (&'a str, bool, Option<bool>);

impl Make {
    /// From what the file says: `create`, or the keys.
    pub fn new(
        create: Option<&str>,
        table: &str,
        name: Option<&str>,
        unique: bool,
        keys: &[KeyColumn<'_>],
    ) -> Self {
        if let Some(sql) = create {
            return match Create::parse(sql) {
                Some(create) => Self::Create(create),
                None => Self::Verbatim(sql.trim_end().trim_end_matches(';').to_owned()),
            };
        }
        if keys.is_empty() {
            return Self::Unknown;
        }
        let key = |(column, descending, nulls): &KeyColumn<'_>| {
            let direction = if *descending { " DESC" } else { "" };
            let nulls = match nulls {
                Some(true) => " NULLS FIRST",
                Some(false) => " NULLS LAST",
                None => "",
            };
            format!("{}{direction}{nulls}", ident(column))
        };
        let columns: Vec<&str> = keys.iter().map(|(column, ..)| *column).collect();
        let named =
            name.map_or_else(|| format!("{table}_{}_idx", columns.join("_")), str::to_owned);
        let keys: Vec<String> = keys.iter().map(key).collect();
        Self::Create(Create::on_keys(&named, unique, &keys))
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
pub fn shortened(name: &str) -> String {
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
