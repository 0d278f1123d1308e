//! How much of its values each sequence has given out, by the smaller of its own limit and that of the column that it
//! fills, and when it will have given out all of them at its pace.
//!
//! Must not: wait behind an ALTER SEQUENCE for longer than `lock_timeout`, or say anything of a sequence that cycles.

use std::collections::HashMap;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session, columns};

const SEQUENCE: &[&str] = &["datname", "schemaname", "sequencename"];

static USED: Metric = Metric::gauge(
    "pg_sequence_used_ratio",
    SEQUENCE,
    "Share of the sequence's values that are used: pg_sequence_last_value() between pg_sequence.seqmin and \
     seqmax, or the end of the column's type if that comes first; only the 1,000 most used, and none that cycle.",
);
static REMAINING: Metric = Metric::gauge(
    "pg_sequence_values_remaining",
    SEQUENCE,
    "Values that the sequence can still give its column, from pg_sequence_last_value() and \
     pg_sequence.seqincrement.",
);
static EXHAUSTED_IN: Metric = Metric::gauge(
    "pg_sequence_exhausted_in_seconds",
    SEQUENCE,
    "Time until the sequence has used its last value at the rate of the last 12 to 24 hours, estimated from \
     pg_sequence_last_value(); absent for the first ten minutes, and where no value was used.",
);
static UNREADABLE: Metric = Metric::gauge(
    "pg_sequences_unreadable",
    &["datname"],
    "Sequences of the database whose position the role may not read, by has_sequence_privilege(); GRANT SELECT \
     ON SEQUENCES, or from PostgreSQL 14 on pg_read_all_data, shows them.",
);

/// The width of a column is that of the narrowest that the sequence is owned by or the default of; a domain writes its values
/// by the function of the type that it rests on. Arithmetic is
/// numeric, since the ends of int8 lie further apart than it holds.
const SQL: &str = "\
SELECT q.oid::int8 AS oid, q.schemaname AS schemaname, q.sequencename AS sequencename, q.readable AS readable,
       LEAST(1, GREATEST(0, CASE WHEN q.up THEN (q.last - q.bottom) / NULLIF(q.top - q.bottom, 0)
                                 ELSE (q.top - q.last) / NULLIF(q.top - q.bottom, 0) END))::float8 AS used,
       GREATEST(0, pg_catalog.floor(CASE WHEN q.up THEN q.top - q.last ELSE q.last - q.bottom END
                                    / pg_catalog.abs(q.step)))::float8 AS remaining
  FROM (SELECT s.seqrelid AS oid, n.nspname::text AS schemaname, c.relname::text AS sequencename,
               s.seqincrement > 0 AS up, s.seqincrement::numeric AS step, r.readable AS readable,
               LEAST(s.seqmax, w.top)::numeric AS top, GREATEST(s.seqmin, w.bottom)::numeric AS bottom,
               CASE WHEN r.readable
                    THEN COALESCE(pg_catalog.pg_sequence_last_value(s.seqrelid)::numeric,
                                  s.seqstart::numeric - s.seqincrement) END AS last
          FROM pg_catalog.pg_sequence s
          JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL (SELECT pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT,USAGE')
                                AND (c.relpersistence = 'p' OR NOT pg_catalog.pg_is_in_recovery())) r(readable)
          LEFT JOIN LATERAL (
            SELECT CASE pg_catalog.min(a.attlen) WHEN 2 THEN 32767::int8 WHEN 4 THEN 2147483647::int8 END AS top,
                   CASE pg_catalog.min(a.attlen) WHEN 2 THEN (-32768)::int8 WHEN 4 THEN (-2147483648)::int8 END AS bottom
              FROM (SELECT d.refobjid AS relation, d.refobjsubid AS number FROM pg_catalog.pg_depend d
                     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = s.seqrelid
                       AND d.refclassid = d.classid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
                     UNION
                    SELECT f.adrelid, f.adnum::int4 FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
                     WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                       AND d.refobjid = s.seqrelid) u
              JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number
              JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE t.typoutput IN ('pg_catalog.int2out'::pg_catalog.regproc, 'pg_catalog.int4out'::pg_catalog.regproc)) w ON true
         WHERE c.relpersistence <> 't' AND NOT s.seqcycle) q
 ORDER BY used DESC NULLS LAST, q.oid LIMIT $1";
const UNREAD: &str = "\
SELECT pg_catalog.count(*)::float8 AS unreadable
  FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
 WHERE c.relpersistence <> 't' AND NOT s.seqcycle
   AND NOT pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT,USAGE')";
const MOST: i64 = 1_000;

/// Seconds after which a pace is measured from a later place.
const HALF_DAY: f64 = 43_200.0;
/// Seconds that a pace must be measured over.
const LEAST: f64 = 600.0;

pub struct Sequences;

columns! {
    /// One sequence.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SequenceRow {
        /// OID.
        pub oid: i64,
        /// Schema.
        pub schemaname: String,
        /// Name.
        pub sequencename: String,
        /// Whether its position may be read.
        pub readable: bool,
        /// Part that is given out.
        pub used: Option<f64>,
        /// Values.
        pub remaining: Option<f64>,
    }
}

columns! {
    /// Of all sequences.
    struct SequencesUnread {
        unreadable: f64,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Monotonic seconds.
    pub at: f64,
    /// Database.
    pub datname: String,
    /// Those that are used most.
    pub sequences: Vec<SequenceRow>,
    /// How many may not be read.
    pub unreadable: f64,
}

/// Seconds, and the values that remained then.
type Remained = (f64, f64);

/// From where the pace of each sequence is measured, and from where next.
#[derive(Debug, Default)]
pub struct State(HashMap<i64, [Remained; 2]>);

impl State {
    /// Seconds until nothing remains, at the pace so far.
    fn left(&mut self, oid: i64, at: f64, remaining: f64) -> Option<f64> {
        let [from, next] = self.0.entry(oid).or_insert([(at, remaining); 2]);
        if remaining > from.1 {
            // Set back, or given another end.
            (*from, *next) = ((at, remaining), (at, remaining));
        }
        let (seconds, given) = (at - from.0, from.1 - remaining);
        if at - next.0 >= HALF_DAY {
            (*from, *next) = (*next, (at, remaining));
        }
        (seconds >= LEAST && given > 0.0).then(|| remaining * seconds / given)
    }
}

impl Collector for Sequences {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "sequences";
    const HELP: &'static str = "How much of each sequence is used, and when it will run out.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&USED, &REMAINING, &EXHAUSTED_IN, &UNREADABLE];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let answers = session.read_all(&[Query::new(SQL).int8(&MOST), UNREAD.into()]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            at: session.seconds(),
            datname: session.server().datname.clone(),
            sequences: Row::all(next())?,
            unreadable: Row::one::<SequencesUnread>(next())?.unreadable,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        sink.number(&UNREADABLE, &[&rows.datname], rows.unreadable);
        state.0.retain(|oid, _| rows.sequences.iter().any(|sequence| sequence.oid == *oid));
        for sequence in rows.sequences.iter().filter(|sequence| sequence.readable) {
            let labels = [&*rows.datname, &sequence.schemaname, &sequence.sequencename];
            sink.number(&USED, &labels, sequence.used);
            sink.number(&REMAINING, &labels, sequence.remaining);
            let left = sequence.remaining.and_then(|n| state.left(sequence.oid, rows.at, n));
            sink.number(&EXHAUSTED_IN, &labels, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn rows(at: f64, remaining: f64) -> Rows {
        let sequence = |oid, name: &str, readable| SequenceRow {
            oid,
            schemaname: "public".to_owned(),
            sequencename: name.to_owned(),
            readable,
            used: readable.then_some(0.25),
            remaining: readable.then_some(remaining),
        };
        let sequences = vec![sequence(1, "orders\"_id", true), sequence(2, "hidden", false)];
        Rows { at, datname: "app".to_owned(), sequences, unreadable: 1.0 }
    }

    #[test]
    fn golden_and_the_end_is_told_from_the_pace() {
        let labels = ["app", "public", "orders\"_id"];
        let mut state = State::default();
        let mut left = |at, remaining| {
            let families = poll(&Sequences, &mut state, rows(at, remaining));
            value(&families, "pg_sequence_exhausted_in_seconds", &labels)
        };
        assert_eq!(left(0.0, 10_000.0), None);
        assert_eq!(left(60.0, 9_900.0), None, "too soon to tell");
        assert_eq!(left(600.0, 9_000.0), Some(5_400.0));
        assert_eq!(left(660.0, 20_000.0), None, "set back");
        assert_eq!(left(2_660.0, 20_000.0), None, "nothing was given out");
        assert_eq!(left(4_660.0, 18_000.0), Some(36_000.0));
        // What happened two half days ago does not count any more.
        left(50_000.0, 18_000.0);
        assert_eq!(left(100_000.0, 18_000.0), Some(18_000.0 * 99_340.0 / 2_000.0));
        assert_eq!(left(100_600.0, 17_000.0), Some(17_000.0 * 50_600.0 / 1_000.0));
        check("sequences", &poll(&Sequences, &mut state, rows(101_000.0, 16_000.0)));
    }
}
