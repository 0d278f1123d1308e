//! Texts that came from outside (a server, a file, a name) on their way to people: on a terminal, in a log, on a
//! page.
//!
//! Must not: let a text forge a line, move a cursor, turn what follows around, or grow without an end.

use std::borrow::Cow;

/// Most bytes of a foreign text in an error, and so in a line of the log and on a page.
pub const LONGEST: usize = 1_024;

/// Whether a character may end a line, move the cursor, hide what follows or turn it around.
pub fn hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                       | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                       | '\u{e0000}'..='\u{e007f}')
}

/// Line ends and tabs stay, other hazardous characters show as `\u{1b}`.
pub fn printable(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// As [`printable`], in one line.
pub fn one_line(text: &str) -> String {
    escaped(text, |_| false)
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if keep(c) || !hazardous(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// The first `most` bytes at the most, with what was left out after them.
pub fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}... ({} bytes more)", &text[..end], text.len() - end))
}

/// A foreign text as it may stand in an error: one line of bounded length.
pub fn foreign(text: &str) -> String {
    // Cut first, or a text of megabytes is walked through; an escape is longer than what it stands for.
    let cut = bounded(text, LONGEST);
    bounded(&one_line(&cut), 2 * LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_foreign_text_is_one_line_of_bounded_length() {
        assert_eq!(foreign("a\nb\x1b[31m\u{202e}c"), "a\\nb\\u{1b}[31m\\u{202e}c");
        assert_eq!(printable("a\n\tb\rc"), "a\n\tb\\rc");
        let long = foreign(&"é".repeat(1_000_000));
        assert!(long.ends_with("... (1998976 bytes more)"), "{long}");
        assert_eq!(bounded("aé", 2), "a... (2 bytes more)");
    }

    proptest! {
        #[test]
        fn nothing_hazardous_is_left(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(hazardous));
            prop_assert!(!printable(&text).chars().any(|c| c != '\n' && c != '\t' && hazardous(c)));
            prop_assert!(foreign(&text.repeat(500)).len() < 3 * LONGEST);
        }
    }
}
