//! A setting with the place that it sets: one line of [`settings!`] holds a field, its default, its
//! key, what it may hold and what it means, and nothing repeats any of them.
//!
//! Must not: hold a setting of its own, or know where a value came from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::super::allow::Allow;
use super::super::columns::IndexColumn;
use super::super::{
    CONSOLE, Compatibility, ConsoleAccess, ErrorBars, LogFormat, TargetKind, duration,
};
use super::{Key, SettingKind, SettingValue};

/// Writes a value into a `T`; false where the key's [`SettingKind`] and the field's type do not fit.
type Put<T> = Box<dyn Fn(&mut T, SettingValue) -> bool + Send + Sync>;

/// A key and the field of `T` that it sets.
pub(in crate::config) struct Setting<T> {
    pub(in crate::config) key: Key,
    put: Put<T>,
}

impl<T: 'static> Setting<T> {
    /// The default is what the field of `T::default()` holds.
    pub(in crate::config) fn new<F: Field + 'static>(
        path: &str,
        kind: SettingKind,
        help: &str,
        aliases: &'static [&'static str],
        field: fn(&mut T) -> &mut F,
    ) -> Self
    where
        T: Default,
    {
        let default = field(&mut T::default()).show(&kind);
        let key = Key { path: path.to_owned(), kind, default, help: help.to_owned(), aliases };
        Self::by(key, move |whole, value| F::of(value).map(|value| *field(whole) = value).is_some())
    }

    /// A setting whose field takes more than a path to reach.
    pub(in crate::config) fn by(
        key: Key,
        put: impl Fn(&mut T, SettingValue) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { key, put: Box::new(put) }
    }

    /// The same setting of what `T` is a part of.
    pub(in crate::config) fn of<U: 'static>(self, part: fn(&mut U) -> &mut T) -> Setting<U> {
        let put = self.put;
        Setting::by(self.key, move |whole, value| put(part(whole), value))
    }

    /// Sets it; false where the key's kind and the field's type do not fit, which a test rules out.
    pub(in crate::config) fn put(&self, whole: &mut T, value: SettingValue) -> bool {
        (self.put)(whole, value)
    }
}

/// What is made of settings.
pub(in crate::config) trait Keyed: Default + 'static {
    /// Its settings, in their order.
    fn keys() -> Vec<Setting<Self>>;
}

/// A type that settings have.
pub(in crate::config) trait Field: Sized {
    /// From a value of the setting's kind.
    fn of(value: SettingValue) -> Option<Self>;
    /// As the user would write it; empty for nothing.
    fn show(&self, kind: &SettingKind) -> String;
}

impl<T: Field> Field for Option<T> {
    fn of(value: SettingValue) -> Option<Self> {
        T::of(value).map(Some)
    }
    fn show(&self, kind: &SettingKind) -> String {
        self.as_ref().map(|value| value.show(kind)).unwrap_or_default()
    }
}

macro_rules! field {
    ($($type:ty { $($pattern:pat => $result:expr),+ } $show:expr;)+) => {
        $(impl Field for $type {
            fn of(value: SettingValue) -> Option<Self> {
                match value { $($pattern => $result,)+ _ => None }
            }
            fn show(&self, kind: &SettingKind) -> String {
                let show: fn(&$type, &SettingKind) -> String = $show;
                show(self, kind)
            }
        })+
    };
}

field! {
    Duration { SettingValue::Duration(v) => Some(v) } |v, _| duration::format(*v);
    f64 { SettingValue::Number(v) => Some(v), SettingValue::Duration(v) => Some(v.as_secs_f64()) } number;
    u64 { SettingValue::Integer(v) => Some(v) } |v, _| v.to_string();
    usize { SettingValue::Integer(v) => usize::try_from(v).ok() } |v, _| v.to_string();
    bool { SettingValue::Boolean(v) => Some(v) } |v, _| v.to_string();
    String { SettingValue::Text(v) => Some(v) } |v, _| v.clone();
    Vec<String> { SettingValue::List(v) => Some(v) } |v, _| v.join(",");
    Allow { SettingValue::Allow(v) => Some(v) } |_, _| String::new();
    Vec<(String, String)> { SettingValue::Labels(v) => Some(v) } |v, _| {
        v.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    };
    Vec<SocketAddr> { SettingValue::Addresses(v) => Some(v) } |v, _| {
        v.iter().map(address).collect::<Vec<_>>().join(",")
    };
    Vec<IndexColumn> { SettingValue::Columns(v) => Some(v) } |v, _| {
        v.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    tracing::Level { SettingValue::Text(v) => v.parse().ok() } |v, _| v.as_str().to_ascii_lowercase();
    LogFormat { SettingValue::Text(v) => match v.as_str() {
        "text" => Some(Self::Text),
        "json" => Some(Self::Json),
        _ => None,
    } } |v, _| match v {
        LogFormat::Text => "text".to_owned(),
        LogFormat::Json => "json".to_owned(),
    };
    Compatibility { SettingValue::Text(v) => match v.as_str() {
        "none" => Some(Self::None),
        "postgres_exporter" => Some(Self::PostgresExporter),
        _ => None,
    } } |v, _| match v {
        Compatibility::None => "none".to_owned(),
        Compatibility::PostgresExporter => "postgres_exporter".to_owned(),
    };
    ConsoleAccess { SettingValue::Text(v) => match v.as_str() {
        "on" => Some(Self::On),
        "without_names" => Some(Self::WithoutNames),
        "off" => Some(Self::Off),
        _ => None,
    } } |v, _| match v {
        ConsoleAccess::On => "on".to_owned(),
        ConsoleAccess::WithoutNames => "without_names".to_owned(),
        ConsoleAccess::Off => "off".to_owned(),
    };
    ErrorBars { SettingValue::Text(v) => match v.as_str() {
        "none" => Some(Self::None),
        "likely" => Some(Self::Likely),
        "certain" => Some(Self::Certain),
        _ => None,
    } } |v, _| match v {
        ErrorBars::None => "none".to_owned(),
        ErrorBars::Likely => "likely".to_owned(),
        ErrorBars::Certain => "certain".to_owned(),
    };
    TargetKind { SettingValue::Text(v) => match v.as_str() {
        "postgres" => Some(Self::Server),
        CONSOLE => Some(Self::Pooler),
        _ => None,
    } } |v, _| match v {
        TargetKind::Server => "postgres".to_owned(),
        TargetKind::Pooler => CONSOLE.to_owned(),
    };
}

fn number(value: &f64, kind: &SettingKind) -> String {
    match kind {
        SettingKind::Duration { .. } => duration::format(Duration::from_secs_f64(*value)),
        SettingKind::Bytes => {
            let units = [("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)];
            let fits = |power: i32| *value / 1_024_f64.powi(power);
            let whole = units.into_iter().find(|(_, power)| {
                let count = fits(*power);
                count >= 1.0 && count.fract() == 0.0
            });
            whole
                .map_or_else(|| value.to_string(), |(unit, power)| format!("{}{unit}", fits(power)))
        }
        _ => format!("{value:.2}"),
    }
}

fn address(address: &SocketAddr) -> String {
    match address.ip() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => format!(":{}", address.port()),
        _ => address.to_string(),
    }
}

/// The help of a setting from its field's comment: the first paragraph, in one line.
pub(in crate::config) fn help(lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| line.trim()).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Declares structs whose fields are settings.
///
/// ```text
/// /// What the struct is.
/// pub struct Timeouts {
///     /// The help, one sentence; what only concerns the code follows after an empty line.
///     pub connect: Duration = DEFAULT, "timeouts.connect" => KIND;
///     parts { fields whose types are declared likewise }
///     rest { fields that are no settings; their default is their type's }
/// }
/// ```
///
/// `env("NAME")` before a field names another variable that sets it.
macro_rules! settings {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                $(env($($alias:literal),+))?
                pub $field:ident: $type:ty = $default:expr, $path:expr => $kind:expr;
            )*
            $(parts { $( $(#[doc = $part_doc:literal])+ pub $part:ident: $part_type:ty, )+ })?
            $(rest { $( $(#[doc = $rest_doc:literal])+ pub $rest:ident: $rest_type:ty, )+ })?
        }
    )+) => {$(
        $(#[$meta])*
        $vis struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
            $($( $(#[doc = $part_doc])+ pub $part: $part_type, )+)?
            $($( $(#[doc = $rest_doc])+ pub $rest: $rest_type, )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $($( $part: <$part_type>::default(), )+)?
                    $($( $rest: <$rest_type>::default(), )+)?
                }
            }
        }

        impl $crate::config::schema::Keyed for $name {
            fn keys() -> Vec<$crate::config::schema::Setting<Self>> {
                #[allow(unused_mut, reason = "some have no parts")]
                let mut keys = vec![$(
                    $crate::config::schema::Setting::new(
                        $path,
                        $kind,
                        &$crate::config::schema::help(&[$($help),+]),
                        &[$($($alias),+)?],
                        |whole: &mut Self| &mut whole.$field,
                    ),
                )*];
                $($(
                    let part = <$part_type as $crate::config::schema::Keyed>::keys();
                    keys.extend(part.into_iter().map(|key| key.of(|whole: &mut Self| &mut whole.$part)));
                )+)?
                keys
            }
        }
    )+};
}
pub(in crate::config) use settings;
