//! Files that a person asked for: a report, a baseline, samples. A file is whole or as it was before.
//!
//! Must not: follow a link that somebody put where we write, or show a file to more users than the one that it
//! replaces.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tempfile::{Builder, TempDir};

/// Replaces a file by a text.
///
/// # Errors
/// The file cannot be written; an older one is as it was.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    write_with(path, |out| out.write_all(text.as_bytes()))
}

/// Replaces a file by what `fill` writes.
///
/// # Errors
/// As [`write()`].
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    replace(path, fill).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let old = fs::symlink_metadata(path).ok();
    // A device, a pipe, or this process's own output: nothing that could be replaced.
    let special = path.starts_with("/dev") || path.starts_with("/proc");
    if special || old.as_ref().is_some_and(|m| !m.is_file() && !m.is_symlink()) {
        let mut out = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        fill(&mut out)?;
        return out.flush();
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made anew under a name that nobody can foresee; the umask takes what it takes of any new file.
    let new = Builder::new()
        .prefix(".pgrunway-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    if let Some(old) = old.filter(fs::Metadata::is_file) {
        let mode = old.permissions().mode() & 0o777;
        new.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    let mut out = BufWriter::new(new.as_file());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    new.persist(path)?;
    Ok(())
}

/// A folder for temporary files that only this user can look into, removed when it is dropped.
///
/// # Errors
/// It cannot be made.
pub fn private_folder(purpose: &str) -> anyhow::Result<TempDir> {
    let prefix = format!("pgrunway-{purpose}-");
    let made = Builder::new().prefix(&prefix).permissions(Permissions::from_mode(0o700)).tempdir();
    made.context("cannot create a temporary folder")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = private_folder("test").unwrap();
        let path = dir.path().join("report.html");
        write(&path, "one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, "two").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o640));
        let failed = write_with(&path, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(failed.unwrap_err().to_string().contains("report.html"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = private_folder("test").unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        let path = dir.path().join("base.json");
        // Where the file goes, and where an older version wrote it first.
        symlink(&victim, &path).unwrap();
        symlink(&victim, dir.path().join("base.json.new")).unwrap();
        write(&path, "ours").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_file_is_written_and_not_replaced() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
        let dir = private_folder("test").unwrap();
        assert!(write(dir.path(), "text").is_err() && dir.path().is_dir());
        let missing = write(&dir.path().join("no/file"), "text").unwrap_err();
        assert!(format!("{missing:#}").contains("no/file"), "{missing:#}");
    }

    #[test]
    fn a_temporary_folder_is_ours_alone_and_goes() {
        let dir = private_folder("test").unwrap();
        let path = dir.path().to_owned();
        assert_eq!(mode(&path), 0o700);
        drop(dir);
        assert!(!path.exists());
    }
}
