//! The figures that the demo shows, as the exporter itself reports them: read from its `/metrics`.
//!
//! Must not: compute a figure that the exporter does not publish.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;

use super::setup::DATABASE;
use crate::cmd::fetch;
use crate::cmd::trading::drive::QUERIES;
use crate::collectors::cache::HitRatio;
use crate::collectors::partitions::published::RunwayLeft;
use crate::collectors::published::Published;
use crate::collectors::statements::published::{
    End, Quantiles, StatementHigh, StatementLatency, StatementLow,
};
use crate::pg::{Admin, Query, Row, columns};
use crate::snapshot::UP;

const LIMIT: Duration = Duration::from_secs(5);

/// What one look at `/metrics` gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScreenFigures {
    /// `pg_up`.
    pub up: Option<bool>,
    /// `pg_statement_latency_seconds`, by the order of [`QUERIES`].
    pub latencies: [Quantiles; QUERIES.len()],
    /// `pg_partition_runway_seconds` by table.
    pub runways: Vec<(String, f64)>,
    /// `pg_cache_hit_ratio`.
    pub cache_hit_ratio: Option<f64>,
}

impl ScreenFigures {
    /// Whether everything that is to be shown is there.
    pub fn complete(&self) -> bool {
        self.latencies.iter().all(|l| l.p95.is_some()) && self.runways.len() >= 2
    }
}

/// The `queryid` label of each of [`QUERIES`], once it has been called.
pub type QueryIds = [Option<String>; QUERIES.len()];

/// Looks up the ids that are still unknown; they stay the same for as long as the tables do.
///
/// # Errors
/// When the database cannot be asked.
pub async fn find_query_ids(admin: &Admin, ids: &mut QueryIds) -> anyhow::Result<()> {
    if ids.iter().all(Option::is_some) {
        return Ok(());
    }
    let app = super::setup::APP.to_owned();
    let sql = Query::new(
        "SELECT s.queryid::text AS queryid, s.query AS query \
           FROM public.pg_stat_statements s \
           JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
           JOIN pg_catalog.pg_roles r ON r.oid = s.userid \
          WHERE d.datname = pg_catalog.current_database() AND r.rolname = $1",
    );
    columns! {
        struct Normalised {
            queryid: Option<String>,
            query: String,
        }
    }
    for row in Row::all::<Normalised>(&admin.rows(sql.text(&app)).await?)? {
        if let Some(index) = QUERIES.iter().position(|q| row.query.contains(q.marker())) {
            ids[index] = row.queryid;
        }
    }
    Ok(())
}

/// Reads `/metrics` and takes the figures out of it.
///
/// # Errors
/// When the exporter does not answer, or not with 200.
pub async fn read(addr: SocketAddr, ids: &QueryIds) -> anyhow::Result<ScreenFigures> {
    let body =
        timeout(LIMIT, fetch::get(addr, "/metrics")).await.context("no answer in time")??;
    Ok(pick(&body, ids))
}

fn pick(exposition: &str, ids: &QueryIds) -> ScreenFigures {
    let mut figures = ScreenFigures::default();
    let ends = [(StatementLow::METRIC.name, End::Low), (StatementHigh::METRIC.name, End::High)];
    for (name, labels, value) in exposition.lines().filter_map(parse_line) {
        let label = |name: &str| {
            labels.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str()).unwrap_or_default()
        };
        if name == UP.name {
            figures.up = Some(value == 1.0);
        } else if label("datname") != DATABASE {
            continue;
        } else if name == StatementLatency::METRIC.name {
            let id = Some(label("queryid"));
            if let Some(i) = ids.iter().position(|known| known.as_deref() == id) {
                figures.latencies[i].take(label("window"), label("quantile"), value);
            }
        } else if let Some(end) = ends.iter().find(|(of, _)| *of == name).map(|(_, end)| *end) {
            let id = Some(label("queryid"));
            if let Some(i) = ids.iter().position(|known| known.as_deref() == id) {
                let labels = [label("window"), label("quantile"), label("level")];
                figures.latencies[i].take_end(end, labels, value);
            }
        } else if name == RunwayLeft::METRIC.name {
            figures.runways.push((label("relname").to_owned(), value));
        } else if name == HitRatio::METRIC.name {
            figures.cache_hit_ratio = Some(value);
        }
    }
    figures
}

type SampleLine<'a> = (&'a str, Vec<(&'a str, String)>, f64);

/// A sample line of the text format; `None` for comments and what is no sample.
fn parse_line(line: &str) -> Option<SampleLine<'_>> {
    let end = line.find(['{', ' '])?;
    let name = &line[..end];
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let mut labels = Vec::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            let (text, after) = quoted(value)?;
            labels.push((label.trim_start_matches(','), text));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// The value up to its closing quote, unescaped, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_own_figures_out_of_an_exposition() {
        let mut ids = QueryIds::default();
        ids[1] = Some("-42".to_owned());
        let text = "# HELP pg_up Whether.\n# TYPE pg_up gauge\npg_up 1\n\
            pg_statement_latency_seconds{datname=\"trading\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.95\"} 0.0012\n\
            pg_statement_latency_seconds{datname=\"trading\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.5\"} 5e-4\n\
            pg_statement_latency_low_seconds{datname=\"trading\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.95\",level=\"likely\"} 0.0011\n\
            pg_statement_latency_low_seconds{datname=\"trading\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.95\",level=\"certain\"} 0.0001\n\
            pg_statement_latency_high_seconds{datname=\"trading\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.95\",level=\"likely\"} 0.0015\n\
            pg_statement_latency_seconds{datname=\"other\",usename=\"app\",queryid=\"-42\",window=\"5m\",quantile=\"0.5\"} 9\n\
            pg_partition_runway_seconds{datname=\"trading\",schemaname=\"a\\\"}\\\\b,\",relname=\"orders\"} -1.9e+06\n\
            pg_partition_runway_seconds{datname=\"trading\",schemaname=\"public\",relname=\"t\"} +Inf\n\
            pg_cache_hit_ratio{datname=\"trading\"} 0.99 1700000000000\n";
        let figures = pick(text, &ids);
        assert_eq!(figures.up, Some(true));
        let expected = Quantiles {
            p50: Some(5e-4),
            p95: Some(0.0012),
            p99: None,
            p95_low: Some(0.0011),
            p95_high: Some(0.0015),
        };
        assert!((figures.latencies[1].p95_off().unwrap() - 0.0003).abs() < 1e-12);
        assert_eq!(figures.latencies[1], expected);
        assert_eq!(figures.latencies[0], Quantiles::default());
        assert_eq!(
            figures.runways,
            [("orders".to_owned(), -1.9e6), ("t".to_owned(), f64::INFINITY)]
        );
        assert_eq!(figures.cache_hit_ratio, Some(0.99));
        assert!(!figures.complete());
    }

    #[test]
    fn lines_that_are_no_samples_are_left_out() {
        for line in ["", "# EOF", "a", "a{", "a{b=\"c", "a{b=\"c\"}", "a{b} 1", "a x"] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
