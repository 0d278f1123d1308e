//! Targets that a request names: where they may lead, and as whom.
//!
//! Must not: let a request name a file, a service or a socket, or give a password of ours to whom it was not meant for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::allow::Allow;
use super::schema::{SECOND, SettingKind, settings};
use super::target;
use super::{Config, Endpoint, Secret, Surroundings, TargetConfig, dsn, params};

settings! {
    /// What may be probed.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ProbeSettings {
        /// Targets that `/probe` may connect to: names (with `*`), addresses and networks, each with ports if
        /// needed; none if empty.
        pub allow: Allow = Allow::default(), "probe.allow" => SettingKind::Allow;
        /// How many probed targets are polled at most.
        pub limit: usize = 100, "probe.limit" => SettingKind::Integer { min: 1, max: 10_000 };
        /// For how long a target is polled after its last probe.
        pub keep: Duration = Duration::from_secs(600), "probe.keep" => SettingKind::Duration { min: SECOND, max: Duration::from_secs(86_400) };
    }

    /// How to log in to probed targets, by the name that a request gives as `auth_module`.
    pub(super) struct AuthItem {
        /// The name.
        pub name: String = String::new(), "name" => SettingKind::Text;
        /// How.
        pub kind: Option<String> = None, "type" => SettingKind::Choice { words: &["userpass"], aliases: &[] };
        /// The role.
        pub username: Option<String> = None, "userpass.username" => SettingKind::Text;
        /// Its password.
        pub password: Option<String> = None, "userpass.password" => SettingKind::Text;
        /// File with the password, read again at every connect.
        pub password_file: Option<String> = None, "userpass.password_file" => SettingKind::File;
        /// Parameters of the connection string, which win over those of the request.
        pub options: Vec<String> = Vec::new(), "options" => SettingKind::Options;
    }
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthModule {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) options: Vec<(&'static str, String)>,
}

/// Everything about probes.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// What may be probed.
    pub settings: ProbeSettings,
    pub(super) modules: BTreeMap<String, AuthModule>,
}

/// Why a target is not probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoProbe {
    /// The request means nothing.
    Bad(String),
    /// It may not lead there.
    Forbidden(String),
}

/// What a request may say of a connection. The rest names files, or is ours to decide.
const FROM_OUTSIDE: [&str; 8] = [
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "application_name",
    "connect_timeout",
];

impl Config {
    /// The target of a request: a URI, keywords, or `host:port/dbname?...` as postgres_exporter takes it.
    ///
    /// # Errors
    /// It means nothing, or may not lead there; without a secret.
    pub fn probed(
        &self,
        text: &str,
        module: Option<&str>,
        world: &dyn Surroundings,
    ) -> Result<TargetConfig, NoProbe> {
        let bad = |problem: String| NoProbe::Bad(problem);
        let module = match module.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => Some(self.probe.modules.get(name).ok_or_else(|| {
                bad("auth_module is not among auth_modules of the configuration".to_owned())
            })?),
        };
        let text = text.trim();
        let first = text.split('=').next().unwrap_or_default().trim();
        let keywords = text.contains('=') && params::find(first).is_some();
        let whole = if text.contains("://") || keywords {
            text.to_owned()
        } else {
            format!("postgresql://{text}")
        };
        let pairs = dsn::parse(&whole)
            .map_err(|fault| bad(format!("target {}; {}", fault.problem, fault.remedy)))?;
        if let Some(pair) = pairs.iter().find(|pair| !FROM_OUTSIDE.contains(&pair.name)) {
            let problem = "no request may set it; set it in options of an auth_module";
            return Err(bad(format!("target sets `{}`: {problem}", pair.name)));
        }
        let mut given: Vec<(&'static str, String)> =
            pairs.into_iter().map(|pair| (pair.name, pair.value)).collect();
        if !given.iter().any(|(name, value)| *name == "host" && !value.is_empty()) {
            return Err(bad("target names no host".to_owned()));
        }
        let mut password_file = None;
        if let Some(module) = module {
            let own = [
                ("user", module.user.clone()),
                ("password", module.password.as_ref().map(|secret| secret.expose().to_owned())),
            ];
            let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
            password_file.clone_from(&module.password_file);
            if password_file.is_some() {
                given.retain(|(name, _)| *name != "password");
            }
            given.extend(own.chain(module.options.iter().cloned()));
        }
        let resolved = target::resolve_given(given, password_file, world)
            .map_err(|e| bad(format!("target: {}", e.problem)))?;
        let mut connect = resolved.connect;
        let allow = &self.probe.settings.allow;
        for endpoint in &connect.endpoints {
            let may = match endpoint {
                Endpoint::Tcp { host, port } => allow.host(host, *port),
                Endpoint::Unix { .. } => false,
            };
            if !may {
                return Err(NoProbe::Forbidden(forbidden(&endpoint.to_string())));
            }
        }
        connect.only = Some(Arc::new(allow.clone()));
        let name = format!("probe of {}", connect.describe());
        let mut settings = self.settings.clone();
        if let Some(timeout) = resolved.connect_timeout {
            Arc::make_mut(&mut settings).timeouts.connect = timeout;
        }
        let (expected, databases) = (connect.expected(), self.databases.clone());
        Ok(TargetConfig { name, grouped: false, expected, connect, databases, settings })
    }
}

/// What to do about a place that is not on the list.
pub fn forbidden(place: &str) -> String {
    format!("{place} is not among the targets that may be probed: add it to `probe.allow`")
}

/// A module from its item; else the key at fault and what is wrong there.
pub(super) fn module(item: AuthItem) -> Result<AuthModule, (&'static str, String)> {
    let mut options = Vec::new();
    for text in &item.options {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let Some(parameter) = params::find(name.trim()) else {
            return Err(("options", params::unknown(name, false).problem));
        };
        options.push((parameter.name, value.to_owned()));
    }
    if item.password.is_some() && item.password_file.is_some() {
        return Err(("userpass.password_file", "stands beside `password`: keep one".to_owned()));
    }
    Ok(AuthModule {
        user: item.username,
        password: item.password.map(Secret::new),
        password_file: item.password_file.map(PathBuf::from),
        options,
    })
}
