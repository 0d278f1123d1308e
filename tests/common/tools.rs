//! Where the programs of Prometheus are: in `PGRUNWAY_PROMETHEUS_BINDIR`, if it is set, else in PATH.
//!
//! Must not: take another release than the one that was named.

use std::path::PathBuf;

/// The program to run for `prometheus` or `promtool`, which come in one release; other names stay.
pub fn program(name: &str) -> PathBuf {
    match std::env::var_os("PGRUNWAY_PROMETHEUS_BINDIR") {
        Some(dir) if ["prometheus", "promtool"].contains(&name) => {
            let program = PathBuf::from(dir).join(name);
            assert!(program.is_file(), "{} is missing: scripts/deps newer", program.display());
            program
        }
        _ => name.into(),
    }
}
