//! What the configuration asks of the process and the machine, so that tests can answer instead.
//!
//! Must not: cache (a reload asks again).

use std::path::{Path, PathBuf};

/// Environment, files and account of the process.
pub trait Surroundings {
    /// An environment variable; an empty one counts as not set.
    fn env(&self, name: &str) -> Option<String>;

    /// The names of all environment variables that are set and not empty.
    fn names(&self) -> Vec<String>;

    /// A whole file.
    ///
    /// # Errors
    /// Those of the file system; a file that is not UTF-8 is one.
    fn read(&self, path: &Path) -> std::io::Result<String>;

    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;

    /// Name and home folder of the account that the process runs as.
    fn account(&self) -> Option<(String, PathBuf)>;

    /// The home folder as libpq finds it: `HOME`, then the account's.
    fn home(&self) -> Option<PathBuf> {
        self.env("HOME").map(PathBuf::from).or_else(|| self.account().map(|(_, home)| home))
    }
}

/// The real ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn env(&self, name: &str) -> Option<String> {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some(value.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn account(&self) -> Option<(String, PathBuf)> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
        Some((user.name, user.dir))
    }
}

/// Surroundings made of maps.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Fixed {
    pub(crate) env: std::collections::BTreeMap<String, String>,
    pub(crate) files: std::collections::BTreeMap<PathBuf, String>,
    pub(crate) account: Option<(String, PathBuf)>,
}

#[cfg(test)]
impl Fixed {
    /// An account `ops` with home `/home/ops`, nothing else.
    pub(crate) fn new() -> Self {
        Self { account: Some(("ops".into(), "/home/ops".into())), ..Self::default() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }
}

#[cfg(test)]
impl Surroundings for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.env.keys().cloned().collect()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.keys().any(|file| file.starts_with(path))
    }

    fn account(&self) -> Option<(String, PathBuf)> {
        self.account.clone()
    }
}
