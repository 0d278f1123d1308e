//! Text of a server's on a terminal: in SQL it stays what it is and can be run, elsewhere it shows.
//!
//! Must not: let a control character of a name through to a terminal.

pub(super) use crate::text::hazardous;
pub use crate::text::{one_line, printable};

/// A statement whose quoted names are rewritten as `U&"..."`, and its strings as `E'...'`, where they hold
/// control characters, so that it can be printed and still be run. Everything else stays; so does the end
/// of a line in a string.
pub fn tame(sql: &str) -> String {
    if !sql.chars().any(hazardous) {
        return sql.to_owned();
    }
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['"', '\'', '-']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let quote = if from.starts_with('"') { '"' } else { '\'' };
        let end = if from.starts_with('-') {
            // To the end of a comment, which may hold a quote.
            let comment = from.starts_with("--");
            let end = if comment { from.find('\n').unwrap_or(from.len()) } else { 1 };
            out.push_str(&from[..end]);
            rest = &from[end..];
            continue;
        } else {
            closing(from, quote)
        };
        let token = &from[..end];
        if quote == '"' && token.chars().any(hazardous) {
            out.push_str("U&\"");
            for c in token[1..].chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    c if hazardous(c) && u32::from(c) > 0xffff => {
                        out.push_str(&format!("\\+{:06X}", u32::from(c)));
                    }
                    c if hazardous(c) => out.push_str(&format!("\\{:04X}", u32::from(c))),
                    c => out.push(c),
                }
            }
        } else if quote == '\'' && token.chars().any(unseen) {
            let escaped = out.ends_with(['e', 'E']);
            if !escaped {
                out.push_str(if out.ends_with(|c: char| c.is_alphanumeric()) { " E" } else { "E" });
            }
            for c in token.chars() {
                match c {
                    '\\' if !escaped => out.push_str("\\\\"),
                    c if unseen(c) => escape(&mut out, c),
                    c => out.push(c),
                }
            }
        } else {
            out.push_str(token);
        }
        rest = &from[end..];
    }
    out.push_str(rest);
    out
}

/// What is hazardous inside a string, which may span lines.
fn unseen(c: char) -> bool {
    hazardous(c) && c != '\n'
}

/// As an `E'...'` takes it.
pub(super) fn escape(out: &mut String, c: char) {
    match u32::from(c) {
        code @ 0x1_0000.. => out.push_str(&format!("\\U{code:08X}")),
        code => out.push_str(&format!("\\u{code:04X}")),
    }
}

/// Where a quoted token that begins `text` ends; a doubled quote does not end it.
fn closing(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + quote.len_utf8(),
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remedy::quote::ident;
    use proptest::prelude::*;

    #[test]
    fn names_that_would_move_the_cursor_are_written_as_escapes() {
        for (sql, want) in [
            ("DROP INDEX public.x;", "DROP INDEX public.x;"),
            ("DROP INDEX \"a\u{1b}b\";", "DROP INDEX U&\"a\\001Bb\";"),
            ("DROP INDEX \"a\n\\\"\"b\".\"c\";", "DROP INDEX U&\"a\\000A\\\\\"\"b\".\"c\";"),
            ("SELECT 'a\"b', \"x\u{202e}y\"", "SELECT 'a\"b', U&\"x\\202Ey\""),
            ("-- it's \"one\nDROP \"x\ty\"", "-- it's \"one\nDROP U&\"x\\0009y\""),
            ("a - 'b\n'", "a - 'b\n'"),
            ("a = 'b\\\u{1b}'", "a = E'b\\\\\\u001B'"),
            ("a = E'b\\\\\u{1b}'", "a = E'b\\\\\\u001B'"),
        ] {
            assert_eq!(tame(sql), want);
        }
        assert_eq!(printable("a\x1b[31m\nb"), "a\\u{1b}[31m\nb");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }

    proptest! {
        #[test]
        fn never_panics_and_leaves_no_escape_in_a_name(name in any::<String>(), sql in any::<String>()) {
            let _ = tame(&sql);
            let tamed = tame(&format!("DROP INDEX {};", ident(&name)));
            prop_assert!(!tamed.chars().any(hazardous));
            prop_assert!(!printable(&sql).replace(['\n', '\t'], "").chars().any(hazardous));
        }
    }
}
