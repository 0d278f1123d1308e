//! The one seam between the demo and the exporter it shows.
//!
//! Must not: know anything else of the demo.

use std::net::SocketAddr;
use std::pin::Pin;

/// A running exporter.
pub struct Exporter {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Stops it when awaited; dropping it unawaited must not leave it running either.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Starts `serve` on `dsn`, listening on `listen`; returns when it listens.
///
/// # Errors
/// When the configuration is refused or the address cannot be bound.
pub async fn start(dsn: String, listen: SocketAddr) -> anyhow::Result<Exporter> {
    // SEAM: replace with `serve::start`.
    anyhow::bail!("no exporter to serve {dsn} on {listen} in this build")
}
