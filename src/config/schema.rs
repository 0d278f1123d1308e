//! The one table of settings. Flags, environment variables, keys of `pgrunway.yml`, "did you mean"
//! and the reference in the docs all derive from it.
//!
//! Must not: know where a value came from, or repeat a value in a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Fault, KnownCollector, Settings, duration, suggest};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As [`duration::parse`] reads it, within limits that are part of the range.
    Duration { min: Duration, max: Duration },
    /// A number from 0 to 1.
    Ratio,
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
    /// A name in which `*` and `?` stand for others.
    Pattern,
    /// Names: a YAML list, or separated by commas.
    List,
    /// Addresses with ports: a YAML list, or separated by commas.
    Addresses,
    /// A connection string; checked where it is taken apart, never shown.
    Dsn,
}

/// A value that is of its [`Kind`] and within its limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Duration(Duration),
    Number(f64),
    Integer(u64),
    Boolean(bool),
    Text(String),
    List(Vec<String>),
    Addresses(Vec<SocketAddr>),
}

/// One setting: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Path in `pgrunway.yml`: `web.listen_address`.
    pub path: String,
    /// What it may hold.
    pub kind: Kind,
    /// The default as the user would write it; empty if there is none.
    pub default: String,
    /// What it means: one sentence.
    pub help: String,
    /// Environment variables beside [`Key::env`], for users of `postgres_exporter`.
    pub aliases: &'static [&'static str],
}

impl Key {
    fn new(path: &str, kind: Kind, default: impl Into<String>, help: &str) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            default: default.into(),
            help: help.to_owned(),
            aliases: &[],
        }
    }

    fn or_env(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

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

impl Kind {
    /// The type in words, for the docs.
    pub fn describe(&self) -> String {
        match self {
            Self::Duration { min, max } => {
                format!("duration, {} to {}", duration::format(*min), duration::format(*max))
            }
            Self::Ratio => "number, 0 to 1".to_owned(),
            Self::Integer { min, max } => format!("whole number, {min} to {max}"),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Choice { words, .. } => format!("one of {}", quoted(words)),
            Self::UrlPath => "path of a URL".to_owned(),
            Self::Zone => "IANA time zone".to_owned(),
            Self::Pattern => "name, `*` and `?` are wildcards".to_owned(),
            Self::List => "list of names".to_owned(),
            Self::Addresses => "list of `address:port`".to_owned(),
            Self::Dsn => "connection string".to_owned(),
        }
    }

    /// Placeholder in `--help`.
    pub(crate) fn placeholder(&self) -> &'static str {
        match self {
            Self::Duration { .. } => "DURATION",
            Self::Ratio => "RATIO",
            Self::Integer { .. } => "N",
            Self::Boolean => "BOOL",
            Self::Choice { .. } => "WORD",
            Self::UrlPath => "PATH",
            Self::Zone => "ZONE",
            Self::List => "NAME,...",
            Self::Addresses => "ADDRESS:PORT",
            Self::Pattern => "PATTERN",
            Self::Dsn => "DSN",
        }
    }

    /// Reads a value. Only lists may have several texts, each of which may hold commas unless
    /// `split` is false (a YAML list's items are taken as they are).
    pub(super) fn parse(&self, texts: &[String], split: bool) -> Result<Value, Fault> {
        let items = || -> Vec<String> {
            if !split {
                return texts.to_vec();
            }
            let parts = texts.iter().flat_map(|text| text.split(','));
            parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        match self {
            Self::List => Ok(Value::List(items())),
            Self::Addresses => {
                let list = items().iter().map(|t| address(t)).collect::<Result<Vec<_>, _>>()?;
                if list.is_empty() {
                    return Err(Fault::new(
                        "names no address",
                        "write an address and a port such as `:9187`",
                    ));
                }
                Ok(Value::Addresses(list))
            }
            _ => match texts {
                [text] => self.parse_one(text),
                _ => Err(Fault::new("must be one value", "give it once")),
            },
        }
    }

    fn parse_one(&self, text: &str) -> Result<Value, Fault> {
        match self {
            Self::Duration { min, max } => {
                let value = duration::parse(text).map_err(|e| {
                    Fault::new(e, "write a duration such as 500ms, 30s, 1h30m or 7d")
                })?;
                within(value, *min, *max, duration::format)?;
                Ok(Value::Duration(value))
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
                Ok(Value::Number(value))
            }
            Self::Integer { min, max } => {
                let value: u64 = text.parse().map_err(|_| {
                    Fault::new(
                        "is not a whole number in range",
                        format!("write a number from {min} to {max}"),
                    )
                })?;
                within(value, *min, *max, |v| v.to_string())?;
                Ok(Value::Integer(value))
            }
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
                _ => Err(Fault::new("is neither true nor false", "write `true` or `false`")),
            },
            Self::Choice { words, aliases } => {
                let lower = text.to_ascii_lowercase();
                let word = aliases.iter().find(|(alias, _)| *alias == lower).map(|(_, w)| *w);
                match word.or_else(|| words.iter().copied().find(|w| *w == lower)) {
                    Some(word) => Ok(Value::Text(word.to_owned())),
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
                if text.starts_with("/-/") {
                    return Err(Fault::new(
                        "lies under `/-/`, where the health checks are",
                        "choose another path, such as `/metrics`",
                    ));
                }
                Ok(Value::Text(text.to_owned()))
            }
            Self::Zone => match jiff::tz::TimeZone::get(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err(Fault::new(
                    "is not a time zone that this machine knows",
                    "write an IANA name such as `Europe/Zurich`, and install `tzdata`",
                )),
            },
            Self::Pattern if text.is_empty() => {
                Err(Fault::new("is empty", "write a name; `*` stands for any"))
            }
            Self::Dsn | Self::Pattern => Ok(Value::Text(text.to_owned())),
            Self::List | Self::Addresses => self.parse(&[text.to_owned()], true),
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

const LEVELS: Kind = Kind::Choice {
    words: &["trace", "debug", "info", "warn", "error"],
    aliases: &[("warning", "warn")],
};
const FORMATS: Kind = Kind::Choice { words: &["text", "json"], aliases: &[("logfmt", "text")] };

/// All settings, the general ones first, then those of each collector.
pub fn keys(known: &[KnownCollector]) -> Vec<Key> {
    let d = Settings::default();
    let time = duration::format;
    let timeout = Kind::Duration { min: MS, max: Duration::from_secs(600) };
    let mut keys = vec![
        Key::new(
            "dsn",
            Kind::Dsn,
            "",
            "Connection string of the server: a URI or keyword=value pairs, as libpq reads them; \
             other users of the machine can read it on a command line.",
        )
        .or_env(&["DATA_SOURCE_NAME"]),
        Key::new(
            "web.listen_address",
            Kind::Addresses,
            ":9187",
            "Address and port to serve on; `:9187` means all addresses; may be given several times.",
        )
        .or_env(&["PG_EXPORTER_WEB_LISTEN_ADDRESS"]),
        Key::new("web.telemetry_path", Kind::UrlPath, "/metrics", "Path of the metrics.")
            .or_env(&["PG_EXPORTER_WEB_TELEMETRY_PATH"]),
        Key::new("log.level", LEVELS, "info", "Lowest level that is logged."),
        Key::new("log.format", FORMATS, "text", "Form of the log lines, on standard error."),
        Key::new(
            "databases.include",
            Kind::List,
            "",
            "Databases to visit for the collectors that look inside one; all of them if empty.",
        )
        .or_env(&["PG_EXPORTER_INCLUDE_DATABASES"]),
        Key::new(
            "databases.exclude",
            Kind::List,
            super::NOT_TO_BE_ENTERED.join(","),
            "Databases never to visit; the default are those that managed services keep for \
             themselves, and a list of your own replaces it.",
        )
        .or_env(&["PG_EXPORTER_EXCLUDE_DATABASES"]),
        Key::new(
            "timeouts.connect",
            timeout,
            time(d.timeouts.connect),
            "Limit for a TCP or Unix connection, per address of a host; wins over `connect_timeout` \
             of the DSN.",
        ),
        Key::new(
            "timeouts.handshake",
            timeout,
            time(d.timeouts.handshake),
            "Limit for the TLS handshake, and again for the authentication.",
        ),
        Key::new(
            "timeouts.statement",
            timeout,
            time(d.timeouts.statement),
            "`statement_timeout` of our queries; a second later the connection is given up.",
        ),
        Key::new(
            "timeouts.lock",
            timeout,
            time(d.timeouts.lock),
            "`lock_timeout` of our queries; below `timeouts.statement`.",
        ),
        Key::new(
            "objectives.latency",
            Kind::Duration { min: MS, max: DAY },
            time(Duration::from_secs_f64(d.objectives.latency)),
            "95th percentile of query latency that the alerts hold each database to.",
        ),
        Key::new(
            "objectives.longest_query",
            Kind::Duration { min: MS, max: DAY },
            time(Duration::from_secs_f64(d.objectives.longest_query)),
            "For how long the longest-running statement of a database may run before it pages.",
        ),
        Key::new(
            "objectives.cache_hit_ratio",
            Kind::Ratio,
            format!("{:.2}", d.objectives.cache_hit_ratio),
            "Cache hit ratio that the alerts hold each database to.",
        ),
        Key::new(
            "objectives.index_scan_ratio",
            Kind::Ratio,
            format!("{:.2}", d.objectives.index_scan_ratio),
            "Share of scans by index that the alerts hold each table to.",
        ),
        Key::new(
            "ratio_window",
            Kind::Duration { min: SECOND, max: 7 * DAY },
            time(d.ratio_window),
            "Window over which the cache hit and index scan ratios are taken.",
        ),
        Key::new(
            "series_limit",
            Kind::Integer { min: 1, max: 1_000_000 },
            d.series_limit.to_string(),
            "Most series that one collector may publish for one database; a histogram counts one for \
             each bucket, `_sum` and `_count`.",
        ),
        Key::new(
            "collectors.statements.top",
            Kind::Integer { min: 0, max: 10_000 },
            d.statements.top.to_string(),
            "Statements with series of their own; the others are summed up as `other`.",
        ),
        Key::new(
            "collectors.statements.include_text",
            Kind::Boolean,
            d.statements.include_text.to_string(),
            "Whether `pg_statement_info` carries the normalised text of the statements.",
        ),
        Key::new(
            "collectors.statements.text_length",
            Kind::Integer { min: 1, max: 10_000 },
            d.statements.text_length.to_string(),
            "Characters of text kept.",
        ),
        Key::new(
            "collectors.statements.scan_spacing",
            Kind::Duration { min: MS, max: 10 * SECOND },
            time(d.statements.scan_spacing),
            "Pause between the two scans of one poll; below `timeouts.statement`.",
        ),
        Key::new(
            "collectors.partitions.runway_required",
            Kind::Duration { min: SECOND, max: 36_500 * DAY },
            time(Duration::from_secs_f64(d.partitions.required)),
            "Runway that every partitioned table must have, unless a rule says otherwise.",
        ),
        Key::new(
            "collectors.partitions.zone",
            Kind::Zone,
            "",
            "Time zone in which naive times and days are written, unless a rule says otherwise; else the \
             database's own.",
        ),
        Key::new(
            "collectors.partitions.per_partition",
            Kind::Integer { min: 0, max: 10_000 },
            d.partitions.per_partition.to_string(),
            "Partitions of each table, the largest, with series of their own.",
        ),
    ];
    for collector in known {
        let sentence = collector.help.trim_end_matches('.');
        keys.push(Key::new(
            &format!("collectors.{}.enabled", collector.name),
            Kind::Boolean,
            collector.default_on.to_string(),
            &format!("Collector {}: {sentence}.", collector.name),
        ));
        keys.push(Key::new(
            &format!("collectors.{}.interval", collector.name),
            Kind::Duration { min: 100 * MS, max: DAY },
            time(collector.interval),
            &format!("Interval of the {} collector.", collector.name),
        ));
    }
    keys
}

/// The list of the file that holds rules for partitioned tables.
pub const RULES: &str = "partitions";

/// The keys of one such rule.
pub fn rule_keys() -> Vec<Key> {
    let span = Kind::Duration { min: SECOND, max: 36_500 * DAY };
    let units = Kind::Choice { words: &["s", "ms", "us", "ns", "yyyymmdd"], aliases: &[] };
    vec![
        Key::new("table", Kind::Pattern, "", "The tables it is for: `schema.table`, unquoted."),
        Key::new("database", Kind::Pattern, "", "Their database; any if left out."),
        Key::new("runway_required", span, "", "Runway that they must have."),
        Key::new("zone", Kind::Zone, "", "Time zone of those who write naive times and days."),
        Key::new(
            "unit",
            units,
            "",
            "What their topmost integer key holds: a time since 1970, or a day as 20261122.",
        ),
        Key::new("max_age", span, "", "Age at which their data should be gone."),
        Key::new("ignore", Kind::Boolean, "false", "Whether they have no series at all."),
        Key::new(
            "must_exist",
            Kind::Boolean,
            "false",
            "Whether to report the table if it is missing or unsupported; needs a `table` and a \
             `database` without wildcards.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Kind = Kind::Duration { min: MS, max: DAY };

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
        let one = |kind: &Kind, text: &str| kind.parse(&[text.to_owned()], true).ok();
        for (kind, text, expected) in [
            (TIMEOUT, "1ms", Some(Value::Duration(MS))),
            (TIMEOUT, "1d", Some(Value::Duration(DAY))),
            (TIMEOUT, "1d1ms", None),
            (TIMEOUT, "0", None),
            (Kind::Ratio, "0", Some(Value::Number(0.0))),
            (Kind::Ratio, "1.0", Some(Value::Number(1.0))),
            (Kind::Ratio, "1.01", None),
            (Kind::Ratio, "-0.1", None),
            (Kind::Ratio, "NaN", None),
            (Kind::Ratio, "inf", None),
            (Kind::Integer { min: 1, max: 3 }, "3", Some(Value::Integer(3))),
            (Kind::Integer { min: 1, max: 3 }, "4", None),
            (Kind::Integer { min: 1, max: 3 }, "-1", None),
            (Kind::Boolean, "ON", Some(Value::Boolean(true))),
            (Kind::Boolean, "0", Some(Value::Boolean(false))),
            (Kind::Boolean, "maybe", None),
            (LEVELS, "Warning", Some(Value::Text("warn".into()))),
            (FORMATS, "logfmt", Some(Value::Text("text".into()))),
            (Kind::UrlPath, "/a/b_c-d.e", Some(Value::Text("/a/b_c-d.e".into()))),
            (Kind::UrlPath, "/", None),
            (Kind::UrlPath, "/a?b", None),
            (Kind::UrlPath, "/a/", Some(Value::Text("/a/".into()))),
            (Kind::UrlPath, "/-a", Some(Value::Text("/-a".into()))),
            (Kind::UrlPath, "/{id}", None),
            (Kind::UrlPath, "/:id", None),
            (Kind::UrlPath, "/*rest", None),
            (Kind::UrlPath, "//", None),
            (Kind::UrlPath, "/a//b", None),
            (Kind::UrlPath, "/a/../b", None),
            (Kind::UrlPath, "/-/ready", None),
            (Kind::Zone, "UTC", Some(Value::Text("UTC".into()))),
            (Kind::Zone, "Mars/Olympus", None),
            (Kind::List, "a, b,,c", Some(Value::List(vec!["a".into(), "b".into(), "c".into()]))),
        ] {
            assert_eq!(one(&kind, text), expected, "{kind:?} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_kind_panics(text in any::<String>()) {
            for key in keys(&[]) {
                let _ = key.kind.parse(std::slice::from_ref(&text), true);
            }
        }
    }
}
