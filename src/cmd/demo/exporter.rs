//! The one seam between the demo and the exporter it shows.
//!
//! Must not: know anything else of the demo.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Context;

use crate::cmd::serve;
use crate::config::Config;

/// A running exporter.
pub struct DemoExporter {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Stops it when awaited; dropping it unawaited must not leave it running either.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Starts `serve`; returns when it listens.
///
/// # Errors
/// An address cannot be bound.
pub async fn start(config: Config) -> anyhow::Result<DemoExporter> {
    let exporter = serve::Exporter::start(&config).await?;
    let addr = *exporter.addresses().first().context("no address to listen on")?;
    Ok(DemoExporter { addr, stop: Box::pin(exporter.stop()) })
}
