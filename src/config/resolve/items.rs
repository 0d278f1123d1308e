//! The items of the file's lists: rules for partitioned tables, expected indexes, queries, and targets.
//!
//! Must not: read a list's keys anywhere but from the table of settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::file::FileItem;
use super::super::index_rules::{self, IndexRule};
use super::super::rules::{self, PartitionRule, QueryRule};
use super::super::schema::{Key, TARGETS, Value};
use super::super::target::{self, Dsn};
use super::super::{CONSOLE, DatabaseFilter, KnownCollector, Settings, TargetConfig, TargetKind};
use super::{REPORT, Sources};
use crate::error::ConfigError;

/// An item of one of the file's lists, its values read.
pub(super) struct Item<'a> {
    file: &'a FileItem,
    values: Vec<(String, Value)>,
}

impl<'a> Item<'a> {
    pub(super) fn read(file: &'a FileItem, keys: &[Key]) -> Result<Self, ConfigError> {
        let mut values = Vec::new();
        for key in keys {
            let Some(given) = file.values.get(&key.path) else { continue };
            let value = key.kind.parse(&given.texts, false).map_err(|fault| {
                let problem = format!("`{}` {}", key.path, fault.problem);
                ConfigError::new(&given.place, problem, fault.remedy)
            })?;
            values.push((key.path.clone(), value));
        }
        Ok(Self { file, values })
    }

    /// An error at a key, or at the item where that is not there.
    fn fault<T>(&self, key: &str, problem: &str, remedy: &str) -> Result<T, ConfigError> {
        let place = self.file.values.get(key).map_or(&self.file.place, |value| &value.place);
        Err(ConfigError::new(place, problem, remedy))
    }
}

/// A rule for partitioned tables.
pub(super) fn rule(item: &Item<'_>) -> Result<PartitionRule, ConfigError> {
    let fault = |key: &str, problem: &str, remedy: &str| item.fault(key, problem, remedy);
    let mut rule = PartitionRule::default();
    for (key, value) in item.values.clone() {
        match (key.as_str(), value) {
            ("table", Value::Text(text)) => rule.table = text,
            ("database", Value::Text(text)) => rule.database = Some(text),
            ("runway_required", Value::Duration(span)) => rule.required = Some(span.as_secs_f64()),
            ("zone", Value::Text(text)) => rule.zone = Some(text),
            ("unit", Value::Text(text)) => rule.unit = Some(text),
            ("max_age", Value::Duration(span)) => rule.max_age = Some(span.as_secs_f64()),
            ("ignore", Value::Boolean(value)) => rule.ignore = value,
            ("must_exist", Value::Boolean(value)) => rule.must_exist = value,
            (key, _) => return fault(key, "is not read from the table of settings", REPORT),
        }
    }
    if rule.table.is_empty() {
        return fault("table", "the rule is for no table", "add `table: schema.table`");
    }
    if !rule.table.contains('.') {
        let remedy = "write `schema.table`; `*.table` is that table in any schema";
        return fault("table", "`table` names no schema", remedy);
    }
    let wild = |name: Option<&String>| name.is_none_or(|name| rules::is_wild(name));
    if rule.must_exist && (wild(Some(&rule.table)) || wild(rule.database.as_ref())) {
        let remedy = "write `table` and `database` without `*` and `?`";
        return fault("must_exist", "`must_exist` is for one table of one database", remedy);
    }
    Ok(rule)
}

/// A query whose plan must read few partitions.
pub(super) fn query(item: &Item<'_>) -> Result<QueryRule, ConfigError> {
    let mut query = QueryRule { max_partitions: 1, ..QueryRule::default() };
    for (key, value) in item.values.clone() {
        match (key.as_str(), value) {
            ("name", Value::Text(text)) => query.name = text,
            ("database", Value::Text(text)) => query.database = text,
            ("sql", Value::Text(text)) => query.sql = text,
            ("max_partitions", Value::Integer(most)) => {
                query.max_partitions = usize::try_from(most).unwrap_or(usize::MAX);
            }
            (key, _) => return item.fault(key, "is not read from the table of settings", REPORT),
        }
    }
    for (key, text) in [("name", &query.name), ("database", &query.database), ("sql", &query.sql)] {
        if text.is_empty() {
            return item.fault(key, &format!("the query has no `{key}`"), "add it");
        }
    }
    Ok(query)
}

/// An index that must be there.
pub(super) fn expected_index(item: &Item<'_>) -> Result<IndexRule, ConfigError> {
    let fault = |key: &str, problem: &str, remedy: &str| item.fault(key, problem, remedy);
    let mut rule = IndexRule::default();
    for (key, value) in item.values.clone() {
        match (key.as_str(), value) {
            ("table", Value::Text(text)) => rule.table = text,
            ("database", Value::Text(text)) => rule.database = Some(text),
            ("name", Value::Text(text)) => rule.name = Some(text),
            ("columns", Value::Text(text)) => {
                rule.columns = match index_rules::parse_columns(&text) {
                    Ok(columns) => columns,
                    Err(bad) => {
                        let problem = format!("`columns` {}", bad.problem);
                        return fault("columns", &problem, &bad.remedy);
                    }
                }
            }
            ("unique", Value::Boolean(value)) => rule.unique = value,
            ("create", Value::Text(text)) => rule.create = Some(text),
            (key, _) => return fault(key, "is not read from the table of settings", REPORT),
        }
    }
    if rule.table.is_empty() {
        return fault("table", "the rule is for no table", "add `table: schema.table`");
    }
    if !rule.table.contains('.') {
        let remedy = "write `schema.table`; `*.table` is that table in any schema";
        return fault("table", "`table` names no schema", remedy);
    }
    if rule.name.is_none() && rule.columns.is_empty() {
        let remedy = "add `name: index` or `columns: a, b DESC`";
        return fault("name", "the rule says of no index which", remedy);
    }
    Ok(rule)
}

/// The keys of a target that are no settings.
const OWN: [&str; 5] = ["name", "dsn", "dsn_file", "password_file", "kind"];

/// What a target's item says of it, before its connection string is taken apart.
#[derive(Default)]
struct Wanted {
    name: String,
    dsn: Option<Dsn>,
    password_file: Option<PathBuf>,
    kind: Option<TargetKind>,
}

fn wanted(item: &Item<'_>, sources: &Sources<'_>) -> Result<Wanted, ConfigError> {
    let fault = |key: &str, problem: &str, remedy: &str| item.fault(key, problem, remedy);
    let mut wanted = Wanted::default();
    for (key, value) in item.values.clone() {
        let place = item.file.values.get(&key).map_or(&item.file.place, |value| &value.place);
        match (key.as_str(), value) {
            ("name", Value::Text(text)) => wanted.name = text,
            ("dsn", Value::Text(text)) if wanted.dsn.is_none() => {
                wanted.dsn = Some(Dsn { text, place: place.clone() });
            }
            ("dsn_file", Value::Text(path)) => {
                if wanted.dsn.is_some() {
                    return fault(
                        "dsn_file",
                        "`dsn_file` stands beside `dsn`",
                        "keep one of the two",
                    );
                }
                let text = readable(sources, &path, place)?.trim().to_owned();
                wanted.dsn = Some(Dsn { text, place: place.clone() });
            }
            ("password_file", Value::Text(path)) => {
                // Read at every connect; here only to tell at the start that it cannot be.
                readable(sources, &path, place)?;
                wanted.password_file = Some(PathBuf::from(path));
            }
            ("kind", Value::Text(word)) => {
                wanted.kind = Some(match word.as_str() {
                    CONSOLE => TargetKind::Pooler,
                    _ => TargetKind::Server,
                });
            }
            // A setting, read with the others.
            _ => {}
        }
    }
    if wanted.name.is_empty() {
        return fault("name", "the target has no name", "add `name: shop`");
    }
    Ok(wanted)
}

fn readable(sources: &Sources<'_>, path: &str, place: &str) -> Result<String, ConfigError> {
    sources.world.read(Path::new(path)).map_err(|e| {
        let problem = format!("cannot read the file: {e}");
        ConfigError::new(place, problem, "name a file that pgrunway may read")
    })
}

/// All targets, and what was accepted of their connection strings without its usual effect.
pub(super) fn targets(
    sources: &Sources<'_>,
    known: &[KnownCollector],
    shared: &Arc<Settings>,
) -> Result<(Vec<TargetConfig>, Vec<String>), ConfigError> {
    let (mut targets, mut notes) = (Vec::<TargetConfig>::new(), Vec::new());
    let mut names = BTreeSet::new();
    let keys = sources.list(TARGETS)?.keys;
    for file in sources.file.lists.get(TARGETS).into_iter().flatten() {
        let (target, noted) = target(file, &keys, sources, known, shared)?;
        if !names.insert(target.name.clone()) {
            let item = Item::read(file, &keys)?;
            return item.fault("name", "the name is there twice", "give each target its own name");
        }
        targets.push(target);
        notes.extend(noted);
    }
    Ok((targets, notes))
}

/// A target, and what was accepted of its connection string without its usual effect.
fn target(
    file: &FileItem,
    keys: &[Key],
    sources: &Sources<'_>,
    known: &[KnownCollector],
    shared: &Arc<Settings>,
) -> Result<(TargetConfig, Vec<String>), ConfigError> {
    let item = Item::read(file, keys)?;
    let wanted = wanted(&item, sources)?;
    let Some(dsn) = wanted.dsn else {
        return item.fault("dsn", "the target has no connection string", "add `dsn` or `dsn_file`");
    };
    let console = wanted.kind == Some(TargetKind::Pooler);
    let resolved = target::resolve_named(&dsn, console, wanted.password_file, sources.world)?;
    let connect = resolved.connect;
    if console && connect.dbname != CONSOLE {
        let remedy = "leave the database out, or write `pgbouncer`";
        return item.fault("kind", "PgBouncer's console is the database `pgbouncer`", remedy);
    }
    let own = Sources { overlay: Some(file), ..sources.clone() };
    let mut databases = DatabaseFilter::default();
    own.databases(&mut databases)?;
    // A thousand targets that differ in nothing share one copy.
    let set = file.values.keys().any(|path| !OWN.contains(&path.as_str()));
    let settings = if set || resolved.connect_timeout.is_some() {
        let (mut settings, connect_given) = own.settings(known)?;
        if let Some(timeout) = resolved.connect_timeout.filter(|_| !connect_given) {
            settings.timeouts.connect = timeout;
        }
        Arc::new(settings)
    } else {
        shared.clone()
    };
    let expected = wanted.kind.unwrap_or_else(|| connect.expected());
    let target = TargetConfig { name: wanted.name, expected, connect, databases, settings };
    Ok((target, resolved.notes))
}
