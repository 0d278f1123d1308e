//! Brings flags, environment and file together, in this order, and makes one [`Config`] of them.
//!
//! Must not: have a default of its own (they stand with the settings).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dsn;
use super::file::{self, FileItem, Parsed};
use super::item::{put, read};
use super::queries::{self, CustomQuery, QueryFile};
use super::schema::{Key, Keyed, ListKey, Setting, SettingValue};
use super::settings::{self, General, PerTarget, Web};
use super::target::{self, Dsn};
use super::{
    Config, Connect, KnownCollector, Probe, Settings, Surroundings, Timeouts, table, theirs,
};
use crate::error::ConfigError;

mod compat;
mod items;
mod shown;

use items::{expected_index, query, rule};

/// The settings given as flags, by path.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<String, Vec<String>>,
    /// Those of postgres_exporter that are not ours too.
    theirs: BTreeMap<&'static str, String>,
    config_file: Option<PathBuf>,
}

impl Flags {
    /// Adds a setting, by its path in the file.
    pub fn set(&mut self, path: impl Into<String>, texts: Vec<String>) {
        self.values.insert(path.into(), texts);
    }

    /// Adds a flag of postgres_exporter's; of a switch, whether it is on.
    pub fn set_theirs(&mut self, flag: &'static str, text: String) {
        self.theirs.insert(flag, text);
    }

    /// What a flag of postgres_exporter's was given as.
    pub fn theirs(&self, flag: &str) -> Option<&str> {
        self.theirs.get(flag).map(String::as_str)
    }

    /// `--config.file`; an empty one counts as not given.
    pub fn set_config_file(&mut self, path: Option<PathBuf>) {
        self.config_file = path.filter(|path| !path.as_os_str().is_empty());
    }

    /// The file, as `--config.file` names it.
    pub fn config_file(&self) -> Option<&Path> {
        self.config_file.as_deref()
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
enum GivenOrigin {
    Flag,
    Environment,
    File,
}

struct Given {
    origin: GivenOrigin,
    place: String,
    texts: Vec<String>,
}

/// Everything that was given, from wherever.
#[derive(Clone)]
struct Sources<'a> {
    flags: &'a Flags,
    world: &'a dyn Surroundings,
    file: Arc<Parsed>,
    table: Arc<SettingTable>,
    /// What was accepted without its usual effect, of the file and of postgres_exporter's flags and variables.
    notes: Vec<String>,
    /// Whether the file that was named is missing, and that was accepted.
    missing: bool,
    /// What one target has of its own; it wins over all else.
    overlay: Option<&'a FileItem>,
    /// Queries of the user's own, and the names that those of postgres_exporter's file have there.
    custom: Vec<Arc<CustomQuery>>,
    query_file: Option<QueryFile>,
    overridden: Vec<String>,
}

/// Least `answer_limit` of what looks once and ends.
const ONCE: usize = 64 << 20;

/// All that may be set.
struct SettingTable {
    keys: Vec<Key>,
    lists: Vec<ListKey>,
    general: Vec<Setting<General>>,
    each: Vec<Setting<PerTarget>>,
}

impl SettingTable {
    fn new(known: &[KnownCollector]) -> Self {
        Self {
            keys: table::keys(known),
            lists: table::lists(known),
            general: General::keys_with(known),
            each: PerTarget::keys_with(known),
        }
    }
}

impl<'a> Sources<'a> {
    fn read(
        flags: &'a Flags,
        world: &'a dyn Surroundings,
        known: &[KnownCollector],
    ) -> Result<Self, ConfigError> {
        let table = SettingTable::new(known);
        let variable = "PGRUNWAY_CONFIG_FILE";
        let named = match &flags.config_file {
            Some(path) => Some((path.clone(), "--config.file")),
            None => world.env(variable).map(|path| (PathBuf::from(path), variable)),
        };
        let mut notes = Vec::new();
        let mut missing = false;
        let file = match named {
            None => Parsed::default(),
            Some((path, place)) => match read_file(world, &path, place) {
                Ok(text) => {
                    let name = path.display().to_string();
                    file::parse(&name, &text, &table.keys, &table.lists)?
                }
                Err(e) if compat::may_be_missing(&path, flags, world) => {
                    notes.push(format!("{}: {}; going on without it", e.place, e.problem));
                    missing = true;
                    Parsed::default()
                }
                Err(e) => return Err(e),
            },
        };
        notes.extend(compat::notes(flags, world, &table.keys)?);
        let (file, table) = (file.into(), table.into());
        let mut sources = Self {
            flags,
            world,
            file,
            table,
            notes,
            missing,
            overlay: None,
            custom: Vec::new(),
            query_file: None,
            overridden: Vec::new(),
        };
        sources.queries()?;
        Ok(sources)
    }

    /// Reads the queries of the user's own, here and in postgres_exporter's file.
    fn queries(&mut self) -> Result<(), ConfigError> {
        let timeouts: Timeouts = {
            let mut timeouts = Timeouts::default();
            self.fill(&Timeouts::keys(), &mut timeouts)?;
            timeouts
        };
        let items = self.file.lists.get(table::CUSTOM).map(Vec::as_slice).unwrap_or_default();
        let own = queries::items(items, timeouts.statement)?;
        let given = |flag| compat::given_for(flag, self.flags, self.world);
        let (mut theirs, mut overridden) = (Vec::new(), Vec::new());
        let path = given(theirs::QUERY_PATH)?.filter(|(_, path)| !path.is_empty());
        let file = match path {
            None => None,
            Some((place, path)) => {
                let everywhere = given(theirs::DISCOVER)?.is_some_and(|(_, on)| on == "true");
                let text = self.world.read(Path::new(&path));
                let hash = text.as_ref().map(|text| sha256(text)).unwrap_or_default();
                let remedy = "name a file that exists and that pgrunway may read";
                let text = text.map_err(|e| format!("{place}: cannot read {path}: {e}; {remedy}"));
                let file = queries::TheirFile { name: &path, text, hash, everywhere };
                let list = table::custom();
                let (read, file, names) = queries::of_file(file, &list, &own, timeouts.statement);
                (theirs, overridden) = (read, names);
                if theirs.is_empty() {
                    // What is wrong with one query is its collector's to say.
                    self.notes.extend(file.faults.iter().cloned());
                }
                Some(file)
            }
        };
        self.custom = own.into_iter().map(Arc::new).chain(theirs).collect();
        (self.query_file, self.overridden) = (file, overridden);
        Ok(())
    }

    /// The items of one of the file's lists, each checked by `check`.
    fn items<T: Keyed>(
        &self,
        name: &str,
        check: impl Fn(&FileItem, &T) -> Result<(), ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let settings = T::keys();
        let items = self.file.lists.get(name).into_iter().flatten();
        items
            .map(|item| {
                let read = read(item, &settings)?;
                check(item, &read)?;
                Ok(read)
            })
            .collect()
    }

    /// A setting by its path.
    fn key(&self, path: &str) -> Option<&Key> {
        self.table.keys.iter().find(|key| key.path == path)
    }

    fn given(&self, key: &Key) -> Option<Given> {
        let own = self.overlay.and_then(|item| item.values.get(&key.path));
        if let Some(found) = own {
            let (place, texts) = (found.place.clone(), found.texts.clone());
            return Some(Given { origin: GivenOrigin::File, place, texts });
        }
        if let Some(texts) = self.flags.get(&key.path) {
            let place = format!("--{}", key.flag());
            return Some(Given { origin: GivenOrigin::Flag, place, texts: texts.to_vec() });
        }
        if let Some((place, text)) = compat::flag_of(&key.path, self.flags) {
            return Some(Given { origin: GivenOrigin::Flag, place, texts: vec![text] });
        }
        let own = key.env();
        for variable in std::iter::once(own.as_str()).chain(key.aliases.iter().copied()) {
            if let Some(text) = self.world.env(variable) {
                let place = variable.to_owned();
                return Some(Given { origin: GivenOrigin::Environment, place, texts: vec![text] });
            }
        }
        let found = self.file.settings.get(&key.path)?;
        let (place, texts) = (found.place.clone(), found.texts.clone());
        Some(Given { origin: GivenOrigin::File, place, texts })
    }

    /// What was given for the setting of a path.
    fn given_for(&self, path: &str) -> Option<Given> {
        self.key(path).and_then(|key| self.given(key))
    }

    /// The setting's value, or `None` where it was not given.
    fn value(&self, key: &Key) -> Result<Option<SettingValue>, ConfigError> {
        let Some(given) = self.given(key) else { return Ok(None) };
        // As exporter-toolkit has it, and charts of postgres_exporter give it.
        if key.path == settings::WEB_CONFIG && given.texts.iter().all(String::is_empty) {
            return Ok(None);
        }
        // The items of a YAML list are not split at commas: a name may hold one.
        let split = given.origin != GivenOrigin::File || given.texts.len() == 1;
        let value = key.kind.parse(&given.texts, split).map_err(|fault| {
            let problem = if given.origin == GivenOrigin::File {
                format!("`{}` {}", key.path, fault.problem)
            } else {
                format!("the value {}", fault.problem)
            };
            ConfigError::new(&given.place, problem, fault.remedy)
        })?;
        Ok(Some(value))
    }

    /// Overwrites the defaults in `whole` where a setting was given.
    fn fill<T: 'static>(&self, settings: &[Setting<T>], whole: &mut T) -> Result<(), ConfigError> {
        for setting in settings {
            if let Some(value) = self.value(&setting.key)? {
                put(setting, whole, value)?;
            }
        }
        Ok(())
    }

    /// The connection strings: several only where `DATA_SOURCE_NAME` or `DATA_SOURCE_URI` lists them.
    fn dsns(&self) -> Result<Vec<Dsn>, ConfigError> {
        let given = self.given_for(table::DSN);
        let from_file_or_nowhere = given.as_ref().is_none_or(|g| g.origin == GivenOrigin::File);
        if from_file_or_nowhere {
            let uris = target::data_source_uris(self.world)?;
            if !uris.is_empty() {
                return Ok(uris);
            }
        }
        let Some(Given { place, texts, .. }) = given else { return Ok(Vec::new()) };
        let text = texts.concat();
        if place != "DATA_SOURCE_NAME" {
            return Ok(vec![Dsn { text, place }]);
        }
        let dsn = |text: &str| Dsn { text: text.to_owned(), place: place.clone() };
        Ok(dsn::list(&text).into_iter().map(dsn).collect())
    }

    /// Whether a server is named outside the list of targets.
    fn names_a_server(&self) -> Result<bool, ConfigError> {
        let variables = ["PGHOST", "PGHOSTADDR", "PGSERVICE"];
        Ok(!self.dsns()?.is_empty() || variables.iter().any(|name| self.world.env(name).is_some()))
    }

    fn web(&self) -> Result<Web, ConfigError> {
        let mut web = Web::default();
        self.fill(&Web::keys(), &mut web)?;
        Ok(web)
    }

    /// Everything that was given, over the defaults.
    fn general(&self, known: &[KnownCollector]) -> Result<General, ConfigError> {
        let mut general = General::default();
        general.each.settings = Settings::for_collectors(known);
        self.fill(&self.table.general, &mut general)?;
        self.finish(&mut general.each.settings)?;
        Ok(general)
    }

    /// What one target has: its own, over that of all.
    fn per_target(&self, known: &[KnownCollector]) -> Result<PerTarget, ConfigError> {
        let settings = Settings::for_collectors(known);
        let mut each = PerTarget { settings, ..PerTarget::default() };
        self.fill(&self.table.each, &mut each)?;
        self.finish(&mut each.settings)?;
        Ok(each)
    }

    /// The lists of the file, and what one setting asks of another.
    fn finish(&self, s: &mut Settings) -> Result<(), ConfigError> {
        s.partitions.rules = self.items(table::PARTITIONS, rule)?;
        s.queries = self.items(table::QUERIES, query)?;
        s.indexes.expected = self.items(table::INDEXES, expected_index)?;
        let now = s.timeouts.statement;
        if let Some(lower) = compat::lowered(settings::STATEMENT, now, self.flags, self.world)? {
            s.timeouts.statement = lower;
        }
        s.custom.clone_from(&self.custom);
        compat::expose(self.flags, self.world, &mut s.exposed)?;
        compat::override_by(&self.overridden, &mut s.exposed);
        for (path, value) in
            [(settings::LOCK, s.timeouts.lock), (settings::SCAN_SPACING, s.statements.scan_spacing)]
        {
            if value >= s.timeouts.statement {
                let place = self.given_for(path).map_or_else(|| path.to_owned(), |g| g.place);
                let problem = format!("`{path}` is not below `timeouts.statement`");
                let remedy = "lower it, or raise `timeouts.statement`";
                return Err(ConfigError::new(place, problem, remedy));
            }
        }
        Ok(())
    }

    /// `connect_timeout` of a connection string gives way to our own setting.
    fn connect_timeout(&self, of_dsn: Option<Duration>, settings: &mut Settings) {
        if let Some(timeout) = of_dsn
            && self.given_for(settings::CONNECT).is_none()
        {
            settings.timeouts.connect = timeout;
        }
    }
}

/// In hexadecimal.
fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_file(world: &dyn Surroundings, path: &Path, place: &str) -> Result<String, ConfigError> {
    world.read(path).map_err(|e| {
        let problem = format!("cannot read {}: {e}", path.display());
        ConfigError::new(place, problem, "name a file that exists and that pgrunway may read")
    })
}

/// Where the exporter listens unless the user says otherwise: `:9187` on all addresses.
pub fn default_listen() -> Vec<SocketAddr> {
    Web::default().listen_address
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
    Ok(Sources::read(flags, world, known)?.web()?.listen_address)
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
        let mut general = sources.general(known)?;
        let shared = Arc::new(general.each.settings.clone());
        let (mut targets, more) = items::targets(&sources, known, &shared)?;
        let mut notes = sources.notes.clone();
        notes.extend(more);
        let named = sources.names_a_server()?;
        let listed = targets.first().filter(|_| !named);
        let (connect, default_target) = match listed {
            // For the subcommands that look at one server.
            Some(first) => (Some(first.connect.clone()), false),
            None => {
                let dsns = sources.dsns()?;
                if dsns.len() > 1 {
                    let group = items::group(&dsns, &sources, &general, &mut notes)?;
                    let first = group.first().map(|target| target.connect.clone());
                    let twice = targets.iter().find(|own| group.iter().any(|g| g.name == own.name));
                    if let Some(twice) = twice {
                        let problem = format!("a target of the file is named `{}` too", twice.name);
                        let remedy = "give it another name";
                        return Err(ConfigError::new("DATA_SOURCE_NAME", problem, remedy));
                    }
                    targets.splice(0..0, group);
                    (first, false)
                } else {
                    let target =
                        target::resolve(dsns.first(), items::command(&general.login), world)?;
                    sources.connect_timeout(target.connect_timeout, &mut general.each.settings);
                    notes.extend(target.notes);
                    (Some(target.connect), true)
                }
            }
        };
        let Some(connect) = connect else {
            let problem = "holds no connection string";
            return Err(ConfigError::new("DATA_SOURCE_NAME", problem, "write one"));
        };
        let (missing, query_file) = (sources.missing, sources.query_file.clone());
        let modules = items::modules(&sources)?;
        let of = Self::of(connect, general);
        let probe = Probe { modules, ..of.probe.clone() };
        let shown = Arc::new(sources.shown());
        Ok(Self { notes, targets, default_target, missing, probe, query_file, shown, ..of })
    }

    /// The configuration for a subcommand that looks at one server.
    ///
    /// # Errors
    /// The file lists several targets, and no server is named beside them.
    pub fn of_one_server(mut self) -> Result<Self, ConfigError> {
        if self.default_target || self.targets.len() == 1 {
            let settings = Arc::make_mut(&mut self.settings);
            settings.answer_limit = settings.answer_limit.max(ONCE);
            return Ok(self);
        }
        let problem = "several servers are listed, and this looks at one";
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
        let shown = Arc::new(sources.shown());
        Ok(Self { shown, ..Self::of(connect, sources.general(known)?) })
    }

    /// Defaults for everything but the target and the settings.
    pub fn new(connect: Connect, settings: Settings) -> Self {
        let mut general = General::default();
        general.each.settings = settings;
        Self::of(connect, general)
    }

    fn of(connect: Connect, general: General) -> Self {
        let General { web, log, login: _, probe, each } = general;
        Self {
            listen: web.listen_address,
            telemetry_path: web.telemetry_path,
            enable_lifecycle: web.enable_lifecycle,
            web_config: web.config_file.map(PathBuf::from),
            systemd_socket: web.systemd_socket,
            console: web.console,
            shown: Arc::default(),
            probe: Probe { settings: probe, ..Probe::default() },
            log_level: log.level,
            log_format: log.format,
            connect,
            default_target: true,
            targets: Vec::new(),
            databases: each.databases,
            settings: Arc::new(each.settings),
            notes: Vec::new(),
            query_file: None,
            missing: false,
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
}

#[cfg(test)]
mod tests;
