//! From connection string, service file, environment and libpq's defaults to one [`Connect`].
//!
//! Must not: put a value into a message (any may be a slipped password), or connect anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::params::{self, PARAMETERS};
use super::{
    CONSOLE, Connect, DEFAULT_SOCKET_DIR, Endpoint, Password, RootCert, Secret, SslMode,
    Surroundings, dsn, service, suggest,
};
use crate::error::ConfigError;

/// Folders of the system's `pg_service.conf` where `PGSYSCONFDIR` is not set: Debian's and Red Hat's.
const SERVICE_DIRS: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];
const LONGEST_CONNECT_TIMEOUT: u64 = 600;

/// A connection string and where it came from.
pub(super) struct Dsn {
    pub(super) text: String,
    pub(super) place: String,
}

/// What the parameters come to.
pub(super) struct ParsedTarget {
    pub(super) connect: Connect,
    /// `connect_timeout`, where one was given.
    pub(super) connect_timeout: Option<Duration>,
    /// What was accepted without its usual effect.
    pub(super) notes: Vec<String>,
}

struct GivenParameter {
    value: String,
    place: String,
}

struct Params<'a> {
    /// One of several: a password that the environment holds is for the one that has no name.
    listed: bool,
    given: BTreeMap<&'static str, GivenParameter>,
    /// Where the password comes from if not from a parameter.
    source: Option<Password>,
    notes: Vec<String>,
    world: &'a dyn Surroundings,
}

/// The target. Without a connection string the environment and libpq's defaults make one.
/// A program that prints the password stands above everything else that has one.
pub(super) fn resolve(
    dsn: Option<&Dsn>,
    command: Option<Password>,
    world: &dyn Surroundings,
) -> Result<ParsedTarget, ConfigError> {
    let mut params =
        Params { listed: false, given: BTreeMap::new(), source: command, notes: Vec::new(), world };
    if let Some(dsn) = dsn {
        params.take(dsn)?;
    }
    params.one_password()?;
    params.data_source_user_and_pass()?;
    params.service()?;
    params.environment();
    params.treat()?;
    params.build()
}

/// One of several targets. `DATA_SOURCE_USER` and its like are for the one that has no name, and so are
/// `PGPASSWORD` and the password of `PGSERVICE`, against libpq's custom: they would send its password to
/// every server. A passfile knows which server each of its passwords is for.
pub(super) fn resolve_named(
    dsn: &Dsn,
    console: bool,
    source: Option<Password>,
    world: &dyn Surroundings,
) -> Result<ParsedTarget, ConfigError> {
    let mut params =
        Params { listed: true, given: BTreeMap::new(), source, notes: Vec::new(), world };
    params.take(dsn)?;
    params.one_password()?;
    if console {
        params.offer("dbname", CONSOLE.to_owned(), dsn.place.as_str());
    }
    params.service()?;
    params.environment();
    params.treat()?;
    params.build()
}

/// A target from parameters that a request and an `auth_module` gave, the last of each counting. As for one of
/// several, no password of the environment goes there.
pub(super) fn resolve_given(
    given: Vec<(&'static str, String)>,
    password_file: Option<PathBuf>,
    world: &dyn Surroundings,
) -> Result<ParsedTarget, ConfigError> {
    let source = password_file.map(Password::File);
    let mut params =
        Params { listed: true, given: BTreeMap::new(), source, notes: Vec::new(), world };
    for (name, value) in given {
        let place = "target".to_owned();
        params.given.insert(name, GivenParameter { value, place });
    }
    params.environment();
    params.treat()?;
    params.build()
}

/// `DATA_SOURCE_URI` (as postgres_exporter has it: without a scheme) or `DATA_SOURCE_URI_FILE`.
/// A list of them is one of servers.
pub(super) fn data_source_uris(world: &dyn Surroundings) -> Result<Vec<Dsn>, ConfigError> {
    let Some((text, place)) = variable_or_file(world, "DATA_SOURCE_URI")? else {
        return Ok(Vec::new());
    };
    let dsn = |text: &str| {
        let whole = text.contains("://");
        let text = if whole { text.to_owned() } else { format!("postgresql://{text}") };
        Dsn { text, place: place.clone() }
    };
    Ok(dsn::list_of_uris(&text).into_iter().map(dsn).collect())
}

/// The content of the file that `NAME_FILE` names, else `NAME`; with the name of the one used.
fn variable_or_file(
    world: &dyn Surroundings,
    name: &str,
) -> Result<Option<(String, String)>, ConfigError> {
    let file = format!("{name}_FILE");
    if let Some(path) = world.env(&file) {
        let text = world.read(Path::new(&path)).map_err(|e| {
            ConfigError::new(
                &file,
                // Not its name: people put the secret itself here.
                format!("cannot read the file that it names: {e}"),
                "name a file that pgrunway may read",
            )
        })?;
        return Ok(Some((text.trim().to_owned(), file)));
    }
    Ok(world.env(name).map(|value| (value, name.to_owned())))
}

impl Params<'_> {
    fn take(&mut self, dsn: &Dsn) -> Result<(), ConfigError> {
        for pair in dsn::parse(&dsn.text).map_err(|fault| fault.at(&dsn.place))? {
            let given = GivenParameter { value: pair.value, place: dsn.place.clone() };
            self.given.insert(pair.name, given);
        }
        Ok(())
    }

    fn offer(&mut self, name: &'static str, value: String, place: impl Into<String>) {
        self.given.entry(name).or_insert_with(|| GivenParameter { value, place: place.into() });
    }

    /// What was given and is not empty.
    fn get(&self, name: &str) -> Option<&GivenParameter> {
        self.given.get(name).filter(|given| !given.value.is_empty())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|given| given.value.as_str())
    }

    fn refuse(&self, name: &str, problem: &str, remedy: impl Into<String>) -> ConfigError {
        let place = self.given.get(name).map_or("connection parameters", |g| g.place.as_str());
        ConfigError::new(place, problem, remedy)
    }

    fn one_password(&self) -> Result<(), ConfigError> {
        let key = match self.source {
            Some(Password::Command(_)) => "password_command",
            Some(_) => "password_file",
            None => return Ok(()),
        };
        if self.get("password").is_none() {
            return Ok(());
        }
        let problem = format!("a password stands beside `{key}`");
        Err(self.refuse("password", &problem, "keep one of the two"))
    }

    fn data_source_user_and_pass(&mut self) -> Result<(), ConfigError> {
        if let Some((user, place)) = variable_or_file(self.world, "DATA_SOURCE_USER")? {
            self.offer("user", user, place);
        }
        if self.get("password").is_some() || self.source.is_some() {
            return Ok(());
        }
        let file = "DATA_SOURCE_PASS_FILE";
        if let Some(path) = self.world.env(file) {
            // Read at every connect; here only to tell at the start that it cannot be.
            variable_or_file(self.world, "DATA_SOURCE_PASS")?;
            self.source = Some(Password::File(PathBuf::from(path)));
        } else if let Some(password) = self.world.env("DATA_SOURCE_PASS") {
            self.offer("password", password, "DATA_SOURCE_PASS");
        }
        Ok(())
    }

    fn service(&mut self) -> Result<(), ConfigError> {
        let own = self.get("service").is_some();
        if let Some(name) = self.world.env("PGSERVICE") {
            self.offer("service", name, "PGSERVICE");
        }
        if let Some(path) = self.world.env("PGSERVICEFILE") {
            self.offer("servicefile", path, "PGSERVICEFILE");
        }
        let Some(name) = self.value("service").map(str::to_owned) else { return Ok(()) };
        let user_file = self
            .value("servicefile")
            .map(PathBuf::from)
            .or_else(|| self.world.home().map(|home| home.join(".pg_service.conf")));
        let folders = match self.world.env("PGSYSCONFDIR") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => SERVICE_DIRS.iter().map(PathBuf::from).collect(),
        };
        let system_files = folders.into_iter().map(|dir| dir.join("pg_service.conf"));
        let files: Vec<PathBuf> = user_file.into_iter().chain(system_files).collect();
        for path in &files {
            let text = match self.world.read(path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => {
                    let problem = format!("cannot read the service file: {e}");
                    let remedy = "make it readable for pgrunway";
                    return Err(ConfigError::new(path.display().to_string(), problem, remedy));
                }
            };
            let found = service::find(&text, &name)
                .map_err(|(line, fault)| fault.at(format!("{}:{line}", path.display())))?;
            if let Some(lines) = found {
                for line in lines {
                    let place = format!("{}:{}", path.display(), line.number);
                    // `DATA_SOURCE_PASS_FILE` stands above the service.
                    let wanted = self.source.is_none() && (own || !self.listed);
                    if line.pair.name != "password" || wanted {
                        self.offer(line.pair.name, line.pair.value, place);
                    }
                }
                return Ok(());
            }
        }
        let looked: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
        let remedy = format!("define it in one of {}", looked.join(", "));
        Err(self.refuse("service", "the service is not defined", remedy))
    }

    fn environment(&mut self) {
        for parameter in PARAMETERS {
            let Some(variable) = parameter.env else { continue };
            if parameter.name == "password" && (self.source.is_some() || self.listed) {
                continue;
            }
            if let Some(value) = self.world.env(variable) {
                self.offer(parameter.name, value, variable);
            }
        }
    }

    fn treat(&mut self) -> Result<(), ConfigError> {
        for (name, given) in &self.given {
            let Some(parameter) = params::find(name) else { continue };
            match parameter.check(&given.value) {
                Ok(None) => {}
                Ok(Some(note)) => self.notes.push(format!("{}: {note}", given.place)),
                Err(fault) => return Err(fault.at(&given.place)),
            }
        }
        Ok(())
    }

    fn build(mut self) -> Result<ParsedTarget, ConfigError> {
        let endpoints = self.endpoints()?;
        let user = match self.value("user") {
            Some(user) => user.to_owned(),
            None => self.world.account().map(|(name, _)| name).ok_or_else(|| {
                ConfigError::new(
                    "connection parameters",
                    "no user is given, and the account of this process has no name",
                    "set the user in the connection string, DATA_SOURCE_USER or PGUSER",
                )
            })?,
        };
        let dbname = self.value("dbname").unwrap_or(&user).to_owned();
        let over_tcp = endpoints.iter().any(|e| matches!(e, Endpoint::Tcp { .. }));
        let root_cert = self.root_cert();
        let sslmode = self.sslmode(&root_cert)?;
        // Over a Unix socket there is no TLS, whatever the mode.
        let (root_cert, client_cert) = if over_tcp && sslmode != SslMode::Disable {
            self.check_root(sslmode, &root_cert)?;
            (root_cert, self.client_cert()?)
        } else {
            (RootCert::None, None)
        };
        if sslmode == SslMode::VerifyFull && self.get("host").is_some() {
            self.no_hostaddr()?;
        }
        let password = self.password();
        let application_name = self
            .value("application_name")
            .or(self.value("fallback_application_name"))
            .unwrap_or("pgrunway")
            .to_owned();
        let connect_timeout = self.connect_timeout()?;
        let connect = Connect {
            endpoints,
            user,
            dbname,
            password,
            sslmode,
            root_cert,
            client_cert,
            application_name,
            only: None,
        };
        Ok(ParsedTarget { connect, connect_timeout, notes: self.notes })
    }

    fn password(&self) -> Password {
        if let Some(given) = self.get("password") {
            return Password::Literal(Secret::new(&given.value));
        }
        if let Some(source) = &self.source {
            return source.clone();
        }
        let home = || self.world.home().map(|home| home.join(".pgpass"));
        let passfile = self.value("passfile").map(PathBuf::from).or_else(home);
        passfile.map_or(Password::None, Password::Passfile)
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let list = |name: &str| -> Vec<&str> {
            self.value(name).map(|v| v.split(',').map(str::trim).collect()).unwrap_or_default()
        };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
            let problem = "host and hostaddr are lists of different lengths";
            return Err(self.refuse("hostaddr", problem, "give one address for each host"));
        }
        let count = hosts.len().max(addresses.len()).max(1);
        if ports.len() > 1 && ports.len() != count {
            let problem = format!("{count} hosts, but {} ports", ports.len());
            return Err(self.refuse("port", &problem, "give one port, or one for each host"));
        }
        (0..count)
            .map(|i| {
                let port = match ports.get(i).or(ports.last()).copied().unwrap_or_default() {
                    "" => 5432,
                    text => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                        let problem = "the port is not a number from 1 to 65535";
                        let remedy = "fix it; in a URI, percent-encode special characters of user \
                                      and password";
                        self.refuse("port", problem, remedy)
                    })?,
                };
                let host = hosts.get(i).copied().unwrap_or_default();
                let address = addresses.get(i).copied().unwrap_or_default();
                self.endpoint(host, address, port)
            })
            .collect()
    }

    fn endpoint(&self, host: &str, address: &str, port: u16) -> Result<Endpoint, ConfigError> {
        if !address.is_empty() {
            return match address.parse::<std::net::IpAddr>() {
                Ok(ip) => Ok(Endpoint::Tcp { host: ip.to_string(), port }),
                Err(_) => Err(self.refuse(
                    "hostaddr",
                    "hostaddr is not an IP address",
                    "put a name into host, an address into hostaddr",
                )),
            };
        }
        if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let remedy = "write a host name, an address or a folder";
            return Err(self.refuse("host", "the host holds a space or control character", remedy));
        }
        if host.is_empty() {
            let directory = PathBuf::from(DEFAULT_SOCKET_DIR);
            return Ok(if self.world.exists(&directory) {
                Endpoint::Unix { directory, port }
            } else {
                Endpoint::Tcp { host: "localhost".to_owned(), port }
            });
        }
        if host.starts_with('/') {
            return Ok(Endpoint::Unix { directory: PathBuf::from(host), port });
        }
        if host.starts_with('@') {
            let remedy = "name the folder of the socket";
            return Err(self.refuse("host", "abstract sockets are not supported", remedy));
        }
        Ok(Endpoint::Tcp { host: host.to_owned(), port })
    }

    /// The certificate is checked against the name that we connect to, so one of the two must go.
    fn no_hostaddr(&self) -> Result<(), ConfigError> {
        if self.get("hostaddr").is_none() {
            return Ok(());
        }
        Err(self.refuse(
            "hostaddr",
            "hostaddr beside host is not supported with sslmode verify-full",
            "leave hostaddr out, or use verify-ca",
        ))
    }

    fn sslmode(&mut self, root_cert: &RootCert) -> Result<SslMode, ConfigError> {
        const MODES: [&str; 6] =
            ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        let on = |value: Option<&str>| matches!(value, Some("1" | "true"));
        let mode = match self.get("sslmode") {
            Some(given) => match given.value.as_str() {
                "disable" => SslMode::Disable,
                "allow" => {
                    let note = "sslmode `allow` is treated as `prefer`: TLS is tried first";
                    self.notes.push(format!("{}: {note}", given.place));
                    SslMode::Prefer
                }
                "prefer" => SslMode::Prefer,
                "require" => SslMode::Require,
                "verify-ca" => SslMode::VerifyCa,
                "verify-full" => SslMode::VerifyFull,
                other => {
                    let remedy = match suggest::nearest(other, MODES) {
                        Some(mode) => format!("did you mean `{mode}`?"),
                        None => format!("use one of {}", MODES.join(", ")),
                    };
                    return Err(self.refuse("sslmode", "unknown value of sslmode", remedy));
                }
            },
            None if *root_cert == RootCert::System => SslMode::VerifyFull,
            None if on(self.value("requiressl")) || on(self.value("ssl")) => SslMode::Require,
            None => SslMode::Prefer,
        };
        if *root_cert == RootCert::System && mode != SslMode::VerifyFull {
            let problem = "sslrootcert=system needs sslmode verify-full: anyone can have a \
                           certificate of a public authority";
            return Err(self.refuse("sslmode", problem, "use verify-full, or name a PEM file"));
        }
        Ok(mode)
    }

    fn in_home(&self, name: &str) -> Option<PathBuf> {
        let path = self.world.home()?.join(".postgresql").join(name);
        self.world.exists(&path).then_some(path)
    }

    fn root_cert(&self) -> RootCert {
        match self.value("sslrootcert") {
            Some("system") => RootCert::System,
            Some(path) => RootCert::File(PathBuf::from(path)),
            None => self.in_home("root.crt").map_or(RootCert::None, RootCert::File),
        }
    }

    fn check_root(&self, mode: SslMode, root_cert: &RootCert) -> Result<(), ConfigError> {
        let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        match root_cert {
            RootCert::None if verifies => Err(self.refuse(
                "sslmode",
                "sslmode verify-ca and verify-full need a root certificate, and \
                 ~/.postgresql/root.crt does not exist",
                "set sslrootcert to a PEM file, or to `system` for the system's trust store",
            )),
            RootCert::File(path) if mode != SslMode::Prefer && !self.world.exists(path) => {
                Err(self.refuse(
                    "sslrootcert",
                    "the file that sslrootcert names does not exist",
                    "name the PEM file with the root certificate, or `system`",
                ))
            }
            _ => Ok(()),
        }
    }

    fn client_cert(&mut self) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        let missing = |path: &Option<PathBuf>| path.as_ref().is_some_and(|p| !self.world.exists(p));
        let explicit = |name: &str| self.value(name).map(PathBuf::from);
        let (cert, key) = (explicit("sslcert"), explicit("sslkey"));
        for (name, path) in [("sslcert", &cert), ("sslkey", &key)] {
            if missing(path) {
                let problem = format!("the file that {name} names does not exist");
                return Err(self.refuse(name, &problem, "name the PEM file, or leave it out"));
            }
        }
        let Some(cert) = cert.or_else(|| self.in_home("postgresql.crt")) else {
            if let Some(given) = self.get("sslkey") {
                let note = format!("{}: `sslkey` has no effect without `sslcert`", given.place);
                self.notes.push(note);
            }
            return Ok(None);
        };
        match key.or_else(|| self.in_home("postgresql.key")) {
            Some(key) => Ok(Some((cert, key))),
            None => Err(self.refuse(
                "sslcert",
                "there is a client certificate, but no key for it",
                "set sslkey to the PEM file with the key",
            )),
        }
    }

    fn connect_timeout(&mut self) -> Result<Option<Duration>, ConfigError> {
        let Some(given) = self.get("connect_timeout") else { return Ok(None) };
        let Ok(seconds) = given.value.trim().parse::<i64>() else {
            let problem = "connect_timeout is not a whole number of seconds";
            return Err(self.refuse("connect_timeout", problem, "write it as `10`"));
        };
        match u64::try_from(seconds) {
            // libpq: without limit.
            Err(_) | Ok(0) => {
                let note = "connect_timeout without limit is not offered: `timeouts.connect` holds";
                self.notes.push(format!("{}: {note}", given.place));
                Ok(None)
            }
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds.min(LONGEST_CONNECT_TIMEOUT)))),
        }
    }
}

#[cfg(test)]
mod tests;
