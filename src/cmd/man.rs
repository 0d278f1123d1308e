//! `pgrunway man`: writes the man pages.
//!
//! Must not: replace anything but its own pages.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

/// Writes the pages, each by name with its text, into a folder that there is, and says which on standard error.
///
/// # Errors
/// The folder cannot be written.
pub fn run(pages: &[(String, Vec<u8>)], folder: &Path) -> anyhow::Result<()> {
    for (name, text) in pages {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        writeln!(io::stderr(), "wrote {}", path.display())?;
    }
    Ok(())
}
