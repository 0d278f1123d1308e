//! Indexes that must be there, chosen by table pattern: the list `indexes` of `pgrunway.yml`.
//!
//! Must not: look into a database; whether an index is there is the collector's to find out.

use std::time::Duration;

use super::columns::IndexColumn;
use super::schema::{SECOND, SettingKind, settings};
use super::wildcard::{is_wild, matches};

settings! {
    /// One rule: an index that every table of a pattern must have.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct IndexRule {
        /// The tables that must have it: `schema.table`, unquoted.
        pub table: String = String::new(), "table" => SettingKind::Pattern;
        /// Their database; any if left out.
        pub database: Option<String> = None, "database" => SettingKind::Pattern;
        /// The index by its name.
        pub name: Option<String> = None, "name" => SettingKind::Text;
        /// The index by its key columns, all of them in this order, as `a, b DESC`; it has no
        /// predicate; INCLUDE does not matter. All directions reversed match too.
        pub columns: Vec<IndexColumn> = Vec::new(), "columns" => SettingKind::Columns;
        /// Whether it must be unique.
        pub unique: bool = false, "unique" => SettingKind::Boolean;
        /// The statement that creates it, which `pgrunway verify` prints where it is missing; it is never compared.
        pub create: Option<String> = None, "create" => SettingKind::Text;
    }

    /// Settings of the index collectors.
    #[derive(Debug, Clone, PartialEq)]
    pub struct IndexSettings {
        /// Rows below which a sequential scan is the right plan: smaller tables are exempt from the objective of
        /// the index scan ratio, from foreign keys without an index, and from the verdict on sequential scans.
        pub minimum_rows: usize = 10_000,
            "collectors.indexes.minimum_rows" => SettingKind::Integer { min: 0, max: 1_000_000_000 };
        /// How many partitions' indexes, the most scanned of each index, have series of their own.
        pub per_partition: usize = 0,
            "collectors.indexes.per_partition" => SettingKind::Integer { min: 0, max: 10_000 };
        /// How long the statistics must have counted before an index without scans is called unused.
        ///
        /// In seconds.
        pub unused_after: f64 = 7.0 * 86_400.0, "collectors.indexhealth.unused_after"
            => SettingKind::Duration { min: SECOND, max: Duration::from_secs(3_650 * 86_400) };
        /// Size in bytes from which on a table gets a verdict on sequential scans.
        pub seq_scan_bytes: usize = 100_000_000,
            "collectors.indexhealth.seq_scan_bytes" => SettingKind::Integer { min: 0, max: 1 << 50 };
        /// For how many B-trees, tables and TOAST tables, the largest of each, bloat is estimated; 0 for none.
        pub bloat_largest: usize = 500,
            "collectors.indexhealth.bloat_largest" => SettingKind::Integer { min: 0, max: 100_000 };
        rest {
            /// In the order of the file.
            pub expected: Vec<IndexRule>,
        }
    }
}

impl IndexRule {
    fn is_for(&self, datname: &str) -> bool {
        self.database.as_ref().is_none_or(|pattern| matches(pattern, datname))
    }

    /// What is expected, in words: the name, or the columns in parentheses.
    pub fn describe(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let columns: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        format!("({})", columns.join(", "))
    }
}

impl IndexSettings {
    /// The rules for a table; all that match count.
    pub fn expected(
        &self,
        datname: &str,
        schema: &str,
        table: &str,
    ) -> impl Iterator<Item = &IndexRule> {
        let name = format!("{schema}.{table}");
        self.expected.iter().filter(move |rule| rule.is_for(datname) && matches(&rule.table, &name))
    }

    /// The rules for one table of one database, whose table must be there too, with its schema and name.
    pub fn exact(&self, datname: &str) -> impl Iterator<Item = (&str, &str, &IndexRule)> {
        self.expected.iter().filter_map(move |rule| {
            let here = rule.database.as_deref() == Some(datname);
            let (schema, table) = rule.table.split_once('.')?;
            (here && !is_wild(&rule.table)).then_some((schema, table, rule))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_meet_tables_and_only_exact_ones_demand_the_table() {
        let rule = |table: &str, database: Option<&str>| IndexRule {
            table: table.to_owned(),
            database: database.map(str::to_owned),
            name: Some("i".to_owned()),
            ..IndexRule::default()
        };
        let expected = vec![
            rule("public.trades", Some("shop")),
            rule("public.*", None),
            rule("public.orders", None),
            rule("public.t*", Some("shop")),
            rule("public.x", Some("s*")),
        ];
        let settings = IndexSettings { expected, ..IndexSettings::default() };
        assert_eq!(settings.expected("shop", "public", "trades").count(), 3);
        assert_eq!(settings.expected("other", "public", "trades").count(), 1);
        let exact = |d| settings.exact(d).map(|(s, t, _)| format!("{s}.{t}")).collect::<Vec<_>>();
        assert_eq!(exact("shop"), ["public.trades"]);
        assert_eq!(exact("other"), [""; 0]);
    }
}
