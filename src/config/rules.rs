//! Rules for partitioned tables, chosen by pattern, and queries that must read few partitions: the
//! lists `partitions` and `verify.queries` of `pgrunway.yml`.
//!
//! Must not: look into a database; whether a rule meets a table is the collector's to find out.

use super::schema::{AGE, SettingKind, settings};
use super::wildcard::matches;

const UNITS: SettingKind =
    SettingKind::Choice { words: &["s", "ms", "us", "ns", "yyyymmdd"], aliases: &[] };

settings! {
    /// One rule. What it leaves out comes from the settings of the collector; times are in seconds.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PartitionRule {
        /// The tables it is for: `schema.table`, unquoted.
        pub table: String = String::new(), "table" => SettingKind::Pattern;
        /// Their database; any if left out.
        pub database: Option<String> = None, "database" => SettingKind::Pattern;
        /// Runway that they must have.
        pub required: Option<f64> = None, "runway_required" => AGE;
        /// Time zone of their key, if it has none (timestamp, date).
        pub zone: Option<String> = None, "zone" => SettingKind::Zone;
        /// What their topmost integer key holds: a time since 1970, or a day as 20261122.
        pub unit: Option<String> = None, "unit" => UNITS;
        /// Age at which their data should be gone.
        pub max_age: Option<f64> = None, "max_age" => AGE;
        /// Whether they have no series at all.
        pub ignore: bool = false, "ignore" => SettingKind::Boolean;
        /// Whether to report the table if it is missing or unsupported; needs a `table` and a
        /// `database` without wildcards.
        pub must_exist: bool = false, "must_exist" => SettingKind::Boolean;
    }

    /// Settings of the partitions collector.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PartitionSettings {
        /// Runway that every partitioned table must have, unless a rule says otherwise.
        ///
        /// In seconds.
        pub required: f64 = 7.0 * 86_400.0, "collectors.partitions.runway_required" => AGE;
        /// Time zone of keys without one (timestamp, date), unless a rule says otherwise; by default the
        /// database's own.
        pub zone: Option<String> = None, "collectors.partitions.zone" => SettingKind::Zone;
        /// How many of each table's largest partitions have series of their own.
        pub per_partition: usize = 0,
            "collectors.partitions.per_partition" => SettingKind::Integer { min: 0, max: 10_000 };
        rest {
            /// In the order of the file.
            pub rules: Vec<PartitionRule>,
        }
    }

    /// A query whose plan must read few partitions.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct QueryRule {
        /// What the reports of `pgrunway verify` call it.
        pub name: String = String::new(), "name" => SettingKind::Text;
        /// The database it is for.
        pub database: String = String::new(), "database" => SettingKind::Text;
        /// One statement, with names that carry their schema and with values in the place of
        /// parameters; it is explained, never executed.
        pub sql: String = String::new(), "sql" => SettingKind::Text;
        /// Most partitions, of all tables together, that its plan may read.
        pub max_partitions: usize = 1,
            "max_partitions" => SettingKind::Integer { min: 0, max: 1_000_000 };
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wildcard::is_wild;

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
}
