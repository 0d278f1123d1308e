//! SECURITY.md promises nothing that no test holds: each line under "Cannot" names its tests, and each
//! test that it names is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

/// Who may do harm, each with a section.
const PARTIES: &[&str] = &[
    "The owner of a database",
    "The owner of a table",
    "A server, or who poses as one",
    "A man in the middle",
    "A pooler",
    "A client of the HTTP port",
    "A local user",
    "The person who follows its advice",
];

/// A line of the document: under which headings, at which line, its text in one.
#[derive(Debug, Default, PartialEq)]
struct Item {
    section: String,
    heading: String,
    line: usize,
    text: String,
}

/// The list items under the third-level headings, their lines joined.
fn items(document: &str) -> Vec<Item> {
    let mut found: Vec<Item> = Vec::new();
    let (mut section, mut heading, mut open) = (String::new(), String::new(), false);
    for (n, line) in document.lines().enumerate() {
        if let Some(party) = line.strip_prefix("## ") {
            (section, heading) = (party.trim().to_owned(), String::new());
            open = false;
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
            open = false;
        } else if let Some(first) = line.strip_prefix("- ") {
            found.push(Item {
                section: section.clone(),
                heading: heading.clone(),
                line: n + 1,
                text: first.to_owned(),
            });
            open = true;
        } else if line.trim().is_empty() {
            open = false;
        } else if open && let Some(item) = found.last_mut() {
            item.text.push(' ');
            item.text.push_str(line.trim());
        }
    }
    found
}

/// What stands in backticks as `FILE::FUNCTION`.
fn references(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|q| q.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect()
}

/// Whether a source has a test of this name: a function with an attribute that makes it one.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(n, line)| {
        let declared = line.trim_start_matches("async ").strip_prefix("fn ");
        let is_it = declared
            .and_then(|d| d.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(['(', '<']));
        let above = lines[..n].iter().rev();
        let mut attributes = above.take_while(|l| l.starts_with("#[") || l.starts_with("//"));
        is_it && attributes.any(|l| l.starts_with("#[test]") || l.starts_with("#[tokio::test"))
    })
}

fn faults(document: &str, root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for item in items(document) {
        let named = references(&item.text);
        if item.heading == "Cannot" && named.is_empty() {
            faults.push(format!("line {} names no test: {}", item.line, item.text));
        }
        for (file, name) in named {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !has_test(&source, name) {
                faults.push(format!("line {}: there is no test {file}::{name}", item.line));
            }
        }
    }
    faults
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let faults = faults(&document, root);
    assert!(faults.is_empty(), "{faults:#?}");
    for party in PARTIES {
        let of = |i: &Item| i.section == *party && i.heading == "Cannot";
        assert!(items(&document).iter().any(of), "nothing that this party cannot do: {party}");
    }
}

#[test]
fn a_promise_without_a_test_is_seen() {
    let document = "\
# S
### Cannot
- Do one thing,
  over two lines. (`tests/security.rs::a_promise_without_a_test_is_seen`,
  `tests/security.rs::nothing_like_it`)
- Do another: `a::b`.

Prose.
### Can
- Do a third.
- Do `tests/none.rs::x`.
- Call a helper. (`tests/security.rs::faults`)
";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(
        faults(document, root),
        [
            "line 3: there is no test tests/security.rs::nothing_like_it",
            "line 6 names no test: Do another: `a::b`.",
            "line 11: there is no test tests/none.rs::x",
            "line 12: there is no test tests/security.rs::faults",
        ]
    );
}
