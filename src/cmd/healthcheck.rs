//! `pgrunway healthcheck`: asks the exporter on this machine whether it is healthy, so that an image
//! needs no other program for its health check.
//!
//! Must not: look at the database; a server that is away does not make the exporter ill. Nor need a password or a
//! certificate: that the port asks for one shows that it answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::fetch;
use crate::http::asks_for_certificate;

/// 401: a password is wanted; 429: the rate limit of the web configuration is met.
const ALIVE: [u16; 3] = [200, 401, 429];

/// Asks the first address.
///
/// # Errors
/// It does not answer in time, or with something else.
pub async fn run(addresses: &[SocketAddr], limit: Duration) -> anyhow::Result<()> {
    let address = *addresses.first().context("no address is configured")?;
    match tokio::time::timeout(limit, fetch::ask(address, "/-/healthy")).await {
        Ok(Ok(answer)) => {
            ensure!(ALIVE.contains(&answer.status), "/-/healthy answered {}", answer.status);
            Ok(())
        }
        Ok(Err(e)) if e.chain().any(asks_for_certificate) => Ok(()),
        Ok(Err(e)) => Err(e),
        Err(_) => bail!("{address} did not answer within {limit:?}"),
    }
}
