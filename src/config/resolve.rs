//! Brings flags, environment and file together, in this order, and makes one [`Config`] of them.
//!
//! Must not: have a default of its own (they are in [`Settings::default`] and the schema).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, FileItem, Parsed};
use super::rules::{self, PartitionRule};
use super::schema::{self, Key, Value};
use super::target::{self, Dsn};
use super::{
    CollectorSetting, Config, Connect, DatabaseFilter, KnownCollector, LogFormat, Objectives,
    Settings, Surroundings,
};
use crate::error::ConfigError;

/// The settings given as flags, by path.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<String, Vec<String>>,
    config_file: Option<PathBuf>,
}

impl Flags {
    /// Adds a setting, by its path in the file.
    pub fn set(&mut self, path: impl Into<String>, texts: Vec<String>) {
        self.values.insert(path.into(), texts);
    }

    /// `--config.file`.
    pub fn set_config_file(&mut self, path: Option<PathBuf>) {
        self.config_file = path;
    }

    /// What a flag was given as.
    pub fn get(&self, path: &str) -> Option<&[String]> {
        self.values.get(path).map(Vec::as_slice)
    }
}

/// The names only: `--dsn` holds a password.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.keys()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Flag,
    Environment,
    File,
}

struct Given {
    origin: Origin,
    place: String,
    texts: Vec<String>,
}

/// Everything that was given, from wherever.
struct Sources<'a> {
    flags: &'a Flags,
    world: &'a dyn Surroundings,
    file: Parsed,
    keys: Vec<Key>,
}

/// A type that settings have.
trait Setting: Sized {
    fn of(value: Value) -> Option<Self>;
}

macro_rules! setting {
    ($($type:ty: $($pattern:pat => $result:expr),+;)+) => {
        $(impl Setting for $type {
            fn of(value: Value) -> Option<Self> {
                match value { $($pattern => $result,)+ _ => None }
            }
        })+
    };
}

setting! {
    Option<f64>: Value::Number(v) => Some(Some(v));
    Option<u64>: Value::Integer(v) => Some(Some(v));
    Duration: Value::Duration(v) => Some(v);
    f64: Value::Number(v) => Some(v), Value::Duration(v) => Some(v.as_secs_f64());
    usize: Value::Integer(v) => usize::try_from(v).ok();
    bool: Value::Boolean(v) => Some(v);
    String: Value::Text(v) => Some(v);
    Option<String>: Value::Text(v) => Some(Some(v));
    Option<Duration>: Value::Duration(v) => Some(Some(v));
    Vec<String>: Value::List(v) => Some(v);
    Vec<SocketAddr>: Value::Addresses(v) => Some(v);
    tracing::Level: Value::Text(v) => v.parse().ok();
    LogFormat: Value::Text(v) => match v.as_str() {
        "text" => Some(Self::Text),
        "json" => Some(Self::Json),
        _ => None,
    };
}

impl<'a> Sources<'a> {
    fn read(
        flags: &'a Flags,
        world: &'a dyn Surroundings,
        known: &[KnownCollector],
    ) -> Result<Self, ConfigError> {
        let keys = schema::keys(known);
        let variable = "PGRUNWAY_CONFIG_FILE";
        let named = match &flags.config_file {
            Some(path) => Some((path.clone(), "--config.file")),
            None => world.env(variable).map(|path| (PathBuf::from(path), variable)),
        };
        let file = match named {
            None => Parsed::default(),
            Some((path, place)) => {
                let name = path.display().to_string();
                let text = read_file(world, &path, place)?;
                file::parse(&name, &text, &keys, &schema::lists())?
            }
        };
        Ok(Self { flags, world, file, keys })
    }

    /// The items of one of the file's lists, each read by `read`.
    fn items<T>(
        &self,
        name: &str,
        read: impl Fn(&Item<'_>) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(list) = schema::lists().into_iter().find(|list| list.name == name) else {
            return Err(ConfigError::new(name, "is missing from the table of settings", REPORT));
        };
        let items = self.file.lists.get(name).into_iter().flatten();
        items.map(|item| read(&Item::read(item, &list.keys)?)).collect()
    }

    fn key(&self, path: &str) -> Result<&Key, ConfigError> {
        self.keys
            .iter()
            .find(|key| key.path == path)
            .ok_or_else(|| ConfigError::new(path, "is missing from the table of settings", REPORT))
    }

    fn given(&self, key: &Key) -> Option<Given> {
        if let Some(texts) = self.flags.get(&key.path) {
            let place = format!("--{}", key.flag());
            return Some(Given { origin: Origin::Flag, place, texts: texts.to_vec() });
        }
        let own = key.env();
        for variable in std::iter::once(own.as_str()).chain(key.aliases.iter().copied()) {
            if let Some(text) = self.world.env(variable) {
                let place = variable.to_owned();
                return Some(Given { origin: Origin::Environment, place, texts: vec![text] });
            }
        }
        let found = self.file.settings.get(&key.path)?;
        let (place, texts) = (found.place.clone(), found.texts.clone());
        Some(Given { origin: Origin::File, place, texts })
    }

    /// Where a setting was given; its key if it was not.
    fn place(&self, path: &str) -> String {
        let given = self.key(path).ok().and_then(|key| self.given(key));
        given.map_or_else(|| path.to_owned(), |given| given.place)
    }

    /// The setting, or `None` where it was not given.
    fn get<T: Setting>(&self, path: &str) -> Result<Option<T>, ConfigError> {
        let key = self.key(path)?;
        let Some(given) = self.given(key) else { return Ok(None) };
        // The items of a YAML list are not split at commas: a name may hold one.
        let split = given.origin != Origin::File || given.texts.len() == 1;
        let value = key.kind.parse(&given.texts, split).map_err(|fault| {
            let problem = if given.origin == Origin::File {
                format!("`{path}` {}", fault.problem)
            } else {
                format!("the value {}", fault.problem)
            };
            ConfigError::new(&given.place, problem, fault.remedy)
        })?;
        let wrong = || ConfigError::new(path, "has another type in the table of settings", REPORT);
        T::of(value).ok_or_else(wrong).map(Some)
    }

    /// Overwrites a default where the setting was given.
    fn put<T: Setting>(&self, path: &str, slot: &mut T) -> Result<(), ConfigError> {
        if let Some(value) = self.get(path)? {
            *slot = value;
        }
        Ok(())
    }

    fn dsn(&self) -> Result<Option<Dsn>, ConfigError> {
        let given = self.given(self.key("dsn")?);
        let from_file_or_nowhere = given.as_ref().is_none_or(|g| g.origin == Origin::File);
        if from_file_or_nowhere && let Some(dsn) = target::data_source_uri(self.world)? {
            return Ok(Some(dsn));
        }
        Ok(given.map(|given| Dsn { text: given.texts.concat(), place: given.place }))
    }

    fn listen(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let mut listen = default_listen();
        self.put("web.listen_address", &mut listen)?;
        Ok(listen)
    }

    fn objectives(&self, o: &mut Objectives) -> Result<(), ConfigError> {
        self.put("objectives.latency", &mut o.latency)?;
        self.put("objectives.latency_slo", &mut o.latency_slo)?;
        self.put("objectives.longest_query", &mut o.longest_query)?;
        self.put("objectives.cache_hit_ratio", &mut o.cache_hit_ratio)?;
        self.put("objectives.index_scan_ratio", &mut o.index_scan_ratio)?;
        self.put("objectives.oldest_transaction", &mut o.oldest_transaction)?;
        self.put("objectives.idle_in_transaction", &mut o.idle_in_transaction)?;
        self.put("objectives.lock_wait", &mut o.lock_wait)?;
        self.put("objectives.replication_lag", &mut o.replication_lag)?;
        self.put("objectives.slot_retained_bytes", &mut o.slot_retained_bytes)?;
        self.put("objectives.temp_bytes_per_second", &mut o.temp_bytes_per_second)
    }

    /// Settings, and where `timeouts.connect` was given at all, that it was.
    fn settings(&self, known: &[KnownCollector]) -> Result<(Settings, bool), ConfigError> {
        let mut s = Settings::for_collectors(known);
        let connect_given = self.get::<Duration>("timeouts.connect")?.is_some();
        self.put("timeouts.connect", &mut s.timeouts.connect)?;
        self.put("timeouts.handshake", &mut s.timeouts.handshake)?;
        self.put("timeouts.statement", &mut s.timeouts.statement)?;
        self.put("timeouts.lock", &mut s.timeouts.lock)?;
        self.objectives(&mut s.objectives)?;
        self.put("host.memory", &mut s.host.memory)?;
        self.put("host.cpus", &mut s.host.cpus)?;
        self.put("ratio_window", &mut s.ratio_window)?;
        self.put("series_limit", &mut s.series_limit)?;
        self.put("collectors.statements.top", &mut s.statements.top)?;
        self.put("collectors.statements.include_text", &mut s.statements.include_text)?;
        self.put("collectors.statements.text_length", &mut s.statements.text_length)?;
        self.put("collectors.statements.scan_spacing", &mut s.statements.scan_spacing)?;
        self.put("collectors.partitions.runway_required", &mut s.partitions.required)?;
        self.put("collectors.partitions.zone", &mut s.partitions.zone)?;
        self.put("collectors.partitions.per_partition", &mut s.partitions.per_partition)?;
        s.partitions.rules = self.items(schema::PARTITIONS, rule)?;
        for (name, setting) in &mut s.collectors {
            self.put(&format!("collectors.{name}.enabled"), &mut setting.enabled)?;
            self.put(&format!("collectors.{name}.interval"), &mut setting.interval)?;
        }
        for (path, value) in [
            ("timeouts.lock", s.timeouts.lock),
            ("collectors.statements.scan_spacing", s.statements.scan_spacing),
        ] {
            if value >= s.timeouts.statement {
                let problem = format!("`{path}` is not below `timeouts.statement`");
                let remedy = "lower it, or raise `timeouts.statement`";
                return Err(ConfigError::new(self.place(path), problem, remedy));
            }
        }
        Ok((s, connect_given))
    }
}

/// An item of one of the file's lists, its values read.
struct Item<'a> {
    file: &'a FileItem,
    values: Vec<(String, Value)>,
}

impl<'a> Item<'a> {
    fn read(file: &'a FileItem, keys: &[Key]) -> Result<Self, ConfigError> {
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
fn rule(item: &Item<'_>) -> Result<PartitionRule, ConfigError> {
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

const REPORT: &str = "this is a defect of pgrunway: please report it";

fn read_file(world: &dyn Surroundings, path: &Path, place: &str) -> Result<String, ConfigError> {
    world.read(path).map_err(|e| {
        let problem = format!("cannot read {}: {e}", path.display());
        ConfigError::new(place, problem, "name a file that exists and that pgrunway may read")
    })
}

/// Where the exporter listens unless the user says otherwise: `:9187` on all addresses.
pub fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 9187))]
}

/// The addresses alone, for who talks to a running pgrunway: a broken connection string does not
/// matter then.
///
/// # Errors
/// A place, what is wrong there, and what to do.
pub fn listen_addresses(
    flags: &Flags,
    world: &dyn Surroundings,
    known: &[KnownCollector],
) -> Result<Vec<SocketAddr>, ConfigError> {
    Sources::read(flags, world, known)?.listen()
}

impl Settings {
    /// The documented defaults with an entry for each collector.
    pub fn for_collectors(known: &[KnownCollector]) -> Self {
        let setting =
            |c: &KnownCollector| CollectorSetting { enabled: c.default_on, interval: None };
        let collectors = known.iter().map(|c| (c.name.to_owned(), setting(c))).collect();
        Self { collectors, ..Self::default() }
    }
}

impl Config {
    /// Flag > environment > file > default; the target from the connection string, its gaps filled
    /// as libpq fills them.
    ///
    /// # Errors
    /// A place, what is wrong there, and what to do; never a secret.
    pub fn resolve(
        flags: &Flags,
        world: &dyn Surroundings,
        known: &[KnownCollector],
    ) -> Result<Self, ConfigError> {
        let sources = Sources::read(flags, world, known)?;
        let (mut settings, connect_given) = sources.settings(known)?;
        let target = target::resolve(sources.dsn()?.as_ref(), world)?;
        if let Some(timeout) = target.connect_timeout.filter(|_| !connect_given) {
            settings.timeouts.connect = timeout;
        }
        let config = Self { notes: target.notes, ..Self::new(target.connect, settings) };
        config.with_sources(&sources)
    }

    /// As [`Config::resolve`] for a target that is known already (the demo's own server): no
    /// connection string or `PG*` variable is looked at.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn resolve_for(
        connect: Connect,
        flags: &Flags,
        world: &dyn Surroundings,
        known: &[KnownCollector],
    ) -> Result<Self, ConfigError> {
        let sources = Sources::read(flags, world, known)?;
        let (settings, _) = sources.settings(known)?;
        Self::new(connect, settings).with_sources(&sources)
    }

    /// Defaults for everything but the target and the settings.
    pub fn new(connect: Connect, settings: Settings) -> Self {
        Self {
            listen: default_listen(),
            telemetry_path: "/metrics".to_owned(),
            log_level: tracing::Level::INFO,
            log_format: LogFormat::Text,
            connect,
            databases: DatabaseFilter::default(),
            settings: Arc::new(settings),
            notes: Vec::new(),
        }
    }

    /// The same with another target.
    pub fn with_connect(self, connect: Connect) -> Self {
        Self { connect, ..self }
    }

    /// The same with other addresses to listen on.
    pub fn with_listen(self, listen: Vec<SocketAddr>) -> Self {
        Self { listen, ..self }
    }

    fn with_sources(mut self, sources: &Sources<'_>) -> Result<Self, ConfigError> {
        self.listen = sources.listen()?;
        sources.put("web.telemetry_path", &mut self.telemetry_path)?;
        sources.put("log.level", &mut self.log_level)?;
        sources.put("log.format", &mut self.log_format)?;
        sources.put("databases.include", &mut self.databases.include)?;
        sources.put("databases.exclude", &mut self.databases.exclude)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
