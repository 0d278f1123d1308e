//! From the file's items to queries: what may be missing or wrong in one, said with its place.
//!
//! Must not: read a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::Fault;
use super::super::file::{self, FileItem, FileValue};
use super::super::item::read;
use super::super::schema::{Keyed, ListKey};
use super::{
    ColumnItem, ColumnUsage, CustomQuery, INTERVAL, QueryColumn, QueryFile, QueryItem, ServerRole,
    Versions, statement,
};
use crate::error::ConfigError;

/// Names that pgrunway has for itself and its process.
const OURS: [&str; 2] = ["pgrunway_", "process_"];
/// Labels that others set: of buckets, and the one by which targets are told apart.
const TAKEN: [&str; 3] = ["le", "quantile", "server"];

/// postgres_exporter's file, and what else its exporter was told.
pub(in crate::config) struct TheirFile<'a> {
    /// As it was named.
    pub(in crate::config) name: &'a str,
    /// Its text, or why it could not be read.
    pub(in crate::config) text: Result<String, String>,
    /// SHA-256 in hexadecimal; empty if it could not be read.
    pub(in crate::config) hash: String,
    /// `--auto-discover-databases`: in all databases but for what says `master`.
    pub(in crate::config) everywhere: bool,
}

/// The queries of `pgrunway.yml`.
///
/// # Errors
/// Something is missing or wrong; the place is file, line and column.
pub(in crate::config) fn items(
    items: &[FileItem],
    statement_timeout: Duration,
) -> Result<Vec<CustomQuery>, ConfigError> {
    let mut known = KnownMetrics::default();
    items
        .iter()
        .map(|item| {
            let query = QueryReader { item, theirs: false }.query(statement_timeout)?;
            known.check(&query, item)?;
            query.ok_or_else(|| fault_at(item, "query", "the query has no `query`", "add it"))
        })
        .collect()
}

/// The queries of postgres_exporter's file. What is wrong with one costs that one: it is there, and says so. Names that
/// are taken by others are wrong too.
pub(in crate::config) fn of_file(
    file: TheirFile<'_>,
    list: &ListKey,
    others: &[CustomQuery],
    statement_timeout: Duration,
) -> (Vec<Arc<CustomQuery>>, QueryFile, Vec<String>) {
    let mut read = QueryFile { name: file.name.to_owned(), hash: file.hash, faults: Vec::new() };
    let parsed = match file.text {
        Ok(text) => file::parse_items(file.name, &text, list).map_err(|e| e.to_string()),
        Err(e) => Err(e),
    };
    let items = match parsed {
        Ok(items) => items,
        Err(e) => {
            read.faults.push(e);
            return (Vec::new(), read, Vec::new());
        }
    };
    let mut known = KnownMetrics::default();
    let (mut queries, mut overridden) = (Vec::new(), Vec::new());
    for (name, item) in items {
        let query = item.and_then(|item| {
            let query = QueryReader { item: &item, theirs: true }.query(statement_timeout)?;
            known.check(&query, &item)?;
            Ok(query.map(|query| match file.everywhere && query.databases.is_empty() {
                true if !is_master(&item) => {
                    CustomQuery { databases: vec!["*".to_owned()], ..query }
                }
                _ => query,
            }))
        });
        if query.is_ok() {
            overridden.push(name.clone());
        }
        let mut query = match query {
            Ok(Some(query)) => query,
            // As postgres_exporter has it: nothing is asked, and nothing goes out by this name.
            Ok(None) => continue,
            Err(e) => {
                read.faults.push(e.to_string());
                broken(&name, e.to_string())
            }
        };
        if others.iter().any(|other| other.name == query.name) {
            let fault = format!("{}: `queries` of the configuration has `{name}` too", file.name);
            read.faults.push(fault.clone());
            query =
                CustomQuery { name: format!("{} of the file", query.name), ..broken(&name, fault) };
        }
        queries.push(Arc::new(query));
    }
    (queries, read, overridden)
}

fn is_master(item: &FileItem) -> bool {
    item.values.get("master").is_some_and(|value| value.texts == ["true"])
}

/// One that is there to say what is wrong with it.
fn broken(name: &str, fault: String) -> CustomQuery {
    CustomQuery {
        name: format!("query_{name}"),
        prefix: name.to_owned(),
        sql: String::new(),
        columns: Vec::new(),
        databases: Vec::new(),
        interval: INTERVAL,
        timeout: None,
        targets: Vec::new(),
        versions: Versions::default(),
        role: ServerRole::Any,
        series_limit: None,
        search_path: None,
        theirs: true,
        fault: Some(fault),
    }
}

fn fault_at(item: &FileItem, key: &str, problem: &str, remedy: &str) -> ConfigError {
    let place = item.values.get(key).map_or(&item.place, |value| &value.place);
    ConfigError::new(place, problem, remedy)
}

/// Metrics of the queries before, with their types.
#[derive(Default)]
struct KnownMetrics(BTreeMap<String, &'static str>);

impl KnownMetrics {
    /// A name has one type, whichever query gives it.
    fn check(&mut self, query: &Option<CustomQuery>, item: &FileItem) -> Result<(), ConfigError> {
        let Some(query) = query else { return Ok(()) };
        let mut own = BTreeMap::new();
        for column in &query.columns {
            let kind = match column.usage {
                ColumnUsage::Discard | ColumnUsage::Label => continue,
                ColumnUsage::Counter => "counter",
                ColumnUsage::Gauge | ColumnUsage::Mapped(_) | ColumnUsage::Duration => "gauge",
                ColumnUsage::Histogram => "histogram",
            };
            let name = query.metric(column);
            let place = item.columns.iter().find(|c| named(c) == column.name).unwrap_or(item);
            if own.insert(name.clone(), kind).is_some() {
                let problem = format!("two columns are the metric `{name}`");
                return Err(fault_at(place, "name", &problem, "rename one of them with AS"));
            }
            if let Some(before) = self.0.get(&name).filter(|before| **before != kind) {
                let problem = format!("`{name}` is a {before} in another query");
                return Err(fault_at(place, "usage", &problem, "give it the same usage"));
            }
        }
        self.0.extend(own);
        Ok(())
    }
}

fn named(item: &FileItem) -> &str {
    item.values.get("name").and_then(|name| name.texts.first()).map_or("", String::as_str)
}

struct QueryReader<'a> {
    item: &'a FileItem,
    theirs: bool,
}

impl QueryReader<'_> {
    fn fault(&self, key: &str, problem: &str, remedy: &str) -> ConfigError {
        fault_at(self.item, key, problem, remedy)
    }

    fn value<T>(&self, key: &str, value: Result<T, Fault>) -> Result<T, ConfigError> {
        value.map_err(|fault| self.fault(key, &format!("`{key}` {}", fault.problem), &fault.remedy))
    }

    /// `None` where postgres_exporter's file has no statement.
    fn query(&self, statement_timeout: Duration) -> Result<Option<CustomQuery>, ConfigError> {
        let mut values = self.item.values.clone();
        let empty = |value: &FileValue| value.texts.iter().all(|text| text.trim().is_empty());
        let silent = values.get("query").is_none_or(empty);
        if silent && self.theirs {
            return Ok(None);
        }
        values.retain(|key, value| key == "query" || !empty(value) || value.texts.is_empty());
        let item = FileItem { values, ..self.item.clone() };
        let wanted: QueryItem = read(&item, &QueryItem::keys())?;
        let Some(text) = &wanted.query else { return Ok(None) };
        let sql = self.value("query", statement(text))?;
        let versions = wanted.runonserver.as_deref().unwrap_or_default();
        let versions = self.value("runonserver", Versions::parse(versions))?;
        if wanted.timeout.is_some_and(|timeout| timeout > statement_timeout) {
            let problem = "`timeout` is above `timeouts.statement`";
            return Err(self.fault("timeout", problem, "lower it, or raise `timeouts.statement`"));
        }
        let prefix = wanted.prefix.unwrap_or_else(|| wanted.name.clone());
        let key = if self.item.values.contains_key("prefix") { "prefix" } else { "name" };
        if !is_name(&prefix) {
            let problem = "is no beginning of a metric's name";
            return Err(self.fault(
                key,
                problem,
                "use letters, digits and `_`, such as `shop_orders`",
            ));
        }
        if OURS.iter().any(|own| format!("{prefix}_").starts_with(own)) {
            let problem = "begins as the names that pgrunway has for itself";
            return Err(self.fault(key, problem, "choose another, such as `shop_orders`"));
        }
        let interval = wanted.cache_seconds.filter(|seconds| *seconds > 0);
        let interval = wanted.interval.or(interval.map(Duration::from_secs));
        let query = CustomQuery {
            name: format!("query_{}", wanted.name),
            prefix,
            sql,
            columns: self.columns()?,
            databases: if wanted.master { Vec::new() } else { wanted.databases },
            interval: interval.unwrap_or(INTERVAL),
            timeout: wanted.timeout,
            targets: wanted.targets,
            versions,
            role: match wanted.role.as_str() {
                "primary" => ServerRole::Primary,
                "standby" => ServerRole::Standby,
                _ => ServerRole::Any,
            },
            series_limit: wanted.series_limit,
            search_path: wanted.search_path,
            theirs: self.theirs,
            fault: None,
        };
        if !self.theirs && !query.columns.iter().any(gives) {
            let problem = "no column of the query is a metric";
            let remedy = "list its columns under `metrics`, such as `- size: {usage: GAUGE}`";
            return Err(self.fault("metrics", problem, remedy));
        }
        Ok(Some(query))
    }

    fn columns(&self) -> Result<Vec<QueryColumn>, ConfigError> {
        let mut columns: Vec<QueryColumn> = Vec::new();
        for item in &self.item.columns {
            let column = self.column(item)?;
            if columns.iter().any(|known| known.name == column.name) {
                let problem = "the column is there twice";
                return Err(fault_at(item, "name", problem, "keep one of the two"));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    fn column(&self, item: &FileItem) -> Result<QueryColumn, ConfigError> {
        let at = |key: &str, problem: &str, remedy: &str| fault_at(item, key, problem, remedy);
        let mut values = item.values.clone();
        values.retain(|key, value| key != "description" || value.texts.concat() != "");
        let whole = FileItem { values, ..item.clone() };
        let wanted: ColumnItem = read(&whole, &ColumnItem::keys())?;
        let Some(usage) = wanted.usage else {
            return Err(at("usage", "the column has no `usage`", "add `usage: GAUGE`, or another"));
        };
        let usage = match usage.as_str() {
            "gauge" => ColumnUsage::Gauge,
            "counter" => ColumnUsage::Counter,
            "label" => ColumnUsage::Label,
            "histogram" => ColumnUsage::Histogram,
            "duration" => ColumnUsage::Duration,
            "mappedmetric" => ColumnUsage::Mapped(mapping(item, &wanted.metric_mapping)?),
            _ => ColumnUsage::Discard,
        };
        if usage != ColumnUsage::Discard && !is_name(&format!("_{}", wanted.name)) {
            let remedy = "give the column another name with AS: letters, digits and `_`";
            return Err(at("name", "the column's name fits no metric or label", remedy));
        }
        if usage == ColumnUsage::Label {
            if TAKEN.contains(&wanted.name.as_str()) || wanted.name.starts_with("__") {
                let remedy = "give the column another name with AS";
                return Err(at("name", "the label's name is taken by others", remedy));
            }
            if wanted.name.starts_with(|c: char| c.is_ascii_digit()) {
                let remedy = "give the column another name with AS";
                return Err(at("name", "a label's name begins with a letter or `_`", remedy));
            }
        }
        let versions = wanted.pg_version.as_deref().unwrap_or_default();
        let versions = Versions::parse(versions).map_err(|fault| {
            at("pg_version", &format!("`pg_version` {}", fault.problem), &fault.remedy)
        })?;
        let help = wanted.description.unwrap_or_default();
        Ok(QueryColumn { name: wanted.name, usage, help, versions })
    }
}

fn gives(column: &QueryColumn) -> bool {
    !matches!(column.usage, ColumnUsage::Label | ColumnUsage::Discard)
}

/// Texts and their numbers.
fn mapping(item: &FileItem, texts: &[String]) -> Result<BTreeMap<String, f64>, ConfigError> {
    if texts.is_empty() {
        let remedy = "add `metric_mapping: {text: number}`";
        return Err(fault_at(item, "usage", "a MAPPEDMETRIC without `metric_mapping`", remedy));
    }
    let pair = |text: &String| {
        let (name, number) = text.rsplit_once('=')?;
        let number: f64 = number.trim().parse().ok()?;
        (!number.is_nan()).then(|| (name.to_owned(), number))
    };
    texts.iter().map(pair).collect::<Option<_>>().ok_or_else(|| {
        let problem = "`metric_mapping` maps a text to what is no number";
        fault_at(item, "metric_mapping", problem, "write `{up: 1, down: 0}`")
    })
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, not too long.
fn is_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.len() <= 200
        && text.bytes().next().is_some_and(letter)
        && text.bytes().all(|b| letter(b) || b.is_ascii_digit())
}
