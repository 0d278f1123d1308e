//! Key columns of an index, as `CREATE INDEX` takes them and as a user writes them in `pgrunway.yml`.
//!
//! Must not: look into a database.

use std::fmt;

use super::Fault;

/// One key column of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexColumn {
    /// The column, as it is in the catalog.
    pub name: String,
    /// DESC.
    pub descending: bool,
    /// Whether nulls come first; `None`: as the direction has it.
    pub nulls_first: Option<bool>,
}

impl fmt::Display for IndexColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.descending { " DESC" } else { "" };
        let nulls = match self.nulls_first {
            Some(first) if first != self.descending => {
                if first {
                    " NULLS FIRST"
                } else {
                    " NULLS LAST"
                }
            }
            _ => "",
        };
        write!(f, "{}{direction}{nulls}", self.name)
    }
}

/// Reads key columns as `CREATE INDEX` takes them: `a, "B c" DESC NULLS LAST`. Names are taken as they
/// stand, quotes only shield commas and spaces.
pub(super) fn parse(text: &str) -> Result<Vec<IndexColumn>, Fault> {
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
        let columns = parse(text).map_err(|fault| fault.problem)?;
        Ok(columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn columns_as_create_index_takes_them() {
        for (text, expected) in [
            ("a", "a"),
            ("symbol, executed_at desc", "symbol, executed_at DESC"),
            ("a asc nulls last,b DESC NULLS FIRST", "a, b DESC"),
            ("a NULLS FIRST, b DESC NULLS LAST", "a NULLS FIRST, b DESC NULLS LAST"),
            ("\"x, y\" DESC", "x, y DESC"),
            ("Größe", "Größe"),
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

    proptest! {
        #[test]
        fn what_is_described_is_read_again(text in "[a-z]{1,3}( DESC| ASC)?( NULLS (FIRST|LAST))?") {
            let said = described(&text).unwrap();
            prop_assert_eq!(described(&said), Ok(said));
        }
    }
}
