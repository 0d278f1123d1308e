//! `pgrunway report`: the performance baseline as Markdown and as one self-contained HTML file.
//!
//! Must not: state a figure that was not read or measured in this run.

pub mod advice;
pub mod document;
pub mod figures;
pub mod gather;
pub mod html;
pub mod indexes;
pub mod markdown;
pub mod partitions;
pub mod plot;
pub mod pools;
pub mod queries;
pub mod statements;
pub mod statistics;
pub mod waits;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use crate::cmd::file;
use crate::config::Config;
use document::Document;
use figures::ReportFigures;
use gather::Gathered;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRequest {
    /// How long to watch.
    pub over: Duration,
    /// Queries to benchmark.
    pub queries: Option<PathBuf>,
    /// Where the HTML goes.
    pub html: Option<PathBuf>,
    /// Where the Markdown goes; to the output where neither file is named.
    pub markdown: Option<PathBuf>,
}

/// Watches the server and writes the report.
///
/// # Errors
/// The server cannot be reached, or a file cannot be written.
pub async fn run(
    config: &Config,
    wanted: &ReportRequest,
    out: &mut dyn std::io::Write,
) -> anyhow::Result<()> {
    let gathered = gather::gather(config, wanted.over, wanted.queries.as_deref()).await?;
    let document = document(&gathered);
    if let Some(path) = &wanted.html {
        file::write(path, &html::write(&document))?;
    }
    if let Some(path) = &wanted.markdown {
        file::write(path, &markdown::write(&document))?;
    }
    if wanted.html.is_none() && wanted.markdown.is_none() {
        out.write_all(markdown::write(&document).as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// The report about what was gathered.
pub fn document(gathered: &Gathered) -> Document {
    let mut blocks = Vec::new();
    let advice = advice::Advice::of(gathered);
    let figures = ReportFigures::of(&gathered.snapshot);
    advice::summary(gathered, &figures, &advice, &mut blocks);
    partitions::section(gathered, &advice, &mut blocks);
    indexes::section(gathered, &mut blocks);
    queries::section(gathered.benched.as_ref(), &mut blocks);
    statements::section(gathered, &figures, &mut blocks);
    waits::section(gathered, &mut blocks);
    statistics::section(gathered, &figures, &mut blocks);
    pools::section(&gathered.poolers, &mut blocks);
    advice::configuration(gathered, &mut blocks);
    advice::section(&advice, &mut blocks);
    advice::monitoring(gathered, &mut blocks);
    advice::method(gathered, &mut blocks);
    Document { title: format!("PostgreSQL performance baseline: {}", gathered.target), blocks }
}

/// `2026-11-22 14:05`, UTC.
fn date(at: f64) -> String {
    let date = stamp(at, "%Y-%m-%d %H:%M");
    if date.is_empty() { "?".to_owned() } else { date }
}

/// Unix seconds in UTC as `strftime` has them; empty beyond the years that there are.
fn stamp(at: f64, form: &str) -> String {
    let span = jiff::SignedDuration::try_from_secs_f64(at).ok();
    let stamp = span.and_then(|span| jiff::Timestamp::from_duration(span).ok());
    stamp.map_or_else(String::new, |t| t.strftime(form).to_string())
}
