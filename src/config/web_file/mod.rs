//! The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, passwords, headers and a
//! rate limit of the HTTP port.
//!
//! Must not: read the certificates that it names, know what a TLS library offers, or repeat a value in a message
//! (it may be a secret).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::file::{YamlNode, nodes, place};
use super::{Secret, duration, suggest};
use crate::error::ConfigError;

/// The headers that the format allows, each with the values that it may have; any where there are none.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];
/// The cipher suites that Go has, which the format takes its names from.
const SUITES: [&str; 22] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
];
const CURVES: [&str; 4] = ["CurveP256", "CurveP384", "CurveP521", "X25519"];
const VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];
const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    // The format keeps it for files of its first days.
    ("RequireClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];
/// A bcrypt hash of this cost takes tens of seconds; beyond, one request would hold a thread for minutes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=18;
/// `$2y$10$`, 22 characters of salt and 31 of hash.
const HASH_LENGTH: usize = 60;

/// A value, and where it stands: `web.yml:3:5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedValue<T> {
    /// The value.
    pub value: T,
    /// File, line and column.
    pub place: String,
}

/// Where a certificate or a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In the file itself.
    Inline(Secret),
    /// In another file, named from the folder of the first.
    File(PathBuf),
}

/// What is asked of clients, by Go's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// Asked for and not looked at.
    Request,
    /// Needed, and not verified.
    RequireAny,
    /// Verified where there is one.
    VerifyIfGiven,
    /// Needed, and verified.
    RequireAndVerify,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// `tls_server_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// The server's chain, its own certificate first.
    pub cert: PlacedValue<Pem>,
    /// The key of the first.
    pub key: PlacedValue<Pem>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Who signs clients' certificates.
    pub client_ca: Option<PlacedValue<Pem>>,
    /// One of them must be among the client certificate's alternative names.
    pub allowed_sans: Option<Vec<String>>,
    /// The least version.
    pub min: PlacedValue<TlsVersion>,
    /// The highest version.
    pub max: PlacedValue<TlsVersion>,
    /// Cipher suites by Go's names, in the server's order; the library's choice if empty.
    pub suites: Vec<PlacedValue<String>>,
    /// Whether the order of the suites is the server's.
    pub server_order: bool,
    /// Curves by Go's names, in their order; the library's choice if empty.
    pub curves: Vec<PlacedValue<String>>,
}

/// `rate_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Time between two requests in the long run.
    pub interval: Duration,
    /// Requests at once.
    pub burst: u32,
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebFile {
    /// TLS; plain text without.
    pub tls: Option<TlsServer>,
    /// Whether HTTP/2 is offered to TLS clients.
    pub http2: bool,
    /// Headers of every answer.
    pub headers: Vec<(String, String)>,
    /// bcrypt hashes by user; no password is asked for if there are none.
    pub users: BTreeMap<String, PlacedValue<Secret>>,
    /// Limit of requests, of all clients together.
    pub rate: Option<RateLimit>,
    /// What was accepted without its usual effect.
    pub notes: Vec<String>,
}

type Values<'a> = BTreeMap<&'static str, &'a Spanned<YamlNode>>;

/// Reads the file's text. `path` is its name, from whose folder the others are named.
///
/// # Errors
/// Not YAML, an unknown key, or a value that its key cannot have; the place is file, line and column.
pub fn parse(path: &Path, text: &str) -> Result<WebFile, ConfigError> {
    let name = path.display().to_string();
    let root = nodes(&name, text)?;
    let mut reader = WebFileReader { file: &name, folder: path.parent(), notes: Vec::new() };
    let keys = ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];
    let mut whole = WebFile { http2: true, ..WebFile::default() };
    let sections = reader.section("", &root, &keys)?;
    if let Some(node) = sections.get("tls_server_config") {
        whole.tls = reader.tls(node)?;
    }
    if let Some(node) = sections.get("http_server_config") {
        reader.http(node, &mut whole)?;
    }
    if let Some(node) = sections.get("basic_auth_users") {
        whole.users = reader.users(node)?;
    }
    if let Some(node) = sections.get("rate_limit") {
        whole.rate = reader.rate(node)?;
    }
    whole.notes = reader.notes;
    Ok(whole)
}

struct WebFileReader<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    notes: Vec<String>,
}

impl WebFileReader<'_> {
    fn at<T>(&self, node: &Spanned<T>) -> String {
        place(self.file, &node.referenced)
    }

    fn fault<T, V>(
        &self,
        node: &Spanned<T>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Result<V, ConfigError> {
        Err(ConfigError::new(self.at(node), problem, remedy))
    }

    fn note<T>(&mut self, node: &Spanned<T>, text: &str) {
        self.notes.push(format!("{}: {text}", self.at(node)));
    }

    /// The values of a section by key, of which only these are known.
    fn section<'n>(
        &self,
        path: &str,
        node: &'n Spanned<YamlNode>,
        keys: &[&'static str],
    ) -> Result<Values<'n>, ConfigError> {
        let entries = match &node.value {
            YamlNode::Null => return Ok(Values::new()),
            YamlNode::Map(entries) => entries,
            other => {
                let what = if path.is_empty() { "the file" } else { path };
                let problem = format!("`{what}` must hold keys, not {}", other.describe());
                return self.fault(node, problem, format!("keys here: {}", keys.join(", ")));
            }
        };
        let mut values = Values::new();
        for (key, value) in entries {
            let Some(known) = keys.iter().find(|known| **known == key.value) else {
                let near = suggest::nearest(&key.value, keys.iter().copied());
                let remedy = near.map_or_else(
                    || format!("keys here: {}", keys.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                // A key that is no identifier may be a value that slipped.
                let shown = suggest::printable(&key.value).then(|| format!(" `{}`", key.value));
                return self.fault(
                    key,
                    format!("unknown key{}", shown.unwrap_or_default()),
                    remedy,
                );
            };
            if !matches!(value.value, YamlNode::Null) {
                values.insert(known, value);
            }
        }
        Ok(values)
    }

    fn text(&self, key: &str, node: &Spanned<YamlNode>) -> Result<String, ConfigError> {
        match &node.value {
            YamlNode::Text(text) => Ok(text.clone()),
            // `X-XSS-Protection: 0`.
            YamlNode::Integer(number) => Ok(number.to_string()),
            YamlNode::Boolean(word) => Ok(word.to_string()),
            other => {
                let problem = format!("`{key}` cannot be {}", other.describe());
                self.fault(node, problem, "write it as text, in quotes where need be")
            }
        }
    }

    /// The text of a key; none if it is not there or empty.
    fn given(
        &self,
        values: &Values<'_>,
        key: &str,
    ) -> Result<Option<PlacedValue<String>>, ConfigError> {
        let Some(node) = values.get(key) else { return Ok(None) };
        let value = self.text(key, node)?;
        Ok((!value.is_empty()).then(|| PlacedValue { value, place: self.at(node) }))
    }

    fn flag(&self, values: &Values<'_>, key: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(node) = values.get(key) else { return Ok(default) };
        match &node.value {
            YamlNode::Boolean(value) => Ok(*value),
            YamlNode::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok(true),
                "false" | "no" | "off" => Ok(false),
                _ => self.fault(
                    node,
                    format!("`{key}` is neither true nor false"),
                    "write `true` or `false`",
                ),
            },
            _ => self.fault(
                node,
                format!("`{key}` is neither true nor false"),
                "write `true` or `false`",
            ),
        }
    }

    fn list(
        &self,
        values: &Values<'_>,
        key: &str,
    ) -> Result<Option<Vec<PlacedValue<String>>>, ConfigError> {
        let Some(node) = values.get(key) else { return Ok(None) };
        let YamlNode::Seq(items) = &node.value else {
            let problem = format!("`{key}` must be a list, not {}", node.value.describe());
            return self.fault(node, problem, "begin each item with `- `");
        };
        let item = |item: &Spanned<YamlNode>| {
            Ok(PlacedValue { value: self.text(key, item)?, place: self.at(item) })
        };
        items.iter().map(item).collect::<Result<_, _>>().map(Some)
    }

    /// A list of known words.
    fn words(
        &self,
        values: &Values<'_>,
        key: &str,
        known: &[&str],
    ) -> Result<Vec<PlacedValue<String>>, ConfigError> {
        let items = self.list(values, key)?.unwrap_or_default();
        for item in &items {
            if !known.contains(&item.value.as_str()) {
                return Err(unknown(item, key, known));
            }
        }
        Ok(items)
    }

    /// A certificate or key: `file` wins, as in the toolkit.
    fn pem(
        &mut self,
        values: &Values<'_>,
        inline: &'static str,
        file: &'static str,
    ) -> Result<Option<PlacedValue<Pem>>, ConfigError> {
        let (text, path) = (self.given(values, inline)?, self.given(values, file)?);
        if let (Some(_), Some(_), Some(node)) = (&text, &path, values.get(inline)) {
            self.note(node, &format!("`{inline}` has no effect beside `{file}`"));
        }
        let folder = self.folder.unwrap_or(Path::new(""));
        Ok(match (path, text) {
            (Some(PlacedValue { value, place }), _) => {
                Some(PlacedValue { value: Pem::File(folder.join(value)), place })
            }
            (None, Some(PlacedValue { value, place })) => {
                Some(PlacedValue { value: Pem::Inline(Secret::new(value)), place })
            }
            (None, None) => None,
        })
    }

    fn version(
        &self,
        values: &Values<'_>,
        key: &str,
        default: TlsVersion,
        node: &Spanned<YamlNode>,
    ) -> Result<PlacedValue<TlsVersion>, ConfigError> {
        let Some(given) = self.given(values, key)? else {
            return Ok(PlacedValue { value: default, place: self.at(node) });
        };
        let value = match given.value.as_str() {
            "TLS10" => TlsVersion::Tls10,
            "TLS11" => TlsVersion::Tls11,
            "TLS12" => TlsVersion::Tls12,
            "TLS13" => TlsVersion::Tls13,
            _ => return Err(unknown(&given, key, &VERSIONS)),
        };
        Ok(PlacedValue { value, place: given.place })
    }

    fn tls(&mut self, node: &Spanned<YamlNode>) -> Result<Option<TlsServer>, ConfigError> {
        let keys = [
            "cert",
            "key",
            "client_ca",
            "cert_file",
            "key_file",
            "client_auth_type",
            "client_ca_file",
            "client_allowed_sans",
            "min_version",
            "max_version",
            "cipher_suites",
            "prefer_server_cipher_suites",
            "curve_preferences",
        ];
        let values = self.section("tls_server_config", node, &keys)?;
        let cert = self.pem(&values, "cert", "cert_file")?;
        let key = self.pem(&values, "key", "key_file")?;
        let client_ca = self.pem(&values, "client_ca", "client_ca_file")?;
        let auth = self.given(&values, "client_auth_type")?;
        let client_auth = match &auth {
            None => ClientAuth::None,
            Some(given) => match CLIENT_AUTH.iter().find(|(name, _)| *name == given.value) {
                Some((_, auth)) => *auth,
                None => {
                    let names = CLIENT_AUTH.map(|(name, _)| name);
                    return Err(unknown(given, "client_auth_type", &names));
                }
            },
        };
        let min = self.version(&values, "min_version", TlsVersion::Tls12, node)?;
        let max = self.version(&values, "max_version", TlsVersion::Tls13, node)?;
        let suites = self.words(&values, "cipher_suites", &SUITES)?;
        let curves = self.words(&values, "curve_preferences", &CURVES)?;
        let server_order = self.flag(&values, "prefer_server_cipher_suites", true)?;
        let allowed_sans = self.list(&values, "client_allowed_sans")?;
        // As the toolkit has it: what stands beside alone does not turn TLS on.
        if cert.is_none() && key.is_none() && client_ca.is_none() && auth.is_none() {
            if !values.is_empty() {
                self.note(
                    node,
                    "TLS is off: `tls_server_config` has neither `cert_file` nor `cert`",
                );
            }
            return Ok(None);
        }
        let Some(cert) = cert else {
            return self.fault(node, "the server has no certificate", "add `cert_file` or `cert`");
        };
        let Some(key) = key else {
            return self.fault(
                node,
                "the server's certificate has no key",
                "add `key_file` or `key`",
            );
        };
        if let (Some(ca), ClientAuth::None) = (&client_ca, client_auth) {
            let problem = "a client CA stands here, and no certificate is asked of clients";
            let remedy = "add `client_auth_type: RequireAndVerifyClientCert`";
            return Err(ConfigError::new(&ca.place, problem, remedy));
        }
        if let Some(node) = values.get("client_allowed_sans")
            && !matches!(client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
        {
            let problem =
                "`client_allowed_sans` needs a client certificate, and clients may come without";
            let remedy = "add `client_auth_type: RequireAndVerifyClientCert`";
            return self.fault(node, problem, remedy);
        }
        if min.value > max.value {
            let remedy = "lower it, or raise `max_version`";
            return Err(ConfigError::new(
                &min.place,
                "`min_version` is above `max_version`",
                remedy,
            ));
        }
        let allowed_sans =
            allowed_sans.map(|list| list.into_iter().map(|item| item.value).collect());
        Ok(Some(TlsServer {
            cert,
            key,
            client_auth,
            client_ca,
            allowed_sans,
            min,
            max,
            suites,
            server_order,
            curves,
        }))
    }

    fn http(&mut self, node: &Spanned<YamlNode>, whole: &mut WebFile) -> Result<(), ConfigError> {
        let values = self.section("http_server_config", node, &["http2", "headers"])?;
        whole.http2 = self.flag(&values, "http2", true)?;
        let Some(headers) = values.get("headers") else { return Ok(()) };
        let names = HEADERS.map(|(name, _)| name);
        for (name, value) in self.section("headers", headers, &names)? {
            let text = self.text(name, value)?;
            let allowed =
                HEADERS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, v)| v);
            if !allowed.is_empty() && !allowed.contains(&text.as_str()) {
                let remedy = format!("write {}", allowed.join(" or "));
                return self.fault(value, format!("`{name}` cannot have this value"), remedy);
            }
            if text.bytes().any(|b| b.is_ascii_control()) || !text.is_ascii() {
                let problem = format!("`{name}` holds a character that no header may have");
                return self.fault(value, problem, "write plain ASCII in one line");
            }
            if !text.is_empty() {
                whole.headers.push((name.to_owned(), text));
            }
        }
        Ok(())
    }

    fn users(
        &self,
        node: &Spanned<YamlNode>,
    ) -> Result<BTreeMap<String, PlacedValue<Secret>>, ConfigError> {
        let entries = match &node.value {
            YamlNode::Null => return Ok(BTreeMap::new()),
            YamlNode::Map(entries) => entries,
            other => {
                let problem =
                    format!("`basic_auth_users` must hold users, not {}", other.describe());
                return self.fault(node, problem, "write `name: hash` for each");
            }
        };
        let mut users = BTreeMap::new();
        for (user, hash) in entries {
            if user.value.contains(':') {
                let problem = "the name of a user holds a colon, which HTTP cannot send";
                return self.fault(user, problem, "leave it out");
            }
            let YamlNode::Text(text) = &hash.value else {
                let problem = format!("a password's hash cannot be {}", hash.value.describe());
                return self.fault(hash, problem, MAKE_HASH);
            };
            if let Err(problem) = bcrypt(text) {
                return self.fault(hash, problem, MAKE_HASH);
            }
            let placed = PlacedValue { value: Secret::new(text), place: self.at(hash) };
            users.insert(user.value.clone(), placed);
        }
        Ok(users)
    }

    fn rate(&self, node: &Spanned<YamlNode>) -> Result<Option<RateLimit>, ConfigError> {
        let values = self.section("rate_limit", node, &["interval", "burst"])?;
        let burst = match values.get("burst") {
            None => 0,
            Some(node) => match &node.value {
                YamlNode::Integer(burst) if u32::try_from(*burst).is_ok() => {
                    u32::try_from(*burst).unwrap_or(0)
                }
                _ => {
                    let remedy = "write how many requests may come at once";
                    return self.fault(node, "`burst` is not a whole number from 0 on", remedy);
                }
            },
        };
        let Some(node) = values.get("interval") else { return Ok(None) };
        let interval = duration::parse(&self.text("interval", node)?);
        let Ok(interval) = interval else {
            return self.fault(
                node,
                "`interval` is not a duration",
                "write one such as 100ms or 1s; 0 is no limit",
            );
        };
        Ok((!interval.is_zero()).then_some(RateLimit { interval, burst }))
    }
}

const MAKE_HASH: &str = "make it with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`";

fn unknown(given: &PlacedValue<String>, key: &str, known: &[&str]) -> ConfigError {
    let remedy = suggest::nearest(&given.value, known.iter().copied()).map_or_else(
        || format!("choose one of {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    ConfigError::new(&given.place, format!("`{key}` knows no such value"), remedy)
}

/// Whether a text is a bcrypt hash that can be computed in time.
fn bcrypt(text: &str) -> Result<(), String> {
    let mut parts = text.split('$');
    let (Some(""), Some(version), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("the password is no bcrypt hash".to_owned());
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    let known = matches!(version, "2a" | "2b" | "2x" | "2y");
    if !known || !rest.bytes().all(plain) {
        return Err("the password is no bcrypt hash".to_owned());
    }
    if text.len() != HASH_LENGTH || rest.len() != 53 {
        return Err(format!("the bcrypt hash does not have its {HASH_LENGTH} characters"));
    }
    match cost.parse::<u32>() {
        Ok(cost) if COSTS.contains(&cost) => Ok(()),
        _ => {
            Err(format!("the bcrypt hash's cost is not from {} to {}", COSTS.start(), COSTS.end()))
        }
    }
}

#[cfg(test)]
mod tests;
