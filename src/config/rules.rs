//! Rules for partitioned tables, chosen by pattern, and queries that must read few partitions: the
//! lists `partitions` and `verify.queries` of `pgrunway.yml`.
//!
//! Must not: look into a database; whether a rule meets a table is the collector's to find out.

use super::PartitionSettings;

/// One rule. What it leaves out comes from the settings of the collector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartitionRule {
    /// Pattern of `schema.table`, as in the labels, without quotes.
    pub table: String,
    /// Pattern of the database; `None`: any.
    pub database: Option<String>,
    /// Runway that the tables must have, in seconds.
    pub required: Option<f64>,
    /// IANA zone of the writers.
    pub zone: Option<String>,
    /// What the integer key holds: `s`, `ms`, `us`, `ns` or `yyyymmdd`.
    pub unit: Option<String>,
    /// Whether the tables have no series at all.
    pub ignore: bool,
    /// Whether it is reported if the table is missing or unsupported.
    pub must_exist: bool,
    /// Seconds after which data should be gone.
    pub max_age: Option<f64>,
}

/// A query whose plan must read few partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryRule {
    /// For reports.
    pub name: String,
    /// Its database.
    pub database: String,
    /// One statement without parameters.
    pub sql: String,
    /// Most partitions that its plan may read.
    pub max_partitions: usize,
}

impl PartitionRule {
    fn is_for(&self, datname: &str) -> bool {
        self.database.as_ref().is_none_or(|pattern| matches(pattern, datname))
    }
}

impl PartitionSettings {
    /// The first rule that matches a table; the later ones do not count.
    pub fn rule(&self, datname: &str, schema: &str, table: &str) -> Option<&PartitionRule> {
        let name = format!("{schema}.{table}");
        self.rules.iter().find(|rule| rule.is_for(datname) && matches(&rule.table, &name))
    }

    /// Schema and name of the tables that must exist in a database, whichever rule comes first.
    pub fn must_exist(&self, datname: &str) -> impl Iterator<Item = (&str, &str)> {
        let rules = self.rules.iter().filter(move |r| r.must_exist && r.is_for(datname));
        rules.filter_map(|rule| rule.table.split_once('.'))
    }
}

/// Whether a pattern stands for more than one name.
pub(super) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Matches a whole name: `*` stands for any characters, none included, `?` for one.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how far it reaches so far.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, reach)) = star else { return false };
                star = Some((at, reach + 1));
                p = at + 1;
                n = reach + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("public.trades", "public.trades", true),
            ("public.trades", "public.trades2", false),
            ("public.*", "public.trades", true),
            ("*.trades", "a.b.trades", true),
            ("*_log*", "public.x_log", true),
            ("public.t?", "public.tß", true),
            ("public.t?", "public.t", false),
            ("*a*b*c", "xxaxxbxbxc", true),
            ("*a*b*c", "xxaxxbxbx", false),
            ("Public.*", "public.trades", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rule = |table: &str, database: Option<&str>, required| PartitionRule {
            table: table.to_owned(),
            database: database.map(str::to_owned),
            required: Some(required),
            must_exist: database.is_some() && !is_wild(table),
            ..PartitionRule::default()
        };
        let rules = vec![
            rule("public.trades", Some("shop"), 1.0),
            rule("public.*", None, 2.0),
            rule("public.orders", Some("shop"), 3.0),
        ];
        let settings = PartitionSettings { rules, ..super::super::Settings::default().partitions };
        let required = |d, t| settings.rule(d, "public", t).and_then(|r| r.required);
        assert_eq!(required("shop", "trades"), Some(1.0));
        assert_eq!(required("other", "trades"), Some(2.0));
        assert_eq!(required("shop", "orders"), Some(2.0), "the last rule comes too late");
        assert_eq!(settings.rule("shop", "s", "trades"), None);
        let must: Vec<_> = settings.must_exist("shop").collect();
        assert_eq!(must, [("public", "trades"), ("public", "orders")]);
        assert_eq!(settings.must_exist("other").count(), 0);
    }

    proptest! {
        #[test]
        fn matches_as_a_recursion_would(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn slow(p: &[u8], n: &[u8]) -> bool {
                match p.split_first() {
                    None => n.is_empty(),
                    Some((b'*', rest)) => (0..=n.len()).any(|i| slow(rest, &n[i..])),
                    Some((c, rest)) => n.split_first()
                        .is_some_and(|(x, tail)| (*c == b'?' || c == x) && slow(rest, tail)),
                }
            }
            prop_assert_eq!(matches(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
