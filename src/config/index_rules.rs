//! Indexes that must be there, chosen by table pattern: the list `indexes` of `pgrunway.yml`.
//!
//! Must not: look into a database; whether an index is there is the collector's to find out.

use super::Fault;
use super::rules::{is_wild, matches};

/// One key of an expected index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexColumn {
    /// The column, as it is in the catalog.
    pub name: String,
    /// DESC.
    pub descending: bool,
    /// Whether nulls come first; `None`: as the direction has it.
    pub nulls_first: Option<bool>,
}

/// One rule: an index that every table of a pattern must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexRule {
    /// Pattern of `schema.table`, as in the labels, without quotes.
    pub table: String,
    /// Pattern of the database; `None`: any.
    pub database: Option<String>,
    /// The index by its name.
    pub name: Option<String>,
    /// The index by its key columns, in their order.
    pub columns: Vec<IndexColumn>,
    /// Whether it must be unique.
    pub unique: bool,
    /// The statement that creates it, for who prints how to mend.
    pub create: Option<String>,
}

/// Settings of the index collectors.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSettings {
    /// Rows below which a table is exempt from the index scan ratio's objective.
    pub minimum_rows: usize,
    /// Seconds of statistics before an index without scans is called unused.
    pub unused_after: f64,
    /// Bytes above which sequential scans of a table are judged.
    pub seq_scan_bytes: usize,
    /// The largest B-trees, whose bloat is estimated.
    pub bloat_largest: usize,
    /// Partitions' indexes with series of their own, of each index.
    pub per_partition: usize,
    /// In the order of the file.
    pub expected: Vec<IndexRule>,
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self {
            minimum_rows: 10_000,
            unused_after: 7.0 * 86_400.0,
            seq_scan_bytes: 100_000_000,
            bloat_largest: 500,
            per_partition: 0,
            expected: Vec::new(),
        }
    }
}

impl IndexRule {
    fn is_for(&self, datname: &str) -> bool {
        self.database.as_ref().is_none_or(|pattern| matches(pattern, datname))
    }

    /// What is expected, in words: the name, or the columns in parentheses.
    pub fn describe(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let direction = if column.descending { " DESC" } else { "" };
                let nulls = match column.nulls_first {
                    Some(first) if first != column.descending => {
                        if first {
                            " NULLS FIRST"
                        } else {
                            " NULLS LAST"
                        }
                    }
                    _ => "",
                };
                format!("{}{direction}{nulls}", column.name)
            })
            .collect();
        format!("({})", columns.join(", "))
    }
}

impl IndexSettings {
    /// The rules for a table; all that match count.
    pub fn expected(
        &self,
        datname: &str,
        schema: &str,
        table: &str,
    ) -> impl Iterator<Item = &IndexRule> {
        let name = format!("{schema}.{table}");
        self.expected.iter().filter(move |rule| rule.is_for(datname) && matches(&rule.table, &name))
    }

    /// The rules for one table of one database, whose table must be there too, with its schema and name.
    pub fn exact(&self, datname: &str) -> impl Iterator<Item = (&str, &str, &IndexRule)> {
        self.expected.iter().filter_map(move |rule| {
            let here = rule.database.as_deref() == Some(datname);
            let (schema, table) = rule.table.split_once('.')?;
            (here && !is_wild(&rule.table)).then_some((schema, table, rule))
        })
    }
}

/// Reads key columns as `CREATE INDEX` takes them: `a, "B c" DESC NULLS LAST`. Names are taken as they
/// stand, quotes only shield commas and spaces.
pub(super) fn parse_columns(text: &str) -> Result<Vec<IndexColumn>, Fault> {
    parts(text)?.into_iter().map(|words| column(&words)).collect()
}

/// The words of each column; what was in quotes is one word.
fn parts(text: &str) -> Result<Vec<Vec<String>>, Fault> {
    let (mut columns, mut word, mut quoted) = (vec![Vec::new()], None::<String>, false);
    let end = |columns: &mut Vec<Vec<String>>, word: &mut Option<String>| {
        if let (Some(words), Some(word)) = (columns.last_mut(), word.take()) {
            words.push(word);
        }
    };
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if quoted => word.get_or_insert_default().push(c),
            '(' | ')' => {
                return Err(Fault::new(
                    "holds an expression",
                    "expect an index on an expression by its `name`",
                ));
            }
            ',' => {
                end(&mut columns, &mut word);
                columns.push(Vec::new());
            }
            c if c.is_whitespace() => end(&mut columns, &mut word),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err(Fault::new("has an unclosed quote", "close it"));
    }
    end(&mut columns, &mut word);
    Ok(columns)
}

fn column(words: &[String]) -> Result<IndexColumn, Fault> {
    let upper: Vec<String> = words.iter().skip(1).map(|w| w.to_ascii_uppercase()).collect();
    let mut rest: Vec<&str> = upper.iter().map(String::as_str).collect();
    let descending = rest.first() == Some(&"DESC");
    if matches!(rest.first(), Some(&"ASC" | &"DESC")) {
        rest.remove(0);
    }
    let nulls_first = match rest.as_slice() {
        [] => None,
        ["NULLS", "FIRST"] => Some(true),
        ["NULLS", "LAST"] => Some(false),
        _ => {
            return Err(Fault::new(
                "is not a list of columns",
                "write `a, b DESC NULLS LAST`, in quotes what holds a space",
            ));
        }
    };
    let name = words
        .first()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Fault::new("names no column between two commas", "write `a, b DESC`"))?;
    Ok(IndexColumn { name: name.clone(), descending, nulls_first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn described(text: &str) -> Result<String, String> {
        let columns = parse_columns(text).map_err(|fault| fault.problem)?;
        Ok(IndexRule { columns, ..IndexRule::default() }.describe())
    }

    #[test]
    fn columns_as_create_index_takes_them() {
        for (text, expected) in [
            ("a", "(a)"),
            ("symbol, executed_at desc", "(symbol, executed_at DESC)"),
            ("a asc nulls last,b DESC NULLS FIRST", "(a, b DESC)"),
            ("a NULLS FIRST, b DESC NULLS LAST", "(a NULLS FIRST, b DESC NULLS LAST)"),
            ("\"x, y\" DESC", "(x, y DESC)"),
            ("Größe", "(Größe)"),
        ] {
            assert_eq!(described(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, problem) in [
            ("", "names no column"),
            ("a,,b", "names no column"),
            ("a b", "not a list of columns"),
            ("a DESC LAST", "not a list of columns"),
            ("lower(a)", "holds an expression"),
            ("\"a", "unclosed quote"),
        ] {
            let fault = described(text).unwrap_err();
            assert!(fault.contains(problem), "{text}: {fault}");
        }
    }

    #[test]
    fn rules_meet_tables_and_only_exact_ones_demand_the_table() {
        let rule = |table: &str, database: Option<&str>| IndexRule {
            table: table.to_owned(),
            database: database.map(str::to_owned),
            name: Some("i".to_owned()),
            ..IndexRule::default()
        };
        let expected = vec![
            rule("public.trades", Some("shop")),
            rule("public.*", None),
            rule("public.orders", None),
            rule("public.t*", Some("shop")),
            rule("public.x", Some("s*")),
        ];
        let settings = IndexSettings { expected, ..IndexSettings::default() };
        assert_eq!(settings.expected("shop", "public", "trades").count(), 3);
        assert_eq!(settings.expected("other", "public", "trades").count(), 1);
        let exact = |d| settings.exact(d).map(|(s, t, _)| format!("{s}.{t}")).collect::<Vec<_>>();
        assert_eq!(exact("shop"), ["public.trades"]);
        assert_eq!(exact("other"), [""; 0]);
    }

    proptest! {
        #[test]
        fn what_is_described_is_read_again(text in "[a-z]{1,3}( DESC| ASC)?( NULLS (FIRST|LAST))?") {
            let said = described(&text).unwrap();
            prop_assert_eq!(described(said.trim_matches(['(', ')'])), Ok(said));
        }
    }
}
