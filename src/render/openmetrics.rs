//! The OpenMetrics text format 1.0, as Prometheus reads it.
//!
//! Must not: need anything beside the messages of [`super::model`].

use std::collections::HashSet;
use std::fmt::Write;

use super::model::{MetricFamily, MetricType, Point};

/// The text of families, `# EOF` at its end.
pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut out = String::with_capacity(1 << 16);
    let names: HashSet<&str> = families.iter().map(MetricFamily::name).collect();
    for family in families {
        write_family(&mut out, family, &names);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily, names: &HashSet<&str>) {
    let (kind, name) = match (family.r#type(), family.name().strip_suffix("_total")) {
        // Only the samples of a counter end in `_total`, and all of them do; unless a metric of the user's own has
        // the name that is left.
        (MetricType::Counter, Some(name)) if !names.contains(name) => ("counter", name),
        (MetricType::Gauge, _) => ("gauge", family.name()),
        (MetricType::Histogram, _) => ("histogram", family.name()),
        // Counters that postgres_exporter calls otherwise keep their name in its profile.
        _ => ("unknown", family.name()),
    };
    line(out, format_args!("# TYPE {name} {kind}"));
    if !family.unit().is_empty() {
        line(out, format_args!("# UNIT {name} {}", family.unit()));
    }
    line(out, format_args!("# HELP {name} {}", Escaped(family.help())));
    for point in &family.metric {
        write_point(out, name, kind, point);
    }
}

fn write_point(out: &mut String, name: &str, kind: &str, point: &Point) {
    if let Some(counter) = &point.counter {
        let suffix = if kind == "counter" { "_total" } else { "" };
        sample(out, (name, suffix), point, None, number(counter.value()));
    } else if let Some(gauge) = &point.gauge {
        sample(out, (name, ""), point, None, number(gauge.value()));
    } else if let Some(untyped) = &point.untyped {
        sample(out, (name, ""), point, None, number(untyped.value()));
    } else if let Some(histogram) = &point.histogram {
        let count = histogram.sample_count().to_string();
        for bucket in &histogram.bucket {
            let (le, count) = (canonical(bucket.upper_bound()), bucket.cumulative_count());
            sample(out, (name, "_bucket"), point, Some(&le), count.to_string());
        }
        sample(out, (name, "_bucket"), point, Some("+Inf"), count.clone());
        sample(out, (name, "_count"), point, None, count);
        sample(out, (name, "_sum"), point, None, number(histogram.sample_sum()));
        if let Some(created) = &histogram.created_timestamp {
            let created = format!("{}.{:03}", created.seconds, created.nanos / 1_000_000);
            sample(out, (name, "_created"), point, None, created);
        }
    }
}

fn sample(
    out: &mut String,
    (name, suffix): (&str, &str),
    point: &Point,
    le: Option<&str>,
    value: String,
) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = point.label.iter().map(|pair| (pair.name(), pair.value()));
    let mut open = '{';
    for (label, value) in labels.chain(le.map(|le| ("le", le))) {
        out.push(open);
        open = ',';
        // Writing to a string cannot fail.
        let _ = write!(out, "{label}=\"{}\"", Escaped(value));
    }
    if open == ',' {
        out.push('}');
    }
    out.push(' ');
    out.push_str(&value);
    out.push('\n');
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

/// A bound as the format and Prometheus' other parsers spell it, so that a series keeps its `le`
/// when a scraper changes from one format to another: `1.0`, `0.05`, `6.103515625e-05`.
fn canonical(bound: f64) -> String {
    if bound != 0.0 && bound.abs() < 1e-4 {
        let text = format!("{bound:e}");
        let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
        return format!("{digits}e-{exponent:0>2}");
    }
    if bound.fract() == 0.0 && bound.abs() < 1e15 {
        return format!("{bound:.1}");
    }
    number(bound)
}

/// Text with backslashes, quotes and line ends escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model;
    use super::*;
    use crate::metric::{Histogram, Metric, Sink};
    use std::sync::Arc;

    static G: Metric = Metric::gauge("pg_g_bytes", &["datname"], "A \"g\\\".");
    static C: Metric = Metric::counter("pg_c_seconds_total", &[], "C.");
    static H: Metric = Metric::histogram("pg_h_seconds", &["datname"], "H.");
    static U: Metric = Metric::untyped("pg_u_count", &[], "U.");
    static N: Metric = Metric::untyped("pg_n_hit", &[], "N.").counter_there();
    static CATALOGUE: &[&Metric] = &[&G, &C, &H, &U, &N];

    #[test]
    fn a_counter_that_postgres_exporter_calls_otherwise_keeps_its_name() {
        let sink = Sink::new(CATALOGUE, 10);
        let mut sink = sink.like_postgres_exporter(Some("db:5432".into()));
        sink.number(&N, &[], 7.0);
        let want = "# TYPE pg_n_hit unknown\n# HELP pg_n_hit N.\npg_n_hit 7\n# EOF\n";
        assert_eq!(encode(&model::families(&sink.finish().0, &[])), want);
    }

    #[test]
    fn every_type_is_written_as_the_format_wants_it() {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.number(&G, &["a\"b\\c\nd"], f64::INFINITY);
        sink.number(&G, &["é"], -1.5);
        sink.number(&C, &[], 7.0);
        sink.number(&U, &[], 3.0);
        let histogram = Histogram {
            bounds: Arc::from([2f64.powi(-14), 0.05, 1.0]),
            cumulative: Box::from([0, 2, 5]),
            count: 7,
            sum: 1.25,
            native: None,
            created: Some(1_700_000_000.25),
        };
        sink.histogram(&H, &["x"], Arc::new(histogram));
        let want = r#"# TYPE pg_c_seconds counter
# UNIT pg_c_seconds seconds
# HELP pg_c_seconds C.
pg_c_seconds_total 7
# TYPE pg_g_bytes gauge
# UNIT pg_g_bytes bytes
# HELP pg_g_bytes A \"g\\\".
pg_g_bytes{datname="a\"b\\c\nd"} +Inf
pg_g_bytes{datname="é"} -1.5
# TYPE pg_h_seconds histogram
# UNIT pg_h_seconds seconds
# HELP pg_h_seconds H.
pg_h_seconds_bucket{datname="x",le="6.103515625e-05"} 0
pg_h_seconds_bucket{datname="x",le="0.05"} 2
pg_h_seconds_bucket{datname="x",le="1.0"} 5
pg_h_seconds_bucket{datname="x",le="+Inf"} 7
pg_h_seconds_count{datname="x"} 7
pg_h_seconds_sum{datname="x"} 1.25
pg_h_seconds_created{datname="x"} 1700000000.250
# TYPE pg_u_count unknown
# HELP pg_u_count U.
pg_u_count 3
# EOF
"#;
        assert_eq!(encode(&model::families(&sink.finish().0, &[])), want);
    }

    #[test]
    fn bounds_are_spelt_as_by_the_other_parsers() {
        let spelt = [64.0, 0.0, 0.0001220703125, 0.00006103515625, 1e-7, 0.01].map(canonical);
        assert_eq!(spelt, ["64.0", "0.0", "0.0001220703125", "6.103515625e-05", "1e-07", "0.01"]);
    }
}
