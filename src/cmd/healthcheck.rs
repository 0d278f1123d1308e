//! `pgrunway healthcheck`: asks the exporter on this machine whether it is healthy, so that an image
//! needs no other program for its health check.
//!
//! Must not: look at the database; a server that is away does not make the exporter ill.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};

use super::fetch;

/// Asks the first address.
///
/// # Errors
/// It does not answer in time, or not with 200.
pub async fn run(addresses: &[SocketAddr], limit: Duration) -> anyhow::Result<()> {
    let address = *addresses.first().context("no address is configured")?;
    match tokio::time::timeout(limit, fetch::get(address, "/-/healthy")).await {
        Ok(answer) => answer.map(drop),
        Err(_) => bail!("{address} did not answer within {limit:?}"),
    }
}
