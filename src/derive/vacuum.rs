//! When autovacuum would come for a table: its thresholds, from the server's settings and the table's
//! own options, against what was counted since it last came.
//!
//! Must not: ask whether autovacuum is on; what is due is due.

/// Changes beyond a threshold by this factor are overdue: at the threshold autovacuum is on its way.
pub const OVERDUE: f64 = 2.0;
/// Rows of a table up to which nothing is overdue: what is small does no harm.
pub const WORTHWHILE: f64 = 10_000.0;
/// Share of its rows that makes a load, where so many came after its last ANALYZE.
pub const LOADED: f64 = 0.5;

/// Thresholds in rows, scale factors as shares of the table's rows, ages in transactions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// `autovacuum_vacuum_threshold` and `autovacuum_vacuum_scale_factor`.
    pub vacuum: (f64, f64),
    /// `autovacuum_vacuum_max_threshold` (PostgreSQL 18); negative or `None`: no limit.
    pub vacuum_max: Option<f64>,
    /// `autovacuum_vacuum_insert_threshold`, negative where inserts do not count, and its scale factor.
    pub insert: (f64, f64),
    /// `autovacuum_analyze_threshold` and `autovacuum_analyze_scale_factor`.
    pub analyze: (f64, f64),
    /// `autovacuum_freeze_max_age`.
    pub freeze_max_age: f64,
}

/// What is known of one table without partitions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// `pg_class.reltuples`; negative: never counted.
    pub rows: f64,
    /// Dead rows.
    pub dead: f64,
    /// Rows inserted since the last VACUUM.
    pub inserted: f64,
    /// Rows changed since the last ANALYZE.
    pub modified: f64,
    /// `age(relfrozenxid)`.
    pub age: f64,
    /// Share of the pages that are all frozen, which the insert threshold leaves out from 18 on.
    pub frozen: f64,
}

/// How far a table is beyond each threshold: 1 is when autovacuum comes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Due {
    /// For VACUUM because of dead or inserted rows, the greater of the two.
    pub vacuum: f64,
    /// For ANALYZE.
    pub analyze: f64,
    /// For VACUUM against wraparound.
    pub freeze: f64,
}

impl Thresholds {
    /// With the table's own `reloptions`, as `name=value` separated by blanks, in place of the server's.
    pub fn of_table(mut self, options: &str) -> Self {
        for option in options.split_ascii_whitespace() {
            let Some((name, value)) = option.split_once('=') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            match name {
                "autovacuum_vacuum_threshold" => self.vacuum.0 = value,
                "autovacuum_vacuum_scale_factor" => self.vacuum.1 = value,
                "autovacuum_vacuum_max_threshold" => self.vacuum_max = Some(value),
                "autovacuum_vacuum_insert_threshold" => self.insert.0 = value,
                "autovacuum_vacuum_insert_scale_factor" => self.insert.1 = value,
                "autovacuum_analyze_threshold" => self.analyze.0 = value,
                "autovacuum_analyze_scale_factor" => self.analyze.1 = value,
                // A table can ask for an earlier time only.
                "autovacuum_freeze_max_age" => self.freeze_max_age = self.freeze_max_age.min(value),
                _ => {}
            }
        }
        self
    }

    /// Dead rows at which autovacuum comes for a table of so many rows.
    pub fn dead(&self, rows: f64) -> f64 {
        let dead = self.vacuum.0 + self.vacuum.1 * rows.max(0.0);
        self.vacuum_max.filter(|max| *max >= 0.0).map_or(dead, |max| dead.min(max))
    }

    /// Of a table to which these thresholds apply, as `relation_needs_vacanalyze()` of the server computes it.
    pub fn due(self, counts: &Counts) -> Due {
        let rows = counts.rows.max(0.0);
        let insert = self.insert.0 + self.insert.1 * rows * (1.0 - counts.frozen.clamp(0.0, 1.0));
        let inserted = if self.insert.0 < 0.0 { 0.0 } else { share(counts.inserted, insert) };
        Due {
            vacuum: share(counts.dead, self.dead(rows)).max(inserted),
            analyze: share(counts.modified, self.analyze.0 + self.analyze.1 * rows),
            freeze: share(counts.age, self.freeze_max_age),
        }
    }
}

impl Due {
    /// The greater of both in each respect.
    pub fn max(self, other: Self) -> Self {
        Self {
            vacuum: self.vacuum.max(other.vacuum),
            analyze: self.analyze.max(other.analyze),
            freeze: self.freeze.max(other.freeze),
        }
    }
}

/// A threshold of 0 is passed by the first row.
fn share(count: f64, threshold: f64) -> f64 {
    count.max(0.0) / threshold.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Thresholds = Thresholds {
        vacuum: (50.0, 0.2),
        vacuum_max: None,
        insert: (1000.0, 0.2),
        analyze: (50.0, 0.1),
        freeze_max_age: 2e8,
    };

    #[test]
    fn defaults() {
        let counts =
            Counts { rows: 1000.0, dead: 500.0, modified: 75.0, age: 1e8, ..Counts::default() };
        let due = DEFAULTS.due(&counts);
        assert_eq!(due, Due { vacuum: 2.0, analyze: 0.5, freeze: 0.5 });
        let unknown = Counts { rows: -1.0, dead: 100.0, ..Counts::default() };
        assert_eq!(DEFAULTS.due(&unknown).vacuum, 2.0);
    }

    #[test]
    fn a_tables_own_options_win_but_cannot_put_freezing_off() {
        let counts = Counts { rows: 1000.0, dead: 30.0, age: 4e8, ..Counts::default() };
        let options = "fillfactor=70 autovacuum_vacuum_scale_factor=0.01 \
                       autovacuum_vacuum_threshold=5 autovacuum_freeze_max_age=400000000 x=y z";
        let due = DEFAULTS.of_table(options).due(&counts);
        assert_eq!((due.vacuum, due.freeze), (2.0, 2.0));
        let sooner = DEFAULTS.of_table("autovacuum_freeze_max_age=100000000").due(&counts);
        assert_eq!(sooner.freeze, 4.0);
    }

    #[test]
    fn inserts_count_unless_turned_off_and_frozen_pages_do_not() {
        let counts = Counts { rows: 10_000.0, inserted: 6000.0, ..Counts::default() };
        assert_eq!(DEFAULTS.due(&counts).vacuum, 2.0);
        assert_eq!(
            DEFAULTS.of_table("autovacuum_vacuum_insert_threshold=-1").due(&counts).vacuum,
            0.0
        );
        let frozen = Counts { frozen: 0.5, ..counts };
        assert_eq!(DEFAULTS.due(&frozen).vacuum, 3.0);
    }

    #[test]
    fn the_limit_of_18_holds_for_large_tables() {
        let counts = Counts { rows: 1e9, dead: 1e8, ..Counts::default() };
        let limited = Thresholds { vacuum_max: Some(5e7), ..DEFAULTS };
        assert_eq!(limited.due(&counts).vacuum, 2.0);
        assert_eq!(
            (limited.dead(counts.rows), limited.dead(-1.0)),
            (limited.vacuum_max.unwrap(), 50.0)
        );
        let lifted = limited.of_table("autovacuum_vacuum_max_threshold=-1").due(&counts).vacuum;
        assert!(lifted < 1.0, "{lifted}");
    }
}
