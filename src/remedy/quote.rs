//! Names and texts as SQL takes them, where no server is asked to quote them.
//!
//! Must not: leave a name bare that any supported version would read as a key word, or a control character
//! where a terminal would obey it.

use super::text::{escape, hazardous};

/// Key words that quote_ident() puts in quotes: those of `pg_get_keywords()` of PostgreSQL 18 that are not
/// "unreserved", among them all of earlier versions. Sorted.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// A string literal, in one line.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if !text.contains(|c: char| c == '\\' || hazardous(c)) {
        return format!("'{quoted}'");
    }
    // Backslashes mean themselves whatever standard_conforming_strings says.
    let mut out = " E'".to_owned();
    for c in quoted.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if hazardous(c) => escape(&mut out, c),
            c => out.push(c),
        }
    }
    out + "'"
}

fn plain(name: &str) -> bool {
    let start = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    start && name.bytes().all(rest) && KEYWORDS.binary_search(&name).is_err()
}

/// An identifier, in quotes where it needs them: `U&"..."` where it holds control characters, which is not
/// what `to_regclass()` reads; [`regclass`] is.
pub fn ident(name: &str) -> String {
    if plain(name) {
        return name.to_owned();
    }
    if !name.contains(hazardous) {
        return double(name);
    }
    let mut out = "U&\"".to_owned();
    for c in name.replace('"', "\"\"").chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if hazardous(c) => out.push_str(&format!("\\{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

fn double(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As the server's `quote_ident()` writes a name, control characters and all: for its own texts.
pub fn server_ident(name: &str) -> String {
    if plain(name) { name.to_owned() } else { double(name) }
}

/// What `to_regclass()` takes for this relation, and the server writes for it.
pub fn spelled(schema: &str, name: &str) -> String {
    format!("{}.{}", server_ident(schema), server_ident(name))
}

/// The same as a literal.
pub fn regclass(schema: &str, name: &str) -> String {
    literal(&spelled(schema, name))
}

/// `schema.relation`, each in quotes where it needs them.
pub fn relation(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), " E'a\\\\b'");
        assert_eq!(literal("a\n\u{1b}"), " E'a\\u000A\\u001B'");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(ident("a\\\u{1b}\"b"), "U&\"a\\\\\\001B\"\"b\"");
        assert_eq!(regclass("public", "a\"\u{1b}"), " E'public.\"a\"\"\\u001B\"'");
        for (name, want) in [
            ("user", "\"user\""),
            ("order", "\"order\""),
            ("orders", "orders"),
            ("t_1", "t_1"),
            ("1t", "\"1t\""),
            ("T1", "\"T1\""),
            ("current_user", "\"current_user\""),
            ("", "\"\""),
        ] {
            assert_eq!(ident(name), want);
        }
        assert_eq!(relation("public", "Order \"1\""), "public.\"Order \"\"1\"\"\"");
        assert!(KEYWORDS.is_sorted(), "they are searched by halves");
    }
}
