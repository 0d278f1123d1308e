//! Which metrics go out, under which names, and with which labels beside their own.
//!
//! Must not: know a metric.

use super::schema::{SettingKind, settings};
use super::wildcard;

settings! {
    /// What of the metrics goes out, and how.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Exposed {
        /// Metrics to leave out; `*` matches any characters. A collector whose metrics are all left out does not run.
        pub hide: Vec<String> = Vec::new(), "metrics.hide" => SettingKind::List;
        /// Labels to add to every series of a server or pooler: `name=value`.
        env("PG_EXPORTER_CONSTANT_LABELS")
        pub constant_labels: Vec<(String, String)> = Vec::new(),
            "metrics.constant_labels" => SettingKind::Labels;
        /// Replaces `pg` at the beginning of metric names; our alert rules and dashboards expect `pg`.
        env("PG_EXPORTER_METRIC_PREFIX")
        pub prefix: String = "pg".to_owned(), "metrics.prefix" => SettingKind::Prefix;
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
    patterns.iter().any(|pattern| wildcard::matches(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_hidden_though_it_was_asked_for() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let exposed =
            Exposed { hide: list(&["pg_a_*"]), show: list(&["pg_*"]), ..Exposed::default() };
        assert!(exposed.hides("pg_a_b") && !exposed.shows("pg_a_b") && !exposed.hides("pg_b"));
        assert!(exposed.shows("pg_b") && !exposed.shows("x"));
    }
}
