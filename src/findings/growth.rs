//! The rule about growth.
//!
//! Must not: call an estimate a measurement.

use super::facts::{DatabaseFacts, Growth};
use super::{Check, Finding, Part, Rule, Severity, Subject, Unit, Verdict, When};
use crate::derive::units::{bytes, seconds};

const DAY: f64 = 86_400.0;
/// Growth in a year that is worth a word.
const MUCH: f64 = 1_073_741_824.0;

pub(super) static RULES: &[&Rule] = &[&Rule {
    id: "storage.growth",
    formerly: &[],
    title: "Plan for the database's growth",
    severity: Severity::Info,
    finds: "the database doubles within a year, by 1 GB or more, at the growth of its complete partitions by \
            time over a day or longer; retired data are subtracted if max_age is set or the exporter has seen them go",
    why: "A full disk stops the server.",
    source: "pg_total_relation_size() of partitions, pg_class.relpartbound",
    alerts: &[],
    part: Part::Growth,
    when: When::OnRequest,
    check: Check::Database(growth),
}];

fn growth(d: &DatabaseFacts) -> Verdict {
    let whole = d.growth.as_ref()?;
    let tables = whole.tables.iter().filter(|t| t.span >= DAY).cloned().collect();
    let g = Growth { tables, ..whole.clone() };
    let span = g.tables.iter().map(|t| t.span).reduce(f64::min)?;
    let year = g.after(365.0);
    if year < g.bytes * 2.0 || year - g.bytes < MUCH {
        return Some(Vec::new());
    }
    let ahead = [30, 90, 365]
        .map(|days: u16| format!("{} in {days} days", bytes(g.after(f64::from(days)))));
    let per_day: f64 = g.tables.iter().map(|t| t.per_day).sum();
    let how = if g.tables.iter().any(|t| t.estimated) { "estimated" } else { "measured" };
    let evidence = format!(
        "{} of tables and indexes now, and {} a day by the sizes ({how}) of partitions that were filled \
         over {} or more: {} if this goes on, and only max_age drops data.",
        bytes(g.bytes),
        bytes(per_day),
        seconds(span),
        ahead.join(", ")
    );
    let finding = Finding::new(Subject::Database, evidence)
        .figure("size", g.bytes, Unit::Bytes)
        .figure("in_a_year", year, Unit::Bytes)
        .advice(
            "Add disk space, or retire old partitions (`pgrunway plan --retire`). If a job does so already, set \
             max_age of the partition rule to its retention.",
        );
    Some(vec![finding])
}
