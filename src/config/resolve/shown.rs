//! The settings in force for people: each with its value as it was written, and where that comes from.
//!
//! Must not: show what may hold a secret.

use super::super::schema::{Key, SettingKind};
use super::super::{ConfiguredSetting, ConfiguredSettings, file::FileItem, table};
use super::Sources;

/// In the place of what may be a secret.
const SECRET: &str = "(secret)";

/// Whether a setting may hold one: connection strings, their parameters, and programs with their arguments.
fn is_secret(key: &Key) -> bool {
    let named = ["password", "command"].iter().any(|word| key.path.contains(word));
    matches!(key.kind, SettingKind::Dsn | SettingKind::Options)
        || (named && !matches!(key.kind, SettingKind::File | SettingKind::Duration { .. }))
}

fn one(key: &Key, given: Option<(String, Vec<String>)>) -> ConfiguredSetting {
    let (place, value) = match given {
        Some((place, _)) if is_secret(key) => (place, SECRET.to_owned()),
        Some((place, texts)) => (place, texts.join(", ")),
        None => ("default".to_owned(), key.default.clone()),
    };
    ConfiguredSetting { path: key.path.clone(), value, place, help: key.help.clone() }
}

impl Sources<'_> {
    /// All settings, and what targets have of their own.
    pub(super) fn shown(&self) -> ConfiguredSettings {
        let general = self.table.keys.iter();
        let general = general.map(|key| one(key, self.given(key).map(|g| (g.place, g.texts))));
        let items = self.file.lists.get(table::TARGETS).map(Vec::as_slice).unwrap_or_default();
        let keys = self.table.lists.iter().find(|list| list.name == table::TARGETS);
        let keys = keys.map(|list| list.keys.as_slice()).unwrap_or_default();
        let own = |item: &FileItem| -> Vec<ConfiguredSetting> {
            let given = keys.iter().filter_map(|key| {
                let value = item.values.get(&key.path)?;
                Some(one(key, Some((value.place.clone(), value.texts.clone()))))
            });
            given.collect()
        };
        let targets = items.iter().filter_map(|item| {
            let name = item.values.get("name")?.texts.concat();
            Some((name, own(item)))
        });
        ConfiguredSettings { general: general.collect(), targets: targets.collect() }
    }
}
