//! The items of the file's lists: rules for partitioned tables, expected indexes, queries, and targets.
//!
//! Must not: read a list's keys anywhere but from the table of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::super::file::FileItem;
use super::super::index_rules::IndexRule;
use super::super::item::read;
use super::super::probe::{self, AuthItem, AuthModule};
use super::super::rules::{PartitionRule, QueryRule};
use super::super::schema::{Keyed, Setting};
use super::super::settings::{General, Login, TargetItem};
use super::super::target::{self, Dsn};
use super::super::wildcard;
use super::super::{
    CONSOLE, Endpoint, KnownCollector, Password, PasswordCommand, Settings, TargetConfig,
    TargetKind, table,
};
use super::Sources;
use crate::error::ConfigError;

/// Where a key stands in an item; where the item stands if the key is not there.
fn place<'a>(item: &'a FileItem, key: &str) -> &'a str {
    item.values.get(key).map_or(&item.place, |value| &value.place)
}

fn fault<T>(item: &FileItem, key: &str, problem: &str, remedy: &str) -> Result<T, ConfigError> {
    Err(ConfigError::new(place(item, key), problem, remedy))
}

/// A rule names its tables with their schema.
fn names_tables(item: &FileItem, table: &str) -> Result<(), ConfigError> {
    if table.is_empty() {
        return fault(item, "table", "the rule is for no table", "add `table: schema.table`");
    }
    if !table.contains('.') {
        let remedy = "write `schema.table`; `*.table` is that table in any schema";
        return fault(item, "table", "`table` names no schema", remedy);
    }
    Ok(())
}

/// A rule for partitioned tables.
pub(super) fn rule(item: &FileItem, rule: &PartitionRule) -> Result<(), ConfigError> {
    names_tables(item, &rule.table)?;
    let wild = |name: Option<&String>| name.is_none_or(|name| wildcard::is_wild(name));
    if rule.must_exist && (wild(Some(&rule.table)) || wild(rule.database.as_ref())) {
        let remedy = "write `table` and `database` without `*` and `?`";
        let problem = "`must_exist` is for one table of one database";
        return fault(item, "must_exist", problem, remedy);
    }
    Ok(())
}

/// A query whose plan must read few partitions.
pub(super) fn query(item: &FileItem, query: &QueryRule) -> Result<(), ConfigError> {
    for (key, text) in [("name", &query.name), ("database", &query.database), ("sql", &query.sql)] {
        if text.is_empty() {
            return fault(item, key, &format!("the query has no `{key}`"), "add it");
        }
    }
    Ok(())
}

/// An index that must be there.
pub(super) fn expected_index(item: &FileItem, rule: &IndexRule) -> Result<(), ConfigError> {
    names_tables(item, &rule.table)?;
    if rule.name.is_none() && rule.columns.is_empty() {
        let remedy = "add `name: index` or `columns: a, b DESC`";
        return fault(item, "name", "the rule says of no index which", remedy);
    }
    Ok(())
}

/// A target's connection string, from wherever its item has it.
fn dsn(item: &FileItem, target: &TargetItem, sources: &Sources<'_>) -> Result<Dsn, ConfigError> {
    let dsn = |key: &str, text: String| Dsn { text, place: place(item, key).to_owned() };
    match (&target.dsn, &target.dsn_file) {
        (Some(_), Some(_)) => {
            fault(item, "dsn_file", "`dsn_file` stands beside `dsn`", "keep one of the two")
        }
        (Some(text), None) => Ok(dsn("dsn", text.clone())),
        (None, Some(path)) => {
            let text = readable(sources, path, place(item, "dsn_file"))?;
            Ok(dsn("dsn_file", text.trim().to_owned()))
        }
        (None, None) => {
            let problem = "the target has no connection string";
            fault(item, "dsn", problem, "add `dsn` or `dsn_file`")
        }
    }
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
    let own = TargetItem::keys();
    for item in sources.file.lists.get(table::TARGETS).into_iter().flatten() {
        let (target, noted) = target(item, &own, sources, known, shared)?;
        if !names.insert(target.name.clone()) {
            let remedy = "give each target its own name";
            return fault(item, "name", "the name is there twice", remedy);
        }
        targets.push(target);
        notes.extend(noted);
    }
    Ok((targets, notes))
}

/// How to log in to probed targets, by name.
pub(super) fn modules(sources: &Sources<'_>) -> Result<BTreeMap<String, AuthModule>, ConfigError> {
    let own = AuthItem::keys();
    let items = sources.file.lists.get(table::MODULES).into_iter().flatten();
    let mut modules = BTreeMap::new();
    for item in items {
        let wanted = read(item, &own)?;
        if let Some(path) = &wanted.password_file {
            readable(sources, path, place(item, "userpass.password_file"))?;
        }
        let name = wanted.name.clone();
        let module = probe::module(wanted).map_err(|(key, problem)| {
            ConfigError::new(place(item, key), problem, "see docs/config.md")
        })?;
        modules.insert(name, module);
    }
    Ok(modules)
}

/// The servers of a list of connection strings, each named as postgres_exporter names it, by host and port; a
/// second one of the same name by its database too.
pub(super) fn group(
    dsns: &[Dsn],
    sources: &Sources<'_>,
    general: &General,
    notes: &mut Vec<String>,
) -> Result<Vec<TargetConfig>, ConfigError> {
    let each = &general.each;
    let mut group: Vec<TargetConfig> = Vec::new();
    let shared = Arc::new(each.settings.clone());
    for dsn in dsns {
        let resolved = target::resolve(Some(dsn), command(&general.login), sources.world)?;
        notes.extend(resolved.notes);
        let connect = resolved.connect;
        let mut settings = shared.clone();
        if resolved.connect_timeout.is_some() {
            sources.connect_timeout(resolved.connect_timeout, Arc::make_mut(&mut settings));
        }
        let place = match connect.endpoints.first() {
            Some(Endpoint::Tcp { host, port }) => format!("{host}:{port}"),
            Some(Endpoint::Unix { directory, port }) => format!("{}:{port}", directory.display()),
            None => String::new(),
        };
        let taken = |name: &str| group.iter().any(|target| target.name == name);
        let names = [place.clone(), format!("{place}/{}", connect.dbname)];
        let Some(name) = names.into_iter().find(|name| !taken(name)) else {
            notes.push(format!("{}: {place} is there twice, and is watched once", dsn.place));
            continue;
        };
        let (expected, databases) = (connect.expected(), each.databases.clone());
        group.push(TargetConfig { name, grouped: true, expected, connect, databases, settings });
    }
    Ok(group)
}

/// The program that prints the password, if there is one.
pub(super) fn command(login: &Login) -> Option<Password> {
    let Login { command, timeout, ttl } = login;
    let command =
        (!command.is_empty()).then(|| PasswordCommand::new(command.clone(), *timeout, *ttl));
    command.map(|command| Password::Command(Arc::new(command)))
}

/// A target, and what was accepted of its connection string without its usual effect.
fn target(
    item: &FileItem,
    own: &[Setting<TargetItem>],
    sources: &Sources<'_>,
    known: &[KnownCollector],
    shared: &Arc<Settings>,
) -> Result<(TargetConfig, Vec<String>), ConfigError> {
    let wanted = read(item, own)?;
    if wanted.name.is_empty() {
        return fault(item, "name", "the target has no name", "add `name: shop`");
    }
    let dsn = dsn(item, &wanted, sources)?;
    if let Some(path) = &wanted.password_file {
        // Read at every connect; here only to tell at the start that it cannot be.
        readable(sources, path, place(item, "password_file"))?;
    }
    let console = wanted.kind == Some(TargetKind::Pooler);
    let command = command(&wanted.login);
    if command.is_some() && wanted.password_file.is_some() {
        let problem = "`password_command` stands beside `password_file`";
        return fault(item, "password_command", problem, "keep one of the two");
    }
    let password_file = wanted.password_file.map(|path| Password::File(path.into()));
    let source = command.or(password_file);
    let resolved = target::resolve_named(&dsn, console, source, sources.world)?;
    let connect = resolved.connect;
    if console && connect.dbname != CONSOLE {
        let remedy = "leave the database out, or write `pgbouncer`";
        return fault(item, "kind", "PgBouncer's console is the database `pgbouncer`", remedy);
    }
    let of_its_own = Sources { overlay: Some(item), ..sources.clone() };
    let mut each = of_its_own.per_target(known)?;
    of_its_own.connect_timeout(resolved.connect_timeout, &mut each.settings);
    // A thousand targets that differ in nothing share one copy.
    let same = each.settings == **shared;
    let settings = if same { shared.clone() } else { Arc::new(each.settings) };
    let expected = wanted.kind.unwrap_or_else(|| connect.expected());
    let databases = each.databases;
    let target =
        TargetConfig { name: wanted.name, grouped: false, expected, connect, databases, settings };
    Ok((target, resolved.notes))
}
