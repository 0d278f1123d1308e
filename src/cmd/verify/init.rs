//! Expectations.
//!
//! Must not: x.

use crate::config::Config;

pub(super) async fn text(_config: &Config, _databases: &[String]) -> anyhow::Result<String> {
    Ok(String::new())
}
