//! pgrunway: a Prometheus exporter for PostgreSQL. The data flow is one straight line:
//!
//! [`config`] → [`pg`] session → [`collector`] fetch → [`mod@derive`] → [`snapshot`] → `render` →
//! `http`; `poller` turns the crank, and `cmd` holds the subcommands.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod cli;
pub mod clock;
pub mod cmd;
pub mod collector;
pub mod collectors;
pub mod config;
pub mod console;
pub mod derive;
pub mod docgen;
pub mod error;
pub mod findings;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod handshake;
pub mod http;
pub mod logging;
pub mod metric;
pub mod pg;
pub mod poller;
pub mod remedy;
pub mod render;
pub mod snapshot;
pub mod text;
