//! The text format, as far as a comparison needs it: families with their types, and series with their values.
//!
//! Must not: be lenient; what it cannot read fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// A series: its name, and its labels by name; empty ones are none.
pub type Series = (String, BTreeMap<String, String>);

/// What one scrape brought.
#[derive(Debug, Default, Clone)]
pub struct Exposition {
    pub types: BTreeMap<String, String>,
    pub series: BTreeMap<Series, f64>,
}

impl Exposition {
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                out.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = sample(line);
                assert!(out.series.insert(series, value).is_none(), "twice: {line}");
            }
        }
        out
    }

    /// Names of samples, which of a histogram are several.
    pub fn names(&self) -> BTreeSet<&str> {
        self.series.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// The type of the family that a sample is of.
    pub fn kind(&self, name: &str) -> &str {
        let of = |suffix: &str| name.strip_suffix(suffix).and_then(|n| self.types.get(n));
        let whole = ["_bucket", "_sum", "_count"].into_iter().find_map(of);
        self.types.get(name).or(whole).map_or("", String::as_str)
    }
}

fn sample(line: &str) -> (Series, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = quoted(after);
            if !value.is_empty() {
                labels.insert(label.to_owned(), value);
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    ((name.to_owned(), labels), rest.trim().parse().unwrap())
}

/// A label's value up to the quotation mark that ends it, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    panic!("no end of the value: {text}")
}
