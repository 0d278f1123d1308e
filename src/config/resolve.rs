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
use super::schema::{self, Key, List, Value};
use super::target::{self, Dsn};
use super::{
    CollectorSetting, Config, Connect, DatabaseFilter, KnownCollector, LogFormat, Objectives,
    Settings, Surroundings,
};
use crate::error::ConfigError;

mod items;

use items::{Item, expected_index, query, rule};

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
#[derive(Clone)]
struct Sources<'a> {
    flags: &'a Flags,
    world: &'a dyn Surroundings,
    file: Arc<Parsed>,
    keys: Arc<[Key]>,
    lists: Arc<[List]>,
    /// What one target has of its own; it wins over all else.
    overlay: Option<&'a FileItem>,
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
        let keys: Arc<[Key]> = schema::keys(known).into();
        let lists: Arc<[List]> = schema::lists(known).into();
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
                file::parse(&name, &text, &keys, &lists)?
            }
        };
        Ok(Self { flags, world, file: file.into(), keys, lists, overlay: None })
    }

    fn list(&self, name: &str) -> Result<List, ConfigError> {
        let list = self.lists.iter().find(|list| list.name == name).cloned();
        list.ok_or_else(|| ConfigError::new(name, "is missing from the table of settings", REPORT))
    }

    /// The items of one of the file's lists, each read by `read`.
    fn items<T>(
        &self,
        name: &str,
        read: impl Fn(&Item<'_>) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let list = self.list(name)?;
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
        let own = self.overlay.and_then(|item| item.values.get(&key.path));
        if let Some(found) = own {
            let (place, texts) = (found.place.clone(), found.texts.clone());
            return Some(Given { origin: Origin::File, place, texts });
        }
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

    /// Whether a server is named outside the list of targets.
    fn names_a_server(&self) -> Result<bool, ConfigError> {
        let variables = ["PGHOST", "PGHOSTADDR", "PGSERVICE"];
        Ok(self.dsn()?.is_some() || variables.iter().any(|name| self.world.env(name).is_some()))
    }

    fn databases(&self, databases: &mut DatabaseFilter) -> Result<(), ConfigError> {
        self.put("databases.include", &mut databases.include)?;
        self.put("databases.exclude", &mut databases.exclude)
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
        self.put("objectives.pooler_wait", &mut o.pooler_wait)?;
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
        s.queries = self.items(schema::QUERIES, query)?;
        self.put("collectors.indexes.minimum_rows", &mut s.indexes.minimum_rows)?;
        self.put("collectors.indexes.per_partition", &mut s.indexes.per_partition)?;
        self.put("collectors.indexhealth.unused_after", &mut s.indexes.unused_after)?;
        self.put("collectors.indexhealth.seq_scan_bytes", &mut s.indexes.seq_scan_bytes)?;
        self.put("collectors.indexhealth.bloat_largest", &mut s.indexes.bloat_largest)?;
        s.indexes.expected = self.items(schema::INDEXES, expected_index)?;
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
        let shared = Arc::new(settings.clone());
        let (targets, mut notes) = items::targets(&sources, known, &shared)?;
        let named = sources.names_a_server()?;
        let listed = targets.first().filter(|_| !named);
        let (connect, default_target) = match listed {
            // For the subcommands that look at one server.
            Some(first) => (first.connect.clone(), false),
            None => {
                let target = target::resolve(sources.dsn()?.as_ref(), world)?;
                if let Some(timeout) = target.connect_timeout.filter(|_| !connect_given) {
                    settings.timeouts.connect = timeout;
                }
                notes.extend(target.notes);
                (target.connect, true)
            }
        };
        let config = Self { notes, targets, default_target, ..Self::new(connect, settings) };
        config.with_sources(&sources)
    }

    /// The configuration for a subcommand that looks at one server.
    ///
    /// # Errors
    /// The file lists several targets, and no server is named beside them.
    pub fn of_one_server(self) -> Result<Self, ConfigError> {
        if self.default_target || self.targets.len() == 1 {
            return Ok(self);
        }
        let problem = "the file lists several targets, and this looks at one server";
        Err(ConfigError::new("targets", problem, "name the server with `--dsn`"))
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
            default_target: true,
            targets: Vec::new(),
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
        sources.databases(&mut self.databases)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
