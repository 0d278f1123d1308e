//! Where the programs of Prometheus are: in `PGRUNWAY_PROMETHEUS_BINDIR`, if it is set, else in PATH;
//! and where they may listen.
//!
//! Must not: take another release than the one that was named.

use std::net::{SocketAddr, TcpListener};
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

/// An address on loopback that nobody has, below the ephemeral ports.
#[allow(dead_code, reason = "not every test binary starts a server")]
pub fn free_address() -> SocketAddr {
    let address = || SocketAddr::from(([127, 0, 0, 1], rand::random_range(20_000..32_000)));
    std::iter::repeat_with(address).find(|a| TcpListener::bind(a).is_ok()).unwrap()
}
