//! An item of one of the file's lists, as a struct of settings.
//!
//! Must not: know a list.

use super::file::FileItem;
use super::schema::{Keyed, Setting, SettingValue};
use crate::error::ConfigError;

/// An item of one of the file's lists. Keys that are not among the settings are left to others.
pub(super) fn read<T: Keyed>(item: &FileItem, settings: &[Setting<T>]) -> Result<T, ConfigError> {
    let mut whole = T::default();
    for setting in settings {
        let path = &setting.key.path;
        let Some(given) = item.values.get(path) else { continue };
        let value = setting.key.kind.parse(&given.texts, false).map_err(|fault| {
            ConfigError::new(&given.place, format!("`{path}` {}", fault.problem), fault.remedy)
        })?;
        put(setting, &mut whole, value)?;
    }
    Ok(whole)
}

/// Sets a setting. Where its kind and its field do not fit, which a test rules out, that is said.
pub(super) fn put<T: 'static>(
    setting: &Setting<T>,
    whole: &mut T,
    value: SettingValue,
) -> Result<(), ConfigError> {
    if setting.put(whole, value) {
        return Ok(());
    }
    let report = "this is a defect of pgrunway: please report it";
    Err(ConfigError::new(&setting.key.path, "holds another type than its kind", report))
}
