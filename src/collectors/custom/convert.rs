//! From an answer to samples, as postgres_exporter reads one: which value is a number, what a label says, and what is
//! wrong with the rest.
//!
//! Must not: let a value into an error.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::config::{ColumnUsage, CustomQuery, QueryColumn};
use crate::error::CollectError;
use crate::metric::Histogram;
use crate::pg::{WrittenAnswer, WrittenCell};

/// A value that goes out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FoundValue {
    Number(f64),
    Histogram(Arc<Histogram>),
}

/// What one row gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ReadRow {
    /// In the order of the query's labels.
    pub(super) labels: Vec<String>,
    /// By the place of the column in the query.
    pub(super) values: Vec<(usize, FoundValue)>,
    /// By name: columns that the file does not name.
    pub(super) unnamed: Vec<(String, f64)>,
}

/// What one answer gives.
#[derive(Debug, Default)]
pub(super) struct WrittenReading {
    pub(super) rows: Vec<ReadRow>,
    /// What could not be read of it.
    pub(super) faults: Vec<CollectError>,
}

/// ColumnFaults by column, each once with how many rows have it.
#[derive(Default)]
struct ColumnFaults(BTreeMap<(String, &'static str), usize>);

impl ColumnFaults {
    fn add(&mut self, column: &str, what: &'static str) {
        *self.0.entry((column.to_owned(), what)).or_default() += 1;
    }

    fn errors(self) -> Vec<CollectError> {
        // One error with all of them: the first decides its kind.
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|((column, what), count)| match count {
                0 => format!("{column}: {what}"),
                1 => format!("{column}: {what} (in 1 row)"),
                n => format!("{column}: {what} (in {n} rows)"),
            })
            .collect();
        let Some(((column, _), _)) = self.0.into_iter().next() else { return Vec::new() };
        let text = texts.join("; ");
        let source = text.strip_prefix(&format!("{column}: ")).unwrap_or(&text).to_owned();
        vec![CollectError::Decode { column, source: source.into() }]
    }

    /// Of the whole answer, not of rows.
    fn note(&mut self, column: &str, what: &'static str) {
        self.0.entry((column.to_owned(), what)).or_insert(0);
    }
}

/// Reads an answer of a server of this version.
pub(super) fn read(
    query: &CustomQuery,
    answer: &WrittenAnswer,
    version_num: i32,
    datname: &str,
) -> WrittenReading {
    if answer.rows.is_empty() {
        return WrittenReading::default();
    }
    let mut faults = ColumnFaults::default();
    // The last of two columns of the same name counts, as for postgres_exporter.
    let at = |name: &str| answer.columns.iter().rposition(|column| column == name);
    let counts = |column: &QueryColumn| column.versions.admit(version_num);
    let parts: HashSet<String> = query
        .columns
        .iter()
        .filter(|column| column.usage == ColumnUsage::Histogram && counts(column))
        .flat_map(|column| ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", column.name)))
        .collect();
    for column in query.columns.iter().filter(|c| c.usage != ColumnUsage::Discard && counts(c)) {
        if at(&column.name).is_none() && !parts.contains(&column.name) {
            faults.note(&column.name, "the answer has no such column");
        }
    }
    let known = |name: &String| query.columns.iter().any(|column| column.name == *name);
    let unnamed: Vec<usize> = (0..answer.columns.len())
        .filter(|i| {
            answer.columns.get(*i).is_some_and(|name| !known(name) && !parts.contains(name))
        })
        .collect();
    if !query.theirs {
        for i in &unnamed {
            let what = "the query's `metrics` do not name it; name it, or give it `usage: DISCARD`";
            faults.note(&answer.columns[*i], what);
        }
    }
    let reader = RowReader { answer, at: &at };
    let mut rows = Vec::with_capacity(answer.rows.len());
    let mut seen = HashSet::new();
    for cells in &answer.rows {
        let mut row = ReadRow::default();
        let mut whole = true;
        for column in query.columns.iter().filter(|column| column.usage == ColumnUsage::Label) {
            let cell = at(&column.name).and_then(|i| cells.get(i));
            match label(cell.filter(|_| counts(column)).unwrap_or(&WrittenCell::Null)) {
                Some(text) => row.labels.push(text),
                None => {
                    faults.add(&column.name, "it is too long for a label");
                    whole = false;
                }
            }
        }
        if query.adds_datname() {
            row.labels.push(datname.to_owned());
        }
        if !whole {
            continue;
        }
        for (place, column) in query.columns.iter().enumerate().filter(|(_, c)| counts(c)) {
            if parts.contains(&column.name) {
                continue;
            }
            match reader.value(column, cells) {
                Ok(Some(found)) => row.values.push((place, found)),
                Ok(None) => {}
                Err((column, what)) => faults.add(&column, what),
            }
        }
        if query.theirs {
            for i in &unnamed {
                let name = &answer.columns[*i];
                match cells.get(*i).map_or(Ok(None), |cell| number(cell, answer.as_text)) {
                    Ok(Some(value)) if name.bytes().all(is_plain) => {
                        row.unnamed.push((name.clone(), value));
                    }
                    Ok(Some(_)) => faults.add(name, "its name fits no metric"),
                    Ok(None) => {}
                    // As postgres_exporter: nobody said that it is a number.
                    Err(_) => {}
                }
            }
        }
        if row.values.is_empty() && row.unnamed.is_empty() {
            continue;
        }
        if !seen.insert(row.labels.clone()) {
            faults.add("metrics", "two rows have the same labels, and the first counts");
            continue;
        }
        rows.push(row);
    }
    WrittenReading { rows, faults: faults.errors() }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

type ConvertFault = (String, &'static str);

struct RowReader<'a, F> {
    answer: &'a WrittenAnswer,
    at: &'a F,
}

impl<F: Fn(&str) -> Option<usize>> RowReader<'_, F> {
    /// What a column of a row gives; nothing for what is NULL or no number at all (NaN).
    fn value(
        &self,
        column: &QueryColumn,
        cells: &[WrittenCell],
    ) -> Result<Option<FoundValue>, ConvertFault> {
        let Some(cell) = (self.at)(&column.name).and_then(|i| cells.get(i)) else {
            return Ok(None);
        };
        let fault = |what| (column.name.clone(), what);
        let loose = self.answer.as_text;
        let number = match &column.usage {
            ColumnUsage::Discard | ColumnUsage::Label => return Ok(None),
            ColumnUsage::Gauge => number(cell, loose).map_err(fault)?,
            ColumnUsage::Counter => match number(cell, loose).map_err(fault)? {
                Some(value) if value < 0.0 || value.is_infinite() => {
                    return Err(fault("a counter below 0 or without an end"));
                }
                value => value,
            },
            ColumnUsage::Mapped(mapping) => match cell {
                WrittenCell::Null => None,
                cell => {
                    let text = label(cell).unwrap_or_default();
                    let known = mapping.get(&text).copied();
                    Some(known.ok_or_else(|| fault("metric_mapping does not have its text"))?)
                }
            },
            ColumnUsage::Duration => milliseconds(cell, loose).map_err(fault)?,
            ColumnUsage::Histogram => return self.histogram(&column.name, cell, cells),
        };
        Ok(number.map(FoundValue::Number))
    }

    fn histogram(
        &self,
        name: &str,
        bounds: &WrittenCell,
        cells: &[WrittenCell],
    ) -> Result<Option<FoundValue>, ConvertFault> {
        let loose = self.answer.as_text;
        let part = |end: &str| -> Result<(&WrittenCell, String), ConvertFault> {
            let name = format!("{name}{end}");
            match (self.at)(&name).and_then(|i| cells.get(i)) {
                Some(cell) => Ok((cell, name)),
                None => Err((name, "the answer has no such column, which the histogram needs")),
            }
        };
        if *bounds == WrittenCell::Null {
            return Ok(None);
        }
        let wrong = "it is no array of numbers";
        let bounds = numbers(bounds, loose).ok_or_else(|| (name.to_owned(), wrong))?;
        let (counts, counts_name) = part("_bucket")?;
        let counts = numbers(counts, loose).ok_or((counts_name, wrong))?;
        let (sum, sum_name) = part("_sum")?;
        let sum = number(sum, loose).map_err(|what| (sum_name.clone(), what))?;
        let sum = sum.filter(|sum| sum.is_finite()).ok_or((sum_name, "it is no number"))?;
        let (count, count_name) = part("_count")?;
        let count = number(count, loose).map_err(|what| (count_name.clone(), what))?;
        let whole = |value: f64| (0.0..1.8e19).contains(&value).then_some(value);
        let count = whole(count.unwrap_or(0.0)).ok_or((count_name, "it is no count"))?;
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (bound, count) in bounds.into_iter().zip(counts) {
            // What is above all others is the count itself.
            if bound == f64::INFINITY {
                continue;
            }
            buckets.retain(|(known, _)| *known != bound);
            buckets.push((bound, count));
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let counts = buckets.iter().map(|(_, count)| *count).chain([count]);
        let counts: Vec<f64> = counts.collect();
        if counts.iter().any(|count| whole(*count).is_none()) || !counts.is_sorted() {
            let what = "its buckets fall, or hold more than its count";
            return Err((name.to_owned(), what));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked just now"
        )]
        let cumulative = buckets.iter().map(|(_, count)| *count as u64).collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked just now"
        )]
        let count = count as u64;
        let bounds = buckets.iter().map(|(bound, _)| *bound).collect();
        let histogram = Histogram { bounds, cumulative, count, sum, native: None, created: None };
        Ok(Some(FoundValue::Histogram(Arc::new(histogram))))
    }
}

/// A number; `None` for NULL and for NaN. Where all is read as text, times and truths are too.
fn number(cell: &WrittenCell, loose: bool) -> Result<Option<f64>, &'static str> {
    let value = match cell {
        WrittenCell::Null => return Ok(None),
        WrittenCell::Boolean(value) => f64::from(u8::from(*value)),
        #[expect(clippy::cast_precision_loss, reason = "as exact as a sample can be")]
        WrittenCell::Integer(value) => *value as f64,
        WrittenCell::Number(value) | WrittenCell::Time(value) => *value,
        WrittenCell::Text(text) => match text.as_str() {
            "true" if loose => 1.0,
            "false" if loose => 0.0,
            text => {
                return parsed(text)
                    .or_else(|what| if loose { time(text).ok_or(what) } else { Err(what) });
            }
        },
        WrittenCell::Milliseconds(_) => {
            return Err("an interval is no number: use extract(epoch from ...)");
        }
        WrittenCell::TooLong => return Err("a text that is too long is no number"),
        WrittenCell::List(_) | WrittenCell::Unread => return Err("it is no number"),
    };
    Ok(Some(value).filter(|value| !value.is_nan()))
}

fn parsed(text: &str) -> Result<Option<f64>, &'static str> {
    let value: f64 = text.parse().map_err(|_| "a text that is no number")?;
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err("a number beyond what a sample can hold (1.8e308)");
    }
    Ok(Some(value).filter(|value| !value.is_nan()))
}

/// A time or a day as the server writes it in JSON, in whole Unix seconds.
fn time(text: &str) -> Option<Option<f64>> {
    use jiff::civil::{Date, DateTime};
    #[expect(clippy::cast_precision_loss, reason = "seconds of thousands of years")]
    let seconds = |at: jiff::Timestamp| Some(at.as_second() as f64);
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(seconds(at));
    }
    let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
    let zoned = civil.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(seconds(zoned.timestamp()))
}

/// A duration in milliseconds: of an interval, of a text such as `1h2m3.5s`, or of a number of them.
fn milliseconds(cell: &WrittenCell, loose: bool) -> Result<Option<f64>, &'static str> {
    match cell {
        WrittenCell::Milliseconds(value) => Ok(Some(*value)),
        WrittenCell::Text(text) => match duration(text) {
            Some(value) => Ok(Some(value)),
            None => number(cell, loose).map_err(|_| "a text that is no duration such as 1h2m3.5s"),
        },
        other => number(other, loose),
    }
}

/// As Go reads it: `-1h2m3.5s`, with ns, us, ms, s, m and h.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let units = [
            ("ns", 1e-6),
            ("us", 1e-3),
            ("µs", 1e-3),
            ("μs", 1e-3),
            ("ms", 1.0),
            ("s", 1e3),
            ("m", 6e4),
            ("h", 3.6e6),
        ];
        let (unit, after) =
            units.into_iter().find_map(|(name, ms)| Some((ms, after.strip_prefix(name)?)))?;
        total += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    // Whole ones, as postgres_exporter's division gives them.
    Some(sign * total)
}

/// The numbers of an array.
fn numbers(cell: &WrittenCell, loose: bool) -> Option<Vec<f64>> {
    let all = |cells: &[WrittenCell]| {
        cells.iter().map(|cell| number(cell, loose).ok().flatten()).collect::<Option<Vec<_>>>()
    };
    match cell {
        WrittenCell::List(cells) => all(cells),
        WrittenCell::Text(text) => {
            let ends = [('[', ']'), ('{', '}')];
            let inside =
                ends.iter().find_map(|(a, b)| text.trim().strip_prefix(*a)?.strip_suffix(*b))?;
            let parts = inside.split(',').map(|part| part.trim().trim_matches('"'));
            let parts =
                parts.filter(|part| !part.is_empty()).map(|p| WrittenCell::Text(p.to_owned()));
            all(&parts.collect::<Vec<_>>())
        }
        _ => None,
    }
}

/// What a label says; `None` where it is too long.
fn label(cell: &WrittenCell) -> Option<String> {
    Some(match cell {
        WrittenCell::Null => String::new(),
        WrittenCell::Boolean(value) => value.to_string(),
        WrittenCell::Integer(value) => value.to_string(),
        WrittenCell::Number(value) => shortest(*value),
        WrittenCell::Time(value) => match value.is_finite() {
            true => format!("{value:.0}"),
            false => if *value > 0.0 { "infinity" } else { "-infinity" }.to_owned(),
        },
        WrittenCell::Milliseconds(value) => format!("{}ms", shortest(*value)),
        WrittenCell::Text(text) => text.clone(),
        WrittenCell::List(cells) => {
            let parts: Vec<String> =
                cells
                    .iter()
                    .map(|cell| {
                        if *cell == WrittenCell::Null {
                            Some("NULL".to_owned())
                        } else {
                            label(cell)
                        }
                    })
                    .collect::<Option<_>>()?;
            format!("{{{}}}", parts.join(","))
        }
        WrittenCell::TooLong | WrittenCell::Unread => return None,
    })
}

/// A number as Go's `%v` writes it: from 1e+06 on, and below 1e-4, with an exponent of two digits at least.
fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_postgres_exporter_takes_for_one() {
        let text = |t: &str| number(&WrittenCell::Text(t.to_owned()), false);
        assert_eq!(text("1.50"), Ok(Some(1.5)));
        assert_eq!(text("Infinity"), Ok(Some(f64::INFINITY)));
        assert_eq!((text("NaN"), number(&WrittenCell::Null, false)), (Ok(None), Ok(None)));
        assert!(text("1e400").unwrap_err().contains("beyond"));
        assert!(text("x").is_err() && text("true").is_err());
        assert_eq!(number(&WrittenCell::Boolean(true), false), Ok(Some(1.0)));
        assert_eq!(number(&WrittenCell::Number(f64::NAN), false), Ok(None));
        let loose = |t: &str| number(&WrittenCell::Text(t.to_owned()), true);
        assert_eq!(loose("true"), Ok(Some(1.0)));
        assert_eq!(loose("2026-11-29T00:00:01.5+00:00"), Ok(Some(1_795_910_401.0)));
        assert_eq!(loose("2026-11-29T00:00:01"), Ok(Some(1_795_910_401.0)));
        assert_eq!(loose("2026-11-29"), Ok(Some(1_795_910_400.0)));
        assert!(loose("draft").is_err());
    }

    #[test]
    fn durations_as_go_reads_them() {
        for (text, ms) in
            [("1m30s", 90_000.0), ("1.5h", 5.4e6), ("250us", 0.25), ("-2s", -2_000.0), ("7", 7.0)]
        {
            assert_eq!(
                milliseconds(&WrittenCell::Text(text.to_owned()), false),
                Ok(Some(ms)),
                "{text}"
            );
        }
        for text in ["", "1", "x", "1.s.", "1h2"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(milliseconds(&WrittenCell::Milliseconds(5.0), false), Ok(Some(5.0)));
    }

    #[test]
    fn labels_are_written_as_go_writes_them() {
        for (value, text) in [
            (1.5, "1.5"),
            (1_000_000.0, "1e+06"),
            (123_456.5, "123456.5"),
            (123_456_789.0, "1.23456789e+08"),
            (1e21, "1e+21"),
            (0.00001, "1e-05"),
            (-0.0, "-0"),
        ] {
            assert_eq!(shortest(value), text);
        }
        assert_eq!(label(&WrittenCell::Time(1.0)).as_deref(), Some("1"));
        assert_eq!(label(&WrittenCell::Null).as_deref(), Some(""));
        let list = WrittenCell::List(vec![WrittenCell::Integer(1), WrittenCell::Null]);
        assert_eq!(label(&list).as_deref(), Some("{1,NULL}"));
    }
}
