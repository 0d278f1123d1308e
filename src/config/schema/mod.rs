//! What a setting is: its name, the kind of its values, and how these are read.
//!
//! Must not: know where a value came from, repeat a value in a message, or hold a setting of its own
//! (they are in `settings.rs` and beside the rules of the file's lists).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::allow::Allow;
use super::columns::{self, IndexColumn};
use super::{Fault, duration, names, suggest};

mod setting;

pub(super) use setting::{Field, Keyed, Setting, help, settings};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Of data's age and of runways.
pub(super) const AGE: SettingKind =
    SettingKind::Duration { min: SECOND, max: Duration::from_secs(36_500 * 86_400) };
/// Characters of a target's name.
const LONGEST_NAME: usize = 100;

/// What a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// As [`duration::parse`] reads it, within limits that are part of the range.
    Duration { min: Duration, max: Duration },
    /// A number from 0 to 1.
    Ratio,
    /// Bytes, with a unit as PostgreSQL takes it: `16GB`; powers of 1024.
    Bytes,
    /// A whole number, the limits included.
    Integer { min: u64, max: u64 },
    /// On or off.
    Boolean,
    /// One of a few words; the second of a pair is another spelling of the first.
    Choice { words: &'static [&'static str], aliases: &'static [(&'static str, &'static str)] },
    /// Path of a URL, starting with `/`.
    UrlPath,
    /// IANA time zone.
    Zone,
    /// Any text but none.
    Text,
    /// Key columns of an index, as `CREATE INDEX` takes them.
    Columns,
    /// A name in which `*` and `?` stand for others.
    Pattern,
    /// Names: a YAML list, or separated by commas.
    List,
    /// Addresses with ports: a YAML list, or separated by commas.
    Addresses,
    /// Parameters of a connection string: a section, or a YAML list of `name=value`; never shown.
    Options,
    /// Places that may be probed: a YAML list, or separated by commas.
    Allow,
    /// Labels as `name=value`: a YAML list, or separated by commas.
    Labels,
    /// The beginning of a metric's name.
    Prefix,
    /// A connection string; checked where it is taken apart, never shown.
    Dsn,
    /// Path of a file.
    File,
    /// What a target is called in a URL and in labels.
    Name,
}

/// A value that is of its [`SettingKind`] and within its limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SettingValue {
    Duration(Duration),
    Number(f64),
    Integer(u64),
    Boolean(bool),
    Text(String),
    List(Vec<String>),
    Addresses(Vec<SocketAddr>),
    Labels(Vec<(String, String)>),
    Allow(Allow),
    Columns(Vec<IndexColumn>),
}

impl SettingValue {
    /// Writes it where it belongs; false where it is of another type.
    pub(super) fn put<F: Field>(self, slot: &mut F) -> bool {
        F::of(self).map(|value| *slot = value).is_some()
    }
}

/// A list in the file whose items hold keys of their own; no flag and no variable has it.
#[derive(Debug, Clone)]
pub struct ListKey {
    /// Its key in the file.
    pub name: &'static str,
    /// How an item begins, for who wrote something else.
    pub begins: &'static str,
    /// Whether it is a section whose keys are the items' names.
    pub named: bool,
    /// The keys of an item.
    pub keys: Vec<Key>,
    /// Items that each item has of its own.
    pub nested: Option<Nested>,
}

/// Items of an item: under one of its keys, by name.
#[derive(Debug, Clone)]
pub struct Nested {
    /// The key.
    pub name: &'static str,
    /// How one begins.
    pub begins: &'static str,
    /// The keys of one.
    pub keys: Vec<Key>,
}

/// One setting: a row of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Path in `pgrunway.yml`: `web.listen_address`.
    pub path: String,
    /// What it may hold.
    pub kind: SettingKind,
    /// The default as the user would write it; empty if there is none.
    pub default: String,
    /// What it means: one sentence.
    pub help: String,
    /// Environment variables beside [`Key::env`], for users of `postgres_exporter`.
    pub aliases: &'static [&'static str],
}

impl Key {
    /// The flag without its dashes: `web.listen-address`, `collector.cache`.
    pub fn flag(&self) -> String {
        let name = self.path.replace('_', "-");
        match name.strip_prefix("collectors.") {
            Some(rest) => format!("collector.{}", rest.strip_suffix(".enabled").unwrap_or(rest)),
            None => name,
        }
    }

    /// The environment variable: `PGRUNWAY_WEB_LISTEN_ADDRESS`.
    pub fn env(&self) -> String {
        format!("PGRUNWAY_{}", self.flag().replace(['.', '-'], "_").to_ascii_uppercase())
    }
}

impl SettingKind {
    /// The type in words, for the docs.
    pub fn describe(&self) -> String {
        match self {
            Self::Duration { min, max } => {
                format!("duration, {} to {}", duration::format(*min), duration::format(*max))
            }
            Self::Ratio => "number, 0 to 1".to_owned(),
            Self::Bytes => "bytes, such as `16GB`".to_owned(),
            Self::Integer { min, max } => format!("whole number, {min} to {max}"),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Choice { words, .. } => format!("one of {}", quoted(words)),
            Self::UrlPath => "path of a URL".to_owned(),
            Self::Zone => "IANA time zone".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Columns => "columns, such as `a, b DESC`".to_owned(),
            Self::Pattern => "name, `*` and `?` are wildcards".to_owned(),
            Self::List => "list of names".to_owned(),
            Self::Addresses => "list of `address:port`".to_owned(),
            Self::Options => "parameters of a connection string".to_owned(),
            Self::Allow => "list of hosts and networks".to_owned(),
            Self::Labels => "list of `name=value`".to_owned(),
            Self::Prefix => "beginning of a metric's name".to_owned(),
            Self::Dsn => "connection string".to_owned(),
            Self::File => "path of a file".to_owned(),
            Self::Name => "letters, digits, `.`, `_`, `:` and `-`, 100 at most".to_owned(),
        }
    }

    /// Placeholder in `--help`.
    pub(crate) fn placeholder(&self) -> &'static str {
        match self {
            Self::Duration { .. } => "DURATION",
            Self::Ratio => "RATIO",
            Self::Bytes => "BYTES",
            Self::Integer { .. } => "N",
            Self::Boolean => "BOOL",
            Self::Choice { .. } => "WORD",
            Self::UrlPath => "PATH",
            Self::Zone => "ZONE",
            Self::List => "NAME,...",
            Self::Addresses => "ADDRESS:PORT",
            Self::Options => "NAME=VALUE",
            Self::Allow => "HOST:PORT,...",
            Self::Labels => "NAME=VALUE,...",
            Self::Prefix => "PREFIX",
            Self::Text => "TEXT",
            Self::Columns => "COLUMN,...",
            Self::Pattern => "PATTERN",
            Self::Dsn => "DSN",
            Self::File => "FILE",
            Self::Name => "NAME",
        }
    }

    /// Reads a value. Only lists may have several texts, each of which may hold commas unless
    /// `split` is false (a YAML list's items are taken as they are).
    pub(super) fn parse(&self, texts: &[String], split: bool) -> Result<SettingValue, Fault> {
        let items = || -> Vec<String> {
            if !split {
                return texts.to_vec();
            }
            let parts = texts.iter().flat_map(|text| text.split(','));
            parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        match self {
            Self::List => Ok(SettingValue::List(items())),
            Self::Addresses => {
                let list = items().iter().map(|t| address(t)).collect::<Result<Vec<_>, _>>()?;
                if list.is_empty() {
                    return Err(Fault::new(
                        "names no address",
                        "write an address and a port such as `:9187`",
                    ));
                }
                Ok(SettingValue::Addresses(list))
            }
            Self::Options => Ok(SettingValue::List(texts.to_vec())),
            Self::Allow => Allow::parse(&items()).map(SettingValue::Allow),
            Self::Labels => {
                let labels = items().iter().map(|t| names::label(t)).collect::<Result<_, _>>()?;
                Ok(SettingValue::Labels(labels))
            }
            _ => match texts {
                [text] => self.parse_one(text),
                _ => Err(Fault::new("must be one value", "give it once")),
            },
        }
    }

    fn parse_one(&self, text: &str) -> Result<SettingValue, Fault> {
        match self {
            Self::Duration { min, max } => {
                let value = duration::parse(text).map_err(|e| {
                    Fault::new(e, "write a duration such as 500ms, 30s, 1h30m or 7d")
                })?;
                within(value, *min, *max, duration::format)?;
                Ok(SettingValue::Duration(value))
            }
            Self::Ratio => {
                let bad =
                    || Fault::new("is not a number", "write a ratio from 0 to 1, such as 0.95");
                let value: f64 = text.parse().map_err(|_| bad())?;
                if !value.is_finite() {
                    return Err(bad());
                }
                within(value, 0.0, 1.0, |v| v.to_string()).map_err(|bad| {
                    // 95 for 95 % is what people write.
                    if value > 1.0 && value <= 100.0 {
                        Fault::new(bad.problem, format!("for {value} % write {}", value / 100.0))
                    } else {
                        bad
                    }
                })?;
                Ok(SettingValue::Number(value))
            }
            Self::Bytes => size(text).map(SettingValue::Number),
            Self::Integer { min, max } => {
                let value: u64 = text.parse().map_err(|_| {
                    Fault::new(
                        "is not a whole number in range",
                        format!("write a number from {min} to {max}"),
                    )
                })?;
                within(value, *min, *max, |v| v.to_string())?;
                Ok(SettingValue::Integer(value))
            }
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(SettingValue::Boolean(true)),
                "false" | "0" | "no" | "off" => Ok(SettingValue::Boolean(false)),
                _ => Err(Fault::new("is neither true nor false", "write `true` or `false`")),
            },
            Self::Choice { words, aliases } => {
                let lower = text.to_ascii_lowercase();
                let word = aliases.iter().find(|(alias, _)| *alias == lower).map(|(_, w)| *w);
                match word.or_else(|| words.iter().copied().find(|w| *w == lower)) {
                    Some(word) => Ok(SettingValue::Text(word.to_owned())),
                    None => Err(Fault::new(
                        format!("is not one of {}", quoted(words)),
                        suggest::nearest(text, words.iter().copied()).map_or_else(
                            || "choose one of them".to_owned(),
                            |word| format!("did you mean `{word}`?"),
                        ),
                    )),
                }
            }
            Self::UrlPath => {
                let plain =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
                // Clients take dots for steps in the tree, and ask for another path then.
                let dots = || text.split('/').any(|segment| matches!(segment, "." | ".."));
                if text.len() < 2 || !text.starts_with('/') || !text.bytes().all(plain) || dots() {
                    return Err(Fault::new(
                        "is not a plain path",
                        "start it with `/` and use letters, digits, `-`, `_`, `.` and `/` only, \
                         such as `/metrics`",
                    ));
                }
                if text.contains("//") {
                    return Err(Fault::new("has an empty segment", "write single slashes only"));
                }
                if text == "/targets" || text == "/probe" {
                    return Err(Fault::new(
                        "is where targets are listed or probed",
                        "choose another path, such as `/metrics`",
                    ));
                }
                if text.starts_with("/-/") {
                    return Err(Fault::new(
                        "lies under `/-/`, where the health checks are",
                        "choose another path, such as `/metrics`",
                    ));
                }
                Ok(SettingValue::Text(text.to_owned()))
            }
            Self::Zone => match jiff::tz::TimeZone::get(text) {
                Ok(_) => Ok(SettingValue::Text(text.to_owned())),
                Err(_) => Err(Fault::new(
                    "is not a time zone that this machine knows",
                    "write an IANA name such as `Europe/Zurich`, and install `tzdata`",
                )),
            },
            Self::Name => {
                let plain =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
                if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(plain) {
                    return Err(Fault::new(
                        "is no name of a target",
                        "use letters, digits, `.`, `_`, `:` and `-`, 100 at most",
                    ));
                }
                Ok(SettingValue::Text(text.to_owned()))
            }
            Self::Columns => columns::parse(text).map(SettingValue::Columns),
            Self::File if text.is_empty() => Err(Fault::new("is empty", "name a file")),
            Self::Pattern if text.is_empty() => {
                Err(Fault::new("is empty", "write a name; `*` stands for any"))
            }
            Self::Text if text.is_empty() => {
                Err(Fault::new("is empty", "write it, or leave it out"))
            }
            Self::Dsn | Self::Pattern | Self::Text | Self::File => {
                Ok(SettingValue::Text(text.to_owned()))
            }
            Self::Prefix => names::prefix(text).map(SettingValue::Text),
            Self::List | Self::Addresses | Self::Labels | Self::Allow | Self::Options => {
                self.parse(&[text.to_owned()], true)
            }
        }
    }
}

fn within<T: PartialOrd + Copy>(
    value: T,
    min: T,
    max: T,
    show: impl Fn(T) -> String,
) -> Result<(), Fault> {
    if value >= min && value <= max {
        return Ok(());
    }
    let side = if value < min { "below" } else { "above" };
    Err(Fault::new(
        format!("is {side} the limit of {}", show(if value < min { min } else { max })),
        format!("choose from {} to {}", show(min), show(max)),
    ))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// `16GB` in bytes.
fn size(text: &str) -> Result<f64, Fault> {
    let bad = || Fault::new("is not a size", "write a size such as 512MB or 16GB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim() {
        "" | "B" => 0,
        "kB" => 1,
        "MB" => 2,
        "GB" => 3,
        "TB" => 4,
        _ => return Err(bad()),
    };
    let number: u32 = number.parse().map_err(|_| bad())?;
    let bytes = f64::from(number) * 1_024_f64.powi(power);
    if bytes > 0.0 { Ok(bytes) } else { Err(bad()) }
}

/// `:9187` means all addresses: the IPv6 wildcard, which on Linux takes IPv4 too.
fn address(text: &str) -> Result<SocketAddr, Fault> {
    let bad = |problem: &str| {
        Fault::new(problem, "write `:9187`, `127.0.0.1:9187`, `localhost:9187` or `[::1]:9187`")
    };
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(bad("has no port"));
    };
    let port: u16 = port.parse().map_err(|_| bad("has no port from 0 to 65535"))?;
    let ip = match host {
        "" | "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inside) => {
                IpAddr::V6(inside.parse().map_err(|_| bad("has no IPv6 address in its brackets"))?)
            }
            None if host.contains(':') => return Err(bad("has an IPv6 address without brackets")),
            None => IpAddr::V4(
                host.parse()
                    .map_err(|_| bad("is no address of this machine: names are not looked up"))?,
            ),
        },
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: SettingKind =
        SettingKind::Choice { words: &["info", "warn"], aliases: &[("warning", "warn")] };

    const TIMEOUT: SettingKind = SettingKind::Duration { min: MS, max: DAY };

    #[test]
    fn addresses_as_users_write_them() {
        for (text, expected) in [
            (":9187", "[::]:9187"),
            ("*:9187", "[::]:9187"),
            ("0.0.0.0:9187", "0.0.0.0:9187"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:9187", "[::1]:9187"),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for (text, said) in [
            ("9187", "has no port"),
            (":", "has no port"),
            (":65536", "has no port from 0"),
            ("::1:9187", "without brackets"),
            ("[::g]:9187", "in its brackets"),
            ("example.com:9187", "names are not looked up"),
        ] {
            let fault = address(text).unwrap_err();
            assert!(fault.problem.contains(said), "{text}: {fault:?}");
        }
    }

    #[test]
    fn values_within_their_limits() {
        let one = |kind: &SettingKind, text: &str| kind.parse(&[text.to_owned()], true).ok();
        for (kind, text, expected) in [
            (TIMEOUT, "1ms", Some(SettingValue::Duration(MS))),
            (TIMEOUT, "1d", Some(SettingValue::Duration(DAY))),
            (TIMEOUT, "1d1ms", None),
            (TIMEOUT, "0", None),
            (SettingKind::Ratio, "0", Some(SettingValue::Number(0.0))),
            (SettingKind::Ratio, "1.0", Some(SettingValue::Number(1.0))),
            (SettingKind::Ratio, "1.01", None),
            (SettingKind::Bytes, "16GB", Some(SettingValue::Number(17_179_869_184.0))),
            (SettingKind::Bytes, "512 MB", Some(SettingValue::Number(536_870_912.0))),
            (SettingKind::Bytes, "1024", Some(SettingValue::Number(1_024.0))),
            (SettingKind::Bytes, "16GiB", None),
            (SettingKind::Bytes, "0GB", None),
            (SettingKind::Bytes, "GB", None),
            (SettingKind::Bytes, "-1GB", None),
            (SettingKind::Ratio, "-0.1", None),
            (SettingKind::Ratio, "NaN", None),
            (SettingKind::Ratio, "inf", None),
            (SettingKind::Integer { min: 1, max: 3 }, "3", Some(SettingValue::Integer(3))),
            (SettingKind::Integer { min: 1, max: 3 }, "4", None),
            (SettingKind::Integer { min: 1, max: 3 }, "-1", None),
            (SettingKind::Boolean, "ON", Some(SettingValue::Boolean(true))),
            (SettingKind::Boolean, "0", Some(SettingValue::Boolean(false))),
            (SettingKind::Boolean, "maybe", None),
            (LEVELS, "Warning", Some(SettingValue::Text("warn".into()))),
            (SettingKind::Columns, "lower(a)", None),
            (SettingKind::UrlPath, "/a/b_c-d.e", Some(SettingValue::Text("/a/b_c-d.e".into()))),
            (SettingKind::UrlPath, "/", None),
            (SettingKind::UrlPath, "/a?b", None),
            (SettingKind::UrlPath, "/a/", Some(SettingValue::Text("/a/".into()))),
            (SettingKind::UrlPath, "/-a", Some(SettingValue::Text("/-a".into()))),
            (SettingKind::UrlPath, "/{id}", None),
            (SettingKind::UrlPath, "/:id", None),
            (SettingKind::UrlPath, "/*rest", None),
            (SettingKind::UrlPath, "//", None),
            (SettingKind::UrlPath, "/a//b", None),
            (SettingKind::UrlPath, "/a/../b", None),
            (SettingKind::UrlPath, "/-/ready", None),
            (SettingKind::UrlPath, "/targets", None),
            (
                SettingKind::Name,
                "db-1.shop:5432",
                Some(SettingValue::Text("db-1.shop:5432".into())),
            ),
            (SettingKind::Name, "", None),
            (SettingKind::Name, "a b", None),
            (SettingKind::Name, "a&target=b", None),
            (SettingKind::File, "", None),
            (SettingKind::Zone, "UTC", Some(SettingValue::Text("UTC".into()))),
            (SettingKind::Zone, "Mars/Olympus", None),
            (
                SettingKind::List,
                "a, b,,c",
                Some(SettingValue::List(vec!["a".into(), "b".into(), "c".into()])),
            ),
        ] {
            assert_eq!(one(&kind, text), expected, "{kind:?} {text}");
        }
    }
}
