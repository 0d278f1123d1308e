//! The section about partitions: runway, gaps, sizes.
//!
//! Must not: judge, or say in other words what the rules say; or read the clock.

use super::advice::Advice;
use super::date;
use super::document::{Block, Cell, Line, Mark, Table, figure, name, words};
use super::gather::{Gathered, ReportedDatabase};
use super::plot::{Plot, PlotUnit, Stretch};
use crate::derive::units::{bytes, seconds};
use crate::findings::{Finding, Partitioned};

/// One partitioned table, with what the rules find of it.
struct RootSection<'a> {
    database: &'a ReportedDatabase,
    facts: &'a Partitioned,
    found: Vec<&'a Finding>,
}

impl RootSection<'_> {
    fn mark(&self) -> Mark {
        match self.found.iter().map(|f| Mark::from(f.severity)).max() {
            Some(mark) => mark,
            None if self.facts.runway.is_none() => Mark::Info,
            None => Mark::Good,
        }
    }

    /// What the rules say, or how long it takes rows.
    fn verdict(&self) -> String {
        if !self.found.is_empty() {
            let all: Vec<&str> = self.found.iter().map(|f| f.evidence.as_str()).collect();
            return all.join(" ");
        }
        match self.facts.runway {
            Some((left, _)) if left.is_infinite() => "no end".to_owned(),
            Some((left, _)) => format!("runway {}", seconds(left)),
            None => {
                let why = self.facts.reason.unwrap_or("no time in its key");
                format!("runway not known ({why})")
            }
        }
    }
}

/// Every partitioned table, most urgent first.
fn roots<'a>(gathered: &'a Gathered, advice: &'a Advice) -> Vec<RootSection<'a>> {
    let mut roots = Vec::new();
    for database in &gathered.databases {
        for facts in database.facts.partitioned.iter().flatten() {
            let found = advice.about_partitions(&database.name, &facts.name);
            roots.push(RootSection { database, facts, found });
        }
    }
    let urgency = |r: &RootSection| r.facts.runway.map_or(f64::INFINITY, |(left, _)| left);
    roots.sort_by(|a, b| {
        b.mark()
            .cmp(&a.mark())
            .then(urgency(a).total_cmp(&urgency(b)))
            .then(a.facts.name.cmp(&b.facts.name))
    });
    roots
}

/// The section.
pub fn section(gathered: &Gathered, advice: &Advice, out: &mut Vec<Block>) {
    out.push(Block::Section("partitions", "Partition health"));
    let roots = roots(gathered, advice);
    if roots.is_empty() {
        out.push(Block::Text(Line::from("No partitioned table.")));
        return;
    }
    let rows = roots.iter().map(|r| {
        let until = r.facts.until.map(|t| match t.is_finite() {
            true => date(t),
            false => "no end".to_owned(),
        });
        vec![
            name(r.facts.name.display()),
            Cell::from(r.mark()),
            words(r.verdict()),
            figure(until),
            figure(Some(format!("{:.0}", r.facts.partitions))),
            figure(r.facts.default_rows.map(|n| format!("{n:.0}"))),
            figure(Some(bytes(r.facts.bytes))),
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
        caption: "Time covered by partitions (blue) and not covered (red)".to_owned(),
        now: gathered.to,
        rows: roots
            .iter()
            .filter_map(|r| {
                let name = r.facts.name.display();
                let stretches = stretches(r.database.covered.get(&name)?, gathered.to);
                (!stretches.is_empty()).then_some((name, stretches))
            })
            .collect(),
    }));
    let sizes = roots.iter().map(|r| (r.facts.name.display(), r.facts.bytes)).collect();
    out.push(Block::Plot(Plot::Bars {
        caption: "Size of all partitions of a table, without indexes and TOAST (estimated)"
            .to_owned(),
        unit: PlotUnit::Bytes,
        rows: sizes,
    }));
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
