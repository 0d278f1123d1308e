//! The subcommands, a module each (`serve`, `metrics`, `healthcheck`, `verify`, `doctor`, `plan`, `report`, `bench`,
//! `demo` and `load`), and what several of them share.
//!
//! Must not: be imported by anything but `main`, `docgen` and tests.

pub mod advice;
pub mod bench;
pub mod cluster;
mod databases;
pub mod demo;
pub mod doctor;
pub mod fetch;
mod file;
pub mod healthcheck;
pub mod load;
pub mod man;
pub mod metrics;
pub mod output;
pub mod plan;
pub mod report;
pub mod serve;
mod text_page;
pub mod trading;
pub mod verify;
pub mod words;

use crate::collectors::ALL;
use crate::config::KnownCollector;

/// What the configuration and the command line need to know of the collectors.
pub fn known() -> Vec<KnownCollector> {
    ALL.iter()
        .map(|c| KnownCollector {
            name: c.name(),
            help: c.help(),
            default_on: c.default_on(),
            interval: c.default_interval(),
        })
        .collect()
}
