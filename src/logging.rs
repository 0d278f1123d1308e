//! The log: to stderr, as text for people or JSON for machines.
//!
//! Must not: be initialised more than once, or change what is logged where.

use std::io::IsTerminal;

use crate::config::{Config, LogFormat};

/// Starts logging as the configuration says. A second call does nothing.
pub fn init(config: &Config) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.log_level())
        .with_writer(std::io::stderr)
        .with_target(false);
    // Another subscriber is there only in tests.
    let _ = match config.log_format() {
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).try_init()
        }
    };
}
