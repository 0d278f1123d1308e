//! What a server says of a query of the user's own, without what the query's text or the rows may keep secret.
//!
//! Must not: let a literal of the query, or a value, through.

use crate::error::CollectError;

/// An error without the query's literals. Of what was not said about the statement itself (its names, privileges and
/// limits), nothing in quotes is shown either: it may be a value.
pub(super) fn literals(sql: &str, error: CollectError) -> CollectError {
    let secrets = secrets(sql);
    let text = |message: &str| covered(message, &secrets);
    match error {
        CollectError::Query { sqlstate, message } => {
            let syntax = sqlstate == "42601";
            let named = sqlstate.starts_with("42") && !syntax;
            let known = named || ["25", "0A", "57"].iter().any(|class| sqlstate.starts_with(class));
            let message = text(&message);
            let message = if known { message } else { unquoted(&message) };
            CollectError::Query { sqlstate, message }
        }
        CollectError::ServerTimeout { sqlstate, message } => {
            CollectError::ServerTimeout { sqlstate, message: text(&message) }
        }
        CollectError::Permission(message) => CollectError::Permission(text(&message)),
        other => other,
    }
}

/// The text with `***` in the place of each secret.
fn covered(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

/// The text with dots for what stands in double quotes, to the last of them.
fn unquoted(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(from), Some(to)) if from < to => format!("{}\"...{}", &text[..from], &text[to..]),
        (Some(from), _) => format!("{}\"...", &text[..from]),
        _ => text.to_owned(),
    }
}

/// What stands between quotes in the statement, longest first: as it stands, as it is read, and its words.
fn secrets(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '$']) {
        let (inside, after) = if rest[at..].starts_with('\'') {
            quoted(&rest[at + 1..])
        } else {
            match dollar(&rest[at..]) {
                Some(pair) => pair,
                None => {
                    rest = &rest[at + 1..];
                    continue;
                }
            }
        };
        found.push(inside.to_owned());
        found.push(inside.replace("''", "'"));
        found.push(inside.replace("\\'", "'").replace("\\\\", "\\"));
        found.extend(inside.split_whitespace().map(str::to_owned));
        rest = after;
    }
    // One letter stands everywhere.
    found.retain(|secret| secret.chars().count() >= 2);
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.dedup();
    found
}

/// Up to the quote that ends it; all of it if none does.
fn quoted(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return (&text[..at], &text[at + 1..]),
            _ => at += 1,
        }
    }
    // A backslash that stands for itself may have hidden the end.
    match text.split_once('\'') {
        Some((inside, after)) => (inside, after),
        None => (text, ""),
    }
}

/// Between `$tag$` and `$tag$`.
fn dollar(text: &str) -> Option<(&str, &str)> {
    let end = text[1..].find('$')? + 2;
    let tag = &text[..end];
    let name = &tag[1..tag.len() - 1];
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 128) {
        return None;
    }
    let inside = &text[end..];
    match inside.find(tag) {
        Some(at) => Some((&inside[..at], &inside[at + tag.len()..])),
        None => Some((inside, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(sql: &str, sqlstate: &str, message: &str) -> String {
        let (sqlstate, message) = (sqlstate.to_owned(), message.to_owned());
        literals(sql, CollectError::Query { sqlstate, message }).to_string()
    }

    #[test]
    fn no_literal_and_no_value_is_shown() {
        let sql = "SELECT f('hunter2', $x$top secret$x$) FROM orders";
        let text = said(sql, "42P01", "relation \"orders\" does not exist");
        assert!(text.contains("relation \"orders\" does not exist"), "{text}");
        for (sqlstate, message) in [
            ("42601", "syntax error at or near \"hunter2\""),
            ("42601", "unterminated quoted string at or near \"'hunter2\""),
            ("22P02", "invalid input syntax for type integer: \"hunter2\""),
            ("22P02", "invalid input syntax for type integer: \"from a row\""),
            ("P0001", "it is top secret"),
            ("42883", "function f(\"hunter2\") does not exist"),
            ("XX000", "secret"),
        ] {
            let text = said(sql, sqlstate, message);
            for secret in ["hunter2", "secret", "from a row"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
        let open = said("SELECT 'open hunter2", "42601", "unterminated quoted string hunter2");
        assert!(!open.contains("hunter2"), "{open}");
    }

    proptest! {
        #[test]
        fn never_panics_and_hides(sql in "[a$'\\\\ éx]{0,30}", secret in "[a-z0-9]{6,10}") {
            let _ = secrets(&sql);
            let whole = format!("SELECT '{secret}' {sql}");
            let text = said(&whole, "42883", &format!("no function for {secret}"));
            prop_assert!(!text.contains(&secret));
        }
    }
}
