//! `pgrunway healthcheck`: asks the exporter on this machine whether it is healthy, so that an image
//! needs no other program for its health check.
//!
//! Must not: look at the database; a server that is away does not make the exporter ill.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::http;

/// Asks the first address.
///
/// # Errors
/// It does not answer in time, or not with 200.
pub async fn run(addresses: &[SocketAddr], limit: Duration) -> anyhow::Result<()> {
    let address = reachable(*addresses.first().context("no address is configured")?);
    match tokio::time::timeout(limit, http::check_health(address)).await {
        Ok(answer) => answer.map_err(|e| anyhow!(e)),
        Err(_) => bail!("{address} did not answer within {limit:?}"),
    }
}

/// A server on all addresses answers on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn all_addresses_are_asked_on_loopback() {
        for (listen, ask) in [
            ("0.0.0.0:9187", "127.0.0.1:9187"),
            ("[::]:9187", "[::1]:9187"),
            ("10.1.2.3:1", "10.1.2.3:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), ask.parse().unwrap());
        }
    }
}
