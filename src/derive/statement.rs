//! What of a statement's text may be shown.
//!
//! `pg_stat_statements` replaces constants where it can, which is not everywhere: not in utility
//! statements, not in the part of `SELECT ... INTO` that is one, not in a statement whose entry was evicted
//! while it ran. So we replace them ourselves, in what is normalised and in what is not.
//!
//! Must not: let a constant or a comment through, whatever the text is and wherever it was cut off.

/// Statements whose shape is worth showing, by their first words: nothing in them but a constant can be secret. Of the
/// others only the first word is: of those that hold passwords, settings, programs and bodies of functions.
const SHOWN: [&str; 49] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "WITH",
    "VALUES",
    "TABLE",
    // Transactions and maintenance.
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "CHECKPOINT",
    "LOCK",
    "ANALYZE",
    "VACUUM",
    "CLUSTER",
    "REINDEX",
    "REFRESH",
    "TRUNCATE",
    // Relations.
    "ALTER EXTENSION",
    "ALTER INDEX",
    "ALTER MATERIALIZED",
    "ALTER SCHEMA",
    "ALTER SEQUENCE",
    "ALTER TABLE",
    "ALTER VIEW",
    "CREATE DATABASE",
    "CREATE EXTENSION",
    "CREATE INDEX",
    "CREATE MATERIALIZED",
    "CREATE SCHEMA",
    "CREATE SEQUENCE",
    "CREATE TABLE",
    "CREATE TEMP",
    "CREATE TEMPORARY",
    "CREATE UNIQUE",
    "CREATE UNLOGGED",
    "CREATE VIEW",
    "DROP DATABASE",
    "DROP EXTENSION",
    "DROP INDEX",
    "DROP MATERIALIZED",
    "DROP SCHEMA",
    "DROP SEQUENCE",
    "DROP TABLE",
    "DROP VIEW",
];

/// What of a text may be published: without constants and comments, and of a statement that is not of `SHOWN` its
/// first word only.
pub fn published(text: &str) -> String {
    let text = without_constants(text);
    let statement = text.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    let (first, rest) = word_of(statement);
    let (second, _) = word_of(rest.trim_start());
    let shown = SHOWN.contains(&first.as_str()) || SHOWN.contains(&&*format!("{first} {second}"));
    if shown { text.trim_start().to_owned() } else { format!("{first} ...") }
}

/// The letters that a text begins with, in capitals, and what follows.
fn word_of(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].to_ascii_uppercase(), &text[end..])
}

/// The text with `?` in the place of each constant and a space in that of each comment.
///
/// A backslash in a plain string means itself or takes the next character along, depending on
/// `standard_conforming_strings` of the session that ran it: where the string ends cannot be told, and
/// nothing after it is shown.
pub fn without_constants(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let step = match c {
            '-' if rest.starts_with("--") => (" ", line_comment(rest)),
            '/' if rest.starts_with("/*") => (" ", comment(rest)),
            '\'' => ("?", string(rest, 0, Escapes::Unknown)),
            '"' => {
                let end = quoted(rest, 0);
                (&rest[..end], Some(end))
            }
            '$' => dollar(rest),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => ("?", Some(number(rest))),
            c if c.is_ascii_digit() => ("?", Some(number(rest))),
            c if begins_name(c) => word(rest),
            c => (&rest[..c.len_utf8()], Some(c.len_utf8())),
        };
        out.push_str(step.0);
        let Some(end) = step.1 else {
            out.push_str(" ...");
            return out;
        };
        rest = &rest[end..];
    }
    out
}

/// How a string takes backslashes.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    Yes,
    No,
    Unknown,
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn continues_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit() || c == '$'
}

/// Where a comment to the end of the line ends.
fn line_comment(text: &str) -> Option<usize> {
    // Both end it in PostgreSQL's lexer.
    Some(text.find(['\n', '\r']).unwrap_or(text.len()))
}

/// Where a comment ends that the text begins with; they nest.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while let Some(two) = text.as_bytes().get(at..at + 2) {
        match two {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(text.len())
}

/// Where the string ends whose opening quote is at `open`; `None` where that cannot be told.
fn string(text: &str, open: usize, escapes: Escapes) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = open + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if escapes == Escapes::Unknown => return None,
            b'\\' if escapes == Escapes::Yes => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(text.len())
}

/// Where the quoted name ends whose opening quote is at `open`.
fn quoted(text: &str, open: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = open + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' if bytes.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// A parameter, which stays, or a string between `$tag$`.
fn dollar(text: &str) -> (&str, Option<usize>) {
    let after = &text[1..];
    let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 {
        return (&text[..=digits], Some(digits + 1));
    }
    let name = after.find(|c: char| !continues_name(c) || c == '$').unwrap_or(after.len());
    match after[name..].chars().next() {
        Some('$') => {
            let tag = &text[..name + 2];
            let body = &text[tag.len()..];
            let end = body.find(tag).map_or(text.len(), |at| at + 2 * tag.len());
            ("?", Some(end))
        }
        Some(_) => (&text[..1], Some(1)),
        // Cut off, perhaps in the tag.
        None => ("?", Some(text.len())),
    }
}

/// Where a number ends, of any form, with whatever letters stick to it.
fn number(text: &str) -> usize {
    let mut last = '.';
    for (at, c) in text.char_indices() {
        let exponent = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        if !(continues_name(c) || c == '.' || exponent) {
            return at;
        }
        last = c;
    }
    text.len()
}

/// A name or keyword, or a string or quoted name that a letter introduces.
fn word(text: &str) -> (&str, Option<usize>) {
    let end = text.find(|c: char| !continues_name(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let constant = |open, escapes| ("?", string(text, open, escapes));
    match (name, after.as_bytes()) {
        ("e" | "E", [b'\'', ..]) => constant(1, Escapes::Yes),
        ("b" | "B" | "x" | "X", [b'\'', ..]) => constant(1, Escapes::No),
        ("n" | "N", [b'\'', ..]) => constant(1, Escapes::Unknown),
        ("u" | "U", [b'&', b'\'', ..]) => constant(2, Escapes::No),
        ("u" | "U", [b'&', b'"', ..]) => {
            let end = quoted(text, 2);
            (&text[..end], Some(end))
        }
        _ => (name, Some(end)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{published, without_constants};

    #[test]
    fn no_constant_of_any_form_is_left() {
        for (text, want) in [
            ("SELECT $1, a$1 FROM \"T 1\" t2", "SELECT $1, a$1 FROM \"T 1\" t2"),
            ("SELECT 'it''s', n'x', E'a\\'b', b'01', X'ff'", "SELECT ?, ?, ?, ?, ?"),
            ("SELECT U&'d\\0061' UESCAPE '!', U&\"d\\0061\"", "SELECT ? UESCAPE ?, U&\"d\\0061\""),
            ("SELECT $$a$$, $q$ $$ 'b' $q$, $1", "SELECT ?, ?, $1"),
            ("SELECT 1, 1.5e-3, .5, 0x1F, 1_000, 12abc", "SELECT ?, ?, ?, ?, ?, ?"),
            ("SELECT date'2020-01-01' - 7", "SELECT date? - ?"),
            ("SELECT a -- 'x'\n, b /* 'y /* z */ */, c", "SELECT a  \n, b  , c"),
            // Where it ends depends on a setting of whoever ran it.
            ("SELECT 'a\\', b, ' c", "SELECT ? ..."),
            ("SELECT 'a' 'b\\' c", "SELECT ? ? ..."),
            // Cut off.
            ("SELECT 'hun", "SELECT ?"),
            ("SELECT $ta", "SELECT ?"),
            ("SELECT $tag$hun", "SELECT ?"),
            ("SELECT E'hun\\", "SELECT ?"),
            ("SELECT /* hun", "SELECT  "),
            ("SELECT \"hun", "SELECT \"hun"),
            ("é'x' \u{fffd}'y'", "é? \u{fffd}?"),
        ] {
            assert_eq!(without_constants(text), want, "{text}");
        }
    }

    #[test]
    fn utility_statements_that_can_hold_more_than_names_are_their_first_word() {
        for (text, shown) in [
            ("/* app=shop */ INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES ($1)"),
            ("-- a comment\n(SELECT 1)", "(SELECT ?)"),
            ("SELECT 'hunter2' AS p INTO t", "SELECT ? AS p INTO t"),
            ("  with x as (select $1) select * from x", "with x as (select $1) select * from x"),
            ("ALTER ROLE mon PASSWORD 'hunter2'", "ALTER ..."),
            ("CREATE TABLE t AS SELECT 'hunter2'", "CREATE TABLE t AS SELECT ?"),
            ("create\nunique index i ON t (a)", "create\nunique index i ON t (a)"),
            ("VACUUM (ANALYZE) t", "VACUUM (ANALYZE) t"),
            ("CREATE ROLE r PASSWORD 'hunter2'", "CREATE ..."),
            ("CREATE USER MAPPING FOR r SERVER s OPTIONS (password 'hunter2')", "CREATE ..."),
            ("CREATE/**/TABLE t (a text DEFAULT 'hunter2')", "CREATE TABLE t (a text DEFAULT ?)"),
            ("ALTER DATABASE d SET my.token TO hunter2", "ALTER ..."),
            ("SET my.token TO hunter2", "SET ..."),
            ("DECLARE c CURSOR FOR SELECT 'hunter2'", "DECLARE ..."),
            ("EXPLAIN SELECT 'hunter2'", "EXPLAIN ..."),
            ("/* SELECT 1 */ SET x = 'hunter2'", "SET ..."),
            ("/* cut off SELECT hunter2", " ..."),
            ("DO $$ hunter2 $$", "DO ..."),
            ("'hunter2'", " ..."),
            ("", " ..."),
        ] {
            assert_eq!(published(text), shown, "{text}");
        }
    }

    /// A constant or comment around a secret that no name has.
    fn hidden() -> impl Strategy<Value = String> {
        let body = "[a-z ()/*\"$\\-]{0,6}Zq7[a-z ;,]{0,6}";
        (0..9usize, body).prop_map(|(form, body)| {
            let plain = body.replace('$', "");
            match form {
                0 => format!("'{}'", body.replace('\'', "''")),
                1 => format!("E'\\'{body}\\\\'"),
                2 => format!("$${plain}$$"),
                3 => format!("$t1${plain}$t1$"),
                4 => format!("U&'{body}'"),
                5 => format!("/* {} */", plain.replace(['*', '/'], "")),
                6 => format!("--{body}\n"),
                7 => format!("'\\'{body}'"),
                _ => format!("n'{body}''{body}'"),
            }
        })
    }

    fn shown() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "a",
            "\"b c\"",
            "\"d\"\"'\"",
            ", ",
            " = ",
            "$1",
            "(",
            ")",
            " e ",
            "u&\"x'\"",
            " - ",
            "::text",
            "42",
            "a$b",
            "é",
            " .5 ",
            "->>",
            "x ",
            "?",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn a_secret_is_never_shown_wherever_the_text_was_cut(
            parts in prop::collection::vec(prop_oneof![shown(), hidden()], 0..12),
            cut in 0..400usize,
        ) {
            // Parts are apart as tokens are.
            let text = format!("SELECT {}", parts.join(" "));
            for text in [text.clone(), text.chars().take(cut).collect()] {
                let out = published(&text);
                prop_assert!(!out.contains("Zq7"), "{out} of {text}");
            }
        }

        #[test]
        fn any_text_is_borne_and_nothing_shown_is_a_constant(text in any::<String>()) {
            let once = without_constants(&text);
            prop_assert_eq!(without_constants(&once), once);
        }
    }
}
