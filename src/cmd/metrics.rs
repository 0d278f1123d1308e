//! `pgrunway metrics`: collects twice over an interval and prints the exposition, without a server. Also lists
//! what an exposition may hold.
//!
//! Must not: print anything but the exposition to its output.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;

use crate::config::Config;
use crate::poller;
use crate::render::{Format, Renderer};

/// Writes the exposition to `out`.
///
/// # Errors
/// The server cannot be reached (the exposition, with `pg_up 0`, is written all the same), or `out`
/// cannot be written.
pub async fn run(config: &Config, over: Duration, out: &mut dyn Write) -> anyhow::Result<()> {
    let snapshot = poller::collect_twice(super::serve::whole_target(config), over).await;
    let text = Renderer::new()?.render(&snapshot, Format::Text)?;
    out.write_all(&text)?;
    out.flush()?;
    if !snapshot.up {
        bail!("{} cannot be reached", snapshot.target);
    }
    Ok(())
}

/// Lists the metrics that may be exported: name, labels and help.
///
/// # Errors
/// `out` cannot be written.
pub fn list(out: &mut dyn Write) -> anyhow::Result<()> {
    for metric in crate::docgen::catalogue() {
        let labels = metric.labels.join(",");
        writeln!(out, "{}{{{labels}}}  {}", metric.name, metric.help)?;
    }
    Ok(out.flush()?)
}
