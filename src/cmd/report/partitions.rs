//! The section about partitions: runway, gaps, sizes.
//!
//! Must not: read the clock; the server's at the time of the snapshot counts.

use super::document::{Block, Cell, Line, Mark, Table, figure, name, words};
use super::gather::Gathered;
use super::plot::{Plot, Stretch, Unit};
use super::{date, view};
use crate::derive::units::{bytes, seconds};

/// One partitioned table.
pub struct Root<'a> {
    /// Labels.
    pub datname: &'a str,
    /// `schema.table`.
    pub name: String,
    /// Seconds; +Inf without end.
    pub runway: Option<f64>,
    /// Seconds.
    pub required: Option<f64>,
    /// Unix seconds.
    pub covered_until: Option<f64>,
    /// Whether now is covered.
    pub covered: Option<f64>,
    /// Unix seconds at which coverage begins again after a gap.
    pub next: Option<f64>,
    /// Direct partitions.
    pub count: Option<f64>,
    /// Whether there is a DEFAULT.
    pub has_default: bool,
    /// Estimated rows in DEFAULT.
    pub default_rows: Option<f64>,
    /// Estimated bytes.
    pub size: Option<f64>,
    /// Why the runway is unknown.
    pub reason: Option<&'a str>,
}

impl Root<'_> {
    /// How bad it is, and the verdict.
    pub fn verdict(&self) -> (Mark, String) {
        let Some(left) = self.runway else {
            let why = self.reason.unwrap_or("no time in its key");
            return (Mark::Info, format!("no runway can be known ({why})"));
        };
        if left < 0.0 || self.covered == Some(0.0) {
            let since = match self.covered_until {
                Some(until) if until != 0.0 => {
                    format!("since {} UTC, {} ago", date(until), seconds(-left))
                }
                _ => "and it never was covered".to_owned(),
            };
            let fate = if self.has_default { "fall into DEFAULT" } else { "fail" };
            return (Mark::Bad, format!("inserts of new rows {fate} {since}"));
        }
        let short = self.required.is_some_and(|required| left < required);
        let text = if left.is_infinite() { "no end".to_owned() } else { seconds(left) };
        match (short, self.next) {
            (true, _) => {
                let required = self.required.map(seconds).unwrap_or_default();
                (Mark::Bad, format!("runway {text}, {required} required"))
            }
            (false, Some(_)) => (Mark::Warning, format!("runway {text}, then a gap")),
            (false, None) => (Mark::Good, format!("runway {text}")),
        }
    }
}

/// Every partitioned table, most urgent first.
pub fn roots(gathered: &Gathered) -> Vec<Root<'_>> {
    let snapshot = &*gathered.snapshot;
    let mut roots = Vec::new();
    for s in view::series(snapshot, "pg_partition_supported", &[]) {
        let (datname, schema, table) =
            (s.label("datname"), s.label("schemaname"), s.label("relname"));
        let of = [("datname", datname), ("schemaname", schema), ("relname", table)];
        let get = |metric: &str| view::number(snapshot, metric, &of);
        roots.push(Root {
            datname,
            name: format!("{schema}.{table}"),
            runway: get("pg_partition_runway_seconds"),
            required: get("pg_partition_runway_required_seconds"),
            covered_until: get("pg_partition_covered_until_timestamp_seconds"),
            covered: get("pg_partition_covered"),
            next: get("pg_partition_next_coverage_timestamp_seconds"),
            count: get("pg_partition_count"),
            has_default: get("pg_partition_has_default") == Some(1.0),
            default_rows: get("pg_partition_default_rows"),
            size: get("pg_partition_size_bytes"),
            reason: Some(s.label("reason")).filter(|reason| !reason.is_empty()),
        });
    }
    let urgency = |r: &Root| r.runway.unwrap_or(f64::INFINITY);
    roots.sort_by(|a, b| {
        b.verdict()
            .0
            .cmp(&a.verdict().0)
            .then(urgency(a).total_cmp(&urgency(b)))
            .then(a.name.cmp(&b.name))
    });
    roots
}

/// The section.
pub fn section(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("partitions", "Partition health"));
    let roots = roots(gathered);
    if roots.is_empty() {
        out.push(Block::Text(Line::from("No partitioned table.")));
        return;
    }
    let rows = roots.iter().map(|r| {
        let (mark, verdict) = r.verdict();
        vec![
            name(r.name.as_str()),
            Cell::from(mark),
            words(verdict),
            figure(
                r.covered_until
                    .filter(|t| *t != 0.0)
                    .map(|t| if t.is_finite() { date(t) } else { "no end".to_owned() }),
            ),
            figure(r.count.map(|n| format!("{n:.0}"))),
            figure(r.default_rows.map(|n| format!("{n:.0}"))),
            figure(r.size.map(bytes)),
        ]
    });
    out.push(Block::Table(Table {
        head: vec![
            "table",
            "status",
            "what that means",
            "covered until (UTC)",
            "partitions",
            "rows in DEFAULT",
            "size",
        ],
        rows: rows.collect(),
    }));
    out.push(Block::Plot(Plot::Timeline {
        caption: "What partitions cover (blue), and what none does (red)".to_owned(),
        now: gathered.to,
        rows: roots
            .iter()
            .filter_map(|r| {
                let database = gathered.databases.iter().find(|d| d.name == r.datname)?;
                let stretches = stretches(database.covered.get(&r.name)?, gathered.to);
                (!stretches.is_empty()).then(|| (r.name.clone(), stretches))
            })
            .collect(),
    }));
    let sizes: Vec<(String, f64)> =
        roots.iter().filter_map(|r| Some((r.name.clone(), r.size?))).collect();
    if !sizes.is_empty() {
        out.push(Block::Plot(Plot::Bars {
            caption: "Size of all partitions of a table, without indexes and TOAST (estimated)"
                .to_owned(),
            unit: Unit::Bytes,
            rows: sizes,
        }));
    }
    out.push(Block::Source(
        "pg_class.relpartbound, pg_inherits; sizes and rows by pg_class.relpages and reltuples, as of the \
         last VACUUM or ANALYZE"
            .to_owned(),
    ));
}

/// What is covered, the gaps between, and the one that lasts until now.
fn stretches(covered: &[(f64, f64)], now: f64) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    if let Some(&(from, _)) = covered.first().filter(|(from, _)| *from > now) {
        all.push(Stretch { from: now, to: from, gap: true });
    }
    for &(from, to) in covered {
        if let Some(last) = all.last().filter(|last| last.to < from) {
            all.push(Stretch { from: last.to, to: from, gap: true });
        }
        all.push(Stretch { from, to, gap: false });
    }
    if let Some(last) = all.last().filter(|last| last.to < now) {
        all.push(Stretch { from: last.to, to: now, gap: true });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_is_drawn_and_the_one_that_lasts() {
        let drawn = |covered: &[(f64, f64)], now| -> Vec<(f64, f64, bool)> {
            stretches(covered, now).iter().map(|s| (s.from, s.to, s.gap)).collect()
        };
        let covered = [(1.0, 2.0), (3.0, 5.0)];
        let both = [(1.0, 2.0, false), (2.0, 3.0, true), (3.0, 5.0, false)];
        assert_eq!(drawn(&covered, 4.0), both);
        assert_eq!(drawn(&covered, 2.5), both, "a gap ahead of which there is coverage");
        assert_eq!(drawn(&covered, 7.0)[3], (5.0, 7.0, true));
        let endless = [(f64::NEG_INFINITY, f64::INFINITY)];
        assert_eq!(drawn(&endless, 7.0), [(f64::NEG_INFINITY, f64::INFINITY, false)]);
        assert_eq!(drawn(&[(3.0, 5.0)], 1.0), [(1.0, 3.0, true), (3.0, 5.0, false)]);
        assert_eq!(drawn(&[], 7.0), []);
    }
}
