//! The password of a login, from wherever the configuration has it, read again at every connect; what a
//! program printed is kept for a while.
//!
//! Must not: keep a password, or put one into an error.

use super::command;
use crate::config::{Connect, Endpoint, Password, passfile};
use crate::error::ConnectError;

/// The server did not take the password: what was kept of it is of no use.
pub(super) async fn refused(connect: &Connect) {
    if let Password::Command(program) = &connect.password {
        command::forget(program).await;
    }
}

/// The password to send, `None` for none.
///
/// # Errors
/// The file that holds it cannot be read; the program that prints it fails.
pub(super) async fn password(
    connect: &Connect,
    endpoint: &Endpoint,
    datname: &str,
) -> Result<Option<String>, ConnectError> {
    let unreadable = |what: &str, path: &std::path::Path, e: std::io::Error| {
        ConnectError::Credentials { what: format!("{what} {}", path.display()), source: e.into() }
    };
    match &connect.password {
        Password::None => Ok(None),
        Password::Literal(secret) => Ok(Some(secret.expose().to_owned())),
        Password::File(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|e| unreadable("password file", path, e))?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
        }
        Password::Command(program) => {
            command::password(program, connect, endpoint, datname).await.map(Some)
        }
        Password::Passfile(path) => match read_private(path) {
            Ok(text) => Ok(passfile::lookup(&text, endpoint, datname, &connect.user)
                .map(|secret| secret.expose().to_owned())),
            // libpq goes on without a password where the file is not there.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unreadable("passfile", path, e)),
        },
    }
}

/// A file that nobody but its owner may read, as libpq demands of a passfile. libpq warns and goes
/// on without a password; we say why the login would fail.
fn read_private(path: &std::path::Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    private(&file.metadata()?, 0)?;
    std::io::read_to_string(file)
}

/// Whether a file is plain and nobody but its owner, root and `others` (bits of the mode) may use it.
///
/// # Errors
/// It is not, and what to do.
pub(super) fn private(metadata: &std::fs::Metadata, others: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a plain file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 & !others != 0 {
        return Err(std::io::Error::other(format!(
            "group or others may use it (mode {mode:04o}); run `chmod 600` on it"
        )));
    }
    Ok(())
}
