//! Which metrics go out, under which names, and with which labels beside their own.
//!
//! Must not: know a metric.

use super::Fault;
use super::rules;
use super::schema::{Kind, settings};

settings! {
    /// What of the metrics goes out, and how.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Exposed {
        /// Metrics that are left out; `*` stands for any characters. A collector of which all are left out does
        /// not run.
        pub hide: Vec<String> = Vec::new(), "metrics.hide" => Kind::List;
        /// Labels that every series of a server or pooler gets besides its own: `name=value`.
        env("PG_EXPORTER_CONSTANT_LABELS")
        pub constant_labels: Vec<(String, String)> = Vec::new(),
            "metrics.constant_labels" => Kind::Labels;
        /// What stands in the place of `pg` at the beginning of names; alert rules and dashboards look for
        /// `pg`.
        env("PG_EXPORTER_METRIC_PREFIX")
        pub prefix: String = "pg".to_owned(), "metrics.prefix" => Kind::Prefix;
        rest {
            /// Metrics whose collectors run though they are off by default.
            pub show: Vec<String>,
        }
    }
}

impl Exposed {
    /// Whether a metric is left out.
    pub fn hides(&self, metric: &str) -> bool {
        any(&self.hide, metric)
    }

    /// Whether a metric was asked for by name.
    pub fn shows(&self, metric: &str) -> bool {
        any(&self.show, metric) && !self.hides(metric)
    }
}

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| rules::matches(pattern, name))
}

/// Labels that the exposition or Prometheus itself gives.
const TAKEN: [&str; 4] = ["le", "quantile", "job", "instance"];

/// `name=value`, as a label.
pub(super) fn label(text: &str) -> Result<(String, String), Fault> {
    let bad = |problem: &str| Fault::new(problem, "write `name=value`, such as `region=eu`");
    let (name, value) = text.split_once('=').ok_or_else(|| bad("holds a label without `=`"))?;
    let (name, value) = (name.trim(), value.trim());
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let plain = name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
        && !name.starts_with("__");
    if !plain {
        return Err(bad("holds a name that no label may have"));
    }
    if TAKEN.contains(&name) {
        return Err(bad("names a label that others set: `le`, `quantile`, `job` or `instance`"));
    }
    if value.is_empty() {
        return Err(bad("holds a label without a value"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The beginning of a metric's name.
pub(super) fn prefix(text: &str) -> Result<String, Fault> {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let plain = text.bytes().next().is_some_and(letter)
        && text.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if plain && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    Err(Fault::new("is no beginning of a metric's name", "use letters, digits and `_`, 64 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_prefixes_are_held_to_the_data_model() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(label("a=b"), pair("a", "b"));
        assert_eq!(label(" region = eu=1 "), pair("region", "eu=1"));
        for bad in ["a", "=b", "a=", "1a=b", "a-b=c", "__a=b", "le=1", "job=x", ""] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(prefix("my_pg"), Ok("my_pg".to_owned()));
        for bad in ["", "1", "a-b", "a:b", "ä"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_hidden_is_hidden_though_it_was_asked_for() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let exposed =
            Exposed { hide: list(&["pg_a_*"]), show: list(&["pg_*"]), ..Exposed::default() };
        assert!(exposed.hides("pg_a_b") && !exposed.shows("pg_a_b") && !exposed.hides("pg_b"));
        assert!(exposed.shows("pg_b") && !exposed.shows("x"));
    }
}
